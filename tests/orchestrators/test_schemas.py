"""What is written is what each tool's own SDK, model or schema says: for two pipelines, one of them
with all that can be described."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from featurekit.plugins.pipelines.kubernetes import literal
from featurekit.plugins.pipelines.pipeline import Pipeline
from featurekit.plugins.pipelines.words import step_script
from tests.orchestrators.described import IMAGE, described, full, written
from tests.orchestrators.environments import groovy, program

CHECKS = Path(__file__).parent / "checks"
PIPELINES = {"full": full, "default": lambda: described(f"image: {IMAGE}")}


def told(command: list[str], cwd: Path, **env: str) -> str:
    """What a command prints; the test fails with what it says where it does."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-8000:]}"
    return done.stdout


def check(tool: str, environment: str, paths: list[Path], cwd: Path, **env: str) -> str:
    """Run the check of a tool in its environment."""
    python = program(environment, "python")
    names = [str(path) for path in paths]
    return told([python, "-P", "-W", "ignore", str(CHECKS / f"{tool}.py"), *names], cwd, **env)


@pytest.fixture(params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    """Each pipeline in turn."""
    return PIPELINES[request.param]()


CHECKED = {"argo": "tools", "kubeflow": "kfp", "vertex": "kfp", "sagemaker": "sagemaker"}


@pytest.mark.parametrize("tool", CHECKED)
def test_a_tool_s_own_models_have_the_same(tool: str, pipeline: Pipeline, tmp_path: Path) -> None:
    check(tool, CHECKED[tool], written(tool, pipeline, tmp_path), tmp_path)


@pytest.mark.parametrize(("tool", "schema"), [("github", "github-workflows"),
                                              ("gitlab", "gitlab-ci")])  # fmt: skip
def test_a_published_schema_allows_it(
    tool: str, schema: str, pipeline: Pipeline, tmp_path: Path
) -> None:
    (path,) = written(tool, pipeline, tmp_path)
    command = program("tools", "check-jsonschema")
    told([command, "--builtin-schema", f"vendor.{schema}", str(path)], tmp_path)


def test_actionlint_finds_nothing_in_a_workflow(pipeline: Pipeline, tmp_path: Path) -> None:
    (path,) = written("github", pipeline, tmp_path)
    told([program("tools", "actionlint"), str(path)], tmp_path)


def test_airflow_reads_a_dag_of_pods(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    written("airflow", pipeline, folder)
    env = {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    out = check("airflow", "airflow", [folder], tmp_path, **env)
    (found,) = json.loads(out.strip().splitlines()[-1]).values()
    assert found["tasks"] == {step.name: sorted(step.needs) for step in pipeline.steps}
    assert found["schedule"] == (pipeline.schedule or "None")
    for step in pipeline.steps:
        env, command = found["pods"][step.name]
        assert env == {name: literal(value) for name, value in pipeline.env.items()}
        assert literal(step_script(step)).rstrip() in command[2]


@pytest.mark.parametrize("tool", ["kubeflow", "argo", "sagemaker", "vertex"])
def test_a_fault_in_a_file_is_found(tool: str, tmp_path: Path) -> None:
    """The checks can fail: a word that the tool does not know, in a place where it reads."""
    (path, *_) = written(tool, full(), tmp_path)
    document = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    place = {
        "argo": lambda one: one["spec"]["templates"][1]["container"],
        "sagemaker": lambda one: one["Steps"][0]["Arguments"]["AppSpecification"],
    }.get(tool, lambda one: one["deploymentSpec"]["executors"]["exec-apply"]["container"])
    place(document[0])["entrypont"] = "sh"
    path.write_text(
        json.dumps(document[0])
        if path.suffix == ".json"
        else yaml.safe_dump_all(document, sort_keys=False)
    )
    with pytest.raises(AssertionError, match="entrypont"):
        check(tool, CHECKED[tool], [path], tmp_path)


def test_dagster_loads_the_definitions(pipeline: Pipeline, tmp_path: Path) -> None:
    out = check("dagster", "dagster", written("dagster", pipeline, tmp_path), tmp_path)
    found = json.loads(out.strip().splitlines()[-1])
    assert found["job"] == pipeline.identifier
    wanted = {f"step_{s.name}": sorted(f"step_{n}" for n in s.needs) for s in pipeline.steps}
    dashed = {n.replace("-", "_"): [m.replace("-", "_") for m in w] for n, w in wanted.items()}
    assert found["needs"] == dashed
    if pipeline.schedule is not None:
        assert found["schedule"] == [pipeline.schedule, pipeline.timezone]
        assert found["tags"]["featurekit/end"] == "2026-07-01T03:10:00+00:00"


def test_groovy_compiles_a_jenkinsfile(pipeline: Pipeline, tmp_path: Path) -> None:
    written("jenkins", pipeline, tmp_path)
    script = tmp_path / "compile.groovy"
    script.write_text(
        "def unit = new org.codehaus.groovy.control.CompilationUnit()\n"
        "unit.addSource(new File(args[0]))\n"
        "unit.compile(org.codehaus.groovy.control.Phases.CLASS_GENERATION)\n"
    )
    told([*groovy(), str(script), str(tmp_path / "Jenkinsfile")], tmp_path)
    broken = tmp_path / "Jenkinsfile"
    broken.write_text(broken.read_text(encoding="utf-8")[:-3])
    with pytest.raises(AssertionError, match="Jenkinsfile"):
        told([*groovy(), str(script), str(broken)], tmp_path)
