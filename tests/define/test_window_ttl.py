"""A ttl on a view of windows: an entity whose latest event is older has no values (T4)."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from agreeing import (
    EXAMPLES,
    ONE,
    PAIR,
    extremes,
    late,
    offline_agrees,
    online_agrees,
    prompt,
    sums,
    view,
)
from paths import Paths, Question, connect, service_of

from featurekit.aggregates import Count, Last, LastN, Sum, TopK, ValueCounts
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.errors import DefinitionError
from featurekit.language.transform import feature

MIXED = {
    "rows": Count(window="1h"),
    "before": Count(window="1h", offset="8d"),
    "ever": Sum("qty", window="lifetime", default=0),
    "counts": ValueCounts("name", window="1d"),
    "top": TopK("qty", window="1d", k=2),
    "lasts": LastN("amount", window="8d", n=2),
    "or": Sum("amount", window="1h", default=0.5),
}


@feature
def doubled(rows: int | None) -> int | None:
    if rows is None:
        return None
    return rows * 2


SERVICES = {
    "shorter than the windows": service_of(view("sums", PAIR, late, sums, ttl="1h")),
    "shorter, of prompt events": service_of(view("sums", ONE, prompt, sums, ttl="1s")),
    "extremes": service_of(view("extremes", PAIR, late, extremes, ttl="1d")),
    "longer than some windows": service_of(view("mixed", PAIR, late, MIXED, ttl="7d")),
    "read by a transform": service_of(
        view("mixed", ONE, late, MIXED, ttl="1d"),
        view("row", ONE, late, {"qty": "qty"}, ttl="1h"),
        doubled,
    ),
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=max(5, EXAMPLES // 10))


S = 1_000_000
ROW = {"key": 1, "key2": "a", "amount": 0.5, "qty": 3, "flag": None, "name": "x"}


def asked(con, t: int, *, key: int = 1):
    """What every path says at t of an entity with one event at 0: rows, ever, or."""
    features = {k: MIXED[k] for k in ("rows", "ever", "or")}
    service = service_of(view("v", ONE, late, features, ttl="10s"))
    paths = Paths(con, service, {"late": [ROW | {"__ts": 0, "__created": 0}]})
    questions = [Question({"key": key}, t)]
    answers = [
        paths.offline(questions),
        paths.by_pushes(questions),
        paths.by_materialising(questions),
    ]
    paths.close()
    assert answers[0] == answers[1] == answers[2]
    return answers[0][0]


def test_a_latest_event_within_the_ttl_counts(con):
    assert asked(con, 10 * S - 1) == [(1, "PRESENT"), (3, "PRESENT"), (0.5, "PRESENT")]


def test_as_old_as_the_ttl_every_feature_is_none_whatever_its_default(con):
    assert asked(con, 10 * S) == [(None, "OUTSIDE_MAX_AGE")] * 3


def test_an_unknown_entity_has_its_empty_windows(con):
    assert asked(con, 5, key=2) == [(0, "NOT_FOUND"), (0, "NOT_FOUND"), (0.5, "NOT_FOUND")]


def test_every_feature_of_the_view_may_be_none():
    made = compile_view(view("v", PAIR, late, MIXED, ttl="1d"))
    assert all(f.type.optional for f in made.features)


def test_a_transform_that_does_not_expect_none_does_not_compile():
    @feature
    def plus_one(rows: int) -> int:
        return rows + 1

    with pytest.raises(DefinitionError, match=r"'rows' is declared int, .* may be None"):
        compile_service(service_of(view("v", ONE, late, MIXED, ttl="1d"), plus_one))


def test_the_ttl_is_part_of_the_fingerprint():
    one, two = (
        compile_view(view("v", ONE, late, {"last": Last("qty", window="1d")}, ttl=ttl))
        for ttl in ("1h", "2h")
    )
    assert one.fingerprint != two.fingerprint
    assert one.features[0].fingerprint != two.features[0].fingerprint
