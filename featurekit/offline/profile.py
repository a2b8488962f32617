"""Turns the rows of a training set, batch by batch, into the reference profile of its columns.

Everything of it is a count, or the least and greatest value: the order of rows and the size of
batches leave no trace (A2).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.aggregates.quantiles import BucketCounts, buckets
from featurekit.core.screen import plain
from featurekit.core.status import NULL_VALUE, PRESENT
from featurekit.core.types import Type
from featurekit.define.feature_contract.document import ColumnProfile, Numbers

MOST_DISTINCT = 1_000
"""A column of more distinct values than that has no most frequent ones."""
TOP = 20
"""So many of the most frequent values are kept."""
_OF_NUMBERS = ("int", "float")
_OF_CLASSES = ("bool", "int", "str", "date")


class ColumnCounts:
    """What is counted of one column."""

    def __init__(self, type_: Type) -> None:
        self.present = self.null = 0
        self.statuses: Counter[str] = Counter()
        self.numbers = type_.name in _OF_NUMBERS
        self.sketch = BucketCounts()
        self.ranks: tuple[int, int] | None = None
        self.floats = type_.name == "float"
        self.values: Counter[Any] | None = Counter() if type_.name in _OF_CLASSES else None

    def update(self, column: Any, statuses: Any) -> None:
        """Take an array of Arrow, and one of the statuses of its rows; None where these were not
        asked for."""
        self.null += column.null_count
        self.present += len(column) - column.null_count
        if statuses is not None:
            self.statuses.update(_counted(statuses))
        there = column.drop_null()
        if self.numbers and len(there):
            self._take_numbers(there.to_numpy(zero_copy_only=False))
        if self.values is not None:
            self.values.update(_counted(there))
            if len(self.values) > MOST_DISTINCT:
                self.values = None

    def _take_numbers(self, values: Any) -> None:
        import numpy as np

        indices, counts = np.unique(buckets(values), return_counts=True)
        pairs = zip(indices.tolist(), counts.tolist(), strict=True)
        self.sketch.counts.update(dict(pairs))
        ranks = _ranks(values[~np.isnan(values)]) if self.floats else values
        if not len(ranks):
            return
        least, greatest = int(ranks.min()), int(ranks.max())
        if self.ranks is not None:
            least, greatest = min(least, self.ranks[0]), max(greatest, self.ranks[1])
        self.ranks = least, greatest

    def classes(self) -> list[tuple[Any, int]] | None:
        """Each distinct value with its rows, the most frequent first; None where there are too
        many, or the type has no classes."""
        if self.values is None:
            return None
        ranked = sorted(self.values.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(_written(value), count) for value, count in ranked]

    def told(self) -> ColumnProfile:
        """What a contract says of the column."""
        classes = self.classes()
        top = None if classes is None else classes[:TOP]
        return ColumnProfile(
            present=self.present,
            null=self.null,
            statuses=dict(sorted(self.statuses.items())),
            numbers=self._numbers() if self.numbers else None,
            top=top,
        )

    def _numbers(self) -> Numbers:
        ends: list[Any] = [None, None] if self.ranks is None else [*self.ranks]
        if self.floats and self.ranks is not None:
            ends = [plain(_of_rank(rank)) for rank in self.ranks]
        counts = sorted(self.sketch.counts.items())
        return Numbers(least=ends[0], greatest=ends[1], buckets=counts)


class RowProfile:
    """What is counted of the columns of a training set."""

    def __init__(self, types: Mapping[str, Type]) -> None:
        self.columns = {name: ColumnCounts(type_) for name, type_ in types.items()}

    def update(self, columns: Sequence[Any], statuses: Sequence[Any] | None) -> None:
        """Take the arrays of a batch, in the order of the columns, and those of their statuses;
        without these a value counts as PRESENT, and a null as NULL_VALUE."""
        told: Sequence[Any] = [None] * len(columns) if statuses is None else statuses
        for of_column, column, status in zip(self.columns.values(), columns, told, strict=True):
            of_column.update(column, status)
            if status is None:
                of_column.statuses[PRESENT] += len(column) - column.null_count
                of_column.statuses[NULL_VALUE] += column.null_count

    def told(self) -> dict[str, ColumnProfile]:
        """What a contract says of each column, by name."""
        return {name: of_column.told() for name, of_column in self.columns.items()}


def _ranks(values: Any) -> Any:
    """Ints that are ordered like the doubles, -0.0 below 0.0; `_of_rank` is the inverse."""
    import numpy as np

    bits = values.astype(np.float64).view(np.int64)
    return np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits)


def _of_rank(rank: int) -> float:
    import struct

    bits = rank ^ (2**63 - 1) if rank < 0 else rank
    found: float = struct.unpack("<d", struct.pack("<q", bits))[0]
    return found


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value


def _counted(column: Any) -> dict[Any, int]:
    import pyarrow.compute as pc

    found = pc.value_counts(column)
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    return dict(pairs)
