"""Turns the settings of a pipeline into steps that every exporter reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featurekit.core.durations import duration_us
from featurekit.project.pipeline_settings import PipelineConfig, StepConfig

END = "{end}"
"""Stands in a step's words for the instant of the run."""
FINAL = (1, 3, 64)
"""Exit codes of featurekit after which another try would say the same: what was compared differs,
a contract does not hold, the command line is not understood."""
IN_IMAGE = "/home/featurekit/repo"
"""Where the repo is in the image that `deploy/Dockerfile` builds."""
DEFAULT = (
    StepConfig(name="validate", run="validate"),
    StepConfig(name="apply", run="apply"),
    StepConfig(name="materialize", run="materialize --incremental --end {end}"),
    StepConfig(name="parity", run="parity sample --budget 10000"),
)
"""The steps where the settings name none: nothing is filled from data that break their contract,
and what was filled is compared with what training sees."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step: its program with the arguments, the steps before it, and what becomes of failures.

    After an exit code of `go_on` the pipeline goes on as after 0, and after one of `final` it is
    not tried again. `timeout_s` is None where it may take as long as it does.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...]
    go_on: tuple[int, ...]
    final: tuple[int, ...]
    retries: int
    timeout_s: int | None

    @property
    def asks_end(self) -> bool:
        """Whether the instant of the run stands in its words."""
        return any(END in word for word in self.words)

    def told(self, end: str) -> list[str]:
        """The words, with what a tool calls the instant of the run."""
        return [word.replace(END, end) for word in self.words]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What runs again and again: `schedule` is in cron's five fields, None for by hand."""

    name: str
    project: str
    image: str | None
    repo: str
    schedule: str | None
    timezone: str
    start: str
    catchup: bool
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    volumes: Mapping[str, str]
    steps: tuple[Step, ...]

    @property
    def asks_end(self) -> bool:
        """Whether a step is told the instant of the run."""
        return any(step.asks_end for step in self.steps)

    @property
    def identifier(self) -> str:
        """The name as one of Python."""
        return self.name.replace("-", "_")


def pipeline_of(settings: PipelineConfig | None, project: str) -> Pipeline:
    """The pipeline that the settings describe, or the one that every project has without them."""
    told = settings or PipelineConfig()
    steps: list[Step] = []
    for step in told.steps or DEFAULT:
        above = (steps[-1].name,) if steps else ()
        steps.append(_step(step, told, above))
    return Pipeline(
        name=told.name or _named(project),
        project=project,
        image=told.image,
        repo=told.repo or (IN_IMAGE if told.image else "."),
        schedule=told.schedule,
        timezone=told.timezone,
        start=told.start,
        catchup=told.catchup,
        env=dict(told.env),
        secrets=tuple(told.secrets),
        volumes=dict(told.volumes),
        steps=tuple(steps),
    )


def _step(step: StepConfig, told: PipelineConfig, above: tuple[str, ...]) -> Step:
    timeout = step.timeout or told.timeout
    return Step(
        name=step.name,
        words=step.words(),
        needs=above if step.needs is None else tuple(step.needs),
        go_on=tuple(sorted(set(step.go_on))),
        final=FINAL if step.run is not None else (),
        retries=told.retries if step.retries is None else step.retries,
        timeout_s=None if timeout is None else _seconds(timeout),
    )


def _seconds(duration: str) -> int:
    """Whole seconds, as tools count them; less than one would be none."""
    return -(-duration_us(duration, what="timeout") // 1_000_000)


def _named(project: str) -> str:
    """A project's name as tools take one: small letters, digits and dashes."""
    made = project.lower().replace("_", "-").strip("-")[:40].strip("-")
    return made if made[:1].isalpha() else f"p-{made}"
