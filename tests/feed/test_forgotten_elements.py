"""Forgetting an entity that is an element of a list: the rows stay, and their lists lose it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import bits

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.keys import project_key
from featurekit.core.types import Type
from featurekit.errors import DefinitionError
from featurekit.log.segments import read_segment, segments
from featurekit.log.tombstones import Columns, Forgotten, Secret, Tombstone
from featurekit.online.state.seal import opened
from featurekit.online.state.state import decode_state
from featurekit.project.deployment import fed_views

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, LastN, Sum

customer = Entity("customer", {"customer": int})
article = Entity("article", {"articles": str})
orders = EventSource(
    "orders", path="orders/*.parquet", timestamp_field="at", created_timestamp_column="known_at",
    schema={"customer": int, "articles": list[str] | None, "amount": float},
)
invoices = EventSource(
    "invoices", path="invoices/*.parquet", timestamp_field="at", event_id="id",
    created_timestamp_column="known_at", op="change", dedupe_within="3000d",
    schema={"id": int, "change": str, "customer": int, "articles": list[str]},
)
bought = FeatureView(
    "bought", entities=[customer], source=orders, explode="articles",
    features={"pieces": Count(window="3000d"), "last": LastN("articles", n=3, window="3000d")},
)
ordered = FeatureView(
    "ordered", entities=[customer], source=orders, history="3000d",
    features={"newest": "articles", "paid": "amount"},
)
sold = FeatureView(
    "sold", entities=[article], source=orders, explode="articles",
    features={
        "times": Count(window="3000d"), "revenue": Sum("amount", window="3000d"),
        "amounts": LastN("amount", n=5, window="3000d"),
    },
)
billed = FeatureView(
    "billed", entities=[article], source=invoices, explode="articles",
    features={"billed": Count(window="3000d")},
)
billed_to = FeatureView(
    "billed_to", entities=[customer], source=invoices, explode="articles",
    features={"bills": LastN("articles", n=9, window="3000d")},
)
shop = FeatureService("shop", features=[bought, ordered, billed_to])
articles = FeatureService("articles", features=[sold, billed])
"""

Row = dict[str, Any]
ORDERS = [
    (1, ["tea", "cup", "tea", "jam"], 5.0, 0),
    (1, ["cup", "tea"], 5.0, 0),  # one instant: T6 orders by the list
    (2, None, 1.0, 0),
    (2, ["tea"], 2.0, 1),
    (3, [], 3.0, 1),
    (1, ["jam"], 0.1, 2),
]
INVOICES = [
    (1, "upsert", 1, ["tea", "cup"], 0),
    (1, "upsert", 1, ["tea", "jam"], 1),
    (2, "upsert", 2, ["cup"], 1),
    (2, "upsert", 2, ["tea"], 2),
    (3, "upsert", 3, ["tea", "tea", "cup"], 2),
]


def orders(without: str | None = None) -> list[Row]:
    return [
        {"customer": c, "articles": cut(a, without), "amount": m, "at": NOON + DAY * d,
         "known_at": NOON + DAY * d}
        for c, a, m, d in ORDERS
    ]  # fmt: skip


def invoices(without: str | None = None) -> list[Row]:
    return [
        {"id": i, "change": o, "customer": c, "articles": cut(a, without), "at": NOON + DAY * d,
         "known_at": NOON + DAY * d}
        for i, o, c, a, d in INVOICES
    ]  # fmt: skip


def cut(elements: list[str] | None, without: str | None) -> list[str] | None:
    return None if elements is None else [one for one in elements if one != without]


SCHEMAS = {
    "orders": pa.schema([
        ("customer", pa.int64()), ("articles", pa.list_(pa.string())), ("amount", pa.float64()),
        ("at", pa.timestamp("us", "UTC")), ("known_at", pa.timestamp("us", "UTC"))]),
    "invoices": pa.schema([
        ("id", pa.int64()), ("change", pa.string()), ("customer", pa.int64()),
        ("articles", pa.list_(pa.string())),
        ("at", pa.timestamp("us", "UTC")), ("known_at", pa.timestamp("us", "UTC"))]),
}  # fmt: skip


def write(folder: Path, name: str, rows: list[Row], file: str = "a") -> None:
    (folder / name).mkdir(exist_ok=True)
    table = pa.Table.from_pylist(rows, SCHEMAS[name])
    pq.write_table(table, folder / name / f"{file}.parquet", row_group_size=2)


Make = Callable[..., FeatureStore]


@pytest.fixture
def make(tmp_path: Path, redis_store: Any) -> Iterator[Make]:
    opened: list[FeatureStore] = []
    numbers = itertools.count()

    def made(module: str = MODULE, **rows: list[Row]) -> FeatureStore:
        n = next(numbers)
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "feature_store.yaml").write_text(
            f"project: elements{n}\nprovider: local\nonline_store:\n  type: redis\n",
            encoding="utf-8",
        )
        (folder / "definitions.py").write_text(module, encoding="utf-8")
        for name, schema in SCHEMAS.items():
            write(folder, name, rows.get(name, []))
            assert schema
        store = FeatureStore(folder, redis_url=redis_store.url)
        opened.append(store)
        store.apply()
        store.materialize()
        return store

    yield made
    for store in opened:
        store.close()


ASKED = {
    "articles": [{"articles": name} for name in ("tea", "cup", "jam", "none")],
    "shop": [{"customer": n} for n in (1, 2, 3, 4)],
}


def values(store: FeatureStore) -> list[Any]:
    """What both paths say as of now, in bits, once they agree."""
    found = []
    for service, rows in ASKED.items():
        online = store.get_online_features(service, rows)
        labels = [{**row, "event_timestamp": online.as_of} for row in rows]
        trained = store.get_historical_features(labels, service, statuses=True).to_arrow()
        made = trained.to_pylist()
        for i, row in enumerate(made):
            told = {n: (bits(online.columns[n][i]), online.status[n][i]) for n in online.status}
            assert told == {n: (bits(row[n]), row[f"{n}__status"]) for n in told}, (rows[i], told)
            found.append((service, rows[i], told))
    return found


def dates(store: FeatureStore) -> list[Any]:
    """The training sets at the instants of the data."""
    found = []
    for service, rows in ASKED.items():
        labels = [{**row, "event_timestamp": NOON + DAY * day} for row in rows for day in range(4)]
        made = store.get_historical_features(labels, service, statuses=True).to_arrow()
        found += [{name: bits(value) for name, value in row.items()} for row in made.to_pylist()]
    return found


def states(store: FeatureStore) -> dict[bytes, bytes]:
    online = store.parts.online
    keys = [key for some in online.scan(project_key(store.parts.name, "state")) for key in some]
    return {
        key: blob for key, blob in zip(keys, online.read(keys), strict=True) if blob is not None
    }


def events_in(store: FeatureStore, found: dict[bytes, bytes]) -> dict[bytes, Any]:
    """The events that states hold, of the entities that have some."""
    views = {view.fingerprint: view for view in fed_views(store.parts.online, store.parts.name)}
    made = {}
    for key, blob in found.items():
        view = views[key.split(b":", 5)[4].decode()]
        made[key] = repr(decode_state(view, opened(key, blob)).events)
    return {key: events for key, events in made.items() if events != "[]"}


def check(store: FeatureStore, expected: FeatureStore) -> None:
    assert values(store) == values(expected)
    assert dates(store) == dates(expected)


@pytest.mark.parametrize("pushed", [(), ("orders", "invoices")])
def test_both_paths_are_as_if_the_element_had_never_been_in_the_lists(
    make: Make, pushed: tuple[str, ...]
) -> None:
    """What is expected comes from rows whose lists were written without the element."""
    rows = {"orders": orders(), "invoices": invoices()}
    store = make(**{name: all_ for name, all_ in rows.items() if name not in pushed})
    for name in pushed:
        store.push(name, rows[name])
    assert any("tea" in str(told) for *_, told in values(store))
    done = store.forget("article", {"articles": "tea"})
    logged = [row for name in pushed for row in rows[name]]
    assert done.log_rows == sum("tea" in (row["articles"] or ()) for row in logged)
    assert done.log_lists == done.log_rows  # every row stays
    expected = make(orders=orders("tea"), invoices=invoices("tea"))
    check(store, expected)
    assert "tea" not in str([told for *_, told in values(store)])
    before = states(store)
    store.materialize()
    check(store, expected)
    # Not the value alone: an element that has moved up stands in its new place in the states.
    assert events_in(store, before) == events_in(store, states(store))


def test_the_command_says_which_rows_go_and_which_lose_an_element(
    make: Make, redis_store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make()
    store.push("orders", orders())
    given = ["--repo", str(store.parts.path), "--redis-url", redis_store.url]
    assert main(["forget", "customer", "--key", "customer=2", "--json", *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["log_rows_removed"], told["log_lists_shortened"]) == (2, 0)
    assert main(["forget", "article", "--key", "articles=tea", *given]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "0 rows were removed from the log of pushes. 2 rows of it stay, and their lists" in words
    assert main(["forget", "article", "--key", "articles=jam", "--json", *given]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["log_rows_removed"], told["log_lists_shortened"]) == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sample", "history", "fuzz"])
def test_the_modes_of_parity_agree_after_an_element_was_forgotten(make: Make, mode: str) -> None:
    store = make(orders=orders())
    store.push("invoices", invoices())
    store.forget("article", {"articles": "tea"})
    for service in ASKED:
        report = store.check_parity(service, mode=mode, values=500)
        assert report.ok, str(report)
        assert report.compared > 0


def test_no_copy_of_the_element_is_left_in_the_log_or_in_a_rewritten_file(make: Make) -> None:
    store = make(orders=orders(), invoices=invoices())
    store.push("orders", orders())
    (file,) = (store.path / "orders").glob("*.parquet")
    before = pq.ParquetFile(file)
    done = store.forget("article", {"articles": "tea"}, rewrite_files=True)
    assert [(f.rows, f.rewritten) for f in done.files] == [(3, True), (4, True)]
    assert pq.read_table(file).to_pylist() == orders("tea")
    after = pq.ParquetFile(file)
    assert after.schema_arrow == before.schema_arrow
    assert after.metadata.num_row_groups == before.metadata.num_row_groups
    logged = [row for path in segments(store.state_dir, "orders")
              for row in read_segment(path).to_pylist()]  # fmt: skip
    assert [row["articles"] for row in logged] == [row["articles"] for row in orders("tea")]
    check(store, make(orders=orders("tea") * 2, invoices=invoices("tea")))


def test_rows_that_come_back_with_arrivals_of_before_lose_the_element_again(make: Make) -> None:
    store = make(orders=[], invoices=[])
    store.push("orders", orders())
    store.forget("article", {"articles": "tea"})
    again = store.push("orders", orders())
    assert (again.rows, again.forgotten) == (len(ORDERS), 0)
    check(store, make(orders=orders("tea") * 2))
    now = dt.datetime.now(dt.UTC)
    later = {"customer": 9, "articles": ["tea"], "amount": 1.0, "at": now}
    store.push("orders", [later])  # a new start
    found = store.get_online_features("articles", [{"articles": "tea"}]).to_dict()
    assert found["times"] == [1]
    logged = [row for path in segments(store.state_dir, "orders")
              for row in read_segment(path).to_pylist()]  # fmt: skip
    assert [row["customer"] for row in logged if "tea" in (row["articles"] or ())] == [9]


def test_a_key_beside_the_list_says_in_whose_rows_it_is_forgotten(make: Make) -> None:
    pair = 'Entity("pair", {"customer": int, "articles": str})'
    module = MODULE.replace('Entity("article", {"articles": str})', pair)
    store = make(module, orders=orders())
    store.forget("pair", {"customer": 1, "articles": "tea"})
    labels = [{"customer": n, "articles": "tea", "event_timestamp": NOON + 9 * DAY} for n in (1, 2)]
    made = store.get_historical_features(labels, "articles", statuses=True).to_pylist()
    assert [row["times"] for row in made] == [0, 1]
    online = store.get_online_features(
        "articles", [{n: row[n] for n in ("customer", "articles")} for row in labels]
    )
    assert online.to_dict()["times"] == [0, 1]


def test_a_file_of_rows_set_aside_is_named_where_a_list_has_the_element(make: Make) -> None:
    path = 'path="orders/*.parquet",'
    module = MODULE.replace(path, f'{path} on_bad_row="quarantine",')
    store = make(module, orders=orders())
    store.push("orders", [
        {"customer": "x", "articles": ["cup", "tea"], "amount": 1.0, "at": NOON},
        {"customer": "x", "articles": ["cup"], "amount": 1.0, "at": NOON},
    ])  # fmt: skip
    done = store.forget("article", {"articles": "tea"})
    assert [f.rows for f in done.set_aside] == [1]


RULE = """
from featurekit import Holds, feature

@feature
def few(articles: list[str] | None) -> bool:
    return articles is None or len(articles) < 9

"""


def test_a_rule_that_sets_rows_aside_by_the_list_is_refused_by_name(make: Make) -> None:
    path = 'path="orders/*.parquet",'
    rule = 'expect=[Holds(few, severity="quarantine")], on_bad_row="quarantine",'
    module = RULE + MODULE.replace(path, f"{path} {rule}")
    store = make(module, orders=orders())
    with pytest.raises(DefinitionError, match="rule 'few' sets rows aside by the list 'articles'"):
        store.forget("article", {"articles": "tea"})
    assert not (store.state_dir / "forget.key").exists()


def test_lists_lose_the_same_elements_in_python_and_in_sql() -> None:
    secret, keys = Secret(b"x" * 32), (("c", Type("int")), ("k", Type("str")))
    marks = [
        Tombstone("e", keys, secret.digest("e", {"c": (Type("int"), c), "k": (Type("str"), k)}),
                  secret.name, until)
        for c, k, until in ((1, "a", 100), (1, "a", 50), (2, "b", 10), (1, "b", 10))
    ]  # fmt: skip
    held = Columns({"c": "who", "k": "l"}, listed="k")
    forgotten = Forgotten(marks, secret, lambda _: [held])
    lists = [None, [], ["a"], ["a", "b", None, "a", "c"], ["c", "b"]]
    rows = [
        {"who": who, "l": list_, "__created": at}
        for who, list_, at in itertools.product((1, 2, None), lists, (9, 10, 11, 100, 101))
    ]
    con = duckdb.connect()
    schema = pa.schema({"who": pa.int64(), "l": pa.list_(pa.string()), "__created": pa.int64()})
    con.register("t", pa.Table.from_pylist(rows, schema))
    made = con.sql(f"SELECT * FROM {forgotten.relation(con, 't')}").to_arrow_table().to_pylist()
    gone = {(1, "a"): 100, (2, "b"): 10, (1, "b"): 10}

    def is_gone(row: Row, element: str | None) -> bool:
        return gone.get((row["who"], element), 0) >= row["__created"]

    expected = [
        {**row, "l": row["l"] and [x for x in row["l"] if not is_gone(row, x)]} for row in rows
    ]
    assert forgotten.left(rows) == expected
    assert sorted(map(str, made)) == sorted(map(str, expected))
    untouched = [row for row in rows if row in expected]
    assert forgotten.left(untouched) is untouched
