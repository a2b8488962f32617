"""Turns a function that is not compiled (on_unsupported="python") into its text and what that
needs."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import types as pytypes
from typing import Any

from featurekit.language.ir import Function, Param, Verbatim
from featurekit.language.parse.context import MISSING, Parsing, begin, typed_as_column
from featurekit.language.parse.functions import hinted, hints_of, read_result
from featurekit.language.parse.helpers import of_user
from featurekit.language.parse.purity import check_pure
from featurekit.language.parse.slow_patterns import inline, note_slow
from featurekit.language.transform import Transform
from featurekit.language.verbatim import frozen


def verbatim(transform: Transform) -> Function:
    """The transform as one opaque statement, with typed parameters and a typed result.
    CompileError where it is known not to be a function of its arguments alone (R1).

    With it go its text and that of its helpers, the names of what it imports, and its constants, so
    that a serving process needs no feature repo. All of them are part of the fingerprint.
    """
    p = begin(transform.function, transform.name, field=transform.field)
    hints = hints_of(p)
    params = []
    arguments = p.node.args
    for special in (arguments.vararg, arguments.kwarg):
        if special is not None:
            p.fail(special, f"*{special.arg} names no column", "name each parameter")
    signature = inspect.signature(transform.function).parameters
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if signature[argument.arg].default is not inspect.Parameter.empty:
            continue
        if argument.arg not in hints:
            p.fail(
                argument,
                f"the parameter {argument.arg} has no type",
                typed_as_column(argument.arg),
            )
        params.append(Param(argument.arg, hinted(p, argument, hints[argument.arg])))
    read_result(p, hints)
    capture = _Capture()
    capture.function(p)
    body = Verbatim(
        entry=transform.function.__name__,
        field=transform.field or "",
        sources=tuple(capture.sources.values()),
        imports=tuple(capture.imports),
        constants=tuple(capture.constants.items()),
    )
    return Function(transform.name, tuple(params), (body,), p.returns)


def _note_slow(p: Parsing, node: ast.Call, method: str) -> None:
    """Note the pattern of a call of `re`."""
    pattern, *others = node.args
    held, flags = p.static(pattern, {}), 0
    for value in [*others, *(k.value for k in node.keywords)]:
        given = p.static(value, {})
        flags |= int(given) if isinstance(given, re.RegexFlag) else 0
    if isinstance(held, str) and (method == "compile" or hasattr(re.Pattern, method)):
        note_slow(p, pattern, method, inline(held, flags), verbatim=True)


class _Capture:
    """What a function's text needs from its module."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}
        self.imports: list[tuple[str, str, str]] = []
        self.constants: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}

    def function(self, p: Parsing) -> None:
        check_pure(p.node, p.captured.globals, p.fail)
        for node in ast.walk(p.node):
            match node:
                case ast.Call(func=ast.Attribute(value=receiver, attr=method), args=[_, *_]):
                    if p.static(receiver, {}) is re:
                        _note_slow(p, node, method)
        lines = p.place.lines[p.node.lineno - 1 :]
        text = "".join(line[p.place.indent :] or "\n" for line in lines)
        self.sources[p.place.target.__name__] = text
        stored = {
            n.id for n in ast.walk(p.node)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        } | {a.arg for a in ast.walk(p.node) if isinstance(a, ast.arg)}  # fmt: skip
        for node in [n for part in _evaluated(p.node) for n in ast.walk(part)]:
            if isinstance(node, ast.Name) and node.id not in stored:
                self.name(p, node)

    def name(self, p: Parsing, node: ast.Name) -> None:
        name = node.id
        value = p.captured.globals.get(name, MISSING)
        if value is MISSING:
            if hasattr(builtins, name) or name == p.place.target.__name__:
                return
            p.fail(node, f"{name} is not defined", "import or define it in this module")
        if isinstance(value, Transform):
            value = value.function
        if name in self.seen:
            if self.seen[name] is not value:
                p.fail(node, f"{name} names two things in two modules", "rename one of them")
            return
        self.seen[name] = value
        match value:
            case pytypes.ModuleType():
                if _is_of_user(getattr(value, "__file__", None)):
                    p.fail(
                        node,
                        f"{name} is a module of this repo, whose values may change",
                        f"write from {value.__name__} import …, and use the name",
                    )
                self.imports.append((name, value.__name__, ""))
            case _ if hasattr(value, "__wrapped__") and _wraps_of_user(value):
                self.function(begin(value, name, stack=()))  # which refuses it
            case pytypes.FunctionType() if of_user(value):
                if value.__name__ != name:
                    p.fail(node, f"{name} is another name of {value.__name__}", "use its own")
                self.function(begin(value, name, stack=()))
            case _ if callable(value) and getattr(value, "__module__", None):
                module, qualified = value.__module__, getattr(value, "__qualname__", name)
                if isinstance(value, type) and _of_user_class(value):
                    p.fail(
                        node, f"{name} is a class of this repo", "use plain values, or a library's"
                    )
                if not _found_there(value, module, qualified):
                    p.fail(
                        node,
                        f"{name}, a {type(value).__name__}, is not what {module} calls {qualified}",
                        "import it by its own name, or write a def",
                    )
                self.imports.append((name, module, qualified))
            case _:
                p.captured.named(node, name)  # raises where it may still change
                try:
                    self.constants[name] = frozen(value)
                except TypeError:
                    p.fail(
                        node,
                        f"{name}, a {type(value).__name__}, does not travel with the feature",
                        "use constants of plain values, functions and imports",
                    )


def _evaluated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST]:
    """The parts that run: the body and the defaults, but no annotations and no decorators."""
    defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    return [*node.body, *defaults]


def _of_user_class(value: type) -> bool:
    module = inspect.getmodule(value)
    return module is not builtins and _is_of_user(getattr(module, "__file__", None) or "")


def _is_of_user(filename: str | None) -> bool:
    """Whether a module's file is the user's own; those of Python itself have none."""
    if filename is None:
        return False
    return not any(part in filename for part in ("site-packages", "dist-packages", "/lib/python"))


def _wraps_of_user(value: Any) -> bool:
    inner = inspect.unwrap(value)
    return isinstance(inner, pytypes.FunctionType) and of_user(inner)


def _found_there(value: Any, module: str, qualified: str) -> bool:
    """Whether a serving process finds the same thing under the name of a module."""
    try:
        found: Any = importlib.import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return found is value or found == value
