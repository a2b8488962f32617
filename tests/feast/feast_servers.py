"""Feast's own commands and servers, each in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FEAST = Path(sys.executable).with_name("feast")


def run_feast(folder: Path, *arguments: str) -> str:
    """What a command of Feast writes."""
    made = subprocess.run(
        [FEAST, *arguments], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout


def environment() -> dict[str, str]:
    """The environment of a process that imports this project."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "COLUMNS": "200"}


@contextmanager
def serving(folder: Path, *arguments: str, ready: str) -> Iterator[str]:
    """A server of Feast in a process of its own; the URL of what it serves."""
    port = _free_port()
    log = folder / f"{arguments[0]}.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [FEAST, *arguments, "-h", "127.0.0.1", "-p", str(port)], cwd=folder,
            env=environment(), stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            try:
                with urllib.request.urlopen(url + ready, timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def serving_registry(folder: Path) -> Iterator[str]:
    """Feast's server of a repo's registry, in a process of its own; what `path:` of a remote
    registry is to say."""
    port = _free_port()
    log = folder / "serve_registry.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [FEAST, "serve_registry", "-p", str(port)], cwd=folder, env=environment(),
            stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            try:
                socket.create_connection(("localhost", port), timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def post(url: str, body: Any, **headers: str) -> Any:
    """The JSON that a server answers to a JSON body."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")
