"""Finds the text of a function in the cells of a notebook, where a magic such as %%time ran a cell
under a name that has no text."""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterator
from typing import Any


def cell_of(function: Any) -> str | None:
    """The name under which `linecache` now has the cell that made a function, without its magic;
    None where no cell did.

    A cell is the one only where its text compiles to the very code of the function.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    for number, text in _cells():
        first, _, body = text.partition("\n")
        if first.startswith("%%") and code in _codes(body):
            name = f"<cell {number}, below {first.split()[0]}>"
            linecache.cache[name] = (len(body), None, body.splitlines(keepends=True), name)
            return name
    return None


def _cells() -> Iterator[tuple[int, str]]:
    """The cells of this notebook that were run, with their numbers, the last one first."""
    notebook = sys.modules.get("IPython")
    shell = None if notebook is None else notebook.get_ipython()
    cells = getattr(getattr(shell, "history_manager", None), "input_hist_raw", [])
    return ((number, cells[number]) for number in reversed(range(len(cells))))


def _codes(text: str) -> Iterator[types.CodeType]:
    """The code of every function in a text; nothing where it is not Python."""
    try:
        waiting = [compile(text, "<cell>", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return
    while waiting:
        found = waiting.pop()
        yield found
        waiting += [one for one in found.co_consts if isinstance(one, types.CodeType)]
