"""Turns a service into what a feature contract says of its features, request fields and keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featurekit.core.durations import duration_text
from featurekit.core.screen import plain
from featurekit.define.feature_contract.document import Column, Feature, Label
from featurekit.define.labels import Labelled
from featurekit.define.lacking import may_lack
from featurekit.define.plan import Feature as Compiled
from featurekit.define.plan import Output, Service, View, empty_value
from featurekit.language.listing import lines


def features_of(service: Service, *, full_names: bool) -> list[Feature]:
    """The features of a service in their order. With `full_names` each is called
    view__feature."""
    found = []
    for output, lacks in zip(service.outputs, may_lack(service), strict=True):
        view = service.views[output.view] if output.view >= 0 else None
        found.append(
            Feature(
                name=output.full_name if full_names else output.name,
                full_name=output.full_name,
                type=str(output.type),
                nulls="may" if lacks else "never",
                empty=None if view is None else plain(empty_value(view.features[output.index])),
                definition=list(_definition(service, output)),
                fingerprint=output.fingerprint,
                view=None if view is None else view.title,
                view_version=None if view is None else view.fingerprint,
            )
        )
    return found


def labels_of(asked: Labelled, names: Sequence[str]) -> list[Label]:
    """The labels of a training set, whose columns have these names."""
    found = []
    for name, output in zip(names, asked.labels, strict=True):
        view, label = asked.label(output)
        found.append(
            Label(
                name=name,
                label=f"{view.name}:{label.name}",
                type=str(output.type),
                window_us=_reach(view, label),
                fingerprint=output.fingerprint,
                view_version=view.fingerprint,
            )
        )
    return found


def _reach(view: View, label: Compiled) -> int:
    """How far a label looks ahead, in microseconds: the longest window of those that it takes."""
    if label.ahead is None or not label.ahead.labels:
        return label.window_us
    return max(_reach(view, view.features[i]) for i in label.ahead.labels)


def entity_keys_of(service: Service) -> list[Column]:
    """The join keys that a row brings."""
    return [Column(name=name, type=str(type_)) for name, type_ in service.join_keys.items()]


def request_of(service: Service) -> list[Column]:
    """The request fields that a row brings."""
    return [Column(name=p.name, type=str(p.type)) for p in service.request]


def _definition(service: Service, output: Output) -> Iterator[str]:
    """What an output computes, line by line."""
    if output.view < 0:
        transform = service.transforms[output.index]
        yield from lines(transform.function)
        yield f"takes {', '.join(f'{i.kind} {i.name}' for i in transform.inputs) or 'nothing'}"
        return
    view = service.views[output.view]
    yield from _of_feature(view, view.features[output.index])
    yield f"source {view.source.title}, by {', '.join(key.name for key in view.join_keys)}"
    if view.ttl_us is not None:
        yield f"ttl {duration_text(view.ttl_us)}"


def _of_feature(view: View, feature: Compiled) -> Iterator[str]:
    if feature.aggregate is not None:
        yield f"{feature.aggregate}({', '.join(f'{n}={v!r}' for n, v in feature.params)})"
        yield f"window {feature.span}"
        for what, us in (("offset", feature.offset_us), ("hop", feature.hop_us)):
            if us:
                yield f"{what} {duration_text(us)}"
        if feature.frame is not None:
            yield from (f"{name} {said}" for name, said in feature.frame.written.items())
        if feature.most is not None:
            yield f"top {feature.most}"
        if feature.default is not None:
            yield f"default {feature.default!r}"
    for what, place in (("of", feature.slot), ("where", feature.where), ("by", feature.by)):
        if place is not None:
            yield from _of_slot(what, view, place)
    if feature.asked is not None:
        yield from lines(feature.asked.function)
        for place in feature.asked.inputs:
            if place is not None:
                yield from _of_slot("takes", view, place)


def _of_slot(what: str, view: View, place: int) -> Iterator[str]:
    slot = view.slots[place]
    if slot.transform is None:
        yield f"{what} column {slot.column}"
    else:
        yield f"{what} transform"
        yield from lines(slot.transform)
