"""Decides whether a pattern matches in time linear in the text, where `re` may take long.

A text is read once, with the set of positions of the pattern that it may be at.
"""

from __future__ import annotations

import functools
import re
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featurekit.language.ops.ambiguity import judged
from featurekit.language.ops.positions import Part, Positions, Unknown, either, members, unbounded


@dataclass
class _Exact(Positions):
    """A pattern without flags, look-around or references to groups, as `re` reads it. Anchors are
    read at its ends alone."""

    begins: bool = False
    ends: str = ""

    def sequence(self, items: Any, *, outer: bool = False) -> Part:
        made = Part([], [], 1)
        items = list(items)
        for i, (op, value) in enumerate(items):
            edge = (i == 0, i + 1 == len(items)) if outer else (False, False)
            made = self.joined(made, self.item(str(op), value, *edge))
        return made

    def item(self, op: str, value: Any, leads: bool, trails: bool) -> Part:
        match op:
            case "LITERAL":
                return self.position(lambda c: ord(c) == value)
            case "NOT_LITERAL":
                return self.position(lambda c: ord(c) != value)
            case "ANY":
                return self.position(lambda c: c != "\n")
            case "IN":
                return self.position(*members(value))
            case "BRANCH":
                return either([self.sequence(branch) for branch in value[1]])
            case "SUBPATTERN" if not value[1] and not value[2]:
                return self.sequence(value[3])
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, inner = value
                most = None if unbounded(high) else high
                return self.copies(low, most, lambda: self.sequence(inner))
            case "AT":
                return self.place(str(value), leads, trails)
        raise Unknown

    def place(self, where: str, leads: bool, trails: bool) -> Part:
        if where in ("AT_BEGINNING", "AT_BEGINNING_STRING") and leads:
            self.begins = True
        elif where in ("AT_END", "AT_END_STRING") and trails:
            self.ends = where
        else:
            raise Unknown
        return Part([], [], 1)


@functools.lru_cache(maxsize=1024)
def _automaton(pattern: str) -> tuple[_Exact, Part] | None:
    """The automaton of a pattern, and the whole of it; None for what is not read here."""
    try:
        parsed = parser.parse(pattern)
        if parsed.state.flags != re.UNICODE.value:
            return None
        made = _Exact()
        return made, made.sequence(parsed, outer=True)
    except (Unknown, RecursionError, re.error, OverflowError):
        return None


@functools.lru_cache(maxsize=1024)
def decider(method: str, pattern: str) -> Callable[[str], bool]:
    """Whether a text matches, as a function of it: `re`'s own, or for a text that may take it long,
    where the pattern can be read here, one whose time is linear in the text."""
    compiled = getattr(re.compile(pattern), method)
    most = judged(method, pattern).short
    found = None if most is None else _automaton(pattern)
    if most is None or found is None:
        return lambda text: compiled(text) is not None
    linear = functools.partial(_decided, *found, method)
    return lambda text: linear(text) if len(text) > most else compiled(text) is not None


def decides(method: str, pattern: str) -> bool:
    """Whether `decider` needs no more than time linear in the text, as far as can be shown."""
    return judged(method, pattern).kind == "quick" or _automaton(pattern) is not None


def _decided(automaton: _Exact, whole: Part, method: str, text: str) -> bool:
    n = len(text)
    anywhere = method == "search" and not automaton.begins
    ends = {n}
    if method != "fullmatch":
        if not automaton.ends:
            ends = {*range(n + 1)}
        elif automaton.ends == "AT_END" and text.endswith("\n"):
            ends = {n, n - 1}
    if whole.empty and (0 in ends or (anywhere and ends)):
        return True
    last, first = {*whole.last}, {*whole.first}
    follow = [{*following} for following in automaton.follow]
    held: set[int] = set()
    for i, c in enumerate(text):
        wanted = {q for p in held for q in follow[p]}
        if i == 0 or anywhere:
            wanted |= first
        held = {q for q in wanted if automaton.tests[q](c)}
        if i + 1 in ends and not held.isdisjoint(last):
            return True
        if not held and not anywhere:
            return False
    return False
