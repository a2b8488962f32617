"""Turns a repo's definitions into versions in force: `plan` shows the changes, `apply` records
them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from featurekit.core.keys import clock_key
from featurekit.core.types import INSTANT_MIN, instant
from featurekit.define.definitions import FeatureService, FeatureView
from featurekit.define.deprecated import each_of
from featurekit.define.plan import Service, View
from featurekit.define.proven import warn_unproven
from featurekit.define.published import Signer
from featurekit.define.repo import Repo
from featurekit.errors import BreakingChange, OnlineError, RegistryError
from featurekit.project.about import note_about
from featurekit.project.deployment import (
    fed_views,
    live_services,
    materialized_marks,
    promote,
    publish_all,
    set_all_materialized,
    settled_for_first,
    withdraw,
)
from featurekit.project.leases import WHOLE, alone
from featurekit.project.pins import feed_pinned, refuse_unreadable, release_expired
from featurekit.project.project import Project
from featurekit.project.registry import Change, Definition
from featurekit.project.restore import restore
from featurekit.project.rights import check_may_publish


def plan(project: Project) -> list[Change]:
    """What `apply` would change; nothing is written. UnprovenEngine warns of a version of DuckDB
    that was not proven."""
    warn_unproven(project.state_dir)
    return project.registry.plan(_definitions(project.repo))


def apply(project: Project, *, allow_breaking: bool = False) -> list[Change]:
    """Record the definitions as the current versions, and publish the services; the changes made.

    RegistryError, with nothing applied, where the repo lacks a view or source that a service's live
    version uses until its successor is filled, or defines a source otherwise than a pinned version
    reads it, and BreakingChange where a service's callers would
    break, unless that is allowed. ClocksApart where the store's clock cannot be right,
    EvictingStore where Redis may remove states, and StoreUnavailable where this user may not
    publish.
    """
    definitions = _definitions(project.repo)
    with project.audit.doing("apply", {"allow_breaking": allow_breaking}) as found:
        changes = _apply(project, definitions, allow_breaking=allow_breaking)
        found["changes"] = [
            {"action": c.action, "kind": c.kind, "name": c.name, "old": c.old, "new": c.new}
            for c in changes
        ]
    return changes


def _apply(
    project: Project, definitions: Sequence[Definition], *, allow_breaking: bool
) -> list[Change]:
    online = project.online
    project.refuse_eviction()
    project.claim()
    signer = project.signer()
    restore(online, project.name, partial(_compiled, project), signer=signer)
    project.marks.check(fed_views(online, project.name, on_mismatch="accept"))
    services = list(project.repo.compiled_services.values())
    check_may_publish(online, project.name, services)
    # One at a time, so that the registry and the store have the versions of the same one in force.
    with alone(online, project.name, WHOLE, "apply"):
        return _apply_alone(project, definitions, services, signer, allow_breaking=allow_breaking)


def _apply_alone(
    project: Project,
    definitions: Sequence[Definition],
    services: Sequence[Service],
    signer: Signer | None,
    *,
    allow_breaking: bool,
) -> list[Change]:
    online = project.online
    _refuse_removal(project)
    release_expired(project)
    refuse_unreadable(project)
    if not allow_breaking:
        _refuse_breaking(project.registry.plan(definitions))
    online.stamp(clock_key(project.name))  # raises, where publishing would, before the record
    project.marks.name_store()
    changes = project.registry.apply(definitions)
    project.record()
    publish_all(online, project.name, services, signer=signer)
    feed_pinned(project)
    note_about(online, project.name, project.repo, instant(project.now()))
    for change in changes:
        if change.kind == "service" and change.action == "remove":
            withdraw(online, project.name, change.name)
    _fill_from_nothing(project)
    return changes


def _fill_from_nothing(project: Project) -> None:
    """Let services go live whose sources have nothing yet: to have no states is a valid fill.

    The views count as filled from the beginning of time on, so that an incremental materialisation
    reads all of a file that comes later.
    """
    online = project.online
    filled_until = materialized_marks(online, project.name)
    by_sources: dict[tuple[str, ...], list[View]] = {}
    for view in project.fed(on_mismatch="warn"):  # of whatever platform: this one publishes
        if project.readable(view) and project.unfilled(view) and filled_until(view) is None:
            by_sources.setdefault(view.source_names, []).append(view)
    filled: list[View] = []
    for sources, views in by_sources.items():
        try:
            for source in sources:
                settled_for_first(online, project.name, source)
        except OnlineError:  # a push is under way and lasts: `materialize` waits for it
            continue
        filled += [view for view in views if project.unfilled(view)]
    if filled:
        set_all_materialized(online, project.name, filled, INSTANT_MIN)
        # Without states, nothing that is forgotten is in them.
        project.marks.carried(filled, project.registry.tombstones(), only_new=True)
        promote(online, project.name)


def _definitions(repo: Repo) -> list[Definition]:
    """What the repo defines, in the form that the registry records."""
    wanted: list[tuple[View | Service, FeatureView | FeatureService]] = [
        *((v, repo.views[n]) for n, v in repo.compiled_views.items()),
        *((s, repo.services[n]) for n, s in repo.compiled_services.items()),
    ]
    return [Definition(value, _about(written)) for value, written in wanted]


def _about(written: FeatureView | FeatureService) -> dict[str, Any]:
    """What an author says of a definition."""
    deprecated = {name: one.about for name, one in each_of(written.deprecated).items()}
    return {
        "description": written.description,
        "owner": written.owner,
        "tags": dict(written.tags),
        **({"deprecated": deprecated} if deprecated else {}),
    }


def _refuse_breaking(changes: Sequence[Change]) -> None:
    broken = [f"service {c.name!r}: {what}" for c in changes for what in c.breaking]
    if broken:
        raise BreakingChange(
            "nothing was applied, for this breaks who calls "
            + "; ".join(broken)
            + ". Put it back, give the new service another name, or allow it: `featurekit apply "
            "--allow-breaking`, store.apply(allow_breaking=True)"
        )


def _compiled(project: Project, name: str, fingerprint: str) -> Service | None:
    """A version of a service, from the repo or the registry; None where neither has it."""
    defined = project.repo.compiled_services.get(name)
    if defined is not None and defined.fingerprint == fingerprint:
        return defined
    try:
        return project.registry.runnable(name, fingerprint)
    except RegistryError:
        return None


def _refuse_removal(project: Project) -> None:
    """RegistryError where the repo lacks something that a live service needs, and the service's
    next version is not live yet."""
    repo = project.repo
    until = materialized_marks(project.online, project.name)
    for name, live in live_services(project.online, project.name).items():
        wanted = repo.compiled_services.get(name)
        if wanted is None or wanted.fingerprint == live.fingerprint:
            continue  # the service is withdrawn, or stays
        if all(until(view) is not None for view in wanted.fed):
            continue  # the live version is replaced at once
        for view in live.fed:
            for kind, what, there in (
                ("view", view.name, view.name in repo.views),
                *(("source", one, one in repo.sources) for one in view.source_names),
            ):
                if not there:
                    raise RegistryError(
                        f"the repo defines no {kind} {what!r} any more, and the live version "
                        f"of service {name!r} still uses it; nothing was applied. Put it back, "
                        "apply, materialise, and remove it when the new version is live"
                    )
