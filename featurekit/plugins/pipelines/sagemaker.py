"""Writes a pipeline for Amazon SageMaker: its definition, a processing job for each step."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from featurekit.plugins.pipelines.export import (
    Exported,
    image_of,
    joined,
    no_catchup,
    unshared,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, step_script

_VERSION = "2020-12-01"
_STARTED = {"Get": "Execution.StartDateTime"}
"""When the execution began: one that is tried again has the same instant."""


def export(pipeline: Pipeline) -> Exported:
    """The definition that `aws sagemaker create-pipeline` takes."""
    name = f"{pipeline.name}.sagemaker.json"
    text = json.dumps(_definition(pipeline), indent=2, ensure_ascii=False) + "\n"
    command = (
        f"aws sagemaker create-pipeline --pipeline-name {pipeline.name} --role-arn ROLE "
        f"--pipeline-definition file://{name}"
    )
    return Exported({name: text}, _notes(pipeline), (command,))


def _definition(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "Version": _VERSION,
        "Metadata": {"Description": written_by("sagemaker")},
        "Parameters": [
            {"Name": "Role", "Type": "String"},
            {"Name": "InstanceType", "Type": "String", "DefaultValue": "ml.m5.large"},
        ],
        "Steps": [_step(step, pipeline) for step in pipeline.steps],
    }


def _step(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    environment: dict[str, Any] = dict(pipeline.env)
    if step.asks_end:
        environment[VARIABLE] = _STARTED
    arguments: dict[str, Any] = {
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceType": {"Get": "Parameters.InstanceType"},
                "InstanceCount": 1,
                "VolumeSizeInGB": 30,
            }
        },
        "AppSpecification": {
            "ImageUri": image_of(pipeline, "sagemaker"),
            "ContainerEntrypoint": ["sh", "-ec", f"cd {quote(pipeline.repo)}\n{step_script(step)}"],
        },
        "RoleArn": {"Get": "Parameters.Role"},
    }
    if step.timeout_s is not None:
        arguments["StoppingCondition"] = {"MaxRuntimeInSeconds": step.timeout_s}
    if environment:
        arguments["Environment"] = environment
    made = {"Name": step.name, "Type": "Processing", "Arguments": arguments}
    return {**made, "DependsOn": list(step.needs)} if step.needs else made


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    at = f"{pipeline.schedule} in {pipeline.timezone}"
    return joined(
        [
            [f"the schedule is set by Amazon EventBridge Scheduler: {at}"]
            * (pipeline.schedule is not None),
            ["the instant of a run is when its execution began"] * pipeline.asks_end,
            ["retries are those of a shell in the container, which knows the exit codes"]
            * any(step.retries for step in pipeline.steps),
            [f"{', '.join(pipeline.secrets)}: a processing job is given no secret; read them from "
             "Secrets Manager in the image, into the file of redis_password_file"]
            * bool(pipeline.secrets),
            ["the job has to reach Redis: name subnets and security groups as NetworkConfig, where "
             "it is in a VPC"],
            unshared(pipeline, "a processing job begins with an empty disk; keep the registry in "
                     "PostgreSQL"),
            no_catchup(pipeline, "start the pipeline by hand"),
        ]
    )  # fmt: skip
