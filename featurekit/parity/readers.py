"""Reads and evaluates states of the online store in processes of their own, for many rows.

Each is a Python started afresh that is told its work through a pipe, as those of `workers`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.errors import AsOfTooOld, FeaturekitError, StoreUnavailable
from featurekit.language.wire import from_json, to_json
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.view import RowAnswer
from featurekit.online.state.blocks import Moved, Patience
from featurekit.online.state.state import newest_arrival
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore

_READ = 200
"""States that one MGET reads: Redis answers lookups between them."""


@dataclass(slots=True)
class Found:
    """What rows were answered: for each output a column of values and one of statuses, for the rows
    of the numbers `kept`; the others are to be asked at a later instant. `states` are those that
    were read, `newest` for each view the newest arrival among them."""

    kept: list[int]
    values: list[Sequence[Any]]
    statuses: list[Sequence[str]]
    newest: list[int | None]
    states: dict[bytes, bytes | None]


def read(
    store: OnlineStore, plan: Evaluator, rows: Sequence[dict[str, Any]], at: int, *, rate: float
) -> Found:
    """Answer rows as of `at` from the store, reading at most `rate` states a second. OnlineError
    for a state that is not whole."""
    entities, requests = plan.check_rows(rows)
    keys = plan.state_keys(entities, len(rows))
    states: dict[bytes, bytes | None] = {}
    kept, answered = [], []
    width = max(1, _READ // max(1, len(plan.prefixes)))
    began = time.monotonic()
    for first in range(0, len(rows), width):
        last = min(first + width, len(rows))
        wanted = list(dict.fromkeys(k for row in keys[first:last] for k in row if k is not None))
        found = dict(zip(wanted, store.read(wanted), strict=True))
        states |= found
        for i in range(first, last):
            try:
                answered.append(_answer(store, plan, keys[i], found, requests[i], at))
            except AsOfTooOld:  # something arrived after `at`
                continue
            kept.append(i)
        early = len(states) / rate - (time.monotonic() - began)
        if early > 0:
            time.sleep(early)
    outputs = len(plan.service.outputs)
    newest: list[int | None] = []
    for v in range(len(plan.prefixes)):
        blobs = (states[key] for row in keys if (key := row[v]) is not None)
        newest.append(max((newest_arrival(b) for b in blobs if b is not None), default=None))
    return Found(
        kept,
        list(zip(*(values for values, _ in answered), strict=True)) or [()] * outputs,
        list(zip(*(statuses for _, statuses in answered), strict=True)) or [()] * outputs,
        newest,
        states,
    )


def _answer(
    store: OnlineStore,
    plan: Evaluator,
    keys: list[bytes | None],
    found: Mapping[bytes, bytes | None],
    request: dict[str, Any],
    at: int,
) -> RowAnswer:
    """A row's outputs from the states that were found, read again where blocks are not theirs."""
    patience = Patience()
    while True:
        try:
            answers, _ = plan.evaluate([keys], found, [request], [at], store.read)
            return answers[0]
        except Moved as moved:
            patience.spend(moved)
            own = [k for k in keys if k is not None]
            found = dict(zip(own, store.read(own), strict=True))


class Readers:
    """So many processes that read one store."""

    def __init__(self, number: int, url: str, project: str) -> None:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            for _ in range(number)
        ]
        for process in self.processes:
            _send(process.stdin, (url, project))

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def read(
        self, plan: Evaluator, rows: Sequence[dict[str, Any]], at: int, *, rate: float
    ) -> list[tuple[range, Found]]:
        """As `read`, each process a part of the rows; without the states."""
        n = len(self.processes)
        step = -(-len(rows) // n)
        service = to_json(plan.service)

        def ask(i: int) -> tuple[range, Found]:
            part = range(min(i * step, len(rows)), min((i + 1) * step, len(rows)))
            process = self.processes[i]
            try:
                _send(process.stdin, (service, [rows[k] for k in part], at, rate / n))
                answer = pickle.load(process.stdout)  # type: ignore[arg-type]
            except (EOFError, OSError):
                raise StoreUnavailable("a process of the parity check died; see above") from None
            if isinstance(answer, FeaturekitError):
                raise answer
            assert isinstance(answer, Found)
            return part, answer

        with ThreadPoolExecutor(n) as threads:
            return list(threads.map(ask, range(n)))


def _send(pipe: Any, message: Any) -> None:
    pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def main() -> None:
    """Reads what is asked on standard input, and answers on standard output, until that ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    url, project = pickle.load(sys.stdin.buffer)
    store = RedisStore(url)
    plans: dict[str, Evaluator] = {}
    while True:
        try:
            service, rows, at, rate = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            made = from_json(service)
            plan = plans.setdefault(made.fingerprint, Evaluator(project, made))
            found: Any = read(store, plan, rows, at, rate=rate)
            found.states = {}
        except FeaturekitError as error:
            found = error
        _send(answers, found)
