"""Turns tasks into answers in other processes, which are told their work through a pipe.

Each is a Python started afresh. `multiprocessing` would run the caller's script once more in each,
which a script without a guard does not survive.
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from featurekit.errors import FeaturekitError, StoreUnavailable

Work = Callable[[Any], Any]
"""What a process does with a task."""


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """So many processes, each with the `Work` that `make(*arguments)` gives there.

    `make` is a function that can be imported; arguments, tasks and answers go through `pickle`. A
    FeaturekitError of a task is raised here, and StoreUnavailable where a process has died.
    """

    def __init__(self, number: int, make: Callable[..., Work], *arguments: Any) -> None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # a Ctrl-C in the terminal is this process's to handle
            )
            for _ in range(number)
        ]
        for process in self._processes:
            _send(process.stdin, (make, arguments))

    def __len__(self) -> int:
        return len(self._processes)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def as_done(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The answer to each task, as it is done: a process takes the next one when it is free."""
        waiting, lock = iter(tasks), threading.Lock()
        done: queue.Queue[Any] = queue.Queue()

        def feed(process: Any) -> None:
            try:
                while True:
                    with lock:
                        task = next(waiting, _END)
                    if task is _END:
                        break
                    done.put(_told(process, task))
            except Exception as error:
                done.put(_Failed(error))
            done.put(_END)

        threads = [threading.Thread(target=feed, args=(p,), daemon=True) for p in self._processes]
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            answer = done.get()
            if isinstance(answer, _Failed):
                raise answer.error
            if answer is _END:
                running -= 1
            else:
                yield answer

    def one_each(self, tasks: Sequence[Any]) -> list[Any]:
        """The answers to as many tasks as there are processes, one of each."""
        with ThreadPoolExecutor(len(self._processes)) as threads:
            return list(threads.map(_told, self._processes, tasks))


_END = object()


class _Failed:
    """What went wrong in a thread."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _told(process: Any, task: Any) -> Any:
    try:
        _send(process.stdin, task)
        answer = pickle.load(process.stdout)
    except (EOFError, OSError):
        raise StoreUnavailable("a process of the parity check died; see above") from None
    if isinstance(answer, FeaturekitError):
        raise answer
    return answer


def _send(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def main() -> None:
    """Does what is asked on standard input, and answers on standard output, until that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    make, arguments = pickle.load(sys.stdin.buffer)
    work = make(*arguments)
    while True:
        try:
            task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found: Any = work(task)
        except FeaturekitError as error:
            found = error
        _send(answers, found)


def _end_with_parent() -> None:
    """End this process, whatever it does, when nobody can tell it anything any more."""
    told = select.poll()
    told.register(0, 0)  # of no event but the end
    told.poll()
    os._exit(0)
