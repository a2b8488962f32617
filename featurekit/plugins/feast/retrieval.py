"""Turns a request for historical features into a table, when Feast asks the job for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.data_format import DeltaFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata

from featurekit.core.files import whole
from featurekit.core.types import STR
from featurekit.define.plan import View
from featurekit.errors import DefinitionError, EntityFrameError
from featurekit.offline.events import Snapshot
from featurekit.offline.session import connect
from featurekit.offline.training_set import TrainingSet
from featurekit.plugins.feast.arrays import DICTS, array_of
from featurekit.plugins.feast.events import folder_of, state_folder, view_rows
from featurekit.plugins.feast.kinds import Kind, OpaqueKind, out_of_range
from featurekit.plugins.feast.on_demand import on_demand_columns
from featurekit.plugins.feast.views import NO_ENTITY, Wanted, service_of

_INSTANT = "event_timestamp"


class TableJob(RetrievalJob):
    """A job of Feast whose table `make` makes, once it is asked for."""

    def __init__(
        self,
        config: Any,
        make: Callable[[], pa.Table],
        *,
        full_feature_names: bool = False,
        shown: Sequence[str] = (),
        on_demand: Sequence[Any] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._config, self._make = config, make
        self._full_names, self._on_demand = full_feature_names, list(on_demand)
        self._shown = list(shown)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named view__feature."""
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[Any]:
        """None that are left to Feast: the table has them already."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What Feast keeps of a request; None for a table of rows."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        with out_of_range():
            table = self._make()
        if self._on_demand:
            refs = [] if self._metadata is None else self._metadata.features
            made = on_demand_columns(
                self._on_demand, table, refs, full=self._full_names, stored=False
            )
            table = self._named(table)
            for name, kind, column in made:
                column = kind.array(column.to_pylist()) if kind.opaque else column
                table = table.append_column(name, column)
        else:
            table = self._named(table)
        return table

    def _named(self, table: pa.Table) -> pa.Table:
        """The table whose last columns, named in full as on-demand views read them, have the names
        that are asked for."""
        own = table.num_columns - len(self._shown)
        return table.rename_columns([*table.column_names[:own], *self._shown])

    def to_df(self, validation_reference: Any = None, timeout: int | None = None) -> pd.DataFrame:
        """The table as a frame, in which a map is a dict, as in an online answer."""
        table = self.to_arrow(validation_reference=validation_reference, timeout=timeout)
        return table.to_pandas(**DICTS)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas(**DICTS)

    def persist(
        self, storage: Any, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the table to the Parquet file of a saved dataset, or to a file in its folder; to a
        table of Delta Lake where the dataset is one."""
        source = storage.to_data_source()
        if not isinstance(source, FileSource) or "://" in source.path:
            raise DefinitionError(
                "a saved dataset of featurekit's offline store is a SavedDatasetFileStorage with a "
                f"path of this machine, found {source}"
            )
        path = folder_of(self._config) / source.path
        before = list(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
        if before and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=source.path)
        table = self.to_arrow()
        if isinstance(source.file_format, DeltaFormat):
            from deltalake import write_deltalake

            write_deltalake(path, table, mode="overwrite")
            return
        file = path / f"{uuid.uuid4().hex}.parquet" if path.is_dir() else path
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as hidden:
            pq.write_table(table, hidden)
        for old in before:
            if old != file:
                old.unlink()


def historical(
    config: Any,
    asked: Sequence[tuple[Any, Wanted, Sequence[str]]],
    frame: pd.DataFrame,
    asked_at: pd.Series,
    *,
    by_created: bool,
) -> pa.Table:
    """The frame's columns as they were, with the instants `asked_at` in UTC in the column of their
    name, and after them the features of each of `asked`: a Feast view, what is wanted of it, and
    the names of the result's columns.

    A row whose entity has no row of the view by then, or one that is too old (T4), has nulls.
    """
    service = service_of([one for _, one, _ in asked])
    by_view = dict(zip(service.views, [view for view, _, _ in asked], strict=True))
    keys = [key for key in service.join_keys if key != NO_ENTITY]
    rows = _key_rows(frame, keys, [one for _, one, _ in asked])
    if NO_ENTITY in service.join_keys:
        rows = rows.assign(**{NO_ENTITY: ""})
    instant = str(asked_at.name)
    if not asked:  # on-demand views of request fields alone
        table, place = carried(frame, []), list(frame.columns).index(instant)
        at = pc.cast(pa.array(asked_at), pa.timestamp("us", tz="UTC"), safe=False)
        return table.set_column(place, instant, at)
    instants = pc.cast(pa.array(asked_at), pa.timestamp("us", tz="UTC"), safe=False)
    rows = rows.assign(**{_INSTANT: instants.to_numpy(zero_copy_only=False)})

    def snapshot(con: Any, view: View) -> Snapshot:
        return view_rows(con, config, by_view[view], by_created=by_created)

    training = TrainingSet(
        service,
        rows,
        connect=lambda: connect(state_folder(config)),
        snapshot=snapshot,
        full_names=False,
        statuses=False,
        timezone="UTC",
    )
    made = training.to_arrow()
    table = carried(frame, keys)
    place = table.column_names.index(instant)
    table = table.set_column(place, instant, instants)
    number = len(rows.columns)
    for _, one, names in asked:
        for feature, name in zip(one.features, names, strict=True):
            kind, column = one.mapped.kinds[feature], made.column(number)
            column = kind.array(column.to_pylist()) if kind.opaque else column.cast(kind.arrow)
            table = table.append_column(name, column)
            number += 1
    return table


def _key_rows(frame: pd.DataFrame, keys: Sequence[str], asked: Sequence[Wanted]) -> pd.DataFrame:
    """The join keys of a frame's rows, as the views take them. EntityFrameError where one is
    absent."""
    if lacking := [key for key in keys if key not in frame.columns]:
        raise EntityFrameError(
            f"entity frame: there is no column {lacking[0]!r}; it has "
            f"{', '.join(map(repr, frame.columns))}"
        )
    rows = frame[list(keys)].reset_index(drop=True)
    for one in asked:
        for key, name in one.columns.items():
            if name in keys:
                rows[name] = as_kept(rows[name], one.mapped.key_kinds[key])
    return rows


def as_kept(given: pd.Series, kind: Kind) -> pd.Series:
    """A column of a join key, of which ints are texts of their digits where the key is a text, and
    values that featurekit has no type for are what is kept of them."""
    if isinstance(kind, OpaqueKind):
        return pd.Series(kind.of_column(list(given), f"entity frame: {given.name!r}"), dtype=object)
    if kind.type != STR or pd.api.types.is_string_dtype(given):
        return given
    return given.map(kind.key)


def carried(frame: pd.DataFrame, keys: Sequence[str]) -> pa.Table:
    """The frame's own columns, of which the join keys are marked."""
    maps = {name: array_of(list(frame[name])) for name in frame.columns if _has_dicts(frame[name])}
    plain = frame.drop(columns=list(maps)) if maps else frame
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    for place, name in enumerate(frame.columns):
        if name in maps:
            table = table.add_column(place, name, maps[name])
    fields = [
        field.with_metadata({"role": "key"}) if field.name in keys else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _has_dicts(column: pd.Series) -> bool:
    return column.dtype == object and any(isinstance(value, dict) for value in column)


def instants_of(given: pd.Series) -> pd.Series:
    """The instants of a frame's rows, in UTC: texts of ISO 8601, naive ones as UTC (T1)."""
    if pd.api.types.is_datetime64_any_dtype(given):  # to_datetime would look at each of them
        naive = getattr(given.dtype, "tz", None) is None
        return given.dt.tz_localize("UTC") if naive else given.dt.tz_convert("UTC")
    try:
        return pd.to_datetime(given.infer_objects(), utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        raise EntityFrameError(
            f"entity frame: {given.name!r} is the instant of each row ({error}); give "
            "datetimes, or texts as in 2026-10-04T12:00:00Z"
        ) from None


def column_names(
    views: Sequence[Any], refs: Sequence[str], *, full: bool
) -> list[tuple[Any, list[str], list[str]]]:
    """Each view with its wanted features and the names that these have in a result."""
    found = []
    for view in views:
        title = view.projection.name_to_use()
        features = [ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0] == title]
        shown = view.projection.name_alias or view.name
        features = list(dict.fromkeys(features))
        if features:
            names = [f"{shown}__{name}" if full else name for name in features]
            found.append((view, features, names))
    return found


def path_of(config: Any, source: Any) -> Path:
    """The file of a source on this machine."""
    return Path(FileSource.get_uri_for_file_path(config.repo_path, source.file_options.uri))
