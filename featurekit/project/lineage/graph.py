"""The graph of lineage as data: nodes, edges with the role that one plays for the other, and what
lies above or below a node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from featurekit.core.attributes import Named

Kind = Literal["column", "request", "transform", "feature", "service", "training set", "model"]
KINDS: tuple[Kind, ...] = (
    "column", "request", "transform", "feature", "service", "training set", "model",
)  # fmt: skip
"""The kinds of nodes, from what is given to what is made."""

ROLES = {
    "value": "the value is computed from it",
    "filter": "where= decides by it which events count",
    "group": "by= sorts events by it into categories",
    "key": "it says whose event it is",
    "time": "it says when the event happened or arrived",
    "order": "it orders the events of one instant",
    "id": "it tells copies of an event apart",
    "correction": "it says whether a row corrects or deletes an event",
    "tie": "it decides where events have one instant and nothing else orders them (T6)",
    "unread": "it is a parameter of a function that does not read it",
    "output": "it is a column of the answer",
}
"""The part that a node plays for another one, with its meaning."""


@dataclass(frozen=True, slots=True)
class Node:
    """A thing that values flow through. `name` is unique among the nodes of its kind but for
    transforms, of which several may have one name. `details` has what only one kind has."""

    id: str
    kind: Kind
    name: str
    type: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """That `target` is made of `source`, which plays a role of `ROLES` for it."""

    source: str
    target: str
    role: str


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """That a column or a request field reaches a feature: the ids of both, the role that it plays
    in the end, and the transforms between, in the order in which they are called."""

    column: str
    feature: str
    role: str
    through: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lineage(Named):
    """Nodes by their ids, the edges between them, and which column reaches which feature."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    reaches: tuple[Reach, ...]

    @cached_property
    def _into(self) -> Mapping[str, list[Edge]]:
        return _by(self.edges, "target")

    @cached_property
    def _out_of(self) -> Mapping[str, list[Edge]]:
        return _by(self.edges, "source")

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {id_: place for place, id_ in enumerate(self.nodes)}

    @cached_property
    def reaching(self) -> Mapping[str, list[Reach]]:
        """What reaches each feature, by the feature's id."""
        found: dict[str, list[Reach]] = {}
        for reach in self.reaches:
            found.setdefault(reach.feature, []).append(reach)
        return found

    @cached_property
    def reached(self) -> Mapping[str, list[Reach]]:
        """What each column or request field reaches, by its id."""
        found: dict[str, list[Reach]] = {}
        for reach in self.reaches:
            found.setdefault(reach.column, []).append(reach)
        return found

    def of_kind(self, kind: Kind) -> list[Node]:
        """The nodes of a kind, in their order."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def above(self, *ids: str) -> set[str]:
        """The ids of all that these nodes are made of, and their own."""
        return _closed(ids, lambda one: (e.source for e in self._into.get(one, ())))

    def below(self, *ids: str) -> set[str]:
        """The ids of all that is made of these nodes, and their own."""
        return _closed(ids, lambda one: (e.target for e in self._out_of.get(one, ())))

    def around(self, *ids: str) -> Lineage:
        """The part of the graph above and below these nodes."""
        return self.only(self.above(*ids) | self.below(*ids))

    def only(self, ids: set[str]) -> Lineage:
        """The part of the graph that has these nodes alone."""
        ordered = sorted(ids & self.nodes.keys(), key=self._places.__getitem__)
        return Lineage(
            {id_: self.nodes[id_] for id_ in ordered},
            tuple(e for id_ in ordered for e in self._into.get(id_, ()) if e.source in ids),
            tuple(r for id_ in ordered for r in self.reaching.get(id_, ()) if r.column in ids),
        )

    def without_ties(self) -> Lineage:
        """The graph without the edges of ties, of which every row has many."""
        return Lineage(self.nodes, tuple(e for e in self.edges if e.role != "tie"), self.reaches)

    def to_dict(self) -> dict[str, Any]:
        """The graph as JSON has it: `nodes`, `edges` and `columns`, which says for each column and
        feature the role and the transforms between."""
        named = {id_: node.name for id_, node in self.nodes.items()}
        return {
            "nodes": [
                {
                    "id": n.id,
                    "kind": n.kind,
                    "name": n.name,
                    **({} if n.type is None else {"type": n.type}),
                    **n.details,
                }
                for n in self.nodes.values()
            ],
            "edges": [
                {"from": e.source, "to": e.target, "role": e.role} for e in sorted(set(self.edges))
            ],
            "columns": [
                {
                    "column": named[r.column],
                    "feature": named[r.feature],
                    "role": r.role,
                    "through": [named[t] for t in r.through],
                }
                for r in self.reaches
            ],
        }


def _by(edges: Iterable[Edge], end: str) -> dict[str, list[Edge]]:
    found: dict[str, list[Edge]] = {}
    for edge in edges:
        found.setdefault(getattr(edge, end), []).append(edge)
    return found


def _closed(ids: Iterable[str], beyond: Any) -> set[str]:
    """The ids, and all that is found by going on beyond them."""
    found, todo = set(ids), list(ids)
    while todo:
        new: Iterator[str] = beyond(todo.pop())
        for one in new:
            if one not in found:
                found.add(one)
                todo.append(one)
    return found
