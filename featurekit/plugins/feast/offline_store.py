"""Feast's offline store on featurekit's point-in-time join, over the files of Feast's sources."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
from feast.data_format import DeltaFormat
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel
from feast.utils import compute_non_entity_date_range

from featurekit.core.files import whole
from featurekit.core.sql import quote, text_literal
from featurekit.core.types import micros
from featurekit.errors import DataError, DefinitionError, EntityFrameError
from featurekit.offline.session import connect
from featurekit.plugins.feast.events import file_rows, folder_of, state_folder, view_rows
from featurekit.plugins.feast.monitoring import Monitored
from featurekit.plugins.feast.published import all_published, historical_job, is_published
from featurekit.plugins.feast.pushes import is_push, pushed_columns, settle_offline
from featurekit.plugins.feast.retrieval import (
    TableJob,
    column_names,
    historical,
    instants_of,
    path_of,
)
from featurekit.plugins.feast.views import NO_ENTITY, Wanted, wanted


class FeaturekitOfflineStoreConfig(FeastConfigBaseModel):
    """The settings of `offline_store` in feature_store.yaml."""

    type: Literal["featurekit.plugins.feast.FeaturekitOfflineStore"] = (
        "featurekit.plugins.feast.FeaturekitOfflineStore"
    )


class FeaturekitOfflineStore(Monitored, OfflineStore):
    """Historical features of Feast views over Parquet files and Delta Lake tables, as the rules say
    (V1, T3, T4, T6): what `FeaturekitOnlineStore` answers at the same instant."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """A job for the features of each row of `entity_df`, in its order.

        A ttl is the interval (t − ttl, t] (T4). With `filter_by_created_timestamp`, a row counts
        only from its created timestamp on (T3).
        """
        if all_published(feature_views):
            return historical_job(
                config, registry, project, feature_views, feature_refs, entity_df,
                full=full_feature_names, options=options,
            )  # fmt: skip
        asked = [
            (view, wanted(view, features), names)
            for view, features, names in column_names(feature_views, feature_refs, full=True)
        ]
        shown = [
            name
            for _, _, names in column_names(feature_views, feature_refs, full=full_feature_names)
            for name in names
        ]
        if entity_df is None:
            frame = _of_range(config, asked, options)
        else:
            frame = _of_sql(config, entity_df) if isinstance(entity_df, str) else entity_df
        instant = infer_event_timestamp_from_entity_df(dict(frame.dtypes))
        by_created = bool(options.get("filter_by_created_timestamp"))
        instants = instants_of(frame[instant])

        def make() -> pa.Table:
            return historical(config, asked, frame, instants, by_created=by_created)

        keys = [name for name in frame.columns if name != instant]
        return TableJob(
            config,
            make,
            full_feature_names=full_feature_names,
            shown=shown,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=keys,
                min_event_timestamp=instants.min().to_pydatetime(),
                max_event_timestamp=instants.max().to_pydatetime(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: dt.datetime,
        end_date: dt.datetime,
    ) -> RetrievalJob:
        """A job for the latest row of each entity between two instants, both of them included.

        Where rows have one instant and one created timestamp, all of them come: the online store
        orders them by their values (T6).
        """
        columns = _listed(
            [*join_key_columns, *feature_name_columns, timestamp_field], created_timestamp_column
        )
        latest = [f"{_us(timestamp_field)} DESC"]
        if created_timestamp_column:
            latest.append(f"{_us(created_timestamp_column)} DESC NULLS LAST")
        keys = ", ".join(map(quote, join_key_columns))
        by = f"PARTITION BY {keys} " if keys else ""
        last = f"QUALIFY rank() OVER ({by}ORDER BY {', '.join(latest)}) = 1"
        where = _between(timestamp_field, start_date, end_date)
        keyless = not join_key_columns
        return _rows_job(config, data_source, columns, f"{where} {last}", keyless=keyless)

    @staticmethod
    def pull_all_from_table_or_query(
        config: Any,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: dt.datetime | None = None,
        end_date: dt.datetime | None = None,
    ) -> RetrievalJob:
        """A job for all rows between two instants, both of them included, where they are given."""
        columns = _listed(
            [*join_key_columns, *feature_name_columns, timestamp_field], created_timestamp_column
        )
        where = _between(timestamp_field, start_date, end_date)
        return _rows_job(config, data_source, columns, where, keyless=not join_key_columns)

    @staticmethod
    def write_logged_features(
        config: Any,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: Any,
    ) -> None:
        """Add rows to the folder of Parquet files of a service's log."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise DefinitionError(
                "featurekit's offline store logs to a FileLoggingDestination, found a "
                f"{type(destination).__name__}"
            )
        table = pq.read_table(data) if isinstance(data, Path) else data
        pyarrow.dataset.write_dataset(
            table,
            folder_of(config) / destination.path,
            basename_template=f"{uuid.uuid4().hex}-{{i}}.parquet",
            format="parquet",
            partitioning=destination.partition_by,
            existing_data_behavior="overwrite_or_ignore",
        )

    def get_table_column_names_and_types_from_data_source(
        self, config: Any, data_source: Any
    ) -> Iterable[tuple[str, str]]:
        """The columns of a source. Those of a published one are what a push to it has, whatever its
        files have: Feast asks once the push was taken."""
        if not is_published(data_source):
            found: Iterable[tuple[str, str]] = data_source.get_table_column_names_and_types(config)
            return found
        return pushed_columns(config, data_source)

    @staticmethod
    def offline_write_batch(
        config: Any,
        feature_view: Any,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Add rows to the Parquet file of a view's batch source, which is written anew, whole or
        not at all, or to its table of Delta Lake. DataError for rows with other columns."""
        if is_push(feature_view):
            return settle_offline(config, feature_view, table)
        source = feature_view.batch_source
        if not isinstance(source, FileSource) or "://" in source.path:
            raise DefinitionError(
                f"rows are added to a FileSource of this machine, and the source of "
                f"{feature_view.name!r} is {source}"
            )
        path = path_of(config, source)
        delta = isinstance(source.file_format, DeltaFormat)
        schema = _delta_schema(path) if delta else pq.read_schema(path)
        if table.column_names != schema.names:
            raise DataError(
                f"{path}: the rows have the columns {', '.join(table.column_names)}, and it has "
                f"{', '.join(schema.names)}; give the same columns in the same order"
            )
        made = _cast(table, schema, feature_view.name)
        if delta:
            from deltalake import write_deltalake

            write_deltalake(path, made, mode="append")
        else:
            with whole(path) as hidden:
                pq.write_table(pa.concat_tables([pq.read_table(path), made]), hidden)
        if progress is not None:
            progress(table.num_rows)


def _cast(table: pa.Table, schema: pa.Schema, view: str) -> pa.Table:
    """The rows in the types of a file. DataError, which names the column, where one does not
    fit."""
    columns = []
    for field in schema:
        try:
            columns.append(table[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"Feast's view {view!r}, column {field.name!r}: the file has {field.type}, and the "
                f"rows {table[field.name].type} ({error}); nothing was written to it. Give values "
                "of that type"
            ) from None
    return pa.Table.from_arrays(columns, schema=schema)


def _delta_schema(path: Path) -> pa.Schema:
    """The columns of a table of Delta Lake."""
    from deltalake import DeltaTable

    return pa.schema(DeltaTable(path).schema().to_arrow())


def _listed(columns: Sequence[str], created: str | None) -> list[str]:
    return list(dict.fromkeys([*columns, *([created] if created else [])]))


def _between(column: str, start: dt.datetime | None, end: dt.datetime | None) -> str:
    """A WHERE of the rows of an interval, both ends included; nothing without an interval."""
    terms = []
    if start is not None:
        terms.append(f"{_us(column)} >= {micros(start)}")
    if end is not None:
        terms.append(f"{_us(column)} <= {micros(end)}")
    return f"WHERE {' AND '.join(terms)}" if terms else ""


def _us(column: str) -> str:
    """A column of instants of any unit in microseconds; naive ones are in UTC (T1)."""
    return f"epoch_us({quote(column)}::TIMESTAMPTZ)"


def _rows_job(
    config: Any, source: Any, columns: Sequence[str], rest: str, *, keyless: bool
) -> TableJob:
    """A job for rows of a source as its files have them. Those of a view without entities are
    `keyless`: Feast wants the key that stands for all of its rows."""

    def make() -> pa.Table:
        with closing(connect(state_folder(config))) as con:
            relation = file_rows(con, config, source)
            names = [*map(quote, columns)]
            if keyless:
                names.append(f"{text_literal(DUMMY_ENTITY_VAL)} AS {quote(DUMMY_ENTITY_ID)}")
            shown = ", ".join(names)
            found = con.execute(f"SELECT {shown} FROM {relation} {rest}")
            return found.to_arrow_table()

    return TableJob(config, make)


def _of_sql(config: Any, query: str) -> pd.DataFrame:
    """The rows of an entity frame that a query of DuckDB gives."""
    with closing(connect(state_folder(config))) as con:
        try:
            return _frame(con.execute(query).to_arrow_table())
        except duckdb.Error as error:
            raise EntityFrameError(
                f"entity frame: DuckDB does not run its query ({str(error).splitlines()[0]}); name "
                "files in it, as in read_parquet('labels.parquet'), or give a frame"
            ) from None


def _of_range(
    config: Any, asked: Sequence[tuple[Any, Wanted, Sequence[str]]], options: dict[str, Any]
) -> pd.DataFrame:
    """The entity rows of a request without a frame: a row for each entity and instant of which some
    view has a row in the interval, in the order of the instants and then of the keys. A view
    without one of the join keys gives null for it. A row with a null key is of no entity (S2)."""
    views = [view for view, _, _ in asked]
    start, end = compute_non_entity_date_range(
        views, start_date=options.get("start_date"), end_date=options.get("end_date")
    )
    with closing(connect(state_folder(config))) as con:
        parts = []
        for view, one, _ in asked:
            columns = [
                f"{quote(one.mapped.keys[key])} AS {quote(name)}"
                for key, name in one.columns.items()
                if name != NO_ENTITY
            ]
            shown = ", ".join([*columns, "make_timestamptz(__ts) AS event_timestamp"])
            rows = view_rows(con, config, view).events.relation
            known = [f"{quote(one.mapped.keys[key])} IS NOT NULL" for key in one.columns]
            within = f"__ts BETWEEN {micros(start)} AND {micros(end)}"
            parts.append(f"SELECT {shown} FROM {rows} WHERE {' AND '.join([within, *known])}")
        united = " UNION BY NAME ".join(parts)
        names = dict.fromkeys(name for _, one, _ in asked for name in one.columns.values())
        order = ["event_timestamp", *(quote(name) for name in names if name != NO_ENTITY)]
        found = con.execute(f"SELECT * FROM ({united}) ORDER BY {', '.join(order)}")
        return _frame(_keys_as_given(found.to_arrow_table(), [one for _, one, _ in asked]))


def _keys_as_given(table: pa.Table, asked: Sequence[Wanted]) -> pa.Table:
    """The table, in which join keys that are kept as Feast's protos are what a frame gives."""
    kinds = {name: one.mapped.key_kinds[key] for one in asked for key, name in one.columns.items()}
    for name, kind in kinds.items():
        if kind.opaque:
            place = table.column_names.index(name)
            table = table.set_column(place, name, kind.array(table[name].to_pylist()))
    return table


def _frame(table: pa.Table) -> pd.DataFrame:
    """The rows as a frame, in which an int beside a null is no double: it would be another key."""
    return table.to_pandas(integer_object_nulls=True)
