"""Turns a path such as `s3://bucket/orders/*.parquet` into the objects that it names, and an object
into a file of this machine.

Credentials are those that the library finds: in the environment, in its own files, or of the
machine's role. No error has any of them.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from featurekit.core.types import micros
from featurekit.core.variables import without_secrets
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import scheme_of, store_of
from featurekit.errors import SourceError
from featurekit.sources.check import first_line
from featurekit.sources.parquet_ranges import HOLE, needed_ranges

_FOOTER = 1 << 16
_SECRET = ("SECRET", "TOKEN", "PASSWORD", "KEY", "CREDENTIAL", "CONNECTION_STRING")
_VERSIONS = {"etag": ("ETag", "etag"), "version_id": ("VersionId", "version_id", "generation")}
"""What a store tells of an object's content, by the names that libraries give it."""
_TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of a store: the path by which the library knows it, its size, what tells one
    version of it from another, and when it was last modified, in microseconds UTC. What the store
    does not tell is None."""

    path: str
    url: str
    size: int | None
    version: Mapping[str, str]
    written: str | None
    modified_us: int | None = None

    @property
    def identity(self) -> str | None:
        """What is another one where the content is; None where the store tells no such thing."""
        return self.version.get("etag") or self.version.get("version_id")

    def same(self, other: StoredObject) -> bool:
        """Whether two looks at an object saw the same content, as far as the store tells."""
        mine, theirs = ((o.identity, o.size, o.written) for o in (self, other))
        return mine == theirs


@dataclass(frozen=True, slots=True)
class Store:
    """A store that is open for the objects of a source."""

    source: EventSource
    files: Any

    def listed(self) -> list[StoredObject]:
        """The objects that the path names, sorted; SourceError where it names none."""
        path = self.source.path
        with _told(self.source, path):
            if not any(sign in path for sign in "*?["):
                return [self._at(path)]
            self.files.invalidate_cache()
            found = self.files.glob(path, detail=True)
            if not found:
                self.files.ls(folder_of(path), detail=False)  # says where there is no such store
        objects = [
            self._object(name, about)
            for name, about in found.items()
            if about["type"] == "file" and not name.rpartition("/")[2].startswith(".")
        ]
        if not objects:
            text = f"no object matches {path!r}; write a glob whose objects are there"
            raise _fault(self.source, text)
        return sorted(objects, key=lambda one: one.url)

    def at(self, url: str) -> StoredObject:
        """The object at a URL as it is now; SourceError if there is none."""
        with _told(self.source, url):
            return self._at(url)

    def _at(self, path: str) -> StoredObject:
        self.files.invalidate_cache()
        found = self.files.info(path)
        if found["type"] != "file":
            text = f'{path} is a folder; write a glob, as in "{path}/*.{self.source.format}"'
            raise _fault(self.source, text)
        return self._object(path, found)

    def _object(self, name: str, about: Mapping[str, Any]) -> StoredObject:
        url = name if "://" in name else f"{scheme_of(self.source.path)}://{name}"
        version = {
            ours: str(about[key]).strip('"')
            for ours, keys in _VERSIONS.items()
            for key in keys
            if about.get(key) not in (None, "null")
        }
        time = next((about[key] for key in _TIMES if about.get(key)), None)
        written = None if time is None else str(time)
        return StoredObject(name, url, about.get("size"), version, written, _micros(time))

    def fetch(
        self, one: StoredObject, target: Path, *, only: Collection[str] | None
    ) -> tuple[StoredObject, list[str] | None]:
        """Write an object to a new file; gives what the store tells of it now, and the columns that
        the file has where it lacks some. With `only`, it is Parquet of which these columns are
        read. SourceError where it cannot be read, or changed meanwhile; the file is then gone."""
        with _told(self.source, one.url):
            try:
                ranges, columns = ([], None) if only is None else self._needed(one, only)
                if ranges:
                    self._put(one, ranges, target)
                else:
                    self.files.get_file(one.path, str(target))
                then = self._at(one.path)
                if not then.same(one) or one.size not in (None, target.stat().st_size):
                    raise _fault(self.source, f"{one.url} changed while it was read; read it again")
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return then, columns

    def _needed(
        self, one: StoredObject, only: Collection[str]
    ) -> tuple[list[tuple[int, int]], list[str] | None]:
        """See `needed_ranges`; nothing where it is fetched whole."""
        size = one.size or 0
        if size < 2 * HOLE:
            return [], None
        tail = self._bytes(one, [(max(0, size - _FOOTER), size)])[0]
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != b"PAR1" or length > size:
            return [], None  # what it is instead is said by who reads it
        if length > len(tail):
            tail = self._bytes(one, [(size - length, size)])[0]
        return needed_ranges(tail[-length:], size, only)

    def _put(self, one: StoredObject, ranges: Sequence[tuple[int, int]], target: Path) -> None:
        """Write ranges of an object to their places in a file of its size."""
        with target.open("wb") as file:
            file.truncate(one.size or 0)
            for (start, end), data in zip(ranges, self._bytes(one, ranges), strict=True):
                if len(data) != end - start:
                    raise OSError(f"{len(data):,} bytes came in place of {end - start:,}")
                file.seek(start)
                file.write(data)

    def _bytes(self, one: StoredObject, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        starts, ends = map(list, zip(*ranges, strict=True))
        found: list[bytes] = self.files.cat_ranges([one.path] * len(ranges), starts, ends)
        return found


def _micros(time: Any) -> int | None:
    """The time of an object as a library gives it, in microseconds UTC; None for any other."""
    with suppress(ValueError, TypeError):
        if isinstance(time, str):
            with suppress(ValueError):
                time = dt.datetime.fromisoformat(time)
        if isinstance(time, str):
            time = parsedate_to_datetime(time)  # as in a header of HTTP
        if isinstance(time, dt.datetime) and time.tzinfo is not None:
            return micros(time)
    return None


def opened(source: EventSource, *, versions: bool = False) -> Store:
    """The store that a source's path names; with `versions`, one that reads older ones, too.
    SourceError where what reads it is not installed."""
    scheme, store = scheme_of(source.path), store_of(source.path)
    assert store is not None
    more = {"version_aware": True} if versions else {}
    try:
        import fsspec

        with _told(source, source.path):
            return Store(source, fsspec.filesystem(scheme, use_listings_cache=False, **more))
    except ImportError:
        text = (
            f"{scheme}:// is read with the package {store.package}, which is not installed; "
            f"pip install '{store.install}'"
        )
        raise _fault(source, text) from None


def folder_of(path: str) -> str:
    """What of a path stands before its first glob, as a folder."""
    parts = path.split("/")
    plain = next((i for i, part in enumerate(parts) if any(s in part for s in "*?[")), len(parts))
    return "/".join(parts[: max(3, plain)])


@contextmanager
def _told(source: EventSource, what: str) -> Iterator[None]:
    """SourceError for what a library or a store says."""
    try:
        yield
    except (SourceError, ImportError):
        raise
    except FileNotFoundError as error:
        said = without_credentials(first_line(error))
        why = f" ({said})" if said and said not in what else ""
        raise _fault(source, f"there is nothing at {what}{why}") from None
    except PermissionError as error:
        said = without_credentials(first_line(error))
        text = f"{what} may not be read with the credentials of this environment ({said})"
        raise _fault(source, text) from None
    except Exception as error:
        # Each library decides for itself what it raises: the errors of S3 alone have three roots.
        said = without_credentials(first_line(error)) or type(error).__name__
        raise _fault(source, f"{what} cannot be read ({said})") from None


def without_credentials(said: str) -> str:
    """A text without the credentials that stand in the environment."""
    named = ((n.upper(), v) for n, v in os.environ.items() if len(v) >= 4)
    return without_secrets(said, [v for n, v in named if any(s in n for s in _SECRET)])


def _fault(source: EventSource, text: str) -> SourceError:
    return placed(SourceError(f"EventSource {source.name!r}: {text}"), source.place)
