"""Turns rows into what a live store answers to them, and the states that were read for it.

Many rows are read by processes of their own, which keep to one rate together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.errors import AsOfTooOld
from featurekit.language.wire import from_json, to_json
from featurekit.online.lookup.evaluator import Ahead, Evaluator
from featurekit.online.state.seal import opened_state
from featurekit.online.state.state import newest_arrival
from featurekit.online.store.clock import TOLERANCE_US
from featurekit.online.store.open import open_store
from featurekit.online.store.protocol import OnlineStore
from featurekit.parity.compare import Answers
from featurekit.parity.paths import answer_from
from featurekit.parity.processes import Processes, Work

_READ = 200
"""States that one MGET reads: Redis answers lookups between them."""


@dataclass(slots=True)
class LiveAnswers:
    """What was answered to the rows of the numbers `kept`; the others are to be asked at a later
    instant. `states` are those that were read, `newest` is for each view the newest arrival among
    them. `ahead` of the rows have a state that holds an arrival after the store's clock, and are
    answered as erring (S3)."""

    kept: list[int]
    answers: Answers
    newest: list[int | None]
    states: dict[bytes, bytes | None]
    ahead: int = 0


def read(
    store: OnlineStore, plan: Evaluator, rows: Sequence[dict[str, Any]], at: int, *, rate: float
) -> LiveAnswers:
    """Answer rows as of `at` from the store, reading at most `rate` states a second. OnlineError
    for a state that is not whole."""
    entities, requests = plan.check_rows(rows)
    keys = plan.state_keys(entities, len(rows))
    states: dict[bytes, bytes | None] = {}
    kept, answered, late = [], [], 0
    width = max(1, _READ // max(1, len(plan.prefixes)))
    began = time.monotonic()
    for first in range(0, len(rows), width):
        last = min(first + width, len(rows))
        wanted = list(dict.fromkeys(k for row in keys[first:last] for k in row if k is not None))
        found = dict(zip(wanted, store.read(wanted), strict=True))
        states |= found
        for i in range(first, last):
            try:
                answered.append(answer_from(store, plan, keys[i], found, requests[i], at))
            except AsOfTooOld:  # something arrived after `at`
                ahead = Ahead(store.read_at((), plan.clock_key)[1])
                try:
                    answer = answer_from(store, plan, keys[i], found, requests[i], at, ahead)
                except AsOfTooOld:
                    continue
                late += len(ahead.rows)
                answered.append(answer)
            kept.append(i)
        early = len(states) / rate - (time.monotonic() - began)
        if early > 0:
            time.sleep(early)
    outputs = len(plan.service.outputs)
    newest: list[int | None] = []
    for v, lookup in enumerate(plan.lookups):
        own = {key for row in keys if (key := row[v]) is not None}
        blobs = (opened_state(lookup.view, key, states[key]) for key in own)
        arrivals = (newest_arrival(b) for b in blobs if b is not None)
        newest.append(max((a for a in arrivals if a <= at + TOLERANCE_US), default=None))
    return LiveAnswers(
        kept,
        Answers(
            list(zip(*(values for values, _ in answered), strict=True)) or [()] * outputs,
            list(zip(*(statuses for _, statuses in answered), strict=True)) or [()] * outputs,
        ),
        newest,
        states,
        late,
    )


def readers(number: int, url: str, project: str) -> Processes:
    """So many processes that read one store, for `read_by`."""
    return Processes(number, _reader, url, project)


def read_by(
    processes: Processes, plan: Evaluator, rows: Sequence[dict[str, Any]], at: int, *, rate: float
) -> list[tuple[range, LiveAnswers]]:
    """As `read`, each process a part of the rows; without the states."""
    n = len(processes)
    step = -(-len(rows) // n)
    service = to_json(plan.service)
    own = [range(min(i * step, len(rows)), min((i + 1) * step, len(rows))) for i in range(n)]
    tasks = [(service, [rows[k] for k in part], at, rate / n) for part in own]
    return list(zip(own, processes.one_each(tasks), strict=True))


def _reader(url: str, project: str) -> Work:
    """What a process does: it reads the rows that it is told, for a service as JSON."""
    store = open_store(url)
    plans: dict[str, Evaluator] = {}

    def work(task: Any) -> LiveAnswers:
        service, rows, at, rate = task
        made = from_json(service)
        plan = plans.get(made.fingerprint) or Evaluator(project, made)
        found = read(store, plans.setdefault(made.fingerprint, plan), rows, at, rate=rate)
        found.states = {}
        return found

    return work
