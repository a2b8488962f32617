"""The tables of a registry, and what keeps them: a SQLite file, or a schema of a PostgreSQL server.

Both understand the SQL of `featurekit.project.registry`: one text serves both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

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
TABLES = frozenset(re.findall(r"TABLE IF NOT EXISTS (\w+)", _SCHEMA))
T = TypeVar("T")


def statements(*, number: str, int_: str) -> list[str]:
    """What makes the tables that are not there: `number` is the type of a key that counts by
    itself, `int_` that of 64 bits."""
    made = _SCHEMA.format(number=number, int=int_)
    return [statement.strip() for statement in made.split(";") if statement.strip()]


class Tables(Protocol):
    """The tables, over a connection. In the SQL, `?` stands for a value."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""

    def do(self, sql: str, *rows: Sequence[Any]) -> None:
        """Run a statement for each row of values, of which an empty one serves a statement without
        values."""

    def has(self, table: str) -> bool:
        """Whether there is a table; an older release may have made the others."""


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
