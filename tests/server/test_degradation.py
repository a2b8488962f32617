"""What is answered when something is wrong, row by row of the table in docs/serve.md: Redis is slow
or gone, states are missing or damaged, numbers differ; and what a service says that opts in."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import serving
from serving import Served

from featurekit import FeatureService, FeatureStore, feature
from featurekit.client import Client
from featurekit.core.keys import project_key
from featurekit.define.identity import service_fingerprint
from featurekit.errors import (
    DamagedState,
    DamagedView,
    DefinitionError,
    EntityFrameError,
    FingerprintMismatch,
    StoreUnavailable,
)
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.service import OnlineService
from featurekit.online.store.server import scratch_redis
from featurekit.project.differences import reasons

MODULE = """
import datetime as dt
import math
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum

one = Entity("one", {"key": int})
events = EventSource("events", path="events.parquet", timestamp_field="at",
                     created_timestamp_column="known",
                     schema={"key": int, "x": float, "word": str, "day": dt.date})
sums = FeatureView("sums", entities=[one], source=events, features={
    "total": Sum("x", window="9d", default=-1.5), "n": Count(window="9d"),
    "word": Last("word", window="9d", default="nothing"),
    "day": Last("day", window="9d", default=dt.date(1, 1, 1)), "plain": Sum("x", window="9d"),
})
latest = FeatureView("latest", entities=[one], source=events, features={"x": "x"})

@feature
def asked(basket: float, key: int | None) -> float:
    return basket * 2.0 if key is None else basket / key

@feature
def again(asked: float) -> float:
    return asked + 0.1

@feature
def grown(basket: float) -> float:
    return math.exp(basket)

@feature
def of_a_feature(basket: float, plain: float | None) -> float:
    return basket

@feature
def of_the_instant(basket: float, as_of: dt.datetime) -> float:
    return basket

every = [sums, latest, asked, again, grown, of_a_feature, of_the_instant]
strict = FeatureService("strict", features=[sums, latest], request={"basket": float})
kind = FeatureService("kind", features=every, request={"basket": float}, on_outage="defaults")
"""
CONFIG = """
project: tests
online_store:
  type: redis
featurekit:
  redis_url: {url}
  serving_log:
    to: parquet
"""
AT = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(hours=1)
ROWS = [{"key": 1, "basket": 0.3}, {"key": 0, "basket": 0.5}, {"key": None, "basket": 1.0}]
INSTEAD = {
    "total": ([-1.5] * 3, ["DEFAULT"] * 3),
    "n": ([None] * 3, ["DEFAULT"] * 3),
    "word": (["nothing"] * 3, ["DEFAULT"] * 3),
    "day": ([dt.date(1, 1, 1)] * 3, ["DEFAULT"] * 3),
    "plain": ([None] * 3, ["DEFAULT"] * 3),
    "x": ([None] * 3, ["DEFAULT"] * 3),
    "asked": ([0.3, None, 2.0], ["PRESENT", "ERROR", "PRESENT"]),
    "again": ([0.3 + 0.1, None, 2.1], ["PRESENT", "ERROR", "PRESENT"]),
    "grown": ([math.exp(x) for x in (0.3, 0.5, 1.0)], ["PRESENT"] * 3),
    "of_a_feature": ([None] * 3, ["DEFAULT"] * 3),
    "of_the_instant": ([None] * 3, ["DEFAULT"] * 3),
}
"""What the service `kind` says to `ROWS` while Redis is away."""


def answered(found: OnlineResult) -> dict[str, tuple[list[Any], list[str]]]:
    return {name: (values, found.status[name]) for name, values in found.columns.items()}


@dataclass(frozen=True, slots=True)
class Shop:
    """A repo and the Redis that it has filled."""

    folder: Path
    url: str

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Redis answers nobody, and its connections stay open."""
        with self.redis() as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def key(self, *parts: str) -> bytes:
        return project_key("tests", *parts)


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    times = pa.array([AT, AT], pa.timestamp("us", "UTC"))
    made = {"key": [1, 2], "x": [0.1, 0.2], "word": ["a", "b"], "day": [AT.date()] * 2}
    pq.write_table(pa.table({**made, "at": times, "known": times}), folder / "events.parquet")
    (folder / "definitions.py").write_text(textwrap.dedent(MODULE))
    with scratch_redis() as url:
        (folder / "feature_store.yaml").write_text(CONFIG.format(url=json.dumps(url)))
        serving.fill(folder)
        yield Shop(folder, url)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture(scope="module")
def shop_server(filled: Shop) -> Iterator[Served]:
    with serving.serving("--repo", str(filled.folder), "--timeout", "400ms") as made:
        yield made


@pytest.fixture
def client(shop_server: Served) -> Iterator[Client]:
    with Client(shop_server.url, timeout_s=20.0, retries=0) as made:
        yield made


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def rows_of(service: str) -> list[dict[str, Any]]:
    return ROWS if service == "kind" else [{"key": 1, "basket": 0.3}]


# --- Redis is slow, or gone -----------------------------------------------------------------------


def test_while_redis_is_slow_a_service_is_a_503_in_time_or_says_its_defaults(
    filled: Shop, shop_server: Served, client: Client
) -> None:
    before = client.get_online_features("kind", ROWS)
    assert {*before.status["x"]} == {"PRESENT", "NOT_FOUND"}
    with filled.paused():
        began = time.monotonic()
        status, named, data = shop_server.ask(
            "POST", "/v1/services/strict/features", {"rows": rows_of("strict")}
        )
        assert (status, named["retry-after"]) == (503, "1"), data
        assert json.loads(data)["error"]["type"] == "StoreUnavailable"
        found = client.get_online_features("kind", ROWS)
        assert time.monotonic() - began < 10
        assert answered(found) == INSTEAD
        assert abs(found.as_of - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        assert client.get_online_features("kind", ROWS, AT).as_of == AT
        metrics = shop_server.ask("GET", "/metrics")[2].decode()
        assert 'featurekit_http_values_total{service="kind",status="DEFAULT"}' in metrics
        assert "featurekit_online_store_up 0.0" in metrics
        with pytest.raises(EntityFrameError):
            client.get_online_features("kind", [{"key": "x", "basket": 1.0}])
    until(lambda: "DEFAULT" not in client.get_online_features("kind", ROWS).status["x"])
    assert answered(client.get_online_features("kind", ROWS)) == answered(before)
    until(lambda: b"featurekit_online_store_up 1.0" in shop_server.ask("GET", "/metrics")[2])
    metrics = shop_server.ask("GET", "/metrics")[2].decode()
    assert 'featurekit_view_materialized_timestamp_seconds{view="latest"}' in metrics
    assert 'featurekit_push_lag_seconds{source="events"} 0.0' in metrics


def test_defaults_are_marked_in_every_form_of_answer(
    filled: Shop, shop_server: Served, client: Client
) -> None:
    client.get_online_features("kind", ROWS)
    with filled.paused():
        status, own = shop_server.post("/v1/services/kind/features", {"rows": ROWS})
        assert (status, own["status"]["total"], own["columns"]["total"]) == (
            200, "DEFAULT", [-1.5] * 3,
        )  # fmt: skip
        columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
        status, feast = shop_server.post(
            "/get-online-features", {"feature_service": "kind", "entities": columns}
        )
        named = dict(zip(feast["metadata"]["feature_names"], feast["results"], strict=True))
        assert (named["word"]["values"], named["word"]["statuses"]) == (
            ["nothing"] * 3, ["DEFAULT"] * 3,
        )  # fmt: skip
        # Nobody knows now whether there is such a version.
        status, _ = shop_server.post(
            "/v1/services/kind/features", {"rows": ROWS, "service_version": "0123"}
        )
        assert status == 503
        # A caller that waits less than the server does is answered in its own time.
        status, own = shop_server.post(
            "/v1/services/kind/features", {"rows": ROWS}, **{"featurekit-timeout-ms": "20"}
        )
        assert (status, own["status"]["word"]) == (200, "DEFAULT")
        frame = client.get_online_features("kind", ROWS).to_pandas()
        assert frame["n"].isna().all()
        # A list of features belongs to no service that could have opted in.
        listed = {"features": ["sums:total"], "entities": {"key": [1]}}
        assert shop_server.post("/get-online-features", listed)[0] == 503
    until(lambda: "DEFAULT" not in client.get_online_features("kind", ROWS).status["x"])


async def asked_async(service: OnlineService) -> OnlineResult:
    return await service.get_async(ROWS)


def test_when_redis_is_gone_the_store_does_the_same(tmp_path: Path) -> None:
    with shop(tmp_path) as made:
        one = OnlineService.connect(made.url, "tests", "kind")
        two = OnlineService.connect(made.url, "tests", "strict")
        never = OnlineService.connect(made.url, "tests", "kind")
        with one, two, never:
            for service in (one, two):
                service.get(rows_of(service.name))
            with made.redis() as client:
                client.shutdown(nosave=True)
            assert answered(one.get(ROWS)) == INSTEAD
            assert answered(asyncio.run(asked_async(one))) == INSTEAD
            shown = one.get(ROWS, full_feature_names=True, request_fields=True)
            assert shown.status["sums__total"] == ["DEFAULT"] * 3
            assert shown.request == {"basket": [0.3, 0.5, 1.0]}
            with pytest.raises(StoreUnavailable):
                two.get(rows_of("strict"))
            with pytest.raises(StoreUnavailable):  # it does not know what the defaults are
                never.get(ROWS)


def test_the_serving_log_says_defaults_and_a_replay_takes_them_for_no_agreement(
    tmp_path: Path,
) -> None:
    with shop(tmp_path) as made, FeatureStore(tmp_path) as store:
        store.get_online_features("kind", ROWS)
        with made.redis() as client:
            client.shutdown(nosave=True)
        assert answered(store.get_online_features("kind", ROWS)) == INSTEAD
        log = store.serving_log
        assert log is not None
        log.close()
        assert (log.done.written, log.done.dropped) == (6, 0)
        statuses = [
            status
            for block in store.parts.served()
            for row in zip(*block.statuses, strict=True)
            for status in row
        ]
        stored = 8 * len(ROWS)
        assert statuses.count("DEFAULT") == stored
        report = store.check_parity("kind", mode="replay")
        assert report.differing == 0
        assert report.unchecked == {"values that are defaults, given in an outage": stored}
        assert report.features["sums__total"].compared == len(ROWS)
        assert report.features["grown"].compared == 2 * len(ROWS)


def test_an_opt_in_is_a_version_of_its_own_and_of_a_plan_that_says_so(filled: Shop) -> None:
    with FeatureStore(filled.folder) as store:
        services = store.repo.compiled_services
    plain = replace(services["kind"], on_outage=None)
    assert service_fingerprint(plain) != services["kind"].fingerprint
    assert reasons(plain, services["kind"]) == ("on_outage none → defaults",)
    with filled.redis() as client:
        plans = {
            name: json.loads(client.get(filled.key("plan", name, services[name].fingerprint)))
            for name in ("strict", "kind")
        }
    assert {name: plan["format"] for name, plan in plans.items()} == {"strict": 1, "kind": 3}
    assert "on_outage" not in json.dumps(plans["strict"])


def test_what_may_be_said_of_an_outage_is_one_of_two() -> None:
    with pytest.raises(DefinitionError, match='on_outage is "error" or "defaults", not'):
        FeatureService("s", features=[asked], on_outage="nulls")  # type: ignore[arg-type]


@feature
def asked(basket: float) -> float:
    return basket


# --- what Redis holds is wrong --------------------------------------------------------------------


def test_a_view_that_is_not_filled_is_a_404_that_says_what_to_run(
    filled: Shop, shop_server: Served
) -> None:
    more = filled.folder / "more.py"
    more.write_text(
        "from definitions import latest\n"
        "from featurekit import FeatureService, FeatureView\n"
        "fresh = FeatureView('fresh', entities=latest.entities, source=latest.source, "
        "features={'y': 'x'})\n"
        "unfilled = FeatureService('unfilled', features=[fresh])\n"
    )
    try:
        with FeatureStore(filled.folder) as store:
            store.apply()
        status, found = shop_server.post("/v1/services/unfilled/features", {"rows": [{"key": 1}]})
        assert (status, found["error"]["type"]) == (404, "NotServed")
        assert "featurekit materialize" in found["error"]["write"]
    finally:
        more.unlink()


def test_an_unknown_entity_is_a_status(client: Client) -> None:
    found = client.get_online_features("strict", [{"key": 77, "basket": 1.0}])
    assert {status for column in found.status.values() for status in column} == {"NOT_FOUND"}
    assert (found.columns["n"], found.columns["total"], found.columns["x"]) == ([0], [-1.5], [None])


def test_columns_are_answered_as_rows_where_a_transform_reads_a_key(client: Client) -> None:
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    found = client.get_online_features("kind", columns, AT)
    assert found.columns["asked"] == [0.3, None, 2.0]
    assert answered(found) == answered(client.get_online_features("kind", ROWS, AT))


def test_a_damaged_state_is_a_status_beside_others_and_alone_an_error(
    filled: Shop, client: Client
) -> None:
    known = [{"key": 1, "basket": 1.0}, {"key": 2, "basket": 1.0}]
    before = client.get_online_features("strict", known)
    with filled.redis() as redis_client:
        keys = [k for k in redis_client.scan_iter() if b":latest:" in k or b"latest" in k]
        kept = {k: redis_client.get(k) for k in keys if redis_client.type(k) == b"string"}
        states = {k: v for k, v in kept.items() if v and k.endswith(b"}")}
        assert len(states) == 2
        one = min(states)  # keys are in the order of their ints
        try:
            redis_client.set(one, flipped(states[one]))
            found = client.get_online_features("strict", known)
            assert found.status["x"] == ["DAMAGED", "PRESENT"]
            assert found.status["total"] == ["PRESENT", "PRESENT"]
            assert found.columns["x"] == [None, 0.2]
            with pytest.raises(DamagedState):
                client.get_online_features("strict", known[:1])
            with pytest.raises(DamagedState):  # damage is no outage
                client.get_online_features("kind", known[:1])
        finally:
            redis_client.set(one, states[one])
    assert answered(client.get_online_features("strict", known)) == answered(before)


def flipped(value: bytes) -> bytes:
    return value[:-6] + bytes([value[-6] ^ 1]) + value[-5:]


def test_states_that_are_gone_are_a_503_until_they_are_filled_again(
    filled: Shop, client: Client
) -> None:
    client.get_online_features("kind", ROWS)
    with filled.redis() as redis_client:
        kept = {k: redis_client.dump(k) for k in redis_client.scan_iter()}
        states = [k for k in kept if k.endswith(b"}")]
        redis_client.config_set("maxmemory-policy", "allkeys-lru")
        redis_client.config_set("maxmemory", "1")
        try:
            until(lambda: redis_client.info("stats")["evicted_keys"] > 0)
        finally:
            redis_client.config_set("maxmemory", "0")
            redis_client.config_set("maxmemory-policy", "noeviction")
        assert states
        for key, value in kept.items():
            redis_client.restore(key, 0, value, replace=True)

    def lost() -> bool:
        try:
            client.get_online_features("kind", ROWS)
        except DamagedView:
            return True
        return False

    until(lost)  # and not the defaults: states that are lost are no outage
    with FeatureStore(filled.folder) as store:
        store.materialize()
    until(lambda: not lost())


def test_other_numbers_are_a_503_until_a_platform_is_asked_that_computes_them(
    filled: Shop, client: Client
) -> None:
    with FeatureStore(filled.folder) as store:
        service = store.repo.compiled_services["kind"]
    name = filled.key("plan", "kind", service.fingerprint)
    with filled.redis() as redis_client:
        plan = redis_client.get(name)
        forged = json.loads(plan)
        assert forged["numerics"]
        forged["numerics"] = dict.fromkeys(forged["numerics"], "another")
        redis_client.set(name, json.dumps(forged))
        try:
            with serving.started("--repo", str(filled.folder)) as server:
                until(lambda: b"FingerprintMismatch" in server.ask("GET", "/ready")[2])
                assert server.ask("GET", "/ready")[0] == 503
                with Client(server.url, retries=0) as other, pytest.raises(FingerprintMismatch):
                    other.get_online_features("kind", ROWS)
        finally:
            redis_client.set(name, plan)
