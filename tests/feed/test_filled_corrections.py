"""An incremental fill reads as far back as its rows may end or replace earlier ones (T7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, LastN, Sum

DAY = dt.timedelta(days=1)
NOON = dt.datetime.now(dt.UTC).replace(microsecond=0) - 10 * DAY
ENTITIES = [{"who": who} for who in (1, 2, 3)]
FIRST = [("a", "upsert", 1, 1.0, 0), ("b", "upsert", 1, 2.0, 0), ("c", "upsert", 2, 4.0, 0)]
LATER: dict[str, tuple[tuple[Any, ...], float]] = {
    "corrected": (("a", "upsert", 1, 16.0, 2), 22.0),
    "moved to another": (("a", "upsert", 2, 16.0, 2), 22.0),
    "moved to a new one": (("a", "upsert", 3, 16.0, 2), 22.0),
    "deleted": (("a", "delete", 1, 1.0, 2), 6.0),
    "deleted by another": (("c", "delete", 3, 1.0, 2), 3.0),
    "at the last instant": (("a", "upsert", 2, 16.0, 3), 22.0),
}
"""What comes later, with the sum of all amounts then."""


def write(folder: Path, name: str, *rows: tuple[Any, ...]) -> None:
    at = [NOON + DAY * day for *_, day in rows]
    stamps = pa.array(at, pa.timestamp("us", "UTC"))
    ids, ops, who, amounts, _ = zip(*rows, strict=True)
    columns = {"id": ids, "op": ops, "who": who, "amount": amounts, "at": stamps, "known": stamps}
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


@pytest.fixture
def store(tmp_path: Path, redis_url: str) -> Iterator[FeatureStore]:
    rows = EventSource(
        "rows", path=str(tmp_path / "*.parquet"), timestamp_field="at", event_id="id", op="op",
        created_timestamp_column="known", dedupe_within="3d",
        schema={"id": str, "op": str, "who": int, "amount": float},
    )  # fmt: skip
    view = FeatureView(
        "view", entities=[Entity("person", {"who": int})], source=rows,
        features={"n": Count(window="20d"), "sum": Sum("amount", window="20d"),
                  "last": LastN("amount", n=9, window="20d")},
    )  # fmt: skip
    service = FeatureService("service", features=[view])
    write(tmp_path, "first", *FIRST)
    with FeatureStore(
        definitions=[service], state_folder=tmp_path / "s", redis_url=redis_url
    ) as it:
        it.apply()
        it.materialize(NOON + DAY)
        yield it


@pytest.mark.parametrize("name", LATER)
def test_an_event_that_came_before_the_run_ends_with_its_correction(
    store: FeatureStore, tmp_path: Path, name: str
) -> None:
    end = NOON + 5 * DAY
    row, total = LATER[name]
    write(tmp_path, "later", row)
    store.materialize_incremental(end)
    labels = [{**entity, "event_timestamp": end} for entity in ENTITIES]
    offline = store.get_historical_features(labels, "service").to_pylist()
    online = store.get_online_features("service", ENTITIES, as_of=end).to_pylist()
    for one, other in zip(offline, online, strict=True):
        assert [bits(one[n]) for n in ("n", "sum", "last")] == [
            bits(other[n]) for n in ("n", "sum", "last")
        ]
    assert sum(row["sum"] or 0.0 for row in online) == total
