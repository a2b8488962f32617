"""What is pushed over HTTP: the same bits as a push in process, in every form; and what is refused,
repeated, or left half way."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pushing
import pyarrow as pa
import pytest
import serving
from pushing import ARROW, AT, PACKED, PARQUET, counts, kill, row, taking
from serving import ROWS, Served, exact

from featurekit import FeatureStore
from featurekit.client import Client
from featurekit.core.waiting import until
from featurekit.errors import (
    ArgumentError,
    BadRowError,
    ContractBroken,
    ContractWarning,
    DefinitionError,
    FeaturekitError,
    RequestRefused,
    SourceError,
)
from featurekit.online.store.server import scratch_redis

CLICKS = "/v1/sources/clicks/events"
WORDS = ("--workers", "2", "--push-timeout", "30s", "--push-queue", "24")
FIELDS = {"source", "rows", "entities", "null_keys", "erring", "quarantined", "forgotten",
          "damaged", "repeated", "arrived", "newest", "broken"}  # fmt: skip


class World:
    """A repo, its store in this process, and a server that takes pushes."""

    def __init__(self, folder: Path, store: FeatureStore, server: Served) -> None:
        self.folder, self.store, self.server = folder, store, server
        self.client = Client(server.url, retries=8)


@pytest.fixture(scope="module")
def pushes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pushed")
    with scratch_redis() as url:
        pushing.write(folder, url)
        with taking(folder, *WORDS) as server, FeatureStore(folder) as store:
            made = World(folder, store, server)
            yield made
            made.client.close()


# --- every value ----------------------------------------------------------------------------------


def _typed(key: int) -> list[dict[str, Any]]:
    """A row of every kind of value for each of six entities from `key` on."""
    made = []
    for i, values in enumerate(ROWS):
        made.append({"key": key + i, "name": "a", "day": dt.date(2024, 1, 1), "raw": b"",
                     "moment": serving.NOW, **values, "at": serving.NOW})  # fmt: skip
    return made


def _found(store: FeatureStore, key: int) -> list[Any]:
    """What both paths answer alike, by their bits."""
    asked = [{"key": key + i} for i in range(len(ROWS))]
    names = [f"latest:{c}" for c in ROWS[0]]
    online = store.get_online_features(names, asked)
    frame = [{**one, "event_timestamp": online.as_of} for one in asked]
    offline = store.get_historical_features(frame, names).to_arrow()
    for name in ROWS[0]:
        assert exact(online.columns[name]) == exact(offline[name].to_pylist()), name
        assert "NOT_FOUND" not in online.status[name]
    return [(exact(online.columns[name]), online.status[name]) for name in ROWS[0]]


def test_every_form_gives_the_bits_of_a_push_in_process(pushes: World):
    schema = serving.SCHEMA.remove(serving.SCHEMA.get_field_index("known"))
    pushed = pushes.store.push("events", _typed(1000))
    wanted = _found(pushes.store, 1000)
    key = 2000
    for form in pushing.bodies("events", _typed(key), schema):
        path, body, headers = pushing.bodies("events", _typed(key), schema)[form]
        status, _, data = pushes.server.ask("POST", path, body, headers)
        assert status == 200, (form, data)
        if form != "feast":
            told = json.loads(data)
            assert told.keys() == FIELDS
            assert (told["rows"], told["entities"]) == (pushed.rows, pushed.entities)
        assert _found(pushes.store, key) == wanted, form
        key += 1000
    rows: Any
    for rows in (_typed, lambda k: pushing.table(_typed(k), schema),
                 lambda k: pl.from_arrow(pushing.table(_typed(k), schema))):  # fmt: skip
        assert pushes.client.push("events", rows(key)) == pushed
        assert _found(pushes.store, key) == wanted
        key += 1000


def test_a_body_that_unpacks_to_too_much_is_refused_and_the_next_is_taken(pushes: World):
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int8()), ["x" * 100_000])
    given = pa.table({"key": [45_000] * 50_000, "n": many, "at": [AT] * 50_000})
    good = pa.table({"key": [45_000], "n": [1], "at": [AT]})
    for written, kind in ((pushing.arrow_bytes, ARROW), (pushing.parquet_bytes, PARQUET)):
        status, _, data = pushes.server.ask("POST", CLICKS, written(given), kind)
        assert (status, b"unpacks to" in data) == (413, True), data
        assert pushes.server.ask("POST", CLICKS, written(good), kind)[0] == 200
    assert counts(pushes.store, "clicks", [45_000]) == [2]


def test_rows_with_arrivals_of_their_own_keep_them(pushes: World):
    known = serving.NOW + dt.timedelta(minutes=3)
    rows = [{**one, "known": known} for one in _typed(30_000)]
    path, body, headers = pushing.bodies("events", rows, serving.SCHEMA)["json rows"]
    assert pushes.server.ask("POST", path, body, headers)[0] == 200
    at = known - dt.timedelta(microseconds=1)
    for instant, status in ((at, "NOT_FOUND"), (known, "PRESENT")):
        frame = [{"key": 30_000, "event_timestamp": instant}]
        found = pushes.store.get_historical_features(frame, ["latest:f"], statuses=True)
        assert found.to_arrow().to_pylist()[0]["f__status"] == status
    _found(pushes.store, 30_000)


def test_a_frame_of_pandas_is_read_as_in_process(pushes: World):
    def frame(key: int, n: list[Any]) -> pd.DataFrame:
        naive = AT.replace(tzinfo=None)
        return pd.DataFrame({"key": range(key, key + len(n)), "n": n, "at": [naive] * len(n)})

    for at, n in ((0, [1.0, float("nan")]), (10, [None, None]), (20, [1, 2]), (30, [1.0, 2.0])):
        done = pushes.client.push("clicks", frame(5000 + at, n))
        assert done == pushes.store.push("clicks", frame(6000 + at, n))
        over, here = (
            pushes.store.get_online_features("clicks", [{"key": k + at}, {"key": k + at + 1}])
            for k in (5000, 6000)
        )
        assert exact(list(over.columns.values())) == exact(list(here.columns.values()))
    for push in (pushes.client.push, pushes.store.push):
        with pytest.raises((BadRowError, SourceError), match="'n'"):
            push("clicks", frame(7000, [1.5, 2.0]))
    assert counts(pushes.store, "clicks", [7000, 7001]) == [0, 0]


def test_an_instant_without_a_zone_is_read_in_that_of_the_source(pushes: World):
    naive = (AT + dt.timedelta(minutes=5)).replace(tzinfo=None)
    pushes.client.push("clicks", {"key": 7100, "n": 1, "at": naive})
    pushes.store.push("clicks", {"key": 7101, "n": 1, "at": naive})
    assert counts(pushes.store, "clicks", [7100, 7101]) == [1, 1]


# --- what is refused ------------------------------------------------------------------------------

GOOD = pushing.table([{"key": 1, "n": 1, "at": AT}],
                     pa.schema([("key", pa.int64()), ("n", pa.int64()),
                                ("at", pa.timestamp("us", "UTC"))]))  # fmt: skip
FEAST = {"push_source_name": "clicks", "df": {"key": [8000], "n": [1], "at": [AT.isoformat()]}}
ROW = row(8000)
REFUSED: list[tuple[int, str, str, Any, dict[str, str]]] = [
    (400, "RequestRefused", CLICKS, b"{", {}),
    (400, "RequestRefused", CLICKS, b"\xff", {}),
    (400, "RequestRefused", CLICKS, b"", {}),
    (400, "RequestRefused", CLICKS, b"[" * 100_000, {}),
    (400, "RequestRefused", CLICKS, [ROW], {}),
    (400, "RequestRefused", CLICKS, {}, {}),
    (400, "RequestRefused", CLICKS, {"rows": [ROW], "columns": {}}, {}),
    (400, "RequestRefused", CLICKS, {"rows": [1]}, {}),
    (400, "RequestRefused", CLICKS, {"rows": ROW}, {}),
    (400, "RequestRefused", CLICKS, {"rows": [ROW], "mode": 1}, {}),
    (400, "RequestRefused", CLICKS, {"columns": {"key": [8000], "n": []}}, {}),
    (400, "RequestRefused", CLICKS, {"columns": {"key": 8000}}, {}),
    (400, "RequestRefused", CLICKS, b'{"rows": [{"key": 8000, "key": 8001}]}', {}),
    (400, "RequestRefused", CLICKS, b'{"rows": [{"key": 1e999}]}', {}),
    (400, "RequestRefused", CLICKS, b"\xc1", PACKED),
    (400, "RequestRefused", CLICKS, b"\xc7\x01\x09x", PACKED),
    (400, "RequestRefused", CLICKS, b"ARROW1", ARROW),
    (400, "RequestRefused", CLICKS, pushing.arrow_bytes(GOOD)[:-60], ARROW),
    (400, "RequestRefused", CLICKS, pushing.parquet_bytes(GOOD)[:-9], PARQUET),
    (400, "RequestRefused", CLICKS, pushing.noise(3, 4000), PARQUET),
    (400, "RequestRefused", CLICKS, {"rows": [ROW]}, {"idempotency-key": ""}),
    (400, "RequestRefused", CLICKS, {"rows": [ROW]}, {"idempotency-key": "x" * 256}),
    (400, "RequestRefused", CLICKS, {"rows": [ROW]}, {"featurekit-timeout-ms": "soon"}),
    (400, "RequestRefused", "/push", {"df": {}}, {}),
    (400, "RequestRefused", "/push", {"push_source_name": "clicks"}, {}),
    (400, "RequestRefused", "/push", {**FEAST, "to": "nowhere"}, {}),
    (400, "RequestRefused", "/push", {**FEAST, "allow_registry_cache": "yes"}, {}),
    (400, "RequestRefused", "/push", {**FEAST, "df": [ROW]}, {}),
    (400, "RequestRefused", "/push", {**FEAST, "mode": 1}, {}),
    (404, "DefinitionError", "/v1/sources/clacks/events", {"rows": [ROW]}, {}),
    (404, "DefinitionError", "/push", {**FEAST, "push_source_name": "clacks"}, {}),
    (406, "RequestRefused", CLICKS, {"rows": [ROW]}, {"accept": "text/csv"}),
    (406, "RequestRefused", CLICKS, {"rows": [ROW]}, {"accept": ARROW["content-type"]}),
    (413, "RequestRefused", CLICKS, b" " * 5_000_000, {}),
    (413, "RequestRefused", CLICKS, {"columns": {"key": [1] * 100_001}}, {}),
    (415, "RequestRefused", CLICKS, b"key,n,at", {"content-type": "text/csv"}),
    (415, "RequestRefused", "/push", b"", ARROW),
    (422, "SourceError", CLICKS, {"rows": [{"key": 8000}]}, {}),
    (422, "SourceError", CLICKS, {"rows": [{**ROW, "m": 1}]}, {}),
    (422, "SourceError", CLICKS, pushing.arrow_bytes(GOOD.drop_columns(["n"])), ARROW),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "n": "one"}]}, {}),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "n": 2**63}]}, {}),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "n": 1.5}]}, {}),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "key": None}]}, {}),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "at": "soon"}]}, {}),
    (422, "BadRowError", CLICKS, {"rows": [row(8000), {**ROW, "at": None}]}, {}),
    (422, "BadRowError", "/push", {**FEAST, "df": {**FEAST["df"], "n": [True]}}, {}),
    (503, "StoreUnavailable", CLICKS, {"rows": [ROW]}, {"featurekit-timeout-ms": "0"}),
]  # fmt: skip


# Named by their place: bodies of now are others in each process that collects the tests.
@pytest.mark.parametrize("case", REFUSED, ids=[f"{c[0]}-{i}" for i, c in enumerate(REFUSED)])
def test_what_is_refused_is_told_and_writes_nothing(pushes: World, case: Any):
    status, kind, path, body, headers = case
    found, named, data = pushes.server.ask("POST", path, body, headers)
    assert found == status, data
    error = json.loads(data)["error"]
    assert error["type"] == kind
    assert all(error[part] for part in ("where", "what", "write", "request_id")), error
    assert named["x-request-id"] == error["request_id"]
    assert ("retry-after" in named) == (kind == "StoreUnavailable")
    if kind == "BadRowError" and path == CLICKS:
        assert "row 1 (the first is 0)" in error["what"]
    if status != 503:  # which is taken all the same, where it had begun
        assert counts(pushes.store, "clicks", [8001]) == [0]


def test_nothing_of_a_refused_push_is_there(pushes: World):
    bad = {"rows": [row(8100), row(8101), {**row(8102), "n": "one"}]}
    assert pushes.server.ask("POST", CLICKS, bad)[0] == 422
    assert counts(pushes.store, "clicks", [8100, 8101, 8102]) == [0, 0, 0]


def test_a_get_is_refused(pushes: World):
    status, named, _ = pushes.server.ask("GET", CLICKS)
    assert (status, named["allow"]) == (405, "POST")


def test_a_server_without_a_log_says_how_to_start_one(server: Served):
    for path in ("/push", "/v1/sources/events/events"):
        status, found = server.post(path, {"rows": []})
        assert (status, found["error"]["type"]) == (501, "RequestRefused")
        assert found["error"]["write"] == "start it by `featurekit serve --repo REPO --log`"


def test_rows_that_are_set_aside_are_told(pushes: World):
    status, found = pushes.server.post(
        "/v1/sources/lenient/events", {"rows": [row(1), {**row(2), "n": "one"}]}
    )
    assert (status, found["rows"], found["quarantined"]) == (200, 1, 1)
    assert counts(pushes.store, "lenient", [1, 2]) == [1, 0]


# --- again ----------------------------------------------------------------------------------------


def test_a_key_gives_the_first_answer_again_byte_by_byte(pushes: World):
    key = {"idempotency-key": "first"}
    asked = [pushes.server.ask("POST", CLICKS, {"rows": [row(9000)]}, key) for _ in range(3)]
    assert {status for status, _, _ in asked} == {200}
    assert [named.get("featurekit-repeated") for _, named, _ in asked] == [None, "true", "true"]
    assert asked[0][2] == asked[1][2] == asked[2][2]
    assert counts(pushes.store, "clicks", [9000]) == [1]
    status, found = pushes.server.post(CLICKS, {"rows": [row(9001)]}, **key)
    assert (status, found["error"]["where"]) == (409, "idempotency-key")
    assert counts(pushes.store, "clicks", [9001]) == [0]


def test_without_a_key_two_are_two_and_with_ids_one(pushes: World):
    for _ in range(2):
        assert pushes.server.post(CLICKS, {"rows": [row(9100)]})[0] == 200
    assert counts(pushes.store, "clicks", [9100]) == [2]
    found = [pushes.server.post("/v1/sources/orders/events", {"rows": [row(1, 77)]})[1]
             for _ in range(2)]  # fmt: skip
    assert [one["repeated"] for one in found] == [0, 1]
    assert counts(pushes.store, "orders", [1]) == [1]


def test_feast_s_curl_is_taken(pushes: World):
    body = {"push_source_name": "clicks", "to": "online_and_offline",
            "df": {"key": [9200, 9201], "n": [1, None], "at": [str(AT)] * 2}}  # fmt: skip
    without = {name: value for name, value in body.items() if name != "to"}
    for asked in (body, without):
        assert pushes.server.ask("POST", "/push", asked)[::2] == (200, b"null")
    assert counts(pushes.store, "clicks", [9200, 9201]) == [2, 2]


@pytest.mark.parametrize("to", ["online", "offline"])
def test_rows_for_one_path_alone_are_refused(pushes: World, to: str):
    df = {"key": [9300], "n": [1], "at": [str(AT)]}
    body = {"push_source_name": "clicks", "to": to, "df": df}
    status, _, data = pushes.server.ask("POST", "/push", body)
    assert (status, b"online_and_offline" in data) == (422, True)
    assert counts(pushes.store, "clicks", [9300]) == [0]


def test_values_are_not_written_into_a_view(pushes: World):
    body = {"feature_view_name": "clicks", "df": {"key": [9300], "n": [1]}}
    status, _, data = pushes.server.ask("POST", "/write-to-online-store", body)
    assert (status, b"POST /push" in data) == (501, True)


def test_twenty_clients_at_two_workers_lose_and_double_nothing(pushes: World):
    def some(client: int) -> None:
        with Client(pushes.server.url, retries=8) as mine:
            for n in range(10):
                done = mine.push("clicks", [{"key": 10_000 + client, "n": n, "at": AT}] * 2)
                assert (done.rows, done.entities) == (2, 1)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(some, range(20)))
    assert counts(pushes.store, "clicks", range(10_000, 10_020)) == [20] * 20


def test_a_client_pushes_from_an_event_loop(pushes: World):
    async def some() -> None:
        async with Client(pushes.server.url) as client:
            asked = [client.push_async("clicks", row(11_000 + n % 2)) for n in range(6)]
            done = await asyncio.gather(*asked)
            assert {one.rows for one in done} == {1}

    asyncio.run(some())
    assert counts(pushes.store, "clicks", [11_000, 11_001]) == [3, 3]


def test_the_client_raises_what_the_store_would(pushes: World):
    good = {"key": 12_000, "n": 1, "at": AT}
    for push in (pushes.client.push, pushes.store.push):
        with pytest.raises(BadRowError, match=r"row 1 .*'n'"):
            push("clicks", [good, {**good, "n": "one"}])
        with pytest.raises(SourceError, match="lacks 'n'"):
            push("clicks", {"key": 1, "at": AT})
        with pytest.raises(SourceError, match="row 0 is int"):
            push("clicks", [1])
        with pytest.raises(DefinitionError, match="clacks"):
            push("clacks", [good])
    pushes.client.push("clicks", {**good, "key": 12_001}, idempotency_key="mine")
    with pytest.raises(RequestRefused, match="another push"):
        pushes.client.push("clicks", {**good, "key": 12_002}, idempotency_key="mine")
    with pytest.raises(ArgumentError, match="idempotency_key"):
        pushes.client.push("clicks", good, idempotency_key="a b")
    assert counts(pushes.store, "clicks", [12_000, 12_001, 12_002]) == [0, 1, 0]


def test_a_contract_is_judged_as_the_store_does(pushes: World):
    rows = [{"key": 14_000 + n // 2, "n": v, "at": AT} for n, v in enumerate((1, 30, 70, 2))]
    for number, push in enumerate((pushes.client.push, pushes.store.push)):
        mine = [{**row, "key": row["key"] + 10 * number} for row in rows]
        with pytest.raises(ContractBroken, match=r"row 1 .* breaks rule n_between"):
            push("ruled", [mine[0], {**mine[1], "n": 101}])
        done = push("ruled", mine)
        assert (done.rows, done.quarantined) == (3, 1)
        assert done.broken == {"big": 1, "odd": 2, "key_unique": 1}
    with pytest.warns(ContractWarning, match="rule (odd|key_unique)"):
        assert counts(pushes.store, "ruled", [14_000, 14_001, 14_010, 14_011]) == [2, 1, 2, 1]
    text = pushes.server.ask("GET", "/metrics")[2].decode()
    assert 'push_rows_breaking_total{rule="odd",source="ruled"} 2.0' in text
    assert 'errors_total{kind="ContractBroken",route="/v1/sources/{name}/events"}' in text


def test_what_was_pushed_is_counted_and_told(pushes: World):
    for _ in range(2):
        pushes.client.push("clicks", row(13_000), idempotency_key="counted")
        pushes.client.push("orders", row(13_001, 13_001))
    pushes.client.push("lenient", [row(13_002), {**row(13_003), "n": "one"}])
    with pytest.raises(FeaturekitError):
        pushes.client.push("clicks", {**row(13_004), "n": "one"})
    text = pushes.server.ask("GET", "/metrics")[2].decode()
    for name in ('pushes_total{result="taken",source="clicks"}',
                 'pushes_total{result="again",source="clicks"}',
                 'push_rows_total{result="taken",source="clicks"}',
                 'push_rows_total{result="repeated",source="orders"}',
                 'push_rows_total{result="quarantined",source="lenient"}',
                 'push_lag_seconds_count{source="clicks"}',
                 'push_seconds_count{part="waited",source="clicks"}'):  # fmt: skip
        (found,) = [x for x in text.splitlines() if x.startswith(f"featurekit_http_{name} ")]
        assert float(found.rpartition(" ")[2]) > 0
    assert "clacks" not in text
    labels = 'kind="BadRowError",route="/v1/sources/{name}/events"'
    assert f"featurekit_http_errors_total{{{labels}}}" in text
    entries = (pushes.store.parts.state_dir / "audit.log").read_text()
    assert '"verb":"push","step":"begun","about":{"source":"clicks"}' in entries


# --- one that dies --------------------------------------------------------------------------------


def test_a_pusher_that_is_killed_again_and_again_loses_and_doubles_nothing(pushes: World):
    done = threading.Event()

    def some(client: int) -> int:
        with Client(pushes.server.url, retries=50) as mine:
            n = 0
            while not done.is_set():
                mine.push("clicks", [{"key": 20_000 + client, "n": n, "at": AT}], timeout_s=60)
                n += 1
            return n

    with ThreadPoolExecutor(6) as pool:
        pushed = [pool.submit(some, client) for client in range(6)]
        try:
            for pause, how in ((0.4, signal.SIGKILL), (0.7, signal.SIGTERM)):
                time.sleep(pause)
                old = pushing.pusher(pushes.server)
                kill(pushes.server, how)
                while pushing.pusher(pushes.server) == old:
                    time.sleep(0.01)
            time.sleep(1.0)
        finally:  # otherwise the pool waits for clients that never end
            done.set()
        wanted = [one.result() for one in pushed]
    assert counts(pushes.store, "clicks", range(20_000, 20_006)) == wanted
    assert min(wanted) > 0


def test_a_push_that_is_killed_once_it_is_logged_counts_once(pushes: World):
    log = pushes.store.parts.state_dir / "log" / "clicks"

    def size() -> int:
        return sum(path.stat().st_size for path in log.glob("*.journal"))

    for key in (21_000, 21_001):
        pushes.client.push("clicks", {"key": 21_009, "n": 1, "at": AT}, timeout_s=60)
        before = size()
        with ThreadPoolExecutor(1) as pool:
            given = {"key": key, "n": 1, "at": AT}
            asked = pool.submit(pushes.client.push, "clicks", given, timeout_s=60)
            until(lambda old=before: size() != old, within_s=30, every_s=0)  # type: ignore[misc]
            kill(pushes.server, signal.SIGKILL)  # the row is in the log, and is being synced
            assert asked.result().rows == 1
    assert counts(pushes.store, "clicks", [21_000, 21_001]) == [1, 1]


def test_too_many_wait_no_longer_than_they_are_told(pushes: World):
    _pause(pushes.store, 1500)
    with ThreadPoolExecutor(36) as pool:
        asked = [pool.submit(pushes.server.ask, "POST", CLICKS, {"rows": [row(500 + n)]})
                 for n in range(36)]  # fmt: skip
        found = [one.result() for one in asked]
    refused = [n for n, (status, _, _) in enumerate(found) if status == 503]
    assert len(refused) == 12
    for n in refused:
        assert found[n][1]["retry-after"] == "1"
        assert b"pushes wait already" in found[n][2]
    assert counts(pushes.store, "clicks", range(500, 536)) == [n not in refused for n in range(36)]


def test_who_waits_no_longer_leaves_a_whole_push(pushes: World):
    _pause(pushes.store, 1000)
    key = {"idempotency-key": "k", "featurekit-timeout-ms": "200"}
    status, _, data = pushes.server.ask("POST", CLICKS, {"rows": [row(600)]}, key)
    assert status == 503
    assert b"the push is under way" in data
    key["featurekit-timeout-ms"] = "20000"
    assert pushes.server.ask("POST", CLICKS, {"rows": [row(600)]}, key)[0] == 200
    assert counts(pushes.store, "clicks", [600]) == [1]


def _pause(store: FeatureStore, ms: int) -> None:
    client = store.parts.online.client  # type: ignore[attr-defined]
    client.execute_command("CLIENT", "PAUSE", str(ms), "ALL")


@pytest.mark.slow
def test_a_repo_that_is_edited_is_used_and_what_is_under_way_at_the_end_is_taken(tmp_path: Path):
    with scratch_redis() as url:
        pushing.write(tmp_path, url)
        with taking(tmp_path, "--drain", "200ms") as server, FeatureStore(tmp_path) as store:
            path = tmp_path / "pushed.py"
            text = path.read_text()
            path.write_text(text + "\nbroken(")
            time.sleep(1.5)
            assert server.post(CLICKS, {"rows": [row(20)]})[0] == 200
            path.write_text(text.replace("int | None}", 'int | None, "m": int | None}'))
            until(lambda: server.post(CLICKS, {"rows": [row(21)]})[0] == 422, within_s=20,
                  every_s=0.1)  # fmt: skip
            assert "lacks 'm'" in server.post(CLICKS, {"rows": [row(22)]})[1]["error"]["what"]
            status, found = server.post(CLICKS, {"rows": [{**row(23), "m": 1}]})
            assert (status, found["error"]["type"]) == (503, "RegistryError")  # not applied yet
            path.write_text(text)
            until(lambda: server.post(CLICKS, {"rows": [row(24)]})[0] == 200, within_s=20,
                  every_s=0.1)  # fmt: skip
            pid = pushing.pusher(server)
            os.kill(pid, signal.SIGSTOP)
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(server.post, CLICKS, {"rows": [row(n)]}) for n in range(8)]
                time.sleep(0.5)
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                os.kill(pid, signal.SIGCONT)
                assert {one.result()[0] for one in asked} == {200}
            assert server.process.wait(30) == 0
            assert counts(store, "clicks", range(8)) == [1 + (n == 0) for n in range(8)]


def test_a_worker_loads_neither_duckdb_nor_the_repo(pushes: World):
    pid = pushes.server.process.pid
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        role = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[-2]
        found.setdefault(role, []).append(Path(f"/proc/{child}/maps").read_text())
    assert {role: len(maps) for role, maps in found.items()} == {b"push": 1, b"serve": 2}
    assert all("duckdb" not in maps and "pyarrow" not in maps for maps in found[b"serve"])
    assert "pyarrow" in found[b"push"][0]


# --- what it says of itself -----------------------------------------------------------------------


def test_the_page_s_requests_are_answered(pushes: World):
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^<!-- pushed -->\n```console\n\$ curl -s localhost:6566(\S+)"
        r"(?: -H '([^:]+): (\S+)')? -d '(.*)'\n```", text, re.M,
    )  # fmt: skip
    assert len(found) == text.count("<!-- pushed -->") == 2
    for path, name, value, body in found:
        status, _, data = pushes.server.ask("POST", path, body, {name: value} if name else {})
        assert status == 200, data


def test_openapi_has_examples_that_are_taken(pushes: World):
    document = json.loads(pushes.server.ask("GET", "/openapi.json")[2])
    own = document["paths"]["/v1/sources/{name}/events"]["post"]
    feast = document["paths"]["/push"]["post"]
    for path, route in ((CLICKS, own), ("/push", feast)):
        body = route["requestBody"]["content"]["application/json"]["examples"]["one row"]["value"]
        status, found = pushes.server.post(path, body)
        assert status == 200, found
        assert {"409", "501", "503"} <= route["responses"].keys()
    assert own["requestBody"]["content"].keys() == {
        "application/json", "application/msgpack", "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet"}  # fmt: skip


def test_a_service_says_whose_it_is(pushes: World):
    described = json.loads(pushes.server.ask("GET", "/v1/services/clicks")[2])
    assert (described["owner"], described["description"]) == (
        "web@example.com",
        "What was clicked.",
    )
    assert [view["owner"] for view in described["views"]] == ["data@example.com"]
    described = json.loads(pushes.server.ask("GET", "/v1/services/orders")[2])
    assert (described["owner"], described["views"][0]["owner"]) == (None, None)


# --- who may --------------------------------------------------------------------------------------


def test_a_key_opens_the_sources_that_it_names(tmp_path: Path):
    with scratch_redis() as url:
        pushing.write(tmp_path, url)
        with FeatureStore(tmp_path) as store:
            mine, other = (_made_key(tmp_path, f"push:{name}") for name in ("clicks", "orders"))
            with serving.serving("--repo", str(tmp_path), "--log", "--auth", "keys") as server:
                for token, status in ((mine, 200), (other, 403), ("", 401)):
                    headers = {"authorization": f"Bearer {token}"}
                    _until_taken(server, headers, status)
                    assert server.ask("POST", "/push", FEAST, headers)[0] == status
                assert counts(store, "clicks", [1, 8000]) == [1, 1]
            entries = (store.parts.state_dir / "audit.log").read_text().splitlines()
            (begun,) = [x for x in entries if '"verb":"push","step":"begun"' in x]
            assert "for key push-clicks" in begun
            assert mine not in begun


def _until_taken(server: Served, headers: dict[str, str], status: int) -> None:
    end = time.monotonic() + 20
    while (found := server.ask("POST", CLICKS, {"rows": [row(1)]}, headers))[0] == 503:
        assert time.monotonic() < end
    assert found[0] == status, found


def _made_key(folder: Path, scope: str) -> str:
    import subprocess
    import sys

    words = ["--json", "keys", "create", scope.replace(":", "-"), "--scope", scope, "--repo",
             str(folder)]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "featurekit.cli", *words], capture_output=True,
                          text=True, check=True)  # fmt: skip
    return str(json.loads(done.stdout)["key"])


def test_a_log_that_is_another_is_refused(tmp_path: Path):
    import subprocess
    import sys

    with scratch_redis() as url:
        pushing.write(tmp_path, url)
        for words in (["--repo", str(tmp_path), "--log", str(tmp_path / "other")],
                      ["--project", "tests", "--redis-url", url, "--log"]):  # fmt: skip
            done = subprocess.run([sys.executable, "-m", "featurekit.cli", "serve", *words],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            assert done.returncode == 64
            assert "--log" in done.stderr
