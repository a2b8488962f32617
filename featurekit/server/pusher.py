"""Runs pushes for the workers, in a process of its own; the only module here that loads the repo.

Orders come over a socket of this machine. Each is taken by a thread, to its end: whoever waits for
it may give up, and the rows are then in both places or in neither. So many orders wait, and more
are refused. A repo that was edited is read anew beside the one in use, and replaces it where it
compiles.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.errors import FeaturekitError
from featurekit.feed.events import Pushed
from featurekit.feed.once import Key, body_hash, shown
from featurekit.feed.push import Taken, take, take_once
from featurekit.project.audit import acting
from featurekit.project.project import Project
from featurekit.server import as_json, failures
from featurekit.server.bodies import source_and_rows
from featurekit.server.logs import Sparing
from featurekit.server.metrics import PushMetrics
from featurekit.server.orders import FEAST, Done, Order, received, send
from featurekit.server.settings import PushSettings, Settings
from featurekit.server.tables import Tables

_LOOK_S = 1.0
# Its successor takes orders at the same place.
_KEPT: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
_log = logging.getLogger("featurekit.server")
_outages = Sparing(_log)


@dataclass(slots=True)
class _Opened:
    """A project as it was read, and the orders that use it."""

    project: Project
    users: int = 0
    locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )
    """One for each source whose rows may bring arrivals: such a push works alone (T3), and its
    lease is not polled for by threads of one process."""


def _opened(told: PushSettings) -> _Opened:
    project = Project(told.repo, redis_url=told.redis_url)
    assert project.repo is not None  # it compiles, or raises
    return _Opened(project)


class Pusher:
    """Takes orders. `waiting` counts those that were not answered yet."""

    def __init__(self, settings: Settings) -> None:
        assert settings.pushes is not None
        self.told = settings.pushes
        self.tables = Tables(
            most_bytes=settings.most_bytes,
            most_unpacked=settings.most_unpacked,
            most_rows=settings.most_push_rows,
            limit_s=settings.push_timeout_s,
        )
        self.metrics = PushMetrics()
        self.waiting = self._answering = 0
        self._using = threading.Lock()
        self._opened = _opened(self.told)
        self._pool = ThreadPoolExecutor(self.told.threads, "featurekit-push")
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    # --- its life ---------------------------------------------------------------------------------

    async def serve(self, listening: socket.socket) -> None:
        """Take orders until a signal ends it, and then those that were begun."""
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        server = await asyncio.start_unix_server(self._connection, sock=listening, **_KEPT)
        look = asyncio.create_task(self._look())
        await ended.wait()
        server.close()
        look.cancel()
        await self._idle.wait()
        for writer in list(self._writers):
            writer.close()
        self._pool.shutdown()
        self.tables.close()
        self._opened.project.close()

    async def _look(self) -> None:
        """Read the repo anew, once it was edited."""
        refused: Any = None
        while True:
            await asyncio.sleep(_LOOK_S)
            project = self._opened.project
            if not await asyncio.to_thread(project.edited):
                continue
            try:
                made = await asyncio.to_thread(_opened, self.told)
            except Exception as error:  # a module may raise anything while it is written
                if str(error) != refused:
                    _log.warning("pushes go on with the repo as it was: %s", error)
                    refused = str(error)
                continue
            with self._using:
                before, self._opened, refused = self._opened, made, None
            await asyncio.to_thread(self._let_go, before)

    def _let_go(self, opened: _Opened) -> None:
        while opened.users:
            time.sleep(0.01)
        opened.project.close()

    # --- orders -----------------------------------------------------------------------------------

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                fields, body = await received(reader)
                self._answering += 1
                try:
                    done, answer = await self._answer(Order.of(fields), body)
                    await send(writer, done, answer)
                finally:
                    self._answering -= 1
                    self._see_whether_idle()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the worker has ended
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, order: Order, body: bytes) -> tuple[Done, bytes]:
        if self.waiting >= self.told.waiting:
            return _failed(
                order,
                failures.Told(
                    f"{self.waiting} pushes wait already, so nothing was pushed; push again later, "
                    "or more rows at once and fewer times",
                    retry_after_s=1.0,
                ),
            )
        self.waiting += 1
        self._see_whether_idle()
        self.metrics.waiting(self.waiting)
        begun = self._pool.submit(self._take, order, body, time.monotonic())
        begun.add_done_callback(self._ended(asyncio.get_running_loop()))
        try:
            found = asyncio.wrap_future(begun)
            await asyncio.wait({found}, timeout=max(order.left_s, 0.0))
            if found.done():
                return found.result()
        except asyncio.CancelledError:
            begun.cancel()
            raise
        return _failed(order, _overdue(order, begun.cancel()))

    def _ended(self, loop: asyncio.AbstractEventLoop) -> Any:
        """What is done when an order has ended, in its thread."""

        def ended(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._count)

        return ended

    def _count(self) -> None:
        self.waiting -= 1
        self.metrics.waiting(self.waiting)
        self._see_whether_idle()

    def _see_whether_idle(self) -> None:
        if not self.waiting and not self._answering:
            self._idle.set()
        else:
            self._idle.clear()

    def _take(self, order: Order, body: bytes, asked: float) -> tuple[Done, bytes]:
        """Take an order, in a thread; it raises nothing."""
        begun = time.monotonic()
        with self._using:
            opened = self._opened
            opened.users += 1
        try:
            with acting(order.caller.who):
                name, taken = self._taken(opened, order, body)
        except Exception as error:
            return _failed(order, error)
        finally:
            with self._using:
                opened.users -= 1
        self.metrics.took(name, taken.pushed, taken.again, begun - asked, time.monotonic() - begun)
        headers = [("featurekit-repeated", "true")] if taken.again else []
        return Done(200, headers, source=name), _answer(order, name, taken.pushed)

    def _taken(self, opened: _Opened, order: Order, body: bytes) -> tuple[str, Taken]:
        project = opened.project

        def source(name: str) -> Any:
            order.caller.need(f"push:{name}")  # before anything is said of the source
            return project.source(name)

        definition, rows = source_and_rows(order, body, source, self.tables)
        with self._using:
            mine = opened.locks[definition.name]
        own = definition.created_timestamp_column is not None
        with mine if own else nullcontext():
            if order.key is None:
                return definition.name, Taken(take(project, definition.name, rows), again=False)
            hashed = body_hash(order.form.encode(), order.kind.encode(), body)
            key = Key(order.key, hashed)
            return definition.name, take_once(project, definition.name, rows, key)


def _overdue(order: Order, cancelled: bool) -> FeaturekitError:
    if cancelled:
        return failures.Overdue(
            f"no answer within {order.left_s:g} s, while other pushes were taken; nothing was "
            "pushed: push again, or give more time"
        )
    known = (
        "ask again with the same Idempotency-Key, and it is taken once"
        if order.key is not None
        else "a source with an event_id takes it again without harm; for others, an "
        "Idempotency-Key makes that so"
    )
    return failures.Overdue(
        f"no answer within {order.left_s:g} s; the push is under way and goes on to its end; "
        f"{known}"
    )


def _failed(order: Order, error: Exception) -> tuple[Done, bytes]:
    status = failures.status_of(error)
    if status == 500:
        _log.error("request %s: a bug in featurekit", order.id, exc_info=error)
    elif failures.outside(error) is not None:
        _outages.warning(f"request {order.id}: {error}")
    asked = "push" if order.source is None else f"push to {order.source}"
    near = order.caller.kind == "anyone"
    body = as_json.dumps(failures.document(error, asked, order.id, near=near))
    headers = [(k.decode(), v.decode()) for k, v in failures.headers_of(error)]
    return Done(status, headers, failures.kind_of(error)), body


def _answer(order: Order, source: str, pushed: Pushed) -> bytes:
    """What a push did; nothing in Feast's form, as there."""
    if order.form == FEAST:
        return b"null"
    document = {"source": source, **shown(pushed)}
    if not order.packed:
        return as_json.dumps(document)
    from featurekit.online.wire.msgpack import pack

    return pack(document)


def run(settings: Settings, listening: socket.socket) -> None:
    """Take orders until a signal ends it."""

    async def main() -> None:
        await Pusher(settings).serve(listening)

    assert settings.pushes is not None
    assert Path(settings.pushes.repo).is_absolute()
    asyncio.run(main())
