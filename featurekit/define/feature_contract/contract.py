"""The feature contract of a model: read from a file and believed, compared, and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featurekit.aggregates.quantiles import BucketCounts
from featurekit.core.attributes import Named
from featurekit.core.calls import checked
from featurekit.core.files import whole
from featurekit.core.signing import PrivateKey, PublicKey
from featurekit.define.feature_contract.compare import Difference, of_columns, of_features
from featurekit.define.feature_contract.consistent import check_consistent
from featurekit.define.feature_contract.described import entity_keys_of, features_of, request_of
from featurekit.define.feature_contract.document import (
    Body,
    Code,
    Column,
    ColumnProfile,
    Document,
    Feature,
    Label,
    canonical,
    message,
    parsed,
    written,
)
from featurekit.define.plan import Service
from featurekit.define.published import KEYS_VARIABLE, Trust
from featurekit.errors import ArgumentError, ContractRefused, DataError


class Contract(Named):
    """What a model was trained on, and what serving has to give it: a feature contract.

    `TrainingSet.contract()` makes one, and `Contract.load` reads one. It is data: nothing of it is
    run. The contracts of sources, which `featurekit contracts` proposes, are something else.
    """

    def __init__(self, data: bytes, *, where: str = "contract") -> None:
        """The contract of these bytes. ContractRefused, which names `where` they are from, where
        they are none, were changed, or contradict themselves."""
        self._data = data
        self._where = where
        self._document: Document = parsed(data, where)
        check_consistent(self._document.contract, where)

    @classmethod
    def made(cls, body: Body, key: PrivateKey | None) -> Contract:
        """The contract that says this, signed where there is a `key` (F0)."""
        return cls(written(body, key))

    @classmethod
    @checked
    def load(
        cls, path: str | os.PathLike[str], *, public_keys: Sequence[str] | None = None
    ) -> Contract:
        """The contract in a file.

        With `public_keys`, by default those of the variable FEATUREKIT_PUBLIC_KEYS, it has to be
        signed by one of them; without any, only its SHA-256 is compared. ContractRefused where a
        byte of it was changed, where it contradicts itself, as with the profile of other rows, or
        where its signature is not wanted; DataError where the file cannot be read; ConfigError for
        a key that is none.
        """
        given = [public_keys] if isinstance(public_keys, str) else public_keys
        keys = Trust.held("", given).keys
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{os.fspath(path)}: no feature contract can be read there "
                f"({error.strerror or error}); `featurekit get-historical … --contract FILE` and "
                "training_set.contract().save(…) write one"
            ) from None
        found = cls(data, where=os.fspath(path))
        found.check_signed(keys)
        return found

    def check_signed(self, keys: Sequence[PublicKey]) -> None:
        """ContractRefused where there are `keys`, and none of them signed the contract."""
        signature = self._document.signature
        if not keys:
            return
        if signature is None:
            raise ContractRefused(
                f"{self._where}: the feature contract is not signed, and this reader holds a "
                "public key; make it where the private key is (FEATUREKIT_SIGNING_KEY, or "
                f"signing_key_file), or leave {KEYS_VARIABLE} out"
            )
        signed = message(canonical(self._document.contract.model_dump(mode="json")))
        key = next((key for key in keys if key.text == signature.key), None)
        if key is None or not key.holds(bytes.fromhex(signature.ed25519), signed):
            held = ", ".join(key.name for key in keys)
            raise ContractRefused(
                f"{self._where}: the feature contract has a signature that none of the keys held "
                f"here made for this content ({held}); make it with the right private key, or hold "
                "the public key of whoever did"
            )

    # --- what it says -----------------------------------------------------------------------------

    @property
    def body(self) -> Body:
        """All that it says, field by field; not public."""
        return self._document.contract

    @property
    def project(self) -> str:
        """The project of the store."""
        return self.body.project

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.body.service

    @property
    def fingerprint(self) -> str:
        """The version of the service (F1)."""
        return self.body.fingerprint

    @property
    def version(self) -> str:
        """What to ask for: the service's name, "@", and its version."""
        return f"{self.service}@{self.fingerprint}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features in their order, each with `name`, `type`, `nulls` and `definition`."""
        return tuple(self.body.features)

    @property
    def names(self) -> list[str]:
        """The names of the features in their order: the columns of a model."""
        return [feature.name for feature in self.body.features]

    @property
    def full_feature_names(self) -> bool:
        """Whether the features are called view__feature."""
        return self.body.full_feature_names

    @property
    def request(self) -> tuple[Column, ...]:
        """The request fields of a row."""
        return tuple(self.body.request)

    @property
    def entity_keys(self) -> tuple[Column, ...]:
        """The join keys of a row."""
        return tuple(self.body.entity_keys)

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of the training set, each with its window (T10)."""
        return tuple(self.body.labels)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the training set (F2), with the paths of files as they are below the
        project's folder, and without when they were written."""
        return dict(self.body.manifest)

    @property
    def content_hash(self) -> str:
        """The hash of the rows that it was made of."""
        return self.body.profile.content_hash

    @property
    def profile(self) -> Mapping[str, ColumnProfile]:
        """The reference profile of each feature and label, by name, in their order."""
        columns = self.body.profile.columns
        return {n: columns[n] for n in (*self.names, *(x.name for x in self.body.labels))}

    @property
    def code(self) -> Code | None:
        """The commit of git that the definitions stood at; None outside of a repository."""
        return self.body.code

    @property
    def signed_by(self) -> str | None:
        """The public key of who signed it, which `check_signed` compares; None where nobody did."""
        return None if self._document.signature is None else self._document.signature.key

    @property
    def sha256(self) -> str:
        """The hash of what it says and of its signature: two contracts that have it in common are
        the same."""
        return self._document.sha256

    @checked
    def quantile(self, name: str, q: float) -> float | None:
        """About the `q`-quantile of a feature of numbers in the training set, as `ApproxQuantile`
        has it: NaN where a value is NaN, None where there are none. ArgumentError for another
        column, or for a `q` outside 0 to 1."""
        found = self.profile.get(name)
        if found is None or found.numbers is None:
            there = ", ".join(n for n, one in self.profile.items() if one.numbers is not None)
            raise ArgumentError(f"quantile: {name!r} is no column of numbers; there are {there}")
        if not 0 <= q <= 1:
            raise ArgumentError(f"quantile: q is {q!r}; write a number from 0 to 1, as in 0.95")
        sketch = BucketCounts()
        sketch.counts.update(dict(found.numbers.buckets))
        return sketch.quantile(q)

    # --- comparing and writing --------------------------------------------------------------------

    def differences(self, other: Contract | Service) -> list[Difference]:
        """What differs between this contract and another one, or a service: features by name with
        their order, type, null rule, transform and version; what a row brings; and between two
        contracts the labels, the rows of the training set and their profile too."""
        if isinstance(other, Service):
            features = features_of(other, full_names=self.full_feature_names)
            keys, request = entity_keys_of(other), request_of(other)
        else:
            features, keys = other.body.features, other.body.entity_keys
            request = other.body.request
        found = [
            *of_features(self.features, features),
            *of_columns("entity key", self.entity_keys, keys),
            *of_columns("request field", self.request, request),
        ]
        return found if isinstance(other, Service) else [*found, *self._of_rows(other)]

    def _of_rows(self, other: Contract) -> Iterator[Difference]:
        """What differs in what two training sets hold."""
        was, now = (
            {one.name: f"{one.type} {one.fingerprint[:12]}" for one in side.labels}
            for side in (self, other)
        )
        for name in {**was, **now}:
            if was.get(name) != now.get(name):
                yield Difference(name, "label", was.get(name), now.get(name))
        if self.content_hash != other.content_hash:
            one, two = (
                f"{c.body.profile.rows:,} rows {c.content_hash[:12]}" for c in (self, other)
            )
            yield Difference(self.service, "training set", one, two)
        for name in (n for n in self.profile if n in other.profile):
            if self.profile[name] != other.profile[name]:
                shown = _shown(self.profile[name]), _shown(other.profile[name])
                yield Difference(name, "profile", shown[0], shown[1])

    def to_bytes(self) -> bytes:
        """The contract as it is written: canonical JSON, the same for the same training set."""
        return self._data

    def to_dict(self) -> dict[str, Any]:
        """What it says, as plain values."""
        said: dict[str, Any] = self._document.model_dump(mode="json")
        return said

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, whole or not at all. DataError where it cannot be written."""
        target = Path(path)
        if target.is_dir() or not target.parent.is_dir():
            raise DataError(
                f"{os.fspath(path)}: a contract is written to a file in a folder that exists, as "
                "in churn.contract.json"
            )
        with whole(target) as hidden:
            hidden.write_bytes(self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Contract) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        signed = "signed" if self.signed_by else "not signed"
        return (
            f"Contract({self.service}@{self.fingerprint[:12]}, {len(self.names)} features, "
            f"{self.body.profile.rows:,} rows, {signed})"
        )


def _shown(profile: ColumnProfile) -> str:
    numbers = profile.numbers
    between = "" if numbers is None else f", {numbers.least} to {numbers.greatest}"
    return f"{profile.present:,} present, {profile.null:,} null{between}"
