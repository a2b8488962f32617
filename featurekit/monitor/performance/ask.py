"""Turns what a caller asks for into the performance of a service."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from featurekit.core.calls import near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.types import Instant, as_instant, micros
from featurekit.errors import ConfigError, DataError
from featurekit.log.outcomes import in_force, read_outcomes
from featurekit.monitor.performance.join import Join, joined
from featurekit.monitor.performance.judge import Asked
from featurekit.monitor.performance.report import Performance, performance_of
from featurekit.project.project import Project


def performance(
    project: Project,
    service: str,
    *,
    prediction: str | None,
    target: str | None,
    positive: Any,
    cut: float,
    horizon: Duration,
    window: Duration,
    end: Instant | None,
    log: str | Path | None,
    progress: Callable[[int], None] | None,
) -> Performance:
    """The performance of a service; `FeatureStore.performance` says of what."""
    until = time.time_ns() // 1000 if end is None else micros(as_instant(end, what="end"))
    start = until - duration_us(window, what="window")
    thresholds = _thresholds(project, service)
    files = read_outcomes(project.state_dir, service)
    outcomes = in_force(one for file in files for one in file.outcomes)
    if not outcomes:
        raise DataError(
            f"there is no outcome of service {service!r}; push some with `featurekit outcomes push "
            f"{service} FILE`"
        )
    join = Join(
        service,
        outcomes.values(),
        horizon=duration_us(horizon, what="horizon"),
        target=target,
        feature=prediction,
    )
    found = joined(join, project.served(log, forgotten=True), progress).matched(start, until)
    return performance_of(service, found, (start, until), Asked(_told(positive), cut), thresholds)


def _told(positive: Any) -> Any:
    """The positive outcome as outcomes are kept: numbers are floats."""
    return float(positive) if type(positive) is int else positive


def _thresholds(project: Project, service: str) -> Mapping[str, float | None]:
    """The thresholds of a service. ConfigError where the repo's name a service that is not."""
    config = project.config.featurekit.monitoring
    if config is None:
        return {}
    services = project.repo.compiled_services
    for name in config.performance:
        if name not in services:
            raise ConfigError(
                f"featurekit.monitoring.performance: there is no service {name!r}; "
                f"{near(name, services, listed='there are')}"
            )
    return cast(Mapping[str, float | None], config.performance.get(service, {}))
