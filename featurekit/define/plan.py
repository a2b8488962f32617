"""The compiled forms of definitions: views and services with slots, types and fingerprints.

They are plain data with a JSON form. The offline and the online path read nothing else, and a
serving process reads them from Redis, without the code of the feature repo.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from featurekit import aggregates
from featurekit.core.durations import LIFETIME, LIFETIME_US, duration_text
from featurekit.core.kept import Kept
from featurekit.core.types import OPTIONAL, Type
from featurekit.define.frame import Frame
from featurekit.language import ir, wire

if TYPE_CHECKING:
    from featurekit.aggregates import Aggregate


@wire.portable
@dataclass(frozen=True, slots=True)
class Check:
    """A compiled rule of a row: a function that returns bool, and for each of its parameters the
    column that it reads (S5)."""

    columns: tuple[str, ...]
    function: ir.Function


@wire.portable
@dataclass(frozen=True, slots=True)
class Source:
    """The part of a source that decides values: names, types and how time is read, not the place of
    files.

    `event_id` names the column of ids, `op` the column of corrections and deletions (T7).
    `timestamp_format` is how timestamps are written that are texts or numbers: a format, or JSON of
    the formats by column (T1). `parts` are the sources that a union has, in its order (T11);
    `define.union` makes its schema of theirs. `aside` are the rules that set a row aside which
    breaks one of them (S5), without their names and in an order of their own; None where there are
    none.
    """

    name: str
    schema: tuple[ir.Param, ...]
    timestamp_field: str
    created_timestamp_column: str | None
    timezone: str
    sequence: str | None
    event_id: str | None = field(default=None, metadata=OPTIONAL)
    op: str | None = field(default=None, metadata=OPTIONAL)
    timestamp_format: str | None = field(default=None, metadata=OPTIONAL)
    arrives: str | None = field(default=None, metadata=OPTIONAL)
    parts: tuple[Part, ...] | None = field(default=None, metadata=OPTIONAL)
    aside: tuple[Check, ...] | None = field(default=None, metadata=OPTIONAL)

    @property
    def arrival_known(self) -> bool:
        """Whether it says when each row arrived (T3)."""
        return self.created_timestamp_column is not None or self.arrives is not None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources whose rows it has: itself, or those that it unites."""
        return (self,) if self.parts is None else tuple(part.source for part in self.parts)

    @property
    def joins(self) -> tuple[Join, ...]:
        """Every join of its rows (T11)."""
        return tuple(join for part in self.parts or () for join in part.joins or ())

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return " and ".join(source.name for source in self.sources)


@wire.portable
@dataclass(frozen=True, slots=True)
class Part:
    """One of the sources of a union. `columns` names its column for each of the union's own. With
    `joins` it has further columns, which its rows take from other views (T11); a source that alone
    is enriched is a union of one."""

    source: Source
    columns: tuple[str, ...]
    joins: tuple[Join, ...] | None = field(default=None, metadata=OPTIONAL)


@wire.portable
@dataclass(frozen=True, slots=True)
class Join:
    """Another view, from which each row of a source takes features as of itself (T11).

    `keys` names the row's column for each of the view's join keys. `takes` are the numbers of the
    features that are taken, and `names` what each is called as a column of the row. A key may be a
    column that an earlier join has taken.
    """

    view: View
    keys: tuple[str, ...]
    takes: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def columns(self) -> tuple[ir.Param, ...]:
        """The columns that a row gets."""
        features = (self.view.features[i] for i in self.takes)
        named = zip(self.names, features, strict=True)
        return tuple(ir.Param(name, feature.type.or_none()) for name, feature in named)


@wire.portable
@dataclass(frozen=True, slots=True)
class Slot:
    """A value that a view keeps of each event: a column as it is, or a transform of the row."""

    type: Type
    column: str | None = None
    transform: ir.Function | None = None


@wire.portable
@dataclass(frozen=True, slots=True)
class Asked:
    """A transform of the latest row that runs when it is asked for, since it takes the instant
    (T9). `inputs` has for each parameter the slot that it reads; None is the instant."""

    function: ir.Function
    inputs: tuple[int | None, ...]


@wire.portable
@dataclass(frozen=True, slots=True)
class Ahead:
    """What makes a feature of a view a label (T10).

    Of an aggregate, `settle_us` is how long after its window events may still arrive; None is the
    delay that each source declares. Of a transform of the view's other labels, `function` is the
    transform, and `labels` has for each of its parameters the number of the label that it takes.
    """

    settle_us: int | None = None
    function: ir.Function | None = None
    labels: tuple[int, ...] = ()


@wire.portable
@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of a view: a slot of the latest row, a transform of its slots and the instant, or
    an aggregate of a slot over a window.

    `slot` is None if the aggregate counts rows; `aggregate` is None in a view of latest rows, in
    which a feature has either a slot or `asked`.
    `params` are the aggregate's own parameters, by name.

    With `ahead` it is a label. The window of an aggregate is then (t, t + window_us], which is said
    by an offset of -window_us; or there is no aggregate, but a transform of other labels.

    With `by`, the slot of a category, it is a dict of the aggregate of each category, of at most
    `most` of them (A6).

    `frame` is what else decides which events count (T10). In a window of periods `window_us` is a
    length that none of them exceeds.
    """

    name: str
    type: Type
    slot: int | None
    aggregate: str | None = None
    where: int | None = None
    window_us: int = 0
    offset_us: int = 0
    hop_us: int = 0
    default: Any = None
    params: tuple[tuple[str, Any], ...] = ()
    fingerprint: str = ""
    asked: Asked | None = field(default=None, metadata=OPTIONAL)
    ahead: Ahead | None = field(default=None, metadata=OPTIONAL)
    frame: Frame | None = field(default=None, metadata=OPTIONAL)
    by: int | None = field(default=None, metadata=OPTIONAL)
    most: int | None = field(default=None, metadata=OPTIONAL)

    @property
    def reads(self) -> tuple[int, ...]:
        """The slots that it reads, of the latest row or of each event."""
        of_row = (self.slot, self.where, self.by) if self.asked is None else self.asked.inputs
        return tuple(i for i in of_row if i is not None)

    def implementation(self) -> Aggregate:
        """The aggregate that this feature names, by category where it has some."""
        assert self.aggregate is not None
        return implementation_of(self.aggregate, self.params, self.by is not None, self.most)

    @property
    def lifetime(self) -> bool:
        """Whether the window has no beginning."""
        return self.window_us == LIFETIME_US

    @property
    def span(self) -> str:
        """How long the window is, for people: "7d", "lifetime", "the running month"."""
        if self.frame is not None and self.frame.calendar is not None:
            periods, calendar = self.frame.periods, self.frame.calendar
            if periods is None:
                return f"the running {calendar}"
            return f"the last full {calendar}" if periods == 1 else f"{periods} full {calendar}s"
        return LIFETIME if self.lifetime else duration_text(self.window_us)

    @property
    def nearest_us(self) -> int:
        """How long before an instant the window ends at the latest, in microseconds."""
        without = self.frame is not None and self.frame.exclude is not None
        return max(self.offset_us, 1) if without else self.offset_us

    @property
    def farthest_us(self) -> int:
        """How long before an instant the window begins at the earliest, in microseconds."""
        return self.offset_us + self.window_us + self.hop_us

    @property
    def steady(self) -> bool:
        """Whether the closed end of the window lies `nearest_us` before any instant, and the open
        end is that of T4 and T5."""
        return self.frame is None or self.frame.steady

    @property
    def cuts(self) -> bool:
        """Whether not all events of the window count that the condition keeps (T10)."""
        return self.frame is not None and self.frame.cuts

    def bounds(self, t: int) -> tuple[int, int]:
        """The window (low, high] in microseconds as of `t` (T4, T5, T10)."""
        if self.frame is not None and not self.frame.steady:
            low, high = self.frame.bounds(t - self.offset_us, self.window_us, self.hop_us)
            return low, min(high, t - self.nearest_us)
        low = t - self.offset_us - self.window_us
        if self.hop_us:
            low = low // self.hop_us * self.hop_us
        return low, t - self.nearest_us


@functools.cache
def implementation_of(
    name: str, params: tuple[tuple[str, Any], ...], by: bool = False, most: int | None = None
) -> Aggregate:
    """The aggregate of a name with its own parameters, or that of each category."""
    made = aggregates.by_name(name)(input="", window="1s", **dict(params))
    if not by:
        return made
    from featurekit.aggregates.by_category import ByCategory  # few services need it

    return ByCategory(inner=made, most=most, window="1s")


@wire.portable
@dataclass(frozen=True, slots=True)
class Role:
    """The part that a view plays in a service: its name there, and the fields of a row that hold
    the view's join keys, in their order."""

    name: str
    keys: tuple[str, ...]


@wire.portable
@dataclass(frozen=True, slots=True)
class View:
    """A compiled view. `kind` is "latest" for features of the latest row (V1), "window" for
    aggregates, "label" for labels, which training sets alone have (T10).

    `order` lists the slots that order the events of one instant (T6): the sequence column, then the
    row's own values. `retain_us` is how far back from an instant the windows reach, or those of
    labels ahead; in a view of windows it covers the ttl too. `dedupe_us` is how long the ids of a
    source with an `event_id` are remembered (T7); such a view has a slot for the id.

    `explode` is a list column of the source, of which each element is an event
    (`define.explode`).

    `where` is what a row of the source has to pass to be an event, in a view of latest rows alone.

    `role` is only set in a service, and decides nothing that is stored: roles of a view have one
    fingerprint, and read the same states.
    """

    name: str
    kind: Literal["latest", "window", "label"]
    join_keys: tuple[ir.Param, ...]
    source: Source
    slots: tuple[Slot, ...]
    order: tuple[int, ...]
    features: tuple[Feature, ...]
    ttl_us: int | None
    history_us: int
    retain_us: int
    on_error: str
    fingerprint: str = ""
    dedupe_us: int | None = field(default=None, metadata=OPTIONAL)
    role: Role | None = field(default=None, metadata=OPTIONAL)
    explode: str | None = field(default=None, metadata=OPTIONAL)
    where: Check | None = field(default=None, metadata=OPTIONAL)

    @property
    def each_row_an_event(self) -> bool:
        """Whether a row of the source that counts is one event, neither several nor none."""
        return self.explode is None and self.where is None

    @property
    def functions(self) -> tuple[ir.Function, ...]:
        """Every transform that decides its values: of the source's rules, of slots, of its
        features and of the views from which its rows take features."""
        rules = (check for source in self.source.sources for check in source.aside or ())
        of_source = (check.function for check in rules)
        of_slots = (slot.transform for slot in self.slots)
        of_features = (f.asked.function for f in self.features if f.asked is not None)
        of_joins = (f for join in self.source.joins for f in join.view.functions)
        of_labels = (f.ahead.function for f in self.features if f.ahead is not None)
        passed = [] if self.where is None else [self.where.function]
        every = (*of_source, *of_slots, *of_features, *of_joins, *of_labels, *passed)
        return tuple(f for f in every if f is not None)

    @property
    def title(self) -> str:
        """What the view is called in its service: by its role, or else by its own name."""
        return self.name if self.role is None else self.role.name

    @property
    def row_keys(self) -> tuple[ir.Param, ...]:
        """The fields of a row that name its entity, in the order of `join_keys`."""
        if self.role is None:
            return self.join_keys
        named = zip(self.role.keys, self.join_keys, strict=True)
        return tuple(ir.Param(name, key.type) for name, key in named)

    def entity(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The view's join keys, by their own names, as a row of its service has them."""
        named = zip(self.join_keys, self.row_keys, strict=True)
        return {key.name: row[field.name] for key, field in named}

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of the sources that its events come from; one, but for a union (T11)."""
        return tuple(source.name for source in self.source.sources)

    @property
    def joined(self) -> tuple[View, ...]:
        """The views from which its rows take features (T11), and those from which theirs do, each
        once and after those that it needs itself."""
        found: dict[tuple[str, str], View] = {}
        for join in self.source.joins:
            for view in (*join.view.joined, join.view):
                found.setdefault((view.name, view.fingerprint), view)
        return tuple(found.values())

    @property
    def all_source_names(self) -> tuple[str, ...]:
        """The names of the sources that decide its values: those of its events, and those of the
        views from which these take features (T11)."""
        names = (name for view in (self, *self.joined) for name in view.source_names)
        return tuple(dict.fromkeys(names))

    @property
    def arrival_known(self) -> bool:
        """Whether the source says when each row arrived (T3)."""
        return self.source.arrival_known


def full_name(view: View, feature: Feature) -> str:
    """The name of a view's feature that no other one of a service has."""
    return f"{view.title}__{feature.name}"


@wire.portable
@dataclass(frozen=True, slots=True)
class Input:
    """Where a request-time transform's parameter comes from (Q1): a request field, a feature,
    another transform, a join key, or the instant that is asked for (T9)."""

    kind: Literal["request", "feature", "transform", "key", "instant"]
    name: str
    view: int = -1
    index: int = -1


@wire.portable
@dataclass(frozen=True, slots=True)
class RequestTransform:
    """A transform that runs after retrieval, on both paths (Q1)."""

    function: ir.Function
    inputs: tuple[Input, ...]
    fingerprint: str = ""


@wire.portable
@dataclass(frozen=True, slots=True)
class Output:
    """A column of the result: a feature of a view, or a request-time transform (`view` is -1)."""

    name: str
    full_name: str
    view: int
    index: int
    type: Type
    fingerprint: str


@wire.portable
@dataclass(frozen=True, slots=True)
class Service:
    """A compiled service. `on_outage` is "defaults" where it answers while its store cannot be
    asked (A4)."""

    name: str
    views: tuple[View, ...]
    transforms: tuple[RequestTransform, ...]
    outputs: tuple[Output, ...]
    request: tuple[ir.Param, ...]
    fingerprint: str = ""
    on_outage: Literal["defaults"] | None = field(default=None, metadata=OPTIONAL)

    @property
    def join_keys(self) -> dict[str, Type]:
        """Every join key that a row must bring, with its type."""
        return {p.name: p.type for view in self.views for p in view.row_keys}

    def key_columns(self, view: View) -> dict[str, str]:
        """The join keys of a row that an event of the view tells, and the source's column of
        each."""
        named = zip(view.row_keys, view.join_keys, strict=True)
        own = {field.name: key.name for field, key in named}
        schema = {p.name for p in view.source.schema}
        return own | {k: k for k in self.join_keys if k in schema and k not in own}

    @property
    def stored(self) -> tuple[View, ...]:
        """The views whose states it reads, each once, whatever its roles."""
        found: dict[tuple[str, str], View] = {}
        for view in self.views:
            found.setdefault((view.name, view.fingerprint), view)
        return tuple(found.values())

    @property
    def fed(self) -> tuple[View, ...]:
        """The views that have to be fed for it: those whose states it reads, after those from which
        the rows of these take features (T11)."""
        found: dict[tuple[str, str], View] = {}
        for stored in self.stored:
            for view in (*stored.joined, stored):
                found.setdefault((view.name, view.fingerprint), view)
        return tuple(found.values())

    def reads(self, kind: str) -> tuple[str, ...]:
        """The names of the inputs of this kind that request-time transforms read, each once."""
        found = (g.name for t in self.transforms for g in t.inputs if g.kind == kind)
        return tuple(dict.fromkeys(found))


def is_label(service: Service, output: Output) -> bool:
    """Whether an output is a label, as only the columns of a training set are (T10)."""
    return output.view >= 0 and service.views[output.view].kind == "label"


def in_order(feature: Feature) -> bool:
    """Whether an aggregate's value depends on the order of the events (T6)."""
    rows = None if feature.frame is None else feature.frame.rows
    return rows is not None or feature.implementation().ordered


def empty_value(feature: Feature) -> Any:
    """A feature's value over no events, on both paths; the default if there is one (A4)."""
    value = _empty(feature)
    return value.copy() if isinstance(value, list | dict) else value  # the caller may change it


def _over_nothing(feature: Feature) -> Any:
    if feature.aggregate is None:
        return None
    value = feature.implementation().over([], None)  # no input: its type is irrelevant
    return feature.default if value is None else value


_empty = Kept(_over_nothing, most=4096)
