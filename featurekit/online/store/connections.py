"""Keeps the connections that redis-py made, and sends commands and reads replies over them.

What a client of redis-py does around a command takes as long as the round trip itself: it takes a
connection from its pool, asks the socket whether data wait, counts, and gives the connection back.
So connections are kept between uses, and hiredis reads the replies from the socket. Addresses,
passwords, timeouts and errors of a connection remain redis-py's work. Its client also asks again,
after the connection was closed, where the reply to MGET is not plain (it is an error, or a pushed
message came with it). redis-py reads a connection itself where its socket cannot be found.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from featurekit.online.store.replies import (
    NotPlain,
    Question,
    Values,
    ValuesAt,
    values_at,
    values_of,
    whole_at,
)

_CHUNK = 65_536
_LOST = (RedisConnectionError, ConnectionError)
_CLOSED = "Connection closed by server."
_MORE = object()
_T = TypeVar("_T")
_error_of: Callable[[str], RedisError] = DefaultParser.parse_error


# --- commands that are sent together, and their replies -------------------------------------------


def send(connection: Any, commands: Sequence[bytes]) -> None:
    """Send commands together; `received` reads their replies."""
    connection.send_packed_command([b"".join(commands)], check_health=False)


def incoming(connection: Any, n: int) -> Iterator[Any]:
    """The next `n` replies, each as soon as it is there.

    A status is bytes, and an error within a reply is an exception object of redis-py. An error in
    the place of a reply is raised.
    """
    source = getattr(connection, "_sock", None)
    if source is None:  # redis-py keeps its socket elsewhere, and reads from it itself
        for _ in range(n):
            yield connection.read_response(disable_decoding=True)
        return
    parser = hiredis.Reader(
        protocolError=InvalidResponse, replyError=_error_of, notEnoughData=_MORE
    )
    unasked = False
    while n:
        reply = parser.gets()
        if reply is _MORE:
            parser.feed(_bytes_of(source))
        elif isinstance(reply, hiredis.PushNotification):
            unasked = True
        elif isinstance(reply, RedisError):
            raise reply
        else:
            n -= 1
            if not n and (unasked or parser.has_data()):
                connection.mark_for_reconnect()  # redis-py handles such a message
            yield reply


def received(connection: Any, n: int) -> list[Any]:
    """The next `n` replies, as a list; see `incoming`."""
    return list(incoming(connection, n))


def asked(connection: Any, commands: Sequence[bytes]) -> list[Any]:
    """The replies to commands that are sent together; see `incoming`."""
    send(connection, commands)
    return received(connection, len(commands))


def _bytes_of(source: Any) -> bytes:
    data: bytes = source.recv(_CHUNK)
    if not data:
        raise RedisConnectionError(_CLOSED)
    return data


# --- connections ----------------------------------------------------------------------------------


def lives(connection: Any) -> bool:
    """Whether an idle connection is open, and has neither data nor its end to read."""
    source = getattr(connection, "_sock", None)
    if source is None:
        return False
    looked = select.poll()
    looked.register(source, select.POLLIN)
    return not looked.poll(0)


class _Idle:
    """The connections of a client that are not in use. A forked process leaves those of its parent
    alone."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def take(self) -> Any:
        """The connection that was used last; None where there is none."""
        if self._pid != os.getpid():
            self._kept, self._pid = [], os.getpid()
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def keep(self, connection: Any) -> None:
        """Keep a connection whose replies were all read."""
        self._kept.append(connection)

    def __iter__(self) -> Iterator[Any]:
        """Take every connection."""
        return iter(self.take, None)


class Connections:
    """The connections of a client, for threads; it keeps as many as were ever used at once."""

    def __init__(self, client: Any) -> None:
        self.client, self.pool = client, client.connection_pool
        self.idle = _Idle()

    def take(self) -> Any:
        """A living connection for this caller alone, who gives it back or drops it."""
        connection = self.idle.take()
        if connection is not None:
            if lives(connection):
                return connection
            self.pool.release(connection)  # the pool repairs or replaces it
        return self.pool.get_connection()

    def give(self, connection: Any) -> None:
        """Keep a connection whose replies were all read."""
        if connection.should_reconnect():
            self.pool.release(connection)
        else:
            self.idle.keep(connection)

    def drop(self, connection: Any) -> None:
        """Close a connection: an unread reply would be taken for the next one."""
        connection.disconnect()
        self.pool.release(connection)

    @contextmanager
    def one(self) -> Iterator[Any]:
        """A connection for commands whose replies are all read in the block. It is closed where the
        block raises."""
        connection = self.take()
        try:
            yield connection
        except BaseException:
            self.drop(connection)
            raise
        self.give(connection)

    def mget(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`. It raises errors of redis-py, or OSError."""
        try:
            return self._asked(values_of(keys))
        except NotPlain:
            found: Values = self.client.mget(list(keys))
            return found

    def mget_at(self, keys: Sequence[bytes], clock: bytes) -> ValuesAt:
        """The server's time, the last stamp under `clock`, and then the values of `keys`."""
        try:
            return self._asked(values_at(keys, clock))
        except NotPlain:
            client = self.client
            values = [client.mget(list(keys))] if keys else []
            return whole_at([client.time(), client.get(clock), *values])

    def _asked(self, question: Question[_T]) -> _T:
        connection = self.idle.take()
        if connection is None:
            return self._ask(self.pool.get_connection(), question)
        try:
            return self._ask(connection, question)
        except _LOST:
            # It was not asked whether the connection lives, since reading twice is harmless.
            return self._ask(self.pool.get_connection(), question)

    def _ask(self, connection: Any, question: Question[_T]) -> _T:
        try:
            connection.send_packed_command([question.sent])
            source = getattr(connection, "_sock", None)
            receive, found = question.receiver(), None
            if source is None:
                found = question.whole(received(connection, question.replies))
            while found is None:
                found = receive(_bytes_of(source))
        except BaseException:
            self.drop(connection)
            raise
        self.give(connection)
        return found

    def close(self) -> None:
        """Close the connections."""
        for connection in self.idle:
            self.drop(connection)
        self.client.close()


class AsyncConnections:
    """As `Connections`, for the tasks of one event loop; it only reads."""

    def __init__(self, client: Any) -> None:
        self.client, self.pool = client, client.connection_pool
        self.idle = _Idle()

    async def mget(self, keys: Sequence[bytes]) -> Values:
        """As `Connections.mget`."""
        try:
            return await self._asked(values_of(keys))
        except NotPlain:
            found: Values = await self.client.mget(list(keys))
            return found

    async def mget_at(self, keys: Sequence[bytes], clock: bytes) -> ValuesAt:
        """As `Connections.mget_at`."""
        try:
            return await self._asked(values_at(keys, clock))
        except NotPlain:
            client = self.client
            values = [await client.mget(list(keys))] if keys else []
            return whole_at([await client.time(), await client.get(clock), *values])

    async def _asked(self, question: Question[_T]) -> _T:
        connection = self.idle.take()
        if connection is None:
            return await self._ask(await self.pool.get_connection(), question)
        try:
            return await self._ask(connection, question)
        except _LOST:
            return await self._ask(await self.pool.get_connection(), question)

    async def _ask(self, connection: Any, question: Question[_T]) -> _T:
        import asyncio

        try:
            reader = getattr(connection, "_reader", None)
            writer = getattr(connection, "_writer", None)
            if reader is None or writer is None:
                raise NotPlain
            receive, found = question.receiver(), None
            async with asyncio.timeout(connection.socket_timeout):
                writer.write(question.sent)
                await writer.drain()
                while found is None:
                    data = await reader.read(_CHUNK)
                    if not data:
                        raise RedisConnectionError(_CLOSED)
                    found = receive(data)
        except BaseException:
            await connection.disconnect(nowait=True)
            await self.pool.release(connection)
            raise
        if connection.should_reconnect():
            await self.pool.release(connection)
        else:
            self.idle.keep(connection)
        return found

    async def close(self) -> None:
        """Close the connections."""
        for connection in self.idle:
            await self.pool.release(connection)
        await self.client.aclose()
