"""Turns look-ups in constant dicts into IR: `TABLE[key]`, `TABLE.get(key, default)`.

A dict has the entries that it had when the function was compiled.
"""

from __future__ import annotations

import ast
from typing import Any

from featurekit.core.types import FLOAT, INT, NONE, Type
from featurekit.language.ir import Const, Expr, Let, Lookup, Name
from featurekit.language.parse.context import Env, Parsing
from featurekit.language.parse.handlers import expression
from featurekit.language.parse.operators import comparand, no_none

MOST_ENTRIES = 10_000


def _table_of(p: Parsing, node: ast.expr, held: dict[Any, Any]) -> tuple[Type, Type, Any]:
    """The types of a dict's keys and values, and its entries."""
    shown = ast.unparse(node)
    shown = shown if len(shown) < 30 else "the dict"
    if not held:
        p.fail(node, f"{shown} is empty", "put the entries in where it is defined")
    if len(held) > MOST_ENTRIES:
        p.fail(node, f"{shown} has {len(held)} entries", "join it as a source of its own")
    entries: list[tuple[Const, Const]] = []
    for key, value in held.items():
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            p.fail(node, f"{shown}[{key!r}] is a {type(value).__name__}", "use one dict per value")
        if key is None or value is None:
            p.fail(node, f"{shown} holds a None", "leave the entry out and use .get(key)")
        if key != key:
            p.fail(node, f"{shown} has a NaN as a key", "test math.isnan(x) before")
        entries.append((p.constant(node, key), p.constant(node, value)))
    for part, what in ((0, "keys"), (1, "values")):
        types = list(dict.fromkeys(e[part].type for e in entries))
        if len(types) > 1:
            hint = "give them one type"
            if set(types) == {INT, FLOAT}:
                hint += ", as in 2.0 for 2"
            p.fail(node, f"the {what} of {shown} are {' and '.join(map(str, types))}", hint)
    made = tuple((k.value, v.value) for k, v in entries)
    return entries[0][0].type, entries[0][1].type, made


def _key_of(p: Parsing, node: ast.expr, table: ast.expr, wanted: Type, env: Env) -> Expr:
    key = comparand(p, node, env)
    no_none(p, node, key)
    if key.type != wanted:
        p.fail(
            node,
            f"this key is {key.type}, and those of {ast.unparse(table)[:30]} are {wanted}",
            f"convert it with {wanted}(…)",
        )
    return key


def subscript_table(
    p: Parsing, table: ast.expr, held: dict[Any, Any], index: ast.expr, env: Env
) -> Expr:
    """`TABLE[key]`: an error where the key is absent."""
    key_type, value_type, entries = _table_of(p, table, held)
    return Lookup(_key_of(p, index, table, key_type, env), entries, None, value_type)


def get_table(
    p: Parsing, node: ast.Call, held: dict[Any, Any], env: Env, expect: Type | None
) -> Expr:
    """`TABLE.get(key)` and `TABLE.get(key, default)`."""
    assert isinstance(node.func, ast.Attribute)
    table = node.func.value
    if not 1 <= len(node.args) <= 2 or node.keywords:
        p.fail(node, ".get takes a key and a default", "write TABLE.get(key, 0.0)")
    key_type, value_type, entries = _table_of(p, table, held)
    key = _key_of(p, node.args[0], table, key_type, env)
    if len(node.args) == 1:
        none = value_type.or_none()
        return Lookup(key, entries, Const(None, none), none)
    default = expression(p, node.args[1], env, expect if expect == FLOAT else None)
    if value_type == INT and default.type == FLOAT and expect == FLOAT:
        entries = tuple((k, float(v)) for k, v in entries)
        value_type = FLOAT
    if default.type == NONE:
        default = Const(None, value_type.or_none())
    if default.type.base != value_type:
        hint = "give the default their type"
        if default.type == INT and value_type == FLOAT:
            hint = "write it as a float, as in 0.0"
        p.fail(
            node.args[1],
            f"the default is {default.type}, and the values are {value_type}",
            hint,
        )
    type_ = value_type.or_none() if default.type.optional else value_type
    if isinstance(default, (Const, Name)):
        return Lookup(key, entries, default, type_)
    # Python evaluates the default even where it is not used.
    name = p.new_name(default.type)
    return Let(name.name, default, Lookup(key, entries, name, type_), type_)
