"""The settings of triggers and of `featurekit watch`: what is looked at, and what is done then."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from featurekit.core.cron import Cron
from featurekit.core.durations import duration_us
from featurekit.core.timezones import zone
from featurekit.errors import DefinitionError
from featurekit.project.stream_settings import STREAM_EXAMPLES, KafkaConfig, is_kafka

Measure = Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein", "chi_squared",
                  "null_share", "error_share", "nan_share"]  # fmt: skip
"""What `featurekit monitor drift` measures."""
Performed = Literal["auc", "f1", "precision", "recall", "accuracy", "log_loss", "brier", "ece",
                    "rmse", "mae"]  # fmt: skip
"""What `featurekit monitor performance` judges."""
Kind = Literal["performance", "drift", "skew", "new_rows", "schedule", "event"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_WORD = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
NAME = re.compile(_WORD)
_EVERY: dict[Kind, str] = {
    "performance": "1h",
    "drift": "1h",
    "skew": "15m",
    "new_rows": "1m",
    "schedule": "1s",
    "event": "1s",
}
"""How often a condition is looked at, where its trigger does not say."""


def _duration(written: str) -> str:
    try:
        duration_us(written, what="")
    except DefinitionError as error:
        raise ValueError(str(error).removeprefix(": ")) from None
    return written


def _zone(written: str) -> str:
    try:
        zone(written)
    except DefinitionError as error:
        raise ValueError(str(error)) from None
    return written


def _time_of_day(given: Any) -> Any:
    """YAML reads 22:00 without quotes as a number of minutes."""
    if type(given) is int and 0 <= given < 24 * 60:
        return f"{given // 60:02}:{given % 60:02}"
    return given


def _clock(written: str) -> str:
    try:
        return dt.time.fromisoformat(written).strftime("%H:%M")
    except ValueError:
        raise ValueError(f'is a time of day, found {written!r}; write "22:00"') from None


Time = Annotated[str, AfterValidator(_duration)]
Zone = Annotated[str, AfterValidator(_zone)]
TimeOfDay = Annotated[str, BeforeValidator(_time_of_day), AfterValidator(_clock)]
Word = Annotated[str, Field(pattern=_WORD)]
Variable = Annotated[str, Field(pattern=_VARIABLE)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- what is looked at ----------------------------------------------------------------------------


class PerformanceCondition(_Settings):
    """Predictions of `service` did worse than they may, in the last `window`.

    Without a `measure`, that is what `monitoring: performance:` says. With one, its whole interval
    lies `below` or `above` a number. The other settings are the options of `featurekit monitor
    performance`.
    """

    service: str
    measure: Performed | None = None
    below: float | None = None
    above: float | None = None
    window: Time = "7d"
    horizon: Time = "30d"
    target: str | None = None
    prediction: str | None = None
    positive: bool | int | float | str | None = None
    cut: float = 0.5

    @model_validator(mode="after")
    def _one_bound(self) -> PerformanceCondition:
        bounds = (self.below is not None) + (self.above is not None)
        if bounds != (self.measure is not None):
            raise ValueError(
                "takes a measure and one of below and above, or none of the three; write "
                "{service: churn_v1, measure: auc, below: 0.75}"
            )
        return self


class DriftCondition(_Settings):
    """Values of `service` in the last `window` have moved away from `reference`: a feature
    contract, a manifest, or a time such as 7d.

    Without a `measure`, that is what `monitoring: thresholds:` says. With one, it passes `above`,
    and what chance alone gives. `features` are the ones that count, by default all.
    """

    service: str
    reference: str
    window: Time = "1d"
    measure: Measure | None = None
    above: float | None = Field(default=None, ge=0.0)
    features: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _both(self) -> DriftCondition:
        if (self.measure is None) != (self.above is None):
            raise ValueError(
                "takes a measure together with above, or neither; write "
                "{service: checkout, reference: 7d, measure: psi, above: 0.3}"
            )
        return self


class SkewCondition(_Settings):
    """A check of about `values` values of `service` finds some that are not what offline says."""

    service: str
    values: int = Field(default=20_000, ge=1)


class NewRowsCondition(_Settings):
    """`at_least` rows came to `source`, in files or by pushes, since its trigger fired last."""

    source: str
    at_least: int = Field(ge=1)


class Schedule(_Settings):
    """The local times of `timezone` that a `cron` expression names."""

    cron: str
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _comes(self) -> Schedule:
        self.times  # noqa: B018 - its errors are those of the setting
        return self

    @property
    def times(self) -> Cron:
        """The instants of the schedule."""
        try:
            return Cron(self.cron, self.timezone)
        except DefinitionError as error:
            raise ValueError(str(error)) from None


class QuietHours(_Settings):
    """From `start` up to but not at `end`, local times of `timezone`, nothing is done. They may
    reach over midnight."""

    start: TimeOfDay
    end: TimeOfDay
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _some(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError('start and end are one time; write {start: "22:00", end: "07:00"}')
        return self

    def hold(self, at: dt.datetime) -> bool:
        """Whether an instant lies in them."""
        now = at.astimezone(zone(self.timezone)).strftime("%H:%M")
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


# --- what is done ---------------------------------------------------------------------------------


class WebhookAction(_Settings):
    """A POST to `url`, or to the URL in the variable `url_env`, in the form of Slack, of PagerDuty,
    of Alertmanager, or a plain one.

    `key_env` names the variable with PagerDuty's routing key. `token_env` names one with a bearer
    token, and `secret_env` one with a secret by which a plain body is signed.
    """

    url: str | None = Field(default=None, pattern=r"^https?://", repr=False)
    url_env: Variable | None = None
    format: Literal["plain", "slack", "pagerduty", "alertmanager"] = "plain"
    key_env: Variable | None = None
    token_env: Variable | None = None
    secret_env: Variable | None = None
    severity: Literal["critical", "error", "warning", "info"] = "warning"

    @model_validator(mode="after")
    def _whole(self) -> WebhookAction:
        if self.url is not None and self.url_env is not None:
            raise ValueError("url and url_env both say where it goes; keep one of them")
        if self.url is None and self.url_env is None and self.format != "pagerduty":
            raise ValueError("has no address; write url: https://…, or url_env: SLACK_URL")
        if (self.format == "pagerduty") != (self.key_env is not None):
            raise ValueError(
                "PagerDuty's routing key is in a variable of the environment, and no other format "
                "has one; write {format: pagerduty, key_env: PAGERDUTY_KEY}"
            )
        if self.secret_env is not None and self.format != "plain":
            raise ValueError(f"secret_env signs plain bodies, found format: {self.format}")
        return self


class AirflowAction(_Settings):
    """A run of the DAG `dag_id` at the Airflow at `url`, with `conf` and the firing in its conf.

    `api` is v2 for Airflow 3 and v1 for Airflow 2. `token_env` names the variable with a token, or
    `password_env` the one with the password of `username`.
    """

    url: str = Field(pattern=r"^https?://", repr=False)
    dag_id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,250}$")
    conf: dict[str, Any] = Field(default_factory=dict)
    api: Literal["v2", "v1"] = "v2"
    token_env: Variable | None = None
    username: str | None = None
    password_env: Variable | None = None

    @model_validator(mode="after")
    def _one_login(self) -> AirflowAction:
        if (self.username is None) != (self.password_env is None):
            raise ValueError("username and password_env belong together; write both or none")
        if self.username is not None and self.token_env is not None:
            raise ValueError("token_env and username both say who asks; keep one of them")
        return self


class ActionConfig(_Settings):
    """One thing that is done: a `command` (a list of words), a `webhook` or an `airflow` run."""

    command: list[str] | None = Field(default=None, min_length=1)
    webhook: WebhookAction | None = None
    airflow: AirflowAction | None = None

    @model_validator(mode="after")
    def _one(self) -> ActionConfig:
        given = [self.command, self.webhook, self.airflow]
        if sum(one is not None for one in given) != 1:
            raise ValueError(
                "is one of command, webhook and airflow; write several as several entries of the "
                "list, as in [{command: [python, train.py]}, {webhook: {url: https://…}}]"
            )
        return self


class TriggerConfig(_Settings):
    """A trigger: one condition, and the `actions` that are done when it holds; under `featurekit:
    triggers: NAME:`.

    It is looked at `every` so often. After it fired, it is silent for `cooldown`, and in its
    `quiet_hours` it waits. With `approve` a person must say yes first. With `dry_run` nothing is
    done but told. An action that fails is tried `retries` times more, each for `timeout` at most.
    `repeatable` says that actions may be done again where the process died that did them. The
    webhooks of `tell` are told where a person is asked, and where a firing failed or is lost.
    """

    performance: PerformanceCondition | None = None
    drift: DriftCondition | None = None
    skew: SkewCondition | None = None
    new_rows: NewRowsCondition | None = None
    schedule: Schedule | None = None
    event: Word | None = None
    actions: list[ActionConfig] = Field(min_length=1, max_length=20)
    tell: list[WebhookAction] = Field(default_factory=list, max_length=20)
    every: Time | None = None
    cooldown: Time | None = None
    quiet_hours: QuietHours | None = None
    approve: bool = False
    dry_run: bool = False
    repeatable: bool = False
    retries: int = Field(default=0, ge=0, le=10)
    timeout: Time = "1h"

    @field_validator("schedule", mode="before")
    @classmethod
    def _in_utc(cls, given: Any) -> Any:
        """The expression alone means UTC."""
        return {"cron": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_condition(self) -> TriggerConfig:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"has {', '.join(given) if given else 'no condition'}; write one of "
                f"{', '.join(KINDS)}"
            )
        if self.every is not None and self.kind in ("schedule", "event"):
            raise ValueError(f"every is for conditions that are looked at; {self.kind} has none")
        return self

    @property
    def kind(self) -> Kind:
        """Which condition it has."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def every_s(self) -> float:
        """Seconds from one look to the next."""
        return duration_us(self.every or _EVERY[self.kind], what="every") / 1e6

    @property
    def cooldown_us(self) -> int | None:
        """Microseconds for which it is silent after it fired; None without a cool-down."""
        return None if self.cooldown is None else duration_us(self.cooldown, what="cooldown")

    @property
    def timeout_s(self) -> float:
        """Seconds that an action may take."""
        return duration_us(self.timeout, what="timeout") / 1e6


# --- what runs beside -----------------------------------------------------------------------------


class ConsumeConfig(_Settings):
    """A stream that `featurekit watch` takes events from; the settings are the options of
    `featurekit consume`. `stream_url` names the server: a Redis, or kafka://HOST:PORT/TOPIC. Where
    the stream is more than `lag` behind, materialize waits for it."""

    stream: str | None = None
    stream_url: str | None = Field(default=None, repr=False)
    kafka: KafkaConfig = Field(default_factory=KafkaConfig)
    group: str = "featurekit"
    batch: int = Field(default=500, ge=1)
    lag: Time | None = "5m"

    @model_validator(mode="after")
    def _one_name(self) -> ConsumeConfig:
        if self.stream is not None and is_kafka(self.stream_url):
            raise ValueError(
                "stream is a key of Redis; a topic stands in the URL, as in "
                "stream_url: kafka://localhost:9092/orders"
            )
        return self


class MaterializeConfig(_Settings):
    """How `featurekit watch` fills what comes as files: the increment of `views`, by default all,
    `every` so often. Where a view is more than `lag` behind, consumers wait for the run."""

    every: Time = "1h"
    views: list[str] = Field(default_factory=list)
    lag: Time | None = None


class WatchConfig(_Settings):
    """What `featurekit watch` runs beside triggers; under `featurekit: watch:`. `consume` has the
    streams by the names of their sources."""

    consume: dict[str, ConsumeConfig] = Field(default_factory=dict)
    materialize: MaterializeConfig | None = None


_WEBHOOK = {
    "url": "https://hooks.example/retrain",
    "url_env": "SLACK_URL",
    "format": "slack",
    "key_env": "PAGERDUTY_KEY",
    "token_env": "HOOK_TOKEN",
    "secret_env": "HOOK_SECRET",
    "severity": "error",
}
TRIGGER_EXAMPLES = {
    "triggers": '{nightly: {schedule: "0 3 * * *", actions: [{command: [make, train]}]}}',
    "triggers.*": '{schedule: "0 3 * * *", actions: [{command: [make, train]}]}',
    "triggers.*.performance": "{service: churn_v1, measure: auc, below: 0.75}",
    "triggers.*.performance.service": "churn_v1",
    "triggers.*.performance.measure": "auc",
    "triggers.*.performance.below": "0.75",
    "triggers.*.performance.above": "0.6",
    "triggers.*.performance.window": "7d",
    "triggers.*.performance.horizon": "30d",
    "triggers.*.performance.target": '"churn@3"',
    "triggers.*.performance.prediction": "customer_orders__spend_30d",
    "triggers.*.performance.positive": "churned",
    "triggers.*.performance.cut": "0.5",
    "triggers.*.drift": "{service: checkout, reference: 7d}",
    "triggers.*.drift.service": "checkout",
    "triggers.*.drift.reference": "churn.contract.json",
    "triggers.*.drift.window": "1d",
    "triggers.*.drift.measure": "psi",
    "triggers.*.drift.above": "0.3",
    "triggers.*.drift.features": "[customer_orders__spend_30d]",
    "triggers.*.skew": "{service: checkout}",
    "triggers.*.skew.service": "checkout",
    "triggers.*.skew.values": "20000",
    "triggers.*.new_rows": "{source: orders, at_least: 100000}",
    "triggers.*.new_rows.source": "orders",
    "triggers.*.new_rows.at_least": "100000",
    "triggers.*.schedule": '{cron: "0 3 * * *", timezone: Europe/London}',
    "triggers.*.schedule.cron": '"0 3 * * *"',
    "triggers.*.schedule.timezone": "Europe/London",
    "triggers.*.event": "retrain",
    "triggers.*.actions": "[{command: [make, train]}]",
    "triggers.*.actions.*": "{command: [make, train]}",
    "triggers.*.actions.*.command": "[make, train]",
    "triggers.*.actions.*.webhook": "{url_env: SLACK_URL, format: slack}",
    "triggers.*.actions.*.airflow": "{url: https://airflow.example, dag_id: retrain}",
    "triggers.*.actions.*.airflow.url": "https://airflow.example",
    "triggers.*.actions.*.airflow.dag_id": "retrain",
    "triggers.*.actions.*.airflow.conf": "{model: churn}",
    "triggers.*.actions.*.airflow.api": "v2",
    "triggers.*.actions.*.airflow.token_env": "AIRFLOW_TOKEN",
    "triggers.*.actions.*.airflow.username": "featurekit",
    "triggers.*.actions.*.airflow.password_env": "AIRFLOW_PASSWORD",
    "triggers.*.tell": "[{url_env: SLACK_URL, format: slack}]",
    "triggers.*.tell.*": "{url_env: SLACK_URL, format: slack}",
    **{
        f"triggers.*.{place}.{name}": written
        for place in ("actions.*.webhook", "tell.*")
        for name, written in _WEBHOOK.items()
    },
    "triggers.*.every": "1h",
    "triggers.*.cooldown": "1d",
    "triggers.*.quiet_hours": '{start: "22:00", end: "07:00", timezone: Europe/London}',
    "triggers.*.quiet_hours.start": '"22:00"',
    "triggers.*.quiet_hours.end": '"07:00"',
    "triggers.*.quiet_hours.timezone": "Europe/London",
    "triggers.*.approve": "true",
    "triggers.*.dry_run": "true",
    "triggers.*.repeatable": "true",
    "triggers.*.retries": "3",
    "triggers.*.timeout": "1h",
    "watch": "{materialize: {every: 1h}}",
    "watch.consume": "{orders: {lag: 5m}}",
    "watch.consume.*": "{lag: 5m}",
    "watch.consume.*.stream": '"shop:orders"',
    "watch.consume.*.stream_url": "redis://localhost:6379/1",
    **{f"watch.consume.*.{place}": written for place, written in STREAM_EXAMPLES.items()},
    "watch.consume.*.group": "featurekit",
    "watch.consume.*.batch": "500",
    "watch.consume.*.lag": "5m",
    "watch.materialize": "{every: 1h}",
    "watch.materialize.every": "1h",
    "watch.materialize.views": "[customer_orders]",
    "watch.materialize.lag": "3h",
}
"""How each of these settings may be written, below `featurekit:`; * is any name or number."""
