"""The FeatureStore, the entrance for users: it has a method for each verb."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from featurekit.core import html
from featurekit.core.attributes import Named
from featurekit.core.calls import checked, explained, explained_async
from featurekit.core.durations import Duration
from featurekit.core.screen import Advance, Progress
from featurekit.core.types import Instant, as_instant
from featurekit.define.definitions import Described
from featurekit.define.plan import Service
from featurekit.define.proven import warn_unproven
from featurekit.define.repo import Repo
from featurekit.errors import ConfigError, DefinitionError, FeaturekitError
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.version import named_version
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.apply import apply, plan
from featurekit.project.asked import (
    Features,
    Labels,
    asked_labels,
    asked_offline,
    asked_online,
    no_rows,
    one_of,
)
from featurekit.project.catalog import Item, catalog
from featurekit.project.changes import Changes
from featurekit.project.checks import SourceCheck, check_sources
from featurekit.project.config import RepoConfig
from featurekit.project.gc import Collection, collect, collect_files
from featurekit.project.history import Revision, history
from featurekit.project.home import home_of
from featurekit.project.leases import WHOLE, Lease, alone
from featurekit.project.lineage.told import (
    told_apply,
    told_materialize,
)
from featurekit.project.ownership import Adopted, adopt
from featurekit.project.pins import Pinned, expired, pin, release_expired, unpin
from featurekit.project.project import Project
from featurekit.project.publishing import publish, to_publish
from featurekit.project.registry import Pin, Registry
from featurekit.project.search import Sought, search
from featurekit.project.unlock import unlock
from featurekit.project.versions import RolledBack, Version, rollback, versions

if TYPE_CHECKING:
    from featurekit.define.feature_contract.contract import Contract
    from featurekit.feed.consume import Consumed
    from featurekit.feed.events import Pushed
    from featurekit.feed.forget import Forgot
    from featurekit.feed.materialise import Materialization
    from featurekit.feed.push_outcomes import PushedOutcomes
    from featurekit.log.served.block import ServedBlock
    from featurekit.log.served.log import ServingLog
    from featurekit.monitor.compare import ModelComparison
    from featurekit.monitor.drift.report import Drift
    from featurekit.monitor.performance.report import Performance
    from featurekit.monitor.prediction import PredictionAudit
    from featurekit.monitor.profiles.keep import Profiled
    from featurekit.offline.training_set import TrainingSet
    from featurekit.parity.budget import Budget
    from featurekit.parity.diagnose.explanation import Explanation
    from featurekit.parity.modes.operators import OperatorsReport
    from featurekit.parity.report import Report
    from featurekit.project.contracts import Validation
    from featurekit.project.lineage.graph import Lineage
    from featurekit.project.lineage.impact import Impact


class FeatureStore(Named):
    """A feature repo, opened: plan and apply definitions, fetch training data, serve and push.

    `path` is the folder of feature_store.yaml, by default the present one. `redis_url` is used
    before what the file and the environment say; without any, a private server keeps its data
    beside the repo. Only the file is read at first; everything else is opened when it is needed. As
    a context manager, the store closes itself at the end.

    A module of the folder that is edited while the store is open is run again by the next call that
    needs the definitions; when the settings are edited, such a call is a ConfigError until
    `reload`. Lookups go on meanwhile: they never read the folder.

    With `definitions`, a list of services, views and sources, no folder is needed, as in a
    notebook. `apply([…])` adds to the list, and replaces what has the same name. Everything is kept
    in memory and in a temporary folder, and ends with the store. With `state_folder` it stays
    there, in a private Redis and files, for the next store with that folder. With `redis_url` the
    online store is that Redis, where `project` tells it from others. Paths of sources are relative
    to the present folder. With a `path` as well, the settings are those of the folder.

    ConfigError for a folder without a feature_store.yaml, or with a wrong one. DefinitionError for
    an object that is no definition.
    """

    @checked
    def __init__(
        self,
        path: str | Path | None = None,
        *,
        redis_url: str | None = None,
        definitions: Sequence[Any] | None = None,
        state_folder: str | Path | None = None,
        project: str | None = None,
    ) -> None:
        alone = definitions is not None or state_folder is not None
        if not alone and project is not None:
            raise ConfigError(
                "project= names a store without a folder; write definitions=[…] or state_folder= "
                "with it, or the name in feature_store.yaml"
            )
        if path is not None and (state_folder is not None or project is not None):
            raise ConfigError(
                "state_folder= and project= are of a store without a folder; leave out the path, "
                "or write the settings in its feature_store.yaml"
            )
        folder = "." if path is None and not alone else path
        given = [] if alone and definitions is None else definitions
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(
            given, (Iterable, type(None))
        ):
            raise DefinitionError(
                f"definitions is {type(given).__name__}; give a list, as in [my_service]"
            )
        self._opening: dict[str, Any] = {
            "redis_url": redis_url,
            "definitions": given,
            "state_folder": state_folder,
            "name": project,
        }
        self._parts = Project(folder, **self._opening)

    @property
    def parts(self) -> Project:
        """The project, which everything below this class takes; not public. It notices files that
        were edited."""
        self._parts.refresh()
        return self._parts

    @checked
    def reload(self) -> None:
        """Read the settings and the definitions of the folder again, and open new connections.

        Edited modules alone are noticed without it. In a store without a folder there is nothing to
        read again. DefinitionError or ConfigError where something is wrong; then the store is as
        before.
        """
        if not self._parts.has_folder:
            return
        made = Project(self._parts.path, **self._opening)
        _ = made.repo
        self._parts.close()
        self._parts = made

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @checked
    def close(self) -> None:
        """Close the connections, and write what the serving log still holds. The store opens
        connections again when it needs them."""
        self._parts.close()

    async def close_async(self) -> None:
        """Close the connections that lookups made in this event loop."""
        await self._parts.close_async()

    def _example_of(self, parameter: str, given: Mapping[str, Any]) -> str | None:
        """An example for an error about `parameter`, made of what the repo defines."""
        from featurekit.project.examples import example_of

        if parameter == "path" and isinstance(given.get("path"), (Described, list, tuple)):
            return '"feature_repo", or definitions=[checkout] for a service'
        parts = self.__dict__.get("_parts")  # there is none while the store is opened
        return None if parts is None else example_of(parts, parameter, given)

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

    @checked
    def live(self) -> dict[str, Service]:
        """The services that lookups are answered from, by name."""
        return self.parts.live()

    @checked
    def served(self, log: str | Path | None = None) -> Iterator[ServedBlock]:
        """The blocks of the serving log that is configured, or of `log`.

        `log` is a folder or a file, or stream:NAME for a stream in the online store's Redis.
        ConfigError where no log is configured or named, DataError where there is none.
        """
        return self.parts.served(log)

    def _repr_html_(self) -> str:
        """What a notebook shows: the services and views with their features. Nothing is asked of
        the online store."""
        parts = self._parts
        try:
            repo = self.repo
        except FeaturekitError as error:
            return html.box(f"FeatureStore {parts.name}", html.line(str(error)))
        services = html.table(
            ["service", "features", "request fields"],
            [
                (name, ", ".join(o.name for o in s.outputs), ", ".join(p.name for p in s.request))
                for name, s in repo.compiled_services.items()
            ],
        )
        views = html.table(
            ["view", "join keys", "source", "feature", "type"],
            [
                (
                    v.name,
                    ", ".join(p.name for p in v.join_keys),
                    v.source.title,
                    f.name,
                    str(f.type),
                )
                for v in repo.compiled_views.values()
                for f in v.features
            ],
        )
        kept = "in memory" if parts.in_memory else f"state in {parts.state_dir}"
        return html.box(f"FeatureStore {parts.name}", html.line(kept), services, views)

    # --- versions ---------------------------------------------------------------------------------

    @checked
    def plan(self) -> Changes:
        """What `apply` would change, as one `Change` for each view or service; nothing is written.
        `published` of the result is what it would do in the registry of another tool.

        UnprovenEngine warns of a version of DuckDB that was not proven. `get_historical_features`
        and `materialize` warn, too.
        """
        return Changes(plan(self.parts), to_publish(self.parts))

    @checked
    def check_sources(self) -> list[SourceCheck]:
        """What is wrong with the files of the sources that views read: whether they exist, and have
        the columns and types that are declared.

        Nothing is written, and of each file only the first rows are read. Faults are returned, not
        raised.
        """
        return check_sources(self.parts)

    @checked
    def catalog(self) -> list[Item]:
        """Everything that the repo defines, to look through: features with types, owners, versions
        and how fresh their online states are, views, services, sources and entities."""
        return catalog(self.parts)

    @checked
    def search(
        self,
        words: str = "",
        *,
        kind: str | None = None,
        owner: str | None = None,
        tags: Sequence[str] = (),
        deprecated: bool | None = None,
    ) -> list[Item]:
        """What of `catalog` has each of the words, in any case, in its name, type, description,
        owner, tags, columns or definition; by how well the name fits.

        `kind` is "feature", "view", "service", "source" or "entity", `owner` a part of the owner's
        name. Each of `tags` is a tag's name, or "name=value". `deprecated` asks for what is, or is
        not, to be given up. DefinitionError for another kind.
        """
        return search(catalog(self.parts), Sought(words, kind, owner, tuple(tags), deprecated))

    @checked
    def lineage(
        self, name: str | None = None, *, manifests: Sequence[str | os.PathLike[str]] = ()
    ) -> Lineage:
        """Which columns of sources reach which features, services and training sets, as a graph.

        `name` is a feature ("view:feature", or its name alone), a service or a column
        ("source.column"), of which the graph has what lies above and below; by default it has
        everything that the repo defines. `manifests` are those of training sets, or folders that
        hold some. DefinitionError for an unknown name, DataError for what is no manifest.
        """
        from featurekit.project.lineage.asked import asked

        return asked(self.parts, name, manifests).lineage

    @checked
    def impact(self, column: str, *, manifests: Sequence[str | os.PathLike[str]] = ()) -> Impact:
        """What a change of a column ("source.column") would touch: features and services of the
        repo, versions that are served, and training sets whose manifests, or folders that hold
        some, are named.

        DefinitionError where neither the repo nor a version that is served has the column.
        """
        from featurekit.project.lineage.impact import impact

        return impact(self.parts, column, manifests)

    @checked
    def apply(
        self, definitions: Sequence[Any] | None = None, *, allow_breaking: bool = False
    ) -> Changes:
        """Record the definitions as the current versions, and publish the services; the changes
        made. Where `featurekit: publish:` names a tool, its registry gets them too, and `published`
        of the result says what it got. RegistryError where it does not take them: they are in force
        all the same.

        In a store without a folder, `definitions` are added first to those that it has; one of the
        same kind and name takes the place of the one before. DefinitionError where they do not fit
        together, or where a folder has the definitions.

        A changed service serves its old version until `materialize` has filled the states of the
        new one (F1). Where the sources of a service have neither a file nor a pushed row, there is
        nothing to fill, and it goes live at once. Plans are signed where there is a private key
        (F0).

        RegistryError, with nothing applied, where the repo lacks a view or source that a service's
        live version uses until its successor is filled, and, as by everything that writes, where
        the project's keys in the online store belong to another registry than this one.
        BreakingChange, likewise, where an output of a service would be gone or have another name,
        meaning or type, or a row would have to bring something else, unless `allow_breaking` is
        true. ConfigError where readers hold a public key and there is no private one.
        """
        if definitions is not None:
            self.parts.give(definitions)
        parts = self.parts
        with told_apply(parts):
            changes = apply(parts, allow_breaking=allow_breaking)
        return Changes(changes, publish(parts))

    @checked
    def versions(self, service: str) -> list[Version]:
        """Every version of a service that was ever applied, oldest first.

        A version has who applied it and when, and whether it is live, waits, is retained or is not
        fed. RegistryError for an unknown service.
        """
        return versions(self.online, self.project, self.registry, service)

    @checked
    def history(self, name: str) -> list[Revision]:
        """How a feature, written view:feature, a view or a service came to be what it is, oldest
        first: who added, changed, rolled back, removed or deprecated it, when, and what that
        changed.

        Of a feature only the changes that changed its own meaning are told. RegistryError for a
        name that was never applied.
        """
        return history(self.registry, name)

    @checked
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
        self.parts.claim()
        known = service in self.registry.names("service")
        with self.parts.audit.doing("rollback", {"service": service} if known else {}) as found:
            done = rollback(
                self.online,
                self.project,
                self.registry,
                service,
                to=to,
                readable=self.parts.readable,
                signer=self.parts.signer,
            )
            self.parts.record()
            found |= {"from": done.before, "to": done.fingerprint, "live": done.live}
        return done

    @checked
    def pin(
        self,
        version: str,
        *,
        by: str,
        owner: str | None = None,
        until: Instant | None = None,
    ) -> Pinned:
        """Keep a version of a service fed, whatever is live, for as long as something needs it.

        `version` is the service's name, "@", and the version's fingerprint or the beginning of it:
        "churn@3f2a". `by` names what needs it, as in "models:/churn/3"; a version may be pinned by
        several, and is fed until the last pin is gone. `owner` is who answers for it, by default
        the user of this process. The first `gc` or `apply` after `until` takes the pin away.

        A pinned version is asked by its name: `get_online_features("churn@3f2a", rows)`. It can be
        asked at once where it was fed all along; else once `materialize` has filled the views that
        the result lists. `gc`, `rollback` and new versions leave it alone. It costs what its views
        cost that no other version reads.

        RegistryError for an unknown service or version, for a version that reads a source that the
        repo defines otherwise now, and for an end that has passed.
        """
        self.parts.claim()
        name, fingerprint = named_version(version)
        with self.parts.audit.doing("pin", {"service": name, "by": by}) as found:
            done = pin(self.parts, name, fingerprint or "", by=by, owner=owner, until=until)
            found |= {"fingerprint": done.pin.fingerprint}
        return done

    @checked
    def unpin(self, version: str, *, by: str | None = None) -> list[Pin]:
        """Take pins away: of a version ("churn@3f2a"), or of all versions of a service ("churn");
        with `by`, those alone that are named so. Returns them.

        A version that has no other pin is fed no more, unless it is live, waits or is retained; its
        states go with the next `gc`. RegistryError where there is no such pin.
        """
        self.parts.claim()
        name, fingerprint = named_version(version)
        with self.parts.audit.doing("unpin", {"service": name, "by": by}) as found:
            gone = unpin(self.parts, name, fingerprint, by=by)
            found |= {"fingerprints": sorted({one.fingerprint for one in gone})}
        return gone

    @checked
    def pins(self) -> list[Pin]:
        """Every pin of a version, by the service's name. One that has come to its end holds until
        the next `gc` or `apply`."""
        return self.registry.pins()

    @checked
    def adopt(self) -> Adopted:
        """Rebuild the registry's file from the copy of it in the online store: versions, what is in
        force, changes, and who was forgotten.

        A file that is there, as an old copy, keeps what only it has, and lies beside the new one
        afterwards. RegistryError where the online store has nothing of this project, or belongs to
        another registry than the one that is here.
        """
        with self.parts.audit.doing("adopt", {}) as found:
            done = adopt(self.online, self.project, self.registry)
            found |= {"versions": done.versions, "forgotten": done.forgotten}
        return done

    @checked
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

        A version is used while it is live, next, retained or pinned. Pins that have come to their
        end are taken away first. With `retained`, the versions retained now are released, too, and
        to roll back to one takes a materialisation. `versions` limits
        the removal to these: each is "name" or "name:fingerprint" of a view or service, where the
        beginning of the fingerprint is enough. Without it, what the state folder keeps of files
        goes too whose content is no source's any more: copies of CSV files, hashes and verdicts
        (S4); and rows of forgotten entities that serving processes have written into the serving
        log since are emptied. With `dry_run` nothing is removed.

        Pushes, materialisations and publishing may go on meanwhile. RegistryError where one of
        `versions` is in use, or is not there.
        """
        self.parts.check_owner()
        from featurekit.feed.forget_served import strip_late

        def run() -> Collection:
            files = () if versions else collect_files(self.parts, dry_run=dry_run)
            done = collect(
                self.online,
                self.project,
                only=versions,
                retained=retained,
                dry_run=dry_run,
                progress=progress or (lambda done, total: None),
            )
            late = 0 if dry_run or versions else strip_late(self.parts)
            return replace(done, files=files, served_rows=late)

        if dry_run:
            return run()
        with self.parts.audit.doing("gc", {"retained": retained}) as found:
            if expired(self.parts):
                self.parts.claim()
                with alone(self.online, self.project, WHOLE, "gc"):
                    found["unpinned"] = [one.name for one in release_expired(self.parts)]
            done = run()
            gone = [f"{one.kind} {one.name}:{one.fingerprint}" for one in done.removed]
            found |= {"removed": gone, "keys": done.keys, "files": len(done.files)}
        return done

    @checked
    def unlock(
        self, sources: Sequence[str] = (), *, force: bool = False
    ) -> list[tuple[Lease, bool]]:
        """Let go of what dead processes hold; each lease on the sources, and whether it was let go
        of.

        A materialisation, a forgetting and a push of rows with arrivals of their own hold a source
        alone; other pushes hold it together. The living renew their leases every few seconds, and
        a lease that is not renewed ends by the store's clock. With `force`, leases of the living
        are let go of, too: their processes raise LeaseLost at the next write. Without `sources`,
        all are meant that the repo or an applied view has. DefinitionError for another name.
        """
        if not force:
            return unlock(self.parts, sources, force=force)
        with self.parts.audit.doing("unlock", {"force": True}) as found:
            done = unlock(self.parts, sources, force=force)
            found["sources"] = sorted({lease.source for lease, gone in done if gone})
        return done

    # --- offline ----------------------------------------------------------------------------------

    @checked
    def validate(self, sources: Sequence[str] | None = None) -> Validation:
        """Judge the sources of these names, or all, by their schemas and contracts (S5). Nothing
        stops, and nothing is set aside: what `materialize` and `get_historical_features` would
        raise is in the result. DefinitionError for a name that no source has."""
        from featurekit.project.contracts import validate

        return validate(self.parts, sources)

    @checked
    def get_historical_features(
        self,
        entity_df: Any = None,
        service: Features | None = None,
        *,
        features: Features | None = None,
        labels: Labels = (),
        at: Sequence[Instant] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        every: Duration | None = None,
        entities: str | None = None,
        full_feature_names: bool = False,
        statuses: bool = False,
        timezone: str = "UTC",
        known_at: Instant | None = None,
        buckets: int | None = None,
        engine: Any = None,
    ) -> TrainingSet:
        """The service's features for each row of `entity_df`, as of its `event_timestamp` (T3).

        The result is a `TrainingSet`, which computes them when it is converted. `entity_df` is a
        pandas, polars or Arrow table, a DuckDB relation, a list of dicts, a dict of columns, or the
        path of a Parquet or CSV file. It has the join keys, `event_timestamp` (naive ones are in
        `timezone`) and the request fields. Its rows and other columns come back as they are.
        `statuses=True` adds columns `<feature>__status`. `buckets` parts of the entities are joined
        one by one, or by `engine`: "ray", "spark", a session of Spark, an object.

        `service`, or `features`, is a service's name, a FeatureService, or a list: "view:feature",
        "view", the name of a request-time feature, a view, `view[[…]]` or a @feature. `labels`, a
        list like it, look ahead (T10). An instant is a datetime, a date or a text: "2026-12-01".

        Without `entity_df`, the rows are every known entity at each instant of `at`, or at `start`,
        one `every` later and so on until `end`, by instant and join keys; known from its first
        visible event on. Where views differ in entities, `entities` names the one that tells them.
        `known_at`, by default the clock, leaves out later arrivals; InstantsInFuture warns of later
        rows (S3). DataError where arrivals are not known, ContractBroken where S5 is broken.
        """
        from featurekit.offline.historical import Grid, historical_features
        from featurekit.project.contracts import judge
        from featurekit.project.workers import elsewhere

        parts = self.parts.check_forgotten()
        warn_unproven(parts.state_dir)
        return historical_features(
            asked_labels(parts, asked_offline(parts, one_of(service, features)), labels),
            entity_df,
            Grid(at, start, end, every, entities),
            connect=parts.connect,
            snapshot=partial(parts.snapshot, repo=parts.repo),
            judge=partial(judge, parts, parts.repo),
            now=parts.now,
            full_names=full_feature_names,
            statuses=statuses,
            timezone=timezone,
            known_at=known_at,
            buckets=self.config.featurekit.buckets if buckets is None else buckets,
            elsewhere=elsewhere(parts, engine),
            home=partial(home_of, parts),
        )

    @checked
    def remake(self, manifest: str | os.PathLike[str]) -> TrainingSet:
        """The training set whose manifest this is, once more: of the labels that were written
        beside it, by the definitions of the repo or of a version in the registry, and of the
        sources as they were.

        Its rows are those of the first, or there is an error. DataError where a file, a copy of a
        database or a version of a table is not there any more or has another content, which names
        each of them; and, when the rows are computed, where they have another content hash, which
        names what differs.
        """
        from featurekit.project.remake import remake

        warn_unproven(self.parts.state_dir)
        return remake(self.parts.check_forgotten(), manifest)

    # --- online -----------------------------------------------------------------------------------

    @checked
    def materialize(
        self,
        end: Instant | None = None,
        *,
        views: Sequence[str] | None = None,
        entities: Sequence[Mapping[str, Any]] | None = None,
        restart_clock: bool = False,
        progress: Progress | None = None,
    ) -> Materialization:
        """Fill the online states of every applied view with all that arrived up to `end`, now by
        default.

        Services whose views are all filled go live. `views` names the views to fill; all others
        stay as they are. `entities`, each given by its join keys, limits the run to their states,
        in the views that have these join keys; then the instant up to which a view counts as
        materialised does not change.

        Rows of files that arrive later have not yet arrived, and are counted. States that hold an
        arrival after the store's clock are made anew, and such rows of the log of pushes are set
        aside (S3). `restart_clock` leaves a last stamp behind that is far after every clock: pushes
        are refused then, with ClocksApart.

        RegistryError for a view that was not applied, EntityFrameError for keys that no view has.
        """
        return self._materialize(
            end, views=views, entities=entities, restart_clock=restart_clock, progress=progress
        )

    def _materialize(self, end: Instant | None, **options: Any) -> Materialization:
        from featurekit.feed.materialise import materialize

        parts, until = self.parts, None if end is None else as_instant(end, what="end")
        with told_materialize(parts) as tell:
            done = materialize(parts, until, **options)
            tell({view.view: view.entities for view in done.views})
        return done

    @checked
    def materialize_incremental(
        self,
        end: Instant | None = None,
        *,
        views: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Materialization:
        """As `materialize`, but it reads only what arrived since the last time, and what the log of
        pushes has got since of earlier arrivals.

        A source that does not say when its rows arrived is read whole: a late row cannot be told
        from one that was there before. For other sources the created_timestamp_column is believed:
        a row that reaches the files later than its column says waits for the next `materialize`.
        """
        return self._materialize(end, incremental=True, views=views, progress=progress)

    @explained
    def push(self, source: str, rows: Any) -> Pushed:
        """Take new events of `source`: a dict, a list of dicts, or anything with an Arrow stream.

        Rows are checked first (S1). Each is stamped with the store's clock, unless it brings the
        source's created_timestamp_column. An arrival up to `clock_tolerance` after the clock
        becomes the clock, and a later one makes a bad row (S3). When this returns, the events are
        in the offline log and in the states of every version that is live, next or retained. A
        version that was compiled against another definition of the source is not fed; its successor
        is. Events of an entity that was forgotten after they arrived are left out, and counted.

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

    @checked
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

    @checked
    def forget(
        self,
        entity: str,
        keys: Mapping[str, Any],
        *,
        rewrite_files: bool = False,
        logs: Sequence[str | Path] = (),
        progress: Progress | None = None,
    ) -> Forgot:
        """Remove the events and states of one entity, given by its join keys, and record the
        removal.

        Nothing reads the events that arrived until now any more, whatever files bring them back: no
        training set, no materialisation, no parity check. For every version of every view keyed by
        the entity, alone or with others, its states are removed. States of other views over the
        same events are computed again without them. The log of pushes is rewritten. Files of
        sources are listed, and rewritten only with `rewrite_files`. Where the entity is an element
        of a list (`explode=`), rows stay, and their lists lose it (T7). In the serving log, that
        which is configured and `logs`, rows of the entity keep the id of the request and who asked,
        and say FORGOTTEN; `gc` does the same with rows that serving processes write later.
        Contracts and manifests below the folder of the repo that name the entity are listed, and
        labels of training sets there that have rows of it. Events that arrive from now on are a new
        start. The registry keeps who asked for the removal, when, and a keyed hash of the keys.

        DefinitionError for an unknown entity, EntityFrameError for other keys or values of another
        type, DataError where one of `logs` does not exist.
        """
        from featurekit.feed.forget import forget

        return forget(
            self.parts,
            entity,
            keys,
            rewrite_files=rewrite_files,
            logs=logs,
            progress=progress,
        )

    @explained
    def get_online_features(
        self,
        service: Features | None = None,
        rows: Any = None,
        as_of: Instant | None = None,
        *,
        features: Features | None = None,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> OnlineResult:
        """The features of each row (join keys and request fields) as of an instant, now by default.

        `service` is a service's name, a FeatureService, or a list of features as
        `get_historical_features` takes; `features` is another name for it. A list needs no service
        of its own, only that the states of its views are filled. `rows` is a list of dicts, a dict
        of lists or arrays, or a frame of pandas, polars or Arrow. `request_fields=True` puts the
        request fields into the result, too.

        Plan and states are read from Redis, and for names never the repo's code. Options and errors
        are those of `OnlineService.get`. DeprecatedFeature warns, once, of what is to be given up.
        """
        asked = one_of(service, features)
        if rows is None or isinstance(rows, str):
            raise no_rows(self._parts, asked, rows)
        online, notices = asked_online(self._parts, asked), self._parts.notices
        found = online.get(
            rows, as_of, full_feature_names=full_feature_names, request_fields=request_fields
        )
        if notices.due:
            notices.look()
        notices.answered(online.seen)
        return found

    @explained_async
    async def get_online_features_async(
        self,
        service: Features | None = None,
        rows: Any = None,
        as_of: Instant | None = None,
        *,
        features: Features | None = None,
        full_feature_names: bool = False,
        request_fields: bool = False,
    ) -> OnlineResult:
        """As `get_online_features`, without blocking the event loop while Redis is read.

        The first lookup still blocks while it opens settings, a private Redis and the plan. Each
        event loop has its own connections: await `store.close_async()` in it at its end.
        """
        asked = one_of(service, features)
        if rows is None or isinstance(rows, str):
            raise no_rows(self._parts, asked, rows)
        online, notices = asked_online(self._parts, asked), self._parts.notices
        found = await online.get_async(
            rows, as_of, full_feature_names=full_feature_names, request_fields=request_fields
        )
        if notices.due:
            import asyncio

            await asyncio.to_thread(notices.look)
        notices.answered(online.seen)
        return found

    @checked
    def explain(
        self,
        service: str,
        feature: str,
        row: Mapping[str, Any],
        as_of: Instant | None = None,
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
        from featurekit.sources.reading import one_reading

        at = None if as_of is None else as_instant(as_of, what="as_of")
        with one_reading():
            return explain(self.parts, self.parts.service(service), feature, row, at)

    @checked
    def drift(
        self,
        service: str,
        reference: str | os.PathLike[str] | Contract | Duration,
        *,
        window: Duration = "1d",
        end: Instant | None = None,
        log: str | Path | None = None,
        profiles: bool = False,
        evidently: str | os.PathLike[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Drift:
        """Whether the values that a service serves have moved away from a reference.

        The rows that the serving log (or `log`) has of the `window` before `end`, by default now,
        are compared with `reference`: a feature contract, the path of one or of a manifest, whose
        training set is made again, or a duration, for what was served for so long before the
        window. Each feature has figures; `featurekit: monitoring:` sets their thresholds. A figure
        says drift where it passes its threshold, and what chance alone gives to so many rows.
        With `profiles` both windows come from kept profiles (`profile`) and not from the log: they
        end where a part of time ends, at or before `end`. `evidently` is a file for Evidently's own
        report of the same rows; its figures come back as `evidently`, and both sides are held in
        memory. A contract and profiles have no rows, so they are refused then. `progress` is told
        of the rows of the log that were read.

        DataError where a side has no row, ConfigError where there is no log or no Evidently,
        ContractRefused for a contract that was changed.
        """
        from featurekit.monitor.drift.ask import drift

        return drift(
            self.parts, service, reference, window=window, end=end, log=log, profiles=profiles,
            progress=progress, evidently=evidently,
        )  # fmt: skip

    @checked
    def profile(
        self,
        *,
        log: str | Path | None = None,
        share: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Profiled:
        """Keep profiles of what the serving log (or `log`) has that was not read before.

        They are kept in the state folder, by service, feature and part of time: counts, exact
        extremes and sums, sketches of quantiles and of distinct values, and values of few enough
        kinds. Each row counts once, whatever the order and the number of readings. `featurekit:
        monitoring: profiles:` says how long a part is, and how long it is kept. With a `share`,
        above 0 and at most 1, counting takes at most so much of one processor, and rests in
        between. `progress` is told of the rows that were read. The rows and files that were read
        come back.

        ConfigError where there is no log, DataError for a file that cannot be read, ArgumentError
        for another share.
        """
        from featurekit.monitor.profiles.keep import keep_profiles

        return keep_profiles(self.parts, log, share, progress)

    @checked
    def profile_of(
        self, service: str, *, window: Duration = "1d", end: Instant | None = None
    ) -> list[dict[str, Any]]:
        """What kept profiles say of the features of a service, a dict each, in a `window` that ends
        where a part of time ends, at or before `end`: by default all until now.

        `present`, `null` and `errors` are rows; `least`, `greatest` and `mean` are exact, the
        quantiles `q25`, `q50` and `q75` to one part in 256, and `distinct` to some percent where
        there are more than 1,000 values. `top` has the most frequent values that eleven entities
        have, with their rows. None stands for what a type does not have. DataError where nothing is
        kept of the service, ArgumentError for a window that is no whole number of parts.
        """
        from featurekit.monitor.profiles.kept import profile_of

        return profile_of(self.parts, service, window, end)

    @checked
    def profile_training_set(
        self, training: TrainingSet, *, every: Duration | None = None
    ) -> list[dict[str, Any]]:
        """What the rows of a training set are, a dict for each feature and label, as `profile_of`
        says what was served; with `every`, for each part of time of the rows' instants too, and
        `start` is its begin.

        Neither the order of the rows nor the engine and the processes that compute them change a
        bit of it (A2). The rows are computed for it, once more if they were computed before;
        `get-historical --profile` counts them as it writes them. Nothing is kept. Beside the rows
        eight bytes of each one are in memory. DefinitionError for an `every` that is no duration.
        """
        from featurekit.core.durations import duration_us
        from featurekit.monitor.profiles.training import profile_training_set

        part = None if every is None else duration_us(every, what="every")
        return profile_training_set(training, part)

    @checked
    def push_outcomes(self, service: str, rows: Any) -> PushedOutcomes:
        """Keep what became of rows of a service: a dict, a list of dicts, or a frame.

        Each row has an `outcome`, which is true or false, a number or a text, and says what it is
        of: a `request_id` and the place `row` in the request, 0 by default, or the service's join
        keys and `at`, an instant. `known_at` is when it was known, by default now. Of several
        outcomes of one name the one that was known last is in force, in whatever order they come;
        what is pushed again is counted and not kept. `prediction` may say what was predicted, where
        the serving log does not. Numbers are kept as floats. Outcomes are kept in the state folder
        and matched when performance is asked for, so they may come before the log's rows.

        DataError for a row that cannot be taken, of which none is kept then; DefinitionError for a
        service that is not there.
        """
        from featurekit.feed.push_outcomes import push_outcomes

        return push_outcomes(self.parts, service, rows)

    @checked
    def performance(
        self,
        service: str,
        *,
        prediction: str | None = None,
        target: str | None = None,
        positive: bool | int | float | str | None = None,
        cut: float = 0.5,
        classes: Sequence[bool | int | float | str] = (),
        horizon: Duration = "30d",
        window: Duration = "1d",
        end: Instant | None = None,
        by: Sequence[str] = (),
        fairness: bool = False,
        reference: str | os.PathLike[str] | Duration | None = None,
        label: str | None = None,
        log: str | Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Performance:
        """How well the predictions of a service did, by the outcomes that were pushed.

        The rows that the serving log (or `log`) has of the `window` before `end`, by default now,
        are joined to outcomes: by the id of a request, or as the entity's latest row at or before
        the outcome's instant, by `as_of` and at most `horizon` before it. The prediction is the
        served feature `prediction`, by default what the log has of the model and else what came
        with the outcome. `target` names the model, by default the one that answered. Outcomes of
        true and false, or any with `positive`, are classes, for which a prediction of at least
        `cut` says yes; numbers are compared as numbers. Texts are several classes, and so are any
        outcomes with `classes`, in the order of which a prediction may be a list of probabilities.

        `by` names features, join keys and request fields, whose values put rows into slices; with
        borders, as in "age=18,60", it puts numbers into bins. With `fairness`, slices are compared.
        `reference` is how long before the window predictions are compared with, or the manifest of
        a training set, whose feature `prediction` is compared with its column `label`. `featurekit:
        monitoring:` sets thresholds. `progress` is told of the rows of the log that were read.

        DataError where no row can be judged or outcomes are of several kinds, ConfigError without a
        log or without scikit-learn, ArgumentError for a name that the service does not have.
        """
        from featurekit.monitor.performance.ask import Request, performance

        given = Request(
            prediction, target, positive, cut, classes, horizon, window, end, by, fairness,
            reference, label, log,
        )  # fmt: skip
        return performance(self.parts, service, given, progress)

    @checked
    def compare(
        self,
        one: str,
        other: str,
        *,
        window: Duration = "7d",
        end: Instant | None = None,
        log: str | Path | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ModelComparison:
        """Two models beside one another, by the predictions that the serving log (or `log`) has of
        both in the `window` before `end`, by default now.

        `one` and `other` are names of targets, as in "churn@3". Rows that both predicted, as with a
        shadow, are compared one by one, bit for bit; all predictions of each are compared as a
        whole, with what chance alone gives to so many rows. `progress` is told of the rows of the
        log that were read.

        DataError where the log has no prediction of a target, ConfigError where there is no log,
        ArgumentError where both names are one.
        """
        from featurekit.monitor.compare import compare

        return compare(self.parts, one, other, window=window, end=end, log=log, progress=progress)

    @checked
    def audit_prediction(
        self,
        request_id: str,
        *,
        row: int | None = None,
        log: str | Path | None = None,
        contract: Contract | str | os.PathLike[str] | None = None,
        events: bool = True,
    ) -> PredictionAudit:
        """All that is known of the answer to a request, from the serving log, or from `log`.

        `request_id` is the id that the answer of a server said, or PROCESS:NUMBER, as the log has a
        lookup from Python. For each row, or the one `row` from 0 on: who asked whom, the prediction
        if there was one, and each feature with its exact bits, its status, and whether offline says
        the same now of the same instant. With `events`, each has the events that made it. With the
        model's `contract`, or the path of it, the training set is told. `steps` say who made the
        version live. `notes` say what cannot be told; of an entity that `forget` removed, every
        feature is FORGOTTEN.

        DataError where the log has no such request or row, ConfigError where there is no log,
        ContractRefused for a contract that was changed.
        """
        from featurekit.define.feature_contract.contract import Contract
        from featurekit.monitor.prediction import audit_prediction
        from featurekit.sources.reading import one_reading

        if contract is not None and not isinstance(contract, Contract):
            keys = [key.text for key in self.parts.trust.keys]
            contract = Contract.load(contract, public_keys=keys)
        with one_reading():
            return audit_prediction(
                self.parts, request_id, log=log, row=row, contract=contract, events=events
            )

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
        engine: Any = None,
    ) -> Report: ...

    @checked
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
        engine: Any = None,
    ) -> Report | OperatorsReport:
        """Compare online with offline, bit for bit; nothing in the live store is changed.

        `mode` is one of these:

        - "history" asks about what the files and the log of pushes hold. It draws entities and
          instants with `seed`, among them window edges to the microsecond and arrivals, and replays
          the past into a scratch Redis. With `engine`, that makes the offline values, as in "fuzz".
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
        budget = values if budget is None else budget
        check = Check(budget, seed, workers, log, progress, engine)
        if mode == "operators":
            if service is not None:
                raise DefinitionError('check_parity: mode "operators" is about no service')
            return check_operators(self.parts, check)
        if service is None:
            raise DefinitionError(f"check_parity: mode {mode!r} takes the name of a service")
        return check_parity(self.parts, service, mode, check)
