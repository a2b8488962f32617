"""Turns the condition of a trigger into what a look at the store found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING

from featurekit.core.types import instant
from featurekit.monitor.triggers.decide import Found
from featurekit.monitor.triggers.state import State
from featurekit.project.trigger_settings import (
    DriftCondition,
    Kind,
    NewRowsCondition,
    PerformanceCondition,
    Schedule,
    TriggerConfig,
)

if TYPE_CHECKING:
    from featurekit.monitor.drift.judge import Figure
    from featurekit.monitor.performance.report import Performance
    from featurekit.project.project import Project

OpenProject = Callable[[], AbstractContextManager["Project"]]
"""Opens the project as it is now, for one look."""
_MOST_NAMED = 5


def look(config: TriggerConfig, state: State, now: int, opened: OpenProject) -> Found:
    """Look at a trigger's condition. FeaturekitError where it cannot be told whether it holds."""
    if config.schedule is not None:
        return scheduled(config.schedule, state.mark, now)
    with opened() as project:
        return _LOOKS[config.kind](config, state, project)


def scheduled(schedule: Schedule, mark: int | None, now: int) -> Found:
    """Whether an instant of the schedule lies behind the mark. Of several the last one counts, and
    before the first look none does."""
    if mark is None:
        return Found(False, "", now)
    latest = schedule.times.latest(now)
    if latest <= mark:
        return Found(False, "")
    at = instant(latest).isoformat(timespec="minutes")
    return Found(True, f"{schedule.cron} in {schedule.timezone} came at {at}", latest)


def _performance(config: TriggerConfig, state: State, project: Project) -> Found:
    from featurekit.monitor.performance.ask import performance

    asked = config.performance
    assert asked is not None
    found = performance(
        project,
        asked.service,
        prediction=asked.prediction,
        target=asked.target,
        positive=asked.positive,
        cut=asked.cut,
        horizon=asked.horizon,
        window=asked.window,
        end=None,
        log=None,
        progress=None,
    )
    return performed(asked, found)


def performed(asked: PerformanceCondition, found: Performance) -> Found:
    """Whether predictions did worse than they may."""
    if asked.measure is None:
        worse = found.worse
    else:
        worse = [
            one.measure
            for one in found.scores
            if one.measure == asked.measure
            and one.low is not None
            and one.high is not None
            and (one.high < asked.below if asked.below is not None else one.low > asked.above)  # type: ignore[operator]
        ]
    told = []
    for one in found.scores:
        if one.measure in worse:
            limit = one.threshold if asked.measure is None else asked.below
            limit = asked.above if limit is None else limit
            span = f"{one.low:.4g} to {one.high:.4g}"
            told.append(f"{one.measure} is {one.value:.4g} ({span}), limit {limit:g}")
    reason = f"{asked.service}, {found.judged} rows in {asked.window}: {'; '.join(told)}"
    return Found(bool(worse), reason)


def _drift(config: TriggerConfig, state: State, project: Project) -> Found:
    from featurekit.monitor.drift.ask import drift

    asked = config.drift
    assert asked is not None
    path = project.path / asked.reference
    reference = str(path) if path.exists() else asked.reference
    found = drift(
        project, asked.service, reference, window=asked.window, end=None, log=None, progress=None
    )
    return drifted(asked, found.drifting, found.figures)


def drifted(asked: DriftCondition, drifting: list[str], figures: tuple[Figure, ...]) -> Found:
    """Whether features that count have moved away."""
    if asked.measure is None or asked.above is None:
        names = drifting
    else:
        names = [
            one.feature
            for one in figures
            if one.measure == asked.measure
            and one.value - one.bound > max(asked.above, one.chance or 0.0)
        ]
    names = [name for name in names if not asked.features or name in asked.features]
    shown = ", ".join(names[:_MOST_NAMED]) + (" and others" if len(names) > _MOST_NAMED else "")
    one = len(names) == 1
    what = "drifts" if one else "drift"
    if asked.measure is not None:
        what = f"{'has' if one else 'have'} {asked.measure} above {asked.above:g}"
    count = "1 feature" if one else f"{len(names)} features"
    reason = f"{count} of {asked.service} {what} in {asked.window}, beside "
    return Found(bool(names), f"{reason}{asked.reference}: {shown}")


def _skew(config: TriggerConfig, state: State, project: Project) -> Found:
    from featurekit.parity.budget import Budget
    from featurekit.parity.modes.sample import LiveCheck

    asked = config.skew
    assert asked is not None
    # Another seed each time, so that other entities are asked about.
    with closing(LiveCheck(project, asked.service, seed=(state.looked or 0) % 2**31)) as check:
        found = check.run(Budget(values=asked.values))
    names = [name for name, one in found.features.items() if one.differing]
    shown = ", ".join(names[:_MOST_NAMED])
    return Found(
        bool(found.differing),
        f"{found.differing} of {found.compared} values of {asked.service} differ online from "
        f"offline: {shown}",
    )


def _new_rows(config: TriggerConfig, state: State, project: Project) -> Found:
    asked = config.new_rows
    assert asked is not None
    return counted(asked, state.mark, rows_of(project, asked.source))


def counted(asked: NewRowsCondition, mark: int | None, rows: int) -> Found:
    """Whether enough rows came since the mark, which the first look sets. Where rows went, as of
    who was forgotten, those that are there are what later ones are counted from."""
    since = rows if mark is None else min(mark, rows)
    new = rows - since
    if new < asked.at_least:
        return Found(False, "", since)
    return Found(
        True, f"{new} rows came to {asked.source}, where {asked.at_least} are enough", rows
    )


def rows_of(project: Project, name: str) -> int:
    """How many rows a source has, in files and in the log of pushes."""
    from featurekit.offline.events import source_events

    source = project.source(name)
    with project.connect() as con:
        read = source_events(
            con,
            source,
            base=project.path,
            state_dir=project.state_dir,
            forgotten=project.forgotten(source),
            may_be_empty=True,
        )
        found: tuple[int] = con.execute(
            f"SELECT count(*) FROM ({_sql(read.events.relation)})"
        ).fetchone()
    return found[0]


def _sql(relation: str) -> str:
    """A relation as a query: it may be the name of a table, or a query in brackets."""
    return f"FROM {relation}"


_LOOKS: dict[Kind, Callable[[TriggerConfig, State, Project], Found]] = {
    "performance": _performance,
    "drift": _drift,
    "skew": _skew,
    "new_rows": _new_rows,
}
