"""Turns predictions and outcomes into figures, by scikit-learn, which this module alone imports.

Rows are sorted first, so that no order leaves a trace in a sum of floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurekit.errors import ConfigError

Scores = Mapping[str, float | None]
BINS = 10
"""Probabilities are compared with shares in so many parts of the same width."""
HIGHER = frozenset({"auc", "f1", "precision", "recall", "accuracy"})
"""The figures of which more is better; of the others less is."""
SHARES = HIGHER | {"brier", "ece"}
"""The figures that lie from 0 to 1."""
NOT_NEGATIVE = frozenset({"log_loss", "rmse", "mae"})
"""The figures that lie from 0 on."""
_ONE = 1e-6
"""How far the probabilities of all classes may add up to another number than 1."""


@dataclass(frozen=True, slots=True)
class Bin:
    """A part of the probabilities: how many rows, their mean prediction, and the share that came
    true."""

    rows: int
    predicted: float
    came: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions and outcomes, a row each. Outcomes of a class are 0.0 and 1.0. Where there are
    several classes, an outcome is the place of its class, and predictions have a column for each
    class."""

    predictions: np.ndarray[Any, Any]
    outcomes: np.ndarray[Any, Any]

    def ordered(self) -> Rows:
        """The rows in an order of their own."""
        order = np.lexsort((*np.atleast_2d(self.predictions.T), self.outcomes))
        return Rows(self.predictions[order], self.outcomes[order])

    def some(self, keep: np.ndarray[Any, Any]) -> Rows:
        """The rows that a mask keeps."""
        return Rows(self.predictions[keep], self.outcomes[keep])

    @property
    def are_probabilities(self) -> bool:
        """Whether all predictions lie from 0 to 1."""
        return bool(((self.predictions >= 0) & (self.predictions <= 1)).all())

    @property
    def said(self) -> np.ndarray[Any, Any]:
        """Of several classes the likeliest of each row, the first of those that are as likely."""
        found: np.ndarray[Any, Any] = self.predictions.argmax(axis=1)
        return found


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


def bearing(rows: Rows, cut: float) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The rows that each figure of a class comes from, where these are not all; `auc` comes from
    those of either class."""
    said, true = rows.predictions >= cut, rows.outcomes == 1.0
    return {"auc": [true, ~true], "precision": [said], "recall": [true], "f1": [said | true]}


@dataclass(frozen=True, slots=True)
class OfClass:
    """How well one of several classes was told from all others, by the figures of scikit-learn.
    `auc` is None where there are no probabilities, or no row of the class or of another."""

    name: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None


def each_class(given: Rows, names: Sequence[str], *, sure: bool) -> tuple[OfClass, ...]:
    """The figures of each of several classes; `sure` where predictions are probabilities."""
    metrics, rows = _metrics(), given.ordered()
    y, said = rows.outcomes.astype(int), rows.said
    precision, recall, f1, counts = metrics.precision_recall_fscore_support(  # type: ignore[attr-defined]
        y, said, labels=range(len(names)), average=None, zero_division=0.0
    )
    found = []
    for i, name in enumerate(names):
        both = sure and 0 < counts[i] < len(y)
        auc = metrics.roc_auc_score(y == i, rows.predictions[:, i]) if both else None  # type: ignore[attr-defined]
        told = (said == i).any()
        found.append(
            OfClass(
                name,
                int(counts[i]),
                float(precision[i]) if told else None,
                float(recall[i]) if counts[i] else None,
                float(f1[i]) if told or counts[i] else None,
                None if auc is None else float(auc),
            )
        )
    return tuple(found)


def of_several(given: Rows, *, sure: bool) -> Scores:
    """The figures of predictions of several classes; `sure` where they are probabilities.

    `auc` is the mean over classes of that of a class beside all others, and needs a row of each
    class. `f1`, `precision` and `recall` are means over classes, in which a class that nothing is
    divided by counts as zero. `accuracy` is the share of rows whose likeliest class came.
    """
    metrics, rows = _metrics(), given.ordered()
    y = rows.outcomes.astype(int)
    labels = range(rows.predictions.shape[1])
    names = ("accuracy", "auc", "precision", "recall", "f1", "log_loss")
    found: dict[str, float | None] = dict.fromkeys(names)
    if not len(y):
        return found
    found["accuracy"] = float(metrics.accuracy_score(y, rows.said))  # type: ignore[attr-defined]
    shares = metrics.precision_recall_fscore_support(  # type: ignore[attr-defined]
        y, rows.said, labels=labels, average="macro", zero_division=0.0
    )
    found.update(zip(("precision", "recall", "f1"), map(float, shares[:3]), strict=True))
    if sure:
        found["log_loss"] = float(metrics.log_loss(y, rows.predictions, labels=labels))  # type: ignore[attr-defined]
        if len(np.unique(y)) == len(labels):
            aucs = [metrics.roc_auc_score(y == i, rows.predictions[:, i]) for i in labels]  # type: ignore[attr-defined]
            found["auc"] = float(np.mean(aucs))
    return found


def add_up(shares: Sequence[float]) -> bool:
    """Whether numbers are probabilities of all classes."""
    return all(0 <= one <= 1 for one in shares) and abs(sum(shares) - 1) <= _ONE


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
