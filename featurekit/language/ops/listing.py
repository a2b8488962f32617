"""Operators on lists, a row for each type of element; the sums of floats are exact (A1, A2).

DuckDB computes rows for types that it orders and compares as Python does. Python computes those for
floats, where NaN and the zeros differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from featurekit.core.roots import signed_root
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
    list_of,
)
from featurekit.core.values import Beyond
from featurekit.language.ops.table import NAMESPACE, Op, register


def exact_sum(values: Iterable[float]) -> float:
    """The exact sum, rounded once. A sum of zero is +0.0, both infinities give NaN, and a sum
    outside doubles is an error."""
    values = list(values)
    if not all(map(math.isfinite, values)):
        return sum(v for v in values if not math.isfinite(v))
    try:
        return math.fsum(values) + 0.0
    except OverflowError:  # fsum also raises where only a partial sum overflows
        return float(sum(map(Fraction, values), Fraction()))


def dot(a: list[float], b: list[float]) -> float:
    """The exact sum of the products, rounded once. ValueError where the lengths differ."""
    if len(a) != len(b):
        raise ValueError("lists of different lengths")
    if not all(map(math.isfinite, a)) or not all(map(math.isfinite, b)):
        return exact_sum(x * y for x, y in zip(a, b, strict=True))
    products = (Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True))
    return float(sum(products, Fraction()))


def norm(values: list[float]) -> float:
    """The Euclidean length, as `math.hypot` of all numbers."""
    return math.hypot(*values)


def cosine(a: list[float], b: list[float]) -> float:
    """The cosine of the angle between two vectors, from -1.0 to 1.0: the exact dot product over the
    exact product of their lengths, correctly rounded. NaN where a number is not finite.

    ValueError where the lengths of the lists differ; ZeroDivisionError where a vector is zero, or
    has no numbers.
    """
    if len(a) != len(b):
        raise ValueError("lists of different lengths")
    if not all(map(math.isfinite, a)) or not all(map(math.isfinite, b)):
        return math.nan
    xs, ys = _wholes(a), _wholes(b)
    both = sum(x * y for x, y in zip(xs, ys, strict=True))
    lengths = sum(x * x for x in xs) * sum(y * y for y in ys)
    if not lengths:
        raise ZeroDivisionError("a vector of length zero has no direction")
    return signed_root(both, both * both, lengths)


def _wholes(values: list[float]) -> list[int]:
    """Ints in the proportions of the numbers, exactly."""
    ratios = [value.as_integer_ratio() for value in values]
    divisor = max((below for _, below in ratios), default=1)  # each is a power of two
    return [above * (divisor // below) for above, below in ratios]


# In Python `in`, `==`, `count` and `index` hold an object for equal to itself, so whether they find
# a NaN depends on where it came from. Here a NaN equals nothing, as everywhere (R4).


def _among(value: Any, values: list[Any]) -> bool:
    return any(value == v for v in values)


def _equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(x == y for x, y in zip(a, b, strict=True))


def _count(values: list[Any], value: Any) -> int:
    return sum(v == value for v in values)


def _index(values: list[Any], value: Any) -> int:
    for i, v in enumerate(values):
        if v == value:
            return i
    raise ValueError("not in the list")


def _prod(values: list[float]) -> float:
    return math.prod(values, start=1.0)


MOST_STEPS = 1_000_000
"""A range of more steps is an error, so that no row takes long (R3)."""


def _range(start: int, stop: int, step: int) -> list[int]:
    if step and (stop - start) // step >= MOST_STEPS:
        raise Beyond(f"a range of more than {MOST_STEPS} steps")
    return list(range(start, stop, step))


def _repeated(values: list[Any], times: int) -> list[Any]:
    if len(values) * times > MOST_STEPS:
        raise Beyond(f"a list of more than {MOST_STEPS} elements")
    return values * times


NAMESPACE |= {"bounded_range": _range, "repeated": _repeated}
NAMESPACE |= {"exact_sum": exact_sum, "dot": dot, "cosine": cosine, "norm": norm, "among": _among}
NAMESPACE |= {"float_product": _prod, "equal": _equal, "count": _count, "index": _index}

_ELEMENTS = (BOOL, INT, FLOAT, STR, BYTES, DATETIME, DATE, TIMEDELTA)
_FAR = 2**31


def _item_literal(values: Any, index: Any) -> str | None:
    if index is None or not -_FAR < index < _FAR:
        return None
    return f"{{0}}[{index + 1 if index >= 0 else index}]"


_ITEM = (
    f"CASE WHEN {{1}} BETWEEN 0 AND {_FAR} THEN {{0}}[{{1}} + 1]"
    f" WHEN {{1}} BETWEEN -{_FAR} AND -1 THEN {{0}}[{{1}}] END"
)


def _slice_literal(values: Any, start: Any, stop: Any) -> str | None:
    if start is None or stop is None or not 0 <= start < _FAR or not 0 <= stop < _FAR:
        return None
    return f"list_slice({{0}}, {start + 1}, {max(stop, start)})" if stop > start else None


def _of_set(values: Type) -> tuple[Op, ...]:
    """`len(set(values))` and `sorted(set(values))`. There is no row for floats, since a set finds a
    NaN by identity."""
    distinct = "list_distinct({0})"
    return (
        Op("set.len", (values,), INT, "len(set({0}))", f"len({distinct})"),
        Op("set.sorted", (values,), values, "sorted(set({0}))", f"list_sort({distinct})"),
    )


def _rows(item: Type) -> tuple[Op, ...]:
    values = list_of(item)
    plain = item != FLOAT
    return (
        Op("len", (values,), INT, "len({0})", "len({0})"),
        Op("bool", (values,), BOOL, "bool({0})", "(len({0}) > 0)"),
        Op(
            "getitem",
            (values, INT),
            item,
            "{0}[{1}]",
            _ITEM,
            raises=True,
            literal_sql=_item_literal,
        ),
        Op(
            "slice",
            (values, INT, INT),
            values,
            "{0}[{1}:{2}]",
            literal_sql=_slice_literal,
        ),
        Op(
            "slice.from",
            (values, INT),
            values,
            "{0}[{1}:]",
            literal_sql=lambda v, start: (
                f"list_slice({{0}}, {start + 1}, -1)"
                if start is not None and 0 <= start < _FAR
                else None
            ),
        ),
        Op("slice.to", (values, INT), values, "{0}[:{1}]"),
        Op("slice.every", (values, INT), values, "{0}[::{1}]", raises=True),
        Op("slice", (values, INT, INT, INT), values, "{0}[{1}:{2}:{3}]", raises=True),
        *(_by_equality(item) if plain else ()),
        Op(
            "in",
            (item, values),
            BOOL,
            "among({0}, {1})",
            "list_contains({1}, {0})" + ("" if plain else " AND NOT isnan({0})"),
        ),
        Op(
            "+",
            (values, values),
            values,
            "{0} + {1}",
            "list_concat({0}, {1})",
        ),
        Op("*", (values, INT), values, "repeated({0}, {1})", raises=True),
        Op("*", (INT, values), values, "repeated({1}, {0})", raises=True),
        Op("min", (values,), item, "min({0})", "list_min({0})" if plain else None, raises=True),
        Op("max", (values,), item, "max({0})", "list_max({0})" if plain else None, raises=True),
        Op("sorted", (values,), values, "sorted({0})", "list_sort({0})" if plain else None),
        Op(
            "sorted_reverse",
            (values,),
            values,
            "sorted({0}, reverse=True)",
            "list_sort({0}, 'DESC')" if plain else None,
        ),
        Op("reversed", (values,), values, "{0}[::-1]", "list_reverse({0})"),
        *(_of_set(values) if plain else ()),
    )


def _by_equality(item: Type) -> tuple[Op, ...]:
    """No row for floats: Python finds a NaN equal to itself by identity, which no column keeps."""
    values = list_of(item)
    return (
        Op("==", (values, values), BOOL, "equal({0}, {1})", "({0} = {1})"),
        Op("!=", (values, values), BOOL, "not equal({0}, {1})", "({0} <> {1})"),
        Op("list.count", (values, item), INT, "count({0}, {1})"),
        Op("list.index", (values, item), INT, "index({0}, {1})", raises=True),
    )


for _item in _ELEMENTS:
    register(*_rows(_item))

_FLOATS, _INTS, _BOOLS = list_of(FLOAT), list_of(INT), list_of(BOOL)
_SUM = "CASE WHEN len({0}) = 0 THEN 0 ELSE TRY_CAST(list_sum({0}%s) AS BIGINT) END"
_OFTEN: tuple[tuple[list[float], list[float]], ...] = (
    ([0.1, 0.2], [3.0, 4.0]),
    ([1e200], [1e200]),
    ([1e308, 1e308], [1.0, -1.0]),
    ([1.0], []),
)

register(
    Op("sum", (_BOOLS,), INT, "sum({0})", _SUM % "::BIGINT[]"),
    Op("sum", (_INTS,), INT, "sum({0})", _SUM % "", raises=True),
    # The exact sum, not the one that Python 3.11 computes from the left.
    Op("sum", (_FLOATS,), FLOAT, "exact_sum({0})", raises=True),
    # fsum raises where its partial sums overflow, and for both infinities.
    Op("math.fsum", (_FLOATS,), FLOAT, "math.fsum({0})", raises=True),
    Op("any", (_BOOLS,), BOOL, "any({0})", "list_contains({0}, TRUE)"),
    Op("all", (_BOOLS,), BOOL, "all({0})", "(NOT list_contains({0}, FALSE))"),
    *(
        Op(f"{name}", (values,), BOOL, f"{name}({{0}})")
        for name in ("any", "all")
        for values in (_INTS, _FLOATS, list_of(STR))
    ),
    Op(
        "range",
        (INT, INT, INT),
        _INTS,
        "bounded_range({0}, {1}, {2})",
        raises=True,
        edges=((0, 5, 1), (5, 0, -2), (0, 5, 0), (0, 10**6, 1), (0, 10**6 + 1, 1), (3, 0, 1)),
    ),
    Op("math.prod", (_FLOATS,), FLOAT, "float_product({0})"),
    Op("math.prod", (_INTS,), INT, "math.prod({0})", raises=True),
    Op("math.dist", (_FLOATS, _FLOATS), FLOAT, "math.dist({0}, {1})", raises=True, edges=_OFTEN),
    Op("math.hypot*", (_FLOATS,), FLOAT, "norm({0})", platform="libm"),
    Op("featurekit.dot", (_FLOATS, _FLOATS), FLOAT, "dot({0}, {1})", raises=True, edges=_OFTEN),
    Op(
        "featurekit.cosine",
        (_FLOATS, _FLOATS),
        FLOAT,
        "cosine({0}, {1})",
        raises=True,
        edges=(*_OFTEN, ([0.0, -0.0], [1.0, 2.0]), ([5e-324], [-1e308]), ([3.0, 4.0], [4.0, -3.0])),
    ),
    Op("featurekit.norm", (_FLOATS,), FLOAT, "norm({0})", platform="libm"),
)
