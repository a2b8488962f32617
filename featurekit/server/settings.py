"""What a serving process is told: which store, which project, how long and how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.online.store.clock import TOLERANCE_US
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import NO_LOGIN, Login

if TYPE_CHECKING:
    from featurekit.define.published import Trust
    from featurekit.log.served.log import ServingLog
    from featurekit.online.store.protocol import OnlineStore
    from featurekit.server.forward.targets import Forwarding

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers count; prometheus_client reads it when it is loaded."""

KEYS, TOKENS = "keys", "jwt"
"""How callers show who they are: by an API key, or by a token that an issuer signed."""

UNPACKED = 16
"""How many times as large a body may be once it is unpacked."""

_OF_REQUEST = 0.9
"""The share of a request's time for which Redis is waited for."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask. `auth` has KEYS or TOKENS or both; without any, everybody may.

    Tokens are signed by a key that `jwks` has, a file or a URL, are of `issuer` and for `audience`.
    `rate` is how many requests a second a caller may make, where its key does not say; None for any
    number. Pages of the origins `cors` may ask from a browser.
    """

    auth: tuple[str, ...] = ()
    jwks: str = ""
    issuer: str = ""
    audience: str = ""
    rate: float | None = None
    cors: tuple[str, ...] = ()


EVERYBODY = AccessSettings()


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How a server pushes: by the definitions of the `repo`, whose state folder has the log, to the
    Redis at `redis_url` where the repo's settings are not to say.

    The process that pushes is reached at the `socket`, takes pushes by so many `threads`, and lets
    so many of them be `waiting`, those it is at among them.
    """

    repo: str
    redis_url: str | None = field(default=None, repr=False)
    socket: str | None = None
    threads: int = 2
    waiting: int = 64


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where a server logs what it answers: `told` is what stands under `serving_log:`, with paths
    relative to `folder`."""

    told: Mapping[str, Any]
    folder: str = "."
    state_dir: str = ".featurekit"

    def open(self, store: OnlineStore, project: str) -> ServingLog:
        """The log."""
        # Loaded here: settings of a repo need a library that a server without a log does not.
        from featurekit.project.config import ServingLogConfig
        from featurekit.project.served_log import open_log

        return open_log(
            ServingLogConfig(**self.told),
            store,
            project,
            folder=Path(self.folder),
            state_dir=Path(self.state_dir),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """How a process serves. Exactly one of `url` and `private` is given: the Redis at a URL, or the
    private one whose data live in a folder.

    `login` says who connects, where the URL does not. `limits` has the numbers of the breaker.
    `timeout_s` is how long a request may take, and `connect_timeout_s` how long a connection to
    Redis may take to open. A body has at most `most_bytes` bytes and names at most `most_rows`
    rows; one of Arrow or Parquet may be `unpacked` times as large once it is unpacked. `log_format`
    is "text" or "json"; `access_log` says whether each request has a line in the log, and `traces`
    whether it is a span of OpenTelemetry. After SIGTERM, requests are answered for `drain_s`
    seconds, on connections that then close. `access` says who may ask, and `pushes` how it pushes,
    which it does where that is said. A push may take `push_timeout_s` and has at most
    `most_push_rows` rows. `catalog` is the folder of the pages under /catalog, where there are
    some. `forward` has the models that are forwarded to, and `log` says where answers are logged;
    None for none and nowhere.
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
    unpacked: int = UNPACKED
    most_rows: int = 10_000
    drain_s: float = 1.0
    access: AccessSettings = EVERYBODY
    pushes: PushSettings | None = None
    push_timeout_s: float = 10.0
    most_push_rows: int = 100_000
    log_format: str = "text"
    access_log: bool = False
    traces: bool = False
    catalog: str | None = None
    forward: Forwarding | None = None
    log: LogSettings | None = None

    @property
    def most_unpacked(self) -> int:
        """How many bytes a body of Arrow or Parquet may have once it is unpacked."""
        return self.unpacked * self.most_bytes

    def store(self) -> OnlineStore:
        """The online store; nothing is asked of it yet."""
        # Loaded here: who only hands settings to another process needs no client of Redis.
        from featurekit.online.store.open import open_private, open_store

        # Redis is given up a little before the request is, so that it is named, and counted.
        limits = self.waits(_OF_REQUEST * self.timeout_s)
        if self.private is not None:
            return open_private(Path(self.private), limits)
        return open_store(self.url or "", limits, login=self.login, named=self.named)

    def waits(self, timeout_s: float) -> Limits:
        """The limits of a server that is asked, and waited for up to `timeout_s` seconds."""
        return replace(
            self.limits,
            connect_timeout_s=min(self.connect_timeout_s, timeout_s),
            timeout_s=timeout_s,
            connections=self.connections,
        )

    def trust(self) -> Trust:
        """What is believed of plans (F0)."""
        from featurekit.define.published import Trust

        return Trust.held(self.project, self.public_keys, self.run_python)
