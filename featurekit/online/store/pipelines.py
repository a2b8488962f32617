"""Commands that are sent together and their replies, over connections that redis-py has made.

A push is a few round trips, around each of which redis-py does as much work as Redis does in it. So
connections are kept between them, and replies are read from the socket here, by hiredis where that
is installed. What those connections are (their addresses, passwords, timeouts and errors) is
redis-py's.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import Any

from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from featurekit.online.store.round_trip import hiredis

_CHUNK = 65_536
_error_of: Callable[[str], RedisError] = DefaultParser.parse_error


def arguments(values: Sequence[bytes]) -> bytes:
    """Arguments of a command as they are sent."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(a), a) for a in values])


def command(*values: bytes) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n%b" % (len(values), arguments(values))


def asked(
    connection: Any, commands: Sequence[bytes], meanwhile: Callable[[], object] | None = None
) -> list[Any]:
    """The replies to commands that are sent together; `meanwhile` is called while they are waited
    for. A status is bytes, an error within a reply an object, one instead of a reply is raised."""
    connection.send_packed_command([b"".join(commands)], check_health=False)
    if meanwhile is not None:
        meanwhile()
    source = getattr(connection, "_sock", None)
    if source is None:  # a redis-py that keeps its socket elsewhere reads from it itself
        return [connection.read_response(disable_decoding=True) for _ in commands]
    read = (_Replies if hiredis is None else _Parsed)(source)
    found = []
    for _ in commands:
        reply = read.one()
        if isinstance(reply, RedisError):
            raise reply
        found.append(reply)
    if read.pushed or read.left:
        connection.mark_for_reconnect()  # redis-py knows what to do about such a message
    return found


def _received(source: Any) -> bytes:
    data: bytes = source.recv(_CHUNK)
    if not data:
        raise RedisConnectionError("Connection closed by server.")
    return data


class _Parsed:
    """As `_Replies`, by hiredis."""

    def __init__(self, source: Any) -> None:
        self.source, self.pushed = source, False
        self.parser = hiredis.Reader(
            protocolError=InvalidResponse, replyError=_error_of, notEnoughData=self
        )

    @property
    def left(self) -> bool:
        """Whether there is more than was asked for."""
        return bool(self.parser.has_data())

    def one(self) -> Any:
        """The next reply."""
        while True:
            found = self.parser.gets()
            if found is self:
                self.parser.feed(_received(self.source))
            elif isinstance(found, hiredis.PushNotification):
                self.pushed = True
            else:
                return found


class _Replies:
    """Replies in RESP 2 or 3, as they come from a socket."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.data, self.at = b"", 0
        self.pushed = False

    @property
    def left(self) -> bool:
        """Whether there is more than was asked for."""
        return self.at < len(self.data)

    def _more(self) -> bytes:
        return _received(self.source)

    def one(self) -> Any:
        """The next reply."""
        data, at = self.data, self.at
        end = data.find(b"\r\n", at)
        while end < 0:
            self.data = data = data[at:] + self._more()
            self.at = at = 0
            end = data.find(b"\r\n")
        kind, line = data[at], data[at + 1 : end]
        self.at = end + 2
        match kind:
            case 0x24:  # $, a string
                size = int(line)
                if size < 0:
                    return None
                stop = self.at + size
                if stop + 2 > len(data):
                    return self._long(size)
                found, self.at = data[self.at : stop], stop + 2
                return found
            case 0x2A:  # *, an array
                n = int(line)
                return None if n < 0 else [self.one() for _ in range(n)]
            case 0x2B:  # +, a status
                return line
            case 0x3A:  # :, an int
                return int(line)
            case 0x5F:  # _, null
                return None
            case 0x2D:  # -, an error
                return _error_of(line.decode(errors="replace"))
            case 0x3E:  # >, a message that nobody asked for
                for _ in range(int(line)):
                    self.one()
                self.pushed = True
                return self.one()
        raise InvalidResponse(f"Protocol Error: {line!r}")

    def _long(self, size: int) -> bytes:
        """A string of which not all is there."""
        parts, left = [self.data[self.at :]], size + 2 - (len(self.data) - self.at)
        while left > 0:
            part = self._more()
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self.data, self.at = data[size + 2 :], 0
        return data[:size]


def _quiet(connection: Any) -> bool:
    """Whether an idle connection is open and has nothing to read, not even its end."""
    source = getattr(connection, "_sock", None)
    if source is None:
        return False
    looked = select.poll()
    looked.register(source, select.POLLIN)
    return not looked.poll(0)


class Connections:
    """Connections of a client that are kept between uses, as many as were ever used at once."""

    def __init__(self, client: Any) -> None:
        self.client, self.pool = client, client.connection_pool
        self._idle: list[Any] = []
        self._pid = os.getpid()

    def take(self) -> Any:
        """A connection that no one else uses, to be given back or dropped."""
        if self._pid != os.getpid():  # a forked process leaves its parent's connections alone
            self._idle, self._pid = [], os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            return self.pool.get_connection()
        if _quiet(connection):
            return connection
        # It was closed while it was idle, or told something that nobody asked for: the pool sees
        # to it.
        self.pool.release(connection)
        return self.pool.get_connection()

    def give(self, connection: Any) -> None:
        """Keep a connection of which every reply was read."""
        if connection.should_reconnect():
            self.pool.release(connection)
        else:
            self._idle.append(connection)

    def drop(self, connection: Any) -> None:
        """Close a connection: what was not read would be taken for the next reply."""
        connection.disconnect()
        self.pool.release(connection)

    def close(self) -> None:
        """Close the connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self.drop(connection)
        self.client.close()
