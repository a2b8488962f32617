"""Runs work that yields the keys whose values it needs, at once or awaited."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from featurekit.errors import DamagedState
from featurekit.online.lookup.result import Batch
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.state.blocks import ReadKeys
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.replies import Keys, Values

Answers = list[RowAnswer] | Batch
"""The answers for rows: one by one, or many at once."""


def each_row(answers: Answers) -> list[RowAnswer]:
    """The answers, one for each row."""
    return answers.rows() if isinstance(answers, Batch) else answers


class AtClock:
    """Keys whose values are needed together with the clock, which is then in `now` (S3)."""

    __slots__ = ("clock", "keys", "now")

    def __init__(self, keys: Sequence[bytes], clock: bytes) -> None:
        self.keys, self.clock = keys, clock
        self.now = 0


LARGE = 64 * 1024
"""The bytes of values of which a coroutine makes answers in a thread: of fewer that takes less than
a millisecond or two."""

Opened = bytes | DamagedState | None
"""A state's bytes without their checksum; the error where they are damaged, None where there are
none."""

_T = TypeVar("_T")
Steps = Generator[Sequence[bytes], Values, _T]
"""Work that yields the keys whose values it needs, so that one text serves threads and
coroutines."""
StepsAtClock = Generator[Sequence[bytes] | AtClock, Values, _T]
"""As `Steps`; some values are needed together with the clock."""


def run(steps: Steps[_T], read: ReadKeys) -> _T:
    """Do the work; `read` reads the values that it needs."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found


def run_at(steps: StepsAtClock[_T], store: OnlineStore) -> _T:
    """Do the work, with the values and the clock of `store`."""
    try:
        wanted = next(steps)
        while True:
            if type(wanted) is AtClock:
                values, wanted.now = store.read_at(wanted.keys, wanted.clock)
            else:
                values = store.read(wanted)  # type: ignore[arg-type]
            wanted = steps.send(values)
    except StopIteration as done:
        found: _T = done.value
        return found


Span = Callable[[str], AbstractContextManager[None]]
"""What is told of the parts of a lookup, "redis" and "evaluate", while each goes on."""


async def run_async(steps: StepsAtClock[_T], store: OnlineStore, span: Span | None = None) -> _T:
    """As `run_at`, and await the store; `span` is told of each part.

    What is made of large values is made in a thread: the loop goes on meanwhile, and is held up by
    no more than the interpreter's turns between threads, five milliseconds by default.
    """
    import asyncio

    if span is not None:
        return await _run_told(steps, store, span)
    try:
        wanted = next(steps)
        while True:
            if type(wanted) is AtClock:
                values, wanted.now = await store.read_at_async(wanted.keys, wanted.clock)
            else:
                values = await store.read_async(wanted)  # type: ignore[arg-type]
            if _large(wanted, values):
                made = await asyncio.to_thread(_sent, steps, values)
                if isinstance(made, StopIteration):
                    raise made  # to the end of this function
                wanted = made
            else:
                wanted = steps.send(values)
    except StopIteration as done:
        found: _T = done.value
        return found


async def _run_told(steps: StepsAtClock[_T], store: OnlineStore, span: Span) -> _T:
    """As `run_async`, with a `span` around each part."""
    import asyncio

    with span("evaluate"):
        wanted = _sent(steps, None)
    while not isinstance(wanted, StopIteration):
        with span("redis"):
            if type(wanted) is AtClock:
                values, wanted.now = await store.read_at_async(wanted.keys, wanted.clock)
            else:
                values = await store.read_async(wanted)  # type: ignore[arg-type]
        with span("evaluate"):
            if _large(wanted, values):
                wanted = await asyncio.to_thread(_sent, steps, values)
            else:
                wanted = _sent(steps, values)
    found: _T = wanted.value
    return found


def _large(wanted: Sequence[bytes] | AtClock, values: Values) -> bool:
    """Whether what is made of the values is made in a thread."""
    keys = wanted.keys if type(wanted) is AtClock else wanted
    if type(keys) is Keys and keys.plain:
        return False
    return sum(map(len, filter(None, values))) > LARGE


def _sent(
    steps: StepsAtClock[Any], values: Values | None
) -> Sequence[bytes] | AtClock | StopIteration:
    """What the steps ask for next, or first, without values; the StopIteration where they are done,
    which no future takes."""
    try:
        return next(steps) if values is None else steps.send(values)
    except StopIteration as done:
        return done
