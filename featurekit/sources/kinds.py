"""Turns the name of a format into the module that reads its files."""

from __future__ import annotations

from featurekit.define.definitions import EventSource
from featurekit.sources import csv, frames, parquet
from featurekit.sources.protocol import SourceKind

KINDS: dict[str, SourceKind] = {"parquet": parquet, "csv": csv}
"""One for each of `define.definitions.FORMATS`, against which a definition's format is checked."""


def kind_of(source: EventSource) -> SourceKind:
    """The module that reads the source's files, or its frame."""
    if source.frame is not None:
        return frames
    return KINDS[str(source.format)]
