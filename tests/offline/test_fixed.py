"""A training set's rows are fixed when it is made, whatever its frame is; a later reading gives the
same rows or an error."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Sum
from featurekit.errors import DataError, EntityFrameError
from featurekit.results import TrainingSet

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(hours=1)
customer = Entity("customer", {"customer_id": int})


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "orders.parquet"
    pq.write_table(pa.table({"customer_id": [1, 2], "amount": [0.5, 2.0], "at": [AT, AT]}), path)
    return path


@pytest.fixture
def store(events: Path) -> Iterator[FeatureStore]:
    orders = EventSource(
        "orders", path=str(events), schema={"customer_id": int, "amount": float},
        timestamp_field="at",
    )  # fmt: skip
    view = FeatureView(
        "spending", entities=[customer], source=orders, features={"x": Sum("amount", window="1d")}
    )
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as opened:
        yield opened


Frame = tuple[Any, Callable[[], object]]
"""Labels of customers 1 and 2, and what changes them to customers 2 and 2."""


def changed_list(values: list[Any], to: Any) -> None:
    values[0] = to


def of_array(make: Callable[[np.ndarray[Any, Any]], Any]) -> Frame:
    ids = np.array([1, 2])
    return make(ids), lambda: ids.__setitem__(0, 2)


def of_dicts() -> Frame:
    rows = [{"customer_id": i, "event_timestamp": LATER, "tags": ["a"]} for i in (1, 2)]

    def change() -> None:
        rows[0]["customer_id"] = 2
        rows[0]["tags"].append("b")  # type: ignore[attr-defined]

    return rows, change


def of_columns() -> Frame:
    ids = [1, 2]
    return {"customer_id": ids, "event_timestamp": [LATER] * 2}, lambda: changed_list(ids, 2)


def of_pandas() -> Frame:
    frame = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": [LATER] * 2})
    return frame, lambda: frame.isetitem(0, [2, 2])


def of_pandas_with_lists() -> Frame:
    tags = [["a"], ["b"]]
    frame = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": [LATER] * 2, "tags": tags})

    def change() -> None:
        frame.loc[0, "customer_id"] = 2
        tags[0].append("c")

    return frame, change


def of_polars() -> Frame:
    frame = pl.DataFrame({"customer_id": [1, 2], "event_timestamp": [LATER] * 2})

    def change() -> None:
        frame[0, "customer_id"] = 2

    return frame, change


def of_lazy() -> Frame:
    frame = pl.DataFrame({"customer_id": (ids := np.array([1, 2])), "event_timestamp": [LATER] * 2})
    return frame.lazy(), lambda: ids.__setitem__(0, 2)


def of_relation() -> Frame:
    con = duckdb.connect()
    con.execute("CREATE TABLE labels AS SELECT unnest([1, 2]) customer_id, ?::TIMESTAMPTZ "
                "event_timestamp", [LATER])  # fmt: skip
    return con.table("labels"), lambda: con.execute("UPDATE labels SET customer_id = 2")


def of_reader() -> Frame:
    table = pa.table({"customer_id": [1, 2], "event_timestamp": [LATER] * 2})
    reader = table.to_reader(max_chunksize=1)
    return reader, lambda: None


def stream_of_random_rows() -> Frame:
    """A relation whose rows are others each time that it is read."""
    con = duckdb.connect()
    query = "SELECT (random() * 1e9)::BIGINT customer_id, now() event_timestamp FROM range(5)"
    return con.sql(query), lambda: None


FRAMES: dict[str, Callable[[], Frame]] = {
    "dicts": of_dicts,
    "columns": of_columns,
    "array in columns": lambda: of_array(
        lambda ids: {"customer_id": ids, "event_timestamp": [LATER] * 2}
    ),
    "arrow array in columns": lambda: of_array(
        lambda ids: {"customer_id": pa.array(ids), "event_timestamp": [LATER] * 2}
    ),
    "pandas column in columns": lambda: of_array(
        lambda ids: {"customer_id": pd.Series(ids, copy=False), "event_timestamp": [LATER] * 2}
    ),
    "pandas": of_pandas,
    "pandas with lists": of_pandas_with_lists,
    "array in pandas": lambda: of_array(
        lambda ids: pd.DataFrame({"customer_id": ids, "event_timestamp": LATER}, copy=False)
    ),
    "polars": of_polars,
    "array in polars": lambda: of_array(
        lambda ids: pl.DataFrame({"customer_id": ids, "event_timestamp": [LATER] * 2})
    ),
    "lazy": of_lazy,
    "array in arrow": lambda: of_array(
        lambda ids: pa.table({"customer_id": pa.array(ids), "event_timestamp": [LATER] * 2})
    ),
    "array in a batch": lambda: of_array(
        lambda ids: pa.record_batch(
            {"customer_id": pa.array(ids), "event_timestamp": pa.array([LATER] * 2)}
        )
    ),
    "relation": of_relation,
    "relation of random rows": stream_of_random_rows,
    "reader": of_reader,
}


def read(made: TrainingSet) -> list[dict[str, Any]]:
    return made.to_arrow().to_pylist()


@pytest.mark.parametrize("make", FRAMES.values(), ids=list(FRAMES))
def test_what_is_done_to_a_frame_later_changes_no_row(
    store: FeatureStore, make: Callable[[], Frame]
) -> None:
    frame, change = make()
    made = store.get_historical_features(frame, "service")
    change()
    first = read(made)
    again, as_pandas, manifest = read(made), made.to_pandas(), made.manifest
    assert again == first
    assert as_pandas["customer_id"].tolist() == [row["customer_id"] for row in first]
    assert manifest["rows"] == len(first) == len(made.to_polars()) > 0
    if make is not stream_of_random_rows:
        assert [(row["customer_id"], row["x"]) for row in first] == [(1, 0.5), (2, 2.0)]
    if "tags" in first[0]:
        assert first[0]["tags"] == ["a"]


def test_objects_of_pandas_stay_as_they_are(store: FeatureStore) -> None:
    """An int beside a None is no float, and a str no other text; an index may repeat."""
    extra = pd.Series([2**63 - 1, None], dtype=object, index=[7, 7])
    texts = pd.Series(["a", None], dtype=object, index=[7, 7])
    frame = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": LATER}, index=[7, 7])
    frame["extra"], frame["texts"] = extra, texts
    for given in (frame, {name: frame[name] for name in frame.columns}):
        found = store.get_historical_features(given, "service").to_arrow().to_pylist()
        assert [(r["extra"], r["texts"]) for r in found] == [(2**63 - 1, "a"), (None, None)]
    made = store.get_historical_features(frame, "service").to_pandas()
    pd.testing.assert_frame_equal(made[[*frame.columns]], frame)


def test_every_frame_of_two_rows_is_changed_by_its_change() -> None:
    """Without this the test above could pass because nothing happens."""
    unseen = {"relation of random rows", "reader"}
    for name, make in FRAMES.items():
        frame, change = make()
        change()
        if name not in unseen:
            lazy = isinstance(frame, pl.LazyFrame)
            rows = [r["customer_id"] for r in frame] if isinstance(frame, list) else (
                frame.collect() if lazy else frame.to_arrow_table()
                if isinstance(frame, duckdb.DuckDBPyRelation) else frame
            )["customer_id"]  # fmt: skip
            values = [int(str(v)) for v in (rows.tolist() if hasattr(rows, "tolist") else rows)]
            assert values == [2, 2], name


@pytest.mark.parallel
def test_a_large_reader_is_not_kept_in_arrows_memory(store: FeatureStore) -> None:
    n = 400_000
    instants = pa.array([LATER]).take(pa.array(np.zeros(n, np.int8)))
    table = pa.table({"customer_id": np.ones(n, np.int64), "event_timestamp": instants})
    before = pa.total_allocated_bytes()
    made = store.get_historical_features(table.to_reader(max_chunksize=10_000), "service")
    assert pa.total_allocated_bytes() - before < table.nbytes / 4
    assert made.manifest["rows"] == n


def test_a_stream_that_breaks_is_refused(store: FeatureStore) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"customer_id": [1], "event_timestamp": pa.array([LATER])})
        raise RuntimeError("the connection was lost")

    schema = pa.schema(
        [("customer_id", pa.int64()), ("event_timestamp", pa.timestamp("us", "UTC"))]
    )
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(EntityFrameError, match=r"cannot be read .*the connection was lost"):
        store.get_historical_features(reader, "service")


def test_a_query_that_fails_is_refused(store: FeatureStore) -> None:
    frame = pl.DataFrame({"customer_id": [1]}).lazy().select(pl.col("nothing"))
    with pytest.raises(EntityFrameError, match=r"LazyFrame cannot be collected .*nothing"):
        store.get_historical_features(frame, "service")


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"customer_id": [1, 2], "event_timestamp": [LATER] * 2}), path)
    return path


@pytest.mark.parametrize("before", [True, False])
def test_a_file_of_labels_that_changed_is_an_error(
    store: FeatureStore, labels: Path, before: bool
) -> None:
    made = store.get_historical_features(labels, "service")
    if before:
        read(made)
    pq.write_table(pa.table({"customer_id": [2, 2], "event_timestamp": [LATER] * 2}), labels)
    with pytest.raises(EntityFrameError, match=r"labels\.parquet has changed since .* was made"):
        made.to_pandas()
    assert [
        row["customer_id"] for row in read(store.get_historical_features(labels, "service"))
    ] == [
        2,
        2,
    ]


def test_a_file_of_labels_is_found_from_another_folder(
    store: FeatureStore, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labels.parent)
    made = store.get_historical_features("labels.parquet", "service")
    monkeypatch.chdir("/")
    assert len(read(made)) == 2


def test_an_absent_file_of_labels_says_so(store: FeatureStore, labels: Path) -> None:
    made = store.get_historical_features(labels.with_name("none.parquet"), "service")
    with pytest.raises(EntityFrameError, match=r"there is no file .*none\.parquet"):
        read(made)


def test_a_source_that_changed_between_two_readings_is_an_error(
    store: FeatureStore, events: Path, labels: Path, tmp_path: Path
) -> None:
    made = store.get_historical_features(labels, "service")
    first = read(made)
    table = pa.table({"customer_id": [1, 2], "amount": [0.5, 7.0], "at": [AT, AT]})
    pq.write_table(table, events)
    with pytest.raises(DataError, match="would be others now, since source orders has changed"):
        made.to_arrow()
    with pytest.raises(DataError, match="would be others now"):
        made.to_parquet(tmp_path / "made.parquet")
    assert not [path for path in tmp_path.iterdir() if "made" in path.name]
    assert made.manifest["rows"] == 2
    assert [row["x"] for row in first] == [0.5, 2.0]


def test_a_source_that_changed_nothing_of_the_rows_is_no_error(
    store: FeatureStore, events: Path, labels: Path
) -> None:
    made = store.get_historical_features(labels, "service")
    first = read(made)
    store.apply()
    store.push("orders", {"customer_id": 9, "amount": 1.0, "at": AT})
    os.utime(events)
    assert read(made) == first
