"""Skews of labels, planted one by one: each is seen beside the oracle (T10)."""

from __future__ import annotations

import pytest
from slow import slow_unless

from tests.planted.catch import SKEWS, catch
from tests.planted.labels import compare

OF_LABELS = [name for name, skew in SKEWS.items() if skew.mode == "labels"]
QUICK = (
    "a_label_s_window_begins_at_its_instant",
    "a_label_s_window_ends_a_microsecond_late",
    "what_arrives_after_the_run_s_end_counted_in_labels",
    "a_label_s_settle_ignored",
    "a_label_not_yet_known_given_as_what_was_counted_so_far",
)


def test_without_a_skew_labels_are_what_the_oracle_says() -> None:
    found = compare(seed=7, most=2_000)
    assert found.differing == ""
    assert found.values >= 2_000


@pytest.mark.parametrize("name", slow_unless(lambda name: name in QUICK, OF_LABELS))
def test_a_skew_of_labels_is_seen(name: str) -> None:
    assert catch(SKEWS[name]).values > 0
