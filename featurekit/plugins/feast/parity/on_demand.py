"""Turns a value of an on-demand view that differs into its cause, by what its function is given."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from featurekit.plugins.feast.parity.causes import UNKNOWN, Cause
from featurekit.plugins.feast.parity.paths import Answers, Raised
from featurekit.plugins.feast.parity.questions import Question
from featurekit.plugins.feast.parity.targets import Feature, Target
from featurekit.plugins.feast.parity.values import change_of, same

Explain = Callable[[Feature, int], str]
"""The cause of a difference of a feature that the function reads, of one row."""


def input_refs(view: Any) -> list[str]:
    """The references of the features that an on-demand view reads."""
    return [
        f"{projection.name_to_use()}:{field.name}"
        for projection in view.source_feature_view_projections.values()
        for field in projection.features
    ]


class Inputs:
    """What an on-demand view reads on both paths, for the same questions at the same instant."""

    def __init__(
        self,
        view: Any,
        inputs: Target | None,
        questions: Sequence[Question],
        offline: Answers,
        online: Answers,
        explain: Explain,
    ) -> None:
        self.view, self.inputs, self.questions = view, inputs, questions
        self.offline, self.online, self.explain = offline, online, explain
        self._made: dict[str, Mapping[str, list[Any]] | None] = {}

    def cause_of(self, feature: Feature, row: int, offline: Any, online: Any) -> Cause:
        """Why the two values of a row differ; UNKNOWN where no check shows it."""
        for one in () if self.inputs is None else self.inputs.features:
            mine, theirs = self.offline.get(one.column), self.online.get(one.column)
            if mine is None or theirs is None:
                continue
            if not same(mine.values[row], theirs.values[row], one.type):
                return Cause("input differs", (f"{one.ref}: {self.explain(one, row)}",))
        changed = change_of(offline, online, feature.type)
        if changed is not None:
            return Cause(changed)
        given = self._given("offline"), self._given("online")
        if all(self._gives(which, feature, row, value)
               for which, value in (("offline", offline), ("online", online))):  # fmt: skip
            parted = [
                f"{name}: {mine.type} offline, {theirs.type} online"
                for name, mine, theirs in _columns(*given)
                if mine.type != theirs.type
            ]
            if parted:
                return Cause("on-demand types widened", tuple(parted))
        return UNKNOWN

    def _gives(self, which: str, feature: Feature, row: int, value: Any) -> bool:
        """Whether the function, given the columns of a path, gives the value of that path."""
        if which not in self._made:
            self._made[which] = _run(self.view, self._given(which), python=which == "online")
        made = self._made[which]
        if made is None or feature.name not in made or row >= len(made[feature.name]):
            return False
        return same(made[feature.name][row], value, feature.type)

    def _given(self, which: str) -> pa.Table:
        """The columns that a path gives the function."""
        answers = self.offline if which == "offline" else self.online
        made: dict[str, Any] = {}
        for name in self.questions[0]:
            made[name] = pa.array([question[name] for question in self.questions])
        for one in () if self.inputs is None else self.inputs.features:
            column = answers.get(one.column)
            if column is not None:
                made[one.name] = pa.array(column.values, column.type, from_pandas=False)
        return pa.table(made)


def _columns(one: pa.Table, other: pa.Table) -> list[tuple[str, Any, Any]]:
    return [(n, one[n], other[n]) for n in one.column_names if n in other.column_names]


def _run(view: Any, table: pa.Table, *, python: bool) -> Mapping[str, list[Any]] | None:
    """What the function of a view makes of a table, as Feast calls it; None where it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if python and view.mode == "python":
                made: dict[str, list[Any]] = view.transform_dict(table.to_pydict())
                return made
            found = view.transform_arrow(table)
            return {name: found[name].to_pylist() for name in found.column_names}
    except Exception:  # the functions of a repo raise what they like
        return None


def raised_cause(view: Any, offline: Any, online: Any) -> Cause:
    """Why one path of an on-demand view raises, or gives fewer values than rows."""
    told = tuple(
        f"{path} {one.told}"
        for path, one in (("offline", offline), ("online", online))
        if isinstance(one, Raised)
    )
    if getattr(view, "singleton", False) and view.mode == "python":
        return Cause("singleton on-demand view", told)
    return Cause("raised", told)
