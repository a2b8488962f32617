"""Writes a pipeline as a job of Dagster: an op for each step, and the schedule."""

from __future__ import annotations

from featurekit.plugins.pipelines.export import Exported, joined, no_catchup, written_by
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.python_text import (
    RUN,
    codes,
    constants,
    identifier,
    options,
    text,
    words,
)

_HEAD = """\
import datetime as dt
import os
import shlex
import subprocess

import dagster as dg

"""
_END = '''\
def end_of(context):
    """The instant of the run: what its tag says, or when the first run of this job was made. A run
    that is started again has the one of the run before."""
    told = context.run.tags.get("featurekit/end")
    if told:
        return told
    first = context.run.root_run_id or context.run_id
    made = context.instance.get_run_record_by_id(first).create_timestamp
    return made.astimezone(dt.timezone.utc).isoformat()


def tried(context, words, end=None, *, final=(), **how):
    """Run a step. After an exit code of `final` it is not tried again."""
    try:
        context.log.info(f"exit code {run(words, end, **how)}")
    except Failed as failed:
        raise dg.Failure(str(failed), allow_retries=failed.code not in final) from None
'''


def export(pipeline: Pipeline) -> Exported:
    """A module with the definitions of a code location."""
    name = f"{pipeline.identifier}_dagster.py"
    parts = [
        f'"""{written_by("dagster")}"""\n\n{_HEAD}{constants(pipeline.repo, pipeline.env)}',
        RUN,
        _END,
        *(_op(step) for step in pipeline.steps),
        _job(pipeline),
    ]
    return Exported(
        {name: "\n\n".join(parts)},
        _notes(pipeline),
        (f"dagster job execute -f {name} -j {pipeline.identifier}", f"dagster dev -f {name}"),
    )


def _op(step: Step) -> str:
    ins = ", ".join(f'"{identifier_of(need)}": dg.In(dg.Nothing)' for need in step.needs)
    told = [f"ins={{{ins}}}"] if ins else []
    if step.retries:
        told.append(f"retry_policy=dg.RetryPolicy(max_retries={step.retries})")
    final = f", final={codes(step.final)}" if step.final else ""
    end = "    end = end_of(context)\n" if step.asks_end else ""
    return (
        f"@dg.op({', '.join(told)})\n"
        f"def {identifier(step)}(context):\n"
        f"{end}"
        f"    tried(context, {words(step)}{options(step)}{final})\n"
    )


def identifier_of(name: str) -> str:
    """What an op calls the end of a step that it waits for."""
    return f"after_{name.replace('-', '_')}"


def _job(pipeline: Pipeline) -> str:
    name = pipeline.identifier
    lines = ["@dg.job", f"def {name}():"]
    for step in pipeline.steps:
        given = ", ".join(f"{identifier_of(n)}=done[{text(n)}]" for n in step.needs)
        if step is pipeline.steps[0]:
            lines.append("    done = {}")
        lines.append(f"    done[{text(step.name)}] = {identifier(step)}({given})")
    lines += ["", ""]
    if pipeline.schedule is None:
        return "\n".join([*lines, f"defs = dg.Definitions(jobs=[{name}])", ""])
    return "\n".join(
        [
            *lines,
            "@dg.schedule(",
            f"    job={name},",
            f"    cron_schedule={text(pipeline.schedule)},",
            f"    execution_timezone={text(pipeline.timezone)},",
            ")",
            f"def {name}_schedule(context):",
            "    end = context.scheduled_execution_time.isoformat()",
            '    return dg.RunRequest(run_key=end, tags={"featurekit/end": end})',
            "",
            "",
            f"defs = dg.Definitions(jobs=[{name}], schedules=[{name}_schedule])",
            "",
        ]
    )


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    return joined(
        [
            [f"the steps run where the job runs: in a code location whose image is "
             f"{pipeline.image}"] * (pipeline.image is not None),
            [f"{', '.join(pipeline.secrets)}: set these variables where the code location runs"]
            * bool(pipeline.secrets),
            [f"{', '.join(pipeline.volumes)}: mount these volumes where the code location runs"]
            * bool(pipeline.volumes),
            ["one run at a time is a setting of the instance: run_queue, max_concurrent_runs: 1"],
            no_catchup(pipeline, "launch the job by hand, with the instant as the tag "
                       "featurekit/end"),
        ]
    )  # fmt: skip
