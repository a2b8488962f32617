"""Keeps in the state folder when the files of a source arrived (T3), once that was read: logs of
tables are cut off, and files are touched and copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit.core.files import locked, write_whole
from featurekit.core.openness import make_folder
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError

_WAIT_S = 60.0


def arrivals_file(source: EventSource, state_dir: Path) -> Path:
    """The file of the state folder that keeps the arrivals of a source's files."""
    return Path(state_dir) / "arrivals" / f"{source.name}.json"


def arrival_fault(source: EventSource, text: str) -> SourceError:
    """The error of a source whose rows do not tell when they arrived."""
    of = "" if source.origin is None else f", {source.origin.text}"
    return placed(SourceError(f"EventSource {source.name!r}{of}: {text}"), source.place)


def kept_arrivals(source: EventSource, table: str, state_dir: Path | None) -> dict[str, Any]:
    """What was kept of each file of this table. SourceError where it is damaged."""
    if state_dir is None:
        return {}
    with suppress(FileNotFoundError):
        file = arrivals_file(source, state_dir)
        try:
            kept = json.loads(file.read_bytes())
            found = {str(path): about for path, about in kept["files"].items()}
            return found if kept["table"] == table else {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged_arrivals(source, state_dir) from None
    return {}


def damaged_arrivals(source: EventSource, state_dir: Path) -> SourceError:
    """The error where what is kept cannot be read."""
    still = "the files have the times that they had"
    if source.origin is not None:
        still = "the table's log still tells all of them"
    text = (
        f"{arrivals_file(source, state_dir)} is damaged, which keeps when files of the table "
        f"arrived; restore it, or remove it if {still}"
    )
    return arrival_fault(source, text)


def keep_arrivals(
    source: EventSource,
    table: str,
    fresh: Mapping[str, Any],
    state_dir: Path,
    *,
    over: bool = False,
) -> dict[str, Any]:
    """Keep what was read of files beside what was kept before, and give all of it. What was kept
    first holds, but where the new is put `over` it."""
    file = arrivals_file(source, state_dir)
    make_folder(file.parent)
    with locked(file.with_suffix(".lock"), wait_s=_WAIT_S) as held:
        if held is None:
            text = f"{file} is being written by another process; run this again"
            raise arrival_fault(source, text)
        kept = kept_arrivals(source, table, state_dir)
        known = {**kept, **fresh} if over else {**fresh, **kept}
        about = {"table": table, "files": dict(sorted(known.items()))}
        write_whole(file, json.dumps(about).encode(), durable=True)
    return known
