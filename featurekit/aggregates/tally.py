"""What an aggregate asks of a tally, which stands for many inputs; see `aggregates.tallies`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

TallyKind = Literal["values", "counts", "buckets", "codes"]


class Tally(Protocol):
    """The keys of inputs, and how often each occurs."""

    @property
    def keys(self) -> Any:
        """The keys, as an array."""
        ...

    def distinct(self) -> int:
        """How many distinct inputs; -0.0 and 0.0 are one."""
        ...

    def ordered(self) -> Sequence[Any]:
        """The inputs in their order, or their buckets."""
        ...

    def counted(self, ends: int | None = None) -> list[tuple[Any, int]]:
        """The inputs by value with their counts, -0.0 before 0.0, NaN last; one input may stand
        there several times in succession. With `ends`, the first so many rows or, where it is
        negative, the last."""
        ...

    def ranked(self, k: int | None = None) -> dict[Any, int]:
        """The distinct inputs with their counts, by count descending, then by value, NaN last; the
        first `k` of them. -0.0 is counted as 0.0."""
        ...
