"""Turns the answers of a lookup into columns, rows or tables, when these are asked for."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featurekit.core import conversions, html
from featurekit.core.arrays import array_of
from featurekit.core.attributes import Named
from featurekit.core.status import ERROR_STATUS, PRESENT
from featurekit.core.types import Type
from featurekit.online.lookup.view import Listed, Packed, RowAnswer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa


_MOST_HEADS = 64


@dataclass(frozen=True)
class Shape:
    """The columns of a service's answers: the types of its join keys, of its features and, where
    they were asked for, of its request fields. `lacking` are the columns that may lack values."""

    keys: dict[str, Type]
    features: dict[str, Type]
    request: dict[str, Type] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @functools.cached_property
    def types(self) -> dict[str, Type]:
        """The type of every column."""
        return {**self.keys, **self.request, **self.features}

    @functools.cached_property
    def numeric(self) -> bool:
        """Whether every feature is a number or a bool."""
        return {type_.name for type_ in self.features.values()} <= {"float", "int", "bool"}

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns as a schema of Arrow (A3)."""
        import pyarrow as pa

        return pa.schema([(name, type_.arrow) for name, type_ in self.types.items()])

    @functools.cached_property
    def _heads(self) -> dict[int, bytes | None]:
        return {}

    def head(self, n: int) -> bytes | None:
        """The bytes before the values in an Arrow message of `n` rows; None where a type does not
        fit.

        It works for columns of 8-byte values without nulls. These bytes do not depend on the
        values, and to read one message takes a third of the time that making arrays does.
        """
        made: bytes | None = None
        if n in self._heads:
            made = self._heads[n]
        else:
            import pyarrow as pa

            wide = all(type_.name in ("int", "float") for type_ in self.types.values())
            if wide:
                zeros = [pa.array([0] * n, type_) for type_ in self.schema.types]
                message = pa.RecordBatch.from_arrays(zeros, schema=self.schema).serialize()
                values = 8 * n * len(zeros)
                made = message.slice(0, message.size - values).to_pybytes()
                if pa.ipc.read_message(message).body.size != values:
                    made = None  # this version of Arrow pads its messages
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[n] = made
        return made


@dataclass(frozen=True, slots=True)
class Batch:
    """The answers for many rows, view by view.

    `places` says at which place each output stands among the values of all views, one view after
    the other; None where the outputs stand in that order.
    """

    views: Sequence[Packed | Listed]
    places: Sequence[int] | None

    def __len__(self) -> int:
        return self.views[0].n

    def packed(self) -> list[Packed] | None:
        """The views, where every value of all is PRESENT and is read as a column."""
        found = [view for view in self.views if isinstance(view, Packed)]
        return found if len(found) == len(self.views) else None

    def values(self) -> list[Sequence[Any]]:
        """The outputs of each row."""
        rows = self.views[0].rows()
        if len(self.views) > 1:
            parts = zip(*(view.rows() for view in self.views), strict=True)
            rows = [tuple(itertools.chain.from_iterable(part)) for part in parts]
        places = self.places
        return rows if places is None else [tuple(row[p] for p in places) for row in rows]

    def lists(self) -> list[list[Any]]:
        """The values of each output, as a list."""
        return self._placed(
            [list(column) for view in self.views for column in zip(*view.rows(), strict=True)]
        )

    def statuses(self) -> list[list[str]]:
        """The statuses of each output."""
        return self._placed([column for view in self.views for column in view.statuses()])

    def columns(self, packed: Sequence[Packed]) -> list[np.ndarray[Any, Any]]:
        """The values of each output, as an array of NumPy, where the views are `packed`."""
        return self._placed([c for view in packed for part in view.columns() for c in part])

    def arrow(self, packed: Sequence[Packed]) -> list[pa.Array]:
        """The values of each output, as an array of Arrow, where the views are `packed`."""
        parts = [part for view in packed for part in view.columns()]
        return self._placed([column for part in parts for column in _arrow(part)])

    def _placed(self, columns: list[Any]) -> list[Any]:
        return columns if self.places is None else [columns[p] for p in self.places]

    def rows(self) -> list[RowAnswer]:
        """The outputs of each row, and their statuses."""
        statuses = zip(*self.statuses(), strict=True)
        return list(zip(self.values(), statuses, strict=True))


class OnlineResult(Named):
    """The features of entity rows as of one instant, in the order of the rows.

    `columns[name]` and `status[name]` are lists with one entry for each row. A value is None where
    its status is NULL_VALUE, OUTSIDE_MAX_AGE, ERROR or DAMAGED; an entity that is NOT_FOUND has the
    values of empty windows, and what is DEFAULT is a declared default or None (A4).
    `entities[name]` has the join keys, `request[name]` the request fields where they were asked
    for, `types[name]` the types of all, and `as_of` is the instant.
    """

    __slots__ = ("_answers", "_columns", "_shape", "_status", "as_of", "entities", "request")

    def __init__(
        self,
        as_of: dt.datetime,
        entities: dict[str, list[Any]],
        answers: list[RowAnswer] | Batch,
        shape: Shape,
        request: dict[str, list[Any]],
    ) -> None:
        self.as_of, self.entities, self.request = as_of, entities, request
        self._answers, self._shape = answers, shape
        self._columns: dict[str, list[Any]] | None = None
        self._status: dict[str, list[str]] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OnlineResult):
            return NotImplemented
        return (
            self.as_of == other.as_of
            and self.types == other.types
            and self.entities == other.entities
            and self.request == other.request
            and self.columns == other.columns
            and self.status == other.status
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the answers themselves: a Batch holds the reader of states.
        answers = self._answers
        rows = answers.rows() if isinstance(answers, Batch) else answers
        shape = self._shape
        alone = Shape(shape.keys, shape.features, shape.request, shape.lacking)
        given = self.as_of, self.entities, rows, alone, self.request
        return _restored, (*given, self._columns, self._status)

    def __repr__(self) -> str:
        return (
            f"OnlineResult(as_of={self.as_of!r}, entities={self.entities!r}, "
            + (f"request={self.request!r}, " if self.request else "")
            + f"columns={self.columns!r}, status={self.status!r})"
        )

    @property
    def types(self) -> dict[str, Type]:
        """The types of the join keys, the request fields that were asked for, and the features."""
        return self._shape.types

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The values of each feature."""
        if self._columns is None:
            if isinstance(self._answers, Batch):
                lists = self._answers.lists()
                self._columns = dict(zip(self._shape.features, lists, strict=True))
            else:
                self._columns = self._by_column([values for values, _ in self._answers])
        return self._columns

    @property
    def status(self) -> dict[str, list[str]]:
        """The statuses of each feature."""
        if self._status is None:
            if isinstance(self._answers, Batch):
                statuses = self._answers.statuses()
                self._status = dict(zip(self._shape.features, statuses, strict=True))
            else:
                self._status = self._by_column([statuses for _, statuses in self._answers])
        return self._status

    def _values(self) -> Sequence[Sequence[Any]]:
        answers = self._answers
        return answers.values() if isinstance(answers, Batch) else [row[0] for row in answers]

    def _by_column(self, rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
        names = self._shape.features
        if not rows:
            return {name: [] for name in names}
        return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))

    def to_dict(self) -> dict[str, list[Any]]:
        """The join keys, request fields and features, as one list for each column."""
        return {**self.entities, **self.request, **self.columns}

    def to_pylist(self) -> list[dict[str, Any]]:
        """One dict for each row, with its join keys, request fields and features."""
        names = list(self._shape.types)
        given = [*self.entities.values(), *self.request.values()]
        keys: Iterable[tuple[Any, ...]] = zip(*given, strict=True)
        if not given:
            keys = [()] * len(self._answers)
        return [
            dict(zip(names, (*key, *values), strict=True))
            for key, values in zip(keys, self._values(), strict=True)
        ]

    def statuses(self) -> list[dict[str, str]]:
        """One dict for each row: the status of each feature, PRESENT, NULL_VALUE, NOT_FOUND,
        OUTSIDE_MAX_AGE, ERROR, DAMAGED or DEFAULT."""
        return [
            dict(zip(self.status, row, strict=True))
            for row in zip(*self.status.values(), strict=True)
        ]

    @property
    def statistics(self) -> dict[str, dict[str, int]]:
        """How many rows each feature erred in, and the first of them; only features that erred
        (R3)."""
        erring = {
            n: [i for i, s in enumerate(v) if s == ERROR_STATUS] for n, v in self.status.items()
        }
        return {n: {"rows": len(v), "first_row": v[0]} for n, v in erring.items() if v}

    def to_arrow(self) -> pa.Table:
        """The join keys, request fields and features as an Arrow table with their declared types
        (A3). A dict is a map."""
        import pyarrow as pa

        shape, schema = self._shape, self._shape.schema
        packed = self._packed()
        if packed is not None:
            message = arrow_message(self)
            if message is not None:
                read = pa.ipc.read_record_batch(pa.py_buffer(message), schema)
                return pa.Table.from_batches([read])
        given = {**self.entities, **self.request}
        made = [array_of(v, schema.field(name).type) for name, v in given.items()]
        if packed is not None:
            batch, views = packed
            made += batch.arrow(views)
            return pa.Table.from_arrays(made, schema=schema)
        made += (array_of(v, shape.types[n].arrow) for n, v in self.columns.items())
        return pa.Table.from_arrays(made, schema=schema)

    def to_pandas(self) -> pd.DataFrame:
        """The columns of `to_arrow` as a pandas frame. Each feature has the dtype that it has in
        `TrainingSet.to_pandas`, and the same values, so that `model.predict(online[columns])` gets
        what the model was trained on (A3)."""
        return conversions.to_pandas(self.to_arrow(), self._shape.types, self._shape.lacking)

    def to_polars(self) -> pl.DataFrame:
        """The columns of `to_arrow` as a polars frame. A dict is a Map."""
        return conversions.to_polars(self.to_arrow())

    def _repr_html_(self) -> str:
        """What a notebook shows: the first rows, and the instant."""
        names, rows = list(self._shape.types), self.to_pylist()
        return html.box(
            f"OnlineResult as of {self.as_of.isoformat()}",
            html.table(names, [list(row.values()) for row in rows]),
        )

    def __getitem__(self, columns: str | list[str]) -> Any:
        """`to_pandas()[columns]`: a frame of some columns, or a Series. DefinitionError for a name
        that is no column; request fields are columns where they were asked for."""
        what = "the online result"
        if not self.request:
            what += ", which was asked for without request_fields=True,"
        return conversions.chosen(self.to_pandas(), columns, what=what)

    __iter__ = None  # rows are those of `to_pylist`

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._answers)

    def __bool__(self) -> bool:
        """True, also without rows: it is an answer."""
        return True

    def _column_names(self) -> list[str]:
        return list(self._shape.types)

    def _packed(self) -> tuple[Batch, list[Packed]] | None:
        """The answers and their views, where every value is read as a column."""
        answers = self._answers
        if not isinstance(answers, Batch):
            return None
        views = answers.packed()
        return None if views is None else (answers, views)

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """One array for each feature, without a mask.

        It is float64, int64 or bool where no value is None. A None of a float feature is NaN; for
        other types the array is one of objects.
        """
        import numpy as np

        packed = self._packed()
        if packed is not None:
            batch, views = packed
            return dict(zip(self._shape.features, batch.columns(views), strict=True))
        dtypes = {"float": np.float64, "int": np.int64, "bool": np.bool_}
        out = {}
        for name, values in self.columns.items():
            dtype: Any = dtypes.get(self.types[name].name, object)
            if dtype is np.float64:
                values = [np.nan if v is None else v for v in values]
            elif None in values:
                dtype = object
            array = np.empty(len(values), dtype=dtype)
            if dtype is object:
                for i, value in enumerate(values):
                    array[i] = value  # NumPy would make a matrix of lists of one length
            else:
                array[:] = values
            out[name] = array
        return out


def shape_of(result: OnlineResult) -> Shape:
    """The columns of a result, and which of them may lack values."""
    return result._shape


def batch_of(result: OnlineResult) -> Batch | None:
    """The answers as they lie in the store's reply, where there are many rows and all values are
    PRESENT numbers; None otherwise."""
    packed = result._packed()
    return None if packed is None else packed[0]


def rows_of(result: OnlineResult) -> list[RowAnswer] | None:
    """The values and statuses of each row, where the answers were made row by row; None
    otherwise."""
    answers = result._answers
    return None if isinstance(answers, Batch) else answers


def all_present(result: OnlineResult) -> bool:
    """Whether every value is PRESENT."""
    if batch_of(result) is not None:
        return True
    rows = rows_of(result)
    found: Iterable[Sequence[str]] = (
        result.status.values() if rows is None else (statuses for _, statuses in rows)
    )
    return all(statuses.count(PRESENT) == len(statuses) for statuses in found)


def arrow_message(result: OnlineResult) -> bytes | None:
    """The rows as a message of Arrow IPC. None where a type is neither int nor float, where not
    all is PRESENT, or where the outputs do not stand in the order of their views."""
    packed = result._packed()
    if packed is None or result.request or packed[0].places is not None:
        return None
    answers, views = packed
    head = result._shape.head(len(answers))
    if head is None:
        return None
    keys = [struct.pack(f"<{len(answers)}q", *column) for column in result.entities.values()]
    return b"".join([head, *keys, *(part for view in views for part in view.parts())])


def _restored(
    as_of: dt.datetime,
    entities: dict[str, list[Any]],
    answers: list[RowAnswer],
    shape: Shape,
    request: dict[str, list[Any]],
    columns: dict[str, list[Any]] | None,
    status: dict[str, list[str]] | None,
) -> OnlineResult:
    made = OnlineResult(as_of, entities, answers, shape, request)
    made._columns, made._status = columns, status
    return made


def _arrow(columns: np.ndarray[Any, Any]) -> list[pa.Array]:
    """The rows of a matrix as arrays, which share its memory where Arrow has the same layout."""
    import pyarrow as pa

    n = columns.shape[1]
    if columns.dtype.kind == "b":  # Arrow keeps a bool as one bit
        return [pa.array(column) for column in columns]
    type_ = pa.float64() if columns.dtype.kind == "f" else pa.int64()
    every = pa.Array.from_buffers(type_, columns.size, [None, pa.py_buffer(columns)])
    return [every.slice(first, n) for first in range(0, columns.size, n)]
