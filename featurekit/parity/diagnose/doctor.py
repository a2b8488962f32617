"""Names a likely cause of a difference, by experiments on a small failing scenario."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from featurekit.core.status import ERROR_STATUS, NEVER, NOT_FOUND, OUTSIDE_MAX_AGE
from featurekit.core.types import Type, instant
from featurekit.core.values import ERROR
from featurekit.define.plan import Feature, Service, View
from featurekit.language.to_python import to_python
from featurekit.language.trace import trace
from featurekit.parity.bits import bits, shown, ulps
from featurekit.parity.diagnose.causes import (
    OF_VALUES,
    exception_of,
    is_nan,
    of_exception,
    of_node,
    of_stated,
    of_values,
    raw,
)
from featurekit.parity.diagnose.counted import Counted, counted, inputs, slot_values, view_feature
from featurekit.parity.diagnose.diagnosis import FEW, said_of, when
from featurekit.parity.diagnose.parting import first_parting
from featurekit.parity.diagnose.shrink import changed, moved, renamed, shrink, simpler
from featurekit.parity.scenario import Bench, Scenario, Stated, differing, narrowed, partners, parts

_HOUR, _QUARTER, _DAY = 3_600_000_000, 900_000_000, 86_400_000_000
_MOVES = (1, 2, 1_000, 1_000_000, 60_000_000, _QUARTER, _HOUR, 2 * _HOUR)
"""How far an edge may be misplaced: microseconds, a second, a minute, or a zone's offset."""


@dataclass(slots=True)
class Doctor:
    """Experiments on one small failing scenario about one output."""

    bench: Bench
    scenario: Scenario
    feature: str
    offline: Stated
    online: Stated
    evidence: list[str] = field(default_factory=list)

    @property
    def service(self) -> Service:
        return self.scenario.service

    def still(self, scenario: Scenario) -> bool:
        """Whether the feature differs in another scenario."""
        return self.feature in differing(self.bench.both(scenario))

    def cause(self) -> tuple[str, str]:
        """The cause, and where the paths part."""
        scenario = self.scenario
        if scenario.served is not None and not self.still(replace(scenario, served=None)):
            return "stale version", _versions(scenario.service, scenario.served)
        plan = self.bench.plan(scenario.online).service
        if plan.fingerprint != scenario.service.fingerprint or _code(plan) != _code(self.service):
            return "stale version", _versions(scenario.service, plan)
        raised = exception_of(self.offline, self.online)
        if raised is not None:
            side = "offline" if raised == self.offline[1] else "online"
            return of_exception(raised), f"{side} raises {raised}"
        if scenario.files is not None and not self.still(replace(scenario, files=None)):
            return self.reading()
        found = view_feature(self.service, self.feature)
        if found is None:
            return self.transform()
        return self.of_view(*found)

    # --- rows that are read otherwise -------------------------------------------------------------

    def reading(self) -> tuple[str, str]:
        """The files' rows are not those that a push reads."""
        files, pushed = self.scenario.files or (), self.scenario.deliveries
        of_files = partners(self.scenario)
        for partner, of_push in zip(of_files, pushed, strict=True):
            if partner is None:
                continue
            of_file = files[partner]
            names = [n for n in of_push.row if bits(of_file.row.get(n)) != bits(of_push.row[n])]
            if not names:
                continue
            name = next((n for n in ("__ts", "__created") if n in names), names[0])
            one, other = of_file.row.get(name), of_push.row[name]
            column = {"__ts": "the event's instant", "__created": "its arrival"}.get(name, name)
            if name.startswith("__") and isinstance(one, int) and isinstance(other, int):
                where = (
                    f"reading {column}: the file's row says {instant(one).isoformat()}, the pushed "
                    f"one {instant(other).isoformat()}"
                )
                apart = abs(one - other)
                if apart % _QUARTER == 0 and apart <= _DAY:
                    return "time zone", where
                return ("precision" if apart < 1_000_000 else "column"), where
            crossed = [
                n for n in names if n != name and bits(of_file.row.get(n)) == bits(other)
                and bits(of_push.row[n]) == bits(one)
            ]  # fmt: skip
            where = f"reading {name}: {shown(one)} from files, {shown(other)} from pushes"
            if crossed:
                return "column", f"{where}, and {crossed[0]} the other way round"
            return of_values(one, other, "column"), where
        where = f"the files give {len(files)} rows, pushes {len(pushed)}"
        if None in of_files or len(files) < len(pushed):
            return "missing event", where
        if len(files) > len(pushed):
            return "duplicate event", where
        return "unknown", "the rows of the files stand in another order"

    # --- request-time transforms ------------------------------------------------------------------

    def transform(self) -> tuple[str, str]:
        """A transform over features and request fields: an input that differs, or its own node."""
        output = self.service.outputs[0]
        transform = self.service.transforms[output.index]
        arguments: list[Any] = []
        for given in transform.inputs:
            if given.kind == "request":
                arguments.append(self.scenario.row[given.name])
                continue
            name, service = _exposed(self.service, given.kind, given.view, given.index)
            fields = {*service.join_keys, *(p.name for p in service.request)}
            row = {n: v for n, v in self.scenario.row.items() if n in fields}
            asked = replace(self.scenario, service=service, served=None, row=row)
            one, other = self.bench.both(asked)[name]
            if parts(one, other) and not exception_of(one, other):
                inner = shrink(self.bench, asked, name, tries=60)
                if inner is not None:
                    doctor = Doctor(self.bench, inner.scenario, name, inner.offline, inner.online)
                    cause, where = doctor.cause()
                    self.evidence += doctor.evidence
                    return cause, f"input {given.name} of {transform.function.name}: {where}"
            arguments.append(ERROR if one[1] == ERROR_STATUS else one[0])
        if any(a is ERROR for a in arguments):
            return "error", f"{transform.function.name} reads a feature that errs"
        return self.parting(transform.function, arguments, raw(self.offline), raw(self.online))

    def parting(
        self, function: Any, arguments: list[Any], offline: Any, online: Any
    ) -> tuple[str, str]:
        """The first node of a function at which the paths part."""
        made = trace(function, arguments)
        found = first_parting(self.bench.con, made)
        if found is not None:
            step, value = found
            given = ", ".join(f"{n} = {shown(v)}" for n, v in step.inputs)
            where = (
                f"{function.name}, node `{step.text}`{' with ' + given if given else ''}: offline "
                f"{shown(value)}, online {shown(step.value)}"
            )
            return of_node(step, value), where
        whole = to_python(function)(*arguments)
        where = f"{function.name} as a whole: offline {shown(offline)}, online {shown(online)}"
        self.evidence.append("every node of it, evaluated alone, agrees")
        if bits(whole) != bits(made.value):
            self.evidence.append(f"its nodes give {shown(made.value)}")
        wrong = online if bits(made.value) == bits(offline) else offline
        return of_values(made.value, wrong, "operator"), where

    # --- features of views ------------------------------------------------------------------------

    def of_view(self, view: View, feature: Feature) -> tuple[str, str]:
        scenario = self.scenario
        found = counted(self.bench, scenario, self.feature)
        stated = {self.offline[1], self.online[1], found.offline_status, found.online_status}
        answered = None not in (found.offline, found.online)
        if answered and (
            found.offline != found.online
            or (found.offline_status != found.online_status and OUTSIDE_MAX_AGE in stated)
        ):
            return self.selection(view, feature, found)
        chosen = sorted(set(found.online or ()))
        if feature.slot is not None:
            parted = self.slot(view, feature.slot, chosen)
            if parted is not None:
                return parted
        for number in range(min(len(scenario.deliveries), FEW)):
            # What the aggregate's own SQL counts may not be what another's over the window does.
            edge = self.edge(view, feature, number, most=2)
            if edge is not None:
                row = scenario.deliveries[number].row
                return edge, f"event {number + 1} ({_at(row, view, feature, scenario.at)})"
        for change, cause in (("offset_us", "window edge"), ("hop_us", "hop")):
            if getattr(feature, change) and self.turns_on(view, feature, change):
                self.evidence.append(f"without its {change[:-3]} the paths agree")
                return cause, f"the window ({when(_bounds(view, feature, scenario.at)[0])}, …]"
        return self.step(view, feature, found)

    def turns_on(self, view: View, feature: Feature, change: str) -> bool:
        """Whether the paths agree where the window is defined without something that decides which
        of the events lie in it."""

        def inside(one: Feature) -> list[bool]:
            low, high = _bounds(view, one, self.scenario.at)
            instants = [d.row["__ts"] for d in self.scenario.deliveries]
            return [(low is None or low < ts) and ts <= high for ts in instants]

        without_it: dict[str, Any] = {change: 0}
        if inside(feature) == inside(replace(feature, **without_it)):
            return False
        return not self.still(self.with_feature(feature, **without_it))

    def selection(self, view: View, feature: Feature, found: Counted) -> tuple[str, str]:
        """Other events count, or in another order."""
        scenario, t = self.scenario, self.scenario.at
        one, other = Counter(found.offline or ()), Counter(found.online or ())
        if one == other and found.offline != found.online:
            return "tie", (
                f"the order of the events: offline {_listed(found.offline)}, online "
                f"{_listed(found.online)}"
            )
        only = [(i, "offline") for i in (one - other)] + [(i, "online") for i in (other - one)]
        if not only:
            return self.status(view)
        number, side = only[0]
        row = scenario.deliveries[number].row
        where = f"event {number + 1} counts {side} only ({_at(row, view, feature, t)})"
        twice = max(one[number], other[number]) > 1
        if twice:
            return "duplicate event", f"event {number + 1} counts more than once {side}"
        if feature.aggregate is None and one and other:
            return self.latest_choice(view, found, where)
        late = row["__created"] > row["__ts"]
        if late and row["__created"] > t:
            return "late event", f"{where}: it had not arrived"
        edge = self.edge(view, feature, number)
        if edge is not None:
            return edge, where
        if feature.hop_us and self.without_hop(view, feature, row["__ts"]):
            return "hop", f"{where}; without the hop it is taken alike"
        low, high = _bounds(view, feature, t)
        if not ((low is None or low < row["__ts"]) and row["__ts"] <= high):
            return ("ttl" if feature.aggregate is None else "window edge"), where
        if feature.offset_us and not self.still(self.with_feature(feature, offset_us=0)):
            return "window edge", f"{where}; without the offset both paths agree"
        if feature.where is not None and not self.keeps(view, feature.where, row):
            return "condition", f"{where}; its condition is not true"
        if view.source.event_id is not None:
            name = view.source.event_id
            same = [d for d in scenario.deliveries if d.row.get(name) == row[name]]
            if len(same) > 1:
                op = view.source.op
                cause = "duplicate event"
                if op is not None:
                    deleted = any(d.row[op] == "delete" for d in same)
                    cause = "deletion ignored" if deleted else "correction ignored"
                return cause, f"{where}: {len(same)} rows have its {name}"
        if late and not self.still(changed(scenario, [number], "__created", lambda r: r["__ts"])):
            return "late event", f"{where}: counted on both where it arrives when it happens"
        if feature.where is not None and self.slot(view, feature.where, [number]) is not None:
            parted = self.slot(view, feature.where, [number])
            assert parted is not None
            return parted[0] if parted[0] != "operator" else "condition", f"{where}; {parted[1]}"
        key = self.key(view)
        if key is not None:
            return key, where
        if scenario.filled_until > NEVER:
            return "missing event", f"{where}: a materialisation was to bring it online"
        order = tuple(
            sorted(scenario.deliveries, key=lambda d: (d.row["__created"], d.row["__ts"]))
        )
        if order != scenario.deliveries and not self.still(replace(scenario, deliveries=order)):
            return "late event", f"{where}, unless events are delivered in the order of arrival"
        return "missing event", where

    def edge(self, view: View, feature: Feature, number: int, most: int = 2 * _HOUR) -> str | None:
        """Whether an edge is elsewhere on one path, by `most` microseconds at most: where the event
        is moved away from the edge, on the side of it on which it is, the paths agree."""
        low, high = _bounds(view, feature, self.scenario.at)
        of_ttl = feature.aggregate is None
        if view.ttl_us is not None and not of_ttl:
            ends = [(low, 1, False), (high, -1, False), (self.scenario.at - view.ttl_us, 1, True)]
        else:
            ends = [(low, 1, of_ttl), (high, -1, False)]
        for by in (m for m in _MOVES if m <= most):
            for end, inwards, is_ttl in ends:
                said = self.beyond(number, end, inwards, by, (low, high))
                if said is None:
                    continue
                self.evidence.append(said)
                if by >= _QUARTER:
                    return "time zone"
                if 1_000 <= by <= 1_000_000:
                    return "precision"
                if is_ttl:
                    return "ttl"
                return "hop" if feature.hop_us and by > 2 and inwards > 0 else "window edge"
            if by == 2 and feature.hop_us and low is not None:
                near = self.hop(feature, number, low, high)
                if near is not None:
                    self.evidence.append(near)
                    return "hop"
        return None

    def beyond(
        self, number: int, end: int | None, inwards: int, by: int, window: tuple[int | None, int]
    ) -> str | None:
        """Whether the event, nearer to an edge than `by`, is taken alike where it is so far on."""
        ts = self.scenario.deliveries[number].row["__ts"]
        if end is None or abs(ts - end) >= by:
            return None
        inside = ts > end if inwards > 0 else ts <= end
        move = by * inwards if inside else -by * inwards
        low, high = window
        if inside and not ((low is None or low < ts + move) and ts + move <= high):
            return None
        others = [d.row["__ts"] for i, d in enumerate(self.scenario.deliveries) if i != number]
        if any(_sign(ts - other) != _sign(ts + move - other) for other in others):
            return None  # another order of the events may be what makes them agree
        if self.still(_nudged(self.scenario, number, move)):
            return None
        return f"event {number + 1} moved by {move:+,} µs, away from the edge, is taken alike"

    def hop(self, feature: Feature, number: int, low: int, high: int) -> str | None:
        """Whether the event, near the aligned beginning, is taken alike well within the window."""
        ts = self.scenario.deliveries[number].row["__ts"]
        if abs(ts - low) > feature.hop_us:
            return None
        to = high - 1 if ts > low else low - feature.hop_us - 1
        if self.still(_nudged(self.scenario, number, to - ts)):
            return None
        return f"the window begins at {when(low)}, aligned to its hop; far from there it agrees"

    def without_hop(self, view: View, feature: Feature, ts: int) -> bool:
        """Whether the paths agree about a window without its hop, which holds the event too."""
        low, _ = _bounds(view, replace(feature, hop_us=0), self.scenario.at)
        if low is None or ts <= low:
            return False
        return not self.still(self.with_feature(feature, hop_us=0))

    def with_feature(self, feature: Feature, **changes: Any) -> Scenario:
        """The scenario, its feature defined otherwise."""
        other = replace(feature, **changes)
        views = tuple(
            replace(v, features=tuple(other if f == feature else f for f in v.features))
            for v in self.service.views
        )
        return replace(self.scenario, service=replace(self.service, views=views))

    def keeps(self, view: View, slot: int, row: dict[str, Any]) -> bool:
        """Whether the condition of a window holds for a row."""
        made = view.slots[slot]
        if made.transform is None:
            return row[made.column or ""] is True
        return to_python(made.transform)(*[row[p.name] for p in made.transform.params]) is True

    def latest_choice(self, view: View, found: Counted, where: str) -> tuple[str, str]:
        """Each path takes another row for the latest."""
        a = self.scenario.deliveries[(found.offline or (0,))[0]].row
        b = self.scenario.deliveries[(found.online or (0,))[0]].row
        said = (
            f"the latest row: offline event {(found.offline or (0,))[0] + 1}, online event "
            f"{(found.online or (0,))[0] + 1}"
        )
        if a["__ts"] == b["__ts"]:
            return "tie", f"{said}, both at {when(a['__ts'])}"
        if any(r["__created"] > r["__ts"] for r in (a, b)):
            return "late event", said
        return "missing event", said

    def status(self, view: View) -> tuple[str, str]:
        """The same events, none of them counted, and other statuses."""
        where = f"the status: offline {self.offline[1]}, online {self.online[1]}"
        statuses = {self.offline[1], self.online[1]}
        if OUTSIDE_MAX_AGE in statuses:
            begin = self.scenario.at - (view.ttl_us or 0)
            known = [d.row["__ts"] for d in self.scenario.deliveries]
            if all(t > begin + 2 for t in known) and NOT_FOUND not in statuses:
                return "missing event", f"{where}, and no event is too old"
            return "ttl", where
        if ERROR_STATUS in statuses:
            return "error", where
        if NOT_FOUND in statuses:
            return self.key(view) or "missing event", where
        return "null fill", where

    def key(self, view: View) -> str | None:
        """Whether it is the key: the states lie under another one, or with a plain value of it the
        paths agree."""
        scenario, service = self.scenario, self.scenario.online
        plan = self.bench.plan(service)
        asked = plan.state_keys({n: [scenario.row[n]] for n in service.join_keys}, 1)[0]
        held = set(self.bench.states(scenario).values)
        mine = sum(
            all(bits(d.row.get(p.name)) == bits(scenario.row[p.name]) for p in view.join_keys)
            for d in scenario.deliveries
        )
        for wanted, prefix in zip(asked, plan.prefixes, strict=True):
            others = {k for k in held if k.startswith(prefix)}
            if others and mine and wanted is not None and wanted not in others:
                self.evidence.append("the online states lie under other keys than lookups ask for")
                return "key"
        types = self.service.join_keys
        for param in view.join_keys:
            value, type_ = self.scenario.row[param.name], types[param.name]
            if value is None:
                continue
            for new in simpler(value, type_):
                if new is None or not new:
                    continue
                if not self.still(renamed(self.scenario, param.name, value, new)):
                    self.evidence.append(f"with {param.name}={new!r} the paths agree")
                    return "key"
        return None

    def slot(self, view: View, slot: int, numbers: list[int]) -> tuple[str, str] | None:
        """The first of some events whose slot the paths do not make the same."""
        pairs = slot_values(self.bench, self.scenario, view, slot, numbers[:FEW])
        for number, (one, other) in zip(numbers, pairs, strict=False):
            if not parts(one, other):
                continue
            made = view.slots[slot]
            row = self.scenario.deliveries[number].row
            if made.transform is None:
                name = made.column
                cause = of_stated(one, other, "column")
                seen = (bits(one[0]), bits(other[0]))
                crossed = [
                    n for n, v in row.items()
                    if n != name and not n.startswith("__") and bits(v) in seen
                ]  # fmt: skip
                if crossed and None not in (one[0], other[0]) and cause in OF_VALUES:
                    cause = "column"
                return cause, (
                    f"column {name} of event {number + 1}: offline {said_of(one)}, online "
                    f"{said_of(other)}"
                )
            arguments = [row[p.name] for p in made.transform.params]
            cause, where = self.parting(made.transform, arguments, raw(one), raw(other))
            return cause, f"event {number + 1}: {where}"
        return None

    def step(self, view: View, feature: Feature, found: Counted) -> tuple[str, str]:
        """The same events and the same slots: the aggregate, or what comes after it."""
        offline, online = self.offline, self.online
        if feature.aggregate is None:
            where = f"what is made of the latest row: offline {said_of(offline)}, online "
            return of_stated(offline, online, "stale state"), where + said_of(online)
        values: list[Any] = []
        item: Type | None = None
        given = inputs(self.bench, self.scenario, self.feature)
        if given is not None:
            assert feature.slot is not None
            item = view.slots[feature.slot].type.base
            one, other = given
            if parts(one, other) and isinstance(one[0], list) and isinstance(other[0], list):
                return self.listed(feature, one[0], other[0])
            values = one[0] or []
        where = (
            f"{feature.aggregate} over {len(found.offline or ())} events: offline "
            f"{said_of(offline)}, online {said_of(online)}"
        )
        if values and item is not None:
            where += f"; inputs {_few(values)}{_exact(feature, values, item)}"
        cause = self.aggregate_cause(view, feature, values, item)
        return cause, where

    def listed(self, feature: Feature, one: list[Any], other: list[Any]) -> tuple[str, str]:
        """The lists of inputs differ though each event's slot is the same alone."""
        where = f"the inputs of {feature.aggregate}: offline {_few(one)}, online {_few(other)}"
        if sorted(map(repr, one)) == sorted(map(repr, other)):
            return "tie", where
        a = Counter(map(repr, one)) - Counter(map(repr, other))
        if {"0.0", "-0.0"} & {*a}:
            return "-0.0", where
        return ("null fill" if len(one) != len(other) else "stale state"), where

    def aggregate_cause(
        self, view: View, feature: Feature, values: list[Any], item: Type | None
    ) -> str:
        offline, online = self.offline, self.online
        floats = [v for v in values if isinstance(v, float)]
        general = of_stated(offline, online, "")
        if general in ("null fill", "error", "ttl"):
            numbers = sorted(range(len(self.scenario.deliveries)))
            if general != "ttl" and any(v != v for v in floats):
                return "NaN"
            if general == "null fill":
                filled = offline[0] if online[0] is None else online[0]
                if feature.default is not None and bits(filled) == bits(feature.default):
                    return "default"
            if general == "error":
                return general
            if NOT_FOUND in (offline[1], online[1]):
                return self.key(view) or ("missing event" if numbers else "null fill")
            return general
        if any(v != v for v in floats) or is_nan(offline[0]) or is_nan(online[0]):
            return "NaN"
        if general in ("type", "-0.0", "float32", "precision"):
            return general
        if feature.aggregate in _SPECIAL:
            return _SPECIAL[feature.aggregate]
        if feature.aggregate in _ADDING and (floats or (item and item.name == "float")):
            exactly = [v for v in floats if math.isfinite(v)]
            if len(exactly) > 2 or (len(exactly) == 2 and feature.aggregate != "Mean"):
                self.evidence.append(self.sums(exactly))
                return "float order"
            return "rounding"
        if feature.implementation().ordered:
            return "tie"
        apart = ulps(offline[0], online[0])
        if apart is not None and apart <= 4:
            return "rounding"
        if general and general != "operator":
            return general
        return "aggregate"

    def sums(self, values: list[float]) -> str:
        """What adding from the left makes of the values."""
        total = 0.0
        for value in values:
            total += value
        exact = sum(map(Fraction, values), Fraction())
        return f"added from the left: {shown(total)}; the exact sum rounds to {_rounded(exact)}"


_SPECIAL = {
    "Quantile": "quantile",
    "ApproxQuantile": "quantile",
    "TimeSince": "unit",
    "ApproxCountDistinct": "hash",
    "TopK": "tie",
    "ValueCounts": "tie",
}
_ADDING = ("Sum", "Mean", "Variance", "StdDev")


def _code(service: Service) -> list[Any]:
    """What of a service computes: the same for one that went through its bytes."""
    from featurekit.language.wire import canonical

    return [canonical(v) for v in service.views] + [canonical(t) for t in service.transforms]


def _versions(offline: Service, online: Service) -> str:
    return f"the version: offline {offline.fingerprint[:12]}, online {online.fingerprint[:12]}"


def _exposed(service: Service, kind: str, view: int, index: int) -> tuple[str, Service]:
    """The service with an input of a transform as its one output, and that output's name."""
    from featurekit.define.plan import Output

    if kind == "feature":
        of_view = service.views[view]
        feature = of_view.features[index]
        name = f"{of_view.name}__{feature.name}"
        output = Output(name, name, view, index, feature.type, "")
    else:
        function = service.transforms[index].function
        name = function.name
        output = Output(name, name, -1, index, function.returns, "")
    return name, narrowed(replace(service, outputs=(output,)), name)


def _bounds(view: View, feature: Feature, t: int) -> tuple[int | None, int]:
    """The window (low, high] as the rules have it; of a latest row its ttl's."""
    if feature.aggregate is None:
        return (None if view.ttl_us is None else t - view.ttl_us), t
    high = t - feature.offset_us
    if feature.lifetime:
        return None, high
    low = high - feature.window_us
    return (low // feature.hop_us * feature.hop_us if feature.hop_us else low), high


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _nudged(scenario: Scenario, number: int, by: int) -> Scenario:
    """The scenario with one event moved, and its arrival only where it would come before."""
    row = scenario.deliveries[number].row
    if row["__created"] == row["__ts"]:
        return moved(scenario, number, by)
    return changed(scenario, [number], "__ts", lambda r: r["__ts"] + by)


def _at(row: dict[str, Any], view: View, feature: Feature, t: int) -> str:
    low, high = _bounds(view, feature, t)
    said = f"at {when(row['__ts'])}"
    if row["__created"] != row["__ts"]:
        said += f", arrived {when(row['__created'])}"
    if low is not None:
        said += f", {row['__ts'] - low:,} µs after the window begins"
    return f"{said}, {high - row['__ts']:,} µs before it ends"


def _listed(numbers: tuple[int, ...] | None) -> str:
    return ", ".join(str(n + 1) for n in numbers or ()) or "none"


def _few(values: list[Any]) -> str:
    shown_ = ", ".join(shown(v) for v in values[:FEW])
    return f"[{shown_}{', …' if len(values) > FEW else ''}]"


def _exact(feature: Feature, values: list[Any], item: Type) -> str:
    """The exact sum, where the aggregate rounds one."""
    if feature.aggregate not in ("Sum", "Mean") or item.name != "float":
        return ""
    if not all(math.isfinite(v) for v in values):
        return ""
    total = sum(map(Fraction, values), Fraction())
    return f"; their exact sum rounds to {_rounded(total)}"


def _rounded(total: Fraction) -> str:
    try:
        return shown(float(total))
    except OverflowError:
        return "no double"
