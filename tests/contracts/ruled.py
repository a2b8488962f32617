"""A source of awkward columns, rows of it, and a rule of every kind with its plain meaning."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from featurekit import Between, EventSource, Holds, Length, Matches, NotNull, OneOf, feature
from featurekit.define.contracts.rules import RowRule

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
DAY = dt.date(2024, 5, 1)
SCHEMA: dict[str, Any] = {
    "n": int,
    "q": int,
    "x": float,
    "y": float | None,
    "s": str | None,
    "unit price": int | None,
    "flag": bool | None,
    "day": dt.date | None,
    "seen": dt.datetime | None,
    "tags": list[str] | None,
}
ARROW = {
    "n": pa.int64(), "q": pa.int64(), "x": pa.float64(), "y": pa.float64(), "s": pa.string(),
    "unit price": pa.int64(), "flag": pa.bool_(), "day": pa.date32(),
    "seen": pa.timestamp("us", tz="UTC"), "tags": pa.list_(pa.string()),
    "at": pa.timestamp("us", tz="UTC"),
}  # fmt: skip


@feature
def shares_out(q: int, y: float | None) -> bool | None:
    """It errs at q = 0, and says nothing without y."""
    if y is None:
        return None
    return 10 // q > 2 and y > 0.5


@feature
def divides(q: int, x: float) -> bool:
    """It errs at q = 0, and has no None."""
    return 12 // q >= 3 or x > 0.0


@feature
def long_tags(tags: list[str] | None, s: str | None) -> bool:
    """It calls Python from DuckDB."""
    if tags is None or s is None:
        return True
    return all(t.startswith(s) for t in tags)


Meaning = Callable[[dict[str, Any]], bool | None]


def _of(column: str, test: Callable[[Any], bool]) -> Meaning:
    return lambda row: None if row[column] is None else test(row[column])


def _erring(rule: Any, *columns: str) -> Meaning:
    def meaning(row: dict[str, Any]) -> bool | None:
        try:
            said: bool | None = rule(*(row[c] for c in columns))
        except ZeroDivisionError:
            return False
        return said

    return meaning


RULES: dict[str, tuple[RowRule, Meaning]] = {
    "range": (Between("q", 0, 10), _of("q", lambda v: 0 <= v <= 10)),
    "open range": (Between("x", above=-1, below=1.5), _of("x", lambda v: -1 < v < 1.5)),
    "exact range": (Between("x", high=2**53 + 1), _of("x", lambda v: v <= 2**53 + 1)),
    "floats": (Between("y", 0.0, 1.0), _of("y", lambda v: 0.0 <= v <= 1.0)),
    "spaced name": (Between("unit price", 1), _of("unit price", lambda v: v >= 1)),
    "days": (Between("day", DAY, DAY), _of("day", lambda v: v == DAY)),
    "instants": (Between("seen", below=NOON), _of("seen", lambda v: v < NOON)),
    "choice": (OneOf("s", ["a", "ß", ""]), _of("s", lambda v: v in ("a", "ß", ""))),
    "one choice": (OneOf("flag", [True]), _of("flag", lambda v: v is True)),
    "many choices": (OneOf("q", list(range(0, 60, 2))),
                     _of("q", lambda v: v in range(0, 60, 2))),
    "pattern": (Matches("s", r"[a-z]\d*"), _of("s", lambda v: bool(re.fullmatch(r"[a-z]\d*", v)))),
    "look-ahead": (Matches("s", r"(?=a).", how="match"),
                   _of("s", lambda v: bool(re.match(r"(?=a).", v)))),
    "search": (Matches("s", "1$", how="search"), _of("s", lambda v: bool(re.search("1$", v)))),
    "length": (Length("s", 1, 2), _of("s", lambda v: 1 <= len(v) <= 2)),
    "length of a list": (Length("tags", high=1), _of("tags", lambda v: len(v) <= 1)),
    "not null": (NotNull("y"), lambda row: row["y"] is not None),
    "not null of never null": (NotNull("q"), lambda row: True),
    "feature": (Holds(shares_out), _erring(shares_out, "q", "y")),
    "feature without None": (Holds(divides), _erring(divides, "q", "x")),
    "python": (Holds(long_tags), lambda row: long_tags(row["tags"], row["s"])),
}  # fmt: skip
"""Each kind of rule by a name, with what it says of a row: None where it says nothing."""


def with_severity(kind: str, severity: Any) -> RowRule:
    """The rule of a kind, with this severity."""
    return replace(RULES[kind][0], severity=severity)


def source_of(path: Path, *rules: Any, **options: Any) -> EventSource:
    """The source over a file, with these rules."""
    return EventSource(
        "events", path=str(path), schema=SCHEMA, timestamp_field="at", expect=list(rules), **options
    )


_FLOATS = st.sampled_from(
    [0.0, -0.0, 1.0, 0.5, 1.5, -1.0, math.nan, math.inf, -math.inf, 2.0**53, 2.0**53 + 2, 5e-324]
)
_TEXTS = st.sampled_from(["a", "ß", "", "a1", "a12", "b\n", "1", "A", "١", "ab"])


def _or_none(values: Any) -> Any:
    return st.one_of(st.none(), values)


_ROW = st.fixed_dictionaries(
    {
        "q": st.sampled_from([0, 1, 3, 4, 10, 11, -1, 58, 2**63 - 1, -(2**63)]),
        "x": _FLOATS,
        "y": _or_none(_FLOATS),
        "s": _or_none(_TEXTS),
        "unit price": _or_none(st.integers(-1, 2)),
        "flag": _or_none(st.booleans()),
        "day": _or_none(st.sampled_from([DAY, DAY + dt.timedelta(1), dt.date.min, dt.date.max])),
        "seen": _or_none(st.sampled_from([NOON, NOON - dt.timedelta(microseconds=1)])),
        "tags": _or_none(st.lists(_TEXTS, max_size=3)),
    }
)


@st.composite
def rows(draw: Any, *, most: int = 12) -> list[dict[str, Any]]:
    """Some rows, numbered by `n` from 0."""
    drawn = draw(st.lists(_ROW, min_size=1, max_size=most))
    return [{"n": n, **row, "at": NOON + dt.timedelta(seconds=n)} for n, row in enumerate(drawn)]


def table_of(given: list[dict[str, Any]]) -> pa.Table:
    """The rows as a table, with every column."""
    return pa.table({c: pa.array([row[c] for row in given], t) for c, t in ARROW.items()})


def write(path: Path, given: list[dict[str, Any]]) -> None:
    """The rows as a Parquet file."""
    pq.write_table(table_of(given), path)
