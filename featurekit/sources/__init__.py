"""Reads what sources hold, files or pushed rows, and checks all of it against S1."""

from __future__ import annotations

from featurekit.sources.events import Events, FileInfo, read_events
from featurekit.sources.rows import Rows, read_rows

__all__ = ["Events", "FileInfo", "Rows", "read_events", "read_rows"]
