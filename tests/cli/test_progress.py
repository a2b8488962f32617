"""Commands that may take long show on a terminal how far they are, and nothing in a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mistakes import write_repo

from featurekit.cli import main
from featurekit.core.screen import Progress, Screen
from featurekit.online.store.redis import RedisStore

Move = tuple[str, int, int]


@pytest.fixture
def moves(
    tmp_path: Path, redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> list[Move]:
    """What the bars are told, for commands on the shop, which is applied and filled."""
    write_repo(tmp_path)
    labels = "customer_id,basket_value,event_timestamp\n1,3.0,2026-10-04\n2,5.0,2026-10-04\n"
    (tmp_path / "labels.csv").write_text(labels, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    assert main(["apply"]) == main(["materialize"]) == 0
    told: list[Move] = []

    @contextmanager
    def noted(screen: Screen) -> Iterator[Progress]:
        yield lambda what, done, total: told.append((what, done, total))

    monkeypatch.setattr(Screen, "progress", noted)
    return told


COMMANDS = {
    "materialize": ("materialize",),
    "get-historical": ("get-historical", "checkout", "labels.csv"),
    "get-historical to a file": ("get-historical", "checkout", "labels.csv", "-o", "out.parquet"),
    "parity history": ("parity", "history", "--budget", "200"),
    "parity fuzz": ("parity", "fuzz", "--budget", "20000", "--workers", "1"),
    "parity sample": ("parity", "sample", "--budget", "200"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_how_far_it_is(moves: list[Move], name: str) -> None:
    assert main([*COMMANDS[name]]) == 0
    assert moves
    what, done, total = moves[-1]
    assert done > 0
    assert total > 0
    assert [one for one, *_ in moves] == [what] * len(moves)
    counts = [count for _, count, _ in moves]
    assert counts == sorted(counts)


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_bar_is_drawn_on_a_terminal_alone(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := kind())
    monkeypatch.setenv("TERM", "xterm")
    with Screen().progress() as move:
        move("rows", 3, 7)
    assert ("3/7" in shown.getvalue()) is (kind is Terminal)
    assert kind is Terminal or not shown.getvalue()
