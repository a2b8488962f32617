"""Whole random functions agree three ways: plain Python, the online evaluator, DuckDB (R1–R4).

`FEATUREKIT_PROGRAMS=50000 pytest tests/test_programs.py` is the full run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Writer, columns
from three_ways import Table, differences

from featurekit.ops import TABLE

PROGRAMS = int(os.environ.get("FEATUREKIT_PROGRAMS", "150"))
LISTS = "sum(list[int])" in TABLE and "getitem(list[int],int)" in TABLE
ROWS, ASKED = 600, 24


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(ROWS))


@settings(
    max_examples=PROGRAMS,
    deadline=None,
    derandomize=PROGRAMS <= 1000,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(data=st.data())
def test_random_programs_agree_three_ways(table: Table, data: st.DataObject) -> None:
    writer = Writer(lambda n: data.draw(st.integers(0, n - 1)), lists=LISTS)
    source = writer.function()
    first = data.draw(st.integers(0, ROWS - ASKED))
    found = differences(source, "f", table, range(first, first + ASKED))
    assert not found, f"{found[0]}\n{source}"
