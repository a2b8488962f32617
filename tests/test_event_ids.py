"""T7: copies of an event count once, corrections and deletions take effect as of their arrival."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of
from test_paths_agree import EXAMPLES, NAMED, ONE, PAIR, agree, cases, ratio, source, view

from featurekit.aggregates import Count, CountDistinct, Last, LastN, Max, Mean, Sum
from featurekit.define import FeatureService

H, D = awkward.HOUR, awkward.DAY
SCHEMA: dict[str, Any] = {
    "id": int,
    "key": int | None,
    "key2": str,
    "amount": float,
    "qty": int,
    "flag": bool | None,
    "name": str | None,
    "op": str,
}
COPIED = {name: type_ for name, type_ in SCHEMA.items() if name != "op"}
ARRIVING: dict[str, Any] = {"created_timestamp_column": "arrived", "event_id": "id"}

copied = source("copied", COPIED, **ARRIVING)
briefly = source("briefly", COPIED, dedupe_within="1h", **ARRIVING)
prompt = source("prompt", COPIED, event_id="id", dedupe_within="1d")
numbered = source("numbered", COPIED, sequence="qty", dedupe_within="1d", **ARRIVING)
corrected = source("corrected", SCHEMA, op="op", **ARRIVING)
hourly = source("hourly", SCHEMA, op="op", dedupe_within="1h", **ARRIVING)
daily = source("daily", SCHEMA, op="op", dedupe_within="1d", sequence="qty", **ARRIVING)

windows = {
    "rows": Count(window="1d"),
    "sum": Sum("amount", window="7d", hop="7h"),
    "mean": Mean("qty", window="8d", offset="1h", where="flag"),
    "ratios": CountDistinct(ratio, window="1d"),
}
ordered = {"last": Last("name", window="7d"), "most": Max("amount", window="1d"),
           "three": LastN("qty", n=3, window="1d")}  # fmt: skip
row = {"amount": "amount", "qty": "qty", "name": "name", "ratio": ratio, "key2": "key2"}

SERVICES = {
    "copies in windows": service_of(view("v", ONE, copied, windows)),
    "copies in ordered windows": service_of(view("v", PAIR, copied, ordered)),
    "copies soon forgotten": service_of(view("v", ONE, briefly, windows)),
    "copies, latest row": service_of(view("v", PAIR, copied, row, ttl="1d")),
    "copies soon forgotten, latest row": service_of(view("v", ONE, briefly, row)),
    "copies of prompt events": service_of(view("v", ONE, prompt, windows | ordered)),
    "copies of prompt events, latest row": service_of(view("v", ONE, prompt, row)),
    "copies of numbered events": service_of(view("v", ONE, numbered, row, ttl="1h")),
    "corrections in windows": service_of(view("v", ONE, corrected, windows)),
    "corrections in ordered windows": service_of(view("v", NAMED, corrected, ordered)),
    "corrections soon forgotten": service_of(view("v", PAIR, hourly, windows | ordered)),
    "corrections, latest row": service_of(view("v", ONE, corrected, row, ttl="8d")),
    "corrections soon forgotten, latest row": service_of(view("v", ONE, hourly, row)),
    "corrections of numbered events": service_of(view("v", PAIR, daily, row, ttl="1d")),
    "two views and two memories": service_of(
        view("one", ONE, copied, windows), view("two", PAIR, copied, ordered)
    ),
}
every = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@st.composite
def id_cases(draw: st.DrawFn, service: FeatureService, **options: Any) -> Any:
    """`cases` in which ids repeat, with other values, keys, instants and arrivals or with the same,
    and ops are mostly upserts."""
    rows, questions, shuffler = draw(cases(service, **options))
    most = draw(st.integers(1, 8))
    for found in rows.values():
        for one in found:
            one["id"] = draw(st.integers(0, most))
            if "op" in one:
                one["op"] = draw(st.sampled_from(["upsert", "upsert", "delete"]))
    return rows, questions, shuffler


@every
def test_offline_is_what_the_oracle_says(con, name):
    service = SERVICES[name]

    @settings(max_examples=EXAMPLES // 10)
    @given(id_cases(service, instants=6, keys=3))
    def check(case):
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        agree(paths, questions, "offline", paths.oracle(questions), paths.offline(questions))
        paths.close()

    check()
