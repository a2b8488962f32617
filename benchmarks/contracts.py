"""A contract of ten rules over ten columns, beside plain DuckDB that counts the same by hand.

By hand, DuckDB scans the Parquet file with the conditions as a person would write them. Ours reads
the columns as the schema declares them, judges NULL, NaN and errors as the compiled rules do, and
takes a case of every severity. Both give the same counts. A cell is a value of a column of a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Result, interleaved
from featurekit import Between, EventSource, Holds, Matches, NotNull, NotNullShare, OneOf, feature
from featurekit.define.contracts.compiled import contract_of
from featurekit.offline.contract import measure
from featurekit.offline.session import connect
from featurekit.sources import read_events

PEER = "by hand"
SIZES = {"smoke": 20_000, "medium": 2_000_000, "full": 20_000_000}
CITIES = ["Paris", "Lima", "Oslo"]
SCHEMA: dict[str, Any] = {
    "id": int, "customer": int, "quantity": int, "price": float, "discount": float | None,
    "sku": str, "city": str | None, "returned": bool, "weight": float,
}  # fmt: skip


@feature
def cheap(price: float, quantity: int) -> bool:
    """The order is worth less than 10,000."""
    return price * quantity < 10_000


RULES = [
    Between("quantity", 1, 60, severity="quarantine"),
    Between("price", above=0.0),
    Between("discount", 0.0, 0.9, severity="warn"),
    Between("customer", 0),
    OneOf("city", CITIES),
    Matches("sku", r"[A-Z]{2}\d{4}"),
    NotNull("discount", severity="warn"),
    Between("weight", 0.0, 40.0),
    Holds(cheap, severity="warn"),
    NotNullShare("city", 0.9),
]
BY_HAND = """
SELECT count(*), count(*) FILTER (NOT quantity BETWEEN 1 AND 60), count(*) FILTER (NOT price > 0),
    count(*) FILTER (NOT discount BETWEEN 0 AND 0.9), count(*) FILTER (NOT customer >= 0),
    count(*) FILTER (city NOT IN ('Paris', 'Lima', 'Oslo')),
    count(*) FILTER (NOT regexp_full_match(sku, '[A-Z]{2}[0-9]{4}')),
    count(*) FILTER (discount IS NULL), count(*) FILTER (NOT weight BETWEEN 0 AND 40),
    count(*) FILTER (NOT price * quantity < 10000),
    count(*) FILTER (city IS NULL AND quantity BETWEEN 1 AND 60), max("at"), count(id),
    count(*) FILTER (returned)
FROM read_parquet($1)
"""


def results(size: str, runs: int) -> Iterator[Result]:
    """The contract of a file that nothing is known of, and of one that is checked already."""
    rows = SIZES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(_table(rows), folder / "orders.parquet")
        source = EventSource(
            "orders",
            path=str(folder / "orders.parquet"),
            schema=SCHEMA,
            timestamp_field="at",
            expect=RULES,
        )
        with closing(connect(folder)) as con, duckdb.connect() as plain:
            ours, by_hand = _Ours(con, source, folder), _ByHand(plain, source.path)
            assert ours() == by_hand()
            taken = interleaved({OURS: ours, PEER: by_hand}, runs)
        cells = rows * (len(SCHEMA) + 1)
        shown = f"{rows:,} rows × {len(SCHEMA) + 1} columns, {len(RULES)} rules"
        rates = {name: cells / seconds for name, seconds in taken.items()}
        yield Result("contract: cells judged in one scan", shown, "1/s", rates, PEER)


class _Ours:
    """The contract's scan, of a source whose schema is checked."""

    def __init__(self, con: Any, source: EventSource, folder: Path) -> None:
        self.con, self.source, self.folder = con, source, folder

    def __call__(self) -> list[int]:
        read = read_events(
            self.con, self.source, base=self.folder, state_dir=self.folder, judged=False
        )
        contract = contract_of(self.source)
        found = measure(self.con, self.source, contract, read.relation, other=lambda _: "")
        return [found.rows, *found.broken.values(), found.shares["city_not_null_share"][0]]


class _ByHand:
    """The same counts, as a person would write them."""

    def __init__(self, con: Any, path: str) -> None:
        self.con, self.path = con, path

    def __call__(self) -> list[int]:
        found = self.con.execute(BY_HAND, [self.path]).fetchall()[0]
        return [int(n) for n in found[:11]]


def _table(rows: int) -> pa.Table:
    rng = np.random.default_rng(rows)
    numbers = rng.integers(0, 10_000, rows)
    letters = np.array(["AB", "CD", "EF"])[rng.integers(0, 3, rows)]
    sku = np.char.add(letters, np.char.zfill(numbers.astype(str), 4))
    at = 1_700_000_000_000_000 + rng.integers(0, 10**13, rows)
    city, off = rng.integers(0, 3, rows), rng.random(rows)
    return pa.table(
        {
            "id": np.arange(rows),
            "customer": rng.integers(0, 50_000, rows),
            "quantity": rng.integers(0, 62, rows),
            "price": rng.random(rows) * 200,
            "discount": pa.array(off, mask=off > 0.97),
            "sku": sku,
            "city": pa.array(np.array(CITIES)[city], mask=rng.random(rows) < 0.01),
            "returned": rng.random(rows) < 0.1,
            "weight": rng.random(rows) * 40,
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )
