"""What an online store must do, and calls in two halves between which the caller works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from featurekit.online.store.clock import Clock
from featurekit.online.store.replies import Values

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")
PendingSteps = Generator[None, None, _T]
"""A call in steps: it yields where it has sent a request and would wait for the reply."""


class Pending(Generic[_T]):
    """A call of a store in two halves. The first step is done when this object is made; then the
    caller works while the store does, and `result` does the rest.

    As a context manager: where the block ends without the result, the rest is never done, and a
    connection with an unread reply is closed.
    """

    def __init__(self, steps: PendingSteps[_T]) -> None:
        self._steps = steps
        self._found: tuple[_T] | None = None
        self._failed: BaseException | None = None
        next(steps)

    def result(self) -> _T:
        """The result of the call. A second time it gives the same result, or raises the same
        error."""
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
    """Do all steps that are left, and return the result."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        found: _T = done.value
        return found


class Closing(NamedTuple):
    """An announced push that ends with a write: its key and its token. Where its rows were stamped,
    the key of the last stamp, which the write leaves at `stamp` or later (S3)."""

    key: bytes
    token: bytes
    clock: bytes | None = None
    stamp: int = 0


Change = Callable[[list[bytes | None]], list[bytes | None] | dict[bytes, bytes]]
"""A function from the values of some keys to their new values. None leaves a key as it is, b""
removes it.

A dict names the keys that change. It may name keys that were not read, if these only ever change
together with one that was.
"""


class Lasting(bytes):
    """A value that the store lets go of by itself, once it was kept for `seconds`. One in memory
    keeps it for as long as it lives itself."""

    seconds: int

    def __new__(cls, value: bytes, seconds: int) -> Lasting:
        """The value with its time."""
        made = super().__new__(cls, value)
        made.seconds = seconds
        return made


def named(
    keys: Sequence[bytes], changed: list[bytes | None] | dict[bytes, bytes]
) -> dict[bytes, bytes]:
    """The new values that a `Change` gave, by key."""
    if isinstance(changed, dict):
        return changed
    return {k: v for k, v in zip(keys, changed, strict=True) if v is not None}


class Announced(NamedTuple):
    """A push that is announced: its token, the stamp of its rows, the server's time at which it was
    announced, in microseconds, and who announced it."""

    token: bytes
    stamp: int
    since: int
    holder: bytes


class Guard(Protocol):
    """What must hold at the moment of a write, as the values of `keys` then say."""

    @property
    def keys(self) -> Sequence[bytes]:
        """The keys that are watched and read."""
        ...

    def check(self, values: Sequence[bytes | None]) -> None:
        """Raises where the guard does not hold, given the values of its keys."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """What a server says of itself: the id of its present run, how many keys it has evicted in it,
    and its policy for full memory. A field is None where the server does not tell."""

    run: str | None
    evicted: int | None
    policy: str | None


def pushed_key(pushes: bytes) -> bytes:
    """The key that counts the pushes that ended, for the `pushes` that are under way."""
    return pushes + b":ended"


class OnlineStore(Protocol):
    """Bytes under keys. Every method raises StoreUnavailable where the store cannot be reached.

    Where a method takes `clock`, it is the key of a last stamp (`core.keys.clock_key`). The clock
    is the server's time, or the last stamp where that is later (S3).
    """

    clock: Clock | None
    """Says the server's time, where the caller of a scratch store sets it; None for the server's
    own."""

    def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`, None for absent ones, in one round trip."""
        ...

    async def read_async(self, keys: Sequence[bytes]) -> Values:
        """As `read`, without blocking the event loop."""
        ...

    def read_at(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """As `read`, and what the clock said just before, in one round trip."""
        ...

    async def read_at_async(self, keys: Sequence[bytes], clock: bytes) -> tuple[Values, int]:
        """As `read_at`, without blocking the event loop."""
        ...

    def open_update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> Pending[None]:
        """Change all of `keys` at once or not at all. The push `closing` ends with it, and is
        counted under `pushed_key`.

        The first half asks for the values of `keys`, and the second one changes them. So nothing
        changes where the result is not asked for. `change` is called again where another writer was
        faster, and must have no effects.
        """
        ...

    def update(
        self, keys: Sequence[bytes], change: Change, *, closing: Closing | None = None
    ) -> None:
        """Both halves of `open_update`."""
        ...

    def write(self, values: dict[bytes, bytes]) -> None:
        """Set all of `values` at once."""
        ...

    def create(
        self, keys: pa.LargeBinaryArray, values: pa.LargeBinaryArray, guards: Sequence[Guard] = ()
    ) -> list[int]:
        """Set those of many `keys` that are absent, in groups, and return the numbers of keys that
        were not set.

        A group is set as a whole or not at all. Where one of its keys was there, the numbers of all
        its keys are returned. A group is set only if the `guards` hold at that moment; what they
        raise is raised.
        """
        ...

    def delete(self, keys: Sequence[bytes]) -> None:
        """Remove keys; absent ones are no error."""
        ...

    def keys(self, prefix: bytes) -> Iterable[bytes]:
        """Every key that begins with `prefix`."""
        ...

    def scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        """The keys that begin with `prefix`, in batches, which may be empty. A key that comes or
        goes meanwhile may be among them, and a key may come twice."""
        ...

    def count(self) -> int:
        """The number of all keys."""
        ...

    def sizes(self, keys: Sequence[bytes]) -> list[int]:
        """The bytes that each key takes up together with its value; 0 for absent keys."""
        ...

    def delete_if(
        self, keys: Sequence[bytes], guards: Sequence[bytes], values: Sequence[bytes | None]
    ) -> bool:
        """Remove `keys` at once, if `guards` have `values` at that moment. It returns whether they
        had."""
        ...

    def now_us(self) -> int:
        """The server's time, in microseconds since the epoch; see `read_at` for the clock."""
        ...

    def stamp(self, clock: bytes, *, restart: bool = False) -> int:
        """A stamp of the clock, below which no later one is.

        ClocksApart where the clock of the store or of this machine, or the last stamp, cannot be
        right. With `restart`, a last stamp that cannot be right is left behind.
        """
        ...

    def health(self) -> Health:
        """What the server says of itself, in one round trip."""
        ...

    def open_push(
        self, key: bytes, also: Sequence[bytes] = (), *, clock: bytes, holder: bytes = b""
    ) -> Pending[tuple[bytes, int, list[bytes | None]]]:
        """Announce a push of `holder` under `key`. The result is its token, the stamp of its rows
        (T3), and the values of `also` after the announcement, in one round trip. ClocksApart as for
        `stamp`.

        The push may be announced as soon as this is called, even where the result is not asked for.
        """
        ...

    def close_push(self, key: bytes, token: bytes) -> None:
        """End the push of `token`, if it is open: either all of it can be seen now, or none of it
        ever will be."""
        ...

    def announced(self, key: bytes) -> list[Announced]:
        """The pushes that are announced under `key`, oldest first."""
        ...

    def settled_until(self, key: bytes, *, clock: bytes) -> int:
        """An instant that is before the stamp of every open or later push of `key`."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...

    async def close_async(self) -> None:
        """Close the connections that `read_async` opened in this event loop."""
        ...
