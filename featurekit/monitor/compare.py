"""Compares two models by what the serving log has of their predictions."""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.durations import Duration, duration_us
from featurekit.core.types import BOOL, FLOAT, STR, Instant, as_instant, instant, micros
from featurekit.errors import ArgumentError, DataError
from featurekit.log.served.block import ServedBlock
from featurekit.monitor.drift.judge import Figure, Thresholds, judged
from featurekit.monitor.drift.samples import Repeats, of_counts
from featurekit.offline.profile import ColumnCounts
from featurekit.project.project import Project

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MS = 1000
_TYPES = {"number": FLOAT, "bool": BOOL, "text": STR}


@dataclass(frozen=True, slots=True)
class ModelSide(Named):
    """What the log has of one model: the rows that it was asked, of which it predicted some, which
    callers were `answered`, and which `failed`; the requests, and half and 99 of 100 of them took
    no more milliseconds than p50_ms and p99_ms; None without one. `mean` is of predictions that
    are finite numbers."""

    target: str
    rows: int
    answered: int
    failed: int
    requests: int
    p50_ms: float | None
    p99_ms: float | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class ModelComparison(Named):
    """Two models beside one another.

    `both` rows of the same requests were predicted by both, as with a shadow; `agreeing` of them
    were predicted alike, bit for bit, and no two numbers lie further apart than `furthest`, which
    is None without numbers. `figures` say how far the predictions of all rows lie apart as a whole;
    there are none where they are not of one kind, numbers, bools or texts.
    """

    start: dt.datetime
    end: dt.datetime
    one: ModelSide
    other: ModelSide
    both: int
    agreeing: int
    furthest: float | None
    figures: tuple[Figure, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        said = {n: getattr(self, n) for n in ("both", "agreeing", "furthest")}
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "one": asdict(self.one),
            "other": asdict(self.other),
            **said,
            "figures": [asdict(one) for one in self.figures],
        }


def compare(
    project: Project,
    one: str,
    other: str,
    *,
    window: Duration,
    end: Instant | None,
    log: str | Path | None,
    progress: Callable[[int], None] | None,
) -> ModelComparison:
    """The comparison of two targets; `FeatureStore.compare` says of what."""
    if one == other:
        raise ArgumentError(f"compare: {one!r} is named twice; name two models, as in churn@3")
    until = time.time_ns() // 1000 if end is None else micros(as_instant(end, what="end"))
    counts = _Counts(until - duration_us(window, what="window"), until, (one, other))
    counts.take(project.served(log), progress)
    return counts.compared()


class _Counts:
    """What is counted of two targets in one pass. It holds the predictions of one target for which
    that of the other has not come."""

    def __init__(self, start: int, end: int, targets: tuple[str, str]) -> None:
        self.start, self.end = start, end
        self.sides = {name: _Side(name) for name in targets}
        self.others: set[str] = set()
        self._alone: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.both = self.agreeing = 0
        self.furthest: float | None = None

    def take(self, blocks: Iterable[ServedBlock], progress: Callable[[int], None] | None) -> None:
        """Count the rows of the log."""
        rows = 0
        for block in blocks:
            rows += block.rows
            if block.head.predicted:
                self._take(block)
            if progress is not None:
                progress(rows)

    def _take(self, block: ServedBlock) -> None:
        columns = dict(zip(block.head.predicted, block.predicted, strict=True))
        for i, target in enumerate(columns["target"]):
            if not self.start <= block.served_at[i] < self.end:
                continue
            side = self.sides.get(target)
            if side is None:
                self.others.update([target] if target else [])
                continue
            request = block.process, block.request[i]
            told = columns["prediction"][i]
            side.rows += 1
            side.answered += columns["answered"][i]
            side.took[request] = columns["latency_us"][i]
            if told is None:
                side.failed += 1
                continue
            side.take(told, tuple(column[i] for column in block.keys))
            self._match((*request, columns["row"][i]), target, told)
        for side in self.sides.values():
            side.count()

    def _match(self, place: tuple[str, int, int], target: str, told: str) -> None:
        """Compare what both predicted for one row of one request."""
        before = self._alone.pop(place, None)
        if before is None or before[0] == target:
            self._alone[place] = target, told
            return
        self.both += 1
        self.agreeing += before[1] == told
        one, other = _read(before[1]), _read(told)
        if isinstance(one, float) and isinstance(other, float):
            apart = 0.0 if before[1] == told else abs(one - other)
            self.furthest = max(apart, 0.0 if self.furthest is None else self.furthest)

    def compared(self) -> ModelComparison:
        """The comparison. DataError where the log has nothing of a target."""
        for name, side in self.sides.items():
            if not side.rows:
                known = {*self.others, *(n for n, one in self.sides.items() if one.rows)}
                has = f"it has those of {', '.join(sorted(known))}" if known else "it has none"
                raise DataError(
                    f"the serving log has no prediction of {name!r} from "
                    f"{instant(self.start).isoformat()} to {instant(self.end).isoformat()}; {has}. "
                    "A server logs them with --serving-log and --forward, and --window is how far "
                    "back one looks"
                )
        one, other = self.sides.values()
        figures: tuple[Figure, ...] = ()
        if one.kinds == other.kinds and len(one.kinds) == 1:
            figures = tuple(judged("prediction", one.sample(), other.sample(), Thresholds()))
        return ModelComparison(
            instant(self.start), instant(self.end), one.told(), other.told(),
            self.both, self.agreeing, self.furthest, figures,
        )  # fmt: skip


class _Side:
    """What is counted of one target."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rows = self.answered = self.failed = 0
        self.took: dict[tuple[str, int], int] = {}
        self._counts: dict[str, ColumnCounts] = {}
        self._waiting: dict[str, list[Any]] = {}
        self._repeats = Repeats()
        self._finite: list[float] = []

    @property
    def kinds(self) -> set[str]:
        """Of which kinds the predictions are."""
        return {*self._counts}

    def take(self, told: str, keys: tuple[Any, ...]) -> None:
        """Take a prediction, which `count` counts."""
        value = _read(told)
        kind = {bool: "bool", float: "number", str: "text"}.get(type(value), "other")
        self._waiting.setdefault(kind, []).append(value if kind in _TYPES else told)
        self._repeats.take([keys])
        if kind == "number" and math.isfinite(value):
            self._finite.append(value)

    def count(self) -> None:
        """Count what was taken since."""
        import pyarrow as pa

        for kind, values in self._waiting.items():
            type_ = _TYPES.get(kind, STR)
            counts = self._counts.setdefault(kind, ColumnCounts(type_))
            counts.update(pa.array(values, type_.arrow), None)
        self._waiting.clear()

    def sample(self) -> Any:
        """Its predictions as a sample."""
        (counts,) = self._counts.values()
        return of_counts(counts, self._repeats.independent(), named=False)

    def told(self) -> ModelSide:
        """What a reader is told."""
        took = sorted(self.took.values())
        mean = math.fsum(self._finite) / len(self._finite) if self._finite else None
        return ModelSide(
            self.target, self.rows, self.answered, self.failed, len(took),
            _quantile(took, 0.5), _quantile(took, 0.99), mean,
        )  # fmt: skip


def _quantile(took: list[int], share: float) -> float | None:
    """The least of sorted microseconds that so many reach, in milliseconds."""
    return took[max(math.ceil(share * len(took)) - 1, 0)] / _MS if took else None


def _read(told: str) -> Any:
    """A prediction as the log has it: a float for every number, and the words for what JSON has no
    number for."""
    value = json.loads(told)
    if isinstance(value, str):
        return _WORDS.get(value, value)
    return float(value) if type(value) is int else value
