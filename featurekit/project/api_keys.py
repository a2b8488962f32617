"""Turns API keys into what a store keeps of them, and back: who may ask a server, and for what.

A key is `fk-api-ID-SECRET`. The secret has 256 random bits and is shown once. What is kept is the
SHA-256 of the project, the id and the secret. A slow hash, as for passwords, would add nothing:
nobody tries 2**256 secrets. Since the project is hashed too, a record that is copied to another
project opens nothing there.

All records of a project are one note under `fk:PROJECT:apikeys`. So a server reads them in one
round trip, and an id that nobody has costs Redis nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from featurekit.core.keys import project_key
from featurekit.core.types import INSTANT_MAX
from featurekit.errors import ConfigError
from featurekit.online.store.notes import read_object, write_object
from featurekit.online.store.protocol import OnlineStore

PREFIX = "fk-api-"
SCOPES = (
    "read:SERVICE",
    "read:*",
    "list:features",
    "push:SOURCE",
    "push:*",
    "predict:MODEL",
    "predict:*",
    "event:NAME",
    "event:*",
    "metrics",
    "admin",
)
"""What a scope may be, for people."""

_NOTE = "apikeys"
_TOKEN = re.compile(rb"fk-api-([0-9a-f]{12})-([0-9a-f]{64})")
_SCOPE = re.compile(
    r"(read|push|predict|event):(\*|[A-Za-z][A-Za-z0-9_]{0,999})|list:features|metrics|admin"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_MOST = 10_000
_KEPT_US = 90 * 86_400_000_000
_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. Instants are in microseconds of the store's clock: when it was
    `created`, until when it `expires` and when it was `revoked`, None for never. `rate` is how many
    requests it may make in a second, None for what the server allows."""

    id: str
    name: str
    hash: str
    scopes: frozenset[str]
    created: int
    expires: int | None = None
    revoked: int | None = None
    rate: float | None = None

    def why_void(self, now_us: int) -> str | None:
        """Why the key opens nothing now; None where it does."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now_us >= self.expires else None


def api_keys_key(project: str) -> bytes:
    """The key of the records of a project's API keys."""
    return project_key(project, _NOTE)


def is_scope(text: str) -> bool:
    """Whether a text is a scope."""
    return _SCOPE.fullmatch(text) is not None


def parts_of(token: bytes) -> tuple[str, bytes] | None:
    """The id and the secret in a key; None where it has not the form of one."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found[1].decode(), found[2])


def opens(known: ApiKey | None, project: str, id_: str, secret: bytes) -> bool:
    """Whether a secret is that of a key. It takes as long for a wrong secret as for an id that
    nobody has (`known` is None then)."""
    wanted = _NO_HASH if known is None else known.hash
    same = hmac.compare_digest(_hash(project, id_, secret), wanted)
    return same and known is not None


def _hash(project: str, id_: str, secret: bytes) -> str:
    head = f"featurekit api key\0{project}\0{id_}\0".encode()
    return hashlib.sha256(head + secret).hexdigest()


# --- what is kept ---------------------------------------------------------------------------------


def read_keys(value: bytes | None) -> dict[str, ApiKey]:
    """The keys by their id, from the value under `api_keys_key`. DamagedNote where it is none."""
    return read_object(_NOTE, value, _records)


def _records(found: dict[str, Any]) -> dict[str, ApiKey]:
    made = {}
    for id_, fields in found.items():
        one = ApiKey(id_, scopes=frozenset(fields.pop("scopes")), **fields)
        instants = (one.created, one.expires, one.revoked)
        if not (
            _NAME.fullmatch(one.name)
            and _HASH.fullmatch(one.hash)
            and all(is_scope(scope) for scope in one.scopes)
            and type(one.created) is int
            and all(at is None or type(at) is int for at in instants)
            and (one.rate is None or (type(one.rate) in (int, float) and one.rate > 0))
        ):
            raise ValueError("a record that no key has")
        made[id_] = one
    return made


def _written(keys: Mapping[str, ApiKey]) -> bytes:
    made = {}
    for id_, one in keys.items():
        fields = {k: v for k, v in asdict(one).items() if k != "id" and v is not None}
        made[id_] = {**fields, "scopes": sorted(one.scopes)}
    return write_object(_NOTE, made)


def api_keys(store: OnlineStore, project: str) -> list[ApiKey]:
    """The keys of a project, oldest first."""
    (value,) = store.read([api_keys_key(project)])
    return sorted(read_keys(value).values(), key=lambda one: (one.created, one.id))


# --- what changes them ----------------------------------------------------------------------------


def check_key(name: str, scopes: Collection[str], rate: float | None = None) -> None:
    """ConfigError for what no key may be named or open."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"NAME: {_shown(name)} is no name of a key; write up to 64 letters, digits and _ . @ "
            "-, as in checkout-web"
        )
    wrong = next((scope for scope in scopes if not is_scope(scope)), None)
    if wrong is not None:
        raise ConfigError(
            f"scope: {wrong[:80]!r} is none; write one of {', '.join(SCOPES)}, as in read:checkout"
        )
    if not scopes:
        raise ConfigError("a key without a scope opens nothing; write --scope read:checkout")
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(f"rate: found {rate!r}; write requests a second, as in 100")


def _shown(text: str) -> str:
    """A text for an error, unless it may be a key or a part of one."""
    return "a text that is not shown" if PREFIX in text or len(text) > 80 else repr(text)


def create_api_key(
    store: OnlineStore,
    project: str,
    name: str,
    scopes: Collection[str],
    *,
    lifetime_us: int | None = None,
    rate: float | None = None,
) -> tuple[ApiKey, str]:
    """Make a key that opens `scopes`, and return what is kept of it and the key itself, which
    nothing can show again. ConfigError for a name that another key has that still opens
    something."""
    check_key(name, scopes, rate)
    now = store.now_us()
    id_, secret = secrets.token_hex(6), secrets.token_hex(32)
    expires = None if lifetime_us is None else now + lifetime_us
    if expires is not None and expires > INSTANT_MAX:
        raise ConfigError(
            "expires: no calendar has the end of such a key; write fewer days, as in 365d"
        )
    hash_ = _hash(project, id_, secret.encode())
    made = ApiKey(id_, name, hash_, frozenset(scopes), now, expires, None, rate)

    def add(known: dict[str, ApiKey]) -> dict[str, ApiKey]:
        if any(one.name == name and one.why_void(now) is None for one in known.values()):
            raise ConfigError(
                f"a key {name!r} is there; revoke it first, or give the new one another name, as "
                f"in {name}-2"
            )
        kept = {i: one for i, one in known.items() if not _is_old(one, now)}
        if len(kept) >= _MOST:
            raise ConfigError(
                f"project {project!r} has {_MOST} keys; revoke those that nobody uses (they are "
                "removed 90 days later), or let callers bring tokens of an issuer (--auth jwt)"
            )
        return {**kept, id_: made}

    _change(store, project, add)
    return made, f"{PREFIX}{id_}-{secret}"


def revoke_api_key(store: OnlineStore, project: str, named: str) -> ApiKey:
    """Revoke the key that has this id, or this name and still opens something. ConfigError where
    there is none. One that is revoked stays so, and stays listed for 90 days."""
    now = store.now_us()
    found: list[ApiKey] = []

    def revoke(known: dict[str, ApiKey]) -> dict[str, ApiKey]:
        one = known.get(named) or next(
            (k for k in known.values() if k.name == named and k.revoked is None), None
        )
        if one is None:
            raise ConfigError(
                f"no key has the id or the name {_shown(named)}; `featurekit keys list` shows them"
            )
        found[:] = [one if one.revoked is not None else replace(one, revoked=now)]
        return {**known, one.id: found[0]}

    _change(store, project, revoke)
    return found[0]


def _is_old(one: ApiKey, now: int) -> bool:
    """Whether a key opens nothing for so long that it is listed no more."""
    ends = [at for at in (one.revoked, one.expires) if at is not None]
    return bool(ends) and min(ends) + _KEPT_US < now


def _change(
    store: OnlineStore, project: str, change: Callable[[dict[str, ApiKey]], dict[str, ApiKey]]
) -> None:
    def written(values: list[bytes | None]) -> list[bytes | None]:
        return [_written(change(read_keys(values[0])))]

    store.update([api_keys_key(project)], written)
