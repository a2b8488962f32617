"""`featurekit get-historical`: turns a frame of entities and instants into a training set."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import (
    UsageError,
    argument,
    features_option,
    instant,
    positive,
    verb,
)
from featurekit.cli.repo import open_store
from featurekit.cli.show import show_bad_rows
from featurekit.core.screen import Screen, as_text, shown
from featurekit.errors import DataError, WriteError

if TYPE_CHECKING:
    from featurekit.results import TrainingSet

_KNOWN = (".csv", ".parquet", ".pq")


@verb(
    "Without a frame, for every entity that is known at the instants of --at, or of --start, "
    "--end and --every.",
    argument(
        "service", nargs="?", metavar="SERVICE", help="the service's name; none with --features"
    ),
    argument(
        "frame",
        nargs="?",
        type=Path,
        metavar="FRAME",
        help="Parquet or CSV: join keys, event_timestamp and request fields; others ride along",
    ),
    features_option(),
    argument(
        "--at",
        action="append",
        type=instant,
        metavar="T",
        help="an instant, ISO 8601; may be given several times",
    ),
    argument("--start", type=instant, metavar="T", help="the first instant"),
    argument("--end", type=instant, metavar="T", help="none is later"),
    argument("--every", metavar="DURATION", help="from one instant to the next, as in 1d or 6h"),
    argument(
        "--entities",
        metavar="VIEW",
        help="the view whose events tell which entities there are, where views are of different "
        "ones",
    ),
    argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.parquet",
        help="write it here, Parquet or CSV by the end of the name, with OUT.parquet.manifest.json "
        "(default: show the first rows)",
    ),
    argument("--limit", type=positive, default=10, metavar="N", help="rows to show (default: 10)"),
    argument(
        "--timezone", default="UTC", metavar="ZONE", help="of naive event_timestamps (default: UTC)"
    ),
    argument("--full-feature-names", action="store_true", help="name each column view__feature"),
    argument(
        "--known-at",
        type=instant,
        metavar="T",
        help="only what had arrived by this instant, ISO 8601 (default: now)",
    ),
    argument(
        "--statuses", action="store_true", help="add a column <feature>__status for each feature"
    ),
    argument(
        "--buckets",
        type=positive,
        metavar="N",
        help="join N parts of the entities one after the other, for less memory (default: as many "
        "as the memory limit asks for)",
    ),
)
def get_historical(arguments: Namespace, screen: Screen) -> None:
    """Make a training set."""
    if arguments.features and arguments.service is not None:
        arguments.frame, arguments.service = Path(arguments.service), None
    if not arguments.features and arguments.service is None:
        raise UsageError("name a SERVICE, or features with --features view:feature,…")
    from featurekit.core.timezones import zone

    zone(arguments.timezone)  # an error also where no instant is naive
    asked = {name: getattr(arguments, name) for name in ("at", "start", "end", "every", "entities")}
    if (arguments.frame is None) == all(value is None for value in asked.values()):
        raise UsageError("name a FRAME, or instants with --at, or with --start, --end and --every")
    _check_ending(arguments.frame, "a frame", "rename or convert it")
    _check_ending(arguments.output, "what is written", "write another name, as train.parquet")
    if arguments.output is not None and arguments.output.is_dir():
        raise DataError(f"{arguments.output} is a folder; name a file, as in train.parquet")
    with open_store(arguments) as store:
        asked_for = arguments.features or arguments.service
        training = store.get_historical_features(
            arguments.frame,
            asked_for,
            **asked,
            full_feature_names=arguments.full_feature_names,
            statuses=arguments.statuses,
            timezone=arguments.timezone,
            known_at=arguments.known_at,
            buckets=arguments.buckets,
        )
        with screen.progress() as move:
            training.progress = partial(move, "rows")
            move("rows", 0, 0)  # the first rows come only after all events were read
            if arguments.output is not None:
                manifest = _write(training, arguments.output)
            else:
                table = training.to_arrow()
                manifest = training.manifest
        if arguments.output is None:
            _show(table, manifest, arguments.limit, screen)
        else:
            screen.document({"output": arguments.output, "manifest": manifest})
            screen.line(f"Wrote {manifest['rows']} rows to {arguments.output}, with its manifest.")
    screen.line(f"Content hash {manifest['content_hash']}")
    _show_future(screen, manifest)
    show_bad_rows(screen, {n: about["quarantined"] for n, about in manifest["sources"].items()})
    _show_errors(screen, manifest["errors"])


def _check_ending(path: Path | None, what: str, instead: str) -> None:
    """DataError for a file whose name does not say whether it is CSV or Parquet."""
    if path is not None and not path.is_dir() and path.suffix.lower() not in _KNOWN:
        raise DataError(
            f"{path}: {what} is told by the end of its name, {', '.join(_KNOWN)}; {instead}"
        )


def _write(training: TrainingSet, output: Path) -> dict[str, Any]:
    """Write the training set and its manifest; returns the manifest."""
    try:
        csv = output.suffix.lower() == ".csv"
        return training.to_csv(output) if csv else training.to_parquet(output)
    except WriteError:
        raise
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}") from None


def _show(table: Any, manifest: Mapping[str, Any], limit: int, screen: Screen) -> None:
    """Show the first rows of the training set."""
    first = table.slice(0, limit).to_pylist()
    types = {field.name: str(field.type) for field in table.schema}
    screen.document({"manifest": manifest, "types": types, "first_rows": first})
    _show_rows(screen, table.column_names, first)
    screen.line(f"\n{len(first)} of {manifest['rows']} rows; -o OUT.parquet keeps them all.")


def _show_future(screen: Screen, manifest: Mapping[str, Any]) -> None:
    """What lies after the run's end (S3)."""
    if later := manifest["rows_after_known_at"]:
        screen.line(f"{later} rows are after {manifest['known_at']}, up to which rows had arrived.")
    for name, about in manifest["sources"].items():
        if left := about["not_yet_arrived"]:
            screen.line(f"{left} rows of {name} have not yet arrived.")


def _show_errors(screen: Screen, errors: Mapping[str, Any]) -> None:
    """What erred in a training set, with a sample (R3)."""
    for name, found in errors["features"].items():
        screen.line(f"{name} erred in {found['rows']} rows, first in row {found['first_row']}.")
    for name, found in errors["transforms"].items():
        screen.line(
            f"{name} erred on {found['events']} events, the first: {shown(found['first'])}."
        )


def _show_rows(screen: Screen, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A frame's first rows; one that is too wide for a table stands on its side."""
    if len(names) <= 7:
        screen.table(names, [[row[n] for n in names] for row in rows])
        return
    columns = ("column", *(f"row {i}" for i in range(min(3, len(rows)))))
    screen.table(columns, [[n, *(as_text(row[n]) for row in rows[:3])] for n in names])
