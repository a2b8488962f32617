"""Draws small worlds for the fuzzer: rows of every source of a service, deliveries and questions.

A world is made of *cells*, each a few entities with a few events that no other cell shares, ids
included. So each cell has a history of its own, and a question about it depends on its rows alone:
a cell that fails is a small case as it stands.

A state answers from its newest arrival on (T8), so a world is played in *steps*: in each, every
cell takes delivery of some more of its arrivals, or a turn materialises what arrived up to an
instant, and then come the questions that can be asked until the cell's next arrival.
"""

from __future__ import annotations

import datetime as dt
import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from featurekit.core.arrays import array_of
from featurekit.core.periods import DAY_US, longest_us
from featurekit.core.status import NEVER
from featurekit.core.tables import Row
from featurekit.core.timezones import offset_changes, to_utc_us, zone, zone_names
from featurekit.core.types import EPOCH, MICROSECOND, Type, as_float32, instant, micros
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Join, Part, Service, Source, View
from featurekit.language.ir import Const, Lookup
from featurekit.parity.compare import bits
from featurekit.parity.edges import turns_of
from featurekit.parity.modes.fuzz import hostile
from featurekit.parity.questions import Question
from featurekit.parity.taken import plain_columns, plain_columns_of, push_order

_SECOND, _HOUR, _DAY = 1_000_000, 3_600_000_000, 86_400_000_000
_NAN, _INF = math.nan, math.inf
_FLAVOURS = ("plain", "plain", "cancelling", "wild")
_PLAIN_FLOATS = (0.0, -0.0, 0.1, 0.2, 0.3, 1.0, 12.75, -3.3, 1e-3, 2.5, 99.99, -0.1, 3.5, 1e15)
_CANCELLING = (
    1e16,
    1.0,
    -1e16,
    0.1,
    -0.0,
    1e308,
    1e-308,
    -1e308,
    5e-324,
    2.0**53,
    1.5,
    1e-17,
    _NAN,
    _INF,
)
_SINGLES = (0.0, -0.0, 1.0, 0.1, -2.5, 1e-45, 3e38, _INF, -_INF, _NAN)
_SPACES = ("", "", " ", "\t", "\u00a0", "\u2003", "\x1c", "\u200b")
_KEY_WORDS = ("", "C", "é", "ß", "İ", "K", "😀", "e\u0301", "ΑΣ", "0", "-1", "None", "'", "{0}")
_CROWD = 200
_YEARS = (1900, 1969, 1970, 2000, 2011, 2012, 2024, 2026, 2038)


@dataclass(slots=True)
class Draft:
    """The rows of each source as they are written to files, and the cell of each; the keys of each
    cell's entities, and some of none."""

    tables: dict[str, Any]
    cells: dict[str, list[int]]
    keys: list[dict[str, list[Any]]]
    unknown: dict[str, list[Any]]


@dataclass(slots=True)
class CourseStep:
    """What happens to the store: `pushes`, one after the other, or a `turn`, a materialisation of
    (after, until]; and then what is asked, `questions` with their cells."""

    turn: tuple[int, int] | None = None
    pushes: list[list[tuple[str, Row]]] = field(default_factory=list)
    questions: list[tuple[int, Question]] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """Arrivals of a cell that are delivered together: in one step, in any order."""

    first: int
    last: int
    rows: list[tuple[str, Row]]


# --- rows -----------------------------------------------------------------------------------------


class Drafts:
    """Draws the rows of worlds of one service; `sources` are those that its views read."""

    def __init__(self, service: Service, sources: Mapping[str, EventSource]) -> None:
        self.service, self.sources = service, dict(sources)
        self.constants = constants(service)
        named = [n for n in self.constants.get("str", ()) if n in zone_names()]
        self.zones = [*named, *(s.timezone for s in self.sources.values())] or ["UTC"]
        self.durations = sorted({d for v in service.fed for d in _durations(v)}) or [_HOUR]
        self.hops = sorted({f.hop_us for v in service.fed for f in v.features if f.hop_us})
        self.turns = [turn for view in service.fed for turn in turns_of(view)]
        self.dedupe: dict[str, int] = {}
        """For each source with ids, and each union of such, how long a view remembers them."""
        for view in service.fed:
            if view.dedupe_us is not None:
                for name in (*view.source_names, view.source.name):
                    self.dedupe[name] = min(view.dedupe_us, self.dedupe.get(name, view.dedupe_us))
        self.fields: dict[str, dict[str, list[str]]] = {}
        """For each source, its columns that hold join keys, and the fields of a row that they may
        meet: several where a view has roles. A view that others take from has fields of its own,
        which its key columns and those of the rows that take share."""
        self.keys: dict[str, Type] = dict(service.join_keys)
        for view in service.views:
            for field_, column in service.key_columns(view).items():
                self._hold(field_, view.source, column)
        for view in service.fed:
            for part in view.source.parts or ():
                for join in part.joins or ():
                    self._hold_joined(part, join)
        # Where a view's keys have few values, its entities cannot be kept apart.
        self.one_cell = any(all(_few(p.type) for p in view.join_keys) for view in service.fed)

    def _hold_joined(self, part: Part, join: Join) -> None:
        """Note the columns of both sides of a join, which hold one field."""
        for key, column in zip(join.view.join_keys, join.keys, strict=True):
            name = f"{join.view.name}.{key.name}"
            self.keys[name] = key.type
            self._hold(name, join.view.source, key.name)
            for source, own in plain_columns_of(part, column):
                self._note(name, source, own)

    def _hold(self, name: str, source: Source, column: str) -> None:
        for of, own in plain_columns(source, column):
            self._note(name, of, own)

    def _note(self, name: str, source: str, column: str) -> None:
        known = self.fields.setdefault(source, {}).setdefault(column, [])
        known += [name] if name not in known else []

    def draw(self, cells: int, rng: random.Random) -> Draft:
        """About four rows a cell and source."""
        flavour = rng.choice(_FLAVOURS)
        bases = self._bases(rng)
        used: set[Any] = set()
        number, most = (1, 24) if self.one_cell else (cells, 6)
        keys = [
            {
                name: [self._key(type_, used, rng) for _ in range(rng.choice((1, 1, 2)))]
                for name, type_ in self.keys.items()
            }
            for _ in range(number)
        ]
        spans = [[rng.choice(bases), self._steps(rng)] for _ in range(number)]
        tables, of_cells = {}, {}
        for name, source in self.sources.items():
            rows, owners = [], []
            pools = {n: self._pool(t, flavour, rng) for n, t in source.schema.items()}
            for cell in range(number):
                drawn = self._rows(source, pools, keys[cell], spans[cell], most, used, rng)
                if cell == 0 and number > 1 and rng.random() < 0.5:
                    drawn += self._crowd(source, drawn, flavour, rng)
                rows += drawn
                owners += [cell] * len(drawn)
            order = list(range(len(rows)))
            rng.shuffle(order)
            tables[name] = self._table(source, [rows[i] for i in order], rng)
            of_cells[name] = [owners[i] for i in order]
        unknown = {
            name: [None, *(self._key(type_, used, rng) for _ in range(5))]
            for name, type_ in self.service.join_keys.items()
        }
        return Draft(tables, of_cells, keys, unknown)

    def _rows(
        self,
        source: EventSource,
        pools: Mapping[str, list[Any]],
        keys: Mapping[str, list[Any]],
        span: Sequence[Any],
        most: int,
        used: set[Any],
        rng: random.Random,
    ) -> list[Row]:
        """A cell's rows of one source; `__ts` and `__created` are instants in microseconds."""
        n = rng.choice((0, 1, 1, 2, 3, 4, most, most, 2 * most))
        choices: dict[str, list[Any]] = {}
        fields = self.fields.get(source.name, {})
        for name, type_ in source.schema.items():
            known = [f for f in fields.get(name, ()) if self.keys[f] == type_.base]
            if known:
                of_cell = [value for field in known for value in keys[field]]
                choices[name] = of_cell * 12 + ([None] if type_.optional else [])
            elif type_.item is not None and any(
                self.keys[f] == type_.item.base for f in fields.get(name, ())
            ):
                choices[name] = _lists(type_, keys, fields[name], rng)
            elif name == source.event_id:
                choices[name] = [self._key(type_, used, rng) for _ in range(rng.randint(1, n + 1))]
            elif name == source.op:
                choices[name] = ["upsert", "upsert", "delete"]
            else:
                pool = pools[name]
                choices[name] = rng.sample(pool, min(len(pool), rng.choice((1, 2, 4, 8))))
                if type_.optional and rng.random() < 0.5:
                    choices[name].append(None)
        base, steps = span
        late = [0, 0, 0, 0, 1, -1, *(d for d in steps if d)]
        if source.event_id is not None:
            dedupe = self.dedupe[source.name]
            late += [dedupe, dedupe + 1, dedupe - 1]
        rows: list[Row] = []
        at = base
        for _ in range(n):
            if rows and rng.random() < 0.12:
                rows.append(dict(rng.choice(rows)))  # delivered twice
                if source.event_id is not None and rng.random() < 0.6:
                    rows[-1]["__created"] += rng.choice(late)
                continue
            row = {name: rng.choice(pool) for name, pool in choices.items()}
            at += rng.choice(steps) + rng.choice((0, 0, 0, 1, -1))
            ts = at
            if self.hops and rng.random() < 0.2:
                hop = rng.choice(self.hops)
                ts = at // hop * hop + rng.choice((-1, 0, 1))
            if self.turns and rng.random() < 0.2:
                ts = rng.choice(self.turns)(at) + rng.choice((-1, 0, 1))
            row["__ts"], row["__created"] = ts, ts + rng.choice(late)
            rows.append(row)
        return rows

    def _crowd(
        self, source: EventSource, rows: Sequence[Row], flavour: str, rng: random.Random
    ) -> list[Row]:
        """Many rows like one of `rows`, no two of one value: for what shows in crowds only, such as
        sketches, and limbs of sums."""
        keys = {*self.fields.get(source.name, ()), source.event_id, source.op}
        found: list[Row] = []
        for _ in range(_CROWD if rows else 0):
            row = dict(rows[0])
            for name, type_ in source.schema.items():
                if name not in keys:
                    row[name] = self._value(type_, flavour, rng)
                    if type_.name == "str" and type_.choices is None:
                        row[name] += str(len(found))
            row["__ts"] += rng.randint(0, 10) * _SECOND
            row["__created"] = max(row["__created"], row["__ts"])
            found.append(row)
        return found

    def _table(self, source: EventSource, rows: Sequence[Row], rng: random.Random) -> Any:
        """The rows as a file has them: instants naive in the source's zone, or in some zone."""
        import pyarrow as pa

        columns: dict[str, Any] = {}
        instants = {source.timestamp_field: "__ts"}
        if source.created_timestamp_column is not None:
            instants.setdefault(source.created_timestamp_column, "__created")
        for name, type_ in source.schema.items():
            if name not in instants:
                columns[name] = array_of([row[name] for row in rows], type_.arrow)
        for name, of in instants.items():
            zoned = rng.choice((None, None, "UTC", "Asia/Kolkata", source.timezone))
            values = [instant(row[of]) for row in rows]
            if zoned is None:
                local = zone(source.timezone)
                values = [value.astimezone(local).replace(tzinfo=None) for value in values]
                # Local times that a clock change leaves out are read, too (T1).
                values = [
                    v + dt.timedelta(minutes=30) if rng.random() < 0.05 else v for v in values
                ]
                columns[name] = pa.array(values, pa.timestamp("us"))
            else:
                columns[name] = pa.array(values, pa.timestamp("us", tz=zoned))
        return pa.table(columns)

    def _steps(self, rng: random.Random) -> list[int]:
        """How far apart a cell's events lie: mostly ties and short, and lengths of windows."""
        some = rng.sample(self.durations, min(len(self.durations), 3))
        return [0, 0, 1, _SECOND, _HOUR, *some, rng.randint(0, max(self.durations))]

    def _bases(self, rng: random.Random) -> list[int]:
        """Where the histories of a world begin: clock changes, ends of years, round instants."""
        found = []
        for _ in range(3):
            year = rng.choice(_YEARS)
            start = micros(dt.datetime(year, 1, 1))
            zones = [s.timezone for s in self.sources.values()] or ["UTC"]
            low, high = dt.datetime(year, 1, 2), dt.datetime(year, 12, 30)
            named = rng.choice((rng.choice(zones), rng.choice(self.zones)))
            changes = [to_utc_us(at, named) for at, _ in offset_changes(named, low, high)]
            choices = [start, start - rng.randint(0, _DAY), start + rng.randint(0, 365 * _DAY)]
            choices += [
                at + rng.choice((0, _HOUR, -_HOUR, -_HOUR // 2, -_DAY)) for at in changes
            ] * 2
            found.append(rng.choice(choices))
        return found

    def _key(self, type_: Type, used: set[Any], rng: random.Random) -> Any:
        """A key that no other cell has, where the type has so many."""
        for _ in range(50):
            made = self._some_key(type_, len(used), rng)
            if (type_, made) not in used:
                break
        used.add((type_, made))
        return made

    def _some_key(self, type_: Type, n: int, rng: random.Random) -> Any:
        if type_.choices is not None:
            return rng.choice(type_.choices)
        match type_.name:
            case "bool":
                return rng.random() < 0.5
            case "int":
                return rng.choice((n, n, -n, 2**53 + n, 2**63 - 1 - n, -(2**63) + n))
            case "str" | "bytes":
                of = self.constants.get("str") or ["C5"]
                text = rng.choice((rng.choice(of), rng.choice(_KEY_WORDS)))
                text = rng.choice(_SPACES) + text + rng.choice((rng.choice(_SPACES), str(n)))
                return text if type_.name == "str" else text.encode() + b"\xff"
            case "date":
                return dt.date.fromordinal(rng.randint(1, dt.date.max.toordinal()))
            case _:
                return EPOCH + rng.randint(-(2**55), 2**56) * MICROSECOND

    def argument(self, type_: Type, rng: random.Random) -> Any:
        """A value for a parameter of a transform."""
        if type_.optional and rng.random() < 0.2:
            return None
        if type_.name == "dict":
            assert type_.item is not None
            keys = [self._value(type_.item, "plain", rng) for _ in range(rng.choice((0, 1, 2)))]
            if type_.value is not None:
                return {key: self._value(type_.value, "plain", rng) for key in keys}
            return {key: rng.randint(1, 9) for key in keys}
        return self._value(type_.base, rng.choice(_FLAVOURS), rng)

    def _pool(self, type_: Type, flavour: str, rng: random.Random) -> list[Any]:
        """Values of a column: many for a world, of which a cell has few."""
        return [self._value(type_, flavour, rng) for _ in range(40)]

    def _value(self, type_: Type, flavour: str, rng: random.Random) -> Any:
        if type_.choices is not None:
            return rng.choice(type_.choices)
        if type_.size is not None:
            return [as_float32(rng.choice(_SINGLES)) for _ in range(type_.size)]
        if type_.item is not None:
            made = [self._value(type_.item, flavour, rng) for _ in range(rng.choice((0, 1, 2, 3)))]
            return [None if type_.item.optional and rng.random() < 0.2 else v for v in made]
        near = self.constants.get(type_.name)
        if near and rng.random() < 0.35:
            value = rng.choice(near)
            if type_.name == "str":
                value = rng.choice((value, value, value.lower(), value.upper()))
                return rng.choice(_SPACES) + value + rng.choice(("", "", *_SPACES, "536379"))
            return hostile.mutated(value, rng)
        if type_.name == "float" and flavour != "wild":
            if flavour == "cancelling" and rng.random() < 0.7:
                return rng.choice(_CANCELLING)
            return rng.choice((rng.choice(_PLAIN_FLOATS), round(rng.uniform(-50, 500), 2)))
        if type_.name == "int" and flavour != "wild":
            return rng.choice((0, 1, -1, 2, 3, 7, rng.randint(-100, 1000)))
        return hostile.value(type_.base, rng)


def _lists(
    type_: Type, keys: Mapping[str, list[Any]], fields: Sequence[str], rng: random.Random
) -> list[Any]:
    """Lists of a cell's keys, for a column each of whose elements is an event of an entity."""
    assert type_.item is not None
    of_cell = [value for field in fields for value in keys[field]] * 3
    of_cell += [None] if type_.item.optional else []
    made: list[Any] = [[rng.choice(of_cell) for _ in range(n)] for n in (0, 1, 1, 2, 2, 3, 4)]
    return made + ([None] if type_.optional else [])


def _few(type_: Type) -> bool:
    return type_.name == "bool" or type_.choices is not None


def _durations(view: View) -> Iterator[int]:
    yield _HOUR
    for feature in view.features:
        if feature.aggregate is not None:
            yield from (feature.offset_us, feature.hop_us)
            if feature.frame is not None and feature.frame.session_us is not None:
                yield from (feature.frame.session_us, feature.frame.session_us + 1)
            if feature.frame is not None and feature.frame.calendar is not None:
                yield from (DAY_US, longest_us(feature.frame.calendar, 1))
            elif not feature.lifetime:
                yield from (feature.window_us, feature.window_us + feature.offset_us)
    yield from (view.ttl_us or 0, view.dedupe_us or 0, view.history_us)


def constants(service: Service) -> dict[str, list[Any]]:
    """The literals of a service's transforms, by the name of their type: values near which a
    function goes another way."""
    found: dict[str, dict[Any, Any]] = {}

    def note(value: Any, type_: Type) -> None:
        if value is not None and type_.item is None:
            found.setdefault(type_.name, {})[bits(value)] = value

    def visit(node: Any) -> None:
        match node:
            case Const(value, type_):
                note(value, type_)
            case Lookup(key, table):
                for value, _ in table[:40]:
                    note(value, key.type)
        if isinstance(node, tuple):
            for part in node:
                visit(part)
        elif is_dataclass(node):
            for one in fields(node):
                visit(getattr(node, one.name))

    for view in service.fed:
        visit(view.functions)
    visit(tuple(t.function for t in service.transforms))
    return {name: list(values.values()) for name, values in found.items()}


# --- deliveries and questions ---------------------------------------------------------------------


class Course:
    """The steps in which a world is played, and about `questions` questions about it.

    `rows` holds each source's rows as they were read, with their places in the draft.
    """

    def __init__(
        self,
        drafts: Drafts,
        draft: Draft,
        rows: Mapping[str, Sequence[tuple[int, Row]]],
        *,
        questions: int,
        turns: int,
        rng: random.Random,
    ) -> None:
        self.drafts, self.draft, self.rng = drafts, draft, rng
        self.service = drafts.service
        self.cells: list[list[tuple[str, Row]]] = [[] for _ in draft.keys]
        for name, of_source in rows.items():
            for place, row in of_source:
                self.cells[draft.cells[name][place]].append((name, row))
        self.places = push_order(self.service)
        self.history = min((v.history_us for v in self.service.views), default=0)
        self.turns = self._turns(turns)
        self.steps: list[CourseStep] = []
        self._edges = {v.name: _edges(v) for v in self.service.views}
        self._turns_of = {v.name: turns_of(v) for v in self.service.views}
        self._columns = {v.title: self.service.key_columns(v) for v in self.service.views}
        self._requests = {
            p.name: [drafts._value(p.type, rng.choice(_FLAVOURS), rng) for _ in range(100)]
            + ([None] * 10 if p.type.optional else [])
            for p in self.service.request
        }
        self._play(questions)

    def _turns(self, number: int) -> list[int]:
        arrivals = [row["__created"] for cell in self.cells for _, row in cell]
        if not arrivals:
            return []
        return sorted({self.rng.choice(arrivals) for _ in range(number)})

    def _play(self, questions: int) -> None:
        rng = self.rng
        bounds = [NEVER, *self.turns, 2**63 - 1]
        grouped = [self._groups(cell) for cell in self.cells]
        # A crowd is asked about no more than others are: its answers take long.
        weights = [min(len(c), 20) + 1 for c in self.cells]
        # Where each cell is asked: for each of its groups, and before the first, a step.
        asked: list[list[CourseStep | None]] = [[None] * (len(g) + 1) for g in grouped]
        done = [0] * len(grouped)
        before = CourseStep()
        self.steps.append(before)
        for at in asked:
            at[0] = before
        for phase, until in enumerate(bounds[1:]):
            last = phase == len(self.turns)
            # Of some cells pushes are lost: only a materialisation brings them.
            lost = [not last and rng.random() < 0.3 for _ in grouped]
            steps: list[CourseStep] = []
            for c, groups in enumerate(grouped):
                step = 0
                while done[c] < len(groups) and groups[done[c]].first <= until:
                    if not lost[c]:
                        if step == len(steps):
                            steps.append(CourseStep(pushes=[[], [], []]))
                        self._deliver(steps[step], groups[done[c]])
                        asked[c][done[c] + 1] = steps[step]
                    step += 1
                    done[c] += 1
            self.steps += steps
            if not last:
                after = NEVER if phase == 0 or rng.random() < 0.3 else bounds[phase]
                turn = CourseStep(turn=(after, until))
                self.steps.append(turn)
                for c in range(len(grouped)):
                    if lost[c] or rng.random() < 0.6:
                        asked[c][done[c]] = turn
        for c, groups in enumerate(grouped):
            share = questions * weights[c] / sum(weights)
            n = int(share) + (rng.random() < share % 1)
            self._ask(c, groups, asked[c], n)

    def _groups(self, cell: list[tuple[str, Row]]) -> list[_Group]:
        """The cell's rows by arrival; some neighbours are delivered together, in any order."""
        rng = self.rng
        ordered = sorted(cell, key=lambda one: one[1]["__created"])
        whole = rng.random() < 0.1 or len(cell) > _CROWD // 2
        groups: list[_Group] = []
        reach = min((self.drafts.dedupe[n] // 2 for n, _ in cell if n in self.drafts.dedupe),
                    default=2**62)  # fmt: skip
        for one in ordered:
            at = one[1]["__created"]
            last = groups[-1] if groups else None
            if last is not None and (
                at == last.last
                or (
                    (whole or rng.random() < 0.2)
                    and not any(last.first <= turn < at for turn in self.turns)
                    and at - last.first <= reach
                )
            ):
                last.rows.append(one)
                last.last = at
            else:
                groups.append(_Group(at, at, [one]))
        return groups

    def _deliver(self, step: CourseStep, group: _Group) -> None:
        """The group's rows in random order, in up to three pushes; of a source with ids some rows
        come again. What others may take something from comes before these (T11)."""
        rng = self.rng
        rng.shuffle(group.rows)
        parts: Iterable[int] = (rng.randrange(3) for _ in group.rows)
        if any(self.places.values()):
            group.rows.sort(key=lambda one: self.places[one[0]])
            parts = sorted(parts)
        for part, one in zip(parts, group.rows, strict=True):
            step.pushes[part].append(one)
            if one[0] in self.drafts.dedupe and rng.random() < 0.3:
                step.pushes[rng.randint(part, 2)].append(one)

    def _ask(
        self, c: int, groups: list[_Group], asked: Sequence[CourseStep | None], n: int
    ) -> None:
        rng, cell = self.rng, self.cells[c]
        firsts = [g.first for g in groups]
        keys = {name: self.draft.keys[c][name] for name in self.service.join_keys}
        views = self.service.views
        by_source: dict[str, list[Row]] = {}
        for name, row in cell:
            by_source.setdefault(name, []).append(row)
        near = [(v, by_source[v.source.name]) for v in views if v.source.name in by_source]
        spread = max(self.drafts.durations)
        low = min((row["__ts"] for _, row in cell), default=0)
        high = max((max(row["__ts"], row["__created"]) for _, row in cell), default=0)
        for _ in range(n):
            for _attempt in range(6):
                about: Row = {}
                columns: Mapping[str, str] = {}
                draw = rng.random()
                if near:
                    view, rows = near[int(rng.random() * len(near))]
                    about = rows[int(rng.random() * len(rows))]
                    columns = self._columns[view.title]
                    if draw < 0.1:
                        at = int(low + rng.random() * (high - low + spread))
                    elif draw < 0.25:
                        at = about["__created"] + int(rng.random() * 3) - 1
                    elif draw < 0.35:
                        # Soon after the newest arrival, when what it changed is first seen.
                        at = groups[int(rng.random() * len(groups))].last
                    else:
                        at = self._at_an_edge(view, about["__ts"], draw)
                else:
                    at = int(rng.random() * 2**50)
                g = bisect_right(firsts, at)
                step = asked[g]
                if step is not None and (g == 0 or at >= groups[g - 1].last - self.history):
                    break
            else:
                continue
            asking: Row = {}
            for name, values in keys.items():
                value = about.get(columns.get(name, ""))
                if isinstance(value, list):  # of a view of which each element is an event
                    value = rng.choice(value) if value else None
                draw = rng.random()
                if value is None or draw < 0.1:
                    value = values[int(rng.random() * len(values))]
                if draw > 0.98:
                    value = rng.choice(self.draft.unknown[name])
                asking[name] = value
            for name, values in self._requests.items():
                asking[name] = values[int(rng.random() * len(values))]
            step.questions.append((c, Question(asking, at)))

    def _at_an_edge(self, view: View, ts: int, draw: float) -> int:
        """An instant as of which an event at `ts` may begin or cease to count, or beside it; `draw`
        lies between 0.35 and 1."""
        rng, (offsets, hopped) = self.rng, self._edges[view.name]
        turns = self._turns_of[view.name]
        if turns and draw < 0.5:
            at = turns[int(rng.random() * len(turns))](ts)
        elif hopped and draw < 0.55:
            offset, hop = hopped[int(rng.random() * len(hopped))]
            at = -(-ts // hop) * hop + offset
        else:
            at = ts + offsets[int(rng.random() * len(offsets))]
        return at + int(rng.random() * 3) - 1

    def before(self, step: int, cell: int) -> tuple[list[tuple[str, Row]], int]:
        """The rows of a cell that the store had after a step, in the order of their delivery, and
        the instant up to whose arrivals they came by a materialisation."""
        own = {id(row) for _, row in self.cells[cell]}
        found: list[tuple[str, Row]] = []
        until = NEVER
        for one in self.steps[: step + 1]:
            found += [d for push in one.pushes for d in push if id(d[1]) in own]
            if one.turn is not None:
                until = one.turn[1]
                known = {id(row) for _, row in found}
                lost = [d for d in self.cells[cell] if id(d[1]) not in known]
                found += [d for d in lost if d[1]["__created"] <= until]
        return found, until


def _edges(view: View) -> tuple[list[int], list[tuple[int, int]]]:
    """How long after an event a value may change, and the same with the hop to whose multiple the
    event's instant is taken up first (T4, T5)."""
    offsets, hopped = {0}, set()
    for feature in view.features:
        if feature.aggregate is None:
            continue
        offsets |= {feature.offset_us, feature.nearest_us}
        if feature.frame is not None and feature.frame.session_us is not None:
            offsets.add(feature.offset_us + feature.frame.session_us)
        if not feature.lifetime and feature.steady:
            leaves = feature.offset_us + feature.window_us
            offsets.add(leaves)
            if feature.hop_us:
                hopped.add((leaves, feature.hop_us))
    if view.ttl_us is not None:
        offsets.add(view.ttl_us)
    return sorted(offsets), sorted(hopped)
