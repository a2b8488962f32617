"""Compares what a service answered under load with what offline says of the same rows."""

from __future__ import annotations

import bisect
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurekit import FeatureStore
from tests.load import world
from tests.load.clients import Answer, Push

_ROWS = 20_000
_SHOWN = 10


def check(folder: Path, answers: Sequence[Answer], pushes: Sequence[Push]) -> dict[str, Any]:
    """How many values were compared, with which version, and which were wrong in every bit or one.

    A row whose entity was pushed to while it was asked for may be answered with that push or
    without; it is counted as `in flight`, unless its instant lies before all such pushes.
    """
    flights = _Flights(pushes)
    rows = [(answer, i) for answer in answers for i in range(len(answer.keys))]
    compared, in_flight, wrong = 0, 0, list[str]()
    by_version = dict.fromkeys(world.VERSIONS, 0)
    sure = []
    for answer, i in rows:
        if not answer.asked and flights.any(answer.keys[i], answer.begin, answer.end):
            in_flight += 1
        else:
            sure.append((answer, i))
    for start in range(0, len(sure), _ROWS):
        part = sure[start : start + _ROWS]
        offline = {version: _offline(folder, version, part) for version in world.VERSIONS}
        for number, (answer, i) in enumerate(part):
            online = {name: _bits(column[i]) for name, column in answer.columns.items()}
            found = {
                version: {name: _bits(table[name][number]) for name in online if name in table}
                for version, table in offline.items()
            }
            names = [name for name in online if name in next(iter(found.values()))]
            compared += len(names)
            equal = [v for v in world.VERSIONS if all(online[n] == found[v][n] for n in names)]
            for version in equal:
                by_version[version] += 1
            if not equal:
                wrong.append(f"{answer.as_of} {answer.keys[i]}: {online} offline {found}")
    return {
        "compared": compared, "rows equal to a version": by_version, "rows in flight": in_flight,
        "wrong": len(wrong), "first wrong": wrong[:_SHOWN],
    }  # fmt: skip


class _Flights:
    """The pushes of each entity, by when they began."""

    def __init__(self, pushes: Sequence[Push]) -> None:
        self._of: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for push in sorted(pushes, key=lambda push: push.begin):
            for key in push.keys:
                self._of[key].append((push.begin, push.end))

    def any(self, key: int, begin: float, end: float) -> bool:
        """Whether a push of the entity was under way at some time between two instants."""
        found = self._of.get(key, [])
        # They do not overlap: one process makes them, one after the other.
        last = bisect.bisect_right(found, (end, float("inf"))) - 1
        return last >= 0 and found[last][1] >= begin


def _offline(
    folder: Path, version: str, rows: Sequence[tuple[Answer, int]]
) -> dict[str, list[Any]]:
    """The columns that offline gives for rows that were asked for."""
    world.define(folder, version)
    frame = pa.table(
        {
            "key": pa.array([answer.keys[i] for answer, i in rows], pa.int64()),
            "basket": pa.array([answer.basket[i] for answer, i in rows], pa.float64()),
            "event_timestamp": pa.array([a.as_of for a, _ in rows], pa.timestamp("us", "UTC")),
        }
    )
    with FeatureStore(folder) as store:
        table = store.get_historical_features(frame, world.SERVICE).to_arrow()
    features: Iterator[str] = (n for n in table.column_names if n not in frame.column_names)
    return {name: table[name].to_pylist() for name in features}


def _bits(value: Any) -> Any:
    """A value that is equal to another one only where all bits are; every NaN is one."""
    match value:
        case float():
            return "NaN" if value != value else struct.pack("<d", value)
        case list() | tuple():
            return [_bits(one) for one in value]
        case dict():
            return [(_bits(k), _bits(v)) for k, v in value.items()]
        case _:
            return type(value).__name__, value
