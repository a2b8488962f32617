"""What a server says of its requests: lines of a log, and spans of OpenTelemetry."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from serving import Served, World

from featurekit.cli import main
from featurekit.server import logs
from featurekit.server.logs import trace_of

OWN = "/v1/services/plain/features"
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{ABOVE}-01"


@contextmanager
def logged(world: World, tmp_path: Path, *words: str, **env: str) -> Iterator[tuple[Served, Path]]:
    """A server, and the file of its standard error."""
    path = tmp_path / "stderr"
    with path.open("w") as file:
        command = [sys.executable, "-m", "featurekit.cli", "--json", "serve", "--port", "0",
                   "--project", "tests", "--redis-url", world.url, *words]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env={**os.environ, **env}
        )
        assert process.stdout is not None
        try:
            server = Served(process, json.loads(process.stdout.readline())["url"])
            server.wait()
            yield server, path
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()


def ask_some(server: Served) -> dict[str, str]:
    """Ask for what is answered, refused, not there and described; the ids of the answers."""
    sent: dict[str, tuple[str, str, Any, dict[str, str]]] = {
        "answered": ("POST", OWN, {"rows": [{"key": 1}, {"key": 2}]}, {"x-request-id": "mine-1"}),
        "refused": ("POST", OWN, {"rows": [{"key": "sEcReT"}]}, {"traceparent": PARENT}),
        "absent": ("POST", "/v1/services/sEcReT/features", {"rows": [{"key": 1}]},
                   {"authorization": "Bearer sEcReT"}),
        "nowhere": ("GET", "/sEcReT?sEcReT=sEcReT", None, {}),
        "described": ("GET", "/v1/services", None, {}),
    }  # fmt: skip
    found = {}
    for name, (method, path, body, headers) in sent.items():
        _, named, _ = server.ask(method, path, body, headers)
        found[name] = named["x-request-id"]
    return found


def test_a_request_is_a_line_of_json_without_values_and_secrets(
    world: World, tmp_path: Path
) -> None:
    with logged(world, tmp_path, "--access-log", "--log-format", "json") as (server, path):
        ids = ask_some(server)
        assert server.stop() == 0
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert "sEcReT" not in text
    by_id = {line["request_id"]: line for line in lines}
    assert [by_id[i]["request_id"] for i in ids.values()] == [*ids.values()]
    assert len(lines) == len(ids)  # probes are not among them
    answered = by_id[ids["answered"]]
    assert ids["answered"] == "mine-1"
    assert 0 < answered.pop("ms") < 60_000
    assert answered.pop("time").endswith("Z")
    assert answered == {
        "level": "info", "logger": "featurekit.server.observed", "message": "request",
        "method": "POST",
        "route": "/v1/services/{name}/features", "status": 200, "request_id": "mine-1",
        "service": "plain", "rows": 2,
    }  # fmt: skip
    refused = by_id[ids["refused"]]
    assert (refused["status"], refused["error"]) == (422, "EntityFrameError")
    assert (refused["trace_id"], refused["span_id"]) == (TRACE, ABOVE)
    assert "service" not in by_id[ids["absent"]]
    assert by_id[ids["nowhere"]]["status"] == 404
    assert by_id[ids["described"]]["status"] == 200


def test_a_line_may_be_for_people_and_none_is_written_unasked(world: World, tmp_path: Path) -> None:
    with logged(world, tmp_path, "--access-log") as (server, path):
        server.ask("POST", OWN, {"rows": [{"key": 1}]}, {"x-request-id": "of mine"})
        server.stop()
    (line,) = path.read_text().splitlines()
    assert (
        "INFO featurekit.server.observed: request method=POST route=/v1/services/{name}/features"
        in line
    )
    assert 'request_id="of mine" service=plain rows=1' in line
    with logged(world, tmp_path) as (server, path):
        ask_some_quietly(server)
        server.stop()
    assert path.read_text() == ""


def ask_some_quietly(server: Served) -> None:
    for _ in range(3):
        assert server.ask("POST", OWN, {"rows": [{"key": 1}]})[0] == 200


@pytest.mark.parametrize(
    ("form", "wanted"),
    [("json", '"message": "a worker ended (signal 9)'), ("text", "a worker ended (signal 9)")],
)
def test_the_end_of_a_worker_is_a_line_of_the_log(
    world: World, tmp_path: Path, form: str, wanted: str
) -> None:
    words = ("--workers", "2", "--log-format", form)
    with logged(world, tmp_path, *words) as (server, path):
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if not children.exists():
            pytest.skip("reads /proc")
        victim = int(children.read_text().split()[0])
        until_s = time.monotonic() + 20
        os.kill(victim, signal.SIGKILL)
        while wanted not in path.read_text():
            assert time.monotonic() < until_s, path.read_text()
            time.sleep(0.05)
    if form == "json":
        for line in path.read_text().splitlines():
            json.loads(line)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (PARENT, (TRACE, ABOVE)),
        (f"01-{TRACE}-{ABOVE}-01-what-comes", (TRACE, ABOVE)),
        (f"00-{TRACE}-{ABOVE}-01-more", None),
        (f"ff-{TRACE}-{ABOVE}-01", None),
        (f"00-{'0' * 32}-{ABOVE}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{ABOVE}-01", None),
        ("", None),
        ("\x00", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header: str, found: Any) -> None:
    assert trace_of(header.encode()) == found
    assert trace_of(None) is None


def test_a_warning_and_a_bug_are_lines_of_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.set_up("json")
        logging.getLogger("featurekit.server").warning('with "quotes" and\nlines')
        try:
            raise ValueError("what failed")
        except ValueError:
            logging.getLogger("featurekit.server").exception("a bug")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        logging.captureWarnings(False)
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == 'with "quotes" and\nlines'
    assert second["level"] == "error"
    assert "ValueError: what failed" in second["exception"]


# --- spans ----------------------------------------------------------------------------------------


def has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
needs_sdk = pytest.mark.skipif(
    not has("opentelemetry.sdk.trace"), reason="opentelemetry-sdk is not installed"
)
TRACED = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)

import uvicorn, socket, threading, urllib.request, urllib.error
from featurekit.server.run import Made
from featurekit.server.settings import Settings

url, bodies = sys.argv[1], json.loads(sys.argv[2])
made = Made(Settings("tests", url=url, traces=True))
listening = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(made, factory=True, lifespan="on", log_level="warning"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
thread.start()
at = f"http://127.0.0.1:{listening.getsockname()[1]}"
for path, body, headers in bodies:
    request = urllib.request.Request(at + path, json.dumps(body).encode(), headers)
    try:
        urllib.request.urlopen(request, timeout=20).read()
    except urllib.error.HTTPError as error:
        error.read()
urllib.request.urlopen(at + "/health").read()
server.should_exit = True
thread.join()
print(json.dumps([json.loads(span.to_json()) for span in kept.get_finished_spans()]))
"""


def spans(world: World, *asked: tuple[str, Any, dict[str, str]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", TRACED, world.url, json.dumps(asked)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@needs_sdk
def test_a_request_is_a_span_with_its_round_trip_and_its_evaluation(world: World) -> None:
    json_type = {"content-type": "application/json"}
    found = spans(
        world,
        (OWN, {"rows": [{"key": 1}, {"key": 2}]}, {**json_type, "traceparent": PARENT,
                                                     "x-request-id": "mine"}),
        (OWN, {"rows": [{"key": "x"}]}, json_type),
    )  # fmt: skip
    roots = [s for s in found if s["kind"] == "SpanKind.SERVER"]
    one, refused = roots
    assert one["name"] == "POST /v1/services/{name}/features"
    assert one["context"]["trace_id"] == f"0x{TRACE}"
    assert one["parent_id"] == f"0x{ABOVE}"
    assert one["attributes"] == {
        "http.route": "/v1/services/{name}/features", "http.request.method": "POST",
        "http.response.status_code": 200, "featurekit.request_id": "mine",
        "featurekit.service": "plain", "featurekit.rows": 2,
    }  # fmt: skip
    parts = [s for s in found if s["parent_id"] == one["context"]["span_id"]]
    names = [s["name"] for s in parts]
    assert names.count("redis") >= 1
    assert names[-1] == "evaluate"
    assert {s["kind"] for s in parts if s["name"] == "redis"} == {"SpanKind.CLIENT"}
    assert {s["context"]["trace_id"] for s in parts} == {f"0x{TRACE}"}
    assert refused["attributes"]["featurekit.error"] == "EntityFrameError"
    assert refused["parent_id"] is None
    assert all("health" not in s["name"] for s in found)


@pytest.mark.skipif(not has(EXPORTER), reason="featurekit[otel] is not installed")
def test_spans_are_sent_by_otlp_as_the_environment_says(world: World, tmp_path: Path) -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        at = f"http://127.0.0.1:{collector.server_address[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
        with logged(world, tmp_path, "--traces", **env) as (server, path):
            assert server.ask("POST", OWN, {"rows": [{"key": 1}]})[0] == 200
            assert server.stop() == 0
        assert path.read_text() == ""
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert {where for where, _ in got} == {"/v1/traces"}
    sent = b"".join(body for _, body in got)
    assert b"POST /v1/services/{name}/features" in sent
    assert b"featurekit" in sent


def test_without_traces_opentelemetry_is_not_loaded(world: World) -> None:
    code = (
        "import sys; from featurekit.server.run import Made; "
        "from featurekit.server.settings import Settings; "
        f"Made(Settings('tests', url={world.url!r}, access_log=True))(); "
        # redis-py itself looks for OpenTelemetry's metrics.
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk.trace') "
        "or m == 'featurekit.server.traces'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_traces_without_the_extra_are_an_error_that_names_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    if has(EXPORTER):
        pytest.skip("featurekit[otel] is installed")
    assert main(["serve", "--project", "tests", "--redis-url", world.url, "--traces"]) == 2
    assert "pip install 'featurekit[otel]'" in capsys.readouterr().err
