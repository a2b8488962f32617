"""Turns entity rows into features by asking a server: the results are those of the store itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from featurekit import errors
from featurekit.client.predictions import Predictions
from featurekit.core.calls import checked, found
from featurekit.core.columns import Columns
from featurekit.core.types import Instant, as_instant
from featurekit.define.deprecated import warn
from featurekit.errors import (
    ArgumentError,
    BadRowError,
    ConfigError,
    EntityFrameError,
    FeaturekitError,
    ModelFailed,
    OnlineError,
    RequestRefused,
    SourceError,
    StoreUnavailable,
)
from featurekit.online.lookup.result import OnlineResult
from featurekit.online.lookup.rows import given
from featurekit.online.wire import arrow, deprecated
from featurekit.online.wire.http import (
    Address,
    AsyncConnections,
    Broken,
    Connections,
    Reply,
    request,
)
from featurekit.online.wire.http import Stale as StaleConnection

if TYPE_CHECKING:
    from featurekit.feed.events import Pushed

_ARROW = "application/vnd.apache.arrow.stream"
_PACKED = "application/msgpack"
_LOOKUP = f"content-type: {_PACKED}\r\naccept: {_ARROW}\r\n"
_PREDICTION = f"content-type: {_PACKED}\r\naccept: {_PACKED}\r\n"
PUSH_S = 10.0
"""How long a push may take, where nothing else is said."""
_AGAIN = (502, 503, 504)
_TOO_OFTEN = 429
TOKEN_VARIABLE = "FEATUREKIT_TOKEN"
_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class Client:
    """A server of `featurekit serve`, to be asked by threads and by event loops.

    `url` is the server's, as "http://features.internal:6566"; `token`, or what the environment's
    FEATUREKIT_TOKEN says, is sent to it as a bearer token. A lookup takes up to `timeout_s`
    seconds, which the server is told, and up to `connect_timeout_s` of them go to the opening of a
    connection. A lookup changes nothing, so one whose connection broke, or that the server asks to
    repeat later (503, 429), is repeated up to `retries` times within its time, after a pause whose
    length is drawn. As a context manager, it closes itself at the end.
    """

    @checked
    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 2.0,
        connect_timeout_s: float = 2.0,
        retries: int = 2,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.address = Address.of(url)
        self.timeout_s, self.connect_timeout_s, self.retries = timeout_s, connect_timeout_s, retries
        if self.address.secure and ssl_context is None:
            ssl_context = ssl.create_default_context()
        context = ssl_context if self.address.secure else None
        self._connections = Connections(self.address, context)
        self._async = AsyncConnections(self.address, context)
        self._token = ""
        token, where = (token, "token") if token is not None else _token_of_environment()
        if token is not None:
            if not re.fullmatch(r"[!-~]+", token):
                raise ConfigError(
                    f"{where} has characters that no token has; give it as it was shown"
                )
            self._token = f"authorization: Bearer {token}\r\n"

    def __repr__(self) -> str:
        return f"Client({('https' if self.address.secure else 'http')}://{self.address.name})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def close(self) -> None:
        """Close the connections of threads."""
        self._connections.close()

    async def close_async(self) -> None:
        """Close the connections of this event loop."""
        await self._async.close()

    # --- lookups ----------------------------------------------------------------------------------

    def get_online_features(
        self,
        service: str | Sequence[str],
        rows: Any,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
        service_version: str | None = None,
        timeout_s: float | None = None,
    ) -> OnlineResult:
        """The features of each row, as `FeatureStore.get_online_features` gives them.

        `service` is a service's name, or a list of features as "view:feature". `rows` is a list of
        dicts, a dict of lists or arrays, or a frame of pandas, polars or Arrow. `service_version`
        is the version that answers, live or pinned: its fingerprint, or the beginning of it; "@"
        and that behind the service's name say the same. One that is not fed is refused (409). It
        raises the
        errors of the store; StoreUnavailable where the server cannot be reached, or does not answer
        within `timeout_s` (by default the client's); RequestRefused where the server does not take
        the request. DeprecatedFeature warns, once, of what is to be given up.
        """
        path, body = _asked(
            service, rows, as_of, full_feature_names, request_fields, service_version
        )
        seconds = self.timeout_s if timeout_s is None else timeout_s
        return _result(self._reply(path, _LOOKUP, body, seconds))

    async def get_online_features_async(
        self,
        service: str | Sequence[str],
        rows: Any,
        as_of: Instant | None = None,
        *,
        full_feature_names: bool = False,
        request_fields: bool = False,
        service_version: str | None = None,
        timeout_s: float | None = None,
    ) -> OnlineResult:
        """As `get_online_features`, without blocking the event loop."""
        path, body = _asked(
            service, rows, as_of, full_feature_names, request_fields, service_version
        )
        seconds = self.timeout_s if timeout_s is None else timeout_s
        return _result(await self._reply_async(path, _LOOKUP, body, seconds))

    # --- predictions ------------------------------------------------------------------------------

    def predict(
        self,
        model: str,
        rows: Any,
        as_of: Instant | None = None,
        *,
        details: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Predictions:
        """What a model predicts for each row, by a server that forwards features to model servers.

        `rows` are those of `get_online_features`: join keys and request fields, for each of the
        model's services. With `details` the answer has the features and their statuses, for who
        may read them. It raises what a lookup does, and ModelFailed where the model server failed.
        A request that it may have died of is not sent again.
        """
        path, body = _to_predict(model, rows, as_of, details, request_id)
        seconds = self.timeout_s if timeout_s is None else timeout_s
        return _predictions(self._reply(path, _PREDICTION, body, seconds))

    async def predict_async(
        self,
        model: str,
        rows: Any,
        as_of: Instant | None = None,
        *,
        details: bool = False,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Predictions:
        """As `predict`, without blocking the event loop."""
        path, body = _to_predict(model, rows, as_of, details, request_id)
        seconds = self.timeout_s if timeout_s is None else timeout_s
        return _predictions(await self._reply_async(path, _PREDICTION, body, seconds))

    # --- pushes -----------------------------------------------------------------------------------

    def push(
        self,
        source: str,
        rows: Any,
        *,
        idempotency_key: str | None = None,
        timeout_s: float = PUSH_S,
    ) -> Pushed:
        """Take new events of a source, as `FeatureStore.push` does; `rows` are a dict, a list of
        dicts, or a frame of pandas, polars or Arrow.

        A push whose connection broke, or that the server asks to repeat, is repeated under its key,
        so that it counts once. The key is a random one for each call; who wants to call again after
        an error gives an `idempotency_key` and the same rows. It raises the errors of the store;
        RequestRefused where the key was used for other rows, or the server takes no pushes;
        StoreUnavailable where nobody says within `timeout_s` what became of the rows.
        """
        path, headers, body = _pushed(source, rows, idempotency_key)
        return _push_result(self._reply(path, headers, body, timeout_s))

    async def push_async(
        self,
        source: str,
        rows: Any,
        *,
        idempotency_key: str | None = None,
        timeout_s: float = PUSH_S,
    ) -> Pushed:
        """As `push`, without blocking the event loop."""
        path, headers, body = _pushed(source, rows, idempotency_key)
        return _push_result(await self._reply_async(path, headers, body, timeout_s))

    # --- requests ---------------------------------------------------------------------------------

    def _reply(self, path: str, headers: str, body: bytes, seconds: float) -> Reply:
        """The reply to a request, which is repeated where that may help."""
        for attempt in self._attempts(seconds):
            try:
                asked = self._request(path, headers, body, attempt)
                reply = self._connections.ask(asked, self.connect_timeout_s, attempt.end)
            except OSError as error:
                pause = attempt.after(error)
            else:
                if reply.status == 200:
                    return reply
                pause = attempt.after_reply(reply)
            if pause:
                time.sleep(pause)
        raise AssertionError("the last attempt raises")

    async def _reply_async(self, path: str, headers: str, body: bytes, seconds: float) -> Reply:
        """As `_reply`, without blocking the event loop."""
        for attempt in self._attempts(seconds):
            try:
                asked = self._request(path, headers, body, attempt)
                reply = await self._async.ask(asked, self.connect_timeout_s, attempt.end)
            except OSError as error:
                pause = attempt.after(error)
            else:
                if reply.status == 200:
                    return reply
                pause = attempt.after_reply(reply)
            if pause:
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt raises")

    def _attempts(self, seconds: float) -> Iterator[_Attempt]:
        """The attempts of a request, of which the last one raises."""
        end = time.monotonic() + seconds
        attempt = _Attempt(self.address, seconds, end, self.retries)
        while True:
            yield attempt

    def _request(self, path: str, headers: str, body: bytes, attempt: _Attempt) -> bytes:
        left = max(1, int((attempt.end - time.monotonic()) * 1000))
        headers = f"{headers}{self._token}featurekit-timeout-ms: {left}\r\n"
        return request("POST", self.address, path, headers, body)


class _Attempt:
    """What is left of a request: its time, and how often it may be repeated."""

    def __init__(self, address: Address, seconds: float, end: float, retries: int) -> None:
        self.address, self.seconds, self.end = address, seconds, end
        self.left, self.number = retries, 0

    def after(self, error: OSError) -> float:
        """The pause after an attempt that failed. StoreUnavailable where it was the last one."""
        if isinstance(error, StaleConnection):
            return 0.0  # another connection is tried at once; there are only so many stale ones
        if isinstance(error, TimeoutError):
            reason = f"it did not answer within {self.seconds:g} s"
        elif isinstance(error, ssl.SSLCertVerificationError):
            raise StoreUnavailable(f"{self._where}: {error.verify_message}") from None
        else:
            reason = str(error) if isinstance(error, Broken) else error.strerror or str(error)
        return self._pause(StoreUnavailable(f"{self._where}: {reason}"), 0.0)

    def after_reply(self, reply: Reply) -> float:
        """The pause before a reply is asked for again; the error that it is, where that has no
        use."""
        error = _error_of(reply)
        told = reply.headers.get("retry-after")
        later = told is not None and reply.status in (_TOO_OFTEN, 503)
        if isinstance(error, ModelFailed) and reply.status != 503:
            raise error  # the model server may have died of it
        if not later and (reply.status not in _AGAIN or reply.status == 503):
            raise error
        return self._pause(error, float(told) if told is not None and told.isdecimal() else 0.0)

    def _pause(self, error: FeaturekitError, least: float) -> float:
        """A pause that is drawn, from twice as many as before, and that ends before the time."""
        longest = min(_LONGEST_PAUSE_S, _PAUSE_S * 2**self.number)
        pause = least + random.uniform(0.0, longest)
        if self.left <= 0 or time.monotonic() + pause >= self.end:
            raise error
        self.left, self.number = self.left - 1, self.number + 1
        return pause

    @property
    def _where(self) -> str:
        return f"the server at {self.address.name} cannot be asked"


def _token_of_environment() -> tuple[str | None, str]:
    """The token that the environment has, and where."""
    return os.environ.get(TOKEN_VARIABLE) or None, TOKEN_VARIABLE


def _asked(
    service: str | Sequence[str],
    rows: Any,
    as_of: Instant | None,
    full_names: bool,
    request_fields: bool,
    version: str | None,
) -> tuple[str, bytes]:
    """The path and the body of a lookup. EntityFrameError for rows that cannot be sent."""
    body: dict[str, Any] = {}
    if isinstance(service, str):
        path = f"/v1/services/{quote(service, safe='')}/features"
    else:
        path, body["features"] = "/v1/features", list(service)
    body |= _of_rows(rows, as_of)
    if full_names:
        body["full_feature_names"] = True
    if request_fields:
        body["request_fields"] = True
    if version is not None:
        body["service_version"] = version
    return path, _packed(body)


def _to_predict(
    model: str, rows: Any, as_of: Instant | None, details: bool, request_id: str | None
) -> tuple[str, bytes]:
    """The path and the body of a request for predictions. EntityFrameError for rows that cannot be
    sent."""
    body = _of_rows(rows, as_of)
    if details:
        body["details"] = True
    if request_id is not None:
        body["request_id"] = request_id
    return f"/v1/models/{quote(model, safe='')}/predict", _packed(body)


def _of_rows(rows: Any, as_of: Instant | None) -> dict[str, Any]:
    """What a body says of rows, and of the instant that they are asked about."""
    body: dict[str, Any] = {}
    asked = given(rows)
    if isinstance(asked, Columns):
        body |= {"columns": asked.values, "of_pandas": sorted(asked.of_pandas)}
    else:
        body["rows"] = [
            row if type(row) is dict else _as_dict(i, row) for i, row in enumerate(asked)
        ]
    if as_of is not None:
        body["as_of"] = as_instant(as_of, what="as_of").isoformat()
    return body


def _packed(body: dict[str, Any]) -> bytes:
    try:
        packed: bytes = _packer()(body)
    except TypeError as error:
        raise EntityFrameError(f"entity rows: {error}; give values of Python") from None
    return packed


def _predictions(reply: Reply) -> Predictions:
    """The predictions in an answer. OnlineError where it has none."""
    from featurekit.online.wire.msgpack import unpack

    try:
        found = Predictions.of(unpack(reply.body))
    except (LookupError, ValueError, TypeError) as error:
        raise OnlineError(
            f"the server's answer is none of featurekit ({error}); give the address of `featurekit "
            "serve`"
        ) from None
    _warn_of(reply)
    return found


def _pushed(source: str, rows: Any, key: str | None) -> tuple[str, str, bytes]:
    """The path, the headers and the body of a push. SourceError or BadRowError for rows that cannot
    be sent."""
    key = uuid.uuid4().hex if key is None else key
    if not re.fullmatch(r"[!-~]{1,255}", key):
        raise ArgumentError(
            "idempotency_key: write 1 to 255 printable characters of ASCII without spaces, as a "
            "UUID is"
        )
    path = f"/v1/sources/{quote(source, safe='')}/events"
    what = f"push to {source!r}"
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, (list, tuple)):
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise SourceError(
                    f"{what}: row {i} is {type(row).__name__}; write dicts, or a table with an "
                    "Arrow stream"
                )
        media = _PACKED
        try:
            body = _packer()({"rows": [dict(row) for row in rows]})
        except TypeError as error:
            raise BadRowError(f"{what}: {error}; give values of Python") from None
    else:
        from featurekit.online.wire.frames import stream_of

        media = _ARROW
        body = stream_of(rows, refuse=lambda reason: SourceError(f"{what}: {reason}"))
    headers = f"content-type: {media}\r\naccept: application/json\r\nidempotency-key: {key}\r\n"
    return path, headers, body


def _push_result(reply: Reply) -> Pushed:
    """What a push did. OnlineError where the answer does not say."""
    from featurekit.feed.events import Pushed

    try:
        told = json.loads(reply.body)
        fields = {name: told[name] for name in Pushed.__slots__}
        for name in ("arrived", "newest"):
            if fields[name] is not None:
                fields[name] = dt.datetime.fromisoformat(fields[name])
        return Pushed(**{**fields, "damaged": tuple(fields["damaged"])})
    except (LookupError, ValueError, TypeError) as error:
        raise OnlineError(
            f"the server's answer is none of featurekit ({error}); give the address of `featurekit "
            "serve`"
        ) from None


def _packer() -> Any:
    try:
        from featurekit.online.wire.msgpack import pack
    except ImportError:
        raise ConfigError(
            "ormsgpack is not installed; run `pip install 'featurekit[client]'`"
        ) from None
    return pack


def _as_dict(i: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise EntityFrameError(f"row {i} (the first is 0) is {found(row)}, and no dict")
    return dict(row)


def _result(reply: Reply) -> OnlineResult:
    """The result in an answer. OnlineError where it has none."""
    try:
        as_of = dt.datetime.fromisoformat(reply.headers["featurekit-as-of"])
        found = arrow.read(reply.body, as_of)[0]
    except (KeyError, ValueError) as error:
        raise OnlineError(
            f"the server's answer is none of featurekit ({error}); give the address of `featurekit "
            "serve`"
        ) from None
    _warn_of(reply)
    return found


def _warn_of(reply: Reply) -> None:
    """Warn, once, of what an answer says is to be given up."""
    given_up = reply.headers.get(deprecated.HEADER)
    if given_up is not None:
        warn(deprecated.read(given_up))


def _error_of(reply: Reply) -> FeaturekitError:
    """The error that an answer tells, of the class that the store would raise."""
    try:
        told = json.loads(reply.body)["error"]
        what, write, name = str(told["what"]), told["write"], told["type"]
        where = str(told["where"])
    except (ValueError, LookupError, TypeError):
        kind = StoreUnavailable if reply.status in _AGAIN else OnlineError
        return kind(f"the server answered {reply.status}, and not as featurekit does")
    text = what if write is None else f"{what}; {write}"
    if name == RequestRefused.__name__:
        return RequestRefused(text, status=reply.status, where=where)
    if name == ModelFailed.__name__:
        return ModelFailed(text, status=reply.status)
    made = getattr(errors, str(name), None)
    if isinstance(made, type) and issubclass(made, FeaturekitError):
        try:
            return made(text)
        except TypeError:  # it is made of more than a text
            pass
    return OnlineError(f"the server answered {reply.status}: {text}")
