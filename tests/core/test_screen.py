"""Values in documents of JSON that commands print."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import pytest

from featurekit.core.screen import plain


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("tea", "tea"),
        (7, "7"),
        (True, "true"),
        (b"\x00\xff", "00ff"),
        (dt.date(2026, 3, 1), "2026-03-01"),
        (dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), "2026-03-01T12:00:00+00:00"),
        (dt.timedelta(seconds=90), "90.0"),
    ],
)
def test_a_key_of_a_dict_is_written_as_its_value_is(key: Any, text: str) -> None:
    made = plain({key: math.inf})
    assert made == {text: "Infinity"}
    assert json.loads(json.dumps(made)) == made
    value = plain(key)
    assert text in (value, json.dumps(value))
