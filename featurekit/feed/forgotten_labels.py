"""Finds the labels of training sets that have forgotten entities: files beside manifests, with the
frame's own columns, which only their owner can write anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.coerce import Misfit, canonical
from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.errors import DataError, RegistryError
from featurekit.feed.forget_served import ForgottenRows
from featurekit.log.tombstones import Tombstone, read_secret
from featurekit.offline.manifest import MANIFEST, labels_beside, read_manifest
from featurekit.project.project import Project


@dataclass(frozen=True, slots=True)
class _Head:
    service: str
    fingerprint: str
    keys: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class _Keys:
    """Different keys of rows, by column, as what looks for forgotten entities reads rows."""

    head: _Head
    keys: Sequence[Sequence[Any]]
    served_at: Sequence[int] = ()
    arrivals: Sequence[Sequence[int | None]] = ()


def labels_below(project: Project, tombstone: Tombstone) -> Iterator[tuple[str, int]]:
    """The files of labels below the folder of the repo that have rows of who has a tombstone, and
    how many. Of a version that the registry has not, keys have the types of the tombstone's."""
    gone = ForgottenRows(
        project, [tombstone], read_secret(project.state_dir, [tombstone]), ever=True
    )
    for manifest in sorted(project.path.rglob(f"*{MANIFEST}")):
        path = labels_beside(manifest)
        with suppress(DataError):
            told = read_manifest(manifest)
            types = _keys_of(project, told["service"], told["fingerprint"]) or dict(tombstone.keys)
            rows = labels_of(gone, path, told["service"], told["fingerprint"], types)
            if rows:
                yield str(path), rows


def _keys_of(project: Project, service: str, fingerprint: str) -> Mapping[str, Type]:
    """The join keys of a version; none where the registry has it not."""
    try:
        found = project.registry.definition("service", service, fingerprint)
    except RegistryError:
        return {}
    assert isinstance(found, Service)
    return found.join_keys


def labels_of(
    gone: ForgottenRows, path: Path, service: str, fingerprint: str, types: Mapping[str, Type]
) -> int:
    """How many rows of a file of labels are of who was forgotten; the labels are those of a version
    of a service, which has these join keys. DataError where it is no file of labels."""
    columns, counts = _different(path, [*types])
    optional = {name: type_.or_none() for name, type_ in types.items()}
    read = [
        [_as_key(value, type_) for value in column]
        for column, type_ in zip(columns, optional.values(), strict=True)
    ]
    head = _Head(service, fingerprint, optional)
    return sum(counts[i] for i in gone(_Keys(head, read)))


def _different(path: Path, names: Sequence[str]) -> tuple[list[list[Any]], list[int]]:
    """The different keys in a file of labels, by column, and how many rows have each. DataError
    where it is none."""
    import pyarrow as pa

    try:
        with closing(pa.memory_map(str(path))) as file:
            table = pa.ipc.open_file(file).read_all().select(list(names))
            made = table.group_by(list(names)).aggregate([([], "count_all")])
            return [made[name].to_pylist() for name in names], made["count_all"].to_pylist()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{path}: no labels can be read there ({error})") from None


def _as_key(value: Any, type_: Type) -> Any:
    """A value as its join key has it; None where it is none, and so of nobody."""
    try:
        return canonical(value, type_, zone_name="UTC")
    except Misfit:
        return None
