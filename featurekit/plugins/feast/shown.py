"""Turns what a repo defines into the objects of Feast that show it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feast import Entity as FeastEntity
from feast import FeatureService as FeastService
from feast import FeatureView as FeastView
from feast import Field, FileSource, OnDemandFeatureView, PushSource, RequestSource
from feast.feature_view import DUMMY_ENTITY, DUMMY_ENTITY_FIELD
from feast.transformation.python_transformation import PythonTransformation
from feast.types import Array, Bool, Bytes, Float32, Float64, Int64, String, UnixTimestamp
from feast.value_type import ValueType

from featurekit.core.types import MICROSECOND, Type
from featurekit.define.definitions import Described, EventSource
from featurekit.define.plan import Output, Service, View
from featurekit.language import wire
from featurekit.language.transform import Transform
from featurekit.plugins.feast.events_source import EventsSource
from featurekit.project.catalog import definition
from featurekit.project.project import Project
from featurekit.project.publishing import Published

MARK = "featurekit.kind"
"""The tag of everything that is published, and of nothing else: "entity", "source", "push",
"view", "request" or "service"."""
OF = "featurekit.name"
"""The tag with the name that the definition has here."""
_PLAIN = {
    "int": Int64,
    "float": Float64,
    "bool": Bool,
    "str": String,
    "bytes": Bytes,
    "datetime": UnixTimestamp,
}


def feast_type(type_: Type) -> Any:
    """Feast's type for the values of a type; None where it has none."""
    if type_.size is not None:
        return Array(Float32)
    if type_.name == "list" and type_.item is not None:
        item = _PLAIN.get(type_.item.name)
        return None if item is None else Array(item)
    return _PLAIN.get(type_.name)


@dataclass(slots=True)
class Shown:
    """The objects of Feast for a repo, each kind by name, and what Feast cannot say."""

    entities: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    omitted: list[Published] = field(default_factory=list)


def shown(project: Project) -> Shown:
    """The objects of Feast for what the repo defines.

    A view becomes a feature view, a source its batch source and a push source beside it, a service
    a feature service. The request-time features of a service become one on-demand view. Labels and
    types that Feast has no word for are in `omitted`, each by its name.
    """
    made = Shown()
    repo = project.repo
    made.entities[DUMMY_ENTITY.name] = DUMMY_ENTITY
    for name, source in sorted(repo.sources.items()):
        _show_source(made, source)
        _show_push(made, name, source)
    for name, view in repo.compiled_views.items():
        _show_view(made, project, name, view)
    for name, service in repo.compiled_services.items():
        _show_service(made, repo.services[name], service)
    return made


def push_name(source: str) -> str:
    """What the push source of a source is called in Feast, and the view that takes the pushes."""
    return f"{source}_push"


def request_name(service: str) -> str:
    """What the on-demand view of a service's request-time features is called."""
    return f"{service}_request"


def _about(written: Described | Transform | None, kind: str, name: str, **more: str) -> Any:
    """Description, owner and tags of an object."""
    tags = {} if written is None else {str(k): str(v) for k, v in written.tags.items()}
    marks = {MARK: kind, OF: name} | {f"featurekit.{k}": v for k, v in more.items()}
    return {
        "description": "" if written is None else written.description or "",
        "owner": "" if written is None else written.owner or "",
        "tags": tags | marks,
    }


def _version(value: View | Service) -> dict[str, str]:
    short = value.fingerprint[:12]
    return {"fingerprint": value.fingerprint, "version": f"{value.name}@{short}"}


def _omit(made: Shown, kind: str, name: str, why: str) -> None:
    made.omitted.append(Published("omit", kind, name, why))


def _no_type(type_: Type) -> str:
    return f"Feast has no type for {type_}"


def _show_source(made: Shown, source: EventSource) -> None:
    common: dict[str, Any] = {
        "name": source.name,
        "timestamp_field": source.timestamp_field,
        "created_timestamp_column": source.created_timestamp_column or "",
        **_about(source, "source", source.name),
    }
    if source.origin is None and source.path and source.format == "parquet":
        made.sources[source.name] = FileSource(path=source.path, **common)
    else:
        text = source.path if source.origin is None else source.origin.text
        made.sources[source.name] = EventsSource(text=text or "pushes alone", **common)


def _show_push(made: Shown, name: str, source: EventSource) -> None:
    """The push source of a source, and the view that takes its rows as they are."""
    times = {source.timestamp_field, source.created_timestamp_column}
    columns = {n: t for n, t in source.schema.items() if n not in times}
    wrong = [f"{n} is {t}" for n, t in columns.items() if feast_type(t) is None]
    push = push_name(name)
    if wrong or not columns:
        why = f"Feast has no type for {', '.join(wrong)}" if wrong else "it has no columns"
        _omit(made, "push source", push, f"{why}; push to {name!r} by featurekit")
        return
    about = _about(source, "push", name)
    about["description"] = f"Takes rows of {name}: a push is an event on both paths."
    made.sources[push] = PushSource(name=push, batch_source=made.sources[name], **about)
    fields = [Field(name=n, dtype=feast_type(t)) for n, t in columns.items()]
    view = FeastView(
        name=push, entities=[], schema=fields, source=made.sources[push], ttl=dt.timedelta(0),
        online=False, **about,  # there is nothing to materialise: it has no features
    )  # fmt: skip
    view.entity_columns = [DUMMY_ENTITY_FIELD]
    made.views[push] = view


def _show_view(made: Shown, project: Project, name: str, view: View) -> None:
    written = project.repo.views[name]
    if view.kind == "label":
        _omit(made, "feature view", name, "it has labels, which look ahead and are never served")
        return
    wrong = [f"{k.name!r} is {k.type}" for k in view.join_keys if feast_type(k.type) is None]
    if wrong:
        _omit(made, "feature view", name, f"Feast has no type for the join key {', '.join(wrong)}")
        return
    entities = _show_entities(made, written.entities)
    fields = [Field(name=k.name, dtype=feast_type(k.type)) for k in view.join_keys]
    for feature in view.features:
        dtype = feast_type(feature.type)
        if dtype is None:
            _omit(made, "feature", f"{name}:{feature.name}", _no_type(feature.type))
            continue
        tags = {"featurekit.fingerprint": feature.fingerprint}
        said = definition(view, feature)
        fields.append(Field(name=feature.name, dtype=dtype, description=said, tags=tags))
    if len(fields) == len(view.join_keys):
        _omit(made, "feature view", name, "Feast has a type for none of its features")
        return
    if name in made.views:
        other = made.views[name].tags[OF]
        _omit(made, "feature view", name, f"the view that takes pushes to {other!r} has its name")
        return
    ttl = dt.timedelta(0) if view.ttl_us is None else view.ttl_us * MICROSECOND
    services = project.repo.compiled_services.values()
    served = {one.fingerprint for service in services for one in service.stored}
    made.views[name] = FeastView(
        name=name, entities=entities, schema=fields, source=_source_of(made, view), ttl=ttl,
        online=view.fingerprint in served,
        **_about(written, "view", name, **_version(view)),
    )  # fmt: skip


def _source_of(made: Shown, view: View) -> Any:
    """The batch source of a view; one of its own where it unites sources."""
    if view.source.parts is None:
        return made.sources[view.source.name]
    name = f"{view.name}_sources"
    made.sources[name] = EventsSource(
        name=name, text=view.source.title, timestamp_field=view.source.timestamp_field,
        **_about(None, "source", view.name),
    )  # fmt: skip
    return made.sources[name]


def _show_entities(made: Shown, entities: Iterable[Any]) -> list[Any]:
    """Feast's entities, which have one join key each: an entity with several becomes several."""
    found = []
    for entity in entities:
        for key, type_ in entity.join_keys.items():
            name = entity.name if len(entity.join_keys) == 1 else f"{entity.name}_{key}"
            dtype = feast_type(type_)
            if name not in made.entities:
                made.entities[name] = FeastEntity(
                    name=name, join_keys=[key], value_type=_value_type(dtype),
                    **_about(entity, "entity", entity.name),
                )  # fmt: skip
            found.append(made.entities[name])
    return found


def _value_type(dtype: Any) -> ValueType:
    found: ValueType = dtype.to_value_type()
    return found


# --- services -------------------------------------------------------------------------------------


def _show_service(made: Shown, written: Any, service: Service) -> None:
    features = []
    for number, view in enumerate(service.views):
        names = [view.features[o.index].name for o in service.outputs if o.view == number]
        features += _selected(made, service, view, names)
    request = _request_view(made, written, service)
    if request is not None:
        made.requests[request.name] = request
        features.append(request)
    if not features:
        _omit(made, "feature service", service.name, "nothing of it is published")
        return
    made.services[service.name] = FeastService(
        name=service.name,
        features=features,
        **_about(written, "service", service.name, **_version(service)),
    )


def _selected(made: Shown, service: Service, view: View, names: Sequence[str]) -> list[Any]:
    """The view with the features of these names, in its role; none where nothing of it is there."""
    whole = made.views.get(view.name)
    known = {f.name for f in whole.features} if whole and whole.tags[MARK] == "view" else set()
    gone = [f"{view.title}:{name}" for name in names if name not in known]
    if gone:
        why = f"it is published without {', '.join(gone)}"
        _omit(made, "feature service", service.name, why)
    chosen = [name for name in names if name in known]
    if whole is None or not chosen:
        return []
    found = whole[chosen]
    if view.role is not None:
        keys = zip(view.join_keys, view.row_keys, strict=True)
        found = found.with_name(view.title).with_join_key_map({k.name: r.name for k, r in keys})
    return [found]


def _request_view(made: Shown, written: Any, service: Service) -> Any:
    """The on-demand view of a service's request-time features; None without any."""
    outputs = [o for o in service.outputs if o.view < 0]
    if not outputs:
        return None
    name = request_name(service.name)
    fields = []
    for output in outputs:
        dtype = feast_type(output.type)
        if dtype is None:
            _omit(made, "feature", f"{name}:{output.name}", _no_type(output.type))
        else:
            # Feast keeps neither tags nor a description of such a feature.
            fields.append(Field(name=output.name, dtype=dtype))
    wrong = [f"{p.name} is {p.type}" for p in service.request if feast_type(p.type) is None]
    if wrong or not fields or name in made.views:
        why = f"Feast has no type for the request field {', '.join(wrong)}" if wrong else (
            "a view has its name" if name in made.views else "Feast has no type for its features"
        )  # fmt: skip
        _omit(made, "on demand feature view", name, why)
        return None
    about = _about(written, "request", service.name, **_version(service))
    about["description"] = _request_description(written, outputs)
    about["tags"] |= {f"featurekit.fingerprint.{o.name}": o.fingerprint for o in outputs}
    sources: list[Any] = []
    if service.request:
        asked = [Field(name=p.name, dtype=feast_type(p.type)) for p in service.request]
        made.sources[name] = RequestSource(
            name=name, schema=asked, **_about(None, "request", service.name)
        )
        sources.append(made.sources[name])
    sources += _read_views(made, service)
    if not sources:
        _omit(made, "on demand feature view", name, "it reads no feature and no request field")
        return None
    text = _function_text(name, service)
    return OnDemandFeatureView(
        name=name, sources=sources, schema=fields, mode="python",
        feature_transformation=PythonTransformation(_function(name, text), text), **about,
    )  # fmt: skip


def _request_description(written: Any, outputs: Sequence[Output]) -> str:
    """What the author says of each feature."""
    said = {f.name: f.description for f in written.features if isinstance(f, Transform)}
    return "\n".join(f"{o.name}: {said[o.name]}" for o in outputs if said.get(o.name))


def _read_views(made: Shown, service: Service) -> list[Any]:
    """The views that a service's transforms read, each with the features that they read."""
    read: dict[int, dict[str, None]] = {}
    for transform in service.transforms:
        for given in transform.inputs:
            if given.kind == "feature":
                feature = service.views[given.view].features[given.index]
                read.setdefault(given.view, {})[feature.name] = None
    found: dict[str, Any] = {}
    for number, columns in read.items():
        view = service.views[number]
        for one in _selected(Shown(views=made.views), service, view, list(columns)):
            found.setdefault(view.name, one)  # Feast knows a view of a source once, whatever roles
    return list(found.values())


# --- the function of an on-demand view ------------------------------------------------------------


def _function_text(name: str, service: Service) -> str:
    """A function of Python that computes a service's transforms from columns, as Feast keeps it."""
    plan = json.dumps(_request_plan(service), separators=(",", ":"), sort_keys=True)
    return (
        f"def {name}(columns):\n"
        f'    """The request-time features of featurekit\'s service {service.name}."""\n'
        "    from featurekit.plugins.feast.request_time import computed\n\n"
        f"    return computed({plan!r}, columns)\n"
    )


def _function(name: str, text: str) -> Any:
    made: dict[str, Any] = {}
    exec(text, made)
    return made[name]


def _request_plan(service: Service) -> Mapping[str, Any]:
    """What `request_time.computed` needs of a service: its transforms, the names that their inputs
    have as columns, and which of them are outputs."""
    inputs = []
    for transform in service.transforms:
        named: list[Any] = []
        for given in transform.inputs:
            if given.kind == "feature":
                view = service.views[given.view]
                feature = view.features[given.index].name
                named.append([f"{view.title}__{feature}", feature])
            elif given.kind == "transform":
                named.append(given.index)
            else:
                named.append([given.name])
        inputs.append(named)
    outputs = [[o.name, o.index] for o in service.outputs if o.view < 0]
    functions = [wire.to_json(transform.function) for transform in service.transforms]
    return {"functions": functions, "inputs": inputs, "outputs": outputs}
