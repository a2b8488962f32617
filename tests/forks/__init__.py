"""Starts processes of Python as forks of one that has loaded featurekit and its libraries.

Loading them is most of what a short command costs: 0.6 s of 0.7 s. A fork has memory, files,
signals and a death of its own. It differs from a process in three things, and a test of one of them
starts a process by `subprocess`: what is imported already, how Python starts and ends, and the seed
of `hash`, which all forks of a test run share.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import multiprocessing.context
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.forks.server import LOADED

ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36


@functools.cache
def server() -> str:
    """The socket of the fork server, which is started when it is first needed."""
    folder = tempfile.TemporaryDirectory(prefix="forks")
    path = f"{folder.name}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forks.server", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()

    def end() -> None:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return path


def command(*words: str) -> str:
    """A command for a shell, which runs Python with these words: "-m", "featurekit.cli"."""
    client = Path(__file__).parent / "client.py"
    return " ".join(f'"{word}"' for word in (sys.executable, "-IS", str(client), server(), *words))


class Forked(subprocess.Popen[str]):
    """As `subprocess.Popen([sys.executable, "-c" or "-m", …])`, which every argument is as in."""

    def _execute_child(  # type: ignore[override]
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any,
        cwd: Any, env: Any, startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
        restore_signals: Any, gid: Any, gids: Any, uid: Any, umask: Any,
        start_new_session: bool, process_group: int,
    ) -> None:  # fmt: skip
        assert args[0] == sys.executable
        assert not any((shell, preexec_fn, start_new_session, pass_fds))
        asked = {
            "argv": [str(word) for word in args[1:]],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "group": None if process_group == -1 else process_group,
            "told": "start",
        }
        given = [p2cread, c2pwrite, errwrite]
        fds = [own if fd == -1 else fd for own, fd in enumerate(given)]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(server())
            data = json.dumps(asked).encode() + b"\n"
            try:
                _adopts(True)
                connection.sendall(data[socket.send_fds(connection, [data], fds) :])
                self.pid = int(connection.recv(32))
                assert connection.recv(1) == b""  # its parent is this process from here on
            finally:
                _adopts(False)
        self._child_created = True
        for fd in {p2cread, c2pwrite, errwrite} - {-1}:
            os.close(fd)


@functools.cache
def context() -> multiprocessing.context.ForkServerContext:
    """For processes of `multiprocessing`, which are forks of a server of its own."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([*LOADED])
    return made


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run([sys.executable, …], text=True, capture_output=True)`."""
    text = options.pop("input", None)
    timeout = options.pop("timeout", None)
    stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
    with Forked(
        words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            out, error = process.communicate(text, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, error)


def _adopts(on: bool) -> None:
    """Whether this process is the new parent of processes whose parents end."""
    done = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    assert done == 0, os.strerror(ctypes.get_errno())
