"""`featurekit parity --feast`: its reports, exit codes and errors, and that it writes nothing."""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, Repo
from test_parity_of_feast import rows

from featurekit.cli import main
from featurekit.errors import SourceError

pytestmark = pytest.mark.filterwarnings("ignore")
MakeRepo = Callable[..., Repo]
SQLITE = ("dask", "sqlite")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code of a command line, and what it prints."""
    capsys.readouterr()
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def filled(repo: Repo, days: float = 1, **columns: Any) -> Repo:
    """A view v of one Int64 with a ttl of three days, and one w without, materialised."""
    from feast.types import Int64

    table = rows(key=[1, 2], at=[NOW - days * DAY] * 2, x=[5, 7])
    repo.view("v", table, {"x": Int64}, ttl=3 * DAY)
    repo.view("w", rows(key=[1], at=[NOW - DAY], y=[1]), {"y": Int64})
    repo.materialize()
    repo.write_settings()
    return repo


@pytest.fixture
def quiet(make_repo: MakeRepo) -> Repo:
    """A repo without a difference."""
    return filled(make_repo(ours=False, own=SQLITE))


@pytest.fixture
def stale(make_repo: MakeRepo) -> Repo:
    """A repo whose rows of v are older than its ttl."""
    return filled(make_repo(ours=False, own=SQLITE), days=10)


def test_a_repo_that_agrees_ends_with_0(quiet: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "parity", "--feast", str(quiet.folder))
    assert code == 0
    assert out.count("every bit agrees") == 2


@pytest.mark.parametrize(
    "words", [["--feast={}"], ["feast", "--feast", "{}"], ["--seed", "3", "--feast", "{}"]]
)
def test_the_option_names_the_mode(
    quiet: Repo, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    asked = [word.format(quiet.folder) for word in words]
    code, out, _ = run(capsys, "parity", *asked)
    assert code == 0
    assert "v, feast, seed" in out


def test_a_difference_ends_with_1_and_is_in_every_report(
    stale: Repo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page, junit = tmp_path / "r.html", tmp_path / "r.xml"
    files = ["--html", str(page), "--junit", str(junit)]
    code, out, _ = run(capsys, "parity", "--feast", str(stale.folder), *files)
    assert code == 1
    assert "cause    ttl: " in out
    assert "ttl" in page.read_text()
    suites = {suite.get("name"): suite for suite in ET.parse(junit).getroot()}
    assert suites["parity.v"].get("failures") == "1"
    assert suites["parity.w"].get("failures") == "0"
    [failure] = suites["parity.v"].findall("testcase/failure")
    assert "likely cause: ttl" in (failure.get("message") or "")


def test_a_program_gets_the_causes(stale: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "parity", "--feast", str(stale.folder), "--view", "v", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    [service] = found["services"]
    [cause] = service["causes"]
    assert (cause["feature"], cause["cause"], cause["values"]) == ("v:x", "ttl", 4)
    assert service["differences"][0]["diagnosis"]["cause"] == "ttl"
    command = ["parity", "--feast", str(stale.folder), "--view", "v", "--json", "--rows", "1"]
    [service] = json.loads(run(capsys, *command)[1])["services"]
    assert [cause["values"] for cause in service["causes"]] == [2]


def test_the_seed_and_the_number_of_rows_choose_the_entities(
    quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str) -> int:
        command = ["parity", "--feast", str(quiet.folder), "--view", "v", "--json", *words]
        return int(json.loads(run(capsys, *command)[1])["services"][0]["rows"])

    assert asked() == 4
    assert asked("--rows", "1") == 2


@pytest.mark.parametrize("registry", ["file", "sql"])
@pytest.mark.parametrize("own", [SQLITE, ("duckdb", "redis")], ids=str)
def test_a_check_writes_nothing(
    make_repo: MakeRepo, capsys: pytest.CaptureFixture[str], redis_url: str, own: Any, registry: str
) -> None:
    from redis import Redis

    repo = filled(make_repo(ours=False, own=own), days=10)
    if registry == "sql":
        _to_sql(repo)
    client = Redis.from_url(redis_url)

    def state() -> Any:
        files = {p.name: p.read_bytes() for p in repo.folder.iterdir() if p.is_file()}
        keys = sorted(client.keys("*"))
        return files, {key: (client.dump(key), client.pttl(key)) for key in keys}

    before = state()
    assert before[1] or own == SQLITE
    code, _, _ = run(capsys, "parity", "--feast", str(repo.folder), "--statuses")
    assert code == 1
    assert state() == before


def _to_sql(repo: Repo) -> None:
    """Put the registry of a repo into a database."""
    from feast import FeatureStore

    path = repo.folder / "feature_store.yaml"
    settings = yaml.safe_load(path.read_text())
    place = f"sqlite:///{repo.folder}/registry.sqlite"
    settings["registry"] = {"registry_type": "sql", "path": place}
    path.write_text(yaml.safe_dump(settings))
    views = repo.store.list_feature_views()
    FeatureStore(repo_path=str(repo.folder)).apply([repo.key, *views])


def test_a_test_holds_a_repo_to_parity(quiet: Repo, stale: Repo) -> None:
    from featurekit.plugins.feast import Asked, assert_feast_parity
    from featurekit.testing import ParityError

    assert_feast_parity(quiet.folder)
    assert_feast_parity(stale.folder, Asked(views=["w"]))
    with pytest.raises(ParityError, match="cause    ttl: ") as raised:
        assert_feast_parity(stale.folder)
    assert "4 of 6 values differ" in str(raised.value)
    (quiet.folder / "v.parquet").unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        assert_feast_parity(quiet.folder)


# --- errors ---------------------------------------------------------------------------------------


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is said where a check could not be made."""
    code, _, err = run(capsys, "parity", *words)
    assert code == 2, err
    assert err.startswith("featurekit: error: "), err
    assert "Traceback" not in err
    return err


def test_a_folder_that_is_no_repo_is_named(
    quiet: Repo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "there is no folder" in failed(capsys, "--feast", str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no feature_store.yaml" in failed(capsys, "--feast", str(empty))
    (empty / "feature_repo").mkdir()
    (empty / "feature_repo" / "feature_store.yaml").write_text("project: a\n")
    assert f"write --feast {empty}/feature_repo" in failed(capsys, "--feast", str(empty))


def test_settings_that_feast_cannot_read_are_told(
    quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    (quiet.folder / "feature_store.yaml").write_text("project: a\nregistry: [\n")
    assert "Feast cannot read it" in failed(capsys, "--feast", str(quiet.folder))


def test_a_repo_that_was_not_applied_says_so(
    quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    (quiet.folder / "registry.db").unlink()
    assert "run `feast apply`" in failed(capsys, "--feast", str(quiet.folder))
    assert not (quiet.folder / "registry.db").exists()


def test_a_database_without_the_project_says_so(
    quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    _to_sql(quiet)
    (quiet.folder / "registry.sqlite").unlink()
    assert "run `feast apply`" in failed(capsys, "--feast", str(quiet.folder))
    assert not (quiet.folder / "registry.sqlite").exists()
    sqlite3.connect(quiet.folder / "registry.sqlite").close()
    (quiet.folder / "registry.sqlite").touch()
    assert "has no project" in failed(capsys, "--feast", str(quiet.folder))
    assert (quiet.folder / "registry.sqlite").read_bytes() == b""


def test_an_online_store_that_is_away_is_told(
    make_repo: MakeRepo, quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    (quiet.folder / "online.db").unlink()
    assert "there is no online store" in failed(capsys, "--feast", str(quiet.folder))
    assert not (quiet.folder / "online.db").exists()
    repo = filled(make_repo(ours=False))
    path = repo.folder / "feature_store.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["online_store"]["connection_string"] = "localhost:1"
    path.write_text(yaml.safe_dump(settings))
    said = failed(capsys, "--feast", str(repo.folder))
    assert "online store redis" in said
    assert "start it" in said


def test_a_view_that_was_not_materialised_is_named(
    make_repo: MakeRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    from feast.types import Int64

    repo = make_repo(ours=False)
    repo.view("v", rows(key=[1], at=[NOW - DAY], x=[1]), {"x": Int64})
    repo.write_settings()
    code, out, err = run(capsys, "parity", "--feast", str(repo.folder))
    assert code == 2
    assert "rows of v, which was not materialised" in out
    assert "nothing could be compared for v" in err


def test_names_that_the_repo_does_not_have_are_told(
    quiet: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failed(capsys, "--feast", str(quiet.folder), "--view", "vv")
    assert "has no view 'vv'" in said
    said = failed(capsys, "--feast", str(quiet.folder), "--service", "s")
    assert "has no feature service 's'" in said


def test_a_file_of_entities_that_does_not_fit_is_told(
    quiet: Repo, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "entities.csv"
    words = ["--feast", str(quiet.folder), "--entities", str(path)]
    assert "there is no file" in failed(capsys, *words)
    path.write_text("other\n1\n")
    assert "takes the column 'key'" in failed(capsys, *words)
    path.write_text("key\n")
    assert "has no rows" in failed(capsys, *words)


def test_a_source_that_is_gone_is_told(quiet: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    (quiet.folder / "v.parquet").unlink()
    said = failed(capsys, "--feast", str(quiet.folder))
    assert "view 'v': its source 'v_source' cannot be read" in said


def test_the_repo_is_named_once(quiet: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "parity", "--feast", str(quiet.folder), "--repo", ".")
    assert code == 64
    assert "write one of --feast and --repo" in err
