"""Makes the fingerprints of what is compiled, and finds one that is not of its content (F0, F1).

A fingerprint is a hash of what is computed. What is a description, as the name of a transform or of
a local, is no part of it; nor is a view's `on_error`, which only decides whether to raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from featurekit.define.plan import (
    Check,
    Feature,
    Input,
    Output,
    Part,
    RequestTransform,
    Service,
    Slot,
    Source,
    View,
)
from featurekit.language import ir, walk, wire


def nameless(slot: Slot) -> Slot:
    """A slot without the names of its transform and of that one's locals."""
    return replace(slot, transform=slot.transform and walk.rename(slot.transform))


def _nameless_feature(feature: Feature) -> Feature:
    """A feature without the names of its transform and of that one's locals."""
    if feature.ahead is not None and feature.ahead.function is not None:
        ahead = replace(feature.ahead, function=walk.rename(feature.ahead.function))
        return replace(feature, ahead=ahead)
    if feature.asked is None:
        return feature
    asked = replace(feature.asked, function=walk.rename(feature.asked.function))
    return replace(feature, asked=asked)


def nameless_part(part: Part) -> Part:
    """A part of a source, in which a view that is joined is what its own fingerprint is of."""
    if part.joins is None:
        return part
    return replace(part, joins=tuple(replace(j, view=_bare(j.view)) for j in part.joins))


def _nameless_source(source: Source) -> Source:
    if source.parts is None:
        return source
    return replace(source, parts=tuple(map(nameless_part, source.parts)))


def _nameless_check(check: Check) -> Check:
    return replace(check, function=walk.rename(check.function))


def _bare(view: View) -> View:
    """What the fingerprint of a view is of."""
    return replace(
        view,
        source=_nameless_source(view.source),
        slots=tuple(map(nameless, view.slots)),
        features=tuple(map(_nameless_feature, view.features)),
        where=None if view.where is None else _nameless_check(view.where),
        on_error="",
        fingerprint="",
        role=None,  # it decides nothing that is stored
    )


class ViewIdentity:
    """The fingerprints of a view and of its features, from a view that may not have them yet. What
    all features share is written once."""

    def __init__(self, view: View) -> None:
        self.view = view

    @cached_property
    def _slots(self) -> list[str]:
        return [wire.canonical(nameless(slot)) for slot in self.view.slots]

    @cached_property
    def _shared(self) -> tuple[list[str], list[str]]:
        """The texts of what stands in every feature's identity, before and behind the ttl."""
        view = self.view
        memory = [] if view.dedupe_us is None else [wire.canonical(view.dedupe_us)]
        memory += [] if view.explode is None else [wire.canonical(["explode", view.explode])]
        if view.where is not None:
            memory.append(wire.canonical(["where", _nameless_check(view.where)]))
        source = wire.canonical(_nameless_source(view.source))
        return [wire.canonical(view.join_keys), source], memory

    def feature(self, feature: Feature) -> str:
        """The fingerprint of one of the view's features."""
        bare = replace(_nameless_feature(feature), slot=None, where=None, by=None, fingerprint="")
        of_group = () if feature.by is None else (feature.by,)
        places: Sequence[int | None] = (feature.slot, feature.where, *of_group)
        if bare.asked is not None:
            places, bare = bare.asked.inputs, replace(bare, asked=replace(bare.asked, inputs=()))
        slots = ["null" if i is None else self._slots[i] for i in places]
        if bare.ahead is not None and bare.ahead.labels:
            taken = [self.view.features[i] for i in bare.ahead.labels]
            slots = [wire.canonical(self.feature(label)) for label in taken]
            bare = replace(bare, ahead=replace(bare.ahead, labels=()))
        before, behind = self._shared
        return wire.fingerprint_of(
            wire.canonical_list(
                [
                    wire.canonical(bare),
                    wire.canonical_list(slots),
                    *before,
                    wire.canonical(self.view.ttl_us),
                    *behind,
                ]
            )
        )

    def whole(self) -> str:
        """The fingerprint of the view, whose features have theirs."""
        return wire.fingerprint(_bare(self.view))


def transform_fingerprint(function: ir.Function, inputs: Sequence[Any]) -> str:
    """The fingerprint of a request-time transform, given the `input_identity` of each input."""
    return wire.fingerprint([walk.rename(function), list(inputs)])


def input_identity(
    given: Input,
    views: Sequence[View],
    transforms: Sequence[RequestTransform],
    request: Mapping[str, Any],
) -> Any:
    """What stands for an input in its transform's fingerprint."""
    match given.kind:
        case "feature":
            return views[given.view].features[given.index].fingerprint
        case "transform":
            return transforms[given.index].fingerprint
        case "request":
            return [given.name, request[given.name]]
        case "key":
            keys = {key.name: key.type for view in views for key in view.row_keys}
            return ["key", given.name, keys[given.name].or_none()]
        case "instant":
            return ["instant"]


def service_fingerprint(service: Service) -> str:
    """The fingerprint of a service, whose views and transforms have theirs. It covers the names
    and the order of the outputs."""
    identity: list[Any] = [
        [v.fingerprint for v in service.views],
        [t.fingerprint for t in service.transforms],
        [(o.name, o.view, o.index) for o in service.outputs],
        service.request,
    ]
    if any(v.role is not None for v in service.views):
        identity.append([v.role for v in service.views])
    if service.on_outage is not None:
        identity.append(["on_outage", service.on_outage])
    return wire.fingerprint(identity)


def stale_fingerprint(service: Service) -> str | None:
    """What in a service has a fingerprint that is not that of its content; None where nothing
    has."""
    for view in (*service.fed, *service.views):
        made = ViewIdentity(view)
        for feature in view.features:
            if feature.fingerprint != made.feature(feature):
                return f"feature {view.name}:{feature.name}"
        if view.fingerprint != made.whole():
            return f"view {view.name!r}"
    request = {p.name: p.type for p in service.request}
    for number, transform in enumerate(service.transforms):
        earlier = service.transforms[:number]
        inputs = [input_identity(i, service.views, earlier, request) for i in transform.inputs]
        if transform.fingerprint != transform_fingerprint(transform.function, inputs):
            return f"feature {transform.function.name!r}"
    for output in service.outputs:
        if output.fingerprint != _of_output(service, output):
            return f"output {output.name!r}"
    return None if service.fingerprint == service_fingerprint(service) else "the service"


def _of_output(service: Service, output: Output) -> str:
    if output.view < 0:
        return service.transforms[output.index].fingerprint
    return service.views[output.view].features[output.index].fingerprint
