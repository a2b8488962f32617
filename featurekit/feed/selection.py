"""Turns names of views and keys of entities into the views and entities to materialise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.core.calls import near
from featurekit.core.coerce import Misfit, canonical
from featurekit.core.samples import row_in_python, row_in_words
from featurekit.define.plan import View
from featurekit.errors import EntityFrameError, RegistryError


def of_names(views: Sequence[View], names: Sequence[str] | None) -> list[View]:
    """The versions of the named views; all of them without names. RegistryError for an unknown
    name."""
    if names is None:
        return list(views)
    known = dict.fromkeys(view.name for view in views)
    for name in names:
        if name not in known:
            close = near(name, known, listed="there are")
            raise RegistryError(f"no applied view is named {name!r}; {close}")
    return [view for view in views if view.name in names]


def of_entities(
    views: Sequence[View], entities: Sequence[Mapping[str, Any]]
) -> list[list[tuple[Any, ...]]]:
    """For each view, the entities that are given by its join keys, as their values in the order of
    the keys.

    EntityFrameError for an entity whose keys no view has, or for a value of another type.
    """
    found: list[dict[tuple[Any, ...], None]] = [{} for _ in views]
    for number, entity in enumerate(entities):
        where = f"entity {number} (the first is 0)"
        if not isinstance(entity, Mapping):
            raise EntityFrameError(f"{where} is {entity!r}; write {_row(views)}")
        fitting = [i for i, v in enumerate(views) if {p.name for p in v.join_keys} == entity.keys()]
        if not fitting:
            raise EntityFrameError(
                f"{where} has {', '.join(map(str, entity)) or 'no keys'}, and no view has exactly "
                f"these join keys; there are {_keys(views)}; write {_row(views)}, on the command "
                f"line --entity {_row(views, words=True)}"
            )
        for i in fitting:
            found[i][_values(views[i], entity, where)] = None
    return [list(asked) for asked in found]


def _row(views: Sequence[View], *, words: bool = False) -> str:
    """The join keys of an entity, to copy."""
    types = {p.name: p.type for view in views[:1] for p in view.join_keys}
    return row_in_words(types) if words else row_in_python(types)


def _keys(views: Sequence[View]) -> str:
    shown = {f"{v.name} by {', '.join(p.name for p in v.join_keys)}": None for v in views}
    return "; ".join(shown) or "no views"


def _values(view: View, entity: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    values = []
    for param in view.join_keys:
        try:
            values.append(canonical(entity[param.name], param.type, zone_name="UTC"))
        except Misfit as reason:
            raise EntityFrameError(f"{where}, {param.name!r}: {reason}") from None
    return tuple(values)
