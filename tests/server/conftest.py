"""A repo with every type of value, a Redis of its own, and a process that serves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import serving
from serving import World

from featurekit import FeatureStore
from featurekit.online.store.server import scratch_redis


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("served")
    with scratch_redis() as url:
        serving.write(folder, url)
        serving.fill(folder)
        with FeatureStore(folder) as store:
            yield World(folder, url, store)


@pytest.fixture(scope="package")
def server(world: World) -> Iterator[serving.Served]:
    with serving.serving("--project", "tests", "--redis-url", world.url) as made:
        yield made
