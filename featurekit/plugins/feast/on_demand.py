"""Computes Feast's on-demand views over a table, the same way on both paths.

The table has columns of the declared types, so that a function sees one class of values, whether
the rows come from files or from Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from featurekit.core.types import INT, list_of
from featurekit.errors import DataError, DefinitionError, EntityFrameError
from featurekit.plugins.feast.arrays import DICTS
from featurekit.plugins.feast.kinds import Kind, OpaqueKind, kind_of

Columns = list[tuple[str, Kind, pa.Array]]


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
        if getattr(view, "aggregations", None):
            raise DefinitionError(
                f"on-demand view {view.name!r} has aggregations of Feast's, over the rows of a "
                "request; write them as a featurekit view"
            )
        kinds = {field.name: field.dtype for field in view.features}
        given = _given(view, table)
        parts = _by_nulls(given) if view.mode != "python" else [np.arange(table.num_rows)]
        order = pa.array(np.argsort(np.concatenate(parts), kind="stable"))
        mades = [
            (_computed(view, given if len(parts) == 1 else given.take(pa.array(part))), len(part))
            for part in parts
        ]
        for name in wanted:
            what = f"on-demand view {view.name!r}, feature {name!r}"
            kind = kind_of(kinds[name], what=what)
            columns = [_typed(made(name, what), kind, rows, what) for made, rows in mades]
            shown = f"{title}__{name}" if full else name
            column = columns[0] if len(parts) == 1 else pa.chunked_array(columns).take(order)
            found.append((shown, kind, column))
    return found


def _by_nulls(table: pa.Table) -> list[Any]:
    """The numbers of the rows, in groups in which each column of ints or bools is null everywhere
    or nowhere. Pandas has a null in such a column change the values beside it: so what a function
    is given of a row does not depend on the other rows of a request."""
    some = [
        column.is_null().to_numpy()
        for column in table.columns
        if (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type))
        and 0 < column.null_count < table.num_rows
    ]
    if not some:
        return [np.arange(table.num_rows)]
    groups, of = np.unique(np.stack(some, axis=1), axis=0, return_inverse=True)
    return [np.flatnonzero(of.ravel() == group) for group in range(len(groups))]


def _field(column: Any, dtype: Any, name: str) -> Any:
    """A request field in its declared type, which a training frame may have in another width."""
    kind = kind_of(dtype, what=f"request field {name!r}")
    if isinstance(kind, OpaqueKind):
        return kind.array(kind.of_column(column.to_pylist(**DICTS), f"request field {name!r}"))
    if pa.types.is_null(column.type):
        return column.cast(kind.arrow)
    text, flag = pa.types.is_string, pa.types.is_boolean
    other = any(of(column.type) != of(kind.arrow) for of in (text, flag))
    instant = pa.types.is_timestamp(column.type) and pa.types.is_timestamp(kind.arrow)
    try:
        if not other:
            return kind.held(column.cast(kind.arrow, safe=not instant))
        why = f"found {column.type}"
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        why = str(error)
    raise EntityFrameError(
        f"entity frame: the request field {name!r} is {kind.value_type.name} ({why}); give values "
        "of that type"
    )


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
                columns[field.name] = _field(table[field.name], field.dtype, field.name)
    for name in table.column_names:
        if (table.schema.field(name).metadata or {}).get(b"role") == b"key":
            columns.setdefault(name, table[name])
    return pa.table(columns)


Made = Callable[[str, str], Any]
"""Gives the column of a feature's name; DataError, which says the second, where there is none."""


def _computed(view: Any, table: pa.Table) -> Made:
    """What the function of a view gives for the rows of a table."""
    of = f"on-demand view {view.name!r}: its function"
    function = view.feature_transformation
    if view.mode == "python":
        if view.singleton:
            return _of_rows([function.udf(row) for row in table.to_pylist(**DICTS)], of)
        return _of_columns(function.udf(table.to_pydict(**DICTS)), of)
    if view.mode == "pandas":
        made = function.udf(table.to_pandas(**DICTS))
        if not isinstance(made, pd.DataFrame):
            raise DataError(f"{of} gives a {_class(made)}; give a frame of pandas")
        return _of_columns({name: made[name] for name in made.columns}, of)
    found = function.transform_arrow(table, view.features)
    return _of_columns({name: found[name] for name in found.column_names}, of)


def _of_columns(made: Any, of: str) -> Made:
    if not isinstance(made, Mapping):
        raise DataError(f"{of} gives a {_class(made)}; give a dict with a list for each feature")

    def column(name: str, what: str) -> Any:
        found = made.get(name)
        if found is None:
            raise DataError(f"{what}: its function gives {_names(made)}; give {name!r} too")
        listed = isinstance(found, (Sequence, np.ndarray, pd.Series, pa.Array, pa.ChunkedArray))
        if not listed or isinstance(found, (str, bytes)):
            raise DataError(
                f"{what}: its function gives a {_class(found)} for all rows; give a list with a "
                "value for each"
            )
        return found

    return column


def _of_rows(made: Sequence[Any], of: str) -> Made:
    for row in made:
        if not isinstance(row, Mapping):
            raise DataError(f"{of} gives a {_class(row)} for a row; give a dict of its features")

    def column(name: str, what: str) -> list[Any]:
        for row in made:
            if name not in row:
                raise DataError(
                    f"{what}: its function gives {_names(row)} for a row; give {name!r} too"
                )
        return [row[name] for row in made]

    return column


def _names(made: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, made)) or "nothing"


def _class(made: Any) -> str:
    return type(made).__name__


def _typed(column: Any, kind: Kind, rows: int, what: str) -> pa.Array:
    """The column in its declared type, or of the values that are kept where Arrow has no such
    type."""
    try:
        if isinstance(kind, OpaqueKind):
            made = kind.kept_array(_values(column), what)
        elif isinstance(column, pd.Series):
            made = pa.chunked_array([pa.Array.from_pandas(column)]).cast(kind.arrow)
        elif isinstance(column, (pa.Array, pa.ChunkedArray)):
            made = column.cast(kind.arrow)
        else:
            values = list(column)
            if kind.type in (INT, list_of(INT)):
                _check_whole(values)
            made = kind.array(values)
        made = made if kind.opaque else kind.held(made)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError,
            OverflowError) as error:  # fmt: skip
        raise DataError(
            f"{what} is declared {kind.value_type.name}, and its function gives other values "
            f"({error}); declare the type that it gives"
        ) from None
    if len(made) != rows:
        raise DataError(f"{what}: its function gives {len(made)} values for {rows} rows")
    return made


def _check_whole(values: Any) -> None:
    """TypeError for a number with a part, which Arrow would leave out, also in a list."""
    for value in values:
        if isinstance(value, (list, tuple, np.ndarray)):
            _check_whole(value)
        elif isinstance(value, (float, np.floating)) and value % 1 > 0:
            raise TypeError(f"{float(value)!r} is no int")


def _values(column: Any) -> list[Any]:
    """The values of a column, with None for what pandas has in the place of a null."""
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return list(column.to_pylist(**DICTS))
    if isinstance(column, pd.Series):
        return [None if value is pd.NA or value != value else value for value in column]
    return list(column)
