"""Turns the URL of an online store into the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from featurekit.errors import StoreUnavailable
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import NO_LOGIN, Login
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.url import shown_url

STORES: dict[str, Callable[..., OnlineStore]] = {
    "redis": RedisStore,
    "rediss": RedisStore,
    "unix": RedisStore,
}
"""What opens a URL with its limits and a login, by its scheme."""


def open_store(
    url: str, limits: Limits = DEFAULT, *, login: Login = NO_LOGIN, named: str = ""
) -> OnlineStore:
    """The store at `url`; nothing is asked of it yet. `limits` says how long the store waits for
    what, and for how many connections, and `login` who connects, where the URL does not.
    StoreUnavailable, which says `named`, the option or setting
    that the URL is from, where the URL's scheme names no store, or where the store cannot read the
    rest of it."""
    try:
        store = _opened(url, limits, login)
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{named}: {error}" if named else str(error)) from None
    if isinstance(store, RedisStore):
        store.named = named
    return store


def _opened(url: str, limits: Limits, login: Login) -> OnlineStore:
    scheme, found, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not found or scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES)
        raise StoreUnavailable(
            f"{shown_url(url)} is no URL of an online store, which begins with one of {known}; "
            "write redis://host:6379/0"
        )
    return STORES[scheme](url, limits, login=login)


def open_private(folder: Path, limits: Limits = DEFAULT) -> OnlineStore:
    """The store in the private server whose data live in `folder`, which is started where it does
    not run, now or later. StoreUnavailable where it does not start."""
    from featurekit.online.store.server import full_disk, private_redis, private_socket

    return RedisStore(
        private_redis(folder),
        limits,
        start=lambda: str(private_socket(folder)),
        ended=lambda: full_disk(folder),
    )
