"""A file is there whole or not at all; a lock is one process's."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featurekit.core import files
from featurekit.core.files import held_folder, locked, sync_folder, whole, write_named, write_whole
from featurekit.errors import ConfigError, OnlineError, WriteError

DAY_S = 86_400


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    write_whole(path, memoryview(b"new"), durable=True)
    assert path.read_bytes() == b"new"
    with whole(path) as hidden:
        hidden.write_bytes(b"newest")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newest"
    assert names(tmp_path) == {"a.txt"}


def test_what_is_being_written_is_hidden(tmp_path: Path) -> None:
    with whole(tmp_path / "a.parquet") as hidden:
        hidden.write_bytes(b"half")
        assert list(tmp_path.glob("[!.]*")) == []
        assert hidden.name.startswith(".a.parquet.")
        assert hidden.suffix == ".writing"


def test_what_raises_leaves_what_was_there_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_whole(path, b"old")

    def fail(hidden: Path) -> None:
        hidden.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), whole(path) as hidden:
        fail(hidden)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="/a cannot be written: the disk is full"):
        write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"a"}


def test_only_a_durable_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    write_whole(tmp_path / "a", b"12345")
    assert synced == []
    write_whole(tmp_path / "a", b"12345", durable=True)
    assert synced == [5]
    sync_folder(str(tmp_path))
    assert len(synced) == 2


def test_a_file_that_is_there_may_be_left(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_whole(path, b"first", replace=False, mode=0o600)
    write_whole(path, b"second", replace=False, mode=0o600)
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == {"key"}


def test_what_a_dead_writer_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    left = {name: tmp_path / name for name in (".a.1.writing", ".a.2.writing", ".b.1.writing")}
    for path in left.values():
        path.write_bytes(b"half")
    old = time.time() - 2 * DAY_S
    for name in (".a.1.writing", ".b.1.writing"):
        os.utime(left[name], (old, old))
    with whole(tmp_path / "a") as hidden:
        hidden.write_bytes(b"a")
    assert names(tmp_path) == {"a", ".a.2.writing", ".b.1.writing"}


def test_a_file_that_an_option_names_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        write_named(tmp_path, b"", "--junit")
    with pytest.raises(ConfigError, match="there is no folder"):
        write_named(tmp_path / "no" / "a", b"", "--junit")


def test_a_lock_is_one_s_until_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as mine:
        assert mine is not None
        with locked(path) as other:
            assert other is None
        begun = time.monotonic()
        with locked(path, wait_s=0.05) as other:
            assert other is None
        assert time.monotonic() - begun >= 0.05
    with locked(path, wait_s=60.0) as mine:
        assert mine is not None


def test_a_process_that_is_given_the_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path) as mine:
        assert mine is not None
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[mine]
        )
    with locked(path) as other:
        assert other is None
    process.communicate(b"\n")
    with locked(path) as other:
        assert other is not None


def test_a_folder_that_is_held_for_long_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PATIENCE_S", 0.05)
    folder = tmp_path / "new" / "outcomes"
    with held_folder(folder) as held:
        assert held == folder
        with (
            pytest.raises(OnlineError, match=r"working on .*outcomes for .*end it"),
            held_folder(folder),
        ):
            raise AssertionError("two hold it")
    with held_folder(folder):
        pass
