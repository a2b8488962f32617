"""Days like those of the reference raise no alarm, although the lines of an invoice come together
and are alike; days with a planted change do. The thresholds are the default ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from featurekit.aggregates.quantiles import buckets
from featurekit.monitor.drift.distances import Histogram
from featurekit.monitor.drift.judge import Sample, Thresholds, judged
from featurekit.monitor.drift.samples import Repeats

FOUND = [f / "shared" / "data" / "online_retail.parquet" for f in Path(__file__).parents[2:4]]
RETAIL = next((path for path in FOUND if path.exists()), None)
DAYS, INVOICES, SEEDS = 90, 200, (1, 2)

pytestmark = pytest.mark.skipif(RETAIL is None, reason="needs shared/data/online_retail.parquet")


class Lines:
    """The lines of all invoices, sorted by invoice."""

    def __init__(self) -> None:
        table = pq.read_table(RETAIL).sort_by("invoice_no")
        invoices = np.array(pc.dictionary_encode(table["invoice_no"]).combine_chunks().indices)
        self.starts = np.flatnonzero(np.diff(invoices, prepend=-1))
        self.ends = np.append(self.starts[1:], len(invoices))
        quantity = table["quantity"].to_numpy().astype(np.int64)
        price = table["unit_price"].to_numpy()
        self.columns: dict[str, Any] = {
            "quantity": quantity,
            "price": price,
            "spend": quantity * price,
            "country": np.array(table["country"].to_pylist(), dtype=object),
            "customer": np.array(pc.is_null(table["customer_id"])),
        }

    def day(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """The lines of some invoices, and the share of them that is as good as independent."""
        drawn = rng.integers(0, len(self.starts), INVOICES)
        repeats = Repeats()
        for i in drawn.tolist():
            repeats.take([(i,)] * int(self.ends[i] - self.starts[i]))
        lines = np.concatenate([np.arange(self.starts[i], self.ends[i]) for i in drawn])
        return lines, repeats.independent()


@pytest.fixture(scope="module")
def lines() -> Lines:
    return Lines()


def samples(columns: dict[str, Any], share: float | None) -> dict[str, Sample]:
    found = {}
    for name, values in columns.items():
        n = len(values)
        if name == "customer":
            found[name] = Sample(n, int(values.sum()), 0, independent=share)
        elif name == "country":
            values, counts = np.unique(values.astype(str), return_counts=True)
            ranked = sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda p: -p[1])
            classes = dict(ranked[:20] if share is None else ranked)
            found[name] = Sample(n, 0, 0, classes=classes, independent=share)
        else:
            at, counts = np.unique(buckets(values), return_counts=True)
            numbers = Histogram(at.astype(np.int64), counts, values.dtype.kind == "i")
            found[name] = Sample(n, 0, 0, numbers=numbers, independent=share)
    return found


def alarms(was: dict[str, Sample], columns: dict[str, Any], share: float) -> set[str]:
    now = samples(columns, share)
    by = Thresholds()
    return {
        name
        for name, one in was.items()
        if any(f.verdict == "drift" for f in judged(name, one, now[name], by))
    }


@pytest.mark.parametrize(
    "seed", [s if s in SEEDS else pytest.param(s, marks=pytest.mark.slow) for s in range(1, 201)]
)
def test_ninety_quiet_days_raise_one_alarm_at_most(lines: Lines, seed: int) -> None:
    rng = np.random.default_rng(seed)
    was = samples(lines.columns, None)
    found = 0
    for _ in range(DAYS):
        drawn, share = lines.day(rng)
        found += len(alarms(was, {n: v[drawn] for n, v in lines.columns.items()}, share))
    assert found <= 1


@pytest.mark.parametrize("rows", [15, 30, 60])
def test_small_quiet_days_raise_one_alarm_at_most(lines: Lines, rows: int) -> None:
    """Chance leaves some bins of a small sample empty, where PSI is far above chi²."""
    was = samples(lines.columns, None)
    n = len(lines.columns["price"])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found = 0
        for _ in range(DAYS):
            drawn = rng.integers(0, n, rows)
            found += len(alarms(was, {c: v[drawn] for c, v in lines.columns.items()}, 1.0))
        assert found <= 1


def _pence(columns: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {**columns, "price": columns["price"] * 100, "spend": columns["spend"] * 100}


def _new_country(columns: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    new = rng.random(len(columns["country"])) < 0.6
    return {**columns, "country": np.where(new, "Atlantis", columns["country"])}


def _broken_feed(columns: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {**columns, "customer": np.ones(len(columns["customer"]), dtype=bool)}


@pytest.mark.parametrize(
    ("change", "features"),
    [
        pytest.param(_pence, {"price", "spend"}, id="pence for pounds"),
        pytest.param(_new_country, {"country"}, id="a new country"),
        pytest.param(_broken_feed, {"customer"}, id="a feed that lost its customers"),
    ],
)
def test_a_planted_change_is_found_within_two_days(lines: Lines, change, features) -> None:
    was = samples(lines.columns, None)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found: set[str] = set()
        for _ in range(2):
            drawn, share = lines.day(rng)
            found |= alarms(
                was, change({n: v[drawn] for n, v in lines.columns.items()}, rng), share
            )
        assert found == features


def test_repeats_count_entities_as_kish_does():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 50, 400)
    repeats, shuffled = Repeats(), Repeats()
    keys = [(f"customer {i}", i) for i, n in enumerate(counts.tolist()) for _ in range(n)]
    repeats.take(keys)
    shuffled.take([keys[i] for i in rng.permutation(len(keys))])
    assert (repeats.counts == shuffled.counts).all()
    kish = counts.sum() ** 2 / (counts.astype(float) ** 2).sum()
    assert repeats.independent() * counts.sum() == pytest.approx(kish, rel=0.02)
    assert Repeats().independent() == 1.0
    alone = Repeats()
    alone.take((i,) for i in range(5_000))
    assert alone.independent() > 0.9
