"""Rules of all rows are what plain Python says of them, and measured once for a content (S5)."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from contracts.ruled import NOON, RULES, rows, source_of, table_of, with_severity, write
from contracts.shop import GOOD, MODULE, USERS, order, orders
from feature_repos import MakeRepo
from hypothesis import given, settings

from featurekit import (
    EventSource,
    FeatureStore,
    Fresh,
    Monotone,
    NotNullShare,
    References,
    RowCount,
    Share,
    Unique,
)
from featurekit.define.contracts.compiled import contract_of
from featurekit.offline.contract import Outcome, measure, outcomes
from featurekit.offline.session import prepare
from featurekit.project import contracts
from featurekit.sources import read_events

NOW_US = int(NOON.timestamp() * 1e6) + 60_000_000
Rows = list[dict[str, Any]]


def repeats(rows: Rows, *columns: str) -> int:
    def key(value: Any) -> Any:
        return "nan" if isinstance(value, float) and math.isnan(value) else value

    there = [row for row in rows if all(row[c] is not None for c in columns)]
    found = Counter(tuple(key(row[c]) for c in columns) for row in there)
    return sum(n - 1 for n in found.values())


def falls(rows: Rows, column: str, per: str | None = None, *, strictly: bool = False) -> int:
    last: dict[Any, Any] = {}
    broken = 0
    for row in rows:  # they are in the order of their instants
        value, group = row[column], per and row[per]
        if value is None:
            continue
        if group in last and (value < last[group] or (strictly and value == last[group])):
            broken += 1
        last[group] = value
    return broken


def share(rows: Rows, kind: str) -> tuple[int, int]:
    said = [RULES[kind][1](row) for row in rows]
    return sum(one is False for one in said), sum(one is not None for one in said)


def judged(folder: Path, con: Any, source: EventSource) -> dict[str, Outcome]:
    whole = read_events(con, source, base=folder, state_dir=folder, judged=False).relation
    contract = contract_of(source)
    found = measure(con, source, contract, whole, other=lambda _: "(SELECT 1 AS q UNION SELECT 4)")
    return {o.rule: o for o in outcomes(contract, found, now_us=NOW_US, rows_before=4)}


@pytest.mark.parametrize("aside", [None, "range", "feature"])
def test_the_rules_of_all_rows_are_what_plain_python_says(
    aside: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = EventSource("other", path="o.parquet", schema={"q": int}, timestamp_field="at")
    rules = [
        Unique("x"), Unique(["s", "flag"]), NotNullShare("y", 0.5),
        Share(RULES["pattern"][0], 0.75, name="patterns"), Fresh("1m", name="minute"),
        RowCount(2, 8), RowCount(change=0.5, name="change"), References("q", other),
        Monotone("unit price"), Monotone("day", per="s"), Monotone("q", strictly=True),
    ]  # fmt: skip
    more = [] if aside is None else [with_severity(aside, "quarantine")]

    @given(rows())
    @settings(max_examples=settings.default.max_examples // 8)
    def check(made: Rows) -> None:
        folder = tmp_path_factory.mktemp("rows")
        write(folder / "rows.parquet", made)
        with duckdb.connect() as con:
            prepare(con)
            found = judged(folder, con, source_of(folder / "rows.parquet", *more, *rules))
        kept = [row for row in made if aside is None or RULES[aside][1](row) is not False]
        nulls = sum(row["y"] is None for row in kept)
        broken, said = share(kept, "pattern")
        newest = max((row["at"] for row in kept), default=None)
        fresh = newest is not None and NOON + dt.timedelta(seconds=60) - newest <= dt.timedelta(
            minutes=1
        )
        wanted = {
            "x_unique": (repeats(kept, "x") == 0, repeats(kept, "x")),
            "s_flag_unique": (repeats(kept, "s", "flag") == 0, repeats(kept, "s", "flag")),
            "y_not_null_share": (2 * nulls <= len(kept), nulls),
            "patterns": (4 * broken <= said, broken),
            "minute": (fresh, 0),
            "row_count": (2 <= len(kept) <= 8, 0),
            "change": (abs(len(kept) - 4) <= 2, 0),
            "q_references": ((n := sum(row["q"] not in (1, 4) for row in kept)) and (False, n))
            or (True, 0),
            "unit_price_monotone": ((n := falls(kept, "unit price")) == 0, n),
            "day_s_monotone": ((n := falls(kept, "day", "s")) == 0, n),
            "q_monotone": ((n := falls(kept, "q", strictly=True)) == 0, n),
        }  # fmt: skip
        got = {name: (o.held, o.broken) for name, o in found.items() if o.kind == "set"}
        by_name = {"day_monotone": "day_s_monotone"}
        assert {by_name.get(name, name): said for name, said in got.items()} == wanted

    check()


def test_what_is_measured_is_kept_for_a_content(
    make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = 'Between("n", 1, 100, severity="warn"), Fresh("1d"), References("key", users)'
    folder = make_repo(MODULE.format(rules=rules), {"orders": orders(*GOOD), "users": USERS})
    measured: list[str] = []

    def counting(con: Any, source: Any, *args: Any, **kwargs: Any) -> Any:
        measured.append(source.name)
        return measure(con, source, *args, **kwargs)

    monkeypatch.setattr(contracts, "measure", counting)

    def validate() -> list[str]:
        measured.clear()
        with FeatureStore(folder, redis_url=redis_url) as store:
            assert store.validate(["orders"]).ok
        return list(measured)

    assert (validate(), validate()) == (["orders"], [])
    pq.write_table(orders(*GOOD, order(6)), folder / "data" / "orders.parquet")
    assert (validate(), validate()) == (["orders"], [])
    pq.write_table(
        USERS.slice(0, 3).append_column("x", USERS["key"]), folder / "data/users.parquet"
    )
    assert (validate(), validate()) == (["orders"], [])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        store.push("orders", [order(7)])
    assert (validate(), validate()) == (["orders"], [])
    text = (folder / "definitions.py").read_text()
    (folder / "definitions.py").write_text(text.replace('Between("n", 1', 'Between("n", 2'))
    assert (validate(), validate()) == (["orders"], [])
    (kept,) = (folder / ".featurekit" / "verdicts").glob("contract.*")
    kept.write_text("{")
    assert (validate(), validate()) == (["orders"], [])


def test_a_table_of_no_rows_breaks_what_needs_one(tmp_path: Path) -> None:
    pq.write_table(table_of([]), tmp_path / "rows.parquet")
    rules = [Fresh("1d"), RowCount(1), NotNullShare("y"), Unique("q"), Monotone("q")]
    with duckdb.connect() as con:
        prepare(con)
        found = judged(tmp_path, con, source_of(tmp_path / "rows.parquet", *rules))
    assert {name: o.held for name, o in found.items()} == {
        "fresh": False, "row_count": False, "y_not_null_share": True, "q_unique": True,
        "q_monotone": True,
    }  # fmt: skip
