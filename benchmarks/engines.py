"""Training sets of windows by an engine beside this process: wall time and processor time.

Labels and events are drawn by NumPy and written to Parquet. Each engine makes the training set in
a process of its own, once so that it is started, and then several times. The content hash must be
that of this process. `local` has as many threads as there are processors.

    python -m benchmarks.engines [--labels 100000] [--events 1000000] [--engine ray] [--repeat 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEFINITIONS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Max, Mean, Sum

user = Entity("user", join_keys={"user_id": int})
events = EventSource(
    "events", path="events.parquet", timestamp_field="at",
    schema={"user_id": int, "amount": float, "items": int},
)
sums = FeatureView("sums", entities=[user], source=events, features={
    f"{name}_{days}d": kind(column, window=f"{days}d")
    for days in (1, 7, 90)
    for name, kind, column in (("total", Sum, "amount"), ("items", Sum, "items"),
                               ("mean", Mean, "amount"))})
service = FeatureService("service", features=[sums])
"""
SETTINGS = "project: bench\nprovider: local\nonline_store: {type: redis}\n"
YEAR_US = 365 * 86_400 * 10**6
BEGAN = 1_704_067_200_000_000


def write(folder: Path, labels: int, events: int) -> None:
    """The repo, its events over a year, and the labels."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    users = max(events // 100, 1)
    at = pa.array(np.sort(rng.integers(0, YEAR_US, events)) + BEGAN, pa.timestamp("us", "UTC"))
    table = pa.table({
        "user_id": rng.integers(0, users, events), "at": at,
        "amount": np.round(rng.lognormal(3, 1, events), 2), "items": rng.integers(1, 9, events),
    })  # fmt: skip
    pq.write_table(table, folder / "events.parquet")
    asked = pa.array(rng.integers(0, YEAR_US, labels) + BEGAN, pa.timestamp("us", "UTC"))
    frame = pa.table({"user_id": rng.integers(0, users, labels), "event_timestamp": asked})
    pq.write_table(frame, folder / "labels.parquet")
    (folder / "definitions.py").write_text(DEFINITIONS, encoding="utf-8")
    (folder / "feature_store.yaml").write_text(SETTINGS, encoding="utf-8")


def busy() -> float:
    """The seconds of processor time that the whole machine has used; an engine's workers are not
    all children of this process."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft = map(int, fields[:7])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def measured(folder: Path, engine: str, repeat: int) -> dict[str, object]:
    """What an engine takes, in this process."""
    from featurekit import FeatureStore

    walls, cpus, hashes, begun = [], [], set(), time.perf_counter()
    with FeatureStore(folder) as store:
        for number in range(repeat + 1):
            made = store.get_historical_features(
                folder / "labels.parquet", "service", engine=engine
            )
            wall, cpu = time.perf_counter(), busy()
            made.to_parquet(folder / f"{number}.parquet")
            if number:
                walls.append(time.perf_counter() - wall)
                cpus.append(busy() - cpu)
            else:
                first = time.perf_counter() - begun
            hashes.add(made.manifest["content_hash"])
    return {
        "engine": engine, "first": first, "wall": statistics.median(walls),
        "cpu": statistics.median(cpus), "hashes": sorted(hashes),
    }  # fmt: skip


def main() -> int:
    """The exit code: 1 where an engine's rows are others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--engine", action="append", help="(default: ray and local[2] of Spark)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "ENGINE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(Path(given.measure[0]), given.measure[1], given.repeat)))
        return 0
    found = []
    with tempfile.TemporaryDirectory(prefix="featurekit-") as scratch:
        write(Path(scratch), given.labels, given.events)
        for engine in ["local", *(given.engine or ["ray", "local[2]"])]:
            told = subprocess.run(
                [sys.executable, "-m", "benchmarks.engines", "--measure", scratch, engine,
                 "--repeat", str(given.repeat)],
                stdout=subprocess.PIPE, check=True, text=True,
            ).stdout  # fmt: skip
            found.append(json.loads(told.splitlines()[-1]))
    base = found[0]
    print(
        f"{given.labels:,} labels × {given.events:,} events, 9 windows; medians of {given.repeat}"
    )
    print("engine       first s  wall s   ratio  cpu s   ratio")
    for one in found:
        print(
            f"{one['engine']:12} {one['first']:7.2f} {one['wall']:7.2f} "
            f"{one['wall'] / base['wall']:7.2f} {one['cpu']:6.2f} {one['cpu'] / base['cpu']:7.2f}"
        )
    return 0 if all(one["hashes"] == base["hashes"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
