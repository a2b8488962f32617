"""Learns, registers and promotes models of the simulated shop, by the steps of `featurekit demo
churn`: training set, model against baseline, MLflow, pin, deploy check, promotion."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit import FeatureStore
from featurekit.cli.demo.churn.models import LEAST_GAIN, TRUSTED, probabilities, train
from featurekit.monitor.deploy import deployable
from featurekit.parity.budget import Budget

if TYPE_CHECKING:
    from featurekit.plugins.mlflow.registry import Registry

MODEL, SERVICE = "churn", "churn_v1"
LABELS, REFERENCE = "labels.json", "reference.contract.json"
_DAY = dt.timedelta(days=1)
_WINDOWS_DAYS = (2, 4, 8, 60)
"""Of how many of the newest days a new model may learn. The one that does best is taken."""


class NotBetter(Exception):
    """No model was found that is better than what is there."""


def registry(place: Path) -> Registry:
    """Where the models of a shop stand."""
    from featurekit.plugins.mlflow.registry import Registry

    return Registry(place, MODEL, TRUSTED)


def first_model(store: FeatureStore, place: Path) -> str:
    """Learn of all labels, and promote; the version. Its contract is what drift is told from."""
    newest = max(when for when in _labels(place)["event_timestamp"])
    made = _training(store, place, newest + _DAY)
    splits = made.split(test_from=newest - 14 * _DAY)
    names = splits.train.contract().names
    trained = train(splits.train.to_pandas(), splits.test.to_pandas(), names)
    if not trained.better:
        raise NotBetter(
            f"the first model does not beat a constant and a question: {trained.scores}"
        )
    made.contract().save(place / REFERENCE)
    return _promote(store, place, trained, splits.train)


def next_model(store: FeatureStore, place: Path) -> dict[str, Any]:
    """Learn of the newest labels, and promote what beats the champion on the newest day; what was
    compared. NotBetter where nothing does."""
    tracking = registry(place)
    champion = tracking.champion()
    assert champion is not None
    served = tracking.load(champion, store)
    newest = max(_labels(place)["event_timestamp"])
    best: Any = None
    for days in _WINDOWS_DAYS:
        made = _training(store, place, newest + _DAY, days + 1)
        splits = made.split(test_from=newest)
        test = splits.test.to_pandas()
        trained = train(splits.train.to_pandas(), test, served.contract.names)
        if best is None or trained.scores["forest"] < best[0].scores["forest"]:
            seen = test["churned"].astype(float).to_numpy()
            old = probabilities(served.model, test[served.contract.names])
            best = trained, splits.train, days, float(((old - seen) ** 2).mean())
    trained, rows, days, old = best
    gain = 1 - trained.scores["forest"] / old
    if not trained.better or gain < LEAST_GAIN:
        raise NotBetter(f"the champion scores {old:.4f}, and new models {trained.scores}")
    version = _promote(store, place, trained, rows)
    return {"version": version, "was": champion, "days": days, "scores": trained.scores, "old": old}


def _labels(place: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = json.loads((place / LABELS).read_text())
    found["event_timestamp"] = [dt.datetime.fromisoformat(w) for w in found["event_timestamp"]]
    return found


def _training(store: FeatureStore, place: Path, end: dt.datetime, days: int | None = None) -> Any:
    """The rows of labels before `end`, of so many days."""
    import pyarrow as pa

    table = pa.table(_labels(place))
    at = table["event_timestamp"].to_pylist()
    keep = [days is None or end - days * _DAY <= when < end for when in at]
    return store.get_historical_features(table.filter(pa.array(keep)), SERVICE)


def _promote(store: FeatureStore, place: Path, trained: Any, rows: Any) -> str:
    """Register the forest, pin what it needs, check it, and let the champion be it."""
    tracking, parts = registry(place), store.parts
    version = tracking.register(trained.forest, rows, "forest", trained.scores)
    store.pin(rows.contract().version, by=tracking.uri_of(version))
    found = deployable(
        parts,
        partial(tracking.contract, version, parts.trust.keys),
        keys=parts.trust.keys,
        max_age_us=None,
        budget=Budget(values=2_000),
    )
    failed = [f"{one.name}: {one.found}" for one in found.checks if one.held is False]
    if not found.ok:
        raise NotBetter(f"{tracking.uri_of(version)} cannot be served: {'; '.join(failed)}")
    tracking.promote(version)
    return version


def write_labels(place: Path, rows: dict[str, list[Any]]) -> None:
    """Add labels to those that are known."""
    path = place / LABELS
    known: dict[str, list[Any]] = json.loads(path.read_text()) if path.exists() else {}
    told = {**rows, "event_timestamp": [w.isoformat() for w in rows["event_timestamp"]]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: [*known.get(name, []), *told[name]] for name in told}))
    new.replace(path)
