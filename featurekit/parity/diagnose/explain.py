"""Shows how one value came about, offline from files and log, online from the live state: the
events that counted, those that nearly did and the rule that left each out, and the steps between.

Only reads: neither the store nor the files are changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from featurekit.core.calls import near
from featurekit.core.status import ERROR_STATUS
from featurekit.core.types import instant, micros
from featurekit.core.values import ERROR
from featurekit.define.explode import event_schema
from featurekit.define.plan import Feature, Service, View
from featurekit.errors import DefinitionError, FeaturekitError, OnlineError
from featurekit.language.ir import Function
from featurekit.language.trace import trace
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.parity.bench import Bench, bench
from featurekit.parity.compare import Stated
from featurekit.parity.diagnose.candidates import candidates
from featurekit.parity.diagnose.counted import Counted, counted
from featurekit.parity.diagnose.explanation import Explanation, Node, Seen
from featurekit.parity.diagnose.known import KnownRows, held_online, identity
from featurekit.parity.diagnose.parting import sql_value
from featurekit.parity.diagnose.rules import interval, left_out, order, slot_of
from featurekit.parity.diagnose.steps import definition, steps_of
from featurekit.parity.paths import Asked, Offline
from featurekit.parity.scenario import Delivery, Scenario, narrow
from featurekit.project.project import Project

MOST_COUNTED, MOST_NEAR, _TRACED = 50, 20, 3
Held = Callable[[View, Mapping[str, Any]], set[Any] | None]
"""Gives the events that the live state of a view has of an entity; None where nobody can tell."""


def explain(
    project: Project,
    service: Service,
    feature: str,
    row: Mapping[str, Any],
    as_of: dt.datetime | None,
) -> Explanation:
    """See `FeatureStore.explain`."""
    name = full_name(service, feature)
    made = Explanation(service.name, name, dict(row), as_of or instant(project.now()))
    # Of the repo's own definition: a row that it does not take is an error of the caller's.
    Evaluator(project.name, service).check_rows([row])
    live = _online(project, service, made, as_of)
    made.offline = _offline(project, service, name, row, made.as_of)
    output = next(o for o in service.outputs if o.full_name == name)
    with bench() as opened:
        if output.view >= 0:
            view = service.views[output.view]
            held = partial(_held, project, live, made)
            _of_view(project, opened, service, held, made, view, view.features[output.index])
        else:
            ask = partial(_live_value, project, service, made)
            _of_transform(project, opened, service, ask, made, output.index)
    return made


def explain_served(
    project: Project,
    service: Service,
    name: str,
    row: Mapping[str, Any],
    as_of: dt.datetime,
    served: Mapping[str, Stated],
) -> Explanation:
    """How a value came about that a version of a service has `served`, whose outputs are given by
    their full names. The state that it came from is gone, so that no event is said to be online or
    not."""
    made = Explanation(service.name, name, dict(row), as_of)
    made.offline = _offline(project, service, name, row, as_of)
    made.online = served[name]
    output = next(o for o in service.outputs if o.full_name == name)
    with bench() as opened:
        if output.view >= 0:
            view = service.views[output.view]
            feature = view.features[output.index]
            _of_view(project, opened, service, lambda *_: None, made, view, feature)
        else:
            _of_transform(project, opened, service, served.get, made, output.index)
    return made


def full_name(service: Service, feature: str) -> str:
    """The full name of an output, given that or its own. DefinitionError for an unknown one."""
    for output in service.outputs:
        if feature in (output.full_name, output.name):
            return output.full_name
    raise DefinitionError(
        f"service {service.name!r} has no feature {feature!r}; "
        f"{near(feature, [o.name for o in service.outputs])}"
    )


def _offline(
    project: Project, service: Service, name: str, row: Mapping[str, Any], as_of: dt.datetime
) -> Stated:
    """The value that a training set has."""
    found = Offline(project.training_set).answers(service, Asked.of(service, [row], micros(as_of)))
    return found.offline([o.full_name for o in service.outputs].index(name), 0)


def _online(
    project: Project, service: Service, made: Explanation, as_of: dt.datetime | None
) -> Service | None:
    """Ask the live store, and settle the instant; the version that is live, where one is."""
    live: Service | None = None
    try:
        live = project.live().get(service.name)
        found = project.online_service(service.name).get([made.row], as_of)
    except FeaturekitError as error:
        made.notes.append(f"online does not answer: {error}")
        return live
    made.as_of = found.as_of
    own = next(o.name for o in service.outputs if o.full_name == made.feature)
    if own in found.columns:
        made.online = found.columns[own][0], found.status[own][0]
    else:
        made.notes.append(f"the version that is live has no feature {own!r}")
    if live is not None and live.fingerprint != service.fingerprint:
        made.notes.append(
            f"online serves version {live.fingerprint[:12]}, and the repo defines "
            f"{service.fingerprint[:12]}: apply and materialize bring it"
        )
    return live


# --- a feature of a view --------------------------------------------------------------------------


def _of_view(
    project: Project,
    opened: Bench,
    service: Service,
    online: Held,
    made: Explanation,
    view: View,
    feature: Feature,
) -> None:
    """Tell the events of a feature of a view, its steps, and the nodes of its newest events."""
    t = micros(made.as_of)
    made.definition = definition(view, feature)
    low, high = interval(view, feature, t)
    made.window = None if low is None else instant(low), instant(high)
    keys = view.entity(made.row)
    if None in keys.values():
        made.notes.append("a join key is None, so the row belongs to no entity (S2)")
        return
    known = KnownRows(project, view, keys)
    held = online(view, keys)
    judged = _judged(opened, service, made, view, feature, known, held)
    if known.forgotten:
        made.notes.append(f"{known.forgotten} events are forgotten and read by nothing")
    made.events, made.omitted = _nearest(judged, low, high)
    _warn(made, held)
    made.steps = steps_of(feature, view, [e for e in judged if e.counts])
    chosen = [n for n, e in enumerate(made.events) if e.counts][-_TRACED:]
    if view.source.joins:
        made.taken = candidates(project, view, [(n + 1, made.events[n].row) for n in chosen])
    if feature.asked is not None:
        for number in chosen:
            row = made.events[number].row
            given = [
                instant(t) if i is None else slot_of(view, i)(row) for i in feature.asked.inputs
            ]
            made.nodes += _nodes(opened, feature.asked.function, given, number + 1)
    elif feature.slot is not None and (function := view.slots[feature.slot].transform) is not None:
        for number in chosen:
            arguments = [made.events[number].row[p.name] for p in function.params]
            made.nodes += _nodes(opened, function, arguments, number + 1)


def _held(
    project: Project,
    live: Service | None,
    made: Explanation,
    view: View,
    keys: Mapping[str, Any],
) -> set[Any] | None:
    """The events that the live state holds; None, and a note, where it holds none that can be
    read."""
    try:
        held = held_online(project, live, view, keys)
    except OnlineError as error:
        made.notes.append(f"the live state cannot be read: {error}")
        return None
    if held is None:
        made.notes.append("the live store holds no state of this entity and view")
    return held


def _counted(
    opened: Bench,
    service: Service,
    made: Explanation,
    view: View,
    events: Sequence[Mapping[str, Any]],
) -> Counted:
    """Which of the events each path counts. Their rows have what they take from other views, and
    elements of lists are rows of their own, of which none has an id: those that T7 leaves out are
    not among them."""
    if not view.each_row_an_event:
        source = replace(view.source, schema=event_schema(view), parts=None, event_id=None, op=None)
        alone = replace(view, source=source, explode=None, where=None, dedupe_us=None)
        service = replace(service, views=tuple(alone if v == view else v for v in service.views))
    deliveries = tuple(Delivery(view.source.name, dict(row)) for row in events)
    scenario = narrow(Scenario(service, deliveries, made.row, micros(made.as_of)), made.feature)
    return counted(opened, scenario, made.feature)


def _judged(
    opened: Bench,
    service: Service,
    made: Explanation,
    view: View,
    feature: Feature,
    known: KnownRows,
    held: set[Any] | None,
) -> list[Seen]:
    """Every event of the entity in the order of T6, and what the rules and the paths make of it."""
    t = micros(made.as_of)
    events = known.events(view.entity(made.row))
    asked = [
        n
        for n, (i, _) in enumerate(events)
        if view.each_row_an_event or known.left_out(i, t) is None
    ]
    found = _counted(opened, service, made, view, [events[n][1] for n in asked])
    offline = None if found.offline is None else {asked[n] for n in found.offline}
    value, keep = slot_of(view, feature.slot), slot_of(view, feature.where)
    slots = [slot_of(view, i) for i in range(len(view.slots))]
    judged = []
    for n in sorted(range(len(events)), key=lambda n: order(view, events[n][1])):
        i, row = events[n]
        why = known.left_out(i, t) or left_out(view, feature, row, t, keep)
        there = held is not None and identity(row, [slot(row) for slot in slots]) in held
        online = None if made.online is None or held is None else why is None and there
        judged.append(
            Seen(
                row,
                None if feature.slot is None else value(row),
                why is None,
                why or "counts",
                None if offline is None else n in offline,
                online,
                there,
            )
        )
    if feature.aggregate is None:
        return _behind(judged)
    return _before_first(judged, feature, t) if feature.cuts else judged


def _before_first(judged: list[Seen], feature: Feature, t: int) -> list[Seen]:
    """Of frames of rows, and of sessions, the events that stand before the first that counts."""
    assert feature.frame is not None
    kept = [i for i, e in enumerate(judged) if e.counts]
    instants = [int(judged[i].row["__ts"]) for i in kept]
    before = kept[: feature.frame.first(instants, t - feature.offset_us)]
    why = f"T10: none of {', '.join(feature.frame.said)}"
    return _out(judged, before, why)


def _behind(judged: list[Seen]) -> list[Seen]:
    """Of a latest row, all but the last by T6 stand behind it."""
    behind = [i for i, e in enumerate(judged) if e.counts][:-1]
    return _out(judged, behind, "T6: behind a later row")


def _out(judged: list[Seen], which: Sequence[int], why: str) -> list[Seen]:
    """The events, of which those of these numbers do not count."""
    return [
        replace(e, counts=False, why=why, online=None if e.online is None else False)
        if i in which
        else e
        for i, e in enumerate(judged)
    ]


def _nearest(judged: list[Seen], low: int | None, high: int) -> tuple[list[Seen], int]:
    """The last events that count and the others that are nearest to the window, oldest first; and
    how many are left out."""
    counting = [i for i, e in enumerate(judged) if e.counts][-MOST_COUNTED:]

    def away(i: int) -> int:
        ts = int(judged[i].row["__ts"])
        return min(abs(ts - high), abs(ts - low) if low is not None else abs(ts - high))

    others = sorted((i for i, e in enumerate(judged) if not e.counts), key=away)[:MOST_NEAR]
    chosen = {*counting, *others}
    return [e for i, e in enumerate(judged) if i in chosen], len(judged) - len(chosen)


def _warn(made: Explanation, held: set[Any] | None) -> None:
    """Say what does not fit: events that count and are not online, or not offline."""
    absent = sum(e.counts and not e.known for e in made.events)
    if held is not None and absent:
        made.notes.append(
            f"{absent} events that count are not in the live state: not pushed or materialised yet"
        )
    odd = sum(e.offline is not None and e.offline != e.counts for e in made.events)
    if odd:
        made.notes.append(f"{odd} events are taken offline otherwise than the rules say")


# --- transforms -----------------------------------------------------------------------------------

_OF_ROW = {"request": "request field", "key": "join key", "instant": "instant asked for"}


def _of_transform(
    project: Project,
    opened: Bench,
    service: Service,
    ask: Callable[[str], Stated | None],
    made: Explanation,
    index: int,
) -> None:
    """A request-time transform: what it reads, on each path, and its nodes."""
    transform = service.transforms[index]
    made.definition = f"{transform.function.name} of request fields and features"
    arguments: list[Any] = []
    for param, given in zip(transform.function.params, transform.inputs, strict=True):
        if given.kind in _OF_ROW:
            value = made.as_of if given.kind == "instant" else made.row[given.name]
            made.inputs.append((param.name, _OF_ROW[given.kind], (value, "PRESENT"),
                                (value, "PRESENT")))  # fmt: skip
            arguments.append(value)
            continue
        name = _input_name(service, given.view, given.index, given.kind)
        if name is None:
            made.notes.append(f"{param.name} is no output of the service, and is not shown")
            return
        one = _offline(project, service, name, made.row, made.as_of)
        other = ask(name)
        made.inputs.append((param.name, f"feature {name}", one, other))
        arguments.append(ERROR if one[1] == ERROR_STATUS else one[0])
    if any(a is ERROR for a in arguments):
        made.notes.append("it reads a feature that errs, so it errs too (R3)")
        return
    made.nodes = _nodes(opened, transform.function, arguments, None)


def _input_name(service: Service, view: int, index: int, kind: str) -> str | None:
    wanted = (view, index) if kind == "feature" else (-1, index)
    return next((o.full_name for o in service.outputs if (o.view, o.index) == wanted), None)


def _live_value(project: Project, service: Service, made: Explanation, name: str) -> Stated | None:
    own = next(o.name for o in service.outputs if o.full_name == name)
    try:
        found = project.online_service(service.name).get([made.row], made.as_of)
    except FeaturekitError:
        return None  # a note says so already
    return (found.columns[own][0], found.status[own][0]) if own in found.columns else None


def _nodes(
    opened: Bench, function: Function, arguments: Sequence[Any], event: int | None
) -> list[Node]:
    """Every node of a call, as each path evaluates it."""
    found = trace(function, arguments)
    nodes = [
        Node(event, s.text, s.inputs, sql_value(opened.con, s.node, s.names), s.value)
        for s in found.steps[:MOST_COUNTED]
    ]
    if not nodes:
        given = tuple((p.name, a) for p, a in zip(function.params, arguments, strict=True))
        return [Node(event, f"{function.name} as a whole", given, found.value, found.value)]
    return nodes
