"""T11: what a view over several sources says, held to the oracle on every path.

Sources call the same things by other names, differ in zones and in what they have beside, and share
ids, keys and instants, so that ties and equal ids across sources are the rule.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import agree, in_turns
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, in_small_blocks, service_of
from slow import slow_unless

from featurekit import Entity, EventSource, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, First, FirstN, Last, LastN, Max, Sum
from featurekit.core.types import instant
from featurekit.define.definitions import FeatureService

EXAMPLES = settings().max_examples
PERSON = Entity("person", {"person": int})
ARRIVES = {"timestamp_field": "at", "created_timestamp_column": "arrived"}


def source(name: str, schema: dict[str, Any], **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, **ARRIVES | options)


@feature
def ratio(amount: float, qty: int) -> float:
    return amount / qty


@feature
def few(qty: int) -> bool:
    return qty < 2


web = source("web", {"person": int | None, "amount": float, "qty": int, "note": str | None})
app = source(
    "app",
    {"price": float, "user": int | None, "n": int, "qty": int, "screen": bool | None},
    sequence="n",
)
till = source("till", {"qty": int, "place": int, "person": int | None, "total": float})
SALES = [{till: {"amount": "total"}}, {app: {"amount": "price", "person": "user"}}, web]
WINDOWS = {
    "sum": Sum("amount", window="1d"),
    "rows": Count(window="1h", where=few),
    "ratio": Max(ratio, window="7d"),
    "first": First("amount", window="1d"),
    "last": Last("qty", window="7d"),
    "lasts": LastN("amount", n=5, window="7d"),
    "firsts": FirstN("qty", n=3, window="1d", where=few),
    "distinct": CountDistinct("amount", window="1d"),
}


def view(name: str, sources: Any, features: Any, **options: Any) -> FeatureView:
    return FeatureView(name, entities=[PERSON], sources=sources, features=features, **options)


plain_windows = service_of(view("windows", SALES, WINDOWS, history="1h"))
plain_latest = service_of(
    view("latest", SALES, {"amount": "amount", "qty": "qty", "ratio": ratio}, ttl="7d"),
    FeatureView("alone", entities=[PERSON], source=web, features={"note": "note"}),
)

# --- with ids, and with corrections ---------------------------------------------------------------

IDS = {"event_id": "id", "dedupe_within": "1d"}
named = source("named", {"id": int, "person": int, "amount": float, "x": bool}, **IDS)
called = source("called", {"person": int, "id": str, "price": float, "n": int}, **IDS, sequence="n")
changed = source(
    "changed", {"id": bytes, "op": str, "person": int, "amount": float}, **IDS, op="op"
)
edited = source(
    "edited",
    {"kind": str, "id": bytes, "who": int, "amount": float, "arrived": dt.datetime},
    **IDS,
    op="kind",
)
of_ids = {"sum": Sum("amount", window="7d"), "lasts": LastN("amount", n=4, window="7d")}
ids_windows = service_of(view("named_sums", [named, {called: {"amount": "price"}}], of_ids))
ids_latest = service_of(
    view("named_last", [{called: {"amount": "price"}}, named], {"amount": "amount"})
)
versions = service_of(
    view("versions", [changed, {edited: {"person": "who"}}], of_ids | {"rows": Count(window="1d")}),
    view("version", [{edited: {"person": "who"}}, changed], {"amount": "amount"}, ttl="7d"),
)
POOLS = {"id": [1, 2], "op": ["upsert", "upsert", "delete"], "kind": ["upsert", "delete"]}


@st.composite
def cases(draw: st.DrawFn, service: FeatureService) -> tuple[Any, list[Question], random.Random]:
    """Events of every source, questions about few people at few instants, and a shuffler."""
    views = [v for v in service.features if isinstance(v, FeatureView)]
    sources = {s.name: s for v in views for s in v.event_sources}
    keys = {"person", "user", "who"}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, one in sources.items():
        of_keys = tuple(k for k in one.schema if k in keys)
        rows[name] = draw(awkward.source_events(one, keys=of_keys, max_size=8, bases=(0,)))
        for row in rows[name]:
            for key in of_keys:  # few people, whom the sources share
                row[key] = None if row[key] is None else draw(st.sampled_from((1, 2)))
            for column in ("op", "kind"):
                if column in row:
                    row[column] = draw(st.sampled_from(POOLS[column]))
            if "id" in row:
                kind = one.schema["id"].name
                number = draw(st.sampled_from((1, 2)))
                row["id"] = {"int": number, "str": str(number), "bytes": b"\xff%d" % number}[kind]
            if draw(st.booleans()):  # ties over sources: at one instant, with one amount
                row["__ts"] = 0
            if draw(st.booleans()):
                row |= {n: 1.0 for n in ("amount", "price", "total") if n in row}
                row |= {n: 1 for n in ("qty", "n") if n in row}
            if "arrived" in row:
                row["arrived"] = instant(row["__created"])
    everything = [row for found in rows.values() for row in found]
    at = awkward.instants(everything, awkward.windows(*views))
    ts = sorted(draw(st.lists(at, min_size=1, max_size=3, unique=True)))
    who = draw(st.lists(st.sampled_from((1, 2, 3, None)), min_size=1, max_size=2))
    questions = [Question({"person": person}, t) for t in ts for person in who]
    return rows, questions, random.Random(draw(st.integers(0, 2**32)))


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


SERVICES = {
    "windows": plain_windows,
    "latest rows": plain_latest,
    "windows over ids": ids_windows,
    "latest rows of ids": ids_latest,
    "versions": versions,
}


@pytest.mark.parametrize(
    "name",
    slow_unless(lambda name: name not in ("latest rows of ids", "windows over ids"), SERVICES),
)
def test_a_union_is_what_the_oracle_says_on_both_paths(con: Any, name: str) -> None:
    service = SERVICES[name]

    @settings(max_examples=max(10, EXAMPLES // 6), deadline=None)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "offline", expected, paths.offline(questions))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "pushed", expected, paths.by_pushes_in_order(questions))
        if service in (plain_windows, plain_latest):
            shuffled = paths.by_pushes(questions, shuffler)
            agree(paths, questions, "pushed in any order", expected, shuffled)
            agree(paths, questions, "in turns", expected, in_turns(paths, questions, shuffler))
        paths.close()

    check()


# Each source declares its columns in an order of its own, so that the union's is another one.
PERSON_FIRST = {"person": int, "id": int, "amount": float}
AMOUNT_FIRST = {"amount": float, "note": str, "n": int, "op": str, "person": int, "id": int}
OP_FIRST = {"op": str, "person": int, "amount": float, "id": int}
ID_LAST = {"kind": str, "amount": float, "n": int, "person": int, "id": int}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (source("one", PERSON_FIRST, **IDS), source("other", AMOUNT_FIRST, **IDS, sequence="n")),
        (source("one", AMOUNT_FIRST, **IDS), source("other", PERSON_FIRST, **IDS)),
        (
            source("one", OP_FIRST, **IDS, op="op"),
            source("other", ID_LAST, **IDS, op="kind", sequence="n"),
        ),
        (source("one", ID_LAST, **IDS, op="kind"), source("other", AMOUNT_FIRST, **IDS, op="op")),
    ],
    ids=["copies", "copies, exchanged", "versions", "versions, exchanged"],
)
def test_rows_of_an_id_that_arrive_together_have_the_order_of_their_own_source(
    con: Any, one: EventSource, other: EventSource
) -> None:
    """T6, T7, T11: which of an id's rows counts is the same with a union and without it."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for of in (one, other):
        kinds = {"op": ("upsert", "delete"), "kind": ("upsert", "delete"), "note": ("a", "b")}
        free = [
            [(name, value) for value in kinds.get(name, (1, 2))]
            for name in of.schema
            if name != "id"
        ]
        made = [dict(values) for values in itertools.product(*free)]
        rows[of.name] = []
        for number, pair in enumerate(itertools.combinations(made, 2)):
            for row in pair:
                row = row | {"id": number, "amount": float(row["amount"])}
                rows[of.name].append(row | {"__ts": 0, "__created": 0})
    count = {"rows": Count(window="1d"), "sum": Sum("amount", window="1d")}
    single = [
        FeatureView(f"of_{of.name}", entities=[PERSON], source=of, features=count)
        for of in (one, other)
    ]
    paths = Paths(con, service_of(view("both", [one, other], count), *single), rows)
    questions = [Question({"person": person}, 0) for person in (1, 2)]
    expected = paths.oracle(questions)
    for (both, _), _, (mine, _), _, (its, _), _ in expected:
        assert both == mine + its
        assert mine > 0 < its
    agree(paths, questions, "offline", expected, paths.offline(questions))
    agree(paths, questions, "filled", expected, paths.by_materialising(questions))
    agree(paths, questions, "pushed", expected, paths.by_pushes_in_order(questions))
    paths.close()


@pytest.mark.slow
def test_a_union_in_blocks_is_what_the_oracle_says(
    con: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_blocks(monkeypatch)

    @settings(max_examples=max(8, EXAMPLES // 8), deadline=None)
    @given(cases(plain_windows))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, plain_windows, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "in turns", expected, in_turns(paths, questions, shuffler))
        paths.close()

    check()
