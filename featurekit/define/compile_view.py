"""Turns a FeatureView into a compiled View: slots, types and fingerprints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from difflib import get_close_matches
from typing import Any

from featurekit.aggregates import Aggregate
from featurekit.aggregates.by_category import dict_type
from featurekit.core.calls import found, near
from featurekit.core.durations import duration_us
from featurekit.core.types import BOOL, DATETIME, FLOAT, INT, Type
from featurekit.core.written import Place, place_of, placed
from featurekit.define.arrivals import text_of
from featurekit.define.contracts.compiled import deciding_checks
from featurekit.define.definitions import EventSource, FeatureView, Joined, Union
from featurekit.define.explode import POSITION
from featurekit.define.frame import frame_of, length_us
from featurekit.define.identity import ViewIdentity, nameless
from featurekit.define.pairs import pair_function
from featurekit.define.parameters import misfit, read_transform, shadowed
from featurekit.define.plan import (
    Ahead,
    Asked,
    Check,
    Feature,
    Join,
    Part,
    Slot,
    Source,
    View,
    in_order,
)
from featurekit.define.union import taken_columns, unite
from featurekit.errors import DefinitionError
from featurekit.language import ir, wire
from featurekit.language.to_duckdb import may_err
from featurekit.language.transform import INSTANT, Transform, known_features
from featurekit.language.verify import is_identifier


def compile_source(source: EventSource | Joined | Union) -> Source:
    """The part of a source's definition that decides values."""
    if isinstance(source, Union):
        parts = [_part(one, tuple(c.values())) for one, c in source.parts]
        return unite(tuple(source.schema), parts)
    if isinstance(source, Joined):
        return unite(tuple(source.schema), [_part(source, tuple(source.schema))])
    return Source(
        source.name,
        tuple(ir.Param(n, t) for n, t in source.schema.items()),
        source.timestamp_field,
        source.created_timestamp_column,
        source.timezone,
        source.sequence,
        source.event_id,
        source.op,
        _format(source),
        text_of(source.arrives, what=f"EventSource {source.name!r}"),
        aside=deciding_checks(source),
    )


def _part(source: EventSource | Joined, columns: tuple[str, ...]) -> Part:
    """One of the sources of a union, or the one that is enriched."""
    if isinstance(source, EventSource):
        return Part(compile_source(source), columns)
    joins = tuple(_join(source, *join) for join in source.joins)
    return Part(compile_source(source.source), columns, joins or None)


def _join(
    source: Joined, view: FeatureView, keys: Mapping[str, str], takes: Mapping[str, str]
) -> Join:
    """A join, of whose features none may err: a column has no third state (R3)."""
    compiled = compile_view(view)
    numbers = {feature.name: i for i, feature in enumerate(compiled.features)}
    for name in takes:
        feature = compiled.features[numbers[name]]
        what = f"EventSource {source.name!r}, join of {view.name!r}: the feature {name!r}"
        if compiled.where is not None:
            raise placed(
                DefinitionError(
                    f"{what} is of a view with where=, of which not each row is an event, and a "
                    "join takes rows as they are; join a view without it"
                ),
                view.place,
            )
        if feature.asked is not None:
            raise placed(
                DefinitionError(
                    f"{what} takes the instant {INSTANT!r}, so it is no value of a row; take what "
                    "it is made of, and compute it in the view that reads the join"
                ),
                view.place,
            )
        assert feature.slot is not None
        transform = compiled.slots[feature.slot].transform
        if transform is not None and may_err(transform):
            raise placed(
                DefinitionError(
                    f"{what} may be an error, and a column is a value or None; take the "
                    f"columns that it reads ({', '.join(p.name for p in transform.params)}), and "
                    "compute it in the view that reads the join"
                ),
                view.place,
            )
    taken = tuple(numbers[name] for name in takes)
    return Join(compiled, tuple(keys.values()), taken, tuple(takes.values()))


def _format(source: EventSource) -> str | None:
    given = source.timestamp_format
    return json.dumps(dict(given), sort_keys=True) if isinstance(given, Mapping) else given


def _following(source: Source) -> frozenset[str]:
    """The columns that follow from the others of a row, its arrival and its instant."""
    if source.parts is None or len(source.parts) > 1:
        return frozenset()
    return taken_columns(source)


def compile_view(view: FeatureView) -> View:
    """The compiled view. DefinitionError or CompileError if names or types do not fit."""
    return _ViewCompiler(view).compile()


def _columns(
    source: EventSource | Joined | Union | FeatureView, schema: Mapping[str, Type]
) -> dict[str, Slot]:
    """The columns that a source offers, as slots. An EventSource offers its own columns, a union
    those that all of its sources have; a view offers its join keys and features, expressed over the
    row of its EventSource. `schema` has the columns of an event."""
    if not isinstance(source, FeatureView):
        return {name: Slot(type_, column=name) for name, type_ in schema.items()}
    compiled = compile_view(source)
    for feature in compiled.features:
        if feature.asked is not None:
            raise DefinitionError(
                f"FeatureView {source.name!r}, feature {feature.name!r}: it takes the instant "
                f"{INSTANT!r}, so it is no column of a row, and another view cannot have this one "
                "for its source; put it into a view of its own"
            )
    keys = {key.name: Slot(key.type, column=key.name) for key in compiled.join_keys}
    of_slots = {f.name: f.slot for f in compiled.features if f.slot is not None}
    return keys | {name: compiled.slots[slot] for name, slot in of_slots.items()}


def _bound(
    function: ir.Function, columns: Mapping[str, Slot], schema: Mapping[str, Type]
) -> ir.Function:
    """The function over the EventSource's own columns. If another view computes one of its
    parameters, that view's transform is called once for it, and an error there is an error of the
    whole (R3).

    DefinitionError if one of these functions runs as Python as a whole.
    """
    slots = [columns[p.name] for p in function.params]
    if all(slot.column == p.name for slot, p in zip(slots, function.params, strict=True)):
        return function
    return _applied(function, slots, schema)


def _applied(
    function: ir.Function, slots: Sequence[Slot], schema: Mapping[str, Type]
) -> ir.Function:
    """The function over the EventSource's own columns, of which `slots` make its arguments."""
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


def _called(value: str | Transform) -> str:
    """What a column or transform is called."""
    return value if isinstance(value, str) else value.name


def _reach(feature: Feature) -> int:
    """How far from an instant its window reaches: back or, that of a label, ahead."""
    if feature.ahead is not None:
        return feature.window_us
    return feature.farthest_us


def _takers(item: Type | None) -> list[str]:
    """The aggregates that take an input of this type."""
    from featurekit.aggregates import BY_NAME

    found = []
    for name, kind in BY_NAME.items():
        one = object.__new__(kind)
        for option in fields(kind):
            if option.default is not MISSING:
                object.__setattr__(one, option.name, option.default)
        try:
            one.result(item)
        except DefinitionError:
            continue
        if not kind.of_instants and not kind.paired:
            found.append(name)
    return found


class _ViewCompiler:
    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.source = view.event_source
        self.schema = self._schema()
        self.columns = _columns(view.source, self.schema)
        self.slots: list[Slot] = []
        self.known: dict[str, int] = {}
        """The index of each slot, by the slot's text."""
        self.label_types: dict[str, Type] = {}
        """The types of the labels of the view, once they are known."""

    def _schema(self) -> dict[str, Type]:
        """The columns of an event: those of the source, an element in the place of a list that is
        exploded."""
        schema = dict(self.source.schema)
        exploded = self.view.exploded
        if exploded is not None:
            item = schema[exploded].item
            assert item is not None  # `FeatureView` has checked it
            schema[exploded] = item
        return schema

    def fail(
        self, feature: str | None, message: str, *, place: Place | None = None
    ) -> DefinitionError:
        where = f"FeatureView {self.view.name!r}" + (f", feature {feature!r}" if feature else "")
        return placed(DefinitionError(f"{where}: {message}"), place or self._place_of(feature))

    def _place_of(self, feature: str | None) -> Place | None:
        """Where the view is written, or one of its features."""
        at = self.view.place
        if feature is None or at is None:
            return at
        made = self.view.features.get(feature)
        own = made.place if isinstance(made, Aggregate) else None
        return own or at.of(feature)

    def _declared(self, column: str) -> Place | None:
        """Where the EventSource declares a column; else where the source is written."""
        at = self.view.source.place
        return at if at is None else at.of(column)

    def compile(self) -> View:
        view = self.view
        self._check_keys()
        windows = view.aggregates
        source = compile_source(self.source)
        made = [
            self._aggregate(name, f) if isinstance(f, Aggregate) else self._row(name, f)
            for name, f in view.features.items()
            if isinstance(f, Aggregate) or not view.labels
        ]
        ordered = not windows or any(in_order(f) for f in made)
        if view.labels:
            made = self._with_transforms(made)
        if ordered:
            # Rows of a union that differ in their source alone are one to every feature. What rows
            # of one source have taken from other views follows from their own columns.
            taken = _following(source)
            for column in source.schema:
                own = column.name in self.source.schema or column.name == source.sequence
                own = own and column.name not in taken
                if own and column.name not in view.join_keys:
                    type_ = self.schema.get(column.name, column.type)
                    self._place(Slot(type_, column=column.name))
            if view.exploded is not None:
                self._place(Slot(INT, column=POSITION))
        if source.event_id is not None:
            types = {p.name: p.type for p in source.schema}
            self._place(Slot(types[source.event_id], column=source.event_id))
        memory = self._memory(made)
        keys = tuple(ir.Param(k, t) for k, t in view.join_keys.items())
        ttl_us = None if view.ttl is None else duration_us(view.ttl, what="ttl")
        compiled = View(
            name=view.name,
            kind="label" if view.labels else "window" if windows else "latest",
            join_keys=keys,
            source=source,
            slots=tuple(self.slots),
            order=self._order(source),
            features=tuple(made),
            ttl_us=ttl_us,
            history_us=duration_us(view.history or "0s", what="history", zero=True),
            retain_us=max(
                [
                    ttl_us if windows and ttl_us is not None else 0,
                    *map(_reach, made),
                ]
            ),
            on_error=view.on_error,
            dedupe_us=memory,
            explode=view.exploded,
            where=self._where(),
        )
        identity = ViewIdentity(compiled)
        features = tuple(replace(f, fingerprint=identity.feature(f)) for f in made)
        compiled = replace(compiled, features=features)
        return replace(compiled, fingerprint=ViewIdentity(compiled).whole())

    def _where(self) -> Check | None:
        """What a row has to pass to be an event of the view."""
        given = self.view.where
        if given is None:
            return None
        # A slot is compiled for it, and is none of the view's: no event has to keep it.
        n, known = len(self.slots), dict(self.known)
        slot = self.slots[self._slot(given, None)]
        del self.slots[n:]
        self.known = known
        if slot.type.base != BOOL:
            raise self.fail(
                None, f"where is {slot.type}, not bool; write a @feature that returns bool"
            )
        if slot.column is not None:
            params = (ir.Param(slot.column, slot.type),)
            body = (ir.Return(ir.Name(slot.column, slot.type.plain)),)
            return Check((slot.column,), ir.Function("where", params, body, slot.type))
        function = slot.transform
        assert function is not None
        if may_err(function):
            raise self.fail(
                None,
                f"where: @feature {function.name} may be an error for some rows, which are then "
                "neither in the view nor out of it; write it of comparisons and tests, without "
                "what can fail for some input (a division, a sum of ints, an index), or let a "
                "column of the source hold it",
            )
        return Check(tuple(p.name for p in function.params), function)

    def _memory(self, features: Sequence[Feature]) -> int | None:
        """For how long event ids are remembered, in microseconds; None for a source without ids
        (T7)."""
        source = self.source
        if source.event_id is None:
            return None
        if source.dedupe_within is not None:
            return duration_us(source.dedupe_within, what="dedupe_within")
        if any(f.lifetime for f in features):
            raise self.fail(
                None,
                f"a lifetime window (rows= without a window has one) does not say how long the "
                f"ids of source {source.name!r} are to be remembered; write "
                'dedupe_within="30d" at the source',
            )
        reach = [_reach(f) for f in features if f.aggregate is not None]
        if self.view.ttl is not None:
            reach.append(duration_us(self.view.ttl, what="ttl"))
        if not reach:
            raise self.fail(
                None,
                f"it reads the latest row without a ttl, so nothing says how long the ids of "
                f'source {source.name!r} are to be remembered; write dedupe_within="30d" at the '
                "source, or a ttl here",
            )
        return max(reach)

    @property
    def _from(self) -> str:
        if isinstance(self.view.source, Joined):
            return f"source {self.view.source.name!r}"
        if isinstance(self.view.source, Union):
            return f"the union of {' and '.join(repr(s.name) for s in self.view.source.sources)}"
        kind = "source" if self.view.source is self.source else "view"
        return f"{kind} {self.view.source.name!r}"

    def _lacking_key(self, key: str, type_: Type) -> str:
        """What to write where a join key is no column."""
        at = self._at()
        if self.view.source is not self.source:
            said = f"the join key {key!r} is not in the features of {self._from}{at}"
            return f'{said}; add it there, as in features={{"{key}": "{key}", …}}'
        if isinstance(self.view.source, Union):
            return (
                f"the join key {key!r} is no column of {self._from}; map the column of each source "
                f'that has another name for it, as in {{app: {{"{key}": "user_id"}}}}'
            )
        said = f"the join key {key!r} is not in the schema of {self._from}{at}"
        close = get_close_matches(key, self.columns, n=1, cutoff=0.7)
        meant = f"rename {close[0]!r}, if that is meant, or " if close else ""
        return f'{said}; {meant}add it there with its type, as in "{key}": {type_}'

    def _check_keys(self) -> None:
        for key, type_ in self.view.join_keys.items():
            slot = self.columns.get(key)
            if slot is None:
                raise self.fail(None, self._lacking_key(key, type_))
            if slot.column != key:
                raise self.fail(
                    None,
                    f"the join key {key!r} is computed in {self._from}; a key is a column of the "
                    f"EventSource {self.source.name!r}, by its own name",
                )
            if slot.type.base != type_:
                entity = next(e for e in self.view.entities if key in e.join_keys)
                at = f" ({entity.place.of(key)})" if entity.place is not None else ""
                raise self.fail(
                    None,
                    f"the join key {key!r} is {type_} in entity {entity.name!r}{at} and "
                    f"{slot.type} in {self._from}; write one type at both",
                    place=self._declared(key),
                )

    def _order(self, source: Source) -> tuple[int, ...]:
        sequence = source.sequence
        names = [p.name for p in source.schema if p.name != self.view.exploded]
        # The elements of a row follow one another: where it stands is said by its other values.
        places = {name: i for i, name in enumerate([*names, POSITION, self.view.exploded])}

        def rank(i: int) -> tuple[int, int]:
            column = self.slots[i].column
            if column is None:
                return 2, i
            return (0, 0) if column == sequence else (1, places[column])

        return tuple(sorted(range(len(self.slots)), key=rank))

    def _slot(self, value: str | Transform, feature: str | None) -> int:
        """The index of the slot for a column or transform; equal ones share a slot."""
        return self._place(self._made(value, feature))

    def _made(self, value: str | Transform, feature: str | None) -> Slot:
        """The slot for a column or transform."""
        if isinstance(value, str):
            if value not in self.columns:
                if value in known_features():
                    raise self.fail(
                        feature,
                        f"{self._from} has no column {value!r}; write {value}, without quotes, for "
                        f"the @feature of that name, or a column: {', '.join(self.columns)}",
                    )
                raise self.fail(
                    feature, f"{self._from} has no column {value!r}; {near(value, self.columns)}"
                )
            return self.columns[value]
        if INSTANT in value.parameters:
            raise self.fail(
                feature,
                f"@feature {value.name} takes the instant {INSTANT!r}, which an event of a window "
                "does not have; a transform of the latest row may take it, and one of the service",
            )
        function = self._read(value, feature)
        try:
            bound = _bound(function, self.columns, self.schema)
        except DefinitionError as error:
            raise self.fail(feature, str(error)) from None
        return Slot(function.returns, transform=bound)

    def _read(self, transform: Transform, feature: str | None) -> ir.Function:
        """The transform's IR, whose parameters are columns or, in one that may take it, the
        instant."""
        columns = {name: slot.type for name, slot in self.columns.items()}
        function = read_transform(transform, columns=columns)
        if INSTANT in transform.parameters and INSTANT in self.columns:
            raise self.fail(
                feature,
                f"@feature {transform.name} takes {INSTANT!r}, which is the instant asked for, "
                f"and {self._from} has a column of that name, which no transform can read; "
                "rename the column in its files, or leave it out of the schema",
            )
        for param in function.params:
            if param.name != INSTANT:
                self._check_param(function, param, feature, place_of(transform.function))
        for name in transform.defaults:
            if name in self.columns or name == INSTANT:
                what = "a column" if name in self.columns else "the instant that is asked for"
                raise self.fail(feature, shadowed(transform.name, name, what))
        return function

    def _place(self, slot: Slot) -> int:
        # Compared by their text: equality would confuse -0.0 with 0.0.
        index = self.known.setdefault(wire.canonical(nameless(slot)), len(self.slots))
        if index == len(self.slots):
            self.slots.append(slot)
        return index

    def _check_param(
        self, function: ir.Function, param: ir.Param, feature: str | None, place: Place
    ) -> None:
        slot = self.columns.get(param.name)
        if slot is None:
            raise self.fail(
                feature,
                f"@feature {function.name} takes {param.name!r}, which is no column of "
                f"{self._from}{self._at()}; {near(param.name, self.columns)}",
                place=place,
            )
        if misfit(function.name, param, slot.type, "the column") is None:
            return
        # Where the column is declared is looked up for a fault alone: that takes long.
        schema = f'"{param.name}": {param.type} in the schema of {self._from}'
        there = f"{schema}{self._at(param.name)}" if param.name in self.source.schema else ""
        fault = misfit(function.name, param, slot.type, "the column", there=there)
        raise self.fail(feature, str(fault), place=place)

    def _at(self, column: str = "") -> str:
        """Where a column is declared, or the schema as a whole, in brackets."""
        first = column or next(iter(self.columns), "")
        at = self._declared(first)
        return "" if at is None else f" ({at})"

    def _row(self, name: str, value: str | Transform) -> Feature:
        if isinstance(value, Transform) and INSTANT in value.parameters:
            return self._asked(name, value)
        index = self._slot(value, name)
        return Feature(name, self.slots[index].type.or_none(), index)

    def _asked(self, name: str, transform: Transform) -> Feature:
        """A transform of the latest row that takes the instant, and runs when it is asked for
        (T9)."""
        function = self._read(transform, name)
        inputs: list[int | None] = []
        for param in function.params:
            if param.name == INSTANT:
                fault = misfit(function.name, param, DATETIME, "the instant asked for")
                if fault is not None:
                    raise self.fail(name, fault)
                inputs.append(None)
            else:
                inputs.append(self._place(self.columns[param.name]))
        return Feature(name, function.returns.or_none(), None, asked=Asked(function, tuple(inputs)))

    def _aggregate(self, name: str, aggregate: Aggregate) -> Feature:
        what = type(aggregate).__name__
        taken = [("input", one) for one in aggregate.inputs]
        for role, given in [*taken, ("where", aggregate.where), ("by", aggregate.by)]:
            if given is not None and not isinstance(given, (str, Transform)):
                shown = getattr(given, "__name__", None) or found(given)
                place = f"{what}({'' if role == 'input' else f'{role}='}"
                how = f'write {place}"amount", …) for a column, or {place}amount, …) for a @feature'
                how = f"{how}, which is not called here"
                if role == "by" and isinstance(given, (list, tuple)):
                    how = "make one category of several columns in a @feature"
                how = "write @feature above its def" if callable(given) else how
                raise self.fail(
                    name,
                    f"{what}'s {role} is a column's name or a @feature, found {shown}; {how}",
                )
        slot = self._input(name, aggregate)
        where = None if aggregate.where is None else self._slot(aggregate.where, name)
        if where is not None and self.slots[where].type.base != BOOL:
            raise self.fail(
                name,
                f"{what}'s where is {self.slots[where].type}, not bool; write a @feature that "
                "returns bool",
            )
        by = None if aggregate.by is None else self._slot(aggregate.by, name)
        result = self._result(name, aggregate, slot, by)
        default = aggregate.default
        if default is not None:
            default = self._default(name, what, default, result.base)
            result = result.base
        window, offset = length_us(aggregate), aggregate.offset
        offset_us, ahead = duration_us(offset or "0s", what="offset", zero=True), None
        if aggregate.ahead:
            self.label_types[name] = result
            settle = aggregate.settle
            ahead = Ahead(None if settle is None else duration_us(settle, what="settle", zero=True))
            offset_us = -window  # (t, t + window]
        if self.view.ttl is not None or aggregate.ahead:
            result = result.or_none()
        return Feature(
            name=name,
            type=result,
            slot=slot,
            aggregate=what,
            where=where,
            window_us=window,
            offset_us=offset_us,
            hop_us=duration_us(aggregate.hop, what="hop") if aggregate.hop else 0,
            default=default,
            params=aggregate.params,
            ahead=ahead,
            by=by,
            most=None if by is None else aggregate.top,
            frame=frame_of(aggregate),
        )

    def _result(self, name: str, aggregate: Aggregate, slot: int | None, by: int | None) -> Type:
        """The type of an aggregate's values over the inputs of a slot, by the categories of
        another."""
        item = None if slot is None else self.slots[slot].type.base
        try:
            result = aggregate.result(item)
        except DefinitionError as error:
            given = aggregate.inputs[0]
            shown = repr(given) if isinstance(given, str) else f"@feature {given.name}"
            of = f" for {shown}; aggregates of {item} are {', '.join(_takers(item))}"
            raise self.fail(name, f"{error}{of if item else ''}") from None
        if by is None:
            return result
        try:
            return dict_type(aggregate, self.slots[by].type, item)
        except DefinitionError as error:
            raise self.fail(name, str(error)) from None

    def _input(self, name: str, aggregate: Aggregate) -> int | None:
        """The index of the slot that an aggregate reads; None if it counts rows. Two inputs are one
        slot, a list of both."""
        if not aggregate.paired:
            return self._slot(aggregate.input, name) if aggregate.inputs else None
        what, given = type(aggregate).__name__, aggregate.inputs
        if len(given) != 2:
            raise self.fail(
                name, f'{what} takes two inputs, as in {what}("amount", "quantity", window="7d")'
            )
        slots = [self._made(one, name) for one in given]
        for one, slot in zip(given, slots, strict=True):
            if slot.type.base not in (BOOL, INT, FLOAT):
                shown = repr(one) if isinstance(one, str) else f"@feature {one.name}"
                raise self.fail(
                    name, f"{what} takes int, float or bool, found {slot.type} for {shown}"
                )
            if isinstance(one, str) and not is_identifier(one):
                raise self.fail(
                    name,
                    f"{what} reads both inputs by one function, and the column {one!r} is no name "
                    "of Python; rename it in its files",
                )
        types = (slot.type for slot in slots)
        called = "_and_".join(map(_called, given))
        function = pair_function(called, *types, directed=aggregate.directed)
        try:
            made = _applied(function, slots, self.schema)
        except DefinitionError as error:
            raise self.fail(name, str(error)) from None
        return self._place(Slot(function.returns, transform=made))

    def _with_transforms(self, labels: Sequence[Feature]) -> list[Feature]:
        """The labels in the order in which they are written, transforms of labels among them. A
        transform is asked once its labels are known: it takes their types, and not the None of one
        that is NOT_YET (T10)."""
        places = {name: i for i, name in enumerate(self.view.features)}
        made = {label.name: label for label in labels}
        for name, value in self.view.features.items():
            if not isinstance(value, Transform):
                continue
            function = read_transform(value, columns=self.label_types)
            for default in value.defaults:
                if default in self.label_types:
                    raise self.fail(name, shadowed(value.name, default, "a label"))
            for param in function.params:
                self._check_label(name, function, param, place_of(value.function))
            taken = tuple(places[param.name] for param in function.params)
            type_ = function.returns.or_none()
            made[name] = Feature(name, type_, None, ahead=Ahead(None, function, taken))
        return [made[name] for name in places]

    def _check_label(
        self, feature: str, function: ir.Function, param: ir.Param, place: Place
    ) -> None:
        """Whether a transform of labels may take this parameter."""
        found = self.label_types.get(param.name)
        if found is None:
            raise self.fail(
                feature,
                f"@feature {function.name} takes {param.name!r}, which is no label of this view "
                f"that looks ahead itself; {near(param.name, self.label_types)}",
                place=place,
            )
        fault = misfit(function.name, param, found, "the label")
        if fault is not None:
            raise self.fail(feature, fault, place=place)

    def _default(self, name: str, what: str, default: Any, wanted: Type) -> Any:
        found = type(default).__name__
        if wanted.item is not None:
            raise self.fail(name, f"{what} gives {wanted}, which takes no default; leave it out")
        if wanted == FLOAT and found == "int" and abs(default) <= 2**53:
            return float(default)
        if found != wanted.name or (wanted == INT and not -(2**63) <= default < 2**63):
            raise self.fail(
                name,
                f"{what} gives {wanted}, and default={default!r} is {found}; write a {wanted}, or "
                "leave it out",
            )
        if wanted.choices is not None and default not in wanted.choices:
            raise self.fail(name, f"{what} gives {wanted}, and default={default!r} is none of them")
        return default
