"""Turns what a repo deprecates into a list, and the successors that it names into faults where they
are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featurekit.core.calls import near
from featurekit.core.written import placed
from featurekit.define.definitions import FeatureService, FeatureView
from featurekit.define.deprecated import Deprecation, deprecations_of
from featurekit.errors import DefinitionError


def deprecations(
    views: Mapping[str, FeatureView], services: Mapping[str, FeatureService]
) -> list[Deprecation]:
    """Everything that these definitions deprecate, in the order of their names."""
    found = [
        one for n, view in views.items() for one in deprecations_of("view", n, view.deprecated)
    ]
    found += [
        one
        for name, service in services.items()
        for one in deprecations_of("service", name, service.deprecated)
    ]
    return sorted(found, key=lambda one: (one.name, one.kind))


def wrong_successors(
    views: Mapping[str, FeatureView], services: Mapping[str, FeatureService]
) -> Iterator[DefinitionError]:
    """A fault for each successor that is not there, is of another kind, or is to be given up
    itself, and no later."""
    named = {(one.kind, one.name): one for one in deprecations(views, services)}
    known = {
        "view": [*views],
        "service": [*services],
        "feature": [*_features(views, services)],
    }
    for (kind, name), one in named.items():
        use = one.said.use
        if use is None:
            continue
        what = f"{kind} {name!r}, deprecated: use={use!r}"
        if use not in known[kind]:
            text = f"{what} names no {kind} of the repo; {near(use, known[kind], listed='it has')}"
            yield placed(DefinitionError(text), one.said.place)
            continue
        if use == name:
            text = f"{what} is the {kind} itself; name another one, or leave use= out"
            yield placed(DefinitionError(text), one.said.place)
            continue
        later = named.get((kind, use)) or (
            named.get(("view", use.partition(":")[0])) if kind == "feature" else None
        )
        if later is not None and later.said.day <= one.said.day:
            text = (
                f"{what} is deprecated itself, and kept until {later.said.day}; name what is "
                f"kept longer than {one.said.day}"
            )
            yield placed(DefinitionError(text), one.said.place)


def _features(
    views: Mapping[str, FeatureView], services: Mapping[str, FeatureService]
) -> Iterator[str]:
    for name, view in views.items():
        yield from (f"{name}:{feature}" for feature in view.features)
    for name, service in services.items():
        yield from (f"{name}:{feature}" for feature in service.at_request)
