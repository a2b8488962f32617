"""The registry: every version of every view and service that was ever applied, in a SQLite file.

`plan` compares a repo with it, and `apply` records. Rows are only added; the table `current` says
which version of each name is in force.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import secrets
import sqlite3
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featurekit.core.attributes import Named
from featurekit.core.files import whole
from featurekit.core.openness import make_folder, opened
from featurekit.core.types import Type
from featurekit.core.who import user
from featurekit.define.identity import stale_fingerprint
from featurekit.define.plan import Service, View
from featurekit.define.published import python_functions
from featurekit.define.verify import verify_service
from featurekit.errors import RegistryError, WriteError
from featurekit.language.wire import from_json, to_json
from featurekit.log.tombstones import Tombstone
from featurekit.project.differences import breaking, differing, features_of, reasons

_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
    kind TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL,
    definition TEXT NOT NULL, applied_by TEXT NOT NULL, applied_at TEXT NOT NULL,
    PRIMARY KEY (kind, name, fingerprint)
);
CREATE TABLE IF NOT EXISTS current (
    kind TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL, about TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, action TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, fingerprint TEXT NOT NULL, applied_by TEXT NOT NULL,
    applied_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (
    id INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, keys TEXT NOT NULL,
    digest TEXT NOT NULL, secret TEXT NOT NULL, until INTEGER NOT NULL,
    applied_by TEXT NOT NULL, applied_at TEXT NOT NULL, removed TEXT
);
CREATE TABLE IF NOT EXISTS forgotten_sums (id INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fills (
    store TEXT NOT NULL, version TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (store, version)
);
"""

_TABLES = frozenset(re.findall(r"TABLE IF NOT EXISTS (\w+)", _SCHEMA))

_CHANGES = "action, kind, name, fingerprint, applied_by, applied_at"
_FORGOTTEN = "entity, keys, digest, secret, until, applied_by, applied_at, removed"
_DUMP = (
    "SELECT kind, name, fingerprint, applied_by, applied_at FROM versions ORDER BY rowid",
    "SELECT kind, name, fingerprint, about FROM current ORDER BY kind, name",
    f"SELECT {_CHANGES} FROM changes ORDER BY id",
    f"SELECT {_FORGOTTEN} FROM forgotten ORDER BY id",
)
"""The tables of a `Record`, in the order of its fields."""

WAIT_S = 5.0
"""How long a process waits for others that write to the registry, which takes milliseconds."""

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

    @classmethod
    def read(cls, written: dict[str, Any]) -> Record:
        """What `written` gave. ValueError, TypeError or KeyError where it is something else."""
        widths = {"versions": 5, "current": 4, "changes": 6, "forgotten": 8}
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


def _is_held(error: sqlite3.Error) -> bool:
    """Whether another process was writing for as long as this one waited."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _unusable(path: Path, error: sqlite3.Error) -> RegistryError | WriteError:
    """What an error of SQLite is called here, and what to do about it."""
    if _is_held(error):
        return RegistryError(
            f"the registry {path} is held by another process, which has been writing to it for "
            f"{WAIT_S:g} s; a write takes milliseconds, so that process may be stopped (Ctrl-Z, a "
            f"debugger) or hang: `fuser {path}` shows it. Let it go on, or end it, and run this "
            "again; the file is as it should be, leave it where it is"
        )
    match _code(error):
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return WriteError(
                f"the registry {path} cannot be written: {error}. Nothing of it was kept; make "
                "room on its disk, and run this again"
            )
        case sqlite3.SQLITE_NOTADB:
            then = "if it is not a registry, move it away; if it was one, put it back from a copy"
        case sqlite3.SQLITE_CORRUPT:
            then = (
                "put it back from a copy, or move it away and run `featurekit adopt`, which "
                "rebuilds it from the online store"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            then = "let this user read and write it, and its folder"
        case _:
            then = "see what else uses it, and what its file is"
    return RegistryError(f"the registry {path} cannot be used: {error}; {then}")


class Registry:
    """The versions of one project, in a SQLite file that is made at the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: tuple[tuple[int, int, int], sqlite3.Connection] | None = None
        self._reading = threading.Lock()

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            make_folder(self.path.parent)
            if not self.path.exists():
                os.close(opened(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))
            connection = sqlite3.connect(self.path, timeout=WAIT_S)
        except (sqlite3.Error, OSError) as error:
            raise RegistryError(f"the registry {self.path} cannot be opened: {error}") from None
        try:
            _make_tables(connection)
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None
        finally:
            connection.close()

    def plan(self, wanted: Sequence[Definition]) -> list[Change]:
        """The changes that lead from the registry to `wanted`; empty where they agree."""
        if not self.path.exists():
            return [_added(definition) for definition in wanted]
        with self._connect() as connection:
            return self._plan(connection, wanted)

    def _plan(self, connection: sqlite3.Connection, wanted: Sequence[Definition]) -> list[Change]:
        rows = connection.execute(
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
            elif found[0] != value.fingerprint:
                old = self._read((kind, value.name, found[0]), found[2])
                changes.append(_changed(kind, old, value))
            elif json.loads(found[1]) != definition.about:
                changes.append(Change("describe", kind, value.name, found[0], found[0]))
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
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            changes = self._plan(connection, wanted)
            connection.executemany(
                "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?)", versions
            )
            connection.executemany("INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)", current)
            adopted = json.loads(_fact(connection, "adopted") or "[]")
            if adopted:
                applied = {d.value.fingerprint for d in wanted}
                left = json.dumps([f for f in adopted if f not in applied])
                _set_fact(connection, "adopted", left)
            for change in changes:
                if change.action == "remove":
                    connection.execute(
                        "DELETE FROM current WHERE kind = ? AND name = ?",
                        (change.kind, change.name),
                    )
                connection.execute(
                    "INSERT INTO changes (action, kind, name, fingerprint, applied_by, applied_at) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (change.action, change.kind, change.name, change.new or change.old, who, when),
                )
        return changes

    def versions(self, kind: str, name: str) -> list[tuple[str, str, str]]:
        """(fingerprint, applied by, applied at) of every version of a name, oldest first."""
        if not self.path.exists():
            return []
        with self._connect() as connection:
            return connection.execute(
                "SELECT fingerprint, applied_by, applied_at FROM versions "
                "WHERE kind = ? AND name = ? ORDER BY applied_at",
                (kind, name),
            ).fetchall()

    def names(self, kind: str) -> list[str]:
        """Every name that had a version of this kind."""
        if not self.path.exists():
            return []
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT DISTINCT name FROM versions WHERE kind = ? ORDER BY name", (kind,)
            ).fetchall()
        return [name for (name,) in rows]

    def definition(self, kind: str, name: str, fingerprint: str) -> View | Service:
        """A version as it was compiled. RegistryError where there is none."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT definition FROM versions WHERE kind = ? AND name = ? AND fingerprint = ?",
                (kind, name, fingerprint),
            ).fetchall()
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
                f"the registry {self.path} is damaged: version {fingerprint} of {kind} {name!r} is "
                f"not what was applied: {error}"
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
        if not self.path.exists():
            return []
        with self._connect() as connection:
            adopted = json.loads(_fact(connection, "adopted") or "[]")
            rows = connection.execute("SELECT fingerprint FROM versions WHERE kind = 'service'")
            return [f for (f,) in rows.fetchall() if f not in adopted]

    def next_sequence(self, now_us: int) -> int:
        """A number for what is signed now: this instant's microseconds, and always above the number
        before, wherever the clock has gone meanwhile."""
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            number = max(now_us, int(_fact(connection, "sequence") or "-1") + 1)
            _set_fact(connection, "sequence", str(number))
        return number

    # --- whose it is, and its copy ----------------------------------------------------------------

    def known(self) -> Holds | None:
        """What the registry is known by; None where it has no file, or an empty one."""
        if not self.path.exists():
            return None
        with self._connect() as connection:
            id_ = _fact(connection, "id")
            counts = [
                connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
                for table in ("changes", "forgotten", "versions")
            ]
        return None if id_ is None and not any(counts) else Holds(id_, counts[0], counts[1])

    def make_id(self) -> None:
        """Give the registry a random id, unless it has one."""
        with self._connect() as connection:
            if _fact(connection, "id") is None:
                connection.execute(
                    "INSERT OR IGNORE INTO facts VALUES ('id', ?)", (secrets.token_hex(16),)
                )

    def written(self, kind: str, name: str, fingerprint: str) -> str | None:
        """The text of a version's definition; None where there is none."""
        if not self.path.exists():
            return None
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT definition FROM versions WHERE kind = ? AND name = ? AND fingerprint = ?",
                (kind, name, fingerprint),
            ).fetchall()
        return rows[0][0] if rows else None

    def dump(self) -> Record:
        """The registry's tables."""
        with self._connect() as connection:
            connection.execute("BEGIN")
            return Record(*(connection.execute(sql).fetchall() for sql in _DUMP))

    def rebuild(
        self, record: Record, definitions: Mapping[Known, str], id_: str | None
    ) -> Path | None:
        """Make the registry's file anew from a record, and from the versions whose definitions are
        there. Returns where the file lies now that was there before; None where there was none."""
        mine = set(self._applied_here())
        adopted = [f for kind, _, f in definitions if kind == "service" and f not in mine]
        make_folder(self.path.parent)
        kept = None
        with whole(self.path) as hidden:
            with Registry(hidden)._connect() as connection:
                _fill(connection, record, definitions)
                _set_fact(connection, "adopted", json.dumps(adopted))
                if id_ is not None:
                    _set_fact(connection, "id", id_)
            if self.path.exists():
                kept = self.path.with_name(f"{self.path.name}.before-{time.time_ns()}")
                self.path.rename(kept)
        return kept

    def history(self, kind: str, name: str) -> list[str]:
        """The fingerprints that were in force under a name, one after another, oldest first."""
        if not self.path.exists():
            return []
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT fingerprint FROM changes WHERE kind = ? AND name = ? "
                "AND action IN ('add', 'change', 'rollback') ORDER BY id",
                (kind, name),
            ).fetchall()
        return [fingerprint for (fingerprint,) in rows]

    def roll_back(self, kind: str, name: str, fingerprint: str) -> None:
        """Record that an older version is in force again; then `plan` shows how the repo differs
        from it."""
        who, when = user(), dt.datetime.now(dt.UTC).isoformat()
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            about = connection.execute(
                "SELECT about FROM current WHERE kind = ? AND name = ?", (kind, name)
            ).fetchall()
            connection.execute(
                "INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)",
                (kind, name, fingerprint, about[0][0] if about else "{}"),
            )
            connection.execute(
                "INSERT INTO changes (action, kind, name, fingerprint, applied_by, applied_at) "
                "VALUES ('rollback', ?, ?, ?, ?, ?)",
                (kind, name, fingerprint, who, when),
            )

    def fills(self, store: str) -> dict[str, int]:
        """How often each version of a view was filled in a store. Lookups ask this, so it only
        reads, and a registry that cannot be read knows of no fill: who writes it says so."""
        try:
            with closing(
                sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
            ) as connection:
                sql = "SELECT version, number FROM fills WHERE store = ?"
                return dict(connection.execute(sql, (store,)).fetchall())
        except sqlite3.Error:
            return {}

    def filled(self, store: str, version: str, number: int) -> None:
        """Record that a version of a view was filled in a store for the `number`-th time."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO fills VALUES (?, ?, ?)", (store, version, number)
            )

    def forget(self, tombstone: Tombstone) -> int:
        """Record that an entity is forgotten; returns the number of the record."""
        keys = json.dumps({name: type_.name for name, type_ in tombstone.keys})
        who, when = user(), dt.datetime.now(dt.UTC).isoformat()
        with self._connect() as connection:
            done = connection.execute(
                "INSERT INTO forgotten (entity, keys, digest, secret, until, applied_by, "
                "applied_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    tombstone.entity,
                    keys,
                    tombstone.digest,
                    tombstone.secret,
                    tombstone.until,
                    who,
                    when,
                ),
            )
            assert done.lastrowid is not None
            _sum_up(connection)
            return done.lastrowid

    def forgot(self, number: int, removed: Mapping[str, int]) -> None:
        """Record how much a forgetting removed."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE forgotten SET removed = ? WHERE id = ?", (json.dumps(removed), number)
            )

    def tombstones(self) -> list[Tombstone]:
        """Every entity that is forgotten, in the order of the records."""
        with self._reading:
            try:
                found = _forgotten(self._reader())
            except FileNotFoundError:
                return []
            except sqlite3.Error as error:
                if _is_held(error):
                    raise _unusable(self.path, error) from None
                self._kept = found = None
        if found is None:  # no such table yet, or an unreadable file, which this reports
            with self._connect() as connection:
                found = _forgotten(connection)
        rows, sums = found
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
                f"the registry {self.path} is damaged: record {number} of who was forgotten is not "
                f"as it was written ({error}), and whoever it names would come back. Move the file "
                "away and run `featurekit adopt`, which rebuilds it from the online store, or put "
                "a copy of it back"
            ) from None
        return Tombstone(entity, types, digest, secret, until, who, when, counts)

    def _reader(self) -> sqlite3.Connection:
        """A connection that stays open, for the question that every push asks: to open one takes
        ten times as long as the query. A forked process, or a new file at this path, gets a new
        connection."""
        found = self.path.stat()
        file = os.getpid(), found.st_dev, found.st_ino
        if self._kept is None or self._kept[0] != file:
            connection = sqlite3.connect(self.path, timeout=WAIT_S, check_same_thread=False)
            weakref.finalize(self, connection.close)
            self._kept = file, connection
        return self._kept[1]


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables that are not there yet, in one transaction: the disk is waited for at the
    end of each."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if not there.issuperset(_TABLES):
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")


def _forgotten(connection: sqlite3.Connection) -> tuple[list[Any], dict[int, int]]:
    """The rows of who was forgotten, and the checksums that are kept, by the numbers of the
    rows."""
    rows = connection.execute(f"SELECT id, {_FORGOTTEN} FROM forgotten ORDER BY id").fetchall()
    if not rows:  # every push asks, and mostly nobody is forgotten
        return [], {}
    try:
        sums = connection.execute("SELECT id, sum FROM forgotten_sums").fetchall()
    except sqlite3.OperationalError:  # an older release made the file, and nobody wrote since
        sums = []
    return rows, dict(sums)


def _sum(row: Sequence[Any]) -> int:
    """The CRC-32 of what a tombstone does: entity, keys, digest, secret, until."""
    return zlib.crc32(json.dumps(list(row[:5])).encode())


def _sum_up(connection: sqlite3.Connection) -> None:
    """Keep a checksum of each tombstone that has none."""
    rows, sums = _forgotten(connection)
    new = [(number, _sum(row)) for number, *row in rows if number not in sums]
    connection.executemany("INSERT INTO forgotten_sums VALUES (?, ?)", new)


def _fill(connection: sqlite3.Connection, record: Record, definitions: Mapping[Known, str]) -> None:
    """Fill empty tables from a record."""
    for kind, name, fingerprint, *about in record.versions:
        text = definitions.get((kind, name, fingerprint))
        if text is not None:
            row = (kind, name, fingerprint, text, *about)
            connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)", row)
    current = [row for row in record.current if row[:3] in definitions]
    for table, rows in (
        ("current", current),
        (f"changes ({_CHANGES})", record.changes),
        (f"forgotten ({_FORGOTTEN})", record.forgotten),
    ):
        for values in rows:
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)
    _sum_up(connection)


def _fact(connection: sqlite3.Connection, name: str) -> str | None:
    rows = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchall()
    return rows[0][0] if rows else None


def _set_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


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


def _changed(kind: str, old: View | Service, new: View | Service) -> Change:
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
        reasons(old, new),
        broken,
        features_of(new),
    )
