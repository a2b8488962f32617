"""Turns what a caller asks for into the performance of a service."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from featurekit.core.calls import near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.types import Instant, as_instant, micros
from featurekit.errors import ArgumentError, ConfigError, DataError
from featurekit.log.outcomes import in_force, read_outcomes
from featurekit.monitor.drift.keys import told_if_unknown
from featurekit.monitor.performance.join import Join, Judged, joined
from featurekit.monitor.performance.judge import Asked
from featurekit.monitor.performance.reference import of_training_set, reference_of
from featurekit.monitor.performance.report import Limits, Performance, performance_of
from featurekit.monitor.performance.slices import By
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the performance of a service; `FeatureStore.performance` says of what."""

    prediction: str | None
    target: str | None
    positive: Any
    cut: float
    classes: Sequence[Any]
    horizon: Duration
    window: Duration
    end: Instant | None
    by: Sequence[str]
    fairness: bool
    reference: str | os.PathLike[str] | Duration | None
    label: str | None
    log: str | Path | None


def performance(
    project: Project, service: str, given: Request, progress: Callable[[int], None] | None
) -> Performance:
    """The performance of a service."""
    end = given.end
    until = time.time_ns() // 1000 if end is None else micros(as_instant(end, what="end"))
    start = until - duration_us(given.window, what="window")
    by = [_by(one) for one in given.by]
    if given.fairness and not by:
        raise ArgumentError("fairness: it is between slices; write what these are by, as in --by")
    limits = _limits(project, service)
    files = read_outcomes(project.state_dir, service)
    outcomes = in_force(one for file in files for one in file.outcomes)
    if not outcomes:
        with told_if_unknown(project, service):
            raise DataError(
                f"there is no outcome of service {service!r}; push some with `featurekit outcomes "
                f"push {service} FILE`"
            )
    join = Join(
        service,
        outcomes.values(),
        horizon=duration_us(given.horizon, what="horizon"),
        target=given.target,
        feature=given.prediction,
        by=[one.name for one in by],
    )
    asked = Asked(_told(given.positive), given.cut, [_told(one) for one in given.classes])
    before = reference_of(given.reference)
    made = joined(join, project.served(given.log, forgotten=True), progress)
    reference: tuple[str, Sequence[Judged]] | None = None
    if isinstance(before, str):
        reference = of_training_set(project, before, service, given.prediction, given.label)
    elif before is not None:
        what = f"what was served in the {given.reference} before"
        reference = what, made.matched(start - before, start).judged
    found = made.matched(start, until)
    span = start, until
    return performance_of(
        service, found, span, asked, limits, by=by, fair=given.fairness, reference=reference
    )


def _by(written: str) -> By:
    """NAME, or NAME=BORDER,BORDER."""
    name, mark, borders = written.partition("=")
    try:
        found = tuple(map(float, borders.split(","))) if mark else ()
    except ValueError:
        found = (math.nan,)
    rising = all(a < b for a, b in pairwise(found))
    if not name or not rising or not all(map(math.isfinite, found)):
        raise ArgumentError(
            f"by: found {written!r}; write the name of a feature, a join key or a request field, "
            "or one with borders that rise, as in age=18,30,60"
        )
    return By(name, found)


def _told(positive: Any) -> Any:
    """The positive outcome as outcomes are kept: numbers are floats."""
    return float(positive) if type(positive) is int else positive


def _limits(project: Project, service: str) -> Limits:
    """The thresholds of a service. ConfigError where the repo's name a service that is not."""
    config = project.config.featurekit.monitoring
    if config is None:
        return Limits()
    services = project.repo.compiled_services
    each = {name: getattr(config, name) for name in ("performance", "change", "fairness")}
    for setting, told in each.items():
        for name in told:
            if name not in services:
                raise ConfigError(
                    f"featurekit.monitoring.{setting}: there is no service {name!r}; "
                    f"{near(name, services, listed='there are')}"
                )
    return Limits(*(told.get(service, {}) for told in each.values()))
