"""Turns the headers of a request into its caller: whose key or token it brought, and whether it
asks too often.

A token is read as it came: neither decoded, nor folded, nor trimmed beyond the spaces behind
`Bearer`. No error and no log has it. A browser can send none for a page that a person opens, so
there it may be the password of HTTP's Basic, which a browser asks for and keeps until it is closed.
It counts for pages alone, which change nothing: a browser sends it along whoever leads there.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from featurekit.errors import RequestRefused
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.api_keys import PREFIX, opens, parts_of
from featurekit.server.callers import ANYONE, Caller, unknown
from featurekit.server.known_keys import KnownKeys
from featurekit.server.rates import Rates
from featurekit.server.settings import KEYS, TOKENS, AccessSettings

if TYPE_CHECKING:
    from featurekit.server.jwts import Tokens

_LONGEST = 8192
_PREFIX = PREFIX.encode()
BASIC = b'Basic realm="featurekit: any name, and an API key or a token as the password"'
"""The challenge by which a browser asks a person."""
_WRITE = "write the header `authorization: Bearer TOKEN`"
_NO_KEY = "ask with a key that `featurekit keys list` shows as open"


class Access:
    """Who may ask a worker. `clock` is a monotonic one, and `now` the time since 1970; both in
    seconds."""

    def __init__(
        self,
        settings: AccessSettings,
        store: OnlineStore,
        project: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.project, self._now = settings, project, now
        self._rates = Rates(clock)
        self._keys = KnownKeys(store, project, clock) if KEYS in settings.auth else None
        self._tokens: Tokens | None = None
        if TOKENS in settings.auth:
            from featurekit.server.jwts import Tokens

            self._tokens = Tokens(settings, clock=clock, now=now)

    @property
    def open(self) -> bool:
        """Whether nobody is asked who he is."""
        return self._keys is None and self._tokens is None

    async def close(self) -> None:
        """End what is under way."""
        if self._keys is not None:
            await self._keys.close()
        if self._tokens is not None:
            await self._tokens.close()

    async def caller(
        self, headers: Iterable[tuple[bytes, bytes]], *, page: bool = False
    ) -> tuple[Caller, float | None]:
        """Who asks, by the headers of a request, whose names are in lower case, and how often a
        second they may. For a `page` that people open, a password is a token, too.

        RequestRefused: 401 without a token that is known and valid. StoreUnavailable where nobody
        can say whether the token is known. What the caller may do, `Caller.need` says.
        """
        if self._keys is None and self._tokens is None:
            return ANYONE, None
        token = _token(headers, page=page)
        if self._keys is not None and token.startswith(_PREFIX):
            return await self._by_key(self._keys, token)
        if self._tokens is not None:
            return await self._tokens.caller(token), self.settings.rate
        raise unknown("the token has not the form of an API key", _NO_KEY)

    async def _by_key(self, keys: KnownKeys, token: bytes) -> tuple[Caller, float | None]:
        """The caller of a key, and how often it may ask."""
        parts = parts_of(token)
        if parts is None:
            raise unknown("the token has not the form of an API key", _NO_KEY)
        id_, secret = parts
        known = await keys.find(id_)
        if not opens(known, self.project, id_, secret) or known is None:
            raise unknown("the API key is none of this project", _NO_KEY)
        void = known.why_void(int(self._now() * 1e6))
        if void is not None:
            raise unknown(f"the API key is {void}", _NO_KEY)
        rate = self.settings.rate if known.rate is None else known.rate
        return Caller("key", known.name, known.scopes, known.id), rate

    def count(self, caller: Caller, rate: float | None) -> None:
        """Count a request. RequestRefused: 429 for a caller that asks too often."""
        if rate is None:
            return
        wait_s = self._rates.wait_s(f"{caller.kind} {caller.id or caller.name}", rate)
        if wait_s > 0:
            raise RequestRefused(
                f"more than {rate:g} requests a second; wait as long as retry-after says",
                status=429,
                where="authorization",
                retry_after_s=wait_s,
            )


def _token(headers: Iterable[tuple[bytes, bytes]], *, page: bool) -> bytes:
    """The token of a request. RequestRefused where there is none, or more than one."""
    found: bytes | None = None
    site = mode = b""
    for name, value in headers:
        if name == b"authorization":
            if found is not None:
                raise unknown("there are two headers authorization", "write one")
            found = value
        elif name == b"sec-fetch-site":
            site = value
        elif name == b"sec-fetch-mode":
            mode = value
    if found is None:
        raise unknown("the request says not who asks", _WRITE, token=False)
    scheme, _, token = found.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() == b"basic" and page:
        # What another site's page loads without being led away by it is for nobody's eyes.
        if site not in (b"", b"none", b"same-origin") and mode != b"navigate":
            raise unknown("a page of another site asks", "open the page itself", token=False)
        token = _password(token)
    elif scheme.lower() != b"bearer" or not token:
        raise unknown("the header authorization has no bearer token", _WRITE, token=False)
    if len(token) > _LONGEST:
        raise unknown(f"the token has {len(token)} bytes", f"write at most {_LONGEST}")
    return token


def _password(pair: bytes) -> bytes:
    """The password of a name and a password, as HTTP's Basic has them."""
    try:
        return base64.b64decode(pair, validate=True).partition(b":")[2]
    except binascii.Error:
        raise unknown("the header authorization has no password", _WRITE, token=False) from None
