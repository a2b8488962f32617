"""Whole columns are compared as exactly as single values are, by their type and their bits."""

from __future__ import annotations

import datetime as dt
import math
import struct
from typing import Any

import awkward
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.core.types import BOOL, FLOAT, INT, STR, Type, from_hint
from featurekit.parity.compare import bits, differing_statuses, differing_values

OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
HINTS = (bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta, list[float],
         list[str | None])  # fmt: skip


def column(type_: Type, values: list[Any]) -> pa.Array:
    return pa.array(values, type_.arrow)


@pytest.mark.parametrize("hint", HINTS, ids=str)
@given(data=st.data())
def test_those_places_differ_whose_bits_do(hint: Any, data: st.DataObject) -> None:
    type_ = from_hint(hint)
    pool = data.draw(st.lists(awkward.values(hint) | st.none(), min_size=1, max_size=4))
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(pool), st.sampled_from(pool))))
    offline = column(type_, [one for one, _ in pairs])
    online = [other for _, other in pairs]
    kept = offline.to_pylist()  # as the array holds them
    expected = [i for i, (a, b) in enumerate(zip(kept, online, strict=True)) if bits(a) != bits(b)]
    assert differing_values(type_, offline, online) == expected
    assert differing_values(type_, offline, kept) == []


@pytest.mark.parametrize(
    ("type_", "offline", "online"),
    [
        (FLOAT, 0.0, -0.0),
        (FLOAT, 1.0, math.nextafter(1.0, 2.0)),
        (FLOAT, 5e-324, 0.0),
        (FLOAT, math.nan, None),
        (FLOAT, None, 0.0),
        (FLOAT, 1.0, 1),
        (INT, 1, True),
        (INT, 2**53, 2**53 + 1),
        (BOOL, True, 1),
        (STR, "é", "e\u0301"),
        (STR, "", None),
    ],
)
def test_one_value_that_differs_is_found_among_equals(
    type_: Type, offline: Any, online: Any
) -> None:
    made = column(type_, [offline] * 3)
    assert differing_values(type_, made, [offline, online, offline]) == [1]


@pytest.mark.parametrize(("type_", "value"), [(FLOAT, 0.0), (INT, 0), (STR, "")])
def test_as_many_nulls_at_other_places_differ(type_: Type, value: Any) -> None:
    made = column(type_, [None, value, value])
    assert differing_values(type_, made, [value, None, value]) == [0, 1]


def test_every_nan_is_one_whatever_its_bits() -> None:
    assert (
        differing_values(FLOAT, column(FLOAT, [math.nan, OTHER_NAN]), [OTHER_NAN, math.nan]) == []
    )


def test_an_instant_without_its_zone_is_none() -> None:
    type_, at = from_hint(dt.datetime), dt.datetime(2026, 1, 1)
    with_zone = at.replace(tzinfo=dt.UTC)
    assert differing_values(type_, column(type_, [with_zone]), [with_zone]) == []
    assert differing_values(type_, column(type_, [with_zone] * 2), [with_zone, at]) == [1]


def test_statuses_differ_where_their_texts_do() -> None:
    offline = pa.array(["PRESENT", "ERROR", "NOT_FOUND"])
    assert differing_statuses(offline, ["PRESENT", "ERROR", "NOT_FOUND"]) == []
    assert differing_statuses(offline, ["PRESENT", "PRESENT", "ERROR"]) == [1, 2]
