"""Rules of all rows judge events as features count them: one known twice is one (S5, T7)."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracts.shop import AT, INSTANT
from feature_repos import MakeRepo
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_unless

from featurekit import (
    Between,
    Entity,
    EventSource,
    FeatureStore,
    FeatureView,
    Fresh,
    Monotone,
    NotNullShare,
    References,
    RowCount,
    Share,
    Unique,
)
from featurekit.aggregates import Count
from featurekit.define.contracts.compiled import contract_of
from featurekit.offline.contract import Outcome, measure, outcomes
from featurekit.offline.session import prepare
from featurekit.sources import read_events
from featurekit.sources.contract import judge_push

REPO = """
from featurekit import *
from featurekit.aggregates import Count

user = Entity("user", {{"key": int}})
orders = EventSource("orders", path="data/orders.parquet", timestamp_field="at", event_id="oid",
                     dedupe_within="30d", schema={{"oid": str, "key": int, "n": int}},
                     expect=[{rules}])
view = FeatureView("view", entities=[user], source=orders, features={{"rows": Count(window="9d")}})
shop = FeatureService("shop", features=[view])
"""
SHOP = pa.schema([("oid", pa.string()), ("key", pa.int64()), ("n", pa.int64()), ("at", INSTANT)])


def order(oid: str, **given: Any) -> dict[str, Any]:
    good = {"oid": oid, "key": 0, "n": int(oid[1:]), "at": AT + dt.timedelta(seconds=int(oid[1:]))}
    return good | given


def test_a_row_that_a_file_brings_after_its_push_is_one_event(
    make_repo: MakeRepo, redis_url: str
) -> None:
    rules = (
        'Unique("oid"), RowCount(at_most=3), Share(Between("n", 2), 0.5), Monotone("n", '
        'strictly=True), Unique("n", name="numbers")'
    )
    rows = [order("a1"), order("a2")]
    tables = {"orders": pa.Table.from_pylist(rows, schema=SHOP)}
    folder = make_repo(REPO.format(rules=rules), tables)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        assert store.push("orders", [order("a3"), order("a3")]).broken == {}
        pq.write_table(
            pa.Table.from_pylist([*rows, order("a3"), order("a1")], schema=SHOP),
            folder / "data" / "orders.parquet",
        )
        found = {o.rule: o for o in store.validate().sources[0].outcomes}
        assert {name: o.held for name, o in found.items()} == dict.fromkeys(found, True)
        assert found["row_count"].found == "3 rows"
        assert found["n_between_share"].found == "0.666667 of 3 rows keep it"
        store.materialize()
        frame = [{"key": 0, "event_timestamp": AT + dt.timedelta(minutes=59)}]
        assert store.get_historical_features(frame, "shop").to_pylist()[0]["rows"] == 3
        assert store.push("orders", [order("a4"), order("a5", n=4)]).broken == {"numbers": 1}


SCHEMA: dict[str, Any] = {"id": int, "op": str, "q": int, "y": float | None, "seen": dt.datetime}
STAMP = pa.timestamp("us", "UTC")
ARROW = {"id": pa.int64(), "op": pa.string(), "q": pa.int64(), "y": pa.float64(), "at": STAMP,
         "seen": STAMP}  # fmt: skip
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
NOW_US = int(NOON.timestamp() * 1e6) + 20_000_000
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 3),
            "op": st.sampled_from(["upsert", "upsert", "delete"]),
            "q": st.integers(0, 3),
            "y": st.sampled_from([None, 0.0, 1.5]),
            "at": st.integers(0, 9).map(lambda s: NOON + dt.timedelta(seconds=s)),
            "seen": st.integers(0, 9).map(lambda s: NOON + dt.timedelta(seconds=s)),
        }
    ),
    max_size=9,
)
ids = Entity("one", {"q": int})


def counting(source: EventSource, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of the rows as the oracle has them, where all of them have arrived."""
    view = FeatureView("all", entities=[ids], source=source, features={"n": Count(window="3000d")})
    us = [{"__ts": int(r["at"].timestamp() * 1e6), "__created": int(r["seen"].timestamp() * 1e6)}
          for r in rows]  # fmt: skip
    return list(oracle._in_force(view, source, [a | b for a, b in zip(rows, us, strict=True)]))


_CASES = list(itertools.product([None, "op"], [None, "3s"], [False, True]))
_KEPT = ((None, "3s", False), ("op", "3s", True))


@pytest.mark.parametrize(
    ("op", "within", "aside"), slow_unless(lambda *case: case in _KEPT, _CASES)
)
def test_the_rules_of_all_rows_judge_what_the_oracle_counts(
    op: str | None, within: str | None, aside: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = EventSource("other", path="o.parquet", schema={"q": int}, timestamp_field="at")
    rules = [
        Unique("id"), Unique("q"), NotNullShare("y", 0.5), Share(Between("q", 1), 0.75),
        Fresh("15s"), Fresh("14s", by="arrival"), RowCount(2, 4), References("q", other),
        Monotone("q"),
    ]  # fmt: skip
    rules += [Between("q", high=2, severity="quarantine")] if aside else []
    source = EventSource(
        "events", path="rows.parquet", schema=SCHEMA, timestamp_field="at", expect=rules,
        created_timestamp_column="seen", event_id="id", op=op, dedupe_within=within,
    )  # fmt: skip

    @given(_ROWS)
    @settings(max_examples=settings.default.max_examples // 8)
    def check(rows: list[dict[str, Any]]) -> None:
        found = judged(tmp_path_factory.mktemp("rows"), source, rows)
        kept = [row for row in rows if not aside or row["q"] <= 2]
        events = sorted(counting(source, kept), key=lambda r: (r["at"], r["seen"], r["q"]))
        got = {o.rule: (o.held, o.broken, o.rows) for o in found.values() if o.kind == "set"}
        assert got == {
            name: (held, broken, len(events)) for name, (held, broken) in meant(events).items()
        }

    check()


def judged(folder: Path, source: EventSource, rows: list[dict[str, Any]]) -> dict[str, Outcome]:
    table = pa.table({c: pa.array([row[c] for row in rows], t) for c, t in ARROW.items()})
    pq.write_table(table, folder / "rows.parquet")
    contract = contract_of(source)
    with duckdb.connect() as con:
        prepare(con)
        read = read_events(con, source, base=folder, state_dir=folder, judged=False)
        made = measure(
            con, source, contract, read.relation, other=lambda _: "(SELECT 1 AS q UNION SELECT 2)"
        )
    return {o.rule: o for o in outcomes(contract, made, now_us=NOW_US, rows_before=4)}


def meant(events: list[dict[str, Any]]) -> dict[str, tuple[bool, int]]:
    """Each rule of the test, in plain Python, of events in their order."""

    def repeats(name: str) -> int:
        return sum(n - 1 for n in Counter(row[name] for row in events).values())

    nulls, low = sum(r["y"] is None for r in events), sum(r["q"] < 1 for r in events)
    unknown = sum(r["q"] not in (1, 2) for r in events)
    falls = sum(b["q"] < a["q"] for a, b in itertools.pairwise(events))
    newest = max((r["at"] for r in events), default=None)
    arrived = max((r["seen"] for r in events), default=None)
    return {
        "id_unique": (repeats("id") == 0, repeats("id")),
        "q_unique": (repeats("q") == 0, repeats("q")),
        "y_not_null_share": (2 * nulls <= len(events), nulls),
        "q_between_share": (4 * low <= len(events), low),
        "fresh": (newest is not None and newest >= NOON + dt.timedelta(seconds=5), 0),
        "fresh_arrivals": (arrived is not None and arrived >= NOON + dt.timedelta(seconds=6), 0),
        "row_count": (2 <= len(events) <= 4, 0),
        "q_references": (unknown == 0, unknown),
        "q_monotone": (falls == 0, falls),
    }


def test_rows_of_one_id_in_a_push_are_one_event() -> None:
    rules = [Unique("n"), Share(Between("n", 2), name="low")]
    plain = {"oid": str, "n": int}
    source = EventSource(
        "copies", path="x.parquet", schema=plain, timestamp_field="at", event_id="oid",
        dedupe_within="1d", expect=rules,
    )  # fmt: skip
    rows = [{"oid": "a", "n": 1}, {"oid": "a", "n": 1}, {"oid": "b", "n": 1}]
    assert judge_push(source, rows, range(3)).broken == {"n_unique": 1, "low": 2}
    corrected = EventSource(
        "corrected", path="x.parquet", schema=plain | {"op": str}, timestamp_field="at",
        event_id="oid", op="op", dedupe_within="1d", expect=rules,
    )  # fmt: skip
    last = [row | {"op": op} for row, op in zip(rows, ("upsert", "delete", "upsert"), strict=True)]
    assert judge_push(corrected, last, range(3)).broken == {"low": 1}
