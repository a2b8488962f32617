"""Turns the serving log, and the profile of a feature contract, into samples of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from featurekit.core.status import ERROR_STATUS
from featurekit.core.types import INT, Type, from_text
from featurekit.define.feature_contract.contract import Contract
from featurekit.log.served.block import Gathered, ServedBlock
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
    each view by its name, as rows have them. Those of a view that is not there, or of a version
    with other keys, are all of the row. `counts` makes what counts a column."""

    def __init__(
        self,
        start: int,
        end: int,
        keys: Mapping[str, tuple[str, ...]] | None = None,
        counts: Callable[[Type], ColumnCounts] = ColumnCounts,
    ) -> None:
        self._made = counts
        self.start, self.end, self.keys = start, end, dict(keys or {})
        self.rows = 0
        self.versions: dict[str, int] = {}
        self.columns: dict[str, dict[str, ColumnCounts]] = {}
        self.repeats: dict[str, dict[tuple[str, ...], Repeats]] = {}

    def take(self, block: ServedBlock) -> None:
        """Count the rows of a block that were served within the window."""
        import pyarrow as pa

        rows = inside(block, self.start, self.end)
        if not rows:
            return
        self.rows += len(rows)
        head = block.head
        self.versions[head.fingerprint] = self.versions.get(head.fingerprint, 0) + len(rows)
        for (name, type_), values, statuses in zip(
            head.outputs.items(), block.values, block.statuses, strict=True
        ):
            told = pa.array([statuses[i] for i in rows], pa.string())
            column = pa.array([values[i] for i in rows], type_.arrow)
            keys = [pa.array([key[i] for i in rows]) for key in block.keys]
            self._counts(name, type_).update(column, told, keys)
        for view, arrivals in zip(head.views, block.arrivals, strict=True):
            self._count_view(block, view, arrivals, rows)

    def _count_view(
        self, block: ServedBlock, view: str, arrivals: Sequence[int | None], rows: Sequence[int]
    ) -> None:
        """Count how old a view's states were, and whose they are."""
        import pyarrow as pa

        asked = ((block.as_of[i], arrivals[i]) for i in rows)
        ages = [None if arrival is None else at - arrival for at, arrival in asked]
        self._counts(AGE + view, INT).update(pa.array(ages, pa.int64()), None)
        every = tuple(block.head.keys)
        names = self.keys.get(view, every)
        if not set(names) <= {*every}:
            names = every
        columns = [block.keys[every.index(name)] for name in names]
        repeats = self.repeats.setdefault(view, {}).setdefault(names, Repeats())
        repeats.take(tuple(column[i] for column in columns) for i in rows)

    def _counts(self, name: str, type_: Type) -> ColumnCounts:
        by_type = self.columns.setdefault(name, {})
        return by_type.setdefault(kind(type_), self._made(type_))

    @property
    def types(self) -> dict[str, str]:
        """The type of each feature, and of each view's age; where versions differ, all of them."""
        return {name: " and ".join(sorted(types)) for name, types in self.columns.items()}

    def samples(self, *, named: bool = False) -> dict[str, Sample]:
        """The sample of each feature that has one type, and of each view's age. Where its values
        are to be `named`, it has those alone that are told in a profile, whoever reads it."""
        share = shares_of(self.repeats)
        found = {}
        for name, by_type in self.columns.items():
            if len(by_type) == 1:
                (counts,) = by_type.values()
                found[name] = of_counts(counts, share(name), named=named)
        return found


def shares_of(repeats: Mapping[str, Mapping[Any, Repeats]]) -> Callable[[str], float]:
    """Gives the share of the rows of a feature that tell as much as independent ones, by its name:
    that of its view, or the least of all views for a request-time feature."""
    shares = {
        view: min(one.independent() for one in by_keys.values())
        for view, by_keys in repeats.items()
    }

    def share(name: str) -> float:
        of_view = [s for v, s in shares.items() if name == AGE + v or name.startswith(f"{v}__")]
        return min(of_view or shares.values(), default=1.0)

    return share


def kind(type_: Type) -> str:
    """A type in words, without None and choices: a version that differs in these is comparable."""
    return str(type_.plain.base)


def windows(
    blocks: Iterable[ServedBlock],
    service: str,
    wanted: Iterable[Window],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Count the rows of a service in each of the windows, in one pass over the log; `progress` is
    told of the rows that were read."""
    many, rows = list(wanted), 0

    def count(block: ServedBlock) -> None:
        for window in many:
            window.take(block)

    gathered = Gathered(count)
    for block in blocks:
        rows += block.rows
        if block.head.service == service:
            gathered.take(block)
        if progress is not None:
            progress(rows)
    gathered.flush()


def inside(block: ServedBlock, start: int, end: int) -> list[int]:
    """The places of the rows that a caller was given from `start` up to but not at `end`."""
    told = enumerate(zip(block.served_at, _answered(block), strict=True))
    return [i for i, (at, answered) in told if answered and start <= at < end]


def _answered(block: ServedBlock) -> Iterable[bool]:
    """Whether a caller was given each row: a model that is a shadow, or failed, leaves a row more
    of the same features."""
    if not block.head.predicted:
        return [True] * block.rows
    return block.predicted[list(block.head.predicted).index("answered")]


def of_contract(contract: Contract) -> tuple[dict[str, Sample], dict[str, str]]:
    """The sample of each feature in the profile of a feature contract, and its type, by the name
    that the serving log has for it: view__feature."""
    samples, types = {}, {}
    for feature in contract.features:
        name, column = feature.full_name, contract.profile[feature.name]
        types[name] = kind(from_text(feature.type))
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


def of_counts(counts: ColumnCounts, independent: float, *, named: bool) -> Sample:
    histogram = None
    if counts.numbers:
        histogram = Histogram.of(list(counts.sketch.counts.items()), whole=not counts.floats)
    classes = counts.often() if named else counts.classes()
    return Sample(
        rows=counts.present + counts.null,
        null=counts.null,
        errors=counts.statuses[ERROR_STATUS],
        numbers=histogram,
        classes=None if classes is None else dict(classes),
        independent=independent,
    )
