"""Runs several workers on one socket, and replaces those that die; it serves nothing itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace

from featurekit.server.handover import Handover
from featurekit.server.logs import set_up
from featurekit.server.settings import FOLDER_VARIABLE

_log = logging.getLogger("featurekit.server")
_LOOK_S, _PAUSE_S = 0.1, 1.0
_BACKLOG = 256


_PUSHER = "push.sock"


class Worker:
    """A process that serves, or pushes for those that do. It ends when this one does, however that
    ends."""

    def __init__(self, handover: Handover) -> None:
        self.began, self.told = time.monotonic(), handover
        alive, self._alive = os.pipe()
        with handover.of(alive).sent() as told:
            role = "push" if handover.pushes else "serve"  # for who looks at processes
            command = [sys.executable, "-m", "featurekit.server", str(told), role]
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
        pushers = []
        if handover.settings.pushes is not None:
            handover, pushing = _with_pusher(handover, folder)
            pushers.append(Worker(pushing))
        serving = [Worker(handover) for _ in range(workers)]
        gone: set[int] = set()
        while not stop.wait(_LOOK_S):
            for running in (pushers, serving):
                for place, worker in enumerate(running):
                    if worker.ended() and time.monotonic() - worker.began > _PAUSE_S:
                        _say(worker)
                        worker.let_go()
                        gone = _not_folded(gone | {worker.process.pid}, folder)
                        running[place] = Worker(worker.told)
            # Another process may have the number of one that is gone, and goes on with its files.
            gone -= {worker.process.pid for worker in (*pushers, *serving)}
            gone = _not_folded(gone, folder)
        # What is connected to a socket that is open here alone waits for nobody.
        os.close(handover.descriptor)
        # The pusher is needed until the last request is answered.
        codes = [code for running in (serving, pushers) for code in _end(running)]
    return max(map(abs, codes))


def _with_pusher(handover: Handover, folder: str) -> tuple[Handover, Handover]:
    """What workers are told that push by another process, and what that is told. It takes their
    orders on a socket in a folder of this user, which stays when the process is replaced."""
    told = handover.settings.pushes
    assert told is not None
    path = os.path.join(folder, _PUSHER)  # noqa: PTH118
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(_BACKLOG)
    settings = replace(handover.settings, pushes=replace(told, socket=path))
    workers = replace(handover, settings=settings)
    return workers, replace(workers, descriptor=listening.detach(), workers=1, pushes=True)


def _end(running: list[Worker]) -> list[int]:
    """End some processes in good order; their exit codes."""
    told = [worker for worker in running if not worker.ended()]
    for worker in told:
        worker.process.terminate()
    codes = [worker.process.wait() for worker in running]
    # The signal itself ends one that has not begun to serve, and so has nothing to end.
    codes = [
        0 if worker in told and code == -signal.SIGTERM else code
        for worker, code in zip(running, codes, strict=True)
    ]
    for worker in running:
        worker.let_go()
    return codes


def _say(worker: Worker) -> None:
    code = worker.process.returncode
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    what = "the process that pushes" if worker.told.pushes else "a worker"
    _log.warning("%s ended (%s); another one starts", what, how)


def _not_folded(gone: set[int], folder: str) -> set[int]:
    """Fold what processes that are gone have counted; those of which that is still to be done."""
    if not gone:
        return gone
    # Loaded here: most servers lose no worker.
    from featurekit.server.counted import fold

    try:
        return {pid for pid in gone if not fold(pid, folder)}
    except OSError as error:
        _log.warning("what a process that is gone has counted cannot be folded: %s", error)
        return gone


def end_with(alive: int) -> None:
    """End this process in good order when the other end of a pipe is closed."""

    def watch() -> None:
        os.read(alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
