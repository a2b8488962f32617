"""Outcomes are joined to served rows, and measured, as pandas and scikit-learn do it apart from
featurekit."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.cli import main
from featurekit.core.status import FORGOTTEN
from featurekit.core.types import FLOAT, STR
from featurekit.errors import ArgumentError, ConfigError, DataError
from featurekit.log.outcomes import Outcome
from featurekit.log.served.block import PREDICTED, ROUTED, SHADOW, ServedBlock, ServedHead, encode
from featurekit.log.served.parquet import written
from featurekit.monitor.performance.intervals import dealt, intervals
from featurekit.monitor.performance.join import Join, Judged, Matched, joined
from featurekit.monitor.performance.judge import Asked, columns, judged_by
from featurekit.monitor.performance.report import Limits, performance_of
from featurekit.monitor.performance.scores import Rows
from featurekit.store import FeatureStore

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which measures")
calibration = pytest.importorskip("sklearn.calibration")

TOLD = {"request_id": "", "row": 0, "target": "m@1", "role": ROUTED, "answered": True,
        "prediction": "0.5", "error": None, "latency_us": 1, "model_version": None,
        "route": "m@1", "caller": ""}  # fmt: skip
OUTPUTS = {"v__x": FLOAT.or_none()}


def block(rows: Sequence[dict[str, Any]], *, process: str = "p", predicted: bool = True) -> Any:
    """A block of rows: `k` is the key, `at` the instant, `served` when (by default then), `number`
    that of the request; the others are those of PREDICTED."""
    kind = PREDICTED if predicted else {}
    head = ServedHead("t", "s", "f" * 32, {}, ("v",), {"k": STR.or_none()}, {}, OUTPUTS, dict(kind))
    gone = [row.get("gone", False) for row in rows]
    told = [{**TOLD, **{n: v for n, v in row.items() if n in TOLD}} for row in rows]
    return ServedBlock(
        head,
        served_at=[row.get("served", row["at"]) for row in rows],
        as_of=[row["at"] for row in rows],
        request=[row.get("number", i) for i, row in enumerate(rows)],
        arrivals=[[1] * len(rows)],
        keys=[[None if g else row["k"] for row, g in zip(rows, gone, strict=True)]],
        fields=[],
        values=[[row.get("x", 1.0) for row in rows]],
        statuses=[[FORGOTTEN if g else "PRESENT" for g in gone]],
        until=[None],
        process=process,
        predicted=[[one[name] for one in told] for name in kind],
    )


def by_request(request: str, value: Any, row: int = 0, **more: Any) -> Outcome:
    return Outcome(
        request, row, more.get("keys", ()), more.get("at"), json.dumps(value),
        more.get("prediction"), 1, 1,
    )  # fmt: skip


def of(k: str, at: int, value: Any, prediction: str | None = None) -> Outcome:
    return Outcome(None, 0, (("k", k),), at, json.dumps(value), prediction, 1, 1)


def matched(
    blocks: Sequence[ServedBlock],
    outcomes: Sequence[Outcome],
    *,
    horizon: int = 100,
    span: tuple[int, int] = (0, 10_000),
    target: str | None = None,
    feature: str | None = None,
) -> Matched:
    made = Join("s", outcomes, horizon=horizon, target=target, feature=feature)
    return joined(made, blocks, None).matched(*span)


def pairs(found: Matched) -> list[tuple[Any, Any, Any]]:
    return sorted((one.keys[0], one.prediction, one.outcome) for one in found.judged)


# --- the join -------------------------------------------------------------------------------------


def test_an_outcome_belongs_to_the_latest_row_at_or_before_it_within_the_horizon():
    rows = [{"k": "a", "at": at, "prediction": str(at)} for at in (10, 20, 30)]
    for at, wanted in ((9, None), (10, 10), (19, 10), (20, 20), (29, 20), (30, 30), (130, 30)):
        found = matched([block(rows)], [of("a", at, True)])
        assert [one.prediction for one in found.judged] == ([] if wanted is None else [wanted]), at
        assert found.unmatched == (wanted is None)
    assert matched([block(rows)], [of("a", 131, True)]).unmatched == 1
    assert matched([block(rows)], [of("b", 20, True)]).unmatched == 1


def test_an_outcome_of_a_request_belongs_to_its_row_whatever_the_instant():
    rows = [
        {"k": k, "at": 10, "request_id": "r", "row": i, "number": 0, "prediction": f"0.{i}"}
        for i, k in enumerate("abc")
    ]
    told = [by_request("r", True, 2), by_request("p:0", False, 1), by_request("r", True, 3)]
    found = matched([block(rows)], told)
    assert pairs(found) == [("b", 0.1, False), ("c", 0.2, True)]
    assert (found.rows, found.waiting, found.unmatched) == (3, 1, 1)


def test_a_lookup_without_a_model_is_named_by_its_process_and_takes_the_outcomes_prediction():
    rows = [{"k": k, "at": 10, "number": 4} for k in "abc"]
    told = [by_request("p:4", 1.5, 1, prediction="2.5"), by_request("p:4", 1.5, 2)]
    found = matched([block(rows, predicted=False)], told)
    assert (pairs(found), found.bare, found.waiting) == ([("b", 2.5, 1.5)], 1, 1)


def test_rows_that_are_forgotten_match_nothing_and_keep_the_places_of_the_others():
    rows = [{"k": k, "at": 10, "number": 4, "gone": k == "a"} for k in "abc"]
    told = [by_request("p:4", True, row, prediction="0.5") for row in range(3)]
    found = matched([block(rows, predicted=False)], told)
    assert (pairs(found), found.rows) == ([("b", 0.5, True), ("c", 0.5, True)], 2)
    assert found.unmatched == 1


def test_a_shadow_is_judged_only_where_it_is_named():
    live = {"k": "a", "at": 10, "request_id": "r", "number": 0, "prediction": "0.25"}
    shadow = {**live, "target": "m@2", "role": SHADOW, "answered": False, "prediction": "0.75"}
    told = [by_request("r", True)]
    assert pairs(matched([block([live, shadow])], told)) == [("a", 0.25, True)]
    assert pairs(matched([block([live, shadow])], told, target="m@2")) == [("a", 0.75, True)]
    assert matched([block([live])], told, target="m@2").unmatched == 1


def test_a_feature_may_be_the_prediction():
    rows = [{"k": "a", "at": 10, "x": 3.5}, {"k": "b", "at": 10, "x": None}]
    told = [of("a", 11, 4.0), of("b", 11, 4.0)]
    found = matched([block(rows, predicted=False)], told, feature="v__x")
    assert (pairs(found), found.bare) == ([("a", 3.5, 4.0)], 1)
    with pytest.raises(ArgumentError, match="served no feature 'v__y'; did you mean 'v__x'"):
        matched([block(rows)], told, feature="v__y")


def test_of_two_outcomes_of_a_row_the_first_counts_and_a_named_request_before_it():
    row = {"k": "a", "at": 10, "request_id": "r"}
    two = [of("a", 12, "second"), of("a", 11, "first")]
    found = matched([block([row])], two)
    assert (pairs(found), found.further) == ([("a", 0.5, "first")], 1)
    found = matched([block([row])], [*two, by_request("r", "named")])
    assert (pairs(found), found.further) == ([("a", 0.5, "named")], 2)


def test_a_window_has_its_start_and_not_its_end_and_outcomes_of_other_rows_lie_outside():
    rows = [{"k": k, "at": 10, "served": at} for k, at in (("a", 9), ("b", 10), ("c", 20))]
    told = [of(k, 12, True) for k in "abc"]
    found = matched([block(rows)], told, span=(10, 20))
    assert (pairs(found), found.rows, found.outside) == ([("b", 0.5, True)], 1, 2)


def test_an_outcome_waits_for_the_log_and_matches_when_it_comes():
    told = [of("a", 12, True)]
    assert matched([], told).unmatched == 1
    found = matched([block([{"k": "a", "at": 10}])], told)
    assert (found.unmatched, len(found.judged)) == (0, 1)


def test_of_two_rows_at_one_instant_the_one_served_last_counts_in_either_order():
    rows = [
        {"k": "a", "at": 10, "served": served, "prediction": f"{served}"} for served in (12, 11)
    ]
    for order in (rows, rows[::-1]):
        assert pairs(matched([block(order)], [of("a", 20, True)])) == [("a", 12, True)]


KEYS = st.sampled_from("ab")
ROW = st.fixed_dictionaries({
    "k": KEYS, "at": st.integers(0, 12), "served": st.integers(0, 12),
    "request_id": st.sampled_from(["q", "r", "t"]), "row": st.integers(0, 1),
    "answered": st.booleans(), "gone": st.sampled_from([False, False, False, True]),
})  # fmt: skip
TOLD_OF = st.one_of(
    st.builds(of, KEYS, st.integers(0, 20), st.booleans()),
    st.builds(by_request, st.sampled_from(["q", "r", "t"]), st.booleans(), st.integers(0, 1)),
)


def oracle(
    rows: list[dict[str, Any]], outcomes: Sequence[Outcome], horizon: int, span: tuple[int, int]
) -> tuple[Any, ...]:
    """The join as its sentence says it, one outcome after another."""
    rows = [row for row in rows if row["answered"] and not row["gone"]]
    of_row: dict[int, list[Outcome]] = {}
    unmatched = outside = 0
    for one in outcomes:
        if one.request is not None:
            may = [r for r in rows if (r["request_id"], r["row"]) == (one.request, one.row)]
        else:
            (_, k), at = one.keys[0], one.at
            may = [r for r in rows if r["k"] == k and r["at"] <= at <= r["at"] + horizon]
        best = max(may, key=lambda r: (r["at"], r["served"], r["number"]), default=None)
        if best is None:
            unmatched += 1
        elif span[0] <= best["served"] < span[1]:
            of_row.setdefault(best["number"], []).append(one)
        else:
            outside += 1
    chosen = {}
    for number, several in of_row.items():
        named = [one for one in several if one.request is not None]
        chosen[number] = min(named or several, key=lambda one: (one.at or 0, one.value))
    inside = [row for row in rows if span[0] <= row["served"] < span[1]]
    judged = sorted((number, json.loads(one.value)) for number, one in chosen.items())
    further = sum(map(len, of_row.values())) - len(of_row)
    return judged, len(inside), len(inside) - len(judged), outside, further, unmatched


@given(st.lists(ROW, max_size=8), st.lists(TOLD_OF, max_size=6), st.randoms(use_true_random=False))
def test_the_join_is_what_its_sentence_says_in_whatever_order(rows, outcomes, rng):
    outcomes = list({one.name: one for one in outcomes}.values())
    rows = [{**row, "number": i, "prediction": str(i)} for i, row in enumerate(rows)]
    want = oracle(rows, outcomes, 5, (2, 10))
    for _ in range(2):
        rng.shuffle(rows)
        rng.shuffle(outcomes)
        cut = len(rows) // 2
        parts = [block(part) for part in (rows[:cut], rows[cut:]) if part]
        found = matched(parts, outcomes, horizon=5, span=(2, 10))
        judged = sorted((one.prediction, one.outcome) for one in found.judged)
        got = judged, found.rows, found.waiting, found.outside, found.further, found.unmatched
        assert got == want


def test_the_join_is_that_of_pandas():
    rng = random.Random(5)
    rows = [
        {"k": f"k{rng.randrange(200)}", "at": at, "prediction": repr(rng.random())}
        for at in rng.sample(range(100_000), 5_000)
    ]
    at = rng.sample(range(100_000), 3_000)
    outcomes = [of(f"k{rng.randrange(220)}", one, rng.random() < 0.4) for one in at]
    served = pd.DataFrame(rows).sort_values("at")
    served["p"] = served["prediction"].map(float)
    came = pd.DataFrame(
        [(o.keys[0][1], o.at, json.loads(o.value)) for o in outcomes], columns=["k", "then", "y"]
    ).sort_values("then")
    both = pd.merge_asof(
        came, served.assign(row_at=served["at"]), left_on="then", right_on="at", by="k",
        tolerance=3_000,
    )  # fmt: skip
    lost = int(both["p"].isna().sum())
    first = both.dropna(subset=["p"]).sort_values("then").drop_duplicates(["k", "row_at"])
    found = matched([block(rows)], outcomes, horizon=3_000, span=(0, 100_000))
    assert pairs(found) == sorted(first[["k", "p", "y"]].itertuples(index=False, name=None))
    assert (found.unmatched, found.rows) == (lost, 5_000)
    assert found.further == len(outcomes) - lost - len(first)
    assert 500 < len(first) < 3_000


# --- the figures ----------------------------------------------------------------------------------


def told(predictions: Sequence[Any], outcomes: Sequence[Any]) -> Matched:
    """Judged rows of as many entities."""
    both = enumerate(zip(predictions, outcomes, strict=True))
    return Matched(rows=len(outcomes), judged=[Judged(1, (f"k{i}",), p, y) for i, (p, y) in both])


def scores(found: Matched, asked: Asked | None = None, **thresholds: float) -> dict[str, Any]:
    made = performance_of("s", found, (0, 10), asked or Asked(), Limits(thresholds))
    return {one.measure: one for one in made.scores}


@pytest.fixture(scope="module")
def drawn() -> tuple[list[float], list[bool]]:
    """Probabilities that are too sure, with ties, and what came."""
    rng = random.Random(3)
    predictions = [round(rng.random(), 2) for _ in range(900)]
    return predictions, [rng.random() < 0.2 + 0.5 * p for p in predictions]


def test_the_figures_of_classes_are_those_of_scikit_learn(drawn):
    p, y = drawn
    found = scores(told(p, y))
    # Sums of floats depend on the order of rows, which is by outcome and prediction here.
    order = sorted(range(len(p)), key=lambda i: (y[i], p[i]))
    p, y = np.array([p[i] for i in order]), np.array([y[i] for i in order])
    assert {name: one.value for name, one in found.items() if name != "ece"} == {
        "auc": metrics.roc_auc_score(y, p),
        "f1": metrics.f1_score(y, p >= 0.5),
        "precision": metrics.precision_score(y, p >= 0.5),
        "recall": metrics.recall_score(y, p >= 0.5),
        "log_loss": metrics.log_loss(y, p),
        "brier": metrics.brier_score_loss(y, p),
    }
    made = performance_of("s", told(p.tolist(), y.tolist()), (0, 10), Asked(), Limits())
    frame = pd.DataFrame({"p": p, "y": y.astype(float)})
    frame["bin"] = np.ceil(frame["p"] * 10).clip(1).astype(int)  # right ends belong to a bin
    frame.loc[np.isclose(frame["p"] * 10, np.round(frame["p"] * 10)), "bin"] = (
        np.round(frame["p"] * 10).clip(1).astype(int)
    )
    by = frame.groupby("bin").agg(n=("p", "size"), p=("p", "mean"), y=("y", "mean"))
    assert [one.rows for one in made.calibration] == by["n"].tolist()
    came, said = calibration.calibration_curve(y, p, n_bins=10)
    assert [one.came for one in made.calibration] == came.tolist()
    assert [one.predicted for one in made.calibration] == said.tolist()
    ece = sum(n * abs(a - b) for n, a, b in zip(by["n"], said, came, strict=True)) / len(y)
    assert found["ece"].value == pytest.approx(ece, rel=1e-12)


def test_the_figures_of_numbers_are_those_of_scikit_learn():
    rng = random.Random(4)
    y = [rng.gauss(10, 3) for _ in range(500)]
    p = [one + rng.gauss(1, 2) for one in y]
    found = scores(told(p, y))
    order = sorted(range(500), key=lambda i: (y[i], p[i]))
    p, y = np.array([p[i] for i in order]), np.array([y[i] for i in order])
    assert {name: one.value for name, one in found.items()} == {
        "rmse": metrics.root_mean_squared_error(y, p),
        "mae": metrics.mean_absolute_error(y, p),
        "bias": float(np.mean(p - y)),
    }


def test_the_order_of_rows_leaves_no_trace(drawn):
    found = told(*drawn)
    one = performance_of("s", found, (0, 10), Asked(), Limits())
    random.Random(1).shuffle(found.judged)
    assert performance_of("s", found, (0, 10), Asked(), Limits()) == one


def test_what_does_not_exist_is_none():
    one_class = scores(told([0.2, 0.3], [False, False]))
    assert (one_class["auc"].value, one_class["f1"].value) == (None, None)
    assert one_class["log_loss"].value == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2)
    no_probability = scores(told([-1.0, 7.5, 0.1], [False, True, True]))
    assert no_probability["auc"].value == 1.0
    assert {no_probability[n].value for n in ("log_loss", "brier", "ece")} == {None}
    assert scores(told([0.4, 0.4], [True, False]))["auc"].value == 0.5
    assert scores(told([0.5, 0.4], [True, True]))["recall"].value == 0.5
    assert scores(told([0.5, 0.4], [True, True]), Asked(cut=0.4))["recall"].value == 1.0


def test_predictions_of_another_kind_are_counted_apart():
    odd = told([0.9, "NaN", [0.1], None, 0.1, True], [True, True, False, False, False, True])
    made = performance_of("s", odd, (0, 10), Asked(), Limits())
    assert (made.judged, made.odd, made.entities) == (3, 3, 3)
    made = performance_of("s", told([True, 1.5], [1.0, 2.0]), (0, 10), Asked(), Limits())
    assert (made.kind, made.judged, made.odd) == ("number", 1, 1)


def test_a_positive_outcome_makes_classes_of_numbers_and_texts():
    ones = scores(told([0.9, 0.2], [1.0, 0.0]), Asked(positive=1.0))
    assert ones["auc"].value == 1.0
    words = scores(told(["no", "yes", "yes"], ["no", "yes", "no"]), Asked(positive="yes"))
    assert (words["recall"].value, words["precision"].value) == (1.0, 0.5)
    with pytest.raises(DataError, match="outcomes are numbers, and the positive one is True"):
        scores(told([0.5], [1.0]), Asked(positive=True))
    with pytest.raises(DataError, match="outcomes are numbers and true or false"):
        scores(told([0.5, 0.5], [1.0, True]))


# --- intervals and verdicts -----------------------------------------------------------------------


def test_an_interval_is_the_jackknife_over_groups_of_entities(drawn):
    p, y = drawn
    rows = [Judged(1, (f"k{i % 60}",), a, b) for i, (a, b) in enumerate(zip(p, y, strict=True))]
    found = performance_of("s", Matched(rows=900, judged=rows), (0, 10), Asked(), Limits())
    brier = next(one for one in found.scores if one.measure == "brier")
    number = dealt([one.keys for one in rows]).groups
    assert sorted(np.bincount(number).tolist()) == [30] * 30
    error = np.array([(a - b) ** 2 for a, b in zip(p, y, strict=True)])
    left = np.array([error[number != g].mean() for g in range(30)])
    half = 2.045229642132703 * math.sqrt(29 / 30 * ((left - left.mean()) ** 2).sum())
    whole = error.mean()
    middle, reach = math.log(whole / (1 - whole)), half / (whole * (1 - whole))
    assert brier.low == pytest.approx(1 / (1 + math.exp(reach - middle)), rel=1e-9)
    assert brier.high == pytest.approx(1 / (1 + math.exp(-reach - middle)), rel=1e-9)


def mean_of(rows: Rows) -> dict[str, float | None]:
    return {"mean": float(rows.predictions.mean())}


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of 300 draws of 60 entities with 5 rows that are all alike, 95 of 100 intervals would."""
    entities = [Judged(1, (f"k{entity}",), 0.0, 0.0) for entity in range(60) for _ in range(5)]
    of_rows, held = dealt([one.keys for one in entities]), 0
    for seed in range(300):
        errors = np.random.default_rng(seed).normal(size=60).repeat(5)
        rows = Rows(errors, np.zeros(300))
        low, high = intervals(rows, of_rows, mean_of, mean_of(rows))["mean"]
        held += low <= 0.0 <= high
    assert 270 <= held <= 297


def test_few_entities_have_no_interval_and_no_bad_verdict():
    rows = [Judged(1, (f"k{i % 29}",), 0.9, False) for i in range(500)]
    found = performance_of("s", Matched(500, rows), (0, 10), Asked(), Limits({"brier": 0.1}))
    brier = next(one for one in found.scores if one.measure == "brier")
    assert (brier.low, brier.high, brier.verdict) == (None, None, "too few")
    assert found.worse == []


@pytest.mark.parametrize(
    ("measure", "span", "threshold", "verdict"),
    [
        ("auc", (0.6, 0.8), 0.7, "good"), ("auc", (0.6, 0.8), 0.75, "too few"),
        ("auc", (0.6, 0.8), 0.8, "too few"), ("auc", (0.6, 0.8), 0.81, "worse"),
        ("rmse", (0.6, 0.8), 0.7, "good"), ("rmse", (0.6, 0.8), 0.65, "too few"),
        ("rmse", (0.6, 0.8), 0.6, "too few"), ("rmse", (0.6, 0.8), 0.59, "worse"),
        ("auc", (0.6, 0.8), None, ""),
    ],
)  # fmt: skip
def test_worse_is_what_lies_beyond_its_threshold_as_a_whole(measure, span, threshold, verdict):
    (one,) = judged_by({measure: 0.7}, {measure: span}, {measure: threshold})
    assert (one.verdict, one.low, one.high) == (verdict, *span)


def test_a_figure_that_is_not_there_is_too_few_for_its_threshold():
    assert judged_by({"auc": None}, {}, {"auc": 0.5})[0].verdict == "too few"


def test_no_row_that_can_be_judged_says_what_there_was():
    odd = [Judged(1, ("k",), "x", True)]
    with pytest.raises(DataError, match="of 7 rows 4 have no outcome, 2 no prediction and 1 one"):
        performance_of("s", Matched(7, odd, bare=2, waiting=4), (0, 10), Asked(), Limits())


def test_columns_are_of_one_kind():
    assert columns([], Asked()).kind == "class"


# --- the command ----------------------------------------------------------------------------------

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

person = Entity("k", {"k": str})
visits = EventSource("visits", path="visits.parquet", timestamp_field="ts",
                     schema={"k": str, "x": float})
v = FeatureView("v", entities=[person], source=visits, features={"x": Sum("x", window="1d")})
s = FeatureService("s", features=[v])
"""
CONFIG = """
project: performance
online_store: {type: redis}
featurekit:
  redis_url: redis://127.0.0.1:9/0
  serving_log: {to: parquet}
  monitoring: {performance: {s: {auc: 0.6, log_loss: 0.4}}}
"""
NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repo whose serving log has an hour of predictions, all of whose outcomes are pushed."""
    folder = tmp_path_factory.mktemp("performance")
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "definitions.py").write_text(MODULE)
    rng, start = random.Random(9), int((NOW - dt.timedelta(hours=1)).timestamp() * 1e6)
    rows, came = [], []
    for i in range(600):
        p = rng.random()
        name = {"k": f"k{i % 150}", "request_id": f"r{i}"}
        rows.append({**name, "at": start + i, "prediction": repr(p)})
        came.append({"request_id": f"r{i}", "outcome": rng.random() < 0.3 + 0.4 * p})
    made = block(rows)
    data = written(made.head, [b"".join(encode(made))], [{**made.about(), "rows": made.rows}])
    served = folder / ".featurekit" / "served"
    served.mkdir(parents=True)
    (served / "1.parquet").write_bytes(data)
    with FeatureStore(folder) as store:
        store.push_outcomes("s", came[:590])
    return folder


def run(repo: Path, capsys: Any, *words: str) -> tuple[int, str, str]:
    code = main(["--repo", str(repo), *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_exits_with_one_where_a_measure_is_worse(repo, tmp_path, capsys):
    words = ["monitor", "performance", "s", "--end", NOW.isoformat()]
    junit = tmp_path / "performance.xml"
    code, out, _ = run(repo, capsys, *words, "--junit", str(junit))
    assert code == 1
    assert "590 of 600 rows" in out
    assert "10 wait for an outcome" in out
    suite = ET.parse(junit).getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert (suite.get("tests"), failed) == ("7", ["log_loss"])
    code, out, _ = run(repo, capsys, "--json", *words)
    found = json.loads(out)
    assert (code, found["worse"], found["judged"], found["waiting"]) == (1, ["log_loss"], 590, 10)
    assert {one["measure"]: one["verdict"] for one in found["scores"]} == {
        "auc": "good", "f1": "", "precision": "", "recall": "", "log_loss": "worse", "brier": "",
        "ece": "",
    }  # fmt: skip


def test_python_says_what_the_command_says(repo, capsys):
    _, out, _ = run(repo, capsys, "--json", "monitor", "performance", "s", "--end", NOW.isoformat())
    with FeatureStore(repo) as store:
        found = store.performance("s", end=NOW)
        assert json.loads(json.dumps(found.to_dict())) == json.loads(out)
        assert asdict(found)["judged"] == 590
        with pytest.raises(DataError, match="no row that was served from 2026-02-01"):
            store.performance("s", end="2026-02-02")


def test_what_is_asked_wrongly_is_an_error_with_what_to_write(repo, tmp_path, capsys):
    words = ["monitor", "performance", "s", "--end", NOW.isoformat()]
    code, _, err = run(repo, capsys, *words, "--prediction", "v__y")
    assert (code, "served no feature 'v__y'" in err) == (2, True)
    code, _, err = run(repo, capsys, "monitor", "performance", "other")
    assert (code, "featurekit outcomes push other FILE" in err) == (2, True)
    code, _, err = run(repo, capsys, *words, "--cut", "half")
    assert (code, "'half' is no number; write 0.5" in err) == (64, True)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "definitions.py").write_text(MODULE)
    (copy / "feature_store.yaml").write_text(CONFIG.replace("{s: {auc", "{t: {auc"))
    with FeatureStore(copy) as store, pytest.raises(ConfigError, match="there is no service 't'"):
        store.performance("s")
    (copy / "feature_store.yaml").write_text(CONFIG.replace("{auc:", "{acu:"))
    with pytest.raises(ConfigError, match=r"monitoring\.performance\.s\.acu"):
        FeatureStore(copy)
