"""A session on an instance that was used before cannot be told from one on a new instance."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from featurekit.aggregates import BY_NAME
from featurekit.errors import FeaturekitError
from featurekit.language.python_calls import create_function
from featurekit.offline import instances, session
from featurekit.store import FeatureStore

REPO = """
    from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
    from featurekit.aggregates import *

    @feature
    def shouted(text: str) -> str:
        return text.upper()

    @feature
    def half(x: float) -> float:
        return x / (x - 1.0)

    key = Entity("key", {"key": int})
    events = EventSource("events", path="data/events.parquet", timestamp_field="at",
                         created_timestamp_column="made",
                         schema={"key": int, "x": float, "text": str})
    latest = FeatureView("latest", entities=[key], source=events, features={"x": "x"})
    shouting = FeatureView("shouting", entities=[key], source=events, features={"s": shouted})
    windows = FeatureView("windows", entities=[key], source=events, features={
        "n": Count(window="1d"), "sum": Sum("x", window="7d"), "dev": StdDev("x", window="7d"),
        "last": LastN("text", n=3, window="7d"), "counts": ValueCounts("text", window="7d"),
        "quick": ApproxCountDistinct("text", window="7d"), "halves": Max(half, window="7d"),
    })
    both = FeatureService("both", features=[latest, windows])
    loud = FeatureService("loud", features=[shouting])
"""
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
AT = [NOON - dt.timedelta(hours=i) for i in range(400)]
EVENTS = pa.table(
    {"key": [i % 5 for i in range(400)], "x": [i / 4 for i in range(400)],
     "text": [f"ß{i % 7}" for i in range(400)], "at": AT, "made": AT}
)  # fmt: skip
LABELS = pa.table({"key": [0, 1, 2, None, 99] * 20, "event_timestamp": [NOON] * 100})
# What differs between any two sessions, or counts queries; and what asks the disk for extensions.
VOLATILE = {"duckdb_live_query_metrics", "duckdb_extensions", "duckdb_eviction_queues"}
HIDDEN = ("error_on_division_by_zero",)


@pytest.fixture(autouse=True)
def nothing_idle() -> Iterator[None]:
    instances.close_idle()
    yield
    instances.close_idle()


@pytest.fixture
def store(make_repo: Any, redis_url: str) -> Iterator[FeatureStore]:
    with FeatureStore(make_repo(REPO, {"events": EVENTS}), redis_url=redis_url) as opened:
        yield opened


def listing(con: Any) -> dict[str, list[Any]]:
    """What each of DuckDB's catalogue functions shows, and settings that none of them shows."""
    named = con.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table' "
        "AND function_name LIKE 'duckdb\\_%' ESCAPE '\\' ORDER BY 1"
    ).fetchall()
    found: dict[str, list[Any]] = {}
    for (name,) in named:
        with suppress(duckdb.BinderException):  # takes arguments
            shown = con.execute(f"SELECT * FROM {name}()")
            columns = [column for column, *_ in shown.description]
            # Numbers of objects count what was made before, and say nothing else.
            told = [i for i, column in enumerate(columns) if not column.endswith("oid")]
            found[name] = sorted(repr([row[i] for i in told]) for row in shown.fetchall())
    for name in HIDDEN:
        found[name] = con.execute(f"SELECT current_setting('{name}')").fetchall()
    spill = con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]
    found["duckdb_settings"] = [s.replace(spill, "SPILL") for s in found["duckdb_settings"]]
    return {name: rows for name, rows in found.items() if name not in VOLATILE}


def ask(store: FeatureStore, service: str, labels: Any = LABELS, **how: Any) -> pa.Table:
    return store.get_historical_features(labels, service, **how).to_arrow()


def run(store: FeatureStore, *statements: str, **settings: str) -> None:
    con = session.connect(store.state_dir, **settings)
    try:
        for statement in statements:
            con.execute(statement)
    finally:
        con.close()


# --- what leaves an instance as it was ------------------------------------------------------------


def training_sets(store: FeatureStore) -> None:
    ask(store, "both")
    ask(store, "both", LABELS.to_pandas(), statuses=True)
    ask(store, "both", LABELS.to_pylist(), buckets=3)
    ask(store, "both", None, at=[NOON])
    store.get_historical_features(LABELS, "both").to_parquet(store.path / "train.parquet")


def fed(store: FeatureStore) -> None:
    store.apply()
    store.push("events", [{"key": 1, "x": 2.0, "text": "a", "at": NOON, "made": NOON}])
    store.materialize()
    store.forget("key", {"key": 1})
    ask(store, "both")


def made_and_dropped(store: FeatureStore) -> None:
    run(
        store, "CREATE TEMP TABLE t AS SELECT 1 AS a", "INSERT INTO t VALUES (2)", "DROP TABLE t",
        "CREATE TEMP VIEW v AS SELECT 2", "CREATE TEMP MACRO m(x) AS x + 1",
        "CREATE TEMP TABLE big AS SELECT i, hash(i) AS h FROM range(500_000) t(i) ORDER BY h",
    )  # fmt: skip


# --- what may not, so that the instance is closed -------------------------------------------------


def refused(store: FeatureStore) -> None:
    with pytest.raises(FeaturekitError, match="no column"):
        ask(store, "both", LABELS.drop_columns(["key"]))


def failed(store: FeatureStore) -> None:
    with pytest.raises(duckdb.ConversionException):
        run(store, "SELECT 'a'::INTEGER")


def interrupted(store: FeatureStore) -> None:
    con = store.parts.connect()
    threading.Timer(0.05, con.interrupt).start()
    with pytest.raises(duckdb.InterruptException):
        con.execute("SELECT sum(hash(a.range)) FROM range(10_000_000) a, range(10_000) b")
    con.close()


def stopped(store: FeatureStore) -> None:
    asked = store.get_historical_features(LABELS, "both")

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    asked.progress = stop
    with pytest.raises(KeyboardInterrupt):
        asked.to_arrow()


def still_read(store: FeatureStore) -> None:
    con = store.parts.connect()
    con.execute("CREATE TEMP TABLE t AS SELECT range AS i FROM range(1_000_000)")
    OPEN.append(con.sql("SELECT * FROM t").to_arrow_reader(10))
    con.close()


def called_python(store: FeatureStore) -> None:
    ask(store, "loud")


def spilled(store: FeatureStore) -> None:
    big = "CREATE TEMP TABLE big AS SELECT i, hash(i) AS h FROM range(5_000_000) t(i)"
    run(store, big, memory_limit="40MB")


def set_for_all(store: FeatureStore) -> None:
    run(store, "SET GLOBAL threads = 1")


def limited(store: FeatureStore) -> None:
    run(store, "SET memory_limit = '1GB'")


def made_a_table(store: FeatureStore) -> None:
    run(store, "SELECT 1; CREATE TABLE lasting (a INTEGER)")


def attached(store: FeatureStore) -> None:
    run(store, "SELECT 1; ATTACH ':memory:' AS other")


OPEN: list[Any] = []
KEPT = (training_sets, fed, made_and_dropped)
CLOSED = (
    refused, failed, interrupted, stopped, still_read, called_python, spilled, set_for_all,
    limited, made_a_table, attached,
)  # fmt: skip


@pytest.mark.parametrize("work", [*KEPT, *CLOSED], ids=lambda work: work.__name__)
def test_the_next_session_is_as_one_on_a_new_instance(work: Any, store: FeatureStore) -> None:
    con = store.parts.connect()
    new = listing(con)
    con.close()
    instances.close_idle()
    work(store)
    assert bool(instances._idle) == (work in KEPT)
    con = store.parts.connect()
    found = listing(con)
    con.close()
    OPEN.clear()
    assert len(new) > 20
    for name in new:
        assert found[name] == new[name], name


def test_an_instance_that_was_kept_is_used_again(store: FeatureStore) -> None:
    run(store, "SELECT 1")
    [kept] = instances._idle
    con = store.parts.connect()
    assert con._instance is kept
    assert not instances._idle
    con.close()
    assert instances._idle == [kept]


def test_memory_is_given_back(store: FeatureStore) -> None:
    def held() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(s.split()[1]) for s in status.splitlines() if "VmRSS" in s)

    run(store, "SELECT 1")
    before = held()
    con = store.parts.connect()
    con.execute("CREATE TEMP TABLE b AS SELECT i, hash(i) h FROM range(4_000_000) t(i) ORDER BY h")
    assert held() - before > 60e6
    con.close()
    assert held() - before < 40e6
    assert instances._idle


def test_an_instance_of_other_functions_is_not_taken(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, "SELECT 1")
    kind = BY_NAME["StdDev"]

    def of_sums(first: Any, second: Any, third: Any) -> Any:
        return pa.nulls(len(first), "float64")

    def of_limbs(first: Any, second: Any) -> Any:
        return pa.nulls(len(first), "float64")

    others = tuple(
        replace(one, function=of_sums if len(one.takes) == 3 else of_limbs)
        for one in kind.finishers
    )
    monkeypatch.setattr(kind, "finishers", others)
    monkeypatch.setattr(BY_NAME["Variance"], "finishers", others)
    assert ask(store, "both")["dev"].null_count == 100
    monkeypatch.undo()
    assert ask(store, "both")["dev"].null_count < 100


def test_threads_never_share_an_instance_and_few_are_kept(store: FeatureStore) -> None:
    cons = [store.parts.connect() for _ in range(4)]
    assert len({id(con._instance) for con in cons}) == 4
    for con in cons:
        con.close()
    assert len(instances._idle) == instances.MOST_IDLE


def test_a_child_has_no_instance_of_its_parent(store: FeatureStore) -> None:
    run(store, "SELECT 1")
    con = store.parts.connect()
    run(store, "SELECT 1")
    child = os.fork()
    if not child:  # the child ends at once, whatever happens
        code = 1
        with suppress(BaseException):
            none = not instances._idle
            instances._keep(con._instance)
            run(store, "CREATE TEMP TABLE t AS SELECT 1")
            code = 0 if none and len(instances._idle) == 1 else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    con.close()
    assert len(instances._idle) == 1


def test_a_function_is_made_for_its_session_alone(store: FeatureStore) -> None:
    con = store.parts.connect()
    create_function(con, "twice", lambda x: x, ["BIGINT"], "BIGINT")
    con.close()
    con = store.parts.connect()
    with pytest.raises(duckdb.CatalogException):
        con.execute("SELECT twice(1)")
    con.close()


def test_a_closed_session_stays_closed(store: FeatureStore) -> None:
    con = store.parts.connect()
    con.close()
    con.close()
    with pytest.raises(duckdb.ConnectionException):
        con.execute("SELECT 1")
    assert len(instances._idle) == 1
