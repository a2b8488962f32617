"""Compares online with offline over many entities and instants, bit for bit.

Offline answers all questions in one point-in-time join. Online answers them one by one from a
scratch Redis, into which the past is replayed: before a question as of t, exactly what arrived by t
is there, in part by materialisations up to instants between, in part pushed event by event. What is
pushed is read from the files as a push is, row by row in Python; what is materialised, by DuckDB.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from featurekit.core import tables
from featurekit.core.sql import quote
from featurekit.core.status import NEVER
from featurekit.core.types import INT, Type, instant
from featurekit.core.values import sort_value
from featurekit.define.plan import Service, View
from featurekit.define.union import bare_rows, columns_of, told_by_rows
from featurekit.feed.entity_events import events_of_entities
from featurekit.log.relation import log_sql
from featurekit.log.segments import segments
from featurekit.offline.events import EventRows
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.parity.check import Check
from featurekit.parity.compare import Stated, bits
from featurekit.parity.diagnose.diagnose import diagnose_report
from featurekit.parity.paths import Asked, Offline, Online
from featurekit.parity.questions import Question, draw
from featurekit.parity.report import Difference, Report
from featurekit.parity.scenario import Delivery, Scenario, column_types, unite
from featurekit.parity.stored import of_values
from featurekit.parity.taken import Wanted, bare, others_of, push_order
from featurekit.parity.third import add_third_opinion
from featurekit.project.project import Project
from featurekit.sources import read_events
from featurekit.sources.files import absent
from featurekit.sources.raw import file_rows
from featurekit.sources.rows import as_pushed

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource

Groups = Sequence[tuple[Any, ...]]
"""What names the rows of a view that decide what is answered, and are pushed together."""
_numbers = itertools.count()
_ROUND = 50_000
_TURNS = (0.25, 0.5, 0.75)


def run(project: Project, service: Service, check: Check) -> Report:
    """The report of a check. A budget of time is used up by rounds of `_ROUND` values, each with
    questions of its own."""
    budget = check.most(100_000)
    clock = budget.clock()
    report = Report(service.name, check.seed)
    if budget.values is not None:
        _round(project, service, report, budget.values, random.Random(check.seed), check)
    else:
        rounds = itertools.count()
        while clock.left(report.compared):
            before = report.compared
            rng = random.Random(f"{check.seed}:{next(rounds)}")
            _round(project, service, report, _ROUND, rng, check)
            if report.compared == before:
                break  # no source holds an event
    add_third_opinion(project, service, report)
    report.seconds = clock.taken
    return report


def _round(
    project: Project,
    service: Service,
    report: Report,
    values: int,
    rng: random.Random,
    check: Check,
) -> None:
    con = project.connect()
    try:
        relations = [project.events(con, view) for view in service.views]
        rows = max(1, -(-values // len(service.outputs)))
        questions = draw(con, service, [r.relation for r in relations], rows=rows, rng=rng)
        questions.sort(key=lambda q: q.at)
        offline = _offline(project, service, questions, check)
        with scratch_redis() as url:
            scratch = RedisStore(url)
            path = Online(scratch, service)
            replay = _Replay(con, project, path, relations, questions)
            for i, online in enumerate(replay.answers()):
                _compare(report, service, questions[i], next(offline), online)
                if check.progress is not None and (i % 500 == 499 or i + 1 == len(questions)):
                    check.progress(i + 1, len(questions))
            scratch.close()
        diagnose_report(report, replay.scenario)
    finally:
        con.close()
    report.rows += len(questions)


def _compare(
    report: Report,
    service: Service,
    question: Question,
    offline: Sequence[Stated],
    online: Sequence[Stated],
) -> None:
    as_of = instant(question.at).isoformat()
    for o, output in enumerate(service.outputs):
        report.take(output.full_name, offline[o], online[o], row=question.row, as_of=as_of)


def _offline(
    project: Project, service: Service, questions: list[Question], check: Check
) -> Iterator[list[Stated]]:
    """Every question's outputs and statuses, from one training set."""
    if not questions:
        return
    elsewhere = check.elsewhere(project)
    asked = Asked.of(service, [q.row for q in questions], [q.at for q in questions])
    yield from (
        Offline(partial(project.training_set, elsewhere=elsewhere)).answers(service, asked).rows()
    )


class _Replay:
    """The questions, answered online in the order of their instants."""

    def __init__(
        self,
        con: Any,
        project: Project,
        path: Online,
        relations: Sequence[EventRows],
        questions: list[Question],
    ) -> None:
        self.con, self.path, self.questions = con, path, questions
        service = path.service
        self.joined = any(view.source.joins for view in service.views)
        self.above = push_order(service)
        self.streams = _streams(con, project, service, relations, questions)
        self.streams.sort(key=lambda stream: self.above[stream.view.source.name])
        self.of_view = {stream.view.fingerprint: stream for stream in self.streams}
        path.ask_log = lambda view, entities: events_of_entities(
            con, view, self.of_view[view.fingerprint].events, entities
        )
        self.turns = self._turns()

    def _turns(self) -> list[int]:
        """The instants at which states are materialised: about the quarters of the questions, each,
        where there is one, that of a question whose entity waits for a late event."""
        found = set()
        for share in _TURNS:
            n = len(self.questions)
            middle, reach = int(n * share), n // (2 * (len(_TURNS) + 1))
            near = sorted(range(max(middle - reach, 0), min(middle + reach + 1, n)),
                          key=lambda i: abs(i - middle))  # fmt: skip
            asked = [self.questions[i] for i in near]
            waiting = (q for q in asked if any(s.awaits(q) for s in self.streams))
            chosen = next(waiting, asked[0] if asked else None)
            if chosen is not None:
                found.add(chosen.at)
        return sorted(found)

    def scenario(self, difference: Difference) -> Scenario:
        """The rows that decide a value that differs, and the question about it."""
        question = Question(difference.row, difference.at)
        deliveries: dict[str, list[dict[str, Any]]] = {}
        files: dict[str, list[dict[str, Any]]] = {}
        for stream, groups in self._deciding(question):
            source = stream.view.source
            unite(deliveries.setdefault(source.name, []), stream.of_groups(groups))
            offline = bare(source, stream.read_offline(self.con, groups))
            unite(files.setdefault(source.name, []), offline)
        turns = [turn for turn in self.turns if turn <= question.at]
        # Rows were pushed between two questions, those first from which others may take something.
        pushed = sorted(
            _delivered(deliveries), key=lambda d: (self.above[d.source], int(d.row["__created"]))
        )
        read = _delivered(files)
        if len(pushed) == len(read):
            # The same row beside each, however its instants are read.
            by_values = sorted(range(len(pushed)), key=lambda i: _values(pushed[i]))
            paired = dict(zip(by_values, sorted(read, key=_values), strict=True))
            read = [paired[i] for i in range(len(pushed))]
        same = [bits(d.row) for d in pushed] == [bits(d.row) for d in read]
        return Scenario(
            self.path.service,
            tuple(pushed),
            question.row,
            question.at,
            turns[-1] if turns else NEVER,
            None if same else tuple(read),
        )

    def _deciding(self, question: Question) -> Iterator[tuple[_Stream, Groups]]:
        """Which rows of which views decide what is answered to a question: those of its entities,
        and those from which they may take something."""

        def fetch(view: View, wanted: Wanted) -> list[dict[str, Any]]:
            return self.of_view[view.fingerprint].about(self.con, wanted)

        for stream in self.streams:
            groups = stream.groups_of(question)
            if not groups:
                continue
            yield stream, groups
            if stream.view.source.joins:
                own = stream.read_offline(self.con, groups)
                for view, rows in others_of(stream.view.source, own, fetch).values():
                    other = self.of_view[view.fingerprint]
                    yield other, list(dict.fromkeys(map(other.group_of, rows)))

    def answers(self) -> Iterator[list[Stated]]:
        """Each question's outputs."""
        done = 0
        for batch in self._batches():
            while done < len(self.turns) and self.turns[done] <= batch[0].at:
                self._materialize(done)
                done += 1
            for stream in self.streams:
                if self.joined:
                    stream.advance_all(self.path, batch[0].at)
                else:
                    stream.advance(self.path, batch)
            for answer in self.path.ask([q.row for q in batch], [q.at for q in batch]):
                yield list(zip(*answer, strict=True))

    def _batches(self) -> Iterator[list[Question]]:
        """Runs of questions in which no state is asked at two instants, cut at the turns. Where
        rows take from other views, whose states are others', each run is of one instant."""
        batch: list[Question] = []
        seen: dict[Any, int] = {}
        for question in self.questions:
            keys = [
                (v, g) for v, stream in enumerate(self.streams) for g in stream.groups_of(question)
            ]
            crossing = batch and any(batch[0].at < turn <= question.at for turn in self.turns)
            apart = batch and self.joined and batch[0].at != question.at
            if crossing or apart or any(seen.get(k, question.at) != question.at for k in keys):
                yield batch
                batch, seen = [], {}
            batch.append(question)
            seen.update((k, question.at) for k in keys)
        if batch:
            yield batch

    def _materialize(self, turn: int) -> None:
        """Put what arrived by a turn into the states, by turns into a fresh start of them, or, what
        arrived since the last turn, in the place of what was pushed of it."""
        after = NEVER if turn % 2 == 0 else self.turns[turn - 1]
        if after == NEVER:
            self.path.clear()
        for stream in self.streams:
            stream.materialize(self.con, self.path, after, self.turns[turn])


def _streams(
    con: Any,
    project: Project,
    service: Service,
    relations: Sequence[EventRows],
    questions: list[Question],
) -> list[_Stream]:
    """The rows of each view that is asked, and of those from which these rows take something."""
    events = dict(zip((v.fingerprint for v in service.views), relations, strict=True))
    needed: dict[str, tuple[View, set[tuple[Any, ...]]]] = {}

    def fetch(view: View, wanted: Wanted) -> list[dict[str, Any]]:
        if view.fingerprint not in events:
            events[view.fingerprint] = project.events(con, view)
        own = of_values(con, view, events[view.fingerprint].relation, wanted)
        return tables.rows(con, own, column_types(view))

    made: list[_Stream] = []
    for view in service.stored:
        of = _Stream(con, project, service, view, events[view.fingerprint], questions)
        if view.source.joins:
            rows = tables.rows(con, of.sql, column_types(view))
            for other, more in others_of(view.source, rows, fetch).values():
                keys = needed.setdefault(other.fingerprint, (other, set()))[1]
                if other.explode is None and told_by_rows(other):
                    keys |= {tuple(row[p.name] for p in other.join_keys) for row in more}
        made.append(of)
    of_asked = {stream.view.fingerprint: i for i, stream in enumerate(made)}
    for name, (view, keys) in needed.items():
        if name not in events:
            events[name] = project.events(con, view)
        of = _Stream(con, project, service, view, events[name], questions, needed=keys)
        if name in of_asked:
            made[of_asked[name]] = of
        else:
            made.append(of)
    return made


class _Stream:
    """The rows of one view's asked entities, by arrival, whatever roles they are asked in; and
    those of the entities that are `needed`, from which rows of others take something.

    Of a source with ids, rows of other entities that share an id with them belong there too (T7):
    such entities are one group, whose rows are pushed together.
    """

    def __init__(
        self,
        con: Any,
        project: Project,
        service: Service,
        view: View,
        events: EventRows,
        questions: list[Question],
        *,
        needed: Collection[tuple[Any, ...]] = (),
    ) -> None:
        self.view = view
        self.names = [p.name for p in view.join_keys]
        self.roles = [
            [p.name for p in role.row_keys]
            for role in service.views
            if role.fingerprint == view.fingerprint
        ]
        asked = {tuple(q.row[n] for n in names) for q in questions for names in self.roles}
        asked |= {*needed}
        self.by = [(p.name, p.type) for p in view.join_keys]
        self.asked = [key for key in asked if None not in key]
        # The elements of a row may be of any entities, as may be what takes its key from another
        # view: then all rows are one group.
        self.whole = view.explode in self.names or not told_by_rows(view)
        event_id = view.source.event_id
        if self.whole:
            self.by, self.asked = [], [()]
        elif event_id is not None:
            of_asked = self._asked_events(con, events.relation)
            found = con.execute(f"SELECT DISTINCT {quote(event_id)} FROM {of_asked}").fetchall()
            self.by = [(p.name, p.type) for p in view.source.schema if p.name == event_id]
            self.asked = found
        self.sql = self._asked_events(con, events.relation)
        if needed or self.whole:  # it is read often
            self.sql = _kept(con, self.sql)
        self.events = EventRows(self.sql, events.prompt)
        self.rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self.fetched = sorted(self._fetch(con, project), key=lambda row: row["__created"])
        self.done = 0
        self.groups = {} if self.whole else _groups(self.fetched, self.names, event_id)
        for row in self.fetched:
            self.rows.setdefault(self.group_of(row), []).append(row)
        self.late = {
            key: [(r["__ts"], r["__created"]) for r in rows if r["__ts"] < r["__created"]]
            for key, rows in self.rows.items()
        }
        self.taken: dict[tuple[Any, ...], int] = {}

    def _asked_events(self, con: Any, relation: str) -> str:
        if self.whole:
            return relation
        return _of_asked(con, f"__asked_{self.view.name}", relation, self.by, self.asked)

    def _fetch(self, con: Any, project: Project) -> list[dict[str, Any]]:
        """The asked entities' events, those of the files as a push of them is read."""
        found: list[dict[str, Any]] = []
        for name in self.view.source_names:
            rows = self._fetch_of(con, project, project.repo.sources[name])
            if rows is None:
                return bare(self.view.source, self._canonical(con, self.sql))
            of = self.view.source
            found += map(dict, bare_rows(of, name, rows))
        wanted = {*self.asked}
        return [row for row in found if tuple(row[name] for name, _ in self.by) in wanted]

    def _fetch_of(
        self, con: Any, project: Project, source: EventSource
    ) -> list[dict[str, Any]] | None:
        """The asked entities' rows of one source; of one that stands in a union with ids, all of
        its rows. None where they cannot be read as a push reads them."""
        own = columns_of(self.view.source, source.name)
        told = bool(self.by) and all(name in own for name, _ in self.by)
        by = [(own[name], type_) for name, type_ in self.by] if told else []
        asked = self.asked if told else [()]
        read = _read_as_pushed(con, project, source, [name for name, _ in by], asked)
        if read is None:
            return None
        logged = segments(project.state_dir, source.name)
        if logged:
            relation = log_sql(con, logged, source)
            if told:
                relation = _of_asked(con, f"__asked_log_{self.view.name}", relation, by, asked)
            types = dict(source.schema) | {"__ts": INT, "__created": INT}
            read += tables.rows(con, relation, types)
        return project.forgotten(source).left(read)

    def _canonical(self, con: Any, relation: str) -> list[dict[str, Any]]:
        return tables.rows(con, relation, column_types(self.view))

    def groups_of(self, question: Question) -> list[tuple[Any, ...]]:
        """What names the rows that decide what is answered to a question, for each role once."""
        found = (self._top(tuple(question.row[n] for n in names)) for names in self.roles)
        return list(dict.fromkeys(found))

    def group_of(self, row: dict[str, Any]) -> tuple[Any, ...]:
        key = tuple(row[n] for n in self.names)
        if None in key and self.view.source.event_id in row:
            key = ("of no entity", row[self.view.source.event_id])
        return self._top(key)

    def _top(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.whole:
            return ()
        while key in self.groups:
            key = self.groups[key]
        return key

    def of_groups(self, groups: Groups) -> list[dict[str, Any]]:
        """The rows that decide what is answered, as a push reads them."""
        return [row for key in groups for row in self.rows.get(key, [])]

    def read_offline(self, con: Any, groups: Groups) -> list[dict[str, Any]]:
        """The same rows as DuckDB reads them, with what they take from other views."""
        return [row for row in self._canonical(con, self.sql) if self.group_of(row) in groups]

    def about(self, con: Any, wanted: Wanted) -> list[dict[str, Any]]:
        """The rows of some entities as DuckDB reads them, with what they take."""
        return self._canonical(con, of_values(con, self.view, self.sql, wanted))

    def advance_all(self, path: Online, until: int) -> None:
        """Push what arrived for any entity up to an instant."""
        end = bisect_right(self.fetched, until, key=lambda row: int(row["__created"]))
        if end > self.done:
            path.push([self.view], self.fetched[self.done : end])
            self.done = end

    def advance(self, path: Online, batch: list[Question]) -> None:
        """Push what arrived for the batch's entities up to their instants."""
        arrived: list[dict[str, Any]] = []
        for question, key in [(q, key) for q in batch for key in self.groups_of(q)]:
            rows, at = self.rows.get(key, []), self.taken.get(key, 0)
            end = at
            while end < len(rows) and rows[end]["__created"] <= question.at:
                end += 1
            arrived += rows[at:end]
            self.taken[key] = end
        path.push([self.view], arrived)

    def materialize(self, con: Any, path: Online, after: int, until: int) -> None:
        """Fill the states with what arrived in (after, until], from DuckDB."""
        path.materialize(con, self.view, self.events, after=after, until=until)
        self.done = sum(row["__created"] <= until for row in self.fetched)
        for key, rows in self.rows.items():
            self.taken[key] = sum(r["__created"] <= until for r in rows)

    def awaits(self, question: Question) -> bool:
        """Whether an event of the question's entity has happened and not arrived."""
        late = [pair for key in self.groups_of(question) for pair in self.late.get(key, ())]
        return any(ts <= question.at < created for ts, created in late)


def _kept(con: Any, sql: str) -> str:
    """A table of the rows of a relation."""
    name = f"__rows_{next(_numbers)}"
    con.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {sql}")
    return name


def _of_asked(
    con: Any,
    name: str,
    relation: str,
    by: Sequence[tuple[str, Type]],
    asked: Sequence[tuple[Any, ...]],
) -> str:
    """The rows of a relation that have one of the values that are asked for."""
    table = tables.temp_table(con, name, dict(by), asked)
    using = ", ".join(quote(column) for column, _ in by)
    return f"(SELECT * FROM {relation} SEMI JOIN {table} USING ({using}))"


def _delivered(rows: dict[str, list[dict[str, Any]]]) -> list[Delivery]:
    return [Delivery(source, row) for source, of_source in rows.items() for row in of_source]


def _values(delivery: Delivery) -> list[Any]:
    """What orders the rows of a source by their values first."""
    row = delivery.row
    named = [sort_value(v) for n, v in row.items() if not n.startswith("__")]
    return [delivery.source, *named, row["__created"], row["__ts"]]


def _groups(
    rows: list[dict[str, Any]], names: list[str], event_id: str | None
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """For entities that share an id with another: the one that stands for them, in steps."""
    above: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    if event_id is None:
        return above

    def top(key: tuple[Any, ...]) -> tuple[Any, ...]:
        while key in above:
            key = above[key]
        return key

    for row in rows:
        key = tuple(row[n] for n in names)
        # An id is a node beside the entities, and stands for rows that belong to none.
        of_id, of_row = top(("of no entity", row[event_id])), top(key)
        if None not in key and of_id != of_row:
            above[of_id] = of_row
    return above


def _read_as_pushed(
    con: Any,
    project: Project,
    source: EventSource,
    keys: list[str],
    asked: list[tuple[Any, ...]],
) -> list[dict[str, Any]] | None:
    """The rows of a source's files about some entities, read value by value as a push reads them:
    local times, types and nulls by Python, where DuckDB read them for training.

    None where rows of the files were set aside, and for files of other formats than Parquet and
    CSV.
    """
    if absent(source, project.path):
        return []
    found = read_events(con, source, base=project.path, state_dir=project.state_dir)
    told = source.format in ("parquet", "csv") or source.origin is not None
    if not told or found.quarantined:
        return None
    # A local time in a file is an instant in the question, and so are texts and numbers of one.
    values = {
        key: {row[i] for row in asked}
        for i, key in enumerate(keys)
        if source.schema[key].name != "datetime"
    }
    rows: list[dict[str, Any]] = []
    for file in found.files:
        given = file_rows(source, file, values, state_dir=project.state_dir)
        rows += as_pushed(source, given, arrived=file.arrived)
    wanted = set(asked)
    return [row for row in rows if tuple(row[k] for k in keys) in wanted]
