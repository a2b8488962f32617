"""Buckets of entities bound the memory of a training set and change none of its bits."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import awkward
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_lifetime
import test_window_ttl
from agreeing import (
    EXAMPLES,
    NAMED,
    ONE,
    PAIR,
    SERVICES,
    agree,
    cases,
    extremes,
    late,
    prompt,
    row,
    sums,
    view,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import Paths, connect, service_of
from slow import slow_unless
from test_aggregate_family import VALUES

from featurekit.aggregates import Count
from featurekit.core.types import from_hint
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.errors import ConfigError, DataError
from featurekit.offline import join as point_in_time
from featurekit.offline.buckets import bucket_of, bucket_sql, count_buckets, read_memory_limit
from featurekit.store import FeatureStore

COUNTS = (1, 2, 7, 64)
OF_BUCKETS = {
    "sums of late events": SERVICES["sums of late events"],
    "latest of late events": SERVICES["latest of late events"],
    "latest prompt with ttl": SERVICES["latest prompt with ttl"],
    "request-time transforms": SERVICES["request-time transforms"],
    "windows by name": SERVICES["windows by name"],
    "values of late events": service_of(view("values", PAIR, late, VALUES)),
    "lifetimes": test_lifetime.SERVICES["beside windows"],
    "a ttl": test_window_ttl.SERVICES["longer than some windows"],
    "views of several entities": service_of(
        view("sums", PAIR, late, sums),
        view("extremes", ONE, late, extremes),
        view("named", NAMED, prompt, {"n": Count(window="1d")}),
        view("latest", ONE, late, row, ttl="1d"),
    ),
}


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


# --- whose bucket ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [bool, int, str, bytes, dt.date, dt.datetime])
def test_a_bucket_is_the_same_in_duckdb_and_in_python(con, hint):
    type_ = from_hint(hint)
    source = EventSource(
        "keyed", path="keyed.parquet", schema={"a": hint, "b": int}, timestamp_field="at"
    )
    entity = Entity("keyed", {"a": hint, "b": int})
    compiled = compile_view(
        FeatureView("v", entities=[entity], source=source, features={"n": Count(window="1d")})
    )
    types = [p.type for p in compiled.join_keys]

    @settings(max_examples=max(10, EXAMPLES // 4))
    @given(st.lists(st.tuples(awkward.values(hint), awkward.values(int)), min_size=1))
    def check(keys):
        stored = pa.timestamp("us") if hint is dt.datetime else type_.arrow
        a = pa.array([k for k, _ in keys], type_.arrow).cast(stored)
        con.register("keyed", pa.table({"a": a, "b": [k for _, k in keys], "i": range(len(keys))}))
        sql = f"SELECT {bucket_sql(compiled, 64)} FROM keyed ORDER BY i"
        found = [bucket for (bucket,) in con.execute(sql).fetchall()]
        con.unregister("keyed")
        assert found == [bucket_of(list(zip(types, key, strict=True)), 64) for key in keys]

    check()


def test_the_bucket_of_a_key_is_for_ever():
    assert [bucket_of([(from_hint(int), n)], 1_000) for n in (0, 1, -1, 2**63 - 1)] == FOR_EVER
    assert bucket_of([(from_hint(str), "1")], 1_000) != FOR_EVER[1]


FOR_EVER = [958, 562, 835, 778]


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", slow_unless(lambda name: list(OF_BUCKETS).index(name) % 4 == 0, OF_BUCKETS)
)
def test_no_number_of_buckets_or_threads_changes_a_bit(con, name):
    service = OF_BUCKETS[name]

    @settings(max_examples=max(3, EXAMPLES // 25))
    @given(cases(service, instants=6, keys=3))
    def check(case):
        rows, questions, _ = case
        paths = Paths(con, service, rows)
        expected = paths.oracle(questions)
        for threads in (1, 2):
            con.execute(f"SET threads = {threads}")
            for buckets in COUNTS:
                found = paths.offline(questions, buckets=buckets)
                agree(paths, questions, f"{buckets} buckets", expected, found)
        paths.close()

    check()


MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Max, Mean, Sum

customer = Entity("customer", join_keys={"customer_id": int})
shop = Entity("shop", join_keys={"shop_id": str})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at", created_timestamp_column="came",
    schema={"customer_id": int, "shop_id": str, "amount": float, "pieces": int},
)

@feature
def each(amount: float, pieces: int) -> float:
    return amount / pieces

of_customer = FeatureView(
    "of_customer", entities=[customer], source=orders,
    features={"spend": Sum("amount", windows=["1d", "30d"]), "each": Mean(each, window="30d"),
              "last": Last("amount", window="30d"), "n": Count(window="lifetime")},
)
of_shop = FeatureView(
    "of_shop", entities=[shop], source=orders,
    features={"most": Max("amount", window="7d"), "of_shop_each": Sum(each, window="7d")},
)
latest = FeatureView(
    "latest", entities=[customer], source=orders, features={"amount": "amount"}, ttl="7d"
)
service = FeatureService("service", features=[of_customer, of_shop, latest])
"""
START = dt.datetime(2026, 1, 1)


def orders(rows: int = 3_000) -> pa.Table:
    chance = random.Random(11)
    at = [START + dt.timedelta(seconds=chance.randrange(90 * 86_400)) for _ in range(rows)]
    return pa.table(
        {
            "customer_id": [chance.choice((1, chance.randrange(100))) for _ in range(rows)],
            "shop_id": [f"s{chance.randrange(5)}" for _ in range(rows)],
            "amount": [chance.choice((0.1, 1e16, -1e16, chance.random())) for _ in range(rows)],
            "pieces": [chance.randrange(5) for _ in range(rows)],
            "at": at,
            "came": [t + dt.timedelta(seconds=chance.choice((0, 0, 0, 90_000))) for t in at],
        }
    )


def labels(rows: int = 500) -> pa.Table:
    chance = random.Random(12)
    return pa.table(
        {
            "customer_id": [
                chance.choice((1, 3, None, chance.randrange(120))) for _ in range(rows)
            ],
            "shop_id": [f"s{chance.randrange(7)}" for _ in range(rows)],
            "event_timestamp": [
                START + dt.timedelta(seconds=chance.randrange(95 * 86_400)) for _ in range(rows)
            ],
        }
    )


def repo_with(make_repo: Any, **settings_: Any) -> FeatureStore:
    lines = "".join(f"  {name}: {value}\n" for name, value in settings_.items())
    config = "project: tests\n" + (f"featurekit:\n{lines}" if lines else "")
    return FeatureStore(make_repo(MODULE, {"orders": orders()}, config))


def test_a_training_set_is_the_same_in_rows_order_manifest_and_counts(make_repo):
    store = repo_with(make_repo)
    made = [
        store.get_historical_features(labels(), "service", statuses=True, buckets=n) for n in COUNTS
    ]
    assert made[0].statistics["transforms"]  # some events erred, and are counted
    tables = [training.to_arrow() for training in made]
    assert [t.manifest["content_hash"] for t in made] == [made[0].manifest["content_hash"]] * 4
    assert [t.statistics for t in made] == [made[0].statistics] * 4
    assert tables[0]["event_timestamp"] == labels()["event_timestamp"]
    assert all(table.equals(tables[0]) for table in tables)


def test_an_empty_frame_has_no_rows_in_any_number_of_buckets(make_repo):
    made = repo_with(make_repo).get_historical_features(labels().slice(0, 0), "service", buckets=7)
    assert made.to_arrow().num_rows == 0


# --- how many -------------------------------------------------------------------------------------


def test_what_fits_into_memory_is_one_bucket(con):
    compiled = compile_view(view("v", ONE, late, sums))
    con.execute("CREATE OR REPLACE TEMP TABLE lots AS SELECT 0::BIGINT AS __ts FROM range(1000)")
    con.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT 0::BIGINT AS __t")
    assert count_buckets(con, compiled, "lots", "asked") == 1


def test_more_than_the_memory_limit_is_more_buckets_and_only_what_is_in_reach_counts():
    with connect() as own:
        own.execute("SET memory_limit = '64MiB'")
        assert read_memory_limit(own) == 2**26
        compiled = compile_view(view("v", ONE, late, sums))
        own.execute("CREATE TEMP TABLE lots AS SELECT i AS __ts FROM range(1_000_000) t(i)")
        own.execute("CREATE TEMP TABLE asked AS SELECT 1_000_000::BIGINT AS __t")
        many = count_buckets(own, compiled, "lots", "asked")
        assert 2 < many < 100
        own.execute("UPDATE asked SET __t = 1_000")
        assert count_buckets(own, compiled, "lots", "asked") == 1


def test_latest_rows_are_split_where_keys_and_instants_alone_do_not_fit():
    with connect() as own:
        own.execute("SET memory_limit = '64MiB'")
        compiled = compile_view(view("v", ONE, late, row))
        own.execute("CREATE TEMP TABLE asked AS SELECT 1_000::BIGINT AS __t")
        for rows, buckets in ((1_000_000, 1), (1_677_000, 1), (1_678_000, 2), (10_000_000, 6)):
            assert count_buckets(own, compiled, "not read", "asked", rows=rows) == buckets


def test_the_setting_and_the_argument_say_how_many(make_repo, monkeypatch):
    asked: list[int] = []
    by_bucket = point_in_time._join_by_bucket

    def noted(*args: Any, **kw: Any) -> Any:
        asked.append(kw["buckets"])
        return by_bucket(*args, **kw)

    monkeypatch.setattr(point_in_time, "_join_by_bucket", noted)
    store = repo_with(make_repo, buckets=3, memory_limit="1GB")
    store.get_historical_features(labels(), "service").to_arrow()
    store.get_historical_features(labels(), "service", buckets=5).to_arrow()
    store.get_historical_features(labels(), "service", buckets=1).to_arrow()
    assert asked == [3, 3, 3, 5, 5, 5]


@pytest.mark.parametrize("buckets", [-1, 0, 4_097])
def test_a_number_that_is_none_is_refused(make_repo, buckets):
    with pytest.raises(ConfigError, match="buckets is a number from 1 to 4,096"):
        repo_with(make_repo).get_historical_features(labels(), "service", buckets=buckets)


@pytest.mark.parametrize(
    "settings_", [{"buckets": 0}, {"memory_limit": "much"}, {"memory_limit": "1GB'; DROP"}]
)
def test_a_wrong_setting_is_refused(make_repo, settings_):
    with pytest.raises(ConfigError, match=f"featurekit.{next(iter(settings_))}"):
        repo_with(make_repo, **settings_)


def test_memory_that_does_not_suffice_says_what_to_write(make_repo, monkeypatch):
    store = repo_with(make_repo)
    connect_ = store.parts.connect

    def small() -> Any:
        con = connect_()
        con.execute("SET memory_limit = '1MB'; SET temp_directory = ''")
        return con

    monkeypatch.setattr(store.parts, "connect", small)
    with pytest.raises(DataError, match=r"raise memory_limit under featurekit: .*buckets="):
        store.get_historical_features(labels(), "service").to_arrow()


def test_nothing_that_was_spilled_stays(make_repo):
    store = repo_with(make_repo, memory_limit="200MB")
    con = store.parts.connect()
    con.execute("CREATE TEMP TABLE big AS SELECT i, hash(i) AS h FROM range(20_000_000) t(i)")
    assert list(store.state_dir.glob("spill-*"))
    con.close()
    assert not list(store.state_dir.glob("spill-*"))


def test_a_frame_larger_than_the_batches_comes_back_in_its_order(make_repo, tmp_path):
    store = repo_with(make_repo, buckets=2)
    frame = pa.concat_tables([labels()] * 3)
    path = tmp_path / "frame.parquet"
    pq.write_table(frame, path)
    made = store.get_historical_features(path, "service").to_arrow()
    assert made["customer_id"] == frame["customer_id"]
