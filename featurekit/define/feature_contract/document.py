"""Turns the bytes of a feature contract into its parts, and these into bytes: the one form of it.

The bytes are canonical: JSON with sorted keys and no space, so that the same training set gives the
same bytes, and any other byte is found. `schema.json` beside this module is the schema of the form,
which `json_schema` makes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurekit.core.signing import PrivateKey
from featurekit.errors import ContractRefused

FORMAT = 1
MOST_BYTES = 256 * 1024 * 1024
"""The size of the largest contract that is read."""
_SIGNED = b"featurekit contract 1\n"
Scalar = bool | int | float | str
_HASH, _FINGERPRINT = r"^[0-9a-f]{64}$", r"^[0-9a-f]{32}$"


class Part(BaseModel):
    """A part of a contract: nothing but its fields, which do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Column(Part):
    """A join key or a request field of a row, with its type."""

    name: str
    type: str


class Feature(Part):
    """A feature as the model takes it.

    `nulls` is "never" where every row has a value, whatever happens; `empty` is the value of a row
    without events. `definition` is what it computes, in lines for people; `fingerprint` is a hash
    of that. `view` and `view_version` name the states that it is read from, and are None for a
    request-time feature.
    """

    name: str
    full_name: str
    type: str
    nulls: Literal["never", "may"]
    empty: Any
    definition: list[str]
    fingerprint: str = Field(pattern=_FINGERPRINT)
    view: str | None
    view_version: str | None


class Label(Part):
    """A label of the training set; `window_us` is how far it looks ahead, in microseconds
    (T10)."""

    name: str
    label: str
    type: str
    window_us: int
    fingerprint: str = Field(pattern=_FINGERPRINT)
    view_version: str


class Numbers(Part):
    """The distribution of the numbers of a column, NaN among them.

    `buckets` has pairs of a bucket of `ApproxQuantile` and the number of values in it, in the order
    of values. `least` and `greatest` are the lower end of the first and the upper end of the last,
    rounded outwards for ints: no value itself. They leave NaN out, and are None where nothing else
    is there.
    """

    least: int | float | str | None
    greatest: int | float | str | None
    buckets: list[tuple[int, int]]


class ColumnProfile(Part):
    """What the values of a column were: how many were `present` and `null`, the rows of each
    status, the distribution of numbers, and the values that most rows have with their rows, of
    those that 11 entities have or more; a bool is told whoever has it. `top` is None for a type
    without classes, and where there are too many distinct values."""

    present: int = Field(ge=0)
    null: int = Field(ge=0)
    statuses: dict[str, int]
    numbers: Numbers | None
    top: list[tuple[Scalar, int]] | None


class Profile(Part):
    """The profile of the rows with this content hash: of each feature and label by name."""

    content_hash: str = Field(pattern=_HASH)
    rows: int = Field(ge=0)
    columns: dict[str, ColumnProfile]


class Code(Part):
    """The commit of git that the definitions stand at; `dirty` where modules or settings differ
    from it."""

    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    dirty: bool


class Body(Part):
    """What a feature contract says."""

    format: Literal[1]
    project: str
    service: str
    fingerprint: str = Field(pattern=_FINGERPRINT)
    entity_keys: list[Column]
    request: list[Column]
    features: list[Feature]
    labels: list[Label]
    full_feature_names: bool
    numerics: dict[str, str]
    manifest: dict[str, Any]
    profile: Profile
    code: Code | None


class Signed(Part):
    """Who signed it: a public key, and the signature by Ed25519 in hexadecimal digits."""

    key: str
    ed25519: str = Field(pattern=r"^[0-9a-f]{128}$")


class Document(Part):
    """A feature contract as it is written: what it says, who signed that, and the SHA-256 of both
    in their canonical form."""

    contract: Body
    signature: Signed | None
    sha256: str = Field(pattern=_HASH)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a feature contract."""
    found = _without_defaults(Document.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _without_defaults(schema: Any) -> Any:
    """A schema without what JSON Schema says anyway: releases of pydantic differ in that."""
    if isinstance(schema, dict):
        kept = {k: v for k, v in schema.items() if (k, v) != ("additionalProperties", True)}
        return {k: _without_defaults(v) for k, v in kept.items()}
    return [_without_defaults(one) for one in schema] if isinstance(schema, list) else schema


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no space. ValueError for a number that JSON has not."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return text.encode()


def message(body: bytes) -> bytes:
    """What a signature is of: the canonical body, and that it is a contract."""
    return _SIGNED + body


def written(body: Body, key: PrivateKey | None) -> bytes:
    """The bytes of a contract, signed where there is a `key`, with a line's end behind."""
    said = body.model_dump(mode="json")
    signature = None
    if key is not None:
        signed = key.sign(message(canonical(said)))
        signature = {"key": key.public.text, "ed25519": signed.hex()}
    parts = {"contract": said, "signature": signature}
    return canonical({**parts, "sha256": _digest(parts)}) + b"\n"


def _digest(parts: Any) -> str:
    return hashlib.sha256(canonical(parts)).hexdigest()


def parsed(data: bytes, where: str) -> Document:
    """What the bytes of a contract say. ContractRefused, which names `where` they are from, where
    they are none, or one of them is not what was written."""
    again = "take the file that was written with the training set, or make it again"
    if len(data) > MOST_BYTES:
        raise ContractRefused(f"{where}: {len(data):,} bytes; a contract has up to {MOST_BYTES:,}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ContractRefused(
            f"{where}: no feature contract, as it is no JSON ({error}); {again}"
        ) from None
    if not isinstance(found, dict) or "contract" not in found or "sha256" not in found:
        raise ContractRefused(
            f"{where}: no feature contract, as it has no contract and sha256; name the file that "
            "`featurekit get-historical … --contract FILE` wrote"
        )
    form = found["contract"].get("format") if isinstance(found["contract"], dict) else None
    if form != FORMAT:
        raise ContractRefused(
            f"{where}: a feature contract of format {form!r}; this featurekit reads {FORMAT}"
        )
    if not _unchanged(found, data):
        raise ContractRefused(
            f"{where}: the feature contract was changed after it was written: its bytes are not "
            f"those that its SHA-256 is of; {again}"
        )
    try:
        return Document.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise ContractRefused(
            f"{where}: the feature contract is not of the form of schema.json: {at}: "
            f"{first['msg']}; {again}"
        ) from None


def _unchanged(found: dict[str, Any], data: bytes) -> bool:
    try:
        parts = {name: value for name, value in found.items() if name != "sha256"}
        return canonical(found) + b"\n" == data and _digest(parts) == found["sha256"]
    except ValueError:  # a NaN, or half of a surrogate pair
        return False
