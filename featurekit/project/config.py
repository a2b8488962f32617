"""Turns feature_store.yaml, which has the format of Feast, into featurekit's settings."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import quote as percent
from urllib.parse import quote as url_quote

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from featurekit.core.calls import near
from featurekit.core.durations import duration_us
from featurekit.core.missing import no_folder
from featurekit.core.postgres import SCHEMES
from featurekit.define.object_stores import no_objects, scheme_of
from featurekit.errors import ConfigError, DefinitionError
from featurekit.online.store.limits import DEFAULT, Limits
from featurekit.online.store.login import Login
from featurekit.online.store.url import OPTIONS, has_login
from featurekit.project.pipeline_settings import PipelineConfig
from featurekit.project.publish_settings import fault_for_feast
from featurekit.project.trigger_settings import (
    NAME,
    TRIGGER_EXAMPLES,
    Measure,
    Performed,
    TriggerConfig,
    WatchConfig,
)

FILE = "feature_store.yaml"
URL_VARIABLE = "FEATUREKIT_REDIS_URL"
_SECRET = {"online_store", "redis_url", "connection_string", "redis_password_env", "url",
           "stream_url"}  # fmt: skip
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
Fair = Literal["demographic_parity_difference", "demographic_parity_ratio",
               "equalized_odds_difference", "equalized_odds_ratio"]  # fmt: skip
"""What `featurekit monitor performance` says of slices that are to be treated alike."""
_HARMLESS = re.compile(r"[\w.-]{0,30}( [\w.-]{1,30})?")
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")


class OnlineConfig(BaseModel):
    """Feast's `online_store`: the settings of its Redis store, or of featurekit's own store for
    Feast, which also takes a `redis_url`. Without a connection, a private server is used."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["redis", "featurekit.plugins.feast.FeaturekitOnlineStore"]
    redis_type: Literal["redis"] = "redis"
    connection_string: str | None = Field(default=None, repr=False)
    redis_url: str | None = Field(default=None, repr=False)
    # What only Feast reads.
    client: Any = None
    sentinel_master: Any = None
    key_ttl_seconds: int | None = None
    full_scan_for_deletion: bool | None = None
    skip_dedup: bool | None = None


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
    redis_url: str | None = Field(default=None, repr=False)


class TargetConfig(BaseModel):
    """A model at a model server, to which `featurekit serve` forwards; an entry of `featurekit:
    serve: targets:`.

    `name` is its name here, as in churn@3, and `service` what is asked for its features, as in
    churn_v1 or churn_v1@3f2a. `contract` is the file of the model's feature contract, whose own
    version is asked then. The server at `url` speaks `protocol`: the Open Inference Protocol, in
    which it calls the model `model`, of `model_version`, or that of MLflow's scoring server. `nan`
    says how a NaN is written, `timeout` how long the server may take, and `token_env` which
    variable has a bearer token for it.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), coerce_numbers_to_str=True)
    url: str = Field(repr=False)
    service: str | None = None
    name: str | None = None
    model: str | None = None
    model_version: str | None = None
    protocol: Literal["oip", "mlflow"] | None = None
    contract: str | None = None
    nan: Literal["null", "NaN"] | None = None
    timeout: str | None = None
    token_env: str | None = Field(default=None, pattern=_NAME)


class ServeConfig(BaseModel):
    """Who may ask `featurekit serve`, and the models to which it forwards; under `featurekit:
    serve:`. The verb's options of the same names come first.

    `auth` is "none", "keys", "jwt" or "keys,jwt". `jwks`, a file or a URL, has the public keys of
    the tokens (JWT) of `issuer` for `audience`. `rate` is how many requests a second a caller may
    make in each worker. Pages of the origins `cors` may ask from a browser. The `targets` are
    models at model servers, and `route` says for which share of entities each answers, in percent.
    A target of `shadow` is asked and never answers; one of `fallback` answers where another failed.
    """

    model_config = ConfigDict(extra="forbid")
    auth: Literal["none", "keys", "jwt", "keys,jwt"] | None = None
    jwks: str | None = None
    issuer: str | None = None
    audience: str | None = None
    rate: float | None = Field(default=None, gt=0.0, le=1e9)
    cors: list[str] = Field(default_factory=list)
    targets: list[TargetConfig] = Field(default_factory=list)
    route: dict[str, float] = Field(default_factory=dict)
    shadow: list[str] = Field(default_factory=list)
    fallback: list[str] = Field(default_factory=list)


class OpenLineageConfig(BaseModel):
    """Where events of lineage go; under `featurekit: openlineage:`.

    They are posted to `url`, a server that speaks OpenLineage, or appended to `file`, relative to
    the repo. `namespace` is that of jobs and datasets, by default the project's name. A run waits
    for its events for `timeout_s` seconds at most, and never fails because of them. `api_key_env`
    names the variable that holds the key of the server.
    """

    model_config = ConfigDict(extra="forbid")
    url: str | None = Field(default=None, pattern=r"^https?://", repr=False)
    file: str | None = None
    namespace: str | None = Field(default=None, min_length=1)
    timeout_s: float = Field(default=2.0, gt=0.0, le=60.0)
    api_key_env: str | None = Field(default=None, pattern=_NAME)

    @model_validator(mode="after")
    def _one_place(self) -> OpenLineageConfig:
        if (self.url is None) == (self.file is None):
            raise ValueError("takes either url or file; write one of the two")
        return self


class ProfilesConfig(BaseModel):
    """How profiles of the serving log are kept (`featurekit monitor profile`): by parts of time
    that are `every` long, for as long as `keep`. `folder` is a folder of S3; without it they lie in
    the state folder."""

    model_config = ConfigDict(extra="forbid")
    every: str = "1d"
    keep: str = "400d"
    folder: str | None = None

    @field_validator("every", "keep")
    @classmethod
    def _a_duration(cls, written: str) -> str:
        try:
            duration_us(written, what="every")
        except DefinitionError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return written

    @field_validator("folder")
    @classmethod
    def _of_s3(cls, written: str | None) -> str | None:
        if written is None:
            return None
        wrong = scheme_of(written) != "s3" or no_objects(written) is not None
        if wrong or any(sign in written for sign in "*?[#"):
            raise ValueError(
                'is no folder of S3; write the bucket and a folder, as in "s3://bucket/profiles", '
                "or leave it out"
            )
        return written


class MonitoringConfig(BaseModel):
    """What says drift (`featurekit monitor drift`) and that predictions did worse than they may
    (`featurekit monitor performance`); under `featurekit: monitoring:`.

    `thresholds` has what a measure must pass, for every feature; `features` the same for some
    features, which are named view__feature. null switches a measure off. `chance` is how rarely
    chance alone may pass for drift, in one figure. `performance` has by service what its
    predictions must reach: `auc`, `f1`, `precision`, `recall` and `accuracy` at least, the others
    at most. `change` has by service how much worse a measure may be than in a reference: shares by
    so much, `log_loss`, `rmse` and `mae` by such a part. `fairness` has by service how far slices
    may lie apart: differences at most, ratios at least. `profiles` says how profiles are kept.
    """

    model_config = ConfigDict(extra="forbid")
    thresholds: dict[Measure, float | None] = Field(default_factory=dict)
    features: dict[str, dict[Measure, float | None]] = Field(default_factory=dict)
    chance: float = Field(default=1e-6, gt=0.0, lt=0.5)
    performance: dict[str, dict[Performed, float | None]] = Field(default_factory=dict)
    change: dict[str, dict[Performed, float | None]] = Field(default_factory=dict)
    fairness: dict[str, dict[Fair, float | None]] = Field(default_factory=dict)
    profiles: ProfilesConfig = Field(default_factory=ProfilesConfig)


class FeaturekitConfig(BaseModel):
    """featurekit's own settings, under the key `featurekit`.

    `redis_url` is used before Feast's connection_string. Where neither holds a password,
    `redis_password_env` names the variable that does, or `redis_password_file`, relative to the
    repo, the file, which must be closed to other users. Both are read again for each connection.
    `redis_username` is the user whose password it is. `state_dir`, relative to the repo, holds the
    registry, the log of pushed events, quarantined rows and the private Redis. `registry` is the
    SQLite file of versions, or the URL of the PostgreSQL server that has them, in which `${NAME}`
    stands for a variable of the environment. `numeric_mismatch` says what a reader does where
    floats would differ (R6). `clock_tolerance`, as in "90s" or "5m", is how far after the store's
    clock an arrival or an `as_of` may lie (S3). `memory_limit`, such as "4GB", is how much memory
    DuckDB may use, by default most of the machine's; what exceeds it goes to disk, in `state_dir`.
    `buckets` is the number of parts into which a training set is split, by default as many as the
    memory limit asks for, and `engine`, such as ray or spark, joins them. `serving_log` says
    whether and where lookups are logged.
    `connect_timeout_s`, `timeout_s`, `feed_timeout_s` and `connections` say how long, and for how
    many connections, the online store waits. After `breaker_failures` lookups that failed close
    together (0 for never), lookups are not tried for `breaker_s` seconds, and then one is;
    `retry_share` is how many retries each lookup allows (`featurekit.online.store.limits.Limits`).
    `ignore` are patterns, as of a .gitignore, of files that are no modules of the repo; a file
    .featurekitignore has more. `maxmemory_policy` is that of Redis, where INFO may not be asked for
    it.

    With `public_keys`, plans must be signed by one of them (F0). `signing_key_file`, relative to
    the repo, holds the private key that signs them. `run_python` lets functions run that are their
    author's Python and come from plans that neither a key nor the registry vouches for. `state_dir`
    is for this user alone, or for those of `group`. `serve` says who may ask `featurekit serve`,
    and to which models it forwards. `openlineage` says where events of lineage go, `monitoring`
    what says drift, and `pipeline` what runs again and again, for orchestrators. `triggers` has by
    name what is looked at and what is done then, and `watch` what `featurekit watch` runs beside
    them. `publish` is a tool to whose registry `apply` hands the definitions, too: "feast".
    """

    model_config = ConfigDict(extra="forbid")
    redis_url: str | None = Field(default=None, repr=False)
    redis_username: str | None = None
    redis_password_env: str | None = Field(default=None, pattern=_NAME)
    redis_password_file: str | None = None
    state_dir: str = ".featurekit"
    registry: str | None = Field(default=None, repr=False)
    numeric_mismatch: Literal["refuse", "warn"] = "refuse"
    clock_tolerance: str = "5m"
    memory_limit: str | None = Field(default=None, pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[KMGT]i?B$")
    buckets: int | None = Field(default=None, ge=1, le=4096)
    engine: str | None = None
    serving_log: ServingLogConfig | None = None
    public_keys: list[str] = Field(default_factory=list)
    signing_key_file: str | None = None
    run_python: bool = False
    connect_timeout_s: float = Field(default=DEFAULT.connect_timeout_s, gt=0.0, le=3600.0)
    timeout_s: float = Field(default=DEFAULT.timeout_s, gt=0.0, le=3600.0)
    feed_timeout_s: float = Field(default=DEFAULT.feed_timeout_s, gt=0.0, le=3600.0)
    connections: int = Field(default=DEFAULT.connections, ge=1, le=100_000)
    breaker_failures: int = Field(default=DEFAULT.breaker_failures, ge=0, le=10_000)
    breaker_s: float = Field(default=DEFAULT.breaker_s, gt=0.0, le=3600.0)
    retry_share: float = Field(default=DEFAULT.retry_share, ge=0.0, le=1.0)
    ignore: list[str] = Field(default_factory=list)
    group: str | None = None
    maxmemory_policy: str | None = Field(default=None, pattern=r"^[a-z-]+$")
    serve: ServeConfig | None = None
    openlineage: OpenLineageConfig | None = None
    monitoring: MonitoringConfig | None = None
    pipeline: PipelineConfig | None = None
    triggers: dict[str, TriggerConfig] = Field(default_factory=dict)
    watch: WatchConfig | None = None
    publish: Literal["feast"] | None = None

    @field_validator("triggers")
    @classmethod
    def _named(cls, given: dict[str, TriggerConfig]) -> dict[str, TriggerConfig]:
        wrong = next((name for name in given if not NAME.fullmatch(name)), None)
        if wrong is not None:
            raise ValueError(
                f"{wrong[:80]!r} is no name of a trigger; write up to 64 letters, digits and _, as "
                "in churn_fell"
            )
        return given

    @field_validator("registry")
    @classmethod
    def _file_or_server(cls, given: str | None) -> str | None:
        scheme, mark, _ = (given or "").partition("://")
        if mark and scheme not in SCHEMES:
            raise ValueError(
                "is the path of a SQLite file or the URL of a PostgreSQL server, as in "
                f"postgresql://me:${{REGISTRY_PASSWORD}}@db/features, found {scheme}://…"
                f"{_written(('featurekit', 'registry'))}"
            )
        return given

    @field_validator("engine")
    @classmethod
    def _an_engine(cls, given: str | None) -> str | None:
        if given is not None:  # who names none loads nothing for it
            from featurekit.offline.engines.named import check_engine

            try:
                check_engine(given)
            except ConfigError as error:
                raise ValueError(str(error).removeprefix("engine: ")) from None
        return given

    @field_validator("clock_tolerance")
    @classmethod
    def _a_duration(cls, written: str) -> str:
        try:
            duration_us(written, what="clock_tolerance", zero=True)
        except DefinitionError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return written

    def login(self, folder: Path) -> Login:
        """Who connects to the online store, where its URL does not say; paths are relative to
        `folder`. The environment is asked first. ConfigError for a user without a password."""
        found = Login.of_environment()
        if found.given:
            return found
        file = self.redis_password_file
        path = None if file is None else folder / file
        made = Login(self.redis_username, self.redis_password_env, path)
        if made.username is not None and not made.given:
            raise ConfigError(
                "featurekit.redis_username has no password; write redis_password_file: "
                "/run/secrets/redis, or redis_password_env: REDIS_PASSWORD"
            )
        return made

    @property
    def tolerance_us(self) -> int:
        """`clock_tolerance` in microseconds."""
        return duration_us(self.clock_tolerance, what="clock_tolerance", zero=True)


class RepoConfig(BaseModel):
    """The content of feature_store.yaml. Keys that only Feast reads are accepted."""

    model_config = ConfigDict(extra="forbid")
    _place: str = PrivateAttr(default="")
    """Where the connection string is written, as the beginning of an error."""
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
    embedding_model: Any = None
    materialization: Any = None
    openlineage: Any = None
    mlflow: Any = None
    data_quality_monitoring: Any = None

    @field_validator("online_store", mode="before")
    @classmethod
    def _by_its_type(cls, given: Any) -> Any:
        """Feast takes the bare type, too."""
        return {"type": given} if isinstance(given, str) else given

    @field_validator("featurekit")
    @classmethod
    def _one_login(cls, own: FeaturekitConfig, found: ValidationInfo) -> FeaturekitConfig:
        if own.redis_password_env is None and own.redis_password_file is None:
            return own
        if own.redis_password_env is not None and own.redis_password_file is not None:
            raise ValueError(
                "redis_password_env and redis_password_file both say where the password is; keep "
                "one of them"
            )
        store = found.data.get("online_store")
        written = (
            own.redis_url
            or getattr(store, "redis_url", None)
            or getattr(store, "connection_string", None)
            or ""
        )
        if has_login(written) or re.search(r",(username|password)=", written):
            raise ValueError(
                "redis_password_env and redis_password_file are for a URL or connection_string "
                "that has no user and no password of its own; keep one of them"
            )
        return own

    @field_validator("featurekit", mode="before")
    @classmethod
    def _empty(cls, given: Any) -> Any:
        """A key without anything below it."""
        return {} if given is None else given

    def limits(self) -> Limits:
        """What the online store waits for, and how long."""
        own = self.featurekit
        return Limits(
            own.connect_timeout_s,
            own.timeout_s,
            own.feed_timeout_s,
            own.connections,
            own.breaker_failures,
            own.breaker_s,
            own.retry_share,
        )

    def redis_url_from(self) -> str:
        """The variable or setting that says the URL of the online store."""
        if os.environ.get(URL_VARIABLE):
            return f"{URL_VARIABLE} of the environment"
        store = None if self.online_store is None else self.online_store.redis_url
        own = self.featurekit.redis_url is not None or store is not None
        return f"{'redis_url' if own else 'connection_string'} in {FILE}"

    def redis_url(self) -> str | None:
        """The URL of the online store; None for a private server. The environment is asked
        first."""
        given = os.environ.get(URL_VARIABLE) or self.featurekit.redis_url
        if given:
            return given
        if self.online_store is None:
            return None
        if self.online_store.redis_url is not None:
            return self.online_store.redis_url
        if self.online_store.connection_string is None:
            return None
        try:
            return connection_url(self.online_store.connection_string)
        except ConfigError as error:
            raise ConfigError(f"{self._place}{error}") from None


_CONNECTION = {"ssl", *OPTIONS["rediss"]}
_MISTAKEN = {"database", "user", "pass", "tls", "host", "port", "timeout"}


def _unknown(options: Sequence[str]) -> str:
    """The first option that is not understood: by its name, where others give it in its place, else
    by its place, since its text may be a password or the rest of one that holds a comma."""
    names = [option.partition("=")[0] for option in options]
    wrong = next((n for n, name in enumerate(names) if name not in _CONNECTION), None)
    if wrong is None:
        return "an option that comes twice"
    if names[wrong] in _MISTAKEN and "password" not in names[:wrong]:
        return f"option {names[wrong]!r}"
    return f"option {wrong + 1} behind the host"


def connection_url(connection_string: str) -> str:
    """Feast's "host:port,ssl=true,username=u,password=p,db=0" as a Redis URL."""
    host, *options = connection_string.split(",")
    settings = dict(option.split("=", 1) for option in options if "=" in option)
    if set(settings) - _CONNECTION or len(settings) < len(options):
        raise ConfigError(
            f"online_store.connection_string: {_unknown(options)} is not understood; write "
            '"host:port,ssl=true,username=…,password=…,db=0" (a password with a comma goes into '
            "the file of redis_password_file under featurekit:)"
        )
    if "@" in host or "/" in host:
        raise ConfigError(
            "online_store.connection_string is Feast's host:port with options behind commas, and "
            "no URL; write a URL as redis_url under featurekit:"
        )
    tls = settings.pop("ssl", "").lower() == "true"
    of_tls = sorted(name for name in settings if name.startswith("ssl_"))
    if of_tls and not tls:
        raise ConfigError(
            f"online_store.connection_string: {of_tls[0]} is of TLS; write ssl=true beside it"
        )
    login = ""
    if "password" in settings:
        user, password = settings.pop("username", ""), settings.pop("password")
        login = f"{url_quote(user, safe='')}:{url_quote(password, safe='')}@"
    database = settings.pop("db", "0")
    more = "&".join(f"{name}={url_quote(value, safe='')}" for name, value in settings.items())
    scheme = "rediss" if tls else "redis"
    return f"{scheme}://{login}{host}/{database}{'?' if more else ''}{more}"


def find_repo(folder: Path) -> Path:
    """The feature repo that a folder is in: the folder itself, or the nearest one above it that
    holds a feature_store.yaml; the folder where there is none, or where it is none itself."""
    try:
        folder = folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a link to itself
        raise ConfigError(f"{str(folder)!r} is no folder: {error}") from None
    above = (folder, *folder.parents) if folder.is_dir() else ()
    return next((one for one in above if (one / FILE).is_file()), folder)


def load_config(folder: Path) -> RepoConfig:
    """The settings of a feature repo, with `${VAR}` and `${VAR:-default}` replaced by what the
    environment says. ConfigError says what is wrong in the file, and on which line."""
    if not folder.is_dir():
        raise ConfigError(f"path: {no_folder(folder)}; write the path of a feature repo")
    path = folder / FILE
    if not path.is_file():
        new = folder if not any(folder.iterdir()) else "NEW_FOLDER"
        raise ConfigError(
            f"{folder} has no {FILE}; name the folder of a feature repo (on the command line with "
            f"--repo), or make one with `featurekit init {new}`"
        )
    tree, raw = _read(path)
    if not isinstance(raw, dict):
        found = "is empty" if raw is None else f"holds a {type(raw).__name__}"
        raise ConfigError(f"{path} {found}; write settings there, as in `project: my_project`")
    raw = _with_redis(_expanded(raw, (), path, tree))
    try:
        made = RepoConfig.model_validate(raw)
    except ValidationError as error:
        faults = [
            f"{path}:{_line(tree, e['loc'])}: {'.'.join(map(str, e['loc']))}: {_explain(e)}"
            for e in error.errors()
        ]
        raise ConfigError("\n".join(faults)) from None
    fault = None if made.featurekit.publish is None else fault_for_feast(raw)
    if fault is not None:
        setting, said = fault
        line = _line(tree, (setting,) if setting in raw else ("featurekit", "publish"))
        raise ConfigError(f"{path}:{line}: {setting}: {said}")
    made._place = f"{path}:{_line(tree, ('online_store', 'connection_string'))}: "
    return made


# --- the file's text ------------------------------------------------------------------------------


def _read(path: Path) -> tuple[yaml.Node | None, Any]:
    """The nodes of a YAML file, which know their lines, and its values."""
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        # What the line says is not shown, since it may hold a password.
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        hint = "indent with spaces, not with a tab" if "\t" in line else "write `key: value` lines"
        raise ConfigError(f"{where}: this is not YAML: {problem}\n  hint: {hint}") from None


def _line(tree: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The line on which a setting stands; that of what should hold it where it is missing."""
    line, node = 1, tree
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        found = [(k, v) for k, v in node.value if k.value == str(part)]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _expanded(value: Any, loc: tuple[str, ...], path: Path, tree: yaml.Node | None) -> Any:
    """A value of the file with its variables replaced; `$${` is written for `${`."""
    if isinstance(value, dict):
        return {k: _expanded(v, (*loc, str(k)), path, tree) for k, v in value.items()}
    if isinstance(value, list):
        return [_expanded(v, loc, path, tree) for v in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        found = os.environ.get(name)
        if not found and default is not None:
            return default
        if found is None:
            raise ConfigError(
                f"{path}:{_line(tree, loc)}: {'.'.join(loc)}: the environment has no variable "
                f"{name!r}; set it, or write ${{{name}:-default}}"
            )
        # In a URL, a password may hold what parts it. A variable may also hold the whole URL.
        return percent(found, safe="") if in_url else found

    in_url = loc == ("featurekit", "registry") and "://" in value
    return _VARIABLE.sub(put, value)


def _with_redis(raw: dict[str, Any]) -> dict[str, Any]:
    """The settings without an online store that only Feast reads, where featurekit's own Redis is
    named."""
    own, store = raw.get("featurekit"), raw.get("online_store")
    named = os.environ.get(URL_VARIABLE) or (isinstance(own, dict) and own.get("redis_url"))
    foreign = store.get("type") if isinstance(store, dict) else store
    known = get_args(OnlineConfig.model_fields["type"].annotation)
    return {**raw, "online_store": None} if named and foreign not in known else raw


# --- what is wrong in it --------------------------------------------------------------------------

_SAID = {
    "int_parsing": "is a whole number",
    "int_type": "is a whole number",
    "float_parsing": "is a number",
    "float_type": "is a number",
    "bool_parsing": "is true or false",
    "string_type": "is a text",
    "list_type": "is a list",
}
_STORES_OF_FEAST = (
    *("bigtable", "cassandra", "couchbase", "datastore", "dynamodb", "elasticsearch", "hazelcast"),
    *("hbase", "ikv", "milvus", "mongodb", "mysql", "postgres", "qdrant", "remote", "rockset"),
    *("singlestore", "snowflake.online", "sqlite"),
)
_PATTERNS = {
    "project": "is a letter or digit, then letters, digits and underscores",
    "name": "is of small letters, digits and dashes, begins with a letter, and has 40 at most",
    "image": "is the name of an image, as in registry.example/shop-features:1.4",
    "start": "is a day, as in 2026-01-01, in quotes",
    "memory_limit": "is a size, as in 4GB or 512MB",
    "variable": "is the name of a variable of the environment, and no secret",
    "event": "is a name of letters, digits and _",
    "dag_id": "is the name of a DAG",
    "url": "is a URL of http or https",
    "maxmemory_policy": "is the name of a policy of Redis, in small letters",
}


def _explain(error: Any) -> str:
    """A fault of a setting: what it must be, and what was found."""
    kind, loc, shown = error["type"], error["loc"], _found(error["input"], error["loc"])
    if kind == "extra_forbidden":
        model = model_at(loc[:-1]) or RepoConfig
        known = near(str(loc[-1]), model.__pydantic_fields__, listed="there are")
        return f"no such setting; {known}"
    if kind == "missing":
        return f"is missing{_written(loc) or '; write it'}"
    if loc == ("online_store", "type") and kind == "literal_error":
        # Any other text may be a URL or a password that stands in the wrong place.
        shown = f", found {shown}" if error["input"] in _STORES_OF_FEAST else ""
        return (
            f"is redis{shown}; featurekit serves from Redis: write `online_store: {{type: redis}}`,"
            " or keep Feast's own store and name a Redis beside it, "
            "`featurekit: {redis_url: redis://localhost:6379/0}`"
        )
    if kind == "literal_error":
        return f"is {error['ctx']['expected']}, found {shown}{_written(loc)}"
    if kind == "string_pattern_mismatch":
        name = "variable" if str(loc[-1]).endswith("_env") else str(loc[-1])
        said = _PATTERNS.get(name, "is of another form")
        named = re.sub(r"\W+", "_", str(error["input"])).strip("_")
        if loc == ("project",) and named.isascii() and shown == repr(error["input"]):
            return f"{said}, found {shown}; write project: {named}"
        return f"{said}, found {shown}{_written(loc)}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"is a mapping of settings, found {shown}{_written(loc)}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "string_type" and type(error["input"]) in (int, float, bool):
        return f'is a text, found {shown}; put it in quotes: write {loc[-1]}: "{error["input"]}"'
    told = _SAID.get(kind)
    if told is not None:
        return f"{told}, found {shown}{_written(loc)}"
    text = str(error["msg"])
    said = text.removeprefix("Input should be")
    said = f"is{said}" if said != text else f"{text[0].lower()}{text[1:]}"
    return f"{said}, found {shown}{_written(loc)}"


EXAMPLES = {
    "project": "my_shop",
    "online_store": "{type: redis}",
    "online_store.type": "redis",
    "online_store.redis_type": "redis",
    "online_store.connection_string": '"localhost:6379,db=0"',
    "online_store.redis_url": "redis://localhost:6379/0",
    "online_store.key_ttl_seconds": "86400",
    "online_store.full_scan_for_deletion": "false",
    "online_store.skip_dedup": "false",
    "featurekit": "{state_dir: .featurekit}",
    "featurekit.redis_url": "redis://localhost:6379/0",
    "featurekit.redis_username": "shop-reader",
    "featurekit.redis_password_env": "REDIS_PASSWORD",
    "featurekit.redis_password_file": "/run/secrets/redis",
    "featurekit.state_dir": ".featurekit",
    "featurekit.registry": "data/registry.db",
    "featurekit.numeric_mismatch": "warn",
    "featurekit.clock_tolerance": "5m",
    "featurekit.memory_limit": "4GB",
    "featurekit.buckets": "64",
    "featurekit.engine": "ray",
    "featurekit.serving_log": "{to: parquet}",
    "featurekit.serving_log.to": "parquet",
    "featurekit.serving_log.sample": "0.1",
    "featurekit.serving_log.queue_rows": "20000",
    "featurekit.serving_log.folder": "served",
    "featurekit.serving_log.rotate_rows": "100000",
    "featurekit.serving_log.rotate_seconds": "60",
    "featurekit.serving_log.stream": '"shop:served"',
    "featurekit.serving_log.stream_entries": "10000",
    "featurekit.serving_log.redis_url": "redis://localhost:6379/1",
    "featurekit.public_keys": "[KEY]",
    "featurekit.signing_key_file": "signing.key",
    "featurekit.run_python": "true",
    "featurekit.connect_timeout_s": "1.0",
    "featurekit.timeout_s": "0.5",
    "featurekit.feed_timeout_s": "30",
    "featurekit.connections": "64",
    "featurekit.breaker_failures": "20",
    "featurekit.breaker_s": "0.5",
    "featurekit.retry_share": "0.1",
    "featurekit.ignore": "[old/]",
    "featurekit.group": "features",
    "featurekit.maxmemory_policy": "noeviction",
    "featurekit.publish": "feast",
    "featurekit.serve": "{auth: keys}",
    "featurekit.serve.auth": "keys",
    "featurekit.serve.jwks": "https://id.example/jwks.json",
    "featurekit.serve.issuer": "https://id.example",
    "featurekit.serve.audience": "featurekit",
    "featurekit.serve.rate": "100",
    "featurekit.serve.cors": '["https://shop.example"]',
    "featurekit.serve.targets": '[{url: "http://models:8080", service: churn_v1}]',
    "featurekit.serve.targets.*": '{url: "http://models:8080", service: churn_v1}',
    "featurekit.serve.targets.*.url": "http://models:8080",
    "featurekit.serve.targets.*.service": "churn_v1",
    "featurekit.serve.targets.*.name": '"churn@3"',
    "featurekit.serve.targets.*.model": "churn",
    "featurekit.serve.targets.*.model_version": '"3"',
    "featurekit.serve.targets.*.protocol": "oip",
    "featurekit.serve.targets.*.contract": "churn.contract.json",
    "featurekit.serve.targets.*.nan": '"null"',
    "featurekit.serve.targets.*.timeout": "2s",
    "featurekit.serve.targets.*.token_env": "MODEL_TOKEN",
    "featurekit.serve.route": '{"churn@3": 95, "churn@4": 5}',
    "featurekit.serve.shadow": '["churn@5"]',
    "featurekit.serve.fallback": '["churn@3"]',
    "featurekit.openlineage": "{url: https://lineage.example}",
    "featurekit.openlineage.url": "https://lineage.example",
    "featurekit.openlineage.file": "lineage.jsonl",
    "featurekit.openlineage.namespace": "shop",
    "featurekit.openlineage.timeout_s": "2.0",
    "featurekit.openlineage.api_key_env": "LINEAGE_KEY",
    "featurekit.monitoring": "{thresholds: {psi: 0.1}}",
    "featurekit.monitoring.thresholds": "{psi: 0.1}",
    "featurekit.monitoring.features": "{orders__spend_7d: {psi: 0.3}}",
    "featurekit.monitoring.chance": "1.0e-6",
    "featurekit.monitoring.performance": "{churn_v1: {auc: 0.75}}",
    "featurekit.pipeline": '{schedule: "10 3 * * *"}',
    "featurekit.pipeline.name": "shop-features",
    "featurekit.pipeline.image": "registry.example/shop-features:1.4",
    "featurekit.pipeline.repo": "/home/featurekit/repo",
    "featurekit.pipeline.schedule": '"10 3 * * *"',
    "featurekit.pipeline.timezone": "Europe/London",
    "featurekit.pipeline.start": '"2026-01-01"',
    "featurekit.pipeline.catchup": "true",
    "featurekit.pipeline.retries": "2",
    "featurekit.pipeline.timeout": "1h",
    "featurekit.pipeline.env": "{SHOP_REGION: eu}",
    "featurekit.pipeline.secrets": "[FEATUREKIT_REDIS_URL]",
    "featurekit.pipeline.volumes": "{featurekit-state: /home/featurekit/repo/.featurekit}",
    "featurekit.pipeline.steps": "[{name: validate, run: validate}]",
    "featurekit.pipeline.steps.*": "{name: validate, run: validate}",
    "featurekit.pipeline.steps.*.name": "validate",
    "featurekit.pipeline.steps.*.run": "validate",
    "featurekit.pipeline.steps.*.command": "python train.py",
    "featurekit.pipeline.steps.*.needs": "[]",
    "featurekit.pipeline.steps.*.go_on": "[1]",
    "featurekit.pipeline.steps.*.retries": "2",
    "featurekit.pipeline.steps.*.timeout": "1h",
    **{f"featurekit.{place}": written for place, written in TRIGGER_EXAMPLES.items()},
    "featurekit.monitoring.change": "{churn_v1: {auc: 0.03}}",
    "featurekit.monitoring.fairness": "{churn_v1: {demographic_parity_difference: 0.1}}",
    "featurekit.monitoring.profiles": "{every: 1d, keep: 400d}",
    "featurekit.monitoring.profiles.every": "1d",
    "featurekit.monitoring.profiles.keep": "400d",
    "featurekit.monitoring.profiles.folder": '"s3://bucket/profiles"',
}
"""How each setting that featurekit reads may be written."""


def _written(loc: tuple[Any, ...]) -> str:
    """How a setting is written, as the end of a sentence; nothing for one that only Feast reads."""
    written = EXAMPLES.get(place_of(loc))
    return f"; write {loc[-1]}: {written}" if written else ""


def settings_of(name: str | None) -> RepoConfig:
    """The settings of a project without a folder; ConfigError for a name that is none."""
    try:
        return RepoConfig(project=name or "notebook")
    except ValidationError:
        raise ConfigError(
            f"project {name!r} is no name; write a letter or digit, then letters, digits and _"
        ) from None


def settings_stamp(folder: Path) -> tuple[int, int] | None:
    """The size and the time of change of the settings' file; None where it is gone."""
    try:
        found = os.stat(f"{folder}/{FILE}")  # noqa: PTH116 - every push asks, a Path takes longer
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _found(value: Any, place: tuple[Any, ...]) -> str:
    """What stands in the file, as far as it holds no password for sure."""
    if _SECRET & set(place) and place != ("online_store", "type"):
        return f"a {type(value).__name__} that is not shown"
    if isinstance(value, (bool, int, float, type(None))):
        return repr(value)
    if isinstance(value, str) and _HARMLESS.fullmatch(value):
        return repr(value)
    return f"a {type(value).__name__} that is not shown"


def model_at(place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of the settings at a place, such as featurekit.serve.targets.0; None where there is
    another kind of value."""
    found: Any = RepoConfig
    for part in place:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.__pydantic_fields__.get(str(part))
            found = None if field is None else field.annotation
        else:  # a list's number or a mapping's name
            found = get_args(found)[-1] if get_args(found) else None
        chosen = [one for one in get_args(found) if one is not type(None)]
        if get_origin(found) in (Union, UnionType) and len(chosen) == 1:
            (found,) = chosen
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def place_of(loc: Sequence[int | str]) -> str:
    """A place as `EXAMPLES` names it: with * for the number in a list and the name in a mapping."""
    parts = []
    for n, part in enumerate(loc):
        above = model_at(loc[:n])
        parts.append(str(part) if above is not None else "*")
    return ".".join(parts)
