"""How much a parity check may take: so many values, or so long."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from featurekit.core.durations import duration_us
from featurekit.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Budget:
    """`values` to compare, or `seconds` to go on for; exactly one of them is given.

    With values a check is reproducible: its seed decides every question. With seconds it asks the
    same questions in the same order, as many as the machine can.
    """

    values: int | None = None
    seconds: float | None = None

    def clock(self) -> Clock:
        """The budget, from now on."""
        return Clock(self, time.monotonic())


@dataclass(frozen=True, slots=True)
class Clock:
    """A budget that is being used up since `began`."""

    budget: Budget
    began: float

    @property
    def taken(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def left(self, values: int) -> bool:
        """Whether anything is left after so many values."""
        if self.budget.values is not None:
            return values < self.budget.values
        assert self.budget.seconds is not None
        return self.taken < self.budget.seconds


def parse_budget(text: str) -> Budget:
    """The budget that a number of values ("100000", "1_000_000") or a duration ("30s", "5m") says.

    DefinitionError for anything else, and for nothing.
    """
    if re.fullmatch(r"[0-9][0-9_]*", text):
        values = int(text.replace("_", ""))
        if values < 1:
            raise DefinitionError("budget: 0 values compare nothing; write a positive number")
        return Budget(values=values)
    try:
        return Budget(seconds=duration_us(text, what="budget") / 1e6)
    except DefinitionError as error:
        raise DefinitionError(
            f'{error}; a budget is also a number of values, as in "100000"'
        ) from None


def as_budget(given: str | int | Budget | None, *, default: int) -> Budget:
    """The budget that a number, a text or nothing says: then `default` values."""
    if isinstance(given, Budget):
        return given
    return parse_budget(str(default if given is None else given))
