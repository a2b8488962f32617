"""Turns the name of a mode and a service into a report: one function per mode, chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.screen import Advance
from featurekit.define.plan import Service
from featurekit.errors import DefinitionError
from featurekit.parity.budget import Budget, as_budget
from featurekit.parity.modes.operators import OperatorsReport
from featurekit.parity.modes.prove import keep_proof, prove
from featurekit.parity.report import Report
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class Check:
    """What a check was told: how much it may take, None for the mode's own default, the seed of its
    questions, in how many processes, which serving log, and whom to tell how far it is."""

    budget: str | int | Budget | None = None
    seed: int = 0
    workers: int | None = None
    log: str | Path | None = None
    progress: Advance | None = None

    def most(self, default: int) -> Budget:
        """The budget, or so many values."""
        return as_budget(self.budget, default=default)


def check_parity(project: Project, service: str, mode: str, check: Check) -> Report:
    """Compare online with offline in one mode; see `FeatureStore.check_parity`."""
    compiled = project.service(service)
    run = MODES.get(mode)
    if run is None:
        raise DefinitionError(
            'check_parity: mode is "history", "fuzz", "sample", "replay" or "operators", '
            f"not {mode!r}"
        )
    return run(project, compiled, check)


def check_operators(project: Project, check: Check) -> OperatorsReport:
    """Compare every row of the operator table and every aggregate, and keep the proof."""
    found = prove(budget=check.most(1_000_000), seed=check.seed, progress=check.progress)
    keep_proof(found, project.state_dir)
    return found


def _history(project: Project, service: Service, check: Check) -> Report:
    from featurekit.parity.modes.history import check_parity

    return check_parity(
        project, service, budget=check.most(100_000), seed=check.seed, progress=check.progress
    )


def _fuzz(project: Project, service: Service, check: Check) -> Report:
    from featurekit.parity.modes.fuzz.fuzz import fuzz

    return fuzz(
        service,
        project.repo.sources,
        budget=check.most(1_000_000),
        seed=check.seed,
        workers=check.workers,
        progress=check.progress,
    )


def _sample(project: Project, service: Service, check: Check) -> Report:
    from featurekit.parity.modes.sample import LiveCheck

    live = LiveCheck(project, service.name, seed=check.seed, workers=check.workers)
    with closing(live):
        return live.run(check.most(100_000), progress=check.progress)


def _replay(project: Project, service: Service, check: Check) -> Report:
    from featurekit.parity.modes.replay import replay

    progress = check.progress
    (report,) = replay(
        project,
        [service.name],
        project.served(check.log),
        budget=None if check.budget is None else check.most(1),
        seed=check.seed,
        progress=None if progress is None else lambda done: progress(done, done),
    )
    return report


MODES: dict[str, Callable[[Project, Service, Check], Report]] = {
    "history": _history,
    "fuzz": _fuzz,
    "sample": _sample,
    "replay": _replay,
}
"""The modes that compare a service."""
