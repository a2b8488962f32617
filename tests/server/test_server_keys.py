"""Keys of callers in one worker: when it asks Redis, when a key ends, and whom it takes it for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit.errors import ConfigError, FeaturekitError, RequestRefused, StoreUnavailable
from featurekit.online.store.memory import MemoryStore
from featurekit.project.api_keys import (
    api_keys,
    api_keys_key,
    create_api_key,
    is_scope,
    read_keys,
    revoke_api_key,
)
from featurekit.server.access import Access
from featurekit.server.callers import ANYONE, Caller
from featurekit.server.known_keys import FRESH_S, OUTAGE_S
from featurekit.server.settings import AccessSettings

KEYS = AccessSettings(auth=("keys",))
DAY_US = 86_400_000_000


class Store(MemoryStore):
    """A store that counts what is read, and that can be away or answer never."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.away, self.silent, self.takes_s = 0, False, False, 0.0

    async def read_async(self, keys: Any) -> Any:
        self.reads += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.away:
            raise StoreUnavailable("Redis at 10.0.0.7:6379 is away")
        return await super().read_async(keys)


class World:
    """A worker's access, with a clock that the test sets."""

    def __init__(self, settings: AccessSettings = KEYS) -> None:
        self.store, self.at, self.wall = Store(), 1000.0, time.time()
        self.access = Access(
            settings, self.store, "shop", clock=lambda: self.at, now=lambda: self.wall
        )

    def make(self, *scopes: str, name: str = "web", **more: Any) -> str:
        return create_api_key(self.store, "shop", name, scopes or ("read:checkout",), **more)[1]

    async def ask(self, token: str | bytes) -> Caller:
        given = token if isinstance(token, bytes) else token.encode()
        header = b"authorization", b"Bearer " + given
        found, rate = await self.access.caller([(b"host", b"x"), header])
        self.access.count(found, rate)
        return found

    async def status(self, token: str | bytes) -> int:
        """200, or the status of the refusal."""
        try:
            await self.ask(token)
        except RequestRefused as error:
            return error.status
        except StoreUnavailable:
            return 503
        return 200


def run(work: Callable[[World], Any], settings: AccessSettings = KEYS) -> None:
    async def inside() -> None:
        world = World(settings)
        try:
            await work(world)
        finally:
            await world.access.close()

    asyncio.run(inside())


def test_a_key_is_its_caller() -> None:
    async def work(world: World) -> None:
        caller = await world.ask(world.make("read:checkout", "push:orders"))
        assert (caller.kind, caller.name) == ("key", "web")
        assert caller.scopes == {"read:checkout", "push:orders"}
        (kept,) = api_keys(world.store, "shop")
        assert caller.who == f"key web {kept.id}"

    run(work)


def test_without_auth_anybody_asks_and_nothing_is_read() -> None:
    async def work(world: World) -> None:
        assert await world.access.caller([]) == (ANYONE, None)
        ANYONE.need("push:orders")
        assert world.store.reads == 0

    run(work, AccessSettings())


def bad_tokens(good: str) -> Iterator[bytes]:
    """Tokens that are nearly the good one, or nothing like it."""
    head, secret = good.rsplit("-", 1)
    other = "1" if secret[0] != "1" else "2"
    yield from (
        f"{head}-{other}{secret[1:]}".encode(),
        f"{head}-{secret[:-1]}".encode(),
        f"{head}-{secret}0".encode(),
        f"{head}-{secret.upper()}".encode(),
        f"fk-api-{'0' * 12}-{secret}".encode(),
        good.upper().encode(),
        good.replace("fk-api", "fk-apí").encode(),
        "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in good).encode(),
        good.encode() + b"\n",
        good.encode() + b"\x00",
        good.encode().replace(b"-", b"-\r\nx: "),
        b"fk-api-",
        b"fk-api-" + b"a" * 9000,
        b"\xff\xfe" * 40,
        b"eyJhbGciOiJub25lIn0.e30.",
    )


def test_no_other_token_is_that_key() -> None:
    async def work(world: World) -> None:
        good = world.make()
        assert await world.status(good) == 200
        for token in bad_tokens(good):
            with pytest.raises(RequestRefused) as refused:
                await world.ask(token)
            assert refused.value.status == 401, token
            assert 'error="invalid_token"' in refused.value.challenge
            text = token.decode("latin-1")
            assert text[-20:] not in str(refused.value)

    run(work)


@pytest.mark.parametrize(
    "value",
    [b"", b"Basic dXNlcjpwYXNz", b"Bearer", b"Bearer ", b"Bearer  ", b"Token x", b"bearer\tx"],
)
def test_a_header_without_a_bearer_token_is_no_caller(value: bytes) -> None:
    async def work(world: World) -> None:
        world.make()
        with pytest.raises(RequestRefused) as refused:
            await world.access.caller([(b"authorization", value)])
        assert (refused.value.status, refused.value.challenge) == (
            401,
            'Bearer realm="featurekit"',
        )

    run(work)


def test_two_headers_are_none() -> None:
    """Which of them counts would be for each proxy to say."""

    async def work(world: World) -> None:
        header = (b"authorization", b"Bearer " + world.make().encode())
        assert (await world.access.caller([header]))[0].name == "web"
        with pytest.raises(RequestRefused, match="two headers"):
            await world.access.caller([header, header])

    run(work)


def test_a_key_of_another_project_opens_nothing_here_even_where_its_record_was_copied() -> None:
    async def work(world: World) -> None:
        token = create_api_key(world.store, "bank", "web", ["read:*"])[1]
        assert await world.status(token) == 401
        world.store.write(
            {api_keys_key("shop"): world.store.read([api_keys_key("bank")])[0] or b""}
        )
        world.at += FRESH_S + 1
        assert len(api_keys(world.store, "shop")) == 1
        assert await world.status(token) == 401

    run(work)


def test_an_expired_key_opens_nothing() -> None:
    async def work(world: World) -> None:
        token = world.make(lifetime_us=DAY_US)
        world.wall = time.time() + 86_390
        assert await world.status(token) == 200
        world.wall += 20
        with pytest.raises(RequestRefused, match="expired"):
            await world.ask(token)

    run(work)


# --- when Redis is asked --------------------------------------------------------------------------


def test_a_revoked_key_ends_within_the_stated_time() -> None:
    async def work(world: World) -> None:
        token = world.make()
        assert await world.status(token) == 200
        revoke_api_key(world.store, "shop", "web")
        world.at += FRESH_S + 0.001
        with pytest.raises(RequestRefused, match="revoked"):
            await world.ask(token)

    run(work)


def test_a_new_key_counts_at_once() -> None:
    async def work(world: World) -> None:
        assert await world.status(world.make()) == 200
        assert await world.status(world.make(name="other")) == 200

    run(work)


def test_redis_is_asked_seldom_whoever_asks() -> None:
    async def work(world: World) -> None:
        token = world.make()
        unknown = "fk-api-" + "0" * 12 + "-" + "0" * 64
        await world.status(token)
        asked = [world.status(unknown) for _ in range(1000)]
        assert set(await asyncio.gather(*asked)) == {401}
        before = world.store.reads
        assert before <= 2
        for _ in range(1000):
            await world.status(token)
            world.at += 0.01
            await asyncio.sleep(0)
        assert world.store.reads - before <= 11

    run(work)


def test_many_first_requests_ask_once() -> None:
    async def work(world: World) -> None:
        token = world.make()
        found = await asyncio.gather(*(world.status(token) for _ in range(50)))
        assert (set(found), world.store.reads) == ({200}, 1)

    run(work)


@pytest.mark.parametrize("how", ["away", "silent"])
def test_in_an_outage_known_keys_go_on_for_a_while_and_of_others_nobody_knows(how: str) -> None:
    async def work(world: World) -> None:
        token, other = world.make(), "fk-api-" + "1" * 12 + "-" + "1" * 64
        assert await world.status(token) == 200
        setattr(world.store, how, True)
        world.at += FRESH_S + 1
        assert (await world.status(token), await world.status(other)) == (200, 503)
        world.at += OUTAGE_S - FRESH_S - 2
        assert (await world.status(token), await world.status(other)) == (200, 503)
        world.at += 2
        assert (await world.status(token), await world.status(other)) == (503, 503)
        with pytest.raises(StoreUnavailable) as told:
            await world.ask(token)
        assert "10.0.0.7" not in str(told.value)  # a stranger learns no address

    run(work)


def test_a_wrong_secret_of_a_known_id_is_refused_in_an_outage_too() -> None:
    async def work(world: World) -> None:
        token = world.make()
        assert await world.status(token) == 200
        world.store.away = True
        world.at += FRESH_S + 1
        assert await world.status(token[:-4] + "0000") == 401

    run(work)


def test_a_worker_that_never_reached_redis_says_503() -> None:
    async def work(world: World) -> None:
        token = world.make()
        world.store.away = True
        assert await world.status(token) == 503
        world.store.away = False
        world.at += 1
        assert await world.status(token) == 200

    run(work)


def test_the_first_reading_is_waited_for_longer_than_a_later_one() -> None:
    """It opens the connection. Later on an outage is to cost those little who wait for it."""

    async def work(world: World) -> None:
        world.store.takes_s = 0.6
        token, other = world.make(), "fk-api-" + "1" * 12 + "-" + "1" * 64
        assert await world.status(token) == 200
        world.at += FRESH_S + 1
        assert await world.status(other) == 503

    run(work)


def test_after_an_outage_what_changed_meanwhile_counts() -> None:
    async def work(world: World) -> None:
        token = world.make()
        assert await world.status(token) == 200
        world.store.away = True
        world.at += FRESH_S + 1
        assert await world.status(token) == 200
        revoke_api_key(world.store, "shop", "web")
        world.store.away = False
        world.at += FRESH_S + 1
        await world.status(token)  # begins to read; while Redis failed nobody waits for it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await world.status(token) == 401

    run(work)


def test_damaged_records_open_nothing_new(caplog: pytest.LogCaptureFixture) -> None:
    async def work(world: World) -> None:
        token = world.make()
        value = bytearray(world.store.read([api_keys_key("shop")])[0] or b"")
        value[20] ^= 1
        world.store.write({api_keys_key("shop"): bytes(value)})
        assert await world.status(token) == 503

    run(work)
    assert "damaged" in caplog.text


def test_the_times_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    assert "within **two seconds**" in page
    assert "for **one minute**" in page
    assert (FRESH_S, OUTAGE_S) == (2.0, 60.0)


# --- what a scope opens ---------------------------------------------------------------------------

OPENED = [
    ("read:checkout", "read:checkout", True),
    ("read:checkout", "read:check", False),
    ("read:check", "read:checkout", False),
    ("read:checkout", "read:checkout_v2", False),
    ("read:checkout", "read:CHECKOUT", False),
    ("read:checkout", "push:checkout", False),
    ("read:*", "read:checkout", True),
    ("read:*", "push:checkout", False),
    ("read:*", "list:features", False),
    ("read:*", "metrics", False),
    ("read:checkout", "read:*", False),
    ("read:checkout", "read:", False),
    ("read:*", "read:", False),
    ("read:*", "read", False),
    ("push:*", "push:orders", True),
    ("push:orders", "push:order", False),
    ("push:*", "read:checkout", False),
    ("list:features", "read:checkout", False),
    ("list:features", "list:*", False),
    ("admin", "metrics", True),
    ("admin", "read:checkout", False),
    ("admin", "push:orders", False),
    ("admin", "list:features", False),
    ("metrics", "admin", False),
]


@pytest.mark.parametrize(("held", "asked", "open_"), OPENED)
def test_a_scope_opens_what_it_names_and_nothing_else(held: str, asked: str, open_: bool) -> None:
    caller = Caller("key", "web", frozenset([held]))
    assert caller.may(asked) is open_
    if not open_:
        with pytest.raises(RequestRefused, match=r"lacks the scope") as refused:
            caller.need(asked)
        assert (refused.value.status, asked in str(refused.value)) == (403, True)


@pytest.mark.parametrize(
    "name", ['x", realm="evil', "x\r\nset-cookie: a=b", "é", "*", "a:b", "x" * 5000, "\x00", ""]
)
def test_a_name_from_a_request_never_stands_in_a_header(name: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        Caller("key", "web", frozenset(["read:a"])).need(f"read:{name}")
    challenge = refused.value.challenge
    assert challenge.isascii()
    assert challenge.isprintable()
    assert "evil" not in challenge
    assert name == "*" or "scope=" not in challenge


@pytest.mark.parametrize(
    "text",
    ["", "read", "read:", "read:*x", "read:check*", "read:a b", "read:a,b", "write:a", "READ:a",
     "read:é", "read:a\n", "admin:*", "*", "list:*", "list:features:x", "read:a:b", "read:**"],
)  # fmt: skip
def test_what_is_no_scope_is_refused_when_a_key_is_made(text: str) -> None:
    assert not is_scope(text)
    store = MemoryStore()
    with pytest.raises(FeaturekitError, match="scope"):
        create_api_key(store, "shop", "web", ["read:checkout", text])
    assert api_keys(store, "shop") == []


# --- how often ------------------------------------------------------------------------------------


def test_a_caller_that_asks_too_often_waits() -> None:
    async def work(world: World) -> None:
        slow, other = world.make(rate=2.0), world.make(name="other")
        assert [await world.status(slow) for _ in range(3)] == [200, 200, 429]
        assert await world.status(other) == 200
        with pytest.raises(RequestRefused) as refused:
            await world.ask(slow)
        assert refused.value.retry_after_s == 0.5
        world.at += 0.5
        assert [await world.status(slow) for _ in range(2)] == [200, 429]
        world.at += 1000  # a bucket holds what may be asked in a second, and no more
        assert [await world.status(slow) for _ in range(3)] == [200, 200, 429]

    run(work)


def test_the_server_s_rate_is_for_keys_that_say_none() -> None:
    async def work(world: World) -> None:
        own, plain = world.make(rate=3.0), world.make(name="plain")
        assert [await world.status(plain) for _ in range(2)] == [200, 429]
        assert [await world.status(own) for _ in range(4)] == [200, 200, 200, 429]

    run(work, AccessSettings(auth=("keys",), rate=1.0))


def test_a_refused_token_takes_nothing_from_its_key() -> None:
    async def work(world: World) -> None:
        token = world.make(rate=1.0)
        for _ in range(20):
            assert await world.status(token[:-1]) == 401
        assert await world.status(token) == 200

    run(work)


# --- what is kept ---------------------------------------------------------------------------------


def test_no_secret_is_kept() -> None:
    store = MemoryStore()
    made, token = create_api_key(store, "shop", "web", ["read:*"])
    secret = token.rsplit("-", 1)[1]
    for key in store.keys(b""):
        assert secret.encode() not in (store.read([key])[0] or b"")
    assert secret not in repr(made)
    assert len(secret) == 64  # 256 bits


def test_keys_are_listed_revoked_and_forgotten() -> None:
    store = MemoryStore()
    first = create_api_key(store, "shop", "web", ["read:*"])[0]
    with pytest.raises(FeaturekitError, match="'web' is there"):
        create_api_key(store, "shop", "web", ["read:*"])
    revoked = revoke_api_key(store, "shop", first.id)
    assert revoke_api_key(store, "shop", first.id).revoked == revoked.revoked
    second = create_api_key(store, "shop", "web", ["read:a"])[0]
    assert {one.id for one in api_keys(store, "shop")} == {first.id, second.id}
    assert revoke_api_key(store, "shop", "web").id == second.id
    with pytest.raises(FeaturekitError, match="no key has"):
        revoke_api_key(store, "shop", "web")
    with pytest.raises(FeaturekitError, match="no key has") as told:
        revoke_api_key(store, "shop", f"fk-api-{first.id}")
    assert first.id not in str(told.value)


@pytest.mark.parametrize(
    "record",
    ["1", "{}", '{"name": "a"}', '{"name": "a", "hash": "", "scopes": [], "created": 1}',
     '{"name": "a", "hash": "HASH", "scopes": ["read:*"], "created": true}',
     '{"name": "a", "hash": "HASH", "scopes": ["everything"], "created": 1}',
     '{"name": "a", "hash": "HASH", "scopes": [1], "created": 1}',
     '{"name": "a", "hash": "HASH", "scopes": ["read:*"], "created": 1, "expires": "never"}',
     '{"name": "a", "hash": "HASH", "scopes": ["read:*"], "created": 1, "rate": -1}',
     '{"name": "a\\n", "hash": "HASH", "scopes": ["read:*"], "created": 1}',
     '{"name": "a", "hash": "HASH", "scopes": ["read:*"], "created": 1, "admin": true}'],
)  # fmt: skip
def test_a_record_that_no_key_has_is_damage(record: str) -> None:
    text = '{"000000000000": ' + record.replace("HASH", "0" * 64) + "}"
    with pytest.raises(FeaturekitError, match="damaged"):
        read_keys(text.encode())


def test_a_key_that_outlives_the_calendar_is_refused() -> None:
    store, day = MemoryStore(), 86_400_000_000
    with pytest.raises(ConfigError, match="no calendar has the end of such a key"):
        create_api_key(store, "shop", "web", ["read:*"], lifetime_us=10_000 * 365 * day)
    assert api_keys(store, "shop") == []
