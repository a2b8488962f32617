"""Turns the commits of a table of a lake into the arrival of each of its files (T3).

What a log told is kept in the state folder, since logs are cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from featurekit.core.files import locked, write_whole
from featurekit.core.openness import make_folder
from featurekit.core.types import instant
from featurekit.core.written import placed
from featurekit.define.definitions import EventSource
from featurekit.errors import SourceError
from featurekit.sources.folders import ARRIVED
from featurekit.sources.origins.copies import where_of
from featurekit.sources.protocol import FileInfo

_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Committed:
    """The commit that added a file: its name for messages, its instant in microseconds UTC, None
    where the log does not tell it, and whether it appended rows alone."""

    name: str
    at: int | None
    appended: bool


Told = Callable[[Collection[str]], Mapping[str, Committed]]
"""The commits of files, by their paths, as far as the log tells them."""


def with_arrivals(
    source: EventSource,
    table: str,
    files: Iterable[FileInfo],
    told: Told,
    state_dir: Path | None,
    *,
    keep: bool,
) -> tuple[FileInfo, ...]:
    """The files, each with its arrival beside it. With `keep`, what the log tells is kept in the
    state folder. SourceError where a file was added by a commit
    that rewrites rows, or by one that nobody knows any more."""
    found = [*files]
    known = _kept(source, table, state_dir)
    asked = [file.path for file in found if file.path not in known]
    if asked:
        commits = told(asked)
        fresh = {path: _arrival(source, path, commits.get(path)) for path in asked}
        known |= fresh
        if keep and state_dir is not None:
            known = _keep(source, table, fresh, state_dir)
    return tuple(_arrived(file, known[file.path]) for file in found)


def _arrived(file: FileInfo, at: int) -> FileInfo:
    assert file.origin is not None
    origin = {**file.origin, "arrived": instant(at).isoformat()}
    return replace(file, origin=origin, folders={**(file.folders or {}), ARRIVED: str(at)})


def _arrival(source: EventSource, path: str, commit: Committed | None) -> int:
    """The instant of a commit, where it says when the rows of a file came."""
    instead = 'name their column with created_timestamp_column=, or write arrives=Delay("6h")'
    if commit is None or commit.at is None:
        text = f"the log does not tell any more when {path} was added; {instead}"
    elif not commit.appended:
        text = (
            f"{commit.name} rewrote rows, and added {path}, so it does not tell when these became "
            f"known; {instead}"
        )
    else:
        return commit.at
    raise placed(SourceError(f"{where_of(source)}: {text}"), source.place)


# --- what is kept ---------------------------------------------------------------------------------


def arrivals_file(source: EventSource, state_dir: Path) -> Path:
    """The file of the state folder that keeps the arrivals of a source's files."""
    return Path(state_dir) / "arrivals" / f"{source.name}.json"


def _kept(source: EventSource, table: str, state_dir: Path | None) -> dict[str, int]:
    """The arrivals that were read before, of this table."""
    if state_dir is None:
        return {}
    with suppress(FileNotFoundError):
        file = arrivals_file(source, state_dir)
        try:
            kept = json.loads(file.read_bytes())
            found = {str(path): int(at) for path, at in kept["files"].items()}
            return found if kept["table"] == table else {}
        except (ValueError, KeyError, TypeError, AttributeError):
            text = (
                f"{file} is damaged, which keeps when files of the table arrived; restore it, or "
                "remove it if the table's log still tells all of them"
            )
            raise placed(SourceError(f"{where_of(source)}: {text}"), source.place) from None
    return {}


def _keep(
    source: EventSource, table: str, fresh: Mapping[str, int], state_dir: Path
) -> dict[str, int]:
    """Keep arrivals beside those that were kept before; what was kept first holds."""
    file = arrivals_file(source, state_dir)
    make_folder(file.parent)
    with locked(file.with_suffix(".lock"), wait_s=_WAIT_S) as held:
        if held is None:
            text = f"{file} is being written by another process; run this again"
            raise placed(SourceError(f"{where_of(source)}: {text}"), source.place)
        known = {**fresh, **_kept(source, table, state_dir)}
        about = {"table": table, "files": dict(sorted(known.items()))}
        write_whole(file, json.dumps(about).encode(), durable=True)
    return known
