"""Reads what the serving log has that no profile has yet, and keeps the profiles of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from featurekit.core.attributes import Named
from featurekit.core.durations import duration_us
from featurekit.core.pace import Pace
from featurekit.core.status import FORGOTTEN
from featurekit.errors import ArgumentError, DataError
from featurekit.log.profile_places import Overtaken, ProfilePlace
from featurekit.log.profiles import Reading, compact, read, together
from featurekit.log.served.block import ServedBlock, is_forgotten
from featurekit.log.tombstones import make_secret
from featurekit.monitor.drift.keys import keys_of
from featurekit.monitor.profiles.counts import Profiler
from featurekit.project.config import MonitoringConfig
from featurekit.project.kept_profiles import profile_place
from featurekit.project.project import Project
from featurekit.project.served_log import Place, named_log, place_of

MOST_ROWS = 500_000
"""After about so many rows what was counted is written, so that a crash loses no more than that."""
MOST_FILES = 8
"""More files than that become one."""
MOST_OVERTAKEN = 20
"""So often another process may have added to the same profiles while this one counted."""
_TURN_S, _BETWEEN_S = 10.0, 0.02
"""Others wait for the folder while a turn takes so long, and have it between two turns."""


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
    project: Project,
    log: str | Path | None,
    share: float | None,
    progress: Callable[[int], None] | None,
) -> Profiled:
    """Read what the log has that was not read before, and keep the profiles of it, by turns: who
    forgets an entity meanwhile waits for no more than one."""
    if share is not None and not 0.0 < share <= 1.0:
        raise ArgumentError(
            f"share: found {share!r}; write a number above 0 and at most 1, which is a whole "
            "processor"
        )
    every, keep = settings(project)
    place = place_of(
        named_log(project.config.featurekit.serving_log, log),
        project.online,
        project.name,
        folder=project.path,
        state_dir=project.state_dir,
    )
    if log is not None and place.path is not None and not place.path.exists():
        raise DataError(f"there is no serving log {str(log)!r}; name a folder or a file")
    keys = {name: keys_of(project, name) for name in project.repo.compiled_services}
    into = profile_place(project)
    secret = make_secret(project.state_dir)
    into.claim(secret.name)
    rows = files = overtaken = 0
    pace = Pace(share)
    while True:
        turn = _Turn(Profiler(every, keys), pace, rows, progress)
        with into.held():
            kept = together(read(into).values(), every)
            more = turn.read(place.unread(set(kept.taken.get(place.name, ()))))
            try:
                if turn.names:
                    _keep(into, every, turn, secret.value, place)
            except Overtaken:
                overtaken += 1
                if overtaken > MOST_OVERTAKEN:
                    raise
                more = True  # what was counted in vain is counted again, if nobody else did
            else:
                rows, files = rows + turn.profiler.rows, files + len(turn.names)
                with suppress(Overtaken):  # another process does it, or this one later
                    _compact(into, every, keep, kept)
        if not more:
            return Profiled(rows, files)
        time.sleep(_BETWEEN_S)
        pace.rest()


def _compact(into: ProfilePlace, every: int, keep: int, kept: Reading) -> None:
    """Make one of all readings where there are many, or where a part of time is too old."""
    since = time.time_ns() // 1000 - keep
    old = any(start < since - every for parts in kept.profiles.values() for start in parts)
    if old or len(read(into)) > MOST_FILES:
        compact(into, every, since=since - since % every)


@dataclass(slots=True)
class _Turn:
    """One reading of some of the log, after `before` rows of earlier ones; `names` has what was
    read."""

    profiler: Profiler
    pace: Pace
    before: int
    progress: Callable[[int], None] | None
    names: list[str] = field(default_factory=list)

    def read(self, unread: Iterable[tuple[str, Iterable[ServedBlock]]]) -> bool:
        """Count so many files or entries as one turn takes; whether there may be more."""
        began = time.monotonic()
        for name, blocks in unread:
            for block in blocks:
                self.profiler.take(_there(block))
                self.pace.rest()
            self.names.append(name)
            if self.progress is not None:
                self.progress(self.before + self.profiler.rows)
            if self.profiler.rows >= MOST_ROWS or time.monotonic() - began > _TURN_S:
                return True
        return False


def _keep(into: ProfilePlace, every: int, turn: _Turn, secret: bytes, place: Place) -> None:
    # Of a stream the last id is enough, which is that of all before it.
    taken = turn.names if place.path is not None else turn.names[-1:]
    into.add(Reading(every, turn.profiler.told(secret), {place.name: taken}).encoded())
    if into.shared and place.path is not None:
        # Who slept while others made one of all twice finds its number free, and is not read.
        now = together(read(into).values(), every).taken.get(place.name, ())
        if not {*taken} <= {*now}:
            raise Overtaken(f"{into.shown('')} was changed by others while this process slept")


def _there(block: ServedBlock) -> ServedBlock:
    """The block without rows that `forget` emptied."""
    if not any(FORGOTTEN in statuses for statuses in block.statuses):
        return block
    return block.some([i for i in range(block.rows) if not is_forgotten(block, i)])
