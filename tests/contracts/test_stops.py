"""A broken contract stops the work before anything is written, and says what is wrong (S5)."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracts.shop import AT, GOOD, MODULE, NOW, USERS, files, keys, order, orders
from feature_repos import MakeRepo
from origins import PostgresServer, server_binaries

from featurekit import EventSource, FeatureStore, NotNull
from featurekit.cli import main
from featurekit.errors import (
    ContractBroken,
    ContractWarning,
    DefinitionError,
    NotServed,
    SourceError,
)
from featurekit.feed import materialise

FAULTS: dict[str, tuple[str, dict[str, Any] | list[dict[str, Any]]]] = {
    'Between("n", 1, 100)': ("n_between", order(6, n=0)),
    'OneOf("key", [0, 1, 2])': ("key_one_of", order(6, key=3)),
    'Matches("sku", r"[A-Z]\\d+")': ("sku_matches", order(6, sku="a1")),
    'Length("sku", 2, 3)': ("sku_length", order(6, sku="A")),
    'NotNull("sku")': ("sku_not_null", order(6, sku=None)),
    "Holds(cheap)": ("cheap", order(6, price=1e6)),
    "cheap": ("cheap", order(6, n=0)),  # it errs
    'Unique("n")': ("n_unique", order(6, n=1)),
    'Unique(["key", "sku"])': ("key_sku_unique", order(6, key=0, sku="P0")),
    'Share(Between("n", 1, 100), 0.9)': ("n_between_share", order(6, n=0)),
    'NotNullShare("sku", 0.9)': ("sku_not_null_share", order(6, sku=None)),
    "RowCount(0, 6)": ("row_count", order(6)),
    'References("key", users)': ("key_references", order(6, key=3)),
    'Monotone("n", per="key")': ("n_monotone", order(6, n=1)),
    'Monotone("n", strictly=True)': ("n_monotone", order(6, n=6)),
}
"""Rules that hold of the good orders, each with its name and an order that breaks it."""


def made(make_repo: MakeRepo, rules: str, rows: list[dict[str, Any]] = GOOD) -> Path:
    tables = {"orders": orders(*rows), "users": USERS}
    return make_repo(MODULE.format(rules=rules), tables)


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_in_a_file_stops_all_that_writes(
    rule: str, make_repo: MakeRepo, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, fault = FAULTS[rule]
    folder = made(make_repo, rule)
    frame = [{"key": 0, "event_timestamp": NOW}]
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        assert store.validate().ok
        store.materialize()
        store.get_historical_features(frame, "shop").to_arrow()
    pq.write_table(orders(*GOOD, fault), folder / "data" / "orders.parquet")
    labels = folder / "labels.parquet"
    pq.write_table(pa.table({"key": [0], "event_timestamp": pa.array([NOW])}), labels)
    before = files(folder), keys(redis_url)
    with FeatureStore(folder, redis_url=redis_url) as store:
        with pytest.raises(ContractBroken, match=rf"rule {name} "):
            store.materialize()
        with pytest.raises(ContractBroken, match=rf"rule {name} "):
            store.materialize_incremental()
        training = store.get_historical_features(frame, "shop")
        with pytest.raises(ContractBroken, match=rf"rule {name} "):
            training.to_parquet(folder / "train.parquet")
        assert not store.validate().ok
    given = ["--repo", str(folder), "--redis-url", redis_url]
    out = str(folder / "out.parquet")
    verbs = ["materialize"], ["get-historical", "shop", str(labels), "-o", out], ["validate"]
    for verb in verbs:
        assert main([*verb, *given]) == 3, verb
    assert name in capsys.readouterr().out
    assert (files(folder), keys(redis_url)) == before


ROW_FAULTS = [rule for rule, (_, fault) in FAULTS.items() if rule.startswith(
    ("Between", "OneOf", "Matches", "Length", "NotNull(", "Holds", "cheap"))]  # fmt: skip


@pytest.mark.parametrize("rule", ROW_FAULTS)
def test_a_fault_in_a_push_refuses_all_of_it(
    rule: str, make_repo: MakeRepo, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, fault = FAULTS[rule]
    folder = made(make_repo, rule)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        rows = [order(8), fault, order(9)]
        before = files(folder), keys(redis_url)
        for pushed in (rows, orders(*rows)):
            with pytest.raises(ContractBroken, match=rf"row 1 .* breaks rule {name}: .*nothing"):
                store.push("orders", pushed)
        given = ["--repo", str(folder), "--redis-url", redis_url]
        pq.write_table(orders(*rows), folder.parent / "rows.parquet")
        assert main(["push", "orders", str(folder.parent / "rows.parquet"), *given]) == 3
        assert (files(folder), keys(redis_url)) == before
        assert store.push("orders", rows[::2]).rows == 2
    assert "nothing was pushed" in capsys.readouterr().err


def test_a_warning_counts_and_goes_on(make_repo: MakeRepo, redis_url: str) -> None:
    rules = 'Between("n", 2, 100, severity="warn"), NotNullShare("sku", severity="warn")'
    folder = made(make_repo, rules, [*GOOD, order(6, sku=None)])
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        with pytest.warns(ContractWarning) as said:
            store.materialize()
        found = [re.findall(r"rule (\w+)", str(one.message)) for one in said]
        assert found == [["n_between"], ["sku_not_null_share"]]
        done = store.push("orders", [order(7), order(8, n=1), order(9, n=0)])
        assert (done.rows, done.quarantined, done.broken) == (3, 0, {"n_between": 2})
        assert store.validate().ok


def test_freshness_is_of_the_newest_event(make_repo: MakeRepo, redis_url: str) -> None:
    old = [order(n, at=AT - dt.timedelta(days=3)) for n in range(2)]
    folder = made(make_repo, 'Fresh("2d")', old)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        with pytest.raises(ContractBroken, match=r"rule fresh .* 3 days ago"):
            store.materialize()
        pq.write_table(orders(*old, order(2)), folder / "data" / "orders.parquet")
        store.materialize()


def test_the_rows_may_not_change_by_more_than_is_said(make_repo: MakeRepo, redis_url: str) -> None:
    folder = made(make_repo, "RowCount(change=0.5)")
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        assert "none to compare with" in store.validate().sources[0].outcomes[-1].found
        store.materialize()
        for rows, held in ((3, True), (2, False), (9, True), (10, False)):
            made_of = [order(n) for n in range(rows)]
            pq.write_table(orders(*made_of), folder / "data" / "orders.parquet")
            assert store.validate().ok is held, rows
            if not held:
                with pytest.raises(ContractBroken, match=f"{rows} rows, and 6 before"):
                    store.materialize()


def test_a_schema_that_does_not_hold_is_the_first_rule(make_repo: MakeRepo, redis_url: str) -> None:
    folder = made(make_repo, 'Between("n", 1, 100)')
    bad = orders(*GOOD).set_column(1, "n", pa.array([None] * 6, pa.int64()))
    pq.write_table(bad, folder / "data" / "orders.parquet")
    with FeatureStore(folder, redis_url=redis_url) as store:
        found = store.validate(["orders"])
    (judged,) = found.sources
    assert [o.rule for o in judged.outcomes] == ["schema"]
    assert "null in a column declared int" in judged.outcomes[0].found
    assert not found.ok


def test_the_results_as_json_junit_and_html(
    make_repo: MakeRepo, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = 'Between("n", 2, 9), Matches("sku", "A<&>", name="odd", severity="warn"), Unique("n")'
    folder = made(make_repo, rules)
    junit, page = tmp_path / "x.xml", tmp_path / "x.html"
    given = ["--repo", str(folder), "--redis-url", redis_url]
    written = ["--junit", str(junit), "--html", str(page)]
    assert main(["validate", "orders", "--json", *written, *given]) == 3
    document = json.loads(capsys.readouterr().out)
    (source,) = document["sources"]
    shown = [(r["rule"], r["held"], r["broken"], r["severity"]) for r in source["rules"]]
    assert shown == [
        ("schema", True, 0, "fail"), ("n_between", False, 1, "fail"), ("odd", False, 6, "warn"),
        ("n_unique", True, 0, "fail"),
    ]  # fmt: skip
    assert source["rules"][1]["example"] == {"n": "1"}
    root = ET.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "1")
    (failure,) = root.iter("failure")
    assert "1 of 6 rows break it, such as n=1" in (failure.text or "")
    assert [case.get("name") for case in root.iter("testcase")] == [r[0] for r in shown]
    text = page.read_text()
    assert "A&lt;&amp;&gt;" in text
    assert "<script" not in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ('Between("ne", 1)', "has no column 'ne'; .*'n'"),
        ('Between("n", "a")', "takes no int and str"),
        ('Between("n", 0.5)', None),
        ('Between("n")', "has no limit"),
        ('OneOf("n", ["1"])', "the column is int"),
        ('OneOf("price", [1.0])', "OneOf takes bool, int"),
        ('Matches("sku", "(")', "not a regular expression"),
        ('Matches("n", "a")', "takes no str and int"),
        ('Between("n", 0), Between("n", 1)', "two rules are called 'n_between'"),
        ('Unique("n", severity="quarantine")', "severity is \"fail\" or \"warn\""),
        ('Between("n", 0, severity="stop")', "severity is \"fail\" or \"quarantine\" or \"warn\""),
        ("7", "7 is no rule"),
        ('References("sku", users, found_in="key")', "'sku' is str | None, and 'key' of 'users'"),
        ('Share(Unique("n"))', "Share takes a rule of a row"),
        ('NotNullShare("sku", 2)', "a share from 0 to 1"),
        ('Fresh("tomorrow")', "tomorrow"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_an_error(
    rules: str, said: str | None, make_repo: MakeRepo, redis_url: str
) -> None:
    folder = made(make_repo, rules)
    with FeatureStore(folder, redis_url=redis_url) as store:
        if said is None:
            assert store.repo.sources
            return
        with pytest.raises(DefinitionError, match=f"definitions.py:\\d+.*{said}"):
            _ = store.repo


def test_a_rule_of_the_arrival_is_refused() -> None:
    with pytest.raises(DefinitionError, match="the arrival, which a pushed row gets only once"):
        EventSource(
            "orders",
            path="x.parquet",
            schema={"seen": dt.datetime | None, "n": int},
            timestamp_field="at",
            created_timestamp_column="seen",
            expect=[NotNull("seen")],
        )


def test_a_database_is_judged_by_what_is_read(make_repo: MakeRepo, redis_url: str) -> None:
    """One reading of it is judged and used, and a row that comes meanwhile is judged next time."""
    module = MODULE.format(rules='Between("n", 1, 100), Between("n", 2, severity="quarantine")')
    module = module.replace(
        'path="data/orders.parquet"', 'origin=SQLite("shop.db", table="orders")'
    )
    module = module.replace('Between("n", 2,', 'Between("n", 2, name="two",')
    module = module.replace('timestamp_field="at",\n', 'timestamp_field="at", timestamp_format="iso",\n')  # fmt: skip  # noqa: E501
    folder = make_repo(module, {"users": USERS})
    frame = [{"key": 0, "event_timestamp": NOW}]
    with closing(sqlite3.connect(folder / "shop.db")) as con:
        con.execute("CREATE TABLE orders (key INT, n INT, price REAL, sku TEXT, at TEXT)")

        def add(row: dict[str, Any]) -> None:
            values = [row["key"], row["n"], row["price"], row["sku"], row["at"].isoformat()]
            con.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", values)
            con.commit()

        for row in GOOD:
            add(row)
        with FeatureStore(folder, redis_url=redis_url) as store:
            store.apply()
            assert store.materialize().bad_rows == {"orders": 1}
            made = store.get_historical_features(frame, "shop").to_pylist()
            assert [row["rows"] for row in made] == [1]
            add(order(6, n=101))
            with pytest.raises(ContractBroken, match="1 of 7 rows break it, such as n=101"):
                store.get_historical_features(frame, "shop").to_arrow()
            with pytest.raises(ContractBroken, match="n=101"):
                store.materialize()


def _of_sqlite(folder: Path) -> tuple[str, Callable[[str], None]]:
    def do(statement: str) -> None:
        with closing(sqlite3.connect(folder / "shop.db")) as con:
            con.execute(statement)
            con.commit()

    return 'SQLite("shop.db", table="orders")', do


@contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """A database, as an origin is written, and what runs a statement in it."""
    if kind == "sqlite":
        yield _of_sqlite(folder)
        return
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no server of PostgreSQL in /usr/lib/postgresql or on PATH: nothing to read")
    with TemporaryDirectory(prefix="pg-") as home, PostgresServer(Path(home), binaries) as server:
        url = f"postgresql://owner@/postgres?host={server.folder}"
        yield f'Postgres("{url}", table="orders")', server.do


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_row_that_comes_after_the_judging_is_judged_too(
    kind: str, make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows that are filled are those that were judged, whatever is committed meanwhile."""
    rules = 'Between("n", 1, 100), Between("price", 0.0, severity="warn")'
    folder = make_repo("", {"users": USERS})
    with database(kind, folder) as (origin, do):
        module = MODULE.format(rules=rules).replace(
            'path="data/orders.parquet"', f"origin={origin}"
        )
        module = module.replace(
            'timestamp_field="at",\n', 'timestamp_field="at", timestamp_format="iso",\n'
        )
        (folder / "definitions.py").write_text(module)
        do("CREATE TABLE orders (key BIGINT, n BIGINT, price FLOAT8, sku TEXT, at TEXT)")
        add = "INSERT INTO orders VALUES (0, {}, {}, 'P', '" + AT.isoformat() + "')"
        do(add.format(5, -1.0))
        with FeatureStore(folder, redis_url=redis_url) as store:
            store.apply()
            begun, meanwhile = materialise._begun, [add.format(101, 1.0)]

            def between(*given: Any) -> Any:
                for statement in meanwhile:
                    do(statement)
                return begun(*given)

            monkeypatch.setattr(materialise, "_begun", between)
            with (
                pytest.warns(ContractWarning) as said,
                pytest.raises(ContractBroken, match="1 of 2 rows break it, such as n=101"),
            ):
                store.materialize()
            assert len(said) == 2  # one row breaks the price, first of one and then of two
            assert not [key for key in keys(redis_url) if b":state:" in key]
            do("DELETE FROM orders WHERE n = 101")
            meanwhile[:] = [add.format(6, 1.0)]
            with pytest.warns(ContractWarning):
                store.materialize()
            found = store.get_online_features("shop", [{"key": 0}]).to_pylist()
            assert [row["rows"] for row in found] == [2]
            meanwhile.clear()
            with pytest.warns(ContractWarning) as said:
                store.materialize()
            assert len(said) == 1


def test_what_is_filled_for_one_entity_is_judged_too(
    make_repo: MakeRepo, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(make_repo, 'Between("n", 1, 100)')
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        pq.write_table(orders(*GOOD, order(6, n=0)), folder / "data" / "orders.parquet")
        before = files(folder), keys(redis_url)
        with pytest.raises(ContractBroken, match="rule n_between "):
            store.materialize(entities=[{"key": 0}])
    given = ["--repo", str(folder), "--redis-url", redis_url]
    assert main(["materialize", "--entity", "key=0", *given]) == 3
    assert "n=0" in capsys.readouterr().err
    assert (files(folder), keys(redis_url)) == before


def test_filling_one_entity_is_no_number_of_rows_to_compare_with(
    make_repo: MakeRepo, redis_url: str
) -> None:
    folder = made(make_repo, "RowCount(change=0.5)")
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        for rows in (9, 10):
            pq.write_table(orders(*map(order, range(rows))), folder / "data" / "orders.parquet")
            if rows == 9:
                store.materialize(entities=[{"key": 0}])
        with pytest.raises(ContractBroken, match="10 rows, and 6 before"):
            store.materialize()


@pytest.mark.parametrize("n", [0, 7])
def test_a_file_that_is_written_anew_after_the_judging_is_judged_too(
    n: int, make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reading for a view finds another content than was judged."""
    folder = made(make_repo, 'Between("n", 1, 100)')
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        logs_now = materialise.logs_now

        def anew(*given: Any) -> Any:
            pq.write_table(orders(*GOOD, order(6, n=n)), folder / "data" / "orders.parquet")
            return logs_now(*given)

        monkeypatch.setattr(materialise, "logs_now", anew)
        if n == 0:
            with pytest.raises(ContractBroken, match="1 of 7 rows break it, such as n=0"):
                store.materialize()
            assert not [key for key in keys(redis_url) if b":state:" in key]
            return
        store.materialize()
        found = store.get_online_features("shop", [{"key": 0}]).to_pylist()
        assert [row["rows"] for row in found] == [3]


def test_a_file_that_never_stays_the_same_is_named(
    make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, numbers = made(make_repo, 'Between("n", 1, 100)'), iter(range(1, 100))
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        enforce_again = materialise.enforce_again

        def anew(*given: Any) -> Any:
            judged = enforce_again(*given)
            rows = orders(*GOOD, order(6, n=next(numbers)))
            pq.write_table(rows, folder / "data" / "orders.parquet")
            return judged

        monkeypatch.setattr(materialise, "enforce_again", anew)
        with pytest.raises(SourceError, match="files of orders were written again at each of 5"):
            store.materialize()
        assert not [key for key in keys(redis_url) if b":state:" in key]


def test_a_file_that_is_written_anew_while_it_is_filled_is_an_error(
    make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view does not count as filled, since its states may be of either content."""
    folder = made(make_repo, 'Between("n", 1, 100)')
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        fill, path = materialise.materialize_view, folder / "data" / "orders.parquet"

        def anew(*given: Any, **how: Any) -> Any:
            done = fill(*given, **how)
            pq.write_table(orders(*GOOD, order(6, n=0)), path)
            return done

        monkeypatch.setattr(materialise, "materialize_view", anew)
        with pytest.raises(SourceError, match=f"{path} changed while it was read; run this again"):
            store.materialize()
        with pytest.raises(NotServed):
            store.get_online_features("shop", [{"key": 0}])
