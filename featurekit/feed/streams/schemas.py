"""Turns values of messages into rows by their schemas: Avro, Protobuf or JSON, in a registry.

Such a value begins with a sign and the number of its schema, in the form of Confluent's registry.
The registry says of what kind a schema is.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featurekit.define.definitions import EventSource
from featurekit.errors import ConfigError, SourceError, StoreUnavailable
from featurekit.feed.streams.fields import row_of_json, row_of_object
from featurekit.project.stream_settings import RegistryConfig

_TIMEOUT_S, _TRIES = 5, 2
_HEAD = 5
_UNKNOWN = 404
Read = Callable[[bytes], dict[str, Any]]
"""Turns a value, with its head, into a row."""


class Schemas:
    """The schemas of a registry, as a source's messages name them. Each is asked for once."""

    def __init__(self, settings: RegistryConfig, folder: Path, source: EventSource) -> None:
        self.registry, self.source, self.url = _library(), source, settings.url
        about: dict[str, Any] = {
            "url": settings.url, "timeout": _TIMEOUT_S, "max.retries": _TRIES,
        }  # fmt: skip
        if settings.username is not None:
            about["basic.auth.user.info"] = f"{settings.username}:{settings.password(folder)}"
        if settings.ca_file is not None:
            about["ssl.ca.location"] = str(folder / settings.ca_file)
        make = self.registry.SchemaRegistryClient
        # A client keeps a schema in the form in which it was first asked for.
        self.client, self.in_bytes = make(about), make(about)
        self._reads: dict[int, Read] = {}

    def row(self, value: bytes) -> dict[str, Any]:
        """The row that a value stands for. SourceError where its schema is not known, or the value
        is not of it; StoreUnavailable where the registry does not answer."""
        if len(value) < _HEAD or value[0] != 0:
            raise SourceError(
                "its value does not begin with the number of a schema of the registry; write it "
                "with a serializer of the registry, or take registry out of the settings"
            )
        number = int.from_bytes(value[1:_HEAD], "big")
        read = self._reads.get(number)
        if read is None:
            read = self._reads[number] = self._asked(number)
        return read(value)

    def _asked(self, number: int) -> Read:
        """What reads the values of a schema."""
        schema = self._ask(number, self.client.get_schema, number)
        match schema.schema_type:
            case "AVRO":
                return self._of_avro(number)
            case "PROTOBUF":
                return self._of_protobuf(number)
            case "JSON":
                return lambda value: row_of_json(self.source, value[_HEAD:], what="its value")
            case other:
                raise SourceError(f"its schema {number} is of kind {other!r}, which is not read")

    def _ask(self, number: int, ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return ask(*args, **kwargs)
        except self.registry.SchemaRegistryError as error:
            if error.http_status_code == _UNKNOWN:
                raise SourceError(f"the registry has no schema {number}") from None
            said = f"status {error.http_status_code}"
        except SourceError:
            raise
        except Exception as error:  # of the library that speaks HTTP, whichever it is
            said = type(error).__name__
        raise StoreUnavailable(
            f"the registry of schemas at {self.url} does not give schema {number}: {said}; what is "
            "not acknowledged is delivered again"
        )

    def _of_avro(self, number: int) -> Read:
        from confluent_kafka.schema_registry.avro import AvroDeserializer

        decode = AvroDeserializer(self.client)

        def read(value: bytes) -> dict[str, Any]:
            try:
                found = decode(value)
            except Exception as error:
                raise SourceError(f"its value is not of schema {number}: {_said(error)}") from None
            if not isinstance(found, dict):
                raise SourceError(f"its schema {number} is no record; a record has the columns")
            return row_of_object(self.source, found)

        return read

    def _of_protobuf(self, number: int) -> Read:
        from confluent_kafka.schema_registry.serde import SchemaId

        files = _Files(self, number)

        def read(value: bytes) -> dict[str, Any]:
            try:
                about = SchemaId("PROTOBUF")
                body = about.from_bytes(io.BytesIO(value))
                message = files.message(tuple(about.message_indexes or (0,)))()
                message.ParseFromString(body.read())
                found = _columns(message)
            except Exception as error:
                raise SourceError(f"its value is not of schema {number}: {_said(error)}") from None
            return row_of_object(self.source, found)

        return read


class _Files:
    """The files of a schema of Protobuf, as descriptors."""

    def __init__(self, schemas: Schemas, number: int) -> None:
        from google.protobuf.descriptor_pool import DescriptorPool

        self.schemas, self.number = schemas, number
        self.pool: Any = DescriptorPool()
        self.added: set[str] = set()
        self.made: dict[tuple[int, ...], Any] = {}
        schema = schemas._ask(number, schemas.in_bytes.get_schema, number, fmt="serialized")
        try:
            self.file = self._add(f"schema{number}.proto", schema)
        except (SourceError, StoreUnavailable):
            raise
        except Exception as error:
            raise SourceError(f"schema {number} cannot be read: {_said(error)}") from None

    def _add(self, name: str, schema: Any) -> Any:
        """Add a file with those that it needs."""
        import base64

        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        client = self.schemas.in_bytes
        for one in schema.references or ():
            if one.name not in self.added:
                found = self.schemas._ask(
                    self.number, client.get_version, one.subject, one.version, fmt="serialized"
                )
                self._add(one.name, found.schema)
        file = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str))
        file.name = name
        for needed in file.dependency:
            self._add_known(needed)
        self.pool.Add(file)
        self.added.add(name)
        return self.pool.FindFileByName(name)

    def _add_known(self, name: str) -> None:
        """Add a file that comes with Protobuf, as google/protobuf/timestamp.proto."""
        from google.protobuf import descriptor_pool, duration_pb2, timestamp_pb2, wrappers_pb2
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        known = {m.DESCRIPTOR.name for m in (duration_pb2, timestamp_pb2, wrappers_pb2)}
        if name in self.added:
            return
        if name not in known:
            raise SourceError(f"it imports {name}, to which the registry has no reference")
        file = FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        self.pool.Add(file)
        self.added.add(name)

    def message(self, indexes: tuple[int, ...]) -> Any:
        """The class of the message at these indexes, one for each level of nesting."""
        from google.protobuf.message_factory import GetMessageClass

        found = self.made.get(indexes)
        if found is None:
            first, *rest = indexes
            of = list(self.file.message_types_by_name.values())[first]
            for index in rest:
                of = of.nested_types[index]
            found = self.made[indexes] = GetMessageClass(of)
        return found


def _columns(message: Any) -> dict[str, Any]:
    """A message's fields. One that may be absent, and is, is None."""
    found = dict[str, Any]()
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            found[field.name] = [_value(field, one) for one in value]
        elif field.has_presence and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = _value(field, value)
    return found


def _value(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    if field.message_type is None:
        return value
    name = field.message_type.full_name  # nanoseconds are floored to the microsecond (T1)
    if name == "google.protobuf.Timestamp":
        return _EPOCH + dt.timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)
    if name == "google.protobuf.Duration":
        return dt.timedelta(seconds=value.seconds, microseconds=value.nanos // 1_000)
    if name.startswith("google.protobuf.") and name.endswith("Value"):  # such as StringValue
        return value.value
    raise SourceError(
        f"its field {field.name!r} is a message {name}, which is no value of a column"
    )


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _said(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).split("\n")[0]


def _library() -> Any:
    """The registry's part of confluent-kafka. ConfigError where its packages are not installed."""
    try:
        import confluent_kafka.schema_registry as registry
        import fastavro  # noqa: F401
        import google.protobuf  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"a registry of schemas is read with packages that are not installed ({error.name}); "
            "run pip install 'featurekit[kafka]'"
        ) from None
    return registry
