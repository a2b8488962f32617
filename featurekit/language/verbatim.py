"""Runs a function from its author's text, and checks its results (R3)."""

from __future__ import annotations

import datetime as dt
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from featurekit.core.coerce import returned
from featurekit.errors import OnlineError
from featurekit.language.ir import Function, Verbatim
from featurekit.language.results import field_of

_NAMED = inspect.Parameter.KEYWORD_ONLY
_SCALARS = (type(None), bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta)


def frozen(value: Any) -> Any:
    """A constant as plain values that have a form in JSON. TypeError for anything else."""
    kind = type(value)
    if kind in _SCALARS:
        return ("value", value)
    if kind in (list, tuple):
        return (kind.__name__, tuple(frozen(v) for v in value))
    if kind in (set, frozenset):
        return (kind.__name__, tuple(frozen(v) for v in sorted(value, key=repr)))
    if kind is dict:
        return ("dict", tuple((frozen(k), frozen(v)) for k, v in value.items()))
    raise TypeError(f"{kind.__name__} is not plain")


def _thawed(value: Any) -> Any:
    kind, held = value
    match kind:
        case "value":
            return held
        case "dict":
            return {_thawed(k): _thawed(v) for k, v in held}
        case _:
            maker: Callable[[Any], Any] = {
                "list": list,
                "tuple": tuple,
                "set": set,
                "frozenset": frozenset,
            }[kind]
            return maker(_thawed(v) for v in held)


def run_verbatim(body: Verbatim, function: Function, error: Any) -> Callable[..., Any]:
    """A callable of the parameters. It gives the checked value, or `error` where the function
    raises or gives something that is not of its declared type.

    OnlineError where the function imports something that is not installed here.
    """
    space: dict[str, Any] = {name: _thawed(value) for name, value in body.constants}
    for alias, module, attribute in body.imports:
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split(".") if attribute else ():
                found = getattr(found, part)
        except (ImportError, AttributeError) as failed:
            raise OnlineError(
                f"feature {function.name!r} runs as Python and needs {module}.{attribute}: {failed}"
                "; install here what it imports"
            ) from None
        space[alias] = found
    try:
        for source in body.sources:
            text = f"from __future__ import annotations\n{source}"
            exec(compile(text, f"<feature {function.name}>", "exec"), space)
        plain = space[body.entry]
    except Exception as failed:  # the text of a plan may be any
        raise OnlineError(
            f"feature {function.name!r} runs as Python, and its text cannot be loaded: "
            f"{type(failed).__name__}: {failed}; publish it again (`featurekit apply`)"
        ) from None
    returns, field = function.returns, body.field
    kinds = inspect.signature(plain).parameters
    named = [p.name for p in function.params if p.name in kinds and kinds[p.name].kind is _NAMED]
    first = len(function.params) - len(named)  # those that are passed by name come last

    def evaluate(*args: Any) -> Any:
        try:
            result = plain(*args[:first], **dict(zip(named, args[first:], strict=True)))
            return returned(field_of(result, field) if field else result, returns)
        except Exception:  # the author's code may raise anything: it errs (R3)
            return error

    return evaluate
