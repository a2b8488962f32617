"""Compares the live online store with offline at one instant, and only reads.

Half of the entities are found in the store, by a SCAN that goes on from where it was, half in the
events offline, so that those which only one side knows are seen. The instant is one before which no
push is under way. What differs is read again: a state that has changed meanwhile is asked about
another time, not compared with what it was. See `lag` for how lag is told from skew.

The online side is what the store answers in this process, or what a service answers over HTTP.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

from featurekit.core import tables
from featurekit.core.keys import clock_key, entity_values, state_prefix
from featurekit.core.screen import Advance
from featurekit.core.sql import quote
from featurekit.core.status import ERROR_STATUS, NEVER
from featurekit.define.plan import Service, View
from featurekit.errors import NotServed, OnlineError
from featurekit.offline.counted_events import make_events
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.parity.budget import Budget
from featurekit.parity.check import Check
from featurekit.parity.compare import Answers, parting, parts
from featurekit.parity.diagnose.diagnose import diagnose_report
from featurekit.parity.modes.lag import KnownEvents, from_online, inputs
from featurekit.parity.modes.live import LiveAnswers, read, read_by, readers
from featurekit.parity.modes.remote import Ask, told_by
from featurekit.parity.paths import Asked, Offline
from featurekit.parity.processes import Processes
from featurekit.parity.questions import request_fields
from featurekit.parity.report import Difference, Report
from featurekit.parity.scenario import Scenario, lenient
from featurekit.parity.stored import stored_scenario
from featurekit.parity.third import add_third_opinion
from featurekit.project.deployment import materialized_marks
from featurekit.project.leases import settled_until
from featurekit.project.project import Project

_READ = 200
_ROWS, _MANY = 100_000, 5_000
_EXPLAINED = 20_000
_TRIES = 3
_POLL_S, _PATIENCE_S, _DIAGNOSING_S = 0.05, 10.0, 20.0


def run(project: Project, service: Service, check: Check) -> Report:
    """The report of one check of the version of a service that is live."""
    live = LiveCheck(project, service.name, seed=check.seed, workers=check.workers)
    with closing(live):
        return live.run(check.most(100_000), progress=check.progress)


class LiveCheck:
    """Checks of one live service, one after the other: each asks about other entities.

    `rate` bounds how many states a second are read, by `workers` processes where there are many, by
    default one for each processor. A feature that goes on differing is diagnosed once: to say why
    takes longer than to check.

    With `ask`, what it answers is compared, and not what the store says here. The store is read all
    the same: it says whom to ask about, and what has changed meanwhile.
    """

    def __init__(
        self,
        project: Project,
        service: str,
        *,
        seed: int = 0,
        rate: int = 50_000,
        workers: int | None = None,
        ask: Ask | None = None,
        online: OnlineService | None = None,
    ) -> None:
        """`online` is a version of the service, where not the live one is to be checked."""
        self.project, self.name, self.seed, self.rate = project, service, seed, rate
        self.ask = ask
        self.offline = Offline(project.training_set)
        self.workers = workers or os.cpu_count() or 1
        self.readers: Processes | None = None
        self.rng = random.Random(seed)
        mismatch = project.config.featurekit.numeric_mismatch
        self.online = online or OnlineService(
            project.online, project.name, service, on_mismatch=mismatch, trust=project.trust
        )
        self.scans: dict[str, Iterator[list[bytes]]] = {}
        self._diagnosed: set[str] = set()
        self._asked: set[str] = set()
        self._ahead, self._apart = 0, Counter[str]()

    def run(
        self,
        budget: Budget,
        *,
        progress: Advance | None = None,
        stop: threading.Event | None = None,
    ) -> Report:
        """Compare about as many values as the budget says, fewer where there are no more entities
        to ask about, or `stop` is set.

        NotServed where the service is not live, FingerprintMismatch where the numeric fingerprint
        of what is live differs from this platform's (R6), DefinitionError or OnlineError where the
        repo defines its sources otherwise now.
        """
        plan = self.online.current()
        service = lenient(plan.service)
        report = Report(self.name, self.seed, mode="sample")
        unreadable = [v.source.title for v in service.views if not self.project.readable(v)]
        if unreadable:
            raise OnlineError(
                f"the live version of service {self.name!r} reads source {unreadable[0]!r} as the "
                "repo does not define it any more, so it cannot be recomputed; materialise the new "
                "version first"
            )
        self._note_version(service, report)
        clock, self._ahead, self._apart = budget.clock(), 0, Counter()
        outputs = len(service.outputs)
        while True:
            wanted = _ROWS
            if budget.values is not None:
                wanted = min(_ROWS, -(-(budget.values - report.compared) // outputs))
            rows = self._draw(plan, max(wanted, 1))
            if not rows:
                break
            before = report.compared
            self._compare(report, Evaluator(self.project.name, service), rows)
            if progress is not None:
                progress(report.compared, budget.values or report.compared)
            if len(rows) < wanted or report.compared == before or not clock.left(report.compared):
                break
            if stop is not None and stop.is_set():
                break
        self._note_ahead(report)
        self._note_apart(report)
        self._diagnose(service, report)
        self._ask_a_third(service, report)
        report.seconds = clock.taken
        return report

    def _diagnose(self, service: Service, report: Report) -> None:
        """Say why features differ that were not said of before."""
        differ = {name for name, found in report.features.items() if found.differing}
        self._diagnosed &= differ
        # What the store answers rightly has no cause in events and states.
        of_server = {
            name for name in differ if self._apart[name] >= report.features[name].differing
        }
        if report.differences:
            diagnose_report(
                report,
                self._scenario_of(service),
                seconds=_DIAGNOSING_S,
                known=self._diagnosed | of_server,
            )
            self._diagnosed |= {d.feature for d in report.differences if d.diagnosis is not None}

    def _ask_a_third(self, service: Service, report: Report) -> None:
        """Add a third opinion, once for each version: it changes with that alone."""
        if service.fingerprint not in self._asked:
            self._asked.add(service.fingerprint)
            add_third_opinion(self.project, service, report)

    def _note_version(self, service: Service, report: Report) -> None:
        here = self.project.repo.compiled_services.get(self.name)
        if here is not None and here.fingerprint != service.fingerprint:
            report.notes.append(
                f"version {service.fingerprint[:12]} is live, and the repo defines "
                f"{here.fingerprint[:12]}: the live one was compared, by its own definition"
            )

    def _note_ahead(self, report: Report) -> None:
        if self._ahead:
            report.notes.append(
                f"{self._ahead} rows have a state that holds an arrival after the store's clock, "
                "and are not answered (S3): `featurekit materialize` remakes such states"
            )

    def _note_apart(self, report: Report) -> None:
        if self._apart:
            report.notes.append(
                f"{self._apart.total()} values that the service gave are not what its store says "
                "here: they went wrong in the server or on the way, and not in a state"
            )

    def _scenario_of(self, service: Service) -> Callable[[Difference], Scenario | None]:
        until = {
            view.name: NEVER if mark is None else mark
            for view, mark in zip(service.views, self._marks(service), strict=True)
        }
        filled = min(until.values(), default=NEVER)
        return partial(
            stored_scenario, self.project, service, filled_until=filled, online_until=until
        )

    # --- whom to ask about ------------------------------------------------------------------------

    def _draw(self, plan: Evaluator, wanted: int) -> list[dict[str, Any]]:
        """Rows: half of them of entities with a state, half of entities with an event."""
        service = plan.service
        if not service.views:  # transforms alone: there are no entities
            return [request_fields(service, self.rng) for _ in range(wanted)]
        each = max(1, wanted // (2 * len(service.views)))
        found: list[dict[str, Any]] = []
        for view in service.views:
            found += self._stated(view, each)
        con = self.project.connect()
        try:
            for view in service.views:
                found += self._known(con, service, view, each)
        finally:
            con.close()
        pools = {
            key: [row[key] for row in found if row.get(key) is not None]
            for key in service.join_keys
        }
        rows = []
        for row in found:
            keys = {
                key: row[key] if key in row else self.rng.choice(pool) if pool else None
                for key, pool in pools.items()
            }
            rows.append({**keys, **request_fields(service, self.rng)})
        self.rng.shuffle(rows)
        return rows[:wanted]

    def _stated(self, view: View, wanted: int) -> list[dict[str, Any]]:
        """The keys of some entities that have a state, from where the last SCAN stopped on."""
        prefix = state_prefix(self.project.name, view)
        names, types = zip(*((p.name, p.type) for p in view.row_keys), strict=True)
        found: dict[bytes, None] = {}
        fresh = view.fingerprint not in self.scans
        while len(found) < wanted:
            scan = self.scans.setdefault(view.fingerprint, self.project.online.scan(prefix))
            keys = next(scan, None)
            if keys is None:
                del self.scans[view.fingerprint]
                if fresh:
                    break  # that was all of them
                fresh = True
                continue
            found |= dict.fromkeys(keys)
            time.sleep(0)
        return [
            dict(zip(names, entity_values(types, key[len(prefix) + 1 : -1]), strict=True))
            for key in found
        ]

    def _known(self, con: Any, service: Service, view: View, wanted: int) -> list[dict[str, Any]]:
        """The keys of some entities that an event of the view names, all that its source knows."""
        columns = service.key_columns(view)
        there = " AND ".join(f"{quote(p.name)} IS NOT NULL" for p in view.join_keys)
        shown = ", ".join(f"{quote(c)} AS {quote(k)}" for k, c in columns.items())
        types = {k: service.join_keys[k] for k in columns}
        seed = self.rng.getrandbits(32)
        events = make_events(con, view, self.project.events(con, view).relation)
        known = f"(SELECT DISTINCT {shown} FROM {events} WHERE {there})"
        own = ", ".join(quote(p.name) for p in view.row_keys)
        every = ", ".join(map(quote, columns))
        chosen = f"ORDER BY hash({own}, {seed}), {every} LIMIT {wanted}"
        return tables.rows(con, known, types, then=chosen)

    # --- what they answer -------------------------------------------------------------------------

    def _compare(self, report: Report, plan: Evaluator, rows: list[dict[str, Any]]) -> None:
        many = len(rows) >= _MANY and self.workers > 1 and self.ask is None
        if many and hasattr(self.project.online, "url"):
            rows = self._agreeing(report, plan, rows)
        for _ in range(_TRIES):
            rows = self._once(report, plan, rows)
            if not rows:
                return
        report.unchecked["of entities that changed while they were read"] += len(rows)

    def _agreeing(
        self, report: Report, plan: Evaluator, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Count the rows on which both paths, asked at the same time, agree; all others, which are
        to be asked one path after the other."""
        service = plan.service
        if self.readers is None:
            url = self.project.online.url  # type: ignore[attr-defined]
            self.readers = readers(self.workers, url, self.project.name)
        at = self._settled(service)
        asked = Asked.of(service, rows, at)
        with ThreadPoolExecutor(1) as other:
            waiting = other.submit(self.offline.answers, service, asked)
            found = read_by(self.readers, plan, rows, at, rate=self.rate)
            offline = waiting.result()
        suspects: set[int] = {*range(len(rows))}
        for part, answer in found:
            numbers = [part[k] for k in answer.kept]
            of_part = offline.some(numbers)
            parted = parting(service, of_part, answer.answers)
            odd = {k for o in parted for k in o}
            agreed = [k for k in range(len(numbers)) if k not in odd]
            suspects -= {numbers[k] for k in agreed}
            report.rows += len(agreed)
            report.count_answers(service, of_part.some(agreed) if odd else of_part)
            self._freshness(report, service, answer.newest, at)
        return [rows[i] for i in sorted(suspects)]

    def _settled(self, service: Service) -> int:
        """An instant that every push that is under way, or comes, is stamped after."""
        online, name = self.project.online, self.project.name
        sources = {name for view in service.views for name in view.source_names}
        return min([self._now(), *(settled_until(online, name, source) for source in sources)])

    def _now(self) -> int:
        """What the store's clock says."""
        return self.project.online.read_at((), clock_key(self.project.name))[1]

    def _once(
        self, report: Report, plan: Evaluator, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Compare the rows at one instant; those that changed meanwhile, to be asked again."""
        service = plan.service
        at = self._settled(service)
        marks = self._marks(service)
        until = [mark for mark in marks if mark is not None]
        if len(until) < len(marks):
            raise NotServed(
                f"a view of service {self.name!r} is not materialised any more; run `featurekit "
                "materialize`"
            )
        rate = self.rate if self.ask is None else self.rate / 2  # the server reads them, too
        answer = read(self.project.online, plan, rows, at, rate=rate)
        again = [rows[i] for i in sorted({*range(len(rows))} - {*answer.kept})]
        rows, served = [rows[i] for i in answer.kept], answer.answers
        if self.ask is not None:
            rows, served, late = self._told(report, service, rows, at, answer)
            again += late
        if not rows:
            return again
        asked = Asked.of(service, rows, at)
        offline = self.offline.answers(service, asked)
        parted = parting(service, offline, served)
        moved = self._moved(plan, asked, sorted({i for o in parted for i in o}), answer.states)
        if self._marks(service) != marks:
            moved = {i for o in parted for i in o}
        if moved:
            stay = [i for i in range(len(rows)) if i not in moved]
            again += [rows[i] for i in sorted(moved)]
            asked = asked.some(stay)
            offline, served = offline.some(stay), served.some(stay)
            answer.answers = answer.answers.some(stay)
            parted = parting(service, offline, served)
        if self.ask is not None:
            self._apart += _apart(service, answer.answers, served)
        report.rows += len(asked.at)
        self._ahead += answer.ahead
        report.count_answers(service, offline)
        self._freshness(report, service, answer.newest, at)
        explained = self._explained(service, asked, served, parted, until, at)
        report.tell_apart(service, asked, offline, served, parted, explained)
        return again

    def _told(
        self,
        report: Report,
        service: Service,
        rows: list[dict[str, Any]],
        at: int,
        here: LiveAnswers,
    ) -> tuple[list[dict[str, Any]], Answers, list[dict[str, Any]]]:
        """The rows that the service answered, its answers, and the rows to be asked again. The
        answers of `here` become those for the same rows."""
        assert self.ask is not None
        told = told_by(self.ask, service, rows, at)
        statuses = here.answers.statuses
        for i, error in told.failed.items():
            if not any(column[i] == ERROR_STATUS for column in statuses):
                raise error  # there is nothing that the service may fail for
        if told.failed:
            reason = 'that the service refuses, since a view with on_error="fail" erred'
            report.unchecked[reason] += len(told.failed)
        here.answers = here.answers.some(told.kept)
        return [rows[i] for i in told.kept], told.answers(service), [rows[i] for i in told.late]

    def _marks(self, service: Service) -> list[int | None]:
        mark = materialized_marks(self.project.online, self.project.name)
        return [mark(view) for view in service.views]

    def _read(self, keys: Any) -> dict[bytes, bytes | None]:
        wanted = list(dict.fromkeys(keys))
        return dict(zip(wanted, self.project.online.read(wanted), strict=True))

    def _moved(
        self,
        plan: Evaluator,
        asked: Asked,
        rows: list[int],
        states: Mapping[bytes, bytes | None],
    ) -> set[int]:
        """Those of the rows whose states are not what they were, once every push is over that may
        have been in the log, and not in the states yet, when offline was asked."""
        if not rows:
            return set()
        now, began = self._now(), time.monotonic()
        while self._settled(plan.service) < now - 1:
            if time.monotonic() - began > _PATIENCE_S:
                return {*rows}
            time.sleep(_POLL_S)
        some = asked.some(rows)
        keys = plan.state_keys({k: list(v) for k, v in some.columns.items()}, len(rows))
        moved = set()
        for first in range(0, len(rows), _READ):
            part = keys[first : first + _READ]
            found = self._read(k for row in part for k in row if k is not None)
            for i, row in zip(rows[first : first + _READ], part, strict=True):
                if any(found[k] != states[k] for k in row if k is not None):
                    moved.add(i)
        return moved

    def _explained(
        self,
        service: Service,
        asked: Asked,
        served: Answers,
        parted: list[list[int]],
        marks: Sequence[int],
        at: int,
    ) -> dict[tuple[int, int], int | None]:
        """The differences that are lag, by output and row: when the oldest event arrived that is
        not online."""
        differing = sorted({i for rows in parted for i in rows})
        found: dict[tuple[int, int], int | None] = {}
        for first in range(0, len(differing), _EXPLAINED):
            part = differing[first : first + _EXPLAINED]
            known = [KnownEvents(mark, [at] * len(part)) for mark in marks]
            lag = from_online(self.project, service, asked.some(part), known)
            here = served.some(part)
            for o, still in enumerate(parting(service, lag.answers, here)):
                lagging = {*parted[o]}
                for k in {*range(len(part))} - {*still}:
                    if part[k] in lagging:
                        found[o, part[k]] = lag.oldest(service, o, k)
        return found

    def _freshness(
        self, report: Report, service: Service, newest: Sequence[int | None], at: int
    ) -> None:
        """For each feature, how long ago the newest event arrived that its states have taken."""
        for o, output in enumerate(service.outputs):
            of_output = [n for v in inputs(service, o) if (n := newest[v]) is not None]
            feature = report.features[output.full_name]
            ages = [max(0, at - max(of_output))] if of_output else []
            if feature.fresh_us is not None:
                ages.append(feature.fresh_us)
            feature.fresh_us = min(ages, default=None)

    def close(self) -> None:
        """End the processes that read; they are started again when they are needed."""
        if self.readers is not None:
            self.readers.close()
            self.readers = None


def _apart(service: Service, here: Answers, there: Answers) -> Counter[str]:
    """How many values of two online answers differ in type, bits or status, by feature."""
    found: Counter[str] = Counter()
    for o, output in enumerate(service.outputs):
        one = zip(here.values[o], here.statuses[o], strict=True)
        other = zip(there.values[o], there.statuses[o], strict=True)
        n = sum(map(parts, one, other))
        if n:
            found[output.full_name] = n
    return found
