"""What the tests of versions share: a feature repo whose Redis is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from versioned import Repo

from featurekit.online.store.server import scratch_redis


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    """A feature repo in a folder of its own, with a Redis of its own."""
    with scratch_redis() as url:
        yield Repo(tmp_path, url)
