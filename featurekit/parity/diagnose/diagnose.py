"""Says why online and offline differ: shrinks a failing scenario, finds where the paths part, and
names a likely cause, by experiments on what is left of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from featurekit.core.status import NEVER
from featurekit.parity.bench import Bench, bench
from featurekit.parity.compare import Stated, parts, ulps
from featurekit.parity.diagnose.case import pytest_case
from featurekit.parity.diagnose.causes import of_values, raw
from featurekit.parity.diagnose.diagnosis import Diagnosis, said_of, when
from featurekit.parity.diagnose.doctor import cause_of
from featurekit.parity.diagnose.shrink import changed, shrink, without
from featurekit.parity.diagnose.trial import Trial
from featurekit.parity.report import Difference, Report
from featurekit.parity.scenario import Scenario, narrow

_ROUNDED = 16
"""So few doubles apart, two values look like one sum that was rounded on the way."""
_TRIED = 40
MOST_DIAGNOSED = 3
"""How many features of a report are diagnosed: several seconds each."""


def diagnose(
    scenario: Scenario,
    feature: str,
    *,
    offline: Stated | None = None,
    online: Stated | None = None,
    seconds: float = 60.0,
) -> Diagnosis:
    """Why `feature` differs in the scenario, which is shrunk first.

    `offline` and `online` are what was seen: where the scenario played again makes no difference,
    they say what its events do not explain. The same scenario gives the same diagnosis, unless
    making it small takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    with bench() as opened:
        found = shrink(opened, scenario, feature, seconds=seconds)
        if found is None:
            narrower = narrow(scenario, feature)
            return _unexplained(opened, narrower, feature, offline, online, deadline)
        trial = Trial(opened, found.scenario, feature, found.offline, found.online)
        cause, where = cause_of(trial)
        return Diagnosis(
            found.scenario, feature, found.offline, found.online, cause, where,
            pytest_case(found.scenario, feature, found.offline, found.online),
            tuple(trial.evidence), found.tries,
        )  # fmt: skip


def diagnose_report(
    report: Report,
    scenario_of: Callable[[Difference], Scenario | None],
    *,
    seconds: float = 60.0,
    known: Collection[str] = (),
) -> None:
    """Diagnose the first difference of each of the first features of a report that differ, but for
    those that are diagnosed, and the `known`, which were in an earlier report."""
    done = {d.feature for d in report.differences if d.diagnosis is not None}
    for i, difference in enumerate(report.differences):
        if difference.feature in (*done, *known) or len(done) >= MOST_DIAGNOSED:
            continue
        scenario = scenario_of(difference)
        if scenario is not None:
            done.add(difference.feature)
            made = diagnose(
                scenario,
                difference.feature,
                offline=difference.offline,
                online=difference.online,
                seconds=seconds,
            )
            report.differences[i] = replace(difference, diagnosis=made)


def _unexplained(
    opened: Bench,
    scenario: Scenario,
    feature: str,
    offline: Stated | None,
    online: Stated | None,
    deadline: float,
) -> Diagnosis:
    """The events, played again, give both paths the same value: so what was seen is of others."""
    made = opened.both(scenario)[feature]
    pushed = replace(scenario, filled_until=NEVER)
    if pushed != scenario and opened.online(pushed)[feature] == made[1]:
        scenario = pushed  # no materialisation for each try
    evidence = [f"played again, both give {said_of(made[0])}"]
    seen_offline, seen_online = offline or made[0], online or made[1]
    cause, where = "unknown", "the events, played again, give both paths the same value"
    of_online = parts(seen_online, made[1])
    wrong = seen_online if of_online else seen_offline
    plain = of_values(raw(seen_offline), raw(seen_online), "")
    apart = ulps(raw(seen_offline), raw(seen_online))
    near = apart is not None and apart <= _ROUNDED
    if near and not of_online:
        plain = "float order"
    if plain in ("type", "-0.0", "float32", "float order"):
        cause, where = plain, "a value among others: alone, both paths agree on it"
    elif of_online or parts(seen_offline, made[0]):
        side = "online" if of_online else "offline"
        path = opened.online if of_online else opened.offline

        def gives(other: Scenario) -> bool:
            return time.monotonic() < deadline and not parts(path(other)[feature], wrong)

        told = _stale(scenario, side, gives)
        cause = "float order" if near else "stale state" if of_online else "unknown"
        cause, where = told or (cause, f"{side} holds what these events do not make")
        if told is None and time.monotonic() >= deadline:
            evidence.append("there was no time to try every change of the events")
    return Diagnosis(
        scenario, feature, seen_offline, seen_online, cause, where, "",
        tuple(evidence),
    )  # fmt: skip


def _stale(
    scenario: Scenario, side: str, gives: Callable[[Scenario], bool]
) -> tuple[str, str] | None:
    """Which change of the events makes them what a path seems to hold; None where none does."""
    deliveries, files = scenario.deliveries, scenario.files
    every = list(range(len(deliveries)))
    if gives(changed(scenario, every, "__created", lambda r: r["__ts"])):
        return "late event", f"{side} is what comes where events count before they arrive"
    if gives(replace(scenario, deliveries=deliveries[::-1], files=files and files[::-1])):
        return "tie", f"{side} is what comes where events are delivered in the other order"
    for i in reversed(every[-_TRIED:]):
        if gives(without(scenario, [i])):
            return "missing event", f"{side} is what comes without event {i + 1}"
        again = replace(scenario, deliveries=(*deliveries[: i + 1], *deliveries[i:]))
        if files is None and gives(again):
            return "duplicate event", f"{side} is what comes with event {i + 1} twice"
    late = [i for i in every if deliveries[i].row["__created"] > deliveries[i].row["__ts"]]
    if late and gives(without(scenario, late)):
        return "late event", f"{side} is what comes without the events that arrived late"
    if gives(without(scenario, every)):
        return "missing event", f"{side} is what comes without any event"
    arrivals = sorted({d.row["__created"] for d in deliveries})
    for since in arrivals[: -_TRIED - 1 : -1]:
        newest = [i for i in every if deliveries[i].row["__created"] >= since]
        if gives(without(scenario, newest)):
            what = f"the {len(newest)} events that arrived from {when(since)} on"
            return "stale state", f"{side} is what comes without {what}"
    known = {d.row[name] for d in deliveries for name in ("__ts", "__created")}
    for at in sorted(k for k in known if k < scenario.at)[: -_TRIED - 1 : -1]:
        if gives(replace(scenario, at=at)):
            return "stale state", f"{side} is what it was as of {when(at)}"
    return None
