"""Finds the rows of the serving log, and the outcomes, that are of forgotten entities, by the
tombstones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.errors import RegistryError
from featurekit.log.outcomes import OutcomeFile, outcomes_folder, read_outcomes, strip_outcomes
from featurekit.log.profiles import forget_few
from featurekit.log.served.block import is_forgotten, rows_by_request
from featurekit.log.tombstones import Secret, Tombstone, read_secret
from featurekit.project.kept_profiles import profile_place
from featurekit.project.project import Project

_Columns = Mapping[str, str]
"""For each key of an entity, the column of a row that holds it."""


class _Head(Protocol):
    """The version of a service whose rows are looked at, and its join keys."""

    @property
    def service(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def keys(self) -> Mapping[str, Type]: ...


class _Keyed(Protocol):
    """Rows with the join keys of a service: of the serving log, or outcomes."""

    @property
    def head(self) -> _Head: ...
    @property
    def keys(self) -> Sequence[Sequence[Any]]: ...
    @property
    def served_at(self) -> Sequence[int]: ...
    @property
    def arrivals(self) -> Sequence[Sequence[int | None]]: ...


class ForgottenRows:
    """The rows of blocks that are of who has one of the tombstones. Without `ever`, rows of before
    it alone: what was served later is of a new start."""

    def __init__(
        self, project: Project, tombstones: Sequence[Tombstone], secret: Secret, *, ever: bool
    ) -> None:
        self.project, self.tombstones, self.secret, self.ever = project, tombstones, secret, ever
        self._columns: dict[tuple[str, str, str], list[_Columns]] = {}
        self._known: dict[tuple[int, Any], bool] = {}

    def __call__(self, block: _Keyed) -> set[int]:
        """The places of those rows."""
        columns = dict(zip(block.head.keys, block.keys, strict=True))
        found: set[int] = set()
        for number, one in enumerate(self.tombstones):
            for way in self._ways(block.head, one):
                keys = [columns[way[name]] for name, _ in one.keys]
                for i, values in enumerate(zip(*keys, strict=True)):
                    if self._is_of(number, values) and (self.ever or self._before(block, i, one)):
                        found.add(i)
        return found

    def _is_of(self, number: int, values: tuple[Any, ...]) -> bool:
        """Whether a tombstone is of these values of its keys."""
        if None in values:
            return False
        known = self._known.get((number, values))
        if known is None:
            one = self.tombstones[number]
            pairs = zip(one.keys, values, strict=True)
            keys = {name: (type_, value) for (name, type_), value in pairs}
            known = self._known[number, values] = self.secret.digest(one.entity, keys) == one.digest
        return known

    def _before(self, block: _Keyed, i: int, one: Tombstone) -> bool:
        """Whether a row is of before the forgetting: it was served then, or from a state that has
        nothing later."""
        arrivals = [column[i] for column in block.arrivals]
        last = one.until + self.project.tolerance_us
        return block.served_at[i] <= last or any(a is not None and a <= one.until for a in arrivals)

    def _ways(self, head: _Head, one: Tombstone) -> list[_Columns]:
        """The columns of a version's rows that hold the keys of the tombstone's entity: as its
        views take them, and under their own names."""
        place = head.service, head.fingerprint, one.entity
        if place not in self._columns:
            self._columns[place] = list(self._find(head, one))
        return self._columns[place]

    def _find(self, head: _Head, one: Tombstone) -> list[_Columns]:
        own = {name: name for name, _ in one.keys}
        service = self._service(head)
        if service is None:
            fits = all(n in head.keys and head.keys[n].base == t for n, t in one.keys)
            return [own] if fits else []
        found: list[_Columns] = []
        for view in service.views:
            types = {key.name: key.type for key in view.join_keys}
            named = {k.name: row.name for k, row in zip(view.join_keys, view.row_keys, strict=True)}
            written = self.project.repo.views.get(view.name)
            other = written is not None and all(e.name != one.entity for e in written.entities)
            if other or any(types.get(name) != type_ for name, type_ in one.keys):
                continue
            way = {name: named[name] for name, _ in one.keys}
            if way not in found and {*way.values()} <= head.keys.keys():
                found.append(way)
        return found

    def _service(self, head: _Head) -> Service | None:
        """The version as it was compiled; None where the registry has it not."""
        try:
            found = self.project.registry.definition("service", head.service, head.fingerprint)
        except RegistryError:
            return None
        assert isinstance(found, Service)
        return found


def strip_served(project: Project, tombstone: Tombstone, logs: Sequence[str | Path] = ()) -> int:
    """Take out all that the serving log has of who has a tombstone; the number of rows."""
    secret = read_secret(project.state_dir, [tombstone])
    gone = ForgottenRows(project, [tombstone], secret, ever=True)
    rows = sum(place.strip(gone) for place in project.served_places(logs))
    forget_few(profile_place(project))
    return rows


def strip_outcomes_of(
    project: Project,
    tombstones: Sequence[Tombstone],
    logs: Sequence[str | Path] = (),
    *,
    ever: bool,
) -> int:
    """Take out the outcomes of who has a tombstone, after the serving log lost them; how many.

    An outcome is theirs by its join keys, or by a request whose row in the log says FORGOTTEN.
    """
    if not outcomes_folder(project.state_dir).exists():
        return 0
    secret = read_secret(project.state_dir, tombstones)
    by_keys = ForgottenRows(project, tombstones, secret, ever=ever)
    named = {
        (one.request, one.row)
        for file in read_outcomes(project.state_dir)
        for one in file.outcomes
        if one.request is not None
    }
    forgotten: set[tuple[str | None, int]] = set()
    for place in project.served_places(logs) if named else ():
        for block in place.blocks():
            rows = ((i, name) for i, names in rows_by_request(block) for name in names)
            forgotten |= {name for i, name in rows if name in named and is_forgotten(block, i)}

    def gone(file: OutcomeFile) -> set[int]:
        places = enumerate(file.outcomes)
        return by_keys(file) | {i for i, one in places if (one.request, one.row) in forgotten}

    return strip_outcomes(project.state_dir, gone)


def strip_late(project: Project) -> int:
    """Take out what serving processes wrote of forgotten entities after these were forgotten, and
    outcomes of them; the number of rows of the log."""
    tombstones = project.registry.tombstones()
    if not tombstones:
        return 0
    secret = read_secret(project.state_dir, tombstones)
    gone = ForgottenRows(project, tombstones, secret, ever=False)
    rows = sum(place.strip(gone) for place in project.served_places())
    if rows:
        forget_few(profile_place(project))
    strip_outcomes_of(project, tombstones, ever=False)
    return rows
