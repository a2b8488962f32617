"""Turns a training set, whose rows were counted, into the feature contract of its models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featurekit.core.git import commit_of
from featurekit.core.screen import plain
from featurekit.core.types import BOOL, BYTES, DATE, FLOAT, INT, STR, Type
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.feature_contract.described import (
    entity_keys_of,
    features_of,
    labels_of,
    request_of,
)
from featurekit.define.feature_contract.document import Body, Code, ColumnProfile, Profile
from featurekit.define.labels import Labelled
from featurekit.define.numerics import numeric_fingerprint
from featurekit.errors import ContractRefused, DataError
from featurekit.offline.home import Home
from featurekit.offline.manifest import ContentHash
from featurekit.offline.profile import RowProfile

_DECIDING = ("*.py", "feature_store.yaml")


def contract_of(
    asked: Labelled, manifest: Mapping[str, Any], profile: Mapping[str, ColumnProfile], home: Home
) -> Contract:
    """The contract of a training set, which has this manifest and profile; signed where its home
    has a key (F0)."""
    service = asked.features
    names = [*profile]
    full = manifest["asked"]["full_feature_names"]
    body = Body(
        format=1,
        project=home.project,
        service=service.name,
        fingerprint=service.fingerprint,
        entity_keys=entity_keys_of(service),
        request=request_of(service),
        features=features_of(service, full_names=full),
        labels=labels_of(asked, names[len(service.outputs) :]),
        full_feature_names=full,
        numerics=numeric_fingerprint(service),
        manifest=_movable(plain(manifest), home.folder),
        profile=Profile(
            content_hash=manifest["content_hash"], rows=manifest["rows"], columns=dict(profile)
        ),
        code=_code(home),
    )
    return Contract.made(body, home.private_key())


def check_training(contract: Contract, path: Path) -> None:
    """ContractRefused where the training set in a Parquet file has other rows than the contract
    says, or another profile; DataError where the file is none, or lacks a column. Statuses are
    compared where the file has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: no training set in Parquet can be read there ({error})") from None
    schema = file.schema_arrow
    names = [*contract.profile]
    keys = [key.name for key in contract.entity_keys]
    lacking = [name for name in [*names, *keys] if name not in schema.names]
    if lacking:
        raise DataError(
            f"{path}: it has no column {', '.join(map(repr, lacking))}; name the training set that "
            "the contract was written with"
        )
    kept = [f"{name}__status" for name in names]
    with_statuses = all(name in schema.names for name in kept)
    profile = RowProfile({name: _type(schema.field(name).type) for name in names})
    digest = ContentHash(schema)
    for batch in file.iter_batches():
        digest.update(batch)
        statuses = [batch.column(name) for name in kept] if with_statuses else None
        entities = [batch.column(name) for name in keys]
        profile.update([batch.column(name) for name in names], statuses, entities)
    if digest.hexdigest() != contract.content_hash:
        raise ContractRefused(
            f"{path}: its rows are not those that the contract was made of: their content hash is "
            f"{digest.hexdigest()[:12]}, and the contract's is {contract.content_hash[:12]}"
        )
    for name, found in profile.told().items():
        told = contract.profile[name]
        if not with_statuses:
            found = found.model_copy(update={"statuses": told.statuses})
        if found != told:
            raise ContractRefused(
                f"{path}: the contract's profile of {name!r} is stale: its rows have another one; "
                "make the contract again of its training set"
            )


def _type(arrow: Any) -> Type:
    """The value type whose column leaves featurekit in this type of Arrow, as far as a profile
    tells types apart."""
    known = {type_.arrow: type_ for type_ in (BOOL, INT, FLOAT, STR, DATE)}
    return known.get(arrow, BYTES)


def _movable(manifest: Any, folder: Path | None) -> Any:
    """A manifest without what differs from one checkout to another: when files were written, and
    the folders above the project's. Their content is told by their hashes."""
    for about in manifest["sources"].values():
        for file in about.get("files", ()):
            file.pop("mtime_ns", None)
            if "path" in file:
                file["path"] = _inside(file["path"], folder)
    return manifest


def _inside(path: str, folder: Path | None) -> str:
    """The path of a file below a folder; the name alone of another one on this machine."""
    if not Path(path).is_absolute():
        return path
    if folder is not None and Path(path).is_relative_to(folder.resolve()):
        return Path(path).relative_to(folder.resolve()).as_posix()
    return Path(path).name


def _code(home: Home) -> Code | None:
    found = None if home.folder is None else commit_of(home.folder, *_DECIDING)
    return None if found is None else Code(commit=found[0], dirty=found[1])
