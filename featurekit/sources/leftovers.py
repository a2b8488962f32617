"""Finds what is kept of files that no source reads any more, or whose content has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from featurekit.core.files import WRITING
from featurekit.define.definitions import EventSource
from featurekit.errors import DataError
from featurekit.sources.identity import folder_in, note_name
from featurekit.sources.kinds import files_now, kind_of
from featurekit.sources.objects import objects_left
from featurekit.sources.origins.copies import copies_left, last_copies
from featurekit.sources.verdicts import judged_name, measures_name, verdict_name


def leftovers(sources: Iterable[EventSource], base: Path, state_dir: Path) -> list[Path]:
    """The files of `state_dir` with copies of CSV files, of databases and of objects, hashes and
    verdicts that none of the sources needs now (S4). Each of them would be made again.

    What is there is listed first. So what another process keeps meanwhile is not among them.
    """
    folder = folder_in(state_dir)
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    known = list(sources)
    needed = {name for source in known for name in _needed(source, base, state_dir)}
    left = [path for path in there if path.suffix != WRITING and path.name not in needed]
    return [*left, *copies_left(known, state_dir), *objects_left(known, state_dir)]


def _needed(source: EventSource, base: Path, state_dir: Path) -> Iterator[str]:
    """The names of what is kept for a source."""
    kind = kind_of(source)
    yield verdict_name(source.name)
    yield measures_name(source.name)
    yield judged_name(source.name)
    yield from last_copies(source, state_dir)
    with suppress(DataError):  # it has no file now, or one that cannot be read
        for file in files_now(source, base, state_dir):
            yield note_name(file.path)
            yield from kind.kept(source, file, state_dir)
