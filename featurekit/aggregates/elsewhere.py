"""Turns what other stores and libraries call an aggregate into the one that was meant."""

from __future__ import annotations

_CALLED = {
    "Mean": "avg average",
    "Sum": "total",
    "Count": "size length countrows",
    "Min": "minimum",
    "Max": "maximum",
    "StdDev": "std stddevsamp stddevpop stdev standarddeviation",
    "Variance": "var varsamp varpop",
    "Quantile": "median percentile quantiles percentiles",
    "ApproxQuantile": "approxpercentile approxmedian tdigest",
    "CountDistinct": "distinctcount nunique uniquecount countunique",
    "Distinct": "unique distinctvalues collectset uniquevalues",
    "LargestN": "maxn topnvalues maxk",
    "SmallestN": "minn bottomk mink",
    "Histogram": "bins buckets",
    "ApproxCountDistinct": "approxdistinct approxuniquecount approxunique hll hyperloglog",
    "Last": "latest mostrecent newest lastvalue",
    "Lag": "previous prior lagged shift",
    "First": "earliest oldest firstvalue",
    "LastN": "lastk latestn recentn lastvalues",
    "FirstN": "firstk firstvalues",
    "TopK": "topn mostfrequent",
    "ValueCounts": "frequencies countby",
    "Any": "exists boolor",
    "All": "every booland and",
    "TimeSince": "recency timesincelast",
    "SumOfSquares": "sumsq sumsquares sumsquared",
    "Skew": "skewness skewnesspop skewpop",
    "Kurtosis": "kurt kurtosispop",
    "Covariance": "cov covar covarsamp covarpop",
    "Ratio": "quotient sumratio",
    "Rate": "share proportion fraction",
    "Correlation": "corr corrcoef pearson pearsonr",
    "LinearTrend": "slope trend regrslope linearregressionslope",
    "ExponentialDecay": "ewma ema ewm decayedsum exponentialmovingaverage exponentialdecayed",
    "GeometricMean": "geomean gmean",
    "Entropy": "shannonentropy entropybits",
    "BitAnd": "bitwiseand bitandagg",
    "BitOr": "bitwiseor bitoragg",
}
_BY_OTHER_NAME = {other: name for name, others in _CALLED.items() for other in others.split()}
_WRITTEN = {
    "median": 'Quantile("amount", q=0.5, window="7d")',
    "percentile": 'Quantile("amount", q=0.95, window="7d")',
}


def meant(name: str) -> str | None:
    """The aggregate that another store calls so, or that is spelt otherwise; None where there is
    none."""
    from featurekit import aggregates

    plain = _plain(name)
    own = {_plain(kind): kind for kind in aggregates.BY_NAME}
    return own.get(plain) or _BY_OTHER_NAME.get(plain)


def instead_of(name: str) -> str | None:
    """What to write instead of an aggregate of another store, as the beginning of a hint."""
    found = meant(name)
    if found is None:
        return None
    written = _WRITTEN.get(_plain(name))
    return f"did you mean {found!r}{f', as in {written}' if written else ''}?"


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
