"""Writes a pipeline as templates of Argo Workflows: a container for each step, as a graph."""

from __future__ import annotations

from typing import Any

from featurekit.plugins.pipelines import kubernetes
from featurekit.plugins.pipelines.export import (
    Exported,
    image_of,
    joined,
    no_catchup,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.words import VARIABLE, step_line
from featurekit.plugins.pipelines.yaml_text import yaml_text

_CREATED = "{{workflow.creationTimestamp.RFC3339}}"
"""When the workflow was made: a retry of it has the same instant."""
_API = "argoproj.io/v1alpha1"


def export(pipeline: Pipeline) -> Exported:
    """A WorkflowTemplate, and the CronWorkflow that starts it."""
    head, name = written_by("argo"), pipeline.name
    files = {f"{name}.workflow-template.yaml": yaml_text(head, _template(pipeline))}
    if pipeline.schedule is not None:
        files[f"{name}.cron-workflow.yaml"] = yaml_text(head, _cron(pipeline))
    applied = tuple(f"kubectl apply -f {file}" for file in files)
    return Exported(
        files, _notes(pipeline), (*applied, f"argo submit --from workflowtemplate/{name}")
    )


def _template(pipeline: Pipeline) -> dict[str, Any]:
    spec: dict[str, Any] = {"entrypoint": "pipeline"}
    if pipeline.volumes:
        spec["volumes"] = kubernetes.volumes(pipeline)
        spec["securityContext"] = {"fsGroup": kubernetes.GROUP}
    tasks = [
        {"name": step.name, "template": f"run-{step.name}"}
        | ({"dependencies": list(step.needs)} if step.needs else {})
        for step in pipeline.steps
    ]
    # A step that needs nothing of what failed still runs.
    dag = {"name": "pipeline", "dag": {"failFast": False, "tasks": tasks}}
    spec["templates"] = [dag, *(_container(step, pipeline) for step in pipeline.steps)]
    return {
        "apiVersion": _API,
        "kind": "WorkflowTemplate",
        "metadata": {"name": pipeline.name},
        "spec": spec,
    }


def _container(step: Step, pipeline: Pipeline) -> dict[str, Any]:
    made: dict[str, Any] = {"name": f"run-{step.name}"}
    if step.retries:
        made["retryStrategy"] = {"limit": str(step.retries), "retryPolicy": "Always"}
        if step.final:
            again = f"asInt(lastRetry.exitCode) not in {list(step.final)}"
            made["retryStrategy"]["expression"] = again
    if step.timeout_s is not None:
        made["activeDeadlineSeconds"] = step.timeout_s
    command = step.told(_CREATED)
    if step.go_on:
        codes = "|".join(map(str, step.go_on))
        line = f"{step_line(step)} || case $? in {codes}) ;; *) exit $? ;; esac"
        command = ["sh", "-c", line]
    container: dict[str, Any] = {
        "image": image_of(pipeline, "argo"),
        "workingDir": pipeline.repo,
        "command": [kubernetes.literal(word) for word in command],
    }
    env = kubernetes.variables(pipeline, **({VARIABLE: _CREATED} if step.asks_end else {}))
    if env:
        container["env"] = env
    if pipeline.volumes:
        container["volumeMounts"] = kubernetes.mounts(pipeline)
    return {**made, "container": container}


def _cron(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "CronWorkflow",
        "metadata": {"name": pipeline.name},
        "spec": {
            "schedules": [pipeline.schedule],
            "timezone": pipeline.timezone,
            "concurrencyPolicy": "Forbid",
            "workflowSpec": {"workflowTemplateRef": {"name": pipeline.name}},
        },
    }


def _braced(pipeline: Pipeline) -> bool:
    """Whether a text of the description holds what Argo reads."""
    words = [word for step in pipeline.steps for word in step.words]
    return any("{{" in text for text in (*words, *pipeline.env.values()))


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    return joined(
        [
            ["the instant of a run is when its workflow was made, some seconds after the schedule; "
             "a retry of the workflow has the same one"] * pipeline.asks_end,
            ["Argo reads `{{…}}` in commands and variables as its own, and has no way around it"]
            * _braced(pipeline),
            kubernetes.secret_note(pipeline),
            kubernetes.claim_note(pipeline),
            kubernetes.no_volume_note(pipeline),
            no_catchup(pipeline, "Argo starts what was missed only within startingDeadlineSeconds"),
        ]
    )  # fmt: skip
