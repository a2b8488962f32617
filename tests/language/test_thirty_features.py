"""The thirty features compile and agree three ways on awkward inputs."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import random
import types as pytypes
import typing
from pathlib import Path
from typing import Any

import pytest
import thirty_features
from three_ways import Table, bits, online, plainly, watched

from featurekit import feature
from featurekit.core.types import Type, from_hint
from featurekit.language.ops.table import EDGES
from featurekit.language.parse import parse

ROWS = 500
HELPERS = ("safe_ratio", "digits_only", "reversed_list")
UTC = dt.UTC
FEATURES = [
    name
    for name, value in vars(thirty_features).items()
    if isinstance(value, pytypes.FunctionType)
    and value.__module__ == "thirty_features"
    and name not in HELPERS
]

TEXTS: dict[str, list[str]] = {
    "email": ["a.b@gmail.com", "x9999@YAHOO.com ", "@x", "none", "a@b@c.org", "ß1@İ.com", "12@34"],
    "user_agent": [
        "Mozilla/5.0 (iPhone; CPU) Version/17.1 Mobile Safari",
        "Mozilla/5.0 (Linux; Android 13; SM) Chrome/120.0",
        "Googlebot/2.1",
        "Firefox/",
        "ANDROID mobile Chrome/99999999999999999999",
    ],
    "card": ["4111111111111111", "4111-11", "", "é11111", "5105 1051"],
    "country": ["GB", "US", "NG", "gb", ""],
    "phone": ["+44 20 7946 0958", "12", "0123456789", "+१२३४५६७"],
    "category": ["grocery", "fuel", "travel", "toys", ""],
    "tier": ["gold", "silver", "bronze"],
    "title": ["BUY NOW!!!", "a nice  chair", " ", "Ünïcode ß", "x!" * 20],
    "url": [
        "https://x.org/a/b/?utm_campaign=Spring&x=1",
        "http://x/?a=1&utm_campaign=",
        "no",
        "ftp://a/b//",
        "x://y?utm_campaign=A#b",
    ],
    "name": ["Anna Lee", " anna lee", "STRASSE", "straße", "", "Bo"],
}
NUMBERS = [
    0.0,
    -0.0,
    1.0,
    0.5,
    50.0,
    99.99,
    -3.5,
    250.0,
    1e6,
    24.0,
    179.9,
    -90.0,
    51.5,
    -0.12,
    1e-9,
]
INTS = [0, 1, 2, 3, 5, 17, 18, 36, 70, -1, 100, 2**62]
MOMENTS = [
    dt.datetime(2024, 3, 31, 0, 59, 59, 999_999, tzinfo=UTC),  # clocks change in London
    dt.datetime(2024, 10, 27, 1, 0, tzinfo=UTC),
    dt.datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    dt.datetime(2019, 12, 31, 23, 59, tzinfo=UTC),
    dt.datetime(2023, 12, 30, 6, 0, 0, 1, tzinfo=UTC),
    dt.datetime(1969, 12, 31, 23, 0, tzinfo=UTC),
]


def one(chance: random.Random, name: str, type_: Type) -> Any:
    if type_.optional and chance.random() < 0.2:
        return None
    if type_.item is not None:
        return [one(chance, name, type_.item) for _ in range(chance.choice((0, 1, 2, 3, 6)))]
    if chance.random() < 0.2:
        return chance.choice(EDGES[type_.base])
    match type_.name:
        case "str":
            kind = next((k for k in TEXTS if k in name), "name")
            return chance.choice(TEXTS[kind])
        case "float":
            return chance.choice(NUMBERS)
        case "int":
            return chance.choice(INTS)
        case "datetime":
            return chance.choice(MOMENTS) + dt.timedelta(hours=chance.randrange(0, 2000))
        case "date":
            return chance.choice(MOMENTS).date() - dt.timedelta(days=chance.randrange(0, 20000))
        case _:
            raise AssertionError(type_)


def columns(function: Any) -> dict[str, tuple[Type, list[Any]]]:
    chance = random.Random(function.__name__)
    hints = typing.get_type_hints(function)
    types = {n: from_hint(hints[n]) for n in inspect.signature(function).parameters}
    return {n: (t, [one(chance, n, t) for _ in range(ROWS)]) for n, t in types.items()}


SPACE = watched(Path(thirty_features.__file__).read_text(encoding="utf-8"))


def _one_field(function: Any, field: str | None, *row: Any) -> Any:
    result = function(*row)
    return result if field is None else getattr(result, field)


@pytest.mark.parametrize("name", FEATURES)
def test_feature_agrees_three_ways(name: str) -> None:
    written = getattr(thirty_features, name)
    table = Table(columns(written))
    made = feature(written)
    for part in [made[f] for f in made.fields] or [made]:
        function = parse(part)
        rows = table.rows(function, range(ROWS))
        called = functools.partial(_one_field, SPACE[name], part.field)
        plain = [plainly(called, row, function.returns) for row in rows]
        both = zip(
            rows, plain, online(function, rows), table.ask(function, range(ROWS)), strict=True
        )
        assert [r for r in both if not bits(r[1]) == bits(r[2]) == bits(r[3])] == []
        assert any(type(value).__name__ != "Err" for value in plain)


def test_there_are_at_least_thirty() -> None:
    assert len(FEATURES) >= 30
