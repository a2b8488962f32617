"""Turns a list of features into the service that it stands for, of what an online store serves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from featurekit.define.listed import listed_service
from featurekit.define.plan import Service, View


def resolved(
    features: Sequence[Any],
    live: Mapping[str, Service],
    fed: Iterable[View],
    filled: Collection[str],
) -> Service:
    """The service that a list stands for, over the versions of views that are `filled`: those of
    the live services, and else those that are fed."""
    views: dict[str, View] = {}
    for view in (v for service in live.values() for v in service.views):
        views.setdefault(view.name, view)
    for view in fed:
        if f"{view.name}:{view.fingerprint}" in filled:
            views.setdefault(view.name, view)
    return listed_service(features, views, live)
