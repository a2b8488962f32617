"""`featurekit push`: adds the events of a file to a source, online and in the log."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import UsageError, argument, verb
from featurekit.cli.job_metrics import METRICS, measured
from featurekit.cli.job_metrics import counts as counted
from featurekit.cli.repo import open_store
from featurekit.cli.values import check_file, json_rows, parquet_rows
from featurekit.core.screen import Screen
from featurekit.core.types import Type
from featurekit.define.dialect import FixedDialect, ending_of, packed_as
from featurekit.errors import DataError
from featurekit.sources.written import written_types

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource
    from featurekit.feed.events import Pushed
    from featurekit.monitor.jobs import Counts
    from featurekit.store import FeatureStore


_ENDINGS = (".csv", ".parquet", ".json", ".jsonl", ".gz", ".bz2", ".xz", ".zst")


@verb(
    "JSON lines, CSV with a header, or Parquet, told apart by the name's end; "
    "standard input is JSON lines.",
    argument("source", metavar="SOURCE", help="the source's name"),
    argument(
        "file", nargs="?", default="-", metavar="FILE", help="a file, or - for standard input"
    ),
    *METRICS,
)
def push(arguments: Namespace, screen: Screen) -> None:
    """Add events of a source."""
    named, known = Path(arguments.source), (*_ENDINGS, ".pq")
    if arguments.file == "-" and (named.name.lower().endswith(known) or named.is_file()):
        raise UsageError(
            f"{arguments.source} stands where the SOURCE is named; write `featurekit push orders "
            f"{arguments.source}`"
        )
    holds = "a file of events (JSON lines, CSV or Parquet)"
    check_file(arguments.file, named="FILE", holds=holds)
    with open_store(arguments) as store:
        store.parts.source(arguments.source)  # an error before standard input is waited for
        with measured("push", store, arguments) as tally:
            rows = _event_rows(store, arguments.source, arguments.file)
            done = store.push(arguments.source, rows)
            tally.took(lambda: [_counted(arguments.source, done)])
    counts = {
        "rows": done.rows,
        "entities": done.entities,
        "null_keys": done.null_keys,
        "erring": done.erring,
        "quarantined": done.quarantined,
        "forgotten": done.forgotten,
        "repeated": done.repeated,
    }
    screen.document({"source": arguments.source, **counts, "damaged": list(done.damaged)})
    screen.table(
        (
            "source",
            "rows taken",
            "states changed",
            "without an entity",
            "erring",
            "set aside",
            "forgotten",
            "repeated",
        ),
        [[arguments.source, *counts.values()]],
    )
    for view in done.damaged:
        screen.line(
            f"\nView {view} is damaged: Redis has lost states, and lookups refuse it. The rows are "
            f"in the log; run `featurekit materialize --view {view}`."
        )


def _counted(source: str, done: Pushed) -> Counts:
    return counted(
        source,
        rows=done.rows,
        entities=done.entities,
        set_aside=done.quarantined,
        erring=done.erring,
    )


def _event_rows(store: FeatureStore, source: str, file: str) -> Any:
    """What a push takes, with the types that the source declares where the file's are text."""
    definition = store.repo.sources.get(source)
    types: dict[str, Type] = {}
    if definition is not None:  # else the push itself says which there are
        types = written_types(definition)
    if ending_of(file) == "csv":
        return _csv(Path(file), types, definition)
    if Path(file).suffix.lower() in (".parquet", ".pq"):
        return parquet_rows(Path(file))
    return json_rows(file, types)


def _csv(path: Path, types: Mapping[str, Type], source: EventSource | None) -> list[dict[str, Any]]:
    """The rows of a CSV file, which is written as the source's own files are."""
    from featurekit.sources.csv import copy_of, texts_of
    from featurekit.sources.raw import values_of

    dialect = FixedDialect() if source is None or source.format != "csv" else source.dialect
    if dialect.compression == "none":
        dialect = replace(dialect, compression=packed_as(path.name))
    table, faults = texts_of(copy_of(str(path.absolute()), dialect, None))
    if faults:
        raise DataError(f"{path}, {faults[0]}; nothing was pushed. Mend the line or take it out")
    return values_of(table, types, dialect)
