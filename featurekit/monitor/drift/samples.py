"""Turns the serving log, and the profile of a feature contract, into samples of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from featurekit.core.status import ERROR_STATUS
from featurekit.core.types import INT, Type
from featurekit.define.feature_contract.contract import Contract
from featurekit.log.served.block import ServedBlock
from featurekit.monitor.drift.distances import Histogram
from featurekit.monitor.drift.judge import Sample
from featurekit.offline.profile import ColumnCounts

AGE = "age of "
"""In front of a view's name: how long before its row's instant the newest event of a state
arrived, in microseconds."""


class Repeats:
    """How often the same entities come back among rows, by counts of hashes of their keys."""

    _PLACES = 1 << 16

    def __init__(self) -> None:
        self.counts = np.zeros(self._PLACES, dtype=np.int64)

    def take(self, keys: Iterable[tuple[Any, ...]]) -> None:
        """Count the keys of some rows."""
        for key in keys:
            told = blake2b(repr(key).encode(), digest_size=8).digest()
            self.counts[int.from_bytes(told) % self._PLACES] += 1

    def independent(self) -> float:
        """The share of the rows that tell as much as independent ones would, if the rows of an
        entity all told the same: (sum of n)² / sum of n², over the rows n of each entity (Kish).
        Entities that share a hash by chance are taken out of the sum again."""
        n = float(self.counts.sum())
        if not n:
            return 1.0
        places = self._PLACES
        squares = float((self.counts.astype(np.float64) ** 2).sum())
        squares = (squares - n * n / places) * places / (places - 1)
        return min(1.0, n / max(squares, n))


class Window:
    """What the serving log says of one service from `start` up to but not at `end`, in
    microseconds. It counts, so the order of rows leaves no trace (A2). `keys` has the join keys of
    each view by its name, as rows have them; those of another one are all of the row."""

    def __init__(
        self, start: int, end: int, keys: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.start, self.end, self.keys = start, end, dict(keys or {})
        self.repeats: dict[tuple[str, ...], Repeats] = {}
        self.rows = 0
        self.versions: dict[str, int] = {}
        self.columns: dict[str, ColumnCounts] = {}
        self.types: dict[str, str] = {}

    def take(self, block: ServedBlock) -> None:
        """Count the rows of a block that were served within the window."""
        import pyarrow as pa

        inside = [i for i, at in enumerate(block.served_at) if self.start <= at < self.end]
        if not inside:
            return
        self.rows += len(inside)
        head = block.head
        for names in {self.keys.get(view, tuple(head.keys)) for view in head.views}:
            columns = [block.keys[list(head.keys).index(name)] for name in names]
            keys = (tuple(column[i] for column in columns) for i in inside)
            self.repeats.setdefault(names, Repeats()).take(keys)
        self.versions[head.fingerprint] = self.versions.get(head.fingerprint, 0) + len(inside)
        for (name, type_), values, statuses in zip(
            head.outputs.items(), block.values, block.statuses, strict=True
        ):
            column = pa.array([values[i] for i in inside], type_.arrow)
            told = pa.array([statuses[i] for i in inside], pa.string())
            self._counts(name, type_).update(column, told)
        for view, arrivals in zip(head.views, block.arrivals, strict=True):
            found = (arrivals[i] for i in inside)
            asked = (block.as_of[i] for i in inside)
            ages = [
                None if arrival is None else at - arrival
                for at, arrival in zip(asked, found, strict=True)
            ]
            self._counts(AGE + view, INT).update(pa.array(ages, pa.int64()), None)

    def _counts(self, name: str, type_: Type) -> ColumnCounts:
        found = self.columns.get(name)
        if found is None or self.types[name] != type_.name:  # a new version may have another type
            found = self.columns[name] = ColumnCounts(type_)
            self.types[name] = type_.name
        return found

    def samples(self) -> dict[str, Sample]:
        """The sample of each feature, and of each view's age."""
        shares = {names: one.independent() for names, one in self.repeats.items()}
        found = {}
        for name, counts in self.columns.items():
            names = self.keys.get(name.removeprefix(AGE).partition("__")[0])
            share = min(shares.values(), default=1.0) if names is None else shares[names]
            found[name] = _of_counts(counts, share)
        return found


def windows(
    blocks: Iterable[ServedBlock],
    service: str,
    wanted: Iterable[Window],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Count the rows of a service in each of the windows, in one pass over the log; `progress` is
    told of the rows that were read."""
    many, rows = list(wanted), 0
    for block in blocks:
        rows += block.rows
        if block.head.service == service:
            for window in many:
                window.take(block)
        if progress is not None:
            progress(rows)


def of_contract(contract: Contract) -> tuple[dict[str, Sample], dict[str, str]]:
    """The sample of each feature in the profile of a feature contract, and its type, by the name
    that the serving log has for it: view__feature."""
    samples, types = {}, {}
    for feature in contract.features:
        name, column = feature.full_name, contract.profile[feature.name]
        types[name] = feature.type.partition(" ")[0]
        histogram = None
        if column.numbers is not None:
            histogram = Histogram.of(column.numbers.buckets, whole=types[name] == "int")
        samples[name] = Sample(
            rows=column.present + column.null,
            null=column.null,
            errors=column.statuses.get(ERROR_STATUS, 0),
            numbers=histogram,
            classes=None if column.top is None else dict(column.top),
        )
    return samples, types


def _of_counts(counts: ColumnCounts, independent: float) -> Sample:
    histogram = None
    if counts.numbers:
        histogram = Histogram.of(list(counts.sketch.counts.items()), whole=not counts.floats)
    classes = counts.classes()
    return Sample(
        rows=counts.present + counts.null,
        null=counts.null,
        errors=counts.statuses[ERROR_STATUS],
        numbers=histogram,
        classes=None if classes is None else dict(classes),
        independent=independent,
    )
