"""Turns a training set in parts into two models of churn, and says which of them is better.

Both are of trees, which predict each row by itself: the last bit of a linear model may depend on
how many rows are asked for at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurekit.errors import DataError

TRUSTED = (
    "numpy.dtype",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.tree._tree.Tree",
)
"""The types of these models that skops is told to load."""
LEAST_GAIN = 0.01
"""By how much of its Brier score a model has to be better to count as better."""
_KNOWN = "orders_90d"


@dataclass(frozen=True, slots=True)
class Trained:
    """The two models, and the Brier scores of what predicts on the later rows: the mean of (p − y)²
    by name, where 0 is perfect."""

    baseline: Any
    forest: Any
    scores: dict[str, float]

    @property
    def to_beat(self) -> float:
        """The better score of the two that the forest is compared with."""
        return min(self.scores["constant"], self.scores["baseline"])

    @property
    def gain(self) -> float:
        """The part of the score to beat by which the forest is better; negative where it is
        worse."""
        return 1.0 - self.scores["forest"] / self.to_beat

    @property
    def better(self) -> bool:
        """Whether the forest is better by `LEAST_GAIN` at least."""
        return self.gain >= LEAST_GAIN


def train(train: Any, test: Any, names: Sequence[str]) -> Trained:
    """Fit both models to a frame with columns `names` and `churned`, and score them on another.

    The baseline is a tree of one question, about the orders of 90 days. DataError where one class
    is missing among the rows to learn from.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    columns = list(names)
    learnt, seen = train["churned"].astype(bool), test["churned"].astype(float).to_numpy()
    if learnt.nunique() < 2:
        raise DataError(
            f"all {len(learnt)} customers to learn from are alike: churned is {learnt.iloc[0]} of "
            "each; --data needs some who come again and some who do not"
        )
    one = make_column_transformer(("passthrough", [_KNOWN]))
    baseline = make_pipeline(one, DecisionTreeClassifier(max_depth=1, random_state=1))
    forest = RandomForestClassifier(100, min_samples_leaf=0.05, random_state=1)
    baseline.fit(train[columns], learnt)
    forest.fit(train[columns], learnt)
    predicted = {
        "constant": np.full(len(test), float(learnt.mean())),
        "baseline": probabilities(baseline, test[columns]),
        "forest": probabilities(forest, test[columns]),
    }
    scores = {name: float(np.mean((p - seen) ** 2)) for name, p in predicted.items()}
    return Trained(baseline, forest, scores)


def probabilities(model: Any, frame: Any) -> Any:
    """The probability of churn of each row, as float64."""
    return model.predict_proba(frame)[:, 1]
