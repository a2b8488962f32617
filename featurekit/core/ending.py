"""Keeps what is to be done before this process ends, however it ends but by a kill."""

from __future__ import annotations

import atexit
from collections.abc import Callable

End = Callable[[], object]

_ends: list[End] = []


def at_end(end: End) -> None:
    """Have `end` called before the process ends: by Python at its exit, or by `run_ends`."""
    atexit.register(end)
    _ends.append(end)


def not_at_end(end: End) -> None:
    """Take `at_end` back."""
    atexit.unregister(end)
    if end in _ends:
        _ends.remove(end)


def run_ends() -> None:
    """Call what `at_end` was given, the last first, where the process ends without Python's exit.

    What libraries have Python call at its exit is left out: they let go of what other threads,
    which run on, may be using.
    """
    while _ends:
        _ends.pop()()
