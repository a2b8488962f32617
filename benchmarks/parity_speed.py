"""The parity checker: values compared per second, of the shop's services, by mode.

    python -m benchmarks.parity_speed [--values N] [--workers N] [--repo PATH] [--json]

The goal is 200,000 values a second of `fuzz` on two cores: both paths, the comparison and the
drawing included, the start of the processes not (it is about a second, once). CPU seconds count
all processes, so that a machine that is busy with other things shows what it would do alone.
`history` replays the shop's generated data into a real Redis, one process.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, Result
from featurekit.cli.demo.sample_data import write_sample_data
from featurekit.define.repo import load_repo
from featurekit.parity.budget import Budget
from featurekit.parity.modes.fuzz.fuzz import fuzz
from featurekit.store import FeatureStore

SHOP = Path(__file__).parent.parent / "feature_repo"


VALUES = {"smoke": 100_000, "medium": 3_000_000, "full": 20_000_000}
WANTED = 200_000


def results(size: str, runs: int) -> Iterator[Result]:
    """The fuzz mode's rate by service, one long run each, beside what is wanted of it."""
    del runs  # a rate over minutes, with its own warm-up in it
    repo = load_repo(SHOP)
    for name, service in repo.compiled_services.items():
        began = time.monotonic()
        report = fuzz(
            service, repo.sources, budget=Budget(values=VALUES[size]), seed=1, workers=cores()
        )
        assert report.ok, name
        rate = report.compared / (time.monotonic() - began)
        taken = {OURS: rate, "wanted": float(WANTED)}
        work = f"values compared by parity fuzz, {name}"
        # Of a short run most is the start of the processes.
        goal = None if size == "smoke" else 1.0
        yield Result(work, f"{report.compared:,} values", "1/s", taken, "wanted", goal)


def cores() -> int:
    return min(2, os.cpu_count() or 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=5_000_000, help="of fuzz, a service")
    parser.add_argument("--history", type=int, default=50_000, help="of history, a service")
    parser.add_argument("--workers", type=int, default=2, help="processes of fuzz")
    parser.add_argument("--repo", type=Path, default=SHOP)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    chosen = parser.parse_args()
    found = [measured("fuzz", *one) for one in fuzzed(chosen)]
    if chosen.repo == SHOP and chosen.history:
        write_sample_data(SHOP / "data")
        with FeatureStore(SHOP) as store:
            for name in store.repo.compiled_services:
                began, cpu = time.monotonic(), seconds()
                report = store.check_parity(name, values=chosen.history)
                found.append(measured("history", report, time.monotonic() - began, seconds() - cpu))
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'mode':8} {'service':12} {'values':>11} {'differ':>6} {'s':>7} {'values/s':>9} "
          f"{'CPU s':>7} {'values/CPU s':>12}")  # fmt: skip
    for one in found:
        print(f"{one['mode']:8} {one['service']:12} {one['values']:11,} {one['differing']:6} "
              f"{one['s']:7.1f} {one['values'] / one['s']:9,.0f} {one['cpu_s']:7.1f} "
              f"{one['values'] / one['cpu_s']:12,.0f}")  # fmt: skip


def fuzzed(chosen: argparse.Namespace) -> Any:
    repo = load_repo(chosen.repo)
    for service in repo.compiled_services.values():
        began, cpu = time.monotonic(), seconds()
        report = fuzz(
            service,
            repo.sources,
            budget=Budget(values=chosen.values),
            seed=1,
            workers=chosen.workers,
        )
        yield report, time.monotonic() - began, seconds() - cpu


def seconds() -> float:
    """CPU seconds of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measured(mode: str, report: Any, took: float, cpu: float) -> dict[str, Any]:
    return {
        "mode": mode,
        "service": report.service,
        "values": report.compared,
        "differing": report.differing,
        "s": took,
        "cpu_s": cpu,
    }


if __name__ == "__main__":
    main()
