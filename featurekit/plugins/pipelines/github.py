"""Writes a pipeline as a workflow of GitHub Actions: one job, so that its steps share a folder."""

from __future__ import annotations

from typing import Any

from featurekit.plugins.pipelines.export import (
    Exported,
    joined,
    no_catchup,
    unshared,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, step_script
from featurekit.plugins.pipelines.yaml_text import yaml_text

_BEGIN = f'echo "{VARIABLE}=${{END:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}}" >>"$GITHUB_ENV"'


def export(pipeline: Pipeline) -> Exported:
    """A workflow that the schedule, or a person, starts."""
    name = f".github/workflows/{pipeline.name}.yml"
    return Exported(
        {name: yaml_text(written_by("github"), _workflow(pipeline))},
        _notes(pipeline),
        (f"git add {name}", f"gh workflow run {pipeline.name}.yml"),
    )


def _workflow(pipeline: Pipeline) -> dict[str, Any]:
    end = {
        "description": "the instant of the run, ISO 8601 (default: when it begins)",
        "type": "string",
        "default": "",
    }
    starts: dict[str, Any] = {}
    if pipeline.schedule is not None:
        starts["schedule"] = [{"cron": pipeline.schedule}]
    starts["workflow_dispatch"] = {"inputs": {"end": end}} if pipeline.asks_end else {}
    return {
        "name": pipeline.name,
        "on": starts,
        "permissions": {"contents": "read"},
        "concurrency": {"group": f"pipeline-{pipeline.name}", "cancel-in-progress": False},
        "jobs": {pipeline.name: _job(pipeline)},
    }


def _job(pipeline: Pipeline) -> dict[str, Any]:
    job: dict[str, Any] = {"runs-on": "ubuntu-latest"}
    if pipeline.image is not None:
        job["container"] = {"image": pipeline.image}
    job["defaults"] = {"run": {"shell": "sh -e {0}", "working-directory": pipeline.repo}}
    secrets = {name: f"${{{{ secrets.{name} }}}}" for name in pipeline.secrets}
    env = {name: _literal(value) for name, value in pipeline.env.items()}
    if env or secrets:
        job["env"] = {**env, **secrets}
    job["steps"] = [*_before(pipeline), *_steps(pipeline)]
    return job


def _before(pipeline: Pipeline) -> list[dict[str, Any]]:
    """What makes the machine ready, and fixes the instant of the run."""
    steps: list[dict[str, Any]] = []
    if pipeline.image is None:
        install = "python -m pip install --requirement requirements.txt"
        steps = [
            {"uses": "actions/checkout@v4"},
            {"uses": "actions/setup-python@v5", "with": {"python-version": "3.12"}},
            {"name": "install", "run": install},
        ]
    if pipeline.asks_end:
        steps.append({"name": "begin", "env": {"END": "${{ inputs.end }}"}, "run": _BEGIN})
    return steps


def _steps(pipeline: Pipeline) -> list[dict[str, Any]]:
    made = []
    above: dict[str, set[str]] = {}
    for step in pipeline.steps:
        waits = set(step.needs).union(*(above[need] for need in step.needs))
        made.append(_step(step, alone=waits != above.keys()))
        above[step.name] = waits
    return made


def _step(step: Step, *, alone: bool) -> dict[str, Any]:
    """A step. One that does not wait for all above it says for which it does; otherwise the failure
    of any of them would keep it from running."""
    made: dict[str, Any] = {"name": step.name, "id": step.name}
    if alone:
        done = [f"steps.{need}.outcome == 'success'" for need in step.needs]
        made["if"] = f"${{{{ {' && '.join(['!cancelled()', *done])} }}}}"
    if step.timeout_s is not None:
        made["timeout-minutes"] = -(-step.timeout_s // 60)
    made["run"] = _literal(step_script(step))
    return made


def _literal(text: str) -> str:
    """A text of which GitHub reads no part as an expression."""
    return text.replace("${{", "${{ '$' }}{{")


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    utc = pipeline.schedule is not None and pipeline.timezone != "UTC"
    return joined(
        [
            ["steps run one after another, in one job: they share its folder, and nothing else"],
            [f"the schedule is read in UTC, not in {pipeline.timezone}"] * utc,
            ["a run that is started again begins at another instant; give it the first one as "
             "the input `end`"] * pipeline.asks_end,
            no_catchup(pipeline, "start the workflow by hand, with the instant as the input `end`"),
            unshared(pipeline, "a job of GitHub begins with an empty disk; keep the registry in "
                     "PostgreSQL, and Redis where the job can reach it"),
        ]
    )  # fmt: skip
