"""Says why online and offline differ: shrinks a failing scenario, finds where the paths part, and
names a likely cause, by experiments on what is left of it.
"""

from __future__ import annotations

import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from featurekit.compiled import Feature, Service, View
from featurekit.online.state import ERROR_STATUS, NEVER, NOT_FOUND, OUTSIDE_MAX_AGE
from featurekit.parity.bits import bits, shown, ulps
from featurekit.parity.case import pytest_case
from featurekit.parity.counted import Counted, counted, inputs, slot_values, view_feature
from featurekit.parity.report import Difference, Report
from featurekit.parity.scenario import (
    Bench,
    Delivery,
    Scenario,
    Stated,
    bench,
    differing,
    narrow,
    narrowed,
    partners,
    parts,
)
from featurekit.parity.shrink import changed, moved, renamed, shrink, simpler, without
from featurekit.parity.trace import Step, first_parting, trace
from featurekit.to_python import ERROR, to_python
from featurekit.types import Type, instant, micros

CAUSES = {
    "time zone": "one path reads or reckons a local time in another zone, or with other rules",
    "window edge": "an event on an edge of the window counts on one path only",
    "hop": "the beginning of the window is aligned to its hop on one path only, or otherwise",
    "ttl": "the age at which a row is too old differs",
    "tie": "events of one instant are taken in another order",
    "late event": "an event counts before it has arrived, or not after",
    "missing event": "an event is known to one path only",
    "duplicate event": "a copy of an event counts once more on one path",
    "deletion ignored": "a deletion takes effect on one path only",
    "correction ignored": "a corrected version counts beside or in place of its correction",
    "condition": "the condition of the window keeps an event on one path only",
    "null fill": "None is a value on one path",
    "default": "the default stands for None on one path only",
    "error": "an error is a value or None on one path",
    "NaN": "NaN is skipped, or taken for None or another value, on one path",
    "-0.0": "-0.0 and 0.0 are told apart on one path only",
    "float order": "floats are added in another order or with another rounding between",
    "rounding": "a result is rounded otherwise",
    "division": "// or % floors on one path and truncates on the other",
    "float32": "a float has passed through a float32",
    "precision": "an int has passed through a float, or an instant through whole seconds",
    "quantile": "a quantile is taken at another rank, or interpolated otherwise",
    "hash": "a sketch hashes values otherwise",
    "overflow": "an int outside int64 is an error on one path only",
    "date": "a calendar field is reckoned otherwise",
    "unit": "a duration is in another unit, or cut to whole ones",
    "type": "the value is of another type, as of an int made a float",
    "Unicode": "text is folded, stripped, split or compared by other rules",
    "numerics": "a function of the platform's mathematical library gives other bits",
    "key": "a value of a join key finds another entity, or none",
    "column": "one path reads another column",
    "stale version": "the paths compute different versions of the feature",
    "stale state": "the online state is not what the events make of it",
    "operator": "one operator gives another value",
    "aggregate": "the aggregate gives another value for the same inputs",
    "exception": "one path raises an exception",
    "unknown": "no experiment tells",
}
"""Every cause that a diagnosis names, and what it means."""

_HOUR, _QUARTER, _DAY = 3_600_000_000, 900_000_000, 86_400_000_000
_MOVES = (1, 2, 1_000, 1_000_000, 60_000_000, _QUARTER, _HOUR, 2 * _HOUR)
"""How far an edge may be misplaced: microseconds, a second, a minute, or a zone's offset."""
_ROUNDED = 16
"""So few doubles apart, two values look like one sum that was rounded on the way."""
_FEW = 12
_TRIED = 40
MOST_DIAGNOSED = 3
"""How many features of a report are diagnosed: several seconds each."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one value differs. `scenario` is shrunk; `where` names the first node or step at which
    the paths part, `cause` is one of `CAUSES`, `evidence` what was tried, `case` a pytest case:
    empty where the events, played again, make no difference."""

    scenario: Scenario
    feature: str
    offline: Stated
    online: Stated
    cause: str
    where: str
    case: str
    evidence: tuple[str, ...] = ()
    tries: int = 0

    @property
    def ulps(self) -> int | None:
        """How many doubles apart the values are; None where they are no finite floats."""
        return ulps(self.offline[0], self.online[0])

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "feature": self.feature,
            "entity": {k: repr(v) for k, v in self.scenario.row.items()},
            "as_of": instant(self.scenario.at).isoformat(),
            "offline": {"value": shown(self.offline[0]), "status": self.offline[1]},
            "online": {"value": shown(self.online[0]), "status": self.online[1]},
            "ulps": self.ulps,
            "cause": self.cause,
            "meaning": CAUSES[self.cause],
            "where": self.where,
            "evidence": list(self.evidence),
            "events": [
                {
                    "source": d.source,
                    **{k: repr(v) for k, v in d.row.items() if k not in ("__ts", "__created")},
                    "happened": instant(d.row["__ts"]).isoformat(),
                    "arrived": instant(d.row["__created"]).isoformat(),
                }
                for d in self.scenario.deliveries
            ],
            "case": self.case,
        }

    def text(self) -> str:
        """For people: some lines."""
        apart = "" if self.ulps is None else f", {self.ulps} ulps apart"
        lines = [
            f"{self.feature} differs as of {instant(self.scenario.at).isoformat()}"
            f" for {', '.join(f'{k}={v!r}' for k, v in self.scenario.row.items())}{apart}",
            f"  offline  {shown(self.offline[0])}  {self.offline[1]}",
            f"  online   {shown(self.online[0])}  {self.online[1]}",
            f"  cause    {self.cause}: {CAUSES[self.cause]}",
            f"  where    {self.where}",
            *(f"           {e}" for e in self.evidence),
            f"  events   {len(self.scenario.deliveries)}{' are enough' if self.case else ''}:",
            *(f"           {line}" for line in events_text(self.scenario.deliveries)),
        ]
        return "\n".join(lines)


def events_text(deliveries: Sequence[Delivery]) -> list[str]:
    """A line for each delivery."""
    return [
        f"{i + 1}. {d.source} at {instant(d.row['__ts']).isoformat()}"
        + (
            ""
            if d.row["__ts"] == d.row["__created"]
            else f", arrived {instant(d.row['__created']).isoformat()}"
        )
        + "".join(f" {k}={v!r}" for k, v in d.row.items() if not k.startswith("__"))
        for i, d in enumerate(deliveries[:_FEW])
    ] + ([f"… and {len(deliveries) - _FEW} more"] if len(deliveries) > _FEW else [])


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
        doctor = _Doctor(opened, found.scenario, feature, found.offline, found.online)
        cause, where = doctor.cause()
        return Diagnosis(
            found.scenario, feature, found.offline, found.online, cause, where,
            pytest_case(found.scenario, feature, found.offline, found.online),
            tuple(doctor.evidence), found.tries,
        )  # fmt: skip


def diagnose_report(
    report: Report,
    scenario_of: Callable[[Difference], Scenario | None],
    *,
    seconds: float = 60.0,
) -> None:
    """Diagnose the first difference of each of the first features of a report that differ, but for
    those that are diagnosed."""
    done = {d.feature for d in report.differences if d.diagnosis is not None}
    for i, difference in enumerate(report.differences):
        if difference.feature in done or len(done) >= MOST_DIAGNOSED:
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


def scenario_of_case(service: Service, difference: Difference) -> Scenario | None:
    """The scenario of a difference that brings the few events that it takes."""
    case = getattr(difference, "case", None)
    if case is None:
        return None
    return Scenario(
        service,
        tuple(Delivery(*one) for one in case.deliveries),
        dict(case.row),
        case.at,
        case.filled_until,
        None if case.files is None else tuple(Delivery(*one) for one in case.files),
    )


def at_of(difference: Difference) -> int:
    """The instant of a difference in microseconds."""
    import datetime as dt

    return micros(dt.datetime.fromisoformat(difference.as_of))


# --- the cause ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Doctor:
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
        raised = _raised(self.offline, self.online)
        if raised is not None:
            side = "offline" if raised == self.offline[1] else "online"
            return _of_exception(raised), f"{side} raises {raised}"
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
            return _of_values(one, other, "column"), where
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
            if parts(one, other) and not _raised(one, other):
                inner = shrink(self.bench, asked, name, tries=60)
                if inner is not None:
                    doctor = _Doctor(self.bench, inner.scenario, name, inner.offline, inner.online)
                    cause, where = doctor.cause()
                    self.evidence += doctor.evidence
                    return cause, f"input {given.name} of {transform.function.name}: {where}"
            arguments.append(ERROR if one[1] == ERROR_STATUS else one[0])
        if any(a is ERROR for a in arguments):
            return "error", f"{transform.function.name} reads a feature that errs"
        return self.parting(transform.function, arguments, _raw(self.offline), _raw(self.online))

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
            return _of_node(step, value), where
        whole = to_python(function)(*arguments)
        where = f"{function.name} as a whole: offline {shown(offline)}, online {shown(online)}"
        self.evidence.append("every node of it, evaluated alone, agrees")
        if bits(whole) != bits(made.value):
            self.evidence.append(f"its nodes give {shown(made.value)}")
        wrong = online if bits(made.value) == bits(offline) else offline
        return _of_values(made.value, wrong, "operator"), where

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
        for number in range(min(len(scenario.deliveries), _FEW)):
            # What the aggregate's own SQL counts may not be what another's over the window does.
            edge = self.edge(view, feature, number, most=2)
            if edge is not None:
                row = scenario.deliveries[number].row
                return edge, f"event {number + 1} ({_at(row, view, feature, scenario.at)})"
        for change, cause in (("offset_us", "window edge"), ("hop_us", "hop")):
            if getattr(feature, change) and self.turns_on(view, feature, change):
                self.evidence.append(f"without its {change[:-3]} the paths agree")
                return cause, f"the window ({_when(_bounds(view, feature, scenario.at)[0])}, …]"
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
        return f"the window begins at {_when(low)}, aligned to its hop; far from there it agrees"

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
            return "tie", f"{said}, both at {_when(a['__ts'])}"
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
        pairs = slot_values(self.bench, self.scenario, view, slot, numbers[:_FEW])
        for number, (one, other) in zip(numbers, pairs, strict=False):
            if not parts(one, other):
                continue
            made = view.slots[slot]
            row = self.scenario.deliveries[number].row
            if made.transform is None:
                name = made.column
                cause = _of_stated(one, other, "column")
                seen = (bits(one[0]), bits(other[0]))
                crossed = [
                    n for n, v in row.items()
                    if n != name and not n.startswith("__") and bits(v) in seen
                ]  # fmt: skip
                if crossed and None not in (one[0], other[0]) and cause in _VALUES:
                    cause = "column"
                return cause, (
                    f"column {name} of event {number + 1}: offline {_said(one)}, online "
                    f"{_said(other)}"
                )
            arguments = [row[p.name] for p in made.transform.params]
            cause, where = self.parting(made.transform, arguments, _raw(one), _raw(other))
            return cause, f"event {number + 1}: {where}"
        return None

    def step(self, view: View, feature: Feature, found: Counted) -> tuple[str, str]:
        """The same events and the same slots: the aggregate, or what comes after it."""
        offline, online = self.offline, self.online
        if feature.aggregate is None:
            where = f"what is made of the latest row: offline {_said(offline)}, online "
            return _of_stated(offline, online, "stale state"), where + _said(online)
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
            f"{_said(offline)}, online {_said(online)}"
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
        general = _of_stated(offline, online, "")
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
        if any(v != v for v in floats) or _is_nan(offline[0]) or _is_nan(online[0]):
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
    evidence = [f"played again, both give {_said(made[0])}"]
    seen_offline, seen_online = offline or made[0], online or made[1]
    cause, where = "unknown", "the events, played again, give both paths the same value"
    of_online = parts(seen_online, made[1])
    wrong = seen_online if of_online else seen_offline
    plain = _of_values(_raw(seen_offline), _raw(seen_online), "")
    apart = ulps(_raw(seen_offline), _raw(seen_online))
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
            what = f"the {len(newest)} events that arrived from {_when(since)} on"
            return "stale state", f"{side} is what comes without {what}"
    known = {d.row[name] for d in deliveries for name in ("__ts", "__created")}
    for at in sorted(k for k in known if k < scenario.at)[: -_TRIED - 1 : -1]:
        if gives(replace(scenario, at=at)):
            return "stale state", f"{side} is what it was as of {_when(at)}"
    return None


# --- what pairs of values say ---------------------------------------------------------------------


def _raw(stated: Stated) -> Any:
    return ERROR if stated[1] == ERROR_STATUS else stated[0]


def _of_stated(one: Stated, other: Stated, otherwise: str) -> str:
    if one[1] != other[1] and OUTSIDE_MAX_AGE in (one[1], other[1]):
        return "ttl"
    return _of_values(_raw(one), _raw(other), otherwise)


def _of_values(one: Any, other: Any, otherwise: str) -> str:
    """What a pair of values looks like; `otherwise` where it looks like nothing known."""
    if ERROR in (one, other) and one is not other:
        return "error"
    if (_is_nan(one) or _is_nan(other)) and bits(one) != bits(other):
        return "NaN"
    if (one is None) != (other is None):
        return "null fill"
    if type(one) is not type(other):
        return "type"
    if isinstance(one, float) and isinstance(other, float):
        if one == 0.0 == other:
            return "-0.0"
        for a, b in ((one, other), (other, one)):
            if _single(a) == b or _single(b) == a:
                return "float32"
        return otherwise
    if isinstance(one, int) and isinstance(other, int) and not isinstance(one, bool):
        return "precision" if int(float(one)) == other or int(float(other)) == one else otherwise
    if isinstance(one, str) and isinstance(other, str):
        return "Unicode"
    if isinstance(one, list) and isinstance(other, list):
        if len(one) == len(other):
            for a, b in zip(one, other, strict=True):
                if bits(a) != bits(b):
                    return _of_values(a, b, otherwise)
        return otherwise
    return otherwise


def _single(x: float) -> float | None:
    try:
        (found,) = struct.unpack("<f", struct.pack("<f", x))
    except (OverflowError, struct.error):
        return None
    return float(found)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


_VALUES = ("column", "Unicode", "float32", "precision", "operator")
_TEXT = ("str", "re", "in", "ord", "chr", "bytes", "format", "len", "hashlib")
_ZONES = ("zoned", "datetime", "date", "timedelta")


def _of_node(step: Step, offline: Any) -> str:
    """The cause that an operator's family speaks for."""
    key = getattr(step.node, "op", "")
    name, types = key.partition("(")[0], key.partition("(")[2]
    family = name.partition(".")[0]
    simple = _of_values(offline, step.value, "")
    if simple == "error" and name in _INT_ARITHMETIC and types.startswith("int"):
        return "overflow"
    if simple in ("error", "-0.0", "type"):
        return simple
    if _ratio(offline, step.value):
        return "unit"
    if family == "zoned" or "zoned" in types:
        return "time zone"
    if name in ("//", "%"):
        return "division"
    if simple in ("NaN", "null fill"):
        return simple
    if family in _TEXT or types.startswith("str"):
        return "Unicode"
    if family in _ZONES or types.startswith(("datetime", "date")):
        return "date"
    if name in ("round", "int", "math.floor", "math.ceil", "math.trunc", "float"):
        return "precision" if simple == "precision" and name == "float" else "rounding"
    if family == "math" or name == "**":
        return "numerics"
    if name in ("sum", "math.fsum"):
        return "float order"
    return simple or "operator"


_INT_ARITHMETIC = ("+", "-", "*", "**", "<<", "negative", "abs", "sum", "math.prod")


def _ratio(one: Any, other: Any) -> bool:
    """Whether one is a thousand, a million … times the other."""
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if not numbers or not one or not other or one != one or other != other:
        return False
    return any(abs(one / other / k - 1) < 1e-9 for k in (1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9))


def _raised(*pair: Stated) -> str | None:
    """The exception that stands in the place of a status."""
    return next((status for _, status in pair if ": " in status), None)


def _of_exception(said: str) -> str:
    if said.startswith("FingerprintMismatch"):
        return "numerics"
    if said.startswith("TransformError"):
        return "error"
    return "exception"


# --- small things ---------------------------------------------------------------------------------


def _code(service: Service) -> list[Any]:
    """What of a service computes: the same for one that went through its bytes."""
    from featurekit.ir import canonical

    return [canonical(v) for v in service.views] + [canonical(t) for t in service.transforms]


def _versions(offline: Service, online: Service) -> str:
    return f"the version: offline {offline.fingerprint[:12]}, online {online.fingerprint[:12]}"


def _exposed(service: Service, kind: str, view: int, index: int) -> tuple[str, Service]:
    """The service with an input of a transform as its one output, and that output's name."""
    from featurekit.compiled import Output

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
    said = f"at {_when(row['__ts'])}"
    if row["__created"] != row["__ts"]:
        said += f", arrived {_when(row['__created'])}"
    if low is not None:
        said += f", {row['__ts'] - low:,} µs after the window begins"
    return f"{said}, {high - row['__ts']:,} µs before it ends"


def _when(us: int | None) -> str:
    return "the beginning" if us is None else instant(us).isoformat()


def _said(stated: Stated) -> str:
    return f"{shown(stated[0])} {stated[1]}"


def _listed(numbers: tuple[int, ...] | None) -> str:
    return ", ".join(str(n + 1) for n in numbers or ()) or "none"


def _few(values: list[Any]) -> str:
    shown_ = ", ".join(shown(v) for v in values[:_FEW])
    return f"[{shown_}{', …' if len(values) > _FEW else ''}]"


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
