"""Tells patterns that may take exponential time, and decides them in linear time where it can.

Python's `re` tries one way of matching after the other. Where a text can be matched in more and
more ways as it grows, as by `(a+)+`, it may try them all before it says no. Here a pattern is an
automaton of its characters' positions: ambiguity shows as two ways from a position back to itself,
and a text is read once, with the set of positions that it may be at.
"""

from __future__ import annotations

import functools
import re
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

_MOST, _STEPS = 400, 300_000
"""More positions are not looked at, nor more pairs of them."""

Test = Callable[[str], bool]
"""Whether a character may stand at a position."""

_CATEGORIES: dict[str, Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
}
_SOME = tuple("aZ0_ \t\n\r\x1c\x00.-:/@,é٣²\u2003日😀")
"""Characters of every category; beside them the ends of every range are tried."""


class _Unknown(Exception):
    """The pattern has something that this module does not read."""


@dataclass(slots=True)
class _Part:
    """A part of a pattern: where it may begin and end, as often as there are ways to, and in how
    many ways it may be empty (two stand for more)."""

    first: list[int]
    last: list[int]
    empty: int


@dataclass(slots=True)
class _Automaton:
    """The positions of a pattern's characters. `follow[p]` has a position as often as there are
    ways to go on with it."""

    exact: bool
    tests: list[Test] = field(default_factory=list)
    follow: list[list[int]] = field(default_factory=list)
    shown: set[str] = field(default_factory=lambda: {*_SOME})
    begins: bool = False
    ends: str = ""

    def position(self, test: Test, characters: Iterable[int] = ()) -> _Part:
        if len(self.tests) >= _MOST:
            raise _Unknown
        self.shown |= {chr(c) for c in characters if 0 <= c < 0x110000}
        self.tests.append(test)
        self.follow.append([])
        at = [len(self.tests) - 1]
        return _Part(at, list(at), 0)

    def sequence(self, items: Any, *, outer: bool = False) -> _Part:
        made = _Part([], [], 1)
        items = list(items)
        for i, (op, value) in enumerate(items):
            edge = (i == 0, i + 1 == len(items)) if outer else (False, False)
            made = self._joined(made, self.item(str(op), value, *edge))
        return made

    def _joined(self, one: _Part, other: _Part) -> _Part:
        for p in one.last:
            self.follow[p] += other.first
        return _Part(
            _twice(one.first + other.first * one.empty),
            _twice(other.last + one.last * other.empty),
            min(one.empty * other.empty, 2),
        )

    def item(self, op: str, value: Any, leads: bool, trails: bool) -> _Part:
        match op:
            case "LITERAL":
                return self.position(lambda c: ord(c) == value, (value,))
            case "NOT_LITERAL":
                return self.position(lambda c: ord(c) != value, (value, value + 1))
            case "ANY":
                return self.position(lambda c: c != "\n")
            case "IN":
                return self.position(*_members(value))
            case "BRANCH":
                parts = [self.sequence(branch) for branch in value[1]]
                return _Part(
                    [p for part in parts for p in part.first],
                    [p for part in parts for p in part.last],
                    min(sum(part.empty for part in parts), 2),
                )
            case "SUBPATTERN" if not self.exact or (not value[1] and not value[2]):
                return self.sequence(value[3])
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self.repeated(*value)
            case "ASSERT" | "ASSERT_NOT" if not self.exact:
                self.sequence(value[1])  # what it repeats, it repeats for itself
                return _Part([], [], 1)
            case "GROUPREF" if not self.exact:
                return _Part([], [], 1)
            case "AT":
                return self.place(str(value), leads, trails)
        raise _Unknown

    def repeated(self, low: int, high: Any, items: Any) -> _Part:
        """Copies of a part; the last of an unbounded number of them follows itself."""
        made = _Part([], [], 1)
        unbounded = high == parser.MAXREPEAT
        for i in range(max(low, 1) if unbounded else high):
            one = self.sequence(items)
            if unbounded and i + 1 == max(low, 1):
                for p in one.last:
                    self.follow[p] += one.first
            one.empty = min(one.empty + (i >= low), 2)
            made = self._joined(made, one)
        return made

    def place(self, where: str, leads: bool, trails: bool) -> _Part:
        """An anchor, which is read at the ends of the pattern alone; ambiguity does not ask for
        it."""
        if where in ("AT_BEGINNING", "AT_BEGINNING_STRING") and leads:
            self.begins = True
        elif where in ("AT_END", "AT_END_STRING") and trails:
            self.ends = where
        elif self.exact:
            raise _Unknown
        return _Part([], [], 1)


def _twice(positions: list[int]) -> list[int]:
    """Each position at most twice: more ways than one are all that is asked."""
    kept: list[int] = []
    for p in positions:
        if kept.count(p) < 2:
            kept.append(p)
    return kept


def _members(members: Any) -> tuple[Test, list[int]]:
    """The test of a class, and the characters at the ends of its ranges."""
    tests: list[Test] = []
    ends: list[int] = []
    negated = False
    for op, value in members:
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
                    raise _Unknown
                of, wanted = _CATEGORIES[named], named == str(value)
                tests.append(functools.partial(_is, of, wanted))
            case _:
                raise _Unknown
    return lambda c: any(test(c) for test in tests) != negated, ends


def _within(low: int, high: int, c: str) -> bool:
    return low <= ord(c) <= high


def _is(test: Test, wanted: bool, c: str) -> bool:
    return test(c) == wanted


def _automaton(pattern: str, *, exact: bool) -> tuple[_Automaton, _Part] | None:
    """The automaton of a pattern, and the whole of it; None for what this module does not read."""
    try:
        parsed = parser.parse(pattern)
        if exact and parsed.state.flags != re.UNICODE.value:
            return None
        made = _Automaton(exact)
        return made, made.sequence(parsed, outer=True)
    except (_Unknown, RecursionError, re.error, OverflowError):
        return None


# --- which patterns are slow ----------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def is_slow(pattern: str) -> bool:
    """Whether the number of ways in which a text can be matched may grow exponentially with its
    length: some position is reached again from itself in two ways by one text. False also for a
    pattern that this module does not read."""
    found = _automaton(pattern, exact=False)
    if found is None:
        return False
    automaton, _ = found
    alike, below, steps = _overlaps(automaton), _reached(automaton), [_STEPS]
    for p, following in enumerate(automaton.follow):
        for q in {*following}:
            if following.count(q) > 1 and p in below[q]:
                return True  # the same step in two ways, on a way back to itself
    every = range(len(automaton.tests))
    return any(_parts(automaton, alike, below, p, steps) for p in every)


def _overlaps(automaton: _Automaton) -> list[set[int]]:
    """For each position the others at which one of its characters may stand, too."""
    held = [{c for c in automaton.shown if test(c)} for test in automaton.tests]
    every = range(len(held))
    return [{q for q in every if held[p] & held[q]} for p in every]


def _reached(automaton: _Automaton) -> list[set[int]]:
    found = []
    for p in range(len(automaton.tests)):
        seen, todo = {p}, [p]
        while todo:
            for q in automaton.follow[todo.pop()]:
                if q not in seen:
                    seen.add(q)
                    todo.append(q)
        found.append(seen)
    return found


def _parts(
    automaton: _Automaton,
    alike: list[set[int]],
    below: list[set[int]],
    start: int,
    steps: list[int],
) -> bool:
    """Whether two ways that one text takes from a position part, and both come back to it. No more
    than so many `steps` are taken."""
    cycle = {q for q in below[start] if start in below[q]}
    if len(cycle) < 2:
        return False
    before: dict[tuple[int, int], set[tuple[int, int]]] = {(start, start): set()}
    todo = [(start, start)]
    while todo:
        pair = todo.pop()
        for p in {*automaton.follow[pair[0]]} & cycle:
            for q in {*automaton.follow[pair[1]]} & cycle & alike[p]:
                steps[0] -= 1
                if steps[0] < 0:
                    return False
                if (p, q) not in before:
                    todo.append((p, q))
                before.setdefault((p, q), set()).add(pair)
    back, todo = {(start, start)}, [(start, start)]
    while todo:  # the pairs from which both ways come back to the position
        for pair in before[todo.pop()] - back:
            back.add(pair)
            todo.append(pair)
    return any(p != q for p, q in back)


# --- deciding in linear time ----------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def decider(method: str, pattern: str) -> Callable[[str], bool]:
    """Whether a text matches, as a function of it: `re`'s own, or for a slow pattern, where it can
    be read here, one whose time is linear in the text."""
    if is_slow(pattern) and (found := _automaton(pattern, exact=True)) is not None:
        automaton, whole = found
        return functools.partial(_decided, automaton, whole, method)
    compiled = getattr(re.compile(pattern), method)
    return lambda text: compiled(text) is not None


def decides(pattern: str) -> bool:
    """Whether `decider` needs no more than time linear in the text."""
    return not is_slow(pattern) or _automaton(pattern, exact=True) is not None


def _decided(automaton: _Automaton, whole: _Part, method: str, text: str) -> bool:
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
