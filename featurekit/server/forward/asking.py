"""Asks one model server, and turns whatever goes wrong into ModelFailed.

A prediction changes nothing, so an order may be sent twice. It is, once, where the server cannot
have begun with it: its connection did not open, or had been closed while it was kept. An order that
a server may have died of is never sent again, and nor is one that took too long.

After several failures that lie close together the server is not asked for a moment, as with Redis.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from featurekit.errors import ConfigError, ModelFailed
from featurekit.online.lookup.steps import Span
from featurekit.online.store.breaker import Breaker, NotTried
from featurekit.online.store.limits import Limits
from featurekit.online.wire.http import (
    Address,
    AsyncConnections,
    Broken,
    Reply,
    Stale,
    request,
)
from featurekit.server.forward.columns import Column
from featurekit.server.forward.protocols import PROTOCOLS
from featurekit.server.forward.replies import Garbled, Order, Predicted, said_of
from featurekit.server.forward.targets import Target

SPAN = "model"
"""What a span is called in which a model server is asked."""

_BUSY = (429, 503)
_LATE = (408, 504)
Told = Callable[[], dict[str, str]]
"""Gives the headers that tell a server in which trace it is asked."""


class ModelServer:
    """The server of a target, for one event loop. `span` is told of each order, and `traced` gives
    headers for it."""

    def __init__(
        self, target: Target, limits: Limits, *, span: Span | None = None, traced: Told = dict
    ) -> None:
        self.target, self.limits, self.span, self.traced = target, limits, span, traced
        self.protocol = PROTOCOLS[target.protocol]
        self.address = Address.of(target.url)
        context = ssl.create_default_context() if self.address.secure else None
        self.breaker = Breaker(limits)
        self._connections = AsyncConnections(self.address, context)
        self._places = asyncio.Semaphore(limits.connections)
        self._token = ""
        if target.token_env is not None:
            token = os.environ.get(target.token_env, "")
            if not token.isascii() or not token.isprintable() or not token:
                raise ConfigError(
                    f"target {target.name}: the variable {target.token_env} has no token; set it, "
                    "or leave token_env out"
                )
            self._token = f"authorization: Bearer {token}\r\n"

    async def close(self) -> None:
        """Close the connections of this event loop."""
        await self._connections.close()

    async def predict(
        self, columns: tuple[Column, ...], n: int, request_id: str, end: float, version: str
    ) -> Predicted:
        """The predictions for `n` rows of features of a `version`, before the instant `end` of the
        monotonic clock.

        ModelFailed: 502 for a server that is gone, refuses or answers something else, 503 for one
        that is not asked now or asks to wait, 504 for one that does not answer in time.
        RequestRefused for a value that its protocol has no form for.
        """
        order = self.protocol.order(self.target, columns, n, request_id, version)
        if self.target.timeout_s is not None:
            end = min(end, time.monotonic() + self.target.timeout_s)
        self._enter()
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                await self._places.acquire()
        except TimeoutError:
            raise self._failed(
                f"is being asked {self.limits.connections} times, and no answer came in time; ask "
                "again later",
                status=503,
            ) from None
        try:
            with self._spanned():
                reply = await self._reply(order, request_id, end)
        finally:
            self._places.release()
        return self._read(reply, n, request_id)

    def _spanned(self) -> AbstractContextManager[None]:
        return nullcontext() if self.span is None else self.span(SPAN)

    def _enter(self) -> None:
        """ModelFailed where the server is not asked now."""
        self.breaker.asked += 1
        if not self.breaker.tripped:
            return
        try:
            self.breaker.enter()
        except NotTried as error:
            raise self._failed(
                f"is not asked for {error.left_s:.1f} s, since it failed several times ("
                f"{error.last}); ask again then",
                status=503,
                retry_after_s=error.left_s,
            ) from None

    async def _reply(self, order: Order, request_id: str, end: float) -> Reply:
        head = f"content-type: application/json\r\nx-request-id: {request_id}\r\n{self._token}"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.traced().items())
        data = request("POST", self.address, order.path, head, order.body)
        again = True
        while True:
            try:
                return await self._connections.ask(data, self.limits.connect_timeout_s, end)
            except Stale:
                continue  # there are only so many of them, and then a new one is opened
            except TimeoutError as error:
                self.breaker.failed(error)
                raise self._failed(
                    "did not answer in time; ask again with fewer rows, or more time", status=504
                ) from None
            except OSError as error:
                sent = isinstance(error, (Broken, ConnectionResetError, BrokenPipeError))
                if again and not sent and self.breaker.may_retry():
                    again = False
                    continue
                self.breaker.failed(error)
                reason = str(error) if isinstance(error, Broken) else error.strerror or str(error)
                raise self._failed(f"cannot be asked: {reason}; see whether it runs") from None

    def _read(self, reply: Reply, n: int, request_id: str) -> Predicted:
        """What a reply predicts. ModelFailed where that is nothing."""
        if reply.status == 200:
            try:
                found = self.protocol.predicted(self.target, reply.body, n, request_id)
            except Garbled as error:
                self.breaker.failed(error)
                raise self._failed(
                    f"answered with no prediction for each row: {error}; see whether it speaks "
                    f"{self.protocol.title}"
                ) from None
            self._alive()
            return found
        said = said_of(reply.body, self.protocol.errors)
        if reply.status >= 500:
            self.breaker.failed(Garbled(f"it answered {reply.status}"))
        else:
            self._alive()
        if reply.status in _BUSY:
            told = reply.headers.get("retry-after", "")
            wait_s = float(told) if told.isdecimal() and len(told) < 6 else None
            raise self._failed(
                f"answered {reply.status}; ask again later",
                status=503, retry_after_s=wait_s, reply=said,
            )  # fmt: skip
        status = 504 if reply.status in _LATE else 502
        raise self._failed(
            f"answered {reply.status}; see its log under the request's id",
            status=status, reply=said,
        )  # fmt: skip

    def _alive(self) -> None:
        """The server answered, so that it is asked again where it was not."""
        if self.breaker.tripped:
            self.breaker.answered()

    def _failed(
        self,
        text: str,
        *,
        status: int = 502,
        retry_after_s: float | None = None,
        reply: str = "",
    ) -> ModelFailed:
        return ModelFailed(
            f"the model server of target {self.target.name} {text}",
            status=status, retry_after_s=retry_after_s, reply=reply,
        )  # fmt: skip
