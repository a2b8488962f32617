"""Turns a service and the labels that are asked for with it into the columns of a training set.

Labels look ahead and are never served (T10). So what a training set computes is a service that
nobody can apply: its outputs are those of the features, then those of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.calls import found, near
from featurekit.define.compile_service import Chosen, compile_labels
from featurekit.define.definitions import FeatureSelection, FeatureView
from featurekit.define.plan import Feature, Output, Service, View
from featurekit.errors import DefinitionError

_WRITE = 'write labels=["view:label"], or "view" for all of it, a view, or view[["label"]]'


@dataclass(frozen=True, slots=True)
class Labelled:
    """A service of features, and `whole`, which has labels after them. Without labels the two are
    one."""

    features: Service
    whole: Service

    @property
    def labels(self) -> tuple[Output, ...]:
        """The outputs that are labels."""
        return self.whole.outputs[len(self.features.outputs) :]

    def label(self, output: Output) -> tuple[View, Feature]:
        """What a label's output is of."""
        view = self.whole.views[output.view]
        return view, view.features[output.index]

    @property
    def reach_us(self) -> int:
        """How far ahead of an instant the labels look; 0 without any."""
        return max((self.label(output)[0].retain_us for output in self.labels), default=0)


def labelled(service: Service, labels: Sequence[Any], views: Mapping[str, View]) -> Labelled:
    """The service with these labels, each a text ("view:label", or "view" for all of a view's), a
    view of labels, or a selection of one. `views` are those of the repo.

    A label has its own name, or `view__label` where the service has that name already.
    DefinitionError for what names no label.
    """
    if not labels:
        return Labelled(service, service)
    return with_labels(service, [_asked(one, views) for one in labels])


def with_labels(
    service: Service, labels: Sequence[Chosen | FeatureView | FeatureSelection]
) -> Labelled:
    """As `labelled`, of views that are found."""
    made = compile_labels(labels)
    for key, type_ in made.join_keys.items():
        known = service.join_keys.get(key)
        if known not in (None, type_):
            raise DefinitionError(
                f"labels: the join key {key!r} is {type_} there and {known} in service "
                f"{service.name!r}; name them apart"
            )
        if any(p.name == key for p in service.request):
            raise DefinitionError(
                f"labels: the join key {key!r} is a request field of service {service.name!r}; "
                "name them apart"
            )
    taken = {*service.join_keys, *(p.name for p in service.request), *made.join_keys}
    taken |= {name for o in service.outputs for name in (o.name, o.full_name)}
    outputs = []
    for output in made.outputs:
        name = output.full_name if output.name in taken else output.name
        outputs.append(replace(output, name=name, view=output.view + len(service.views)))
    whole = replace(
        service,
        views=(*service.views, *made.views),
        outputs=(*service.outputs, *outputs),
    )
    return Labelled(service, whole)


def _asked(one: Any, views: Mapping[str, View]) -> Chosen | FeatureView | FeatureSelection:
    if isinstance(one, (FeatureView, FeatureSelection)):
        return one
    if not isinstance(one, str):
        raise DefinitionError(f"labels: found {found(one)}; {_WRITE}")
    name, sign, label = one.partition(":") if ":" in one else one.partition("__")
    view = views.get(name)
    known = {n: v for n, v in views.items() if v.kind == "label"}
    if view is None:
        there = near(name, known, listed="views of labels are") if known else "there are none here"
        raise DefinitionError(f"labels, {one!r}: there is no view {name!r}; {there}")
    names = [f.name for f in view.features]
    if sign and label not in names:
        raise DefinitionError(
            f"labels, {one!r}: view {name!r} has no label {label!r}; {near(label, names)}"
        )
    return Chosen(view, (label,) if sign else tuple(names))
