"""What live profiling costs lookups: p50 and processor time, with the serving log on, while another
process keeps profiles of what is logged or while none does.

Lookups of one row and twenty features go to a real Redis in a closed loop, each of them logged.
Stretches with and without profiles come by turns, and what counts is the median of the ratios of
pairs. In a stretch with profiles, `featurekit monitor profile` counts what the last two have
logged: so each row that is served is counted, at the full speed of the loop.

    python -m benchmarks.live_profiles [--size full] [--runs 15] [--json]
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from benchmarks.measure import arguments
from benchmarks.serving_log import fill, stretch
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.project.config import ServingLogConfig
from featurekit.project.served_log import open_log

GOAL = 1.03
LOOKUPS = {"smoke": 500, "medium": 2_000, "full": 5_000}
DEFINITIONS = "from benchmarks.serving_log import service\nbench = service()\n"
CONFIG = """project: bench
online_store: {{type: redis}}
featurekit:
  redis_url: {url}
  serving_log: {{to: parquet}}
"""
PROFILER = """
import os
import sys
from featurekit import FeatureStore
os.nice(19)  # as docs/monitoring.md tells to run it
with FeatureStore(sys.argv[1]) as store:
    store.profile()
    for _ in sys.stdin:
        print(store.profile().rows, flush=True)
"""


def measured(lookups: int, runs: int) -> dict[str, Any]:
    """The seconds of lookups by stretch with and without profiles, and what was counted."""
    with scratch_redis() as url, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "definitions.py").write_text(DEFINITIONS)
        (folder / "feature_store.yaml").write_text(CONFIG.format(url=url))
        store = RedisStore(url)
        fill(store)
        config = ServingLogConfig.model_validate({"to": "parquet", "rotate_seconds": 0.2})
        log = open_log(config, store, "bench", state_dir=folder / ".featurekit")
        online = OnlineService(store, "bench", "bench", log=log)
        rng = random.Random(2)
        stretch(online, 500, rng)
        time.sleep(1.5)
        command = [sys.executable, "-c", PROFILER, str(folder)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as profiler:
            assert profiler.stdin is not None
            assert profiler.stdout is not None
            told = profiler.stdin, profiler.stdout
            _ask(*told)
            taken: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
            rows = 0
            for _ in range(runs):
                for mode, many in taken.items():
                    cpu = time.process_time()
                    if mode == "on":
                        print("go", file=told[0], flush=True)
                    p50 = statistics.median(stretch(online, lookups, rng))
                    many.append((p50, (time.process_time() - cpu) / lookups))
                    if mode == "on":
                        rows += int(told[1].readline())
                    time.sleep(0.8)  # what was logged is written
            rows += _ask(*told)
            profiler.stdin.close()
        log.close()
        store.close()
    return {"taken": taken, "rows": rows}


def _ask(tell: IO[str], told: IO[str]) -> int:
    print("go", file=tell, flush=True)
    return int(told.readline())


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", LOOKUPS)
    found = measured(options.rows, options.runs)
    off, on = found["taken"]["off"], found["taken"]["on"]
    shown: dict[str, Any] = {"goal": GOAL, "rows counted": found["rows"]}
    for place, what in enumerate(("p50", "cpu")):
        ratios = [one[place] / other[place] for one, other in zip(on, off, strict=True)]
        shown[f"{what} ×"] = round(statistics.median(ratios), 3)
        shown[f"{what} µs off"] = round(statistics.median(one[place] for one in off) * 1e6, 1)
    print(json.dumps(shown, ensure_ascii=False, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
