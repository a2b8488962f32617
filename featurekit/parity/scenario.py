"""Asks both paths one question about a few events: a parity failure as a value of its own.

Offline answers from a scratch DuckDB, by the SQL that makes training sets; online from a store in
memory, by the code that takes pushes and answers lookups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.kept import Kept
from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.types import INSTANT_MAX, INSTANT_MIN, Type
from featurekit.define import published
from featurekit.define.plan import Service, View
from featurekit.feed import events as events_module
from featurekit.feed import materialise, settle
from featurekit.offline.events import EventRows, Snapshot
from featurekit.offline.session import prepare
from featurekit.offline.training_set import TrainingSet
from featurekit.online.lookup import evaluator
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore
from featurekit.parity.bits import bits

Stated = tuple[Any, str]
"""A value and its status."""

Answers = dict[str, tuple[Stated, Stated]]
"""For each output, by its full name, what offline and what online says."""

PROJECT = "scenario"
_DAY, _LONG = 86_400_000_000, 100 * 366 * 86_400_000_000
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of a source, as a push reads it: the schema's columns, `__ts` and `__created` in
    microseconds."""

    source: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Events in the order in which they were pushed, and one question about them.

    `row` holds the join keys and the request fields, `at` the instant in microseconds. What had
    arrived by `filled_until` comes online by a materialisation, the rest by pushes. `files` are the
    rows as they were read offline, where that is not what a push reads. `served` is the version
    that answers online, where it is another.
    """

    service: Service
    deliveries: tuple[Delivery, ...]
    row: dict[str, Any]
    at: int
    filled_until: int = NEVER
    files: tuple[Delivery, ...] | None = None
    served: Service | None = None

    @property
    def online(self) -> Service:
        """The version that answers online."""
        return self.served or self.service


def both(scenario: Scenario) -> Answers:
    """What each path says of every output, by its full name: (offline, online), each a value and
    its status. An exception of a path is its status, with no value."""
    with bench() as opened:
        return opened.both(scenario)


def differing(answers: Answers) -> list[str]:
    """The outputs on which the paths do not agree in type, bits and status."""
    return [n for n, (one, other) in answers.items() if parts(one, other)]


def parts(one: Stated, other: Stated) -> bool:
    """Whether two opinions of one value differ."""
    return one[1] != other[1] or bits(one[0]) != bits(other[0])


@contextmanager
def bench() -> Iterator[Bench]:
    """A `Bench` that is closed in the end."""
    opened = Bench()
    try:
        yield opened
    finally:
        opened.close()


class Bench:
    """One scratch DuckDB, for many scenarios one after the other."""

    def __init__(self) -> None:
        import duckdb

        self.con = duckdb.connect(config={"threads": 1})
        prepare(self.con)
        self.plan = Kept(_through_bytes)

    def close(self) -> None:
        """Let go of the database."""
        self.con.close()

    def both(self, scenario: Scenario) -> Answers:
        """See `both`."""
        offline, online = self.offline(scenario), self.online(scenario)
        names = [o.full_name for o in scenario.service.outputs]
        absent: Stated = None, "NO_SUCH_FEATURE"
        return {n: (offline[n], online.get(n, absent)) for n in names}

    # --- offline ----------------------------------------------------------------------------------

    def offline(self, scenario: Scenario) -> dict[str, Stated]:
        """Each output by the point-in-time join, as `get_historical_features` has it."""
        service = scenario.service
        with self.tables(scenario) as events:
            made = TrainingSet(
                service,
                self.frame(scenario),
                connect=lambda: _Lent(self.con),
                snapshot=lambda con, view: Snapshot(events[view.source.name], {}),
                full_names=True,
                statuses=True,
                timezone="UTC",
                buckets=1,
            )
            try:
                table = made.to_arrow()
            except Exception as error:
                return {o.full_name: (None, shown_error(error)) for o in service.outputs}
        names = made.names
        table = table.select([c for n in names for c in (n, f"{n}__status")])
        values = [column.to_pylist(maps_as_pydicts="strict")[0] for column in table.columns]
        return dict(zip(names, zip(values[::2], values[1::2], strict=True), strict=True))

    def frame(self, scenario: Scenario) -> Any:
        """The question as an entity frame, and behind it the same long before and after: what a
        join reads for many labels is more than it reads for one."""
        import pyarrow as pa

        service = scenario.service
        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        instants = [scenario.at]
        if all(v.on_error != "fail" for v in service.views):
            reach = max([_DAY, *(v.retain_us for v in service.views if v.retain_us < _LONG)])
            last = max([scenario.at, *(d.row["__created"] for d in scenario.deliveries)])
            instants += [max(scenario.at - reach, INSTANT_MIN), min(last + reach, INSTANT_MAX)]
        columns = {
            n: pa.array([scenario.row[n]] * len(instants), type=t.arrow) for n, t in types.items()
        }
        columns["event_timestamp"] = pa.array(instants, type=pa.timestamp("us", tz="UTC"))
        return pa.table(columns)

    @contextmanager
    def tables(self, scenario: Scenario) -> Iterator[dict[str, EventRows]]:
        """The rows of each source as a table, as reading its files gives them."""
        rows = by_source(scenario.deliveries if scenario.files is None else scenario.files)
        made: dict[str, EventRows] = {}
        try:
            for view in scenario.service.views:
                if view.source.name not in made:
                    made[view.source.name] = self._table(view, rows.get(view.source.name, []))
            yield made
        finally:
            _drop(self.con, [e.relation for e in made.values()])

    def _table(self, view: View, rows: Sequence[Mapping[str, Any]]) -> EventRows:
        import pyarrow as pa

        schema = view.source.schema
        columns = {p.name: canonical(p.type, [r[p.name] for r in rows]) for p in schema}
        for name in ("__ts", "__created"):
            columns[name] = pa.array([r[name] for r in rows], pa.int64())
        table = f"__scenario_{next(_numbers)}"
        typed = ", ".join(f"{quote(p.name)}::{p.type.duckdb} AS {quote(p.name)}" for p in schema)
        self.con.register(f"{table}_arrow", pa.table(columns))
        self.con.execute(
            f"CREATE TEMP TABLE {table} AS SELECT {typed}, __ts, __created FROM {table}_arrow"
        )
        self.con.unregister(f"{table}_arrow")
        prompt = all(r["__ts"] == r["__created"] for r in rows)
        return EventRows(table, prompt and not view.arrival_known)

    # --- online -----------------------------------------------------------------------------------

    def online(self, scenario: Scenario) -> dict[str, Stated]:
        """Each output from states that took the deliveries as pushes, one by one."""
        outputs = scenario.online.outputs
        try:
            plan = self.plan(scenario.online)
            values, statuses = self.lookup(plan, self.states(scenario), scenario)
        except Exception as error:
            return {o.full_name: (None, shown_error(error)) for o in outputs}
        stated = zip(values, statuses, strict=True)
        return {o.full_name: one for o, one in zip(outputs, stated, strict=True)}

    def states(self, scenario: Scenario) -> MemoryStore:
        """A store that knows what had arrived, of each view as late as it can be asked (T8)."""
        store = MemoryStore()
        filled = scenario.filled_until
        if filled > NEVER:
            with self.tables(scenario) as events:
                for view in scenario.online.views:
                    materialise.materialize_view(
                        self.con, store, PROJECT, view, events[view.source.name],
                        after=NEVER, until=filled,
                    )  # fmt: skip
        for delivery in scenario.deliveries:
            created = delivery.row["__created"]
            views = [
                view
                for view in scenario.online.views
                if view.source.name == delivery.source
                and filled < created <= scenario.at + view.history_us
            ]
            if views:
                settle.write(store, events_module.prepare(PROJECT, views, [delivery.row]))
        return store

    def lookup(
        self, plan: evaluator.Evaluator, store: OnlineStore, scenario: Scenario
    ) -> tuple[Sequence[Any], Sequence[str]]:
        """The outputs' values and statuses, from what a store holds."""
        entities, requests = plan.check_rows([scenario.row])
        keys = plan.state_keys(entities, 1)
        known = [k for k in keys[0] if k is not None]
        found = dict(zip(known, store.read(known), strict=True))
        answers, _ = plan.evaluate(keys, found, requests, [scenario.at], store.read)
        return answers[0]


def _through_bytes(service: Service) -> evaluator.Evaluator:
    """The service made ready to answer; it goes through its bytes, as to a serving process."""
    return evaluator.Evaluator(PROJECT, published.read_plan(published.plan_bytes(service)))


def narrowed(service: Service, feature: str) -> Service:
    """The service with the one output alone, and of views and request-time transforms only what it
    reads; the service itself where nothing can be left out."""
    output = next(o for o in service.outputs if o.full_name == feature)
    used: set[tuple[int, int]] = set()
    wanted: set[int] = set()

    def need(view: int, index: int) -> None:
        if view >= 0:
            used.add((view, index))
            return
        wanted.add(index)
        for given in service.transforms[index].inputs:
            if given.kind == "feature":
                need(given.view, given.index)
            elif given.kind == "transform":
                need(-1, given.index)

    need(output.view, output.index)
    views = sorted({v for v, _ in used})
    places = {v: sorted(i for w, i in used if w == v) for v in views}
    transforms = sorted(wanted)

    def moved(view: int, index: int) -> tuple[int, int]:
        if view < 0:
            return -1, transforms.index(index)
        return views.index(view), places[view].index(index)

    made = []
    for t in transforms:
        inputs = []
        for given in service.transforms[t].inputs:
            if given.kind == "feature":
                view, index = moved(given.view, given.index)
                inputs.append(replace(given, view=view, index=index))
            elif given.kind == "transform":
                inputs.append(replace(given, index=transforms.index(given.index)))
            else:
                inputs.append(given)
        made.append(replace(service.transforms[t], inputs=tuple(inputs)))
    view, index = moved(output.view, output.index)
    requested = {g.name for t in made for g in t.inputs if g.kind == "request"}
    return replace(
        service,
        views=tuple(
            replace(service.views[v], features=tuple(service.views[v].features[i] for i in of_view))
            for v, of_view in places.items()
        ),
        transforms=tuple(made),
        outputs=(replace(output, view=view, index=index),),
        request=tuple(p for p in service.request if p.name in requested),
    )


def narrow(scenario: Scenario, feature: str) -> Scenario:
    """The scenario about one output alone, with the deliveries and fields that it reads."""
    service = narrowed(scenario.service, feature)
    served = scenario.served
    if served is not None and any(o.full_name == feature for o in served.outputs):
        served = narrowed(served, feature)
    read = {v.source.name for s in (service, served or service) for v in s.views}
    known: set[str] = set()
    for s in (service, served or service):
        known |= {*s.join_keys, *(p.name for p in s.request)}
    files = scenario.files
    return replace(
        scenario,
        service=service,
        served=served,
        deliveries=tuple(d for d in scenario.deliveries if d.source in read),
        files=None if files is None else tuple(d for d in files if d.source in read),
        row={k: v for k, v in scenario.row.items() if k in known},
    )


def by_source(deliveries: Iterable[Delivery]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source."""
    found: dict[str, list[dict[str, Any]]] = {}
    for delivery in deliveries:
        found.setdefault(delivery.source, []).append(delivery.row)
    return found


def partners(scenario: Scenario) -> list[int | None]:
    """For each delivery the number of the file's row that it is, None where there is none: an equal
    one, or one that differs only in its instants, or, where there are as many of one as of the
    other, the one in its place. Copies of a row that was pushed again are one row."""
    files, deliveries = scenario.files, scenario.deliveries
    if files is None:
        return [None] * len(deliveries)

    def values(delivery: Delivery) -> Any:
        named = {n: v for n, v in delivery.row.items() if not n.startswith("__")}
        return delivery.source, bits(named)

    def instants(delivery: Delivery) -> Any:
        return delivery.source, delivery.row["__ts"], delivery.row["__created"]

    if len(files) == len(deliveries) and all(
        values(f) == values(d) or instants(f) == instants(d)
        for f, d in zip(files, deliveries, strict=True)
    ):
        return list(range(len(files)))
    equal: dict[Any, int] = {}
    for i, row in enumerate(files):
        equal.setdefault((values(row), instants(row)), i)
    found = [equal.get((values(d), instants(d))) for d in deliveries]
    alike: dict[Any, int] = {}
    for i in sorted(set(range(len(files))) - {*found}):
        alike.setdefault(values(files[i]), i)
    return [
        alike.get(values(d)) if i is None else i for d, i in zip(deliveries, found, strict=True)
    ]


def shown_error(error: Exception) -> str:
    """An exception in the place of a status: the checker's own word, which no path states."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class _Lent:
    """The bench's connection for one training set, which closes it: its tables go, it stays."""

    def __init__(self, con: Any) -> None:
        self.con = con
        self.before = _temporary(con)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.con, name)

    def close(self) -> None:
        _drop(self.con, sorted(_temporary(self.con) - self.before))


def _temporary(con: Any) -> set[str]:
    found = con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    return {name for (name,) in found}


def _drop(con: Any, tables: Iterable[str]) -> None:
    for table in tables:
        con.execute(f"DROP TABLE IF EXISTS {quote(table)}")


def canonical(type_: Type, values: Sequence[Any]) -> Any:
    """An Arrow array as DuckDB's canonical columns have it: naive UTC, durations as integers, and
    the one NaN (S1)."""
    import pyarrow as pa

    made = pa.array([_one_nan(v) for v in values], type=type_.arrow)
    stored = {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name)
    return made if stored is None else made.cast(stored)


def _one_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_one_nan(v) for v in value]
    return math.nan if value != value else value
