"""A caller that sends slowly, or ints for floats, and a store that lost everything meanwhile."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import serving
from serving import NOW, Served, fill, started, write

from featurekit.core.coerce import Misfit, asked
from featurekit.core.texts import of_json
from featurekit.core.types import FLOAT
from featurekit.online.store.server import scratch_redis

OWN, FEAST = "/v1/services/plain/features", "/get-online-features"
PATHS = (OWN, FEAST, "/v1/sources/events/events")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that allows a request half a second, and may push."""
    folder = tmp_path_factory.mktemp("quick")
    with scratch_redis() as url:
        write(folder, url)
        fill(folder)
        words = ["--repo", str(folder), "--log", "--timeout", "500ms"]
        with serving.serving(*words, "--push-timeout", "500ms") as made:
            yield made


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", [b"", b'{"rows": ['], ids=["nothing", "a part"])
def test_a_body_that_does_not_arrive_is_a_408_in_time(quick: Served, path: str, sent: bytes):
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n".encode()
    with socket.create_connection((quick.host, quick.port), 20) as one:
        began = time.monotonic()
        one.sendall(head + sent)
        reader = one.makefile("rb")
        assert reader.readline().split()[1] == b"408"
        body = reader.read().partition(b"\r\n\r\n")[2]  # to the end: the connection is closed
        assert 0.4 < time.monotonic() - began < 10
    error = json.loads(body)["error"]
    assert (error["type"], error["where"]) == ("RequestRefused", "body")
    assert error["what"] == "the body did not arrive within 0.5 s"


def test_a_caller_who_allows_less_time_than_the_server_is_told_as_of_a_late_answer(quick: Served):
    head = (
        f"POST {OWN} HTTP/1.1\r\nhost: x\r\nfeaturekit-timeout-ms: 50\r\ncontent-length: 9\r\n\r\n"
    )
    with socket.create_connection((quick.host, quick.port), 20) as one:
        one.sendall(head.encode())
        assert one.makefile("rb").readline().split()[1] == b"503"


def test_a_body_that_takes_a_part_of_the_time_is_answered(quick: Served):
    body = json.dumps({"rows": [{"key": 1}]}).encode()
    head = f"POST {OWN} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((quick.host, quick.port), 20) as one:
        one.sendall(head + body[:5])
        time.sleep(0.1)
        one.sendall(body[5:])
        assert one.makefile("rb").readline().split()[1] == b"200"


# --- ints for floats ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [0, 3, -(2**53), 2**53 + 2, 2**60, 1152921504606847000, 10**17, -(2**63), 2**63, 10**22],
)
def test_an_int_that_is_how_a_double_is_written_is_that_double(number: int):
    found = of_json(number, FLOAT)
    assert type(found) is float
    assert found == float(str(number))


@pytest.mark.parametrize("number", [2**53 + 1, 1152921504606847001, 10**23 + 1, 10**400])
def test_an_int_that_is_no_double_is_refused(number: int):
    assert of_json(number, FLOAT) == number
    assert type(of_json(number, FLOAT)) is int
    with pytest.raises(Misfit):
        asked(number, FLOAT)


def test_a_caller_may_write_floats_as_javascript_does(server: Served):
    row = {"key": 1, "name": "a", "day": "2024-01-01", "raw": "00ff", "moment": NOW.isoformat(),
           "wait": None, "since": None, "word": "x"}  # fmt: skip
    path, begun = "/v1/services/every/features", json.dumps(row)[:-1]
    answers = [
        server.post(path, f'{{"request_fields": true, "rows": [{begun}, "basket": {n}}}]}}')
        for n in ("1152921504606847000", "1152921504606846976.0", "9007199254740993")
    ]
    assert [status for status, _ in answers] == [200, 200, 422]
    assert answers[0][1]["columns"] == answers[1][1]["columns"]


# --- a store that lost everything -----------------------------------------------------------------


def test_a_redis_that_was_flushed_is_no_service_that_never_was(tmp_path: Path):
    with scratch_redis() as url:
        write(tmp_path, url)
        fill(tmp_path)
        with serving.serving("--repo", str(tmp_path)) as made:
            assert made.post(OWN, {"rows": [{"key": 1}]})[0] == 200
            with redis.Redis.from_url(url) as client:
                client.flushall()
            status, found = made.post(OWN, {"rows": [{"key": 1}]})
            assert (status, found["error"]["type"]) == (503, "DamagedView")
            assert found["error"]["write"] == "run `featurekit apply` and `featurekit materialize`"
            assert made.post("/v1/services/none/features", {"rows": [{"key": 1}]})[0] == 404
            fill(tmp_path)
            end = time.monotonic() + 10
            while made.post(OWN, {"rows": [{"key": 1}]})[0] != 200:
                assert time.monotonic() < end
                time.sleep(0.1)


def test_pages_for_people_answer_an_outage_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with scratch_redis() as url:
        write(tmp_path, url)
        fill(tmp_path)
        with serving.serving("--repo", str(tmp_path)) as made:
            assert made.ask("GET", "/v1/services")[0] == 200
            with redis.Redis.from_url(url) as client:
                client.shutdown(nosave=True)
            for path in ("/v1/services", "/v1/services/plain", "/docs", "/openapi.json"):
                assert made.ask("GET", path)[0] == 503
    assert "Traceback" not in capfd.readouterr().err


def test_the_access_log_names_who_asks_too_often(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    from featurekit.project.api_keys import create_api_key
    from featurekit.store import FeatureStore

    with scratch_redis() as url:
        write(tmp_path, url)
        fill(tmp_path)
        with FeatureStore(tmp_path) as store:
            project = store.config.project
            key, token = create_api_key(store.parts.online, project, "web", ["read:*"], rate=1.0)
        words = ["--repo", str(tmp_path), "--auth", "keys", "--access-log", "--log-format", "json"]
        with started(*words) as made:
            made.wait()
            headers = {"authorization": f"Bearer {token}"}
            body = {"rows": [{"key": 1}]}
            found = {made.ask("POST", OWN, body, headers)[0] for _ in range(5)}
            assert found == {200, 429}
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"status"' in line]
    named = {line["key"] for line in lines if line["status"] == 429}
    assert named == {key.id}


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--workers", "2"], ["--log"]], ids=["workers", "pushes"])
def test_nobody_waits_at_a_door_that_no_worker_opens(tmp_path: Path, more: list[str]):
    """A worker that ends waits for a request that it has begun. Meanwhile callers are refused, and
    not taken by a socket that nobody reads."""
    with scratch_redis() as url:
        write(tmp_path, url)
        fill(tmp_path)
        words = ["--repo", str(tmp_path), "--drain", "50ms", "--timeout", "30s"]
        with serving.serving(*words, *more) as made:
            head = f"POST {OWN} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
            with socket.create_connection((made.host, made.port), 20) as slow:
                slow.sendall(head.encode())
                time.sleep(0.2)
                made.process.terminate()
                end = time.monotonic() + 15
                while True:
                    try:
                        socket.create_connection((made.host, made.port), 20).close()
                    except ConnectionRefusedError:
                        break
                    assert time.monotonic() < end
                    time.sleep(0.05)
                assert made.process.poll() is None, "it has ended, so that this shows nothing"
            assert made.process.wait(30) == 0
