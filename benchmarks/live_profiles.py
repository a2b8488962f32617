"""What live profiling costs lookups: p50 and processor time, with the serving log on, while another
process counts all that is served, as it is served, or while none does.

Lookups of one row and twenty features go to a real Redis in a closed loop, each of them logged.
Stretches with and without profiles come by turns, and what counts is the median of the ratios of
pairs; `again` is the same of two kinds of stretches without profiles, so it is what chance gives.
In a stretch with profiles the lookups are of a service with a log of its own, and
`featurekit monitor profile` counts that log again and again. So it counts what such a stretch
serves, at the full speed of the loop, and nothing else.

    python -m benchmarks.live_profiles [--size full] [--runs 15] [--share 0.5] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
import threading
import time
from featurekit import FeatureStore
share = float(sys.argv[3]) or None
os.nice(19)  # as docs/monitoring.md tells to run it
going = threading.Event()
def listen():
    for line in sys.stdin:
        going.set() if line == "go\\n" else going.clear()
    os._exit(0)
with FeatureStore(sys.argv[1]) as store:
    store.profile(log=sys.argv[2])
    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    while going.wait():
        cpu = time.process_time()
        rows = store.profile(log=sys.argv[2], share=share).rows
        print(rows, time.process_time() - cpu, flush=True)
        time.sleep(0.2)
"""
MODES = ("off", "again", "on")


@dataclass
class _Counting:
    """The process that counts, and what it has said."""

    process: subprocess.Popen[str]
    rows: int = 0
    cpu: float = 0.0

    def hear(self) -> None:
        """Take what the process says, until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            rows, cpu = line.split()
            self.rows, self.cpu = self.rows + int(rows), self.cpu + float(cpu)

    def tell(self, what: str) -> None:
        """Have it go on, or stop after what it has in hand."""
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)


@contextmanager
def counting(folder: Path, share: float) -> Iterator[_Counting]:
    """A process that counts the log `on` of a repo, when it is told."""
    command = [sys.executable, "-c", PROFILER, str(folder), str(folder / "on"), str(share)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        made = _Counting(process)
        hearing = threading.Thread(target=made.hear)
        hearing.start()
        yield made
        assert process.stdin is not None
        process.stdin.close()
        hearing.join()


def measured(lookups: int, runs: int, share: float) -> dict[str, Any]:
    """By mode, p50 and processor time of each stretch, in seconds a lookup, and what was counted.
    A `share` of 0 is all of a processor that it can get."""
    with scratch_redis() as url, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "definitions.py").write_text(DEFINITIONS)
        (folder / "feature_store.yaml").write_text(CONFIG.format(url=url))
        store = RedisStore(url)
        fill(store)
        logs, online = {}, {}
        for mode in MODES:
            (folder / mode).mkdir()
            config = ServingLogConfig.model_validate(
                {"to": "parquet", "rotate_seconds": 0.2, "folder": str(folder / mode)}
            )
            logs[mode] = open_log(config, store, "bench")
            online[mode] = OnlineService(store, "bench", "bench", log=logs[mode])
        rng = random.Random(2)
        for one in online.values():
            stretch(one, 500, rng)
        time.sleep(1.5)
        taken: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
        with counting(folder, share) as counted:
            for _ in range(runs):
                for mode, many in taken.items():
                    if mode == "on":
                        counted.tell("go")
                    cpu = time.process_time()
                    p50 = statistics.median(stretch(online[mode], lookups, rng))
                    many.append((p50, (time.process_time() - cpu) / lookups))
                    if mode == "on":
                        counted.tell("stop")
                    time.sleep(1.0)  # what was logged is written, and what is in hand is counted
        for log in logs.values():
            log.close()
        store.close()
    return {"taken": taken, "rows": counted.rows, "cpu": counted.cpu}


def main() -> None:
    """Measure and print."""
    share = argparse.ArgumentParser(add_help=False)
    share.add_argument("--share", type=float, default=0.0, help="of a processor; 0: all of one")
    given, rest = share.parse_known_args()
    sys.argv[1:] = rest
    options = arguments(__doc__ or "", LOOKUPS)
    found = measured(options.rows, options.runs, given.share)
    taken = found["taken"]
    shown: dict[str, Any] = {
        "goal": GOAL,
        "share": given.share,
        "rows served": options.rows * options.runs,
        "rows counted": found["rows"],
        "cpu µs a row counted": round(found["cpu"] / max(1, found["rows"]) * 1e6, 1),
    }
    for place, what in enumerate(("p50", "cpu")):
        shown[f"{what} µs off"] = round(statistics.median(m[place] for m in taken["off"]) * 1e6, 1)
        for mode in ("again", "on"):
            pairs = zip(taken[mode], taken["off"], strict=True)
            ratio = statistics.median(one[place] / other[place] for one, other in pairs)
            shown[f"{what} {mode} ×"] = round(ratio, 3)
    print(json.dumps(shown, ensure_ascii=False, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
