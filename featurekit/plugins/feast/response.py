"""The answer to Feast's `get_online_features`, whose values are kept as they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from google.protobuf.timestamp_pb2 import Timestamp

from featurekit.core.types import EPOCH
from featurekit.plugins.feast.answers import Happened
from featurekit.plugins.feast.kinds import Kind

_SECOND = dt.timedelta(seconds=1)
_STATUSES = {
    "PRESENT": FieldStatus.PRESENT,
    "NULL_VALUE": FieldStatus.NULL_VALUE,
    "NOT_FOUND": FieldStatus.NOT_FOUND,
    "OUTSIDE_MAX_AGE": FieldStatus.OUTSIDE_MAX_AGE,
}
"""Feast's statuses; what erred or is damaged is INVALID."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: its values and their statuses, and what finds the instants of the rows
    that they are of; None for what is of no row."""

    name: str
    kind: Kind
    values: Sequence[Any]
    statuses: Sequence[str]
    happened: Happened | None = None

    def instants(self) -> Sequence[dt.datetime | None]:
        """The instants of the rows that the values are of."""
        return [None] * len(self.values) if self.happened is None else self.happened()

    def arrow(self) -> pa.Array:
        """The values in their declared type."""
        return self.kind.array(list(self.values))


class FeaturekitResponse(OnlineResponse):
    """What `get_online_features` gives. `to_dict`, `to_df` and `to_arrow` have every value to the
    last bit and microsecond; `proto` has what Feast's proto holds, where an instant is in whole
    seconds."""

    def __init__(self, columns: Sequence[Column], versions: Sequence[tuple[str, int]] = ()) -> None:
        self.columns, self._versions = list(columns), versions
        self._feature_types = {column.name: column.kind.value_type for column in columns}
        self._proto: GetOnlineFeaturesResponse | None = None

    @property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The answer as Feast's servers send it."""
        if self._proto is None:
            self._proto = self._made()
        return self._proto

    def statuses(self) -> dict[str, list[str]]:
        """The status of each value, by column."""
        return {column.name: list(column.statuses) for column in self.columns}

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The values of each column as a list; with `include_event_timestamps`, the seconds of the
        rows' instants beside them."""
        found: dict[str, Any] = {}
        for column in self.columns:
            kind, values = column.kind, column.values
            found[column.name] = list(map(kind.python, values)) if kind.opaque else list(values)
            if include_event_timestamps:
                found[column.name + TIMESTAMP_POSTFIX] = [
                    0 if one is None else (one - EPOCH) // _SECOND for one in column.instants()
                ]
        return found

    def to_df(self, include_event_timestamps: bool = False) -> pd.DataFrame:
        """The columns of `to_dict` as a frame."""
        return pd.DataFrame(self.to_dict(include_event_timestamps))

    def to_arrow(self, include_event_timestamps: bool = False) -> pa.Table:
        """The columns as a table, in their declared types."""
        made = {column.name: column.arrow() for column in self.columns}
        if include_event_timestamps:
            times = self.to_dict(include_event_timestamps=True)
            ends = [name for name in times if name not in made]
            made |= {name: pa.array(times[name], pa.int64()) for name in ends}
        return pa.table(made)

    def _made(self) -> GetOnlineFeaturesResponse:
        made = GetOnlineFeaturesResponse()
        for column in self.columns:
            made.metadata.feature_names.val.append(column.name)
            times = []
            for one in column.instants():
                stamp = Timestamp()
                if one is not None:
                    stamp.FromDatetime(one)
                times.append(stamp)
            made.results.add(
                values=[column.kind.written(value) for value in column.values],
                statuses=[_STATUSES.get(one, FieldStatus.INVALID) for one in column.statuses],
                event_timestamps=times,
            )
        for name, version in self._versions:
            made.metadata.feature_view_metadata.add(name=name, version=version)
        return made
