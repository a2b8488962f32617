"""Runs work that yields the keys whose values it needs, at once or awaited."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from featurekit.errors import DamagedState
from featurekit.online.lookup.result import Batch
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.state.blocks import ReadKeys
from featurekit.online.state.state import newest_arrival
from featurekit.online.store.replies import Values

Answers = list[RowAnswer] | Batch
"""The answers for rows: one by one, or many at once."""


def each_row(answers: Answers) -> list[RowAnswer]:
    """The answers, one for each row."""
    return answers.rows() if isinstance(answers, Batch) else answers


LARGE = 64 * 1024
"""The bytes of values of which a coroutine makes answers in a thread: of fewer that takes less than
a millisecond or two."""

_T = TypeVar("_T")
Steps = Generator[Sequence[bytes], Values, _T]
"""Work that yields the keys whose values it needs, so that one text serves threads and
coroutines."""


def run(steps: Steps[_T], read: ReadKeys) -> _T:
    """Do the work; `read` reads the values that it needs."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def asked_at(now: int, arrivals: Sequence[int]) -> int:
    """The one instant of a request (T8). It is never before an arrival that the request has seen,
    even where this machine's clock is behind the store's."""
    return max([now, *arrivals])


Opened = bytes | DamagedState | None
"""A state's bytes without their checksum; the error where they are damaged, None where there are
none."""


def now_of(states: Iterable[Opened], n: int) -> list[int]:
    """The instant of a request that names none, once for each of its `n` rows."""
    seen = [newest_arrival(blob) for blob in states if isinstance(blob, bytes)]
    return [asked_at(time.time_ns() // 1000, seen)] * n


async def run_async(steps: Steps[_T], read: Callable[[Sequence[bytes]], Awaitable[Values]]) -> _T:
    """Do the work, and await `read` for the values that it needs.

    What is made of large values is made in a thread: the loop goes on meanwhile, and is held up by
    no more than the interpreter's turns between threads, five milliseconds by default.
    """
    import asyncio

    try:
        keys = next(steps)
        while True:
            values = await read(keys)
            if type(values) is list and sum(map(len, filter(None, values))) > LARGE:
                made = await asyncio.to_thread(_sent, steps, values)
                if isinstance(made, StopIteration):
                    raise made  # to the end of this function
                keys = made
            else:
                keys = steps.send(values)
    except StopIteration as done:
        found: _T = done.value
        return found


def _sent(steps: Steps[Any], values: Values) -> Sequence[bytes] | StopIteration:
    """What the steps ask for next; the StopIteration where they are done, which no future takes."""
    try:
        return steps.send(values)
    except StopIteration as done:
        return done
