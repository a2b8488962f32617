"""Turns Feast's entities and views into featurekit's, with the columns that they read."""

from __future__ import annotations

import datetime as dt
from typing import Any

from feast.feature_view import DUMMY_ENTITY_NAME
from feast.field import Field
from feast.type_map import pa_to_feast_value_type
from feast.types import from_value_type
from feast.value_type import ValueType

from featurekit.core.durations import duration_text
from featurekit.plugins.feast.importing.draft import (
    Draft,
    SourceDraft,
    ViewDraft,
    definition,
    described,
    plain_name,
)
from featurekit.plugins.feast.importing.hints import (
    field_hint,
    hint_of,
    instead_of,
    is_text,
    value_type,
)
from featurekit.plugins.feast.importing.python_text import Part, call, listed, mapping, text
from featurekit.plugins.feast.importing.sources import needs, source_of
from featurekit.plugins.feast.importing.told import Told

_KEYS = ("bool", "int", "str", "bytes", "datetime")
_AGGREGATES = {
    "sum": "Sum",
    "max": "Max",
    "min": "Min",
    "count": "Count",
    "mean": "Mean",
    "avg": "Mean",
    "count_distinct": "CountDistinct",
    "nunique": "CountDistinct",
    "std": "StdDev",
    "stddev": "StdDev",
    "var": "Variance",
    "variance": "Variance",
    "first": "First",
    "last": "Last",
    "approx_count_distinct": "ApproxCountDistinct",
}


class Lost(Exception):
    """A view does not come over; says why, and what to write instead."""

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


def draft_entities(draft: Draft) -> None:
    """Draft each entity, with the type that the views say of its join key."""
    for entity in draft.repo.entities:
        told = draft.report.about("entity", entity.name)
        name = plain_name(entity.name)
        if name != entity.name:
            told.changed(f"it is called `{name}` here")
        hint = _key_hint(draft, entity, told)
        key = entity.join_key
        variable = draft.variable(name, "entity")
        part = definition("Entity", name, join_keys=mapping({key: hint}), **described(entity))
        if hint == "datetime":
            draft.imports.add("from datetime import datetime")
        told.here = variable
        draft.entities[entity.name] = (variable, part, key, hint)


def _key_hint(draft: Draft, entity: Any, told: Told) -> str:
    """The type of a join key: what the entity says, then the views, then the files."""
    found = []
    if entity.value_type is not ValueType.UNKNOWN:
        found.append(hint_of(entity.value_type))
    views = [v for v in draft.repo.views if entity.name in v.entities]
    for view in views:
        found += [hint_of(f.dtype) for f in view.entity_columns if f.name == entity.join_key]
    for view in views:
        columns = draft.repo.columns.get(getattr(view.batch_source, "name", ""), {})
        if entity.join_key in columns:
            found.append(hint_of(_of_arrow(columns[entity.join_key])))
    hints = list(dict.fromkeys(hint for hint in found if hint in _KEYS))
    if not hints:
        told.changed(
            f"nothing says the type of its join key {entity.join_key!r}; str is written",
            "write the type that the column has",
        )
        return "str"
    if len(hints) > 1:
        told.changed(
            f"its join key {entity.join_key!r} is {' and '.join(map(str, hints))} in different "
            f"places; {hints[0]} is written",
            "give the column one type in all files",
        )
    return str(hints[0])


def _of_arrow(arrow: Any) -> ValueType:
    try:
        return pa_to_feast_value_type(str(arrow))
    except (KeyError, ValueError, TypeError):
        return ValueType.UNKNOWN


def draft_views(draft: Draft) -> None:
    """Draft each view but on-demand ones."""
    for view in draft.repo.views:
        kind = type(view).__name__
        told = draft.report.about("view", view.name)
        try:
            made = _view(draft, view, told)
        except Lost as lost:
            told.lost(lost.why, lost.instead)
            for field in view.features:
                draft.report.about("feature", f"{view.name}:{field.name}").lost(
                    "its view did not come over", "see the view"
                )
            continue
        told.here = made.variable
        draft.views[view.name] = made
        alike = kind == "FeatureView" or draft.repo.ours
        if not alike and not aggregations_of(view):
            told.changed(f"a {kind} is a view like any other here, computed by both paths")


def _view(draft: Draft, view: Any, told: Told) -> ViewDraft:
    if view.source_views:
        raise Lost(
            f"its rows are those of {', '.join(v.name for v in view.source_views)}, as Feast "
            "materialises them",
            "write FeatureView(…, source=that_view), whose events are the rows of that view",
        )
    if getattr(view, "feature_transformation", None) is not None and not aggregations_of(view):
        raise Lost(
            "its rows are what its function makes of those of the source, and that is not carried",
            "write what the function computes as @feature functions of the source's columns",
        )
    if view.entities == [DUMMY_ENTITY_NAME]:
        raise Lost(
            "it has no entity, and a view here has one",
            "add a column with one value to its source, and an entity with that join key",
        )
    if view.batch_source is None:
        raise Lost("it has no batch source, so it has no columns", "write an EventSource for it")
    source = source_of(draft, view.batch_source)
    keys = _keys(draft, view, source)
    name = plain_name(view.name)
    if name != view.name:
        told.changed(f"it is called `{name}` here")
    if aggregations_of(view):
        features, hints, names = _aggregated(draft, view, source, told)
    else:
        features, hints, names = _columns(draft, view, source)
    if not features:
        raise Lost("none of its features came over", "see its features")
    _about_view(draft, view, source, told)
    comments = {names[f.name]: f.description for f in view.features if f.name in names}
    part = definition(
        "FeatureView",
        name,
        entities=listed([draft.entities[e][0] for e in view.entities]),
        source=source.variable,
        features=mapping(features, comments),
        ttl=_ttl(view),
        **described(view),
    )
    return ViewDraft(draft.variable(name, "view"), name, part, hints, keys, names, source.variable)


def aggregations_of(view: Any) -> list[Any]:
    """The aggregations of a view of any kind."""
    return list(getattr(view, "aggregations", None) or ())


def _ttl(view: Any) -> str | None:
    if not view.ttl:
        return None
    return text(duration_text(view.ttl // dt.timedelta(microseconds=1)))


def _about_view(draft: Draft, view: Any, source: SourceDraft, told: Told) -> None:
    """What every view means otherwise here."""
    if view.ttl and not draft.repo.ours:
        told.changed(
            f"the ttl is (t − {duration_text(view.ttl // dt.timedelta(microseconds=1))}, t] on "
            "both paths (T4): a row that is exactly so old counts no more, and online an older row "
            "is None"
        )
    if not aggregations_of(view) and not view.batch_source.created_timestamp_column:
        _about_ties(draft, view, source, told)
    if not view.online:
        told.changed("online=False: a view is filled where a service reads it")


def _about_ties(draft: Draft, view: Any, source: SourceDraft, told: Told) -> None:
    """Which of the rows of one instant counts, where Feast or its view says something else."""
    counts = "of rows of one instant the greatest counts, by their columns in the order of the "
    if not draft.repo.ours:
        told.changed(f"{counts}schema (T6); Feast takes any")
        return
    keys = [draft.entities[name][2] for name in view.entities]
    back = {new: old for old, new in (view.batch_source.field_mapping or {}).items()}
    wanted = [back.get(field.name, field.name) for field in view.features]
    if [column for column in source.schema if column not in keys][: len(wanted)] != wanted:
        told.changed(f"{counts}source's schema (T6), which several views read; in Feast the view's")


def _keys(draft: Draft, view: Any, source: SourceDraft) -> dict[str, str]:
    """The join keys of a view; its source reads them."""
    keys = {}
    mapped = {new: old for old, new in (view.batch_source.field_mapping or {}).items()}
    for name in view.entities:
        if name not in draft.entities:
            raise Lost(f"its entity {name!r} is not in the repo", "define the entity in a module")
        _, _, key, hint = draft.entities[name]
        if key in mapped:
            raise Lost(
                f"its join key {key!r} is the column {mapped[key]!r} of its source",
                f"give the column the name {key!r} in the files, or write an Entity with the join "
                f"key {mapped[key]!r} and read it by .as_(…, join_keys=…) in the services",
            )
        fault = needs(source, key, hint)
        if fault is not None:
            raise Lost(fault, "give the column one type in both views")
        keys[key] = hint
    return keys


Found = tuple[dict[str, "Part | str"], dict[str, str], dict[str, str]]
"""The features by their names here, their types, and the name here of each of Feast's."""


def _columns(draft: Draft, view: Any, source: SourceDraft) -> Found:
    """The features of a view that are columns of its source."""
    features: dict[str, Part | str] = {}
    hints: dict[str, str] = {}
    names: dict[str, str] = {}
    back = {new: old for old, new in (view.batch_source.field_mapping or {}).items()}
    columns = draft.repo.columns.get(view.batch_source.name, {})
    for field in view.features or _inferred(draft, view, columns):
        told = draft.report.about("feature", f"{view.name}:{field.name}")
        hint = field_hint(field)
        column = back.get(field.name, field.name)
        if hint is None:
            told.lost(
                f"featurekit has no type for {value_type(field.dtype).name}",
                instead_of(field.dtype),
            )
            continue
        fault = needs(source, column, f"{hint} | None")
        if fault is not None:
            told.lost(fault, "give the column one type in both views")
            continue
        name = plain_name(field.name)
        if name != field.name:
            told.changed(f"it is called `{name}` here")
        _about_type(field, columns.get(column), told, ours=draft.repo.ours)
        _import_hint(draft, hint)
        features[name] = text(column)
        hints[name] = "list[float] | None" if hint.startswith("Vector") else f"{hint} | None"
        names[field.name] = name
        told.here = f"{view.name}.{name}"
    return features, hints, names


def _import_hint(draft: Draft, hint: str) -> None:
    if "datetime" in hint:
        draft.imports.add("from datetime import datetime")
    if hint.startswith("Vector"):
        draft.imports.add("from featurekit import Vector")


def _inferred(draft: Draft, view: Any, columns: dict[str, Any]) -> list[Field]:
    """The features that Feast would find in the source's columns."""
    batch = view.batch_source
    if not columns:
        why = draft.repo.unread.get(batch.name, "its source cannot be read here")
        raise Lost(
            f"it has no schema, and Feast finds its columns in the source ({why})",
            "list the features in the view's schema, and import again",
        )
    mapping_ = batch.field_mapping or {}
    keys = {key for _, _, key, _ in draft.entities.values()}
    not_features = {batch.timestamp_field, batch.created_timestamp_column, *keys}
    found = []
    for column, arrow in columns.items():
        name = mapping_.get(column, column)
        type_ = _of_arrow(arrow)
        if name in not_features or column.startswith("__") or type_ is ValueType.UNKNOWN:
            continue
        found.append(Field(name=name, dtype=from_value_type(type_)))
    return found


def _about_type(field: Any, arrow: Any, told: Told, *, ours: bool) -> None:
    """Where the type says something else here than in Feast, or on `ours`, its stores of
    featurekit."""
    declared = value_type(field.dtype)
    if is_text(field.dtype):
        told.changed(f"{declared.name} is read as a text")
    if declared is ValueType.FLOAT and str(arrow) != "float":
        held = "may be doubles" if arrow is None else f"are {arrow}"
        rounds = "there, both paths give" if ours else "online, Feast gives"
        told.changed(
            f"its values {held}, and are not rounded to Float32: both paths give the double; "
            f"{rounds} the rounded one"
        )
    ints = declared in (ValueType.INT32, ValueType.INT64)
    if ints and not ours and str(arrow) in ("float", "double"):
        told.changed(
            f"the files hold {arrow}: a number with a fraction is a bad row (S1)",
            "write `float | None` in the source's schema where fractions are meant",
        )


def _aggregated(draft: Draft, view: Any, source: SourceDraft, told: Told) -> Found:
    """The features of a view that are aggregates over windows."""
    features: dict[str, Part | str] = {}
    hints: dict[str, str] = {}
    names: dict[str, str] = {}
    columns = draft.repo.columns.get(view.batch_source.name, {})
    if getattr(view, "feature_transformation", None) is not None:
        told.changed(
            "its function, which Feast calls before it aggregates, did not come over: the "
            "aggregates take the columns of the source as they are",
            "write what it computes as a @feature, and give it to the aggregate in the place of "
            "the column",
        )
    for one in aggregations_of(view):
        shown = one.resolved_name(one.time_window)
        declared = {f.name: f for f in view.features}
        field = declared.get(shown) or declared.get(one.resolved_name())
        shown = field.name if field is not None else shown
        said = draft.report.about("feature", f"{view.name}:{shown}")
        kind = _AGGREGATES.get(one.function.lower())
        if kind is None:
            said.lost(
                f"featurekit has no aggregate {one.function!r}",
                "write another one of docs/rules.md, as Quantile or TopK",
            )
            continue
        arrow = columns.get(one.column)
        hint = hint_of(_of_arrow(arrow)) if arrow is not None else _input_hint(kind, field)
        fault = None if hint is None else needs(source, one.column, f"{hint} | None")
        if hint is None or fault is not None:
            said.lost(
                fault or f"nothing says the type of its column {one.column!r}",
                "write the column into the source's schema, and the aggregate into the view",
            )
            continue
        name = plain_name(shown)
        features[name] = _aggregate(one, kind, said)
        draft.imports.add(f"from featurekit.aggregates import {kind}")
        names[shown] = name
        hints[name] = _result_hint(kind, hint)
        said.here = f"{view.name}.{name}"
    return features, hints, names


def _input_hint(kind: str, field: Any) -> str | None:
    """The type of an aggregate's column where no file says it: a number is taken for what comes
    out."""
    if kind in ("Count", "CountDistinct", "ApproxCountDistinct") or field is None:
        return "str" if kind != "Count" and field is not None else "float" if field else None
    return "float" if kind in ("Mean", "StdDev", "Variance") else hint_of(field.dtype)


def _result_hint(kind: str, hint: str) -> str:
    if kind in ("Count", "CountDistinct", "ApproxCountDistinct"):
        return "int"
    return "float | None" if kind in ("Mean", "StdDev", "Variance") else f"{hint} | None"


def _aggregate(one: Any, kind: str, told: Told) -> Part:
    """An aggregate of Feast's as one of ours, with what it means here."""
    micro = dt.timedelta(microseconds=1)
    named: dict[str, Part | str | None] = {"window": text("lifetime")}
    if one.time_window:
        named["window"] = text(duration_text(one.time_window // micro))
    if one.time_window and one.slide_interval and one.slide_interval != one.time_window:
        hop = duration_text(one.slide_interval // micro)
        named["hop"] = text(hop)
        told.changed(
            f"the window ends at the instant that is asked for, and begins at a multiple of {hop} "
            "(T5); Feast's ends at a multiple, too"
        )
    elif one.time_window:
        told.changed(
            "the window is (t − window, t] at each instant t that is asked for (T4); Feast's "
            "windows follow each other, and change once in a window"
        )
    if kind in ("StdDev", "Variance"):
        named["ddof"] = "1"
        told.changed("the sample's, with ddof=1, as in pandas and Spark")
    return call(kind, text(one.column), **named)
