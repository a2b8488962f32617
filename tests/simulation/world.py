"""What happens in the simulated shop: days of order lines with planted changes, and outcomes.

The lines are those of "Online Retail". Each simulated day has as many invoices as some day of the
file, and each is one of the file, drawn by the seed, with its customer, lines and time of day. So
the file's 304 days become a year with its history, and season and growth are spread over it: a
quiet day is like the days before it, which an alarm has to be judged by. (Whole days that are drawn
would bring all their customers back at once, which is a change.)

Whether a customer closes the account is not in the file. It is drawn: who buys often in the file
seldom does so. From the planted change of the concept on, who buys often does so often.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.simulation.plan import FIRST_DAY, KNOWN_AFTER, Plan

_STRENGTH = 2.5
_MOVED_SHARE = 0.6


@dataclass
class World:
    """The shop, by the seed and the plan of its changes."""

    retail: Path
    plan: Plan
    seed: int
    _lines: pa.Table = field(init=False)
    _starts: np.ndarray = field(init=False)
    _invoices: np.ndarray = field(init=False)
    _loyal: Mapping[int, float] = field(init=False)

    def __post_init__(self) -> None:
        table = pq.read_table(self.retail, columns=[*_COLUMNS])
        table = table.filter(pc.is_valid(table["customer_id"])).sort_by("invoice_no")
        table = table.append_column("date", pc.floor_temporal(table["invoice_date"], unit="day"))
        self._lines, self._loyal = table, _loyalty(table)
        numbers = pc.dictionary_encode(table["invoice_no"]).combine_chunks().indices.to_numpy()
        self._starts = np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(numbers))
        of_day = table["date"].take(pa.array(self._starts[:-1]))
        self._invoices = pc.value_counts(of_day).field("counts").to_numpy()

    def lines(self, day: int) -> pa.Table:
        """The true lines of a day, before any feed has had them."""
        random = self._rng("day", day)
        drawn = random.integers(0, len(self._starts) - 1, random.choice(self._invoices))
        begins, ends = self._starts[drawn], self._starts[drawn + 1]
        table = self._lines.take(np.concatenate([*map(np.arange, begins, ends)]))
        numbers = np.repeat(np.arange(len(drawn)), ends - begins)
        since = pc.subtract(table["invoice_date"], table["date"]).cast(pa.int64())
        start = round((FIRST_DAY + dt.timedelta(days=day)).timestamp() * 1e6)
        at = pc.add(since, start).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        return pa.table(
            {
                "invoice_no": [f"{day}-{number}" for number in numbers],
                "stock_code": table["stock_code"],
                "quantity": table["quantity"].cast(pa.int64()),
                "unit_price": table["unit_price"],
                "customer_id": table["customer_id"].cast(pa.int64()),
                "country": table["country"],
                "invoice_date": at,
            }
        )

    def sent(self, day: int) -> pa.Table | None:
        """The lines that the feed sends on a day, with what is planted; None where it is broken,
        and late lines once it is repaired."""
        if self.plan.holds("feed", day):
            return None
        late = [self.lines(d) for d in self._missed(day)]
        table = pa.concat_tables([*late, self.lines(day)])
        if self.plan.holds("currency", day):
            place = table.schema.get_field_index("unit_price")
            table = table.set_column(place, "unit_price", pc.multiply(table["unit_price"], 100.0))
        if self.plan.holds("country", day):
            place = table.schema.get_field_index("country")
            table = table.set_column(place, "country", self._moved(table, day))
        return table

    def _missed(self, day: int) -> list[int]:
        """The days whose lines a feed that was broken until yesterday sends today."""
        first = day
        while self.plan.holds("feed", first - 1):
            first -= 1
        return list(range(first, day))

    def _moved(self, table: pa.Table, day: int) -> pa.Array:
        """The countries, where many lines are of one that was never seen."""
        new = self._rng("country", day).random(len(table)) < _MOVED_SHARE
        return pc.if_else(pa.array(new), "Atlantis", table["country"])

    def visitors(self, day: int) -> list[int]:
        """The customers who come on a day; predictions are asked for them."""
        found: list[int] = pc.unique(self.lines(day)["customer_id"]).to_pylist()
        return sorted(found)

    def loyalty(self, customer: int) -> float:
        """How often a customer buys in the file, as a rank over all visits from −2 to 2."""
        return self._loyal[customer]

    def outcomes(self, day: int) -> dict[int, bool]:
        """Whether each visitor of a day closes the account within `KNOWN_AFTER` days."""
        turned = self.plan.holds("concept", day)
        random = self._rng("outcome", day)
        found = {}
        for customer in self.visitors(day):
            pull = _STRENGTH * self._loyal[customer] * (1 if turned else -1)
            found[customer] = bool(random.random() < 1 / (1 + np.exp(-pull)))
        return found

    def _rng(self, what: str, day: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, _STREAMS[what], day + 10_000])


_COLUMNS = ("invoice_no", "stock_code", "quantity", "unit_price", "customer_id", "country",
            "invoice_date")  # fmt: skip
_STREAMS = {"day": 1, "country": 2, "outcome": 3}


def _loyalty(table: pa.Table) -> dict[int, float]:
    """On how many days each customer buys, as a rank over all visits from −2 to 2."""
    days = table.select(["customer_id", "date"]).group_by(["customer_id", "date"]).aggregate([])
    counts = days.group_by("customer_id").aggregate([([], "count_all")])
    customers, n = counts["customer_id"].to_numpy(), counts["count_all"].to_numpy()
    order = np.argsort(n, kind="stable")
    share = (np.cumsum(n[order]) - n[order] / 2) / n.sum()
    return dict(zip(customers[order].tolist(), (4 * share - 2).tolist(), strict=True))


def labels(world: World, days: range) -> dict[str, list[Any]]:
    """What became of the visitors of some days, as labels for a training set."""
    rows: dict[str, list[Any]] = {"customer_id": [], "event_timestamp": [], "churned": []}
    for day in days:
        for customer, churned in world.outcomes(day).items():
            rows["customer_id"].append(customer)
            rows["event_timestamp"].append(asked_at(day))
            rows["churned"].append(churned)
    return rows


def asked_at(day: int) -> dt.datetime:
    """When the lines of a day are in, and predictions are asked for."""
    return FIRST_DAY + dt.timedelta(days=day, hours=21)


def judged_at(day: int) -> dt.datetime:
    """When a day is over, and its outcomes of `KNOWN_AFTER` days before are known."""
    return FIRST_DAY + dt.timedelta(days=day, hours=23)


def known_on(day: int) -> int:
    """The day whose outcomes are known on this one."""
    return day - KNOWN_AFTER


def day_of(at: dt.datetime) -> int:
    """The day of an instant."""
    return (at - FIRST_DAY).days
