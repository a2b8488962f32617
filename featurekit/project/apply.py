"""Turns a repo's definitions into versions in force: `plan` shows the changes, `apply` records
them."""

from __future__ import annotations

from typing import Any

from featurekit.define.plan import Service, View
from featurekit.define.proven import warn_unproven
from featurekit.define.repo import Repo
from featurekit.errors import RegistryError
from featurekit.project.deployment import materialized_until, publish, withdraw
from featurekit.project.project import Project
from featurekit.project.registry import Change, Definition


def plan(project: Project) -> list[Change]:
    """What `apply` would change; nothing is written. UnprovenEngine warns of a version of DuckDB
    that was not proven."""
    warn_unproven(project.state_dir)
    return project.registry.plan(_definitions(project.repo))


def apply(project: Project) -> list[Change]:
    """Record the definitions as the current versions, and publish the services; the changes made.

    RegistryError, with nothing applied, where the repo lacks a view or source that a service's live
    version uses until its successor is filled. EvictingStore where Redis may remove states.
    """
    definitions = _definitions(project.repo)
    online = project.online
    project.refuse_eviction()
    _refuse_removal(project)
    project.marks.name_store()
    changes = project.registry.apply(definitions)
    for service in project.repo.compiled_services.values():
        publish(online, project.name, service)
    for change in changes:
        if change.kind == "service" and change.action == "remove":
            withdraw(online, project.name, change.name)
    return changes


def _definitions(repo: Repo) -> list[Definition]:
    """What the repo defines, in the form that the registry records."""
    wanted: list[tuple[View | Service, Any]] = [
        *((v, repo.views[n]) for n, v in repo.compiled_views.items()),
        *((s, repo.services[n]) for n, s in repo.compiled_services.items()),
    ]
    return [
        Definition(
            value,
            {
                "description": written.description,
                "owner": written.owner,
                "tags": dict(written.tags),
            },
        )
        for value, written in wanted
    ]


def _refuse_removal(project: Project) -> None:
    """RegistryError where the repo lacks something that a live service needs, and the service's
    next version is not live yet."""
    repo = project.repo
    for name, live in project.live().items():
        wanted = repo.compiled_services.get(name)
        if wanted is None or wanted.fingerprint == live.fingerprint:
            continue  # the service is withdrawn, or stays
        until = [materialized_until(project.online, project.name, v) for v in wanted.views]
        if None not in until:
            continue  # the live version is replaced at once
        for view in live.views:
            for kind, what, there in (
                ("view", view.name, view.name in repo.views),
                ("source", view.source.name, view.source.name in repo.sources),
            ):
                if not there:
                    raise RegistryError(
                        f"the repo defines no {kind} {what!r} any more, and the live version "
                        f"of service {name!r} still uses it; nothing was applied. Put it back, "
                        "apply, materialise, and remove it when the new version is live"
                    )
