"""Finds the definitions that a module makes inside of a function, where nothing keeps them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from featurekit.core.written import Place
from featurekit.define.modules import module_files
from featurekit.errors import FeaturekitError

_Within = tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]


def hidden(folder: Path, kind: str, name: str | None = None, ignore: Sequence[str] = ()) -> str:
    """That the definition of this kind and name, or of any name, stands inside of a function, as
    the end of an error; nothing where none does. The modules are read, and not run."""
    try:
        files = module_files(folder, ignore)
    except FeaturekitError:
        return ""
    for path in files.values():
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for call, within in _calls(tree, ()):
            if within and _is(call, kind, name):
                what = f"{kind} {name!r}" if name else f"a {kind}"
                return (
                    f"; {Place(str(path), call.lineno)} makes {what}, but inside of the function "
                    f"{within[-1].name}(), where nothing finds it: write it at the top level of "
                    "the module, outside of functions"
                )
    return ""


def _calls(node: ast.AST, within: _Within) -> Iterator[tuple[ast.Call, _Within]]:
    """Each call, with the functions that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, within
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _calls(child, (*within, child))
        else:
            yield from _calls(child, within)


def _is(call: ast.Call, kind: str, name: str | None) -> bool:
    function = call.func
    called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "name")]
    named = [one.value for one in given if isinstance(one, ast.Constant)]
    return called == kind and (name is None or name in named)
