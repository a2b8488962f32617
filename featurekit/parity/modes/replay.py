"""Recomputes offline what a serving log says was served, and compares the bits.

Each row is asked about as of its own instant, by the version that answered it. Where offline gives
something else now, the row is recomputed from what was online when it was served: if that is what
was served, the difference is lag, and no skew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from featurekit.core.status import DEFAULT, NEVER
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service
from featurekit.errors import RegistryError
from featurekit.log.served.block import ServedBlock, ServedHead
from featurekit.parity.budget import Budget
from featurekit.parity.check import Check
from featurekit.parity.compare import Answers, parting
from featurekit.parity.diagnose.diagnose import diagnose_report
from featurekit.parity.modes.lag import KnownEvents, from_online
from featurekit.parity.paths import Asked, Offline
from featurekit.parity.report import Report
from featurekit.parity.scenario import lenient
from featurekit.parity.stored import stored_scenario
from featurekit.parity.third import add_third_opinion
from featurekit.project.project import Project

_ROWS = 100_000
_EXPLAINED = 20_000
_PUSHING_US = 600_000_000
"""How long a push may be under way, and its events not online, before it is given up for dead."""


@dataclass(slots=True)
class _Rows:
    """Rows of one version, from some blocks."""

    head: ServedHead
    blocks: list[ServedBlock] = field(default_factory=list)
    rows: int = 0


def run(project: Project, service: Service, check: Check) -> Report:
    """The report of what the serving log holds of one service; without a budget, of all of it."""
    progress = check.progress
    (report,) = replay(
        project,
        [service.name],
        project.served(check.log),
        budget=None if check.budget is None else check.most(1),
        seed=check.seed,
        progress=None if progress is None else lambda done: progress(done, done),
    )
    return report


def replay(
    project: Project,
    services: Iterable[str],
    blocks: Iterable[ServedBlock],
    *,
    budget: Budget | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Report]:
    """A report for each service that the log names, or is among `services`; without a budget the
    whole log is replayed, from its oldest rows on.

    Rows of a version that cannot be recomputed here, or whose entity was forgotten since, are
    counted as unchecked, with the reason.
    """
    wanted = list(services)
    reports = {name: Report(name, seed, mode="replay") for name in wanted}
    waiting: dict[str, _Rows] = {}
    dropped: dict[str, int] = {}
    versions = Versions(project)
    clock = None if budget is None else budget.clock()
    done = 0

    def flush(name: str) -> None:
        nonlocal done
        rows = waiting.pop(name)
        report = reports.setdefault(rows.head.service, Report(rows.head.service, seed, "replay"))
        began = time.monotonic()
        _replay(project, versions, report, rows)
        report.seconds += time.monotonic() - began
        done += rows.rows
        if progress is not None:
            progress(done)

    for block in blocks:
        if wanted and block.head.service not in wanted:
            continue
        name = block.head.to_json()
        dropped[block.process] = max(dropped.get(block.process, 0), block.dropped)
        found = waiting.setdefault(name, _Rows(block.head))
        found.blocks.append(block)
        found.rows += block.rows
        if found.rows >= _ROWS:
            flush(name)
        compared = sum(r.compared for r in reports.values())
        ahead = sum(r.rows * len(r.head.outputs) for r in waiting.values())
        if clock is not None and not clock.left(compared + ahead):
            break
    for name in list(waiting):
        flush(name)
    lost = sum(dropped.values())
    for report in reports.values():
        if lost:
            report.notes.append(
                f"serving let go of {lost} rows that its log could not take in time"
            )
        _ask_a_third(project, report)
    return list(reports.values())


def _ask_a_third(project: Project, report: Report) -> None:
    """Add a third opinion to what was replayed of a service that the repo defines."""
    service = project.repo.compiled_services.get(report.service)
    if service is not None and report.rows:
        began = time.monotonic()
        add_third_opinion(project, service, report)
        report.seconds += time.monotonic() - began


class Versions:
    """The versions of services that can be recomputed here."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.found: dict[str, Service | str] = {}

    def of(self, head: ServedHead) -> Service | str:
        """The version as it was compiled, or the reason for which it cannot be recomputed."""
        name = head.to_json()
        if name not in self.found:
            self.found[name] = self._find(head)
        return self.found[name]

    def _find(self, head: ServedHead) -> Service | str:
        short = head.fingerprint[:12]
        if head.project != self.project.name:
            return f"of project {head.project!r}"
        service: Any = self.project.repo.compiled_services.get(head.service)
        if service is None or service.fingerprint != head.fingerprint:
            try:
                registry = self.project.registry
                service = registry.runnable(head.service, head.fingerprint)
            except RegistryError:
                return f"of version {short}, which the registry does not have"
        assert isinstance(service, Service)
        unreadable = [v.source.title for v in service.views if not self.project.readable(v)]
        if unreadable:
            return f"of version {short}, which reads source {unreadable[0]!r} as it was before"
        here = numeric_fingerprint(service)
        if here != head.numerics and self.project.config.featurekit.numeric_mismatch != "warn":
            parts = {*here.items()} ^ {*head.numerics.items()}
            listed = ", ".join(sorted({what for what, _ in parts}))
            return f"served on a platform that differs in {listed} (R6)"
        return lenient(service)


def _replay(project: Project, versions: Versions, report: Report, rows: _Rows) -> None:
    service = versions.of(rows.head)
    if isinstance(service, str):
        report.unchecked[service] += rows.rows
        return
    judged = judge(project, service, rows.head, rows.blocks)
    report.rows += rows.rows
    report.count_answers(service, judged.offline)
    for (o, _), reason in judged.unchecked.items():
        report.unchecked[reason] += 1
        report.features[service.outputs[o].full_name].compared -= 1
    if not any(judged.parted):
        return
    report.tell_apart(
        service, judged.asked, judged.offline, judged.online, judged.parted, judged.lagging
    )
    known = [NEVER if until is None else until[0] for b in rows.blocks for until in b.until]
    filled = min(known, default=NEVER)
    diagnose_report(report, partial(stored_scenario, project, service, filled_until=filled))


@dataclass(slots=True)
class Judged:
    """What offline says of rows that a version of a service answered online.

    `parted` has for each output the rows that differ. By output and row, `unchecked` has those of
    them that are neither agreement nor skew, with the reason, which are not in `parted`; and
    `lagging` those that are lag, with the arrival of the oldest event that was not online.
    """

    service: Service
    asked: Asked
    offline: Answers
    online: Answers
    parted: list[list[int]]
    unchecked: dict[tuple[int, int], str] = field(default_factory=dict)
    lagging: dict[tuple[int, int], int | None] = field(default_factory=dict)

    def leave_out(self, reason: str, *, holds: Callable[[int, int], bool]) -> None:
        """Take those out of what differs of which it `holds`, by output and row."""
        for o, found in enumerate(self.parted):
            left = [i for i in found if holds(o, i)]
            self.unchecked |= {(o, i): reason for i in left}
            self.parted[o] = [i for i in found if (o, i) not in self.unchecked]


def judge(
    project: Project, service: Service, head: ServedHead, blocks: Sequence[ServedBlock]
) -> Judged:
    """Ask offline what the blocks say that a version of a service answered, and compare the
    bits."""

    def joined(columns: Callable[[ServedBlock], Any], n: int) -> list[list[Any]]:
        return [[v for b in blocks for v in columns(b)[i]] for i in range(n)]

    keys = joined(lambda b: b.keys, len(head.keys))
    fields = joined(lambda b: b.fields, len(head.request))
    columns = dict(zip((*head.keys, *head.request), (*keys, *fields), strict=True))
    asked = Asked(columns, [t for b in blocks for t in b.as_of])
    n = len(head.outputs)
    online = Answers(joined(lambda b: b.values, n), joined(lambda b: b.statuses, n))
    offline = Offline(project.training_set).answers(service, asked)
    made = Judged(service, asked, offline, online, parting(service, offline, online))
    if any(made.parted):
        made.leave_out(
            "values that are defaults, given in an outage",
            holds=lambda o, i: online.statuses[o][i] == DEFAULT,
        )
        forgotten = _forgotten_until(project, service)
        made.leave_out(
            "values of before an entity was forgotten", holds=lambda _, i: asked.at[i] <= forgotten
        )
        made.lagging = _explained(project, service, asked, online, made.parted, blocks)
    return made


def _forgotten_until(project: Project, service: Service) -> int:
    """The last instant until which events of the service's sources were forgotten: what was served
    before may have known them."""
    found = [
        until
        for view in service.views
        for name in view.source_names
        for digests in project.forgotten(project.source(name)).groups.values()
        for until in digests.values()
    ]
    return max(found, default=NEVER)


def _explained(
    project: Project,
    service: Service,
    asked: Asked,
    online: Answers,
    parted: list[list[int]],
    blocks: Sequence[ServedBlock],
) -> dict[tuple[int, int], int | None]:
    """The differences that are lag, by output and row: when the oldest event arrived that was not
    online."""
    differing = sorted({i for rows in parted for i in rows})
    served_at = [t for b in blocks for t in b.served_at]
    arrivals = [[a for b in blocks for a in b.arrivals[v]] for v in range(len(service.views))]
    untils = [u for b in blocks for u in [tuple(b.until)] * b.rows]
    found: dict[tuple[int, int], int | None] = {}
    for which in (0, 1):  # up to when the views were materialised at least, and at most
        groups: dict[tuple[int, ...], list[int]] = {}
        for i in differing:
            until = tuple(NEVER if u is None else u[which] for u in untils[i])
            groups.setdefault(until, []).append(i)
        for until, of_group in groups.items():
            for first in range(0, len(of_group), _EXPLAINED):
                part = of_group[first : first + _EXPLAINED]
                known = [
                    KnownEvents(
                        until[v],
                        [
                            max(NEVER if (a := arrivals[v][i]) is None else a,
                                served_at[i] - _PUSHING_US)
                            for i in part
                        ],
                    )
                    for v in range(len(service.views))
                ]  # fmt: skip
                lag = from_online(project, service, asked.some(part), known)
                served = online.some(part)
                same = [set(range(len(part))) - {*p}
                        for p in parting(service, lag.answers, served)]  # fmt: skip
                for o, rows in enumerate(parted):
                    lagging = {*rows}
                    for k in same[o]:
                        if part[k] in lagging:
                            found[o, part[k]] = lag.oldest(service, o, k)
    return found
