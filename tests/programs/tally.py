"""What random programs reached: read from their text and from what was compiled of it."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from featurekit.core.values import ERROR
from featurekit.language.ir import Call, Function
from featurekit.language.ops import TABLE
from featurekit.language.walk import children
from programs.operators import UNREACHED

_NODES: dict[str, type | tuple[type, ...]] = {
    "if": ast.If,
    "conditional expression": ast.IfExp,
    "for": ast.For,
    "while": ast.While,
    "try": ast.Try,
    "break": ast.Break,
    "continue": ast.Continue,
    "comprehension": (ast.ListComp, ast.GeneratorExp),
    "match": ast.Match,
    "guard": ast.match_case,
    "alternatives of a pattern": ast.MatchOr,
    "case None, True or False": ast.MatchSingleton,
    "assert": ast.Assert,
    "raise": ast.Raise,
    "walrus": ast.NamedExpr,
    "augmented assignment": ast.AugAssign,
    "declaration": ast.AnnAssign,
    "tuple assignment": ast.Assign,
    "unused expression": ast.Expr,
    "f-string": ast.JoinedStr,
    "f-string format": ast.FormattedValue,
    "and, or": ast.BoolOp,
    "chained comparison": ast.Compare,
    "is None": (ast.Is, ast.IsNot),
    "in": (ast.In, ast.NotIn),
    "slice": ast.Slice,
    "list display": ast.List,
}
_WHERE: dict[str, Any] = {
    "guard": lambda n: n.guard is not None,
    "tuple assignment": lambda n: isinstance(n.targets[0], ast.Tuple),
    "chained comparison": lambda n: len(n.ops) > 1,
    "f-string format": lambda n: n.format_spec is not None,
}
_FAMILIES: dict[type, list[str]] = defaultdict(list)
for _family, _kinds in _NODES.items():
    for _kind in _kinds if isinstance(_kinds, tuple) else (_kinds,):
        _FAMILIES[_kind].append(_family)
_CALLED = {
    *("range", "zip", "enumerate", "reversed", "sorted", "min", "max", "any", "all", "sum", "len"),
    *("divmod", "round", "int", "float", "str", "bool", "abs", "pairwise", "list", "append"),
    *("ratio", "clip", "step", "split", "bounds", "age", "office", "sign", "get", "items"),
    *("replace", "strftime", "fromisoformat", "strptime", "astimezone", "isocalendar"),
    *("total_seconds", "timestamp", "fromtimestamp", "weekday", "group"),
}
_NAMES = {"RATES", "POINTS", "HOLIDAYS", "WORDS", "LEVELS", "BANDS", "CODE", "LONDON", "Shop"}


def statements_of(source: str) -> set[str]:
    """The kinds of syntax in a function, and what it calls by name."""
    function = ast.parse(source).body[-1]
    assert isinstance(function, ast.FunctionDef)
    found = {f"parameter {ast.unparse(a.annotation)}" for a in function.args.args if a.annotation}
    found |= {f"result {ast.unparse(function.returns)}"} if function.returns else set()
    for node in ast.walk(function):
        found.update(f for f in _FAMILIES[type(node)] if _WHERE.get(f, bool)(node))
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _CALLED:
                found.add(f"{name}()")
            case ast.Name(id=name) if name in _NAMES:
                found.add(name)
            case ast.If(body=body) if any(isinstance(n, ast.Return) for n in body):
                found.add("early return")
    return found


def _calls(node: Any) -> Iterator[str]:
    if isinstance(node, Call):
        yield node.op
    if isinstance(node, Function):
        node = node.body
    for child in children(node):
        yield from _calls(child)


class Tally:
    """Programs by what they reached, and the answers that were compared."""

    def __init__(self) -> None:
        self.programs = 0
        self.answers: Counter[str] = Counter()
        self.families: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def add(self, source: str, function: Function, answers: Sequence[Any]) -> None:
        self.programs += 1
        for answer in answers:
            kind = "errors" if answer is ERROR else "None" if answer is None else "values"
            self.answers[kind] += 1
        self.families.update(statements_of(source))
        self.rows.update(set(_calls(function)))

    @property
    def operators(self) -> Counter[str]:
        """Programs' rows by the name of the operator."""
        found: Counter[str] = Counter({op.name: 0 for k, op in TABLE.items() if k not in UNREACHED})
        for key, count in self.rows.items():
            found[TABLE[key].name] += count
        return found

    def missing(self) -> list[str]:
        """The families that no program reached."""
        wanted = [*_NODES, *(f"{name}()" for name in _CALLED), *_NAMES, "early return"]
        return [
            *(f for f in sorted(wanted) if not self.families[f]),
            *(f"operator {name}" for name, count in self.operators.items() if not count),
        ]

    def report(self) -> str:
        compared = sum(self.answers.values())
        shown = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.answers.items()))
        reached = sum(1 for key in TABLE if self.rows[key])
        return "\n".join((
            f"{self.programs:,} programs; {compared:,} calls compared: {shown}",
            f"{reached} of {len(TABLE)} rows of the operator table, {len(self.operators)} names",
            "by syntax and call: " + _listed(self.families),
            "by operator: " + _listed(self.operators),
        ))  # fmt: skip


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
