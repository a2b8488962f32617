"""Rows of Python in a table of DuckDB, and back, keep their types and bits."""

from __future__ import annotations

import datetime as dt
import math
import struct

import duckdb
import pyarrow as pa
import pytest

from featurekit.core.tables import arrow_table, rows, temp_table
from featurekit.core.types import FLOAT, INT, Type, from_hint, list_of

AT = dt.datetime(2011, 3, 27, 1, 30, 0, 123456, tzinfo=dt.UTC)
VALUES = {
    bool: True,
    int: -(2**63),
    float: -0.0,
    str: "a'\0\"b",
    bytes: b"\0\xff",
    dt.datetime: AT,
    dt.date: dt.date(1, 1, 1),
    dt.timedelta: dt.timedelta(microseconds=-(2**63)),
    list[int]: [1, 2],
    list[dt.datetime]: [AT],
    list[dt.timedelta]: [dt.timedelta(microseconds=n) for n in (3, -(2**63))],
}


@pytest.fixture
def con():
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


@pytest.mark.parametrize("hint", VALUES, ids=str)
def test_a_value_and_none_come_back_as_they_went_in(con, hint):
    types = {'a "quoted" name': from_hint(hint).or_none()}
    table = temp_table(con, 'the "table"', types, [[VALUES[hint]], [None]])
    found = [row[next(iter(types))] for row in rows(con, table, types)]
    assert found == [VALUES[hint], None]
    assert type(found[0]) is type(VALUES[hint])


def test_minus_zero_keeps_its_sign(con):
    table = temp_table(con, "t", {"x": FLOAT}, [[-0.0]])
    assert math.copysign(1.0, rows(con, table, {"x": FLOAT})[0]["x"]) == -1.0


@pytest.mark.parametrize("hint", VALUES, ids=str)
def test_a_column_has_the_canonical_type_of_duckdb(con, hint):
    type_: Type = from_hint(hint)
    table = temp_table(con, "t", {"x": type_}, [])
    assert con.execute(f"SELECT column_type FROM (DESCRIBE {table})").fetchall() == [
        (type_.duckdb,)
    ]


def test_every_nan_is_the_one_nan(con):
    other = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    types = {"x": FLOAT, "many": list_of(FLOAT)}
    temp_table(con, "t", types, [[other, [other, 1.0]]])
    found = con.execute("SELECT x, many FROM t").fetchall()[0]
    bits = [struct.pack("<d", value) for value in (found[0], *found[1])]
    assert bits == [struct.pack("<d", value) for value in (math.nan, math.nan, 1.0)]


def test_a_table_takes_the_place_of_another_of_its_name(con):
    temp_table(con, "t", {"x": INT}, [[1], [2]])
    table = temp_table(con, "t", {"y": INT}, ([n] for n in (3,)))
    assert rows(con, table, {"y": INT}) == [{"y": 3}]


def test_durations_of_an_arrow_table_are_whole_numbers(con):
    span = pa.duration("us")
    given = pa.table({"x": pa.array([5], span), "many": pa.array([[7, None]], pa.list_(span))})
    table = arrow_table(con, "t", given)
    assert con.execute(f"SELECT * FROM {table}").fetchall() == [(5, [7, None])]


def test_what_follows_the_relation_orders_its_rows(con):
    table = temp_table(con, "t", {"x": INT}, [[1], [3], [2]])
    found = rows(con, table, {"x": INT}, then="ORDER BY x DESC LIMIT 2")
    assert found == [{"x": 3}, {"x": 2}]
