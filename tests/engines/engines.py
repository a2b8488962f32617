"""Engines for tests: an object with a name, a number of workers and `run` is one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from featurekit.errors import EngineError

Work = Callable[[bytes], bytes]


class Here:
    """Runs units in this process, the last one first."""

    name, workers = "here", 1

    def run(self, work: Work, units: Sequence[bytes]) -> Iterator[bytes]:
        return map(work, reversed(units))


class Pool:
    """Runs units in a pool of processes, as Dask or any other executor of futures would."""

    def __init__(self, workers: int = 2) -> None:
        self.name, self.workers = "pool", workers
        self.executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))

    def run(self, work: Work, units: Sequence[bytes]) -> Iterator[bytes]:
        waiting = [self.executor.submit(work, unit) for unit in units]
        try:
            for one in as_completed(waiting):
                yield one.result()
        except Exception as error:
            raise EngineError(f"engine {self.name}: {error}") from error
