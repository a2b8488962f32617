"""Turns definitions into compiled views and services: slots, types, bindings and fingerprints.

A compiled view or service is plain data with a JSON form: the offline and the online path read
nothing else, and a serving process finds it in Redis, without the feature repo's code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from featurekit import aggregates, ir
from featurekit.durations import LIFETIME_US, duration_us, window_us
from featurekit.errors import DefinitionError
from featurekit.types import BOOL, FLOAT, INT, OPTIONAL, Type

if TYPE_CHECKING:
    from featurekit.aggregates import Aggregate
    from featurekit.define import EventSource, FeatureService, FeatureView, Transform


@ir.portable
@dataclass(frozen=True, slots=True)
class Source:
    """What of a source decides values: names, types and how time is read, not where files lie.

    `event_id` names the column of ids, `op` that of corrections and deletions (T7).
    """

    name: str
    schema: tuple[ir.Param, ...]
    timestamp_field: str
    created_timestamp_column: str | None
    timezone: str
    sequence: str | None
    event_id: str | None = field(default=None, metadata=OPTIONAL)
    op: str | None = field(default=None, metadata=OPTIONAL)


@ir.portable
@dataclass(frozen=True, slots=True)
class Slot:
    """A value of each event that a view keeps: a column as it is, or a transform of the row."""

    type: Type
    column: str | None = None
    transform: ir.Function | None = None


@ir.portable
@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of a view: its slot in the latest row, or an aggregate of it over a window.

    `slot` is None where rows are counted; `aggregate` None in a view of latest rows. `params` are
    the aggregate's own, by name.
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

    def implementation(self) -> Aggregate:
        """The aggregate that this feature names."""
        assert self.aggregate is not None
        return _implementation(self.aggregate, self.params)

    @property
    def lifetime(self) -> bool:
        """Whether the window has no beginning."""
        return self.window_us == LIFETIME_US

    def bounds(self, t: int) -> tuple[int, int]:
        """The window (low, high] in microseconds as of `t` (T4, T5)."""
        low = t - self.offset_us - self.window_us
        if self.hop_us:
            low = low // self.hop_us * self.hop_us
        return low, t - self.offset_us


@functools.cache
def _implementation(name: str, params: tuple[tuple[str, Any], ...]) -> Aggregate:
    return aggregates.by_name(name)(input="", window="1s", **dict(params))


@ir.portable
@dataclass(frozen=True, slots=True)
class View:
    """A compiled view. `kind` "latest": features of the latest row (V1); "window": aggregates.

    `order` names the slots by which events of one instant are ordered (T6): the sequence column,
    then the row's own values. `retain_us` is how far back of an instant its windows reach, and, of
    windows, its ttl. `dedupe_us` is how long the ids of a source with an `event_id` are remembered
    (T7); such a view has a slot of the id.
    """

    name: str
    kind: Literal["latest", "window"]
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

    @property
    def arrival_known(self) -> bool:
        """Whether the source says when each row arrived (T3)."""
        return self.source.created_timestamp_column is not None


T = TypeVar("T")


class PerView(Generic[T]):
    """What is made of a view once, and then found by the view itself: to hash all that it holds
    takes longer than most of what is asked for."""

    def __init__(self, make: Callable[[View], T], *, most: int = 256) -> None:
        self._make, self._most = make, most
        self._made: dict[int, tuple[View, T]] = {}

    def __call__(self, view: View) -> T:
        found = self._made.get(id(view))  # an id is another's only when its view is gone
        if found is not None and found[0] is view:
            return found[1]
        made = self._make(view)
        if len(self._made) >= self._most:
            self._made.clear()
        self._made[id(view)] = view, made
        return made


@ir.portable
@dataclass(frozen=True, slots=True)
class Input:
    """Where a request-time transform's parameter comes from (Q1)."""

    kind: Literal["request", "feature", "transform"]
    name: str
    view: int = -1
    index: int = -1


@ir.portable
@dataclass(frozen=True, slots=True)
class RequestTransform:
    """A transform that runs after retrieval, on both paths (Q1)."""

    function: ir.Function
    inputs: tuple[Input, ...]
    fingerprint: str = ""


@ir.portable
@dataclass(frozen=True, slots=True)
class Output:
    """A column of the result: a feature of a view, or a request-time transform (`view` is -1)."""

    name: str
    full_name: str
    view: int
    index: int
    type: Type
    fingerprint: str


@ir.portable
@dataclass(frozen=True, slots=True)
class Service:
    """A compiled service."""

    name: str
    views: tuple[View, ...]
    transforms: tuple[RequestTransform, ...]
    outputs: tuple[Output, ...]
    request: tuple[ir.Param, ...]
    fingerprint: str = ""

    @property
    def join_keys(self) -> dict[str, Type]:
        """Every join key that a row must bring, with its type."""
        return {p.name: p.type for view in self.views for p in view.join_keys}


def _parse(transform: Transform) -> ir.Function:
    """The transform's IR; the parser is loaded by who compiles, not by who serves."""
    from featurekit.parse import parse

    return parse(transform)


def compile_source(source: EventSource) -> Source:
    """The part of a source that decides values."""
    return Source(
        source.name,
        tuple(ir.Param(n, t) for n, t in source.schema.items()),
        source.timestamp_field,
        source.created_timestamp_column,
        source.timezone,
        source.sequence,
        source.event_id,
        source.op,
    )


# --- views ----------------------------------------------------------------------------------------


def compile_view(view: FeatureView) -> View:
    """The compiled view; DefinitionError or CompileError where names or types do not fit."""
    return _ViewCompiler(view).compile()


def _columns(source: EventSource | FeatureView) -> dict[str, Slot]:
    """The columns that a source offers: an EventSource its own; a view its join keys and features,
    each by what it is of a row of the EventSource."""
    from featurekit.define import EventSource  # what is written is not loaded by who serves

    if isinstance(source, EventSource):
        return {name: Slot(type_, column=name) for name, type_ in source.schema.items()}
    compiled = compile_view(source)
    keys = {key.name: Slot(key.type, column=key.name) for key in compiled.join_keys}
    return keys | {f.name: compiled.slots[f.slot or 0] for f in compiled.features}


def _bound(
    function: ir.Function, columns: Mapping[str, Slot], schema: Mapping[str, Type]
) -> ir.Function:
    """The function of the EventSource's own columns, where some of its parameters are computed by
    another view: each is a call, evaluated once, whose error is the whole's (R3).

    DefinitionError where such a function runs as Python as a whole.
    """
    slots = [columns[p.name] for p in function.params]
    if all(slot.column == p.name for slot, p in zip(slots, function.params, strict=True)):
        return function
    params: dict[str, ir.Param] = {}
    arguments: list[ir.Expr] = []
    for slot in slots:
        inner = slot.transform
        if inner is None:
            assert slot.column is not None
            params[slot.column] = ir.Param(slot.column, slot.type)
            arguments.append(ir.Name(slot.column, slot.type.plain))
            continue
        params |= {p.name: ir.Param(p.name, schema[p.name]) for p in inner.params}
        given = tuple(ir.Name(p.name, schema[p.name].plain) for p in inner.params)
        arguments.append(ir.Apply(inner, given, inner.returns.plain))
    for one in (function, *(slot.transform for slot in slots)):
        if one is not None and any(isinstance(s, ir.Verbatim) for s in one.body):
            raise DefinitionError(
                f'@feature {one.name} is on_unsupported="python", and is not composed with the '
                "features of another view; write both as one function"
            )
    whole = ir.Apply(function, tuple(arguments), function.returns.plain)
    return ir.Function(function.name, tuple(params.values()), (ir.Return(whole),), function.returns)


class _ViewCompiler:
    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.source = view.event_source
        self.columns = _columns(view.source)
        self.slots: list[Slot] = []

    def fail(self, feature: str | None, message: str) -> DefinitionError:
        where = f"FeatureView {self.view.name!r}" + (f", feature {feature!r}" if feature else "")
        return DefinitionError(f"{where}: {message}")

    def compile(self) -> View:
        from featurekit.aggregates import Aggregate

        view = self.view
        self._check_keys()
        windows = view.aggregates
        source = compile_source(self.source)
        made = [
            self._aggregate(name, f) if isinstance(f, Aggregate) else self._row(name, f)
            for name, f in view.features.items()
        ]
        ordered = not windows or any(f.implementation().ordered for f in made)
        if ordered:
            for column, type_ in self.source.schema.items():
                if column not in view.join_keys:
                    self._place(Slot(type_, column=column))
        if source.event_id is not None:
            self._place(Slot(self.source.schema[source.event_id], column=source.event_id))
        memory = self._memory(made)
        keys = tuple(ir.Param(k, t) for k, t in view.join_keys.items())
        features = tuple(
            replace(f, fingerprint=ir.fingerprint(self._identity(f, keys, source, memory)))
            for f in made
        )
        ttl_us = None if view.ttl is None else duration_us(view.ttl, what="ttl")
        compiled = View(
            name=view.name,
            kind="window" if windows else "latest",
            join_keys=keys,
            source=source,
            slots=tuple(self.slots),
            order=self._order(),
            features=features,
            ttl_us=ttl_us,
            history_us=duration_us(view.history or "0s", what="history", zero=True),
            retain_us=max(
                [
                    ttl_us if windows and ttl_us is not None else 0,
                    *(f.window_us + f.offset_us + f.hop_us for f in made),
                ]
            ),
            on_error=view.on_error,
            dedupe_us=memory,
        )
        return replace(compiled, fingerprint=ir.fingerprint(_nameless(compiled)))

    def _memory(self, features: Sequence[Feature]) -> int | None:
        """How long ids are remembered, in microseconds; None for a source without them (T7)."""
        source = self.source
        if source.event_id is None:
            return None
        if source.dedupe_within is not None:
            return duration_us(source.dedupe_within, what="dedupe_within")
        if any(f.lifetime for f in features):
            raise self.fail(
                None,
                f"a lifetime window does not say how long the ids of source {source.name!r} are to "
                'be remembered; write dedupe_within="30d" at the source (T7)',
            )
        reach = [f.window_us + f.offset_us + f.hop_us for f in features if f.aggregate is not None]
        if self.view.ttl is not None:
            reach.append(duration_us(self.view.ttl, what="ttl"))
        if not reach:
            raise self.fail(
                None,
                f"it reads the latest row without a ttl, so nothing says how long the ids of "
                f'source {source.name!r} are to be remembered; write dedupe_within="30d" at the '
                "source, or a ttl here (T7)",
            )
        return max(reach)

    def _identity(
        self, feature: Feature, keys: tuple[ir.Param, ...], source: Source, memory: int | None
    ) -> list[Any]:
        slots = [
            None if i is None else _nameless(self.slots[i]) for i in (feature.slot, feature.where)
        ]
        bare = replace(feature, slot=None, where=None)
        ttl = None if self.view.ttl is None else duration_us(self.view.ttl, what="ttl")
        return [bare, slots, keys, source, ttl, *([] if memory is None else [memory])]

    @property
    def _from(self) -> str:
        kind = "source" if self.view.source is self.source else "view"
        return f"{kind} {self.view.source.name!r}"

    def _check_keys(self) -> None:
        for key, type_ in self.view.join_keys.items():
            slot = self.columns.get(key)
            if slot is None:
                add = "the schema of" if self.view.source is self.source else "the features of"
                raise self.fail(
                    None, f"the join key {key!r} is not in {add} {self._from}; add it there"
                )
            if slot.column != key:
                raise self.fail(
                    None,
                    f"the join key {key!r} is computed in {self._from}; a key is a column of the "
                    f"EventSource {self.source.name!r}, by its own name",
                )
            if slot.type.base != type_:
                raise self.fail(
                    None,
                    f"the join key {key!r} is {type_} in its entity and {slot.type} in "
                    f"{self._from}; declare one type (S2)",
                )

    def _order(self) -> tuple[int, ...]:
        sequence = self.source.sequence
        columns = list(self.source.schema)

        def rank(i: int) -> tuple[int, int]:
            column = self.slots[i].column
            if column is None:
                return 2, i
            return (0, 0) if column == sequence else (1, columns.index(column))

        return tuple(sorted(range(len(self.slots)), key=rank))

    def _slot(self, value: str | Transform, feature: str | None) -> int:
        """The index of the slot for a column or transform; one slot for equal ones."""
        if isinstance(value, str):
            if value not in self.columns:
                raise self.fail(
                    feature, f"{self._from} has no column {value!r}; it has {self._listed}"
                )
            return self._place(self.columns[value])
        function = _parse(value)
        for param in function.params:
            self._check_param(function, param, feature)
        for name in value.defaults:
            if name in self.columns:
                raise self.fail(feature, _ambiguous(value, name, "a column"))
        try:
            bound = _bound(function, self.columns, self.source.schema)
        except DefinitionError as error:
            raise self.fail(feature, str(error)) from None
        return self._place(Slot(function.returns, transform=bound))

    @property
    def _listed(self) -> str:
        return ", ".join(self.columns)

    def _place(self, slot: Slot) -> int:
        # By their text: equality would take -0.0 for 0.0.
        identity = ir.canonical(_nameless(slot))
        for i, known in enumerate(self.slots):
            if ir.canonical(_nameless(known)) == identity:
                return i
        self.slots.append(slot)
        return len(self.slots) - 1

    def _check_param(self, function: ir.Function, param: ir.Param, feature: str | None) -> None:
        slot = self.columns.get(param.name)
        if slot is None:
            raise self.fail(
                feature,
                f"@feature {function.name} takes {param.name!r}, which is no column of "
                f"{self._from}; it has {self._listed}",
            )
        _check_fits(f"@feature {function.name}", param, slot.type, "the column", self.fail, feature)

    def _row(self, name: str, value: str | Transform) -> Feature:
        index = self._slot(value, name)
        return Feature(name, self.slots[index].type.or_none(), index)

    def _aggregate(self, name: str, aggregate: Aggregate) -> Feature:
        from featurekit.define import Transform

        what = type(aggregate).__name__
        for role in ("input", "where"):
            given = getattr(aggregate, role)
            if given is not None and not isinstance(given, (str, Transform)):
                raise self.fail(name, f"{what}'s {role} is a column's name or a @feature")
        slot = None if aggregate.input is None else self._slot(aggregate.input, name)
        where = None if aggregate.where is None else self._slot(aggregate.where, name)
        if where is not None and self.slots[where].type.base != BOOL:
            raise self.fail(name, f"{what}'s where is {self.slots[where].type}, not bool")
        item = None if slot is None else self.slots[slot].type.base
        try:
            result = aggregate.result(item)
        except DefinitionError as error:
            raise self.fail(name, str(error)) from None
        default = aggregate.default
        if default is not None:
            default = self._default(name, what, default, result.base)
            result = result.base
        if self.view.ttl is not None:
            result = result.or_none()
        return Feature(
            name=name,
            type=result,
            slot=slot,
            aggregate=what,
            where=where,
            window_us=window_us(aggregate.window, what="window"),
            offset_us=duration_us(aggregate.offset or "0s", what="offset", zero=True),
            hop_us=duration_us(aggregate.hop, what="hop") if aggregate.hop else 0,
            default=default,
            params=aggregate.params,
        )

    def _default(self, name: str, what: str, default: Any, wanted: Type) -> Any:
        found = type(default).__name__
        if wanted.item is not None:
            raise self.fail(name, f"{what} gives {wanted}, which takes no default; leave it out")
        if wanted == FLOAT and found == "int" and abs(default) <= 2**53:
            return float(default)
        if found != wanted.name or (wanted == INT and not -(2**63) <= default < 2**63):
            raise self.fail(name, f"{what} gives {wanted}, and default={default!r} is {found}")
        if wanted.choices is not None and default not in wanted.choices:
            raise self.fail(name, f"{what} gives {wanted}, and default={default!r} is none of them")
        return default


def _nameless(value: Any) -> Any:
    """A slot or view without the names that do not decide values: transforms', and the view's own
    `on_error`, which decides what is raised."""
    if isinstance(value, Slot):
        return replace(value, transform=value.transform and ir.rename(value.transform))
    assert isinstance(value, View)
    return replace(value, slots=tuple(_nameless(s) for s in value.slots), on_error="")


def _ambiguous(transform: Transform, name: str, what: str) -> str:
    return (
        f"@feature {transform.name}: {name!r} has a default, which makes it a constant, and is "
        f"also {what}; leave the default out to read it (for a missing value, take T | None and "
        "test it), or rename the parameter"
    )


def _check_fits(
    who: str, param: ir.Param, found: Type, what: str, fail: Any, feature: str | None
) -> None:
    if not param.type.holds(found):
        hint = ""
        if param.type.base == found.base:
            hint = "; declare it so there, and reading checks it (S1)"
        raise fail(
            feature, f"{who}: {param.name!r} is declared {param.type}, and {what} is {found}{hint}"
        )
    if found.optional and not param.type.optional:
        raise fail(
            feature,
            f"{who}: {param.name!r} is declared {param.type}, and {what} may be None ({found}); "
            f"declare {param.name}: {found} and test it for None (R2)",
        )


# --- services -------------------------------------------------------------------------------------


def compile_service(service: FeatureService) -> Service:
    """The compiled service; DefinitionError or CompileError where names or types do not fit."""
    return _ServiceCompiler(service).compile()


class _ServiceCompiler:
    def __init__(self, service: FeatureService) -> None:
        self.service = service
        self.views: list[View] = []
        self.chosen: list[tuple[int, int]] = []
        self.pending: dict[str, Transform] = {}
        self.transforms: list[RequestTransform] = []
        self.ready: dict[str, int] = {}
        self.request: Mapping[str, Type] = service.request

    def fail(self, feature: str | None, message: str) -> DefinitionError:
        return DefinitionError(f"FeatureService {self.service.name!r}: {message}")

    def compile(self) -> Service:
        from featurekit.define import FeatureSelection, FeatureView, Transform

        for item in self.service.features:
            match item:
                case FeatureView():
                    self._choose(item, tuple(item.features))
                case FeatureSelection(view, names):
                    self._choose(view, names)
                case Transform():
                    if item.name in self.pending:
                        raise self.fail(None, f"two features are named {item.name!r}")
                    self.pending[item.name] = item
        self._check_keys()
        for name in list(self.pending):
            self._transform(name, ())
        compiled = Service(
            self.service.name,
            tuple(self.views),
            tuple(self.transforms),
            self._outputs(),
            tuple(ir.Param(n, t) for n, t in self.request.items()),
        )
        identity = [
            [v.fingerprint for v in compiled.views],
            [t.fingerprint for t in compiled.transforms],
            [(o.name, o.view, o.index) for o in compiled.outputs],
            compiled.request,
        ]
        return replace(compiled, fingerprint=ir.fingerprint(identity))

    def _choose(self, view: FeatureView, names: Sequence[str]) -> None:
        index = next((i for i, v in enumerate(self.views) if v.name == view.name), None)
        if index is None:
            self.views.append(compile_view(view))
            index = len(self.views) - 1
        of_view = [f.name for f in self.views[index].features]
        for name in names:
            if (index, of_view.index(name)) not in self.chosen:
                self.chosen.append((index, of_view.index(name)))

    def _check_keys(self) -> None:
        keys: dict[str, tuple[Type, str]] = {}
        for view in self.views:
            for key in view.join_keys:
                known = keys.setdefault(key.name, (key.type, view.name))
                if known[0] != key.type:
                    raise self.fail(
                        None,
                        f"the join key {key.name!r} is {known[0]} in view {known[1]!r} and "
                        f"{key.type} in view {view.name!r}; name them apart",
                    )
                if key.name in self.request:
                    raise self.fail(None, f"{key.name!r} is both a join key and a request field")
        if "event_timestamp" in self.request:
            raise self.fail(None, "'event_timestamp' names the instant, no request field")

    def _transform(self, name: str, above: tuple[str, ...]) -> int:
        if name in self.ready:
            return self.ready[name]
        if name in above:
            cycle = " -> ".join((*above[above.index(name) :], name))
            raise self.fail(None, f"request-time features read each other in a cycle: {cycle}")
        function = _parse(self.pending[name])
        for default in self.pending[name].defaults:
            if self._known(default, name):
                what = "a request field or a feature here"
                raise self.fail(None, _ambiguous(self.pending[name], default, what))
        inputs = []
        for param in function.params:
            found, type_ = self._input(name, param.name, (*above, name))
            what = {"request": "the request field", "feature": "the feature"}.get(
                found.kind, "the feature"
            )
            hint_fail = self.fail
            _check_fits(f"@feature {name}", param, type_, what, hint_fail, name)
            inputs.append(found)
        identity = [ir.rename(function), [self._input_identity(i) for i in inputs]]
        self.transforms.append(RequestTransform(function, tuple(inputs), ir.fingerprint(identity)))
        self.ready[name] = len(self.transforms) - 1
        return self.ready[name]

    def _known(self, name: str, transform: str) -> bool:
        """Whether a request field or a feature of the service has this name."""
        return (
            name in self.request
            or (name in self.pending and name != transform)
            or any(name in (f.name, f"{v.name}__{f.name}") for v in self.views for f in v.features)
        )

    def _input_identity(self, given: Input) -> Any:
        if given.kind == "feature":
            return self.views[given.view].features[given.index].fingerprint
        if given.kind == "transform":
            return self.transforms[given.index].fingerprint
        return [given.name, self.request[given.name]]

    def _input(self, transform: str, name: str, above: tuple[str, ...]) -> tuple[Input, Type]:
        found: list[tuple[Input, Type]] = []
        if name in self.request:
            found.append((Input("request", name), self.request[name]))
        if name in self.pending and name != transform:
            index = self._transform(name, above)
            type_ = self.transforms[index].function.returns
            found.append((Input("transform", name, index=index), type_))
        for v, view in enumerate(self.views):
            for f, feature in enumerate(view.features):
                if name in (feature.name, f"{view.name}__{feature.name}"):
                    found.append((Input("feature", name, v, f), feature.type))
        if not found:
            known = [*self.request, *(f.name for v in self.views for f in v.features)]
            raise self.fail(
                None,
                f"@feature {transform} takes {name!r}, which is no request field and no feature of "
                f"this service; it has {', '.join(known)}",
            )
        if len(found) > 1:
            raise self.fail(
                None,
                f"@feature {transform} takes {name!r}, which names {len(found)} things here; write "
                "view__feature as the parameter's name, or rename the request field",
            )
        return found[0]

    def _outputs(self) -> tuple[Output, ...]:
        named: list[tuple[str, str, int, int, Type, str]] = []
        for v, f in self.chosen:
            view = self.views[v]
            feature = view.features[f]
            full = f"{view.name}__{feature.name}"
            named.append((feature.name, full, v, f, feature.type, feature.fingerprint))
        for name in self.pending:
            index = self.ready[name]
            transform = self.transforms[index]
            type_ = transform.function.returns
            named.append((name, name, -1, index, type_, transform.fingerprint))
        counts: dict[str, int] = {}
        for name, *_ in named:
            counts[name] = counts.get(name, 0) + 1
        taken = {*self.request, *(k.name for v in self.views for k in v.join_keys)}
        outputs = []
        for name, full, view_index, index, type_, fingerprint in named:
            shown = full if counts[name] > 1 or name in taken else name
            if shown in taken:
                raise self.fail(None, f"{shown!r} is both a feature and a key or request field")
            outputs.append(Output(shown, full, view_index, index, type_, fingerprint))
        return tuple(outputs)
