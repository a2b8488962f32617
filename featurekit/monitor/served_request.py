"""Finds the rows of a request in the serving log: by its id, or by the process that served it and
the number that it had there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from featurekit.core.types import instant
from featurekit.errors import DataError
from featurekit.log.served.block import LOOKED_UP, ServedBlock, is_forgotten
from featurekit.parity.compare import Stated, bits

_NO_MODEL: Mapping[str, Any] = {
    "request_id": "",
    "target": "",
    "role": LOOKED_UP,
    "answered": True,
    "prediction": None,
    "error": None,
    "latency_us": 0,
    "model_version": None,
    "route": "",
    "caller": "",
}
"""What is known of a lookup that a process of Python made of its own store."""


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the log: the place `i` in a block, and its place `row` in the request."""

    block: ServedBlock
    i: int
    row: int

    @property
    def predicted(self) -> Mapping[str, Any]:
        """What the log says of the answer beside its features."""
        return _predicted(self.block, self.i)

    @property
    def keys(self) -> dict[str, Any]:
        """The join keys."""
        return {n: c[self.i] for n, c in zip(self.block.head.keys, self.block.keys, strict=True)}

    @property
    def request(self) -> dict[str, Any]:
        """The request fields."""
        names = self.block.head.request
        return {n: c[self.i] for n, c in zip(names, self.block.fields, strict=True)}

    @property
    def as_of(self) -> int:
        """The instant asked about, in microseconds."""
        return self.block.as_of[self.i]

    @property
    def served_at(self) -> int:
        """When it was served, in microseconds."""
        return self.block.served_at[self.i]

    @property
    def forgotten(self) -> bool:
        """Whether `forget` took everything out of it."""
        return is_forgotten(self.block, self.i)

    def stated(self, output: int) -> Stated:
        """A value and its status."""
        return self.block.values[output][self.i], self.block.statuses[output][self.i]

    @cached_property
    def told(self) -> tuple[Any, ...]:
        """What was asked and answered, equal exactly where every bit is."""
        block, i = self.block, self.i
        outputs = range(len(block.values))
        return (
            block.as_of[i],
            *(bits(column[i]) for column in (*block.keys, *block.fields)),
            *((bits(block.values[o][i]), block.statuses[o][i]) for o in outputs),
        )

    def alone(self) -> ServedBlock:
        """A block of this row alone."""
        return self.block.some([self.i])


@dataclass(slots=True)
class Found:
    """A request: PROCESS:NUMBER, who asked, and its rows."""

    request: str
    caller: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


def _predicted(block: ServedBlock, i: int) -> Mapping[str, Any]:
    if not block.head.predicted:
        return _NO_MODEL
    return {n: c[i] for n, c in zip(block.head.predicted, block.predicted, strict=True)}


def find(
    blocks: Iterable[ServedBlock], request_id: str, *, log: Callable[[], Iterable[ServedBlock]]
) -> Found:
    """The request with this id, or of this PROCESS:NUMBER, which is among the `blocks`; where
    callers used an id twice, the last one of it. DataError where there is none, which says from
    when to when the rows of the whole `log` are."""
    requests: dict[tuple[str, int], list[Row]] = {}
    for block in blocks:
        for i, row in _rows_of(block, request_id):
            requests.setdefault((block.process, block.request[i]), []).append(Row(block, i, row))
    if not requests:
        raise DataError(_none(request_id, log()))
    key, rows = max(requests.items(), key=lambda one: one[1][0].served_at)
    found = Found(f"{key[0]}:{key[1]}", str(rows[0].predicted["caller"]), rows)
    if len(requests) > 1:
        names = ", ".join(f"{process}:{number}" for process, number in requests)
        found.notes.append(
            f"{len(requests)} requests have the id {request_id!r}, and the last one is shown; "
            f"name another one as PROCESS:NUMBER: {names}"
        )
    return found


def _rows_of(block: ServedBlock, request_id: str) -> Iterator[tuple[int, int]]:
    """The places of the request's rows in a block, each with its place in the request."""
    process, _, number = request_id.rpartition(":")
    named = process == block.process and number.isdecimal()
    places: dict[int, int] = {}
    if block.head.predicted:
        columns = dict(zip(block.head.predicted, block.predicted, strict=True))
        for i, (id_, row) in enumerate(zip(columns["request_id"], columns["row"], strict=True)):
            if id_ == request_id or (named and block.request[i] == int(number)):
                yield i, row
    elif named:
        for i, of in enumerate(block.request):
            if of == int(number):
                yield i, places.setdefault(i, len(places))


def _none(request_id: str, log: Iterable[ServedBlock]) -> str:
    """What to say of a request that the log has not."""
    spans: list[tuple[int, int]] = []
    dropped: dict[str, int] = {}
    for block in log:
        dropped[block.process] = max(dropped.get(block.process, 0), block.dropped)
        spans += [(min(block.served_at), max(block.served_at))] if block.rows else []
    if not spans:
        return f"the serving log holds no rows, so it has no request {request_id!r}"
    first, last = min(spans)[0], max(end for _, end in spans)
    many = sum(dropped.values())
    lost = f", and serving let go of {many:,} rows that the log could not take" * bool(many)
    return (
        f"the serving log has no request {request_id!r}; its rows were served from "
        f"{instant(first).isoformat()} to {instant(last).isoformat()}, so an older one is pruned, "
        f"and a newer one not flushed yet{lost}; with `sample:` below 1 it has a share of the "
        "requests. A lookup from Python is named as PROCESS:NUMBER"
    )
