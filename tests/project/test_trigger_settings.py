"""The settings of triggers: what is taken, and what is said of each fault."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from featurekit.errors import ConfigError
from featurekit.project.config import load_config
from featurekit.project.trigger_settings import QuietHours, TriggerConfig

GOOD: dict[str, Any] = {"event": "go", "actions": [{"command": ["true"]}]}


def load(folder: Path, trigger: Any, name: str = "one") -> TriggerConfig:
    text = yaml.safe_dump({"project": "shop", "featurekit": {"triggers": {name: trigger}}})
    (folder / "feature_store.yaml").write_text(text)
    return load_config(folder).featurekit.triggers[name]


def with_(**settings: Any) -> dict[str, Any]:
    kept = {} if {*settings} & {"skew", "drift", "performance", "new_rows", "schedule"} else GOOD
    return {**kept, "actions": GOOD["actions"], **settings}


def hook(**settings: Any) -> dict[str, Any]:
    return with_(actions=[{"webhook": settings}])


def dag(**settings: Any) -> dict[str, Any]:
    return with_(actions=[{"airflow": {"url": "http://a", "dag_id": "d", **settings}}])


FAULTS: dict[str, tuple[Any, str]] = {
    "no condition": ({"actions": GOOD["actions"]}, "has no condition; write one of performance, "),
    "two conditions": (with_(schedule="0 3 * * *", event="go"), "has schedule, event; write one"),
    "no actions": ({"event": "go"}, r"actions: is missing; write actions: \[\{command"),
    "empty actions": (with_(actions=[]), r"actions: .*at least 1 item.*; write actions: "),
    "unknown": (with_(cooldwn="1h"), "cooldwn: no such setting; did you mean 'cooldown'"),
    "unknown inside": (with_(skew={"servce": "s"}), "skew.servce: no such setting; did you mean"),
    "unknown in a list": (hook(ulr="http://a"), r"webhook\.ulr: no such setting; did you mean"),
    "service": (with_(skew={}), "skew.service: is missing; write service: checkout"),
    "service's type": (with_(skew={"service": 7}), 'is a text, found 7; put it in quotes: write'),
    "values": (with_(skew={"service": "s", "values": 0}), "values: .*greater than or equal to 1"),
    "at_least": (with_(new_rows={"source": "s", "at_least": "x"}), "is a whole number, found 'x'"),
    "window": (
        with_(drift={"service": "s", "reference": "7d", "window": "1 day"}),
        r"drift\.window: '1 day' is not a duration; did you mean \"1d\"",
    ),
    "measure": (
        with_(drift={"service": "s", "reference": "7d", "measure": "pis", "above": 1}),
        "measure: is 'psi', .*, found 'pis'; write measure: psi",
    ),
    "measure alone": (
        with_(drift={"service": "s", "reference": "7d", "measure": "psi"}),
        "takes a measure together with above, or neither",
    ),
    "below alone": (
        with_(performance={"service": "s", "below": 0.5}),
        "takes a measure and one of below and above, or none of the three",
    ),
    "both bounds": (
        with_(performance={"service": "s", "measure": "auc", "below": 0.5, "above": 0.1}),
        "takes a measure and one of below and above",
    ),
    "cron": (with_(schedule="0 25 * * *"), "'0 25 [*] [*] [*]' is no schedule: bad hour; write"),
    "cron never": (with_(schedule="0 0 30 2 *"), "is no schedule: bad day-of-month"),
    "timezone": (
        with_(schedule={"cron": "0 3 * * *", "timezone": "London"}),
        r"timezone: 'London' is not a time zone .*Europe/London",
    ),
    "event": (with_(event="a b"), "event: is a name of letters, digits and _, found 'a b'"),
    "every": (with_(every="1h"), "every is for conditions that are looked at; event has none"),
    "cooldown": (with_(cooldown="soon"), "cooldown: 'soon' is not a duration; write"),
    "timeout": (with_(timeout="0s"), "timeout: a duration must be positive"),
    "retries": (with_(retries=11), "retries: .*less than or equal to 10, found 11"),
    "approve": (with_(approve="perhaps"), "approve: is true or false, found 'perhaps'"),
    "quiet start": (
        with_(quiet_hours={"start": "25:00", "end": "07:00"}),
        "start: is a time of day, found '25:00'; write \"22:00\"",
    ),
    "quiet none": (
        with_(quiet_hours={"start": "07:00", "end": "07:00"}), "start and end are one time"
    ),
    "quiet zone": (
        with_(quiet_hours={"start": "22:00", "end": "07:00", "timezone": "CEST"}),
        r"quiet_hours\.timezone: 'CEST' is not a time zone",
    ),
    "no kind of action": (with_(actions=[{}]), r"actions\.0: is one of command, webhook and air"),
    "two kinds of action": (
        with_(actions=[{"command": ["a"], "webhook": {"url": "http://a"}}]),
        r"actions\.0: is one of command, webhook and airflow; write several as several entries",
    ),
    "a command as a text": (
        with_(actions=[{"command": "make train"}]),
        r"command: is a list, found 'make train'; write command: \[make, train\]",
    ),
    "an empty command": (with_(actions=[{"command": []}]), "command: .*at least 1 item"),
    "url": (hook(url="hooks.example"), "url: is a URL of http or https, found a str that is not"),
    "no url": (hook(format="slack"), "has no address; write url: https://…, or url_env"),
    "two urls": (hook(url="http://a", url_env="A"), "url and url_env both say where it goes"),
    "url_env": (
        hook(url_env="https://hooks/secret"),
        "url_env: is the name of a variable of the environment, and no secret, found a str that",
    ),
    "format": (hook(url="http://a", format="teams"), "format: is 'plain', 'slack'.*found 'teams'"),
    "pagerduty without a key": (hook(format="pagerduty"), "routing key is in a variable"),
    "a key without pagerduty": (hook(url="http://a", key_env="K"), "no other format has one"),
    "a signature of slack": (
        hook(url="http://a", format="slack", secret_env="S"), "secret_env signs plain bodies, found"
    ),
    "severity": (hook(url="http://a", severity="bad"), "severity: is 'critical', .*, found 'bad'"),
    "dag_id": (dag(dag_id="a/b"), "dag_id: is the name of a DAG, found"),
    "api": (dag(api="v3"), "api: is 'v2' or 'v1', found 'v3'; write api: v2"),
    "user alone": (dag(username="u"), "username and password_env belong together"),
    "two logins": (
        dag(username="u", password_env="P", token_env="T"), "token_env and username both say who"
    ),
    "not a mapping": ("nightly", "is a mapping of settings, found 'nightly'; write"),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_with_its_place_and_what_to_write(tmp_path: Path, what: str) -> None:
    trigger, said = FAULTS[what]
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, trigger)
    assert re.search(
        rf"feature_store\.yaml:\d+: featurekit\.triggers\.one.*{said}", str(raised.value)
    )
    assert "hooks/secret" not in str(raised.value)
    assert "pydantic" not in str(raised.value)


def test_each_setting_of_a_trigger_has_a_fault_here() -> None:
    said = " ".join(f"{what} {trigger}" for what, (trigger, _) in FAULTS.items())
    lacking = {name for name in TriggerConfig.model_fields if name not in said}
    assert lacking == {"dry_run", "repeatable"}, "these are true or false, as approve is"


def test_the_name_of_a_trigger_is_a_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"triggers: 'a b' is no name of a trigger; write up to"):
        load(tmp_path, GOOD, "a b")


def test_times_of_day_need_no_quotes(tmp_path: Path) -> None:
    """YAML reads 22:30 as 22 × 60 + 30, and leaves 07:00 a text."""
    text = """
project: shop
featurekit:
  triggers:
    one:
      event: go
      quiet_hours: {start: 22:30, end: 07:00}
      actions: [{command: [make]}]
"""
    (tmp_path / "feature_store.yaml").write_text(text)
    quiet = load_config(tmp_path).featurekit.triggers["one"].quiet_hours
    assert quiet == QuietHours(start="22:30", end="07:00", timezone="UTC")


def test_a_webhook_s_address_is_in_no_text_of_the_settings(tmp_path: Path) -> None:
    made = load(tmp_path, hook(url="https://hooks.example/secret"))
    assert "hooks.example" not in repr(made)


HELD = {
    ("22:00", "07:00"): {"21:59": False, "22:00": True, "00:00": True, "06:59": True,
                         "07:00": False},
    ("01:00", "02:00"): {"00:59": False, "01:00": True, "01:59": True, "02:00": False},
}  # fmt: skip


@pytest.mark.parametrize("span", HELD)
def test_quiet_hours_hold_from_their_start_up_to_their_end(span: tuple[str, str]) -> None:
    quiet = QuietHours(start=span[0], end=span[1], timezone="America/New_York")
    for clock, held in HELD[span].items():
        hour, minute = map(int, clock.split(":"))
        at = dt.datetime(2026, 1, 5, hour, minute, tzinfo=dt.UTC) + dt.timedelta(hours=5)
        assert quiet.hold(at) is held, clock


def test_quiet_hours_are_of_the_clock_on_the_wall_where_it_changes() -> None:
    """In London 01:00 to 02:00 is left out on 29 March 2026, and comes twice on 25 October."""
    quiet = QuietHours(start="01:00", end="02:00", timezone="Europe/London")

    def minutes(day: dt.datetime) -> int:
        return sum(quiet.hold(day + dt.timedelta(minutes=n)) for n in range(24 * 60))

    assert minutes(dt.datetime(2026, 3, 28, 12, tzinfo=dt.UTC)) == 0
    assert minutes(dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)) == 60
    assert minutes(dt.datetime(2026, 10, 24, 12, tzinfo=dt.UTC)) == 120
