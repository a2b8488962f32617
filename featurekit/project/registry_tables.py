"""The tables of a registry, and what keeps them: a SQLite file, or a schema of a PostgreSQL server.

Both understand the SQL of `featurekit.project.registry`: one text serves both. The tables have a
version: each step here makes them from those of the version before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from featurekit.core.version import VERSION
from featurekit.errors import RegistryError

WAIT_S = 5.0
"""How long a process waits for others that write to the registry, which takes milliseconds."""

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
    id {number}, action TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, fingerprint TEXT NOT NULL, applied_by TEXT NOT NULL,
    applied_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS deprecations (
    id {number}, kind TEXT NOT NULL, name TEXT NOT NULL, said TEXT NOT NULL,
    applied_by TEXT NOT NULL, applied_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (
    id {number}, entity TEXT NOT NULL, keys TEXT NOT NULL,
    digest TEXT NOT NULL, secret TEXT NOT NULL, until {int} NOT NULL,
    applied_by TEXT NOT NULL, applied_at TEXT NOT NULL, removed TEXT
);
CREATE TABLE IF NOT EXISTS forgotten_sums (id {int} PRIMARY KEY, sum {int} NOT NULL);
CREATE TABLE IF NOT EXISTS fills (
    store TEXT NOT NULL, version TEXT NOT NULL, number {int} NOT NULL,
    PRIMARY KEY (store, version)
);
"""
_STEPS = (_SCHEMA,)
"""What makes the tables of version 1, of version 2, and so on. Releases before the versions made
some of the tables of version 1, or all."""
TABLES = frozenset(re.findall(r"TABLE IF NOT EXISTS (\w+)", _SCHEMA))
_VERSION = "schema_version"
"""The fact that says which version the tables have."""
T = TypeVar("T")


class Tables(Protocol):
    """The tables, over a connection. In the SQL, `?` stands for a value."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""

    def do(self, sql: str, *rows: Sequence[Any]) -> None:
        """Run a statement for each row of values, of which an empty one serves a statement without
        values."""

    def has(self, table: str) -> bool:
        """Whether there is a table; an older release may have made the others."""


def is_behind(tables: Tables, place: str, *, write: bool) -> bool:
    """Whether the tables are to be made or brought up to this release's version. To read, those of
    version 1 need not say their version: a reader may not be allowed to write. RegistryError where
    they are of a newer release."""
    found = version_of(tables, place)
    if not all(map(tables.has, TABLES)):
        return True
    return write if found is None else found < len(_STEPS)


def bring_up(tables: Tables, place: str, *, number: str, int_: str) -> None:
    """Make the tables of this release's version, whatever there is; inside of a transaction that
    writes, so that another process has done all of it or nothing. `number` is the type of a key
    that counts by itself, `int_` that of 64 bits."""
    # The first step makes what is not there, whatever there is.
    for step in (_STEPS[0], *_STEPS[version_of(tables, place) or 1 :]):
        for statement in step.format(number=number, int=int_).split(";"):
            if statement.strip():
                tables.do(statement.strip(), ())
    put = "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    tables.do(put, (_VERSION, str(len(_STEPS))))


def version_of(tables: Tables, place: str) -> int | None:
    """The version of the tables; None where they do not say it. RegistryError where it is newer
    than this release knows, or no number."""
    asked = "SELECT value FROM facts WHERE name = ?"
    rows = tables.rows(asked, (_VERSION,)) if tables.has("facts") else []
    if not rows:
        return None
    written = str(rows[0][0])
    if not re.fullmatch(r"[1-9][0-9]{0,8}", written):
        raise RegistryError(
            f"the registry {place} is damaged: its {_VERSION} is {written!r}, which is no number; "
            "put it back from a copy, or move it away and run `featurekit adopt`"
        )
    if int(written) > len(_STEPS):
        raise RegistryError(
            f"the registry {place} has tables of version {written}, and featurekit {VERSION} knows "
            f"them up to version {len(_STEPS)}: a newer release brought it up. Install that "
            "release here, too; nothing was read or written"
        )
    return int(written)


Fill = Callable[[Tables], None]


class Kept(Protocol):
    """What keeps the tables of one project. All of it raises RegistryError, or WriteError where a
    disk is full, which say where the registry is and what to do."""

    @property
    def place(self) -> str:
        """Where it is, for messages; without a password."""

    def exists(self) -> bool:
        """Whether there is something; there may be no row in it."""

    def opened(self, *, write: bool = False) -> AbstractContextManager[Tables]:
        """The tables, made where they were not there, in one transaction. One that writes waits
        for others that do, and is kept whole or not at all."""

    def looked(self, ask: Callable[[Tables], T], none: T, *, make: bool = True) -> T:
        """What `ask`, which only reads, answers over a connection that is kept; `none` where
        nothing exists. For what every push asks. With `make`, tables are made where an older
        release made the others."""

    def made_anew(self, fill: Fill) -> Path | str | None:
        """Make the tables anew, and `fill` them. Returns where they are now that were there before:
        the path of a file, or the name of a schema; None where there were none."""


def only_rows(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows as tuples."""
    return [tuple(row) for row in rows]
