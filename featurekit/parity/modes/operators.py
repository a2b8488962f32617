"""Compares every row of the operator table three ways, bit for bit: Python body, SQL, online (R5);
and, with them, every aggregate in DuckDB and in Python (`aggregates.py` beside this).

Each row is asked on the edges of its types, on its own edges and on generated values, with its
arguments as columns and as literals, and with NULL for each of them in turn.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.screen import Advance
from featurekit.core.sql import quote
from featurekit.core.types import EPOCH, INT_MAX, INT_MIN, MICROSECOND, Type
from featurekit.core.values import ERROR
from featurekit.language import ops
from featurekit.language.ir import Call, Const, Function, Name, Param, Return
from featurekit.language.ops.table import EDGES
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python
from featurekit.parity.budget import Budget
from featurekit.parity.compare import shown
from featurekit.parity.modes.fuzz.hostile import mutated, value

Inputs = tuple[Any, ...]

_ROUND = 200
_KEPT = 20


@dataclass
class RowReport:
    """What one row of the operator table, or one aggregate, showed.

    `runs_as` says how DuckDB computes it, `raises` whether it may err; `differing` are inputs with
    the three answers: Python, online, SQL.
    """

    runs_as: str
    raises: bool
    inputs: int = 0
    errors: int = 0
    differing: list[tuple[Inputs, Any, Any, Any]] = field(default_factory=list)

    @property
    def truthful(self) -> bool:
        """Whether `raises` does not deny what was seen."""
        return self.raises or not self.errors

    @property
    def ok(self) -> bool:
        """Whether the row means one thing."""
        return self.truthful and not self.differing

    def add(self, other: RowReport) -> None:
        """Take what another round showed."""
        self.inputs += other.inputs
        self.errors += other.errors
        self.differing += other.differing

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "runs_as": self.runs_as,
            "inputs": self.inputs,
            "errors": self.errors,
            "differing": len(self.differing),
            "truthful": self.truthful,
        }


@dataclass
class OperatorsReport(Named):
    """The whole table, whose `inputs` are compared three ways, each, and the aggregates."""

    seed: int
    rows: dict[str, RowReport]
    aggregates: dict[str, RowReport] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def all(self) -> dict[str, RowReport]:
        """The rows and the aggregates."""
        return {**self.rows, **self.aggregates}

    @property
    def compared(self) -> int:
        """Inputs compared."""
        return sum(row.inputs for row in self.all.values())

    @property
    def differing(self) -> int:
        """Inputs on which the opinions do not agree."""
        return sum(len(row.differing) for row in self.all.values())

    @property
    def failed(self) -> list[str]:
        """The rows and aggregates that do not mean one thing."""
        return [key for key, row in self.all.items() if not row.ok]

    @property
    def ok(self) -> bool:
        """Whether all mean one thing, and there are some."""
        return self.compared > 0 and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "mode": "operators",
            "ok": self.ok,
            "seed": self.seed,
            "compared": self.compared,
            "differing": self.differing,
            "seconds": round(self.seconds, 3),
            "operators": {key: row.to_dict() for key, row in self.rows.items()},
            "aggregates": {key: row.to_dict() for key, row in self.aggregates.items()},
            "differences": [
                {
                    "operator": key,
                    "arguments": [shown(v) for v in given],
                    "python": _answer(wanted),
                    "online": _answer(served),
                    "offline": _answer(sql),
                }
                for key, row in self.all.items()
                for given, wanted, served, sql in row.differing[:3]
            ][:_KEPT],
        }


def _answer(value: Any) -> str:
    return "ERROR" if value is ERROR else shown(value)


def check_operators(
    *,
    budget: Budget,
    seed: int = 0,
    only: str = "",
    progress: Advance | None = None,
) -> OperatorsReport:
    """The rows of the operator table whose key contains `only`. So many values are shared out among
    the rows; with a duration, all rows are gone through again and again, with other values."""
    clock = budget.clock()
    chosen = {key: op for key, op in ops.TABLE.items() if only in key}
    report = OperatorsReport(
        seed, {key: RowReport(runs_as(op), op.raises) for key, op in chosen.items()}
    )
    if budget.values is not None:
        inputs, edges, groups = _shares(budget.values // max(len(report.rows), 1))
    else:
        inputs, edges, groups = _ROUND, 1000, 20
    con = connection()
    for n in itertools.count():
        for i, (key, row) in enumerate(report.rows.items()):
            one = f"{seed}:{n}" if n else str(seed)
            row.add(check(chosen[key], inputs, con=con, seed=one, edges=edges, groups=groups))
            if progress is not None:
                progress(i + 1, len(report.rows))
            if budget.values is None and not clock.left(report.compared) and n:
                break  # every row was gone through once
        if budget.values is not None or not report.rows or not clock.left(report.compared):
            break
    report.seconds = clock.taken
    return report


def _shares(inputs: int) -> tuple[int, int, int]:
    """Generated inputs, edges and groups of literals for about so many inputs of a row."""
    return max(inputs // 2, 20), max(inputs // 2, 40), max(inputs // 120, 2)


def check(
    op: ops.Op,
    inputs: int,
    *,
    con: Any = None,
    seed: int | str = 0,
    edges: int = 4000,
    groups: int = 500,
) -> RowReport:
    """The row on its edges and on `inputs` generated values, with arguments as columns and as
    literals; and NULL for each argument in turn.

    At most `edges` of the product of its types' edges are drawn, and `groups` of its literals.
    """
    con = con or connection()
    report = RowReport(runs_as(op), op.raises)
    rng = random.Random(f"{seed}:{op.key}")
    chosen = list(_literal_groups(op, rng))
    if len(chosen) > groups:
        chosen = [chosen[0], *rng.sample(chosen[1:], groups - 1)]
    for literals in chosen:
        size = max(-(-inputs // len(chosen)), 60)
        rows = list(_rows(op, literals, size, edges // len(chosen) + 50, rng))
        _compare(con, op, report, rows, literals)
    return report


def errs(op: ops.Op, *, seed: int = 0) -> bool:
    """Whether the meaning raises for any edge or any of some generated inputs."""
    rng, body = random.Random(seed), op.body()
    rows = (r for g in _literal_groups(op, rng) for r in _rows(op, g, 200, 2000, rng))
    return any(_meaning(body, row) is ERROR for row in rows if None not in row)


def connection() -> Any:
    """A DuckDB whose session is in UTC (T2)."""
    import duckdb

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET threads = 1")
    return con


# --- three ways -----------------------------------------------------------------------------------


def _compare(
    con: Any, op: ops.Op, report: RowReport, rows: list[Inputs], literals: dict[int, Any]
) -> None:
    import duckdb

    function = _function(op, literals)
    body, online = op.body(), to_python(function)
    columns = [i for i in range(len(op.params)) if i not in literals]
    try:
        answers = _in_duckdb(con, function, rows, columns)
    except duckdb.Error as error:  # a query never fails, whatever it is given (R3)
        report.inputs += len(rows)
        told = f"{type(error).__name__}: {error}"
        report.differing.append((rows[0], "some row of these", "some row of these", told))
        return
    for row, sql in zip(rows, answers, strict=True):
        report.inputs += 1
        if any(v is None for v in row):
            wanted = served = None
        else:
            wanted = _meaning(body, row)
            served = online(*(row[i] for i in columns))
            report.errors += wanted is ERROR
            if wanted is not ERROR and not isinstance(wanted, op.result.python):
                report.differing.append((row, wanted, "not of the type", op.result))
        found = ERROR if sql is None and wanted is ERROR else sql
        if not bits(wanted) == bits(served) == bits(found):
            report.differing.append((row, wanted, served, sql))


def _meaning(body: Callable[..., Any], row: Inputs) -> Any:
    try:
        return body(*row)
    except ops.ERRORS:
        return ERROR


def _function(op: ops.Op, literals: dict[int, Any]) -> Function:
    params: list[Param] = []
    args: list[Const | Name] = []
    for i, type_ in enumerate(op.params):
        if i in literals:
            args.append(Const(literals[i], type_))
        else:
            params.append(Param(f"a{i}", type_))
            args.append(Name(f"a{i}", type_))
    call = Call(op.key, tuple(args), op.result)
    return Function("one", tuple(params), (Return(call),), op.result)


def _in_duckdb(con: Any, function: Function, rows: list[Inputs], columns: list[int]) -> list[Any]:
    import pyarrow as pa

    lowering = Lowering()
    made = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    arrays = {"n": pa.array(range(len(rows)), pa.int64())}
    for i, param in zip(columns, function.params, strict=True):
        values = [stored(row[i]) for row in rows]
        arrays[param.name] = pa.array(values, arrow(param.type))
    con.register("inputs", pa.table(arrays))
    query = f"SELECT {made.sql.text} FROM {lowering.wrap('inputs')} ORDER BY n"
    found = con.execute(query).fetchall()
    return [read(value, function.returns) for (value,) in found]


def bits(value: Any) -> Any:
    """Equal for values of the same type and bits; every NaN is one, every zone is UTC."""
    match value:
        case bool() | int() | str() | bytes() | None:
            return type(value).__name__, value
        case float():
            return "float", "nan" if math.isnan(value) else struct.pack(">d", value)
        case dt.datetime():
            return "datetime", (value - EPOCH) // MICROSECOND
        case list():
            return "list", tuple(bits(v) for v in value)
        case dict():
            return "dict", tuple((bits(k), bits(v)) for k, v in value.items())
        case _:
            return type(value).__name__, value


def arrow(type_: Type) -> Any:
    """The Arrow type of a column of such values as a source is read into."""
    import pyarrow as pa

    if type_.item is not None:
        item = arrow(type_.item)
        return pa.map_(item, pa.int64()) if type_.name == "dict" else pa.list_(item)
    if type_.name == "datetime":
        return pa.timestamp("us")
    return pa.int64() if type_.name == "timedelta" else type_.arrow


def stored(value: Any) -> Any:
    """A value as an `arrow` column takes it."""
    match value:
        case dt.datetime():
            return value.astimezone(dt.UTC).replace(tzinfo=None)
        case dt.timedelta():
            return value // MICROSECOND
        case list():
            return [stored(v) for v in value]
        case dict():
            return [(stored(k), n) for k, n in value.items()]
        case _:
            return value


def read(value: Any, type_: Type) -> Any:
    """A value of the type that DuckDB gave, as Python has it."""
    if value is None:
        return None
    if type_.name == "dict":
        assert type_.item is not None
        return {read(k, type_.item): n for k, n in value.items()}
    if type_.item is not None:
        return [read(v, type_.item) for v in value]
    if type_.name == "datetime":
        return value.replace(tzinfo=dt.UTC)
    return value * MICROSECOND if type_.name == "timedelta" else value


# --- inputs ---------------------------------------------------------------------------------------


def _literal_groups(op: ops.Op, rng: random.Random) -> Iterator[dict[int, Any]]:
    """Which arguments are literals, and what they say: first none of them, where that may be."""
    if op.literals:
        combinations = {tuple(bits(r[i]) for i in op.literals): r for r in op.edges}
        chosen = [{i: row[i] for i in op.literals} for row in combinations.values()]
        for drawn in itertools.product(*(EDGES[op.params[i]] for i in op.literals)):
            literals = dict(zip(op.literals, drawn, strict=True))
            if _allowed(op, literals) and len(chosen) < 60:
                chosen.append(literals)
        yield from (c for c in chosen if _allowed(op, c))
        return
    yield {}
    for i, type_ in enumerate(op.params):
        own = {bits(row[i]): row[i] for row in op.edges}
        values = {**own, **{bits(v): v for v in EDGES[type_]}}
        if op.literal_sql is None:
            # Nothing special, but DuckDB folds constants, even in branches that it never takes.
            keys = [*rng.sample(list(values), min(len(values), 4)), bits(INT_MAX), bits(INT_MIN)]
            values = {k: values[k] for k in keys if k in values}
        yield from ({i: v} for v in values.values() if type_.item is None and _allowed(op, {i: v}))
    if len(op.params) > 2:
        tails = {bits_of(row[2:]): row[2:] for row in op.edges}
        yield from (dict(enumerate(tail, 2)) for tail in tails.values() if _plain(tail))
    for row in rng.sample(op.edges, min(len(op.edges), 3)):
        if _plain(row):
            yield dict(enumerate(row))


def literal_arguments(op: ops.Op) -> Iterator[Inputs]:
    """Of each way in which a call may be written that the row is asked on: its arguments' values
    where they are literals, None where they are not."""
    for literals in _literal_groups(op, random.Random(op.key)):
        yield tuple(literals.get(i) for i in range(len(op.params)))


def _plain(values: Inputs) -> bool:
    return not any(isinstance(v, (list, dict)) for v in values)


def bits_of(values: Sequence[Any]) -> Any:
    """`bits` of each."""
    return tuple(bits(v) for v in values)


def _allowed(op: ops.Op, literals: dict[int, Any]) -> bool:
    values = [literals.get(i) for i in range(len(op.params))]
    return op.check is None or op.check(*values) is None


def _rows(
    op: ops.Op, literals: dict[int, Any], n: int, edges: int, rng: random.Random
) -> Iterator[Inputs]:
    def fixed(row: Iterable[Any]) -> Inputs:
        return tuple(literals.get(i, v) for i, v in enumerate(row))

    places = [(literals[i],) if i in literals else EDGES[t] for i, t in enumerate(op.params)]
    size = math.prod(len(p) for p in places)
    if size <= edges:
        yield from itertools.product(*places)
    else:
        yield from (tuple(rng.choice(p) for p in places) for _ in range(edges))
    yield from map(fixed, op.edges)
    made = [fixed(_generated(op, rng)) for _ in range(n)]
    yield from made
    for i in range(len(op.params)):
        if i not in literals:
            some = [*made[:20], *(tuple(rng.choice(p) for p in places) for _ in range(20))]
            yield from (tuple(None if j == i else v for j, v in enumerate(row)) for row in some)


def _generated(op: ops.Op, rng: random.Random) -> Inputs:
    """Values that often are ties, parts or neighbours of each other."""
    near = any(t.name in ("str", "bytes", "list") for t in op.params)
    row: list[Any] = []
    template = rng.choice(op.edges) if op.edges and rng.random() < 0.3 else None
    for i, type_ in enumerate(op.params):
        if template is not None:
            row.append(mutated(template[i], rng) if rng.random() < 0.5 else template[i])
            continue
        alike = [v for v, t in zip(row, op.params, strict=False) if t == type_]
        if alike and rng.random() < 0.4:
            row.append(mutated(rng.choice(alike), rng))
        elif type_.name == "int" and near and rng.random() < 0.9:
            row.append(rng.randint(-6, 12))
        else:
            row.append(value(type_, rng))
    for i, counts in enumerate(row):
        if isinstance(counts, dict) and counts and rng.random() < 0.5:
            item = op.params[i].item
            keys = [j for j, t in enumerate(op.params) if t == item][:1]
            row = [rng.choice(list(counts)) if j in keys else v for j, v in enumerate(row)]
    return tuple(row)


def runs_as(op: ops.Op) -> str:
    """How DuckDB computes the row: SQL, Python, or SQL with Python for the hard inputs."""
    if op.sql is None:
        return "python" if op.literal_sql is None else "literal"
    return "hybrid" if "{python}" in op.sql else "sql"
