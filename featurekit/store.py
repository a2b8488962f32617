"""The FeatureStore: one feature repo, its registry, its online store, and what joins them."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from featurekit.core.durations import Duration
from featurekit.core.keys import project_key
from featurekit.core.types import instant, micros
from featurekit.define.compile_view import compile_source
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Service, View
from featurekit.define.repo import Repo, load_repo
from featurekit.errors import (
    ConfigError,
    DataError,
    DefinitionError,
    EntityFrameError,
    RegistryError,
)
from featurekit.log.tombstones import Forgotten, has_events, read_secret
from featurekit.log.writer import PushLog
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.config import load_config
from featurekit.project.deployment import (
    Fed,
    fed_views,
    live_services,
    locked,
    materialized_until,
    promote,
    publish,
    set_materialized,
    settled_for_first,
    withdraw,
)
from featurekit.project.gc import Collection, collect
from featurekit.project.registry import Change, Definition, Registry
from featurekit.project.versions import RolledBack, Version, rollback, versions

if TYPE_CHECKING:
    from featurekit.feed.consume import Consumed
    from featurekit.feed.events import Pushed
    from featurekit.feed.forget import Forgot
    from featurekit.feed.materialise import Materialized
    from featurekit.log.served.block import ServedBlock
    from featurekit.log.served.log import ServingLog
    from featurekit.offline.events import EventRows
    from featurekit.offline.training_set import Snapshot, TrainingSet
    from featurekit.parity.budget import Budget
    from featurekit.parity.diagnose.explain import Explanation
    from featurekit.parity.modes.operators import OperatorsReport
    from featurekit.parity.report import Report

Progress = Callable[[str, int, int], None]
"""Called with a view's name, entities done and entities in all."""


_MOST_VIEWS = 256


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
        self._log: ServingLog | None = None
        self._fed_views: Fed | None = None
        self.push_log = PushLog(self.state_dir)
        self._readable: dict[int, tuple[View, EventSource | None, bool]] = {}
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
        """Let go of connections; the store opens them again when it needs them. What the serving
        log holds is written."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._store is not None:
            self._store.close()
            self._store = None
            self._fed_views = None
            self._services = {}
        self.push_log.close()

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
            from featurekit.online.store.redis import RedisStore

            url = self._redis_url or self.config.redis_url()
            if url is None:
                from featurekit.online.store.server import private_redis

                url = private_redis(self.state_dir / "redis")
            self._store = RedisStore(url)
        return self._store

    @property
    def serving_log(self) -> ServingLog | None:
        """The log that lookups go to, as `featurekit: serving_log:` says; None without one."""
        config = self.config.featurekit.serving_log
        if self._log is None and config is not None:
            from featurekit.project.served_log import open_log

            self._log = open_log(
                config, self.online, self.project, folder=self.path, state_dir=self.state_dir
            )
        return self._log

    def _connect(self) -> Any:
        """A DuckDB of its own for one piece of work, in a session as T2 wants it.

        Never a cursor: a function that one cursor registered is freed when that cursor closes,
        while the others still find its name.
        """
        import duckdb

        from featurekit.offline.session import prepare

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
        """The events of a view's source: its files, and what was pushed, without those of entities
        that are forgotten."""
        from featurekit.offline.events import EventRows
        from featurekit.offline.training_set import Snapshot

        source = self.source(view.source.name)
        relation, about, prompt = self._read(con, source)
        forgotten = self.forgotten(source)
        if forgotten:
            relation = forgotten.relation(con, relation)
            about["forgotten"] = sum(map(len, forgotten.groups.values()))
        known = not forgotten and not about["pushed_segments"]
        return Snapshot(EventRows(relation, prompt, about["rows"] if known else None), about)

    def _read(
        self, con: Any, source: EventSource, *, marked: bool = False
    ) -> tuple[str, dict[str, Any], bool]:
        """All events of a source's files and log, what there is to know of them, and whether they
        are prompt; where they are `marked`, with a column that says whether they were pushed."""
        from featurekit.log.relation import log_sql
        from featurekit.log.segments import segments
        from featurekit.sources import read_events

        read = read_events(con, source, base=self.path, state_dir=self.state_dir)
        logged = segments(self.state_dir, source.name)
        relation = read.relation
        if logged or marked:
            columns = ", ".join(f'"{n}"' for n in source.schema)
            columns = f"SELECT {columns}, __ts, __created"
            of_log = [f"UNION ALL {columns}{', TRUE' if marked else ''} FROM {log}"
                      for log in ([log_sql(con, logged, source)] if logged else [])]  # fmt: skip
            mark = ", FALSE AS __pushed" if marked else ""
            relation = f"({columns}{mark} FROM {relation} {' '.join(of_log)})"
        about: dict[str, Any] = {
            "files": [
                {"path": f.path, "bytes": f.size, "mtime_ns": f.mtime_ns} for f in read.files
            ],
            "rows": read.rows,
            "quarantined": read.quarantined,
            "pushed_segments": len(logged),
        }
        return relation, about, source.created_timestamp_column is None and not logged

    def with_forgotten(self, con: Any, source: EventSource) -> str:
        """All events of a source, those of forgotten entities too: for forgetting them."""
        return self._read(con, source)[0]

    def forgotten(self, source: EventSource) -> Forgotten:
        """The tombstones that hold for a source's events."""
        tombstones = self.registry.tombstones()
        if not tombstones:
            return Forgotten([], None)
        secret = read_secret(self.state_dir, tombstones)
        views = self.repo.views.values()
        mine = [t for t in tombstones if has_events(views, source, t.entity, dict(t.keys))]
        return Forgotten(mine, secret)

    def source(self, name: str) -> EventSource:
        """A source that the repo defines. DefinitionError for another."""
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
        one's states (F1). RegistryError, and nothing is applied, where a view or source is gone
        from the repo that a service's live version uses until its successor is filled.
        """
        definitions = self._definitions()
        store = self.online
        self._refuse_removal()
        changes = self.registry.apply(definitions)
        for service in self.repo.compiled_services.values():
            publish(store, self.project, service)
        for change in changes:
            if change.kind == "service" and change.action == "remove":
                withdraw(store, self.project, change.name)
        return changes

    def versions(self, service: str) -> list[Version]:
        """Every version of a service that was ever applied, oldest first: who applied it and when,
        and whether it is live, waits, is retained or is fed no more. RegistryError for an unknown
        service."""
        return versions(self.online, self.project, self.registry, service)

    def rollback(self, service: str, to: str | None = None) -> RolledBack:
        """Serve an older version of a service again: `to`, a fingerprint or its beginning, or the
        version that was live before the one that is.

        A version that was fed all along, as the retained one is, goes live at once, by one write.
        Another is published as the next one, and goes live when `materialize` has filled it. With
        the live version as `to`, the one that waits is withdrawn. It holds until the next `apply`,
        which publishes what the repo says.

        RegistryError for an unknown service or fingerprint, for the version that is live where none
        waits, and for one that reads a source that the repo defines otherwise now.
        """
        return rollback(
            self.online,
            self.project,
            self.registry,
            service,
            to=to,
            readable=self.readable,
        )

    def gc(
        self,
        versions: Sequence[str] = (),
        *,
        retained: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Collection:
        """Remove the online states and plans of versions that no service uses: neither live, next
        nor, unless `retained`, retained. With `retained`, what is retained now is let go of first,
        and rolling back to it takes a materialisation.

        `versions` removes those only, each "name" or "name:fingerprint" of a view or service, the
        fingerprint or its beginning. RegistryError where one is in use, or is not there. Pushes,
        materialisations and publishing may go on meanwhile. With `dry_run` nothing is removed.
        """
        return collect(
            self.online,
            self.project,
            only=versions,
            retained=retained,
            dry_run=dry_run,
            progress=progress or (lambda done, total: None),
        )

    def _refuse_removal(self) -> None:
        """RegistryError where the repo lacks what a live service needs until the version that does
        not need it is live."""
        repo = self.repo
        for name, live in self.live().items():
            wanted = repo.compiled_services.get(name)
            if wanted is None or wanted.fingerprint == live.fingerprint:
                continue  # it is withdrawn, or stays
            until = [materialized_until(self.online, self.project, v) for v in wanted.views]
            if None not in until:
                continue  # it is replaced at once
            for view in live.views:
                for kind, what, there in (
                    ("view", view.name, view.name in repo.views),
                    ("source", view.source.name, view.source.name in repo.sources),
                ):
                    if not there:
                        raise RegistryError(
                            f"the repo defines no {kind} {what!r} any more, and the live version "
                            f"of service {name!r} still uses it; nothing was applied. Put it back, "
                            "apply, materialise, and remove it when the new version is live"
                        )

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
        entity_df: Any = None,
        service: str | None = None,
        *,
        features: str | None = None,
        at: Sequence[dt.datetime] | None = None,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        every: Duration | None = None,
        entities: str | None = None,
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
        adds a column `<feature>__status`. `features` is another name for `service`. `buckets`: join
        so many parts of the entities one after the other, for less memory; by default as
        feature_store.yaml says, or as the memory limit asks. No bit of the result depends on it.

        Without `entity_df`, the rows are every entity that is known, which it is from its first
        visible event on, at each instant of `at`, or at `start`, one `every` later, and so on until
        `end`; in the order of the instants, then of the join keys. For a service whose views are of
        different entities, `entities` names the view whose events tell which go together.

        `known_at` asks what was known by then: events that arrived later do not exist, for labels
        after it neither. So yesterday's training set is made again after late data came in. Every
        source must have a created_timestamp_column, DataError else: rows of files do not say when
        they arrived, although pushed ones do.
        """
        from featurekit.core.timezones import zone
        from featurekit.offline.buckets import MOST_BUCKETS
        from featurekit.offline.known_entities import known_entities
        from featurekit.offline.training_set import TrainingSet

        zone(timezone)  # a misspelt zone is an error even where no instant is naive
        if (service is None) == (features is None):
            raise DefinitionError("name one service, as service= or as features=")
        compiled = self._service(service or features or "")
        if known_at is not None:
            _check_arrivals(compiled)
        wanted = {"at": at, "start": start, "end": end, "every": every, "entities": entities}
        if entity_df is None:
            entity_df = known_entities(
                compiled,
                at=at,
                start=start,
                end=end,
                every=every,
                view=entities,
                timezone=timezone,
            )
        elif any(value is not None for value in wanted.values()):
            named = ", ".join(f"{name}=" for name, value in wanted.items() if value is not None)
            raise EntityFrameError(
                f"entity frame: it says which entities and instants are meant; leave out {named}"
            )
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
        self,
        end: dt.datetime | None = None,
        *,
        views: Sequence[str] | None = None,
        entities: Sequence[Mapping[str, Any]] | None = None,
        progress: Progress | None = None,
    ) -> Materialization:
        """Fill the online states of every applied view with all that arrived up to `end`, now by
        default; services whose views are all filled go live.

        `views` names those to fill, all others stay as they are. `entities`, each by its join keys,
        puts right the states of these alone, in the views whose join keys these are: up to which
        instant a view is materialised does not change. RegistryError for a view that was not
        applied, EntityFrameError for keys that no view has.
        """
        return self._materialize(
            end, incremental=False, views=views, entities=entities, progress=progress
        )

    def materialize_incremental(
        self,
        end: dt.datetime | None = None,
        *,
        views: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Materialization:
        """As `materialize`, but only what arrived since the last time.

        Of a source that does not say when its rows arrived, all of it: a late row cannot be told
        from one that was there before. Of others, the created_timestamp_column is believed: a row
        that lands in the files later than it says waits for the next `materialize`.
        """
        return self._materialize(
            end, incremental=True, views=views, entities=None, progress=progress
        )

    def _materialize(
        self,
        end: dt.datetime | None,
        *,
        incremental: bool,
        views: Sequence[str] | None,
        entities: Sequence[Mapping[str, Any]] | None,
        progress: Progress | None,
    ) -> Materialization:
        from featurekit.core.status import NEVER
        from featurekit.feed.materialise import materialize_view
        from featurekit.feed.selection import of_entities, of_names

        store = self.online
        fed = self._fed()
        if not fed:
            raise RegistryError("nothing was applied to this online store; run `featurekit apply`")
        named = of_names(fed, views)
        chosen = [v for v in named if self.readable(v)]
        if views is not None and (lost := {v.name for v in named} - {v.name for v in chosen}):
            raise RegistryError(
                f"{', '.join(sorted(lost))}: no applied version reads its source as the repo "
                "defines it now; run `featurekit apply` first"
            )
        only = None if entities is None else of_entities(chosen, entities)
        if only is not None:
            chosen = [v for v, asked in zip(chosen, only, strict=True) if asked]
            only = [asked for asked in only if asked]
        until = store.now_us() if end is None else micros(end)
        done: list[Materialized] = []
        with ExitStack() as stack:
            for name in sorted({v.source.name for v in chosen}):
                stack.enter_context(locked(store, self.project, name))
                first = any(
                    materialized_until(store, self.project, v) is None
                    for v in chosen
                    if v.source.name == name
                )
                if first and end is None:
                    settled = settled_for_first(store, self.project, name)
                else:
                    settled = store.settled_until(project_key(self.project, "pushes", name))
                until = min(until, settled)
            con = self._connect()
            stack.callback(con.close)
            for i, view in enumerate(chosen):
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
                        only=None if only is None else only[i],
                        progress=report,
                    )
                )
                if only is None:
                    set_materialized(store, self.project, view, until)
        return Materialization(instant(until), tuple(done), tuple(promote(store, self.project)))

    def _fed(self) -> list[View]:
        mismatch = self.config.featurekit.numeric_mismatch
        return fed_views(self.online, self.project, on_mismatch=mismatch)

    @property
    def feeding(self) -> Fed:
        """What pushes feed, as it was when it was last read."""
        if self._fed_views is None:
            mismatch = self.config.featurekit.numeric_mismatch
            self._fed_views = Fed(self.online, self.project, on_mismatch=mismatch)
        return self._fed_views

    def handshake(self) -> None:
        """FingerprintMismatch where what is published here was published on a platform that
        computes other bits than this one; a warning where `numeric_mismatch` says so (R6)."""
        self._fed()

    def readable(self, view: View) -> bool:
        """Whether the view's source is defined here as the view was compiled against it.

        A version that is still served, of a source that has changed since, can be fed no more: it
        goes on serving what it has until its successor is live.
        """
        source = self.repo.sources.get(view.source.name)
        known = self._readable.get(id(view))  # an id is another's only when its view is gone
        if known is None or known[0] is not view or known[1] is not source:
            same = source is not None and compile_source(source) == view.source
            if len(self._readable) >= _MOST_VIEWS:
                self._readable.clear()
            known = self._readable[id(view)] = view, source, same
        return known[2]

    def push(self, source: str, rows: Any) -> Pushed:
        """Take new events of `source`: a dict, a list of dicts, or anything with an Arrow stream.

        Rows are checked first (S1). Each is stamped with the store's clock, unless it brings the
        source's created_timestamp_column. When this returns, the events are in the offline log and
        in the states of every version that is served or waits; a version that was compiled against
        another definition of the source is fed no more, and its successor has them. Where it raises
        they are in neither, but for a Redis that is lost in the midst: then the error says that the
        log has them. Events of an entity that was forgotten since they arrived are left out, and
        counted.

        Of a source with an `event_id` rows may be pushed again, after an error or by two at once:
        what repeats a row that is in force, value for value, keeps its arrival, and the states stay
        as they are, byte for byte. A push of rows that bring arrivals of their own is refused where
        they arrived so long before others that their ids are forgotten (T7): a replay pushes in the
        order of arrival.
        """
        from featurekit.feed.push import take

        return take(self, source, rows)

    def forget(
        self,
        entity: str,
        keys: Mapping[str, Any],
        *,
        rewrite_files: bool = False,
        progress: Progress | None = None,
    ) -> Forgot:
        """Remove the events and states of one entity, named by its join keys, and record it.

        What arrived until now is read by nothing any more, whatever files bring it back: no
        training set, no materialisation, no parity check. States of every version of every view
        that is keyed by the entity, alone or with others, go; those of other views over the same
        events are made anew without them. The log of pushes is rewritten. Files of sources are
        listed, and rewritten only with `rewrite_files`. What arrives from now on is a new start.

        The registry keeps who asked for it, when, and a keyed hash of the keys. DefinitionError for
        an unknown entity, EntityFrameError for other keys or values of another type.
        """
        from featurekit.feed.forget import forget

        return forget(
            self,
            entity,
            keys,
            rewrite_files=rewrite_files,
            progress=progress or (lambda what, done, total: None),
        )

    def consume(
        self,
        source: str,
        *,
        stream: str | None = None,
        until_empty: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[Consumed], None] = lambda done: None,
        **options: Any,
    ) -> Consumed:
        """Push the entries of a Redis stream to `source`, as a member of a consumer group, until
        `stop` is set or, with `until_empty`, nothing is left; each counts once, whatever crashes.

        `options` are those of `feed.consume.Consumer`: group, name, batch, idle_s and url.
        """
        from featurekit.feed.consume import Consumer

        made = Consumer(self, source, stream=stream, **options)
        return made.run(until_empty=until_empty, stop=stop, progress=progress)

    def get_online_features(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """The features of each row (join keys and request fields) as of an instant, now by default.

        Reads the plan and the states from Redis, never the repo's code.
        """
        return self._online_service(service).get(rows, as_of)

    async def get_online_features_async(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """As `get_online_features`, waiting for Redis without holding up the event loop.

        What the first lookup opens (settings, a private Redis, the plan) it waits for. Each event
        loop has connections of its own: `await store.close_async()` in it at its end.
        """
        return await self._online_service(service).get_async(rows, as_of)

    async def close_async(self) -> None:
        """Let go of the connections that this event loop's lookups have made."""
        if self._store is not None:
            await self._store.close_async()

    def _online_service(self, service: str) -> OnlineService:
        found = self._services.get(service)
        if found is None:
            mismatch = self.config.featurekit.numeric_mismatch
            log = self.serving_log
            found = OnlineService(self.online, self.project, service, on_mismatch=mismatch, log=log)
            self._services[service] = found
        return found

    def explain(
        self,
        service: str,
        feature: str,
        row: Mapping[str, Any],
        as_of: dt.datetime | None = None,
    ) -> Explanation:
        """How one value came about, offline from files and log and online from the live state: the
        events that counted, those that nearly did with the rule that left each out, and the steps
        between, of a transform node by node.

        `feature` is an output's name, or view__feature; `row` brings the join keys and request
        fields; as of an instant, now by default. Only reads. DefinitionError for an unknown service
        or feature, EntityFrameError for a row that the service does not take; where online does not
        answer, as for an instant before its horizon, a note says why.
        """
        from featurekit.parity.diagnose.explain import explain

        return explain(self, self._service(service), feature, row, as_of)

    # --- parity -----------------------------------------------------------------------------------

    @overload
    def check_parity(
        self,
        service: None = None,
        *,
        mode: Literal["operators"],
        budget: str | int | Budget | None = None,
        values: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> OperatorsReport: ...

    @overload
    def check_parity(
        self,
        service: str,
        *,
        mode: str = "history",
        budget: str | int | Budget | None = None,
        values: int | None = None,
        seed: int = 0,
        workers: int | None = None,
        log: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report: ...

    def check_parity(
        self,
        service: str | None = None,
        *,
        mode: str = "history",
        budget: str | int | Budget | None = None,
        values: int | None = None,
        seed: int = 0,
        workers: int | None = None,
        log: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report | OperatorsReport:
        """Compare online with offline, bit for bit; nothing of the live store is changed.

        `mode` "history" asks about what the files and the log of pushes hold: entities and instants
        are drawn with `seed`, window edges to the microsecond, arrivals, and others, and the past
        is replayed into a scratch Redis. "fuzz" needs no data: it invents events from the schemas
        of the service's sources, hostile ones, and plays them through both paths by `workers`
        processes (by default, one for each processor). "sample" reads entities from the live store
        and compares them with offline at one instant. "replay" recomputes what the serving log
        says was served; `log` is another one than the configured (see `served`). Both tell values
        that lag, since events are not online yet, from those that differ. "operators" is about the
        operator table, and no service: it gives an `OperatorsReport`.

        `budget` is a number of values or a duration ("30s"); by default 100,000 values, in "fuzz"
        and "operators" 1,000,000. `values` is another name for a number of values. With values, the
        same seed asks the same questions.
        """
        from featurekit.parity.budget import as_budget

        if budget is not None and values is not None:
            raise DefinitionError("check_parity: give budget= or values=, not both")
        if mode == "operators":
            from featurekit.parity.modes.operators import check_operators

            if service is not None:
                raise DefinitionError('check_parity: mode "operators" is about no service')
            every = as_budget(values if budget is None else budget, default=1_000_000)
            return check_operators(budget=every, seed=seed, progress=progress)
        if service is None:
            raise DefinitionError(f"check_parity: mode {mode!r} takes the name of a service")
        compiled = self._service(service)
        if mode == "fuzz":
            from featurekit.parity.modes.fuzz.fuzz import fuzz

            return fuzz(
                compiled,
                self.repo.sources,
                budget=as_budget(values if budget is None else budget, default=1_000_000),
                seed=seed,
                workers=workers,
                progress=progress,
            )
        if mode == "replay":
            from featurekit.parity.modes.replay import replay

            limit = values if budget is None else budget
            (report,) = replay(
                self,
                [service],
                self.served(log),
                budget=None if limit is None else as_budget(limit, default=1),
                seed=seed,
                progress=None if progress is None else lambda done: progress(done, done),
            )
            return report
        if mode == "sample":
            from featurekit.parity.modes.sample import LiveCheck

            with closing(LiveCheck(self, service, seed=seed, workers=workers)) as check:
                return check.run(
                    as_budget(values if budget is None else budget, default=100_000),
                    progress=progress,
                )
        if mode != "history":
            raise DefinitionError(
                'check_parity: mode is "history", "fuzz", "sample", "replay" or "operators", '
                f"not {mode!r}"
            )
        from featurekit.parity.modes.history import check_parity

        return check_parity(
            self,
            compiled,
            budget=as_budget(values if budget is None else budget, default=100_000),
            seed=seed,
            progress=progress,
        )

    def served(self, log: str | Path | None = None) -> Iterator[ServedBlock]:
        """The serving log, block by block: the configured one, or `log`, a folder or a file, or
        stream:NAME, a stream of the online store's Redis."""
        from featurekit.project.served_log import read_log

        return read_log(
            self.config.featurekit.serving_log,
            self.online,
            self.project,
            folder=self.path,
            state_dir=self.state_dir,
            log=log,
        )

    def training_set(self, service: Service, frame: Any) -> TrainingSet:
        """As `get_historical_features`, of a version of a service, with full names and statuses."""
        from featurekit.offline.training_set import TrainingSet

        return TrainingSet(
            service,
            frame,
            connect=self._connect,
            snapshot=self._snapshot,
            full_names=True,
            statuses=True,
            timezone="UTC",
            buckets=self.config.featurekit.buckets,
        )

    def marked_events(self, con: Any, view: View) -> str:
        """The events of a view's source as a relation that says of each whether it was pushed, in
        a column `__pushed`."""
        source = self.source(view.source.name)
        relation = self._read(con, source, marked=True)[0]
        forgotten = self.forgotten(source)
        return forgotten.relation(con, relation) if forgotten else relation

    def snapshot(self, con: Any, view: View) -> EventRows:
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
