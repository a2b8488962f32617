"""Turns the name of a format or of an origin into the module that reads it."""

from __future__ import annotations

from pathlib import Path

from featurekit.define.definitions import EventSource
from featurekit.define.object_stores import store_of
from featurekit.sources import csv, frames, objects, parquet
from featurekit.sources.origins import delta, duckdb_file, iceberg, postgres, sqlite
from featurekit.sources.origins.copies import CopiedKind
from featurekit.sources.origins.lake import LakeKind
from featurekit.sources.protocol import FileInfo, SourceKind

KINDS: dict[str, SourceKind] = {"parquet": parquet, "csv": csv}
"""One for each of `define.definitions.FORMATS`, against which a definition's format is checked."""
ORIGINS: dict[str, SourceKind] = {
    "sqlite": CopiedKind(sqlite.opened),
    "duckdb": CopiedKind(duckdb_file.opened),
    "delta": LakeKind(delta.opened),
    "iceberg": LakeKind(iceberg.opened),
    "postgres": CopiedKind(postgres.opened),
}
"""One for each origin, by its `kind`."""


def kind_of(source: EventSource) -> SourceKind:
    """What reads the source's files, its frame or its origin."""
    if source.origin is not None:
        return ORIGINS[source.origin.kind]
    if source.frame is not None:
        return frames
    return KINDS[str(source.format)]


def files_now(source: EventSource, base: Path, state_dir: Path) -> tuple[FileInfo, ...]:
    """The files of a source that are read where they lie, or by the module's own copies; none of a
    database, and those that were fetched of a store of objects: neither is asked."""
    if store_of(source.path) is not None:
        return objects.kept_files(source, state_dir)
    kind = kind_of(source)
    if isinstance(kind, LakeKind):
        return kind.where_they_lie(source, base)
    return () if isinstance(kind, CopiedKind) else kind.snapshot(source, base, state_dir)
