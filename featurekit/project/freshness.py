"""Says how far behind a project's online store is: up to when its views are filled, and for how
long pushes have been under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from featurekit.core.keys import project_key
from featurekit.define.plan import View
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import materialized_marks


@dataclass(frozen=True, slots=True)
class Freshness:
    """For each view by its name the instant up to which it is filled, in microseconds, of several
    versions the oldest; for each source the age of the oldest push that is under way, in
    microseconds, 0 where there is none. Views that were never filled are left out."""

    filled: Mapping[str, int]
    pushing: Mapping[str, int]


def freshness(store: OnlineStore, project: str, views: Iterable[View]) -> Freshness:
    """How far behind these views are, and the sources that they read. OnlineError where the store
    cannot be asked."""
    listed = list(views)
    mark = materialized_marks(store, project)
    filled: dict[str, int] = {}
    for view in listed:
        until = mark(view)
        if until is not None:
            filled[view.name] = min(until, filled.get(view.name, until))
    now, pushing = store.now_us(), {}
    for source in sorted({name for view in listed for name in view.source_names}):
        begun = [one.since for one in store.announced(project_key(project, "pushes", source))]
        pushing[source] = max(0, now - min(begun, default=now))
    return Freshness(filled, pushing)
