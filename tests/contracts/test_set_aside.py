"""Rows that a contract sets aside are in no value, offline or online, however they came (S5)."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from contracts.shop import AT, GOOD, MODULE, USERS, order, orders
from feature_repos import MakeRepo
from oracle import bits

from featurekit import FeatureStore
from featurekit.define.compile_view import compile_view
from featurekit.define.published import plan_bytes, read_plan
from featurekit.errors import ContractWarning, RegistryError
from featurekit.testing import values

ASIDE = 'Between("n", 1, 100, severity="quarantine"), Holds(cheap, severity="quarantine")'


def made(make_repo: MakeRepo, rules: str, rows: list[dict[str, Any]]) -> Path:
    return make_repo(MODULE.format(rules=rules), {"orders": orders(*rows), "users": USERS})


def drawn(rng: random.Random, place: int) -> dict[str, Any]:
    """An order that may break a rule, by its value or since the rule errs."""
    n = rng.choice([0, -1, 1, 2, 100, 101, 50])
    return order(place, n=n, price=rng.choice([1.0, 1e4, 99.0, float("nan")]))


def is_kept(row: dict[str, Any]) -> bool:
    return 1 <= row["n"] <= 100 and row["price"] / row["n"] < 100


def answers(store: FeatureStore) -> list[dict[str, Any]]:
    """What both paths say of every user, in the same bits."""
    asked = [{"key": key} for key in range(3)]
    online = store.get_online_features("shop", asked)
    frame = [{**row, "event_timestamp": online.as_of} for row in asked]
    trained = store.get_historical_features(frame, "shop").to_pylist()
    served = [{n: bits(v[i]) for n, v in online.columns.items()} for i in range(3)]
    assert served == [{n: bits(row[n]) for n in online.columns} for row in trained]
    return [{n: v[i] for n, v in online.columns.items()} for i in range(3)]


def expected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same from the rows that are kept, in plain Python."""
    found = []
    for key in range(3):
        mine = [row for row in rows if row["key"] == key and is_kept(row)]
        latest = max(mine, key=lambda row: row["at"], default=None)
        found.append(
            {
                "rows": len(mine),
                "sum": sum(row["n"] for row in mine) if mine else None,
                "sku": latest and latest["sku"],
                "n": latest and latest["n"],
            }
        )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_files_and_pushes_leave_the_same_rows_out(
    seed: int, make_repo: MakeRepo, redis_url: str
) -> None:
    rng = random.Random(seed)
    rows = [drawn(rng, place) for place in range(24)]
    folder = made(make_repo, ASIDE, rows[:12])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        done = store.materialize()
        assert done.bad_rows == {"orders": sum(not is_kept(row) for row in rows[:12])}
        for at in range(12, 24, 4):
            pushed = rows[at : at + 4]
            given = orders(*pushed) if at == 16 else pushed
            taken = store.push("orders", given)
            assert taken.quarantined == sum(not is_kept(row) for row in pushed)
        assert answers(store) == expected(rows)
        store.materialize()
        assert answers(store) == expected(rows)
        for mode in ("sample", "history"):
            report = store.check_parity("shop", values=200, mode=mode)
            assert (report.ok, report.compared > 0) == (True, True), mode


def test_a_rule_that_comes_later_holds_of_what_was_pushed_before(
    make_repo: MakeRepo, redis_url: str
) -> None:
    rows = [order(0, n=500), order(1, n=0), order(2)]
    folder = made(make_repo, "", GOOD)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        store.push("orders", rows)
        before = answers(store)
    (folder / "definitions.py").write_text(MODULE.format(rules=ASIDE))
    with FeatureStore(folder, redis_url=redis_url) as store:
        with pytest.raises(RegistryError, match="as it is defined now"):
            store.push("orders", [order(7)])
        store.apply()
        store.materialize()
        after = answers(store)
    assert after == expected([*GOOD, *rows])
    assert after != before


def views(make_repo: MakeRepo, rules: str) -> list[str]:
    """The fingerprints of the views of a shop with these rules."""
    folder = made(make_repo, rules, GOOD)
    with FeatureStore(folder) as store:
        return [compile_view(view).fingerprint for view in store.repo.views.values()]


def test_only_rules_that_set_aside_are_part_of_a_fingerprint(make_repo: MakeRepo) -> None:
    none = views(make_repo, "")
    one = views(make_repo, 'Between("n", 1, 100, severity="quarantine")')
    assert not {*none} & {*one}
    for same in ('Between("n", 1)', 'Holds(cheap, severity="warn")', 'Unique("n")'):
        assert views(make_repo, same) == none, same
    named = 'Between("n", 1, 100, severity="quarantine", name="count")'
    twice = f'{named}, Between("n", 1, 100, severity="quarantine"), Between("n", 5)'
    for same in (named, twice.replace('Between("n", 5)', 'Between("price", 5)')):
        assert views(make_repo, same) == one, same
    both = 'Holds(cheap, severity="quarantine"), Between("n", 1, 100, severity="quarantine")'
    assert views(make_repo, both) == views(make_repo, ASIDE)
    assert views(make_repo, 'Between("n", 1, 101, severity="quarantine")') != one


def test_a_plan_carries_the_rules_and_is_verified(make_repo: MakeRepo) -> None:
    folder = made(make_repo, ASIDE, GOOD)
    with FeatureStore(folder) as store:
        service = store.repo.compiled_services["shop"]
    plan = plan_bytes(service)
    assert read_plan(plan) == service
    assert b'"format":4' in plan
    assert len(service.views[0].source.aside or ()) == 2


def test_the_rows_set_aside_are_with_the_other_bad_ones(
    make_repo: MakeRepo, redis_url: str
) -> None:
    folder = made(make_repo, ASIDE, [*GOOD, order(6, n=0)])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        (kept,) = pq.read_table(store.state_dir / "quarantine" / "orders.parquet").to_pylist()
        assert (kept["sku"], kept["at"]) == ("P6", AT + dt.timedelta(seconds=6))
        assert kept["reason"] == "rule n_between: not n >= 1 and n <= 100"
        pq.write_table(orders(*GOOD), folder / "data" / "orders.parquet")
        store.materialize()
        assert not (store.state_dir / "quarantine" / "orders.parquet").exists()


def test_a_plan_says_that_the_rules_differ(make_repo: MakeRepo, redis_url: str) -> None:
    folder = made(make_repo, ASIDE, GOOD)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        assert not any(change.action != "unchanged" for change in store.plan())
    (folder / "definitions.py").write_text(MODULE.format(rules=ASIDE.replace("100", "99")))
    with FeatureStore(folder, redis_url=redis_url) as store:
        said = [line for change in store.plan() for line in change.reasons]
    assert "source orders: the rules that set rows aside differ, of n, price (S5)" in str(said)


def test_what_is_forgotten_is_no_example_of_a_rule(make_repo: MakeRepo, redis_url: str) -> None:
    folder = made(make_repo, 'Between("n", 1, 9, severity="warn")', [*GOOD, order(5, n=777)])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        with pytest.warns(ContractWarning, match="n=777"):
            store.materialize()
        (kept,) = (store.state_dir / "verdicts").glob("contract.*")
        assert "777" in kept.read_text()
        store.forget("user", {"key": 2})
        assert not kept.exists()
        store.validate()
        assert "777" not in kept.read_text()


def test_fuzz_plays_rows_that_break_the_rules(make_repo: MakeRepo, redis_url: str) -> None:
    folder = made(make_repo, ASIDE, GOOD)
    with FeatureStore(folder, redis_url=redis_url) as store:
        report = store.check_parity("shop", mode="fuzz", values=4_000, workers=1)
    assert (report.differing, report.compared > 1_000) == (0, True)


def test_what_tests_call_reads_the_rules(make_repo: MakeRepo) -> None:
    folder = made(make_repo, ASIDE, GOOD)
    with FeatureStore(folder) as store:
        service = store.repo.compiled_services["shop"]
    rows = [order(0), order(3, n=0), order(6), order(9, price=1e9)]
    asked = {"key": 0, "event_timestamp": AT + dt.timedelta(seconds=9)}
    assert values(service, {"orders": rows}, [asked]) == [
        {"rows": 2, "sum": 8, "sku": "P6", "n": 7}
    ]
