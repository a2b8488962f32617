"""Keeps a few idle DuckDB instances, so that the next piece of work need not start one.

To start an instance, make its functions and end it takes some 25 ms of CPU, which is most of a
small request. A session is a connection of its own to an instance that nobody else uses: what a
piece of work registers, makes as TEMP or sets for itself ends with that connection. What would stay
in the instance makes it unfit to be used again, and it is closed, as it is whenever there is doubt.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_IDLE = 2
"""How many instances a process keeps while nobody uses them."""
_LEAVES_NOTHING = (
    "SELECT", "FROM", "WITH", "(", "DESCRIBE", "CREATE TEMP ", "CREATE OR REPLACE TEMP ", "DROP ",
    "INSERT ", "COPY ", "SUMMARIZE",
)  # fmt: skip
"""How statements begin that leave nothing in an instance beyond its connection."""
# Whatever these find is not of a new instance. Memory is asked for alone: a longer statement takes
# some itself, which DuckDB 2.0.0 counts.
_LEFT_BEHIND = (
    "SELECT tag FROM duckdb_memory() WHERE memory_usage_bytes > 0 OR temporary_storage_bytes > 0",
    "SELECT table_name FROM duckdb_tables() UNION ALL "
    "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> 'memory' "
    "UNION ALL SELECT name FROM duckdb_secrets()",
)

_lock = threading.Lock()
_idle: list[Instance] = []


@dataclass(frozen=True, slots=True)
class Instance:
    """A DuckDB instance: its first connection, which made its functions, and what it was made by.

    `key` tells instances apart that were made by other settings, or by another process.
    """

    con: Any
    key: Hashable


class Session:
    """A connection to an instance that nobody else uses, for one piece of work in one thread.

    It has the methods of a DuckDB connection. `close` gives the instance back if it is as good as
    new: nothing was raised, every statement is one that leaves nothing, no function was registered
    (DuckDB frees it with the connection, but still finds its name), nothing was spilled, and no
    table, database, secret or memory is left.
    """

    # What it has read of origins is found by it, and goes with it: `sources/reading.py`.
    __slots__ = ("__weakref__", "_clean", "_con", "_instance", "_settle", "_spill")

    def __init__(self, instance: Instance, spill: Path, settle: str) -> None:
        """`settle` is a statement that gives back memory; `spill` is where its data would spill
        to."""
        self._instance: Instance | None = instance
        self._con = instance.con.cursor()
        self._spill, self._settle, self._clean = spill, settle, True

    def execute(self, query: str, *given: Any, **named: Any) -> Any:
        """As `DuckDBPyConnection.execute`."""
        self._clean = self._clean and query.startswith(_LEAVES_NOTHING)
        return self._con.execute(query, *given, **named)

    def sql(self, query: str, *given: Any, **named: Any) -> Any:
        """As `DuckDBPyConnection.sql`."""
        self._clean = self._clean and query.startswith(_LEAVES_NOTHING)
        return self._con.sql(query, *given, **named)

    def register(self, name: str, frame: Any) -> Any:
        """As `DuckDBPyConnection.register`: a view of this connection alone."""
        return self._con.register(name, frame)

    def unregister(self, name: str) -> Any:
        """As `DuckDBPyConnection.unregister`."""
        return self._con.unregister(name)

    def __getattr__(self, name: str) -> Any:
        # Of any other method it is not known what it leaves.
        self._clean = False
        return getattr(self._con, name)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and keep its instance for the next session if that may be."""
        instance, self._instance = self._instance, None
        if instance is None:
            return
        self._con.close()
        failed = sys.exc_info()[0] is not None
        if failed or not self._clean or self._spill.exists() or not self._as_new(instance):
            instance.con.close()
        else:
            _keep(instance)

    def _as_new(self, instance: Instance) -> bool:
        import duckdb

        try:
            instance.con.execute(self._settle)
            return not any(instance.con.execute(query).fetchall() for query in _LEFT_BEHIND)
        except duckdb.Error:
            return False


def take_instance(key: Hashable, make: Callable[[], Any]) -> Instance:
    """An idle instance that was made by `key` in this process, or a new one that `make` makes."""
    mine = (os.getpid(), key)
    with _lock:
        for at in reversed(range(len(_idle))):
            if _idle[at].key == mine:
                return _idle.pop(at)
    return Instance(make(), mine)


def close_idle() -> None:
    """Close every instance that is not in use."""
    with _lock:
        _close_all()


def _keep(instance: Instance) -> None:
    """Keep an instance; the one that has waited longest makes place for it."""
    with _lock:
        if isinstance(instance.key, tuple) and instance.key[0] == os.getpid():
            _idle.append(instance)
        if len(_idle) > MOST_IDLE:
            _idle.pop(0).con.close()


def _close_all() -> None:
    while _idle:
        _idle.pop().con.close()


def _before_fork() -> None:
    # A child has none of an instance's threads, and waits for them for ever where it closes it.
    _lock.acquire()
    _close_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
    )
atexit.register(close_idle)
