"""Defines what a kind of source offers, so that its rows can be checked and read like any
other's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featurekit.core.types import Type
from featurekit.define.definitions import EventSource
from featurekit.sources.check import BadRow
from featurekit.sources.readings import Reading

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file as it was read: a snapshot for manifests (F2). Where it is a frame's, which ends with
    the process, `digest` is the hash of its bytes."""

    path: str
    size: int
    mtime_ns: int
    digest: str | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest says of it."""
        if self.digest is not None:
            return {"frame": self.digest, "bytes": self.size}
        return {"path": self.path, "bytes": self.size, "mtime_ns": self.mtime_ns}


class SourceKind(Protocol):
    """What a kind of source offers. A new kind is a module, or an object, with these functions."""

    def snapshot(self, source: EventSource, base: Path) -> tuple[FileInfo, ...]:
        """The files to read as they are now, in order; `SourceError` if there are none."""

    def columns(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, str]:
        """The columns of a file with the types found; `SourceError` if the file cannot be read."""

    def scan(self, paths: Sequence[str], found: Mapping[str, str]) -> str:
        """A FROM item over files with the same columns."""

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
        """How a column of a found type is read as the declared type; None if it cannot be."""

    def rejected(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, str]
    ) -> list[tuple[BadRow, dict[str, Any]]]:
        """The rows that stop a scan, with their values."""

    def without(
        self, path: str, found: Mapping[str, str], rows: Sequence[int], *, copy: Path
    ) -> str:
        """A FROM item over the rows of the file that are not in `rows`; it may write them to
        `copy`, as Parquet: `forget` also looks for rows in the files of rows set aside."""

    @property
    def rewrite(self) -> Callable[[Path, Path, Collection[int]], None] | None:
        """Writes the file at one path to another path without some rows, by their numbers in the
        file; everything else stays as it is. None if files of the format are never rewritten."""
