"""Turns what was seen in a run into whether it is as it must be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tests.simulation.plan import MOST_FALSE, QUIET_DAYS, Change, Plan
from tests.simulation.run import Compared, Firing, Seen


@dataclass(frozen=True)
class Line:
    """What became of a planted change: the firings of its trigger, and what is wrong, "" for
    nothing."""

    change: Change
    firings: list[Firing]
    wrong: str

    @property
    def windows(self) -> float | None:
        """In which window it was found, counted from when it could be known."""
        if not self.firings:
            return None
        after = self.firings[0].day - self.change.first - self.change.known_after + 1
        return after / self.change.window_days


@dataclass(frozen=True)
class Report:
    """What became of each change; firings that belong to none; by service the most false alarms in
    so many quiet days; and what else is wrong."""

    plan: Plan
    seen: Seen
    lines: list[Line]
    others: list[Firing]
    false_alarms: dict[str, int]
    wrong: list[str]

    @property
    def ok(self) -> bool:
        """Whether all is as it must be."""
        return not self.wrong

    def to_dict(self) -> dict[str, Any]:
        """All of it, in the form of JSON."""
        return {
            "ok": self.ok,
            "wrong": self.wrong,
            "days": self.plan.days,
            "changes": [
                {**asdict(one.change), "firings": [asdict(f) for f in one.firings],
                 "windows": one.windows, "wrong": one.wrong}
                for one in self.lines
            ],
            "other_firings": [asdict(one) for one in self.others],
            "most_false_alarms": self.false_alarms,
            "promoted": self.seen.promoted,
            "compared": None if self.seen.compared is None else asdict(self.seen.compared),
            "asked": self.seen.asked,
            "lines": self.seen.lines,
            "drift": {
                service: {day: names for day, names in found.items() if names}
                for service, found in self.seen.drift.items()
            },
        }  # fmt: skip


def judged(plan: Plan, seen: Seen) -> Report:
    """The report of a run with triggers."""
    lines = [_line(one, seen.firings) for one in plan.changes if one.first < plan.days]
    known = {one.change.trigger for one in lines}
    others = [one for one in seen.firings if one.trigger not in known]
    false = {name: most_false(plan, found) for name, found in seen.drift.items()}
    wrong = [f"{one.change.name}: {one.wrong}" for one in lines if one.wrong]
    wrong += [f"{one.trigger} fired on day {one.day}, without a change" for one in others]
    wrong += [
        f"{name} has {n} false alarms in {QUIET_DAYS} quiet days"
        for name, n in false.items()
        if n > MOST_FALSE
    ]
    if plan.changes and any(one.change.name == "concept" for one in lines):
        wrong += _of_models(seen)
    return Report(plan, seen, lines, others, false, wrong)


def _line(change: Change, firings: list[Firing]) -> Line:
    found = [one for one in firings if one.trigger == change.trigger]
    wrong = ""
    if len(found) != 1:
        days = ", ".join(str(one.day) for one in found)
        wrong = f"{change.trigger} fired {len(found)} times ({days}), and not once"
    elif not change.first <= found[0].day <= change.last_day:
        wrong = (
            f"{change.trigger} fired on day {found[0].day}, and not from {change.first} to "
            f"{change.last_day}"
        )
    elif found[0].ended != "done":
        wrong = f"the action of {change.trigger} is {found[0].ended}"
    return Line(change, found, wrong)


def most_false(plan: Plan, drift: dict[int, list[str]]) -> int:
    """The most alarms, of all features together, in `QUIET_DAYS` quiet days one after another."""
    counts = [len(names) for day, names in sorted(drift.items()) if plan.quiet(day)]
    return max((sum(counts[i : i + QUIET_DAYS]) for i in range(len(counts))), default=0)


def _of_models(seen: Seen) -> list[str]:
    """What is wrong with the model that was learnt anew."""
    if len(seen.promoted) != 1:
        return [f"{len(seen.promoted)} models were promoted, and not one"]
    both = seen.compared
    if both is None or not both.rows:
        return ["no outcome is known of what the new model predicted"]
    return [] if _better(both) else ["the new model is not better than the old one"]


def _better(both: Compared) -> bool:
    """Whether the new model is better beyond both intervals."""
    (_, low, _), (_, _, high) = both.new["auc"], both.old["auc"]
    return low > high and both.new["brier"][2] < both.old["brier"][1]
