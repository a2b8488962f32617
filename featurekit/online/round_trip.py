"""One MGET and its reply, over connections that redis-py has made: its bytes, and those who ask.

What a client of redis-py does around a command (take a connection from the pool, ask the socket
whether something waits, count, parse reply by reply in Python, give the connection back) takes as
long as the round trip itself. So connections are kept between reads, and a plain reply is taken
from the socket. Whatever is not plain (an error, a message that was pushed, a connection that has
no such socket) is left to redis-py: the connection is closed, and the client asks again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

hiredis: Any = None
with contextlib.suppress(ImportError):
    hiredis = importlib.import_module("hiredis")

Values = list[bytes | None]

_CHUNK = 65_536
_LINE = 32
"""More than a header's bytes: the kind, a length, the end of the line."""


class NotPlain(Exception):
    """The reply is not the array of strings that was asked for."""


def command(keys: Sequence[bytes]) -> bytes:
    """MGET as it is sent."""
    sent = [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    return b"*%d\r\n$4\r\nMGET\r\n%b" % (len(sent) + 1, b"".join(sent))


def reply(n: int) -> Generator[None, bytes, Values]:
    """The values in the reply to MGET of `n` keys, whose bytes are sent in as they come. NotPlain
    where they are no array of so many strings and nulls."""
    data = yield
    head = b"*%d\r\n" % n
    while len(data) < len(head) and head.startswith(data):
        data += yield
    if not data.startswith(head):
        raise NotPlain
    at = len(head)
    found: Values = []
    known = b"?"  # the header of the last value: that of the next, where states are of one size
    size = 0
    for _ in range(n):
        if not data.startswith(known, at):
            end = data.find(b"\r\n", at, at + _LINE)
            while end < 0:
                if len(data) - at > _LINE:
                    raise NotPlain
                data = data[at:] + (yield)
                at, end = 0, data.find(b"\r\n", 0, _LINE)
            line = data[at:end]
            if line in (b"$-1", b"_"):
                found.append(None)
                at = end + 2
                continue
            if line[:1] != b"$" or not line[1:].isdigit():
                raise NotPlain
            known, size = data[at : end + 2], int(line[1:])
        begin = at + len(known)
        end = begin + size
        if len(data) < end + 2:
            parts, have, wanted = [data[begin:]], len(data) - begin, size + 2
            while have < wanted:
                parts.append((yield))
                have += len(parts[-1])
            data, begin, end = b"".join(parts), 0, size
        found.append(data[begin:end])
        at = end + 2
    if at != len(data):
        raise NotPlain
    return found


def receiver(n: int) -> Callable[[bytes], Values | None]:
    """What takes the bytes of the reply to MGET of `n` keys as they come, and gives the values when
    they are all there. NotPlain as in `reply`. hiredis parses them where it is installed."""
    if hiredis is None:
        steps = reply(n)
        next(steps)

        def feed(data: bytes) -> Values | None:
            try:
                steps.send(data)
            except StopIteration as done:
                found: Values = done.value
                return found
            return None

        return feed
    parser = hiredis.Reader()

    def parse(data: bytes) -> Values | None:
        parser.feed(data)
        try:
            found = parser.gets()
        except hiredis.ProtocolError:
            raise NotPlain from None
        if found is False:
            return None
        if type(found) is not list or len(found) != n or parser.has_data():
            raise NotPlain
        return found

    return parse


class Reader:
    """Reads keys: by one thread at a time over one connection, of which there are as many as
    threads have ever read at once."""

    def __init__(self, client: Any) -> None:
        self.client, self.pool = client, client.connection_pool
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`. Errors are redis-py's, or OSError."""
        if self._pid != os.getpid():  # a forked process leaves its parent's connections alone
            self._idle, self._pid = [], os.getpid()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._ask(self.pool.get_connection(), keys)
            try:
                return self._ask(connection, keys)
            except (RedisConnectionError, ConnectionError):
                # It was closed while it was idle, or its server was started again.
                return self._ask(self.pool.get_connection(), keys)
        except NotPlain:
            found: Values = self.client.mget(keys)
            return found

    def _ask(self, connection: Any, keys: Sequence[bytes]) -> Values:
        try:
            connection.send_packed_command([command(keys)])
            socket = getattr(connection, "_sock", None)
            if socket is None:
                raise NotPlain
            receive, found = receiver(len(keys)), None
            while found is None:
                data = socket.recv(_CHUNK)
                if not data:
                    raise RedisConnectionError("Connection closed by server.")
                found = receive(data)
        except BaseException:
            # What was not read would be taken for the next reply.
            connection.disconnect()
            self.pool.release(connection)
            raise
        if connection.should_reconnect():
            connection.disconnect()
        self._idle.append(connection)
        return found

    def close(self) -> None:
        """Close the connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()
            self.pool.release(connection)
        self.client.close()


class AsyncReader:
    """Reads keys in one event loop, over as many connections as tasks have ever read at once."""

    def __init__(self, client: Any) -> None:
        self.client, self.pool = client, client.connection_pool
        self._idle: list[Any] = []

    async def read(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`. Errors are redis-py's, or OSError."""
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                return await self._ask(await self.pool.get_connection(), keys)
            try:
                return await self._ask(connection, keys)
            except (RedisConnectionError, ConnectionError):
                return await self._ask(await self.pool.get_connection(), keys)
        except NotPlain:
            found: Values = await self.client.mget(keys)
            return found

    async def _ask(self, connection: Any, keys: Sequence[bytes]) -> Values:
        import asyncio

        try:
            reader = getattr(connection, "_reader", None)
            writer = getattr(connection, "_writer", None)
            if reader is None or writer is None:
                raise NotPlain
            receive, found = receiver(len(keys)), None
            async with asyncio.timeout(connection.socket_timeout):
                writer.write(command(keys))
                await writer.drain()
                while found is None:
                    data = await reader.read(_CHUNK)
                    if not data:
                        raise RedisConnectionError("Connection closed by server.")
                    found = receive(data)
        except BaseException:
            await connection.disconnect(nowait=True)
            await self.pool.release(connection)
            raise
        if connection.should_reconnect():
            await connection.disconnect()
        self._idle.append(connection)
        return found

    async def close(self) -> None:
        """Close the connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await self.pool.release(connection)
        await self.client.aclose()
