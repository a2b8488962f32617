"""The registry: every version of every view and service that was ever applied.

`plan` compares a repo with it, and `apply` records. Rows are only added; the table `current` says
which version of each name is in force.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featurekit.core.attributes import Named
from featurekit.core.types import Type
from featurekit.core.who import user
from featurekit.define.identity import stale_fingerprint
from featurekit.define.plan import Service, View
from featurekit.define.published import python_functions
from featurekit.define.verify import verify_service
from featurekit.errors import RegistryError
from featurekit.language.wire import from_json, to_json
from featurekit.log.tombstones import Tombstone
from featurekit.project.differences import (
    Said,
    breaking,
    deprecated_otherwise,
    differing,
    features_of,
    reasons,
)
from featurekit.project.registry_tables import Kept, Tables

_PUT_IN_FORCE = (
    "INSERT INTO current VALUES (?, ?, ?, ?) ON CONFLICT (kind, name) "
    "DO UPDATE SET fingerprint = excluded.fingerprint, about = excluded.about"
)
_CHANGES = "action, kind, name, fingerprint, applied_by, applied_at"
_FORGOTTEN = "entity, keys, digest, secret, until, applied_by, applied_at, removed"
_DEPRECATED = "kind, name, said, applied_by, applied_at"
_DUMP = (
    "SELECT kind, name, fingerprint, applied_by, applied_at FROM versions "
    "ORDER BY applied_at, kind, name",
    "SELECT kind, name, fingerprint, about FROM current ORDER BY kind, name",
    f"SELECT {_CHANGES} FROM changes ORDER BY id",
    f"SELECT {_FORGOTTEN} FROM forgotten ORDER BY id",
    f"SELECT {_DEPRECATED} FROM deprecations ORDER BY id",
)
"""The tables of a `Record`, in the order of its fields."""

_PIN = "pin"
"""The kind under which `current` has the pins of versions."""

Action = Literal["add", "change", "describe", "remove", "rollback"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A compiled view or service, and what its author says about it."""

    value: View | Service
    about: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind of the definition: "view" or "service"."""
        return "view" if isinstance(self.value, View) else "service"


Known = tuple[str, str, str]
"""A version: its kind, name and fingerprint."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What a registry is known by: its id, None before it has one, and how many changes and
    tombstones it has."""

    id: str | None
    changes: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Record:
    """The tables of a registry, but for the definitions, as rows of texts."""

    versions: list[tuple[str, ...]]
    current: list[tuple[str, ...]]
    changes: list[tuple[str, ...]]
    forgotten: list[tuple[Any, ...]]
    deprecations: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def read(cls, written: dict[str, Any]) -> Record:
        """What `written` gave. ValueError, TypeError or KeyError where it is something else."""
        widths = {"versions": 5, "current": 4, "changes": 6, "forgotten": 8, "deprecations": 5}
        written = {"deprecations": [], **written}  # an earlier release has none
        made = {name: [tuple(row) for row in written[name]] for name in widths}
        for name, width in widths.items():
            if any(len(row) != width for row in made[name]):
                raise ValueError(f"a row of {name} has another number of columns")
            kinds = (str,) if name != "forgotten" else (str, int, type(None))
            if not all(isinstance(value, kinds) for row in made[name] for value in row):
                raise ValueError(f"a row of {name} has something that is no text")
        return cls(**made)

    def written(self) -> dict[str, Any]:
        """The record as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def continues(self, before: Record) -> bool:
        """Whether this registry is what became of the one `before`."""
        known = {row[:5] for row in self.forgotten}
        forgotten = all(row[:5] in known for row in before.forgotten)
        return forgotten and self.changes[: len(before.changes)] == before.changes

    def joined(self, other: Record) -> Record:
        """This record, with what only the other one has."""
        versions = {row[:3] for row in self.versions}
        gone = {row[:5] for row in self.forgotten}
        return Record(
            [*self.versions, *(row for row in other.versions if row[:3] not in versions)],
            self.current or other.current,
            [*self.changes, *(row for row in other.changes if row not in self.changes)],
            [*self.forgotten, *(row for row in other.forgotten if row[:5] not in gone)],
            [*self.deprecations, *(o for o in other.deprecations if o not in self.deprecations)],
        )


@dataclass(frozen=True, slots=True)
class Change(Named):
    """What `apply` would do to one name.

    `details` lists the features of what is changed that differ, `reasons` says why, and `breaking`
    what of it breaks the callers of a service. `features` has the features of what is added or
    changed, with their types.
    """

    action: Action
    kind: str
    name: str
    old: str | None
    new: str | None
    details: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    breaking: tuple[str, ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pin(Named):
    """What keeps a version of a service fed, whatever is live.

    `by` names what needs it, such as a model; `owner` who answers for that. The pin holds until it
    is taken away, or until the first `gc` or `apply` after `expires`; None where it has no end.
    """

    service: str
    fingerprint: str
    by: str
    owner: str
    expires: dt.datetime | None
    pinned_at: dt.datetime

    def __str__(self) -> str:
        return f"{self.service}@{self.fingerprint[:12]} by {self.by}"

    @property
    def name(self) -> str:
        """What it is called in the registry: a version has one pin by the same."""
        return f"{self.service}@{self.fingerprint} {self.by}"

    def expired(self, now: dt.datetime) -> bool:
        """Whether it has come to its end."""
        return self.expires is not None and self.expires <= now


class Registry:
    """The versions of one project."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    @property
    def place(self) -> str:
        """Where the registry is, for messages."""
        return self.kept.place

    def plan(self, wanted: Sequence[Definition]) -> list[Change]:
        """The changes that lead from the registry to `wanted`; empty where they agree."""
        if not self.kept.exists():
            return [_added(definition) for definition in wanted]
        with self.kept.opened() as tables:
            return self._plan(tables, wanted)

    def _plan(self, tables: Tables, wanted: Sequence[Definition]) -> list[Change]:
        rows = tables.rows(
            "SELECT kind, name, fingerprint, about, definition "
            "FROM current JOIN versions USING (kind, name, fingerprint)"
        )
        known = {(k, n): (f, about, definition) for k, n, f, about, definition in rows}
        changes = []
        for definition in wanted:
            kind, value = definition.kind, definition.value
            found = known.pop((kind, value.name), None)
            if found is None:
                changes.append(_added(definition))
                continue
            about = json.loads(found[1])
            lines = deprecated_otherwise(_said(about), _said(definition.about))
            if found[0] != value.fingerprint:
                old = self._read((kind, value.name, found[0]), found[2])
                changes.append(_changed(kind, old, value, lines))
            elif about != definition.about:
                same = found[0], found[0]
                changes.append(Change("describe", kind, value.name, *same, reasons=lines))
        for (kind, name), (fingerprint, *_) in sorted(known.items()):
            changes.append(Change("remove", kind, name, fingerprint, None))
        return changes

    def apply(self, wanted: Sequence[Definition]) -> list[Change]:
        """Record `wanted` as the current versions, all or nothing; the changes made."""
        who, when = user(), dt.datetime.now(dt.UTC).isoformat()
        # Written out before the file is held, since others wait for that.
        names = [(d.kind, d.value.name, d.value.fingerprint) for d in wanted]
        versions = [
            (*name, json.dumps(to_json(d.value)), who, when)
            for name, d in zip(names, wanted, strict=True)
        ]
        current = [(*name, json.dumps(d.about)) for name, d in zip(names, wanted, strict=True)]
        with self.kept.opened(write=True) as tables:
            changes = self._plan(tables, wanted)
            insert = "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            tables.do(insert, *versions)
            tables.do(_PUT_IN_FORCE, *current)
            adopted = json.loads(_fact(tables, "adopted") or "[]")
            if adopted:
                applied = {d.value.fingerprint for d in wanted}
                left = json.dumps([f for f in adopted if f not in applied])
                _set_fact(tables, "adopted", left)
            gone = [(c.kind, c.name) for c in changes if c.action == "remove"]
            tables.do("DELETE FROM current WHERE kind = ? AND name = ?", *gone)
            _deprecate(tables, wanted, who, when)
            done = [(c.action, c.kind, c.name, c.new or c.old, who, when) for c in changes]
            tables.do(f"INSERT INTO changes ({_CHANGES}) VALUES (?, ?, ?, ?, ?, ?)", *done)
        return changes

    def versions(self, kind: str, name: str) -> list[tuple[str, str, str]]:
        """(fingerprint, applied by, applied at) of every version of a name, oldest first."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            return tables.rows(
                "SELECT fingerprint, applied_by, applied_at FROM versions "
                "WHERE kind = ? AND name = ? ORDER BY applied_at",
                (kind, name),
            )

    def names(self, kind: str) -> list[str]:
        """Every name that had a version of this kind."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT DISTINCT name FROM versions WHERE kind = ? ORDER BY name", (kind,)
            )
        return [name for (name,) in rows]

    def definition(self, kind: str, name: str, fingerprint: str) -> View | Service:
        """A version as it was compiled. RegistryError where there is none."""
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT definition FROM versions WHERE kind = ? AND name = ? AND fingerprint = ?",
                (kind, name, fingerprint),
            )
        if not rows:
            raise RegistryError(f"the registry has no version {fingerprint} of {kind} {name!r}")
        return self._read((kind, name, fingerprint), rows[0][0])

    def _read(self, version: Known, text: str) -> View | Service:
        """The definition in a version's text. RegistryError where it is none."""
        kind, name, fingerprint = version
        try:
            value = from_json(json.loads(text), Service if kind == "service" else View)
            if isinstance(value, Service):
                verify_service(value)
                if stale_fingerprint(value) is not None or value.fingerprint != fingerprint:
                    raise ValueError("its fingerprint is not that of its content")
        except ValueError as error:
            raise RegistryError(
                f"the registry {self.place} is damaged: version {fingerprint} of {kind} {name!r} "
                f"is not what was applied: {error}"
            ) from None
        assert isinstance(value, (View, Service))
        return value

    def runnable(self, name: str, fingerprint: str) -> Service:
        """As `definition`, of a service that is to be run or published. RegistryError, too, where
        it has functions of Python that came out of an online store and were never applied here."""
        service = self.definition("service", name, fingerprint)
        assert isinstance(service, Service)
        functions = python_functions(service)
        if functions and not self.has_service(name, fingerprint):
            raise RegistryError(
                f"version {fingerprint[:12]} of service {name!r} was adopted from the online "
                f"store, and runs functions as their author's Python ({', '.join(functions)}); "
                "apply the code that defines it, which then vouches for them"
            )
        return service

    def has_service(self, name: str, fingerprint: str) -> bool:
        """Whether this version of a service was ever applied from here; what came out of an online
        store by `rebuild` was not."""
        known = any(fingerprint == one for one, *_ in self.versions("service", name))
        return known and fingerprint in self._applied_here()

    def _applied_here(self) -> list[str]:
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            adopted = json.loads(_fact(tables, "adopted") or "[]")
            rows = tables.rows("SELECT fingerprint FROM versions WHERE kind = 'service'")
            return [f for (f,) in rows if f not in adopted]

    def next_sequence(self, now_us: int) -> int:
        """A number for what is signed now: this instant's microseconds, and always above the number
        before, wherever the clock has gone meanwhile."""
        with self.kept.opened(write=True) as tables:
            number = max(now_us, int(_fact(tables, "sequence") or "-1") + 1)
            _set_fact(tables, "sequence", str(number))
        return number

    # --- whose it is, and its copy ----------------------------------------------------------------

    def known(self) -> Holds | None:
        """What the registry is known by; None where it has no file, or an empty one."""
        if not self.kept.exists():
            return None
        with self.kept.opened() as tables:
            id_ = _fact(tables, "id")
            counts = [
                tables.rows(f"SELECT count(*) FROM {table}")[0][0]
                for table in ("changes", "forgotten", "versions")
            ]
        return None if id_ is None and not any(counts) else Holds(id_, counts[0], counts[1])

    def make_id(self) -> None:
        """Give the registry a random id, unless it has one."""
        with self.kept.opened() as tables:
            found = _fact(tables, "id")
        if found is None:
            with self.kept.opened(write=True) as tables:
                insert = "INSERT INTO facts VALUES ('id', ?) ON CONFLICT DO NOTHING"
                tables.do(insert, (secrets.token_hex(16),))

    def written(self, kind: str, name: str, fingerprint: str) -> str | None:
        """The text of a version's definition; None where there is none."""
        if not self.kept.exists():
            return None
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT definition FROM versions WHERE kind = ? AND name = ? AND fingerprint = ?",
                (kind, name, fingerprint),
            )
        return rows[0][0] if rows else None

    def dump(self) -> Record:
        """The registry's tables."""
        with self.kept.opened() as tables:
            return Record(*(tables.rows(sql) for sql in _DUMP))

    def rebuild(
        self, record: Record, definitions: Mapping[Known, str], id_: str | None
    ) -> Path | str | None:
        """Make the registry anew from a record, and from the versions whose definitions are there.
        Returns where that lies now which was there before; None where nothing was."""
        mine = set(self._applied_here())
        adopted = [f for kind, _, f in definitions if kind == "service" and f not in mine]

        def fill(tables: Tables) -> None:
            _fill(tables, record, definitions)
            _set_fact(tables, "adopted", json.dumps(adopted))
            if id_ is not None:
                _set_fact(tables, "id", id_)

        return self.kept.made_anew(fill)

    def history(self, kind: str, name: str) -> list[str]:
        """The fingerprints that were in force under a name, one after another, oldest first."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT fingerprint FROM changes WHERE kind = ? AND name = ? "
                "AND action IN ('add', 'change', 'rollback') ORDER BY id",
                (kind, name),
            )
        return [fingerprint for (fingerprint,) in rows]

    def steps(self, kind: str, name: str) -> list[tuple[str, str, str, str]]:
        """What was done to a name, oldest first: the action, the version that came into force or,
        of a removal, was in force, by whom and when. What is only said of it is no step."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            return tables.rows(
                "SELECT action, fingerprint, applied_by, applied_at FROM changes "
                "WHERE kind = ? AND name = ? AND action <> 'describe' ORDER BY id",
                (kind, name),
            )

    def deprecated(self, kind: str, name: str) -> list[tuple[Said, str, str]]:
        """What was deprecated of a name, each time that this changed, oldest first; by whom and
        when."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT said, applied_by, applied_at FROM deprecations "
                "WHERE kind = ? AND name = ? ORDER BY id",
                (kind, name),
            )
        return [(json.loads(said), who, when) for said, who, when in rows]

    def roll_back(self, kind: str, name: str, fingerprint: str) -> None:
        """Record that an older version is in force again; then `plan` shows how the repo differs
        from it."""
        who, when = user(), dt.datetime.now(dt.UTC).isoformat()
        with self.kept.opened(write=True) as tables:
            about = tables.rows(
                "SELECT about FROM current WHERE kind = ? AND name = ?", (kind, name)
            )
            tables.do(_PUT_IN_FORCE, (kind, name, fingerprint, about[0][0] if about else "{}"))
            tables.do(
                f"INSERT INTO changes ({_CHANGES}) VALUES ('rollback', ?, ?, ?, ?, ?)",
                (kind, name, fingerprint, who, when),
            )

    def pins(self) -> list[Pin]:
        """Every pin of a version, by the service's name, the version and who needs it."""
        if not self.kept.exists():
            return []
        with self.kept.opened() as tables:
            rows = tables.rows(
                "SELECT name, fingerprint, about FROM current WHERE kind = ? ORDER BY name", (_PIN,)
            )
        return [self._pin(*row) for row in rows]

    def _pin(self, name: str, fingerprint: str, about: str) -> Pin:
        try:
            found = json.loads(about)
            end = found["expires"]
            return Pin(
                str(found["service"]),
                fingerprint,
                str(found["by"]),
                str(found["owner"]),
                None if end is None else dt.datetime.fromisoformat(end),
                dt.datetime.fromisoformat(found["pinned_at"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(
                f"the registry {self.place} is damaged: its pin {name!r} is not as it was written "
                f"({error!r}); move it away and run `featurekit adopt`, or put a copy of it back"
            ) from None

    def pin(self, pin: Pin) -> None:
        """Record a pin; one of the same version by the same is replaced."""
        about = {
            "service": pin.service,
            "by": pin.by,
            "owner": pin.owner,
            "expires": None if pin.expires is None else pin.expires.isoformat(),
            "pinned_at": pin.pinned_at.isoformat(),
        }
        with self.kept.opened(write=True) as tables:
            tables.do(_PUT_IN_FORCE, (_PIN, pin.name, pin.fingerprint, json.dumps(about)))
            _tell(tables, "pin", pin)

    def unpin(self, pins: Sequence[Pin]) -> None:
        """Record that pins were taken away."""
        with self.kept.opened(write=True) as tables:
            for pin in pins:
                tables.do("DELETE FROM current WHERE kind = ? AND name = ?", (_PIN, pin.name))
                _tell(tables, "unpin", pin)

    def fills(self, store: str) -> dict[str, int]:
        """How often each version of a view was filled in a store. Lookups ask this, so it only
        reads; a registry that is not there knows of no fill. RegistryError where it cannot be
        read."""
        sql = "SELECT version, number FROM fills WHERE store = ?"
        return dict(self.kept.looked(lambda t: t.rows(sql, (store,)), [], make=False))

    def filled(self, store: str, version: str, number: int) -> None:
        """Record that a version of a view was filled in a store for the `number`-th time."""
        with self.kept.opened(write=True) as tables:
            tables.do(
                "INSERT INTO fills VALUES (?, ?, ?) ON CONFLICT (store, version) "
                "DO UPDATE SET number = excluded.number",
                (store, version, number),
            )

    def forget(self, tombstone: Tombstone) -> int:
        """Record that an entity is forgotten; returns the number of the record."""
        keys = json.dumps({name: type_.name for name, type_ in tombstone.keys})
        who, when = user(), dt.datetime.now(dt.UTC).isoformat()
        row = (tombstone.entity, keys, tombstone.digest, tombstone.secret, tombstone.until)
        with self.kept.opened(write=True) as tables:
            tables.do(
                "INSERT INTO forgotten (entity, keys, digest, secret, until, applied_by, "
                "applied_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*row, who, when),
            )
            _sum_up(tables)
            # One process writes at a time, so the newest one is this.
            number: int = tables.rows("SELECT max(id) FROM forgotten")[0][0]
        return number

    def forgot(self, number: int, removed: Mapping[str, int]) -> None:
        """Record how much a forgetting removed."""
        with self.kept.opened(write=True) as tables:
            update = "UPDATE forgotten SET removed = ? WHERE id = ?"
            tables.do(update, (json.dumps(removed), number))

    def tombstones(self) -> list[Tombstone]:
        """Every entity that is forgotten, in the order of the records."""
        nobody: tuple[list[Any], dict[int, int]] = [], {}
        rows, sums = self.kept.looked(_forgotten, nobody)
        return [self._tombstone(number, row, sums.get(number)) for number, *row in rows]

    def _tombstone(self, number: int, row: Sequence[Any], sum_: int | None) -> Tombstone:
        """The tombstone in a row. RegistryError where it is not as it was written, by its checksum,
        which rows of an older release have not."""
        try:
            if sum_ is not None and sum_ != _sum(row):
                raise ValueError("its checksum is another one")
            entity, keys, digest, secret, until, who, when, removed = row
            types = tuple((name, Type(type_)) for name, type_ in json.loads(keys).items())
            counts = None if removed is None else json.loads(removed)
        except (ValueError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"the registry {self.place} is damaged: record {number} of who was forgotten is "
                f"not as it was written ({error}), and whoever it names would come back. Move it "
                "away and run `featurekit adopt`, which rebuilds it from the online store, or put "
                "a copy of it back"
            ) from None
        return Tombstone(entity, types, digest, secret, until, who, when, counts)


def _tell(tables: Tables, action: str, pin: Pin) -> None:
    """Add to the changes what was done with a pin."""
    row = (action, _PIN, pin.name, pin.fingerprint, user(), dt.datetime.now(dt.UTC).isoformat())
    tables.do(f"INSERT INTO changes ({_CHANGES}) VALUES (?, ?, ?, ?, ?, ?)", row)


def _forgotten(tables: Tables) -> tuple[list[Any], dict[int, int]]:
    """The rows of who was forgotten, and the checksums that are kept, by the numbers of the
    rows."""
    rows = tables.rows(f"SELECT id, {_FORGOTTEN} FROM forgotten ORDER BY id")
    # Every push asks, and mostly nobody is forgotten. An older release may have made the tables.
    if not rows or not tables.has("forgotten_sums"):
        return rows, {}
    return rows, dict(tables.rows("SELECT id, sum FROM forgotten_sums"))


def _sum(row: Sequence[Any]) -> int:
    """The CRC-32 of what a tombstone does: entity, keys, digest, secret, until."""
    return zlib.crc32(json.dumps(list(row[:5])).encode())


def _sum_up(tables: Tables) -> None:
    """Keep a checksum of each tombstone that has none."""
    rows, sums = _forgotten(tables)
    new = [(number, _sum(row)) for number, *row in rows if number not in sums]
    tables.do("INSERT INTO forgotten_sums VALUES (?, ?)", *new)


def _fill(tables: Tables, record: Record, definitions: Mapping[Known, str]) -> None:
    """Fill empty tables from a record."""
    for kind, name, fingerprint, *about in record.versions:
        text = definitions.get((kind, name, fingerprint))
        if text is not None:
            row = (kind, name, fingerprint, text, *about)
            tables.do("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", row)
    current = [row for row in record.current if row[0] == _PIN or row[:3] in definitions]
    for table, rows in (
        ("current", current),
        (f"changes ({_CHANGES})", record.changes),
        (f"forgotten ({_FORGOTTEN})", record.forgotten),
        (f"deprecations ({_DEPRECATED})", record.deprecations),
    ):
        for values in rows:
            tables.do(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    _sum_up(tables)


def _said(about: Mapping[str, Any]) -> Said:
    """What is deprecated, of what an author says of a view or service."""
    said: Said = about.get("deprecated", {})
    return said


def _deprecate(tables: Tables, wanted: Sequence[Definition], who: str, when: str) -> None:
    """Record what is deprecated of each view and service, where that is something else now."""
    sql = "SELECT kind, name, said FROM deprecations ORDER BY id"
    known = {(kind, name): json.loads(said) for kind, name, said in tables.rows(sql)}
    rows = [
        (definition.kind, definition.value.name, json.dumps(said), who, when)
        for definition in wanted
        if (said := _said(definition.about))
        != known.get((definition.kind, definition.value.name), {})
    ]
    tables.do(f"INSERT INTO deprecations ({_DEPRECATED}) VALUES (?, ?, ?, ?, ?)", *rows)


def _fact(tables: Tables, name: str) -> str | None:
    rows = tables.rows("SELECT value FROM facts WHERE name = ?", (name,))
    return rows[0][0] if rows else None


def _set_fact(tables: Tables, name: str, value: str) -> None:
    put = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    tables.do(put, (name, value))


def _added(definition: Definition) -> Change:
    value = definition.value
    return Change(
        "add",
        definition.kind,
        value.name,
        None,
        value.fingerprint,
        features=features_of(value),
    )


def _changed(kind: str, old: View | Service, new: View | Service, more: tuple[str, ...]) -> Change:
    broken: tuple[str, ...] = ()
    if isinstance(old, Service) and isinstance(new, Service):
        broken = breaking(old, new)
    return Change(
        "change",
        kind,
        new.name,
        old.fingerprint,
        new.fingerprint,
        differing(old, new),
        (*reasons(old, new), *more),
        broken,
        features_of(new),
    )
