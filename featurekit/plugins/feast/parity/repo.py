"""Opens a Feast repo to be asked, and never written to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException
from feast.repo_config import load_repo_config

from featurekit.core.calls import near
from featurekit.core.missing import no_folder
from featurekit.errors import (
    ConfigError,
    DefinitionError,
    FeaturekitError,
    RegistryError,
    StoreUnavailable,
)

_FILE = "feature_store.yaml"
_APPLY = "the repo has no views to check yet, so run `feast apply`"


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """Feast's FeatureStore of a repo. ConfigError where there is none, RegistryError where nothing
    was applied to it."""
    if not folder.is_dir():
        raise ConfigError(f"--feast: {no_folder(folder)}; write the folder of a Feast repo")
    path = folder / _FILE
    if not path.is_file():
        below = folder / "feature_repo" / _FILE
        instead = f"write --feast {below.parent}" if below.is_file() else "name the folder with one"
        raise ConfigError(f"--feast: {folder} has no {_FILE}; {instead}")
    config = _config(folder, path)
    _check_places(config, folder)
    here = str(folder.absolute())
    sys.path.insert(0, here)  # functions of on-demand views may import modules of the repo
    try:
        yield FeatureStore(repo_path=here, config=config)
    finally:
        sys.path.remove(here)


def _config(folder: Path, path: Path) -> Any:
    """The settings of a repo, with nothing in them that would write down that it was asked."""
    try:
        config = load_repo_config(folder.absolute(), path)
        # Sections are made when they are first read; what is wrong in them is told here.
        _ = config.registry, config.offline_store, config.online_store
    except FeaturekitError:
        raise
    except Exception as error:  # Feast raises classes of its own, pydantic's and yaml's
        raise ConfigError(f"{path}: Feast cannot read it ({_short(error)}); correct it") from None
    config.mlflow_config = config.openlineage_config = None
    return config


def _check_places(config: Any, folder: Path) -> None:
    """RegistryError or StoreUnavailable where a registry or an online store is absent that Feast
    would make as soon as it is asked."""
    registry, online = config.registry, config.online_store
    if registry.registry_type == "sql":
        _check_sql(registry, config.project)
    local = registry.registry_type == "file" and "://" not in str(registry.path)
    if local and not (folder / registry.path).is_file():
        raise RegistryError(f"{folder / registry.path}: there is no registry; {_APPLY}")
    kind = "" if online is None else str(online.type).lower()
    if kind.endswith(("sqlite", "sqliteonlinestore")) and not (folder / online.path).is_file():
        raise StoreUnavailable(
            f"{folder / online.path}: there is no online store; run `feast apply` and "
            "`feast materialize-incremental`"
        )


def _check_sql(registry: Any, project: str) -> None:
    """RegistryError where a database does not answer, or has no such project."""
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    engine = create_engine(registry.path, **registry.sqlalchemy_config_kwargs)
    shown = engine.url.render_as_string(hide_password=True)
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file is not None and not Path(file).is_file():
        raise RegistryError(f"{file}: there is no registry; {_APPLY}")
    asked = text("SELECT 1 FROM projects WHERE project_id = :project")
    try:
        with engine.connect() as con:
            there = inspect(con).has_table("projects")
            known = there and con.execute(asked, {"project": project}).first() is not None
    except SQLAlchemyError as error:
        raise RegistryError(
            f"registry {shown} does not answer ({_short(error)}); start it, or correct registry: "
            f"in {_FILE}"
        ) from None
    finally:
        engine.dispose()
    if not known:
        raise RegistryError(f"registry {shown} has no project {project!r}; {_APPLY}")


def views_of(store: Any, names: list[str]) -> list[Any]:
    """The feature views and on-demand views that are named, or all that can be asked."""
    found = {view.name: view for view in _all_views(store)}
    for name in names:
        if name not in found:
            raise DefinitionError(f"--view: the repo has no view {name!r}; {_near(name, found)}")
    return [view for name, view in found.items() if not names or name in names]


def services_of(store: Any, names: list[str]) -> list[Any]:
    """The feature services that are named, or all of them."""
    found = {service.name: service for service in store.list_feature_services()}
    for name in names:
        if name not in found:
            raise DefinitionError(
                f"--service: the repo has no feature service {name!r}; {_near(name, found)}"
            )
    return [service for name, service in found.items() if not names or name in names]


def _all_views(store: Any) -> list[Any]:
    try:
        return [
            *store.list_feature_views(),
            *store.list_stream_feature_views(),
            *store.list_on_demand_feature_views(),
        ]
    except FeastObjectNotFoundException as error:
        raise RegistryError(f"{store.project}: {_short(error)}; run `feast apply`") from None
    except Exception as error:  # functions of views are read with what they import
        raise RegistryError(
            f"{store.project}: Feast cannot read the registry ({_short(error)}); what the repo "
            "imports has to be installed here, and applied with this version of Feast"
        ) from None


def _near(name: str, known: Any) -> str:
    return near(name, list(known), listed="there are:") if known else "it has none"


def _short(error: Exception) -> str:
    """The first line of another library's error, with its class."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
