"""Says whether a function of the IR is one that the compiler could have made (F0).

A plan is data that others wrote, and Python text is made of it. So every name is checked against
the names that are bound, every operator against its row of the table, every constant against its
type, and every node against the types of what it is made of. What is wrong is `Unsound`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, assert_never

from featurekit.core.types import BOOL, INT, INT_MAX, INT_MIN, LONGEST_VECTOR, NONE, Type
from featurekit.language.ir import (
    CATCHABLE,
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
from featurekit.language.walk import MOST_DEEP, depth

if TYPE_CHECKING:
    from featurekit.language.ops import Op

_SCALARS = ("bool", "int", "float", "str", "bytes", "datetime", "date", "timedelta")
_CHOSEN = {"bool": bool, "int": int, "str": str}
_KINDS = {"list", "any", "all", "flat"}
_LONGEST_NAME = 1000
_CONSTANTS = ("value", "list", "tuple", "set", "frozenset", "dict")
Env = dict[str, Type]


class Unsound(ValueError):
    """A function, or a part of one, that no compiler made; the text says what is wrong."""


def verify_function(function: Function, *, where: str) -> None:
    """Unsound where the function is none that the compiler makes. A whole function as its author's
    Python (Verbatim) is checked for its form alone: whether it may run is for others to say."""
    try:
        verify_params(function.params, where=where)
        verify_type(function.returns, where=where)
        match function.body:
            case (Verbatim() as body,):
                _verbatim(body)
            case _:
                _Function(function).check()
    except Unsound as error:
        raise Unsound(f"{where}: {error}") from None


def is_identifier(name: str) -> bool:
    """Whether a name is one that Python's own parser gives: letters, digits and underscores, in the
    form in which it compares names, and of a length that a person may write."""
    return (
        0 < len(name) <= _LONGEST_NAME
        and f"v_{name}".isidentifier()
        and (name.isascii() or unicodedata.normalize("NFKC", name) == name)
    )


def verify_type(type_: Type, *, where: str = "a type", depth: int = 0) -> None:
    """Unsound where a type is none of R1's, nor what an aggregate gives."""
    name, item = type_.name, type_.item
    if depth > 8:
        raise Unsound(f"{where}: lists in lists more than eight deep")
    if (item is not None) != (name in ("list", "dict")):
        raise Unsound(f"{where}: {name!r} with{'out' if item is None else ''} a type of its items")
    if item is not None:
        verify_type(item, where=where, depth=depth + 1)
        if name == "dict" and item.name not in _SCALARS:
            raise Unsound(f"{where}: a dict of {item}")
        if name == "dict":
            verify_type(type_.held, where=where, depth=depth + 1)
    elif name == "None":
        if not type_.optional:
            raise Unsound(f"{where}: a None that is not optional")
    elif name not in _SCALARS:
        raise Unsound(f"{where}: {name!r} is no type")
    if type_.value is not None and (name != "dict" or type_.value.name not in _SCALARS):
        raise Unsound(f"{where}: a {name} of values that are {type_.value}")
    if type_.choices is not None:
        kind = _CHOSEN.get(name)
        if kind is None or not type_.choices or any(type(c) is not kind for c in type_.choices):
            raise Unsound(f"{where}: the choices {type_.choices!r} of a {name}")
    if type_.size is not None:
        floats = item is not None and name == "list" and item.name == "float"
        if not floats or not 1 <= type_.size <= LONGEST_VECTOR:
            raise Unsound(f"{where}: a {name} of size {type_.size}")


def verify_params(params: Sequence[Param], *, where: str) -> None:
    """Unsound where parameters have names that are no identifiers, or one name twice."""
    for param in params:
        if not is_identifier(param.name):
            raise Unsound(f"{where}: {param.name!r} is no name of a parameter")
        verify_type(param.type, where=f"{where}, {param.name!r}")
    if len({param.name for param in params}) < len(params):
        raise Unsound(f"{where}: two parameters of one name")


def verify_value(value: Any, type_: Type, *, where: str) -> None:
    """Unsound where a constant is not of its type, to the class; lists are tuples or lists."""
    if value is None:
        if not type_.optional:
            raise Unsound(f"{where}: None for a {type_}")
        return
    found = "list" if isinstance(value, (list, tuple)) else type(value).__name__
    if found != type_.name or type_.name == "None":
        raise Unsound(f"{where}: a {found} for a {type_}")
    if found == "datetime" and value.tzinfo is None:
        raise Unsound(f"{where}: an instant without a zone")
    if found == "int" and not INT_MIN <= value <= INT_MAX:
        raise Unsound(f"{where}: an int outside int64")
    if type_.item is not None:
        for part in value:
            verify_value(part, type_.item, where=where)


def _verbatim(body: Verbatim) -> None:
    if not is_identifier(body.entry) or not all(s.strip() for s in body.sources):
        raise Unsound(f"{body.entry!r} is no name of a function")
    if body.field and not (body.field.isdecimal() or is_identifier(body.field)):
        raise Unsound(f"{body.field!r} is no name of a field")
    for alias, module, attribute in body.imports:
        parts = [*module.split("."), *(attribute.split(".") if attribute else ())]
        if not all(map(is_identifier, (alias, *parts))):
            raise Unsound(f"{module}.{attribute} as {alias} is no import")
    for name, held in body.constants:
        if not is_identifier(name):
            raise Unsound(f"{name!r} is no name of a constant")
        _frozen(held)


def _frozen(held: Any) -> None:
    """Whether a value is what `verbatim.frozen` writes of a constant."""
    match held:
        case ("value", None | bool() | int() | float() | str() | bytes()):
            return
        case ("value", value) if type(value).__name__ in _SCALARS:
            return
        case ("dict", tuple(pairs)) if all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
            for key, value in pairs:
                _hashable(key)
                _frozen(value)
        case (("list" | "tuple" | "set" | "frozenset") as kind, tuple(parts)):
            for part in parts:
                if kind in ("set", "frozenset"):
                    _hashable(part)
                _frozen(part)
        case _:
            raise Unsound("a constant that is no plain value")


def _hashable(held: Any) -> None:
    match held:
        case ("value", _):
            _frozen(held)
        case (("tuple" | "frozenset"), tuple(parts)):
            for part in parts:
                _hashable(part)
        case _:
            raise Unsound("a key that is no plain value")


class _Function:
    """One function: what it calls has a checker of its own."""

    def __init__(self, function: Function) -> None:
        from featurekit.language import ops

        self.function, self.table = function, ops.TABLE

    def check(self) -> None:
        if depth(self.function.body) > MOST_DEEP:
            self.fail(f"it nests more than {MOST_DEEP} deep")
        env = {p.name: p.type for p in self.function.params}
        self.block(self.function.body, env, loop=False)

    def fail(self, what: str) -> NoReturn:
        raise Unsound(what)

    # --- statements -------------------------------------------------------------------------------

    def block(self, statements: Iterable[Statement], env: Env, *, loop: bool) -> Env | None:
        """What is bound after the statements; None where they never end."""
        ended = False
        for statement in statements:
            after = self.statement(statement, env, loop=loop)
            ended, env = ended or after is None, env if after is None else after
        return None if ended else env

    def statement(self, statement: Statement, env: Env, *, loop: bool) -> Env | None:
        match statement:
            case Assign(name, value):
                type_ = self.expr(value, env)
                self.bind(name, type_, env)
            case Evaluate(value):
                self.expr(value, env)
            case Return(value):
                self.same(self.expr(value, env), self.function.returns, "the result")
                return None
            case If(test, then, orelse):
                true, false = self.test(test, env)
                return _met(self.block(then, true, loop=loop), self.block(orelse, false, loop=loop))
            case For(names, over, body):
                inner = dict(env)
                for name, type_ in zip(names, self.over(over, inner, len(names)), strict=True):
                    self.bind(name, type_, inner)
                after = self.block(body, inner, loop=True)
                if isinstance(over, Unrolled) and over.rows:  # it turns, so what it binds stays
                    env |= {n: t for n, t in (after or inner).items() if n not in env}
            case While(test, body):
                true, false = self.test(test, env)
                self.block(body, true, loop=True)
                return false
            case Try():
                return self.attempt(statement, env, loop=loop)
            case Break() | Continue():
                if not loop:
                    self.fail("a break or continue outside a loop")
                return None
            case Fail():
                return None
            case Verbatim():
                self.fail("a function of Python inside another one")
            case _:
                assert_never(statement)
        return env

    def attempt(self, node: Try, env: Env, *, loop: bool) -> Env | None:
        """What is bound after a try: a handler starts from what was bound before it."""
        if len(node.caught) != len(node.handlers) or not node.handlers:
            self.fail("a try with another number of handlers")
        if any(name not in CATCHABLE for classes in node.caught for name in classes):
            self.fail("a handler of another class of errors")
        after = self.block(node.body, dict(env), loop=loop)
        for handler in node.handlers:
            after = _met(after, self.block(handler, dict(env), loop=loop))
        return after

    def over(self, over: Zip | Unrolled, env: Env, width: int) -> list[Type]:
        """The types of what a loop binds in each step; it binds `width` names."""
        match over:
            case Unrolled(rows):
                if any(len(row) != width for row in rows) or not width:
                    self.fail("a loop over rows of another number of values")
                if not rows:
                    return [NONE] * width
                types = [[self.expr(value, env) for value in row] for row in rows]
                return [_joined(column) for column in zip(*types, strict=True)]
            case Zip(sources, start):
                if len(sources) + (start is not None) != width or not sources:
                    self.fail("a loop over another number of lists")
                found = [INT] if start is not None else []
                for source in sources:
                    type_ = self.expr(source, env)
                    if type_.name != "list" or type_.item is None or type_.optional:
                        self.fail(f"a loop over a {type_}")
                    found.append(type_.item)
                return found
            case _:
                assert_never(over)

    def bind(self, name: str, type_: Type, env: Env) -> None:
        if not is_identifier(name[1:] if name.startswith(".") else name):
            self.fail(f"{name!r} is no name")
        env[name] = type_

    # --- expressions ------------------------------------------------------------------------------

    def same(self, found: Type, wanted: Type, what: str) -> None:
        """Whether a value of one type is of another one; None fits what is optional."""
        if found.name == "None" and wanted.optional:
            return
        if found.base != wanted.base or (found.optional and not wanted.optional):
            self.fail(f"{what} is {found}, not {wanted}")

    def expr(self, node: Expr, env: Env) -> Type:
        """The type of the node. What it binds from here on is added to `env`."""
        verify_type(node.type)
        match node:
            case Const(value, type_):
                verify_value(value, type_, where="a constant")
            case Name(name, type_):
                self.name(name, type_, env)
            case Call():
                self.call(node, env)
            case Choose(test, then, orelse, type_):
                ways = self.test(test, env)
                for part, way in zip((then, orelse), ways, strict=True):
                    self.same(self.expr(part, way), type_, "a choice")
                env |= _met(*ways) or {}
            case Both(_, _, type_) | Either(_, _, type_):
                env |= _met(*self.test(node, env)) or {}
                self.same(BOOL, type_, "and, or")
            case IsNone(value, type_):
                self.expr(value, env)
                self.same(BOOL, type_, "is None")
            case Let(name, value, body, type_):
                self.let(name, value, body, type_, env)
            case Bind(name, value, type_):
                self.same(self.expr(value, env), type_, "what a name is bound to")
                self.bind(name, type_, env)
            case Lookup():
                self.lookup(node, env)
            case Apply(function, args, type_):
                self.apply(function, args, type_, env)
            case ListOf(items, type_):
                if type_.name != "list" or type_.item is None:
                    self.fail(f"a list that is {type_}")
                for item in items:
                    self.same(self.expr(item, env), type_.item, "an item of a list")
            case Each():
                self.each(node, env)
            case _:
                assert_never(node)
        return node.type

    def test(self, node: Expr, env: Env) -> tuple[Env, Env]:
        """What is bound where a test is true, and where it is false; each is a copy."""
        match node:
            case Both(left, right, _):
                true, false = self.test(left, env)
                true, other = self.test(right, true)
                return true, _met(false, other) or {}
            case Either(left, right, _):
                true, false = self.test(left, env)
                other, false = self.test(right, false)
                return _met(true, other) or {}, false
            case Call("not(bool)", (inner,), type_) if type_ == BOOL:
                true, false = self.test(inner, env)
                return false, true
            case _:
                known = dict(env)
                self.same(self.expr(node, known), BOOL, "a test")
                return known, dict(known)

    def let(self, name: str, value: Expr, body: Expr, type_: Type, env: Env) -> None:
        """What both parts bind stays; the name itself does not."""
        found = self.expr(value, env)
        inner = dict(env)
        self.bind(name, found, inner)
        self.same(self.expr(body, inner), type_, "the body of a let")
        env |= {n: t for n, t in inner.items() if n != name}

    def name(self, name: str, type_: Type, env: Env) -> None:
        bound = env.get(name)
        if bound is None:
            self.fail(f"{name!r} is bound to nothing here")
        if "None" not in (bound.name, type_.name) and bound.base != type_.base:
            self.fail(f"{name!r} is {bound}, not {type_}")

    def call(self, node: Call, env: Env) -> None:
        op = self.table.get(node.op)
        if op is None:
            self.fail(f"{node.op!r} is no operator")
        if len(node.args) != len(op.params):
            self.fail(f"{node.op} of {len(node.args)} arguments")
        for argument, wanted in zip(node.args, op.params, strict=True):
            self.same(self.expr(argument, env), wanted, f"an argument of {node.op}")
        self.same(op.result, node.type, f"the result of {node.op}")
        self.literals(op, node)

    def literals(self, op: Op, node: Call) -> None:
        """Whether the arguments of an operator that must be literals are, and possible ones."""
        if any(not isinstance(node.args[i], Const) for i in op.literals):
            self.fail(f"an argument of {op.key} that is no literal")
        if op.check is None:
            return
        given = [a.value if isinstance(a, Const) else None for a in node.args]
        reason = op.check(*given)
        if reason is not None:
            self.fail(f"{op.key}: {reason}")

    def lookup(self, node: Lookup, env: Env) -> None:
        key = self.expr(node.key, env)
        if key.optional or key.name not in _SCALARS:
            self.fail(f"a look-up by a {key}")
        for pair in node.table:
            if not isinstance(pair, tuple) or len(pair) != 2:
                self.fail("a table that holds no pairs")
            verify_value(pair[0], key, where="a key of a table")
            verify_value(pair[1], node.type, where="a value of a table")
        if node.default is not None:
            if not isinstance(node.default, (Const, Name)):
                self.fail("a default that is no constant and no name")
            self.same(self.expr(node.default, env), node.type, "a default")

    def apply(self, function: Function, args: Sequence[Expr], type_: Type, env: Env) -> None:
        if len(args) != len(function.params):
            self.fail(f"{function.name!r} of {len(args)} arguments")
        for argument, param in zip(args, function.params, strict=True):
            self.same(self.expr(argument, env), param.type, f"an argument of {function.name!r}")
        self.same(function.returns, type_, f"the result of {function.name!r}")
        for param in function.params:
            if not is_identifier(param.name.removeprefix(".")):
                self.fail(f"{param.name!r} is no name of a parameter")
            verify_type(param.type)
        verify_type(function.returns)
        _Function(function).check()

    def each(self, node: Each, env: Env) -> None:
        if node.kind not in _KINDS:
            self.fail(f"{node.kind!r} is no kind of comprehension")
        inner = dict(env)
        for name, type_ in zip(
            node.names, self.over(node.over, inner, len(node.names)), strict=True
        ):
            self.bind(name, type_, inner)
        if node.test is not None:
            inner, _ = self.test(node.test, inner)
        element, type_ = self.expr(node.element, inner), node.type
        match node.kind:
            case "list":
                wanted = type_.item if type_.name == "list" else None
            case "flat":
                wanted = type_ if type_.name == "list" else None
            case _:
                self.same(BOOL, type_, node.kind)
                wanted = BOOL
        if wanted is None:
            self.fail(f"a comprehension that is {type_}")
        self.same(element, wanted, "an element of a comprehension")


def _met(one: Env | None, other: Env | None) -> Env | None:
    """What is bound where two ways meet; a way that ends brings nothing."""
    if one is None or other is None:
        return one if other is None else other
    return {n: _joined([t, other[n]]) for n, t in one.items() if n in other}


def _joined(types: Iterable[Type]) -> Type:
    """The type of a name that has one of these; what is wrong with it shows where it is read."""
    found = NONE
    for type_ in types:
        if type_.name == "None":
            found = found.or_none()
        elif found.name == "None":
            found = type_
        elif type_.optional:
            found = found.or_none()
    return found
