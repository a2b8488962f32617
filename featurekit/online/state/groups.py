"""Turns the blocks of a large state into groups, each with the tallies of all its events.

A group lies between two neighbouring boundaries of its level or more. Every boundary is of level 0,
one in `RADIX` of them of level 1 too, and so on, as its instant alone decides. So a range of blocks
is covered by few groups, and equal sets of events have equal groups (A2). What begins before the
first boundary that the state knows has no group: events are dropped from it as time goes on.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurekit.core.status import FOREVER
from featurekit.online.state.inputs import raw_inputs
from featurekit.online.state.state import Reader

if TYPE_CHECKING:
    from featurekit.aggregates.tallies import Form, Tally
    from featurekit.define.plan import Feature, View

RADIX = 8
TOP = 3
"""The highest level: of some 512 blocks."""

_LENGTH = struct.Struct("<I")
_ID = 8


def height(drawn: int) -> int:
    """One more than the level of a boundary, for the number that its instant has drawn."""
    found = 1
    while found <= TOP and drawn % RADIX == 0:
        drawn, found = drawn // RADIX, found + 1
    return found


class Groups:
    """The groups of some blocks, by number: level after level, and in the order of time.

    `heights` has for each block the height of the boundary at which it ends, 0 where it ends at
    none. The groups of a level below `lowest` are left out.
    """

    def __init__(self, heights: bytes, lowest: int) -> None:
        self.heights, self.n, self.lowest = heights, len(heights), lowest
        self.levels = range(lowest, TOP + 1)
        # For each level the blocks that end at its boundaries, and the number of its first group.
        self.ends: list[list[int]] = []
        self.first: list[int] = []
        self.count = 0
        known: Sequence[int] = range(self.n)
        for level in range(TOP + 1):
            known = [k for k in known if heights[k] > level]
            self.ends.append(known)
            self.first.append(self.count)
            if level >= lowest:
                self.count += max(0, len(known) - 1)

    def span(self, g: int) -> tuple[int, int, int]:
        """The level of group `g`, its first block, and the block after its last one."""
        level = bisect_right(self.first, g) - 1
        at = g - self.first[level]
        return level, self.ends[level][at] + 1, self.ends[level][at + 1] + 1

    @property
    def closed(self) -> bytes:
        """The heights of the blocks up to the last one that ends at a boundary."""
        return self.heights.rstrip(b"\0")

    def name(self, g: int, lasts: Sequence[int]) -> bytes:
        """The name of group `g` of blocks with these last instants: its level, and its own last
        instant."""
        level, _, end = self.span(g)
        return b"%d.%d" % (level, lasts[end - 1])

    def of_block(self, k: int) -> Iterator[int]:
        """The groups that block `k` belongs to."""
        for level in self.levels:
            at = bisect_left(self.ends[level], k)
            if 0 < at < len(self.ends[level]):
                yield self.first[level] + at - 1

    def within(self, g: int) -> list[int]:
        """The groups of the level below that group `g` consists of."""
        level, i, j = self.span(g)
        ends = self.ends[level - 1]
        first = self.first[level - 1]
        return list(range(first + bisect_left(ends, i - 1), first + bisect_left(ends, j - 1)))

    def cover(self, i: int, j: int) -> list[int]:
        """What the blocks from i up to j consist of: blocks by their number, and groups by theirs
        and that of all blocks."""
        parts: list[int] = []
        while i < j:
            part, after = i, i + 1
            for level in reversed(self.levels):
                ends = self.ends[level]
                at = bisect_left(ends, i - 1)
                if at + 1 < len(ends) and ends[at] == i - 1 and ends[at + 1] < j:
                    part, after = self.n + self.first[level] + at, ends[at + 1] + 1
                    break
            parts.append(part)
            i = after
        return parts


# --- what is in a group ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tallied:
    """What a view's groups hold: for each of some features, of which others take the same inputs,
    the tallies of one form."""

    view: View
    entries: Sequence[tuple[Feature, Form]]

    def of_block(self, blob: bytes) -> list[Tally]:
        """The tallies of the events of a block that never end."""
        read = Reader(self.view, blob)
        of_ids, never = read.ends is not None, FOREVER - 1  # then what has not ended never ends
        every = (
            (form, raw_inputs(f, read, 0, read.n, never, late=of_ids)) for f, form in self.entries
        )
        return [form.merged([form.of(raw)]) for form, raw in every]

    def merged(self, parts: Sequence[Sequence[Tally]]) -> list[Tally]:
        """The tallies of all parts together."""
        columns = zip(*parts, strict=True)
        return [
            form.merged(column) for (_, form), column in zip(self.entries, columns, strict=True)
        ]

    def encode(self, digest: bytes, tallies: Sequence[Tally]) -> bytes:
        """The bytes of a group with this digest."""
        made = [form.encode(t) for (_, form), t in zip(self.entries, tallies, strict=True)]
        return digest + b"".join(part for one in made for part in (_LENGTH.pack(len(one)), one))

    def decode(self, blob: bytes | memoryview, index: int) -> Tally:
        """One of the tallies of a group."""
        data, at = memoryview(blob), _ID
        for _ in range(index):
            at += _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        return self.entries[index][1].decode(data[at : at + length])

    def decode_all(self, blob: bytes | memoryview) -> list[Tally]:
        """All tallies of a group."""
        return [self.decode(blob, i) for i in range(len(self.entries))]


# --- groups that change ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """The blocks and groups that a head names: the last instant of each block, the digests of the
    groups side by side, and a function that reads blocks and groups by their numbers."""

    groups: Groups
    lasts: Sequence[int]
    digests: bytes
    read: Callable[[Sequence[int]], Sequence[bytes | memoryview]]


@dataclass(frozen=True, slots=True)
class Made:
    """The digests of all groups side by side, the bytes of those that are new by their names, and
    the names of those that are gone."""

    digests: bytes
    new: dict[bytes, bytes]
    gone: list[bytes]


def make_groups(
    groups: Groups,
    lasts: Sequence[int],
    block_digests: Sequence[bytes],
    new_blocks: dict[int, bytes],
    tallied: Tallied,
    digest: Callable[[bytes], bytes],
    known: Known | None,
) -> Made:
    """The groups of blocks that end with the instants `lasts`. The blocks that are not among the
    `new_blocks` are as they were, and so is a group of such blocks: it is not made again.

    What is in a group follows from its blocks, so its digest is made of theirs.
    """
    changed = {g for k in new_blocks for g in groups.of_block(k)}
    same = {} if known is None else _unchanged(groups, lasts, known)
    if not changed and known is not None and len(same) == groups.count == known.groups.count:
        return Made(known.digests, {}, [])
    for g in changed & same.keys():
        del same[g]
    digests, new = [b""] * groups.count, dict[bytes, bytes]()
    for g, before in same.items():
        assert known is not None
        size = len(known.digests) // known.groups.count
        digests[g] = known.digests[before * size : (before + 1) * size]
    fresh = [g for g in range(groups.count) if g not in same]
    parts = _parts(groups, lasts, new_blocks, tallied, same, fresh, known)
    for g in fresh:
        level, i, j = groups.span(g)
        digests[g] = digest(b"".join(block_digests[i:j]))
        below = range(i, j) if level == groups.lowest else [groups.n + c for c in groups.within(g)]
        parts[groups.n + g] = tallied.merged([parts[part] for part in below])
        new[groups.name(g, lasts)] = tallied.encode(digests[g], parts[groups.n + g])
    gone: list[bytes] = []
    if known is not None:
        left = {*range(known.groups.count)}.difference(same.values())
        gone = [name for g in left if (name := known.groups.name(g, known.lasts)) not in new]
    return Made(b"".join(digests), new, gone)


def _unchanged(groups: Groups, lasts: Sequence[int], known: Known) -> dict[int, int]:
    """The groups that are as they were if none of their blocks is new, and their numbers then."""
    closed, before = groups.closed, known.groups.closed
    if closed == before and list(lasts[: len(closed)]) == list(known.lasts[: len(closed)]):
        return {g: g for g in range(groups.count)}
    found: dict[int, int] = {}
    for level in groups.levels:
        ends, then = groups.ends[level], known.groups.ends[level]
        place = {known.lasts[k]: at for at, k in enumerate(then)}
        for at in range(1, len(ends)):
            was = place.get(lasts[ends[at]], 0)
            # The blocks are among those of then. They are the same if they are as many.
            if (
                was
                and known.lasts[then[was - 1]] == lasts[ends[at - 1]]
                and then[was] - then[was - 1] == ends[at] - ends[at - 1]
            ):
                found[groups.first[level] + at - 1] = known.groups.first[level] + was - 1
    return found


def _parts(
    groups: Groups,
    lasts: Sequence[int],
    new_blocks: dict[int, bytes],
    tallied: Tallied,
    same: dict[int, int],
    fresh: Sequence[int],
    known: Known | None,
) -> dict[int, list[Tally]]:
    """The tallies of which `fresh` groups are made: of blocks, and of groups that are as they were,
    which are read."""
    parts: dict[int, list[Tally]] = {}
    wanted: dict[int, int] = {}
    for g in fresh:
        level, i, j = groups.span(g)
        if level > groups.lowest:
            for c in groups.within(g):
                if c in same and known is not None:
                    wanted[groups.n + c] = known.groups.n + same[c]
            continue
        for k in range(i, j):
            if k in new_blocks:
                parts[k] = tallied.of_block(new_blocks[k])
            elif known is not None:
                wanted[k] = bisect_left(known.lasts, lasts[k])
    if wanted and known is not None:
        for part, blob in zip(wanted, known.read([*wanted.values()]), strict=True):
            if part < groups.n:
                parts[part] = tallied.of_block(bytes(blob))
            else:
                parts[part] = tallied.decode_all(blob)
    return parts
