"""The stores of the sections: each test module's own definitions, in a Redis that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from featurekit import FeatureStore
from featurekit.online.store.server import scratch_redis
from rules.asking import One, opened


@pytest.fixture(scope="session")
def rules_url() -> Iterator[str]:
    """The URL of a Redis that no other test empties."""
    with scratch_redis() as url:
        yield url


@pytest.fixture(scope="module")
def store(request: Any, tmp_path_factory: Any, rules_url: str) -> Iterator[FeatureStore]:
    """A store of the module's MODULE, with a file for each of its TABLES.

    A worker may come back to a module that it left, and finds there what its first store wrote: the
    folder's number, and so the project's name, is then another.
    """
    folder = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    with opened(folder, rules_url, request.module.MODULE, request.module.TABLES) as made:
        yield made


@pytest.fixture
def one(store: FeatureStore) -> One:
    """An entity that no other test has."""
    return One(store)
