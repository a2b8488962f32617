"""Turns the bodies of requests into questions, each part checked for its form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.calls import found
from featurekit.core.columns import Columns
from featurekit.core.kept import Kept
from featurekit.core.texts import of_json
from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.errors import RequestRefused
from featurekit.online.lookup.rows import Given
from featurekit.online.lookup.version import named_version

_FEAST = {
    "entities",
    "feature_service",
    "features",
    "full_feature_names",
    "include_feature_view_version_metadata",
    "as_of",
    "request_id",
    "service_version",
}
_OWN = {
    "rows",
    "columns",
    "of_pandas",
    "as_of",
    "full_feature_names",
    "request_fields",
    "request_id",
    "service_version",
}
_PREDICT = {"rows", "columns", "of_pandas", "as_of", "request_id", "details"}
_LONGEST_ID = 200
_MOST_FEATURES = 10_000
_WRITTEN_APART = ("bytes", "datetime", "date", "timedelta", "float", "list")
"""The types of which some values have no form in JSON."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks: a service by name, or features; for which rows, and how it is shown."""

    rows: Given
    service: str | None = None
    features: tuple[str, ...] = ()
    as_of: str | None = None
    full_names: bool = False
    request_fields: bool = False
    views: bool = False
    request_id: str | None = None
    version: str | None = None


def feast_question(body: Any, *, most_rows: int) -> Question:
    """The question of a request to Feast's feature server. RequestRefused for another form."""
    given = _object(body, _FEAST, '{"feature_service": "checkout", "entities": {"customer": [1]}}')
    service, version = _service(_text(given, "feature_service"), given)
    features = _features(given)
    if (service is None) == (not features):
        raise RequestRefused(
            (
                "found neither a feature_service nor"
                if service is None
                else "found both a feature_service and"
            )
            + ' features; write one, as in "feature_service": "checkout" or '
            '"features": ["view:feature"]',
            where="feature_service",
        )
    if "entities" not in given:
        raise RequestRefused(
            'the body lacks entities; write "entities": {"customer": [1]}, a list for each join '
            "key and request field",
            where="entities",
        )
    return Question(
        rows=_columns(given["entities"], "entities", most_rows),
        service=service,
        features=features,
        as_of=_text(given, "as_of"),
        full_names=_flag(given, "full_feature_names"),
        views=_flag(given, "include_feature_view_version_metadata"),
        request_id=_id(given),
        version=version,
    )


def own_question(service: str | None, body: Any, *, most_rows: int) -> Question:
    """The question of a request in our own form, of a service or of the features that it lists.
    RequestRefused for another form."""
    known = _OWN if service is not None else {*_OWN, "features"}
    given = _object(body, known, '{"rows": [{"customer": 1}]}')
    service, version = _service(service, given)
    features = _features(given) if service is None else ()
    if service is None and not features:
        raise RequestRefused(
            'found no features; write "features": ["view:feature"]', where="features"
        )
    rows = _rows(given, most_rows)
    return Question(
        rows=rows,
        service=service,
        features=features,
        as_of=_text(given, "as_of"),
        full_names=_flag(given, "full_feature_names"),
        request_fields=_flag(given, "request_fields"),
        request_id=_id(given),
        version=version,
    )


def predict_question(body: Any, *, most_rows: int) -> tuple[Question, bool]:
    """The question of a request for predictions, which names no service yet, and whether it wants
    to be told of features and versions. RequestRefused for another form."""
    given = _object(body, _PREDICT, '{"rows": [{"customer": 1}]}')
    question = Question(
        rows=_rows(given, most_rows), as_of=_text(given, "as_of"), request_id=_id(given)
    )
    return question, _flag(given, "details")


def _rows(given: Mapping[str, Any], most_rows: int) -> Given:
    """The rows of a body in our own form, which has them one by one or by column."""
    if ("rows" in given) == ("columns" in given):
        raise RequestRefused(
            ("found both rows and" if "rows" in given else "found neither rows nor")
            + ' columns; write one, as in "rows": [{"customer": 1}]',
            where="rows",
        )
    of_pandas = _list(given, "of_pandas", '["customer"]')
    if "rows" in given:
        rows: Any = given["rows"]
        if not isinstance(rows, list):
            raise _wrong("rows", rows, 'a list, as in [{"customer": 1}]')
        _check_number(len(rows), most_rows, "rows")
        for i, row in enumerate(rows):
            if not isinstance(row, dict):
                raise _wrong(f"rows[{i}]", row, 'an object, as in {"customer": 1}')
        return rows
    return _columns(given["columns"], "columns", most_rows, of_pandas)


def some_of(rows: Given, places: Sequence[int], left_out: Collection[str]) -> Given:
    """Some of the rows, without the columns that are left out."""
    if isinstance(rows, Columns):
        values = {
            name: [column[i] for i in places]
            for name, column in rows.values.items()
            if name not in left_out
        }
        return Columns(values, len(places), rows.of_pandas)
    if not left_out:
        return [rows[i] for i in places]
    return [{k: v for k, v in rows[i].items() if k not in left_out} for i in places]


def _service(name: str | None, given: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The service that a request names, and the version of it, which stands behind the name or in
    the body. RequestRefused for two that differ."""
    version = _text(given, "service_version")
    if name is None:
        return None, version
    service, behind = named_version(name)
    if None not in (version, behind) and version != behind:
        raise RequestRefused(
            f"found version {behind!r} behind the service's name and service_version {version!r}; "
            "write one",
            where="service_version",
        )
    return service, version if behind is None else behind


def of_types(rows: Given, service: Service) -> Given:
    """Rows with the values that texts stand for where JSON cannot write them, by the types that the
    service declares."""
    apart = _apart(service)
    if not apart:
        return rows
    if isinstance(rows, Columns):
        values = {
            name: [of_json(v, apart[name]) for v in column] if name in apart else column
            for name, column in rows.values.items()
        }
        return Columns(values, rows.rows, rows.of_pandas)
    return [{k: of_json(v, apart[k]) if k in apart else v for k, v in r.items()} for r in rows]


def _of_service(service: Service) -> dict[str, Type]:
    types = {**service.join_keys, **{p.name: p.type for p in service.request}}
    return {name: type_ for name, type_ in types.items() if type_.name in _WRITTEN_APART}


_apart = Kept(_of_service)
"""The join keys and request fields of a service whose values JSON may have as texts."""


def _features(given: Mapping[str, Any]) -> tuple[str, ...]:
    features = _list(given, "features", '["view:feature"]')
    for i, one in enumerate(features):
        if not isinstance(one, str):
            raise _wrong(f"features[{i}]", one, 'a text, as in "view:feature"')
    if len(features) > _MOST_FEATURES:
        raise RequestRefused(
            f"{len(features)} features; write at most {_MOST_FEATURES}",
            status=413,
            where="features",
        )
    return tuple(features)


# --- parts ----------------------------------------------------------------------------------------


def _object(body: Any, known: set[str], example: str) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise _wrong("body", body, f"an object, as in {example}")
    for name in body:
        if name not in known:
            raise RequestRefused(
                f"the body has {found(name)}, which is no field of it; it takes "
                f"{', '.join(sorted(known))}",
                where="body",
            )
    return body


def _columns(given: Any, where: str, most_rows: int, of_pandas: list[Any] | None = None) -> Columns:
    if not isinstance(given, dict):
        raise _wrong(where, given, 'an object with a list for each column, as in {"customer": [1]}')
    n: int | None = None
    for name, values in given.items():
        if not isinstance(name, str):
            raise _wrong(where, name, "texts as names of columns")
        if not isinstance(values, list):
            raise _wrong(f"{where}.{name}", values, "a list with a value for each row, as in [1]")
        if n is not None and len(values) != n:
            raise RequestRefused(
                f"{len(values)} values, and {n} in another column; write one for each row",
                where=f"{where}.{name}",
            )
        n = len(values)
    _check_number(n or 0, most_rows, where)
    names = frozenset(name for name in of_pandas or () if isinstance(name, str))
    return Columns(given, n or 0, names)


def _check_number(n: int, most: int, where: str) -> None:
    if n > most:
        raise RequestRefused(
            f"{n} rows; write at most {most} in one request", status=413, where=where
        )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _list(given: Mapping[str, Any], name: str, example: str) -> list[Any]:
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(name, value, f"a list, as in {example}")
    return value


def _id(given: Mapping[str, Any]) -> str | None:
    return request_id(_text(given, "request_id"))


def request_id(text: str | None) -> str | None:
    """The id of a request, which goes into headers: printable and not long. RequestRefused for
    another one."""
    if text is None:
        return None
    if len(text) > _LONGEST_ID or not (text.isascii() and text.isprintable()):
        raise RequestRefused(
            f"an id of {len(text)} characters, or with others than printable ones of ASCII; write "
            f"at most {_LONGEST_ID}",
            where="request_id",
        )
    return text


def _wrong(where: str, value: Any, wanted: str) -> RequestRefused:
    return RequestRefused(f"found {found(value)}; write {wanted}", where=where)
