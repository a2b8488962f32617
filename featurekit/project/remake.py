"""Turns the manifest of a training set into that training set once more, or into what has changed
since (F2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.types import as_instant, micros
from featurekit.define.compile_service import Chosen
from featurekit.define.labels import Labelled, with_labels
from featurekit.define.plan import Role, Service, View
from featurekit.errors import DataError, RegistryError, SourceError
from featurekit.offline.manifest import read_manifest
from featurekit.project.home import home_of
from featurekit.project.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

    from featurekit.offline.training_set import TrainingSet


def remake(project: Project, path: str | os.PathLike[str]) -> TrainingSet:
    """The training set that a manifest tells of, of the labels beside it and of the sources as they
    were then. DataError says what of them is not there any more, or has changed; and, when the rows
    are computed, that they are others."""
    from featurekit.offline.parts import PartOf
    from featurekit.offline.training_set import TrainingSet
    from featurekit.sources.again import files_again
    from featurekit.sources.reading import key_of

    beside = Path(path)
    told = read_manifest(beside)
    service = _service(project, told)
    asked_for = _with_labels(project, service, told)
    readings, changed = {}, []
    for name, about in told["sources"].items():
        source = project.source(name)
        try:
            found = files_again(source, about["files"], project.path, project.state_dir)
        except SourceError as error:
            changed.append(str(error))
        else:
            readings[key_of(source)] = found
    if changed:
        raise DataError(
            f"{beside}: it cannot be made again, as sources have changed. " + "\n".join(changed)
        )
    asked = told["asked"]
    made = TrainingSet(
        service,
        _labels(beside, told),
        connect=project.connect,
        snapshot=partial(project.snapshot, repo=project.repo),
        full_names=asked["full_feature_names"],
        statuses=asked["statuses"],
        timezone=asked["timezone"],
        known_at=_known_at(told),
        buckets=project.config.featurekit.buckets,
        readings=readings,
        told=told,
        labelled=asked_for,
        part=PartOf(told["part"], {}) if "part" in told else None,
    )
    made.home = home_of(project, asked_for.whole)
    return made


def _known_at(told: Mapping[str, Any]) -> int | None:
    at = told["known_at"]
    return None if at is None else micros(as_instant(at, what="known_at"))


def _service(project: Project, told: Mapping[str, Any]) -> Service:
    """The version of the service, as the repo or the registry has it, whose sources can be read."""
    name, fingerprint = told["service"], told["fingerprint"]
    found = project.repo.compiled_services.get(name)
    if found is None or found.fingerprint != fingerprint:
        try:
            kept = project.registry.definition("service", name, fingerprint)
        except RegistryError:
            raise DataError(
                f"service {name!r} is another one now: the repo and the registry have no version "
                f"{fingerprint[:12]} of it; check out the definitions of that day"
            ) from None
        assert isinstance(kept, Service)
        found = kept
    for view in found.views:
        if not project.readable(view):
            raise DataError(
                f"service {name!r}, version {fingerprint[:12]}: view {view.name!r} reads source "
                f"{view.source.title!r} as it was defined then; check out the definitions of that "
                "day"
            )
    return found


def _with_labels(project: Project, service: Service, told: Mapping[str, Any]) -> Labelled:
    """The service with the labels that the manifest tells of, of the versions of their views that
    the repo or the registry has (T10)."""
    found = []
    for about in told.get("label_columns", {}).values():
        (name, _, label), fingerprint = about["label"].partition(":"), about["view"]
        view = project.repo.compiled_views.get(name)
        if view is None or view.fingerprint != fingerprint:
            view = _older_view(project, name, fingerprint)
        if not project.readable(view):
            raise DataError(
                f"view {name!r} of labels, version {fingerprint[:12]}, reads source "
                f"{view.source.title!r} as it was defined then; check out the definitions of that "
                "day"
            )
        role = about.get("role")
        of_role = None if role is None else Role(role["name"], tuple(role["keys"]))
        found.append(Chosen(replace(view, role=of_role), (label,)))
    return with_labels(service, found) if found else Labelled(service, service)


def _older_view(project: Project, name: str, fingerprint: str) -> View:
    """A version of a view that `apply` recorded."""
    try:
        view = project.registry.definition("view", name, fingerprint)
    except RegistryError:
        raise DataError(
            f"view {name!r} of labels is another one now: the repo and the registry have no "
            f"version {fingerprint[:12]} of it; check out the definitions of that day"
        ) from None
    assert isinstance(view, View)
    return view


def _labels(beside: Path, told: Mapping[str, Any]) -> pa.Table:
    """The labels that lie beside the manifest, whose content is that of the manifest."""
    import pyarrow as pa

    from featurekit.offline.manifest import ContentHash, labels_beside

    path = labels_beside(beside)
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: the labels of the training set cannot be read there ({error}); they are "
            "written beside the manifest, and have to stay with it"
        ) from None
    digest = ContentHash(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    if digest.hexdigest() != told["labels"]["content_hash"]:
        raise DataError(f"{path}: these are not the labels of the manifest; its content is another")
    return table
