"""Spark makes training sets, whatever becomes of its workers; it takes a session that is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dying import Chaos, Dying
from feature_repos import MakeRepo
from repos import made, write_repo

from featurekit.errors import EngineError
from featurekit.store import FeatureStore

pytest.importorskip("pyspark", reason="pyspark is not installed (featurekit[spark])")
from featurekit.offline.engines.spark import SparkEngine

SEEDS = 3
JAVA = next(
    (p for p in sorted(Path("/usr/lib/jvm").glob("java-17*")) if (p / "bin" / "java").exists()),
    None,
)
pytestmark = pytest.mark.skipif(
    JAVA is None and "JAVA_HOME" not in os.environ, reason="no Java 17, which Spark needs"
)


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", here)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        if JAVA is not None:
            patch.setenv("JAVA_HOME", str(JAVA))
        builder = SparkSession.builder.master("local[2,8]").config("spark.ui.enabled", "false")
        made_session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
        made_session.sparkContext.setLogLevel("OFF")
        yield made_session
        made_session.stop()


def test_spark_gives_the_bits_of_this_process(make_repo: MakeRepo, session: Any) -> None:
    with FeatureStore(write_repo(make_repo)) as store:
        _, told = made(store, None)
        _, same = made(store, session)
        assert same["content_hash"] == told["content_hash"]
        assert same["errors"] == told["errors"]
        report = store.check_parity("asked", values=2_000, engine=session)
        assert report.ok
        assert report.compared >= 2_000


@pytest.mark.slow
def test_workers_that_are_killed_change_no_bit(
    make_repo: MakeRepo, session: Any, tmp_path: Path
) -> None:
    with FeatureStore(write_repo(make_repo)) as store:
        _, told = made(store, None)
        (tmp_path / "killed").mkdir()
        for seed in range(SEEDS):
            chaos = Chaos(SparkEngine(session), Dying(tmp_path / "killed", seed, 0.6))
            _, same = made(store, chaos, buckets=10)
            assert same["content_hash"] == told["content_hash"]
    assert len(list((tmp_path / "killed").iterdir())) >= SEEDS * 14


def failing(unit: bytes) -> bytes:
    raise RuntimeError("no such thing")


def test_what_fails_each_time_is_told(session: Any) -> None:
    with pytest.raises(EngineError, match="a task failed"):
        list(SparkEngine(session).run(failing, [b"1"]))
