"""Checks a Feast repo, on whatever stores: what both paths say of the same entities, bit for bit,
and why they differ where they do.

The repo is asked through Feast's own `get_historical_features` and `get_online_features`; nothing
is written to its registry or its stores. A cause is told only where a check of the source's rows,
or a second look at the online store, has shown it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featurekit.core.screen import Advance, Progress
from featurekit.core.types import micros
from featurekit.errors import EntityFrameError, FeaturekitError, RegistryError, StoreUnavailable
from featurekit.plugins.feast.parity.check import Check, in_groups
from featurekit.plugins.feast.parity.paths import Raised, online
from featurekit.plugins.feast.parity.questions import asked_of, drawn, of_file
from featurekit.plugins.feast.parity.repo import opened, services_of, views_of
from featurekit.plugins.feast.parity.report import FeastReport
from featurekit.plugins.feast.parity.source import Rows
from featurekit.plugins.feast.parity.targets import Target, targets_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a repo: which views and services by their names, all without any; about
    which entities, those of a file or `rows` drawn by `seed`; as of which instant, by default the
    end of the last materialisation and now. With `statuses`, these are compared, too."""

    views: Sequence[str] = ()
    services: Sequence[str] = ()
    entities: Path | None = None
    at: dt.datetime | None = None
    rows: int = 1000
    seed: int = 0
    statuses: bool = False


def check_feast(
    folder: str | Path, asked: Asked | None = None, *, progress: Progress | None = None
) -> list[FeastReport]:
    """A report for each view and service of the Feast repo in `folder`.

    ConfigError for a folder that is no Feast repo, RegistryError for one that was not applied,
    DefinitionError for a name that it does not have, EntityFrameError for a file of entities that
    cannot be read, StoreUnavailable for a store that does not answer. Why one of the views could
    not be checked is the `failed` of its report.
    """
    asked = asked or Asked()
    move = progress or (lambda what, done, total: None)
    now = micros(dt.datetime.now(dt.UTC))
    frame = None if asked.entities is None else of_file(asked.entities)
    with opened(Path(folder)) as store:
        views = views_of(store, [*asked.views]) if asked.views or not asked.services else []
        services = (
            services_of(store, [*asked.services]) if asked.services or not asked.views else []
        )
        targets = targets_of(store, views, services)
        if not targets:
            raise RegistryError(f"{folder} has no views to check; run `feast apply`")
        sources = _Sources(store.config)
        reports = []
        for target in targets:
            report = FeastReport(target.name, asked.seed, "feast")
            try:
                _compare(
                    store, target, asked, frame, sources, report, now, partial(move, target.name)
                )
            except StoreUnavailable:
                raise
            except FeaturekitError as error:
                report.unchecked[f"view or service: {error}"] += 1
                named = target.name in {*asked.views, *asked.services}
                report.failed = None if isinstance(error, EntityFrameError) and not named else error
            reports.append(report)
        return reports


def assert_feast_parity(folder: str | Path, asked: Asked | None = None) -> None:
    """Hold the Feast repo in `folder` to parity in a test: ParityError, an AssertionError, which
    tells the first difference with its cause. The errors are those of `check_feast`; one of them is
    raised as well where a view or service that is asked for could not be compared."""
    from featurekit.parity.testing import ParityError

    reports = check_feast(folder, asked)
    differing = [one for report in reports for one in report.differences]
    if differing:
        told = differing[0].diagnosis
        number = sum(report.differing for report in reports)
        compared = sum(report.compared for report in reports)
        said = differing[0].feature if told is None else told.text()
        raise ParityError(f"{said}\n{number} of {compared} values differ", told)
    for report in reports:
        if report.failed is not None:
            raise report.failed
    if not any(report.compared for report in reports):
        reasons = dict.fromkeys(reason for report in reports for reason in report.unchecked)
        raise FeaturekitError(f"{folder}: nothing could be compared: {'; '.join(reasons)}")


class _Sources(dict[str, Rows]):
    """The sources of views, each read once."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def of(self, target: Target) -> dict[str, Rows]:
        """The sources of a target's parts."""
        for part in target.parts:
            if part.title not in self:
                self[part.title] = Rows(self.config, part.view)
        return {part.title: self[part.title] for part in target.parts}


def _compare(
    store: Any,
    target: Target,
    asked: Asked,
    frame: Any,
    sources: _Sources,
    report: FeastReport,
    now: int,
    progress: Advance,
) -> None:
    """Compare what a target is asked, and count it in its report."""
    offline_only = [p.view.name for p in target.parts if not getattr(p.view, "online", True)]
    if offline_only:
        report.unchecked[f"views with online=False: {', '.join(offline_only)}"] += 1
        return
    rows = sources.of(target)
    if frame is None:
        questions = drawn(
            target, rows, most=asked.rows, seed=asked.seed, until=now, unknown=asked.statuses
        )
    else:
        questions = asked_of(target, frame)
    if not questions:
        report.unchecked["views whose source has no rows"] += 1
        return
    empty = [p.title for p in target.parts if p.filled_us is None]
    if empty and _holds_nothing(store, target, questions):
        report.unchecked[f"rows of {', '.join(empty)}, which was not materialised"] += len(
            questions
        )
        return
    for group in in_groups(store, target, questions):
        check = Check(store, report, target, group, rows, statuses=asked.statuses)
        check.run(_instants(target, asked, now), progress)


def _holds_nothing(store: Any, target: Target, questions: Sequence[Any]) -> bool:
    """Whether online has no value at all for a view that was never materialised."""
    found = online(store, target, questions)
    if isinstance(found, Raised):
        return False
    return not any(value is not None for column in found.values() for value in column.values)


def _instants(target: Target, asked: Asked, now: int) -> list[int]:
    if asked.at is not None:
        return [micros(asked.at)]
    filled = target.filled_us
    return [now] if filled is None else sorted({filled, now})
