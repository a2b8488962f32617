"""Turns messages that are delivered at least once into pushes that are taken once, by number.

A run is some messages of one part of a stream that follow one another. It is pushed under a key:
the part, and the number and the digest of the first message. What is noted with the key is where
the run ended. So whoever is given the messages again, in runs that end elsewhere, finds how far the
first run went, and goes on from there: runs that were taken never overlap. A member that was cut
off and goes on with what it holds finds the same.

The digest tells the messages of a topic from those of a later one of the same name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.feed.once import Key, once
from featurekit.feed.push import take
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class TakenRun:
    """All messages of a number less than `end` are taken; `set_aside` of them are by this call."""

    end: int
    set_aside: int = 0


def take_run(
    project: Project, source: str, first: str, numbers: Sequence[int], rows: Sequence[Any]
) -> TakenRun:
    """Push `rows`, of the messages of these numbers, unless a run that began with the message
    `first` was pushed before: then all that it had is taken, and nothing else is.

    StoreUnavailable where another member is at the same run and does not end; errors of `rows` as
    of a push.
    """
    end = numbers[-1] + 1
    with once(project, project.source(source), Key(first, str(end))) as work:
        before = work.claimed
        if before is not None:
            work.key = Key(first, before)
            mine = None if int(before) > end else rows[: bisect_left(numbers, int(before))]
            work.look(mine)
            if work.again is not None:
                return TakenRun(int(before))
            work.key = Key(first, str(end))  # the claim came to nothing
        return TakenRun(end, take(project, source, rows, work).quarantined)
