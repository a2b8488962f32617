"""Values of messages are read by the schemas of a registry: Avro, Protobuf and JSON."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurekit.define.definitions import EventSource
from featurekit.errors import ConfigError, SourceError, StoreUnavailable
from featurekit.project.stream_settings import KafkaConfig, RegistryConfig
from tests.registry import Registry, registry

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
fastavro = pytest.importorskip("fastavro", reason="fastavro is not installed")
pytest.importorskip("google.protobuf", reason="protobuf is not installed")

SOURCE = EventSource(
    "s", path="s.parquet", timestamp_field="at",
    schema={"i": int, "f": float, "t": str, "b": bytes, "o": int | None, "li": list[int],
            "d": dt.date | None, "w": dt.timedelta | None, "ok": bool},
)  # fmt: skip
AT = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
AVRO = {
    "type": "record", "name": "S", "fields": [
        {"name": "i", "type": "long"}, {"name": "f", "type": "double"},
        {"name": "t", "type": "string"}, {"name": "b", "type": "bytes"},
        {"name": "o", "type": ["null", "long"]},
        {"name": "li", "type": {"type": "array", "items": "long"}},
        {"name": "d", "type": {"type": "int", "logicalType": "date"}},
        {"name": "ok", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}  # fmt: skip
ROW = {
    "i": 2**62, "f": -0.1, "t": "ß", "b": b"\xff\x00", "o": None, "li": [1, 2],
    "d": dt.date(2026, 3, 1), "ok": True, "at": AT,
}  # fmt: skip


@pytest.fixture
def known() -> Iterator[Registry]:
    with registry() as made:
        yield made


def schemas(known: Registry, **settings: Any) -> Any:
    from featurekit.feed.streams.schemas import Schemas

    return Schemas(RegistryConfig(url=known.url, **settings), Path("/"), SOURCE)


def headed(number: int, body: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + body


def of_avro(row: dict[str, Any]) -> bytes:
    raw = io.BytesIO()
    fastavro.schemaless_writer(raw, AVRO, row)
    return raw.getvalue()


def test_a_record_of_avro_is_a_row(known: Registry) -> None:
    known.schemas[7] = {"schema": json.dumps(AVRO)}
    made = schemas(known)
    for _ in range(3):
        assert made.row(headed(7, of_avro(ROW))) == {"w": None, **ROW}
    assert len(known.asked) == 1


def descriptor() -> Any:
    """struct S of every kind of field, whose enum is in another file."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="s.proto", syntax="proto3",
        dependency=["kinds.proto", "google/protobuf/timestamp.proto",
                    "google/protobuf/duration.proto", "google/protobuf/wrappers.proto"],
    )  # fmt: skip
    file.message_type.add(name="Other")
    message = file.message_type.add(name="S")
    F = descriptor_pb2.FieldDescriptorProto
    fields = [
        ("i", F.TYPE_INT64, None), ("f", F.TYPE_DOUBLE, None), ("t", F.TYPE_ENUM, ".Kind"),
        ("b", F.TYPE_BYTES, None), ("o", F.TYPE_MESSAGE, ".google.protobuf.Int64Value"),
        ("li", F.TYPE_INT64, None), ("w", F.TYPE_MESSAGE, ".google.protobuf.Duration"),
        ("ok", F.TYPE_BOOL, None), ("at", F.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
    ]  # fmt: skip
    for number, (name, type_, of) in enumerate(fields, 1):
        label = F.LABEL_REPEATED if name == "li" else F.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=type_, type_name=of, label=label)
    other = descriptor_pb2.FileDescriptorProto(name="kinds.proto", syntax="proto3")
    kind = other.enum_type.add(name="Kind")
    kind.value.add(name="NONE", number=0)
    kind.value.add(name="SOME", number=1)
    return file, other


def in_bytes(file: Any) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def of_protobuf(known: Registry) -> Any:
    """A class of messages; the registry knows its files as schema 9 and version 1 of kinds."""
    from google.protobuf import (
        descriptor_pool,
        duration_pb2,
        message_factory,
        timestamp_pb2,
        wrappers_pb2,
    )

    file, other = descriptor()
    pool = descriptor_pool.DescriptorPool()
    for module in (duration_pb2, timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(other)
    pool.Add(file)
    references = [{"name": "kinds.proto", "subject": "kinds", "version": 1}]
    about = {"schemaType": "PROTOBUF", "schema": "text", "references": references}
    known.schemas[9] = {**about, "bytes": in_bytes(file)}
    known.versions["kinds", 1] = {
        "subject": "kinds", "version": 1, "id": 8, "schemaType": "PROTOBUF", "schema": "text",
        "bytes": in_bytes(other),
    }  # fmt: skip
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("S"))


def test_a_message_of_protobuf_is_a_row(known: Registry) -> None:
    kind = of_protobuf(known)
    made = schemas(known)
    message = kind(i=-5, f=0.1, t=1, b=b"\xff", li=[1, 2])
    message.at.FromDatetime(AT)
    message.at.nanos += 999  # floored to the microsecond, as everywhere (T1)
    message.w.FromTimedelta(dt.timedelta(microseconds=-1))
    value = headed(9, b"\x02\x02" + message.SerializeToString())
    row = {
        "i": -5, "f": 0.1, "t": "SOME", "b": b"\xff", "o": None, "li": [1, 2], "d": None,
        "w": dt.timedelta(microseconds=-1), "ok": False, "at": AT,
    }  # fmt: skip
    assert made.row(value) == row
    message.o.value = 0
    assert made.row(headed(9, b"\x02\x02" + message.SerializeToString()))["o"] == 0
    asked = len(known.asked)
    assert made.row(value) == row
    assert len(known.asked) == asked
    with pytest.raises(SourceError, match="not of schema 9"):
        made.row(headed(9, b"\x02\x10" + message.SerializeToString()))
    with pytest.raises(SourceError, match="not of schema 9"):
        made.row(headed(9, b"\x02\x02\xff"))


def test_an_object_of_a_schema_of_json_is_a_row(known: Registry) -> None:
    known.schemas[3] = {"schemaType": "JSON", "schema": "{}"}
    row = schemas(known).row(headed(3, b'{"i": 1, "at": "2026-03-01T12:00:00Z", "w": "6h"}'))
    assert row == {
        "i": 1, "at": dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC), "o": None, "d": None,
        "w": dt.timedelta(hours=6),
    }  # fmt: skip


def test_a_value_that_is_none_is_a_bad_message(known: Registry) -> None:
    known.schemas[7] = {"schema": json.dumps(AVRO)}
    known.schemas[8] = {"schema": '"string"'}
    made = schemas(known)
    for value, said in (
        (b'{"i": 1}', "does not begin with the number"),
        (headed(1, b""), "no schema 1"),
        (headed(7, of_avro(ROW)[:5]), "not of schema 7"),
        (headed(8, b"\x02a"), "is no record"),
    ):
        with pytest.raises(SourceError, match=said):
            made.row(value)


def test_a_registry_that_does_not_answer_is_no_bad_message(known: Registry) -> None:
    known.schemas[7] = {"schema": json.dumps(AVRO)}
    known.status = 403
    made = schemas(known)
    with pytest.raises(StoreUnavailable, match="does not give schema 7: status 403"):
        made.row(headed(7, of_avro(ROW)))
    known.status = 200
    assert made.row(headed(7, of_avro(ROW)))["i"] == 2**62
    gone = RegistryConfig(url="http://127.0.0.1:1")
    from featurekit.feed.streams.schemas import Schemas

    with pytest.raises(StoreUnavailable, match="does not give schema 7"):
        Schemas(gone, Path("/"), SOURCE).row(headed(7, b""))


def test_a_registry_is_asked_with_a_login(known: Registry, tmp_path: Path) -> None:
    known.schemas[7] = {"schema": json.dumps(AVRO)}
    known.login = "me:s3:cr3t"
    secret = tmp_path / "secret"
    secret.write_text("s3:cr3t\n")
    secret.chmod(0o600)
    login = {"username": "me", "password_file": str(secret)}
    assert schemas(known, **login).row(headed(7, of_avro(ROW)))["i"] == 2**62
    secret.write_text("another\n")
    with pytest.raises(StoreUnavailable, match="status 401") as caught:
        schemas(known, **login).row(headed(7, of_avro(ROW)))
    assert "another" not in str(caught.value)


def test_a_registry_is_named_without_a_login() -> None:
    with pytest.raises(ConfigError, match="without a login") as caught:
        KafkaConfig().given(None, "http://me:s3cr3t@host")
    assert "s3cr3t" not in str(caught.value)
    assert KafkaConfig().given("d", "http://host:1").registry == RegistryConfig(url="http://host:1")
