"""Remembers where a definition is written, so that every error about it names the file and line.

While a repo is loaded, its faults are collected: a definition that is wrong is replaced by a
`Broken`, and so is what is made of it, so that the rest is checked too.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from featurekit.core.calls import fault_of
from featurekit.errors import CompileError, DefinitionError, FeaturekitError

if TYPE_CHECKING:
    from inspect import Signature

_NAMED = re.compile(r"^\w+ '[^']*'")
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_DECORATORS = 50
"""The most lines of decorators above a def."""
E = TypeVar("E", bound=FeaturekitError)
T = TypeVar("T")


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def of(self, text: str) -> Place:
        """The line on which `text` stands as a string, in the call that begins here; this place
        where there is none."""
        return self.first([text])

    def first(self, texts: Sequence[str]) -> Place:
        """The line on which the first of these texts stands that is a string in the call that
        begins here; this place where none is."""
        try:
            stat = Path(self.file).stat()
            found = _strings(self.file, stat.st_mtime_ns, stat.st_size).get(self.line, {})
        except (OSError, ValueError, SyntaxError):
            return self
        return Place(self.file, next((found[one] for one in texts if one in found), self.line))


@lru_cache(maxsize=16)
def _strings(file: str, mtime_ns: int, size: int) -> dict[int, dict[str, int]]:
    """For each line on which a call begins, the lines of the strings in it. The time and the size
    tell a file from what it was before."""
    import ast  # a process that only serves needs no parser

    found: dict[int, dict[str, int]] = {}
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            of_line = found.setdefault(node.lineno, {})
            for one in ast.walk(node):
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    of_line.setdefault(one.value, one.lineno)
    return found


def place_of(function: Any) -> Place:
    """Where a function's def stands, below its decorators."""
    code = function.__code__
    file, first = code.co_filename, code.co_firstlineno
    linecache.checkcache(file)
    lines = (linecache.getline(file, first + n).lstrip() for n in range(_DECORATORS))
    below = next((n for n, text in enumerate(lines) if text.startswith(("def ", "async def "))), 0)
    return Place(file, first + below)


def written_at() -> Place | None:
    """The line that is being run outside featurekit."""
    frame = sys._getframe(1)
    while frame is not None:
        top = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if top not in ("featurekit", "dataclasses"):
            return Place(frame.f_code.co_filename, frame.f_lineno)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def placed(error: E, place: Place | None) -> E:
    """The error, its text preceded by the place; as it is where it names one already, or where
    there is no such file (as for a cell of a notebook).

    The place becomes the line of what the text quotes, after the name of the definition, in the
    call that begins at the place: that of the first text which stands in it.
    """
    if error.place is None and place is not None and not isinstance(error, CompileError):
        quoted = [a or b for a, b in _QUOTED.findall(_NAMED.sub("", str(error)))]
        place = place.first(quoted)
    if error.place is None and not isinstance(error, CompileError) and place is not None:
        error.place = str(place)
        if Path(place.file).is_file():
            error.args = (f"{place}: {error}",)
    return error


# --- faults of a whole repo -----------------------------------------------------------------------


class Broken:
    """Stands for a definition whose fault is collected already."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Collected:
    """What is found while a repo is loaded: its faults, each once, and all that was defined."""

    def __init__(self) -> None:
        self.faults: list[FeaturekitError] = []
        self.made: list[Any] = []

    def add(self, fault: FeaturekitError) -> None:
        """Keep a fault, unless it was met before."""
        if str(fault) not in map(str, self.faults):
            self.faults.append(fault)


_collected: ContextVar[Collected | None] = ContextVar("featurekit_collected", default=None)


@contextmanager
def collecting() -> Iterator[Collected]:
    """Collect the faults of definitions instead of raising the first one."""
    made = Collected()
    token = _collected.set(made)
    try:
        yield made
    finally:
        _collected.reset(token)


def failed(error: FeaturekitError) -> Any:
    """A `Broken` for a definition that is wrong, where faults are collected; else this raises."""
    collected = _collected.get()
    if collected is None:
        raise error
    collected.add(error)
    return Broken()


def is_broken(value: Any) -> bool:
    """Whether a value is a `Broken`, or holds one."""
    if isinstance(value, Broken):
        return True
    if isinstance(value, Mapping):
        return any(map(is_broken, value)) or any(map(is_broken, value.values()))
    return isinstance(value, (list, tuple, set)) and any(map(is_broken, value))


def made_by_method(make: Callable[[], T], *, given: tuple[Any, ...]) -> T:
    """What a method of a definition makes of another one, as `Defined` does of a class: where the
    `given` are broken already, so is this, and a fault begins with the file and the line."""
    collected, at = _collected.get(), written_at()
    if collected is not None and is_broken(given):
        return cast(T, Broken())
    try:
        return make()
    except FeaturekitError as fault:
        return cast(T, failed(placed(fault, at)))


class Defined(type):
    """The class of the classes that users define features with.

    An object keeps its `place`. A call that does not fit is explained: by a TypeError for its
    signature, by a DefinitionError for an argument's type. The DefinitionError of a wrong
    definition begins with the file and the line.
    """

    if not TYPE_CHECKING:  # a type checker reads the signatures of the classes themselves

        def __call__(cls, *args, **kwargs):
            collected = _collected.get()
            if collected is not None and (is_broken(args) or is_broken(kwargs)):
                return Broken()
            at = written_at()
            made, fault = _made(cls, args, kwargs)
            if fault is None:
                object.__setattr__(made, "place", at)
                if collected is not None:
                    collected.made.append(made)
                return made
            if isinstance(fault, FeaturekitError):
                return failed(placed(fault, at))
            if collected is None:
                raise fault  # a TypeError, for a call that does not fit the signature
            return failed(placed(DefinitionError(str(fault)), at))

    @property
    def __signature__(cls) -> Signature:
        import inspect

        made = inspect.signature(cls.__init__)  # type: ignore[misc]
        return made.replace(parameters=list(made.parameters.values())[1:])


def _made(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The object, or the fault of the call. What the class itself says of its arguments comes
    first."""
    made = error = None
    try:
        made = type.__call__(cls, *args, **kwargs)
    except FeaturekitError as said:
        return None, said
    except (TypeError, AttributeError, ValueError, LookupError) as raised:
        error = raised
    fault = fault_of(cls.__init__, (made, *args), kwargs, skip=1, name=cls.__name__)  # type: ignore[misc]
    if error is not None and fault is None:
        raise error
    return made, DefinitionError(str(fault)) if isinstance(fault, FeaturekitError) else fault
