"""Turns a seed into the events of a small shop, as awkward as those of a real one.

The order lines have the columns and types of "Online Retail" (UCI Machine Learning Repository,
D. Chen, 2015), so that one feature repo reads both. Not one row is taken from it. What makes real
data awkward is all here: customers unknown on a quarter of the lines, returns, exact duplicates,
many lines in one minute, zero and negative prices, trailing spaces, missing texts, an order of
74,215 pieces taken back at once, and sales in the hours that the clock skips or repeats.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEWEST_LINES = 100
FILES = ("order_lines.parquet", "price_list.parquet")

ORDER_LINES = pa.schema(
    [
        pa.field("invoice_no", pa.string(), nullable=False),
        pa.field("stock_code", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("quantity", pa.int32(), nullable=False),
        pa.field("invoice_date", pa.timestamp("us"), nullable=False),
        pa.field("unit_price", pa.float64(), nullable=False),
        pa.field("customer_id", pa.int64()),
        pa.field("country", pa.string(), nullable=False),
    ]
)
PRICE_LIST = pa.schema(
    [
        pa.field("stock_code", pa.string(), nullable=False),
        pa.field("list_price", pa.float64()),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("effective_from", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

_FIRST_DAY, _LAST_DAY = dt.date(2010, 12, 1), dt.date(2011, 10, 31)
_LINES_AN_INVOICE = 18
_HOUR_WEIGHTS = {
    6: 1, 7: 2, 8: 16, 9: 65, 10: 96, 11: 110, 12: 143, 13: 132, 14: 122, 15: 143, 16: 97, 17: 50,
    18: 16, 19: 7, 20: 2,
}  # fmt: skip
_QUANTITIES = np.array([1, 2, 12, 6, 4, 3, 24, 10, 8, 5, 48, 25])
_QUANTITY_WEIGHTS = np.array([270, 149, 115, 77, 69, 66, 45, 43, 25, 21, 11, 10])
_PRICES = np.array([0.42, 0.85, 1.25, 1.65, 2.08, 2.55, 2.95, 3.75, 4.25, 4.95, 7.95, 12.75, 39.95])
_COUNTRIES = ["United Kingdom", "Germany", "EIRE", "France", "Spain", "Netherlands", "Norway"]
_COUNTRY_WEIGHTS = np.array([820, 50, 40, 40, 20, 20, 10])
_COLOURS = ["RED", "PINK", "IVORY", "Blue", "GREEN", "VINTAGE", "RETROSPOT", "FRENCH", "WOODEN"]
_WHAT = ["T-LIGHT HOLDER", "LUNCH BAG", "CAKE TIN", "Bunting", "MUG", "DOORMAT", "CLOCK", "HEART"]
# Stock codes that are no goods, with their texts.
_SERVICES = [
    ("POST", "POSTAGE"),
    ("D", "Discount"),
    ("M", "Manual"),
    ("BANK CHARGES", "Bank Charges"),
]
# Local times in Europe/London that do not exist (27 March) or occur twice (30 October).
_CLOCK_CHANGES = [
    f"2011-{day} {time}"
    for day in ("03-27", "10-30")
    for time in ("00:59", "01:00", "01:30", "01:59", "02:00")
]


def write_sample_data(folder: Path, *, lines: int = 20_000, seed: int = 7) -> dict[str, Path]:
    """Write the two `FILES`; their paths by the sources' names.

    The same arguments give the same bytes. ValueError for fewer than 100 lines.
    """
    if lines < FEWEST_LINES:
        raise ValueError(f"lines must be {FEWEST_LINES} or more, found {lines}")
    folder.mkdir(parents=True, exist_ok=True)
    order_lines = folder / FILES[0]
    pq.write_table(_order_lines(lines, _generator(seed)), order_lines)
    return {
        "order_lines": order_lines,
        "price_list": write_price_list(order_lines, folder, seed=seed),
    }


def write_price_list(order_lines: Path, folder: Path, *, seed: int = 7) -> Path:
    """Write the `price_list.parquet` that fits a file of order lines, a real one as well; its path.

    Per product and month one decision, the median of the month's prices. Some decisions are
    recorded days after they took effect, some are corrected by a later revision, some are None:
    withdrawn from sale.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[1]
    pq.write_table(_price_list(order_lines, _generator(seed + 1)), path)
    return path


def _generator(seed: int) -> np.random.RandomState:
    # NumPy freezes the streams of RandomState; those of the newer Generator may change.
    return np.random.RandomState(seed)


def _order_lines(lines: int, random: np.random.RandomState) -> pa.Table:
    special = _special_lines()
    copies = lines // 130
    drawn = lines - copies - len(special)

    invoices = _invoices(drawn, random)
    invoice = np.repeat(np.arange(len(invoices["size"])), invoices["size"])[:drawn]
    returned = invoices["returned"][invoice]
    codes, texts, prices = _products(max(40, lines // 40), random)
    product = _skewed(len(codes), drawn, random)
    services = random.random_sample(drawn) < 0.01
    product[services] = len(codes) - 1 - random.randint(len(_SERVICES), size=services.sum())

    price = prices[product]
    dearer = random.random_sample(drawn) < 0.1
    price = np.where(dearer, np.round(price * 1.94 + 0.03, 2), price)
    free = random.random_sample(drawn) < 0.003
    price = np.where(free, 0.0, price)
    quantity = _weighted(_QUANTITIES, _QUANTITY_WEIGHTS, drawn, random)
    quantity = np.where(returned, -quantity, quantity)
    no_text = free & (random.random_sample(drawn) < 0.5)
    unknown = invoices["unknown"][invoice] | free

    numbers = 536365 + np.arange(len(invoices["size"]))
    columns: dict[str, list[Any]] = {
        "invoice_no": [
            f"C{number}" if back else str(number)
            for number, back in zip(numbers[invoice].tolist(), returned.tolist(), strict=True)
        ],
        "stock_code": [codes[i] for i in product],
        "description": _masked([texts[i] for i in product], no_text),
        "quantity": quantity.tolist(),
        "invoice_date": invoices["minute"][invoice].astype("datetime64[us]").tolist(),
        "unit_price": price.tolist(),
        "customer_id": _masked(invoices["customer"][invoice].tolist(), unknown),
        "country": [_COUNTRIES[i] for i in invoices["country"][invoice]],
    }
    copied = np.sort(random.randint(drawn, size=copies)).tolist()
    for position, name in enumerate(ORDER_LINES.names):
        values = columns[name]
        values += [values[i] for i in copied]
        values += [row[position] for row in special]
    order = sorted(range(lines), key=lambda i: columns["invoice_date"][i])
    return pa.table(
        {name: [values[i] for i in order] for name, values in columns.items()}, schema=ORDER_LINES
    )


def _invoices(lines: int, random: np.random.RandomState) -> dict[str, np.ndarray[Any, Any]]:
    """One value per invoice, in the order of time; their sizes add up to `lines` or more."""
    after = np.datetime64(_LAST_DAY) + np.timedelta64(1, "D")
    days = np.arange(np.datetime64(_FIRST_DAY), after)
    days = days[np.is_busday(days, weekmask="Sun Mon Tue Wed Thu Fri")]
    hours = np.array(list(_HOUR_WEIGHTS))
    weights = np.array(list(_HOUR_WEIGHTS.values()))

    count = 16 + 4 * lines // _LINES_AN_INVOICE
    size = 1 + (random.standard_exponential(count) * _LINES_AN_INVOICE).astype(np.int64)
    returned = random.random_sample(count) < 0.15
    size = np.where(returned, 1 + size % 3, size)
    count = int(np.searchsorted(np.cumsum(size), lines)) + 1

    minute = days[random.randint(len(days), size=count)].astype("datetime64[m]")
    since = 60 * _weighted(hours, weights, count, random) + random.randint(60, size=count)
    minute += since.astype("timedelta64[m]")
    customers = max(20, lines // 100)
    buyer = _skewed(customers, count, random)
    home = _weighted(np.arange(len(_COUNTRIES)), _COUNTRY_WEIGHTS, customers, random)
    moved = random.random_sample(count) < 0.02
    return {
        "size": size[:count],
        "returned": returned[:count],
        "minute": np.sort(minute),
        "customer": 12347 + 7 * buyer,
        "country": np.where(moved, random.randint(len(_COUNTRIES), size=count), home[buyer]),
        "unknown": random.random_sample(count) < 0.25,
    }


def _products(
    count: int, random: np.random.RandomState
) -> tuple[list[str], list[str], np.ndarray[Any, Any]]:
    """The codes, texts and prices of `count` goods, then of the services."""
    suffixes = np.array(["", "A", "B", "L"])
    suffix = _weighted(suffixes, np.array([90, 4, 4, 2]), count, random).tolist()
    codes = [f"{20_000 + 7 * i}{suffix[i]}" for i in range(count)]
    texts = [f"{_COLOURS[i % 9]} {_WHAT[i // 9 % 8]}{' ' * (i % 10 == 0)}" for i in range(count)]
    prices = _PRICES[random.randint(len(_PRICES), size=count)]
    return (
        codes + [code for code, _ in _SERVICES],
        texts + [text for _, text in _SERVICES],
        np.concatenate([prices, [18.0, 26.05, 10.0, 86.9]]),
    )


def _special_lines() -> list[tuple[Any, ...]]:
    """The lines that every sample holds, in the order of the columns."""
    uk, jar = "United Kingdom", "MEDIUM CERAMIC TOP STORAGE JAR"
    bought, back = dt.datetime(2011, 1, 18, 10, 1), dt.datetime(2011, 1, 18, 10, 17)
    debt = dt.datetime(2011, 8, 12, 14, 51)
    rows: list[tuple[Any, ...]] = [
        ("541431", "23166", jar, 74_215, bought, 1.04, 12346, uk),
        ("C541433", "23166", jar, -74_215, back, 1.04, 12346, uk),
        ("A563186", "B", "Adjust bad debt", 1, debt, -11_062.06, None, uk),
    ]
    for number, written in enumerate(_CLOCK_CHANGES):
        row = (f"58{number:04}", "20007", "NIGHT LIGHT ", number + 1)
        rows.append((*row, dt.datetime.fromisoformat(written), 2.95, 12347, uk))
    return rows


def _price_list(order_lines: Path, random: np.random.RandomState) -> pa.Table:
    with duckdb.connect() as connection:
        decided = connection.execute(
            """
            SELECT stock_code, epoch_us(date_trunc('month', invoice_date)) AS month_us,
                   round(median(unit_price), 2) AS price
            FROM read_parquet($path) WHERE unit_price > 0 GROUP BY ALL ORDER BY ALL
            """,
            {"path": str(order_lines)},
        ).fetchall()
    count = len(decided)
    hour_us, day_us = 3_600_000_000, 86_400_000_000
    at_hour = random.randint(24 * 5, size=count)
    late = random.random_sample(count) < 0.2
    late_us = np.where(late, random.randint(1, 21 * day_us, size=count), 0)
    withdrawn = random.random_sample(count) < 0.04
    corrected = random.random_sample(count) < 0.1
    correction_us = late_us + random.randint(hour_us, 10 * day_us, size=count)

    rows: list[tuple[Any, ...]] = []
    for i, (code, month_us, price) in enumerate(decided):
        effective_us = month_us + int(at_hour[i]) * hour_us
        price = None if withdrawn[i] else price
        rows.append((code, price, 1, effective_us, effective_us + int(late_us[i])))
        if corrected[i]:
            right = None if price is None else round(price * 1.05, 2)
            rows.append((code, right, 2, effective_us, effective_us + int(correction_us[i])))
    rows.sort(key=lambda row: (row[4], row[0]))
    arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(PRICE_LIST)]
    return pa.table(arrays, schema=PRICE_LIST)


def _skewed(kinds: int, size: int, random: np.random.RandomState) -> np.ndarray[Any, Any]:
    """Numbers below `kinds`, the small ones far more often."""
    skewed: np.ndarray[Any, Any] = (kinds * random.random_sample(size) ** 2).astype(np.int64)
    return skewed


def _weighted(
    values: np.ndarray[Any, Any],
    weights: np.ndarray[Any, Any],
    size: int,
    random: np.random.RandomState,
) -> np.ndarray[Any, Any]:
    """`size` of the values, each as often as its whole weight says."""
    edges = np.cumsum(weights)
    drawn = random.randint(edges[-1], size=size)
    chosen: np.ndarray[Any, Any] = values[np.searchsorted(edges, drawn, side="right")]
    return chosen


def _masked(values: list[Any], missing: np.ndarray[Any, Any]) -> list[Any]:
    return [None if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
