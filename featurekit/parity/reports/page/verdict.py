"""Turns counts into a verdict in a word or two, and the class that colours it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Counts = Mapping[str, Any]
"""What a report, or a part of it, is for `--json`."""


class Verdict(NamedTuple):
    """What is said, and the class of it: good, bad, late, or none."""

    kind: str
    said: str


def verdict(compared: int, differing: int, lagging: int) -> Verdict:
    """What so many values say."""
    if differing:
        return Verdict("bad", f"{differing:,} differ")
    if not compared:
        return Verdict("none", "nothing compared")
    if lagging:
        return Verdict("late", f"{lagging:,} lag behind")
    return Verdict("good", "every bit agrees")


def verdict_of(found: Counts) -> Verdict:
    """What a report, or a feature of it, says."""
    return verdict(found["compared"], found["differing"], found.get("lagging", 0))
