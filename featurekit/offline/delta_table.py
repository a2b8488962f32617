"""Turns the rows of a training set into a version of a Delta Lake table, where that holds every bit
of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from featurekit.errors import DataError
from featurekit.offline.manifest import ContentHash
from featurekit.sources.origins.delta import put_version


def check_types(schema: Any) -> None:
    """DataError, which names the columns, where a Delta Lake table has no type that holds every
    value of theirs."""
    lacking = [f"{field.name!r} ({field.type})" for field in schema if not _holds(field.type)]
    if lacking:
        raise DataError(
            f"a Delta Lake table does not hold column {', '.join(lacking)} bit for bit; write "
            "Parquet (to_parquet), or leave the column out of the service or the entity frame"
        )


def _holds(type_: Any) -> bool:
    """Whether each value of a type comes back the same, at most in a column of another width."""
    import pyarrow as pa

    t = pa.types
    if t.is_timestamp(type_):
        return str(type_.unit) != "ns"
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        return _holds(type_.value_type)
    if t.is_map(type_):
        return _holds(type_.key_type) and _holds(type_.item_type)
    if t.is_struct(type_):
        return type_.num_fields > 0 and all(_holds(field.type) for field in type_)
    plain = (
        t.is_boolean,
        t.is_signed_integer,
        t.is_float32,
        t.is_float64,
        t.is_string,
        t.is_large_string,
        t.is_string_view,
        t.is_binary,
        t.is_large_binary,
        t.is_binary_view,
        t.is_date32,
    )
    return any(is_one(type_) for is_one in plain)


def put(rows: Path, schema: Any, folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Commit the rows of a Parquet file, which are of this schema and have this manifest, as the
    next version of a table, and read them back; what the manifest is to say of it.

    DataError where the version cannot be written, or is read back with another content hash.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(rows)
    told = {
        "featurekit.content_hash": str(manifest["content_hash"]),
        "featurekit.service": f"{manifest['service']}@{manifest['fingerprint']}",
        "featurekit.write": uuid4().hex,
    }
    version, kept = put_version(
        folder, file.schema_arrow, file.iter_batches(), service=manifest["service"], told=told
    )
    found = content_hash(kept, schema)
    if found != manifest["content_hash"]:
        raise DataError(
            f"{folder}: version {version} is read back with other rows than were written: their "
            f"content hash is {found[:12]}, and was {manifest['content_hash'][:12]}; go back to "
            "the version before, and write Parquet"
        )
    return {"table": folder.name, "version": version, "file": kept.name}


def content_hash(rows: Path, schema: Any) -> str:
    """The content hash of the rows in a file of a table, in the types of `schema`."""
    digest = ContentHash(schema)
    for batch in _batches(rows, schema):
        digest.update(batch)
    return digest.hexdigest()


def _batches(rows: Path, schema: Any) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(rows).iter_batches(columns=schema.names):
        cast = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        yield from cast.combine_chunks().to_batches()
