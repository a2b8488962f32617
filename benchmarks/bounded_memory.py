"""Training sets from more events than memory: peak memory and time, by number of buckets."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks.measure import peak_memory

DEFINITIONS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, CountDistinct, Max, Sum

customer = Entity("customer", join_keys={"customer_id": int})
shop = Entity("shop", join_keys={"shop_id": int})
orders = EventSource(
    "orders", path="orders.parquet", timestamp_field="at", created_timestamp_column="came",
    schema={"customer_id": int, "shop_id": int, "amount": float, "word": str},
)
of_customer = FeatureView(
    "of_customer", entities=[customer], source=orders,
    features={
        "spend": Sum("amount", windows=["1d", "7d", "30d"]), "n": Count(window="30d"),
        "most": Max("amount", window="30d"), "words": CountDistinct("word", window="7d"),
    },
)
of_shop = FeatureView(
    "of_shop", entities=[shop], source=orders, features={"sold": Sum("amount", window="7d")},
)
latest = FeatureView(
    "latest", entities=[customer], source=orders, features={"amount": "amount", "word": "word"},
)
service = FeatureService("service", features=[of_customer, of_shop, latest])
"""
DAY_US = 86_400_000_000


def write(folder: Path, events: int, labels: int) -> None:
    """A repo with `events` orders of a hundredth as many customers over 90 days, and labels."""
    (folder / "definitions.py").write_text(DEFINITIONS)
    con = duckdb.connect()
    con.execute("SET memory_limit = '2GB'")
    con.execute(f"SET temp_directory = '{folder}/tmp'")
    at = f"make_timestamp((hash(i, 1) % {90 * DAY_US})::BIGINT)"
    con.execute(
        f"COPY (SELECT (hash(i) % {max(1, events // 100)})::BIGINT AS customer_id, "
        f"(hash(i, 9) % 2000)::BIGINT AS shop_id, (hash(i, 2) % 1000000)::DOUBLE / 100 AS amount, "
        f"'word ' || (hash(i, 3) % 5000) AS word, {at} AS at, "
        f"{at} + INTERVAL (CASE WHEN i % 20 = 0 THEN 3600 ELSE 0 END) SECOND AS came "
        f"FROM range({events}) t(i)) TO '{folder}/orders.parquet'"
    )
    con.execute(
        f"COPY (SELECT (hash(i, 7) % {max(1, events // 100)})::BIGINT AS customer_id, "
        f"(hash(i, 10) % 2000)::BIGINT AS shop_id, "
        f"make_timestamp((hash(i, 8) % {90 * DAY_US})::BIGINT) AS event_timestamp "
        f"FROM range({labels}) t(i)) TO '{folder}/labels.parquet'"
    )


def one(folder: Path, limit: str, buckets: int | None) -> dict[str, object]:
    """One training set, in this process."""
    from featurekit import FeatureStore

    chosen = f"  buckets: {buckets}\n" if buckets else ""
    (folder / "feature_store.yaml").write_text(
        f"project: bench\nfeaturekit:\n  memory_limit: {limit}\n{chosen}"
    )
    store = FeatureStore(folder)
    began = time.perf_counter()
    try:
        manifest = store.get_historical_features(
            folder / "labels.parquet", "service", statuses=False
        ).to_parquet(folder / "train.parquet")
        result = str(manifest["content_hash"])[:12]
    except duckdb.OutOfMemoryException:
        result = "out of memory"
    return {
        "limit": limit,
        "buckets": buckets or "chosen",
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": peak_memory() >> 20,
        "result": result,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--scratch", help="a folder for the data, on a disk")
    parser.add_argument("--limit", default="1GB", help="DuckDB's memory limit")
    parser.add_argument("--buckets", type=int, nargs="*", default=[0, 1, 2, 4, 8, 16, 64],
                        help="0: as featurekit chooses")  # fmt: skip
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        print(json.dumps(one(given.folder, given.limit, given.buckets[0])))
        return
    with tempfile.TemporaryDirectory(dir=given.scratch) as made:
        folder = Path(made).resolve()
        write(folder, given.events, given.labels)
        size = (folder / "orders.parquet").stat().st_size >> 20
        print(f"{given.events:,} events ({size} MB of Parquet), {given.labels:,} labels")
        for buckets in given.buckets:
            # A process each, so that one's memory is not another's peak.
            asked = [*("--folder", str(folder)), *("--limit", given.limit)]
            command = [
                sys.executable,
                "-m",
                "benchmarks.bounded_memory",
                *asked,
                "--buckets",
                str(buckets),
            ]
            print(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            )


if __name__ == "__main__":
    main()
