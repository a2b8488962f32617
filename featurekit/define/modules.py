"""Turns a feature repo's folder into its modules, run anew, and what a module raised into an error
that shows the line."""

from __future__ import annotations

import builtins
import importlib
import linecache
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from featurekit.core.calls import near
from featurekit.core.missing import no_file
from featurekit.core.written import Broken, Collected, Place, placed
from featurekit.errors import ConfigError, DefinitionError, FeaturekitError

IGNORE_FILE = ".featurekitignore"
IGNORED = (".*", "__pycache__/", "venv/", "node_modules/", "site-packages/", "setup.py")
IGNORED_TESTS = ("test/", "tests/", "test_*.py", "*_test.py", "conftest.py")
"""What is no part of a repo, unless a pattern says otherwise: `!test_shop.py`."""

SETTINGS_FILE = "feature_store.yaml"
_UNCLOSED = r"'([(\[{])' was never closed"
_PACKAGE = "featurekit_repo"
"""The package that a repo's modules belong to while they run."""
_TAKEN = frozenset(
    {"featurekit", "duckdb", "pyarrow", "pandas", "polars", "redis", "feast", "numpy", _PACKAGE}
)
# Modules of two repos may share a name, but the interpreter keeps one module for a name.
_loading = threading.RLock()


def module_files(folder: Path, ignore: Sequence[str] = ()) -> dict[str, Path]:
    """The repo's modules by their names, as "shop" or "features.orders": those in the folder and
    in its sub-folders that no pattern of `.featurekitignore` or of `ignore` names.

    A sub-folder with settings of its own is another repo. ConfigError for a pattern that is none,
    DefinitionError for a module that hides a library.
    """
    found: dict[str, Path] = {}
    for at, files in _walked(folder, ignore):
        for file in files:
            found[_module_name(at / file, (at / file).relative_to(folder))] = at / file
    return found


def _walked(folder: Path, ignore: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder of the repo with the names of the modules in it."""
    ignored = _ignored(folder, ignore)
    for at, folders, files in os.walk(folder):
        inside = Path(at).relative_to(folder)
        folders[:] = sorted(
            one
            for one in folders
            if not ignored(f"{(inside / one).as_posix()}/")
            and not (Path(at) / one / SETTINGS_FILE).exists()
        )
        names = [f for f in files if f.endswith(".py") and not ignored((inside / f).as_posix())]
        yield Path(at), sorted(names)


def is_module(folder: Path, path: Path, ignore: Sequence[str] = ()) -> bool:
    """Whether a file, there or not, is a module of the repo in `folder`, as `module_files` says."""
    folder, path = folder.resolve(), path.resolve()
    if path.suffix != ".py" or not path.is_relative_to(folder):
        return False
    inside, ignored = path.relative_to(folder), _ignored(folder, ignore)
    above = [one for one in inside.parents if one.name]
    apart = any(
        ignored(f"{one.as_posix()}/") or (folder / one / SETTINGS_FILE).exists() for one in above
    )
    return not apart and not ignored(inside.as_posix())


class Watched:
    """The modules of a folder as they are now, to see later whether one was edited, added or
    removed."""

    def __init__(self, folder: Path, ignore: Sequence[str] = ()) -> None:
        self.folder, self.ignore = folder, ignore
        self.modules, self.places = self._look()

    def changed(self) -> bool:
        """Whether some module is not as it was."""
        # A file that is added or removed changes its folder; the folders alone are looked at.
        if all(_stat(path) == seen for path, seen in self.places.items()):
            return False
        modules, self.places = self._look()
        return modules != self.modules

    def _look(self) -> tuple[dict[str, _Stat], dict[str, _Stat]]:
        modules: dict[str, _Stat] = {}
        places = {path: _stat(path) for path in (str(self.folder / IGNORE_FILE),)}
        for at, files in _walked(self.folder, self.ignore):
            places[str(at)] = _stat(str(at))
            modules |= {path: _stat(path) for path in (str(at / file) for file in files)}
        return modules, places | modules


_Stat = tuple[int, int] | None


def _stat(path: str) -> _Stat:
    """The size and the time of the last change of a file or folder; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs as much again
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _ignored(folder: Path, ignore: Sequence[str]) -> Any:
    """Whether a path, written with slashes, is left out; the syntax is that of gitignore."""
    from pathspec import GitIgnoreSpec

    lines = [*IGNORED, *IGNORED_TESTS, *ignore]
    path = folder / IGNORE_FILE
    if path.is_file():
        try:
            lines += path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as text: {error}") from None
    try:
        return GitIgnoreSpec.from_lines(lines).match_file
    except ValueError as error:
        raise ConfigError(
            f"{path}: {error}; write patterns as in a .gitignore, one on a line"
        ) from None


def _module_name(path: Path, inside: Path) -> str:
    """The name of a module, by its place in the repo. DefinitionError for one that hides a library
    or cannot be imported."""
    parts = list(inside.with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        del parts[-1]
    if parts[0] in sys.stdlib_module_names or parts[0] in _TAKEN:
        what = "module" if len(parts) == 1 else "folder"
        raise DefinitionError(
            f"{path}: a {what} {parts[0]!r} hides a library; rename it, or leave it out by a line "
            f"in {IGNORE_FILE}"
        )
    if any("." in part for part in parts):
        raise DefinitionError(
            f"{path}: a module's name has no dot; rename it, or leave it out by a line in "
            f"{IGNORE_FILE}"
        )
    return ".".join(parts)


def run_modules(
    folder: Path, collected: Collected, ignore: Sequence[str] = ()
) -> list[tuple[Path, ModuleType]]:
    """Every module of the folder, run anew; the faults of those that fail are collected.

    Modules import each other by name (`from features.orders import customer`) or relatively
    (`from .orders import customer`). Threads load one folder at a time.
    """
    with _loading:
        files = module_files(folder, ignore)
        with _importing(folder, files):
            made = []
            for name, path in files.items():
                module = _run(name, path, folder, collected)
                if module is not None:
                    made.append((path, module))
            return made


class _Aliases(MetaPathFinder, Loader):
    """Finds a module of the repo under the name that the repo's own modules import it by."""

    def __init__(self, tops: set[str]) -> None:
        self.tops = tops

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module, where its name begins with one of the repo's."""
        return ModuleSpec(fullname, self) if fullname.split(".")[0] in self.tops else None

    def create_module(self, spec: ModuleSpec) -> None:
        """The interpreter makes the module that `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the repo's module in the place of one that is empty."""
        name = module.__name__
        try:
            sys.modules[name] = importlib.import_module(f"{_PACKAGE}.{name}")
        except ModuleNotFoundError as error:
            if error.name is None or not f"{_PACKAGE}.{name}".startswith(error.name):
                raise
            raise ModuleNotFoundError(f"the repo has no module {name!r}", name=name) from None


@contextmanager
def _importing(folder: Path, files: dict[str, Path]) -> Iterator[None]:
    """The repo's modules can be imported, and nothing of them stays."""
    tops = {name.split(".")[0] for name in files}

    def ours(name: str) -> bool:
        return name.split(".")[0] in tops or name.split(".")[0] == _PACKAGE

    evicted = {name: sys.modules.pop(name) for name in list(sys.modules) if ours(name)}
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[_PACKAGE] = package
    finder = _Aliases(tops)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(evicted)


def _run(name: str, path: Path, folder: Path, collected: Collected) -> ModuleType | None:
    """The module, run; None where it fails, with the fault collected."""
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except FeaturekitError as error:
        collected.add(placed(error, _place(error, folder)))
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        collected.add(_explained(error, path, folder))
    return None


def _place(error: BaseException, folder: Path) -> Place | None:
    """The innermost line of the repo that an exception passed through."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(f"{folder}/")
    ]
    return Place(frames[-1].filename, frames[-1].lineno or 0) if frames else None


def _explained(error: BaseException, path: Path, folder: Path) -> DefinitionError:
    """What a module raised, with the line and what to write instead."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        place, text, said = (
            Place(error.filename or str(path), error.lineno or 0),
            error.text,
            error.msg,
        )
    else:
        place, text = _place(error, folder) or Place(str(path), 0), None
        said = re.sub(r" \(/[^)]*\)$", "", str(error))  # where an imported package lies
    where = str(place) if place.line else str(path)
    linecache.checkcache(place.file)
    line = (text or linecache.getline(place.file, place.line)).rstrip("\n")
    shown = f"\n    {line.strip()}" if line.strip() else ""
    if isinstance(error, SyntaxError) and error.offset:
        where += f":{error.offset}"
        indent = len(line) - len(line.lstrip())
        shown += f"\n    {' ' * max(error.offset - 1 - indent, 0)}^"
    hint = _hint(error)
    made = DefinitionError(
        f"{where}: {kind}: {said}{shown}" + (f"\n  hint: {hint}" if hint else "")
    )
    made.place = str(place)
    return made


def _question(close: str) -> str:
    """The question of what was meant, without what there is; nothing where there is none."""
    return close.partition("?")[0] + "?" if "?" in close else ""


def _aggregate(name: str) -> str:
    """The aggregate that another store calls so, as a question; nothing where there is none."""
    from featurekit.aggregates.elsewhere import instead_of

    asked = instead_of(name)
    return "" if asked is None else f"{asked} It is imported from featurekit.aggregates"


def _home(name: str) -> str:
    """The module of featurekit that a definition imports so exact a name from; "" if none is."""
    from featurekit.aggregates import BY_NAME

    if name in BY_NAME:
        return "featurekit.aggregates"
    public = getattr(sys.modules["featurekit"], "__all__", ())
    return "featurekit" if name in public else ""


def _of_undefined(name: str, trace: TracebackType) -> str:
    """What to write instead of a name that a module uses and does not have."""
    if home := _home(name):
        return f"write `from {home} import {name}`"
    last = list(traceback.walk_tb(trace))[-1][0]
    known = [
        n
        for n, v in {**last.f_globals, **last.f_locals}.items()
        if not n.startswith("_") and not isinstance(v, Broken)
    ]
    close = near(name, [*known, *dir(builtins)])
    from_another = _aggregate(name) if name[:1].isupper() else ""
    return _question(close) or from_another or "define or import it first"


def _hint(error: BaseException) -> str:
    """What to write instead, where an exception of Python tells."""
    name = getattr(error, "name", None)
    match error:
        case ModuleNotFoundError() if name:
            top = name.split(".")[0]
            return f"correct the name, or install the package that has the module {top!r}"
        case ImportError() if name and sys.modules.get(name) is not None:
            wanted = str(error).split("'")[1]
            module = sys.modules[name]
            from featurekit.aggregates.elsewhere import instead_of, meant

            aggregate = meant(wanted)
            if name == "featurekit" and aggregate is not None:
                return f"write `from featurekit.aggregates import {aggregate}`"
            known = [one for one in dir(module) if not one.startswith("_")]
            known = getattr(module, "__all__", known)
            if name == "featurekit.aggregates" and aggregate is not None:
                return f"{instead_of(wanted)} {name} has {', '.join(known)}"
            return near(wanted, known, listed=f"{name} has")
        case NameError() if name and error.__traceback__:
            return _of_undefined(name, error.__traceback__)
        case AttributeError() if name:
            known = [one for one in dir(error.obj) if not one.startswith("_")]
            of_aggregates = getattr(error.obj, "__name__", "") == "featurekit.aggregates"
            from_another = _aggregate(name) if of_aggregates else ""
            return from_another or _question(near(name, known))
        case SystemExit():
            return "a module of a repo only defines features; leave the exit out"
        case IndentationError():
            return "indent the lines of a block alike, four spaces a level"
        case SyntaxError() if closing := re.search(_UNCLOSED, str(error.msg)):
            pair = {"(": ")", "[": "]", "{": "}"}[closing[1]]
            return (
                f"this {closing[1]} is closed nowhere below: write the {pair} after what it holds"
            )
        case SyntaxError() if "unmatched" in str(error.msg) or "does not match" in str(error.msg):
            return "leave this bracket out, or write the one that it closes"
        case SyntaxError():
            return "look for a comma or a bracket that is missing on this line or the one before"
        case FileNotFoundError() if isinstance(error.filename, str):
            return (
                f"{no_file(error.filename)}; featurekit runs this module to read its definitions, "
                "in the folder that it was called from"
            )
        case _ if "; " in str(error):  # featurekit's own error says what to write
            return ""
        case _:
            return (
                "featurekit runs this module to read its definitions: correct the line so that it "
                "runs"
            )
