"""In a state folder all is for its user alone, or for a group; what is replaced stays as it was."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.core.files import locked, whole, write_whole
from featurekit.core.openness import declare, make_folder
from featurekit.errors import ConfigError

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

user = Entity("user", {"key": int})
events = EventSource("events", path="data/events.parquet", schema={"key": int, "n": int},
                     timestamp_field="at", on_bad_row="quarantine")
view = FeatureView("view", entities=[user], source=events, features={"n": "n"})
service = FeatureService("service", features=[view])
"""
SETTINGS = "project: open\nprovider: local\nonline_store:\n  type: redis\n"
AT = pa.array([0], pa.timestamp("us", tz="UTC"))


def another_group() -> grp.struct_group:
    """A group that new files of this process do not have anyway, where it may give them one."""
    mine = os.getegid()
    given = [g.gr_gid for g in grp.getgrall()] if os.geteuid() == 0 else os.getgroups()
    return grp.getgrgid(next((g for g in given if g != mine), mine))


GROUP = another_group()


@pytest.fixture(autouse=True)
def _everybody() -> Any:
    """The umask of a careless user, under which everything is made open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def used(folder: Path) -> dict[str, Path]:
    """Everything in the state folder, once each part of it was used."""
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        row = {"key": 1, "n": 5, "at": AT[0].as_py()}
        store.push("events", row)
        store.push("events", [row] * 3 + [{**row, "n": "x"}])
        store.forget("user", {"key": 2})
        store.get_historical_features(
            [{"key": 1, "event_timestamp": row["at"]}], "service"
        ).to_arrow()
        state = store.state_dir
        every = [state, *state.rglob("*")]
        assert {p.name for p in every} >= {
            "registry.db",
            "forget.key",
            "redis",
            "log",
            "quarantine",
        }
        return {str(p.relative_to(state.parent)): p for p in every if not p.is_socket()}


def test_a_state_folder_is_for_its_user_alone(make_repo: Callable[..., Path]) -> None:
    folder = make_repo(MODULE, {"events": {"key": [1], "n": [3], "at": AT}}, SETTINGS)
    for name, path in used(folder).items():
        assert mode(path) == (0o700 if path.is_dir() else 0o600), name


def test_a_state_folder_is_for_a_group_where_one_is_named(make_repo: Callable[..., Path]) -> None:
    settings = f"{SETTINGS}featurekit:\n  group: {GROUP.gr_name}\n"
    folder = make_repo(MODULE, {"events": {"key": [1], "n": [3], "at": AT}}, settings)
    found = used(folder)
    for name, path in found.items():
        assert mode(path) == (0o2770 if path.is_dir() else 0o660), name
        assert path.stat().st_gid == GROUP.gr_gid, name


def test_a_folder_that_was_left_open_is_closed(make_repo: Callable[..., Path]) -> None:
    folder = make_repo(MODULE, {"events": {"key": [1], "n": [3], "at": AT}}, SETTINGS)
    (folder / ".featurekit").mkdir(mode=0o755)
    FeatureStore(folder).close()
    assert mode(folder / ".featurekit") == 0o700


def test_a_folder_that_was_shared_by_hand_stays_so(make_repo: Callable[..., Path]) -> None:
    folder = make_repo(MODULE, {"events": {"key": [1], "n": [3], "at": AT}}, SETTINGS)
    shared = folder / ".featurekit"
    shared.mkdir()
    shared.chmod(0o2770)
    FeatureStore(folder).close()
    assert mode(shared) == 0o2770


def test_the_repo_itself_is_never_closed(make_repo: Callable[..., Path]) -> None:
    settings = f"{SETTINGS}featurekit:\n  state_dir: .\n"
    folder = make_repo(MODULE, {"events": {"key": [1], "n": [3], "at": AT}}, settings)
    folder.chmod(0o755)
    FeatureStore(folder).close()
    assert mode(folder) == 0o755


def test_a_group_that_is_not_there_is_told(make_repo: Callable[..., Path]) -> None:
    settings = f"{SETTINGS}featurekit:\n  group: nobody_has_this\n"
    folder = make_repo(MODULE, {}, settings)
    with pytest.raises(ConfigError, match="no such group"):
        FeatureStore(folder)


@pytest.mark.parametrize("before", [0o640, 0o664, 0o600, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode_and_its_group(tmp_path: Path, before: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(before)
    os.chown(path, -1, GROUP.gr_gid)
    for write in (lambda: write_whole(path, b"new"), lambda: _whole(path)):
        write()
        assert (mode(path), path.stat().st_gid, path.read_bytes()) == (before, GROUP.gr_gid, b"new")


def _whole(path: Path) -> None:
    with whole(path) as hidden:
        hidden.write_bytes(b"new")


def test_a_new_file_elsewhere_is_as_the_umask_says(tmp_path: Path) -> None:
    os.umask(0o027)
    write_whole(tmp_path / "a", b"x")
    _whole(tmp_path / "b")
    with locked(tmp_path / "c"):
        pass
    make_folder(tmp_path / "d" / "e")
    assert [mode(tmp_path / n) for n in ("a", "b", "c", "d", "d/e")] == [
        0o640, 0o640, 0o640, 0o750, 0o750,
    ]  # fmt: skip


def test_a_secret_is_never_open_not_even_while_it_is_written(tmp_path: Path) -> None:
    declare(tmp_path / "state", None)
    make_folder(tmp_path / "state")
    write_whole(tmp_path / "state" / "key", b"x", mode=0o600)
    write_whole(tmp_path / "elsewhere", b"x", mode=0o600)
    assert mode(tmp_path / "state" / "key") == mode(tmp_path / "elsewhere") == 0o600
