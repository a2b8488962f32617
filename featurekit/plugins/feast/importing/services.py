"""Turns Feast's feature services into featurekit's, and gives those views one that had none."""

from __future__ import annotations

from collections import Counter
from typing import Any

from featurekit.plugins.feast.importing.draft import Draft, definition, described, plain_name
from featurekit.plugins.feast.importing.python_text import Part, call, listed, mapping, text
from featurekit.plugins.feast.importing.told import Told

_ALONE = "No feature service of Feast's has it; here a service keeps it filled and answers for it."


def note_shared_names(draft: Draft) -> None:
    """Find the features' names that two views of one service have, so that functions read them by
    their full names."""
    for service in draft.repo.contents.feature_services:
        names = Counter(
            draft.views[view].names[f.name]
            for view, fields in _views_of(draft, service).items()
            for f in fields
            if f.name in draft.views[view].names
        )
        draft.taken_twice |= {name for name, number in names.items() if number > 1}


def _views_of(draft: Draft, service: Any) -> dict[str, Any]:
    """The views that a service reads, through on-demand views as well, with all their features."""
    on_demand = {v.name: v for v in draft.repo.contents.on_demand_feature_views}
    found = {}
    for projection in service.feature_view_projections:
        inner = on_demand.get(projection.name)
        sources = inner.source_feature_view_projections.values() if inner else [projection]
        for one in sources:
            if one.name in draft.views:
                view = next(v for v in draft.repo.views if v.name == one.name)
                found[one.name] = view.features
    return found


def draft_services(draft: Draft) -> None:
    """Draft each service, and one for each view that none has."""
    names = set()
    used: set[str] = set()
    for service in draft.repo.contents.feature_services:
        told = draft.report.about("service", service.name)
        name = plain_name(service.name)
        names.add(name.lower())
        if name != service.name:
            told.changed(f"it is called `{name}` here")
        used |= {projection.name for projection in service.feature_view_projections}
        _service(draft, service, name, told)
    for view in (*draft.views, *draft.on_demand):
        if view not in used:
            name = plain_name(view)
            name = name if name.lower() not in names else f"{name}_alone"
            items = _Items(draft)
            items.take(view, None, "", {})
            part = items.part(name, None)
            draft.services.append((draft.variable(name, "service"), part, _ALONE))


def _service(draft: Draft, service: Any, name: str, told: Told) -> None:
    items = _Items(draft)
    for ref in service._pending_feature_refs:
        told.lost(f"it names {ref!r} as a text", "name the view, as in features=[driver_stats]")
    for projection in service.feature_view_projections:
        wanted = [f.name for f in projection.features] or list(projection.desired_features)
        role = projection.name_alias or ""
        items.take(projection.name, wanted or None, role, projection.join_key_map or {}, told)
        if role:
            told.changed(f"features of {role!r} are called `{plain_name(role)}__…` in its rows")
    if service.logging_config is not None:
        told.changed(
            "what is served is logged where the settings say",
            "write `serving_log:` under `featurekit:` (docs/monitoring.md)",
        )
    if not items.shown:
        told.lost("none of its features came over", "see the views")
        return
    twice = sorted(n for n, number in Counter(items.names).items() if number > 1)
    if twice:
        told.changed(f"{', '.join(twice)} of several views are called `view__feature` in its rows")
    told.here = draft.variable(name, "service")
    draft.services.append((told.here, items.part(name, service), ""))


class _Items:
    """The features of one service while they are collected."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.shown: list[Part | str] = []
        self.read: list[str] = []
        self.views: set[str] = set()
        self.names: list[str] = []
        self.request: dict[str, str] = {}

    def take(
        self,
        view: str,
        wanted: list[str] | None,
        role: str,
        join_keys: dict[str, str],
        told: Told | None = None,
    ) -> None:
        """Take a view or an on-demand view, or some of its features."""
        if view in self.draft.on_demand:
            self._on_demand(view, wanted)
        elif view in self.draft.views:
            self._view(view, wanted, role, join_keys)
        elif told is not None:
            told.lost(f"its view {view!r} did not come over", "see that view")

    def _view(
        self, view: str, wanted: list[str] | None, role: str, join_keys: dict[str, str]
    ) -> None:
        made = self.draft.views[view]
        chosen = [made.names[n] for n in wanted or made.names if n in made.names]
        if not chosen:
            return
        shown: Part | str = made.variable
        if role:
            keys = mapping({k: text(v) for k, v in join_keys.items()}) if join_keys else None
            shown = call(f"{made.variable}.as_", text(plain_name(role)), join_keys=keys)
        else:
            self.views.add(view)
            self.names += chosen
        if len(chosen) < len(made.names):
            listed_ = ", ".join(map(text, chosen))
            if isinstance(shown, Part):
                shown = f"{_one(shown)}[[{listed_}]]"
            else:
                shown = f"{shown}[[{listed_}]]"
        self.shown.append(shown)

    def _on_demand(self, view: str, wanted: list[str] | None) -> None:
        made = self.draft.on_demand[view]
        prefix = f"{made.module}." if made.module else ""
        names = [n for n in wanted or made.outputs if n in made.outputs]
        self.shown += [f"{prefix}{made.outputs[n]}" for n in names]
        self.read += [one for one in made.reads if one not in self.read]
        self.request |= made.request

    def part(self, name: str, service: Any) -> Part:
        """The definition. A view that only functions read is chosen without features."""
        hidden = [f"{self.draft.views[v].variable}[[]]" for v in self.read if v not in self.views]
        return definition(
            "FeatureService",
            name,
            features=listed([*hidden, *self.shown]),
            request=mapping(self.request) if self.request else None,
            **(described(service) if service is not None else {}),
        )


def _one(part: Part) -> str:
    from featurekit.plugins.feast.importing.python_text import rendered

    return rendered(part)
