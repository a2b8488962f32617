"""Turns a firing into the bodies that Slack, PagerDuty, Alertmanager, Airflow and others take."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
"""Where PagerDuty takes events, outside of the EU."""
_SLACK_TEXT, _SLACK_HEAD, _PAGERDUTY_SUMMARY = 3000, 150, 1024
"""The most characters that a section and a header of Slack and a summary of PagerDuty may have."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the actions of a firing are told, and those who are told of it. `occasion` is its name,
    which stays the same where an action is tried again. `phase` says what it is at, "" for an
    action that is to be done, and `said` how it ended."""

    project: str
    trigger: str
    occasion: str
    reason: str
    kind: str
    at: dt.datetime
    asker: str = ""
    judge: str = ""
    phase: str = ""
    said: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All of it, in the form of JSON."""
        found = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}
        return {**found, "at": self.at.isoformat()}

    @property
    def summary(self) -> str:
        """One line for people."""
        return f"{self.project}: {self.trigger}: {self.what}"

    @property
    def what(self) -> str:
        """What is to be known: the reason, or what became of the firing and then the reason."""
        if self.phase == "asked":
            return f"waits for approval (featurekit triggers approve {self.trigger}): {self.reason}"
        return f"{self.phase}: {self.said}; {self.reason}" if self.phase else self.reason

    @property
    def name(self) -> str:
        """A name by which a receiver knows what it was sent before."""
        return f"{self.occasion}-{self.phase}" if self.phase else self.occasion


def slack(told: Told) -> dict[str, Any]:
    """The message of an incoming webhook of Slack."""
    said = f"{told.what}\n{told.occasion}, {told.at.isoformat(timespec='seconds')}"
    head = _cut(f"{told.project}: {told.trigger}", _SLACK_HEAD)
    return {
        "text": _cut(_escaped(told.summary), _SLACK_TEXT),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": head}},
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": _cut(_escaped(said), _SLACK_TEXT)},
            },
        ],
    }


def pagerduty(told: Told, routing_key: str, severity: str) -> dict[str, Any]:
    """An event of PagerDuty (Events API v2) that triggers an alert, one for each occasion."""
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": f"{told.project}/{told.name}",
        "client": "featurekit",
        "payload": {
            "summary": _cut(told.summary, _PAGERDUTY_SUMMARY),
            "source": told.project,
            "severity": severity,
            "timestamp": told.at.isoformat(timespec="milliseconds"),
            "component": told.trigger,
            "class": told.kind,
            "custom_details": told.to_dict(),
        },
    }


def alertmanager(told: Told, severity: str) -> list[dict[str, Any]]:
    """The alerts of a POST to Alertmanager (API v2): one, which Alertmanager itself lets end."""
    return [
        {
            "labels": {
                "alertname": "FeaturekitTrigger",
                "project": told.project,
                "trigger": told.trigger,
                "kind": told.kind,
                "severity": severity,
            },
            "annotations": {"summary": told.summary, "occasion": told.name},
            "startsAt": told.at.isoformat(timespec="milliseconds"),
        }
    ]


def airflow(told: Told, conf: dict[str, Any], api: str) -> dict[str, Any]:
    """A run of a DAG. Its id is of the occasion, so that Airflow refuses a second one."""
    made: dict[str, Any] = {
        "dag_run_id": f"featurekit__{told.project}__{told.occasion}",
        "conf": {**conf, "featurekit": told.to_dict()},
    }
    # Airflow 3 wants the field, and null says that the run is of no interval of data.
    return {**made, "logical_date": None} if api == "v2" else made


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _escaped(text: str) -> str:
    """A text in which Slack finds no link or mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
