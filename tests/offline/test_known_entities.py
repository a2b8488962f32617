"""Without an entity frame: every entity that was known, at each instant, and no other."""

import datetime as dt
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.errors import ArgumentError, DefinitionError, EntityFrameError
from featurekit.offline.manifest import ContentHash

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Sum
import datetime as dt

customer = Entity("customer", join_keys={"customer_id": int})
visit = Entity("visit", join_keys={"day": dt.datetime, "place": str})
lines = EventSource(
    "lines", path="data/lines.parquet", timestamp_field="ts", created_timestamp_column="arrived",
    schema={"customer_id": int | None, "day": dt.datetime, "place": str, "price": float},
)
calls = EventSource("calls", path="data/calls.parquet", timestamp_field="ts",
    schema={"customer_id": int})
spend = FeatureView("spend", entities=[customer], source=lines,
    features={"spend": Sum("price", window="10s")})
newest = FeatureView("newest", entities=[customer], source=lines, features={"price": "price"})
called = FeatureView("called", entities=[customer], source=calls,
    features={"calls": Count(window="10s")})
visits = FeatureView("visits", entities=[visit], source=lines, features={"paid": "price"})

@feature
def share(price: float | None, basket: float) -> float | None:
    return None if price is None else price / basket

customers = FeatureService("customers", features=[spend, newest, called])
mixed = FeatureService("mixed", features=[spend, visits, called])
asking = FeatureService("asking", features=[newest, share], request={"basket": float})
"""


def at(second: float) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


# customer, place, price, event, arrival
LINES = [
    (5, "b", 1.0, 10, 10), (5, "a", 0.1, 12, 30), (-7, "b", 2.0, 20, 25), (None, "c", 9.0, 1, 1),
    (2**53 + 1, "é", -0.0, 40, 40), (5, "b", 4.0, 41, 41),
]  # fmt: skip
CALLS = [(3, 15), (5, 2), (-7, 22)]


def times(seconds: list[int]) -> pa.Array:
    return pa.array([at(s) for s in seconds], type=pa.timestamp("us", tz="UTC"))


@pytest.fixture
def store(make_repo: Callable[..., Path]) -> FeatureStore:
    lines = {
        "customer_id": pa.array([r[0] for r in LINES], type=pa.int64()),
        "day": times([r[3] // 20 for r in LINES]),
        "place": [r[1] for r in LINES],
        "price": [r[2] for r in LINES],
        "ts": times([r[3] for r in LINES]),
        "arrived": times([r[4] for r in LINES]),
    }
    calls = {"customer_id": [c for c, _ in CALLS], "ts": times([t for _, t in CALLS])}
    return FeatureStore(make_repo(MODULE, {"lines": lines, "calls": calls}))


def known(when: dt.datetime) -> list[int]:
    """The customers with an event that has happened and arrived."""
    seen = {(c, max(ts, arrived)) for c, _, _, ts, arrived in LINES} | set(CALLS)
    return sorted({c for c, first in seen if c is not None and at(first) <= when})


def content(table: pa.Table) -> str:
    digest = ContentHash(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    return digest.hexdigest()


INSTANTS = [at(s) for s in (0, 2, 15, 24.999999, 25, 30, 40, 100)]


def test_the_rows_are_those_of_a_frame_of_all_known_entities(store: FeatureStore) -> None:
    made = store.get_historical_features(features="customers", at=INSTANTS, statuses=True)
    pairs = [(t, c) for t in INSTANTS for c in known(t)]
    frame = pa.table(
        {
            "customer_id": [c for _, c in pairs],
            "event_timestamp": pa.array([t for t, _ in pairs], type=pa.timestamp("us", tz="UTC")),
        }
    )
    expected = store.get_historical_features(frame, "customers", statuses=True)
    assert len(pairs) == 20
    assert made.to_arrow().schema == expected.to_arrow().schema
    assert content(made.to_arrow()) == content(expected.to_arrow())
    assert made.manifest["content_hash"] == expected.manifest["content_hash"]


def test_a_late_event_makes_its_entity_known_when_it_arrived(store: FeatureStore) -> None:
    def asked(second: float) -> list[int]:
        made = store.get_historical_features(service="mixed", at=[at(second)], entities="spend")
        return made.to_arrow()["customer_id"].to_pylist()

    assert asked(24.999999) == [5]
    assert asked(25) == [-7, 5]


def test_a_range_has_both_ends_and_every_step_between(store: FeatureStore) -> None:
    made = store.get_historical_features(features="customers", start=at(2), end=at(22), every="10s")
    rows = made.to_arrow()["event_timestamp"].to_pylist()
    assert list(dict.fromkeys(rows)) == [at(2), at(12), at(22)]
    same = store.get_historical_features(features="customers", at=[at(22), at(12), at(2), at(12)])
    assert made.manifest["content_hash"] == same.manifest["content_hash"]


def test_views_of_different_entities_take_what_one_view_s_events_saw_together(
    store: FeatureStore,
) -> None:
    made = store.get_historical_features(features="mixed", at=[at(30), at(50)], entities="visits")
    found = [
        (r["event_timestamp"], r["customer_id"], r["day"], r["place"])
        for r in made.to_arrow().to_pylist()
    ]
    expected = sorted(
        {
            (t, c, at(ts // 20), place)
            for t in (at(30), at(50))
            for c, place, _, ts, arrived in LINES
            if c is not None and at(max(ts, arrived)) <= t
        }
    )
    assert found == expected
    assert len(found) == 3 + 5


def test_each_conversion_gives_the_same_and_leaves_no_file(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    made = store.get_historical_features(features="customers", at=INSTANTS)
    table = made.to_arrow()
    assert made.to_polars().to_arrow().num_rows == table.num_rows
    assert made.to_pandas()["customer_id"].tolist() == table["customer_id"].to_pylist()
    made.to_parquet(tmp_path / "train.parquet")
    assert pq.read_table(tmp_path / "train.parquet").equals(table)
    assert list(scratch.iterdir()) == []


def test_no_entity_known_yet_gives_no_rows_and_all_columns(store: FeatureStore) -> None:
    made = store.get_historical_features(features="customers", at=[at(-1)]).to_arrow()
    assert made.num_rows == 0
    assert made.column_names == ["customer_id", "event_timestamp", "spend", "price", "calls"]
    assert made.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize("write", [lambda t: t, dt.datetime.isoformat], ids=["datetime", "text"])
def test_naive_instants_are_read_in_the_zone(store: FeatureStore, write: Any) -> None:
    naive = write(at(40).replace(tzinfo=None) + dt.timedelta(hours=1))
    for asked in ({"at": [naive]}, {"start": naive, "end": naive, "every": "1s"}):
        made = store.get_historical_features(
            features="customers", timezone="Europe/Berlin", **asked
        )
        assert made.to_arrow()["event_timestamp"].to_pylist() == [at(40)] * 4


def test_a_date_is_midnight_in_the_zone(store: FeatureStore) -> None:
    for day in (dt.date(2024, 1, 2), "2024-01-02"):
        made = store.get_historical_features(
            features="customers", at=[day], timezone="Europe/Berlin"
        )
        midnight = dt.datetime(2024, 1, 1, 23, tzinfo=dt.UTC)
        assert made.to_arrow()["event_timestamp"].to_pylist() == [midnight] * 4


SPAN = {"start": at(0), "end": at(9), "every": "1s"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"features": "asking", "at": [at(1)]}, r"takes request fields \(basket\)"),
        ({"features": "mixed", "at": [at(1)]}, 'different entities .* entities="spend"'),
        ({"features": "mixed", "at": [at(1)], "entities": "x"}, "it has spend, visits, called"),
        (
            {"features": "mixed", "at": [at(1)], "entities": "called"},
            "source 'calls' of view 'called' has no day, place",
        ),
        ({"features": "customers"}, r"give a frame of .* or instants .* as in at=\[datetime"),
        ({"features": "customers", "at": [at(1)], **SPAN}, "found both at= and start="),
        ({"features": "customers", "at": []}, r"at= is an empty list; write at=\["),
        ({"features": "customers", "at": at(1)}, r"a list of instants or None, .* write at=\["),
        (
            {"features": "customers", "at": "2024-01-01"},
            r"at is a list of instants or None, found '2024-01-01'; write at=\['2024-01-01'\]",
        ),
        ({"features": "customers", "at": ["soon"]}, "at is an instant, found 'soon'"),
        ({"features": "customers", **SPAN, "end": 3}, "end is .*, found 3"),
        ({"features": "customers", "start": at(1), "end": at(2)}, "every= go together"),
        ({"features": "customers", **SPAN, "end": at(-1)}, "lies after end"),
        ({"entity_df": [], "features": "customers", "at": [at(1)]}, "leave out at="),
    ],
)
def test_what_cannot_be_asked_is_explained(
    store: FeatureStore, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises((EntityFrameError, ArgumentError), match=message):
        store.get_historical_features(**asked)


def test_a_step_is_longer_than_nothing(store: FeatureStore) -> None:
    with pytest.raises(DefinitionError, match="every"):
        store.get_historical_features(features="customers", **{**SPAN, "every": "0s"})


def test_one_service_is_named(store: FeatureStore) -> None:
    with pytest.raises(DefinitionError, match="name one service"):
        store.get_historical_features(at=[at(1)])
    with pytest.raises(DefinitionError, match="name one service"):
        store.get_historical_features(None, "customers", features="customers", at=[at(1)])


CORRECTED = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
customer = Entity("customer", join_keys={"customer_id": int})
orders = EventSource("orders", path="data/orders.parquet", timestamp_field="ts",
    created_timestamp_column="arrived", event_id="id", op="op", dedupe_within="30d",
    schema={"customer_id": int, "id": str, "op": str, "price": float})
newest = FeatureView("newest", entities=[customer], source=orders, features={"price": "price"})
service = FeatureService("service", features=[newest])
"""


def test_an_entity_whose_events_were_all_deleted_is_known_no_more(
    make_repo: Callable[..., Path],
) -> None:
    rows = [
        (1, "a", "upsert", 10), (2, "b", "upsert", 11), (1, "a", "delete", 20),
        (3, "b", "upsert", 30), (4, "c", "delete", 31),
    ]  # fmt: skip
    table = {
        "customer_id": [r[0] for r in rows],
        "id": [r[1] for r in rows],
        "op": [r[2] for r in rows],
        "price": [float(r[3]) for r in rows],
        "ts": times([r[3] for r in rows]),
        "arrived": times([r[3] for r in rows]),
    }
    store = FeatureStore(make_repo(CORRECTED, {"orders": table}))
    instants = [at(s) for s in (10, 11, 19.999999, 20, 30, 40)]
    made = store.get_historical_features(features="service", at=instants, statuses=True).to_arrow()
    found: dict[dt.datetime, list[int]] = {t: [] for t in instants}
    for t, customer in zip(
        made["event_timestamp"].to_pylist(), made["customer_id"].to_pylist(), strict=True
    ):
        found[t].append(customer)
    assert list(found.values()) == [[1], [1, 2], [1, 2], [2], [3], [3]]
    assert set(made["price__status"].to_pylist()) == {"PRESENT"}
