"""Turns a call that does not fit its function into an error that says which argument, and what to
write instead."""

from __future__ import annotations

import collections.abc
import datetime as dt
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from featurekit.core.examples import assigned, example
from featurekit.core.frames import is_frame
from featurekit.errors import ArgumentError, FeaturekitError

if TYPE_CHECKING:
    from inspect import Signature

P = ParamSpec("P")
R = TypeVar("R")
_MISUSE = (TypeError, AttributeError, ValueError, LookupError, OverflowError)
_SHOWN = 60
_FEW = 8


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
    in the error. An object whose class has `_example_of` knows examples of its own.
    """
    signature, hints = _declared(function)
    if not name:
        of_class = function.__qualname__.rpartition(".")[0]
        name = of_class if function.__name__ == "__init__" else function.__name__
        if next(iter(signature.parameters), "") == "cls":
            name = function.__qualname__
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        own = _own_examples(
            args, skip, {**dict(zip(signature.parameters, args, strict=False)), **kwargs}
        )
        return TypeError(_misfit(name, signature, args, kwargs, skip, own))
    for parameter, value in list(bound.arguments.items())[skip:]:
        hint = hints.get(parameter, Any)
        if not fits(value, hint):
            own = _own_examples(args, skip, bound.arguments)
            other = _swapped(parameter, value, bound.arguments, hints, skip)
            if other is not None:
                said = f"{name}: {parameter} is {described(hint)}, found {found(value)}"
                return ArgumentError(
                    f"{said}; {other} and {parameter} stand in each other's place: exchange them"
                )
            write = _in_a_list(value, hint) or own(parameter) or example(name, parameter)
            instead = f"; write {parameter}={write}" if write else ""
            said = f"{name}: {parameter} is {described(hint)}, found {found(value)}{instead}"
            return ArgumentError(said)
    return None


def found(value: Any) -> str:
    """A value that was found, in at most some sixty characters; what is left out is marked."""
    if isinstance(value, type):
        return value.__name__
    named = getattr(type(value), "_in_words", None)
    if named is not None:
        return str(named(value))
    if is_frame(value):
        return f"a {type(value).__name__} of {type(value).__module__.partition('.')[0]}"
    shown = " ".join(repr(value).split("\n"))
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def _swapped(
    parameter: str, value: Any, given: Mapping[str, Any], hints: Mapping[str, Any], skip: int
) -> str | None:
    """The other parameter whose argument fits this one, where that takes this one's value."""
    for other, argument in list(given.items())[skip:]:
        fitting = argument is not None and fits(argument, hints[parameter])
        if other != parameter and fitting and fits(value, hints.get(other, Any)):
            return other
    return None


def _in_a_list(value: Any, hint: Any) -> str | None:
    """The value as a list of one, where a list of such values is wanted."""
    takes = hint if typing.get_origin(hint) in (typing.Union, types.UnionType) else None
    lists = [one for one in typing.get_args(takes) or (hint,) if typing.get_args(one)]
    lists = [one for one in lists if typing.get_args(one)[0] is not Any]
    shown = f"[{value!r}]"
    fitting = any(fits([value], one) for one in lists) and not isinstance(value, (list, tuple))
    return shown if fitting and len(shown) <= _SHOWN else None


def _own_examples(
    args: tuple[Any, ...], skip: int, given: Mapping[str, Any]
) -> Callable[[str], str | None]:
    """The examples of the object whose method is called, made of what it has; those of nobody for
    a function."""
    known = getattr(type(args[0]), "_example_of", None) if args and skip else None

    def of(parameter: str) -> str | None:
        return None if known is None else known(args[0], parameter, given)

    return of


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
    name: str,
    signature: Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    skip: int,
    own: Callable[[str], str | None],
) -> str:
    """Why arguments do not fit a signature, and what to write instead."""
    parameters = list(signature.parameters.values())[skip:]
    takes = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    by_place = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    given = args[skip:]
    filled = {*by_place[: len(given)], *kwargs}
    lacks = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.name not in filled
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    for unknown in kwargs:
        if unknown not in takes and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return f"{name} has no parameter {unknown!r}; {_meant(name, unknown, takes, lacks)}"
    if len(given) > len(by_place) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        rest = takes[len(by_place) :]
        if not takes:
            return f"{name} takes no arguments, found {len(given)}; leave them out"
        more = f"; write the others by name: {', '.join(f'{n}=…' for n in rest)}" if rest else ""
        return (
            f"{name} takes {len(by_place)} arguments by place ({', '.join(by_place) or 'none'}), "
            f"found {len(given)}{more}"
        )
    twice = [n for n in by_place[: len(given)] if n in kwargs]
    if twice:
        return f"{name}: {twice[0]!r} is given twice, by place and by name; leave one of them out"
    return f"{name} lacks {', '.join(lacks)}; write {_call(name, by_place, lacks, filled, own)}"


def _meant(call: str, unknown: str, takes: Sequence[str], lacks: Sequence[str]) -> str:
    """The parameter that an unknown one probably stands for: one that is lacking comes first."""
    from difflib import get_close_matches

    close = get_close_matches(unknown.lower(), lacks, n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]!r}? Write {assigned(call, close[0])}"
    said = near(unknown, takes, listed="it takes")
    guess, asked, _ = said.partition("? ")
    if not asked or len(takes) <= _FEW:
        return said
    written = assigned(call, guess.removeprefix("did you mean ").strip("'"))
    return f"{guess}? Write {written}"


def _call(
    name: str,
    by_place: Sequence[str],
    lacks: Sequence[str],
    filled: Set[str],
    own: Callable[[str], str | None],
) -> str:
    """A call with what is lacking, to copy: texts by their places, all else by name. Of what is
    only given by name, no more is shown."""
    at = max((by_place.index(one) for one in lacks if one in by_place), default=-1)
    if at < 0:
        return ", ".join(assigned(name, one) for one in lacks)
    shown = []
    for one in [*by_place[: at + 1], *(n for n in lacks if n not in by_place)]:
        written = own(one) or example(name, one) or "…"
        text = written.startswith('"') and one in by_place
        shown.append(written if text else f"{one}={written}")
    rest = ", …" if filled - set(by_place[: at + 1]) else ""
    return f"{name}({', '.join(shown)}{rest})"


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
    dt.datetime | dt.date | str: "an instant",
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
        if inner in _DESCRIBED:
            return f"a list of {_plural(_DESCRIBED[inner])}"
        one = typing.get_origin(inner) not in (typing.Union, types.UnionType)
        return f"a list of {_plural(described(inner))}" if one and inner is not Any else "a list"
    name = getattr(kind, "__name__", str(kind))
    article = "an" if name[:1] in "AEIOU" else "a"
    return f"{article} {name}"


def _plural(words: str) -> str:
    word, space, rest = words.removeprefix("an ").removeprefix("a ").partition(" ")
    return f"{word}s{space}{rest}"
