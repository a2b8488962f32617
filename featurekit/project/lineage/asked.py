"""Turns a project, and the name of something in it, into its lineage."""

from __future__ import annotations

from dataclasses import dataclass

from featurekit.core.calls import near
from featurekit.define.compile_view import compile_source
from featurekit.errors import DefinitionError
from featurekit.project.lineage.definitions import lineage_of
from featurekit.project.lineage.graph import Kind, Lineage, Node
from featurekit.project.lineage.pinned_models import with_models
from featurekit.project.lineage.training_sets import Paths, read_manifests, with_training_sets
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class Asked:
    """A part of a project's lineage: that of `name`, which is of a `kind`, or all of it, where the
    name is empty. `ids` are those of the nodes that were asked about."""

    name: str
    kind: Kind | None
    ids: tuple[str, ...]
    lineage: Lineage


def lineage(project: Project, manifests: Paths = ()) -> Lineage:
    """The lineage of all that the repo defines, of the training sets of these manifests, and of the
    models for which a version is pinned."""
    repo = project.repo
    services = repo.compiled_services.values()
    made = lineage_of(
        repo.compiled_views.values(), services, map(compile_source, repo.sources.values())
    )
    sets = read_manifests(manifests)
    made = with_training_sets(made, services, sets)
    return with_models(made, services, project.registry, sets)


def asked(project: Project, name: str | None, manifests: Paths = ()) -> Asked:
    """The part of the lineage above and below a feature (view:feature, or its name alone), a
    service, or a column (source.column). DefinitionError for a name that none of them has."""
    whole = lineage(project, manifests)
    if name is None:
        return Asked("", None, (), whole)
    found = nodes_named(whole, name)
    ids = tuple(node.id for node in found)
    return Asked(name, found[0].kind, ids, whole.around(*ids))


def nodes_named(whole: Lineage, name: str) -> list[Node]:
    """The nodes of this name, which all are of one kind. DefinitionError where there are none."""
    kinds: tuple[Kind, ...] = (
        "feature", "service", "column", "request", "training set", "model",
    )  # fmt: skip
    exact = name.replace("__", ":")
    for kind in kinds:
        of_kind = whole.of_kind(kind)
        found = [node for node in of_kind if node.name in (name, exact)]
        if kind == "feature" and not found:
            found = [node for node in of_kind if node.name.endswith(f":{name}")]
        if found:
            return found
    known = [node.name for kind in kinds for node in whole.of_kind(kind)]
    raise DefinitionError(
        f"no feature, service or column is named {name!r}; write view:feature, the name of a "
        f"service or source.column; {near(name, known, listed='there are')}"
    )
