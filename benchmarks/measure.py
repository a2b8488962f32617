"""What every benchmark shares: what a result is, and how two contenders are timed in one run.

Machines are noisy, so contenders run by turns and medians count: a busy minute falls on all of
them, and only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "featurekit"
SIZES = ("smoke", "medium", "full")


@contextmanager
def compiled() -> Iterator[dict[str, str]]:
    """An environment in which processes keep compiled modules, as an installation leaves them,
    whatever this process's environment says. The first process compiles what it loads."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield environment


@dataclass(frozen=True, slots=True)
class Result:
    """One piece of work, what each contender took for it, and what was claimed.

    `unit` is "s" or "B", of which less is better, or "1/s", of which more is. `goal` is the most
    (of a rate the least) that `ratio` may be; None where nothing is claimed. `note` says what a
    reader must know to compare: which peer returns other values, and why.
    """

    work: str
    size: str
    unit: str
    taken: Mapping[str, float]
    against: str
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours by the other's, in `unit`."""
        return self.taken[OURS] / self.taken[self.against]

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.unit == "1/s" else self.ratio <= self.goal

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "work": self.work, "size": self.size, "unit": self.unit, "taken": dict(self.taken),
            "against": self.against, "ratio": self.ratio, "goal": self.goal, "met": self.met,
            "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """What each contender takes as one size grows: `taken[name][i]` at `xs[i]`."""

    work: str
    x: str
    xs: Sequence[float]
    unit: str
    taken: Mapping[str, Sequence[float]]
    note: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "work": self.work, "x": self.x, "xs": list(self.xs), "unit": self.unit,
            "taken": {name: list(values) for name, values in self.taken.items()},
            "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one call in the middle, and of one in a hundred."""

    p50: float
    p99: float


def seconds(work: Callable[[], object]) -> float:
    """One run's wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each, run by turns; one run of each before that warms up."""
    for work in works.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            gc.collect()  # a peer does not pay for what another left
            taken[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in taken.items()}


def latencies(
    works: Mapping[str, Callable[[], object]], calls: int, *, stretches: int = 5
) -> dict[str, Latency]:
    """The latency of short calls: `stretches` stretches of `calls` calls of each, by turns. Each
    figure is the median over the stretches, so that one busy moment does not make a p99."""
    clock = time.perf_counter
    taken: dict[str, list[list[float]]] = {name: [] for name in works}
    for work in works.values():
        for _ in range(max(1, calls // 10)):
            work()
    for _ in range(stretches):
        for name, work in works.items():
            gc.collect()
            stretch = []
            for _ in range(calls):
                began = clock()
                work()
                stretch.append(clock() - began)
            taken[name].append(stretch)
    return {
        name: Latency(
            statistics.median(statistics.median(s) for s in stretches_),
            statistics.median(_p99(s) for s in stretches_),
        )
        for name, stretches_ in taken.items()
    }


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def peak_memory() -> int:
    """The most bytes that this process has held at once.

    Not getrusage's: a process that was started by a large one has that one's peak there.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(s.split()[1]) for s in status.splitlines() if s.startswith("VmHWM"))


def arguments(description: str, sizes: dict[str, int]) -> argparse.Namespace:
    """The options of a benchmark that is run alone: --size, --runs, --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", choices=sizes, default=next(iter(sizes)), help="how much data")
    parser.add_argument(
        "--runs", type=int, default=5, help="runs of each, of which the median counts"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parsed = parser.parse_args()
    parsed.rows = sizes[parsed.size]
    return parsed
