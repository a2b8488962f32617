"""Hands the buckets of a view's join out to an engine, and puts what comes back together."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.files import whole
from featurekit.core.openness import make_folder
from featurekit.core.sql import quote
from featurekit.define.plan import View
from featurekit.errors import EngineError, FeaturekitError
from featurekit.offline.buckets import MOST_BUCKETS, bucket_sql
from featurekit.offline.engines.protocol import Engine, Reader
from featurekit.offline.engines.unit import Done, Failed, Unit, run_unit, table_of, versions
from featurekit.offline.view_result import Erred, ViewSql, add_erred, find_span
from featurekit.sources.reading import Readings

_BUCKETS_A_WORKER = 2
"""How many buckets there are for each worker, so that none waits long for the last one."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An engine, opened when it is first needed, and what its workers read events from."""

    engine: Callable[[], Engine | None]
    reader: Reader


def buckets_for(engine: Engine) -> int:
    """How many buckets there are for an engine, where nobody says. EngineError where it does not
    say how many workers it has."""
    workers = engine.workers
    if type(workers) is not int or workers < 1:
        raise EngineError(
            f"engine {engine.name}: workers is how many units run at once, found {workers!r}"
        )
    return min(workers * _BUCKETS_A_WORKER, MOST_BUCKETS)


@dataclass(frozen=True, slots=True)
class Spread:
    """One piece of work that an engine does: `read` is what the driver read of each source, the log
    of pushes up to `logged_until`, and `folder` is where labels and results are meanwhile."""

    engine: Engine
    reader: Reader
    readings: Readings
    read: Mapping[str, Any]
    logged_until: int | None
    folder: Path

    def make(
        self,
        con: Any,
        view: View,
        labels: str,
        name: str,
        *,
        known_at: int | None,
        statuses: bool,
        buckets: int,
    ) -> ViewSql:
        """The view's result for every row of `labels`, as a temporary table whose name begins as
        `name` does. Of the events, those count that had arrived by `known_at`.

        EngineError where a bucket does not come back, or comes back with other rows than it was
        given; the error of a bucket that has one.
        """
        bare = name.strip('"')
        place = self.folder / bare
        make_folder(place)
        span = find_span(con, labels)
        given: dict[int, int] = {}
        units = []
        for bucket, rows, path in _bucketed(con, view, labels, buckets, place):
            given[bucket] = rows
            units.append(
                Unit(
                    self.reader, view, bucket, buckets, known_at, self.logged_until, span,
                    statuses, self.readings, self.read, versions(), path, place,
                )
            )  # fmt: skip
        done = self._run(view, units)
        _check(view, given, done)
        return _together(con, done, quote(f"{bare}_result"))

    def _run(self, view: View, units: Sequence[Unit]) -> list[Done]:
        """What became of each unit, in their order; of two attempts at one, the first that is
        done."""
        found: dict[int, Done] = {}
        try:
            for data in self.engine.run(run_unit, [pickle.dumps(unit) for unit in units]):
                made: Done | Failed = pickle.loads(data)
                if isinstance(made, Failed):
                    raise made.error
                found.setdefault(made.bucket, made)
        except FeaturekitError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise EngineError(f"engine {self.engine.name}: {told}") from error
        lost = [unit.bucket for unit in units if unit.bucket not in found]
        if lost:
            raise EngineError(
                f"view {view.name!r}: engine {self.engine.name} gave nothing back for "
                f"{len(lost)} of {len(units)} buckets, {lost[0]} among them"
            )
        return [found[unit.bucket] for unit in units]


def _bucketed(
    con: Any, view: View, labels: str, buckets: int, place: Path
) -> Iterator[tuple[int, int, Path]]:
    """Write the labels of each bucket that has some to a file: its number, how many there are, and
    the file. Without any label there is one bucket, which has none."""
    import pyarrow as pa

    keys = ", ".join(quote(p.name) for p in view.join_keys)
    split = quote(f"{place.name}_split")
    con.execute(
        f"CREATE TEMP TABLE {split} AS SELECT __rid, __t, {keys}, "
        f"{bucket_sql(view, buckets)} AS __bucket FROM {labels}"
    )
    asked = con.execute(f"SELECT DISTINCT __bucket FROM {split} ORDER BY 1").fetchall() or [(0,)]
    for (bucket,) in asked:
        rows = con.sql(
            f"SELECT * EXCLUDE (__bucket) FROM {split} WHERE __bucket = {bucket}"
        ).to_arrow_table()
        path = place / f"{bucket}.labels.arrow"
        with whole(path) as hidden, pa.ipc.new_file(str(hidden), rows.schema) as writer:
            writer.write_table(rows)
        yield bucket, rows.num_rows, path
    con.execute(f"DROP TABLE {split}")


def _check(view: View, given: Mapping[int, int], done: Sequence[Done]) -> None:
    """EngineError where a bucket has another number of rows than labels, or other columns than the
    first one."""
    for one in done:
        if one.rows != given[one.bucket]:
            raise EngineError(
                f"view {view.name!r}: bucket {one.bucket} has {given[one.bucket]} labels, and came "
                f"back with {one.rows} rows"
            )
        if (one.types, one.erring) != (done[0].types, done[0].erring):
            raise EngineError(
                f"view {view.name!r}: bucket {one.bucket} has other columns than bucket "
                f"{done[0].bucket}"
            )


def _together(con: Any, done: Sequence[Done], table: str) -> ViewSql:
    """The table of all results, in the types that the workers had."""
    given = f"{table.strip(chr(34))}_given"
    columns = ", ".join(f"{quote(name)}::{type_} AS {quote(name)}" for name, type_ in done[0].types)
    erred: dict[str, Erred] = {}
    for number, one in enumerate(done):
        with table_of(one.path, one.bucket) as rows:
            con.register(given, rows)
            into = f"CREATE TEMP TABLE {table} AS" if not number else f"INSERT INTO {table} BY NAME"
            con.execute(f"{into} SELECT {columns} FROM {quote(given)}")
            con.unregister(given)
        one.path.unlink()
        add_erred(erred, one.erred)
    return ViewSql(table, done[0].erring, erred=tuple(erred.values()))
