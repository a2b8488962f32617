"""Turns the name of a mode and a service into a report.

A mode is a row of `MODES` and a file in `modes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from featurekit.core.screen import Advance
from featurekit.errors import DefinitionError
from featurekit.offline.engines.named import LOCAL, check_engine, engine_of
from featurekit.offline.engines.protocol import Engine
from featurekit.offline.engines.spread import Elsewhere
from featurekit.parity.budget import Budget, as_budget
from featurekit.parity.modes.operators import OperatorsReport
from featurekit.parity.modes.prove import keep_proof, prove
from featurekit.parity.report import Report
from featurekit.project.kept_results import keep_parity
from featurekit.project.project import Project
from featurekit.project.workers import elsewhere
from featurekit.sources.reading import one_reading

MODES = {
    "history": "featurekit.parity.modes.history",
    "fuzz": "featurekit.parity.modes.fuzz.fuzz",
    "sample": "featurekit.parity.modes.sample",
    "replay": "featurekit.parity.modes.replay",
}
"""The modes that compare a service: the module of each, of which `run(project, service, check)`
gives the report. It is loaded when it is asked for."""


_BY_ENGINE = ("history", "fuzz")


@dataclass(frozen=True, slots=True)
class Check:
    """What a check was told: how much it may take, None for the mode's own default, the seed of its
    questions, in how many processes, which serving log, whom to tell how far it is, and the engine
    that makes the offline answers."""

    budget: str | int | Budget | None = None
    seed: int = 0
    workers: int | None = None
    log: str | Path | None = None
    progress: Advance | None = None
    engine: Any = None

    def most(self, default: int) -> Budget:
        """The budget, or so many values."""
        return as_budget(self.budget, default=default)

    @property
    def opens_engine(self) -> Callable[[], Engine | None] | None:
        """What opens the engine, where one was asked for."""
        check_engine(self.engine)
        return None if self.engine in (None, LOCAL) else partial(engine_of, self.engine)

    def elsewhere(self, project: Project) -> Elsewhere | None:
        """The engine, with what its workers read of a project."""
        return None if self.opens_engine is None else elsewhere(project, self.engine)


def check_parity(project: Project, service: str, mode: str, check: Check) -> Report:
    """Compare online with offline in one mode; see `FeatureStore.check_parity`."""
    if check.engine is not None and mode not in _BY_ENGINE:
        raise DefinitionError(
            f"check_parity: engine= is for the modes {' and '.join(_BY_ENGINE)}, not {mode!r}"
        )
    compiled = project.service(service)
    module = MODES.get(mode)
    if module is None:
        named = ", ".join(f'"{name}"' for name in MODES)
        raise DefinitionError(f'check_parity: mode is {named} or "operators", not {mode!r}')
    with one_reading():
        found = import_module(module).run(project, compiled, check)
    assert isinstance(found, Report)
    counts = {n: (f.compared, f.differing, f.lagging) for n, f in found.features.items()}
    keep_parity(project.state_dir, service, mode, counts)
    return found


def check_operators(project: Project, check: Check) -> OperatorsReport:
    """Compare every row of the operator table and every aggregate, and keep the proof."""
    if check.engine is not None:
        raise DefinitionError('check_parity: engine= is for "history" and "fuzz"')
    found = prove(budget=check.most(1_000_000), seed=check.seed, progress=check.progress)
    keep_proof(found, project.state_dir)
    return found
