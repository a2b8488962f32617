"""Turns the URL of an online store into the store."""

from __future__ import annotations

from collections.abc import Callable

from featurekit.errors import StoreUnavailable
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.url import shown_url

STORES: dict[str, Callable[[str], OnlineStore]] = {
    "redis": RedisStore,
    "rediss": RedisStore,
    "unix": RedisStore,
}
"""What opens a URL, by its scheme."""


def open_store(url: str) -> OnlineStore:
    """The store at `url`; nothing is asked of it yet. StoreUnavailable where the URL's scheme names
    no store, or where the store cannot read the rest of it."""
    scheme, found, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not found or scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES)
        raise StoreUnavailable(
            f"{shown_url(url)} is no URL of an online store, which begins with one of {known}; "
            "write redis://host:6379/0"
        )
    return STORES[scheme](url)
