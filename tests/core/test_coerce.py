"""Three rules say which given value is one of a type: one text holds them, and they differ here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from featurekit import Vector
from featurekit.core.coerce import Misfit, asked, canonical, returned
from featurekit.core.types import from_hint

NAIVE = dt.datetime(2011, 3, 27, 1, 30)
AWARE = NAIVE.replace(tzinfo=dt.UTC)
SPAN = dt.timedelta(seconds=1)
NO = object()


def _outcome(rule: Callable[..., Any], value: Any, hint: Any) -> Any:
    zone = {"zone_name": "UTC"} if rule is canonical else {}
    try:
        return rule(value, from_hint(hint), **zone)
    except Misfit:
        return NO


@pytest.mark.parametrize(
    ("hint", "value", "pushed", "asked_for", "given_back"),
    [
        (int, True, NO, NO, 1),
        (int, np.int64(3), 3, 3, 3),
        (int, 2**63, NO, NO, NO),
        (float, True, NO, NO, 1.0),
        (float, 3, 3.0, 3.0, 3.0),
        (float, 2**53, *[float(2**53)] * 3),
        (float, -(2**53), *[-float(2**53)] * 3),
        (float, 2**53 + 1, NO, NO, float(2**53)),
        (float, 2**53 + 2, float(2**53 + 2), float(2**53 + 2), float(2**53 + 2)),
        (str, "a", "a", "a", "a"),
        (str, "\ud800", NO, NO, NO),
        (bytes, bytearray(b"a"), b"a", NO, NO),
        (dt.datetime, NAIVE, AWARE, AWARE, NO),
        (dt.datetime, AWARE, AWARE, AWARE, AWARE),
        (dt.date, NAIVE, NO, NO, NO),
        (dt.timedelta, SPAN, 1_000_000, SPAN, SPAN),
        (list[int], (1, 2), [1, 2], NO, [1, 2]),
        (list[int], [1, "a"], NO, NO, NO),
        (list[int], np.array([1, 2]), NO, [1, 2], NO),
        (Vector[2], [1, 0.1], *[[1.0, 0.10000000149011612]] * 3),
        (Vector[2], [1.0], NO, NO, NO),
        (Vector[1], [1e300], NO, NO, NO),
        (Literal["a", "b"], "a", "a", "a", "a"),
        (Literal["a", "b"], "c", NO, NO, NO),
        (int, None, NO, NO, NO),
        (int | None, None, None, None, None),
    ],
)
def test_each_rule_takes_what_it_says(
    hint: Any, value: Any, pushed: Any, asked_for: Any, given_back: Any
) -> None:
    if hint == list[int] and isinstance(value, np.ndarray):
        with pytest.raises(ValueError, match="size 1"):  # NumPy's own, which is an error as well
            returned(value, from_hint(hint))
    else:
        assert _outcome(returned, value, hint) == given_back
    assert _outcome(canonical, value, hint) == pushed
    assert _outcome(asked, value, hint) == asked_for


@pytest.mark.parametrize(
    ("hint", "value", "asked_for"),
    [
        (dt.datetime, pd.Timestamp(AWARE).tz_convert("Europe/Berlin"), AWARE),
        (dt.datetime, pd.Timestamp(NAIVE), AWARE),
        (dt.datetime, pd.Timestamp(-1, tz="UTC"), dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
        (dt.datetime, np.datetime64(-1, "ns"), dt.datetime(1969, 12, 31, 23, 59, 59, 999999)),
        (dt.datetime, np.datetime64(NAIVE, "us"), AWARE),
        (dt.datetime, pd.NaT, NO),
        (dt.datetime | None, pd.NaT, None),
        (int | None, pd.NA, None),
        (int, pd.NA, NO),
        (dt.timedelta, pd.Timedelta(-1, "ns"), dt.timedelta(microseconds=-1)),
        (dt.timedelta, np.timedelta64(-1, "ns"), dt.timedelta(microseconds=-1)),
        (dt.timedelta, np.timedelta64(1, "s"), SPAN),
        (dt.timedelta | None, pd.NaT, None),
        (dt.date, pd.Timestamp(NAIVE), NO),
        (int, np.timedelta64(1, "ns"), NO),
    ],
)
def test_a_lookup_takes_the_scalars_of_a_frame(hint: Any, value: Any, asked_for: Any) -> None:
    """A list of dicts often comes out of a frame of pandas."""
    found = _outcome(asked, value, hint)
    if isinstance(asked_for, dt.datetime):
        asked_for = asked_for.replace(tzinfo=dt.UTC)
    assert found == asked_for
    assert type(found) is type(asked_for)
