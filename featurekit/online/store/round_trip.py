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
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from featurekit.online.store.replies import Keys, NotPlain, Values, command, reply

hiredis: Any = None
with contextlib.suppress(ImportError):
    hiredis = importlib.import_module("hiredis")

_CHUNK = 65_536


def receiver(n: int, each: int = 0) -> Callable[[bytes], Values | None]:
    """What takes the bytes of the reply to MGET of `n` keys as they come, and gives the values when
    they are all there. NotPlain as in `reply`. hiredis parses them where it is installed and they
    are not in groups."""
    if each or hiredis is None:
        steps = reply(n, each)
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


def _receiver(keys: Sequence[bytes]) -> Callable[[bytes], Values | None]:
    return receiver(len(keys), keys.each if type(keys) is Keys else 0)


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
            found: Values = self.client.mget(list(keys))
            return found

    def _ask(self, connection: Any, keys: Sequence[bytes]) -> Values:
        try:
            connection.send_packed_command([command(keys)])
            socket: Any = getattr(connection, "_sock", None)
            receive = _receiver(keys)
            found: Values | None = None
            if socket is None:  # a redis-py that keeps its socket elsewhere reads from it itself
                found = connection.read_response(disable_decoding=True)
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
            found: Values = await self.client.mget(list(keys))
            return found

    async def _ask(self, connection: Any, keys: Sequence[bytes]) -> Values:
        import asyncio

        try:
            reader = getattr(connection, "_reader", None)
            writer = getattr(connection, "_writer", None)
            if reader is None or writer is None:
                raise NotPlain
            receive, found = _receiver(keys), None
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
