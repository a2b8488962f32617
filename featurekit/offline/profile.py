"""Turns the rows of a training set, batch by batch, into the reference profile of its columns.

Everything of it is a count, or made of counts: the order of rows and the size of batches leave no
trace (A2). No value that few entities have is told, and no number but by its bucket.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.aggregates.quantiles import BucketCounts, buckets, edges, is_nan
from featurekit.core.few import LEAST_ENTITIES
from featurekit.core.screen import plain
from featurekit.core.status import NULL_VALUE, PRESENT
from featurekit.core.types import Type
from featurekit.define.feature_contract.document import ColumnProfile, Numbers
from featurekit.log.profiles import MOST_DISTINCT

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
        self.floats = type_.name == "float"
        self.values: Counter[Any] | None = Counter() if type_.name in _OF_CLASSES else None
        # Everybody knows that a bool is True or False.
        self.holders = None if type_.name == "bool" else Holders()

    def update(self, column: Any, statuses: Any, entities: Sequence[Any] = ()) -> None:
        """Take an array of Arrow, and one of the statuses of its rows; None where these were not
        asked for. `entities` are arrays of the join keys of its rows."""
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
            elif self.holders is not None and entities:
                self.holders.update(column, entities)

    def _take_numbers(self, values: Any) -> None:
        import numpy as np

        indices, counts = np.unique(buckets(values), return_counts=True)
        pairs = zip(indices.tolist(), counts.tolist(), strict=True)
        self.sketch.counts.update(dict(pairs))

    def classes(self) -> list[tuple[Any, int]] | None:
        """Each distinct value with its rows, the most frequent first; None where there are too
        many, or the type has no classes."""
        if self.values is None:
            return None
        ranked = sorted(self.values.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(written_value(value), count) for value, count in ranked]

    def often(self) -> list[tuple[Any, int]] | None:
        """Those of `classes` that enough entities have to be told."""
        classes = self.classes()
        if classes is None or self.holders is None:
            return classes
        often = self.holders.often()
        return [pair for pair in classes if pair[0] in often]

    def told(self) -> ColumnProfile:
        """What a contract says of the column."""
        classes = self.often()
        return ColumnProfile(
            present=self.present,
            null=self.null,
            statuses=dict(sorted(self.statuses.items())),
            numbers=self._numbers() if self.numbers else None,
            top=None if classes is None else classes[:TOP],
        )

    def _numbers(self) -> Numbers:
        counts = sorted(self.sketch.counts.items())
        there = [index for index, _ in counts if not is_nan(index)]
        if not there:
            return Numbers(least=None, greatest=None, buckets=counts)
        least, greatest = _end(there[0], 0), _end(there[-1], 1)
        if not self.floats:
            least, greatest = math.floor(least), math.ceil(greatest)
        return Numbers(least=plain(least), greatest=plain(greatest), buckets=counts)


class Holders:
    """How many entities have each value of a column, up to LEAST_ENTITIES; where an entity has
    several keys, the fewest that one of the keys tells apart."""

    def __init__(self) -> None:
        self.keys: list[dict[Any, set[Any]]] = []

    def update(self, column: Any, entities: Sequence[Any]) -> None:
        """Take an array of values, and one of each key of the rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.keys += [{} for _ in entities[len(self.keys) :]]  # versions may have other keys
        for seen, key in zip(self.keys, entities, strict=False):
            pairs = pa.table({"value": column, "key": key})
            enough = [value for value, some in seen.items() if len(some) >= LEAST_ENTITIES]
            if enough:
                known = pc.is_in(column, value_set=pa.array(enough, column.type))
                pairs = pairs.filter(pc.invert(known))
            for pair in pairs.group_by(["value", "key"]).aggregate([]).to_pylist():
                value = pair["value"]
                if value is not None and pair["key"] is not None:
                    some = seen.setdefault(value, set())
                    if len(some) < LEAST_ENTITIES:
                        some.add(pair["key"])

    def often(self) -> set[Any]:
        """The values that so many entities have, as a contract writes them."""
        found = [
            {written_value(value) for value, some in seen.items() if len(some) >= LEAST_ENTITIES}
            for seen in self.keys
        ]
        return set.intersection(*found) if found else set()


def _end(index: int, side: int) -> float:
    """An end of a bucket; of that of zero it is zero."""
    return edges(index)[side] if index else 0.0


class RowProfile:
    """What is counted of the columns of a training set."""

    def __init__(self, types: Mapping[str, Type]) -> None:
        self.columns = {name: ColumnCounts(type_) for name, type_ in types.items()}

    def update(
        self, columns: Sequence[Any], statuses: Sequence[Any] | None, entities: Sequence[Any]
    ) -> None:
        """Take the arrays of a batch, in the order of the columns, and those of their statuses;
        without these a value counts as PRESENT, and a null as NULL_VALUE. `entities` are the arrays
        of the join keys."""
        told: Sequence[Any] = [None] * len(columns) if statuses is None else statuses
        for of_column, column, status in zip(self.columns.values(), columns, told, strict=True):
            of_column.update(column, status, entities)
            if status is None:
                of_column.statuses[PRESENT] += len(column) - column.null_count
                of_column.statuses[NULL_VALUE] += column.null_count

    def told(self) -> dict[str, ColumnProfile]:
        """What a contract says of each column, by name."""
        return {name: of_column.told() for name, of_column in self.columns.items()}


def written_value(value: Any) -> Any:
    """A value as a profile writes it: a date as a text."""
    return value.isoformat() if isinstance(value, dt.date) else value


def _counted(column: Any) -> dict[Any, int]:
    import pyarrow.compute as pc

    found = pc.value_counts(column)
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    return dict(pairs)
