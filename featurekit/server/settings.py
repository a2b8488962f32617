"""What a serving process is told: which store, which project, how long and how much."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.online.store.clock import TOLERANCE_US
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import NO_LOGIN, Login

if TYPE_CHECKING:
    from featurekit.define.published import Trust
    from featurekit.online.store.protocol import OnlineStore

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers count; prometheus_client reads it when it is loaded."""

_OF_REQUEST = 0.9
"""The share of a request's time for which Redis is waited for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a process serves. Exactly one of `url` and `private` is given: the Redis at a URL, or the
    private one whose data live in a folder.

    `login` says who connects, where the URL does not. `limits` has the numbers of the breaker.
    `timeout_s` is how long a request may take, and `connect_timeout_s` how long a connection to
    Redis may take to open. A body has at most `most_bytes` bytes and names at most `most_rows`
    rows. `log_format` is "text" or "json"; `access_log` says whether each request has a line in the
    log, and `traces` whether it is a span of OpenTelemetry. After SIGTERM, requests are answered
    for `drain_s` seconds, on connections that then close.
    """

    project: str
    url: str | None = field(default=None, repr=False)
    private: str | None = None
    named: str = "--redis-url"
    login: Login = NO_LOGIN
    on_mismatch: str = "refuse"
    public_keys: tuple[str, ...] | None = None
    run_python: bool | None = None
    tolerance_us: int = TOLERANCE_US
    timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    connections: int = 100
    limits: Limits = DEFAULT
    most_bytes: int = 4 * 1024 * 1024
    most_rows: int = 10_000
    drain_s: float = 1.0
    log_format: str = "text"
    access_log: bool = False
    traces: bool = False

    def store(self) -> OnlineStore:
        """The online store; nothing is asked of it yet."""
        # Loaded here: who only hands settings to another process needs no client of Redis.
        from featurekit.online.store.open import open_private, open_store

        # Redis is given up a little before the request is, so that it is named, and counted.
        wait_s = _OF_REQUEST * self.timeout_s
        limits = replace(
            self.limits,
            connect_timeout_s=min(self.connect_timeout_s, wait_s),
            timeout_s=wait_s,
            connections=self.connections,
        )
        if self.private is not None:
            return open_private(Path(self.private), limits)
        return open_store(self.url or "", limits, login=self.login, named=self.named)

    def trust(self) -> Trust:
        """What is believed of plans (F0)."""
        from featurekit.define.published import Trust

        return Trust.held(self.project, self.public_keys, self.run_python)
