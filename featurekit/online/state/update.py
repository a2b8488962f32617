"""Changes states in a store, whole or in blocks; each state changes entirely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featurekit.define.plan import View
from featurekit.online.state.blocks import (
    Moved,
    Patience,
    add_to_blocks,
    is_head,
    open_state,
    written,
)
from featurekit.online.state.splice import splice_of
from featurekit.online.state.state import Event, State
from featurekit.online.store.protocol import Change, Closing, OnlineStore, PendingSteps, finish


def update_states(
    store: OnlineStore,
    view: View,
    keys: Sequence[bytes],
    change: Callable[[int, State], None],
    *,
    create: bool = True,
    whole: Callable[[int, bytes | None], bytes | None] = lambda i, blob: None,
) -> None:
    """Change the states under `keys` by `change`, and write them all at once.

    `change` is given the number of the key and the open state. It is called again where another
    writer was faster. Without `create`, a state that does not exist is left so. `whole` is given
    the number of the key and the bytes there; where it gives the new bytes, the state is not
    opened.
    """

    def changed(blobs: list[bytes | None]) -> dict[bytes, bytes]:
        out: dict[bytes, bytes] = {}
        for i, (key, blob) in enumerate(zip(keys, blobs, strict=True)):
            if blob is None and not create:
                continue
            made = whole(i, blob)
            if made is not None:
                out[key] = made
                continue
            state = open_state(view, key, blob, store.read)
            change(i, state)
            out.update(written(state, key, blob))
        there = dict(zip(keys, blobs, strict=True))
        return {key: value for key, value in out.items() if there.get(key) != value}

    finish(_updating(store, keys, changed))


def add_events(store: OnlineStore, added: Sequence[tuple[View, bytes, list[Event]]]) -> None:
    """Add events to the states under the given keys, all at once (A2)."""
    finish(adding_events(store, added))


def adding_events(
    store: OnlineStore,
    added: Sequence[tuple[View, bytes, list[Event]]],
    *,
    closing: Closing | None = None,
) -> PendingSteps[None]:
    """The steps of `add_events`; the first one changes nothing.

    The last one also ends the push `closing`.
    """

    def changed(blobs: list[bytes | None]) -> dict[bytes, bytes]:
        out: dict[bytes, bytes] = {}
        for (view, key, events), blob in zip(added, blobs, strict=True):
            splice = splice_of(view)
            spliced = None if splice is None else splice.added(blob, events)
            if spliced is not None:
                out[key] = spliced
                continue
            if is_head(blob):
                out |= add_to_blocks(view, key, blob, events, store.read)
                continue
            state = open_state(view, key, blob, store.read)
            state.add(events)
            out |= written(state, key, blob)
        return out

    return _updating(store, [key for _, key, _ in added], changed, closing)


def _updating(
    store: OnlineStore,
    keys: Sequence[bytes],
    change: Change,
    closing: Closing | None = None,
) -> PendingSteps[None]:
    patience = Patience()
    while True:
        with store.open_update(keys, change, closing=closing) as pending:
            yield
            try:
                return pending.result()
            except Moved as moved:
                patience.spend(moved)
