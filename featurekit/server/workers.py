"""Runs several workers on one socket, and replaces those that die; it serves nothing itself."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from featurekit.server.handover import Handover
from featurekit.server.logs import set_up
from featurekit.server.settings import FOLDER_VARIABLE

_log = logging.getLogger("featurekit.server")
_LOOK_S, _PAUSE_S = 0.1, 1.0


class Worker:
    """A process that serves. It ends when this one does, however that ends."""

    def __init__(self, handover: Handover) -> None:
        self.began = time.monotonic()
        alive, self._alive = os.pipe()
        with handover.of(alive).sent() as told:
            command = [sys.executable, "-m", "featurekit.server", str(told)]
            kept = (told, alive, handover.descriptor)
            self.process = subprocess.Popen(command, pass_fds=kept, stdin=subprocess.DEVNULL)
        os.close(alive)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def let_go(self) -> None:
        """Forget a worker that has ended."""
        os.close(self._alive)


def supervise(handover: Handover, workers: int) -> int:
    """Keep so many workers until a signal ends them in good order; returns the exit code."""
    stop = threading.Event()
    set_up(handover.settings.log_format)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="featurekit-metrics-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        running = [Worker(handover) for _ in range(workers)]
        while not stop.wait(_LOOK_S):
            for place, worker in enumerate(running):
                if worker.ended() and time.monotonic() - worker.began > _PAUSE_S:
                    _say(worker)
                    worker.let_go()
                    running[place] = Worker(handover)
        for worker in running:
            if not worker.ended():
                worker.process.terminate()
        codes = [worker.process.wait() for worker in running]
        for worker in running:
            worker.let_go()
    return max(map(abs, codes))


def _say(worker: Worker) -> None:
    code = worker.process.returncode
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    _log.warning("a worker ended (%s); another one starts", how)


def end_with(alive: int) -> None:
    """End this process in good order when the other end of a pipe is closed."""

    def watch() -> None:
        os.read(alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
