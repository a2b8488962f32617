"""Turns a service and a frame of entities and instants into a training set, with DuckDB.

A `TrainingSet` is lazy: it reads nothing until rows are asked for. The rows, the order and the
extra columns of the frame come back exactly as they were.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from featurekit.core import conversions, html
from featurekit.core.attributes import Named
from featurekit.core.durations import Duration
from featurekit.core.files import whole, write_whole
from featurekit.core.screen import Advance
from featurekit.core.sql import quote
from featurekit.core.types import STR, Instant, Type, instant
from featurekit.core.version import VERSION
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.feature_contract.document import ColumnProfile
from featurekit.define.labels import Labelled
from featurekit.define.lacking import may_lack
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Output, Service, View
from featurekit.define.proven import library_versions
from featurekit.define.union import columns_of
from featurekit.errors import DataError, EntityFrameError, InstantsInFuture, TransformError
from featurekit.offline.buckets import explaining_memory
from featurekit.offline.csv_file import CsvWriter
from featurekit.offline.csv_frame import is_csv
from featurekit.offline.engines.spread import Elsewhere, Spread, buckets_for
from featurekit.offline.engines.unit import what_was_read
from featurekit.offline.events import EventRows, Snapshot
from featurekit.offline.frame import load_frame
from featurekit.offline.home import Home
from featurekit.offline.join import MakeView, make_join
from featurekit.offline.known_entities import KnownEntities
from featurekit.offline.label_counts import LabelCounts
from featurekit.offline.manifest import (
    ContentHash,
    differences,
    differing_columns,
    labels_beside,
    manifest_beside,
)
from featurekit.offline.own_columns import carried, carried_schema
from featurekit.offline.parts import (
    PartOf,
    Rule,
    by_entity,
    by_sample,
    by_time,
    refuse_others,
    taken,
)
from featurekit.offline.profile import RowProfile
from featurekit.offline.session import scratch_in, state_of
from featurekit.offline.splits import Splits
from featurekit.offline.trained_on import contract_of
from featurekit.offline.view_result import ViewSql, report_erring_events
from featurekit.offline.view_values import known_events
from featurekit.sources.key_buckets import key_buckets
from featurekit.sources.reading import Readings, read_again, readings_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_BATCH = 100_000
_FEW_ROWS = 10_000
"""For so few rows, planning takes most of the time. A relation that is read is planned twice, and a
table is made with one plan."""
_SHOWN = 5
"""How many rows are kept to be shown."""
Connect = Callable[[], Any]
"""Gives a DuckDB connection for one piece of work."""
TakeSnapshot = Callable[[Any, View], Snapshot]
"""Reads the events of a view's source, for a connection."""
Observer = Callable[[Sequence[Any], Sequence[Any], Sequence[Any], Any], None]
"""Is told of a batch of rows: Arrow arrays of the columns of `names`, those of their statuses,
those of the join keys, and the instants in microseconds, UTC."""


class TrainingSet(Named):
    """The features of a service for each row of an entity frame, as of the row's instant.

    The frame's rows are those that it had when the training set was made. The features are computed
    when they are first asked for, and again for each conversion. DataError where a later one would
    give other rows than the first, since files of the sources or the log of pushes have changed.
    """

    def __init__(
        self,
        service: Service,
        frame: Any,
        *,
        connect: Connect,
        snapshot: TakeSnapshot,
        full_names: bool,
        statuses: bool,
        timezone: str,
        known_at: int | None = None,
        at_clock: bool = False,
        buckets: int | None = None,
        unchanged: Callable[[], None] = lambda: None,
        judge: Callable[[Any], object] = lambda con: None,
        readings: Readings | None = None,
        told: Mapping[str, Any] | None = None,
        labelled: Labelled | None = None,
        part: PartOf | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`labelled` is the service with its labels, where it has some (T10). `known_at` is the
        run's end, up to which rows have arrived; None for no end. `at_clock` says that it is the
        store's clock, and was not asked for (S3). `judge` raises where a source breaks its contract
        (S5). `readings` are files of sources that were read before, and `told` is the manifest of
        the rows that are to come of them. `part` says which rows of another one these are.
        `elsewhere` has the engine that joins the views."""
        self._of = labelled or Labelled(service, service)
        self._service, self._frame = self._of.whole, frame
        self._connect, self._snapshot = connect, snapshot
        self._statuses, self._timezone = statuses, timezone
        self._known_at, self._at_clock = known_at, at_clock
        self._buckets = buckets
        self._judge = judge
        self._unchanged = unchanged  # raises where the frame is a file that has changed
        self.names = [o.full_name if full_names else o.name for o in self._service.outputs]
        """The names of the feature columns in their order, then those of the labels."""
        self.progress: Advance | None = None
        """Called with the rows that are computed, and their number."""
        self.home = Home()
        """Where it is made."""
        self.profiled = False
        """Whether the next computation counts what `contract` says of the columns."""
        self.observer: Observer | None = None
        """Told of each batch of the next computation."""
        self._statistics: dict[str, Any] | None = None
        self._manifest: dict[str, Any] | None = None
        self._profile: dict[str, ColumnProfile] | None = None
        self._head: pa.Table | None = None
        self._readings = dict(readings or {})
        self._told, self._full_names = told, full_names
        self._part = part
        self._elsewhere = elsewhere

    @property
    def labels(self) -> list[str]:
        """The names of the columns that are labels, the last of `names`."""
        return self.names[len(self._of.features.outputs) :]

    @property
    def types(self) -> dict[str, Type]:
        """The type of each column of `names`."""
        outputs = self._service.outputs
        return {name: o.type for name, o in zip(self.names, outputs, strict=True)}

    # --- what comes out ---------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """An Arrow table of the frame's rows in their order. It has the frame's columns as they
        were, then a column for each of `names` in its declared type (A3), then, if statuses were
        asked for, a column `<name>__status` for each.

        A value is null if it is None, was not found or erred; NaN is a value (S1). TransformError
        if a feature errs in a view with on_error="fail"; DataError if the work does not fit into
        memory.
        """
        import pyarrow as pa

        with self.home.telling(None) as tell:
            run = _TrainingRun(self)
            with run:
                batches = list(run.batches())
            tell(self.manifest)
        return pa.Table.from_batches(batches, schema=run.schema)

    def to_polars(self) -> pl.DataFrame:
        """The rows of `to_arrow` as a polars frame; the own columns of a polars entity frame come
        back as they are. A dict is a Map."""
        import polars as pl

        table = self.to_arrow()
        if isinstance(self._frame, pl.DataFrame):
            made = table.select(table.column_names[self._frame.width :])
            return self._frame.hstack(conversions.to_polars(made))
        return conversions.to_polars(table)

    def to_pandas(self) -> pd.DataFrame:
        """The rows of `to_arrow` as a pandas frame; the index and columns of a pandas entity frame
        come back as they are.

        A feature that may be None or err has a nullable dtype (Int64, Float64, boolean), whether or
        not some row lacks it; so no int becomes a float, NaN differs from None, and an online
        result has the same dtypes (A3, S1). A str is `string`. A dict is a Python dict.
        """
        import pandas as pd

        table = self.to_arrow()
        width = len(table.column_names) - self._width()
        types = self.types
        if self._statuses:
            types |= {f"{name}__status": STR for name in self.names}
        lacks = zip(self.names, may_lack(self._service), strict=True)
        made = conversions.to_pandas(table, types, [name for name, lack in lacks if lack])
        if isinstance(self._frame, pd.DataFrame):
            made.index = self._frame.index
            return pd.concat([self._frame, made], axis=1)
        given = conversions.own_to_pandas(table.select(table.column_names[:width]))
        return pd.concat([given, made], axis=1)

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """One array for each feature, without a mask: float64, int64 or bool where no value is
        None. A None of a float feature is NaN; for other types the array is one of objects."""
        return conversions.to_numpy(self.to_arrow(), self.types)

    def to_pylist(self) -> list[dict[str, Any]]:
        """The rows of `to_arrow`, each a dict; instants are aware, in UTC."""
        return conversions.to_pylist(self.to_arrow())

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns of `to_arrow`, each a list."""
        return conversions.to_dict(self.to_arrow())

    def __getitem__(self, columns: str | list[str]) -> Any:
        """`to_pandas()[columns]`: a frame of some columns, or a Series. DefinitionError for a name
        that is no column."""
        return conversions.chosen(self.to_pandas(), columns, what="the training set")

    __iter__ = None  # rows are those of `to_pylist`

    def __len__(self) -> int:
        """The number of rows; if they were not computed yet, this computes them."""
        return int(self.manifest["rows"])

    def __bool__(self) -> bool:
        """True, whatever its rows are: nothing is computed for it."""
        return True

    def _column_names(self) -> list[str]:
        return self.names

    def _repr_html_(self) -> str:
        """What a notebook shows: the types and, once the rows were computed, the first of them and
        the manifest. To compute them is left to a conversion, since it may take long."""
        title = f"TrainingSet of {self._service.name}"
        types = html.table(["feature", "type"], [(n, str(t)) for n, t in self.types.items()])
        if self._head is None or self._manifest is None:
            return html.box(
                title, types, html.line("Rows are computed when they are asked for: to_pandas() …")
            )
        shown = html.table(self._head.schema.names, conversions.shown_rows(self._head))
        about = {n: self._manifest[n] for n in ("rows", "content_hash", "fingerprint", "known_at")}
        about["sources"] = ", ".join(self._manifest["sources"])
        return html.box(title, shown, types, html.facts(about))

    def to_parquet(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Write the rows of `to_arrow` to a Parquet file, batch by batch, and beside it
        `<path>.manifest.json` and `<path>.labels.arrow`, of which `FeatureStore.remake` makes it
        again (F2). Returns the manifest.

        The files appear whole or not at all. DataError if no file can be written at `path`, or if
        its name ends in .csv.
        """
        import pyarrow.parquet as pq

        if is_csv(Path(path)):
            raise DataError(f"{path}: its name says CSV; write it with to_csv, or name it .parquet")
        return self._write(Path(path), pq.ParquetWriter)

    def to_csv(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Write the rows of `to_arrow` to a CSV file in UTF-8, batch by batch, and beside it
        `<path>.manifest.json` and `<path>.labels.arrow`, of which `FeatureStore.remake` makes it
        again (F2). Returns the manifest.

        None is an empty field, the empty text is "". A float has the fewest digits that only it is
        read from, or is nan, inf or -inf; bytes are hexadecimal digits, an instant is ISO 8601, a
        duration its microseconds (90000000us), a list or dict JSON. So the file reads back as
        labels with the same values. The files appear whole or not at all. DataError if no file can
        be written at `path`.
        """
        return self._write(Path(path), CsvWriter)

    def to_delta(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """Write the rows of `to_arrow` as the next version of a Delta Lake table in the folder
        `path` (featurekit[delta]), which has these rows and no other. Returns the manifest, which
        names the version under `delta`.

        Beside the folder stand `<path>.v<version>.manifest.json`, and the labels, of which
        `FeatureStore.remake` makes it again (F2). The commit is whole or not at all, has
        the content hash in its own metadata, and is read back to compare it. DataError where a
        column has values that Delta Lake does not hold bit for bit, such as durations, where the
        folder holds something else, or where the version cannot be written.
        """
        import pyarrow.parquet as pq

        from featurekit.offline.delta_table import check_types, put
        from featurekit.sources.origins.delta import check_folder

        def make(hidden: Any, schema: Any) -> Any:
            check_types(schema)
            schemas.append(schema)
            return pq.ParquetWriter(hidden, schema)

        folder, schemas = Path(path).absolute(), list[Any]()
        check_folder(folder)
        with (
            self.home.telling(folder) as tell,
            TemporaryDirectory(prefix=".featurekit-", dir=folder.parent) as scratch,
        ):
            rows = Path(scratch, "rows.parquet")
            manifest = self._written(rows, make)
            manifest = {**manifest, "delta": put(rows, schemas[0], folder, manifest)}
            name = f"{folder.name}.v{manifest['delta']['version']}"
            beside = manifest_beside(folder.with_name(name))
            labels_beside(manifest_beside(rows)).replace(labels_beside(beside))
            write_whole(beside, (json.dumps(manifest, indent=2) + "\n").encode())
            tell(manifest)
        return manifest

    def split(
        self,
        by: str = "time",
        *,
        valid_from: Instant | None = None,
        test_from: Instant | None = None,
        gap: Duration | None = None,
        valid: float | None = None,
        test: float | None = None,
        seed: int = 0,
    ) -> Splits[TrainingSet]:
        """The rows in parts, each a training set of its own, in the order of the frame.

        By time, `train` has the rows before `valid_from`, `valid` those from there on, and `test`
        those from `test_from` on; one border makes two parts. A row is left out where its labels'
        windows, and `gap` after these, reach over the next border: so no label of a part is made of
        events that a later part begins with. A border without a zone is in the `timezone` of the
        training set.

        With `by="entity"`, or the name of a join key, `valid` and `test` are the shares of the
        entities in these parts, which a hash of the entity's key and of `seed` decides: the same on
        every machine, and whatever other rows there are. Rows without an entity are in `train`.

        ArgumentError for arguments that do not go together, DataError where a part has no rows.
        """
        if by == "time":
            refuse_others({"valid": valid, "test": test}, 'by="time"')
            borders = {"valid_from": valid_from, "test_from": test_from}
            rule = by_time(self._of.reach_us, self._timezone, borders, gap)
        else:
            given = {"valid_from": valid_from, "test_from": test_from, "gap": gap}
            refuse_others(given, f"by={by!r}")
            rule = by_entity(self._of.whole, by, valid=valid, test=test, seed=seed)
        return Splits(*self._chosen(rule))

    def sample(
        self, n: int | None = None, *, fraction: float | None = None, seed: int = 0
    ) -> TrainingSet:
        """Some of the rows, in the order of the frame: `n` of them, or about `fraction` of all.

        A hash of a row's join keys, instant and `seed` decides, so the same rows are chosen in
        whatever order they stand; with `fraction`, whatever other rows there are. ArgumentError
        for a number or share that is none, DataError where there are fewer rows, or none is chosen.
        """
        made, _ = self._chosen(by_sample(self._of.whole, n, fraction, seed))
        return made["sample"]

    def _chosen(self, rule: Rule) -> tuple[dict[str, TrainingSet], int]:
        """A training set of the rows of each part, and how many rows are in none."""
        run = _TrainingRun(self, join=False)
        with run:
            chosen = rule.rows(run.con, run.frame)
            given = {name: taken(self._frame, run.frame, rows) for name, rows in chosen.items()}
        first: dict[str, Any] = {}  # the files that the parts have in common
        made = {
            name: TrainingSet(
                self._of.features,
                frame,
                connect=self._connect,
                snapshot=self._snapshot,
                full_names=self._full_names,
                statuses=self._statuses,
                timezone=self._timezone,
                known_at=self._known_at,
                at_clock=self._at_clock,
                buckets=self._buckets,
                judge=self._judge,
                readings=self._readings,
                labelled=self._of,
                part=PartOf({"name": name, **rule.about}, first),
                elsewhere=self._elsewhere,
            )
            for name, frame in given.items()
        }
        for one in made.values():
            one.home = self.home
        return made, run.frame.rows - sum(map(len, chosen.values()))

    def _write(self, target: Path, make: Callable[[Any, Any], Any]) -> dict[str, Any]:
        """Write the rows with what `make` makes of a path and a schema, the labels and the
        manifest."""
        with self.home.telling(_target(target)) as tell:
            tell(self._written(target, make))
        return self.manifest

    def _written(self, target: Path, make: Callable[[Any, Any], Any]) -> dict[str, Any]:
        beside = manifest_beside(target)
        run = _TrainingRun(self)
        with whole(beside) as about, whole(labels_beside(beside)) as kept, whole(target) as hidden:
            explained = conversions.explaining_parquet(run.schema)
            with run, explained, make(hidden, run.schema) as writer, run.labels(kept) as labels:
                for batch in run.batches():
                    writer.write_batch(batch)
                    labels.write_batch(batch.select([*range(run.width)]))
            manifest = self.manifest
            about.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return manifest

    def save_manifest(self, path: str | os.PathLike[str]) -> Path:
        """Write what `FeatureStore.remake` makes the training set again of, and no rows:
        `<path>.manifest.json`, whose path comes back, and `<path>.labels.arrow` beside it, which
        has the frame's own columns (F2). DataError where they cannot be written, or where the
        frame is made of sources that have changed since the rows were computed.
        """
        target = _target(Path(path))
        manifest, run = self.manifest, _TrainingRun(self, join=False)
        beside = manifest_beside(target)
        with whole(beside) as about, whole(labels_beside(beside)) as kept:
            with run:
                found = run.write_labels(kept)
            if found != manifest["labels"]["content_hash"]:
                raise DataError(
                    f"training set of service {self._service.name!r}: its entities and instants "
                    "are others than when its rows were computed; ask get_historical_features for "
                    "a new training set"
                )
            about.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        return beside

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest: features and fingerprints, sources, rows, content hash, errors, numeric
        fingerprint, and the versions of libraries (F2). If the rows were not computed yet, this
        computes them."""
        if self._manifest is None:
            self._consume()
        assert self._manifest is not None
        return self._manifest

    def contract(self) -> Contract:
        """What a model that learns from these rows was trained on, and what serving has to give
        it: its feature contract, with a profile of each column.

        The same training set gives the same bytes, and its rows in another order the same profile.
        It is signed where the project has a private key (F0). The rows are computed for it once
        more where they were computed without `profiled`. The profile has values of the rows: up to
        twenty of the most frequent ones of each column of bool, int, str or date, of those that 11
        entities have or more.
        """
        if self._profile is None:
            self.profiled = True
            self._consume()
        assert self._profile is not None
        return contract_of(self._of, self.manifest, self._profile, self.home)

    @property
    def statistics(self) -> dict[str, Any]:
        """The errors, as two dicts (R3). `features`: for each feature that erred in some row, the
        number of such rows and the first of them. `transforms`: for each transform that erred on an
        event of a window view, the number of events left out of its aggregates, and the first of
        them."""
        if self._statistics is None:
            self._consume()
        assert self._statistics is not None
        return self._statistics

    def compute(self, observer: Observer) -> None:
        """Compute the rows, once more if they were computed before, and tell the observer."""
        self.observer = observer
        self._consume()

    @property
    def _tells_statuses(self) -> bool:
        return self._statuses or self.profiled or self.observer is not None

    def _consume(self) -> None:
        with self.home.telling(None) as tell:
            run = _TrainingRun(self)
            with run:
                for _ in run.batches():
                    pass
            tell(self.manifest)

    def _width(self) -> int:
        return len(self.names) * (2 if self._statuses else 1)


class _TrainingRun:
    """One computation of a training set: a connection, the frame's table, and the join."""

    def __init__(self, owner: TrainingSet, *, join: bool = True) -> None:
        """Without `join`, the frame's table is made, and nothing is computed for it."""
        self.owner = owner
        self.con = owner._connect()
        self.state_dir = state_of(self.con)
        self.scratch: TemporaryDirectory[str] | None = None
        self.exchanged: Path | None = None
        try:
            with explaining_memory(self.state_dir):
                self._read()
                if join:
                    self._join()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _TrainingRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.con.close()
        if self.scratch is not None:
            self.scratch.cleanup()
        if self.exchanged is not None:
            shutil.rmtree(self.exchanged, ignore_errors=True)

    def _frame(self, events: Sequence[EventRows]) -> Any:
        """The frame that was given, or the path of the frame made for the grid."""
        given = self.owner._frame
        if not isinstance(given, KnownEntities):
            return given
        self.scratch = TemporaryDirectory(prefix="featurekit-")
        path = Path(self.scratch.name) / "entities.parquet"
        # Whom only events ahead tell of is not known.
        features = self.owner._of.features
        given.write(self.con, features, events[: len(features.views)], path)
        return path

    def _read(self) -> None:
        """Read the sources and the frame."""
        owner, service = self.owner, self.owner._service
        owner._unchanged()
        read_again(self.con, owner._readings)
        owner._judge(self.con)  # what is judged of a database is what is read
        self.snapshots = {v.source.name: owner._snapshot(self.con, v) for v in service.views}
        owner._readings = dict(readings_of(self.con))
        self.events = [self.snapshots[v.source.name].events for v in service.views]
        self.arrived = [
            known_events(self.con, view, rows, owner._known_at)
            for view, rows in zip(service.views, self.events, strict=True)
        ]
        self.frame = load_frame(
            self.con,
            self._frame(self.arrived),
            join_keys=service.join_keys,
            request={p.name: p.type for p in service.request},
            timezone=owner._timezone,
        )

    def _join(self) -> None:
        """Make the join, and say what its rows are."""
        import pyarrow as pa

        owner, service = self.owner, self.owner._service
        self.later = self._later()
        # As of an instant up to the clock, nothing counts that has not arrived.
        every = owner._at_clock and not self.later
        features = len(owner._of.features.views) if every else 0
        self.joined = make_join(
            self.con,
            service,
            [*self.events[:features], *self.arrived[features:]],
            self.frame.table,
            statuses=owner._tells_statuses,
            buckets=owner._buckets,
            elsewhere=None
            if owner._elsewhere is None
            else self._spread(owner._elsewhere, features),
        )
        given = self._given_schema()
        self._check_names(given.names)
        fields = [
            pa.field(n, o.type.arrow) for n, o in zip(owner.names, service.outputs, strict=True)
        ]
        if owner._statuses:
            fields += [pa.field(f"{n}__status", pa.string()) for n in owner.names]
        self.features = pa.schema(fields)
        self.width = len(given)
        self.schema = pa.schema([*given, *fields], metadata=None)

    def _spread(self, elsewhere: Elsewhere, features: int) -> MakeView:
        """What lets an engine make the views' results. Of the first views, so many as there are
        `features`, all events count."""
        owner, engine = self.owner, elsewhere.engine()
        assert engine is not None  # "local" is no engine
        self.exchanged = scratch_in(elsewhere.reader.folder)
        spread = Spread(
            engine,
            elsewhere.reader,
            dict(readings_of(self.con)),
            what_was_read(self.con, elsewhere.reader, self._each(), owner._known_at),
            owner._known_at,
            self.exchanged,
        )

        def make(v: int, labels: str, name: str) -> ViewSql:
            return spread.make(
                self.con,
                owner._service.views[v],
                labels,
                name,
                known_at=None if v < features else owner._known_at,
                statuses=owner._tells_statuses,
                buckets=owner._buckets or buckets_for(engine),
            )

        return make

    def labels(self, path: Path) -> Any:
        """A writer of the frame's own columns, which keeps their types."""
        import pyarrow as pa

        schema = pa.schema(list(self._given_schema()))
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        return pa.ipc.new_file(str(path), schema, options=options)

    def write_labels(self, path: Path) -> str:
        """Write the frame's own columns alone; their content hash."""
        import pyarrow as pa

        schema = pa.schema(list(self._given_schema()))
        digest = ContentHash(schema)
        with self.labels(path) as writer:
            for columns in self._given():
                batch = pa.RecordBatch.from_arrays(columns, schema=schema)
                digest.update(batch)
                writer.write_batch(batch)
        return digest.hexdigest()

    def _later(self) -> int:
        """The number of the frame's rows after the run's end. InstantsInFuture warns of those after
        the store's clock."""
        owner, known_at = self.owner, self.owner._known_at
        if known_at is None:
            return 0
        counted = f"SELECT count(*) FROM {self.frame.table} WHERE __t > {known_at}"
        later = int(self.con.execute(counted).fetchall()[0][0])
        if later and owner._at_clock:
            warnings.warn(
                f"entity frame: {later} rows ask for instants after the store's clock, "
                f"{instant(known_at).isoformat()}; they are computed from what has arrived until "
                "then, and will have other values later",
                InstantsInFuture,
                stacklevel=2,
            )
        return later

    def _given_schema(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.frame.arrow is not None:
            return pa.schema(list(self.frame.arrow.schema))
        assert self.frame.path is not None
        fields = list(pq.read_schema(self.frame.path))
        if self.scratch is not None:  # DuckDB may declare a key nullable or not
            fields = [field.with_nullable(True) for field in fields]
        return carried_schema(pa.schema(fields))

    def _check_names(self, given: list[str]) -> None:
        made = {*self.owner.names}
        if self.owner._statuses:
            made |= {f"{n}__status" for n in self.owner.names}
        clash = sorted(made & {*given})
        if clash:
            raise EntityFrameError(
                f"entity frame: {', '.join(map(repr, clash))} is a column of the frame and a "
                "feature (or its status) of the service; rename the column, or ask for "
                "full_feature_names=True"
            )

    def batches(self) -> Iterator[Any]:
        """The rows in the frame's order, as RecordBatches of `schema`; at the end the owner
        receives its manifest and statistics."""
        import pyarrow as pa

        owner, service = self.owner, self.owner._service
        digest = ContentHash(self.schema)
        errors: dict[str, dict[str, int]] = {}
        strict = _strict(service)
        counts = LabelCounts(owner._of, owner.names)
        profile = RowProfile(owner.types) if owner.profiled else None
        observer, owner.observer = owner.observer, None
        instants: Any = None if observer is None else self._instants()
        keys = [self.schema.names.index(name) for name in owner._of.features.join_keys]
        at, head = 0, self.schema.empty_table()
        for given, made in zip(self._given(), self._features(), strict=False):
            for o in self.joined.erring:
                self._count_errors(errors, strict, o, made.column(f"x{o}"), at)
            columns = [made.column(f"o{o}") for o in range(len(service.outputs))]
            if owner._statuses:
                columns += [made.column(f"t{o}") for o in range(len(service.outputs))]
            cast = [_cast(c, f.type) for c, f in zip(columns, self.features, strict=True)]
            batch = pa.RecordBatch.from_arrays([*given, *cast], schema=self.schema)
            digest.update(batch)
            counts.update(made, cast)
            if profile is not None or observer is not None:
                statuses = [made.column(f"t{o}") for o in range(len(service.outputs))]
                told = cast[: len(statuses)], statuses, [batch.column(i) for i in keys]
                if profile is not None:
                    profile.update(*told)
                if observer is not None:
                    observer(*told, instants.slice(at, batch.num_rows))
            if not at:
                head = pa.Table.from_batches([batch.take(pa.array(range(min(_SHOWN, len(batch)))))])
            at += batch.num_rows
            if self.owner.progress is not None:
                self.owner.progress(at, self.frame.rows)
            yield batch
        if at != self.frame.rows:
            raise AssertionError(f"{self.frame.rows} rows were asked for and {at} came back")
        owner._unchanged()
        statistics = {"features": errors, "transforms": self._erring_events()}
        self._check_same(digest, counts)
        if owner._part is not None:
            owner._part.check({name: s.about.get("files") for name, s in self._each().items()})
        owner._statistics, owner._head = statistics, head
        owner._manifest = self._manifest(digest, counts)
        owner._profile = owner._profile if profile is None else profile.told()

    def _check_same(self, digest: ContentHash, counts: LabelCounts) -> None:
        """DataError if the rows are others than those that were read before."""
        told, before = self.owner._told, self.owner._manifest
        if told is not None and told["content_hash"] != digest.hexdigest():
            found = differences(told, self._manifest(digest, counts)) or [
                "rows that were pushed are others, or what computed them was"
            ]
            columns = differing_columns(told, digest)
            where = f" in {', '.join(columns)}" if columns else ""
            raise DataError(
                f"training set of service {self.owner._service.name!r}: made again, its rows are "
                f"others{where}, though the files of its sources are the same; {'; '.join(found)}"
            )
        if before is None or before["content_hash"] == digest.hexdigest():
            return
        now = {name: s.about for name, s in self._each().items()}
        changed = sorted(name for name, about in now.items() if before["sources"][name] != about)
        why = f"source {', '.join(changed)} has changed" if changed else "its sources have changed"
        raise DataError(
            f"training set of service {self.owner._service.name!r}: its rows were read before, and "
            f"would be others now, since {why}. Keep the first result, or ask "
            "get_historical_features for a new training set"
        )

    def _count_errors(
        self,
        errors: dict[str, dict[str, int]],
        strict: Mapping[int, str],
        o: int,
        flags: Any,
        at: int,
    ) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        count = pc.sum(flags.cast(pa.int64())).as_py() or 0
        if not count:
            return
        output: Output = self.owner._service.outputs[o]
        row = at + pc.index(flags, True).as_py()
        if o in strict:
            raise TransformError(
                f"feature {output.full_name!r} erred for row {row} of the entity frame, and view "
                f'{strict[o]!r} says on_error="fail"'
            )
        found = errors.setdefault(self.owner.names[o], {"rows": 0, "first_row": row})
        found["rows"] += count

    def _erring_events(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for view, made in zip(self.owner._service.views, self.joined.views, strict=True):
            for name, facts in report_erring_events(self.con, view, made).items():
                found[f"{view.title}: {name}"] = facts
        return found

    def _features(self) -> Iterator[Any]:
        """The outputs by number, in the order of rows, in batches of `_BATCH`."""
        relation = self.joined.sql
        with explaining_memory(self.state_dir):
            if self.frame.rows <= _FEW_ROWS:
                relation = quote(f"{self.frame.table.strip(chr(34))}_made")
                self.con.execute(f"CREATE TEMP TABLE {relation} AS SELECT * FROM {self.joined.sql}")
            sql = f"SELECT * EXCLUDE (__rid) FROM {relation} ORDER BY __rid"
            yield from _even(self.con.sql(sql).to_arrow_reader(_BATCH))

    def _instants(self) -> Any:
        found = self.con.sql(f"SELECT __t FROM {self.frame.table} ORDER BY __rid")
        return found.to_arrow_table().column(0)

    def _given(self) -> Iterator[list[Any]]:
        """The frame's own columns, in batches of `_BATCH`."""
        import pyarrow.parquet as pq

        if self.frame.arrow is not None:
            table = self.frame.arrow.combine_chunks()
            batches: Any = table.to_batches(max_chunksize=_BATCH)
            return (batch.columns for batch in _even(batches))
        batches = _even(pq.ParquetFile(self.frame.path).iter_batches(batch_size=_BATCH))
        return (_carried(batch, number * _BATCH) for number, batch in enumerate(batches))

    def _manifest(self, digest: ContentHash, counts: LabelCounts) -> dict[str, Any]:
        service, known_at = self.owner._service, self.owner._known_at
        features = self.owner._of.features.outputs
        label_columns = counts.told()
        return {
            "service": service.name,
            "fingerprint": service.fingerprint,
            "features": {
                n: {"type": str(o.type), "fingerprint": o.fingerprint}
                for n, o in zip(self.owner.names, features, strict=False)
            },
            **({"label_columns": label_columns} if label_columns else {}),
            **({} if self.owner._part is None else {"part": dict(self.owner._part.about)}),
            "known_at": None if known_at is None else instant(known_at).isoformat(),
            "rows_after_known_at": self.later,
            "sources": {n: self._about(n, s) for n, s in sorted(self._each().items())},
            "rows": digest.rows,
            "content_hash": digest.hexdigest(),
            "columns": digest.by_column(),
            "labels": {"content_hash": digest.hexdigest(self.width)},
            "asked": {
                "full_feature_names": self.owner._full_names,
                "statuses": self.owner._statuses,
                "timezone": self.owner._timezone,
            },
            "errors": _without_events(self.owner._statistics),
            "numeric_fingerprint": numeric_fingerprint(service),
            "libraries": library_versions(),
            "featurekit": VERSION,
        }

    def _each(self) -> dict[str, Snapshot]:
        """What was read of each source, of a union of each of its sources (T11)."""
        return {n: s for name, read in self.snapshots.items() for n, s in read.each(name).items()}

    def _about(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        """What the manifest says of a source; of a database also the buckets of its keys, by which
        it is told what has changed there."""
        known_at = self.owner._known_at
        left = 0 if known_at is None else snapshot.arriving_after(self.con, known_at)
        about = {**snapshot.about, "not_yet_arrived": left}
        if snapshot.copy is not None:
            views = (*self.owner._service.views, *self.owner._service.fed)
            view = next(v for v in views if name in v.source_names)
            named = columns_of(view.source, name)
            keys = [named[key.name] for key in view.join_keys]
            buckets = key_buckets(self.con, snapshot.copy, keys)
            about["files"] = [{**file, "buckets": buckets} for file in about["files"]]
        return about


def _target(path: Path) -> Path:
    """The path, where a file can be written there; DataError for another one."""
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder; name a file, as in train.parquet")
    if not path.parent.is_dir():
        raise DataError(
            f"{path}: the folder {str(path.parent)!r} does not exist; make it, or write "
            "another path"
        )
    return path


def _without_events(statistics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The errors without the event that was the first, which tells of an entity; None where they
    are not counted yet."""
    if statistics is None:
        return None
    transforms = {
        name: {what: value for what, value in facts.items() if what != "first"}
        for name, facts in statistics["transforms"].items()
    }
    return {**statistics, "transforms": transforms}


def _strict(service: Service) -> dict[int, str]:
    """The outputs that must not err, each with the view that says so."""
    return {
        o: service.views[output.view].name
        for o, output in enumerate(service.outputs)
        if output.view >= 0 and service.views[output.view].on_error == "fail"
    }


def _carried(batch: Any, first_row: int) -> list[Any]:
    """The columns of a batch of a Parquet file as a training set carries them."""
    named = zip(batch.schema.names, batch.columns, strict=True)
    return [carried(column, name, first_row=first_row) for name, column in named]


def _cast(column: Any, type_: Any) -> Any:
    """A column with DuckDB's naive UTC timestamps and microseconds cast to the types that leave
    featurekit."""
    return column if column.type == type_ else column.cast(type_)


def _even(batches: Any) -> Iterator[Any]:
    """The same rows in batches of exactly `_BATCH` rows, except the last; so two streams stay in
    step."""
    import pyarrow as pa

    waiting: list[Any] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= _BATCH:
            table = pa.Table.from_batches(waiting)
            yield _one(table.slice(0, _BATCH))
            rest = table.slice(_BATCH)
            waiting, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield _one(pa.Table.from_batches(waiting))


def _one(table: Any) -> Any:
    return table.combine_chunks().to_batches()[0]
