"""Turns a compiled service and a table of labels into the relation of a point-in-time join.

Labels are a table with `__rid` (row number), `__t` (instant, microseconds) and the join keys. A
view's result is a relation with `__rid` and, for feature i, the value `f{i}`, the flag `x{i}` that
says whether it erred, and, if statuses are asked for, its status `t{i}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.sql import quote
from featurekit.core.status import ERROR_STATUS, NULL_VALUE, PRESENT
from featurekit.core.types import FLOAT
from featurekit.define.plan import Service, View, is_label
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.offline.buckets import bucket_sql, count_buckets
from featurekit.offline.counted_events import make_counted_events
from featurekit.offline.events import EventRows
from featurekit.offline.view_result import Erred, ViewSql, add_erred, find_erred_slots, find_span
from featurekit.offline.view_values import make_values


@dataclass(frozen=True, slots=True)
class Joined:
    """A service's point-in-time join: a relation with `__rid` and, for output i, the value `o{i}`;
    the flag `x{i}` that says whether it erred, only for the outputs in `erring`; and, if asked for,
    its status `t{i}`, which a label always has."""

    sql: str
    erring: tuple[int, ...]
    views: tuple[ViewSql, ...]


MakeView = Callable[[int, str, str], ViewSql]
"""Makes the result of the view with a number, for a table of labels; tables of its own have names
that begin as the last argument does."""

_PLANNED_AT_ONCE = 3
"""A join of more views than this first writes each view's result to a table. DuckDB plans a
statement in time that grows with the cube of its joins: 12 s for 30 views, and 0.1 s with
tables."""

_JOINED_AT_ONCE = 16
"""More views than this are joined in groups, whose results are tables, for the same reason."""


def make_join(
    con: Any,
    service: Service,
    events: Sequence[EventRows],
    labels: str,
    *,
    statuses: bool,
    buckets: int | None = 1,
    elsewhere: MakeView | None = None,
) -> Joined:
    """Make a relation with the value of every output for every label. `events` holds the rows of
    each view's source. The relation reads temporary tables of `con`.

    `labels` also has the request fields as columns. Each view is joined bucket by bucket of its
    entities: with `buckets` buckets, or, if that is None, with as many as the memory limit
    requires. The number of buckets changes no bit. Where `elsewhere` makes the views' results,
    their events are not read here.
    """
    columns: list[str] = []
    of_labels = [*(p.name for p in service.request), *service.reads("key")]
    takes_instant = bool(service.reads("instant"))
    if of_labels or takes_instant or not service.views:
        columns += [f"l.{quote(name)} AS r{i}" for i, name in enumerate(of_labels)]
        columns += ["make_timestamp(l.__t) AS __at"] if takes_instant else []
    erring: set[str] = set()
    read: dict[str, str] = {}
    relations: dict[str, str] = {}
    views: list[ViewSql] = []
    counting = [] if elsewhere is not None else make_counted_events(con, service, events)
    for v, view in enumerate(service.views):
        own = labels if view.role is None else _make_role_labels(con, view, labels, v)
        name = quote(f"{labels.strip(chr(34))}_events_{v}")
        if elsewhere is None:
            made = _make_view(
                con, service, v, counting[v], own, name, statuses=statuses, buckets=buckets
            )
        else:
            made = elsewhere(v, own, name)
        views.append(made)
        relations[f"v{v}"] = made.sql
        for i in range(len(view.features)):
            read[f"f{v}_{i}"] = f"v{v}.f{i}"
            if i in made.erring:
                read[f"x{v}_{i}"] = f"v{v}.x{i}"
                erring.add(f"{v}_{i}")
            if statuses or view.kind == "label":
                read[f"t{v}_{i}"] = f"v{v}.t{i}"
    relations, read = _make_groups(con, labels, relations, read)
    relation = _joined_sql(({"l": labels} if columns or not relations else {}) | relations)
    places = {name: f"r{i}" for i, name in enumerate(of_labels)}
    if service.transforms:  # otherwise a subquery would only cost as much planning again
        columns += [f"{column} AS {name}" for name, column in read.items()]
        relation = f"(SELECT {', '.join(['__rid', *columns])} FROM {relation})"
        read = {name: name for name in read}
    sql, failing = _finish(con, service, relation, read, erring, places, statuses=statuses)
    return Joined(sql, failing, tuple(views))


def _make_view(
    con: Any,
    service: Service,
    v: int,
    of_view: EventRows,
    labels: str,
    name: str,
    *,
    statuses: bool,
    buckets: int | None,
) -> ViewSql:
    """The values of a view's features for every label, from the events that count."""
    view = service.views[v]
    number = buckets or count_buckets(con, view, of_view.relation, labels, rows=of_view.rows)
    if number > 1:
        return _join_by_bucket(con, view, of_view, labels, name, statuses=statuses, buckets=number)
    made = make_values(con, view, of_view, labels, name, statuses=statuses)
    plain = view.kind == "latest" and view.source.op is None  # it is a table already
    if plain or len(service.views) <= _PLANNED_AT_ONCE:
        return made
    result = quote(f"{name.strip(chr(34))}_result")
    con.execute(f"CREATE TEMP TABLE {result} AS SELECT * FROM {made.sql}")
    return replace(made, sql=result)


def _make_groups(
    con: Any, labels: str, relations: Mapping[str, str], read: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Join the relations, which are named by their aliases, in groups until they are few enough.
    `read` has the columns that are read, by their names afterwards; they come back as they are read
    then."""
    left, found, level = dict(relations), dict(read), 0
    while len(left) > _JOINED_AT_ONCE:
        of: dict[str, list[str]] = {alias: [] for alias in left}
        for name, column in found.items():
            of[column.partition(".")[0]].append(name)
        aliases, made = list(left), dict[str, str]()
        for at in range(0, len(aliases), _JOINED_AT_ONCE):
            group = aliases[at : at + _JOINED_AT_ONCE]
            alias = f"g{level}_{at}"
            made[alias] = quote(f"{labels.strip(chr(34))}_{alias}")
            names = [name for one in group for name in of[one]]
            shown = ", ".join(["__rid", *(f"{found[name]} AS {name}" for name in names)])
            joined = _joined_sql({one: left[one] for one in group})
            con.execute(f"CREATE TEMP TABLE {made[alias]} AS SELECT {shown} FROM {joined}")
            found |= {name: f"{alias}.{name}" for name in names}
        left, level = made, level + 1
    return left, found


def _joined_sql(relations: Mapping[str, str]) -> str:
    """The join of relations, by their aliases; each has every label's row exactly once."""
    named = [f"{relation} {alias}" for alias, relation in relations.items()]
    return " JOIN ".join(r if i == 0 else f"{r} USING (__rid)" for i, r in enumerate(named))


def _make_role_labels(con: Any, view: View, labels: str, v: int) -> str:
    """Make the labels as the view's own join keys name them."""
    named = zip(view.row_keys, view.join_keys, strict=True)
    keys = ", ".join(f"{quote(field.name)} AS {quote(key.name)}" for field, key in named)
    made = quote(f"{labels.strip(chr(34))}_role_{v}")
    con.execute(f"CREATE TEMP VIEW {made} AS SELECT __rid, __t, {keys} FROM {labels}")
    return made


def _join_by_bucket(
    con: Any,
    view: View,
    events: EventRows,
    labels: str,
    name: str,
    *,
    statuses: bool,
    buckets: int,
) -> ViewSql:
    """Make the view's result as a temporary table, one bucket of entities after the other. The
    memory of a bucket is freed before the next one, and DuckDB may move the results to disk."""
    bare = name.strip('"')
    split, part, result = (quote(f"{bare}_{what}") for what in ("split", "bucket", "result"))
    keys = ", ".join(quote(p.name) for p in view.join_keys)
    con.execute(
        f"CREATE TEMP TABLE {split} AS SELECT __rid, __t, {keys}, "
        f"{bucket_sql(view, buckets)} AS __bucket FROM {labels}"
    )
    span = find_span(con, labels)
    asked = con.execute(f"SELECT DISTINCT __bucket FROM {split} ORDER BY 1").fetchall() or [(0,)]
    erred: dict[str, Erred] = {}
    made = None
    for (bucket,) in asked:
        con.execute(
            f"CREATE TEMP TABLE {part} AS SELECT * EXCLUDE (__bucket) FROM {split} "
            f"WHERE __bucket = {bucket}"
        )
        found = make_values(con, view, events, part, name, statuses=statuses, span=span)
        if made is None:
            con.execute(f"CREATE TEMP TABLE {result} AS SELECT * FROM {found.sql}")
        else:
            con.execute(f"INSERT INTO {result} BY NAME SELECT * FROM {found.sql}")
        add_erred(erred, find_erred_slots(con, view, found))
        con.execute(f"DROP TABLE {part}; DROP TABLE IF EXISTS {name}")
        made = found
    con.execute(f"DROP TABLE {split}")
    assert made is not None
    return ViewSql(result, made.erring, erred=tuple(erred.values()))


def _finish(
    con: Any,
    service: Service,
    joined: str,
    read: Mapping[str, str],
    erring: set[str],
    places: Mapping[str, str],
    *,
    statuses: bool,
) -> tuple[str, tuple[int, ...]]:
    """The SQL of the request-time transforms over the joined views, with the outputs by number; and
    the numbers of the outputs that may err (Q1). `read` has the columns of the views' features by
    what they are, and `places` those of the request fields and join keys that are read."""
    lowering = Lowering("__q")
    made: list[Value] = []
    for transform in service.transforms:
        arguments = []
        for given in transform.inputs:
            match given.kind:
                case "request" | "key":
                    arguments.append(Value(Sql(places[given.name])))
                case "instant":
                    arguments.append(Value(Sql("__at")))
                case "transform":
                    arguments.append(made[given.index])
                case "feature":
                    at = f"{given.view}_{given.index}"
                    error = Sql(read[f"x{at}"]) if at in erring else None
                    arguments.append(Value(Sql(read[f"f{at}"]), error is not None, error))
        made.append(lower(lowering, transform.function, arguments))
    register_python_ops(con, lowering.python_ops)
    columns = ["__rid"]
    failing = []
    for o, output in enumerate(service.outputs):
        if output.view >= 0:
            at = f"{output.view}_{output.index}"
            value, failed = read[f"f{at}"], read.get(f"x{at}")
            status = read.get(f"t{at}", "")
        else:
            result = made[output.index]
            value = result.sql.text
            failed = None if result.error is None else result.error.text
            status = (
                f"CASE WHEN {failed or 'FALSE'} THEN '{ERROR_STATUS}' "
                f"WHEN {value} IS NULL THEN '{NULL_VALUE}' ELSE '{PRESENT}' END"
            )
            if output.type.base == FLOAT:
                value = f"CASE WHEN isnan({value}) THEN 'nan'::DOUBLE ELSE {value} END"
        columns.append(f"{value} AS o{o}")
        if failed is not None:
            columns.append(f"{failed} AS x{o}")
            failing.append(o)
        if statuses or is_label(service, output):
            columns.append(f"{status} AS t{o}")
    return f"(SELECT {', '.join(columns)} FROM {lowering.wrap(joined)})", tuple(failing)
