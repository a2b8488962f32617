"""A batch of a service of plain views, windows and transforms is what its rows are alone."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import random
from collections.abc import Sequence
from typing import Any

import pytest
from agreeing import ONE, source, view
from oracle import bits
from paths import service_of

from featurekit import Entity, feature
from featurekit.aggregates import Count, LastN, Quantile, Sum
from featurekit.core.status import DAMAGED
from featurekit.core.values import ERROR
from featurekit.define.compile_service import compile_service
from featurekit.define.plan import View
from featurekit.errors import DamagedState, TransformError
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.result import Batch, OnlineResult
from featurekit.online.lookup.service import OnlineService
from featurekit.online.state.seal import sealed
from featurekit.online.state.state import State
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.replies import Keys
from featurekit.project.deployment import promote, publish, set_materialized

S = 1_000_000
SPENT = source("spent", {"key": int, "a": float | None, "n": int})


@feature
def inverse(n: int) -> float:
    return 1 / n


@feature
def share(total: float | None, x: float | None, asked: float, key: int | None) -> float | None:
    return None if total is None or x is None else asked / (total - x) + (key or 0)


@feature
def longer(share: float | None, last: list[int] | None) -> int:
    return (0 if last is None else len(last)) + (0 if share is None else 1)


PLAIN = view("plain", ONE, source("rows", {"key": int, "x": float | None, "y": int}),
             {"x": "x", "y": "y"}, ttl="6s")  # fmt: skip
NUMBERS = view("numbers", ONE, source("more", {"key": int, "f": bool, "g": float}),
               {"g": "g", "f": "f"})  # fmt: skip
WINDOWS = view("windows", ONE, SPENT, {
    "total": Sum("a", window="4s"), "often": Count(window="2s"),
    "last": LastN("n", n=2, window="6s"), "middle": Quantile(inverse, q=0.5, window="6s"),
}, ttl="8s")  # fmt: skip
STRICT = [view(f"strict{i}", ONE, source(f"strict{i}", {"key": int, "n": int}),
               {f"inverse{i}": inverse}, on_error="fail") for i in range(2)]  # fmt: skip
PAIRED = view("paired", Entity("pair", {"key": int, "of": str}),
              source("pairs", {"key": int, "of": str, "p": float, "q": str | None}),
              {"p": "p", "q": "q"})  # fmt: skip
MIXED: dict[str, tuple[Any, ...]] = {
    "plain and windows": (PLAIN, WINDOWS, NUMBERS),
    "some features of each": (WINDOWS[["last", "total"]], NUMBERS[["f"]], PLAIN[["y", "x"]]),
    "with two join keys": (PAIRED, WINDOWS, NUMBERS),
    "with transforms": (PLAIN, WINDOWS, PAIRED, share, longer),
    "with errors that fail": tuple(STRICT),
}


class Store(MemoryStore):
    """A store in memory that notes whether it was last read group by group."""

    grouped = False

    def read(self, keys: Sequence[bytes]) -> Any:
        self.grouped = type(keys) is Keys
        return super().read(keys)


def value(chance: random.Random, name: str, *, whole: bool) -> Any:
    """A value of the type; with `whole`, neither None nor an error."""
    if not whole and chance.random() < 0.1:
        return chance.choice([None, ERROR])
    return {
        "int": chance.randrange(4),
        "float": chance.choice([math.nan, -0.0, 0.5, chance.random()]),
        "bool": chance.random() < 0.5,
        "str": "word" * chance.randrange(3),
    }[name]


def state_of(chance: random.Random, view: View, *, whole: bool) -> bytes | None:
    """A state of up to three events; with `whole`, of one at least."""
    state = State(view)
    for _ in range(chance.choice([1, 1, 3] if whole else [0, 1, 1, 3])):
        slots = [value(chance, slot.type.name, whole=whole) for slot in view.slots]
        ts = chance.choice([2, 3, 4]) * S + chance.randrange(9)
        state.add([(ts, ts, tuple(slots))])
    return state.encode() if state.events else None


def fill(store: MemoryStore, chance: random.Random, plan: Evaluator, rows: Any) -> None:
    """Give the entities of the rows other states, a few or many of them damaged."""
    store.values = {k: v for k, v in store.values.items() if b":state:" not in k}
    columns = plan.key_columns(plan.check_rows(rows)[0])
    for lookup, column in zip(plan.lookups, columns, strict=True):
        whole = chance.random() < 0.5
        share = chance.choice([0.0, 0.05, 0.05, 0.8])
        for key in filter(None, column):
            blob = state_of(chance, lookup.view, whole=whole)
            if blob is not None:
                kept = sealed(key, blob)
                store.values[key] = kept[:-1] + b"?" if chance.random() < share else kept


def served(store: MemoryStore, *parts: Any) -> OnlineService:
    fields = {"asked": float} if share in parts else {}
    service = compile_service(service_of(*parts, request=fields))
    publish(store, "tests", service)
    for one in service.views:
        set_materialized(store, "tests", one, 0)
    promote(store, "tests")
    return OnlineService(store, "tests", "service")


def asked(online: OnlineService, rows: list[dict[str, Any]], at: dt.datetime) -> Any:
    """The rows with their statuses; the text of an error."""
    try:
        found = online.get(rows, at)
    except (DamagedState, TransformError) as error:
        return str(error)
    return list(zip(found.to_pylist(), found.statuses(), strict=True))


def check_forms(result: OnlineResult) -> None:
    """A result holds the same values whichever way they are taken."""
    assert bits(result.to_arrow().to_pylist()) == bits(result.to_pylist())
    assert bits(pickle.loads(pickle.dumps(result)).to_dict()) == bits(result.to_dict())
    for name, array in result.to_numpy().items():
        column = result.columns[name]
        if array.dtype == float:
            column = [math.nan if v is None else v for v in column]
        assert bits(array.tolist()) == bits(column)


@pytest.mark.parametrize("name", MIXED)
def test_a_batch_of_mixed_views_is_what_its_rows_are_alone(name: str) -> None:
    store, chance, batches = Store(), random.Random(name), 0
    online = served(store, *MIXED[name])
    plan = online.current()
    for _ in range(60):
        repeated = chance.random() < 0.2
        keys: list[Any] = chance.choices(range(6), k=4) if repeated else chance.sample(range(6), 4)
        if chance.random() < 0.1:
            keys[chance.randrange(4)] = None
        given = [{"key": k, "of": "a" * (k or 0), "asked": (k or 0) / 4} for k in keys]
        rows = [{name: row[name] for name in plan.known} for row in given]
        fill(store, chance, plan, rows)
        at = dt.datetime.fromtimestamp(chance.choice([5, 7, 11]), dt.UTC)
        alone = [asked(online, [row], at) for row in rows]
        found = asked(online, rows, at)
        grouped = store.grouped
        failed = [i for i, one in enumerate(alone) if isinstance(one, str)]
        if isinstance(found, str):
            # A batch fails where every row is damaged, or where a view fails by its own rule.
            assert len(failed) == len(rows) or name == "with errors that fail"
            first = next((i for i in failed if "is damaged" in alone[i]), failed[0])
            assert found.replace(f"row {first},", "row 0,") == alone[first]
            continue
        assert len(failed) < len(rows)
        for i, row in enumerate(found):
            if i in failed:
                assert "is damaged" in alone[i]
                assert DAMAGED in row[1].values()
            else:
                assert bits(row) == bits(alone[i][0])
        result = online.get(rows, at)
        batches += grouped and isinstance(result._answers, Batch)
        check_forms(result)
    assert bool(batches) == (name != "with transforms")
