"""What the text of a function leaves open until more of it was read, and reading it once more.

The elements of `found = []` get their type from what is appended later, and `total = 0` becomes a
float where a float is added to it. Such a function is read again with what was found.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from featurekit.core.types import BOOL, BYTES, DATE, DATETIME, FLOAT, INT, STR, Type, list_of
from featurekit.errors import CompileError

Place = tuple[int, int]
"""The line and column of an expression in the function's text."""

_TRIED = (STR, INT, FLOAT, BOOL, DATETIME, DATE, BYTES, *map(list_of, (STR, INT, FLOAT)))
_MOST_READINGS = 60


@dataclass(slots=True)
class Guesses:
    """What is supposed of a function while it is read: the types of elements of collections without
    any, and the locals whose constant ints are floats."""

    elements: dict[Place, Type] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    readings: list[int] = field(default_factory=lambda: [0])


class Open(Exception):
    """The collection at a place has no elements, and no type is supposed yet."""

    def __init__(self, place: Place, error: CompileError) -> None:
        super().__init__(str(error))
        self.place, self.error = place, error


class Wrong(Exception):
    """What is supposed of the collections at these places does not hold: they take `found`."""

    def __init__(self, places: list[Place], found: Type, error: CompileError) -> None:
        super().__init__(str(error))
        self.places, self.found, self.error = places, found, error


class Mixed(Exception):
    """A local is a constant int at first, and a float later."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


_Made = TypeVar("_Made")


def settle(read: Callable[[Guesses], _Made], guesses: Guesses) -> _Made:
    """What `read` gives with the first guesses that it accepts. CompileError where there are
    none."""
    guesses.readings[0] += 1
    try:
        return read(guesses)
    except Mixed as mixed:
        floats = guesses.floats | {mixed.name}
        return settle(read, Guesses(guesses.elements, floats, guesses.readings))
    except Open as found:
        return _settle_elements(read, guesses, found)


def _settle_elements(read: Callable[[Guesses], _Made], guesses: Guesses, found: Open) -> _Made:
    tried: list[Type] = []
    todo = list(_TRIED)
    errors: list[CompileError] = []
    while todo and guesses.readings[0] < _MOST_READINGS:
        item = todo.pop(0)
        tried.append(item)
        elements = {**guesses.elements, found.place: item}
        try:
            return settle(read, Guesses(elements, guesses.floats, guesses.readings))
        except Wrong as wrong:
            if found.place not in wrong.places:
                raise
            errors.append(wrong.error)
            todo = [] if wrong.found in tried else [wrong.found]  # the text tells the type
        except CompileError as error:
            errors.append(error)
    raise max(errors, key=lambda e: (e.line or 0, e.column or 0)) if errors else found.error


def place_of(node: ast.AST) -> Place:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def empties(function: ast.AST, name: str) -> list[Place]:
    """Where a function gives a local a collection without elements."""
    found = []
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                pairs = [(bound, value)]
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if len(
                targets
            ) == len(values):
                pairs = [(ast.unparse(t), v) for t, v in zip(targets, values, strict=True)]
            case _:
                continue
        found += [place_of(v) for bound, v in pairs if bound == name and _is_empty(v)]
    return found


def _is_empty(node: ast.expr) -> bool:
    match node:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "Counter"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Name(id="defaultdict") | ast.Attribute(attr="defaultdict")):
            return True
        case ast.Call(func=ast.Attribute(attr="Counter"), args=[], keywords=[]):
            return True
    return False


# --- floats that begin as ints --------------------------------------------------------------------


def may_be_float(function: ast.AST, name: str, *, top: bool) -> bool:
    """Whether nothing in a function can tell an int from the float of the same value in a local:
    it is only added, multiplied, divided, compared, and returned where a float is declared."""
    parents = {c: p for p in ast.walk(function) for c in ast.iter_child_nodes(p)}
    for node in ast.walk(function):
        match node:
            case ast.Name(id=bound, ctx=ast.Load()) if bound == name:
                if not _as_number(node, parents, top):
                    return False
            case ast.AugAssign(target=ast.Name(id=bound), op=op) if bound == name:
                if not isinstance(op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
                    return False
    return True


_KEEPS = ("min", "max", "abs", "round")
_ENDS = ("float", "int", "bool")
_FORMATS = ("e", "f", "g", "%")


def _as_number(node: ast.AST, parents: dict[ast.AST, ast.AST], top: bool) -> bool:
    parent = parents[node]
    match parent:
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div()) | ast.Compare():
            return True  # of an int and a promoted local no sum is made, as `exact_sides` sees
        case ast.AugAssign():
            return isinstance(parent.op, (ast.Add, ast.Sub, ast.Mult, ast.Div))
        case ast.If(test=test) | ast.While(test=test) if test is node:
            return True
        case ast.Return():
            return top
        case ast.Dict() | ast.Tuple() | ast.keyword():
            return _as_number(parent, parents, top)
        case ast.IfExp(test=test):
            return test is node or _as_number(parent, parents, top)
        case ast.Call(func=ast.Name(id=called)) if called in _ENDS:
            return True
        case ast.Call(func=ast.Name(id=called)) if called in _KEEPS:
            return _as_number(parent, parents, top)
        case ast.Call(func=ast.Name(id=called)) if called[:1].isupper():
            return _as_number(parent, parents, top)  # a field of a result
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"))):
            return True
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=[ast.Constant(value=spec)])):
            return str(spec).endswith(_FORMATS)
    return False
