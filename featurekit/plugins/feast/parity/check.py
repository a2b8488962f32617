"""Compares both paths of a view or a service of a Feast repo, at each of some instants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.screen import Advance
from featurekit.core.types import instant
from featurekit.errors import FeaturekitError
from featurekit.parity.compare import Stated
from featurekit.parity.report import Difference
from featurekit.plugins.feast.parity.causes import CAUSES, LAG, Cause, FeastDiagnosis
from featurekit.plugins.feast.parity.diagnose import Case, cause_of
from featurekit.plugins.feast.parity.on_demand import Inputs, input_refs, raised_cause
from featurekit.plugins.feast.parity.paths import Answers, Column, Raised, offline, online
from featurekit.plugins.feast.parity.probes import Probes
from featurekit.plugins.feast.parity.questions import Question
from featurekit.plugins.feast.parity.report import FeastReport
from featurekit.plugins.feast.parity.source import Key, Row, Rows
from featurekit.plugins.feast.parity.targets import Feature, Part, Target, target_of
from featurekit.plugins.feast.parity.values import same

_SHOWN_ROWS = 4


class Check:
    """A check of one target: online is asked once, and offline at each instant."""

    def __init__(
        self,
        store: Any,
        report: FeastReport,
        target: Target,
        questions: Sequence[Question],
        sources: Mapping[str, Rows],
        *,
        statuses: bool,
    ) -> None:
        self.store, self.target, self.questions = store, target, questions
        self.statuses, self.probes, self.report = statuses, Probes(store), report
        self.sources = sources
        self._loaded: dict[tuple[str, str], dict[Key, list[Row]]] = {}
        self.online: Answers | Raised = Raised(RuntimeError())

    def run(self, instants: Sequence[int], progress: Advance) -> None:
        """Compare as of each of the instants, in microseconds."""
        began, steps = time.monotonic(), len(instants) + 1
        self.online = online(self.store, self.target, self.questions)
        progress(1, steps)
        for done, at in enumerate(instants):
            self._compare(at)
            progress(done + 2, steps)
        self.report.rows += len(self.questions) * len(instants)
        self.report.seconds += time.monotonic() - began

    def _compare(self, at: int) -> None:
        found = offline(self.store, self.target, self.questions, at)
        theirs = self.online
        if isinstance(found, Raised) or isinstance(theirs, Raised):
            self._raised(at, found, theirs)
            return
        of_instant = _Instant(self, at, found, theirs)
        for feature in self.target.features:
            mine, other = found.get(feature.column), theirs.get(feature.column)
            if mine is None or other is None:
                which = "offline" if mine is None else "online"
                self.report.unchecked[f"{feature.ref}: {which} gives no such column"] += 1
                continue
            of_instant.compare(feature, mine, other)

    def _raised(self, at: int, mine: Answers | Raised, other: Answers | Raised) -> None:
        """One path raised, or both. Both is no difference, and nothing was checked."""
        if isinstance(mine, Raised) and isinstance(other, Raised):
            self.report.unchecked[f"rows, of which both paths raised: {mine.error}"] += len(
                self.questions
            )
            return
        views = [f.on_demand for f in self.target.features if f.on_demand is not None]
        if not views:  # no function of the repo ran, so that it is no difference of values
            for which, one in (("offline", mine), ("online", other)):
                if isinstance(one, Raised):
                    raise FeaturekitError(f"{self.target.name}: {which} {one.told}")
        for feature in self.target.features:
            cause = raised_cause(feature.on_demand or (views or [None])[0], mine, other)
            for row in range(len(self.questions)):
                pair = _raised_pair(mine, feature, row), _raised_pair(other, feature, row)
                self.count(feature, row, at, pair, cause)

    def count(self, feature: Feature, row: int, at: int, pair: Any, cause: Cause | None) -> None:
        """Count a value: one that agrees, one that lags, or one that differs with its cause."""
        found = self.report
        found.count(feature.ref, compared=1, statuses={pair[0][1]: 1})
        counts = found.features[feature.ref]
        counts.nulls += pair[0][0] is None
        if cause is None:
            return
        if cause.name == LAG:
            counts.lagging += 1
            return
        counts.differing += 1
        found.causes[feature.ref, cause.name] += 1
        question, as_of = self.questions[row], instant(at).isoformat()
        where, shown = _where(feature), self._shown(feature, row, at)
        mine, theirs = pair
        told = FeastDiagnosis(feature.ref, question, as_of, mine, theirs, cause, where, shown)
        found.keep(Difference(feature.ref, question, as_of, mine, theirs, diagnosis=told))

    def load(self, feature: Feature, rows: Sequence[int]) -> None:
        """Read what the source has of the entities of some questions, unless that is known."""
        part = feature.part
        if part is None:
            return
        known = self._loaded.setdefault((part.title, feature.name), {})
        keys = dict.fromkeys(_key(part, self.questions[row]) for row in rows)
        if new := [key for key in keys if key not in known]:
            source = self.sources[part.title]
            columns = [feature.name, *self.probes.collisions(part, feature.name)]
            if getattr(part.view, "feature_transformation", None) is not None:
                columns = source.columns  # its function may read any of them
            known.update(source.of(new, columns))

    def rows_of(self, feature: Feature, row: int) -> tuple[Key, list[Row]]:
        """The entity of a question, and its rows in the source of a feature."""
        assert feature.part is not None
        self.load(feature, [row])
        key = _key(feature.part, self.questions[row])
        return key, self._loaded[feature.part.title, feature.name][key]

    def other_rows(self, feature: Feature, row: int) -> Sequence[Row]:
        """The rows of the entity that a question names by the view's own names of its join keys,
        where the view is asked under others."""
        part, question = feature.part, self.questions[row]
        if part is None or not all(name in question for name in part.columns):
            return ()
        other = tuple(question[name] for name in part.columns)
        if other == _key(part, question):
            return ()
        known = self._loaded.setdefault((part.title, feature.name), {})
        if other not in known:
            known.update(self.sources[part.title].of([other], [feature.name]))
        return known[other]

    def _shown(self, feature: Feature, row: int, at: int) -> tuple[dict[str, str], ...]:
        """The latest rows of the entity by the instant, for people."""
        if feature.part is None:
            return ()
        past = [one for one in self.rows_of(feature, row)[1] if one.ts <= at]
        return tuple(
            {
                "happened": instant(one.ts).isoformat(),
                **({} if one.created is None else {"created": instant(one.created).isoformat()}),
                feature.name: repr(one.values.get(feature.name)),
            }
            for one in past[-_SHOWN_ROWS:]
        )


def in_groups(
    store: Any, target: Target, questions: Sequence[Question]
) -> list[Sequence[Question]]:
    """The questions as they are asked together. Those of on-demand views whose inputs all have
    values stand apart: beside a null, pandas gives a function other types."""
    refs = [ref for one in target.features if one.on_demand for ref in input_refs(one.on_demand)]
    if not refs:
        return [questions]
    found = online(store, target_of(store, target.name, list(dict.fromkeys(refs))), questions)
    columns = [] if isinstance(found, Raised) else [column.values for column in found.values()]
    some = [any(column[row] is None for column in columns) for row in range(len(questions))]
    groups = [
        [q for q, null in zip(questions, some, strict=True) if null is has] for has in (False, True)
    ]
    return [group for group in groups if group]


class _Instant:
    """The comparison as of one instant."""

    def __init__(self, check: Check, at: int, mine: Answers, other: Answers) -> None:
        self.check, self.at, self.mine, self.other = check, at, mine, other
        self.inputs: dict[str, Inputs | None] = {}

    def compare(self, feature: Feature, mine: Column, other: Column) -> None:
        """Compare each row of a feature."""
        every = range(len(self.check.questions))
        pairs = zip(every, mine.values, other.values, strict=True)
        self.check.load(
            feature, [row for row, a, b in pairs if a is None or not same(a, b, feature.type)]
        )
        for row in every:
            if not mine.given[row] and other.values[row] is None:
                self.check.report.unchecked["values of rows that offline left out"] += 1
                continue
            status = self._status(feature, row, mine)
            pair = (mine.values[row], status), (other.values[row], other.statuses[row])
            if feature.part is not None and _ahead(feature.part, other.happened[row], self.at):
                self.check.report.unchecked[
                    "values whose row online is later than the instant asked about"
                ] += 1
                continue
            self.check.count(feature, row, self.at, pair, self._cause(feature, row, pair, other))

    def _cause(self, feature: Feature, row: int, pair: Any, other: Column) -> Cause | None:
        """None where the values agree."""
        (mine, _), (theirs, status) = pair
        if other.given[row] and same(mine, theirs, feature.type):
            missing = self.check.statuses and status == "PRESENT" and pair[0][1] == "NOT_FOUND"
            return Cause("missing entity") if missing and theirs is None else None
        if feature.part is not None:
            return self.explain(feature, row, mine, theirs, other.happened[row])
        if not other.given[row]:
            return raised_cause(feature.on_demand, None, None)
        inputs = self._inputs(feature.on_demand)
        return inputs.cause_of(feature, row, mine, theirs)

    def explain(
        self, feature: Feature, row: int, mine: Any, theirs: Any, held: int | None
    ) -> Cause:
        """The cause of a difference of a feature of a feature view."""
        assert feature.part is not None
        key, rows = self.check.rows_of(feature, row)
        others, probes = self.check.other_rows(feature, row), self.check.probes
        return cause_of(
            Case(feature, feature.part, key, mine, theirs, self.at, held, rows, others, probes)
        )

    def _inputs(self, view: Any) -> Inputs:
        """What an on-demand view reads, asked once."""
        if view.name not in self.inputs:
            check, refs = self.check, input_refs(view)
            target = target_of(check.store, view.name, refs) if refs else None
            mine: Any = offline(check.store, target, check.questions, self.at) if target else {}
            theirs: Any = online(check.store, target, check.questions) if target else {}
            answered = {} if isinstance(theirs, Raised) else theirs

            def explain(feature: Feature, row: int) -> str:
                check.load(feature, range(len(check.questions)))
                pair = mine[feature.column].values[row], answered[feature.column].values[row]
                found = self.explain(feature, row, *pair, answered[feature.column].happened[row])
                return f"{found.name}: {CAUSES.get(found.name, 'its row was not materialised yet')}"

            self.inputs[view.name] = Inputs(
                view, target, check.questions, {} if isinstance(mine, Raised) else mine, answered,
                explain,
            )  # fmt: skip
        made = self.inputs[view.name]
        assert made is not None
        return made

    def _status(self, feature: Feature, row: int, mine: Column) -> str:
        """What the source says of a value that Feast's offline has no status of."""
        if mine.values[row] is not None:
            return "PRESENT"
        if feature.part is None:
            return "NULL_VALUE"
        past = [one for one in self.check.rows_of(feature, row)[1] if one.ts <= self.at]
        if not past:
            return "NOT_FOUND"
        ttl = feature.part.ttl_us
        stale = ttl is not None and self.at - past[-1].ts > ttl
        return "OUTSIDE_MAX_AGE" if stale else "NULL_VALUE"


def _ahead(part: Part, held: int | None, at: int) -> bool:
    """Whether online stands for a later instant than is asked about: it was pushed to since."""
    return held is not None and held > at and at == part.filled_us


def _key(part: Part, question: Question) -> Key:
    return tuple(question[column] for column in part.columns.values())


def _raised_pair(answers: Answers | Raised, feature: Feature, row: int) -> Stated:
    if isinstance(answers, Raised):
        return answers, "ERROR"
    column = answers.get(feature.column)
    return (None, "NOT_FOUND") if column is None else (column.values[row], "PRESENT")


def _where(feature: Feature) -> str:
    if feature.part is None:
        title = feature.ref.split(":", 1)[0]
        return f"the function of the on-demand view {title!r}"
    return f"view {feature.part.view.name!r}, source {feature.part.view.batch_source.name!r}"
