"""Turns statements into IR, and tracks where control goes and what is known of each local."""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import replace
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT, NONE
from featurekit.errors import CompileError
from featurekit.language.ir import (
    Assign,
    Both,
    Choose,
    Const,
    Either,
    Evaluate,
    Expr,
    Fail,
    If,
    IsNone,
    ListOf,
    Name,
    Statement,
)
from featurekit.language.parse.clocks import clock_of
from featurekit.language.parse.conditions import test_of
from featurekit.language.parse.context import (
    CLOCK,
    HELD,
    MISSING,
    PARTED,
    ZONED,
    Env,
    Match,
    Parsing,
    Zoned,
    join,
    mutates,
    narrowed,
)
from featurekit.language.parse.counts import changed_entry
from featurekit.language.parse.flow import assign, fork, kept
from featurekit.language.parse.functions import hinted
from featurekit.language.parse.guesses import Wrong, empties, may_be_float
from featurekit.language.parse.handlers import (
    STATEMENTS,
    Flow,
    Made,
    block,
    expression,
    handles,
    refuse,
    unconverted,
)
from featurekit.language.parse.helpers import fields_of, several
from featurekit.language.parse.instants import in_years, zoned_of
from featurekit.language.parse.kinds import NEVER, kind_of, known
from featurekit.language.parse.operators import call, coerce, comparand, element, no_none
from featurekit.language.parse.patterns import groups_of, match_of
from featurekit.language.parse.sequences import sequence, spelled_out, unconverted_list
from featurekit.language.parse.sets import begin_set, changed_set
from featurekit.language.parse.urls import in_parts, url_of
from featurekit.language.parse.usage import grown, why_not_grown

_ONLY_NAMES = ("only a name can be assigned", "write name = value")


@handles(STATEMENTS, ast.Assign)
def _assign(p: Parsing, node: ast.Assign, env: Env) -> Made:
    value = node.value
    match node.targets:
        case [ast.Name(id=name)]:
            if (match := match_of(p, value, env)) is not None:
                return _assign_match(p, name, match, env)
            if (zoned := zoned_of(p, value, env)) is not None:
                return _assign_zoned(p, name, value, zoned, env)
            if (url := url_of(p, value, env)) is not None:
                return _assign_url(p, name, value, url, env)
            if (clock := clock_of(p, value, env)) is not None:
                return _assign_clock(p, name, clock, env)
            if (held := _held(p, name, value, env)) is not None:
                return [], Flow({**env, name: held})
            begin_set(p, name, value, env)
            return assign(p, node, name, _assigned(p, name, value, env), env)
        case [ast.Tuple(elts=targets) | ast.List(elts=targets)]:
            return _unpack(p, node, targets, value, env)
        case [ast.Subscript()] if (made := changed_entry(p, node, env)) is not None:
            return made
        case [_, _, *_]:
            p.fail(node, "two targets in one assignment", "write two assignments")
    p.fail(node, *_ONLY_NAMES)


def _assigned(p: Parsing, name: str, value: ast.expr, env: Env) -> Expr:
    """The value that a local is given: an empty list of the type that the local has, and a choice
    between a float and a constant int as a float, where nothing can tell it from an int."""
    known = env.get(name)
    if isinstance(value, ast.List) and not value.elts and known is not None:
        return expression(p, value, env, known.type.base if known.type.item else None)
    numbers = isinstance(value, ast.IfExp) and any(
        isinstance(n, ast.Constant) and type(n.value) is int for n in (value.body, value.orelse)
    )
    if not numbers:
        return expression(p, value, env)
    try:
        return expression(p, value, dict(env))
    except CompileError as error:
        if not may_be_float(p.node, name, top=p.top):
            raise
        made = expression(p, value, env, FLOAT)
        if made.type.base != FLOAT:
            raise error from None
        p.guesses.floats |= {name}
        return made


def _held(p: Parsing, name: str, value: ast.expr, env: Env) -> Const | None:
    """The constant that a local stands for, where it is no value: a dict, a set or a pattern that
    stays as it is. None for anything else."""
    held = p.static(value, env)
    if not isinstance(held, (dict, set, frozenset, re.Pattern)) or not held:
        return None
    return None if mutates(p.node, name) else Const(held, HELD)


def _assign_match(p: Parsing, name: str, match: Match, env: Env) -> Made:
    out: list[Statement] = []
    text = kept(p, match.text, out)
    local = p.new_name(match.type)  # a name for the match, which is never read
    p.matches[local.name] = replace(match, text=text)
    return out, Flow({**env, name: local})


def _assign_url(p: Parsing, name: str, node: ast.expr, url: Expr, env: Env) -> Made:
    out: list[Statement] = []
    text = kept(p, url, out)
    out.append(in_parts(p, node, text))
    local = p.new_name(PARTED)
    p.urls[local.name] = text
    return out, Flow({**env, name: local})


def _assign_clock(p: Parsing, name: str, clock: Expr, env: Env) -> Made:
    out: list[Statement] = []
    held = kept(p, clock, out)
    local = p.new_name(CLOCK)
    p.clocks[local.name] = held
    return out, Flow({**env, name: local})


def _assign_zoned(p: Parsing, name: str, node: ast.expr, zoned: Zoned, env: Env) -> Made:
    out: list[Statement] = []
    instant = kept(p, zoned.instant, out)
    out.append(in_years(p, node, instant, zoned.zone))
    local = p.new_name(ZONED)
    p.zoned[local.name] = replace(zoned, instant=instant)
    return out, Flow({**env, name: local})


@handles(STATEMENTS, ast.AnnAssign)
def _declare(p: Parsing, node: ast.AnnAssign, env: Env) -> Made:
    if not isinstance(node.target, ast.Name):
        p.fail(node, *_ONLY_NAMES)
    if node.value is None:
        p.fail(node, "a declaration without a value", "assign a value here")
    name = node.target.id
    type_ = hinted(p, node.annotation, _annotated(p, node.annotation))
    made = unconverted(p, node.value, env, type_)
    what = f"the declared type of {name}"
    made = coerce(p, node.value, made, type_, what, convert=False)
    return assign(p, node, name, made, env)


@handles(STATEMENTS, ast.AugAssign)
def _augment(p: Parsing, node: ast.AugAssign, env: Env) -> Made:
    for reading in (_grow, changed_set, changed_entry):
        if (made := reading(p, node, env)) is not None:
            return made
    if not isinstance(node.target, ast.Name):
        p.fail(node, *_ONLY_NAMES)
    name = node.target.id
    read = ast.copy_location(ast.Name(name, ast.Load()), node.target)
    whole = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
    if name in env and env[name].type.item is not None:
        p.fail(node, f"{name} {_sign(node.op)}= changes a list", "assign a new list")
    return assign(p, node, name, expression(p, whole, env), env)


@handles(STATEMENTS, ast.Expr)
def _evaluate(p: Parsing, node: ast.Expr, env: Env) -> Made:
    for reading in (_grow, changed_set):
        if (made := reading(p, node, env)) is not None:
            return made
    match node.value:
        case ast.Constant(value=str()):
            return [], Flow(env)
    return [Evaluate(expression(p, node.value, env))], Flow(env)


@handles(STATEMENTS, ast.Pass)
def _pass(p: Parsing, node: ast.Pass, env: Env) -> Made:
    return [], Flow(env)


@handles(STATEMENTS, ast.Import, ast.ImportFrom)
def _import(p: Parsing, node: ast.Import | ast.ImportFrom, env: Env) -> Made:
    """An import of a module of the standard library that computes from its arguments alone, as if
    it stood at the top of the module."""
    modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    local = isinstance(node, ast.ImportFrom) and node.level > 0
    if local or any(m.partition(".")[0] not in _IMPORTED for m in modules):
        refuse(p, node, "", "")
    for alias in node.names:
        if isinstance(node, ast.Import):
            top = alias.name.partition(".")[0]
            found: Any = importlib.import_module(alias.name)
            held = found if alias.asname else importlib.import_module(top)
            name = alias.asname or top
        else:
            held = getattr(importlib.import_module(node.module or ""), alias.name, MISSING)
            name = alias.asname or alias.name
        p.captured.globals[name] = held
    return [], Flow(env)


_IMPORTED = (
    *("bisect", "collections", "datetime", "hashlib", "itertools", "math", "re", "statistics"),
    *("string", "unicodedata", "urllib", "zlib", "zoneinfo"),
)


@handles(STATEMENTS, ast.Assert)
def _assert(p: Parsing, node: ast.Assert, env: Env) -> Made:
    condition, if_true, _ = test_of(p, node.test, env)
    p.raising.append(node)
    return [If(condition, (), (Fail(),))], Flow(if_true)


@handles(STATEMENTS, ast.Raise)
def _raise(p: Parsing, node: ast.Raise, env: Env) -> Made:
    p.raising.append(node)
    return [Fail()], Flow(None)  # the call errs, whatever it raises (R3)


@handles(STATEMENTS, ast.If)
def _if(p: Parsing, node: ast.If, env: Env) -> Made:
    condition, if_true, if_false = test_of(p, node.test, env)
    if (answer := known(condition)) is not None:
        made, flow = block(p, node.body, if_true) if answer else block(p, node.orelse, if_false)
        return list(made), flow
    return fork(
        p,
        node.test,
        condition,
        lambda: block(p, node.body, if_true),
        lambda: block(p, node.orelse, if_false),
    )


def _grow(p: Parsing, node: ast.stmt, env: Env) -> Made | None:
    """`name.append(x)` as `name = name + [x]`; None for a statement that adds to no local list."""
    found = grown(node)
    if found is None or found[0] not in env or env[found[0]].type.name != "list":
        return None
    name, more = found
    params = {a.arg for a in ast.walk(p.node.args) if isinstance(a, ast.arg)}
    reason = why_not_grown(p.node, name, params)
    if reason is not None:
        p.fail(node, *reason)
    held = env[name]
    at = ast.copy_location(ast.Name(name, ast.Load()), node)
    added = unconverted_list(p, more, env, held.type)
    if added.type.base != held.type.base:
        item, wanted = added.type.item, held.type.item
        hint = f"add {wanted}, as in {wanted}(…), or begin with {name}: {added.type} = []"
        error = p.place.error(more, f"{name} is {held.type}, and this adds {item}", hint)
        places = [e for e in empties(p.node, name) if e in p.guesses.elements]
        if places and item is not None:
            raise Wrong(places, item, error)
        raise error
    made = call(p, at, "+", [at, more], [held, added])
    return assign(p, node, name, made, env)


def _annotated(p: Parsing, node: ast.expr) -> Any:
    try:
        return eval(compile(ast.Expression(node), p.place.filename, "eval"), p.captured.globals)
    except Exception as error:  # an annotation may be any expression, and raise anything
        p.fail(node, f"the annotation cannot be read: {error}", "write float, int, str …")


def _sign(op: ast.operator) -> str:
    return {"Add": "+", "Mult": "*"}.get(type(op).__name__, "")


# --- unpacking ------------------------------------------------------------------------------------


def _unpack(p: Parsing, node: ast.stmt, targets: list[ast.expr], value: ast.expr, env: Env) -> Made:
    """`a, b = x, y`; also from divmod, from a helper that returns several values, or from a
    list; and `a, *rest = values`."""
    if any(isinstance(t, ast.Starred) for t in targets):
        return _unpack_rest(p, node, targets, value, env)
    names = []
    for target in targets:
        if not isinstance(target, ast.Name):
            p.fail(target, "only plain names are unpacked into", "write a, b = …")
        names.append(target.id)
    out: list[Statement] = []
    values = _parts(p, value, len(names), env, out)
    if len(values) != len(names):
        p.fail(node, f"{len(names)} names for {len(values)} values", "name each one")
    held = [kept(p, v, out) for v in values]
    for name, part in zip(names, held, strict=True):
        made, flow = assign(p, node, name, part, env)
        out += made
        assert flow.env is not None
        env = flow.env
    return out, Flow(env)


def _unpack_rest(
    p: Parsing, node: ast.stmt, targets: list[ast.expr], value: ast.expr, env: Env
) -> Made:
    """`first, *rest, last = values`: the elements at both ends, and the list of the others."""
    inner = [t.value if isinstance(t, ast.Starred) else t for t in targets]
    stars = [i for i, t in enumerate(targets) if isinstance(t, ast.Starred)]
    if len(stars) > 1 or not all(isinstance(t, ast.Name) for t in inner):
        p.fail(node, "only plain names are unpacked into", "write a, *rest = …")
    out: list[Statement] = []
    whole = kept(p, sequence(p, value, env), out)
    before, after = stars[0], len(targets) - stars[0] - 1
    at = [value, value]
    length = call(p, value, "len", [value], [whole])
    enough = call(p, value, ">=", at, [length, Const(before + after, INT)])
    out.append(If(enough, (), (Fail(),)))
    start = Const(before, INT)
    if after:
        rest = call(p, value, "slice", [*at, value], [whole, start, Const(-after, INT)])
    else:
        rest = call(p, value, "slice.from", at, [whole, start])
    parts = [_item(p, value, whole, i) for i in range(before)]
    parts += [rest, *(_item(p, value, whole, i - after) for i in range(after))]
    held = [kept(p, part, out) for part in parts]
    for target, part in zip(inner, held, strict=True):
        assert isinstance(target, ast.Name)
        made, flow = assign(p, node, target.id, part, env)
        out += made
        assert flow.env is not None
        env = flow.env
    return out, Flow(env)


def _parts(p: Parsing, node: ast.expr, count: int, env: Env, out: list[Statement]) -> list[Expr]:
    """The values that unpacking `node` gives. What they have in common is evaluated in `out`."""
    match node:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [expression(p, e, env) for e in elements]
        case ast.Call(func=ast.Name(id="divmod"), args=[a, b], keywords=[]) if p.is_builtin(
            "divmod", env
        ):
            left = kept(p, expression(p, a, env), out)
            right = kept(p, expression(p, b, env), out)
            return [call(p, node, op, [a, b], [left, right]) for op in ("//", "%")]
        case ast.Call() if (groups := groups_of(p, node, env)) is not None:
            return groups
        case ast.Call() if (fields := several(p, node, env)) is not None:
            return fields_of(p, node, fields, env, out)
    held = p.static(node, env)
    if isinstance(held, tuple):
        return [p.constant(node, h) for h in held]
    node = spelled_out(p, node, env)
    generated = isinstance(node, ast.GeneratorExp)
    made = sequence(p, node, env) if generated else expression(p, node, env)
    if isinstance(made, ListOf) and len(made.items) == count:
        return list(made.items)
    whole = kept(p, made, out)
    no_none(p, node, whole)
    if whole.type.name != "list":
        p.fail(node, f"{whole.type} is not unpacked", "unpack a tuple or a list")
    length = call(p, node, "len", [node], [whole])
    fits = call(p, node, "==", [node, node], [length, Const(count, INT)])
    out.append(If(fits, (), (Fail(),)))
    return [_item(p, node, whole, i) for i in range(count)]


def _item(p: Parsing, node: ast.expr, whole: Expr, i: int) -> Expr:
    if whole.type.item is not None and whole.type.item.optional:
        return element(p, node, whole, Const(i, INT))
    return call(p, node, "getitem", [node, node], [whole, Const(i, INT)])


# --- match ----------------------------------------------------------------------------------------


@handles(STATEMENTS, ast.Match)
def _match(p: Parsing, statement: ast.Match, env: Env) -> Made:
    """`match` on literals and classes, as tests one after the other."""
    node = statement.subject
    if isinstance(node, ast.Tuple):
        return _match_tuple(p, node, statement.cases, env)
    out: list[Statement] = []
    subject = comparand(p, node, env)
    if subject.type == NONE:
        p.fail(node, "None is always None", "match a parameter or a local")
    name: str | None = None
    if isinstance(node, ast.Name) and isinstance(subject, Name) and env.get(node.id) == subject:
        name = node.id
    else:
        subject = kept(p, subject, out)
        if isinstance(subject, Name):
            name = subject.name  # the name stands in no source, but narrowing uses it
            env = {**env, name: subject}
    if not isinstance(subject, Name):
        p.fail(node, "a constant is matched", "write the branch that it takes")
    made, flow = _cases(p, node, name or "", statement.cases, env)
    return [*out, *made], flow


def _cases(p: Parsing, node: ast.expr, name: str, cases: list[ast.match_case], env: Env) -> Made:
    if not cases:
        return [], Flow(env)
    case, *rest = cases
    subject = env[name]
    assert isinstance(subject, Name)
    test, if_true, if_false, binds = _pattern_test(p, case.pattern, node, name, env)
    if test is not None and known(test) is False:
        return _cases(p, node, name, rest, env)
    if test is not None and known(test) and case.guard is None:
        test, rest = None, []  # its type fits: no row gets to another case
    if binds is not None:
        if case.guard is not None and binds in env:
            p.fail(case.guard, f"{binds} is bound even where the guard is false", "rename it")
        if_true = {**if_true, binds: if_true[name]}
    if case.guard is not None:
        guard, if_true, guard_false = test_of(p, case.guard, dict(if_true))
        guard_false.pop(binds or "", None)
        if test is None:
            test, if_false = guard, guard_false
        else:
            test, if_false = Both(test, guard, BOOL), join(if_false, guard_false)

    def then() -> tuple[tuple[Statement, ...], Flow]:
        if binds is None:
            return block(p, case.body, if_true)
        local = if_true[binds]
        bound: list[Statement] = [Assign(binds, local)]
        made, flow = block(p, case.body, {**if_true, binds: Name(binds, local.type)})
        return (*bound, *made), flow

    if test is None:
        if rest:
            p.fail(rest[0].pattern, "a case after one that takes everything", "leave it out")
        made, flow = then()
        return list(made), flow

    def other() -> tuple[tuple[Statement, ...], Flow]:
        made, flow = _cases(p, node, name, rest, if_false)
        return tuple(made), flow

    return fork(p, case.pattern, test, then, other)


def _match_tuple(p: Parsing, node: ast.Tuple, cases: list[ast.match_case], env: Env) -> Made:
    """`match (a, b)` on tuples of patterns: a test of each part, from the left."""
    out: list[Statement] = []
    names: list[str] = []
    for part in node.elts:
        held = kept(p, comparand(p, part, env), out)
        if not isinstance(held, Name):
            p.fail(part, "a constant is matched", "leave it out")
        if isinstance(part, ast.Name) and env.get(part.id) == held:
            names.append(part.id)
        else:
            names.append(held.name)
            env = {**env, held.name: held}
    made, flow = _tuple_cases(p, node, names, cases, env)
    return [*out, *made], flow


def _tuple_cases(
    p: Parsing, node: ast.Tuple, names: list[str], cases: list[ast.match_case], env: Env
) -> Made:
    if not cases:
        return [], Flow(env)
    case, *rest = cases
    test, if_true, bound = _tuple_test(p, case.pattern, node, names, env)
    if case.guard is not None:
        if any(b in env for b in bound):
            p.fail(case.guard, "a name is bound even where the guard is false", "rename it")
        guard, if_true, _ = test_of(p, case.guard, dict(if_true))
        test = guard if test is None else Both(test, guard, BOOL)

    def then() -> tuple[tuple[Statement, ...], Flow]:
        made = tuple(Assign(b, if_true[b]) for b in bound)
        inner = {**if_true, **{b: Name(b, if_true[b].type) for b in bound}}
        body, flow = block(p, case.body, inner)
        return (*made, *body), flow

    if test is None:
        if rest:
            p.fail(rest[0].pattern, "a case after one that takes everything", "leave it out")
        body, flow = then()
        return list(body), flow
    if test is NEVER:
        return _tuple_cases(p, node, names, rest, env)

    def other() -> tuple[tuple[Statement, ...], Flow]:
        made, flow = _tuple_cases(p, node, names, rest, dict(env))
        return tuple(made), flow

    return fork(p, case.pattern, test, then, other)


def _tuple_test(
    p: Parsing, pattern: ast.pattern, node: ast.Tuple, names: list[str], env: Env
) -> tuple[Expr | None, Env, list[str]]:
    """The test of a tuple's pattern (None where it takes everything), the locals where it is true,
    and the names that it binds."""
    match pattern:
        case ast.MatchAs(pattern=None, name=None):
            return None, dict(env), []
        case ast.MatchSequence(patterns=parts) if len(parts) == len(names) and not any(
            isinstance(part, ast.MatchStar) for part in parts
        ):
            pass
        case _:
            p.fail(
                pattern,
                f"a pattern of {len(names)} values",
                f"write case ({', '.join('_' * len(names))}):",
            )
    test: Expr | None = None
    if_true = dict(env)
    bound: list[str] = []
    for part, at, name in zip(parts, node.elts, names, strict=True):
        made, there, _, binds = _pattern_test(p, part, at, name, if_true)
        if made is NEVER:
            return NEVER, dict(env), []
        if_true = {**there, binds: there[name]} if binds is not None else there
        bound += [binds] if binds is not None else []
        if made is not None and not known(made):
            test = made if test is None else Both(test, made, BOOL)
    return test, if_true, bound


def _pattern_test(
    p: Parsing, pattern: ast.pattern, node: ast.expr, name: str, env: Env
) -> tuple[Expr | None, Env, Env, str | None]:
    """A pattern's test (None where it takes everything), the locals where it is true and where it
    is false, and the name that it binds."""
    subject = env[name]
    assert isinstance(subject, Name)
    match pattern:
        case ast.MatchAs(pattern=None, name=None):
            return None, dict(env), dict(env), None
        case ast.MatchAs(pattern=None, name=str(bound)):
            return None, dict(env), dict(env), bound
        case ast.MatchSingleton(value=None):
            return IsNone(subject, BOOL), dict(env), narrowed(env, name), None
        case ast.MatchSingleton(value=bool(value)):
            if subject.type.base != BOOL:
                p.fail(pattern, f"{value} is matched by identity", "match a bool, or use if")
            test = _equals(p, pattern, node, subject, Const(value, BOOL))
            return test, narrowed(env, name), dict(env), None
        case ast.MatchValue(value=value):
            held = p.static(value, env)
            if held is MISSING:
                p.fail(value, "a pattern that is no constant", "use if and ==")
            test = _equals(p, value, node, subject, p.constant(value, held))
            return test, narrowed(env, name), dict(env), None
        case ast.MatchClass(cls=cls, patterns=inner, kwd_attrs=[]) if len(inner) < 2:
            test, if_true, if_false = kind_of(p, pattern, name, cls, env)
            match inner:
                case []:
                    return test, if_true, if_false, None
                case [ast.MatchAs(pattern=None) as capture]:
                    return test, if_true, if_false, capture.name
            p.fail(pattern, "a pattern inside a class", "write case int(): or case int(n):")
        case ast.MatchOr(patterns=patterns):
            either, if_true, if_false, _ = _pattern_test(p, patterns[0], node, name, env)
            for one in patterns[1:]:
                # It is tried where the patterns before it did not match.
                more, right_true, if_false, _ = _pattern_test(p, one, node, name, if_false)
                if more is None or either is None:
                    p.fail(one, "a name among alternatives", "write `case _` last")
                if_true = join(if_true, right_true)
                either = Either(either, more, BOOL)
            return either, if_true, if_false, None
        case _:
            p.fail(
                pattern,
                "a pattern that takes values apart",
                "match literals, None, classes as int(), and _; of a tuple, each part so",
            )


def _equals(p: Parsing, at: ast.AST, node: ast.expr, subject: Name, value: Const) -> Expr:
    """Whether the subject equals a literal; None equals none of them."""

    def test(name: Name) -> Expr:
        place = at if isinstance(at, ast.expr) else node
        return call(p, place, "==", [node, place], [name, value])

    if not subject.type.optional:
        return test(subject)
    base = Name(subject.name, subject.type.base)
    return Choose(IsNone(subject, BOOL), Const(False, BOOL), test(base), BOOL)
