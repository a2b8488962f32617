"""Random statements: what is bound and known after each is kept as a type checker would."""

from __future__ import annotations

from dataclasses import dataclass, replace

from programs.expressions import Env, Expressions, Local, copied, known, local_of
from programs.inputs import PARAMETERS, SCALARS

LISTS = ("list[int]", "list[float]", "list[str]", "list[datetime]", "list[bool]", "list[date]")
_PATTERNS = {
    "int": ("0", "1", "-1", "7", "2 | 3"),
    "float": ("0.0", "1.5", "-1.0"),
    "str": ("'a'", "''", "Shop.STORE", "'b' | ' a '"),
    "bool": ("True", "False"),
}


def meet(*envs: Env) -> Env:
    """What holds whichever way was taken."""
    first, *rest = envs
    return {
        n: Local(v.type, v.optional or any(e[n].optional for e in rest), v.nullable, v.fixed)
        for n, v in first.items()
        if all(n in e and e[n].type == v.type for e in rest)
    }


@dataclass(slots=True)
class Writer(Expressions):
    """Writes one function."""

    returns: str = "int"
    optional: bool = False
    loops: int = 0
    trying: int = 0

    def function(self) -> str:
        """The text of `f`, to stand after `inputs.MODULE`."""
        self.returns = self.one(*SCALARS, *LISTS) if self.chance(2) else self.one(*SCALARS[:4])
        self.optional = self.chance(3)
        self.looping = self.pick(4)
        env = {n: local_of(h) for n, h in PARAMETERS.items()}
        body = ['    """Documented."""'] if self.chance(12) else []
        body += self.block(env, 1 + self.pick(4), "    ", 2)
        if not (self.optional and self.chance(8)):  # a path may end without return: None
            body += self.final(env, "    ")
        shown = ", ".join(f"{n}: {h}" for n, h in PARAMETERS.items() if n in self.used)
        hint = self.returns + (" | None" if self.optional else "")
        text = "\n".join(body)
        return f"@feature\ndef f({shown}) -> {hint}:\n{text}\n"

    def final(self, env: Env, indent: str) -> list[str]:
        if self.optional and self.chance(8):
            return [f"{indent}{self.one('return', 'return None')}"]
        return [f"{indent}return {self.result(env)}"]

    def result(self, env: Env) -> str:
        if self.optional and self.chance(4) and (name := self.maybe_none(env, self.returns)):
            return name
        if self.optional and self.chance(4):
            test, then, _ = self.condition(env, 1)
            return f"{self.expr(self.returns, then, 2)} if {test} else None"
        if self.returns == "float" and self.chance(6):
            whole = self.fill("(0 if <test> else <float>)", env, 1)
            return str(self.one("0", "1", "-0", whole, self.expr("int", env, 2)))
        return self.expr(self.returns, env, 3)

    # --- statements -------------------------------------------------------------------------------

    def block(self, env: Env, count: int, indent: str, depth: int) -> list[str]:
        out: list[str] = []
        for _ in range(count):
            out += self.statement(env, indent, depth)
        return out or [f"{indent}pass"]

    def statement(self, env: Env, indent: str, depth: int) -> list[str]:
        kind = self.pick(24)
        if depth > 0:
            if kind <= 4:
                return self.branch(env, indent, depth)
            if kind <= 6:
                return self.match(env, indent, depth)
            if kind <= 9:
                return self.loop(env, indent, depth)
            if kind == 10 and self.looping == 3:
                return self.grow(env, indent, depth)
            if kind == 11 and self.looping == 2:
                return self.attempt(env, indent, depth)
            if kind == 12 and self.looping == 2:
                return self.turning(env, indent, depth)
        match kind:
            case 11:
                return [f"{indent}{self.expr(self.one(*SCALARS), env, 2)}"]
            case 12 | 13:
                return self.unpack(env, indent)
            case 14 if self.chance(2) and not self.trying:
                test, there, _ = self.condition(env, 2)
                env.update(there)
                return [f"{indent}assert {test}"]
            case 15 | 16:
                return self.narrow(env, indent)
            case 17:
                return self.local_time(env, indent)
            case 18:
                return self.regular_expression(env, indent)
            case 19:
                return self.walrus_statement(env, indent)
            case 20 | 21:
                return self.reassign(env, indent)
        return self.assign(env, indent)

    def assign(self, env: Env, indent: str) -> list[str]:
        type_ = self.one(*SCALARS) if not self.chance(5) else self.one(*LISTS)
        if self.chance(6):
            value = self.expr(type_, env, 1) if self.chance(3) else "None"
            name = self.fresh()
            env[name] = Local(type_, value == "None", True)
            return [f"{indent}{name}: {type_} | None = {value}"]
        value = self.expr(type_, env, 2)
        name = self.fresh()
        env[name] = Local(type_)
        return [f"{indent}{name}{self.one('', '', f': {type_}')} = {value}"]

    def reassign(self, env: Env, indent: str) -> list[str]:
        """Another value for a name, parameters among them."""
        mine = [n for n, v in env.items() if not v.fixed and (v.type in SCALARS or v.type in LISTS)]
        name = self.use(mine[self.pick(len(mine))])
        local = env[name]
        if local.nullable and self.chance(3):
            local.optional = True
            return [f"{indent}{name} = None"]
        if not local.optional and self.chance(2):
            other = {
                "int": ("+= <int>", "-= <int>", "*= <small>", "//= <int>", "%= 7", "|= 4"),
                "float": ("+= <float>", "-= <int>", "*= <float>", "/= <float>"),
                "str": ("+= <str>",),
                "datetime": ("+= <timedelta>", "-= DAY"),
                "date": ("+= <timedelta>",),
                "timedelta": ("+= <timedelta>", "*= <small>", "//= 2"),
                "bool": ("|= <bool>", "&= <bool>"),
            }.get(local.type)
            if other:
                return [f"{indent}{name} {self.fill(self.one(*other), env, 2)}"]
        value = self.expr(local.type, env, 2)
        local.optional = False
        return [f"{indent}{name} = {value}"]

    def unpack(self, env: Env, indent: str) -> list[str]:
        names = [self.fresh(), self.fresh()]
        kinds = ["int", "int"]
        match self.pick(9):
            case 0:
                value = "divmod(<int>, <int>)"
            case 1:
                value, kinds = "divmod(<float>, <float>)", ["float", "float"]
            case 2:
                value, kinds = "divmod(<timedelta>, <timedelta>)", ["int", "timedelta"]
            case 3:
                value = "split(<int>, <int>)"
            case 4:
                value, kinds = "bounds(<float>)", ["float", "float"]
            case 5:
                value = "<date>.isocalendar()"
                names, kinds = [*names, self.fresh()], ["int"] * 3
            case 6:
                value, kinds = "<str>.partition(<str>)", ["str"] * 3
                names = [*names, self.fresh()]
            case 7:
                value, kinds = "(<str> + '-').split('-', 1)", ["str", "str"]
            case _:
                kinds = [self.one(*SCALARS), self.one(*SCALARS)]
                value = f"<{kinds[0]}>, <{kinds[1]}>"
                swapped = [n for n, v in env.items() if v.type == kinds[0] and not v.optional]
                if len(swapped) > 1 and self.chance(3) and not env[swapped[0]].fixed:
                    a, b = (self.use(n) for n in swapped[:2])
                    return [f"{indent}{a}, {b} = {b}, {a}"]
        made = self.fill(value, env, 2)
        for name, kind in zip(names, kinds, strict=True):
            env[name] = Local(kind)
        if value.startswith("bounds"):
            env[names[1]] = Local("float", True, True)
        return [f"{indent}{', '.join(names)} = {made}"]

    def branch(self, env: Env, indent: str, depth: int) -> list[str]:
        test, then, orelse = self.condition(env, 2)
        inner = indent + "    "
        out = [f"{indent}if {test}:", *self.block(then, 1 + self.pick(2), inner, depth - 1)]
        ways: list[Env] = []
        if self.chance(3):
            out += self.leave(then, inner)
        else:
            ways.append(then)
        for _ in range(self.one(0, 0, 1, 2)):
            test, other, orelse = self.condition(orelse, 1)
            out += [f"{indent}elif {test}:", *self.block(other, 1, inner, depth - 1)]
            if self.chance(4):
                out += self.leave(other, inner)
            else:
                ways.append(other)
        if self.chance(2):
            out += [f"{indent}else:", *self.block(orelse, 1 + self.pick(2), inner, depth - 1)]
            if ways and self.chance(5):
                out += self.leave(orelse, inner)
            else:
                ways.append(orelse)
        else:
            ways.append(orelse)
        after = meet(*ways)
        env.clear()
        env.update(after)
        return out

    def leave(self, env: Env, indent: str) -> list[str]:
        if self.loops and self.chance(2):
            return [f"{indent}{self.one('break', 'continue')}"]
        if self.chance(12) and not self.trying:
            return [f"{indent}raise ValueError('no')"]
        return self.final(env, indent)

    def match(self, env: Env, indent: str, depth: int) -> list[str]:
        kind = self.one("int", "int", "str", "str", "float", "bool")
        subject = self.variable(env, kind, optional=True) or self.expr(kind, env, 1)
        optional = subject in env and env[subject].optional
        out = [f"{indent}match {subject}:"]
        ways: list[Env] = []
        inner = indent + "        "

        def case(pattern: str, within: Env) -> None:
            out.append(f"{indent}    case {pattern}:")
            out.extend(self.block(within, 1, inner, depth - 1))
            if self.chance(4):
                out.extend(self.leave(within, inner))
            else:
                ways.append(within)

        rest = copied(env)
        if optional and self.chance(2):
            case("None", copied(env))
            rest = known(rest, subject)
        for _ in range(1 + self.pick(3)):
            within = known(rest, subject) if subject in env else copied(rest)
            guard = f" if {self.test(within, 1)}" if self.chance(4) else ""
            case(f"{self.one(*_PATTERNS[kind])}{guard}", within)
        if self.chance(3):
            name = self.fresh()
            here = Local(kind, subject in rest and rest[subject].optional)
            within = {**copied(rest), name: here}
            case(f"{name} if {self.test(within, 1)}", within)
        if self.chance(2):
            name = self.one("_", self.fresh())
            within = copied(rest)
            if name != "_":
                within[name] = Local(kind, subject in rest and rest[subject].optional)
            case(name, within)
        ways.append(rest)
        after = meet(*ways)
        env.clear()
        env.update({n: v for n, v in after.items() if n in rest})
        return out

    def loop(self, env: Env, indent: str, depth: int) -> list[str]:
        target, source, inner = self.source(env, 2, constant=self.looping < 3)
        for v in inner.values():  # a turn before may have assigned None
            v.optional = v.optional or v.nullable
        out = [f"{indent}for {target} in {source}:"]
        self.loops += 1
        out += self.block(inner, 1 + self.pick(3), indent + "    ", depth - 1)
        self.loops -= 1
        for v in env.values():
            v.optional = v.optional or v.nullable
        return out

    def attempt(self, env: Env, indent: str, depth: int) -> list[str]:
        """A try, whose handler knows of a name only what always holds."""
        body, handler = copied(env), copied(env)
        self.trying += 1
        out = [f"{indent}try:", *self.block(body, 1 + self.pick(2), indent + "    ", depth - 1)]
        if self.chance(2):
            name = self.fresh()
            body[name] = Local("float")
            out.append(f"{indent}    {name} = {self.fill('float(<str>)', body, 2)}")
        self.trying -= 1
        for v in handler.values():
            v.optional = v.optional or v.nullable
        classes = self.one(
            *("ValueError", "(ValueError, ZeroDivisionError)", "ArithmeticError", "Exception"),
            *("IndexError", "(KeyError, TypeError)", "OverflowError"),
        )
        out.append(f"{indent}except {classes}:")
        out += self.block(handler, 1, indent + "    ", depth - 1)
        after = meet(body, handler)
        env.clear()
        env.update(after)
        return out

    def turning(self, env: Env, indent: str, depth: int) -> list[str]:
        """A while that ends, after some turns."""
        name = self.fresh()
        out = [f"{indent}{name} = {self.pick(4)}"]
        env[name] = Local("int", fixed=True)
        for v in env.values():
            v.optional = v.optional or v.nullable
        inner = copied(env)
        test = f" and {self.test(copied(env), 1)}" if self.chance(2) else ""
        out += [f"{indent}while {name} > 0{test}:", f"{indent}    {name} -= 1"]
        self.loops += 1
        out += self.block(inner, 1 + self.pick(2), indent + "    ", depth - 1)
        self.loops -= 1
        return out

    def grow(self, env: Env, indent: str, depth: int) -> list[str]:
        """A list that a loop collects, and what is read of it."""
        item = self.one("int", "float", "str", "datetime", "date")
        name, after = self.fresh(), self.fresh()
        out = [f"{indent}{name}: list[{item}] = []"]
        target, source, inner = self.source(env, 2)
        for v in inner.values():
            v.optional = v.optional or v.nullable
        out.append(f"{indent}for {target} in {source}:")
        deeper = indent + "    "
        self.loops += 1
        if self.chance(2):
            out += self.block(inner, 1, deeper, depth - 1)
        if self.chance(2):
            out += [f"{deeper}if len({name}) > {self.pick(4)}:", f"{deeper}    break"]
        self.loops -= 1
        added = self.expr(item, inner, 2)
        out.append(f"{deeper}{name}{self.one(f'.append({added})', f' += [{added}]')}")
        for v in env.values():
            v.optional = v.optional or v.nullable
        env[after] = Local(self.one("int", f"list[{item}]"))
        read = f"len({name})" if env[after].type == "int" else f"list({name})"
        return [*out, f"{indent}{after} = {read}"]

    def narrow(self, env: Env, indent: str) -> list[str]:
        """A name that may be None is dealt with at once."""
        name = self.maybe_none(env)
        if name is None:
            return self.assign(env, indent)
        local = env[name]
        value = self.expr(local.type, env, 1)
        inner = indent + "    "
        form = self.pick(4)
        if form == 0 and not local.fixed:
            out = [f"{indent}{name} = {name} or {value}"]
        elif form == 1 and not local.fixed:
            out = [f"{indent}if {name} is None:", f"{inner}{name} = {value}"]
        elif form == 2 and not self.trying:
            out = [f"{indent}assert {name} is not None"]
        else:
            out = [f"{indent}if {name} is None:", *self.leave(env, inner)]
        local.optional = False
        return out

    def local_time(self, env: Env, indent: str) -> list[str]:
        value = self.fill("<datetime>.astimezone(<zone>)", env, 2)
        name = self.fresh()
        env[name] = Local("zoned", fixed=True)
        return [f"{indent}{name} = {value}"]

    def regular_expression(self, env: Env, indent: str) -> list[str]:
        call = self.one("re.<match>(<pattern>, <str>)", "CODE.<match>(<str>)")
        made = self.fill(call, env, 2)
        match, name = self.fresh(), self.fresh()
        found, group = self.one("is not None", ""), self.one("group(1)", "group()", "group(0)")
        if call.startswith("re."):
            group = "group(0)"
        out = [
            f"{indent}{match} = {made}",
            f"{indent}{name} = 'none'",
            f"{indent}if {match} {found}:".replace(" :", ":"),
            f"{indent}    {name} = {match}.{group}",
        ]
        env[name] = Local("str")
        return out

    def walrus_statement(self, env: Env, indent: str) -> list[str]:
        kind, name, made = self.one(*SCALARS), self.fresh(), self.fresh()
        value = self.expr(kind, env, 2)
        within = copied(env) | {name: Local(kind)}
        if self.chance(2):
            other = self.expr(kind, within, 1)
            test = f"({name} := {value}) {self.one('==', '!=', '<', '>=')} {other}"
            env[name] = Local(kind)
            then = copied(env)
            body = self.block(then, 1, indent + "    ", 0)
            for n in env:
                env[n] = replace(env[n], optional=env[n].optional or then[n].optional)
            return [f"{indent}if {test}:", *body]
        env[name] = env[made] = Local(kind)
        return [f"{indent}{made} = [({name} := {value}), {name}][1]"]
