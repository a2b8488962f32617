"""Short ways to an answer give what the long way gives: rows read by one struct, many at once, in
an event loop, and replies taken from the socket."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import itertools
import math
import os
import pickle
import struct
import time
from typing import Any

import awkward
import pytest
from agreeing import ONE, late, source, view
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bits
from paths import service_of

from featurekit import Entity
from featurekit.aggregates import Sum
from featurekit.core.keys import clock_key, entity_key
from featurekit.core.status import NEVER_VISIBLE, PRESENT
from featurekit.core.types import INT
from featurekit.core.values import ERROR
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.plan import View
from featurekit.errors import AsOfTooOld, EntityFrameError, OnlineError, StoreUnavailable
from featurekit.feed.events import prepare
from featurekit.feed.settle import write
from featurekit.online.lookup.answer import answer
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.result import Batch
from featurekit.online.lookup.service import OnlineService, _Shown
from featurekit.online.lookup.steps import AtClock
from featurekit.online.lookup.view import ViewLookup
from featurekit.online.state import row as row_module
from featurekit.online.state import state as state_module
from featurekit.online.state.state import Event, State, decode_state, newest_arrival
from featurekit.online.state.state import Reader as StateReader
from featurekit.online.store.connections import Connections
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.replies import Keys, NotPlain, Run, mget, receiver
from featurekit.online.store.server import scratch_redis
from featurekit.project.deployment import promote, publish, set_materialized

S = 1_000_000
PLAIN = {"key": int, "x": float | None, "y": int | None, "flag": bool | None}
TYPES: dict[str, Any] = PLAIN | {
    "name": str | None, "raw": bytes | None, "at_field": dt.datetime | None,
    "day": dt.date | None, "lasting": dt.timedelta | None,
}  # fmt: skip
plain = source("plain", PLAIN, created_timestamp_column="arrived")
typed = source("typed", TYPES, created_timestamp_column="arrived")
named = source("named", PLAIN | {"id": str}, created_timestamp_column="arrived", event_id="id",
               dedupe_within="5s")  # fmt: skip


def of(name: str, schema: dict[str, Any], of: Any, **options: Any) -> View:
    columns = {c: c for c in schema if c != "key"}
    return compile_view(view(name, ONE, of, columns, **options))


VIEWS = {
    "numbers": of("numbers", PLAIN, plain),
    "numbers, some of them": of("some", {"flag": bool, "x": float}, plain, ttl="2s"),
    "every type": of("every", TYPES, typed),
    "with a ttl": of("fresh", TYPES, typed, ttl="2s"),
    "with history": of("kept", PLAIN, plain, history="3s"),
    "with ids": of("ided", PLAIN, named, ttl="3s"),
}
INSTANTS = st.integers(-3, 6).map(lambda s: s * S) | st.integers(-5, 5)


@st.composite
def states(draw: st.DrawFn, compiled: View) -> State:
    """A state of one to three events, some of whose values are None and some err."""
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 3))):
        values = []
        for slot in compiled.slots:
            hint = TYPES.get(slot.column or "", str)
            values.append(draw(awkward.values(hint) | awkward.values(hint) | st.just(ERROR)))
        if draw(st.booleans()):
            values = [None if v is ERROR else v for v in values]
        ts = draw(INSTANTS)
        events.append((ts, draw(st.just(ts) | INSTANTS), tuple(values)))
    state = State(compiled)
    state.add(events)
    state.newest_arrival = max(state.newest_arrival, draw(INSTANTS))
    if compiled.dedupe_us is not None:
        state.first_visible = draw(st.just(NEVER_VISIBLE) | INSTANTS)
    return state


def asked(of: Any, t: int) -> Any:
    try:
        return of(t)
    except AsOfTooOld as error:
        return str(error)


@pytest.mark.parametrize("name", VIEWS)
def test_a_prepared_view_answers_as_the_plain_path_does(name):
    compiled = VIEWS[name]
    lookup = ViewLookup(compiled)

    @settings(max_examples=120)
    @given(states(compiled), st.lists(INSTANTS, min_size=1, max_size=5))
    def check(state, instants):
        blob = state.encode()
        for t in instants:
            fast = asked(lambda at: list(zip(*lookup.answer(blob, at), strict=True)), t)
            slow = asked(lambda at: answer(StateReader(compiled, blob), compiled, at), t)
            assert bits(fast) == bits(slow)

    check()


@pytest.mark.parametrize("name", VIEWS)
def test_a_row_answers_as_the_columns_of_an_older_release_do(name, monkeypatch):
    compiled = VIEWS[name]
    lookup = ViewLookup(compiled)

    def older(state: State) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(row_module, "row_form", lambda view: None)
            return state.encode()

    @settings(max_examples=60)
    @given(states(compiled), st.lists(INSTANTS, min_size=1, max_size=5))
    def check(state, instants):
        one, other = state.encode(), older(state)
        assert other[0] == state_module.VERSION
        assert newest_arrival(one) == newest_arrival(other) == state.newest_arrival
        assert decode_state(compiled, other).encode() == one
        assert decode_state(compiled, one).encode() == one
        for t in instants:
            found = [
                asked(lambda at, blob=blob: list(zip(*lookup.answer(blob, at), strict=True)), t)
                for blob in (one, other)
            ]
            assert bits(found[0]) == bits(found[1])

    check()


@pytest.mark.parametrize("name", VIEWS)
def test_rows_read_at_once_are_the_rows_read_one_by_one(name):
    compiled = VIEWS[name]
    lookup = ViewLookup(compiled)

    @settings(max_examples=60)
    @given(st.lists(states(compiled), min_size=2, max_size=4), INSTANTS)
    def check(some, t):
        blobs = [state.encode() for state in some]
        packed = lookup.packed(blobs)
        if packed is None or not packed.counts(t):
            return
        rows = packed.rows()
        by_column = [column.tolist() for part in packed.columns() for column in part]
        for i, blob in enumerate(blobs):
            values, statuses = lookup.answer(blob, t)
            assert bits(list(rows[i])) == bits(list(values))
            assert bits([column[i] for column in by_column]) == bits(list(values))
            assert set(statuses) == {PRESENT}

    check()


@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
def test_the_instants_of_many_rows_are_those_of_each(n):
    compiled = VIEWS["numbers"]
    rows = [(7 * k % 31 - 5, 11 * k % 37 - 9, (k / 2, k, True)) for k in range(n)]
    lookup, blobs = ViewLookup(compiled), []
    for event in rows:
        state = State(compiled)
        state.add([event])
        blobs.append(state.encode())
    found = lookup.packed(blobs)
    ts, created, values = zip(*rows, strict=True)
    assert (found.instants[::2], found.instants[1::2]) == (list(ts), list(created))
    assert (found.n, found.latest) == (n, max(ts + created))
    assert [bits(list(row)) for row in found.rows()] == [bits(list(row)) for row in values]
    framed = sent(blobs)
    run = Run(framed, len(b"*%d\r\n" % n), n, len(blobs[0]), 5, len(blobs[0]) + 7)
    assert list(run) == blobs
    again = lookup.packed(run)
    assert (again.instants, again.rows()) == (found.instants, found.rows())
    assert lookup.packed(Run(framed, run.at, n, run.size - 1, 5, run.stride)) is None
    for k in (0, n - 1):  # another version, or a flag
        for at, byte in ((0, row_module.VERSION + 1), (1, row_module.FLAG_NEWEST)):
            other = bytearray(blobs[k])
            other[at] = byte
            assert lookup.packed([*blobs[:k], bytes(other), *blobs[k + 1 :]]) is None


def test_a_row_of_fifty_floats_is_eighteen_bytes_more_than_they_are():
    columns = {f"f{i}": float for i in range(50)}
    compiled = of("wide", columns, source("wide", {"key": int, **columns}))
    state = State(compiled)
    state.add([(1, 1, tuple(float(i) for i in range(50)))])
    assert len(state.encode()) == 18 + 8 * 50


def test_a_row_where_a_view_has_none_is_an_error():
    windows = compile_view(view("w", ONE, late, {"s": Sum("qty", window="1d")}))
    state = State(VIEWS["numbers"])
    state.add([(1, 1, (1.0, 2, True))])
    with pytest.raises(OnlineError, match="materialise the view again"):
        StateReader(windows, state.encode())


# --- many rows ------------------------------------------------------------------------------------


def filled(store: Any, *views: Any, rows: dict[str, list[dict[str, Any]]]) -> OnlineService:
    """A service in `store`, live."""
    service = compile_service(service_of(*views))
    publish(store, "tests", service)
    for compiled in service.views:
        write(store, prepare("tests", [compiled], rows[compiled.source.name]))
        set_materialized(store, "tests", compiled, 0)
    promote(store, "tests")
    return OnlineService(store, "tests", "service")


def event(key: int, ts: int = 0, **values: Any) -> dict[str, Any]:
    given = {"x": key + 0.5, "y": key, "flag": key % 2 == 0} | values
    return {"key": key, "__ts": ts, "__created": ts, **given}


ORDERED = view("ordered", ONE, plain, {"x": "x", "flag": "flag", "y": "y"})
TURNED = view("turned", ONE, source("other", {"key": int, "a": float, "b": float}),
              {"b2": "b", "a2": "a", "b3": "b"})  # fmt: skip
AT = dt.datetime(1970, 1, 1, 0, 0, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "views", [(ORDERED,), (TURNED,), (ORDERED, TURNED), (TURNED[["a2"]], ORDERED[["y", "x"]])]
)
def test_a_batch_is_what_its_rows_are_one_by_one(views):
    others = [event(k, a=float(-k), b=k / 4) for k in range(4)]
    rows = {"plain": [event(k) for k in range(4)], "other": others}
    online = filled(MemoryStore(), *views, rows=rows)
    keys = [{"key": k} for k in (3, 0, 2, 0)]
    batch = online.get(keys, AT)
    singles = [online.get([key], AT) for key in keys]
    assert batch.to_pylist() == [row for one in singles for row in one.to_pylist()]
    assert batch.statuses() == [row for one in singles for row in one.statuses()]
    assert batch.to_arrow().to_pylist() == batch.to_pylist()
    assert batch.to_arrow().schema == singles[0].to_arrow().schema
    batch.to_arrow().validate(full=True)
    assert {n: a.tolist() for n, a in batch.to_numpy().items()} == batch.columns
    for name, array in batch.to_numpy().items():
        assert array.dtype == singles[0].to_numpy()[name].dtype
        array[0] = array[1]  # its own memory
    assert batch.statistics == {}


def test_one_row_that_is_not_plain_makes_no_batch_and_no_other_answer():
    waits = event(2, ts=9 * S) | {"__created": 0}
    online = filled(MemoryStore(), ORDERED, rows={"plain": [event(0), event(1, x=None), waits]})
    found = online.get([{"key": k} for k in (0, 1, 2, 3, None)], AT)
    assert found.columns["x"] == [0.5, None, None, None, None]
    assert found.status["x"] == [PRESENT, "NULL_VALUE", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]
    assert found.columns["y"] == [0, 1, None, None, None]


@pytest.mark.parametrize(
    "row", [{"key": True}, {"key": 2**63}, {"key": "1"}, {}, {"kee": 1}, {"key": 1, "more": 2}, 3]
)
def test_wrong_rows_are_refused_among_many(row):
    online = filled(MemoryStore(), ORDERED, rows={"plain": [event(0)]})
    with pytest.raises(EntityFrameError, match="row 1"):
        online.get([{"key": 0}, row, {"key": 0}])


# --- in an event loop -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_coroutines_answer_as_threads_do(kind, redis_store):
    store = MemoryStore() if kind == "memory" else redis_store
    online = filled(store, ORDERED, rows={"plain": [event(k) for k in range(50)]})

    async def all_at_once() -> list[Any]:
        found = await asyncio.gather(*(online.get_async([{"key": k}], AT) for k in range(50)))
        again = await online.get_async([{"key": k} for k in range(50)], AT)
        await store.close_async()
        return [*(one.to_pylist()[0] for one in found), *again.to_pylist()]

    wanted = online.get([{"key": k} for k in range(50)], AT).to_pylist()
    for _ in range(2):  # an event loop after another
        assert asyncio.run(all_at_once()) == wanted * 2


def test_a_coroutine_follows_a_version_that_goes_live(redis_store):
    online = filled(redis_store, ORDERED, rows={"plain": [event(1)]})

    async def before_and_after() -> list[Any]:
        before = await online.get_async([{"key": 1}], AT)
        filled(redis_store, ORDERED[["y"]], rows={"plain": [event(1)]})
        after = await online.get_async([{"key": 1}], AT)
        await redis_store.close_async()
        return [list(before.columns), list(after.columns)]

    assert asyncio.run(before_and_after()) == [["x", "flag", "y"], ["y"]]


def test_a_coroutine_says_that_no_server_is_there():
    store = RedisStore("unix:///nowhere/redis.sock")

    async def ask() -> None:
        try:
            await OnlineService(store, "tests", "service").get_async([{"key": 1}])
        finally:
            await store.close_async()

    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        asyncio.run(ask())


def test_a_coroutine_reads_on_where_its_connection_was_closed(redis_store):
    redis_store.write({b"a": b"1"})

    async def ask() -> list[Any]:
        first = await redis_store.read_async([b"a", b"b"])
        redis_store.client.client_kill_filter(_type="normal", skipme=True)
        again = await redis_store.read_async([b"a"])
        await redis_store.close_async()
        return [first, again]

    assert asyncio.run(ask()) == [[b"1", None], [b"1"]]


# --- replies --------------------------------------------------------------------------------------


def sent(values: list[bytes | None], null: bytes = b"$-1\r\n") -> bytes:
    shown = [null if v is None else b"$%d\r\n%b\r\n" % (len(v), v) for v in values]
    return b"*%d\r\n%b" % (len(values), b"".join(shown))


def taken(n: int, pieces: list[bytes], each: int = 0, firsts: int = 1) -> Any:
    receive = receiver(Keys(b"", n, each, firsts=firsts) if each else [b""] * n)
    for piece in pieces:
        found = receive(piece)
        if found is not None:
            return found
    return "more"


@given(
    st.lists(st.none() | st.binary(max_size=90) | st.just(b"0123456789\r\n$10\r\n"), max_size=6),
    st.lists(st.integers(1, 400), max_size=12),
    st.sampled_from([b"$-1\r\n", b"_\r\n"]),
)
def test_a_reply_is_the_same_however_it_comes(values, cuts, null):
    whole = sent(values, null)
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert taken(len(values), pieces) == values
    assert taken(len(values), [bytes((b,)) for b in whole]) == values
    if len(pieces) > 1:
        assert taken(len(values), pieces[:-1]) == "more"


@pytest.mark.parametrize(
    "data",
    [
        b"-ERR no\r\n", b">2\r\n+moving\r\n+1\r\n", b"+OK\r\n", b"*1\r\n$1\r\na\r\n", b"?",
        b"*2\r\n$1\r\na\r\n$1\r\nb\r\n>1\r\n+x\r\n", b"*2\r\n$x\r\n",
    ],
)  # fmt: skip
def test_what_is_no_plain_reply_is_left_to_the_client(data):
    with pytest.raises(NotPlain):
        taken(2, [data])


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[bytes | None], int, int]:
    """Values of groups of so many, after so many others: one size in most groups, with newlines and
    headers in them."""
    each, firsts = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    other = st.none() | st.binary(max_size=8)
    found: list[bytes | None] = draw(st.lists(other, min_size=firsts, max_size=firsts))
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.sampled_from([0, 1, 6, 9, 10, 40]))
        same = st.binary(min_size=size, max_size=size) | st.just(b"$6\r\n\n\n" * 8).map(
            lambda v, size=size: v[:size]
        )
        other = st.none() | st.binary(max_size=12)
        odd = draw(st.sampled_from([same, same, same | other]))
        found += draw(st.lists(odd, min_size=each, max_size=each))
    return found, each, firsts


@settings(max_examples=300)
@given(groups(), st.lists(st.integers(1, 400), max_size=12), st.sampled_from([b"$-1", b"_"]))
def test_a_reply_in_groups_is_the_same_however_it_comes(grouped, cuts, null):
    values, each, firsts = grouped
    whole, n = sent(values, null + b"\r\n"), len(values)
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    for taken_so in (pieces, [bytes((b,)) for b in whole]):
        found = taken(n, taken_so, each, firsts)
        assert (list(found), len(found), found[0], found[1:]) == (values, n, values[0], values[1:])
        for group, first in zip(found.groups, range(firsts, n, each), strict=True):
            wanted = values[first : first + each]
            assert list(group) == wanted
            assert len(group) == each
            assert isinstance(group, Run) == (len({None if v is None else len(v) for v in wanted})
                                              == 1 and wanted[0] is not None)  # fmt: skip
    for end in range(len(whole)):
        assert taken(n, [whole[:end]] if end else [], each, firsts) == "more"
    for more in (b"$", b"$1\r\na\r\n", b">1\r\n+x\r\n", b"\r\n"):
        with pytest.raises(NotPlain):
            taken(n, [whole + more], each, firsts)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "odd",
    [
        b"-ERR no\r\n", b":1\r\n", b"+OK\r\n", b"*1\r\n", b"$x\r\n", b"$?\r\n", b"#t\r\n",
        b">2\r\n+moving\r\n+1\r\n", b"!1\r\na\r\n", b"=1\r\na\r\n",
    ],
)  # fmt: skip
def test_a_reply_in_groups_with_something_else_in_it_is_left_to_the_client(at, odd):
    parts = [b"$1\r\na\r\n"] * 4
    parts[at] = odd
    whole = b"*4\r\n" + b"".join(parts)
    for pieces in ([whole], [bytes((b,)) for b in whole]):
        with pytest.raises(NotPlain):
            taken(4, pieces, 3)


def test_the_command_names_each_key_with_its_length():
    wanted = b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
    assert mget([b"a", b"\r\n"]) == wanted


@pytest.mark.parametrize(
    "keys", [[0], [7, -7, 10, 99, 100, -100, 7], [2**63 - 1, -(2**63), 5], [None, 12], [3, None]]
)
def test_keys_of_many_entities_are_those_of_each(keys):
    plan = Evaluator("tests", compile_service(service_of(view("numbers", ONE, plain, {"x": "x"}))))
    expected = [
        None if k is None else plan.prefixes[0] + b"{" + entity_key([(INT, k)]) + b"}" for k in keys
    ]
    assert plan.key_columns({"key": keys}) == [expected]


KEYED: dict[Any, list[Any]] = {
    int: [0, -7, 10**18, -(2**63), 2**63 - 1, 5, 12],
    str: ["", "a", "}", "{1:i1}", "\r\n$1\r\n", "ключ", "x" * 300, "\0"],
    bytes: [b"", b"\r\n", b"\xff" * 20, b"a"],
    bool: [True, False],
    dt.date: [dt.date(2020, 1, 2), dt.date(1, 1, 1)],
}


@pytest.mark.parametrize("type_", KEYED)
def test_keys_that_are_sent_at_once_are_those_of_each(type_):
    thing = Entity("thing", {"key": type_})
    kinds = [source(f"s{i}", {"key": type_, "x": float}) for i in range(2)]
    views = [view(f"v{i}", thing, kind, {"x": "x"}) for i, kind in enumerate(kinds)]
    plan = Evaluator("tests", compile_service(service_of(*views)))
    column = KEYED[type_]
    keys = plan.keys_at_once([b"live"], {"key": column}, len(column))
    wanted = [b"live", *itertools.chain.from_iterable(plan.key_columns({"key": column}))]
    assert list(keys) == wanted
    assert len(keys) == len(wanted)
    assert mget(keys) == mget(wanted)
    assert keys.groups(wanted) == plan.key_columns({"key": column})
    for other in ([*column, None], column[:1]):
        assert plan.keys_at_once([b"live"], {"key": other}, len(other)) is None
    twice = plan.keys_at_once([b"live"], {"key": [*column, column[0]]}, len(column) + 1)
    assert twice is not None
    assert twice.groups([*twice])[1] == [*wanted[-len(column) :], wanted[-len(column)]]
    windows = view("w", thing, kinds[0], {"s": Sum("x", window="1d")})
    plan = Evaluator("tests", compile_service(service_of(views[0], windows)))
    assert plan.keys_at_once([b"live"], {"key": [*column, column[0]]}, len(column) + 1) is None


class Wire(MemoryStore):
    """A store that takes what it reads from the bytes of a reply, cut somewhere."""

    cuts: list[int]
    grouped: bool

    def read(self, keys: Any) -> Any:
        whole = sent(super().read(keys))
        edges = sorted({0, len(whole), *(c % len(whole) for c in self.cuts)})
        pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
        self.grouped = isinstance(keys, Keys)
        of_groups = (keys.each, keys.firsts) if self.grouped else ()
        return taken(len(keys), pieces, *of_groups)


FLOATS = view("floats", ONE, source("more", {"key": int, "a": float, "b": float, "n": int}),
              {"b": "b", "n": "n", "a": "a"}, ttl="4s")  # fmt: skip
PART = view("part", ONE, source("parted", {"key": int, "f": bool, "a": float, "n": int}),
            {"n": "n", "a": "a"})  # fmt: skip
KINDS = ["row", "none", "null", "error", "more", "late"]
VALUE: dict[str, Any] = {
    "x": st.floats(), "a": st.floats(), "b": st.floats(), "y": st.integers(-(2**63), 2**63 - 1),
    "n": st.integers(-(2**63), 2**63 - 1), "f": st.booleans(), "flag": st.booleans(),
}  # fmt: skip


@pytest.mark.parametrize(
    "views",
    [(FLOATS,), (PART,), (ORDERED, FLOATS), (PART[["a"]], ORDERED[["y"]], FLOATS[["n", "b"]])],
)
def test_many_rows_of_every_kind_are_answered_as_each_is(views):
    store = Wire()
    store.cuts = []
    online = filled(store, *views, rows={"plain": [], "more": [], "parted": []})
    plan, seen = online.current(), set()

    @st.composite
    def blobs(draw: st.DrawFn, compiled: View, kinds: list[str]) -> bytes | None:
        """A state of one of these kinds."""
        kind = draw(st.sampled_from(kinds))
        if kind == "none":
            return None
        state = State(compiled)
        for k in range(2 if kind == "more" else 1):
            ts = draw(st.sampled_from([2 * S, 3 * S, 2 * S + k]))
            slots = [draw(VALUE[slot.column or ""]) for slot in compiled.slots]
            if kind in ("null", "error"):
                slots[0] = None if kind == "null" else ERROR
            if kind == "late":
                ts = draw(st.sampled_from([0, ts, 9 * S]))
            created = draw(st.sampled_from([ts, 9 * S])) if kind == "late" else ts
            state.add([(ts, created, tuple(slots))])
        return state.encode()

    def each(of: Any) -> Any:
        try:
            return [bits(row) for row in of()]
        except AsOfTooOld as error:
            return str(error)

    def check(data, kinds, once):
        keys = data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=6, unique=once))
        keys += [None] if data.draw(st.integers(0, 9)) == 0 else []
        store.cuts = data.draw(st.lists(st.integers(0, 2000), max_size=6))
        for lookup, prefix in zip(plan.lookups, plan.prefixes, strict=True):
            for key in range(6):
                name = prefix + b"{" + entity_key([(INT, key)]) + b"}"
                blob = data.draw(blobs(lookup.view, kinds))
                store.values.pop(name, None)
                if blob is not None:
                    store.values[name] = blob
        at = dt.datetime.fromtimestamp(data.draw(st.sampled_from([5, 6, 7, 12])), dt.UTC)
        rows = [{"key": key} for key in keys]
        late = [data.draw(st.sampled_from([12, 13])) * S for _ in keys]
        apart = [online.lookup([row], [t])[2][0] for row, t in zip(rows, late, strict=True)]
        found = online.lookup(rows, late)[2]
        assert [bits(list(map(list, row))) for row in found] == [
            bits(list(map(list, row))) for row in apart
        ]
        ones = [each(lambda row=row: _all_of(online.get([row], at))) for row in rows]
        too_old = [one for one in ones if isinstance(one, str)]
        found = each(lambda: _all_of(online.get(rows, at)))
        if too_old:
            assert found == too_old[0]
            return
        answers = online.get(rows, at)._answers
        seen.add((store.grouped, answers.packed() is not None))
        assert found == [row for one in ones for row in one]
        result = online.get(rows, at)
        result.to_arrow().validate(full=True)
        assert bits(result.to_arrow().to_pylist()) == bits(result.to_pylist())
        assert result.to_arrow().schema == online.get(rows[:1], at).to_arrow().schema
        for name, array in result.to_numpy().items():
            column = result.columns[name]
            if array.dtype == float:
                column = [math.nan if v is None else v for v in column]
            assert bits(array.tolist()) == bits(column)

    def checking(kinds, once):
        @given(st.data())
        def checked(data):
            check(data, kinds, once)

        return checked

    # Each of these is drawn for itself, so that none is left to chance.
    for kinds, once in itertools.product((["row"], ["row"] * 5 + ["late"], KINDS), (True, False)):
        settings(max_examples=60 if once and kinds == ["row"] else 30)(checking(kinds, once))()
    wanted = {(True, True), (True, False)}
    for kinds in [["row"], KINDS] * 5:
        if not wanted <= seen:  # what few draws did not meet, by chance, more of them do
            settings(max_examples=60)(checking(kinds, True))()
    assert wanted <= seen


def _all_of(result: Any) -> list[Any]:
    return list(zip(result.to_pylist(), result.statuses(), strict=True))


def test_no_lookup_of_many_is_before_an_arrival_that_it_saw():
    """The server's time has stepped back behind the last stamp that it gave (S3)."""
    online = filled(MemoryStore(), ORDERED, rows={"plain": [event(k) for k in range(3)]})
    ahead = time.time_ns() // 1000 + 1800 * S
    online.store.write({clock_key("tests"): b"%d" % ahead})
    write(online.store, prepare("tests", online.current().service.views,
                                [event(1, ts=5) | {"__created": ahead}]))  # fmt: skip
    found = online.get([{"key": k} for k in range(3)])
    assert found.as_of == dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=ahead)
    assert found.status["x"] == [PRESENT] * 3


@pytest.mark.parametrize("n", [2, 100, 700])
def test_many_rows_over_a_socket_are_those_of_each(redis_store, n):
    online = filled(redis_store, ORDERED, rows={"plain": [event(k) for k in range(n)]})
    keys = [{"key": (k * 7) % n} for k in range(n)]
    wanted = [{"key": k["key"], "x": k["key"] + 0.5, "flag": k["key"] % 2 == 0, "y": k["key"]}
              for k in keys]  # fmt: skip
    assert isinstance(online.get(keys, AT)._answers, Batch)
    assert online.get(keys, AT).to_pylist() == wanted
    more = [*keys, {"key": n}]
    assert online.get(more, AT).to_pylist()[:-1] == wanted
    assert online.get(more, AT).status["x"][-1] == "NOT_FOUND"


def test_large_values_come_whole(redis_store):
    values = {b"k%d" % i: struct.pack("<I", i) * 200_000 for i in range(5)}
    redis_store.write(values)
    assert redis_store.read([*values, b"none"]) == [*values.values(), None]


def test_a_connection_that_was_closed_while_idle_is_made_again(redis_store):
    redis_store.write({b"a": b"1"})
    assert redis_store.read([b"a"]) == [b"1"]
    redis_store.client.client_kill_filter(_type="normal", skipme=True)
    assert redis_store.read([b"a"]) == [b"1"]


def test_a_server_that_has_gone_is_told_at_once():
    with scratch_redis() as url:
        store = RedisStore(url)
        assert store.read([b"a"]) == [None]
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.read([b"a"])


def test_an_error_is_the_client_s(redis_store):
    """A user who may not read: the reply is an error, and the client says which."""
    redis_store.client.execute_command(
        "ACL", "SETUSER", "blind", "on", ">p", "~*", "+@all", "-mget"
    )
    url = redis_store.url.replace("unix://", "unix://blind:p@")
    store = RedisStore(url)
    with pytest.raises(StoreUnavailable, match="answered with an error"):
        store.read([b"a"])
    assert list(store._reading.idle) == []
    redis_store.client.execute_command("ACL", "DELUSER", "blind")
    store.close()


def test_a_forked_process_reads_over_a_connection_of_its_own(redis_store):
    redis_store.write({b"a": b"1"})
    assert redis_store.read([b"a"]) == [b"1"]
    child = os.fork()
    if not child:
        os._exit(0 if redis_store.read([b"a"]) == [b"1"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert redis_store.read([b"a"]) == [b"1"]


def test_a_reader_keeps_one_connection_for_one_thread(redis_store):
    connections = Connections(redis_store.client)
    for _ in range(5):
        connections.mget([b"a"])
    assert len(list(connections.idle)) == 1


def test_a_plan_knows_which_services_are_read_as_columns():
    windows = view("w", ONE, late, {"s": Sum("qty", window="1d")})
    for service, plain in ((service_of(ORDERED), True), (service_of(ORDERED, windows), False)):
        keys = Evaluator("tests", compile_service(service)).keys_at_once([], {"key": [1, 2]}, 2)
        assert keys is not None
        assert keys.plain is plain


# --- results and versions -------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [[0], [0, 1], [0, 9]], ids=["one", "a batch", "an unknown one"])
@pytest.mark.parametrize("seen", [False, True], ids=["as answered", "after columns were read"])
def test_a_result_may_be_copied_sent_and_compared(keys: list[int], seen: bool) -> None:
    online = filled(MemoryStore(), ORDERED, rows={"plain": [event(k) for k in range(4)]})
    asked = [{"key": key} for key in keys]
    found = online.get(asked, AT)
    if seen:
        assert found.columns
        assert found.status
    for again in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert again == found
        assert again.to_pylist() == found.to_pylist()
        assert again.to_arrow() == found.to_arrow()
        assert again.statuses() == found.statuses()
    assert found == online.get(asked, AT)
    assert found != online.get([{"key": 3}], AT)
    assert found != "a result"


def answer_of(wanted: Any, store: MemoryStore) -> Any:
    """The values that steps want, and the clock where they want that, too."""
    if isinstance(wanted, AtClock):
        values, wanted.now = store.read_at(wanted.keys, wanted.clock)
        return values
    return store.read(wanted)


def rest_of(steps: Any, answer: Any, store: MemoryStore) -> Any:
    """What the steps come to, the first of them answered so."""
    try:
        while True:
            answer = answer_of(steps.send(answer), store)
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("gone", [False, True], ids=["the old states stay", "the old states go"])
@pytest.mark.parametrize("way", ["thread", "task"])
def test_a_lookup_that_another_overtakes_at_a_switch_answers_by_the_new_version(
    gone: bool, way: str
) -> None:
    """Another lookup of the same service follows the switch while this one waits (F1)."""
    store = MemoryStore()
    online = filled(store, ORDERED, rows={"plain": [event(1)]})
    asked = [{"key": 1}]
    assert list(online.get(asked, AT).columns) == ["x", "flag", "y"]
    other = view("ordered", ONE, plain, {"y": "y", "x": "x"}, ttl="3d")
    steps = online._get(asked, AT, _Shown(full_names=False, request=False))
    wanted = next(steps)
    before = list(store.keys(b"fk:tests:state"))
    filled(store, other, rows={"plain": [event(1)]})
    if gone:
        store.delete(before)
    answer = answer_of(wanted, store)
    overtaking = online.get(asked, AT) if way == "thread" else asyncio.run(
        online.get_async(asked, AT))  # fmt: skip
    assert list(overtaking.columns) == ["y", "x"]
    overtaken, _ = rest_of(steps, answer, store)
    assert overtaken == overtaking
    assert set(overtaken.status["y"]) == {"PRESENT"}
