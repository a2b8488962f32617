"""A view of which each element of a list is an event, held to the oracle on every path."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import agree, in_turns
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of
from slow import slow_unless

from featurekit import Entity, EventSource, FeatureView, feature
from featurekit.aggregates import Count, FirstN, Last, LastN, Max, Sum
from featurekit.core.types import instant
from featurekit.define.definitions import FeatureService

EXAMPLES = settings().max_examples
PERSON = Entity("person", {"person": int})
TAG = Entity("tag", {"tags": int})
ARRIVES = {"timestamp_field": "at", "created_timestamp_column": "arrived"}


def source(name: str, schema: dict[str, Any], **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, **ARRIVES | options)


@feature
def doubled(tags: int | None, n: int) -> int:
    return n if tags is None else 2 * tags


baskets = source(
    "baskets", {"person": int | None, "tags": list[int | None] | None, "n": int, "price": float}
)
numbered = source("numbered", {"tags": list[int], "person": int, "n": int}, sequence="n")
IDS = {"event_id": "id", "dedupe_within": "1d"}
named = source("named", {"id": str, "person": int, "tags": list[int], "n": int}, **IDS)
changed = source(
    "changed", {"id": int, "op": str, "person": int, "tags": list[int], "n": int}, **IDS, op="op"
)
WINDOWS = {
    "sum": Sum("tags", window="7d"),
    "rows": Count(window="1d"),
    "last": LastN("tags", n=4, window="7d"),
    "first": FirstN("n", n=4, window="7d"),
    "most": Max(doubled, window="1d"),
}
OF_TAGS = {"times": Count(window="7d"), "n": Sum("n", window="1d"), "last": Last("n", window="7d")}


def view(name: str, of: Any, entity: Entity, features: Any, **options: Any) -> FeatureView:
    how = {"sources": of} if isinstance(of, list) else {"source": of}
    made = {"entities": [entity], "features": features, "explode": "tags", **how, **options}
    return FeatureView(name, **made)


both = [baskets, {source("other", {"labels": list[int | None] | None, "n": int}): {
    "tags": "labels"}}]  # fmt: skip
SERVICES = {
    "windows": service_of(view("windows", baskets, PERSON, WINDOWS, history="1h")),
    "numbered": service_of(
        view("numbers", numbered, PERSON, {"tags": "tags", "n": "n"}, ttl="7d"),
        view("firsts", numbered, PERSON, {"tags": FirstN("tags", n=5, window="7d")}),
    ),
    "elements that are keys": service_of(view("of_tags", both, TAG, OF_TAGS)),
    "ids": service_of(
        view("named_tags", named, TAG, OF_TAGS),
        view("named_rows", named, PERSON, {"tags": "tags"}, ttl="7d")[["tags"]],
    ),
    "versions": service_of(view("versions", changed, TAG, OF_TAGS)),
    "versions of a person": service_of(view("persons", changed, PERSON, {
        "last": LastN("tags", n=4, window="7d"), "rows": Count(window="1d")})),
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn, service: FeatureService) -> tuple[Any, list[Question], random.Random]:
    views = [getattr(v, "view", v) for v in service.features]
    sources = {s.name: s for v in views for s in v.event_sources}
    few = st.sampled_from((1, 2, 3))
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, one in sources.items():
        rows[name] = draw(awkward.source_events(one, max_size=8, bases=(0,)))
        for row in rows[name]:
            for column in ("tags", "labels"):
                if column in row:
                    optional = one.schema[column].optional
                    items = few | st.none() if one.schema[column].item.optional else few
                    lists = st.lists(items, max_size=3)
                    row[column] = draw(lists | st.none() if optional else lists)
            row["n"] = draw(few)
            if "person" in row:
                row["person"] = draw(st.sampled_from((1, 2)))
            if "id" in row:
                row["id"] = str(draw(few)) if name == "named" else draw(few)
            if "op" in row:
                row["op"] = draw(st.sampled_from(("upsert", "upsert", "delete")))
            if draw(st.booleans()):
                row["__ts"] = 0
            if "arrived" in row:
                row["arrived"] = instant(row["__created"])
    everything = [row for found in rows.values() for row in found]
    at = awkward.instants(everything, awkward.windows(*views))
    ts = sorted(draw(st.lists(at, min_size=1, max_size=3, unique=True)))
    keys = {name for v in views for name in v.join_keys}
    who = draw(st.lists(st.fixed_dictionaries({k: few | st.none() for k in sorted(keys)}),
                        min_size=1, max_size=2))  # fmt: skip
    questions = [Question(dict(row), t) for t in ts for row in who]
    return rows, questions, random.Random(draw(st.integers(0, 2**32)))


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.mark.parametrize(
    "name", slow_unless(lambda name: name not in ("numbered", "versions of a person"), SERVICES)
)
def test_elements_are_events_on_every_path_as_the_oracle_says(con: Any, name: str) -> None:
    service = SERVICES[name]

    @settings(max_examples=max(10, EXAMPLES // 7), deadline=None)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "offline", expected, paths.offline(questions))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "pushed", expected, paths.by_pushes_in_order(questions))
        if "id" not in {c for found in rows.values() for row in found for c in row}:
            agree(paths, questions, "in turns", expected, in_turns(paths, questions, shuffler))
        paths.close()

    check()
