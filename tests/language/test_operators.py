"""Each row of the operator table means one thing in Python, in DuckDB and online (R5)."""

from __future__ import annotations

from typing import Any

import pytest

from featurekit.core.types import INT
from featurekit.language import ops
from featurekit.language.ops import table
from featurekit.parity.modes import operators


@pytest.fixture(scope="module")
def con() -> Any:
    return operators.connection()


@pytest.mark.parametrize("key", ops.TABLE)
def test_operator_means_one_thing(con: Any, key: str) -> None:
    # `featurekit parity operators` runs this in full.
    op = ops.TABLE[key]
    report = operators.check(op, 60, con=con, edges=250, groups=4)
    assert report.differing[:3] == []
    assert op.raises or report.errors == 0


@pytest.mark.parametrize("key", [k for k, op in ops.TABLE.items() if op.raises])
def test_operator_that_may_err_does_for_some_input(key: str) -> None:
    assert operators.errs(ops.TABLE[key])


# --- NULL -----------------------------------------------------------------------------------------


def planted(monkeypatch: pytest.MonkeyPatch, sql: str, python: str) -> ops.Op:
    """A row of two ints, in the table until the test ends."""
    row = ops.Op("planted", (INT, INT), INT, python, sql)
    monkeypatch.setitem(ops.TABLE, row.key, row)
    return row


def test_a_function_that_skips_nulls_needs_no_guard_in_its_row(
    con: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DuckDB's greatest(NULL, 1) is 1.
    row = planted(monkeypatch, "greatest({0}, {1})", "max({0}, {1})")
    assert operators.check(row, 60, con=con, edges=250, groups=4).differing == []


def test_a_function_that_is_held_for_strict_and_skips_nulls_is_found(
    con: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "STRICT", table.STRICT | {"greatest"})
    row = planted(monkeypatch, "greatest({0}, {1})", "max({0}, {1})")
    differing = operators.check(row, 60, con=con, edges=250, groups=4).differing
    assert differing
    assert all(None in given for given, *_ in differing)


@pytest.mark.parametrize(
    ("sql", "calls"),
    [
        ("({0} + {1})", set()),
        ("CASE WHEN {0} IN (1, 2) THEN abs({1}) END", set()),
        ("list_sort(list_distinct({0}))", {"list_sort", "list_distinct"}),
        ("{0}[{1}]", {"["}),
        ("abs({0}[1])", {"["}),
        ("{0}::BIGINT[]", set()),
        ("strftime({0}, 'greatest(%Y)[1]')", set()),
    ],
)
def test_a_template_s_lenient_calls(sql: str, calls: set[str]) -> None:
    assert table.lenient_calls(sql) == calls


def test_a_literal_is_not_asked_whether_it_is_null() -> None:
    row = ops.TABLE["in(int,list[int])"]
    assert row.template() == (
        "CASE WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN list_contains({1}, {0}) END"
    )
    assert row.template([7, None]) == ("CASE WHEN {1} IS NOT NULL THEN list_contains({1}, {0}) END")


def test_every_strict_function_is_called_by_some_row() -> None:
    called = " ".join(
        "".join((row.template(literals), *row.steps))
        for row in ops.TABLE.values()
        for literals in operators.literal_arguments(row)
    )
    assert [name for name in sorted(table.STRICT) if f"{name}(" not in called] == []
