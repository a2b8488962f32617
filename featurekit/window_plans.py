"""Turns the windows of a view into SQL, by the plan that suits its data: each gives the same bits.

- *Range join*: labels with the events in reach, and one GROUP BY. It takes every aggregate, and
  looks at each pair of a label and an event of its entity: a third of the events on one key is
  quadratic. For such keys there are others.
- *Running sums*: an aggregate whose parts add whole numbers is the difference of two running sums,
  so that one sort of events and windows' ends takes the place of the pairs.
- *Frames*: the least and the greatest are found by window frames that are as long as the window for
  a label's row, and empty for an event's.
- *Tiled join*: other aggregates, and the events that frames cannot know by t, are joined within
  tiles of time as long as the window.

Events `e` are a table with k0 …, __ts, __created, slots; labels `l` have __rid, __t and join keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.aggregates.base import AggregateSql
from featurekit.compiled import Feature, View
from featurekit.durations import LIFETIME_US
from featurekit.to_duckdb import quote

# How many pairs of the range join cost as much as a row of the other plans: of running sums alone,
# and with frames and tiles among them (benchmarks/window_plans.py).
PAIRS_PER_SUM = 20
PAIRS_PER_ROW = 100
# The share of events that frames take; the others are joined.
_SETTLED = 0.99


@dataclass(frozen=True, slots=True)
class Asked:
    """An aggregate over the window of `feature`, and the names of its parts' columns."""

    feature: Feature
    sql: AggregateSql
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grouped:
    """A relation with __rid and the parts of all that was asked; `__in`, whether the label had an
    event in reach. Of those in `summed` every label has its parts; of others only a label with
    events, and then `__in` is true."""

    sql: str
    summed: frozenset[int]


def low_sql(feature: Feature) -> str:
    """The open end of the feature's window at label `l` (T4, T5)."""
    low = f"l.__t - {feature.offset_us + feature.window_us}"
    return f"fk_hop({low}, {feature.hop_us})" if feature.hop_us else low


def high_sql(feature: Feature) -> str:
    """The closed end of the feature's window at label `l` (T4)."""
    return f"l.__t - {feature.offset_us}"


def grouped(
    con: Any, view: View, asked: Sequence[Asked], *, table: str, labels: str, prompt: bool
) -> Grouped:
    """The parts of `asked` for each label of `labels` over the events of `table`; `prompt` where no
    event arrived after it happened."""
    facts = _facts(con, view, asked, table, labels, prompt=prompt)
    if facts.crowded and view.source.op is not None:
        # Events may be over by t: each is looked at.
        return Grouped(_tiled_join(view, asked, table, labels, facts), frozenset())
    if not facts.crowded:
        return Grouped(_range_join(view, asked, table, labels, facts), frozenset())
    adding = [i for i, a in enumerate(asked) if _adds(a)]
    moving = [i for i, a in enumerate(asked) if a.sql.terms and not _adds(a)]
    others = [a for a in asked if not a.sql.terms]
    parts = []
    if adding:
        parts.append(_running_sums(view, [asked[i] for i in adding], table, labels, facts))
    if moving:
        parts.append(_frames(view, [asked[i] for i in moving], table, labels, facts))
    if others:
        parts.append(_tiled_join(view, others, table, labels, facts))
    else:
        parts.append("(SELECT NULL::BIGINT AS __rid, FALSE AS __in)")
    joined = " LEFT JOIN ".join(p if i == 0 else f"{p} USING (__rid)" for i, p in enumerate(parts))
    return Grouped(f"(SELECT * FROM {joined})", frozenset([*adding, *moving]))


@dataclass(frozen=True, slots=True)
class _Facts:
    """`lateness`: the most by which an event arrived after it happened, in microseconds; 0 where
    all were prompt; `settled`: the most of nearly all of them. `crowded`: labels times events of
    one entity are far more than both."""

    lateness: int
    settled: int
    crowded: bool


def _facts(
    con: Any, view: View, asked: Sequence[Asked], table: str, labels: str, *, prompt: bool
) -> _Facts:
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    named = ", ".join(f"{quote(p.name)} AS k{i}" for i, p in enumerate(view.join_keys))
    late = "greatest(__created - __ts, 0)"
    pairs, awaited, events, lateness = con.execute(
        f"SELECT sum(l.n::DOUBLE * e.n), sum(l.n::DOUBLE * e.late / e.span), sum(e.n), max(e.most) "
        f"FROM (SELECT {keys}, count(*) AS n, max({late}) AS most, "
        f"sum(CASE WHEN {late} > {_shortest(asked)} THEN {late}::DOUBLE ELSE 0 END) AS late, "
        f"max(__ts) - min(__ts) + 1 AS span FROM {table} GROUP BY ALL) e "
        f"JOIN (SELECT {named}, count(*) AS n FROM {labels} GROUP BY ALL) l USING ({keys})"
    ).fetchall()[0]
    if events is None:
        return _Facts(0, 0, crowded=False)
    rows = events + con.execute(f"SELECT count(*) FROM {labels}").fetchall()[0][0]
    only_sums = all(_adds(a) for a in asked)
    crowded = _crowded(rows, pairs, awaited, PAIRS_PER_SUM if only_sums else PAIRS_PER_ROW)
    if prompt or not lateness:
        return _Facts(0, 0, crowded)
    settled = con.execute(f"SELECT quantile_disc({late}, {_SETTLED}) FROM {table}").fetchall()[0][0]
    return _Facts(lateness, settled, crowded)


def _crowded(rows: int, pairs: float, awaited: float, pairs_per_row: int) -> bool:
    """Whether the range join is the slower: `rows` labels and events, `pairs` of them of one
    entity, and about `awaited` of those with an event that arrived after its window and after the
    label; `pairs_per_row` of them cost as much as a row does elsewhere."""
    return pairs > pairs_per_row * rows and pairs > 4 * awaited


def _adds(asked: Asked) -> bool:
    """Whether every part of it is a sum."""
    return bool(asked.sql.terms) and asked.sql.terms[0].adds


def _shortest(asked: Sequence[Asked]) -> int:
    """The shortest way from an instant to the open end of a window, in microseconds."""
    return min(a.feature.offset_us + a.feature.window_us for a in asked)


# --- the range join -------------------------------------------------------------------------------


def _range_join(view: View, asked: Sequence[Asked], table: str, labels: str, facts: _Facts) -> str:
    """For each label with an event in reach: __rid, __in, the parts."""
    on = " AND ".join([*_same_keys(view), *_reach(view, asked, facts)])
    return (
        f"(SELECT l.__rid, TRUE AS __in, {_parts(asked)} FROM {labels} l "
        f"JOIN {_with_helpers(asked, table)} e ON {on} GROUP BY l.__rid)"
    )


def _parts(asked: Sequence[Asked]) -> str:
    return ", ".join(
        f"{part} AS {name}" for a in asked for part, name in zip(a.sql.parts, a.names, strict=True)
    )


def _reach(view: View, asked: Sequence[Asked], facts: _Facts) -> list[str]:
    """That an event lies in some window of the label, had arrived, and was not over."""
    nearest, farthest = _ends(asked)
    reach = [f"e.__ts <= l.__t - {nearest}", f"e.__ts > l.__t - {farthest}"]
    if facts.lateness > 0:
        reach.append("e.__created <= l.__t")
    if view.source.op is not None:
        reach.append("e.__end > l.__t")
    return reach


def _ends(asked: Sequence[Asked]) -> tuple[int, int]:
    """How far back of an instant the windows end and begin, in microseconds."""
    nearest = min(a.feature.offset_us for a in asked)
    return nearest, max(a.feature.offset_us + a.feature.window_us + a.feature.hop_us for a in asked)


def _tiled_join(
    view: View,
    asked: Sequence[Asked],
    table: str,
    labels: str,
    facts: _Facts,
    *,
    unsettled: bool = False,
) -> str:
    """As `_range_join`, within tiles of time as long as the windows reach: an event stands in one
    and a label asks for two.

    `unsettled`: only the events that were later than `settled`, or that happened no longer than
    that before t. The latter have shorter tiles, and a class of their own.
    """
    nearest, farthest = _ends(asked)
    # Of each class of events: how far back it is asked for.
    classes = [(nearest, farthest)]
    kind = "0"
    on = [*_same_keys(view), "l.__class = e.__class", "l.__tile = e.__tile"]
    on += _reach(view, asked, facts)
    if unsettled and facts.settled:
        classes.append((0, facts.settled))
        kind = f"CASE WHEN __created - __ts <= {facts.settled} THEN 1 ELSE 0 END"
        on.append(f"(e.__class = 0 OR e.__ts > l.__t - {facts.settled})")
    widths = [max(back - front, 1) for front, back in classes]
    width = (
        widths[0]
        if len(widths) == 1
        else f"CASE {kind} WHEN 1 THEN {widths[1]} ELSE {widths[0]} END"
    )
    events = _with_helpers(asked, table, f"{kind} AS __class", f"fk_hop(__ts, {width}) AS __tile")
    if unsettled and not facts.settled:
        events = f"(SELECT * FROM {events} WHERE __created > __ts)"
    asking = []
    for number, ((front, back), wide) in enumerate(zip(classes, widths, strict=True)):
        last, first = (f"fk_hop(__t - {at}, {wide})" for at in (front, back - 1))
        asking.append(f"SELECT *, {number} AS __class, {last} AS __tile FROM {labels}")
        asking.append(f"SELECT *, {number}, {first} FROM {labels} WHERE {first} <> {last}")
    return (
        f"(SELECT l.__rid, TRUE AS __in, {_parts(asked)} FROM ({' UNION ALL '.join(asking)}) l "
        f"JOIN {events} e ON {' AND '.join(on)} GROUP BY l.__rid)"
    )


def _same_keys(view: View) -> list[str]:
    return [f"l.{quote(k.name)} = e.k{i}" for i, k in enumerate(view.join_keys)]


def _with_helpers(asked: Sequence[Asked], table: str, *more: str) -> str:
    """The events, with the columns that the parts of `asked` read."""
    helpers = {name: made_of for a in asked for name, made_of in a.sql.helpers}
    columns = ["*", *(f"{made_of} AS {name}" for name, made_of in helpers.items()), *more]
    return f"(SELECT {', '.join(columns)} FROM {table})"


# --- running sums ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Term:
    """What a running sum adds: of each event that `where`, a slot, keeps."""

    function: str
    sql: str
    where: int | None

    @property
    def value(self) -> str:
        """The summand of event `e`, NULL for none."""
        if self.where is None:
            return self.sql
        return f"CASE WHEN e.s{self.where} THEN {self.sql} END"


def _running_sums(
    view: View, asked: Sequence[Asked], table: str, labels: str, facts: _Facts
) -> str:
    """For every label: __rid, the parts.

    Events in (low, high] that had arrived by t are those with greatest(ts + offset, created) <= t,
    less those with ts <= low, plus those with ts <= low that had not arrived by t. The first two
    are running sums, by the order of their own; the third are events later than their window is
    long: few, if any. The sums run on from entity to entity, and what the earlier ones left in both
    goes away in the difference: whole numbers lose nothing, and a column's scale has room for all
    of its rows.
    """
    terms: dict[_Term, int] = {}
    for a in asked:
        for s in a.sql.terms:
            terms.setdefault(_Term(s.function, s.sql, a.feature.where), len(terms))
    late = facts.lateness > 0
    # An order of events, and the windows' ends that stand in it, numbered.
    orders: dict[str, dict[str, int]] = {}
    count = 0

    def end(order: str, at: str) -> int:
        nonlocal count
        ends = orders.setdefault(order, {})
        if at not in ends:
            ends[at] = count
            count += 1
        return ends[at]

    columns: list[str] = []
    shown: list[str] = []
    for a in asked:
        f = a.feature
        if late:
            order, at = f"greatest(e.__ts + {f.offset_us}, e.__created)", "l.__t"
        else:
            order, at = "e.__ts", high_sql(f)
        high = end(order, at)
        # Before a lifetime there is nothing of its entity, whatever the order.
        low = end(order, str(-LIFETIME_US)) if f.lifetime else end("e.__ts", low_sql(f))
        for name, s in zip(a.names, a.sql.terms, strict=True):
            term = terms[_Term(s.function, s.sql, f.where)]
            total = f"any_value(p{term}) FILTER (__end = {{}})"
            value = " - ".join(f"coalesce({total.format(at)}, 0)" for at in (high, low))
            columns.append(f"{value} AS {name}")
            shown.append(name)
    passes = " UNION ALL ".join(
        _running(view, list(terms), asked, table, labels, order, ends)
        for order, ends in orders.items()
    )
    sums = f"(SELECT __rid, {', '.join(columns)} FROM ({passes}) GROUP BY __rid)"
    if facts.lateness <= _shortest(asked):
        return sums
    more = ", ".join(f"s.{name} + coalesce(c.{name}, 0) AS {name}" for name in shown)
    awaited = _awaited(view, asked, table, labels)
    return f"(SELECT s.__rid, {more} FROM {sums} s LEFT JOIN {awaited} c ON s.__rid = c.__rid)"


def _running(
    view: View,
    terms: Sequence[_Term],
    asked: Sequence[Asked],
    table: str,
    labels: str,
    order: str,
    ends: dict[str, int],
) -> str:
    """For each label and window's end: __rid, __end, and for term i `p{i}`, its sum over all events
    of the entities before, and those of its own that stand at or before the end in `order`.

    Rows that are in order already need one pass without a partition (DuckDB's streaming window):
    sorted and summed by partition they took twice the time, and a crowded key one thread.
    """
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    # Twice the instant, and one more for an end, so that it comes after the events of its instant.
    values = ", ".join(f"{term.value} AS q{i}" for i, term in enumerate(terms))
    events = (
        f"SELECT {keys}, 2 * ({order}) AS __z, NULL::BIGINT AS __rid, NULL::INTEGER AS __end, "
        f"{values} FROM {_with_helpers(asked, table)} e"
    )
    named = ", ".join(f"l.{quote(p.name)}" for p in view.join_keys)
    nulls = ", ".join("NULL" for _ in terms)
    rows = [events]
    for at, number in ends.items():
        rows.append(f"SELECT {named}, 2 * ({at}) + 1, l.__rid, {number}, {nulls} FROM {labels} l")
    running = ", ".join(
        f"{term.function}(q{i}) OVER (ROWS UNBOUNDED PRECEDING) AS p{i}"
        for i, term in enumerate(terms)
    )
    return (
        f"SELECT * FROM (SELECT __rid, __end, {running} FROM "
        f"(SELECT * FROM ({' UNION ALL '.join(rows)}) ORDER BY {keys}, __z)) "
        "WHERE __rid IS NOT NULL"
    )


def _awaited(view: View, asked: Sequence[Asked], table: str, labels: str) -> str:
    """For a label with events that happened before a window of it, and had not arrived: __rid, and
    the parts over those.

    An event is awaited in [ts, created). That lies in at most two tiles of the next power of two,
    and each instant in one; so labels meet the events of their tile, a join for all powers.
    """
    # DuckDB may compute it of prompt events, too, before it leaves them out.
    width = "(1::BIGINT << length(bin(greatest(__created - __ts, 0))))"
    late = _with_helpers(asked, table, f"{width} AS __width")
    late = f"(SELECT * FROM {late} WHERE __created - __ts > {_shortest(asked)})"
    first, last = "fk_hop(__ts, __width)", "fk_hop(__created - 1, __width)"
    parts = []
    for a in asked:
        f = a.feature
        keep = "FALSE" if f.lifetime else f"e.__ts <= {low_sql(f)}"
        if f.where is not None:
            keep += f" AND coalesce(e.s{f.where}, FALSE)"
        for name, s in zip(a.names, a.sql.terms, strict=True):
            parts.append(f"{s.function}({s.sql}) FILTER ({keep}) AS {name}")
    on = [*_same_keys(view), "l.__width = e.__width", "l.__tile = e.__tile"]
    on += ["e.__ts <= l.__t", "e.__created > l.__t"]
    return (
        f"(WITH late AS MATERIALIZED {late}, "
        f"tiled AS (SELECT *, {first} AS __tile FROM late UNION ALL "
        f"SELECT *, {last} FROM late WHERE {last} <> {first}), "
        f"asking AS (SELECT *, fk_hop(__t, __width) AS __tile FROM {labels} "
        f"CROSS JOIN (SELECT DISTINCT __width FROM late)) "
        f"SELECT l.__rid, {', '.join(parts)} FROM asking l JOIN tiled e ON {' AND '.join(on)} "
        f"GROUP BY l.__rid)"
    )


# --- frames ---------------------------------------------------------------------------------------


def _frames(view: View, asked: Sequence[Asked], table: str, labels: str, facts: _Facts) -> str:
    """For every label: __rid, the parts.

    An event no later than `settled` has arrived by t where it happened at or before t - settled:
    frames end there. The other events are joined.
    """
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    named = ", ".join(f"l.{quote(p.name)}" for p in view.join_keys)
    terms: dict[_Term, int] = {}
    ends: dict[str, int] = {}
    # A frame's length, for the labels' rows of one end.
    lengths: dict[tuple[int, str], int] = {}
    columns: list[str] = []
    running: list[str] = []
    merged: list[str] = []
    for a in asked:
        f = a.feature
        at = f"l.__t - {max(f.offset_us, facts.settled)}"
        number = ends.setdefault(at, len(ends))
        # From the first event after the open end to the row, which stands behind the last event.
        back = f"greatest(2 * (({at}) - ({low_sql(f)})) - 1, 0)"
        frame = lengths.setdefault((number, back), len(lengths))
        for name, s in zip(a.names, a.sql.terms, strict=True):
            term = terms.setdefault(_Term(s.function, s.sql, f.where), len(terms))
            over = f"PARTITION BY {keys} ORDER BY __z RANGE BETWEEN d{frame} PRECEDING"
            running.append(f"{s.function}(q{term}) OVER ({over} AND CURRENT ROW) AS {name}")
            columns.append(f"any_value({name}) FILTER (__end = {number}) AS {name}")
            both = {"min": "least(s.{0}, c.{0})", "max": "greatest(s.{0}, c.{0})"}.get(
                s.function, "(coalesce(s.{0}, FALSE) OR coalesce(c.{0}, FALSE))"
            )
            merged.append(f"{both.format(name)} AS {name}")
    values = ", ".join(f"{term.value} AS q{i}" for i, term in enumerate(terms))
    empty = ", ".join(f"0::BIGINT AS d{i}" for i in range(len(lengths)))
    settled = f" WHERE __created - __ts <= {facts.settled}" if facts.lateness > 0 else ""
    rows = [
        f"SELECT {keys}, 2 * e.__ts AS __z, NULL::BIGINT AS __rid, NULL::INTEGER AS __end, "
        f"{empty}, {values} FROM {_with_helpers(asked, table)} e{settled}"
    ]
    nulls = ", ".join("NULL" for _ in terms)
    for at, number in ends.items():
        backs = ", ".join(back if of == number else "0" for of, back in lengths)
        rows.append(
            f"SELECT {named}, 2 * ({at}) + 1, l.__rid, {number}, {backs}, {nulls} FROM {labels} l"
        )
    found = (
        f"(SELECT __rid, {', '.join(columns)} FROM (SELECT __rid, __end, {', '.join(running)} "
        f"FROM ({' UNION ALL '.join(rows)})) WHERE __rid IS NOT NULL GROUP BY __rid)"
    )
    if facts.lateness <= 0:
        return found
    others = _tiled_join(view, asked, table, labels, facts, unsettled=True)
    return (
        f"(SELECT s.__rid, {', '.join(merged)} FROM {found} s "
        f"LEFT JOIN {others} c ON s.__rid = c.__rid)"
    )
