"""Turns operators over values in SQL into SQL: rows of the table, sums of ints, and look-ups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from featurekit.core.sql import literal, quote
from featurekit.core.types import INT_MAX, Type
from featurekit.language import ops
from featurekit.language.ir import Call, Const, Expr
from featurekit.language.ops.number import wide_sql
from featurekit.language.python_calls import call_of_op
from featurekit.language.to_duckdb.lowering import Lowering, Sql, Value, at, chosen_sql

Nodes = tuple[Expr, ...]
Held = Callable[[Expr], Value]


def sum_of(op: ops.Op, nodes: Nodes, held: Held) -> Value | None:
    """A tree of +, - and * of ints as one expression; None where the operator's own row is better.

    While the leaves are within a limit, nothing leaves int64, in whatever order DuckDB computes.
    Outside it, each operator is checked. `held` gives a leaf as a column.
    """
    if op.key not in _SUMS:
        return None
    if any(isinstance(n, Const) for n in nodes) and not any(map(_is_sum, nodes)):
        return None
    whole = _limit(op, nodes, whole=True) >= _LEAST_LIMIT
    limit = _limit(op, nodes, whole=whole)
    if limit < _LEAST_LIMIT:
        return None
    leaves: dict[str, Value] = {}
    plain, checked = _tree(op, nodes, held, leaves, whole=whole)
    if not leaves:
        return Value(checked, True)
    tests = [at(lambda v: f"{v} BETWEEN -{limit} AND {limit}", v.sql) for v in leaves.values()]
    within = at(lambda *t: " AND ".join(t), *tests)
    nulls = frozenset[str]().union(*(v.nulls for v in leaves.values()))
    return Value(at(chosen_sql, within, plain, checked), True, nulls=nulls)


def _tree(
    op: ops.Op, nodes: Nodes, held: Held, leaves: dict[str, Value], *, whole: bool
) -> tuple[Sql, Sql]:
    """The tree without checks, and with them. Its leaves are added to `leaves`.

    Without `whole`, the tree is its outermost operator alone.
    """
    sides: list[tuple[Sql, Sql]] = []
    for node in nodes:
        if whole and isinstance(node, Call) and _is_sum(node):
            sides.append(_tree(ops.TABLE[node.op], node.args, held, leaves, whole=True))
            continue
        leaf = held(node)
        if not isinstance(node, Const):
            leaves[leaf.sql.text] = leaf
        sides.append((leaf.sql, leaf.sql))
    plain = at(lambda a, b: f"({a} {op.name} {b})", *(p for p, _ in sides))
    return plain, at(wide_sql(op.name).format, *(c for _, c in sides))


def row_of(lowering: Lowering, op: ops.Op, nodes: Nodes, values: Sequence[Value]) -> Value:
    """The operator's row over `values`; `nodes` tells which of them are literals."""
    template = op.template([n.value if isinstance(n, Const) else None for n in nodes])
    # A NULL in one argument makes the row's SQL NULL, and so does an error of the operator.
    places = template + "".join(op.steps)
    arguments = [
        v.sql if places.count(f"{{{i}}}") <= 1 and "{python}" not in template
        else lowering.bind(v.sql)
        for i, v in enumerate(values)
    ]  # fmt: skip
    nulls = frozenset(a.text for a in arguments if a.simple).union(*(v.nulls for v in values))
    for i, step in enumerate(op.steps, len(values)):
        if f"{{{i}}}" in places:
            made = at(lambda *texts, step=step: step.format(*texts), *arguments)
            arguments.append(lowering.bind(made))
    if "{python}" in template:
        call = call_of_op(op)
        lowering.python_ops[call.name] = call
    sql = at(lambda *texts: _op_sql(op, texts, template), *arguments)
    return Value(sql, op.raises or any(v.errs for v in values), nulls=nulls)


_SUMS = ("+(int,int)", "-(int,int)", "*(int,int)")
_LEAST_LIMIT = 2**20


def _is_sum(node: Expr) -> bool:
    return isinstance(node, Call) and node.op in _SUMS


def _limit(op: ops.Op, nodes: tuple[Expr, ...], *, whole: bool) -> int:
    """The greatest power of two within which the leaves keep the tree within int64, in any order of
    computing; 0 where there is none. Without `whole`, the tree is its outermost operator alone."""

    def reach(name: str, nodes: tuple[Expr, ...], limit: int) -> int:
        sides = []
        for node in nodes:
            match node:
                case Const(value, _):
                    sides.append(max(abs(value), 1))
                case Call(key, args, _) if whole and key in _SUMS:
                    sides.append(reach(ops.TABLE[key].name, args, limit))
                case _:
                    sides.append(limit)
        return math.prod(sides) if name == "*" else sum(sides)

    limits = (2**bits for bits in range(62, -1, -1))
    return next((n for n in limits if reach(op.name, nodes, n) <= INT_MAX), 0)


def entry_sql(
    key: str, key_type: Type, value_type: Type, table: tuple[tuple[Any, Any], ...]
) -> str:
    """The entry of a table that has no None in it; NULL where the key is absent.

    A subquery becomes a hash join, whatever the number of entries. For a few, a CASE is faster.
    """
    keys = [literal(k, key_type) for k, _ in table]
    values = [literal(v, value_type.base) for _, v in table]
    if len(table) > _MOST_CASES and key_type.name != "float":
        rows = f"SELECT unnest([{', '.join(keys)}]) AS __k, unnest([{', '.join(values)}]) AS __v"
        return f"(SELECT __v FROM ({rows}) WHERE __k = {key})"
    entries = " ".join(f"WHEN {k} THEN {v}" for k, v in zip(keys, values, strict=True))
    return f"CASE {key} {entries} END"


_MOST_CASES = 16


def _op_sql(op: ops.Op, arguments: Sequence[str], template: str) -> str:
    """The row's SQL over `arguments`; it may use each one several times."""
    if template == "{0}":
        return arguments[0]
    places = ", ".join(f"{{{i}}}" for i in range(len(op.params)))
    called = f"{quote(f'fk_{op.key}')}({places})"
    return "(" + template.replace("{python}", called).format(*arguments) + ")"
