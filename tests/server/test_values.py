"""What is answered over HTTP is what the store in this process answers, bit for bit."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
from collections.abc import Callable
from typing import Any

import pytest
from serving import NOW, Served, asked_rows, exact, same

from featurekit.core.texts import of_json, of_text
from featurekit.core.types import Type, instant
from featurekit.errors import EntityFrameError
from featurekit.online.wire import arrow, msgpack

AS_OF = NOW + dt.timedelta(minutes=10)
SINGLE = [{"key": 1}]
BOTH = ["every", "plain"]


def json_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON writes it, with the texts that the page on serving names."""

    def written(value: Any) -> Any:
        match value:
            case bytes():
                return value.hex()
            case dt.datetime() | dt.date():
                return value.isoformat()
            case dt.timedelta():
                return f"{value // dt.timedelta(microseconds=1)}us"
            case float() if value != value or value in (float("inf"), -float("inf")):
                return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
            case _:
                return value

    return {name: written(value) for name, value in row.items()}


def read(value: Any, type_: Type, feast: bool) -> Any:
    """A value of JSON as its type has it."""
    if value is None:
        return None
    match type_.name:
        case "list":
            return [read(v, type_.item, feast) for v in value]
        case "dict":
            return {key_of(k, type_.item): n for k, n in value.items()}
        case "bytes" if feast:
            return base64.b64decode(value, validate=True)
        case "bytes":
            return bytes.fromhex(value)
        case "datetime" if feast:
            return instant(value * 1_000_000)
        case "float":
            assert isinstance(value, (decimal.Decimal, str))  # an int would be another type
            return float(value)
        case _:
            return of_json(value, type_)


def whole_seconds(value: Any, type_: Type) -> Any:
    """A value as Feast's form has it, where that is less: instants in whole seconds."""
    if value is None:
        return None
    if type_.name == "datetime":
        return value.replace(microsecond=0)
    if type_.name == "list" and type_.item.name == "datetime":
        return [v.replace(microsecond=0) for v in value]
    return value


def key_of(text: str, type_: Type) -> Any:
    if type_.name == "bool":
        return json.loads(text)
    return bytes.fromhex(text) if type_.name == "bytes" else of_text(text, type_)


def loads(data: bytes) -> Any:
    return json.loads(data, parse_float=decimal.Decimal)


def by_feast(server: Served, service: str, rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    columns = {k: [json_row(row)[k] for row in rows] for k in rows[0]}
    body = {"feature_service": service, "entities": columns, "as_of": AS_OF.isoformat()}
    status, _, data = server.ask("POST", "/get-online-features", body)
    assert status == 200, data
    found = loads(data)
    names = found["metadata"]["feature_names"]
    return (
        dict(zip(names, (r["values"] for r in found["results"]), strict=True)),
        dict(zip(names, (r["statuses"] for r in found["results"]), strict=True)),
        found["metadata"]["as_of"],
    )


def by_json(server: Served, service: str, rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    body = {"rows": [json_row(row) for row in rows], "as_of": AS_OF.isoformat()}
    status, _, data = server.ask("POST", f"/v1/services/{service}/features", body)
    assert status == 200, data
    found = loads(data)
    return found["columns"], spread(found["status"], len(rows)), found["as_of"]


def by_msgpack(server: Served, service: str, rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    body = msgpack.pack({"rows": rows, "as_of": AS_OF.isoformat()})
    headers = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    status, _, data = server.ask("POST", f"/v1/services/{service}/features", body, headers)
    assert status == 200, data
    found = msgpack.unpack(data)
    return found["columns"], spread(found["status"], len(rows)), found["as_of"]


def spread(statuses: dict[str, Any], n: int) -> dict[str, list[str]]:
    return {k: [v] * n if isinstance(v, str) else v for k, v in statuses.items()}


FORMS: dict[str, Callable[..., tuple[Any, Any, Any]]] = {
    "feast": by_feast, "json": by_json, "msgpack": by_msgpack,
}  # fmt: skip


def rows_of(service: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows if service == "every" else [{"key": row["key"]} for row in rows]


@pytest.mark.parametrize("service", BOTH)
@pytest.mark.parametrize("form", FORMS)
def test_every_type_of_value_is_the_same_bits(world: Any, server: Served, form: str, service: str):
    for some in (slice(None), slice(0, 1), slice(1, 3), slice(5, 7), slice(7, 8), slice(0, 3)):
        rows = rows_of(service, asked_rows()[some])
        wanted = world.store.get_online_features(service, rows, AS_OF)
        columns, statuses, as_of = FORMS[form](server, service, rows)
        assert columns.keys() == wanted.to_dict().keys()
        for name, column in wanted.to_dict().items():
            found = columns[name]
            if form == "msgpack":
                if wanted.types[name].name == "dict":
                    found = [None if v is None else dict(v) for v in found]
            else:
                found = [read(v, wanted.types[name], form == "feast") for v in found]
            if form == "feast":
                column = [whole_seconds(v, wanted.types[name]) for v in column]
            assert [exact(v) for v in found] == [exact(v) for v in column], name
        assert {name: statuses[name] for name in wanted.status} == wanted.status
        assert as_of == wanted.as_of.isoformat()


@pytest.mark.parametrize("service", BOTH)
def test_arrow_is_the_table_of_the_store(world: Any, server: Served, service: str):
    for some in (slice(None), slice(0, 1), slice(1, 3), slice(7, 8), slice(0, 3), slice(0, 0)):
        rows = rows_of(service, asked_rows()[some])
        body = msgpack.pack({"rows": rows, "as_of": AS_OF.isoformat(), "request_fields": True})
        headers = {
            "content-type": "application/msgpack",
            "accept": "application/vnd.apache.arrow.stream",
        }
        status, named, data = server.ask("POST", f"/v1/services/{service}/features", body, headers)
        assert status == 200, data
        as_of = dt.datetime.fromisoformat(named["featurekit-as-of"])
        found, version = arrow.read(data, as_of)
        wanted = world.store.get_online_features(service, rows, AS_OF, request_fields=True)
        same(found, wanted)
        assert version == world.store.live()[service].fingerprint


def test_a_list_of_features_needs_no_service(world: Any, server: Served):
    features = ["latest:f", "numbers:i_last", "asked"]
    rows = [{"key": k, "basket": 0.5} for k in (0, 1, 9)]
    body = {"features": features, "entities": {"key": [0, 1, 9], "basket": [0.5] * 3},
            "as_of": AS_OF.isoformat(), "full_feature_names": True}  # fmt: skip
    status, found = server.post("/get-online-features", body)
    assert status == 200
    wanted = world.store.get_online_features(features, rows, AS_OF, full_feature_names=True)
    assert found["metadata"]["feature_names"] == ["key", *wanted.columns]
    values = [
        [None if v is None else of_json(v, type_) for v in result["values"]]
        for result, type_ in zip(
            found["results"][1:], [wanted.types[n] for n in wanted.columns], strict=True
        )
    ]
    assert exact(values) == exact(list(wanted.columns.values()))


def asked(server: Served, basket: int) -> tuple[int, Any]:
    """What is answered for a request field that is written with these digits."""
    row = {**asked_rows()[0], "key": 99, "basket": basket}
    body = {"rows": [json_row(row)], "as_of": AS_OF.isoformat()}
    return server.post("/v1/services/every/features", body)


@pytest.mark.parametrize("digits", [2**64 + 1, 2**70 + 1, -(2**63) - 1])
def test_an_int_that_no_float_equals_is_refused_and_not_rounded(
    world: Any, server: Served, digits: int
):
    with pytest.raises(EntityFrameError) as error:
        world.store.get_online_features(
            "every", [{**asked_rows()[0], "key": 99, "basket": digits}], AS_OF
        )
    status, found = asked(server, digits)
    assert (status, found["error"]["type"]) == (422, "EntityFrameError")
    assert found["error"]["what"] == str(error.value).partition("; ")[0]


@pytest.mark.parametrize("digits", [2**63, 2**64, 2**70, -(2**63), -(2**70), 10**25])
def test_an_int_that_is_the_text_of_a_float_is_that_float(world: Any, server: Served, digits: int):
    status, found = asked(server, digits)
    assert (status, exact(found["columns"]["asked"])) == (200, [("float", exact(float(digits))[1])])
