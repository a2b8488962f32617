"""Says which pages may ask from a browser (CORS): those of the origins that were named.

No cookie is ever read here, so a page without a token of its own can do nothing by it.
"""

from __future__ import annotations

import re
from collections.abc import Collection

Headers = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
_METHODS = b"GET, HEAD, POST"
_SENT = b"authorization, content-type, accept, x-request-id, featurekit-timeout-ms, idempotency-key"
_SHOWN = (
    b"x-request-id, featurekit-as-of, featurekit-version, retry-after, www-authenticate, "
    b"deprecation, sunset, link, featurekit-deprecated"
)


def is_origin(text: str) -> bool:
    """Whether a text is an origin, as a browser sends it, or `*` for every one."""
    return text == "*" or _ORIGIN.fullmatch(text) is not None


class Cors:
    """What browsers are told."""

    def __init__(self, origins: Collection[str]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> Headers:
        """What an answer to a page of an origin says beside the usual."""
        if not self._origins:
            return []
        if self._all:
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", _SHOWN),
            ]
        vary = (b"vary", b"origin")
        if origin is None or origin not in self._origins:
            return [vary]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _SHOWN),
            vary,
        ]

    def before(self, method: str, headers: dict[bytes, bytes]) -> Headers | None:
        """The headers of the answer to a browser that asks before it asks; None for any other
        request, and where nobody may ask from a browser."""
        if method != "OPTIONS" or not self._origins:
            return None
        if b"access-control-request-method" not in headers:
            return None
        told = self.headers(headers.get(b"origin"))
        if told[0][0] == b"vary":
            return told
        return [
            *told,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", b"600"),
        ]
