"""Says which paths name objects of a store elsewhere, and what reads each kind of store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A kind of store: the package that reads it, and what installs that."""

    package: str
    install: str
    lists: bool = True
    """Whether it can say which objects it has, so that a glob may name them."""


_S3 = ObjectStore("s3fs", "featurekit[s3]")
_GOOGLE = ObjectStore("gcsfs", "gcsfs")
_AZURE = ObjectStore("adlfs", "adlfs")
_WEB = ObjectStore("aiohttp", "fsspec[http]", lists=False)
STORES = {
    "s3": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "https": _WEB,
    "http": _WEB,
}
"""One for each scheme of a path, as in `s3://bucket/orders/*.parquet`."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(path: str) -> str | None:
    """The scheme of a path that is a URL; None for a path of this machine."""
    found = _SCHEME.match(path)
    return None if found is None else found[1].lower()


def store_of(path: str) -> ObjectStore | None:
    """The store that has the objects of a path; None where the path is one of this machine."""
    return STORES.get(scheme_of(path) or "")


def no_objects(path: str) -> str | None:
    """Why a URL names no objects that can be read, without a secret that it may hold; None where it
    may name some."""
    scheme = scheme_of(path)
    store = STORES.get(scheme or "")
    if store is None:
        known = ", ".join(f"{name}://" for name in STORES)
        return (
            f"{scheme}:// is not read, but {known}; copy the files to one of these or to this "
            "machine, or hand over their events with frame="
        )
    try:
        parts = urlsplit(path)
        secret = parts.password is not None
    except ValueError:
        return "it is no URL"
    if secret or (not store.lists and "?" in path):
        return (
            f"a password or a signature stands in the URL of {scheme}://{parts.hostname}; leave it "
            f"out: {store.package} takes credentials from the environment and from its own files"
        )
    if not parts.netloc or not parts.path.strip("/"):
        return f'write the store and the objects, as in "{scheme}://bucket/orders/*.parquet"'
    if not store.lists and any(sign in path for sign in "*["):
        return f"a server of {scheme}:// does not list its files; name one file without a glob"
    return None
