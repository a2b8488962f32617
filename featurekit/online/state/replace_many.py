"""Turns the values of many states and the events that a run found into the values with both.

The bytes equal those of `State.replace`, `State.encode` and `sealed`, which define them. A state
that is not read as columns is left to `State`, and so is one that no checksum shows to be whole or
that took an arrival after those of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import pyarrow as pa

from featurekit.core.status import NEVER
from featurekit.define.plan import View
from featurekit.online.state import blocks, row
from featurekit.online.state.decode_many import Blobs, decode_many, decodes
from featurekit.online.state.encode_many import Many, sealed_values
from featurekit.online.state.state import VERSION

_T = TypeVar("_T")
_FAR = 2**61
"""A window that reaches so far back holds every instant."""


class Replacing:
    """What a run found of many entities with an arrival in (after, until], for their states.

    `keys` are those of the states, and `events` what the run found. `plain` marks the entities of
    which a state that holds only these events is not in blocks.
    """

    def __init__(
        self,
        view: View,
        keys: pa.LargeBinaryArray,
        events: Many,
        plain: Any,
        after: int,
        until: int,
    ) -> None:
        self.view, self.keys, self.events, self.plain = view, keys, events, plain
        self.after, self.until = after, until
        self.counts = np.diff(events.starts)
        self.columns = after != NEVER and decodes(view)

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
        if None in values:
            there = np.array([value is not None for value in values])
            for k in np.flatnonzero(plain & ~there).tolist():
                out[k] = self.alone[numbers[k]]
            plain &= there
        if not plain.any():
            return out
        at = np.flatnonzero(plain)
        blobs = Blobs(some(values, at))
        # A state with a later arrival was pushed to meanwhile, or holds an impossible one (S3).
        quick = blobs.whole(some(self.crcs, numbers[at])) & (blobs.newest <= self.until)
        if not quick.all():
            at, blobs = at[quick], blobs.some(quick)
        replaced = self._replaced(numbers[at], blobs)
        if replaced.all() and len(at) == len(out):
            return list(some(self.alone, numbers))
        for k in at[replaced].tolist():
            out[k] = self.alone[numbers[k]]
        if self.columns:
            for form in (row.VERSION, VERSION):
                of = ~replaced & (blobs.versions == form)
                if of.any():
                    self._merge(numbers[at[of]], blobs.some(of), at[of].tolist(), out)
        return out

    def _replaced(self, of: Any, blobs: Blobs) -> Any:
        """Which of the states hold nothing that stays, so that the run's own events are all."""
        newest, comes = blobs.newest, self.events.newest[of]
        if self.after == NEVER:
            return (blobs.versions == row.VERSION) | (blobs.versions == VERSION)
        # A latest row that arrived in the interval is found again, and an earlier one is over where
        # the row that comes outranks it and leads at the horizon, or as soon as the old one does.
        made = (blobs.versions == row.VERSION) & (newest <= comes)
        if not made.any():
            return made
        ts, created = (np.where(made, x, 0) for x in blobs.instants)
        rows = self.events.starts[of]
        single = self.counts[of] == 1
        rows = np.where(single, rows, 0)
        its, arrives = (x[rows] if len(x) else rows for x in (self.events.ts, self.events.created))
        leads = np.maximum(comes - self.view.history_us, np.maximum(ts, created))
        over = single & (its >= ts) & (np.maximum(its, arrives) <= leads)
        some = self.counts[of] > 0
        return made & some & ((created > self.after) | over)

    def _merge(self, of: Any, blobs: Blobs, where: list[int], out: list[bytes | None]) -> None:
        """Put the run's events among those of the states, which all have one form."""
        held = decode_many(self.view, blobs)
        if held is None:
            return
        first, last = int(of[0]), int(of[-1]) + 1
        wanted = np.zeros(last - first, np.bool_)
        wanted[of - first] = True
        merged, plain = _merged(
            self.view, held, self.events.between(first, last).of(wanted), self.after, self.until
        )
        keys, crcs = self.keys.take(pa.array(of)), some(self.crcs, of)
        made = sealed_values(keys, merged.encode(self.view), crcs).to_pylist()
        for k, value, done in zip(where, made, plain.tolist(), strict=True):
            if done:
                out[k] = value


def some(values: Sequence[_T], numbers: Any) -> Sequence[_T]:
    """The values of these numbers, which ascend."""
    if len(numbers) == 0:
        return []
    first, last = int(numbers[0]), int(numbers[-1]) + 1
    if last - first == len(numbers):
        return values[first:last]
    return [values[i] for i in numbers.tolist()]


def _merged(view: View, held: Many, comes: Many, after: int, until: int) -> tuple[Many, Any]:
    """The events of states after a run, and which of the states are as `State` makes them."""
    stays = np.flatnonzero(~((held.created > after) & (held.created <= until)))
    m = len(held.starts) - 1
    entity = np.concatenate([
        np.repeat(np.arange(m), np.diff(held.starts))[stays],
        np.repeat(np.arange(m), np.diff(comes.starts)),
    ])  # fmt: skip
    ts = np.concatenate([held.ts[stays], comes.ts])
    created = np.concatenate([held.created[stays], comes.created])
    # What stays arrived outside the interval and what comes within it, so that T6 never compares
    # their values; the order of each side's own events is kept.
    order = np.lexsort((created, ts, entity))
    entity, ts, created = entity[order], ts[order], created[order]
    plain = np.ones(m, np.bool_)
    newest = np.maximum(held.newest, comes.newest)
    kept = _kept(view, entity, ts, created, newest)
    order, entity = order[kept], entity[kept]
    counts = np.bincount(entity, minlength=m)
    if blocks.splits(view):
        plain &= counts <= blocks.SPLIT
    at = np.concatenate([stays, len(held.ts) + np.arange(len(comes.ts))])[order]
    merged = Many(
        [_both(a, b, at) for a, b in zip(held.slots, comes.slots, strict=True)],
        np.minimum(held.first, comes.first),
        newest,
        ts[kept],
        created[kept],
        np.concatenate([[0], np.cumsum(counts)]),
    )
    return merged, plain


def _both(held: tuple[Any, Any, Any], comes: tuple[Any, Any, Any], at: Any) -> tuple[Any, Any, Any]:
    """A slot's column, from the rows `at` of both columns together."""
    (type_, a, bad_a), (_, b, bad_b) = held, comes
    marks = [
        np.zeros(len(x), np.bool_) if bad is None else bad for x, bad in ((a, bad_a), (b, bad_b))
    ]
    errs = np.concatenate(marks)[at]
    return type_, pa.concat_arrays([a, b]).take(pa.array(at)), errs if errs.any() else None


def _kept(view: View, entity: Any, ts: Any, created: Any, newest: Any) -> Any:
    """The numbers of the events that `State.prune` keeps, of events in the order of T6."""
    if view.kind == "window":
        reach = view.history_us + view.retain_us
        if reach >= _FAR:
            return np.arange(len(ts))
        return np.flatnonzero(ts > newest[entity] - reach)
    visible = np.maximum(ts, created)
    ranked = np.lexsort((visible, entity))
    leads = ranked == np.maximum.accumulate(ranked) if len(ranked) else np.zeros(0, np.bool_)
    ranked = ranked[leads]
    horizon = newest[entity[ranked]] - view.history_us
    # A row is over by the horizon, or never shown, where the next one leads as soon.
    follows = np.zeros(len(ranked), np.bool_)
    follows[:-1] = entity[ranked[1:]] == entity[ranked[:-1]]
    nexts = np.append(visible[ranked[1:]], 0)
    over = follows & ((nexts <= horizon) | (nexts == visible[ranked]))
    return ranked[~over]
