"""From its first request to its last: what a server loads, what it does while Redis is away, while
versions change, and when it is told to stop."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import serving
import uvicorn
from serving import Served

from featurekit import FeatureStore
from featurekit.client import Client
from featurekit.online.store.server import scratch_redis
from featurekit.server import workers
from featurekit.server.run import Server

OWN = "/v1/services/plain/features"
BODY = json.dumps({"rows": [{"key": 1}, {"key": 2}]})
NOT_LOADED = ("duckdb", "pyarrow", "pandas", "polars", "featurekit.define.repo",
              "featurekit.store", "featurekit.offline", "featurekit.sources", "featurekit.log",
              "featurekit.feed", "featurekit.parity", "featurekit.cli")  # fmt: skip


def children(pid: int) -> list[int]:
    """The processes below one, and below those."""
    found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(grand for child in found for grand in children(child))]


def libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_running_worker_has_mapped_neither_duckdb_nor_arrow(server: Served):
    assert server.ask("POST", OWN, BODY)[0] == 200
    assert server.ask("GET", "/v1/services")[0] == 200
    if server.process.pid not in children(os.getpid()):
        pytest.fail("the server is no child of this process")
    found = libraries(server.process.pid)
    assert "orjson" in found
    assert "duckdb" not in found


IN_PROCESS = """
import asyncio, json, sys
from featurekit.server.app import App
from featurekit.server.settings import Settings
app = App(Settings("tests", url=sys.argv[1]))

async def ask(method, path, body=b""):
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    async def receive(): return messages.pop(0) if messages else await asyncio.sleep(60)
    async def send(message): sent.append(message)
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
             "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent
    return b"".join(m.get("body", b"") for m in sent[1:])

async def main():
    app.lookups.load()
    for body in ({"rows": [{"key": 1}]}, {"rows": [{"key": 1}, {"key": 2}]}):
        await ask("POST", "/v1/services/plain/features", json.dumps(body).encode())
    for path in ("/health", "/metrics", "/v1/services", "/v1/services/plain", "/openapi.json",
                 "/docs"):
        await ask("GET", path)
    await app.lookups.close()

asyncio.run(main())
print(*sorted(sys.modules), sep="\\n")
"""


def test_every_route_is_answered_without_duckdb_arrow_and_the_repo(world: Any):
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS, world.url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "fastapi" in loaded
    assert [name for name in NOT_LOADED if name in loaded] == []


def test_a_repo_is_served_by_its_settings(world: Any):
    with serving.serving("--repo", str(world.folder), "--workers", "2") as server:
        assert server.post(OWN, BODY)[0] == 200
        if sys.platform == "linux":
            workers = children(server.process.pid)
            assert len(workers) == 2
            assert max(map(resident_mib, workers)) <= 90
        assert server.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/health")


def resident_mib(pid: int) -> float:
    """The memory of a process, in MiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024


def test_who_hands_over_to_a_server_loads_no_redis_and_no_plans():
    """What it loads is loaded once more by the process that it becomes, before that is ready."""
    code = (
        "import sys, featurekit.cli.verbs.serve, featurekit.project.config\n"
        "import featurekit.server.handover, featurekit.server.listen\n"
        "print([m for m in ('redis', 'hiredis', 'numpy', 'prometheus_client', 'uvicorn', 'duckdb', "
        "'featurekit.define.published') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("from_repo", [True, False], ids=["repo", "url"])
def test_a_password_is_read_from_a_file(world: Any, tmp_path: Path, from_repo: bool):
    password = tmp_path / "password"
    password.write_text("tyger,tyger@burning/bright\n")
    password.chmod(0o440)
    client = redis.Redis.from_url(world.url)
    words = ("on", ">tyger,tyger@burning/bright", "~*", "&*", "+@all")
    client.execute_command("ACL", "SETUSER", "reader", *words)
    named = {"FEATUREKIT_REDIS_USERNAME": "reader", "FEATUREKIT_REDIS_PASSWORD_FILE": str(password)}
    at = ("--repo", str(world.folder)) if from_repo else ("--project", "tests")
    url = () if from_repo else ("--redis-url", world.url)
    try:
        with serving.serving(*at, *url, env=named) as server:
            assert server.post(OWN, BODY)[0] == 200
            assert "reader" in {one["user"] for one in client.client_list()}
    finally:
        client.execute_command("ACL", "DELUSER", "reader")
        client.close()


# --- the end --------------------------------------------------------------------------------------


class Caller(threading.Thread):
    """Asks again and again over one connection, until it may not connect; keeps what it met. A
    server that says `Connection: close` is believed."""

    def __init__(self, server: Served) -> None:
        super().__init__()
        self.server, self.met = server, Counter[str]()

    def run(self) -> None:
        connection = self.server.connect()
        while True:
            try:
                connection.connect()
            except OSError:
                return
            answered = 0
            try:
                while True:
                    connection.request("POST", OWN, BODY)
                    found = connection.getresponse()
                    found.read()
                    self.met[str(found.status)] += 1
                    answered += 1
                    if found.will_close:
                        break
            except (OSError, http.client.HTTPException) as error:
                # A connection that was never accepted begins no request; the system resets it.
                if answered or not isinstance(error, ConnectionResetError | BrokenPipeError):
                    self.met[repr(error)] += 1
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_is_dropped_when_it_stops(world: Any, workers: int):
    with serving.serving(
        "--project", "tests", "--redis-url", world.url, "--workers", str(workers)
    ) as server:
        callers = [Caller(server) for _ in range(4)]
        for caller in callers:
            caller.start()
        time.sleep(0.3)
        assert server.stop() == 0
        for caller in callers:
            caller.join(20)
        met = sum((caller.met for caller in callers), Counter())
    assert met.keys() == {"200"}, met
    assert met["200"] > 20


def test_a_request_that_waits_is_answered_after_the_signal(tmp_path: Path):
    with scratch_redis() as url:
        serving.write(tmp_path, url)
        serving.fill(tmp_path)
        with serving.serving(
            "--repo", str(tmp_path), "--timeout", "20s", "--drain", "1s"
        ) as server, redis.Redis.from_url(url) as client:  # fmt: skip
            assert server.post(OWN, BODY)[0] == 200
            client.execute_command("CLIENT", "PAUSE", "2500", "ALL")
            connection = server.connect()
            connection.request("POST", OWN, BODY)
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.ask("GET", "/ready")[0] == 503
            assert server.ask("GET", "/health")[0] == 200
            found = connection.getresponse()
            assert found.status == 200
            assert json.loads(found.read())["columns"]["key"] == [1, 2]
            assert server.process.wait(20) == 0


# --- Redis, away and back -------------------------------------------------------------------------


def test_a_redis_that_is_slow_or_gone_is_a_503_in_time_and_mends_itself(tmp_path: Path):
    with scratch_redis() as url:
        serving.write(tmp_path, url)
        serving.fill(tmp_path)
        with serving.serving("--repo", str(tmp_path), "--timeout", "300ms") as server:
            assert server.post(OWN, BODY)[0] == 200
            with redis.Redis.from_url(url) as client:
                client.execute_command("CLIENT", "PAUSE", "4000", "ALL")
            status, named, data = server.ask("POST", OWN, BODY)
            assert (status, named["retry-after"]) == (503, "1"), data
            assert json.loads(data)["error"]["type"] == "StoreUnavailable"
            assert server.ask("GET", "/ready")[0] == 200  # one outage does not take it out
            with ThreadPoolExecutor(12) as pool:  # no more of them wait for it
                list(pool.map(lambda _: server.ask("POST", OWN, BODY), range(12)))
            end = time.monotonic() + 3
            while b"Lookups are not tried for" not in server.ask("POST", OWN, BODY)[2]:
                assert time.monotonic() < end
            end = time.monotonic() + 20
            while server.ask("POST", OWN, BODY)[0] != 200:
                assert time.monotonic() < end
            with redis.Redis.from_url(url) as client:
                client.shutdown(nosave=True)
            status, named, data = server.ask("POST", OWN, BODY)
            assert (status, named["retry-after"]) == (503, "1"), data
            assert server.ask("GET", "/ready")[0] == 200
            text = server.ask("GET", "/metrics")[2].decode()
            labels = 'kind="StoreUnavailable",route="/v1/services/{name}/features"'
            assert f"featurekit_http_errors_total{{{labels}}}" in text


def test_without_a_redis_it_is_not_ready_and_says_why(tmp_path: Path):
    command = [sys.executable, "-m", "featurekit.cli", "--json", "serve", "--port", "0",
               "--project", "tests", "--redis-url", f"unix://{tmp_path}/none.sock"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = Served(process, json.loads(process.stdout.readline())["url"])
        end = time.monotonic() + 20
        while True:
            try:
                status, _, data = server.ask("GET", "/ready")
                if b"StoreUnavailable" in data:
                    break
            except OSError:
                assert time.monotonic() < end
            time.sleep(0.05)
        assert (status, json.loads(data)["error"]["type"]) == (503, "StoreUnavailable")
        assert server.ask("GET", "/health")[0] == 200
        assert server.stop() == 0


# --- versions -------------------------------------------------------------------------------------


def test_a_new_version_is_served_at_once_and_an_old_one_where_it_is_named(tmp_path: Path):
    with scratch_redis() as url:
        serving.write(tmp_path, url)
        serving.fill(tmp_path)
        with serving.serving("--repo", str(tmp_path)) as server:
            body = {"features": ["counted:n"], "entities": {"key": [1], "name": ["b"]}}
            _, listed = server.post("/get-online-features", body)
            with FeatureStore(tmp_path) as store:
                old = store.live()["every"].fingerprint
            status, one = server.ask("GET", "/v1/services/every")[::2]
            assert (status, json.loads(one)["version"]) == (200, old)
            serving.write(tmp_path, url, window="1us")
            serving.fill(tmp_path)
            with FeatureStore(tmp_path) as store:
                new = store.live()["every"].fingerprint
            described = json.loads(server.ask("GET", "/v1/services/every")[2])
            assert described["versions"] == {"live": new, "next": new, "retained": old}
            rows = [serving.asked_rows()[0] | {"day": None, "raw": None, "moment": None,
                                               "wait": None, "since": None}]  # fmt: skip
            path = "/v1/services/every/features"
            status, found = server.post(path, {"rows": rows, "service_version": new})
            assert (status, found["service_version"], found["columns"]["n"]) == (200, new, [0])
            retained = server.post(path, {"rows": rows, "service_version": old})
            assert (retained[0], retained[1]["service_version"]) == (200, old)
            assert retained[1]["columns"]["n"] == [1]
            # Named behind the service, and by its beginning; pinned, it outlives its successors.
            with FeatureStore(tmp_path) as store:
                store.pin(f"every@{old[:8]}", by="models:/m/1")
                store.gc(retained=True)
            columns = {name: [value] for name, value in rows[0].items()}
            named = {"feature_service": f"every@{old[:8]}", "entities": columns}
            status, feast = server.post("/get-online-features", named)
            place = feast["metadata"]["feature_names"].index("n")
            assert (status, feast["results"][place]["values"]) == (200, [1])
            status, found = server.post(f"/v1/services/every%40{old[:8]}/features", {"rows": rows})
            assert (status, found["columns"]) == (200, retained[1]["columns"])
            with Client(server.url, timeout_s=20.0) as client:
                assert client.get_online_features(f"every@{old}", rows).columns["n"] == [1]
                assert client.get_online_features("every", rows).columns["n"] == [0]
            both = {"rows": rows, "service_version": new}
            status, found = server.post(f"/v1/services/every%40{old}/features", both)
            assert (status, found["error"]["where"]) == (400, "service_version")
            with FeatureStore(tmp_path) as store:
                store.unpin("every")
            status, found = server.post(path, {"rows": rows, "service_version": old})
            assert (status, found["error"]["where"]) == (409, "service_version")
            assert "featurekit pin" in json.dumps(found)
            assert listed["results"][2]["values"] == [1]
            _, again = server.post("/get-online-features", body)
            assert again["results"][2]["values"] == [0]
            with FeatureStore(tmp_path) as store:
                store.rollback("every", old)
                store.materialize()
            _, back = server.post("/get-online-features", body)
            assert back["results"][2]["values"] == [1]


# --- what it tells of itself ----------------------------------------------------------------------


def test_metrics_are_of_all_workers_and_name_no_caller_s_text(world: Any):
    with serving.serving(
        "--project", "tests", "--redis-url", world.url, "--workers", "2"
    ) as server:
        for _ in range(30):
            assert server.post(OWN, BODY)[0] == 200
        server.post("/v1/services/sEcReT/features", {"rows": [{"sEcReT": "sEcReT"}]})
        server.post(OWN, {"rows": [{"key": "sEcReT"}]})
        text = server.ask("GET", "/metrics")[2].decode()
    route = 'route="/v1/services/{name}/features",service="plain"'
    assert f"featurekit_http_request_seconds_count{{{route}}} 30.0" in text
    assert 'featurekit_http_rows_total{service="plain"} 60.0' in text
    assert 'featurekit_http_values_total{service="plain",status="PRESENT"} 120.0' in text
    assert 'kind="NotServed"' in text
    assert "sEcReT" not in text


def test_openapi_has_examples_that_are_answered(server: Served):
    document = json.loads(server.ask("GET", "/openapi.json")[2])
    asked = 0
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            content = route.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                pushes = route["tags"] == ["pushes"]  # they are answered in test_server_pushes.py
                status, found = server.post(path.format(name="every"), example["value"])
                assert (method, status) == ("post", 501 if pushes else 200), found
                asked += 1
            if method == "get":
                assert server.ask("GET", path.format(name="every"))[0] == 200
    assert asked == 5
    page = server.ask("GET", "/docs")[2].decode()
    assert all(f"<code>{path}</code>" in page for path in document["paths"])


# --- a worker that is told to end before it serves ------------------------------------------------


def test_a_worker_that_is_told_to_end_before_it_serves_takes_nobody() -> None:
    """uvicorn ends at once after its start in that case. What it had accepted by then, it would
    answer by a 500 or not at all."""
    begun: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["type"])
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        await receive()

    made: Any = SimpleNamespace(app=None, settings=SimpleNamespace(drain_s=1.0))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        caller = socket.create_connection(listening.getsockname(), 20)
        with caller:
            caller.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            server = Server(uvicorn.Config(app, lifespan="on", log_config=None, ws="none"), made)
            server.handle_exit(signal.SIGTERM, None)
            asyncio.run(server._serve([listening]))
            assert begun == []
            caller.settimeout(0.2)
            with pytest.raises(TimeoutError):  # another worker may take it
                caller.recv(1)


@pytest.mark.parametrize(("ends", "code"), [("", 0), ("import sys; sys.exit(3)", 3)])
def test_a_worker_that_the_signal_ends_before_it_serves_has_ended_well(ends: str, code: int):
    command = [sys.executable, "-c", f"{ends}\nimport time; time.sleep(60)"]
    with subprocess.Popen(command) as process:
        worker: Any = SimpleNamespace(process=process, let_go=lambda: None)
        worker.ended = lambda: process.poll() is not None
        if code:
            process.wait()
        assert workers._end([worker]) == [code]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_pusher_that_is_killed_leaves_no_pushes_that_wait(tmp_path: Path):
    with scratch_redis() as url:
        serving.write(tmp_path, url)
        serving.fill(tmp_path)
        with serving.serving("--repo", str(tmp_path), "--log") as server:

            def pushers() -> dict[int, Path]:
                """The file in which each process that pushes says what waits in it."""
                made = {}
                for pid in children(server.process.pid):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2:-1] == [b"push"]:
                        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                        (folder,) = (e.partition(b"=")[2].decode() for e in environ
                                     if e.startswith(b"PROMETHEUS_MULTIPROC_DIR="))  # fmt: skip
                        made[pid] = Path(folder) / f"gauge_livemostrecent_{pid}.db"
                return made

            def until(holds: Any) -> None:
                end = time.monotonic() + 60
                while not holds():
                    assert time.monotonic() < end
                    time.sleep(0.1)

            until(lambda: [p for p in pushers().values() if p.exists()])
            ((pid, file),) = pushers().items()
            os.kill(pid, signal.SIGKILL)
            until(lambda: [p for p in pushers() if p != pid])
            assert not file.exists()


def test_pages_for_people_are_counted_and_say_the_request_s_id(server: Served):
    def count(name: str, **labels: str) -> float:
        told = server.ask("GET", "/metrics")[2].decode()
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        lines = [n for n in told.splitlines() if n.startswith(f"{name}{{")]
        return sum(float(n.split()[-1]) for n in lines if all(one in n for one in wanted))

    def seen() -> tuple[float, float]:
        route = "/v1/services/{name}"
        return (
            count("featurekit_http_request_seconds_count", route=route),
            count("featurekit_http_errors_total", route=route),
        )

    before = seen()
    status, headers, body = server.ask(
        "GET", "/v1/services/nothing", headers={"X-Request-Id": "a7"}
    )
    assert (status, headers["x-request-id"]) == (404, "a7")
    error = json.loads(body)["error"]
    assert (error["request_id"], error["where"]) == ("a7", "/v1/services/nothing")
    assert seen() == (before[0] + 1, before[1] + 1)
    status, headers, _ = server.ask("GET", "/v1/services/plain", headers={"X-Request-Id": "a8"})
    assert (status, headers["x-request-id"]) == (200, "a8")
    assert seen() == (before[0] + 2, before[1] + 1)
