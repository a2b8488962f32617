"""Turns a pipeline into the pipeline spec that Kubeflow Pipelines 2 and Vertex AI read."""

from __future__ import annotations

from shlex import quote
from typing import Any

from featurekit.core.version import VERSION
from featurekit.plugins.pipelines.export import image_of
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, is_plain, step_script

SCHEMA = "2.1.0"
CREATED = "{{$.pipeline_job_create_time_utc}}"
"""When the run was made: a task that is tried again has the same instant."""
_GIVEN = "{{$.inputs.parameters['end']}}"


def pipeline_spec(pipeline: Pipeline, tool: str) -> dict[str, Any]:
    """The spec: a component, an executor and a task for each step."""
    steps = pipeline.steps
    return {
        "components": {f"comp-{step.name}": _component(step) for step in steps},
        "deploymentSpec": {
            "executors": {executor(step): _executor(step, pipeline, tool) for step in steps}
        },
        "pipelineInfo": {"name": pipeline.name},
        "root": {"dag": {"tasks": {step.name: _task(step) for step in steps}}},
        "schemaVersion": SCHEMA,
        "sdkVersion": f"featurekit-{VERSION}",
    }


def executor(step: Step) -> str:
    """The name of a step's executor."""
    return f"exec-{step.name}"


def _component(step: Step) -> dict[str, Any]:
    made: dict[str, Any] = {"executorLabel": executor(step)}
    if step.asks_end:
        made["inputDefinitions"] = {"parameters": {"end": {"parameterType": "STRING"}}}
    return made


def _executor(step: Step, pipeline: Pipeline, tool: str) -> dict[str, Any]:
    container: dict[str, Any] = {"image": image_of(pipeline, tool), **_command(step, pipeline)}
    env = [{"name": name, "value": value} for name, value in pipeline.env.items()]
    if env:
        container["env"] = env
    return {"container": container}


def _command(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    """What the container runs, in the folder of the repo. A placeholder is an argument of its own,
    which the shell reads as $1."""
    script = f"cd {quote(pipeline.repo)} && {_exec(step)}"
    if not is_plain(step) or step.timeout_s is not None:
        script = f"cd {quote(pipeline.repo)}\n{step_script(step, stops=True)}"
    if not step.asks_end:
        return {"command": ["sh", "-ec", script]}
    return {"command": ["sh", "-ec", f"{VARIABLE}=$1\n{script}", "sh"], "args": [_GIVEN]}


def _exec(step: Step) -> str:
    return f"exec {step_script(step)}"


def _task(step: Step) -> dict[str, Any]:
    made: dict[str, Any] = {
        "cachingOptions": {},  # what a step finds differs from run to run
        "componentRef": {"name": f"comp-{step.name}"},
    }
    if step.needs:
        made["dependentTasks"] = sorted(step.needs)
    if step.asks_end:
        made["inputs"] = {"parameters": {"end": {"runtimeValue": {"constant": CREATED}}}}
    return {**made, "taskInfo": {"name": step.name}}


def end_note(pipeline: Pipeline) -> list[str]:
    """What the instant of a run is."""
    if not pipeline.asks_end:
        return []
    return ["the instant of a run is when it was made; a task that is tried again has the same one"]
