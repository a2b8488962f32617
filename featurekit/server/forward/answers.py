"""Turns predictions into an answer, as JSON or MessagePack."""

from __future__ import annotations

import math
from typing import Any

from featurekit.online.wire.arrow import compact
from featurekit.server import as_json
from featurekit.server.forward.predict import Predictions, Share


def written(found: Predictions, request_id: str, *, details: bool, packed: bool) -> bytes:
    """The answer: a prediction for each row, and the target that made it, which is one text where
    it made all. `details` has what each target was given, too."""
    same = len({*found.targets}) == 1
    document: dict[str, Any] = {
        "model": found.model.name,
        "predictions": found.values,
        "target": found.targets[0] if same else found.targets,
        "as_of": found.looked.result.as_of.isoformat(),
        "request_id": request_id,
    }
    if found.instead:
        document["instead"] = found.instead
    if details:
        document["details"] = {
            share.target.name: _details(share, found, packed=packed) for share in found.shares
        }
    if packed:
        from featurekit.online.wire.msgpack import pack

        return pack(document)
    return as_json.dumps({**document, "predictions": [_plain(v) for v in found.values]})


def _details(share: Share, found: Predictions, *, packed: bool) -> dict[str, Any]:
    """What a target was asked with: its rows, the versions, and the features with their
    statuses."""
    looked = share.looked
    places = looked.places(share.rows)
    types = looked.result.types
    columns = {name: [v[i] for i in places] for name, v in looked.result.columns.items()}
    if not packed:
        columns = {n: list(as_json.OWN.column(v, types[n])) for n, v in columns.items()}
    statuses = {name: [v[i] for i in places] for name, v in looked.result.status.items()}
    return {
        "rows": list(share.rows),
        "service": looked.service.name,
        "service_version": looked.service.fingerprint,
        "model_version": found.model_versions[share.target.name],
        "columns": columns,
        "status": compact(statuses),
    }


def _plain(value: Any) -> Any:
    """A prediction as JSON has it: NaN and infinities are texts, as in features."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case _:
            return value
