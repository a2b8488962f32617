"""Turns the sources that a piece of work reads into files that stay the same until it ends.

A database or a table of a lake changes while nobody looks. So each is read once for a connection of
DuckDB, which is made for one piece of work; `one_reading` makes several connections share what they
read, as where both paths are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.sources.kinds import kind_of
from featurekit.sources.origins.copies import wanted_of
from featurekit.sources.protocol import FileInfo

Readings = dict[str, tuple[FileInfo, ...]]
"""The files of each source that was read, by `key_of` it."""

_OF: WeakKeyDictionary[Any, Readings] = WeakKeyDictionary()
_SHARED: ContextVar[Readings | None] = ContextVar("_SHARED", default=None)


def files_of(
    con: Any, source: EventSource, base: Path, state_dir: Path | None
) -> tuple[FileInfo, ...]:
    """The files of a source for this connection. An origin or a store of objects is read when it is
    first asked for, and what was read is gone only with the connection; files of this machine are
    looked for each time, but where `read_again` has said which. SourceError where there are none.
    """
    known, key = readings_of(con), key_of(source)
    found = known.get(key)
    if found is None or not all(Path(file.path).exists() for file in found):
        found = kind_of(source).snapshot(source, base, state_dir)
        if reads_once(source):
            known[key] = found
    return found


def reads_once(source: EventSource) -> bool:
    """Whether a connection reads the source once: it is an origin, or in a store of objects."""
    return source.origin is not None or store_of(source.path) is not None


def key_of(source: EventSource) -> str:
    """What of a source decides its files: where they are, and what is read of them."""
    types = {name: str(type_) for name, type_ in wanted_of(source).items()}
    where = source.path if source.origin is None else source.origin.about
    return repr((source.name, where, types, source.formats))


def readings_of(con: Any) -> Readings:
    """What this connection has read of origins."""
    shared = _SHARED.get()
    return _OF.setdefault(con, {}) if shared is None else shared


def read_again(con: Any, readings: Mapping[str, tuple[FileInfo, ...]]) -> None:
    """Let a connection read what another one has read."""
    readings_of(con).update(readings)


@contextmanager
def one_reading() -> Iterator[None]:
    """Let every connection that is made in the block read each origin once for all of them."""
    token = _SHARED.set({} if _SHARED.get() is None else _SHARED.get())
    try:
        yield
    finally:
        _SHARED.reset(token)
