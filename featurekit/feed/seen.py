"""Turns a log of pushes into sums by arrival, which tell the next run what this one did not see.

A row may reach the log long after the instant at which it arrived: its push brought an older
arrival, or its process was paused on the way. Where that process then died, the states lack the
row, and its arrival lies before what the last run covered. So a run keeps, for some arrivals, a sum
of what the log had up to them. The next run begins at the last of these for which it is the same.

They lie a second, two, four and so on before the end of the run. So what is read again for a row
that came late reaches at most twice as far back as the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.tables import fetch
from featurekit.define.plan import View
from featurekit.errors import DamagedNote
from featurekit.log.relation import log_sql
from featurekit.log.segments import segments
from featurekit.online.store.marks import version_of
from featurekit.online.store.notes import name_of, read_object
from featurekit.project.deployment import materialized_marks, seen_key
from featurekit.project.project import Project

_AGES = (0, *(1_000_000 << n for n in range(40)))
"""How long before the end of a run the sums are taken; the last lies before every instant."""
_Sum = tuple[int, int]
"""How many rows there are, and the sum of their hashes."""
_NOTHING = (0, 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run up to `until` saw of a log: the sum of what had arrived by each of the ages. The
    last ones, where nothing had, are left out."""

    until: int
    sums: tuple[_Sum, ...] = ()

    def same(self, sums: Mapping[int, _Sum]) -> int:
        """The latest arrival up to which a log with these `sums` is as it was."""
        padded = itertools.chain(self.sums, itertools.repeat(_NOTHING))
        arrivals = _arrivals(self.until)
        return next(at for at, sum_ in zip(arrivals, padded, strict=False) if sums[at] == sum_)

    @property
    def written(self) -> Mapping[str, Any]:
        """As it is noted in the store; empty where there was no row."""
        return {"until": self.until, "sums": self.sums} if self.sums else {}


Names = tuple[str, ...]
"""The names of the sources that decide the values of a view: one, those of a union, those of what
its rows take from other views."""


class LogNow:
    """The log of some sources, as it is when a run up to `until` begins: `seen` is what this run
    sees of it, whatever is logged meanwhile.

    `marks` has views that were filled before, each with the arrival up to which.
    """

    def __init__(
        self,
        project: Project,
        con: Any,
        sources: Names,
        until: int,
        marks: Sequence[tuple[View, int]],
    ) -> None:
        keys = [seen_key(project.name, view) for view, _ in marks]
        self._before = {
            version_of(view): _read(key, value, mark)
            for (view, mark), key, value in zip(marks, keys, project.online.read(keys), strict=True)
        }
        ends = {until, *(seen.until for seen in self._before.values())}
        arrivals = sorted({at for end in ends for at in _arrivals(end)})
        self._sums = _all_sums([_sums(project, con, source, arrivals) for source in sources])
        found = [self._sums[at] for at in _arrivals(until)]
        self.seen = Seen(until, tuple(itertools.takewhile(lambda sum_: sum_ != _NOTHING, found)))

    def after(self, view: View) -> int:
        """The arrival up to which a view has all that the files and the log have now; NEVER where
        that is unknown."""
        before = self._before.get(version_of(view))
        return NEVER if before is None or not view.arrival_known else before.same(self._sums)


def logs_now(project: Project, con: Any, views: Sequence[View], until: int) -> dict[Names, LogNow]:
    """The log of the sources of each view, by the names of the sources. It is made before anything
    is read for the views."""
    mark = materialized_marks(project.online, project.name)
    of_sources: dict[Names, list[tuple[View, int]]] = {view.all_source_names: [] for view in views}
    for view in views:
        known = mark(view)
        if known is not None:
            of_sources[view.all_source_names].append((view, known))
    return {names: LogNow(project, con, names, until, marks) for names, marks in of_sources.items()}


def _read(key: bytes, value: bytes | None, mark: int) -> Seen:
    """What the run up to `mark` saw; nothing where that is not noted, as after a run of an earlier
    release, and where the note is damaged: all of the log is then brought again."""
    try:
        found: dict[str, Any] = read_object(name_of(key), value, dict)
    except DamagedNote:
        found = {}
    sums = tuple((rows, hashes) for rows, hashes in found.get("sums", ()))
    return Seen(mark, sums if found.get("until") == mark else ())


def _arrivals(until: int) -> list[int]:
    """The arrivals for which a run up to `until` keeps sums, latest first."""
    return [until - age for age in _AGES]


def _all_sums(of_sources: Sequence[dict[int, _Sum]]) -> dict[int, _Sum]:
    """The sums of the logs of several sources as those of one log."""
    if len(of_sources) == 1:
        return of_sources[0]
    return {
        at: (sum(one[at][0] for one in of_sources), sum(one[at][1] for one in of_sources) % 2**64)
        for at in of_sources[0]
    }


def _sums(project: Project, con: Any, source: str, arrivals: Sequence[int]) -> dict[int, _Sum]:
    """The sum of what had arrived by each of the arrivals, which are in order."""
    logged, made = segments(project.state_dir, source), dict.fromkeys(arrivals, _NOTHING)
    if not logged:
        return made
    definition = project.source(source)
    columns = ", ".join(map(quote, [*definition.schema, "__ts", "__created"]))
    since = " ".join(f"WHEN __created <= {at} THEN {n}" for n, at in enumerate(arrivals))
    found = fetch(
        con,
        f"SELECT CASE {since} END AS part, count(*), sum(hash({columns})) "
        f"FROM {log_sql(con, logged, definition)} WHERE __created <= {arrivals[-1]} GROUP BY part",
    )
    parts = {part: (rows, int(hashes)) for part, rows, hashes in found}
    rows = hashes = 0
    for n, at in enumerate(arrivals):
        more = parts.get(n, _NOTHING)
        rows, hashes = rows + more[0], (hashes + more[1]) % 2**64
        made[at] = rows, hashes
    return made
