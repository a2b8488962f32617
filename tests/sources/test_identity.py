"""The hash of a file's content is taken once for as long as the file's times can tell a change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

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
