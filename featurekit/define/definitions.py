"""What users write: entities, sources, features, views and services, all immutable and checked.

A definition checks here only what it can know alone. `compile_view` and `compile_service` check
names, types and transforms against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from featurekit.aggregates.base import Aggregate
from featurekit.core import html
from featurekit.core.calls import found, near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.examples import assigned
from featurekit.core.formats import Format, formats_of
from featurekit.core.types import Type, from_hint
from featurekit.core.written import Defined, Place
from featurekit.define.contracts.given import checked_rules
from featurekit.define.contracts.rules import Rule
from featurekit.define.dialect import Compression, Dialect, dialect_of, ending_of
from featurekit.define.given import GivenFrame
from featurekit.define.instead import (
    add_to_schema,
    as_feature,
    as_item,
    as_keys,
    as_mapping,
    as_path,
    as_source,
    elsewhere,
    of_ending,
)
from featurekit.define.origins import Origin
from featurekit.errors import DefinitionError
from featurekit.language.transform import INSTANT, Transform, check_name

FORMATS: tuple[str, ...] = ("parquet", "csv")
"""The formats of files, each the ending of its files' names; `sources/kinds.py` has the modules."""

_KEY_TYPES = ("bool", "int", "str", "bytes", "date", "datetime")
_RESERVED = {
    "event_timestamp": "names the instant of an entity frame",
    INSTANT: "names the instant that is asked for",
}
"""Names that a row of an entity frame or of a lookup, and a transform, have for something else."""
_OF_CSV = ("encoding", "delimiter", "quote", "decimal", "null_values")


def _found(value: Any) -> str:
    """What was found, in a few words."""
    if isinstance(value, type) or (callable(value) and hasattr(value, "__code__")):
        return str(value.__name__)
    return found(value)


def _types(hints: Mapping[str, Any], *, what: str) -> dict[str, Type]:
    types = {}
    check_columns(hints, what=what)
    for name, hint in hints.items():
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


def check_columns(names: Iterable[Any], *, what: str) -> None:
    """DefinitionError where one of these names, of columns or fields of a row, is none, or two of
    them are one to DuckDB."""
    seen: dict[bytes, str] = {}
    for name in names:
        if not isinstance(name, str) or not name:
            raise DefinitionError(f"{what}: {name!r} is not a column's name")
        if name.startswith("__"):
            raise DefinitionError(
                f"{what}: {name!r} begins with __, as featurekit's own columns do; write another "
                "name"
            )
        if "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
            raise DefinitionError(
                f"{what}: {name!r} has a character that no column's name may have; leave it out"
            )
        other = seen.setdefault(name.encode().lower(), name)  # the case of ASCII letters alone
        if other != name:
            raise DefinitionError(
                f"{what}: {other!r} and {name!r} differ in case alone, and DuckDB cannot tell them "
                "apart; rename one"
            )


def _check_unreserved(names: Iterable[str], *, what: str) -> None:
    """DefinitionError where a field of a row has a name that means something else there."""
    for name in names:
        for reserved, meaning in _RESERVED.items():
            # The instant is a column of the frame beside the fields: its case decides nothing.
            same = name.lower() == reserved if reserved == "event_timestamp" else name == reserved
            if same:
                raise DefinitionError(f"{what}: {name!r} {meaning}; write another name")


@dataclass(frozen=True, slots=True)
class Described(metaclass=Defined):
    """The descriptive fields that every definition may have for its readers, and its `place`, where
    it is written; no fingerprint includes them (F1)."""

    description: str = field(default="", kw_only=True)
    owner: str = field(default="", kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    def _in_words(self) -> str:
        return f"{type(self).__name__} {getattr(self, 'name', '')!r}"


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
            raise DefinitionError(
                f"{what}: join_keys is a dict of names and types, found {found(self.join_keys)}; "
                f"write {as_keys(self.join_keys)}"
            )
        keys = _types(self.join_keys, what=what)
        for key, type_ in keys.items():
            if type_.optional or type_.name not in _KEY_TYPES:
                raise DefinitionError(
                    f"{what}: join key {key!r} is {type_}; a key is one of {', '.join(_KEY_TYPES)}"
                    ", never a float and never optional"
                )
        _check_unreserved(keys, what=what)
        object.__setattr__(self, "join_keys", keys)


@dataclass(frozen=True, slots=True)
class EventSource(Described):
    """Events in files (Parquet or CSV, one path or glob), in a frame, in a database or in a table
    of a lake, with a declared schema (S1, S4).

    `path` is relative to the feature repo. The files may be still to come: until there is one, the
    source has what is pushed to it, and its services serve after `apply` alone. In its place,
    `frame` is a pandas or polars frame, an Arrow table or reader, or a DuckDB relation. It is
    copied here and now: what is done to it later does not change the events. Manifests have its
    hash (F2). Or `origin` says where the events are: `SQLite`, `DuckDB`, `Postgres` or `Delta`.
    Each call reads it once, as it is then.

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

    Files of CSV are in UTF-8, with commas between fields and double quotes around them, unless
    `encoding`, `delimiter` and `quote` (None where nothing is quoted) say otherwise. `decimal` is
    the sign before the fraction of a number. The texts of `null_values` are null, quoted or not; an
    unquoted empty field always is. `compression` is told by the path's ending, as in `x.csv.gz`, or
    is "gzip", "bz2", "xz", "zstd" or "none".

    `timestamp_format` says how timestamps are written that are texts or numbers, in files and in
    pushes (T1): "iso", a text with directives such as "%m/%d/%Y %H:%M", or "epoch_s", "epoch_ms",
    "epoch_us" or "epoch_ns" for numbers since 1970-01-01 UTC. It holds for both timestamps of the
    source and for the datetimes of the schema; a mapping has a format for each column. A column of
    dates as `timestamp_field` needs none: a date is the midnight that begins it in `timezone`.

    A column that the schema names and the file lacks is taken from the names of the file's folders,
    as in `orders/region=eu/day=2024-01-01/x.parquet`.

    `expect` is the contract beside the schema (S5): rules such as `Between("quantity", 0, 10_000)`,
    and `@feature`s that return bool. Each has a severity: "fail" stops `materialize`,
    `get-historical` or a push before anything is written, "quarantine" sets a row aside, and "warn"
    counts.
    """

    name: str
    path: str = field(default="", kw_only=True)
    frame: Any = field(default=None, kw_only=True)
    origin: Origin | None = field(default=None, kw_only=True)
    schema: Mapping[str, Any] = field(kw_only=True)
    timestamp_field: str = field(kw_only=True)
    created_timestamp_column: str | None = field(default=None, kw_only=True)
    timezone: str = field(default="UTC", kw_only=True)
    sequence: str | None = field(default=None, kw_only=True)
    event_id: str | None = field(default=None, kw_only=True)
    dedupe_within: Duration | None = field(default=None, kw_only=True)
    op: str | None = field(default=None, kw_only=True)
    format: str | None = field(default=None, kw_only=True)
    on_bad_row: Literal["error", "quarantine"] = field(default="error", kw_only=True)

    encoding: str = field(default="utf-8", kw_only=True)
    delimiter: str = field(default=",", kw_only=True)
    quote: str | None = field(default='"', kw_only=True)
    decimal: Literal[".", ","] = field(default=".", kw_only=True)
    null_values: Sequence[str] = field(default=(), kw_only=True)
    compression: Compression | None = field(default=None, kw_only=True)
    timestamp_format: str | Mapping[str, str] | None = field(default=None, kw_only=True)
    expect: Sequence[Rule | Transform] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="EventSource")
        what = f"EventSource {self.name!r}"
        schema = _types(self.schema, what=f"{what}, schema")
        if not schema:
            raise DefinitionError(
                f'{what}: the schema is empty; write schema={{"customer_id": int, …}}'
            )
        instants = (self.timestamp_field, self.created_timestamp_column)
        named = [name for name in instants if name is not None]
        check_columns(dict.fromkeys([*named, *schema]), what=what)
        object.__setattr__(self, "schema", schema)
        if self.origin is not None:
            self._check_origin(what)
        elif self.frame is not None:
            self._take_frame(what, schema)
        else:
            self._check_format(what)
        if self.on_bad_row not in ("error", "quarantine"):
            raise DefinitionError(
                f'{what}: on_bad_row is "error" or "quarantine", not {self.on_bad_row!r}; write '
                'on_bad_row="quarantine" to set bad rows aside'
            )
        for instant in (self.timestamp_field, self.created_timestamp_column):
            declared = schema.get(instant) if instant else None
            if declared is not None and declared.name != "datetime":
                raise DefinitionError(
                    f"{what}: {instant!r} is a timestamp, declared {declared}; declare it "
                    "datetime, or leave it out of the schema, whatever the files hold: dates are "
                    "read as midnights, texts and numbers by timestamp_format"
                )
        self._check_reading(what)
        if self.sequence is not None and self.sequence not in schema:
            raise DefinitionError(
                f"{what}: sequence {self.sequence!r} is not in the schema; "
                f"{add_to_schema('sequence', self.sequence, 'int')}"
            )
        self._check_ids(what, schema)
        object.__setattr__(self, "expect", checked_rules(self.expect, self, what))
        from featurekit.core.timezones import zone

        try:
            zone(self.timezone)
        except DefinitionError as error:
            raise DefinitionError(f"{what}: {error}") from None

    def _check_origin(self, what: str) -> None:
        """Take the format of the origin, in place of any other."""
        if not isinstance(self.origin, Origin):
            raise DefinitionError(
                f"{what}: origin is SQLite(…), DuckDB(…), Postgres(…) or Delta(…), found "
                f'{_found(self.origin)}; write origin=SQLite("data/shop.db", table="orders")'
            )
        kind = self.origin.kind
        if self.path or self.frame is not None or self.format not in (None, kind):
            raise DefinitionError(
                f"{what}: its events are in an origin, in files or in a frame; write origin=, "
                "path= or frame= alone, and no format= beside an origin"
            )
        object.__setattr__(self, "format", kind)

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
                spare = {
                    str(n).strip(): str(n) for n in given.names if n not in (*schema, *instants)
                }
                close = [spare[one] for one in get_close_matches(name.strip(), spare, n=1)]
                has = ", ".join(map(str, given.names)) or "no columns"
                hint = f"did you mean {close[0]!r}?" if close else f"it has {has}"
                raise DefinitionError(f"{what}: its frame has no column {name!r}; {hint}")
        object.__setattr__(self, "frame", given)
        object.__setattr__(self, "format", "frame")

    def _check_format(self, what: str) -> None:
        """Find the format by the ending of the path, where it is not said."""
        if not isinstance(self.path, str):
            raise DefinitionError(
                f"{what}: path is a text, the path or glob of its files, found {found(self.path)}; "
                f"write {as_path(self.path)}"
            )
        if not self.path:
            raise DefinitionError(
                f"{what}: write path=, the path of its files, or frame=, a frame of its events, or "
                f"origin=, as in {assigned('EventSource', 'path')}"
            )
        not_here = elsewhere(self.path)
        if not_here is not None:
            raise DefinitionError(f"{what}: the path {self.path!r}: {not_here}")
        if self.format is None:
            ending = ending_of(self.path)
            if ending not in FORMATS:
                named = "." in self.path.rpartition("/")[2]
                instead = of_ending(ending if named else "", FORMATS)
                endings = " nor ".join(f".{name}" for name in FORMATS)
                raise DefinitionError(
                    f"{what}: the path {self.path!r} ends in neither {endings}; {instead}"
                )
            object.__setattr__(self, "format", ending)
        if self.format not in FORMATS:
            known = " or ".join(f'"{name}"' for name in FORMATS)
            said = of_ending(str(self.format), FORMATS)
            raise DefinitionError(f"{what}: format is {known}, not {self.format!r}; {said}")

    @property
    def dialect(self) -> Dialect:
        """How its CSV files are written."""
        return dialect_of(
            self.path,
            encoding=self.encoding,
            delimiter=self.delimiter,
            quote=self.quote,
            decimal=self.decimal,
            null_values=self.null_values,
            compression=self.compression,
            what=f"EventSource {self.name!r}",
        )

    def in_parquet(self, path: str) -> EventSource:
        """The same source with its rows in a Parquet file."""
        plain: dict[str, Any] = {n: self.__dataclass_fields__[n].default for n in _OF_CSV}
        made = replace(self, path=path, origin=None, format="parquet", compression=None, **plain)
        object.__setattr__(made, "place", self.place)
        return made

    @property
    def instants(self) -> tuple[str, ...]:
        """The columns of its timestamps: that of the event, that of its arrival if there is one,
        and the datetimes of the schema."""
        named = [self.timestamp_field, self.created_timestamp_column]
        named += [name for name, type_ in self.schema.items() if type_.name == "datetime"]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def formats(self) -> dict[str, Format]:
        """How timestamps that are texts or numbers are written, by their columns."""
        return formats_of(self.timestamp_format, self.instants)

    def _check_reading(self, what: str) -> None:
        """The options of CSV files and the formats of timestamps."""
        if isinstance(self.null_values, list):
            object.__setattr__(self, "null_values", tuple(self.null_values))
        self.dialect  # noqa: B018 - raises for an option that no file has
        if self.format != "csv":
            for option in _OF_CSV:
                if getattr(self, option) != self.__dataclass_fields__[option].default:
                    raise DefinitionError(
                        f"{what}: {option} is about CSV files, and its format is "
                        f'"{self.format}"; leave it out, or write format="csv"'
                    )
            if self.compression not in (None, "none"):
                raise DefinitionError(
                    f"{what}: compression is about CSV files; a file of format "
                    f'"{self.format}" says itself how it is packed, so leave it out'
                )
        try:
            self.formats  # noqa: B018 - raises for a format that is none
        except DefinitionError as error:
            raise DefinitionError(f"{what}: {error}") from None

    def _check_ids(self, what: str, schema: Mapping[str, Type]) -> None:
        if self.event_id is None:
            for name in ("dedupe_within", "op"):
                if getattr(self, name) is not None:
                    raise DefinitionError(
                        f"{what}: {name} is about the ids of events; name their column, as in "
                        f"{assigned('EventSource', 'event_id')}, or leave {name} out"
                    )
            return
        wanted = {"event_id": ("str", "int", "bytes"), "op": ("str",)}
        for role, names in wanted.items():
            column = getattr(self, role)
            if column is None:
                continue
            if column not in schema:
                raise DefinitionError(
                    f"{what}: {role} {column!r} is not in the schema; "
                    f"{add_to_schema(role, column, 'str')}"
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
        listed = isinstance(self.entities, (list, tuple)) and bool(self.entities)
        if not listed or not all(isinstance(e, Entity) for e in self.entities):
            raise DefinitionError(
                f"{what}: entities is a list of Entity, found {_found(self.entities)}; write "
                "entities=[customer], the variable in brackets and without quotes"
            )
        if not isinstance(self.source, (EventSource, FeatureView)):
            raise DefinitionError(
                f"{what}: source is an EventSource or a FeatureView, found {_found(self.source)}; "
                f"write {as_source(self.source)}"
            )
        if isinstance(self.source, FeatureView) and self.source.aggregates:
            raise DefinitionError(
                f"{what}: its source is view {self.source.name!r}, whose features are aggregates, "
                "which are values as of an instant and no rows; take a view of columns and "
                "transforms, or aggregate the EventSource itself"
            )
        if not isinstance(self.features, Mapping) or not self.features:
            raise DefinitionError(
                f"{what}: features maps names to features, found {_found(self.features)}; write "
                + as_mapping(self.features)
            )
        self._check_features(what)
        if self.ttl is not None:
            duration_us(self.ttl, what=f"{what}, ttl")
        if self.history is not None:
            duration_us(self.history, what=f"{what}, history", zero=True)
        if self.on_error not in ("null", "fail"):
            raise DefinitionError(
                f'{what}: on_error is "null" or "fail", not {self.on_error!r}; write '
                'on_error="null" for None where a feature errs, or on_error="fail" for an error'
            )
        seen: dict[str, str] = {}
        for entity in self.entities:
            for key in entity.join_keys:
                if key in seen:
                    raise DefinitionError(
                        f"{what}: {key!r} is a key of both {seen[key]!r} and {entity.name!r}"
                    )
                seen[key] = entity.name

    def _check_features(self, what: str) -> None:
        """The names and kinds of the features, with one for each of an aggregate's windows."""
        object.__setattr__(self, "features", _each_window(self.features, what=what))
        check_columns(self.features, what=what)
        kinds = set()
        for name, value in self.features.items():
            check_name(name, what=f"{what}, a feature")
            if name in _RESERVED:
                raise DefinitionError(
                    f"{what}: {name!r} {_RESERVED[name]}; name the feature otherwise, as in "
                    '"last_ordered_at"'
                )
            if not isinstance(value, (str, Transform, Aggregate)):
                raise DefinitionError(
                    f"{what}, {name!r}: a feature is a column's name, a @feature or an aggregate, "
                    f"found {_found(value)}; {as_feature(name, value)}"
                )
            kinds.add(isinstance(value, Aggregate))
        if len(kinds) > 1:
            plain = next(n for n, v in self.features.items() if not isinstance(v, Aggregate))
            given = self.features[plain]
            column = f'"{given}"' if isinstance(given, str) else getattr(given, "name", plain)
            raise DefinitionError(
                f"{what}: {plain!r} is a value of the latest row, and others are window "
                f'aggregates; write "{plain}": Last({column}, window="365d"), or a second view for '
                "it"
            )

    def __getitem__(self, names: Sequence[str]) -> FeatureSelection:
        """Some of the view's features, for a service: `customer_orders[["spend_7d"]]`."""
        chosen = (names,) if isinstance(names, str) else tuple(names)
        for name in chosen:
            if name not in self.features:
                raise DefinitionError(
                    f"FeatureView {self.name!r} has no feature {name!r}; "
                    f"{near(name, self.features)}"
                )
        return FeatureSelection(self, chosen)

    def as_(self, role: str, *, join_keys: Mapping[str, str] | None = None) -> FeatureSelection:
        """The view in a role, for a service that reads it more than once.

        `join_keys` maps join keys of the view to the fields of a row that hold them:
        `stations.as_("origin", join_keys={"station_id": "origin_id"})`; a key that is left out
        keeps its name. The features are named `<role>__<feature>`, as in `origin__bikes`, whatever
        else the service reads. Roles share the states of the view: nothing is stored twice.
        Brackets choose features: `stations.as_("origin", join_keys=…)[["bikes"]]`.

        DefinitionError for a role that is no name, or a key that the view does not have.
        """
        return FeatureSelection(self, tuple(self.features)).as_(role, join_keys=join_keys)

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
    """Some features of a view, and its role, if it has one. `join_keys` has the fields of a row
    that hold the view's join keys, by the names that these have in the view."""

    view: FeatureView
    names: tuple[str, ...]
    role: str | None = None
    join_keys: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, names: Sequence[str]) -> FeatureSelection:
        """Some of the features, in the same role."""
        chosen = self.view[names].names
        for name in chosen:
            if name not in self.names:
                raise DefinitionError(
                    f"this selection of FeatureView {self.view.name!r} has no feature {name!r}; it "
                    f"has {', '.join(self.names)}"
                )
        return replace(self, names=chosen)

    def as_(self, role: str, *, join_keys: Mapping[str, str] | None = None) -> FeatureSelection:
        """The same features in a role; see `FeatureView.as_`."""
        check_name(role, what=f"FeatureView {self.view.name!r}, a role")
        what = f"FeatureView {self.view.name!r} as {role!r}"
        given = dict(join_keys or {})
        for key, name in given.items():
            if key not in self.view.join_keys:
                raise DefinitionError(
                    f"{what}: {key!r} is no join key of it; it has {', '.join(self.view.join_keys)}"
                )
            check_columns([name], what=f"{what}, join key {key!r}")
        names = [given.get(key, key) for key in self.view.join_keys]
        _check_unreserved(names, what=what)
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"{what}: two join keys are to be read from {name!r}")
        check_columns(names, what=what)
        return replace(self, role=role, join_keys=given)


@dataclass(frozen=True, slots=True)
class FeatureService(Described):
    """What one model reads: views, selections of views, views in roles (`FeatureView.as_`), and
    request-time transforms (Q1).

    `request` maps the fields that a caller sends to their types. Offline they are columns of the
    entity frame.

    While Redis cannot be asked, a lookup is an error; with `on_outage="defaults"` it answers with
    the `default=` of each feature, or None, and with status DEFAULT (A4).
    """

    name: str
    features: Sequence[FeatureView | FeatureSelection | Transform] = field(kw_only=True)
    request: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    on_outage: Literal["error", "defaults"] = field(default="error", kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="FeatureService")
        what = f"FeatureService {self.name!r}"
        if not isinstance(self.features, (list, tuple)) or not self.features:
            raise DefinitionError(
                f"{what}: features is a list of views, view[[…]] or @features, found "
                f"{_found(self.features)}; write features=[customer_orders]"
            )
        for item in self.features:
            if not isinstance(item, (FeatureView, FeatureSelection, Transform)):
                raise DefinitionError(
                    f"{what}: features are views, view[[…]] or @features, found {_found(item)}"
                    + as_item(item)
                )
        if self.on_outage not in ("error", "defaults"):
            raise DefinitionError(
                f'{what}: on_outage is "error" or "defaults", not {self.on_outage!r}; write '
                'on_outage="defaults" for the default= of each feature while Redis cannot be asked'
            )
        request = _types(self.request, what=f"{what}, request")
        _check_unreserved(request, what=f"{what}, request")
        object.__setattr__(self, "request", request)

    def _repr_html_(self) -> str:
        """What a notebook shows: the features by view, and the request fields."""
        rows = []
        for item in self.features:
            match item:
                case FeatureView():
                    rows += [(item.name, name, _written(v)) for name, v in item.features.items()]
                case FeatureSelection():
                    of_view, title = item.view.features, item.role or item.view.name
                    rows += [(title, name, _written(of_view[name])) for name in item.names]
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
