"""ApproxCountDistinct: a HyperLogLog whose registers have the same bits in Python and in DuckDB.

A value's hash is the second half of the MD5 of its canonical bytes, which both compute alike. Its
first 12 bits choose one of 4,096 registers. A register keeps the greatest rank: one more than the
number of leading zeros of the other 52 bits. The estimates are Ertl's (arXiv 1702.01284, algorithm
6), for all sizes at once. They need no logarithm, only operations that IEEE 754 rounds in one way.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate, plain
from featurekit.aggregates.counting import one_value, one_value_sql
from featurekit.aggregates.sql import AggregateSql, Finisher, InputColumn, present
from featurekit.aggregates.tally import Tally, TallyKind
from featurekit.core.types import EPOCH, INT, MICROSECOND, Type

INDEX_BITS = 12
REGISTERS = 1 << INDEX_BITS
RANK_BITS = 64 - INDEX_BITS
MAX_RANK = RANK_BITS + 1
# A register and its rank share one number: register * 64 + rank, since a rank is below 64.
CODE = 64
_ALPHA = 0.7213475204444817  # 1 / (2 ln 2)


def canonical_bytes(value: Any) -> bytes:
    """The bytes of a value that are hashed: the text of an int, a bool as 0 or 1, an instant or
    timedelta in microseconds, a date in days since 1970, a double as the int of its 64 bits; a str
    in UTF-8."""
    match value:
        case str():
            return value.encode()
        case bytes():
            return value
        case bool() | int():
            return b"%d" % value
        case float():
            bits = struct.pack("<d", one_value(value))
            return b"%d" % int.from_bytes(bits, "little", signed=True)
        case dt.datetime():
            return b"%d" % ((value - EPOCH) // MICROSECOND)
        case dt.date():
            return b"%d" % (value.toordinal() - EPOCH.toordinal())
        case dt.timedelta():
            return b"%d" % (value // MICROSECOND)
        case _:
            raise TypeError(f"{value!r} has no canonical bytes")


def canonical_sql(column: InputColumn) -> str:
    """`canonical_bytes` in SQL over the event's own column."""
    x = column.name
    return {
        "str": x,
        "bytes": x,
        "bool": f"{x}::INTEGER::VARCHAR",
        "int": f"{x}::VARCHAR",
        "timedelta": f"{x}::VARCHAR",
        "float": f"(({one_value_sql(column)})::BIT)::BIGINT::VARCHAR",
        "datetime": f"epoch_us({x})::VARCHAR",
        "date": f"({x} - DATE '1970-01-01')::VARCHAR",
    }[column.type.name]


def codes(canonical: Iterable[bytes]) -> Any:
    """The registers of values, given as their canonical bytes, and their ranks, as an array of
    register * 64 + rank."""
    import numpy as np

    md5 = functools.partial(hashlib.md5, usedforsecurity=False)
    hashed = np.frombuffer(b"".join([md5(raw).digest()[8:] for raw in canonical]), "<u8")
    # A whole number below 2**53 is exact as a double, whose exponent gives its number of bits.
    bits = np.frexp((hashed & np.uint64((1 << RANK_BITS) - 1)).astype(np.float64))[1]
    return (hashed >> np.uint64(RANK_BITS)).astype(np.int64) * CODE + (MAX_RANK - bits)


def code_sql(column: InputColumn) -> str:
    """`codes` in SQL over the event's own column; NULL for NULL."""
    hashed = f"md5_number_lower({canonical_sql(column)})"
    low = f"({hashed} & {(1 << RANK_BITS) - 1}::UBIGINT)"
    # A whole number below 2**53 is exact as a double, whose exponent gives its number of bits.
    bits = f"(((({low})::DOUBLE::BIT)::BIGINT >> 52) - 1022)"
    rank = f"CASE WHEN {low} = 0 THEN {MAX_RANK} ELSE {MAX_RANK} - {bits} END"
    return f"(({hashed} >> {RANK_BITS})::BIGINT * {CODE} + {rank})::INTEGER"


_MOST = math.nextafter(2.0**63, 0.0)
"""The greatest double that is an int64. Registers that are all near the greatest rank say more."""


@functools.cache
def _sigma(zeros: int) -> float:
    """Ertl's sigma of the share of zero registers, of which there are `zeros`."""
    x = zeros / REGISTERS
    if x == 1.0:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before, z = z, z + x * y
        y += y
        if z == before:
            return z


@functools.cache
def _tau(full: int) -> float:
    """Ertl's tau of the share of registers that are below the greatest rank."""
    x = 1.0 - full / REGISTERS
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = math.sqrt(x)
        y *= 0.5
        before, z = z, z - (1.0 - x) * (1.0 - x) * y
        if z == before:
            return z / 3.0


def estimate(histograms: Any) -> Any:
    """The estimates for an array with a row of 54 numbers each: the numbers of registers of rank 0
    to 53.

    It works column by column in doubles: a row's result does not depend on the other rows.
    """
    import numpy as np

    counts = histograms.astype(np.float64)
    z = REGISTERS * np.array([_tau(int(n)) for n in histograms[:, MAX_RANK]])
    for rank in range(RANK_BITS, 0, -1):
        z = (z + counts[:, rank]) * 0.5
    z = z + REGISTERS * np.array([_sigma(int(n)) for n in histograms[:, 0]])
    made = np.minimum(np.rint(_ALPHA * REGISTERS * REGISTERS / z), _MOST)
    return made.astype(np.int64)


def _histograms(codes: Any, lengths: Any) -> Any:
    """For each run of codes, the number of registers of each rank."""
    import numpy as np

    runs = len(lengths)
    run = np.repeat(np.arange(runs, dtype=np.int64), lengths)
    keys = np.sort(run * (REGISTERS * CODE) + codes)
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = keys[1:] // CODE != keys[:-1] // CODE  # the greatest rank of its register
    kept = keys[last]
    cells = (kept // (REGISTERS * CODE)) * CODE + kept % CODE
    made = np.bincount(cells, minlength=runs * CODE).reshape(runs, CODE)
    made[:, 0] = REGISTERS - made.sum(axis=1)
    return made[:, : MAX_RANK + 1]


def estimate_of(found: Any) -> int:
    """The estimate for the values that have these codes."""
    import numpy as np

    ranks = np.zeros(REGISTERS, np.int64)
    np.maximum.at(ranks, found // CODE, found % CODE)
    return _estimate_one(np.bincount(ranks, minlength=MAX_RANK + 1).tolist())


def _estimate_one(counts: list[int]) -> int:
    """As `estimate`, for one row: the same doubles, without an array for each step."""
    z = REGISTERS * _tau(counts[MAX_RANK])
    for rank in range(RANK_BITS, 0, -1):
        z = (z + float(counts[rank])) * 0.5
    z = z + REGISTERS * _sigma(counts[0])
    return round(min(_ALPHA * REGISTERS * REGISTERS / z, _MOST))


def _from_codes(lists: Any) -> Any:
    """The Finisher over lists of codes; 0 for NULL."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = lists.combine_chunks() if hasattr(lists, "combine_chunks") else lists
    lengths = pc.fill_null(pc.list_value_length(flat), 0).to_numpy(zero_copy_only=False)
    codes = flat.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return pa.array(estimate(_histograms(codes, lengths)), type=pa.int64())


class HyperLogLog:
    """A sketch of the distinct values among those taken. It depends only on the set of values, not
    on the order or grouping of values and merges (A2)."""

    __slots__ = ("ranks",)

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.ranks: dict[int, int] = {}
        """The rank of each register that is not zero."""
        for code in codes(map(canonical_bytes, values)).tolist():
            self._raise(*divmod(code, CODE))

    def merge(self, other: HyperLogLog) -> None:
        """Take the values that the other sketch took."""
        for register, rank in other.ranks.items():
            self._raise(register, rank)

    def estimate(self) -> int:
        """About how many distinct values it took; 0 if none."""
        import numpy as np

        made = [register * CODE + rank for register, rank in self.ranks.items()]
        return estimate_of(np.array(made, dtype=np.int64))

    def _raise(self, register: int, rank: int) -> None:
        if rank > self.ranks.get(register, 0):
            self.ranks[register] = rank


class ApproxCountDistinct(Aggregate):
    """About how many distinct non-None inputs there are, by a HyperLogLog of 4,096 registers with a
    standard error of 1.6 %; 0 when empty. -0.0 and 0.0 are one value, all NaNs are one."""

    __slots__ = ()
    tallies: ClassVar[TallyKind | None] = "codes"
    finishers: ClassVar[tuple[Finisher, ...]] = (
        Finisher("fk_hyperloglog", ("INTEGER[]",), "BIGINT", _from_codes),
    )

    def result(self, item: Type | None) -> Type:
        plain(self, item)
        return INT

    def over(self, values: Sequence[Any], item: Type | None) -> int:
        return HyperLogLog(values).estimate()

    def over_tally(self, tally: Tally, item: Type | None) -> int:
        return estimate_of(tally.keys)

    def sql(self, column: InputColumn | None, keep: str) -> AggregateSql:
        assert column is not None
        read, helper = column.helper("code", code_sql(column))
        part = f"list({read}) FILTER ({present(column, keep)})"
        return AggregateSql((part,), "fk_hyperloglog({0})", None, (helper,))
