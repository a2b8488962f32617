"""A registry of schemas for tests: what a client asks of Confluent's REST, over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Registry:
    """`schemas` by their numbers, as the registry tells them; `versions` by subject and version.
    `login` is what a client has to send, and `status` what it is told where that is not 200."""

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    versions: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    login: str | None = None
    status: int = 200
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, login: str | None) -> tuple[int, Any]:
        """What is told of a path."""
        self.asked.append(path)
        parts = urlsplit(path)
        in_bytes = parse_qs(parts.query).get("format") == ["serialized"]
        wanted = None
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
        if login != wanted:
            return 401, {"error_code": 401, "message": "who are you"}
        if self.status != 200:
            return self.status, {"error_code": self.status, "message": "not now"}
        names = parts.path.strip("/").split("/")
        found: Any = None
        if names[:2] == ["schemas", "ids"]:
            found = self.schemas.get(int(names[2]))
        elif names[0] == "subjects" and names[2] == "versions":
            found = self.versions.get((names[1], int(names[3])))
        if found is None:
            return 404, {"error_code": 40403, "message": "not found"}
        return 200, found if in_bytes else {k: v for k, v in found.items() if k != "bytes"}


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that runs on loopback."""
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, found = made.answer(self.path, self.headers.get("Authorization"))
            if status == 200 and "bytes" in found:
                found = {**found, "schema": found["bytes"]}
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
