"""Turns the signed tokens of an issuer (JWT) into callers; the only module that loads PyJWT.

A token says which algorithm signed it, and is not believed: it counts only with a public key of the
issuer's set (JWKS) that is of the kind which the algorithm takes. `none` and the algorithms of
shared secrets are in no list.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt

from featurekit.errors import ConfigError
from featurekit.project.api_keys import is_scope
from featurekit.server.callers import Caller, unknown
from featurekit.server.failures import Told
from featurekit.server.settings import AccessSettings

LEEWAY_S = 30.0
"""How far the issuer's clock may be from this machine's."""
FRESH_S, FILE_FRESH_S, OUTAGE_S, AGAIN_S = 300.0, 5.0, 3600.0, 10.0
"""How old keys are when they are read again, from a URL and from a file; how long they count where
they cannot be; and the least time between two readings that a token's unknown key asks for."""

_FETCH_S, _WAIT_S, _MOST_BYTES, _MOST_KEYS = 5.0, 1.0, 1 << 20, 100
_MOST_CACHED, _MOST_SCOPES, _LONGEST_NAME = 4096, 1000, 100
_LEAST_RSA_BITS = 2048
_CURVES = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
_OF_KIND: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, ...]]] = {
    "RSA": lambda _: ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": lambda found: _CURVES.get(str(found.get("crv")), ()),
    "OKP": lambda found: ("EdDSA",) if found.get("crv") in ("Ed25519", "Ed448") else (),
}
_WRITE = "ask with a new token of the issuer"
_library: Any = jwt
"""PyJWT, whose types differ from release to release."""
_log = logging.getLogger("featurekit.server")


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of the issuer, and the algorithms by which it may have signed."""

    key: Any
    algorithms: tuple[str, ...]


class Tokens:
    """Reads tokens, for one event loop. `clock` is monotonic, `now` the time since 1970."""

    def __init__(
        self,
        settings: AccessSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self._now = settings, now
        self._keys = IssuerKeys(settings.jwks, clock)
        self._read: OrderedDict[bytes, tuple[int, float, Caller]] = OrderedDict()

    async def close(self) -> None:
        """End what is under way."""
        await self._keys.close()

    async def caller(self, token: bytes) -> Caller:
        """The caller whose token it is. RequestRefused for a token that does not count."""
        digest = hashlib.sha256(token).digest()
        generation = await self._keys.current()
        kept = self._read.get(digest)
        if kept is not None and kept[0] == generation and self._now() < kept[1]:
            return kept[2]
        text, key, algorithm = await self._key_of(token)
        claims = self._claims(text, key, algorithm)
        caller = Caller("token", _name(claims), _scopes(claims))
        ends = float(claims["exp"]) + LEEWAY_S
        self._read[digest] = self._keys.generation, ends, caller
        if len(self._read) > _MOST_CACHED:
            self._read.popitem(last=False)
        return caller

    async def _key_of(self, token: bytes) -> tuple[str, Any, str]:
        """A token as text, the issuer's key that it names, and its algorithm."""
        try:
            text = token.decode("ascii")
            head = _library.get_unverified_header(text)
        except Exception:  # whatever a library finds wrong with it, it is the caller's
            raise unknown("the token is no JWT", _WRITE) from None
        kid, algorithm = head.get("kid"), head.get("alg")
        if "crit" in head or "b64" in head:
            raise unknown("the token asks for what is not done here (crit or b64)", _WRITE)
        if kid is not None and not isinstance(kid, str):
            raise unknown("the token names its key in another way than by a text", _WRITE)
        found = await self._keys.find(kid)
        if found is None:
            raise unknown("the token is signed by no key of the issuer", _WRITE)
        if algorithm not in found.algorithms:
            allowed = ", ".join(found.algorithms)
            raise unknown("the token is signed in another way than its key signs", allowed)
        return text, found.key, algorithm

    def _claims(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        wanted = {"require": ["exp", "iss", "aud"]}
        try:
            claims: dict[str, Any] = _library.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                leeway=LEEWAY_S,
                options=wanted,
            )
            float(claims["exp"])
            return claims
        except jwt.ExpiredSignatureError:
            raise unknown("the token has expired", _WRITE) from None
        except jwt.ImmatureSignatureError:
            raise unknown("the token does not count yet", _WRITE) from None
        except jwt.InvalidAudienceError:
            raise unknown("the token is for another audience", _WRITE) from None
        except jwt.InvalidIssuerError:
            raise unknown("the token is of another issuer", _WRITE) from None
        except jwt.InvalidSignatureError:
            raise unknown("the token's signature is another one", _WRITE) from None
        except Exception:  # whatever a library finds wrong with it, it is the caller's
            raise unknown("the token does not hold what a token must", _WRITE) from None


def _name(claims: Mapping[str, Any]) -> str:
    """Who a token speaks for, as far as it may stand in a log."""
    for claim in ("sub", "client_id", "azp"):
        name = claims.get(claim)
        if isinstance(name, str) and name:
            shown = name if name.isascii() and name.isprintable() else ascii(name)[1:-1]
            return shown[:_LONGEST_NAME]
    return "without a subject"


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """The scopes of featurekit in a token; an issuer's tokens may have others."""
    found: list[str] = []
    for claim in ("scope", "scp"):
        value = claims.get(claim)
        if isinstance(value, str):
            found += value.split(" ")
        elif isinstance(value, list):
            found += [one for one in value if isinstance(one, str)]
    return frozenset(one for one in found[:_MOST_SCOPES] if is_scope(one))


# --- the issuer's keys ----------------------------------------------------------------------------


class IssuerKeys:
    """The keys of a set that a file or a URL has, read again now and then. `generation` grows when
    they are others."""

    def __init__(self, place: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.place, self._clock, self.generation = place, clock, 0
        self._fresh_s = FRESH_S if is_url(place) else FILE_FRESH_S
        self._keys: dict[str | None, IssuerKey] = {}
        self._data = b""
        self._read_at = self._tried_at = self._asked_at = float("-inf")
        self._failed = False
        self._reading: asyncio.Task[None] | None = None

    async def current(self) -> int:
        """The generation of the keys. StoreUnavailable where they are too old to count."""
        age = self._clock() - self._read_at
        if age > self._fresh_s:
            reading = self._begun()
            # A file is read at once; for a URL, what is known goes on meanwhile.
            if reading is not None and (age > OUTAGE_S or self._fresh_s == FILE_FRESH_S):
                await asyncio.wait({reading}, timeout=_WAIT_S)
                age = self._clock() - self._read_at
        if age > OUTAGE_S:
            raise _unread()
        return self.generation

    async def find(self, kid: str | None) -> IssuerKey | None:
        """The key of a name; a token that names none is of the only key that there is. An unknown
        name lets the set be read again, at most once in `AGAIN_S`. StoreUnavailable where that
        could not be done."""
        found = self._found(kid)
        if found is not None:
            return found
        now = self._clock()
        if now - max(self._asked_at, self._read_at) >= AGAIN_S:
            self._asked_at = now
            self._begun()
        if self._reading is not None and not self._reading.done():
            await asyncio.wait({self._reading}, timeout=_WAIT_S)
        found = self._found(kid)
        if found is None and (self._failed or not self._reading or not self._reading.done()):
            raise _unread()
        return found

    def _found(self, kid: str | None) -> IssuerKey | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _begun(self) -> asyncio.Task[None] | None:
        """The reading that is under way, which begins unless one failed just now."""
        if self._reading is None or self._reading.done():
            now = self._clock()
            if self._failed and now - self._tried_at < AGAIN_S:
                return None
            self._tried_at = now
            self._reading = asyncio.create_task(self._read(now))
        return self._reading

    async def _read(self, now: float) -> None:
        try:
            data = await asyncio.to_thread(read_jwks, self.place)
            if data != self._data:
                self._keys, self._data = keys_of(data, self.place), data
                self.generation += 1
            self._read_at, self._failed = now, False
        except ConfigError as error:
            self._failed = True
            _log.error("%s", error)

    async def close(self) -> None:
        """End what is being read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})


def _unread() -> Told:
    return Told(
        "the issuer's keys cannot be read now, so nobody can say whether the token counts; ask "
        "again"
    )


def is_url(place: str) -> bool:
    """Whether a set of keys is at a URL, and not in a file."""
    return "://" in place


def check_place(place: str) -> None:
    """ConfigError for a URL that a set of keys is not read from."""
    if not is_url(place):
        return
    try:
        parts = urlsplit(place)
        near = parts.hostname in ("127.0.0.1", "::1", "localhost")
    except ValueError:
        raise ConfigError("--jwks is no URL; write https://issuer.example/jwks.json") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "--jwks has a login in its URL, which every process can see; a set of keys is public"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and near):
        raise ConfigError(
            f"--jwks {place}: whoever is on the way could put his own keys there; write https://"
        )


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirection: it could lead to a place that nobody chose."""

    def redirect_request(self, *_: Any) -> None:
        return None


def read_jwks(place: str) -> bytes:
    """The bytes of a set of keys. ConfigError where it cannot be read."""
    try:
        if not is_url(place):
            with Path(place).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        else:
            check_place(place)
            asked = Request(place, headers={"accept": "application/json"})
            with build_opener(_NoRedirect).open(asked, timeout=_FETCH_S) as reply:
                data = reply.read(_MOST_BYTES + 1)
    except HTTPError as error:
        raise ConfigError(f"--jwks {place} cannot be read: it answers {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) if isinstance(error, URLError) else None
        why = getattr(error, "strerror", None) or reason or type(error).__name__
        raise ConfigError(f"--jwks {place} cannot be read: {why}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"--jwks {place} has more than {_MOST_BYTES} bytes")
    return data


def keys_of(data: bytes, place: str) -> dict[str | None, IssuerKey]:
    """The keys of a set by their name, but for those of no use here. ConfigError where there is
    none."""
    try:
        listed = json.loads(data)["keys"]
        if not isinstance(listed, list):
            raise TypeError("no list")
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ConfigError(f'--jwks {place} is no set of keys; it has {{"keys": […]}}') from None
    made: dict[str | None, IssuerKey] = {}
    for one in listed[:_MOST_KEYS]:
        key = _key(one)
        if key is not None:
            made.setdefault(one.get("kid"), key)
    if not made:
        raise ConfigError(
            f"--jwks {place} has no public key that signs by RS256, PS256, ES256 or EdDSA (RSA "
            f"from {_LEAST_RSA_BITS} bits on)"
        )
    return made


def _key(found: Any) -> IssuerKey | None:
    """A key of a set; None for one that is private, for another use, or of another kind."""
    if not isinstance(found, dict) or "d" in found or found.get("use", "sig") != "sig":
        return None
    if not isinstance(found.get("kid"), str | None) or "verify" not in found.get(
        "key_ops", "verify"
    ):
        return None
    of_kind = _OF_KIND.get(str(found.get("kty")))
    algorithms = () if of_kind is None else of_kind(found)
    told = found.get("alg")
    if told is not None:
        algorithms = tuple(one for one in algorithms if one == told)
    if not algorithms:
        return None
    try:
        key = _library.PyJWK(found, algorithm=algorithms[0]).key
    except Exception:  # whatever a library finds wrong with it, it is no key
        return None
    if found["kty"] == "RSA" and key.key_size < _LEAST_RSA_BITS:
        return None
    return IssuerKey(key, algorithms)
