"""Turns the function of an on-demand view, over a frame, lists or one row, into steps on one row.

Every column of a frame becomes a variable. A step is a statement with the variables that it sets
and reads, so that a feature's function can be cut out of the whole: the steps that its result
needs.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from featurekit.plugins.feast.importing import calls


class NotRowWise(Exception):
    """A part of a function that is not of one row, or that nothing here stands for."""

    def __init__(self, node: ast.AST, why: str, instead: str) -> None:
        shown = " ".join(ast.unparse(node).split())
        super().__init__(f"`{shown[:80]}` {why}")
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Step:
    """A statement on one row, with the variables that it sets and those that it reads."""

    statement: ast.stmt
    sets: frozenset[str]
    reads: frozenset[str]


@dataclass(slots=True)
class Rows:
    """A function on one row: the steps, and the variable or expression of each output. `whole` says
    that it returns at several places, with a dict of all outputs each time. `tested` are variables
    whose None the function looks at itself; `imports` are the modules that it needs."""

    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, ast.expr] = field(default_factory=dict)
    whole: bool = False
    tested: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def names_read(node: ast.AST) -> frozenset[str]:
    """The variables that a tree reads."""
    found = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return frozenset(n.id for n in found)


def _names_set(node: ast.AST) -> frozenset[str]:
    found = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return frozenset(n.id for n in found)


def sliced(rows: Rows, output: str) -> list[Step]:
    """The steps that an output needs, in order."""
    wanted = set(names_read(rows.outputs[output]))
    kept = []
    for step in reversed(rows.steps):
        if step.sets & wanted:
            wanted -= step.sets if isinstance(step.statement, ast.Assign) else set()
            wanted |= step.reads
            kept.append(step)
    return kept[::-1]


def row_wise(
    function: ast.FunctionDef,
    columns: Mapping[str, str],
    hints: Mapping[str, str],
    scope: Mapping[str, Any],
    *,
    mode: str,
    singleton: bool,
) -> Rows:
    """The function on one row. `columns` maps the columns that it may read to variables, `hints`
    these to their types, and `scope` has what its module knows. NotRowWise where it is not one."""
    body = _Body(columns, hints, scope, frames=mode == "pandas", one_row=singleton)
    arguments = [*function.args.posonlyargs, *function.args.args]
    if len(arguments) != 1:
        raise NotRowWise(function.args, "is not one argument", "write a function of one argument")
    body.of_frame[arguments[0].arg] = True
    body.run(function.body)
    if not body.rows.whole and not body.returned:
        raise NotRowWise(function.body[-1], "returns nothing", "return the features")
    return body.rows


class _Body:
    """The statements of one function while they are turned."""

    def __init__(
        self,
        columns: Mapping[str, str],
        hints: Mapping[str, str],
        scope: Mapping[str, Any],
        *,
        frames: bool,
        one_row: bool,
    ) -> None:
        self.columns, self.hints, self.scope = columns, hints, dict(scope)
        self.frames, self.one_row = frames, one_row
        self.rows = Rows()
        self.of_frame: dict[str, bool] = {}
        """The variables that are frames or dicts of columns, and whether it began as the input."""
        self.written: dict[str, str] = {}
        """The variable of each column that was written."""
        self.renamed: dict[str, str] = {}
        self.lists: set[str] = set()
        self.indices: set[str] = set()
        self.returned = False
        self.turn = _Expressions(self)

    def run(self, body: Sequence[ast.stmt]) -> None:
        if self.one_row and _returns(body) > 1:
            self.rows.whole = True
        for statement in body:
            if self.returned:
                break
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(ast.Constant()) | ast.Pass() | ast.Expr(ast.Call(ast.Name("print"))):
                return
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Assign([target], value):
                self._assign(target, value)
            case ast.AnnAssign(target, _, value) if value is not None:
                self._assign(target, value)
            case ast.AugAssign(target, operator, value):
                as_read = ast.parse(ast.unparse(target), mode="eval").body
                self._assign(target, ast.BinOp(as_read, operator, value))
            case ast.Return(value) if value is not None and not self.rows.whole:
                self._return(value)
            case ast.For() if not self.one_row:
                self._row_loop(node)
            case ast.Expr(ast.Call(ast.Attribute(target, "append"), [value])) if not self.one_row:
                self._assign(target, value)
            case _ if self.one_row:
                self._kept(node)
            case _:
                raise NotRowWise(
                    node, "is no assignment of columns", "write it for one row, as a @feature"
                )

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        scope: dict[str, Any] = {}
        try:
            exec(compile(ast.Module([node], []), "<import>", "exec"), scope)
        except ImportError as error:
            raise NotRowWise(node, f"fails ({error})", "install what it imports") from None
        scope.pop("__builtins__", None)
        self.scope |= scope

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Name(name), _ if self._frame_of(name, value):
                return
            case ((ast.Name() | ast.Subscript()), ast.List([])) if not self.one_row:
                return
            case ast.Name(name), _:
                self.let(self.local(name), self.turn.visit(value))
            case ast.Subscript(ast.Name(frame), ast.Constant(str() as column)), _ if (
                frame in self.of_frame
            ):
                made = self.turn.visit(value)
                self.let(self._column(frame, column), made)
            case (
                ast.Subscript(
                    ast.Attribute(ast.Name(frame), "loc"),
                    ast.Tuple([mask, ast.Constant(str() as column)]),
                ),
                _,
            ) if frame in self.of_frame:
                self._masked(frame, column, mask, value)
            case _ if self.one_row:
                self._kept(ast.Assign([target], value, lineno=0))
            case _:
                raise NotRowWise(target, "is no column", 'write one column, as in df["x"] = …')

    def _masked(self, frame: str, column: str, mask: ast.expr, value: ast.expr) -> None:
        """`df.loc[mask, "x"] = value`: the value where the mask holds, else what was there."""
        before: ast.expr = ast.Constant(None)
        if column in self.written or (self.of_frame[frame] and column in self.columns):
            before = _load(self.read(frame, column, mask))
        made = ast.IfExp(self.turn.visit(mask), self.turn.visit(value), before)
        self.let(self._column(frame, column), made)

    def _frame_of(self, name: str, value: ast.expr) -> bool:
        """Note a variable that is a frame, a dict of columns, or the input itself."""
        inner = self._plain_frame(value)
        if isinstance(inner, str):
            self.of_frame[name] = self.of_frame[inner]
            return True
        if isinstance(inner, ast.Dict) and self._is_frame_dict(inner, value):
            self.of_frame[name] = False
            for key, one in zip(inner.keys, inner.values, strict=True):
                assert isinstance(key, ast.Constant)
                self.let(self._column(name, str(key.value)), self.turn.visit(one))
            return True
        return False

    def _plain_frame(self, value: ast.expr) -> str | ast.Dict | None:
        """The frame that an expression is, by its variable, or the dict of its columns."""
        match value:
            case ast.Name(name) if name in self.of_frame:
                return name
            case ast.Dict():
                return value
            case ast.Call(ast.Name("dict"), [], []):
                return ast.Dict([], [])
            case ast.Call(ast.Attribute(inner, "copy" | "reset_index" | "to_dict")):
                return self._plain_frame(inner)
            case ast.Subscript(ast.Name(name), ast.List()) if name in self.of_frame:
                return name
            case ast.Call(ast.Attribute(ast.Name(module), "DataFrame"), arguments):
                if getattr(self.scope.get(module), "__name__", "") == "pandas":
                    named = {k.arg: k.value for k in value.keywords}
                    data = arguments[0] if arguments else named.get("data")
                    return ast.Dict([], []) if data is None else self._plain_frame(data)
        return None

    def _is_frame_dict(self, found: ast.Dict, value: ast.expr) -> bool:
        keys = [k.value if isinstance(k, ast.Constant) else None for k in found.keys]
        return all(isinstance(k, str) for k in keys) and (found is value or not self.one_row)

    def _return(self, value: ast.expr) -> None:
        self.returned = True
        inner = self._plain_frame(value)
        if isinstance(inner, ast.Dict):
            for key, one in zip(inner.keys, inner.values, strict=True):
                if not isinstance(key, ast.Constant):
                    raise NotRowWise(value, "has names that are computed", "write the names")
                self.rows.outputs[str(key.value)] = self.turn.visit(one)
            return
        if isinstance(inner, str):
            found = {c: v for c, v in self.columns.items() if self.of_frame[inner]} | self.written
            self.rows.outputs = {column: _load(name) for column, name in found.items()}
            return
        raise NotRowWise(value, "is no frame of the features", "return a frame or a dict of them")

    def _row_loop(self, node: ast.For) -> None:
        """A loop over the rows: its body is what happens to each."""
        self.turn.bind(node.target, node.iter)
        for statement in node.body:
            self.statement(statement)

    def _kept(self, node: ast.stmt) -> None:
        """A statement that stays as it is, on variables in the place of columns."""
        made = self.turn.visit(ast.fix_missing_locations(node))
        self.rows.steps.append(Step(made, _names_set(made), names_read(made)))

    def let(self, name: str, value: ast.expr) -> None:
        if isinstance(value, ast.Name) and value.id == name:
            return
        target = ast.Name(name, ast.Store())
        made = ast.Assign([target], value, lineno=0)
        self.rows.steps.append(Step(made, frozenset([name]), names_read(value)))

    def local(self, name: str) -> str:
        """The variable for a local one, which hides no column."""
        if name in self.renamed:
            return self.renamed[name]
        hides = name in self.columns.values() or name in self.written.values()
        self.renamed[name] = f"{name}_here" if hides else name
        return self.renamed[name]

    def _column(self, frame: str, column: str) -> str:
        """The variable for a column that is written."""
        if not column.isidentifier():
            raise NotRowWise(ast.Constant(column), "is no name of Python", "rename the column")
        hides = column in self.columns.values() and not self.of_frame[frame]
        made = f"new_{column}" if hides or column in self.renamed.values() else column
        self.written[column] = made
        return made

    def read(self, frame: str, column: str, node: ast.AST) -> str:
        """The variable for a column that is read."""
        if column in self.written and (not self.of_frame[frame] or column not in self.columns):
            return self.written[column]
        if column in self.written and self.written[column] == self.columns[column]:
            return self.written[column]
        if self.of_frame[frame] and column in self.columns:
            return self.columns[column]
        raise NotRowWise(
            node,
            "is no feature or request field of its sources",
            f"add the view or the request source with {column!r} to its sources",
        )


def _returns(body: Sequence[ast.stmt]) -> int:
    inside = [n for s in body for n in ast.walk(s) if isinstance(n, ast.Return)]
    nested = [s for s in inside if s not in body]
    return 2 if nested else len(inside)


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    function = ast.parse(name, mode="eval").body
    return ast.Call(function, list(arguments), [])


class _Expressions(ast.NodeTransformer):
    """Turns expressions over columns into expressions over one row's variables."""

    def __init__(self, body: _Body) -> None:
        self.body = body
        self.bound: dict[str, ast.expr] = {}
        self.rows_of: set[str] = set()
        self.free = 0

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.bound and isinstance(node.ctx, ast.Load):
            return self.bound[node.id]
        if node.id in self.body.of_frame:
            raise NotRowWise(node, "is the whole frame", "name the columns that are meant")
        if isinstance(node.ctx, ast.Store):
            return ast.Name(self.body.local(node.id), ast.Store())
        return ast.Name(self.body.renamed.get(node.id, node.id), ast.Load())

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        """Of a whole function: a return of all outputs, or of what was written so far."""
        inner = None if node.value is None else self.body._plain_frame(node.value)
        if isinstance(inner, str):
            written = self.body.written
            pairs = [(ast.Constant(c), _load(v)) for c, v in written.items()]
            return ast.Return(ast.Dict([k for k, _ in pairs], [v for _, v in pairs]))
        if not isinstance(inner, ast.Dict):
            raise NotRowWise(node, "returns no dict of the features", "return a dict of them")
        return ast.Return(ast.Dict(inner.keys, [self.visit(v) for v in inner.values]))

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        match node.targets:
            case [ast.Subscript(ast.Name(frame), ast.Constant(str() as column))] if (
                frame in self.body.of_frame
            ):
                value = self.visit(node.value)
                target = ast.Name(self.body._column(frame, column), ast.Store())
                return ast.Assign([target], value, lineno=0)
        return self.generic_visit(node)  # type: ignore[return-value]

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        match node:
            case ast.Subscript(ast.Name(name), ast.Constant(str() as column)) if (
                name in self.body.of_frame
            ):
                return _load(self.body.read(name, column, node))
            case ast.Subscript(ast.Name(name), ast.Constant(str() as column)) if (
                name in self.rows_of
            ):
                return _load(self.body.read(self._input(), column, node))
            case ast.Subscript(value, ast.Name(index)) if index in self.body.indices:
                return self.visit(value)  # type: ignore[no-any-return]
            case ast.Subscript(value, ast.Constant(0)) if not self.body.one_row:
                raise NotRowWise(node, "is the first row alone", "write it for each row")
        return self.generic_visit(node)  # type: ignore[return-value]

    def _input(self) -> str:
        return next(name for name, given in self.body.of_frame.items() if given)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node.value:
            case ast.Name(name) if self.body.of_frame.get(name) and (
                node.attr in self.body.columns or node.attr in self.body.written
            ):
                return _load(self.body.read(name, node.attr, node))
            case ast.Name(name) if name in self.rows_of:
                return _load(self.body.read(self._input(), node.attr, node))
            case ast.Attribute(series, "dt") if node.attr in calls.INSTANT:
                field_ = calls.INSTANT[node.attr]
                made: ast.expr = ast.Attribute(self.visit(series), field_.rstrip("()"), ast.Load())
                return ast.Call(made, [], []) if field_.endswith(")") else made
        if isinstance(node.value, ast.Name):
            module = self.body.scope.get(node.value.id)
            if isinstance(module, ModuleType):
                return self._of_module(node, module)
        if not self.body.one_row and node.attr in calls.SAME:
            return self.visit(node.value)  # type: ignore[no-any-return]
        if self.body.frames and node.attr in calls.OF_MANY_ROWS:
            raise _of_many(node)
        return self.generic_visit(node)  # type: ignore[return-value]

    def _of_module(self, node: ast.Attribute, module: ModuleType) -> ast.expr:
        """A constant or function of a module that is no method of a column."""
        assert isinstance(node.value, ast.Name)
        if module.__name__ in ("numpy", "pandas"):
            constants = {"pi": "math.pi", "e": "math.e", "nan": "math.nan", "inf": "math.inf"}
            if node.attr.lower() in constants:
                self.body.rows.imports.add("import math")
                return ast.parse(constants[node.attr.lower()], mode="eval").body
            raise NotRowWise(
                node, "has no counterpart on one value", "write it in plain Python, on one row"
            )
        alias = "" if node.value.id == module.__name__ else f" as {node.value.id}"
        self.body.rows.imports.add(f"import {module.__name__}{alias}")
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = self.visit(node.operand)
        inverted = isinstance(node.op, ast.Invert) and self.body.frames
        return ast.UnaryOp(ast.Not() if inverted else node.op, operand)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if self.body.frames and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            word = ast.And() if isinstance(node.op, ast.BitAnd) else ast.Or()
            return ast.BoolOp(word, [left, right])
        return ast.BinOp(left, node.op, right)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        made = self.generic_visit(node)
        assert isinstance(made, ast.Compare)
        none = [isinstance(c, ast.Constant) and c.value is None for c in made.comparators]
        if any(none) and isinstance(made.left, ast.Name):
            self.body.rows.tested.add(made.left.id)
        return made

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        made = self.generic_visit(node)
        assert isinstance(made, ast.BoolOp)
        self.body.rows.tested |= {v.id for v in made.values if isinstance(v, ast.Name)}
        return made

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        if self.body.one_row:
            return self.generic_visit(node)  # type: ignore[return-value]
        (generator, *others) = node.generators
        if others or generator.ifs:
            raise NotRowWise(node, "leaves rows out", "write a value for each row, None for none")
        self.bind(generator.target, generator.iter)
        return self.visit(node.elt)  # type: ignore[no-any-return]

    def bind(self, target: ast.expr, over: ast.expr) -> None:
        """Bind the targets of a loop over the rows to the row's own values."""
        match over, target:
            case ast.Call(ast.Name("zip"), columns), ast.Tuple(targets):
                for one, column in zip(targets, columns, strict=False):
                    self.bind(one, column)
            case ast.Call(ast.Name("enumerate"), [inner]), ast.Tuple([ast.Name(index), one]):
                self.body.indices.add(index)
                self.bind(one, inner)
            case ast.Call(ast.Name("range"), [ast.Call(ast.Name("len"))]), ast.Name(index):
                self.body.indices.add(index)
            case ast.Call(ast.Attribute(ast.Name(), "iterrows")), ast.Tuple([_, ast.Name(row)]):
                self.rows_of.add(row)
            case ast.Call(ast.Attribute(ast.Name(), "itertuples")), ast.Name(row):
                self.rows_of.add(row)
            case _, ast.Name(name):
                self.bound[name] = self.visit(over)
            case _:
                raise NotRowWise(over, "is no loop over the rows", "write it for one row")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node.func:
            case ast.Name("len") if not self.body.one_row:
                raise _of_many(node)
            case ast.Attribute(ast.Name(name), "get") if name in self.body.of_frame:
                return self._got(name, node)
            case ast.Attribute(ast.Name(name), method) if name in self.body.of_frame:
                if method == "apply" and len(node.args) >= 1:
                    return self._applied(node.args[0], None)
            case ast.Attribute(ast.Name(name), called):
                module = self.body.scope.get(name)
                if isinstance(module, ModuleType) and module.__name__ in ("numpy", "pandas"):
                    return self._numpy(called, node)
            case ast.Attribute(ast.Attribute(series, "str"), method) if self.body.frames:
                return self._text(method, series, node)
            case ast.Attribute(ast.Attribute(series, "dt"), method) if method in calls.INSTANT:
                return self.visit(node.func)  # type: ignore[no-any-return]
        if isinstance(node.func, ast.Attribute) and not self._is_module(node.func.value):
            made = self._method(node.func.attr, node.func.value, node)
            if made is not None:
                return made
        return self._plain_call(node)

    def _plain_call(self, node: ast.Call) -> ast.expr:
        """A call of a function of the module, or of one that is built in."""
        if self.body.frames and isinstance(node.func, ast.Name):
            built_in = node.func.id in ("float", "int", "str", "bool", "abs", "round", "min", "max")
            if not built_in and not self.bound:
                raise NotRowWise(
                    node,
                    "is given whole columns",
                    "write its body for one row, as a @feature",
                )
        return self.generic_visit(node)  # type: ignore[return-value]

    def _is_module(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and isinstance(self.body.scope.get(node.id), ModuleType)

    def _got(self, frame: str, node: ast.Call) -> ast.expr:
        """`inputs.get("x", default)`: a key is always there, and its value may be None."""
        match node.args:
            case [ast.Constant(str() as column), *_]:
                return _load(self.body.read(frame, column, node))
        raise NotRowWise(node, "has a name that is computed", "write the name of the column")

    def _numpy(self, called: str, node: ast.Call) -> ast.expr:
        given = node.args
        if called == "where" and len(given) == 3:
            test, yes, no = map(self.visit, given)
            return ast.IfExp(test, yes, no)
        if called in ("isna", "isnull", "notna", "notnull"):
            return self._is_missing(given[0], negated=called.startswith("not"))
        if called in ("array", "asarray", "Series", "to_numeric"):
            return self.visit(given[0])  # type: ignore[no-any-return]
        if called == "clip" and len(given) == 3:
            return self._clipped(*map(self.visit, given))
        arguments = [self.visit(one) for one in given]
        if called in calls.MATH:
            self.body.rows.imports.add("import math")
            return _call(f"math.{calls.MATH[called]}", *arguments)
        if called in calls.ROUNDED:
            self.body.rows.imports.add("import math")
            return _call("float", _call(f"math.{calls.ROUNDED[called]}", *arguments))
        if called in calls.BUILT_IN:
            return _call(calls.BUILT_IN[called], *arguments)
        if called in calls.OPERATORS and len(arguments) == 2:
            return _operator(calls.OPERATORS[called], *arguments)
        if called in calls.OF_MANY_ROWS:
            raise _of_many(node)
        raise NotRowWise(
            node, "has no counterpart on one value", "write it in plain Python, on one row"
        )

    def _text(self, method: str, series: ast.expr, node: ast.Call) -> ast.expr:
        one = self.visit(series)
        arguments = [self.visit(given) for given in node.args]
        literal = {k.arg: k.value for k in node.keywords}.get("regex")
        is_literal = isinstance(literal, ast.Constant) and literal.value is False
        if method == "len":
            return _call("len", one)
        if method in calls.TEXT or (method == "replace" and is_literal):
            return ast.Call(ast.Attribute(one, method, ast.Load()), arguments, [])
        if method == "contains" and is_literal:
            return ast.Compare(arguments[0], [ast.In()], [one])
        if method == "contains":
            self.body.rows.imports.add("import re")
            found = _call("re.search", arguments[0], one)
            return ast.Compare(found, [ast.IsNot()], [ast.Constant(None)])
        raise NotRowWise(node, "has no counterpart on one text", "write it for one text")

    def _method(self, method: str, series: ast.expr, node: ast.Call) -> ast.expr | None:
        """A method of a column on one value; None where it is one of the value itself."""
        if self.body.one_row:
            return None
        if method in calls.SAME:
            return self.visit(series)  # type: ignore[no-any-return]
        if not self.body.frames:
            return None
        given = [*node.args, *(k.value for k in node.keywords if k.arg in ("other", "value"))]
        match method:
            case "fillna" if given:
                return self._filled(self.visit(series), self.visit(given[0]))
            case "isna" | "isnull" | "notna" | "notnull":
                return self._is_missing(series, negated=method.startswith("not"))
            case "astype" if given:
                return self._cast(given[0], series, node)
            case "abs":
                return _call("abs", self.visit(series))
            case "round":
                return _call("round", self.visit(series), *map(self.visit, given))
            case "clip":
                named = {k.arg: self.visit(k.value) for k in node.keywords}
                low = self.visit(given[0]) if given else named.get("lower")
                high = self.visit(given[1]) if len(given) > 1 else named.get("upper")
                return self._clipped(self.visit(series), low, high)
            case "isin" if given:
                return ast.Compare(self.visit(series), [ast.In()], [self.visit(given[0])])
            case "between" if len(given) == 2:
                low, high = map(self.visit, given)
                return ast.Compare(low, [ast.LtE(), ast.LtE()], [self.visit(series), high])
            case "map" | "apply" if given:
                return self._applied(given[0], series)
        if method in calls.OPERATORS and given:
            return _operator(calls.OPERATORS[method], self.visit(series), self.visit(given[0]))
        if method in calls.OF_MANY_ROWS:
            raise _of_many(node)
        raise NotRowWise(
            node, "has no counterpart on one value", "write it in plain Python, on one row"
        )

    def _applied(self, function: ast.expr, series: ast.expr | None) -> ast.expr:
        """A function of each value, or with no `series`, of each row."""
        if isinstance(function, ast.Lambda) and len(function.args.args) == 1:
            name = function.args.args[0].arg
            if series is None:
                self.rows_of.add(name)
            else:
                self.bound[name] = self._simple(self.visit(series))
            return self.visit(function.body)  # type: ignore[no-any-return]
        if series is not None and isinstance(function, ast.Name):
            return _call(function.id, self.visit(series))
        raise NotRowWise(
            function, "is given a whole row", "write its body as a @feature of the columns"
        )

    def _simple(self, value: ast.expr) -> ast.expr:
        """The value, bound to a variable where it is more than one."""
        if isinstance(value, (ast.Name, ast.Constant)):
            return value
        self.free += 1
        name = f"value{self.free}" if self.free > 1 else "value"
        self.body.let(name, value)
        return _load(name)

    def _filled(self, value: ast.expr, other: ast.expr) -> ast.expr:
        return ast.IfExp(self._missing(value), other, value)

    def _is_missing(self, series: ast.expr, *, negated: bool) -> ast.expr:
        missing = self._missing(self.visit(series))
        return ast.UnaryOp(ast.Not(), missing) if negated else missing

    def _missing(self, value: ast.expr) -> ast.expr:
        """Whether pandas finds no value: None, or NaN of a float."""
        optional = sorted(n for n in names_read(value) if "None" in self.body.hints.get(n, ""))
        self.body.rows.tested |= set(optional)
        tests: list[ast.expr] = [
            ast.Compare(_load(n), [ast.Is()], [ast.Constant(None)]) for n in optional
        ]
        hint = self.body.hints.get(value.id, "") if isinstance(value, ast.Name) else "float"
        if hint.startswith("float") or not tests:
            self.body.rows.imports.add("import math")
            tests.append(_call("math.isnan", value))
        return tests[0] if len(tests) == 1 else ast.BoolOp(ast.Or(), tests)

    def _cast(self, to: ast.expr, series: ast.expr, node: ast.AST) -> ast.expr:
        name = to.value if isinstance(to, ast.Constant) else ast.unparse(to).rpartition(".")[2]
        cast = calls.CASTS.get(str(name))
        if cast is None:
            raise NotRowWise(node, "is a type of pandas alone", "write float, int, str or bool")
        return _call(cast, self.visit(series))

    def _clipped(self, value: ast.expr, low: ast.expr | None, high: ast.expr | None) -> ast.expr:
        if low is not None:
            value = _call("max", value, low)
        return value if high is None else _call("min", value, high)


def _operator(sign: str, left: ast.expr, right: ast.expr) -> ast.expr:
    made = ast.parse(f"a {sign} b", mode="eval").body
    if isinstance(made, ast.BinOp):
        return ast.BinOp(left, made.op, right)
    assert isinstance(made, ast.Compare)
    return ast.Compare(left, made.ops, [right])


def _of_many(node: ast.AST) -> NotRowWise:
    return NotRowWise(
        node,
        "looks at other rows than its own",
        "write a window aggregate in a view, as Mean(…, window=…), and read it here",
    )
