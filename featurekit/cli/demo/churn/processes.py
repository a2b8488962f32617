"""Turns command lines into processes that serve, and ends them however the demo ends."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from featurekit.core.ending import at_end, not_at_end
from featurekit.errors import ConfigError

_START_S, _STOP_S = 60.0, 5.0
_TOLD_LINES = 6
_RELEASE = """
import sys
from pathlib import Path
from featurekit.online.store.server import private_redis, release, runs
folder = Path(sys.argv[1])
if runs(folder):
    private_redis(folder)
    release(folder)
"""


@contextmanager
def serving(
    module: str, arguments: Sequence[str], *, log: Path, redis_url: str | None = None
) -> Iterator[str]:
    """The address of a process of `python -m module`, which prints it as a line of JSON; it runs
    while the block does.

    What it says on standard error goes to `log`. ConfigError, with its last words, where it ends
    before it serves. It has a session of its own, so that Ctrl-C reaches it by this process alone,
    and ends with this process, also where that is killed.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    env = dict(os.environ)
    if redis_url is not None:  # not in the command line, which others see
        env["FEATUREKIT_REDIS_URL"] = redis_url
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env=env,
            start_new_session=True,
        )

    watch = _after_this("kill", "-9", f"-{process.pid}")

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watch.kill()
        watch.communicate()

    at_end(kill)
    try:
        yield _address(process, module, log)
        _ask_to_stop(process)
    finally:
        kill()
        not_at_end(kill)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def releasing(folder: Path) -> Iterator[None]:
    """Where this process is killed in the block, the private Redis of a folder is let go of as at
    its exit: it ends, with its data saved, unless somebody else uses it."""
    watch = _after_this(sys.executable, "-c", _RELEASE, str(folder))
    try:
        yield
    finally:
        watch.kill()
        watch.communicate()


def _after_this(*command: str) -> subprocess.Popen[bytes]:
    """A shell that waits until the pipe to this process closes, and then runs a command: a process
    that is killed ends nothing by itself."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; "$@"', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _address(process: subprocess.Popen[bytes], module: str, log: Path) -> str:
    """The address that a process prints first."""
    assert process.stdout is not None
    line = _line(process.stdout.fileno(), _START_S)
    try:
        url = json.loads(line)["url"]
    except (ValueError, LookupError, TypeError):
        _ask_to_stop(process)  # it may still be saying why
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        words = "\n  ".join(said[-_TOLD_LINES:]) or "it said nothing"
        raise ConfigError(f"{module} does not serve; {log} ends with:\n  {words}") from None
    return str(url)


def _line(file: int, within_s: float) -> bytes:
    """The lines that can be read until the first JSON document is whole, or the process ends."""
    end, found = time.monotonic() + within_s, b""
    with selectors.DefaultSelector() as ready:
        ready.register(file, selectors.EVENT_READ)
        while not found.endswith(b"}\n") and (left := end - time.monotonic()) > 0:
            if not ready.select(left):
                break
            data = os.read(file, 4096)
            if not data:
                break
            found += data
    return found


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """End a process in good order, as far as it does so in time."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
