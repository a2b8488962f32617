"""Notes the patterns of transforms that may take exponential time, for who asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from featurekit.language.ops.linear import decides, is_slow
from featurekit.language.parse.context import Parsing

_noted: ContextVar[list[str] | None] = ContextVar("slow_patterns", default=None)


@contextmanager
def noting() -> Iterator[list[str]]:
    """The list to which everything that is parsed meanwhile adds its slow patterns, each as text
    with its place."""
    found: list[str] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note_slow(p: Parsing, node: ast.AST, pattern: object) -> None:
    """Note a pattern that may take exponential time, if somebody asks."""
    found = _noted.get()
    if found is None or not isinstance(pattern, str) or not is_slow(pattern):
        return
    hint = "repeat no part that repeats itself or overlaps the next one: a+ for (a+)+"
    if decides(pattern):
        hint += "; only whether it matches is decided in time linear in the text"
    reason = "this pattern may take time that doubles with each character of a text"
    text = str(p.place.error(node, reason, hint))
    if text not in found:
        found.append(text)
