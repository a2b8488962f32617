"""Turns an online store into one that writes only while its guards hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from featurekit.online.store.clock import Clock
from featurekit.online.store.protocol import (
    Announced,
    Change,
    Closing,
    Guard,
    Health,
    OnlineStore,
    Pending,
)
from featurekit.online.store.replies import Values

if TYPE_CHECKING:
    import pyarrow as pa


class Fenced:
    """A store each of whose writes happens only if a guard holds at that moment, which the store
    itself decides. Otherwise nothing is written, and what the guard raises is raised.

    The guard's keys are read and watched together with the keys that change, so this takes no
    further round trip. Announcements of pushes are not guarded.
    """

    def __init__(self, store: OnlineStore, guard: Guard) -> None:
        self.store, self.guard = store, guard
        self.clock: Clock | None = store.clock

    def check(self) -> None:
        """Raises what the guard raises, where it does not hold now."""
        self.guard.check(self.store.read(self.guard.keys))
        if isinstance(self.store, Fenced):
            self.store.check()

    # --- what is guarded --------------------------------------------------------------------------

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> Pending[None]:
        """As the store's, guarded."""
        n, unchanged = len(keys), [None] * len(self.guard.keys)

        def guarded(values: list[bytes | None]) -> list[bytes | None] | dict[bytes, bytes]:
            self.guard.check(values[n:])
            changed = change(values[:n])
            return changed if isinstance(changed, dict) else [*changed, *unchanged]

        return self.store.open_update([*keys, *self.guard.keys], guarded, closing=closing)

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> None:
        """As the store's, guarded."""
        self.open_update(keys, change, closing=closing).result()

    def write(self, values: dict[bytes, bytes]) -> None:
        """As the store's, guarded."""
        if values:
            self.update([], lambda _: values)

    def create(
        self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, guards: Sequence[Guard] = ()
    ) -> list[int]:
        """As the store's, guarded."""
        return self.store.create(keys, values, [self.guard, *guards])

    def delete(self, keys: Sequence[bytes]) -> None:
        """As the store's, guarded."""
        if keys:
            self.update([], lambda _: dict.fromkeys(keys, b""))

    def delete_if(
        self, keys: Sequence[bytes], guards: Sequence[bytes], values: Sequence[bytes | None]
    ) -> bool:
        """As the store's, guarded."""
        had = False

        def change(found: list[bytes | None]) -> dict[bytes, bytes]:
            nonlocal had
            had = found == list(values)
            return dict.fromkeys(keys, b"") if had else {}

        self.update(guards, change)
        return had

    # --- what is as it was ------------------------------------------------------------------------

    def read(self, keys: Sequence[bytes]) -> Values:
        """As the store's."""
        return self.store.read(keys)

    def read_at(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """As the store's."""
        return self.store.read_at(keys, clock)

    async def read_at_async(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """As the store's."""
        return await self.store.read_at_async(keys, clock)

    async def read_async(self, keys: Sequence[bytes]) -> Values:
        """As the store's."""
        return await self.store.read_async(keys)

    def keys(self, prefix: bytes) -> Iterable[bytes]:
        """As the store's."""
        return self.store.keys(prefix)

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """As the store's."""
        return self.store.scan(prefix)

    def count(self) -> int:
        """As the store's."""
        return self.store.count()

    def sizes(self, keys: Sequence[bytes]) -> list[int]:
        """As the store's."""
        return self.store.sizes(keys)

    def health(self) -> Health:
        """As the store's."""
        return self.store.health()

    def now_us(self) -> int:
        """As the store's."""
        return self.store.now_us()

    def stamp(self, clock: bytes, *, restart: bool = False) -> int:
        """As the store's."""
        return self.store.stamp(clock, restart=restart)

    def open_push(
        self, key: bytes, also: Sequence[bytes] = (), *, clock: bytes, holder: bytes = b""
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """As the store's."""
        return self.store.open_push(key, also, clock=clock, holder=holder)

    def close_push(self, key: bytes, token: bytes) -> None:
        """As the store's."""
        self.store.close_push(key, token)

    def announced(self, key: bytes) -> list[Announced]:
        """As the store's."""
        return self.store.announced(key)

    def settled_until(self, key: bytes, *, clock: bytes) -> int:
        """As the store's."""
        return self.store.settled_until(key, clock=clock)

    def close(self) -> None:
        """As the store's."""
        self.store.close()

    async def close_async(self) -> None:
        """As the store's."""
        await self.store.close_async()
