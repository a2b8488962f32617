"""Waits until something holds, or says for how long it did not."""

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
    """Ask again, every so often, until an answer holds; that answer.

    After `within_s` what `or_say` makes of the last answer is raised; without it that answer, which
    does not hold, is given back.
    """
    begun = time.monotonic()
    while not holds(answer := ask()):
        if time.monotonic() - begun > within_s:
            if or_say is None:
                return answer
            raise or_say(answer)
        time.sleep(every_s)
    return answer
