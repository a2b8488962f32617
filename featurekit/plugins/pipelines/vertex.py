"""Writes a pipeline for Vertex AI: the pipeline spec, as JSON."""

from __future__ import annotations

import json

from featurekit.plugins.pipelines.export import (
    Exported,
    joined,
    no_catchup,
    unshared,
    written_by,
)
from featurekit.plugins.pipelines.pipeline import Pipeline
from featurekit.plugins.pipelines.pipeline_spec import end_note, pipeline_spec


def export(pipeline: Pipeline) -> Exported:
    """A compiled pipeline, as `PipelineJob(template_path=…)` takes one."""
    name = f"{pipeline.name}.vertex.json"
    spec = pipeline_spec(pipeline, "vertex")
    # JSON has no comments.
    spec["pipelineInfo"]["description"] = written_by("vertex")
    ordered = {"pipelineInfo": spec.pop("pipelineInfo"), **spec}
    text = json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
    command = (
        f"python -c 'from google.cloud import aiplatform; aiplatform.PipelineJob(display_name="
        f'"{pipeline.name}", template_path="{name}").submit()\''
    )
    return Exported({name: text}, _notes(pipeline), (command,))


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    at = f"{pipeline.schedule} in {pipeline.timezone}"
    return joined(
        [
            [f"the schedule is set by `PipelineJob.create_schedule`: {at}"]
            * (pipeline.schedule is not None),
            end_note(pipeline),
            ["retries and time-outs are those of a shell in the container, which knows the exit "
             "codes"] * any(step.retries or step.timeout_s for step in pipeline.steps),
            [f"{', '.join(pipeline.secrets)}: Vertex AI gives a container no secret; read them "
             "from Secret Manager in the image, into the file of redis_password_file"]
            * bool(pipeline.secrets),
            unshared(pipeline, "a step begins with an empty disk, and shares /gcs/BUCKET; keep the "
                     "registry in PostgreSQL"),
            no_catchup(pipeline, "submit the pipeline by hand"),
        ]
    )  # fmt: skip
