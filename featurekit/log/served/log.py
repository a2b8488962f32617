"""Takes the answers of lookups and lets a thread write them, so that serving never waits.

A lookup packs its rows into bytes and appends them to a queue. The thread turns many of them into
columns at once. If it cannot keep up, or cannot reach its sink, the queue becomes full; then rows
are dropped and counted.

Rows wait as bytes, not as objects. Packing a row takes less time than lookups lose if each leaves
its objects behind, which costs fresh memory and garbage collection (benchmarks/serving_log.py).
"""

from __future__ import annotations

import itertools
import marshal
import os
import pickle
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from featurekit.core.ending import at_end, not_at_end
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service, View
from featurekit.errors import FeaturekitError
from featurekit.log.served.block import ServedBlock, ServedHead, encode
from featurekit.online.lookup.steps import Opened
from featurekit.online.state.state import newest_arrival

_POLL_S = 0.5
# A lookup that comes back from Redis while the thread works has to wait for it. Many short waits
# would show in the slowest hundredth of lookups, so the thread takes some hundred rows at a time
# and pauses.
_MOST, _PAUSE_S = 400, 0.005
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1

_Queue = dict[tuple[int, bool], tuple[Service, list[bytes]]]
"""The requests that wait, by their version and by whether a model was asked."""

Mark = Callable[[View], int | None]
"""Gives the instant up to which a view is materialised, None if it is not."""


class Sink(Protocol):
    """Where blocks go. One thread calls the methods. OSError and FeaturekitError are failures,
    after which the same block is given again."""

    def take(self, block: ServedBlock, data: bytes) -> None:
        """Keep a block, whose bytes are `data`."""
        ...

    def flush(self) -> None:
        """Make the blocks that are old enough readable by others."""
        ...

    def close(self) -> None:
        """Make all blocks readable by others."""
        ...


@dataclass(frozen=True, slots=True)
class Logged:
    """What a log has done: the rows `written` to its sink, the rows `waiting`, the rows `dropped`
    because the queue was full, and the last failure of the sink; that is "" if the last write
    succeeded."""

    written: int
    waiting: int
    dropped: int
    failure: str


class _Served(NamedTuple):
    """A request: its number, the instant at which it was served, its join keys by column and
    request fields by row, each row's values and statuses, the instant asked about, the newest
    arrivals in its states, and what a model predicted of it, if one was asked."""

    number: int
    at: int
    entities: Mapping[str, Sequence[Any]]
    requests: Sequence[Mapping[str, Any]]
    answers: Sequence[tuple[Sequence[Any], Sequence[str]]]
    instants: Sequence[int]
    arrivals: Sequence[Sequence[int | None]]
    predicted: Sequence[Sequence[Any]]


class ServingLog:
    """A log of what was served. `sample` is the share of requests that it takes. They are spread
    evenly and not by chance: the same requests in the same order give the same sample.

    `queue_rows` limits the rows that wait, including those on their way to the sink. A crash loses
    the rows that wait and those that the sink has not flushed. `close` writes them all; the process
    calls it as it exits.
    """

    def __init__(
        self,
        sink: Sink,
        project: str,
        *,
        sample: float = 1.0,
        queue_rows: int = 20_000,
        marks: Callable[[], Mark] = lambda: _unknown,
    ) -> None:
        self.sink, self.project = sink, project
        self.queue_rows = queue_rows
        self._marks = marks
        self._before = self._read_marks()
        self._below = int(sample * 2**64)
        self._begin()
        at_end(self.close)
        again = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (again() or (lambda: None))())

    def _begin(self) -> None:
        """Start empty: a forked process must not write its parent's rows, which the parent
        writes."""
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._queue: _Queue = {}
        self._waiting = self._dropped = self._written = 0
        self._failure = ""
        self._requests = itertools.count()
        self._process = uuid.uuid4().hex
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._blocks: list[tuple[ServedBlock, bytes]] = []
        self._heads: dict[tuple[int, bool], tuple[Service, ServedHead]] = {}

    @property
    def done(self) -> Logged:
        """What the log has done so far."""
        with self._lock:
            return Logged(self._written, self._waiting, self._dropped, self._failure)

    # --- the lookup's side ------------------------------------------------------------------------

    def wants(self) -> int | None:
        """The number of the next request if it is to be logged, else None."""
        number = next(self._requests)
        return number if (number * _GOLDEN) & _MASK < self._below else None

    def take(
        self,
        number: int,
        service: Service,
        entities: Mapping[str, Sequence[Any]],
        requests: Sequence[Mapping[str, Any]],
        answers: Sequence[tuple[Sequence[Any], Sequence[str]]],
        instants: Sequence[int],
        keys: Sequence[Sequence[bytes | None]],
        states: Mapping[bytes, Opened],
        *,
        predicted: Sequence[Sequence[Any]] = (),
    ) -> None:
        """Log the request `number`: its rows, the answers, and the states that they came from, with
        the values of PREDICTED for each row where a model was asked. It keeps only the bytes, so
        the caller may change its objects afterwards."""
        arrivals = [
            [newest_arrival(b) if k and isinstance(b := states[k], bytes) else None for k in row]
            for row in keys
        ]
        at = time.time_ns() // 1000
        packed = _pack((number, at, entities, requests, answers, instants, arrivals, predicted))
        n = len(instants)
        with self._lock:
            if self._waiting + n > self.queue_rows:
                self._dropped += n
                return
            self._waiting += n
            kind = id(service), bool(predicted)
            waiting = self._queue.get(kind)
            if waiting is None:
                waiting = self._queue[kind] = service, []
            waiting[1].append(packed)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._over.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="featurekit-serving-log", daemon=True
                )
                self._thread.start()

    # --- the thread's side ------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.wait(_POLL_S):
            self._write(self.sink.flush)

    def _write(self, finish: Callable[[], None]) -> None:
        """Bring what waits to the sink. The next call tries again what failed."""
        with self._writing:
            self._write_alone(finish)

    def _write_alone(self, finish: Callable[[], None]) -> None:
        with self._lock:
            found, self._queue = self._queue, {}
            dropped = self._dropped
        try:
            for block, data in self._made(found, dropped):
                self._blocks.append((block, data))
            while self._blocks:
                block, data = self._blocks[0]
                self.sink.take(block, data)
                del self._blocks[0]
                with self._lock:
                    self._waiting -= block.rows
                    self._written += block.rows
            finish()
        except Exception as error:  # lookups go on, and a warning says it
            first, self._failure = not self._failure, str(error) or repr(error)
            if first:
                warnings.warn(f"the serving log cannot be written: {error!r}", stacklevel=2)
        else:
            self._failure = ""

    def _made(self, found: _Queue, dropped: int) -> Iterable[tuple[ServedBlock, bytes]]:
        if not found:
            return
        # The rows were served between the last two readings of the marks.
        before, self._before = self._before, self._read_marks()
        for (_, predicted), (service, packed) in found.items():
            head = self._head(service, predicted)
            until = [_both(before(view), self._before(view)) for view in service.views]
            for part in _parts(packed):
                block = _block(head, part, until, self._process, dropped)
                yield block, b"".join(encode(block))
                time.sleep(_PAUSE_S)

    def _head(self, service: Service, predicted: bool) -> ServedHead:
        kind = id(service), predicted
        known = self._heads.get(kind)
        if known is None:
            numerics = numeric_fingerprint(service)
            head = ServedHead.of(self.project, service, numerics, predicted=predicted)
            known = self._heads[kind] = service, head
        return known[1]

    def _read_marks(self) -> Mark:
        try:
            return self._marks()
        except FeaturekitError:
            return _unknown

    def flush(self) -> None:
        """Write what waits, so that others can read it."""
        self._write(self.sink.close)

    def close(self) -> None:
        """Write what waits. Rows that cannot be written are dropped and counted, and a warning says
        so."""
        not_at_end(self.close)
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._write(self.sink.close)
        with self._lock:
            lost, self._waiting = self._waiting, 0
            self._dropped += lost
            self._queue, self._blocks = {}, []
        if lost:
            warnings.warn(
                f"the serving log lost {lost} rows at its end: {self._failure}", stacklevel=2
            )


def _unknown(view: View) -> int | None:
    return None


def _both(before: int | None, after: int | None) -> tuple[int, int] | None:
    if after is None:
        return None if before is None else (before, before)
    return (after if before is None else before), after


def _pack(served: tuple[Any, ...]) -> bytes:
    """A request as bytes. Marshal is the fastest for plain values and keeps their bits and types;
    it accepts no datetime, and no subclass of a plain type."""
    try:
        return b"m" + marshal.dumps(served)
    except ValueError:
        return b"p" + pickle.dumps(served, pickle.HIGHEST_PROTOCOL)


def _unpack(packed: bytes) -> _Served:
    data = memoryview(packed)[1:]
    return _Served(*(marshal.loads(data) if packed[:1] == b"m" else pickle.loads(data)))


def _parts(packed: Sequence[bytes]) -> Iterable[list[_Served]]:
    """The requests in parts of about `_MOST` rows; each part has at least one request."""
    part: list[_Served] = []
    rows = 0
    for one in packed:
        served = _unpack(one)
        part.append(served)
        rows += len(served.instants)
        if rows >= _MOST:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _block(
    head: ServedHead,
    served: list[_Served],
    until: list[tuple[int, int] | None],
    process: str,
    dropped: int,
) -> ServedBlock:
    lengths = [len(one.instants) for one in served]
    repeated = itertools.chain.from_iterable
    answers = list(repeated(one.answers for one in served))
    requests = list(repeated(one.requests for one in served))
    arrivals = repeated(one.arrivals for one in served)
    none: list[Any] = []
    return ServedBlock(
        head,
        list(repeated([one.at] * n for one, n in zip(served, lengths, strict=True))),
        list(repeated(one.instants for one in served)),
        list(repeated([one.number] * n for one, n in zip(served, lengths, strict=True))),
        list(zip(*arrivals, strict=True)) or [none for _ in head.views],
        [list(repeated(one.entities[name] for one in served)) for name in head.keys],
        [[row[name] for row in requests] for name in head.request],
        list(zip(*(values for values, _ in answers), strict=True)) or [none for _ in head.outputs],
        list(zip(*(statuses for _, statuses in answers), strict=True))
        or [none for _ in head.outputs],
        until,
        process,
        dropped,
        [list(column) for column in zip(*repeated(one.predicted for one in served), strict=True)],
    )
