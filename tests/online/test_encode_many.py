"""Many states made at once have the bytes of states made one by one, and are created where there
are none, whoever else writes meanwhile (A2, T3)."""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from agreeing import source
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import connect, plan_of, service_of

from featurekit.core.keys import entity_key
from featurekit.core.status import NEVER
from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, FLOAT, INT, STR, TIMEDELTA, Type
from featurekit.core.values import ERROR
from featurekit.define.definitions import Entity, FeatureView
from featurekit.feed.events import prepare
from featurekit.feed.materialise import materialize_view
from featurekit.feed.settle import write
from featurekit.offline.events import EventRows
from featurekit.online.state import codec
from featurekit.online.state.encode_many import Many, entity_keys
from featurekit.online.state.replace_many import Replacing
from featurekit.online.state.state import Event, State
from featurekit.online.store import redis as redis_store
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import Closing, OnlineStore
from featurekit.online.store.redis import RedisStore

CLOCK = b"clock"

ints = st.integers(-(2**63), 2**63 - 1)
odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
floats = st.floats() | st.sampled_from([odd, -0.0, math.inf])
float32s = st.floats(width=32)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
instants = st.datetimes(timezones=st.just(dt.UTC))
STRATEGIES: list[tuple[Type, Any]] = [
    (INT, ints),
    (FLOAT, floats),
    (BOOL, st.booleans()),
    (STR, texts),
    (BYTES, st.binary(max_size=5)),
    (DATETIME, instants),
    (DATE, st.dates()),
    (TIMEDELTA, st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6))),
    (Type("list", item=FLOAT.or_none()), st.lists(floats | st.none(), max_size=3)),
    (Type("list", item=STR), st.lists(texts, max_size=3)),
    (Type("list", item=Type("list", item=INT)), st.lists(st.lists(ints, max_size=2), max_size=2)),
    (Type("list", item=FLOAT, size=2), st.lists(float32s, min_size=2, max_size=2)),
]


@st.composite
def entities(draw: st.DrawFn) -> tuple[list[Type], list[list[Event]]]:
    """Slots' types, and the events of some entities."""
    slots = draw(st.lists(st.sampled_from(STRATEGIES), max_size=4))
    absent = draw(st.sampled_from([(), (None,), (ERROR,), (None, ERROR)]))
    values = [s | st.sampled_from(absent) if absent else s for _, s in slots]
    event = st.tuples(ints, ints, st.tuples(*values))
    events = draw(st.sampled_from([st.lists(event, max_size=4), st.tuples(event).map(list)]))
    return [t for t, _ in slots], draw(st.lists(events, max_size=5))


@settings(max_examples=400)
@given(entities(), st.sampled_from(["window", "latest"]), st.sampled_from([2, codec.MOST_ABSENT]))
def test_many_states_have_the_bytes_of_each(
    made: tuple[list[Type], list[list[Event]]], kind: str, most_absent: int
) -> None:
    with patch.object(codec, "MOST_ABSENT", most_absent):
        check_bytes(made, kind)


def check_bytes(made: tuple[list[Type], list[list[Event]]], kind: str) -> None:
    types, states = made
    view: Any = SimpleNamespace(
        kind=kind, dedupe_us=None, slots=[SimpleNamespace(type=t) for t in types],
        source=SimpleNamespace(op=None),
    )  # fmt: skip
    events = [event for some in states for event in some]
    columns = []
    for i, type_ in enumerate(types):
        slot = [event[2][i] for event in events]
        before = slot[:2]  # a batch of some rows is a part of a longer column
        given = [None if v is ERROR else v for v in (*before, *slot)]
        values = pa.array(given, type_.arrow).slice(len(before))
        erring = np.array([v is ERROR for v in slot], np.bool_)
        columns.append((type_, values, erring if erring.any() or i % 2 else None))
    # Half of the entities have nothing newer than the row that they hold.
    newest = [some[0][1] if i % 2 and some else i - 7 for i, some in enumerate(states)]
    many = Many(
        columns,
        first=np.arange(len(states)),
        newest=np.array(newest, np.int64),
        ts=np.array([event[0] for event in events], np.int64),
        created=np.array([event[1] for event in events], np.int64),
        starts=np.cumsum([0, *map(len, states)]),
    )
    found = many.encode(view)
    wanted = [State(view, i, newest[i], some).encode() for i, some in enumerate(states)]
    assert found.to_pylist() == wanted


@given(st.lists(st.tuples(ints, texts, st.binary(max_size=4), instants, st.booleans(), st.dates())))
def test_many_entities_have_the_names_of_each(rows: list[tuple[Any, ...]]) -> None:
    types = [INT, STR, BYTES, DATETIME, BOOL, DATE]
    columns = [(t, pa.array([r[i] for r in rows], t.arrow)) for i, t in enumerate(types)]
    wanted = [entity_key(list(zip(types, row, strict=True))) for row in rows]
    assert entity_keys(columns).to_pylist() == wanted


# --- what is there already ------------------------------------------------------------------------


def binary(*values: bytes) -> pa.LargeBinaryArray:
    return pa.array(values, pa.large_binary())


def test_only_what_is_absent_is_created(online: OnlineStore, monkeypatch: Any) -> None:
    monkeypatch.setattr(redis_store, "_GROUP", 2)
    online.write({b"c": b"there"})
    keys, values = binary(b"a", b"b", b"c", b"d", b"e"), binary(b"1", b"", b"3", b"4", b"\r\n5")
    left = online.create(keys, values)
    assert 2 in left
    assert not {0, 1, 4} & set(left)
    wanted = {b"a": b"1", b"b": b"", b"c": b"there", b"e": b"\r\n5"}
    assert dict(zip(wanted, online.read(list(wanted)), strict=True)) == wanted
    assert online.read([b"d"]) == [None if 3 in left else b"4"]
    assert online.create(binary(), binary()) == []


clicks = source("clicks", {"key": int, "x": float | None}, created_timestamp_column="arrived")
USER = Entity("user", {"key": int})
LATEST = service_of(FeatureView("latest", entities=[USER], source=clicks, features={"x": "x"}))


def rows(instant: int) -> list[dict[str, Any]]:
    return [{"key": k, "x": k / 8, "__ts": instant, "__created": instant} for k in range(30)]


@pytest.mark.parametrize("again", [False, True], ids=["first run", "second run"])
def test_a_push_that_is_faster_than_a_run_is_not_lost(
    online: OnlineStore, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """It creates or changes states after the run looked what is there, before it writes."""
    monkeypatch.setattr(redis_store, "_GROUP", 4)
    con, (view,) = connect(), plan_of(LATEST).service.views
    con.register("given", pa.Table.from_pylist(rows(1)))
    con.execute("CREATE TEMP TABLE events AS SELECT * FROM given")

    def run() -> None:
        materialize_view(con, online, "tests", view, EventRows("events", True), until=5)

    if again:
        run()
    later = [row for row in rows(9) if row["key"] % 7 == 0]

    def faster(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            monkeypatch.undo()
            if isinstance(online, RedisStore):
                other = RedisStore(online.url)
                write(other, prepare("tests", [view], later))
                other.close()
            else:
                write(online, prepare("tests", [view], later))
            return method(*arguments, **options)

        return call

    name = "open_update" if again else "create"
    monkeypatch.setattr(online, name, faster(getattr(online, name)))
    run()
    once = MemoryStore()
    write(once, prepare("tests", [view], [*rows(1), *later]))
    keys = sorted(online.keys(b"fk:tests:state:"))
    assert dict(zip(keys, online.read(keys), strict=True)) == once.values
    assert len(keys) == 30


def test_a_transaction_that_another_writer_overtakes_is_done_again(redis_store: RedisStore) -> None:
    other, overtaken = RedisStore(redis_store.url), []

    def add(values: list[bytes | None]) -> list[bytes | None]:
        if len(overtaken) < 3:  # between WATCH and EXEC
            overtaken.append(values[0])
            other.update([b"n"], lambda v: [b"%d" % (int(v[0] or 0) + 10)])
        return [b"%d" % (int(values[0] or 0) + 1)]

    redis_store.update([b"n"], add)
    other.close()
    assert (overtaken, redis_store.read([b"n"])) == ([None, b"10", b"20"], [b"31"])


def test_a_push_ends_with_the_transaction_that_it_closes(online: OnlineStore) -> None:
    online.write({b"told": b"1"})
    token, now, told = online.open_push(b"pushes", [b"told", b"untold"], clock=CLOCK).result()
    assert told == [b"1", None]
    assert online.settled_until(b"pushes", clock=CLOCK) < now
    with pytest.raises(ZeroDivisionError):
        online.update([b"n"], lambda values: [b"%d" % (1 // 0)], closing=Closing(b"pushes", token))
    assert online.settled_until(b"pushes", clock=CLOCK) < now
    online.update([b"n"], lambda values: [b"1"], closing=Closing(b"pushes", token))
    assert online.settled_until(b"pushes", clock=CLOCK) >= now - 1
    online.close_push(b"pushes", token)  # once more changes nothing
    assert online.read([b"n"]) == [b"1"]


@pytest.mark.parametrize("after", [NEVER, 2], ids=["whole", "increment"])
def test_a_push_between_a_run_s_reading_and_its_writing_is_not_lost(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The run has made new values of the states that it read; each of its transactions begins anew,
    and leaves the later row."""
    con, (view,) = connect(), plan_of(LATEST).service.views
    con.register("given", pa.Table.from_pylist([*rows(1), *rows(4)]))
    con.execute("CREATE TEMP TABLE events AS SELECT * FROM given")
    online, other = RedisStore(redis_url), RedisStore(redis_url)
    write(online, prepare("tests", [view], rows(1)))
    later = [row for row in rows(9) if row["key"] % 7 == 0]
    made = Replacing.values

    def slow(self: Replacing, *arguments: Any) -> Any:
        found = made(self, *arguments)
        monkeypatch.undo()
        write(other, prepare("tests", [view], later))
        return found

    monkeypatch.setattr(Replacing, "values", slow)
    materialize_view(con, online, "tests", view, EventRows("events", True), after=after, until=5)
    once = MemoryStore()
    write(once, prepare("tests", [view], [*rows(1), *rows(4), *later]))
    keys = list(once.values)
    assert online.read(keys) == [once.values[key] for key in keys]
    online.close()
    other.close()
