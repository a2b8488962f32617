"""The FeatureStore: one feature repo, its registry, its online store, and what joins them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.compiled import Service, View, compile_source
from featurekit.config import load_config
from featurekit.define import EventSource
from featurekit.deployment import (
    fed_views,
    live_services,
    locked,
    materialized_until,
    promote,
    publish,
    set_materialized,
    withdraw,
)
from featurekit.errors import (
    ConfigError,
    DataError,
    DefinitionError,
    OnlineError,
    RegistryError,
)
from featurekit.online.store import OnlineStore
from featurekit.registry import Change, Definition, Registry
from featurekit.repo import Repo, load_repo
from featurekit.serve import OnlineResult, OnlineService, project_key
from featurekit.types import instant, micros

if TYPE_CHECKING:
    from featurekit.materialise import Materialized
    from featurekit.offline import Snapshot, TrainingSet
    from featurekit.parity.report import Report
    from featurekit.point_in_time import Events
    from featurekit.push import Pushed

Progress = Callable[[str, int, int], None]
"""Called with a view's name, entities done and entities in all."""


_COMPACT_EVERY = 32


@dataclass(frozen=True, slots=True)
class Materialization:
    """What `materialize` did: each view's numbers, the instant, and the services that went live."""

    until: dt.datetime
    views: tuple[Materialized, ...]
    live: tuple[str, ...]


class FeatureStore:
    """A feature repo, opened: plan and apply definitions, fetch training data, serve and push.

    `path` is the folder of feature_store.yaml. `redis_url` goes before the file's; without either,
    a private server keeps its data beside the repo. Nothing is read until it is needed.
    """

    def __init__(self, path: str | Path = ".", *, redis_url: str | None = None) -> None:
        self.path = Path(path).resolve()
        self.config = load_config(self.path)
        self.project = self.config.project
        self.state_dir = self.path / self.config.featurekit.state_dir
        self._redis_url = redis_url
        self._repo: Repo | None = None
        self._store: OnlineStore | None = None
        self._services: dict[str, OnlineService] = {}
        self._pushes = 0
        registry = self.config.featurekit.registry
        if registry is not None and "://" in registry:
            raise ConfigError(
                f"featurekit.registry {registry!r}: a registry is a SQLite file; write its path"
            )
        self.registry = Registry(
            self.path / registry if registry else self.state_dir / "registry.db"
        )

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections; the store opens them again when it needs them."""
        if self._store is not None:
            self._store.close()
            self._store = None
            self._services = {}

    # --- parts, opened when first needed ----------------------------------------------------------

    @property
    def repo(self) -> Repo:
        """The definitions in the folder's modules, compiled."""
        if self._repo is None:
            self._repo = load_repo(self.path)
        return self._repo

    @property
    def online(self) -> OnlineStore:
        """The online store: the Redis that is configured, or the repo's private one."""
        if self._store is None:
            from featurekit.online.redis_store import RedisStore

            url = self._redis_url or self.config.redis_url()
            if url is None:
                from featurekit.online.server import private_redis

                url = private_redis(self.state_dir / "redis")
            self._store = RedisStore(url)
        return self._store

    def _connect(self) -> Any:
        """A DuckDB of its own for one piece of work, in a session as T2 wants it.

        Never a cursor: a function that one cursor registered is freed when that cursor closes,
        while the others still find its name.
        """
        import duckdb

        from featurekit.point_in_time import prepare

        con = duckdb.connect()
        prepare(con)
        with suppress(OSError):  # a repo that may only be read can spill nothing
            self.state_dir.mkdir(parents=True, exist_ok=True)
        # What does not fit into memory goes beside the repo: /tmp may be memory, too.
        spill = str(self.state_dir / f"spill-{uuid.uuid4().hex}").replace("'", "''")
        con.execute(f"SET temp_directory = '{spill}'")
        limit = self.config.featurekit.memory_limit
        if limit is not None:
            con.execute(f"SET memory_limit = '{limit}'")
        return con

    def _snapshot(self, con: Any, view: View) -> Snapshot:
        """The events of a view's source: its files, and what was pushed."""
        from featurekit.offline import Snapshot
        from featurekit.point_in_time import Events
        from featurekit.push_log import log_sql, segments
        from featurekit.sources import read_events

        source = self._source(view.source.name)
        read = read_events(con, source, base=self.path, state_dir=self.state_dir)
        logged = segments(self.state_dir, source.name)
        relation = read.relation
        if logged:
            columns = ", ".join(f'"{n}"' for n in source.schema)
            relation = (
                f"(SELECT {columns}, __ts, __created FROM {relation} "
                f"UNION ALL {log_sql(logged, source)})"
            )
        about = {
            "files": [
                {"path": f.path, "bytes": f.size, "mtime_ns": f.mtime_ns} for f in read.files
            ],
            "rows": read.rows,
            "quarantined": read.quarantined,
            "pushed_segments": len(logged),
        }
        prompt = source.created_timestamp_column is None and not logged
        return Snapshot(Events(relation, prompt, None if logged else read.rows), about)

    def _source(self, name: str) -> EventSource:
        found = self.repo.sources.get(name)
        if found is None:
            raise DefinitionError(
                f"no view reads a source {name!r}; there are {', '.join(self.repo.sources)}"
            )
        return found

    def _service(self, name: str) -> Service:
        found = self.repo.compiled_services.get(name)
        if found is None:
            known = ", ".join(self.repo.compiled_services) or "none"
            raise DefinitionError(f"{self.path} defines no service {name!r}; there are: {known}")
        return found

    # --- versions ---------------------------------------------------------------------------------

    def plan(self) -> list[Change]:
        """What `apply` would change: nothing is written."""
        return self.registry.plan(self._definitions())

    def apply(self) -> list[Change]:
        """Record the definitions as the current versions and publish the services.

        A changed service goes on serving its old version until `materialize` has filled the new
        one's states (F1).
        """
        definitions = self._definitions()
        store = self.online
        changes = self.registry.apply(definitions)
        for service in self.repo.compiled_services.values():
            publish(store, self.project, service)
        for change in changes:
            if change.kind == "service" and change.action == "remove":
                withdraw(store, self.project, change.name)
        return changes

    def _definitions(self) -> list[Definition]:
        repo = self.repo
        wanted: list[tuple[View | Service, Any]] = [
            *((v, repo.views[n]) for n, v in repo.compiled_views.items()),
            *((s, repo.services[n]) for n, s in repo.compiled_services.items()),
        ]
        return [
            Definition(
                value,
                {
                    "description": written.description,
                    "owner": written.owner,
                    "tags": dict(written.tags),
                },
            )
            for value, written in wanted
        ]

    # --- offline ----------------------------------------------------------------------------------

    def get_historical_features(
        self,
        entity_df: Any,
        service: str,
        *,
        full_feature_names: bool = False,
        statuses: bool = False,
        timezone: str = "UTC",
        known_at: dt.datetime | None = None,
        buckets: int | None = None,
    ) -> TrainingSet:
        """The service's features for each row of `entity_df` as of its `event_timestamp`.

        `entity_df`: a pandas, polars or Arrow table, a DuckDB relation, a list of dicts, or a
        Parquet path, with the join keys, `event_timestamp` (naive ones in `timezone`) and the
        request fields; its rows, order and other columns come back as they are. `statuses=True`
        adds a column `<feature>__status`. `buckets`: join so many parts of the entities one after
        the other, for less memory; by default as feature_store.yaml says, or as the memory limit
        asks. No bit of the result depends on it.

        `known_at` asks what was known by then: events that arrived later do not exist, for labels
        after it neither. So yesterday's training set is made again after late data came in. Every
        source must have a created_timestamp_column, DataError else: rows of files do not say when
        they arrived, although pushed ones do.
        """
        from featurekit.buckets import MOST_BUCKETS
        from featurekit.offline import TrainingSet
        from featurekit.timezones import zone

        zone(timezone)  # a misspelt zone is an error even where no instant is naive
        compiled = self._service(service)
        if known_at is not None:
            _check_arrivals(compiled)
        if buckets is not None and not 1 <= buckets <= MOST_BUCKETS:
            raise ConfigError(f"buckets is a number from 1 to {MOST_BUCKETS:,}, found {buckets!r}")
        return TrainingSet(
            compiled,
            entity_df,
            connect=self._connect,
            snapshot=self._snapshot,
            full_names=full_feature_names,
            statuses=statuses,
            timezone=timezone,
            known_at=None if known_at is None else micros(known_at),
            buckets=buckets or self.config.featurekit.buckets,
        )

    # --- online -----------------------------------------------------------------------------------

    def materialize(
        self, end: dt.datetime | None = None, *, progress: Progress | None = None
    ) -> Materialization:
        """Fill the online states of every applied view with all that arrived up to `end`, now by
        default; services whose views are all filled go live."""
        return self._materialize(end, incremental=False, progress=progress)

    def materialize_incremental(
        self, end: dt.datetime | None = None, *, progress: Progress | None = None
    ) -> Materialization:
        """As `materialize`, but only what arrived since the last time.

        Of a source that does not say when its rows arrived, all of it: a late row cannot be told
        from one that was there before. Of others, the created_timestamp_column is believed: a row
        that lands in the files later than it says waits for the next `materialize`.
        """
        return self._materialize(end, incremental=True, progress=progress)

    def _materialize(
        self, end: dt.datetime | None, *, incremental: bool, progress: Progress | None
    ) -> Materialization:
        from featurekit.materialise import materialize_view
        from featurekit.online.state import NEVER

        store = self.online
        fed = fed_views(store, self.project)
        if not fed:
            raise RegistryError("nothing was applied to this online store; run `featurekit apply`")
        views = [v for v in fed if self._readable(v)]
        until = store.now_us() if end is None else micros(end)
        done: list[Materialized] = []
        with ExitStack() as stack:
            for name in sorted({v.source.name for v in views}):
                stack.enter_context(locked(store, self.project, name))
                settled = store.settled_until(project_key(self.project, "pushes", name))
                until = min(until, settled)
            con = self._connect()
            stack.callback(con.close)
            for view in views:
                known = materialized_until(store, self.project, view)
                partly = incremental and view.arrival_known and known is not None
                after = known if partly and known is not None else NEVER
                if after >= until:
                    continue
                events = self._snapshot(con, view).events

                def report(count: int, total: int, name: str = view.name) -> None:
                    if progress is not None:
                        progress(name, count, total)

                done.append(
                    materialize_view(
                        con,
                        store,
                        self.project,
                        view,
                        events,
                        after=after,
                        until=until,
                        progress=report,
                    )
                )
                set_materialized(store, self.project, view, until)
        return Materialization(instant(until), tuple(done), tuple(promote(store, self.project)))

    def _readable(self, view: View) -> bool:
        """Whether the view's source is defined here as the view was compiled against it.

        A version that is still served, of a source that has changed since, can be fed no more: it
        goes on serving what it has until its successor is live.
        """
        source = self.repo.sources.get(view.source.name)
        return source is not None and compile_source(source) == view.source

    def push(self, source: str, rows: Any) -> Pushed:
        """Take new events of `source`: a dict, a list of dicts, or anything with an Arrow stream.

        Rows are checked first (S1). Each is stamped with the store's clock, unless it brings the
        source's created_timestamp_column. When this returns, the events are in the offline log and
        in the states of every version that is served or waits; a version that was compiled against
        another definition of the source is fed no more, and its successor has them. Where it raises
        they are in neither, but for a Redis that is lost in the midst: then the error says that the
        log has them.

        Of a source with an `event_id` rows may be pushed again, after an error or by two at once:
        what repeats a row that is in force, value for value, keeps its arrival, and the states stay
        as they are, byte for byte. A push of rows that bring arrivals of their own is refused where
        they arrived so long before others that their ids are forgotten (T7): a replay pushes in the
        order of arrival.
        """
        from featurekit.compaction import compact
        from featurekit.push import check, claim, prepare, write
        from featurekit.push_log import write_segment
        from featurekit.sources import read_rows

        definition = self._source(source)
        taken = read_rows(definition, rows, state_dir=self.state_dir)
        store = self.online
        fed = fed_views(store, self.project)
        views = [v for v in fed if v.source.name == source and self._readable(v)]
        if not views:
            raise RegistryError(
                f"no applied service reads source {source!r} as it is defined now; run "
                "`featurekit apply` first"
            )
        own = taken.table.num_rows > taken.table["__created"].null_count
        with locked(store, self.project, source) if own else nullcontext():
            pushes = project_key(self.project, "pushes", source)
            token, now = store.open_push(pushes)
            try:
                table = _stamped(definition, taken.table, [now] * taken.table.num_rows)
                if definition.event_id is not None and not own:
                    rows = table.to_pylist()
                    stamps = claim(store, self.project, views, rows, now)
                    table = _stamped(definition, taken.table, stamps)
                prepared = prepare(self.project, views, table.to_pylist())
                if own:
                    check(store, prepared)
                write_segment(self.state_dir, definition, table)
                try:
                    done = write(store, prepared)
                except OnlineError as error:
                    again = "do not push them again: " if definition.event_id is None else ""
                    raise type(error)(
                        f"{error}\nThe {table.num_rows} rows are in the offline log; {again}"
                        "`featurekit materialize` brings them online"
                    ) from error
            finally:
                store.close_push(pushes, token)
        if self._pushes % _COMPACT_EVERY == 0:
            # The push is done whether this is or not; the next one tries again.
            with suppress(OSError):
                compact(self.state_dir, source)
        self._pushes += 1
        return replace(done, quarantined=taken.quarantined)

    def get_online_features(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """The features of each row (join keys and request fields) as of an instant, now by default.

        Reads the plan and the states from Redis, never the repo's code.
        """
        found = self._services.get(service)
        if found is None:
            mismatch = self.config.featurekit.numeric_mismatch
            found = OnlineService(self.online, self.project, service, on_mismatch=mismatch)
            self._services[service] = found
        return found.get(rows, as_of)

    # --- parity -----------------------------------------------------------------------------------

    def check_parity(
        self,
        service: str,
        *,
        values: int = 100_000,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Compare online with offline, bit for bit, over about `values` values of the service.

        Entities and instants are drawn with `seed`: window edges to the microsecond, arrivals, and
        others. The past is replayed into a scratch Redis; nothing of the live store is touched.
        """
        from featurekit.parity.check import check_parity

        return check_parity(
            self, self._service(service), values=values, seed=seed, progress=progress
        )

    def snapshot(self, con: Any, view: View) -> Events:
        """The events of a view's source, for a DuckDB connection that `connect` gave."""
        return self._snapshot(con, view).events

    def connect(self) -> Any:
        """A DuckDB connection in the session that featurekit's SQL relies on."""
        return self._connect()

    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return live_services(self.online, self.project)


def _check_arrivals(service: Service) -> None:
    for view in service.views:
        if not view.arrival_known:
            raise DataError(
                f"known_at: view {view.name!r} reads source {view.source.name!r}, whose files do "
                "not say when each row arrived, so what was known at an instant cannot be told; "
                "name the column that says it with created_timestamp_column=… at the source, or "
                "leave known_at out"
            )


def _stamped(source: EventSource, table: Any, stamps: list[int]) -> Any:
    """The rows with their arrival: their own, or one of `stamps`, by the store's clock (T3)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    created = pc.coalesce(table["__created"], pa.array(stamps, pa.int64()))
    table = table.set_column(table.column_names.index("__created"), "__created", created)
    column = source.created_timestamp_column
    if column in source.schema:
        assert column is not None
        shown = created.cast(pa.timestamp("us", tz="UTC"))
        table = table.set_column(table.column_names.index(column), column, shown)
    return table
