"""Turns the bodies of pushes into rows: JSON and MessagePack, Arrow streams and Parquet.

What a value must be is for the push itself to say (S1). Here are the texts that stand for values
which JSON has not, and the form of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from featurekit.core.calls import found
from featurekit.core.texts import loads, of_json
from featurekit.core.types import Type
from featurekit.define.definitions import EventSource
from featurekit.errors import RequestRefused
from featurekit.online.wire.frames import rows_of_pandas
from featurekit.server.failures import no_value
from featurekit.server.orders import FEAST, JSON, MSGPACK, Order
from featurekit.server.tables import Tables, check_number
from featurekit.sources.written import written_types

_BOTH = "online_and_offline"
_ONE_ALONE = ("online", "offline")
_FEAST_FIELDS = ("push_source_name", "df", "to", "allow_registry_cache", "transform_on_write")
_FEAST_FORM = (
    '{"push_source_name": "orders", "df": {"customer_id": [1], "event_timestamp": '
    '["2011-09-30T12:00:00Z"]}}'
)
_OWN_FORM = '{"rows": [{"customer_id": 1, "event_timestamp": "2011-09-30T12:00:00Z"}]}'


def source_and_rows(
    order: Order, body: bytes, source: Callable[[str], EventSource], tables: Tables
) -> tuple[EventSource, Any]:
    """The source of a push and its rows, dicts or an Arrow table, which `tables` reads.
    RequestRefused for another form; what `source` raises for a name."""
    most_rows = tables.most_rows
    if order.kind not in (JSON, MSGPACK):
        assert order.source is not None
        definition = source(order.source)
        table = tables.read(order.kind, body)
        return definition, rows_of_pandas(table, written_types(definition))
    given = _value(order.kind, body)
    if not isinstance(given, dict):
        raise _wrong(
            "body", given, f"an object, as in {_FEAST_FORM if order.form == FEAST else _OWN_FORM}"
        )
    if order.form == FEAST:
        definition = source(_feast(given))
        rows = _columns(given["df"], "df", most_rows)
    else:
        assert order.source is not None
        definition = source(order.source)
        rows = _own(given, most_rows)
    types = written_types(definition)
    return definition, [_read(row, types) for row in rows]


def _read(row: Mapping[str, Any], types: Mapping[str, Type]) -> dict[str, Any]:
    return {k: _of_json(v, types[k]) if k in types else v for k, v in row.items()}


def _of_json(value: Any, type_: Type) -> Any:
    """As `of_json`, but no digits are no bytes: there is null for None."""
    return b"" if value == "" and type_.name == "bytes" else of_json(value, type_)


def _value(kind: str, body: bytes) -> Any:
    try:
        if kind == JSON:
            return loads(body.decode())
        from featurekit.online.wire.msgpack import unpack

        return unpack(body)
    except ValueError as error:
        raise no_value("JSON" if kind == JSON else "MessagePack", error) from None


def _feast(given: Mapping[str, Any]) -> str:
    """The name of the source in a body of Feast's form, the parts of which are checked."""
    _known(given, _FEAST_FIELDS)
    name = given.get("push_source_name")
    if not isinstance(name, str):
        raise _wrong("push_source_name", name, 'the name of a source, as in "orders"')
    if "df" not in given:
        raise RequestRefused(f"the body lacks df; write {_FEAST_FORM}", where="df")
    to = given.get("to", _BOTH)
    if to in _ONE_ALONE:
        raise RequestRefused(
            f"found {found(to)}, which would part training from serving; write {_BOTH!r}, or leave "
            "it out, and the rows go to both",
            status=422,
            where="to",
        )
    if to != _BOTH:
        raise _wrong("to", to, repr(_BOTH))
    for flag in _FEAST_FIELDS[3:]:
        if not isinstance(given.get(flag, True), bool):
            raise _wrong(flag, given[flag], "true or false")
    return name


def _own(given: Mapping[str, Any], most_rows: int) -> list[dict[str, Any]]:
    _known(given, ("rows", "columns"))
    if ("rows" in given) == ("columns" in given):
        both = "found both rows and" if given else "found neither rows nor"
        raise RequestRefused(f"{both} columns; write one, as in {_OWN_FORM}", where="rows")
    if "columns" in given:
        return _columns(given["columns"], "columns", most_rows)
    rows = given["rows"]
    if not isinstance(rows, list):
        raise _wrong("rows", rows, f"a list, as in {_OWN_FORM}")
    check_number(len(rows), most_rows, "rows")
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(name, str) for name in row):
            raise _wrong(f"rows[{i}]", row, 'an object, as in {"customer_id": 1}')
    return rows


def _known(given: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for name in given:
        if name not in fields:
            raise RequestRefused(
                f"the body has {found(name)}, which is no field of it; it takes "
                f"{', '.join(fields)}",
                where="body",
            )


def _columns(given: Any, where: str, most_rows: int) -> list[dict[str, Any]]:
    """Rows of an object with a list for each column."""
    if not isinstance(given, dict):
        raise _wrong(
            where, given, 'an object with a list for each column, as in {"customer_id": [1]}'
        )
    number: int | None = None
    for name, values in given.items():
        if not isinstance(name, str):
            raise _wrong(where, name, "texts as names of columns")
        if not isinstance(values, list):
            raise _wrong(f"{where}.{name}", values, "a list with a value for each row, as in [1]")
        if number is not None and len(values) != number:
            raise RequestRefused(
                f"{len(values)} values, and {number} in the columns before it; write as many in "
                "each column",
                where=f"{where}.{name}",
            )
        number = len(values)
    check_number(number or 0, most_rows, where)
    return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]


def _wrong(where: str, value: Any, wanted: str) -> RequestRefused:
    return RequestRefused(f"found {found(value)}; write {wanted}", where=where)
