"""What every test shares: how long Hypothesis searches, a scratch Redis, and small feature repos.

DuckDB has one thread in each test that is not marked `parallel`: of a few rows there is nothing to
divide, and threads that wait for each other take a sixth of the time. With `--thorough` it has all.

`pytest --thorough` makes every generated test try five times as much, and random programs and lives
of a store longer: what is marked `thorough` repeats with few examples otherwise. With
`FEATUREKIT_EXAMPLES=20 pytest` it is twenty times as much.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_repos import CONFIG, MakeRepo
from hypothesis import HealthCheck, settings

from featurekit.define import proven
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import find_binary, scratch_redis

TESTS = Path(__file__).parent.resolve()
THOROUGH = {"FEATUREKIT_EXAMPLES": "5", "FEATUREKIT_PROGRAMS": "1000", "FEATUREKIT_STEPS": "1000"}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "try more examples of everything generated: for nights, and before a release"
    parser.addoption("--thorough", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Set how much is tried, which the tests' modules read as they are loaded."""
    if config.getoption("--thorough"):
        for name, value in THOROUGH.items():
            os.environ.setdefault(name, value)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As of a shell that runs in the background: what tests start would ignore it, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _share_collecting(config)
    gc.disable()  # until all is collected: what is loaded stays
    duckdb.connect = _of_one_thread if not config.getoption("--thorough") else duckdb.connect
    settings.register_profile(
        "featurekit",
        deadline=None,  # a shared machine has slow moments, and no test asserts a time
        max_examples=100 * int(os.environ.get("FEATUREKIT_EXAMPLES", "1")),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile("featurekit")


def _share_collecting(config: pytest.Config) -> None:
    """Let each of several workers begin with another part of the modules: most of the time of a
    module goes into rewriting its assertions, which are kept for the workers that come to it later.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(arg).resolve() for arg in config.args] != [TESTS]:
        return
    modules = sorted(map(str, TESTS.glob("*/test_*.py")))
    first = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    config.args = modules[first:] + modules[:first]


_connect = duckdb.connect
_parallel = False


def _of_one_thread(*args: Any, **kwargs: Any) -> duckdb.DuckDBPyConnection:
    return _connect(*args, **kwargs if _parallel else {"config": {"threads": 1}, **kwargs})


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before its fixtures are made, say how many threads a test has."""
    global _parallel
    _parallel = item.get_closest_marker("parallel") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow cases to `--thorough`, and to who asks for them by their mark."""
    if hasattr(config, "workerinput"):  # all workers have one order, wherever they began
        items.sort(key=lambda item: str(item.path))
    if config.getoption("--thorough") or config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item.get_closest_marker("slow") is None]


def pytest_collection_finish() -> None:
    """Leave the tests and their modules out of every collection of garbage to come: they are
    300,000 objects, which tests and benchmarks that collect would walk each time. What is left out
    counts no more for Python, which would go over all of the rest each 70,000 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7_000, 10, 10)
    gc.enable()


# What decides bits and bytes: a run says which of them it proves.
TESTED = (
    "duckdb",
    "pyarrow",
    "numpy",
    "polars",
    "pandas",
    "redis",
    "hiredis",
    "pydantic",
    "tzdata",
)


@pytest.fixture(scope="session", autouse=True)
def _proven() -> Iterator[None]:
    """The installed DuckDB counts as proven: these tests prove it, and a warning of a newer one
    would be an error in each of them."""
    with pytest.MonkeyPatch.context() as patched:
        known = [*proven.proven_versions(), proven.duckdb_version()]
        patched.setattr(proven, "proven_versions", lambda: known)
        yield


def pytest_report_header() -> list[str]:
    """The versions that are tested, and the server."""
    said = subprocess.run(
        [find_binary(), "--version"], stdout=subprocess.PIPE, text=True, check=True
    )
    return [
        ", ".join(f"{name} {importlib.metadata.version(name)}" for name in TESTED),
        said.stdout.split(" sha=")[0],
    ]


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[RedisStore]:
    """A store in a Redis that ends with the session."""
    with scratch_redis() as url:
        store = RedisStore(url)
        yield store
        store.close()


@pytest.fixture
def redis_url(_session_redis: RedisStore) -> str:
    """The URL of an empty Redis: what an earlier test left would be another repo's project."""
    _session_redis.client.flushall()
    return _session_redis.url


@pytest.fixture
def redis_store(redis_url: str) -> Iterator[RedisStore]:
    """A store in an empty Redis."""
    store = RedisStore(redis_url)
    yield store
    store.close()


@pytest.fixture(params=["memory", "redis"])
def online(request: pytest.FixtureRequest) -> OnlineStore:
    """Each kind of online store in turn, empty: what a store promises is tested on all of them."""
    store: OnlineStore = (
        MemoryStore() if request.param == "memory" else request.getfixturevalue("redis_store")
    )
    return store


@pytest.fixture
def make_repo(tmp_path: Path) -> MakeRepo:
    """Writes a feature repo: its module, and a Parquet file for each table; returns its folder."""

    def make(
        module: str, tables: Mapping[str, pa.Table | dict[str, Any]], config: str = CONFIG
    ) -> Path:
        folder = tmp_path / "repo"
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "feature_store.yaml").write_text(config, encoding="utf-8")
        (folder / "definitions.py").write_text(textwrap.dedent(module), encoding="utf-8")
        for name, table in tables.items():
            made = table if isinstance(table, pa.Table) else pa.table(table)
            pq.write_table(made, folder / "data" / f"{name}.parquet")
        return folder

    return make
