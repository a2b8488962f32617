"""What a pipeline may say, what is told of mistakes in it, and what every exporter makes of it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from featurekit.errors import ConfigError
from featurekit.plugins.pipelines.export import TOOLS, in_sequence
from featurekit.plugins.pipelines.pipeline import FINAL, Pipeline, pipeline_of
from featurekit.plugins.pipelines.words import step_script
from featurekit.project.config import load_config
from tests.orchestrators.described import FULL, IMAGE, described, exported, full, written

WITH_IMAGE = ("kubeflow", "argo", "sagemaker", "vertex")

# --- settings -------------------------------------------------------------------------------------

STEP = "{name: validate, run: validate}"
FAULTS = {
    "schedule: daily": 'has the five fields of cron.*write schedule: "10 3',
    "schedule: '61 3 * * *'": "its minute is from 0 to 59",
    "schedule: '1 3 * * 5-1'": "its day of the week is from 0 to 7",
    "schedule: '*/0 3 * * *'": "its minute is from",
    "schedule: '1 3 * FEBR *'": "its month is from 1 to 12",
    "timezone: Mars": "'Mars' is not a time zone",
    "start: yesterday": "is a day, as in 2026-01-01",
    "start: '2026-02-30'": "is a day; write start",
    "image: 'a b'": "is the name of an image",
    "name: Shop": "is of small letters, digits and dashes",
    "retries: 11": "less than or equal to 10, found 11",
    "timeout: soon": "'soon' is not a duration",
    "env: {'a b': c}": "names of variables of the environment; write env",
    "env: {A: 1}": "is a text, found 1",
    "secrets: ['p4ssw0rd!']": "names of variables of the environment; write secrets",
    "{secrets: [A], env: {A: b}}": "A stands under env and secrets",
    "volumes: {state: here}": "are names with absolute paths",
    "steps: []": "has no step",
    "steps: [{name: a}]": "takes either run or command",
    "steps: [{name: a, run: validate, command: b}]": "takes either run or command",
    "steps: [{name: a, run: ''}]": "has no word",
    "steps: [{name: a, command: 'b \"c'}]": "No closing quotation",
    "steps: [{name: a, run: featurekit validate}]": "leave that word out",
    "steps: [{name: a_b, run: validate}]": "is of small letters, digits and dashes",
    "steps: [{name: a, run: validate, go_on: [0]}]": "are exit codes from 1 to 255",
    "steps: [{name: a, run: validate, timeout: 0s}]": "must be positive|longer than",
    "steps: [{name: a, run: validate, retry: 1}]": "no such setting; did you mean 'retries'",
    f"steps: [{STEP}, {STEP}]": "two steps are named validate",
    "steps: [{name: a, run: validate, needs: [b]}]": "needs 'b', and there is no such step",
    "steps: [{name: a, run: validate, needs: [a]}]": "needs a, which stands at the same place",
    f"steps: [{{name: a, run: apply, needs: [validate]}}, {STEP}]": "which stands below it",
    "stepz: []": "no such setting; did you mean 'steps'",
}


def settings(folder: Path, text: str) -> Path:
    """A repo whose pipeline is described so."""
    pipeline = text if text.startswith("{") else f"{{{text}}}"
    whole = f"project: shop\nfeaturekit:\n  pipeline: {pipeline}\n"
    (folder / "feature_store.yaml").write_text(whole, encoding="utf-8")
    return folder


@pytest.mark.parametrize("text", FAULTS)
def test_a_mistake_is_explained_on_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=FAULTS[text]) as raised:
        load_config(settings(tmp_path, text))
    assert re.search(r"feature_store\.yaml:3: featurekit\.pipeline", str(raised.value))
    assert "p4ssw0rd" not in str(raised.value)


def test_a_fault_of_a_step_names_the_line_of_the_step(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(
        "project: shop\nfeaturekit:\n  pipeline:\n    steps:\n    - {name: a, run: apply}\n"
        "    - name: b\n      run: apply\n      retries: many\n"
    )
    with pytest.raises(ConfigError, match=r"yaml:8: featurekit\.pipeline\.steps\.1\.retries: is a"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "schedule", ["* * * * *", "*/5 0-6,12 1 jan-MAR,11 mon-FRI", "0 0 31 12 7"]
)
def test_a_schedule_of_cron_is_taken(schedule: str) -> None:
    assert described(f"schedule: '{schedule}'").schedule == schedule


def test_the_pipeline_without_settings() -> None:
    found = pipeline_of(None, "My_Shop")
    assert found.name == "my-shop"
    assert [step.name for step in found.steps] == ["validate", "apply", "materialize", "parity"]
    assert [step.needs for step in found.steps] == [(), *((s.name,) for s in found.steps[:-1])]
    assert all(step.final == FINAL for step in found.steps)
    assert (found.repo, found.schedule, found.image) == (".", None, None)


def test_what_a_step_does_not_say_is_the_pipelines() -> None:
    steps = {step.name: step for step in full().steps}
    assert (steps["validate"].retries, steps["validate"].timeout_s) == (2, 3600)
    assert (steps["parity"].retries, steps["training-set"].timeout_s) == (0, 90)
    assert steps["train"].words == ("python", "train.py", "a b", "--end={end}")
    assert steps["train"].final == ()
    assert steps["apply"].needs == ()


# --- scripts --------------------------------------------------------------------------------------

ONE = "steps: [{{name: a, {kind}: {command}, retries: {retries}, go_on: {go_on}, timeout: 5s}}]"


def tries(folder: Path, shell: str, kind: str, code: int, **how: Any) -> tuple[int, int]:
    """The exit code of a step's script, and how often its command ran, which ends with `code`."""
    name = "featurekit" if kind == "run" else "other"
    command = folder / name
    command.write_text(f"#!/bin/sh\necho \"$@\" >>'{folder}/tried'\nexit {code}\n")
    command.chmod(0o755)
    (folder / "tried").write_text("")
    text = ONE.format(kind=kind, command="apply" if kind == "run" else "other", **how)
    (step,) = described(text).steps
    script = step_script(step, stops=True)
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run([*shell.split(), script], env=env, check=False)
    return done.returncode, len((folder / "tried").read_text().splitlines())


@pytest.mark.parametrize("shell", ["sh -ec", "bash -eo pipefail -c"])
@pytest.mark.parametrize(
    ("kind", "code", "retries", "go_on", "found"),
    [
        ("run", 0, 0, [], (0, 1)),
        ("run", 0, 2, [], (0, 1)),
        ("run", 2, 0, [], (2, 1)),
        ("run", 2, 2, [], (2, 3)),
        ("run", 3, 2, [], (3, 1)),
        ("run", 1, 2, [], (1, 1)),
        ("run", 64, 2, [], (64, 1)),
        ("run", 1, 2, [1], (0, 1)),
        ("run", 2, 0, [1], (2, 1)),
        ("command", 1, 2, [], (1, 3)),
        ("command", 7, 1, [8, 7], (0, 1)),
    ],
)
def test_a_script_tries_again_what_may_change(
    tmp_path: Path, shell: str, kind: str, code: int, retries: int, go_on: list[int],
    found: tuple[int, int],
) -> None:  # fmt: skip
    assert tries(tmp_path, shell, kind, code, retries=retries, go_on=go_on) == found


def test_a_script_stops_what_takes_too_long(tmp_path: Path) -> None:
    (step,) = described("steps: [{name: a, command: sleep 60, timeout: 1s}]").steps
    done = subprocess.run(["sh", "-ec", step_script(step, stops=True)], check=False)
    assert done.returncode == 124


@pytest.mark.parametrize(
    "word", ["a b", "$HOME", "'", '"', "`x`", "\\n", "*", "", "{end}", "a'{end}$b"]
)
def test_a_word_comes_through_a_shell(tmp_path: Path, word: str) -> None:
    import shlex

    text = f"steps: [{{name: a, command: {json.dumps(f'printf %s {shlex.quote(word)}')}}}]"
    (step,) = described(text).steps
    script = f"FEATUREKIT_END='2026-01-01 x'\n{step_script(step)}"
    done = subprocess.run(["sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == word.replace("{end}", "2026-01-01 x")


# --- what is written ------------------------------------------------------------------------------


def of_yaml(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def argo_needs(text: str) -> dict[str, list[str]]:
    (template,) = of_yaml(text)
    (dag,) = (one["dag"] for one in template["spec"]["templates"] if "dag" in one)
    return {task["name"]: task.get("dependencies", []) for task in dag["tasks"]}


def spec_needs(text: str) -> dict[str, list[str]]:
    tasks = of_yaml(text)[0]["root"]["dag"]["tasks"]
    return {name: task.get("dependentTasks", []) for name, task in tasks.items()}


def sagemaker_needs(text: str) -> dict[str, list[str]]:
    return {step["Name"]: step.get("DependsOn", []) for step in json.loads(text)["Steps"]}


def gitlab_needs(text: str) -> dict[str, list[str]]:
    (document,) = of_yaml(text)
    return {
        n: job["needs"] for n, job in document.items() if isinstance(job, dict) and "script" in job
    }


def github_needs(text: str) -> dict[str, list[str]]:
    """A step without an `if` waits for all above it."""
    (document,) = of_yaml(text)
    found: dict[str, list[str]] = {}
    for step in document["jobs"]["shop-features"]["steps"]:
        if "id" in step:
            waits = re.findall(r"steps\.([\w-]+)\.outcome", step.get("if", ""))
            found[step["id"]] = waits if "if" in step else list(found)
    return found


def airflow_needs(text: str) -> dict[str, list[str]]:
    tasks = {m[1]: m[2] for m in re.finditer(r'(step_\w+) = \w+\(\s+task_id="([\w-]+)"', text)}
    found: dict[str, list[str]] = {name: [] for name in tasks.values()}
    for above, below in re.findall(r"^    (.+) >> (step_\w+)$", text, re.M):
        found[tasks[below]] = [tasks[one] for one in re.findall(r"step_\w+", above)]
    return found


def dagster_needs(text: str) -> dict[str, list[str]]:
    calls = re.findall(r'    done\["([\w-]+)"\] = step_\w+\((.*)\)', text)
    return {name: re.findall(r'done\["([\w-]+)"\]', given) for name, given in calls}


def prefect_needs(text: str) -> dict[str, list[str]]:
    return dagster_needs(text.replace(".submit(", "("))


def jenkins_needs(text: str) -> dict[str, list[str]]:
    """Stages follow one another."""
    found: dict[str, list[str]] = {}
    for name in re.findall(r'stage\("([\w-]+)"\)', text):
        found[name] = list(found)
    return found


NEEDS: dict[str, Callable[[str], dict[str, list[str]]]] = {
    "airflow": airflow_needs,
    "kubeflow": spec_needs,
    "argo": argo_needs,
    "sagemaker": sagemaker_needs,
    "vertex": spec_needs,
    "github": github_needs,
    "gitlab": gitlab_needs,
    "jenkins": jenkins_needs,
    "dagster": dagster_needs,
    "prefect": prefect_needs,
}


def above(needs: dict[str, list[str]]) -> dict[str, set[str]]:
    """What each step waits for, at last."""
    found: dict[str, set[str]] = {}
    for name, wanted in needs.items():
        found[name] = set(wanted).union(*(found[one] for one in wanted))
    return found


@pytest.mark.parametrize("tool", TOOLS)
def test_each_step_is_there_and_waits_for_what_it_needs(tool: str) -> None:
    made = exported(tool, full())
    main_file = next(iter(made.files.values()))
    wanted = above({step.name: list(step.needs) for step in full().steps})
    found = above(NEEDS[tool](main_file))
    assert list(found) == list(wanted)
    assert all(found[name] >= wanted[name] for name in wanted)
    if found != wanted:  # the tool cannot say it, and that is told
        assert tool == "jenkins"
        assert any("also before stages that do not need what failed" in n for n in made.notes)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_not_in_the_files_is_told(tool: str) -> None:
    """Nothing of the description is lost in silence."""
    made = exported(tool, full())
    told = "\n".join((*made.files.values(), *made.notes))
    for part in ("10 3 * * MON-FRI", "Europe/London", "FEATUREKIT_REDIS_URL", "featurekit-state"):
        assert part in told, part
    assert "catchup" in told
    assert "SHOP_ODD" in told
    texts = "\n".join(made.files.values())
    for word in ("training-set", "--known-at", "a b", "--budget", "featurekit"):
        assert word in texts
    assert all(name.startswith(("featurekit", "shop")) or "/" in name or name[0] in ".Jp"
               for name in made.files)  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_a_small_pipeline_is_written_for_every_tool(tool: str) -> None:
    """The pipeline of a repo without settings, in an image where the tool needs one."""
    pipeline = described(f"image: {IMAGE}" if tool in WITH_IMAGE else "{}")
    made = exported(tool, pipeline)
    assert made.files
    assert not [note for note in made.notes if "None" in note]
    for name, text in made.files.items():
        if name.endswith(".py"):
            ast.parse(text)
        elif name.endswith(".json"):
            json.loads(text)
        elif name.endswith((".yaml", ".yml")):
            assert of_yaml(text)


@pytest.mark.parametrize("tool", WITH_IMAGE)
def test_a_tool_of_containers_asks_for_an_image(tool: str) -> None:
    with pytest.raises(ConfigError, match=f"{tool} runs steps in containers, and .* write image: "):
        exported(tool, pipeline_of(None, "shop"))


@pytest.mark.parametrize("tool", TOOLS)
def test_no_secret_is_more_than_a_name(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", "redis://:p4ssw0rd@here/0")
    made = exported(tool, full())
    assert "p4ssw0rd" not in "".join((*made.files.values(), *made.notes, *made.commands))


def test_steps_in_sequence_are_known() -> None:
    assert in_sequence(pipeline_of(None, "shop"))
    assert not in_sequence(full())


def test_files_are_written_again_and_those_of_others_are_kept(tmp_path: Path) -> None:
    pipeline: Pipeline = full()
    (path,) = written("gitlab", pipeline, tmp_path)
    before = path.read_bytes()
    path.write_text(before.decode() + "# more\n")
    written("gitlab", pipeline, tmp_path)
    assert path.read_bytes() == before
    path.write_text("stages: [mine]\n")
    with pytest.raises(ConfigError, match=r"gitlab-ci\.yml is there already, and .* move it away"):
        written("gitlab", pipeline, tmp_path)
    assert path.read_text() == "stages: [mine]\n"
    shutil.rmtree(tmp_path)
    tmp_path.write_text("a file")
    with pytest.raises(ConfigError, match="-o "):
        written("argo", pipeline, tmp_path / "below")


def test_the_description_of_the_docs_is_that_of_the_tests() -> None:
    """FULL has every setting, so that each exporter is asked about all of them."""
    from featurekit.project.pipeline_settings import PipelineConfig, StepConfig

    text = yaml.safe_load(FULL)
    left = set(PipelineConfig.model_fields) - set(text)
    assert left == {"repo", "start"}
    steps = {key for step in text["steps"] for key in step}
    assert set(StepConfig.model_fields) == steps
