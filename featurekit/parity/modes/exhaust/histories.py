"""Counts and makes every history of a few events: which events, and in which order they arrive.

An event is one of `kinds`: an instant, a value and what else tells events apart. A history is a
sequence of them, in the order of arrival; the k-th one arrives at the k-th instant of `ARRIVALS`.
So the histories of up to n events are as many as the digits of all numbers to the base `kinds`:
1 + kinds + kinds² + … + kindsⁿ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SECOND = 1_000_000
BASE = (1_704_067_200 - 4) * SECOND
"""Four seconds before 2024. Every instant of a history lies a few seconds after it: the second one
is the midnight itself, and a multiple of the hops."""

INSTANTS = (BASE, BASE + 4 * SECOND, BASE + 10 * SECOND)
"""When events happen."""

ARRIVALS = (BASE + 2 * SECOND, BASE + 4 * SECOND, BASE + 7 * SECOND, BASE + 11 * SECOND)
"""When the first, the second … of a history arrives. An event of the last instant that arrives
first lies ahead, one of the first instant that arrives last is late, and one arrives as it
happens."""

MOST = len(ARRIVALS)
"""A history has at most so many events."""


@dataclass(frozen=True, slots=True)
class Histories:
    """The histories of up to `most` events, each of one of `kinds`, by number: those of fewer
    events come first."""

    kinds: int
    most: int

    @property
    def number(self) -> int:
        """How many there are, counted one length after the other."""
        return sum(self.kinds**n for n in range(self.most + 1))

    @property
    def closed_form(self) -> int:
        """How many there must be: the sum of a geometric series."""
        if self.kinds == 1:
            return self.most + 1
        return int(self.kinds ** (self.most + 1) - 1) // (self.kinds - 1)

    @property
    def formula(self) -> str:
        """The closed form, for people."""
        return f"({self.kinds}^{self.most + 1} - 1) / {self.kinds - 1}"

    def events(self, number: int) -> tuple[int, ...]:
        """The kinds of the events of a history, in the order of arrival."""
        n = 0
        while number >= self.kinds**n:
            number -= self.kinds**n
            n += 1
        digits = []
        for _ in range(n):
            number, digit = divmod(number, self.kinds)
            digits.append(digit)
        return tuple(digits[::-1])

    def part(self, shard: int, shards: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The numbers and events of the histories of one of `shards` shards. They are dealt out,
        so each shard has histories of every length."""
        for number in range(shard, self.number, shards):
            yield number, self.events(number)
