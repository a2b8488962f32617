"""Evaluates a transform node by node, in Python and in DuckDB: what each node was given and gave.

Operators run as the online path runs them (`to_python`), SQL is that of the offline path
(`to_duckdb`); this module only walks the nodes, and shows them as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.values import ERROR
from featurekit.language.ir import (
    Apply,
    Assign,
    Bind,
    Both,
    Break,
    Call,
    Choose,
    Const,
    Continue,
    Each,
    Either,
    Evaluate,
    Expr,
    Fail,
    For,
    Function,
    If,
    IsNone,
    Let,
    ListOf,
    Lookup,
    Name,
    Param,
    Return,
    Statement,
    Unrolled,
    Verbatim,
    Zip,
)
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb.lowering import Lowering, Sql, Value
from featurekit.language.to_python import to_python
from featurekit.language.walk import free
from featurekit.parity.bits import bits
from featurekit.parity.scenario import canonical

MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Step:
    """A node that was evaluated: its text, the values it was given by their text, and its own,
    `ERROR` where it erred. `names` are the locals and parameters as they were."""

    text: str
    inputs: tuple[tuple[str, Any], ...]
    value: Any
    node: Expr = field(compare=False)
    names: Mapping[str, Any] = field(compare=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of one call, at most `MOST_STEPS`, and its value."""

    function: Function
    steps: tuple[Step, ...]
    value: Any
    whole: bool = True
    """Whether all steps are there."""


def trace(function: Function, arguments: Sequence[Any]) -> Trace:
    """The call of `function`, node by node, as the online path evaluates it."""
    match function.body:
        case (Verbatim(),):
            return Trace(function, (), to_python(function)(*arguments))
    tracer = _Tracer()
    names = {p.name: a for p, a in zip(function.params, arguments, strict=True)}
    try:
        value = tracer.function(function, names)
    except _Erred:
        value = ERROR
    return Trace(function, tuple(tracer.steps[:MOST_STEPS]), value, tracer.whole)


def first_parting(con: Any, found: Trace) -> tuple[Step, Any] | None:
    """The first step whose node DuckDB gives another value, with that value; None where all of them
    agree. DuckDB is given the locals that Python had."""
    for step in found.steps:
        value = sql_value(con, step.node, step.names)
        if bits(value) != bits(step.value):
            return step, value
    return None


def sql_value(con: Any, node: Expr, names: Mapping[str, Any]) -> Any:
    """What DuckDB makes of a node over locals of these values; `ERROR` where it errs."""
    params = tuple(Param(name, type_) for name, type_ in free(node).items())
    function = Function("", params, (Return(node),), node.type)
    return sql_call(con, function, [names[p.name] for p in params])


_numbers = itertools.count()


def sql_call(con: Any, function: Function, arguments: Sequence[Any]) -> Any:
    """What DuckDB makes of a call; `ERROR` where it errs."""
    import pyarrow as pa

    table = f"__traced_{next(_numbers)}"
    columns = {"__one": pa.array([1])}
    for param, argument in zip(function.params, arguments, strict=True):
        columns[param.name] = canonical(param.type, [argument])
    typed = "".join(
        f", {quote(p.name)}::{p.type.duckdb} AS {quote(p.name)}" for p in function.params
    )
    con.register(f"{table}_arrow", pa.table(columns))
    con.execute(f"CREATE TEMP TABLE {table} AS SELECT __one{typed} FROM {table}_arrow")
    con.unregister(f"{table}_arrow")
    lowering = Lowering()
    value = lowering.lower(function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    error = "FALSE" if value.error is None else value.error.text
    made = con.sql(
        f"SELECT {value.sql.text} AS v, {error} AS e FROM {lowering.wrap(table)}"
    ).to_arrow_table()
    con.execute(f"DROP TABLE {table}")
    column = made.column("v")
    if function.returns.name != "None":
        column = column.cast(function.returns.arrow)
    result = column.to_pylist(maps_as_pydicts="strict")[0]
    if made.column("e").to_pylist()[0] or (result is None and not function.returns.optional):
        return ERROR
    return result


class _Erred(Exception):
    """The call has erred (R3)."""


class _Broken(Exception):
    """`break`."""


class _Continued(Exception):
    """`continue`."""


class _Returned(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Tracer:
    """Walks statements and expressions; `steps` grows."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.whole = True
        self.operators: dict[int, tuple[Expr, Callable[..., Any]]] = {}

    def function(self, function: Function, names: dict[str, Any]) -> Any:
        try:
            self.block(function.body, names)
        except _Returned as returned:
            return returned.value
        return None

    def block(self, statements: Sequence[Statement], names: dict[str, Any]) -> None:
        for statement in statements:
            self.statement(statement, names)

    def statement(self, statement: Statement, names: dict[str, Any]) -> None:
        match statement:
            case Assign(name, value):
                names[name] = self.expr(value, names)
            case Evaluate(value):
                self.expr(value, names)
            case Return(value):
                raise _Returned(self.expr(value, names))
            case If(test, then, orelse):
                self.block(then if self.expr(test, names) else orelse, names)
            case For(targets, over, body):
                self.loop(targets, over, body, names)
            case Break():
                raise _Broken
            case Continue():
                raise _Continued
            case Fail():
                raise _Erred
            case Verbatim():
                raise TypeError("a verbatim function has no nodes")

    def loop(
        self,
        targets: tuple[str, ...],
        over: Zip | Unrolled,
        body: tuple[Statement, ...],
        names: dict[str, Any],
    ) -> None:
        for row in list(self.rows(over, names)):
            names.update(zip(targets, row, strict=True))
            try:
                self.block(body, names)
            except _Continued:
                continue
            except _Broken:
                break

    def rows(self, over: Zip | Unrolled, names: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        match over:
            case Unrolled(rows):
                for row in rows:
                    yield tuple(self.expr(v, names) for v in row)
            case Zip(sources, start):
                lists = [self.expr(s, names) for s in sources]
                numbered = [] if start is None else [itertools.count(start)]
                yield from zip(*numbered, *lists, strict=False)

    def expr(self, node: Expr, names: dict[str, Any]) -> Any:
        match node:
            case Const(value, _):
                return list(value) if isinstance(value, tuple) else value
            case Name(name, _):
                return names[name]
            case Call(_, args, _):
                return self.call(node, [self.expr(a, names) for a in args], names)
            case Choose(test, then, orelse, _):
                given = self.expr(test, names)
                value = self.expr(then if given else orelse, names)
                return self.step(node, [(test, given)], value, names)
            case Both(left, right, _):
                return self.expr(left, names) and self.expr(right, names)
            case Either(left, right, _):
                return self.expr(left, names) or self.expr(right, names)
            case IsNone(value, _):
                return self.expr(value, names) is None
            case Let(name, value, body, _):
                names[name] = self.expr(value, names)
                return self.expr(body, names)
            case Bind(name, value, _):
                names[name] = self.expr(value, names)
                return names[name]
            case Lookup():
                return self.lookup(node, names)
            case Apply(function, args, _):
                given = [self.expr(a, names) for a in args]
                inner = {p.name: v for p, v in zip(function.params, given, strict=True)}
                value = self.function(function, inner)
                return self.step(node, list(zip(args, given, strict=True)), value, names)
            case ListOf(items, _):
                return [self.expr(i, names) for i in items]
            case Each():
                return self.step(node, [], self.each(node, names), names)

    def call(self, node: Call, given: list[Any], names: dict[str, Any]) -> Any:
        """One operator, as it is printed for the online path."""
        known = self.operators.get(id(node))
        if known is None:
            params: list[Param] = []
            args: list[Expr] = []
            for i, arg in enumerate(node.args):
                if isinstance(arg, Const):
                    args.append(arg)
                else:
                    params.append(Param(f"a{i}", arg.type))
                    args.append(Name(f"a{i}", arg.type))
            body = (Return(Call(node.op, tuple(args), node.type)),)
            function = Function("", tuple(params), body, node.type)
            self.operators[id(node)] = known = node, to_python(function)
        values = [v for a, v in zip(node.args, given, strict=True) if not isinstance(a, Const)]
        result = known[1](*values)
        return self.step(node, list(zip(node.args, given, strict=True)), result, names)

    def lookup(self, node: Lookup, names: dict[str, Any]) -> Any:
        key = self.expr(node.key, names)
        table = dict(node.table)
        if key in table:
            value = table[key]
        else:
            value = ERROR if node.default is None else self.expr(node.default, names)
        return self.step(node, [(node.key, key)], value, names)

    def each(self, node: Each, names: dict[str, Any]) -> Any:
        made: list[Any] = []
        for row in list(self.rows(node.over, names)):
            inner = {**names, **dict(zip(node.names, row, strict=True))}
            if node.test is not None and not self.expr(node.test, inner):
                continue
            element = self.expr(node.element, inner)
            if node.kind == "any" and element:
                return True
            if node.kind == "all" and not element:
                return False
            made += element if node.kind == "flat" else [element]
        return node.kind == "all" if node.kind in ("any", "all") else made

    def step(
        self, node: Expr, given: list[tuple[Expr, Any]], value: Any, names: dict[str, Any]
    ) -> Any:
        if len(self.steps) < MOST_STEPS:
            inputs = tuple((text(n), v) for n, v in given if not isinstance(n, Const))
            self.steps.append(Step(text(node), inputs, value, node, dict(names)))
        else:
            self.whole = False
        if value is ERROR:
            raise _Erred
        return value


# --- text -----------------------------------------------------------------------------------------


def text(node: Expr) -> str:
    """A node as Python would write it, near enough for people."""
    match node:
        case Const(value, _):
            return repr(list(value) if isinstance(value, tuple) else value)
        case Name(name, _):
            return name.lstrip(".")
        case Call("float(int)", (Const(int(value), _),), _):
            return repr(float(value))
        case Call(key, args, _):
            return _call_text(key.partition("(")[0] or "(", [_inner(a) for a in args])
        case Choose(test, then, orelse, _):
            return f"{_inner(then)} if {_inner(test)} else {_inner(orelse)}"
        case Both(left, right, _):
            return f"{_inner(left)} and {_inner(right)}"
        case Either(left, right, _):
            return f"{_inner(left)} or {_inner(right)}"
        case IsNone(value, _):
            return f"{_inner(value)} is None"
        case Let(name, value, body, _):
            return f"{text(body)} with {name.lstrip('.')} = {text(value)}"
        case Bind(name, value, _):
            return f"({name} := {text(value)})"
        case Lookup(key, _, None, _):
            return f"{{…}}[{text(key)}]"
        case Lookup(key, _, default, _):
            assert default is not None
            return f"{{…}}.get({text(key)}, {text(default)})"
        case Apply(function, args, _):
            return f"{function.name}({', '.join(map(text, args))})"
        case ListOf(items, _):
            return f"[{', '.join(map(text, items))}]"
        case Each(kind, names, over, test, element, _):
            return _each_text(kind, names, over, test, element)


def _inner(node: Expr) -> str:
    shown = text(node)
    infix = isinstance(node, (Choose, Both, Either, IsNone)) or (
        isinstance(node, Call) and (not node.op[0].isalpha() or node.op.startswith("in("))
    )
    return f"({shown})" if infix else shown


_UNARY = {"negative": "-", "positive": "+", "invert": "~", "not": "not "}


def _call_text(name: str, args: list[str]) -> str:
    if name in _UNARY:
        return f"{_UNARY[name]}{args[0]}"
    if not name[0].isalpha() or name == "in":
        return f" {name} ".join(args)
    owner, dot, method = name.partition(".")
    if dot and owner in ("str", "bytes", "datetime", "date", "timedelta", "list", "dict") and args:
        return f"{args[0]}.{method}({', '.join(args[1:])})"
    return f"{name}({', '.join(args)})"


def _each_text(
    kind: str, names: tuple[str, ...], over: Zip, test: Expr | None, element: Expr
) -> str:
    sources = ", ".join(map(text, over.sources))
    run = sources if len(over.sources) == 1 else f"zip({sources})"
    made = f"{text(element)} for {', '.join(n.lstrip('.') for n in names)} in {run}"
    made += "" if test is None else f" if {text(test)}"
    return f"[{made}]" if kind in ("list", "flat") else f"{kind}({made})"
