"""Says by which types the texts of JSON are read that stand for values of a source (S1)."""

from __future__ import annotations

from featurekit.core.kept import Kept
from featurekit.core.types import DATETIME, Type
from featurekit.define.definitions import EventSource


def _types(source: EventSource) -> dict[str, Type]:
    types: dict[str, Type] = dict(source.schema)
    types[source.timestamp_field] = DATETIME
    if source.created_timestamp_column is not None:
        types[source.created_timestamp_column] = DATETIME.or_none()
    # A timestamp in a declared format is read by the push itself.
    return {name: type_ for name, type_ in types.items() if name not in source.formats}


written_types = Kept(_types)
"""The types of a source's columns of which a text may stand for a value, by name."""
