"""Adds a third opinion to a report: what both paths share is asked of what shares no code with
them.

The plain functions of the repo are called on a sample of rows (`plain`), and a sample of the files'
rows is read by other readers (`reread`). Every mode that compares a service ends with this.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from featurekit.core import tables
from featurekit.core.status import ERROR_STATUS
from featurekit.core.tables import Row
from featurekit.core.types import instant
from featurekit.core.values import ERROR
from featurekit.define.plan import Input, Output, RequestTransform, Service, View
from featurekit.language.to_python import to_python
from featurekit.parity.compare import Answers
from featurekit.parity.paths import Asked, Offline
from featurekit.parity.plain import check_plain_requests, check_plain_rows
from featurekit.parity.questions import draw
from featurekit.parity.report import Report
from featurekit.parity.reread import check_reading
from featurekit.parity.scenario import column_types, lenient
from featurekit.project.project import Project

_ROWS = 100


def add_third_opinion(project: Project, service: Service, report: Report) -> None:
    """Compare a sample of the rows of a service's sources with the plain functions of the repo and
    with other readers, and count both in the report."""
    rng = random.Random(f"{report.seed}:{report.mode}:{service.name}")
    con = project.connect()
    try:
        readable = [view for view in service.stored if project.readable(view)]
        relations = {v.source.name: project.events(con, v).relation for v in readable}
        rows = {
            view.source.name: _sample(con, view, relations[view.source.name], rng)
            for view in readable
        }
        check_plain_rows(report, con, project.repo, service, rows, rng)
        if service.transforms and len(readable) == len(service.stored):
            of_views = [relations[view.source.name] for view in service.views]
            given = _Given(project, con, service, of_views, rng)
            check_plain_requests(report, con, project.repo, service, given.arguments)
        for name in dict.fromkeys(n for view in readable for n in view.source_names):
            check_reading(
                report,
                con,
                project.source(name),
                base=project.path,
                state_dir=project.state_dir,
                rng=rng,
            )
    finally:
        con.close()


def _sample(con: Any, view: View, relation: str, rng: random.Random) -> list[Row]:
    seed = rng.getrandbits(32)
    chosen = f"ORDER BY hash(__ts, __created, {seed}), __ts, __created LIMIT {_ROWS}"
    return tables.rows(con, relation, column_types(view), then=chosen)


class _Given:
    """Arguments of a service's transforms: the request fields, keys and features of some rows."""

    def __init__(
        self,
        project: Project,
        con: Any,
        service: Service,
        relations: Sequence[str],
        rng: random.Random,
    ) -> None:
        self.service = service
        questions = draw(con, service, relations, rows=_ROWS, rng=rng) if relations else []
        self.asked = Asked.of(service, [q.row for q in questions], [q.at for q in questions])
        self.answers: Answers | None = None
        self.places: dict[tuple[int, int], int] = {}
        if questions and service.views:
            every = _every_feature(service)
            self.places = {(o.view, o.index): i for i, o in enumerate(every.outputs)}
            self.answers = Offline(project.training_set).answers(every, self.asked)

    def arguments(self, transform: RequestTransform) -> Iterable[list[Any]]:
        """The arguments for each row of which no input errs."""
        for i in range(len(self.asked.at)):
            given = self._of_row(transform, i)
            if not any(value is ERROR for value in given):
                yield given

    def _of_row(self, transform: RequestTransform, row: int) -> list[Any]:
        return [self._value(given, row) for given in transform.inputs]

    def _value(self, given: Input, row: int) -> Any:
        match given.kind:
            case "instant":
                return instant(self.asked.at[row])
            case "feature":
                assert self.answers is not None
                place = self.places[given.view, given.index]
                value, status = self.answers.offline(place, row)
                return ERROR if status == ERROR_STATUS else value
            case "transform":
                inner = self.service.transforms[given.index]
                arguments = self._of_row(inner, row)
                if any(value is ERROR for value in arguments):
                    return ERROR
                return to_python(inner.function)(*arguments)
            case _:
                return self.asked.columns[given.name][row]


def _every_feature(service: Service) -> Service:
    """The service whose outputs are all features of its views, and no transform."""
    outputs = [
        Output(f"__{v}_{i}", f"__{v}_{i}", v, i, feature.type, "")
        for v, view in enumerate(service.views)
        for i, feature in enumerate(view.features)
    ]
    return replace(lenient(service), transforms=(), outputs=tuple(outputs))
