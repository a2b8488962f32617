"""Transforms: compile time, SQL against hand-written SQL of the same meaning, and online evaluation
against calling the plain function.

    python -m benchmarks.transforms [--size smoke|full] [--runs N] [--json]

The hand-written SQL gives the same values on the data used (checked), and is what its author would
write who knows what the data hold: it overflows, divides by zero and meets NaN as DuckDB does, asks
DuckDB's own time zones, and says nothing of errors, which our query counts. Goals: SQL within 1.3
times for arithmetic and string features; online at most 3.5 times with int64 checks, 1.5 times for
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from benchmarks.measure import OURS, Result, arguments, interleaved
from benchmarks.report import show
from featurekit.core.sql import quote
from featurekit.language.parse import parse
from featurekit.language.python_calls import register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python
from featurekit.language.transform import Transform, feature
from featurekit.offline.session import prepare

LONDON = ZoneInfo("Europe/London")
MINUTE = timedelta(minutes=1)
RATES = {f"c{i}": 1.0 + i / 8 for i in range(10)}
SHELVES = {f"SKU{i * 7919 % 100003}": i for i in range(1000)}


@feature
def line_value(quantity: int, price: float) -> float:
    return quantity * price


@feature
def margin(price: float, cost: float) -> float:
    return (price - cost) / price * 100.0


@feature
def margin_or_zero(price: float, cost: float) -> float:
    if price == 0.0:
        return 0.0
    return (price - cost) / price


@feature
def items_per_pack(quantity: int, pack: int) -> float:
    return quantity / pack if pack > 0 else 0.0


@feature
def score(price: float, cost: float) -> float:
    spread = price - cost
    if spread > 50.0:
        return math.sqrt(spread) * 2.0
    elif spread > 0.0:
        return spread / 10.0 + 1.0
    return 0.0


@feature
def price_band(price: float) -> int:
    if price < 10.0:
        return 0
    elif price < 25.0:
        return 1
    elif price < 100.0:
        return 2
    elif price < 150.0:
        return 3
    return 4


@feature
def units(quantity: int, pack: int) -> int:
    return quantity * pack + 7


@feature
def packs(quantity: int, pack: int) -> int:
    return quantity // pack


@feature
def balance_hundreds(balance: int) -> int:
    return balance // 100


@feature
def shard(quantity: int) -> int:
    return quantity % 10


@feature
def known_balance(maybe: float | None) -> float:
    return 0.0 if maybe is None else maybe * 2.0


@feature
def haversine(lat: float, lon: float, shop_lat: float, shop_lon: float) -> float:
    a, b = math.radians(lat), math.radians(shop_lat)
    h = (
        math.sin((b - a) / 2.0) ** 2
        + math.cos(a) * math.cos(b) * math.sin(math.radians(shop_lon - lon) / 2.0) ** 2
    )
    return 2.0 * 6371.0 * math.asin(math.sqrt(h))


@feature
def is_return(invoice: str) -> bool:
    return invoice.startswith("C")


@feature
def goods(code: str, quantity: int) -> bool:
    return code not in ("POST", "DOT", "M") and quantity > 0


@feature
def code_length(code: str) -> int:
    return len(code)


@feature
def code_family(code: str) -> str:
    return code[:2]


@feature
def clean_name(name: str) -> str:
    return name.strip().lower()


@feature
def mail_domain(email: str) -> str:
    return email.split("@")[1].lower()


@feature
def mail_domain_by_partition(email: str) -> str | None:
    _name, at, domain = email.partition("@")
    return domain if at else None


@feature
def hour_of_day(seen: datetime) -> int:
    return seen.hour


@feature
def is_weekend(seen: datetime) -> bool:
    return seen.weekday() >= 5


@feature
def days_since(seen: datetime, signup: datetime) -> float:
    return (seen - signup).total_seconds() / 86400.0


@feature
def hour_angle(seen: datetime) -> float:
    return math.sin(2.0 * math.pi * seen.hour / 24.0)


@feature
def local_hour(seen: datetime) -> int:
    return seen.astimezone(LONDON).hour


@feature
def local_night(seen: datetime) -> bool:
    local = seen.astimezone(LONDON)
    return local.weekday() >= 5 or local.hour < 6


@feature
def rate_of_ten(country: str) -> float:
    return RATES.get(country, 0.0)


@feature
def shelf_of_thousand(sku: str) -> int:
    return SHELVES.get(sku, -1)


def _entries(table: dict[str, Any]) -> str:
    return ", ".join(f"('{k}', {v})" for k, v in table.items())


_LOCAL = "timezone('Europe/London', seen::TIMESTAMPTZ)"
HAND = {
    "line_value": "quantity * price",
    "margin": "(price - cost) / price * 100.0::DOUBLE",
    "margin_or_zero": "CASE WHEN price = 0 THEN 0 ELSE (price - cost) / price END",
    "items_per_pack": "CASE WHEN pack > 0 THEN quantity / pack ELSE 0 END",
    "score": "CASE WHEN price - cost > 50 THEN sqrt(price - cost) * 2 "
    "WHEN price - cost > 0 THEN (price - cost) / 10 + 1 ELSE 0 END::DOUBLE",
    "price_band": "CASE WHEN price < 10 THEN 0 WHEN price < 25 THEN 1 WHEN price < 100 THEN 2 "
    "WHEN price < 150 THEN 3 ELSE 4 END::BIGINT",
    "units": "quantity * pack + 7",
    "packs": "quantity // pack",
    "balance_hundreds": "floor(balance / 100)::BIGINT",
    "shard": "quantity % 10",
    "known_balance": "coalesce(maybe * 2, 0)",
    "haversine": "2 * 6371 * asin(sqrt(pow(sin((radians(shop_lat) - radians(lat)) / 2), 2) "
    "+ cos(radians(lat)) * cos(radians(shop_lat)) "
    "* pow(sin(radians(shop_lon - lon) / 2), 2)))",
    "is_return": "starts_with(invoice, 'C')",
    "goods": "code NOT IN ('POST', 'DOT', 'M') AND quantity > 0",
    "code_length": "length(code)",
    "code_family": "left(code, 2)",
    "clean_name": "lower(trim(name))",
    "mail_domain": "lower(split_part(email, '@', 2))",
    "mail_domain_by_partition": "split_part(email, '@', 2)",
    "hour_of_day": "hour(seen)",
    "is_weekend": "isodow(seen) >= 6",
    "days_since": "(epoch_us(seen) - epoch_us(signup)) / 1e6::DOUBLE / 86400",
    "hour_angle": f"sin({2.0 * math.pi!r}::DOUBLE * hour(seen) / 24)",
    "local_hour": f"hour({_LOCAL})",
    "local_night": f"isodow({_LOCAL}) >= 6 OR hour({_LOCAL}) < 6",
    "rate_of_ten": f"CASE country {' '.join(f'WHEN {k!r} THEN {v}' for k, v in RATES.items())} "
    "ELSE 0 END::DOUBLE",
    "shelf_of_thousand": "coalesce(shelf, -1)::BIGINT",
}
JOINED = {
    "shelf_of_thousand": f"LEFT JOIN (VALUES {_entries(SHELVES)}) s(sku, shelf) USING (sku)",
}
FEATURES: tuple[Transform, ...] = (
    *(line_value, margin, margin_or_zero, items_per_pack, score, price_band, known_balance),
    *(units, packs, balance_hundreds, shard, haversine),
    *(is_return, goods, code_length, code_family, clean_name, mail_domain),
    *(mail_domain_by_partition, rate_of_ten, shelf_of_thousand),
    *(hour_of_day, is_weekend, days_since, hour_angle, local_hour, local_night),
)
INTS = {"units", "packs", "balance_hundreds", "shard"}
EXAMPLE: dict[str, Any] = {
    "quantity": 12,
    "pack": 6,
    "balance": -1234,
    "price": 99.5,
    "cost": 20.25,
    "maybe": 4.5,
    "lat": 51.5,
    "lon": -0.12,
    "shop_lat": 53.48,
    "shop_lon": -2.24,
    "invoice": "C536379",
    "code": "85123A",
    "name": "  Ada Lovelace ",
    "email": "Ada.Lovelace@Example.com",
    "country": "c7",
    "sku": "SKU7919",
    "seen": datetime(2024, 7, 1, 12, 30, tzinfo=UTC),
    "signup": datetime(2023, 1, 5, 8, 0, 0, 1, tzinfo=UTC),
}
COLUMNS = (
    "(random() * 1000)::BIGINT AS quantity",
    "(random() * 20)::BIGINT + 1 AS pack",
    "(random() * 2e6 - 1e6)::BIGINT AS balance",
    "random() * 200 + 1 AS price",
    "random() * 100 AS cost",
    "CASE WHEN random() < 0.9 THEN random() * 1000 END AS maybe",
    "random() * 180 - 90 AS lat",
    "random() * 360 - 180 AS lon",
    "random() * 180 - 90 AS shop_lat",
    "random() * 360 - 180 AS shop_lon",
    "CASE WHEN random() < 0.1 THEN 'C' ELSE '' END || (random() * 1e6)::BIGINT AS invoice",
    "(random() * 5000)::BIGINT::VARCHAR || 'A' AS code",
    "CASE WHEN random() < 0.2 THEN ' ' ELSE '' END || 'Name ' || (random() * 1e5)::BIGINT "
    "|| CASE WHEN random() < 0.2 THEN '  ' ELSE '' END AS name",
    "'User' || (random() * 1e6)::BIGINT || '@Shop' || (random() * 50)::BIGINT || '.com' AS email",
    "'c' || (random() * 11)::BIGINT AS country",
    "'SKU' || ((random() * 1100)::BIGINT * 7919 % 100003) AS sku",
    "make_timestamp(1600000000000000 + (random() * 1.5e14)::BIGINT) AS seen",
    "make_timestamp(1500000000000000 + (random() * 1e14)::BIGINT) AS signup",
)


def data(rows: int, transform: Transform | None = None) -> duckdb.DuckDBPyConnection:
    """A database with the table t of the columns that the transform takes, or all."""
    con = duckdb.connect()
    prepare(con)
    con.execute("SELECT setseed(0.5)").fetchall()
    taken = None if transform is None else {p.name for p in parse(transform).params}
    chosen = [c for c in COLUMNS if taken is None or c.rsplit(" ", 1)[1] in taken]
    con.execute(f"CREATE TABLE t AS SELECT {', '.join(chosen)} FROM range({rows})")
    return con


def sql_of(con: duckdb.DuckDBPyConnection, transform: Transform) -> str:
    function = parse(transform)
    lowering = Lowering()
    value = lower(lowering, function, [Value(Sql(quote(p.name))) for p in function.params])
    register_python_ops(con, lowering.python_ops)
    error = "FALSE" if value.error is None else value.error.text
    return f"(SELECT {value.sql.text} AS v, {error} AS e FROM {lowering.wrap('t')})"


def query(con: duckdb.DuckDBPyConnection, text: str) -> Callable[[], object]:
    return lambda: con.execute(text).fetchall()


def in_sql(transform: Transform, rows: int, runs: int) -> Result:
    con = data(rows, transform)
    ours = sql_of(con, transform)
    hand = f"(SELECT {HAND[transform.name]} AS v FROM t {JOINED.get(transform.name, '')})"
    # Bags of values: a join may return its rows in another order.
    bag = "SELECT count(*), count(v), sum(hash(v)), bit_xor(hash(v)) FROM"
    same = query(con, f"{bag} {ours}")() == query(con, f"{bag} {hand}")()
    assert same, f"{transform.name}: the hand-written SQL gives other values"
    assert query(con, f"SELECT count_if(e) FROM {ours}")() == [(0,)], transform.name
    works = {
        OURS: query(con, f"SELECT max(v), count_if(e) FROM {ours}"),
        "hand-written": query(con, f"SELECT max(v) FROM {hand}"),
    }
    taken = interleaved(works, runs)
    return Result(f"SQL: {transform.name}", f"{rows:,} rows", "s", taken, "hand-written", 1.3)


def online(transform: Transform, runs: int, *, calls: int) -> Result:
    function = parse(transform)
    ours, plain = to_python(function), transform.function
    # Instants of their own: no call finds the last one's local time.
    rows = [
        [
            v + i * MINUTE if isinstance(v := EXAMPLE[p.name], datetime) else v
            for p in function.params
        ]
        for i in range(1000)
    ]
    assert all(ours(*row) == plain(*row) for row in rows)

    def loop(f: Callable[..., Any]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(calls // len(rows)):
                for row in rows:
                    f(*row)

        return run

    taken = interleaved({OURS: loop(ours), "plain call": loop(plain)}, runs)
    each = {name: took / calls for name, took in taken.items()}
    goal = 3.5 if transform.name in INTS else 1.5
    return Result(f"online: {transform.name}", f"{calls:,} calls", "s", each, "plain call", goal)


def compiling(transform: Transform, runs: int) -> Result:
    """Parsing, and lowering to both SQL and Python; DuckDB's planning is in the other times."""

    def work() -> None:
        function = parse(transform)
        lower(Lowering(), function, [Value(Sql(quote(p.name))) for p in function.params])
        to_python(function)

    other = "compile() of x = 1"
    taken = interleaved({OURS: work, other: lambda: compile("x = 1", "x", "exec")}, runs)
    return Result(f"compile: {transform.name}", "1", "s", taken, other)


ROWS = {"smoke": 50_000, "medium": 1_000_000, "full": 10_000_000}


def results(size: str, runs: int) -> Iterator[Result]:
    """Each transform in SQL over a table, called online, and compiled."""
    for transform in FEATURES:
        yield in_sql(transform, ROWS[size], runs)
    for transform in FEATURES:
        yield online(transform, runs, calls=20_000)
    for transform in FEATURES:
        yield compiling(transform, max(runs, 5))


def main() -> None:
    options = arguments(str(__doc__).split("\n")[0], ROWS)
    found = list(results(options.size, options.runs))
    show(found, as_json=options.json)
    for r in found:
        if r.goal is not None and r.ratio > r.goal and not options.json:
            print(f"above its goal: {r.work}, {r.ratio:.2f} times (goal {r.goal:g})")


if __name__ == "__main__":
    main()
