"""Turns a call into IR: of an operator's row, a builtin, a method or another function."""

from __future__ import annotations

import ast
import difflib
import functools
import string
import sys
import types as pytypes
from collections.abc import Callable
from typing import Any, NoReturn

from featurekit.core.types import NONE, Type
from featurekit.language import ops
from featurekit.language.ir import Const, Either, Expr, Name
from featurekit.language.parse.arguments import operator
from featurekit.language.parse.clocks import combined
from featurekit.language.parse.comprehensions import hypot
from featurekit.language.parse.conditions import balanced
from featurekit.language.parse.context import MISSING, Env, Parsing
from featurekit.language.parse.counts import counts_of
from featurekit.language.parse.handlers import BUILTINS, EXPRESSIONS, expression, handles
from featurekit.language.parse.helpers import inline, of_user
from featurekit.language.parse.instants import call_of_instant
from featurekit.language.parse.operators import call, choose, is_method, named, no_list, no_none
from featurekit.language.parse.patterns import call_of_match
from featurekit.language.parse.purity import impure
from featurekit.language.parse.sets import joined_sets
from featurekit.language.parse.tables import get_table
from featurekit.language.transform import Transform


def _joined_by_method(p: Parsing, node: ast.Call, env: Env) -> Expr | None:
    """`a.union(b)` and the like of sets."""
    return joined_sets(p, node, env) if isinstance(node.func, ast.Attribute) else None


_READINGS = (hypot, combined, call_of_instant, call_of_match, counts_of, _joined_by_method)
"""Calls that mean more than their function and arguments say, in the order in which they are
tried."""


@handles(EXPRESSIONS, ast.Call)
def _call(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr:
    held = p.static(node, env)
    if held is not MISSING:
        return p.constant(node, held, expect)
    for reading in _READINGS:
        if (made := reading(p, node, env)) is not None:
            return made
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            p.fail(argument, "a starred argument", "write the arguments out")
    for keyword in node.keywords:
        if keyword.arg is None:
            p.fail(keyword, "a ** argument", "write the arguments out")
    match node.func:
        case ast.Name(id=name) if name in env:
            p.fail(node, f"{name} is a value, no function", "rename one of the two")
        case ast.Name(id=name):
            known = p.captured.globals.get(name, MISSING)
            if known is MISSING:
                return _builtin(p, node, name, env, expect)
            return _known(p, node, name, known, env)
        case ast.Attribute(value=receiver, attr=attribute):
            return _attribute(p, node, receiver, attribute, env, expect)
    p.fail(node, "a call of something computed", "call a function by its name")


def _attribute(
    p: Parsing, node: ast.Call, receiver: ast.expr, name: str, env: Env, expect: Type | None
) -> Expr:
    """A call of an attribute of a constant dict, a module, a class or a value."""
    held = p.static(receiver, env)
    if isinstance(held, dict):
        if name != "get":
            hint = "use TABLE[key], TABLE.get(key, default) or `in`"
            p.fail(node, f"a dict's {name}() here", hint)
        return get_table(p, node, held, env, expect)
    if isinstance(held, pytypes.ModuleType):
        known = getattr(held, name, MISSING)
        if known is MISSING:
            no_attribute(p, node, held, name)
        return _known(p, node, f"{held.__name__}.{name}", known, env)
    if isinstance(held, type):
        _no_clock(p, node, f"{held.__name__}.{name}")
        return operator(p, node, f"{held.__name__}.{name}", [], node.args, env)
    if isinstance(receiver, ast.Name) and p.is_builtin(receiver.id, env):
        full = f"{receiver.id}.{name}"
        if receiver.id in ("bytes", "float", "int", "str") and full in ops.BY_NAME:
            return operator(p, node, full, [], node.args, env)
    return _method(p, node, receiver, name, env)


def no_attribute(p: Parsing, node: ast.AST, module: pytypes.ModuleType, name: str) -> NoReturn:
    near = difflib.get_close_matches(name, dir(module), n=3)
    hint = f"nearest: {', '.join(f'{module.__name__}.{n}' for n in near)}" if near else (
        "use what the module has"
    )  # fmt: skip
    p.fail(node, f"{module.__name__} has no {name}", hint)


def _no_clock(p: Parsing, node: ast.AST, name: str) -> None:
    if name in _CLOCKS:
        p.fail(
            node,
            f"{name}() reads the clock, which differs on every path",
            "take the instant as the parameter as_of: datetime, or as a column or request field",
        )


# --- methods --------------------------------------------------------------------------------------


def _method(p: Parsing, node: ast.Call, receiver: ast.expr, name: str, env: Env) -> Expr:
    value = expression(p, receiver, env)
    no_none(p, receiver, value)
    full = f"{value.type.name}.{name}"
    _drop_strict(p, node, full, env)
    special = _METHODS.get(full)
    if special is not None and (made := special(p, node, full, receiver, value, env)) is not None:
        return made
    if is_method(value.type, name) is False:
        p.fail(node, f"{full} is no method", f"write .{name} without ()")
    no_list(p, node, full)
    return operator(p, node, full, [(receiver, value)], node.args, env)


def _drop_strict(p: Parsing, node: ast.Call, name: str, env: Env) -> None:
    """Take `errors="strict"` out of a call of encode or decode, which means nothing else."""
    if name in ("bytes.decode", "str.encode"):
        node.keywords = [
            k for k in node.keywords if k.arg != "errors" or p.static(k.value, env) != "strict"
        ]


def _changing(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    """`values.sort()` and other methods that change a list: CompileError with what to write
    instead."""
    p.fail(
        node,
        f"{name.removeprefix('list')}() changes a list",
        "build it by a comprehension, as in [f(x) for x in values], or sorted(values)",
    )


def _format(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    """`"{}-{name:.2f}".format(a, name=b)`, as the f-string that it means."""
    held = p.settled(receiver, env)
    if not isinstance(held, str):
        p.fail(node, "format() of a computed text", 'write an f-string, as in f"{a}-{b:.2f}"')
    given = {str(i): a for i, a in enumerate(node.args)}
    given |= {k.arg or "**": k.value for k in node.keywords}
    pieces: list[ast.expr] = []
    used: set[str] = set()
    for text, field, spec, conversion in string.Formatter().parse(held):
        pieces.append(ast.Constant(text))
        if field is None:
            continue
        root, *rest = (field or str(len(used))).split(".")
        if (
            root not in given
            or "[" in field
            or "{" in (spec or "")
            or conversion not in (None, "s")
        ):
            p.fail(node, f"the field {{{field}}} of a format", "write an f-string, as in {a:.2f}")
        used.add(root)
        shown_part: ast.expr = given[root]
        for attribute in rest:
            shown_part = ast.Attribute(shown_part, attribute, ast.Load())
        shown = ast.JoinedStr([ast.Constant(spec)]) if spec else None
        pieces.append(ast.FormattedValue(shown_part, ord(conversion) if conversion else -1, shown))
    if used != given.keys():
        p.fail(node, "an argument that the format does not use", "leave it out")
    made = ast.JoinedStr(pieces)
    for part in ast.walk(made):
        if not hasattr(part, "lineno"):
            ast.copy_location(part, node)
    return expression(p, made, env)


def _split(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    """`s.split()` at spaces, which takes no separator."""
    most = _at_spaces(p, node, env)
    if most is None:
        return None
    bare = ast.copy_location(ast.Call(node.func, most, []), node)
    full = f"{name}.spaces" if most else name
    return operator(p, bare, full, [(receiver, value)], most, env)


def _items(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    shown = name.removeprefix("dict.")
    of = "" if shown == "items" else " of a Counter"
    p.fail(node, f"{shown}() here", f"write `for key, n in counts.{shown}()`{of}")


def _at_spaces(p: Parsing, node: ast.Call, env: Env) -> list[ast.expr] | None:
    """For a split at spaces, whose separator is None or left out: the most splits, if given. None
    for another split."""
    named = {k.arg: k.value for k in node.keywords}
    if len(node.args) > 2 or not named.keys() <= {"sep", "maxsplit"}:
        return None
    given = dict(zip(("sep", "maxsplit"), node.args, strict=False)) | named
    if len(given) != len(node.args) + len(named) or not given:
        return None
    if "sep" in given and p.static(given["sep"], env) is not None:
        return None
    return [given["maxsplit"]] if "maxsplit" in given else []


def _get_or_none(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    """`counts.get(key)`: None where the key is absent."""
    if len(node.args) != 1 or node.keywords:
        return None
    (at,) = node.args
    nodes = [receiver, at]

    def chosen(counts: Name | Const, key: Name | Const) -> Expr:
        known = call(p, node, "in", nodes[::-1], [key, counts])
        found = call(p, node, "getitem", nodes, [counts, key])
        return choose(p, node, known, found, Const(None, NONE), None)

    key = expression(p, at, env)
    return named(p, value, lambda counts: named(p, key, lambda k: chosen(counts, k)))


def _any_of(
    p: Parsing, node: ast.Call, name: str, receiver: ast.expr, value: Expr, env: Env
) -> Expr | None:
    """`s.startswith(("a", "b"))`."""
    if len(node.args) != 1:
        return None
    (at,) = node.args
    held = p.static(at, env)
    if not isinstance(held, tuple) or not held:
        return None
    parts = [p.constant(at, h) for h in held]

    def either(whole: Expr) -> Expr:
        made = [call(p, node, name, [receiver, at], [whole, part]) for part in parts]
        return balanced(Either, made)

    return named(p, value, either)


_METHODS: dict[str, Callable[[Parsing, ast.Call, str, ast.expr, Expr, Env], Expr | None]] = {
    **{f"list.{n}": _changing for n in ("append", "extend", "sort", "pop", "insert")},
    "str.format": _format,
    "str.split": _split,
    "str.rsplit": _split,
    "dict.items": _items,
    "dict.most_common": _items,
    "dict.get": _get_or_none,
    "str.startswith": _any_of,
    "str.endswith": _any_of,
}
"""Methods that mean more than their row says; None where they do not."""


# --- builtins -------------------------------------------------------------------------------------


def _builtin(p: Parsing, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
    handler = BUILTINS.get(name)
    if handler is not None and (made := handler(p, node, env, expect)) is not None:
        return made
    if name in ops.BY_NAME:
        return operator(p, node, name, [], node.args, env)
    if name in _REFUSED:
        p.fail(node, f"{name}() is not in the language of features", _REFUSED[name])
    if name in vars(sys.modules["builtins"]):
        hint = "use abs, bool, float, int, len, max, min, round, str, sum, any, all, sorted …"
        p.fail(node, f"{name}() is not in the language of features", hint)
    p.fail(node, f"{name} is not defined", "import it, or define it in this module")


@handles(BUILTINS, "str", "format")
def _str(p: Parsing, node: ast.Call, env: Env, expect: Type | None) -> Expr | None:
    return operator(p, node, "str", [], node.args, env) if len(node.args) == 1 else None


# --- what the module binds ------------------------------------------------------------------------


def _known(p: Parsing, node: ast.Call, name: str, known: Any, env: Env) -> Expr:
    """A call of something that the module defines or imports."""
    if isinstance(known, Transform):
        if known.on_unsupported == "python":
            p.fail(
                node,
                f'{name} is on_unsupported="python", and is not inlined',
                f"take its value as a parameter named {known.name}",
            )
        return inline(p, node, known.function, name, env)
    if (getattr(known, "__module__", None) or "").startswith("featurekit."):
        return operator(p, node, f"featurekit.{known.__name__}", [], node.args, env)
    if hasattr(known, "__wrapped__") and not isinstance(known, type):
        p.fail(node, f"{name} is decorated", "call the plain function")
    if isinstance(known, pytypes.FunctionType) and of_user(known):
        return inline(p, node, known, name, env)
    if isinstance(known, type):
        if known.__module__ == "datetime":
            return operator(p, node, known.__name__, [], node.args, env)
        p.fail(node, f"{name}() makes a {known.__name__}", "use plain values, or return it whole")
    _no_clock(p, node, name)
    module = getattr(known, "__module__", None)
    full = f"{(module or '').lstrip('_')}.{getattr(known, '__name__', name)}"
    if full == "math.isclose" and len(node.args) > 2:
        p.fail(node.args[2], "a tolerance by its position", "write rel_tol=… or abs_tol=…")
    if full in ops.BY_NAME:
        return operator(p, node, full, [], node.args, env)
    if isinstance(known, functools.partial) or not callable(known):
        p.fail(node, f"{name} is no plain function", "write a def with typed parameters")
    if module is None or not full.startswith(("math.", "re.", "datetime.", "hashlib.")):
        hint = impure(known, name=name)
        if hint is not None:
            p.fail(node, f"{name}() is not a function of the feature's arguments alone", hint)
        p.fail(
            node,
            f"{full if module else name}() is library code",
            'write it out, or opt in with @feature(on_unsupported="python")',
        )
    return operator(p, node, full, [], node.args, env)


_CLOCKS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time")


_REFUSED = {
    "print": "leave it out: a feature only computes its value",
    "type": "a parameter has its declared type",
    "open": "declare the file as a source, or bind its values to a module constant",
    "getattr": "write the attribute out",
    "map": "write a comprehension, as in [f(x) for x in values]",
    "filter": "write a comprehension, as in [x for x in values if …]",
    "input": "take it as a request field",
}
