"""Long answers of texts let other threads have their turn."""

from __future__ import annotations

import time
from typing import Any

import pytest

from featurekit.aggregates import tallies
from featurekit.aggregates.tallies import Form
from featurekit.core.types import STR


@pytest.mark.parametrize(("texts", "pauses"), [(tallies._PAUSED, 5), (tallies._PAUSED - 1, 0)])
def test_an_answer_of_many_texts_pauses_between_its_steps(
    texts: int, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[Any] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    form = Form("counts", STR)
    found = form.of([b"%d" % i for i in range(texts)] + [b"7"]).ranked()
    assert list(found.items())[:2] == [("7", 2), ("0", 1)]
    assert len(slept) == pauses
    assert all(seconds > 0 for seconds in slept)  # 0 would take the interpreter back at once
