"""Turns the AST of a plain typed function into the typed IR, or into an error with a caret (R1, R2).

Types follow mypy's narrowing: a `T | None` must be tested before an operator sees it. Ints become
floats only where Python itself would convert them, or where a declared float receives a whole
literal; elsewhere the hint says what to write.
"""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import textwrap
import types as pytypes
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from featurekit import ops
from featurekit.define import Transform
from featurekit.errors import CompileError, DefinitionError
from featurekit.ir import (
    Assign,
    Both,
    Call,
    Choose,
    Const,
    Either,
    Evaluate,
    Expr,
    Function,
    If,
    IsNone,
    Let,
    Name,
    Param,
    Return,
    Statement,
)
from featurekit.types import (
    BOOL,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    INT_MAX,
    INT_MIN,
    NONE,
    STR,
    TIMEDELTA,
    Type,
    from_hint,
)

_BINARY = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.MatMult: "@",
}
_UNARY = {ast.USub: "negative", ast.UAdd: "positive", ast.Invert: "invert", ast.Not: "not"}
_COMPARE = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
}
_CONSTANTS: dict[type, Type] = {
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: STR,
    dt.datetime: DATETIME,
    dt.date: DATE,
    dt.timedelta: TIMEDELTA,
}
_BUILTINS = ("abs", "bool", "float", "int", "len", "max", "min", "round", "str")
_MISSING = object()

# What is known of each local at one point, in the branch where a test is true or false.
Env = dict[str, Type]


def parse(transform: Transform) -> Function:
    """The typed IR of a transform; CompileError outside the language (R1, R2)."""
    return _Parser(transform).function()


@dataclass(slots=True)
class _Flow:
    """Where control may be after statements: `env` is None once every path has returned."""

    env: Env | None


class _Parser:
    def __init__(self, transform: Transform) -> None:
        function = transform.function
        self.name = transform.name
        self.target = function
        try:
            lines, self.first_line = inspect.getsourcelines(function)
        except (OSError, TypeError):
            raise DefinitionError(
                f"@feature {self.name}: its source text cannot be read; write it in a file, "
                "not at a prompt"
            ) from None
        self.filename = inspect.getsourcefile(function) or "<unknown>"
        text = "".join(lines)
        dedented = textwrap.dedent(text)
        self.indent = len(lines[0]) - len(lines[0].lstrip())
        self.lines = lines
        node = ast.parse(dedented).body[0]
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        self.node = node
        self.fresh = 0
        self.returns = NONE
        self.globals = self._captured()

    # --- places and errors ------------------------------------------------------------------------

    def fail(self, node: ast.AST, reason: str, hint: str) -> NoReturn:
        line = getattr(node, "lineno", 1)
        # ast counts bytes of UTF-8; a caret counts characters.
        shown = self.lines[line - 1]
        dedented = shown[self.indent :].encode()
        column = self.indent + len(dedented[: getattr(node, "col_offset", 0)].decode()) + 1
        raise CompileError(
            reason,
            filename=self.filename,
            line=self.first_line + line - 1,
            column=column,
            source=shown,
            hint=hint,
        )

    def _captured(self) -> dict[str, Any]:
        known = dict(self.target.__globals__)
        for name, cell in zip(
            self.target.__code__.co_freevars, self.target.__closure__ or (), strict=True
        ):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # not bound yet: using it is refused as an unknown name
                continue
        return known

    # --- the function -----------------------------------------------------------------------------

    def function(self) -> Function:
        if isinstance(self.node, ast.AsyncFunctionDef):
            self.fail(self.node, "an async function is no feature", "write a plain def")
        hints = self._hints()
        env: Env = {}
        params = []
        arguments = self.node.args
        for special, what in ((arguments.vararg, "*args"), (arguments.kwarg, "**kwargs")):
            if special is not None:
                self.fail(special, f"{what} names no column", "name each parameter")
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if argument.arg not in hints:
                self.fail(
                    argument,
                    f"the parameter {argument.arg} has no type",
                    f"write {argument.arg}: float, or whatever its column is",
                )
            type_ = self._type(argument, hints[argument.arg])
            env[argument.arg] = type_
            params.append(Param(argument.arg, type_))
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.fail(
                    default,
                    "a parameter's default is never used: every parameter is read",
                    "leave it out; for a missing value take T | None and test it",
                )
        if "return" not in hints:
            self.fail(self.node, "the result has no type", "write -> float, or what it is")
        self.returns = self._type(self.node, hints["return"])
        if self.returns == NONE:
            self.fail(self.node, "a feature that is always None", "declare the type it returns")
        body, flow = self.block(self.node.body, env)
        if flow.env is not None:
            if not self.returns.optional:
                self.fail(
                    self.node.body[-1],
                    f"a path ends without return, which is None, not {self.returns}",
                    f"return a value there, or declare -> {self.returns.or_none()}",
                )
            body = (*body, Return(Const(None, self.returns)))
        return Function(self.name, tuple(params), body, self.returns)

    def _hints(self) -> dict[str, Any]:
        try:
            # Evaluates postponed annotations, too, in the module that wrote them.
            return typing.get_type_hints(self.target)
        except NameError as error:
            self.fail(self.node, f"an annotation names nothing: {error}", "import or define it")

    def _type(self, node: ast.AST, hint: Any) -> Type:
        try:
            return from_hint(hint)
        except DefinitionError as error:
            self.fail(node, str(error).split("; ")[0], str(error).split("; ")[-1])

    # --- statements -------------------------------------------------------------------------------

    def block(
        self, statements: list[ast.stmt], env: Env
    ) -> tuple[tuple[Statement, ...], _Flow]:
        out: list[Statement] = []
        flow = _Flow(dict(env))
        for statement in statements:
            if flow.env is None:
                break  # Python never reaches it
            made, flow = self.statement(statement, flow.env)
            out += made
        return tuple(out), flow

    def statement(self, node: ast.stmt, env: Env) -> tuple[list[Statement], _Flow]:
        match node:
            case ast.Return(value=value):
                if value is None:
                    value = ast.copy_location(ast.Constant(None), node)
                made = self.expression(value, env, self.returns)
                made = self.coerce(value, made, self.returns, "the declared result")
                return [Return(made)], _Flow(None)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                made = self.expression(value, env)
                return self.assign(node, name, made, env)
            case ast.AnnAssign(target=ast.Name(id=name), value=value, annotation=annotation):
                if value is None:
                    self.fail(node, "a declaration without a value", "assign a value here")
                type_ = self._type(annotation, self.annotation(annotation))
                made = self.expression(value, env, type_)
                made = self.coerce(value, made, type_, f"the declared type of {name}")
                return self.assign(node, name, made, env)
            case ast.AugAssign(target=ast.Name(id=name) as target, op=op, value=value):
                read = ast.copy_location(ast.Name(name, ast.Load()), target)
                whole = ast.copy_location(ast.BinOp(read, op, value), node)
                return self.assign(node, name, self.expression(whole, env), env)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign():
                self.fail(node, "only a plain name can be assigned", "write name = value")
            case ast.If(test=test, body=body, orelse=orelse):
                return self.branch(test, body, orelse, env)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                return [], _Flow(env)
            case ast.Expr(value=value):
                return [Evaluate(self.expression(value, env))], _Flow(env)
            case _:
                self.fail(
                    node,
                    f"{_statement_name(node)} is not in the language of features",
                    "use assignments, if/elif/else and return",
                )

    def annotation(self, node: ast.expr) -> Any:
        try:
            return eval(compile(ast.Expression(node), self.filename, "eval"), self.globals)
        except (NameError, TypeError) as error:
            self.fail(node, f"the annotation cannot be read: {error}", "write float, int, str …")

    def assign(
        self, node: ast.stmt, name: str, made: Expr, env: Env
    ) -> tuple[list[Statement], _Flow]:
        if made.type == NONE:
            self.fail(
                node,
                f"{name} would be None and nothing else",
                f"declare what it may become, as in {name}: float | None = None",
            )
        return [Assign(name, made)], _Flow({**env, name: made.type})

    def branch(
        self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt], env: Env
    ) -> tuple[list[Statement], _Flow]:
        condition, if_true, if_false = self.condition(test, env)
        then, then_flow = self.block(body, if_true)
        other, other_flow = self.block(orelse, if_false)
        made: list[Statement] = [If(condition, then, other)]
        if then_flow.env is None or other_flow.env is None:
            return made, _Flow(other_flow.env if then_flow.env is None else then_flow.env)
        joined: Env = {}
        for name, type_ in then_flow.env.items():
            against = other_flow.env.get(name)
            if against is None:
                continue  # bound on one path only: using it is refused as an unknown name
            if type_.base != against.base:
                self.fail(
                    test,
                    f"{name} is {type_} on one path and {against} on the other",
                    "give it one type on both paths"
                    + (", as in 0.0 for 0" if {type_.base, against.base} == {INT, FLOAT} else ""),
                )
            joined[name] = type_.or_none() if against.optional else type_
        return made, _Flow(joined)

    # --- conditions and narrowing (R2) ------------------------------------------------------------

    def condition(self, node: ast.expr, env: Env) -> tuple[Expr, Env, Env]:
        """A bool for a test by its truth, and what is known where it is true and where false."""
        match node:
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                made, if_true, if_false = self.condition(operand, env)
                return Call("not(bool)", (made,), BOOL), if_false, if_true
            case ast.BoolOp(op=op, values=values):
                made, if_true, if_false = self.condition(values[0], env)
                for value in values[1:]:
                    if isinstance(op, ast.And):
                        right, if_true, right_false = self.condition(value, if_true)
                        if_false = _join(if_false, right_false)
                        made = Both(made, right, BOOL)
                    else:
                        right, right_true, if_false = self.condition(value, if_false)
                        if_true = _join(if_true, right_true)
                        made = Either(made, right, BOOL)
                return made, if_true, if_false
            case ast.Compare(
                left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(None)]
            ):
                value = self.expression(left, env)
                if value.type == NONE:
                    self.fail(left, "None is always None", "test a parameter or a local")
                made = IsNone(value, BOOL)
                without, with_none = env, env
                if isinstance(left, ast.Name) and left.id in env:
                    without = {**env, left.id: env[left.id].base}
                if isinstance(op, ast.IsNot):
                    return Call("not(bool)", (made,), BOOL), without, with_none
                return made, with_none, without
            case _:
                value = self.expression(node, env)
                if_true = env
                if isinstance(node, ast.Name) and node.id in env:
                    if_true = {**env, node.id: env[node.id].base}
                return self.truth(node, value), if_true, env

    def truth(self, node: ast.expr, value: Expr) -> Expr:
        """`bool(value)`, None being false."""
        if value.type == BOOL:
            return value
        if value.type.optional and value.type != NONE:
            return self.named(
                value,
                lambda name: Choose(
                    IsNone(name, BOOL),
                    Const(False, BOOL),
                    self.truth(node, replace(name, type=name.type.base)),
                    BOOL,
                ),
            )
        found = ops.find("bool", (value.type,))
        if found is None:
            self.fail(node, f"{value.type} has no truth", "compare it with something")
        return Call(found[0].key, (value,), BOOL)

    def named(self, value: Expr, body: Callable[[Name], Expr]) -> Expr:
        """`body` of a name for `value`, so that it is evaluated once."""
        if isinstance(value, Name):
            return body(value)
        self.fresh += 1
        name = Name(f"_t{self.fresh}", value.type)
        inner = body(name)
        return Let(name.name, value, inner, inner.type)

    # --- expressions ------------------------------------------------------------------------------

    def expression(self, node: ast.expr, env: Env, expect: Type | None = None) -> Expr:
        """The typed value of `node`; `expect`, where a declared type receives it."""
        match node:
            case ast.Constant(value=value):
                return self.constant(node, value, expect)
            case ast.Name(id=name):
                return self.load(node, name, env)
            case ast.BinOp(left=left, op=op, right=right):
                arguments = [self.expression(left, env), self.expression(right, env)]
                return self.call(node, _BINARY[type(op)], [left, right], arguments)
            case ast.UnaryOp(op=ast.Not()):
                return self.condition(node, env)[0]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)) if (
                not isinstance(number, bool)
            ):
                # The least int64 is written as the negation of an int outside int64.
                return self.constant(node, -number, expect)
            case ast.UnaryOp(op=op, operand=operand):
                # Not `expect`: -(0 if c else x) is the int 0, and never -0.0.
                value = self.expression(operand, env)
                return self.call(node, _UNARY[type(op)], [operand], [value])
            case ast.BoolOp():
                return self.bool_op(node, env, expect)
            case ast.Compare():
                return self.compare(node, env)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, if_true, if_false = self.condition(test, env)
                then = self.expression(body, if_true, expect)
                other = self.expression(orelse, if_false, expect)
                return self.choose(node, condition, (body, then), (orelse, other), expect)
            case ast.Call():
                return self.call_node(node, env, expect)
            case ast.Attribute(value=ast.Name(id=module), attr=attribute) if module not in env:
                return self.module_constant(node, module, attribute, expect)
            case _:
                self.fail(
                    node,
                    f"{_expression_name(node)} is not in the language of features",
                    "use arithmetic, comparisons, and/or/not, x if c else y, and the functions "
                    "that the guide lists",
                )

    def constant(self, node: ast.expr, value: Any, expect: Type | None) -> Expr:
        if value is None:
            return Const(None, expect.or_none() if expect else NONE)
        if isinstance(value, bytes):
            return Const(value, Type("bytes"))
        type_ = _CONSTANTS.get(type(value))
        if type_ is None:
            self.fail(
                node,
                f"a {type(value).__name__} is no feature value",
                "use bool, int, float, str, datetime, date or timedelta",
            )
        if type_ == INT and not INT_MIN <= value <= INT_MAX:
            self.fail(node, "an int outside int64", "write it as a float, as in 1e19")
        if type_ == INT and expect is not None and expect.base == FLOAT and abs(value) <= 2**53:
            return Const(float(value), FLOAT)
        if type_ == STR and any("\ud800" <= c <= "\udfff" for c in value):
            self.fail(node, "a lone surrogate in a str", "write the whole character")
        if type_ == DATETIME:
            if value.tzinfo is None:
                self.fail(node, "a datetime without a zone", "write tzinfo=timezone.utc")
            value = value.astimezone(dt.timezone.utc)
        return Const(value, type_)

    def load(self, node: ast.Name, name: str, env: Env) -> Expr:
        if name in env:
            return Name(name, env[name])
        value = self.globals.get(name, _MISSING)
        if value is _MISSING:
            self.fail(
                node,
                f"{name} is not defined on every path to here",
                "make it a parameter, assign it on every path, or define a module constant",
            )
        if isinstance(value, (Transform, pytypes.FunctionType, pytypes.ModuleType, type)):
            self.fail(node, f"{name} is no value", "call it, or use a constant")
        if isinstance(value, (list, dict, set)):
            self.fail(node, f"{name} is mutable: a feature may not change behind its version",
                      "make it a tuple or a plain constant")  # fmt: skip
        return self.constant(node, value, None)

    def module_constant(
        self, node: ast.Attribute, module: str, attribute: str, expect: Type | None
    ) -> Expr:
        value = self.globals.get(module, _MISSING)
        if isinstance(value, pytypes.ModuleType) and hasattr(value, attribute):
            return self.constant(node, getattr(value, attribute), expect)
        self.fail(
            node, f"{module}.{attribute} is not a constant", "use math.pi, math.inf or a literal"
        )

    def bool_op(self, node: ast.BoolOp, env: Env, expect: Type | None) -> Expr:
        """`a and b`, `a or b` as values: the operand that decides."""
        first, rest = node.values[0], node.values[1:]
        value = self.expression(first, env, expect)
        following = rest[0] if len(rest) == 1 else ast.copy_location(
            ast.BoolOp(node.op, rest), rest[0]
        )  # fmt: skip
        _, if_true, if_false = self.condition(first, env)
        is_and = isinstance(node.op, ast.And)
        right = self.expression(following, if_true if is_and else if_false, expect)
        if value.type == BOOL and right.type == BOOL:
            return (Both if is_and else Either)(value, right, BOOL)

        def decide(name: Name) -> Expr:
            test = self.truth(first, name)
            if is_and:
                return self.choose(node, test, (following, right), (first, name), expect)
            kept = Name(name.name, name.type.base)  # what is true is not None
            return self.choose(node, test, (first, kept), (following, right), expect)

        return self.named(value, decide)

    def choose(
        self,
        node: ast.expr,
        test: Expr,
        then: tuple[ast.expr, Expr],
        other: tuple[ast.expr, Expr],
        expect: Type | None,
    ) -> Expr:
        a, b = then[1], other[1]
        if expect is not None and expect.base == FLOAT:
            a, b = (self.as_float(v) for v in (a, b))
        if a.type == NONE and b.type == NONE:
            return Const(None, NONE)
        base = b.type.base if a.type == NONE else a.type.base
        for value in (a, b):
            if value.type != NONE and value.type.base != base:
                hint = "give both branches one type"
                if {a.type.base, b.type.base} == {INT, FLOAT}:
                    hint += ", as in 0.0 for 0 or float(n)"
                self.fail(node, f"the branches are {a.type} and {b.type}", hint)
        type_ = base.or_none() if a.type.optional or b.type.optional else base
        a, b = (Const(None, type_) if v.type == NONE else v for v in (a, b))
        return Choose(test, a, b, type_)

    def as_float(self, value: Expr) -> Expr:
        return Call("float(int)", (value,), FLOAT) if value.type == INT else value

    def compare(self, node: ast.Compare, env: Env) -> Expr:
        """A chain `a < b < c`: each operand once, later ones only while true."""
        if any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            if len(node.ops) == 1 and isinstance(node.comparators[0], ast.Constant):
                if node.comparators[0].value is None:
                    return self.condition(node, env)[0]
            self.fail(node, "`is` compares identities", "write == or is None")
        return self.chain(node, self.expression(node.left, env), node.left, 0, env)

    def chain(self, node: ast.Compare, left: Expr, left_node: ast.expr, i: int, env: Env) -> Expr:
        op, right_node = node.ops[i], node.comparators[i]
        negated = isinstance(op, ast.NotIn)
        name = "in" if negated else _COMPARE[type(op)]
        if name == "in" and isinstance(right_node, (ast.Tuple, ast.List, ast.Set)):
            made = self.among(node, left, left_node, right_node.elts, env)
            right: Expr | None = None
        elif name == "in" and isinstance(self.captured(right_node, env), (tuple, frozenset)):
            elements = sorted(self.captured(right_node, env), key=repr)
            nodes: list[ast.expr] = [
                ast.copy_location(ast.Constant(e), right_node) for e in elements
            ]
            made = self.among(node, left, left_node, nodes, env)
            right = None
        else:
            right = self.expression(right_node, env)
        last = i + 1 == len(node.ops)
        if right is None:
            if not last:
                self.fail(node, "a chain after `in`", "join two comparisons with and")
            return Call("not(bool)", (made,), BOOL) if negated else made

        def both(right: Expr) -> Expr:
            made = self.call(node, name, [left_node, right_node], [left, right])
            if negated:
                made = Call("not(bool)", (made,), BOOL)
            if last:
                return made
            return Both(made, self.chain(node, right, right_node, i + 1, env), BOOL)

        return both(right) if last or isinstance(right, Const) else self.named(right, both)

    def captured(self, node: ast.expr, env: Env) -> Any:
        if isinstance(node, ast.Name) and node.id not in env:
            return self.globals.get(node.id)
        return None

    def among(
        self,
        node: ast.expr,
        left: Expr,
        left_node: ast.expr,
        elements: list[ast.expr],
        env: Env,
    ) -> Expr:
        """`x in (a, b, c)`: whether x equals one of them, tried from the left."""
        values = [self.expression(e, env) for e in elements]
        for element, value in zip(elements, values, strict=True):
            # Python evaluates all elements first, and finds a NaN by its identity.
            if not isinstance(value, Const) and (value.type == FLOAT or not isinstance(value, Name)):
                self.fail(element, "an element that is computed", "write x == a or x == b")

        def tests(name: Expr) -> Expr:
            made: Expr = Const(False, BOOL)
            for element, value in reversed(list(zip(elements, values, strict=True))):
                equal = self.call(node, "==", [left_node, element], [name, value])
                made = equal if isinstance(made, Const) else Either(equal, made, BOOL)
            return made

        return tests(left) if isinstance(left, Const) else self.named(left, tests)

    # --- calls ------------------------------------------------------------------------------------

    def call_node(self, node: ast.Call, env: Env, expect: Type | None) -> Expr:
        if node.keywords:
            self.fail(node, "a keyword argument", "pass arguments by position")
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                self.fail(argument, "a starred argument", "write the arguments out")
        match node.func:
            case ast.Name(id=name) if name in env:
                self.fail(node, f"{name} is a value, no function", "rename one of the two")
            case ast.Name(id=name):
                return self.call_name(node, name, env, expect)
            case ast.Attribute(value=ast.Name(id=module), attr=attribute) if (
                module not in env and isinstance(self.globals.get(module), pytypes.ModuleType)
            ):
                name = f"{self.globals[module].__name__}.{attribute}"
                arguments = [self.expression(a, env) for a in node.args]
                return self.call(node, name, node.args, arguments)
            case ast.Attribute(value=receiver, attr=method):
                value = self.expression(receiver, env)
                self.no_none(receiver, value)
                arguments = [value, *(self.expression(a, env) for a in node.args)]
                name = f"{value.type.name}.{method}"
                return self.call(node, name, [receiver, *node.args], arguments)
            case _:
                self.fail(node, "a call of something computed", "call a function by its name")

    def call_name(self, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
        known = self.globals.get(name, _MISSING)
        if name in _BUILTINS and known is _MISSING:
            if name == "bool" and len(node.args) == 1:
                return self.condition(node.args[0], env)[0]
            wants = expect if name in ("min", "max") else None
            arguments = [self.expression(a, env, wants) for a in node.args]
            if name in ("min", "max"):
                return self.extreme(node, name, arguments)
            return self.call(node, name, node.args, arguments)
        module = getattr(known, "__module__", None)
        if module == "math" or (known is not _MISSING and isinstance(known, pytypes.BuiltinFunctionType)):
            arguments = [self.expression(a, env) for a in node.args]
            return self.call(node, f"{module}.{name}", node.args, arguments)
        if isinstance(known, Transform):
            self.fail(
                node,
                f"{name} is a feature and is not called here",
                f"take its value as a parameter named {name}, or repeat its expression",
            )
        self.fail(
            node,
            f"{name}() is not in the language of features",
            f"use {', '.join(_BUILTINS)}, math.log, math.sqrt …, or write it out",
        )

    def extreme(self, node: ast.Call, name: str, arguments: list[Expr]) -> Expr:
        """min and max of several: from the left, as Python does."""
        if len(arguments) < 2:
            self.fail(node, f"{name}() of one value", f"write {name}(a, b)")
        if any(a.type.base == FLOAT for a in arguments):
            # A whole literal is the same value as a float; another int would stay an int.
            arguments = [
                Const(float(a.value), FLOAT)
                if isinstance(a, Const) and a.type == INT and abs(a.value) <= 2**53
                else a
                for a in arguments
            ]
        made = arguments[0]
        for i, argument in enumerate(arguments[1:], 1):
            types = {made.type.base, argument.type.base}
            if types == {INT, FLOAT}:
                self.fail(
                    node.args[i],
                    f"{name}() of int and float may be either",
                    "make both float, as in 0.0 for 0 or float(n)",
                )
            made = self.call(node, name, [node.args[i - 1], node.args[i]], [made, argument])
        return made

    def no_none(self, node: ast.expr, value: Expr) -> None:
        if value.type.optional:
            shown = ast.unparse(node)
            self.fail(
                node,
                f"{shown} may be None here ({value.type})",
                f"test it first: `if {shown} is None: return None`"
                if isinstance(node, ast.Name)
                else "assign it to a name and test that for None first",
            )

    def call(
        self, node: ast.expr, name: str, nodes: list[ast.expr], arguments: list[Expr]
    ) -> Expr:
        for argument_node, argument in zip(nodes, arguments, strict=True):
            self.no_none(argument_node, argument)
        found = ops.find(name, tuple(a.type for a in arguments))
        if found is None:
            shown = ", ".join(str(a.type) for a in arguments)
            rows = ops.BY_NAME.get(name)
            if rows is None:
                self.fail(
                    node,
                    f"{name} is not in the language of features",
                    f"nearest: {_nearest(name)}",
                )
            known = "; ".join(", ".join(map(str, r.params)) for r in rows)
            self.fail(node, f"{name} does not take ({shown})", f"it takes ({known})")
        op, conversions = found
        args = tuple(
            Call(key, (a,), ops.TABLE[key].result) if key else a
            for a, key in zip(arguments, conversions, strict=True)
        )
        return Call(op.key, args, op.result)

    def coerce(self, node: ast.expr, value: Expr, wanted: Type, what: str) -> Expr:
        """`value` as a declared type takes it: an int for a float is converted (R1)."""
        if value.type == NONE and wanted.optional:
            return Const(None, wanted)
        if value.type == wanted or value.type.or_none() == wanted:
            return value
        if value.type.optional and not wanted.optional:
            self.fail(
                node,
                f"{ast.unparse(node)} may be None, and {what} is {wanted}",
                f"test it for None first, or declare {wanted.or_none()}",
            )
        if wanted.base == FLOAT and value.type == INT:
            return Call("float(int)", (value,), FLOAT)
        if wanted.base == INT and value.type == BOOL:
            return Call("int(bool)", (value,), INT)
        if wanted.base == FLOAT and value.type == BOOL:
            return Call("float(bool)", (value,), FLOAT)
        self.fail(node, f"this is {value.type}, and {what} is {wanted}", f"return {wanted} here")


def _join(a: Env, b: Env) -> Env:
    """What holds whichever of two ways was taken."""
    return {
        name: type_.or_none() if b[name].optional else type_
        for name, type_ in a.items()
        if name in b
    }


def _nearest(name: str) -> str:
    import difflib

    known = [n for n in ops.BY_NAME if n.split(".")[0] == name.split(".")[0]] or list(ops.BY_NAME)
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0)) or "none"


def _statement_name(node: ast.stmt) -> str:
    return {"For": "a for loop", "While": "a while loop", "Try": "try", "With": "with"}.get(
        type(node).__name__, type(node).__name__.lower()
    )


def _expression_name(node: ast.expr) -> str:
    return {
        "Lambda": "a lambda",
        "ListComp": "a comprehension",
        "GeneratorExp": "a generator expression",
        "Subscript": "an index or slice",
        "JoinedStr": "an f-string",
        "NamedExpr": "a walrus assignment",
        "Await": "await",
        "Attribute": "this attribute",
    }.get(type(node).__name__, f"a {type(node).__name__.lower()}")


