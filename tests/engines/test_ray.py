"""Ray makes training sets, whatever becomes of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dying import Chaos, Dying
from feature_repos import MakeRepo
from repos import made, write_repo

from featurekit.errors import EngineError
from featurekit.store import FeatureStore

ray = pytest.importorskip("ray", reason="ray is not installed (featurekit[ray])")
from featurekit.offline.engines.ray import RayEngine  # noqa: E402

SEEDS = 3


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )  # fmt: skip
    yield RayEngine()
    ray.shutdown()


def test_ray_gives_the_bits_of_this_process(make_repo: MakeRepo, engine: RayEngine) -> None:
    with FeatureStore(write_repo(make_repo)) as store:
        _, told = made(store, None)
        _, same = made(store, "ray")
        assert same["content_hash"] == told["content_hash"]
        assert same["errors"] == told["errors"]
        report = store.check_parity("asked", values=2_000, engine=engine)
        assert report.ok
        assert report.compared >= 2_000


@pytest.mark.slow
def test_workers_that_are_killed_change_no_bit(
    make_repo: MakeRepo, engine: RayEngine, tmp_path: Path
) -> None:
    with FeatureStore(write_repo(make_repo)) as store:
        _, told = made(store, None)
        (tmp_path / "killed").mkdir()
        for seed in range(SEEDS):
            chaos = Chaos(engine, Dying(tmp_path / "killed", seed, 0.6))
            _, same = made(store, chaos, buckets=10)
            assert same["content_hash"] == told["content_hash"]
    assert len(list((tmp_path / "killed").iterdir())) >= SEEDS * 14


def test_a_cluster_that_is_not_there_is_told(engine: RayEngine) -> None:
    ray.shutdown()
    with pytest.raises(EngineError, match="cannot be reached"):
        RayEngine("127.0.0.1:1")
