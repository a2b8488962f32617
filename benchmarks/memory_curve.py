"""A steady stream of events over many window-lengths: what Redis holds of it as time goes on.

Time is simulated: rows bring their arrivals. A table, and with `--picture` an SVG of the curves.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore
from featurekit.core.keys import ids_prefix, state_prefix
from featurekit.define.plan import View
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user = Entity("user", join_keys={"user": int})
columns = {"user": int, "money": float, "number": int}
clicks = EventSource("clicks", path="clicks.parquet", schema=columns, timestamp_field="at",
                     created_timestamp_column="arrived")
orders = EventSource("orders", path="orders.parquet", schema=columns, timestamp_field="at",
                     created_timestamp_column="arrived", event_id="number", dedupe_within="1d")

def over(window):
    return {"n": Count(window=window), "spent": Sum("money", window=window)}

recent = FeatureView("recent", entities=[user], source=clicks, features=over("1d"))
latest = FeatureView("latest", entities=[user], source=clicks, features={"money": "money"})
bought = FeatureView("bought", entities=[user], source=orders, features=over("1d"))
lifetime = FeatureView("lifetime", entities=[user], source=clicks, features=over("lifetime"))
service = FeatureService("service", features=[recent, latest, bought, lifetime])
"""
DAY = dt.timedelta(days=1)
CURVES = {
    "recent": "1 d window",
    "latest": "latest row",
    "bought": "1 d window, with ids",
    "ids": "its ids",
    "lifetime": "lifetime",
}


def repo(folder: Path) -> None:
    """A feature repo whose files are empty: everything is pushed."""
    (folder / "feature_store.yaml").write_text("project: bench\nprovider: local\n")
    (folder / "definitions.py").write_text(MODULE)
    at = pa.timestamp("us", tz="UTC")
    types = {"user": pa.int64(), "money": pa.float64(), "number": pa.int64(), "at": at,
             "arrived": at}  # fmt: skip
    for source in ("clicks", "orders"):
        empty = pa.table({name: pa.array([], type_) for name, type_ in types.items()})
        pq.write_table(empty, folder / f"{source}.parquet")


class Stream:
    """Events of all users, evenly over time, one of twenty up to six hours late."""

    def __init__(self, store: FeatureStore, begin: dt.datetime, users: int, a_day: int) -> None:
        self.store, self.begin, self.users, self.a_day = store, begin, users, a_day
        self.chance, self.pushed = random.Random(1), 0

    def push(self, since: float, until: float) -> None:
        """One push to each source of what arrives in these days after the beginning."""
        events = round((until - since) * self.a_day) * self.users
        arrived = self.begin + until * DAY
        rows = []
        for n in range(events):
            late = self.chance.random() / 4 if self.chance.random() < 0.05 else 0.0
            at = self.begin + (since + (until - since) * n / events - late) * DAY
            rows.append({"user": n % self.users, "money": self.chance.randrange(10**6) / 100,
                         "number": self.pushed + n, "at": at, "arrived": arrived})  # fmt: skip
        for source in ("clicks", "orders"):
            self.store.push(source, rows)
        self.pushed += events


def held(store: FeatureStore, views: Sequence[View]) -> dict[str, int]:
    """Bytes of Redis by view, and of what is remembered of ids, and the number of those."""
    found = {}
    for view in views:
        prefix = state_prefix("bench", view)
        prefixes = (prefix, prefix.replace(b":state:", b":block:", 1))
        keys = [key for prefix in prefixes for key in store.online.keys(prefix)]
        found[view.name] = sum(store.online.sizes(keys))
        if view.dedupe_us is not None:
            keys = list(store.online.keys(ids_prefix("bench", view)))
            found["ids"], found["ids_held"] = sum(store.online.sizes(keys)), len(keys)
    return found


def measure(days: int, users: int, a_day: int, pushes: int) -> list[dict[str, Any]]:
    """One row a day: events pushed by then, events that count, bytes by view."""
    begin = dt.datetime.now(dt.UTC) - (days + 1) * DAY
    rows = []
    # No power fails here, and the log is not what is measured.
    os.fsync = lambda fd: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name, scratch_redis() as url:
        repo(Path(name))
        with FeatureStore(Path(name), redis_url=url) as store:
            store.apply()
            store.materialize(begin)
            views = store.live()["service"].views
            assert isinstance(store.online, RedisStore)
            client = store.online.client
            empty = client.info("memory")["used_memory"]
            stream = Stream(store, begin, users, a_day)
            for day in range(days):
                for part in range(pushes):
                    stream.push(day + part / pushes, day + (part + 1) / pushes)
                now = begin + (day + 1) * DAY
                store.materialize_incremental(now, views=["bought"])
                asked = [{"user": user} for user in range(users)]
                counts = store.get_online_features("service", asked, as_of=now).columns
                rows.append({
                    "day": day + 1, "pushed": stream.pushed, "counting": sum(counts["recent__n"]),
                    "used_memory": client.info("memory")["used_memory"] - empty,
                    **held(store, views),
                })  # fmt: skip
    return rows


def svg(rows: Sequence[dict[str, Any]]) -> str:
    """The curves as a picture: bytes in Redis over days, a line each."""
    width, height, left, top, right, bottom = 720, 360, 70, 40, 170, 50
    most = max(row[name] for row in rows for name in CURVES)
    across, up = width - left - right, height - top - bottom

    def place(day: float, size: float) -> str:
        return f"{left + across * day / rows[-1]['day']:.1f},{top + up * (1 - size / most):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="22" font-size="14">Bytes in Redis, {rows[-1]["pushed"]:,} events '
        f"a source over {rows[-1]['day']} days</text>",
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = top + up * (1 - share)
        parts.append(f'<path d="M{left} {y:.1f}H{left + across}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{most * share / 1e6:.2f} MB</text>"
        )
    for row in rows[:: max(1, len(rows) // 10)]:
        x = place(row["day"], 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{top + up + 18}" text-anchor="middle">{row["day"]}</text>')
    parts.append(
        f'<text x="{left + across / 2}" y="{height - 10}" text-anchor="middle">days = '
        "window-lengths</text>"
    )
    colours = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#777777")
    last = 0.0
    ends = sorted(CURVES, key=lambda name: rows[-1][name], reverse=True)
    for name in ends:
        colour = colours[list(CURVES).index(name)]
        points = " ".join(place(row["day"], row[name]) for row in rows)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        y = float(place(0, rows[-1][name]).split(",")[1]) + 4
        y = last = max(y, last + 15)
        parts.append(
            f'<text x="{left + across + 8}" y="{y:.1f}" fill="{colour}">{CURVES[name]}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=20, help="window-lengths to go on for")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--a-day", type=int, default=96, help="events of a user, of each source")
    parser.add_argument("--pushes", type=int, default=8, help="pushes a day")
    parser.add_argument("--picture", type=Path, help="an SVG file to write")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    given = parser.parse_args()
    rows = measure(given.days, given.users, given.a_day, given.pushes)
    if given.picture is not None:
        given.picture.write_text(svg(rows), encoding="utf-8")
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:,}" for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
