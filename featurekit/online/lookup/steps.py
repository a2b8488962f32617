"""Runs work that yields the keys whose values it needs, at once or awaited."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from typing import TypeVar

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


def now_of(states: Iterable[bytes | None], n: int) -> list[int]:
    """The instant of a request that names none, once for each of its `n` rows."""
    seen = [newest_arrival(blob) for blob in states if blob is not None]
    return [asked_at(time.time_ns() // 1000, seen)] * n


async def run_async(steps: Steps[_T], read: Callable[[Sequence[bytes]], Awaitable[Values]]) -> _T:
    """Do the work, and await `read` for the values that it needs."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(await read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found
