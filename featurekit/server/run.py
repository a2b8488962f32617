"""Runs the application in this process; the only module that loads uvicorn.

A worker that is told to stop (SIGTERM or SIGINT) answers for a while longer and closes each
connection after its answer, so that no request finds a door shut that was open when it was sent.
Then it ends the requests that it has begun.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from featurekit.server.gathered import Gathered
from featurekit.server.logs import set_up
from featurekit.server.settings import Settings

if TYPE_CHECKING:
    from featurekit.server.app import App
    from featurekit.server.observed import Observed

_END_S = 30


class Made:
    """Makes a worker's application, in the worker itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.app: App | None = None

    def __call__(self) -> App | Observed:
        from featurekit.server.app import App

        self.app = App(self.settings)
        if not (self.settings.access_log or self.settings.traces):
            return self.app
        from featurekit.server.observed import Observed

        traces = None
        if self.settings.traces:
            from featurekit.server.traces import Traces, provider

            traces = Traces(provider())
            self.app.follow(traces.part, traces.headers)
        return Observed(self.app, access_log=self.settings.access_log, traces=traces)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, which sends the head and the body of an answer together."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))


class Server(uvicorn.Server):
    """A worker, which drains before it ends."""

    def __init__(self, config: uvicorn.Config, made: Made) -> None:
        super().__init__(config)
        self.made = made
        self._end: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends that."""
        if self._end is not None or self.made.app is None:
            super().handle_exit(sig, frame)
            return
        self.made.app.draining = True
        self._end = time.monotonic() + self.made.settings.drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the sockets, unless it was told to end before: uvicorn ends then at once, and would
        drop what it has accepted meanwhile. Those who are connected wait for another worker."""
        if not self.should_exit:
            await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end, asked ten times a second."""
        if self._end is not None and time.monotonic() >= self._end:
            self.should_exit = True
        return await super().on_tick(counter)


def run(settings: Settings, sockets: list[socket.socket]) -> None:
    """Serve until a signal ends it."""
    set_up(settings.log_format)
    made = Made(settings)
    config = uvicorn.Config(
        made,
        factory=True,
        log_config=None,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=Protocol,
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_END_S,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises what it caught once more at its end, which is a good one.
        signal.signal(number, lambda *_: None)
    Server(config, made).run(sockets=sockets)
