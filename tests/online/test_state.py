"""A state is a function of the set of its events: the same bytes, however it came about."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import struct
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import awkward
import duckdb
import pytest
from agreeing import EXAMPLES, ONE, PAIR, SERVICES, cases, late, ratio, source, view
from awkward import DAY
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import Paths, connect, in_small_blocks, service_of
from slow import slow_unless

from featurekit.aggregates import Count, Last, Sum
from featurekit.core.keys import entity_key, state_prefix
from featurekit.core.status import NEVER, NOT_FOUND, NULL_VALUE, PRESENT
from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, INT, STR, Type, from_hint, list_of
from featurekit.core.values import ERROR
from featurekit.define.compile_view import compile_view
from featurekit.define.plan import View
from featurekit.errors import AsOfTooOld, OnlineError
from featurekit.feed.events import ViewWriter
from featurekit.online.lookup.answer import answer
from featurekit.online.state import codec, state
from featurekit.online.state.blocks import open_state
from featurekit.online.state.codec import decode_column, encode_column, skip_column
from featurekit.online.state.rewrite import written
from featurekit.online.state.seal import opened_state
from featurekit.online.state.state import Event, Reader, State
from featurekit.online.store.memory import MemoryStore


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


# --- one set of events, one state -----------------------------------------------------------------

KINDS = [
    "sums of late events",
    "extremes of numbered events",
    "sums of prompt events",
    "aggregates that keep no order",
    "other types",
    "latest of late events",
    "latest of numbered events",
    "latest of prompt events",
    "latest of other types",
]
HISTORIES = {
    "windows with history": service_of(
        view("w", PAIR, late, {"n": Count(window="1h"), "l": Last("qty", window="1d", hop="7h")},
             history="1d")
    ),
    "latest with history": service_of(
        view("l", ONE, late, {"amount": "amount", "ratio": ratio}, ttl="1h", history="1d")
    ),
}  # fmt: skip
ALL = {name: SERVICES[name] for name in KINDS} | HISTORIES
# Of windows also with states that lie in blocks, whose parts are written as whole states are.
of_every_kind = pytest.mark.parametrize(
    ("name", "layout"),
    slow_unless(
        lambda name, layout: (
            layout == "in blocks"
            or "latest" in name
            or name in ("sums of late events", "windows with history")
        ),
        [(n, "whole") for n in ALL] + [(n, "in blocks") for n in ALL if "latest" not in n],
    ),
    indirect=["layout"],
)


@pytest.fixture
def layout(request, monkeypatch):
    """How states lie in the store."""
    if request.param == "in blocks":
        in_small_blocks(monkeypatch)


@pytest.mark.thorough
@of_every_kind
def test_any_order_and_grouping_of_pushes_gives_the_same_bytes(con, name, layout):
    @settings(max_examples=EXAMPLES // 10)
    @given(cases(ALL[name]), st.lists(st.integers(0, 30), max_size=5))
    def check(case, cuts):
        rows, _, shuffler = case
        paths = Paths(con, ALL[name], rows)
        (source, events), whole, parts = next(iter(rows.items())), MemoryStore(), MemoryStore()
        paths.push(whole, events, source)
        mixed = list(events)
        shuffler.shuffle(mixed)
        edges = [0, *sorted(min(c, len(mixed)) for c in cuts), len(mixed)]
        for low, high in itertools.pairwise(edges):
            paths.push(parts, mixed[low:high], source)
        assert parts.values == whole.values
        paths.close()

    check()


@pytest.mark.thorough
@of_every_kind
def test_a_backfill_gives_the_bytes_of_the_pushes(con, name, layout):
    @settings(max_examples=EXAMPLES // 12)
    @given(cases(ALL[name]))
    def check(case):
        rows, questions, _ = case
        paths = Paths(con, ALL[name], rows)
        for t in (questions[0].t, awkward.INSTANT_MAX):
            pushed, materialised = MemoryStore(), MemoryStore()
            paths.push_arrivals(pushed, NEVER, t)
            paths.materialise(materialised, until=t)
            assert materialised.values == pushed.values
        paths.close()

    check()


@pytest.mark.thorough
@of_every_kind
def test_backfills_and_pushes_may_overlap_repeat_and_come_in_parts(con, name, layout):
    @settings(max_examples=EXAMPLES // 25)
    @given(cases(ALL[name]), st.booleans())
    def check(case, early):
        rows, questions, shuffler = case
        paths = Paths(con, ALL[name], rows)
        t = questions[-1].t
        middle = shuffler.randint(t - 8 * DAY, t)
        wanted, store = MemoryStore(), MemoryStore()
        paths.push_arrivals(wanted, NEVER, t)
        if early:  # pushes that a backfill does not know yet, before and after it
            paths.push_arrivals(store, middle, t, shuffled=shuffler)
        paths.materialise(store, until=middle)
        paths.materialise(store, until=middle)
        if not early:
            paths.push_arrivals(store, middle, t, shuffled=shuffler)
        assert store.values == wanted.values
        paths.materialise(store, after=middle, until=t)
        paths.materialise(store, after=middle, until=t)
        assert store.values == wanted.values
        paths.materialise(store, until=t)
        assert store.values == wanted.values
        paths.close()

    check()


@pytest.mark.thorough
@of_every_kind
def test_bytes_read_back_are_written_again_the_same(con, name, layout):
    @settings(max_examples=EXAMPLES // 12)
    @given(cases(ALL[name]))
    def check(case):
        rows, _, _ = case
        paths = Paths(con, ALL[name], rows)
        store = MemoryStore()
        source, events = next(iter(rows.items()))
        paths.push(store, events, source)
        view, read = paths.service.views[0], store.read
        heads = [k for k in store.values if k.startswith(state_prefix("tests", view))]
        blobs = {k: opened_state(view, k, store.values[k]) for k in heads}
        again = [written(open_state(view, k, blobs[k], read), k, None) for k in heads]
        assert {**store.values, **blobs} == dict(ChainMap(*again))
        paths.close()

    check()


# --- pruning and the horizon ----------------------------------------------------------------------


def unpruned(compiled: View, events: list[Event]) -> Reader:
    """The state with every event, as if its windows had no end."""
    ordered = State(replace(compiled, kind="window", retain_us=2**62))
    ordered.add(events)
    ordered.view = compiled
    return Reader(compiled, ordered.encode())


@pytest.mark.parametrize("name", [n for n in ALL if n != "latest of other types"])
def test_what_is_let_go_counts_at_no_instant_from_the_horizon_on(name):
    definition = ALL[name].features[0]
    compiled = compile_view(definition)
    writer = ViewWriter("tests", compiled)

    @settings(max_examples=EXAMPLES // 10)
    @given(cases(ALL[name]))
    def check(case):
        rows, _, _ = case
        events = [writer.event(r) for r in rows[compiled.source.name] if writer.key(r)]
        if not events:
            return
        state = State(compiled)
        for event in events:
            state.add([event])
        read, everything = Reader(compiled, state.encode()), unpruned(compiled, events)
        at = awkward.edges(rows[compiled.source.name], awkward.windows(definition))
        for t in [t for t in at if t >= state.horizon][:30]:
            assert bits(answer(read, compiled, t)) == bits(answer(everything, compiled, t))

    check()


WINDOW = compile_view(
    view("window", ONE, late, {"n": Count(window="10s"), "sum": Sum("qty", window="10s")})
)
LATEST = compile_view(view("latest", ONE, late, {"qty": "qty"}, ttl="10s"))
S = 1_000_000


def event_of(compiled: View, ts: int, created: int | None = None, qty: int = 1) -> Event:
    row = {"key": 1, "key2": "", "amount": 0.0, "qty": qty, "flag": None, "name": None}
    times = {"__ts": ts, "__created": ts if created is None else created}
    return ViewWriter("tests", compiled).event(row | times)


def state_of(compiled: View, *events: Event) -> State:
    state = State(compiled)
    state.add(events)
    return state


def asked(state: State, t: int) -> Any:
    return answer(Reader(state.view, state.encode()), state.view, t)


@pytest.mark.parametrize("compiled", [WINDOW, LATEST])
def test_an_instant_before_the_newest_arrival_is_too_old(compiled):
    state = state_of(compiled, event_of(compiled, 0), event_of(compiled, 5))
    with pytest.raises(AsOfTooOld, match=r"from 1970-01-01T00:00:00\.000005.*history="):
        asked(state, 4)


@pytest.mark.parametrize("compiled", [WINDOW, LATEST])
def test_the_newest_arrival_itself_can_be_asked(compiled):
    state = state_of(compiled, event_of(compiled, 0), event_of(compiled, 5))
    assert asked(state, 5)[0][1] == PRESENT


def test_a_late_event_moves_the_horizon_to_its_arrival():
    state = state_of(WINDOW, event_of(WINDOW, 0, 7))
    assert state.horizon == 7


def test_history_moves_the_horizon_back():
    kept = replace(WINDOW, history_us=3)
    state = state_of(kept, event_of(kept, 0), event_of(kept, 5))
    assert asked(state, 2)[0] == (1, PRESENT)
    with pytest.raises(AsOfTooOld):
        asked(state, 1)


def test_history_keeps_the_events_of_the_windows_at_its_horizon():
    kept = replace(WINDOW, history_us=30 * S)
    state = state_of(kept, event_of(kept, 1), event_of(kept, 30 * S))
    assert asked(state, 10 * S)[0] == (1, PRESENT)


def test_without_history_an_event_that_left_every_window_is_let_go():
    state = state_of(WINDOW, event_of(WINDOW, 0), event_of(WINDOW, 10 * S))
    assert [e[0] for e in state.events] == [10 * S]


def test_an_event_one_microsecond_inside_the_window_is_kept():
    state = state_of(WINDOW, event_of(WINDOW, 1), event_of(WINDOW, 10 * S))
    assert [e[0] for e in state.events] == [1, 10 * S]


def test_the_latest_row_is_kept_however_old():
    state = state_of(LATEST, event_of(LATEST, 0), event_of(LATEST, -(10**15), 10**15))
    assert [e[0] for e in state.events] == [0]
    assert asked(state, 10**15) == [(None, "OUTSIDE_MAX_AGE")]


@pytest.mark.parametrize("compiled", [WINDOW, LATEST])
def test_an_event_that_lies_after_t_waits(compiled):
    state = state_of(compiled, event_of(compiled, 0, qty=1), event_of(compiled, 9, 0, qty=2))
    # The window counts two events from then on; the latest row holds quantity 2.
    assert [asked(state, t)[0] for t in (8, 9)] == [(1, PRESENT), (2, PRESENT)]


@pytest.mark.parametrize("compiled", [WINDOW, LATEST])
def test_an_entity_whose_only_event_waits_is_not_found(compiled):
    state = state_of(compiled, event_of(compiled, 9, 0))
    assert asked(state, 8)[-1] == (None, NOT_FOUND)


def test_an_unknown_entity_has_empty_windows():
    assert answer(None, WINDOW, 0) == [(0, NOT_FOUND), (None, NOT_FOUND)]


def test_an_unknown_entity_has_no_latest_row():
    assert answer(None, LATEST, 0) == [(None, NOT_FOUND)]


def test_an_entity_whose_events_are_all_old_is_known():
    state = state_of(WINDOW, event_of(WINDOW, 0))
    assert asked(state, 10 * S) == [(0, PRESENT), (None, NULL_VALUE)]


def test_a_state_of_another_version_is_refused():
    blob = state_of(WINDOW, event_of(WINDOW, 0)).encode()
    other = bytes((blob[0] + 1,)) + blob[1:]
    with pytest.raises(OnlineError, match=r"'window'.*version 2.*materialise the view again"):
        Reader(WINDOW, other)


# --- the wire form --------------------------------------------------------------------------------

HINTS: list[Any] = [
    bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta,
    list[int], list[float], list[str | None], list[list[int | None]], list[bool],
]  # fmt: skip


NUMBERS = compile_view(
    view(
        "numbers",
        ONE,
        source("events", {"key": int, "amount": float, "qty": int, "flag": bool}),
        {"sum": Sum("amount", window="1d"), "whole": Sum("qty", window="1d"),
         "on": Count(window="1d", where="flag")},
    )
)  # fmt: skip


def test_numbers_that_are_written_at_once_have_the_bytes_of_the_codec(monkeypatch):
    """`struct` writes and reads all of a state of numbers: each field of the header differs from
    the others here, and each column from the other columns."""
    order = [s.type.name for s in NUMBERS.slots]
    rows = [{"float": 0.1, "int": 7, "bool": True}, {"float": -0.0, "int": -2, "bool": False}]
    events: list[Event] = [
        (ts, created, tuple(row[name] for name in order))
        for ts, created, row in zip((11, 12), (21, 23), rows, strict=True)
    ]
    at_once = State(NUMBERS, 5, 30, events).encode()
    assert state.plain_states(NUMBERS) is not None
    read_at_once = state.decode_state(NUMBERS, at_once)
    monkeypatch.setattr(state, "plain_states", lambda _: None)
    assert State(NUMBERS, 5, 30, events).encode() == at_once
    for read in (read_at_once, state.decode_state(NUMBERS, at_once)):
        assert (read.first_visible, read.newest_arrival) == (5, 30)
        assert [(e[0], e[1], bits(list(e[2]))) for e in read.events] == [
            (e[0], e[1], bits(list(e[2]))) for e in events
        ]


def round_trip(type_: Type, values: list[Any]) -> list[Any]:
    data = encode_column(type_, values)
    read, marks, end = decode_column(type_, memoryview(data), 0, len(values))
    assert end == skip_column(type_, memoryview(data), 0, len(values)) == len(data)
    assert (marks is None) == (not any(v is None or v is ERROR for v in values))
    return list(read)


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_a_column_comes_back_as_it_was(hint):
    type_ = from_hint(hint)

    @given(st.lists(awkward.values(hint) | st.none() | st.just(ERROR), max_size=8))
    def check(values):
        assert bits(round_trip(type_, values)) == bits(values)

    check()


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_a_column_of_nothing_of_any_length_comes_back(
    hint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is longer than a column may be whose values take no bytes; the limit is lower
    here, since one of 2**25 values takes gigabytes."""
    monkeypatch.setattr(codec, "MOST_ABSENT", 3)
    type_ = from_hint(hint)
    for n in range(7):
        assert round_trip(type_, [None] * n) == [None] * n
        lists = Type("list", item=type_.or_none())
        assert round_trip(lists, [[None] * n, None, [None]]) == [[None] * n, None, [None]]
    with pytest.raises(ValueError, match="4 values of which none is stored"):
        decode_column(type_, memoryview(b"\1"), 0, 4)


@pytest.mark.parametrize("hint", HINTS, ids=str)
@pytest.mark.parametrize("value", [None, ERROR])
def test_a_column_of_nothing_comes_back(hint, value):
    assert round_trip(from_hint(hint), [value, value]) == [value, value]


def test_every_nan_has_the_same_bytes():
    other = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    columns = [encode_column(from_hint(float), [x]) for x in (math.nan, -math.nan, other)]
    assert len(set(columns)) == 1


def test_minus_zero_has_its_own_bytes():
    assert encode_column(from_hint(float), [-0.0]) != encode_column(from_hint(float), [0.0])


KEYS = [
    *[(INT, 1), (INT, -1), (BOOL, True), (BYTES, b"1"), (BYTES, b""), (DATE, dt.date(1970, 1, 2))],
    *[(STR, text) for text in ("1", "-1", "", "b1", "i1", "1970-01-02", "d1970-01-02")],
    (DATETIME, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
]


def test_the_bytes_of_a_key_are_for_ever():
    """Stores hold states under them, and training sets are parted by them."""
    assert [entity_key([key]) for key in KEYS] == [
        b"2:i1", b"3:i-1", b"2:b1", b"2:x1", b"1:x", b"11:d1970-01-02",
        b"2:s1", b"3:s-1", b"1:s", b"3:sb1", b"3:si1", b"11:s1970-01-02", b"12:sd1970-01-02",
        b"2:t0",
    ]  # fmt: skip
    assert entity_key([(INT, 12), (STR, "é")]) == b"3:i123:s\xc3\xa9"


def test_keys_of_two_types_never_meet():
    assert len({entity_key([key]) for key in KEYS}) == len(KEYS)


@given(st.lists(st.tuples(st.just(STR), awkward.values(str)), min_size=1, max_size=3),
       st.lists(st.tuples(st.just(STR), awkward.values(str)), min_size=1, max_size=3))  # fmt: skip
def test_composite_keys_meet_only_where_they_are_equal(one, other):
    assert (entity_key(one) == entity_key(other)) == (one == other)


def test_a_list_key_type_has_no_wire_form():
    with pytest.raises(TypeError, match="no join key"):
        entity_key([(list_of(INT), [1])])
