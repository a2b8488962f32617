"""Skews of aggregates by categories; they join the catalogue of `skews`."""

from __future__ import annotations

from typing import Any

from featurekit.aggregates.by_category import ByCategory
from featurekit.offline import by_category as offline
from featurekit.online.state import inputs as online
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]


def online_pairs(patch: Patch, change: Any) -> None:
    """Change the pairs of categories and inputs that a lookup takes."""
    patch.setattr(online, "_by_category", _changed(online._by_category, change))


def _changed(made: Any, change: Any) -> Any:
    return lambda *about: change(made(*about))


def found_online(patch: Patch, change: Any) -> None:
    """Change the dict of every category that a lookup finds."""
    own = ByCategory.over
    offline_own = _changed(own, lambda found: found)
    patch.setattr(ByCategory, "over", lambda self, xs, item: change(own(self, xs, item)))
    wrapped(patch, offline, "_aggregate", lambda made, text: _kept(made(text), offline_own))


class _kept:
    """An aggregate that is not changed."""

    def __init__(self, one: ByCategory, over: Any) -> None:
        self.one, self.inner, self._over = one, one.inner, over

    def over(self, xs: Any, item: Any) -> Any:
        return self._over(self.one, xs, item)

    def as_of(self, found: Any, t: int) -> Any:
        return self.one.as_of(found, t)


@skew("online", "tie", "categories")
def categories_by_value_alone_online(patch):
    found_online(patch, lambda found: dict(sorted(found.items())))


@skew("online", "tie", "categories")
def categories_of_one_count_as_they_come_online(patch):
    def over(self: Any, xs: Any, item: Any) -> Any:
        given: dict[Any, list[Any]] = {}
        for category, x in xs:
            given.setdefault(category, []).append(x)
        order = sorted(given, key=lambda category: -len(given[category]))
        return {category: self.inner.over(given[category], item) for category in order}

    own = ByCategory.over
    patch.setattr(ByCategory, "over", over)
    wrapped(patch, offline, "_aggregate", lambda made, text: _kept(made(text), own))


@skew("online", "aggregate", "categories")
def the_last_event_of_a_category_left_out_online(patch):
    online_pairs(patch, lambda pairs: pairs[:-1])


@skew("offline", "tie", "categories")
def inputs_of_a_category_in_no_order_offline(patch):
    patch.setattr(offline, "itemgetter", lambda name: lambda entry: -entry[name])


@skew("offline", "aggregate", "categories")
def the_first_taken_before_those_that_are_none_offline(patch):
    def over(self: Any, xs: Any, item: Any) -> Any:
        found = ByCategory.over(self, xs, item)
        return dict([*found.items()][: self.most or 2])

    wrapped(patch, offline, "_aggregate", lambda made, text: _kept(made(text), over))
