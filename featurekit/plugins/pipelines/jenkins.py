"""Writes a pipeline as a Jenkinsfile: stages that follow one another on one agent."""

from __future__ import annotations

import json

from featurekit.plugins.pipelines.export import (
    Exported,
    in_sequence,
    joined,
    no_catchup,
    unshared,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, step_script


def export(pipeline: Pipeline) -> Exported:
    """A Jenkinsfile, which a timer or a person starts."""
    lines = [f"// {written_by('jenkins')}", "pipeline {", *_indented(_body(pipeline)), "}"]
    text = "\n".join(lines) + "\n"
    return Exported({"Jenkinsfile": text}, _notes(pipeline), ("git add Jenkinsfile",))


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _block(head: str, lines: list[str]) -> list[str]:
    return [f"{head} {{", *_indented(lines), "}"]


def _body(pipeline: Pipeline) -> list[str]:
    agent = ["agent any"]
    if pipeline.image is not None:
        inside = [f"image {_text(pipeline.image)}", "args \"--entrypoint=''\""]
        agent = _block("agent", _block("docker", inside))
    made = [*agent, *_block("options", ["disableConcurrentBuilds()"])]
    if pipeline.schedule is not None:
        cron = f"TZ={pipeline.timezone}\n{pipeline.schedule}"
        made += _block("triggers", [f"cron({_text(cron)})"])
    if pipeline.asks_end:
        told = "the instant of the run, ISO 8601 (default: when it begins)"
        made += _block(
            "parameters",
            [f"string(name: 'END', defaultValue: '', description: {_text(told)})"],
        )
    environment = [f"{name} = {_text(value)}" for name, value in pipeline.env.items()]
    environment += [f"{name} = credentials({_text(name)})" for name in pipeline.secrets]
    if environment:
        made += _block("environment", environment)
    stages = _begin() if pipeline.asks_end else []
    for step in pipeline.steps:
        stages += _stage(step, pipeline)
    return made + _block("stages", stages)


def _begin() -> list[str]:
    now = "sh(script: 'date -u +%Y-%m-%dT%H:%M:%SZ', returnStdout: true).trim()"
    steps = _block("steps", _block("script", [f"env.{VARIABLE} = params.END ?: {now}"]))
    return _block("stage('begin')", steps)


def _stage(step: Step, pipeline: Pipeline) -> list[str]:
    inside: list[str] = []
    if step.timeout_s is not None:
        inside += _block("options", [f"timeout(time: {step.timeout_s}, unit: 'SECONDS')"])
    run = [f"sh {_text(step_script(step))}"]
    if pipeline.repo != ".":
        run = _block(f"dir({_text(pipeline.repo)})", run)
    return _block(f"stage({_text(step.name)})", inside + _block("steps", run))


def _text(text: str) -> str:
    """A text of Groovy, in which no $ is read: JSON's escapes are Groovy's, too."""
    return json.dumps(text, ensure_ascii=True).replace("$", "\\$")


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    branches = not in_sequence(pipeline)
    return joined(
        [
            ["stages follow one another, and a failure ends the run, also before stages that do "
             "not need what failed"] * branches,
            [f"{', '.join(pipeline.secrets)}: make secret texts with these ids in Jenkins's "
             "credentials"] * bool(pipeline.secrets),
            ["without an image, `featurekit` has to be on the agent's PATH"]
            * (pipeline.image is None),
            ["the image needs the Docker Pipeline plugin of Jenkins"]
            * (pipeline.image is not None),
            no_catchup(pipeline, "start a build by hand, with the instant as the parameter END"),
            unshared(pipeline, "name them as arguments of the agent, or keep the registry in "
                     "PostgreSQL"),
        ]
    )  # fmt: skip
