"""The oracle, the point-in-time join and online states agree on awkward data, bit for bit."""

from __future__ import annotations

import itertools
import math

import awkward
import pytest
from agreeing import (
    EXAMPLES,
    ONE,
    PAIR,
    RICH,
    SERVICES,
    agree,
    cases,
    con,
    divides,
    late,
    offline_agrees,
    online_agrees,
    ratio,
    view,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, in_small_blocks, service_of
from slow import slow_unless

from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, StdDev, Sum
from featurekit.core.status import NEVER
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore

__all__ = ["con"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_offline_is_what_the_oracle_says(con, name):
    offline_agrees(con, SERVICES[name], examples=EXAMPLES // 10)


@pytest.mark.thorough
@pytest.mark.parametrize("name", SERVICES)
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    online_agrees(con, SERVICES[name], examples=EXAMPLES // 25)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [n for n in SERVICES if "latest" not in n])
def test_a_state_in_blocks_answers_what_the_oracle_says(con, name, monkeypatch):
    in_small_blocks(monkeypatch)
    online_agrees(con, SERVICES[name], examples=EXAMPLES // 25)


@pytest.mark.thorough
def test_a_redis_answers_what_the_oracle_says(con, redis_store: RedisStore):
    service = SERVICES["sums of late events"]

    @settings(max_examples=EXAMPLES // 10)
    @given(cases(service, instants=1))
    def check(case):
        rows, questions, shuffler = case
        redis_store.client.flushall()
        paths = Paths(con, service, rows)
        t = questions[0].t
        paths.materialise(redis_store, until=t - awkward.HOUR)
        paths.push_arrivals(redis_store, t - awkward.HOUR, t, shuffled=shuffler)
        expected = paths.oracle(questions)
        agree(paths, questions, "Redis", expected, paths.online(questions, redis_store))
        paths.close()

    check()


@pytest.mark.thorough
@pytest.mark.parametrize("in_blocks", [False, True])
def test_history_answers_earlier_instants_as_they_were(con, in_blocks, monkeypatch):
    if in_blocks:
        in_small_blocks(monkeypatch)

    @settings(max_examples=EXAMPLES // 10)
    @given(st.data())
    def check(data):
        history_agrees(con, data)

    check()


def history_agrees(con, data):
    features = {"n": Count(window="1h"), "sum": Sum("amount", window="1d"),
                "spread": StdDev("amount", window="1d"), "most": Max("amount", window="1d"),
                "distinct": CountDistinct("qty", window="1d"),
                "some": Mean(divides, where="flag", window="1d"),
                "last": Last("name", window="1d", hop="1h")}  # fmt: skip
    kept = {"history": "8d"}
    service = service_of(
        view("windows", ONE, late, features, **kept),
        view("latest", PAIR, late, {"amount": "amount", "ratio": ratio}, ttl="1d", **kept),
    )
    rows, questions, shuffler = data.draw(cases(service, instants=1, keys=3))
    paths = Paths(con, service, rows)
    back = data.draw(st.sampled_from([0, 1, awkward.HOUR, awkward.DAY, 8 * awkward.DAY]))
    earlier = [Question(q.row, q.t - back) for q in questions]
    expected = paths.oracle(earlier)
    store, other = MemoryStore(), MemoryStore()
    t = questions[0].t
    paths.push_arrivals(store, NEVER, t, shuffled=shuffler)
    paths.materialise(other, until=t)
    agree(paths, earlier, "pushed", expected, paths.online(earlier, store))
    agree(paths, earlier, "materialised", expected, paths.online(earlier, other))
    paths.close()


# --- found by the tests above, or near them -------------------------------------------------------

LISTS = {
    "items": [None, [], [None], [1], [0, None], [0, 1], [None, 1]],
    "prices": [[0.0], [-0.0], [math.nan], [1.0], [-0.0, 1.0], [0.0, -1.0]],
    "words": [[None], ["a"], [""], ["a", None], ["a", "b"]],
}
AT_ONE_INSTANT = {
    **dict.fromkeys(RICH),
    "key": 1,
    "key2": "a",
    "prices": [],
    "words": [],
    "__ts": 0,
    "__created": 0,
}


@pytest.mark.parametrize(
    ("name", "column"),
    slow_unless(
        lambda name, column: (name == "other types") == (list(LISTS).index(column) == 1),
        itertools.product(("other types", "latest of other types"), LISTS),
    ),
)
def test_events_of_one_instant_are_ordered_by_their_lists(con, name, column):
    # DuckDB orders nulls inside lists last and -0.0 beside 0.0, and its arg_max loses -0.0 there.
    for pair in itertools.combinations(LISTS[column], 2):
        rows = [AT_ONE_INSTANT | {column: value} for value in pair]
        paths = Paths(con, SERVICES[name], {"rich": rows})
        assert paths.differing([Question({"key": 1, "key2": "a"}, 0)]) == {}
        paths.close()


@pytest.mark.parametrize("arrives", [0, 1])
def test_a_list_keeps_its_minus_zeros_in_a_join_of_few_labels(con, arrives):
    rows = [AT_ONE_INSTANT | {"prices": [-0.0], "__created": arrives}]
    paths = Paths(con, SERVICES["latest of other types"], {"rich": rows})
    assert paths.differing([Question({"key": 1, "key2": "a"}, 1)]) == {}
    paths.close()
