"""Describes the result of a view's join, a value, an error and a status per label, and helps to
find it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from featurekit.aggregates import exact
from featurekit.aggregates.sql import InputColumn
from featurekit.core.sql import literal, quote
from featurekit.core.types import FLOAT, instant
from featurekit.define.plan import Feature, View, empty_value
from featurekit.offline.view_events import keys_sql
from featurekit.offline.window_plans.parts import first_column, within_sql

_COLUMNS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Erred:
    """How many `events` a transform erred on, and the instant and keys of the first of them."""

    transform: str
    events: int
    first: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ViewSql:
    """A view's result, and the numbers of the features that have an `x` column.

    `events` is the temporary table of the events that a window view read, and `errors` are the
    columns that say where its slots err. If the tables of buckets are gone already, `erred` holds
    what they showed.
    """

    sql: str
    erring: frozenset[int]
    events: str | None = None
    errors: tuple[str | None, ...] = ()
    erred: tuple[Erred, ...] = ()


def asked_events_sql(view: View, relation: str, labels: str) -> str:
    """The events of the entities that the labels ask about."""
    keys = ", ".join(quote(k.name) for k in view.join_keys)
    return f"(SELECT * FROM {relation} WHERE ({keys}) IN (SELECT DISTINCT {keys} FROM {labels}))"


def find_span(con: Any, labels: str) -> tuple[int, int]:
    """Find the first and the last instant of the labels; 0 if there are none."""
    low, high = con.execute(f"SELECT min(__t), max(__t) FROM {labels}").fetchall()[0]
    return low or 0, high or 0


def report_erring_events(con: Any, view: View, made: ViewSql) -> dict[str, dict[str, Any]]:
    """Find the transforms of a window view that erred on an event they read. For each it gives the
    number of events that the aggregates left out, and the keys and instant of the first, as text
    (R3)."""
    found: dict[str, dict[str, Any]] = {}
    for erred in made.erred or find_erred_slots(con, view, made):
        at, *keys = erred.first
        sample = dict(zip((p.name for p in view.join_keys), keys, strict=True))
        found[erred.transform] = {
            "events": erred.events,
            "first": {
                **{k: str(v) for k, v in sample.items()},
                "event_timestamp": instant(at).isoformat(),
            },
        }
    return found


def find_erred_slots(con: Any, view: View, made: ViewSql) -> tuple[Erred, ...]:
    """Find the transforms of a window view that erred on events in the view's table (R3)."""
    found = []
    for slot, error in zip(view.slots, made.errors, strict=False):
        if error is None or slot.transform is None:
            continue
        count = con.execute(f"SELECT count(*) FROM {made.events} WHERE {error}").fetchall()[0][0]
        if count:
            keys = keys_sql(view)
            first = con.execute(
                f"SELECT __ts, {keys} FROM {made.events} WHERE {error} "
                f"ORDER BY __ts, {keys} LIMIT 1"
            ).fetchall()[0]
            found.append(Erred(slot.transform.name, count, first))
    return tuple(found)


def add_erred(known: dict[str, Erred], new: Iterable[Erred]) -> None:
    """Add what erred in one bucket to what is `known` of others, by the transform's name."""
    for one in new:
        before = known.get(one.transform, Erred(one.transform, 0, one.first))
        known[one.transform] = Erred(
            one.transform, before.events + one.events, min(before.first, one.first)
        )


def in_window_sql(feature: Feature) -> str:
    """The predicate that an event of the join lies in the feature's window, passes its `where`, and
    is none of those that the window leaves out (T10)."""
    within = within_sql(feature)
    if not feature.cuts:
        return within
    assert feature.frame is not None
    place = "__o" if feature.frame.rows is not None else "__ts"
    return f"{within} AND e.{place} >= l.{quote(first_column(feature))}"


def empty_sql(feature: Feature) -> str:
    """The feature's value over no events."""
    value = empty_value(feature)
    if isinstance(value, dict):
        assert not value
        return f"MAP {{}}::{feature.type.duckdb}"
    return literal(value, feature.type)


def choose_columns(
    con: Any, view: View, table: str, errors: Sequence[str | None]
) -> dict[int, InputColumn]:
    """Choose how the inputs of the aggregates are read, by slot; `errors` names the columns that
    say which of them err.

    The statistics of a column decide how its doubles are added: with one scale for all, if that
    makes every value a whole number, else with limbs by exponent.
    """
    used = sorted({f.slot for f in view.features if f.slot is not None})
    floats = [i for i in used if view.slots[i].type.base == FLOAT]
    chosen: dict[int, exact.FloatColumn] = {}
    # DuckDB's time for a statement grows faster than the number of its columns.
    for low in range(0, len(floats), _COLUMNS_AT_ONCE):
        some = floats[low : low + _COLUMNS_AT_ONCE]
        chosen |= _choose_floats(con, table, some)
    failing = {i: f"e.{errors[i]}" for i in used if errors[i] is not None}
    return {
        i: InputColumn(f"e.s{i}", view.slots[i].type.base, "e.__o", chosen.get(i), failing.get(i))
        for i in used
    }


def _choose_floats(con: Any, table: str, floats: Sequence[int]) -> dict[int, exact.FloatColumn]:
    """How the doubles of the slots `floats` are added."""
    chosen: dict[int, exact.FloatColumn] = {}
    facts = _facts(con, table, floats, specials=False)
    odd = [i for i, fact in facts.items() if not isfinite(fact.largest or 0.0)]
    facts |= _facts(con, table, odd, specials=True)
    fitting = _fitting(con, table, facts, short=True)
    rest = {i: fact for i, fact in facts.items() if i not in fitting}
    fitting |= _fitting(con, table, rest, short=False)
    for i, fact in facts.items():
        if i in fitting:
            scale, short = fitting[i]
            half = exact.half_bits(fact.rows)
            chosen[i] = exact.FloatColumn(scale, (), fact.specials, fact.minus_zero, half, short)
            continue
        index = exact.limb_index_sql(f"s{i}")
        rows = con.execute(
            f"SELECT DISTINCT {index} AS n FROM {table} "
            f"WHERE isfinite(s{i}) AND s{i} <> 0 ORDER BY n"
        ).fetchall()
        limbs = tuple(r[0] for r in rows)
        chosen[i] = exact.FloatColumn(None, limbs, fact.specials, fact.minus_zero)
    return chosen


class _Facts(NamedTuple):
    """What `statistics_sql` finds of a column."""

    largest: float | None
    rows: int
    specials: bool
    minus_zero: bool


def _facts(con: Any, table: str, slots: Sequence[int], *, specials: bool) -> dict[int, _Facts]:
    if not slots:
        return {}
    asked = [s for i in slots for s in exact.statistics_sql(f"s{i}", specials=specials)]
    found = con.execute(f"SELECT {', '.join(asked)} FROM {table}").fetchall()[0]
    return {i: _Facts(*found[4 * n : 4 * n + 4]) for n, i in enumerate(slots)}


def _fitting(
    con: Any, table: str, facts: Mapping[int, _Facts], *, short: bool
) -> dict[int, tuple[int, bool]]:
    """The scale of each of the slots whose values are whole numbers at it; and `short`."""
    if not facts:
        return {}
    scales = {i: exact.scale_for(f.largest, f.rows, short=short) for i, f in facts.items()}
    fits = [
        exact.fits_sql(f"s{i}", scale, specials=facts[i].specials) for i, scale in scales.items()
    ]
    found = con.execute(f"SELECT {', '.join(fits)} FROM {table}").fetchall()[0]
    return {i: (scale, short) for (i, scale), fit in zip(scales.items(), found, strict=True) if fit}
