"""Turns the folder of a feature repo into its parts: settings, definitions, stores and logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.kept import Kept
from featurekit.define.compile_view import compile_source
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Service, View
from featurekit.define.repo import Repo, load_repo
from featurekit.errors import ConfigError, DefinitionError
from featurekit.log.tombstones import Forgotten, has_events, read_secret
from featurekit.log.writer import PushLog
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.protocol import Health, OnlineStore
from featurekit.project.config import load_config
from featurekit.project.deployment import Fed, fed_views, live_services
from featurekit.project.marks import Marks
from featurekit.project.registry import Registry

if TYPE_CHECKING:
    from featurekit.log.served.block import ServedBlock
    from featurekit.log.served.log import ServingLog
    from featurekit.offline.events import EventRows, Snapshot
    from featurekit.offline.training_set import TrainingSet


class Project:
    """The parts of the feature repo in the folder `path`, each opened when it is first needed.

    `name` is the project's name, `config` has the settings of feature_store.yaml, `state_dir` is
    the folder of what is kept beside the repo, and `log` is the log of pushes. `redis_url` is used
    before what the file and the environment say. ConfigError for a folder without a
    feature_store.yaml, or with a wrong one.
    """

    def __init__(self, path: str | Path = ".", *, redis_url: str | None = None) -> None:
        self.path = Path(path).resolve()
        self.config = load_config(self.path)
        self.name = self.config.project
        self.state_dir = self.path / self.config.featurekit.state_dir
        self.redis_url = redis_url
        self.log = PushLog(self.state_dir)
        self.readable = Kept(self._readable)
        """Whether a view's source is defined now as it was when the view was compiled.

        A served version whose source has changed since cannot be fed. It serves the states that it
        has until its successor is live.
        """
        registry = self.config.featurekit.registry
        if registry is not None and "://" in registry:
            raise ConfigError(
                f"featurekit.registry {registry!r}: a registry is a SQLite file; write its path"
            )
        self.registry = Registry(
            self.path / registry if registry else self.state_dir / "registry.db"
        )
        self._repo: Repo | None = None
        self._online: OnlineStore | None = None
        self._services: dict[str, OnlineService] = {}
        self._serving_log: ServingLog | None = None
        self._feeding: Fed | None = None
        self._marks: Marks | None = None

    def close(self) -> None:
        """Close the connections, and write what the serving log still holds. Connections are opened
        again when they are needed."""
        if self._serving_log is not None:
            self._serving_log.close()
            self._serving_log = None
        if self._online is not None:
            self._online.close()
            self._online = None
            self._feeding = self._marks = None
            self._services = {}
        self.log.close()

    async def close_async(self) -> None:
        """Close the connections that lookups made in this event loop."""
        if self._online is not None:
            await self._online.close_async()

    # --- definitions ------------------------------------------------------------------------------

    @property
    def repo(self) -> Repo:
        """The definitions in the folder's modules, compiled."""
        if self._repo is None:
            self._repo = load_repo(self.path)
        return self._repo

    def source(self, name: str) -> EventSource:
        """A source that the repo defines. DefinitionError for another name."""
        found = self.repo.sources.get(name)
        if found is None:
            raise DefinitionError(
                f"no view reads a source {name!r}; there are {', '.join(self.repo.sources)}"
            )
        return found

    def service(self, name: str) -> Service:
        """A service that the repo defines, compiled. DefinitionError for another name."""
        found = self.repo.compiled_services.get(name)
        if found is None:
            known = ", ".join(self.repo.compiled_services) or "none"
            raise DefinitionError(f"{self.path} defines no service {name!r}; there are: {known}")
        return found

    def _readable(self, view: View) -> bool:
        source = self.repo.sources.get(view.source.name)
        return source is not None and compile_source(source) == view.source

    # --- online -----------------------------------------------------------------------------------

    @property
    def online(self) -> OnlineStore:
        """The online store: the Redis that is configured, or the repo's private one."""
        if self._online is None:
            from featurekit.online.store.open import open_store

            url = self.redis_url or self.config.redis_url()
            if url is None:
                from featurekit.online.store.server import private_redis

                url = private_redis(self.state_dir / "redis")
            self._online = open_store(url)
        return self._online

    @property
    def on_mismatch(self) -> str:
        """What to do with a plan from a platform that computes other floats: "refuse" or "warn"
        (R6)."""
        return self.config.featurekit.numeric_mismatch

    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return live_services(self.online, self.name)

    def fed(self) -> list[View]:
        """Every version of a view that pushes and materialisations feed. FingerprintMismatch where
        one was published on a platform that computes other floats (R6)."""
        return fed_views(self.online, self.name, on_mismatch=self.on_mismatch)

    @property
    def feeding(self) -> Fed:
        """The views that pushes feed, as they were last read."""
        if self._feeding is None:
            self._feeding = Fed(self.online, self.name, on_mismatch=self.on_mismatch)
        return self._feeding

    @property
    def marks(self) -> Marks:
        """What is known here of what the online store had."""
        if self._marks is None:
            folder = self.state_dir / "marks"
            self._marks = Marks(self.online, self.name, self.registry, folder)
        return self._marks

    def refuse_eviction(self) -> Health:
        """What the server of the online store says of itself. EvictingStore where it may remove
        states."""
        return self.marks.refuse_eviction(self.config.featurekit.maxmemory_policy)

    def online_service(self, name: str) -> OnlineService:
        """A service, ready for lookups. Its answers go to the serving log, where there is one."""
        found = self._services.get(name)
        if found is None:
            self.marks.check(fed_views(self.online, self.name, on_mismatch="accept"))
            found = OnlineService(
                self.online,
                self.name,
                name,
                on_mismatch=self.on_mismatch,
                log=self.serving_log,
            )
            self._services[name] = found
        return found

    @property
    def serving_log(self) -> ServingLog | None:
        """The log of lookups' answers that `featurekit: serving_log:` configures; None without
        one."""
        config = self.config.featurekit.serving_log
        if self._serving_log is None and config is not None:
            from featurekit.project.served_log import open_log

            self._serving_log = open_log(
                config, self.online, self.name, folder=self.path, state_dir=self.state_dir
            )
        return self._serving_log

    def served(self, log: str | Path | None = None) -> Iterator[ServedBlock]:
        """The blocks of the serving log that is configured, or of `log`: a folder, a file, or
        stream:NAME for a stream in the online store's Redis."""
        from featurekit.project.served_log import read_log

        return read_log(
            self.config.featurekit.serving_log,
            self.online,
            self.name,
            folder=self.path,
            state_dir=self.state_dir,
            log=log,
        )

    # --- offline ----------------------------------------------------------------------------------

    def connect(self) -> Any:
        """A DuckDB connection with the settings that every query relies on, for one piece of
        work."""
        from featurekit.offline.session import connect

        return connect(self.state_dir, memory_limit=self.config.featurekit.memory_limit)

    def forgotten(self, source: EventSource) -> Forgotten:
        """The tombstones that hold for a source's events."""
        tombstones = self.registry.tombstones()
        if not tombstones:
            return Forgotten([], None)
        secret = read_secret(self.state_dir, tombstones)
        views = self.repo.views.values()
        mine = [t for t in tombstones if has_events(views, source, t.entity, dict(t.keys))]
        return Forgotten(mine, secret)

    def snapshot(self, con: Any, view: View, *, marked: bool = False) -> Snapshot:
        """The events of a view's source, without those of forgotten entities, for a connection of
        `connect`.

        Where they are `marked`, the column `__pushed` says whether an event was pushed.
        """
        from featurekit.offline.events import source_events

        source = self.source(view.source.name)
        return source_events(
            con,
            source,
            base=self.path,
            state_dir=self.state_dir,
            forgotten=self.forgotten(source),
            marked=marked,
        )

    def events(self, con: Any, view: View) -> EventRows:
        """The events of `snapshot` alone."""
        return self.snapshot(con, view).events

    def all_events(self, con: Any, source: EventSource) -> str:
        """The events of a source as a relation, including those of forgotten entities, which
        forgetting has to find."""
        from featurekit.offline.events import source_events

        read = source_events(con, source, base=self.path, state_dir=self.state_dir)
        return read.events.relation

    def training_set(self, service: Service, frame: Any) -> TrainingSet:
        """The features of a version of a service for each row of `frame`, under their full names
        and with statuses. `frame` is a table with instants in UTC."""
        from featurekit.offline.training_set import TrainingSet

        return TrainingSet(
            service,
            frame,
            connect=self.connect,
            snapshot=self.snapshot,
            full_names=True,
            statuses=True,
            timezone="UTC",
            buckets=self.config.featurekit.buckets,
        )
