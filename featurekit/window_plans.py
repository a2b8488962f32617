"""Turns the windows of a view into SQL, by the plan that suits its data: each gives the same bits.

- *Range join*: labels with the events in reach, and one GROUP BY. It takes every aggregate, and
  looks at each pair of a label and an event of its entity: for a key with a third of the events
  that is quadratic. The labels of such *crowded* keys go by other plans, all others by this one.
- *Running sums*: an aggregate whose parts add whole numbers is the difference of two running sums,
  so that one sort of events and windows' ends takes the place of the pairs.
- *Running extremes*: the least and the greatest of a window are of two running ones, one from the
  border of a tile of time forwards, one from it backwards.
- *Tiled join*: other aggregates are joined within tiles of time as long as the window.

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
# and with others among them (benchmarks/window_plans.py).
PAIRS_PER_SUM = 20
PAIRS_PER_ROW = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """An aggregate over the window of `feature`, and the names of its parts' columns."""

    feature: Feature
    sql: AggregateSql
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grouped:
    """A relation with __rid, the parts of all that was asked, and `__in`. A label without a row has
    empty windows; one with a row has the parts of what is in `summed`, and of what is not where
    `__in` is true."""

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
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    on = " AND ".join(_same_keys(view, "c"))
    crowded = quote(f"{table.strip(chr(34))}_crowded")
    most = _find_crowded(con, view, asked, crowded, table, labels)
    late = "max(greatest(__created - __ts, 0))"
    if most is None:
        lateness = 0 if prompt else con.execute(f"SELECT {late} FROM {table}").fetchall()[0][0]
        return Grouped(_range_join(view, asked, table, labels, lateness or 0), frozenset())
    hot = f"(SELECT * FROM {table} JOIN (SELECT __n, {keys} FROM {crowded}) USING ({keys}))"
    hot_labels = f"(SELECT l.*, c.__n FROM {labels} l JOIN {crowded} c ON {on})"
    found, summed = _of_crowded(view, asked, hot, hot_labels, 0 if prompt else most)
    others = f"(SELECT * FROM {labels} l ANTI JOIN {crowded} c ON {on})"
    if con.execute(f"SELECT count(*) FROM {others}").fetchall()[0][0]:
        lateness = 0 if prompt else con.execute(f"SELECT {late} FROM {table}").fetchall()[0][0]
        joined = _range_join(view, asked, table, others, lateness)
        found = f"(SELECT * FROM {found} UNION ALL BY NAME SELECT * FROM {joined})"
    return Grouped(found, summed)


def _of_crowded(
    view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int
) -> tuple[str, frozenset[int]]:
    """As `Grouped`, of crowded keys: events and labels also have __n, the number of their entity.
    `lateness`: the most by which an event arrived after it happened, in microseconds."""
    if view.source.op is not None:
        # Events may be over by t: each is looked at.
        return _tiled_join(view, asked, table, labels, lateness), frozenset()
    adding = [i for i, a in enumerate(asked) if _adds(a)]
    moving = [i for i, a in enumerate(asked) if a.sql.terms and not _adds(a)]
    others = [a for a in asked if not a.sql.terms]
    parts = []
    if adding:
        parts.append(_running_sums(view, [asked[i] for i in adding], table, labels, lateness))
    if moving:
        parts.append(_running_extremes([asked[i] for i in moving], table, labels, lateness))
    if others:
        parts.append(_tiled_join(view, others, table, labels, lateness))
    else:
        parts.append("(SELECT NULL::BIGINT AS __rid, FALSE AS __in)")
    joined = " LEFT JOIN ".join(p if i == 0 else f"{p} USING (__rid)" for i, p in enumerate(parts))
    return f"(SELECT * FROM {joined})", frozenset([*adding, *moving])


def _find_crowded(
    con: Any, view: View, asked: Sequence[Asked], name: str, table: str, labels: str
) -> int | None:
    """Make the temporary table `name` of the crowded keys, k0 …, numbered by __n. Returns the most
    by which one of their events was late, in microseconds; None where no key is crowded."""
    keys = ", ".join(f"k{i}" for i in range(len(view.join_keys)))
    named = ", ".join(f"{quote(p.name)} AS k{i}" for i, p in enumerate(view.join_keys))
    late = "greatest(__created - __ts, 0)"
    only_sums = all(_adds(a) for a in asked)
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS "
        f"SELECT {keys}, row_number() OVER () AS __n, e.most AS most "
        f"FROM (SELECT {keys}, count(*) AS n, max({late}) AS most, "
        f"sum(CASE WHEN {late} > {_shortest(asked)} THEN {late}::DOUBLE ELSE 0 END) AS late, "
        f"max(__ts) - min(__ts) + 1 AS span FROM {table} GROUP BY ALL) e "
        f"JOIN (SELECT {named}, count(*) AS n FROM {labels} GROUP BY ALL) l USING ({keys}) "
        f"WHERE {_crowded(PAIRS_PER_SUM if only_sums else PAIRS_PER_ROW)}"
    )
    most: int | None = con.execute(f"SELECT max(most) FROM {name}").fetchall()[0][0]
    return most


def _crowded(pairs_per_row: int) -> str:
    """Whether the range join is the slower for an entity's e.n events and l.n labels: their pairs
    cost more than the rows, of which one costs as much as `pairs_per_row`, and are more than those
    with an event that arrived after its window and after the label, e.late / e.span of all."""
    return f"(l.n::DOUBLE * e.n > {pairs_per_row} * (l.n + e.n) AND e.n > 4 * e.late / e.span)"


def _adds(asked: Asked) -> bool:
    """Whether every part of it is a sum."""
    return bool(asked.sql.terms) and asked.sql.terms[0].adds


def _shortest(asked: Sequence[Asked]) -> int:
    """The shortest way from an instant to the open end of a window, in microseconds."""
    return min(a.feature.offset_us + a.feature.window_us for a in asked)


# --- the range join -------------------------------------------------------------------------------


def _range_join(view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int) -> str:
    """For each label with an event in reach: __rid, __in, the parts."""
    on = " AND ".join([*_same_keys(view), *_reach(view, asked, lateness)])
    return (
        f"(SELECT l.__rid, TRUE AS __in, {_parts(asked)} FROM {labels} l "
        f"JOIN {_with_helpers(asked, table)} e ON {on} GROUP BY l.__rid)"
    )


def _parts(asked: Sequence[Asked]) -> str:
    return ", ".join(
        f"{part} AS {name}" for a in asked for part, name in zip(a.sql.parts, a.names, strict=True)
    )


def _reach(view: View, asked: Sequence[Asked], lateness: int) -> list[str]:
    """That an event lies in some window of the label, had arrived, and was not over."""
    nearest, farthest = _ends(asked)
    reach = [f"e.__ts <= l.__t - {nearest}", f"e.__ts > l.__t - {farthest}"]
    if lateness > 0:
        reach.append("e.__created <= l.__t")
    if view.source.op is not None:
        reach.append("e.__end > l.__t")
    return reach


def _ends(asked: Sequence[Asked]) -> tuple[int, int]:
    """How far back of an instant the windows end and begin, in microseconds."""
    nearest = min(a.feature.offset_us for a in asked)
    return nearest, max(a.feature.offset_us + a.feature.window_us + a.feature.hop_us for a in asked)


def _tiled_join(view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int) -> str:
    """As `_range_join`, within tiles of time as long as the windows reach: an event stands in one
    and a label asks for two."""
    nearest, farthest = _ends(asked)
    wide = max(farthest - nearest, 1)
    events = _with_helpers(asked, table, f"fk_hop(__ts, {wide}) AS __tile")
    last, first = (f"fk_hop(__t - {at}, {wide})" for at in (nearest, farthest - 1))
    asking = (
        f"SELECT *, {last} AS __tile FROM {labels} UNION ALL "
        f"SELECT *, {first} FROM {labels} WHERE {first} <> {last}"
    )
    on = [*_same_keys(view), "l.__tile = e.__tile", *_reach(view, asked, lateness)]
    return (
        f"(SELECT l.__rid, TRUE AS __in, {_parts(asked)} FROM ({asking}) l "
        f"JOIN {events} e ON {' AND '.join(on)} GROUP BY l.__rid)"
    )


def _same_keys(view: View, alias: str = "e") -> list[str]:
    return [f"l.{quote(k.name)} = {alias}.k{i}" for i, k in enumerate(view.join_keys)]


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
    view: View, asked: Sequence[Asked], table: str, labels: str, lateness: int
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
    late = lateness > 0
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
    if lateness <= _shortest(asked):
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


# --- running extremes -----------------------------------------------------------------------------

# An entity's number, six bits for the level and one for the direction make a row's __code. That, a
# tile's first instant, which is within 2**62, and a rank make one number: each has bits of its own.
_LEVELS, _TILES, _RANKS = 64, 2**63, 2**32


def _running_extremes(asked: Sequence[Asked], table: str, labels: str, lateness: int) -> str:
    """For every label: __rid, the parts.

    What is compared are ranks, whole numbers: those of the events' values, of each term.
    """
    terms: dict[_Term, int] = {}
    windows: dict[tuple[int, int, int], dict[str, int]] = {}
    for a in asked:
        f = a.feature
        columns = windows.setdefault((f.offset_us, f.window_us, f.hop_us), {})
        for name, s in zip(a.names, a.sql.terms, strict=True):
            term = _Term(s.function, s.sql, f.where)
            columns[name] = terms.setdefault(term, len(terms))
    values = ", ".join(f"{term.value} AS q{i}" for i, term in enumerate(terms))
    ranked = f"SELECT __n, __ts, __created, {values} FROM {_with_helpers(asked, table)} e"
    for i, term in enumerate(terms):
        if term.function == "bool_or":
            ranked = f"SELECT *, CASE WHEN q{i} THEN 1::BIGINT END AS r{i} FROM ({ranked})"
            continue
        order = f"q{i} DESC" if term.function == "min" else f"q{i}"
        # Numbered in passing, as `_running` sums.
        ranked = (
            f"SELECT *, CASE WHEN q{i} IS NOT NULL THEN row_number() OVER () END AS r{i} "
            f"FROM (SELECT * FROM ({ranked}) ORDER BY {order})"
        )
    named = [f"ranked AS MATERIALIZED ({ranked})"]
    found, shown, decoded = [], [], []
    of = list(terms)
    for w, ((offset, length, hop), columns) in enumerate(windows.items()):
        named.append(f"cut{w} AS MATERIALIZED ({_cut(columns, offset, length, hop, lateness)})")
        several = lateness > 0 or hop > length
        best = _running_best(f"cut{w}", columns, length, hop, labels, several=several)
        found.append(f"{best} w{w}" + (" USING (__rid)" if w else ""))
        for name, i in columns.items():
            if of[i].function == "bool_or":
                shown.append(f"{name} IS NOT NULL AS {name}")
                continue
            shown.append(f"v_{name}.q{i} AS {name}")
            decoded.append(f" LEFT JOIN ranked v_{name} ON v_{name}.r{i} = {name}")
    return (
        f"(WITH {', '.join(named)} SELECT __rid, {', '.join(shown)} "
        f"FROM {' JOIN '.join(found)}{''.join(decoded)})"
    )


def _cut(columns: dict[str, int], offset: int, length: int, hop: int, lateness: int) -> str:
    """The events of `ranked` for a window: __n, __opens, __closes, __level and the ranks.

    An event counts for t from __opens on, when it has arrived and lies no later than the window,
    until __closes, when the open end has come to it. Of level 0 are those with a border of tiles of
    `_width` within; that is all but those late by nearly the window, and some of hops that are
    longer than it. Those are of the level of the greatest power of two that they are as long as:
    tiles of that length have such a border, too, and it meets three of them at most.
    """
    ranks = ", ".join(f"r{i}" for i in sorted(set(columns.values())))
    opens = f"__ts + {offset}"
    if lateness > 0:
        opens = f"greatest({opens}, __created)"
    if length == LIFETIME_US:
        return f"SELECT __n, {opens} AS __opens, 0 AS __level, {ranks} FROM ranked"
    closes = f"-fk_hop(-__ts, {hop})" if hop else "__ts"
    level = "0"
    if lateness > 0 or hop > length:
        wide = _width(length, hop)
        lasting = "length(bin(greatest(__closes - __opens, 1)))"
        border = f"fk_hop(__opens, {wide}) <> fk_hop(__closes, {wide})"
        level = f"CASE WHEN {border} THEN 0 ELSE {lasting} END"
    return (
        f"SELECT *, {level} AS __level FROM (SELECT __n, {opens} AS __opens, "
        f"{closes} + {offset + length} AS __closes, {ranks} FROM ranked) WHERE __opens < __closes"
    )


def _width(length: int, hop: int) -> int:
    """How long the tiles of level 0 are, in microseconds: no event counts for longer than two."""
    return max(length, hop)


def _running_best(
    cut: str, columns: dict[str, int], length: int, hop: int, labels: str, *, several: bool
) -> str:
    """For every label: __rid, and by name the greatest rank of the events of `cut` that count.

    In the tile in which an event opens it counts from then on, in the one in which it closes until
    then, and in one between all the time. So it stands in two orders, of which the second is by
    time backwards; so do labels; and the ranks of those before a label in its tile are those of
    the events that count. The best of all rows so far is the best of the tile, since each tile has
    greater numbers than the one before, or it is of one before. `several`: there may be events of
    several levels.
    """
    ever = length == LIFETIME_US
    several = several and not ever
    wide = f"CASE __level WHEN 0 THEN {_width(length, hop)} ELSE 1::BIGINT << (__level - 1) END"
    width = "__width" if several else str(_width(length, hop))

    def tile(at: str) -> str:
        return "0" if ever else f"fk_hop({at}, {width})"

    def segment(backwards: bool, first: str) -> str:
        code = f"(__n * {_LEVELS} + __level) * 2 + {int(backwards)}"
        return f"{code} AS __code, {'-' if backwards else ''}{first} AS __tile"

    ranks = sorted(set(columns.values()))
    of_event = ", ".join(["NULL::BIGINT AS __rid", *(f"r{i}" for i in ranks)])
    of_label = ", ".join(["__rid", *("NULL" for _ in ranks)])
    events = f"(SELECT *, {wide} AS __width FROM {cut})" if several else cut
    asking = f"(SELECT *, 0 AS __level, {width} AS __width FROM {labels})"
    if several:
        # Of each entity the levels that it has: with those of all, labels would be many times more.
        own = f"SELECT __n, 0 AS __level FROM {labels} UNION SELECT __n, __level FROM {cut}"
        asking = f"(SELECT *, {wide} AS __width FROM {labels} JOIN ({own}) USING (__n))"
    # Twice the instant, and one more for a label, so that it comes after the events that count.
    rows = [
        f"SELECT {segment(False, tile('__opens'))}, 2 * __opens AS __z, {of_event} FROM {events}",
        f"SELECT {segment(False, tile('__t'))}, 2 * __t + 1, {of_label} FROM {asking}",
    ]
    if not ever:
        rows += [
            f"SELECT {segment(True, tile('__closes'))}, -2 * __closes, {of_event} FROM {events}",
            f"SELECT {segment(True, tile('__t'))}, -2 * __t - 1, {of_label} FROM {asking}",
        ]
    if several or hop:  # no lifetime has a hop
        between = f"({tile('__opens')} + {width})"
        rows.append(
            f"SELECT {segment(False, between)}, 2 * {between}, {of_event} FROM {events} "
            f"WHERE {tile('__closes')} > {between}"
        )
    base = f"(__code::HUGEINT * {_TILES} + __tile) * {_RANKS} AS __base"
    given = ", ".join(f"r{i}" for i in ranks)
    best = ", ".join(f"max(__base + r{i}) OVER (ROWS UNBOUNDED PRECEDING) AS b{i}" for i in ranks)
    shown = ", ".join(
        f"max(b{i} - __base) FILTER (b{i} > __base) AS {name}" for name, i in columns.items()
    )
    # Within a code the tiles, too, are in the order of __z. DuckDB sorts by BIGINTs in a fifth of
    # the time that it takes for HUGEINTs.
    return (
        f"(SELECT __rid, {shown} FROM (SELECT __rid, __base, {best} FROM "
        f"(SELECT __rid, {base}, {given} FROM "
        f"(SELECT * FROM ({' UNION ALL '.join(rows)}) ORDER BY __code, __z))) "
        "WHERE __rid IS NOT NULL GROUP BY __rid)"
    )
