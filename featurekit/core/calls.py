"""Turns a call that does not fit its function into an error that says which argument, and what to
write instead."""

from __future__ import annotations

import collections.abc
import datetime as dt
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from featurekit.errors import ArgumentError, FeaturekitError

if TYPE_CHECKING:
    from inspect import Signature

P = ParamSpec("P")
R = TypeVar("R")
_MISUSE = (TypeError, AttributeError, ValueError, LookupError, OverflowError)


def near(name: str, known: Iterable[str], *, listed: str = "it has") -> str:
    """The end of a sentence about an unknown name: the known one that was probably meant, and all
    that there are. An unknown name may be of any type."""
    from difflib import get_close_matches

    names = list(known)
    by_lower = {n.lower(): n for n in reversed(names)}
    close = get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    every = f"{listed} {', '.join(names) or 'none'}"
    if not close:
        return every
    return f"did you mean {by_lower[close[0]]!r}? {every[0].upper()}{every[1:]}"


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose arguments are compared with its hints before it runs.

    ArgumentError, a TypeError too, for an argument of another type. For a call that does not fit
    the signature, the TypeError names the parameter that was probably meant.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        fault = fault_of(function, args, kwargs, skip=1)
        if fault is not None:
            raise fault
        return function(*args, **kwargs)

    return call


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """As `checked`, but the arguments are looked at only after the function failed, so that a call
    that fits costs nothing."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except FeaturekitError:
            raise
        except _MISUSE:
            fault = fault_of(function, args, kwargs, skip=1)
            if fault is None:
                raise
        raise fault

    return call


def explained_async(
    function: Callable[P, collections.abc.Coroutine[Any, Any, R]],
) -> Callable[P, collections.abc.Coroutine[Any, Any, R]]:
    """As `explained`, for a coroutine function."""

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except FeaturekitError:
            raise
        except _MISUSE:
            fault = fault_of(function, args, kwargs, skip=1)
            if fault is None:
                raise
        raise fault

    return call


def fault_of(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    skip: int = 0,
    name: str = "",
) -> Exception | None:
    """What is wrong with the arguments of a call; None where nothing is.

    The first `skip` parameters, as `self`, are not looked at. `name` is what the function is called
    in the error.
    """
    signature, hints = _declared(function)
    if not name:
        of_class = function.__qualname__.rpartition(".")[0]
        name = of_class if function.__name__ == "__init__" else function.__name__
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return TypeError(_misfit(name, signature, args, kwargs, skip))
    for parameter, value in list(bound.arguments.items())[skip:]:
        hint = hints.get(parameter, Any)
        if not fits(value, hint):
            found = f"{value!r:.60}" if not isinstance(value, type) else value.__name__
            return ArgumentError(f"{name}: {parameter} is {described(hint)}, found {found}")
    return None


@functools.cache
def _declared(function: Callable[..., Any]) -> tuple[Signature, dict[str, Any]]:
    import inspect

    signature = inspect.signature(function)
    plain = inspect.unwrap(function)
    hints = {}
    for parameter, hint in getattr(plain, "__annotations__", {}).items():
        kind = getattr(signature.parameters.get(parameter), "kind", None)
        if kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            continue
        hints[parameter] = _resolved(hint, getattr(plain, "__globals__", {}))
    return signature, hints


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The hint that a text stands for; Any where only a type checker can tell."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, names)
    except (NameError, AttributeError, TypeError):
        return Any


def _misfit(
    name: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], skip: int
) -> str:
    """Why arguments do not fit a signature, and what it takes."""
    parameters = list(signature.parameters.values())[skip:]
    takes = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    by_place = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    for unknown in kwargs:
        if unknown not in takes and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return f"{name} has no parameter {unknown!r}; {near(unknown, takes, listed='it takes')}"
    given = args[skip:]
    if len(given) > len(by_place) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        rest = takes[len(by_place) :]
        more = f"; write the others by name: {', '.join(f'{n}=…' for n in rest)}" if rest else ""
        return (
            f"{name} takes {len(by_place)} arguments by place ({', '.join(by_place) or 'none'}), "
            f"found {len(given)}{more}"
        )
    filled = {*by_place[: len(given)], *kwargs}
    twice = [n for n in by_place[: len(given)] if n in kwargs]
    if twice:
        return f"{name}: {twice[0]!r} is given twice, by place and by name"
    lacks = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.name not in filled
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return f"{name} lacks {', '.join(lacks)}; it takes {', '.join(takes)}"


# --- values and hints -----------------------------------------------------------------------------


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a hint's type. Of a list the elements are looked at too, of a dict the
    keys; what this does not know fits."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, (str, TypeVar)):
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    kind = origin or hint
    if kind is collections.abc.Callable:
        return callable(value)
    if not isinstance(kind, type):
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int and isinstance(value, bool):
        return False
    if kind is str and isinstance(value, str):
        return _encodable(value)
    if issubclass(kind, collections.abc.Sequence) and kind is not str:
        if isinstance(value, (str, bytes)) or not isinstance(value, kind):
            return False
        return not arguments or all(fits(one, arguments[0]) for one in value)
    if issubclass(kind, collections.abc.Mapping) and arguments and isinstance(value, kind):
        return all(fits(key, arguments[0]) for key in value)
    return isinstance(value, kind)


def _encodable(text: str) -> bool:
    """Whether a text is one of UTF-8; a lone surrogate is none (S1)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_DESCRIBED: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    dt.datetime: "a datetime",
    dt.date: "a date",
    dt.timedelta: "a timedelta",
    type(None): "None",
    None: "None",
}


def described(hint: Any) -> str:
    """A hint in words: "a text or None", "a list of dicts"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _DESCRIBED:
        return _DESCRIBED[hint]
    if origin in (typing.Union, types.UnionType):
        words = list(dict.fromkeys(described(one) for one in arguments))
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is typing.Literal:
        return " or ".join(f'"{one}"' if isinstance(one, str) else repr(one) for one in arguments)
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, collections.abc.Mapping):
        return "a dict with texts as keys" if arguments and arguments[0] is str else "a dict"
    if isinstance(kind, type) and issubclass(kind, collections.abc.Sequence):
        inner = arguments[0] if arguments else Any
        one = typing.get_origin(inner) not in (typing.Union, types.UnionType)
        return f"a list of {_plural(described(inner))}" if one and inner is not Any else "a list"
    name = getattr(kind, "__name__", str(kind))
    article = "an" if name[:1] in "AEIOU" else "a"
    return f"{article} {name}"


def _plural(words: str) -> str:
    word, space, rest = words.removeprefix("an ").removeprefix("a ").partition(" ")
    return f"{word}s{space}{rest}"
