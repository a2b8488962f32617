"""S1, S2, T1: what an entity frame becomes in DuckDB, and what is refused."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.core.types import (
    BOOL,
    BYTES,
    DATE,
    DATETIME,
    EPOCH,
    FLOAT,
    INT,
    MICROSECOND,
    STR,
    Type,
)
from featurekit.errors import EntityFrameError
from featurekit.offline.frame import EntityFrame, load_frame

T0 = dt.datetime(2011, 7, 1, 12)
UTC = dt.UTC
T0_US = (T0.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
HOUR = 3_600_000_000
KEYS = {"customer_id": INT}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        yield connection


def load(
    con: duckdb.DuckDBPyConnection,
    frame: Any,
    keys: dict[str, Type] | None = None,
    request: dict[str, Type] | None = None,
    **options: Any,
) -> EntityFrame:
    return load_frame(con, frame, join_keys=keys or KEYS, request=request or {}, **options)


def rows_of(con: duckdb.DuckDBPyConnection, frame: EntityFrame) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT * FROM {frame.table} ORDER BY __rid").fetchall()


COLUMNS = {"extra": ["b", "a", "c"], "customer_id": [3, 1, 2], "event_timestamp": [T0] * 3}
DICTS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
ORIGINS = {
    "pandas": lambda path: pd.DataFrame(COLUMNS, index=[7, 7, 9]),
    "polars": lambda path: pl.DataFrame(COLUMNS),
    "arrow": lambda path: pa.table(COLUMNS),
    "batch": lambda path: pa.table(COLUMNS).to_batches()[0],
    "reader": lambda path: pa.table(COLUMNS).to_reader(max_chunksize=2),
    "relation": lambda path: duckdb.connect().from_arrow(pa.table(COLUMNS)),
    "dicts": lambda path: DICTS,
    "lazy": lambda path: pl.DataFrame(COLUMNS).lazy(),
    "columns": lambda path: COLUMNS,
    "arrays": lambda path: {
        "extra": pa.array(COLUMNS["extra"]),
        "customer_id": np.array([3, 1, 2]),
        "event_timestamp": pd.Series(COLUMNS["event_timestamp"]),
    },
    "path": lambda path: path,
    "text path": lambda path: str(path),
}


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=list(ORIGINS))
def test_every_kind_of_frame_is_the_same_table(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, origin: Any
) -> None:
    path = tmp_path / "frame.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    frame = load(con, origin(path))
    assert rows_of(con, frame) == [(0, T0_US, 3), (1, T0_US, 1), (2, T0_US, 2)]


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=list(ORIGINS))
def test_the_frames_own_columns_come_back(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, origin: Any
) -> None:
    path = tmp_path / "frame.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    frame = load(con, origin(path))
    table = frame.arrow if frame.arrow is not None else pq.read_table(str(frame.path))
    assert table.column_names == list(COLUMNS)
    assert table.column("extra").to_pylist() == COLUMNS["extra"]


def test_the_index_of_a_pandas_frame_stays_with_the_original(
    con: duckdb.DuckDBPyConnection,
) -> None:
    frame = pd.DataFrame(COLUMNS, index=[7, 7, 9])
    assert list(load(con, frame).original.index) == [7, 7, 9]


def test_nan_of_an_extra_pandas_column_stays_nan(con: duckdb.DuckDBPyConnection) -> None:
    frame = load(con, pd.DataFrame({**COLUMNS, "extra": [math.nan, 1.0, 2.0]}))
    assert frame.arrow is not None
    assert frame.arrow.column("extra").null_count == 0


def test_a_parquet_path_is_not_read_into_arrow(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "frame.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    frame = load(con, path)
    assert (frame.arrow, frame.path) == (None, path)


@pytest.mark.parallel
def test_row_ids_follow_the_order_of_a_large_file(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path, n = tmp_path / "frame.parquet", 300_000
    table = pa.table({"customer_id": range(n), "event_timestamp": pa.array([T0] * n)})
    pq.write_table(table, path, row_group_size=50_000)
    frame = load(con, path)
    query = f"SELECT count(*), count(*) FILTER (__rid <> customer_id) FROM {frame.table}"
    assert con.execute(query).fetchall() == [(n, 0)]


def test_two_frames_have_two_tables(con: duckdb.DuckDBPyConnection) -> None:
    assert load(con, DICTS).table != load(con, DICTS).table


def test_a_frame_without_rows_is_an_empty_table(con: duckdb.DuckDBPyConnection) -> None:
    frame = load(con, pa.table(COLUMNS).slice(0, 0), timezone="Europe/London")
    assert (frame.rows, rows_of(con, frame)) == (0, [])


def test_an_empty_list_is_an_empty_table(con: duckdb.DuckDBPyConnection) -> None:
    frame = load(con, [], timezone="Europe/London")
    assert (frame.rows, rows_of(con, frame)) == (0, [])


# Instants


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(("zone", "shift"), [(None, -HOUR), ("Asia/Tokyo", 0)])
def test_naive_instants_are_read_in_the_zone_and_aware_ones_are_themselves(
    con: duckdb.DuckDBPyConnection, unit: str, zone: str | None, shift: int
) -> None:
    instants = pa.array([T0_US], pa.timestamp("us")).cast(pa.timestamp(unit))
    instants = instants.view(pa.int64()).view(pa.timestamp(unit, zone))
    frame = load(con, pa.table({"customer_id": [1], "event_timestamp": instants}),
                 timezone="Europe/London")  # fmt: skip
    assert rows_of(con, frame) == [(0, T0_US + shift, 1)]


def test_nanoseconds_before_1970_are_floored(con: duckdb.DuckDBPyConnection) -> None:
    instants = pa.array([-1], pa.timestamp("ns"))
    frame = load(con, pa.table({"customer_id": [1], "event_timestamp": instants}))
    assert rows_of(con, frame) == [(0, -1, 1)]


def test_dicts_may_mix_naive_and_aware_instants(con: duckdb.DuckDBPyConnection) -> None:
    rows = [
        {"customer_id": 1, "event_timestamp": T0},
        {"customer_id": 1, "event_timestamp": T0.replace(tzinfo=UTC)},
    ]
    frame = load(con, rows, timezone="Europe/London")
    assert [row[1] for row in rows_of(con, frame)] == [T0_US - HOUR, T0_US]


@pytest.mark.parametrize(
    "instants",
    [
        pa.array([T0, None], pa.timestamp("us")),
        pa.array([0, 2**61], pa.timestamp("us")),
        pa.array([0, 2**61], pa.timestamp("ms")),
        pa.array([0, 2**61], pa.timestamp("s", "UTC")),
    ],
)
def test_a_null_or_impossible_instant_is_named_by_its_row(
    con: duckdb.DuckDBPyConnection, instants: pa.Array
) -> None:
    frame = pa.table({"customer_id": [1, 2], "event_timestamp": instants})
    with pytest.raises(EntityFrameError, match=r"row 1 .the first is 0., column 'event_timestamp'"):
        load(con, frame)


def test_a_frame_without_instants_is_refused(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EntityFrameError, match="no column 'event_timestamp'"):
        load(con, pa.table({"customer_id": [1]}))


@pytest.mark.parametrize("column", [["2011-07-01"], [1], [T0.date()]])
def test_an_instant_of_another_type_is_refused(
    con: duckdb.DuckDBPyConnection, column: list[Any]
) -> None:
    with pytest.raises(EntityFrameError, match="'event_timestamp': expected datetime, found"):
        load(con, pa.table({"customer_id": [1], "event_timestamp": column}))


# Keys


def keyed(values: Any) -> pa.Table:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.table({"k": array, "event_timestamp": [T0] * len(array)})


@pytest.mark.parametrize(
    ("type_", "values", "expected"),
    [
        (INT, pa.array([1], pa.int8()), 1),
        (INT, pa.array([1], pa.uint64()), 1),
        (INT, pa.array([1]).dictionary_encode(), 1),
        (STR, pa.array(["1"]), "1"),
        (STR, pa.array(["1"], pa.large_string()), "1"),
        (STR, pa.array(["1"]).dictionary_encode(), "1"),
        (BOOL, pa.array([True]), True),
        (BYTES, pa.array([b"1"]), b"1"),
        (DATE, pa.array([T0.date()]), T0.date()),
        (DATETIME, pa.array([T0]), T0 - dt.timedelta(hours=1)),
    ],
)
def test_a_key_has_its_canonical_type(
    con: duckdb.DuckDBPyConnection, type_: Type, values: pa.Array, expected: Any
) -> None:
    frame = load(con, keyed(values), {"k": type_}, timezone="Europe/London")
    assert rows_of(con, frame)[0][2] == expected
    kinds = con.execute(f"SELECT typeof(k) FROM {frame.table}").fetchall()
    assert kinds == [(type_.duckdb,)]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (INT, ["1"]),
        (INT, [True]),
        (INT, [1.0]),
        (STR, [1]),
        (STR, [b"1"]),
        (BOOL, [1]),
        (DATE, [T0]),
        (DATETIME, [T0.date()]),
    ],
)
def test_a_key_of_another_type_is_refused(
    con: duckdb.DuckDBPyConnection, type_: Type, values: list[Any]
) -> None:
    with pytest.raises(EntityFrameError, match=f"column 'k': expected {type_}, found"):
        load(con, keyed(values), {"k": type_})


def test_a_key_in_a_dict_is_as_strict(con: duckdb.DuckDBPyConnection) -> None:
    rows = [{"customer_id": True, "event_timestamp": T0}]
    with pytest.raises(EntityFrameError, match=r"row 0 .*expected int, found bool"):
        load(con, rows)


@pytest.mark.parametrize("column", [[1, True], (1, "2"), [1, 2**63]])
def test_a_key_in_a_column_of_a_dict_is_as_strict(
    con: duckdb.DuckDBPyConnection, column: Any
) -> None:
    with pytest.raises(EntityFrameError, match=r"row 1 .the first is 0., column 'customer_id'"):
        load(con, {"customer_id": column, "event_timestamp": [T0, T0]})


def test_a_missing_key_is_named(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EntityFrameError, match=r"no column 'customer_id' .int.; it has k, event"):
        load(con, keyed([1]))


def test_a_dict_without_a_key_is_named_by_its_row(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(
        EntityFrameError, match=r"row 1 .the first is 0. lacks 'customer_id'; write "
    ):
        load(con, [*DICTS[:1], {"event_timestamp": T0}])


def test_a_null_key_keeps_its_row(con: duckdb.DuckDBPyConnection) -> None:
    frame = load(con, keyed([1, None]), {"k": INT})
    assert rows_of(con, frame) == [(0, T0_US, 1), (1, T0_US, None)]


def test_a_pandas_int_key_with_nulls_is_an_int(con: duckdb.DuckDBPyConnection) -> None:
    frame = pd.DataFrame({"customer_id": [1.0, math.nan], "event_timestamp": [T0, T0]})
    assert [row[2] for row in rows_of(con, load(con, frame))] == [1, None]


def test_a_pandas_key_with_a_fraction_is_refused(con: duckdb.DuckDBPyConnection) -> None:
    frame = pd.DataFrame({"customer_id": [1.0, 1.5], "event_timestamp": [T0, T0]})
    with pytest.raises(EntityFrameError, match=r"row 1 .*a float that is no int"):
        load(con, frame)


def test_a_key_outside_int64_is_named_by_its_row(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EntityFrameError, match=r"row 1 .*an int outside 64 bits"):
        load(con, keyed(pa.array([1, 2**63], pa.uint64())), {"k": INT})


def test_a_key_that_is_not_utf8_is_named_by_its_row(con: duckdb.DuckDBPyConnection) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xed\xa0\x80"]).buffers())
    with pytest.raises(EntityFrameError, match=r"row 1 .*column 'k': text that is not UTF-8"):
        load(con, keyed(texts), {"k": STR})


def test_a_file_whose_key_is_not_utf8_is_named_by_its_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xed\xa0\x80"]).buffers())
    pq.write_table(keyed(texts), tmp_path / "frame.parquet")
    with pytest.raises(EntityFrameError, match=r"row 1 .*column 'k': text that is not UTF-8"):
        load(con, tmp_path / "frame.parquet", {"k": STR})


def test_a_key_and_a_column_with_quotes_in_their_names_are_read(
    con: duckdb.DuckDBPyConnection,
) -> None:
    table = keyed([1]).rename_columns(['k "1"', "event_timestamp"])
    frame = load(con, table, {'k "1"': INT})
    assert rows_of(con, frame) == [(0, T0_US, 1)]


# Request fields


def asked(values: Any, type_: Type, con: duckdb.DuckDBPyConnection) -> list[Any]:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    n = len(array)
    table = pa.table({"customer_id": [1] * n, "event_timestamp": [T0] * n, "r": array})
    return [row[3] for row in rows_of(con, load(con, table, request={"r": type_}))]


def test_a_request_field_has_its_canonical_type(con: duckdb.DuckDBPyConnection) -> None:
    assert asked(pa.array([1, 2], pa.int16()), FLOAT, con) == [1.0, 2.0]


def test_an_optional_request_field_may_be_null(con: duckdb.DuckDBPyConnection) -> None:
    assert asked([1, None], INT.or_none(), con) == [1, None]


def test_a_null_request_field_is_named_by_its_row(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(
        EntityFrameError, match=r"row 1 .*column 'r': null in a column declared int"
    ):
        asked([1, None], INT, con)


def test_a_request_float_that_no_float_equals_is_named_by_its_row(
    con: duckdb.DuckDBPyConnection,
) -> None:
    with pytest.raises(EntityFrameError, match=r"row 1 .*an int that no float equals"):
        asked([1, 2**53 + 1], FLOAT, con)


def test_a_missing_request_field_is_named(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EntityFrameError, match=r"no column 'r' .float."):
        load(con, pa.table(COLUMNS), request={"r": FLOAT})


# Frames that are none


@pytest.mark.parametrize("frame", [5, None, object(), iter([])])
def test_what_is_no_frame_is_refused(con: duckdb.DuckDBPyConnection, frame: Any) -> None:
    with pytest.raises(EntityFrameError, match=r"is no frame; give a pandas, polars or Arrow"):
        load(con, frame)


def test_an_absent_file_is_refused(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(EntityFrameError, match="there is no file"):
        load(con, tmp_path / "frame.parquet")


def test_a_file_that_is_no_parquet_is_refused(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "frame.parquet").write_text("customer_id,event_timestamp\n1,2011-07-01\n")
    with pytest.raises(EntityFrameError, match="not a Parquet file that can be read"):
        load(con, tmp_path / "frame.parquet")


def test_columns_of_one_name_are_refused(con: duckdb.DuckDBPyConnection) -> None:
    table = pa.Table.from_arrays([pa.array([1])] * 2, names=["customer_id", "customer_id"])
    with pytest.raises(EntityFrameError, match="two columns are named 'customer_id'"):
        load(con, table)


def test_an_error_leaves_nothing_behind(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(EntityFrameError):
        load(con, keyed(["1"]), {"k": INT})
    tables = con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall()
    views = con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    assert (tables, views) == ([(0,)], [(0,)])


# CSV

LABELS = """\ufeffzip,customer_id,event_timestamp,big,note,r
00123,17850.0,2011-07-01 12:00:00,12345678901234567890,"1,5",0.5
,,2011-07-01 12:00,1e3,"",1
"007",3,2011-07-01T12:00,-0,"a
b",2
"""


def test_columns_of_a_csv_frame_that_are_not_asked_for_come_back_as_they_are_written(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(LABELS, encoding="utf-8")
    frame = load(con, str(path), request={"r": FLOAT})
    assert rows_of(con, frame) == [
        (0, T0_US, 17850, 0.5),
        (1, T0_US, None, 1.0),
        (2, T0_US, 3, 2.0),
    ]
    assert frame.arrow is not None
    assert frame.arrow["zip"].to_pylist() == ["00123", None, "007"]
    assert frame.arrow["big"].to_pylist() == ["12345678901234567890", "1e3", "-0"]
    assert frame.arrow["note"].to_pylist() == ["1,5", "", "a\nb"]
    assert frame.arrow["event_timestamp"].to_pylist() == [T0] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customer_id,event_timestamp\n1\n", r"line 2: 1 field where the header names 2.*mend"),
        ('customer_id,event_timestamp\n1,"x"y\n', r"line 2: field 2 goes on after the quote"),
        ("customer_id,customer_id\n", "names 'customer_id' twice"),
        ("", "its first line is empty"),
        ("customer_id,event_timestamp\nx,2011-03-01\n", "'customer_id': 'x' is no int; write"),
        ("customer_id\n1\n", "there is no column 'event_timestamp'"),
    ],
)
def test_a_csv_frame_that_cannot_be_read_is_named(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EntityFrameError, match=said):
        load(con, path)


def test_columns_of_a_frame_that_differ_in_case_alone_are_told_apart(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    table = pa.table({"Customer_ID": ["x"], "customer_id": [1], "event_timestamp": [T0]})
    pq.write_table(table, tmp_path / "frame.parquet")
    for frame in (table, tmp_path / "frame.parquet"):
        assert rows_of(con, load(con, frame)) == [(0, T0_US, 1)]
