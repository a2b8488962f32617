"""Counts the rows of a training set, as a profile of the serving log counts what was served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.types import Type, instant
from featurekit.monitor.profiles.counts import WholeCounts
from featurekit.monitor.profiles.kept import KeptWindow, summary
from featurekit.offline.training_set import TrainingSet


class TrainingProfiler:
    """What `TrainingSet.observer` is told is counted by features and, with `every` in microseconds,
    by parts of time of the rows' instants. It counts, so neither the order of the rows nor what
    computed them leaves a trace (A2)."""

    def __init__(self, types: Mapping[str, Type], every: int | None) -> None:
        self._types, self._every = dict(types), every
        self._parts: dict[int | None, dict[str, WholeCounts]] = {}
        self._rows: dict[int | None, int] = {}

    def __call__(
        self, columns: Sequence[Any], statuses: Sequence[Any], keys: Sequence[Any], instants: Any
    ) -> None:
        """Count arrays of values and of their statuses, a pair for each feature, of rows with these
        keys and instants."""
        for start, rows in self._by_part(instants):
            counts = self._parts.setdefault(
                start, {name: WholeCounts(type_) for name, type_ in self._types.items()}
            )
            self._rows[start] = self._rows.get(start, 0) + len(rows)
            entities = [key.take(rows) for key in keys]
            for of_one, column, status in zip(counts.values(), columns, statuses, strict=True):
                of_one.update(column.take(rows), status.take(rows), entities)

    def _by_part(self, instants: Any) -> list[tuple[int | None, Any]]:
        import numpy as np
        import pyarrow as pa

        if self._every is None:
            return [(None, pa.array(np.arange(len(instants))))]
        at = instants.to_numpy()
        starts = at - at % self._every
        return [
            (start, pa.array(np.flatnonzero(starts == start)))
            for start in np.unique(starts).tolist()
        ]

    def told(self) -> list[dict[str, Any]]:
        """What was counted, as `FeatureStore.profile_training_set` says it."""
        found = []
        for start in sorted(self._parts, key=lambda one: one or 0):
            columns = {
                name: {str(self._types[name]): of_one.told(b"")}
                for name, of_one in self._parts[start].items()
            }
            rows = self._rows[start]
            profile = {"rows": rows, "versions": {}, "columns": columns, "repeats": {}}
            part = {} if start is None else {"start": instant(start).isoformat()}
            found += [part | told for told in summary(KeptWindow(0, 0, profile))]
        return found


def profile_training_set(training: TrainingSet, every: int | None) -> list[dict[str, Any]]:
    """Compute the rows of a training set, once more if they were computed before, and say what they
    are."""
    profiler = TrainingProfiler(training.types, every)
    training.compute(profiler)
    return profiler.told()
