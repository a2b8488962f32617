"""Turns a pipeline into the files of a tool, and says what the tool cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from featurekit.core.files import write_named
from featurekit.errors import ConfigError
from featurekit.plugins.pipelines.pipeline import Pipeline

TOOLS = {
    "airflow": "a DAG of Apache Airflow 3",
    "kubeflow": "a pipeline of Kubeflow Pipelines 2",
    "argo": "templates of Argo Workflows",
    "sagemaker": "a pipeline of Amazon SageMaker",
    "vertex": "a pipeline of Google's Vertex AI",
    "github": "a workflow of GitHub Actions",
    "gitlab": "a pipeline of GitLab CI/CD",
    "jenkins": "a Jenkinsfile",
    "dagster": "a job of Dagster",
    "prefect": "a flow of Prefect 3",
}
"""The tools by name. Each has a module of its name here, with a function `export`."""
_MARK = "featurekit pipeline export"


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of a tool: their texts by path, what the tool cannot say or does otherwise, and the
    commands that hand them over."""

    files: Mapping[str, str]
    notes: tuple[str, ...]
    commands: tuple[str, ...]


class Exporter(Protocol):
    """What the module of a tool has."""

    def export(self, pipeline: Pipeline) -> Exported:
        """The files of a pipeline. ConfigError where the tool needs what the pipeline lacks."""
        ...


def exporter(tool: str) -> Exporter:
    """The module of a tool of `TOOLS`."""
    return cast(Exporter, import_module(f"{__package__}.{tool}"))


def written_by(tool: str) -> str:
    """What each file says of its origin."""
    return (
        f"Written by `{_MARK} --to {tool}` from `pipeline:` in feature_store.yaml; change it there."
    )


def write(exported: Exported, folder: Path) -> list[Path]:
    """Write the files into a folder; returns their paths. ConfigError, before anything is written,
    where a file stands there that `featurekit pipeline export` did not write."""
    paths = [folder / name for name in exported.files]
    for path in paths:
        if path.exists() and not _is_ours(path):
            raise ConfigError(
                f"{path} is there already, and `{_MARK}` did not write it; move it away, or name "
                "another folder with -o"
            )
    for path, text in zip(paths, exported.files.values(), strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"-o {folder}: {error.filename}: {error.strerror}") from None
        write_named(path, text.encode(), "-o")
    return paths


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(encoding="utf-8")[:500]
    except (OSError, UnicodeDecodeError):
        return False


def image_of(pipeline: Pipeline, tool: str) -> str:
    """The image in which the steps run. ConfigError where the settings name none."""
    if pipeline.image is None:
        raise ConfigError(
            f"featurekit.pipeline.image: {tool} runs steps in containers, and the settings name no "
            "image; write image: registry.example/shop-features:1.4 (deploy/Dockerfile builds one)"
        )
    return pipeline.image


def unshared(pipeline: Pipeline, told: str) -> list[str]:
    """The note of a tool whose steps share no folder."""
    if not pipeline.volumes:
        return []
    return [f"volumes ({', '.join(pipeline.volumes)}) are left out: {told}"]


def no_catchup(pipeline: Pipeline, told: str) -> list[str]:
    """The note of a tool that makes up for no missed run."""
    return [f"catchup is left out: {told}"] if pipeline.catchup and pipeline.schedule else []


def in_sequence(pipeline: Pipeline) -> bool:
    """Whether each step waits, at last, for all that stand above it."""
    waits: dict[str, set[str]] = {}
    for step in pipeline.steps:
        found = set(step.needs).union(*(waits[need] for need in step.needs))
        if found != waits.keys():
            return False
        waits[step.name] = found
    return True


def joined(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Notes of several kinds, as one list."""
    return tuple(note for part in parts for note in part)
