"""Runs a command that ends when the process that started it does, however that ends.

This file is run as a program between the two, and loads nothing of featurekit: its standard input
is a pipe from the process, which breaks with it. Then the command and those that it started are
ended, first by SIGTERM and, `GRACE_S` seconds later, by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

GRACE_S = 5.0


class Leashed:
    """A command that runs, in a group of processes of its own. OSError where it cannot be started:
    the program between the two tells that by the code 127."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: str | os.PathLike[str],
        env: Mapping[str, str],
        output: IO[Any] | int | None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,  # a signal of the terminal is for the process that holds it
        )

    @property
    def pid(self) -> int:
        """The number of the process between the two."""
        return self._process.pid

    def wait(self, timeout_s: float) -> int | None:
        """The exit code; None where it has not ended in time. 128 + N says: by signal N."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._let_go()
        return code

    def _let_go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self) -> int:
        """End the command, and return its exit code."""
        self._let_go()
        try:
            return self._process.wait(GRACE_S + 5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's group when the pipe breaks."""
    while os.read(0, 4096):
        pass
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return


def _main(command: Sequence[str]) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)
        return 127
    threading.Thread(target=_end, args=(process,), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
