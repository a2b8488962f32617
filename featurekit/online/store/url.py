"""Turns the URL of a Redis into what may be shown of it, and into the reason why it is none.

A URL may hold a password, and a URL that is not well formed may hold it anywhere: before an @ too
many, in what looks like a port, a path or an option. So no error shows a URL but through
`shown_url`, and what is said about a wrong one names places in it, and none of its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from featurekit.errors import StoreUnavailable

SCHEMES = ("redis", "rediss", "unix")
_HOST = re.compile(r"[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\]")
_ADDRESS = re.compile(r"(localhost|[0-9]{1,3}(\.[0-9]{1,3}){3}):[0-9]{1,5}")
_SHOWN = (*SCHEMES, "http", "https", "tcp", "valkey", "valkeys", "postgresql", "sqlite", "file")
"""Schemes that are shown of what is no URL of Redis; another text may be anything."""
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@")
_PORT = "its port, what stands between the last : and the next /, is not a number up to 65535"
_HOST_IS = "what stands where its host is to be is not one, as localhost or 10.0.0.7 is"
_ENCODE = "write a sign such as @ / ? # [ or % of a password by its code, as %40 for @"
_LEAST_SECRET = 3

_TEXT, _NUMBER, _SECONDS, _FLAG = "a text", "a whole number", "a number of seconds", "yes or no"
_CERTS = "none, optional or required"
_OPTIONS = {
    "db": _NUMBER,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "protocol": _NUMBER,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_read_size": _NUMBER,
    "retry_on_timeout": _FLAG,
    "health_check_interval": _NUMBER,
    "max_connections": _NUMBER,
}
_OF_TCP = {"socket_keepalive": _FLAG}
_OF_TLS = {
    "ssl_keyfile": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_cert_reqs": _CERTS,
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_check_hostname": _FLAG,
    "ssl_password": _TEXT,
    "ssl_ciphers": _TEXT,
}
OPTIONS = {
    "redis": _OPTIONS | _OF_TCP,
    "rediss": _OPTIONS | _OF_TCP | _OF_TLS,
    "unix": _OPTIONS,
}
"""The options that a URL of each scheme may have, and what each is."""
_OTHERS = (
    "decode_responses",
    "encoding",
    "encoding_errors",
    "retry_on_error",
    "host",
    "port",
    "path",
)
_NAMES = {*_OTHERS, *(name for of in OPTIONS.values() for name in of)}
"""Names of options that are shown where they are wrong; another one may be a password."""
_READS: dict[str, Any] = {
    _TEXT: lambda text: True,
    _NUMBER: lambda text: re.fullmatch(r"[0-9]{1,9}", text),
    _SECONDS: lambda text: re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text),
    _CERTS: lambda text: text in ("none", "optional", "required"),
    _FLAG: lambda text: text.lower() in ("true", "false", "yes", "no", "1", "0", "on", "off"),
}


class _Wrong(ValueError):
    """What is wrong with a URL, without any of its text."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A URL that is well formed: where the server is, and what is secret in the URL."""

    scheme: str
    place: str
    secrets: tuple[str, ...]
    has_login: bool


def check_url(url: Any) -> None:
    """StoreUnavailable, which shows no password, where `url` is none that redis-py reads."""
    try:
        _parts(url)
    except _Wrong as error:
        raise StoreUnavailable(
            f"{shown_url(url)} is no Redis URL: {error}; write redis://host:6379/0, "
            "redis://:password@host:6379/0 or unix:///path/to/socket"
        ) from None


def shown_url(url: Any) -> str:
    """What may be shown of a URL: its scheme, host, port, database or path, and never a login or an
    option. Of a URL that is not well formed only a scheme that is known is shown."""
    try:
        parts = _parts(url)
    except _Wrong:
        text = url if isinstance(url, str) else ""
        scheme, found, _ = text.partition("://")
        if found and (scheme.lower() in _SHOWN or _is_misspelt(scheme)):
            return f"{scheme}://…"
        return text if _ADDRESS.fullmatch(text) else f"a {type(url).__name__} that is not shown"
    return f"{parts.scheme}://{parts.place}"


def has_login(url: Any) -> bool:
    """Whether a URL names a user or a password; False for one that is not well formed."""
    try:
        return _parts(url).has_login
    except _Wrong:
        return False


def _is_misspelt(scheme: str) -> bool:
    """Whether a text is a scheme of Redis with a letter too many or too few, or another one."""
    return scheme.isalpha() and bool(get_close_matches(scheme.lower(), SCHEMES, cutoff=0.8))


def without_secrets(text: str, url: Any) -> str:
    """A text about the server at `url`, without the passwords in the URL, as they are or with signs
    written by their codes, and without the login of any other URL."""
    try:
        secrets = _parts(url).secrets
    except _Wrong:
        secrets = ()
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (quote(secret, safe=""), quote(secret), secret):
            text = text.replace(form, "…")
    return without_logins(text)


def without_logins(text: str) -> str:
    """A text in which each URL has lost what stands before its last @."""
    return _LOGIN.sub(r"\1…@", text)


def _parts(url: Any) -> _Parts:
    if not isinstance(url, str):
        raise _Wrong("it is no text")
    if not url.isprintable() or " " in url:
        raise _Wrong(f"it holds a space or a sign that cannot be seen; {_ENCODE}")
    scheme, found, rest = url.partition("://")
    if not found or scheme not in SCHEMES:
        raise _Wrong(f"it begins with none of {', '.join(f'{s}://' for s in SCHEMES)}")
    if "#" in rest:
        raise _Wrong(f"it holds a #; {_ENCODE}")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    login, _, address = authority.rpartition("@")
    if "@" in query or "@" in login or ("@" in path and scheme != "unix"):
        raise _Wrong(f"it holds an @ too many; {_ENCODE}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", rest + query):
        raise _Wrong(f"it holds a % that begins no code; {_ENCODE}")
    options = _options(query, scheme)
    place = (
        _of_socket(address, slash + path) if scheme == "unix" else _of_host(address, path, login)
    )
    password = unquote(login.partition(":")[2])
    secrets = (password, options.get("password", ""), options.get("ssl_password", ""))
    has_login = bool(login) or not options.keys().isdisjoint(("username", "password"))
    shown = tuple(s for s in secrets if len(s) >= _LEAST_SECRET)
    return _Parts(scheme, place, shown, has_login)


def _of_socket(address: str, path: str) -> str:
    if address or not path.startswith("/") or len(path) < 2:
        raise _Wrong("the path of a socket begins with a third /, as in unix:///run/redis.sock")
    return path


def _of_host(address: str, path: str, login: str) -> str:
    encode = f"; {_ENCODE}" if login else ""
    host, colon, port = address, "", ""
    if not address.endswith("]"):
        host, colon, port = address.rpartition(":") if ":" in address else (address, "", "")
    if not _HOST.fullmatch(host):
        raise _Wrong(f"{_HOST_IS}{encode}")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65_536):
        raise _Wrong(f"{_PORT}{encode}")
    if path and not re.fullmatch(r"[0-9]{1,9}", path):
        raise _Wrong("what stands behind its host is no number of a database, as the 0 of host/0")
    return f"{address}/{path}" if path else address


def _options(query: str, scheme: str) -> dict[str, str]:
    found = {}
    for number, part in enumerate(query.split("&") if query else (), 1):
        name = part.partition("=")[0]
        kind = OPTIONS[scheme].get(name)
        if kind is None:
            told = f"an option {name!r}" if name in _NAMES else f"an option, number {number},"
            known = ", ".join(OPTIONS[scheme])
            raise _Wrong(f"it has {told} that is not known; {scheme}:// has {known}")
        ((_, value),) = parse_qsl(part, keep_blank_values=True) or [(name, "")]
        if not _READS[kind](value):
            raise _Wrong(f"its option {name!r} is not {kind}")
        found[name] = value
    return found
