"""Turns a folder of Python modules into the definitions in them."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.define.plan import Service, View
from featurekit.errors import DefinitionError, FeaturekitError
from featurekit.language.transform import Transform

_TAKEN = frozenset(
    {"featurekit", "duckdb", "pyarrow", "pandas", "polars", "redis", "feast", "numpy"}
)
_DEFINED = (EventSource, FeatureView, FeatureService)
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


def load_repo(folder: Path) -> Repo:
    """Run every module of the folder and compile its definitions.

    DefinitionError if a module fails or two definitions share a name; then nothing stays half
    loaded.
    """
    repo = _repo_of(_definitions(folder))
    if not repo.views:
        raise DefinitionError(
            f"{folder} defines no FeatureView; write one in a module there, as in "
            "`customer_orders = FeatureView(…)`"
        )
    return repo


def repo_of(definitions: Iterable[Any]) -> Repo:
    """The definitions of a list, and the views and sources that they read, compiled.

    DefinitionError if two of them share a name, or where an object is no definition.
    """
    found: list[tuple[Path | None, Any]] = []
    for value in definitions:
        if not isinstance(value, (*_DEFINED, Entity, Transform)):
            raise DefinitionError(
                f"definitions: {type(value).__name__} is no definition; give a list of "
                "FeatureService, FeatureView and EventSource objects"
            )
        found.append((None, value))
    return _repo_of(found)


def same_definition(one: Any, other: Any) -> bool:
    """Whether one definition takes the place of the other: both are of one kind and name."""
    return type(one) is type(other) and isinstance(one, _DEFINED) and one.name == other.name


def modules_stamp(folder: Path) -> list[tuple[str, int, int]]:
    """The modules of the folder, each with its size and the time of its last change: another stamp
    says that some file was edited, added or removed."""
    found = []
    with os.scandir(folder) as entries:  # each push asks, and Path.glob takes ten times as long
        for entry in entries:
            if entry.name.endswith(".py"):
                with suppress(FileNotFoundError):  # it went meanwhile
                    stat = entry.stat()
                    found.append((entry.name, stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def module_paths(folder: Path) -> list[Path]:
    """The modules of the folder, in the order in which they are run."""
    return sorted(folder.glob("*.py"))


def _repo_of(found: Iterable[tuple[Path | None, Any]]) -> Repo:
    repo = Repo()
    for module, value in found:
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
    return repo


def _add(known: dict[str, Any], value: Any, module: Path | None, what: str) -> None:
    other = known.setdefault(value.name, value)
    if other is not value and other != value:
        where = f"{module}: " if module else ""
        raise DefinitionError(
            f"{where}two definitions of {what} {value.name!r}; name them apart, or, where one "
            "is an older one, make what still reads it anew, too"
        )


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
    paths = {path.stem: path for path in module_paths(folder)}
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
