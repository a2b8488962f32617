"""Writes a pipeline for Kubeflow Pipelines 2: the pipeline spec, and what its pods are given."""

from __future__ import annotations

from typing import Any

from featurekit.plugins.pipelines import kubernetes
from featurekit.plugins.pipelines.export import Exported, joined, no_catchup, written_by
from featurekit.plugins.pipelines.pipeline import Pipeline
from featurekit.plugins.pipelines.pipeline_spec import end_note, executor, pipeline_spec
from featurekit.plugins.pipelines.yaml_text import yaml_text


def export(pipeline: Pipeline) -> Exported:
    """A compiled pipeline, as `kfp` takes one."""
    name = f"{pipeline.name}.pipeline.yaml"
    spec = pipeline_spec(pipeline, "kubeflow")
    for made in spec["deploymentSpec"]["executors"].values():
        container = made["container"]
        container["command"] = [kubernetes.literal(word) for word in container["command"]]
        for variable in container.get("env", ()):
            variable["value"] = kubernetes.literal(variable["value"])
    documents = [spec]
    if pipeline.secrets or pipeline.volumes:
        documents.append(_platform(pipeline))
    text = yaml_text(written_by("kubeflow"), *documents)
    command = f"kfp pipeline create --pipeline-name {pipeline.name} {name}"
    return Exported({name: text}, _notes(pipeline), (command,))


def _platform(pipeline: Pipeline) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if pipeline.volumes:
        given["pvcMount"] = [
            {"constant": name, "mountPath": path, "pvcNameParameter": _constant(name)}
            for name, path in pipeline.volumes.items()
        ]
    if pipeline.secrets:
        keys = [{"envVar": name, "secretKey": name} for name in pipeline.secrets]
        secret = {
            "keyToEnv": keys,
            "optional": False,
            "secretName": pipeline.name,
            "secretNameParameter": _constant(pipeline.name),
        }
        given["secretAsEnv"] = [secret]
    executors = {executor(step): given for step in pipeline.steps}
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _constant(text: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": text}}


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    at = f"{pipeline.schedule} in {pipeline.timezone}"
    return joined(
        [
            [f"the schedule is set where the pipeline runs, by `kfp recurring-run create`: {at}"]
            * (pipeline.schedule is not None),
            end_note(pipeline),
            ["retries and time-outs are those of a shell in the container, which knows the exit "
             "codes"] * any(step.retries or step.timeout_s for step in pipeline.steps),
            kubernetes.secret_note(pipeline),
            kubernetes.claim_note(pipeline),
            kubernetes.no_volume_note(pipeline),
            no_catchup(pipeline, "choose it for the recurring run"),
        ]
    )  # fmt: skip
