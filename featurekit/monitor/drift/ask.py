"""Turns what a caller names as a reference into the drift of a service from it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from featurekit.core.calls import near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.types import Instant, as_instant, micros
from featurekit.define.feature_contract.contract import Contract
from featurekit.errors import ArgumentError, ConfigError, DataError, DefinitionError
from featurekit.monitor.drift.frames import Frame, OfTrainingSet, kept
from featurekit.monitor.drift.judge import Thresholds
from featurekit.monitor.drift.keys import keys_of, told_if_unknown
from featurekit.monitor.drift.report import (
    Drift,
    drift_between,
    drift_from_contract,
    drift_of_windows,
)
from featurekit.monitor.drift.samples import Window
from featurekit.offline.manifest import MANIFEST
from featurekit.project.project import Project
from featurekit.project.remake import remake


def drift(
    project: Project,
    service: str,
    reference: str | os.PathLike[str] | Contract | Duration,
    *,
    window: Duration,
    end: Instant | None,
    log: str | Path | None,
    profiles: bool,
    progress: Callable[[int], None] | None,
    evidently: str | os.PathLike[str] | None = None,
) -> Drift:
    """The drift of a service; `FeatureStore.drift` says of what and by which words."""
    page = None if evidently is None else _page(evidently, profiles=profiles)
    until = time.time_ns() // 1000 if end is None else micros(as_instant(end, what="end"))
    took = duration_us(window, what="window")
    keys = keys_of(project, service)
    asked = Window(until - took, until, keys)
    by = _thresholds(project)
    before = _length(reference)
    if profiles:
        return _of_profiles(project, service, before, took, until, by)
    blocks = project.served(log, since_us=asked.start - (before or 0))
    now = Frame(asked.start, asked.end)
    was: Frame | OfTrainingSet | None
    if before is not None:
        earlier = Window(asked.start - before, asked.start, keys)
        was = Frame(earlier.start, earlier.end)
        if page is not None:
            blocks = kept(blocks, service, [was, now])
        with told_if_unknown(project, service):
            found = drift_between(service, blocks, earlier, asked, by, progress=progress)
        return _with_evidently(found, page, was, now)
    contract, was = _trained(project, reference)
    if contract.service != service:
        raise ArgumentError(
            f"reference: the feature contract is of service {contract.service!r}, found "
            f"{service!r}; write {contract.service}"
        )
    if page is not None:
        if was is None:
            raise ArgumentError(
                "evidently: it compares rows, and a feature contract has none; write the manifest "
                f"of its training set as the reference, as in train.parquet{MANIFEST}"
            )
        blocks = kept(blocks, service, [now])
    told = f"the training set {contract.content_hash[:12]}"
    found = drift_from_contract(contract, blocks, asked, by, reference=told, progress=progress)
    return _with_evidently(found, page, was, now)


def _page(path: str | os.PathLike[str], *, profiles: bool) -> Path:
    """The file of Evidently's report. ArgumentError where the rows are not read."""
    from featurekit.monitor.drift.evidently import check_evidently

    if profiles:
        raise ArgumentError(
            "evidently: it compares rows, and profiles have none; leave profiles out"
        )
    check_evidently(Path(path))
    return Path(path)


def _with_evidently(
    found: Drift, page: Path | None, was: Frame | OfTrainingSet | None, now: Frame
) -> Drift:
    """What was found, with the figures of Evidently where its page is asked for."""
    if page is None or was is None:
        return found
    from featurekit.monitor.drift.evidently import write_report

    return replace(found, evidently=write_report(page, was, now))


def _of_profiles(
    project: Project, service: str, before: int | None, took: int, until: int, by: Thresholds
) -> Drift:
    """The drift between two windows of kept profiles."""
    from featurekit.monitor.profiles.kept import kept_windows

    if before is None:
        raise ArgumentError(
            "profiles: they are compared with those of an earlier time; write how long before the "
            "window as the reference, as in 7d"
        )
    earlier, asked = kept_windows(project, service, until, before, took)
    return drift_of_windows(service, earlier, asked, by)


def _length(reference: object) -> int | None:
    """How long before the window a reference goes back; None where it is none of time."""
    if isinstance(reference, (Contract, os.PathLike)):
        return None
    if isinstance(reference, str) and (reference.endswith(".json") or Path(reference).exists()):
        return None
    try:
        return duration_us(reference, what="reference")  # type: ignore[arg-type]
    except DefinitionError:
        raise ArgumentError(
            f"reference: found {reference!r}; write a feature contract or a manifest that exists, "
            "as in churn.contract.json, or how long before the window, as in 7d"
        ) from None


def _trained(project: Project, reference: object) -> tuple[Contract, OfTrainingSet | None]:
    """The contract that a reference is, or names, and the rows of the training set where it is a
    manifest."""
    if isinstance(reference, Contract):
        return reference, None
    path = str(reference)
    if not Path(path).exists():
        raise DataError(f"{path}: there is no such file; write a feature contract or a manifest")
    if not path.endswith(MANIFEST):
        return Contract.load(path), None
    training = remake(project, path)
    contract = training.contract()
    return contract, OfTrainingSet(training, contract)


def _thresholds(project: Project) -> Thresholds:
    """The thresholds of the repo. ConfigError where they name a feature that no service has."""
    config = project.config.featurekit.monitoring
    if config is None:
        return Thresholds()
    services = project.repo.compiled_services.values()
    known = sorted({output.full_name for service in services for output in service.outputs})
    for name in config.features:
        if name not in known:
            raise ConfigError(
                f"featurekit.monitoring.features: no service has a feature {name!r}; "
                f"{near(name, known, listed='there are')}"
            )
    every = cast(Mapping[str, float | None], config.thresholds)
    features = cast(Mapping[str, Mapping[str, float | None]], config.features)
    return Thresholds(every, features, config.chance)
