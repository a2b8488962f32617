"""Lists: what a loop or a comprehension runs over, and the functions that take lists whole."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type, list_of
from featurekit.language import ops
from featurekit.language.ir import Both, Choose, Const, Each, Either, Expr, ListOf, Name, Rows, Zip
from featurekit.language.parse.conditions import balanced
from featurekit.language.parse.instants import Instants
from featurekit.language.parse.operators import as_float
from featurekit.language.parse.places import MISSING, Env, Local

MOST_ROWS = 1000
"""Of a loop over constants; more belongs into data."""


@dataclass(frozen=True, slots=True)
class _Column:
    """One of the things that a loop steps through: a list, constants, or the number of the step."""

    values: Expr | None = None
    constants: tuple[Expr, ...] | None = None
    start: int | None = None


_Shape = _Column | list[Any]  # a list of shapes: what zip and enumerate give


@dataclass(frozen=True, slots=True)
class Loop:
    """What runs over what: for each name of the target its type, and the rows or lists."""

    names: tuple[tuple[str, Type], ...]
    over: Zip | Rows


class Lists(Instants):
    """Loops over lists and constants, in expressions."""

    in_comprehension: int = 0

    # --- what a loop runs over --------------------------------------------------------------------

    def loop(self, target: ast.expr, source: ast.expr, env: Env) -> Loop:
        """The names of a `for` and what they run over."""
        pairs = self.matched(target, self.shape(source, env))
        lists = [c.values for _, c in pairs if c.values is not None]
        if not lists:
            return self.constant_loop(source, pairs)
        names: list[tuple[str, Type]] = []
        sources: list[Expr] = []
        starts = [(n, c.start) for n, c in pairs if c.start is not None]
        if len(starts) > 1:
            self.fail(source, "two enumerate() in one loop", "number the steps once")
        for name, column in pairs:
            values = column.values
            if column.start is not None:
                if values is not None:  # range(len(values)): the values themselves are not read
                    assert values.type.item is not None
                    names.append((self.new_name(INT).name, values.type.item))
                    sources.append(values)
                continue
            if values is None:
                assert column.constants is not None
                values = self.list_display(source, list(column.constants))
            assert values.type.item is not None
            names.append((name, values.type.item))
            sources.append(values)
        if starts:
            names.insert(0, (starts[0][0], INT))
        return Loop(tuple(names), Zip(tuple(sources), starts[0][1] if starts else None))

    def constant_loop(self, source: ast.expr, pairs: list[tuple[str, _Column]]) -> Loop:
        columns = [c.constants for _, c in pairs if c.constants is not None]
        count = min(map(len, columns))
        if count > MOST_ROWS:
            self.fail(source, f"a loop of {count} constant steps", f"at most {MOST_ROWS}")
        rows: list[tuple[Expr, ...]] = []
        for i in range(count):
            row: list[Expr] = []
            for _, column in pairs:
                if column.constants is None:
                    assert column.start is not None
                    row.append(Const(column.start + i, INT))
                else:
                    row.append(column.constants[i])
            rows.append(tuple(row))
        names = []
        for p, (name, _) in enumerate(pairs):
            types = list(dict.fromkeys(row[p].type.base for row in rows if row[p].type != NONE))
            if len(types) > 1:
                shown = " and ".join(map(str, types))
                self.fail(source, f"{name} is {shown} in turn", "give the constants one type")
            if not types and rows:
                self.fail(source, f"{name} is always None", "use values")
            type_ = types[0] if types else INT
            if any(row[p].type.optional for row in rows):
                type_ = type_.or_none()
                rows = [
                    (*r[:p], Const(None, type_) if r[p].type == NONE else r[p], *r[p + 1 :])
                    for r in rows
                ]
            names.append((name, type_))
        return Loop(tuple(names), Rows(tuple(rows)))

    def matched(self, target: ast.expr, shape: _Shape) -> list[tuple[str, _Column]]:
        """Each name of a target with its column."""
        match target:
            case ast.Name(id=name):
                if isinstance(shape, list):
                    self.fail(
                        target,
                        f"{name} would be a tuple",
                        f"name its {len(shape)} parts, as in `for {_letters(len(shape))} in …`",
                    )
                return [(name, shape)]
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                if not isinstance(shape, list) or len(shape) != len(targets):
                    found = len(shape) if isinstance(shape, list) else "one"
                    self.fail(target, f"{len(targets)} names for {found}", "name each part")
                pairs: list[tuple[str, _Column]] = []
                for inner, part in zip(targets, shape, strict=True):
                    pairs += self.matched(inner, part)
                names = [n for n, _ in pairs]
                # The same name twice (`_`) holds the last; only a name may be thrown away.
                for i, (name, column) in enumerate(pairs):
                    if name in names[i + 1 :]:
                        pairs[i] = (self.new_name(INT).name, column)
                return pairs
            case _:
                self.fail(target, "a loop binds names", "write `for x in …`")

    def shape(self, source: ast.expr, env: Env) -> _Shape:
        """What a loop over `source` gives at each step."""
        match source:
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name in (
                "range",
                "zip",
                "enumerate",
                "reversed",
            ) and self.is_builtin(name, env):
                if keywords and name != "enumerate":
                    loose = name == "zip" and self.static(keywords[0].value, env) is False
                    if not loose or keywords[0].arg != "strict":
                        self.fail(keywords[0], f"a keyword argument of {name}()", "leave it out")
                match name:
                    case "range":
                        return self.range(source, arguments, env)
                    case "zip" if arguments:
                        return [self.shape(a, env) for a in arguments]
                    case "enumerate" if arguments:
                        given = [*arguments[1:], *(k.value for k in keywords)]
                        start = self.static(given[0], env) if given else 0
                        if type(start) is not int:
                            self.fail(given[0], "enumerate() from a computed start", "add it later")
                        return [_Column(start=start), self.shape(arguments[0], env)]
                    case "reversed" if len(arguments) == 1:
                        inner = self.shape(arguments[0], env)
                        if isinstance(inner, _Column) and inner.constants is not None:
                            return _Column(constants=inner.constants[::-1])
                        if (
                            isinstance(inner, _Column)
                            and inner.values is not None
                            and inner.start is None
                        ):
                            turned = self.call(source, "reversed", arguments, [inner.values])
                            return _Column(values=turned)
                        self.fail(source, "reversed() of pairs", "reverse each list: zip(a[::-1])")
                self.fail(source, f"{name}() of nothing", "pass what it runs over")
            case ast.Call(func=function, args=[inner_node], keywords=[]) if (
                isinstance(function, (ast.Name, ast.Attribute))
                and self.static(function, env) is itertools.pairwise
            ):
                whole = self.shape(inner_node, env)
                if not isinstance(whole, _Column) or whole.start is not None:
                    self.fail(source, "pairwise() of tuples", "zip the lists that you need")
                if whole.constants is not None:
                    return [whole, _Column(constants=whole.constants[1:])]
                assert whole.values is not None
                later = self.call(source, "slice.from", [source] * 2, [whole.values, Const(1, INT)])
                return [whole, _Column(values=later)]
            case ast.Call(
                func=ast.Attribute(value=receiver, attr="items" | "keys" | "values" as part),
                args=[],
            ) if isinstance(held := self.static(receiver, env), dict):
                if part == "items":
                    return self.constants(source, [tuple(item) for item in held.items()])
                return self.constants(source, list(held if part == "keys" else held.values()))
            case ast.Call(
                func=ast.Attribute(value=receiver, attr="items"), args=[], keywords=[]
            ) if self.static(receiver, env) is MISSING:
                counts = self.expression(receiver, env)
                self.no_none(receiver, counts)
                if counts.type.name != "dict":
                    self.fail(source, f"{counts.type} has no items()", "loop over the list itself")
                return [
                    _Column(values=self.call(source, f"dict.{part}", [receiver], [counts]))
                    for part in ("keys", "values")
                ]
            case ast.Tuple(elts=elements) | ast.List(elts=elements) if (
                self.static(source, env) is MISSING and elements
            ):
                made = [self.expression(e, env) for e in elements]
                if all(isinstance(v, (Const, Name)) for v in made):
                    return _Column(constants=tuple(made))
                return _Column(values=self.list_display(source, made))
        held = self.static(source, env)
        if isinstance(held, (tuple, list, dict)):
            return self.constants(source, list(held))
        if isinstance(held, (set, frozenset)):
            self.fail(source, "a set has no order", "use a tuple")
        values = self.sequence(source, env)
        return _Column(values=values)

    def constants(self, node: ast.expr, held: list[Any]) -> _Shape:
        if held and all(isinstance(h, tuple) for h in held):
            width = len(held[0])
            if any(len(h) != width for h in held):
                self.fail(node, "tuples of different lengths", "give each the same parts")
            return [self.constants(node, [h[i] for h in held]) for i in range(width)]
        return _Column(constants=tuple(self.constant(node, h) for h in held))

    def range(self, node: ast.expr, arguments: list[ast.expr], env: Env) -> _Shape:
        """A range of constants, or the indices of a list."""
        match arguments:
            case [ast.Call(func=ast.Name(id="len"), args=[inner], keywords=[])] if (
                self.is_builtin("len", env) and self.static(inner, env) is MISSING
            ):
                column = self.shape(inner, env)
                if isinstance(column, _Column) and column.values is not None:
                    return _indices(column)
        values = [self.static(a, env) for a in arguments]
        if not values or any(type(v) is not int for v in values):
            at = next(
                (a for a, v in zip(arguments, values, strict=True) if type(v) is not int), node
            )
            self.fail(
                at,
                f"a range to {ast.unparse(at)}, which only the data knows, may not end",
                "loop over a list, over range(12) with a break, or over range(len(values))",
            )
        if len(values) > 3 or (len(values) == 3 and values[2] == 0):
            self.fail(node, "range() takes a start, a stop and a step that is not 0", "correct it")
        whole = range(*values)
        if len(whole) > MOST_ROWS:
            self.fail(node, f"a loop of {len(whole)} constant steps", f"at most {MOST_ROWS}")
        return _Column(constants=tuple(Const(i, INT) for i in whole))

    def is_builtin(self, name: str, env: Env) -> bool:
        return name not in env and name not in self.globals

    def call_node(self, node: ast.Call, env: Env, expect: Type | None) -> Expr:
        if self.static(node.func, env) is math.hypot and not node.keywords:
            match node.args:
                case [ast.Starred(value=starred)]:
                    made = self.sequence(starred, env, FLOAT)
                    return self.call(node, "math.hypot*", [starred], [made])
                case [_] | [_, _, _, *_] if not any(isinstance(a, ast.Starred) for a in node.args):
                    parts = [as_float(self.expression(a, env)) for a in node.args]
                    for at, part in zip(node.args, parts, strict=True):
                        self.no_none(at, part)
                    whole = self.list_display(node, parts, FLOAT)
                    return self.call(node, "math.hypot*", [node], [whole])
        return super().call_node(node, env, expect)

    # --- lists as values --------------------------------------------------------------------------

    def spelled_out(self, node: ast.expr, env: Env) -> ast.expr:
        """`map(f, values)` and `filter(f, values)` as the generator that they are."""
        match node:
            case ast.Call(func=ast.Name(id="map" | "filter" as name), args=[f, *given]) if (
                self.is_builtin(name, env)
                and not node.keywords
                and (len(given) == 1 or (given and name == "map"))
            ):
                pass
            case _:
                return node
        names = [f"_each{i}" for i in range(len(given))]
        each: list[ast.expr] = [ast.Name(n, ast.Load()) for n in names]
        made: ast.expr
        match f:
            case ast.Constant(value=None) if name == "filter":
                made = each[0]
            case ast.Lambda(args=ast.arguments(args=params), body=body) if len(params) == len(each):
                names = [p.arg for p in params]
                each = [ast.Name(n, ast.Load()) for n in names]
                made = body
            case ast.Attribute(value=ast.Name(id="str"), attr=method) if self.is_builtin(
                "str", env
            ):
                made = ast.Call(ast.Attribute(each[0], method, ast.Load()), each[1:], [])
            case _:
                made = ast.Call(f, each, [])
        targets: list[ast.expr] = [ast.Name(n, ast.Store()) for n in names]
        target = targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())
        values = given[0]
        if len(given) > 1:
            values = ast.Call(ast.Name("zip", ast.Load()), given, [])
        element, tests = (each[0], [made]) if name == "filter" else (made, [])
        generator = ast.GeneratorExp(element, [ast.comprehension(target, values, tests, 0)])
        for part in ast.walk(generator):
            if not hasattr(part, "lineno"):
                ast.copy_location(part, node)
        return generator

    def sequence(self, node: ast.expr, env: Env, item: Type | None = None) -> Expr:
        """A list's value, where a list is read: constants in a tuple serve as well."""
        node = self.spelled_out(node, env)
        held = self.static(node, env)
        if isinstance(held, (tuple, list)):
            return self.list_display(node, [self.constant(node, h, item) for h in held], item)
        if isinstance(node, ast.GeneratorExp):
            return self.comprehension(node, env, item)
        if isinstance(node, (ast.Tuple, ast.List)):
            made = [self.expression(e, env, item) for e in node.elts]
            return self.list_display(node, made, item)
        match node:
            case ast.Call(func=ast.Name(id="reversed"), args=[inner], keywords=[]) if (
                self.is_builtin("reversed", env)
            ):
                return self.call(node, "reversed", [inner], [self.sequence(inner, env, item)])
        value = self.expression(node, env)
        self.no_none(node, value)
        if value.type.name == "str":
            return self.call(node, "list", [node], [value])
        if value.type.item is None:
            self.fail(node, f"{value.type} is no list", "pass a list[T]")
        # To run over a dict is to run over its keys.
        return self.call(node, "dict.keys", [node], [value]) if value.type.name == "dict" else value

    def is_reversed(self, node: ast.expr, env: Env) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="reversed"), args=[_], keywords=[]):
                return self.is_builtin("reversed", env)
        return False

    def argument(self, node: ast.expr, env: Env) -> Expr:
        node = self.spelled_out(node, env)
        generated = isinstance(node, ast.GeneratorExp) or self.is_reversed(node, env)
        if generated or isinstance(self.static(node, env), tuple):
            return self.sequence(node, env)
        return self.expression(node, env)

    def list_display(self, node: ast.AST, items: list[Expr], item: Type | None = None) -> Expr:
        """`[a, b, c]`."""
        types = list(dict.fromkeys(i.type.base for i in items if i.type != NONE))
        if not types and item is None:
            self.fail(node, "a list without elements has no type", "declare it, as in list[float]")
        if len(types) > 1:
            shown = " and ".join(map(str, types))
            self.fail(node, f"a list of {shown}", "give its elements one type")
        base = types[0] if types else item
        assert base is not None
        if any(i.type.optional for i in items):
            base = base.or_none()
        made = tuple(Const(None, base) if i.type == NONE else i for i in items)
        return ListOf(made, list_of(base))

    def comprehension(
        self, node: ast.ListComp | ast.GeneratorExp, env: Env, item: Type | None = None
    ) -> Expr:
        """`[element for x in values if test]` as a list."""
        return self.each(node, node.generators, node.elt, "list", env, item)

    def each(
        self,
        node: ast.expr,
        generators: list[ast.comprehension],
        element: ast.expr,
        kind: str,
        env: Env,
        item: Type | None = None,
    ) -> Expr:
        first, *more = generators
        if first.is_async:
            self.fail(node, "an async comprehension", "write a plain one")
        loop = self.loop(first.target, first.iter, env)
        self.in_comprehension += 1
        try:
            return self.each_of(node, first, more, element, kind, loop, env, item)
        finally:
            self.in_comprehension -= 1

    def each_of(
        self,
        node: ast.expr,
        first: ast.comprehension,
        more: list[ast.comprehension],
        element: ast.expr,
        kind: str,
        loop: Loop,
        env: Env,
        item: Type | None,
    ) -> Expr:
        def inner(locals_: Env) -> tuple[Expr | None, Expr]:
            test: Expr | None = None
            for condition in first.ifs:
                made, locals_, _ = self.condition(condition, dict(locals_))
                test = made if test is None else Both(test, made, BOOL)
            if more:
                return test, self.each(node, more, element, kind, locals_, item)
            if kind in ("any", "all"):
                return test, self.condition(element, dict(locals_))[0]
            value = self.expression(element, dict(locals_), item)
            if value.type == NONE:
                self.fail(element, "a list of None alone", "give it values")
            return test, value

        if isinstance(loop.over, Rows):
            rows: list[tuple[Expr | None, Expr]] = []
            for row in loop.over.rows:
                bound: dict[str, Local] = {}
                for (name, _), one in zip(loop.names, row, strict=True):
                    assert isinstance(one, (Const, Name))
                    bound[name] = one
                rows.append(inner({**env, **bound}))
            if kind in ("any", "all"):
                return _folded(kind, rows)
            if all(test is None for test, _ in rows) and not more:
                return self.list_display(node, [v for _, v in rows], item)
            as_lists = [
                self.list_display(first.iter, [row[p] for row in loop.over.rows], type_)
                for p, (_, type_) in enumerate(loop.names)
            ]
            if not as_lists:
                self.fail(first.iter, "a loop over nothing", "leave it out")
            loop = Loop(loop.names, Zip(tuple(as_lists)))
        assert isinstance(loop.over, Zip)
        renamed = {name: self.new_name(type_) for name, type_ in loop.names}
        test, value = inner({**env, **renamed})
        names = tuple(renamed[n].name for n, _ in loop.names)
        if kind in ("any", "all"):
            return Each(kind, names, loop.over, test, value, BOOL)
        flat = bool(more)
        type_ = value.type if flat else list_of(value.type)
        return Each("flat" if flat else "list", names, loop.over, test, value, type_)

    # --- functions of lists -----------------------------------------------------------------------

    def builtin(self, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
        if name in ("any", "all", "sum", "min", "max", "sorted", "len", "list", "tuple"):
            alone = len(node.args) == 1
            if name == "sum" and len(node.args) == 2 and self.static(node.args[1], env) in (0, 0.0):
                alone = True  # a start of 0.0 makes the sum of no floats a float, in Python too
            if alone and name != "len" and not (name == "sorted" and self.is_set(node)):
                return self.of_list(node, name, env, expect)
            if alone and isinstance(held := self.static(node.args[0], env), (tuple, list, dict)):
                return Const(len(held), INT)
        if name in ("len", "sorted") and len(node.args) == 1 and not node.keywords:
            elements = self.set_of(node.args[0], env)
            if elements is not None:
                return self.call(node, f"set.{name}", node.args, [elements])
        if name in ("range", "zip", "enumerate", "reversed"):
            self.fail(node, f"{name}() outside a loop", f"write `for x in {name}(…)`")
        return super().builtin(node, name, env, expect)

    def is_set(self, node: ast.Call) -> bool:
        match node.args[0]:
            case ast.SetComp() | ast.Call(func=ast.Name(id="set")):
                return not node.keywords
        return False

    def set_of(self, node: ast.expr, env: Env) -> Expr | None:
        """The elements of `set(values)` and of a set comprehension, as a list."""
        match node:
            case ast.Call(func=ast.Name(id="set"), args=[values], keywords=[]) if self.is_builtin(
                "set", env
            ):
                made = self.sequence(values, env)
            case ast.SetComp(generators=generators, elt=element):
                made = self.each(node, generators, element, "list", env)
            case _:
                return None
        if made.type.item == FLOAT:
            reason = "a set of floats, in which Python finds a NaN by its identity"
            self.fail(node, reason, "make them ints, as in round(100 * v)")
        return made

    def of_list(self, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
        argument = self.spelled_out(node.args[0], env)
        if name in ("any", "all"):
            # A list is made whole before any() sees it; a generator stops where it is decided.
            if isinstance(argument, ast.GeneratorExp):
                return self.each(argument, argument.generators, argument.elt, name, env)
            target = ast.copy_location(ast.Name("each", ast.Store()), argument)
            loop = self.loop(target, argument, env)
            if isinstance(loop.over, Rows):
                return _folded(name, [(None, self.truth(argument, r[0])) for r in loop.over.rows])
            each = self.new_name(loop.names[0][1])
            return Each(name, (each.name,), loop.over, None, self.truth(argument, each), BOOL)
        item = expect.base if expect is not None and name == "sum" else None
        if expect is not None and name in ("list", "sorted", "tuple") and expect.item is not None:
            item = expect.item
        values = self.sequence(argument, env, item)
        if name in ("list", "tuple"):
            self.no_list(node, name)
            return values
        if node.keywords:
            return self.of_list_with(node, name, argument, values, env)
        return self.call(node, name, [argument], [values])

    def of_list_with(
        self, node: ast.Call, name: str, argument: ast.expr, values: Expr, env: Env
    ) -> Expr:
        """`min(values, default=…)` and `sorted(values, reverse=True)`."""
        (keyword, *others) = node.keywords
        if not others and name in ("min", "max") and keyword.arg == "default":
            default = self.expression(keyword.value, env)

            def least(held: Local) -> Expr:
                empty = self.call(node, "==", [node, node], [
                    self.call(node, "len", [node], [held]), Const(0, INT)
                ])  # fmt: skip
                return self.named(
                    default,
                    lambda d: self.choose(
                        node, empty, d, self.call(node, name, [argument], [held]), None
                    ),
                )

            return self.named(values, least)
        if not others and name == "sorted" and keyword.arg == "reverse":
            reverse = self.static(keyword.value, env)
            if reverse is False:
                return self.call(node, name, [argument], [values])
            if reverse is True and "sorted_reverse" in ops.BY_NAME:
                return self.call(node, "sorted_reverse", [argument], [values])
        self.fail(keyword, f"{keyword.arg}= of {name}()", f"write {name}(values)")


def _indices(column: _Column) -> _Shape:
    """`range(len(values))`: the numbers of the steps of a loop over the values."""
    assert column.values is not None
    return _Column(values=column.values, start=0)


def _folded(kind: str, rows: Sequence[tuple[Expr | None, Expr]]) -> Expr:
    """`any` or `all` of so many elements, each with its test."""
    if not rows:
        return Const(kind == "all", BOOL)
    if kind == "any":
        return balanced(Either, [v if t is None else Both(t, v, BOOL) for t, v in rows])
    true = Const(True, BOOL)
    return balanced(Both, [v if t is None else Choose(t, v, true, BOOL) for t, v in rows])


def _letters(count: int) -> str:
    return ", ".join("abcdefghij"[:count])
