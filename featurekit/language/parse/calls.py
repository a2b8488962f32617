"""Calls: operators by their names, and other functions, which are inlined."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import sys
import types as pytypes
from collections.abc import Sequence
from typing import Any, NoReturn

from featurekit.core.types import BOOL, FLOAT, INT, NONE, Type
from featurekit.language import ops
from featurekit.language.ir import Apply, Const, Either, Expr, Function, Name
from featurekit.language.ops.table import Own
from featurekit.language.parse.conditions import balanced
from featurekit.language.parse.places import MISSING, Env, is_method
from featurekit.language.parse.tables import Tables
from featurekit.language.parse.unlisted import why_not
from featurekit.language.transform import Transform


class Calls(Tables):
    """What a call calls."""

    stack: tuple[Any, ...] = ()
    inlined: dict[Any, Function]

    def call_node(self, node: ast.Call, env: Env, expect: Type | None) -> Expr:
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                self.fail(argument, "a starred argument", "write the arguments out")
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(keyword, "a ** argument", "write the arguments out")
        match node.func:
            case ast.Name(id=name) if name in env:
                self.fail(node, f"{name} is a value, no function", "rename one of the two")
            case ast.Name(id=name):
                known = self.globals.get(name, MISSING)
                if known is MISSING:
                    return self.builtin(node, name, env, expect)
                return self.call_known(node, name, known, env, expect)
            case ast.Attribute(value=receiver, attr=attribute):
                held = self.static(receiver, env)
                if isinstance(held, dict):
                    return self.dict_method(node, held, attribute, env, expect)
                if isinstance(held, pytypes.ModuleType):
                    known = getattr(held, attribute, MISSING)
                    if known is MISSING:
                        self.no_attribute(node, held, attribute)
                    return self.call_known(node, f"{held.__name__}.{attribute}", known, env, expect)
                if isinstance(held, type):
                    self.no_clock(node, f"{held.__name__}.{attribute}")
                    return self.operator(node, f"{held.__name__}.{attribute}", [], node.args, env)
                return self.method(node, receiver, attribute, env)
            case _:
                self.fail(node, "a call of something computed", "call a function by its name")

    def dict_method(
        self, node: ast.Call, held: dict[Any, Any], name: str, env: Env, expect: Type | None
    ) -> Expr:
        if name != "get":
            self.fail(
                node, f"a dict's {name}() here", "use TABLE[key], TABLE.get(key, default) or `in`"
            )
        return self.get_table(node, held, env, expect)

    def method(self, node: ast.Call, receiver: ast.expr, name: str, env: Env) -> Expr:
        value = self.expression(receiver, env)
        self.no_none(receiver, value)
        if value.type.name == "list" and name in ("append", "extend", "sort", "pop", "insert"):
            self.fail(
                node,
                f".{name}() changes a list",
                "build it by a comprehension, as in [f(x) for x in values], or sorted(values)",
            )
        full = f"{value.type.name}.{name}"
        if full == "str.format":
            self.fail(node, "str.format()", 'write an f-string, as in f"{a}-{b:.2f}"')
        if full in ("str.split", "str.rsplit") and (most := self.at_spaces(node, env)) is not None:
            return self.operator(
                ast.copy_location(ast.Call(node.func, most, []), node),
                f"{full}.spaces" if most else full,
                [(receiver, value)],
                most,
                env,
            )
        if full == "dict.items":
            self.fail(node, "items() outside a loop", "write `for key, n in counts.items()`")
        if full == "dict.get" and len(node.args) == 1 and not node.keywords:
            return self.get_or_none(node, receiver, value, env)
        if is_method(value.type, name) is False:
            self.fail(node, f"{full} is no method", f"write .{name} without ()")
        if full in ("str.startswith", "str.endswith") and len(node.args) == 1:
            held = self.static(node.args[0], env)
            if isinstance(held, tuple) and held:
                return self.any_of(node, full, receiver, value, held)
        self.no_list(node, full)
        return self.operator(node, full, [(receiver, value)], node.args, env)

    def no_list(self, node: ast.AST, name: str) -> None:
        """A tuple or a view of a dict may only be read."""
        reason = why_not(self.node, node, name)
        if reason is not None:
            self.fail(node, *reason)

    def at_spaces(self, node: ast.Call, env: Env) -> list[ast.expr] | None:
        """Of a split at spaces, written as None or left out, how often at most; None of another."""
        named = {k.arg: k.value for k in node.keywords}
        if len(node.args) > 2 or not named.keys() <= {"sep", "maxsplit"}:
            return None
        given = dict(zip(("sep", "maxsplit"), node.args, strict=False)) | named
        if len(given) != len(node.args) + len(named) or not given:
            return None
        if "sep" in given and self.static(given["sep"], env) is not None:
            return None
        return [given["maxsplit"]] if "maxsplit" in given else []

    def get_or_none(self, node: ast.Call, receiver: ast.expr, value: Expr, env: Env) -> Expr:
        """`counts.get(key)`: None where the key is absent."""
        (at,) = node.args
        nodes = [receiver, at]

        def chosen(counts: Name | Const, key: Name | Const) -> Expr:
            known = self.call(node, "in", nodes[::-1], [key, counts])
            found = self.call(node, "getitem", nodes, [counts, key])
            return self.choose(node, known, found, Const(None, NONE), None)

        key = self.expression(at, env)
        return self.named(value, lambda counts: self.named(key, lambda k: chosen(counts, k)))

    def any_of(
        self, node: ast.Call, name: str, receiver: ast.expr, value: Expr, held: tuple[Any, ...]
    ) -> Expr:
        """`s.startswith(("a", "b"))`."""
        (at,) = node.args
        parts = [self.constant(at, h) for h in held]

        def either(whole: Expr) -> Expr:
            made = [self.call(node, name, [receiver, at], [whole, part]) for part in parts]
            return balanced(Either, made)

        return self.named(value, either)

    def no_attribute(self, node: ast.AST, module: pytypes.ModuleType, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, dir(module), n=3)
        hint = f"nearest: {', '.join(f'{module.__name__}.{n}' for n in near)}" if near else (
            "use what the module has"
        )  # fmt: skip
        self.fail(node, f"{module.__name__} has no {name}", hint)

    def no_clock(self, node: ast.AST, name: str) -> None:
        if name in _CLOCKS:
            self.fail(
                node,
                f"{name}() reads the clock, which differs on every path",
                "take the instant as a parameter: a column, or a request field",
            )

    def operator(
        self,
        node: ast.Call,
        name: str,
        before: list[tuple[ast.expr, Expr]],
        rest: Sequence[ast.expr],
        env: Env,
    ) -> Expr:
        """The operator row of that name; keyword arguments by the names Python gives them."""
        given = [*before, *((a, self.argument(a, env)) for a in rest)]
        named = {k.arg or "": (k.value, self.expression(k.value, env)) for k in node.keywords}
        rows = ops.BY_NAME.get(name, ())
        shapes = {
            (r.names, repr(r.defaults), len(r.params)): (r.names, r.defaults, len(r.params))
            for r in rows
        }
        # A row without defaults first: the others mean something that was not written.
        for names, defaults, count in sorted(shapes.values(), key=lambda s: len(s[1])):
            filled = self.filled(node, given, named, names, defaults, count)
            if filled is None:
                continue
            found = ops.find(name, tuple(v.type for _, v in filled))
            if found is None or (found[0].names, repr(found[0].defaults)) != (
                names,
                repr(defaults),
            ):
                continue
            return self.call(node, name, [n for n, _ in filled], [v for _, v in filled])
        if named:
            known = {n for names, *_ in shapes for n in names if n}
            hint = f"it takes {', '.join(sorted(known))}" if known else "pass arguments by position"
            self.fail(node.keywords[0], f"{name}() with these keyword arguments", hint)
        return self.call(node, name, [n for n, _ in given], [v for _, v in given])

    def argument(self, node: ast.expr, env: Env) -> Expr:
        """An operator's argument; `lists` lets a generator serve as a list."""
        return self.expression(node, env)

    def filled(
        self,
        node: ast.Call,
        given: list[tuple[ast.expr, Expr]],
        named: dict[str, tuple[ast.expr, Expr]],
        names: tuple[str, ...],
        defaults: tuple[Any, ...],
        count: int,
    ) -> list[tuple[ast.expr, Expr]] | None:
        """The arguments of a row in its order, None where it does not take these."""
        left = dict(named)
        out = list(given)
        for i in range(len(given), count):
            name = names[i] if i < len(names) else ""
            default_at = i - (count - len(defaults))
            if name in left:
                out.append(left.pop(name))
            elif default_at < 0:
                return None
            elif isinstance(default := defaults[default_at], Own):
                first_node, first = out[0]
                # The first argument is read again: its errors are the same, and so is its value.
                attribute = f"{first.type.name}.{default.attribute}"
                out.append((node, self.call(node, attribute, [first_node], [first])))
            else:
                out.append((node, self.constant(node, default)))
        return None if left or len(out) != count else out

    # --- builtins ---------------------------------------------------------------------------------

    def builtin(self, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
        match name:
            case "bool" if len(node.args) == 1 and not node.keywords:
                made = self.condition(node.args[0], env)[0]
                self.forget(node, env)
                return made
            case "min" | "max" if len(node.args) > 1 and not node.keywords:
                return self.extreme(node, name, env, expect)
            case "str" | "format" if len(node.args) == 1:
                return self.operator(node, "str", [], node.args, env)
        if name in ops.BY_NAME:
            return self.operator(node, name, [], node.args, env)
        if name in _REFUSED:
            self.fail(node, f"{name}() is not in the language of features", _REFUSED[name])
        if name in vars(sys.modules["builtins"]):
            hint = "use abs, bool, float, int, len, max, min, round, str, sum, any, all, sorted …"
            self.fail(node, f"{name}() is not in the language of features", hint)
        self.fail(node, f"{name} is not defined", "import it, or define it in this module")

    def extreme(self, node: ast.Call, name: str, env: Env, expect: Type | None) -> Expr:
        """min and max of several: from the left, as Python does."""
        arguments = [self.expression(a, env) for a in node.args]
        types = {a.type.base for a in arguments}
        if types == {INT, FLOAT}:
            # The winner keeps its own type, in Python: only a declared float makes both one.
            if expect is None or expect.base != FLOAT:
                at = next(i for i, a in enumerate(arguments) if a.type.base == INT)
                self.fail(
                    node.args[at],
                    f"{name}() of int and float may be either",
                    "make both float, as in 0.0 for 0 or float(n)",
                )
            # Compared exactly, so that a great int is not rounded before it loses.
            for i, a in enumerate(arguments):
                if a.type == INT:
                    if not (isinstance(a, Const) and abs(a.value) <= 2**53):
                        self.fail(
                            node.args[i],
                            f"{name}() of int and float may be either",
                            "write float(n)",
                        )
                    arguments[i] = Const(float(a.value), FLOAT)
        made = arguments[0]
        for i, argument in enumerate(arguments[1:], 1):
            made = self.call(node, name, [node.args[i - 1], node.args[i]], [made, argument])
        return made

    # --- other functions --------------------------------------------------------------------------

    def call_known(
        self, node: ast.Call, name: str, known: Any, env: Env, expect: Type | None
    ) -> Expr:
        """A call of something that the module binds."""
        if isinstance(known, Transform):
            if known.on_unsupported == "python":
                self.fail(
                    node,
                    f'{name} is on_unsupported="python", and is not inlined',
                    f"take its value as a parameter named {known.name}",
                )
            return self.inline(node, known.function, name, env)
        if (getattr(known, "__module__", None) or "").startswith("featurekit."):
            return self.operator(node, f"featurekit.{known.__name__}", [], node.args, env)
        if isinstance(known, pytypes.FunctionType) and of_user(known):
            if hasattr(known, "__wrapped__"):
                self.fail(node, f"{name} is decorated", "call the plain function")
            return self.inline(node, known, name, env)
        if isinstance(known, type):
            if known.__module__ == "datetime":
                return self.operator(node, known.__name__, [], node.args, env)
            self.fail(
                node, f"{name}() makes a {known.__name__}", "use plain values, or return it whole"
            )
        self.no_clock(node, name)
        module = getattr(known, "__module__", None)
        full = f"{module}.{getattr(known, '__name__', name)}"
        if full == "math.isclose" and len(node.args) > 2:
            self.fail(node.args[2], "a tolerance by its position", "write rel_tol=… or abs_tol=…")
        if full in ops.BY_NAME:
            return self.operator(node, full, [], node.args, env)
        if isinstance(known, functools.partial) or not callable(known):
            self.fail(node, f"{name} is no plain function", "write a def with typed parameters")
        if module is None or not full.startswith(("math.", "re.", "datetime.", "hashlib.")):
            self.fail(
                node,
                f"{full if module else name}() is library code",
                'write it out, or opt in with @feature(on_unsupported="python")',
            )
        return self.operator(node, full, [], node.args, env)

    def helper(
        self,
        node: ast.AST,
        function: Any,
        name: str,
        field: str | None = None,
        given: tuple[tuple[str, Type], ...] = (),
    ) -> Function:
        """The IR of a function that is called here; `given` are parameters that receive an int for
        a float, and stay ints in it, as they do in Python."""
        from featurekit.language.parse.functions import FunctionParser

        if function in self.stack:
            chain = " -> ".join(f.__name__ for f in (*self.stack, function))
            self.fail(node, f"{name} calls itself ({chain})", "write the steps out")
        key = (function, field, given)
        if key not in self.inlined:
            parser = FunctionParser(
                function,
                function.__name__,
                field=field,
                stack=self.stack,
                inlined=self.inlined,
                given=dict(given),
            )
            self.inlined[key] = parser.function()
        return self.inlined[key]

    def inline(
        self, node: ast.Call, function: Any, name: str, env: Env, field: str | None = None
    ) -> Expr:
        """A call of another function: its body, over arguments that are evaluated once."""
        declared = self.helper(node, function, name, field)
        args, given = self.arguments(node, function, declared, name, env)
        callee = self.helper(node, function, name, field, given) if given else declared
        return Apply(callee, args, callee.returns.plain)

    def arguments(
        self, node: ast.Call, function: Any, callee: Function, name: str, env: Env
    ) -> tuple[tuple[Expr, ...], tuple[tuple[str, Type], ...]]:
        """The arguments of a call in the order of the parameters, defaults included; and the
        parameters that receive another kind of number than they declare."""
        try:
            bound = inspect.signature(function).bind(*node.args, **{
                k.arg: k.value for k in node.keywords if k.arg
            })  # fmt: skip
        except TypeError as error:
            self.fail(node, f"{name}(): {error}", f"its parameters are {_parameters(callee)}")
        out: list[Expr] = []
        given: list[tuple[str, Type]] = []
        for param in callee.params:
            what = f"{name}'s parameter {param.name}"
            if param.name in bound.arguments:
                at = bound.arguments[param.name]
                value = self.unconverted(at, env, param.type)
                if value.type == NONE and not param.type.optional:
                    self.fail(at, f"None, and {what} is {param.type}", "pass a value")
            else:
                at = node
                default = inspect.signature(function).parameters[param.name].default
                value = self.constant(node, default)
            numbers = (value.type.base, param.type.base)
            if numbers in _NUMBERS and param.type.optional >= value.type.optional:
                given.append((param.name, value.type))
                out.append(value)
            else:
                out.append(self.coerce(at, value, param.type, what, convert=False))
        return tuple(out), tuple(given)


_NUMBERS = ((INT, FLOAT), (BOOL, FLOAT), (BOOL, INT))
"""What Python's type checkers let pass for another type."""

_CLOCKS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time")
_REFUSED = {
    "print": "leave it out: a feature only computes its value",
    "isinstance": "test for None with `is None`; a parameter has its declared type",
    "type": "a parameter has its declared type",
    "open": "declare the file as a source, or bind its values to a module constant",
    "getattr": "write the attribute out",
    "map": "write a comprehension, as in [f(x) for x in values]",
    "filter": "write a comprehension, as in [x for x in values if …]",
    "input": "take it as a request field",
    "dict": "use a constant dict as a look-up table",
    "set": "write len(set(values)), sorted(set(values)), or x in (a, b, c)",
}


def of_user(function: pytypes.FunctionType) -> bool:
    """Whether a function is the user's own, and no library's."""
    top = (function.__module__ or "").split(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return False
    filename = function.__code__.co_filename
    return "site-packages" not in filename and "dist-packages" not in filename


def _parameters(function: Function) -> str:
    return ", ".join(f"{p.name}: {p.type}" for p in function.params) or "none"
