"""Names a likely cause of a difference, by experiments on a small failing scenario.

What the paths compute is asked first, then what they read, then what of it they count, then what
each event is made to, then what the aggregate says of that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featurekit.core.status import ERROR_STATUS, OUTSIDE_MAX_AGE
from featurekit.core.types import instant
from featurekit.core.values import ERROR
from featurekit.define.plan import Asked, Feature, Output, Service, View
from featurekit.language.wire import canonical
from featurekit.parity.compare import parts
from featurekit.parity.diagnose.aggregates import of_aggregate
from featurekit.parity.diagnose.causes import exception_of, of_exception, raw
from featurekit.parity.diagnose.counted import counted, view_feature
from featurekit.parity.diagnose.diagnosis import FEW, when
from featurekit.parity.diagnose.joins import of_joins
from featurekit.parity.diagnose.reading import of_reading
from featurekit.parity.diagnose.rules import slot_of
from featurekit.parity.diagnose.selection import of_selection
from featurekit.parity.diagnose.shrink import shrink
from featurekit.parity.diagnose.slots import parting_node, parting_slot
from featurekit.parity.diagnose.trial import Told, Trial
from featurekit.parity.diagnose.windows import edge, place, turns_on, window
from featurekit.parity.scenario import narrowed


def cause_of(trial: Trial) -> Told:
    """The cause, one of `CAUSES`, and where the paths part."""
    scenario = trial.scenario
    if scenario.served is not None and not trial.still(replace(scenario, served=None)):
        return "stale version", _versions(scenario.service, scenario.served)
    plan = trial.bench.served(scenario.online).plan.service
    same = plan.fingerprint == scenario.service.fingerprint
    if not same or _code(plan) != _code(scenario.service):
        return "stale version", _versions(scenario.service, plan)
    raised = exception_of(trial.offline, trial.online)
    if raised is not None:
        side = "offline" if raised == trial.offline[1] else "online"
        return of_exception(raised), f"{side} raises {raised}"
    if scenario.files is not None and not trial.still(replace(scenario, files=None)):
        return of_reading(trial)
    if any(view.source.joins for view in scenario.service.views):
        return _of_taking(trial)
    return _of_output(trial)


def _of_taking(trial: Trial) -> Told:
    """Of rows that take something from other views: what they take, or else what is made of it."""
    taking = trial.bench.taking(trial.scenario)
    told = of_joins(trial, taking)
    if told is not None:
        return told
    trial.evidence.append("every row takes the same on both paths")
    offline, online = trial.bench.both(taking)[trial.feature]
    if not parts(offline, online):
        return "join", "what the rows take is made otherwise than where they are alone"
    alone = replace(trial, scenario=taking, offline=offline, online=online)
    return _of_output(alone)


def _of_output(trial: Trial) -> Told:
    """What both paths read the same is made otherwise: a transform, or a feature of a view."""
    scenario = trial.scenario
    found = view_feature(scenario.service, trial.feature)
    if found is None:
        return _of_transform(trial)
    return _of_view(trial, *found)


def _of_transform(trial: Trial) -> Told:
    """A transform over features and request fields: an input that differs, or its own node."""
    scenario, service = trial.scenario, trial.service
    transform = service.transforms[service.outputs[0].index]
    arguments: list[Any] = []
    for given in transform.inputs:
        if given.kind in ("request", "key", "instant"):
            at = instant(scenario.at)
            arguments.append(at if given.kind == "instant" else scenario.row[given.name])
            continue
        name, exposed = _exposed(service, given.kind, given.view, given.index)
        fields = {*exposed.join_keys, *(p.name for p in exposed.request)}
        row = {n: v for n, v in scenario.row.items() if n in fields}
        asked = replace(scenario, service=exposed, served=None, row=row)
        one, other = trial.bench.both(asked)[name]
        if parts(one, other) and not exception_of(one, other):
            inner = shrink(trial.bench, asked, name, tries=60)
            if inner is not None:
                of_input = Trial(trial.bench, inner.scenario, name, inner.offline, inner.online)
                cause, where = cause_of(of_input)
                trial.evidence += of_input.evidence
                return cause, f"input {given.name} of {transform.function.name}: {where}"
        arguments.append(ERROR if one[1] == ERROR_STATUS else one[0])
    if any(a is ERROR for a in arguments):
        return "error", f"{transform.function.name} reads a feature that errs"
    offline, online = raw(trial.offline), raw(trial.online)
    return parting_node(trial, transform.function, arguments, offline, online)


def _of_view(trial: Trial, view: View, feature: Feature) -> Told:
    """A feature of a view: what is counted, what is made of each event, then the aggregate."""
    scenario = trial.scenario
    found = counted(trial.bench, scenario, trial.feature)
    stated = {trial.offline[1], trial.online[1], found.offline_status, found.online_status}
    answered = None not in (found.offline, found.online)
    if answered and (
        found.offline != found.online
        or (found.offline_status != found.online_status and OUTSIDE_MAX_AGE in stated)
    ):
        return of_selection(trial, view, feature, found)
    if feature.slot is not None:
        parted = parting_slot(trial, view, feature.slot, sorted(set(found.online or ())))
        if parted is not None:
            return parted
    if feature.asked is not None and found.online:
        return _of_asked(trial, view, feature.asked, found.online[-1])
    for number in range(min(len(scenario.deliveries), FEW)):
        # What the aggregate's own SQL counts may not be what another's over the window does.
        cause = edge(trial, view, feature, number, most=2)
        if cause is not None:
            row = scenario.deliveries[number].row
            return cause, f"event {number + 1} ({place(row, view, feature, scenario.at)})"
    for change, cause in (("offset_us", "window edge"), ("hop_us", "hop")):
        if getattr(feature, change) and feature.steady and turns_on(trial, view, feature, change):
            trial.evidence.append(f"without its {change[:-3]} the paths agree")
            return cause, f"the window ({when(window(view, feature, scenario.at)[0])}, …]"
    return of_aggregate(trial, view, feature, found)


def _of_asked(trial: Trial, view: View, asked: Asked, number: int) -> Told:
    """A transform of the latest row, which is delivery `number`, and the instant: a slot that it
    reads, or its own node."""
    for slot in asked.inputs:
        parted = None if slot is None else parting_slot(trial, view, slot, [number])
        if parted is not None:
            return parted
    row, at = trial.scenario.deliveries[number].row, instant(trial.scenario.at)
    arguments = [at if slot is None else slot_of(view, slot)(row) for slot in asked.inputs]
    if any(value is ERROR for value in arguments):
        return "error", f"{asked.function.name} reads a slot that errs"
    return parting_node(trial, asked.function, arguments, raw(trial.offline), raw(trial.online))


def _code(service: Service) -> list[Any]:
    """What of a service computes: the same for one that went through its bytes."""
    return [canonical(v) for v in service.views] + [canonical(t) for t in service.transforms]


def _versions(offline: Service, online: Service) -> str:
    return f"the version: offline {offline.fingerprint[:12]}, online {online.fingerprint[:12]}"


def _exposed(service: Service, kind: str, view: int, index: int) -> tuple[str, Service]:
    """The service with an input of a transform as its one output, and that output's name."""
    if kind == "feature":
        of_view = service.views[view]
        feature = of_view.features[index]
        name = f"{of_view.title}__{feature.name}"
        output = Output(name, name, view, index, feature.type, feature.fingerprint)
    else:
        transform = service.transforms[index]
        name, type_ = transform.function.name, transform.function.returns
        output = Output(name, name, -1, index, type_, transform.fingerprint)
    return name, narrowed(replace(service, outputs=(output,)), name)
