"""Work whose process is killed once for each unit, at an instant that a seed decides."""

from __future__ import annotations

import os
import pickle
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.offline.engines.unit import Unit, run_unit


@dataclass(frozen=True)
class Dying:
    """Runs units, and kills its process the first time that it has each: after up to `within_s`
    seconds, wherever the unit is then. `folder` keeps who was killed."""

    folder: Path
    seed: int
    within_s: float

    def __call__(self, data: bytes) -> bytes:
        unit: Unit = pickle.loads(data)
        mark = self.folder / f"{self.seed}-{unit.view.name}-{unit.bucket}"
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return run_unit(data)
        after = random.Random(mark.name).uniform(0, self.within_s)
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        made = run_unit(data)
        signal.pause()  # a unit that was faster dies when it is done, before it tells
        return made


@dataclass(frozen=True)
class Chaos:
    """An engine whose workers are killed."""

    engine: Any
    dying: Dying

    @property
    def name(self) -> str:
        return str(self.engine.name)

    @property
    def workers(self) -> int:
        return int(self.engine.workers)

    def run(self, work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        return self.engine.run(self.dying, units)  # type: ignore[no-any-return]
