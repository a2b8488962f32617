"""One bucket of one view's join: what a worker is given, does, and gives back.

Its labels and its result are files in a folder that the driver and the workers share. A result is
in a file of its own each time, whatever became of an earlier attempt, so a unit may run twice.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.files import whole
from featurekit.core.sql import quote
from featurekit.core.version import VERSION
from featurekit.define.plan import View
from featurekit.define.proven import library_versions
from featurekit.errors import EngineError, FeaturekitError
from featurekit.offline.buckets import bucket_sql, explaining_memory
from featurekit.offline.counted_events import make_counted_view
from featurekit.offline.engines.protocol import Reader
from featurekit.offline.events import Snapshot
from featurekit.offline.session import state_of
from featurekit.offline.view_result import Erred, find_erred_slots
from featurekit.offline.view_values import known_events, make_values
from featurekit.sources.reading import Readings, read_again

_BATCH = 100_000
_LABELS, _EVENTS = "__unit_labels", "__unit_events"


@dataclass(frozen=True, slots=True)
class Unit:
    """The labels of one bucket of a view's entities, and how they are joined.

    `read` says for each source what the driver has read: files with their hashes, forgotten
    entities, and the sum of the log of pushes. `readings` has the files of origins. `span` is the
    first and last instant of all labels. `versions` are those of what computes values.
    """

    reader: Reader
    view: View
    bucket: int
    buckets: int
    known_at: int | None
    logged_until: int | None
    span: tuple[int, int]
    statuses: bool
    readings: Readings
    read: Mapping[str, Any]
    versions: Mapping[str, str]
    labels: Path
    results: Path


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker made of a unit: a file of Arrow with the view's result, the types of its
    columns in DuckDB, the number of its rows, and what erred."""

    bucket: int
    path: Path
    types: tuple[tuple[str, str], ...]
    rows: int
    erring: frozenset[int]
    erred: tuple[Erred, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The error of a unit, which another attempt would have, too."""

    bucket: int
    error: FeaturekitError


def versions() -> dict[str, str]:
    """The versions of what computes values."""
    return {"featurekit": VERSION, **library_versions()}


def run_unit(data: bytes) -> bytes:
    """What a worker does: a pickled `Unit` becomes a pickled `Done` or `Failed`."""
    unit: Unit = pickle.loads(data)
    made: Done | Failed
    try:
        made = _done(unit)
    except FeaturekitError as error:
        made = Failed(unit.bucket, _carried(error))
    return pickle.dumps(made)


def _carried(error: FeaturekitError) -> FeaturekitError:
    """The error, or one with its message where it does not come through a pickle."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EngineError(f"{type(error).__name__}: {error}")
    return error


def _done(unit: Unit) -> Done:
    own = versions()
    if own != unit.versions:
        other = [f"{n} {own[n]}, not {v}" for n, v in unit.versions.items() if own.get(n) != v]
        raise EngineError(
            f"a worker has {', '.join(other)}: it may compute other bits; install the versions of "
            "the driver there"
        )
    con = unit.reader.connect()
    try:
        with explaining_memory(state_of(con)):
            return _joined(con, unit)
    finally:
        con.close()


def _joined(con: Any, unit: Unit) -> Done:
    import pyarrow as pa

    view = unit.view
    read_again(con, unit.readings)
    read = unit.reader.snapshot(con, view)
    for name, found in what_was_read(
        con, unit.reader, read.each(view.source.name), unit.logged_until
    ).items():
        if found != unit.read[name]:
            raise EngineError(
                f"source {name!r}: a worker reads other rows than the driver; files, the log of "
                "pushes or who is forgotten have changed meanwhile, or are not the same ones "
                "there: run this again"
            )
    events = known_events(con, view, read.events, unit.known_at)
    counted = make_counted_view(con, view, events)
    labels = quote(_LABELS)
    with table_of(unit.labels, unit.bucket) as given:
        con.register(f"{_LABELS}_given", given)
        con.execute(f"CREATE TEMP TABLE {labels} AS SELECT * FROM {_LABELS}_given")
        con.unregister(f"{_LABELS}_given")
    _check_bucket(con, unit, labels)
    made = make_values(
        con, view, counted, labels, quote(_EVENTS), statuses=unit.statuses, span=unit.span
    )
    described = con.execute(f"DESCRIBE SELECT * FROM {made.sql}").fetchall()
    path = unit.results / f"{unit.bucket}-{uuid.uuid4().hex}.arrow"
    rows = 0
    reader = con.sql(f"SELECT * FROM {made.sql}").to_arrow_reader(_BATCH)
    with whole(path) as hidden, pa.ipc.new_file(str(hidden), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    types = tuple((name, type_) for name, type_, *_ in described)
    return Done(unit.bucket, path, types, rows, made.erring, find_erred_slots(con, view, made))


@contextmanager
def table_of(path: Path, bucket: int) -> Iterator[Any]:
    """The rows of a file that was exchanged; EngineError where it is not there or not whole."""
    import pyarrow as pa

    try:
        file = pa.memory_map(str(path))
        table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise EngineError(
            f"bucket {bucket}: {path} cannot be read ({error}); the driver and the workers need "
            "the state folder under one path, as on a file system that all of them share"
        ) from error
    with file:
        yield table


def what_was_read(
    con: Any, reader: Reader, read: Mapping[str, Snapshot], until: int | None = None
) -> dict[str, Any]:
    """What decides the rows of each source. Joined segments of the log have the same rows."""
    made = {}
    for name, snapshot in read.items():
        about = {what: told for what, told in snapshot.about.items() if what != "pushed_segments"}
        made[name] = {**about, "logged": reader.logged(con, name, until)}
    return made


def _check_bucket(con: Any, unit: Unit, labels: str) -> None:
    """EngineError where an entity is in another bucket here than on the driver."""
    other = f"SELECT count(*) FROM {labels} WHERE {bucket_sql(unit.view, unit.buckets)} <> "
    if con.execute(f"{other}{unit.bucket}").fetchall()[0][0]:
        raise EngineError(
            f"view {unit.view.name!r}: a worker hashes the keys of entities otherwise than the "
            f"driver, so bucket {unit.bucket} of {unit.buckets} has rows of another one"
        )
