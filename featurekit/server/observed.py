"""Tells of each request, by a line of the access log and by a span; nothing of it runs where
neither is asked for."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from featurekit.server.logs import ACCESS, told, trace_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from featurekit.server.traces import Traces

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]
"""An application of ASGI."""

REQUEST = "featurekit.request"
"""Where in a request's scope the application keeps what it knows of it."""
_PROBES = {"/health", "/ready", "/metrics"}
"""What is asked every few seconds by those who watch; nothing is told of it."""
_ID = b"x-request-id"


class Observed:
    """An application whose requests are told of."""

    def __init__(self, app: Application, *, access_log: bool, traces: Traces | None) -> None:
        self.app, self.access_log, self.traces = app, access_log, traces

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send
    ) -> None:
        """One connection of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            if scope["type"] == "lifespan" and self.traces is not None:
                self.traces.close()
            return
        began, answered = time.perf_counter(), _Answered(send)
        headers = dict(scope["headers"])
        over: Any = nullcontext()
        if self.traces is not None and scope["path"] not in _PROBES:
            over = self.traces.request(scope["method"], headers)
        with over as span:
            try:
                await self.app(scope, receive, answered)
            finally:
                self._tell(scope, headers, answered, span, time.perf_counter() - began)

    def _tell(
        self,
        scope: Message,
        headers: dict[bytes, bytes],
        answered: _Answered,
        span: Span | None,
        seconds: float,
    ) -> None:
        request = scope.get(REQUEST)
        route = "" if request is None else request.route
        caller = getattr(request, "caller", None)  # who it is, where callers are asked
        said = {
            "request_id": answered.id,
            "service": "" if request is None else request.service,
            "rows": None if request is None else request.rows,
            "key": getattr(caller, "id", ""),
            "error": "" if request is None else request.error,
        }
        ids = trace_of(headers.get(b"traceparent"))
        if span is not None:
            from featurekit.server import traces

            traces.end(span, scope["method"], route, answered.status, said)
            ids = traces.ids(span)
        if not self.access_log or scope["path"] in _PROBES:
            return
        method = {"method": scope["method"], "route": route, "status": answered.status}
        took = {"ms": round(seconds * 1000, 3), **said}
        named = {} if ids is None else {"trace_id": ids[0], "span_id": ids[1]}
        level = logging.INFO if answered.status < 500 else logging.ERROR
        told(ACCESS, level, "request", {**method, **took, **named})


class _Answered:
    """Sends an answer on, and keeps its status; each answer gets an id."""

    def __init__(self, send: Send) -> None:
        self.send, self.status, self.id = send, 0, ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            found = next((value for name, value in headers if name.lower() == _ID), None)
            if found is None:
                found = uuid.uuid4().hex.encode()
                message = {**message, "headers": [*headers, (_ID, found)]}
            self.id = found.decode("latin-1")
        await self.send(message)
