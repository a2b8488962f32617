"""The registry: every version of every view and service that was ever applied, in a SQLite file.

`plan` compares a repo with it, and `apply` records. Rows are only added; the table `current` says
which version of each name is in force.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featurekit.core.types import Type
from featurekit.define.plan import Service, View
from featurekit.errors import RegistryError
from featurekit.language.wire import from_json, to_json
from featurekit.log.tombstones import Tombstone

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
CREATE TABLE IF NOT EXISTS forgotten (
    id INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, keys TEXT NOT NULL,
    digest TEXT NOT NULL, secret TEXT NOT NULL, until INTEGER NOT NULL,
    applied_by TEXT NOT NULL, applied_at TEXT NOT NULL, removed TEXT
);
CREATE TABLE IF NOT EXISTS fills (
    store TEXT NOT NULL, version TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (store, version)
);
"""

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


@dataclass(frozen=True, slots=True)
class Change:
    """What `apply` would do to one name. `details` lists the features of a changed view that
    differ."""

    action: Action
    kind: str
    name: str
    old: str | None
    new: str | None
    details: tuple[str, ...] = ()


class Registry:
    """The versions of one project, in a SQLite file that is made at the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: tuple[tuple[int, int, int], sqlite3.Connection] | None = None
        self._reading = threading.Lock()

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=30)
        except (sqlite3.Error, OSError) as error:
            raise RegistryError(f"the registry {self.path} cannot be opened: {error}") from None
        try:
            connection.executescript(_SCHEMA)
            with connection:
                yield connection
        except sqlite3.Error as error:
            raise RegistryError(
                f"the registry {self.path} cannot be used: {error}; if it is not a registry, move "
                "it away"
            ) from None
        finally:
            connection.close()

    def plan(self, wanted: Sequence[Definition]) -> list[Change]:
        """The changes that lead from the registry to `wanted`; empty where they agree."""
        if not self.path.exists():
            return [Change("add", d.kind, d.value.name, None, d.value.fingerprint) for d in wanted]
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
                changes.append(Change("add", kind, value.name, None, value.fingerprint))
            elif found[0] != value.fingerprint:
                old = from_json(json.loads(found[2]))
                details = _differences(old, value)
                changes.append(
                    Change("change", kind, value.name, found[0], value.fingerprint, details)
                )
            elif json.loads(found[1]) != definition.about:
                changes.append(Change("describe", kind, value.name, found[0], found[0]))
        for (kind, name), (fingerprint, *_) in sorted(known.items()):
            changes.append(Change("remove", kind, name, fingerprint, None))
        return changes

    def apply(self, wanted: Sequence[Definition]) -> list[Change]:
        """Record `wanted` as the current versions, all or nothing; the changes made."""
        who, when = _who(), dt.datetime.now(dt.UTC).isoformat()
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            changes = self._plan(connection, wanted)
            for definition in wanted:
                value = definition.value
                row = (definition.kind, value.name, value.fingerprint)
                connection.execute(
                    "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?)",
                    (*row, json.dumps(to_json(value)), who, when),
                )
                connection.execute(
                    "INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)",
                    (*row, json.dumps(definition.about)),
                )
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
        value = from_json(json.loads(rows[0][0]))
        assert isinstance(value, (View, Service))
        return value

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
        who, when = _who(), dt.datetime.now(dt.UTC).isoformat()
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
        who, when = _who(), dt.datetime.now(dt.UTC).isoformat()
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
            return done.lastrowid

    def forgot(self, number: int, removed: Mapping[str, int]) -> None:
        """Record how much a forgetting removed."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE forgotten SET removed = ? WHERE id = ?", (json.dumps(removed), number)
            )

    def tombstones(self) -> list[Tombstone]:
        """Every entity that is forgotten, in the order of the records."""
        sql = (
            "SELECT entity, keys, digest, secret, until, applied_by, applied_at, removed "
            "FROM forgotten ORDER BY id"
        )
        with self._reading:
            try:
                rows = self._reader().execute(sql).fetchall()
            except FileNotFoundError:
                return []
            except sqlite3.Error:
                self._kept = None
                rows = None
        if rows is None:  # no such table yet, or an unreadable file, which this reports
            with self._connect() as connection:
                rows = connection.execute(sql).fetchall()
        return [_tombstone(*row) for row in rows]

    def _reader(self) -> sqlite3.Connection:
        """A connection that stays open, for the question that every push asks: to open one takes
        ten times as long as the query. A forked process, or a new file at this path, gets a new
        connection."""
        found = self.path.stat()
        file = os.getpid(), found.st_dev, found.st_ino
        if self._kept is None or self._kept[0] != file:
            connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
            weakref.finalize(self, connection.close)
            self._kept = file, connection
        return self._kept[1]


def _tombstone(
    entity: str,
    keys: str,
    digest: str,
    secret: str,
    until: int,
    who: str,
    when: str,
    removed: str | None,
) -> Tombstone:
    types = tuple((name, Type(type_)) for name, type_ in json.loads(keys).items())
    counts = None if removed is None else json.loads(removed)
    return Tombstone(entity, types, digest, secret, until, who, when, counts)


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "unknown"


def _differences(old: View | Service, new: View | Service) -> tuple[str, ...]:
    """Which features were added, changed and removed, as texts."""

    def features(value: View | Service) -> dict[str, str]:
        if isinstance(value, View):
            return {f.name: f.fingerprint for f in value.features}
        return {o.full_name: o.fingerprint for o in value.outputs}

    before, after = features(old), features(new)
    found = [f"+ {n}" for n in after if n not in before]
    found += [f"~ {n}" for n in after if n in before and before[n] != after[n]]
    found += [f"- {n}" for n in before if n not in after]
    return tuple(found)
