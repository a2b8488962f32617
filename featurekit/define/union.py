"""Turns the rows of several sources into the rows of one, in Python and in SQL (T11).

A source whose rows take features from other views is such a union, too, if only of itself: its rows
come here with the columns that they have taken (`feed.enrich`, `offline.enriched`).

The rows of a union have its columns, and further ones that no other source has: which of the
sources a row is of, its id and version there, its sequence, and the columns of its source that are
none of the union's. So a row of a union tells all of the row that it was, and whatever reads rows
of a source reads those of a union: what counts (T7), states, checks of parity.

`united_row` is what pushes take, `united_sql` what training sets and materialisations take. They
stand side by side, since a row must be the same on both paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from featurekit.core.sql import quote, text_literal
from featurekit.core.types import INT, STR, Type
from featurekit.define.identity import nameless_part
from featurekit.define.plan import Join, Part, Source, View
from featurekit.language import wire
from featurekit.language.ir import Param

FROM, SEQUENCE, ID, OP = "__from", "__sequence", "__id", "__op"
"""Columns of every row of a union, if its sources have such: the number of its source, its
sequence, its id (which begins with that number, since ids are per source), its version's kind."""
INSTANTS = ("__ts", "__created")
Row = Mapping[str, Any]
_LONGEST = 900


def unite(columns: Sequence[str], parts: Sequence[Part]) -> Source:
    """The union of some sources, of which each part names its columns for `columns`. It is a source
    whose rows are `united_row`; no file and no push has such rows."""
    types = [{p.name: p.type for p in part_schema(part)} for part in parts]
    schema = [Param(n, types[0][c]) for n, c in zip(columns, parts[0].columns, strict=True)]
    schema.append(Param(FROM, INT))
    first = parts[0].source
    sequences = [of[p.source.sequence] for of, p in zip(types, parts, strict=True)
                 if p.source.sequence is not None]  # fmt: skip
    if sequences:
        schema.append(Param(SEQUENCE, sequences[0].plain.or_none()))
    schema += [Param(ID, STR)] if first.event_id is not None else []
    schema += [Param(OP, STR)] if first.op is not None else []
    for number, part in enumerate(parts):
        schema += [Param(name, type_) for name, _, type_ in _rest(number, part)]
    arrivals = all(part.source.arrival_known for part in parts)
    digest = wire.fingerprint([list(columns), list(map(nameless_part, parts))])[:8]
    return Source(
        name=f"{'_'.join(part.source.name for part in parts)[:_LONGEST]}_{digest}",
        schema=tuple(schema),
        timestamp_field="__ts",
        created_timestamp_column="__created" if arrivals else None,
        timezone="UTC",
        sequence=SEQUENCE if sequences else None,
        event_id=ID if first.event_id is not None else None,
        op=OP if first.op is not None else None,
        parts=tuple(parts),
    )


def part_schema(part: Part) -> list[Param]:
    """The columns of a part's rows: those of its source, then those that they take."""
    return [*part.source.schema, *(p for join in part.joins or () for p in join.columns)]


def taken_names(part: Part) -> frozenset[str]:
    """The names of the columns that a part's rows take from other views."""
    return frozenset(name for join in part.joins or () for name in join.names)


def taken_columns(source: Source) -> frozenset[str]:
    """The columns of a source that rows of some of its parts take from other views."""
    if source.parts is None:
        return frozenset()
    return frozenset(
        name
        for part in source.parts
        for name, column in zip(own_columns(source), part.columns, strict=True)
        if column in taken_names(part)
    )


def taken_from(source: Source, name: str) -> list[tuple[Join, int]]:
    """The joins by which rows take a column of `source`, and the feature that it is there."""
    return [
        (join, index)
        for part in source.parts or ()
        for own, column in zip(own_columns(source), part.columns, strict=True)
        for join in part.joins or ()
        for taken, index in zip(join.names, join.takes, strict=True)
        if own == name and taken == column
    ]


def told_by_rows(view: View) -> bool:
    """Whether the rows of its source alone say which entities a view's events are of: neither a
    join key nor the list that is exploded is taken from another view."""
    taken = taken_columns(view.source)
    return taken.isdisjoint({view.explode, *(key.name for key in view.join_keys)})


def _rest(number: int, part: Part) -> list[tuple[str, str, Type]]:
    """The columns of a source that are none of the union's: the name that each has there, its own,
    and its type there."""
    return [
        (f"__{number}_{p.name}", p.name, p.type.or_none())
        for p in part.source.schema
        if p.name not in part.columns
    ]


def own_columns(source: Source) -> tuple[str, ...]:
    """The columns of a source, of a union those that all of its sources have (T6)."""
    own = source.schema if source.parts is None else source.schema[: len(source.parts[0].columns)]
    return tuple(p.name for p in own)


def columns_of(source: Source, name: str) -> dict[str, str]:
    """The column of the source `name` for each column of `source`: the same, or that of a union.
    A column that is taken from another view is none of the source's."""
    if source.parts is None:
        return {p.name: p.name for p in source.schema}
    return _own_pairs(source, source.parts[number_of(source, name)])


def _own_pairs(source: Source, part: Part) -> dict[str, str]:
    """The column of a part's source for each column of the union that its source has."""
    taken = taken_names(part)
    named = zip(own_columns(source), part.columns, strict=True)
    return {name: column for name, column in named if column not in taken}


def origins(source: Source, name: str) -> list[tuple[Source, str]]:
    """The sources, and the column of each, of which a column of `source` is made: itself, or for a
    union those of its parts. Nothing where it is the number of a row's source."""
    if source.parts is None:
        return [(source, name)]
    found = []
    for number, part in enumerate(source.parts):
        of = part.source
        named = _own_pairs(source, part)
        named |= {n: c for n, c, _ in _rest(number, part)}
        for place, own in (
            ("__ts", of.timestamp_field),
            ("__created", of.created_timestamp_column),
            (SEQUENCE, of.sequence),
            (ID, of.event_id),
            (OP, of.op),
        ):
            if own is not None:
                named[place] = own
        if name in named:
            found.append((of, named[name]))
    return found


def own_row(source: Source, row: Row) -> tuple[str, dict[str, Any]]:
    """The source of a row of `source`, and the row that it is there: the same, or the one of which
    the union made it."""
    if source.parts is None:
        return source.name, dict(row)
    number = row[FROM]
    part = source.parts[number]
    own = {c: row[n] for n, c in _own_pairs(source, part).items()}
    own |= {c: row[n] for n, c, _ in _rest(number, part)}
    return part.source.name, own | {name: row[name] for name in INSTANTS}


def instant_columns(source: Source) -> tuple[dict[str, str], ...]:
    """For each source of a union the union's columns that hold an instant of its rows, with that
    instant's name, `__ts` or `__created`. A source that is none has one such, of its own columns.
    """
    found = []
    for number, part in enumerate(source.parts or (_alone(source),)):
        of = part.source
        named = {of.timestamp_field: "__ts", of.created_timestamp_column: "__created"}
        own = _own_pairs(source, part).items()
        rest = [(n, c) for n, c, _ in _rest(number, part)] if source.parts is not None else []
        found.append({n: named[c] for n, c in (*own, *rest) if c in named})
    return tuple(found)


def _alone(source: Source) -> Part:
    return Part(source, tuple(p.name for p in source.schema))


def instants_of(source: Source, row: Row) -> dict[str, str]:
    """Those of `instant_columns` that a row of the source or union has."""
    return instant_columns(source)[0 if source.parts is None else row[FROM]]


def row_orders(source: Source) -> tuple[tuple[str, ...], ...]:
    """For each source of a union the columns of the union by which T6 orders that source's rows:
    its sequence, then all of its own columns as it declares them. Ids are per source (T11), so a
    source's versions are those that it has without the union. A source that is none has one such.
    """
    found = []
    for number, part in enumerate(source.parts or (_alone(source),)):
        columns = [p.name for p in part.source.schema]
        if part.source.sequence is not None:
            columns.insert(0, part.source.sequence)
        named = {column: name for name, column in _own_pairs(source, part).items()}
        if source.parts is not None:
            named |= {column: name for name, column, _ in _rest(number, part)}
        found.append(tuple(dict.fromkeys(named[column] for column in columns)))
    return tuple(found)


def number_of(source: Source, name: str) -> int:
    """The number of a source in a union."""
    return [one.name for one in source.sources].index(name)


# --- in Python ------------------------------------------------------------------------------------


def bare_rows(source: Source, name: str, rows: Sequence[Row]) -> Sequence[Row]:
    """As `taken_rows`, of rows that have taken nothing: what they would take is None."""
    if source.parts is None:
        return rows
    names = taken_names(source.parts[number_of(source, name)])
    return united_rows(source, name, [{**row, **dict.fromkeys(names)} for row in rows])


def taken_rows(source: Source, name: str, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of `source` that these rows of the source `name` are: the same, or those of the
    union that has it."""
    return rows if source.parts is None else united_rows(source, name, rows)


def united_rows(source: Source, name: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of the union that are these rows of its source `name`; see `united_row`."""
    make = united_row(source, number_of(source, name))
    return [make(row) for row in rows]


def united_row(source: Source, number: int) -> Callable[[Row], dict[str, Any]]:
    """What makes a row of the union out of a row of its source of this number (its columns, `__ts`
    and `__created`)."""
    assert source.parts is not None
    part = source.parts[number]
    of = part.source
    empty = dict.fromkeys([*(p.name for p in source.schema), *INSTANTS])
    empty[FROM] = number
    taken = [*zip(own_columns(source), part.columns, strict=True)]
    taken += [(name, name) for name in INSTANTS]
    taken += [(name, column) for name, column, _ in _rest(number, part)]
    taken += [(SEQUENCE, of.sequence)] if of.sequence is not None else []
    taken += [(OP, of.op)] if of.op is not None else []
    event_id, first = of.event_id, f"{number}:"

    def make(row: Row) -> dict[str, Any]:
        made: dict[str, Any] = dict(empty)
        for name, column in taken:
            made[name] = row[column]
        if event_id is not None:
            value = row[event_id]
            made[ID] = first + (value.hex() if isinstance(value, bytes) else str(value))
        return made

    return make


# --- in SQL ---------------------------------------------------------------------------------------


def united_sql(source: Source, relations: Sequence[str], also: Sequence[str] = ()) -> str:
    """The union of relations, one for each of its sources, with that one's columns, `__ts` and
    `__created`; and with the columns `also`, which all of them have."""
    selects = [_select(source, number, one, also) for number, one in enumerate(relations)]
    return f"({' UNION ALL '.join(selects)})"


def taken_sql(source: Source, name: str, relation: str, also: Sequence[str] = ()) -> str:
    """`taken_rows` for a relation of the source `name`; `also` as `united_sql` takes it."""
    if source.parts is None:
        return relation
    return f"({_select(source, number_of(source, name), relation, also)})"


def _select(source: Source, number: int, relation: str, also: Sequence[str]) -> str:
    return f"SELECT {', '.join([*_shown(source, number), *INSTANTS, *also])} FROM {relation}"


def _shown(source: Source, number: int) -> list[str]:
    """What stands in the SELECT of the rows of one source."""
    assert source.parts is not None
    part = source.parts[number]
    of, types = part.source, {p.name: p.type for p in part.source.schema}
    shown = {n: quote(c) for n, c in zip(own_columns(source), part.columns, strict=True)}
    shown |= {name: quote(column) for name, column, _ in _rest(number, part)}
    shown[FROM] = f"{number}::BIGINT"
    if of.sequence is not None:
        shown[SEQUENCE] = quote(of.sequence)
    if of.op is not None:
        shown[OP] = quote(of.op)
    if of.event_id is not None:
        value = quote(of.event_id)
        text = f"lower(hex({value}))" if types[of.event_id].name == "bytes" else f"{value}::VARCHAR"
        shown[ID] = f"{text_literal(f'{number}:')} || {text}"
    return [
        f"{shown.get(p.name, f'NULL::{p.type.duckdb}')} AS {quote(p.name)}" for p in source.schema
    ]
