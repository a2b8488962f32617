"""Turns the name of a format into the module that reads its files."""

from __future__ import annotations

from featurekit.define.definitions import EventSource
from featurekit.sources import csv, parquet
from featurekit.sources.protocol import SourceKind

KINDS: dict[str, SourceKind] = {"parquet": parquet, "csv": csv}
"""Each of `define.definitions.FORMATS`: that is where a source's format is checked."""


def kind_of(source: EventSource) -> SourceKind:
    """What reads the source's files."""
    return KINDS[str(source.format)]
