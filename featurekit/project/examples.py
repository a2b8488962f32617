"""Turns a parameter of a FeatureStore's method into an example made of what the repo defines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from featurekit.core.samples import row_in_python
from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.errors import FeaturekitError
from featurekit.project.project import Project


def example_of(project: Project, parameter: str, given: Mapping[str, Any]) -> str | None:
    """What may be written for `parameter` beside the other arguments that are `given`, as Python
    has it. None where the repo does not tell, or is itself wrong."""
    try:
        return _of(project, parameter, given)
    except (FeaturekitError, OSError):
        return None


def row_types(service: Service) -> dict[str, Type]:
    """The fields of a row of a service, with their types."""
    return {**service.join_keys, **{p.name: p.type for p in service.request}}


def _of(project: Project, parameter: str, given: Mapping[str, Any]) -> str | None:
    repo = project.repo
    service = repo.compiled_services.get(str(given.get("service")))
    if service is None:
        service = next(iter(repo.compiled_services.values()), None)
    match parameter:
        case "service" if service is not None:
            return json.dumps(service.name)
        case "row" if service is not None and "request_id" not in given:
            return row_in_python(row_types(service))
        case "rows" if service is not None and "source" not in given:
            return f"[{row_in_python(row_types(service))}]"
        case "feature" if service is not None:
            return json.dumps(service.outputs[0].name)
        case "views":
            return json.dumps([*repo.views][:1])
        case "source":
            return json.dumps(next(iter(repo.sources)))
        case "entity" | "keys":
            entities = {e.name: e for view in repo.views.values() for e in view.entities}
            entity = entities.get(str(given.get("entity"))) or next(iter(entities.values()))
            keys = row_in_python(entity.join_keys)
            return keys if parameter == "keys" else json.dumps(entity.name)
        case "to" if service is not None:
            known = project.registry.versions("service", service.name)
            return json.dumps(known[0][0][:12]) if known else None
    return None
