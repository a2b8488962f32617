"""Turns words of a command line into feature contracts, and what differs in them into a table."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import argument
from featurekit.cli.repo import open_store, repo_folder
from featurekit.core.screen import Screen
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.core.signing import PublicKey
    from featurekit.define.feature_contract.compare import Difference
    from featurekit.define.feature_contract.contract import Contract
    from featurekit.store import FeatureStore

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
CONTRACT = argument(
    "contract", type=Path, metavar="FILE", help="the contract, as churn.contract.json"
)


def read_contract(arguments: Namespace, path: Path) -> Contract:
    """The contract in a file, signed by one of the `held_keys` where there are some."""
    from featurekit.define.feature_contract.contract import Contract

    return Contract.load(path, public_keys=[key.text for key in held_keys(arguments)])


def contract_of(arguments: Namespace, store: FeatureStore) -> Contract:
    """The contract that the model in MLflow carries, or without one that in the file `--contract`.
    It is signed by one of the store's public keys, where there are some."""
    keys = [key.text for key in store.parts.trust.keys]
    if arguments.model is not None:
        know_mlflow()
        from featurekit.plugins.mlflow import load_contract

        return load_contract(arguments.model, public_keys=keys)
    from featurekit.define.feature_contract.contract import Contract

    return Contract.load(arguments.contract, public_keys=keys)


def is_model(name: str) -> bool:
    """Whether a word names a model in MLflow, as "models:/churn/3" does."""
    return name.startswith(("models:/", "runs:/"))


def know_mlflow() -> None:
    """ConfigError where MLflow would make a registry of its own in this folder, which is empty."""
    made_here = any(Path(name).exists() for name in ("mlflow.db", "mlruns"))
    if not made_here and not os.environ.get(TRACKING_VARIABLE):
        raise ConfigError(
            "MLFLOW_TRACKING_URI is not set, and MLflow keeps nothing in this folder; name the "
            "registry, as in MLFLOW_TRACKING_URI=sqlite:////srv/mlflow.db"
        )
    # Its own seven tries of a server that is away take minutes, in which nothing is said.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def held_keys(arguments: Namespace) -> tuple[PublicKey, ...]:
    """The public keys that the repo holds, where the shell is in one; else those of
    FEATUREKIT_PUBLIC_KEYS."""
    if repo_folder(arguments) is None:
        from featurekit.define.published import Trust

        return Trust.held("").keys
    with open_store(arguments) as store:
        return store.parts.trust.keys


def differing_documents(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """What differs, as programs read it."""
    return [
        {"name": d.name, "what": d.what, "was": d.was, "now": d.now, "lines": list(d.lines)}
        for d in found
    ]


def show_differences(screen: Screen, found: Sequence[Difference]) -> None:
    """What differs, as a table, and below it the lines of definitions that differ."""
    screen.table(("name", "what", "was", "now"), [(d.name, d.what, d.was, d.now) for d in found])
    differing_lines(screen, found)


def differing_lines(screen: Screen, found: Sequence[Difference]) -> None:
    """The lines of definitions that differ."""
    for one in found:
        if one.lines:
            screen.line(f"\n{one.name} reads otherwise:", style="bold")
            for line in one.lines:
                screen.line(f"  {line}", style="green" if line[0] == "+" else "red")
