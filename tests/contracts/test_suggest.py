"""Rules that are proposed hold of the rows they are made of, and can be pasted (S5)."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from contracts.shop import MODULE, USERS, order, orders
from feature_repos import MakeRepo

from featurekit import FeatureStore
from featurekit.cli import main


def written(make_repo: MakeRepo, rules: str = "", rows: int = 400) -> Path:
    rng = random.Random(rows)
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)  # however long the run takes
    made = [
        order(
            place,
            at=begun + dt.timedelta(seconds=place),
            price=rng.uniform(1, 90),
            sku=None if place % 9 == 0 else f"AB-{rng.randrange(10_000)}",
        )
        for place in range(rows)
    ]
    return make_repo(MODULE.format(rules=rules), {"orders": orders(*made), "users": USERS})


def proposed(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["contracts", "suggest", "orders", "--repo", str(folder), *more]) == 0
    return capsys.readouterr().out


def test_what_is_proposed_is_seen_in_the_data(
    make_repo: MakeRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    code = proposed(written(make_repo), capsys)
    for rule in (
        'OneOf("key", [0, 1, 2], severity="warn")',
        'Between("n", 0, 400, severity="warn")',
        'Unique("n", severity="warn")',
        'Between("price", 0.0, 90.0, severity="warn")',
        'NotNullShare("sku", 0.88, severity="warn")',
        'Matches("sku", r"[A-Z]+\\-[0-9]+", severity="warn")',
        'RowCount(1, severity="warn", change=0.5)',
        'Fresh("2h", severity="warn")',
    ):
        assert f"    {rule},\n" in code, (rule, code)


@pytest.mark.parametrize("rows", [1, 5, 400])
def test_what_is_proposed_holds_and_is_pasted(
    rows: int, make_repo: MakeRepo, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = proposed(written(make_repo, rows=rows), capsys, "--severity", "fail")
    rules = code.partition("expect=[")[2].rpartition("],")[0]
    folder = written(make_repo, rules, rows=rows)
    with FeatureStore(folder, redis_url=redis_url) as store:
        found = store.validate(["orders"])
        assert found.ok
        assert len(found.sources[0].outcomes) > 3
        wrong = orders(*(order(n, key=9, n=-5, price=1e9, sku="?") for n in range(2)))
        pq.write_table(wrong, folder / "data" / "orders.parquet")
        assert not store.validate(["orders"]).ok


def test_without_rows_nothing_is_proposed(
    make_repo: MakeRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no rows" in proposed(written(make_repo, rows=0), capsys)
