"""The FeatureStore: the one door that users open, a method per verb."""

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

    `path` is the folder of feature_store.yaml. `redis_url` goes before what the file and the
    environment say; without any, a private server keeps its data beside the repo. Nothing but the
    file is read until it is needed. It is a context manager, which closes it.

    ConfigError for a folder without a feature_store.yaml, or with one that is not as it must be.
    """

    def __init__(self, path: str | Path = ".", *, redis_url: str | None = None) -> None:
        self.parts = Project(path, redis_url=redis_url)
        """What the store is made of, which everything below this face takes; not public."""

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections; the store opens them again when it needs them. What the serving
        log holds is written."""
        self.parts.close()

    async def close_async(self) -> None:
        """Let go of the connections that this event loop's lookups have made."""
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
        """What feature_store.yaml says."""
        return self.parts.config

    @property
    def state_dir(self) -> Path:
        """The folder of what is kept beside the repo: registry, log of pushes, private Redis."""
        return self.parts.state_dir

    @property
    def registry(self) -> Registry:
        """Every version of every view and service that was ever applied."""
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
        """The log that lookups go to, as `featurekit: serving_log:` says; None without one."""
        return self.parts.serving_log

    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return self.parts.live()

    def served(self, log: str | Path | None = None) -> Iterator[ServedBlock]:
        """The serving log, block by block: the configured one, or `log`, a folder or a file, or
        stream:NAME, a stream of the online store's Redis. ConfigError where no log is configured
        or named, DataError where there is none."""
        return self.parts.served(log)

    # --- versions ---------------------------------------------------------------------------------

    def plan(self) -> list[Change]:
        """What `apply` would change, one `Change` a view or service; nothing is written.

        UnprovenEngine warns of a DuckDB that was not proven, here as in `get_historical_features`
        and `materialize`."""
        return plan(self.parts)

    def apply(self) -> list[Change]:
        """Record the definitions as the current versions and publish the services; what changed.

        A changed service goes on serving its old version until `materialize` has filled the new
        one's states (F1). RegistryError, and nothing is applied, where a view or source is gone
        from the repo that a service's live version uses until its successor is filled.
        """
        return apply(self.parts)

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
        """The service's features for each row of `entity_df` as of its `event_timestamp`, as a
        `TrainingSet`, which computes them when it is converted.

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
        default; services whose views are all filled go live.

        `views` names those to fill, all others stay as they are. `entities`, each by its join keys,
        puts right the states of these alone, in the views whose join keys these are: up to which
        instant a view is materialised does not change. RegistryError for a view that was not
        applied, EntityFrameError for keys that no view has.
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
        """As `materialize`, but only what arrived since the last time.

        Of a source that does not say when its rows arrived, all of it: a late row cannot be told
        from one that was there before. Of others, the created_timestamp_column is believed: a row
        that lands in the files later than it says waits for the next `materialize`.
        """
        from featurekit.feed.materialise import materialize

        return materialize(self.parts, end, incremental=True, views=views, progress=progress)

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
        """Push the entries of a Redis stream to `source`, as a member of a consumer group, until
        `stop` is set or, with `until_empty`, nothing is left; each counts once, whatever crashes.

        `options` are those of `featurekit.feed.consume.Consumer`: `group`, `name`, `batch`,
        `idle_s` and `url`. DefinitionError for a source without an `event_id` (T7).
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

        return forget(self.parts, entity, keys, rewrite_files=rewrite_files, progress=progress)

    def get_online_features(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """The features of each row (join keys and request fields) as of an instant, now by default.

        Reads the plan and the states from Redis, never the repo's code. As of `OnlineService.get`.
        """
        return self.parts.online_service(service).get(rows, as_of)

    async def get_online_features_async(
        self, service: str, rows: Sequence[Mapping[str, Any]], as_of: dt.datetime | None = None
    ) -> OnlineResult:
        """As `get_online_features`, waiting for Redis without holding up the event loop.

        What the first lookup opens (settings, a private Redis, the plan) it waits for. Each event
        loop has connections of its own: `await store.close_async()` in it at its end.
        """
        return await self.parts.online_service(service).get_async(rows, as_of)

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
