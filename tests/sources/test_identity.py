"""The hash of a file's content is taken once for as long as the file's times can tell a change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from featurekit.errors import SourceError
from featurekit.sources import identity
from featurekit.sources.identity import Identity


def stands_still(monkeypatch: pytest.MonkeyPatch, *, ago_s: float) -> None:
    """Let every file seem last changed so long ago, whatever is written to it."""
    at = time.time_ns() - int(ago_s * 1e9)
    monkeypatch.setattr(identity, "_stat", lambda _: (1, at, at, 2, 3))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("ago_s", "again"), [(0.0, True), (3_600.0, False)])
def test_a_file_is_hashed_again_while_its_clock_may_not_have_moved_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago_s: float, again: bool, kept: bool
) -> None:
    stands_still(monkeypatch, ago_s=ago_s)
    file, state_dir = tmp_path / "events.csv", tmp_path / "state" if kept else None
    file.write_text("1")
    first = Identity.of(file, state_dir)
    file.write_text("2")
    assert (Identity.of(file, state_dir).digest != first.digest) == again


def test_files_that_are_hashed_at_once_are_those_that_are_hashed_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, whichever of them are known; a known one is not read again."""
    files = [tmp_path / f"{n}.csv" for n in range(12)]
    for n, file in enumerate(files):
        file.write_bytes(bytes([n]) * (20_000 * (12 - n)))  # the first ones take longest
    monkeypatch.setattr(identity, "_SETTLED_S", 0.0)
    wanted = [Identity.of(file, None) for file in files]
    identity._SEEN.clear()
    assert Identity.of(files[3], tmp_path / "state") == wanted[3]
    asked: list[Path] = []
    digest = identity._digest
    monkeypatch.setattr(identity, "_digest", lambda path: (asked.append(path), digest(path))[1])
    changed = [*wanted[:3], Identity.of(files[3], tmp_path / "state"), *wanted[4:]]
    asked.clear()
    identity._SEEN.clear()
    assert Identity.of_all(files, tmp_path / "state") == changed
    assert sorted(asked) == sorted({*files} - {files[3]})
    asked.clear()
    assert Identity.of_all(files, tmp_path / "state") == changed
    assert asked == []


def test_a_file_that_cannot_be_read_is_named_among_many(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.csv" for n in range(3)]
    for file in files[:2]:
        file.write_text("1")
    with pytest.raises(SourceError, match=r"2\.csv cannot be read"):
        Identity.of_all(files, None)
    files[2].mkdir()
    with pytest.raises(SourceError, match=r"2\.csv cannot be read"):
        Identity.of_all(files, None)
