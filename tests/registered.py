"""Models in MLflow's registry over the repo of `contracted`: how one is fitted, logged, edited by a
hand that should not, and compared bit for bit."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contracted import at, events, training, write_repo

from featurekit import Contract, FeatureStore

LACKING = [n for n in ("mlflow", "sklearn", "alembic") if importlib.util.find_spec(n) is None]
needs_mlflow = [
    pytest.mark.skipif(
        bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (featurekit[mlflow], sklearn)"
    ),
    # MLflow, SQLAlchemy and scikit-learn warn of each other's newest releases.
    pytest.mark.filterwarnings("ignore"),
]
NUMBERS = ["x", "total", "orders", "events_7d", "share"]
ROWS = [{"k": k, "budget": 10 * k + 7} for k in range(7)]
NOW = at(58)
TRUSTED = ["numpy.dtype"]


def write_finite(folder: Path) -> Path:
    """The repo, whose numbers are finite."""
    folder.mkdir()
    xs = [1.5, None, 0.1, -0.0, 0.3, 1e10, 2.5, 1e-300, -3.25, 7.0]
    table = events()
    values = pa.array([xs[i % len(xs)] for i in range(len(table))], pa.float64())
    pq.write_table(table.set_column(1, "x", values), folder / "events.parquet")
    return write_repo(folder)


def deploy(variant: str | None = None) -> None:
    """Define the repo, or a variant of it, apply it and fill it."""
    write_repo(Path(), variant)
    with FeatureStore(".") as store:
        store.apply(allow_breaking=True)
        store.materialize()


def fitted(made: Any, columns: list[str]) -> Any:
    """A model of the numbers of a training set; whether the customer buys something."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    model = make_pipeline(ColumnTransformer([("n", numbers, NUMBERS)]), LogisticRegression())
    table = made.to_pandas()
    return model.fit(table[columns], table["next"].fillna(0) > 0)


def log(
    plugin: Any, store: FeatureStore, *, name: str = "churn", whole: bool = False, made: Any = None
) -> tuple[Any, Contract, str]:
    """A model of the store's features, its contract, and where it is registered; `whole`: with its
    training set in the same run."""
    from contextlib import nullcontext

    import mlflow

    made = training(store) if made is None else made
    with mlflow.start_run() if whole else nullcontext():
        contract = plugin.log_training_set(made) if whole else made.contract()
        model = fitted(made, contract.names)
        info = plugin.log_model(
            model,
            contract,
            registered_model_name=name,
            pyfunc_predict_fn="predict_proba",
            skops_trusted_types=TRUSTED,
        )
    return model, contract, f"models:/{name}/{info.registered_model_version}"


def files(uri: str) -> Path:
    """The folder in which the tracking store keeps a model."""
    from mlflow import artifacts

    return Path(artifacts.download_artifacts(uri))


@contextmanager
def edited(uri: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """The signature of a model is another one meanwhile."""
    import yaml

    path = files(uri) / "MLmodel"
    kept = path.read_text()
    said = yaml.safe_load(kept)
    columns = json.loads(said["signature"]["inputs"])
    change(columns)
    said["signature"]["inputs"] = json.dumps(columns)
    path.write_text(yaml.safe_dump(said))
    try:
        yield
    finally:
        path.write_text(kept)


@contextmanager
def written_over(path: Path, data: bytes) -> Iterator[None]:
    """A file has other bytes meanwhile."""
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(kept)


def bits(values: Any) -> list[str]:
    return [struct.pack("<d", v).hex() for v in values.ravel().tolist()]


def offline(store: FeatureStore, names: list[str]) -> Any:
    """The features of `ROWS` as of `NOW`, made of files."""
    rows = [{**row, "event_timestamp": NOW} for row in ROWS]
    return store.get_historical_features(rows, "churn", known_at=at(100)).to_pandas()[names]
