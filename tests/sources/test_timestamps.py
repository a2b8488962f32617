"""T1, S1: timestamps that are dates, texts or numbers, read alike from files and from pushes."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.core.coerce import Misfit, timestamp
from featurekit.core.formats import TextFormat, format_of
from featurekit.core.types import DATETIME, EPOCH, MICROSECOND, micros
from featurekit.define.definitions import EventSource
from featurekit.errors import BadRowError, DefinitionError, SourceError
from featurekit.sources import read_events, read_rows
from featurekit.sources.readings import text_instants
from featurekit.sources.rows import as_pushed

UTC = dt.UTC
LONDON = "Europe/London"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def source(path: str, **options: Any) -> EventSource:
    options = {"schema": {"v": int}, "timestamp_field": "ts", **options}
    return EventSource("x", path=path, **options)


def of_parquet(
    con: duckdb.DuckDBPyConnection, folder: Path, array: pa.Array, **options: Any
) -> list[int]:
    """The instants of a Parquet file with such a column."""
    table = pa.table({"v": pa.array(range(len(array))), "ts": array})
    pq.write_table(table, folder / "x.parquet")
    read = read_events(con, source("x.parquet", **options), base=folder, state_dir=folder)
    return [us for (us,) in con.execute(f"SELECT __ts FROM {read.relation} ORDER BY v").fetchall()]


def of_csv(
    con: duckdb.DuckDBPyConnection, folder: Path, texts: Sequence[str], **options: Any
) -> list[int]:
    """The instants of a CSV file with such texts."""
    lines = "".join(f'{n},"{text}"\n' for n, text in enumerate(texts))
    (folder / "x.csv").write_text(f"v,ts\n{lines}")
    read = read_events(con, source("x.csv", **options), base=folder, state_dir=folder)
    return [us for (us,) in con.execute(f"SELECT __ts FROM {read.relation} ORDER BY v").fetchall()]


def of_push(values: Any, **options: Any) -> list[int]:
    """The instants of pushed rows: dicts of a list of values, else a table."""
    if isinstance(values, list):
        rows: Any = [{"v": n, "ts": value} for n, value in enumerate(values)]
    elif isinstance(values, pd.Series):
        rows = pd.DataFrame({"v": range(len(values)), "ts": values})
    else:
        rows = pa.table({"v": pa.array(range(len(values))), "ts": values})
    table = read_rows(source("x.parquet", **options), rows, state_dir=None).table
    found: list[int] = table.column("__ts").to_pylist()
    return found


def us(*parts: int) -> int:
    return (dt.datetime(*parts, tzinfo=UTC) - EPOCH) // MICROSECOND  # type: ignore[misc, arg-type]


# --- dates ----------------------------------------------------------------------------------------

DATES = [dt.date(2011, 3, 27), dt.date(2011, 7, 1), dt.date(2011, 12, 1), dt.date(1960, 1, 1)]
MIDNIGHTS = [us(2011, 3, 27), us(2011, 6, 30, 23), us(2011, 12, 1), us(1960, 1, 1)]


def test_a_date_is_the_midnight_that_begins_it_in_the_source_s_zone(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    array = pa.array(DATES)
    assert of_parquet(con, tmp_path, array, timezone=LONDON) == MIDNIGHTS
    assert of_push(array, timezone=LONDON) == MIDNIGHTS
    assert of_push(DATES, timezone=LONDON) == MIDNIGHTS
    assert of_push(pd.Series(DATES, dtype=object), timezone=LONDON) == MIDNIGHTS
    assert of_csv(con, tmp_path, [str(date) for date in DATES], timezone=LONDON) == MIDNIGHTS


def test_a_midnight_that_does_not_exist_has_the_offset_before_the_gap(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    dates = [dt.date(2018, 11, 4)]  # clocks in São Paulo went from 23:59 to 01:00
    expected = [us(2018, 11, 4, 3)]
    zone = {"timezone": "America/Sao_Paulo"}
    assert of_parquet(con, tmp_path, pa.array(dates), **zone) == expected
    assert of_push(dates, **zone) == of_push(pa.array(dates), **zone) == expected


def test_a_date_that_no_datetime_holds_is_a_bad_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    array = pa.array([0, 2**31 - 1], pa.date32())
    for read in (lambda: of_parquet(con, tmp_path, array), lambda: of_push(array)):
        with pytest.raises(BadRowError, match=r"row 1 .*column 'ts': an instant outside"):
            read()


def test_a_date_is_no_datetime_elsewhere() -> None:
    rows = [{"v": dt.date(2011, 1, 1), "ts": dt.datetime(2011, 1, 1)}]
    with pytest.raises(BadRowError, match="expected datetime, found date"):
        read_rows(source("x.parquet", schema={"v": dt.datetime}), rows, state_dir=None)


# --- numbers --------------------------------------------------------------------------------------

NUMBERS = {
    "epoch_s": ([0, -1, 1_700_000_000], [0, -1_000_000, 1_700_000_000_000_000]),
    "epoch_ms": ([0, -1, 1_700_000_000_123], [0, -1000, 1_700_000_000_123_000]),
    "epoch_us": ([0, -1, 1_700_000_000_123_456], [0, -1, 1_700_000_000_123_456]),
    "epoch_ns": ([0, -1, 1_700_000_000_123_456_789], [0, -1, 1_700_000_000_123_456]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_count_from_1970_whatever_the_source_s_zone(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    numbers, expected = NUMBERS[name]
    how = {"timestamp_format": name, "timezone": LONDON}
    assert of_parquet(con, tmp_path, pa.array(numbers), **how) == expected
    assert of_push(numbers, **how) == of_push(pa.array(numbers), **how) == expected
    assert of_push(pd.Series(numbers), **how) == expected
    assert of_push(pd.Series(numbers, dtype=object), **how) == expected
    assert of_csv(con, tmp_path, [str(n) for n in numbers], **how) == expected
    assert of_push([str(n) for n in numbers], **how) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("epoch_s", "1700000000.0", 1_700_000_000_000_000),
        ("epoch_s", "1700000000.1234569", 1_700_000_000_123_456),
        ("epoch_ms", "1700000000123.4567", 1_700_000_000_123_456),
        ("epoch_us", "1700000000123456.9", 1_700_000_000_123_456),
        ("epoch_ns", "1700000000123456789.5", 1_700_000_000_123_456),
        ("epoch_s", "-0.5", -500_000),
        ("epoch_s", "-0.0000001", -1),
        ("epoch_s", "-1.0000000", -1_000_000),
        ("epoch_ms", "-1.0005", -1_001),
        ("epoch_us", "-1.5", -2),
        ("epoch_ns", "-1000.5", -2),
        ("epoch_ns", "-1000.0", -1),
    ],
)
def test_digits_after_the_point_of_a_text_are_read_exactly_and_floored(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, text: str, expected: int
) -> None:
    how = {"timestamp_format": name}
    assert of_csv(con, tmp_path, [text], **how) == [expected]
    assert of_push([text], **how) == [expected]
    decimal = Decimal(text)
    for type_ in (pa.decimal128(30, 8), pa.decimal256(38, 8)):
        array = pa.array([decimal], type_)
        assert of_parquet(con, tmp_path, array, **how) == of_push(array, **how) == [expected]
    assert of_push([decimal], **how) == [expected]
    assert of_push(pd.Series([decimal], dtype=object), **how) == [expected]


@given(st.decimals(-(10**10), 10**10, places=8, allow_nan=False), st.sampled_from(list(NUMBERS)))
def test_sql_and_python_floor_a_decimal_alike(number: Decimal, name: str) -> None:
    us = {"epoch_s": 10**6, "epoch_ms": 10**3, "epoch_us": 1, "epoch_ns": Fraction(1, 1000)}[name]
    expected = math.floor(Fraction(number) * us)
    how = {"timestamp_format": name}
    array = pa.array([number], pa.decimal128(30, 8))
    assert of_push(array, **how) == of_push([number], **how) == [expected]
    assert (
        of_push([f"{number:f}"], **how) == of_push(pa.array([f"{number:f}"]), **how) == [expected]
    )


@pytest.mark.parametrize("name", NUMBERS)
def test_a_float_holds_no_exact_instant(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    how = {"timestamp_format": name}
    with pytest.raises(BadRowError):
        of_push([1.0], **how)
    for read in (of_push, partial(of_parquet, con, tmp_path)):
        with pytest.raises(SourceError, match="a float holds no exact instant"):
            read(pa.array([1.5]), **how)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_a_number_beyond_the_calendar_is_a_bad_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, name: str, number: int
) -> None:
    how = {"timestamp_format": name}
    array = pa.array([0, number])
    if name == "epoch_ns":
        assert of_parquet(con, tmp_path, array, **how) == of_push([0, number], **how)
        return
    for read in (
        lambda: of_parquet(con, tmp_path, array, **how),
        lambda: of_push(array, **how),
        lambda: of_push([0, number], **how),
        lambda: of_csv(con, tmp_path, ["0", str(number)], **how),
    ):
        with pytest.raises(BadRowError, match=r"row 1 .*column 'ts': an instant outside"):
            read()


def test_a_column_of_timestamps_needs_no_format(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    at = dt.datetime(2011, 7, 1, 12)
    for name in ("epoch_ms", "%d/%m/%Y"):
        how = {"timestamp_format": name, "timezone": LONDON}
        assert of_parquet(con, tmp_path, pa.array([at]), **how) == [us(2011, 7, 1, 11)]
        assert of_push([at], **how) == [us(2011, 7, 1, 11)]


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (pa.array([1]), 'timestamp_format="epoch_s", "epoch_ms"'),
        (pa.array([1.5]), "a float holds no exact instant"),
        (pa.array(["2011-03-01"]), 'timestamp_format="%Y-%m-%d %H:%M:%S", or "iso"'),
    ],
)
def test_without_a_format_the_error_says_what_to_write(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, array: pa.Array, hint: str
) -> None:
    for read in (lambda: of_parquet(con, tmp_path, array), lambda: of_push(array)):
        with pytest.raises(SourceError, match=r"column 'ts': declared datetime.*" + hint):
            read()


# --- texts ----------------------------------------------------------------------------------------

TEXTS = [
    ("%m/%d/%Y %H:%M", "12/1/2010 8:26", us(2010, 12, 1, 8, 26)),
    ("%m/%d/%Y %H:%M", "07/01/2011 00:05", us(2011, 6, 30, 23, 5)),
    ("%d.%m.%y %T", "31.12.68 23:59:59", us(2068, 12, 31, 23, 59, 59)),
    ("%d.%m.%y %T", "31.12.69 23:59:59", us(1969, 12, 31, 22, 59, 59)),
    ("%Y%m%d%H%M%S", "20110701120000", us(2011, 7, 1, 11)),
    ("%b %d %Y %I:%M%p", "Mar 1 2011 12:30AM", us(2011, 3, 1, 0, 30)),
    ("%B %d, %Y %I %p", "march 01, 2011 12 pm", us(2011, 3, 1, 12)),
    ("%a %b %d %H:%M:%S %z %Y", "Wed Oct 10 20:19:24 +0200 2018", us(2018, 10, 10, 18, 19, 24)),
    ("%FT%T.%f%z", "2011-07-01T12:00:00.123456789Z", us(2011, 7, 1, 12, 0, 0, 123_456)),
    ("%d %%(%m) [%Y]", "01 %(07) [2011]", us(2011, 6, 30, 23)),
    ("iso", "2011-07-01T12:00:00+01:00", us(2011, 7, 1, 11)),
    ("iso", "2011-07-01", us(2011, 6, 30, 23)),
]


@pytest.mark.parametrize(("format_", "text", "expected"), TEXTS)
def test_texts_are_read_in_the_declared_format(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, format_: str, text: str, expected: int
) -> None:
    how = {"timestamp_format": format_, "timezone": LONDON}
    assert of_csv(con, tmp_path, [text], **how) == [expected]
    assert of_parquet(con, tmp_path, pa.array([text]), **how) == [expected]
    assert of_push([text], **how) == of_push(pa.array([text]), **how) == [expected]
    assert of_push(pd.Series([text]), **how) == [expected]
    assert of_push(pd.Series([text], dtype=object), **how) == [expected]


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        ("%m/%d/%Y", "13/1/2010"),
        ("%m/%d/%Y", "2/30/2010"),
        ("%m/%d/%Y", "2/1/10"),
        ("%m/%d/%Y", " 2/1/2010"),
        ("%m/%d/%Y", "2/1/0000"),
        ("%m/%d/%Y", "2/1/2010 "),
        ("%m/%d/%Y", "٢/1/2010"),
        ("%Y-%m-%d %H", "2010-01-01 24"),
        ("%Y-%m-%d %I %p", "2010-01-01 13 PM"),
        ("%d %b %Y", "1 Mrz 2010"),
        ("%F %z", "2010-01-01 +25"),
        ("iso", "20100101"),
        ("epoch_s", "1e9"),
        ("epoch_s", "1."),
        ("epoch_s", ".5"),
        ("epoch_s", "NaN"),
        ("epoch_s", ""),
    ],
)
def test_a_text_of_another_form_is_a_bad_row(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, format_: str, text: str
) -> None:
    how = {"timestamp_format": format_}
    good = {"epoch_s": "0", "iso": "2010-01-01"}.get(format_)
    texts = [text] if good is None else [good, text]
    row = len(texts) - 1
    for read in (
        lambda: of_csv(con, tmp_path, texts, **how),
        lambda: of_parquet(con, tmp_path, pa.array(texts), **how),
        lambda: of_push(texts, **how),
        lambda: of_push(pa.array(texts), **how),
    ):
        with pytest.raises(BadRowError, match=rf"row {row} .*column 'ts': (no|an) "):
            read()


@pytest.mark.parametrize(
    ("format_", "said"),
    [
        ("%Y-%m-%d %X", "%X is none of its directives"),
        ("%Y-%m", "it has %d nowhere"),
        ("%Y-%y-%m-%d", "it has %Y or %y twice"),
        ("%Y-%m-%d %I", "an hour is %H, or %I with %p"),
        ("%Y-%m-%d %d", "has %d twice"),
        ("epoch", "write .*epoch_s"),
        ("", "write .*epoch_s"),
        ({"tz": "iso"}, "names 'tz', which is no timestamp of the source; it has ts"),
    ],
)
def test_a_format_that_is_none_is_refused(format_: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=r"EventSource 'x': timestamp_format.*" + said):
        source("x.csv", timestamp_format=format_)


def test_each_column_may_have_a_format_of_its_own(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("v,ts,known,sent\n1,1.7.2011,60,2011-07-01T00:00:00Z\n")
    of = source(
        "x.csv",
        schema={"v": int, "sent": dt.datetime | None},
        created_timestamp_column="known",
        timestamp_format={"ts": "%d.%m.%Y", "known": "epoch_s"},
    )
    read = read_events(con, of, base=tmp_path, state_dir=None)
    found = con.execute(f"SELECT __ts, __created, sent FROM {read.relation}").fetchall()
    row = {"v": 1, "ts": "1.7.2011", "known": 60, "sent": dt.datetime(2011, 7, 1)}
    (pushed,) = as_pushed(of, [row])
    assert found == [(us(2011, 7, 1), 60_000_000, dt.datetime(2011, 7, 1))]
    assert (pushed["__ts"], pushed["__created"]) == found[0][:2]


def test_a_datetime_of_the_schema_is_the_instant(
    con: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    how = {"schema": {"v": int, "ts": dt.datetime}, "timestamp_format": "epoch_ms"}
    pq.write_table(pa.table({"v": [1], "ts": [1000]}), tmp_path / "x.parquet")
    of = source("x.parquet", **how)
    read = read_events(con, of, base=tmp_path, state_dir=None)
    assert con.execute(f"SELECT ts, __ts FROM {read.relation}").fetchall() == [
        (dt.datetime(1970, 1, 1, 0, 0, 1), 1_000_000)
    ]
    for rows in (pa.table({"v": [1], "ts": [1000]}), [{"v": 1, "ts": 1000}]):
        table = read_rows(of, rows, state_dir=None).table
        assert table.column("ts").to_pylist() == [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]
        assert table.column("__ts").to_pylist() == [1_000_000]


FORMATS = st.sampled_from([text for text, _, _ in TEXTS])
SIGNS = st.text(st.sampled_from("0123456789 :/.-+TZaAmMpPrRcCh%"), max_size=24)


@given(FORMATS, st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)), SIGNS, st.booleans())
def test_sql_and_python_take_a_text_apart_alike(
    format_: str, at: dt.datetime, other: str, written: bool
) -> None:
    how = format_of(format_)
    assert isinstance(how, TextFormat)
    text = at.strftime(format_.replace("iso", "%Y-%m-%d %H:%M:%S.%f")) if written else other
    try:
        expected = micros(timestamp(text, DATETIME, how, zone_name="UTC"))
    except Misfit:
        expected = None
    made = text_instants('"t"', how, "UTC")
    assert made.micros is not None
    aliases = ", ".join(f'{sql} AS "{name}"' for name, sql in made.prepared)
    wrong = " OR ".join(f"({condition})" for condition, _ in made.problems)
    scan = f"(SELECT *, {aliases} FROM (SELECT ?::VARCHAR AS t))"
    query = f"SELECT CASE WHEN ({wrong}) IS NOT TRUE THEN {made.micros(None)} END FROM {scan}"
    assert duckdb.execute(query, [text]).fetchall() == [(expected,)]
