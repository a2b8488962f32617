"""What users write: entities, sources, features, views and services, all immutable and checked.

A definition checks here only what it can know alone. `compile_view` and `compile_service` check
names, types and transforms against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, get_args

from featurekit.aggregates.base import Aggregate
from featurekit.core import html
from featurekit.core.durations import Duration, duration_us
from featurekit.core.types import Type, from_hint
from featurekit.define.given import GivenFrame
from featurekit.errors import DefinitionError
from featurekit.language.transform import Transform, check_name

FileFormat = Literal["parquet", "csv"]
FORMATS: tuple[str, ...] = get_args(FileFormat)
"""The formats of files, each the ending of its files' names; `sources/kinds.py` has the modules."""

_KEY_TYPES = ("bool", "int", "str", "bytes", "date", "datetime")
_RESERVED = {"event_timestamp"}


def _types(hints: Mapping[str, Any], *, what: str) -> dict[str, Type]:
    types = {}
    for name, hint in hints.items():
        if not isinstance(name, str) or not name:
            raise DefinitionError(f"{what}: {name!r} is not a column's name")
        try:
            types[name] = hint if isinstance(hint, Type) else from_hint(hint)
        except DefinitionError as error:
            raise DefinitionError(f"{what}, {name!r}: {error}") from None
        if types[name].name == "dict":
            raise DefinitionError(
                f"{what}, {name!r}: {types[name]} is what ValueCounts gives, and no column's type; "
                "write a column for each key, or list[T]"
            )
    return types


@dataclass(frozen=True, slots=True)
class Described:
    """The descriptive fields that every definition may have for its readers; no fingerprint
    includes them (F1)."""

    description: str = field(default="", kw_only=True)
    owner: str = field(default="", kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True, slots=True)
class Entity(Described):
    """What features are about: a name and one or several typed join keys (S2).

    A key is of type bool, int, str, bytes, date or datetime. Floats are refused, because they do
    not identify anything.
    """

    name: str
    join_keys: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_name(self.name, what="Entity")
        what = f"Entity {self.name!r}"
        if not isinstance(self.join_keys, Mapping) or not self.join_keys:
            raise DefinitionError(f'{what}: write join_keys={{"customer_id": int}}')
        keys = _types(self.join_keys, what=what)
        for key, type_ in keys.items():
            if type_.optional or type_.name not in _KEY_TYPES:
                raise DefinitionError(
                    f"{what}: join key {key!r} is {type_}; a key is one of {', '.join(_KEY_TYPES)}"
                    ", never a float and never optional"
                )
        object.__setattr__(self, "join_keys", keys)


@dataclass(frozen=True, slots=True)
class EventSource(Described):
    """Events in files (Parquet or CSV, one path or glob) or in a frame, with a declared schema
    (S1).

    `path` is relative to the feature repo. In its place, `frame` is a pandas or polars frame, an
    Arrow table or reader, or a DuckDB relation. It is copied here and now: what is done to it later
    does not change the events. Manifests have its hash (F2).

    `schema` maps the columns that are read to their types; the columns of the two timestamps may be
    left out of it. `timestamp_field` is the instant of the event. `created_timestamp_column` is the
    instant at which the store came to know the event (T3); without it, both instants are the same.
    `timezone` is the zone of naive timestamps (T1). `sequence`, a column of the schema, orders the
    events of one instant (T6). `on_bad_row` is "error", or "quarantine" to set bad rows aside,
    counted and kept.

    `event_id`, a column of str, int or bytes without None, identifies an event: among its copies,
    the one that became known first counts (T7). `dedupe_within` is how long an id is remembered
    after the arrival of that copy; a copy that arrives later is a new event. Without
    `dedupe_within`, each view remembers ids for as long as its own windows (with offset and hop) or
    its ttl reach back. Then a copy of an event that happened before it arrived is never counted
    beside the event, and no other view changes the values of this one. A latest row without a ttl,
    and anything else that reaches back without end, must state `dedupe_within`.

    `op`, a column of str, makes each row a version of its event. "upsert" replaces the version
    before it, "delete" removes the event; both hold from the row's own arrival. If a version
    arrives more than `dedupe_within` after the one before it, the id is forgotten: an upsert is
    then a new event, and a delete deletes nothing. Any other value of `op` makes a bad row (S1).
    """

    name: str
    path: str = field(default="", kw_only=True)
    frame: Any = field(default=None, kw_only=True)
    schema: Mapping[str, Any] = field(kw_only=True)
    timestamp_field: str = field(kw_only=True)
    created_timestamp_column: str | None = field(default=None, kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)
    sequence: str | None = field(default=None, kw_only=True)
    event_id: str | None = field(default=None, kw_only=True)
    dedupe_within: Duration | None = field(default=None, kw_only=True)
    op: str | None = field(default=None, kw_only=True)
    format: FileFormat | None = field(default=None, kw_only=True)
    on_bad_row: Literal["error", "quarantine"] = field(default="error", kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="EventSource")
        what = f"EventSource {self.name!r}"
        schema = _types(self.schema, what=f"{what}, schema")
        if not schema:
            raise DefinitionError(f"{what}: the schema is empty")
        for column in schema:
            if column.startswith("__"):
                raise DefinitionError(f"{what}: names that begin with __ are featurekit's own")
        object.__setattr__(self, "schema", schema)
        if self.frame is not None:
            self._take_frame(what, schema)
        else:
            self._check_format(what)
        if self.on_bad_row not in ("error", "quarantine"):
            raise DefinitionError(
                f'{what}: on_bad_row is "error" or "quarantine", not {self.on_bad_row!r}'
            )
        for instant in (self.timestamp_field, self.created_timestamp_column):
            declared = schema.get(instant) if instant else None
            if declared is not None and declared.name != "datetime":
                raise DefinitionError(f"{what}: {instant!r} is a timestamp, declared {declared}")
        if self.sequence is not None and self.sequence not in schema:
            raise DefinitionError(f"{what}: sequence {self.sequence!r} is not in the schema")
        self._check_ids(what, schema)
        from featurekit.core.timezones import zone

        try:
            zone(self.timezone)
        except DefinitionError as error:
            raise DefinitionError(f"{what}: {error}") from None

    def _take_frame(self, what: str, schema: Mapping[str, Type]) -> None:
        """Copy the frame, and check that it has the columns."""
        if self.path or self.format not in (None, "frame"):
            raise DefinitionError(
                f"{what}: its events are in a frame or in files; write frame= alone, or path="
            )
        given = self.frame
        if not isinstance(given, GivenFrame):
            given = GivenFrame(given, where=what)
        instants = (self.timestamp_field, self.created_timestamp_column)
        for name in dict.fromkeys([*schema, *filter(None, instants)]):
            if name not in given.names:
                close = get_close_matches(name, map(str, given.names), n=1)
                has = ", ".join(map(str, given.names)) or "no columns"
                hint = f"did you mean {close[0]!r}?" if close else f"it has {has}"
                raise DefinitionError(f"{what}: its frame has no column {name!r}; {hint}")
        object.__setattr__(self, "frame", given)
        object.__setattr__(self, "format", "frame")

    def _check_format(self, what: str) -> None:
        """Find the format by the ending of the path, where it is not said."""
        if not isinstance(self.path, str) or not self.path:
            raise DefinitionError(
                f"{what}: write path=, the path of its files, or frame=, a frame of its events"
            )
        if self.format is None:
            ending = self.path.rsplit(".", 1)[-1].lower()
            if ending not in FORMATS:
                endings = " nor ".join(f".{name}" for name in FORMATS)
                raise DefinitionError(
                    f"{what}: the path {self.path!r} ends in neither {endings}; write "
                    + " or ".join(f'format="{name}"' for name in FORMATS)
                )
            object.__setattr__(self, "format", ending)
        if self.format not in FORMATS:
            known = " or ".join(f'"{name}"' for name in FORMATS)
            raise DefinitionError(f"{what}: format is {known}, not {self.format!r}")

    def _check_ids(self, what: str, schema: Mapping[str, Type]) -> None:
        if self.event_id is None:
            for name in ("dedupe_within", "op"):
                if getattr(self, name) is not None:
                    raise DefinitionError(
                        f"{what}: {name} is about the ids of events; name their column with "
                        'event_id="…"'
                    )
            return
        wanted = {"event_id": ("str", "int", "bytes"), "op": ("str",)}
        for role, names in wanted.items():
            column = getattr(self, role)
            if column is None:
                continue
            if column not in schema:
                raise DefinitionError(
                    f"{what}: {role} {column!r} is not in the schema; it has {', '.join(schema)}"
                )
            if schema[column].optional or schema[column].name not in names:
                raise DefinitionError(
                    f"{what}: {role} {column!r} is declared {schema[column]}; it is "
                    f"{' or '.join(names)}, and never None"
                )
        if self.op == self.event_id:
            raise DefinitionError(f"{what}: op and event_id are two columns, found {self.op!r}")
        if self.dedupe_within is not None:
            duration_us(self.dedupe_within, what=f"{what}, dedupe_within")


def _each_window(features: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """The features by name; an aggregate with `windows=` becomes one feature for each window."""
    made: dict[str, Any] = {}
    for name, value in features.items():
        each = value.each_window(name) if isinstance(value, Aggregate) else {name: value}
        for one in made.keys() & each.keys():
            raise DefinitionError(
                f"{what}: {one!r} is named twice, once by the windows of {name!r}"
            )
        made |= each
    return made


@dataclass(frozen=True, slots=True)
class FeatureView(Described):
    """Features of one entity (or several together) from one source.

    `source` may also be another view of columns and transforms. Then the join keys and features of
    that view are the columns, row by row, and its events are the events of this view; its ttl only
    concerns its own latest row.

    `features` maps names to columns, transforms or aggregates. Either all are columns and
    transforms of the latest row (V1), or all are window aggregates. `ttl` is how old the latest row
    may be (T4), and in a view of aggregates how old the entity's latest event may be. If that event
    is older, every feature of the view is None with status OUTSIDE_MAX_AGE; so with a ttl every
    feature may be None. `history` is how far back from the newest arrival online lookups may ask
    (T8). `on_error="null"` gives None with status ERROR, "fail" raises (R3).
    """

    name: str
    entities: Sequence[Entity] = field(kw_only=True)
    source: EventSource | FeatureView = field(kw_only=True)
    features: Mapping[str, str | Transform | Aggregate] = field(kw_only=True)
    ttl: Duration | None = field(default=None, kw_only=True)
    history: Duration | None = field(default=None, kw_only=True)
    on_error: Literal["null", "fail"] = field(default="null", kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="FeatureView")
        what = f"FeatureView {self.name!r}"
        if not self.entities or not all(isinstance(e, Entity) for e in self.entities):
            raise DefinitionError(f"{what}: write entities=[customer], a list of Entity")
        if not isinstance(self.source, (EventSource, FeatureView)):
            raise DefinitionError(
                f"{what}: source is an EventSource or a FeatureView, found {self.source!r}"
            )
        if isinstance(self.source, FeatureView) and self.source.aggregates:
            raise DefinitionError(
                f"{what}: its source is view {self.source.name!r}, whose features are aggregates, "
                "which are values as of an instant and no rows; take a view of columns and "
                "transforms, or aggregate the EventSource itself"
            )
        if not isinstance(self.features, Mapping) or not self.features:
            raise DefinitionError(f'{what}: write features={{"name": …}}, at least one')
        object.__setattr__(self, "features", _each_window(self.features, what=what))
        kinds = set()
        for name, value in self.features.items():
            check_name(name, what=f"{what}, a feature")
            if name in _RESERVED:
                raise DefinitionError(f"{what}: {name!r} names the instant of an entity frame")
            if not isinstance(value, (str, Transform, Aggregate)):
                raise DefinitionError(
                    f"{what}, {name!r}: a feature is a column's name, a @feature or an aggregate, "
                    f"found {value!r}"
                )
            kinds.add(isinstance(value, Aggregate))
        if len(kinds) > 1:
            raise DefinitionError(
                f"{what}: it mixes window aggregates with columns of the latest row; write two "
                'views, or Last("column", window=…) for the column'
            )
        if self.ttl is not None:
            duration_us(self.ttl, what=f"{what}, ttl")
        if self.history is not None:
            duration_us(self.history, what=f"{what}, history", zero=True)
        if self.on_error not in ("null", "fail"):
            raise DefinitionError(f'{what}: on_error is "null" or "fail", not {self.on_error!r}')
        seen: dict[str, str] = {}
        for entity in self.entities:
            for key in entity.join_keys:
                if key in seen:
                    raise DefinitionError(
                        f"{what}: {key!r} is a key of both {seen[key]!r} and {entity.name!r}"
                    )
                seen[key] = entity.name

    def __getitem__(self, names: Sequence[str]) -> FeatureSelection:
        """Some of the view's features, for a service: `customer_orders[["spend_7d"]]`."""
        chosen = (names,) if isinstance(names, str) else tuple(names)
        for name in chosen:
            if name not in self.features:
                raise DefinitionError(
                    f"FeatureView {self.name!r} has no feature {name!r}; it has "
                    f"{', '.join(self.features)}"
                )
        return FeatureSelection(self, chosen)

    def _repr_html_(self) -> str:
        """What a notebook shows: the features and what they are."""
        about = {
            "entities": ", ".join(entity.name for entity in self.entities),
            "source": self.source.name,
            **{name: value for name in ("ttl", "history") if (value := getattr(self, name))},
        }
        rows = [(name, _written(value)) for name, value in self.features.items()]
        return html.box(
            f"FeatureView {self.name}", html.facts(about), html.table(["feature", "is"], rows)
        )

    @property
    def aggregates(self) -> bool:
        """Whether its features are window aggregates."""
        return any(isinstance(f, Aggregate) for f in self.features.values())

    @property
    def event_source(self) -> EventSource:
        """The EventSource of its events, found through any views between."""
        return self.source if isinstance(self.source, EventSource) else self.source.event_source

    @property
    def join_keys(self) -> dict[str, Type]:
        """The join keys of all its entities, in order, with their types."""
        return {key: type_ for e in self.entities for key, type_ in e.join_keys.items()}


@dataclass(frozen=True, slots=True)
class FeatureSelection:
    """Some features of a view."""

    view: FeatureView
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeatureService(Described):
    """What one model reads: views, selections of views, and request-time transforms (Q1).

    `request` maps the fields that a caller sends to their types. Offline they are columns of the
    entity frame.
    """

    name: str
    features: Sequence[FeatureView | FeatureSelection | Transform] = field(kw_only=True)
    request: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="FeatureService")
        what = f"FeatureService {self.name!r}"
        if not self.features:
            raise DefinitionError(f"{what}: it has no features")
        for item in self.features:
            if not isinstance(item, (FeatureView, FeatureSelection, Transform)):
                raise DefinitionError(
                    f"{what}: features are views, view[[…]] or @features, found {item!r}"
                )
        object.__setattr__(self, "request", _types(self.request, what=f"{what}, request"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the features by view, and the request fields."""
        rows = []
        for item in self.features:
            match item:
                case FeatureView():
                    rows += [(item.name, name, _written(v)) for name, v in item.features.items()]
                case FeatureSelection(view, names):
                    rows += [(view.name, name, _written(view.features[name])) for name in names]
                case Transform():
                    rows.append(("", item.name, _written(item)))
        request = {name: str(type_) for name, type_ in self.request.items()}
        return html.box(
            f"FeatureService {self.name}",
            html.table(["view", "feature", "is"], rows),
            html.table(["request field", "type"], request.items()) if request else "",
        )


def _written(value: str | Transform | Aggregate) -> str:
    """What a feature is, for people: a column, a transform or an aggregate."""
    match value:
        case str():
            return f"column {value}"
        case Transform():
            return f"@feature {value.name}"
    return repr(value)
