"""Turns the folder of a feature repo into its parts: settings, definitions, stores and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.calls import near
from featurekit.core.files import scratch_folder
from featurekit.core.kept import Kept
from featurekit.core.keys import clock_key
from featurekit.core.openness import declare
from featurekit.core.signing import PrivateKey
from featurekit.define.compile_view import compile_source
from featurekit.define.contracts.compiled import check_lists
from featurekit.define.definitions import EventSource
from featurekit.define.modules import Watched
from featurekit.define.plan import Part, Service, View
from featurekit.define.published import Signer, Trust
from featurekit.define.repo import Repo, load_repo, refuse_unused, repo_of, same_definition
from featurekit.errors import ConfigError, DefinitionError, StoreUnavailable
from featurekit.log.tombstones import Forgotten, Tombstone, key_columns, read_secret, secret_path
from featurekit.log.writer import PushLog
from featurekit.online.lookup.service import OnlineService
from featurekit.online.lookup.version import ServiceVersion, named_version
from featurekit.online.store.clock import Clock, own_clock
from featurekit.online.store.protocol import Health, OnlineStore
from featurekit.project.audit import Audit
from featurekit.project.carried import has_keys
from featurekit.project.config import find_repo, load_config, settings_of, settings_stamp
from featurekit.project.deployment import (
    Fed,
    fed_version,
    fed_views,
    live_services,
    until_key,
)
from featurekit.project.deprecations import Notices
from featurekit.project.keys import private_key, signer_of, trust_of
from featurekit.project.marks import Marks
from featurekit.project.ownership import (
    check,
    check_forgotten,
    check_value,
    claim,
    is_behind,
    lost_registry,
    record,
)
from featurekit.project.registry import Registry
from featurekit.project.registry_file import RegistryFile
from featurekit.project.registry_tables import Kept as RegistryKept

if TYPE_CHECKING:
    from featurekit.log.served.block import ServedBlock
    from featurekit.log.served.log import ServingLog
    from featurekit.offline.engines.spread import Elsewhere
    from featurekit.offline.events import EventRows, Snapshot
    from featurekit.offline.training_set import TrainingSet
    from featurekit.project.lineage.teller import Teller
    from featurekit.project.served_log import Place


class Project:
    """The parts of the feature repo in the folder `path`, each opened when it is first needed.

    `name` is the project's name, `config` has the settings of feature_store.yaml, `state_dir` is
    the folder of what is kept beside the repo, and `log` is the log of pushes. `redis_url` is used
    before what the file and the environment say. `path` may be a sub-folder of the repo.
    ConfigError for a folder that is in no repo, or in one with a wrong feature_store.yaml.

    With `definitions` these are the repo, and no module is run; without a `path` there are no
    settings either: the state is in `state_folder`, or in a temporary folder and an online store in
    memory, the project's name is `name`, and paths of sources are relative to the present folder.
    """

    def __init__(
        self,
        path: str | Path | None = ".",
        *,
        redis_url: str | None = None,
        definitions: Iterable[Any] | None = None,
        state_folder: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        self.has_folder = path is not None
        self.path = Path.cwd() if path is None else find_repo(Path(path))
        self.config = load_config(self.path) if self.has_folder else settings_of(name)
        self.name = self.config.project
        self.definitions = None if definitions is None else list(definitions)
        """What was given in the place of a folder's modules; None where there is a folder."""
        self.in_memory = not self.has_folder and state_folder is None and redis_url is None
        if self.has_folder:
            self.state_dir = self.path / self.config.featurekit.state_dir
        else:
            self.state_dir = Path(state_folder).resolve() if state_folder else scratch_folder(self)
        self.redis_url, self.redis_url_from = redis_url, "redis_url="
        if not self.path.is_relative_to(self.state_dir.resolve()):
            declare(self.state_dir, self.config.featurekit.group)
        self.log = PushLog(self.state_dir)
        self.audit = Audit(self.state_dir if self.has_folder or state_folder else None)
        """What was done to the project, where its state outlives the store."""
        self.readable = Kept(self._readable)
        """Whether a view's source is defined now as it was when the view was compiled, and so those
        of the views from which its rows take features (T11).

        A served version whose source has changed since cannot be fed. It serves the states that it
        has until its successor is live.
        """
        self._settings = settings_stamp(self.path) if self.has_folder else None
        self.registry = Registry(self._kept_registry())
        self.tolerance_us = self.config.featurekit.tolerance_us
        """How far after the store's clock an arrival or an `as_of` may lie (S3)."""
        self.clock: Clock | None = None
        """Says the time of a scratch store, where a caller sets it before the store is opened."""
        self._unreached: StoreUnavailable | None = None
        self._repo: Repo | None = None
        self._watched: Watched | None = None
        self._online: OnlineStore | None = None
        self._services: dict[str, OnlineService] = {}
        self.listed: dict[Any, tuple[OnlineService, Any]] = {}
        """What answers lists of features, each with what its key is the id of."""
        self._notices: Notices | None = None
        self._serving_log: ServingLog | None = None
        self._feeding: Fed | None = None
        self._marks: Marks | None = None
        self._teller: tuple[Teller | None] | None = None

    def close(self) -> None:
        """Close the connections, and write what the serving log still holds. Connections are opened
        again when they are needed."""
        if self._serving_log is not None:
            self._serving_log.close()
            self._serving_log = None
        if self._online is not None and not self.in_memory:
            self._online.close()
            self._online = None
            self._feeding = self._marks = self._notices = None
            self._services = {}
            self.listed = {}
        self._unreached = None
        self.log.close()
        self.audit.close()
        if self._teller is not None and self._teller[0] is not None:
            self._teller[0].close()

    async def close_async(self) -> None:
        """Close the connections that lookups made in this event loop."""
        if self._online is not None:
            await self._online.close_async()

    @property
    def notices(self) -> Notices:
        """What lookups are told of."""
        if self._notices is None:
            self._notices = Notices(self.online, self.name)
        return self._notices

    # --- definitions ------------------------------------------------------------------------------

    @property
    def repo(self) -> Repo:
        """The definitions in the folder's modules, compiled."""
        if self._repo is None:
            if self.definitions is None:
                ignore = self.config.featurekit.ignore
                self._watched = Watched(self.path, ignore)
                self._repo = load_repo(self.path, ignore)
            else:
                self._repo = repo_of(self.definitions)
        return self._repo

    def refresh(self) -> None:
        """Run the folder's modules again, when they are needed, if some file was edited since they
        were run. ConfigError if the settings are others than those that were read."""
        if self._watched is not None and self._watched.changed():
            self._forget_repo()
        if self.has_folder:
            self._check_settings()

    def edited(self) -> bool:
        """Whether a module or the settings were edited since they were read."""
        if self._watched is not None and self._watched.changed():
            return True
        return self.has_folder and settings_stamp(self.path) != self._settings

    def _check_settings(self) -> None:
        now = settings_stamp(self.path)
        if now != self._settings and load_config(self.path) != self.config:
            raise ConfigError(
                f"{self.path}: the settings have changed since this store was opened; "
                "store.reload() reads them, and opens new connections"
            )
        self._settings = now

    def _forget_repo(self) -> None:
        self._repo = self._watched = None
        self.readable = Kept(self._readable)

    def give(self, definitions: Iterable[Any]) -> None:
        """Add definitions to those that were given; one of the same kind and name replaces the one
        before. DefinitionError, with nothing changed, where they do not fit, where nothing reads
        what was given, or where a folder has the definitions."""
        if self.definitions is None:
            raise DefinitionError(
                f"the definitions of this store are the modules in {self.path}; write them there, "
                "or open a store of its own, FeatureStore(definitions=[…])"
            )
        given = list(definitions)
        kept = [d for d in self.definitions if not any(same_definition(d, g) for g in given)]
        made = repo_of([*kept, *given])
        refuse_unused(given, made)
        self.definitions = [*kept, *given]
        self._forget_repo()
        self._repo = made

    @property
    def place(self) -> str:
        """Where the definitions are, for messages."""
        return str(self.path) if self.definitions is None else "the list of definitions"

    def source(self, name: str, repo: Repo | None = None) -> EventSource:
        """A source that the repo defines. DefinitionError for another name."""
        if not isinstance(name, str):  # a definition can be looked for, and is never found
            raise TypeError(f"{name!r} is no name")
        sources = (repo or self.repo).sources
        found = sources.get(name)
        if found is None:
            raise DefinitionError(
                f"no view reads a source {name!r}; {near(name, sources, listed='there are')}"
            )
        return found

    def service(self, name: str) -> Service:
        """A service that the repo defines, compiled. DefinitionError for another name."""
        found = self.repo.compiled_services.get(name)
        if found is None:
            known = near(name, self.repo.compiled_services, listed="there are:")
            hides = self.hides_service(name)
            raise DefinitionError(f"{self.place} defines no service {name!r}; {known}{hides}")
        return found

    def hides_service(self, name: str) -> str:
        """That a module makes the service inside of a function, as the end of an error; nothing
        where none does."""
        from featurekit.define.hidden import hidden

        if ":" in name:
            return f'; a list of features is written in brackets, features=["{name}"]'
        if self.definitions is not None:
            return ""
        return hidden(self.path, "FeatureService", name, self.config.featurekit.ignore)

    def _readable(self, view: View) -> bool:
        known = self.repo.sources
        return all(
            one.name in known and compile_source(known[one.name]) == one
            for of in (view, *view.joined)
            for one in of.source.sources
        )

    # --- online -----------------------------------------------------------------------------------

    @property
    def online(self) -> OnlineStore:
        """The online store: the Redis that is configured, or the repo's private one."""
        if self._online is None:
            if self.in_memory:
                from featurekit.online.store.memory import MemoryStore

                self._online = MemoryStore(self.clock)
                return self._online
            from featurekit.online.store.open import open_private, open_store

            # The environment is about repos: what is tried in a notebook does not go there.
            url = self.redis_url or (self.config.redis_url() if self.has_folder else None)
            limits = self.config.limits()
            if url is None:
                self._online = open_private(self.state_dir / "redis", limits)
            else:
                login = self.config.featurekit.login(self.path)
                self._online = open_store(url, limits, login=login, named=self._url_named())
            if self.clock is not None:
                self._online.clock = self.clock
        return self._online

    def _url_named(self) -> str:
        """The option or setting that the URL of the online store is from."""
        return self.redis_url_from if self.redis_url else self.config.redis_url_from()

    def now(self) -> int:
        """What the store's clock says (S3). This machine's clock, where no private server runs, or
        the store cannot be reached: training sets need none."""
        if not self._may_be_reached():
            return own_clock() if self.clock is None else self.clock()
        try:
            if self._unreached is None:
                return self.online.read_at((), clock_key(self.name))[1]
        except StoreUnavailable as error:
            self._unreached = error  # to wait for it once more would take as long again
        return own_clock()

    def _may_be_reached(self) -> bool:
        """Whether there is an online store to ask: no private server is started for a question."""
        if self._online is not None or self._unreached is not None or self.in_memory:
            return True
        from featurekit.online.store.server import runs

        url = self.redis_url or (self.config.redis_url() if self.has_folder else None)
        return url is not None or runs(self.state_dir / "redis")

    def check_forgotten(self) -> Project:
        """This project. RegistryError where the online store knows of more who were forgotten than
        the registry here. Where no private server runs, or it cannot be reached, nobody tells."""
        if self._unreached is None and self._may_be_reached():
            try:
                check_forgotten(self.online, self.name, self.registry)
            except StoreUnavailable as error:
                self._unreached = error
        return self

    @property
    def on_mismatch(self) -> str:
        """What to do with a plan from a platform that computes other floats: "refuse" or "warn"
        (R6)."""
        return self.config.featurekit.numeric_mismatch

    def check_owner(self) -> None:
        """RegistryError where the online store's keys of this project belong to another registry
        than this repo's."""
        check(self.online, self.name, self.registry)

    def claim(self) -> None:
        """Make the online store's keys of this project this registry's, where they are nobody's;
        RegistryError where they are another's."""
        claim(self.online, self.name, self.registry, self.state_dir)

    def record(self) -> None:
        """Bring the copy of the registry in the online store up to date."""
        record(self.online, self.name, self.registry)

    def record_if_behind(self) -> None:
        """As `record`, where the copy has less than the registry, as after an older dump."""
        if is_behind(self.online, self.name, self.registry):
            self.record()

    @property
    def trust(self) -> Trust:
        """What is believed of the plans in the store (F0)."""
        return trust_of(self.config.featurekit, self.name, self.registry)

    def private_key(self) -> PrivateKey | None:
        """The key that signs plans; None without one."""
        return private_key(self.config.featurekit, self.path)

    def signer(self) -> Signer | None:
        """What signs the plans that are published now; None without a private key (F0)."""
        return signer_of(
            self.config.featurekit, self.path, self.name, self.registry, self.online.now_us
        )

    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return live_services(self.online, self.name, trust=self.trust)

    def fed(self, *, on_mismatch: str | None = None) -> list[View]:
        """Every version of a view that pushes and materialisations feed. FingerprintMismatch where
        one was published on a platform that computes other floats (R6)."""
        mismatch = on_mismatch or self.on_mismatch
        return fed_views(self.online, self.name, trust=self.trust, on_mismatch=mismatch)

    @property
    def feeding(self) -> Fed:
        """The views that pushes feed, as they were last read."""
        if self._feeding is None:
            self._feeding = Fed(
                self.online,
                self.name,
                trust=self.trust,
                on_mismatch=self.on_mismatch,
                check_owner=lambda owned: check_value(owned, self.name, self.registry),
            )
        return self._feeding

    @property
    def marks(self) -> Marks:
        """What is known here of what the online store had."""
        if self._marks is None:
            folder = self.state_dir / "marks"
            self._marks = Marks(
                self.online, self.name, self.registry, folder, concerns=self._concerns
            )
        return self._marks

    def _concerns(self, tombstone: Tombstone, view: View) -> bool:
        """Whether the events of a view may be a forgotten entity's. Those of a source that is no
        longer defined may, where it has the entity's keys."""
        sources, keys = self.repo.sources, dict(tombstone.keys)
        if any(name not in sources for name in view.all_source_names):
            return has_keys(tombstone, view)
        views = self.repo.views.values()
        return any(
            key_columns(views, sources[name], tombstone.entity, keys)
            for name in view.all_source_names
        )

    def refuse_eviction(self) -> Health:
        """What the server of the online store says of itself. EvictingStore where it may remove
        states."""
        return self.marks.refuse_eviction(self.config.featurekit.maxmemory_policy)

    def online_service(self, name: str) -> OnlineService:
        """A service, or a version of one as in "churn@3f2a", ready for lookups. Its answers go to
        the serving log, where there is one. NotServed for a version that is not fed."""
        found = self._services.get(name)
        if found is None:
            self.marks.check_at_times(
                lambda: fed_views(self.online, self.name, on_mismatch="accept")
            )
            options: dict[str, Any] = {
                "on_mismatch": self.on_mismatch,
                "trust": self.trust,
                "log": self.serving_log,
                "tolerance_us": self.tolerance_us,
            }
            service, version = named_version(name)
            if version is None:
                found = OnlineService(self.online, self.name, service, **options)
            else:
                fingerprint = fed_version(self.online, self.name, service, version)
                found = ServiceVersion(
                    self.online,
                    self.name,
                    service,
                    fingerprint,
                    until_key=until_key(self.name),
                    **options,
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

    def served(
        self,
        log: str | Path | None = None,
        *,
        forgotten: bool = False,
        request: str | None = None,
        since_us: int | None = None,
    ) -> Iterator[ServedBlock]:
        """The blocks of the serving log that is configured, or of `log`: a folder, a file, or
        stream:NAME for a stream in the online store's Redis. Rows that `forget` emptied are among
        them where `forgotten` says so. With a `request`, blocks without a row of it may be left
        out, and with `since_us` those without a row that was served at that instant or later."""
        from featurekit.project.served_log import read_log

        return read_log(
            self.config.featurekit.serving_log,
            self.online,
            self.name,
            folder=self.path,
            state_dir=self.state_dir,
            log=log,
            forgotten=forgotten,
            request=request,
            since_us=since_us,
        )

    def served_places(self, logs: Sequence[str | Path] = ()) -> list[Place]:
        """Where this project's lookups were logged, and `logs`; DataError for one of these that
        does not exist. What this process has still to write is written."""
        from featurekit.project.served_log import places

        if self._serving_log is not None:
            self._serving_log.flush()
        return places(
            self.config.featurekit.serving_log,
            self.online,
            self.name,
            folder=self.path,
            state_dir=self.state_dir,
            logs=logs,
        )

    @property
    def teller(self) -> Teller | None:
        """What tells of runs as events of lineage; None where `featurekit: openlineage:` does not
        ask for it."""
        if self._teller is None:
            from featurekit.project.lineage.openlineage import teller_of

            config = self.config.featurekit.openlineage
            self._teller = (teller_of(config, self.name, self.path),)
        return self._teller[0]

    def _kept_registry(self) -> RegistryKept:
        """Where the settings say that the registry is."""
        where = self.config.featurekit.registry
        if where is not None and "://" in where:
            from featurekit.project.registry_server import RegistryServer

            return RegistryServer(where, self.name)
        return RegistryFile(self.path / where if where else self.state_dir / "registry.db")

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
            if not self.registry.kept.exists() and secret_path(self.state_dir).exists():
                raise lost_registry(self.registry, self.state_dir)
            return Forgotten([], None)
        secret = read_secret(self.state_dir, tombstones)
        views = self.repo.views.values()
        found = Forgotten(
            tombstones, secret, lambda t: key_columns(views, source, t.entity, dict(t.keys))
        )
        check_lists(source, found.lists)
        return found

    def snapshot(
        self,
        con: Any,
        view: View,
        *,
        marked: bool = False,
        may_be_empty: bool = False,
        repo: Repo | None = None,
    ) -> Snapshot:
        """The events of a view's sources, without those of forgotten entities, for a connection of
        `connect`.

        Where they are `marked`, the column `__pushed` says whether an event was pushed. A source
        that `may_be_empty` may have neither a file nor a pushed row; SourceError for another. The
        source is that of `repo`, by default of the definitions as they are now.
        """
        from featurekit.offline.enriched import make_enriched
        from featurekit.offline.events import source_events, united_events

        others: dict[str, Snapshot] = {}

        def events_of(other: View) -> EventRows:
            read = self.snapshot(con, other, may_be_empty=True, repo=repo)
            others.update(read.each(other.source.name))
            return read.events

        def enriched(part: Part, relation: str) -> str:
            also = ["__pushed"] if marked else []
            return make_enriched(con, part, relation, events_of, also)

        def of(name: str) -> Snapshot:
            source = self.source(name, repo)
            return source_events(
                con,
                source,
                base=self.path,
                state_dir=self.state_dir,
                forgotten=self.forgotten(source),
                marked=marked,
                may_be_empty=may_be_empty or some_else,
            )

        # Of a union the one source may have events, and another one none yet.
        some_else = view.source.parts is not None and not self.unfilled(view, repo)
        if view.source.parts is None:
            return of(view.source.name)
        read = list(map(of, view.source_names))
        made = united_events(view.source, read, marked=marked, enriched=enriched)
        return replace(made, parts={**others, **(made.parts or {})})

    def events(self, con: Any, view: View) -> EventRows:
        """The events of `snapshot` alone; none where there is neither a file nor a pushed row."""
        return self.snapshot(con, view, may_be_empty=True).events

    def unfilled(self, view: View, repo: Repo | None = None) -> bool:
        """Whether the view's sources never had a file and have no pushed row, so that no states are
        the right ones."""
        from featurekit.log.segments import segments
        from featurekit.sources.seen import never_had_files

        return all(
            never_had_files(self.source(name, repo), self.path, self.state_dir)
            and not segments(self.state_dir, name)
            for name in view.source_names
        )

    def all_events(
        self,
        con: Any,
        view: View,
        only: Callable[[EventSource, str], str] = lambda source, relation: relation,
    ) -> str:
        """The events of a view's sources as a relation, including those of forgotten entities,
        which forgetting has to find. What they take from other views is null. `only` gives some of
        the rows of a source's relation."""
        from featurekit.define.union import united_sql
        from featurekit.offline.enriched import unenriched_sql
        from featurekit.offline.events import source_events

        def of(name: str) -> str:
            source = self.source(name)
            read = source_events(
                con, source, base=self.path, state_dir=self.state_dir, may_be_empty=True
            )
            return only(source, read.events.relation)

        if view.source.parts is None:
            return of(view.source.name)
        parts = [unenriched_sql(part, of(part.source.name)) for part in view.source.parts]
        return united_sql(view.source, parts)

    def training_set(
        self, service: Service, frame: Any, elsewhere: Elsewhere | None = None
    ) -> TrainingSet:
        """The features of a version of a service for each row of `frame`, under their full names
        and with statuses. `frame` is a table with instants in UTC. An engine may make it
        `elsewhere`."""
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
            elsewhere=elsewhere,
        )
