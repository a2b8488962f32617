"""Turns the commits of a table of a lake into the arrival of each of its files (T3).

What a log told is kept in the state folder, since logs are cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from featurekit.define.definitions import EventSource
from featurekit.sources.kept_arrivals import (
    arrival_fault,
    damaged_arrivals,
    keep_arrivals,
    kept_arrivals,
)
from featurekit.sources.protocol import ARRIVED, FileInfo


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
            known = keep_arrivals(source, table, fresh, state_dir)
    return tuple(
        replace(file, folders={**(file.folders or {}), ARRIVED: str(known[file.path])})
        for file in found
    )


def _kept(source: EventSource, table: str, state_dir: Path | None) -> dict[str, int]:
    """The arrivals that were read before, of this table."""
    kept = kept_arrivals(source, table, state_dir)
    try:
        return {path: int(at) for path, at in kept.items()}
    except (ValueError, TypeError):
        assert state_dir is not None
        raise damaged_arrivals(source, state_dir) from None


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
    raise arrival_fault(source, text)
