"""Turns blocks of the serving log into profiles, which are plain data that merges."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featurekit.core.few import LEAST_ENTITIES
from featurekit.core.types import Type
from featurekit.log.profiles import Profile
from featurekit.log.served.block import Gathered, ServedBlock
from featurekit.monitor.drift.samples import Window
from featurekit.offline.profile import ColumnCounts, written_value

REGISTERS_BITS = 12
_UNIT = 1074
SUM_UNIT = 1 << _UNIT
"""A sum of floats is a whole number of 2**-1074, of which every finite double is one."""


class WholeCounts(ColumnCounts):
    """What is counted of a column, with its exact extremes and sum and a sketch of how many
    distinct numbers or texts it has (HyperLogLog)."""

    def __init__(self, type_: Type) -> None:
        super().__init__(type_)
        self.type = type_
        self.least: Any = None
        self.greatest: Any = None
        self.sum = 0
        self.ranks = np.zeros(1 << REGISTERS_BITS, np.int64)

    def update(self, column: Any, statuses: Any, entities: Sequence[Any] = ()) -> None:
        super().update(column, statuses, entities)
        there = column.drop_null()
        if self.type.name == "str" and len(there):
            texts = there.unique().to_pylist()
            self._sketch(np.array([_hashed(text) for text in texts], np.uint64))
        if self.numbers and len(there):
            values = there.to_numpy(zero_copy_only=False)
            self._sketch(_mixed(values))
            self._extremes(values)

    def _sketch(self, hashes: np.ndarray[Any, Any]) -> None:
        """Take hashes of 64 bits: the first twelve choose a register, which keeps one more than the
        most leading zeros of the others."""
        places = (hashes >> np.uint64(64 - REGISTERS_BITS)).astype(np.int64)
        rest = hashes & np.uint64((1 << (64 - REGISTERS_BITS)) - 1)
        # frexp is exact here: the rest has 52 bits.
        ranks = 64 - REGISTERS_BITS + 1 - np.frexp(rest.astype(np.float64))[1]
        np.maximum.at(self.ranks, places, ranks)

    def _extremes(self, values: np.ndarray[Any, Any]) -> None:
        if self.floats:
            values = values[~np.isnan(values)] + 0.0  # one zero
            if not len(values):
                return
            self.sum += _exact_sum(values[np.isfinite(values)])
        else:
            low, high = values & 0xFFFFFFFF, values >> 32
            self.sum += (int(high.sum()) << 32) + int(low.sum())
        least, greatest = values.min().item(), values.max().item()
        self.least = least if self.least is None else min(self.least, least)
        self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)

    def told(self, secret: bytes) -> dict[str, Any]:  # type: ignore[override]
        """What is kept: plain data, in which entities are hashes under a secret."""
        values = None
        if self.values is not None:
            held = [] if self.holders is None else self.holders.keys
            values = {
                json.dumps(written_value(value)): [
                    n, [_told(keys.get(value, set()), secret) for keys in held]
                ]
                for value, n in self.values.items()
            }  # fmt: skip
        places = np.flatnonzero(self.ranks).tolist()
        return {
            "type": str(self.type.plain.base),
            "present": self.present,
            "null": self.null,
            "statuses": dict(self.statuses),
            "buckets": {str(i): n for i, n in self.sketch.counts.items()},
            "values": values,
            "least": self.least,
            "greatest": self.greatest,
            "sum": self.sum,
            "registers": {str(i): int(self.ranks[i]) for i in places},
        }


def _told(keys: set[Any], secret: bytes) -> list[str] | None:
    if len(keys) >= LEAST_ENTITIES:
        return None
    return sorted(hmac.digest(secret, repr(key).encode(), "sha256")[:8].hex() for key in keys)


def _hashed(text: str) -> int:
    return int.from_bytes(hmac.digest(b"featurekit", text.encode(), "md5")[:8], "big")


def _mixed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Hashes of numbers: the finaliser of SplitMix64 over their bits. Equal numbers have one."""
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values + 0.0)
    bits = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))).view(np.uint64)
    with np.errstate(over="ignore"):
        bits = bits + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _exact_sum(values: np.ndarray[Any, Any]) -> int:
    """The exact sum of finite doubles as a whole number of 2**-1074: mantissas are added as ints,
    those of one exponent together."""
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    total = 0
    for exponent in np.unique(exponents).tolist():
        some = whole[exponents == exponent]
        part = (int((some >> 32).sum()) << 32) + int((some & 0xFFFFFFFF).sum())
        shift = exponent - 53 + _UNIT
        total += part << shift if shift >= 0 else part >> -shift
    return total


class Profiler:
    """Takes blocks, and gives the profiles of their services by parts of time of `every`
    microseconds. `keys` has the join keys of each service's views."""

    def __init__(self, every: int, keys: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
        self.every, self.keys = every, keys
        self.rows = 0
        self._windows: dict[tuple[str, int], Window] = {}
        self._gathered = Gathered(self._count)

    def take(self, block: ServedBlock) -> None:
        """Count the rows of a block, at the latest when it is `told`."""
        self.rows += block.rows
        self._gathered.take(block)

    def _count(self, block: ServedBlock) -> None:
        service = block.head.service
        for start in sorted({at - at % self.every for at in block.served_at}):
            place = service, start
            if place not in self._windows:
                keys = self.keys.get(service)
                self._windows[place] = Window(start, start + self.every, keys, WholeCounts)
            self._windows[place].take(block)

    def told(self, secret: bytes) -> dict[str, dict[int, Profile]]:
        """The profiles by service and by the begin of their parts."""
        self._gathered.flush()
        made: dict[str, dict[int, Profile]] = {}
        for (service, start), window in self._windows.items():
            if window.rows:
                made.setdefault(service, {})[start] = _profile(window, secret)
        return made


def _profile(window: Window, secret: bytes) -> Profile:
    columns: dict[str, dict[str, Any]] = {}
    for name, by_type in window.columns.items():
        columns[name] = {}
        for kind, counts in by_type.items():
            assert isinstance(counts, WholeCounts)
            columns[name][kind] = counts.told(secret)
    repeats = {
        view: {
            json.dumps(keys): {str(i): int(one.counts[i]) for i in np.flatnonzero(one.counts)}
            for keys, one in by_keys.items()
        }
        for view, by_keys in window.repeats.items()
    }
    return {
        "rows": window.rows, "versions": window.versions, "columns": columns, "repeats": repeats,
    }  # fmt: skip
