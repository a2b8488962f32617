"""Hashes the rows of a training set for its manifest, which says what it was made of (F2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit.core.arrays import as_numbers, loses_nanoseconds
from featurekit.errors import DataError

MANIFEST = ".manifest.json"
_NEEDED = ("service", "fingerprint", "features", "known_at", "sources", "content_hash", "labels")


class ContentHash:
    """A hash of rows in their order: their names, types and values, however they are cut into
    batches.

    Every NaN counts as one NaN; the hidden bytes of a null do not count.
    """

    def __init__(self, schema: Any) -> None:
        self.rows = 0
        self.names = [f.name for f in schema]
        self.fields = [f"{f.name}:{f.type}" for f in schema]
        self.columns = [hashlib.sha256() for _ in schema]

    def update(self, batch: Any) -> None:
        """Take the next Arrow RecordBatch."""
        self.rows += batch.num_rows
        for digest, column in zip(self.columns, batch.columns, strict=True):
            _feed(digest, column)

    def by_column(self) -> dict[str, str]:
        """The hash of each column by its name: of its type, its values and their order."""
        rows = self.rows.to_bytes(8, "little")
        each = zip(self.names, self.fields, self.columns, strict=True)
        return {
            name: hashlib.sha256(field.encode() + rows + values.digest()).hexdigest()
            for name, field, values in each
        }

    def hexdigest(self, first: int | None = None) -> str:
        """The hash of all that was taken, or of the `first` columns of it."""
        whole = hashlib.sha256("\n".join(self.fields[:first]).encode())
        whole.update(self.rows.to_bytes(8, "little"))
        for digest in self.columns[:first]:
            whole.update(digest.digest())
        return whole.hexdigest()


def manifest_beside(path: Path) -> Path:
    """Where the manifest of a training set lies that was written to `path`."""
    return path.with_name(f"{path.name}{MANIFEST}")


def labels_beside(manifest: Path) -> Path:
    """Where the labels lie that a manifest tells of: beside it, as an Arrow file."""
    return manifest.with_name(f"{manifest.name.removesuffix(MANIFEST)}.labels.arrow")


def read_manifest(path: Path) -> dict[str, Any]:
    """What a manifest says. DataError where there is none, or one that lacks something."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no manifest can be read there ({error})") from None
    lacking = [name for name in _NEEDED if not isinstance(told, dict) or name not in told]
    if lacking:
        raise DataError(
            f"{path}: it has no {', '.join(lacking)}, so it is no manifest, or one of a release "
            "before 0.3; name the .manifest.json beside a training set"
        )
    return dict(told)


def differing_columns(told: Mapping[str, Any], now: ContentHash) -> list[str]:
    """The columns whose values are others than a manifest tells; none where it does not tell of
    each, as one of an earlier release."""
    found = now.by_column()
    return [name for name, hash_ in told.get("columns", {}).items() if found.get(name) != hash_]


def differences(told: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests of one training set, but for its rows."""
    found = []
    for name in ("featurekit", "libraries", "numeric_fingerprint"):
        if told.get(name) != json.loads(json.dumps(now.get(name))):
            found.append(f"{name} is {now.get(name)}, and was {told.get(name)}")
    for source, about in told["sources"].items():
        for what in ("rows", "quarantined", "forgotten"):
            then, here = about.get(what, 0), now["sources"].get(source, {}).get(what, 0)
            if then != here:
                found.append(f"source {source!r} has {here:,} {what}, and had {then:,}")
    return found


def _feed(digest: Any, column: Any) -> None:
    """Feed the validity and the values of one Arrow array, without offsets or padding.

    Each element feeds its own bytes, so the borders of batches do not matter.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    valid = column.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False)
    type_ = column.type
    if pa.types.is_boolean(type_):
        column, type_ = column.cast(pa.uint8()), pa.uint8()
    if pa.types.is_floating(type_):
        column = pc.if_else(pc.is_nan(column), pa.scalar(float("nan"), type_), column)
    fixed = pa.types.is_integer(type_) or pa.types.is_floating(type_)
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_) or pa.types.is_date64(type_):
        column, fixed = column.cast(pa.int64()), True
    elif pa.types.is_date32(type_):
        column, fixed = column.cast(pa.int32()), True
    if fixed:
        import numpy as np

        filled = pc.fill_null(column, pa.scalar(0, column.type)).to_numpy(zero_copy_only=False)
        # Value and validity side by side: two columns, fed row by row.
        paired = np.empty(len(valid), dtype=[("v", filled.dtype), ("n", "u1")])
        paired["v"], paired["n"] = filled, valid
        digest.update(paired.tobytes())
        return
    for value in _values(column):
        if isinstance(value, bytes):
            raw = value
        else:
            raw = (value if isinstance(value, str) else repr(value)).encode()
        digest.update(b"\0" if value is None else b"\1" + len(raw).to_bytes(8, "little") + raw)


def _values(column: Any) -> list[Any]:
    """The values as Python has them; one that it does not hold as the numbers that it is."""
    with suppress(ValueError, OverflowError):  # an instant or a date outside the years 1 to 9999
        if not loses_nanoseconds(column):
            values: list[Any] = column.to_pylist()
            return values
    return [_value(column.slice(row, 1)) for row in range(len(column))]


def _value(one: Any) -> Any:
    with suppress(ValueError, OverflowError):
        if not loses_nanoseconds(one):
            return one.to_pylist()[0]
    return "numbers", as_numbers(one).to_pylist()[0]
