"""Pins: versions of services that stay fed for as long as something needs them, whatever is live.

The registry has who needs which version and until when. The online store has which versions that
are, for who pushes and fills (`fk:PROJECT:pins`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.core.attributes import Named
from featurekit.core.keys import clock_key, project_key
from featurekit.core.types import Instant, as_instant, instant
from featurekit.core.who import user
from featurekit.define.plan import Service, View
from featurekit.define.published import Signer, look_at, plan_bytes
from featurekit.errors import OnlineError, RegistryError
from featurekit.online.store.marks import version_of
from featurekit.online.store.notes import numbers, read_object, write_object
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import (
    change_numbers,
    fed_plans,
    forget_unfed,
    materialized_marks,
    pinned_versions,
    pins_key,
    published_key,
    until_key,
)
from featurekit.project.leases import WHOLE, alone
from featurekit.project.project import Project
from featurekit.project.registry import Pin
from featurekit.project.versions import check_readable, resolved


@dataclass(frozen=True, slots=True)
class Pinned(Named):
    """A version that was pinned. It can be asked at once where `unfilled` is empty; else when
    `materialize` has filled these views."""

    pin: Pin
    unfilled: tuple[str, ...]


def pin(
    project: Project,
    name: str,
    fingerprint: str,
    *,
    by: str,
    owner: str | None,
    until: Instant | None,
) -> Pinned:
    """Pin a version; see `FeatureStore.pin`."""
    online, registry = project.online, project.registry
    service = registry.runnable(name, resolved(registry, name, fingerprint))
    check_readable(service, project.readable)
    now = instant(online.now_us())
    who = user() if owner is None else _written(owner, "owner")
    made = Pin(name, service.fingerprint, _written(by, "by"), who, _end(until, now), now)
    with alone(online, project.name, WHOLE, "pin"):
        registry.pin(made)  # first: what is fed and not recorded would be let go of by `apply`
        project.record()
        unfilled = _feed(online, project.name, service, signer=project.signer())
    return Pinned(made, tuple(view.name for view in unfilled))


def unpin(project: Project, name: str, fingerprint: str | None, *, by: str | None) -> list[Pin]:
    """Take pins away; see `FeatureStore.unpin`."""
    registry = project.registry
    known = [pin for pin in registry.pins() if pin.service == name]
    gone = [
        pin
        for pin in known
        if (fingerprint is None or pin.fingerprint.startswith(fingerprint)) and by in (None, pin.by)
    ]
    if not gone:
        asked = name if fingerprint is None else f"{name}@{fingerprint}"
        asked += "" if by is None else f" by {by}"
        there = ", ".join(map(str, known or registry.pins())) or "no pins"
        raise RegistryError(f"{asked} is not pinned; there are {there}")
    with alone(project.online, project.name, WHOLE, "unpin"):
        _let_go(project, gone)
    return gone


def release_expired(project: Project) -> list[Pin]:
    """Take away the pins that have come to their end; who calls it holds what is in force alone."""
    now = instant(project.online.now_us())
    gone = [pin for pin in project.registry.pins() if pin.expired(now)]
    if gone:
        _let_go(project, gone)
    return gone


def expired(project: Project) -> list[Pin]:
    """The pins that have come to their end, and hold until the next `gc` or `apply`."""
    now = instant(project.online.now_us())
    return [pin for pin in project.registry.pins() if pin.expired(now)]


def standing(project: Project, service: str, fingerprint: str) -> str:
    """How a version of a service stands in the online store: "live"; "pinned by …", which names who
    needs it; "retained", which it is until the next version goes live or `gc --retained`; or
    "gone", where it is not fed or not filled, and cannot be asked."""
    try:
        project.online_service(f"{service}@{fingerprint}").current()
    except OnlineError:
        return "gone"
    live = project.live().get(service)
    if live is not None and live.fingerprint == fingerprint:
        return "live"
    asked = service, fingerprint
    mine = [p.by for p in project.registry.pins() if (p.service, p.fingerprint) == asked]
    return f"pinned by {', '.join(mine)}" if mine else "retained"


def extra_views(project: Project, one: Pin) -> list[str]:
    """The views of a pinned version that the repo defines otherwise now, or no more: what pushes
    and materialisations feed for the pin's sake."""
    service = project.registry.definition("service", one.service, one.fingerprint)
    assert isinstance(service, Service)
    defined = {version_of(view) for view in project.repo.compiled_views.values()}
    return [view.name for view in service.fed if version_of(view) not in defined]


def feed_pinned(project: Project) -> None:
    """Feed the versions that the registry has pinned, and the store does not know of, as after a
    loss. Who calls it holds what is in force alone."""
    online, registry = project.online, project.registry
    pins = registry.pins()
    if not pins:
        return
    known = pinned_versions(online.read([pins_key(project.name)])[0])
    for name, fingerprint in dict.fromkeys((pin.service, pin.fingerprint) for pin in pins):
        if (name, fingerprint) not in known:
            _feed(
                online,
                project.name,
                registry.runnable(name, fingerprint),
                signer=project.signer(),
            )


def refuse_unreadable(project: Project) -> None:
    """RegistryError where a pinned version reads a source otherwise than the repo defines it now:
    it could not be fed any more."""
    pins = project.registry.pins()
    for one in pins:
        service = project.registry.definition("service", one.service, one.fingerprint)
        assert isinstance(service, Service)
        lost = [view.source.title for view in service.fed if not project.readable(view)]
        if lost:
            mine = [p for p in pins if p.fingerprint == one.fingerprint]
            needed = " and ".join(f"{p.by} (owner {p.owner})" for p in mine)
            raise RegistryError(
                f"version {one.fingerprint[:12]} of service {one.service!r} is pinned by "
                f"{needed}, and reads source {lost[0]!r} as it was defined then; the repo defines "
                "it otherwise now, so the version could not be fed. Nothing was applied. Put the "
                "source back and give the new one another name, or take the pin away: "
                f"`featurekit unpin {one.service}@{one.fingerprint[:12]}`"
            )


def _feed(
    store: OnlineStore, project: str, service: Service, *, signer: Signer | None
) -> list[View]:
    """Feed a version from now on, whatever is live; the views that must be materialised before it
    can be asked.

    What is pinned and what is filled is decided by one write. It is tried again where another
    version was published, went live or was released since the decision: the views that nothing fed
    may have missed rows.
    """
    store.stamp(clock_key(project))  # raises, where the one below would, before anything is written
    plan = project_key(project, "plan", service.name, service.fingerprint)
    made = plan_bytes(service, signer=signer)
    look_at(made)  # what readers would refuse is not published
    done = False
    while not done:
        seen: dict[bytes, bytes | None] = {}
        fed = {version_of(v) for s in fed_plans(store, project, seen).values() for v in s.fed}
        written = None if plan in seen else made
        missing = {version_of(view) for view in service.fed} - fed
        guards = [key for key in seen if key not in (pins_key(project), plan)]

        def change(values: list[bytes | None]) -> list[bytes | None]:
            nonlocal done
            done = values[3:] == [seen[key] for key in guards]  # noqa: B023 — called at once
            if not done:
                return [None] * len(values)
            pins = read_object("pins", values[0], numbers)
            filled = read_object("until", values[1], numbers)
            left = {v: t for v, t in filled.items() if v not in missing}  # noqa: B023
            return [
                write_object("pins", {**pins, f"{service.name}:{service.fingerprint}": 1}),
                write_object("until", left) if left != filled else None,
                written,  # noqa: B023
                *[None] * len(guards),  # noqa: B023
            ]

        store.update([pins_key(project), until_key(project), plan, *guards], change)
    # Pushes that were announced before do not feed it, so its first fill waits for them.
    store.write({published_key(project): b"%d" % store.stamp(clock_key(project))})
    filled_until = materialized_marks(store, project)
    return [view for view in service.fed if filled_until(view) is None]


def _let_go(project: Project, pins: Sequence[Pin]) -> None:
    """Take pins away, and feed the versions no more that have no other one."""
    project.registry.unpin(pins)
    project.record()
    left = {f"{pin.service}:{pin.fingerprint}" for pin in project.registry.pins()}
    change_numbers(
        project.online,
        pins_key(project.name),
        lambda known: {version: one for version, one in known.items() if version in left},
    )
    forget_unfed(project.online, project.name)


def _written(text: str, what: str) -> str:
    """Who needs or owns a pin, without space around. RegistryError where nobody is named."""
    if not text.strip() or not text.isprintable():
        raise RegistryError(
            f'pin: {what} is {text!r}; write what needs the version, as in {what}="models:/churn/3"'
        )
    return text.strip()


def _end(until: Instant | None, now: dt.datetime) -> dt.datetime | None:
    """When the pin ends. RegistryError where that is not after now."""
    if until is None:
        return None
    end = as_instant(until, what="until")
    if end <= now:
        raise RegistryError(
            f"pin: until is {end.isoformat()}, and now is {now.isoformat(timespec='seconds')}; "
            "write an instant that is to come, or leave it out for a pin without an end"
        )
    return end
