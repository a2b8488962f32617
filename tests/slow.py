"""Marks the slow ones among many cases of one test. `./run test` leaves them out, and `./run test
--thorough` runs them: what each would catch is caught by a case that is left in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_unless(kept: Callable[..., bool], cases: Iterable[Any]) -> list[Any]:
    """The cases as parameters; those that are not `kept` are slow. A tuple is unpacked."""
    made = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        made.append(case if kept(*values) else pytest.param(*values, marks=pytest.mark.slow))
    return made
