"""Transforms: compile time, SQL against hand-written SQL of the same meaning, and online evaluation
against calling the plain function.

    python benchmarks/transforms.py [--size smoke|full] [--runs N] [--json]

The hand-written SQL gives the same values on the data used (checked), but it knows what the data
hold: it overflows, divides by zero and meets NaN as DuckDB does. Goals: SQL within 1.3 times for
arithmetic and string features; online at most 3.5 times with int64 checks, 1.5 times for floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import duckdb
from measure import Result, arguments, compare, seconds, show

from featurekit.define import Transform, feature
from featurekit.parse import parse
from featurekit.point_in_time import prepare
from featurekit.to_duckdb import Lowering, Sql, Value, quote, register_python_ops
from featurekit.to_python import to_python


@feature
def line_value(quantity: int, price: float) -> float:
    return quantity * price


@feature
def margin(price: float, cost: float) -> float:
    return (price - cost) / price * 100.0


@feature
def score(price: float, cost: float) -> float:
    spread = price - cost
    if spread > 50.0:
        return math.sqrt(spread) * 2.0
    elif spread > 0.0:
        return spread / 10.0 + 1.0
    return 0.0


@feature
def units(quantity: int, pack: int) -> int:
    return quantity * pack + 7


@feature
def packs(quantity: int, pack: int) -> int:
    return quantity // pack


@feature
def is_return(invoice: str) -> bool:
    return invoice.startswith("C")


@feature
def goods(code: str, quantity: int) -> bool:
    return code not in ("POST", "DOT", "M") and quantity > 0


@feature
def code_length(code: str) -> int:
    return len(code)


HAND = {
    "line_value": "quantity * price",
    "margin": "(price - cost) / price * 100.0::DOUBLE",
    "score": "CASE WHEN price - cost > 50 THEN sqrt(price - cost) * 2 "
    "WHEN price - cost > 0 THEN (price - cost) / 10 + 1 ELSE 0 END::DOUBLE",
    "units": "quantity * pack + 7",
    "packs": "quantity // pack",
    "is_return": "starts_with(invoice, 'C')",
    "goods": "code NOT IN ('POST', 'DOT', 'M') AND quantity > 0",
    "code_length": "length(code)",
}
FEATURES = (line_value, margin, score, units, packs, is_return, goods, code_length)
INTS = {"units", "packs"}
EXAMPLE: dict[str, Any] = {
    "quantity": 12,
    "pack": 6,
    "price": 99.5,
    "cost": 20.25,
    "invoice": "C536379",
    "code": "85123A",
}


def data(rows: int) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    prepare(con)
    con.execute("SELECT setseed(0.5)").fetchall()
    con.execute(
        "CREATE TABLE t AS SELECT (random() * 1000)::BIGINT AS quantity, "
        "(random() * 20)::BIGINT + 1 AS pack, random() * 200 + 1 AS price, random() * 100 AS cost, "
        "CASE WHEN random() < 0.1 THEN 'C' ELSE '' END || (random() * 1e6)::BIGINT AS invoice, "
        f"(random() * 5000)::BIGINT::VARCHAR || 'A' AS code FROM range({rows})"
    )
    return con


def sql_of(con: duckdb.DuckDBPyConnection, transform: Transform) -> str:
    function = parse(transform)
    lowering = Lowering()
    value = lowering.lower(function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    error = "FALSE" if value.error is None else value.error.text
    return f"(SELECT {value.sql.text} AS v, {error} AS e FROM {lowering.wrap('t')})"


def query(con: duckdb.DuckDBPyConnection, text: str) -> Callable[[], object]:
    return lambda: con.execute(text).fetchall()


def in_sql(con: duckdb.DuckDBPyConnection, transform: Transform, rows: int, runs: int) -> Result:
    ours, hand = sql_of(con, transform), f"(SELECT {HAND[transform.name]} AS v FROM t)"
    differing = con.execute(
        f"SELECT count(*) FROM (SELECT v, e, row_number() OVER () AS i FROM {ours}) a JOIN "
        f"(SELECT v, row_number() OVER () AS i FROM {hand}) b USING (i) "
        "WHERE a.e OR a.v IS DISTINCT FROM b.v"
        if rows <= 1_000_000
        else f"SELECT (SELECT bit_xor(hash(v)) FROM {ours}) <> "
        f"(SELECT bit_xor(hash(v)) FROM {hand})"
    ).fetchall()[0][0]
    assert not differing, f"{transform.name}: the hand-written SQL gives other values"
    taken = compare(
        query(con, f"SELECT max(v), count_if(e) FROM {ours}"),
        query(con, f"SELECT max(v) FROM {hand}"),
        runs=runs,
    )
    return Result(
        f"SQL: {transform.name}", f"{rows:,} rows", taken[0], "hand-written", taken[1], 1.3
    )


def online(transform: Transform, runs: int, *, calls: int) -> Result:
    function = parse(transform)
    ours, plain = to_python(function), transform.function
    values = [EXAMPLE[p.name] for p in function.params]
    assert ours(*values) == plain(*values)

    def loop(f: Callable[..., Any]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(calls):
                f(*values)

        return run

    taken = compare(loop(ours), loop(plain), runs=runs)
    goal = 3.5 if transform.name in INTS else 1.5
    return Result(
        f"online: {transform.name}",
        f"{calls:,} calls",
        taken[0] / calls,
        "plain call",
        taken[1] / calls,
        goal,
    )


def main() -> None:
    options = arguments(str(__doc__).split("\n")[0], {"smoke": 200_000, "full": 10_000_000})
    con = data(options.rows)
    results = [in_sql(con, f, options.rows, options.runs) for f in FEATURES]
    results += [online(f, options.runs, calls=20_000) for f in FEATURES]
    compiled = seconds(lambda: [parse(f) for f in FEATURES]) / len(FEATURES)
    plain = seconds(lambda: [compile("x = 1", "x", "exec") for _ in FEATURES]) / len(FEATURES)
    results.append(Result("compile a function", "1", compiled, "compile() of x = 1", plain))
    show(results, as_json=options.json)


if __name__ == "__main__":
    main()
