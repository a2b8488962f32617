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
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from featurekit.online.store.breaker import FAILED, Breaker
from featurekit.online.store.deadlines import late, raw_socket, shorten
from featurekit.online.store.limits import DEFAULT
from featurekit.online.store.replies import (
    Keys,
    NotPlain,
    Question,
    Values,
    ValuesAt,
    values_at,
    values_of,
    whole_at,
)

if TYPE_CHECKING:
    import asyncio

_CHUNK = 65_536
_FEW = 64
"""The number of keys of a lookup that may be sent with others."""
_LOST = (RedisConnectionError, ConnectionError)
_OF_ONE = (InvalidResponse, ResponseError)
"""The errors that may be about some keys and not about others."""
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
    return _incoming(connection, n, together=False)


def _incoming(connection: Any, n: int, *, together: bool) -> Iterator[Any]:
    """As `incoming`. The connection's limit is of each reply, or of all where they come
    `together`."""
    source = raw_socket(connection)
    if source is None:  # redis-py keeps its socket elsewhere, and reads from it itself
        for _ in range(n):
            yield connection.read_response(disable_decoding=True)
        return
    parser = hiredis.Reader(
        protocolError=InvalidResponse, replyError=_error_of, notEnoughData=_MORE
    )
    unasked, waiting = False, _Waiting(connection, source)
    try:
        while n:
            reply = parser.gets()
            if reply is _MORE:
                parser.feed(waiting.more())
            elif isinstance(reply, hiredis.PushNotification):
                unasked = True
            elif isinstance(reply, RedisError):
                raise reply
            else:
                n -= 1
                if not n and (unasked or parser.has_data()):
                    connection.mark_for_reconnect()  # redis-py handles such a message
                if not together:
                    waiting.renew()
                yield reply
    finally:
        waiting.renew()


class _Waiting:
    """Reads the pieces of what is waited for, of which the first one begins the time."""

    def __init__(self, connection: Any, source: Any) -> None:
        self.source, self.limit = source, getattr(connection, "socket_timeout", None)
        self.end: float | None = None
        self.shortened = False

    def more(self) -> bytes:
        """The next piece. TimeoutError where the time is over."""
        if self.end is not None:
            shorten(self.source, self.end)
            self.shortened = True
        elif self.limit:
            self.end = time.monotonic() + self.limit
        return _bytes_of(self.source)

    def renew(self) -> None:
        """Begin the time anew with the next piece."""
        self.end = None
        if self.shortened:
            self.shortened = False
            with suppress(OSError):  # it was closed meanwhile
                self.source.settimeout(self.limit)


def received(connection: Any, n: int) -> list[Any]:
    """The next `n` replies, as a list, within the connection's limit; see `incoming`."""
    return list(_incoming(connection, n, together=True))


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
    source = raw_socket(connection)
    if source is None:
        return False
    looked = select.poll()
    looked.register(source, select.POLLIN)
    return not looked.poll(0)


class AllInUse(RedisTimeoutError):
    """No connection became free in time; the text says how many there are, and how long it took."""


def _in_use(most: int, seconds: float) -> AllInUse:
    return AllInUse(f"all {most} connections were in use for {seconds:g} s")


def _values(found: Any, keys: Sequence[bytes]) -> Values:
    """The values that redis-py's client has read. InvalidResponse where they are none."""
    if type(found) is not list or len(found) != len(keys):
        raise InvalidResponse("what it answers to MGET is not what a Redis answers")
    return found


def _told(keys: Sequence[bytes]) -> str:
    return f"it did not answer to MGET of {len(keys)} keys"


class _Idle:
    """The connections of a client that are not in use."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def take(self) -> Any:
        """The connection that was used last; None where there is none."""
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
    """The connections of a client, for threads: as many as were ever used at once, and no more than
    `most`. Who finds all in use waits for one, up to `wait_s` seconds.

    A reply is waited for as long as the client's socket_timeout says. A forked process leaves the
    connections of its parent alone.
    """

    def __init__(
        self,
        client: Any,
        *,
        most: int = DEFAULT.connections,
        wait_s: float = DEFAULT.timeout_s,
        breaker: Breaker | None = None,
    ) -> None:
        self.client, self.pool = client, client.connection_pool
        self.most, self.wait_s = most, wait_s
        self.breaker = Breaker(DEFAULT) if breaker is None else breaker
        self._renew()

    def _renew(self) -> None:
        # A semaphore as a queue of rights, since Python's own semaphore takes as long as ten of it.
        self.idle, self._free = _Idle(), SimpleQueue[None]()
        for _ in range(self.most):
            self._free.put(None)
        self._pid = os.getpid()

    def _enter(self, *, wait: bool = True) -> SimpleQueue[None]:
        """Wait for the right to use a connection; put it back afterwards."""
        if self._pid != os.getpid():
            self._renew()
        free = self._free
        try:
            free.get(block=wait, timeout=self.wait_s)
        except Empty:
            raise _in_use(self.most, self.wait_s) from None
        return free

    def _take(self) -> Any:
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
        free = self._enter()
        try:
            yield from self._used()
        finally:
            free.put(None)

    @contextmanager
    def spare(self) -> Iterator[Any | None]:
        """As `one`; None where all are in use."""
        try:
            free = self._enter(wait=False)
        except AllInUse:
            yield None
            return
        try:
            yield from self._used()
        finally:
            free.put(None)

    def _used(self) -> Iterator[Any]:
        connection = self._take()
        try:
            yield connection
        except BaseException:
            self.drop(connection)
            raise
        self.give(connection)

    def mget(self, keys: Sequence[bytes]) -> Values:
        """The values of `keys`. It raises errors of redis-py, or OSError."""
        breaker = self.breaker
        breaker.asked += 1
        if breaker.tripped:
            breaker.enter()
        free = self._enter()
        try:
            return self._asked(values_of(keys), keys)
        except NotPlain:
            return _values(self.client.mget(list(keys)), keys)
        finally:
            free.put(None)

    def mget_at(self, keys: Sequence[bytes], clock: bytes) -> ValuesAt:
        """The server's time, the last stamp under `clock`, and then the values of `keys`."""
        breaker = self.breaker
        breaker.asked += 1
        if breaker.tripped:
            breaker.enter()
        free = self._enter()
        try:
            return self._asked(values_at(keys, clock), keys)
        except NotPlain:
            client = self.client
            values = [_values(client.mget(list(keys)), keys)] if keys else []
            return whole_at([client.time(), client.get(clock), *values])
        finally:
            free.put(None)

    def _asked(self, question: Question[_T], keys: Sequence[bytes]) -> _T:
        breaker, connection = self.breaker, self.idle.take()
        try:
            if connection is None:
                found = self._ask(self.pool.get_connection(), question, keys)
            else:
                try:
                    found = self._ask(connection, question, keys)
                except _LOST:
                    # It was not asked whether the connection lives: reading twice is harmless.
                    if not breaker.may_retry():
                        raise
                    found = self._ask(self.pool.get_connection(), question, keys)
        except FAILED as error:
            breaker.failed(error)
            raise
        except NotPlain:
            breaker.answered()
            raise
        if breaker.tripped:
            breaker.answered()
        return found

    def _ask(self, connection: Any, question: Question[_T], keys: Sequence[bytes]) -> _T:
        try:
            limit = connection.socket_timeout
            begun = time.monotonic()
            try:
                connection.send_packed_command([question.sent])
                source = raw_socket(connection)
                receive, found = question.receiver(), None
                if source is None:
                    found = question.whole(received(connection, question.replies))
                else:
                    found = receive(_bytes_of(source))
                if found is None:
                    # A reply that comes in drops renews the socket's own limit with each of them.
                    while found is None:
                        if limit:
                            shorten(source, begun + limit)
                        found = receive(_bytes_of(source))
                    source.settimeout(limit)
            except TimeoutError as error:
                raise late(_told(keys), limit) from error
        except BaseException:
            self.drop(connection)
            raise
        self.give(connection)
        return found

    def close(self) -> None:
        """Close the connections."""
        if self._pid != os.getpid():
            self._renew()
        for connection in self.idle:
            self.drop(connection)
        self.client.close()


@dataclass(slots=True)
class PoolWaits:
    """How often a task found all connections in use, and for how long it waited in all."""

    number: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Waits:
    """A lookup that is sent with others, and what gives it its values."""

    keys: Sequence[bytes]
    clock: bytes
    found: asyncio.Future[ValuesAt]


class AsyncConnections:
    """As `Connections`, for the tasks of one event loop; it only reads."""

    def __init__(
        self,
        client: Any,
        *,
        most: int = DEFAULT.connections,
        wait_s: float = DEFAULT.timeout_s,
        breaker: Breaker | None = None,
        waits: PoolWaits | None = None,
    ) -> None:
        import asyncio

        self.client, self.pool = client, client.connection_pool
        self.most, self.wait_s = most, wait_s
        self.breaker = Breaker(DEFAULT) if breaker is None else breaker
        self.idle, self._free = _Idle(), asyncio.Semaphore(most)
        self.waits = PoolWaits() if waits is None else waits
        self._abandoned = False
        # Lookups that wait for the end of this turn of the loop, to be sent together.
        self._waiting: list[_Waits] = []
        self._asking = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def _enter(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        import asyncio

        began = time.monotonic()
        try:
            async with asyncio.timeout(self.wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise _in_use(self.most, self.wait_s) from None
        finally:
            self.waits.number += 1
            self.waits.seconds += time.monotonic() - began

    async def mget(self, keys: Sequence[bytes]) -> Values:
        """As `Connections.mget`."""
        breaker = self.breaker
        breaker.asked += 1
        if breaker.tripped:
            breaker.enter()
        await self._enter()
        try:
            return await self._asked(values_of(keys), keys)
        except NotPlain:
            return _values(await self.client.mget(list(keys)), keys)
        finally:
            self._free.release()

    async def mget_at(self, keys: Sequence[bytes], clock: bytes) -> ValuesAt:
        """As `Connections.mget_at`. What tasks ask in one turn of the loop while another one waits
        for its reply is sent as one command: what the loop and the server do for each takes longer
        than the work itself."""
        breaker = self.breaker
        breaker.asked += 1
        if breaker.tripped:
            breaker.enter()
        alike = not self._waiting or self._waiting[0].clock == clock
        if self._asking and alike and len(keys) <= _FEW and type(keys) is not Keys:
            return await self._with_others(keys, clock)
        return await self._alone(keys, clock)

    async def _alone(self, keys: Sequence[bytes], clock: bytes) -> ValuesAt:
        self._asking += 1
        try:
            await self._enter()
            try:
                return await self._asked(values_at(keys, clock), keys)
            except NotPlain:
                client = self.client
                values = [_values(await client.mget(list(keys)), keys)] if keys else []
                return whole_at([await client.time(), await client.get(clock), *values])
            finally:
                self._free.release()
        finally:
            self._asking -= 1

    def _with_others(self, keys: Sequence[bytes], clock: bytes) -> asyncio.Future[ValuesAt]:
        import asyncio

        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send_waiting)
        waits = _Waits(keys, clock, loop.create_future())
        self._waiting.append(waits)
        return waits.found

    def _send_waiting(self) -> None:
        import asyncio

        waiting, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._for_all(waiting))
        self._tasks.add(task)  # the loop itself may forget a task that nobody holds
        task.add_done_callback(self._tasks.discard)

    async def _for_all(self, waiting: Sequence[_Waits]) -> None:
        """Ask for all that wait, and give each its own values."""
        keys = [key for one in waiting for key in one.keys]
        try:
            values, now, last = await self._alone(keys, waiting[0].clock)
        except BaseException as error:
            if isinstance(error, _OF_ONE) and len(waiting) > 1:
                for one in waiting:  # the server may have refused the keys of one of them
                    await self._for_all([one])
                return
            if isinstance(error, FAILED):
                for _ in waiting[1:]:  # each of them failed, and the first one was counted
                    self.breaker.failed(error)
            for one in waiting:
                if isinstance(error, Exception) and not one.found.done():
                    one.found.set_exception(error)
                one.found.cancel()  # as this task was, unless it has its error
            if not isinstance(error, Exception):
                raise
            return
        at = 0
        for one in waiting:
            if not one.found.done():  # its task may have been cancelled
                one.found.set_result((values[at : at + len(one.keys)], now, last))
            at += len(one.keys)

    async def _asked(self, question: Question[_T], keys: Sequence[bytes]) -> _T:
        breaker, connection = self.breaker, self.idle.take()
        try:
            if connection is None:
                found = await self._ask(await self.pool.get_connection(), question, keys)
            else:
                try:
                    found = await self._ask(connection, question, keys)
                except _LOST:
                    if not breaker.may_retry():
                        raise
                    found = await self._ask(await self.pool.get_connection(), question, keys)
        except FAILED as error:
            breaker.failed(error)
            raise
        except NotPlain:
            breaker.answered()
            raise
        if breaker.tripped:
            breaker.answered()
        return found

    async def _ask(self, connection: Any, question: Question[_T], keys: Sequence[bytes]) -> _T:
        import asyncio

        try:
            reader = getattr(connection, "_reader", None)
            writer = getattr(connection, "_writer", None)
            if reader is None or writer is None:
                raise NotPlain
            receive, found = question.receiver(), None
            try:
                async with asyncio.timeout(connection.socket_timeout):
                    writer.write(question.sent)
                    await writer.drain()
                    while found is None:
                        data = await reader.read(_CHUNK)
                        if not data:
                            raise RedisConnectionError(_CLOSED)
                        found = receive(data)
            except TimeoutError as error:
                raise late(_told(keys), connection.socket_timeout) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            await self.pool.release(connection)
            raise
        if self._abandoned:
            await connection.disconnect(nowait=True)
        if self._abandoned or connection.should_reconnect():
            await self.pool.release(connection)
        else:
            self.idle.keep(connection)
        return found

    def abandon(self) -> None:
        """Close the idle connections at once, and each other one when its reply was read. Called in
        the event loop, where nobody awaits `close`."""
        self._abandoned = True
        for connection in self.idle:
            writer = getattr(connection, "_writer", None)
            if writer is not None:
                writer.close()
                connection._writer = connection._reader = None

    async def close(self) -> None:
        """Close the connections."""
        for connection in self.idle:
            await self.pool.release(connection)
        await self.client.aclose()
