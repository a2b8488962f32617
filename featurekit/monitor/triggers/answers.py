"""Answers for a process that watches: its metrics, whether it is well, and events from outside."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from featurekit.errors import ConfigError, OnlineError
from featurekit.monitor.answers import Answer, Asked
from featurekit.monitor.triggers.lead import Watch
from featurekit.monitor.triggers.state import Occasion, change_state
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.api_keys import ApiKey, api_keys_key, opens, parts_of, read_keys
from featurekit.project.trigger_settings import NAME, TriggerConfig

_EVENTS = "/events/"
_REASON = 1000
_ID = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class WatchAnswers:
    """Answers GET /metrics, /health and /ready, and POST /events/NAME. `texts` give the metrics."""

    watch: Watch
    texts: Iterable[Callable[[], bytes]]
    alive: Callable[[], bool]

    def __call__(self, asked: Asked) -> Answer:
        """The answer to a request."""
        if asked.method == "POST" and asked.path.startswith(_EVENTS):
            return self._event(asked, asked.path.removeprefix(_EVENTS))
        if asked.method == "GET" and asked.path == "/metrics":
            return Answer.metrics(b"".join(text() for text in self.texts))
        if asked.method == "GET" and asked.path in ("/health", "/ready"):
            fine = self.alive() and (self.watch.reached or asked.path == "/health")
            role = "leads" if self.watch.leads else "waits"
            return Answer.json(
                200 if fine else 503,
                {
                    "status": "ok" if fine else "unavailable",
                    "role": role,
                    "triggers": len(self.watch.parts.triggers),
                },
            )
        return Answer(404, b"featurekit: see /metrics, /health, /ready, and POST /events/NAME\n")

    def _event(self, asked: Asked, name: str) -> Answer:
        store, project = self.watch.store, self.watch.parts.project
        try:
            key = _key_of(store, project, asked.headers.get("authorization", ""))
            if key is None:
                return _refused(401, "show an API key, as in Authorization: Bearer fk-api-…")
            if not NAME.fullmatch(name) or not key.scopes & {f"event:{name}", "event:*"}:
                return _refused(403, "the key has no scope event:NAME for this event")
            triggers = waiting_for(self.watch.parts.triggers, name)
            if not triggers:
                return _refused(404, f"no trigger waits for an event {name}")
            return _taken(store, project, name, triggers, asked, key)
        except OnlineError as error:
            self.watch.parts.warn(f"event {name}: {error}")
            return _refused(503, "the online store cannot be asked; try again")


def waiting_for(triggers: Mapping[str, TriggerConfig], event: str) -> list[str]:
    """The triggers that an event makes fire."""
    return [name for name, config in triggers.items() if config.event == event]


def _taken(
    store: OnlineStore, project: str, event: str, triggers: list[str], asked: Asked, key: ApiKey
) -> Answer:
    id_ = asked.headers.get("idempotency-key") or uuid.uuid4().hex
    if not _ID.fullmatch(id_):
        return _refused(400, "Idempotency-Key has up to 200 letters, digits and signs")
    reason = _reason(asked.body)
    if reason is None:
        return _refused(400, 'a body is an object with a text, as in {"reason": "new labels"}')
    said = f"event {event}: {reason}" if reason else f"event {event}"
    one = Occasion(f"event:{id_}", store.now_us(), said, f"key {key.name}")
    new = []
    for trigger in triggers:
        try:
            before, after = change_state(store, project, trigger, lambda s: s.with_asked(one))
        except ConfigError as error:
            return _refused(429, f"trigger {trigger}: {error}")
        new += [trigger] if before != after else []
    return Answer.json(202, {"triggers": triggers, "new": new})


def _reason(body: bytes) -> str | None:
    """The reason that a body gives, "" where there is none; None for a body of another form."""
    if not body.strip():
        return ""
    try:
        found: Any = json.loads(body)
    except ValueError:
        return None
    reason = found.get("reason", "") if isinstance(found, dict) else None
    if not isinstance(reason, str):
        return None
    return "".join(c if c.isprintable() else " " for c in reason)[:_REASON]


def _key_of(store: OnlineStore, project: str, header: str) -> ApiKey | None:
    """The key that a request shows, where it opens something."""
    kind, _, token = header.partition(" ")
    parts = parts_of(token.strip().encode("utf-8", "replace")) if kind.lower() == "bearer" else None
    if parts is None:
        return None
    id_, secret = parts
    (value,) = store.read([api_keys_key(project)])
    known = read_keys(value).get(id_)
    if not opens(known, project, id_, secret):
        return None
    assert known is not None
    return known if known.why_void(store.now_us()) is None else None


def _refused(status: int, said: str) -> Answer:
    return Answer.json(status, {"error": said})
