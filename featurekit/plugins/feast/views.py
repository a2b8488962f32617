"""Turns a Feast view into a compiled view of the latest row, and requests into services."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.value_type import ValueType

from featurekit.core.types import DATETIME, MICROSECOND
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import Output, Role, Service, View
from featurekit.errors import DefinitionError
from featurekit.plugins.feast.kinds import Kind, kind_of

NO_ENTITY = "no_entity"
"""The join key of a view without entities: one row is the latest of all."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A Feast view as featurekit has it.

    `keys` maps Feast's join keys to those of `view`. `names` maps Feast's features to those of
    `view`, and `kinds` to their kinds, all in the order of the view's schema. `created` is the
    column of the view that orders the events of one instant, if there is one.
    """

    view: View
    keys: Mapping[str, str]
    key_kinds: Mapping[str, Kind]
    names: Mapping[str, str]
    kinds: Mapping[str, Kind]
    created: str | None


def mapped(view: Any, *, versions: bool = False) -> Mapped:
    """The compiled view of a Feast view. With `versions`, each version of it is a view of its own.
    DefinitionError where featurekit has no such view."""
    source = getattr(view, "batch_source", None)
    created = None if source is None else source.created_timestamp_column or None
    keys = tuple((field.name, _value_type(field.dtype)) for field in view.entity_columns)
    keys = keys or ((DUMMY_ENTITY_ID, ValueType.STRING),)
    fields = tuple((field.name, _value_type(field.dtype)) for field in view.features)
    ttl = getattr(view, "ttl", None)
    ttl_us = ttl // MICROSECOND if ttl else None
    name = compute_versioned_name(view, versions)
    return _mapped(name, keys, fields, created is not None, ttl_us)


def _value_type(dtype: Any) -> ValueType:
    found: ValueType = dtype if isinstance(dtype, ValueType) else dtype.to_value_type()
    return found


Fields = tuple[tuple[str, ValueType], ...]


@lru_cache(maxsize=4096)
def _mapped(name: str, keys: Fields, fields: Fields, dated: bool, ttl_us: int | None) -> Mapped:
    what = f"Feast's view {name!r}"
    if not fields:
        raise DefinitionError(f"{what} has no features; list them in its schema")
    key_names = {key: NO_ENTITY if key == DUMMY_ENTITY_ID else key for key, _ in keys}
    key_kinds = {key: kind_of(type_, what=f"{what}, join key {key!r}") for key, type_ in keys}
    kinds = {one: kind_of(type_, what=f"{what}, feature {one!r}") for one, type_ in fields}
    names = {one: plain_name(one) for one in kinds}
    schema: dict[str, Any] = {key_names[key]: kind.type for key, kind in key_kinds.items()}
    for one, kind in kinds.items():
        schema.setdefault(one, kind.type.or_none())  # a join key may be a feature, too
    created = _free("created", schema) if dated else None
    if created is not None:
        schema[created] = DATETIME.or_none()
    plain = plain_name(name)
    source = EventSource(
        plain,
        path="rows.parquet",
        schema=schema,
        timestamp_field=_free("happened", schema),
        sequence=created,
    )
    entity = Entity(plain, {key: schema[key] for key in key_names.values()})
    made = FeatureView(
        plain,
        entities=[entity],
        source=source,
        features={names[one]: one for one in kinds},
    )
    # A state holds the latest row, whatever the ttl: another ttl reads the same states.
    view = replace(compile_view(made), ttl_us=ttl_us)
    return Mapped(view, key_names, key_kinds, names, kinds, created)


def plain_name(name: str) -> str:
    """The name that a definition has for what Feast calls `name`: the same one where it can be."""
    if re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*_?", name) and len(name) <= 100 and name != "as_of":
        return name
    tag = hashlib.sha256(name.encode()).hexdigest()[:10]
    return "f_" + re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:80] + "_" + tag


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """`name`, with a number where a column has it already."""
    lower = {one.lower() for one in taken}
    number = 0
    free = name
    while free in lower:
        number += 1
        free = f"{name}{number}"
    return free


@dataclass(frozen=True, slots=True)
class Wanted:
    """Features of a view that a request asks for, by the names of Feast. `columns` maps the view's
    join keys to the names that the request's rows have for them, and `title` is the view's name
    there."""

    mapped: Mapped
    title: str
    columns: Mapping[str, str]
    features: tuple[str, ...]


def wanted(view: Any, features: Sequence[str], *, versions: bool = False) -> Wanted:
    """What a request asks of a Feast view, which may be in a projection with other join keys."""
    made = mapped(view, versions=versions)
    joined = view.projection.join_key_map or {}
    columns = {key: joined.get(key, made.keys[key]) for key in made.keys}
    return Wanted(made, view.projection.name_to_use(), columns, tuple(features))


def renamed(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Join keys by the names of the service; the one of views without entities has another name
    there."""
    return {NO_ENTITY if name == DUMMY_ENTITY_ID else name: keys[name] for name in keys}


def service_of(asked: Sequence[Wanted]) -> Service:
    """The service that answers a request: an output for each wanted feature, in order, by its
    number."""
    views: list[View] = []
    outputs: list[Output] = []
    for v, one in enumerate(asked):
        view = one.mapped.view
        role = Role(f"view{v}", tuple(one.columns.values()))
        views.append(replace(view, role=role))
        places = {feature.name: i for i, feature in enumerate(view.features)}
        for name in one.features:
            index = places[one.mapped.names[name]]
            of, number = view.features[index], f"f{len(outputs)}"
            outputs.append(Output(number, number, v, index, of.type, of.fingerprint))
    text = "\n".join(f"{o.view} {o.fingerprint}" for o in outputs)
    return Service(
        "feast",
        views=tuple(views),
        transforms=(),
        outputs=tuple(outputs),
        request=(),
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
