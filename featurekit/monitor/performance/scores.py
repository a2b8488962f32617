"""Turns predictions and outcomes into figures, by scikit-learn, which this module alone imports.

Rows are sorted first, so that no order leaves a trace in a sum of floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurekit.errors import ConfigError

Scores = Mapping[str, float | None]
BINS = 10
"""Probabilities are compared with shares in so many parts of the same width."""
HIGHER = frozenset({"auc", "f1", "precision", "recall"})
"""The figures of which more is better; of the others less is."""


@dataclass(frozen=True, slots=True)
class Bin:
    """A part of the probabilities: how many rows, their mean prediction, and the share that came
    true."""

    rows: int
    predicted: float
    came: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions and outcomes in two columns of one length. Outcomes of classes are 0.0 and
    1.0."""

    predictions: np.ndarray[Any, Any]
    outcomes: np.ndarray[Any, Any]

    def ordered(self) -> Rows:
        """The rows in an order of their own."""
        order = np.lexsort((self.predictions, self.outcomes))
        return Rows(self.predictions[order], self.outcomes[order])

    def some(self, keep: np.ndarray[Any, Any]) -> Rows:
        """The rows that a mask keeps."""
        return Rows(self.predictions[keep], self.outcomes[keep])

    @property
    def are_probabilities(self) -> bool:
        """Whether all predictions lie from 0 to 1."""
        return bool(((self.predictions >= 0) & (self.predictions <= 1)).all())


def _metrics() -> object:
    try:
        import sklearn.metrics
    except ImportError:
        raise ConfigError(
            "performance is measured by scikit-learn, which is not installed; run "
            "`pip install 'featurekit[monitor]'`"
        ) from None
    return sklearn.metrics


def of_classes(given: Rows, cut: float) -> Scores:
    """The figures of predictions of a class, None where they do not exist.

    `auc` needs both classes. `f1`, `precision` and `recall` take a prediction of at least `cut` for
    a yes, and are None where nothing is divided by. `log_loss`, `brier` and `ece` are of
    probabilities alone. `ece` is the mean distance of predictions from shares over the bins of
    `calibration`, weighted by rows.
    """
    metrics, rows = _metrics(), given.ordered()
    y, p = rows.outcomes, rows.predictions
    said, both = p >= cut, 0 < y.sum() < len(y)
    found: dict[str, float | None] = {
        "auc": float(metrics.roc_auc_score(y, p)) if both else None,  # type: ignore[attr-defined]
    }
    defined = {"precision": said.any(), "recall": y.any(), "f1": said.any() or y.any()}
    shares = metrics.precision_recall_fscore_support(  # type: ignore[attr-defined]
        y, said, average="binary", pos_label=1.0, zero_division=0.0
    )
    for (name, there), value in zip(defined.items(), shares, strict=False):
        found[name] = float(value) if there else None
    sure = rows.are_probabilities
    for name, function in (("log_loss", "log_loss"), ("brier", "brier_score_loss")):
        score = getattr(metrics, function)
        found[name] = float(score(y, p, labels=[0.0, 1.0])) if sure and len(y) else None
    bins = calibration(rows) if sure else ()
    apart = [one.rows * abs(one.predicted - one.came) for one in bins]
    found["ece"] = float(sum(apart) / len(y)) if bins else None
    return found


def of_numbers(given: Rows) -> Scores:
    """The figures of predictions of a number: the root of the mean squared error, the mean absolute
    one, and how far predictions lie above outcomes in the mean, all in the unit of the outcome.
    None without a row."""
    metrics, rows = _metrics(), given.ordered()
    y, p = rows.outcomes, rows.predictions
    if not len(y):
        return {"rmse": None, "mae": None, "bias": None}
    return {
        "rmse": float(metrics.root_mean_squared_error(y, p)),  # type: ignore[attr-defined]
        "mae": float(metrics.mean_absolute_error(y, p)),  # type: ignore[attr-defined]
        "bias": float(np.mean(p - y)),
    }


def calibration(given: Rows) -> tuple[Bin, ...]:
    """The bins of probabilities that have rows, from the lowest on."""
    _metrics()
    from sklearn.calibration import calibration_curve

    rows = given.ordered()
    if not len(rows.outcomes):
        return ()
    came, predicted = calibration_curve(
        rows.outcomes, rows.predictions, n_bins=BINS, strategy="uniform", pos_label=1.0
    )
    borders = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    counts = np.bincount(np.searchsorted(borders, rows.predictions), minlength=BINS)
    told = zip(counts[counts > 0].tolist(), predicted.tolist(), came.tolist(), strict=True)
    return tuple(Bin(*one) for one in told)


GROUPS = 30
"""An interval comes from leaving out one group of entities after another."""
_T = 2.045229642132703
"""97.5 of 100 of Student's distribution with `GROUPS` - 1 degrees of freedom lie below."""


def intervals(
    rows: Rows, groups: Sequence[int] | None, score: Callable[[Rows], Scores], whole: Scores
) -> Mapping[str, tuple[float, float]]:
    """An interval of 95 % for each figure of the `whole`, by the jackknife over groups of entities,
    since rows of one entity tell much the same. None of a figure that a part of the rows has not;
    none at all where entities are too few for `groups`."""
    if groups is None:
        return {}
    number = np.asarray(groups)
    parts = [score(rows.some(number != group)) for group in range(GROUPS)]
    found = {}
    for name, value in whole.items():
        without = [part[name] for part in parts]
        known = [one for one in without if one is not None]
        if value is None or len(known) < GROUPS:
            continue
        mean = sum(known) / GROUPS
        spread = sum((one - mean) ** 2 for one in known) * (GROUPS - 1) / GROUPS
        half = _T * float(np.sqrt(spread))
        found[name] = value - half, value + half
    return found
