"""Experiments on what was counted: an event that one path counts and the other does not, another
order, another latest row, another status of none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.status import ERROR_STATUS, NEVER, NOT_FOUND, OUTSIDE_MAX_AGE
from featurekit.define.explode import exploded_rows
from featurekit.define.plan import Feature, View
from featurekit.language.to_python import to_python
from featurekit.parity.compare import bits
from featurekit.parity.diagnose.counted import Counted
from featurekit.parity.diagnose.diagnosis import when
from featurekit.parity.diagnose.shrink import changed, renamed, simpler
from featurekit.parity.diagnose.slots import keeps, parting_slot
from featurekit.parity.diagnose.trial import Told, Trial
from featurekit.parity.diagnose.windows import (
    agrees_without_frame,
    agrees_without_hop,
    edge,
    inside,
    place,
    window,
)


@dataclass(frozen=True, slots=True)
class _Odd:
    """The first event that one path counts and the other does not."""

    number: int
    row: dict[str, Any]
    where: str

    @property
    def late(self) -> bool:
        return bool(self.row["__created"] > self.row["__ts"])


def of_selection(trial: Trial, view: View, feature: Feature, found: Counted) -> Told:
    """Why other events count, or in another order."""
    scenario = trial.scenario
    told = None if view.where is None else _by_condition(trial, view)
    if told is not None:
        return told
    one, other = Counter(found.offline or ()), Counter(found.online or ())
    if one == other and found.offline != found.online:
        return "tie", (
            f"the order of the events: offline {_listed(found.offline)}, online "
            f"{_listed(found.online)}"
        )
    only = [(i, "offline") for i in (one - other)] + [(i, "online") for i in (other - one)]
    if not only:
        return _status(trial, view)
    number, side = only[0]
    if max(one[number], other[number]) > 1:
        return "duplicate event", f"event {number + 1} counts more than once {side}"
    row = scenario.deliveries[number].row
    at = place(row, view, feature, scenario.at)
    odd = _Odd(number, row, f"event {number + 1} counts {side} only ({at})")
    if feature.aggregate is None and one and other:
        return _latest_row(trial, found)
    return (
        _by_window(trial, view, feature, odd)
        or _by_id(trial, view, odd)
        or _by_arrival(trial, view, feature, odd)
    )


def _by_condition(trial: Trial, view: View) -> Told | None:
    """Whether it is a row that does not pass the view's condition, of which no other row has the
    id: without such rows the paths agree."""
    scenario, name = trial.scenario, view.source.event_id
    passed = [_passes(view, d.row) for d in scenario.deliveries]
    alone = Counter(d.row[name] for d in scenario.deliveries) if name is not None else None
    kept = tuple(
        d
        for d, ok in zip(scenario.deliveries, passed, strict=True)
        if ok or (alone is not None and name is not None and alone[d.row[name]] > 1)
    )
    if len(kept) == len(passed) or trial.still(replace(scenario, deliveries=kept)):
        return None
    return "condition", "without rows that do not pass the view's where= both paths agree"


def _passes(view: View, row: dict[str, Any]) -> bool:
    """Whether a row, or an element of its list, passes the view's condition, as Python means it."""
    assert view.where is not None
    function, names = to_python(view.where.function), view.where.columns
    events = [row] if view.explode is None else exploded_rows(replace(view, where=None), [row])
    return any(function(*[event[name] for name in names]) is True for event in events)


def _by_window(trial: Trial, view: View, feature: Feature, odd: _Odd) -> Told | None:
    """Whether the event's place in the window tells, or the window's condition."""
    t, where = trial.scenario.at, odd.where
    if odd.late and odd.row["__created"] > t:
        return "late event", f"{where}: it had not arrived"
    cause = edge(trial, view, feature, odd.number)
    if cause is not None:
        return cause, where
    if agrees_without_frame(trial, feature):
        return "frame", f"{where}; by the window's length alone it is taken alike"
    if (
        feature.hop_us
        and feature.steady
        and agrees_without_hop(trial, view, feature, odd.row["__ts"])
    ):
        return "hop", f"{where}; without the hop it is taken alike"
    if not inside(window(view, feature, t), odd.row["__ts"]):
        return ("ttl" if feature.aggregate is None else "window edge"), where
    if feature.offset_us and not trial.still(trial.with_feature(feature, offset_us=0)):
        return "window edge", f"{where}; without the offset both paths agree"
    if feature.where is not None and not keeps(view, feature.where, odd.row):
        return "condition", f"{where}; its condition is not true"
    return None


def _by_id(trial: Trial, view: View, odd: _Odd) -> Told | None:
    """Whether other rows have the event's id (T7)."""
    name, op = view.source.event_id, view.source.op
    if name is None:
        return None
    same = [d for d in trial.scenario.deliveries if d.row.get(name) == odd.row[name]]
    if len(same) <= 1:
        return None
    cause = "duplicate event"
    if op is not None:
        deleted = any(d.row[op] == "delete" for d in same)
        cause = "deletion ignored" if deleted else "correction ignored"
    return cause, f"{odd.where}: {len(same)} rows have its {name}"


def _by_arrival(trial: Trial, view: View, feature: Feature, odd: _Odd) -> Told:
    """Whether it is the event's arrival, its condition, its key, or how it was to come online."""
    scenario, number, where = trial.scenario, odd.number, odd.where
    prompt = changed(scenario, [number], "__created", lambda r: r["__ts"])
    if odd.late and not trial.still(prompt):
        return "late event", f"{where}: counted on both where it arrives when it happens"
    if feature.where is not None:
        parted = parting_slot(trial, view, feature.where, [number])
        if parted is not None:
            cause, at = parted
            return cause if cause != "operator" else "condition", f"{where}; {at}"
    cause_of_key = of_key(trial, view)
    if cause_of_key is not None:
        return cause_of_key, where
    if scenario.filled_until > NEVER:
        return "missing event", f"{where}: a materialisation was to bring it online"
    order = tuple(sorted(scenario.deliveries, key=lambda d: (d.row["__created"], d.row["__ts"])))
    if order != scenario.deliveries and not trial.still(replace(scenario, deliveries=order)):
        return "late event", f"{where}, unless events are delivered in the order of arrival"
    return "missing event", where


def _latest_row(trial: Trial, found: Counted) -> Told:
    """Each path takes another row for the latest."""
    one, other = (found.offline or (0,))[0], (found.online or (0,))[0]
    rows = [trial.scenario.deliveries[i].row for i in (one, other)]
    said = f"the latest row: offline event {one + 1}, online event {other + 1}"
    if rows[0]["__ts"] == rows[1]["__ts"]:
        return "tie", f"{said}, both at {when(rows[0]['__ts'])}"
    if any(r["__created"] > r["__ts"] for r in rows):
        return "late event", said
    return "missing event", said


def _status(trial: Trial, view: View) -> Told:
    """The same events, none of them counted, and other statuses."""
    where = f"the status: offline {trial.offline[1]}, online {trial.online[1]}"
    statuses = {trial.offline[1], trial.online[1]}
    if OUTSIDE_MAX_AGE in statuses:
        begin = trial.scenario.at - (view.ttl_us or 0)
        known = [d.row["__ts"] for d in trial.scenario.deliveries]
        if all(t > begin + 2 for t in known) and NOT_FOUND not in statuses:
            return "missing event", f"{where}, and no event is too old"
        return "ttl", where
    if ERROR_STATUS in statuses:
        return "error", where
    if NOT_FOUND in statuses:
        return of_key(trial, view) or "missing event", where
    return "null fill", where


def of_key(trial: Trial, view: View) -> str | None:
    """The cause, where it is the key: the states lie under another one, or with a plain value of it
    the paths agree."""
    scenario, service = trial.scenario, trial.scenario.online
    path = trial.bench.fed(scenario)
    plan = path.plan
    asked = plan.state_keys({n: [scenario.row[n]] for n in service.join_keys}, 1)[0]
    mine = sum(
        all(bits(d.row.get(n)) == bits(v) for n, v in view.entity(scenario.row).items())
        for d in scenario.deliveries
    )
    for wanted, prefix in zip(asked, plan.prefixes, strict=True):
        others = {*path.store.keys(prefix)}
        if others and mine and wanted is not None and wanted not in others:
            trial.evidence.append("the online states lie under other keys than lookups ask for")
            return "key"
    types = trial.service.join_keys
    for param in view.row_keys:
        value, type_ = scenario.row[param.name], types[param.name]
        if value is None:
            continue
        for new in simpler(value, type_):
            if new is None or not new:
                continue
            if not trial.still(renamed(scenario, param.name, value, new)):
                trial.evidence.append(f"with {param.name}={new!r} the paths agree")
                return "key"
    return None


def _listed(numbers: tuple[int, ...] | None) -> str:
    return ", ".join(str(n + 1) for n in numbers or ()) or "none"
