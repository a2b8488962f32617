"""Whole functions: parameters, results of one value or of several, and their calls."""

from __future__ import annotations

import ast
import inspect
import types as pytypes
import typing
from typing import Any, NoReturn

from featurekit.core.types import NONE, Type
from featurekit.language.ir import (
    Apply,
    Assign,
    Const,
    Evaluate,
    Expr,
    Function,
    Name,
    Param,
    Return,
    Statement,
)
from featurekit.language.parse.places import Env
from featurekit.language.parse.promises import UNSEEN
from featurekit.language.parse.statements import Flow, Made, Statements
from featurekit.language.results import result_fields
from featurekit.language.transform import Transform


class FunctionParser(Statements):
    """A function on its way to IR; of one that returns several values, the one named `field`."""

    def __init__(
        self,
        function: Any,
        name: str,
        *,
        field: str | None = None,
        stack: tuple[Any, ...] | None = None,
        inlined: dict[Any, Function] | None = None,
        given: dict[str, Type] | None = None,
    ) -> None:
        super().__init__(function, name, "@feature" if stack is None else "the helper")
        self.top = stack is None
        self.stack = (*(stack or ()), function)
        self.inlined = {} if inlined is None else inlined
        self.given = given or {}
        self.field = field
        self.exits = []
        self.promises = []
        self.assigned = {}
        self.matches = {}
        self.zoned = {}
        self.returns = NONE
        self.fields: dict[str, Type] | None = None

    def function(self) -> Function:
        """The whole of it."""
        if isinstance(self.node, ast.AsyncFunctionDef):
            self.fail(self.node, "an async function is no feature", "write a plain def")
        for inner in ast.walk(self.node):
            if isinstance(inner, (ast.Yield, ast.YieldFrom)):
                self.fail(inner, "a generator is no feature", "return a list")
        hints = self.hints()
        arguments = self.node.args
        for special, what in ((arguments.vararg, "*args"), (arguments.kwarg, "**kwargs")):
            if special is not None:
                self.fail(special, f"{what} names no column", "name each parameter")
        env: Env = {}
        params = []
        body: list[Statement] = []
        signature = inspect.signature(self.target).parameters
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            name = argument.arg
            if name not in hints:
                self.fail(
                    argument,
                    f"the parameter {name} has no type",
                    f"write {name}: float, or whatever its column is",
                )
            type_ = self.given.get(name) or self.hinted(argument, hints[name])
            if type_ == NONE:
                self.fail(argument, f"{name} is always None", "leave it out, or write T | None")
            default = signature[name].default
            if self.top and default is not inspect.Parameter.empty:
                # Never read from data: `compiled` refuses a default where a column has its name.
                made = self.coerce(
                    argument,
                    self.constant(argument, default),
                    type_,
                    f"the parameter {name}",
                    convert=False,
                )
                self.assigned[name] = [made]
                body.append(Assign(name, made))
            else:
                params.append(Param(name, type_))
            env[name] = Name(name, type_.plain)
        self.result_type(hints)
        made_body, flow = self.block(self.node.body, env)
        if flow.env is not None:
            if not self.returns.optional:
                self.fail(
                    self.node.body[-1],
                    f"a path ends without return, which is None, not {self.returns}",
                    f"return a value there, or declare -> {self.returns.or_none()}",
                )
            made_body = (*made_body, Return(Const(None, self.returns)))
        self.keep_promises({p.name: p.type for p in params})
        return Function(self.name, tuple(params), (*body, *made_body), self.returns)

    def too_deep(self) -> NoReturn:
        """CompileError at the statement that nests deepest, as it was written."""

        def depth(node: ast.AST) -> int:
            deepest, todo = 0, [(node, 0)]
            while todo:
                one, level = todo.pop()
                deepest = max(deepest, level)
                todo += [(c, level + 1 + i) for i, c in enumerate(ast.iter_child_nodes(one))]
            return deepest

        self.fail(
            max(self.node.body, key=depth),
            "this nests too deeply",
            "assign parts of it to names, return early, or look up a constant dict: TABLE[key]",
        )

    def keep_promises(self, params: dict[str, Type]) -> None:
        for node in ast.walk(self.node):
            # What a loop or a walrus gives to a name was not seen as it was bound.
            bound = node.target if isinstance(node, (ast.For, ast.NamedExpr)) else None
            for name in ast.walk(bound) if bound is not None else ():
                if isinstance(name, ast.Name):
                    self.assigned.setdefault(name.id, []).append(UNSEEN)
        for promise in self.promises:
            fault = promise.broken(params, self.assigned)
            if fault is not None:
                self.fail(promise.node, *fault)

    def hints(self) -> dict[str, Any]:
        try:
            # Evaluates postponed annotations, too, in the module that wrote them.
            return typing.get_type_hints(self.target)
        except (NameError, TypeError, AttributeError) as error:
            self.fail(self.node, f"an annotation cannot be read: {error}", "import or define it")

    def result_type(self, hints: dict[str, Any]) -> None:
        if "return" not in hints:
            self.fail(self.node, "the result has no type", "write -> float, or what it is")
        fields = result_fields(hints["return"])
        at = self.node.returns or self.node
        if fields is None:
            if self.field is not None:
                shown = f"{self.name}[{self.field!r}]"
                self.fail(at, f"{shown}: the result is one value", f"use {self.name} itself")
            self.returns = self.hinted(at, hints["return"])
            if self.returns == NONE:
                self.fail(self.node, "a feature that is always None", "declare the type it returns")
            return
        self.fields = {n: self.hinted(at, h) for n, h in fields.items()}
        if self.field is None:
            names = ", ".join(f'{self.name}["{n}"]' for n in self.fields)
            self.fail(
                at,
                f"{self.name} gives several values, and one is wanted here",
                f"name one: {names}" if self.top else "unpack it, as in a, b = f(x)",
            )
        if self.field not in self.fields:
            self.fail(at, f"the result has no {self.field}", f"it has {', '.join(self.fields)}")
        self.returns = self.fields[self.field]

    # --- results ----------------------------------------------------------------------------------

    def returned(self, node: ast.expr, env: Env) -> Made:
        if self.fields is not None:
            return self.returned_fields(node, env)
        made = self.returned_value(node, env, self.returns)
        return [Return(made)], Flow(None)

    def returned_value(self, node: ast.expr, env: Env, wanted: Type) -> Expr:
        expect = wanted if self.top or wanted.item is not None else None
        if isinstance(node, ast.IfExp):
            condition, if_true, if_false = self.condition(node.test, env)
            then = self.returned_value(node.body, if_true, wanted)
            other = self.returned_value(node.orelse, if_false, wanted)
            self.forget(node, env)
            made = self.choose(node, condition, then, other, expect)
        elif isinstance(node, ast.Constant) and node.value is None:
            made = Const(None, NONE)
        elif isinstance(node, (ast.Attribute, ast.Name)):
            made = self.operand(node, env)
        elif self.top:
            made = self.expression(node, env, wanted)
        else:
            made = self.unconverted(node, env, wanted)
        if isinstance(made, Const) and made.type != wanted:
            made = self.constant(node, made.value, expect)
        return self.coerce(node, made, wanted, "the declared result", convert=self.top)

    def returned_fields(self, node: ast.expr, env: Env) -> Made:
        """The wanted field; the others are evaluated for their errors (R3)."""
        assert self.fields is not None
        assert self.field is not None
        match node:
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, if_true, if_false = self.condition(test, env)

                def one(value: ast.expr, locals_: Env) -> tuple[tuple[Statement, ...], Flow]:
                    made, flow = self.returned_fields(value, locals_)
                    return tuple(made), flow

                return self.fork(
                    test, condition, lambda: one(body, if_true), lambda: one(orelse, if_false)
                )
            case ast.Constant(value=None) if all(t.optional for t in self.fields.values()):
                return [Return(Const(None, self.returns))], Flow(None)
            case ast.Call(func=ast.Name() | ast.Attribute() as maker) if isinstance(
                self.static(maker, env), type
            ):
                nodes = self.field_nodes(node)
            case ast.Dict(keys=keys, values=values):
                nodes = {}
                for key, value in zip(keys, values, strict=True):
                    if not isinstance(key, ast.Constant):
                        self.fail(key or node, "a field's name is a literal", 'write {"a": …}')
                    nodes[str(key.value)] = value
            case ast.Tuple(elts=elements) if "0" in self.fields:
                nodes = {str(i): e for i, e in enumerate(elements)}
            case _:
                self.fail(
                    node,
                    "several values are returned together",
                    f"write return Result({', '.join(f'{n}=…' for n in self.fields)}) right here",
                )
        if nodes.keys() != self.fields.keys():
            missing = ", ".join(self.fields.keys() ^ nodes.keys())
            self.fail(node, f"the fields differ in {missing}", f"give {', '.join(self.fields)}")
        out: list[Statement] = []
        chosen: Expr | None = None
        for name, value_node in nodes.items():
            made = self.returned_value(value_node, env, self.fields[name])
            if name == self.field:
                chosen = self.kept(made, out)
            elif not isinstance(made, (Const, Name)):
                out.append(Evaluate(made))
        assert chosen is not None
        return [*out, Return(chosen)], Flow(None)

    def field_nodes(self, node: ast.Call) -> dict[str, ast.expr]:
        assert self.fields is not None
        names = list(self.fields)
        if len(node.args) > len(names):
            self.fail(node, f"{len(node.args)} values for {len(names)} fields", "name each")
        nodes = dict(zip(names, node.args, strict=False))
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in nodes:
                self.fail(keyword, "a field twice, or **", "name each field once")
            nodes[keyword.arg] = keyword.value
        return nodes

    # --- calls of functions with several results --------------------------------------------------

    def several(self, node: ast.Call, env: Env) -> Any:
        called = (
            self.static(node.func, env) if isinstance(node.func, (ast.Name, ast.Attribute)) else 0
        )
        function = called.function if isinstance(called, Transform) else called
        if not isinstance(function, pytypes.FunctionType):
            return None
        try:
            hint = typing.get_type_hints(function).get("return")
        except (NameError, TypeError, AttributeError):
            return None
        fields = result_fields(hint)
        return None if fields is None else (function, list(fields))

    def fields_of(self, node: ast.Call, called: Any, env: Env, out: list[Statement]) -> list[Expr]:
        function, fields = called
        name = ast.unparse(node.func)
        made: list[Expr] = []
        held: tuple[Expr, ...] | None = None
        given: tuple[tuple[str, Type], ...] = ()
        for field in fields:
            callee = self.helper(node, function, name, field)
            if held is None:
                args, given = self.arguments(node, function, callee, name, env)
                held = tuple(self.kept(v, out) for v in args)
            if given:
                callee = self.helper(node, function, name, field, given)
            made.append(Apply(callee, held, callee.returns.plain))
        return made
