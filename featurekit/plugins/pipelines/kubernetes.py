"""What pods are told of a pipeline: variables, secrets and volumes."""

from __future__ import annotations

from typing import Any

from featurekit.plugins.pipelines.pipeline import Pipeline

GROUP = 10001
"""The group of the user of the image that `deploy/Dockerfile` builds, who writes to volumes."""


def literal(text: str) -> str:
    """A text of a container in which Kubernetes reads no `$(VARIABLE)`."""
    return text.replace("$(", "$$(")


def variables(pipeline: Pipeline, **more: str) -> list[dict[str, Any]]:
    """The environment of a container; secrets come from the Secret of the pipeline's name."""
    told = {**pipeline.env, **more}
    plain = [{"name": name, "value": literal(value)} for name, value in told.items()]
    kept = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": pipeline.name, "key": name}}}
        for name in pipeline.secrets
    ]
    return [*plain, *kept]


def mounts(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Where a container has the volumes."""
    return [{"name": name, "mountPath": path} for name, path in pipeline.volumes.items()]


def volumes(pipeline: Pipeline) -> list[dict[str, Any]]:
    """The volumes of a pod: claims that are there."""
    return [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in pipeline.volumes
    ]


def secret_note(pipeline: Pipeline) -> list[str]:
    """What has to be there for the secrets."""
    if not pipeline.secrets:
        return []
    keys = " ".join(f"--from-literal={name}=…" for name in pipeline.secrets)
    return [f"the secrets come from `kubectl create secret generic {pipeline.name} {keys}`"]


def claim_note(pipeline: Pipeline) -> list[str]:
    """What has to be there for the volumes."""
    names = ", ".join(pipeline.volumes)
    return [f"the claims {names} have to be in the namespace"] if names else []


def no_volume_note(pipeline: Pipeline) -> list[str]:
    """What steps without a folder in common lose."""
    if pipeline.volumes:
        return []
    return [
        "steps share no folder: name claims under volumes for the state folder and for files that "
        "later steps read"
    ]
