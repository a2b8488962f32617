"""The distances that drift is judged by are those of the raw values: SciPy's, exactly where counts
decide, and within the bound that is told where places inside a bucket count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.aggregates.quantiles import buckets
from featurekit.monitor.drift import distances
from featurekit.monitor.drift.distances import Histogram
from featurekit.monitor.drift.judge import CHANCE, Sample, Thresholds, chi_squared_at, judged

stats = pytest.importorskip("scipy.stats", reason="needs SciPy, to compare with")
spatial = pytest.importorskip("scipy.spatial.distance")

NUMBERS = st.one_of(
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1.0, 1.0000001, -1.0, 5e-324, math.inf, -math.inf, math.nan]),
)
INTS = st.one_of(st.integers(-300, 300), st.integers(-(2**63), 2**63 - 1))


def histogram(values: np.ndarray) -> Histogram:
    found, counts = np.unique(buckets(values), return_counts=True)
    pairs = list(zip(found.tolist(), counts.tolist(), strict=True))
    return Histogram.of(pairs, whole=values.dtype.kind == "i")


def array(values: list, whole: bool) -> np.ndarray:
    return np.array(values, dtype=np.int64 if whole else np.float64)


SAMPLES = st.booleans().flatmap(
    lambda whole: st.tuples(
        *[
            st.lists(INTS if whole else NUMBERS, min_size=1, max_size=60).map(
                lambda values: array(values, whole)
            )
            for _ in range(2)
        ]
    )
)


def numbers(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "i" else values[~np.isnan(values)]


@given(SAMPLES)
def test_the_bins_hold_what_the_numbers_themselves_give(samples):
    was, now = samples
    bins = distances.binned(*map(histogram, samples))
    old, new = bins.was, bins.now
    assert (old.sum(), new.sum()) == (len(was), len(now))
    assert len(bins.names) == len(old)
    if not len(numbers(was)):
        return
    # The ends again, by the raw numbers: where a decile of the reference lies, its bucket ends.
    ordered = np.sort(buckets(numbers(was)))
    n = len(ordered)
    ends = sorted({ordered[math.ceil(n * i / 10) - 1] for i in range(1, 10)})
    want = []
    for one in samples:
        places = np.searchsorted(ends, buckets(numbers(one)), side="left")
        counts = np.bincount(places, minlength=len(ends) + 1).tolist()
        want.append((counts, len(one) - len(numbers(one))))
    kept = [i for i in range(len(ends) + 1) if want[0][0][i] or want[1][0][i]]
    nan = want[0][1] or want[1][1]
    for found, (counts, absent) in zip((old, new), want, strict=True):
        assert found.tolist() == [*(counts[i] for i in kept), *([absent] if nan else [])]


@given(SAMPLES)
def test_what_is_made_of_counts_is_what_scipy_makes_of_them(samples):
    bins = distances.binned(*map(histogram, samples))
    old, new = bins.was, bins.now
    p, q = old / old.sum(), new / new.sum()
    assert distances.jensen_shannon(old, new) == pytest.approx(
        np.nan_to_num(spatial.jensenshannon(p, q, base=2)), abs=1e-7
    )
    statistic, freedom = distances.chi_squared(old, new)
    if len(old) > 1:
        want = stats.chi2_contingency([old, new], correction=False)
        assert (statistic, freedom) == (pytest.approx(want.statistic, abs=1e-9), want.dof)
    if (old > 0).all() and (new > 0).all():
        both = stats.entropy(p, q) + stats.entropy(q, p)
        assert distances.psi(old, new) == pytest.approx(both, abs=1e-9)


@given(SAMPLES)
def test_kolmogorov_smirnov_is_within_its_bound(samples):
    found = distances.kolmogorov_smirnov(*map(histogram, samples))
    was, now = map(numbers, samples)
    if not len(was) or not len(now):
        assert found is None
        return
    want = max(  # SciPy's takes ints for doubles
        abs((was <= x).sum() / len(was) - (now <= x).sum() / len(now)) for x in {*was, *now}
    )
    assert abs(found.value - want) <= found.bound + 1e-12


@given(SAMPLES)
def test_wasserstein_is_within_its_bound(samples):
    found = distances.wasserstein(*map(histogram, samples))
    was, now = (x[np.isfinite(x)].astype(float) for x in samples)
    if not len(was) or not len(now):
        assert found is None
        return
    want = stats.wasserstein_distance(was, now)
    slack = 1e-9 * max(1.0, want)
    assert abs(found.value - want) <= found.bound + slack


def test_bounds_are_narrow_where_there_are_many_values():
    rng = np.random.default_rng(1)
    was, now = rng.lognormal(size=20_000), rng.lognormal(0.1, size=20_000)
    apart = distances.kolmogorov_smirnov(histogram(was), histogram(now))
    moved = distances.wasserstein(histogram(was), histogram(now))
    want = stats.ks_2samp(was, now).statistic
    assert abs(apart.value - want) <= apart.bound
    assert 0 < apart.bound < 0.01
    assert 0 < moved.bound < 0.02 * was.std()


def test_ints_that_have_a_bucket_each_have_no_bound():
    was, now = np.arange(100), np.arange(50, 150)
    assert distances.kolmogorov_smirnov(histogram(was), histogram(now)).bound == 0
    assert distances.wasserstein(histogram(was), histogram(now)) == distances.Bounded(50.0, 0.0)


@pytest.mark.parametrize("freedom", [1, 2, 5, 9, 20, 100])
@pytest.mark.parametrize("rare", [0.2, 1e-3, 1e-6])
def test_what_chance_gives_is_the_quantile(freedom, rare):
    assert chi_squared_at(rare, freedom) == pytest.approx(stats.chi2.isf(rare, freedom), rel=1e-9)


# --- verdicts -------------------------------------------------------------------------------------


def sample(values: np.ndarray, null: int = 0, errors: int = 0) -> Sample:
    return Sample(len(values) + null, null, errors, numbers=histogram(values))


def verdicts(was: Sample, now: Sample, by: Thresholds | None = None) -> dict[str, str]:
    return {f.measure: f.verdict for f in judged("f", was, now, by or Thresholds())}


def test_a_moved_distribution_drifts_and_another_draw_of_it_does_not():
    rng = np.random.default_rng(2)
    was = sample(rng.normal(size=5_000))
    assert verdicts(was, sample(rng.normal(size=5_000)))["psi"] == "steady"
    assert verdicts(was, sample(rng.normal(1, size=5_000)))["psi"] == "drift"


def test_a_figure_drifts_where_all_that_it_may_be_passes_the_threshold():
    """All numbers of both sides lie in one bucket, and may be the same or not."""
    was, now = (sample(np.full(500, x)) for x in (1.0, 1.0 + 1e-6))
    (found,) = (
        f
        for f in judged("f", was, now, Thresholds({"kolmogorov_smirnov": 0.3}))
        if f.measure == "kolmogorov_smirnov"
    )
    assert (found.value, found.bound, found.verdict) == (0.5, 0.5, "steady")
    apart = sample(np.full(500, 2.0))
    assert (
        verdicts(was, apart, Thresholds({"kolmogorov_smirnov": 0.3}))["kolmogorov_smirnov"]
        == "drift"
    )


def test_few_rows_tell_nothing():
    rng = np.random.default_rng(3)
    was = sample(rng.normal(size=5_000))
    assert verdicts(was, sample(rng.normal(size=30)))["psi"] == "too few"
    assert verdicts(was, sample(rng.normal(20, size=30)))["psi"] == "drift"  # none like it was seen


def test_nulls_and_errors_have_figures_of_their_own():
    values = np.arange(2_000.0)
    was = sample(values)
    assert verdicts(was, sample(values, null=300))["null_share"] == "drift"
    assert verdicts(was, sample(values, null=100, errors=100))["error_share"] == "drift"
    assert verdicts(was, sample(values, null=5))["null_share"] == "steady"


def test_a_feature_may_have_thresholds_of_its_own():
    rng = np.random.default_rng(4)
    was, now = sample(rng.normal(size=9_000)), sample(rng.normal(0.3, size=9_000))
    assert verdicts(was, now)["psi"] == "steady"
    assert verdicts(was, now, Thresholds(features={"f": {"psi": 0.05}}))["psi"] == "drift"
    assert verdicts(was, now, Thresholds(features={"g": {"psi": 0.05}}))["psi"] == "steady"
    assert verdicts(was, now, Thresholds(every={"psi": None}))["psi"] == ""
    assert (
        verdicts(was, now, Thresholds({"kolmogorov_smirnov": 0.05}))["kolmogorov_smirnov"]
        == "drift"
    )


def test_classes_are_compared_by_their_counts():
    was = Sample(10_000, 0, 0, classes={"DE": 6_000, "FR": 4_000})
    same = Sample(1_000, 0, 0, classes={"DE": 590, "FR": 410})
    other = Sample(1_000, 0, 0, classes={"DE": 300, "FR": 200, "XX": 500})
    assert verdicts(was, same)["psi"] == "steady"
    assert verdicts(was, other)["psi"] == "drift"
    by = Thresholds(every={"chi_squared": 0.0})
    assert verdicts(was, same, by)["chi_squared"] == "too few"
    assert verdicts(was, other, by)["chi_squared"] == "drift"


def test_chance_seldom_passes_for_drift():
    """Without any threshold but chance, at a hundredth: some one in a hundred figures drifts."""
    rng = np.random.default_rng(5)
    by = Thresholds(dict.fromkeys(("psi", "kolmogorov_smirnov", "jensen_shannon"), 0.0), {}, 0.01)
    found = [
        f.verdict == "drift"
        for _ in range(300)
        for f in judged("f", sample(rng.normal(size=800)), sample(rng.normal(size=400)), by)
        if f.measure in by.every
    ]
    assert 0 < sum(found) < 0.03 * len(found)
    assert CHANCE <= 1e-6
