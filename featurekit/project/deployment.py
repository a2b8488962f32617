"""Which versions of services an online store serves, and which wait for their backfill.

A service's new version is published as `next`, beside the old one; pushes feed the states of both.
Once all its views are materialised it becomes `live`, by one write that readers notice within their
next request (F1). The version that it replaces is `retained`: it is still fed, so one write makes
it live again. A service has one retained version, until `gc` releases it or another takes its
place.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from featurekit.core.keys import clock_key, names_key, project_key
from featurekit.core.waiting import until
from featurekit.define.plan import Service, View
from featurekit.define.published import (
    Signer,
    Trust,
    differing,
    look_at,
    mismatch,
    numerics_of,
    plan_bytes,
    read_plan,
)
from featurekit.errors import NotServed, OnlineError, PlanRefused
from featurekit.online.store.marks import (
    Filled,
    carried,
    carried_key,
    damaged,
    damaged_key,
    filled,
    filled_key,
    version_of,
    written_carried,
    written_damaged,
    written_filled,
)
from featurekit.online.store.notes import (
    lost_version,
    name_of,
    numbers,
    read_number,
    read_object,
    read_version,
    write_object,
)
from featurekit.online.store.protocol import Health, OnlineStore
from featurekit.project.died import whole, whole_key, written_whole
from featurekit.project.leases import settled_until

POINTERS = ("live", "next", "retained")
"""The pointers to the versions of a service that are fed; "next" equals "live" where none waits."""
PINNED = "pinned"
"""In the place of a pointer: the versions that are pinned, of which a service may have many."""
FED = (*POINTERS, PINNED)

_POLL_S, _PATIENCE_S = 0.05, 60.0


def publish(
    store: OnlineStore, project: str, service: Service, *, signer: Signer | None = None
) -> None:
    """As `publish_all`, of one service."""
    publish_all(store, project, [service], signer=signer)


def publish_all(
    store: OnlineStore, project: str, services: Sequence[Service], *, signer: Signer | None = None
) -> None:
    """Publish a version of each service, signed where there is a `signer` (F0). It becomes live
    once its views are materialised, which is at once where they are already.

    What is fed is read a few times in all, and not for each service: so the time grows with their
    number alone.
    """
    if not services:
        return
    store.stamp(clock_key(project))  # raises, where the one below would, before anything is written
    keys = [project_key(project, "plan", s.name, s.fingerprint) for s in services]
    plans = {k: plan_bytes(s, signer=signer) for k, s in zip(keys, services, strict=True)}
    before = store.read(keys)
    for plan in filter(None, before):
        with suppress(PlanRefused):
            told = mismatch(plan)
            if told is not None:
                warnings.warn(told, stacklevel=3)
    for plan in plans.values():
        look_at(plan)  # what readers would refuse is not published
    store.write(plans)  # first: a damaged copy of one could not be read below
    # A run that ended after its version was released may have left a mark, which is void.
    forget_unfed(store, project)
    waiting = {project_key(project, "next", s.name): s.fingerprint.encode() for s in services}
    store.write({**plans, **waiting})
    # Where the plan was another platform's, the states have that one's bits (R6).
    others = [
        view
        for service, key, plan in zip(services, keys, before, strict=True)
        if plan is not None and _numerics(plan) != numerics_of(plans[key])
        for view in service.fed
    ]
    missed(store, project, others)
    names = {service.name: 1 for service in services}
    change_numbers(store, names_key(project), lambda known: {**known, **names})
    published = b"%d" % store.stamp(clock_key(project))
    store.write({published_key(project): published})
    forget_unfed(store, project)
    promote(store, project)


def publishing_keys(project: str, services: Sequence[Service]) -> list[bytes]:
    """The keys that `publish` writes for these services, and that change as they go live."""
    plans = [project_key(project, "plan", s.name, s.fingerprint) for s in services]
    places = [project_key(project, kind, s.name) for s in services for kind in POINTERS]
    index = [names_key(project), published_key(project), turned_key(project), until_key(project)]
    marks = [filled_key(project), damaged_key(project), pins_key(project)]
    return [*plans, *places, *index, *marks]


def mend(
    store: OnlineStore,
    project: str,
    compiled: Callable[[str, str], Service | None],
    *,
    signer: Signer | None = None,
) -> None:
    """Write the plans that pointers name and that are damaged or lost anew, where `compiled` has
    the version of a name and a fingerprint. Which platform filled their states is unknown then, so
    these must be materialised again before they are made live (R6)."""
    for key, plan in plans(store, project, *FED).items():
        name, fingerprint = key.decode().split(":")[-2:]
        try:
            found = None if plan is None else look_at(plan)
            if found is not None and (found.name, found.fingerprint) == (name, fingerprint):
                continue
        except PlanRefused:
            pass
        service = compiled(name, fingerprint)
        if service is not None:
            store.write({key: plan_bytes(service, signer=signer)})
            missed(store, project, service.fed)


def _numerics(plan: bytes) -> Any:
    """The numeric fingerprint of a plan; None for one that is damaged."""
    try:
        return numerics_of(plan)
    except PlanRefused:
        return None


def published_key(project: str) -> bytes:
    """The key of the instant at which a version was last published."""
    return project_key(project, "published")


def turned_key(project: str) -> bytes:
    """The key of a text that is another one after each version that went live, for who reads what
    is live of all services."""
    return project_key(project, "turned")


def step_back(store: OnlineStore, project: str, now: int) -> None:
    """Leave instants behind that lie after `now`, where the clock was restarted: up to when views
    are filled, and when versions were published."""
    found = store.read([published_key(project)])[0]
    if read_number("published", found) > now:
        store.write({published_key(project): b"%d" % now})
    change_numbers(
        store, until_key(project), lambda known: {v: min(t, now) for v, t in known.items()}
    )


def settled_for_first(store: OnlineStore, project: str, source: str) -> int:
    """As `settled_until` for a source's pushes, for views that were never materialised.

    A push that was announced before the views were published may not feed them. So this waits for
    it: the interval of the run must cover its arrival.
    """
    found = store.read([published_key(project)])[0]
    published = read_number("published", found)
    return until(
        lambda: settled_until(store, project, source),
        # Pushes that are stamped later were announced later.
        holds=lambda until: until >= published - 1,
        within_s=_PATIENCE_S,
        every_s=_POLL_S,
        or_say=lambda _: OnlineError(
            f"a push to source {source!r} began before a version was published, and does not feed "
            "it; run this again when the push is over (`featurekit unlock` shows whose it is)"
        ),
    )


def pins_key(project: str) -> bytes:
    """The key of what says which versions of services are pinned: an object from
    "service:fingerprint" to 1."""
    return project_key(project, "pins")


def pinned_versions(value: bytes | None) -> list[tuple[str, str]]:
    """The pinned versions, as names and fingerprints, from the value under `pins_key`."""
    found = read_object("pins", value, numbers)
    return [(name, fingerprint) for name, _, fingerprint in (v.partition(":") for v in found)]


def remove_pointers(store: OnlineStore, project: str, keys: Sequence[bytes]) -> None:
    """Remove pointers to versions. Who follows what is live of all services reads it again."""
    store.delete(keys)
    store.write({turned_key(project): _another()})  # after it, so that nobody reads what was there


def _another() -> bytes:
    """A text that was never there."""
    return secrets.token_hex(8).encode()


def withdraw(store: OnlineStore, project: str, name: str) -> None:
    """Stop serving a service."""
    remove_pointers(store, project, [project_key(project, kind, name) for kind in POINTERS])
    change_numbers(
        store, names_key(project), lambda names: {n: v for n, v in names.items() if n != name}
    )
    forget_unfed(store, project)


def _read(store: OnlineStore, key: bytes) -> dict[str, int]:
    return _numbers(key, store.read([key])[0])


def _numbers(key: bytes, value: bytes | None) -> dict[str, int]:
    return read_object(name_of(key), value, numbers)


def service_names(project: str, value: bytes | None) -> list[str]:
    """The services' names, from the value under `names_key`. DamagedNote where it is damaged."""
    return sorted(_numbers(names_key(project), value))


def _services(
    store: OnlineStore,
    project: str,
    *kinds: str,
    trust: Trust | None = None,
    on_mismatch: str = "warn",
) -> list[Service]:
    """The versions that pointers of these kinds name, each once, in the order of the kinds.

    Without a `trust` they are only looked at, and nothing of them may be run. DamagedNote where a
    version has no plan: who left it out would miss what it is to be fed with."""
    found = _present(lambda: plans(store, project, *kinds))
    return [_service(k, p, trust, on_mismatch) for k, p in found.items()]


def fed_plans(
    store: OnlineStore, project: str, seen: dict[bytes, bytes | None]
) -> dict[bytes, Service]:
    """The versions that are fed, only looked at, by the keys of their plans. `seen` gets every key
    that says so, with its value."""

    def found() -> dict[bytes, bytes | None]:
        seen.clear()
        return plans(store, project, *FED, seen=seen)

    return {key: _service(key, plan, None, "warn") for key, plan in _present(found).items()}


def change_numbers(
    store: OnlineStore, key: bytes, change: Callable[[dict[str, int]], dict[str, int]]
) -> None:
    """Change a small object of numbers in one transaction."""

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        return [write_object(name_of(key), change(_numbers(key, values[0])))]

    store.update([key], changed)


def _present(read: Callable[[], dict[bytes, bytes | None]]) -> dict[bytes, bytes]:
    """The plans that `read` reads, by key. DamagedNote where one is not there, and still is not
    when it is read again: a version may have been released meanwhile."""
    lost: set[bytes] = set()
    while True:
        found = read()
        again = lost & {key for key, plan in found.items() if plan is None}
        if again:
            name, fingerprint = min(again).decode().split(":")[-2:]
            raise lost_version(name, fingerprint)
        lost = {key for key, plan in found.items() if plan is None}
        if not lost:
            return {key: plan for key, plan in found.items() if plan is not None}


def _service(key: bytes, plan: bytes, trust: Trust | None, on_mismatch: str) -> Service:
    """The service in the plan under a key. PlanRefused, which names the key, where it is no plan,
    or not one that `trust` believes."""
    name, fingerprint = key.decode().split(":")[-2:]
    try:
        if trust is None:
            return look_at(plan)
        return read_plan(plan, trust=trust, place=(name, fingerprint), on_mismatch=on_mismatch)
    except PlanRefused as error:
        raise PlanRefused(f"{key.decode()}: {error}") from None


def owner_key(project: str) -> bytes:
    """The key that says which registry the project's keys belong to."""
    return project_key(project, "registry")


def plans(
    store: OnlineStore, project: str, *kinds: str, seen: dict[bytes, bytes | None] | None = None
) -> dict[bytes, bytes | None]:
    """The plans that pointers of these kinds name, by key. Every key that was read is added to
    `seen`, with its value."""
    read: dict[bytes, bytes | None] = {} if seen is None else seen

    def values(keys: Sequence[bytes]) -> Sequence[bytes | None]:
        found = store.read(keys)
        read.update(zip(keys, found, strict=True))
        return found

    index = [names_key(project), *([pins_key(project)] if PINNED in kinds else [])]
    listed, *pinned = values(index)
    names = service_names(project, listed)
    places = [(kind, name) for kind in kinds if kind != PINNED for name in names]
    found = values([project_key(project, kind, name) for kind, name in places])
    versions = {
        (name, read_version(f"{kind}:{name}", pointer)): None
        for (kind, name), pointer in zip(places, found, strict=True)
        if pointer
    }
    versions |= dict.fromkeys(version for value in pinned for version in pinned_versions(value))
    keys = [project_key(project, "plan", *version) for version in versions]
    return dict(zip(keys, values(keys), strict=True))


def live_services(
    store: OnlineStore, project: str, *, trust: Trust | None = None
) -> dict[str, Service]:
    """The services that lookups are answered from, by name. Without a `trust` they are only looked
    at, and nothing of them may be run (F0)."""
    found = _services(store, project, "live", trust=trust)
    return {service.name: service for service in found}


def pointers(store: OnlineStore, project: str, name: str) -> dict[str, str]:
    """The fingerprints of a service's versions that are fed, by pointer; an absent pointer is left
    out."""
    values = store.read([project_key(project, kind, name) for kind in POINTERS])
    return {
        kind: read_version(f"{kind}:{name}", value)
        for kind, value in zip(POINTERS, values, strict=True)
        if value
    }


def fed_version(store: OnlineStore, project: str, name: str, version: str) -> str:
    """The fingerprint of the version of a service that is fed and that `version` is or begins.
    NotServed where there is none, or several."""
    values = store.read([pins_key(project)])
    of_pins = [one for service, one in pinned_versions(values[0]) if service == name]
    known = list(dict.fromkeys([*pointers(store, project, name).values(), *of_pins]))
    found = [one for one in known if version and one.startswith(version)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(one[:12] for one in known) or "none"
    if found:
        raise NotServed(
            f"{name}@{version} names several versions of service {name!r}; those that are fed are "
            f"{there}"
        )
    raise NotServed(
        f"project {project!r} feeds no version {version!r} of service {name!r}; those that are fed "
        f"are {there}. `featurekit pin {name}@{version or 'FINGERPRINT'} --by …` feeds an older one"
    )


def fed_views(
    store: OnlineStore,
    project: str,
    *,
    trust: Trust | None = None,
    on_mismatch: str = "warn",
) -> list[View]:
    """Every version of a view that pushes and materialisations must feed: those of live, next,
    retained and pinned versions of services.

    FingerprintMismatch where the numeric fingerprint of one differs from this platform's, unless
    `on_mismatch` is "warn" (R6). Without a `trust` they are only looked at, and nothing of them may
    be run (F0).
    """
    found = _services(store, project, *FED, trust=trust, on_mismatch=on_mismatch)
    return _views(found)


def _views(services: Sequence[Service]) -> list[View]:
    found: dict[str, View] = {}
    for service in services:
        for view in service.fed:
            found.setdefault(_version(view), view)
    return list(found.values())


class Fed:
    """As `fed_views`, kept while no byte of the names, pointers and plans in the store changes. A
    push reads these as it announces itself, in the same round trip."""

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        *,
        trust: Trust,
        on_mismatch: str,
        check_owner: Callable[[bytes | None], None] = lambda owned: None,
    ) -> None:
        self.store, self.project = store, project
        self.trust, self.on_mismatch = trust, on_mismatch
        self.check_owner = check_owner
        self.known: tuple[dict[bytes, bytes | None], list[View]] | None = None

    @property
    def keys(self) -> list[bytes]:
        """The keys whose values `views` needs."""
        return [] if self.known is None else list(self.known[0])

    def views(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> list[View]:
        """The views that are fed, where `keys` have these `values` now."""
        known = self.known
        if known is not None and known[0] == dict(zip(keys, values, strict=True)):
            return known[1]
        seen: dict[bytes, bytes | None] = {}

        def found() -> dict[bytes, bytes | None]:
            seen.clear()
            return plans(self.store, self.project, *FED, seen=seen)

        read = _present(found)
        owner = owner_key(self.project)
        (seen[owner],) = self.store.read([owner])
        self.check_owner(seen[owner])
        views = _views([_service(k, p, self.trust, self.on_mismatch) for k, p in read.items()])
        # With a plan of another platform every push has to warn.
        self.known = None if any(map(differing, read.values())) else (seen, views)
        return views


def _version(view: View) -> str:
    return f"{view.name}:{view.fingerprint}"


def until_key(project: str) -> bytes:
    """The key of what says which versions of views are filled, and until when: a JSON object from
    "name:fingerprint" to microseconds UTC."""
    return project_key(project, "until")


def materialized_until(store: OnlineStore, project: str, view: View) -> int | None:
    """The arrival up to which the view's states have everything, in microseconds UTC. None where
    the view was never materialised, or not since it was last not fed."""
    return _read(store, until_key(project)).get(_version(view))


def materialized_marks(store: OnlineStore, project: str) -> Callable[[View], int | None]:
    """As `materialized_until`, as a function of the view; it reads every mark once, now."""
    known = _read(store, until_key(project))
    return lambda view: known.get(_version(view))


def seen_key(project: str, view: View) -> bytes:
    """The key of what the run that filled a view saw of the log (`feed/seen.py`)."""
    return project_key(project, "seen", view.name, view.fingerprint)


def set_materialized(
    store: OnlineStore,
    project: str,
    view: View,
    until: int,
    seen: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Record that the view's states have every arrival up to `until`, and what the run has `seen`
    of the log. A run up to an earlier instant than the last one leaves both as they are."""
    set_all_materialized(store, project, [view], until, seen)


def set_all_materialized(
    store: OnlineStore,
    project: str,
    views: Sequence[View],
    until: int,
    seen: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """As `set_materialized`, of several views."""
    marks, keys = until_key(project), [seen_key(project, view) for view in views]
    noted = [write_object(name_of(key), seen) if seen else b"" for key in keys]

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        known = _numbers(marks, values[0])
        later = [known.get(_version(view), until) <= until for view in views]
        new = {_version(v): until for v, goes in zip(views, later, strict=True) if goes}
        written = [note if goes else None for note, goes in zip(noted, later, strict=True)]
        return [write_object(name_of(marks), {**known, **new}) if new else None, *written]

    store.update([marks, *keys], changed)


def forget_unfed(store: OnlineStore, project: str) -> None:
    """Remove the marks of versions that are no longer fed. They miss pushes from now on, so a
    version that comes back must be materialised again before it serves."""
    fed = {_version(view) for view in fed_views(store, project)}
    change_numbers(
        store, until_key(project), lambda known: {v: t for v, t in known.items() if v in fed}
    )
    _forget_marks(store, project, fed)


def _forget_marks(store: OnlineStore, project: str, fed: set[str]) -> None:
    """Remove what was noted of versions that are no longer fed."""
    keys = [filled_key(project), damaged_key(project), carried_key(project), whole_key(project)]
    fills, broken, numbers, wholes = store.read(keys)
    if {*filled(fills), *damaged(broken), *carried(numbers), *whole(wholes)} <= fed:
        return

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        left: list[tuple[Callable[[Any], bytes], Mapping[str, Any]]] = [
            (written_filled, filled(values[0])),
            (written_damaged, damaged(values[1])),
            (written_carried, carried(values[2])),
            (written_whole, whole(values[3])),
        ]
        return [
            None if value is None else written({v: m for v, m in marks.items() if v in fed})
            for value, (written, marks) in zip(values, left, strict=True)
        ]

    store.update(keys, changed)


def damage(store: OnlineStore, project: str, views: Sequence[View], why: str) -> None:
    """Record that the server lost states of these views, or may have: lookups refuse them until
    each is filled again, from everything."""
    mark = {"why": why, "at": store.now_us()}

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        return [written_damaged({**{version_of(v): mark for v in views}, **damaged(values[0])})]

    store.update([damaged_key(project)], changed)
    missed(store, project, views)


def set_filled(
    store: OnlineStore, project: str, view: View, health: Health, began: int, *, whole: bool
) -> int:
    """Record that a run that began at `began` has filled the view, when the server was as `health`
    says; the number of its fills. Where it was filled from the `whole` of files and log, damage
    that was seen before is over."""
    version, number = version_of(view), 0

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        nonlocal number
        fills, broken = filled(values[0]), dict(damaged(values[1]))
        number = fills[version].number + 1 if version in fills else 1
        mark = Filled(number, health.run, health.evicted, health.policy)
        if not whole and version in fills:
            mark = replace(fills[version], number=number)
        if whole and version in broken and broken[version]["at"] <= began:
            del broken[version]
        left = None if values[1] is None else written_damaged(broken)
        return [written_filled({**fills, version: mark}), left]

    store.update([filled_key(project), damaged_key(project)], changed)
    return number


def missed(store: OnlineStore, project: str, views: Sequence[View]) -> None:
    """Record that these views missed rows that others were fed with: each must be materialised
    again before it goes live."""
    versions = {_version(view) for view in views}
    if versions and versions & _read(store, until_key(project)).keys():
        change_numbers(
            store,
            until_key(project),
            lambda known: {v: t for v, t in known.items() if v not in versions},
        )


def promote(store: OnlineStore, project: str) -> list[str]:
    """Make every waiting version live whose views are all materialised; the names of these
    services."""
    waiting = _services(store, project, "next")
    done = _go_live(store, project, waiting)
    if done:
        forget_unfed(store, project)
    return done


def _go_live(store: OnlineStore, project: str, services: Sequence[Service]) -> list[str]:
    """Make waiting versions live, and retain those that were, in one write; the names of the
    services that turned. The write fails if the views are not all materialised at that moment,
    whatever was published or missed meanwhile."""
    turned: list[str] = []

    def turn(values: list[bytes | None]) -> list[bytes | None]:
        turned.clear()
        known = _numbers(until_key(project), values[-2]).keys()
        written: list[bytes | None] = []
        for i, service in enumerate(services):
            live, waiting, _ = values[3 * i : 3 * i + 3]
            mine = service.fingerprint.encode()
            if waiting == mine != live and {_version(view) for view in service.fed} <= known:
                turned.append(service.name)
                written += [mine, None, live]
            else:
                written += [None] * 3
        return [*written, None, _another() if turned else None]

    if services:
        keys = [project_key(project, kind, s.name) for s in services for kind in POINTERS]
        store.update([*keys, until_key(project), turned_key(project)], turn)
    return turned


def release_retained(store: OnlineStore, project: str) -> None:
    """Stop retaining versions."""
    names = _read(store, names_key(project))
    store.delete([project_key(project, "retained", name) for name in names])
    forget_unfed(store, project)
