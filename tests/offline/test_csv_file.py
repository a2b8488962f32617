"""A training set in CSV reads back as labels with the same values, bit by bit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, Last
from featurekit.core import tables
from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    FLOAT,
    INT,
    STR,
    TIMEDELTA,
    Type,
    list_of,
)
from featurekit.errors import DataError
from featurekit.offline.csv_file import CsvWriter
from featurekit.offline.frame import load_frame
from featurekit.parity.compare import bits

UTC = dt.UTC
AT = dt.datetime(2026, 1, 1, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
instants = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(UTC))
spans = st.timedeltas(dt.timedelta(-100_000_000), dt.timedelta(100_000_000))
VALUES: dict[Type, st.SearchStrategy[Any]] = {
    BOOL: st.booleans(),
    INT: st.integers(-(2**63), 2**63 - 1),
    FLOAT: st.floats(),
    STR: texts | st.sampled_from(["", '"', ",", "\n", "\r\n", " a ", "00123", "\ufeff", 'a"b']),
    BYTES: st.binary(max_size=4),
    DATE: st.dates(),
    DATETIME: instants,
    TIMEDELTA: spans,
}
LISTS = {list_of(one): st.lists(values, max_size=3) for one, values in VALUES.items()}


@pytest.mark.parametrize("type_", [*VALUES, *LISTS], ids=str)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_value_reads_back_as_labels(
    type_: Type, data: st.DataObject, tmp_path_factory: Any
) -> None:
    values = data.draw(st.lists((VALUES | LISTS)[type_] | st.none(), min_size=1, max_size=6))
    table = pa.table(
        {"event_timestamp": [AT] * len(values), "x": pa.array(values, type_.arrow)}
    )  # fmt: skip
    path = tmp_path_factory.mktemp("labels") / "train.csv"
    with CsvWriter(path, table.schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        frame = load_frame(con, str(path), join_keys={}, request={"x": type_.or_none()})
        relation = f"(SELECT x FROM {frame.table} ORDER BY __rid)"
        read = [row["x"] for row in tables.rows(con, relation, {"x": type_.or_none()})]
    assert [bits(one) for one in read] == [bits(one) for one in values]


@pytest.fixture
def store() -> Iterator[FeatureStore]:
    frame = pd.DataFrame({"k": [1, 2], "f": [0.1, float("nan")], "s": ["", 'a,"b"'], "at": AT})
    source = EventSource(
        "events", frame=frame, schema={"k": int, "f": float, "s": str}, timestamp_field="at"
    )
    view = FeatureView(
        "view",
        entities=[Entity("key", {"k": int})],
        source=source,
        features={
            "n": Count(window="lifetime"),
            "last": Last("f", window="lifetime"),
            "said": Last("s", window="lifetime"),
        },
    )
    with FeatureStore(definitions=[FeatureService("service", features=[view])]) as opened:
        yield opened


def test_a_training_set_is_written_as_csv(store: FeatureStore, tmp_path: Path) -> None:
    labels = [
        {"k": k, "event_timestamp": AT, "note": note} for k, note in ((2, "x"), (1, None), (3, ""))
    ]
    training = store.get_historical_features(labels, "service")
    manifest = training.to_csv(tmp_path / "train.csv")
    assert (tmp_path / "train.csv").read_text(encoding="utf-8") == (
        "k,event_timestamp,note,n,last,said\n"
        '2,2026-01-01T00:00:00+00:00,x,1,nan,"a,""b"""\n'
        '1,2026-01-01T00:00:00+00:00,,1,0.1,""\n'
        '3,2026-01-01T00:00:00+00:00,"",0,,\n'
    )
    assert manifest == training.manifest
    assert (tmp_path / "train.csv.manifest.json").is_file()
    renamed = (tmp_path / "train.csv").read_text().replace(",n,last,said\n", ",n0,last0,said0\n")
    (tmp_path / "again.csv").write_text(renamed)
    again = store.get_historical_features(str(tmp_path / "again.csv"), "service").to_arrow()
    for name in ("k", "event_timestamp", "note", "n", "said"):
        assert again[name].equals(training.to_arrow()[name])
    assert again["said0"].to_pylist() == ['a,"b"', "", None]


def test_parquet_is_not_written_under_a_name_of_csv(store: FeatureStore, tmp_path: Path) -> None:
    labels = [{"k": 1, "event_timestamp": AT}]
    training = store.get_historical_features(labels, "service")
    for name in ("train.csv", "train.CSV", "train.csv.gz"):
        with pytest.raises(DataError, match="to_csv"):
            training.to_parquet(tmp_path / name)
    training.to_parquet(tmp_path / "train.parquet")
    assert pq.read_table(tmp_path / "train.parquet").num_rows == 1
    assert len(list(tmp_path.iterdir())) == 3
