"""Makes a failing scenario small: the fewest deliveries and the simplest values that still fail.

Every step is tried on both paths and kept only where the same feature still differs. The steps and
their order are fixed, so that the same scenario shrinks to the same one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.status import NEVER
from featurekit.core.types import EPOCH, INSTANT_MAX, INSTANT_MIN, MICROSECOND, Type
from featurekit.define.union import instants_of, taken_columns
from featurekit.parity.bench import Bench, Opinions
from featurekit.parity.compare import Stated, bits, parts
from featurekit.parity.scenario import Delivery, Scenario, narrow, partners

MOST_TRIES = 300
MOST_SECONDS = 60.0
_SECOND, _DAY = 1_000_000, 86_400_000_000


@dataclass(slots=True)
class Shrunk:
    """A scenario that fails, what it says of the feature, and what it took to find it."""

    scenario: Scenario
    offline: Stated
    online: Stated
    tries: int = 0


def shrink(
    bench: Bench,
    scenario: Scenario,
    feature: str,
    *,
    tries: int = MOST_TRIES,
    seconds: float = MOST_SECONDS,
) -> Shrunk | None:
    """The smallest scenario found in which `feature` differs in the same way; None where the given
    one does not differ. At most `tries` evaluations, and no new one after `seconds`."""
    shrinker = _Shrinker(bench, feature, tries, time.monotonic() + seconds)
    return shrinker.run(scenario)


class _Shrinker:
    def __init__(self, bench: Bench, feature: str, tries: int, deadline: float) -> None:
        self.bench, self.feature = bench, feature
        self.most, self.deadline, self.tries = tries, deadline, 0
        self.best: Scenario
        self.found: Opinions = {}
        self.kind: tuple[Any, ...] = ()
        self.failed: set[str] = set()  # what was tried in vain, and is met again in each round

    def run(self, scenario: Scenario) -> Shrunk | None:
        answers = self.bench.both(scenario)
        if not parts(*answers[self.feature]):
            return None
        self.best, self.found = scenario, answers
        self.kind = _kind(*answers[self.feature])
        self.attempt(narrow(scenario, self.feature))
        self.attempt(replace(self.best, filled_until=NEVER))
        self.attempt(replace(self.best, files=None))
        self.attempt(replace(self.best, served=None))
        self.failed.clear()  # from here on all tries are of one service
        for _ in range(3):
            before = self.best
            self.fewer()
            self.simpler_question()
            self.simpler_rows()
            self.simpler_times()
            if self.best is before:
                break
        return Shrunk(self.best, *self.found[self.feature], self.tries)

    @property
    def spent(self) -> bool:
        return self.tries >= self.most or time.monotonic() > self.deadline

    def attempt(self, scenario: Scenario) -> bool:
        """Take the scenario if it fails in the same way."""
        if self.spent or scenario == self.best:
            return False
        told = _told(scenario)
        if told in self.failed:
            return False
        self.tries += 1
        self.failed.add(told)
        answers = self.bench.both(scenario)
        pair = answers.get(self.feature)
        if pair is None or not parts(*pair) or _kind(*pair) != self.kind:
            return False
        self.failed.discard(told)
        self.best, self.found = scenario, answers
        return True

    def fewer(self) -> None:
        """Remove deliveries: halves, then quarters, … then one by one (delta debugging)."""
        size = max(1, len(self.best.deliveries) // 2)
        while True:
            at, removed = 0, False
            while at < len(self.best.deliveries):
                if self.attempt(without(self.best, range(at, at + size))):
                    removed = True
                else:
                    at += size
            if size > 1:
                size = max(1, size // 2)
            elif not removed or self.spent:
                break
        for i in reversed(of_no_delivery(self.best)):
            files = self.best.files or ()
            self.attempt(replace(self.best, files=(*files[:i], *files[i + 1 :])))

    def simpler_question(self) -> None:
        """Simplify keys (with the rows that have them) and request fields."""
        keys = self.best.service.join_keys
        for name, type_ in keys.items():
            old = self.best.row[name]
            for new in simpler(old, type_):
                if new is not None and self.attempt(renamed(self.best, name, old, new)):
                    break
        for param in self.best.service.request:
            for new in simpler(self.best.row[param.name], param.type):
                if self.attempt(replace(self.best, row=self.best.row | {param.name: new})):
                    break

    def simpler_rows(self) -> None:
        """Simplify the values of the rows, first of a column as a whole."""
        views = self.best.service.fed
        keys = {*self.best.service.join_keys}
        keys |= {p.name for v in views for p in v.join_keys}
        keys |= {column for v in views for join in v.source.joins for column in join.keys}
        columns = {
            (v.source.name, p.name): p.type
            for v in views
            for p in v.source.schema
            if p.name not in {*keys, v.source.op, v.source.event_id, *taken_columns(v.source)}
            and not p.name.startswith("__")  # a union's are made of the others
        }
        for (source, name), type_ in columns.items():
            rows = [i for i, d in enumerate(self.best.deliveries) if d.source == source]
            for new in _simplest(type_):
                if self.attempt(changed(self.best, rows, name, _always(new))):
                    break
            for i in rows:
                if self.spent:
                    return
                for new in simpler(self.best.deliveries[i].row[name], type_):
                    if self.attempt(changed(self.best, [i], name, _always(new))):
                        break

    def simpler_times(self) -> None:
        """Move everything to the epoch, arrivals to their events, and events to round instants."""
        best = self.best
        starts = [d.row["__ts"] for d in best.deliveries] or [best.at]
        for step in (best.at, min(starts)):
            day = step // _DAY * _DAY
            if self.attempt(shifted(best, -day if day else 0)):
                break
        every = range(len(self.best.deliveries))
        self.attempt(changed(self.best, list(every), "__created", lambda r: r["__ts"]))
        for i in every:
            if self.best.deliveries[i].row["__created"] != self.best.deliveries[i].row["__ts"]:
                self.attempt(changed(self.best, [i], "__created", lambda r: r["__ts"]))
        for i in every:
            for unit in (_DAY, 3600 * _SECOND, 60 * _SECOND, _SECOND):
                if self.spent:
                    return
                row = self.best.deliveries[i].row
                rounded = row["__ts"] // unit * unit
                by = rounded - row["__ts"]
                if by and self.attempt(moved(self.best, i, by)):
                    break


def without(scenario: Scenario, numbers: range | list[int]) -> Scenario:
    """The scenario without some deliveries, and without the rows of files that only they are."""
    gone = {*numbers}
    kept = tuple(d for i, d in enumerate(scenario.deliveries) if i not in gone)
    files = scenario.files
    if files is not None:
        of_files = partners(scenario)
        left = {p for i, p in enumerate(of_files) if i not in gone}
        lost = {p for i, p in enumerate(of_files) if i in gone} - left
        files = tuple(d for i, d in enumerate(files) if i not in lost)
    return replace(scenario, deliveries=kept, files=files)


def of_no_delivery(scenario: Scenario) -> list[int]:
    """The numbers of the files' rows that no delivery is."""
    return sorted(set(range(len(scenario.files or ()))) - {*partners(scenario)})


def renamed(scenario: Scenario, name: str, old: Any, new: Any) -> Scenario:
    """The scenario with one value of a key in the place of another, wherever it stands."""

    columns: dict[str, set[str]] = {}
    for view in scenario.service.views:
        own = columns.setdefault(view.source.name, {name})
        named = zip(view.row_keys, view.join_keys, strict=True)
        own |= {key.name for field, key in named if field.name == name}

    def one(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
        return row | {n: new for n in names if n in row and bits(row[n]) == bits(old)}

    every = _every(scenario, lambda d: one(d.row, columns.get(d.source, {name})))
    return replace(every, row=one(scenario.row, {name}))


def changed(
    scenario: Scenario, numbers: list[int], name: str, value: Callable[[dict[str, Any]], Any]
) -> Scenario:
    """The scenario with a column of some deliveries, and of the files' rows that they are, changed;
    `value` takes the row. Rows that have no such column stay, and so does what the two readings
    part in: it is what fails."""
    return _edited(scenario, numbers, lambda row: {name: value(row)} if name in row else {})


def moved(scenario: Scenario, number: int, by: int) -> Scenario:
    """The scenario with one event, and its arrival, earlier or later by so many microseconds."""
    deliveries, files = list(scenario.deliveries), scenario.files
    partner = partners(scenario)[number]

    def one(delivery: Delivery) -> Delivery:
        times = {n: _clamped(delivery.row[n] + by) for n in ("__ts", "__created")}
        return replace(delivery, row=arrived(scenario, delivery, delivery.row | times))

    deliveries[number] = one(deliveries[number])
    if files is not None and partner is not None:
        files = (*files[:partner], one(files[partner]), *files[partner + 1 :])
    return replace(scenario, deliveries=tuple(deliveries), files=files)


def _edited(
    scenario: Scenario, numbers: list[int], edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> Scenario:
    deliveries = list(scenario.deliveries)
    files = None if scenario.files is None else list(scenario.files)
    of_files = partners(scenario)
    for i in numbers:
        delivery, partner = deliveries[i], of_files[i]
        new = edit(delivery.row)
        if files is not None and partner is not None:
            row = files[partner].row
            if any(bits(row.get(n)) != bits(delivery.row[n]) for n in new):
                continue
            files[partner] = replace(files[partner], row=arrived(scenario, delivery, row | new))
        deliveries[i] = replace(delivery, row=arrived(scenario, delivery, delivery.row | new))
    return replace(
        scenario, deliveries=tuple(deliveries), files=None if files is None else tuple(files)
    )


def shifted(scenario: Scenario, by: int) -> Scenario:
    """The scenario, all of it earlier or later by so many microseconds."""

    def one(delivery: Delivery) -> dict[str, Any]:
        row = delivery.row
        times = {n: _clamped(row[n] + by) for n in ("__ts", "__created")}
        return arrived(scenario, delivery, row | times)

    filled = scenario.filled_until
    return replace(
        _every(scenario, one),
        at=_clamped(scenario.at + by),
        filled_until=filled if filled == NEVER else filled + by,
    )


def arrived(scenario: Scenario, delivery: Delivery, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its source's own columns of instants, where the schema has them, in step."""
    for view in scenario.service.fed:
        if view.source.name == delivery.source:
            for name, of in instants_of(view.source, row).items():
                row = row | {name: EPOCH + row[of] * MICROSECOND}
    return row


def _every(scenario: Scenario, row: Callable[[Delivery], dict[str, Any]]) -> Scenario:
    def changed_rows(deliveries: tuple[Delivery, ...]) -> tuple[Delivery, ...]:
        return tuple(replace(d, row=row(d)) for d in deliveries)

    files = scenario.files
    return replace(
        scenario,
        deliveries=changed_rows(scenario.deliveries),
        files=None if files is None else changed_rows(files),
    )


def _always(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda row: value


def _clamped(us: int) -> int:
    return min(max(us, INSTANT_MIN), INSTANT_MAX)


def _kind(offline: Stated, online: Stated) -> tuple[Any, ...]:
    """What a smaller scenario has to keep: which sides have a value, their statuses and types, so
    that one failure does not turn into another on the way."""
    return tuple((s, type(v).__name__, v != v) for v, s in (offline, online))


def _told(scenario: Scenario) -> str:
    """All that tells scenarios of one service apart, to the bit."""
    rows = scenario.deliveries, scenario.files, scenario.row
    return repr((*rows, scenario.at, scenario.filled_until))


def simpler(value: Any, type_: Type) -> Iterator[Any]:
    """Values of the type that are simpler than `value`, the simplest first."""
    for one in _simplest(type_):
        if bits(one) == bits(value):
            return
        yield one
    match value:
        case bool():
            return
        case int():
            yield from _ints(value)
        case float() if value == value and abs(value) != float("inf"):
            for digits in (0, 1, 2, 3):
                if float(f"{value:.{digits}f}") != value and abs(value) < 1e15:
                    yield float(f"{value:.{digits}f}")
            yield float(f"{value:.2g}")
        case str() | bytes() if len(value) > 1:
            for i in range(min(len(value), 12)):
                yield value[i : i + 1]
            yield value[: len(value) // 2]
            yield value[len(value) // 2 :]
        case list() if value and type_.size is None:
            for i in range(min(len(value), 12)):
                yield value[i : i + 1]
            yield value[: len(value) // 2]
            yield value[len(value) // 2 :]


def _ints(value: int) -> Iterator[int]:
    for bit in (10, 100, 1000):
        if abs(value) > bit:
            yield bit if value > 0 else -bit


def _simplest(type_: Type) -> list[Any]:
    """The simplest values of a type, in order."""
    found: list[Any] = [None] if type_.optional else []
    if type_.choices is not None:
        return [*found, *type_.choices]
    plain: dict[str, list[Any]] = {
        "int": [0, 1, 2],
        "float": [0.0, 1.0, 2.0],
        "bool": [False],
        "str": ["", "a"],
        "bytes": [b"", b"a"],
        "datetime": [EPOCH],
        "date": [dt.date(1970, 1, 1)],
        "timedelta": [dt.timedelta(0), dt.timedelta(seconds=1)],
        "list": [[0.0] * type_.size] if type_.size is not None else [[]],
    }
    return found + plain[type_.name]
