"""Real order lines, each with the price of a list that is derived from them: the training set is
that of lines whose price a plain loop has found, and pushes and fills leave the same bytes."""

from __future__ import annotations

import bisect
import datetime as dt
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Count, Max, Sum
from featurekit.core.types import micros
from featurekit.offline.manifest import ContentHash

ROOT = Path(__file__).parents[2]
FOUND = [folder / "shared" / "data" / "online_retail.parquet" for folder in ROOT.parents[:2]]
RETAIL = next((path for path in FOUND if path.exists()), FOUND[0])
pytestmark = pytest.mark.skipif(
    not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"
)
LINES, LABELS, PUSHED = 20_000, 3_000, 300
STAMPS = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
DAY = dt.timedelta(days=1)
INSTANT = pa.timestamp("us", "UTC")
CUSTOMER, ARTICLE = Entity("customer", {"customer": int}), Entity("article", {"article": str})
LINE = {"customer": int | None, "article": str, "pieces": int, "paid": float}


@feature
def saved(pieces: int, paid: float, listed: float | None) -> float | None:
    if listed is None:
        return None
    return (listed - paid) * pieces


def order_lines() -> list[dict[str, Any]]:
    names = {"CustomerID": "customer", "StockCode": "article", "Quantity": "pieces"}
    names |= {"UnitPrice": "paid", "InvoiceDate": "at"}
    table = pq.read_table(RETAIL).slice(0, LINES)
    known = {name.lower().replace("_", ""): name for name in table.schema.names}
    columns = {new: table[known[old.lower()]].to_pylist() for old, new in names.items()}
    rows = []
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        row["customer"] = None if row["customer"] is None else int(row["customer"])
        row["at"] = row["at"].replace(tzinfo=dt.UTC)
        rows.append(row | {"paid": float(row["paid"]), "arrived": row["at"]})
    return rows


def price_list(lines: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The first price of each article on each day; some of them become known days later."""
    found: dict[tuple[str, dt.date], dict[str, Any]] = {}
    for row in lines:
        late = chance.choice((0, 0, 0, 1, 3)) * DAY
        made = {"article": row["article"], "listed": row["paid"], "at": row["at"]}
        found.setdefault((row["article"], row["at"].date()), made | {"arrived": row["at"] + late})
    return list(found.values())


def listed_for(lines: list[dict[str, Any]], prices: list[dict[str, Any]]) -> list[float | None]:
    """What each line takes, by a plain loop."""
    by_article: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for price in sorted(prices, key=lambda p: (p["at"], p["arrived"], p["listed"])):
        by_article[price["article"]].append(price)
    found = []
    for line in lines:
        of = by_article[line["article"]]
        end = bisect.bisect_right([p["at"] for p in of], line["at"])
        known = [p["listed"] for p in of[:end] if p["arrived"] <= line["arrived"]]
        found.append(known[-1] if known else None)
    return found


def frame(rows: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(rows)
    for name in ("at", "arrived"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(INSTANT))
    return table


def view(source: Any) -> FeatureView:
    features = {
        "saved_7d": Sum(saved, window="7d"),
        "listed_30d": Max("listed", window="30d"),
        "lines_7d": Count(window="7d"),
    }
    return FeatureView("saving", entities=[CUSTOMER], source=source, features=features)


def store_of(tmp: Path, lines: list[dict[str, Any]], prices: list[dict[str, Any]]) -> FeatureStore:
    of_prices = EventSource(
        "prices", frame=frame(prices), schema={"article": str, "listed": float}, **STAMPS
    )
    of_lines = EventSource("lines", frame=frame(lines), schema=LINE, **STAMPS)
    listed = FeatureView(
        "listed", entities=[ARTICLE], source=of_prices, features={"listed": "listed"}, history="5d"
    )
    service = FeatureService("s", features=[view(of_lines.join(listed, on="article"))])
    store = FeatureStore(definitions=[service], state_folder=tmp)
    store.parts.in_memory = True
    return store


def content(table: pa.Table) -> str:
    made = ContentHash(table.schema)
    for batch in table.combine_chunks().to_batches():
        made.update(batch)
    return made.hexdigest()


def states(store: FeatureStore) -> dict[bytes, bytes]:
    online = store.parts.online
    keys = sorted(online.keys(f"fk:{store.project}:state:".encode()))
    return dict(zip(keys, online.read(keys), strict=True))


def test_lines_with_a_price_list_have_one_content_and_one_state(tmp_path: Path) -> None:
    chance = random.Random(11)
    lines = order_lines()
    prices = price_list(lines, chance)
    taken = listed_for(lines, prices)
    assert taken.count(None) > 100 < len({*taken})
    store = store_of(tmp_path / "joined", lines, prices)
    labels = [
        {"customer": row["customer"], "event_timestamp": row["at"] + chance.choice((0, 1, 5)) * DAY}
        for row in chance.choices(lines, k=LABELS)
    ]
    joined = store.get_historical_features(labels, "s")
    made = [{**row, "listed": price} for row, price in zip(lines, taken, strict=True)]
    plain = EventSource(
        "made", frame=frame(made), schema={**LINE, "listed": float | None}, **STAMPS
    )
    by_hand = FeatureStore(definitions=[FeatureService("s", features=[view(plain)])])
    expected = by_hand.get_historical_features(labels, "s")
    assert content(joined.to_arrow()) == content(expected.to_arrow())

    # The last lines, and the prices that become known among them, are pushed in that order.
    bound = sorted(row["arrived"] for row in lines)[-PUSHED]
    end = max(row["arrived"] for row in lines)
    early = store_of(
        tmp_path / "early",
        [row for row in lines if row["arrived"] < bound],
        [row for row in prices if row["arrived"] < bound],
    )
    clock = [micros(bound) - 1_000_000]
    whole = store_of(tmp_path / "whole", lines, prices)
    early.parts.clock = whole.parts.clock = lambda: clock[0]
    early.apply()
    early.materialize()
    later = [("lines", row) for row in lines if row["arrived"] >= bound]
    later += [("prices", row) for row in prices if bound <= row["arrived"] <= end]
    later.sort(key=lambda one: (one[1]["arrived"], one[0] == "lines"))
    for name, row in later:
        clock[0] = max(clock[0], micros(row["arrived"]) + 1)
        early.push(name, [row])
    clock[0] = micros(end) + 1_000_000
    whole.apply()
    whole.materialize()
    assert states(early) == states(whole)
    assert len(states(whole)) > 500
