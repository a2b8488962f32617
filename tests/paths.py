"""Asks the oracle, DuckDB and online states the same questions, and says where they part."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import oracle
import pyarrow as pa
import pytest

from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.types import Type
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_source
from featurekit.define.definitions import (
    EventSource,
    FeatureSelection,
    FeatureService,
    FeatureView,
    Joined,
    Union,
)
from featurekit.define.plan import Service, Source, View
from featurekit.define.published import plan_bytes, read_plan
from featurekit.define.union import united_sql
from featurekit.feed.enrich import Enricher, places_of_sources
from featurekit.feed.entity_events import events_of_entities
from featurekit.feed.events import prepare as prepare_push
from featurekit.feed.materialise import materialize_view
from featurekit.feed.settle import write
from featurekit.language.transform import Transform
from featurekit.offline.enriched import make_enriched
from featurekit.offline.events import EventRows
from featurekit.offline.join import make_join
from featurekit.offline.session import prepare
from featurekit.offline.window_plans import choose
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.state import blocks, groups, rewrite
from featurekit.online.state.state import Event
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore

Row = dict[str, Any]
Answers = list[list[tuple[Any, str]]]
"""For each question, each output's value and status."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Question:
    """Join keys and request fields, and the instant in microseconds."""

    row: Row
    t: int


def connect() -> duckdb.DuckDBPyConnection:
    """A connection in the session that featurekit's SQL relies on.

    Of one thread: rows are few, and there is a worker for each processor.
    """
    con = duckdb.connect(config={"threads": 1})
    prepare(con)
    return con


_plans: dict[int, tuple[FeatureService, Evaluator]] = {}


def plan_of(definition: FeatureService) -> Evaluator:
    """The compiled service, made once; it goes through its bytes, as to a serving process."""
    if id(definition) not in _plans:
        compiled = read_plan(plan_bytes(compile_service(definition)))
        _plans[id(definition)] = definition, Evaluator("tests", compiled)
    return _plans[id(definition)][1]


def service_of(*features: Any, request: Mapping[str, Any] | None = None) -> FeatureService:
    return FeatureService("service", features=list(features), request=request or {})


class Paths:
    """A service, its events by source, and each way to its values."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        definition: FeatureService,
        rows: Mapping[str, Sequence[Row]],
    ) -> None:
        self.con, self.definition, self.rows = con, definition, rows
        self.plan = plan_of(definition)
        self.service: Service = self.plan.service
        views = [f.view if isinstance(f, FeatureSelection) else f for f in definition.features]
        self.views = {v.name: v for v in views if isinstance(v, FeatureView)}
        self.transforms = {f.name: f for f in definition.features if isinstance(f, Transform)}
        self.tables: list[str] = []
        self.known: dict[str, EventRows] = {}
        self.events = {v.name: self._events(v.source) for v in self.views.values()}
        self.others = {v.fingerprint: v for v in self.service.fed}
        self.made: list[str] = []
        self.asked = 0
        """Of how many entities the rows were asked for, where a state did not do."""

    def _events(self, source: EventSource | Joined | Union) -> EventRows:
        if isinstance(source, (Joined, Union)):
            return self._made(compile_source(source), source)
        if source.name not in self.known:
            self.known[source.name] = self._plain(source)
        return self.known[source.name]

    def _made(self, source: Source, written: Joined | Union) -> EventRows:
        """The events of a union, and of rows that take features from other views (T11)."""
        assert source.parts is not None
        plain = written.sources if isinstance(written, Union) else (written.source,)
        read = [self._events(one) for one in plain]
        joined = {v.name: v for one in _parts(written) for v, *_ in getattr(one, "joins", ())}

        def events_of(view: View) -> EventRows:
            return self._events(joined[view.name].source)

        relations = [
            make_enriched(self.con, part, events.relation, events_of)
            for part, events in zip(source.parts, read, strict=True)
        ]
        return EventRows(united_sql(source, relations), all(part.prompt for part in read))

    def _plain(self, source: EventSource) -> EventRows:
        name = f"events_{next(_numbers)}"
        rows = self.rows[source.name]
        columns = {n: column(t, [r[n] for r in rows]) for n, t in source.schema.items()}
        columns |= {n: pa.array([r[n] for r in rows], pa.int64()) for n in ("__ts", "__created")}
        self.con.register(name, pa.table(columns))
        typed = [f"{quote(n)}::{t.duckdb} AS {quote(n)}" for n, t in source.schema.items()]
        self.con.execute(
            f"CREATE TEMP TABLE {name}_typed AS SELECT {', '.join(typed)}, __ts, __created "
            f"FROM {name}"
        )
        self.con.unregister(name)
        self.tables.append(f"{name}_typed")
        return EventRows(f"{name}_typed", source.created_timestamp_column is None)

    def close(self) -> None:
        """Drop the tables."""
        for table in self.tables:
            self.con.execute(f"DROP TABLE IF EXISTS {table}")

    # --- the opinions -----------------------------------------------------------------------------

    def oracle(self, questions: Iterable[Question]) -> Answers:
        return [self._expected(q) for q in questions]

    def _expected(self, question: Question) -> list[tuple[Any, str]]:
        known: dict[int, list[oracle.Event]] = {}
        seen: dict[tuple[int, int], tuple[Any, str]] = {}

        def feature(v: int, f: int) -> tuple[Any, str]:
            view = self.service.views[v]
            written = self.views[view.name]
            if v not in known:
                key = {p.name: question.row[p.name] for p in view.join_keys}
                rows = self._rows_of(view)
                known[v] = oracle.known_events(written, rows, key, question.t, self.rows)
            if (v, f) not in seen:
                name = view.features[f].name
                seen[v, f] = oracle.value_over(written, name, known[v], question.t)
            return seen[v, f]

        made: list[tuple[Any, str]] = []
        for transform in self.service.transforms:
            inputs = {}
            for param, given in zip(transform.function.params, transform.inputs, strict=True):
                if given.kind == "request":
                    inputs[param.name] = question.row[given.name], oracle.PRESENT
                elif given.kind == "transform":
                    inputs[param.name] = made[given.index]
                else:
                    inputs[param.name] = feature(given.view, given.index)
            made.append(oracle.request_value(self.transforms[transform.function.name], inputs))
        return [
            feature(o.view, o.index) if o.view >= 0 else made[o.index] for o in self.service.outputs
        ]

    def _rows_of(self, view: View) -> Sequence[Row]:
        """The rows of a view's source as the oracle takes them, those of a union with its name."""
        if not isinstance(self.views[view.name].source, Union):
            (name,) = view.source_names
            return self.rows[name]
        return [row | {"__source": name} for name in view.source_names for row in self.rows[name]]

    def offline(self, questions: Sequence[Question], *, buckets: int | None = 1) -> Answers:
        name = f"labels_{next(_numbers)}"
        types = {**self.service.join_keys, **{p.name: p.type for p in self.service.request}}
        columns = {n: column(t, [q.row[n] for q in questions]) for n, t in types.items()}
        columns["__rid"] = pa.array(range(len(questions)), pa.int64())
        columns["__t"] = pa.array([q.t for q in questions], pa.int64())
        self.con.register(f"{name}_arrow", pa.table(columns))
        typed = [f"{quote(n)}::{t.duckdb} AS {quote(n)}" for n, t in types.items()]
        self.con.execute(
            f"CREATE TEMP TABLE {name} AS SELECT {', '.join([*typed, '__rid', '__t'])} "
            f"FROM {name}_arrow"
        )
        self.con.unregister(f"{name}_arrow")
        try:
            events = [self.events[v.name] for v in self.service.views]
            joined = make_join(self.con, self.service, events, name, statuses=True, buckets=buckets)
            table = self.con.sql(f"SELECT * FROM {joined.sql} ORDER BY __rid").to_arrow_table()
        finally:
            self.con.execute(f"DROP TABLE {name}")
            for v in range(len(self.service.views)):
                self.con.execute(f'DROP TABLE IF EXISTS "{name}_events_{v}"')
                self.con.execute(f'DROP TABLE IF EXISTS "{name}_events_{v}_result"')
        answers: list[list[tuple[Any, str]]] = []
        for o, output in enumerate(self.service.outputs):
            made = table.column(f"o{o}").cast(output.type.arrow)
            values = made.to_pylist(maps_as_pydicts="strict")
            answers.append(list(zip(values, table.column(f"t{o}").to_pylist(), strict=True)))
        assert table.num_rows == len(questions)
        return [list(row) for row in zip(*answers, strict=True)]

    def online(self, questions: Sequence[Question], store: OnlineStore) -> Answers:
        """Each question, from what the store holds."""
        entities, requests = self.plan.check_rows([q.row for q in questions])
        keys = self.plan.state_keys(entities, len(questions))
        distinct = list({k for row in keys for k in row if k is not None})
        found = dict(zip(distinct, store.read(distinct), strict=True))
        instants = [q.t for q in questions]
        answers = self.plan.evaluate(keys, found, requests, instants, store.read)
        return [list(zip(*answer, strict=True)) for answer in answers]

    # --- what fills online states -----------------------------------------------------------------

    def push(self, store: OnlineStore, rows: Sequence[Row], source: str) -> None:
        """One push of `rows`, events of `source`."""
        enrich = Enricher(store, "tests", self._asked)
        views = self.of_source(source)
        write(store, prepare_push("tests", views, rows, source=source, enrich=enrich))

    def of_source(self, source: str) -> list[View]:
        return [v for v in self.service.fed if source in v.source_names]

    def _asked(self, view: View, entities: Sequence[tuple[Any, ...]]) -> dict[bytes, list[Event]]:
        """What an `Enricher` asks of where all rows are."""
        self.asked += len(entities)
        events = self._events(self._written(view).source)
        return events_of_entities(self.con, view, events, entities)

    def _written(self, view: View) -> FeatureView:
        """The definition of a view that is fed."""
        found = list(self.views.values())
        for one in found:
            if one.name == view.name:
                return one
            found += one.joined
        raise LookupError(view.name)

    def push_arrivals(
        self, store: OnlineStore, after: int, until: int, *, shuffled: Any = None
    ) -> None:
        """Push what arrived in (after, until], event by event, and those behind all others that
        take something from these (T11)."""
        places = places_of_sources(self.service.fed)
        for source, rows in sorted(self.rows.items(), key=lambda one: places[one[0]]):
            arrived = [r for r in rows if after < r["__created"] <= until]
            if shuffled is not None:
                shuffled.shuffle(arrived)
            for row in arrived:
                self.push(store, [row], source)

    def push_in_order(self, store: OnlineStore, after: int, until: int) -> None:
        """As `push_arrivals`, in the order of arrival over all sources, which ids need (T7)."""
        # Rows that arrive together stand behind those that they may take something from.
        places = places_of_sources(self.service.fed)
        rows = [(r["__created"], name, r) for name, some in self.rows.items() for r in some]
        for created, name, row in sorted(rows, key=lambda one: (one[0], places[one[1]])):
            if after < created <= until:
                self.push(store, [row], name)

    def materialise(self, store: OnlineStore, *, after: int = NEVER, until: int) -> None:
        """Materialise what arrived in (after, until]."""
        for view in self.service.fed:
            events = self._events(self._written(view).source)
            materialize_view(self.con, store, "tests", view, events, after=after, until=until)

    # --- comparison -------------------------------------------------------------------------------

    def by_pushes(self, questions: Iterable[Question], shuffled: Any = None) -> Answers:
        """Each question, from states made of pushes of all that had arrived."""
        answers: Answers = []
        for question in questions:
            store = MemoryStore()
            self.push_arrivals(store, NEVER, question.t, shuffled=shuffled)
            answers += self.online([question], store)
        return answers

    def by_pushes_in_order(self, questions: Iterable[Question]) -> Answers:
        """As `by_pushes`, in the order of arrival over all sources, which ids need (T7)."""
        answers: Answers = []
        for question in questions:
            store = MemoryStore()
            self.push_in_order(store, NEVER, question.t)
            answers += self.online([question], store)
        return answers

    def by_materialising(self, questions: Sequence[Question]) -> Answers:
        """Each question, from states that a backfill made up to its instant."""
        stores: dict[int, MemoryStore] = {}
        for question in questions:
            if question.t not in stores:
                stores[question.t] = MemoryStore()
                self.materialise(stores[question.t], until=question.t)
        return [self.online([q], stores[q.t])[0] for q in questions]

    def shown(
        self, questions: Sequence[Question], one: Answers, other: Answers
    ) -> list[tuple[Any, ...]]:
        """Where two opinions differ in bits or status: output, question, both answers."""
        assert len(one) == len(other) == len(questions)
        return [
            (output.full_name, question.row, question.t, a, b)
            for question, left, right in zip(questions, one, other, strict=True)
            for output, a, b in zip(self.service.outputs, left, right, strict=True)
            if a[1] != b[1] or oracle.bits(a[0]) != oracle.bits(b[0])
        ]

    def differing(self, questions: Sequence[Question]) -> dict[str, list[tuple[Any, ...]]]:
        """The differences from the oracle, by path; empty where all agree."""
        expected = self.oracle(questions)
        opinions = {
            "offline": self.offline(questions),
            "pushed": self.by_pushes(questions),
            "materialised": self.by_materialising(questions),
        }
        found = {name: self.shown(questions, expected, got) for name, got in opinions.items()}
        return {name: differences for name, differences in found.items() if differences}


def _parts(source: Joined | Union) -> list[Any]:
    return [one for one, _ in source.parts] if isinstance(source, Union) else [source]


def in_small_blocks(monkeypatch: pytest.MonkeyPatch, *, split: int = 1, size: int = 2) -> None:
    """Let states of windows of more than `split` events lie in blocks of about `size`, and these in
    groups of about two, four and eight."""
    monkeypatch.setattr(blocks, "SPLIT", split)
    monkeypatch.setattr(blocks, "SIZE", size)
    monkeypatch.setattr(groups, "RADIX", 2)


def crowded_where(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    """Let the keys be crowded for which the SQL `found` is true, however few their rows are."""
    monkeypatch.setattr(choose, "_is_crowded_sql", lambda pairs: found)
    monkeypatch.setattr(choose, "PAIRS_PER_SUM", -1)
    monkeypatch.setattr(choose, "PAIRS_PER_ROW", -1)


def in_older_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let heads be written in the version before."""
    for module in (blocks, rewrite):
        monkeypatch.setattr(module, "layout_of", lambda view: blocks.Layout(view).older)


def column(type_: Type, values: Sequence[Any]) -> pa.Array:
    """An Arrow array as DuckDB's canonical columns have it: naive UTC, durations as integers."""
    made = pa.array([one_nan(v) for v in values], type=type_.arrow)
    stored = {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name)
    return made if stored is None else made.cast(stored)


def one_nan(value: Any) -> Any:
    """The value with the one NaN that a source's events have."""
    if isinstance(value, list):
        return [one_nan(v) for v in value]
    return math.nan if value != value else value
