"""Feast repos for the tests of this folder, which need Feast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurekit.online.store.server import scratch_redis

os.environ.setdefault("FEAST_USAGE", "False")
os.environ.setdefault("IS_TEST", "True")

if TYPE_CHECKING:
    from feast_repos import Repo


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis of these tests."""
    with scratch_redis() as url:
        yield url


@pytest.fixture
def make_repo(tmp_path: Path, redis_url: str) -> Callable[..., Any]:
    """Makes a repo on featurekit's stores, or with `ours=False` on Feast's own."""
    from feast_repos import Repo

    made: list[Repo] = []

    def make(*, ours: bool = True, project: str | None = None, **options: Any) -> Repo:
        folder = tmp_path / f"repo{len(made)}"
        folder.mkdir()
        name = project or f"p{tmp_path.name}{len(made)}".replace("-", "_")
        made.append(Repo(folder, redis_url, ours=ours, project=name, **options))
        return made[-1]

    return make
