"""Random whole functions of the language, as text; every choice is asked of `pick`, so that
Hypothesis can shrink it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from featurekit.ops.table import EDGES
from featurekit.types import BOOL, FLOAT, INT, STR, Type, list_of

PARAMETERS: dict[str, str] = {
    "a": "int",
    "b": "int",
    "k": "int",
    "x": "float",
    "y": "float",
    "p": "bool",
    "q": "bool",
    "s": "str",
    "u": "str",
    "oa": "int | None",
    "ox": "float | None",
    "os": "str | None",
    "op": "bool | None",
    "li": "list[int]",
    "lf": "list[float]",
    "ls": "list[str]",
}
SCALARS = ("int", "float", "bool", "str")
_TYPES = {"int": INT, "float": FLOAT, "bool": BOOL, "str": STR}

MODULE = """\
RATES = {"a": 0.5, "b": -2.0, "": 1e308, "C536379": 0.1}
POINTS = {1: 7, 0: -1, -1: 2**62, 7: 0, 10: 3}
WORDS = ("a", "C", "", "b")
LEVELS = (0.5, 2.0, -1.0)
LIMIT = 10
SCALE = 2.5


def ratio(n: float, d: float, empty: float = 0.0) -> float:
    if d == 0.0:
        return empty
    return n / d


def clip(n: int, low: int = 0, high: int = 100) -> int:
    return max(low, min(n, high))


def step(n: int, m: int | None) -> int | None:
    if m is None or m < 0:
        return None
    return n // m


@feature
def sign(x: float) -> int:
    assert x == x
    if x > 0.0:
        return 1
    elif x < 0.0:
        return -1
    return 0


"""

INTS = ("0", "1", "2", "-1", "3", "7", "10", "64", "2**62", "-(2**63)", "9007199254740993", "LIMIT")
FLOATS = (
    "0.0",
    "1.0",
    "-0.0",
    "0.5",
    "-1.5",
    "2.0",
    "1e308",
    "3.0",
    "1e16",
    "math.inf",
    "math.nan",
    "SCALE",
    "math.pi",
)
STRINGS = ("''", "'a'", "'C'", "' b '", "'ß'", "'it''s'", '"\'"', "'😀'")


def columns(rows: int, seed: int = 7) -> dict[str, tuple[Type, list[Any]]]:
    """Awkward values for every parameter: edges, and small numbers that meet each other often."""
    chance = random.Random(seed)
    small: dict[str, list[Any]] = {
        "int": [-3, -2, -1, 0, 0, 1, 1, 2, 3, 4, 7, 10, 12],
        "float": [-2.5, -1.0, -0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 7.25, 10.0],
        "bool": [True, False],
        "str": ["", "a", "b", "C", "ab", "C1", " a "],
    }

    def one(kind: str) -> Any:
        edges = EDGES[_TYPES[kind]]
        return chance.choice(small[kind]) if chance.random() < 0.65 else chance.choice(edges)

    out: dict[str, tuple[Type, list[Any]]] = {}
    for name, hint in PARAMETERS.items():
        base = hint.split(" ")[0]
        if base.startswith("list"):
            kind = base[5:-1]
            lists = [
                [one(kind) for _ in range(chance.choice((0, 1, 2, 3, 5)))] for _ in range(rows)
            ]
            out[name] = list_of(_TYPES[kind]), lists
            continue
        optional = hint.endswith("None")
        values = [None if optional and chance.random() < 0.3 else one(base) for _ in range(rows)]
        out[name] = (_TYPES[base].or_none() if optional else _TYPES[base]), values
    return out


@dataclass(slots=True)
class Local:
    """A name in scope: its declared type, and whether it may be None just here."""

    type: str
    optional: bool = False
    fixed: bool = False  # a parameter, or a loop's own name


@dataclass(slots=True)
class Writer:
    """Writes one function."""

    pick: Callable[[int], int]
    lists: bool = True
    names: int = 0
    used: set[str] = field(default_factory=set)
    returns: str = "int"
    optional: bool = False
    loops: int = 0

    def one(self, *options: Any) -> Any:
        return options[self.pick(len(options))]

    def chance(self, outcomes: int) -> bool:
        return self.pick(outcomes) == 0

    def fresh(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def function(self) -> str:
        self.returns = self.one(*SCALARS)
        self.optional = self.chance(3)
        env = {
            n: Local(h.split(" ")[0], h.endswith("None"), True)
            for n, h in PARAMETERS.items()
            if self.lists or not h.startswith("list")
        }
        body = self.block(env, 1 + self.pick(5), "    ", 2)
        body += self.final(env, "    ")
        text = "\n".join(body)
        shown = ", ".join(f"{n}: {h}" for n, h in PARAMETERS.items() if n in self.used)
        hint = self.returns + (" | None" if self.optional else "")
        return f"{MODULE}@feature\ndef f({shown}) -> {hint}:\n{text}\n"

    def final(self, env: dict[str, Local], indent: str) -> list[str]:
        return [f"{indent}return {self.result(env)}"]

    def result(self, env: dict[str, Local]) -> str:
        if self.optional and self.chance(4):
            return "None"
        if self.optional and self.chance(4):
            name = self.variable(env, self.returns, optional=True)
            if name:
                return name
        if self.returns == "float" and self.chance(6):
            return self.one(
                "0", "1", "-0", f"(0 if {self.test(env, 1)} else {self.expr('float', env, 1)})"
            )
        return self.expr(self.returns, env, 3)

    # --- statements ---

    def block(self, env: dict[str, Local], count: int, indent: str, depth: int) -> list[str]:
        out: list[str] = []
        for _ in range(count):
            out += self.statement(env, indent, depth)
        return out or [f"{indent}pass"]

    def statement(self, env: dict[str, Local], indent: str, depth: int) -> list[str]:
        kind = self.pick(16)
        if kind <= 4 or (depth <= 0 and kind >= 8):
            return self.assign(env, indent)
        if kind == 5:
            return [f"{indent}{self.expr(self.one(*SCALARS), env, 2)}"]
        if kind == 6:
            return self.unpack(env, indent)
        if kind == 7:
            return [f"{indent}assert {self.test(env, 2)}"]
        if kind <= 11:
            return self.branch(env, indent, depth)
        if kind == 12:
            return self.match(env, indent, depth)
        if kind <= 14:
            return self.loop(env, indent, depth)
        return self.narrow(env, indent)

    def assign(self, env: dict[str, Local], indent: str) -> list[str]:
        mine = [n for n, v in env.items() if not v.fixed]
        if mine and self.chance(2):
            name = mine[self.pick(len(mine))]
            local = env[name]
            if not local.optional and local.type in ("int", "float") and self.chance(2):
                op = (
                    self.one("+", "-", "*") if local.type == "int" else self.one("+", "-", "*", "/")
                )
                other = self.expr(local.type, env, 2)
                return [f"{indent}{name} {op}= {other}"]
            value = self.expr(local.type, env, 2)
            env[name] = Local(local.type)
            return [f"{indent}{name} = {value}"]
        type_ = self.one(*SCALARS)
        if self.chance(6):
            name = self.fresh()
            env[name] = Local(type_, True)
            return [f"{indent}{name}: {type_} | None = None"]
        value = self.expr(type_, env, 3)
        name = self.fresh()
        env[name] = Local(type_)
        return [f"{indent}{name} = {value}"]

    def unpack(self, env: dict[str, Local], indent: str) -> list[str]:
        kinds = [self.one(*SCALARS), self.one(*SCALARS)]
        values = [self.expr(k, env, 2) for k in kinds]
        if self.chance(3):
            values = [f"divmod({self.expr('int', env, 1)}, {self.expr('int', env, 1)})"]
            kinds = ["int", "int"]
        names = [self.fresh(), self.fresh()]
        for name, kind in zip(names, kinds, strict=True):
            env[name] = Local(kind)
        return [f"{indent}{', '.join(names)} = {', '.join(values)}"]

    def branch(self, env: dict[str, Local], indent: str, depth: int) -> list[str]:
        then_env = {n: Local(v.type, v.optional, v.fixed) for n, v in env.items()}
        else_env = {n: Local(v.type, v.optional, v.fixed) for n, v in env.items()}
        if self.chance(4):
            name = self.fresh()
            kind = self.one("int", "float")
            value = self.expr(kind, env, 2)
            for e in (then_env, else_env):
                e[name] = Local(kind)
            test = f"({name} := {value}) > {self.expr(kind, env, 1)}"
        else:
            test = self.test(env, 2)
            optional = [n for n, v in env.items() if v.optional and n in PARAMETERS]
            if optional and self.chance(2):
                name = optional[self.pick(len(optional))]
                self.used.add(name)
                form = self.pick(4)
                if form == 0:
                    test, then_env[name].optional = f"{name} is not None", False
                elif form == 1:
                    test, else_env[name].optional = f"{name} is None", False
                elif form == 2:
                    narrowed = {**env, name: Local(env[name].type)}
                    test = f"{name} is not None and {self.test(narrowed, 1)}"
                    then_env[name].optional = False
                else:
                    test, then_env[name].optional = name, False
        out = [f"{indent}if {test}:"]
        inner = indent + "    "
        out += self.block(then_env, 1 + self.pick(2), inner, depth - 1)
        then_ends = self.chance(3)
        if then_ends:
            out += self.leave(then_env, inner)
        else_ends = False
        if self.chance(2) or not then_ends:
            if self.chance(2):
                out.append(f"{indent}elif {self.test(else_env, 1)}:")
                other = {n: Local(v.type, v.optional, v.fixed) for n, v in else_env.items()}
                out += self.block(other, 1, inner, depth - 1)
                for n, v in else_env.items():
                    v.optional = v.optional or other[n].optional
            else:
                out.append(f"{indent}else:")
                out += self.block(else_env, 1 + self.pick(2), inner, depth - 1)
                if not then_ends and self.chance(5):
                    else_ends = True
                    out += self.leave(else_env, inner)
        if then_ends:
            after = else_env
        elif else_ends:
            after = then_env
        else:
            after = {
                n: Local(v.type, v.optional or else_env[n].optional, v.fixed)
                for n, v in then_env.items()
                if n in else_env and else_env[n].type == v.type
            }
        env.clear()
        env.update(after)
        return out

    def leave(self, env: dict[str, Local], indent: str) -> list[str]:
        if self.loops and self.chance(2):
            return [f"{indent}{self.one('break', 'continue')}"]
        return self.final(env, indent)

    def match(self, env: dict[str, Local], indent: str, depth: int) -> list[str]:
        kind = self.one("int", "str")
        subject = self.variable(env, kind, optional=self.chance(2)) or self.expr(kind, env, 1)
        literals = ["0", "1", "-1", "7"] if kind == "int" else ["'a'", "''", "'C'", "'b'"]
        out = [f"{indent}match {subject}:"]
        envs = []
        for _ in range(1 + self.pick(3)):
            pattern = self.one(*literals)
            if self.chance(3):
                pattern += " | " + self.one(*literals)
            if self.chance(4):
                pattern += f" if {self.test(env, 1)}"
            out.append(f"{indent}    case {pattern}:")
            inner = {n: Local(v.type, v.optional, v.fixed) for n, v in env.items()}
            out += self.block(inner, 1, indent + "        ", depth - 1)
            envs.append(inner)
        if self.chance(2):
            out.append(f"{indent}    case _:")
            inner = {n: Local(v.type, v.optional, v.fixed) for n, v in env.items()}
            out += self.block(inner, 1, indent + "        ", depth - 1)
            envs.append(inner)
        for n, v in env.items():
            v.optional = v.optional or any(e[n].optional for e in envs)
        return out

    def loop(self, env: dict[str, Local], indent: str, depth: int) -> list[str]:
        name = self.fresh()
        inner = {n: Local(v.type, v.optional, v.fixed) for n, v in env.items()}
        form = self.pick(6 if self.lists else 3)
        if form == 0:
            source, inner[name] = f"range({self.pick(4)})", Local("int", fixed=True)
        elif form == 1:
            source, inner[name] = "range(3, -2, -2)", Local("int", fixed=True)
        elif form == 2:
            source, inner[name] = "LEVELS", Local("float", fixed=True)
        elif form == 3:
            source, inner[name] = self.use("li"), Local("int", fixed=True)
        elif form == 4:
            source, inner[name] = self.use("lf"), Local("float", fixed=True)
        else:
            other = self.fresh()
            source, inner[name] = f"enumerate({self.use('ls')})", Local("int", fixed=True)
            inner[other] = Local("str", fixed=True)
            name = f"{name}, {other}"
        for n, v in env.items():  # what the body assigns None to may be None at its start
            if not v.fixed and v.optional:
                inner[n].optional = True
        out = [f"{indent}for {name} in {source}:"]
        self.loops += 1
        out += self.block(inner, 1 + self.pick(2), indent + "    ", depth - 1)
        self.loops -= 1
        for n, v in env.items():
            v.optional = (
                v.optional
                or inner.get(n, v).optional
                or (n in PARAMETERS and PARAMETERS[n].endswith("None"))
            )
        return out

    def narrow(self, env: dict[str, Local], indent: str) -> list[str]:
        optional = [n for n, v in env.items() if v.optional]
        if not optional:
            return self.assign(env, indent)
        name = optional[self.pick(len(optional))]
        self.note(name)
        test = self.one("is None", "is None", "or")
        if test == "or" and not env[name].fixed:
            value = self.expr(env[name].type, env, 1)
            env[name].optional = False
            return [f"{indent}{name} = {name} or {value}"]
        out = [f"{indent}if {name} is None:", *self.leave(env, indent + "    ")]
        env[name].optional = False
        return out

    # --- expressions ---

    def use(self, name: str) -> str:
        self.note(name)
        return name

    def note(self, name: str) -> None:
        if name in PARAMETERS:
            self.used.add(name)

    def variable(self, env: dict[str, Local], type_: str, *, optional: bool = False) -> str | None:
        names = [n for n, v in env.items() if v.type == type_ and v.optional <= optional]
        return self.use(names[self.pick(len(names))]) if names else None

    def test(self, env: dict[str, Local], depth: int) -> str:
        if self.chance(6):
            return self.expr(self.one("int", "float", "str"), env, depth)
        return self.expr("bool", env, depth)

    def expr(self, type_: str, env: dict[str, Local], depth: int) -> str:
        if depth <= 0 or self.chance(4):
            name = self.variable(env, type_) if not self.chance(4) else None
            if name:
                return name
            table = {"int": INTS, "float": FLOATS, "str": STRINGS, "bool": ("True", "False")}
            return f"({self.one(*table[type_])})"
        e = lambda t, d=depth - 1: self.expr(t, env, d)  # noqa: E731
        if self.chance(8):
            optional = [n for n, v in env.items() if v.optional and v.type == type_]
            if optional:
                name = self.use(optional[self.pick(len(optional))])
                if self.chance(2):
                    return f"({name} or {e(type_)})"
                return f"({name} if {name} is not None else {e(type_)})"
        if self.chance(8):
            return f"({e(type_)} if {self.test(env, depth - 1)} else {e(type_)})"
        if self.chance(12):
            return f"({e(type_)} {self.one('and', 'or')} {e(type_)})"
        return str(getattr(self, f"_{type_}")(env, depth, e))

    def _int(self, env: dict[str, Local], depth: int, e: Callable[..., str]) -> str:
        form = self.pick(21)
        if form == 18:
            return f"({e('int')} {self.one('&', '|', '^')} {e('int')})"
        if form == 19:
            return self.one(
                f"{e('str')}.find({e('str')})",
                f"{e('str')}.count({e('str')})",
                f"int({e('str')})",
                f"{e('int')} ** 2",
                f"({e('int')} << ({e('int')} % 8))",
                f"({e('int')} >> 3)",
                f"math.gcd({e('int')}, {e('int')})",
                f"round({e('int')}, -1)",
                f"~{e('int')}",
                f"ord({e('str')})",
            )
        if form == 20:
            return f"({e('int')} {self.one('//', '%')} {self.one('3', '7', '-2', '60')})"
        if form <= 3:
            return f"({e('int')} {self.one('+', '-', '*')} {e('int')})"
        if form <= 5:
            return f"({e('int')} {self.one('//', '%')} {e('int')})"
        if form == 6:
            return f"({e('bool')} + {e('int')})"
        if form == 7:
            return f"{self.one('-', '+')}{e('int')}"
        if form == 8:
            return f"{self.one('abs', 'int')}({e('int')})"
        if form == 9:
            return (
                f"{self.one('int', 'round', 'math.floor', 'math.ceil', 'math.trunc')}({e('float')})"
            )
        if form == 10:
            return f"len({e('str')})"
        if form == 11:
            return f"{self.one('min', 'max')}({e('int')}, {e('int')})"
        if form == 12:
            return self.one(
                f"clip({e('int')})", f"clip({e('int')}, high={e('int')})", f"sign({e('float')})"
            )
        if form == 13:
            return self.one(f"POINTS[{e('int')}]", f"POINTS.get({e('int')}, {e('int')})")
        if form == 14:
            return f"(step({e('int')}, {e('int')}) or {e('int')})"
        if form == 15 and self.lists:
            return self.one(
                f"len({self.use('li')})",
                f"{self.use('li')}[{e('int')}]",
                f"sum({self.use('li')})",
                f"sum(n * {e('int')} for n in {self.use('li')})",
                f"max({self.use('li')})",
                f"sum([n for n in {self.use('li')} if n > {e('int')}])",
                f"len([w for w in {self.use('ls')} if w != {e('str')}])",
            )
        if form == 16:
            return f"{self.one('min', 'max')}({e('int')}, {e('int')}, {e('int')})"
        return f"int({e('bool')})"

    def _float(self, env: dict[str, Local], depth: int, e: Callable[..., str]) -> str:
        form = self.pick(17)
        if form == 16:
            return self.one(
                f"float({e('str')})",
                f"math.hypot({e('float')}, {e('float')})",
                f"math.log1p({e('float')})",
                f"math.sin({e('float')})",
                f"math.tanh({e('float')})",
                f"math.atan2({e('float')}, {e('float')})",
                f"math.copysign({e('float')}, {e('float')})",
                f"math.fmod({e('float')}, {e('float')})",
                f"({e('float')} ** 2)",
                f"math.log10({e('float')})",
            )
        if form <= 3:
            return f"({e('float')} {self.one('+', '-', '*')} {e('float')})"
        if form <= 5:
            return f"({e('float')} / {e('float')})"
        if form == 6:
            return f"({e('int')} / {e('int')})"
        if form == 7:
            op = self.one("+", "-", "*", "/")
            return self.one(f"({e('int')} {op} {e('float')})", f"({e('float')} {op} {e('int')})")
        if form == 8:
            return f"({e('float')} {self.one('//', '%', '**')} {e('float')})"
        if form == 9:
            return f"{self.one('-', '+')}{e('float')}"
        if form == 10:
            return f"{self.one('abs', 'math.sqrt', 'math.log', 'math.exp')}({e('float')})"
        if form == 11:
            return f"float({e('int')})"
        if form == 12:
            return f"{self.one('min', 'max')}({e('float')}, {e('float')})"
        if form == 13:
            return self.one(
                f"ratio({e('float')}, {e('float')})",
                f"ratio(n={e('float')}, d={e('float')}, empty={e('float')})",
                f"RATES[{e('str')}]",
                f"RATES.get({e('str')}, {e('float')})",
            )
        if form == 14 and self.lists:
            return self.one(
                f"{self.use('lf')}[{e('int')}]",
                f"(0.0 + sum(n * {e('float')} for n in {self.use('lf')}))",
                f"max({self.use('lf')})",
                f"min([n for n in {self.use('lf')} if n == n])",
                f"(0.0 + sum(m * n for m, n in zip({self.use('li')}, {self.use('lf')})))",
            )
        return f"round({e('float')}, {self.one('0', '1', '2', '-1')})"

    def _bool(self, env: dict[str, Local], depth: int, e: Callable[..., str]) -> str:
        form = self.pick(15)
        compare = self.one("==", "!=", "<", "<=", ">", ">=")
        if form <= 2:
            kind = self.one(*SCALARS)
            return f"({e(kind)} {compare} {e(kind)})"
        if form == 3:
            return f"({e('int')} {compare} {e('float')})"
        if form == 4:
            kind = self.one("int", "float", "str")
            other = self.one("==", "<", "<=", ">")
            return f"({e(kind)} {compare} {e(kind)} {other} {e(kind)})"
        if form <= 7:
            return f"({e('bool')} {self.one('and', 'or')} {e('bool')})"
        if form == 8:
            return f"(not {self.test(env, depth - 1)})"
        if form == 9:
            optional = [n for n, v in env.items() if v.optional]
            if not optional:
                return f"math.isnan({e('float')})"
            name = self.use(optional[self.pick(len(optional))])
            return f"({name} {self.one('is', 'is not')} None)"
        if form == 10:
            return f"{e('str')}.{self.one('startswith', 'endswith')}({e('str')})"
        if form == 11:
            return self.one(
                f"({e('str')} in WORDS)",
                f"({e('int')} in (1, 2, 7))",
                f"({e('str')} in RATES)",
                f"({e('int')} not in POINTS)",
                f"({e('str')} in {e('str')})",
                f"any(w in {e('str')} for w in WORDS)",
                f"all({e('float')} > n for n in LEVELS)",
            )
        if form == 12:
            return f"bool({e(self.one('int', 'float', 'str'))})"
        if form == 13 and self.lists:
            return self.one(
                f"any(n > {e('int')} for n in {self.use('li')})",
                f"all(1 / n > {e('float')} for n in {self.use('lf')})",
                f"({e('str')} in {self.use('ls')})",
                f"any(n == m for n, m in zip({self.use('li')}, {self.use('lf')}))",
            )
        return f"math.{self.one('isnan', 'isinf', 'isfinite')}({e('float')})"

    def _str(self, env: dict[str, Local], depth: int, e: Callable[..., str]) -> str:
        form = self.pick(9)
        if form == 5:
            method = self.one("lower", "upper", "title", "casefold", "lstrip", "swapcase")
            return f"{e('str')}.{method}()"
        if form == 6:
            return self.one(
                f"{e('str')}[{e('int')}]",
                f"{e('str')}[{e('int')}:]",
                f"{e('str')}[:{e('int')}]",
                f"{e('str')}[{e('int')}:{e('int')}]",
                f"{e('str')}[::-1]",
                f"{e('str')}.split({e('str')})[0]",
                f"{e('str')}.replace('a', {e('str')})",
                f"{e('str')}.removeprefix({e('str')})",
                f"'-'.join([{e('str')}, {e('str')}])",
                f"{e('str')}.zfill(4)",
            )
        if form == 7:
            kind = self.one("int", "float", "bool")
            return f"str({e(kind)})"
        if form == 8:
            name = self.variable(env, self.one("int", "float")) or self.use("a")
            return f'f"{{{name}}}|{{{self.variable(env, "float") or self.use("x")}:.2f}}"'
        if form <= 1:
            return f"({e('str')} + {e('str')})"
        if form == 2:
            return f"{e('str')}.strip()"
        if form == 3 and self.lists:
            return f"{self.use('ls')}[{e('int')}]"
        return f'f"<{{{self.variable(env, "str") or e("str", 0)}}}>"'.replace("''", "s")


assert math.inf in EDGES[FLOAT]
