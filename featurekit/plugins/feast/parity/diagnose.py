"""Turns a value of a feature view that differs into its cause, by the rows of the view's source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import instant
from featurekit.plugins.feast.parity.causes import LAG, UNKNOWN, Cause
from featurekit.plugins.feast.parity.probes import Probes
from featurekit.plugins.feast.parity.source import Row
from featurekit.plugins.feast.parity.targets import Feature, Part
from featurekit.plugins.feast.parity.values import change_of, same


@dataclass(frozen=True, slots=True)
class Case:
    """A value that differs: the feature, what both paths say, the instant asked about, the instant
    of the row that online has, and the rows of the entity in the source, as they happened.
    `other_rows` are those of the entity that the join keys name under the view's own names, where
    these are others."""

    feature: Feature
    part: Part
    key: Sequence[Any]
    offline: Any
    online: Any
    at: int
    held: int | None
    rows: Sequence[Row]
    other_rows: Sequence[Row]
    probes: Probes

    @property
    def past(self) -> list[Row]:
        """The rows by the instant asked about."""
        return [row for row in self.rows if row.ts <= self.at]

    @property
    def latest(self) -> list[Row]:
        """The rows of the latest instant by then; more than one where they tie."""
        past = self.past
        return [row for row in past if row.ts == past[-1].ts] if past else []

    def at_held(self) -> list[Row]:
        """The rows of the instant that online has."""
        return [row for row in self.rows if self.held is not None and is_at(row.ts, self.held)]

    def is_stored(self) -> bool:
        """Whether the online store has the online value under the entity's own key."""
        return self.probes.holds(self.part, self.key, self.feature.name, self.online)

    def holds(self, row: Row, value: Any) -> bool:
        """Whether a value is that of a row, as it stands there or as Feast changes it."""
        of_row, type_ = row.values.get(self.feature.name), self.feature.type
        return same(of_row, value, type_) or change_of(of_row, value, type_) is not None


def is_at(ts: int, held: int) -> bool:
    """Whether an instant is the one that an online store holds: some hold whole seconds, and Feast
    reads Redis' through a double."""
    return abs(ts - held) <= 1 or (held % 1_000_000 == 0 and ts - ts % 1_000_000 == held)


def cause_of(case: Case) -> Cause:
    """The first cause that a check shows; UNKNOWN where none does."""
    for check in _CHECKS:
        found = check(case)
        if found is not None:
            return found
    return UNKNOWN


def _transformation(case: Case) -> Cause | None:
    if getattr(case.part.view, "feature_transformation", None) is None:
        return None
    if not any(case.holds(row, case.offline) for row in case.latest):
        return None
    made = case.probes.transformed(case.part, case.latest[-1:], case.feature.name)
    if made is not None and same(made, case.online, case.feature.type):
        return Cause(
            "transformation not run",
            (f"the transformation of the row that offline gives is {made!r}, as online has it",),
        )
    return None


def _collision(case: Case) -> Cause | None:
    for other in case.probes.collisions(case.part, case.feature.name):
        type_ = case.part.types[other]
        held = case.at_held() or case.latest
        if any(same(row.values.get(other), case.online, type_) for row in held):
            return Cause("hash collision", (f"the value is that of {other!r}",))
    return None


def _join_key(case: Case) -> Cause | None:
    if case.online is not None or case.held is not None or case.offline is None:
        return None
    found = case.probes.other_width(case.part, case.key, case.feature.name)
    if found is None:
        return None
    type_, value = found
    if not any(case.holds(row, value) for row in case.rows):
        return None
    return Cause("join key type", (f"online has the row under the key as {type_}",))


def _alias(case: Case) -> Cause | None:
    past = [row for row in case.other_rows if row.ts <= case.at]
    if case.is_stored():
        return None
    if not past or not any(case.holds(row, case.online) for row in past[-1:]):
        return None
    names = ", ".join(f"{own} beside {name}" for own, name in case.part.columns.items())
    return Cause("aliased join key", (f"the value is that of the other entity: {names}",))


def _changed_value(case: Case) -> Cause | None:
    name = change_of(case.offline, case.online, case.feature.type)
    if name is None or (case.online is None and case.held is None):
        return None
    if case.held is not None and case.latest and not is_at(case.latest[-1].ts, case.held):
        return None
    return Cause(name)


def _ttl(case: Case) -> Cause | None:
    ttl, latest = case.part.ttl_us, case.latest
    if ttl is None or case.offline is not None or not latest:
        return None
    age = case.at - latest[-1].ts
    held = case.at_held() or latest
    if age <= ttl or not any(case.holds(row, case.online) for row in held):
        return None
    return Cause("ttl", (f"the row is {_span(age)} old, and the ttl is {_span(ttl)}",))


def _ahead(case: Case) -> Cause | None:
    if case.held is None or case.held <= case.at or not case.at_held():
        return None
    return Cause("future row", (f"online has the row of {_when(case.held)}",))


def _same_instant(case: Case) -> Cause | None:
    """Both paths took a row of one instant, and not the same one."""
    latest = case.latest
    if not latest or (case.held is not None and not is_at(latest[-1].ts, case.held)):
        return None
    if case.held is None and len(latest) == 1:
        return None
    mine = [row for row in latest if case.holds(row, case.online)]
    theirs = [row for row in latest if case.holds(row, case.offline)]
    if not mine:
        if case.held is None or not theirs or not case.is_stored():
            return None
        return Cause("source changed", (f"no row of {_when(latest[-1].ts)} has the online value",))
    if len(latest) == 1 or not theirs:
        return None
    best = max(row.created or 0 for row in latest)
    if all((row.created or 0) < best for row in mine):
        times = f"{_when(mine[-1].created)} and {_when(best)}"
        return Cause("correction lost", (f"the rows were created at {times}",))
    if all((row.created or 0) == best for row in theirs):
        return Cause("tie", (f"{len(latest)} rows happened at {_when(latest[-1].ts)}",))
    return None


def _behind(case: Case) -> Cause | None:
    """Online has an older row than offline, or none at all."""
    latest = case.latest
    if not latest or not any(case.holds(row, case.offline) for row in latest):
        return None
    if case.held is None and case.online is not None:
        return None
    ts = latest[-1].ts
    if case.held is not None and (case.held >= ts or is_at(ts, case.held)):
        return None
    covering = [n for n, (start, end) in enumerate(case.part.intervals) if start <= ts <= end]
    row = f"the row of {_when(ts)}"
    if not covering:
        after = case.part.filled_us is None or ts > case.part.filled_us
        known = [f"{_when(start)} to {_when(end)}" for start, end in case.part.intervals[-3:]]
        told = f"{row} is outside of what was materialised: {', '.join(known) or 'nothing'}"
        return Cause(LAG if after else "not materialised", (told,))
    if case.held is None:
        return Cause("row not online", (f"{row} lies in an interval that was materialised",))
    if not any(case.holds(one, case.online) for one in case.at_held()):
        return None
    said = f"{row} lies in an interval that was materialised, and online has that of "
    later = case.part.intervals[covering[-1] + 1 :]
    older = any(start <= case.held <= end < ts for start, end in later)
    return Cause("older run" if older else "late row", (said + _when(case.held),))


def _elsewhere(case: Case) -> Cause | None:
    """Online has a row that the source does not have."""
    if case.held is None or case.held > case.at or case.at_held() or not case.is_stored():
        return None
    return Cause("written online", (f"online has a row of {_when(case.held)}",))


_CHECKS: tuple[Callable[[Case], Cause | None], ...] = (
    _transformation,
    _collision,
    _join_key,
    _alias,
    _ahead,
    _ttl,
    _changed_value,
    _same_instant,
    _behind,
    _elsewhere,
)


def _when(us: int | None) -> str:
    return "no instant" if us is None else instant(us).isoformat()


def _span(us: int) -> str:
    days, rest = divmod(us // 1_000_000, 86_400)
    hours, rest = divmod(rest, 3600)
    shown = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{rest // 60} min"]
    return " ".join(part for part in shown if part)
