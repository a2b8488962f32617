"""Splits a large state into blocks: a head under the state's key, and events under keys beside it.

A block ends with the events of an instant that is a *boundary*: about one instant in `SIZE`, chosen
by a fixed function. So the events alone decide which of them share a block, as they decide every
byte of a state (A2), and an event that comes or goes changes only the head and its own block. The
head has the instants and a digest of each block, and the running sums over all blocks that the
view's aggregates need. So a lookup reads two blocks for a window, its first and its last, however
many events lie between.

Where a source has ids, an event may still end or be replaced. That changes its own block, wherever
it lies, and `lasting` says what else a head then holds of a block.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeGuard

from featurekit.aggregates.sums import FIELDS, ZERO, Scaled, SumField, Sums, reduced, sums_of
from featurekit.aggregates.tally import TallyKind
from featurekit.core.kept import Kept
from featurekit.core.status import NEVER_VISIBLE
from featurekit.core.types import INT, Type
from featurekit.define.plan import Feature, View
from featurekit.online.state import groups
from featurekit.online.state.codec import decode_column, encode_column
from featurekit.online.state.inputs import inputs, item_type
from featurekit.online.state.lasting import (
    Lasting,
    LastingColumns,
    encode_lasting,
    lasting_of,
    lasts,
)
from featurekit.online.state.seal import damaged, opened_view
from featurekit.online.state.state import HEADER, Event, Reader, State, decode_state
from featurekit.online.store.replies import Values

VERSION = 4
_OLDER = 2
"""The version of heads before 0.3. They are read, and the next push writes them anew."""
SPLIT = 1024
"""A state of more events than this is split into blocks."""
SIZE = 256
"""The number of events in a block, about."""

_MASK = 2**64 - 1
_COUNT = struct.Struct("<I")
_RUNNING = struct.Struct("<hH")
_DIGEST = 8
_TRIES = 10
_IN_OLDER = frozenset(("Count", "Sum", "Mean", "Variance", "StdDev", "Min", "Max", "First", "Last"))
"""The aggregates for which older heads hold something."""

ReadKeys = Callable[[Sequence[bytes]], Values]
"""Reads keys of an online store."""


class Moved(Exception):
    """The blocks are not those of the head, since another writer was faster. Read both again."""

    def __init__(self, head: BlocksHead, key: bytes, name: bytes) -> None:
        super().__init__(
            f"block {name.decode()} of the state under {key.decode(errors='backslashreplace')} is "
            "not as its head says"
        )
        self.view, self.key, self.head = head.layout.view, key, digest(head.data)


class Patience:
    """Limits how often a state is read again whose blocks are not those of its head."""

    def __init__(self) -> None:
        self.spent: Counter[bytes] = Counter()

    def spend(self, moved: Moved) -> None:
        """Allow one more try. DamagedState where the head stayed the same for many tries, so that
        no other writer can be the cause."""
        self.spent[moved.head] += 1
        if self.spent[moved.head] >= _TRIES:
            how = (
                f"{moved}, though no writer of featurekit changes it: something else removed or "
                "changed it, as an eviction policy of Redis does (featurekit needs "
                "maxmemory-policy noeviction)"
            )
            raise damaged(moved.view, moved.key, how) from moved


@contextmanager
def in_blocks_of(size: int) -> Iterator[None]:
    """Let states that are written meanwhile lie in blocks of about `size` events, however few they
    have, and the blocks in groups of about two. A check does so, to see blocks where there are few
    events; who reads a state needs to know nothing of it."""
    global SPLIT, SIZE
    kept = SPLIT, SIZE, groups.RADIX
    SPLIT, SIZE, groups.RADIX = 1, size, 2
    try:
        yield
    finally:
        SPLIT, SIZE, groups.RADIX = kept


def splits(view: View) -> bool:
    """Whether large states of the view are split into blocks."""
    return view.kind == "window"


def is_head(blob: bytes | None) -> TypeGuard[bytes]:
    """Whether these bytes are the head of a state in blocks."""
    return blob is not None and blob[0] in (VERSION, _OLDER)


def block_key(key: bytes, name: bytes) -> bytes:
    """The key of block `name` of the state under `key`, in the same cluster slot."""
    feature_store, project, _, rest = key.split(b":", 3)
    return b":".join((feature_store, project, b"block", rest)) + b"/" + name


def head_key(key: bytes) -> bytes | None:
    """The key of the state that a block's key belongs to; None where `key` is not a block's."""
    feature_store, project, kind, rest = key.split(b":", 3)
    if kind != b"block":
        return None
    return b":".join((feature_store, project, b"state", rest.rpartition(b"/")[0]))


def boundary(ts: int) -> bool:
    """Whether a block ends after the events of an instant: a pseudo-random choice that never
    changes."""
    return _drawn(ts) % SIZE == 0


def _drawn(ts: int) -> int:
    mixed = (ts & _MASK) * 0xBF58476D1CE4E5B9 & _MASK
    mixed = (mixed ^ mixed >> 31) * 0x94D049BB133111EB & _MASK
    return mixed ^ mixed >> 29


def _height(ts: int) -> int:
    """The height of the boundary at an instant; 0 where none is."""
    drawn, rest = divmod(_drawn(ts), SIZE)
    return 0 if rest else groups.height(drawn)


# --- what a head holds of a block -----------------------------------------------------------------


class Layout:
    """What the heads of a view hold for each block, sums and chosen inputs, and what its groups
    hold, tallies.

    It says of which slots they are, under which condition, and which features they are enough for.
    `sums_of`, `choice_of` and `tally_of` have the place of each feature's entry. `counts_of` is
    that of the sums which count the inputs of a feature that the events at one end decide.
    """

    def __init__(self, view: View, version: int = VERSION) -> None:
        self.view, self.version = view, version
        # By slot and condition: the fields that features need, and the first of these features.
        fields: dict[_Of, set[SumField]] = {}
        summed: dict[_Of, Feature] = {}
        chosen: dict[tuple[object, ...], Feature] = {}
        self.sums_of: list[int | None] = []
        self.counts_of: list[int | None] = []
        self.choice_of: list[int | None] = []
        self.tally_of, self.tallies = _tallies(view, version)
        for feature in view.features if splits(view) else ():
            aggregate = feature.implementation()
            held = version == VERSION or feature.aggregate in _IN_OLDER
            of: _Of = (feature.slot, feature.where)
            of += (True,) if aggregate.keeps_none else ()  # it counts other inputs
            sums, counts, choice = None, None, None
            if feature.cuts:
                # How many events each block has that are kept says how many blocks to read.
                if held and feature.frame is not None and feature.frame.rows is not None:
                    of = (None, feature.where)
                    summed.setdefault(of, _rows_of(feature))
                    fields.setdefault(of, set()).update(_COUNTED)
                    counts = list(summed).index(of)
                self.sums_of.append(None)
                self.counts_of.append(counts)
                self.choice_of.append(None)
                continue
            adds: tuple[SumField, ...] = aggregate.adds if aggregate.suffice is None else _COUNTED
            if held and adds:
                summed.setdefault(of, feature)
                fields.setdefault(of, set()).update(adds)
                place = list(summed).index(of)
                sums, counts = (place, None) if aggregate.suffice is None else (None, place)
            elif held and aggregate.chooses:
                named = (feature.aggregate, feature.params, *of)
                chosen.setdefault(named, feature)
                choice = list(chosen).index(named)
            self.sums_of.append(sums)
            self.counts_of.append(counts)
            self.choice_of.append(choice)
        self.sums = [
            (feature, tuple(f for f in FIELDS if f in fields[of])) for of, feature in summed.items()
        ]
        self.chosen = list(chosen.values())

    @functools.cached_property
    def tallied(self) -> groups.Tallied | None:
        """What the groups hold; None where there are none."""
        if not self.tallies:
            return None
        from featurekit.aggregates.tallies import Form

        every = [(f, kind, item_type(self.view, f, f.implementation())) for f, kind in self.tallies]
        return groups.Tallied(self.view, [(f, Form(kind, item)) for f, kind, item in every])

    @functools.cached_property
    def lowest(self) -> int:
        """The least level of groups: 0 where the inputs of a block take long to tally."""
        slots = [self.view.slots[f.slot].type for f, _ in self.tallies if f.slot is not None]
        hashed = any(kind == "codes" for _, kind in self.tallies)
        return 0 if hashed or any(t.name in ("str", "bytes") for t in slots) else 1

    @functools.cached_property
    def older(self) -> Layout:
        """The layout of older heads."""
        return Layout(self.view, _OLDER)

    def enough(self, feature: int) -> bool:
        """Whether the head alone answers a feature over whole blocks."""
        return self.sums_of[feature] is not None or self.choice_of[feature] is not None

    def chosen_type(self, index: int) -> Type:
        """The type of a chosen input, or of an instant."""
        feature = self.chosen[index]
        if feature.implementation().of_instants:
            return INT
        assert feature.slot is not None
        return self.view.slots[feature.slot].type


layout_of = Kept(Layout)


def _tallies(view: View, version: int) -> tuple[list[int | None], list[tuple[Feature, TallyKind]]]:
    """The place of each feature's tally, and of each tally a feature and its kind. One of counts
    serves features that only need the values."""
    kinds: dict[tuple[object, ...], tuple[Feature, TallyKind]] = {}
    places: list[int | None] = []
    for feature in view.features if splits(view) else ():
        kind = feature.implementation().tallies if version == VERSION else None
        kind = None if feature.cuts else kind
        if kind is None:
            places.append(None)
            continue
        keys = kind in ("values", "counts")
        of = (feature.slot, feature.where, None if keys else kind)
        if of not in kinds or kind == "counts":
            kinds[of] = feature, kind
        places.append(list(kinds).index(of))
    return places, list(kinds.values())


def _rows_of(feature: Feature) -> Feature:
    """The count of the events that a feature's condition keeps."""
    return Feature("", INT, None, aggregate="Count", where=feature.where)


_Of = tuple[int | None, ...]
"""The slot of a feature, that of its condition, and True where inputs that are None count."""
_COUNTED: tuple[SumField, ...] = ("count",)


@dataclass(slots=True)
class Block:
    """What a head holds of a block: its first and last instant, its newest arrival, its number of
    events, how they last, the digest of its bytes, and the view's sums and chosen inputs over the
    events that never end. `height` is that of the boundary at which it ends, in a view with groups.
    `blob` has the bytes of a new block. A block of a head has its `number` there instead, and its
    sums are left in the head."""

    first: int
    last: int
    newest: int
    count: int
    lasting: Lasting
    digest: bytes
    sums: tuple[Sums, ...]
    chosen: tuple[Any, ...]
    height: int
    blob: bytes | None = None
    number: int = -1


def make_block(layout: Layout, events: list[Event]) -> Block:
    """The block that holds `events`, which stand in the order of T6."""
    newest = max(e[1] for e in events)
    view, lasting = layout.view, lasting_of(layout.view, events)
    blob = State(view, NEVER_VISIBLE, newest, events).encode()
    summed = blob
    if lasting.number < len(events):
        summed = State(view, NEVER_VISIBLE, newest, [e for e in events if lasts(view, e)]).encode()
    read = Reader(view, summed)

    def of(feature: Feature, over: Callable[[Any, Any], Any]) -> Any:
        aggregate = feature.implementation()
        values = inputs(feature, aggregate, read, 0, read.n, newest, late=False)
        return over(values, item_type(view, feature, aggregate))

    sums = tuple(of(feature, partial(sums_of, fields=fields)) for feature, fields in layout.sums)
    chosen = tuple(of(feature, feature.implementation().over) for feature in layout.chosen)
    first, last = events[0][0], events[-1][0]
    high = _height(last) if layout.tallies else 0
    return Block(first, last, newest, len(events), lasting, digest(blob), sums, chosen, high, blob)


def digest(blob: bytes | memoryview) -> bytes:
    """The digest by which a head knows the bytes of a block."""
    return hashlib.blake2b(blob, digest_size=_DIGEST).digest()


def cut(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events of each block in turn; `events` stand in the order of T6."""
    part: list[Event] = []
    for ts, same in groupby(events, key=itemgetter(0)):
        part += same
        if boundary(ts):
            yield part
            part = []
    if part:
        yield part


# --- heads ----------------------------------------------------------------------------------------


class Running:
    """A column of running sums, from which the sum over any range of blocks follows."""

    def __init__(self, data: memoryview, at: int, n: int) -> None:
        self.exponent, self.width = _RUNNING.unpack_from(data, at)
        at += _RUNNING.size
        self.end = at + n * self.width
        self.data = data[at : self.end]

    def _until(self, k: int) -> int:
        end = k * self.width
        return int.from_bytes(self.data[end - self.width : end], "little", signed=True)

    def between(self, i: int, j: int) -> Scaled:
        """The sum over the blocks from i up to j."""
        if not self.width:
            return ZERO
        whole = self._until(j) - (self._until(i) if i else 0)
        return reduced(whole, self.exponent)

    def all(self) -> list[int]:
        """The running sums, one for each block, in the column's unit."""
        width, data = self.width, bytes(self.data)
        ends = range(width, len(data) + 1, width) if width else ()
        return [int.from_bytes(data[end - width : end], "little", signed=True) for end in ends]


def running(fresh: Sequence[Scaled], runs: Sequence[range | None], old: Running | None) -> bytes:
    """The column of the running sums over blocks, which are new ones and those of `runs`.

    A run has the numbers of blocks in the `old` column, and None stands for the next of the
    `fresh` values. All sums are written with one exponent, the greatest that fits, and each takes
    as many bytes as the longest needs.
    """
    known = [] if old is None else old.all()
    exponents = [exponent for whole, exponent in fresh if whole]
    low = min([*exponents, *([old.exponent] if old is not None and known else [])], default=0)
    if old is not None and old.exponent > low:
        known = [total << (old.exponent - low) for total in known]
    values, total, totals = iter(fresh), 0, list[int]()
    for run in runs:
        if run is None:
            whole, exponent = next(values)
            total += whole << (exponent - low) if whole else 0
            totals.append(total)
        elif known:
            moved = total - (known[run.start - 1] if run.start else 0)
            part = known[run.start : run.stop]
            totals += [one + moved for one in part] if moved else part
            total = totals[-1]
        else:
            totals += [total] * len(run)
    return _packed(totals, low)


def _packed(totals: list[int], exponent: int) -> bytes:
    """The column of these running sums."""
    bits = 0
    for total in totals:
        bits |= total
    if not bits:
        return _RUNNING.pack(0, 0)
    # The zeros at the end of all sums are those at the end of every block's sum.
    zeros = (bits & -bits).bit_length() - 1
    if zeros:
        totals = [total >> zeros for total in totals]
    width = max(max(totals).bit_length(), min(totals).bit_length()) // 8 + 1
    numbers = [total.to_bytes(width, "little", signed=True) for total in totals]
    return _RUNNING.pack(exponent + zeros, width) + b"".join(numbers)


class BlocksHead:
    """The head of a state in blocks, read as a lookup needs it."""

    def __init__(self, layout: Layout, blob: bytes) -> None:
        self.version = blob[0]
        self.layout = layout = layout if self.version == layout.version else layout.older
        self.data = memoryview(blob)
        _, self.first_visible, self.newest_arrival, self.events = HEADER.unpack_from(blob)
        (n,) = _COUNT.unpack_from(blob, HEADER.size)
        self.n: int = n
        at = HEADER.size + _COUNT.size
        self.first = self.data[at : at + 8 * n].cast("q")
        self.last = self.data[at + 8 * n : at + 16 * n].cast("q")
        self.newest = self.data[at + 16 * n : at + 24 * n].cast("q")
        at += 24 * n
        self.counts = self.data[at : at + 4 * n].cast("I")
        self.digests = self.data[at + 4 * n : at + (4 + _DIGEST) * n]
        at += (4 + _DIGEST) * n
        self.lasting = LastingColumns(layout.view, self.data, at, self.first, self.counts)
        at = self.lasting.end
        self.sums: list[list[tuple[SumField, Running]]] = []
        for _, fields in layout.sums:
            columns = []
            for field in fields:
                column = Running(self.data, at, n)
                columns.append((field, column))
                at = column.end
            self.sums.append(columns)
        self.groups: groups.Groups | None = None
        self.of_groups = b""
        if layout.tallies:
            self.groups = groups.Groups(bytes(self.data[at : at + n]), layout.lowest)
            at += n
            self.of_groups = bytes(self.data[at : at + _DIGEST * self.groups.count])
            at += _DIGEST * self.groups.count
        self._chosen_at = at
        self._chosen: list[Any] = []

    def sums_between(self, index: int, i: int, j: int) -> Sums:
        """The sums of entry `index` of the layout, over the blocks from i up to j."""
        return Sums(**{field: column.between(i, j) for field, column in self.sums[index]})

    def number(self, index: int, k: int) -> int:
        """The number of inputs in block `k`, of entry `index` of the layout's sums."""
        return Sums(self.sums[index][0][1].between(k, k + 1)).number

    def chosen(self, index: int) -> Any:
        """The inputs that an aggregate chose, one for each block; None where a block has no
        input."""
        while len(self._chosen) <= index:
            type_ = self.layout.chosen_type(len(self._chosen))
            column, _, self._chosen_at = decode_column(type_, self.data, self._chosen_at, self.n)
            self._chosen.append(column)
        return self._chosen[index]

    @property
    def parts(self) -> int:
        """How many blocks and groups there are; groups have the numbers after the blocks."""
        return self.n if self.groups is None else self.n + self.groups.count

    def name(self, k: int) -> bytes:
        """The name of block or group `k`. A block's is its last instant, or `open` for a last block
        that does not end at a boundary, where later events may follow."""
        if k >= self.n:
            assert self.groups is not None
            return self.groups.name(k - self.n, self.last)
        last = self.last[k]
        return b"%d" % last if k < self.n - 1 or boundary(last) else b"open"

    def digest(self, k: int) -> bytes:
        """The digest of block or group `k`."""
        if k >= self.n:
            return self.of_groups[_DIGEST * (k - self.n) : _DIGEST * (k - self.n + 1)]
        return bytes(self.digests[_DIGEST * k : _DIGEST * (k + 1)])

    def blocks(self) -> list[Block]:
        """What the head holds of every block, but for its sums."""
        chosen = [self.chosen(i) for i in range(len(self.layout.chosen))]
        digests = bytes(self.digests)
        columns = zip(
            self.first.tolist(),
            self.last.tolist(),
            self.newest.tolist(),
            self.counts.tolist(),
            self.lasting.every(),
            [digests[at : at + _DIGEST] for at in range(0, len(digests), _DIGEST)],
            itertools.repeat(()),
            zip(*chosen, strict=True) if chosen else itertools.repeat(()),
            itertools.repeat(0) if self.groups is None else self.groups.heights,
            itertools.repeat(None),
            range(self.n),
            strict=False,
        )
        return [Block(*values) for values in columns]


def encode_head(
    layout: Layout,
    first_visible: int,
    newest_arrival: int,
    blocks: Sequence[Block],
    old: BlocksHead | None = None,
    of_groups: bytes = b"",
) -> bytes:
    """The bytes of the head of a state that consists of `blocks`, new ones and those of the `old`
    head, and whose groups have these digests."""
    n = len(blocks)
    parts = [
        HEADER.pack(layout.version, first_visible, newest_arrival, sum(b.count for b in blocks)),
        _COUNT.pack(n),
        struct.pack(f"<{n}q", *(b.first for b in blocks)),
        struct.pack(f"<{n}q", *(b.last for b in blocks)),
        struct.pack(f"<{n}q", *(b.newest for b in blocks)),
        struct.pack(f"<{n}I", *(b.count for b in blocks)),
        *(b.digest for b in blocks),
        encode_lasting(layout.view, [b.lasting for b in blocks]),
    ]
    runs, new = _runs(blocks), [b for b in blocks if b.number < 0]
    runs_of_old = len(new) < n
    for i, (_, fields) in enumerate(layout.sums):
        before = dict(old.sums[i]) if runs_of_old and old is not None else {}
        for field in fields:
            fresh = [getattr(b.sums[i], field) for b in new]
            parts.append(running(fresh, runs, before.get(field)))
    if layout.tallies:
        parts += [bytes(b.height for b in blocks), of_groups]
    for i in range(len(layout.chosen)):
        parts.append(encode_column(layout.chosen_type(i), [b.chosen[i] for b in blocks]))
    return b"".join(parts)


def _runs(blocks: Sequence[Block]) -> list[range | None]:
    """The blocks of an older head as runs of their numbers there, and None for each new one."""
    runs: list[range | None] = []
    start = end = 0
    for block in blocks:
        k = block.number
        if start < end == k:
            end += 1
            continue
        if start < end:
            runs.append(range(start, end))
        if k < 0:
            runs.append(None)
        start, end = k, k + (k >= 0)
    return [*runs, range(start, end)] if start < end else runs


def checked(head: BlocksHead, key: bytes, k: int, blob: bytes | None) -> bytes:
    """The bytes of block `k` of the state under `key`. Moved where their digest is not the one in
    the head."""
    if blob is None or digest(blob) != head.digest(k):
        raise Moved(head, key, head.name(k))
    return blob


def checked_group(head: BlocksHead, key: bytes, k: int, blob: bytes | None) -> memoryview:
    """As `checked`, for a group. Its checksum tells that it is whole, and the digest in front that
    it is of these blocks."""
    group = None if blob is None else opened_view(block_key(key, head.name(k)), blob)
    if group is None or group[:_DIGEST] != head.digest(k):
        raise Moved(head, key, head.name(k))
    return group


def read_parts(
    read: ReadKeys, key: bytes, head: BlocksHead, wanted: Sequence[int]
) -> list[bytes | memoryview]:
    """The bytes of the `wanted` blocks and groups. Moved as in `checked`."""
    found = read([block_key(key, head.name(k)) for k in wanted])
    return [
        (checked if k < head.n else checked_group)(head, key, k, blob)
        for k, blob in zip(wanted, found, strict=True)
    ]


def read_blocks(read: ReadKeys, key: bytes, head: BlocksHead, wanted: Sequence[int]) -> list[bytes]:
    """The bytes of the `wanted` blocks. Moved as in `checked`."""
    found = read([block_key(key, head.name(k)) for k in wanted]) if wanted else []
    return [checked(head, key, k, blob) for k, blob in zip(wanted, found, strict=True)]


# --- states ---------------------------------------------------------------------------------------


def open_state(view: View, key: bytes, blob: bytes | None, read: ReadKeys) -> State:
    """The whole state. `blob` is the value under its key: a state, a head or None. Moved as in
    `read_blocks`."""
    if blob is None:
        return State(view)
    if not is_head(blob):
        return decode_state(view, blob)
    head = BlocksHead(layout_of(view), blob)
    blocks = read_blocks(read, key, head, range(head.n))
    events = [event for b in blocks for event in decode_state(view, b).events]
    return State(view, head.first_visible, head.newest_arrival, events)


def state_keys(view: View, key: bytes, blob: bytes | None) -> list[bytes]:
    """Every key of a state: its own, and those of its blocks and groups. `blob` is the value under
    its own key."""
    if not is_head(blob):
        return [key]
    head = BlocksHead(layout_of(view), blob)
    return [key, *(block_key(key, head.name(k)) for k in range(head.parts))]
