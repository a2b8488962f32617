"""Turns a change of a state into the keys to write; of a state in blocks it reads only the blocks
that change."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from featurekit.core.status import NEVER
from featurekit.define.plan import View
from featurekit.online.state import blocks
from featurekit.online.state.blocks import (
    Block,
    BlocksHead,
    Layout,
    ReadKeys,
    block_key,
    boundary,
    cut,
    encode_head,
    is_head,
    layout_of,
    make_block,
    open_state,
    read_blocks,
    splits,
)
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
    old = BlocksHead(layout, blob) if is_head(blob) else None
    return _written(state, key, layout, old, made)


def _written(
    state: State, key: bytes, layout: Layout, old: BlocksHead | None, made: list[Block] | None
) -> dict[bytes, bytes]:
    """As `written`. Where the state is split into the blocks `made`, only the two instants of
    `state` are read."""
    out: dict[bytes, bytes] = {}
    left = set() if made is None else {block.number for block in made}
    gone: dict[bytes, bytes] = {}
    if old is not None:
        gone = {old.name(k): old.digest(k) for k in range(old.n) if k not in left}
    if made is None:
        out[key] = state.encode()
    else:
        instants = state.first_visible, state.newest_arrival
        out[key] = encode_head(layout, *instants, made, old)
        for block in made:
            if block.blob is None:
                continue  # it is one of the old head
            closed = block is not made[-1] or boundary(block.last)
            name = b"%d" % block.last if closed else b"open"
            if gone.pop(name, None) != block.digest:
                out[block_key(key, name)] = block.blob
    return out | {block_key(key, name): b"" for name in gone}


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
    state = State(view, head.first_visible, max(head.newest_arrival, newest))
    for event in events:
        state.note(event)
    after = _Change(head, state, rows, events).blocks(
        lambda wanted: read_blocks(read, key, head, wanted)
    )
    if sum(block.count for block in after) > blocks.SPLIT:
        return _written(state, key, layout, head, after)
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
        changing = {k for k, due in enumerate(head.lasting.due()) if due <= newest}
        changing |= self.going.keys()
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
            parts, carried = list(cut(events)), []
            if k < n and parts and not boundary(parts[-1][-1][0]):
                carried = parts.pop()
            after += [make_block(self.head.layout, part) for part in parts]
        return after

    def _left(self, k: int, blob: bytes | None) -> list[Event]:
        """The events of block `k` afterwards; `blob` has those that are there."""
        held = [] if blob is None else decode_state(self.view, blob).events
        held = without(self.view, held, self.going.get(k, ()))
        if k in self.coming:
            held = sorted([*held, *self.coming[k]], key=self.order)
        newest = self.state.newest_arrival
        gone = [e for e in held if self.due(e) <= newest]
        if not gone:
            return held
        if self.view.dedupe_us is not None:
            self.state.let_go(gone)
        return [e for e in held if self.due(e) > newest]
