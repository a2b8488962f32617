"""Defines what a kind of source offers, so that its rows can be checked and read like any
other's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featurekit.core.gone import Gone
from featurekit.core.types import Type, instant
from featurekit.define.definitions import EventSource
from featurekit.sources.check import BadRow, Marks
from featurekit.sources.readings import Reading

if TYPE_CHECKING:
    import duckdb

ARRIVED = "__arrived"
"""The text beside a file that says when its rows arrived, in microseconds UTC."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it was read: a snapshot for manifests (F2). Where it is a frame's, which ends with
    the process, `digest` is the hash of its bytes. Where it is an origin's or an object's, `origin`
    is what a manifest says of it, and `folders` has the texts of columns that stand beside it."""

    path: str
    size: int
    mtime_ns: int
    digest: str | None = None
    origin: Mapping[str, Any] | None = field(default=None, hash=False)
    folders: Mapping[str, str | None] | None = field(default=None, hash=False)

    @property
    def shown(self) -> str:
        """What a user knows it by."""
        return self.path if self.origin is None else str(self.origin.get("object", self.path))

    @property
    def columns(self) -> Collection[str] | None:
        """The columns that it has, where it is an object without others; None where it has all."""
        return None if self.origin is None else self.origin.get("columns")

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest says of it."""
        at = self.arrived
        told = {} if at is None else {"arrived": instant(at).isoformat()}
        if self.origin is not None:
            return {**self.origin, **told}
        if self.digest is not None:
            return {"frame": self.digest, "bytes": self.size}
        return {"path": self.path, "bytes": self.size, "mtime_ns": self.mtime_ns, **told}

    @property
    def arrived(self) -> int | None:
        """When its rows arrived, where that stands beside it."""
        text = (self.folders or {}).get(ARRIVED)
        return None if text is None else int(text)


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column of a file: the type found, and the name that a scan gives it. DuckDB gives another
    name to a column whose name differs from an earlier one in case alone."""

    type: str
    held: str


class SourceKind(Protocol):
    """What a kind of source offers. A new kind is a module, or an object, with these functions."""

    @property
    def marks(self) -> Marks | None:
        """The columns of a scan that are no columns of the file, if there are any."""

    def snapshot(
        self, source: EventSource, base: Path, state_dir: Path | None, *, most: int | None = None
    ) -> tuple[FileInfo, ...]:
        """The files to read as they are now, in order; `SourceError` if there are none. Those that
        are made for it are kept in the state folder; with `most`, they may have that many rows
        alone."""

    def readable(
        self, source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None
    ) -> str:
        """The path of the file that is scanned in place of a file: a copy, or the file itself.
        With `most`, a copy may have that many rows alone. `SourceError` if the file cannot be
        read."""

    def kept(self, source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
        """The names of the copies that `readable` keeps in the state folder of a file as it is
        now."""

    def columns(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, FileColumn]:
        """The columns of a file by their exact names (S4); `SourceError` if the file cannot be
        read. The path is one that `readable` gave, as in every function below but `rewrite`."""

    def scan(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
        """A FROM item over files with the same columns."""

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
        """How a column of a found type is read as the declared type; None if it cannot be."""

    def rejected(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
    ) -> list[tuple[BadRow, dict[str, Any]]]:
        """The rows that stop a scan, with their values."""

    def without(
        self, path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path
    ) -> str:
        """A FROM item over the rows of the file that are not in `rows`; it may write them to
        `copy`, as Parquet: `forget` also looks for rows in the files of rows set aside."""

    @property
    def rewrite(self) -> Callable[[EventSource, Path, Path, Gone], None] | None:
        """Writes the source's file at one path to another path without what is gone; everything
        else stays as it is. None if files of the format are never rewritten."""
