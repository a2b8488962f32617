"""Plays invented histories through both paths and compares every answer, bit for bit.

It needs no data: events are drawn from the schemas of the repo's sources, hostile on purpose (see
`world`). They are written to Parquet and read, joined and computed by DuckDB as a training set is;
online they are read row by row in Python as a push is, pushed in random order with late and
repeated deliveries, in part materialised, and asked by lookups of the plan's bytes, as a serving
process does. States lie in memory; the first world of a check goes through a real Redis.

Worlds are numbered, and a number and the seed decide all of one. So they can be played by several
processes, and the same seed and budget of values always give the same questions.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.core.screen import Advance
from featurekit.core.sql import quote
from featurekit.core.tables import Row, in_types
from featurekit.core.types import INT, Type, instant
from featurekit.define.definitions import EventSource
from featurekit.define.plan import RequestTransform, Service, Source, View
from featurekit.define.published import plan_bytes
from featurekit.define.repo import Repo
from featurekit.define.union import bare_rows, taken_columns
from featurekit.errors import EngineError, OnlineError, StoreUnavailable
from featurekit.feed.entity_events import events_of_entities
from featurekit.offline.engines.protocol import Engine
from featurekit.offline.engines.spread import Elsewhere
from featurekit.offline.events import EventRows, Snapshot
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.parity.budget import Budget, Clock
from featurekit.parity.check import Check
from featurekit.parity.compare import Answers, differing_values, parting, values
from featurekit.parity.diagnose.diagnose import diagnose_report
from featurekit.parity.modes.fuzz.reading import WorldReader, connect
from featurekit.parity.modes.fuzz.world import Course, CourseStep, Draft, Drafts
from featurekit.parity.paths import Asked, Offline, Online
from featurekit.parity.plain import check_plain_requests, check_plain_rows
from featurekit.parity.processes import Processes, Work, processors
from featurekit.parity.questions import Question
from featurekit.parity.report import Difference, Report
from featurekit.parity.scenario import Delivery, Scenario, lenient
from featurekit.parity.taken import push_order
from featurekit.project.project import Project
from featurekit.sources.rows import placed_as_pushed

_CELLS = 400
_QUESTIONS = 96_000
_FIRST_QUESTIONS = 3_000
_PLAIN = 25  # cells of the rows on which plain functions are called
_KEPT = 3  # differences of each feature of a world


@dataclass(slots=True)
class Found:
    """What one world showed: for each output by number its values compared and differing and its
    offline statuses; and the values of rows that were read, with those that were read otherwise."""

    world: int
    questions: int = 0
    compared: Counter[int] = field(default_factory=Counter)
    differing: Counter[int] = field(default_factory=Counter)
    statuses: dict[int, Counter[str]] = field(default_factory=dict)
    misread: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)


class Fuzzer:
    """Plays worlds of one service."""

    def __init__(
        self,
        service: Service,
        sources: Mapping[str, EventSource],
        seed: int,
        engine: Callable[[], Engine | None] | None = None,
    ) -> None:
        """With an `engine`, that makes the offline answers."""
        # A view that fails as a whole would end the world at its first error.
        self.service, self.seed, self.engine = lenient(service), seed, engine
        used = {name: sources[name] for view in service.fed for name in view.source_names}
        self.read = {view.source.name: view.source for view in service.fed}
        self.drafts = Drafts(self.service, used)
        self.plan = plan_bytes(self.service)

    def play(self, world: int, store: OnlineStore, *, questions: int = _QUESTIONS) -> Found:
        """Play one world, with at most so many questions."""
        rng = random.Random(f"{self.seed}:{self.service.name}:{world}")
        cells = max(1, min(_CELLS, questions // 30))
        with tempfile.TemporaryDirectory(prefix="featurekit-") as folder:
            draft = self.drafts.draw(cells, rng)
            sources = _written(Path(folder), self.drafts.sources, draft)
            rows = {n: placed_as_pushed(s, draft.tables[n]) for n, s in sources.items()}
            for source in self.read.values():
                _unite(source, rows, draft)
            course = Course(
                self.drafts,
                draft,
                {name: rows[name] for name in self.read},
                questions=questions,
                turns=rng.choice((0, 0, 1, 2)),
                rng=rng,
            )
            reader = WorldReader(Path(folder), sources, self.read)
            play = _Play(self, course, reader, store, world)
            return play.found({n: [row for _, row in placed] for n, placed in rows.items()})


class _Play:
    """One world, played."""

    def __init__(
        self,
        fuzzer: Fuzzer,
        course: Course,
        reader: WorldReader,
        store: OnlineStore,
        world: int,
    ) -> None:
        self.service, self.course, self.reader = fuzzer.service, course, reader
        self.sources, self.engine = reader.sources, fuzzer.engine
        self.path = Online(store, fuzzer.service, plan=fuzzer.plan)
        self.places = push_order(fuzzer.service)
        self.result = Found(world)
        self.misread: dict[int, Row] = {}
        self.failed = False

    def found(self, rows: Mapping[str, list[Row]]) -> Found:
        """What both paths say to every question, compared."""
        con = connect()
        try:
            relations = self.reader.relations(con)
            self._compare_rows(con, relations, rows)
            with self._failing("online"):
                online = self._online(con, self.reader.events(con, relations))
        finally:
            con.close()
        asked = [(s, c, q) for s, step in enumerate(self.course.steps) for c, q in step.questions]
        if asked and not self.failed:
            with self._failing("offline"):
                offline = self._offline([q for _, _, q in asked])
        if asked and not self.failed:
            self.result.questions = len(asked)
            self._compare(asked, offline, online)
        return self.result

    @contextmanager
    def _failing(self, path: str) -> Iterator[None]:
        """What a path raises is a difference, and the end of its world."""
        try:
            yield
        except (OSError, MemoryError, StoreUnavailable, EngineError):
            raise  # says nothing of the path
        except Exception as error:
            self.failed = True
            told = (None, f"{type(error).__name__}: {error}")
            went_on = (None, "went on")
            self.result.misread[f"{self.service.name}: {path}"] += 1
            self.result.differences.append(
                Difference(
                    f"{self.service.name}: {path}",
                    {},
                    "",
                    told if path == "offline" else went_on,
                    told if path == "online" else went_on,
                )
            )

    # --- online -----------------------------------------------------------------------------------

    def _online(self, con: Any, events: Mapping[str, EventRows]) -> Answers:
        """Every question's outputs, step by step."""
        told: list[Any] = []
        self.path.ask_log = lambda view, entities: events_of_entities(
            con, view, events[view.source.name], entities
        )
        for step in self.course.steps:
            if step.turn is not None:
                after, until = step.turn
                for view in self.service.fed:
                    of_view = events[view.source.name]
                    self.path.materialize(con, view, of_view, after=after, until=until)
            for push in step.pushes:
                self._push(push)
            if step.questions:
                told += self._ask(step)
        if not told:
            nothing: list[list[Any]] = [[] for _ in self.service.outputs]
            return Answers(nothing, nothing)
        made, statuses = zip(*told, strict=True)
        return Answers(list(zip(*made, strict=True)), list(zip(*statuses, strict=True)))

    def _push(self, push: Iterable[tuple[str, Row]]) -> None:
        by_source: dict[str, list[Row]] = {}
        for name, row in push:
            by_source.setdefault(name, []).append(row)
        for name in sorted(by_source, key=lambda name: self.places[name]):
            views = [v for v in self.service.fed if v.source.name == name]
            self.path.push(views, by_source[name])

    def _ask(self, step: CourseStep) -> list[Any]:
        rows = [question.row for _, question in step.questions]
        instants = [question.at for _, question in step.questions]
        try:
            return self.path.ask(rows, instants)
        except OnlineError:
            return [self._ask_one(row, at) for row, at in zip(rows, instants, strict=True)]

    def _ask_one(self, row: Row, at: int) -> Any:
        """The answer to one of several questions, some of which are refused."""
        try:
            return self.path.ask([row], [at])[0]
        except OnlineError as error:
            outputs = len(self.service.outputs)
            return [None] * outputs, [type(error).__name__] * outputs

    # --- offline ----------------------------------------------------------------------------------

    def _offline(self, questions: Sequence[Question]) -> Answers:
        """Every question's outputs, from one training set."""

        read: dict[int, dict[str, EventRows]] = {}

        def snapshot(con: Any, view: View) -> Snapshot:
            if id(con) not in read:
                read[id(con)] = self.reader.events(con, self.reader.relations(con))
            return Snapshot(read[id(con)][view.source.name], {})

        asked = Asked.of(self.service, [q.row for q in questions], [q.at for q in questions])
        elsewhere = None if self.engine is None else Elsewhere(self.engine, self.reader)
        return Offline.over(connect, snapshot, elsewhere=elsewhere).answers(self.service, asked)

    # --- comparison -------------------------------------------------------------------------------

    def _compare(
        self, asked: list[tuple[int, int, Question]], offline: Answers, online: Answers
    ) -> None:
        result = self.result
        parted = parting(self.service, offline, online)
        for o, output in enumerate(self.service.outputs):
            counts = offline.statuses[o].value_counts().to_pylist()
            result.compared[o] = len(asked)
            result.statuses[o] = Counter({c["values"]: c["counts"] for c in counts})
            result.differing[o] = len(parted[o])
            for i in parted[o][:_KEPT]:
                step, cell, question = asked[i]
                result.differences.append(
                    Difference(
                        output.full_name,
                        question.row,
                        instant(question.at).isoformat(),
                        offline.offline(o, i),
                        online.online(o, i),
                        self._scenario(step, cell, question),
                    )
                )

    def _scenario(self, step: int, cell: int, question: Question) -> Scenario:
        """The rows of the question's cell in the order of their delivery; beside them, where some
        were misread, the cell's rows as DuckDB read them."""
        delivered, until = self.course.before(step, cell)
        if any(self.places.values()):  # the log that is asked has what has not arrived yet, too
            known = {id(row) for _, row in delivered}
            delivered += [d for d in self.course.cells[cell] if id(d[1]) not in known]
        files = None
        if self.misread:
            own = self.course.cells[cell]  # also what has arrived as DuckDB reads it only
            files = tuple(Delivery(name, self.misread.get(id(row), row)) for name, row in own)
        deliveries = tuple(Delivery(name, row) for name, row in delivered)
        return Scenario(self.service, deliveries, question.row, question.at, until, files)

    def _compare_rows(
        self, con: Any, relations: Mapping[str, str], rows: Mapping[str, list[Row]]
    ) -> None:
        """Compare what DuckDB reads of the files with what Python reads of the same rows (S1, T1):
        a difference there is one of reading, whatever it does to the features."""
        schemas = {n: {p.name: p.type for p in s.schema} for n, s in self.reader.read.items()}
        schemas |= {name: dict(source.schema) for name, source in self.sources.items()}
        for name, schema in schemas.items():
            source = self.sources.get(name)
            read = _canonical(con, schema, relations[name])
            if read.num_rows != len(rows[name]):
                feature = f"{name}: reading rows"
                self.result.misread[feature] += 1
                pair = (read.num_rows, "READ"), (len(rows[name]), "READ")
                self.result.differences.append(Difference(feature, {}, "", *pair))
                continue  # no row of the one is that of the other
            wrong: set[int] = set()
            for column in read.column_names:
                type_ = schema.get(column, INT)
                made = [row[column] for row in rows[name]]
                places = differing_values(type_, read.column(column).combine_chunks(), made)
                if not places:
                    continue
                wrong |= {*places}
                i, feature = places[0], f"{name}: reading {_shown(source, column)}"
                self.result.misread[feature] += len(places)
                self.result.differences.append(
                    Difference(
                        feature,
                        {k: v for k, v in rows[name][i].items() if not k.startswith("__")},
                        "",
                        (values(read.column(column).slice(i, 1))[0], "READ"),
                        (made[i], "READ"),
                    )
                )
            for i in wrong:
                self.misread[id(rows[name][i])] = read.slice(i, 1).to_pylist()[0]


def _unite(source: Source, rows: dict[str, list[tuple[int, Row]]], draft: Draft) -> None:
    """Add the rows of a union, which have taken nothing yet, and their cells to those of its
    sources. Each row has its place among those that were drawn."""
    if source.parts is None:
        return
    made: list[tuple[int, Row]] = []
    cells: list[int] = []
    for name in (one.name for one in source.sources):
        places = [len(cells) + place for place, _ in rows[name]]
        united = map(dict, bare_rows(source, name, [row for _, row in rows[name]]))
        made += zip(places, united, strict=True)
        cells += draft.cells[name]
    rows[source.name], draft.cells[source.name] = made, cells


def _shown(source: EventSource | None, column: str) -> str:
    if source is None:
        return column
    named = {"__ts": source.timestamp_field, "__created": source.created_timestamp_column}
    return named.get(column) or column


def _written(
    folder: Path, sources: Mapping[str, EventSource], draft: Draft
) -> dict[str, EventSource]:
    """The sources, of files that hold the draft's rows."""
    import pyarrow.parquet as pq

    made = {}
    for name, source in sources.items():
        path = folder / f"{name}.parquet"
        pq.write_table(draft.tables[name], path, compression="none")
        made[name] = source.in_parquet(str(path))
    return made


def _canonical(con: Any, schema: Mapping[str, Type], relation: str) -> Any:
    """What DuckDB reads of a file, in the types that a push's rows have, in the file's order."""
    columns = ", ".join([*(quote(name) for name in schema), "__ts", "__created"])
    table = con.sql(f"SELECT {columns} FROM {relation}").to_arrow_table().combine_chunks()
    return in_types(table, schema)


# --- many worlds ----------------------------------------------------------------------------------


def run(project: Project, service: Service, check: Check) -> Report:
    """The report of a check of one service, by the schemas of the repo's sources."""
    report = fuzz(
        service,
        project.repo.sources,
        budget=check.most(1_000_000),
        seed=check.seed,
        workers=check.workers,
        engine=check.opens_engine,
        progress=check.progress,
    )
    _call_plain_functions(report, project.repo, service)
    return report


def _call_plain_functions(report: Report, repo: Repo, service: Service) -> None:
    """Compare the repo's plain functions with what was compiled of them, over rows of a world of
    its own, and over drawn arguments of the service's transforms."""
    rng = random.Random(f"{report.seed}:{service.name}:plain")
    fuzzer = Fuzzer(service, repo.sources, report.seed)
    drafts = fuzzer.drafts
    draft = drafts.draw(_PLAIN, rng)
    placed = {name: placed_as_pushed(s, draft.tables[name]) for name, s in drafts.sources.items()}
    for source in fuzzer.read.values():
        _unite(source, placed, draft)
    rows = {name: [row for _, row in some] for name, some in placed.items()}
    for source in fuzzer.read.values():
        taken = {p.name: p.type for p in source.schema if p.name in taken_columns(source)}
        for row in rows[source.name]:  # any values do for functions
            row |= {name: drafts.argument(type_, rng) for name, type_ in taken.items()}

    def drawn(transform: RequestTransform) -> list[list[Any]]:
        params = [p.type for p in transform.function.params]
        return [[drafts.argument(type_, rng) for type_ in params] for _ in range(4 * _PLAIN)]

    con = connect()
    try:
        check_plain_rows(report, con, repo, service, rows, rng)
        check_plain_requests(report, con, repo, service, drawn)
    finally:
        con.close()


def fuzz(
    service: Service,
    sources: Mapping[str, EventSource],
    *,
    budget: Budget,
    seed: int,
    workers: int | None = None,
    engine: Callable[[], Engine | None] | None = None,
    progress: Advance | None = None,
) -> Report:
    """Play worlds until the budget is used up; `workers` processes play them, by default one for
    each processor, or this one where there is little to do, or where an `engine` makes the offline
    answers. Which ones changes no question."""
    clock = budget.clock()
    report = Report(service.name, seed, mode="fuzz")
    fuzzer = Fuzzer(service, sources, seed, engine)
    sizes = _Sizes(clock, len(service.outputs))
    found = [_through_redis(fuzzer, sizes.first())]

    def take(one: Found) -> None:
        found.append(one)
        if progress is not None:
            done = sum(sum(f.compared.values()) for f in found)
            progress(done, budget.values or done)

    number = 1 if engine is not None else workers or processors()
    if number == 1 or (budget.values is not None and budget.values <= _ALONE):
        for world, questions in sizes:
            take(fuzzer.play(world, MemoryStore(), questions=questions))
    else:
        with Processes(number, _player, service, dict(sources), seed) as pool:
            for one in pool.as_done(sizes):
                take(one)
    for one in sorted(found, key=lambda f: f.world):
        _add(report, fuzzer.service, one)
    diagnose_report(report, lambda difference: difference.scenario)
    report.seconds = clock.taken
    return report


_ALONE = 500_000


def _player(service: Service, sources: Mapping[str, EventSource], seed: int) -> Work:
    """What a process does: it plays the worlds whose numbers and questions it is told."""
    fuzzer = Fuzzer(service, sources, seed)

    def play(task: tuple[int, int]) -> Found:
        world, questions = task
        return fuzzer.play(world, MemoryStore(), questions=questions)

    return play


def _through_redis(fuzzer: Fuzzer, questions: int) -> Found:
    with scratch_redis() as url:
        store = RedisStore(url)
        try:
            return fuzzer.play(0, store, questions=questions)
        finally:
            store.close()


class _Sizes:
    """The worlds to play and their questions, until nothing is left of the budget."""

    def __init__(self, clock: Clock, outputs: int) -> None:
        self.clock, self.outputs = clock, outputs
        self.asked, self.world = 0, 0

    def first(self) -> int:
        """The questions of the first world."""
        return self._take(_FIRST_QUESTIONS)

    def _take(self, most: int) -> int:
        questions = most
        if self.clock.budget.values is not None:
            left = -(-self.clock.budget.values // self.outputs) - self.asked
            questions = min(most, max(left, 1))
        self.asked += questions
        return questions

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self.clock.left(self.asked * self.outputs):
            self.world += 1
            # Small worlds first, of many kinds; large ones are quicker, each question for itself.
            most = _FIRST_QUESTIONS << min(self.world // 4, 8)
            yield self.world, self._take(min(most, _QUESTIONS))


def _add(report: Report, service: Service, found: Found) -> None:
    report.rows += found.questions
    for o, output in enumerate(service.outputs):
        report.count(
            output.full_name,
            compared=found.compared[o],
            differing=found.differing[o],
            statuses=found.statuses.get(o, {}),
        )
    for feature, places in found.misread.items():
        report.count(feature, compared=places, differing=places)
    for difference in found.differences:
        report.keep(difference)
