"""Changes states in a store, whole or in blocks; each state changes entirely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

from featurekit.define.plan import View
from featurekit.errors import DamagedState
from featurekit.online.state.blocks import Moved, Patience, is_head, open_state
from featurekit.online.state.rewrite import change_blocks, written
from featurekit.online.state.seal import (
    UNREADABLE,
    opened_state,
    opened_states,
    refuse_unsealed,
    sealed,
    sealed_by,
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
    quick: Callable[[Sequence[bytes | None]], Sequence[bytes | None]] | None = None,
    lost: Callable[[int, DamagedState], bool] | None = None,
) -> None:
    """Change the states under `keys` by `change`, and write them all at once.

    `change` is given the number of the key and the open state. It is called again where another
    writer was faster. Without `create`, a state that does not exist is left so. `quick` is given
    the values under all keys, and gives new ones, sealed; where it gives None, the state is opened.

    For a damaged state `lost` is asked, given its number and the error, whether it is written anew,
    as if it had not existed. Otherwise it is left as it is. Without `lost` the error is raised.
    """
    broken: dict[bytes, DamagedState] = {}

    def made(i: int, key: bytes, blob: bytes | None) -> dict[bytes, bytes]:
        state = open_state(view, key, blob, store.read)
        change(i, state)
        return written(state, key, blob)

    def remade(i: int, key: bytes, value: bytes | None) -> dict[bytes, bytes]:
        if key in broken:
            raise broken[key]
        blob = opened_state(view, key, value)
        try:
            return made(i, key, blob)
        except UNREADABLE as error:
            refuse_unsealed(view, key, value, error)
            raise

    def changed(blobs: list[bytes | None]) -> dict[bytes, bytes]:
        found = quick(blobs) if quick is not None else [None] * len(keys)
        out = {
            key: made
            for key, made, value in zip(keys, found, blobs, strict=True)
            if made is not None and made != value
        }
        for i in [i for i, made in enumerate(found) if made is None]:
            key, value = keys[i], blobs[i]
            if value is None and not create:
                continue
            try:
                new = remade(i, key, value)
            except DamagedState as error:
                if lost is None:
                    raise
                if not lost(i, error):
                    continue
                new = made(i, key, None)
            new[key] = sealed(key, new[key])
            out |= {k: v for k, v in new.items() if k != key or v != value}
        return out

    finish(updating(store, keys, changed, broken=None if lost is None else broken))


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

    def made(view: View, key: bytes, blob: bytes | None, events: list[Event]) -> dict[bytes, bytes]:
        if is_head(blob):
            return change_blocks(view, key, blob, events, store.read)
        state = open_state(view, key, blob, store.read)
        state.add(events)
        return written(state, key, blob)

    views, keys = [view for view, _, _ in added], [key for _, key, _ in added]
    crcs = list(map(crc32, keys))
    splices = [splice_of(view) for view in views]

    def changed(blobs: list[bytes | None]) -> dict[bytes, bytes]:
        out: dict[bytes, bytes] = {}
        held = opened_states(views, keys, blobs, crcs)
        for i, ((view, key, events), splice) in enumerate(zip(added, splices, strict=True)):
            try:
                spliced = None if splice is None else splice.added(held[i], events)
                if spliced is not None:
                    out[key] = sealed_by(crcs[i], spliced)
                    continue
                new = made(view, key, held[i], events)
            except UNREADABLE as error:
                refuse_unsealed(view, key, blobs[i], error)
                raise
            new[key] = sealed(key, new[key])
            out |= new
        return out

    return updating(store, keys, changed, closing)


def updating(
    store: OnlineStore,
    keys: Sequence[bytes],
    change: Change,
    closing: Closing | None = None,
    *,
    broken: dict[bytes, DamagedState] | None = None,
) -> PendingSteps[None]:
    """The steps of a change. A state whose blocks stay other than its head says is damaged: with
    `broken` it is noted there, for `change`."""
    patience = Patience()
    while True:
        with store.open_update(keys, change, closing=closing) as pending:
            yield
            try:
                return pending.result()
            except Moved as moved:
                try:
                    patience.spend(moved)
                except DamagedState as error:
                    if broken is None:
                        raise
                    broken[error.key] = error
