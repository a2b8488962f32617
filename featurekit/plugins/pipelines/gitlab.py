"""Writes a pipeline as one of GitLab CI/CD: a job for each step, which waits for those it needs."""

from __future__ import annotations

import shlex
from typing import Any

from featurekit.plugins.pipelines.export import (
    Exported,
    joined,
    no_catchup,
    unshared,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, step_line
from featurekit.plugins.pipelines.yaml_text import yaml_text

_MOST_RETRIES = 2
_AGAIN = [2, 70, 124, 130, 137, 143]
"""Exit codes of featurekit after which another try may say something else: an error, a bug, and
what stopped it."""


def export(pipeline: Pipeline) -> Exported:
    """A pipeline that a schedule of GitLab, or a person, starts."""
    return Exported(
        {".gitlab-ci.yml": yaml_text(written_by("gitlab"), _document(pipeline))},
        _notes(pipeline),
        ("git add .gitlab-ci.yml",),
    )


def _document(pipeline: Pipeline) -> dict[str, Any]:
    document: dict[str, Any] = {
        "workflow": {
            "rules": [
                {"if": f'$CI_PIPELINE_SOURCE == "{source}"'}
                for source in ("schedule", "web", "api", "trigger")
            ]
        },
        "stages": [pipeline.name],
    }
    if pipeline.image is not None:
        document["default"] = {"image": {"name": pipeline.image, "entrypoint": [""]}}
    variables = {name: value.replace("$", "$$") for name, value in pipeline.env.items()}
    if pipeline.asks_end:
        variables[VARIABLE] = "$CI_PIPELINE_CREATED_AT"
    if variables:
        document["variables"] = variables
    for step in pipeline.steps:
        document[_job_name(step)] = _job(step, pipeline)
    return document


_WORDS = ("default", "image", "include", "pages", "services", "stages", "spec", "variables",
          "workflow", "cache", "types")  # fmt: skip


def _job_name(step: Step) -> str:
    """The name of a step's job, which is none of GitLab's own words."""
    return f"step-{step.name}" if step.name in _WORDS else step.name


def _job(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    names = {one.name: _job_name(one) for one in pipeline.steps}
    script = [] if pipeline.repo == "." else [f"cd {shlex.quote(pipeline.repo)}"]
    if pipeline.image is None:
        script.append("python3 -m pip install --requirement requirements.txt")
    made: dict[str, Any] = {
        "stage": pipeline.name,
        "needs": [names[need] for need in step.needs],
        "resource_group": f"{pipeline.name}-{step.name}",
        "script": [*script, step_line(step)],
    }
    if step.timeout_s is not None:
        made["timeout"] = f"{step.timeout_s} seconds"
    if step.go_on:
        made["allow_failure"] = {"exit_codes": list(step.go_on)}
    if step.retries:
        retry: dict[str, Any] = {"max": min(step.retries, _MOST_RETRIES)}
        codes = [code for code in _AGAIN if code not in step.go_on]
        retry |= {"exit_codes": codes} if step.final else {"when": "script_failure"}
        made["retry"] = retry
    return made


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    at = f"{pipeline.schedule} in {pipeline.timezone}"
    many = [step.name for step in pipeline.steps if step.retries > _MOST_RETRIES]
    again = [step.name for step in pipeline.steps if step.retries and step.go_on and not step.final]
    return joined(
        [
            [f"the schedule is set in GitLab, under Build > Pipeline schedules: {at}"]
            * (pipeline.schedule is not None),
            [f"GitLab tries a job {_MOST_RETRIES} times more at most, and {', '.join(many)} "
             "more often"] * bool(many),
            [f"{', '.join(again)}: tried again after the exit codes of go_on, too"] * bool(again),
            [f"{', '.join(pipeline.secrets)}: make masked variables of these names in GitLab, "
             "under Settings > CI/CD > Variables"] * bool(pipeline.secrets),
            ["jobs share no folder: what a step leaves for a later one is lost without "
             "`artifacts:` or a runner that keeps it"],
            no_catchup(pipeline, f"start a pipeline by hand, with the variable {VARIABLE}"),
            unshared(pipeline, "a job of GitLab begins with an empty disk; keep the registry in "
                     "PostgreSQL, and Redis where the runner can reach it"),
        ]
    )  # fmt: skip
