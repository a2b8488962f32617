"""Writes a pipeline as a flow of Prefect: a task for each step, and the deployment's schedule."""

from __future__ import annotations

from typing import Any

from featurekit.plugins.pipelines.export import Exported, joined, no_catchup, written_by
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.python_text import (
    RUN,
    constants,
    identifier,
    options,
    text,
    words,
)
from featurekit.plugins.pipelines.yaml_text import yaml_text

_HEAD = """\
import os
import shlex
import subprocess
import sys

from prefect import flow, runtime, task
from prefect.futures import wait

"""
_AGAIN = '''\
def unless(*final):
    """Whether a step is tried again: not after an exit code of `final`."""

    def again(task, run, state):
        failed = state.result(raise_on_failure=False)
        return not (isinstance(failed, Failed) and failed.code in final)

    return again
'''


def export(pipeline: Pipeline) -> Exported:
    """A module with the flow, and prefect.yaml with its deployment."""
    name = f"{pipeline.identifier}_prefect.py"
    parts = [
        f'"""{written_by("prefect")}"""\n\n{_HEAD}{constants(pipeline.repo, pipeline.env)}',
        RUN,
        _AGAIN,
        *(_task(step) for step in pipeline.steps),
        _flow(pipeline),
    ]
    files = {
        name: "\n\n".join(parts),
        "prefect.yaml": yaml_text(written_by("prefect"), _deployment(pipeline, name)),
    }
    return Exported(
        files, _notes(pipeline), (f"python {name}", f"prefect deploy --name {pipeline.name}")
    )


def _task(step: Step) -> str:
    told = [f"name={text(step.name)}"]
    if step.retries:
        told.append(f"retries={step.retries}")
        if step.final:
            inside = ", ".join(map(str, step.final))
            told.append(f"retry_condition_fn=unless({inside})")
    given = "end" if step.asks_end else ""
    return (
        f"@task({', '.join(told)})\n"
        f"def {identifier(step)}({given}):\n"
        f"    return run({words(step)}{options(step)})\n"
    )


def _flow(pipeline: Pipeline) -> str:
    lines = [
        f"@flow(name={text(pipeline.name)})",
        f"def {pipeline.identifier}(end: str | None = None):",
        '    """All steps. `end` is the instant of the run, by default when it was to begin."""',
        "    end = end or runtime.flow_run.scheduled_start_time.isoformat()",
        "    done = {}",
    ]
    for step in pipeline.steps:
        given = ["end"] if step.asks_end else []
        if step.needs:
            waits = ", ".join(f"done[{text(need)}]" for need in step.needs)
            given.append(f"wait_for=[{waits}]")
        call = f"{identifier(step)}.submit({', '.join(given)})"
        lines.append(f"    done[{text(step.name)}] = {call}")
    return "\n".join(
        [
            *lines,
            "    wait(list(done.values()))",
            "    return [one.state for one in done.values()]",
            "",
            "",
            'if __name__ == "__main__":',
            f"    found = {pipeline.identifier}(return_state=True)",
            "    sys.exit(0 if found.is_completed() else 1)",
            "",
        ]
    )


def _deployment(pipeline: Pipeline, module: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": pipeline.name,
        "entrypoint": f"{module}:{pipeline.identifier}",
        "concurrency_limit": 1,
    }
    if pipeline.schedule is not None:
        made["schedules"] = [{"cron": pipeline.schedule, "timezone": pipeline.timezone}]
    pool: dict[str, Any] = {"name": "default"}
    if pipeline.image is not None:
        pool["job_variables"] = {"image": pipeline.image}
    return {"name": pipeline.name, "deployments": [{**made, "work_pool": pool}]}


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    return joined(
        [
            [f"{', '.join(pipeline.secrets)}: set these variables in the work pool"]
            * bool(pipeline.secrets),
            [f"{', '.join(pipeline.volumes)}: mount these volumes by the work pool"]
            * bool(pipeline.volumes),
            ["the deployment names the work pool `default`; `prefect deploy --pool` names another"],
            no_catchup(pipeline, "run the flow by hand, with the instant as `end`"),
        ]
    )  # fmt: skip
