"""Turns the functions of a feature into the texts of their programs: as they are written, as Python
that is compiled, and as SQL."""

from __future__ import annotations

import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from featurekit.aggregates import Aggregate
from featurekit.core.sql import quote
from featurekit.define.definitions import FeatureView
from featurekit.define.plan import Feature, Service, View
from featurekit.language import ir
from featurekit.language.listing import lines
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import python_source
from featurekit.language.transform import Transform

_MOST_LETTERS = 20_000
"""Of a longer program only so many letters are shown."""


@dataclass(frozen=True, slots=True)
class Code:
    """A function and what it is compiled to. `role` says what its result is for a feature. The SQL
    gives its `value` for each row and, where it may err and may be None, `error`."""

    name: str
    role: str
    written: str
    python: str
    sql: str


class Codes:
    """The programs of functions, each compiled once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ir.Function, str, str]] = {}

    def of_feature(self, written: FeatureView, view: View, feature: Feature) -> Iterator[Code]:
        """The functions of a view's feature: of its value, and of which events count."""
        defined = written.features[feature.name]
        if feature.asked is not None:
            yield self.of(feature.asked.function, "value", defined, "the latest row")
        if feature.ahead is not None and feature.ahead.function is not None:
            yield self.of(feature.ahead.function, "value", defined, "the view's other labels")
        own: dict[str, object] = {"value": defined}
        if isinstance(defined, Aggregate):
            own = {"value": defined.input, "filter": defined.where, "group": defined.by}
        for role, index in (
            ("value", feature.slot),
            ("filter", feature.where),
            ("group", feature.by),
        ):
            slot = None if index is None else view.slots[index]
            if slot is not None and slot.transform is not None:
                yield self.of(slot.transform, role, own.get(role), view.source.title)

    def of_output(self, service: Service, index: int, written: Transform | None) -> Code:
        """The function of a feature at request time."""
        return self.of(service.transforms[index].function, "value", written, "the row asked for")

    def of(self, function: ir.Function, role: str, written: object, relation: str) -> Code:
        """A function's programs. `written` is the transform that it was compiled from."""
        found = self._known.get(id(function))
        if found is None:
            found = function, _python(function), sql_of(function, relation)
            self._known[id(function)] = found
        shown = _cut(lambda: _source(written)) if isinstance(written, Transform) else ""
        return Code(function.name, role, shown or "\n".join(lines(function)), *found[1:])


def sql_of(function: ir.Function, relation: str) -> str:
    """The SELECT that gives a function's value for each row of a relation."""
    lowering = Lowering()
    value = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    layers, before = [], quote(relation)
    for number, layer in enumerate(lowering.layers):
        columns = "".join(f",\n    {text} AS {name}" for name, text in layer)
        layers.append(f'"step {number + 1}" AS (\n  SELECT *{columns}\n  FROM {before}\n)')
        before = f'"step {number + 1}"'
    wanted = f"{value.sql.text} AS value"
    if value.error is not None:
        wanted += f",\n  {value.error.text} AS error"
    steps = f"WITH {', '.join(layers)}\n" if layers else ""
    return _cut(lambda: f"{steps}SELECT\n  {wanted}\nFROM {before}")


def _python(function: ir.Function) -> str:
    text, constants = python_source(function)
    named = [
        f"{name} = {value!r}"
        for name, value in constants.items()
        if isinstance(value, (bool, int, float, str, bytes, tuple, list, dict, frozenset))
    ]
    return _cut(lambda: "\n".join([*named, *([""] if named else []), text]))


def _source(written: Transform) -> str:
    """The function as its author wrote it; nothing where its text is not there any more."""
    code = getattr(inspect.unwrap(written.function), "__code__", None)
    if code is None:
        return ""
    # `inspect.getsource` would take the text apart once more to find its end, which takes as long
    # as all the rest of a page.
    last = max((end for _, end, *_ in code.co_positions() if end), default=0)
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last]
    return textwrap.dedent("".join(lines)).rstrip()


def _cut(text: Callable[[], str]) -> str:
    made = text()
    if len(made) <= _MOST_LETTERS:
        return made
    return f"{made[:_MOST_LETTERS]}\n… and {len(made) - _MOST_LETTERS:,} letters more"
