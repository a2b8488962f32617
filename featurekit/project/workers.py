"""What a worker of an engine opens in the place of this process: the feature repo in its folder."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featurekit.define.plan import View
from featurekit.errors import ConfigError, EngineError
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
        project = self._project()
        if not project.readable(view):
            raise EngineError(
                f"view {view.name!r}: the repo in {self.path} defines its sources otherwise for a "
                "worker than for the driver; give both the same folder, and run this again"
            )
        return project.snapshot(con, view, repo=project.repo)

    def _project(self) -> Project:
        with _lock:
            found = _projects.get(self.path)
            if found is None:
                try:
                    found = _projects[self.path] = Project(self.path)
                except ConfigError as error:
                    raise EngineError(
                        f"a worker has no feature repo in {self.path} ({error}): workers read the "
                        "repo's folder under the path that it has here, as on a file system that "
                        "all of them share"
                    ) from error
            found.refresh()
            return found


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
    return RepoReader(project.path.resolve(), project.state_dir.resolve())
