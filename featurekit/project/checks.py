"""Turns the sources that a repo reads into what is wrong with their files, before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurekit.core.attributes import Named
from featurekit.core.written import placed
from featurekit.define.object_stores import store_of
from featurekit.errors import DataError, SourceError

if TYPE_CHECKING:
    import duckdb

    from featurekit.define.definitions import EventSource
    from featurekit.project.project import Project

MOST_FILES = 50
"""Of a source with more files, the first and the last ones are looked at."""
ROWS = 1_000
"""So many rows of each file are looked at."""


@dataclass(frozen=True, slots=True)
class SourceCheck(Named):
    """What was seen of a source: the number of its files, and the faults of those looked at.

    `missing` says why there is no file yet; a source may get all of its events by pushes. That
    files were read before, and none is there any more, is a fault. `set_aside` of the rows looked
    at are bad ones, which the source says to set aside.
    """

    source: str
    files: int
    faults: tuple[DataError, ...] = ()
    missing: str | None = None
    set_aside: int = 0


def check_sources(project: Project) -> list[SourceCheck]:
    """Each source that a view reads: whether its files exist, and have the columns and types that
    its schema declares. Nothing is written, and of each file only the first rows are read."""
    import duckdb

    from featurekit.offline.session import prepare

    read = {s.name: s for v in project.repo.views.values() for s in v.event_sources}
    with duckdb.connect() as con:
        prepare(con)
        return [_check(project, con, source) for _, source in sorted(read.items())]


def _check(project: Project, con: duckdb.DuckDBPyConnection, source: EventSource) -> SourceCheck:
    from featurekit.sources.events import first_fault, source_files
    from featurekit.sources.seen import vanished

    lost = vanished(source, project.path, project.state_dir)
    if lost is not None:
        return SourceCheck(source.name, 0, (lost,))
    try:
        files = source_files(source, project.path, project.state_dir, most=ROWS)
    except SourceError as error:
        fault = placed(error, source.place)
        # A folder, an empty file, or a store that cannot be asked.
        if store_of(source.path) is not None or (project.path / source.path).exists():
            return SourceCheck(source.name, 0, (fault,))
        return SourceCheck(source.name, 0, missing=str(fault))
    half = MOST_FILES // 2
    chosen = files if len(files) <= MOST_FILES else (*files[:half], *files[-half:])
    here = [one for one in chosen if one.path != one.shown or store_of(source.path) is None]
    found = [first_fault(con, source, one, rows=ROWS) for one in here]
    faults = {str(fault): placed(fault, source.place) for fault, _ in found if fault is not None}
    aside = sum(bad for _, bad in found)
    return SourceCheck(source.name, len(files), tuple(faults.values()), set_aside=aside)
