"""Turns the options and settings of `featurekit serve` into who may ask."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import Option, argument
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.project.config import ServeConfig
    from featurekit.server.settings import AccessSettings

AUTH = ("none", "keys", "jwt", "keys,jwt")
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def rate(text: str) -> float:
    """How often, as in 100/s, in a second."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)/([smh])", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; write 100/s, 30/m or 5/h")
    return float(found[1]) / _PER[found[2]]


def origin(text: str) -> str:
    """The origin of a page, as a browser sends it."""
    from featurekit.server.cors import is_origin

    if not is_origin(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no origin; write https://shop.example, without a path"
        )
    return text


ACCESS: tuple[Option, ...] = (
    argument(
        "--auth",
        choices=AUTH,
        metavar="HOW",
        help="who may ask: with keys, whoever has an API key (`featurekit keys create`); with jwt, "
        "a token of --issuer; keys,jwt takes both; none is everybody (default: none on 127.0.0.1; "
        "elsewhere it must be said)",
    ),
    argument("--jwks", metavar="FILE|URL", help="the public keys that tokens are signed by"),
    argument("--issuer", metavar="TEXT", help="the claim iss of tokens"),
    argument("--audience", metavar="TEXT", help="the claim aud of tokens"),
    argument(
        "--rate",
        type=rate,
        metavar="N/s",
        help="requests of a caller whose key says nothing of it, in each worker (default: any)",
    ),
    argument(
        "--cors",
        action="append",
        type=origin,
        metavar="ORIGIN",
        help="pages of this origin may ask from a browser; several times for several (default: "
        "none)",
    ),
)
"""The options of who may ask."""


def access_of(arguments: Namespace, own: ServeConfig | None) -> AccessSettings:
    """Who may ask: as the options say, then as the settings do. ConfigError where neither says so
    and others than this machine could, and where something that is needed is not said."""
    from featurekit.server.cors import is_origin
    from featurekit.server.settings import TOKENS, AccessSettings

    def said(name: str) -> Any:
        given = getattr(arguments, name)
        return given if given is not None else getattr(own, name, None)

    how = said("auth")
    if how is None and not _is_near(arguments.host):
        raise ConfigError(
            f"--host {arguments.host or repr('')} lets others than this machine ask, and nothing "
            "says who may; write --auth keys (and make keys by `featurekit keys create`), or "
            "--auth jwt, or --auth none where something else keeps the port"
        )
    auth = tuple(one for one in (how or "none").split(",") if one != "none")
    place, issuer, audience = (said(name) or "" for name in ("jwks", "issuer", "audience"))
    if TOKENS in auth:
        _check_tokens(place, issuer, audience)
        if "://" not in place:
            place = str(Path(place).resolve())
    cors = tuple(said("cors") or ())
    wrong = next((one for one in cors if not is_origin(one)), None)
    if wrong is not None:
        raise ConfigError(
            f"featurekit.serve.cors: {wrong!r} is no origin; write https://shop.example, without a "
            "path"
        )
    return AccessSettings(auth, place, issuer, audience, said("rate"), cors)


def _check_tokens(place: str, issuer: str, audience: str) -> None:
    missing = [
        option
        for option, given in (("--jwks", place), ("--issuer", issuer), ("--audience", audience))
        if not given
    ]
    if missing:
        raise ConfigError(
            f"--auth jwt needs {', '.join(missing)}; write --jwks https://id.example/jwks.json "
            "--issuer https://id.example --audience featurekit"
        )
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        raise ConfigError(
            "PyJWT and cryptography are not installed; run `pip install 'featurekit[server]'`"
        )
    from featurekit.server.jwts import check_place, is_url, keys_of, read_jwks

    check_place(place)
    if not is_url(place):
        keys_of(read_jwks(place), place)


def _is_near(host: str) -> bool:
    """Whether an address is one that this machine alone reaches."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
