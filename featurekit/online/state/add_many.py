"""Turns the values of many states and events that come to them into the values with both.

The bytes equal those of `State.add`, `State.encode` and `sealed`, which define them. What is not
told by the head of a state of one row is left to `State`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from featurekit.define.plan import View
from featurekit.online.state import row
from featurekit.online.state.decode_many import Blobs
from featurekit.online.state.encode_many import Many, sealed_values
from featurekit.online.state.replace_many import some


class Adding:
    """Events that come to the states of many entities of a view of latest rows.

    `keys` are those of the states. `plain` marks the entities of which a state that holds only
    these events is as `events` encodes it.
    """

    def __init__(self, view: View, keys: pa.LargeBinaryArray, events: Many, plain: Any) -> None:
        self.view, self.keys, self.events, self.plain = view, keys, events, plain

    @functools.cached_property
    def names(self) -> list[bytes]:
        """The keys, one by one."""
        found: list[bytes] = self.keys.to_pylist()
        return found

    @functools.cached_property
    def crcs(self) -> list[int]:
        """The checksums of the keys."""
        return list(map(crc32, self.names))

    @functools.cached_property
    def sealed(self) -> pa.LargeBinaryArray:
        """The value of each state that holds these events alone."""
        return sealed_values(self.keys, self.events.encode(self.view), self.crcs)

    @functools.cached_property
    def alone(self) -> list[bytes]:
        """As `sealed`, one by one."""
        found: list[bytes] = self.sealed.to_pylist()
        return found

    def values(self, numbers: Any, values: Sequence[bytes | None]) -> list[bytes | None]:
        """The new value of the state of each of the entities `numbers`, which ascend; `values` are
        there now. None where the state has to be opened."""
        out: list[bytes | None] = [None] * len(values)
        plain = self.plain[numbers]
        there = np.array([value is not None for value in values], np.bool_)
        for k in np.flatnonzero(plain & ~there).tolist():
            out[k] = self.alone[numbers[k]]
        single = np.diff(self.events.starts)[numbers] == 1
        at = np.flatnonzero(plain & there & single)
        if not len(at):
            return out
        blobs = Blobs(some(values, at))
        read = blobs.whole(some(self.crcs, numbers[at])) & (blobs.versions == row.VERSION)
        if not read.all():
            at, blobs = at[read], blobs.some(read)
        if not len(at):
            return out
        of = numbers[at]
        rows = self.events.starts[of]
        its, comes = self.events.ts[rows], self.events.newest[of]
        ts, newest = blobs.instants[0], blobs.newest
        # A row that has happened by the newest arrival leads over every earlier one from there on.
        for k in at[(its > ts) & (its <= comes) & (newest <= comes)].tolist():
            out[k] = self.alone[numbers[k]]
        for k in at[(its < ts) & (ts <= newest) & (comes <= newest)].tolist():
            out[k] = values[k]
        return out
