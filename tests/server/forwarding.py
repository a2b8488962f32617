"""Model servers that run as processes, and what to ask a server that forwards to them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import Served


class ModelProcess:
    """A running model server of `model_server.py`."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, str(Path(__file__).with_name("model_server.py")), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def mood(self, mood: str = "well", wait_s: float = 0.0) -> None:
        """Let it behave in another way from now on."""
        self._ask("PUT", "/mood", {"mood": mood, "wait_s": wait_s})

    def seen(self) -> list[dict[str, Any]]:
        """What it was sent since this was asked last."""
        found: list[dict[str, Any]] = self._ask("GET", "/seen")
        return found

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it, if it still runs."""
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def model_server(port: int = 0) -> Iterator[ModelProcess]:
    """A model server on a free port, or on this one."""
    made = ModelProcess(port)
    try:
        yield made
    finally:
        made.close()


def target(
    model: ModelProcess, name: str = "churn", service: str | None = "plain", **more: str
) -> str:
    """The option of a target; without a service it has a contract, which names one."""
    told = {"name": name, **({} if service is None else {"service": service}), **more}
    return ",".join([model.url, *(f"{key}={value}" for key, value in told.items())])


def predict(server: Served, rows: Any, model: str = "churn", **more: Any) -> tuple[int, Any]:
    """Status and document of a request for predictions."""
    return server.post(f"/v1/models/{model}/predict", {"rows": rows, **more})
