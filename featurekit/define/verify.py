"""Says whether a compiled service is one that `compile_service` could have made (F0).

It is asked of every plan that comes out of a store, before anything is made of it: names, indexes,
types, windows and constants are compared with what they refer to. Functions are checked by
`language.verify`. What is wrong is `Unsound`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from featurekit import aggregates
from featurekit.aggregates.base import Aggregate, own_fields
from featurekit.aggregates.by_category import ByCategory, dict_type
from featurekit.aggregates.frame import MOST_PERIODS, MOST_ROWS
from featurekit.core.durations import LIFETIME_US
from featurekit.core.periods import longest_us
from featurekit.core.timezones import zone_names
from featurekit.core.types import BOOL, DATETIME, OPTIONAL, Type
from featurekit.define.arrivals import COMMIT, MODIFIED, delay_us
from featurekit.define.explode import event_schema
from featurekit.define.frame import Frame
from featurekit.define.plan import (
    Asked,
    Check,
    Feature,
    Input,
    Join,
    Output,
    Part,
    RequestTransform,
    Service,
    Slot,
    Source,
    View,
    full_name,
)
from featurekit.define.union import part_schema, unite
from featurekit.errors import DefinitionError
from featurekit.language.ir import Param
from featurekit.language.transform import INSTANT
from featurekit.language.verify import Unsound, verify_function, verify_type, verify_value

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,999}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_KEYS = ("bool", "int", "str", "bytes", "date", "datetime")
_IDS = ("str", "int", "bytes")
_MOST_COLUMN = 10_000


def verify_service(service: Service) -> None:
    """Unsound where the service is none that the compiler makes."""
    _name(service.name, "service")
    what = f"service {service.name!r}"
    for view in service.views:
        _View(view).check()
    _distinct((v.title for v in service.views), f"{what}: views")
    _columns(service.request, f"{what}, request")
    keys: dict[str, Type] = {}
    for key in (key for view in service.views for key in view.row_keys):
        if keys.setdefault(key.name, key.type) != key.type:
            raise Unsound(f"{what}: the join key {key.name!r} has two types")
    taken = {*keys, *(p.name for p in service.request)}
    if len(taken) < len(keys) + len(service.request):
        raise Unsound(f"{what}: a join key is a request field, too")
    for number, transform in enumerate(service.transforms):
        _transform(service, number, transform)
    for output in service.outputs:
        _output(service, output)
    _distinct([*(o.name for o in service.outputs), *taken], f"{what}: columns")
    _fingerprint(service.fingerprint, what)
    if service.on_outage not in (None, "defaults"):
        raise Unsound(f"{what}: on_outage is {service.on_outage!r}")


def _name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise Unsound(f"{name!r} is no name of a {what}")


def _fingerprint(text: str, what: str) -> None:
    if not _FINGERPRINT.fullmatch(text):
        raise Unsound(f"{what}: {text!r} is no fingerprint")


def _distinct(names: Iterable[str], what: str) -> None:
    listed = list(names)
    if len(set(listed)) < len(listed):
        raise Unsound(f"{what} of one name")


def _column(name: str | None, what: str) -> None:
    if name is not None and not 0 < len(name) <= _MOST_COLUMN:
        raise Unsound(f"{what}: {name!r} is no name of a column")


def _columns(params: Sequence[Param], what: str) -> None:
    """Names of columns and fields are any texts; the types are none that only aggregates give."""
    for param in params:
        _column(param.name, what)
        verify_type(param.type, where=f"{what}, {param.name!r}")
        if param.type.name in ("dict", "None"):
            raise Unsound(f"{what}: {param.name!r} is {param.type}")
    _distinct((p.name for p in params), f"{what}: columns")


class _View:
    """One view of a service."""

    def __init__(self, view: View) -> None:
        self.view, self.what = view, f"view {view.name!r}"
        self.schema = {p.name: p.type for p in event_schema(view)}

    def check(self) -> None:
        view, what = self.view, self.what
        _name(view.name, "view")
        _fingerprint(view.fingerprint, what)
        self.source()
        for slot in view.slots:
            self.slot(slot)
        if sorted(view.order) != list(range(len(view.slots))):
            raise Unsound(f"{what}: its order names other slots than it has")
        if not view.features:
            raise Unsound(f"{what} has no feature")
        for feature in view.features:
            self.feature(feature)
        _distinct((f.name for f in view.features), f"{what}: features")
        for key in view.join_keys:
            if key.type.optional or key.type.name not in _KEYS:
                raise Unsound(f"{what}: the join key {key.name!r} is {key.type}")
            if self.column(key.name).base != key.type:
                raise Unsound(
                    f"{what}: the join key {key.name!r} is of another type than its column"
                )
        _distinct((k.name for k in view.join_keys), f"{what}: join keys")
        if not view.join_keys:
            raise Unsound(f"{what} has no join key")
        self.role()
        self.times()

    def role(self) -> None:
        role = self.view.role
        if role is None:
            return
        _name(role.name, "role")
        if len(role.keys) != len(self.view.join_keys):
            raise Unsound(f"{self.what}: the role {role.name!r} has {len(role.keys)} keys")
        for name in role.keys:
            _column(name, f"{self.what}, role {role.name!r}")
        _distinct(role.keys, f"{self.what}, role {role.name!r}: keys")

    def times(self) -> None:
        view = self.view
        spans = [view.history_us, view.retain_us, view.ttl_us or 1, view.dedupe_us or 1]
        if min(spans) < 0 or 0 in (view.ttl_us, view.dedupe_us):
            raise Unsound(f"{self.what}: a span of time below zero")
        if (view.dedupe_us is None) != (view.source.event_id is None):
            raise Unsound(f"{self.what}: it remembers ids without a source that has them")
        reach = [f.farthest_us for f in view.features]
        if view.kind == "window" and view.ttl_us is not None:
            reach.append(view.ttl_us)
        if view.retain_us < max(reach):
            raise Unsound(f"{self.what}: its windows reach further back than it keeps events")
        if view.on_error not in ("null", "fail"):
            raise Unsound(f"{self.what}: on_error is {view.on_error!r}")

    def column(self, name: str) -> Type:
        found = self.schema.get(name)
        if found is None:
            raise Unsound(f"{self.what}: {name!r} is no column of its source")
        return found

    def source(self) -> None:
        source = self.view.source
        _source(source, self.what)
        lists = {p.name for p in source.schema if p.type.item is not None}
        if self.view.explode is not None and self.view.explode not in lists:
            raise Unsound(f"{self.what}: {self.view.explode!r} is no list to explode")
        if self.view.where is not None:
            if self.view.kind != "latest":
                raise Unsound(f"{self.what}: a condition of rows in a view of no latest rows")
            _rule(self.view.where, self.column, self.what)
        if source.parts is not None:
            _union(source, source.parts, f"{self.what}, source {source.name!r}")

    def slot(self, slot: Slot) -> None:
        verify_type(slot.type, where=self.what)
        if (slot.column is None) == (slot.transform is None):
            raise Unsound(f"{self.what}: a slot is a column or a transform")
        if slot.column is not None:
            found = self.column(slot.column)
        else:
            assert slot.transform is not None
            where = f"{self.what}, feature {slot.transform.name!r}"
            verify_function(slot.transform, where=where)
            for param in slot.transform.params:
                _fits(param, self.column(param.name), where)
            found = slot.transform.returns
        if found != slot.type:
            raise Unsound(f"{self.what}: a slot of {found} is {slot.type}")

    def slot_type(self, index: int) -> Type:
        if not 0 <= index < len(self.view.slots):
            raise Unsound(f"{self.what}: there is no slot {index}")
        return self.view.slots[index].type

    def feature(self, feature: Feature) -> None:
        what = f"{self.what}, feature {feature.name!r}"
        _name(feature.name, "feature")
        _fingerprint(feature.fingerprint, what)
        verify_type(feature.type, where=what)
        item = None if feature.slot is None else self.slot_type(feature.slot)
        if feature.asked is not None:
            item = self.asked(feature, feature.asked, what)
        where = BOOL if feature.where is None else self.slot_type(feature.where)
        if where.base != BOOL:
            raise Unsound(f"{what}: its condition is {where}")
        if (feature.aggregate is None) != (self.view.kind == "latest"):
            raise Unsound(
                f"{what}: a {self.view.kind} view and {feature.aggregate or 'no aggregate'}"
            )
        if feature.frame is not None:
            _frame(feature, feature.frame, what)
        if feature.most is not None and (feature.by is None or feature.most < 1):
            raise Unsound(f"{what}: {feature.most} categories")
        if feature.aggregate is None:
            plain = (
                feature.window_us,
                feature.offset_us,
                feature.hop_us,
                feature.where,
                feature.by,
            )
            if item is None or plain != (0, 0, 0, None, None) or feature.params:
                raise Unsound(f"{what}: it is of the latest row and has a window")
            wanted = item.or_none()
        else:
            wanted = self.result(feature, item, what)
        if feature.default is not None:
            verify_value(feature.default, feature.type.base, where=f"{what}, default")
        if wanted.base != feature.type.base or (
            wanted.optional and not feature.type.optional and feature.default is None
        ):
            raise Unsound(f"{what} is {feature.type}, and its values are {wanted}")

    def asked(self, feature: Feature, asked: Asked, what: str) -> Type:
        """The type of what a transform of the latest row and the instant gives (T9)."""
        if feature.slot is not None or self.view.kind != "latest":
            raise Unsound(f"{what}: it is asked for an instant and has a slot or a window")
        verify_function(asked.function, where=what)
        if len(asked.inputs) != len(asked.function.params):
            raise Unsound(f"{what}: {len(asked.inputs)} inputs for its parameters")
        for param, index in zip(asked.function.params, asked.inputs, strict=True):
            _fits(param, DATETIME if index is None else self.slot_type(index), what)
        return asked.function.returns

    def result(self, feature: Feature, item: Type | None, what: str) -> Type:
        """The type of an aggregate's values, once its name, parameters and window are known."""
        assert feature.aggregate is not None
        kind = _aggregate(feature.aggregate)
        own = own_fields(kind)
        given = dict(feature.params)
        known = [f.name for f in own if f.metadata != OPTIONAL or f.name in given]
        if [name for name, _ in feature.params] != known:
            names = [f.name for f in own]
            raise Unsound(f"{what}: the parameters of {feature.aggregate} are {names}")
        if not 0 < feature.window_us <= LIFETIME_US or min(feature.offset_us, feature.hop_us) < 0:
            raise Unsound(f"{what}: a window of {feature.window_us} µs")
        if feature.lifetime and feature.hop_us:
            raise Unsound(f"{what}: a lifetime with a hop")
        try:
            made = feature.implementation()
            if item is None and not made.counts_rows:
                raise Unsound(f"{what}: {feature.aggregate} of no input")
            of = None if item is None else item.base
            if isinstance(made, ByCategory):
                assert feature.by is not None
                return dict_type(made.inner, self.slot_type(feature.by), of)
            return made.result(of)
        except (DefinitionError, TypeError, ValueError) as error:
            raise Unsound(f"{what}: {error}") from None


def _frame(feature: Feature, frame: Frame, what: str) -> None:
    """Whether what a feature says of the events that count has a meaning (T10)."""
    if feature.aggregate is None or feature.ahead is not None:
        raise Unsound(f"{what}: it chooses among the events of a window and has none")
    if frame.rows is not None and not 1 <= frame.rows <= MOST_ROWS:
        raise Unsound(f"{what}: the last {frame.rows} rows")
    if frame.session_us is not None:
        others = (frame.rows, frame.ends, frame.calendar)
        if others != (None, None, None) or not 0 < frame.session_us <= feature.window_us:
            raise Unsound(f"{what}: a session with gaps of {frame.session_us} µs")
        if feature.lifetime:
            raise Unsound(f"{what}: a session without a window")
    if frame.ends is not None and (not feature.hop_us or frame.calendar is not None):
        raise Unsound(f"{what}: its window ends at a hop and has none")
    if frame.calendar is None:
        if frame.timezone is not None or frame.periods is not None:
            raise Unsound(f"{what}: periods of no calendar")
        return
    if frame.timezone not in zone_names():
        raise Unsound(f"{what}: {frame.timezone!r} is no time zone of this tzdata")
    if frame.periods is not None and not 1 <= frame.periods <= MOST_PERIODS:
        raise Unsound(f"{what}: a window of {frame.periods} periods")
    if feature.hop_us or feature.window_us != longest_us(frame.calendar, (frame.periods or 0) + 1):
        raise Unsound(f"{what}: the window of a {frame.calendar} is {feature.window_us} µs")


def _source(source: Source, of: str) -> None:
    """One source of a view."""
    _name(source.name, "source")
    what = f"{of}, source {source.name!r}"
    if not source.schema:
        raise Unsound(f"{what} has no columns")
    _columns(source.schema, what)
    schema = {p.name: p.type for p in source.schema}

    def column(name: str) -> Type:
        if name not in schema:
            raise Unsound(f"{of}: {name!r} is no column of its source")
        return schema[name]

    for name in (source.timestamp_field, source.created_timestamp_column):
        _column(name, what)
        if schema.get(name or "", Type("datetime")).name != "datetime":
            raise Unsound(f"{what}: {name!r} is no instant")
    if source.sequence is not None:
        column(source.sequence)
    _arrives(source, what)
    if source.op is not None and (source.event_id is None or column(source.op).name != "str"):
        raise Unsound(f"{what}: {source.op!r} says nothing of corrections")
    if source.event_id is not None and column(source.event_id).name not in _IDS:
        raise Unsound(f"{what}: {source.event_id!r} holds no ids")
    for check in source.aside or ():
        _rule(check, column, what)
    if source.timezone != "UTC":
        from featurekit.core.timezones import zone

        try:
            zone(source.timezone)
        except DefinitionError as error:
            raise Unsound(f"{what}: {error}") from None


def _rule(check: Check, column: Callable[[str], Type], what: str) -> None:
    function = check.function
    verify_function(function, where=f"{what}, a rule")
    if len(check.columns) != len(function.params) or function.returns.base != BOOL:
        raise Unsound(f"{what}: a rule of other columns than it names, or one that is no bool")
    for name, param in zip(check.columns, function.params, strict=True):
        _fits(param, column(name), f"{what}, a rule")


def _arrives(source: Source, what: str) -> None:
    try:
        known = source.arrives in (None, COMMIT, MODIFIED) or (delay_us(source.arrives) or 0) > 0
    except ValueError:
        known = False
    if not known or (source.arrives is not None and source.created_timestamp_column):
        raise Unsound(f"{what}: {source.arrives!r} does not say when rows arrive")


def _union(source: Source, parts: Sequence[Part], what: str) -> None:
    """The sources of a union, which is what `unite` makes of them (T11)."""
    if len(parts) < (1 if source.joins else 2) or any(
        part.source.parts is not None for part in parts
    ):
        raise Unsound(f"{what}: a union is of two sources or more, and of no union")
    _distinct((part.source.name for part in parts), f"{what}: sources")
    columns = [p.name for p in source.schema[: len(parts[0].columns)]]
    wanted = [p.type for p in source.schema[: len(columns)]]
    for part in parts:
        _source(part.source, what)
        _joins(part, what)
        types = {p.name: p.type for p in part_schema(part)}
        found = [types.get(name) for name in part.columns]
        if not found or list(map(str, found)) != list(map(str, wanted)):
            raise Unsound(f"{what}: the columns of source {part.source.name!r} are others")
    alike = {(p.source.event_id is None, p.source.op is None) for p in parts}
    kinds = {
        next(c.type.base for c in p.source.schema if c.name == p.source.sequence)
        for p in parts
        if p.source.sequence is not None
    }
    if len(alike) > 1 or len(kinds) > 1 or source != unite(columns, parts):
        raise Unsound(f"{what}: it is not the union of its sources")


def _joins(part: Part, what: str) -> None:
    """The other views from which rows of a source take features (T11). They are of other sources,
    so that no row waits for itself."""
    if part.joins == ():
        raise Unsound(f"{what}: source {part.source.name!r} has joins of nothing")
    schema = {p.name: p.type for p in part.source.schema}
    for join in part.joins or ():
        view = join.view
        _View(view).check()
        _join(join, schema, f"{what}, join of {view.name!r}")
        if part.source.name in view.all_source_names or view.role is not None:
            raise Unsound(f"{what}: {view.name!r} is of the same source, or in a role")
        for column in join.columns:
            if column.name in schema:
                raise Unsound(f"{what}: two columns {column.name!r}")
            schema[column.name] = column.type
    _columns([Param(name, type_) for name, type_ in schema.items()], what)


def _join(join: Join, schema: dict[str, Type], what: str) -> None:
    view = join.view
    if view.kind != "latest" or not view.arrival_known:
        raise Unsound(f"{what}: no row of it is known as of another row")
    if len(join.keys) != len(view.join_keys) or not join.takes:
        raise Unsound(f"{what}: it has other keys, or takes nothing")
    for key, column in zip(view.join_keys, join.keys, strict=True):
        if column not in schema or schema[column].base != key.type:
            raise Unsound(f"{what}: {column!r} does not hold the join key {key.name!r}")
    if len(join.names) != len(join.takes):
        raise Unsound(f"{what}: names for other features than it takes")
    for index in join.takes:
        if not 0 <= index < len(view.features) or view.features[index].slot is None:
            raise Unsound(f"{what}: there is no feature {index} of a row")


def _aggregate(name: str) -> type[Aggregate]:
    try:
        kind = aggregates.by_name(name) if _NAME.fullmatch(name) else None
    except AttributeError:
        kind = None
    if not isinstance(kind, type) or kind is Aggregate or not issubclass(kind, Aggregate):
        raise Unsound(f"{name!r} is no aggregate")
    return kind


def _fits(param: Param, found: Type, what: str) -> None:
    if param.type.base != found.base or (found.optional and not param.type.optional):
        raise Unsound(f"{what}: {param.name!r} is {param.type}, and it is given {found}")


def _transform(service: Service, number: int, transform: RequestTransform) -> None:
    function = transform.function
    what = f"feature {function.name!r}"
    _name(function.name, "feature")
    _fingerprint(transform.fingerprint, what)
    verify_function(function, where=what)
    if len(transform.inputs) != len(function.params):
        raise Unsound(f"{what}: {len(transform.inputs)} inputs for its parameters")
    for param, given in zip(function.params, transform.inputs, strict=True):
        if given.name != param.name:
            raise Unsound(f"{what}: {param.name!r} is given {given.name!r}")
        _fits(param, _input(service, number, given, what), what)


def _input(service: Service, number: int, given: Input, what: str) -> Type:
    """The type of what a transform is given; a transform reads only those before it."""
    match given.kind:
        case "request" if (given.view, given.index) == (-1, -1):
            found = {p.name: p.type for p in service.request}.get(given.name)
            if found is not None:
                return found
        case "feature" if 0 <= given.view < len(service.views):
            features = service.views[given.view].features
            if 0 <= given.index < len(features):
                return features[given.index].type
        case "key" if (given.view, given.index) == (-1, -1):
            keys = {k.name: k.type for view in service.views for k in view.row_keys}
            if given.name in keys:
                return keys[given.name].or_none()
        case "instant" if (given.name, given.view, given.index) == (INSTANT, -1, -1):
            return DATETIME
        case "transform" if given.view == -1 and 0 <= given.index < number:
            return service.transforms[given.index].function.returns
    raise Unsound(f"{what}: its input {given.name!r} is nothing that the service has")


def _output(service: Service, output: Output) -> None:
    what = f"output {output.name!r}"
    _name(output.name, "column")
    _name(output.full_name, "column")
    _fingerprint(output.fingerprint, what)
    names: tuple[str, ...] = (output.name,)
    full = output.name
    if output.view == -1 and 0 <= output.index < len(service.transforms):
        found = service.transforms[output.index].function.returns
    elif 0 <= output.view < len(service.views) and (
        0 <= output.index < len(service.views[output.view].features)
    ):
        view = service.views[output.view]
        feature = view.features[output.index]
        found, full = feature.type, full_name(view, feature)
        names = (feature.name, full)
    else:
        raise Unsound(f"{what} is nothing that the service has")
    if output.name not in names or output.full_name != full:
        raise Unsound(f"{what}, in full {output.full_name!r}, is called otherwise than {full!r}")
    if found != output.type:
        raise Unsound(f"{what} is {output.type}, and its values are {found}")
