"""`featurekit parity fuzz`: what it draws, and that both paths agree on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurekit.parity.fuzz import Fuzzer
from featurekit.repo import Repo, load_repo

SHOP = Path(__file__).parent.parent / "feature_repo"
EVERYTHING = Path(__file__).parent / "planted" / "repo"


@pytest.fixture(scope="module", params=[SHOP, EVERYTHING], ids=["shop", "everything"])
def repo(request: pytest.FixtureRequest) -> Repo:
    return load_repo(request.param)


def fuzzers(repo: Repo, seed: int) -> list[Fuzzer]:
    return [Fuzzer(s, repo.sources, seed) for s in repo.compiled_services.values()]
