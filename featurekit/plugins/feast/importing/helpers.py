"""Finds what a function of a user's module needs of it: imports, constants and other functions."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

_CONSTANTS = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset, type(None))


@dataclass(slots=True)
class Needs:
    """Imports, the texts of constants and of functions, and names that nothing can be written
    for."""

    imports: set[str] = field(default_factory=set)
    constants: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def take(self, names: set[str], scope: Mapping[str, Any]) -> None:
        """Find what stands for these names."""
        for name in sorted(names):
            if name not in scope or name in self.constants or name in self.functions:
                continue
            self._one(name, scope[name])

    def _one(self, name: str, found: Any) -> None:
        if isinstance(found, ModuleType):
            alias = "" if found.__name__ == name else f" as {name}"
            self.imports.add(f"import {found.__name__}{alias}")
        elif isinstance(found, FunctionType):
            text = source_of(found)
            if text is None or name != found.__name__:
                self.unknown.append(name)
                return
            self.functions[name] = text
            inner = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
            self.take(inner - {name}, found.__globals__)
        elif isinstance(found, _CONSTANTS) and _written(found):
            self.constants[name] = repr(found)
        elif isinstance(found, type) or callable(found):
            module = getattr(found, "__module__", None)
            known = module and getattr(found, "__qualname__", "") == getattr(found, "__name__", 0)
            if not known or module == "__main__":
                self.unknown.append(name)
                return
            alias = "" if found.__name__ == name else f" as {name}"
            self.imports.add(f"from {module} import {found.__name__}{alias}")
        else:
            self.unknown.append(name)


def _written(value: Any) -> bool:
    """Whether Python reads the value's text as the value again."""
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def source_of(function: Any) -> str | None:
    """The text of a function without its decorators; None where it is not to be had."""
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError):
        return None
    (first, *_) = tree.body
    if not isinstance(first, ast.FunctionDef):
        return None
    lines = text.splitlines()
    return "\n".join(lines[first.lineno - 1 : first.end_lineno])
