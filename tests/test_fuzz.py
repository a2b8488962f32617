"""`featurekit parity fuzz`: what it draws, and that both paths agree on it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from featurekit.errors import DefinitionError
from featurekit.online.store import MemoryStore
from featurekit.parity.budget import Budget, parse_budget
from featurekit.parity.fuzz import Fuzzer, fuzz
from featurekit.repo import Repo, load_repo
from featurekit.store import FeatureStore
from tests.paths import connect

SHOP = Path(__file__).parent.parent / "feature_repo"
EVERYTHING = Path(__file__).parent / "planted" / "repo"


@pytest.fixture(scope="module", params=[SHOP, EVERYTHING], ids=["shop", "everything"])
def repo(request: pytest.FixtureRequest) -> Repo:
    return load_repo(request.param)


def fuzzers(repo: Repo, seed: int) -> list[Fuzzer]:
    return [Fuzzer(s, repo.sources, seed) for s in repo.compiled_services.values()]
