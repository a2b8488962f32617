"""Turns Feast's on-demand views into functions of one row, each compiled before it is written."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.plugins.feast.importing.compiling import fault_of
from featurekit.plugins.feast.importing.draft import Draft, OnDemandDraft, described, plain_name
from featurekit.plugins.feast.importing.helpers import Needs, source_of
from featurekit.plugins.feast.importing.hints import field_hint, hint_of, instead_of, value_type
from featurekit.plugins.feast.importing.python_text import (
    Part,
    call,
    double_quoted,
    rendered,
    text,
    unparsed,
)
from featurekit.plugins.feast.importing.rowwise import (
    NotRowWise,
    Rows,
    Step,
    names_read,
    row_wise,
    sliced,
)
from featurekit.plugins.feast.importing.told import Told
from featurekit.plugins.feast.importing.views import Lost

_BARE = {"bool", "int", "float", "str", "bytes"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the function of an on-demand view may read: the variable of each column, and the hint of
    each variable."""

    columns: dict[str, str]
    hints: dict[str, str]
    reads: list[str]
    request: dict[str, str]


def draft_on_demand(draft: Draft) -> None:
    """Draft each on-demand view."""
    for view in draft.repo.contents.on_demand_feature_views:
        told = draft.report.about("on-demand view", view.name)
        try:
            made = _drafted(draft, view, told)
        except Lost as lost:
            told.lost(lost.why, lost.instead)
            for field in view.features:
                draft.report.about("feature", f"{view.name}:{field.name}").lost(
                    "its on-demand view did not come over", "see the view"
                )
            continue
        draft.on_demand[view.name] = made
        told.here = ", ".join(made.outputs.values())


def _drafted(draft: Draft, view: Any, told: Told) -> OnDemandDraft:
    mode = str(getattr(view.mode, "value", view.mode)).lower()
    if view.aggregations:
        raise Lost(
            "its aggregations are over the rows of one request",
            "send them as a list in the request, and write `sum(amounts)` in a @feature",
        )
    if mode not in ("pandas", "python"):
        raise Lost(f"its function is in the mode {mode!r}", "write it as a @feature of one row")
    udf = getattr(view.feature_transformation, "udf", None) or view.udf
    source = None if udf is None else source_of(udf)
    if source is None:
        raise Lost("the text of its function is not to be had", "write it as a @feature")
    inputs = _inputs(draft, view)
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    try:
        rows = row_wise(
            function, inputs.columns, inputs.hints, udf.__globals__,
            mode=mode, singleton=bool(view.singleton),
        )  # fmt: skip
    except NotRowWise as error:
        raise Lost(str(error), error.instead) from None
    if view.write_to_online_store:
        told.changed("it is computed when it is asked for; nothing of it is written online")
    if mode == "pandas":
        told.changed(
            "where an input is None, so is the feature, where pandas has NaN; a division by zero "
            "is an error with a status, where pandas has inf (R3)"
        )
    writer = _Writer(draft, view, inputs, rows, udf.__globals__, ast.get_docstring(function))
    return writer.written(function.name)


def _inputs(draft: Draft, view: Any) -> Inputs:
    """The columns that the function is given, under their short and full names."""
    columns: dict[str, str] = {}
    hints: dict[str, str] = {}
    reads = []
    shared = _shared_names(view)
    for projection in view.source_feature_view_projections.values():
        made = draft.views.get(projection.name)
        if made is None:
            raise Lost(f"its source {projection.name!r} did not come over", "see that view")
        reads.append(projection.name)
        for field in projection.features:
            if field.name not in made.names:
                continue
            here = made.names[field.name]
            full = f"{made.name}__{here}"
            variable = full if field.name in shared or here in draft.taken_twice else here
            columns[field.name] = columns[f"{projection.name_to_use()}__{field.name}"] = variable
            hints[variable] = made.hints[here]
        for key, type_ in made.keys.items():
            columns.setdefault(key, key)
            hints.setdefault(key, f"{type_} | None")
    request = {}
    for source in view.source_request_sources.values():
        for field in source.schema:
            hint = hint_of(field.dtype)
            if hint is None:
                raise Lost(
                    f"featurekit has no type for its request field {field.name!r}, "
                    f"{value_type(field.dtype).name}",
                    instead_of(field.dtype),
                )
            columns[field.name] = field.name
            request[field.name] = hints[field.name] = hint
    return Inputs(columns, hints, reads, request)


def _shared_names(view: Any) -> set[str]:
    """Names that two sources of an on-demand view have."""
    names = [f.name for p in view.source_feature_view_projections.values() for f in p.features]
    names += [f.name for s in view.source_request_sources.values() for f in s.schema]
    return {name for name in names if names.count(name) > 1}


@dataclass(slots=True)
class _Writer:
    """Writes the functions of one on-demand view."""

    draft: Draft
    view: Any
    inputs: Inputs
    rows: Rows
    scope: Mapping[str, Any]
    doc: str | None

    def written(self, function: str) -> OnDemandDraft:
        """The functions; Lost where not one of them compiles."""
        needs = Needs(imports=set(self.rows.imports))
        bodies: dict[str, str] = {}
        outputs: dict[str, str] = {}
        if self.rows.whole:
            self._whole(function, needs, bodies, outputs)
        else:
            for field in self.view.features:
                self._one(field, needs, bodies, outputs)
        if not outputs:
            raise Lost("none of its features came over", "see its features")
        self.draft.imports |= {"from featurekit import feature"}
        return OnDemandDraft(
            self.view.name,
            self._module(),
            "\n\n\n".join([_module_needs(needs), *bodies.values()]).strip("\n"),
            outputs,
            self.inputs.reads,
            self.inputs.request,
            needs.imports,
        )

    def _module(self) -> str:
        """The module of the functions: one of its own where another on-demand view has a feature of
        the same name."""
        shared = any(field.name in self.draft.twice for field in self.view.features)
        return self.draft.variable(plain_name(self.view.name), "module") if shared else ""

    def _one(
        self, field: Any, needs: Needs, bodies: dict[str, str], outputs: dict[str, str]
    ) -> None:
        """A feature as a function of its own."""
        said = self.draft.report.about("feature", f"{self.view.name}:{field.name}")
        hint = field_hint(field)
        if field.name not in self.rows.outputs:
            said.lost("its function does not give it", "leave it out of the schema")
            return
        if hint is None:
            said.lost(
                f"featurekit has no type for {value_type(field.dtype).name}",
                instead_of(field.dtype),
            )
            return
        name = plain_name(field.name)
        if name != field.name:
            said.changed(f"it is called `{name}` here")
        hint = "list[float]" if hint.startswith("Vector") else hint
        result = self.rows.outputs[field.name]
        candidates = [
            _Candidate(self, name, hint, sliced(self.rows, field.name), value, guard)
            for guard in (False, True)
            for value in _results(result, hint)
        ]
        self._first(name, candidates, needs, bodies, outputs, field.name, said)

    def _whole(
        self, function: str, needs: Needs, bodies: dict[str, str], outputs: dict[str, str]
    ) -> None:
        """A function that returns at several places, with all of its features each time."""
        fields = {f.name: field_hint(f) for f in self.view.features}
        lost = [name for name, hint in fields.items() if hint is None]
        if lost:
            raise Lost(f"featurekit has no type for {', '.join(lost)}", "leave these out")
        (only, *more) = fields
        name = plain_name(only if not more else function)
        steps = self.rows.steps if more else [_unpacked(s, only) for s in self.rows.steps]
        hint = str(fields[only]) if not more else _camel(self.view.name)
        said = self.draft.report.about("on-demand view", self.view.name)
        candidates = [_Candidate(self, name, hint, steps, None, guard) for guard in (False, True)]
        for candidate in candidates:
            candidate.fields = {n: f"{h} | None" for n, h in fields.items()} if more else {}
        self._first(name, candidates, needs, bodies, outputs, only, said)
        if more and outputs:
            outputs.update({one: f'{name}["{one}"]' for one in fields})

    def _first(
        self,
        name: str,
        candidates: Sequence[_Candidate],
        needs: Needs,
        bodies: dict[str, str],
        outputs: dict[str, str],
        output: str,
        said: Told,
    ) -> None:
        """Write the first candidate that compiles, or one that runs as Python."""
        faults: list[str] = []
        for as_python in (False, True):
            for candidate in candidates:
                own = Needs(imports=set(self.rows.imports))
                body = candidate.text(as_python=as_python)
                read = {n.id for n in ast.walk(ast.parse(body)) if isinstance(n, ast.Name)}
                given = {*dir(builtins), *candidate.parameters(), name}
                own.take(read - given, self.scope)
                module = _module(own, body)
                parts = [f"{name}.{f}" for f in candidate.fields] or [name]
                fault = fault_of(module, parts)
                if fault is None:
                    _merge(needs, own)
                    bodies[name], outputs[output] = body, name
                    if as_python:
                        said.changed(
                            "it runs as Python on both paths, which is slower "
                            '(`on_unsupported="python"`)',
                            f"for a compiled one: {faults[0]}",
                        )
                    said.here = name
                    return
                faults.append(fault)
        said.lost(f"the compiler says: {faults[0]}", "write it as a @feature of one row")


@dataclass(slots=True)
class _Candidate:
    """A way to write one function. `guard` returns None where any input is None, whatever the
    function tests itself."""

    writer: _Writer
    name: str
    hint: str
    steps: list[Step]
    result: ast.expr | None
    guard: bool
    fields: dict[str, str] | Sequence[str] = ()

    def parameters(self) -> list[str]:
        """The inputs that are read, in their order."""
        read = {n for step in self.steps for n in step.reads}
        read |= names_read(self.result) if self.result is not None else set()
        known = dict.fromkeys(self.writer.inputs.columns.values())
        return [name for name in known if name in read]

    def text(self, *, as_python: bool) -> str:
        hints = self.writer.inputs.hints
        parameters = self.parameters()
        optional = [n for n in parameters if "None" in hints[n]]
        tested = set() if self.guard else self.writer.rows.tested
        guarded = [n for n in optional if n not in tested]
        returns = self.hint + (" | None" if optional and not self.fields else "")
        signature = Part(f"def {self.name}", "()", [f"{n}: {hints[n]}" for n in parameters])
        lines = [f"{self._decorator(as_python)}"]
        lines.append(f"{rendered(signature, after=len(returns) + 5)} -> {returns}:")
        doc = " ".join((self.writer.doc or "").split())
        if doc:
            lines.append(f'    """{doc}"""')
        if guarded:
            lines.append(f"    if {' or '.join(f'{n} is None' for n in guarded)}:")
            lines.append(f"        return {self._none()}")
        steps, result = _folded(self.steps, self.result)
        for step in steps:
            lines += [f"    {line}" for line in unparsed(step.statement).splitlines()]
        if result is not None:
            lines.append(f"    return {unparsed(result)}")
        return "\n".join([*self._class(), *lines])

    def _decorator(self, as_python: bool) -> str:
        named = described(self.writer.view)
        if self.writer.doc:
            named["description"] = None
        if as_python:
            named["on_unsupported"] = text("python")
        given = {key: value for key, value in named.items() if value is not None}
        return rendered(call("@feature", **given)) if given else "@feature"

    def _none(self) -> str:
        if not self.fields:
            return "None"
        return "{" + ", ".join(f"{text(n)}: None" for n in self.fields) + "}"

    def _class(self) -> list[str]:
        if not isinstance(self.fields, dict):
            return []
        fields = [f"    {name}: {hint}" for name, hint in self.fields.items()]
        return [f"class {self.hint}(TypedDict):", *fields, "", ""] if fields else []


def _folded(
    steps: Sequence[Step], result: ast.expr | None
) -> tuple[Sequence[Step], ast.expr | None]:
    """The steps without a last one that only names the result."""
    if steps and result is not None:
        last = steps[-1].statement
        number = sum(isinstance(n, ast.Name) and n.id in steps[-1].sets for n in ast.walk(result))
        if isinstance(last, ast.Assign) and isinstance(last.targets[0], ast.Name) and number == 1:
            return steps[:-1], _Put(last.targets[0].id, last.value).visit(copy.deepcopy(result))
    return steps, result


class _Put(ast.NodeTransformer):
    """Puts a value in the place of a variable."""

    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == self.name else node


def _results(result: ast.expr, hint: str) -> list[ast.expr]:
    """The result as it is, and cast to the declared type."""
    if hint not in _BARE:
        return [result]
    cast = ast.Call(ast.Name(hint, ast.Load()), [result], [])
    return [result, cast]


def _unpacked(step: Step, only: str) -> Step:
    """The step with the one value in the place of a dict of it."""

    class Unpack(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.stmt:
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            found = {k.value: v for k, v in pairs if isinstance(k, ast.Constant)}
            return ast.Return(found.get(only, ast.Constant(None)))

    return Step(Unpack().visit(step.statement), step.sets, step.reads)


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in plain_name(name).split("_")) + "Values"


def _merge(needs: Needs, own: Needs) -> None:
    needs.imports |= own.imports
    needs.constants |= own.constants
    needs.functions |= own.functions


def _module_needs(needs: Needs) -> str:
    constants = [double_quoted(f"{name} = {value}") for name, value in needs.constants.items()]
    return "\n\n\n".join(filter(None, ["\n".join(constants), *needs.functions.values()]))


def _module(needs: Needs, body: str) -> str:
    """A module of one function, to be compiled."""
    if "(TypedDict)" in body:
        needs.imports.add("from typing import TypedDict")
    if "datetime" in body:
        needs.imports.add("from datetime import datetime")
    imports = sorted({"from featurekit import feature", *needs.imports})
    return "\n".join([*imports, "", _module_needs(needs), "", body, ""])
