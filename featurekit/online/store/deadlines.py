"""Makes connections of redis-py whose limits are of the whole of what is waited for.

The limit of a socket is of each piece that comes in, so a server that sends a byte now and then is
waited for without an end. Here a greeting has a deadline, and so has each reply that redis-py
reads. A server whose greeting is not Redis' is told so, by whatever redis-py stumbles over it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

_STUMBLES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class NoAnswer(RedisTimeoutError):
    """A server did not do in time what was waited for; the text says what, and for how long."""


def late(what: str, seconds: float | None) -> NoAnswer:
    """The error for what was waited for."""
    return NoAnswer(f"{what} within {seconds or 0:g} s")


def is_late(error: BaseException | None) -> bool:
    """Whether an error, or what it came of, is that something took too long."""
    return any(isinstance(one, (RedisTimeoutError, TimeoutError)) for one in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came of, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Socket:
    """The socket `raw`, of which pieces are read until a deadline."""

    def __init__(self, raw: Any, limit_s: float | None) -> None:
        self.raw, self.limit_s = raw, limit_s
        self.sendall = raw.sendall
        self._end: float | None = None
        self._shortened = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def begin(self) -> None:
        """Something is waited for from now on, up to the limit."""
        self.end()
        if self.limit_s:
            self._end = time.monotonic() + self.limit_s

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._end = None
        if self._shortened:
            self._shortened = False
            with suppress(OSError):  # it was closed meanwhile
                self.raw.settimeout(self.limit_s)

    def recv(self, *arguments: Any) -> bytes:
        """As the socket's. TimeoutError at the deadline."""
        self._wait()
        found: bytes = self.raw.recv(*arguments)
        return found

    def recv_into(self, *arguments: Any) -> int:
        """As the socket's. TimeoutError at the deadline."""
        self._wait()
        return int(self.raw.recv_into(*arguments))

    def _wait(self) -> None:
        if self._end is not None:
            shorten(self.raw, self._end)
            self._shortened = True


def shorten(raw: Any, end: float) -> None:
    """Let a socket wait until `end` and no longer. TimeoutError where that is over."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    raw.settimeout(left)


def raw_socket(connection: Any) -> Any:
    """The socket of a connection, for who sees to deadlines himself; None where it has none."""
    found = getattr(connection, "_sock", None)
    return found.raw if type(found) is Socket else found


def _not_opened(connection: Any, opened: bool) -> NoAnswer:
    if opened:
        return late("it did not greet a connection", connection.socket_timeout)
    return late("it accepted no connection", connection.socket_connect_timeout)


_NO_REDIS = "what it answers to a greeting is not what a Redis answers"


def timed(kind: type[Any]) -> type[Any]:
    """A class of connections for threads, whose limits are of the whole."""

    class Timed(kind):  # type: ignore[misc]
        _greeting = False

        def _connect(self) -> Any:
            return Socket(super()._connect(), self.socket_timeout)

        def connect_check_health(self, *arguments: Any, **options: Any) -> None:
            if self._sock is not None:
                return
            try:
                super().connect_check_health(*arguments, **options)
            except (RedisError, OSError) as error:
                if is_late(error) and not isinstance(error, NoAnswer):
                    raise _not_opened(self, self._greeting) from error
                raise
            except _STUMBLES as error:
                self.disconnect()
                raise InvalidResponse(_NO_REDIS) from error
            finally:
                self._greeting = False

        def on_connect_check_health(self, check_health: bool = True) -> None:
            self._greeting = True
            self._sock.begin()
            super().on_connect_check_health(check_health)
            self._sock.end()

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            source = self._sock
            if self._greeting or type(source) is not Socket:
                return super().read_response(*arguments, **options)
            source.begin()
            try:
                return super().read_response(*arguments, **options)
            finally:
                source.end()

    return Timed


def timed_async(kind: type[Any]) -> type[Any]:
    """As `timed`, for coroutines; redis-py sees to a reply's deadline there."""

    class Timed(kind):  # type: ignore[misc]
        _greeting = False

        async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
            try:
                await super().connect_check_health(*arguments, **options)
            except (RedisError, OSError) as error:
                if is_late(error) and not isinstance(error, NoAnswer):
                    raise _not_opened(self, self._greeting) from error
                raise
            except _STUMBLES as error:
                await self.disconnect(nowait=True)
                raise InvalidResponse(_NO_REDIS) from error
            finally:
                self._greeting = False

        async def on_connect_check_health(self, check_health: bool = True) -> None:
            self._greeting = True
            try:
                async with asyncio.timeout(self.socket_timeout):
                    await super().on_connect_check_health(check_health)
            except TimeoutError as error:
                await self.disconnect(nowait=True)
                raise _not_opened(self, True) from error

    return Timed
