"""Turns a source's events into a view's events: keys, instants and slots, as one SQL relation.

The point-in-time join and the materialisation both begin here, so they see the same events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.types import FLOAT, Type
from featurekit.define.plan import View
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower


@dataclass(frozen=True, slots=True)
class ViewEvents:
    """A relation of a view's events: columns k0 … (join keys), __ts, __created, s0 … (slots), and
    __end if the source has an `op`.

    `errors[i]` names the column that says whether slot i errs; it is None if slot i cannot (R3).
    `orders[i]` names the column that orders slot i.
    """

    sql: str
    errors: tuple[str | None, ...]
    orders: tuple[str, ...]


def view_events(con: Any, view: View, relation: str, also: Sequence[str] = ()) -> ViewEvents:
    """The events of `relation` that belong to an entity. `relation` has a source's columns, __ts,
    __created and, if the source has an `op`, __end, the instant from which an event no longer
    counts (T7).

    With `also`, further columns of `relation`, the result keeps these columns, and all rows.
    """
    lowering = Lowering()
    columns = [f"{quote(key.name)} AS k{i}" for i, key in enumerate(view.join_keys)]
    columns += ["__ts", "__created", *(["__end"] if view.source.op is not None else []), *also]
    errors: list[str | None] = []
    for i, slot in enumerate(view.slots):
        if slot.column is not None:
            columns.append(f"{quote(slot.column)} AS s{i}")
            errors.append(None)
            continue
        assert slot.transform is not None
        arguments = [Value(Sql(quote(p.name))) for p in slot.transform.params]
        value = lower(lowering, slot.transform, arguments)
        text = value.sql.text
        # One NaN, whatever payload the arithmetic left (S1).
        if slot.type.base == FLOAT:
            text = f"CASE WHEN isnan({text}) THEN 'nan'::DOUBLE ELSE {text} END"
        columns.append(f"{text} AS s{i}")
        if value.error is None:
            errors.append(None)
        else:
            columns.append(f"{value.error.text} AS e{i}")
            errors.append(f"e{i}")
    orders = []
    for i, slot in enumerate(view.slots):
        listed = slot.type.item is not None and slot.column is not None and i in view.order
        if listed:
            columns.append(f"{order_key(quote(slot.column or ''), slot.type)} AS o{i}")
        orders.append(f"o{i}" if listed else f"s{i}")
    register_python_ops(con, lowering.python_ops)
    source = relation
    if not also:
        known = " AND ".join(f"{quote(key.name)} IS NOT NULL" for key in view.join_keys)
        source = f"(SELECT * FROM {relation} WHERE {known})"
    return ViewEvents(
        f"(SELECT {', '.join(columns)} FROM {lowering.wrap(source)})", tuple(errors), tuple(orders)
    )


def order_key(x: str, type_: Type, depth: int = 0) -> str:
    """SQL that DuckDB orders as T6 orders `x`: inside a list, DuckDB itself puts nulls last and
    treats -0.0 as 0.0."""
    if type_.item is None:
        return x
    item = f"__x{depth}"
    fields = [f"'n': {item} IS NOT NULL", f"'v': {order_key(item, type_.item, depth + 1)}"]
    if type_.item.base == FLOAT:
        fields.append(f"'s': NOT signbit({item})")
    # A null list comes before [], whatever DuckDB makes of its items.
    made = f"list_transform({x}, lambda {item}: {{{', '.join(fields)}}})"
    return f"CASE WHEN {x} IS NOT NULL THEN {made} END"


def keys_sql(view: View, alias: str = "") -> str:
    """The key columns, separated by commas."""
    return ", ".join(f"{alias}k{i}" for i in range(len(view.join_keys)))


def order_sql(view: View, events: ViewEvents, *, backwards: bool = False) -> str:
    """The ORDER BY of T6 for an entity's events: nulls first, then errors, -0.0 before 0.0, NaN
    last."""
    up, nulls, down = ("DESC", "LAST", "ASC") if backwards else ("ASC", "FIRST", "DESC")
    terms = [f"__ts {up}", f"__created {up}"]
    for i in view.order:
        terms.append(f"{events.orders[i]} {up} NULLS {nulls}")
        if view.slots[i].type.base == FLOAT:
            terms.append(f"signbit(s{i}) {down}")
        if events.errors[i] is not None:
            terms.append(f"{events.errors[i]} {up}")
    return ", ".join(terms)


def leads_sql(view: View, events: ViewEvents, relation: str) -> str:
    """Each event of `relation` that is the latest row for a while, with `__v`, the instant from
    which it is: no later event by T6 is visible by then (T3, V1). So an ASOF join on __v finds the
    latest row, whatever the order of arrivals."""
    keys = keys_sql(view)
    numbered = (
        f"(SELECT *, greatest(__ts, __created) AS __v, row_number() OVER "
        f"(PARTITION BY {keys} ORDER BY {order_sql(view, events)}) AS __o FROM {relation})"
    )
    lead = f"max(__o) OVER (PARTITION BY {keys} ORDER BY __v RANGE UNBOUNDED PRECEDING)"
    return f"(SELECT * FROM {numbered} QUALIFY __o = {lead})"
