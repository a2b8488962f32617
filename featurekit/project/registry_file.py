"""Keeps a registry in a SQLite file, which is made at the first write."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurekit.core.files import whole
from featurekit.core.openness import make_folder, opened
from featurekit.errors import RegistryError, WriteError
from featurekit.project import registry_tables
from featurekit.project.registry_tables import Fill, T, Tables, bring_up, is_behind, version_of


class _Tables:
    """See `registry_tables.Tables`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    def do(self, sql: str, *rows: Sequence[Any]) -> None:
        self.connection.executemany(sql, rows)

    def has(self, table: str) -> bool:
        return table in self.there()

    def there(self) -> set[str]:
        return {name for (name,) in self.rows("SELECT name FROM sqlite_schema")}


class RegistryFile:
    """See `registry_tables.Kept`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: tuple[tuple[int, int, int], _Tables] | None = None
        self._reading = threading.Lock()

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    @contextmanager
    def opened(self, *, write: bool = False) -> Iterator[Tables]:
        """See `Kept.opened`."""
        try:
            make_folder(self.path.parent)
            if not self.path.exists():
                os.close(opened(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))
            connection = sqlite3.connect(
                self.path, timeout=registry_tables.WAIT_S, isolation_level=None
            )
        except (sqlite3.Error, OSError) as error:
            raise RegistryError(f"the registry {self.path} cannot be opened: {error}") from None
        try:
            tables = _Tables(connection)
            _make_tables(tables, self.place, write=write)
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            with connection:
                if write:  # another process may have brought the tables up meanwhile
                    version_of(tables, self.place)
                yield tables
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None
        finally:
            connection.close()

    def looked(self, ask: Callable[[Tables], T], none: T, *, make: bool = True) -> T:
        """See `Kept.looked`."""
        with self._reading:
            try:
                return ask(self._reader())
            except FileNotFoundError:
                return none
            except (sqlite3.Error, OSError) as error:
                self._kept = None
                if not make or isinstance(error, OSError) or _is_held(error):
                    raise _unusable(self.path, error) from None
        with (
            self.opened() as tables
        ):  # no such table yet, or an unreadable file, which this reports
            return ask(tables)

    def made_anew(self, fill: Fill) -> Path | str | None:
        """See `Kept.made_anew`."""
        make_folder(self.path.parent)
        kept = None
        with whole(self.path) as hidden:
            with RegistryFile(hidden).opened(write=True) as tables:
                fill(tables)
            if self.path.exists():
                kept = self.path.with_name(f"{self.path.name}.before-{time.time_ns()}")
                self.path.rename(kept)
        return kept

    def _reader(self) -> _Tables:
        """To open a connection takes ten times as long as the query. A forked process, or a new
        file at this path, gets a new one."""
        found = self.path.stat()
        file = os.getpid(), found.st_dev, found.st_ino
        if self._kept is None or self._kept[0] != file:
            connection = sqlite3.connect(
                self.path, timeout=registry_tables.WAIT_S, check_same_thread=False
            )
            weakref.finalize(self, connection.close)
            tables = _Tables(connection)
            version_of(tables, self.place)
            self._kept = file, tables
        return self._kept[1]


def _make_tables(tables: _Tables, place: str, *, write: bool) -> None:
    """Make the tables that are not there yet, in one transaction: the disk is waited for at the
    end of each."""
    if is_behind(tables, place, write=write):
        with tables.connection:
            tables.connection.execute("BEGIN IMMEDIATE")
            number = "INTEGER PRIMARY KEY AUTOINCREMENT"
            bring_up(tables, place, number=number, int_="INTEGER")


def _is_held(error: Exception) -> bool:
    """Whether another process was writing for as long as this one waited."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _unusable(path: Path, error: Exception) -> RegistryError | WriteError:
    """What an error of SQLite or of the system is called here, and what to do about it."""
    if _is_held(error):
        return RegistryError(
            f"the registry {path} is held by another process, which has been writing to it for "
            f"{registry_tables.WAIT_S:g} s; a write takes milliseconds, so that process may be "
            f"stopped (Ctrl-Z, a debugger) or hang: `fuser {path}` shows it. Let it go on, or end "
            "it, and run this again; the file is as it should be, leave it where it is"
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
