"""Says when the rows of a source became known, where no column of it does (T3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featurekit.core.calls import found
from featurekit.core.durations import Duration, duration_us
from featurekit.errors import DefinitionError

LATEST_US = 253_402_300_799_999_999
"""The last instant of the calendar, 9999-12-31T23:59:59.999999Z: no row arrives after it."""
COMMIT, MODIFIED = "commit", "modified"
_DELAY = "delay "


@dataclass(frozen=True, slots=True)
class Delay:
    """A row of a file became known so long after it happened, as in `Delay("6h")` for files that a
    nightly job writes. A pushed row arrives when it is pushed, as ever."""

    by: Duration

    def __post_init__(self) -> None:
        if duration_us(self.by, what="Delay") <= 0:
            raise DefinitionError(f"Delay: it is a duration above zero, found {self.by!r}")


@dataclass(frozen=True, slots=True)
class Commit:
    """A row became known with the commit of its table (Delta Lake, Iceberg) that appended its file.

    Commits that rewrite rows would give old rows a new arrival: a table with files of such commits
    is refused.
    """


@dataclass(frozen=True, slots=True)
class Modified:
    """A row became known when its file was last modified, or its object of a store elsewhere.

    Files are written once: what a file held when it was first read, and since when, is kept in the
    state folder. A file with another content since is refused, since old rows of it would have a
    new arrival.
    """


def text_of(arrives: Any, *, what: str) -> str | None:
    """`arrives` as a plan has it; DefinitionError where it is none."""
    match arrives:
        case None:
            return None
        case Delay(by):
            return f"{_DELAY}{duration_us(by, what=what)}"
        case Commit():
            return COMMIT
        case Modified():
            return MODIFIED
    instead = f'Delay("{arrives}")' if isinstance(arrives, str) else 'Delay("6h")'
    if arrives in (Modified, Commit):
        instead = f"{arrives.__name__}()"
    raise DefinitionError(
        f"{what}: arrives is Delay(…), Modified() or Commit(), found {found(arrives)}; write "
        f"arrives={instead}, or created_timestamp_column= for a column"
    )


def delay_us(arrives: str | None) -> int | None:
    """The microseconds of a delay; None for any other arrival. ValueError where it is no number."""
    if arrives is None or not arrives.startswith(_DELAY):
        return None
    return int(arrives.removeprefix(_DELAY))
