"""An online store in memory; every test of a store runs on it too."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from featurekit.online.store.clock import Clock, given, own_clock, reading, stamp_of, witness
from featurekit.online.store.notes import read_clock
from featurekit.online.store.protocol import (
    Announced,
    Change,
    Closing,
    Guard,
    Health,
    Pending,
    PendingSteps,
    named,
    pushed_key,
)

if TYPE_CHECKING:
    import pyarrow as pa


class MemoryStore:
    """A store in a dict, for notebooks, tests and replays of the past. Threads may share it.
    `clock` sets its time."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        self.values: dict[bytes, bytes] = {}
        self.changing = threading.RLock()
        self.open: dict[tuple[bytes, bytes], Announced] = {}

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`."""
        return [self.values.get(k) for k in keys]

    async def read_async(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`."""
        return self.read(keys)

    def read_at(self, keys: Sequence[bytes], clock: bytes) -> tuple[list[bytes | None], int]:
        """The values of `keys`, and the clock."""
        at = reading(self.now_us(), self._last(clock), witness(self.clock))
        return self.read(keys), at

    async def read_at_async(
        self, keys: Sequence[bytes], clock: bytes
    ) -> tuple[list[bytes | None], int]:
        """The values of `keys`, and the clock."""
        return self.read_at(keys, clock)

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> Pending[None]:
        """Change all of `keys`, when the result is asked for."""
        return Pending(self._update(keys, change, closing))

    def _update(
        self, keys: Sequence[bytes], change: Change, closing: Closing | None
    ) -> PendingSteps[None]:
        yield
        with self.changing:
            for key, value in named(keys, change(self.read(keys))).items():
                if value:
                    self.values[key] = value
                else:
                    self.values.pop(key, None)
        if closing is not None:
            self.close_push(closing.key, closing.token)
            ended = pushed_key(closing.key)
            self.values[ended] = b"%d" % (int(self.values.get(ended, b"0")) + 1)
            if closing.clock is not None:
                self._keep(closing.clock, max(self._last(closing.clock), closing.stamp))

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> None:
        """Change all of `keys`."""
        self.open_update(keys, change, closing=closing).result()

    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values`."""
        self.values.update(values)

    def create(
        self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, guards: Sequence[Guard] = ()
    ) -> list[int]:
        """Set keys that are absent."""
        for guard in guards:
            guard.check(self.read(guard.keys))
        left = []
        for i, (key, value) in enumerate(zip(keys.to_pylist(), values.to_pylist(), strict=True)):
            if key in self.values:
                left.append(i)
            else:
                self.values[key] = value
        return left

    def delete(self, keys: Sequence[bytes]) -> None:
        """Remove keys."""
        for key in keys:
            self.values.pop(key, None)

    def keys(self, prefix: bytes) -> Iterable[bytes]:
        """Every key that begins with `prefix`."""
        return [k for k in list(self.values) if k.startswith(prefix)]

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`."""
        yield list(self.keys(prefix))

    def count(self) -> int:
        """The number of all keys."""
        return len(self.values)

    def sizes(self, keys: Sequence[bytes]) -> list[int]:
        """The bytes of each key and its value."""
        return [len(k) + len(self.values[k]) if k in self.values else 0 for k in keys]

    def delete_if(
        self, keys: Sequence[bytes], guards: Sequence[bytes], values: Sequence[bytes | None]
    ) -> bool:
        """Remove `keys` if `guards` hold `values`."""
        if self.read(guards) != list(values):
            return False
        self.delete(keys)
        return True

    def health(self) -> Health:
        """That nothing is evicted."""
        return Health("memory", 0, "noeviction")

    def now_us(self) -> int:
        """This machine's clock, or what the caller sets."""
        return own_clock() if self.clock is None else self.clock()

    def _last(self, clock: bytes) -> int:
        return read_clock(self.values.get(clock))

    def _keep(self, clock: bytes, stamp: int) -> None:
        self.values[clock] = b"%d" % stamp

    def stamp(self, clock: bytes, *, restart: bool = False) -> int:
        """A stamp of the clock."""
        now, last, own = self.now_us(), self._last(clock), witness(self.clock)
        stamp = stamp_of(now, last, own, restart=restart)
        made = given(stamp, now, last, own, lambda: "this store")
        self._keep(clock, made)
        return made

    def open_push(
        self, key: bytes, also: Sequence[bytes] = (), *, clock: bytes, holder: bytes = b""
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push, when the result is asked for."""
        return Pending(self._open_push(key, also, clock, holder))

    def _open_push(
        self, key: bytes, also: Sequence[bytes], clock: bytes, holder: bytes
    ) -> PendingSteps[tuple[bytes, int, list[bytes | None]]]:
        yield
        with self.changing:
            stamp = self.stamp(clock)
            token = b"%d-%d" % (stamp, len(self.open))
            self.open[key, token] = Announced(token, stamp, self.now_us(), holder)
        return token, stamp, self.read(also)

    def close_push(self, key: bytes, token: bytes) -> None:
        """End the push of `token`."""
        self.open.pop((key, token), None)

    def announced(self, key: bytes) -> list[Announced]:
        """The pushes that are announced under `key`."""
        return [of for (k, _), of in self.open.items() if k == key]

    def settled_until(self, key: bytes, *, clock: bytes) -> int:
        """An instant that is before the stamp of every open or later push of `key`."""
        opened = [of.stamp for of in self.announced(key)]
        return min([self.read_at([], clock)[1], *opened]) - 1

    def close(self) -> None:
        """Nothing: there is no connection to close."""

    async def close_async(self) -> None:
        """Nothing: there is no connection to close."""
