"""Shows how one value came about, offline from files and log, online from the live state: the
events that counted, those that nearly did and the rule that left each out, and the steps between.

Only reads: neither the store nor the files are changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from featurekit.core.keys import entity_key, state_key, state_prefix
from featurekit.core.status import ERROR_STATUS, FOREVER
from featurekit.core.types import instant, micros
from featurekit.core.values import ERROR, sort_value
from featurekit.define.plan import Feature, Service, View
from featurekit.errors import DefinitionError, FeaturekitError, OnlineError
from featurekit.language.ir import Function
from featurekit.language.to_python import to_python
from featurekit.language.trace import trace
from featurekit.offline.counted_events import make_counted_rows as counted_ids
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.state.blocks import Moved, Patience, open_state
from featurekit.parity.bits import bits
from featurekit.parity.diagnose.counted import counted
from featurekit.parity.diagnose.parting import sql_value
from featurekit.parity.scenario import Bench, Delivery, Scenario, Stated, bench, narrow, parts
from featurekit.parity.stored import of_entity, rows_of
from featurekit.project.project import Project

MOST_COUNTED, MOST_NEAR, _MOST_READ, _TRACED = 50, 20, 5_000, 3


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of the entity. `value` is its input to the feature, `ERROR` where that errs; `why`
    says what the rules make of it, `offline` and `online` whether each path counts it; None where
    that path does not answer. `known` tells whether the live state holds it."""

    row: Mapping[str, Any]
    value: Any
    counts: bool
    why: str
    offline: bool | None
    online: bool | None
    known: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a transform: its text, what it was given, and what each path makes of it."""

    event: int | None
    text: str
    inputs: tuple[tuple[str, Any], ...]
    offline: Any
    online: Any


@dataclass(slots=True)
class Explanation:
    """How one value came about; see `FeatureStore.explain`.

    `offline` and `online` are values and statuses, None where a path does not answer, and then a
    note says why. `events` are those that counted and the nearest that did not, oldest first, and
    `omitted` how many others there are. `steps` are of the aggregate; `inputs`, of a request-time
    transform, the fields and features that it reads.
    """

    service: str
    feature: str
    row: dict[str, Any]
    as_of: dt.datetime
    offline: Stated | None = None
    online: Stated | None = None
    definition: str = ""
    window: tuple[dt.datetime | None, dt.datetime] | None = None
    events: list[Seen] = field(default_factory=list)
    omitted: int = 0
    nodes: list[Node] = field(default_factory=list)
    steps: list[tuple[str, Any]] = field(default_factory=list)
    inputs: list[tuple[str, str, Stated | None, Stated | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool | None:
        """Whether both paths give the same bits and status; None where one does not answer."""
        if self.offline is None or self.online is None:
            return None
        return not parts(self.offline, self.online)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "service": self.service,
            "feature": self.feature,
            "entity": self.row,
            "as_of": self.as_of,
            "offline": _dict(self.offline),
            "online": _dict(self.online),
            "agree": self.agree,
            "definition": self.definition,
            "window": None
            if self.window is None
            else {"after": self.window[0], "until": self.window[1]},
            "events": [
                {
                    **{n: v for n, v in e.row.items() if not n.startswith("__")},
                    "happened": instant(e.row["__ts"]),
                    "arrived": instant(e.row["__created"]),
                    "input": e.value,
                    "counts": e.counts,
                    "why": e.why,
                    "offline": e.offline,
                    "online": e.online,
                    "in_live_state": e.known,
                }
                for e in self.events
            ],
            "omitted": self.omitted,
            "nodes": [
                {
                    "event": n.event,
                    "node": n.text,
                    "inputs": dict(n.inputs),
                    "offline": n.offline,
                    "online": n.online,
                }
                for n in self.nodes
            ],
            "steps": [{"step": name, "value": value} for name, value in self.steps],
            "inputs": [
                {"name": name, "kind": kind, "offline": _dict(one), "online": _dict(other)}
                for name, kind, one, other in self.inputs
            ],
            "notes": self.notes,
        }


def _dict(stated: Stated | None) -> dict[str, Any] | None:
    return None if stated is None else {"value": stated[0], "status": stated[1]}


def explain(
    project: Project,
    service: Service,
    feature: str,
    row: Mapping[str, Any],
    as_of: dt.datetime | None,
) -> Explanation:
    """See `FeatureStore.explain`."""
    name = full_name(service, feature)
    made = Explanation(service.name, name, dict(row), as_of or dt.datetime.now(dt.UTC))
    # Of the repo's own definition: a row that it does not take is an error of the caller's.
    Evaluator(project.name, service).check_rows([row])
    live = _online(project, service, made, as_of)
    made.offline = _offline(project, service, name, row, made.as_of)
    output = next(o for o in service.outputs if o.full_name == name)
    with bench() as opened:
        if output.view >= 0:
            view = service.views[output.view]
            _of_view(project, opened, service, live, made, view, view.features[output.index])
        else:
            _of_transform(project, opened, service, made, output.index)
    return made


def full_name(service: Service, feature: str) -> str:
    """The full name of an output, given that or its own. DefinitionError for an unknown one."""
    for output in service.outputs:
        if feature in (output.full_name, output.name):
            return output.full_name
    raise DefinitionError(
        f"service {service.name!r} has no feature {feature!r}; it has "
        f"{', '.join(o.name for o in service.outputs)}"
    )


def _offline(
    project: Project, service: Service, name: str, row: Mapping[str, Any], as_of: dt.datetime
) -> Stated:
    """The value that a training set has."""
    frame = _frame(service, row, as_of)
    table = project.training_set(service, frame).to_arrow().select([name, f"{name}__status"])
    value, status = (c.to_pylist(maps_as_pydicts="strict")[0] for c in table.columns)
    return value, status


def _frame(service: Service, row: Mapping[str, Any], as_of: dt.datetime) -> Any:
    import pyarrow as pa

    types = {**service.join_keys, **{p.name: p.type for p in service.request}}
    columns = {n: pa.array([row[n]], type=t.arrow) for n, t in types.items()}
    columns["event_timestamp"] = pa.array([as_of], type=pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


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
    if as_of is None:
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
    live: Service | None,
    made: Explanation,
    view: View,
    feature: Feature,
) -> None:
    t = micros(made.as_of)
    made.definition = _definition(view, feature)
    low, high = _interval(view, feature, t)
    made.window = None if low is None else instant(low), instant(high)
    keys = {p.name: made.row[p.name] for p in view.join_keys}
    if None in keys.values():
        made.notes.append("a join key is None, so the row belongs to no entity (S2)")
        return
    read = _Read(project, view, keys)
    held = None
    try:
        held = _held(project, live, view, keys)
    except OnlineError as error:
        made.notes.append(f"the live state cannot be read: {error}")
    else:
        if held is None:
            made.notes.append("the live store holds no state of this entity and view")
    rows = read.rows
    scenario = narrow(
        Scenario(service, tuple(Delivery(view.source.name, r) for r in rows), made.row, t),
        made.feature,
    )
    found = counted(opened, scenario, made.feature)
    evaluate = _slot(view, feature.slot)
    keep = _slot(view, feature.where)
    ordered = sorted(range(len(rows)), key=lambda i: _order(view, rows[i]))
    judged: dict[int, Seen] = {}
    slots = [_slot(view, i) for i in range(len(view.slots))]
    for i in ordered:
        event: Mapping[str, Any] = rows[i]
        why = read.left_out(i, t) or _rule(view, feature, event, t, keep)
        known = held is not None and _identity(event, [slot(event) for slot in slots]) in held
        judged[i] = Seen(
            event,
            None if feature.slot is None else evaluate(event),
            why is None,
            why or "counts",
            None if found.offline is None else i in found.offline,
            None if made.online is None else _counts_online(why is None, known, held),
            known,
        )
    if feature.aggregate is None:
        _behind(judged, ordered)
    if read.forgotten:
        made.notes.append(f"{read.forgotten} events are forgotten and read by nothing")
    made.events, made.omitted = _nearest(judged, ordered, low, high)
    _warn(made, held)
    inside = [judged[i] for i in ordered if judged[i].counts]
    made.steps = _steps(feature, view, inside)
    if feature.slot is not None and (function := view.slots[feature.slot].transform) is not None:
        chosen = [n for n, e in enumerate(made.events) if e.counts][-_TRACED:]
        for number in chosen:
            arguments = [made.events[number].row[p.name] for p in function.params]
            made.nodes += _nodes(opened, function, arguments, number + 1)


class _Read:
    """The entity's rows in files and log, and which of them rule T7 leaves out."""

    def __init__(self, project: Project, view: View, keys: Mapping[str, Any]) -> None:
        self.view = view
        source = project.repo.sources[view.source.name]
        con = project.connect()
        try:
            relation = project.events(con, view).relation
            self.rows = rows_of(con, view, of_entity(con, view, relation, keys), most=_MOST_READ)
            everything = of_entity(con, view, project.all_events(con, source), keys)
            total = con.execute(f"SELECT count(*) FROM {everything}").fetchall()[0][0]
            present = con.execute(
                f"SELECT count(*) FROM {of_entity(con, view, relation, keys)}"
            ).fetchall()[0][0]
            self.forgotten: int = total - present
            self.ends: dict[Any, list[int]] | None = None
            if view.source.event_id is not None:
                counting = of_entity(con, view, counted_ids(con, view, relation), keys)
                self.ends = {}
                deletes = view.source.op is not None
                for row in rows_of(con, view, counting, most=_MOST_READ, end=deletes):
                    end = row.pop("__end", FOREVER)
                    self.ends.setdefault(_hashable(row), []).append(end)
        finally:
            con.close()

    def left_out(self, number: int, t: int) -> str | None:
        """What T7 says of a row that is no event, or is over."""
        if self.ends is None:
            return None
        found = self.ends.get(_hashable(self.rows[number]))
        if not found:
            return "T7: a copy, a deletion, or a version that another one replaced at once"
        if max(found) <= t:
            return f"T7: corrected or deleted from {instant(max(found)).isoformat()} on"
        return None


def _held(
    project: Project, live: Service | None, view: View, keys: Mapping[str, Any]
) -> set[Any] | None:
    """The events that the live state of the entity holds; None where there is no state of it.
    OnlineError for one that is not whole."""
    fed = next((v for v in (live.views if live else ()) if v.name == view.name), None)
    if fed is None or fed.fingerprint != view.fingerprint:
        return None
    entity = entity_key([(p.type, keys[p.name]) for p in fed.join_keys])
    key = state_key(state_prefix(project.name, fed), entity)
    patience = Patience()
    while True:
        blob = project.online.read([key])[0]
        if blob is None:
            return None
        try:
            events = open_state(fed, key, blob, project.online.read).events
        except Moved as moved:
            patience.spend(moved)  # a push was faster than the second read of a large state
            continue
        width = len(fed.slots)  # with an `op` the end of each stands behind
        return {_hashable([ts, created, *slots[:width]]) for ts, created, slots in events}


def _identity(row: Mapping[str, Any], slots: list[Any]) -> Any:
    return _hashable([row["__ts"], row["__created"], *slots])


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((n, _hashable(v)) for n, v in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(v) for v in value)
    return bits(value)


def _counts_online(counts: bool, known: bool, held: set[Any] | None) -> bool | None:
    """What the rules make of what the live state holds."""
    return None if held is None else counts and known


def _slot(view: View, slot: int | None) -> Callable[[Mapping[str, Any]], Any]:
    """The value of a slot of a row, as a push works it out."""
    if slot is None:
        return lambda row: True
    made = view.slots[slot]
    if made.transform is None:
        column = made.column or ""
        return lambda row: row[column]
    function, names = to_python(made.transform), [p.name for p in made.transform.params]
    return lambda row: function(*[row[n] for n in names])


def _order(view: View, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The sort key of T6 for a row of the source."""
    names = [p.name for p in view.source.schema]
    first = [view.source.sequence] if view.source.sequence is not None else []
    return row["__ts"], row["__created"], *[sort_value(row[n]) for n in (*first, *names)]


def _interval(view: View, feature: Feature, t: int) -> tuple[int | None, int]:
    if feature.aggregate is None:
        return (None if view.ttl_us is None else t - view.ttl_us), t
    low, high = feature.bounds(t)
    return (None if feature.lifetime else low), high


def _rule(
    view: View,
    feature: Feature,
    row: Mapping[str, Any],
    t: int,
    keep: Callable[[Mapping[str, Any]], Any],
) -> str | None:
    """The rule that leaves an event out; None where it counts."""
    low, high = _interval(view, feature, t)
    ts, created = row["__ts"], row["__created"]
    if ts > t:
        return f"T3: happens {_span(ts - t)} after the instant asked"
    if created > t:
        return f"T3: arrives {_span(created - t)} after the instant asked"
    if ts > high:
        return f"T4: {_span(ts - high)} after the window ends (offset)"
    if low is not None and ts <= low:
        what = "the ttl begins" if feature.aggregate is None else "the window begins"
        near = "at the open end, where" if ts == low else f"{_span(low - ts)} before"
        return f"T4: {near} {what}"
    if feature.where is not None:
        kept = keep(row)
        if kept is not True:
            return f"where: the condition {'errs' if kept is ERROR else f'is {kept}'}"
    return None


def _span(us: int) -> str:
    """A duration for people: "7d", "6h 30min", "1 µs"."""
    parts_ = []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000),
                       ("s", 1_000_000)):  # fmt: skip
        if us >= size:
            parts_.append(f"{us // size}{unit}")
            us %= size
    return " ".join([*parts_, *([f"{us} µs"] if us or not parts_ else [])])


def _behind(judged: dict[int, Seen], ordered: Sequence[int]) -> None:
    """Of a latest row, all but the last by T6 stand behind it."""
    counting = [i for i in ordered if judged[i].counts]
    for i in counting[:-1]:
        e = judged[i]
        judged[i] = Seen(
            e.row, e.value, False, "T6: behind a later row", e.offline,
            None if e.online is None else False, e.known,
        )  # fmt: skip


def _nearest(
    judged: dict[int, Seen], ordered: Sequence[int], low: int | None, high: int
) -> tuple[list[Seen], int]:
    """The last events that count and the others that are nearest to the window, oldest first."""
    counting = [i for i in ordered if judged[i].counts][-MOST_COUNTED:]

    def away(i: int) -> int:
        ts = int(judged[i].row["__ts"])
        return min(abs(ts - high), abs(ts - low) if low is not None else abs(ts - high))

    others = sorted((i for i in ordered if not judged[i].counts), key=away)[:MOST_NEAR]
    chosen = {*counting, *others}
    return [judged[i] for i in ordered if i in chosen], len(ordered) - len(chosen)


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


def _definition(view: View, feature: Feature) -> str:
    """The feature in a line, as it was written."""
    slot = None if feature.slot is None else view.slots[feature.slot]
    of = "" if slot is None else (slot.column or (slot.transform and slot.transform.name) or "")
    if feature.aggregate is None:
        ttl = "" if view.ttl_us is None else f", ttl {_span(view.ttl_us)}"
        return f"{of} of the latest row of {view.source.name}{ttl}"
    window = "lifetime" if feature.lifetime else _span(feature.window_us)
    parts_ = [f"window {window}"]
    parts_ += [f"offset {_span(feature.offset_us)}"] if feature.offset_us else []
    parts_ += [f"hop {_span(feature.hop_us)}"] if feature.hop_us else []
    if feature.where is not None:
        where = view.slots[feature.where]
        parts_.append(f"where {where.column or (where.transform and where.transform.name)}")
    if feature.default is not None:
        parts_.append(f"default {feature.default!r}")
    return f"{feature.aggregate}({of}) over {view.source.name}, {', '.join(parts_)}"


def _steps(feature: Feature, view: View, events: list[Seen]) -> list[tuple[str, Any]]:
    """What the aggregate makes of its events, step by step."""
    if feature.aggregate is None:
        return []
    steps: list[tuple[str, Any]] = [("events in the window", len(events))]
    if feature.slot is None:
        return steps
    values = [e.value for e in events if e.value is not None and e.value is not ERROR]
    nulls = sum(e.value is None for e in events)
    errors = sum(e.value is ERROR for e in events)
    steps += [("inputs that are None, skipped", nulls)] if nulls else []
    steps += [("inputs that err, skipped (R3)", errors)] if errors else []
    steps.append(("inputs", len(values)))
    aggregate = feature.implementation()
    if aggregate.of_instants:
        return steps
    item = view.slots[feature.slot].type.base
    finite = all(not isinstance(v, float) or v - v == 0.0 for v in values)
    if item.name in ("int", "float", "bool") and values and finite:
        total = sum((Fraction(v) for v in values), Fraction())
        if feature.aggregate in ("Sum", "Mean", "Variance", "StdDev"):
            steps.append(("their exact sum", _decimal(total)))
        if feature.aggregate in ("Variance", "StdDev"):
            squares = sum((Fraction(v) ** 2 for v in values), Fraction())
            deviation = squares - total * total / len(values)
            steps.append(("exact sum of squared deviations", _decimal(deviation)))
    elif not finite:
        steps.append(("NaN or infinite inputs", sum(v - v != 0.0 for v in values)))
    try:
        value = aggregate.over(values, item)
    except ArithmeticError as error:
        return [*steps, (feature.aggregate, f"error: {error}")]
    rounded = feature.aggregate in ("Sum", "Mean", "Variance", "StdDev") and item.name == "float"
    steps.append((f"{feature.aggregate}{', rounded once' if rounded else ''}", value))
    if value is None and feature.default is not None:
        steps.append(("default", feature.default))
    return steps


def _decimal(value: Fraction) -> str:
    """An exact value in decimal, cut after 40 digits."""
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 40
        made = Decimal(value.numerator) / Decimal(value.denominator)
    exact = Fraction(made) == value
    return f"{made:f}" if exact and abs(made.adjusted()) < 40 else f"{made}{'' if exact else '…'}"


# --- transforms -----------------------------------------------------------------------------------


def _of_transform(
    project: Project, opened: Bench, service: Service, made: Explanation, index: int
) -> None:
    """A request-time transform: what it reads, on each path, and its nodes."""
    transform = service.transforms[index]
    made.definition = f"{transform.function.name} of request fields and features"
    arguments: list[Any] = []
    for param, given in zip(transform.function.params, transform.inputs, strict=True):
        if given.kind == "request":
            value = made.row[given.name]
            made.inputs.append((param.name, "request field", (value, "PRESENT"),
                                (value, "PRESENT")))  # fmt: skip
            arguments.append(value)
            continue
        name = _input_name(service, given.view, given.index, given.kind)
        if name is None:
            made.notes.append(f"{param.name} is no output of the service, and is not shown")
            return
        one = _offline(project, service, name, made.row, made.as_of)
        other = _live_value(project, service, name, made)
        made.inputs.append((param.name, f"feature {name}", one, other))
        arguments.append(ERROR if one[1] == ERROR_STATUS else one[0])
    if any(a is ERROR for a in arguments):
        made.notes.append("it reads a feature that errs, so it errs too (R3)")
        return
    made.nodes = _nodes(opened, transform.function, arguments, None)


def _input_name(service: Service, view: int, index: int, kind: str) -> str | None:
    wanted = (view, index) if kind == "feature" else (-1, index)
    return next((o.full_name for o in service.outputs if (o.view, o.index) == wanted), None)


def _live_value(project: Project, service: Service, name: str, made: Explanation) -> Stated | None:
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
