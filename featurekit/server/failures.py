"""Turns errors into answers of HTTP: a status, and one form of JSON that says where, what was found
and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from featurekit.errors import (
    ArgumentError,
    AsOfInFuture,
    AsOfTooOld,
    BadRowError,
    ContractBroken,
    DamagedLog,
    DamagedNote,
    DamagedState,
    DamagedView,
    DefinitionError,
    EntityFrameError,
    FeaturekitError,
    FingerprintMismatch,
    LeaseLost,
    ModelFailed,
    NotServed,
    OnlineError,
    PlanRefused,
    RegistryError,
    RequestRefused,
    SourceError,
    StoreUnavailable,
    TransformError,
    WriteError,
)

STATUSES: Mapping[type[Exception], int] = {
    ArgumentError: 400,
    DefinitionError: 404,
    SourceError: 422,
    DamagedLog: 503,
    WriteError: 503,
    RegistryError: 503,
    NotServed: 404,
    EntityFrameError: 422,
    BadRowError: 422,
    ContractBroken: 422,
    AsOfTooOld: 422,
    AsOfInFuture: 422,
    TransformError: 422,
    OnlineError: 503,
}
"""The status of an error, or of the nearest class above it that is listed."""
RETRY_AFTER_S = 1
_BUG = "the server failed in a way that is not foreseen; its log has the request id"


class Told(StoreUnavailable):
    """What a server itself says to its callers, where it cannot answer now."""


class Overdue(Told):
    """A request was not answered within its time."""


_FOR_CALLERS = (
    Told,
    ModelFailed,
    DamagedNote,
    DamagedState,
    DamagedView,
    FingerprintMismatch,
    LeaseLost,
    PlanRefused,
)
"""The 503s that name views, versions and entities. Any other may name an address, a folder or a
setting of the server."""
_ON_DISK = (DamagedLog, WriteError, RegistryError)


def no_value(what: str, error: ValueError) -> RequestRefused:
    """The error for a body that is no JSON or no MessagePack, as `what` says."""
    return RequestRefused(
        f"the body is no {what}: {error}; send an object, as the examples at /docs are",
        where="body",
    )


def late_body(limit_s: float, most_s: float) -> FeaturekitError:
    """The error for a body that did not come in time. Where that was the server's own time,
    `most_s`, the sender is too slow, and the connection ends with it. Else it was the caller's, who
    is told as of any answer that is late."""
    text = f"the body did not arrive within {limit_s:.3g} s; send it at once, or allow it more time"
    if limit_s < most_s:
        return Overdue(text)
    return RequestRefused(text, status=408, where="body")


def status_of(error: Exception) -> int:
    """The status of HTTP for an error; 500 for what is not foreseen."""
    if isinstance(error, (RequestRefused, ModelFailed)):
        return error.status
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def kind_of(error: Exception) -> str:
    """The name of an error, as answers and metrics give it."""
    if status_of(error) == 500:
        return "InternalError"
    return StoreUnavailable.__name__ if isinstance(error, Told) else type(error).__name__


def outside(error: Exception) -> str | None:
    """What callers from outside read instead of an error's own text, which names addresses, folders
    or settings of the server; None where that text is for them."""
    if status_of(error) != 503 or isinstance(error, _FOR_CALLERS):
        return None
    what = (
        "what is kept on disk cannot be read or written now"
        if isinstance(error, _ON_DISK)
        else "the online store cannot be asked now"
    )
    later = getattr(error, "retry_after_s", None) is not None
    return f"{what}; ask again" + (" after a while, as Retry-After says" if later else "")


def document(
    error: Exception, where: str, request_id: str | None, *, near: bool = False
) -> dict[str, Any]:
    """The body of the answer for an error. `where` is the route or the part of the request. Where
    callers need no key, on a server that this machine alone reaches as a rule, they are `near`, and
    read what the server's log says."""
    text = str(error) if isinstance(error, FeaturekitError) and status_of(error) != 500 else _BUG
    text = text if near else outside(error) or text
    what, _, write = text.partition("; ")
    place = error.where if isinstance(error, RequestRefused) and error.where else where
    found = {"type": kind_of(error), "where": place, "what": what, "write": write or None}
    return {"error": {**found, "request_id": request_id}}


def headers_of(error: Exception) -> list[tuple[bytes, bytes]]:
    """What the headers of the answer say beside the usual."""
    if isinstance(error, StoreUnavailable):
        wait_s = math.ceil(error.retry_after_s or 0.0)
        return [(b"retry-after", b"%d" % max(wait_s, RETRY_AFTER_S))]
    if isinstance(error, ModelFailed) and error.status == 503:
        return [(b"retry-after", b"%d" % max(math.ceil(error.retry_after_s or 0.0), RETRY_AFTER_S))]
    if not isinstance(error, RequestRefused):
        return []
    found = []
    if error.status == 408:
        found.append((b"connection", b"close"))
    if error.allow:
        found.append((b"allow", error.allow.encode()))
    if error.challenge:
        found.append((b"www-authenticate", error.challenge.encode()))
    if error.retry_after_s is not None:
        wait = max(math.ceil(error.retry_after_s), RETRY_AFTER_S)
        found.append((b"retry-after", b"%d" % wait))
    return found
