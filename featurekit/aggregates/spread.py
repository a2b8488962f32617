"""Variance and StdDev: exact integers inside, one division or root, rounded once (A1, A2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from featurekit.aggregates import exact
from featurekit.aggregates.base import Aggregate
from featurekit.aggregates.spreads import spreads
from featurekit.aggregates.sql import (
    AggregateSql,
    Finisher,
    InputColumn,
    Term,
    each_list,
    of_terms,
    present,
)
from featurekit.aggregates.sums import SumField, Sums
from featurekit.core import roots
from featurekit.core.types import BOOL, FLOAT, INT, Type

_BITS = exact.SQUARED_BITS


def spread(
    count: int, total: int, squares: int, *, exponent: int, ddof: int, root: bool
) -> float | None:
    """The variance, or its root, of `count` integers times 2**exponent; `total` is the sum of the
    integers and `squares` the sum of their squares. It is the exact rational, rounded once, ties to
    even.

    None if there are too few; OverflowError beyond the doubles.
    """
    if count <= ddof:
        return None
    numerator = count * squares - total * total
    denominator = count * (count - ddof)
    if exponent > 0:
        numerator <<= 2 * exponent
    else:
        denominator <<= -2 * exponent
    # int / int is correctly rounded in CPython.
    return roots.root(numerator, denominator) if root else numerator / denominator


def spread_of(values: Sequence[Any], *, ddof: int, root: bool) -> float | None:
    """The variance, or its root, of ints or doubles; NaN if a NaN or an infinity occurs (A1)."""
    if not values or len(values) <= ddof:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    exponent, wholes = exact.as_wholes(values) if isinstance(values[0], float) else (0, values)
    total, squares = sum(wholes), sum(whole * whole for whole in wholes)
    return spread(len(values), total, squares, exponent=exponent, ddof=ddof, root=root)


def _from_lists(lists: Any, asked: Any) -> Any:
    """The Finisher over lists of inputs and "ddof,root"; NULL for too few inputs, and beyond the
    doubles."""
    import pyarrow as pa

    ddof, root = map(int, asked[0].as_py().split(","))

    def one(values: list[Any] | None) -> float | None:
        try:
            return None if values is None else spread_of(values, ddof=ddof, root=bool(root))
        except OverflowError:
            return None

    return pa.array([one(values) for values in each_list(lists)], type=pa.float64())


def _from_sums(counts: Any, sums: Any, asked: Any) -> Any:
    """The Finisher over counts, "total,high,cross,low" and "exponent,half,ddof,root"."""
    import pyarrow as pa

    exponent, half, ddof, root = map(int, asked[0].as_py().split(","))

    def one(count: int | None, text: str | None) -> float | None:
        if not count or text is None:
            return None
        total, high, cross, low = map(int, text.split(","))
        squares = (high << (2 * half)) + (cross << (half + 1)) + low
        try:
            return spread(count, total, squares, exponent=exponent, ddof=ddof, root=bool(root))
        except OverflowError:
            return None

    pairs = zip(counts.to_pylist(), sums.to_pylist(), strict=True)
    return pa.array([one(count, text) for count, text in pairs], type=pa.float64())


def _from_limbs(limbs: Any, asked: Any) -> Any:
    """The Finisher over lists of `_listed` and "exponent,ddof,root"."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    exponent, ddof, root = map(int, asked[0].as_py().split(","))
    flat = limbs.combine_chunks() if hasattr(limbs, "combine_chunks") else limbs
    numbers = pc.fill_null(flat.flatten(), 0).to_numpy(zero_copy_only=False)
    counts, *rest = np.ascontiguousarray(numbers.reshape(-1, 11).T)
    total = [rest[0], rest[1] + rest[2], rest[3]]
    made, unsure = spreads(counts, total, rest[4:], exponent, ddof, bool(root))
    none = counts <= ddof
    for i in np.flatnonzero(unsure & ~none).tolist():
        whole, squares = (
            sum(int(limb[i]) << (_BITS * k) for k, limb in enumerate(some))
            for some in (total, rest[4:])
        )
        try:
            of = int(counts[i]), whole, squares
            made[i] = spread(*of, exponent=exponent, ddof=ddof, root=bool(root))
        except OverflowError:
            none[i] = True
    return pa.array(made, mask=none)


def _halves(column: InputColumn, whole: str, half: int) -> tuple[list[str], list[tuple[str, str]]]:
    """How parts read an event's whole number and the products of its halves, and the helpers for
    these.

    The magnitude of a whole number is high * 2**half + low. So its square is the sum of three
    products; a HUGEINT holds each of them and their sums.
    """
    high = f"(abs({whole}) >> {half})"
    low = f"(abs({whole}) & {2**half - 1}::HUGEINT)"
    made = [
        column.helper("whole", whole),
        column.helper("high", f"{high} * {high}"),
        column.helper("cross", f"{high} * {low}"),
        column.helper("low", f"{low} * {low}"),
    ]
    return [read for read, _ in made], [helper for _, helper in made]


def _limbs(column: InputColumn) -> tuple[list[str], list[tuple[str, str]]]:
    """How parts read an event's whole number below 2**90 and its square, and the helpers for these:
    each a BIGINT, which DuckDB adds in a third of the time of a HUGEINT.

    The whole number is top * 2**30 + low. Of its three limbs, `a` and `low` have the sign, and `b`
    none. Its square is the sum of products of two limbs; each is at most 2**61 and goes to the
    multiple of 2**60 that it belongs to: the middle ones in two pieces, of which the upper one may
    be below 0.
    """
    floats, mask = column.floats, 2**_BITS - 1
    if floats is None:
        whole = f"{column.name}::BIGINT"
        top, low = f"({whole} >> {_BITS})", f"({whole} & {mask})"
    else:
        assert floats.scale is not None
        # Doubles lose no bit here: where a quotient is rounded, it is below 2**53, and the rest is
        # as exact as its minuend.
        whole = f"({column.name} * {exact.power_sql(floats.scale)})"
        if floats.specials:
            whole = f"CASE WHEN isfinite({column.name}) THEN {whole} END"
        top = f"({whole} * {exact.power_sql(-_BITS)})::BIGINT"
        low = f"({whole} - {top}::DOUBLE * {exact.power_sql(_BITS)})::BIGINT"
    a, b = f"({top} >> {_BITS})", f"({top} & {mask})"

    def under(product: str) -> str:
        """What twice the product has below 2**30, times 2**30."""
        return f"(({product} & {mask >> 1}) << {_BITS + 1})"

    def over(product: str) -> str:
        return f"({product} >> {_BITS - 1})"

    ab, bc = f"({a} * {b})", f"({b} * {low})"
    made = [
        column.helper("low", low),
        column.helper("top", top),
        column.helper("square0", f"{low} * {low} + {under(bc)}"),
        column.helper("square1", f"2 * {a} * {low} + {b} * {b} + {over(bc)} + {under(ab)}"),
        column.helper("square2", f"{a} * {a} + {over(ab)}"),
    ]
    return [read for read, _ in made], [helper for _, helper in made]


def _listed() -> str:
    """A list of the count {0}, and of the sums {1} … {5} of `_limbs`, each in two numbers, the
    lower 30 bits first."""
    lower = (
        f"({{{i}}} & {2**_BITS - 1})::BIGINT, ({{{i}}} >> {_BITS})::BIGINT" for i in range(1, 6)
    )
    return f"[{{0}}, {', '.join(lower)}]"


@dataclass(frozen=True, slots=True)
class _Spread(Aggregate):
    ddof: int = field(default=1, kw_only=True)

    root: ClassVar[bool]
    raises: ClassVar[bool] = True
    adds: ClassVar[tuple[SumField, ...]] = ("count", "total", "squares", "nans", "plus", "minus")
    finishers: ClassVar[tuple[Finisher, ...]] = (
        Finisher("fk_spread", ("DOUBLE[]", "VARCHAR"), "DOUBLE", _from_lists),
        Finisher("fk_spread_of_sums", ("BIGINT", "VARCHAR", "VARCHAR"), "DOUBLE", _from_sums),
        Finisher("fk_spread_of_limbs", ("BIGINT[]", "VARCHAR"), "DOUBLE", _from_limbs),
    )

    def check(self) -> None:
        if type(self.ddof) is not int or self.ddof not in (0, 1):
            raise self.refuse_param("ddof", "1 (of a sample) or 0 (of a population)")

    def result(self, item: Type | None) -> Type:
        if item in (INT, BOOL, FLOAT):
            return FLOAT.or_none()
        raise self.refuse(item, "int, float or bool")

    def over(self, values: Sequence[Any], item: Type | None) -> float | None:
        return spread_of(values, ddof=self.ddof, root=self.root)

    def over_sums(self, sums: Sums, values: Sequence[Any], item: Type | None) -> float | None:
        count = sums.number + len(values)
        if count <= self.ddof:
            return None
        if sums.nans[0] or sums.plus[0] or sums.minus[0] or not all(map(math.isfinite, values)):
            return math.nan
        low, (total, squares) = sums.powers(values, item, 2)
        return spread(count, total, squares, exponent=low, ddof=self.ddof, root=self.root)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        floats = column.floats
        enough = f"coalesce({{0}}, 0) > {self.ddof}"
        asked = f"{self.ddof},{int(self.root)}"
        terms = [Term("count", column.sql)]
        helpers: list[tuple[str, str]] = []
        listed: list[str] = []
        if floats is not None and floats.scale is None:
            listed.append(f"list({column.sql}) FILTER ({present(column, keep)})")
            value = f"fk_spread({{1}}, '{asked}')"
        elif floats is None or floats.short:
            exponent = 0 if floats is None else -(floats.scale or 0)
            reads, helpers = _limbs(column)
            terms += [Term("sum", read) for read in reads]
            value = f"fk_spread_of_limbs({_listed()}, '{exponent},{asked}')"
        else:
            assert floats.scale is not None
            whole = exact.scaled_sql(column.name, floats.scale)
            exponent, half = -floats.scale, floats.half_bits
            reads, helpers = _halves(column, whole, half)
            terms += [Term("sum", read) for read in reads]
            # NULL or 0 if no input is finite; then no finite spread is asked for.
            shown = " || ',' || ".join(f"{{{i}}}::VARCHAR" for i in range(1, 5))
            value = f"fk_spread_of_sums({{0}}, {shown}, '{exponent},{half},{asked}')"
        error = f"({enough} AND {value} IS NULL)"
        if floats is not None and floats.specials:
            none = f"coalesce({{{len(terms) + len(listed)}}}, 0) = 0"
            special = f"CASE WHEN NOT isfinite({column.sql}) THEN 1 END"
            terms.append(Term("count", special))
            error = f"({none} AND {error})"
            value = f"CASE WHEN {none} THEN {value} WHEN {enough} THEN 'nan'::DOUBLE END"
        sums = of_terms(terms, keep, value, error, helpers)
        if not listed:
            return sums
        return replace(sums, parts=(sums.parts[0], *listed, *sums.parts[1:]), terms=())


@dataclass(frozen=True, slots=True)
class Variance(_Spread):
    """The exact variance of a sample (`ddof=1`) or a population (`ddof=0`), rounded once. None when
    empty, or for one input with `ddof=1`; NaN with a NaN or an infinity (A1).

    It is in the square of the input's unit. A finite variance beyond the doubles is an error.
    """

    root: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class StdDev(_Spread):
    """The correctly rounded root of the exact variance, like `statistics.stdev`, in the input's
    unit.

    None and NaN as for Variance. A finite root beyond the doubles is an error.
    """

    root: ClassVar[bool] = True
