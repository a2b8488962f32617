"""Turns a list of features, as a caller names them, into a compiled service without a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.calls import found, near
from featurekit.define.compile_service import Asked, Chosen, Requested, compile_features
from featurekit.define.definitions import FeatureSelection, FeatureView
from featurekit.define.plan import Service, View
from featurekit.errors import DefinitionError
from featurekit.language.transform import Transform

NAME = "listed_features"
"""What a service is called that only a list of features stands for."""


def listed_service(
    features: Sequence[Any], views: Mapping[str, View], services: Mapping[str, Service]
) -> Service:
    """The service that answers with these features, in their order.

    A feature is a text, "view:feature" (or "view" for all of a view's, or the name of a
    request-time feature of one of `services`), a view, some features of one, or a transform. Where
    two have one name, both are named view__feature. DefinitionError for a text that names nothing.
    """
    if not features:
        raise DefinitionError('the list of features is empty; write features=["view:feature"]')
    return compile_features([_asked(one, views, services) for one in features], name=NAME)


def _asked(one: Any, views: Mapping[str, View], services: Mapping[str, Service]) -> Asked:
    if isinstance(one, (FeatureView, FeatureSelection, Transform)):
        return one
    if not isinstance(one, str):
        raise DefinitionError(
            f'the list of features: a feature is "view:feature", a view, view[[…]] or a @feature, '
            f"found {found(one)}"
        )
    name, sign, feature = one.partition(":") if ":" in one else one.partition("__")
    view = views.get(name)
    if view is not None:
        known = [f.name for f in view.features]
        if sign and feature not in known:
            raise DefinitionError(
                f"the list of features, {one!r}: view {name!r} has no feature {feature!r}; "
                f"{near(feature, known)}"
            )
        return Chosen(view, (feature,) if sign else tuple(known))
    if sign:
        raise DefinitionError(
            f"the list of features, {one!r}: there is no view {name!r}; "
            f"{near(name, views, listed='there are')}"
        )
    return _requested(one, views, services)


def _requested(one: str, views: Mapping[str, View], services: Mapping[str, Service]) -> Requested:
    """The request-time feature of a name."""
    found: dict[str, Requested] = {}
    for service in services.values():
        for output in service.outputs:
            if output.view < 0 and output.name == one:
                found[output.fingerprint] = Requested(service, output.index)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise DefinitionError(
            f"the list of features, {one!r}: services define it in {len(found)} ways; hand over "
            "the @feature itself"
        )
    at = [f"{v.name}:{f.name}" for v in views.values() for f in v.features if f.name == one]
    raise DefinitionError(
        f"the list of features, {one!r}: there is no such view or request-time feature; "
        + (f"write {' or '.join(map(repr, at))}" if at else near(one, views, listed="views are"))
    )
