"""Profiles of what was served: time, processor time and peak memory, by the rows of the log.

The log is written first, in files of 100,000 rows as serving writes them, by a process that draws
its values by NumPy. Then `featurekit monitor profile` counts them: a tenth of the rows, and in
another process all others. So the peak of the second says whether memory grows with the rows.

    python -m benchmarks.profiles [--rows 1000000] [--scratch DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import peak_memory

DEFINITIONS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Sum

customer = Entity("customer", join_keys={"customer_id": int})
orders = EventSource(
    "orders", path="orders.parquet", timestamp_field="at",
    schema={"customer_id": int, "amount": float, "country": str, "yes": bool},
)
spent = FeatureView("spent", entities=[customer], source=orders, features={
    "total": Sum("amount", window="7d"), "orders": Count(window="7d"),
    "country": Last("country", window="7d"), "yes": Last("yes", window="7d")})
service = FeatureService("service", features=[spent])
"""
CONFIG = """project: bench
online_store: {type: redis}
featurekit:
  serving_log: {to: parquet}
  monitoring: {profiles: {keep: 9999d}}
"""
FILE = 100_000


def write_log(folder: Path, first: int, files: int) -> None:
    """Files of the serving log from the `first` on, a second of requests each."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featurekit import FeatureStore
    from featurekit.log.served.block import ServedHead
    from featurekit.log.served.parquet import ABOUT, HEAD

    with FeatureStore(folder) as store:
        service = store.parts.repo.compiled_services["service"]
    head = ServedHead.of("bench", service, {})
    about = [{"process": "bench", "dropped": 0, "until": [None], "rows": FILE}]
    told = {HEAD: head.to_json().encode(), ABOUT: json.dumps(about).encode()}
    log = folder / ".featurekit" / "served"
    log.mkdir(parents=True, exist_ok=True)
    names = np.array(["United Kingdom", "France", "EIRE", "Germany", "Spain"])
    began = 1_700_006_400_000_000  # a midnight
    for number in range(first, first + files):
        rng = np.random.default_rng(number)
        at = began + number * 1_000_000 + np.arange(FILE) * 10
        instants = pa.array(at, pa.timestamp("us", "UTC"))
        total = rng.lognormal(3, 1, FILE)
        values = {
            "spent__total": pa.array(total, mask=rng.random(FILE) < 0.05),
            "spent__orders": pa.array(rng.poisson(4, FILE)),
            "spent__country": pa.array(names[rng.integers(0, len(names), FILE)], pa.string()),
            "spent__yes": pa.array(rng.random(FILE) < 0.3),
        }
        columns = [[values[name] for name in head.outputs], [pa.array(["PRESENT"] * FILE)] * 4]
        table = pa.table(
            {
                "served_at": instants,
                "as_of": instants,
                "request": pa.array(np.arange(FILE)),
                "newest_arrival": _struct({"spent": pa.array(at - rng.integers(1, 10**9, FILE))}),
                "key": _struct({"customer_id": pa.array(rng.integers(0, 200_000, FILE))}),
                "value": _struct(dict(zip(head.outputs, columns[0], strict=True))),
                "status": _struct(dict(zip(head.outputs, columns[1], strict=True))),
            }
        )
        name = f"{int(at[0]):020d}-service-{head.fingerprint[:12]}-{number:032x}.parquet"
        pq.write_table(table.replace_schema_metadata(told), log / name)


def _struct(columns: dict[str, object]) -> object:
    import pyarrow as pa

    return pa.StructArray.from_arrays([*columns.values()], names=[*columns])


def profile(folder: Path) -> dict[str, object]:
    """Count what was not counted before, in this process."""
    from featurekit import FeatureStore

    with FeatureStore(folder) as store:
        began, cpu = time.perf_counter(), time.process_time()
        done = store.profile()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        kept = sum(p.stat().st_size for p in (folder / ".featurekit/profiles").glob("*.profile"))
        whole = store.profile_of("service", window="1d", end="2023-11-16")
    (yes,) = [one for one in whole if one["feature"] == "spent__yes"]
    return {
        "rows": done.rows,
        "seconds": round(took, 1),
        "cpu µs per row": round(used / done.rows * 1e6, 2),
        "peak MB": peak_memory() >> 20,
        "profiles kB": kept >> 10,
        "rows in the profile": yes["present"] + yes["null"],
    }


def main() -> None:
    """Write the log, and count it in two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in all, in hundreds of "
                        "thousands")  # fmt: skip
    parser.add_argument("--scratch", help="a folder for the log, on a disk")
    parser.add_argument("--step", nargs=3, metavar=("FOLDER", "FIRST", "FILES"),
                        help=argparse.SUPPRESS)  # fmt: skip
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step is not None:
        write_log(Path(given.step[0]), int(given.step[1]), int(given.step[2]))
        return
    if given.folder is not None:
        print(json.dumps(profile(given.folder), ensure_ascii=False))
        return
    with tempfile.TemporaryDirectory(dir=given.scratch) as made:
        folder = Path(made).resolve()
        (folder / "definitions.py").write_text(DEFINITIONS)
        (folder / "feature_store.yaml").write_text(CONFIG)
        files = max(2, given.rows // FILE)
        first = max(1, files // 10)
        for begin, many in ((0, first), (first, files - first)):
            _run("--step", str(folder), str(begin), str(many))
            print(_run("--folder", str(folder)), flush=True)


def _run(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks.profiles", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
