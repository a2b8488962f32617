"""A view of the latest row among those that pass its `where`, held to the oracle on every path."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import agree, in_turns
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of

from featurekit import Entity, EventSource, FeatureView, feature
from featurekit.aggregates import Count
from featurekit.core.types import instant
from featurekit.define import explode
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import FeatureService
from featurekit.define.published import plan_bytes, read_plan
from featurekit.errors import DefinitionError
from featurekit.offline import counted_events

EXAMPLES = settings().max_examples
PERSON = Entity("person", {"person": int})
TAG = Entity("tag", {"tags": int})
ARRIVES = {"timestamp_field": "at", "created_timestamp_column": "arrived"}
IDS = {"event_id": "id", "dedupe_within": "1d"}


def source(name: str, schema: dict[str, Any], **options: Any) -> EventSource:
    return EventSource(name, path=f"{name}.parquet", schema=schema, **ARRIVES | options)


@feature
def is_paid(word: str | None, n: int) -> bool | None:
    if word is None:
        return None
    return word.lower() == "paid" or n == 3


@feature
def is_odd(tags: int, n: int) -> bool:
    return (tags == 1 or tags == 3) and n != 2


@feature
def inverse(n: int) -> float:
    return 1 / (n - 2)


plain = source(
    "plain", {"person": int | None, "word": str | None, "n": int, "x": float | None, "ok": bool}
)
prompt = EventSource(
    "prompt", path="p.parquet", timestamp_field="at",
    schema={"person": int, "word": str | None, "n": int, "ok": bool | None},
)  # fmt: skip
heard = source("heard", {"person": int, "word": str, "ok": bool})
named = source("named", {"id": str, "person": int, "n": int, "ok": bool}, **IDS)
changed = source(
    "changed", {"id": int, "op": str, "person": int, "n": int, "ok": bool | None}, **IDS, op="op"
)
baskets = source("baskets", {"person": int, "tags": list[int], "n": int})
other = source("other", {"person": int | None, "number": int, "ok": bool})


def view(name: str, of: Any, features: Any, where: Any, **options: Any) -> FeatureView:
    how = {"sources": of} if isinstance(of, list) else {"source": of}
    entities = options.pop("entities", [PERSON])
    return FeatureView(name, entities=entities, features=features, where=where, **how, **options)


SERVICES = {
    "late events": service_of(
        view("late", plain, {"n": "n", "x": "x", "inverse": inverse}, "ok", ttl="1d"),
        view("paid", plain, {"word": "word", "m": "n"}, is_paid, history="1h"),
    ),
    "prompt events": service_of(
        view("prompt", prompt, {"n": "n"}, "ok"),
        view("prompt_paid", prompt, {"word": "word"}, is_paid, ttl="7d"),
    ),
    "ids": service_of(view("ids", named, {"n": "n", "id": "id"}, "ok", ttl="7d")),
    "versions": service_of(view("versions", changed, {"n": "n"}, "ok", ttl="7d")),
    "versions and a history": service_of(
        view("past", changed, {"n": "n", "ok": "ok"}, "ok", history="1h")
    ),
    "elements": service_of(
        view("elements", baskets, {"n": "n"}, is_odd, explode="tags", entities=[TAG])
    ),
    "a union": service_of(view("union", [plain, {other: {"n": "number"}}], {"n": "n"}, "ok")),
}


@st.composite
def cases(draw: st.DrawFn, service: FeatureService) -> tuple[Any, list[Question], random.Random]:
    views = [getattr(v, "view", v) for v in service.features]
    sources = {s.name: s for v in views for s in v.event_sources}
    few, truth = st.sampled_from((1, 2, 3)), st.booleans()
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, one in sources.items():
        rows[name] = draw(awkward.source_events(one, max_size=8, bases=(0,)))
        for row in rows[name]:
            drawn = {
                "n": few, "number": few, "id": st.just(str(draw(few)) if name == "named" else
                draw(few)), "person": st.sampled_from((1, 2)), "tags": st.lists(few, max_size=3),
                "ok": truth | st.none() if one.schema.get("ok") and one.schema["ok"].optional
                else truth, "word": st.sampled_from(("paid", "PAID", "\u0130", "open", None)),
                "op": st.sampled_from(("upsert", "upsert", "upsert", "delete")),
            }  # fmt: skip
            row |= {column: draw(how) for column, how in drawn.items() if column in row}
            if draw(st.booleans()):
                row["__ts"] = 0
                row["__created"] = row["__created"] if "arrived" in row else 0
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


@pytest.mark.parametrize("name", SERVICES)
def test_rows_that_pass_are_on_every_path_as_the_oracle_says(con: Any, name: str) -> None:
    service = SERVICES[name]

    @settings(max_examples=max(10, EXAMPLES // 5), deadline=None)
    @given(cases(service))
    def check(case: Any) -> None:
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        agree(paths, questions, "offline", expected, paths.offline(questions))
        agree(paths, questions, "in buckets", expected, paths.offline(questions, buckets=3))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "pushed", expected, paths.by_pushes_in_order(questions))
        if "id" not in {c for found in rows.values() for row in found for c in row}:
            agree(paths, questions, "in turns", expected, in_turns(paths, questions, shuffler))
        paths.close()

    check()


# --- by hand --------------------------------------------------------------------------------------


def told(con: Any, name: str, rows: list[dict[str, Any]], t: int) -> dict[str, Any]:
    """What each path says of person 1 as of `t`, of the first feature of a service."""
    service = SERVICES[name]
    views = [getattr(v, "view", v) for v in service.features]
    own = views[0].event_sources[0].name
    empty = {s.name: [] for v in views for s in v.event_sources}
    paths = Paths(con, service, empty | {own: rows})
    questions = [Question({"person": 1}, t)]
    found = {
        "oracle": paths.oracle(questions),
        "offline": paths.offline(questions),
        "filled": paths.by_materialising(questions),
        "pushed": paths.by_pushes_in_order(questions),
    }
    paths.close()
    return {path: rows[0][0] for path, rows in found.items()}


def version(id_: int, n: int, ok: bool | None, at: int, **more: Any) -> dict[str, Any]:
    return {"id": id_, "op": "upsert", "person": 1, "n": n, "ok": ok, "arrived": instant(at),
            "__ts": at, "__created": at, **more}  # fmt: skip


ALL = ("oracle", "offline", "filled", "pushed")


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        # The latest row that passes, and not the latest row.
        ([version(1, 1, True, 0), version(2, 2, False, 5)], (1, "PRESENT")),
        ([version(1, 1, True, 0), version(2, 2, None, 5)], (1, "PRESENT")),
        # A version that does not pass takes the row away, and one that passes brings it.
        ([version(1, 1, True, 0), version(1, 2, False, 5)], (None, "NOT_FOUND")),
        ([version(1, 1, False, 0), version(1, 2, True, 5)], (2, "PRESENT")),
        ([version(2, 7, True, 0), version(1, 1, True, 1), version(1, 2, False, 5)],
         (7, "PRESENT")),
        # None passes.
        ([version(1, 1, False, 0)], (None, "NOT_FOUND")),
    ],
)  # fmt: skip
def test_a_version_that_does_not_pass_is_no_row(con: Any, rows: Any, value: Any) -> None:
    assert told(con, "versions", rows, 10) == dict.fromkeys(ALL, value)


def test_the_first_copy_of_an_id_counts_whether_it_passes_or_not(con: Any) -> None:
    rows = [version(1, 1, False, 0), version(1, 2, True, 5)]
    rows = [{k: v for k, v in row.items() if k != "op"} | {"id": "a"} for row in rows]
    assert told(con, "ids", rows, 10) == dict.fromkeys(ALL, (None, "NOT_FOUND"))


def plant_sql(patch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    made = counted_events.make_events
    patch.setattr(counted_events, "make_events", lambda *of: change(made(*of)))


PLANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "None passes offline": lambda patch: plant_sql(
        patch, lambda sql: sql.replace(", FALSE))", ", TRUE))")
    ),
    "all pass in pushes": lambda patch: patch.setattr(
        explode, "passing", lambda view: lambda row: True
    ),
    "None passes in pushes": lambda patch: patch.setattr(
        explode, "passing", lambda view: lambda row: row["ok"] is not False
    ),
    "all pass offline": lambda patch: plant_sql(
        patch, lambda sql: sql.replace("WHERE coalesce", "WHERE TRUE OR coalesce")
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_skew_shows(con: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [version(1, 1, True, 0), version(2, 2, None, 5), version(3, 3, False, 6)]
    PLANTS[name](monkeypatch)
    found = told(con, "versions", rows, 10)
    assert found["oracle"] == (1, "PRESENT")
    assert len({value for value, _ in found.values()}) == 2


# --- definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: view("v", plain, {"n": "n"}, 1), "column's name or a @feature, found 1"),
        (lambda: view("v", plain, {"n": "n"}, "n"), "where is int, not bool"),
        (lambda: view("v", plain, {"n": "n"}, "okay"), "no column 'okay'"),
        (lambda: view("v", plain, {"n": Count(window="1d")}, "ok"), "write where= at each of them"),
        (lambda: view("v", plain, {"n": "n"}, bad), "@feature bad may be an error for some rows"),
        (
            lambda: view("v", view("w", plain, {"n": "n"}, "ok"), {"n": "n"}, None),
            "its source is view 'w', which has where=",
        ),
        (
            lambda: view(
                "v", plain.join(view("w", heard, {"word": "word"}, "ok"), on="person",
                                take={"word": "other"}), {"n": "n"}, None
            ),
            "is of a view with where=",
        ),
    ],
)  # fmt: skip
def test_a_wrong_condition_says_what_to_write(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        compile_view(make())


@feature
def bad(n: int) -> bool:
    return 10 // n > 2


def test_a_condition_is_part_of_the_fingerprints_and_of_the_plan() -> None:
    one, other_, none = (
        compile_view(view("v", plain, {"n": "n"}, where)) for where in ("ok", is_paid, None)
    )
    assert len({v.fingerprint for v in (one, other_, none)}) == 3
    assert len({v.features[0].fingerprint for v in (one, other_, none)}) == 3
    assert none.where is None
    for name in SERVICES:
        plan = compile_service(SERVICES[name])
        assert read_plan(plan_bytes(plan)) == plan
