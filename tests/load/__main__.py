"""Puts a service under load, and checks each of its answers against offline, bit for bit.

python -m tests.load [--minutes 10] [--workers 2] [--clients 4]

While clients look rows up, a process pushes events, states are materialised anew, the service
changes its version twice, and workers are told to end and are killed. An answer counts as wrong
where a bit of it differs from what `get_historical_features` gives for the same row, instant and
version after the load has ended. The exit code is 1 where there was an error or a wrong bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from featurekit import FeatureStore
from featurekit.online.store.server import scratch_redis
from tests.load import clients, world
from tests.load.check import check

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
import serving

_LEAST_S = 8.0
"""A worker that ends is not followed by the next one before this time."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _rate(text: str) -> float:
    """How often a second."""
    rate = float(text)
    if not 0 <= rate < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text!r}; write 0 or more, as in 10")
    return rate


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4, help="processes that look rows up")
    parser.add_argument("--rate", type=float, default=40.0, help="lookups of a client per second")
    parser.add_argument("--pushes", type=_rate, default=10.0, help="a second; 0 for none")
    parser.add_argument(
        "--steady", action="store_true", help="no worker ends: does the memory of one grow?"
    )
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, scratch_redis() as url:
        folder = Path(name)
        world.write(folder, url)
        serving.fill(folder)
        words = ("--repo", str(folder), "--log", "--workers", str(told.workers))
        with serving.serving(*words) as server:
            done = _load(told, folder, server)
        found = check(folder, done["answers"], done["pushes"])
    return _report(told, done, found)


def _load(told: argparse.Namespace, folder: Path, server: serving.Served) -> dict[str, Any]:
    """What was answered and pushed, and what went wrong, in so many minutes."""
    end = time.time() + told.minutes * 60
    life = _Life(folder, server, told.minutes * 60, steady=told.steady)
    threads = [threading.Thread(target=work, daemon=True) for work in life.works()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(told.clients + 1, mp_context=context) as pool:
        seeds = range(told.seed, told.seed + told.clients)
        work = [pool.submit(clients.look_up, server.url, told.rate, end, seed) for seed in seeds]
        work.append(pool.submit(clients.push, server.url, told.pushes, end, told.seed))
        for thread in threads:
            thread.start()
        found = [one.result() for one in work]
    life.stop.set()
    for thread in threads:
        thread.join()
    answers = [one for said in found for one in said.get("answers", ())]
    pushes = [one for said in found for one in said.get("pushes", ())]
    errors = Counter[str]()
    for said in found:
        errors.update(said["errors"])
    errors.update(life.errors)
    return {"answers": answers, "pushes": pushes, "errors": errors, "life": life}


class _Life:
    """What happens to a service that is asked all the while."""

    def __init__(
        self, folder: Path, server: serving.Served, seconds: float, *, steady: bool
    ) -> None:
        self.folder, self.server, self.seconds, self.steady = folder, server, seconds, steady
        self.stop = threading.Event()
        self.errors: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.memory: list[dict[int, int]] = []
        self._rng = random.Random(0)

    def works(self) -> list[Any]:
        """The threads of it."""
        every = [self._versions, self._watch, *([] if self.steady else [self._restarts])]
        return [self._guarded(work) for work in every]

    def _guarded(self, work: Any) -> Any:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.errors[f"{work.__name__}: {type(error).__name__}: {error}"] += 1

        return run

    def _wait(self, share: float) -> bool:
        """Wait for a share of the time; whether the load goes on."""
        return not self.stop.wait(share * self.seconds)

    def _versions(self) -> None:
        """A materialisation, the second version, another materialisation, and the first again."""
        steps = (self._fill, self._second, self._fill, self._first, self._fill)
        for step in steps:
            if not self._wait(0.15):
                return
            step()

    def _fill(self) -> None:
        with FeatureStore(self.folder) as store:
            store.materialize()
        self.done["materialisations"] += 1

    def _second(self) -> None:
        world.define(self.folder, world.VERSIONS[1])
        with FeatureStore(self.folder) as store:
            store.apply()
            store.materialize()
        self.done["version switches"] += 1

    def _first(self) -> None:
        with FeatureStore(self.folder) as store:
            store.rollback(world.SERVICE)
        self.done["version switches"] += 1

    def _restarts(self) -> None:
        """Tell a worker to end, and kill one, in turns."""
        number = 0
        while not self.stop.wait(max(_LEAST_S, self.seconds / 12)):
            workers = self._workers()
            if len(workers) < 2:
                continue  # one is on its way
            os.kill(self._rng.choice(workers), signal.SIGKILL if number % 2 else signal.SIGTERM)
            self.done["workers killed" if number % 2 else "workers told to end"] += 1
            number += 1

    def _watch(self) -> None:
        """Note the workers' memory."""
        while self._wait(1 / 60):
            self.memory.append({pid: _resident(pid) for pid in self._workers()})

    def _workers(self) -> list[int]:
        pid = self.server.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in found if _words(int(one))[-1:] != ["push"]]


def _words(pid: int) -> list[str]:
    """A process's command line; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


def _resident(pid: int) -> int:
    """A process's memory in bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _report(told: argparse.Namespace, done: dict[str, Any], found: dict[str, Any]) -> int:
    took = sorted(answer.end - answer.begin for answer in done["answers"])
    life: _Life = done["life"]
    most = [max(sample.values(), default=0) for sample in life.memory]
    quarter = max(1, -(-len(most) // 4))
    quarters = [most[at : at + quarter] for at in range(0, len(most), quarter)]
    said = {
        "minutes": told.minutes,
        "lookups": len(took),
        "rows": sum(len(answer.keys) for answer in done["answers"]),
        "pushes": len(done["pushes"]),
        "events": sum(len(push.keys) for push in done["pushes"]),
        **life.done,
        "ms": {f"p{100 * q:g}": round(1000 * _quantile(took, q), 2) for q in (0.5, 0.99, 0.999)},
        "worker_mb": {
            "quarters": [round(statistics.median(part) / 1e6, 1) for part in quarters],
            "most": round(max(most, default=0) / 1e6, 1),
        },
        **found,
        "errors": dict(done["errors"]),
    }
    print(json.dumps(said, indent=2))
    return 1 if done["errors"] or found["wrong"] or not found["compared"] else 0


def _quantile(values: list[float], q: float) -> float:
    return values[min(len(values) - 1, int(q * len(values)))] if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
