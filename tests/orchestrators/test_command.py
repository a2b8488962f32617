"""`featurekit pipeline show` and `export`, on the repo that `init` writes and on mistakes in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from featurekit.cli import main
from featurekit.plugins.pipelines.export import TOOLS


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A starter repo, in which the shell is."""
    folder = tmp_path / "shop"
    assert main(["init", str(folder)]) == 0
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def describe(repo: Path, **pipeline: object) -> None:
    """Another pipeline in the settings."""
    path = repo / "feature_store.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["featurekit"]["pipeline"] = pipeline
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command says, on either stream."""
    capsys.readouterr()
    assert main(["pipeline", *words]) == code
    shown = capsys.readouterr()
    return shown.out + shown.err


def test_the_starter_has_a_pipeline(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(said(capsys, "show", "--json"))
    assert shown["name"] == "shop"
    names = [step["name"] for step in shown["steps"]]
    assert names == ["validate", "apply", "materialize", "parity", "training-set", "deploy-check"]
    assert shown["steps"][4]["needs"] == ["materialize"]
    table = said(capsys)
    assert "featurekit materialize --incremental --end '{end}'" in table
    assert "shop runs by hand." in table


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_is_written_for(
    repo: Path, tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(repo, image="shop:1", schedule="10 3 * * *")
    monkeypatch.chdir(repo.parent)
    told = json.loads(said(capsys, "--repo", "shop", "export", "--to", tool, "-o", "out", "--json"))
    assert told["to"] == tool
    assert told["commands"]
    assert sorted(told["files"]) == sorted(
        str(path) for path in Path("out").rglob("*") if path.is_file()
    )
    text = said(capsys, "--repo", "shop", "export", "--to", tool, "-o", "out")
    for file in told["files"]:
        assert f"  {file}\n" in text
    for note in told["notes"]:
        assert f"  - {note}\n" in text


def test_nothing_is_written_where_a_step_is_no_command_line(
    repo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistakes = {
        "materialize --incremental_": "there is no option --incremental_; did you mean",
        "materialise": "there is no verb 'materialise'; did you mean 'materialize'",
        "materialize --end tomorrow": "'tomorrow' is no instant",
        "--help": "`--help` does no work; write a verb",
        "serve": "`featurekit serve` runs until it is stopped",
        "parity sample --every 5m": "`featurekit parity` runs until it is stopped",
    }
    for run, why in mistakes.items():
        describe(repo, steps=[{"name": "one", "run": run}])
        text = said(capsys, "export", "--to", "gitlab", "-o", "out", code=2)
        assert "feature_store.yaml: featurekit.pipeline.steps: one: " in text
        assert why in text
    assert not Path("out").exists()


def test_what_is_asked_wrongly_is_explained(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'githab' is none of airflow" in said(
        capsys, "export", "--to", "githab", "-o", "out", code=64
    )
    assert "--to" in said(capsys, "export", "-o", "out", code=64)
    assert "write image: " in said(capsys, "export", "--to", "argo", "-o", "out", code=2)
    Path("out").write_text("a file")
    assert "-o out" in said(capsys, "export", "--to", "jenkins", "-o", "out", code=2)


def test_a_folder_that_is_no_repo_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "featurekit init" in said(capsys, "show", code=2)


@pytest.mark.parametrize("tool", ["airflow", "dagster", "prefect"])
def test_no_module_is_written_where_the_repo_would_load_it(
    repo: Path, tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ("export", "--to", tool, "-o")
    text = said(capsys, *export, "dags", code=2)
    assert "would be a module of the feature repo; name a folder outside of it" in text
    assert not Path("dags").exists()
    Path(".featurekitignore").write_text("dags/\n")
    said(capsys, *export, "dags")
    said(capsys, *export, "../dags")
    assert main(["plan"]) == 0
