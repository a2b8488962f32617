"""What is waited for is given back, or said not to hold."""

from __future__ import annotations

import pytest

from featurekit.core.waiting import until


def test_the_first_answer_that_holds_is_given_back() -> None:
    answers = iter([1, 2, 3, 4])
    assert until(lambda: next(answers), holds=lambda n: n > 2, within_s=10, every_s=0) == 3


def test_an_answer_that_holds_at_once_is_not_asked_for_again() -> None:
    answers = iter([True])
    assert until(lambda: next(answers), within_s=0, every_s=60)


def test_without_words_the_last_answer_comes_back() -> None:
    assert until(lambda: 0, within_s=0.01, every_s=0.001) == 0


def test_what_did_not_hold_in_time_is_said() -> None:
    with pytest.raises(TimeoutError, match="found 7"):
        until(
            lambda: 7,
            holds=lambda n: n == 8,
            within_s=0.01,
            every_s=0.001,
            or_say=lambda n: TimeoutError(f"found {n}"),
        )
