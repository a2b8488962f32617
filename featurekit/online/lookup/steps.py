"""Work that yields the keys whose values it needs, and who reads them, at once or awaited."""

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
"""What rows are answered, row by row or many at once."""


def each_row(answers: Answers) -> list[RowAnswer]:
    """Answers row by row."""
    return answers.rows() if isinstance(answers, Batch) else answers


_T = TypeVar("_T")
Steps = Generator[Sequence[bytes], Values, _T]
"""Work that yields keys where it needs their values: however they are read, the rest is one."""


def run(steps: Steps[_T], read: ReadKeys) -> _T:
    """Do the work, with `read` for what it needs."""
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
    """The one instant of a request (T8); never before an arrival that it has already seen, however
    far this machine's clock lags behind the store's."""
    return max([now, *arrivals])


def now_of(states: Iterable[bytes | None], n: int) -> list[int]:
    """The instant of a request of `n` rows that names none, for each of them."""
    seen = [newest_arrival(blob) for blob in states if blob is not None]
    return [asked_at(time.time_ns() // 1000, seen)] * n


async def run_async(steps: Steps[_T], read: Callable[[Sequence[bytes]], Awaitable[Values]]) -> _T:
    """Do the work, waiting for `read`."""
    try:
        keys = next(steps)
        while True:
            keys = steps.send(await read(keys))
    except StopIteration as done:
        found: _T = done.value
        return found
