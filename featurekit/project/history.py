"""What was in force under a name, one after another, and what each change changed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from featurekit.core.attributes import Named
from featurekit.core.calls import near
from featurekit.define.deprecated import WHOLE
from featurekit.define.plan import Service, View
from featurekit.errors import RegistryError
from featurekit.project.differences import (
    Said,
    deprecated_line,
    deprecated_otherwise,
    features_of,
    reasons,
)
from featurekit.project.registry import Registry

_LOST = ("its definition is lost",)


@dataclass(frozen=True, slots=True)
class Revision(Named):
    """A change of a feature, view or service.

    `action` is "add", "change", "rollback", "remove", "deprecate" or "undeprecate". `fingerprint`
    is that of the view's or service's version that came into force; None where none did. `reasons`
    says what differs from before, a line each, with the lines of a transform indented.
    """

    name: str
    kind: str
    action: str
    at: str
    by: str
    fingerprint: str | None
    reasons: tuple[str, ...]


def history(registry: Registry, name: str) -> list[Revision]:
    """The changes of a view, a service or a feature, written view:feature, oldest first. Of what is
    only said of it, that it is deprecated is told. RegistryError where none of this name was ever
    applied."""
    whole, _, feature = name.partition(":")
    names = {kind: registry.names(kind) for kind in ("view", "service")}
    kinds = [kind for kind, known in names.items() if whole in known]
    if not kinds:
        known = dict.fromkeys([*names["view"], *names["service"]])
        raise RegistryError(
            f"no view or service {whole!r} was ever applied; "
            f"{near(whole, known, listed='there were') if known else 'nothing was'}"
        )
    found = [r for kind in kinds for r in _revisions(registry, kind, whole, feature)]
    if not found:
        raise RegistryError(f"no version of {kinds[0]} {whole!r} had a feature {feature!r}")
    said = [r for kind in kinds for r in _deprecations(registry, kind, whole, feature)]
    return [*heapq.merge(found, said, key=lambda one: one.at)]


def _revisions(registry: Registry, kind: str, whole: str, feature: str) -> Iterator[Revision]:
    before: View | Service | None = None
    name = f"{whole}:{feature}" if feature else whole
    for action, fingerprint, by, at in registry.steps(kind, whole):
        now, lost = None, False
        if action != "remove":
            try:
                now = registry.definition(kind, whole, fingerprint)
            except RegistryError:
                lost = True
        version = None if action == "remove" else fingerprint
        if lost:
            if not feature:
                yield Revision(name, kind, action, at, by, version, _LOST)
            before = None
            continue
        was, is_ = _fingerprint(before, feature), _fingerprint(now, feature)
        if was != is_:
            said = action if was and is_ else "add" if is_ else "remove"
            why = _why(before, now, feature) if was and is_ else ()
            yield Revision(name, kind, said, at, by, version, why)
        before = now


def _deprecations(registry: Registry, kind: str, whole: str, feature: str) -> Iterator[Revision]:
    """Each time that what is deprecated of a name, or of a feature in it, was something else."""
    name = f"{whole}:{feature}" if feature else whole
    before: Said = {}
    for said, by, at in registry.deprecated(kind, whole):
        now, lines = bool(said), deprecated_otherwise(before, said)
        if feature:
            was, is_ = (one.get(feature) or one.get(WHOLE) for one in (before, said))
            now, lines = is_ is not None, (deprecated_line(is_),) if was != is_ else ()
        if lines:
            yield Revision(name, kind, "deprecate" if now else "undeprecate", at, by, None, lines)
        before = said


def _fingerprint(value: View | Service | None, feature: str) -> str | None:
    """That of the definition, or of a feature in it; None where there is none."""
    if value is None or not feature:
        return None if value is None else value.fingerprint
    if isinstance(value, View):
        return next((f.fingerprint for f in value.features if f.name == feature), None)
    return next((o.fingerprint for o in value.outputs if o.name == feature), None)


def _why(
    before: View | Service | None, now: View | Service | None, feature: str
) -> tuple[str, ...]:
    assert before is not None
    assert now is not None
    lines = reasons(before, now)
    if not feature:
        return lines
    every = {name for value in (before, now) for name in features_of(value)} - {feature}
    found, of_another = [], False
    for line in lines:
        if not line.startswith(" "):
            of_another = line.partition(":")[0] in every
        if not of_another:
            found.append(line.removeprefix(f"{feature}: "))
    return tuple(found)
