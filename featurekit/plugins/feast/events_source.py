"""A source of events as Feast shows it, where it is no Parquet file: a database, a lake, CSV, or a
union of sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from feast.data_source import DataSource
from feast.protos.feast.core.DataSource_pb2 import DataSource as SourceProto
from feast.value_type import ValueType

from featurekit.errors import DefinitionError


class EventsSource(DataSource):
    """What featurekit reads. `text` says where the events are; nothing of Feast reads them."""

    def __init__(self, *, name: str, text: str, **more: Any) -> None:
        super().__init__(name=name, **more)
        self.text = text

    def __eq__(self, other: object) -> bool:
        base: Any = super()
        same = isinstance(other, EventsSource) and self.text == other.text
        return same and bool(base.__eq__(other))

    def __hash__(self) -> int:
        return hash(self.name)

    @staticmethod
    def from_proto(data_source: SourceProto) -> EventsSource:
        """The source that a proto holds."""
        return EventsSource(
            name=data_source.name,
            text=data_source.custom_options.configuration.decode(),
            timestamp_field=data_source.timestamp_field,
            created_timestamp_column=data_source.created_timestamp_column,
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> SourceProto:
        made = SourceProto(
            name=self.name,
            type=SourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{EventsSource.__module__}.{EventsSource.__name__}",
            timestamp_field=self.timestamp_field,
            created_timestamp_column=self.created_timestamp_column,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )
        made.custom_options.configuration = self.text.encode()
        return made

    def source_type(self) -> Any:
        """Feast's number of a source that it does not know itself."""
        return SourceProto.CUSTOM_SOURCE

    def validate(self, config: Any) -> None:
        """Nothing: featurekit checks its sources itself (S1)."""

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Never asked: the types of what is published are declared."""
        raise DefinitionError("the columns of a source of featurekit have declared types")
