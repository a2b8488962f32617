"""Answers over HTTP from a process that has other work: the smallest server that does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from featurekit.errors import ConfigError

_MOST_BYTES = 1 << 16
_SOCKET_S = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its method, its path without what is behind a question mark, its headers by their
    names in small letters, and its body, which is empty where the method has none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"

    @classmethod
    def json(cls, status: int, value: Any) -> Answer:
        """An answer with a document."""
        return cls(status, json.dumps(value).encode() + b"\n", "application/json")

    @classmethod
    def metrics(cls, text: bytes) -> Answer:
        """An answer with metrics, as Prometheus reads them."""
        return cls(200, text, CONTENT_TYPE_PLAIN_0_0_4)


Answers = Callable[[Asked], Answer]


@contextmanager
def answering(answers: Answers, host: str, port: int, *, what: str) -> Iterator[int]:
    """Answer GET and POST while the block runs. It gives the port, which is a free one where `port`
    is 0. A body may have 64 KiB, and a client that is silent for ten seconds is left.

    ConfigError, which says `what` cannot be served, where the port cannot be used.
    """
    try:
        server = ThreadingHTTPServer((host, port), _handler(answers))
    except OSError as error:
        raise ConfigError(f"{what} cannot be served at {host}:{port}: {error}") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SOCKET_S

        def do_GET(self) -> None:
            self._answer(answers(self._asked()))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                self._answer(Answer(411, b"featurekit: write a Content-Length\n"))
            elif int(length) > _MOST_BYTES:
                self._answer(Answer(413, b"featurekit: a body has 64 KiB at most\n"))
            else:
                self._answer(answers(self._asked(self.rfile.read(int(length)))))

        def _asked(self, body: bytes = b"") -> Asked:
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Asked(self.command, self.path.split("?")[0], headers, body)

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Scrapes are no news."""

    return Handler
