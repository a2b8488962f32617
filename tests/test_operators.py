"""Each row of the operator table means one thing in Python, in DuckDB and online (R5)."""

from __future__ import annotations

from typing import Any

import pytest

from featurekit.language import ops
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
