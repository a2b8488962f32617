"""T7: copies of an event count once, corrections and deletions take effect as of their arrival."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import awkward
import duckdb
import oracle
import pytest
from agreeing import (
    EXAMPLES,
    NAMED,
    ONE,
    PAIR,
    agree,
    cases,
    in_turns,
    late,
    ratio,
    source,
    view,
    worlds,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, Question, connect, service_of
from slow import slow_unless

from featurekit.aggregates import Count, CountDistinct, Last, LastN, Max, Mean, Sum
from featurekit.core.status import NEVER
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import FeatureService, FeatureView
from featurekit.errors import DefinitionError, OnlineError
from featurekit.feed.materialise import materialize_view
from featurekit.feed.settle import open_claim
from featurekit.language.wire import canonical
from featurekit.offline.events import EventRows
from featurekit.online.state.ids import Ids
from featurekit.online.state.state import State
from featurekit.online.store.memory import MemoryStore

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

framed = {
    "before": Sum("amount", window="1d", exclude="instant"),
    "hourly": Sum("qty", window="7h", hop="1h", ends="hop"),
    "yesterday": Mean("amount", calendar="day", timezone="America/Sao_Paulo"),
    "today": Count(calendar="day", timezone="Asia/Tokyo", running=True),
    "last_rows": LastN("qty", n=3, window="8d", rows=2),
    "some_rows": Sum("qty", window="1d", rows=1, where="flag"),
    "session": Sum("amount", window="1d", session="1h"),
}
ever = framed | {"rows": Sum("qty", rows=2), "good_rows": LastN("name", n=2, rows=3, where="flag")}
SERVICES = {
    "copies in framed windows": service_of(view("v", ONE, copied, framed)),
    "copies soon forgotten in frames of rows": service_of(view("v", PAIR, briefly, ever)),
    "corrections in framed windows": service_of(view("v", ONE, corrected, framed)),
    "corrections soon forgotten in frames of rows": service_of(view("v", ONE, hourly, ever)),
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
# Copies and corrections, each in windows and as the latest row, remembered for long or shortly.
VARIED = (
    "copies in windows",
    "copies soon forgotten, latest row",
    "copies of numbered events",
    "corrections in ordered windows",
    "corrections soon forgotten",
    "corrections, latest row",
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@st.composite
def id_cases(draw: st.DrawFn, service: FeatureService, **options: Any) -> Any:
    """`cases` in which ids repeat, with other values, keys, instants and arrivals or with the same,
    and ops are mostly upserts. Half of them lie densely around the ends of the ids' memories."""
    rows, questions, shuffler = draw(cases(service, **options))
    most = draw(st.integers(0, 5))
    dense = draw(st.booleans())
    view = service.features[0]
    half = oracle._memory(view) // 2
    base = questions[0].t
    near = st.integers(-8, 0).flatmap(
        lambda n: st.sampled_from([base + n * half + d for d in (-1, 0, 0, 1)])
    )
    before = st.sampled_from([0, 0, 1, half, 2 * half, 2 * half + 1, -half])
    for found in rows.values():
        for one in found:
            one["id"] = draw(st.integers(0, most))
            if dense:
                one["__created"] = draw(near)
                one["__ts"] = one["__created"]
                if view.source.created_timestamp_column is not None:
                    one["__ts"] -= draw(before)
            if "op" in one:
                one["op"] = draw(st.sampled_from(["upsert", "upsert", "delete"]))
    if dense:
        asked = [Question(q.row, base - draw(st.integers(0, 4)) * half) for q in questions]
        questions = sorted(asked, key=lambda question: question.t)
    return rows, questions, shuffler


@pytest.mark.thorough
@every
def test_offline_is_what_the_oracle_says(con, name):
    service = SERVICES[name]

    @settings(max_examples=EXAMPLES // 20)
    @given(worlds(service, case=id_cases, instants=6, keys=3))
    def check(case):
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        agree(paths, questions, "offline", paths.oracle(questions), paths.offline(questions))
        paths.close()

    check()


# --- online ---------------------------------------------------------------------------------------


def states(store: MemoryStore) -> dict[bytes, bytes]:
    return {k: v for k, v in store.values.items() if k.startswith(b"fk:tests:state:")}


def pushed(
    paths: Paths, rows: list[dict[str, Any]], cuts: list[int], shuffler: random.Random
) -> MemoryStore:
    """A store with `rows` of the only source, pushed in parts and in any order; where that order
    is refused since ids were forgotten meanwhile, in the order of arrival."""
    source = next(iter(paths.rows))
    mixed = shuffler.sample(rows, len(rows))
    for order in (mixed, sorted(mixed, key=lambda row: row["__created"])):
        store = MemoryStore()
        edges = [0, *sorted(min(c, len(order)) for c in cuts), len(order)]
        try:
            for low, high in itertools.pairwise(edges):
                paths.push(store, order[low:high], source)
        except OnlineError:
            continue
        return store
    raise AssertionError("rows in the order of their arrival were refused")


def up_to(paths: Paths, t: int) -> list[dict[str, Any]]:
    return [row for rows in paths.rows.values() for row in rows if row["__created"] <= t]


ONE_SOURCE = [name for name in SERVICES if name != "two views and two memories"]
of_one_source = pytest.mark.parametrize(
    "name", slow_unless(lambda name: name in VARIED, ONE_SOURCE)
)


@pytest.mark.thorough
@of_one_source
def test_online_is_what_the_oracle_says_however_states_were_filled(con, name):
    service = SERVICES[name]

    @settings(max_examples=EXAMPLES // 15)
    @given(id_cases(service, instants=3, keys=3))
    def check(case):
        rows, questions, shuffler = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        for question, wanted in zip(questions, expected, strict=True):
            known = up_to(paths, question.t)
            twice = known + shuffler.sample(known, len(known) // 2)
            store = pushed(paths, twice, [shuffler.randint(0, 30)], shuffler)
            agree(paths, [question], "pushed", [wanted], paths.online([question], store))
        agree(paths, questions, "filled", expected, paths.by_materialising(questions))
        agree(paths, questions, "in turns", expected, turns(paths, questions, shuffler))
        paths.close()

    check()


def turns(paths: Paths, questions: list[Question], shuffler: random.Random) -> Any:
    """`in_turns`, or what a materialisation makes of it where pushes out of order are refused."""
    try:
        return in_turns(paths, questions, shuffler)
    except OnlineError:
        return paths.by_materialising(questions)


@pytest.mark.thorough
@of_one_source
def test_any_order_and_grouping_and_repetition_of_pushes_gives_the_same_bytes(con, name):
    @settings(max_examples=EXAMPLES // 10)
    @given(id_cases(SERVICES[name]), st.lists(st.integers(0, 40), max_size=5))
    def check(case, cuts):
        rows, _, shuffler = case
        paths = Paths(con, SERVICES[name], rows)
        events = next(iter(rows.values()))
        once = pushed(paths, sorted(events, key=lambda row: row["__created"]), [], shuffler)
        again = events + shuffler.sample(events, len(events) // 2)
        assert pushed(paths, again, cuts, shuffler).values == once.values
        paths.close()

    check()


@pytest.mark.thorough
@of_one_source
def test_a_backfill_gives_the_bytes_of_the_pushes_and_goes_on_from_them(con, name):
    @settings(max_examples=EXAMPLES // 10)
    @given(id_cases(SERVICES[name]), st.data())
    def check(case, data):
        rows, questions, shuffler = case
        paths = Paths(con, SERVICES[name], rows)
        source, t = next(iter(rows)), questions[-1].t
        arrivals = sorted({row["__created"] for row in rows[source]} | {t})
        middle = data.draw(st.sampled_from(arrivals))
        until = max(t, middle)
        wanted = pushed(paths, up_to(paths, until), [], shuffler)
        arrived = [row for row in up_to(paths, until) if row["__created"] > middle]
        arrived.sort(key=lambda row: row["__created"])
        store, memory = MemoryStore(), oracle._memory(SERVICES[name].features[0])
        early = data.draw(st.booleans())
        if early:  # pushes of which the backfill does not know yet
            paths.push(store, arrived, source)
            if arrived and arrived[-1]["__created"] - memory > middle:
                with contextlib.suppress(OnlineError):  # where an entity is in both
                    paths.materialise(store, until=middle)
                paths.close()
                return
        paths.materialise(store, until=middle)
        paths.materialise(store, until=middle)
        if not early:
            paths.push(store, arrived, source)
        assert states(store) == states(wanted)
        paths.materialise(store, after=middle, until=until)
        paths.materialise(store, after=middle, until=until)
        assert states(store) == states(wanted)
        paths.materialise(store, until=until)
        assert states(store) == states(wanted)
        paths.close()

    check()


@pytest.mark.thorough
@of_one_source
def test_backfills_and_pushes_in_turns_give_the_bytes_of_the_pushes(con, name):
    @settings(max_examples=EXAMPLES // 10)
    @given(id_cases(SERVICES[name]), st.data())
    def check(case, data):
        rows, _, shuffler = case
        paths = Paths(con, SERVICES[name], rows)
        source = next(iter(rows))
        arrivals = sorted({row["__created"] for row in rows[source]} | {0})
        wanted = pushed(paths, rows[source], [], shuffler)
        store, known = MemoryStore(), NEVER
        for until in sorted({*data.draw(st.sets(st.sampled_from(arrivals))), arrivals[-1]}):
            how = data.draw(st.sampled_from(["push", "materialise", "both", "whole"]))
            if how in ("push", "both"):
                arrived = [r for r in rows[source] if known < r["__created"] <= until]
                paths.push(store, sorted(arrived, key=lambda r: r["__created"]), source)
            if how in ("materialise", "both"):
                paths.materialise(store, after=known, until=until)
            if how == "whole":
                paths.materialise(store, until=until)
            known = until
        assert states(store) == states(wanted)
        paths.close()

    check()


# --- what a view remembers ------------------------------------------------------------------------


def remembered(made: FeatureView) -> int | None:
    return compile_view(made).dedupe_us


def test_ids_are_remembered_as_far_as_the_view_s_own_windows_or_ttl_reach():
    reach = {"n": Count(window="1d", offset="1h"), "s": Sum("amount", window="1d", hop="7h")}
    assert remembered(view("v", ONE, copied, reach)) == D + 7 * H
    assert remembered(view("v", ONE, copied, {"n": Count(window="1d", offset="9h")})) == D + 9 * H
    assert remembered(view("v", ONE, copied, row, ttl="2h")) == 2 * H
    assert remembered(view("v", ONE, briefly, reach)) == H
    assert remembered(view("v", ONE, late, reach)) is None


def test_a_latest_row_without_a_ttl_must_say_how_long_ids_are_remembered():
    with pytest.raises(DefinitionError, match=r"'v'.*'copied'.*dedupe_within=\"30d\""):
        compile_view(view("v", ONE, copied, row))


def test_what_an_id_is_and_how_long_it_is_remembered_stands_in_the_fingerprints():
    plain = source("s", SCHEMA, created_timestamp_column="arrived")
    made = [
        compile_view(view("v", ONE, of, {"n": Count(window="1d")}))
        for of in (
            plain,
            replace(plain, event_id="id"),
            replace(plain, event_id="id", dedupe_within="1d"),
            replace(plain, event_id="id", dedupe_within="2d"),
            replace(plain, event_id="id", op="op"),
        )
    ]
    prints = [v.fingerprint for v in made]
    assert prints[1] == prints[2]  # the default, written out
    assert len(set(prints)) == len({v.features[0].fingerprint for v in made}) == 4
    assert {"event_id", "dedupe_us"}.isdisjoint(canonical(made[0]).split('"'))


def test_a_source_without_ids_has_the_fingerprint_that_it_had():
    plain = source("s", {"key": int, "amount": float}, created_timestamp_column="arrived")
    made = compile_view(view("v", ONE, plain, {"n": Count(window="1d")}))
    assert made.fingerprint == "cb70edf3e22d354f142893a08a3c3b65"


def test_a_backfill_of_some_entities_keeps_the_ends_that_were_pushed_since(con):
    service = SERVICES["corrections in windows"]
    old = {"id": 1, "key": 1, "key2": "", "amount": 1.0, "qty": 1, "flag": None, "name": None,
           "op": "upsert", "__ts": 0, "__created": 0}  # fmt: skip
    moved = old | {"key": 2, "__created": 10}
    paths = Paths(con, service, {"corrected": [old, moved]})
    wanted, store = MemoryStore(), MemoryStore()
    for each in (wanted, store):
        paths.push(each, [old, moved], "corrected")
    compiled = paths.service.views[0]
    events = EventRows(f"(SELECT * FROM {paths.events['v'].relation} WHERE __created < 5)", False)
    materialize_view(con, store, "tests", compiled, events, until=5, only=[(1,)])
    assert states(store) == states(wanted)
    paths.close()


def test_a_backfill_of_what_pushes_were_wrongly_held_against_is_refused(con):
    service = SERVICES["copies soon forgotten"]
    old = {"id": 1, "key": 1, "key2": "", "amount": 1.0, "qty": 1, "flag": None, "name": None,
           "__ts": 0, "__created": 0}  # fmt: skip
    pushes = [old | {"id": n, "__ts": 1 + n * H, "__created": 1 + n * H} for n in (1, 2, 3)]
    paths, store = Paths(con, service, {"briefly": [old, *pushes]}), MemoryStore()
    paths.push(store, pushes, "briefly")
    before = states(store)
    with pytest.raises(OnlineError, match="materialise up to a later instant"):
        paths.materialise(store, until=0)
    assert states(store) == before
    paths.materialise(store, until=pushes[-1]["__created"])
    paths.close()


def test_an_event_is_settled_from_the_microsecond_on_at_which_its_id_is_forgotten():
    compiled = compile_view(SERVICES["copies soon forgotten"].features[0])
    state = State(compiled)
    state.newest_arrival = 10 * H
    assert not state.settled((0, 9 * H, ()))
    assert state.settled((0, 9 * H - 1, ()))


def test_what_a_row_at_the_floor_is_a_copy_of_is_remembered_up_to_the_microsecond():
    ids = Ids(compile_view(SERVICES["copies soon forgotten"].features[0]))
    named = {"id": 1, "key": 1, "key2": "", "amount": 1.0, "qty": 1, "flag": None, "name": None}
    floor = 9 * H
    for first, copy in ((floor - H, True), (floor - H - 1, False)):
        old, new = ({**named, "__ts": 0, "__created": at} for at in (first, floor))
        kept = ids.kept([old], floor)
        assert kept == ([old] if copy else [])
        counting = ids.counting(ids.merged(kept, [new]))
        assert [row for row, _ in counting] == [old if copy else new]
        assert ids.counting([old, new])[-1:] == counting


@pytest.mark.parametrize(("again", "arrival"), [(D, 0), (D + 1, D + 1), (3 * D, 3 * D)])
def test_a_row_is_a_repetition_for_as_long_as_every_view_remembers_it(again, arrival):
    week, day = (
        compile_view(view("v", ONE, copied, {"n": Count(window=length)})) for length in ("7d", "1d")
    )
    named = {"id": 1, "key": 1, "key2": "", "amount": 1.0, "qty": 1, "flag": None, "name": None}
    for views in ([week, day], [day, week]):
        store = MemoryStore()
        for now, wanted in ((0, 0), (again, arrival)):
            row = {**named, "__ts": 0, "__created": now}
            stamps, rows = open_claim(store, "tests", views, [row], now).result()
            assert (stamps, [r["__created"] for r in rows]) == ([wanted], [wanted])
