"""The events of asked entities are the same, whether these stand in the query or in a table."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from paths import connect, service_of

from featurekit import Entity, EventSource, FeatureView
from featurekit.core.keys import entity_key
from featurekit.define.compile_service import compile_service
from featurekit.feed import entity_events
from featurekit.offline.events import EventRows

UTC = dt.UTC
KEYS: dict[type, list[Any]] = {
    int: [-(2**63), -1, 0, 2**63 - 1],
    str: ["", "a", "é😀", "o'clock", "a\nb", "a\0b", "\\x41"],
    bool: [True, False],
    bytes: [b"", b"\x00\xff", b"'"],
    dt.datetime: [
        dt.datetime(1, 1, 1, tzinfo=UTC),
        dt.datetime(2026, 3, 29, 1, 30, 0, 7, tzinfo=UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
    dt.date: [dt.date(1, 1, 1), dt.date(2024, 2, 29), dt.date(9999, 12, 31)],
}


@pytest.mark.parametrize("hint", KEYS, ids=lambda hint: hint.__name__)
def test_entities_in_a_query_are_those_in_a_table(
    hint: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = KEYS[hint]
    of = EventSource("of", path="x.parquet", schema={"key": hint, "n": int}, timestamp_field="at")
    one = FeatureView("one", entities=[Entity("e", {"key": hint})], source=of, features={"n": "n"})
    ((view,),) = [compile_service(service_of(one)).views]
    (key,) = view.join_keys
    rows = {"key": pa.array(values * 2, key.type.arrow), "n": range(2 * len(values))}
    stamps = {name: pa.array(range(2 * len(values)), pa.int64()) for name in ("__ts", "__created")}
    with connect() as con:
        con.register("given", pa.table({**rows, **stamps}))
        con.execute(
            f"CREATE TEMP TABLE rows AS SELECT * REPLACE (key::{key.type.duckdb} AS key) FROM given"
        )
        for asked in ([value] for value in values):
            found = []
            for most in (0, 100):
                monkeypatch.setattr(entity_events, "_LISTED", most)
                events = EventRows("rows", prompt=True)
                found.append(entity_events.events_of_entities(con, view, events, [asked]))
            assert found[0] == found[1]
            assert [*found[0]] == [entity_key([(key.type, asked[0])])]
            assert len(found[0][entity_key([(key.type, asked[0])])]) == 2
