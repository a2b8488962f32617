"""How long a process takes to be useful: `import featurekit`, `featurekit --help`, a first answer.

Whole processes, from their start to their end, by turns; Python's own start is among the peers. The
modules are compiled, as an installation leaves them, whatever the environment says of that. The
first answer is of one entity and one view from a redis-server that runs, beside a process that does
one GET with redis-py: what counts is how much longer ours takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import OURS, Curve, Result, compiled, interleaved
from benchmarks.online_lookups import SIZES, Bench, Wide
from featurekit.online.store.server import scratch_redis

ROOT = Path(__file__).parent.parent
RUNS = {"smoke": 5, "medium": 15, "full": 40}
PYTHON = "python"
RAW = "raw redis-py"

LOOKUP = """
import sys
from featurekit.online.store.redis import RedisStore
from featurekit.online.lookup.service import OnlineService
online = OnlineService(RedisStore(sys.argv[1]), "bench", sys.argv[2])
assert len(online.get([{"key": 1}]).to_pylist()[0]) == 11
"""
GET = """
import struct, sys
import redis
raw = redis.Redis.from_url(sys.argv[1])
assert len(struct.unpack("<10d", raw.get(sys.argv[2]))) == 10
"""


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Each beside its limit or its peer."""
    runs = max(runs, RUNS[size])
    bare = ["-c", "pass"]
    for work, command, most in (
        ("import featurekit", ["-c", "import featurekit"], 0.10),
        ("featurekit --help", ["-m", "featurekit.cli", "--help"], 0.25),
    ):
        taken = _taken({OURS: command, PYTHON: bare}, runs)
        limit = f"{most:.2f} s"
        yield Result(work, f"{runs} processes", "s", taken | {limit: most}, limit, 1.0)
    with scratch_redis() as url:
        bench = Bench(url, SIZES["smoke"], runs)
        wide = Wide(bench, [10], 10)
        commands = {
            OURS: ["-c", LOOKUP, url, wide.service.name],
            RAW: ["-c", GET, url, wide.raw_key(0, 1).decode()],
        }
        taken = _taken(commands, runs)
        bench.close()
    yield Result("a process's first lookup", f"{runs} processes", "s", taken, RAW)
    more = {OURS: taken[OURS] - taken[RAW], "0.10 s": 0.10}
    yield Result(
        "a process's first lookup, beyond redis-py's", f"{runs} processes", "s", more, "0.10 s", 1.0
    )


def _taken(commands: dict[str, Sequence[str]], runs: int) -> dict[str, float]:
    """Median seconds of Python processes with these arguments."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with compiled() as environment:

        def run(arguments: Sequence[str]) -> None:
            subprocess.run(
                [sys.executable, *arguments],
                check=True, stdout=subprocess.DEVNULL, env=environment | {"PYTHONPATH": path},
            )  # fmt: skip

        return interleaved(
            {name: lambda given=given: run(given) for name, given in commands.items()}, runs
        )
