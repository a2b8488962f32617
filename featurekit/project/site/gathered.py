"""What the pages of the catalogue tell, gathered once: items, lineage, history, data, and where
each thing has its page."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.core.screen import Progress
from featurekit.define.plan import Service
from featurekit.define.repo import Repo
from featurekit.project.catalog import Item, catalog
from featurekit.project.kept_results import ContractResult, ParityResult, last_judged, last_parity
from featurekit.project.lineage.asked import lineage
from featurekit.project.lineage.definitions import answer_id, feature_id, service_id
from featurekit.project.lineage.graph import Lineage, Node, Reach
from featurekit.project.lineage.training_sets import TrainingSetMade, read_manifests
from featurekit.project.project import Project
from featurekit.project.registry import Pin, Registry
from featurekit.project.site.code import Codes
from featurekit.project.site.history import Before, read_parity, versions_of
from featurekit.project.site.profiles import Bounds, Looked, look


@dataclass(frozen=True, slots=True)
class Asked:
    """What a catalogue is to hold beside the definitions: `data` says how much of the values is
    read, None for nothing; `manifests` are of training sets or folders of such, and `parity` files
    with what `featurekit parity --json` has printed."""

    data: Bounds | None = None
    manifests: tuple[Path, ...] = ()
    parity: tuple[Path, ...] = ()


ANSWER = "answer"
"""The kind of features at request time. They are told from those of views, since a view may have
the name of a service."""
_FOLDERS = {ANSWER: "feature"}
_FEATURES = ("feature:", f"{ANSWER}:")


def _kind(item: Item) -> str:
    return ANSWER if item.kind == "feature" and "service" in item.details else item.kind


class Pages:
    """Where each thing has its page. Names that are the same, or differ in case alone, have pages
    of their own: some file systems hold those to be one."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def of(self, kind: str, name: str) -> str:
        """The page of a thing, relative to the catalogue."""
        known = self._of.get((kind, name))
        if known is None:
            base = f"{_FOLDERS.get(kind, kind)}/{name.replace(':', '.')}"
            known, number = f"{base}.html", 2
            while known.casefold() in self._taken:
                known, number = f"{base}-{number}.html", number + 1
            self._taken.add(known.casefold())
            self._of[kind, name] = known
        return known

    def all(self) -> Iterable[str]:
        """Every page that was asked for."""
        return self._of.values()


@dataclass(slots=True)
class Gathered:
    """All that pages tell. `looked` has the data of each view by its name, `parity` what was
    found of each feature by its full name."""

    name: str
    repo: Repo
    registry: Registry
    items: dict[tuple[str, str], Item]
    graph: Lineage
    sets: list[TrainingSetMade]
    parity: Mapping[str, list[ParityResult]]
    looked: Mapping[str, Looked]
    made_at: dt.datetime
    reaching: Mapping[str, list[Reach]] = field(default_factory=dict)
    pages: Pages = field(default_factory=Pages)
    codes: Codes = field(default_factory=Codes)
    applied: Mapping[str, frozenset[str]] = field(default_factory=dict)
    judged: Mapping[str, ContractResult | None] = field(default_factory=dict)
    """For each source, what became of its contract last."""
    used_in: Mapping[str, list[str]] = field(default_factory=dict)
    """For the id of each feature, the services that answer with it."""
    read_by: Mapping[str, list[str]] = field(default_factory=dict)
    """For the id of each feature, the ids of those at request time that read it."""
    needed_by: Mapping[str, list[Pin]] = field(default_factory=dict)
    """For the id of each feature and of each service, the pins of versions that have it."""

    def page_of(self, node: Node) -> str | None:
        """The page of a node of the lineage; None where it has none."""
        match node.kind:
            case "feature":
                return self.pages.of("feature" if "view" in node.details else ANSWER, node.name)
            case "service":
                return self.pages.of("service", node.name)
            case "column":
                source = str(node.details["source"])
                return f"{self.pages.of('source', source)}#{anchor(node.name, source)}"
            case _:
                return None

    def item(self, kind: str, name: str) -> Item:
        """An item of the catalogue."""
        return self.items[kind, name]

    def versions(self, kind: str, name: str) -> list[Before]:
        """The versions of a view or service, newest first."""
        # Of what was never applied nothing is asked: a registry of many names answers slowly.
        return versions_of(self.registry, kind, name) if name in self.applied[kind] else []

    def feature(self, id_: str) -> tuple[Item, str]:
        """A feature by the id of its node: its item, and its page."""
        kind, _, name = id_.partition(":")
        return self.items[kind, name], self.pages.of(kind, name)


def anchor(node_name: str, source: str) -> str:
    """The place of a column on the page of its source."""
    return f"column-{node_name.removeprefix(f'{source}.')}"


def gather(project: Project, asked: Asked, progress: Progress = lambda *_: None) -> Gathered:
    """Everything that the catalogue of a project tells. Nothing is written but what reading the
    data keeps in the state folder."""
    sets, given = read_manifests(asked.manifests), read_parity(asked.parity)
    parity: dict[str, list[ParityResult]] = {}
    for one in (*given, *last_parity(project.state_dir)):
        parity.setdefault(one.feature, []).append(one)
    items = {(_kind(item), item.name): item for item in catalog(project)}
    graph = lineage(project, asked.manifests)
    looked: Mapping[str, Looked] = {}
    if asked.data is not None:
        views = list(project.repo.compiled_views.values())
        looked = look(
            project, views, asked.data, lambda done, total: progress("data of views", done, total)
        )
    made = Gathered(
        project.name, project.repo, project.registry, items, graph, sets, parity, looked,
        dt.datetime.now(dt.UTC).replace(microsecond=0),
    )  # fmt: skip
    made.reaching = graph.reaching
    made.applied = {k: frozenset(project.registry.names(k)) for k in ("view", "service")}
    made.judged = {n: last_judged(project.state_dir, n) for n in project.repo.sources}
    made.used_in, made.read_by = _users(graph)
    made.needed_by = _needed(project.registry)
    for kind, name in items:  # in their order, so that pages keep their names
        made.pages.of(kind, name)
    return made


def _needed(registry: Registry) -> dict[str, list[Pin]]:
    """The pins of each service, and of each feature that the pinned version has."""
    found: dict[str, list[Pin]] = {}
    for pin in registry.pins():
        service = registry.definition("service", pin.service, pin.fingerprint)
        assert isinstance(service, Service)
        ids = {service_id(service.name): None}
        for output in service.outputs:
            ids[answer_id(service.name, output.name)] = None
            if output.view >= 0:
                view = service.views[output.view]
                ids[feature_id(view.name, view.features[output.index].name)] = None
        for id_ in ids:
            found.setdefault(id_, []).append(pin)
    return found


def _users(graph: Lineage) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Which services answer with each feature, and which features at request time read it."""
    used: dict[str, list[str]] = {}
    above: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.target.startswith("service:"):
            used.setdefault(edge.source, []).append(graph.nodes[edge.target].name)
        elif edge.source.startswith(_FEATURES) and edge.target.startswith("transform:"):
            above.setdefault(edge.target, []).append(edge.source)
    read: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.target.startswith(f"{ANSWER}:"):
            for feature in above.get(edge.source, ()):
                read.setdefault(feature, []).append(edge.target)
    return used, read


def words_of(item: Item) -> str:
    """What of an item a search finds beside what is shown of it: tags, columns, keys."""
    found: list[Any] = [f"{k} {v}" for k, v in item.tags.items()]
    if item.deprecated is not None:
        found.append(item.deprecated.text)
    for name in ("definition", "keys", "schema", "features", "request", "source", "path"):
        value = item.details.get(name)
        if isinstance(value, Mapping):
            found += value
        elif value:
            found.append(value)
    return " ".join(map(str, found))
