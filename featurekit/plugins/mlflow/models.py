"""Turns models into what MLflow keeps of them, and a kept model into predictions for entity rows.

A model carries its feature contract: as a file, by its SHA-256 in the model's metadata and in tags.
A model that is loaded asks for the contract's own version of the service, and for no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from featurekit.core.attributes import Named
from featurekit.core.types import Instant
from featurekit.core.version import VERSION
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.published import Trust
from featurekit.errors import ArgumentError, ContractRefused, DataError, NotServed
from featurekit.monitor.deploy import check_types, check_version
from featurekit.plugins.mlflow.client import active_run, downloaded, explained, mlflow, schema_of
from featurekit.store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd

CONTRACT_FILE, CONTRACT_TAG = "featurekit_contract.json", "featurekit.contract"
"""The file of a model's contract, and the tag that names its version."""
_MODEL_TAG = "featurekit.model_sha256"
_OWN = ("signature", "metadata", "extra_files", "input_example", "artifact_path")
_LIBRARIES = ("scikit-learn", "skops", "numpy", "pandas")
_VERSION = re.compile(r"models:/([^/@]+)(?:/(\d+)|@([^/]+))")


def log_model(
    model: Any,
    contract: Contract,
    *,
    name: str = "model",
    registered_model_name: str | None = None,
    pip_requirements: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> Any:
    """Log a fitted model of scikit-learn with its feature contract, in the active run or a new one.

    The signature has the columns of the contract. Run, model and, with `registered_model_name`, the
    model's new version in the registry have tags: `featurekit.contract`, as in "churn@3f2a…",
    `featurekit.contract_sha256` and `featurekit.content_hash`; model and version have the SHA-256
    of the model's file besides, `featurekit.model_sha256`. `pip_requirements` are by default
    the installed versions of scikit-learn, skops, NumPy, pandas and featurekit. `options` are those
    of `mlflow.sklearn.log_model`, whose ModelInfo comes back.

    ContractRefused, before anything is logged, where the model was fitted on other columns, or on
    these in another order. ArgumentError for an option that the contract decides. DataError where
    MLflow does not take the model.
    """
    taken = [one for one in _OWN if one in options]
    if taken:
        raise ArgumentError(
            f"log_model: {', '.join(taken)} cannot be given, since the contract decides it; leave "
            "it out"
        )
    _check_columns(_fitted_on(model), contract, "the model")
    about = _about(contract)
    named = {f"featurekit.{key}": value for key, value in about.items()}
    with (
        explained(f"the model {name!r}"),
        TemporaryDirectory(prefix="featurekit-") as made,
        active_run(),
    ):
        contract.save(Path(made, CONTRACT_FILE))
        info = mlflow.sklearn.log_model(
            model,
            name=name,
            registered_model_name=registered_model_name,
            signature=mlflow.models.ModelSignature(inputs=schema_of(contract.features)),
            pip_requirements=list(pip_requirements or _requirements()),
            extra_files=[str(Path(made, CONTRACT_FILE))],
            metadata={"featurekit": about},
            tags={**(tags or {}), **named},
            **options,
        )
        mlflow.set_tags(named)
        client, sha256 = mlflow.MlflowClient(), _model_sha256(info)
        client.set_logged_model_tags(info.model_id, {_MODEL_TAG: sha256})
        if registered_model_name is not None:
            version = str(info.registered_model_version)
            client.set_model_version_tag(registered_model_name, version, _MODEL_TAG, sha256)
    return info


def load_contract(uri: str, *, public_keys: Sequence[str] | None = None) -> Contract:
    """The feature contract that a model carries; `uri` is as in "models:/churn/3".

    ContractRefused where the model has none, where a byte of it was changed, where it is not the
    one that the metadata and tags of the model name, where the model's own signature has other
    columns, where its file is another than was logged, as after a new fit of its scaler alone, or
    where `public_keys` (by default those of FEATUREKIT_PUBLIC_KEYS) want another signature of the
    contract. DataError where MLflow has no such model.
    """
    return KeptModel(uri).believed(public_keys)


def load_model(uri: str, *, store: FeatureStore) -> ServedModel:
    """A model, as in "models:/churn/3", which predicts for entity rows with features of `store`.

    Everything is checked before the model itself is loaded. ContractRefused where `load_contract`
    refuses, where the store holds public keys of which none signed the contract, where the
    signature or the model has other columns than the contract, in another order or of other types,
    or where the version of the service that the contract names gives others. NotServed where that
    version is neither live nor pinned, or not filled; it names the features that differ from what
    is live. DataError where MLflow has no such model, or it is not one of scikit-learn.
    """
    kept = KeptModel(uri)
    info = kept.info
    contract = kept.believed([key.text for key in store.parts.trust.keys])
    function = info.flavors.get("python_function", {}).get("predict_fn")
    if "sklearn" not in info.flavors or function is None:
        raise DataError(
            f"{uri}: a model of {', '.join(info.flavors)}; log one of scikit-learn, with "
            "featurekit.plugins.mlflow.log_model"
        )
    _check_served(uri, store, contract)
    with explained(uri):
        model = mlflow.sklearn.load_model(info.model_uri)
    _check_columns(_fitted_on(model), contract, uri)
    return ServedModel(uri, contract, store, model, function)


class ServedModel(Named):
    """A model with the store that gives it the features of its contract."""

    def __init__(
        self, uri: str, contract: Contract, store: FeatureStore, model: Any, function: str
    ) -> None:
        self.uri = uri
        """Where it was loaded from."""
        self.contract = contract
        """The feature contract that it carries."""
        self.model = model
        """The model itself, of scikit-learn."""
        self._store, self._function = store, function

    def features(self, rows: Any, as_of: Instant | None = None) -> pd.DataFrame:
        """The features of each row (join keys and request fields) as of an instant, now by default:
        the columns of the contract in their order, with the dtypes and bits that
        `TrainingSet.to_pandas` gives (A3).

        Errors are those of `FeatureStore.get_online_features`; NotServed names the features that
        differ from what is live, where the contract's version is gone meanwhile.
        """
        try:
            found = self._store.get_online_features(
                self.contract.version,
                rows,
                as_of,
                full_feature_names=self.contract.full_feature_names,
            )
        except NotServed:
            _check_served(self.uri, self._store, self.contract)
            raise
        frame: pd.DataFrame = found.to_pandas()[self.contract.names]
        return frame

    def predict(self, rows: Any, as_of: Instant | None = None) -> Any:
        """What the model predicts for each row, in the order of the rows, as scikit-learn gives it.

        Errors are those of `features`; ArgumentError without rows, and DataError where the model
        does not take the features, as one that was never fitted on None or NaN.
        """
        frame = self.features(rows, as_of)
        if frame.empty:
            raise ArgumentError("predict: there are no rows; give at least one")
        try:
            return getattr(self.model, self._function)(frame)
        except (TypeError, ValueError) as error:
            lacking = ", ".join(n for n in frame.columns if frame[n].isna().any())
            also = f" (None or NaN is in {lacking})" if lacking else ""
            raise DataError(
                f"{self.uri}: the model does not take these features{also}: {error}; fit it with "
                "an imputer, or give the features a default="
            ) from error

    def __repr__(self) -> str:
        return f"ServedModel({self.uri}, {self.contract!r})"


# --- what is checked ------------------------------------------------------------------------------


class KeptModel(Named):
    """A model as MLflow keeps it, of which nothing but its description was read yet."""

    def __init__(self, uri: str) -> None:
        """`uri` is as in "models:/churn/3", "models:/churn@champion" or "runs:/RUN/model".
        DataError where MLflow has no such model."""
        self.uri = uri
        """Where it is."""
        with explained(uri):
            self.info: Any = mlflow.models.get_model_info(uri)
            self.version: Any = self._version()
        """Its version in the registry; None where the URI names none."""

    @property
    def run_id(self) -> str | None:
        """The run in which it was logged."""
        found = self.info.run_id or getattr(self.version, "run_id", None)
        return None if found is None else str(found)

    def _version(self) -> Any:
        match = _VERSION.fullmatch(self.uri)
        if match is None:
            return None
        name, number, alias = match.groups()
        client = mlflow.MlflowClient()
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)

    def believed(self, keys: Sequence[str] | None) -> Contract:
        """The feature contract that it carries, where nothing of the model contradicts it."""
        found = self.contract(keys)
        self.check_tags(found)
        self.check_signature(found)
        self.check_file()
        return found

    def contract(self, keys: Sequence[str] | None) -> Contract:
        """The feature contract that it carries, signed by one of these keys where there are some.
        ContractRefused where it has none, a byte was changed, or the signature is not wanted."""
        if not isinstance(self._metadata(), dict):
            raise ContractRefused(
                f"{self.uri}: the model carries no feature contract; log it with "
                "featurekit.plugins.mlflow.log_model"
            )
        with explained(self._file), TemporaryDirectory(prefix="featurekit-") as made:
            found = Contract(
                _bytes(self.info, f"extra_files/{CONTRACT_FILE}", made), where=self._file
            )
        found.check_signed(Trust.held("", keys).keys)
        return found

    def check_tags(self, contract: Contract) -> None:
        """ContractRefused where metadata or tags name another contract than it carries."""
        tags = {f"featurekit.{key}": value for key, value in _about(contract).items()}
        for place, told in self._told():
            for key, value in tags.items():
                if told.get(key) != value:
                    raise ContractRefused(
                        f"{self._file}: this is not the contract that the model was logged with: "
                        f"it has {key} {value}, and the {place} of the model {told.get(key)}; log "
                        "the model again with its own contract"
                    )

    def check_signature(self, contract: Contract) -> None:
        """ContractRefused where its signature has other columns than the contract."""
        signature = self.info.signature
        if signature is None or signature.inputs is None:
            raise ContractRefused(
                f"{self.uri}: the model has no signature; log it with "
                "featurekit.plugins.mlflow.log_model"
            )
        _check_columns(signature.inputs.input_names(), contract, f"{self.uri}: its signature")
        told, wanted = signature.inputs.to_dict(), schema_of(contract.features).to_dict()
        for one, other in zip(told, wanted, strict=True):
            if one != other:
                raise ContractRefused(
                    f"{self.uri}: its signature says of {other['name']} that it is {_spec(one)}, "
                    f"and the contract that it is {_spec(other)}; log the model again with its own "
                    "contract"
                )

    def check_file(self) -> None:
        """ContractRefused where the model's file is another than was logged. Of models that are not
        of scikit-learn nothing is known."""
        sha256 = self.sha256()
        if sha256 is None:
            return
        for place, told in self._told():
            if place != "metadata" and told.get(_MODEL_TAG) != sha256:
                raise ContractRefused(
                    f"{self.uri}: the model's file is not the one that was logged: its SHA-256 is "
                    f"{sha256}, and the {place} of the model {told.get(_MODEL_TAG)}; log a model "
                    "that was fitted again, or in part, as a new version"
                )

    def sha256(self) -> str | None:
        """The SHA-256 of the model's file; None for a model that is not of scikit-learn."""
        if "sklearn" not in self.info.flavors:
            return None
        with explained(self.uri):
            return _model_sha256(self.info)

    @property
    def _file(self) -> str:
        return f"{self.uri}: {CONTRACT_FILE}"

    def _metadata(self) -> Any:
        return (self.info.metadata or {}).get("featurekit")

    def _told(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What metadata, the tags of the model and those of its registered version say."""
        yield "metadata", {f"featurekit.{k}": v for k, v in self._metadata().items()}
        if self.info.model_id is not None:
            with explained(self.uri):
                yield "tags", mlflow.MlflowClient().get_logged_model(self.info.model_id).tags
        if self.version is not None:
            yield "registered version", self.version.tags


def _check_served(uri: str, store: FeatureStore, contract: Contract) -> None:
    """NotServed where the contract's version cannot be asked, ContractRefused where it gives other
    columns."""
    checked, service = check_version(store.parts, contract)
    if service is None:
        raise NotServed(f"{uri}: {checked.found}")
    types = check_types(contract, service)
    if not types.held:
        raise ContractRefused(
            f"{uri}: the contract says other columns than its version gives: {types.found}"
        )


def _spec(told: Mapping[str, Any]) -> str:
    return f"{told['type']}{'' if told.get('required', True) else ' or null'}"


def _check_columns(names: Sequence[str] | int | None, contract: Contract, what: str) -> None:
    """ContractRefused where columns, or their number, are not those of the contract in order; it
    names those that are elsewhere. Of None nothing is known."""
    wanted = contract.names
    again = "fit the model on training_set.to_pandas()[contract.names]"
    if isinstance(names, int):
        if names != len(wanted):
            raise ContractRefused(
                f"{what} has {names} columns, and the contract {len(wanted)}; {again}"
            )
    elif names is not None and list(names) != wanted:
        lacking = [n for n in wanted if n not in names]
        more = [n for n in names if n not in wanted]
        swapped = [n for n, other in zip(names, wanted, strict=False) if n != other]
        said = [f"lacks {', '.join(lacking)}"] if lacking else []
        said += [f"has {', '.join(more)} besides"] if more else []
        said = said or [f"has {', '.join(swapped)} in another order"]
        raise ContractRefused(
            f"{what} is not of the columns of the contract: it {' and '.join(said)}; {again}"
        )


def _fitted_on(model: Any) -> list[str] | int | None:
    """The columns that a model of scikit-learn was fitted on, or their number."""
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    number = getattr(model, "n_features_in_", None)
    return None if number is None else int(number)


# --- MLflow ---------------------------------------------------------------------------------------


def _about(contract: Contract) -> dict[str, str]:
    """What metadata and tags say of a contract."""
    return {
        "contract": contract.version,
        "contract_sha256": contract.sha256,
        "content_hash": contract.content_hash,
    }


def _requirements() -> list[str]:
    found = [f"featurekit=={VERSION}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _bytes(info: Any, name: str, folder: str) -> bytes:
    """A file of a model, which is downloaded into a folder."""
    base = info.model_uri
    if info.model_id is not None:  # MLflow takes no path behind the id of a model
        base = mlflow.MlflowClient().get_logged_model(info.model_id).artifact_location
    return downloaded(f"{base}/{name}", folder).read_bytes()


def _model_sha256(info: Any) -> str:
    """The SHA-256 of the file of a model of scikit-learn."""
    with TemporaryDirectory(prefix="featurekit-") as made:
        return hashlib.sha256(
            _bytes(info, info.flavors["sklearn"]["pickled_model"], made)
        ).hexdigest()
