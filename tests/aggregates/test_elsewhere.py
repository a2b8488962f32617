"""Names that other stores have for aggregates."""

from __future__ import annotations

import pytest

from featurekit import aggregates
from featurekit.aggregates.elsewhere import _BY_OTHER_NAME, _CALLED, instead_of, meant


def test_every_other_name_leads_to_an_aggregate_that_exists() -> None:
    assert {*_CALLED} <= {*aggregates.BY_NAME}
    assert sum(len(others.split()) for others in _CALLED.values()) == len(_BY_OTHER_NAME)


@pytest.mark.parametrize(
    ("name", "found"),
    [("Avg", "Mean"), ("Average", "Mean"), ("Std", "StdDev"), ("Stddev", "StdDev"),
     ("Var", "Variance"), ("Median", "Quantile"), ("DistinctCount", "CountDistinct"),
     ("NUnique", "CountDistinct"), ("Latest", "Last"), ("LAST_VALUE", "Last"),
     ("approx_count_distinct", "ApproxCountDistinct"), ("Skewness", "Skew"),
     ("CORR", "Correlation"), ("Wibble", None)],
)  # fmt: skip
def test_the_name_of_another_store_finds_the_aggregate(name: str, found: str | None) -> None:
    assert meant(name) == found


def test_what_is_written_instead_runs() -> None:
    for name in ("median", "percentile"):
        written = str(instead_of(name)).partition("as in ")[2].rstrip("?")
        assert eval(written, {kind: aggregates.by_name(kind) for kind in aggregates.BY_NAME})
