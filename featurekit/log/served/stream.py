"""Keeps the serving log in a Redis stream with a limited length: an entry is a block of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from featurekit.errors import DataError, StoreUnavailable
from featurekit.log.served.block import ServedBlock, ServedHead, decode
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.redis import connect
from featurekit.online.store.url import without_secrets

_PAGE = 100


class StreamSink:
    """Adds blocks to the stream `key` of the Redis at `url`, which keeps about the last `entries`
    of them. A block can be read at once."""

    def __init__(self, url: str, key: str, entries: int, login: Login = NO_LOGIN) -> None:
        self.url, self.key, self.entries, self.login = url, key, entries, login
        self._client: Any = None

    def take(self, block: ServedBlock, data: bytes) -> None:
        """XADD the block."""
        fields = entry(block, data)
        try:
            if self._client is None:  # connected by the writing thread, after any fork
                self._client = connect(self.url, login=self.login)
            self._client.xadd(self.key, fields, maxlen=self.entries, approximate=True)
        except (RedisError, OSError) as error:
            said = without_secrets(str(error), self.url)
            raise StoreUnavailable(f"the Redis of stream {self.key!r}: {said}") from error

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def entry(block: ServedBlock, data: bytes) -> dict[Any, Any]:
    """The fields of the entry of a block, whose bytes are `data`."""
    return {
        "head": block.head.to_json(),
        "about": json.dumps(block.about(), separators=(",", ":")),
        "rows": data,
    }


def read_stream(url: str, key: str, login: Login = NO_LOGIN) -> Iterator[ServedBlock]:
    """The blocks that the stream holds now, oldest first. DataError for an entry that is not a
    block."""
    for _, block in read_after(url, key, None, login):
        yield block


def read_after(
    url: str, key: str, id_: str | None, login: Login = NO_LOGIN
) -> Iterator[tuple[str, ServedBlock]]:
    """The ids and blocks that the stream holds now after an id, oldest first; all of them without
    one. DataError for an entry that is not a block."""
    client = connect(url, login=login)
    try:
        after = b"-" if id_ is None else f"({id_}".encode()
        for found, block in entries(client, key, after=after):
            yield found.decode(), block
    except (RedisError, OSError) as error:
        said = without_secrets(str(error), url)
        raise StoreUnavailable(f"the Redis of stream {key!r}: {said}") from error
    finally:
        client.close()


def entries(client: Any, key: str, *, after: bytes = b"-") -> Iterator[tuple[bytes, ServedBlock]]:
    """The ids and blocks that the stream holds when this begins, oldest first, from `after` on as
    XRANGE takes it."""
    last = _last(client, key)
    while last is not None:
        found = client.xrange(key, min=after, max=last, count=_PAGE)
        for id_, fields in found:
            yield id_, _block(key, id_, fields)
        if len(found) < _PAGE:
            return
        after = b"(" + found[-1][0]


def _last(client: Any, key: str) -> bytes | None:
    found = client.xrevrange(key, count=1)
    return found[0][0] if found else None


def _block(key: str, id_: bytes, fields: dict[bytes, bytes]) -> ServedBlock:
    try:
        head = ServedHead.from_json(fields[b"head"])
        return decode(head, fields[b"rows"], json.loads(fields[b"about"]))
    except (KeyError, ValueError, TypeError, DataError) as error:
        raise DataError(
            f"stream {key!r}, entry {id_.decode()}: no block of a serving log ({error}); name the "
            "stream that serving writes"
        ) from None
