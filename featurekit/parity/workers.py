"""Plays worlds of the fuzzer in processes of their own.

Each is a Python started afresh that is told its work through a pipe. `multiprocessing` would run
the caller's script once more in each, which a script without a guard does not survive.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.errors import FeaturekitError

if TYPE_CHECKING:
    from featurekit.parity.modes.fuzz.fuzz import Found


class Workers:
    """So many processes, each with a `Fuzzer` of these arguments."""

    def __init__(self, number: int, arguments: tuple[Any, ...]) -> None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "featurekit.parity.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            for _ in range(number)
        ]
        for process in self.processes:
            _send(process.stdin, arguments)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def map(self, tasks: Iterable[tuple[int, int]]) -> Iterator[Found]:
        """What each task, a world and its questions, showed, as it is done."""
        waiting, lock = iter(tasks), threading.Lock()
        done: queue.Queue[Any] = queue.Queue()

        def feed(process: Any) -> None:
            try:
                while True:
                    with lock:
                        task = next(waiting, None)
                    if task is None:
                        break
                    _send(process.stdin, task)
                    done.put(pickle.load(process.stdout))
            except (EOFError, OSError):
                done.put(FeaturekitError("a process of the parity check died; see above"))
            done.put(None)

        threads = [threading.Thread(target=feed, args=(p,), daemon=True) for p in self.processes]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                running -= 1
            else:
                yield found


def _send(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


def main() -> None:
    """Plays what is asked on standard input, and answers on standard output, until that ends."""
    from featurekit.online.store.memory import MemoryStore
    from featurekit.parity.modes.fuzz.fuzz import Fuzzer

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    fuzzer = Fuzzer(*pickle.load(sys.stdin.buffer))
    while True:
        try:
            world, questions = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found: Any = fuzzer.play(world, MemoryStore(), questions=questions)
        except FeaturekitError as error:
            found = error
        _send(answers, found)


if __name__ == "__main__":
    main()
