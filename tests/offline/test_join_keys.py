"""Entities of two join keys, of any types and in either order, have the rows that are theirs (V1):
how DuckDB compares the one depends on what stands before it."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import awkward
import pytest
from agreeing import source, view
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import Paths, Question, connect, service_of
from slow import slow_unless

from featurekit import Entity
from featurekit.aggregates import Count
from featurekit.core.types import INT_MAX, INT_MIN

TYPES: tuple[Any, ...] = (int, str, bytes, bool, dt.datetime, dt.date)
MORE: dict[Any, Any] = {int: st.integers(INT_MIN, INT_MAX), bytes: st.binary(max_size=12)}


def named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else "late" if value else "prompt"


@pytest.mark.parametrize(
    ("one", "two", "late"),
    # Each type at each place, beside its own and beside another, late or prompt in turns.
    slow_unless(
        lambda one, two, late: (
            (TYPES.index(two) - TYPES.index(one)) % 6 == (TYPES.index(one) + late) % 2
        ),
        itertools.product(TYPES, TYPES, (False, True)),
    ),
    ids=named,
)
def test_every_pair_of_keys_finds_its_own_rows(one: type, two: type, late: bool) -> None:
    types = one, two
    options: dict[str, Any] = {"created_timestamp_column": "arrived"} if late else {}
    schema = {"one": types[0] | None, "two": types[1] | None, "y": int}
    events = source("events", schema, **options)
    entity = Entity("pair", {"one": types[0], "two": types[1]})
    service = service_of(
        view("latest", entity, events, {"y": "y"}),
        view("windows", entity, events, {"rows": Count(window="1d")}),
    )
    con = connect()
    values = [awkward.values(t) | MORE.get(t, st.nothing()) for t in types]
    rows = st.tuples(*values, st.integers(0, 3), st.sampled_from([0, 0, 2]) if late else st.just(0))

    @settings(max_examples=8)
    @given(st.lists(rows, min_size=1, max_size=10))
    def check(drawn: list[tuple[Any, ...]]) -> None:
        given = [
            {"one": a, "two": b, "y": i, "__ts": ts, "__created": ts + by}
            for i, (a, b, ts, by) in enumerate(drawn)
        ]
        keys = [{"one": row["one"], "two": row["two"]} for row in given]
        questions = [Question(key, t) for key in keys for t in (0, 2, 5)]
        paths = Paths(con, service, {"events": given})
        wanted = bits(paths.oracle(questions))
        assert bits(paths.offline(questions)) == wanted
        assert bits(paths.by_materialising(questions)) == wanted
        paths.close()

    check()
