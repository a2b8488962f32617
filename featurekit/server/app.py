"""Turns HTTP requests into answers: an ASGI application whose hot routes are plain functions.

What is asked often (features, health, metrics) is answered here. The pages for people and the
descriptions of services are a FastAPI application, which is loaded when it is first asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from featurekit.errors import FeaturekitError, ModelFailed, RequestRefused
from featurekit.online.lookup.result import OnlineResult
from featurekit.server import as_json, failures
from featurekit.server.accept import ARROW, JSON, MSGPACK, WRITTEN_OF_PUSHES, accepted
from featurekit.server.access import BASIC, Access
from featurekit.server.as_json import Said
from featurekit.server.callers import ADMIN, ANYONE, LIST, METRICS, Caller
from featurekit.server.cors import Cors
from featurekit.server.logs import Sparing
from featurekit.server.lookups import Lookups
from featurekit.server.metrics import CONTENT_TYPE, Metrics
from featurekit.server.observed import REQUEST
from featurekit.server.orders import FEAST, OWN, Order
from featurekit.server.pushes import Pushes, key_of, kind_of
from featurekit.server.questions import (
    Question,
    feast_question,
    own_question,
    predict_question,
    request_id,
)
from featurekit.server.settings import Settings

if TYPE_CHECKING:
    from featurekit.define.plan import Service
    from featurekit.log.served.log import ServingLog
    from featurekit.online.lookup.steps import Span
    from featurekit.server.files import Files
    from featurekit.server.forward.predict import Predictor

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_BODIES = {JSON, MSGPACK, b"application/x-msgpack", b"application/vnd.msgpack"}
_LISTED = "/v1/features"
_SOURCES, _EVENTS = "/v1/sources/", "/events"
_MODELS, _PREDICT = "/v1/models/", "/predict"
_CATALOG = "/catalog"
_OPEN = {"/health", "/ready"}
_PAGES = {"/v1/services", "/openapi.json", "/docs"}
"""The routes that everybody may ask: who watches a process has no key."""
_SHOWN = {"/openapi.json", "/docs", "/favicon.ico"}
"""What a browser asks for beside pages, too: it forgets a password that is refused anywhere."""
_RETRY_S = 0.5
_log = logging.getLogger("featurekit.server")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: a status, a body, and the headers beside its length."""

    body: bytes
    status: int = 200
    headers: Headers = field(default_factory=list)


def _typed(content_type: bytes, *more: tuple[bytes, bytes]) -> Headers:
    return [(b"content-type", content_type), *more]


@dataclass(slots=True)
class Request:
    """A request: its scope, where its body comes from, and what is known of it: `asked` is what it
    asks, for errors, and `service` what answered, for metrics; `rows` and `error` say how.
    `caller` is who asks."""

    scope: Scope
    receive: Receive
    headers: dict[bytes, bytes]
    route: str = ""
    asked: str = ""
    service: str = ""
    id: str | None = None
    caller: Caller = ANYONE
    rows: int | None = None
    error: str = ""

    @property
    def path(self) -> str:
        """The path, without the query."""
        return str(self.scope["path"])

    async def body(self, most: int) -> bytes:
        """The body. RequestRefused where it has more than `most` bytes."""
        told = self.headers.get(b"content-length", b"0")
        if told.isdigit() and int(told) > most:
            raise _too_large(most)
        message = await self.receive()
        data: bytes = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [data], len(data)
            while message.get("more_body"):
                message = await self.receive()
                if message["type"] != "http.request":
                    raise RequestRefused("the body ended before its end; send it whole")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(most)
            data = b"".join(parts)
        if len(data) > most:
            raise _too_large(most)
        return data


def _too_large(most: int) -> RequestRefused:
    return RequestRefused(
        f"the body has more than {most} bytes; send fewer rows at once", status=413, where="body"
    )


_T = TypeVar("_T")
Handler = Callable[[Request], Awaitable[Answer]]


class App:
    """The application of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lookups = Lookups(settings)
        self.predictor: Predictor | None = None
        self.log: ServingLog | None = None
        self._traced: Callable[[], dict[str, str]] = dict
        self.access = Access(settings.access, self.lookups.store, settings.project)
        self.cors = Cors(settings.access.cors)
        self.pushes = Pushes(settings.pushes)
        self.metrics = Metrics(self.lookups.freshness, self.lookups.pool_waits())
        self.draining = False
        self.ready = False
        self.waiting_for: Exception | None = None
        self._outages = Sparing(_log)
        self._admin: Any = None
        self._files: Files | None = None
        self._making: asyncio.Lock | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._routes: dict[str, tuple[str, Handler]] = {
            "/get-online-features": ("POST", self._feast),
            "/push": ("POST", self._push_of_feast),
            "/write-to-online-store": ("POST", self._write_of_feast),
            _LISTED: ("POST", self._own),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/metrics": ("GET", self._metrics),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1000})

    def follow(self, span: Span, headers: Callable[[], dict[str, str]]) -> None:
        """Tell `span` of the parts of requests, and other servers of it by `headers`."""
        self.lookups.span, self._traced = span, headers

    # --- the life of a worker ---------------------------------------------------------------------

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._open_log()
                self._forward()
                self._beside(self._load())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                for task in self._tasks:
                    task.cancel()
                await self.access.close()
                await self.pushes.close()
                if self.predictor is not None:
                    await self.predictor.close()
                if self.log is not None:
                    await asyncio.to_thread(self.log.close)
                await self.lookups.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the answers."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _open_log(self) -> None:
        """Open the serving log, where there is one."""
        if self.settings.log is None:
            return
        from featurekit.server.held import Held

        self.lookups.log = Held()
        self.log = self.settings.log.open(self.lookups.store, self.settings.project)

    def _forward(self) -> None:
        """Make what asks model servers, where there are some."""
        told, settings = self.settings.forward, self.settings
        if told is None:
            return
        from featurekit.server.forward.metrics import PredictionMetrics
        from featurekit.server.forward.predict import Predictor

        self.predictor = Predictor(
            told,
            self.lookups,
            settings.waits(settings.timeout_s),
            look=self._looked_up,
            beside=self._beside,
            metrics=PredictionMetrics(self.metrics.registry),
            log=self.log,
            traced=self._traced,
        )

    def _read_services(self) -> None:
        """Make every live service ready, and see that each target has its own. It reads the store,
        and blocks meanwhile."""
        self.lookups.load()
        if self.predictor is not None:
            from featurekit.server.forward.predict import check

            check(self.predictor.forwarding, self.lookups)

    async def _load(self) -> None:
        """Load every live service, and try again until that was done once."""
        while not self.ready:
            try:
                await asyncio.to_thread(self._read_services)
                self.waiting_for, self.ready = None, True
            except FeaturekitError as error:
                self.waiting_for = error
                await asyncio.sleep(_RETRY_S)
            except Exception as error:
                _log.exception("a bug in featurekit, while services were loaded")
                self.waiting_for = error
                await asyncio.sleep(_RETRY_S)

    # --- requests ---------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive, dict(scope["headers"]))
        scope[REQUEST] = request
        before = self.cors.before(scope["method"], request.headers)
        if before is not None:
            await self._send(request, Answer(b"", 204, before), send)
            return
        answer: Answer | None
        try:
            handler = self._handler(request)
            if request.path not in _OPEN:
                page = _is_for_eyes(request)
                request.caller, rate = await self.access.caller(scope["headers"], page=page)
                self.access.count(request.caller, rate)
            # What is for people is sent by its own application.
            answer = await (self._to_admin(request, send) if handler is None else handler(request))
        except Exception as error:
            answer = self._failed(request, error)
            if answer.status == 401 and _is_for_eyes(request):
                answer.headers.append((b"www-authenticate", BASIC))
        if answer is not None:
            await self._send(request, answer, send)
        self.metrics.took(request.route, request.service, time.perf_counter() - began)

    def _handler(self, request: Request) -> Handler | None:
        """What answers a request; None for what the other application answers."""
        path, method = request.path, request.scope["method"]
        found = self._routes.get(path)
        if found is None and path.startswith("/v1/services/") and path.endswith("/features"):
            request.route = "/v1/services/{name}/features"
            found = "POST", self._own
        if found is None and path.startswith(_SOURCES) and path.endswith(_EVENTS):
            request.route = "/v1/sources/{name}/events"
            found = "POST", self._push
        if found is None and path.startswith(_MODELS) and path.endswith(_PREDICT):
            request.route = "/v1/models/{name}/predict"
            found = "POST", self._predict
        if found is None and self.settings.catalog is not None and _is_of_catalog(path):
            request.route = _CATALOG
            found = "GET", self._catalog
        if found is None:
            request.route = _page_route(path)
            return None
        request.route = request.route or path
        wanted, handler = found
        if method != wanted and (method, wanted) != ("HEAD", "GET"):
            raise RequestRefused(
                f"{path} takes {wanted}, found {method}; write {wanted}",
                status=405,
                where="method",
                allow=wanted,
            )
        return handler

    def _failed(self, request: Request, error: Exception, where: str = "") -> Answer:
        status = failures.status_of(error)
        if request.id is None:
            request.id = _told_id(request) or uuid.uuid4().hex
        if status == 500:
            _log.exception("request %s: a bug in featurekit", request.id)
        elif failures.outside(error) is not None:
            self._outages.warning(f"request {request.id}: {error}")
        request.error = failures.kind_of(error)
        self.metrics.failed(request.route, request.error)
        where = where or request.asked or request.route or "route"
        found = failures.document(error, where, request.id, near=self.access.open)
        return Answer(as_json.dumps(found), status, _typed(JSON, *failures.headers_of(error)))

    async def _send(self, request: Request, answer: Answer, send: Send) -> None:
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        headers += self._more_headers(request, answer.status)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _more_headers(self, request: Request, status: int) -> Headers:
        """What the headers of every answer say."""
        more = [] if status == 204 else [*self.cors.headers(request.headers.get(b"origin"))]
        if request.id is not None:
            more.append((b"x-request-id", request.id.encode()))
        if self.draining:
            more.append((b"connection", b"close"))
        return more

    async def _to_admin(self, request: Request, send: Send) -> None:
        """Answer by the application for people, which is loaded in a thread the first time."""
        if self._admin is None:
            self._making = self._making or asyncio.Lock()
            async with self._making:
                if self._admin is None:
                    from featurekit.server.admin import admin

                    models = {} if self.predictor is None else self.predictor.described()
                    self._admin = await asyncio.to_thread(
                        admin,
                        self.lookups,
                        self._failed_page,
                        asks=not self.access.open,
                        models=models,
                    )
        request.scope["featurekit.caller"] = request.caller
        request.id = _told_id(request)
        begun = False

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                more = self._more_headers(request, message["status"])
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            await self._admin(request.scope, request.receive, sent)
        except Exception:
            if not begun:
                raise
            # It has answered, and tells of a bug once more.
            _log.exception("%s: a bug in featurekit", request.path)

    def _failed_page(self, scope: Scope, error: Exception) -> Answer:
        """The answer for an error of the application for people."""
        request: Request = scope[REQUEST]
        return self._failed(request, error, request.path)

    # --- features ---------------------------------------------------------------------------------

    async def _feast(self, request: Request) -> Answer:
        """POST /get-online-features, in the form of Feast's feature server."""
        most = self.settings.most_rows
        question, result, said = await self._asked(
            request, lambda data: feast_question(data, most_rows=most)
        )
        headers = _typed(JSON, *self.lookups.notices.headers(said.version))
        return Answer(as_json.feast_answer(result, said, views=question.views), 200, headers)

    async def _own(self, request: Request) -> Answer:
        """POST /v1/services/{name}/features and /v1/features: rows in, columns out."""
        name = None
        if request.path != _LISTED:
            name = request.path[len("/v1/services/") : -len("/features")]
        media = accepted(request.headers.get(b"accept"))
        most = self.settings.most_rows
        _, result, said = await self._asked(
            request, lambda data: own_question(name, data, most_rows=most)
        )
        headers = _typed(
            media,
            (b"featurekit-as-of", result.as_of.isoformat().encode()),
            (b"featurekit-version", said.version.fingerprint.encode()),
            *self.lookups.notices.headers(said.version),
        )
        return Answer(_written(media, result, said), 200, headers)

    async def _body(self, request: Request) -> Any:
        """The value in the body. RequestRefused where it is none."""
        kind = request.headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
        request.id = request_id(request.headers.get(b"x-request-id", b"").decode("latin-1") or None)
        if kind not in _BODIES:
            if b"json" not in kind and kind not in (b"", b"application/x-www-form-urlencoded"):
                raise RequestRefused(
                    f"a body of {kind.decode('latin-1')!r}; write application/json or "
                    "application/msgpack",
                    status=415,
                    where="content-type",
                )
            kind = JSON  # curl's -d says that it is a form
        data = await request.body(self.settings.most_bytes)
        try:
            if kind == JSON:
                return as_json.loads(data)
            from featurekit.online.wire.msgpack import unpack

            return unpack(data)
        except ValueError as error:
            what = "JSON" if kind == JSON else "MessagePack"
            raise failures.no_value(what, error) from None

    async def _asked(
        self, request: Request, read: Callable[[Any], Question]
    ) -> tuple[Question, OnlineResult, Said]:
        """What a request asks, which `read` makes of its body, and the answer: both within the
        time that the request has."""
        limit = _limit(request, self.settings.timeout_s)
        question: Question | None = None
        with self._logged(request):
            try:
                async with asyncio.timeout(limit):
                    question = read(await self._body(request))
                    request.id = question.request_id or request.id or self._new_id()
                    asked = f"service {question.service}" if question.service else "features"
                    request.asked = asked
                    request.caller.need(f"read:{question.service}" if question.service else LIST)
                    result, version = await self.lookups.answer(question)
            except TimeoutError:
                if question is None:
                    raise failures.late_body(limit, self.settings.timeout_s) from None
                result, version = self._without_store(question, limit)
        request.service, request.rows = question.service or version.name, len(result)
        self.metrics.answered(request.service, result)
        self._look_at_notices()
        return question, result, Said(request.service, version, request.id)

    def _new_id(self) -> str | None:
        """An id for a request that brings none, where the serving log is to name it."""
        return None if self.log is None else uuid.uuid4().hex

    @contextmanager
    def _logged(self, request: Request) -> Iterator[None]:
        """Tell the serving log of the lookup in the block, where there is one."""
        if self.log is None:
            yield
            return
        from featurekit.server.held import held, write_lookup

        with held(self.log.wants()) as holding:
            yield
        if holding is not None:
            told = {"request_id": request.id or "", "caller": request.caller.who}
            write_lookup(self.log, holding.number, holding.taken, **told)

    async def _looked_up(self, question: Question, end: float) -> tuple[OnlineResult, Service]:
        """The answer of the store before an instant of the monotonic clock, or what is answered
        without it."""
        limit = max(0.0, end - time.monotonic())
        try:
            async with asyncio.timeout(limit):
                return await self.lookups.answer(question)
        except TimeoutError:
            return self._without_store(question, limit)

    def _without_store(self, question: Question, limit_s: float) -> tuple[OnlineResult, Service]:
        """What is answered where the store was waited for in vain, for so long."""
        instead = self.lookups.instead(question)
        if instead is None:
            raise failures.Overdue(
                f"no answer within {limit_s:.3g} s, while Redis was waited for; ask again, with "
                "fewer rows or more time"
            )
        return instead

    def _look_at_notices(self) -> None:
        if self.lookups.notices.due():
            self._beside(asyncio.to_thread(self.lookups.notices.look))

    # --- predictions ------------------------------------------------------------------------------

    async def _predict(self, request: Request) -> Answer:
        """POST /v1/models/{name}/predict: rows in, a prediction for each out."""
        name = request.path[len(_MODELS) : -len(_PREDICT)]
        request.caller.need(f"predict:{name}")
        if self.predictor is None:
            raise RequestRefused(
                "this server forwards to no model; start it with --forward URL",
                status=501,
                where="route",
            )
        from featurekit.server.forward.answers import written
        from featurekit.server.forward.predict import Asked

        model = self.predictor.model(name)
        request.asked = f"model {model.name}"
        limit = _limit(request, self.settings.timeout_s)
        end = time.monotonic() + limit
        media = accepted(request.headers.get(b"accept"), WRITTEN_OF_PUSHES)
        data = await _in_time(self._body(request), self.settings.timeout_s)
        question, details = predict_question(data, most_rows=self.settings.most_rows)
        request.id = question.request_id or request.id or uuid.uuid4().hex
        services = {f"read:{one}" for one in self.predictor.services(model)}
        if details:
            for scope in sorted(services):
                request.caller.need(scope)
        asked = Asked(model, question, request.id, end, request.caller.who)
        try:
            found = await self.predictor.predict(asked)
        except ModelFailed as error:
            # What a model server says of itself may hold features.
            if error.reply and all(map(request.caller.may, services)):
                raise error.with_reply() from None
            raise
        request.service, request.rows = found.looked.service.name, len(found.values)
        self.metrics.answered(request.service, found.looked.result)
        self._look_at_notices()
        body = written(found, request.id, details=details, packed=media == MSGPACK)
        notices = self.lookups.notices.headers(found.looked.service)
        return Answer(body, 200, _typed(media, *notices))

    # --- pushes -----------------------------------------------------------------------------------

    async def _push_of_feast(self, request: Request) -> Answer:
        """POST /push, in the form of Feast's feature server."""
        return await self._pushed(request, FEAST, None)

    async def _write_of_feast(self, request: Request) -> Answer:
        """POST /write-to-online-store, Feast's way to write values of a view. RequestRefused: such
        values are of no event, so no training set would have them."""
        raise RequestRefused(
            "values are not written into a view here, since training would not have them; push the "
            "events of its source, by POST /push or POST /v1/sources/NAME/events",
            status=501,
            where="route",
        )

    async def _push(self, request: Request) -> Answer:
        """POST /v1/sources/{name}/events: rows in, what became of them out."""
        name = request.path[len(_SOURCES) : -len(_EVENTS)]
        request.caller.need(f"push:{name}")
        return await self._pushed(request, OWN, name)

    async def _pushed(self, request: Request, form: str, source: str | None) -> Answer:
        self.pushes.check()
        request.asked = "push" if source is None else f"push to {source}"
        request.id = _told_id(request) or uuid.uuid4().hex
        media = accepted(request.headers.get(b"accept"), WRITTEN_OF_PUSHES)
        order = Order(
            form=form,
            kind=kind_of(request.headers.get(b"content-type", JSON), form),
            source=source,
            key=key_of(request.headers.get(b"idempotency-key")),
            id=request.id,
            left_s=_limit(request, self.settings.push_timeout_s),
            caller=request.caller,
            packed=media == MSGPACK and form == OWN,
        )
        coming = request.body(self.settings.most_bytes)
        sent = await _in_time(coming, self.settings.push_timeout_s)
        # What is sent is taken to its end, also where the caller has gone meanwhile.
        done, body = await self.pushes.push(order, sent)
        if done.kind:
            self.metrics.failed(request.route, done.kind)
        headers = [(k.encode(), v.encode()) for k, v in done.headers]
        media = MSGPACK if order.packed and not done.kind else JSON
        return Answer(body, done.status, _typed(media, *headers))

    # --- the worker itself ------------------------------------------------------------------------

    async def _health(self, request: Request) -> Answer:
        return Answer(b'{"status":"ok"}', 200, _typed(JSON))

    async def _ready(self, request: Request) -> Answer:
        if self.ready and not self.draining:
            return Answer(b'{"status":"ready"}', 200, _typed(JSON))
        why = "the worker is stopping" if self.draining else "the services are being loaded"
        if self.waiting_for is not None and not self.draining:
            # Whoever asks without a key is told no address and no name.
            why = f"{why}; the last attempt failed with {failures.kind_of(self.waiting_for)}"
        if self.waiting_for is not None and not self.draining and self.access.open:
            found = failures.document(self.waiting_for, "/ready", None, near=True)
            return Answer(as_json.dumps({"status": "waiting", **found}), 503, _typed(JSON))
        body = as_json.dumps({"status": "stopping" if self.draining else "waiting", "why": why})
        return Answer(body, 503, _typed(JSON))

    async def _catalog(self, request: Request) -> Answer:
        """GET /catalog/…: the pages of the catalogue, which tell of every service."""
        if not request.caller.may(ADMIN):
            request.caller.need("read:*")
        if self._files is None:
            from featurekit.server.files import Files

            assert self.settings.catalog is not None
            self._files = Files(self.settings.catalog, private=not self.access.open)
        status, headers, body = await asyncio.to_thread(
            self._files.answer, request.path, request.headers
        )
        return Answer(body, status, headers)

    async def _metrics(self, request: Request) -> Answer:
        request.caller.need(METRICS)
        text = await asyncio.to_thread(self.metrics.text)
        return Answer(text, 200, _typed(CONTENT_TYPE))


def _is_of_catalog(path: str) -> bool:
    return path == _CATALOG or path.startswith(f"{_CATALOG}/")


def _is_for_eyes(request: Request) -> bool:
    """Whether a request is for a page that a person opens in a browser, or for a part of one."""
    shown = request.path in _SHOWN or request.route == _CATALOG
    return shown and request.scope["method"] in ("GET", "HEAD")


def _page_route(path: str) -> str:
    """The route of a path that is for people, as metrics name it: one of a few."""
    if path in _PAGES:
        return path
    return "/v1/services/{name}" if path.startswith("/v1/services/") else ""


def _told_id(request: Request) -> str | None:
    """The id in the headers of a request that was refused before its body was read."""
    with suppress(RequestRefused):
        return request_id(request.headers.get(b"x-request-id", b"").decode("latin-1") or None)
    return None


def _limit(request: Request, most: float) -> float:
    """How long a request may take: as the server allows, or what is left of the caller's time."""
    told = request.headers.get(b"featurekit-timeout-ms")
    if told is None:
        return most
    with suppress(ValueError):
        return min(most, max(int(told), 0) / 1000)
    raise RequestRefused(
        f"found {told.decode('latin-1')!r}; write whole milliseconds, as in 250",
        where="featurekit-timeout-ms",
    )


async def _in_time(body: Awaitable[_T], limit_s: float) -> _T:
    """A body that arrives within the time of the server. RequestRefused, 408, where it does not."""
    try:
        async with asyncio.timeout(limit_s):
            return await body
    except TimeoutError:
        raise failures.late_body(limit_s, limit_s) from None


def _written(media: bytes, result: OnlineResult, said: Said) -> bytes:
    if media == ARROW:
        from featurekit.online.wire.arrow import stream

        return stream(result, said.service, said.version.fingerprint)
    if media == MSGPACK:
        from featurekit.server.as_msgpack import answer

        return answer(result, said)
    return as_json.own_answer(result, said)
