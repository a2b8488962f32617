"""S1, T1: what reading a source's files, or pushed rows, yields and refuses."""

from __future__ import annotations

import datetime as dt
import json
import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.core import timezones
from featurekit.core.types import EPOCH, INT_MAX, INT_MIN, MICROSECOND
from featurekit.define.definitions import EventSource
from featurekit.errors import BadRowError, SourceError
from featurekit.sources import CheckedFiles, events, read_events, read_rows

RETAIL = Path(__file__).parents[3] / "shared" / "data" / "online_retail.parquet"
T0 = dt.datetime(2011, 3, 1)
UTC = dt.UTC


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        yield connection


class Repo:
    """A folder with one source's files."""

    def __init__(self, con: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.con, self.folder, self.state = con, folder, folder / "state"

    def parquet(self, columns: dict[str, Any], name: str = "x.parquet", **options: Any) -> None:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        if "ts" not in table.column_names:
            ts = pa.array([T0] * table.num_rows, pa.timestamp("us"))
            table = table.append_column("ts", ts)
        pq.write_table(table, self.folder / name, **options)

    def csv(self, text: str | bytes, name: str = "x.csv") -> None:
        (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def read(self, schema: dict[str, Any], path: str = "x.parquet", **options: Any) -> CheckedFiles:
        options = {"timestamp_field": "ts", **options}
        source = EventSource("x", path=path, schema=schema, **options)
        return read_events(self.con, source, base=self.folder, state_dir=self.state)

    def values(self, schema: dict[str, Any], path: str = "x.parquet", **options: Any) -> list[Any]:
        read = self.read(schema, path, **options)
        names = ", ".join(f'"{name}"' for name in schema)
        rows = self.con.execute(f"SELECT {names} FROM {read.relation}").fetchall()
        return [row[0] for row in rows] if len(schema) == 1 else rows

    def instants(self, path: str = "x.parquet", **options: Any) -> list[Any]:
        read = self.read(options.pop("schema", {"v": int}), path, **options)
        return [r[0] for r in self.con.execute(f"SELECT __ts FROM {read.relation}").fetchall()]


@pytest.fixture
def repo(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> Repo:
    return Repo(con, tmp_path)


def us(local: dt.datetime) -> int:
    return (local.replace(tzinfo=local.tzinfo or UTC) - EPOCH) // MICROSECOND


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def text_of(*values: bytes) -> pa.Array:
    """A text array of any bytes, as careless writers make."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


# Types: what is read, and what is refused


@pytest.mark.parametrize(
    ("hint", "array", "kind"),
    [
        (bool, pa.array([True]), "BOOLEAN"),
        (int, pa.array([1], pa.int8()), "BIGINT"),
        (int, pa.array([1], pa.uint32()), "BIGINT"),
        (int, pa.array([1], pa.uint64()), "BIGINT"),
        (float, pa.array([1.5], pa.float32()), "DOUBLE"),
        (float, pa.array([1], pa.int64()), "DOUBLE"),
        (str, pa.array(["a"]).dictionary_encode(), "VARCHAR"),
        (str, pa.array(["a"], pa.string_view()), "VARCHAR"),
        (bytes, pa.array([b"a"], pa.binary(1)), "BLOB"),
        (dt.datetime, pa.array([T0], pa.timestamp("ns")), "TIMESTAMP"),
        (dt.datetime, pa.array([T0], pa.timestamp("ms", "Asia/Tokyo")), "TIMESTAMP"),
        (dt.date, pa.array([T0.date()]), "DATE"),
        (dt.timedelta, pa.array([dt.timedelta(1)]), "BIGINT"),
        (list[int], pa.array([[1]], pa.list_(pa.int32())), "BIGINT[]"),
        (list[float], pa.array([[1.0]], pa.list_(pa.float64(), 1)), "DOUBLE[]"),
    ],
)
def test_every_column_has_its_canonical_type(
    repo: Repo, hint: Any, array: pa.Array, kind: str
) -> None:
    repo.parquet({"v": array})
    relation = repo.read({"v": hint}).relation
    rows = repo.con.execute(f"DESCRIBE {relation}").fetchall()
    kinds = [(row[0], row[1]) for row in rows]
    assert kinds == [("v", kind), ("__ts", "BIGINT"), ("__created", "BIGINT")]


@pytest.mark.parametrize(
    ("hint", "array", "hinted"),
    [
        (int, pa.array([1.0]), "declare it float"),
        (int, pa.array([True]), "declare it bool"),
        (int, pa.array([dt.timedelta(1)]), "declare it timedelta"),
        (str, pa.array([1]), "declare it int"),
        (bool, pa.array([1]), "declare it int"),
        (float, pa.array([Decimal("1.5")]), "never rounds a decimal"),
        (float, pa.array(["1"]), "declare it str"),
        (dt.timedelta, pa.array([1]), "declare it int, or write an Arrow duration"),
        (dt.datetime, pa.array([T0.date()]), "declare it date"),
        (dt.date, pa.array([T0]), "declare it datetime"),
        (bytes, pa.array(["a"]), "declare it str"),
        (list[int], pa.array([1]), "declare it int"),
        (list[int], pa.array([["a"]]), "in the job that writes it"),
    ],
)
def test_a_column_of_another_type_is_refused_with_a_hint(
    repo: Repo, hint: Any, array: pa.Array, hinted: str
) -> None:
    repo.parquet({"v": array})
    with pytest.raises(SourceError, match=r"column 'v': declared .*, the file has .*" + hinted):
        repo.read({"v": hint})


@pytest.mark.parametrize("hint", [int, float, list[float]])
def test_a_decimal_wider_than_duckdb_has_is_refused(repo: Repo, hint: Any) -> None:
    values: Any = [Decimal(10) ** 45]
    wide = pa.decimal256(50, 2)
    if hint == list[float]:
        values, wide = [values], pa.list_(wide)
    repo.parquet({"v": pa.array(values, wide)})
    with pytest.raises(SourceError, match="has WIDE DECIMAL of 50 digits; cast it to DOUBLE or"):
        repo.read({"v": hint})
    if hint != list[float]:
        pushed = pa.table({"v": pa.array(values, wide), "ts": [T0]})
        with pytest.raises(SourceError, match="found WIDE DECIMAL of 50 digits; cast it to DOUBLE"):
            read_rows(source(hint), pushed, state_dir=None)


def test_a_decimal_without_a_fraction_is_an_int(repo: Repo) -> None:
    for type_ in (pa.decimal128(38, 0), pa.decimal128(10, 2), pa.decimal256(40, 1)):
        array = pa.array([Decimal(-7), None], type_)
        if type_.precision <= 38:
            repo.parquet({"v": array})
            assert repo.values({"v": int | None}) == [-7, None]
        pushed = pa.table({"v": array, "ts": [T0, T0]})
        found = read_rows(source(int | None), pushed, state_dir=None).table
        assert found.column("v").to_pylist() == [-7, None]


def test_a_missing_column_is_named_with_its_neighbour(repo: Repo) -> None:
    repo.parquet({"Customer_id": [1]})
    with pytest.raises(SourceError, match="no column 'customer_id'; did you mean 'Customer_id'"):
        repo.read({"customer_id": int})


def test_a_missing_timestamp_is_an_error(repo: Repo) -> None:
    repo.parquet({"v": [1]})
    with pytest.raises(SourceError, match="no column 'at'"):
        repo.read({"v": int}, timestamp_field="at")


def test_uint64_within_int64_is_read(repo: Repo) -> None:
    repo.parquet({"v": pa.array([INT_MAX], pa.uint64())})
    assert repo.values({"v": int}) == [INT_MAX]


def test_durations_of_any_unit_are_floored_microseconds(repo: Repo) -> None:
    columns = {unit: pa.array([-1], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")}
    repo.parquet(columns)
    row = repo.values(dict.fromkeys(columns, dt.timedelta))
    assert row == [(-1_000_000, -1000, -1, -1)]


def test_a_column_of_nothing_but_null_fits_an_optional_type(repo: Repo) -> None:
    repo.parquet({"v": pa.nulls(2)})
    assert repo.values({"v": str | None}) == [None, None]


def test_lists_pass_with_one_nan_for_every_nan(repo: Repo) -> None:
    strange = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    repo.parquet({"v": pa.array([[strange, 1.0], None])})
    read = repo.read({"v": list[float] | None})
    query = f"SELECT (v[1]::BIT)::VARCHAR FROM {read.relation}"
    canonical = duckdb.execute("SELECT ('nan'::DOUBLE::BIT)::VARCHAR").fetchall()
    assert repo.con.execute(query).fetchall() == [*canonical, (None,)]


def test_every_nan_is_the_one_nan(repo: Repo) -> None:
    patterns = [0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0000, 0x7FF8_0000_0000_0123]
    repo.parquet({"v": [struct.unpack("<d", struct.pack("<Q", p))[0] for p in patterns]})
    query = f"SELECT DISTINCT (v::BIT)::VARCHAR FROM {repo.read({'v': float}).relation}"
    canonical = duckdb.execute("SELECT ('nan'::DOUBLE::BIT)::VARCHAR").fetchall()
    assert repo.con.execute(query).fetchall() == canonical


def test_nan_is_a_value_and_never_null(repo: Repo) -> None:
    repo.parquet({"v": [math.nan, None]})
    read = repo.read({"v": float | None})
    query = f"SELECT v IS NULL FROM {read.relation}"
    assert repo.con.execute(query).fetchall() == [(False,), (True,)]


def test_minus_zero_keeps_its_sign(repo: Repo) -> None:
    repo.parquet({"v": [-0.0]})
    assert bits(repo.values({"v": float})[0]) == bits(-0.0)


# Instants


@pytest.mark.parametrize("zone", ["UTC", "Europe/London"])
@pytest.mark.parametrize("aware", [None, "UTC"])
def test_nanoseconds_before_1970_are_floored(repo: Repo, zone: str, aware: str | None) -> None:
    winter = -86_400_000_000_000 * 365 * 5  # London kept summer time from 1968 to 1971
    repo.parquet({"v": [1, 2], "ts": pa.array([winter - 1, winter], pa.timestamp("ns", aware))})
    assert repo.instants(timezone=zone) == [winter // 1000 - 1, winter // 1000]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_other_units_are_the_same_instant(repo: Repo, unit: str) -> None:
    repo.parquet({"v": [1], "ts": pa.array([T0], pa.timestamp(unit))})
    assert repo.instants() == [us(T0)]


def test_int96_is_read(repo: Repo) -> None:
    table = pa.table({"v": [1], "ts": pa.array([T0], pa.timestamp("ns"))})
    repo.parquet(table, use_deprecated_int96_timestamps=True)
    assert repo.instants() == [us(T0)]


def test_an_aware_column_is_an_instant_whatever_the_sources_zone(repo: Repo) -> None:
    local = T0.replace(tzinfo=timezones.zone("Asia/Tokyo"))
    repo.parquet({"v": [1], "ts": pa.array([local], pa.timestamp("us", "Asia/Tokyo"))})
    assert repo.instants(timezone="Europe/London") == [us(local)]


def test_a_naive_datetime_of_the_schema_is_read_in_the_sources_zone(repo: Repo) -> None:
    repo.parquet({"v": pa.array([dt.datetime(2011, 7, 1, 12), None])})
    values = repo.values({"v": dt.datetime | None}, timezone="Europe/London")
    assert values == [dt.datetime(2011, 7, 1, 11), None]


def test_a_sentinel_far_in_the_future_is_read_in_its_zone(repo: Repo) -> None:
    late = dt.datetime(9999, 7, 1)
    repo.parquet({"v": pa.array([dt.datetime(2011, 1, 1), late])})
    values = repo.values({"v": dt.datetime}, timezone="Europe/London")
    assert values == [dt.datetime(2011, 1, 1), late - dt.timedelta(hours=1)]


def test_naive_datetimes_in_lists_are_read_in_the_sources_zone(repo: Repo) -> None:
    repo.parquet({"v": pa.array([[dt.datetime(2011, 7, 1, 12)], []])})
    values = repo.values({"v": list[dt.datetime]}, timezone="Europe/London")
    assert values == [[dt.datetime(2011, 7, 1, 11)], []]


def test_created_is_the_event_time_where_the_source_has_none(repo: Repo) -> None:
    repo.parquet({"v": [1]})
    relation = repo.read({"v": int}).relation
    query = f"SELECT __created FROM {relation}"
    assert repo.con.execute(query).fetchall() == [(us(T0),)]


def test_created_is_read_from_its_column(repo: Repo) -> None:
    repo.parquet({"v": [1], "known": [T0 + dt.timedelta(1)]})
    relation = repo.read({"v": int}, created_timestamp_column="known").relation
    query = f"SELECT __created FROM {relation}"
    assert repo.con.execute(query).fetchall() == [(us(T0 + dt.timedelta(1)),)]


def test_a_timestamp_of_the_schema_is_utc_too(repo: Repo) -> None:
    repo.parquet({"ts": pa.array([dt.datetime(2011, 7, 1, 12)])})
    values = repo.values({"ts": dt.datetime}, timezone="Europe/London")
    assert values == [dt.datetime(2011, 7, 1, 11)]


def test_the_sessions_zone_changes_nothing(repo: Repo) -> None:
    repo.con.execute("SET TimeZone = 'Asia/Tokyo'").fetchall()
    repo.parquet({"v": [1], "ts": pa.array([us(T0) * 1000], pa.timestamp("ns", "UTC"))})
    assert repo.instants() == [us(T0)]


def test_real_invoice_dates_equal_zoneinfo_across_the_clock_change(
    con: duckdb.DuckDBPyConnection,
) -> None:
    if not RETAIL.exists():
        pytest.skip(f"the real data is not at {RETAIL}")
    source = EventSource(
        "order_lines",
        path=str(RETAIL),
        schema={
            "invoice_no": str,
            "quantity": int,
            "unit_price": float,
            "customer_id": int | None,
            "description": str | None,
            "country": str,
        },
        timestamp_field="invoice_date",
        timezone="Europe/London",
    )
    read = read_events(con, source, base=Path(), state_dir=None)
    assert read.rows == 370_931
    query = f"SELECT DISTINCT invoice_date FROM read_parquet('{RETAIL}')"
    locals_ = [row[0] for row in con.execute(query).fetchall()]
    zone = timezones.zone("Europe/London")
    expected = sorted({us(local.replace(tzinfo=zone)) for local in locals_})
    query = f"SELECT DISTINCT __ts FROM {read.relation} ORDER BY 1"
    assert [row[0] for row in con.execute(query).fetchall()] == expected


# Bad rows

BAD = [
    ("null", str, pa.array(["a", None]), "null in a column declared str"),
    ("big", int, pa.array([1, 2**63], pa.uint64()), "an int outside 64 bits: '922337"),
    ("inexact", float, pa.array([1, 2**53 + 1]), "an int that no float equals"),
    ("item", list[int], pa.array([[1], [None]]), r"in a list, a null in a list\[int\]"),
    ("items", list[int], pa.array([[1], [2**63]], pa.list_(pa.uint64())), "in a list, an int out"),
    ("long", dt.timedelta, pa.array([1, 2**62], pa.duration("ms")), "a duration outside"),
    ("year", dt.datetime, pa.array([0, 2**61], pa.timestamp("us")), "an instant outside"),
    ("date", dt.date, pa.array([0, 2**31 - 1], pa.date32()), "a date outside"),
    ("ms", dt.datetime, pa.array([0, 2**62], pa.timestamp("ms")), "an instant outside"),
    ("text", str, text_of(b"ok", b"\xed\xa0\x80"), "text that is not UTF-8"),
    ("opt", str | None, text_of(b"ok", b"\xed\xa0\x80"), "text that is not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "array", "reason"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_row_is_named_with_its_column(
    repo: Repo, hint: Any, array: pa.Array, reason: str
) -> None:
    repo.parquet({"v": array})
    with pytest.raises(BadRowError, match=f"row 1 .the first is 0., column 'v': {reason}"):
        repo.read({"v": hint})


@pytest.mark.parametrize(("hint", "array"), [b[1:3] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_row_is_set_aside_and_the_good_one_stays(
    repo: Repo, hint: Any, array: pa.Array
) -> None:
    repo.parquet({"v": array, "n": [0, 1]})
    schema = {"v": hint, "n": int}
    read = repo.read(schema, on_bad_row="quarantine")
    assert (read.rows, read.quarantined) == (1, 1)
    query = f"SELECT v, n, __ts FROM {read.relation}"
    assert [row[1] for row in repo.con.execute(query).fetchall()] == [0]
    assert list((repo.state / "quarantine").iterdir())


def test_rows_set_aside_are_kept_whole_with_their_reason(repo: Repo) -> None:
    repo.parquet({"v": [1, None, 3], "other": ["a", "b", "c"]})
    repo.read({"v": int}, on_bad_row="quarantine")
    kept = pq.read_table(repo.state / "quarantine" / "x.parquet").to_pylist()
    assert [(row["other"], row["__source_row"], row["reason"]) for row in kept] == [
        ("b", 1, "v: null in a column declared int")
    ]


def test_mending_the_file_removes_what_was_set_aside(repo: Repo) -> None:
    repo.parquet({"v": [1, None]})
    repo.read({"v": int}, on_bad_row="quarantine")
    repo.parquet({"v": [1, 2]})
    read = repo.read({"v": int}, on_bad_row="quarantine")
    assert read.quarantined == 0
    assert not (repo.state / "quarantine" / "x.parquet").exists()


def test_a_null_instant_is_a_bad_row(repo: Repo) -> None:
    repo.parquet({"v": [1], "ts": pa.array([None], pa.timestamp("us"))})
    with pytest.raises(BadRowError, match=r"row 0 .*column 'ts': null as an instant"):
        repo.read({"v": int})


def test_an_infinite_instant_is_a_bad_row(repo: Repo) -> None:
    path = repo.folder / "x.parquet"
    query = f"COPY (SELECT 1::BIGINT AS v, 'infinity'::TIMESTAMP AS ts) TO '{path}'"
    repo.con.execute(query).fetchall()
    with pytest.raises(BadRowError, match="an instant outside the years 1 to 9999: 'infinity'"):
        repo.read({"v": int})


def test_a_local_time_whose_instant_leaves_the_calendar_is_a_bad_row(repo: Repo) -> None:
    repo.parquet({"v": [1], "ts": pa.array([dt.datetime(1, 1, 1)])})
    with pytest.raises(BadRowError, match="an instant outside the years 1 to 9999"):
        repo.read({"v": int}, timezone="Asia/Tokyo")


def test_the_first_bad_row_is_the_first_of_the_first_file(repo: Repo) -> None:
    repo.parquet({"v": [1, 2]}, "a.parquet")
    repo.parquet({"v": [1, None, None]}, "b.parquet")
    repo.parquet({"v": pa.array([None], pa.int8())}, "c.parquet")
    with pytest.raises(BadRowError, match=r"b\.parquet, row 1 "):
        repo.read({"v": int}, "*.parquet")


def test_without_a_state_dir_rows_cannot_be_set_aside(repo: Repo) -> None:
    repo.parquet({"v": pa.array([None], pa.int64())})
    source = EventSource(
        "x", path="x.parquet", schema={"v": int}, timestamp_field="ts", on_bad_row="quarantine"
    )
    with pytest.raises(SourceError, match="no state_dir to keep them"):
        read_events(repo.con, source, base=repo.folder, state_dir=None)


# Files


def test_files_of_one_glob_may_differ_in_width_of_ints(repo: Repo) -> None:
    repo.parquet({"v": pa.array([1], pa.int8()), "more": ["x"]}, "a.parquet")
    repo.parquet({"v": pa.array([2], pa.uint64())}, "b.parquet")
    assert repo.values({"v": int}, "*.parquet") == [1, 2]


def test_files_of_one_glob_may_order_their_columns_differently(repo: Repo) -> None:
    repo.parquet({"v": [1], "w": [10]}, "a.parquet")
    repo.parquet({"w": [20], "v": [2]}, "b.parquet")
    assert repo.values({"v": int, "w": int}, "*.parquet") == [(1, 10), (2, 20)]


def test_every_file_of_a_glob_must_fit(repo: Repo) -> None:
    repo.parquet({"v": [1]}, "a.parquet")
    repo.parquet({"v": ["x"]}, "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet, column 'v'"):
        repo.read({"v": int}, "*.parquet")


def test_files_are_listed_in_order(repo: Repo) -> None:
    for name in ("b.parquet", "a.parquet"):
        repo.parquet({"v": [1]}, name)
    read = repo.read({"v": int}, "*.parquet")
    assert [Path(file.path).name for file in read.files] == ["a.parquet", "b.parquet"]


def test_a_glob_that_matches_nothing_is_an_error(repo: Repo) -> None:
    with pytest.raises(SourceError, match="no file matches"):
        repo.read({"v": int}, "*.parquet")


def test_an_absent_file_is_an_error(repo: Repo) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*x\.parquet"):
        repo.read({"v": int})


def test_a_folder_is_an_error_that_suggests_a_glob(repo: Repo) -> None:
    (repo.folder / "x.parquet").mkdir()
    with pytest.raises(SourceError, match=r'write a glob, as in "x.parquet/\*.parquet"'):
        repo.read({"v": int})


def test_a_file_of_no_bytes_is_an_error(repo: Repo) -> None:
    repo.csv("", "x.parquet")
    with pytest.raises(SourceError, match="is empty, 0 bytes"):
        repo.read({"v": int})


def test_a_file_that_is_no_parquet_is_an_error(repo: Repo) -> None:
    repo.csv("a,b\n1,2\n" * 10, "x.parquet")
    with pytest.raises(SourceError, match="not a Parquet file"):
        repo.read({"v": int})


def test_a_truncated_file_is_an_error(repo: Repo) -> None:
    repo.parquet({"v": list(range(1000))})
    path = repo.folder / "x.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="not a Parquet file"):
        repo.read({"v": int})


def test_a_corrupt_page_is_an_error(repo: Repo) -> None:
    repo.parquet({"v": [str(i) for i in range(10_000)]}, use_dictionary=False)
    path = repo.folder / "x.parquet"
    data = bytearray(path.read_bytes())
    for i in range(40, 4000, 3):
        data[i] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(SourceError, match="cannot be read"):
        repo.read({"v": str})


def test_after_an_error_the_connection_is_free(repo: Repo) -> None:
    repo.csv("junk that is no parquet", "x.parquet")
    with pytest.raises(SourceError):
        repo.read({"v": int})
    assert repo.con.execute("SELECT 1").fetchall() == [(1,)]


def test_a_parquet_file_without_rows_is_an_empty_view(repo: Repo) -> None:
    repo.parquet({"v": pa.array([], pa.int64())})
    assert repo.values({"v": int}, timezone="Europe/London") == []


def test_a_glob_finds_no_hidden_file(repo: Repo) -> None:
    repo.parquet({"v": [1]})
    repo.parquet({"v": [2]}, ".x.parquet.writing.parquet")
    assert repo.values({"v": int}, "*.parquet") == [1]


def test_a_reason_stands_beside_a_column_of_that_name(repo: Repo) -> None:
    repo.parquet({"v": [1, None], "Reason": ["a", "b"]})
    repo.read({"v": int}, on_bad_row="quarantine")
    (kept,) = pq.read_table(repo.state / "quarantine" / "x.parquet").to_pylist()
    assert (kept["Reason"], kept["__reason"]) == ("b", "v: null in a column declared int")


def test_names_with_quotes_and_signs_of_globs_are_read(repo: Repo) -> None:
    repo.parquet({'a"b c': [1]}, "it's[1]*.parquet")
    read = repo.read({'a"b c': int}, "it's[1]*.parquet")
    assert repo.con.execute(f"SELECT * FROM {read.relation}").fetchall() == [(1, us(T0), us(T0))]


def test_folders_named_like_partitions_are_no_columns(repo: Repo) -> None:
    (repo.folder / "v=7").mkdir()
    repo.parquet({"v": [1]}, "v=7/x.parquet")
    assert repo.values({"v": int}, "*/x.parquet") == [1]


def test_unchanged_files_are_checked_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.parquet({"v": [1]})
    first = repo.read({"v": int})
    monkeypatch.setattr(events, "_check", lambda *_: pytest.fail("scanned again"))
    assert repo.read({"v": int}) == first


def test_a_changed_file_is_checked_again(repo: Repo) -> None:
    repo.parquet({"v": [1]})
    repo.read({"v": int})
    repo.parquet({"v": [1, None]})
    with pytest.raises(BadRowError):
        repo.read({"v": int})


def test_another_connection_gets_its_own_view(repo: Repo) -> None:
    repo.parquet({"v": [1]})
    repo.read({"v": int})
    with duckdb.connect() as other:
        repo.con = other
        assert repo.values({"v": int}) == [1]


# CSV


def csv_values(repo: Repo, hint: Any, *texts: str) -> list[Any]:
    lines = "".join(f"{text},2011-03-01\n" for text in texts)
    repo.csv("v,ts\n" + lines)
    return repo.values({"v": hint}, "x.csv")


def test_csv_ints_are_read(repo: Repo) -> None:
    texts = ["1", "+1", "-0", "007", str(INT_MAX), str(INT_MIN)]
    assert csv_values(repo, int, *texts) == [int(text) for text in texts]


def test_the_first_of_several_lines_that_cannot_be_read_is_told(repo: Repo) -> None:
    repo.csv("v,ts\n1,2011-03-01\n2,2011-03-01,x\n3,2011-03-01,y\n")
    with pytest.raises(BadRowError, match=r"row 1 \(the first is 0\)"):
        repo.read({"v": int}, "x.csv")


def test_csv_instants_of_columns_that_differ_in_a_quote_are_told_apart(repo: Repo) -> None:
    repo.csv('a,"a""",ts\n2011-03-01,2011-03-02,2011-03-03\n')
    schema = {"a": dt.datetime, 'a"': dt.datetime}
    relation = repo.read(schema, "x.csv").relation
    assert repo.con.execute(f"SELECT * EXCLUDE (__ts, __created) FROM {relation}").fetchall() == [
        (dt.datetime(2011, 3, 1), dt.datetime(2011, 3, 2))
    ]


@pytest.mark.parametrize(
    "text", ["2.5", "1_0", "0x10", "1e3", " 1", "1 ", "١", "", "9223372036854775808", "a", "1\\n"]
)
def test_csv_text_that_is_no_int_is_a_bad_row(repo: Repo, text: str) -> None:
    quoted = f'"{text}"'
    with pytest.raises(BadRowError, match=r"row 1 .*column 'v': no int of 64 bits"):
        csv_values(repo, int, "1", quoted)


def test_csv_floats_are_what_python_reads(repo: Repo) -> None:
    texts = ["1", ".5", "5.", "-1e-5", "1E5", "inf", "-Infinity", "+INF", "1e400", "0.1", " 1.5 "]
    texts += ["-0.0", "4.9e-324", "9007199254740993", "2.2250738585072011e-308"]
    actual = csv_values(repo, float, *texts)
    assert [bits(value) for value in actual] == [bits(float(text)) for text in texts]


def test_csv_nan_is_a_value(repo: Repo) -> None:
    assert [math.isnan(v) for v in csv_values(repo, float, "nan", "-NaN")] == [True, True]


@pytest.mark.parametrize("text", ["1_0", "0x1p3", "1,5", "", "e5", ".", "infinit", "None"])
def test_csv_text_that_is_no_float_is_a_bad_row(repo: Repo, text: str) -> None:
    with pytest.raises(BadRowError, match="column 'v': no float"):
        csv_values(repo, float, f'"{text}"')


def test_csv_bools_are_true_and_false(repo: Repo) -> None:
    assert csv_values(repo, bool, "true", "False", "TRUE") == [True, False, True]


@pytest.mark.parametrize("text", ["1", "t", "yes", "T", "0"])
def test_other_csv_bools_are_bad_rows(repo: Repo, text: str) -> None:
    with pytest.raises(BadRowError, match="neither true nor false"):
        csv_values(repo, bool, text)


def test_csv_dates_are_iso(repo: Repo) -> None:
    assert csv_values(repo, dt.date, "2011-03-27") == [dt.date(2011, 3, 27)]


@pytest.mark.parametrize("text", ["2011-3-27", "27.03.2011", "2011-02-30", "0000-01-01"])
def test_other_csv_dates_are_bad_rows(repo: Repo, text: str) -> None:
    with pytest.raises(BadRowError, match="no ISO date"):
        csv_values(repo, dt.date, text)


def test_an_unquoted_empty_field_is_null_and_a_quoted_one_is_empty(repo: Repo) -> None:
    assert csv_values(repo, str | None, "", '""', "NULL") == [None, "", "NULL"]


def test_an_unquoted_empty_field_is_a_null_for_the_check(repo: Repo) -> None:
    with pytest.raises(BadRowError, match="null in a column declared str"):
        csv_values(repo, str, "")


CSV_INSTANTS = {
    "2011-07-01 12:00:00": dt.datetime(2011, 7, 1, 11),
    "2011-07-01T12:00": dt.datetime(2011, 7, 1, 11),
    "2011-07-01": dt.datetime(2011, 6, 30, 23),
    "2011-07-01T12:00:00Z": dt.datetime(2011, 7, 1, 12),
    "2011-07-01 12:00:00+02:00": dt.datetime(2011, 7, 1, 10),
    "2011-07-01 12:00:00-0530": dt.datetime(2011, 7, 1, 17, 30),
    "2011-07-01T12:00:00.5+02": dt.datetime(2011, 7, 1, 10, 0, 0, 500_000),
    "2011-07-01T12:00:00 +00:00:30": dt.datetime(2011, 7, 1, 11, 59, 30),
    "2011-07-01T12:00:00.1234569": dt.datetime(2011, 7, 1, 11, 0, 0, 123_456),
    "1911-07-01T12:00:00.9999999Z": dt.datetime(1911, 7, 1, 12, 0, 0, 999_999),
    "2011-03-27 01:30:00": dt.datetime(2011, 3, 27, 1, 30),
    "2011-10-30 01:30:00": dt.datetime(2011, 10, 30, 0, 30),
}


@pytest.mark.parametrize("text", CSV_INSTANTS)
def test_csv_instants_are_read(repo: Repo, text: str) -> None:
    repo.csv(f"v,ts\n1,{text}\n")
    assert repo.instants("x.csv", timezone="Europe/London") == [us(CSV_INSTANTS[text])]


def test_csv_instants_with_and_without_offset_stand_in_one_column(repo: Repo) -> None:
    repo.csv("v,ts\n" + "".join(f"1,{text}\n" for text in CSV_INSTANTS))
    expected = [us(value) for value in CSV_INSTANTS.values()]
    assert repo.instants("x.csv", timezone="Europe/London") == expected


@pytest.mark.parametrize(
    "text",
    ["2011-07-01 24:00:00", "2011-07-01 12:00:60", "2011-02-30 12:00", "01/07/2011 12:00", "now",
     "2011-07-01 12:00:00+25:00", "2011-07-01 12", "infinity", "epoch", "2011-07-01 12:00 UTC"],
)  # fmt: skip
def test_other_csv_instants_are_bad_rows(repo: Repo, text: str) -> None:
    repo.csv(f"v,ts\n1,2011-01-01\n1,{text}\n")
    with pytest.raises(BadRowError, match=r"row 1 .*column 'ts': no ISO 8601 instant"):
        repo.read({"v": int}, "x.csv")


def test_a_csv_instant_before_the_year_1_is_a_bad_row(repo: Repo) -> None:
    repo.csv("v,ts\n1,0001-01-01T00:00:00+01:00\n")
    with pytest.raises(BadRowError, match="an instant outside the years 1 to 9999"):
        repo.read({"v": int}, "x.csv")


def test_a_csv_column_of_quoted_name_is_read(repo: Repo) -> None:
    repo.csv('"a ""b"", c","t ""s"""\n1,2011-03-01\n')
    read = repo.read({'a "b", c': int}, "x.csv", timestamp_field='t "s"', timezone="Europe/London")
    assert repo.con.execute(f"FROM {read.relation}").fetchall() == [(1, us(T0), us(T0))]


def test_csv_headers_may_differ_in_order(repo: Repo) -> None:
    repo.csv("v,w,ts\n1,10,2011-03-01\n", "a.csv")
    repo.csv("ts,w,v\n2011-03-01,20,2\n", "b.csv")
    assert repo.values({"v": int, "w": int}, "*.csv") == [(1, 10), (2, 20)]


def test_a_byte_order_mark_and_windows_line_ends_are_read(repo: Repo) -> None:
    repo.csv(b"\xef\xbb\xbfv,ts\r\n1,2011-03-01\r\n")
    assert repo.values({"v": int}, "x.csv") == [1]


def test_a_csv_field_may_hold_a_line_break(repo: Repo) -> None:
    assert csv_values(repo, str, '"a,\nb"') == ["a,\nb"]


def test_a_csv_file_of_a_header_alone_is_an_empty_view(repo: Repo) -> None:
    repo.csv("v,ts\n")
    assert repo.values({"v": int}, "x.csv", timezone="Europe/London") == []


def test_a_csv_header_that_names_a_column_twice_is_an_error(repo: Repo) -> None:
    repo.csv("v,v,ts\n1,2,2011-03-01\n")
    with pytest.raises(SourceError, match="names 'v' twice"):
        repo.read({"v": int}, "x.csv")


def test_csv_columns_that_differ_in_case_alone_are_told_apart(repo: Repo) -> None:
    repo.csv("v,x,V,ts\n1,2,3,2011-03-01\n")
    assert repo.values({"v": int}, "x.csv") == [1]
    assert repo.values({"V": int}, "x.csv") == [3]


def test_parquet_columns_that_differ_in_case_alone_are_told_apart(repo: Repo) -> None:
    repo.parquet({"v": [1], "v_1": [2], "V": [3], "x": [{"V": 9, "y": [1]}], "": [4]})
    assert repo.values({"v": int}) == [1]
    assert repo.values({"V": int}) == [3]
    assert repo.values({"v_1": int}) == [2]


def test_bytes_cannot_be_read_from_csv(repo: Repo) -> None:
    repo.csv("v,ts\n1,2011-03-01\n")
    with pytest.raises(SourceError, match="CSV text has no form for bytes; use Parquet"):
        repo.read({"v": bytes}, "x.csv")


CSV_BAD = {
    "short": b"v,ts\n1,2011-03-01\n2\n3,2011-03-01\n",
    "long": b"v,ts\n1,2011-03-01\n2,2011-03-01,9\n3,2011-03-01\n",
    "text": b"v,ts\n1,2011-03-01\n\xed\xa0\x80,2011-03-01\n3,2011-03-01\n",
    "value": b"v,ts\n1,2011-03-01\n2.5,2011-03-01\n3,2011-03-01\n",
}


@pytest.mark.parametrize("data", CSV_BAD.values(), ids=list(CSV_BAD))
def test_a_bad_csv_line_is_a_bad_row(repo: Repo, data: bytes) -> None:
    repo.csv(data)
    with pytest.raises(BadRowError, match="row 1 "):
        repo.read({"v": int}, "x.csv")


@pytest.mark.parametrize("data", CSV_BAD.values(), ids=list(CSV_BAD))
def test_a_bad_csv_line_is_set_aside(repo: Repo, data: bytes) -> None:
    repo.csv(data)
    read = repo.read({"v": int}, "x.csv", on_bad_row="quarantine")
    query = f"SELECT v FROM {read.relation}"
    assert (read.rows, read.quarantined) == (2, 1)
    assert repo.con.execute(query).fetchall() == [(1,), (3,)]
    assert list((repo.state / "quarantine").iterdir())


# Pushes


def source(hint: Any = int, **options: Any) -> EventSource:
    options = {"schema": {"v": hint}, "timestamp_field": "ts", **options}
    return EventSource("x", path="x.parquet", **options)


def push(hint: Any, values: list[Any], **options: Any) -> list[Any]:
    rows = [{"v": value, "ts": T0} for value in values]
    table = read_rows(source(hint, **options), rows, state_dir=None).table
    return table.column("v").to_pylist()


def test_pushed_dicts_have_canonical_types() -> None:
    table = read_rows(source(), {"v": 1, "ts": T0}, state_dir=None).table
    assert table.schema == pa.schema(
        [("v", pa.int64()), ("__ts", pa.int64()), ("__created", pa.int64())]
    )
    assert table.to_pylist() == [{"v": 1, "__ts": us(T0), "__created": None}]


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        (int, True, "expected int, found bool"),
        (int, 1.0, "expected int, found float"),
        (int, 2**63, "an int outside 64 bits"),
        (int, "1", "expected int, found str"),
        (bool, 1, "expected bool, found int"),
        (float, 2**53 + 1, "an int that no float equals"),
        (float, 10**400, "an int that no float equals"),
        (float, True, "expected float, found bool"),
        (str, "\ud800", "a lone surrogate"),
        (str, 1, "expected str, found int"),
        (int, None, "null in a column declared int"),
        (dt.date, T0, "expected date, found datetime"),
        (dt.datetime, T0.date(), "expected datetime, found date"),
        (dt.timedelta, dt.timedelta.max, "a duration outside"),
        (list[int], [1, "a"], "in a list, expected int, found str"),
        (list[int], [None], "in a list, null"),
        (bytes, "a", "expected bytes, found str"),
    ],
)
def test_a_pushed_value_that_does_not_fit_is_named(hint: Any, value: Any, reason: str) -> None:
    rows = [{"v": value, "ts": T0}]
    with pytest.raises(BadRowError, match=f"row 0 .the first is 0., column 'v': {reason}"):
        read_rows(source(hint), rows, state_dir=None)


def test_pushed_values_of_every_type_come_back() -> None:
    assert push(float, [1, math.inf]) == [1.0, math.inf]
    assert push(str | None, ["ß", None]) == ["ß", None]
    assert push(list[str], [["a"], []]) == [["a"], []]
    assert push(dt.timedelta, [dt.timedelta(1)]) == [dt.timedelta(1)]
    naive = dt.datetime(2011, 7, 1, 12)
    aware = naive.replace(tzinfo=UTC)
    assert push(dt.datetime, [naive, aware], timezone="Europe/London") == [
        aware - dt.timedelta(hours=1),
        aware,
    ]


def test_a_pushed_unknown_column_is_named() -> None:
    with pytest.raises(SourceError, match="unknown columns 'w'; the source has v, ts"):
        read_rows(source(), {"v": 1, "w": 2, "ts": T0}, state_dir=None)


def test_a_pushed_row_without_a_column_is_an_error() -> None:
    with pytest.raises(SourceError, match="lacks 'v'; write all columns, null where"):
        read_rows(source(int | None), {"ts": T0}, state_dir=None)


def test_pushed_rows_may_bring_their_arrival() -> None:
    rows = [{"v": 1, "ts": T0, "known": T0}, {"v": 1, "ts": T0, "known": None}]
    stamped = source(created_timestamp_column="known")
    table = read_rows(stamped, rows, state_dir=None).table
    assert table.column("__created").to_pylist() == [us(T0), None]


def test_a_pushed_table_without_arrivals_leaves_them_to_the_caller() -> None:
    schema = {"v": int, "known": dt.datetime}
    stamped = source(schema=schema, created_timestamp_column="known")
    table = read_rows(stamped, pa.table({"v": [1], "ts": [T0]}), state_dir=None).table
    assert table.select(["known", "__created"]).to_pylist() == [{"known": None, "__created": None}]


FRAMES: dict[str, Any] = {
    "arrow": lambda columns: pa.table(columns),
    "polars": lambda columns: pl.DataFrame(columns),
    "pandas": lambda columns: pd.DataFrame(columns),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=list(FRAMES))
def test_a_pushed_frame_is_read(frame: Any) -> None:
    rows = frame({"v": ["a", "b"], "ts": [T0, T0]})
    table = read_rows(source(str), rows, state_dir=None).table
    assert table.to_pylist() == [
        {"v": "a", "__ts": us(T0), "__created": None},
        {"v": "b", "__ts": us(T0), "__created": None},
    ]


def test_a_pushed_column_of_another_type_is_refused() -> None:
    with pytest.raises(SourceError, match="column 'v': declared int, found DOUBLE"):
        read_rows(source(), pa.table({"v": [1.0], "ts": [T0]}), state_dir=None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_pushed_instants_of_any_unit_are_floored(unit: str, zone: str | None) -> None:
    array = pa.array([-1], pa.timestamp(unit, zone))
    table = read_rows(source(), pa.table({"v": [1], "ts": array}), state_dir=None).table
    per_unit = {"s": -1_000_000, "ms": -1000, "us": -1, "ns": -1}
    assert table.column("__ts").to_pylist() == [per_unit[unit]]


@pytest.mark.parametrize("unit", ["s", "ms"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_pushed_instant_beyond_microseconds_is_a_bad_row(unit: str, zone: str | None) -> None:
    rows = pa.table({"v": [1, 2], "ts": pa.array([0, 2**62], pa.timestamp(unit, zone))})
    with pytest.raises(BadRowError, match=r"row 1 .*column 'ts': an instant outside"):
        read_rows(source(), rows, state_dir=None)


def test_pushed_durations_are_floored() -> None:
    rows = pa.table({"v": pa.array([-1], pa.duration("ns")), "ts": [T0]})
    table = read_rows(source(dt.timedelta), rows, state_dir=None).table
    assert table.column("v").to_pylist() == [-MICROSECOND]


@pytest.mark.parametrize("kind", ["string", "list", "dictionary", "view"])
def test_a_pushed_text_that_is_not_utf8_is_a_bad_row(kind: str) -> None:
    texts = text_of(b"ok", b"\xed\xa0\x80")
    hint: Any = str
    match kind:
        case "list":
            texts, hint = pa.ListArray.from_arrays([0, 1, 2], texts), list[str]
        case "dictionary":
            texts = pa.DictionaryArray.from_arrays(pa.array([0, 1]), texts)
        case "view":
            texts = pa.array([b"ok", b"\xed\xa0\x80"], pa.binary_view()).view(pa.string_view())
    with pytest.raises(BadRowError, match=r"row 1 .*not UTF-8"):
        read_rows(source(hint), pa.table({"v": texts, "ts": [T0, T0]}), state_dir=None)


def test_a_pandas_nan_is_null_in_an_optional_column() -> None:
    frame = pd.DataFrame({"v": [1.5, math.nan], "ts": [T0, T0]})
    table = read_rows(source(float | None), frame, state_dir=None).table
    assert table.column("v").to_pylist() == [1.5, None]


def test_a_pandas_nan_is_a_value_in_a_float_column() -> None:
    frame = pd.DataFrame({"v": [math.nan], "ts": [T0]})
    table = read_rows(source(float), frame, state_dir=None).table
    assert [math.isnan(value) for value in table.column("v").to_pylist()] == [True]


def test_a_pandas_int_column_with_nulls_is_read_exactly() -> None:
    frame = pd.DataFrame({"v": [1.0, math.nan, 2.0**53], "ts": [T0] * 3})
    table = read_rows(source(int | None), frame, state_dir=None).table
    assert table.column("v").to_pylist() == [1, None, 2**53]


@pytest.mark.parametrize("value", [1.5, 2.0**53 + 2, math.inf])
def test_a_pandas_float_that_is_no_exact_int_is_a_bad_row(value: float) -> None:
    frame = pd.DataFrame({"v": [1.0, value], "ts": [T0, T0]})
    with pytest.raises(BadRowError, match=r"row 1 .*a float that is no int"):
        read_rows(source(int | None), frame, state_dir=None)


def test_a_pandas_nan_in_a_required_int_column_is_a_bad_row() -> None:
    frame = pd.DataFrame({"v": [1.0, math.nan], "ts": [T0, T0]})
    with pytest.raises(BadRowError, match=r"row 1 .*null in a column declared int"):
        read_rows(source(int), frame, state_dir=None)


def test_a_pandas_column_of_nan_alone_is_null_for_any_type() -> None:
    frame = pd.DataFrame({"v": [math.nan], "ts": [T0]})
    table = read_rows(source(str | None), frame, state_dir=None).table
    assert table.column("v").to_pylist() == [None]


def test_pandas_objects_are_checked_one_by_one() -> None:
    frame = pd.DataFrame({"v": pd.Series([1, True], dtype=object), "ts": [T0, T0]})
    with pytest.raises(BadRowError, match=r"row 1 .*expected int, found bool"):
        read_rows(source(int), frame, state_dir=None)


def test_pandas_timestamps_keep_no_nanoseconds() -> None:
    frame = pd.DataFrame({"v": [1], "ts": pd.Series([pd.Timestamp(-1)], dtype=object)})
    table = read_rows(source(int), frame, state_dir=None).table
    assert table.column("__ts").to_pylist() == [-1]


def test_pandas_categories_are_their_values() -> None:
    frame = pd.DataFrame({"v": pd.Categorical(["a", "b", None]), "ts": [T0] * 3})
    table = read_rows(source(str | None), frame, state_dir=None).table
    assert table.column("v").to_pylist() == ["a", "b", None]


def test_pushed_bad_dicts_are_set_aside(tmp_path: Path) -> None:
    rows = [{"v": 1, "ts": T0}, {"v": "a", "ts": T0}]
    read = read_rows(source(on_bad_row="quarantine"), rows, state_dir=tmp_path)
    assert (read.table.column("v").to_pylist(), read.quarantined) == ([1], 1)
    kept = (tmp_path / "quarantine" / "x.pushed-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in kept] == ["v: expected int, found str"]


def test_pushed_bad_rows_of_a_table_are_set_aside(tmp_path: Path) -> None:
    texts = text_of(b"ok", b"\xff", b"fine", b"late")
    ts = pa.array([T0, T0, T0, None])
    quarantine = source(str, on_bad_row="quarantine")
    read = read_rows(quarantine, pa.table({"v": texts, "ts": ts}), state_dir=tmp_path)
    assert (read.table.column("v").to_pylist(), read.quarantined) == (["ok", "fine"], 2)
    kept = pq.read_table(tmp_path / "quarantine" / "x.pushed-0.parquet")
    assert [reason.split(":")[0] for reason in kept.column("reason").to_pylist()] == ["v", "ts"]


def test_each_push_keeps_its_own_file(tmp_path: Path) -> None:
    for _ in range(2):
        rows = {"v": "a", "ts": T0}
        read_rows(source(on_bad_row="quarantine"), rows, state_dir=tmp_path)
    assert sorted(path.name for path in (tmp_path / "quarantine").iterdir()) == [
        "x.pushed-0.jsonl",
        "x.pushed-1.jsonl",
    ]


def test_a_push_with_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadRowError, match="nothing was pushed"):
        read_rows(source(), [{"v": 1, "ts": T0}, {"v": "a", "ts": T0}], state_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_push_of_nothing_is_an_empty_table() -> None:
    assert read_rows(source(), [], state_dir=None).table.num_rows == 0
    empty = pa.table({"v": pa.array([], pa.int64()), "ts": pa.array([], pa.timestamp("us"))})
    london = source(timezone="Europe/London")
    assert read_rows(london, empty, state_dir=None).table.num_rows == 0


def test_something_that_is_no_frame_is_refused() -> None:
    with pytest.raises(SourceError, match="int is no table"):
        read_rows(source(), 5, state_dir=None)
