"""Turns a function into the context that every handler is given.

The context has the function's text, with errors that point into it, the constants of its module,
and what is known of the function so far.
"""

from __future__ import annotations

import ast
import datetime as dt
import enum
import inspect
import linecache
import re
import textwrap
import types as pytypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

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
from featurekit.errors import CompileError, DefinitionError
from featurekit.language.cells import cell_of
from featurekit.language.ir import Const, Expr, Function, Name
from featurekit.language.ops.table import MAX_SPAN, MIN_SPAN
from featurekit.language.parse.guesses import Guesses, Open, place_of
from featurekit.language.parse.matches import in_parts
from featurekit.language.parse.promises import Promise
from featurekit.language.transform import Transform, feature

_UNBOUND = "write a def outside of any class, which takes all that it needs as parameters"

MISSING: Any = object()
"""Stands for a value that is not known before the function runs."""

Local = Name | Const
"""What a local is at one point: a name of the IR with its narrowed type, or a constant."""

Env = dict[str, Local]
"""The locals at one point, in the branch where a test is true or false."""

MATCH = Type("match", optional=True)
ZONED = Type("zoned")
"""The type of a local that holds a match or a local time: neither is a value."""
PARTED = Type("parted")
"""The type of a local that holds a URL in parts, which is no value."""
CLOCK = Type("clock")
"""The type of a local that holds a time of the day, which is no value."""
HELD = Type("held")
"""The type of a local constant that is no value: a dict, a set, or a compiled pattern."""

_columns: ContextVar[Mapping[str, Type]] = ContextVar("columns", default=MappingProxyType({}))


@contextmanager
def reading(columns: Mapping[str, Type]) -> Iterator[None]:
    """Let hints name the types of the columns that the parameters read, of what is parsed
    meanwhile."""
    token = _columns.set(columns)
    try:
        yield
    finally:
        _columns.reset(token)


def column_type(name: str) -> Type | None:
    """The type of the column that a parameter reads, where it is known."""
    return _columns.get().get(name)


def typed_as_column(name: str) -> str:
    """What to write for a parameter without a type."""
    found = column_type(name)
    if found is not None:
        return f"write {name}: {found}, as its column is"
    return f"write the type of what it reads, as in {name}: float"


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
_BUILDERS = (dt.timedelta, dt.date, dt.datetime, dt.time, dt.timezone, re.compile)
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a function's text stands; errors point into it."""

    target: Any
    name: str
    filename: str
    first_line: int
    indent: int
    lines: list[str]
    node: ast.stmt

    @classmethod
    def of(cls, function: Any, name: str, what: str) -> Place:
        """The place of a function. DefinitionError where its text cannot be read."""
        inner = _inside(function)
        lines, first_line, filename = _text_of(inner, f"{what} {name}")
        indent = len(lines[0]) - len(lines[0].lstrip())
        if inner.__name__ == "<lambda>":  # whose lines may be no statement
            node: ast.stmt = ast.Pass(lineno=1, col_offset=max(lines[0].find("lambda") - indent, 0))
        else:
            node = ast.parse(textwrap.dedent("".join(lines))).body[0]
        found = cls(function, name, filename, first_line, indent, lines, node)
        found._check_plain(what)
        return found

    def _check_plain(self, what: str) -> None:
        """CompileError where the text is not the whole of what is called: a decorator replaced the
        function, or it is bound to an object."""
        target, node, shown = self.target, self.node, f"{what} {self.name}"
        if isinstance(target, pytypes.MethodType):
            self.fail(node, f"{shown} is bound to an object", _UNBOUND)
        if not isinstance(target, pytypes.FunctionType) or hasattr(target, "__wrapped__"):
            at = next(iter(self._decorators()), node)
            by = ast.unparse(at) if at is not node else f"a {type(target).__name__}"
            self.fail(
                at,
                f"{shown} is replaced by {by}, whose part of it would be lost",
                "leave the decorator out, and write what it does inside the def",
            )
        within, _, _ = target.__qualname__.rpartition(".")
        if within and not within.endswith("<locals>"):
            self.fail(node, f"{shown} is a method of the class {within}", _UNBOUND)

    def _decorators(self) -> list[ast.expr]:
        """The decorators below `@feature`, the first of them first; all where there is none."""
        listed: list[ast.expr] = getattr(self.node, "decorator_list", [])
        known = getattr(_inside(self.target), "__globals__", {})
        for i, one in enumerate(listed):
            called = one.func if isinstance(one, ast.Call) else one
            value = known.get(called.id) if isinstance(called, ast.Name) else None
            if value is feature or getattr(called, "attr", None) == feature.__name__:
                return listed[i + 1 :]
        return listed

    def fail(self, node: ast.AST, reason: str, hint: str) -> NoReturn:
        """CompileError at `node`, with what is wrong and the nearest thing that works."""
        raise self.error(node, reason, hint)

    def error(self, node: ast.AST, reason: str, hint: str) -> CompileError:
        """What `fail` raises."""
        line = getattr(node, "lineno", 1)
        shown = self.lines[line - 1]
        # ast counts bytes of UTF-8, and a caret counts characters.
        dedented = shown[self.indent :].encode()
        before = dedented[: getattr(node, "col_offset", 0)].decode(errors="ignore")
        return CompileError(
            reason,
            filename=self.filename,
            line=self.first_line + line - 1,
            column=self.indent + len(before) + 1,
            source=shown,
            hint=hint,
        )


def _text_of(function: Any, what: str) -> tuple[list[str], int, str]:
    """The lines of a function, the number of the first, and the file that errors name."""
    try:
        lines, first_line = inspect.getsourcelines(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        cell = cell_of(function)
        if code is not None and cell is not None:
            below = linecache.getlines(cell)[code.co_firstlineno - 1 :]
            return inspect.getblock(below), code.co_firstlineno, cell
        where = "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"
        raise DefinitionError(
            f"{what}: its source text cannot be read{where}; write it in a file, or in a cell of "
            "a notebook, not at a prompt or in exec()"
        ) from None
    # A prompt of Python 3.13 knows the text, and has no file.
    return lines, first_line, inspect.getsourcefile(function) or function.__code__.co_filename


def _inside(function: Any) -> Any:
    """The function that decorators and objects were put around; its text is what there is to
    show."""
    return inspect.unwrap(getattr(function, "__func__", function))


class Captured:
    """What a function takes from its module: constants, as they are when it is compiled (R2)."""

    def __init__(self, place: Place) -> None:
        self.place = place
        function = place.target
        self.globals: dict[str, Any] = dict(function.__globals__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for free, cell in cells:
            try:
                self.globals[free] = cell.cell_contents
            except ValueError:  # not bound yet: its use is refused as an unknown name
                continue

    def constant(self, node: ast.AST, value: Any, expect: Type | None, *, converts: bool) -> Const:
        """A literal or a captured constant as a value of the language. Where a float is expected,
        an int becomes one if it `converts`."""
        if value is None:
            return Const(None, expect.or_none() if expect else NONE)
        if isinstance(value, enum.Enum):
            value = self._member(node, value)
        type_ = _CONSTANTS.get(type(value))
        if type_ is None:
            shown = type(value).__name__
            self.place.fail(
                node,
                f"a {shown} is no feature value",
                "use bool, int, float, str, bytes, datetime, date or timedelta",
            )
        if type_ == INT and not INT_MIN <= value <= INT_MAX:
            self.place.fail(node, "an int outside int64", "write it as a float, as in 1e19")
        if type_ == TIMEDELTA and not MIN_SPAN <= value <= MAX_SPAN:
            hint = "at most 106_751_991 days, some 292,000 years"
            self.place.fail(node, "a timedelta outside int64 microseconds", hint)
        as_float = expect is not None and expect.base == FLOAT and converts
        if type_ == INT and as_float and abs(value) <= 2**53:
            return Const(float(value), FLOAT)
        if type_ == STR and any("\ud800" <= c <= "\udfff" for c in value):
            self.place.fail(node, "a lone surrogate in a str", "write the whole character")
        if type_ == DATETIME:
            if value.tzinfo is None:
                self.place.fail(node, "a datetime without a zone", "write tzinfo=timezone.utc")
            if value.tzinfo is not dt.UTC:
                # Its fields are in local time; those of the instant are others.
                self.place.fail(
                    node, "a constant datetime outside UTC", "write it with timezone.utc"
                )
        return Const(value, type_)

    def _member(self, node: ast.AST, value: enum.Enum) -> Any:
        """The str or int that a member of an enumeration is."""
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value)
        name = f"{type(value).__name__}.{value.name}"
        self.place.fail(node, f"{name} is no str and no int", f"write {name}.value, or a StrEnum")

    def named(self, node: ast.AST, name: str) -> Any:
        """A captured value; MISSING where there is none. CompileError where it may still change."""
        value = self.globals.get(name, MISSING)
        if value is MISSING or callable(value) or isinstance(value, pytypes.ModuleType):
            return value
        if changes := self._changed(name):
            self.place.fail(
                node,
                f"{name} is changed in {changes}: a feature may not change behind its version",
                "bind it once, at the top of the module",
            )
        return value

    def _changed(self, name: str) -> str | None:
        """The function of this module that rebinds or mutates a global; None where none does."""
        return _changes(self.place.filename).get(name)

    def static(self, node: ast.AST | None, env: Env) -> Any:
        """The value of an expression that consists of constants; MISSING for any other."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                if name in env:
                    local = env[name]
                    return local.value if isinstance(local, Const) else MISSING
                return self.named(node, name)
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
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                a, b = self.static(left, env), self.static(right, env)
                return a | b if isinstance(a, re.RegexFlag) and isinstance(b, int) else MISSING
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                a, b = self.static(left, env), self.static(right, env)
                if type(a) is int and type(b) is int and (b or not isinstance(op, ast.FloorDiv)):
                    return _ARITHMETIC[type(op)](a, b)
                return MISSING
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                values = [self.static(e, env) for e in elements]
                if any(v is MISSING for v in values):
                    return MISSING
                return frozenset(values) if isinstance(node, ast.Set) else tuple(values)
            case ast.Dict(keys=keys, values=entries):
                pairs = [
                    (self.static(k, env), self.static(v, env))
                    for k, v in zip(keys, entries, strict=True)
                ]
                return MISSING if any(MISSING in p for p in pairs) else dict(pairs)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                return self._built(node, function, arguments, keywords, env)
            case _:
                return MISSING

    def _built(
        self,
        node: ast.AST,
        function: ast.expr,
        arguments: list[ast.expr],
        keywords: list[ast.keyword],
        env: Env,
    ) -> Any:
        """`timedelta(days=1)` and the like, of constants; MISSING for any other call."""
        named_alone = isinstance(function, (ast.Name, ast.Attribute))
        builder: Any = self.static(function, env) if named_alone else MISSING
        frozen = isinstance(function, ast.Name) and function.id in ("frozenset", "set")
        if frozen and builder is MISSING and len(arguments) == 1:
            values = self.static(arguments[0], env)
            whole = isinstance(values, (tuple, frozenset, str, list, set))
            return frozenset(values) if whole else MISSING
        if builder not in _BUILDERS and not _is_zone(builder):
            return MISSING
        given = [self.static(a, env) for a in arguments]
        named = {k.arg or "**": self.static(k.value, env) for k in keywords}
        if any(v is MISSING for v in (*given, *named.values())):
            return MISSING
        try:
            return builder(*given, **named)
        except (TypeError, ValueError, OverflowError, KeyError, re.error) as error:
            self.place.fail(node, f"this raises {type(error).__name__}: {error}", "correct it")


@dataclass(frozen=True, slots=True)
class Match:
    """The result of `re.search(pattern, text)` and the like: its method, its pattern and its
    text."""

    method: str
    pattern: str
    text: Expr
    type: Type = MATCH


@dataclass(frozen=True, slots=True)
class Zoned:
    """The result of `t.astimezone(ZoneInfo(name))`: a local time, of which only fields are read."""

    instant: Expr
    zone: str


@dataclass(slots=True)
class Exits:
    """The locals at each break and continue of a loop's body."""

    breaks: list[Env] = field(default_factory=list)
    continues: list[Env] = field(default_factory=list)


Inlined = dict[Any, Function]
"""The functions that were called, by the function and what it was given."""


@dataclass(slots=True)
class Parsing:
    """One function while it is parsed: its text, its module's names, and what is known of it so
    far.

    `stack` has the functions whose calls led here, and last the function itself. `given` has the
    parameters that are given an int for a declared float. `chosen` is the field that is wanted,
    where the function returns several.
    """

    place: Place
    captured: Captured
    node: ast.FunctionDef | ast.AsyncFunctionDef
    stack: tuple[Any, ...]
    inlined: Inlined
    top: bool
    chosen: str | None = None
    given: dict[str, Type] = field(default_factory=dict)
    returns: Type = NONE
    fields: dict[str, Type] | None = None
    exits: list[Exits] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    assigned: dict[str, list[Expr]] = field(default_factory=dict)
    """Every value that is given to a local."""
    matches: dict[str, Match] = field(default_factory=dict)
    zoned: dict[str, Zoned] = field(default_factory=dict)
    urls: dict[str, Expr] = field(default_factory=dict)
    """The texts of URLs that locals hold in parts."""
    clocks: dict[str, Expr] = field(default_factory=dict)
    """The microseconds since midnight of the times of the day that locals hold."""
    sets: set[str] = field(default_factory=set)
    """The locals that hold a set, as the list of its elements."""
    augmented: list[ast.expr] = field(default_factory=list)
    """The entries of dicts that are read to be changed."""
    converts: bool = True
    """Whether a declared float makes a float of an int. A result does. A list for a local does not,
    since Python keeps the int in it."""
    guesses: Guesses = field(default_factory=Guesses)
    raising: list[ast.AST] = field(default_factory=list)
    """Where it raises by itself, or calls a helper that does."""
    in_comprehension: int = 0
    fresh: int = 0
    walruses: bool = False

    def fail(self, node: ast.AST, reason: str, hint: str) -> NoReturn:
        """CompileError at `node`, with what is wrong and the nearest thing that works."""
        self.place.fail(node, reason, hint)

    def static(self, node: ast.AST | None, env: Env) -> Any:
        """The value of an expression that consists of constants; MISSING for any other."""
        return self.captured.static(node, env)

    def guessed(self, node: ast.AST, error: CompileError) -> Type:
        """The type that is supposed of the elements of a collection without any; Open where none is
        yet."""
        found = self.guesses.elements.get(place_of(node))
        if found is None:
            raise Open(place_of(node), error)
        return found

    def again(self, guesses: Guesses) -> Parsing:
        """The context of the same function, of which nothing is read yet."""
        return Parsing(
            place=self.place,
            captured=self.captured,
            node=self.node,
            stack=self.stack,
            inlined=self.inlined,
            top=self.top,
            chosen=self.chosen,
            given=self.given,
            guesses=guesses,
            walruses=self.walruses,
        )

    def settled(self, node: ast.AST | None, env: Env) -> Any:
        """As `static`, also for a local that is bound once, to a constant."""
        held = self.static(node, env)
        if held is MISSING and isinstance(node, ast.Name) and isinstance(env.get(node.id), Name):
            values = bound_to(self.node, node.id)
            if len(values) == 1 and values[0] is not None:
                return self.static(values[0], {})
        return held

    def constant(self, node: ast.AST, value: Any, expect: Type | None = None) -> Const:
        """A literal or a captured constant as a value of the language."""
        return self.captured.constant(node, value, expect, converts=self.converts)

    def is_builtin(self, name: str, env: Env) -> bool:
        """Whether a name still has the meaning that Python gives it."""
        return name not in env and name not in self.captured.globals

    def new_name(self, type_: Type) -> Name:
        """A name that no user can write."""
        self.fresh += 1
        return Name(f".{self.fresh}", type_)

    def forget(self, node: ast.AST, env: Env) -> None:
        """Remove from `env` what a walrus in `node` binds only in some outcomes of a test: Python
        may read the name's earlier value there."""
        for part in ast.walk(node) if self.walruses else ():
            match part:
                case ast.IfExp(body=body, orelse=orelse):
                    seldom = [body, orelse]
                case ast.BoolOp(values=[_, *seldom]) | ast.Compare(comparators=[_, *seldom]):
                    pass
                case _:
                    continue
            for inner in (n for one in seldom for n in ast.walk(one)):
                if isinstance(inner, ast.NamedExpr):
                    env.pop(inner.target.id, None)


def begin(
    function: Any,
    name: str,
    *,
    field: str | None = None,
    stack: tuple[Any, ...] | None = None,
    inlined: Inlined | None = None,
    given: dict[str, Type] | None = None,
) -> Parsing:
    """The context of a function before it is parsed.

    `stack` is None for a feature. For a helper it has the functions whose calls led to it.
    DefinitionError where the function's text cannot be read.
    """
    place = Place.of(function, name, "@feature" if stack is None else "the helper")
    node = place.node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        place.fail(node, f"{name} is no def", "write it as a def with typed parameters")
    read = in_parts(node)
    assert isinstance(read, (ast.FunctionDef, ast.AsyncFunctionDef))
    return Parsing(
        place=place,
        captured=Captured(place),
        node=read,
        stack=(*(stack or ()), function),
        inlined={} if inlined is None else inlined,
        top=stack is None,
        chosen=field,
        given=given or {},
        walruses=any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)),
    )


def bound_to(function: ast.AST, name: str) -> list[ast.expr | None]:
    """What a function binds a name to, in its text's order: an expression for an assignment to this
    name alone, None for what binds it otherwise, as a parameter, a loop or an unpacking do."""
    found: list[ast.expr | None] = []
    plain: set[int] = set()
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=bound) as target], value=value) if bound == name:
                plain.add(id(target))
                found.append(value)
            case ast.AnnAssign(target=ast.Name(id=bound) as target, value=value) if bound == name:
                plain.add(id(target))
                found.append(value)
            case ast.arg(arg=bound) | ast.MatchAs(name=bound) | ast.MatchStar(name=bound) if (
                bound == name
            ):
                found.append(None)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            found += [] if id(node) in plain else [None]
    return found


def mutates(function: ast.AST, name: str) -> bool:
    """Whether a function changes what a local holds, itself or in a part of it."""
    return any(_mutated(node) == name for node in ast.walk(function))


def join(a: Env, b: Env) -> Env:
    """What is known whichever of two ways was taken."""
    out: Env = {}
    for name, local in a.items():
        other = b.get(name)
        if other is None:
            continue
        if isinstance(local, Name) and isinstance(other, Name) and local.name == other.name:
            if local.type.base == other.type.base:
                out[name] = local if local.type.optional else Name(local.name, other.type)
        elif local is other:
            out[name] = local
    return out


def narrowed(env: Env, name: str) -> Env:
    """The locals where `name` is not None."""
    local = env[name]
    if isinstance(local, Const):
        return dict(env)
    return {**env, name: Name(local.name, local.type.base)}


def is_function(value: Any) -> bool:
    """Whether a captured value is code and not a constant."""
    return isinstance(value, (Transform, pytypes.ModuleType, type)) or callable(value)


def _holds_constants(value: Any) -> bool:
    return isinstance(value, type) and (
        issubclass(value, enum.Enum)
        or value in (dt.datetime, dt.date, dt.time, dt.timezone, dt.timedelta)
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
    if len(_read) > 8:  # modules are compiled in turn, with those of their helpers
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
    """The name that an expression changes, itself or in a part of it."""
    match node:
        case ast.Subscript(value=changed, ctx=ast.Store() | ast.Del()):
            return _root(changed)
        case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in _MUTATORS:
            return _root(changed)
    return None


def _root(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
