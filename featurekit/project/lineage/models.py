"""Turns the feature contract of a model into all that the model was trained on: data, features,
code and version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.attributes import Named
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.plan import Service
from featurekit.errors import RegistryError
from featurekit.project.lineage.definitions import lineage_of
from featurekit.project.pins import standing
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class ModelLineage(Named):
    """What a model was trained on.

    `model` has what the registry of models says of it, and `kept` where that keeps the training
    set: its run, manifest and labels, None for what is not kept. `standing` says how the contract's
    version stands in the online store: live, pinned by whom, retained, or gone. `columns` has the
    columns of sources and request fields that each feature is made of, by the feature's name; it is
    empty where the registry of features does not have that version any more.
    """

    model: Mapping[str, Any]
    contract: Contract
    standing: str
    kept: Mapping[str, str | None]
    columns: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each source: its rows, and its files with their hashes."""
        return dict(self.contract.manifest["sources"])

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        made, told = self.contract, self.contract.manifest
        return {
            "model": dict(self.model),
            "service": made.service,
            "fingerprint": made.fingerprint,
            "standing": self.standing,
            "code": None if made.code is None else made.code.model_dump(),
            "contract": {"sha256": made.sha256, "signed_by": made.signed_by},
            "training_set": {**told, "kept": dict(self.kept)},
            "features": [
                {
                    "name": one.name,
                    "type": one.type,
                    "fingerprint": one.fingerprint,
                    "definition": one.definition,
                    "columns": self.columns.get(one.name),
                }
                for one in made.features
            ],
            "labels": [one.model_dump() for one in made.labels],
        }


def model_lineage_of(
    project: Project, contract: Contract, model: Mapping[str, Any], kept: Mapping[str, str | None]
) -> ModelLineage:
    """The lineage of a model, of its contract and of what the project knows of the contract's
    version."""
    stands = standing(project, contract.service, contract.fingerprint)
    try:
        service = project.registry.definition("service", contract.service, contract.fingerprint)
    except RegistryError:
        return ModelLineage(model, contract, stands, kept)
    assert isinstance(service, Service)
    return ModelLineage(model, contract, stands, kept, _columns(service, contract))


def _columns(service: Service, contract: Contract) -> dict[str, list[str]]:
    """The columns and request fields of each feature, by its name in the contract."""
    graph = lineage_of(service.views, [service])
    found: dict[str, set[str]] = {}
    for reach in graph.reaches:
        if reach.role in ("value", "filter", "group"):
            print_ = graph.nodes[reach.feature].details.get("fingerprint")
            found.setdefault(str(print_), set()).add(graph.nodes[reach.column].name)
    return {one.name: sorted(found.get(one.fingerprint, ())) for one in contract.features}
