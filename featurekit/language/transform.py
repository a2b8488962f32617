"""The decorator `@feature`, and the transform that it makes of a function (R1)."""

from __future__ import annotations

import inspect
import linecache
import re
import types
import typing
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NoReturn, overload

from featurekit.core.calls import explained
from featurekit.core.written import written_at
from featurekit.errors import CompileError, DefinitionError
from featurekit.language.results import field_of, result_fields

INSTANT = "as_of"
"""The parameter of a transform that is the instant asked for (T9)."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 200


def check_name(name: Any, *, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or "__" in name:
        raise DefinitionError(
            f"{what}: {name!r} is not a name; {_as_in(name)}rite a letter, then letters, digits "
            "and single underscores"
        )
    if len(name) > _LONGEST:
        raise DefinitionError(
            f"{what}: {name!r} has {len(name)} letters; write at most {_LONGEST}, since it also "
            "names files"
        )


def _as_in(name: Any) -> str:
    """The name that is nearest to one that is none, as the beginning of "write …"."""
    close = re.sub(r"[^A-Za-z0-9]+", "_", str(name)).strip("_")
    close = f"f_{close}" if close[:1].isdigit() else close
    return f'did you mean "{close}"? W' if close and isinstance(name, str) else "w"


_made: weakref.WeakValueDictionary[str, Transform] = weakref.WeakValueDictionary()


def known_features() -> Collection[str]:
    """The names of the features that this process has made, for errors that tell a feature from a
    column."""
    return list(_made)


class Transform:
    """A feature written as a plain typed function (R1); calling it calls the function.

    For a function that returns several values (a NamedTuple or TypedDict), `transform["field"]` is
    the feature of that name, and `transform.fields` has them all.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
        on_unsupported: str = "refuse",
        field: str | None = None,
    ) -> None:
        self.function = function
        self.field = field
        self.on_unsupported = on_unsupported
        self.name = field or function.__name__
        self.description = description or (function.__doc__ or "").strip()
        self.owner = owner
        self.tags = dict(tags or {})
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        _made[self.name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.function(*args, **kwargs)
        return result if self.field is None else field_of(result, self.field)

    def __getitem__(self, field: str) -> Transform:
        """The feature that is one field of the result. DefinitionError for an unknown field."""
        fields = self.fields
        if field not in fields:
            known = f"it has {', '.join(fields)}" if fields else "its result is one value"
            raise DefinitionError(f"@feature {self.name} has no field {field!r}; {known}")
        return fields[field]

    @property
    def fields(self) -> dict[str, Transform]:
        """Each field of a result of several values, as a feature; empty for a result of one
        value."""
        hints = typing.get_type_hints(self.function)
        names = (self.field is None and result_fields(hints.get("return"))) or {}
        return {
            name: Transform(
                self.function,
                description=self.description,
                owner=self.owner,
                tags=self.tags,
                on_unsupported=self.on_unsupported,
                field=name,
            )
            for name in names
        }

    @property
    def result(self) -> Any:
        """The hint of its result; None where it has none."""
        hint = typing.get_type_hints(self.function).get("return")
        return hint if self.field is None else (result_fields(hint) or {}).get(self.field)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(inspect.signature(self.function).parameters)

    @property
    def defaults(self) -> list[str]:
        """The parameters that have a default: constants of the feature, never read from data."""
        parameters = inspect.signature(self.function).parameters.values()
        return [p.name for p in parameters if p.default is not p.empty]

    def __repr__(self) -> str:
        return f"<feature {self.name}>"


@overload
def feature(function: Callable[..., Any], /) -> Transform: ...


@overload
def feature(
    *,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
    on_unsupported: Literal["refuse", "python"] = "refuse",
) -> Callable[[Callable[..., Any]], Transform]: ...


@explained
def feature(
    function: Callable[..., Any] | None = None,
    /,
    *,
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
    on_unsupported: Literal["refuse", "python"] = "refuse",
) -> Any:
    """Make a plain typed function a feature (R1).

    Its parameters name columns, features or request fields, and its return type is the feature's.
    With `on_unsupported="python"` the function is not compiled. It runs as it is written, row by
    row in DuckDB and online, which is slower. Its text is part of every published plan. It has to
    be a function of its arguments alone: what is known to read a clock, a random number or the
    world around it, or to change something that outlives a call, is refused when it is compiled.
    What a library does inside is not looked at; a parity check compares both paths with the plain
    function.

    DefinitionError for another `on_unsupported`, or for something that is not a plain function. A
    function that a decorator below `@feature` replaced is refused when it is compiled, since its
    text is that of the function inside.
    """
    if on_unsupported not in ("refuse", "python"):
        raise DefinitionError(f'on_unsupported is "refuse" or "python", not {on_unsupported!r}')

    def decorate(function: Callable[..., Any]) -> Transform:
        if not isinstance(function, types.FunctionType) and not _wraps(function):
            _no_def(function)
        if function.__name__ == "<lambda>":
            _no_lambda(function)
        check_name(function.__name__, what="@feature")
        return Transform(
            function,
            description=description,
            owner=owner,
            tags=tags,
            on_unsupported=on_unsupported,
        )

    return decorate if function is None else decorate(function)


def _wraps(function: Any) -> bool:
    """Whether the object is made of one function, into whose text an error can point."""
    made_of = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    return isinstance(made_of, types.FunctionType) and hasattr(function, "__name__")


def _line_of(filename: str, line: int) -> str:
    """A line of a file as it is now, which may have been edited since it was read last."""
    linecache.checkcache(filename)
    return linecache.getline(filename, line)


def _no_lambda(function: Any) -> NoReturn:
    code = inspect.unwrap(function).__code__
    text = _line_of(code.co_filename, code.co_firstlineno)
    raise CompileError(
        "@feature stands above a def, found a lambda, which has no name and no types",
        filename=code.co_filename,
        line=code.co_firstlineno,
        column=max(text.find("lambda"), 0) + 1,
        source=text,
        hint="write a def with typed parameters",
    )


def _no_def(found: Any) -> NoReturn:
    filename, line = written_at() or ("<unknown>", 0)
    text = _line_of(filename, line)
    raise CompileError(
        f"@feature stands above a def, found {found!r}",
        filename=filename,
        line=line,
        column=len(text) - len(text.lstrip()) + 1,
        source=text,
        hint="write a def with typed parameters, and call what you have inside it",
    )
