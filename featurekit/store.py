"""The FeatureStore, the entrance for users: it has a method for each verb."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from featurekit.core.durations import Duration
from featurekit.core.screen import Advance, Progress
from featurekit.define.plan import Service
from featurekit.define.proven import warn_unproven
from featurekit.define.repo import Repo
from featurekit.errors import DefinitionError
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.apply import apply, plan
from featurekit.project.config import RepoConfig
from featurekit.project.gc import Collection, collect
from featurekit.project.project import Project
from featurekit.project.registry import Change, Registry
from featurekit.project.versions import RolledBack, Version, rollback, versions

if TYPE_CHECKING:
    from featurekit.feed.consume import Consumed
    from featurekit.feed.events import Pushed
    from featurekit.feed.forget import Forgot
    from featurekit.feed.materialise import Materialization
    from featurekit.log.served.block import ServedBlock
    from featurekit.log.served.log import ServingLog
    from featurekit.offline.training_set import TrainingSet
    from featurekit.parity.budget import Budget
    from featurekit.parity.diagnose.explanation import Explanation
    from featurekit.parity.modes.operators import OperatorsReport
    from featurekit.parity.report import Report


class FeatureStore:
    """A feature repo, opened: plan and apply definitions, fetch training data, serve and push.

    `path` is the folder of feature_store.yaml. `redis_url` is used before what the file and the
    environment say; without any, a private server keeps its data beside the repo. Only the file is
    read at first; everything else is opened when it is needed. As a context manager, the store
    closes itself at the end.

    ConfigError for a folder without a feature_store.yaml, or with a wrong one.
    """

    def __init__(self, path: str | Path = ".", *, redis_url: str | None = None) -> None:
        self.parts = Project(path, redis_url=redis_url)
        """The project, which everything below this class takes; not public."""

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and write what the serving log still holds. The store opens
        connections again when it needs them."""
        self.parts.close()

    async def close_async(self) -> None:
        """Close the connections that lookups made in this event loop."""
        await self.parts.close_async()

    # --- what it is made of -----------------------------------------------------------------------

    @property
    def project(self) -> str:
        """The project's name."""
        return self.parts.name

    @property
    def path(self) -> Path:
        """The folder of the repo."""
        return self.parts.path

    @property
    def config(self) -> RepoConfig:
        """The settings of feature_store.yaml."""
        return self.parts.config

    @property
    def state_dir(self) -> Path:
        """The folder of what is kept beside the repo: registry, log of pushes, private Redis."""
        return self.parts.state_dir

    @property
    def registry(self) -> Registry:
        """The registry: every version of every view and service that was ever applied."""
        return self.parts.registry

    @property
    def repo(self) -> Repo:
        """The definitions in the folder's modules, compiled. DefinitionError where one is wrong."""
        return self.parts.repo

    @property
    def online(self) -> OnlineStore:
        """The online store: the Redis that is configured, or the repo's private one."""
        return self.parts.online

    @property
    def serving_log(self) -> ServingLog | None:
        """The log of lookups' answers that `featurekit: serving_log:` configures; None without
        one."""
        return self.parts.serving_log

    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return self.parts.live()

    def served(self, log: str | Path | None = None) -> Iterator[ServedBlock]:
        """The blocks of the serving log that is configured, or of `log`.

        `log` is a folder or a file, or stream:NAME for a stream in the online store's Redis.
        ConfigError where no log is configured or named, DataError where there is none.
        """
        return self.parts.served(log)

    # --- versions ---------------------------------------------------------------------------------

    def plan(self) -> list[Change]:
        """What `apply` would change, as one `Change` for each view or service; nothing is written.

        UnprovenEngine warns of a version of DuckDB that was not proven. `get_historical_features`
        and `materialize` warn, too.
        """
        return plan(self.parts)

    def apply(self) -> list[Change]:
        """Record the definitions as the current versions, and publish the services; the changes
        made.

        A changed service serves its old version until `materialize` has filled the states of the
        new one (F1). Where the sources of a service have neither a file nor a pushed row, there is
        nothing to fill, and it goes live at once. RegistryError, with nothing applied, where the
        repo lacks a view or source that a service's live version uses until its successor is
        filled.
        """
        return apply(self.parts)

    def versions(self, service: str) -> list[Version]:
        """Every version of a service that was ever applied, oldest first.

        A version has who applied it and when, and whether it is live, waits, is retained or is not
        fed. RegistryError for an unknown service.
        """
        return versions(self.online, self.project, self.registry, service)

    def rollback(self, service: str, to: str | None = None) -> RolledBack:
        """Make an older version of a service live again.

        `to` is its fingerprint, or the beginning of it; by default, the version that was live
        before the present one. It holds until the next `apply`, which publishes what the repo says.

        A version that was fed all along, as the retained one is, goes live at once, by one write.
        Another one is published as the next version, and goes live when `materialize` has filled
        it. With the live version as `to`, the version that waits is withdrawn.

        RegistryError for an unknown service or fingerprint, for the live version where none waits,
        and for a version that reads a source that the repo defines otherwise now.
        """
        readable = self.parts.readable
        return rollback(self.online, self.project, self.registry, service, to=to, readable=readable)

    def gc(
        self,
        versions: Sequence[str] = (),
        *,
        retained: bool = False,
        dry_run: bool = False,
        progress: Advance | None = None,
    ) -> Collection:
        """Remove the online states and plans of versions that no service uses, and report what was
        found.

        A version is used while it is live, next or retained. With `retained`, the versions retained
        now are released first, and to roll back to one takes a materialisation. `versions` limits
        the removal to these: each is "name" or "name:fingerprint" of a view or service, where the
        beginning of the fingerprint is enough. With `dry_run` nothing is removed.

        Pushes, materialisations and publishing may go on meanwhile. RegistryError where one of
        `versions` is in use, or is not there.
        """
        return collect(
            self.online,
            self.project,
            only=versions,
            retained=retained,
            dry_run=dry_run,
            progress=progress or (lambda done, total: None),
        )

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
        """The service's features for each row of `entity_df`, as of the row's `event_timestamp`
        (T3).

        The result is a `TrainingSet`, which computes them when it is converted. `entity_df` is a
        pandas, polars or Arrow table, a DuckDB relation, a list of dicts, or the path of a Parquet
        file. It has the join keys, `event_timestamp` (naive ones are in `timezone`) and the request
        fields. Its rows, their order and its other columns come back as they are. `statuses=True`
        adds a column `<feature>__status` for each feature. `features` is another name for
        `service`. `buckets` is the number of parts of the entities that are joined one after the
        other, to save memory; by default, what feature_store.yaml says or the memory limit asks
        for. No bit of the result depends on it.

        Without `entity_df`, the rows are every known entity at each instant of `at`, or at `start`,
        at one `every` later, and so on until `end`. An entity is known from its first visible event
        on. The rows are in the order of the instants, then of the join keys. Where the service's
        views are of different entities, `entities` names the view whose events say which entities
        go together.

        `known_at` asks for what was known by then: events that arrived later do not count, not even
        for labels after it. So yesterday's training set can be made again after late data came in.
        It needs a created_timestamp_column in every source, and raises DataError without one: rows
        of files do not say when they arrived, although pushed ones do.
        """
        from featurekit.offline.historical import Grid, historical_features

        if (service is None) == (features is None):
            raise DefinitionError("name one service, as service= or as features=")
        warn_unproven(self.parts.state_dir)
        return historical_features(
            self.parts.service(service or features or ""),
            entity_df,
            Grid(at, start, end, every, entities),
            connect=self.parts.connect,
            snapshot=self.parts.snapshot,
            full_names=full_feature_names,
            statuses=statuses,
            timezone=timezone,
            known_at=known_at,
            buckets=buckets,
            default_buckets=self.config.featurekit.buckets,
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
        default.

        Services whose views are all filled go live. `views` names the views to fill; all others
        stay as they are. `entities`, each given by its join keys, limits the run to their states,
        in the views that have these join keys; then the instant up to which a view counts as
        materialised does not change.

        RegistryError for a view that was not applied, EntityFrameError for keys that no view has.
        """
        from featurekit.feed.materialise import materialize

        return materialize(self.parts, end, views=views, entities=entities, progress=progress)

    def materialize_incremental(
        self,
        end: dt.datetime | None = None,
        *,
        views: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Materialization:
        """As `materialize`, but it reads only what arrived since the last time.

        A source that does not say when its rows arrived is read whole: a late row cannot be told
        from one that was there before. For other sources the created_timestamp_column is believed:
        a row that reaches the files later than its column says waits for the next `materialize`.
        """
        from featurekit.feed.materialise import materialize

        return materialize(self.parts, end, incremental=True, views=views, progress=progress)

    def push(self, source: str, rows: Any) -> Pushed:
        """Take new events of `source`: a dict, a list of dicts, or anything with an Arrow stream.

        Rows are checked first (S1). Each is stamped with the store's clock, unless it brings the
        source's created_timestamp_column. When this returns, the events are in the offline log and
        in the states of every version that is live, next or retained. A version that was compiled
        against another definition of the source is not fed; its successor is. Events of an entity
        that was forgotten after they arrived are left out, and counted.

        Where this raises, the events are in neither. The exception is a Redis that is lost half
        way: then the error says that the log has them.

        A source with an `event_id` takes rows that are pushed again, after an error or by two at
        once. A row that repeats one in force, value for value, keeps that row's arrival, and the
        states stay as they are, byte for byte. Rows with arrivals of their own are refused where
        they arrived so long before others that their ids are forgotten (T7): a replay pushes in the
        order of arrival.
        """
        from featurekit.feed.push import take

        return take(self.parts, source, rows)

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
        """Push the entries of a Redis stream to `source`, as a member of a consumer group.

        It runs until `stop` is set or, with `until_empty`, nothing is left. Each entry counts once,
        even after a crash. `options` are those of `featurekit.feed.consume.Consumer`: `group`,
        `name`, `batch`, `idle_s` and `url`. DefinitionError for a source without an `event_id`
        (T7).
        """
        from featurekit.feed.consume import Consumer

        made = Consumer(self.parts, source, stream=stream, **options)
        return made.run(until_empty=until_empty, stop=stop, progress=progress)

    def forget(
        self,
        entity: str,
        keys: Mapping[str, Any],
        *,
        rewrite_files: bool = False,
        progress: Progress | None = None,
    ) -> Forgot:
        """Remove the events and states of one entity, given by its join keys, and record the
        removal.

        Nothing reads the events that arrived until now any more, whatever files bring them back: no
        training set, no materialisation, no parity check. For every version of every view keyed by
        the entity, alone or with others, its states are removed. States of other views over the
        same events are computed again without them. The log of pushes is rewritten. Files of
        sources are listed, and rewritten only with `rewrite_files`. Events that arrive from now on
        are a new start. The registry keeps who asked for the removal, when, and a keyed hash of the
        keys.

        DefinitionError for an unknown entity, EntityFrameError for other keys or values of another
        type.
        """
        from featurekit.feed.forget import forget

        return forget(self.parts, entity, keys, rewrite_files=rewrite_files, progress=progress)

    def get_online_features(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """The features of each row (join keys and request fields) as of an instant, now by default.

        It reads the plan and the states from Redis, never the repo's code. It raises as
        `OnlineService.get`.
        """
        return self.parts.online_service(service).get(rows, as_of)

    async def get_online_features_async(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """As `get_online_features`, without blocking the event loop while Redis is read.

        The first lookup still blocks while it opens settings, a private Redis and the plan. Each
        event loop has its own connections: await `store.close_async()` in it at its end.
        """
        return await self.parts.online_service(service).get_async(rows, as_of)

    def explain(
        self,
        service: str,
        feature: str,
        row: Mapping[str, Any],
        as_of: dt.datetime | None = None,
    ) -> Explanation:
        """How one value came about, offline from files and log, and online from the live state.

        It lists the events that counted, those that nearly did with the rule that left each out,
        and the steps between, for a transform node by node. `feature` is an output's name, or
        view__feature. `row` has the join keys and request fields. The instant is now by default.
        Nothing is changed.

        DefinitionError for an unknown service or feature, EntityFrameError for a row that the
        service does not take. Where online does not answer, as for an instant before its horizon, a
        note says why.
        """
        from featurekit.parity.diagnose.explain import explain

        return explain(self.parts, self.parts.service(service), feature, row, as_of)

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
        progress: Advance | None = None,
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
        progress: Advance | None = None,
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
        progress: Advance | None = None,
    ) -> Report | OperatorsReport:
        """Compare online with offline, bit for bit; nothing in the live store is changed.

        `mode` is one of these:

        - "history" asks about what the files and the log of pushes hold. It draws entities and
          instants with `seed`, among them window edges to the microsecond and arrivals, and replays
          the past into a scratch Redis.
        - "fuzz" needs no data. It invents events from the schemas of the service's sources, hostile
          ones among them, and plays them through both paths with `workers` processes (by default,
          one for each processor).
        - "sample" reads entities from the live store, and compares them with offline at one
          instant.
        - "replay" recomputes what the serving log says was served; `log` names another log than the
          configured one (see `served`).
        - "operators" checks the operator table. It takes no service, and gives an
          `OperatorsReport`.

        "sample" and "replay" tell values that differ from values that lag, since their events are
        not online yet. `budget` is a number of values or a duration ("30s"). By default it is
        100,000 values; in "fuzz" and "operators" 1,000,000. `values` is another name for a number
        of values. With a number of values, the same seed asks the same questions.
        """
        from featurekit.parity.check import Check, check_operators, check_parity

        if budget is not None and values is not None:
            raise DefinitionError("check_parity: give budget= or values=, not both")
        check = Check(values if budget is None else budget, seed, workers, log, progress)
        if mode == "operators":
            if service is not None:
                raise DefinitionError('check_parity: mode "operators" is about no service')
            return check_operators(self.parts, check)
        if service is None:
            raise DefinitionError(f"check_parity: mode {mode!r} takes the name of a service")
        return check_parity(self.parts, service, mode, check)
