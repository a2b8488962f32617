"""Describes the hot routes as OpenAPI has it, with examples made of the services that are live."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.samples import row_in_json
from featurekit.core.types import DATETIME, Type
from featurekit.define.plan import Service
from featurekit.server.failures import STATUSES

_ERROR_EXAMPLE = {
    "error": {
        "type": "EntityFrameError",
        "where": "service checkout",
        "what": "row 0 lacks 'customer'",
        "write": "service 'checkout' takes exactly 'customer'",
        "request_id": "8c1f0f2c9a6f4c0e8d4f3a1b2c3d4e5f",
    }
}
_WHY = {
    400: "The body, or a part of it, has another form.",
    401: "No key or token was brought, or none that counts.",
    403: "The caller lacks the scope that the answer names.",
    404: "There is no such service, view or feature.",
    405: "The route takes another method.",
    406: "None of the media types in Accept is written here.",
    409: "No version is fed, or filled, that service_version names.",
    413: "The body is too large, or has too many rows.",
    415: "The body's media type is not read here.",
    422: "A row or an instant does not fit the service.",
    429: "The caller asks too often; Retry-After says for how long.",
    503: "Redis is slow or gone, or what it holds cannot be believed.",
}
_MODEL_WHY = {
    "501": "This server forwards to no model.",
    "502": "The model server is gone, refuses, or answers with something else.",
    "503": "The model server is busy or not asked now, or Redis is slow or gone.",
    "504": "The model server did not answer in time.",
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "object"}},
    "required": ["error"],
}
_VALUE: dict[str, Any] = {}
_HEADERS = {
    name: {"description": about, "schema": {"type": "string"}}
    for name, about in (
        ("Deprecation", "Since when the service is to be given up (RFC 9745)."),
        ("Sunset", "The end of the last day on which it is kept (RFC 8594)."),
        ("Link", "The service that takes its place."),
        ("Featurekit-Deprecated", "All of the answer that is to be given up, as a list."),
    )
}
"""Each stands only where there is something to say."""
_ANSWERED = {
    "type": "object",
    "properties": {
        "metadata": {"type": "object", "additionalProperties": True},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "values": {"type": "array", "items": _VALUE},
                    "statuses": {"type": "array", "items": {"type": "string"}},
                    "event_timestamps": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}
_TEXT = {"type": ["string", "null"]}
_FEATURES = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_FLAG = {"type": "boolean"}
_ROWS = {
    "rows": {"type": "array", "items": {"type": "object", "additionalProperties": _VALUE}},
    "columns": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": _VALUE},
        "description": "In the place of rows: a list for each column.",
    },
    "of_pandas": {
        "type": ["array", "null"],
        "description": "The columns in which NaN means that a value is missing.",
    },
}
_SHOWN = {
    "as_of": {**_TEXT, "description": "The instant of the answer, ISO 8601; by default now."},
    "full_feature_names": {**_FLAG, "description": "Whether features are named view__feature."},
    "request_id": {**_TEXT, "description": "Comes back in the answer and its headers."},
    "service_version": {
        **_TEXT,
        "description": "Answer by this version, live or pinned: its fingerprint, or how it begins.",
    },
}


def row_of(service: Service) -> dict[str, Any]:
    """A row as a service takes it."""
    types = {**service.join_keys, **{p.name: p.type for p in service.request}}
    found: dict[str, Any] = json.loads(row_in_json(types))
    return found


def hot_paths(live: Mapping[str, Service]) -> dict[str, Any]:
    """The routes that are answered without FastAPI."""
    name, service = next(iter(sorted(live.items())), (None, None))
    row = {"customer": 1} if service is None else row_of(service)
    feast = {
        "feature_service": name or "checkout",
        "entities": {key: [value] for key, value in row.items()},
    }
    return {
        "/get-online-features": {"post": _feast(feast)},
        "/v1/services/{name}/features": {"post": _own({"rows": [row]}, named=True)},
        "/v1/features": {"post": _own(_listed(service), named=False)},
        "/push": {"post": _feast_push(*_pushed(service))},
        "/v1/sources/{name}/events": {"post": _own_push(_pushed(service)[1])},
        "/health": {"get": _plain("Whether the process runs", "status", '{"status": "ok"}')},
        "/ready": {"get": _plain("Whether lookups are answered", "status", None)},
        "/metrics": {"get": _metrics()},
    }


def predict_path(model: str, service: Service | None) -> dict[str, Any]:
    """The route of predictions, with an example for a model that takes a service's features."""
    row = {"customer": 1} if service is None else row_of(service)
    answered = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "predictions": {"type": "array", "items": _VALUE},
            "target": {"description": "Who predicted: a name, or one for each row."},
            "as_of": {"type": "string"},
            "request_id": {"type": "string"},
            "instead": {"type": "object", "additionalProperties": True},
            "details": {"type": "object", "additionalProperties": True},
        },
    }
    found = _json("A prediction for each row.", answered)
    found["content"]["application/msgpack"] = {"schema": {"type": "string", "format": "binary"}}
    properties = {name: _ROWS[name] for name in ("rows", "columns", "of_pandas")}
    properties |= {name: _SHOWN[name] for name in ("as_of", "request_id")}
    properties["details"] = {**_FLAG, "description": "Whether features and versions are told, too."}
    place = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "example": model,
    }
    why = {status: _json(about, _ERROR) for status, about in _MODEL_WHY.items()}
    return {
        "summary": "Predictions of a model, from the features of entities",
        "description": "Features are looked up and forwarded to a model server.",
        "tags": ["predictions"],
        "parameters": [place],
        "requestBody": _body(properties, [], {"rows": [row]}, _OWN_FORMS),
        "responses": {"200": {**found, "headers": _HEADERS}, **errors(), **why},
    }


def guard(document: dict[str, Any]) -> None:
    """Say in a description that callers bring a bearer token, but where everybody may ask."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`featurekit keys create`) or a token of the issuer.",
    }
    document["security"] = [{"bearer": []}]
    for path in ("/health", "/ready"):
        document["paths"][path]["get"]["security"] = []


_FEAST_FORMS = [
    {
        "required": ["feature_service"],
        "properties": {"feature_service": {"type": "string"}, "features": {"maxItems": 0}},
    },
    {
        "required": ["features"],
        "properties": {"feature_service": {"type": "null"}, "features": _FEATURES},
    },
]
_OWN_FORMS = [{"required": ["rows"]}, {"required": ["columns"]}]
"""A body has exactly one of these."""


def _feast(example: dict[str, Any]) -> dict[str, Any]:
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
    properties = {
        "feature_service": _TEXT,
        "features": {"type": ["array", "null"], "items": {"type": "string"}},
        "entities": {**columns, "description": "A list for each join key and request field."},
        "include_feature_view_version_metadata": _FLAG,
        **_SHOWN,
    }
    return {
        "summary": "Features, as Feast's feature server answers",
        "description": "The join keys come first, then the features. Names and statuses are Feast's"
        "; ERROR, DAMAGED and DEFAULT are featurekit's own.",
        "tags": ["features"],
        "requestBody": _body(properties, ["entities"], example, _FEAST_FORMS),
        "responses": {
            "200": {**_json("The features.", _ANSWERED), "headers": _HEADERS},
            **errors(),
        },
    }


def _listed(service: Service | None) -> dict[str, Any]:
    """A body that lists the first feature of a service's views, with the keys of its view."""
    outputs = () if service is None else service.outputs
    for output in outputs:
        if service is not None and output.view >= 0:
            view = service.views[output.view]
            keys = {p.name: p.type for p in view.row_keys}
            feature = view.features[output.index].name
            return {
                "features": [f"{view.name}:{feature}"],
                "rows": [json.loads(row_in_json(keys))],
            }
    return {"features": ["customer_orders:spend_7d"], "rows": [{"customer": 1}]}


def _own(example: dict[str, Any], *, named: bool) -> dict[str, Any]:
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
    properties = {
        **_ROWS,
        "request_fields": {**_FLAG, "description": "Whether the answer has the request fields."},
        **_SHOWN,
    }
    answered = {
        "type": "object",
        "properties": {
            "service": {"type": "string"},
            "service_version": {"type": "string"},
            "as_of": {"type": "string"},
            "columns": columns,
            "status": {"type": "object", "additionalProperties": True},
        },
    }
    found = {**_json("Columns, and statuses in short.", answered), "headers": _HEADERS}
    for media in ("application/msgpack", "application/vnd.apache.arrow.stream"):
        found["content"][media] = {"schema": {"type": "string", "format": "binary"}}
    made: dict[str, Any] = {
        "summary": "Features, as columns" if named else "Listed features, as columns",
        "description": "By Accept: JSON, MessagePack, or an Arrow IPC stream.",
        "tags": ["features"],
        "requestBody": _body(properties, [], example, _OWN_FORMS)
        if named
        else _body({"features": _FEATURES, **properties}, ["features"], example, _OWN_FORMS),
        "responses": {"200": found, **errors()},
    }
    if named:
        place = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        made["parameters"] = [place]
    return made


def _pushed(service: Service | None) -> tuple[str, dict[str, Any]]:
    """The name of a source that a service reads, and a row as it takes them."""
    views = [] if service is None else service.stored
    if not views:
        return "orders", {"customer": 1, "event_timestamp": "2026-10-04T00:00:00Z"}
    source = views[0].source.sources[0]
    types: dict[str, Type] = {p.name: p.type for p in source.schema}
    types[source.timestamp_field] = DATETIME
    if source.created_timestamp_column is not None:
        types.pop(source.created_timestamp_column, None)  # the store's clock says it
    row: dict[str, Any] = json.loads(row_in_json(types))
    if source.op is not None:
        row[source.op] = "upsert"
    return source.name, row


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A push with the key and the body of one before has its answer, and nothing "
    "changes.",
    "schema": {"type": "string", "maxLength": 255},
}
_PUSH_WHY = {
    "409": "The key was used for another push.",
    "501": "This server was started without --log.",
}


def _feast_push(source: str, row: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "push_source_name": {"type": "string", "description": "The name of a source."},
        "df": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": _VALUE},
            "description": "A list for each column of the source.",
        },
        "to": {"type": "string", "enum": ["online_and_offline"]},
        "allow_registry_cache": _FLAG,
        "transform_on_write": _FLAG,
    }
    df = {name: [value] for name, value in row.items()}
    example = {"push_source_name": source, "df": df, "to": "online_and_offline"}
    return {
        "summary": "Events of a source, as Feast's feature server takes them",
        "description": "The rows are in the log and in the states when this is answered. `to` may "
        "be left out; `online` or `offline` alone is refused.",
        "tags": ["pushes"],
        "parameters": [_KEY],
        "requestBody": _body(properties, ["push_source_name", "df"], example),
        "responses": {"200": _json("null: they are taken.", {"type": "null"}), **_push_errors()},
    }


def _own_push(row: dict[str, Any]) -> dict[str, Any]:
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
    one = {"type": "object", "additionalProperties": _VALUE}
    properties = {
        "rows": {"type": "array", "items": one},
        "columns": {**columns, "description": "In the place of rows: a list for each column."},
    }
    body = _body(properties, [], {"rows": [row]}, _OWN_FORMS)
    for media in ("msgpack", "vnd.apache.arrow.stream", "vnd.apache.parquet"):
        schema = {"type": "string", "format": "binary"}
        body["content"][f"application/{media}"] = {"schema": schema}
    number, text = {"type": "integer"}, _TEXT
    counts = ("rows", "entities", "null_keys", "erring", "quarantined", "forgotten", "repeated")
    answered = {
        "type": "object",
        "properties": {
            "source": {"type": "string"},
            **dict.fromkeys(counts, number),
            "damaged": {"type": "array", "items": {"type": "string"}},
            "broken": {"type": "object", "additionalProperties": number},
            "arrived": text,
            "newest": text,
        },
    }
    place = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "summary": "Events of a source",
        "description": "Rows are checked first; an error leaves none of them. When this is "
        "answered, they are in the log and in the states.",
        "tags": ["pushes"],
        "parameters": [place, _KEY],
        "requestBody": body,
        "responses": {"200": _json("What became of them.", answered), **_push_errors()},
    }


def _push_errors() -> dict[str, Any]:
    return errors() | {status: _json(about, _ERROR) for status, about in _PUSH_WHY.items()}


def _body(
    properties: dict[str, Any],
    required: list[str],
    example: Any,
    forms: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A body of these properties that has, where there are forms, exactly one of them."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if forms:
        schema["oneOf"] = list(forms)
    if required:
        schema["required"] = required
    content = {"schema": schema, "examples": {"one row": {"value": example}}}
    return {"required": True, "content": {"application/json": content}}


def _json(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def errors() -> dict[str, Any]:
    """The answers that are errors, by their status."""
    found = {str(status): _json(about, _ERROR) for status, about in sorted(_WHY.items())}
    found["422"]["content"]["application/json"]["example"] = _ERROR_EXAMPLE
    assert {str(status) for status in STATUSES.values()} <= found.keys()
    return found


def _plain(summary: str, field: str, example: str | None) -> dict[str, Any]:
    schema = {"type": "object", "properties": {field: {"type": "string"}}}
    found = {"200": _json("Yes.", schema)}
    if example is not None:
        found["200"]["content"]["application/json"]["example"] = json.loads(example)
    else:
        found["503"] = _json("Not yet, or the worker is stopping; the body says why.", schema)
    return {"summary": summary, "tags": ["process"], "responses": found}


def _metrics() -> dict[str, Any]:
    return {
        "summary": "What happened, for Prometheus",
        "tags": ["process"],
        "responses": {
            "200": {
                "description": "Text, version 0.0.4.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    }
