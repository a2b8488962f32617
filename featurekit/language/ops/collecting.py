"""Operators behind local sets, local dicts of counts and `key=`: Python computes all of them.

A set is held as the list of its elements, each once, in the order in which they came. Nothing in
the language tells that order. No set and no dict has floats, whose NaN Python finds by identity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    dict_of,
    list_of,
)
from featurekit.language.ops.table import NAMESPACE, Op, register


def _order(keys: Sequence[Any], *, reverse: bool) -> list[int]:
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)


def _first(extreme: Any, keys: Sequence[Any]) -> int:
    made: int = extreme(range(len(keys)), key=keys.__getitem__)
    return made


def _put(counts: dict[Any, int], key: Any, n: int) -> dict[Any, int]:
    return {**counts, key: n}


def _most(counts: dict[Any, int], n: int) -> list[tuple[Any, int]]:
    return Counter(counts).most_common(n)


def _apart(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    alone = [v for v in one if v not in other] + [v for v in other if v not in one]
    return list(dict.fromkeys(alone))


def _counted(values: Sequence[Any]) -> dict[Any, int]:
    return dict(Counter(values))


NAMESPACE |= {
    "order": _order,
    "first_of": _first,
    "put": _put,
    "most": _most,
    "counted": _counted,
    "apart": _apart,
}


def _by_key(key: Type) -> tuple[Op, ...]:
    """The places of a list's elements in the order of their keys, and that of the first extreme."""
    keys = list_of(key)
    return (
        Op("order", (keys,), list_of(INT), "order({0}, reverse=False)"),
        Op("order.reverse", (keys,), list_of(INT), "order({0}, reverse=True)"),
        Op("place.min", (keys,), INT, "first_of(min, {0})", raises=True),
        Op("place.max", (keys,), INT, "first_of(max, {0})", raises=True),
    )


def _take(item: Type) -> Op:
    places = list_of(INT)
    return Op(
        "take",
        (list_of(item), places),
        list_of(item),
        "[{0}[i] for i in {1}]",
        raises=True,
    )


def _of_set(item: Type) -> tuple[Op, ...]:
    values = list_of(item)
    two = (values, values)
    return (
        Op("set.of", (values,), values, "list(dict.fromkeys({0}))"),
        Op("set.add", (values, item), values, "list(dict.fromkeys([*{0}, {1}]))"),
        Op("set.discard", (values, item), values, "[v for v in {0} if v != {1}]"),
        Op("set.&", two, values, "[v for v in {0} if v in set({1})]"),
        Op("set.|", two, values, "list(dict.fromkeys([*{0}, *{1}]))"),
        Op("set.-", two, values, "[v for v in {0} if v not in set({1})]"),
        Op(
            "set.^",
            two,
            values,
            "apart({0}, {1})",
        ),
    )


def _of_counts(key: Type) -> tuple[Op, ...]:
    counts, keys = dict_of(key), list_of(key)
    return (
        Op("counts.of", (keys, list_of(INT)), counts, "dict(zip({0}, {1}))"),
        Op("counts.put", (counts, key, INT), counts, "put({0}, {1}, {2})"),
        Op("counts.counted", (keys,), counts, "counted({0})"),
        Op("counts.most.keys", (counts, INT), keys, "[k for k, _ in most({0}, {1})]"),
        Op("counts.most.values", (counts, INT), list_of(INT), "[n for _, n in most({0}, {1})]"),
        Op("counts.min", (counts,), key, "(lambda d: min(d, key=d.get))({0})", raises=True),
        Op("counts.max", (counts,), key, "(lambda d: max(d, key=d.get))({0})", raises=True),
    )


_EXACT = (BOOL, INT, STR, BYTES, DATETIME, DATE, TIMEDELTA)

register(
    *(row for key in (*_EXACT, FLOAT) for row in _by_key(key)),
    *(_take(item) for item in (*_EXACT, FLOAT)),
    *(row for item in _EXACT for row in _of_set(item)),
    *(row for item in _EXACT for row in _of_counts(item)),
)
