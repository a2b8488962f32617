"""Notes the patterns of transforms that may take long, for who asks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from featurekit.language.ops.ambiguity import Verdict, judged
from featurekit.language.ops.linear import decides
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


def note_slow(
    p: Parsing, node: ast.AST, method: str, pattern: object, *, verbatim: bool = False
) -> None:
    """Note a pattern that may take long, if somebody asks. `verbatim`: `re` itself decides whether
    it matches."""
    found = _noted.get()
    if found is None or not isinstance(pattern, str):
        return
    verdict = judged(method, pattern)
    if verdict.kind == "quick":
        return
    reason, hint = _told(verdict)
    if method in _DECIDED and not verbatim and decides(method, pattern):
        hint += "; only whether it matches is decided in time linear in the text"
    text = str(p.place.error(node, reason, hint))
    if text not in found:
        found.append(text)


def inline(pattern: str, flags: int) -> str:
    """The pattern with its flags written into it."""
    letters = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
    return f"(?{letters}){pattern}" if letters else pattern


_FLAGS = {re.I: "i", re.M: "m", re.S: "s", re.X: "x", re.A: "a"}
_DECIDED = ("search", "match", "fullmatch")
_POWERS = {2: "the square", 3: "the cube"}


def _told(verdict: Verdict) -> tuple[str, str]:
    """What is to be said of a pattern that is not quick, and what to write instead."""
    match verdict.kind, verdict.degree:
        case "exponential", _:
            return (
                "this pattern may take time that doubles with each character of a text",
                "repeat no part that repeats itself or overlaps the next one: a+ for (a+)+",
            )
        case "power", 1:
            return (
                "this pattern may take many thousand steps for each character of a text",
                "give smaller bounds, or let no part that repeats overlap the next one",
            )
        case "power", degree:
            power = _POWERS.get(degree, f"the power of {degree}")
            return (
                f"this pattern may take time that grows with {power} of a text's length",
                r"give bounds to what repeats, as \s{1,50} for \s+, or let it overlap neither the "
                "next part that repeats nor the place where the pattern begins, as after ^",
            )
        case _:
            return (
                "it could not be shown that this pattern is quick for every text",
                "it is large, or refers to a group; try it on long texts that nearly match, or "
                "split it",
            )
