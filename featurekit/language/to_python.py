"""Turns a transform's IR into Python source that the online path runs.

The source is the function that was written, with its ints kept within int64. Each operator is its
row's Python meaning, inlined, so that a call costs little more than the plain function. With a
probe, the same source also reports what each node was given and gave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from featurekit.core.types import INT, INT_MAX, INT_MIN
from featurekit.core.values import ERROR, Beyond
from featurekit.language.ir import (
    MOST_TURNS,
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
    Try,
    Unrolled,
    Verbatim,
    While,
    Zip,
)
from featurekit.language.walk import children, free

if TYPE_CHECKING:
    from featurekit.language import ops


class Probe(Protocol):
    """Receives the nodes of a call in the order of their evaluation.

    `given` has the values of a node's `inputs` that are not constants. `names` has the locals that
    the node reads and does not bind.
    """

    def began(self, node: Expr, given: tuple[Any, ...], names: dict[str, Any]) -> None:
        """A node that may err is evaluated now: an operator or a look-up."""

    def ended(self, value: Any) -> Any:
        """The node that began last gave `value`; returns it."""

    def gave(self, node: Expr, given: tuple[Any, ...], names: dict[str, Any], value: Any) -> Any:
        """A node that cannot err itself gave `value`; returns it."""


def to_python(function: Function, probe: Probe | None = None) -> Callable[..., Any]:
    """A callable of the parameters in their order. It gives the function's value, or `ERROR` where
    it errs (R3).

    A `probe` receives every step. It makes the call slower and changes nothing else.
    """
    match function.body:
        case (Verbatim() as body,):
            from featurekit.language.verbatim import run_verbatim

            return run_verbatim(body, function, ERROR)
    from featurekit.language import (
        ops,  # loaded late: a service without transforms needs no table of operators
    )

    source, constants = python_source(function, probed=probe is not None)
    namespace = {**ops.NAMESPACE, **constants, **_HELPERS, "_ERRORS": ops.ERRORS, "_probe": probe}
    exec(compile(source, f"<feature {function.name}>", "exec"), namespace)
    evaluate: Callable[..., Any] = namespace["_feature"]
    return evaluate


def _overflow() -> Any:
    raise Beyond("an int outside int64")


def _flat(lists: Iterable[list[Any]]) -> list[Any]:
    return [item for one in lists for item in one]


_HELPERS: dict[str, Any] = {
    "_overflow": _overflow,
    "_flat": _flat,
    "_count": itertools.count,
    "_ERROR": ERROR,
}


def python_source(function: Function, *, probed: bool = False) -> tuple[str, dict[str, Any]]:
    """The source of `def _feature(…)`, and the constants that it names."""
    printer = _Printer(probed=probed)
    head, *body = printer.function("_feature", function)
    helpers = [line for lines in printer.helpers.values() for line in lines]
    if printer.raises:
        # The try is inside the function: it costs nothing here, while one more call would.
        body = [
            "    try:",
            *(f"    {b}" for b in body),
            "    except _ERRORS:",
            "        return _ERROR",
        ]
    return "\n".join([*helpers, head, *body]), printer.constants


def identifier(name: str) -> str:
    """The Python name for a name of the IR. It never equals a builtin or a helper. The compiler's
    own names, which begin with a dot, never equal a user's."""
    return f"t_{name[1:]}" if name.startswith(".") else f"v_{name}"


def inputs(node: Expr) -> tuple[Expr, ...]:
    """The nodes whose values a step of a trace is computed from."""
    match node:
        case Call(_, args, _) | Apply(_, args, _):
            return args
        case Choose(test, _, _, _):
            return (test,)
        case Lookup(key, _, _, _):
            return (key,)
        case Const() | Name() | Both() | Either() | IsNone() | Let() | Bind() | ListOf() | Each():
            return ()
        case _:
            assert_never(node)


_STEPS = (Call, Choose, Lookup, Apply, Each)
"""The nodes that a probe is told of. Other nodes only combine values or name them."""


class _Printer:
    """Prints nodes as Python; `probed` adds calls of the probe at each step."""

    def __init__(self, *, probed: bool = False) -> None:
        from featurekit.language import ops

        self.table = ops.TABLE
        self.probed = probed
        self.constants: dict[str, Any] = {}
        # By identity, since -0.0 equals 0.0.
        self.helpers: dict[int, list[str]] = {}
        self.names: dict[int, str] = {}
        self.heights: dict[int, int] = {}
        # The node is kept with it, so that its id is not used again.
        self.calls: dict[int, tuple[Expr, Apply | None]] = {}
        self.bare: dict[int, Expr] = {}
        self.temporaries = 0
        self.raises = False
        self.counts = False

    def function(self, name: str, function: Function) -> list[str]:
        parameters = ", ".join(identifier(p.name) for p in function.params)
        outside, self.counts = self.counts, False
        body = self.block(function.body, "    ")
        counter = ["    _turns = 0"] if self.counts else []
        self.counts = outside
        return [f"def {name}({parameters}):", *counter, *body]

    def block(self, statements: tuple[Statement, ...], indent: str) -> list[str]:
        lines = []
        deeper = indent + "    "
        for statement in statements:
            match statement:
                case Assign(name, value):
                    lines.append(f"{indent}{identifier(name)} = {self.expr(value)}")
                case Evaluate(value):
                    lines.append(f"{indent}{self.expr(value)}")
                case Return(value):
                    lines.append(f"{indent}return {self.expr(value)}")
                case If(test, then, orelse):
                    lines.append(f"{indent}if {self.expr(test)}:")
                    lines += self.block(then, deeper)
                    # Python nests blocks no deeper than 100; a chain of elif may be longer.
                    while len(orelse) == 1 and isinstance(orelse[0], If):
                        test, then, orelse = orelse[0].test, orelse[0].then, orelse[0].orelse
                        lines.append(f"{indent}elif {self.expr(test)}:")
                        lines += self.block(then, deeper)
                    if orelse:
                        lines.append(f"{indent}else:")
                        lines += self.block(orelse, deeper)
                case For(names, over, body):
                    target = ", ".join(identifier(n) for n in names)
                    lines.append(f"{indent}for {target} in {self.over(over)}:")
                    lines += self.block(body, deeper)
                case While(test, body):
                    self.counts = self.raises = True
                    lines.append(f"{indent}while {self.expr(test)}:")
                    lines.append(f"{deeper}_turns += 1")
                    lines.append(f"{deeper}if _turns > {MOST_TURNS}: _overflow()")
                    lines += self.block(body, deeper)
                case Try(body, caught, handlers):
                    lines += self.attempt(body, caught, handlers, indent)
                case Break():
                    lines.append(f"{indent}break")
                case Continue():
                    lines.append(f"{indent}continue")
                case Fail():
                    self.raises = True
                    lines.append(f"{indent}raise ValueError")
                case Verbatim():
                    raise TypeError("a verbatim function is never inlined")
                case _:
                    assert_never(statement)
        return lines or [f"{indent}pass"]

    def attempt(
        self,
        body: tuple[Statement, ...],
        caught: tuple[tuple[str, ...], ...],
        handlers: tuple[tuple[Statement, ...], ...],
        indent: str,
    ) -> list[str]:
        deeper = indent + "    "
        lines = [f"{indent}try:", *self.block(body, deeper)]
        for classes, handler in zip(caught, handlers, strict=True):
            lines.append(f"{indent}except ({''.join(f'{c}, ' for c in classes)}):")
            lines += self.block(handler, deeper)
        return lines

    def over(self, over: Zip | Unrolled) -> str:
        match over:
            case Unrolled(rows):
                if all(isinstance(v, Const) for row in rows for v in row):
                    values = [tuple(v.value for v in row) for row in rows]  # type: ignore[union-attr]
                    alone = [row[0] if len(row) == 1 else row for row in values]
                    return self.constant(tuple(alone))
                shown = [", ".join(self.expr(v) for v in row) for row in rows]
                pieces = [
                    f"({s}), " if len(r) > 1 else f"{s}, " for s, r in zip(shown, rows, strict=True)
                ]
                return f"({''.join(pieces)})"
            case Zip(sources, start):
                lists = [self.expr(s) for s in sources]
                if start is None:
                    return lists[0] if len(lists) == 1 else f"zip({', '.join(lists)})"
                return f"zip(_count({start}), {', '.join(lists)})"
            case _:
                assert_never(over)

    def expr(self, node: Expr) -> str:
        if height(node, self.heights) % _DEEP == _DEEP - 1 and id(node) not in self.bare:
            apart = self.apart(node)
            if apart is not None:
                return self.text(apart, [self.expr(a) for a in apart.args])
        given = [self.expr(n) for n in inputs(node)]
        if self.probed and isinstance(node, _STEPS):
            return self.step(node, given)
        return self.text(node, given)

    def step(self, node: Expr, given: list[str]) -> str:
        """The node over names of its inputs, which are evaluated before it, with a call of the
        probe.

        The text is a tuple: Python evaluates its elements in order, and the last one is the node's
        value.
        """
        first: list[str] = []
        named: list[str] = []
        for i, argument in enumerate(inputs(node)):
            if not isinstance(argument, Const):
                first.append(f"({self.temporary()} := {given[i]})")
                given[i] = f"_i{self.temporaries}"
                named.append(given[i])
        about = f"_n{len(self.constants)}"
        self.constants[about] = node
        own = _bound(node)
        names = ", ".join(f"{n!r}: {identifier(n)}" for n in free(node) if n not in own)
        told = f"{about}, ({''.join(f'{n}, ' for n in named)}), {{{names}}}"
        if isinstance(node, (Call, Lookup)):
            parts = [*first, f"_probe.began({told})", f"_probe.ended({self.text(node, given)})"]
        else:
            parts = [*first, f"_probe.gave({told}, {self.text(node, given)})"]
        return f"({', '.join(parts)},)[-1]"

    def text(self, node: Expr, given: Sequence[str]) -> str:
        """The node as Python; `given` has the texts of its inputs."""
        match node:
            case Const(value, _):
                return self.constant(value)
            case Name(name, _):
                return identifier(name)
            case Call("float(int)", (Const(value, _),), _):
                return self.constant(float(value))
            case Call("**(float,float)", (_, exponent), _) if _whole(exponent):
                self.raises = True
                return f"({given[0]} ** {given[1]})"
            case Call(key, _, _):
                return self.call(self.table[key], given, checked=_may_grow(node))
            case Choose(_, then, orelse, _):
                return f"({self.expr(then)} if {given[0]} else {self.expr(orelse)})"
            case Both(left, right, _):
                return f"({self.expr(left)} and {self.expr(right)})"
            case Either(left, right, _):
                return f"({self.expr(left)} or {self.expr(right)})"
            case IsNone(value, _):
                return f"({self.expr(value)} is None)"
            case Let(name, value, body, _):
                # In a tuple the binding is evaluated first, in whatever order the body evaluates.
                return f"(({identifier(name)} := {self.expr(value)}), {self.expr(body)})[1]"
            case Bind(name, value, _):
                return f"({identifier(name)} := {self.expr(value)})"
            case Lookup(_, table, default, _):
                entries = self.constant(dict(table))
                if default is None:
                    self.raises = True
                    return f"{entries}[{given[0]}]"
                return f"{entries}.get({given[0]}, {self.expr(default)})"
            case Apply(function, _, _):
                return f"{self.helper(function)}({', '.join(given)})"
            case ListOf(items, _):
                return f"[{', '.join(self.expr(i) for i in items)}]"
            case Each():
                return self.each(node)
            case _:
                assert_never(node)

    def each(self, node: Each) -> str:
        """A comprehension. What it runs over may not have a walrus in it, so that becomes an
        argument of a function."""
        target = ", ".join(identifier(n) for n in node.names)
        test = "" if node.test is None else f" if {self.expr(node.test)}"
        made = f"{self.expr(node.element)} for {target} in _s{test}"
        made = f"[{made}]" if node.kind == "list" else f"{_EACH[node.kind]}({made})"
        return f"(lambda _s: {made})({self.over(node.over)})"

    def apart(self, node: Expr) -> Apply | None:
        """A call of a separate function for `node`, since Python's text may nest no more than 200
        brackets; None for a node that binds a local, which has to stay in place."""
        if id(node) not in self.calls:
            made = None
            if not _bound(node):
                same = replace(node)
                params = tuple(Param(n, t) for n, t in free(node).items())
                function = Function("", params, (Return(same),), node.type)
                args = tuple(Name(p.name, p.type) for p in params)
                made = Apply(function, args, node.type)
                self.bare[id(same)] = same
            self.calls[id(node)] = node, made
        return self.calls[id(node)][1]

    def helper(self, function: Function) -> str:
        if id(function) not in self.names:
            name = f"_f{len(self.names)}"
            self.names[id(function)] = name
            self.helpers[id(function)] = self.function(name, function)
        return self.names[id(function)]

    def constant(self, value: Any) -> str:
        plain = type(value) in (bool, int, str, bytes, type(None))
        if plain or (type(value) is float and math.isfinite(value)):
            return f"({value!r})"  # a name would cost a look-up
        name = f"_c{len(self.constants)}"
        self.constants[name] = value
        return name

    def temporary(self) -> str:
        self.temporaries += 1
        return f"_i{self.temporaries}"

    def call(self, op: ops.Op, args: Sequence[str], *, checked: bool) -> str:
        text = f"({_applied(op.python, args)})"
        self.raises |= op.raises
        if op.result != INT or not op.raises or not checked:
            return text
        name = self.temporary()
        return f"({name} if {INT_MIN} <= ({name} := {text}) <= {INT_MAX} else _overflow())"


def _applied(template: str, args: Sequence[str]) -> str:
    """An operator's Python over the texts of its arguments.

    In a comprehension an argument may not hold a walrus where it is run over, and would not be
    evaluated where it is run over nothing, so that an error of it would be lost (R3). So a
    comprehension becomes a function of the arguments.
    """
    if " for " not in template:
        return template.format(*args)
    names = [f"_a{i}" for i in range(len(args))]
    return f"(lambda {', '.join(names)}: {template.format(*names)})({', '.join(args)})"


_DEEP = 30


def height(node: Any, known: dict[int, int]) -> int:
    """How deep the expressions in `node` nest; the functions that it calls do not count."""
    if id(node) not in known:
        below = [
            height(c, known) for c in (node.args if isinstance(node, Apply) else children(node))
        ]
        known[id(node)] = max(below, default=0) + (not isinstance(node, tuple))
    return known[id(node)]


def _bound(node: Any) -> set[str]:
    """The locals that an expression binds from here on."""
    if isinstance(node, Apply):
        return _bound(node.args)
    inner = set[str]().union(*(_bound(c) for c in children(node)))
    return inner | {node.name} if isinstance(node, Bind) else inner


def _may_grow(node: Call) -> bool:
    """Whether an int may leave int64 although the arguments lie within it."""
    match node:
        case Call("//(int,int)", (_, Const(divisor, _)), _):
            return not divisor > 0
        case _:
            return not node.op.startswith(_STAY_SMALL)


_STAY_SMALL = ("%(int,int)", ">>(int,int)", "zoned.", "getitem(", "str.index(", "ord(")


def _whole(exponent: Expr) -> bool:
    """Whether a power is never complex, because its exponent is a whole number."""
    match exponent:
        case Const(float(value), _):
            return value.is_integer()
        case Call("float(int)", (Const(),), _):
            return True
        case _:
            return False


_EACH = {"any": "any", "all": "all", "flat": "_flat"}
