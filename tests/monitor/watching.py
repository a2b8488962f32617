"""Processes that watch a small repo, and what tests ask of them."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from featurekit.monitor.triggers.state import State, read_states
from featurekit.online.store.redis import RedisStore
from tests.forks import Forked

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

customer = Entity("customer", {"customer": int})
orders = EventSource(
    "orders", path="data/orders.csv", timestamp_field="at", event_id="order",
    dedupe_within="30d", schema={"order": str, "customer": int, "amount": float},
)
view = FeatureView("view", entities=[customer], source=orders, features={
    "spend": Sum("amount", window="7d"), "orders": Count(window="7d")})
service = FeatureService("service", features=[view])
"""
NOTES = "echo $FEATUREKIT_OCCASION >> {folder}/done.txt"
LEASE_S = 1.5
RUN = f"""
import sys
from featurekit.project import leases
leases.LEASE_S, leases.RENEW_S = {LEASE_S}, 0.2
from featurekit.cli import main
sys.argv[0] = "featurekit"
sys.exit(main())
"""


def write_repo(folder: Path, url: str, **settings: Any) -> Path:
    """A repo of these settings under featurekit:, beside a source without a row."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "definitions.py").write_text(MODULE)
    (folder / "data" / "orders.csv").write_text("order,customer,amount,at\n")
    config = {
        "project": "tests",
        "online_store": {"type": "redis"},
        "featurekit": {"redis_url": url, **settings},
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    return folder


class Watching:
    """`featurekit watch` in a process of its own, whose lease is short."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        command = [sys.executable, "-c", RUN, "--repo", str(folder), "--json", "watch",
                   "--port", "0", *options]  # fmt: skip
        self.process = Forked(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if '"url"' not in line:
            raise AssertionError("".join(self.process.communicate()))
        self.url: str = json.loads(line)["url"]

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the document, or the text, of a page."""
        return answer(f"{self.url}{path}")

    @property
    def leads(self) -> bool:
        """Whether it says that it leads."""
        return bool(self.get("/health")[1]["role"] == "leads")

    def metrics(self) -> dict[str, float]:
        """Its metrics, by their names and labels as they are written."""
        _, text = self.get("/metrics")
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def end(self, number: int) -> tuple[int, str]:
        """The exit code after a signal, and what was said on standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def watching(folder: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Watching]:
    """A process that watches; killed at the end where it goes on."""
    made = Watching(folder, *options, env=env)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def answer(url: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """The status and the document, or the text, that a request is answered with."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=data, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=20) as found:
            status, body, kind = found.status, found.read(), found.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            status, body, kind = error.code, error.read(), error.headers["Content-Type"]
    return status, json.loads(body) if kind == "application/json" else body.decode()


def state_of(store: RedisStore, trigger: str) -> State:
    return read_states(store, "tests", [trigger])[trigger]


def wait_for(what: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Wait until something holds, looking often."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def done(folder: Path) -> list[str]:
    """The occasions whose command was run, in order."""
    path = folder / "done.txt"
    return path.read_text().split() if path.exists() else []


@dataclass
class Receiver:
    """A server, what it was asked, and what it is to answer, by turns."""

    url: str = ""
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)
    wait_s: float = 0.0


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver while the block runs."""
    made = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            made.raw.append(data)
            made.asked.append((self.path, dict(self.headers), json.loads(data)))
            time.sleep(made.wait_s)
            status, body = made.answers.pop(0) if made.answers else (200, {"ok": True})
            data = json.dumps(body).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
