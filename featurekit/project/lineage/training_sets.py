"""Adds training sets to a graph of lineage, from their manifests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.missing import no_folder
from featurekit.define.plan import Service
from featurekit.errors import DataError
from featurekit.offline.manifest import MANIFEST, read_manifest
from featurekit.project.lineage.definitions import service_id
from featurekit.project.lineage.graph import Edge, Lineage, Node

Paths = Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class TrainingSetMade:
    """A training set by its manifest: the file, and what it says."""

    path: Path
    told: dict[str, Any]

    @property
    def id(self) -> str:
        """Its node's id."""
        return f"training set:{self.path}"

    @property
    def prints(self) -> dict[str, str]:
        """The fingerprints of its features, by their names."""
        return {name: about["fingerprint"] for name, about in self.told["features"].items()}

    @property
    def node(self) -> Node:
        """Its node in the graph."""
        about = {n: self.told[n] for n in ("rows", "content_hash", "known_at", "service")}
        return Node(self.id, "training set", str(self.path), None, about)


def read_manifests(paths: Paths) -> list[TrainingSetMade]:
    """The training sets of these manifests, and of all that lie in and below these folders.
    DataError for what is neither."""
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.rglob(f"*{MANIFEST}"))
            if not inside:
                raise DataError(
                    f"{path}: no file there ends in {MANIFEST}; name the folder of a training set "
                    "that `featurekit get-historical -o` wrote, or its manifest"
                )
            found += inside
        elif not path.exists():
            raise DataError(f"{no_folder(path)}; name the .manifest.json beside a training set")
        else:
            found.append(path)
    return [TrainingSetMade(path, _checked(path)) for path in dict.fromkeys(found)]


def _checked(path: Path) -> dict[str, Any]:
    told = read_manifest(path)
    features = told["features"]
    sound = isinstance(features, dict) and all(
        isinstance(about, dict) and isinstance(about.get("fingerprint"), str)
        for about in features.values()
    )
    if not sound or not isinstance(told["sources"], dict):
        raise DataError(f"{path}: its features or sources are not those of a manifest")
    return told


def with_training_sets(
    lineage: Lineage, services: Iterable[Service], made: Sequence[TrainingSetMade]
) -> Lineage:
    """The graph with a node for each training set. It is made of its service, where that is of the
    same version; else of those of its features that are in the graph in the same version."""
    prints = {service.name: service.fingerprint for service in services}
    by_print = {
        node.details["fingerprint"]: node.id
        for node in lineage.of_kind("feature")
        if "fingerprint" in node.details
    }
    nodes, edges = dict(lineage.nodes), list(lineage.edges)
    for one in made:
        nodes[one.id] = one.node
        if prints.get(one.told["service"]) == one.told["fingerprint"]:
            above = [service_id(one.told["service"])]
        else:
            above = [by_print[print_] for print_ in one.prints.values() if print_ in by_print]
        edges += [Edge(id_, one.id, "output") for id_ in above]
    return Lineage(nodes, tuple(edges), lineage.reaches)
