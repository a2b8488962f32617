"""featurekit in a notebook: a real kernel, without ipywidgets, where cells define everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import featurekit

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(featurekit.__file__).parents[1]
CELLS = {
    "no widgets": """
import importlib.util
print(importlib.util.find_spec("ipywidgets"))
""",
    "define": """
import datetime as dt
import pandas as pd
from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Count, Sum

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
orders = pd.DataFrame({"customer_id": [1, 1, 2], "amount": [0.5, 1.5, 4.0], "at": NOON})
customer = Entity("customer", {"customer_id": int})
source = EventSource("orders", frame=orders, schema={"customer_id": int, "amount": float},
                     timestamp_field="at")
RATE = 3.0
""",
    "helper": """
def taxed(x: float) -> float:
    return x * RATE
""",
    "feature": """
@feature
def cost(amount: float) -> float:
    return taxed(amount) / 2

spending = FeatureView("spending", entities=[customer], source=source,
                       features={"cost": Sum(cost, window="1d"), "orders": Count(window="1d")})
service = FeatureService("model", features=[spending])
""",
    "store": """
store = FeatureStore(definitions=[service])
orders["amount"] = 9.0  # the events are those of the frame when it was given
store.apply()
""",
    "train": """
labels = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": NOON + dt.timedelta(hours=1)})
training = store.get_historical_features(labels, "model")
print(training.to_pandas()["cost"].tolist())
training
""",
    "serve": """
store.materialize()
found = store.get_online_features("model", labels[["customer_id"]], NOON + dt.timedelta(hours=1))
print(found["cost"].tolist())
found
""",
    "parity": """
report = store.check_parity("model", budget=200)
print(report.ok, report.compared > 0)
report
""",
    "another cost": """
@feature
def cost(amount: float) -> float:
    return taxed(amount) + 1.0
""",
    "an older view": """
from featurekit.errors import DefinitionError
spending = FeatureView("spending", entities=[customer], source=source,
                       features={"cost": Sum(cost, window="1d"), "orders": Count(window="1d")})
try:
    store.apply([spending])  # the service reads the view of before
except DefinitionError as error:
    print(error)
print(store.get_historical_features(labels, "model").to_pandas()["cost"].tolist())
""",
    "the service anew": """
service = FeatureService("model", features=[spending])
print([(c.action, c.kind, c.details) for c in store.apply([service])])
print(store.get_historical_features(labels, "model").to_pandas()["cost"].tolist())
""",
    "a feature anew": """
@feature
def cost(amount: float) -> float:
    return taxed(amount) + 2.0
try:
    store.apply([cost])  # the view reads the function of before
except DefinitionError as error:
    print(error)
""",
    "below a magic": """%%time
@feature
def timed(amount: float) -> float:
    return amount + 1.0
@feature
def wrongly_timed(amount: float) -> float:
    return amount.nothing
""",
    "use what is below a magic": """
for one in (timed, wrongly_timed):
    view = FeatureView("v", entities=[customer], source=source,
                       features={"t": Sum(one, window="1d")})
    try:
        print([c.action for c in FeatureStore(definitions=[view]).plan()])
    except Exception as error:
        print(str(error).splitlines()[1:3])
""",
    "an error": """
@feature
def wrong(amount: float) -> float:
    return amount.nothing
""",
    "its place": """
from featurekit.errors import CompileError
try:
    FeatureStore(definitions=[FeatureView("v", entities=[customer], source=source,
                                          features={"w": wrong})]).plan()
except CompileError as error:
    print(error.line, str(error).splitlines()[1:3])
""",
    "a magic": """
%time store.get_historical_features(labels, "model").manifest["rows"]
""",
    "shown": """
store
""",
    "plan": """
store.plan()
""",
}
DRIVER = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = json.load(sys.stdin)
book = nbformat.v4.new_notebook()
book.cells = [nbformat.v4.new_code_cell(text) for text in cells.values()]
NotebookClient(book, timeout=600, kernel_name="python3").execute()
said = {}
for name, cell in zip(cells, book.cells):
    said[name] = {"text": "", "html": ""}
    for output in cell.outputs:
        said[name]["text"] += output.get("text", "") if output.get("name") != "stderr" else ""
        said[name]["html"] += output.get("data", {}).get("text/html", "")
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each cell printed, and the HTML that it shows."""
    folder = tmp_path_factory.mktemp("notebook")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps(CELLS), capture_output=True, text=True, cwd=folder, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("cell", "printed"),
    [
        ("no widgets", "None"),
        ("train", "[3.0, 6.0]"),
        ("serve", "[3.0, 6.0]"),
        ("parity", "True True"),
        ("another cost", ""),
        ("the service anew", "[8.0, 13.0]"),
    ],
)
def test_cells_are_a_repo(said: dict[str, Any], cell: str, printed: str) -> None:
    assert said[cell]["text"].strip().endswith(printed), said[cell]


def test_an_older_view_is_not_taken_silently(said: dict[str, Any]) -> None:
    error, after = said["an older view"]["text"].splitlines()
    assert "two definitions of FeatureView 'spending'" in error
    assert after == "[3.0, 6.0]"  # nothing has changed


def test_a_feature_that_was_run_again_is_not_left_out_silently(said: dict[str, Any]) -> None:
    assert "@feature 'cost' was made anew, and FeatureView 'spe" in said["a feature anew"]["text"]


def test_a_function_below_a_magic_is_read_from_its_cell(said: dict[str, Any]) -> None:
    assert said["use what is below a magic"]["text"].splitlines() == [
        "['add']",
        "['        return amount.nothing', '               ^']",
    ]


def test_an_error_points_into_its_cell(said: dict[str, Any]) -> None:
    assert said["its place"]["text"].strip() == (
        "3 ['        return amount.nothing', '               ^']"
    )


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("store", ["2 changes", ">add<", ">spending<"]),
        ("train", ["TrainingSet of model", ">3.0<", ">float | None<", "content_hash"]),
        ("serve", ["OnlineResult as of 2026-01-01T13:00:00+00:00", ">6.0<"]),
        ("parity", ["Parity of model (history): agrees", ">spending__cost<"]),
        ("shown", ["FeatureStore notebook", "in memory", ">model<", ">customer_id<"]),
        ("plan", ["No changes"]),
    ],
)
def test_results_are_shown_as_tables(said: dict[str, Any], cell: str, shown: list[str]) -> None:
    for part in shown:
        assert part in said[cell]["html"]
