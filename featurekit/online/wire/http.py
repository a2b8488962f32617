"""Sends requests of HTTP/1.1 and reads their answers, over connections that are kept.

It speaks what a server of features answers, directly or behind a proxy: one request at a time on a
connection, a body with a length, in chunks, or up to the connection's end. The libraries of HTTP
take as long around such a request as the server takes to answer it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from featurekit.errors import ConfigError

_CHUNK = 262_144
_MOST_HEAD = 65_536
_MOST_BODY = 1 << 31


class Broken(OSError):
    """A connection ended, or sent what is no HTTP, before an answer was whole."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    keep: bool


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and what its paths begin with."""

    host: str
    port: int
    secure: bool
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in a URL. ConfigError for another text than one of HTTP; it is not shown,
        since it may have a password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except (ValueError, AttributeError):
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(
                'url is no address of a server; write "http://localhost:6566", or https://…'
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError("url has a login, which is not used; write token=…")
        secure = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/"))

    @property
    def name(self) -> str:
        """The host as a header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def request(method: str, address: Address, path: str, headers: str, body: bytes) -> bytes:
    """The bytes of a request; `headers` are whole lines."""
    head = (
        f"{method} {address.path}{path} HTTP/1.1\r\nhost: {address.name}\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


class Reader:
    """Makes an answer of the pieces in which it comes. `begun` says whether there was one."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: tuple[int, dict[str, str], int] | None = None
        self.begun = False

    def feed(self, piece: bytes) -> Reply | None:
        """The answer, once it is whole. An empty piece is the end of the connection. Broken where
        it cannot become one."""
        self.begun = self.begun or bool(piece)
        self._data += piece
        while self._head is None:
            head = self._read_head()
            if head is None:
                if not piece:
                    raise Broken("the connection ended before the answer")
                return None
            if head[0] >= 200:
                self._head = head
            else:  # 100 Continue and the like: the answer comes after it
                del self._data[: head[2]]
        status, headers, first = self._head
        if status in (204, 304):
            return self._whole(b"", first)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked(first, ended=not piece)
        told = headers.get("content-length")
        if told is None:
            return None if piece else self._whole(bytes(self._data[first:]), None)
        if not told.isdecimal() or int(told) > _MOST_BODY:
            raise Broken("the answer has a length that is none")
        last = first + int(told)
        if len(self._data) >= last:
            return self._whole(bytes(self._data[first:last]), last)
        if not piece:
            raise Broken("the connection ended within the answer")
        return None

    def _read_head(self) -> tuple[int, dict[str, str], int] | None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > _MOST_HEAD:
                raise Broken("the answer has headers without an end")
            return None
        first, *lines = self._data[:end].decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise Broken("the answer is no HTTP/1.1")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return int(rest[:3]), headers, end + 4

    def _chunked(self, first: int, *, ended: bool) -> Reply | None:
        parts: list[bytes] = []
        at = first
        while True:
            line = self._data.find(b"\r\n", at)
            if line < 0:
                break
            try:
                size = int(self._data[at:line].partition(b";")[0], 16)
            except ValueError:
                raise Broken("the answer has a chunk that is none") from None
            begin = line + 2
            if size < 0 or size > _MOST_BODY:
                raise Broken("the answer has a chunk that is none")
            if size == 0:
                end = self._data.find(b"\r\n", begin)
                while end > begin:  # trailers
                    begin, end = end + 2, self._data.find(b"\r\n", end + 2)
                if end < 0:
                    break
                return self._whole(b"".join(parts), end + 2)
            if len(self._data) < begin + size + 2:
                break
            parts.append(bytes(self._data[begin : begin + size]))
            at = begin + size + 2
        if ended:
            raise Broken("the connection ended within the answer")
        return None

    def _whole(self, body: bytes, end: int | None) -> Reply:
        assert self._head is not None
        status, headers, _ = self._head
        keep = end == len(self._data) and headers.get("connection", "").lower() != "close"
        return Reply(status, headers, body, keep)


class Stale(Broken):
    """A kept connection had ended before anything of the answer came: the server may have closed it
    before it saw the request."""


class Connections:
    """The connections of threads to one address. A forked process leaves those of its parent."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        self.address, self.context = address, context
        self._idle: list[socket.socket] = []
        self._pid = os.getpid()

    def ask(self, data: bytes, connect_s: float, end: float) -> Reply:
        """The answer to a request, before the instant `end` of the monotonic clock. TimeoutError,
        Stale, or another OSError."""
        if self._pid != os.getpid():
            self._idle, self._pid = [], os.getpid()
        kept = True
        try:
            connection = self._idle.pop()
        except IndexError:
            connection, kept = self._opened(min(connect_s, _left(end))), False
        reader = Reader()
        try:
            connection.settimeout(_left(end))
            connection.sendall(data)
            reply = reader.feed(connection.recv(_CHUNK))
            while reply is None:
                connection.settimeout(_left(end))
                reply = reader.feed(connection.recv(_CHUNK))
        except BaseException as error:
            connection.close()
            if kept and not reader.begun and _was_closed(error):
                raise Stale(*error.args) from None
            raise
        if reply.keep:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _opened(self, seconds: float) -> socket.socket:
        made = socket.create_connection((self.address.host, self.address.port), seconds)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                return self.context.wrap_socket(made, server_hostname=self.address.host)
        except BaseException:
            made.close()
            raise
        return made

    def close(self) -> None:
        """Close those that are not in use."""
        while self._idle:
            self._idle.pop().close()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AsyncConnections:
    """The connections of event loops to one address; each loop has its own."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        self.address, self.context = address, context
        self._idle: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Streams]] = (
            weakref.WeakKeyDictionary()
        )

    async def ask(self, data: bytes, connect_s: float, end: float) -> Reply:
        """As `Connections.ask`."""
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        kept = bool(idle)
        if kept:
            streams = idle.pop()
        else:
            async with asyncio.timeout(min(connect_s, _left(end))):
                streams = await asyncio.open_connection(
                    self.address.host,
                    self.address.port,
                    ssl=self.context,
                    server_hostname=self.address.host if self.context else None,
                )
        source, sink = streams
        reader = Reader()
        try:
            async with asyncio.timeout(_left(end)):
                sink.write(data)
                await sink.drain()
                reply = None
                while reply is None:
                    reply = reader.feed(await source.read(_CHUNK))
        except BaseException as error:
            sink.close()
            if kept and not reader.begun and _was_closed(error):
                raise Stale(*error.args) from None
            raise
        if reply.keep:
            idle.append(streams)
        else:
            sink.close()
        return reply

    async def close(self) -> None:
        """Close those of this event loop that are not in use."""
        for _, sink in self._idle.pop(asyncio.get_running_loop(), []):
            sink.close()
            with suppress(OSError):
                await sink.wait_closed()


def _was_closed(error: BaseException) -> bool:
    """Whether the other side had closed the connection, as far as this one can tell."""
    return isinstance(error, (Broken, ConnectionError)) and not isinstance(error, TimeoutError)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
