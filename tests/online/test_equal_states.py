"""One set of events, however it comes in: the same bytes online, and the same bits everywhere.

Hundreds of hostile events of few entities, as one push, event by event in any order, as a backfill
that a stream goes on from, and offline in any number of buckets and threads (T6, A1, A2).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from agreeing import late
from awkward import DAY, HOUR
from equal_orders import (
    BLOCKS,
    SERVICES,
    STATES,
    hostile,
    newest_arrivals,
    states,
)
from paths import Answers, Paths, Question, Row, column, connect, in_small_blocks
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.core.status import NEVER
from featurekit.core.types import instant
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.redis import RedisStore
from featurekit.parity.compare import bits

SEEDS = (1, 2)
BUCKETS = (2, 7, 64)


class Case:
    """A service and its events, questions about them, and what is expected."""

    def __init__(self, con: Any, name: str, seed: int) -> None:
        service = SERVICES[name]
        of = service.features[0].source
        self.source, self.rows, self.chance = of.name, hostile(seed), random.Random(seed)
        self.paths = Paths(con, service, {of.name: self.rows})
        keys = [{"key": k, "key2": s} for k, s in zip((1, 1, 2, 3, 4, 9), "abaaba", strict=True)]
        newest = newest_arrivals(self.rows)
        if name == "every instant":
            at = awkward.edges(self.rows, awkward.windows(*service.features))
            at = self.chance.sample([t for t in at if t >= max(newest.values()) - 40 * DAY], 8)
            self.questions = [Question(key, t) for t in at for key in keys]
        else:
            later = (0, 1, HOUR // 2, DAY)
            self.questions = [
                Question(key, newest.get(key["key"], 0) + d) for d in later for key in keys
            ]
        self.expected = self.shape(self.paths.oracle(self.questions))

    def shape(self, answers: Answers) -> list[Any]:
        return [[(bits(value), status) for value, status in row] for row in answers]

    def agrees(self, answers: Answers) -> None:
        assert self.shape(answers) == self.expected, self.paths.shown(
            self.questions, answers, self.paths.oracle(self.questions)
        )

    # --- the ways in ------------------------------------------------------------------------------

    def one_push(self) -> MemoryStore:
        store = MemoryStore()
        self.paths.push(store, self.rows, self.source)
        return store

    def event_by_event(self) -> MemoryStore:
        store = MemoryStore()
        for row in self.chance.sample(self.rows, len(self.rows)):
            self.paths.push(store, [row], self.source)
        return store

    def in_parts(self) -> MemoryStore:
        store, rows = MemoryStore(), self.chance.sample(self.rows, len(self.rows))
        cuts = sorted(self.chance.sample(range(len(rows)), 5))
        for low, high in itertools.pairwise((0, *cuts, len(rows))):
            self.paths.push(store, rows[low:high], self.source)
        return store

    def backfill(self) -> MemoryStore:
        store = MemoryStore()
        self.paths.materialise(store, until=awkward.INSTANT_MAX)
        return store

    def backfill_then_stream(self) -> MemoryStore:
        store, cut = MemoryStore(), self.chance.choice(self.rows)["__created"]
        self.paths.materialise(store, until=cut)
        self.paths.push_arrivals(store, cut, awkward.INSTANT_MAX, shuffled=self.chance)
        return store

    def backfill_twice_amid_a_stream(self) -> MemoryStore:
        store = MemoryStore()
        cuts = sorted(self.chance.choice(self.rows)["__created"] for _ in range(2))
        self.paths.push_arrivals(store, NEVER, cuts[0], shuffled=self.chance)
        self.paths.materialise(store, until=cuts[0])
        self.paths.push_arrivals(store, cuts[0], awkward.INSTANT_MAX, shuffled=self.chance)
        self.paths.materialise(store, after=cuts[0], until=cuts[1])
        return store


WAYS: dict[str, Callable[[Case], MemoryStore]] = {
    "one push": Case.one_push,
    "event by event": Case.event_by_event,
    "in parts": Case.in_parts,
    "backfill": Case.backfill,
    "backfill, then stream": Case.backfill_then_stream,
    "backfill twice amid a stream": Case.backfill_twice_amid_a_stream,
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


@pytest.mark.parametrize(
    ("name", "seed"),
    slow_unless(
        lambda name, seed: list(SERVICES).index(name) % len(SEEDS) == SEEDS.index(seed),
        itertools.product(SERVICES, SEEDS),
    ),
)
def test_one_set_of_events_is_one_state_and_one_value(con, monkeypatch, name, seed):
    if seed == SEEDS[-1]:
        in_small_blocks(monkeypatch, split=20, size=8)
    case = Case(con, name, seed)
    wanted = case.one_push()
    assert len(states(wanted)) >= 8  # four entities of one view, more of the other
    case.agrees(case.paths.online(case.questions, wanted))
    for way, fill in WAYS.items():
        store = fill(case)
        assert states(store) == states(wanted), way
        if not way.startswith("backfill"):
            assert store.values == wanted.values, way
        case.agrees(case.paths.online(case.questions, store))
    for buckets in (1, *BUCKETS):
        case.agrees(case.paths.offline(case.questions, buckets=buckets))
    case.paths.close()


@pytest.mark.parametrize("name", ["every instant", "corrections"])
def test_no_number_of_threads_changes_a_bit(con, name):
    case = Case(con, name, 3)
    wanted = states(case.one_push())
    for threads in (1, 2):
        con.execute(f"SET threads = {threads}")
        case.agrees(case.paths.offline(case.questions))
        assert states(case.backfill()) == wanted
    case.paths.close()


# --- files, a log and a Redis ---------------------------------------------------------------------

DEFINITIONS = "from equal_orders import LATE as service\n"


def opened(folder: Path, url: str, filed: list[Row]) -> FeatureStore:
    """A repo whose Parquet file has these events."""
    folder.mkdir()
    (folder / "definitions.py").write_text(DEFINITIONS)
    (folder / "feature_store.yaml").write_text("project: tests\nprovider: local\n")
    instants = {"at": "__ts", "arrived": "__created"}
    columns = {n: column(t, [r[n] for r in filed]) for n, t in late.schema.items()}
    stamps = {n: pa.array([r[us] for r in filed], pa.timestamp("us")) for n, us in instants.items()}
    pq.write_table(pa.table(columns | stamps), folder / "late.parquet")
    store = FeatureStore(folder, redis_url=url)
    store.apply()
    store.materialize()
    return store


def pushed(store: FeatureStore, rows: list[Row]) -> None:
    stamps = {"at": "__ts", "arrived": "__created"}
    store.push(
        "late",
        [
            {n: row[n] for n in late.schema} | {n: instant(row[us]) for n, us in stamps.items()}
            for row in rows
        ],
    )


def held(store: FeatureStore) -> dict[bytes, bytes | None]:
    """Every key and value of the views in Redis."""
    keys = [key for prefix in (STATES, BLOCKS) for key in store.online.keys(prefix)]
    return dict(zip(keys, store.online.read(keys), strict=True))


def test_files_and_pushes_through_a_redis_are_one_state_and_one_value(
    tmp_path: Path, redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_blocks(monkeypatch, split=20, size=8)
    rows = hostile(SEEDS[0])
    chance = random.Random(4)
    questions = [
        {"key": key, "key2": "a", "event_timestamp": instant(t)}
        for t in chance.sample(sorted({row["__created"] for row in rows}), 3)
        for key in (1, 2, 3, 4, 9)
    ]
    found = []
    for number, cut in enumerate((0, 80, len(rows))):
        redis_store.client.flushall()
        with opened(tmp_path / str(number), redis_url, rows[:cut]) as store:
            for low in range(cut, len(rows), 40 if cut else len(rows)):
                pushed(store, rows[low : low + (40 if cut else len(rows))])
            table = {
                n: store.get_historical_features(questions, "service", statuses=True, buckets=n)
                .to_arrow()
                .to_pylist(maps_as_pydicts="strict")
                for n in (1, *BUCKETS)
            }
            assert all(bits(table[n]) == bits(table[1]) for n in BUCKETS)
            for question, offline in zip(questions, table[1], strict=True):
                row = {n: question[n] for n in ("key", "key2")}
                online = store.get_online_features(
                    "service", [row], as_of=question["event_timestamp"]
                )
                for name, values in online.columns.items():
                    assert bits(values[0]) == bits(offline[name]), (name, question)
                    assert online.status[name][0] == offline[f"{name}__status"]
            found.append((held(store), bits(table[1])))
            store.materialize()
            assert held(store) == found[-1][0]
    assert any(key.startswith(BLOCKS) for key in found[0][0])
    assert sum(key.startswith(STATES) for key in found[0][0]) >= 10
    assert found[1] == found[0]
    assert found[2] == found[0]
