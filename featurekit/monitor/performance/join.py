"""Joins outcomes to the rows of the serving log that they are the outcomes of.

An outcome that names a request belongs to that row. One that names an entity and an instant belongs
to the entity's latest row at or before it, within the horizon. One pass over the log suffices, and
its order leaves no trace; what is held grows with the outcomes and with the matched rows.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.calls import near
from featurekit.core.status import ERROR_STATUS
from featurekit.errors import ArgumentError
from featurekit.log.outcomes import Outcome
from featurekit.log.served.block import ServedBlock, is_forgotten, rows_by_request

ERRED = object()
"""Stands for the value of a feature that erred."""
_Keys = tuple[tuple[str, Any], ...]
_Place = tuple[str, int, int, str]
"""A row of the log: its process, the number of its request, its place in it, and its target."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the log that is the best for an outcome so far, with its prediction as JSON."""

    as_of: int
    served_at: int
    place: _Place
    keys: tuple[Any, ...]
    prediction: str | None
    by: tuple[Any, ...]

    @property
    def rank(self) -> tuple[int, int, _Place]:
        """The greater, the later."""
        return self.as_of, self.served_at, self.place


@dataclass(frozen=True, slots=True)
class Judged:
    """A served row whose outcome is known: whose it is, what was predicted, and what came. `by` has
    the values that it is put into slices by."""

    served_at: int
    keys: tuple[Any, ...]
    prediction: Any
    outcome: Any
    by: tuple[Any, ...] = ()


@dataclass(slots=True)
class Matched:
    """What came of a join in a window of served rows.

    `rows` were served there, and `judged` are those with an outcome and a prediction; `bare` had no
    prediction, `waiting` no outcome yet. Of the outcomes, `outside` are of rows that were served at
    another time, `further` of a row that has one already, and `unmatched` of no row in the log.
    """

    rows: int = 0
    judged: list[Judged] = field(default_factory=list)
    bare: int = 0
    waiting: int = 0
    outside: int = 0
    further: int = 0
    unmatched: int = 0


class Join:
    """The join of outcomes in force to the rows of one service, each of which `take` sees once.

    `target` names the model whose rows are meant, by default those that callers were answered with.
    `feature` names what stands for the prediction, by default what the log has of the model, and
    else what came with the outcome. `by` names features, join keys and request fields, whose values
    judged rows have.
    """

    def __init__(
        self,
        service: str,
        outcomes: Iterable[Outcome],
        *,
        horizon: int,
        target: str | None,
        feature: str | None,
        by: Sequence[str] = (),
    ) -> None:
        self.service, self.horizon = service, horizon
        self.target, self.feature, self.by = target, feature, by
        self.outcomes = list(outcomes)
        self.best: list[_Row | None] = [None] * len(self.outcomes)
        self._served: list[int] = []
        self._by_request: dict[tuple[str, int], int] = {}
        self._by_entity: dict[_Keys, list[tuple[int, int]]] = {}
        for number, one in enumerate(self.outcomes):
            if one.request is not None:
                self._by_request[one.request, one.row] = number
            else:
                assert one.at is not None
                self._by_entity.setdefault(one.keys, []).append((one.at, number))
        for found in self._by_entity.values():
            found.sort()
        self._names = sorted({tuple(name for name, _ in keys) for keys in self._by_entity})

    def take(self, block: ServedBlock) -> None:
        """Look at the rows of a block, which has those that are forgotten, too."""
        if block.head.service != self.service:
            return
        told = dict(zip(block.head.predicted, block.predicted, strict=True))
        predictions = self._predictions(block, told)
        keyed = dict(zip(block.head.keys, block.keys, strict=True))
        names = [one for one in self._names if {*one} <= keyed.keys()]
        by = [_told_by(block, name) for name in self.by]
        for i, named in rows_by_request(block):
            if is_forgotten(block, i) or not self._is_meant(told, i):
                continue
            self._served.append(block.served_at[i])
            place = block.process, block.request[i], named[-1][1], told["target"][i] if told else ""
            keys = tuple(column[i] for column in block.keys)
            told_by = tuple(column[i] for column in by)
            row = _Row(block.as_of[i], block.served_at[i], place, keys, predictions[i], told_by)
            for name in named:
                number = self._by_request.get(name)
                if number is not None:
                    self._offer(number, row)
            for one in names:
                self._of_entity(tuple((name, keyed[name][i]) for name in one), row)

    def _is_meant(self, told: Mapping[str, Any], i: int) -> bool:
        """Whether a row is one that is judged."""
        if self.target is not None:
            return bool(told) and told["target"][i] == self.target
        return not told or bool(told["answered"][i])

    def _predictions(self, block: ServedBlock, told: Mapping[str, Any]) -> list[str | None]:
        """The prediction of each row as JSON, None where it has none."""
        if self.feature is None:
            return list(told["prediction"]) if told else [None] * block.rows
        known = list(block.head.outputs)
        if self.feature not in known:
            raise ArgumentError(
                f"prediction: service {self.service!r} served no feature {self.feature!r}; "
                f"{near(self.feature, known, listed='there are')}"
            )
        values = block.values[known.index(self.feature)]
        plain = (bool, int, float, str)
        return [json.dumps(v) if isinstance(v, plain) else None for v in values]

    def _of_entity(self, keys: _Keys, row: _Row) -> None:
        """Offer a row to the outcomes of its entity from its instant on, within the horizon."""
        found = self._by_entity.get(keys, ())
        for at, number in found[bisect_left(found, (row.as_of,)) :]:
            if at > row.as_of + self.horizon:
                break
            self._offer(number, row)

    def _offer(self, number: int, row: _Row) -> None:
        before = self.best[number]
        if before is None or before.rank < row.rank:
            self.best[number] = row

    def matched(self, start: int, end: int) -> Matched:
        """The rows that were served from `start` up to but not at `end`, with their outcomes."""
        found = Matched(rows=sum(start <= at < end for at in self._served))
        first: dict[_Place, tuple[Any, Outcome, _Row]] = {}
        for one, row in zip(self.outcomes, self.best, strict=True):
            if row is None:
                found.unmatched += 1
                continue
            if not start <= row.served_at < end:
                found.outside += 1
                continue
            # What names the request comes first, then what happened first.
            order = one.request is None, one.at or 0, one.said, one.known_at
            before = first.get(row.place)
            found.further += before is not None
            if before is None or order < before[0]:
                first[row.place] = order, one, row
        found.waiting = found.rows - len(first)
        for _, one, row in first.values():
            told = one.prediction if row.prediction is None else row.prediction
            if told is None:
                found.bare += 1
            else:
                prediction, outcome = json.loads(told), json.loads(one.value)
                found.judged.append(Judged(row.served_at, row.keys, prediction, outcome, row.by))
        return found


def _told_by(block: ServedBlock, name: str) -> Sequence[Any]:
    """The column of a block that a name is of: a feature, a join key or a request field; of a
    feature, ERRED where it erred. ArgumentError where there is none."""
    outputs, keys, fields = list(block.head.outputs), list(block.head.keys), block.head.request
    if name in outputs:
        place = outputs.index(name)
        both = zip(block.values[place], block.statuses[place], strict=True)
        return [ERRED if status == ERROR_STATUS else value for value, status in both]
    if name in keys:
        return block.keys[keys.index(name)]
    if name in fields:
        return block.fields[list(fields).index(name)]
    known = [*outputs, *keys, *fields]
    raise ArgumentError(
        f"by: service {block.head.service!r} served no {name!r}; "
        f"{near(name, known, listed='there are')}"
    )


def joined(
    join: Join, blocks: Iterable[ServedBlock], progress: Callable[[int], None] | None
) -> Join:
    """The join after all blocks of a log; `progress` is told of the rows that were read."""
    rows = 0
    for block in blocks:
        rows += block.rows
        join.take(block)
        if progress is not None:
            progress(rows)
    return join
