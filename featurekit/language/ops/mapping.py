"""Operators on the dicts of ValueCounts, from values to how often each was seen.

A dict is ordered by count, then by value. No key is a float, so none is a NaN.
"""

from __future__ import annotations

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    INT,
    STR,
    TIMEDELTA,
    Type,
    dict_of,
    list_of,
)
from featurekit.language.ops.table import Op, register


def _rows(key: Type) -> tuple[Op, ...]:
    counts = dict_of(key)
    return (
        Op("len", (counts,), INT, "len({0})", "cardinality({0})::BIGINT"),
        Op("bool", (counts,), BOOL, "bool({0})", "(cardinality({0}) > 0)"),
        Op("getitem", (counts, key), INT, "{0}[{1}]", "{0}[{1}]", raises=True),
        Op("in", (key, counts), BOOL, "({0} in {1})", "map_contains({1}, {0})"),
        Op(
            "dict.get",
            (counts, key, INT),
            INT,
            "{0}.get({1}, {2})",
            "coalesce({0}[{1}], {2})",
        ),
        Op("dict.keys", (counts,), list_of(key), "list({0})", "map_keys({0})"),
        Op("dict.values", (counts,), list_of(INT), "list({0}.values())", "map_values({0})"),
    )


for _key in (BOOL, INT, STR, BYTES, DATETIME, DATE, TIMEDELTA):
    register(*_rows(_key))
