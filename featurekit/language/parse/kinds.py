"""Answers tests of a value's class, which the declared types decide: isinstance and `type(x) is T`.

Where the answer is the same for every row, the branch that is never taken is not read.
"""

from __future__ import annotations

import ast
import datetime as dt
from typing import Any

from featurekit.core.types import BOOL
from featurekit.language.ir import Const, Expr, IsNone, Name
from featurekit.language.parse.context import MISSING, Env, Parsing, narrowed
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import negate

ALWAYS, NEVER = Const(True, BOOL), Const(False, BOOL)
"""The answers of tests that the declared types decide, told from other constants by identity."""

_CLASSES: dict[str, type] = {
    c.__name__: c for c in (bool, int, float, str, bytes, list, tuple, dict, set, complex, object)
}

Tested = tuple[Expr, Env, Env]


def known(test: Expr) -> bool | None:
    """The answer of a test that the declared types decide; None for another test."""
    return True if test is ALWAYS else False if test is NEVER else None


def kind_test(p: Parsing, node: ast.expr, env: Env) -> Tested | None:
    """`isinstance(x, (int, float))`, `type(x) is str`; None for any other test."""
    match node:
        case ast.Call(func=ast.Name(id="isinstance"), args=[about, kinds], keywords=[]) if (
            p.is_builtin("isinstance", env)
        ):
            exact = False
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="type"), args=[about], keywords=[]),
            ops=[ast.Is() | ast.IsNot() | ast.Eq() | ast.NotEq() as op],
            comparators=[kinds],
        ) if p.is_builtin("type", env):
            exact = True
            if isinstance(op, (ast.IsNot, ast.NotEq)):
                found = _of_kind(p, about, kinds, env, exact=True)
                return turned(found)
        case _:
            return None
    return _of_kind(p, about, kinds, env, exact=exact)


def turned(found: Tested) -> Tested:
    """The test that is true where this one is false."""
    test, if_true, if_false = found
    answer = known(test)
    if answer is None:
        return negate(test), if_false, if_true
    return (NEVER if answer else ALWAYS), if_false, if_true


def kind_of(p: Parsing, at: ast.pattern, name: str, cls: ast.expr, env: Env) -> Tested:
    """The test of `case int():`, of the local of that name."""
    about = ast.copy_location(ast.Name(name, ast.Load()), at)
    return _of_kind(p, about, cls, env, exact=False)


def _of_kind(p: Parsing, about: ast.expr, kinds: ast.expr, env: Env, *, exact: bool) -> Tested:
    if not isinstance(about, ast.Name):
        p.fail(about, "the class of something computed", "assign it to a name, and test that")
    value = expression(p, about, env)
    classes = _classes(p, kinds, env)
    held = value.type.python
    fits = held in classes if exact else issubclass(held, classes)
    if value.type.name == "None":
        fits = False
    elif fits and value.type.optional and isinstance(value, Name) and type(None) not in classes:
        present = narrowed(env, about.id)
        return negate(IsNone(value, BOOL)), present, dict(env)
    elif not fits and value.type.optional and type(None) in classes:
        return IsNone(value, BOOL), dict(env), narrowed(env, about.id)
    return (ALWAYS if fits else NEVER), dict(env), dict(env)


def _classes(p: Parsing, node: ast.expr, env: Env) -> tuple[type, ...]:
    """The classes that a test names, alone or in a tuple or a union."""
    match node:
        case ast.Tuple(elts=elements):
            return tuple(c for e in elements for c in _classes(p, e, env))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return (*_classes(p, left, env), *_classes(p, right, env))
        case ast.Constant(value=None):
            return (type(None),)
        case ast.Name(id=name) if name in _CLASSES and p.is_builtin(name, env):
            return (_CLASSES[name],)
        case ast.Call(func=ast.Name(id="type"), args=[ast.Constant(value=None)]):
            return (type(None),)
    held: Any = p.static(node, env) if isinstance(node, (ast.Name, ast.Attribute)) else MISSING
    if held not in (dt.datetime, dt.date, dt.timedelta):
        p.fail(node, "a class that no value of a feature has", "write str, int, float, bool …")
    return (held,)
