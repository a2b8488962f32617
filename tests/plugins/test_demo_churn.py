"""The demo of churn: a model is trained, registered, served over HTTP and promoted, or is not."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from featurekit.cli import main
from featurekit.cli.demo.sample_data import write_sample_data
from featurekit.core.waiting import until

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.parquet"
LACKING = [
    n
    for n in ("mlflow", "sklearn", "skops", "alembic", "uvicorn")
    if importlib.util.find_spec(n) is None
]
needs_extras = pytest.mark.skipif(
    bool(LACKING),
    reason=f"not installed: {', '.join(LACKING)} (featurekit[mlflow,server], sklearn)",
)
CHURN = [sys.executable, "-W", "ignore", "-m", "featurekit.cli", "demo", "churn"]


def run(*words: object) -> tuple[int, Any, str]:
    """Exit code, document and errors of a run in a process of its own."""
    done = subprocess.run(
        [*CHURN, "--json", *map(str, words)],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout), done.stderr


def of_folder(folder: Path) -> list[str]:
    """The processes whose command line names a folder."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if str(folder) in line]


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


def runs(pid: int) -> bool:
    """Whether a process runs: one that has ended may wait for a new parent to ask for its code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not LACKING, reason="MLflow and scikit-learn are installed")
def test_without_the_extras_an_error_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["demo", "churn", "--folder", str(tmp_path / "shop")]) == 2
    assert "pip install 'featurekit[mlflow,server]'" in capsys.readouterr().err
    assert not (tmp_path / "shop").exists()


@needs_extras
def test_two_runs_make_each_model_once_and_serve_it_bit_for_bit(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    for champion in ({"was": "1", "is": "2"}, {"was": "2", "is": "2"}):
        code, made, err = run("--folder", folder, "--rows", 700)
        assert (code, err, made["ok"]) == (0, "", True)
        assert made["registered"] == {"baseline": "models:/churn/1", "forest": "models:/churn/2"}
        assert made["canary"]["predictions"] == 700
        assert made["canary"]["differing"] == made["promoted"]["differing"] == 0
        assert 0 < made["canary"]["of"]["churn@2"] < 140  # about 5 %
        assert made["champion"] == champion
        assert set(made["deploy"]) == set(made["registered"].values())
        assert all(c["held"] for one in made["deploy"].values() for c in one["checks"])
        assert not of_folder(folder)


@needs_extras
def test_customers_of_whom_nothing_is_to_be_learnt_register_nothing(tmp_path: Path) -> None:
    """The customers of the example shop buy at the same rate all the time."""
    lines = write_sample_data(tmp_path)["order_lines"]
    code, made, err = run("--data", lines, "--folder", tmp_path / "shop")
    assert (code, err, made["ok"], made["model"]["better"]) == (1, "", False, False)
    assert "registered" not in made
    assert not (tmp_path / "shop" / "mlflow.db").exists()


@needs_extras
def test_what_is_no_order_lines_or_a_port_in_use_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_text("no")
    folder = tmp_path / "shop"
    code, made, err = run("--data", tmp_path / "no.parquet", "--folder", folder)
    assert (code, "no.parquet is no Parquet file" in err, made["error"]["type"]) == (
        2, True, "DataError",
    )  # fmt: skip
    assert not (folder / "data").exists()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("--port", taken.getsockname()[1], "--folder", tmp_path / "other")
    assert (code, "cannot be served" in err) == (2, True)
    assert not (tmp_path / "other").exists()


@needs_extras
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda one: one.name)
def test_an_end_while_it_serves_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "shop"
    process = subprocess.Popen(
        [*CHURN, "--folder", str(folder), "--rows", "200000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 300
        while not (folder / "serve.log").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(1.0)
        started = children(process.pid)
        assert len(started) >= 2  # the model server, and the one that forwards to it
        process.send_signal(number)
        assert process.wait(20) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    finally:
        process.kill()
    assert until(lambda: not of_folder(folder), within_s=10, every_s=0.1)
    assert until(lambda: not any(map(runs, started)), within_s=10, every_s=0.1)


@needs_extras
@pytest.mark.slow
@pytest.mark.skipif(not RETAIL.is_file(), reason=f"the real order lines are not here: {RETAIL}")
def test_5000_predictions_of_real_customers_are_those_of_offline(tmp_path: Path) -> None:
    code, made, err = run("--data", RETAIL, "--folder", tmp_path / "shop")
    assert (code, err) == (0, "")
    assert (made["canary"]["predictions"], made["canary"]["differing"]) == (5_000, 0)
    assert made["model"]["scores"]["forest"] < 0.95 * made["model"]["scores"]["baseline"]
