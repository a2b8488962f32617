"""V: rows of a view without aggregates."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rules.asking import ERRED, EXPIRED, NULL, One, S, empty, present, table

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature

user = Entity("user", {"key": int})
events = EventSource(
    "events", path="events.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={"key": int, "n": int | None, "m": int | None, "word": str | None},
)

@feature
def both(n: int | None, m: int | None) -> int | None:
    return None if n is None or m is None else n // m

features = {"n": "n", "m": "m", "word": "word", "both": both}
rows = FeatureView("rows", entities=[user], source=events, features=features)
fresh = FeatureView("fresh", entities=[user], source=events, features=features, ttl="10s")

@feature
def is_small(n: int | None) -> bool | None:
    return None if n is None else n < 5

small = FeatureView("small", entities=[user], source=events, features=features, where=is_small)
latest = FeatureService("latest", features=[rows])
passing = FeatureService("passing", features=[small])
within = FeatureService("within", features=[fresh])
"""
TYPES = {"n": pa.int64(), "m": pa.int64(), "word": pa.string()}
TABLES = {"events": table(**TYPES)}
FULL: dict[str, Any] = {"n": 6, "m": 2, "word": "a"}


def test_the_latest_row_is_read_whole_with_its_nulls(one: One) -> None:
    one.push("events", 0, **FULL)
    one.push("events", 1, n=None, m=3, word=None)
    assert one.ask("latest", 5) == {"n": NULL, "m": present(3), "word": NULL, "both": NULL}


def test_a_transform_reads_the_latest_row(one: One) -> None:
    one.push("events", 0, **FULL)
    assert one.ask("latest", 5)["both"] == present(3)


def test_an_error_is_of_its_own_feature(one: One) -> None:
    one.push("events", 0, **FULL | {"m": 0})
    assert one.ask("latest", 5) == {
        "n": present(6), "m": present(0), "word": present("a"), "both": ERRED,
    }  # fmt: skip


def test_an_expired_row_has_no_values_and_no_older_row_stands_in(one: One) -> None:
    one.push("events", 0, **FULL)
    assert one.ask("within", 10 * S) == dict.fromkeys(FULL | {"both": 0}, EXPIRED)


def test_an_entity_without_rows_is_not_found(one: One) -> None:
    assert one.ask("latest") == dict.fromkeys(FULL | {"both": 0}, empty(None))


def test_the_latest_row_that_passes_is_read(one: One) -> None:
    one.push("events", 0, n=4, m=2, word="a")
    one.push("events", 1, **FULL)
    one.push("events", 2, n=None, m=1, word="b")
    assert one.ask("passing", 5) == {
        "n": present(4), "m": present(2), "word": present("a"), "both": present(2),
    }  # fmt: skip


def test_where_no_row_passes_the_entity_is_not_found(one: One) -> None:
    one.push("events", 0, **FULL)
    assert one.ask("passing", 5) == dict.fromkeys(FULL | {"both": 0}, empty(None))
