"""The notebook of docs/, from order lines to a served model, runs as it stands."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "churn.ipynb"
LACKING = [
    n
    for n in ("mlflow", "sklearn", "skops", "alembic", "nbclient", "ipykernel")
    if importlib.util.find_spec(n) is None
]


def printed(cell: Any) -> str:
    return "".join(one.get("text", "") for one in cell.get("outputs", []))


@pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {', '.join(LACKING)} (featurekit[mlflow], sklearn)"
)
def test_the_notebook_goes_from_order_lines_to_a_served_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name in [n for n in os.environ if n.startswith(("FEATUREKIT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the file keeps no outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "\n".join(printed(cell) for cell in notebook.cells)
    assert "contract holds: True" in said
    assert "600 predictions, 0 differ" in said
    assert "orders_30d" in said.partition("to what is live differ:")[2]
    assert "the pinned model predicts the same bits: True" in said
