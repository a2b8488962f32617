"""Turns each request for a Python process into a fork of this one, which has loaded the libraries.

It runs as `python -m tests.forks.server SOCKET` beside the tests. It ends with its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from typing import Any, NoReturn

LOADED = (
    "duckdb", "numpy", "pandas", "pathspec", "pyarrow.compute", "pyarrow.csv", "pyarrow.parquet",
    "rich.console", "rich.progress", "rich.table", "tzdata", "yaml",
    "featurekit.aggregates", "featurekit.cli.interrupt", "featurekit.cli.parser",
    "featurekit.cli.verbs.apply", "featurekit.cli.verbs.explain",
    "featurekit.cli.verbs.get_historical", "featurekit.cli.verbs.materialize",
    "featurekit.cli.verbs.parity", "featurekit.cli.verbs.plan", "featurekit.language.parse",
    "featurekit.language.verbatim", "featurekit.online.store.redis",
    "featurekit.online.store.server", "featurekit.parity.check", "featurekit.store",
    "featurekit.testing",
)  # fmt: skip
"""What a command of featurekit loads. Nothing that reads the environment as it is loaded, like
prometheus_client, and nothing that starts a thread."""
_MOST_BYTES = 1 << 20

Program = Callable[[], Any]


def answer(listener: socket.socket) -> Program | None:
    """Fork for every request, until standard input ends; a fork gets the program that it is to run,
    and the server None."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by what is readable when a process ends
    while True:
        ready, _, _ = select.select([listener, sys.stdin, *running], [], [])
        if sys.stdin in ready:
            return None
        for ended in running.keys() & {*ready}:
            process, asking = running.pop(ended)
            with asking:
                asking.send(b"%d" % os.waitpid(process, 0)[1])
            os.close(ended)
        if listener not in ready:
            continue
        asking, _ = listener.accept()
        data, fds, _, _ = socket.recv_fds(asking, _MOST_BYTES, 3)
        while not data.endswith(b"\n"):
            data += asking.recv(_MOST_BYTES)
        asked = json.loads(data)
        adopted = asked["told"] == "start"
        process = _forked(adopted)
        if process == 0:
            for other in (listener, asking, *(given for _, given in running.values())):
                other.close()
            return _become(asked, fds)
        for fd in fds:
            os.close(fd)
        if adopted:
            with asking:
                asking.send(b"%d" % process)
        else:
            running[os.pidfd_open(process)] = process, asking


def _forked(adopted: bool) -> int:
    """The id of a fork of this process, and 0 in it. The one that asked for it has `adopted` it,
    since the one between them has ended."""
    if not adopted:
        return os.fork()
    told, tells = os.pipe()
    between = os.fork()
    if between == 0:
        process = os.fork()
        if process == 0:
            os.close(told)
            os.close(tells)
            return 0
        os.write(tells, b"%d" % process)
        os._exit(0)
    os.waitpid(between, 0)
    process = int(os.read(told, 32))
    os.close(told)
    os.close(tells)
    return process


def _become(asked: dict[str, Any], fds: list[int]) -> Program:
    """Make this fork what a Python that was started so would be; returns its program."""
    if asked["group"] is not None:
        os.setpgid(0, asked["group"])
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    random.seed()
    importlib.import_module("numpy").random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _streams()
    kind, text, *words = asked["argv"]
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = ["" if kind == "-c" else asked["cwd"], *paths]
    sys.argv = [kind, *words]
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if kind == "-m":
        return lambda: runpy.run_module(text, run_name="__main__", alter_sys=True)
    return lambda: exec(compile(text, "<string>", "exec"), vars(main))


def _streams() -> None:
    """Standard streams that are as a Python makes them."""
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number:
            raw = open(number, "wb", buffering=0 if at_once else -1, closefd=False)  # noqa: SIM115
            stream = io.TextIOWrapper(
                raw,
                errors="backslashreplace" if name == "stderr" else None,
                line_buffering=name == "stderr" or os.isatty(number),
                write_through=at_once,
            )
        else:
            stream = open(number, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def serve(path: str) -> Program | None:
    """Load the libraries, listen, and fork: see `answer`."""
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("pyarrow").array([1])  # which looks for pandas
    gc.collect()
    gc.freeze()  # a fork that went over what is loaded would copy it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        return answer(listener)


def end(program: Program) -> NoReturn:
    """Run a program, and end as Python does; but what is loaded is left as it is, since a fork that
    took it apart would first copy it."""
    code = 0
    try:
        program()
    except SystemExit as leaving:
        if isinstance(leaving.code, int):
            code = leaving.code & 0xFF
        elif leaving.code is not None:
            print(leaving.code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    started = serve(sys.argv[1])
    if started is not None:
        end(started)
