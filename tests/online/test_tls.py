"""TLS: lookups and feeding, for threads and for coroutines, and what is said of certificates that
are not as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tls_servers import Authority, forwarded, served

from featurekit.errors import StoreUnavailable
from featurekit.online.store.limits import Limits
from featurekit.online.store.redis import RedisStore

KEY, CLOCK = b"fk:tests:k", b"fk:tests:clock"


@dataclass(frozen=True)
class Place:
    """A server that speaks TLS and asks clients for a certificate, and one that asks for none."""

    authority: Authority
    port: int
    open_port: int

    def url(self, *options: str, host: str = "localhost", port: int | None = None) -> str:
        ca = f"ssl_ca_certs={self.authority.ca}"
        port = self.open_port if port is None else port
        return f"rediss://{host}:{port}/0?" + "&".join([ca, *options])

    def of_client(self) -> tuple[str, str]:
        made = self.authority.pair("reader")
        return f"ssl_certfile={made.cert}", f"ssl_keyfile={made.key}"


@pytest.fixture(scope="module", params=["forwarded", "its own"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    pair = authority.pair("localhost")
    with ExitStack() as stack:
        if request.param == "forwarded":
            url = request.getfixturevalue("_session_redis").url
            strict = stack.enter_context(forwarded(url, pair, authority.ca))
            yield Place(authority, strict, stack.enter_context(forwarded(url, pair)))
            return
        ports = [
            stack.enter_context(served(folder, pair, authority.ca, clients=clients))
            for clients in (True, False)
        ]
        if None in ports:
            pytest.skip("no redis-server or valkey-server here was built with TLS")
        yield Place(authority, *(port for port in ports if port is not None))


def refused(url: str, told: str) -> None:
    """Lookups for threads and for coroutines, and what feeds, all say what is `told`."""
    store = RedisStore(url, Limits(connect_timeout_s=5, timeout_s=5, feed_timeout_s=5))

    async def read() -> None:
        try:
            await store.read_async([KEY])
        finally:
            await store.close_async()

    try:
        for ask in (
            lambda: store.read([KEY]),
            lambda: store.update([KEY], lambda values: values),
            lambda: asyncio.run(read()),
        ):
            with pytest.raises(StoreUnavailable) as error:
                ask()
            shown = url.partition("?")[0]
            assert str(error.value).startswith(f"Redis at {shown} cannot be reached"), error.value
            assert told in str(error.value)
    finally:
        store.close()


def test_lookups_and_feeding_go_by_tls(place: Place) -> None:
    store = RedisStore(place.url(*place.of_client(), port=place.port))
    large = b"x" * 3_000_000  # several records of TLS

    async def read() -> list[bytes | None]:
        found = await store.read_async([KEY])
        assert await store.read_at_async([KEY], CLOCK)
        await store.close_async()
        return found

    for value in (b"1", large):
        store.update([KEY], lambda values, value=value: [value])  # type: ignore[misc]
        assert store.read([KEY]) == [value]
        assert asyncio.run(read()) == [value]
    token, now, _ = store.open_push(b"fk:tests:pushes", clock=CLOCK).result()
    store.close_push(b"fk:tests:pushes", token)
    assert store.stamp(CLOCK) > now
    store.close()


def test_connections_are_kept(place: Place) -> None:
    store, other = (RedisStore(place.url()) for _ in range(2))

    def opened() -> int:
        return int(other.client.info("stats")["total_connections_received"])

    store.read([KEY])
    store.update([KEY], lambda values: [b"1"])
    before = opened()
    for n in range(20):
        store.read([KEY])
        store.update([KEY], lambda values, n=n: [b"%d" % n])  # type: ignore[misc]
    assert opened() == before
    store.close()
    other.close()


def test_what_is_wrong_with_a_certificate_is_told(place: Place, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    server = f"rediss://localhost:{place.open_port}/0"
    refused(f"{server}?ssl_ca_certs={stranger.ca}", "by TLS: nobody who is trusted here has signed")
    refused(server, "by TLS: nobody who is trusted here has signed")
    refused(place.url(host="127.0.0.1"), "its certificate is for another host (IP address mismatch")
    refused(place.url(port=place.port), "name yours and its key, ?ssl_certfile=")
    made, (cert, _) = stranger.pair("reader"), place.of_client()
    own = f"ssl_certfile={made.cert}", f"ssl_keyfile={made.key}"
    refused(place.url(*own, port=place.port), "cannot be reached")
    refused(place.url(cert, own[1]), "the key in ssl_keyfile is not that of the certificate in ssl")
    refused(f"{server}?ssl_ca_certs={tmp_path}/none.pem", "file that cannot be read: No such file")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    refused(f"{server}?ssl_ca_certs={empty}", "names a file that holds no such thing")


def test_a_certificate_that_is_over_is_told(redis_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with forwarded(redis_url, authority.pair("localhost", expired=True)) as port:
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.ca}"
        refused(url, "certificate has expired; renew its certificate")


def test_a_port_without_tls_is_told() -> None:
    async def ask() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"-ERR Protocol error\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        url = f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0"
        await asyncio.to_thread(refused, url, "what it answers is not TLS; write redis://")
        server.close()

    asyncio.run(ask())
