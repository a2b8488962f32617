"""Three opinions on a transform: the plain function, the online evaluator, and DuckDB.

The plain function is run with its ints watched (`watched`), since Python itself does not notice
one that leaves int64; beyond that it is Python, whose answer the other two must give bit for bit.
"""

from __future__ import annotations

import ast
import datetime as dt
import itertools
import linecache
import math
import struct
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from featurekit import feature
from featurekit.core.sql import quote
from featurekit.core.timezones import zone
from featurekit.core.types import INT_MAX, INT_MIN, Type
from featurekit.core.values import ERROR
from featurekit.language.ir import Function
from featurekit.language.ops.table import MAX_SPAN, MIN_SPAN
from featurekit.language.parse import parse
from featurekit.language.python_calls import register_python_op
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python
from featurekit.language.transform import Transform
from featurekit.language.verify import verify_function
from featurekit.language.wire import from_json, to_json
from featurekit.offline.session import prepare

PRELUDE = """\
import bisect, collections, datetime as dt, enum, hashlib, math, re, statistics, typing, unicodedata
import urllib.parse, zlib
from datetime import date, datetime, time, timedelta, timezone
from typing import Literal, NamedTuple, TypedDict
from zoneinfo import ZoneInfo
"""
_numbers = itertools.count()


def module(source: str, shared: str = "") -> dict[str, Any]:
    """The namespace of a module with this text, whose functions `inspect` can read; `shared` stands
    before the text, and is run once for all that share it."""
    space = dict(_shared(shared)) if shared else _new_module()
    number = next(_numbers)
    linecache.cache.pop(f"<program {number - 1000}>", None)  # read long ago
    _run(source, space, f"<program {number}>")
    return space


@lru_cache(maxsize=4)
def _shared(source: str) -> dict[str, Any]:
    space = _new_module()
    _run(source, space, f"<shared {next(_numbers)}>")
    return space


def _new_module() -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "program"}
    exec(PRELUDE, space)
    space["feature"] = feature
    return space


def _run(source: str, space: dict[str, Any], name: str) -> None:
    text = textwrap.dedent(source)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), space)


def watched(source: str, shared: str = "") -> dict[str, Any]:
    """The same namespace, where an int outside int64 raises as soon as an expression gives it."""
    space = dict(_shared_watched(shared))
    _run_watched(source, space)
    return space


@lru_cache(maxsize=4)
def _shared_watched(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "watched"}
    space |= {"_int64": _int64, "_add": _add, "_at_utc": _at_utc}
    exec(PRELUDE, space)
    space["ZoneInfo"] = zone  # of the pinned tzdata, whatever the machine has (T2)
    space["feature"] = lambda f=None, **_: f if f is not None else (lambda g: g)
    _run_watched(source, space)
    return space


def _run_watched(source: str, space: dict[str, Any]) -> None:
    tree = _Watch().visit(ast.parse(textwrap.dedent(source)))
    exec(compile(ast.fix_missing_locations(tree), "<watched>", "exec"), space)


class Watched(BaseException):
    """An error by a rule, where Python raises none: no handler of the text catches it."""


def _int64(value: Any) -> Any:
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise Watched("an int outside int64")
    if type(value) is dt.timedelta and not MIN_SPAN <= value <= MAX_SPAN:
        raise Watched("a timedelta outside int64 microseconds")
    if type(value) is dt.datetime and value.tzinfo is None:
        raise Watched("a local time without its zone")  # here a datetime is an instant (T1)
    if type(value) is tuple:
        return tuple(_int64(v) for v in value)  # of divmod
    if isinstance(value, complex):
        raise Watched("a complex result")
    return value


def _at_utc(value: Any) -> Any:
    """A text of another offset is an error by itself: Python keeps its local fields."""
    if isinstance(value, dt.datetime) and value.utcoffset():
        raise Watched("an offset other than UTC's")
    return _int64(value)


def _add(values: Any, start: Any = 0) -> Any:
    """The builtin sum as the A-rules have it: floats exactly, ints held to int64 at the end."""
    from featurekit.language.ops import NAMESPACE

    values = list(values) or [start]
    if any(isinstance(v, float) for v in values):
        exact = NAMESPACE.get("sum_floats") or NAMESPACE.get("exact_sum") or math.fsum
        return exact(values)
    return sum(values)


class _Watch(ast.NodeTransformer):
    """Puts `_int64(…)` around whatever computes."""

    def watch(self, node: ast.expr) -> ast.expr:
        self.generic_visit(node)
        made = ast.Call(ast.Name("_int64", ast.Load()), [node], [])
        return ast.copy_location(made, node)

    visit_BinOp = watch
    visit_UnaryOp = watch

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "sum":
            node.func.id = "_add"
        if [k.arg for k in node.keywords] == ["tzinfo"] and isinstance(node.func, ast.Attribute):
            read = node.func.value  # a text without its zone, which `replace` gives it
            self.generic_visit(read)
            return ast.copy_location(ast.Call(ast.Name("_int64", ast.Load()), [node], []), node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "astimezone":
            read = node.func.value
            if isinstance(read, ast.Call) and [k.arg for k in read.keywords] == ["tzinfo"]:
                node.func.value = self.visit(read)  # a text without its zone, as above
                return ast.copy_location(ast.Call(ast.Name("_int64", ast.Load()), [node], []), node)
            self.generic_visit(read)
            node.func.value = ast.Call(ast.Name("_int64", ast.Load()), [read], [])
            return ast.copy_location(ast.Call(ast.Name("_int64", ast.Load()), [node], []), node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("fromisoformat", "strptime"):
            self.generic_visit(node)
            made = ast.Call(ast.Name("_at_utc", ast.Load()), [node], [])
            return ast.copy_location(made, node)
        return self.watch(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        if not isinstance(node.target, ast.Name):
            return node  # an entry of a dict, whose counts stay small
        read = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        whole = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
        return ast.copy_location(ast.Assign([node.target], self.visit(whole)), node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.body = [self.visit(n) for n in node.body]
        return node

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.pattern:
        return node


def bits(value: Any) -> Any:
    """The value with its type and, of a float, its 64 bits; every NaN is one NaN."""
    match value:
        case float():
            if math.isnan(value):
                return "float", "nan"
            return "float", struct.pack(">d", value).hex()
        case list() | tuple():
            return "list", tuple(bits(v) for v in value)
        case dt.datetime():
            return "datetime", value.astimezone(dt.UTC).isoformat()
        case _:
            return type(value).__name__, value


def declared(value: Any, type_: Type) -> Any:
    """A plain function's result as its declared type has it."""
    if value is None:
        return None
    if isinstance(value, str) and type(value) is not str:
        value = str.__str__(value)  # a member of an enumeration
    match type_.name:
        case "float":
            return float(value)
        case "int":
            return int(value)
        case "list":
            assert type_.item is not None
            return [declared(v, type_.item) for v in value]
        case _:
            return value


def plainly(function: Callable[..., Any], row: Sequence[Any], returns: Type) -> Any:
    """The plain function's value for a row, ERROR where it raises."""
    try:
        return declared(_int64(function(*row)), returns)
    except (Exception, Watched):
        return ERROR


def online(function: Function, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The online evaluator's value for each row."""
    evaluate = to_python(function)
    return [evaluate(*row) for row in rows]


class Table:
    """Rows of awkward values in DuckDB, that many transforms are asked about."""

    def __init__(self, columns: dict[str, tuple[Type, list[Any]]]) -> None:
        self.columns = columns
        self.con = duckdb.connect()
        self.known: set[str] = set()
        self.con.execute("SET threads = 1")
        prepare(self.con)
        size = len(next(iter(columns.values()))[1])
        arrays: dict[str, Any] = {"rid": pa.array(range(size))}
        for name, (type_, values) in columns.items():
            arrays[name] = pa.array([_stored(v, type_) for v in values], type=_arrow(type_))
        table = pa.table(arrays)
        self.con.register("given", table)
        self.con.execute("CREATE TABLE t AS SELECT * FROM given")

    def rows(self, function: Function, chosen: Sequence[int]) -> list[list[Any]]:
        columns = [self.columns[p.name][1] for p in function.params]
        return [[c[i] for c in columns] for i in chosen]

    def ask(self, function: Function, chosen: Sequence[int]) -> list[Any]:
        """DuckDB's value of the function for these rows, ERROR where it errs."""
        lowering = Lowering()
        arguments = [Value(Sql(quote(p.name))) for p in function.params]
        value = lower(lowering, function, arguments)
        for key, call in lowering.python_ops.items():
            if key not in self.known:
                register_python_op(self.con, key, call)
                self.known.add(key)
        error = value.error.text if value.error else "FALSE"
        span = ", ".join(map(str, chosen)) or "-1"
        source = lowering.wrap(f"(SELECT * FROM t WHERE rid IN ({span}))")
        sql = f"SELECT rid, {value.sql.text} AS v, {error} AS e FROM {source}"
        found = {rid: (v, e) for rid, v, e in self.con.execute(sql).fetchall()}
        for key in [k for k in lowering.python_ops if k.startswith("fk_fn_")]:
            self.con.remove_function(key)  # of this program alone
            self.known.remove(key)
        out = []
        for rid in chosen:
            v, e = found[rid]
            out.append(ERROR if e else _read(v, function.returns))
        return out


def _arrow(type_: Type) -> Any:
    if type_.item is not None:
        item = _arrow(type_.item)
        return pa.map_(item, pa.int64()) if type_.name == "dict" else pa.list_(item)
    return {"datetime": pa.timestamp("us"), "timedelta": pa.int64()}.get(type_.name) or type_.arrow


def _stored(value: Any, type_: Type) -> Any:
    if value is None:
        return None
    if type_.name == "dict":
        return list(value.items())
    if type_.item is not None:
        return [_stored(v, type_.item) for v in value]
    if type_.name == "datetime":
        return value.astimezone(dt.UTC).replace(tzinfo=None)
    if type_.name == "timedelta":
        return value // dt.timedelta(microseconds=1)
    return value


def _read(value: Any, type_: Type) -> Any:
    if value is None:
        return None
    if type_.name == "dict":
        assert type_.item is not None
        return {_read(k, type_.item): n for k, n in value.items()}
    if type_.item is not None:
        return [_read(v, type_.item) for v in value]
    if type_.name == "datetime":
        return value.replace(tzinfo=dt.UTC)
    if type_.name == "timedelta":
        return dt.timedelta(microseconds=value)
    return value


Answer = tuple[list[Any], Any, Any, Any]
"""A row's arguments, and what the plain function, the online evaluator and DuckDB say of it."""


def compared(
    source: str, name: str, table: Table, chosen: Sequence[int], shared: str = ""
) -> tuple[Function, list[Answer]]:
    """What is compiled of the function, and all three answers for each row."""
    transform = module(source, shared)[name]
    if not isinstance(transform, Transform):
        transform = feature(transform)
    function = parse(transform)
    verify_function(from_json(to_json(function)), where=name)  # a plan of it is served (F0)
    space = watched(source, shared)
    rows = table.rows(function, chosen)
    plain = [plainly(space[name], row, function.returns) for row in rows]
    served = online(function, rows)
    return function, list(zip(rows, plain, served, table.ask(function, chosen), strict=True))


def disagreeing(answers: Sequence[Answer]) -> list[Answer]:
    """Those of which two differ."""
    return [(row, a, b, c) for row, a, b, c in answers if not bits(a) == bits(b) == bits(c)]


def differences(source: str, name: str, table: Table, chosen: Sequence[int]) -> list[Answer]:
    """The rows on which the three differ."""
    return disagreeing(compared(source, name, table, chosen)[1])
