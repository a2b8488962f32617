"""Events that are added to states in two runs give the bytes of one run over all of them (A2)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from featurekit import Entity, EventSource, FeatureView
from featurekit.core.keys import entity_key, state_key, state_prefix
from featurekit.core.tables import temp_table
from featurekit.core.types import FLOAT, INT
from featurekit.define.compile_view import compile_view
from featurekit.feed.add import add_relation
from featurekit.offline.session import connect
from featurekit.online.state.seal import sealed
from featurekit.online.state.state import State
from featurekit.online.store.memory import MemoryStore

NOW = 1_000
SCHEMA = {"key": INT, "step": INT.or_none(), "x": FLOAT.or_none()}
VIEW = compile_view(
    FeatureView(
        "v",
        entities=[Entity("key", {"key": int})],
        source=EventSource(
            "s", path="none.parquet", schema=SCHEMA, timestamp_field="at", sequence="step"
        ),
        features={"x": "x"},
    )
)
Row = tuple[int | None, int | None, float | None, int, int]


def rows(draw: random.Random, keys: int) -> list[Row]:
    """Rows of few instants, so that many are ties, and some are still to happen."""
    found: list[Row] = []
    for _ in range(draw.choice([1, 1, 2]) * keys):
        ts = draw.choice([10, 20, 30, NOW, NOW + 10, NOW + 20])
        step, x = draw.choice([None, 1, 2]), draw.choice([None, -0.0, 0.0, 1.0, float("nan")])
        found.append((draw.choice([None, *range(keys)]), step, x, ts, min(ts, NOW)))
    return found


def add(con: Any, store: MemoryStore, given: list[Row]) -> None:
    types = {**SCHEMA, "key": INT.or_none(), "__ts": INT, "__created": INT}
    add_relation(con, store, "p", VIEW, temp_table(con, "given", types, given))
    con.execute("DROP TABLE given")


def test_two_runs_give_the_bytes_of_one(tmp_path: Path) -> None:
    prefix = state_prefix("p", VIEW)
    con = connect(tmp_path)
    for seed in range(150):
        draw, store = random.Random(seed), MemoryStore()
        parts = [rows(draw, 4), rows(draw, 4)]
        for part in parts:
            add(con, store, part)
        for key in range(4):
            mine = [r for part in parts for r in part if r[0] == key]
            name = state_key(prefix, entity_key([(INT, key)]))
            (found,) = store.read([name])
            state = State(VIEW)
            slots = [slot.column for slot in VIEW.slots]
            places = {"step": 1, "x": 2}
            state.add([(r[3], r[4], tuple(r[places[s or ""]] for s in slots)) for r in mine])
            assert found == (sealed(name, state.encode()) if mine else None), (seed, key, mine)
    con.close()
