"""Makes connections that start their server again where it has died."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.connection import UnixDomainSocketConnection

Start = Callable[[], str]
"""Starts a server unless it runs, waits until it answers, and returns the path of its socket."""

_DEAD = (FileNotFoundError, ConnectionRefusedError)
"""What a socket says whose server has died: nothing was sent, so asking again is harmless."""


def reviving(start: Start) -> type[Any]:
    """The class of connections, for threads, to the server that `start` starts."""

    class Reviving(UnixDomainSocketConnection):
        def _connect(self) -> Any:
            try:
                return super()._connect()  # type: ignore[no-untyped-call]
            except _DEAD:
                self.path = start()
                return super()._connect()  # type: ignore[no-untyped-call]

    return Reviving


def reviving_async(start: Start) -> type[Any]:
    """As `reviving`, for coroutines; the event loop goes on while the server starts."""
    from redis.asyncio.connection import UnixDomainSocketConnection as AsyncConnection

    class Reviving(AsyncConnection):
        async def _connect(self) -> None:
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except _DEAD:
                import asyncio

                self.path = await asyncio.to_thread(start)
                await super()._connect()  # type: ignore[no-untyped-call]

    return Reviving
