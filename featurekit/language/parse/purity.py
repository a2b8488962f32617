"""Refuses what a function that is not compiled may not do, since it has to be a function of its
arguments alone (R1).

A text cannot prove that in general. So this is a list of what is known: of the standard library
only what is known to be pure passes, of other libraries everything but what is known not to be.
What passes may still read the world deep inside a library, which a parity check may show.
"""

from __future__ import annotations

import ast
import builtins
import sys
import types as pytypes
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

Fail = Callable[[ast.AST, str, str], NoReturn]
"""Raises the error at a node, with what is wrong and what to write instead."""

_PURE = frozenset(
    (
        *("abc", "array", "base64", "binascii", "bisect", "calendar", "cmath", "codecs"),
        *("collections", "colorsys", "copy", "dataclasses", "datetime", "decimal", "difflib"),
        *("enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html", "ipaddress"),
        *("itertools", "json", "math", "numbers", "operator", "quopri", "re", "statistics"),
        *("string", "stringprep", "struct", "textwrap", "types", "typing", "unicodedata"),
        *("urllib.parse", "uuid", "zlib", "zoneinfo", "posixpath", "ntpath"),
    )
)
"""Modules of the standard library whose functions read nothing but their arguments, except those
in `_IMPURE`."""

_ALIASES = {"os.path": "posixpath", "_operator": "operator", "_struct": "struct", "_json": "json"}
_IMPURE_PARTS = frozenset(
    (
        *("random", "time", "os", "secrets", "socket", "subprocess", "threading", "tempfile"),
        *("requests", "httpx", "urllib3", "aiohttp", "redis", "duckdb", "sqlite3", "faker"),
        *("testing", "io"),
    )
)
"""Parts of a library's module names, as in numpy.random, that say that it is not pure."""

_IMPURE = frozenset(
    (
        *("uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7", "uuid.uuid8", "uuid.getnode"),
        *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"),
        *("datetime.date.today", "datetime.datetime.fromtimestamp", "datetime.date.fromtimestamp"),
        *("decimal.getcontext", "decimal.setcontext", "decimal.localcontext"),
        *("posixpath.lexists", "posixpath.islink", "posixpath.ismount", "posixpath.realpath"),
        *("posixpath.abspath", "posixpath.expanduser", "posixpath.expandvars"),
        *("posixpath.relpath", "functools.lru_cache", "functools.cache"),
        *("codecs.open", "hashlib.file_digest", "json.load", "json.dump", "statistics.NormalDist"),
        *("zoneinfo.available_timezones", "zoneinfo.reset_tzpath"),
    )
)
_CLOCKED = frozenset(("now", "utcnow", "today"))
"""Names that read the clock, whichever class has them."""

_CLOCK = "take the instant as the parameter as_of: datetime, or as a column or request field"
_TAKE = "take what it needs as a parameter: a column, a feature or a request field"
_BUILTINS = {
    **dict.fromkeys(("open", "input"), "declare the file as a source, or take a request field"),
    **dict.fromkeys(("print", "breakpoint", "exit", "quit", "help"), "leave it out"),
    **dict.fromkeys(
        ("globals", "locals", "vars", "dir", "exec", "eval", "compile", "__import__"),
        "write out what it would find",
    ),
    **dict.fromkeys(
        ("getattr", "setattr", "delattr", "super", "object", "memoryview"),
        "write the attribute or the value out",
    ),
    "id": "compare values by ==",
    "hash": "use hashlib, or featurekit.bucket: hash() of a text differs in each process",
}
_MUTATORS = frozenset(
    (
        *("append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse"),
        *("setdefault", "sort", "update", "add", "discard", "appendleft", "extendleft"),
        *("popleft", "rotate", "subtract", "difference_update", "intersection_update"),
        *("symmetric_difference_update", "move_to_end", "__setitem__", "__delitem__"),
    )
)
_INNER = frozenset(("get", "setdefault", "pop", "popitem", "__getitem__"))
"""Methods that give a part of what they are called on."""

_UNORDERED_READERS = frozenset(
    ("len", "sorted", "min", "max", "any", "all", "bool", "isinstance", "set", "frozenset")
)
"""Builtins to which the order of a set is one."""
_SET_METHODS = frozenset(("union", "intersection", "difference", "symmetric_difference", "copy"))


def check_pure(node: ast.AST, captured: dict[str, Any], fail: Fail) -> None:
    """CompileError by `fail` where the function is known not to depend on its arguments alone.

    `captured` has the values of the names that the function takes from its module.
    """
    own = _own_names(node)
    _Check(node, captured, own, fail).run()


def impure(value: Any, *, name: str = "") -> str | None:
    """What to write instead of something that a module binds, or None where it is not known to
    depend on more than its arguments."""
    where = _module_of(value)
    last = name.rpartition(".")[2] or getattr(value, "__name__", "")
    full = f"{where}.{getattr(value, '__qualname__', last)}" if where else last
    if isinstance(value, pytypes.ModuleType):
        full = where
    parts = where.split(".")
    if last in _CLOCKED and callable(value) and not _is_read(value):
        return _CLOCK
    if full in _IMPURE or any(full.startswith(f"{one}.") for one in _IMPURE):
        return _CLOCK if parts[0] == "datetime" else _TAKE
    if parts[0] in sys.stdlib_module_names and parts[0] != "builtins":
        bare = where.removeprefix("_") if parts[0].startswith("_") else where
        known = {where, bare, _ALIASES.get(where, where), ".".join(parts[:2]), parts[0]}
        if known & _PURE:
            return None
        if isinstance(value, pytypes.ModuleType) and where == "urllib":
            return None  # urllib.parse is judged by its own name
        return _CLOCK if parts[0] == "time" else _TAKE
    if {part.strip("_") for part in parts} & _IMPURE_PARTS:
        return _TAKE
    return None


def _module_of(value: Any) -> str:
    """The module in which a value, or else its class, is defined; "" for plain values."""
    if isinstance(value, pytypes.ModuleType):
        return _ALIASES.get(value.__name__, value.__name__)
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, pytypes.ModuleType):
        # A method of an object, as random.random is, or of a class, as datetime.now is.
        held = owner if isinstance(owner, type) else type(owner)
        return str(held.__module__)
    found = getattr(value, "__module__", None)
    if not isinstance(found, str):
        found = type(value).__module__
    return _ALIASES.get(found, found)


def _is_read(value: Any) -> bool:
    """Whether a function's own text is judged, since it is no library's."""
    if not isinstance(value, pytypes.FunctionType):
        return False
    return "-packages" not in value.__code__.co_filename


def _own_names(node: ast.AST) -> set[str]:
    """The parameters and locals of a function and of those inside it."""
    nodes = list(ast.walk(node))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    inner = {n.name for n in nodes if isinstance(n, ast.FunctionDef) and n is not node}
    caught = {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
    return stored | inner | caught | {n.arg for n in nodes if isinstance(n, ast.arg)}


class _Check:
    """One function on its way through the list."""

    def __init__(self, node: ast.AST, captured: dict[str, Any], own: set[str], fail: Fail) -> None:
        self.node, self.captured, self.own, self.fail = node, captured, own, fail
        self.parents = {c: p for p in ast.walk(node) for c in ast.iter_child_nodes(p)}
        self.skipped = set(_unevaluated(node))
        self.given: dict[str, list[ast.expr | None]] = {}
        """What each local is bound to; None for what is a part of something else."""
        for one in self._nodes():
            self._bind(one)

    def _nodes(self) -> Iterator[ast.AST]:
        return (n for n in ast.walk(self.node) if n not in self.skipped)

    def run(self) -> None:
        for node in self._nodes():
            self._statement(node)
            self._reading(node)
            self._changing(node)
            self._ordering(node)

    # --- what a function may not say ----------------------------------------------------------

    def _statement(self, node: ast.AST) -> None:
        match node:
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.fail(node, f"{names[0]} outlives the call", "return it, or use a local")
            case ast.Import() | ast.ImportFrom():
                self.fail(node, "an import inside a feature", "import at the top of the module")
            case ast.ClassDef(name=name):
                self.fail(node, f"{name} is a class", "use plain values")
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                self.fail(node, "async code is no function of its arguments", "write a plain def")
            case ast.Yield() | ast.YieldFrom() if self._function_of(node) is self.node:
                self.fail(node, "a generator is no feature", "return a list")
            case ast.Attribute(attr=name) if name.startswith("__"):
                self.fail(node, f"{name} is Python's own", "write what it would give")

    def _function_of(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            node = self.parents[node]
        return node

    # --- what it reads ------------------------------------------------------------------------

    def _reading(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name) if name not in self.own and name not in self.captured:
                if name in _BUILTINS and hasattr(builtins, name):
                    self._refuse(node, f"{name}()", _BUILTINS[name])
            case ast.Name() | ast.Attribute() if (held := self._static(node)) is not None:
                above = self.parents.get(node)
                if not isinstance(above, ast.Attribute) or self._static(above) is None:
                    self._judge(node, ast.unparse(node), *held)
            case ast.Attribute(attr=name) if name in _CLOCKED and self._is_called(node):
                self._refuse(node, f"{name}()", _CLOCK)
            case ast.Call(func=ast.Attribute(attr="astimezone"), args=[], keywords=[]):
                self._refuse(node, "the machine's own time zone", "name the zone")

    def _is_called(self, node: ast.AST) -> bool:
        above = self.parents.get(node)
        return isinstance(above, ast.Call) and above.func is node

    def _static(self, node: ast.AST) -> tuple[Any, Any] | None:
        """What a name of the module or an attribute of a module or class is, and what holds it,
        None for a name; None for any other expression."""
        match node:
            case ast.Name(id=name) if name not in self.own and name in self.captured:
                return self.captured[name], None
            case ast.Attribute(value=inner, attr=attribute):
                held = self._static(inner)
                if held is None or not isinstance(held[0], (pytypes.ModuleType, type)):
                    return None
                try:
                    return getattr(held[0], attribute), held[0]
                except AttributeError:
                    return None
        return None

    def _judge(self, node: ast.AST, name: str, value: Any, owner: Any) -> None:
        builtin = _builtin_name(value)
        if builtin in _BUILTINS:
            self._refuse(node, name, _BUILTINS[builtin])
        hint = impure(value, name=name)
        if hint is None and isinstance(owner, pytypes.ModuleType):
            plain = type(value).__module__ == "builtins" and not callable(value)
            hint = impure(owner) if plain else None  # sys.argv is a list
        if hint is not None:
            self._refuse(node, name, hint)

    def _refuse(self, node: ast.AST, what: str, hint: str) -> NoReturn:
        self.fail(node, f"{what} is not a function of the feature's arguments alone", hint)

    # --- what it changes ----------------------------------------------------------------------

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind_to(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind_to(target, value)
            case ast.NamedExpr(target=target, value=value):
                self._bind_to(target, value)
            case ast.For(target=target) | ast.comprehension(target=target):
                self._bind_to(target, None)
            case ast.withitem(optional_vars=ast.expr() as target):
                self._bind_to(target, None)
            case ast.arg(arg=name):
                self.given.setdefault(name, []).append(None)

    def _bind_to(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self.given.setdefault(target.id, []).append(value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            parts: list[Any] = [None] * len(target.elts)
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(parts):
                parts = list(value.elts)
            for one, part in zip(target.elts, parts, strict=True):
                self._bind_to(one.value if isinstance(one, ast.Starred) else one, part)

    def _changing(self, node: ast.AST) -> None:
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                self.fail(node, "an attribute is written", "use a local")
            case ast.Subscript(value=changed, ctx=ast.Store() | ast.Del()):
                self._check_fresh(node, changed)
            case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in _MUTATORS:
                held = self._static(changed)
                if held is None or not isinstance(held[0], pytypes.ModuleType):
                    self._check_fresh(node, changed)
            case ast.AugAssign(target=ast.Name(id=name)) if self._is_shared_list(name, set()):
                self.fail(node, f"{name} is changed in place, and is not its own", _copy(name))

    def _check_fresh(self, node: ast.AST, changed: ast.expr) -> None:
        if not self._fresh(changed, set()):
            name = ast.unparse(changed)
            self.fail(node, f"{name} outlives the call, and is changed here", _copy(name))

    def _fresh(self, node: ast.AST | None, seen: set[str]) -> bool:
        """Whether a value was made by this call, so that nothing else sees that it is changed."""
        match node:
            case ast.Name(id=name) if name in self.given:
                if name in seen:
                    return True
                return all(self._fresh(one, {*seen, name}) for one in self.given[name])
            case ast.Subscript(value=inner) | ast.Starred(value=inner):
                return self._fresh(inner, seen)
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in _INNER:
                return self._fresh(inner, seen)
            case ast.Call(func=ast.Name(id="next" | "min" | "max" | "iter")):
                return False
            case ast.IfExp(body=a, orelse=b):
                return self._fresh(a, seen) and self._fresh(b, seen)
            case ast.BoolOp(values=values):
                return all(self._fresh(one, seen) for one in values)
            case ast.NamedExpr(value=inner):
                return self._fresh(inner, seen)
            case ast.Name() | ast.Attribute() | None:
                return False
        return True

    def _is_shared_list(self, name: str, seen: set[str]) -> bool:
        """Whether a name may be another one of a list that the function was given or captured."""
        if name in self.own and name not in seen:
            for one in self.given.get(name, []):
                if isinstance(one, ast.Name) and self._is_shared_list(one.id, {*seen, name}):
                    return True
            return any(
                isinstance(n, ast.arg)
                and n.arg == name
                and n.annotation is not None
                and "list" in ast.unparse(n.annotation).lower()
                for n in ast.walk(self.node)
            )
        return isinstance(self.captured.get(name), (list, set, dict)) and name not in self.own

    # --- the order of sets ----------------------------------------------------------------------

    def _ordering(self, node: ast.AST) -> None:
        if not isinstance(node, ast.expr) or not self._is_set(node, set()):
            return
        parent = self.parents.get(node)
        match parent:
            case ast.For(iter=read) | ast.comprehension(iter=read) if read is node:
                if isinstance(parent, ast.comprehension):
                    whole = self.parents[parent]
                    user = self.parents.get(whole)
                    if isinstance(whole, ast.SetComp) or _is_reader(user):
                        return
            case ast.Call(func=called, args=arguments) if node in arguments:
                if _is_reader(parent):
                    return
                if isinstance(called, ast.Attribute) and (
                    called.attr in _SET_METHODS
                    or called.attr in ("issubset", "issuperset", "isdisjoint", "update")
                ):
                    return
            case ast.Attribute(attr="pop"):
                pass
            case ast.Starred() if not isinstance(self.parents.get(parent), ast.Set):
                pass
            case ast.FormattedValue():
                pass
            case ast.Assign(targets=[ast.Tuple() | ast.List()]):
                pass
            case _:
                return
        self.fail(
            node,
            "the order of a set differs from process to process",
            f"write sorted({ast.unparse(node)})",
        )

    def _is_set(self, node: ast.AST | None, seen: set[str]) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in _SET_METHODS:
                return self._is_set(inner, seen)
            case ast.BinOp(
                left=a, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=b
            ):
                return self._is_set(a, seen) or self._is_set(b, seen)
            case ast.Name(id=name) if name in self.own:
                if name in seen:
                    return False
                return any(self._is_set(one, {*seen, name}) for one in self.given.get(name, []))
            case ast.Name(id=name):
                return isinstance(self.captured.get(name), (set, frozenset))
        return False


def _copy(name: str) -> str:
    return f"copy it first, as in own = list({name}) or dict({name}), and change the copy"


def _is_reader(node: ast.AST | None) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name in _UNORDERED_READERS
    return False


def _builtin_name(value: Any) -> str:
    """The name of a builtin function, whatever the module calls it; "" for anything else."""
    name = getattr(value, "__name__", "")
    return name if isinstance(name, str) and vars(builtins).get(name) is value else ""


def _unevaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The annotations and decorators, which do not run when the function does."""
    for one in ast.walk(node):
        out: list[Any] = []
        match one:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                out = [one.returns, *(one.decorator_list if one is node else [])]
            case ast.arg():
                out = [one.annotation]
            case ast.AnnAssign():
                out = [one.annotation]
        for part in out:
            if part is not None:
                yield from ast.walk(part)
