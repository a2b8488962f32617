"""A registry that another process holds, or whose file is not one: what is said, and how soon."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from featurekit.errors import RegistryError
from featurekit.project import registry_tables
from featurekit.project.registry import Registry
from featurekit.project.registry_file import RegistryFile


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(registry_tables, "WAIT_S", 0.3)
    found = Registry(RegistryFile(tmp_path / "registry.db"))
    found.make_id()
    assert found.tombstones() == []
    return found


@pytest.fixture
def _held(made: Registry) -> Iterator[None]:
    """As by a process that was stopped in the middle of a write."""
    with closing(sqlite3.connect(made.kept.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


ASKED: dict[str, Callable[[Registry], object]] = {
    "apply": lambda of: of.apply([]),
    "known": lambda of: of.known(),
    "sequence": lambda of: of.next_sequence(1),
    "tombstones": lambda of: of.tombstones(),
    "history": lambda of: of.history("view", "v"),
}


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("ask", ASKED)
def test_a_registry_that_another_process_holds_is_left_where_it_is(
    made: Registry, ask: str
) -> None:
    said = r"held by another process, .* for 0\.3 s; .*`fuser .*registry.db` shows .* leave it wh"
    with pytest.raises(RegistryError, match=said) as told:
        ASKED[ask](made)
    assert "move it away" not in str(told.value)


def test_a_short_write_of_another_process_is_waited_for(
    made: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_tables, "WAIT_S", 30.0)
    other = sqlite3.connect(made.kept.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    ended = threading.Timer(0.1, lambda: other.execute("COMMIT"))
    ended.start()
    assert made.next_sequence(7) == 7
    ended.join()
    other.close()


def test_an_id_that_is_there_takes_no_write(made: Registry) -> None:
    with closing(sqlite3.connect(made.kept.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        made.make_id()


@pytest.mark.parametrize(("bad", "said"), [(b"x" * 4096, "if it is not a registry, move it away")])
def test_a_file_that_is_no_registry_is_told(made: Registry, bad: bytes, said: str) -> None:
    made.kept.path.write_bytes(bad)
    with pytest.raises(RegistryError, match=said):
        made.known()


@pytest.mark.parametrize("lacking", sorted(registry_tables.TABLES))
def test_a_registry_of_an_older_release_gets_the_table_that_it_lacks(
    made: Registry, lacking: str
) -> None:
    with closing(sqlite3.connect(made.kept.path)) as older, older:
        older.execute(f"DROP TABLE {lacking}")
    made.apply([])
    with closing(sqlite3.connect(made.kept.path)) as now:
        there = {name for (name,) in now.execute("SELECT name FROM sqlite_schema")}
    assert there >= registry_tables.TABLES
