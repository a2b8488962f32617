"""Turns a graph of lineage into a picture in SVG: columns on the left, models on the right.

The picture has no style of its own unless it stands alone: a page brings `lineage.css`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from featurekit.core.page import Html, Parts, joined
from featurekit.project.lineage.graph import Edge, Kind, Lineage, Node

_parts = Parts("featurekit.project.lineage")
_LETTER, _PAD, _HEIGHT = 7.3, 10, 26
_GAP_X, _GAP_Y, _EDGE = 52, 10, 8
_LONGEST, _SWEEPS = 36, 4
_STRAIGHT = {"value", "output"}
"""The roles that are drawn in full; what only decides which events count is drawn in dashes."""


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a node stands."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2


def css() -> Html:
    """The style of pictures."""
    return _parts.asset("lineage.css")


def svg(
    lineage: Lineage,
    *,
    label: str,
    marked: Sequence[str] = (),
    link: Callable[[Node], str | None] = lambda node: None,
    alone: bool = False,
) -> Html:
    """The picture of a graph, without what decides ties alone. `marked` are the ids of nodes that
    stand out, `link` says where a click on a node leads, and `alone` adds the style, for a file of
    its own."""
    drawn = _drawn(lineage)
    layers = _layers(drawn)
    boxes = _placed(layers, drawn.nodes)
    width = max((b.x + b.width for b in boxes.values()), default=0) + _EDGE
    height = max((b.y + _HEIGHT for b in boxes.values()), default=0) + _EDGE
    return _parts.fill(
        "picture",
        label=label,
        width=_number(width),
        height=_number(height),
        style=_parts.fill("style", css=css()) if alone else Html(),
        edges=joined(_edge(edge, boxes) for edge in _once(drawn.edges)),
        nodes=joined(
            _node(drawn.nodes[id_], boxes[id_], marked=id_ in marked, link=link)
            for layer in layers
            for id_ in layer
        ),
    )


def _drawn(lineage: Lineage) -> Lineage:
    """The graph without ties, and without the columns that decide nothing else in it."""
    drawn = lineage.without_ties()
    before = {id_ for edge in lineage.edges for id_ in (edge.source, edge.target)}
    after = {id_ for edge in drawn.edges for id_ in (edge.source, edge.target)}
    return drawn.only(set(drawn.nodes) - (before - after))


def _once(edges: Sequence[Edge]) -> list[Edge]:
    """One edge between two nodes: the first one that is drawn in full, if any."""
    found: dict[tuple[str, str], Edge] = {}
    for edge in sorted(edges, key=lambda e: e.role not in _STRAIGHT):
        found.setdefault((edge.source, edge.target), edge)
    return list(found.values())


def _layers(lineage: Lineage) -> list[list[str]]:
    """The ids of the nodes by their longest way from what is given. The features of views stand in
    one layer, the services in one behind all features, training sets behind these, and models
    behind all."""
    nodes = lineage.nodes
    least: dict[str, int] = {}
    for alike, later in _GROUPS:
        depth = _depths(lineage, least)
        # What comes later in this order may stand deeper, but is not what these wait for.
        floor = max((d for i, d in depth.items() if alike(nodes[i])), default=0)
        if alike is not _of_view:
            others = (i for i in depth if not alike(nodes[i]) and nodes[i].kind not in later)
            before = (depth[i] for i in others)
            floor = max(floor, max(before, default=-1) + 1)
        least |= {id_: floor for id_, node in nodes.items() if alike(node)}
    depth = _depths(lineage, least)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for id_, d in depth.items():
        layers[d].append(id_)
    return _untangled([layer for layer in layers if layer], lineage.edges)


def _of_view(node: Node) -> bool:
    return node.kind == "feature" and "view" in node.details


def _is_service(node: Node) -> bool:
    return node.kind == "service"


def _is_set(node: Node) -> bool:
    return node.kind == "training set"


def _is_model(node: Node) -> bool:
    return node.kind == "model"


_GROUPS: tuple[tuple[Callable[[Node], bool], tuple[Kind, ...]], ...] = (
    (_of_view, ()),
    (_is_service, ("training set", "model")),
    (_is_set, ("model",)),
    (_is_model, ()),
)
"""What stands in one layer, and the kinds that stand behind it."""


def _depths(lineage: Lineage, least: Mapping[str, int]) -> dict[str, int]:
    """The longest way to each node, which is at least what `least` has for it."""
    depth = {id_: least.get(id_, 0) for id_ in lineage.nodes}
    waiting = dict.fromkeys(lineage.nodes, 0)
    below: dict[str, list[str]] = {}
    for edge in lineage.edges:
        waiting[edge.target] += 1
        below.setdefault(edge.source, []).append(edge.target)
    todo = [id_ for id_, number in waiting.items() if not number]
    while todo:
        one = todo.pop()
        for other in below.get(one, ()):
            depth[other] = max(depth[other], depth[one] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                todo.append(other)
    return depth


def _untangled(layers: list[list[str]], edges: Sequence[Edge]) -> list[list[str]]:
    """The layers with each node near the middle of what it is joined to."""
    joined_to: dict[str, list[str]] = {}
    for edge in edges:
        joined_to.setdefault(edge.source, []).append(edge.target)
        joined_to.setdefault(edge.target, []).append(edge.source)
    for sweep in range(_SWEEPS):
        place = {id_: i / len(layer) for layer in layers for i, id_ in enumerate(layer)}
        for layer in layers if sweep % 2 else layers[::-1]:
            middle = {
                id_: sum(place[o] for o in others) / len(others)
                for id_ in layer
                if (others := joined_to.get(id_))
            }
            layer.sort(key=lambda id_: middle.get(id_, place[id_]))
            place |= {id_: i / len(layer) for i, id_ in enumerate(layer)}
    return layers


def _placed(layers: list[list[str]], nodes: Mapping[str, Node]) -> dict[str, _Box]:
    tallest = max((len(layer) for layer in layers), default=0) * (_HEIGHT + _GAP_Y) - _GAP_Y
    x, boxes = float(_EDGE), {}
    for layer in layers:
        width = max(_width(_short(nodes[id_].name)) for id_ in layer) + 2 * _PAD
        y = _EDGE + (tallest - len(layer) * (_HEIGHT + _GAP_Y) + _GAP_Y) / 2
        for id_ in layer:
            boxes[id_] = _Box(x, y, width)
            y += _HEIGHT + _GAP_Y
        x += width + _GAP_X
    return boxes


def _width(text: str) -> float:
    return _LETTER * sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"


def _edge(edge: Edge, boxes: Mapping[str, _Box]) -> Html:
    start, end = boxes[edge.source], boxes[edge.target]
    x1, x2 = start.x + start.width, end.x
    bend = max(_GAP_X / 2, (x2 - x1) / 2)
    path = (
        f"M{_number(x1)} {_number(start.middle)}C{_number(x1 + bend)} {_number(start.middle)} "
        f"{_number(x2 - bend)} {_number(end.middle)} {_number(x2)} {_number(end.middle)}"
    )
    drawn = "whole" if edge.role in _STRAIGHT else "dashed"
    return _parts.fill("edge", path=path, role=edge.role, drawn=drawn)


def _node(node: Node, box: _Box, *, marked: bool, link: Callable[[Node], str | None]) -> Html:
    made = _parts.fill(
        "node",
        kind=node.kind.replace(" ", "-"),
        marked=" marked" if marked else "",
        name=node.name,
        what=f"{node.kind} {node.name}" + (f": {node.type}" if node.type else ""),
        shown=_short(node.name),
        x=_number(box.x),
        y=_number(box.y),
        width=_number(box.width),
        height=_HEIGHT,
        text_x=_number(box.x + _PAD),
        text_y=_number(box.middle + 4),
    )
    to = link(node)
    return made if to is None or marked else _parts.fill("node-link", to=to, inside=made)


def _number(value: float) -> str:
    return f"{value:.0f}"
