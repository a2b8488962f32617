"""States in blocks of sources with an `event_id`: rows that come late, again, corrected, deleted or
elsewhere change the block that they are about, and leave no other trace (T7, A2)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from agreeing import source
from awkward import INSTANT_MAX
from equal_orders import states
from oracle import bits
from paths import Paths, Question, Row, connect, in_small_blocks, plan_of, service_of
from slow import slow_unless

from featurekit.aggregates import Any as AnyOf
from featurekit.aggregates import (
    Count,
    CountDistinct,
    FirstN,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Quantile,
    StdDev,
    Sum,
    TimeSince,
    ValueCounts,
)
from featurekit.core.status import FOREVER
from featurekit.define.definitions import Entity, FeatureService, FeatureView
from featurekit.online.state import blocks
from featurekit.online.state.blocks import is_head
from featurekit.online.state.seal import opened
from featurekit.online.state.state import State, due_of
from featurekit.online.store.memory import MemoryStore

S = 1_000_000
MEMORY = 40 * S
KEYS = [{"key": 1}, {"key": 2}, {"key": 3}]
SCHEMA = {
    "id": int, "op": str, "key": int | None, "x": float | None, "n": int, "kind": str | None,
    "good": bool | None,
}  # fmt: skip


def features(*, lifetime: bool, ordered: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, window in (("short", "15s"), ("long", "90s"), ("ever", "lifetime")):
        if name == "ever" and not lifetime:
            continue
        found |= {
            f"count_{name}": Count(window=window),
            f"sum_{name}": Sum("x", window=window),
            f"whole_{name}": Sum("n", window=window, where="good"),
            f"stddev_{name}": StdDev("n", window=window),
            f"least_{name}": Min("x", window=window),
            f"most_{name}": Max("kind", window=window, where="good"),
            f"distinct_{name}": CountDistinct("kind", window=window),
            f"median_{name}": Quantile("n", q=0.5, window=window),
            f"kinds_{name}": ValueCounts("kind", window=window),
            f"some_{name}": AnyOf("good", window=window),
            f"since_{name}": TimeSince(window=window, where="good"),
        }
        if ordered:
            found |= {
                f"last_{name}": Last("kind", window=window),
                f"three_{name}": LastN("n", n=3, window=window),
                f"first_{name}": FirstN("x", n=2, window=window, where="good"),
            }
    found["tiles"] = Mean("n", window="60s", hop="10s", offset="5s")
    return found


def service(*, op: bool, lifetime: bool, ordered: bool, **options: Any) -> FeatureService:
    more = {"op": "op"} if op else {}
    events = source(
        "events", SCHEMA, created_timestamp_column="arrived", event_id="id",
        dedupe_within="40s", **more,
    )  # fmt: skip
    made = features(lifetime=lifetime, ordered=ordered)
    entity = Entity("entity", {"key": int})
    return service_of(
        FeatureView("view", entities=[entity], source=events, features=made, **options)
    )


SERVICES = {
    "copies": service(op=False, lifetime=False, ordered=False, ttl="30s"),
    "copies for a lifetime": service(op=False, lifetime=True, ordered=True),
    "copies, history": service(op=False, lifetime=False, ordered=True, history="50s"),
    "corrections": service(op=True, lifetime=False, ordered=False, ttl="30s"),
    "corrections for a lifetime": service(op=True, lifetime=True, ordered=True),
    "corrections, history": service(
        op=True, lifetime=False, ordered=True, history="50s", ttl="60s"
    ),
}


def rows_of(chance: random.Random, n: int = 170) -> list[Row]:
    """Rows a second and a half apart, in the order of their arrival: most of one entity, some of
    one instant, late or known beforehand, and a third of them about an id that was there, which may
    have been another entity's."""
    made: list[Row] = []
    for i in range(n):
        created = (3 * i + chance.choice((0, 0, 1))) * S // 2
        ts = created - chance.choice((0, 0, 0, 0, 1, 3 * S, 20 * S, 70 * S, 130 * S, -2 * S))
        row: Row = {
            "id": i, "op": "upsert", "key": chance.choice((1, 1, 1, 1, 1, 1, 2, None)),
            "x": chance.choice((0.1, 1 / 3, -2.5, 1e16, -0.0, None)),
            "n": chance.randrange(-3, 9), "kind": chance.choice(("a", "", "ß", "bb", None)),
            "good": chance.choice((True, False, None)), "__ts": ts, "__created": created,
        }  # fmt: skip
        if made and chance.random() < 0.35:
            old = chance.choice(made[-25:] if chance.random() < 0.8 else made)
            same = {**old, "__created": created} if chance.random() < 0.5 else row
            row = {**same, "id": old["id"], "op": chance.choice(("upsert", "delete"))}
            if chance.random() < 0.3:
                row |= {"__ts": old["__ts"]}  # the version before it gives up its place
        made.append(row)
    # Of one entity everything is deleted in the end, one event after the other.
    for i in range(14):
        ts, end = (3 * n // 2 - 30 + i) * S, (3 * n // 2 - 8 + i) * S // 2 + 3 * n // 4 * S
        row = {**made[i], "id": n + i, "op": "upsert", "key": 3, "__ts": ts, "__created": ts}
        made += [row, {**row, "op": "delete", "__created": end}]
    return sorted(made, key=lambda row: row["__created"])


def disturbed(chance: random.Random, rows: list[Row], *, within: int = MEMORY // 2) -> list[Row]:
    """The rows in another order. None comes so late that its id might be let go of."""
    return sorted(rows, key=lambda row: row["__created"] + chance.randrange(within))


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


class Case:
    """A service, its rows, and the ways in which they come."""

    def __init__(self, con: Any, name: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rows = rows_of(self.chance)
        self.paths = Paths(con, SERVICES[name], {"events": self.rows})
        self.view = self.paths.service.views[0]
        self.questions: list[Question] = []
        for key in KEYS:
            # From the entity's newest arrival on, some of its events may have become another's.
            of_key = [row["__created"] for row in self.rows if row["key"] == key["key"]]
            oldest = max(of_key) - self.view.history_us
            at = {row["__created"] + d for row in self.rows[-90:] for d in (0, S // 3)}
            later = [max(at) + d * S for d in (1, 30, 95, 10**4)]
            self.questions += [
                Question(key, t) for t in sorted({oldest, *at, *later}) if t >= oldest
            ]

    def pushed(self, parts: list[list[Row]]) -> MemoryStore:
        """The store after pushes. Now and then its states are those of one push of all so far."""
        store, so_far = MemoryStore(), list[Row]()
        for number, part in enumerate(parts):
            self.paths.push(store, part, "events")
            so_far += part
            if number % 9 == 0:
                once = MemoryStore()
                self.paths.push(once, so_far, "events")
                assert store.values == once.values
        return store

    def cut(self, rows: list[Row]) -> list[list[Row]]:
        parts = []
        while rows:
            n = self.chance.choice((1, 1, 2, 5, 30))
            parts.append(rows[:n])
            rows = rows[n:]
        return parts

    def backfilled(self, *, then: int) -> MemoryStore:
        """A backfill of the rows up to number `then`, amid pushes of all."""
        store, cut = MemoryStore(), self.rows[then]["__created"]
        early = [row for row in self.rows if row["__created"] <= cut - 10 * S]
        for row in early:
            self.paths.push(store, [row], "events")
        self.paths.materialise(store, until=cut)
        later = [row for row in self.rows if row["__created"] > cut]
        for part in self.cut(disturbed(self.chance, later, within=MEMORY // 4)):
            self.paths.push(store, part, "events")
        return store

    def stores(self) -> dict[str, MemoryStore]:
        made = {
            "one push": self.pushed([self.rows]),
            "event by event": self.pushed([[r] for r in disturbed(self.chance, self.rows)]),
            "in parts": self.pushed(self.cut(disturbed(self.chance, self.rows))),
            "backfill": MemoryStore(),
            "backfill amid a stream": self.backfilled(then=self.chance.randrange(20, 150)),
        }
        self.paths.materialise(made["backfill"], until=INSTANT_MAX)
        return made


@pytest.mark.parametrize(
    ("name", "seed"),
    slow_unless(lambda _, seed: seed == 2, itertools.product(SERVICES, range(3))),
)
def test_blocks_of_ids_are_one_state_and_what_the_oracle_says(
    con: duckdb.DuckDBPyConnection, name: str, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch, split=6, size=4)
        case = Case(con, name, seed)
        stores = case.stores()
        wanted = states(stores["one push"])
        assert all(states(store) == wanted for store in stores.values())
        assert any(is_head(opened(key, value)) for key, value in wanted.items())
        answers = case.paths.online(case.questions, stores["one push"])
    assert not case.paths.shown(case.questions, case.paths.oracle(case.questions), answers)
    # One state that is whole has the very events, and gives the same answers.
    whole = MemoryStore()
    case.paths.push(whole, case.rows, "events")
    assert not any(is_head(opened(k, v)) for k, v in states(whole).items())
    assert bits(case.paths.online(case.questions, whole)) == bits(answers)
    case.paths.close()


@pytest.mark.parametrize("name", SERVICES)
def test_an_event_is_due_once_it_counts_nowhere_and_no_row_can_change_that(name: str) -> None:
    view = plan_of(SERVICES[name]).service.views[0]
    due, reach = due_of(view), view.history_us + view.retain_us
    for ts, delay, end in itertools.product((0, 7 * S), (0, S, 500 * S), (0, 1, S, FOREVER)):
        ended = [] if view.source.op is None else [min(ts + delay + end, FOREVER)]
        event = (ts, ts + delay, (*(None for _ in view.slots), *ended))
        at = due(event)
        for newest in (at - 1, at):
            state = State(view, newest_arrival=newest)
            over = state.end(event) <= state.horizon
            old = ts <= newest - reach and state.end(event) == FOREVER and state.settled(event)
            assert (newest == at) == (over or old)


def test_a_state_that_is_whole_goes_into_blocks_with_the_next_push(
    con: duckdb.DuckDBPyConnection,
) -> None:
    """As states of sources with ids were, however long, before they lay in blocks."""
    case = Case(con, "corrections, history", 0)
    *early, last = case.rows
    store, once = MemoryStore(), MemoryStore()
    case.paths.push(store, early, "events")
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch, split=6, size=4)
        asked = [q for q in case.questions if q.t < last["__created"]]
        assert not case.paths.shown(
            asked, case.paths.oracle(asked), case.paths.online(asked, store)
        )
        case.paths.push(store, [{**last, "key": 1}], "events")
        case.paths.push(once, [*early, {**last, "key": 1}], "events")
        keys = [key for key, value in states(once).items() if is_head(opened(key, value))]
        assert any(store.values[key] == once.values[key] for key in keys)
    case.paths.close()


def test_the_sums_and_chosen_inputs_of_a_block_leave_out_what_has_ended() -> None:
    """The head answers for whole blocks whose ends lie before the question: what ended counts no
    more there (T7)."""
    compiled = plan_of(SERVICES["corrections for a lifetime"]).service.views[0]
    layout = blocks.Layout(compiled)
    chance = random.Random(3)
    value = {
        "int": lambda: chance.randrange(1, 9), "float": lambda: chance.random() + 1.0,
        "str": lambda: chance.choice("abc"), "bool": lambda: True,
    }  # fmt: skip
    events = [
        (i * S, i * S, (*(value[slot.type.name]() for slot in compiled.slots), FOREVER))
        for i in range(6)
    ]
    ended = [
        (ts, created, (*slots[:-1], 50 * S) if ts == 5 * S else slots)
        for ts, created, slots in events
    ]
    block, of_rest = blocks.make_block(layout, ended), blocks.make_block(layout, events[:5])
    assert block.sums
    assert block.chosen
    assert (block.sums, block.chosen) == (of_rest.sums, of_rest.chosen)
    assert block.sums != blocks.make_block(layout, events).sums
    assert (block.count, block.lasting.number, block.lasting.over) == (6, 5, 50 * S)
