"""Checks that a value is one of a Literal's, or a Vector of the declared size.

No operator knows of either: an operator gives any str, or a list of doubles of any length. So only
constants, and values that were declared so, are accepted. Python checks nothing here.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from featurekit.core.types import BOOL, NONE, Type
from featurekit.language.ir import (
    Apply,
    Bind,
    Choose,
    Const,
    Expr,
    IsNone,
    Let,
    ListOf,
    Lookup,
    Name,
)

UNSEEN = IsNone(Const(None, NONE), BOOL)
"""Stands for a value that nothing is known of."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A value where a declared type is wanted; `what` says whose type."""

    node: ast.AST
    value: Expr
    wanted: Type
    what: str

    @property
    def narrow(self) -> bool:
        """Whether the declared type has choices or a size anywhere."""
        return repr(self.wanted) != repr(self.wanted.plain)

    def broken(
        self, params: Mapping[str, Type], assigned: Mapping[str, list[Expr]]
    ) -> tuple[str, str] | None:
        """What is wrong and what to write; None where every value fits.

        `params` has the declared types of the function's parameters, `assigned` every value that is
        given to a local.
        """
        if _holds(self.wanted, self.value, params, assigned, frozenset()):
            return None
        if isinstance(self.value, Const):
            reason = f"{self.value.value!r} is none of {self.what}, {self.wanted.base}"
            return reason, "correct it, or declare the other value, too"
        if self.wanted.choices is not None:
            reason = f"this may be any {self.wanted.name}, and {self.what} is {self.wanted}"
            return reason, f"give its values as they stand there, or declare {self.wanted.name}"
        reason = f"this is not seen to be a {self.wanted.base}, which {self.what} is"
        hint = f"pass what was declared so, or declare {self.wanted.plain}"
        return reason, f"{hint}: computed numbers are doubles"


def _holds(
    wanted: Type,
    value: Expr,
    params: Mapping[str, Type],
    assigned: Mapping[str, list[Expr]],
    seen: frozenset[str],
) -> bool:
    def all_hold(*values: Expr) -> bool:
        return all(_holds(wanted, v, params, assigned, seen) for v in values)

    match value:
        case Const(value=None):
            return True
        case Const(value=held):
            return wanted.choices is not None and held in wanted.choices
        case Name(name=name):
            if name in seen:
                return True
            if name in params and not wanted.holds(params[name]):
                return False
            given = assigned.get(name, [])
            inner = seen | {name}
            return (name in params or bool(given)) and all(
                _holds(wanted, v, params, assigned, inner) for v in given
            )
        case Choose(then=then, orelse=orelse):
            return all_hold(then, orelse)
        case Lookup(table=table, default=default):
            return all(wanted.choices is not None and v in wanted.choices for _, v in table) and (
                default is None or all_hold(default)
            )
        case Apply(function=function):
            return wanted.holds(function.returns)
        case Let(name=name, value=held, body=body):
            return _holds(wanted, body, params, {**assigned, name: [held]}, seen)
        case Bind(value=held):
            return all_hold(held)
        case ListOf(items=items) if wanted.item is not None and wanted.size is None:
            return all(_holds(wanted.item, i, params, assigned, seen) for i in items)
        case _:
            return False
