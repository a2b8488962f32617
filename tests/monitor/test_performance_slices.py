"""Slices, fairness, several classes and changes are what scikit-learn, Fairlearn's definitions and
simulations say apart from featurekit."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.errors import ArgumentError, DataError
from featurekit.monitor.performance.ask import _by
from featurekit.monitor.performance.fairness import fairness
from featurekit.monitor.performance.intervals import dealt, intervals, span
from featurekit.monitor.performance.join import ERRED, Judged, Matched
from featurekit.monitor.performance.judge import Asked, columns
from featurekit.monitor.performance.reference import reference_of
from featurekit.monitor.performance.report import Limits, Performance, performance_of
from featurekit.monitor.performance.scores import NOT_NEGATIVE, SHARES, Rows
from featurekit.monitor.performance.slices import By, masks

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which measures")


def drawn(seed: int, n: int = 1_200, *, lift: float = 0.5, entities: int = 400) -> list[Judged]:
    """Rows in three countries, of which FR is told a yes more often; `lift` is how much outcomes
    follow predictions."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        country = rng.choices(["DE", "FR", "IT"], (5, 4, 1))[0]
        p = min(1.0, max(0.0, rng.random() + (0.15 if country == "FR" else 0.0)))
        came = rng.random() < 0.25 + lift * p
        made.append(Judged(1, (f"k{i % entities}",), p, came, (country, rng.gauss(40, 9))))
    return made


def made(
    judged: Sequence[Judged], asked: Asked | None = None, limits: Limits | None = None, **more: Any
) -> Performance:
    found = Matched(rows=len(judged), judged=list(judged))
    return performance_of("s", found, (0, 10), asked or Asked(), limits or Limits(), **more)


# --- intervals ------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(SHARES | NOT_NEGATIVE)),
    st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0)),
    st.one_of(st.just(0.0), st.floats(0.0, 1e6)),
    st.integers(0, 10_000),
)
def test_an_interval_holds_its_figure_and_stays_within_its_range(name, value, half, entities):
    low, high = span(name, value, half, entities, 0.95)
    assert 0.0 <= low <= value * (1 + 1e-9)
    assert high >= value * (1 - 1e-9)
    assert name not in SHARES or high <= 1.0


def test_a_share_that_nothing_speaks_against_is_as_wide_as_its_entities_allow():
    wide = span("precision", 0.0, 0.0, 2, 0.95)
    assert wide == (0.0, pytest.approx(0.8418861169915811))  # Clopper and Pearson, 0 of 2
    rows = [Judged(1, (f"k{i}",), 0.9 if i < 2 else 0.1, i >= 2) for i in range(90)]
    (precision,) = [s for s in made(rows, limits=Limits({"precision": 0.5})).scores
                    if s.measure == "precision"]  # fmt: skip
    assert (precision.value, precision.verdict) == (0.0, "too few")


def recall_of(rows: Rows) -> dict[str, float | None]:
    return {"recall": float(rows.predictions.mean())}


def test_intervals_of_shares_hold_the_truth_about_as_often_as_they_say():
    """Recall of 0.95, whose plain interval would reach over 1 in many draws."""
    of, held, n = dealt([(i,) for i in range(120)]), 0, 300
    for seed in range(n):
        said = np.random.default_rng(seed).random(120) < 0.95
        rows = Rows(said.astype(float), np.ones(120))
        found = intervals(rows, of, recall_of, recall_of(rows))
        held += found["recall"][0] <= 0.95 <= found["recall"][1]
    assert 0.92 * n <= held <= 0.985 * n


# --- slices ---------------------------------------------------------------------------------------


def test_the_figures_of_a_slice_are_those_of_its_rows():
    rows = drawn(1)
    found = made(rows, by=[By("country")])
    assert [one.value for one in found.slices] == ["DE", "FR", "IT"]
    for one in found.slices:
        part = [row for row in rows if row.by[0] == one.value]
        alone = {s.measure: s.value for s in made(part).scores}
        assert {s.measure: s.value for s in one.scores} == alone
        assert (one.rows, one.entities) == (len(part), len({row.keys for row in part}))
        y, p = [row.outcome for row in part], [row.prediction for row in part]
        assert alone["auc"] == pytest.approx(metrics.roc_auc_score(y, p), rel=1e-12)
    assert sum(one.rows for one in found.slices) == found.judged


def test_numbers_are_put_into_quarters_of_the_rows_or_into_bins_of_given_borders():
    rows = drawn(2)
    quarters = made(rows, by=[By("country"), By("age")]).slices[3:]
    assert [one.rows for one in quarters] == [300] * 4
    ages = sorted(row.by[1] for row in rows)
    assert quarters[0].value == f"below {ages[300]:.6g}"
    assert quarters[1].value == f"{ages[300]:.6g} to below {ages[600]:.6g}"
    bins = made(rows, by=[By("country"), By("age", (30.0, 50.0))]).slices[3:]
    assert [one.value for one in bins] == ["below 30", "30 to below 50", "50 and above"]
    assert [one.rows for one in bins] == [
        sum(a < 30 for a in ages), sum(30 <= a < 50 for a in ages), sum(a >= 50 for a in ages),
    ]  # fmt: skip


def test_few_numbers_are_values_and_what_is_no_number_is_named():
    values = [1, 2, 3, None, ERRED]
    rows = [Judged(1, (i,), 0.5, i % 2 == 0, (values[i % 5],)) for i in range(500)]
    found = made(rows, by=[By("n")]).slices
    assert [one.value for one in found] == ["1", "2", "3", "None", "in error"]
    numbers = [*range(20), math.nan, math.inf, None]
    rows = [Judged(1, (i,), 0.5, i % 2 == 0, (float(n) if n else n,))
            for i, n in enumerate(numbers * 20)]  # fmt: skip
    found = {one.value: one.rows for one in made(rows, by=[By("n", (10.0,))]).slices}
    assert found == {"below 10": 200, "10 and above": 220, "None": 20, "nan": 20}
    with pytest.raises(ArgumentError, match=r"by: 'n' has values such as \[1\.0\], which make no"):
        made([Judged(1, (1,), 0.5, True, ([1.0],))], by=[By("n")])


def test_a_value_of_few_entities_is_not_named():
    rows = [Judged(1, (i,), 0.5, i % 2 == 0, ("DE" if i < 40 else f"word{i % 3}",))
            for i in range(70)]  # fmt: skip
    found = made(rows, by=[By("word")]).slices
    assert {one.value: one.rows for one in found} == {"DE": 40, "others, 3 values": 30}


def test_a_slice_of_few_entities_has_no_interval_and_is_never_worse():
    rows = [Judged(1, (i,), 0.9, i >= 29, ("few" if i < 29 else "many",)) for i in range(200)]
    few, many = made(rows, limits=Limits({"brier": 0.1}), by=[By("n")]).slices
    brier = [next(s for s in one.scores if s.measure == "brier") for one in (few, many)]
    assert (brier[0].low, brier[0].verdict, brier[0].value) == (
        None,
        "too few",
        pytest.approx(0.81),
    )
    assert (brier[1].verdict, few.entities) == ("good", 29)


def test_a_slice_that_is_worse_is_told():
    rows = [Judged(1, (i,), 0.9, i % 2 == 0, ("bad" if i % 2 else "good",)) for i in range(200)]
    found = made(rows, limits=Limits({"brier": 0.6}), by=[By("n")])
    assert found.worse == ["brier where n is bad"]


def test_what_slices_are_by_is_read_or_refused():
    assert _by("age=18,60.5") == By("age", (18.0, 60.5))
    assert _by("country") == By("country")
    for wrong in ("age=", "age=60,18", "age=a", "=1", "age=nan"):
        with pytest.raises(ArgumentError, match="with borders that rise, as in age=18,30,60"):
            _by(wrong)


# --- fairness -------------------------------------------------------------------------------------


def by_definition(rows: Sequence[Judged]) -> dict[str, float]:
    """The sentences of Fairlearn's guide, by confusion matrices of scikit-learn."""
    frame = pd.DataFrame(
        [(row.by[0], row.outcome, row.prediction >= 0.5) for row in rows], columns=["g", "y", "s"]
    )
    rates = {}
    for name, part in frame.groupby("g"):
        (tn, fp), (fn, tp) = metrics.confusion_matrix(part["y"], part["s"], labels=[False, True])
        rates[name] = ((tp + fp) / len(part), tp / (tp + fn), fp / (fp + tn))
    selection, true, false = zip(*rates.values(), strict=True)
    return {
        "demographic_parity_difference": max(selection) - min(selection),
        "demographic_parity_ratio": min(selection) / max(selection),
        "equalized_odds_difference": max(max(true) - min(true), max(false) - min(false)),
        "equalized_odds_ratio": min(min(true) / max(true), min(false) / max(false)),
    }


def test_fairness_is_what_its_definitions_say():
    rows = drawn(3)
    found = made(rows, by=[By("country")], fair=True).fairness
    assert {one.measure: one.value for one in found} == by_definition(rows)
    assert {one.most for one in found} == {"FR"}
    assert all(one.low <= one.value <= one.high for one in found)
    assert all(0.0 <= one.low <= one.high <= 1.0 for one in found)
    if importlib.util.find_spec("fairlearn") is not None:
        from fairlearn import metrics as fairlearn

        y = [row.outcome for row in rows]
        said = [row.prediction >= 0.5 for row in rows]
        groups = [row.by[0] for row in rows]
        for one in found:
            theirs = getattr(fairlearn, one.measure)(y, said, sensitive_features=groups)
            assert one.value == pytest.approx(theirs, rel=1e-12)


def test_slices_of_few_entities_are_left_out_and_named():
    rows = [*drawn(4), *(Judged(1, (f"x{i}",), 1.0, True, ("XX", 1.0)) for i in range(20))]
    found = made(rows, by=[By("country")], fair=True).fairness
    assert {one.left_out for one in found} == {("XX",)}
    assert {one.measure: one.value for one in found} == by_definition(drawn(4))
    alone = made([row for row in rows if row.by[0] in ("DE", "XX")], by=[By("country")], fair=True,
                 limits=Limits(fairness={"equalized_odds_ratio": 0.8}))  # fmt: skip
    assert [one.value for one in alone.fairness] == [None] * 4
    assert [one.verdict for one in alone.fairness] == ["", "", "", "too few"]


def test_slices_that_are_treated_alike_are_not_called_unfair():
    """Of 200 draws of six slices that are alike, the interval of the difference, which is of all
    pairs together, has 0 in 19 of 20 cases at least."""
    off = 0
    for seed in range(200):
        rng = random.Random(seed)
        rows = [Judged(1, (i,), rng.random(), True, (f"g{i % 6}",)) for i in range(600)]
        told = columns(rows, Asked())
        parts = masks(told, 0, By("g"))
        off += fairness(told, "g", parts, 0.5, {})[0].low > 0
    assert off <= 16


def test_slices_that_are_not_treated_alike_are_worse_than_the_threshold():
    limits = Limits(fairness={"demographic_parity_difference": 0.1,
                              "demographic_parity_ratio": 0.8})  # fmt: skip
    rows = [Judged(1, (i,), float(i % 10 < (8 if i % 2 else 2)), i % 3 == 0, (f"g{i % 2}",))
            for i in range(2_000)]  # fmt: skip
    found = made(rows, by=[By("g")], fair=True, limits=limits)
    assert found.worse == [
        "demographic_parity_difference by g", "demographic_parity_ratio by g",
    ]  # fmt: skip
    calm = made(drawn(5), by=[By("country")], fair=True,
                limits=Limits(fairness={"demographic_parity_difference": 0.5}))  # fmt: skip
    assert [one.verdict for one in calm.fairness] == ["good", "", "", ""]


def test_fairness_is_of_one_class():
    with pytest.raises(ArgumentError, match="fairness: it is of outcomes that are true or false"):
        made([Judged(1, (i,), 1.0, 2.0, ("a",)) for i in range(9)], by=[By("g")], fair=True)


# --- several classes ------------------------------------------------------------------------------


def several(seed: int, n: int = 600) -> tuple[list[dict[str, float]], list[str]]:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet((1, 1, 1), n)
    came = [str(rng.choice(["a", "b", "c"], p=(row + 1 / 3) / 2)) for row in shares]
    return [dict(zip("abc", map(float, row), strict=True)) for row in shares], came


def test_the_figures_of_several_classes_are_those_of_scikit_learn():
    shares, came = several(1)
    rows = [Judged(1, (i,), p, y) for i, (p, y) in enumerate(zip(shares, came, strict=True))]
    found = made(rows)
    matrix = np.array([[p[c] for c in "abc"] for p in shares])
    said = [max(p, key=p.get) for p in shares]
    value = {one.measure: one.value for one in found.scores}
    close = pytest.approx
    assert value == {
        "accuracy": close(metrics.accuracy_score(came, said), rel=1e-12),
        "auc": close(metrics.roc_auc_score(came, matrix, multi_class="ovr"), rel=1e-12),
        "precision": close(metrics.precision_score(came, said, average="macro"), rel=1e-12),
        "recall": close(metrics.recall_score(came, said, average="macro"), rel=1e-12),
        "f1": close(metrics.f1_score(came, said, average="macro"), rel=1e-12),
        "log_loss": close(metrics.log_loss(came, matrix), rel=1e-12),
    }
    assert found.kind == "classes"
    f1 = metrics.f1_score(came, said, average=None)
    assert [(c.name, c.rows, c.f1) for c in found.classes] == [
        (c, came.count(c), close(one, rel=1e-12)) for c, one in zip("abc", f1, strict=True)
    ]
    assert all(one.low < one.value < one.high for one in found.scores)


def test_predictions_of_several_classes_are_labels_dicts_or_lists_of_named_classes():
    labels = made([Judged(1, (i,), p, y) for i, (p, y) in enumerate(["aa", "ab", "bb", "cb"])])
    value = {one.measure: one.value for one in labels.scores}
    assert (value["accuracy"], value["log_loss"], value["auc"]) == (0.5, None, None)
    assert [c.name for c in labels.classes] == ["a", "b", "c"]
    lists = [Judged(1, (1,), [0.2, 0.8], 0.0), Judged(1, (2,), [0.7, 0.3], 1.0)]
    found = made(lists, Asked(classes=[1.0, 0.0]))
    assert {one.measure: one.value for one in found.scores}["accuracy"] == 1.0
    odd = [[0.5, 0.6], [0.5], {"x": 1.0}, {"1": 0.5}, None, [math.nan, 1.0], {"1": "a"}, [True, 0]]
    rows = [Judged(1, (9,), one, 1.0) for one in odd]
    assert (made([*lists, *rows], Asked(classes=[1.0, 0.0])).odd) == len(odd)
    with pytest.raises(DataError, match="an outcome is '2', which is none of the classes 0, 1"):
        made([Judged(1, (1,), 1.0, 2.0)], Asked(classes=[1.0, 0.0]))
    with pytest.raises(DataError, match=r"outcomes are texts, and a class is 1\.0"):
        made([Judged(1, (1,), "a", "a")], Asked(classes=[1.0]))


# --- changes --------------------------------------------------------------------------------------


def test_a_change_is_what_is_now_beside_what_was_and_its_interval_has_entities_of_both_sides():
    was, now = drawn(6), drawn(7, lift=0.4)
    found = made(now, reference=("before", was))
    assert found.reference_rows == 1_200
    one = {s.measure: s.value for s in made(was).scores}
    two = {s.measure: s.value for s in made(now).scores}
    for change in found.changes:
        a, b = one[change.measure], two[change.measure]
        assert (change.was, change.now) == (a, b)
        assert change.change == (b / a - 1 if change.measure == "log_loss" else b - a)
        assert change.low < change.change < change.high
    same = made(now, reference=("before", now))
    assert {(c.change, c.low, c.high, c.chance) for c in same.changes} == {(0.0, 0.0, 0.0, 0.0)}
    assert {c.verdict for c in same.changes} == {"good"}


def test_a_concept_that_turned_is_worse_and_a_calm_one_is_not():
    was, now = drawn(8, 6_000, entities=3_000), drawn(9, 6_000, lift=-0.2, entities=3_000)
    turned = made(now, reference=("before", was))
    assert "auc than before" in turned.worse
    better = made(was, reference=("before", now))
    assert better.worse == []
    assert next(c for c in better.changes if c.measure == "auc").verdict == "good"
    few = made(drawn(9, 100), reference=("before", drawn(8, 100)))
    assert {c.verdict for c in few.changes} == {"too few"}
    off = made(now, limits=Limits(changes=dict.fromkeys(SHARES | NOT_NEGATIVE)),
               reference=("before", was))  # fmt: skip
    assert off.worse == []


def test_a_calm_service_raises_no_alarm():
    """6 windows of 400 rows of 200 entities, each beside one of the same concept."""
    alarms = sum(
        len(made(drawn(2 * i, 400, entities=200), reference=("b", drawn(2 * i + 1, 400))).worse)
        for i in range(6)
    )
    assert alarms == 0


def test_sides_of_two_kinds_are_refused():
    with pytest.raises(DataError, match="outcomes of the reference are numbers, and those of the"):
        made(drawn(1), reference=("before", [Judged(1, (1,), 0.5, 2.0)]))
    with pytest.raises(DataError, match="reference: no row of before has a prediction and an outc"):
        made(drawn(1), reference=("before", []))


def test_classes_of_both_sides_are_classes():
    was = [Judged(1, (i,), "abc"[i % 3], "abc"[i % 3]) for i in range(90)]
    now = [Judged(1, (i,), "ab"[i % 2], "ab"[i % 2]) for i in range(90)]
    found = made(now, reference=("before", was))
    assert [c.name for c in found.classes] == ["a", "b", "c"]
    assert next(c for c in found.changes if c.measure == "accuracy").change == 0.0


def test_what_is_no_reference_is_refused(tmp_path):
    assert reference_of("2d") == 2 * 86_400_000_000
    with pytest.raises(ArgumentError, match="reference: found 'often'; write how long before"):
        reference_of("often")
    with pytest.raises(DataError, match="is no manifest that exists; write one, as in valid"):
        reference_of(tmp_path / "x.json")


def test_the_order_of_rows_leaves_no_trace():
    was, now, rng = drawn(1, 150), drawn(2, 150), random.Random(1)
    by = [By("country"), By("age")]
    one = made(now, by=by, fair=True, reference=("b", was))
    rng.shuffle(was)
    rng.shuffle(now)
    assert made(now, by=by, fair=True, reference=("b", was)) == one
