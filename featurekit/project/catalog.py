"""Turns what a repo defines, and what is in force of it, into a list to look things up in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from featurekit.aggregates import Aggregate
from featurekit.core.attributes import Named
from featurekit.core.durations import duration_text
from featurekit.core.types import instant
from featurekit.define.definitions import Described, Entity, FeatureService, FeatureView
from featurekit.define.deprecated import Deprecation
from featurekit.define.plan import Feature, Output, Service, View
from featurekit.errors import OnlineError
from featurekit.language.transform import Transform
from featurekit.project.deployment import materialized_until, pointers
from featurekit.project.project import Project
from featurekit.sources.quarantine import rows_aside

KINDS = ("feature", "view", "service", "source", "entity")


@dataclass(frozen=True, slots=True)
class Item(Named):
    """A definition as a reader looks it up.

    `kind` is one of feature, view, service, source and entity; a feature's `name` is
    "view:feature", and that of a request-time feature "service:feature". `type` is a feature's
    type, and for the others what they hold, in words. `version` is the fingerprint that the repo
    gives, `state` how it stands: "new" (not applied), "changed" (another version is applied),
    "applied", "filled" and, of a service, "live". `fresh_until` is the instant up to which the
    online states have everything, None where they are not filled or Redis was not asked.
    `deprecated` says that it is to be given up, itself or with its view; else None. `details` has
    what only one kind has, by name.
    """

    kind: str
    name: str
    type: str
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    version: str | None = None
    state: str | None = None
    fresh_until: dt.datetime | None = None
    place: str | None = None
    deprecated: Deprecation | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def catalog(project: Project) -> list[Item]:
    """Everything that the repo defines: features, views, services, sources and entities, each kind
    by name. Redis is asked how fresh the states are where something was applied; where it is not
    reached, `fresh_until` is None."""
    made = _Catalog(project)
    return [*made.features(), *made.views(), *made.services(), *made.sources(), *made.entities()]


class _Catalog:
    def __init__(self, project: Project) -> None:
        self.project, self.repo = project, project.repo
        self.applied = {
            (kind, name): prints[-1:]
            for kind in ("view", "service")
            for name in project.registry.names(kind)
            if (prints := project.registry.history(kind, name))
        }
        self.reached = bool(self.applied)
        self.deprecated = {(one.kind, one.name): one for one in self.repo.deprecations()}

    def asked(self, question: Callable[[], Any]) -> Any:
        """What Redis answers; None where nothing was applied, or it is not reached."""
        if not self.reached:
            return None
        try:
            return question()
        except OnlineError:
            self.reached = False
            return None

    def until(self, view: View) -> dt.datetime | None:
        """The instant up to which a view's states have everything."""
        online = self.project
        found = self.asked(lambda: materialized_until(online.online, online.name, view))
        return None if found is None else instant(found)

    def state(self, kind: str, value: View | Service) -> str:
        """How a view or service stands."""
        known = self.applied.get((kind, value.name))
        if not known:
            return "new"
        return "applied" if known == [value.fingerprint] else "changed"

    def state_of(self, service: Service) -> str:
        """How a service stands; "live" where this version answers."""
        at = self.asked(lambda: pointers(self.project.online, self.project.name, service.name))
        live = (at or {}).get("live") == service.fingerprint
        return "live" if live else self.state("service", service)

    def until_of(self, service: Service) -> dt.datetime | None:
        """The instant up to which all of a service's views have everything."""
        marks = [self.until(view) for view in service.views]
        filled = [mark for mark in marks if mark is not None]
        return min(filled) if filled and len(filled) == len(marks) else None

    def item(
        self, kind: str, name: str, type_: str, written: Described | Transform | None, **more: Any
    ) -> Item:
        """An item with what its author says of it."""
        about: dict[str, Any] = {}
        if written is not None:
            about = {
                "description": written.description,
                "owner": written.owner,
                "tags": dict(written.tags),
            }
        place = getattr(written, "place", None)
        about["deprecated"] = self.deprecated.get((kind, name))
        return Item(kind, name, type_, **about, place=str(place) if place else None, **more)

    def features(self) -> Iterator[Item]:
        """The features of views, then those that services compute at request time."""
        for name, view in self.repo.compiled_views.items():
            of_view = self.repo.views[name]
            until, state = self.until(view), self.state("view", view)
            for feature in view.features:
                yield self.of_view(of_view, view, feature, until, state)
        for name, service in self.repo.compiled_services.items():
            for output in service.outputs:
                if output.view < 0:
                    yield self.at_request(self.repo.services[name], service, output)

    def of_view(
        self,
        written: FeatureView,
        view: View,
        feature: Feature,
        until: dt.datetime | None,
        state: str,
    ) -> Item:
        """A feature of a view. What its transform does not say, the view does."""
        defined = written.features[feature.name]
        own = defined.input if isinstance(defined, Aggregate) else defined
        said = own if isinstance(own, Transform) else None
        place = defined.place if isinstance(defined, Aggregate) else written.place
        return Item(
            "feature",
            f"{view.name}:{feature.name}",
            str(feature.type),
            description=(said.description if said else "") or written.description,
            owner=(said.owner if said else "") or written.owner,
            tags={**written.tags, **(said.tags if said else {})},
            version=feature.fingerprint,
            state="filled" if until and state == "applied" else state,
            fresh_until=until,
            place=str(place) if place else None,
            deprecated=self.deprecated.get(("feature", f"{view.name}:{feature.name}"))
            or self.deprecated.get(("view", view.name)),
            details={"definition": definition(view, feature), "keys": _keys(view)},
        )

    def at_request(self, written: FeatureService, service: Service, output: Output) -> Item:
        """A feature that a service computes at request time."""
        said = next(
            (f for f in written.features if isinstance(f, Transform) and f.name == output.name),
            None,
        )
        made = service.transforms[output.index]
        return self.item(
            "feature",
            f"{service.name}:{output.name}",
            str(output.type),
            said,
            version=output.fingerprint,
            state=self.state_of(service),
            fresh_until=self.until_of(service),
            details={
                "definition": f"of {', '.join(i.name for i in made.inputs)}, at request time",
                "service": service.name,
            },
        )

    def views(self) -> Iterator[Item]:
        """The views."""
        for name, view in self.repo.compiled_views.items():
            until, state = self.until(view), self.state("view", view)
            used = [n for n, s in self.repo.compiled_services.items() if view in s.views]
            yield self.item(
                "view",
                name,
                _KINDS[view.kind],
                self.repo.views[name],
                version=view.fingerprint,
                state="filled" if until and state == "applied" else state,
                fresh_until=until,
                details={
                    "features": {f.name: str(f.type) for f in view.features},
                    "keys": _keys(view),
                    "source": view.source.title,
                    "ttl": None if view.ttl_us is None else duration_text(view.ttl_us),
                    "services": used,
                },
            )

    def services(self) -> Iterator[Item]:
        """The services."""
        for name, service in self.repo.compiled_services.items():
            yield self.item(
                "service",
                name,
                f"{len(service.outputs)} features",
                self.repo.services[name],
                version=service.fingerprint,
                state=self.state_of(service),
                fresh_until=self.until_of(service),
                details={
                    "features": {o.name: str(o.type) for o in service.outputs},
                    "keys": {k: str(t) for k, t in service.join_keys.items()},
                    "request": {p.name: str(p.type) for p in service.request},
                    "views": [v.name for v in service.views],
                },
            )

    def sources(self) -> Iterator[Item]:
        """The sources."""
        for name, source in sorted(self.repo.sources.items()):
            yield self.item(
                "source",
                name,
                str(source.format),
                source,
                details={
                    "path": source.path if source.origin is None else source.origin.text,
                    "schema": {n: str(t) for n, t in source.schema.items()},
                    "timestamp_field": source.timestamp_field,
                    "created_timestamp_column": source.created_timestamp_column,
                    "arrives": None if source.arrives is None else repr(source.arrives),
                    "event_id": source.event_id,
                    "rows_set_aside": rows_aside(name, self.project.state_dir),
                    "views": [
                        n
                        for n, v in self.repo.views.items()
                        if any(s is source for s in v.event_sources)
                    ],
                },
            )

    def entities(self) -> Iterator[Item]:
        """The entities of the views."""
        found: dict[str, Entity] = {}
        for view in self.repo.views.values():
            for entity in view.entities:
                found.setdefault(entity.name, entity)
        for name, entity in sorted(found.items()):
            keys = {k: str(t) for k, t in entity.join_keys.items()}
            views = [n for n, v in self.repo.views.items() if entity in v.entities]
            shown = ", ".join(f"{k} {t}" for k, t in keys.items())
            yield self.item("entity", name, shown, entity, details={"keys": keys, "views": views})


def _keys(view: View) -> dict[str, str]:
    return {key.name: str(key.type) for key in view.join_keys}


_KINDS = {"latest": "latest row", "window": "windows", "label": "labels"}
"""What a view has, in words."""


def definition(view: View, feature: Feature) -> str:
    """What a feature is, in words: "Sum of @feature amount over 7d"."""
    if feature.ahead is not None and feature.ahead.function is not None:
        taken = ", ".join(view.features[i].name for i in feature.ahead.labels)
        return f"@feature {feature.ahead.function.name} of {taken}"
    if feature.aggregate is None:
        return f"the latest {_slot(view, feature.slot)}"
    what = feature.aggregate + ("" if feature.slot is None else f" of {_slot(view, feature.slot)}")
    what += f" over {feature.span}"
    if feature.ahead is not None:
        what += " ahead"
        if feature.ahead.settle_us is not None:
            what += f", settled after {duration_text(feature.ahead.settle_us)}"
    elif feature.offset_us:
        what += f", {duration_text(feature.offset_us)} before"
    if feature.hop_us:
        what += f", by steps of {duration_text(feature.hop_us)}"
    if feature.frame is not None:
        what += "".join(f", {said}" for said in feature.frame.said)
    if feature.where is not None:
        what += f", where {_slot(view, feature.where)}"
    if feature.by is not None:
        of = "each" if feature.most is None else f"the {feature.most} most frequent"
        what += f", of {of} by {_slot(view, feature.by)}"
    return what if feature.default is None else f"{what}, else {feature.default!r}"


def _slot(view: View, index: int | None) -> str:
    slot = view.slots[index or 0]
    return slot.column or f"@feature {slot.transform.name if slot.transform else '?'}"
