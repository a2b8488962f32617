"""Which versions a service has had, and how an older one becomes live again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from featurekit.core.attributes import Named
from featurekit.core.calls import near
from featurekit.core.types import instant
from featurekit.define.plan import Service, View
from featurekit.define.published import Signer
from featurekit.errors import RegistryError
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import PINNED, materialized_until, pointers, publish
from featurekit.project.registry import Registry


@dataclass(frozen=True, slots=True)
class Version(Named):
    """A version of a service.

    `state` is "live" where it answers, "next" where it waits for `materialize`, "retained" where it
    was live and is still fed, "pinned" where it is fed for its pins alone, and else "unfed".
    `pinned_by` names what needs it (`FeatureStore.pin`). `materialized_until` is the instant up to
    which all its views are materialised; None where one is not.
    """

    service: str
    fingerprint: str
    applied_at: str
    applied_by: str
    state: str
    materialized_until: dt.datetime | None
    pinned_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RolledBack(Named):
    """What `rollback` did.

    `live` says whether `fingerprint` answers already. If not, it waits until its `unfilled` views
    are materialised, and `before` answers until then. `withdrawn` is the version that was waiting
    and no longer is.
    """

    service: str
    fingerprint: str
    before: str | None
    live: bool
    unfilled: tuple[str, ...]
    withdrawn: str | None


def versions(store: OnlineStore, project: str, registry: Registry, name: str) -> list[Version]:
    """Every version of a service that was ever applied, oldest first. RegistryError for an unknown
    service."""
    known = _known(registry, name)
    pointed = pointers(store, project, name)
    pins = [pin for pin in registry.pins() if pin.service == name]
    found = []
    for fingerprint, who, when in known:
        kinds = (kind for kind, pointer in pointed.items() if pointer == fingerprint)
        views = _service(registry, name, fingerprint).fed
        marks = [materialized_until(store, project, view) for view in views]
        filled = [mark for mark in marks if mark is not None]
        until = instant(min(filled)) if len(filled) == len(marks) else None
        pinned_by = tuple(pin.by for pin in pins if pin.fingerprint == fingerprint)
        state = next(kinds, PINNED if pinned_by else "unfed")
        found.append(Version(name, fingerprint, when, who, state, until, pinned_by))
    return found


def rollback(
    store: OnlineStore,
    project: str,
    registry: Registry,
    name: str,
    *,
    to: str | None,
    readable: Callable[[View], bool],
    signer: Callable[[], Signer | None] = lambda: None,
) -> RolledBack:
    """Make an older version live again; see `FeatureStore.rollback`.

    `readable` says whether the repo defines a view's source as it was when the view was compiled.
    `signer` gives what signs the version anew (F0).
    """
    pointed = pointers(store, project, name)
    before, waiting = pointed.get("live"), pointed.get("next")
    withdrawn = waiting if waiting not in (before, None) else None
    if to is None:
        target = pointed.get("retained") or _previous(registry, name, before)
    else:
        target = resolved(registry, name, to)
    service = registry.runnable(name, target)
    if target == before:
        if withdrawn is None:
            raise RegistryError(
                f"service {name!r}: {_short(target)} is live already; its other versions are "
                f"{_listed(f for f, *_ in _known(registry, name) if f != target)}"
            )
    else:
        check_readable(service, readable)
    publish(store, project, service, signer=signer())
    registry.roll_back("service", name, target)
    live = pointers(store, project, name).get("live") == target
    unfilled = (v.name for v in service.fed if materialized_until(store, project, v) is None)
    gone = None if withdrawn == target else withdrawn
    return RolledBack(name, target, before, live, tuple(unfilled), gone)


def resolved(registry: Registry, name: str, to: str) -> str:
    """The fingerprint that `to` is or begins. RegistryError where there is none, or several."""
    known = [fingerprint for fingerprint, *_ in _known(registry, name)]
    found = [fingerprint for fingerprint in known if to and fingerprint.startswith(to)]
    if len(found) != 1:
        if not to:
            raise RegistryError(
                f"service {name!r}: no version is named; write its fingerprint or the beginning of "
                f"it, as in {name}@{_short(known[-1])}; there are {_listed(known)}"
            )
        what = "names several versions" if found else "is no version"
        raise RegistryError(
            f"service {name!r}: {to!r} {what} in the registry; there are {_listed(known)}"
        )
    return found[0]


def check_readable(service: Service, readable: Callable[[View], bool]) -> None:
    """Refuse a version whose source has changed since: it cannot be fed, so it must not serve."""
    for view in service.fed:
        if not readable(view):
            raise RegistryError(
                f"service {service.name!r}: version {_short(service.fingerprint)} reads source "
                f"{view.source.title!r} as it was defined then, and the repo defines it otherwise "
                "now, so its states could not be fed; put the source's definition back first"
            )


def _known(registry: Registry, name: str) -> list[tuple[str, str, str]]:
    known = registry.versions("service", name)
    if not known:
        names = registry.names("service")
        close = near(name, names, listed="it knows:") + (
            "" if names else "; run `featurekit apply`"
        )
        raise RegistryError(f"the registry knows no service {name!r}; {close}")
    return known


def _service(registry: Registry, name: str, fingerprint: str) -> Service:
    found = registry.definition("service", name, fingerprint)
    assert isinstance(found, Service)
    return found


def _previous(registry: Registry, name: str, live: str | None) -> str:
    """The version that was in force before the live one."""
    past = registry.history("service", name)
    if live is not None and live in past:
        past = past[: len(past) - past[::-1].index(live)]
    others = [fingerprint for fingerprint in past if fingerprint != live]
    if not others:
        later = [f for f, *_ in _known(registry, name) if f != live]
        if not later:
            raise RegistryError(
                f"service {name!r} has one version alone, {_short(live or '')}, which is live, so "
                "there is none to go back to; change the definitions, and `featurekit apply` them"
            )
        raise RegistryError(
            f"service {name!r} has no version before the one that is live; name a later one, as in "
            f'to="{_short(later[0])}" (on the command line --to {_short(later[0])}): '
            f"{_listed(later)}"
        )
    return others[-1]


def _short(fingerprint: str) -> str:
    return fingerprint[:12]


def _listed(fingerprints: Iterable[str]) -> str:
    return ", ".join(_short(f) for f in fingerprints) or "none"
