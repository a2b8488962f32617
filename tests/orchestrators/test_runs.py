"""One pipeline, run by the tools that run on one machine: Airflow, Dagster, Prefect, GitHub Actions
by `act`, GitLab CI/CD by `gitlab-ci-local`. Each runs the steps in an order that their needs allow,
with the same instant, gives odd values through, tries again what may be, and stops what has to.
"""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.orchestrators.described import (
    BROKEN,
    GOOD,
    ODD_TO_RUN,
    break_contract,
    repo_for,
    trace,
)
from tests.orchestrators.environments import node, program

Env = dict[str, str]
_PATIENCE_S = 900


def export(tool: str, repo: Path, env: Env, folder: Path) -> list[Path]:
    """The files of a tool, by the command line."""
    command = ["featurekit", "pipeline", "export", "--to", tool, "-o", str(folder)]
    quiet = {**env, "TRACE": os.devnull}
    subprocess.run(command, cwd=repo, env=quiet, check=True, capture_output=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def run(command: list[str], cwd: Path, env: Env) -> bool:
    """Whether a command ended with 0; what it said is shown where the test fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    print(done.stdout[-30_000:], done.stderr[-10_000:])
    return done.returncode == 0


def committed(repo: Path, env: Env) -> None:
    """The repo as one of git, which these tools ask for."""
    for words in (["init", "-q"], ["remote", "add", "origin", "git@gitlab.example:shop/repo.git"],
                  ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit",
                                  "-qm", "all"]):  # fmt: skip
        subprocess.run(["git", *words], cwd=repo, env=env, check=True)


def airflow(repo: Path, env: Env, folder: Path) -> bool:
    command = program("airflow", "airflow")
    export("airflow", repo, env, folder / "dags")
    env = {
        **env,
        "PATH": f"{env['PATH']}:{Path(command).parent}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
    }
    assert run([command, "db", "migrate"], folder, env)
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    at = yesterday.isoformat(timespec="seconds")
    return run([command, "dags", "test", "shop", at], folder, env)


def dagster(repo: Path, env: Env, folder: Path) -> bool:
    command = program("dagster", "dagster")
    (module,) = export("dagster", repo, env, folder / "dagster")
    home = folder / "home"
    home.mkdir()
    env = {**env, "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "true"}
    return run([command, "job", "execute", "-f", str(module), "-j", "shop"], folder, env)


def prefect(repo: Path, env: Env, folder: Path) -> bool:
    python = program("prefect", "python")
    modules = export("prefect", repo, env, folder / "prefect")
    (module,) = (path for path in modules if path.suffix == ".py")
    env = {**env, "PREFECT_HOME": str(folder / "home"), "DO_NOT_TRACK": "1"}
    env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"  # 20 are few on a busy machine
    return run([python, str(module)], folder, env)


def github(repo: Path, env: Env, folder: Path) -> bool:
    """By act, on this machine in the place of a container. actions/checkout is act's own; what sets
    Python up cannot be fetched, so an action that does nothing stands for it."""
    command = program("tools", "act")
    export("github", repo, env, repo)
    committed(repo, env)
    stand_in = folder / "setup-python"
    stand_in.mkdir()
    (stand_in / "action.yml").write_text(
        "name: none\ndescription: none\ninputs: {python-version: {required: false}}\n"
        "runs: {using: composite, steps: [{run: 'true', shell: sh}]}\n"
    )
    given = ["--env", f"TRACE={env['TRACE']}"]
    given += ["--env", f"FEATUREKIT_REDIS_URL={env['FEATUREKIT_REDIS_URL']}"]
    words = ["workflow_dispatch", "-P", "ubuntu-latest=-self-hosted", "--action-offline-mode"]
    words += ["--local-repository", f"actions/setup-python@v5={stand_in}", *given]
    return run([command, *words], repo, {**env, "XDG_CACHE_HOME": str(folder / "cache")})


def gitlab(repo: Path, env: Env, folder: Path) -> bool:
    """By gitlab-ci-local, in a shell of this machine in the place of a container."""
    command = node("gitlab-ci-local")
    export("gitlab", repo, env, repo)
    committed(repo, env)
    words = ["--cwd", ".", "--force-shell-executor", "--no-shell-isolation"]
    words += ["--ignore-predefined-vars", "CI_PIPELINE_SOURCE"]
    return run([*command, *words, "--variable", "CI_PIPELINE_SOURCE=web"], repo, env)


RUNNERS: dict[str, Callable[[Path, Env, Path], bool]] = {
    "airflow": airflow,
    "dagster": dagster,
    "prefect": prefect,
    "github": github,
    "gitlab": gitlab,
}

NO_RETRY = ("gitlab",)
"""gitlab-ci-local reads `retry`, and tries no job again."""


def notes(env: Env) -> dict[str, list[str]]:
    """What each step that notes itself was told, by its name; of the last try."""
    return {words[1]: words[2:] for words in trace(env) if words[0] == "note"}


@pytest.mark.parametrize("tool", RUNNERS)
def test_a_pipeline_runs(tool: str, tmp_path: Path, redis_url: str) -> None:
    repo, env = repo_for(tmp_path, GOOD, redis_url)
    if tool in NO_RETRY:
        (repo / "again.mark").touch()  # as after a first try
    assert RUNNERS[tool](repo, env, tmp_path)
    ran = trace(env)
    verbs = [words[1].split()[0] for words in ran if words[0] == "featurekit"]
    assert sorted(verbs) == ["apply", "get-historical", "materialize", "parity", "validate"]
    assert verbs[:2] == ["validate", "apply"]
    assert verbs.index("materialize") < min(verbs.index(v) for v in ("parity", "get-historical"))
    assert ran[-1][1] == "train"
    # A step that failed was tried again, and one that may end with 3 was not.
    steps = [words[1] for words in ran if words[0] == "note"]
    tries = 1 if tool in NO_RETRY else 2
    assert sorted(steps) == [*["again"] * tries, "other", "train"]
    told = notes(env)
    end = told["train"][0]
    assert dt.datetime.fromisoformat(end).tzinfo is not None
    assert told["other"][0] == f"{end} a$b"
    commands = {words[1] for words in ran if words[0] == "featurekit"}
    assert f"materialize --incremental --end {end}" in commands
    assert f"get-historical checkout labels.csv -o train.parquet --known-at {end}" in commands
    assert {words[-1] for words in told.values()} == {ODD_TO_RUN}
    if tool != "github":  # act works in a copy, which it removes
        assert (repo / "train.parquet.manifest.json").is_file()


@pytest.mark.parametrize("tool", RUNNERS)
def test_a_broken_contract_stops_what_needs_it(tool: str, tmp_path: Path, redis_url: str) -> None:
    """featurekit's 3 is not tried again, though two more tries are allowed; what does not need the
    step runs."""
    repo, env = repo_for(tmp_path, BROKEN, redis_url)
    break_contract(repo)
    assert not RUNNERS[tool](repo, env, tmp_path)
    ran = sorted("|".join(words[:2]) for words in trace(env))
    assert ran == ["featurekit|validate", "note|alone"]
