"""Reads what the serving log has that no profile has yet, and keeps the profiles of that."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.attributes import Named
from featurekit.core.durations import duration_us
from featurekit.core.status import FORGOTTEN
from featurekit.log.profiles import Reading, add, compact, held, read, together
from featurekit.log.served.block import ServedBlock, is_forgotten
from featurekit.log.tombstones import make_secret
from featurekit.monitor.drift.keys import keys_of
from featurekit.monitor.profiles.counts import Profiler
from featurekit.project.config import MonitoringConfig
from featurekit.project.project import Project
from featurekit.project.served_log import Place, named_log, place_of

MOST_ROWS = 500_000
"""After about so many rows what was counted is written, so that a crash loses no more than that."""
MOST_FILES = 8
"""More files than that become one."""
_NEVER = -(1 << 63)


@dataclass(frozen=True, slots=True)
class Profiled(Named):
    """What was read of the serving log: `rows`, of `files` or entries of a stream."""

    rows: int
    files: int


def settings(project: Project) -> tuple[int, int]:
    """How long a part of time is, and how long profiles are kept, in microseconds."""
    found = (project.config.featurekit.monitoring or MonitoringConfig()).profiles
    return duration_us(found.every, what="every"), duration_us(found.keep, what="keep")


def keep_profiles(
    project: Project, log: str | Path | None, progress: Callable[[int], None] | None
) -> Profiled:
    """Read what the log has that was not read before, and keep the profiles of it."""
    every, keep = settings(project)
    place = place_of(
        named_log(project.config.featurekit.serving_log, log),
        project.online,
        project.name,
        folder=project.path,
        state_dir=project.state_dir,
    )
    services = project.repo.compiled_services
    keys = {name: keys_of(project, name) for name in services}
    secret = make_secret(project.state_dir).value
    rows = files = 0
    with held(project.state_dir) as folder:
        whole = together(read(project.state_dir).values(), every)
        taken = set(whole.taken.get(place.name, ()))
        profiler = Profiler(every, keys)
        names: list[str] = []
        for name, blocks in place.unread(taken):
            for block in blocks:
                profiler.take(_there(block))
            names.append(name)
            if progress is not None:
                progress(rows + profiler.rows)
            if profiler.rows >= MOST_ROWS:
                _keep(folder, every, profiler, secret, place, names)
                rows, files = rows + profiler.rows, files + len(names)
                profiler, names = Profiler(every, keys), []
                # Else a long log would leave many files, which are read together at the end.
                if len([*folder.glob("*.profile")]) > MOST_FILES:
                    compact(folder, project.state_dir, every, since=_NEVER)
        if names:
            _keep(folder, every, profiler, secret, place, names)
            rows, files = rows + profiler.rows, files + len(names)
        since = time.time_ns() // 1000 - keep
        old = any(start < since - every for parts in whole.profiles.values() for start in parts)
        if old or len(read(project.state_dir)) > MOST_FILES:
            compact(folder, project.state_dir, every, since=since - since % every)
    return Profiled(rows, files)


def _keep(
    folder: Path, every: int, profiler: Profiler, secret: bytes, place: Place, names: list[str]
) -> None:
    # Of a stream the last id is enough, which is that of all before it.
    taken = names if place.path is not None else names[-1:]
    add(folder, Reading(every, profiler.told(secret), {place.name: taken}))


def _there(block: ServedBlock) -> ServedBlock:
    """The block without rows that `forget` emptied."""
    if not any(FORGOTTEN in statuses for statuses in block.statuses):
        return block
    return block.some([i for i in range(block.rows) if not is_forgotten(block, i)])
