"""Writes a pipeline as a DAG of Airflow 3: an operator of `featurekit.plugins.airflow` for each
step, or a pod of Kubernetes where the steps have an image."""

from __future__ import annotations

import json
from shlex import quote
from typing import Any

from featurekit.plugins.pipelines import kubernetes
from featurekit.plugins.pipelines.export import Exported, joined, written_by
from featurekit.plugins.pipelines.pipeline import Pipeline, Step
from featurekit.plugins.pipelines.python_text import codes, constants, identifier, text
from featurekit.plugins.pipelines.words import VARIABLE, is_plain, step_script

_END = "{{ (dag_run.data_interval_end or dag_run.run_after).isoformat() }}"
"""The end of the data interval, or the instant of a run that has none: the same in every try."""


def export(pipeline: Pipeline) -> Exported:
    """A module for the folder of DAGs."""
    name = f"{pipeline.identifier}_airflow.py"
    made = _head(pipeline) + _dag(pipeline)
    return Exported({name: made}, _notes(pipeline), (f"airflow dags test {pipeline.name}",))


def _head(pipeline: Pipeline) -> str:
    third = [
        "from airflow.sdk import DAG",
        "from airflow.timetables.interval import CronDataIntervalTimetable",
    ]
    if pipeline.schedule is None:
        third = third[:1]
    if pipeline.image is not None:
        third.insert(0, f"from airflow.providers.cncf.kubernetes.operators.pod import {_POD}")
        third.append("from kubernetes.client import models as k8s")
    else:
        third.append("from featurekit.plugins.airflow import FeaturekitOperator")
    first = ["import datetime as dt", *(["import os"] if pipeline.image is None else [])]
    imports = "\n".join([*first, "", *third])
    head = f'"""{written_by("airflow")}"""\n\n{imports}\n\n'
    end = f"END = {text(_END)}\n"
    if pipeline.image is None:
        env = {name: _raw(value) for name, value in pipeline.env.items()}
        return head + constants(pipeline.repo, env) + (end if pipeline.asks_end else "")
    return head + _pods(pipeline) + (end if pipeline.asks_end else "")


_POD = "KubernetesPodOperator"
_DELAY_S = 10
"""How long Airflow waits before it tries a step again, which is five minutes by default."""


def _pods(pipeline: Pipeline) -> str:
    """What every pod is given."""
    env = [
        f"k8s.V1EnvVar(name={text(n)}, value={text(_raw(kubernetes.literal(v)))})"
        for n, v in pipeline.env.items()
    ]
    env += [
        f"k8s.V1EnvVar(name={text(n)}, value_from=k8s.V1EnvVarSource(secret_key_ref="
        f"k8s.V1SecretKeySelector(name={text(pipeline.name)}, key={text(n)})))"
        for n in pipeline.secrets
    ]
    volumes = [
        f"k8s.V1Volume(name={text(n)}, persistent_volume_claim="
        f"k8s.V1PersistentVolumeClaimVolumeSource(claim_name={text(n)}))"
        for n in pipeline.volumes
    ]
    mounts = [
        f"k8s.V1VolumeMount(name={text(n)}, mount_path={text(path)})"
        for n, path in pipeline.volumes.items()
    ]
    told = {
        "image": text(pipeline.image or ""),
        "env_vars": _listed(env),
        "volumes": _listed(volumes),
        "volume_mounts": _listed(mounts),
        "security_context": f'{{"fsGroup": {kubernetes.GROUP}}}',
    }
    lines = "".join(f"    {text(name)}: {value},\n" for name, value in told.items())
    return f"POD = {{\n{lines}}}\n"


def _listed(parts: list[str]) -> str:
    return f"[{', '.join(parts)}]"


def _dag(pipeline: Pipeline) -> str:
    year, month, day = (int(part) for part in pipeline.start.split("-"))
    schedule = "None"
    if pipeline.schedule is not None:
        at = f"{text(pipeline.schedule)}, timezone={text(pipeline.timezone)}"
        schedule = f"CronDataIntervalTimetable({at})"
    lines = [
        "",
        "with DAG(",
        f"    dag_id={text(pipeline.name)},",
        f"    schedule={schedule},",
        f"    start_date=dt.datetime({year}, {month}, {day}, tzinfo=dt.timezone.utc),",
        f"    catchup={pipeline.catchup},",
        "    max_active_runs=1,",
        "):",
    ]
    for step in pipeline.steps:
        told = {"task_id": text(step.name), **_operator(step, pipeline)}
        if step.retries and pipeline.image is None:
            told["retries"] = str(step.retries)
            told["retry_delay"] = f"dt.timedelta(seconds={_DELAY_S})"
        if step.timeout_s is not None:
            told["execution_timeout"] = f"dt.timedelta(seconds={step.timeout_s})"
        kind = "FeaturekitOperator" if pipeline.image is None else _POD
        lines += [f"    {identifier(step)} = {kind}("]
        lines += [f"        {name}={value}," for name, value in told.items()]
        lines += ["        **POD,"] if pipeline.image is not None else []
        lines += ["    )"]
    for step in pipeline.steps:
        above = [f"step_{need.replace('-', '_')}" for need in step.needs]
        if above:
            before = above[0] if len(above) == 1 else f"[{', '.join(above)}]"
            lines.append(f"    {before} >> {identifier(step)}")
    return "\n".join(lines) + "\n"


def _operator(step: Step, pipeline: Pipeline) -> dict[str, str]:
    """What makes an operator of a step."""
    if pipeline.image is not None:
        return _pod(step, pipeline)
    told = ", ".join(_word(word) for word in step.words)
    made = {"words": f"[{told}]", "repo": "REPO"}
    if pipeline.env:
        made["env"] = "ENV"
    if step.go_on:
        made["go_on"] = codes(step.go_on)
    made["final"] = codes(step.final)
    return made


def _word(word: str) -> str:
    """A word, in which Jinja reads nothing but the instant of the run."""
    parts = [_raw(part) for part in word.split("{end}")]
    return (
        " + END + ".join(text(part) for part in parts).removeprefix('"" + ').removesuffix(' + ""')
    )


def _raw(part: str) -> str:
    """A text in which Jinja reads nothing; `${#name}` of a shell begins a comment there."""
    read = any(sign in part for sign in ("{{", "{%", "{#"))
    return f"{{% raw %}}{part}{{% endraw %}}" if read else part


def _pod(step: Step, pipeline: Pipeline) -> dict[str, str]:
    """The command of a pod. Airflow does not know exit codes of a pod, so a shell there does."""
    # A text that ended with .yaml would be the name of a file for Airflow.
    script = kubernetes.literal(f"cd {quote(pipeline.repo)}\n{step_script(step)}".rstrip() + "\n")
    made: dict[str, Any] = {"name": text(f"{pipeline.name}-{step.name}")}
    if step.asks_end:
        command = json.dumps(["sh", "-ec", _raw(f"{VARIABLE}=$1\n{script}"), "sh"])
        return {**made, "cmds": command, "arguments": "[END]"}
    return {**made, "cmds": json.dumps(["sh", "-ec", _raw(script)])}


def _notes(pipeline: Pipeline) -> tuple[str, ...]:
    image = pipeline.image is not None
    plain = all(is_plain(step) for step in pipeline.steps)
    return joined(
        [
            ["the DAG needs apache-airflow-providers-cncf-kubernetes"] * image,
            ["retries are those of a shell in the pod, which knows the exit codes"]
            * (image and not plain),
            ["the DAG needs featurekit[airflow], and steps run where Airflow's workers run"]
            * (not image),
            [f"{', '.join(pipeline.secrets)}: set these variables where the workers run"]
            * (bool(pipeline.secrets) and not image),
            [f"{', '.join(pipeline.volumes)}: mount these volumes where the workers run"]
            * (bool(pipeline.volumes) and not image),
            kubernetes.secret_note(pipeline) if image else [],
            kubernetes.claim_note(pipeline) if image else [],
        ]
    )  # fmt: skip
