"""Waits until a condition holds, or reports that it did not hold in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    ask: Callable[[], T],
    *,
    holds: Callable[[T], object] = bool,
    within_s: float,
    every_s: float,
    or_say: Callable[[T], Exception] | None = None,
) -> T:
    """Calls `ask` every `every_s` seconds until its answer `holds`; returns that answer.

    After `within_s` it raises the error that `or_say` makes of the last answer; without `or_say` it
    returns that answer, although it does not hold.
    """
    begun = time.monotonic()
    while not holds(answer := ask()):
        if time.monotonic() - begun > within_s:
            if or_say is None:
                return answer
            raise or_say(answer)
        time.sleep(every_s)
    return answer
