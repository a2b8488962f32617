"""An online store in memory; every test of a store runs on it too."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from featurekit.online.store.protocol import (
    Change,
    Health,
    Pending,
    PendingSteps,
    named,
    pushed_key,
)

if TYPE_CHECKING:
    import pyarrow as pa


class MemoryStore:
    """A store in a dict, for tests and for replays of the past."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.open: dict[tuple[bytes, bytes], int] = {}

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`."""
        return [self.values.get(k) for k in keys]

    async def read_async(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`."""
        return self.read(keys)

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> Pending[None]:
        """Change all of `keys`, when the result is asked for."""
        return Pending(self._update(keys, change, closing))

    def _update(
        self, keys: Sequence[bytes], change: Change, closing: tuple[bytes, bytes] | None
    ) -> PendingSteps[None]:
        yield
        for key, value in named(keys, change(self.read(keys))).items():
            if value:
                self.values[key] = value
            else:
                self.values.pop(key, None)
        if closing is not None:
            self.close_push(*closing)
            ended = pushed_key(closing[0])
            self.values[ended] = b"%d" % (int(self.values.get(ended, b"0")) + 1)

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> None:
        """Change all of `keys`."""
        self.open_update(keys, change, closing=closing).result()

    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values`."""
        self.values.update(values)

    def create(self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray) -> list[int]:
        """Set keys that are absent."""
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
        return [k for k in self.values if k.startswith(prefix)]

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
        """This machine's clock."""
        return time.time_ns() // 1000

    def open_push(
        self, key: bytes, also: Sequence[bytes] = ()
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push, when the result is asked for."""
        return Pending(self._open_push(key, also))

    def _open_push(
        self, key: bytes, also: Sequence[bytes]
    ) -> PendingSteps[tuple[bytes, int, list[bytes | None]]]:
        yield
        now = self.now_us()
        token = b"%d-%d" % (now, len(self.open))
        self.open[key, token] = now
        return token, now, self.read(also)

    def close_push(self, key: bytes, token: bytes) -> None:
        """End the push of `token`."""
        self.open.pop((key, token), None)

    def settled_until(self, key: bytes) -> int:
        """An instant that is before the stamp of every open or later push of `key`."""
        return min([self.now_us(), *(t for (k, _), t in self.open.items() if k == key)]) - 1

    def close(self) -> None:
        """Nothing: there is no connection to close."""

    async def close_async(self) -> None:
        """Nothing: there is no connection to close."""
