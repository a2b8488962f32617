"""Turns a change of a state into the keys to write; of a state in blocks it reads only the blocks
that change."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter

from featurekit.core.status import NEVER
from featurekit.define.plan import View
from featurekit.online.state import blocks, groups
from featurekit.online.state.blocks import (
    Block,
    BlocksHead,
    Layout,
    ReadKeys,
    block_key,
    boundary,
    cut,
    digest,
    encode_head,
    is_head,
    layout_of,
    make_block,
    open_state,
    read_blocks,
    read_parts,
    splits,
)
from featurekit.online.state.seal import sealed
from featurekit.online.state.state import (
    Event,
    State,
    decode_state,
    due_of,
    event_order,
    without,
)


def written(state: State, key: bytes, blob: bytes | None) -> dict[bytes, bytes]:
    """The keys to write where `state` replaces the state whose value under `key` is `blob`, with
    their new values; b"" removes a key."""
    view = state.view
    made = None
    large = splits(view) and len(state.events) > blocks.SPLIT
    if not large and not is_head(blob):
        return {key: state.encode()}
    layout = layout_of(view)
    if large:
        made = [make_block(layout, part) for part in cut(state.events)]
    old = BlocksHead(layout, blob) if is_head(blob) else None  # it gives no block, but its names
    return _written(state, key, layout, old, made)


def _written(
    state: State,
    key: bytes,
    layout: Layout,
    old: BlocksHead | None,
    made: list[Block] | None,
    read: ReadKeys | None = None,
) -> dict[bytes, bytes]:
    """As `written`. Where the state is split into the blocks `made`, only the two instants of
    `state` are read. `read` reads what is left of its groups, where not all blocks are new."""
    out: dict[bytes, bytes] = {}
    left = set() if made is None else {block.number for block in made}
    gone: dict[bytes, bytes] = {}
    if old is not None:
        gone = {old.name(k): old.digest(k) for k in range(old.n) if k not in left}
    if made is None:
        out[key] = state.encode()
        if old is not None:
            gone |= {old.name(k): b"" for k in range(old.n, old.parts)}
    else:
        instants = state.first_visible, state.newest_arrival
        new_groups = _groups(layout, key, old, made, read)
        out[key] = encode_head(layout, *instants, made, old, new_groups.digests)
        for name, group in new_groups.new.items():
            of_group = block_key(key, name)
            out[of_group] = sealed(of_group, group)
        out |= {block_key(key, name): b"" for name in new_groups.gone}
        for block in made:
            if block.blob is None:
                continue  # it is one of the old head
            closed = block is not made[-1] or boundary(block.last)
            name = b"%d" % block.last if closed else b"open"
            if gone.pop(name, None) != block.digest:
                out[block_key(key, name)] = block.blob
    return out | {block_key(key, name): b"" for name in gone}


def _groups(
    layout: Layout,
    key: bytes,
    old: BlocksHead | None,
    made: Sequence[Block],
    read: ReadKeys | None,
) -> groups.Made:
    """The groups of the blocks `made`, of which the new ones have their bytes."""
    if layout.tallied is None:
        return groups.Made(b"", {}, [])
    known = None
    if old is not None and old.groups is not None:

        def of_old(wanted: Sequence[int]) -> list[bytes | memoryview]:
            assert read is not None
            assert old is not None
            return read_parts(read, key, old, wanted)

        known = groups.Known(old.groups, old.last, old.of_groups, of_old)
    return groups.make_groups(
        groups.Groups(bytes(block.height for block in made), layout.lowest),
        [block.last for block in made],
        [block.digest for block in made],
        {k: block.blob for k, block in enumerate(made) if block.blob is not None},
        layout.tallied,
        digest,
        known,
    )


def change_blocks(
    view: View,
    key: bytes,
    blob: bytes,
    events: Sequence[Event],
    read: ReadKeys,
    *,
    rows: Sequence[Event] = (),
    newest: int = NEVER,
) -> dict[bytes, bytes]:
    """As `State.settle` followed by `written`, for a state in blocks whose head is `blob`; without
    `rows` as `State.add`. Only the blocks that change are read."""
    layout = layout_of(view)
    head = BlocksHead(layout, blob)
    if head.version == blocks.VERSION:
        state = State(view, head.first_visible, max(head.newest_arrival, newest))
        for event in events:
            state.note(event)
        after = _Change(head, state, rows, events).blocks(
            lambda wanted: read_blocks(read, key, head, wanted)
        )
        if sum(block.count for block in after) > blocks.SPLIT:
            return _written(state, key, layout, head, after, read)
    whole = open_state(view, key, blob, read)
    whole.settle(rows, events, newest)
    return written(whole, key, blob)


class _Change:
    """A change of a state in blocks: `rows` go and `events` come. `state` has the instants that the
    state has afterwards, and takes note of what it drops."""

    def __init__(
        self, head: BlocksHead, state: State, rows: Iterable[Event], events: Iterable[Event]
    ) -> None:
        self.head, self.state, self.view = head, state, state.view
        self.order, self.due = event_order(self.view), due_of(self.view)
        self.going = self._by_block(rows)
        self.coming = self._by_block(events)
        newest, oldest = state.newest_arrival, state.horizon - self.view.retain_us
        self.pruned = {k for k, due in enumerate(head.lasting.due()) if due <= newest}
        changing = self.pruned | self.going.keys()
        # Of a source without ids nothing has to be known of blocks before every window.
        self.gone: set[int] = set()
        if self.view.dedupe_us is None:
            self.gone = {k for k in changing if k < head.n and head.last[k] <= oldest}
        self.changing = (changing | self.coming.keys()) - self.gone - {head.n}

    def _by_block(self, events: Iterable[Event]) -> dict[int, list[Event]]:
        """The events by the number of the block that they belong to; `head.n` for a new block at
        the end."""
        found: dict[int, list[Event]] = {}
        closed = boundary(self.head.last[-1])
        for event in events:
            k = bisect_left(self.head.last, event[0])
            found.setdefault(k - 1 if k == self.head.n and not closed else k, []).append(event)
        return found

    def blocks(self, read: Callable[[list[int]], list[bytes]]) -> list[Block]:
        """What the head holds of every block afterwards; `read` gives the bytes of blocks."""
        n, after = self.head.n, list[Block]()
        held = dict(zip(sorted(self.changing), read(sorted(self.changing)), strict=True))
        known = self.head.blocks()
        # Events whose block has lost its end: they belong to the next one.
        carried: list[Event] = []
        for k in range(n + 1):
            if k in self.gone or (k == n and not carried and k not in self.coming):
                continue
            if k < n and k not in self.changing and not carried:
                after.append(known[k])
                continue
            if k < n and k not in held:
                (held[k],) = read([k])
            events = carried + self._left(k, held.get(k))
            instants = {event[0] for event in self.coming.get(k, ())}
            parts, carried = _cut(events, instants | {events[-1][0]} if events else instants), []
            if k < n and parts and not boundary(parts[-1][-1][0]):
                carried = parts.pop()
            after += [make_block(self.head.layout, part) for part in parts]
        return after

    def _left(self, k: int, blob: bytes | None) -> list[Event]:
        """The events of block `k` afterwards; `blob` has those that are there."""
        held = [] if blob is None else decode_state(self.view, blob).events
        if k in self.going:
            held = without(self.view, held, self.going[k])
        if k in self.pruned:
            held = self._kept(held)
        coming = self._kept(self.coming.get(k, []))
        if len(coming) > _FEW:
            return sorted([*held, *coming], key=self.order)
        for event in coming:
            insort(held, event, key=self.order)
        return held

    def _kept(self, events: list[Event]) -> list[Event]:
        """The events that the state keeps."""
        newest = self.state.newest_arrival
        kept = [e for e in events if self.due(e) > newest]
        if len(kept) < len(events) and self.view.dedupe_us is not None:
            self.state.let_go([e for e in events if self.due(e) <= newest])
        return kept


_FEW = 8
"""So many events or fewer are put into a block one by one."""


def _cut(events: list[Event], instants: set[int]) -> list[list[Event]]:
    """As `cut`, where no event of another instant than these ends a block. Of some of the instants
    there may be no event left."""
    parts, at = [], 0
    for ts in sorted(ts for ts in instants if boundary(ts)):
        end = bisect_right(events, ts, key=itemgetter(0))
        if at < end and events[end - 1][0] == ts:
            parts.append(events[at:end])
            at = end
    return [*parts, events[at:]] if at < len(events) else parts
