"""Running extremes: turns the least and the greatest values of windows into two running maxima of
ranks. One runs forwards from the border of a tile of time, the other backwards.

Chosen for the labels of crowded keys if a part is a min, a max or a bool_or, as in Min and Max. It
costs a sort of the events by value for each term, and a sort of the events and labels for each
window; each of them is sorted twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.core.durations import LIFETIME_US
from featurekit.offline.window_plans.parts import WindowParts, WindowTerm, events_sql, terms_of

# A row's __code consists of the entity's number, six bits for the level and one for the direction.
# The code, a tile's first instant (which is within 2**62) and a rank make one number, in which each
# has its own bits.
_LEVELS, _TILES, _RANKS = 64, 2**63, 2**32


def running_extremes(asked: Sequence[WindowParts], table: str, labels: str, lateness: int) -> str:
    """For every label: __rid, the parts.

    It compares ranks: whole numbers that order the values of the events, for each term.
    """
    terms: dict[WindowTerm, int] = {}
    windows: dict[tuple[int, int, int, int], dict[str, int]] = {}
    for a in asked:
        f = a.feature
        columns = windows.setdefault((f.nearest_us, f.offset_us, f.window_us, f.hop_us), {})
        for name, term in terms_of(a):
            columns[name] = terms.setdefault(term, len(terms))
    values = ", ".join(f"{term.value} AS q{i}" for i, term in enumerate(terms))
    ranked = f"SELECT __n, __ts, __created, {values} FROM {events_sql(asked, table)} e"
    for i, term in enumerate(terms):
        if term.function == "bool_or":
            ranked = f"SELECT *, CASE WHEN q{i} THEN 1::BIGINT END AS r{i} FROM ({ranked})"
            continue
        order = f"q{i} DESC" if term.function == "min" else f"q{i}"
        # Rows are numbered in sorted order, as for running sums.
        ranked = (
            f"SELECT *, CASE WHEN q{i} IS NOT NULL THEN row_number() OVER () END AS r{i} "
            f"FROM (SELECT * FROM ({ranked}) ORDER BY {order})"
        )
    named = [f"ranked AS MATERIALIZED ({ranked})"]
    found, shown, decoded = [], [], []
    of = list(terms)
    for w, ((nearest, offset, length, hop), columns) in enumerate(windows.items()):
        cut = _cut_sql(columns, nearest, offset, length, hop, lateness)
        named.append(f"cut{w} AS MATERIALIZED ({cut})")
        several = lateness > 0 or hop > length
        best = _best_sql(f"cut{w}", columns, length, hop, labels, several=several)
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


def _cut_sql(
    columns: dict[str, int], nearest: int, offset: int, length: int, hop: int, lateness: int
) -> str:
    """The events of `ranked` for a window: __n, __opens, __closes, __level and the ranks. `nearest`
    is how long before a label the window ends.

    An event counts for a label at t in [__opens, __closes): from the instant at which it has
    arrived and the window has reached it, until the open end of the window reaches it. An event is
    of level 0 if a border of tiles of `_width` lies within that time. Most events are. The
    exceptions are events that arrive late by nearly the window, and some events of windows whose
    hop is longer than the window. These are of the level of the greatest power of two that is not
    longer than their time: tiles of that length also have a border within it, and it meets at most
    three of them.
    """
    ranks = ", ".join(f"r{i}" for i in sorted(set(columns.values())))
    opens = f"__ts + {nearest}"
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
    """The length of the tiles of level 0, in microseconds: no event counts for longer than two
    tiles."""
    return max(length, hop)


def _best_sql(
    cut: str, columns: dict[str, int], length: int, hop: int, labels: str, *, several: bool
) -> str:
    """For every label: __rid, and by name the greatest rank of the events of `cut` that count.

    It reads the rows of `_rows_sql` in their order. Each tile has greater numbers than the tile
    before it. So the greatest number so far comes from the label's own tile, if an event of that
    tile counts. Otherwise it comes from an earlier tile and is not above the base.

    `several`: there may be events of several levels.
    """
    ranks = sorted(set(columns.values()))
    rows = _rows_sql(cut, ranks, length, hop, labels, several=several)
    base = f"(__code::HUGEINT * {_TILES} + __tile) * {_RANKS} AS __base"
    given = ", ".join(f"r{i}" for i in ranks)
    best = ", ".join(f"max(__base + r{i}) OVER (ROWS UNBOUNDED PRECEDING) AS b{i}" for i in ranks)
    shown = ", ".join(
        f"max(b{i} - __base) FILTER (b{i} > __base) AS {name}" for name, i in columns.items()
    )
    # Within a code, __z orders the tiles too. DuckDB sorts by BIGINTs in a fifth of the time that
    # it takes for HUGEINTs.
    return (
        f"(SELECT __rid, {shown} FROM (SELECT __rid, __base, {best} FROM "
        f"(SELECT __rid, {base}, {given} FROM "
        f"(SELECT * FROM ({rows}) ORDER BY __code, __z))) "
        "WHERE __rid IS NOT NULL GROUP BY __rid)"
    )


def _rows_sql(
    cut: str, ranks: Sequence[int], length: int, hop: int, labels: str, *, several: bool
) -> str:
    """Events of `cut` and labels in the orders in which they are compared: __code, __tile, __z (the
    sort key), __rid and the ranks.

    An event counts in the tile in which it opens from then on, in the tile in which it closes until
    then, and in a tile between them all the time. So it stands in two orders, and the second runs
    backwards in time; labels stand in both too. In each order, the events that count for a label
    are those before it in its tile.
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

    of_event = ", ".join(["NULL::BIGINT AS __rid", *(f"r{i}" for i in ranks)])
    of_label = ", ".join(["__rid", *("NULL" for _ in ranks)])
    events = f"(SELECT *, {wide} AS __width FROM {cut})" if several else cut
    asking = f"(SELECT *, 0 AS __level, {width} AS __width FROM {labels})"
    if several:
        # A label is asked only for the levels of its entity: all levels would make many times more
        # rows.
        own = f"SELECT __n, 0 AS __level FROM {labels} UNION SELECT __n, __level FROM {cut}"
        asking = f"(SELECT *, {wide} AS __width FROM {labels} JOIN ({own}) USING (__n))"
    # Twice the instant, plus one for a label, so that a label comes after the events that count.
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
    return " UNION ALL ".join(rows)
