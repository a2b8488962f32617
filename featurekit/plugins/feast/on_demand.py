"""Computes Feast's on-demand views over a table, the same way on both paths.

The table has columns of the declared types, so that a function sees one class of values, whether
the rows come from files or from Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from featurekit.errors import DataError
from featurekit.plugins.feast.kinds import kind_of

Columns = list[tuple[str, pa.Array]]


def on_demand_columns(
    views: Sequence[Any], table: pa.Table, refs: Sequence[str], *, full: bool, stored: bool
) -> Columns:
    """The features of on-demand views that `refs` name, over the rows of `table`, each in the type
    that its view declares. Those that are written to the online store are left out where they are
    `stored`.

    A function is given the join keys, the request fields and the features that its view names, and
    nothing else. DataError where it gives values of another type, or not one for each row.
    """
    found: Columns = []
    for view in views:
        title = view.projection.name_to_use()
        wanted = [
            ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0] in (view.name, title)
        ]
        wanted = list(dict.fromkeys(wanted))
        if not wanted or (stored and view.write_to_online_store):
            continue
        made = _made(view, _given(view, table))
        kinds = {field.name: field.dtype for field in view.features}
        for name in wanted:
            what = f"on-demand view {view.name!r}, feature {name!r}"
            column = made.get(name)
            if column is None:
                raise DataError(f"{what}: its function gives {', '.join(made)}; give {name!r} too")
            shown = f"{title}__{name}" if full else name
            found.append((shown, _typed(column, kinds[name], table.num_rows, what)))
    return found


def _given(view: Any, table: pa.Table) -> pa.Table:
    """What the function of a view is given: its sources, under the short and the full name of each
    feature, and every column that is a join key or a request field."""
    columns = {}
    others = set(table.column_names)
    for projection in view.source_feature_view_projections.values():
        for feature in projection.features:
            full = f"{projection.name_to_use()}__{feature.name}"
            held = full if full in others else feature.name
            if held in others:
                columns[feature.name] = columns[full] = table[held]
    for source in view.source_request_sources.values():
        for field in source.schema:
            if field.name in others:
                columns[field.name] = table[field.name]
    for name in table.column_names:
        if (table.schema.field(name).metadata or {}).get(b"role") == b"key":
            columns.setdefault(name, table[name])
    return pa.table(columns)


def _made(view: Any, table: pa.Table) -> dict[str, Any]:
    """The columns that the function of a view gives."""
    if view.mode != "python":
        made = view.feature_transformation.transform_arrow(table, view.features)
        return {name: made[name] for name in made.column_names}
    udf = view.feature_transformation.udf
    if not view.singleton:
        return dict(udf(table.to_pydict()))
    rows = [udf(row) for row in table.to_pylist()]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _typed(column: Any, dtype: Any, rows: int, what: str) -> pa.Array:
    """The column in its declared type."""
    kind = kind_of(dtype, what=what)
    try:
        if isinstance(column, (pa.Array, pa.ChunkedArray)):
            made = column.cast(kind.arrow)
        else:
            made = kind.array(list(column))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        raise DataError(
            f"{what} is declared {kind.value_type.name}, and its function gives other values "
            f"({error}); declare the type that it gives"
        ) from None
    if len(made) != rows:
        raise DataError(f"{what}: its function gives {len(made)} values for {rows} rows")
    return made
