"""Turns feature_store.yaml, which has the format of Feast, into featurekit's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote as url_quote

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurekit.errors import ConfigError

FILE = "feature_store.yaml"
URL_VARIABLE = "FEATUREKIT_REDIS_URL"


class OnlineConfig(BaseModel):
    """Feast's `online_store`: its Redis settings. Without `connection_string`, a private server is
    used."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["redis"]
    redis_type: Literal["redis"] = "redis"
    connection_string: str | None = None
    key_ttl_seconds: int | None = None
    full_scan_for_deletion: bool | None = None


class ServingLogConfig(BaseModel):
    """The log of what lookups answer, for `featurekit parity replay`; under `featurekit:
    serving_log:`.

    `to` is "parquet" or "stream". For "parquet", files go to `folder` (relative to the repo; by
    default `served` in `state_dir`), and a new one begins after `rotate_rows` rows or
    `rotate_seconds` seconds. For "stream", entries go to the Redis stream `stream` (by default
    fk:PROJECT:served) at `redis_url` (by default the online store). About the last `stream_entries`
    entries stay, each with up to about a thousand rows. `sample` is the share of requests that is
    logged. `queue_rows` rows may wait to be written before rows are dropped.
    """

    model_config = ConfigDict(extra="forbid")
    to: Literal["parquet", "stream"]
    sample: float = Field(default=1.0, gt=0.0, le=1.0)
    queue_rows: int = Field(default=20_000, ge=1)
    folder: str | None = None
    rotate_rows: int = Field(default=100_000, ge=1)
    rotate_seconds: float = Field(default=60.0, gt=0.0)
    stream: str | None = None
    stream_entries: int = Field(default=10_000, ge=1)
    redis_url: str | None = None


class FeaturekitConfig(BaseModel):
    """featurekit's own settings, under the key `featurekit`.

    `redis_url` is used before Feast's connection_string. `state_dir`, relative to the repo, holds
    the registry, the log of pushed events, quarantined rows and the private Redis. `registry` is
    the SQLite file of versions. `numeric_mismatch` says what a reader does where floats would
    differ (R6). `memory_limit`, such as "4GB", is how much memory DuckDB may use, by default most
    of the machine's; what exceeds it goes to disk, in `state_dir`. `buckets` is the number of parts
    into which a training set is split, by default as many as the memory limit asks for.
    `serving_log` says whether and where lookups are logged. `maxmemory_policy` is that of Redis,
    where INFO may not be asked for it.
    """

    model_config = ConfigDict(extra="forbid")
    redis_url: str | None = None
    state_dir: str = ".featurekit"
    registry: str | None = None
    numeric_mismatch: Literal["refuse", "warn"] = "refuse"
    memory_limit: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$")
    buckets: int | None = Field(default=None, ge=1, le=4096)
    serving_log: ServingLogConfig | None = None
    maxmemory_policy: str | None = Field(default=None, pattern=r"^[a-z-]+$")


class RepoConfig(BaseModel):
    """The content of feature_store.yaml. Keys that only Feast reads are accepted."""

    model_config = ConfigDict(extra="forbid")
    project: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")
    online_store: OnlineConfig | None = None
    featurekit: FeaturekitConfig = Field(default_factory=FeaturekitConfig)
    # Keys of Feast, listed so that a misspelt key is still an error.
    project_description: Any = None
    registry: Any = None
    provider: Any = None
    offline_store: Any = None
    batch_engine: Any = None
    auth: Any = None
    flags: Any = None
    feature_server: Any = None
    entity_key_serialization_version: Any = None
    coerce_tz_aware: Any = None
    repo_path: Any = None

    def redis_url(self) -> str | None:
        """The URL of the online store; None for a private server. The environment is asked
        first."""
        given = os.environ.get(URL_VARIABLE) or self.featurekit.redis_url
        if given:
            return given
        if self.online_store is None or self.online_store.connection_string is None:
            return None
        return connection_url(self.online_store.connection_string)


def connection_url(connection_string: str) -> str:
    """Feast's "host:port,ssl=true,username=u,password=p,db=0" as a Redis URL."""
    host, *options = connection_string.split(",")
    settings = dict(option.split("=", 1) for option in options if "=" in option)
    unknown = set(settings) - {"ssl", "username", "password", "db"}
    if unknown or len(settings) < len(options):
        raise ConfigError(
            f"connection_string {host!r},…: {', '.join(sorted(unknown)) or 'an option'} is not "
            'understood; write "host:port,ssl=true,username=…,password=…,db=0", or a redis_url '
            "under featurekit:"
        )
    scheme = "rediss" if settings.get("ssl", "").lower() == "true" else "redis"
    login = ""
    if "password" in settings:
        user, password = settings.get("username", ""), settings["password"]
        login = f"{url_quote(user, safe='')}:{url_quote(password, safe='')}@"
    return f"{scheme}://{login}{host}/{settings.get('db', '0')}"


def load_config(folder: Path) -> RepoConfig:
    """The settings of a feature repo. ConfigError says what is wrong in the file."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; write the path of a feature repo")
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"{folder} has no {FILE}; `featurekit init {folder}` writes one")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}; write `project: my_project` …")
    try:
        return RepoConfig.model_validate(raw)
    except ValidationError as error:
        shown = "\n".join(
            f"  {'.'.join(map(str, e['loc']))}: {_explain(e, RepoConfig)}" for e in error.errors()
        )
        raise ConfigError(f"{path} is not as it must be:\n{shown}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        inner: dict[str, type[BaseModel]] = {
            "featurekit": FeaturekitConfig,
            "online_store": OnlineConfig,
        }
        if error["loc"][:2] == ("featurekit", "serving_log"):
            inner["featurekit"] = ServingLogConfig
        owner = inner.get(str(error["loc"][0]), model) if len(error["loc"]) > 1 else model
        return f"no such setting; there are {', '.join(owner.__pydantic_fields__)}"
    if error["type"] == "missing":
        return "is missing"
    return f"{error['msg']}, found {error['input']!r}"
