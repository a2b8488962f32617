"""Reads the rows of a Feast view's source once more, past Feast: what both paths should say."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from feast.data_format import ParquetFormat
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import FileSource

from featurekit.core.sql import quote
from featurekit.core.types import MICROSECOND
from featurekit.errors import SourceError
from featurekit.offline.session import connect
from featurekit.plugins.feast.parity.values import column_values

Key = tuple[Any, ...]
_TS, _CREATED = "featurekit_ts", "featurekit_created"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a source: when it happened and was created, in microseconds, and its columns."""

    ts: int
    created: int | None
    values: Mapping[str, Any]


def key_names(view: Any) -> list[str]:
    """The join keys of a view; none of one that Feast gives a key of its own."""
    return [field.name for field in view.entity_columns if field.name != DUMMY_ENTITY_ID]


class Rows:
    """The rows of a view's source, by entity; `keys` are the names of its join keys there."""

    def __init__(self, config: Any, view: Any) -> None:
        self.view, source = view, view.batch_source
        self.keys = key_names(view)
        self.table = _table(config, view)
        mapping = source.field_mapping or {}
        self._names = {mapping.get(name, name): name for name in self.table.schema.names}
        self._ts = source.timestamp_field
        self._created = source.created_timestamp_column or None

    def some_keys(self, most: int, seed: int, until: int) -> list[Key]:
        """So many entities, drawn by the seed among those with a row by `until`: a quarter of them
        are such whose latest rows are of one instant, where there are any."""
        if not self.keys:
            return [()]
        shown = ", ".join(f"{self._column(key)} AS {quote(key)}" for key in self.keys)
        names = ", ".join(map(quote, self.keys))
        there = " AND ".join(f"{quote(key)} IS NOT NULL" for key in self.keys)
        latest = (
            f"SELECT {names}, count(*) AS n FROM (SELECT {shown}, {self._us(self._ts)} AS ts "
            f"FROM rows) WHERE {there} AND ts <= {until} GROUP BY {names}, ts "
            f"QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY ts DESC) = 1"
        )
        order = f"hash({names}, {seed}), {names}"
        with self._connected() as con:
            tied = con.execute(
                f"SELECT {names} FROM ({latest}) WHERE n > 1 ORDER BY {order} LIMIT {most // 4}"
            ).fetchall()
            drawn = con.execute(
                f"SELECT {names} FROM ({latest}) ORDER BY {order} LIMIT {most}"
            ).fetchall()
        return list(dict.fromkeys([*tied, *drawn]))[:most]

    def of(self, keys: Sequence[Key], columns: Sequence[str]) -> dict[Key, list[Row]]:
        """Some columns of the rows of each entity, in the order in which they happened and were
        created."""
        wanted = dict.fromkeys([*self.keys, *(name for name in columns if name in self._names)])
        shown = ", ".join(f"rows.{self._column(name)} AS {quote(name)}" for name in wanted)
        created = "NULL::BIGINT" if self._created is None else self._us(self._created)
        times = f"{self._us(self._ts)} AS {quote(_TS)}, {created} AS {quote(_CREATED)}"
        query = f"SELECT {times}{', ' if shown else ''}{shown} FROM rows"
        with self._connected() as con:
            if self.keys:
                con.register("wanted", _wanted(keys, self.keys))
                met = " AND ".join(
                    f"rows.{self._column(key)}::VARCHAR = wanted.{quote(key)}" for key in self.keys
                )
                query += f" WHERE EXISTS (FROM wanted WHERE {met})"
            found = con.sql(f"{query} ORDER BY {quote(_TS)}, {quote(_CREATED)} NULLS FIRST")
            table = found.to_arrow_table()
        lists = {name: column_values(table[name]) for name in table.column_names}
        rows: dict[Key, list[Row]] = {key: [] for key in keys}
        as_text = {tuple(map(str, key)): key for key in keys}
        for i in range(table.num_rows):
            text = tuple(str(lists[name][i]) for name in self.keys)
            values = {name: lists[name][i] for name in wanted}
            rows[as_text[text]].append(Row(lists[_TS][i], lists[_CREATED][i], values))
        return rows

    @property
    def columns(self) -> list[str]:
        """The columns of the source, by the names that views have for them."""
        return list(self._names)

    def _column(self, name: str) -> str:
        return quote(self._names[name])

    def _us(self, name: str) -> str:
        """An instant of a column in microseconds; a naive one is in UTC."""
        return f"epoch_us({quote(self._names.get(name, name))}::TIMESTAMPTZ)"

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        with (
            tempfile.TemporaryDirectory(prefix="featurekit-") as folder,
            closing(connect(Path(folder))) as con,
        ):
            con.execute("SET TimeZone = 'UTC'")
            con.register("rows", self.table)
            yield con


def _wanted(keys: Sequence[Key], names: Sequence[str]) -> pa.Table:
    """The entities as texts, since a key may have another width in the source."""
    columns = zip(*keys, strict=True) if keys else [()] * len(names)
    made = [pa.array([str(one) for one in column], pa.string()) for column in columns]
    return pa.table(made, names=list(names))


def _table(config: Any, view: Any) -> Any:
    """The rows of a view's batch source: of Parquet files past Feast, else as its offline store
    reads them."""
    source = view.batch_source
    if isinstance(source, FileSource) and "://" not in source.path:
        format_ = source.file_format
        if format_ is None or isinstance(format_, ParquetFormat):
            path = Path(FileSource.get_uri_for_file_path(config.repo_path, source.path))
            try:
                return ds.dataset(path, format="parquet")
            except (OSError, pa.ArrowInvalid) as error:
                raise SourceError(
                    f"view {view.name!r}: its source {source.name!r} cannot be read "
                    f"({str(error).splitlines()[0]}); see the path in its definition"
                ) from None
    return _pulled(config, view)


def _pulled(config: Any, view: Any) -> pa.Table:
    from feast.infra.offline_stores.offline_utils import get_offline_store_from_config

    source = view.batch_source
    back = {new: old for old, new in (source.field_mapping or {}).items()}
    store = get_offline_store_from_config(config.offline_store)
    job = store.pull_all_from_table_or_query(
        config=config,
        data_source=source,
        join_key_columns=[back.get(name, name) for name in key_names(view)],
        feature_name_columns=[back.get(f.name, f.name) for f in view.features],
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column or None,
        start_date=dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        end_date=dt.datetime(9999, 12, 31, tzinfo=dt.UTC) - MICROSECOND,
    )
    return job.to_arrow()
