"""Describes the hot routes as OpenAPI has it, with examples made of the services that are live."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featurekit.core.samples import row_in_json
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
    404: "There is no such service, view or feature.",
    405: "The route takes another method.",
    406: "None of the media types in Accept is written here.",
    409: "Another version is live than service_version names.",
    413: "The body is too large, or has too many rows.",
    415: "The body's media type is not read here.",
    422: "A row or an instant does not fit the service.",
    503: "Redis is slow or gone, or what it holds cannot be believed.",
}
_VALUE: dict[str, Any] = {}
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
_TEXT = {"type": "string", "nullable": True}
_FLAG = {"type": "boolean"}
_SHOWN = {
    "as_of": {**_TEXT, "description": "The instant of the answer, ISO 8601; by default now."},
    "full_feature_names": {**_FLAG, "description": "Whether features are named view__feature."},
    "request_id": {**_TEXT, "description": "Comes back in the answer and its headers."},
    "service_version": {**_TEXT, "description": "Refuse where another version is live."},
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
        "/health": {"get": _plain("Whether the process runs", "status", '{"status": "ok"}')},
        "/ready": {"get": _plain("Whether lookups are answered", "status", None)},
        "/metrics": {"get": _metrics()},
    }


def _feast(example: dict[str, Any]) -> dict[str, Any]:
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
    properties = {
        "feature_service": _TEXT,
        "features": {"type": "array", "items": {"type": "string"}},
        "entities": {**columns, "description": "A list for each join key and request field."},
        "include_feature_view_version_metadata": _FLAG,
        **_SHOWN,
    }
    return {
        "summary": "Features, as Feast's feature server answers",
        "description": "The join keys come first, then the features. Names and statuses are Feast's"
        "; ERROR, DAMAGED and DEFAULT are featurekit's own.",
        "tags": ["features"],
        "requestBody": _body(properties, ["entities"], example),
        "responses": {"200": _json("The features.", _ANSWERED), **_errors()},
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
    row = {"type": "object", "additionalProperties": _VALUE}
    columns = {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}}
    properties = {
        "rows": {"type": "array", "items": row},
        "columns": {**columns, "description": "In the place of rows: a list for each column."},
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
    listed = {"features": {"type": "array", "items": {"type": "string"}}}
    found = _json("Columns, and statuses in short.", answered)
    for media in ("application/msgpack", "application/vnd.apache.arrow.stream"):
        found["content"][media] = {"schema": {"type": "string", "format": "binary"}}
    made: dict[str, Any] = {
        "summary": "Features, as columns" if named else "Listed features, as columns",
        "description": "By Accept: JSON, MessagePack, or an Arrow IPC stream.",
        "tags": ["features"],
        "requestBody": _body(properties if named else {**listed, **properties}, [], example),
        "responses": {"200": found, **_errors()},
    }
    if named:
        place = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        made["parameters"] = [place]
    return made


def _body(properties: dict[str, Any], required: list[str], example: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    content = {"schema": schema, "examples": {"one row": {"value": example}}}
    return {"required": True, "content": {"application/json": content}}


def _json(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _errors() -> dict[str, Any]:
    schema = {"type": "object", "properties": {"error": {"type": "object"}}, "required": ["error"]}
    found = {str(status): _json(about, schema) for status, about in sorted(_WHY.items())}
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
