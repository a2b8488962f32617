"""What an online store must do, and its calls in two halves, between which the caller works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from featurekit.online.store.replies import Values

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")
PendingSteps = Generator[None, None, _T]
"""A call in steps: it yields where it has asked the store for something and would wait for it."""


class Pending(Generic[_T]):
    """A call of a store in two halves: its first step is done when this is made, so that its caller
    may work while the store does, and `result` does the rest.

    It is a context: where that is left without the result, the rest is never done, and a connection
    with a reply that was not read is closed.
    """

    def __init__(self, steps: PendingSteps[_T]) -> None:
        self._steps = steps
        self._found: tuple[_T] | None = None
        self._failed: BaseException | None = None
        next(steps)

    def result(self) -> _T:
        """What the call comes to; the same, or the same error, whenever it is asked for."""
        if self._failed is not None:
            raise self._failed
        if self._found is None:
            try:
                self._found = (finish(self._steps),)
            except BaseException as error:
                self._failed = error
                raise
        return self._found[0]

    def __enter__(self) -> Pending[_T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._steps.close()
        if self._found is None and self._failed is None:
            self._failed = RuntimeError("the result is asked for after its context was left")


def finish(steps: PendingSteps[_T]) -> _T:
    """Do all steps that are left, and give what they come to."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        found: _T = done.value
        return found


Change = Callable[[list[bytes | None]], list[bytes | None] | dict[bytes, bytes]]
"""From the values of some keys to their new values; None leaves a key as it is, b"" removes it.

A dict names the keys that change; there may be others among them, which only ever change together
with one of those that were read.
"""


def named(
    keys: Sequence[bytes], changed: list[bytes | None] | dict[bytes, bytes]
) -> dict[bytes, bytes]:
    """What a `Change` gave, by key."""
    if isinstance(changed, dict):
        return changed
    return {k: v for k, v in zip(keys, changed, strict=True) if v is not None}


class OnlineStore(Protocol):
    """Bytes under keys. Every method raises StoreUnavailable where the store cannot be reached."""

    def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`, None for absent ones, in one round trip."""
        ...

    async def read_async(self, keys: Sequence[bytes]) -> Values:
        """As `read`; the event loop goes on meanwhile."""
        ...

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> Pending[None]:
        """Change all of `keys` at once or not at all; with it ends the push `closing`, its key and
        token. The first half asks for the values of `keys`, the second one changes them, so that
        nothing is changed where its result is not asked for. `change` may be called again where
        another writer was faster, and must not have effects."""
        ...

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: tuple[bytes, bytes] | None = None
    ) -> None:
        """Both halves of `open_update`."""
        ...

    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values` at once."""
        ...

    def create(self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray) -> list[int]:
        """Set keys that are absent, many, a group of them at once or not at all; the numbers of the
        keys in groups where one was there: they are as they were."""
        ...

    def delete(self, keys: Sequence[bytes]) -> None:
        """Remove keys; absent ones are no error."""
        ...

    def keys(self, prefix: bytes) -> Iterable[bytes]:
        """Every key that begins with `prefix`."""
        ...

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`, some at a time, perhaps none; one that comes or goes
        meanwhile may be among them, and one may come twice."""
        ...

    def count(self) -> int:
        """The number of all keys."""
        ...

    def sizes(self, keys: Sequence[bytes]) -> list[int]:
        """The bytes that each key takes up with its value; 0 for absent ones."""
        ...

    def delete_if(
        self, keys: Sequence[bytes], guards: Sequence[bytes], values: Sequence[bytes | None]
    ) -> bool:
        """Remove `keys` at once if `guards` hold `values` as it happens; whether they did."""
        ...

    def now_us(self) -> int:
        """The store's clock, in microseconds since the epoch."""
        ...

    def open_push(
        self, key: bytes, also: Sequence[bytes] = ()
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push under `key`; its token, the instant that stamps its rows (T3), and the
        values of `also` as they are after that, in one round trip. Once this is called the push may
        be announced, whether the result is asked for or not."""
        ...

    def close_push(self, key: bytes, token: bytes) -> None:
        """The push of `token` is over, if it was not: all of it is to be seen, or none of it ever
        will."""
        ...

    def settled_until(self, key: bytes) -> int:
        """An instant that every open or later push of `key` is stamped after."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...

    async def close_async(self) -> None:
        """Let go of what `read_async` has opened in this event loop."""
        ...
