"""Every aggregate as the commutative monoid that A2 says it is, naively: what of some inputs is
enough to go on from, whatever comes later.

featurekit computes aggregates in other ways; that each is such a monoid is what lets it.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import oracle

from featurekit.aggregates import (
    Aggregate,
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Distinct,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Histogram,
    Kurtosis,
    Lag,
    LargestN,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Ratio,
    Skew,
    SmallestN,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf


@dataclass(frozen=True)
class Monoid:
    """`one` makes the state of an input and its place in the order of T6; `finish` raises
    `oracle.Erred` for the third state of R3."""

    empty: Any
    one: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], Any]

    def of(self, pairs: list[tuple[Any, Any]]) -> Any:
        """The state of some inputs, taken one after another."""
        state = self.empty
        for order, value in pairs:
            state = self.merge(state, self.one(order, value))
        return state


def monoid_of(aggregate: Aggregate) -> Monoid:
    match aggregate:
        case Count():
            return Monoid(0, lambda order, value: 1, lambda a, b: a + b, lambda n: n)
        case CountDistinct():
            return _of_counts(len)
        case ValueCounts():
            return _of_counts(lambda counts: dict(oracle._ranked(list(counts.values()))))
        case TopK(k=k):
            return _of_counts(
                lambda counts: [value for value, _ in oracle._ranked(list(counts.values()))][:k]
            )
        case Mode():
            return _of_counts(
                lambda counts: next(
                    (value for value, _ in oracle._ranked(list(counts.values()))), None
                )
            )
        case Distinct(top=top):
            return _of_counts(
                lambda counts: sorted(
                    [value for value, _ in oracle._ranked(list(counts.values()))][:top], key=_order
                )
            )
        case SmallestN(n=n) | LargestN(n=n):
            return _of_utmost(n, largest=isinstance(aggregate, LargestN))
        case Histogram(edges=edges):
            return Monoid(
                oracle._binned(list(edges), []),
                lambda order, value: oracle._binned(list(edges), [value]),
                lambda a, b: [x + y for x, y in zip(a, b, strict=True)],
                lambda counts: counts,
            )
        case ApproxCountDistinct():
            return _of_registers()
        case First() | Last():
            ends = _of_ends(1, last=isinstance(aggregate, Last))
            return Monoid(*_but_finish(ends), lambda kept: kept[0][1] if kept else None)
        case FirstN(n=n, distinct=True) | LastN(n=n, distinct=True):
            return _of_occurrences(n, last=isinstance(aggregate, LastN))
        case Lag(n=n):
            ends = _of_ends(n + 1, last=True)
            return Monoid(*_but_finish(ends), lambda kept: kept[0][1] if len(kept) > n else None)
        case FirstN(n=n) | LastN(n=n):
            return _of_ends(n, last=isinstance(aggregate, LastN))
        case Min() | Max():
            pick = min if isinstance(aggregate, Min) else max
            return _of_one(lambda a, b: math.nan if a != a or b != b else pick(a, b, key=_order))
        case TimeSince(since=since):
            return Monoid(
                *_but_finish(_of_one(max if since == "last" else min)),
                lambda us: None if us is None else float(Fraction(-us, 1_000_000)),  # as of 0
            )
        case AnyOf():
            return _of_one(lambda a, b: a or b)
        case All():
            return _of_one(lambda a, b: a and b)
        case Sum() | Mean():
            return _of_sums(lambda state: _total(aggregate, *state))
        case Variance() | StdDev():
            return _of_sums(lambda state: _spread(aggregate, *state))
        case SumOfSquares():
            return _of_sums(lambda state: _squares(*state))
        case Entropy():
            return _of_counts(
                lambda counts: oracle._entropy([n for _, n in counts.values()]) if counts else None
            )
        case GeometricMean():
            return _of_logs()
        case BitAnd() | BitOr():
            return _of_one(operator.and_ if isinstance(aggregate, BitAnd) else operator.or_)
        case Skew() | Kurtosis():
            return _of_powers(lambda value: (value,), lambda state: _shape(aggregate, *state))
        case Covariance() | Correlation():
            return _of_powers(tuple, lambda state: _together(aggregate, *state))
        case Ratio():
            return _of_powers(tuple, lambda state: _ratio(*state))
        case LinearTrend():
            return _of_powers(
                lambda pair: (Fraction(pair[0], 86_400_000_000), pair[1]),
                lambda state: _slope(*state),
            )
        case ExponentialDecay(half_life=half_life):
            return _of_steps(oracle._us(half_life))
        case Quantile(q=q):
            return _of_sorted(lambda ordered: oracle._between(ordered, q))
        case ApproxQuantile(q=q):
            # Buckets have the order of values, so that the middles of two are in theirs.
            found = _of_sorted(lambda ordered: ordered[math.floor((len(ordered) - 1) * q)])
            return Monoid(
                found.empty,
                lambda order, value: found.one(order, _middle(float(value))),
                found.merge,
                found.finish,
            )
    raise NotImplementedError(type(aggregate).__name__)


def _but_finish(monoid: Monoid) -> tuple[Any, ...]:
    return monoid.empty, monoid.one, monoid.merge


def _order(value: Any) -> Any:
    return oracle._order(value)


def _middle(value: float) -> float:
    return value if math.isnan(value) else oracle._bucket(value)


def _of_one(pick: Callable[[Any, Any], Any]) -> Monoid:
    """The state is one of the inputs, or None."""

    def merge(a: Any, b: Any) -> Any:
        return b if a is None else a if b is None else pick(a, b)

    return Monoid(None, lambda order, value: value, merge, lambda value: value)


def _of_ends(n: int, *, last: bool) -> Monoid:
    """The state has the `n` inputs that come first or last, with their places."""

    def merge(a: Any, b: Any) -> Any:
        kept = sorted([*a, *b], key=lambda pair: pair[0])
        return kept[-n:] if last else kept[:n]

    return Monoid(
        [], lambda order, value: [(order, value)], merge, lambda kept: [value for _, value in kept]
    )


def _of_utmost(n: int, *, largest: bool) -> Monoid:
    """The state has the `n` greatest inputs or the least."""

    def merge(a: Any, b: Any) -> Any:
        return sorted([*a, *b], key=_order, reverse=largest)[:n]

    return Monoid([], lambda order, value: [value], merge, lambda kept: kept)


def _of_occurrences(n: int, *, last: bool) -> Monoid:
    """The state has each distinct value with the place where it occurs first or last."""

    def one(order: Any, value: Any) -> Any:
        (value,) = oracle._occurring([value])
        return {oracle.bits(value): (order, value)}

    def merge(a: Any, b: Any) -> Any:
        pick = max if last else min
        return {
            key: pick((s[key] for s in (a, b) if key in s), key=lambda pair: pair[0])
            for key in a | b
        }

    def finish(state: Any) -> Any:
        kept = [value for _, value in sorted(state.values(), key=lambda pair: pair[0])]
        return kept[-n:] if last else kept[:n]

    return Monoid({}, one, merge, finish)


def _of_counts(finish: Callable[[dict[Any, tuple[Any, int]]], Any]) -> Monoid:
    """The state has each distinct value with its count, by its bits."""

    def one(order: Any, value: Any) -> Any:
        ((value, count),) = oracle._ranking([value])
        return {oracle.bits(value): (value, count)}

    def merge(a: Any, b: Any) -> Any:
        return {
            key: (pair[0], a.get(key, pair)[1] + b[key][1] if key in a and key in b else pair[1])
            for key, pair in (a | b).items()
        }

    return Monoid({}, one, merge, finish)


def _of_registers() -> Monoid:
    """The state has the greatest rank of each register."""

    def one(order: Any, value: Any) -> Any:
        where, rank = oracle._register(value)
        return {where: rank}

    def merge(a: Any, b: Any) -> Any:
        return {where: max(a.get(where, 0), b.get(where, 0)) for where in a | b}

    def finish(ranks: Any) -> int:
        return oracle._estimate([ranks.get(where, 0) for where in range(4096)])

    return Monoid({}, one, merge, finish)


def _of_sorted(finish: Callable[[list[Any]], Any]) -> Monoid:
    """The state has all inputs by value, NaN last."""

    def finished(ordered: list[Any]) -> Any:
        if not ordered or ordered[-1] != ordered[-1]:
            return ordered[-1] if ordered else None
        return finish(ordered)

    return Monoid(
        [], lambda order, value: [value], lambda a, b: sorted([*a, *b], key=_order), finished
    )


def _of_sums(finish: Callable[[Any], Any]) -> Monoid:
    """The state has the number of inputs, the sum and that of squares of the finite ones, exactly,
    and which others there are, as texts."""

    def one(order: Any, value: Any) -> Any:
        if not math.isfinite(value):
            return 1, Fraction(0), Fraction(0), frozenset({str(value)})
        exact = Fraction(value) if isinstance(value, float) else int(value)
        return 1, exact, exact * exact, frozenset()

    def merge(a: Any, b: Any) -> Any:
        return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] | b[3]

    return Monoid((0, 0, 0, frozenset()), one, merge, finish)


def _total(
    aggregate: Sum | Mean, n: int, total: int | Fraction, squares: Any, specials: frozenset[str]
) -> int | float | None:
    if not n:
        return None
    mean = isinstance(aggregate, Mean)
    if not specials and isinstance(total, int) and not mean:
        if not -(2**63) <= total < 2**63:
            raise oracle.Erred
        return total
    found = sum(map(float, specials)) if specials else _rounded(Fraction(total))
    return found / n if mean else found


def _spread(
    aggregate: Variance | StdDev, n: int, total: Any, squares: Any, specials: frozenset[str]
) -> float | None:
    if n <= aggregate.ddof:
        return None
    if specials:
        return math.nan
    variance = Fraction(n * squares - total * total) / (n * (n - aggregate.ddof))
    return _rounded(_root(variance) if isinstance(aggregate, StdDev) else variance)


def _root(x: Fraction) -> Fraction:
    """A number that rounds to the double to which the root of `x` does: its first bits, of which
    the last is set where more would follow."""
    bits = 2 * 1100
    whole, rest = divmod(x.numerator << 2 * bits, x.denominator)
    root = math.isqrt(whole)
    return Fraction(2 * root + (rest != 0 or root * root != whole), 1 << (bits + 1))


def _rounded(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError as error:
        raise oracle.Erred from error


def _squares(n: int, total: Any, squares: int | Fraction, specials: frozenset[str]) -> Any:
    if specials:
        return math.nan if "nan" in specials else math.inf
    if n and isinstance(squares, int) and squares >= 2**63:
        raise oracle.Erred
    return (squares if isinstance(squares, int) else _rounded(squares)) if n else None


def _of_powers(numbers: Callable[[Any], tuple[Any, ...]], finish: Callable[[Any], Any]) -> Monoid:
    """The state has how many inputs there are, and whether all are finite. It has the sums of the
    products of up to four of an input's numbers, by how often each of these is a factor."""

    def one(order: Any, value: Any) -> Any:
        found = numbers(value)
        if not all(map(math.isfinite, found)):
            return 1, False, {}
        exact = [Fraction(x) for x in found]
        powers = itertools.product(range(5), repeat=len(exact))
        made = {p: math.prod(x**k for x, k in zip(exact, p, strict=True)) for p in powers}
        return 1, True, {p: product for p, product in made.items() if sum(p) <= 4}

    def merge(a: Any, b: Any) -> Any:
        sums = {p: a[2].get(p, 0) + b[2].get(p, 0) for p in a[2] | b[2]}
        return a[0] + b[0], a[1] and b[1], sums

    return Monoid((0, True, {}), one, merge, finish)


def _shape(aggregate: Skew | Kurtosis, n: int, finite: bool, sums: Any) -> float | None:
    skew = isinstance(aggregate, Skew)
    if n < ((3 if skew else 4) if aggregate.ddof else 2):
        return None
    if not finite:
        return math.nan
    one, two, three, four = (sums[(k,)] / n for k in range(1, 5))
    m2 = two - one**2
    m3 = three - 3 * one * two + 2 * one**3
    m4 = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
    if not m2:
        return None
    if skew:
        sample = Fraction(n * (n - 1), (n - 2) ** 2) if aggregate.ddof else 1
        return math.copysign(_rounded(_root(m3**2 / m2**3 * sample)), -1 if m3 < 0 else 1)
    found = m4 / m2**2 - 3
    if aggregate.ddof:
        found = Fraction(n - 1, (n - 2) * (n - 3)) * ((n + 1) * found + 6)
    return _rounded(found)


def _centred(n: int, sums: Any) -> tuple[Fraction, Fraction, Fraction]:
    """The sums of the products of the deviations of x and y, and of the squares of each."""
    x, y = sums[1, 0], sums[0, 1]
    return sums[1, 1] - x * y / n, sums[2, 0] - x * x / n, sums[0, 2] - y * y / n


def _together(aggregate: Covariance | Correlation, n: int, finite: bool, sums: Any) -> float | None:
    ddof = 1 if isinstance(aggregate, Correlation) else aggregate.ddof
    if n <= ddof:
        return None
    if not finite:
        return math.nan
    both, xs, ys = _centred(n, sums)
    if isinstance(aggregate, Covariance):
        return _rounded(both / (n - ddof))
    if not xs or not ys:
        return None
    return math.copysign(_rounded(_root(both**2 / (xs * ys))), -1 if both < 0 else 1)


def _ratio(n: int, finite: bool, sums: Any) -> float | None:
    if not n or not finite:
        return math.nan if n else None
    return _rounded(sums[1, 0] / sums[0, 1]) if sums[0, 1] else None


def _slope(n: int, finite: bool, sums: Any) -> float | None:
    if n < 2:
        return None
    if not finite:
        return math.nan
    both, days, _ = _centred(n, sums)
    return _rounded(both / days) if days else None


def _of_steps(half_life: int) -> Monoid:
    """The state has the sum of the inputs of each step of time, and None where one is not
    finite."""

    def one(order: Any, timed: Any) -> Any:
        us, value = timed
        step = 1024 * us // half_life
        return {step: Fraction(value) if math.isfinite(value) else None}

    def merge(a: Any, b: Any) -> Any:
        kept = {k: (a.get(k, Fraction(0)), b.get(k, Fraction(0))) for k in a | b}
        return {k: None if None in both else sum(both) for k, both in kept.items()}

    def finish(sums: Any) -> float | None:
        if not sums or None in sums.values():
            return math.nan if sums else None
        total = Fraction(0)
        for step, value in sums.items():
            if -step < 1000 * 1024:  # as of 0
                total += value * Fraction(oracle._weight(-step % 1024)) / 2 ** (-step // 1024)
        return _rounded(total)

    return Monoid({}, one, merge, finish)


def _of_logs() -> Monoid:
    """The state has how many inputs there are, the sum of the logarithms of those above 0, and what
    others there are."""

    def one(order: Any, value: Any) -> Any:
        if not math.isfinite(value) or value < 0:
            return 1, Fraction(0), frozenset({"nan"})
        return 1, oracle._log2(value) if value else Fraction(0), frozenset() if value else {"zero"}

    def merge(a: Any, b: Any) -> Any:
        return a[0] + b[0], a[1] + b[1], a[2] | b[2]

    def finish(state: Any) -> float | None:
        n, total, others = state
        if not n or others:
            return (math.nan if "nan" in others else 0.0) if n else None
        return oracle._power_of_two(total / n)

    return Monoid((0, Fraction(0), frozenset()), one, merge, finish)
