"""Turns a folder of Python modules into the definitions in them."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from featurekit.aggregates.base import Aggregate
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import EventSource, FeatureService, FeatureView
from featurekit.define.plan import Service, View
from featurekit.errors import DefinitionError, FeaturekitError
from featurekit.language.transform import Transform

_TAKEN = frozenset(
    {"featurekit", "duckdb", "pyarrow", "pandas", "polars", "redis", "feast", "numpy"}
)
# Modules of two repos may share a name, but the interpreter keeps one module for a name.
_loading = threading.RLock()


@dataclass(slots=True)
class Repo:
    """A feature repo's definitions by name, and their compiled forms."""

    sources: dict[str, EventSource] = field(default_factory=dict)
    views: dict[str, FeatureView] = field(default_factory=dict)
    services: dict[str, FeatureService] = field(default_factory=dict)
    compiled_views: dict[str, View] = field(default_factory=dict)
    compiled_services: dict[str, Service] = field(default_factory=dict)

    def transforms(self) -> list[Transform]:
        """Every transform that a view or a service of the repo runs."""
        found: list[Any] = []
        for view in self.views.values():
            for value in view.features.values():
                found += [value.input, value.where] if isinstance(value, Aggregate) else [value]
        for service in self.services.values():
            found += service.features
        return [one for one in found if isinstance(one, Transform)]


def load_repo(folder: Path) -> Repo:
    """Run every module of the folder and compile its definitions.

    DefinitionError if a module fails or two definitions share a name; then nothing stays half
    loaded.
    """
    repo = Repo()
    for module, value in _definitions(folder):
        match value:
            case FeatureService():
                _add(repo.services, value, module, "FeatureService")
                for item in value.features:
                    view = getattr(item, "view", item)
                    if isinstance(view, FeatureView):
                        _add(repo.views, view, module, "FeatureView")
            case FeatureView():
                _add(repo.views, value, module, "FeatureView")
            case EventSource():
                _add(repo.sources, value, module, "EventSource")
    for view in repo.views.values():
        _add(repo.sources, view.event_source, None, "EventSource")
    repo.compiled_views = {n: compile_view(v) for n, v in sorted(repo.views.items())}
    repo.compiled_services = {n: compile_service(s) for n, s in sorted(repo.services.items())}
    if not repo.views and not repo.services:  # a service of transforms alone has no view
        raise DefinitionError(
            f"{folder} defines no FeatureView and no FeatureService; write one in a module there, "
            "as in `customer_orders = FeatureView(…)`"
        )
    return repo


def _add(known: dict[str, Any], value: Any, module: Path | None, what: str) -> None:
    twins = (n for n in known if n.lower() == value.name.lower() and n != value.name)
    twin = next(twins, None)
    if twin is not None:
        raise DefinitionError(
            f"{what} {twin!r} and {what} {value.name!r} differ in case alone, which file systems "
            "and DuckDB may take for one; name them apart"
        )
    other = known.setdefault(value.name, value)
    if other is not value:
        where = f"{module}: " if module else ""
        raise DefinitionError(f"{where}two definitions of {what} {value.name!r}; name them apart")


def _definitions(folder: Path) -> Iterator[tuple[Path, Any]]:
    seen: set[int] = set()
    for path, module in _modules(folder):
        for value in vars(module).values():
            if id(value) not in seen:
                seen.add(id(value))
                yield path, value


def _modules(folder: Path) -> list[tuple[Path, ModuleType]]:
    """Every module of the folder, run anew; modules may import each other by name. Threads load one
    folder at a time."""
    with _loading:
        return _run_all(folder)


def _run_all(folder: Path) -> list[tuple[Path, ModuleType]]:
    paths = {path.stem: path for path in sorted(folder.glob("*.py"))}
    for name, path in paths.items():
        if name in sys.stdlib_module_names or name in _TAKEN:
            raise DefinitionError(f"{path}: a module {name!r} hides a library; rename the file")
    evicted = {name: sys.modules.pop(name) for name in paths if name in sys.modules}
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return [(path, _run(name, path)) for name, path in paths.items()]
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in paths:
            sys.modules.pop(name, None)
        sys.modules.update(evicted)


def _run(name: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except FeaturekitError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # a user's module may raise anything
        raise DefinitionError(f"{_place(path, error)}: {type(error).__name__}: {error}") from None


def _place(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}:{frames[-1].lineno}" if frames else str(path)
