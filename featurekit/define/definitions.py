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
from featurekit.core.written import Defined, Place, made_by_method
from featurekit.define.arrivals import Commit, Delay, Modified, text_of
from featurekit.define.contracts.given import checked_rules
from featurekit.define.contracts.rules import Rule
from featurekit.define.deprecated import Deprecated, checked_deprecated
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
from featurekit.define.object_stores import scheme_of
from featurekit.define.origins import LakeTable, Origin
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
_NO_SOURCE: Any = None
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

    `path` is relative to the feature repo, or names objects of a store elsewhere, as in
    `s3://bucket/orders/*.parquet`. The files may be still to come: until there is one, the
    source has what is pushed to it, and its services serve after `apply` alone. In its place,
    `frame` is a pandas or polars frame, an Arrow table or reader, or a DuckDB relation. It is
    copied here and now: what is done to it later does not change the events. Manifests have its
    hash (F2). Or `origin` says where the events are: `SQLite`, `DuckDB`, `Postgres`, `Delta` or
    `Iceberg`. Each call reads it once, as it is then.

    `schema` maps the columns that are read to their types; the columns of the two timestamps may be
    left out of it. `timestamp_field` is the instant of the event. `created_timestamp_column` is the
    instant at which the store came to know the event (T3). Where no column says it, `arrives` may:
    `Delay("6h")` for files that land so long after the event, `Modified()`, the time of the file,
    or `Commit()`, the commit of a Delta Lake or Iceberg table that appended the row. Without any of
    these, both instants are the same.
    `timezone` is the zone of naive timestamps (T1). `sequence`, a column of the schema, orders the
    events of one instant (T6). `on_bad_row` is "error", or "quarantine" to set bad rows aside,
    counted and kept.

    `event_id`, a column of str, int or bytes without None, identifies an event: among its copies,
    the one that became known first counts (T7). `dedupe_within` is how long an id is remembered
    after the arrival of that copy; a copy that arrives later is a new event. Without
    `dedupe_within`, each view remembers ids for as long as its own windows (with offset and hop) or
    its ttl reach back. Then a copy of an event that happened before it arrived is never counted
    beside the event, and no other view changes the values of this one. A latest row without a ttl,
    and anything else that reaches back without end, must state `dedupe_within`. A source without an
    `event_id` may have it, too: it is how long the `Idempotency-Key` of a push over HTTP is known,
    24 hours by default, and no two of its events are one.

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
    arrives: Delay | Modified | Commit | None = field(default=None, kw_only=True)
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

    def __hash__(self) -> int:
        """By the name: a source is a key where a view maps its columns, and a schema is a dict."""
        return hash(self.name)

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
        self._check_arrives(what)
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
                f"{what}: origin is SQLite(…), DuckDB(…), Postgres(…), Delta(…) or Iceberg(…), "
                f'found {_found(self.origin)}; write origin=SQLite("data/shop.db", table="orders")'
            )
        kind = self.origin.kind
        if self.path or self.frame is not None or self.format not in (None, kind):
            raise DefinitionError(
                f"{what}: its events are in an origin, in files or in a frame; write origin=, "
                "path= or frame= alone, and no format= beside an origin"
            )
        object.__setattr__(self, "format", kind)

    def _check_arrives(self, what: str) -> None:
        """Whether `arrives` is one, and may stand there."""
        text_of(self.arrives, what=what)
        if self.arrives is not None and self.created_timestamp_column is not None:
            raise DefinitionError(
                f"{what}: arrives and created_timestamp_column both say when a row became known; "
                "write one"
            )
        if isinstance(self.arrives, Commit) and not isinstance(self.origin, LakeTable):
            raise DefinitionError(
                f"{what}: arrives=Commit() is about a table that keeps its commits, as in origin="
                'Delta("lake/orders"); for other files write arrives=Modified(), the time of the '
                'file, or arrives=Delay("6h")'
            )
        if isinstance(self.arrives, Modified) and not self.path:
            instead = "Commit()" if isinstance(self.origin, LakeTable) else 'Delay("6h")'
            raise DefinitionError(
                f"{what}: arrives=Modified() is the time of a file or an object that path= names; "
                f"write arrives={instead}, or created_timestamp_column= for a column"
            )

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
            secret = scheme_of(self.path) is not None and any(c in self.path for c in "@?")
            shown = "" if secret else f" {self.path!r}"
            raise DefinitionError(f"{what}: the path{shown}: {not_here}")
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

    def join(
        self,
        view: FeatureView,
        *,
        on: str | Mapping[str, str],
        take: Sequence[str] | Mapping[str, str] | None = None,
    ) -> Joined:
        """The source with features of another view beside its own columns, for the `source=` or the
        `sources=` of a view (T11): `orders.join(products, on="product_id", take=["price"])`.

        Each row takes the features of the latest row of `view` that was there for it: one that had
        happened by the row's own instant, had arrived by the row's own arrival, and is the last of
        those (T6). `on` is the column that holds the other view's join key, or maps its join keys
        to columns, as in `{"product_id": "sku"}`. `take` lists the features, or maps them to the
        names that they have here, as in `{"price": "list_price"}`; without it all are taken. They
        are columns that may be None: where there is no such row, where it is as old as the other
        view's ttl, where the feature is None, and where a key is. Further joins may follow, also on
        columns that were taken.

        DefinitionError where `view` has aggregates or does not know when its rows arrived, where a
        key is no column of the key's type, for a feature that takes the instant, that may err or is
        not there, for a name that the source has already, and where `view` is made of this source.
        """
        return Joined(self).join(view, on=on, take=take)

    def in_parquet(self, path: str) -> EventSource:
        """The same source with its rows in a Parquet file, which arrive when they happen if no
        column says otherwise."""
        plain: dict[str, Any] = {n: self.__dataclass_fields__[n].default for n in _OF_CSV}
        plain |= {"frame": None, "origin": None, "arrives": None, "compression": None}
        made = replace(self, path=path, format="parquet", **plain)
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
            if self.op is not None:
                raise DefinitionError(
                    f"{what}: op is about the ids of events; name their column, as in "
                    f"{assigned('EventSource', 'event_id')}, or leave op out"
                )
            self._check_memory(what)
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
        self._check_memory(what)

    def _check_memory(self, what: str) -> None:
        if self.dedupe_within is not None:
            duration_us(self.dedupe_within, what=f"{what}, dedupe_within")


@dataclass(frozen=True, slots=True)
class Joined:
    """A source whose rows take features from other views (T11); `EventSource.join` makes it.

    `joins` has each other view, the column for each of its join keys, and the name here of each
    feature that is taken. `place` is None: the source has its own.
    """

    source: EventSource
    joins: tuple[tuple[FeatureView, Mapping[str, str], Mapping[str, str]], ...] = ()
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """By the source, as it is a key where a view maps its columns."""
        return hash(self.source)

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def schema(self) -> Mapping[str, Type]:
        """The columns of the source, and those that are taken."""
        found = dict(self.source.schema)
        for view, _, takes in self.joins:
            types = _row_types(view)
            found |= {name: types[feature].or_none() for feature, name in takes.items()}
        return found

    @property
    def event_id(self) -> str | None:
        """The source's own."""
        return self.source.event_id

    @property
    def op(self) -> str | None:
        """The source's own."""
        return self.source.op

    @property
    def sequence(self) -> str | None:
        """The source's own."""
        return self.source.sequence

    @property
    def timestamp_field(self) -> str:
        """The source's own."""
        return self.source.timestamp_field

    @property
    def created_timestamp_column(self) -> str | None:
        """The source's own."""
        return self.source.created_timestamp_column

    @property
    def dedupe_within(self) -> Duration | None:
        """The source's own."""
        return self.source.dedupe_within

    def join(
        self,
        view: FeatureView,
        *,
        on: str | Mapping[str, str],
        take: Sequence[str] | Mapping[str, str] | None = None,
    ) -> Joined:
        """The same with features of one more view; see `EventSource.join`."""
        return made_by_method(lambda: self._with(view, on, take), given=(view, on, take))

    def _with(self, view: Any, on: Any, take: Any) -> Joined:
        what = f"EventSource {self.name!r}, join"
        if not isinstance(view, FeatureView):
            raise DefinitionError(
                f"{what}: it takes features of a FeatureView, found {_found(view)}; write "
                '.join(products, on="product_id"), the variable without quotes'
            )
        what = f"{what} of {view.name!r}"
        _check_joined(self, view, what=what)
        keys = _joined_keys(self, view, on, what=what)
        takes = _taken_names(self, view, take, what=what)
        return Joined(self.source, (*self.joins, (view, keys, takes)))


def _check_joined(source: Joined, view: FeatureView, *, what: str) -> None:
    """DefinitionError for a view from whose rows none can be taken as of another row."""
    if view.aggregates:
        raise DefinitionError(
            f"{what}: its features are aggregates, whose window ends at one instant, and an event "
            "knows two, its own and its arrival; join a view of columns and transforms"
        )
    for one in view.event_sources:
        if one.created_timestamp_column is None and one.arrives is None:
            raise DefinitionError(
                f"{what}: its source {one.name!r} does not say when rows arrived, so nobody knows "
                "which of them were there for an event; name the column at the source, as in "
                f"{assigned('EventSource', 'created_timestamp_column')}, or write "
                'arrives=Delay("6h")'
            )
    if source.source.name in view.all_event_sources:
        raise DefinitionError(
            f"{what}: it is made of the events of {source.source.name!r} itself, directly or by "
            "joins of its own, so an event would wait for itself; join a view of another source"
        )


def _joined_keys(source: Joined, view: FeatureView, on: Any, *, what: str) -> dict[str, str]:
    """The column of the source for each join key of the view."""
    keys, schema = view.join_keys, source.schema
    if isinstance(on, str) and len(keys) == 1:
        on = dict.fromkeys(keys, on)
    listed = ", ".join(f'"{key}": "{key}"' for key in keys)
    if not isinstance(on, Mapping) or on.keys() != keys.keys():
        shown = ", ".join(map(str, on)) if isinstance(on, Mapping) else _found(on)
        one = f'on="{next(iter(keys))}", or ' if len(keys) == 1 else ""
        raise DefinitionError(
            f"{what}: on says which column holds each join key of it ({', '.join(keys)}), found "
            f"{shown or 'nothing'}; write {one}on={{{listed}}}"
        )
    for key, column in on.items():
        type_ = schema.get(column)
        if type_ is None:
            raise DefinitionError(
                f"{what}: {column!r} is no column of source {source.name!r}; "
                f"{near(str(column), schema)}"
            )
        if type_.base != keys[key]:
            then = "write one type at both"
            if type_.item is not None and type_.item.base == keys[key]:
                then = (
                    "a row takes features before explode= makes events of its elements, and a list "
                    "names no one row of the view; write the elements as rows of a source, each "
                    "with the columns of its list's row, and join that one"
                )
            raise DefinitionError(
                f"{what}: the join key {key!r} is {keys[key]}, and the column {column!r} of source "
                f"{source.name!r} is {type_}; {then}"
            )
    return {key: on[key] for key in keys}


def _taken_names(source: Joined, view: FeatureView, take: Any, *, what: str) -> dict[str, str]:
    """The features that are taken, with their names as columns of the source."""
    listed = isinstance(take, (list, tuple)) and all(isinstance(name, str) for name in take)
    if take is None:
        take = {name: name for name in view.features}
    elif listed:
        take = {name: name for name in take}
    if not isinstance(take, Mapping) or not take:
        first = next(iter(view.features))
        raise DefinitionError(
            f"{what}: take lists features of it, found {_found(take) if take else 'none'}; write "
            f'take=["{first}"], or take={{"{first}": "its_name_here"}}'
        )
    check_columns(take.values(), what=f"{what}, take")
    known = dict.fromkeys([*source.schema, source.timestamp_field])
    if source.created_timestamp_column is not None:
        known[source.created_timestamp_column] = None
    for feature, name in take.items():
        if feature not in view.features:
            raise DefinitionError(
                f"{what}: it has no feature {feature!r}; {near(str(feature), view.features)}"
            )
        if name in known:
            raise DefinitionError(
                f"{what}: {name!r} is a column of source {source.name!r} already; take the feature "
                f'under another name, as in take={{"{feature}": "{view.name}_{feature}"}}'
            )
        known[name] = None
    check_columns(known, what=f"{what}, take")
    return dict(take)


def _row_types(view: FeatureView) -> dict[str, Type]:
    """The types of a view's join keys and features of rows, as they are written."""
    if isinstance(view.source, FeatureView):
        of_rows = _row_types(view.source)
    else:
        of_rows = dict(view.source.schema)
        if view.explode is not None:
            of_rows[view.explode] = of_rows[view.explode].item or of_rows[view.explode]
    found = dict(view.join_keys)
    for name, value in view.features.items():
        if isinstance(value, Transform):
            found[name] = from_hint(value.result)
        elif isinstance(value, str) and value in of_rows:
            found[name] = of_rows[value]
        else:
            raise DefinitionError(
                f"FeatureView {view.name!r}, feature {name!r}: its source has no column {value!r}; "
                f"{near(str(value), of_rows)}"
            )
    return found


@dataclass(frozen=True, slots=True)
class Union:
    """Several sources with the same columns, whose events are those of one view (T11);
    `FeatureView(sources=[…])` makes it.

    `parts` has each source with the source's column for each column that all of them have, in the
    order of the first one. `place` is None: each source has its own.
    """

    parts: tuple[tuple[EventSource | Joined, Mapping[str, str]], ...]
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def sources(self) -> tuple[EventSource, ...]:
        """The sources, in their order."""
        return tuple(s.source if isinstance(s, Joined) else s for s, _ in self.parts)

    @property
    def name(self) -> str:
        """The names of the sources."""
        return " and ".join(source.name for source in self.sources)

    @property
    def schema(self) -> Mapping[str, Type]:
        """The columns that all of the sources have, and their types."""
        source, columns = self.parts[0]
        return {name: source.schema[column] for name, column in columns.items()}

    @property
    def event_id(self) -> str | None:
        """The column of ids of the first source: all of them have one, or none."""
        return self.sources[0].event_id

    @property
    def dedupe_within(self) -> Duration | None:
        """How long ids are remembered, which is the same for all of the sources."""
        return self.sources[0].dedupe_within


def _united(given: Any, *, what: str) -> Union:
    """The union of these sources (T11); DefinitionError where they are none that one can have."""
    what = f"{what}, sources"
    parts: list[tuple[EventSource | Joined, Mapping[str, str]]] = []
    for item in given if isinstance(given, (list, tuple)) else [given]:
        pairs = item.items() if isinstance(item, Mapping) else [(item, {})]
        for source, mapping in pairs:
            if not isinstance(source, (EventSource, Joined)):
                raise DefinitionError(
                    f"{what}: a list of EventSources and their mappings, found {_found(source)}; "
                    'write sources=[web, {app: {"amount": "price"}}]'
                )
            parts.append((source, _offered(source, mapping, what=what)))
    if len(parts) < 2:
        raise DefinitionError(
            f"{what}: a union has two sources or more, found {len(parts)}; for one, write source="
        )
    names = [source.name for source, _ in parts]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(
                f"{what}: EventSource {name!r} stands there twice; a union has a source once"
            )
    _check_alike([source for source, _ in parts], what=what)
    columns = [n for n in parts[0][1] if all(n in offered for _, offered in parts)]
    shared = [n for n in columns if _is_shared(parts, n, what=what)]
    if not shared:
        raise DefinitionError(
            f"{what}: {' and '.join(map(repr, names))} have no column of one name; write which "
            'column is which, as in {app: {"amount": "price"}}'
        )
    return Union(tuple((source, {n: found[n] for n in shared}) for source, found in parts))


def _offered(source: EventSource | Joined, mapping: Any, *, what: str) -> dict[str, str]:
    """The columns of a source by the names that they have in the union: those of the mapping, and
    the others by their own."""
    if not isinstance(mapping, Mapping):
        raise DefinitionError(
            f"{what}: the mapping of {source.name!r} is a dict of the view's columns and of the "
            f'source\'s, found {_found(mapping)}; write {{{source.name}: {{"amount": "price"}}}}'
        )
    for name, column in mapping.items():
        if column not in source.schema:
            raise DefinitionError(
                f"{what}: the view's column {name!r} is to be {column!r} of source "
                f"{source.name!r}, which has no such column; {near(str(column), source.schema)}"
            )
    check_columns(mapping, what=f"{what}, the mapping of {source.name!r}")
    own = {n: n for n in source.schema if n not in mapping.values() and n not in mapping}
    made = {**mapping, **own}
    places = {n: i for i, n in enumerate(source.schema)}
    return {n: made[n] for n in sorted(made, key=lambda n: places[made[n]])}


def _is_shared(
    parts: Sequence[tuple[EventSource | Joined, Mapping[str, str]]], name: str, *, what: str
) -> bool:
    """Whether a column that all sources have is one of the union. Ids, versions, sequences and
    timestamps that differ in their types are none: they are each source's own. DefinitionError for
    other columns that differ."""
    first, columns = parts[0]
    wanted = first.schema[columns[name]]
    for source, offered in parts[1:]:
        found = source.schema[offered[name]]
        if str(found) == str(wanted):
            continue
        own = [
            one == name
            and one in (s.event_id, s.op, s.sequence, s.timestamp_field, s.created_timestamp_column)
            for s, one in ((first, columns[name]), (source, offered[name]))
        ]
        if any(own):
            return False
        raise DefinitionError(
            f"{what}: the column {name!r} is {wanted} in source {first.name!r} "
            f"({columns[name]!r}) and {found} in source {source.name!r} ({offered[name]!r}); write "
            "one type at both, or give one of them another name by a mapping"
        )
    return True


def _check_alike(sources: Sequence[EventSource | Joined], *, what: str) -> None:
    """DefinitionError where sources differ in what a union has once: whether they have ids and
    corrections, for how long ids are remembered, and what orders events (T6, T7)."""
    first = sources[0]
    for other in sources[1:]:
        pair = f"sources {first.name!r} and {other.name!r}"
        for role, why in (
            ("event_id", "copies of an event are told in all sources of a union, or in none"),
            ("op", "all sources of a union bring corrections, or none does"),
        ):
            if (getattr(first, role) is None) != (getattr(other, role) is None):
                lacking = first if getattr(first, role) is None else other
                raise DefinitionError(
                    f"{what}: {why}; name the column at {lacking.name!r}, as in "
                    f"{assigned('EventSource', role)}, or leave {role} out at the other"
                )
        if first.dedupe_within != other.dedupe_within:
            raise DefinitionError(
                f"{what}: {pair} remember ids for {first.dedupe_within} and "
                f"{other.dedupe_within}; write one dedupe_within= at both"
            )
    kinds = {s.name: s.schema[s.sequence].base for s in sources if s.sequence is not None}
    if len(set(kinds.values())) > 1:
        shown = " and ".join(f"{kind} in {name!r}" for name, kind in kinds.items())
        raise DefinitionError(
            f"{what}: the sequence is {shown}, so it orders no events of both; write one type"
        )


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

    `sources`, in the place of `source`, are several EventSources whose events are those of the view
    (T11), as in `sources=[web, {app: {"amount": "price"}}]`. A mapping says which column of a
    source is the view's column of that name; the others keep their names. The columns of the view
    are those that all of the sources have, and each has one type in all of them. Each source keeps
    its files, pushes, time zone and ids; the same id in two sources is two events.

    Either may have rows that take features from other views, as in
    `source=orders.join(products, on="product_id")`; see `EventSource.join`.

    `explode` names a list column of the source: each of its elements is an event of its own, with
    the row's other columns. In the view the column is the element, of the list's item type, and it
    may be a join key. A row with an empty list, or None, has no event. Ids are those of the row: a
    copy or a correction concerns all of its elements (T7). Events of one row stand in the order of
    the list.

    `where`, a column or `@feature` of bool, is for a view of latest rows: a row in which it is not
    true is none of the view's (V1). Ids are settled before: the correction of a row that passes by
    one that does not takes the row away (T7).

    `features` maps names to columns, transforms or aggregates. Either all are columns and
    transforms of the latest row (V1), or all are window aggregates. `ttl` is how old the latest row
    may be (T4), and in a view of aggregates how old the entity's latest event may be. If that event
    is older, every feature of the view is None with status OUTSIDE_MAX_AGE; so with a ttl every
    feature may be None. `history` is how far back from the newest arrival online lookups may ask
    (T8). `on_error="null"` gives None with status ERROR, "fail" raises (R3).

    A view of labels has aggregates with `ahead=True`, and transforms whose parameters are the names
    of these (T10). A service has none of it: labels are asked for by `get_historical_features(…,
    labels=[view])`, in training sets alone.

    `deprecated` says that the view is to be given up, or some of its features, by their names:
    `deprecated={"spend_7d": Deprecated(after="2027-03-01", use="orders_v2:spend_7d")}`.
    """

    name: str
    entities: Sequence[Entity] = field(kw_only=True)
    source: EventSource | Joined | FeatureView | Union = field(default=_NO_SOURCE, kw_only=True)
    sources: Sequence[EventSource | Joined | Mapping[EventSource | Joined, Mapping[str, str]]] = (
        field(default=(), kw_only=True)
    )
    features: Mapping[str, str | Transform | Aggregate] = field(kw_only=True)
    explode: str | None = field(default=None, kw_only=True)
    where: str | Transform | None = field(default=None, kw_only=True)
    ttl: Duration | None = field(default=None, kw_only=True)
    history: Duration | None = field(default=None, kw_only=True)
    on_error: Literal["null", "fail"] = field(default="null", kw_only=True)
    deprecated: Deprecated | Mapping[str, Deprecated] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_name(self.name, what="FeatureView")
        what = f"FeatureView {self.name!r}"
        listed = isinstance(self.entities, (list, tuple)) and bool(self.entities)
        if not listed or not all(isinstance(e, Entity) for e in self.entities):
            raise DefinitionError(
                f"{what}: entities is a list of Entity, found {_found(self.entities)}; write "
                "entities=[customer], the variable in brackets and without quotes"
            )
        if self.source is _NO_SOURCE and self.sources != ():
            object.__setattr__(self, "source", _united(self.sources, what=what))
            object.__setattr__(self, "sources", ())
        elif self.sources != ():
            raise DefinitionError(
                f"{what}: its events are those of one source or of several; write source= or "
                "sources=[…], not both"
            )
        if not isinstance(self.source, (EventSource, Joined, FeatureView, Union)):
            raise DefinitionError(
                f"{what}: source is an EventSource or a FeatureView, found {_found(self.source)}; "
                f"write {as_source(self.source)}"
            )
        if self.explode is not None:
            self._check_explode(what)
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
        self._check_where(what)
        said = checked_deprecated(self.deprecated, self.features, what=what)
        object.__setattr__(self, "deprecated", said)
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
        if self.labels:
            self._check_labels(what)
        elif len(kinds) > 1:
            plain = next(n for n, v in self.features.items() if not isinstance(v, Aggregate))
            given = self.features[plain]
            column = f'"{given}"' if isinstance(given, str) else getattr(given, "name", plain)
            raise DefinitionError(
                f"{what}: {plain!r} is a value of the latest row, and others are window "
                f'aggregates; write "{plain}": Last({column}, window="365d"), or a second view for '
                "it"
            )

    def _check_where(self, what: str) -> None:
        """Whether the view may have its `where`, and its source may have one."""
        if isinstance(self.source, FeatureView) and self.source.where is not None:
            raise DefinitionError(
                f"{what}: its source is view {self.source.name!r}, which has where=, and whose "
                "rows are not all events; take the EventSource itself, and write where= here"
            )
        if self.where is None:
            return
        if not isinstance(self.where, (str, Transform)):
            raise DefinitionError(
                f"{what}: where is a column's name or a @feature, found {_found(self.where)}; "
                'write where="paid" for a column, or where=is_paid for a @feature'
            )
        if self.aggregates:
            raise DefinitionError(
                f"{what}: where= of a view chooses its latest rows, and its features are "
                'aggregates; write where= at each of them, as in Sum("amount", window="7d", '
                'where="paid")'
            )

    def _check_labels(self, what: str) -> None:
        """What a view of labels may have (T10)."""
        label = next(n for n, v in self.features.items() if isinstance(v, Aggregate) and v.ahead)
        for name, value in self.features.items():
            if isinstance(value, Transform) or (isinstance(value, Aggregate) and value.ahead):
                continue
            raise DefinitionError(
                f"{what}: {label!r} is a label, which looks ahead, and {name!r} is a feature, "
                "which does not; put them into two views, since a label is never a feature"
            )
        for option in ("ttl", "history"):
            if getattr(self, option) is not None:
                raise DefinitionError(
                    f"{what}: {option}= is about what is served, and {label!r} is a label, which "
                    f"never is; leave {option}= out"
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
            **({} if self.where is None else {"where": _written(self.where)}),
        }
        rows = [(name, _written(value)) for name, value in self.features.items()]
        return html.box(
            f"FeatureView {self.name}", html.facts(about), html.table(["feature", "is"], rows)
        )

    @property
    def labels(self) -> bool:
        """Whether its features are labels, which look ahead (T10)."""
        return any(isinstance(f, Aggregate) and f.ahead for f in self.features.values())

    @property
    def aggregates(self) -> bool:
        """Whether its features are window aggregates."""
        return any(isinstance(f, Aggregate) for f in self.features.values())

    def _check_explode(self, what: str) -> None:
        if isinstance(self.source, FeatureView):
            raise DefinitionError(
                f"{what}: its source is view {self.source.name!r}, whose events it takes as they "
                "are; write explode= there"
            )
        schema = self.source.schema
        type_ = schema.get(self.explode or "")
        if type_ is None or type_.item is None:
            lists = [name for name, one in schema.items() if one.item is not None]
            there = f"its lists are {', '.join(lists)}" if lists else "it has no list"
            of = "no column" if type_ is None else str(type_)
            raise DefinitionError(
                f"{what}: explode is the name of a list column of {self.source.name!r}, and "
                f"{self.explode!r} is {of}; {there}"
            )

    @property
    def exploded(self) -> str | None:
        """The list column whose elements are its events, found through any views between."""
        return self.source.exploded if isinstance(self.source, FeatureView) else self.explode

    @property
    def event_source(self) -> EventSource | Joined | Union:
        """The EventSource or the union of its events, found through any views between; an
        EventSource with what its rows take from other views, where they do."""
        return self.source.event_source if isinstance(self.source, FeatureView) else self.source

    @property
    def event_sources(self) -> tuple[EventSource, ...]:
        """Every EventSource of its events; one, but for a union."""
        found = self.event_source
        if isinstance(found, Union):
            return found.sources
        return (found.source if isinstance(found, Joined) else found,)

    @property
    def _joins(self) -> list[tuple[FeatureView, Mapping[str, str], Mapping[str, str]]]:
        found = self.event_source
        parts = [one for one, _ in found.parts] if isinstance(found, Union) else [found]
        return [join for one in parts if isinstance(one, Joined) for join in one.joins]

    @property
    def joined(self) -> tuple[FeatureView, ...]:
        """The views from which rows of its sources take features (T11)."""
        return tuple(view for view, *_ in self._joins)

    @property
    def taken(self) -> frozenset[str]:
        """The columns of its events that are taken from other views (T11)."""
        found = self.event_source
        taken = {name for *_, takes in self._joins for name in takes.values()}
        if not isinstance(found, Union):
            return frozenset(taken)
        pairs = (pair for _, columns in found.parts for pair in columns.items())
        return frozenset(name for name, column in pairs if column in taken)

    @property
    def all_event_sources(self) -> dict[str, EventSource]:
        """Every EventSource that decides its values, by its name: those of its events, and those of
        the views from which these take features."""
        found = {source.name: source for source in self.event_sources}
        for view in self.joined:
            found |= view.all_event_sources
        return found

    def columns_of(self, source: str) -> Mapping[str, str] | None:
        """The column of an EventSource of this name for each column of the view's events: the same,
        or that of a union. None where the view's events are of other sources."""
        found = self.event_source
        parts = found.parts if isinstance(found, Union) else [(found, {n: n for n in found.schema})]
        return next((columns for one, columns in parts if one.name == source), None)

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

    `deprecated` says that the service is to be given up, or some of its request-time features, by
    their names. Those of views are deprecated at the view.
    """

    name: str
    features: Sequence[FeatureView | FeatureSelection | Transform] = field(kw_only=True)
    request: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    on_outage: Literal["error", "defaults"] = field(default="error", kw_only=True)
    deprecated: Deprecated | Mapping[str, Deprecated] | None = field(default=None, kw_only=True)

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
        said = checked_deprecated(self.deprecated, self.at_request, what=what)
        object.__setattr__(self, "deprecated", said)

    @property
    def at_request(self) -> dict[str, Transform]:
        """Its request-time features, by name (Q1)."""
        return {item.name: item for item in self.features if isinstance(item, Transform)}

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
