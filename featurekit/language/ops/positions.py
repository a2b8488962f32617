"""Turns a regular expression of Python's `re` into an automaton of its characters' positions."""

from __future__ import annotations

import functools
import re._parser as parser  # type: ignore[import-not-found]
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Test = Callable[[str], bool]
"""Whether a character may stand at a position."""

_CATEGORIES: dict[str, Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
}
_SOME = tuple("aZ0_ \t\n\r\x1c\x00.-:/@,é٣²\u2003日😀")
"""Characters of every category; beside them the ends of every range are tried."""


class Unknown(Exception):
    """The pattern has something that is not read, or is too large."""


@dataclass(slots=True)
class Part:
    """A part of a pattern: where it may begin and end, as often as there are ways to, and in how
    many ways it may be empty (two stand for more). `asserts`: one of these asks for what stands
    around."""

    first: list[int]
    last: list[int]
    empty: int
    asserts: bool = False


@dataclass
class Positions:
    """The positions of a pattern's characters. `follow[p]` has a position as often as there are
    ways to go on with it. `held_back` are those after which something is still asked of the text,
    though no character is read."""

    most: int = 400
    tests: list[Test] = field(default_factory=list)
    follow: list[list[int]] = field(default_factory=list)
    shown: set[str] = field(default_factory=lambda: {*_SOME})
    held_back: set[int] = field(default_factory=set)

    def position(self, test: Test, characters: Iterable[int] = ()) -> Part:
        if len(self.tests) >= self.most:
            raise Unknown
        self.shown |= {chr(c) for c in characters if 0 <= c < 0x110000}
        self.tests.append(test)
        self.follow.append([])
        at = [len(self.tests) - 1]
        return Part(at, list(at), 0)

    def joined(self, one: Part, other: Part) -> Part:
        for p in one.last:
            self.follow[p] += other.first
        if other.asserts:
            self.held_back |= {*one.last}
        return Part(
            _twice(one.first + other.first * one.empty),
            _twice(other.last + one.last * other.empty),
            min(one.empty * other.empty, 2),
            (one.asserts and other.empty > 0) or (other.asserts and one.empty > 0),
        )

    def closed(self, one: Part) -> None:
        """Let a part follow itself."""
        for p in one.last:
            self.follow[p] += one.first

    def copies(self, least: int, most: int | None, make: Callable[[], Part]) -> Part:
        """Copies of a part; the last of an unbounded number of them follows itself."""
        made = Part([], [], 1)
        for i in range(max(least, 1) if most is None else most):
            one = make()
            if most is None and i + 1 == max(least, 1):
                self.closed(one)
            one.empty = min(one.empty + (i >= least), 2)
            made = self.joined(made, one)
        return made


def either(parts: list[Part]) -> Part:
    return Part(
        [p for part in parts for p in part.first],
        [p for part in parts for p in part.last],
        min(sum(part.empty for part in parts), 2),
        any(part.asserts for part in parts),
    )


def _twice(positions: list[int]) -> list[int]:
    """Each position at most twice: more ways than one are all that is asked."""
    return [p for p, n in Counter(positions).items() for _ in range(min(n, 2))]


def members(listed: Any, *, ascii_only: bool = False) -> tuple[Test, list[int]]:
    """The test of a class, and the characters at the ends of its ranges."""
    tests: list[Test] = []
    ends: list[int] = []
    negated = False
    for op, value in listed:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                tests.append(functools.partial(_within, value, value))
                ends += [value, value + 1]
            case "RANGE":
                tests.append(functools.partial(_within, *value))
                ends += [value[0], value[1], value[1] + 1]
            case "CATEGORY":
                named = str(value).replace("CATEGORY_NOT_", "CATEGORY_")
                if named not in _CATEGORIES:
                    raise Unknown
                of, wanted = _CATEGORIES[named], named == str(value)
                tests.append(functools.partial(_is, of, wanted, ascii_only))
            case _:
                raise Unknown
    return lambda c: any(test(c) for test in tests) != negated, ends


def is_word(c: str) -> bool:
    return _CATEGORIES["CATEGORY_WORD"](c)


def unbounded(high: Any) -> bool:
    return bool(high == parser.MAXREPEAT)


def _within(low: int, high: int, c: str) -> bool:
    return low <= ord(c) <= high


def _is(test: Test, wanted: bool, ascii_only: bool, c: str) -> bool:
    return (test(c) and (c.isascii() or not ascii_only)) == wanted
