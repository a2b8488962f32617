"""A training set that DVC tracks, in a real repository of git with DVC's own command."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import ConfigError, DataError, WriteError
from featurekit.plugins import dvc

FOUND = os.environ.get("FEATUREKIT_DVC") or shutil.which("dvc")
real = pytest.mark.skipif(
    FOUND is None, reason="no command dvc: install it, or name it by FEATUREKIT_DVC=/path/of/dvc"
)
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

events = EventSource("events", path="events.parquet", timestamp_field="at",
                     schema={"k": int, "x": float})
view = FeatureView("view", entities=[Entity("customer", {"k": int})], source=events,
                   features={"total": Sum("x", window="9d")})
held = FeatureService("held", features=[view])
"""


def run(folder: Path, *command: str) -> str:
    told = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of git and of DVC, whose data/ has a training set."""
    if FOUND is not None:
        monkeypatch.setenv("PATH", str(Path(FOUND).parent), prepend=os.pathsep)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    (tmp_path / "definitions.py").write_text(MODULE)
    (tmp_path / "feature_store.yaml").write_text(
        "project: tracked\nprovider: local\nonline_store: {type: redis}\n"
    )
    write_events(tmp_path, 0.1)
    (tmp_path / "data").mkdir()
    write(tmp_path)
    if FOUND is not None:
        run(tmp_path, "git", "init", "-q")
        run(tmp_path, FOUND, "init", "-q")
    return tmp_path


def write_events(repo: Path, x: float) -> None:
    table = pa.table({
        "k": [1, 2], "x": [x, -0.0], "at": pa.array([AT, AT], pa.timestamp("us", "UTC")),
    })  # fmt: skip
    pq.write_table(table, repo / "events.parquet")


def write(repo: Path) -> str:
    """Write the training set; its content hash."""
    frame = pa.table({
        "k": [1, 2],
        "event_timestamp": pa.array([AT + dt.timedelta(days=1)] * 2, pa.timestamp("us", "UTC")),
    })  # fmt: skip
    with FeatureStore(repo) as store:
        made = store.get_historical_features(frame, "held")
        told = made.to_parquet(repo / "data" / "train.parquet")
    return str(told["content_hash"])


@real
def test_dvc_has_the_bytes_and_git_the_manifest(repo: Path) -> None:
    rows = repo / "data" / "train.parquet"
    before = rows.read_bytes()
    found = dvc.track(rows)
    assert found.files[str(rows)] == (hashlib.md5(before).hexdigest(), len(before))
    assert len(found.files) == 2
    run(repo, "git", "add", "--", *found.commit)
    run(repo, "git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one")
    tracked = run(repo, "git", "ls-files", "data").split()
    assert tracked == [
        "data/.gitignore", "data/train.parquet.dvc", "data/train.parquet.labels.arrow.dvc",
        "data/train.parquet.manifest.json",
    ]  # fmt: skip
    rows.unlink()
    run(repo, FOUND or "", "checkout", "-q")
    assert rows.read_bytes() == before


@real
def test_an_older_training_set_comes_back_with_its_manifest(repo: Path) -> None:
    rows = repo / "data" / "train.parquet"
    hashes = []
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for x in (0.1, 0.2):
        write_events(repo, x)
        hashes.append(write(repo))
        found = dvc.track(rows)
        assert found.content_hash == hashes[-1]
        run(repo, "git", "add", "--", *found.commit)
        run(repo, "git", *identity, "commit", "-qm", str(x))
    assert hashes[0] != hashes[1]
    run(repo, "git", "checkout", "-q", "HEAD~1", "--", "data")
    with pytest.raises(DataError, match="its rows are not those of its manifest"):
        dvc.track(rows)
    run(repo, FOUND or "", "checkout", "-q")
    assert dvc.track(rows).content_hash == hashes[0]


@real
def test_what_is_no_training_set_or_in_no_repository_is_refused(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        dvc.track(repo / "events.parquet")
    shutil.rmtree(repo / ".dvc")
    with pytest.raises(DataError, match="in no repository of DVC"):
        dvc.track(repo / "data" / "train.parquet")


@real
def test_what_dvc_says_is_said(repo: Path) -> None:
    run(repo, "git", "add", "-f", "data/train.parquet")
    with pytest.raises(WriteError, match="tracked by SCM"):
        dvc.track(repo / "data" / "train.parquet")


@real
def test_the_command_line_tracks_what_it_writes(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(repo / "data" / "other.parquet")
    words = ["get-historical", "held", "--at", "2026-01-02", "--repo", str(repo)]
    assert main([*words, "--dvc"]) == 64
    assert main([*words, "-o", out, "--dvc"]) == 0
    assert "git add" in capsys.readouterr().out
    assert (repo / "data" / "other.parquet.dvc").is_file()


def test_without_dvc_it_is_said_how_to_install_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"pip install 'featurekit\[dvc\]'"):
        dvc.track(repo / "data" / "train.parquet")
