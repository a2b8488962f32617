"""Turns files and pushed rows into relations and tables whose values are all checked against S1."""

from __future__ import annotations

from featurekit.sources.events import CheckedFiles, read_events
from featurekit.sources.protocol import FileInfo
from featurekit.sources.rows import TakenRows, read_rows

__all__ = ["CheckedFiles", "FileInfo", "TakenRows", "read_events", "read_rows"]
