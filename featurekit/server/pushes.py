"""Turns requests that push into orders to the pusher, which a worker reaches over a socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from featurekit.errors import RequestRefused
from featurekit.server.failures import Told
from featurekit.server.orders import (
    ARROW,
    FEAST,
    JSON,
    MSGPACK,
    PARQUET,
    Done,
    Order,
    received,
    send,
)
from featurekit.server.settings import PushSettings

KINDS = {
    b"application/json": JSON,
    b"": JSON,
    b"application/x-www-form-urlencoded": JSON,  # curl's -d says that it is a form
    b"application/msgpack": MSGPACK,
    b"application/x-msgpack": MSGPACK,
    b"application/vnd.msgpack": MSGPACK,
    b"application/vnd.apache.arrow.stream": ARROW,
    b"application/vnd.apache.parquet": PARQUET,
}
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_LONGEST_KEY = 255
_MORE_S = 1.0
"""How much longer than the pusher a worker waits: it is the pusher that says what became of it."""


def kind_of(content_type: bytes, form: str) -> str:
    """The kind of a body. RequestRefused for a media type that is not read."""
    media = content_type.partition(b";")[0].strip().lower()
    found = KINDS.get(media) or (JSON if b"json" in media else None)
    if found is None or (form == FEAST and found not in (JSON, MSGPACK)):
        shown = "application/json, application/msgpack"
        if form != FEAST:
            shown += ", application/vnd.apache.arrow.stream, application/vnd.apache.parquet"
        raise RequestRefused(
            f"a body of {media.decode('latin-1')!r}; write one of {shown}",
            status=415,
            where="content-type",
        )
    return found


def key_of(header: bytes | None) -> str | None:
    """The key that a header gives a push. RequestRefused for one that is none."""
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    if not 0 < len(text) <= _LONGEST_KEY or not (text.isascii() and text.isprintable()):
        raise RequestRefused(
            f"a key of {len(text)} characters, or with others than printable ones of ASCII; write "
            f"1 to {_LONGEST_KEY}, as a UUID is",
            where="idempotency-key",
        )
    return text


class Pushes:
    """The pusher, as one worker reaches it; for one event loop."""

    def __init__(self, told: PushSettings | None) -> None:
        self.told = told
        self._idle: list[_Streams] = []

    def check(self) -> None:
        """RequestRefused where this server takes no pushes."""
        if self.told is None:
            raise RequestRefused(
                "this server has no log of pushes, so it takes none; start it by `featurekit serve "
                "--repo REPO --log`",
                status=501,
                where="route",
            )

    async def push(self, order: Order, body: bytes) -> tuple[Done, bytes]:
        """What became of an order. StoreUnavailable where the pusher cannot be asked."""
        assert self.told is not None
        assert self.told.socket is not None
        sent = False
        try:
            async with asyncio.timeout(order.left_s + _MORE_S):
                connection = await self._connection(self.told.socket)
                sent = True
                fields, answer = await self._asked(connection, order, body)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            if not sent:
                why = "nothing was pushed: the process that pushes is not there yet; push again"
            elif order.key is None:
                why = (
                    "the process that pushes ended meanwhile, so the rows may have been taken; a "
                    "source with an event_id takes them again without harm, and for others an "
                    "Idempotency-Key makes that so"
                )
            else:
                why = (
                    "the process that pushes ended meanwhile; push again with the same "
                    "Idempotency-Key, and the rows are taken once"
                )
            raise Told(why) from None
        return Done(**fields), answer

    async def _connection(self, path: str) -> _Streams:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # of a pusher that has ended
        return await asyncio.open_unix_connection(path)

    async def _asked(
        self,
        connection: _Streams,
        order: Order,
        body: bytes,
    ) -> tuple[dict[str, Any], bytes]:
        reader, writer = connection
        try:
            await send(writer, order, body)
            found = await received(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append(connection)
        return found

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
