"""Turns the check of a source's files into a file beside the store's state, so that it is made once
for a content (S4).

A verdict is kept under a hash of what it depends on: the contents of the files, how the source
declares them, and the versions that read them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit.core.files import write_whole
from featurekit.core.version import VERSION
from featurekit.sources.check import Summary
from featurekit.sources.identity import kept_folder

_FORMAT = 1


class Verdicts:
    """The verdicts on the files of a source: those that are kept, and those of this check."""

    def __init__(self, name: str, state_dir: Path | None) -> None:
        folder = None if state_dir is None else kept_folder(state_dir)
        self._file = None if folder is None else folder / verdict_name(name)
        self._kept = {} if self._file is None else _read(self._file)
        self._used: dict[str, Summary] = {}

    def get(self, about: Any) -> Summary | None:
        """The verdict that is kept, if there is one. `about` is JSON of all that it depends on."""
        found = self._kept.get(_key(about))
        if found is not None:
            self._used[_key(about)] = found
        return found

    def add(self, about: Any, summary: Summary) -> None:
        """Take in a verdict of this check."""
        self._used[_key(about)] = summary

    def keep(self) -> None:
        """Keep the verdicts of this check in the place of those before it."""
        if self._file is not None and self._used != self._kept:
            write_whole(self._file, json.dumps(_written(self._used)).encode())


def verdict_name(source: str) -> str:
    """The name of the file with a source's verdicts."""
    return f"source.{source}.json"


def measures_name(source: str) -> str:
    """The name of the file with what was measured of a source for its contract (S5)."""
    return f"contract.{source}.json"


def judged_name(source: str) -> str:
    """The name of the file with what became of a source's contract last (S5)."""
    return f"judged.{source}.json"


def _key(about: Any) -> str:
    import duckdb

    text = json.dumps([_FORMAT, VERSION, duckdb.__version__, about])
    return hashlib.sha256(text.encode()).hexdigest()


def _written(verdicts: dict[str, Summary]) -> dict[str, Any]:
    return {
        key: [v.rows, v.bad, None if v.span is None else [at.isoformat() for at in v.span]]
        for key, v in verdicts.items()
    }


def _read(file: Path) -> dict[str, Summary]:
    """What is kept; nothing where the file is absent or damaged, since it can be made again."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        made = {}
        for key, (rows, bad, span) in json.loads(file.read_bytes()).items():
            ends = None
            if span is not None:
                low, high = map(dt.datetime.fromisoformat, span)
                ends = (low, high)
            made[key] = Summary(int(rows), int(bad), ends)
        return made
    return {}
