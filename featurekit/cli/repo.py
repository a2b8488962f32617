"""Turns a command line into the feature store that it means."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.missing import no_folder
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.store import FeatureStore

_FILE = "feature_store.yaml"


@contextmanager
def open_store(arguments: Namespace) -> Iterator[FeatureStore]:
    """The feature store of --repo, or of the repo that the shell is in; closed at the end.
    ConfigError where there is none."""
    folder = repo_folder(arguments)
    if folder is None:
        raise ConfigError(
            f"no {_FILE} in this folder, in one above it or in feature_repo; name the repo with "
            "--repo, or write one with `featurekit init`"
        )
    if arguments.repo is not None and not folder.is_dir():
        raise ConfigError(f"--repo: {no_folder(folder)}; write the path of a feature repo")
    from featurekit.store import FeatureStore

    with FeatureStore(folder, redis_url=arguments.redis_url) as store:
        store.parts.redis_url_from = "--redis-url"
        yield store


def repo_folder(arguments: Namespace) -> Path | None:
    """The folder of --repo, or the repo where the shell is: in this folder, in feature_repo below
    it, or in the nearest folder above it; None without one."""
    folder: Path | None = arguments.repo
    if folder is None:
        near = (Path(), Path("feature_repo"), *Path.cwd().parents)
        folder = next((one for one in near if (one / _FILE).is_file()), None)
    return folder


def state_dir(folder: Path) -> Path:
    """The folder in which a repo keeps its state."""
    from featurekit.project.config import find_repo, load_config

    found = find_repo(folder)
    return found / load_config(found).featurekit.state_dir
