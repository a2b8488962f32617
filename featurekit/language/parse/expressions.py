"""Expressions: a case for each kind of node."""

from __future__ import annotations

import ast
import enum
import types as pytypes
from typing import Any

from featurekit.core.types import DATETIME, NONE, STR, Type
from featurekit.language import ops
from featurekit.language.ir import Bind, Const, Expr, Name
from featurekit.language.parse.captured import is_function
from featurekit.language.parse.lists import Lists
from featurekit.language.parse.places import MISSING, Env, is_method

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
_UNARY = {ast.USub: "negative", ast.UAdd: "positive", ast.Invert: "invert"}


class Expressions(Lists):
    """The typed value of any expression."""

    def expression(self, node: ast.expr, env: Env, expect: Type | None = None) -> Expr:
        if not self.converts and expect is not None and expect.item is None:
            expect = None
        match node:
            case ast.Constant(value=value):
                if value is Ellipsis or isinstance(value, complex):
                    self.fail(node, f"a {type(value).__name__} is no feature value", "use float")
                return self.constant(node, value, expect)
            case ast.Name(id=name):
                return self.load(node, name, env)
            case ast.BinOp(left=left, op=ast.Mod()) if isinstance(self.static(left, env), str):
                self.fail(node, "% of a text", 'write an f-string, as in f"{a}-{b:.2f}"')
            case ast.BinOp(left=left, op=op, right=right):
                arguments = [self.expression(left, env), self.expression(right, env)]
                return self.call(node, _BINARY[type(op)], [left, right], arguments)
            case ast.UnaryOp(op=ast.Not()):
                made = self.condition(node, env)[0]
                self.forget(node, env)
                return made
            case ast.UnaryOp(
                op=ast.USub(), operand=ast.Constant(value=int() | float() as number)
            ) if not isinstance(number, bool):
                # The least int64 is written as the negation of an int outside int64.
                return self.constant(node, -number, expect)
            case ast.UnaryOp(op=op, operand=operand):
                # Not `expect`: -(0 if c else x) is the int 0, and never -0.0.
                made = self.expression(operand, env)
                return self.call(node, _UNARY[type(op)], [operand], [made])
            case ast.BoolOp():
                made = self.bool_op(node, env, expect)
                self.forget(node, env)
                return made
            case ast.Compare():
                made = self.compare(node, env)
                self.forget(node, env)
                return made
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, if_true, if_false = self.condition(test, env)
                then = self.expression(body, if_true, expect)
                other = self.expression(orelse, if_false, expect)
                self.forget(node, env)
                return self.choose(node, condition, then, other, expect)
            case ast.NamedExpr(target=target, value=value):
                return self.walrus(node, target, value, env)
            case ast.JoinedStr(values=values):
                return self.f_string(node, values, env)
            case ast.Subscript(value=value, slice=index):
                return self.subscript(node, value, index, env)
            case ast.ListComp():
                item = expect.item if expect is not None else None
                return self.comprehension(node, env, item)
            case ast.List():
                item = expect.item if expect is not None else None
                return self.sequence(node, env, item)
            case ast.GeneratorExp():
                self.fail(
                    node, "a generator by itself", "write a list, or pass it to sum, any, all"
                )
            case ast.Call():
                held = self.static(node, env)
                if held is not MISSING:
                    return self.constant(node, held, expect)
                return self.call_node(node, env, expect)
            case ast.Attribute(value=value, attr=attribute):
                return self.attribute(node, value, attribute, env, expect)
            case _:
                what, hint = _REFUSED.get(
                    type(node).__name__, (f"a {type(node).__name__.lower()}", "write it otherwise")
                )
                self.fail(node, f"{what} is not in the language of features", hint)

    def unconverted(self, node: ast.expr, env: Env, wanted: Type) -> Expr:
        """A value for a name of a declared type: what it holds stays as Python has it, and only an
        empty list learns its type."""
        held, self.converts = self.converts, False
        try:
            return self.expression(node, env, wanted if wanted.item is not None else None)
        finally:
            self.converts = held

    def unconverted_list(self, node: ast.expr, env: Env, wanted: Type) -> Expr:
        """`unconverted` of what is read as a list."""
        held, self.converts = self.converts, False
        try:
            return self.sequence(node, env, wanted.item)
        finally:
            self.converts = held

    def load(self, node: ast.Name, name: str, env: Env) -> Expr:
        if name in env:
            local = env[name]
            if isinstance(local, Name) and local.name in self.matches:
                self.no_match(node)
            if isinstance(local, Name) and local.name in self.zoned:
                self.no_zoned(node)
            return local
        value = self.global_named(node, name)
        if value is MISSING:
            if name in ("True", "False", "None"):
                raise AssertionError(name)
            stored = any(
                isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)
                for n in ast.walk(self.node)
            )
            if stored:
                walrus = any(
                    isinstance(n, ast.NamedExpr) and n.target.id == name
                    for n in ast.walk(self.node)
                )
                self.fail(
                    node,
                    f"{name} is not bound on every path to here",
                    f"assign it in a statement before, in place of ({name} := …)"
                    if walrus
                    else f"give it a value first, on every path, as in {name} = …",
                )
            self.fail(
                node,
                f"{name} is not defined",
                "make it a parameter, assign it, or define a module constant",
            )
        if is_function(value):
            self.fail(node, f"{name} is no value", "call it, or use a constant")
        if isinstance(value, (list, set)):
            self.fail(
                node,
                f"{name} is a {type(value).__name__}, which may change behind a feature's version",
                f"make it a tuple, and use it in a loop, as {name}[i], or in `x in {name}`",
            )
        if isinstance(value, (tuple, dict, frozenset)):
            shown = type(value).__name__
            hint = f"use it as {name}[key], in `x in {name}`, or in a loop"
            self.fail(node, f"{name} is a {shown}, and no value by itself", hint)
        self.no_member(node, value)
        return self.constant(node, value)

    def no_member(self, node: ast.expr, value: Any) -> None:
        """A member of an enumeration prints as `Color.RED`, unless it is a StrEnum's."""
        if isinstance(value, enum.Enum) and not isinstance(value, (enum.StrEnum, enum.IntEnum)):
            shown = f"{type(value).__name__}.{value.name}"
            self.fail(
                node,
                f"{shown} is a member of an enumeration, which prints and hashes as such",
                f"write {shown}.value, or derive {type(value).__name__} from StrEnum",
            )

    def operand(self, node: ast.expr, env: Env) -> Expr:
        """Where only equality counts, a member of a str enumeration is its str."""
        if isinstance(node, (ast.Attribute, ast.Name)):
            held = self.static(node, env)
            if isinstance(held, enum.Enum):
                return self.constant(node, held)
        return self.expression(node, env)

    def attribute(
        self, node: ast.Attribute, inner: ast.expr, attribute: str, env: Env, expect: Type | None
    ) -> Expr:
        held = self.static(inner, env)
        if isinstance(held, pytypes.ModuleType) and not hasattr(held, attribute):
            self.no_attribute(node, held, attribute)
        value = self.static(node, env)
        if value is not MISSING:
            if is_function(value):
                self.fail(node, f"{ast.unparse(node)} is no value", "call it, or use a constant")
            self.no_member(node, value)
            return self.constant(node, value, expect)
        if isinstance(held, type):
            self.fail(
                node,
                f"{ast.unparse(node)} is an attribute of a class",
                "bind it to a module constant, or use an Enum",
            )
        if (chained := self.chained(node, env)) is not None:
            return chained
        if (zoned := self.zoned_of(inner, env)) is not None:
            if is_method(DATETIME, attribute):
                self.fail(node, f"{attribute} is a method", f"write .{attribute}()")
            return self.of_zoned(node, zoned, attribute, [], env)
        made = self.expression(inner, env)
        self.no_none(inner, made)
        name = f"{made.type.name}.{attribute}"
        if is_method(made.type, attribute):
            self.fail(node, f"{name} is a method", f"write .{attribute}()")
        if name not in ops.BY_NAME and made.type.name in ("str", "int", "float"):
            self.fail(node, f"{made.type} has no {attribute} here", "use the value itself")
        return self.call(node, name, [inner], [made])

    def walrus(self, node: ast.NamedExpr, target: ast.expr, value: ast.expr, env: Env) -> Expr:
        assert isinstance(target, ast.Name)
        if self.match_of(value, env) is not None:
            self.fail(node, "a match bound by a walrus", "assign it in a statement before")
        if self.zoned_of(value, env) is not None:
            self.fail(node, "local time bound by a walrus", "assign it in a statement before")
        if self.in_comprehension:
            self.fail(node, "a walrus inside a comprehension", "assign before it")
        made = self.expression(value, env)
        if made.type == NONE:
            self.fail(node, f"{target.id} would be None and nothing else", "leave it out")
        # A name of its own for each walrus, not to be taken for another's where ways meet.
        name = Name(f".{node.lineno}_{node.col_offset}_{target.id}", made.type)
        env[target.id] = name
        return Bind(name.name, made, made.type)

    def f_string(self, node: ast.JoinedStr, values: list[ast.expr], env: Env) -> Expr:
        pieces: list[Expr] = []
        for value in values:
            if isinstance(value, ast.Constant):
                pieces.append(self.constant(value, value.value))
            else:
                assert isinstance(value, ast.FormattedValue)
                pieces.append(self.formatted(value, env))

        def joined(parts: list[Expr]) -> Expr:
            if len(parts) == 1:
                return parts[0]
            middle = (len(parts) + 1) // 2  # no deeper than it must be
            halves = [joined(parts[:middle]), joined(parts[middle:])]
            return self.call(node, "+", [node, node], halves)

        return joined(pieces) if pieces else Const("", STR)

    def formatted(self, node: ast.FormattedValue, env: Env) -> Expr:
        value = self.expression(node.value, env)
        self.no_none(node.value, value)
        if node.conversion not in (-1, ord("s")):
            self.fail(node.value, "!r in an f-string", "leave it out, or write !s")
        spec = node.format_spec
        if value.type.name == "str" and spec is None:
            return value
        if spec is None or (isinstance(spec, ast.JoinedStr) and not spec.values):
            return self.call(node.value, "str", [node.value], [value])
        assert isinstance(spec, ast.JoinedStr)
        texts = [str(v.value) for v in spec.values if isinstance(v, ast.Constant)]
        if len(texts) != len(spec.values):
            self.fail(node.value, "a computed format", "write it out, as in :.2f")
        if node.conversion == ord("s"):
            value = self.call(node.value, "str", [node.value], [value])
        return self.call(
            node.value, "format", [node.value] * 2, [value, Const("".join(texts), STR)]
        )

    def subscript(self, node: ast.Subscript, value: ast.expr, index: ast.expr, env: Env) -> Expr:
        if (match := self.match_of(value, env)) is not None:
            return self.group_of(node, match, [index], env)
        match value:
            case ast.Call(func=ast.Name(id="divmod"), args=[_, _] as parts, keywords=[]) if (
                self.is_builtin("divmod", env) and self.static(index, env) in (0, 1, -1, -2)
            ):
                return self.divided(node, parts, bool(self.static(index, env) % 2), env)
        held = self.static(value, env)
        if isinstance(held, dict):
            return self.subscript_table(value, held, index, env)
        if isinstance(held, (tuple, list)) and isinstance(i := self.static(index, env), int):
            if not -len(held) <= i < len(held):
                self.fail(
                    node, f"{ast.unparse(value)} has {len(held)} elements", "correct the index"
                )
            return self.constant(node, held[i])
        if isinstance(held, (tuple, list)):
            made = self.sequence(value, env)
        else:
            made = self.expression(value, env)
        self.no_none(value, made)
        if isinstance(index, ast.Slice):
            return self.slice(node, value, made, index, env)
        if made.type.item is None and made.type.name not in ("str", "bytes", "dict"):
            self.fail(node, f"{made.type} has no elements", "index a str or a list")
        return self.call(node, "getitem", [value, index], [made, self.expression(index, env)])

    def divided(self, node: ast.expr, parts: list[ast.expr], rest: bool, env: Env) -> Expr:
        """`divmod(a, b)[0]`, and [1]: both are computed, for their errors."""

        def whole(a: Name | Const, b: Name | Const) -> Expr:
            quotient, remainder = (self.call(node, op, parts, [a, b]) for op in ("//", "%"))
            kept, other = (remainder, quotient) if rest else (quotient, remainder)
            return self.named(other, lambda _: kept)

        left, right = (self.expression(p, env) for p in parts)
        return self.named(left, lambda a: self.named(right, lambda b: whole(a, b)))

    def slice(
        self, node: ast.expr, value: ast.expr, made: Expr, index: ast.Slice, env: Env
    ) -> Expr:
        """`value[a:b]`, `[a:]`, `[:b]`, each with a step."""
        given = [(p, self.expression(p, env)) for p in (index.lower, index.upper) if p is not None]
        name = {(True, False): "slice.from", (False, True): "slice.to"}.get(
            (index.lower is not None, index.upper is not None), "slice"
        )
        if index.step is not None:
            step = self.expression(index.step, env)
            if len(given) == 2:
                given.append((index.step, step))
            elif not given:
                return self.call(node, "slice.every", [value, index.step], [made, step])
            elif isinstance(step, Const) and isinstance(step.value, int) and step.value > 0:
                part = self.call(node, name, [value, given[0][0]], [made, given[0][1]])
                return self.call(node, "slice.every", [value, index.step], [part, step])
            else:
                self.fail(
                    index.step, "a step back from an end", "write values[::-1] and slice that"
                )
        elif not given:
            return made
        nodes = [value, *(n for n, _ in given)]
        return self.call(node, name, nodes, [made, *(v for _, v in given)])


_REFUSED = {
    "Lambda": ("a lambda", "write a def at the top of the module, or the expression itself"),
    "Dict": ("a dict", "use a constant dict as a look-up table: TABLE[key], TABLE.get(key, 0.0)"),
    "Set": ("a set", "write x in (a, b, c)"),
    "SetComp": ("a set comprehension", "write a list comprehension, or x in (a, b, c)"),
    "DictComp": ("a dict comprehension", "use a constant dict as a look-up table"),
    "Tuple": ("a tuple as a value", "unpack it into names, or return a list"),
    "Await": ("await", "a feature computes from its parameters alone"),
    "Yield": ("yield", "return a list"),
    "YieldFrom": ("yield", "return a list"),
    "Starred": ("a starred expression", "write the elements out"),
    "Slice": ("a slice by itself", "write values[a:b]"),
}
