"""What a worker of an engine opens in the place of this process: the feature repo in its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.tables import fetch
from featurekit.define.definitions import EventSource
from featurekit.define.plan import View
from featurekit.errors import ConfigError, EngineError
from featurekit.log.relation import log_sql
from featurekit.log.segments import segments
from featurekit.offline.engines.named import LOCAL, check_engine, engine_of
from featurekit.offline.engines.spread import Elsewhere
from featurekit.offline.events import Snapshot
from featurekit.project.project import Project

_projects: dict[Path, Project] = {}
"""The repos that this worker has opened; each unit of work would load the modules anew."""
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class RepoReader:
    """Reads the sources of the feature repo in a folder, which the driver and the workers have
    under one path."""

    path: Path
    state_dir: Path
    registry: str
    sources: tuple[tuple[str, str], ...]
    """What tells the driver's registry and sources from others."""

    @property
    def folder(self) -> Path:
        """The state folder."""
        return self.state_dir

    def connect(self) -> Any:
        """As `Project.connect`."""
        return self._project().connect()

    def snapshot(self, con: Any, view: View) -> Snapshot:
        """As `Project.snapshot`. EngineError where the repo defines the view's sources otherwise
        than the driver."""
        project, known = self._project(), dict(self.sources)
        names = {name for of in (view, *view.joined) for name in of.source_names}
        same = project.readable(view) and all(
            _told(project.source(name)) == known.get(name) for name in names
        )
        if not same:
            raise EngineError(
                f"view {view.name!r}: the repo in {self.path} defines its sources otherwise for a "
                "worker than for the driver; give both the same folder, and run this again"
            )
        return project.snapshot(con, view, repo=project.repo)

    def logged(self, con: Any, source: str, until: int | None) -> tuple[int, int]:
        """As the protocol's, of the log in the state folder."""
        project = self._project()
        found, definition = segments(project.state_dir, source), project.source(source)
        if not found:
            return 0, 0
        columns = ", ".join(map(quote, [*definition.schema, "__ts", "__created"]))
        arrived = "TRUE" if until is None else f"__created <= {until}"
        sums = fetch(
            con,
            f"SELECT count(*), coalesce(sum(hash({columns})), 0) "
            f"FROM {log_sql(con, found, definition)} WHERE {arrived}",
        )
        return int(sums[0][0]), int(sums[0][1])

    def _project(self) -> Project:
        with _lock:
            found = _projects.get(self.path)
            if found is not None:
                try:
                    found.refresh()
                except ConfigError:  # the settings are others now, and nobody can reload a worker
                    found = None
            if found is None:
                found = _projects[self.path] = self._opened()
            return found

    def _opened(self) -> Project:
        try:
            made = Project(self.path)
        except ConfigError as error:
            raise EngineError(
                f"a worker has no feature repo in {self.path} ({error}): workers read the repo's "
                "folder under the path that it has here, as on a file system that all of them share"
            ) from error
        if made.state_dir.resolve() != self.state_dir or _registry(made) != self.registry:
            raise EngineError(
                f"the settings in {self.path} name another state folder or registry for a worker "
                "than for the driver, as where a variable of the environment has another value "
                f"there; the driver's state folder is {self.state_dir}"
            )
        return made


def _told(source: EventSource) -> str:
    """What a source is read by; its rules are compared as they are compiled."""
    fields = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    del fields["expect"]
    return hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()


def _registry(project: Project) -> str:
    """What tells a project's registry from another one; its URL may hold a password."""
    where = project.config.featurekit.registry or ""
    return hashlib.sha256(where.encode()).hexdigest()


def elsewhere(project: Project, engine: Any) -> Elsewhere | None:
    """The engine that is asked for, or else the one of the settings, with what its workers read;
    None for this process."""
    asked = project.config.featurekit.engine if engine is None else engine
    check_engine(asked)
    if asked is None or asked == LOCAL:
        return None
    return Elsewhere(partial(engine_of, asked), _reader(project))


def _reader(project: Project) -> RepoReader:
    """What workers read. ConfigError where the definitions were given, and no folder has them."""
    if not project.has_folder or project.definitions is not None:
        raise ConfigError(
            "engine: its workers read the definitions and the log of pushes from the folder of a "
            "feature repo, and this store was given definitions without one; write them to a "
            "folder (featurekit init), or leave engine out"
        )
    told = tuple((name, _told(source)) for name, source in sorted(project.repo.sources.items()))
    state_dir = project.state_dir.resolve()
    return RepoReader(project.path.resolve(), state_dir, _registry(project), told)
