"""The users of docs/security.md can do their own work, on a real server, and nothing more."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
import serving
from redis.exceptions import NoPermissionError, ResponseError

from featurekit import FeatureStore, OnlineService
from featurekit.errors import StoreUnavailable
from featurekit.feed.once import Key
from featurekit.feed.push import take_once
from featurekit.online.store.server import find_binary, scratch_redis
from featurekit.project.api_keys import api_keys, create_api_key

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last

user = Entity("user", {"key": int})
events = EventSource("events", path="data/events.parquet", timestamp_field="at",
                     schema={"key": int, "id": int, "n": int}, event_id="id")
plain = EventSource("plain", path="data/plain.parquet", timestamp_field="at",
                    created_timestamp_column="arrived", schema={"key": int, "n": int})
view = FeatureView("view", entities=[user], source=events, features={"count": Count(window="9d")})
last = FeatureView("last", entities=[user], source=plain, features={"n": Last("n", window="9d")})
service = FeatureService("service", features=[view, last])
"""
SETTINGS = "project: shop\nprovider: local\nonline_store:\n  type: redis\n"
DENIED = r"(?i)no permissions|NOPERM|can't run this command|can't access"
AT = pa.array([0], pa.timestamp("us", tz="UTC"))


def version() -> tuple[int, int]:
    said = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    assert found is not None
    return int(found[1]), int(found[2])


class Users:
    """A server with the users of the page, and a feature repo."""

    def __init__(self, url: str, folder: Path, lines: list[str]) -> None:
        self.url, self.folder, self.lines = (
            url,
            folder,
            [x.replace("PASSWORD", "secret@word") for x in lines],
        )
        with self.client("") as server:
            for line in self.lines:
                server.execute_command(*line.split(" "))

    def as_(self, name: str) -> str:
        return (
            self.url.replace("unix://", f"unix://shop-{name}:secret%40word@") if name else self.url
        )

    def client(self, name: str) -> Any:
        return redis.Redis.from_url(self.as_(name))

    def store(self, name: str) -> FeatureStore:
        return FeatureStore(self.folder, redis_url=self.as_(name))

    def without_info(self) -> None:
        """Say in the repo what users who may not call INFO are not told."""
        told = f"{SETTINGS}featurekit:\n  maxmemory_policy: noeviction\n"
        (self.folder / "feature_store.yaml").write_text(told, encoding="utf-8")

    def fails(self, name: str, *words: Any) -> None:
        with self.client(name) as server, pytest.raises(NoPermissionError):
            server.execute_command(*words)


@pytest.fixture
def users(make_repo: Any) -> Iterator[Users]:
    lines = re.findall(r"^ACL SETUSER .*$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(lines) == 6
    tables = {
        "events": {"key": [1], "id": [1], "n": [3], "at": AT},
        "plain": {"key": [1], "n": [3], "at": AT, "arrived": AT},
    }
    lines = lines[:3] if version() >= (7, 0) else lines[3:]
    if (7, 0) <= version() < (7, 2):  # as the page says of 7.0
        lines = [line.replace(" +client|setinfo", "") for line in lines]
    with scratch_redis() as url:
        yield Users(url, make_repo(MODULE, tables, SETTINGS), lines)


ROW = {"key": 1, "id": 2, "n": 5, "at": AT[0].as_py()}


def test_each_user_does_its_own_work(users: Users) -> None:
    with users.store("admin") as store:
        store.apply()
        store.materialize()
        assert [v.state for v in store.versions("service")] == ["live"]
    with users.store("writer") as store:
        store.push("events", ROW)
        store.push("events", ROW)
        store.push("plain", {"key": 1, "n": 7, "at": ROW["at"], "arrived": ROW["at"]})
        store.push("plain", {"key": 1, "n": 8, "at": ROW["at"]})
    with OnlineService.connect(users.as_("reader"), "shop", "service") as service:
        assert service.get([{"key": 1}, {"key": 2}]).columns["count"] == [0, 0]
    with users.store("admin") as store:
        made, _ = create_api_key(store.online, "shop", "web", ["read:service"])
    with users.store("reader") as store:
        assert api_keys(store.online, "shop") == [made]
        with pytest.raises(StoreUnavailable, match=r"(?i)no permissions"):
            create_api_key(store.online, "shop", "other", ["read:*"])
    (users.folder / "definitions.py").write_text(MODULE.replace("9d", "8d"), encoding="utf-8")
    with users.store("admin") as store:
        store.apply()
        store.materialize()
        store.materialize_incremental()
        store.forget("user", {"key": 1})
        store.rollback("service")
        assert store.gc(retained=True).keys >= 0


def test_a_writer_pushes_under_a_key_also_where_one_ended_half_way(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.without_info()
    with users.store("admin") as store:
        store.apply()
        store.materialize()
    row = {"key": 1, "n": 8, "at": dt.datetime.now(dt.UTC)}
    with users.store("writer") as store:
        found = [take_once(store.parts, "plain", [row], Key("a", "1")) for _ in range(2)]
        assert [one.again for one in found] == [False, True]

        def gone(*_: Any) -> bool:
            raise StoreUnavailable("gone")

        with monkeypatch.context() as patched:
            patched.setattr("featurekit.online.store.redis._commit", gone)
            with pytest.raises(StoreUnavailable, match="in the offline log"):
                take_once(store.parts, "plain", [{**row, "n": 9}], Key("b", "2"))
        assert take_once(store.parts, "plain", [{**row, "n": 9}], Key("b", "2")).again is True
        assert store.get_online_features("service", [{"key": 1}]).columns["n"] == [9]


def test_a_server_that_takes_pushes_works_with_the_rights_of_a_writer(users: Users) -> None:
    """As the pod of deploy/ that takes them, with API keys."""
    users.without_info()
    with users.store("admin") as store:
        store.apply()
        store.materialize()
        _, key = create_api_key(store.online, "shop", "web", ["read:service", "push:plain"])
    words = ("--repo", str(users.folder), "--log", "--auth", "keys")
    row = {"key": 1, "n": 8, "at": dt.datetime.now(dt.UTC).isoformat()}
    with serving.serving(*words, env={"FEATUREKIT_REDIS_URL": users.as_("writer")}) as server:
        bearer = {"authorization": f"Bearer {key}", "idempotency-key": "a"}
        for repeated in (None, "true"):
            status, told, body = server.ask(
                "POST", "/v1/sources/plain/events", {"rows": [row]}, bearer
            )
            assert (status, told.get("featurekit-repeated")) == (200, repeated), body
        asked = ("POST", "/v1/services/service/features", {"rows": [{"key": 1}]}, bearer)
        assert json.loads(server.ask(*asked)[2])["columns"]["n"] == [8]


def test_a_reader_writes_nothing_and_reads_no_other_project(users: Users) -> None:
    with users.store("admin") as store:
        store.apply()
        store.materialize()
    with users.client("") as server:
        (plan,) = server.keys("fk:shop:plan:*")
        server.set("fk:other:live:s", "x")
    for words in (
        ("SET", plan, "x"),
        ("MSET", "fk:shop:state:view:f:{3:i1}", "x"),
        ("UNLINK", plan),
        ("XADD", "fk:shop:pushes:events", "*", "p", ""),
        ("GET", "fk:other:live:s"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return 1", "0"),
        ("ACL", "LIST"),
    ):
        users.fails("reader", *words)
    users.without_info()
    with users.store("reader") as store:
        for work in (store.apply, store.materialize, lambda: store.push("events", ROW)):
            with pytest.raises(StoreUnavailable, match=r"(?i)no permissions"):
                work()


def dumped(server: Any) -> dict[bytes, bytes]:
    """Every key but the clock's, which a writer may move on."""
    return {key: server.dump(key) for key in server.keys("*") if key != b"fk:shop:clock"}


def test_a_writer_publishes_nothing(users: Users) -> None:
    with users.store("admin") as store:
        store.apply()
        store.materialize()
    with users.client("") as server:
        (plan,) = server.keys("fk:shop:plan:*")
        before = dumped(server)
    for words in (
        ("SET", "fk:other:state:x", "x"),
        ("GET", "fk:other:live:s"),
        ("FLUSHALL",),
        ("SCAN", "0"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("EVAL", "return 1", "1", "fk:other:state:x"),
    ):
        users.fails("writer", *words)
    for call in ("'SET', 'fk:other:state:x', 'x'", "'GET', 'fk:other:live:s'", "'FLUSHALL'"):
        with users.client("writer") as server, pytest.raises(ResponseError, match=DENIED):
            server.eval(f"return redis.call({call})", 0)
    if version() >= (7, 0):
        for key in (
            plan,
            *(
                f"fk:shop:{k}"
                for k in ("live:service", "registry", "services", "filled", "apikeys")
            ),
        ):
            users.fails("writer", "SET", key, "x")
            users.fails("writer", "UNLINK", key)
            with users.client("writer") as server, pytest.raises(ResponseError, match=DENIED):
                server.eval("return redis.call('SET', ARGV[1], 'x')", 0, key)
        users.without_info()
        with (
            users.store("writer") as store,
            pytest.raises(StoreUnavailable, match=r"(?i)no permissions"),
        ):
            store.apply()
    else:  # what the page says of Redis 6.2: there a writer can, and only a signature tells
        with users.client("writer") as server:
            server.set(plan, server.get(plan))
    with users.client("") as server:
        assert dumped(server) == before


def test_who_may_not_publish_records_nothing(users: Users) -> None:
    with users.store("admin") as store:
        store.apply()
        store.materialize()
        before = store.registry.dump()
    with users.client("") as server:
        rights = next(line.split(" ")[3:] for line in users.lines if "shop-writer" in line)
        server.execute_command("ACL", "SETUSER", "shop-half", *rights, "-mset")
        held = dumped(server)
    users.without_info()
    (users.folder / "definitions.py").write_text(MODULE.replace("9d", "8d"), encoding="utf-8")
    for name in ("reader", "half", *(["writer"] if version() >= (7, 0) else [])):
        with users.store(name) as store:
            for work in (store.apply, lambda: store.forget("user", {"key": 1})):
                with pytest.raises(StoreUnavailable, match=r"(?i)no permissions"):
                    work()
            assert store.registry.dump() == before, name
    with users.client("") as server:
        assert dumped(server) == held
    with users.store("admin") as store:
        assert {change.action for change in store.plan()} == {"change"}


def test_an_admin_reaches_no_other_project(users: Users) -> None:
    for words in (
        ("SET", "fk:other:plan:s:f", "x"),
        ("GET", "fk:other:plan:s:f"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
    ):
        users.fails("admin", *words)
