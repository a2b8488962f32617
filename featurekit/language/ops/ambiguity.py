"""Judges how long `re` may take for a pattern, by the ways in which one text can be read.

Python's `re` tries one way of matching after the other. Where a text can be read in more and more
ways as it grows, it may try them all before it says no. In the automaton of a pattern's positions
this shows as two ways from a position back to itself (`(a+)+`: their number doubles), or as a
position that stays where it is while another way goes on to one that stays, too (`a*a*`, and
`a+b` sought from every place of a text: their number grows with a power of the length). Ways after
which nothing can fail any more are not gone back to, and do not count.

It errs on the side of a warning: what a look-around or a condition rules out counts as possible.
"""

from __future__ import annotations

import functools
import math
import re
import re._casefix as casefix  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

from featurekit.language.ops.positions import (
    Part,
    Positions,
    Test,
    Unknown,
    either,
    is_word,
    members,
    unbounded,
)

_MOST, _STEPS = 1_500, 1_000_000
"""More positions are not looked at, nor more pairs and triples of them."""
_FEW, _COPIES = 5, 12
"""So many copies of a part are written out, and so many of parts of parts; more count as a loop, or
as two copies if all are alike in length."""
_CHOICES = 4
"""So many ways an ambiguous part may have for each round of a loop with a small bound, or as many
as it has positions."""
_LENGTH, _SHORT, _LONG = 30_000, 100, 2e8
"""For a text of this length, of which a pattern without loops reads few characters, no more than so
many steps are quick: some seconds of `re`."""


@dataclass(frozen=True)
class Verdict:
    """`quick`; `exponential`; `power`, of which `degree` says the power of a text's length (1: of
    large bounds); or `unknown`, where it could not be shown that the pattern is quick."""

    kind: Literal["quick", "exponential", "power", "unknown"]
    degree: int = 0

    @property
    def short(self) -> int | None:
        """A text of no more characters is quick; None where every text is."""
        if self.kind == "quick":
            return None
        return int(1e6 ** (1 / (self.degree + 1))) if self.kind == "power" else 0


@dataclass
class _Ways(Positions):
    """The ways of a pattern. `loops` are the positions that a repeat has, first and last, and how
    often it may go round. `around` is how often what is read now is written out. `only` are
    positions of possessive repeats, which leave no character of theirs to what follows."""

    most: int = _MOST
    loops: list[tuple[int, int, int | None]] = field(default_factory=list)
    only: set[int] = field(default_factory=set)
    repeats: bool = False
    unread: bool = False
    around: int = 1
    begins: Test | None = None
    word_edge: bool = False
    flags: int = 0

    def sequence(self, items: Any, *, leads: bool = False) -> Part:
        made = Part([], [], 1)
        for i, (op, value) in enumerate(items):
            made = self.joined(made, self.item(str(op), value, leads=leads and i == 0))
        return made

    def item(self, op: str, value: Any, *, leads: bool) -> Part:
        match op:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return self.character(op, value)
            case "BRANCH":
                return either([self.sequence(branch) for branch in value[1]])
            case "SUBPATTERN":
                outer, self.flags = self.flags, (self.flags | value[1]) & ~value[2]
                made = self.sequence(value[3], leads=leads)
                self.flags = outer
                return made
            case "ATOMIC_GROUP":
                return self.sequence(value, leads=leads)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return self.repeated(*value, possessive=op == "POSSESSIVE_REPEAT")
            case "ASSERT" | "ASSERT_NOT" if value[0] < 0:
                return self.behind(value[1], negated=op == "ASSERT_NOT", leads=leads)
            case "ASSERT" | "ASSERT_NOT":
                ahead = self.sequence(value[1])
                self.held_back |= {*ahead.last} if ahead.asserts else set()
                return Part(ahead.first, [], 1, asserts=True)
            case "GROUPREF":
                self.unread = True
                return Part([], [], 1, asserts=True)
            case "GROUPREF_EXISTS":
                branches = [self.sequence(branch or ()) for branch in value[1:]]
                return self.joined(either(branches), Part([], [], 1, asserts=True))
            case "AT":
                return self.place(str(value), leads=leads)
        raise Unknown

    def character(self, op: str, value: Any) -> Part:
        ends = [value, value + 1] if "LITERAL" in op else []
        test: Test
        if op == "LITERAL":
            test = lambda c: ord(c) == value  # noqa: E731
        elif op == "NOT_LITERAL":
            test = lambda c: ord(c) != value  # noqa: E731
        elif op == "ANY":
            all_of_them = self.flags & re.S
            test = lambda c: bool(all_of_them) or c != "\n"  # noqa: E731
        else:
            test, ends = members(value, ascii_only=bool(self.flags & re.A))
        if not self.flags & re.I:
            return self.position(test, ends)
        ends += [ord(other) for c in ends if 0 <= c < 0x110000 for other in _cases(chr(c))]
        return self.position(lambda c: any(map(test, _cases(c))), ends)

    def repeated(self, low: int, high: Any, items: Any, *, possessive: bool) -> Part:
        most = None if unbounded(high) else int(high)
        begun, outer, width = len(self.tests), self.around, items.getwidth()
        total = None if most is None else most * outer
        self.repeats |= total is None or total > _FEW
        alike = width[0] == width[1]
        least, written = low, most
        if most is not None and total is not None and (most > _FEW or total > _COPIES):
            if alike and most - low <= _FEW:
                self.around = 1
                self.closed(self.sequence(items))  # alone, for the ways that it has in itself
                self.loops.append((begun, len(self.tests), total))
                begun = len(self.tests)
                least = min(low, 2)
                written = least + most - low
            else:
                written = None
        if written is None:
            least = min(low, 2 if alike else 1) if low > _FEW else low
        self.around = 1 if written is None else outer * max(written, 1)
        made = self.copies(least, written, lambda: self.sequence(items))
        self.around = outer
        if written is None:
            self.loops.append((begun, len(self.tests), total))
        if possessive and width == (1, 1):
            self.only |= {*range(begun, len(self.tests))}
        return made

    def behind(self, items: Any, *, negated: bool, leads: bool) -> Part:
        """What stands before has a fixed length, and takes no time that grows."""
        if leads and len(items) == 1 and str(items[0][0]) in ("LITERAL", "NOT_LITERAL", "IN"):
            held = _Ways(flags=self.flags)
            held.character(str(items[0][0]), items[0][1])
            self.shown |= held.shown
            [test] = held.tests
            self.begins = lambda c: test(c) != negated
            return Part([], [], 1)
        return Part([], [], 1, asserts=True)

    def place(self, where: str, *, leads: bool) -> Part:
        if leads and where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            lines = where == "AT_BEGINNING" and self.flags & re.M
            self.begins = lambda c: bool(lines) and c == "\n"
        elif leads and where == "AT_BOUNDARY":
            self.word_edge = True
        return Part([], [], 1, asserts=True)

    def sought(self, first: list[int]) -> None:
        """Let the whole begin anywhere: after characters that it may not begin after, and others.
        At the edge of a word these are its characters, and others, each before the other."""
        begins = self.begins or (is_word if self.word_edge else lambda c: True)
        before = [
            self.position(begins).last[0],
            self.position(lambda c: not begins(c)).last[0],
        ]
        self.loops.append((before[0], before[1] + 1, None))
        for at in before:
            self.follow[at] += before
        held = [{c for c in self.shown if self.tests[q](c)} for q in range(len(self.tests))]
        for q in first:
            words = {is_word(c) for c in held[q]}
            if not self.word_edge or False in words:
                self.follow[before[0]].append(q)
            if self.word_edge and True in words:
                self.follow[before[1]].append(q)


@functools.lru_cache(maxsize=65_536)
def _cases(c: str) -> frozenset[str]:
    """What counts as the same character where case does not count."""
    found = {c, *(o for o in (c.lower(), c.upper()) if len(o) == 1)}
    found |= {o.lower() for o in found if len(o.lower()) == 1}
    for one in tuple(found):
        others = casefix._EXTRA_CASES.get(ord(one), ())
        found |= {o for n in others for o in (chr(n), chr(n).upper()) if len(o) == 1}
    return frozenset(found)


@functools.lru_cache(maxsize=1024)
def judged(method: str, pattern: str) -> Verdict:
    """How long a method of `re` may take for a pattern; what is no pattern is quick."""
    try:
        parsed = parser.parse(pattern)
        ways = _Ways(flags=parsed.state.flags)
        whole = ways.sequence(parsed, leads=True)
        done = {*()} if method == "fullmatch" else {*whole.last} - ways.held_back
        if method not in ("match", "fullmatch"):
            ways.sought(whole.first)
        return _Search(ways, done).verdict()
    except (re.error, OverflowError):
        return Verdict("quick")
    except (Unknown, RecursionError):
        return Verdict("unknown")


class _Search:
    """Looks for what is ambiguous in an automaton, in so many steps. After the positions that are
    `done` nothing can fail."""

    def __init__(self, ways: _Ways, done: set[int]) -> None:
        self.ways = ways
        self.steps = _STEPS
        shown = sorted(ways.shown)
        self.held = [frozenset(c for c in shown if test(c)) for test in ways.tests]
        self.follow = [sorted({*following}) for following in ways.follow]
        self.below = self.reached()
        every = range(len(self.held))
        kept = [[] if p in done else [q for q in self.follow[p] if q not in done] for p in every]
        self.groups = [g for g in _cycles(kept) if any(kept[p] for p in g)]
        self.kept = kept
        self.weights = [self.rounds(group) for group in self.groups]

    def verdict(self) -> Verdict:
        alone = [self.ways_alone(group) for group in self.groups]
        if math.inf in alone:
            return Verdict("exponential")
        cost, degree = self.powers(alone)
        loops = any(most is None for *_, most in self.ways.loops)
        if cost * (_LENGTH if loops else _SHORT) >= _LONG:
            return Verdict("power", degree + 1)
        return Verdict("unknown" if self.ways.unread and self.ways.repeats else "quick")

    def read(self, p: int, q: int) -> frozenset[str]:
        """The characters that a step from p to q may read."""
        if p in self.ways.only and p != q:
            return self.held[q] - self.held[p]
        return self.held[q]

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Unknown

    def reached(self) -> list[set[int]]:
        found: list[set[int]] = []
        for p in range(len(self.follow)):
            seen, todo = {p}, [p]
            while todo:
                for q in self.follow[todo.pop()]:
                    if q not in seen:
                        self.step()
                        seen.add(q)
                        todo.append(q)
            found.append(seen)
        return found

    def rounds(self, group: list[int]) -> int:
        """How often it can be gone round in positions that reach each other."""
        rounds = 1
        for begin, end, most in self.ways.loops:
            if any(begin <= p < end for p in group):
                rounds = min(_LENGTH, rounds * (_LENGTH if most is None else most))
        return rounds

    def ways_alone(self, group: list[int]) -> float:
        """How many ways one text may have through positions that reach each other: one, infinitely
        many, or for an ambiguous loop with a small bound, as many as it may have."""
        if not self.parts({*group}):
            return 1.0
        around = [x for x in self.ways.loops if any(x[0] <= p < x[1] for p in group)]
        bounds = [most for *_, most in around]
        [bound] = bounds if len(bounds) == 1 else [None]
        return (
            math.inf
            if bound is None or bound >= 2 * _FEW
            else float(max(_CHOICES, len(group)) ** bound)
        )

    def parts(self, group: set[int]) -> bool:
        """Whether two ways that one text takes from one position to another part meanwhile."""
        kept = [[q for q in self.kept[p] if q in group] if p in group else [] for p in
                range(len(self.kept))]  # fmt: skip
        if any(n > 1 for p in group for q, n in _counted(self.ways.follow[p]) if q in kept[p]):
            return True
        before: dict[tuple[int, int], set[tuple[int, int]]] = {(p, p): set() for p in group}
        todo = [*before]
        while todo:
            pair = todo.pop()
            for p, q in product(kept[pair[0]], kept[pair[1]]):
                self.step()
                if self.read(pair[0], p).isdisjoint(self.read(pair[1], q)):
                    continue
                if (p, q) not in before:
                    before[p, q] = set()
                    todo.append((p, q))
                before[p, q].add(pair)
        back = {(p, p) for p in group}
        todo = [*back]
        while todo:
            for pair in before[todo.pop()] - back:
                if pair[0] != pair[1]:
                    return True
                back.add(pair)
                todo.append(pair)
        return False

    def powers(self, alone: list[float]) -> tuple[float, int]:
        """How many ways there may be, and the power of a text's length in them: the largest of all
        chains of loops, of which each may hand on to the next at any place of one text."""
        known: dict[int, tuple[float, int]] = {}

        def from_here(a: int) -> tuple[float, int]:
            if a not in known:
                found = (1.0, 0)
                for b in range(len(self.groups)):
                    if a != b and self.groups[b][0] in self.below[self.groups[a][0]]:
                        hands_on = self.hands_on(a, b)
                        rounds = min(self.weights[a], self.weights[b]) if hands_on else 1
                        cost, degree = from_here(b)
                        found = max(found, (cost * rounds, degree + (rounds == _LENGTH)))
                known[a] = found[0] * alone[a], found[1]
            return known[a]

        return max((from_here(group) for group in range(len(self.groups))), default=(1.0, 0))

    def hands_on(self, a: int, b: int) -> bool:
        """Whether one text leads from a position of a loop back to it, on to a position of another
        loop, and from there back to it."""
        one, other = self.groups[a], self.groups[b]
        staying, coming = {*one}, {*other}
        return any(self.triple(p, q, staying, coming) for p, q in product(one, other))

    def triple(self, p: int, q: int, staying: set[int], coming: set[int]) -> bool:
        start, end = (p, p, q), (p, q, q)
        seen, todo = {start}, [start]
        while todo:
            x, y, z = todo.pop()
            for i in (n for n in self.kept[x] if n in staying):
                for k in (n for n in self.kept[z] if n in coming):
                    both = self.read(x, i) & self.read(z, k)
                    if not both:
                        continue
                    for j in self.follow[y]:
                        self.step()
                        if q not in self.below[j] or both.isdisjoint(self.read(y, j)):
                            continue
                        if (i, j, k) == end:
                            return True
                        if (i, j, k) not in seen:
                            seen.add((i, j, k))
                            todo.append((i, j, k))
        return False


def _counted(following: list[int]) -> list[tuple[int, int]]:
    return [(q, following.count(q)) for q in {*following}]


def _cycles(follow: list[list[int]]) -> list[list[int]]:
    """The groups of positions that reach each other, also one that reaches itself alone."""
    order: list[int] = []
    seen: set[int] = set()
    for root in range(len(follow)):
        todo = [(root, iter(follow[root]))] if root not in seen else []
        seen.add(root)
        while todo:
            p, rest = todo[-1]
            q = next((q for q in rest if q not in seen), None)
            if q is None:
                order.append(p)
                todo.pop()
            else:
                seen.add(q)
                todo.append((q, iter(follow[q])))
    back: list[list[int]] = [[] for _ in follow]
    for p, following in enumerate(follow):
        for q in following:
            back[q].append(p)
    groups: list[list[int]] = []
    taken: set[int] = set()
    for root in reversed(order):
        group, todo_back = [], [root] if root not in taken else []
        taken.add(root)
        while todo_back:
            p = todo_back.pop()
            group.append(p)
            for q in back[p]:
                if q not in taken:
                    taken.add(q)
                    todo_back.append(q)
        if group and (len(group) > 1 or group[0] in follow[group[0]]):
            groups.append(group)
    return groups
