"""Reads a Feast repo by Feast's own parser, and leaves the process as it was."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from feast.errors import RegistryInferenceFailure
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.inference import update_data_sources_with_inferred_event_timestamp_col
from feast.repo_config import RepoConfig
from feast.repo_operations import parse_repo

from featurekit.errors import ConfigError, DefinitionError

SETTINGS = "feature_store.yaml"
_OURS = "featurekit.plugins.feast"


@dataclass(slots=True)
class FeastRepo:
    """What a Feast repo defines. `settings` is its feature_store.yaml as it is written, `columns`
    has the Arrow types of the columns of each source whose files are here, and `unread` says why a
    source's columns are not known."""

    folder: Path
    settings: dict[str, Any]
    config: RepoConfig
    contents: Any
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether its stores are featurekit's own, so that much of it means there what it means
        here."""
        given = [self.settings.get(name) for name in ("offline_store", "online_store")]
        types = [one.get("type") if isinstance(one, dict) else one for one in given]
        return types == [f"{_OURS}.FeaturekitOfflineStore", f"{_OURS}.FeaturekitOnlineStore"]

    @property
    def entities(self) -> list[Any]:
        """Its entities, without the one that Feast makes for views that have none."""
        return [e for e in self.contents.entities if e.name != DUMMY_ENTITY_NAME]

    @property
    def views(self) -> list[Any]:
        """Its views of every kind but on-demand ones."""
        return [*self.contents.feature_views, *self.contents.stream_feature_views]


def read_feast(path: Path) -> FeastRepo:
    """The definitions of the Feast repo in a folder. Its modules are run.

    ConfigError where the folder holds no Feast repo, DefinitionError where its modules fail.
    """
    folder = path.resolve()
    if not folder.is_dir() or not (folder / SETTINGS).is_file():
        raise ConfigError(
            f"{path} holds no {SETTINGS}; name the folder of a Feast repo, the one where "
            "`feast apply` runs"
        )
    settings = _settings(folder)
    with _inside(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _config(folder, settings)
        try:
            contents = parse_repo(folder)
        except Exception as error:
            raise DefinitionError(
                f"{path}: Feast cannot load its modules: {type(error).__name__}: {_short(error)}; "
                "import it where `feast apply` works, with the same packages"
            ) from error
        repo = FeastRepo(folder, settings, config, contents)
        for source in _batch_sources(contents):
            _look_at(repo, source)
    return repo


def _settings(folder: Path) -> dict[str, Any]:
    """The settings as they are written, with the variables that they name."""
    try:
        found = yaml.safe_load((folder / SETTINGS).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / SETTINGS} is no YAML: {error}") from None
    if not isinstance(found, dict) or not found.get("project"):
        raise ConfigError(f"{folder / SETTINGS} names no project; write `project: shop` there")
    return found


def _config(folder: Path, settings: dict[str, Any]) -> RepoConfig:
    """Settings by which Feast reads files alone: those of the repo may need packages of its stores,
    or a server."""
    return RepoConfig(
        project=str(settings.get("project", "my_project")),
        provider="local",
        registry="memory",
        repo_path=folder,
        entity_key_serialization_version=3,
    )


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300]


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run what is in the block as Feast does: in the folder, with its modules to be imported."""
    before, path, known = Path.cwd(), list(sys.path), dict(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, os.fspath(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if known.get(name) is not module and _lies_in(module, folder):
                del sys.modules[name]


def _lies_in(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is not None:
        return Path(file).is_relative_to(folder)
    return any(Path(one).is_relative_to(folder) for one in getattr(module, "__path__", ()))


def _batch_sources(contents: Any) -> list[Any]:
    """Each source of files and tables once."""
    found = {}
    for source in contents.data_sources:
        batch = getattr(source, "batch_source", None) or source
        found[id(batch)] = batch
    return list(found.values())


def _look_at(repo: FeastRepo, source: Any) -> None:
    """Note the columns of a source, and find its timestamp as Feast would, where the files are
    here."""
    kind = type(source).__name__
    if kind in ("RequestSource", "KafkaSource", "KinesisSource", "PushSource"):
        return
    path = _local(repo.folder, source)
    if path is None:
        repo.unread[source.name] = f"a {kind}, which only Feast's own reader reaches"
        return
    from pyarrow import dataset

    try:
        schema = dataset.dataset(path, format="parquet").schema
    except (OSError, ValueError) as error:
        repo.unread[source.name] = _short(error)
        return
    repo.columns[source.name] = dict(zip(schema.names, schema.types, strict=True))
    with contextlib.suppress(RegistryInferenceFailure):
        update_data_sources_with_inferred_event_timestamp_col([source], repo.config)


def _local(folder: Path, source: Any) -> Path | None:
    """The file or folder of Parquet that a source names on this machine."""
    given = getattr(source, "path", None)
    kind = str(getattr(source, "file_format", None) or "parquet").lower()
    if not given or "://" in str(given) or "parquet" not in kind:
        return None
    return folder / str(given)
