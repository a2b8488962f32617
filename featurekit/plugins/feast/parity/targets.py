"""Turns the views and services of a Feast repo into what both paths are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from feast.errors import FeatureNameCollisionError
from feast.value_type import ValueType

from featurekit.core.types import micros
from featurekit.errors import DefinitionError
from featurekit.plugins.feast.lookup import context_of
from featurekit.plugins.feast.parity.source import key_names


@dataclass(frozen=True, slots=True)
class Part:
    """A feature view of a request: its join keys by the columns that rows have for them, and when
    it was filled, as intervals in microseconds in the order of the runs."""

    view: Any
    title: str
    columns: Mapping[str, str]
    types: Mapping[str, ValueType]
    intervals: Sequence[tuple[int, int]]

    @property
    def filled_us(self) -> int | None:
        """The end of what was materialised; None where nothing was."""
        return max((end for _, end in self.intervals), default=None)

    @property
    def ttl_us(self) -> int | None:
        """The ttl; None without one."""
        ttl = getattr(self.view, "ttl", None)
        return micros_of(ttl) if ttl else None


def micros_of(span: Any) -> int:
    """A timedelta in microseconds."""
    return int(span.days * 86_400_000_000 + span.seconds * 1_000_000 + span.microseconds)


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of an answer: its name there, `view:feature`, its declared type, and the part or the
    on-demand view that it is of."""

    column: str
    ref: str
    name: str
    type: ValueType
    part: Part | None
    on_demand: Any | None


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked at once: a view, an on-demand view, a service, or views that have one join key
    in several types. `asked` is what Feast is given."""

    name: str
    asked: Any
    full: bool
    parts: Sequence[Part]
    features: Sequence[Feature]
    fields: Mapping[str, ValueType]

    @property
    def keys(self) -> list[str]:
        """The columns of join keys that rows have."""
        return list(dict.fromkeys(c for part in self.parts for c in part.columns.values()))

    @property
    def filled_us(self) -> int | None:
        """The latest end of a materialisation of its views."""
        return max((p.filled_us for p in self.parts if p.filled_us is not None), default=None)


def targets_of(store: Any, views: Sequence[Any], services: Sequence[Any]) -> list[Target]:
    """What is asked of some views and services."""
    found = [
        target_of(store, view.name, [f"{view.name}:{field.name}" for field in view.features])
        for view in views
        if view.features
    ]
    found += [target_of(store, service.name, service) for service in services]
    plain = [t for t in found if len(t.parts) == 1 and not t.features[0].on_demand]
    for one, other in combinations(plain, 2):
        if _types_part(one.parts[0].view, other.parts[0].view):
            found.append(target_of(store, f"{one.name} + {other.name}", [*one.asked, *other.asked]))
    return found


def _types_part(one: Any, other: Any) -> bool:
    """Whether two views declare another type for a join key of one name."""
    types = {field.name: _value_type(field.dtype) for field in one.entity_columns}
    return any(types.get(f.name, t := _value_type(f.dtype)) != t for f in other.entity_columns)


def target_of(store: Any, name: str, asked: Any) -> Target:
    """What a request asks for. DefinitionError where Feast does not resolve it."""
    full = False
    try:
        try:
            context = context_of(store.registry, store.project, asked, full=False)
        except FeatureNameCollisionError:
            full = True
            context = context_of(store.registry, store.project, asked, full=True)
    except Exception as error:  # what Feast raises for a reference is of many classes
        raise DefinitionError(f"{name}: Feast does not resolve it ({error})") from None
    refs, on_demand, grouped = context[0], context[1], context[5]
    parts = {view.projection.name_to_use(): _part(store, view) for view, _ in grouped}
    made = {view.projection.name_to_use(): view for view in on_demand}
    features = [_feature(ref, parts, made, full=full) for ref in refs]
    fields = {
        field.name: _value_type(field.dtype)
        for view in on_demand
        for source in view.source_request_sources.values()
        for field in source.schema
    }
    return Target(name, asked, full, list(parts.values()), features, fields)


def _part(store: Any, view: Any) -> Part:
    # A view in a projection does not know when it was filled; that in the registry does.
    filled = store.registry.get_any_feature_view(view.name, store.project, allow_cache=True)
    joined = view.projection.join_key_map or {}
    return Part(
        view,
        view.projection.name_to_use(),
        {key: joined.get(key, key) for key in key_names(view)},
        {field.name: _value_type(field.dtype) for field in view.features},
        [(micros(start), micros(end)) for start, end in filled.materialization_intervals],
    )


def _feature(
    ref: str, parts: Mapping[str, Part], on_demand: Mapping[str, Any], *, full: bool
) -> Feature:
    title, name = ref.split(":", 1)
    part, view = parts.get(title), on_demand.get(title)
    column = f"{title}__{name}" if full else name
    if view is not None:
        types = {field.name: _value_type(field.dtype) for field in view.features}
        return Feature(column, ref, name, types[name], None, view)
    assert part is not None
    return Feature(column, ref, name, part.types[name], part, None)


def _value_type(dtype: Any) -> ValueType:
    found: ValueType = dtype if isinstance(dtype, ValueType) else dtype.to_value_type()
    return found
