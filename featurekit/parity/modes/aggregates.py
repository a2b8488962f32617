"""Compares every aggregate over every type of input: DuckDB's plans of windows with the Python that
answers online, bit for bit.

The events are of many small entities, whose windows DuckDB finds by a range join, and of a crowded
one, which it counts by the plans for such (`window_plans`). Some arrive late, some are None.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.aggregates import BY_NAME, Aggregate
from featurekit.aggregates.listed import NUMBERS
from featurekit.core.types import BOOL, FLOAT, INT, INT_MAX, Type, list_of
from featurekit.core.values import ERROR
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.define.plan import Feature, View
from featurekit.define.proven import SAMPLES
from featurekit.errors import DefinitionError
from featurekit.language.ops import ERRORS
from featurekit.language.ops.table import EDGES
from featurekit.offline.events import EventRows
from featurekit.offline.session import prepare
from featurekit.offline.windows import make_windows
from featurekit.parity.modes.operators import RowReport, arrow, bits, read, stored

_SECOND, _DAY = 1_000_000, 86_400_000_000
_CROWD = 240  # so many events and labels of an entity are slower to join than to count
_CELLS = 40

_WINDOWS: tuple[dict[str, Any], ...] = (
    {"window": "10s"},
    {"window": "lifetime", "where": "kept"},
    {"window": "7s", "hop": "4s"},
    {"window": "9s", "offset": "3s", "where": "kept"},
)
# Frames are found for any aggregate alike, so a few stand for all.
_FRAMED = ("Sum", "Max", "LastN", "Covariance", "ExponentialDecay")
_FRAMES: tuple[dict[str, Any], ...] = (
    {"window": "7s", "exclude": "instant"},
    {"window": "7s", "hop": "4s", "ends": "hop"},
    {"calendar": "day", "timezone": "UTC", "running": True},
    {"rows": 3, "where": "kept"},
    {"window": "20s", "session": "2s"},
)


@dataclass(frozen=True, slots=True)
class World:
    """Values of one type that stand in one column, since its statistics choose how doubles add."""

    hint: Any
    type: Type
    values: tuple[Any, ...]
    late: bool = True


@dataclass(frozen=True, slots=True)
class _Event:
    """An event of the entity `key`; its instants are in microseconds."""

    key: int
    ts: int
    created: int
    value: Any
    other: Any
    kept: bool | None


def check_aggregates(con: Any, *, only: str = "", seed: int = 0) -> dict[str, RowReport]:
    """The aggregates whose key, "Sum(float)", contains `only`, each with what differed: the inputs
    in the window, the Python value twice and DuckDB's."""
    prepare(con)
    con.execute("SET threads = 1")
    reports: dict[str, RowReport] = {}
    for number, world in enumerate(worlds()):
        kinds = {
            f"{name}({world.type})": kind for name, kind in BY_NAME.items() if takes(kind, world)
        }
        chosen = {key: kind for key, kind in kinds.items() if only in key}
        if chosen:
            _check(con, world, chosen, reports, random.Random(f"{seed}:{number}"))
    return reports


def worlds() -> Iterator[World]:
    yield World(bool, BOOL, EDGES[BOOL])
    for late in (True, False):
        yield World(int, INT, (0, 1, -1, 2, 7, 2**31, 2**53 + 1, -(2**53) - 1), late)
        # A power of two serves all of these, a few limbs the next, lists those after them.
        yield World(float, FLOAT, (0.0, -0.0, 0.1, -0.1, 0.5, 2.5, 7.0, 1e6, 0.2, 1e-3), late)
    yield World(float, FLOAT, (1e-10 / 3, 1e15 / 3, -1e15 / 3, 0.1, 2.0**53, -0.0, 1.0))
    yield World(float, FLOAT, EDGES[FLOAT])
    yield World(int, INT, (*EDGES[INT], INT_MAX - 1))
    yield World(float, FLOAT, (0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan")))
    for hint in (str, bytes, dt.datetime, dt.date, dt.timedelta):
        type_ = next(t for t in EDGES if t.name == hint.__name__)
        yield World(hint, type_, EDGES[type_])
    for items in (list[int], list[float], list[str]):
        type_ = next(t for t in EDGES if str(t) == str(items))
        yield World(items, type_, EDGES[type_])
    # A power of two serves these too, and their sums are long.
    yield World(float, FLOAT, (1e-3 / 3, 1e11 / 3, -1e11 / 3, 0.1, -0.0, 1.0))


def takes(kind: type[Aggregate], world: World) -> bool:
    """Whether the aggregate is defined over such inputs."""
    return _takes(kind, SAMPLES.get(kind.__name__, ({},))[0], world)


def _takes(kind: type[Aggregate], params: dict[str, Any], world: World) -> bool:
    """Whether the aggregate with these parameters is defined over such inputs."""
    try:
        one = _made(kind, {"window": "1s", **params})
        one.result(_item(kind, world.type))
    except DefinitionError:
        return False
    return True


def _made(kind: type[Aggregate], options: dict[str, Any]) -> Aggregate:
    """The aggregate of the column of values or, if it is paired, of both columns."""
    return kind(("x", "y") if kind.paired else "x", **options)


def _item(kind: type[Aggregate], type_: Type) -> Type:
    """The type of its inputs. Those of a pair are lists."""
    if not kind.paired:
        return type_
    if type_ not in NUMBERS:
        raise DefinitionError(f"{kind.__name__} takes pairs of numbers, found {type_}")
    return list_of(FLOAT if type_ == FLOAT else INT)


def _check(
    con: Any,
    world: World,
    kinds: dict[str, type[Aggregate]],
    reports: dict[str, RowReport],
    rng: random.Random,
) -> None:
    view, keys = _view(world, kinds)
    events = list(_events(world, rng))
    labels = list(_labels(events, rng))
    answers = _in_duckdb(con, world, view, events, labels)
    of_key: dict[int, list[_Event]] = {}
    for event in events:
        of_key.setdefault(event.key, []).append(event)
    for key in kinds:
        reports.setdefault(key, RowReport("aggregate", raises=True))
    for (entity, t), row in zip(labels, answers, strict=True):
        mine = of_key.get(entity, [])
        for key, feature, found in zip(keys, view.features, row, strict=True):
            values = _inputs(feature, view, mine, t)
            kind = type(feature.implementation())
            wanted = _value(feature, values, t, _item(kind, world.type))
            report = reports[key]
            report.inputs += 1
            report.errors += wanted is ERROR
            if bits(wanted) != bits(found):
                report.differing.append((tuple(values), wanted, wanted, found))


def _view(world: World, kinds: dict[str, type[Aggregate]]) -> tuple[View, list[str]]:
    """A view of all aggregates over all windows, and the key of each of its features."""
    source = EventSource(
        "events",
        path="events.parquet",
        schema={"k": int, "x": world.hint | None, "y": world.hint | None, "kept": bool | None},
        timestamp_field="at",
        created_timestamp_column="came" if world.late else None,
    )
    features: dict[str, Aggregate] = {}
    keys: list[str] = []
    for key, kind in kinds.items():
        samples = [p for p in SAMPLES.get(kind.__name__, ({},)) if _takes(kind, p, world)]
        windows = (*_WINDOWS, *(_FRAMES if kind.__name__ in _FRAMED else ()))
        ways = itertools.product(samples, windows)
        for params, window in ways:
            features[f"f{len(keys)}"] = _made(kind, {**params, **window})
            keys.append(key)
        if kind.counts_rows:
            features[f"f{len(keys)}"] = kind(window="10s")
            keys.append(key)
    view = FeatureView("v", entities=[Entity("e", {"k": int})], source=source, features=features)
    compiled = compile_service(FeatureService("s", features=[view])).views[0]
    names = list(features)
    return compiled, [keys[names.index(feature.name)] for feature in compiled.features]


def _events(world: World, rng: random.Random) -> Iterator[_Event]:
    """Entity 0 is the crowded one; no two events of an entity happen at once."""

    def event(key: int, ts: int, value: Any) -> _Event:
        late = rng.choice((0, 0, 0, 0, 1, 3, 15)) * _SECOND if world.late else 0
        other = value if rng.random() < 0.1 else drawn()
        return _Event(key, ts, ts + late, value, other, rng.choice((True, True, False, None)))

    def drawn() -> Any:
        return None if rng.random() < 0.2 else rng.choice(world.values)

    for n in range(_CROWD):
        yield event(0, n * _SECOND + rng.randrange(_SECOND), drawn())
    cells = [[v] for v in world.values]
    cells += [[None], [None, None]]
    cells += [[drawn() for _ in range(rng.randint(2, 6))] for _ in range(_CELLS)]
    for key, values in enumerate(cells, 1):
        for n, value in enumerate(values):
            yield event(key, n * 2 * _SECOND, value)


def _labels(events: Sequence[_Event], rng: random.Random) -> Iterator[tuple[int, int]]:
    """Keys and instants: of the crowded entity as many as its events, of each other one at its last
    event, after it, where windows run empty, and before all; and of an entity without events."""
    for event in events:
        if event.key == 0:
            yield 0, event.ts + rng.choice((0, 0, -1, 1, 5 * _SECOND))
    last = {event.key: event.ts for event in events if event.key != 0}
    for key, ts in last.items():
        other = rng.choice((-1, ts + 3 * _SECOND, 1000 * _SECOND))
        yield from ((key, t) for t in (ts, ts + 9 * _SECOND, other))
    yield len(last) + 1, 0


def _in_duckdb(
    con: Any, world: World, view: View, events: Sequence[_Event], labels: Sequence[tuple[int, int]]
) -> list[list[Any]]:
    """Every feature of the view for every label; ERROR where it errs."""
    import pyarrow as pa

    given = {
        "k": pa.array([e.key for e in events], pa.int64()),
        "x": pa.array([stored(e.value) for e in events], arrow(world.type)),
        "y": pa.array([stored(e.other) for e in events], arrow(world.type)),
        "kept": pa.array([e.kept for e in events], pa.bool_()),
        "__ts": pa.array([e.ts for e in events], pa.int64()),
        "__created": pa.array([e.created for e in events], pa.int64()),
    }
    asked = {
        "__rid": pa.array(range(len(labels)), pa.int64()),
        "__t": pa.array([t for _, t in labels], pa.int64()),
        "k": pa.array([k for k, _ in labels], pa.int64()),
    }
    for name, columns in (("proof_events", given), ("proof_labels", asked)):
        con.register(f"{name}_arrow", pa.table(columns))
        con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM {name}_arrow")
        con.unregister(f"{name}_arrow")
    rows = EventRows("proof_events", not world.late, len(events))
    con.execute("DROP TABLE IF EXISTS proof_windows")
    made = make_windows(con, view, rows, "proof_labels", statuses=False, name="proof_windows")
    shown = [f"f{i}, {f'x{i}' if i in made.erring else 'FALSE'}" for i in range(len(view.features))]
    found = con.execute(f"SELECT {', '.join(shown)} FROM {made.sql} ORDER BY __rid").fetchall()
    return [
        [
            ERROR if erred else read(value, feature.type)
            for value, erred, feature in zip(row[::2], row[1::2], view.features, strict=True)
        ]
        for row in found
    ]


def _inputs(feature: Feature, view: View, events: Sequence[_Event], t: int) -> list[Any]:
    """What the aggregate takes of the events in the feature's window at t (T3-T5), as the rules say
    it."""
    low, high = _ends(feature, t)
    kept = [
        e
        for e in events
        if low < e.ts <= high and e.created <= t and (feature.where is None or e.kept)
    ]
    rows = _framed(feature, kept, t)
    aggregate = feature.implementation()
    if feature.slot is None:
        return [e.ts if aggregate.of_instants else True for e in rows]
    given = [e for e in rows if e.value is not None or aggregate.keeps_none]
    if aggregate.of_instants:
        return [e.ts for e in given]
    if aggregate.paired:
        return [[_number(e.value), _number(e.other)] for e in given if e.other is not None]
    return [(e.ts, e.value) if aggregate.timed else e.value for e in given]


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _ends(feature: Feature, t: int) -> tuple[int, int]:
    """The window (low, high] of a feature at t."""
    high, frame = t - feature.offset_us, feature.frame
    if frame is not None and frame.calendar is not None:  # the running day in UTC
        return high // _DAY * _DAY - 1, high
    if frame is not None and frame.ends is not None:
        high = high // feature.hop_us * feature.hop_us
        return high - feature.window_us, high
    low = high - feature.window_us
    if feature.hop_us:
        low = low // feature.hop_us * feature.hop_us
    return low, high - (frame is not None and frame.exclude is not None)


def _framed(feature: Feature, kept: list[_Event], t: int) -> list[_Event]:
    """The events of a window that count, of a frame of rows or a session (T10)."""
    rows, gap = None, None
    if feature.frame is not None:
        rows, gap = feature.frame.rows, feature.frame.session_us
    if rows is not None:
        return kept[-rows:]
    if gap is None:
        return kept
    run: list[_Event] = []
    for event in reversed(kept):
        if (run[0].ts if run else t) - event.ts > gap:
            break
        run.insert(0, event)
    return run


def _value(feature: Feature, values: Sequence[Any], t: int, type_: Type) -> Any:
    """What the code that answers online makes of them; ERROR where it errs."""
    aggregate = feature.implementation()
    try:
        return aggregate.as_of(aggregate.over(values, type_), t)
    except ERRORS:
        return ERROR
