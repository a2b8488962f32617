"""Does the actions of a firing: runs a command, posts to a webhook, or starts a run of Airflow."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from featurekit.core.leash import Leashed
from featurekit.core.openness import make_folder, opened
from featurekit.monitor.triggers import payloads
from featurekit.monitor.triggers.payloads import Told
from featurekit.project.trigger_settings import (
    ActionConfig,
    AirflowAction,
    TriggerConfig,
    WebhookAction,
)

_POLL_S = 0.1
_HTTP_S = 30.0
_BACK_OFF_S, _MOST_BACK_OFF_S = 1.0, 60.0
_KEPT_OUTPUTS = 50


class ActionFailed(Exception):
    """An action failed; its text says why, without a secret. `again` says whether another try may
    help."""

    def __init__(self, said: str, *, again: bool = True) -> None:
        super().__init__(said)
        self.again = again


@dataclass(slots=True)
class Ending:
    """The end of the process that does actions: once `stop` is set, nothing new is begun, and once
    `now` is, what runs is ended; `why` says for what."""

    stop: threading.Event = field(default_factory=threading.Event)
    now: threading.Event = field(default_factory=threading.Event)
    why: str = ""

    def end(self, why: str) -> None:
        """End what runs."""
        self.why = self.why or why
        self.stop.set()
        self.now.set()


@dataclass(frozen=True, slots=True)
class Where:
    """Where actions are done: commands in the `folder` of the repo, with their output kept in files
    of `outputs`."""

    folder: Path
    outputs: Path


def perform(
    config: TriggerConfig, action: ActionConfig, told: Told, where: Where, ending: Ending
) -> str:
    """Do one action, and try again as often as the trigger says; how it went. ActionFailed where it
    failed the last time, or `ending` came between two tries."""
    tries = 0
    while True:
        try:
            said = _once(config, action, told, where, ending)
            return f"{said}, at try {tries + 1}" if tries else said
        except ActionFailed as error:
            tries += 1
            if not error.again or tries > config.retries:
                said = f"{error}, {tries} times" if tries > 1 else str(error)
                raise ActionFailed(said) from None
            if ending.stop.wait(min(_BACK_OFF_S * 2 ** (tries - 1), _MOST_BACK_OFF_S)):
                raise ActionFailed(f"{error}; the watch ended before try {tries + 1}") from None


def _once(
    config: TriggerConfig, action: ActionConfig, told: Told, where: Where, ending: Ending
) -> str:
    if action.command is not None:
        return _run(action.command, told, where, config.timeout_s, ending)
    wait_s = min(config.timeout_s, _HTTP_S)
    if action.webhook is not None:
        return _post(action.webhook, told, wait_s)
    assert action.airflow is not None
    return _start_dag(action.airflow, told, wait_s)


def tell(webhook: WebhookAction, told: Told) -> None:
    """Tell a webhook of a firing, once. ActionFailed where it does not take it."""
    _post(webhook, told, _HTTP_S)


def check_environment(action: ActionConfig | WebhookAction) -> list[str]:
    """The variables that an action needs and that the environment does not have."""
    names: list[str | None] = []
    one = action if isinstance(action, WebhookAction) else action.webhook
    if one is not None:
        names = [one.url_env, one.key_env, one.token_env, one.secret_env]
    elif isinstance(action, ActionConfig) and action.airflow is not None:
        names = [action.airflow.token_env, action.airflow.password_env]
    return [name for name in names if name is not None and not os.environ.get(name)]


def shown(action: ActionConfig) -> str:
    """An action as one line, without what may be secret."""
    if action.command is not None:
        return f"command {' '.join(action.command)}"
    if action.webhook is not None:
        return f"webhook {_host_of(action.webhook)} ({action.webhook.format})"
    assert action.airflow is not None
    return f"airflow {urlsplit(action.airflow.url).hostname}: {action.airflow.dag_id}"


# --- a command ------------------------------------------------------------------------------------


def _run(command: list[str], told: Told, where: Where, timeout_s: float, ending: Ending) -> str:
    path = where.outputs / told.trigger / f"{told.occasion}.log"
    make_folder(path.parent)
    file = opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        running = Leashed(command, cwd=where.folder, env=_environment(told), output=file)
    finally:
        os.close(file)
        _remove_old(path.parent)
    until = time.monotonic() + timeout_s
    while (code := running.wait(_POLL_S)) is None:
        if ending.now.is_set():
            running.end()
            raise ActionFailed(f"{command[0]} was ended: {ending.why}", again=False)
        if time.monotonic() >= until:
            running.end()
            raise ActionFailed(f"{command[0]} was ended after {timeout_s:g} s; see {path}")
    if code != 0:
        how = f"by signal {code - 128}" if 128 < code < 160 else f"with {code}"
        raise ActionFailed(f"{command[0]} ended {how}; see {path}")
    return f"{command[0]} ended with 0"


def _environment(told: Told) -> dict[str, str]:
    return {
        **os.environ,
        "FEATUREKIT_TRIGGER": told.trigger,
        "FEATUREKIT_OCCASION": told.occasion,
        "FEATUREKIT_REASON": told.reason,
    }


def _remove_old(folder: Path) -> None:
    """Keep the newest outputs of a trigger."""
    files = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files[_KEPT_OUTPUTS:]:
        with contextlib.suppress(OSError):
            file.unlink()


# --- a request ------------------------------------------------------------------------------------


def _post(action: WebhookAction, told: Told, wait_s: float) -> str:
    body: Any = told.to_dict()
    if action.format == "slack":
        body = payloads.slack(told)
    elif action.format == "pagerduty":
        body = payloads.pagerduty(told, _variable(action.key_env), action.severity)
    elif action.format == "alertmanager":
        body = payloads.alertmanager(told, action.severity)
    data = json.dumps(body, allow_nan=False).encode()
    headers = {"Idempotency-Key": told.name}
    if action.token_env is not None:
        headers["Authorization"] = f"Bearer {_variable(action.token_env)}"
    if action.secret_env is not None:
        key = _variable(action.secret_env).encode()
        headers["X-Featurekit-Signature"] = f"sha256={hmac.digest(key, data, hashlib.sha256).hex()}"
    status, _ = _send(_url_of(action), data, headers, wait_s)
    return f"{_host_of(action)} answered {status}"


def _start_dag(action: AirflowAction, told: Told, wait_s: float) -> str:
    base = f"{action.url.rstrip('/')}/api/{action.api}"
    url = f"{base}/dags/{quote(action.dag_id, safe='')}/dagRuns"
    data = json.dumps(payloads.airflow(told, action.conf, action.api), allow_nan=False).encode()
    run = f"run featurekit__{told.project}__{told.occasion} of DAG {action.dag_id}"
    try:
        _send(url, data, _login_of(action, wait_s), wait_s)
    except _Refused as refused:
        if refused.status == 409:  # it came before, and its answer was lost
            return f"{run} is there already"
        raise
    return f"{run} was started"


def _login_of(action: AirflowAction, wait_s: float) -> dict[str, str]:
    """The header by which Airflow knows who asks."""
    if action.token_env is not None:
        return {"Authorization": f"Bearer {_variable(action.token_env)}"}
    if action.username is None:
        return {}
    password = _variable(action.password_env)
    if action.api == "v1":
        import base64

        pair = base64.b64encode(f"{action.username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    asked = json.dumps({"username": action.username, "password": password}).encode()
    _, answer = _send(f"{action.url.rstrip('/')}/auth/token", asked, {}, wait_s)
    try:
        return {"Authorization": f"Bearer {json.loads(answer)['access_token']}"}
    except (ValueError, KeyError, TypeError):
        raise ActionFailed("Airflow's /auth/token gave no access_token", again=False) from None


class _Refused(ActionFailed):
    """A server answered with a status that says no."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said, again=status == 429 or status >= 500)
        self.status = status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer like others: it would lose the body, and may leave the host."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _send(url: str, data: bytes, headers: Mapping[str, str], wait_s: float) -> tuple[int, bytes]:
    """POST a body of JSON: the status, and the first megabyte of the answer."""
    host = urlsplit(url).hostname
    request = urllib.request.Request(url, data=data, method="POST", headers={
        "Content-Type": "application/json", "User-Agent": "featurekit", **headers,
    })  # fmt: skip
    try:
        with _opener.open(request, timeout=wait_s) as answer:
            return answer.status, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        with error:
            said = re.sub(r"\s+", " ", error.read(200).decode(errors="replace")).strip()
        more = f": {said}" if said else ""
        raise _Refused(f"{host} answered {error.code}{more}", error.code) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ActionFailed(f"{host} cannot be reached: {reason}") from None
    except ValueError as error:
        raise ActionFailed(f"the URL is none that can be asked: {error}", again=False) from None


def _url_of(action: WebhookAction) -> str:
    if action.url is not None:
        return action.url
    if action.url_env is None:
        return payloads.PAGERDUTY
    url = _variable(action.url_env)
    if not url.startswith(("http://", "https://")):
        raise ActionFailed(f"{action.url_env} of the environment is no URL", again=False)
    return url


def _host_of(action: WebhookAction) -> str:
    """The host alone: the rest of a webhook's URL is a secret."""
    try:
        return urlsplit(_url_of(action)).hostname or "a host"
    except (ActionFailed, ValueError):
        return str(action.url_env)


def _variable(name: str | None) -> str:
    found = os.environ.get(name or "")
    if not found:
        raise ActionFailed(f"the environment has no {name}", again=False)
    return found
