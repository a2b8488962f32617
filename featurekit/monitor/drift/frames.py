"""Turns the serving log, and a training set, into frames, which libraries of others read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from featurekit.core.types import INT, Type, from_text
from featurekit.define.feature_contract.contract import Contract
from featurekit.log.served.block import ServedBlock
from featurekit.monitor.drift.samples import AGE, inside, kind
from featurekit.offline.training_set import TrainingSet


class Frame:
    """The features of the rows that a service served from `start` up to but not at `end`, in
    microseconds, and the age of each view's states: the rows that `Window` counts."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.kinds: dict[str, set[str]] = {}
        self._parts: list[pa.Table] = []

    def take(self, block: ServedBlock) -> None:
        """Keep the rows of a block that were served within the window."""
        rows = inside(block, self.start, self.end)
        columns: dict[str, Any] = {}
        for (name, type_), values in zip(block.head.outputs.items(), block.values, strict=True):
            columns[name] = self._column(name, type_, [values[i] for i in rows])
        for view, arrivals in zip(block.head.views, block.arrivals, strict=True):
            asked = ((block.as_of[i], arrivals[i]) for i in rows)
            ages = [None if arrival is None else at - arrival for at, arrival in asked]
            columns[AGE + view] = self._column(AGE + view, INT, ages)
        if rows:
            self._parts.append(pa.table(columns))

    def _column(self, name: str, type_: Type, values: list[Any]) -> Any:
        if values:
            self.kinds.setdefault(name, set()).add(kind(type_))
        return pa.array(values, type_.arrow)

    def table(self) -> pa.Table:
        """The columns that have one type. A row of a version without a feature has null there."""
        one = [name for name, kinds in self.kinds.items() if len(kinds) == 1]
        parts = [part.select([n for n in part.column_names if n in one]) for part in self._parts]
        if not parts:
            return pa.table({})
        return pa.concat_tables(parts, promote_options="permissive").select(one)


class OfTrainingSet:
    """The features of the rows of a training set, by the names that the serving log has."""

    def __init__(self, training: TrainingSet, contract: Contract) -> None:
        self._training, self._contract = training, contract
        self.kinds = {f.full_name: {kind(from_text(f.type))} for f in contract.features}

    def table(self) -> pa.Table:
        """The rows, which are computed for that."""
        names = {f.name: f.full_name for f in self._contract.features}
        return self._training.to_arrow().select([*names]).rename_columns([*names.values()])


def kept(
    blocks: Iterable[ServedBlock], service: str, frames: Iterable[Frame]
) -> Iterator[ServedBlock]:
    """The blocks, each after the frames have taken its rows."""
    many = list(frames)
    for block in blocks:
        if block.head.service == service:
            for frame in many:
                frame.take(block)
        yield block
