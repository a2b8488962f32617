"""Adds models to a graph of lineage: those for which a version of a service is pinned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featurekit.define.plan import Service
from featurekit.project.lineage.definitions import lineage_of, service_id
from featurekit.project.lineage.graph import Edge, Lineage, Node
from featurekit.project.lineage.training_sets import TrainingSetMade
from featurekit.project.registry import Pin, Registry

_MODELS = ("models:/", "runs:/")
"""How a pin names a model in MLflow; what else a pin is for is no node."""


def with_models(
    lineage: Lineage,
    services: Iterable[Service],
    registry: Registry,
    made: Sequence[TrainingSetMade],
) -> Lineage:
    """The graph with a node for each model for which a version is pinned. A model is made of the
    training sets in the graph that are of its version; else of its service, where that is of the
    same version; else of those of its features that are in the graph in the same version."""
    prints = {service.name: service.fingerprint for service in services}
    nodes, edges = dict(lineage.nodes), list(lineage.edges)
    for pin in registry.pins():
        if not pin.by.startswith(_MODELS):
            continue
        asked = pin.service, pin.fingerprint
        above = [one.id for one in made if (one.told["service"], one.told["fingerprint"]) == asked]
        if not above and prints.get(pin.service) == pin.fingerprint:
            above = [service_id(pin.service)]
        node = _node(nodes.get(f"model:{pin.by}"), pin)
        nodes[node.id] = node
        ids = above or _features(lineage, registry, pin)
        edges += [Edge(id_, node.id, "output") for id_ in ids]
    return Lineage(nodes, tuple(edges), lineage.reaches)


def _node(known: Node | None, pin: Pin) -> Node:
    """The node of a model, which may need several versions."""
    before = [] if known is None else known.details["versions"]
    version = {"service": pin.service, "fingerprint": pin.fingerprint, "owner": pin.owner}
    return Node(f"model:{pin.by}", "model", pin.by, None, {"versions": [*before, version]})


def _features(lineage: Lineage, registry: Registry, pin: Pin) -> list[str]:
    """The features in the graph that the pinned version has, too."""
    service = registry.definition("service", pin.service, pin.fingerprint)
    assert isinstance(service, Service)
    pinned = lineage_of((), [service])
    within = pinned.above(service_id(service.name))
    mine = {pinned.nodes[id_].details.get("fingerprint") for id_ in within} - {None}
    return [n.id for n in lineage.of_kind("feature") if n.details.get("fingerprint") in mine]
