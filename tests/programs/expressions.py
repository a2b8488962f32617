"""Random expressions; every choice is asked of `pick`, so that Hypothesis can shrink it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from programs.grammar import CHOICES, FORMS, LIST_FORMS, LITERALS, OF_STRINGS
from programs.inputs import PARAMETERS, SCALARS
from programs.operators import ROWS

_HOLE = re.compile(r"<([a-z]+!?(?:\[[^<>]*\])?)>")
_SPECS = {
    "int": ("d", ",", "05d", "+d", "x", ">6", "_", ".1f", "%"),
    "float": (".2f", ".0f", ",.2f", ".3e", "g", ".1%", "+.1f", "08.2f", ".12f"),
    "str": (">4", "<5", "^7", "*^9", ".2", "s"),
    "bool": ("d", ">6"),
    "date": ("%Y-%m-%d", "%a %d"),
    "datetime": ("%H:%M", "%d.%m.%y %H:%M:%S"),
}


@dataclass(slots=True)
class Local:
    """A name in scope: its type, whether it may be None just here, and whether it ever may."""

    type: str
    optional: bool = False
    nullable: bool = False
    fixed: bool = False  # never assigned again: a loop's own name


Env = dict[str, Local]


def local_of(hint: str) -> Local:
    """What a parameter declared so is at the start."""
    optional = hint.endswith(" | None")
    return Local(hint.removesuffix(" | None"), optional, optional)


def copied(env: Env) -> Env:
    """The same locals, to be narrowed apart."""
    return {n: Local(v.type, v.optional, v.nullable, v.fixed) for n, v in env.items()}


def known(env: Env, name: str) -> Env:
    """The locals where `name` is not None."""
    made = copied(env)
    made[name].optional = False
    return made


@dataclass(slots=True)
class Expressions:
    """Writes expressions over the locals in scope."""

    pick: Callable[[int], int]
    names: int = 0
    used: set[str] = field(default_factory=set)
    comprehending: int = 0
    # A comprehension, and whatever a loop over a list stands in, runs as Python in DuckDB, too: so
    # half of the functions have neither, one in four has the first, and one in four both.
    looping: int = 3

    def one(self, *options: Any) -> Any:
        return options[self.pick(len(options))]

    def chance(self, outcomes: int) -> bool:
        return self.pick(outcomes) == 0

    def fresh(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def use(self, name: str) -> str:
        if name in PARAMETERS:
            self.used.add(name)
        return name

    def variable(self, env: Env, type_: str, *, optional: bool = False) -> str | None:
        names = [n for n, v in env.items() if v.type == type_ and v.optional <= optional]
        return self.use(names[self.pick(len(names))]) if names else None

    def maybe_none(self, env: Env, type_: str | None = None) -> str | None:
        """A name that may be None here."""
        names = [
            n
            for n, v in env.items()
            if v.optional and not v.type.startswith("dict") and type_ in (None, v.type)
        ]
        return self.use(names[self.pick(len(names))]) if names else None

    # --- templates --------------------------------------------------------------------------------

    def fill(self, template: str, env: Env, depth: int) -> str:
        return _HOLE.sub(lambda m: self.part(m[1], env, depth), template)

    def part(self, hole: str, env: Env, depth: int) -> str:
        match hole:
            case "test":
                return self.test(env, depth)
            case "parsed":
                return self.use("w")
            case "counts":
                return self.use("dc")
            case "fstring":
                return self.f_string(env, depth)
            case "zoned":
                name = self.variable(env, "zoned") if self.chance(2) else None
                return name or self.fill("<datetime>.astimezone(<zone>)", env, depth)
            case _ if hole in CHOICES:
                return self.fill(self.one(*CHOICES[hole]), env, depth - 1)
            case _:
                return self.expr(hole, env, depth)

    def expr(self, type_: str, env: Env, depth: int) -> str:
        if type_.startswith("dict["):
            return self.use("dc")
        if type_.startswith("list["):
            return self.list_expr(type_[5:-1], env, depth)
        if depth <= 0 or self.chance(4):
            name = self.variable(env, type_) if not self.chance(4) else None
            return name or f"({self.one(*LITERALS[type_])})"
        kind = self.pick(24)
        if kind <= 2 and (name := self.maybe_none(env, type_)):
            other = self.expr(type_, env, depth - 1)
            forms = [f"({name} if {name} is not None else {other})", f"({name} or {other})"]
            forms.append(f"({other} if {name} is None else {name})")
            if not self.comprehending:
                new = self.fresh()
                forms.append(f"({new} if ({new} := {name}) is not None else {other})")
            return str(self.one(*forms))
        if kind <= 5:
            test, then, orelse = self.condition(env, depth - 1)
            a, b = self.expr(type_, then, depth - 1), self.expr(type_, orelse, depth - 1)
            return f"({a} if {test} else {b})"
        if kind <= 7:
            return self.fill(f"(<{type_}> {self.one('and', 'or')} <{type_}>)", env, depth - 1)
        if kind == 8 and not self.comprehending and type_ == "bool":
            return self.walrus(env, depth)
        if kind == 9 and type_ == "bool" and (name := self.maybe_none(env)):
            return f"({name} {self.one('is', 'is not')} None)"
        if kind == 10 and type_ in ("bool", "int", "float") and self.looping >= 2:
            return self.over_a_loop(type_, env, depth)
        if kind <= 15:
            rows = ROWS[type_]
            templates = self.one(*self.one(*rows.values()))
            return self.fill(self.one(*templates), env, depth - 1)
        return self.fill(self.one(*FORMS[type_]), env, depth - 1)

    def walrus(self, env: Env, depth: int) -> str:
        """A name bound in the first comparison and read in the next."""
        kind, name = self.one("int", "float", "datetime"), self.fresh()
        value = self.expr(kind, env, depth - 1)
        within = {**env, name: Local(kind)}
        first = f"({name} := {value}) {self.one(*CHOICES['compare'])} {self.expr(kind, env, 0)}"
        return f"({first} {self.one('and', 'or')} {self.expr('bool', within, depth - 1)})"

    # --- tests ------------------------------------------------------------------------------------

    def test(self, env: Env, depth: int) -> str:
        """Anything by its truth."""
        if self.chance(6):
            return self.expr(self.one("int", "float", "str", "timedelta", "list[int]"), env, depth)
        return self.expr("bool", env, depth)

    def condition(self, env: Env, depth: int) -> tuple[str, Env, Env]:
        """A test, and what is known where it is true and where false."""
        name = self.maybe_none(env) if self.chance(2) else None
        if name is None:
            return self.test(env, depth), copied(env), copied(env)
        there = known(env, name)
        form = self.pick(10)
        if form in (0, 1):
            return f"{name} is not None", there, copied(env)
        if form == 2:
            return f"{name} is None", copied(env), there
        if form == 3:
            test = f"{name} is not None and {self.test(there, depth)}"
            return test, there, copied(env)
        if form == 4:
            return f"{name} is None or {self.test(there, depth)}", copied(env), there
        if form == 5:
            return self.one(name, f"bool({name})"), there, copied(env)
        if form == 6:
            return f"not {name}", copied(env), there
        if form == 7 and (other := self.maybe_none(there)):
            return f"{name} is not None and {other} is not None", known(there, other), copied(env)
        if form == 8 and not self.comprehending:
            new, type_ = self.fresh(), env[name].type
            bound = {**copied(env), new: Local(type_, True, True)}
            return f"({new} := {name}) is not None", known(bound, new), bound
        return f"not ({name} is None)", there, copied(env)

    # --- text -------------------------------------------------------------------------------------

    def f_string(self, env: Env, depth: int) -> str:
        pieces = []
        for _ in range(1 + self.pick(3)):
            pieces.append(self.one("", "|", "a=", "{{}}", "ß "))
            kind = self.one(*_SPECS)
            value = self.expr(kind, env, min(depth, 1))
            if any(c in value for c in "'\"\\{}"):  # Python 3.11 takes none of them here
                value = self.variable(env, kind) or self.use("a")
                kind = env[value].type
            spec = f":{self.one(*_SPECS[kind])}" if self.chance(2) else ""
            pieces.append(f"{{{value}{self.one('', '', '!s') if not spec else ''}{spec}}}")
        return f'f"{"".join(pieces)}"'

    # --- lists ------------------------------------------------------------------------------------

    def list_expr(self, item: str, env: Env, depth: int) -> str:
        whole = f"list[{item}]"
        if depth <= 0 or self.chance(3):
            name = self.variable(env, whole)
            return name or self.fill(f"[<{item}>, <{item}>]", env, 0)
        kind = self.pick(12)
        if kind == 0 and (name := self.maybe_none(env, whole)):
            other = self.list_expr(item, env, depth - 1)
            return str(self.one(f"({name} or {other})", f"({other} if {name} is None else {name})"))
        if kind == 1:
            test, then, orelse = self.condition(env, depth - 1)
            a, b = self.list_expr(item, then, depth - 1), self.list_expr(item, orelse, depth - 1)
            return f"({a} if {test} else {b})"
        if kind <= 3 and whole in ROWS:
            templates = self.one(*self.one(*ROWS[whole].values()))
            return self.fill(self.one(*templates), env, depth - 1)
        if kind <= 5 and item == "str":
            return self.fill(self.one(*OF_STRINGS), env, depth - 1)
        form = self.one(*LIST_FORMS[: None if self.looping >= 2 else -3])
        if form == "<comprehension>":
            return f"[{self.comprehension(item, env, depth - 1)}]"
        form = form.replace("<list>", f"<{whole}>").replace("<item>", f"<{item}>")
        return self.fill(form, env, depth - 1)

    def comprehension(self, item: str, env: Env, depth: int) -> str:
        """`element for x in values if test`, without its brackets."""
        self.comprehending += 1
        target, source, inner = self.source(env, depth)
        tests = ""
        for _ in range(self.one(0, 0, 1, 1, 2)):
            test, inner, _ = self.condition(inner, depth)
            tests += f" if {test}"
        more = ""
        if self.chance(6):
            target2, source2, inner = self.source(inner, depth - 1)
            more = f" for {target2} in {source2}"
        element = self.expr(item, inner, depth)
        self.comprehending -= 1
        return f"{element} for {target} in {source}{tests}{more}"

    def source(self, env: Env, depth: int, *, constant: bool = False) -> tuple[str, str, Env]:
        """What a loop runs over: its target, its source, and the locals inside."""
        name, other = self.fresh(), self.fresh()

        def one(**types: str) -> Env:
            return copied(env) | {n: Local(t, fixed=True) for n, t in types.items()}

        def values(type_: str) -> str:
            return self.list_expr(type_, env, min(depth, 1))

        item = self.one("int", "float", "str", "datetime", "date", "timedelta", "bytes", "bool")
        match self.pick(6 if constant else 18):
            case 0:
                return name, f"range({1 + self.pick(4)})", one(**{name: "int"})
            case 1:
                return name, "range(3, -2, -2)", one(**{name: "int"})
            case 2:
                return name, self.one("LEVELS", "reversed(LEVELS)"), one(**{name: "float"})
            case 3:
                pair = one(**{name: "int", other: "float"})
                return f"{name}, {other}", self.one("BANDS", "enumerate(LEVELS)"), pair
            case 4:
                return f"{name}, {other}", "RATES.items()", one(**{name: "str", other: "float"})
            case 15:
                pair = one(**{name: "int", other: item})
                start = self.one("", ", 1", ", start=2")
                return f"{name}, {other}", f"enumerate({values(item)}{start})", pair
            case 6 | 7:
                pair = one(**{name: "int", other: item})
                return f"{name}, {other}", f"zip({values('int')}, {values(item)})", pair
            case 8:
                return name, f"sorted({values(item)})", one(**{name: item})
            case 9:
                pair = one(**{name: item, other: item})
                return f"{name}, {other}", f"pairwise({values(item)} + {values(item)})", pair
            case 10:
                values_of = self.variable(env, f"list[{item}]") or self.use("li")
                return name, f"range(len({values_of}))", one(**{name: "int"})
            case 11:
                inner = copied(env) | {name: Local("float", True, True, fixed=True)}
                return name, self.use("lo"), inner
            case 12:
                return name, self.expr("str", env, min(depth, 1)), one(**{name: "str"})
            case 13:
                pair = one(**{name: "str", other: "int"})
                return f"{name}, {other}", f"{self.use('dc')}.items()", pair
            case 14:
                return name, f"reversed({values(item)})", one(**{name: item})
            case 5:
                names = [self.expr(item, env, 0) for _ in range(3)]
                return name, f"({', '.join(names)})", one(**{name: item})
            case _:
                return name, values(item), one(**{name: item})

    def over_a_loop(self, type_: str, env: Env, depth: int) -> str:
        """A generator that a function takes in."""
        if type_ == "bool":
            inside = self.comprehension(self.one("bool", "bool", "int"), env, depth - 1)
            return f"{self.one('any', 'all')}({inside})"
        if self.chance(3):
            kind = self.one(*SCALARS)
            made = f"len([{self.comprehension(kind, env, depth - 1)}])"
            return made if type_ == "int" else f"float({made})"
        inside = self.comprehension(type_, env, depth - 1)
        call = self.one("sum", "min", "max")
        if call != "sum":
            return f"{call}([{inside}], default={self.expr(type_, env, 0)})"
        return f"(0.0 + sum({inside}))" if type_ == "float" else f"sum({inside})"
