"""Turns Feast's `get_online_features` into one lookup, past its conversion of every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type

from featurekit.core.status import NULL_VALUE, PRESENT
from featurekit.core.types import INT, INT_MAX, INT_MIN, STR
from featurekit.errors import DataError, EntityFrameError
from featurekit.online.lookup.rows import of_pandas, typed
from featurekit.plugins.feast.answers import Answered, Answering
from featurekit.plugins.feast.kinds import Kind, OpaqueKind, kind_of
from featurekit.plugins.feast.on_demand import on_demand_columns
from featurekit.plugins.feast.response import Column, FeaturekitResponse
from featurekit.plugins.feast.views import wanted


class KeysMissing(EntityFrameError, KeyError):
    """Entity rows without a join key; a KeyError, as Feast raises it."""

    __str__ = Exception.__str__


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is made ready: what is looked up, the name and kind of each looked-up column,
    the kinds of the join keys that rows bring, and those of the request fields."""

    answering: Answering
    names: Sequence[str]
    kinds: Sequence[Kind]
    of_view: Sequence[int]
    keys: Mapping[str, Kind]
    fields: Mapping[str, Kind]
    entities: Mapping[str, str]
    on_demand: Sequence[Any]
    refs: Sequence[str]
    shown: frozenset[str]
    versions: Sequence[tuple[str, int]]
    full: bool
    full_names: Sequence[str]

    def rows(self, given: Any) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """The join keys and the request fields of a request, by column, each of its type. Other
        columns are left out."""
        columns = native_columns(given)
        lengths = {len(column) for column in columns.values()}
        if lengths in (set(), {0}):
            raise EntityFrameError("entity rows: there is none; give at least one")
        if len(lengths) != 1:
            raise EntityFrameError("entity rows: the columns have other numbers of values")
        n = lengths.pop()
        columns = {self.entities.get(name, name): values for name, values in columns.items()}
        keys, fields = {}, {}
        for name, kind in self.keys.items():
            if name == DUMMY_ENTITY_ID:
                continue
            if name not in columns:
                raise KeysMissing(
                    f"entity rows lack the join key {name!r}; they have {', '.join(columns)}"
                )
            given = columns[name]
            keys[name] = _typed(
                list(map(kind.key, given)) if kind.type == STR else given, kind, name
            )
        for name, kind in self.fields.items():
            if name in columns:
                fields[name] = _typed(columns[name], kind, name)
        if missing := [name for name in self.fields if name not in fields]:
            from feast.errors import RequestDataNotFoundInEntityRowsException

            raise RequestDataNotFoundInEntityRowsException(feature_names=missing)
        if DUMMY_ENTITY_ID in self.keys:
            keys[DUMMY_ENTITY_ID] = [""] * n
        return keys, fields

    def answered(
        self, keys: Mapping[str, list[Any]], fields: Mapping[str, list[Any]], found: Answered
    ) -> FeaturekitResponse:
        """The answer, with the join keys first and the on-demand features last."""
        given = [_given(name, self.keys[name], values) for name, values in keys.items()]
        given += [_given(name, self.fields[name], values) for name, values in fields.items()]
        looked = [
            Column(name, kind, values, statuses, found.happened[v])
            for name, kind, v, values, statuses in zip(
                self.names, self.kinds, self.of_view, found.columns, found.statuses, strict=True
            )
        ]
        columns = [c for c in given if c.name in keys and c.name != DUMMY_ENTITY_ID]
        columns += [c for c in looked if c.name in self.shown]
        if self.on_demand:
            columns += self._on_demand(given, looked)
        return FeaturekitResponse(columns, self.versions)

    def _on_demand(self, given: Sequence[Column], looked: Sequence[Column]) -> list[Column]:
        fields, arrays = [], []
        names = [*(column.name for column in given), *self.full_names]
        for name, column in zip(names, [*given, *looked], strict=True):
            role = {"role": "key"} if name in self.keys else None
            arrays.append(column.arrow())
            fields.append(pa.field(name, arrays[-1].type, metadata=role))
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        made = on_demand_columns(self.on_demand, table, self.refs, full=self.full, stored=True)
        columns = []
        for name, kind, array in made:
            values = array.to_pylist()
            statuses = [NULL_VALUE if value is None else PRESENT for value in values]
            columns.append(Column(name, kind, values, statuses))
        return columns


def prepared(
    project: str, context: tuple[Any, ...], *, full: bool, told: bool, apart: bool
) -> Prepared:
    """The request of Feast's context for it, as `utils._get_cached_request_context` gives it. The
    answer is to tell the versions of its views where they are `told`, and each version has rows of
    its own where they are `apart`."""
    refs, on_demand, entities, _, _, grouped, shown, _, _ = context
    asked = [wanted(view, _in_order(view, features), versions=apart) for view, features in grouped]
    names, kinds, of_view = [], [], []
    for v, one in enumerate(asked):
        for feature in one.features:
            names.append(f"{one.title}__{feature}" if full else feature)
            kinds.append(one.mapped.kinds[feature])
            of_view.append(v)
    keys = {
        DUMMY_ENTITY_ID if key == DUMMY_ENTITY_ID else column: one.mapped.key_kinds[key]
        for one in asked
        for key, column in one.columns.items()
    }
    fields = {
        name: kind_of(dtype, what=f"request field {name!r}")
        for view in on_demand
        for source in view.source_request_sources.values()
        for name, dtype in ((field.name, field.dtype) for field in source.schema)
    }
    versions = [
        (view.projection.name_alias or view.projection.name, view.current_version_number or 0)
        for view, _ in grouped
        if told
    ]
    return Prepared(
        Answering(project, asked), names, kinds, of_view, keys, fields, dict(entities), on_demand,
        list(refs), shown, versions, full,
        [f"{one.title}__{feature}" for one in asked for feature in one.features],
    )  # fmt: skip


def _in_order(view: Any, features: Sequence[str]) -> list[str]:
    """The features in the order of the view's schema: Feast's own order is that of a set."""
    places = {field.name: i for i, field in enumerate(view.features)}
    return sorted(features, key=lambda name: places.get(name, len(places)))


def context_of(registry: Any, project: str, features: Any, *, full: bool) -> tuple[Any, ...]:
    """What Feast knows of a request; the same object for as long as its registry is the same."""
    found: tuple[Any, ...] = utils._get_cached_request_context(registry, project, features, full)
    return found


def native_columns(given: Any) -> dict[str, list[Any]]:
    """Entity rows by column; EntityFrameError for rows with other names than the first one has."""
    if not isinstance(given, list):
        return {name: _native(values) for name, values in given.items()}
    if not given:
        raise EntityFrameError("entity rows: there is none; give at least one")
    names = given[0].keys()
    if [row.keys() for row in given].count(names) != len(given):
        raise EntityFrameError("entity rows: all have the same names, those of the first row")
    return {name: _native([row[name] for row in given]) for name in names}


def _native(values: Any) -> list[Any]:
    listed = list(getattr(values, "val", values))
    if listed and isinstance(listed[0], Value):
        return [feast_value_type_to_python_type(value) for value in listed]
    return listed


def _typed(values: list[Any], kind: Kind, name: str) -> list[Any]:
    """The values that are kept of those of a join key or a request field. As in a frame of pandas,
    NaN is None, and a float that is an int is one where an int is declared."""
    plain = kind.type == INT and list(map(type, values)).count(int) == len(values) > 0
    if plain and min(values) >= INT_MIN and max(values) <= INT_MAX:
        return values
    if isinstance(kind, OpaqueKind):
        try:
            return kind.of_column(values, f"entity rows: {name!r}")
        except DataError as error:
            raise EntityFrameError(str(error)) from None
    optional = kind.type.or_none()
    return [typed(of_pandas(value, optional), optional, name, i) for i, value in enumerate(values)]


def _given(name: str, kind: Kind, values: Sequence[Any]) -> Column:
    return Column(name, kind, values, [PRESENT] * len(values))
