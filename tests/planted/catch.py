"""Plants one skew and looks for it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import pytest

from featurekit.define.repo import Repo, load_repo
from featurekit.online.store.memory import MemoryStore
from featurekit.parity.budget import Budget
from featurekit.parity.diagnose.diagnose import diagnose
from featurekit.parity.modes.fuzz.fuzz import Fuzzer
from featurekit.parity.modes.operators import check_operators
from featurekit.parity.report import Difference
from tests.planted import (
    category_skews,
    exact_skews,
    filter_skews,
    frame_skews,
    joined_skews,
    label_skews,
    list_skews,
)
from tests.planted.skews import SKEWS, Skew

for _added in (
    category_skews,
    exact_skews,
    filter_skews,
    frame_skews,
    joined_skews,
    label_skews,
    list_skews,
):
    assert _added.SKEWS is SKEWS  # each has added its own

REPO = Path(__file__).parent / "repo"
DEFAULT = 1_000_000
_QUESTIONS = 1_500
_LABELS = 20_000


@dataclass(frozen=True)
class Caught:
    """After how many values a skew was found, 0 where it was not, and where it was seen first."""

    skew: Skew
    values: int = 0
    feature: str = ""
    named: str = ""


@functools.cache
def repo() -> Repo:
    """The repo of everything, loaded before anything is planted."""
    return load_repo(REPO)


def catch(skew: Skew, *, seed: int = 0, most: int = DEFAULT, named: bool = False) -> Caught:
    """Plant it, and look for it in up to `most` values; `named`: and have the cause told."""
    found = repo()
    with pytest.MonkeyPatch.context() as patch:
        skew.plant(patch)
        if skew.mode == "operators":
            return _operators(skew, seed)
        if skew.mode == "labels":
            return _labels(skew, seed)
        if skew.mode != "fuzz":
            raise ValueError(
                f"{skew.name}: no skew is looked for by mode {skew.mode!r}; add it here"
            )
        service = found.compiled_services[skew.service]
        fuzzer = Fuzzer(service, found.sources, seed)
        compared = world = 0
        while compared < most:
            played = fuzzer.play(world, MemoryStore(), questions=_QUESTIONS)
            compared += sum(played.compared.values())
            world += 1
            if played.differences:
                shown = [d for d in played.differences if d.scenario is not None]
                first = (shown or played.differences)[0]
                cause = _cause(shown) if named else ""
                return Caught(skew, compared, first.feature, cause)
    return Caught(skew)


def _cause(shown: list[Difference]) -> str:
    """The cause that the diagnosis of the first difference tells."""
    if not shown or shown[0].scenario is None:
        return "exception"
    first = shown[0]
    told = diagnose(shown[0].scenario, first.feature, offline=first.offline, online=first.online)
    return told.cause


def _operators(skew: Skew, seed: int) -> Caught:
    report = check_operators(budget=Budget(values=100_000), seed=seed)
    wrong = [key for key, row in report.rows.items() if not row.ok]
    return Caught(skew, report.compared, wrong[0], "operator") if wrong else Caught(skew)


def _labels(skew: Skew, seed: int) -> Caught:
    from tests.planted.labels import compare

    found = compare(seed=seed, most=_LABELS)
    seen = Caught(skew, found.values, found.differing, "not told")
    return seen if found.differing else Caught(skew)


__all__ = ["DEFAULT", "REPO", "SKEWS", "Caught", "catch", "repo"]
