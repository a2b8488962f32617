"""The settings of the pipeline: which steps follow one another, when, where, and with what."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from featurekit.core.calls import near
from featurekit.core.durations import duration_us
from featurekit.core.timezones import zone
from featurekit.errors import DefinitionError

_STEP = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")


class StepConfig(BaseModel):
    """A step of the pipeline; an entry of `featurekit: pipeline: steps:`.

    `run` is what `featurekit` is told, as in "materialize --incremental --end {end}", and `command`
    another program with its arguments; quotes are those of a shell. In both, `{end}` stands for the
    instant of the run. A step begins once those of `needs` are done, by default the one above it.
    After an exit code of `go_on` the pipeline goes on as after 0. A step that failed is tried
    `retries` times more, and is stopped after `timeout`, as in "1h"; both are by default those of
    the pipeline.
    """

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=_STEP)
    run: str | None = None
    command: str | None = None
    needs: list[str] | None = None
    go_on: list[int] = Field(default_factory=list)
    retries: int | None = Field(default=None, ge=0, le=10)
    timeout: str | None = None

    @field_validator("timeout")
    @classmethod
    def _a_duration(cls, written: str | None) -> str | None:
        return _duration(written)

    @field_validator("go_on")
    @classmethod
    def _codes(cls, codes: list[int]) -> list[int]:
        if not all(1 <= code <= 255 for code in codes):
            raise ValueError("are exit codes from 1 to 255; write go_on: [1]")
        return codes

    @model_validator(mode="after")
    def _one_program(self) -> StepConfig:
        if (self.run is None) == (self.command is None):
            raise ValueError("takes either run or command; write run: validate")
        words = _words(self.run if self.command is None else self.command)
        if self.run is not None and words[0] == "featurekit":
            raise ValueError("run has what follows the word featurekit; leave that word out")
        return self

    def words(self) -> tuple[str, ...]:
        """The program and its arguments."""
        if self.command is not None:
            return tuple(_words(self.command))
        return ("featurekit", *_words(self.run))


class PipelineConfig(BaseModel):
    """What runs again and again, for `featurekit pipeline`; under `featurekit: pipeline:`.

    The `steps` are by default validate, apply, materialize and parity. `name` is by default that of
    the project. Steps run in `image`, a container in which `repo` is the folder of the feature
    repo; without an image `repo` is its path where the steps run. `schedule` has the five fields of
    cron, read in `timezone`; with `catchup`, runs that were missed since `start` are made up for.
    `env` has variables with their values, and `secrets` the names of those whose values the tool
    keeps. `volumes` are folders that all steps share: what the tool calls them, and their paths.
    """

    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(default=None, pattern=_STEP)
    image: str | None = Field(default=None, pattern=r"^[\w.:/@-]+$")
    repo: str | None = Field(default=None, min_length=1)
    schedule: str | None = None
    timezone: str = "UTC"
    start: str = Field(default="2026-01-01", pattern=r"^\d{4}-\d\d-\d\d$")
    catchup: bool = False
    retries: int = Field(default=0, ge=0, le=10)
    timeout: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    secrets: list[str] = Field(default_factory=list)
    volumes: dict[str, str] = Field(default_factory=dict)
    steps: list[StepConfig] | None = None

    @field_validator("timeout")
    @classmethod
    def _a_duration(cls, written: str | None) -> str | None:
        return _duration(written)

    @field_validator("schedule")
    @classmethod
    def _a_cron(cls, written: str | None) -> str | None:
        return None if written is None else _cron(written)

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, written: str) -> str:
        try:
            zone(written)
        except DefinitionError as error:
            raise ValueError(f"{error}; write timezone: Europe/London") from None
        return written

    @field_validator("start")
    @classmethod
    def _a_day(cls, written: str) -> str:
        import datetime as dt

        try:
            dt.date.fromisoformat(written)
        except ValueError:
            raise ValueError('is a day; write start: "2026-01-01"') from None
        return written

    @field_validator("env")
    @classmethod
    def _names(cls, given: dict[str, str]) -> dict[str, str]:
        _check_variables(given, 'env: {SHOP_REGION: "eu"}')
        return given

    @field_validator("secrets")
    @classmethod
    def _secret_names(cls, given: list[str]) -> list[str]:
        _check_variables(given, "secrets: [FEATUREKIT_REDIS_URL]")
        return given

    @field_validator("volumes")
    @classmethod
    def _paths(cls, given: dict[str, str]) -> dict[str, str]:
        for name, path in given.items():
            if not re.fullmatch(_STEP, name) or not path.startswith("/"):
                raise ValueError(
                    "are names with absolute paths; write volumes: {featurekit-state: "
                    "/home/featurekit/repo/.featurekit}"
                )
        return given

    @model_validator(mode="after")
    def _in_order(self) -> PipelineConfig:
        both = set(self.env) & set(self.secrets)
        if both:
            raise ValueError(f"{min(both)} stands under env and secrets; keep one of the two")
        if self.steps is not None:
            _check_steps(self.steps)
        return self


def _check_steps(steps: Sequence[StepConfig]) -> None:
    """ValueError where steps have one name, need what is not there, or none could begin."""
    if not steps:
        raise ValueError("steps has no step; write steps: [{name: validate, run: validate}]")
    known: list[str] = []
    for step in steps:
        if step.name in known:
            raise ValueError(f"two steps are named {step.name}; give one another name")
        known.append(step.name)
    done: set[str] = set()
    for step in steps:
        for need in step.needs or ():
            if need not in known:
                raise ValueError(
                    f"step {step.name} needs {need!r}, and there is no such step; "
                    f"{near(need, known, listed='there are')}"
                )
            if need not in done:
                raise ValueError(
                    f"step {step.name} needs {need}, which stands "
                    f"{'below it' if need != step.name else 'at the same place'}; write a step "
                    "below those that it needs"
                )
        done.add(step.name)


def _check_variables(names: Sequence[str] | dict[str, str], written: str) -> None:
    for name in names:
        if not _VARIABLE.fullmatch(name):
            # What is no name may be the secret itself.
            raise ValueError(f"has names of variables of the environment; write {written}")


def _words(text: str | None) -> list[str]:
    """The words of a command. ValueError where there is none, or a quote is not closed."""
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise ValueError(f"is no command, as a shell reads it ({error}); close the quote") from None
    if not words:
        raise ValueError("has no word; write run: validate")
    return words


def _duration(written: str | None) -> str | None:
    if written is not None:
        try:
            duration_us(written, what="timeout")
        except DefinitionError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
    return written


def _cron(written: str) -> str:
    """A schedule with single spaces. ValueError where a field is none of cron."""
    fields = written.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            "has the five fields of cron: minute, hour, day of the month, month, day of the week; "
            'write schedule: "10 3 * * *"'
        )
    for field, (what, low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if not _is_part(part, low, high, names):
                raise ValueError(
                    f"its {what} is from {low} to {high}, or *, as in 5, 1-3, 1,3 or */2; write "
                    'schedule: "10 3 * * *"'
                )
    return " ".join(fields)


def _is_part(part: str, low: int, high: int, names: Sequence[str]) -> bool:
    found = _PART.fullmatch(part)
    if found is None or found["step"] == "0":
        return False
    given = [one for one in (found["low"], found["high"]) if one is not None]
    numbers = [_number(one, low, names) for one in given]
    if not all(n is not None and low <= n <= high for n in numbers):
        return False
    return len(numbers) < 2 or numbers[0] <= numbers[1]  # type: ignore[operator]


def _number(text: str, low: int, names: Sequence[str]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + low
    return int(text) if text.isascii() and text.isdecimal() else None
