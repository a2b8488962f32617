"""Rows of a serving log, and a repo whose profiles of them are kept."""

from __future__ import annotations

import datetime as dt
import math
import random
from pathlib import Path

from featurekit.core.types import FLOAT, INT, STR
from featurekit.log.profiles import Reading
from featurekit.log.served.block import ServedBlock, ServedHead, encode
from featurekit.log.served.parquet import written
from featurekit.monitor.profiles.counts import Profiler

DAY = 86_400_000_000
START = 20_000 * DAY
OUTPUTS = {"v__x": FLOAT.or_none(), "v__n": INT.or_none(), "v__word": STR.or_none()}
HEAD = ServedHead("profiles", "s", "f" * 32, {}, ("v",), {"k": STR.or_none()}, {}, OUTPUTS)
ODD = [math.nan, math.inf, -0.0, 0.0, 5e-324, 1e308, -1e308, 1e16, 1.0, None]


def block(rng: random.Random, n: int, days: int = 3, shift: float = 0.0) -> ServedBlock:
    at = [START + rng.randrange(days * DAY) for _ in range(n)]
    return ServedBlock(
        HEAD,
        served_at=at,
        as_of=at,
        request=list(range(n)),
        arrivals=[[one - rng.randrange(1_000) for one in at]],
        keys=[[f"k{rng.randrange(40)}" for _ in range(n)]],
        fields=[],
        values=[
            [rng.choice(ODD) if rng.random() < 0.1 else rng.gauss(shift, 3) for _ in range(n)],
            [rng.randrange(-5, 2_000) for _ in range(n)],
            [rng.choice(["a", "b", None, f"rare{rng.randrange(9)}"]) for _ in range(n)],
        ],
        statuses=[["PRESENT"] * n, [rng.choice(["PRESENT", "ERROR"]) for _ in range(n)],
                  ["PRESENT"] * n],
        until=[None],
        process="p",
    )  # fmt: skip


def told(*blocks: ServedBlock) -> Reading:
    made = Profiler(DAY, {"s": {"v": ("k",)}})
    for one in blocks:
        made.take(one)
    return Reading(DAY, made.told(b"secret"))


MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
person = Entity("k", {"k": str})
visits = EventSource("visits", path="visits.parquet", timestamp_field="ts",
                     schema={"k": str, "x": float, "n": int, "word": str})
v = FeatureView("v", entities=[person], source=visits, ttl="1d",
                features={"x": "x", "n": "n", "word": "word"})
s = FeatureService("s", features=[v])
"""
CONFIG = """
project: profiles
online_store: {type: redis}
featurekit:
  redis_url: redis://127.0.0.1:9/0
  serving_log: {to: parquet}
  monitoring: {profiles: {every: 1d, keep: 36500d}}
"""


def repo(folder: Path, config: str = CONFIG) -> Path:
    """A repo with an empty serving log, in a folder."""
    (folder / "feature_store.yaml").write_text(config)
    (folder / "definitions.py").write_text(MODULE)
    (folder / ".featurekit" / "served").mkdir(parents=True)
    return folder


def log(repo: Path, name: str, made: ServedBlock) -> None:
    data = written(HEAD, [b"".join(encode(made))], [{**made.about(), "rows": made.rows}])
    (repo / ".featurekit" / "served" / f"{name}.parquet").write_bytes(data)


def instant(us: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(us / 1e6, dt.UTC)
