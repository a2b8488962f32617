"""Evidently's own report, of the rows that drift compares: its figures are SciPy's on those rows,
and so are ours."""

from __future__ import annotations

import math
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurekit.core.types import BOOL, FLOAT, INT, STR, Type, list_of
from featurekit.errors import ConfigError, DataError
from featurekit.log.served.block import ServedBlock, ServedHead
from featurekit.monitor.drift.evidently import check_evidently, write_report
from featurekit.monitor.drift.frames import Frame, kept
from featurekit.monitor.drift.judge import Thresholds
from featurekit.monitor.drift.report import drift_between
from featurekit.monitor.drift.samples import Window

installed = find_spec("evidently") is not None
needs_evidently = pytest.mark.skipif(
    not installed, reason="needs Evidently: ./run pytest --evidently tests/monitor"
)
TYPES: dict[str, Type] = {
    "v__amount": FLOAT, "v__orders": INT, "v__country": STR, "v__yes": BOOL,
    "v__many": list_of(INT), "v__word": STR, "v__gone": FLOAT,
}  # fmt: skip
MIDDLE = 1_000_000


def rows(n: int, seed: int, stretch: float, countries: str) -> dict[str, list[Any]]:
    rng = random.Random(seed)
    return {
        "v__amount": [None if rng.random() < 0.1 else stretch * rng.lognormvariate(3, 1)
                      for _ in range(n)],
        "v__orders": [rng.randrange(40) for _ in range(n)],
        "v__country": [rng.choice(countries) for _ in range(n)],
        "v__yes": [rng.random() < 0.3 for _ in range(n)],
        "v__many": [[1]] * n,
        "v__word": [f"{seed}:{i}" for i in range(n)],
        "v__gone": [None] * n,
    }  # fmt: skip


def block(at: int, told: dict[str, list[Any]]) -> ServedBlock:
    n = len(told["v__orders"])
    head = ServedHead(
        "p", "s", "f" * 32, {}, ("v",), {"k": INT}, {}, {k: t.or_none() for k, t in TYPES.items()}
    )
    return ServedBlock(
        head, [at] * n, [at] * n, list(range(n)), [[at - 5 - i for i in range(n)]],
        [list(range(n))], [], list(told.values()), [["PRESENT"] * n for _ in told], [],
    )  # fmt: skip


def sides(n: int) -> tuple[list[ServedBlock], dict[str, list[Any]], dict[str, list[Any]]]:
    was, now = rows(n, 1, 1.0, "aaabc"), rows(n, 2, 1.5, "abbbc")
    return [block(MIDDLE - 1, was), block(MIDDLE, now)], was, now


def framed(blocks: list[ServedBlock]) -> tuple[Frame, Frame]:
    was, now = Frame(0, MIDDLE), Frame(MIDDLE, 2 * MIDDLE)
    assert list(kept(blocks, "s", [was, now])) == blocks
    return was, now


def there(values: list[Any]) -> list[Any]:
    return [v for v in values if v is not None]


def shares(values: list[Any], names: list[Any]) -> list[float]:
    return [values.count(name) / len(values) for name in names]


@pytest.mark.parametrize("n", [400, 3_000])
def test_frames_have_the_rows_that_windows_count(n: int) -> None:
    blocks, was, now = sides(n)
    for frame, told in zip(framed(blocks), (was, now), strict=True):
        table = frame.table()
        assert table.num_rows == n
        assert {name: table[name].to_pylist() for name in told} == told
        assert table["age of v"].to_pylist() == [5 + i for i in range(n)]


def test_a_row_of_a_version_without_a_feature_has_null_there_and_two_types_are_left_out() -> None:
    frame = Frame(0, 10)
    for outputs, values in (
        ({"v__x": INT, "v__y": INT}, [[1, 2], [3, 4]]),
        ({"v__x": FLOAT, "v__z": STR}, [[1.0, 2.0], ["a", "b"]]),
    ):
        head = ServedHead("p", "s", "f" * 32, {}, (), {}, {}, outputs)
        frame.take(
            ServedBlock(
                head, [1, 10], [1, 1], [0, 1], [], [], [], values, [["PRESENT"] * 2] * 2, []
            )
        )
    assert frame.table().to_pylist() == [{"v__y": 3, "v__z": None}, {"v__y": None, "v__z": "a"}]
    assert frame.kinds["v__x"] == {"int", "float"}


@needs_evidently
@pytest.mark.parametrize("n", [400, 3_000])
def test_evidently_s_figures_are_scipy_s_on_the_same_rows_and_so_are_ours(
    n: int, tmp_path: Path
) -> None:
    """Of at most 1,000 rows of reference it tests, and gives a p-value; of more it measures."""
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    blocks, was, now = sides(n)
    path = tmp_path / "report.html"
    found = {f.feature: f for f in write_report(path, *framed(blocks))}
    assert {name: f.left_out for name, f in found.items() if f.left_out} == {
        "v__many": "list[int] is neither a number nor a class",
        "v__gone": "one side has no value",
        **({"v__word": "more than 1,000 distinct texts"} if n == 3_000 else {}),
    }
    old, new = np.array(there(was["v__amount"])), np.array(there(now["v__amount"]))
    drift = drift_between("s", blocks, Window(0, MIDDLE), Window(MIDDLE, 2 * MIDDLE), Thresholds())
    ours = {f.measure: f for f in drift.figures if f.feature == "v__amount"}
    apart, moved = ours["kolmogorov_smirnov"], ours["wasserstein"]
    of_scipy = stats.ks_2samp(old, new)
    assert abs(apart.value - of_scipy.statistic) <= apart.bound + 1e-12
    area = stats.wasserstein_distance(old, new)
    assert abs(moved.value - area) <= moved.bound + 1e-9
    amount, country = found["v__amount"], found["v__country"]
    names = ["a", "b", "c"]
    p, q = shares(was["v__country"], names), shares(now["v__country"], names)
    if n > 1_000:
        assert (amount.method, amount.threshold) == ("Wasserstein distance (normed)", 0.1)
        assert amount.value == pytest.approx(area / np.std(old), rel=1e-9)
        assert (country.method, country.threshold) == ("Jensen-Shannon distance", 0.1)
        assert country.value == pytest.approx(jensenshannon(p, q), rel=1e-9)
    else:
        assert (amount.method, amount.threshold) == ("K-S p_value", 0.05)
        assert amount.value == pytest.approx(of_scipy.pvalue, rel=1e-9)
        assert (country.method, country.threshold) == ("chi-square p_value", 0.05)
        want = stats.chisquare([x * n for x in q], [x * n for x in p]).pvalue
        assert country.value == pytest.approx(want, rel=1e-9)
    page = path.read_text(encoding="utf-8")
    assert "v__amount" in page
    assert len(page) > 1_000_000


@needs_evidently
def test_where_no_feature_can_be_compared_nothing_is_written(tmp_path: Path) -> None:
    head = ServedHead("p", "s", "f" * 32, {}, (), {}, {}, {"v__x": list_of(INT)})
    made = [
        ServedBlock(head, [at], [at], [0], [], [], [], [[[1]]], [["PRESENT"]], [])
        for at in (1, MIDDLE)
    ]
    with pytest.raises(DataError, match=r"v__x: list\[int\] is neither a number nor a class"):
        write_report(tmp_path / "report.html", *framed(made))
    assert list(tmp_path.iterdir()) == []


@needs_evidently
def test_numbers_without_end_and_nan_are_no_values(tmp_path: Path) -> None:
    head = ServedHead("p", "s", "f" * 32, {}, (), {}, {}, {"v__x": FLOAT, "v__y": FLOAT})
    odd = [math.inf, -math.inf, math.nan]
    made = [
        ServedBlock(
            head, [at] * 6, [at] * 6, [0] * 6, [], [], [], [odd * 2, [*odd, 1.0, 2.0, 3.0]],
            [["PRESENT"] * 6] * 2, [],
        )
        for at in (1, MIDDLE)
    ]  # fmt: skip
    x, y = write_report(tmp_path / "report.html", *framed(made))
    assert x.left_out == "one side has no value"
    assert y.value is not None
    assert math.isfinite(y.value)


@pytest.mark.skipif(installed, reason="Evidently is installed")
def test_without_evidently_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'featurekit\[evidently\]'"):
        check_evidently(tmp_path / "report.html")
