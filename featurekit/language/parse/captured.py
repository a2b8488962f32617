"""What a function takes from its module: constants, frozen when it is compiled (R2)."""

from __future__ import annotations

import ast
import datetime as dt
import enum
import inspect
import linecache
import types as pytypes
from collections.abc import Callable
from typing import Any

from featurekit.core.types import (
    BOOL,
    BYTES,
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
)
from featurekit.language.ir import Const
from featurekit.language.ops.table import MAX_SPAN, MIN_SPAN
from featurekit.language.parse.places import MISSING, Env, Places
from featurekit.language.transform import Transform

_CONSTANTS: dict[type, Type] = {
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: STR,
    bytes: BYTES,
    dt.datetime: DATETIME,
    dt.date: DATE,
    dt.timedelta: TIMEDELTA,
}
_BUILDERS = (dt.timedelta, dt.date, dt.datetime, dt.timezone)
_ARITHMETIC: dict[type, Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
}
_MUTATORS = frozenset(
    (
        *("append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse"),
        *("setdefault", "sort", "update", "add", "discard"),
    )
)


class Captured(Places):
    """Reads names of the module, and folds expressions of constants alone."""

    converts: bool = True
    """Whether a declared float makes one of an int: a result's does, and a local's list does not,
    in which Python keeps the int."""

    def __init__(self, function: Any, name: str, what: str = "@feature") -> None:
        super().__init__(function, name, what)
        self.globals = dict(function.__globals__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for free, cell in cells:
            try:
                self.globals[free] = cell.cell_contents
            except ValueError:  # not bound yet: using it is refused as an unknown name
                continue

    def constant(self, node: ast.AST, value: Any, expect: Type | None = None) -> Const:
        """A literal or a captured constant as a value of the language."""
        if value is None:
            return Const(None, expect.or_none() if expect else NONE)
        if isinstance(value, enum.Enum):
            value = self.member(node, value)
        type_ = _CONSTANTS.get(type(value))
        if type_ is None:
            shown = type(value).__name__
            self.fail(
                node,
                f"a {shown} is no feature value",
                "use bool, int, float, str, bytes, datetime, date or timedelta",
            )
        if type_ == INT and not INT_MIN <= value <= INT_MAX:
            self.fail(node, "an int outside int64", "write it as a float, as in 1e19")
        if type_ == TIMEDELTA and not MIN_SPAN <= value <= MAX_SPAN:
            hint = "at most 106_751_991 days, some 292,000 years"
            self.fail(node, "a timedelta outside int64 microseconds", hint)
        as_float = expect is not None and expect.base == FLOAT and self.converts
        if type_ == INT and as_float and abs(value) <= 2**53:
            return Const(float(value), FLOAT)
        if type_ == STR and any("\ud800" <= c <= "\udfff" for c in value):
            self.fail(node, "a lone surrogate in a str", "write the whole character")
        if type_ == DATETIME:
            if value.tzinfo is None:
                self.fail(node, "a datetime without a zone", "write tzinfo=timezone.utc")
            if value.tzinfo is not dt.UTC:
                # Its fields are local time; as an instant they would be others.
                self.fail(node, "a constant datetime outside UTC", "write it with timezone.utc")
        return Const(value, type_)

    def member(self, node: ast.AST, value: enum.Enum) -> Any:
        """The str or int that a member of an enumeration is."""
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value)
        name = f"{type(value).__name__}.{value.name}"
        self.fail(node, f"{name} is no str and no int", f"write {name}.value, or a StrEnum")

    def global_named(self, node: ast.AST, name: str) -> Any:
        """A captured value, MISSING where there is none; refused where it may still change."""
        value = self.globals.get(name, MISSING)
        if value is MISSING or callable(value) or isinstance(value, pytypes.ModuleType):
            return value
        if changes := self.changed(name):
            self.fail(
                node,
                f"{name} is changed in {changes}: a feature may not change behind its version",
                "bind it once, at the top of the module",
            )
        return value

    def changed(self, name: str) -> str | None:
        """The function of this module that rebinds or mutates a global, if one does."""
        return _changes(inspect.getsourcefile(self.target) or self.filename).get(name)

    def static(self, node: ast.AST | None, env: Env) -> Any:
        """The value of an expression of constants alone, MISSING where it is not one."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                if name in env:
                    local = env[name]
                    return local.value if isinstance(local, Const) else MISSING
                return self.global_named(node, name)
            case ast.Attribute(value=inner, attr=attribute):
                value = self.static(inner, env)
                if isinstance(value, pytypes.ModuleType) or _holds_constants(value):
                    return getattr(value, attribute, MISSING)
                if isinstance(value, enum.Enum) and attribute in ("value", "name"):
                    return getattr(value, attribute)
                return MISSING
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.static(operand, env)
                return -value if isinstance(value, (int, float)) else MISSING
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b = self.static(left, env), self.static(right, env)
                if type(a) is int and type(b) is int and (b or not isinstance(op, ast.FloorDiv)):
                    return _ARITHMETIC[type(op)](a, b)
                return MISSING
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                values = [self.static(e, env) for e in elements]
                return MISSING if any(v is MISSING for v in values) else tuple(values)
            case ast.Dict(keys=keys, values=entries):
                pairs = [
                    (self.static(k, env), self.static(v, env))
                    for k, v in zip(keys, entries, strict=True)
                ]
                return MISSING if any(MISSING in p for p in pairs) else dict(pairs)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                return self.built(node, function, arguments, keywords, env)
            case _:
                return MISSING

    def built(
        self,
        node: ast.AST,
        function: ast.expr,
        arguments: list[ast.expr],
        keywords: list[ast.keyword],
        env: Env,
    ) -> Any:
        """`timedelta(days=1)` and the like, of constants."""
        named_alone = isinstance(function, (ast.Name, ast.Attribute))
        builder: Any = self.static(function, env) if named_alone else MISSING
        frozen = isinstance(function, ast.Name) and function.id == "frozenset"
        if frozen and builder is MISSING and len(arguments) == 1:
            values = self.static(arguments[0], env)
            return frozenset(values) if isinstance(values, (tuple, frozenset)) else MISSING
        if builder not in _BUILDERS and not _is_zone(builder):
            return MISSING
        given = [self.static(a, env) for a in arguments]
        named = {k.arg or "**": self.static(k.value, env) for k in keywords}
        if any(v is MISSING for v in (*given, *named.values())):
            return MISSING
        try:
            return builder(*given, **named)
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            self.fail(node, f"this raises {type(error).__name__}: {error}", "correct it")


def is_function(value: Any) -> bool:
    """Whether a captured value is code and no constant."""
    return isinstance(value, (Transform, pytypes.ModuleType, type)) or callable(value)


def _holds_constants(value: Any) -> bool:
    return isinstance(value, type) and (
        issubclass(value, enum.Enum) or value in (dt.datetime, dt.date, dt.timezone, dt.timedelta)
    )


def _is_zone(value: Any) -> bool:
    return isinstance(value, type) and value.__name__ == "ZoneInfo"


_read: dict[str, dict[str, str]] = {}


def _changes(filename: str) -> dict[str, str]:
    """The globals of a file that its functions rebind or mutate, each with such a function."""
    text = "".join(linecache.getlines(filename))
    key = f"{filename}\0{text}"
    if key in _read:
        return _read[key]
    if len(_read) > 8:  # modules are compiled one after the other, with their helpers' modules
        _read.clear()
    try:
        tree = ast.parse(text)
    except SyntaxError:
        tree = ast.Module([], [])
    found: dict[str, str] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        nodes = list(ast.walk(function))
        rebound = {n for g in nodes if isinstance(g, ast.Global) for n in g.names}
        own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own |= {a.arg for a in nodes if isinstance(a, ast.arg)}
        mutated = {name for n in nodes if (name := _mutated(n)) is not None} - own
        for name in rebound | mutated:
            found[name] = f"{function.name}()"
    _read[key] = found
    return found


def _mutated(node: ast.AST) -> str | None:
    match node:
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
            return name if method in _MUTATORS else None
        case _:
            return None
