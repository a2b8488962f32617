"""Turns the options and settings of `featurekit serve` into the models that it forwards to."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import Option, UsageError, argument
from featurekit.core.calls import near
from featurekit.core.durations import duration_us
from featurekit.errors import ConfigError, DefinitionError, StoreUnavailable

if TYPE_CHECKING:
    from featurekit.project.config import ServeConfig, ServingLogConfig
    from featurekit.server.forward.targets import Forwarding, Target
    from featurekit.server.settings import LogSettings, Settings

_FIELDS = (
    "service",
    "name",
    "model",
    "model_version",
    "nan",
    "timeout",
    "token_env",
    "protocol",
    "contract",
)

FORWARD: tuple[Option, ...] = (
    argument(
        "--forward",
        action="append",
        metavar="TARGET",
        help="answer with predictions of the model server at a URL, as in http://models:8080,"
        f"name=churn@3,service=churn_v1; it takes {', '.join(_FIELDS)}; several times for several",
    ),
    argument(
        "--route",
        action="append",
        metavar="ROUTE",
        help="which share of entities each target answers for, in percent, as in "
        "churn@3=95,churn@4=5; an entity stays with its target",
    ),
    argument(
        "--shadow",
        action="append",
        metavar="NAME",
        help="a target that is asked and logged, and never answers; several times for several",
    ),
    argument(
        "--fallback",
        action="append",
        metavar="NAME",
        help="the target of the route that answers where another one failed (default: none, and "
        "the request fails)",
    ),
    argument(
        "--serving-log",
        metavar="LOG",
        help="where answers and predictions are logged: a folder, or stream:NAME in the online "
        "store's Redis (default: as serving_log: in feature_store.yaml says)",
    ),
)
"""The options of what is forwarded."""


def forward_of(
    arguments: Namespace,
    own: ServeConfig | None,
    *,
    folder: Path = Path(),
    keys: Sequence[str] | None = None,
) -> Forwarding | None:
    """The models that are forwarded to: as the options say, else as the settings do; None for none.
    ConfigError for targets and routes that do not fit together, ContractRefused for a contract that
    is not believed, or that none of the public `keys` signed, where there are some. `folder` is
    where contracts of the settings lie."""
    told = arguments.forward or arguments.route or arguments.shadow or arguments.fallback
    if not told and (own is None or not own.targets):
        return None
    # Loaded here: a server without models needs none of it.
    from featurekit.server.forward.targets import forwarding, route_of, weight_of

    if arguments.forward:
        targets = [_target(text, keys) for text in arguments.forward]
    else:
        configured = getattr(own, "targets", ())
        targets = [_configured(i, one, folder, keys) for i, one in enumerate(configured)]
    if not targets:
        raise UsageError(
            "--route, --shadow and --fallback name targets, and there are none; write --forward "
            "http://models:8080,name=churn@3,service=churn_v1"
        )
    if arguments.route:
        route = [part for text in arguments.route for part in route_of(text, where="--route")]
    else:
        route = []
        for name, weight in ({} if own is None else own.route).items():
            try:
                route.append((name, weight_of(str(weight))))
            except ValueError as error:
                raise ConfigError(f"featurekit.serve.route: {name}: {error}; write 95") from None
    return forwarding(
        targets,
        route,
        arguments.shadow or getattr(own, "shadow", ()),
        arguments.fallback or getattr(own, "fallback", ()),
    )


def _target(text: str, keys: Sequence[str] | None) -> Target:
    """The target of an option: a URL, and names with values behind it."""
    from featurekit.server.forward.targets import target_of

    url, *parts = text.split(",")
    fields: dict[str, Any] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if name not in _FIELDS or not sign or not value:
            known = near(name, _FIELDS, listed="they are")
            raise ConfigError(f"--forward: {part!r} is no part of it; {known}, each with a value")
        if name in fields:
            raise ConfigError(f"--forward: {name} stands there twice; write it once")
        fields[name] = value
    if "contract" in fields:
        fields = _contracted(fields, Path(), keys, "--forward")
    return target_of(url, where="--forward", **_timed(fields, "--forward"))


def _configured(i: int, one: Any, folder: Path, keys: Sequence[str] | None) -> Target:
    """The target of the settings."""
    from featurekit.server.forward.targets import target_of

    where = f"featurekit.serve.targets[{i}]"
    fields = {name: value for name, value in one.model_dump().items() if value is not None}
    if "contract" in fields:
        fields = _contracted(fields, folder, keys, where)
    return target_of(fields.pop("url"), where=where, **_timed(fields, where))


def _contracted(
    fields: dict[str, Any], folder: Path, keys: Sequence[str] | None, where: str
) -> dict[str, Any]:
    """The fields, with the version of the contract of the target's model. ConfigError where they
    name another version, of which the model would be given features that it did not learn from."""
    from featurekit.define.feature_contract.contract import Contract
    from featurekit.online.lookup.version import named_version

    found = Contract.load(folder / fields["contract"], public_keys=keys)
    named, version = named_version(fields.get("service", found.service))
    what = f"{where}, target {fields.get('name', named)}"
    if named != found.service or not found.fingerprint.startswith(version or ""):
        short = f"{found.service}@{found.fingerprint[:12]}"
        raise ConfigError(
            f"{what}: its model learnt from {short}, as {fields['contract']} says, and it would be "
            f"given features of {fields['service']}; write service={short}, or leave service out"
        )
    left = {name: value for name, value in fields.items() if name != "contract"}
    return {**left, "service": found.version, "full_names": found.full_feature_names}


def _timed(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields, with the timeout in seconds."""
    timeout = fields.pop("timeout", None)
    if timeout is None:
        return fields
    try:
        return {**fields, "timeout_s": duration_us(timeout, what="timeout") / 1e6}
    except DefinitionError as error:
        raise ConfigError(f"{where}: {error}") from None


def log_of(
    arguments: Namespace,
    configured: ServingLogConfig | None = None,
    *,
    folder: Path = Path(),
    state_dir: Path = Path(".featurekit"),
) -> LogSettings | None:
    """Where answers are logged: as the option says, else as the settings do; None for nowhere."""
    told, given = {}, arguments.serving_log
    if configured is not None:
        told = configured.model_dump()
    elif given is None:
        return None
    from featurekit.server.settings import LogSettings

    if given is not None:
        told = {n: v for n, v in told.items() if n not in ("to", "folder", "stream")}
        if given.startswith("stream:"):
            told |= {"to": "stream", "stream": given.removeprefix("stream:")}
        else:
            told |= {"to": "parquet", "folder": str(Path(given).absolute())}
    return LogSettings(told, str(folder.absolute()), str(state_dir.absolute()))


def check_targets(settings: Settings) -> None:
    """See before serving that each target can be given its features. ConfigError where one cannot.
    While the store cannot be asked nothing is said: /ready of the server says it then."""
    if settings.forward is None:
        return
    from featurekit.server.forward.predict import check
    from featurekit.server.lookups import Lookups

    lookups = Lookups(settings)
    try:
        check(settings.forward, lookups)
    except StoreUnavailable:
        pass
    finally:
        lookups.store.close()
