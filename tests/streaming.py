"""The whole file of real order lines, pushed invoice by invoice while lookups run; then offline.

`python -m tests.streaming` pushes every line in the order in which it arrives, one push an invoice,
some late by minutes to weeks, and asks for features after pushes and from another thread meanwhile.
Then a training set is made at those instants, from the log alone, and every value is compared in
bits. `--by line` pushes each line by itself. The source's own file is empty.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore
from featurekit.errors import AsOfTooOld
from featurekit.log.segments import segments
from featurekit.online.store.server import scratch_redis
from featurekit.parity.compare import bits

RETAIL = Path(__file__).parents[2] / "shared" / "data" / "online_retail.parquet"
LONDON = ZoneInfo("Europe/London")
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Any, Count, CountDistinct, Last, Max, Mean, Min, StdDev, Sum

customer = Entity("customer", join_keys={"customer_id": int})
product = Entity("product", join_keys={"stock_code": str})
lines = EventSource(
    "lines", path="lines.parquet",
    schema={"invoice_no": str, "stock_code": str, "quantity": int, "unit_price": float,
            "customer_id": int | None, "country": str},
    timestamp_field="sold_at", created_timestamp_column="arrived",
)

@feature
def amount(quantity: int, unit_price: float) -> float:
    return quantity * unit_price

@feature
def is_return(invoice_no: str) -> bool:
    return invoice_no.startswith("C")

customers = FeatureView(
    "customers", entities=[customer], source=lines,
    features={
        "spend": Sum(amount, windows=["1d", "7d", "30d"], default=0.0),
        "mean": Mean(amount, window="30d"),
        "spread": StdDev(amount, window="30d"),
        "largest": Max(amount, window="30d"),
        "invoices": CountDistinct("invoice_no", window="30d"),
        "returns_hourly": Count(where=is_return, window="30d", hop="1h"),
        "spend_week_before": Sum(amount, window="7d", offset="7d"),
        "country": Last("country", window="60d"),
    },
)
products = FeatureView(
    "products", entities=[product], source=lines,
    features={"units": Sum("quantity", window="1d"), "sales": Count(window="1d"),
              "cheapest": Min("unit_price", window="1d"), "returned": Any(is_return, window="1d")},
)
latest = FeatureView(
    "latest", entities=[customer], source=lines, ttl="20d",
    features={"last_amount": amount, "last_product": "stock_code"},
)
service = FeatureService("service", features=[customers, products, latest])
"""
COLUMNS = ("invoice_no", "stock_code", "quantity", "unit_price", "customer_id", "country")
SETTINGS = "project: streaming\nprovider: local\nonline_store:\n  type: redis\n"
Row = dict[str, Any]


def arrivals(by: str, most: int, seed: int) -> list[tuple[dt.datetime, list[Row]]]:
    """The pushes in the order of their arrivals, which are distinct."""
    rng = random.Random(seed)
    groups: dict[Any, list[Row]] = {}
    for number, line in enumerate(pq.read_table(RETAIL).slice(0, most).to_pylist()):
        at = line["invoice_date"].replace(tzinfo=LONDON).astimezone(dt.UTC)
        # One line of a hundred comes apart from its invoice.
        key = number if by == "line" or rng.random() < 0.01 else (line["invoice_no"], at)
        groups.setdefault(key, []).append({**{c: line[c] for c in COLUMNS}, "sold_at": at})
    late = (dt.timedelta(0),) * 18 + (dt.timedelta(minutes=7), dt.timedelta(days=12))
    made = [
        (max(r["sold_at"] for r in rows) + rng.choice(late) * rng.random(), rows)
        for rows in groups.values()
    ]
    made.sort(key=lambda push: push[0])
    out: list[tuple[dt.datetime, list[Row]]] = []
    for arrived, rows in made:
        after = out[-1][0] + dt.timedelta(microseconds=1) if out else arrived
        out.append((max(arrived, after), rows))
    return out


class Stream:
    """Pushes, and the lookups that were answered meanwhile."""

    def __init__(self, store: FeatureStore, seed: int) -> None:
        self.store, self.rng = store, random.Random(seed)
        self.asked: list[Row] = []
        self.answers: list[tuple[list[Any], list[str]]] = []
        self.known: list[Row] = []
        self.clock: dt.datetime | None = None
        self.too_old = 0

    def look_up(self, store: FeatureStore, keys: Row, as_of: dt.datetime) -> None:
        result = store.get_online_features("service", [keys], as_of=as_of)
        names = list(result.columns)
        values = [result.columns[n][0] for n in names], [result.status[n][0] for n in names]
        self.asked.append({**keys, "event_timestamp": as_of})
        self.answers.append(values)

    def run(self, pushes: list[tuple[dt.datetime, list[Row]]], lookups: int) -> None:
        over = threading.Event()
        reader = threading.Thread(target=self.read_meanwhile, args=(over,))
        reader.start()
        each = lookups / len(pushes)
        try:
            for number, (arrived, rows) in enumerate(self.watched(pushes)):
                self.store.push("lines", [{**row, "arrived": arrived} for row in rows])
                self.clock = arrived
                self.known.append(self.keys_of(self.rng.choice(rows)))
                for _ in range(int((number + 1) * each) - int(number * each)):
                    recent = self.rng.random() < 0.5
                    keys = self.known[-1] if recent else self.rng.choice(self.known)
                    self.look_up(self.store, keys, arrived)
        finally:
            over.set()
            reader.join()

    def keys_of(self, row: Row) -> Row:
        return {"customer_id": row["customer_id"] or 0, "stock_code": row["stock_code"]}

    def read_meanwhile(self, over: threading.Event) -> None:
        """Lookups as of the last push that is done, whatever is being pushed."""
        rng = random.Random(1)
        url = self.store.online.url  # type: ignore[attr-defined]
        with FeatureStore(self.store.path, redis_url=url) as store:
            while not over.wait(0.005):
                clock = self.clock
                if clock is None:
                    continue
                try:
                    self.look_up(store, rng.choice(self.known[-50:]), clock)
                except AsOfTooOld:
                    self.too_old += 1  # a push of this very entity was quicker (T8)

    def watched(self, pushes: list[Any]) -> Iterator[Any]:
        begun = time.monotonic()
        for number, push in enumerate(pushes):
            if number % 1000 == 0:
                print(f"\r{number:,} of {len(pushes):,} pushes, {len(self.asked):,} lookups, "
                      f"{time.monotonic() - begun:.0f} s", end="", file=sys.stderr)  # fmt: skip
            yield push
        print(file=sys.stderr)


def differences(stream: Stream) -> tuple[int, list[Any]]:
    """How many values were compared with offline, and those that differ."""
    frame = pa.Table.from_pylist(stream.asked)
    training = stream.store.get_historical_features(frame, "service", statuses=True)
    table = training.to_arrow()
    names = [n for n in table.column_names if f"{n}__status" in table.column_names]
    columns = {n: table[n].to_pylist() for n in table.column_names}
    found, compared = [], 0
    for row, (values, statuses) in enumerate(stream.answers):
        for name, value, status in zip(names, values, statuses, strict=True):
            compared += 1
            offline = columns[name][row], columns[f"{name}__status"][row]
            if (bits(value), status) != (bits(offline[0]), offline[1]):
                found.append((stream.asked[row], name, (value, status), offline))
    return compared, found


def stream_all(by: str, most: int, lookups: int, seed: int) -> int:
    """Does all of it, prints what came of it, and gives the number of values that differ."""
    pushes = arrivals(by, most, seed)
    with tempfile.TemporaryDirectory() as name, scratch_redis() as url:
        folder = Path(name)
        (folder / "feature_store.yaml").write_text(SETTINGS)
        (folder / "definitions.py").write_text(MODULE)
        instants = pa.timestamp("us", tz="UTC")
        types = {"invoice_no": pa.string(), "stock_code": pa.string(), "quantity": pa.int64(),
                 "unit_price": pa.float64(), "customer_id": pa.int64(), "country": pa.string(),
                 "sold_at": instants, "arrived": instants}  # fmt: skip
        pq.write_table(pa.table({n: pa.array([], t) for n, t in types.items()}),
                       folder / "lines.parquet")  # fmt: skip
        with FeatureStore(folder, redis_url=url) as store:
            store.apply()
            store.materialize()
            stream = Stream(store, seed)
            begun = time.monotonic()
            stream.run(pushes, lookups)
            pushed = time.monotonic()
            compared, found = differences(stream)
            print(
                f"{sum(len(rows) for _, rows in pushes):,} lines in {len(pushes):,} pushes and "
                f"{len(stream.asked):,} lookups in {pushed - begun:.0f} s ({stream.too_old} refused"
                f" as too old); {len(segments(store.state_dir, 'lines'))} segments; "
                f"{compared:,} values compared in {time.monotonic() - pushed:.0f} s, "
                f"{len(found)} differ"
            )
            for one in found[:5]:
                print(*one, sep="\n  ")
            return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--by", choices=("invoice", "line"), default="invoice")
    parser.add_argument("--lines", type=int, default=10**9, help="only so many lines of the file")
    parser.add_argument("--lookups", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    return int(stream_all(given.by, given.lines, given.lookups, given.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
