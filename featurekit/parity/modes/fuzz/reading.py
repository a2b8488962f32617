"""Turns the files of an invented world into the events of its views, as offline reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featurekit.define.definitions import EventSource
from featurekit.define.plan import Source, View
from featurekit.define.union import united_sql
from featurekit.offline.enriched import unenriched_sql
from featurekit.offline.events import EventRows, Snapshot
from featurekit.offline.session import prepare as prepare_duckdb
from featurekit.parity.taken import make_united
from featurekit.sources import read_events
from featurekit.sources.events import CheckedFiles


def connect() -> Any:
    """A DuckDB for one world: one thread, as there is a process for each processor."""
    import duckdb

    con = duckdb.connect(config={"threads": 1})
    prepare_duckdb(con)
    return con


def events_of(con: Any, source: EventSource) -> CheckedFiles:
    """The rows of a world's file. Those that a contract sets aside are kept beside it (S5)."""
    aside = Path(source.path).parent if source.expect else None
    return read_events(con, source, base=Path(), state_dir=aside)


@dataclass(frozen=True, slots=True)
class WorldReader:
    """Reads the events of a world, here or in a worker of an engine: `sources` are those of its
    files in `folder`, and `read` what views read."""

    folder: Path
    sources: Mapping[str, EventSource]
    read: Mapping[str, Source]

    def connect(self) -> Any:
        """A DuckDB for one world."""
        return connect()

    def snapshot(self, con: Any, view: View) -> Snapshot:
        """The events of a view's source."""
        return Snapshot(self.events(con, self.relations(con))[view.source.name], {})

    def logged(self, con: Any, source: str, until: int | None) -> tuple[int, int]:
        """A world has no log."""
        return 0, 0

    def relations(self, con: Any) -> dict[str, str]:
        """The rows of each source as DuckDB reads them of its file, and those of unions, which have
        not taken anything yet (T11)."""
        found = {name: events_of(con, source).relation for name, source in self.sources.items()}
        for name, source in self.read.items():
            if source.parts is not None:
                parts = [unenriched_sql(p, found[p.source.name]) for p in source.parts]
                found[name] = united_sql(source, parts)
        return found

    def events(self, con: Any, relations: Mapping[str, str]) -> dict[str, EventRows]:
        """The events of each source, with what they take from other views."""
        own = {s.name: s for read in self.read.values() for s in (read, *read.sources)}
        found = {
            name: EventRows(
                relation, all(one.created_timestamp_column is None for one in own[name].sources)
            )
            for name, relation in relations.items()
        }
        for name, source in self.read.items():
            if source.joins:
                found[name] = replace(found[name], relation=make_united(con, source, found))
        return found
