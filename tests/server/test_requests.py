"""What a server says to requests that it does not answer, and that none of them breaks it."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from serving import Served, asked_rows
from test_values import json_row

from featurekit.errors import ArgumentError, EntityFrameError
from featurekit.online.wire import msgpack
from featurekit.server.failures import STATUSES
from featurekit.server.openapi import hot_paths

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
FEAST, OWN = "/get-online-features", "/v1/services/plain/features"
ROW = {"rows": [{"key": 1}]}
ASKED = {"feature_service": "plain", "entities": {"key": [1]}}
PACKED = {"content-type": "application/msgpack"}
LONG_AGO, SOME_DAY = "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"
REFUSED: list[tuple[int, str, str, str, Any, dict[str, str]]] = [
    (400, "RequestRefused", "POST", OWN, b"{", {}),
    (400, "RequestRefused", "POST", OWN, b"", {}),
    (400, "RequestRefused", "POST", OWN, b"[1]", {}),
    (400, "RequestRefused", "POST", OWN, b'{"rows": [{"key": NaN}]}', {}),
    (400, "RequestRefused", "POST", OWN, b"\xc1", PACKED),
    (400, "RequestRefused", "POST", OWN, b"\xc7\x01\x09x", PACKED),
    (400, "RequestRefused", "POST", OWN, {"rows": [1]}, {}),
    (400, "RequestRefused", "POST", OWN, {"rows": [], "columns": {}}, {}),
    (400, "RequestRefused", "POST", OWN, {"columns": {"key": [1], "k": []}}, {}),
    (400, "RequestRefused", "POST", OWN, {**ROW, "asof": "2024-01-01"}, {}),
    (400, "RequestRefused", "POST", OWN, {**ROW, "request_id": "a\nb"}, {}),
    (400, "ArgumentError", "POST", OWN, {**ROW, "as_of": "yesterday"}, {}),
    (400, "RequestRefused", "POST", OWN, {**ROW, "as_of": 5}, {}),
    (400, "RequestRefused", "POST", OWN, ROW, {"featurekit-timeout-ms": "soon"}),
    (400, "RequestRefused", "POST", FEAST, {"entities": {"key": [1]}}, {}),
    (400, "RequestRefused", "POST", FEAST, {**ASKED, "features": ["latest:f"]}, {}),
    (400, "RequestRefused", "POST", FEAST, {"feature_service": "plain"}, {}),
    (400, "RequestRefused", "POST", FEAST, {**ASKED, "entities": {"key": 1}}, {}),
    (404, "NotServed", "POST", "/v1/services/plane/features", ROW, {}),
    (404, "NotServed", "POST", FEAST, {**ASKED, "feature_service": "plane"}, {}),
    (404, "NotServed", "GET", "/v1/services/plane", None, {}),
    (404, "DefinitionError", "POST", FEAST, {"features": ["latest:g"], "entities": {}}, {}),
    (404, "RequestRefused", "GET", "/nothing", None, {}),
    (405, "RequestRefused", "GET", FEAST, None, {}),
    (405, "RequestRefused", "POST", "/health", b"", {}),
    (405, "RequestRefused", "POST", "/v1/services", b"", {}),
    (406, "RequestRefused", "POST", OWN, ROW, {"accept": "text/csv"}),
    (409, "RequestRefused", "POST", OWN, {**ROW, "service_version": "0123"}, {}),
    (413, "RequestRefused", "POST", OWN, b" " * 5_000_000, {}),
    (413, "RequestRefused", "POST", OWN, {"rows": [{"key": 1}] * 10_001}, {}),
    (413, "RequestRefused", "POST", FEAST, {**ASKED, "entities": {"key": [1] * 10_001}}, {}),
    (415, "RequestRefused", "POST", OWN, ROW, {"content-type": "text/csv"}),
    (422, "EntityFrameError", "POST", OWN, {"rows": [{"key": "1"}]}, {}),
    (422, "EntityFrameError", "POST", OWN, {"rows": [{"key": 2**63}]}, {}),
    (422, "EntityFrameError", "POST", OWN, {"rows": [{"key": 1.0}]}, {}),
    (422, "EntityFrameError", "POST", OWN, {"rows": [{}]}, {}),
    (422, "EntityFrameError", "POST", FEAST, {**ASKED, "entities": {"kay": [1]}}, {}),
    (422, "AsOfTooOld", "POST", "/v1/services/plain/features", {**ROW, "as_of": LONG_AGO}, {}),
    (422, "AsOfInFuture", "POST", OWN, {**ROW, "as_of": SOME_DAY}, {}),
    (503, "StoreUnavailable", "POST", OWN, ROW, {"featurekit-timeout-ms": "0"}),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]} {str(case[4])[:40]}")
def test_a_refusal_has_its_status_and_one_form(server: Served, case: Any):
    status, kind, method, path, body, headers = case
    found, named, data = server.ask(method, path, body, headers)
    assert found == status, data
    error = json.loads(data)["error"]
    assert error.keys() == {"type", "where", "what", "write", "request_id"}
    assert error["type"] == kind
    assert all(error[part] for part in ("where", "what", "write")), error
    assert named["content-type"] == "application/json"
    assert ("retry-after" in named) == (kind == "StoreUnavailable")
    assert ("allow" in named) == (status == 405)


def test_every_status_is_in_the_table_of_the_page_and_in_openapi():
    """What the code may answer, what the page says, and what the cases above show are the same."""
    listed = {int(s) for s in re.findall(r"^\| (\d{3}) \|", PAGE.read_text(encoding="utf-8"), re.M)}
    shown = {case[0] for case in REFUSED} | {401, 403, 429}  # in test_server_access.py
    described = {int(s) for s in hot_paths({})[FEAST]["post"]["responses"]} - {200}
    assert listed - {500} == shown == described
    assert set(STATUSES.values()) <= listed


def test_after_an_error_the_connection_goes_on(server: Served):
    connection = server.connect()
    for body, status in ((b"{", 400), (b"x" * 4_500_000, 413), (json.dumps(ROW), 200)):
        connection.request("POST", OWN, body)
        found = connection.getresponse()
        found.read()
        assert found.status == status
        if found.headers.get("connection") == "close":
            connection.close()
    connection.close()


def test_the_request_id_comes_back(server: Served):
    status, named, data = server.ask("POST", OWN, {**ROW, "request_id": "abc-1"})
    assert (status, named["x-request-id"], json.loads(data)["request_id"]) == (
        200,
        "abc-1",
        "abc-1",
    )
    status, named, data = server.ask("POST", OWN, {"rows": 1}, {"x-request-id": "abc-2"})
    assert (status, named["x-request-id"]) == (400, "abc-2")
    assert json.loads(data)["error"]["request_id"] == "abc-2"


# --- bodies that nobody writes --------------------------------------------------------------------

PARTS: list[Any] = [
    None, True, 0, -1, 2**63, 2**64, 1.5, "", "NaN", "1", "key", "\x00", "é" * 50, [], {}, [[]],
    [None], {"key": 1}, {"key": [1]}, {"": {}}, "2024-01-01", "9" * 5000, [1, "a"], 1e308,
    {"rows": [{"key": 1}]}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00",
]  # fmt: skip
GOOD = [
    ROW, ASKED, {"columns": {"key": [1, 2]}, "of_pandas": ["key"]}, {**ROW, "as_of": "2024-01-01"},
    {"features": ["latest:f", "asked"], "entities": {"key": [1], "basket": [1.0]}},
    {"feature_service": "every", "entities": {
        "key": [1], "name": ["a"], "day": ["2024-01-01"], "raw": ["00"],
        "moment": ["2024-01-01T00:00:00Z"], "basket": ["NaN"], "wait": [1.5], "since": [None],
        "word": ["x"]}, "full_feature_names": True, "service_version": None},
]  # fmt: skip


def mangled(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """The value with some of its parts replaced, left out, doubled or wrapped."""
    if rng.random() < 0.12:
        return rng.choice(PARTS)
    if isinstance(value, dict):
        made = {k: mangled(v, rng, depth + 1) for k, v in value.items() if rng.random() > 0.05}
        if rng.random() < 0.08:
            made[rng.choice(("x", "rows", "entities", "as_of", "key", "features", "columns"))] = (
                rng.choice(PARTS)
            )
        return made
    if isinstance(value, list):
        made_list = [mangled(v, rng, depth + 1) for v in value]
        return made_list * 2 if rng.random() < 0.1 else made_list
    return value


def noise(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them changed, cut out or put in."""
    made = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(len(made) + 1)
        made[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return bytes(made)


@pytest.mark.parametrize("seed", range(4))
def test_no_body_is_a_fault_of_the_server(server: Served, seed: int):
    rng = random.Random(seed)
    connection, seen = server.connect(), set()
    for _ in range(400):
        body = mangled(rng.choice(GOOD), rng)
        packed = rng.random() < 0.3
        try:
            data = msgpack.pack(body) if packed else json.dumps(body).encode()
        except TypeError:
            continue
        headers = PACKED if packed else {}
        if rng.random() < 0.3:
            headers = {**headers, "accept": "application/vnd.apache.arrow.stream"}
        path = rng.choice((FEAST, OWN, OWN, "/v1/services/every/features"))
        connection.request("POST", path, noise(data, rng), headers)
        found = connection.getresponse()
        answer = found.read()
        assert found.status < 500, (body, answer)
        seen.add(found.status)
        if found.headers.get("connection") == "close":
            connection.close()
    connection.close()
    assert {200, 400, 422} <= seen  # some were right, some had no form, some did not fit


def test_an_answer_never_has_what_json_has_not(server: Served):
    """Standard JSON alone: a strict reader takes every answer."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    rows = [{"key": k} for k in range(5)]
    feast = {"feature_service": "plain", "entities": {"key": [1, 3]}}
    for path, body in ((OWN, {"rows": rows}), (OWN, {"rows": rows[1:3]}), (FEAST, feast)):
        status, _, data = server.ask("POST", path, body)
        assert status == 200
        assert b'"NaN"' in data
        json.loads(data, parse_constant=refuse)


# --- the page -------------------------------------------------------------------------------------


def test_the_requests_of_the_page_are_answered(server: Served):
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(
        r"^<!-- served -->\n```console\n\$ curl -s localhost:6566(\S+) -d '(.*)'\n```", text, re.M
    )
    assert len(found) == text.count("<!-- served -->") == 3
    for path, body in found:
        # curl -d calls it a form
        headers = {"content-type": "application/x-www-form-urlencoded"}
        status, _, data = server.ask("POST", path, body, headers)
        assert status == 200, data


@pytest.mark.parametrize("as_of", ["9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00+14:00"])
def test_an_instant_outside_the_calendar_is_refused(world: Any, server: Served, as_of: str):
    status, told = server.post(OWN, {**ROW, "as_of": as_of})
    assert (status, told["error"]["type"]) == (400, "ArgumentError")
    assert "outside the years 1 to 9999" in told["error"]["what"]
    for given in (as_of, dt.datetime.fromisoformat(as_of)):
        with pytest.raises(ArgumentError, match="outside the years"):
            world.store.get_online_features("plain", [{"key": 1}], as_of=given)
        with pytest.raises(ArgumentError, match="outside the years"):
            world.store.get_historical_features(service="plain", at=[given])


@pytest.mark.parametrize(
    "wait", [1e308, -1e308, 10**300, "9" * 400 + "us", "NaN", True], ids=range(6)
)
def test_a_duration_that_there_is_not_is_refused(server: Served, wait: Any):
    row = {"key": 1, "name": "a", "day": "2024-01-01", "raw": "00", "basket": 1.0,
           "moment": "2024-01-01T00:00:00Z", "since": None, "word": "x"}  # fmt: skip
    for given in (0, wait):
        status, told = server.post(
            "/v1/services/every/features", {"rows": [{**row, "wait": given}]}
        )
        assert status == (200 if given is not wait else 422), told
    assert "wait" in told["error"]["what"]


@pytest.mark.parametrize("field", ["moment", "since", "wait"])
def test_a_value_that_leaves_its_type_s_range_is_refused(world: Any, server: Served, field: str):
    """Over HTTP and in this process: in UTC the instants lie outside the calendar."""
    beyond = dt.timedelta.max if field == "wait" else "9999-12-31T23:59:59.999999-14:00"
    before = dt.timedelta.min if field == "wait" else "0001-01-01T00:00:00+14:00"
    (row,) = asked_rows()[1:2]
    for value in (beyond, before):
        given = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        with pytest.raises(EntityFrameError, match=field):
            world.store.get_online_features("every", [{**row, field: given}])
        text = json_row({**row, field: value})
        status, told = server.post("/v1/services/every/features", {"rows": [text]})
        assert (status, field in told["error"]["what"]) == (422, True), told
