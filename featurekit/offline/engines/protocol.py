"""What runs units of work elsewhere, and what a worker reads events from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from featurekit.define.plan import View
from featurekit.offline.events import Snapshot

Work = Callable[[bytes], bytes]


@runtime_checkable
class Engine(Protocol):
    """Applies a function to units of work, on processes or machines of its own.

    A function is one of a module, which workers import by its name. It may be applied to a unit
    again, where a worker is lost or slow: what it does twice is done once.
    """

    name: str
    """What it is called in errors."""
    workers: int
    """How many units it runs at once."""

    def run(self, work: Work, units: Sequence[bytes]) -> Iterator[bytes]:
        """What `work` gives for each of the units, in any order; EngineError where a unit cannot be
        run."""
        ...


class Reader(Protocol):
    """What a worker reads the events of views from; it can be pickled."""

    @property
    def folder(self) -> Path:
        """A folder that the driver and every worker have under this path, for what they exchange;
        it need not exist."""
        ...

    def connect(self) -> Any:
        """A DuckDB connection for one piece of work."""
        ...

    def snapshot(self, con: Any, view: View) -> Snapshot:
        """The events of a view's sources, for a connection."""
        ...

    def logged(self, con: Any, source: str, until: int | None) -> tuple[int, int]:
        """How many rows of a source's log of pushes had arrived by `until`, or at all, and the sum
        of their hashes."""
        ...
