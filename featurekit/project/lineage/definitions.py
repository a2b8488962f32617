"""Turns compiled views and services into a graph of lineage, column by column.

What is read is what runs: the slots, keys and times of a plan, and the IR of its transforms. A
transform over a transform, as chained views have them, is taken apart again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from featurekit.core.types import DATETIME
from featurekit.define.explode import POSITION
from featurekit.define.plan import (
    Ahead,
    Feature,
    Input,
    Output,
    RequestTransform,
    Service,
    Source,
    View,
)
from featurekit.define.union import origins, taken_from
from featurekit.language import ir, walk, wire
from featurekit.language.transform import INSTANT
from featurekit.project.lineage.graph import Edge, Lineage, Node, Reach

Given = Mapping[str, Sequence[str]]
"""For each parameter of a function the ids of the nodes that it is given."""


def column_id(source: str, column: str) -> str:
    """The id of a source's column."""
    return f"column:{source}.{column}"


def feature_id(view: str, name: str) -> str:
    """The id of a view's feature."""
    return f"feature:{view}:{name}"


def answer_id(service: str, name: str) -> str:
    """The id of a feature that a service computes at request time. It is told from that of a
    view's feature, since a view may have the service's name."""
    return f"answer:{service}:{name}"


def service_id(name: str) -> str:
    """The id of a service."""
    return f"service:{name}"


def lineage_of(
    views: Iterable[View], services: Iterable[Service], sources: Iterable[Source] = ()
) -> Lineage:
    """The graph of these definitions. `sources` may have columns that no view reads."""
    made = _Made()
    for source in sources:
        made.source(source)
    for view in views:
        made.view(view)
    for service in services:
        made.service(service)
    return made.lineage()


class _Way(NamedTuple):
    """How a node is reached: from where, through which transforms, and whether all of them read
    what they are given."""

    start: str
    through: tuple[str, ...]
    read: bool


class _Made:
    """A graph that is being made."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.reaches: dict[Reach, None] = {}
        self.by_feature: dict[str, list[Reach]] = {}
        self.views: set[tuple[str, str]] = set()
        self.inner: dict[int, tuple[ir.Function, str]] = {}
        """The ids of functions that were seen, by the ids of their objects, which are kept."""

    def lineage(self) -> Lineage:
        return Lineage(self.nodes, tuple(self.edges), tuple(self.reaches))

    def node(self, id_: str, kind: Any, name: str, type_: Any = None, **details: Any) -> str:
        if id_ not in self.nodes:
            shown = None if type_ is None else str(type_)
            self.nodes[id_] = Node(id_, kind, name, shown, details)
        return id_

    def reach(self, reach: Reach) -> None:
        if reach not in self.reaches:
            self.reaches[reach] = None
            self.by_feature.setdefault(reach.feature, []).append(reach)

    # --- sources and views ------------------------------------------------------------------------

    def source(self, source: Source) -> None:
        for one in source.sources:
            names = [p.name for p in one.schema]
            for name in (*names, one.timestamp_field, one.created_timestamp_column):
                if name is not None:
                    self.column(one, name)

    def column(self, source: Source, name: str) -> str:
        type_ = next((p.type for p in source.schema if p.name == name), DATETIME)
        shown = f"{source.name}.{name}"
        return self.node(column_id(source.name, name), "column", shown, type_, source=source.name)

    def columns(self, view: View, name: str) -> list[str]:
        """The columns of sources that a column of a view's rows is: one, but for a union, and none
        for what only a union has."""
        if name == POSITION and view.explode is not None:
            name = view.explode  # the place of an element in its list
        taken = [one for join, index in taken_from(view.source, name)
                 for one in self.taken(join.view, index)]  # fmt: skip
        own = (self.column(source, column) for source, column in origins(view.source, name))
        return list(dict.fromkeys([*own, *taken]))

    def taken(self, view: View, index: int) -> list[str]:
        """The columns of which a feature of another view is made that a row takes (T11)."""
        slot = view.features[index].slot
        assert slot is not None
        found = view.slots[slot]
        if found.column is not None:
            return self.columns(view, found.column)
        assert found.transform is not None
        return [c for param in found.transform.params for c in self.columns(view, param.name)]

    def view(self, view: View) -> None:
        known = (view.name, view.fingerprint)
        if known in self.views:
            return
        self.views.add(known)
        self.source(view.source)
        for feature in view.features:
            self.feature(view, feature)

    def feature(self, view: View, feature: Feature) -> None:
        made = self.node(
            feature_id(view.name, feature.name),
            "feature",
            f"{view.name}:{feature.name}",
            feature.type,
            view=view.name,
            fingerprint=feature.fingerprint,
        )
        if feature.ahead is not None and feature.ahead.function is not None:
            self.of_labels(view, feature.ahead, made)
            return
        if feature.asked is not None:
            asked = feature.asked
            given = {
                p.name: [] if i is None else [i]
                for p, i in zip(asked.function.params, asked.inputs, strict=True)
            }
            self.asked(view, asked.function, given, made)
        for role, index in (
            ("value", feature.slot),
            ("filter", feature.where),
            ("group", feature.by),
        ):
            if index is not None:
                self.slot(view, index, made, role)
        for role, column in _about(view, feature):
            self.direct(view, column, made, role)

    def direct(self, view: View, name: str, feature: str, role: str) -> None:
        for column in self.columns(view, name):
            self.edges[Edge(column, feature, role)] = None
            self.reach(Reach(column, feature, role))

    def slot(self, view: View, index: int, feature: str, role: str) -> None:
        """A slot that plays a role for a feature."""
        slot = view.slots[index]
        if slot.column is not None:
            self.direct(view, slot.column, feature, role)
            return
        assert slot.transform is not None
        given = {p.name: self.columns(view, p.name) for p in slot.transform.params}
        made, ways = self.function(slot.transform, given)
        self.edges[Edge(made, feature, role)] = None
        for way in ways:
            self.reach(Reach(way.start, feature, role if way.read else "unread", way.through))

    def asked(
        self, view: View, function: ir.Function, given: Mapping[str, list[int]], feature: str
    ) -> None:
        """A transform of the latest row that runs when it is asked for."""
        columns: dict[str, list[str]] = {}
        above: dict[str, list[_Way]] = {}
        for name, slots in given.items():
            columns[name] = []
            for slot in (view.slots[index] for index in slots):
                if slot.column is not None:
                    columns[name] += self.columns(view, slot.column)
                elif slot.transform is not None:
                    params = slot.transform.params
                    own = {p.name: self.columns(view, p.name) for p in params}
                    inner, ways = self.function(slot.transform, own)
                    columns[name].append(inner)
                    above[inner] = ways
        made, ways = self.function(function, columns)
        self.edges[Edge(made, feature, "value")] = None
        for way in _joined(ways, above):
            self.reach(Reach(way.start, feature, "value" if way.read else "unread", way.through))

    def of_labels(self, view: View, ahead: Ahead, feature: str) -> None:
        """A transform of other labels of the view (T10)."""
        assert ahead.function is not None
        given: dict[str, list[str]] = {}
        for param, index in zip(ahead.function.params, ahead.labels, strict=True):
            label = view.features[index]
            given[param.name] = [feature_id(view.name, label.name)]
            if given[param.name][0] not in self.nodes:
                self.feature(view, label)
        made, ways = self.function(ahead.function, given)
        self.edges[Edge(made, feature, "value")] = None
        for way in ways:
            for reach in self.by_feature.get(way.start, ()):
                role = reach.role if way.read else "unread"
                self.reach(Reach(reach.column, feature, role, (*reach.through, *way.through)))

    # --- functions --------------------------------------------------------------------------------

    def function(self, function: ir.Function, given: Given) -> tuple[str, list[_Way]]:
        """The function's own node, and the ways to it from each node that it is given."""
        whole = _composed(function)
        if whole is not None:
            return self.composed(*whole, given)
        made = self.transform(function)
        names = _read(function)
        ways = []
        for param in function.params:
            read = names is None or param.name in names
            for one in given.get(param.name, ()):
                self.edges[Edge(one, made, "value" if read else "unread")] = None
                ways.append(_Way(one, (made,), read))
        return made, ways

    def composed(
        self, outer: ir.Function, arguments: Sequence[ir.Name | ir.Apply], given: Given
    ) -> tuple[str, list[_Way]]:
        """As `function`, of one over columns and the results of other functions."""
        inputs: dict[str, list[str]] = {}
        above: dict[str, list[_Way]] = {}
        for param, argument in zip(outer.params, arguments, strict=True):
            if isinstance(argument, ir.Name):
                inputs[param.name] = list(given[argument.name])
            else:
                inner, above_it = self.function(argument.function, given)
                inputs[param.name], above[inner] = [inner], above_it
        made, ways = self.function(outer, inputs)
        return made, _joined(ways, above)

    def transform(self, function: ir.Function) -> str:
        known = self.inner.get(id(function))
        if known is None:
            print_ = wire.fingerprint(walk.rename(function))[:12]
            known = function, f"transform:{function.name}:{print_}"
            self.inner[id(function)] = known
        return self.node(known[1], "transform", function.name, function.returns)

    # --- services ---------------------------------------------------------------------------------

    def service(self, service: Service) -> None:
        made = self.node(
            service_id(service.name),
            "service",
            service.name,
            fingerprint=service.fingerprint,
        )
        for view in service.views:
            self.view(view)
        results: list[str] = []
        for transform in service.transforms:
            results.append(self.at_request(service, transform, results))
        for output in service.outputs:
            self.edges[Edge(_output_id(service, output), made, "output")] = None

    def at_request(
        self, service: Service, transform: RequestTransform, before: Sequence[str]
    ) -> str:
        """A transform that runs after retrieval, as a feature of its service."""
        function = transform.function
        given: dict[str, list[str]] = {}
        for param, one in zip(function.params, transform.inputs, strict=True):
            found = self.given(service, one, param, before)
            given[param.name] = [] if found is None else [found]
        made, ways = self.function(function, given)
        feature = self.node(
            answer_id(service.name, function.name),
            "feature",
            f"{service.name}:{function.name}",
            function.returns,
            service=service.name,
            fingerprint=transform.fingerprint,
        )
        self.edges[Edge(made, feature, "value")] = None
        for way in ways:
            for reach in self.by_feature.get(way.start, [Reach(way.start, feature, "value")]):
                role = reach.role if way.read else "unread"
                self.reach(Reach(reach.column, feature, role, (*reach.through, *way.through)))
        return feature

    def given(
        self, service: Service, one: Input, param: ir.Param, before: Sequence[str]
    ) -> str | None:
        """The node that an input of a transform at request time is; None for the instant."""
        match one.kind:
            case "feature":
                view = service.views[one.view]
                return feature_id(view.name, view.features[one.index].name)
            case "transform":
                return before[one.index]
            case "request" | "key":
                name = f"{service.name}.{one.name}"
                return self.node(
                    f"request:{name}", "request", name, param.type, service=service.name
                )
            case "instant":
                return None


def _joined(ways: Iterable[_Way], above: Mapping[str, list[_Way]]) -> list[_Way]:
    """The ways with those in front of them that lead to where they start."""
    found = []
    for way in ways:
        for before in above.get(way.start, [_Way(way.start, (), True)]):
            through = (*before.through, *way.through)
            found.append(_Way(before.start, through, before.read and way.read))
    return found


def _output_id(service: Service, output: Output) -> str:
    if output.view < 0:
        return answer_id(service.name, service.transforms[output.index].function.name)
    view = service.views[output.view]
    return feature_id(view.name, view.features[output.index].name)


def _about(view: View, feature: Feature) -> Iterator[tuple[str, str]]:
    """What all of a view's features are made by, beside their values: roles and columns."""
    source = view.source
    yield from (("key", key.name) for key in view.join_keys)
    yield "time", source.timestamp_field
    if source.created_timestamp_column is not None:
        yield "time", source.created_timestamp_column
    if source.event_id is not None:
        yield "id", source.event_id
    if source.op is not None:
        yield "correction", source.op
    yield from (("filter", column) for column in (view.where.columns if view.where else ()))
    ordered = feature.aggregate is None or feature.implementation().ordered
    if not ordered:
        return
    if source.sequence is not None:
        yield "order", source.sequence
    keys = {key.name for key in view.join_keys}
    for index in view.order:
        column = view.slots[index].column
        if column is not None and column != source.sequence and column not in keys:
            yield "tie", column


def _composed(
    function: ir.Function,
) -> tuple[ir.Function, tuple[ir.Name | ir.Apply, ...]] | None:
    """The function that one made of chained views calls, and its arguments: names of columns, and
    calls of other transforms; None for a function that its author wrote so."""
    match function.body:
        case (ir.Return(ir.Apply(outer, arguments)),) if outer.name == function.name:
            found = [a for a in arguments if isinstance(a, (ir.Name, ir.Apply))]
            if len(found) == len(arguments) == len(outer.params):
                return outer, tuple(found)
    return None


def _read(function: ir.Function) -> set[str] | None:
    """The parameters that a function reads; None where its text is not compiled, so that all may
    be."""
    if any(isinstance(statement, ir.Verbatim) for statement in function.body):
        return None
    return set(walk.free(function.body)) | {INSTANT}
