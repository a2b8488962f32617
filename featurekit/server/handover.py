"""What one process tells the next of serving, through a pipe: a command line and the environment
are seen by others."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from featurekit.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Handover:
    """How to serve, on the socket with this descriptor, by so many workers. `alive` is the end of a
    pipe that is closed when the process above has ended. `pushes` says that the process is to take
    what workers push."""

    settings: Settings
    descriptor: int
    workers: int = 1
    alive: int | None = None
    pushes: bool = False

    def of(self, alive: int) -> Handover:
        """The same for one worker."""
        return replace(self, workers=1, alive=alive)

    @contextmanager
    def sent(self) -> Iterator[int]:
        """The descriptor from which another process reads this; it is open in the block."""
        told, tell = os.pipe()  # it takes 64 KiB before anybody reads
        try:
            os.set_inheritable(told, True)
            with os.fdopen(tell, "wb") as file:
                pickle.dump(self, file)
            yield told
        finally:
            os.close(told)


def received(descriptor: int) -> Handover:
    """What was sent to this process, by the one that started it."""
    with os.fdopen(descriptor, "rb") as file:
        found = pickle.load(file)
    assert isinstance(found, Handover)
    return found
