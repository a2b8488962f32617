"""Predictions for real customers by a real server, judged by what they bought afterwards: what
featurekit says is what pandas and scikit-learn say of the log's own files."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import forwarding
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import retail_models
import serving
from forwarding import predict
from retail_models import AS_OF, RETAIL

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.online.store.server import scratch_redis

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which measures")
pytestmark = pytest.mark.skipif(
    not RETAIL.exists(), reason=f"the real order lines are not here: {RETAIL}"
)
ASKED, PART = 300, 100


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repo, and the log of a server that asked one model for customers and another one beside
    it."""
    folder, log = tmp_path_factory.mktemp("judged"), tmp_path_factory.mktemp("log")
    rows = retail_models.rows(ASKED)
    with scratch_redis() as url, forwarding.model_server() as model:
        retail_models.make(folder, url)
        with serving.serving(
            "--redis-url", url, "--project", "tests", "--serving-log", str(log),
            "--forward", forwarding.target(model, "churn@3", "churn_v1"),
            "--forward", forwarding.target(model, "churn@4", "churn_v1"),
            "--route", "churn@3=100", "--shadow", "churn@4",
        ) as server:  # fmt: skip
            for at in range(0, ASKED, PART):
                status, _ = predict(
                    server, rows[at : at + PART], as_of=AS_OF, request_id=f"part-{at}"
                )
                assert status == 200
            assert server.stop() == 0
    return folder, log


def next_orders() -> pd.DataFrame:
    """Of each customer the first order after AS_OF."""
    lines = pq.read_table(RETAIL, columns=["customer_id", "invoice_date"]).to_pandas()
    lines["at"] = lines["invoice_date"].dt.tz_localize("Europe/London").dt.tz_convert("UTC")
    later = lines[(lines["at"] > pd.Timestamp(AS_OF)) & lines["customer_id"].notna()]
    return later.groupby("customer_id", as_index=False)["at"].min()


def of_log(log: Path) -> pd.DataFrame:
    """What the log's files have of the model that answered."""
    tables = [pq.read_table(path).to_pylist() for path in sorted(log.glob("*.parquet"))]
    rows = [
        {**row["predicted"], "customer_id": row["key"]["customer_id"]} for t in tables for row in t
    ]
    frame = pd.DataFrame(rows)
    frame["p"] = frame["prediction"].map(lambda told: float(json.loads(told)))
    return frame[frame["answered"]]


def expected(frame: pd.DataFrame) -> dict[str, float]:
    frame = frame.sort_values(["y", "p"])
    return {
        "auc": metrics.roc_auc_score(frame["y"], frame["p"]),
        "precision": metrics.precision_score(frame["y"], frame["p"] >= 0.5),
        "recall": metrics.recall_score(frame["y"], frame["p"] >= 0.5),
        "f1": metrics.f1_score(frame["y"], frame["p"] >= 0.5),
    }


def values(found: Any) -> dict[str, float | None]:
    return {one.measure: one.value for one in found.scores}


def test_what_customers_bought_later_judges_what_was_predicted(served, capsys):
    folder, log = served
    frame, orders = of_log(log), next_orders()
    soon = orders[orders["at"] <= pd.Timestamp(AS_OF) + dt.timedelta(days=60)]
    frame["y"] = frame["customer_id"].isin(soon["customer_id"])
    assert 50 < frame["y"].sum() < 250
    told = [
        {"request_id": row.request_id, "row": row.row, "outcome": bool(row.y)}
        for row in frame.itertuples()
    ]
    with FeatureStore(folder) as store:
        # What was known first is wrong, and comes last.
        right = [{**row, "known_at": "2011-04-01"} for row in told]
        wrong = [{**row, "outcome": True, "known_at": "2011-03-01"} for row in told]
        for half in (right[150:], right[:150], wrong, right):
            store.push_outcomes("churn_v1", half)
        found = store.performance("churn_v1", log=log)
        shadow = store.performance("churn_v1", log=log, target="churn@4")
    assert (found.rows, found.judged, found.waiting, found.unmatched) == (ASKED, ASKED, 0, 0)
    want = expected(frame)
    assert {name: values(found)[name] for name in want} == want
    # The other model is the same one, asked by another name.
    assert (values(shadow), shadow.judged) == (values(found), ASKED)
    code = main(
        ["--repo", str(folder), "--json", "monitor", "performance", "churn_v1", "--log", str(log)]
    )
    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {one["measure"]: one["value"] for one in shown["scores"]} == values(found)


def test_the_next_order_of_an_entity_judges_its_latest_row_within_the_horizon(served):
    """The days until the next order are a number."""
    folder, log = served
    frame, orders = of_log(log), next_orders()
    with FeatureStore(folder) as store:
        outcomes = [
            {
                "customer_id": int(row.customer_id),
                "at": row.at.to_pydatetime(),
                "outcome": (row.at - pd.Timestamp(AS_OF)) / pd.Timedelta(days=1),
            }
            for row in orders.itertuples()
        ]
        state = folder / ".featurekit" / "outcomes"
        for path in state.glob("*.parquet"):
            path.unlink()
        store.push_outcomes("churn_v1", outcomes)
        found = store.performance("churn_v1", log=log, horizon="45d")
    orders["y"] = [one["outcome"] for one in outcomes]
    within = orders[orders["y"] <= 45]
    both = frame.merge(within, on="customer_id").sort_values(["y", "p"])
    p, y = both["p"].to_numpy(), both["y"].to_numpy()
    assert values(found) == {
        "rmse": metrics.root_mean_squared_error(y, p),
        "mae": metrics.mean_absolute_error(y, p),
        "bias": float(np.mean(p - y)),
    }
    assert (found.judged, found.unmatched) == (len(both), len(orders) - len(both))
    assert 50 < len(both) < 250
