"""Every history of a few events: how many there are, what a slice of them shows, and that a fault
is found which no history of three events shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from featurekit.aggregates import BY_NAME
from featurekit.cli import main
from featurekit.define.plan import Feature
from featurekit.errors import ConfigError, FeaturekitError
from featurekit.online.lookup import answer
from featurekit.parity.modes.exhaust import exhaust as mode
from featurekit.parity.modes.exhaust.exhaust import exhaust
from featurekit.parity.modes.exhaust.forms import FORMS, Space, spaces
from featurekit.parity.modes.exhaust.histories import INSTANTS, MOST, Histories
from featurekit.parity.modes.exhaust.play import play

EVERY = spaces(MOST)
_SLICE = 10
"""About so many histories of each space are played here, nearly all of four events."""


@pytest.mark.parametrize("kinds", range(1, 6))
@pytest.mark.parametrize("most", range(MOST + 1))
def test_histories_are_as_many_as_the_closed_form_says(kinds: int, most: int) -> None:
    histories = Histories(kinds, most)
    listed = [events for _, events in histories.part(0, 1)]
    assert len(listed) == histories.number == histories.closed_form
    assert len(set(listed)) == len(listed)
    assert all(len(events) <= most and set(events) <= set(range(kinds)) for events in listed)


def test_shards_deal_out_every_history_once() -> None:
    histories = Histories(4, 3)
    shards = [list(histories.part(shard, 7)) for shard in range(7)]
    assert sorted(one for shard in shards for one in shard) == list(histories.part(0, 1))
    assert {len(shard) for shard in shards} <= {histories.number // 7, histories.number // 7 + 1}


def test_every_aggregate_and_every_form_has_a_space() -> None:
    features = {f.aggregate for space in EVERY for view in _views(space) for f in view.features}
    assert features - {None} == set(BY_NAME)
    assert {space.form.name for space in EVERY} == {form.name for form in FORMS}


@pytest.mark.parametrize("space", EVERY, ids=lambda space: space.name)
def test_between_two_edges_no_other_event_counts(space: Space) -> None:
    (view,) = _views(space)
    for feature in view.features if view.kind == "window" else ():
        for before, after in pairwise(space.edges):
            between = (before, (before + after) // 2, after)
            counted = {_counted(feature, t) for t in between}
            assert len(counted) == 1 or after - before == 1, feature.name


def _counted(feature: Feature, t: int) -> tuple[int, ...]:
    """Which instants of events, if each has one, lie in the window, and in its rows or session."""
    low, high = feature.bounds(t)
    within = [at for at in INSTANTS if low < at <= high]
    if feature.cuts:
        assert feature.frame is not None
        within = within[feature.frame.first(within, t) :]
    return tuple(within)


@pytest.mark.parametrize("space", EVERY, ids=lambda space: space.name)
def test_a_slice_of_the_histories_agrees(space: Space) -> None:
    found = play(space, 5, space.histories.number // _SLICE)
    assert found.histories in (_SLICE, _SLICE + 1)
    assert sum(found.compared.values()) > 3 * found.questions
    assert not found.differences
    assert not any(found.differing.values())


def test_a_fault_that_four_events_show_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = answer.inputs

    def forgets_the_fourth(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        return found[:3] if isinstance(found, Sequence) and len(found) == 4 else found

    monkeypatch.setattr(answer, "inputs", forgets_the_fourth)
    only = "lifetime, int: CountDistinct"
    (three,) = exhaust(events=3, only=only, workers=1)
    assert three.whole
    assert three.histories == (15**4 - 1) // 14
    assert not three.report.differing
    (four,) = exhaust(events=4, only=only, workers=1, part=(1, 80))
    assert not four.whole
    assert four.report.differing
    events = four.report.differences[0].scenario.deliveries
    assert len(events) == 4
    assert four.report.differences[0].diagnosis is not None


def test_what_agreed_is_kept_and_not_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, only = tmp_path / "kept.jsonl", "rows, bool: LastN"
    (whole,) = exhaust(events=3, only=only, workers=1, resume=kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) > 1
    kept.write_bytes(lines[0] + lines[1][:40])  # as one who is killed leaves it
    played = []
    monkeypatch.setattr(mode, "play", lambda *task: played.append(task[1]) or play(*task))
    (again,) = exhaust(events=3, only=only, workers=1, resume=kept)
    assert len(played) == len(lines) - 1
    assert json.loads(lines[0])["shard"] not in played
    assert again.whole
    assert again.to_dict() == whole.to_dict()
    assert sorted(kept.read_bytes().splitlines(keepends=True)) == sorted(lines)
    played.clear()
    exhaust(events=3, only=only, workers=1, resume=kept)
    assert not played
    monkeypatch.setattr(mode, "_program", lambda: "another")  # whose shards tell nothing of it
    exhaust(events=3, only=only, workers=1, resume=kept)
    assert len(played) == len(lines)


def test_what_differed_is_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, only = tmp_path / "kept.jsonl", "lifetime, bool: CountDistinct"
    with monkeypatch.context() as planted:
        planted.setattr(answer, "inputs", lambda *args, **options: [])
        (found,) = exhaust(events=2, only=only, workers=1, resume=kept)
    assert found.report.differing
    assert not kept.exists()


def test_processes_and_parts_together_are_the_whole(tmp_path: Path) -> None:
    only, kept = "running day, bool: Any", tmp_path / "kept.jsonl"
    (whole,) = exhaust(events=3, only=only, workers=2)
    parts = [exhaust(events=3, only=only, workers=1, part=(i, 3), resume=kept) for i in (1, 2, 3)]
    assert sum(part.histories for (part,) in parts) == whole.histories == whole.total == 820
    assert sum(p.report.compared for (p,) in parts) == whole.report.compared
    (again,) = exhaust(events=3, only=only, workers=1, resume=kept)
    assert again.report.compared == whole.report.compared


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "events.jsonl"
    other.write_text('{"user": 1}\n')
    with pytest.raises(ConfigError, match=r"events\.jsonl, line 1: this is no shard"):
        exhaust(events=1, only="hop, int: Sum", resume=other)
    assert other.read_text() == '{"user": 1}\n'


def test_a_name_of_nothing_is_an_error() -> None:
    with pytest.raises(FeaturekitError, match="'hopp'"):
        exhaust(events=1, only="hopp")


def test_the_verb_tells_what_was_played(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["parity", "exhaust", "--events", "1", "--only", "session, bool: Count"]
    assert main([*asked, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "(9^2 - 1) / 8" in said
    assert "every history of 1 form," in said
    assert main([*asked, "--workers", "1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["spaces"]
    assert told["whole"] is True
    assert told["histories"] == told["all_histories"] == 10


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["--events", "5"], 64, r"'5' is no number of events from 1 to 4"),
        (["--shard", "0/3"], 64, r"'0/3' is no part"),
        (["--shard", "4/3"], 64, r"'4/3' is no part"),
        (["--shard", "9/99", "--events", "1", "--only", "hop, int: Sum"], 2, "has no history"),
        (["--resume", "/nowhere/at/all.jsonl"], 2, "--resume"),
    ],
)
def test_what_cannot_be_played_is_told(
    given: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ended = main(["parity", "exhaust", *given])
    except SystemExit as stopped:
        ended = int(str(stopped.code))
    assert ended == code
    assert re.search(said, capsys.readouterr().err)


def _views(space: Space) -> Any:
    assert space.service is not None
    return space.service.views
