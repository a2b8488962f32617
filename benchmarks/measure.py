"""What every benchmark shares: medians of interleaved runs, and a table or JSON of ratios."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison: seconds of ours and of the other, medians of the same run, and the goal."""

    work: str
    size: str
    ours_s: float
    against: str
    against_s: float
    goal: float | None = None

    @property
    def ratio(self) -> float:
        """How many times longer ours takes."""
        return self.ours_s / self.against_s


def seconds(work: Callable[[], object]) -> float:
    """One run's wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(
    ours: Callable[[], object], against: Callable[[], object], *, runs: int
) -> tuple[float, float]:
    """Median seconds of both, run by turns, so that a busy minute falls on both; one run before
    that warms up."""
    ours(), against()
    taken = [(seconds(ours), seconds(against)) for _ in range(runs)]
    return statistics.median(t[0] for t in taken), statistics.median(t[1] for t in taken)


def arguments(description: str, sizes: dict[str, int]) -> argparse.Namespace:
    """The options of every benchmark: --size, --runs, --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", choices=sizes, default=next(iter(sizes)), help="how much data")
    parser.add_argument(
        "--runs", type=int, default=5, help="runs of each, of which the median counts"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parsed = parser.parse_args()
    parsed.rows = sizes[parsed.size]
    return parsed


def show(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the results."""
    if as_json:
        print(json.dumps([{**asdict(r), "ratio": r.ratio} for r in results], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("work", "size", "featurekit", "against", "", "ratio", "goal")
    for r in results:
        goal = "" if r.goal is None else f"≤ {r.goal:g}" + (" ✓" if r.ratio <= r.goal else " ✗")
        table.add_row(
            r.work, r.size, _time(r.ours_s), r.against, _time(r.against_s), f"{r.ratio:.2f}", goal
        )
    Console().print(table)


def _time(s: float) -> str:
    return f"{s:.2f} s" if s >= 1 else f"{s * 1e3:.2f} ms" if s >= 1e-3 else f"{s * 1e6:.2f} µs"
