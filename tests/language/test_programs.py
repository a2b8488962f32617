"""Whole random functions agree three ways: plain Python, the online evaluator, DuckDB (R1–R4).

`FEATUREKIT_PROGRAMS=50000 pytest tests/language/test_programs.py` is the full run. A run of more
than a thousand says what it reached, and one of ten thousand fails where a kind of statement or an
operator was not.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from programs import MODULE, Tally, Writer, columns
from three_ways import Table, compared, disagreeing

PROGRAMS = int(os.environ.get("FEATUREKIT_PROGRAMS", "150"))
ROWS, ASKED = 600, 24


@pytest.fixture(scope="module")
def table() -> Table:
    return Table(columns(ROWS))


@st.composite
def programs(draw: st.DrawFn) -> tuple[str, int]:
    """The text of a function, and the first of the rows that it is asked about."""
    source = Writer(lambda n: draw(st.integers(0, n - 1))).function()
    return source, draw(st.integers(0, ROWS - ASKED))


@pytest.mark.thorough
def test_random_programs_agree_three_ways(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()

    @settings(
        max_examples=PROGRAMS,
        deadline=None,
        derandomize=PROGRAMS <= 1000,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(program=programs())
    def agree(program: tuple[str, int]) -> None:
        source, first = program
        note(source)
        function, answers = compared(source, "f", table, range(first, first + ASKED), MODULE)
        tally.add(source, function, [plain for _, plain, *_ in answers])
        assert disagreeing(answers)[:1] == []

    agree()
    if PROGRAMS > 1000:
        with capsys.disabled():
            print(f"\n{tally.report()}")
    if PROGRAMS >= 10_000:
        assert tally.missing() == []
