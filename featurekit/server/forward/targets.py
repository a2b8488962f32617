"""Turns what is said of model servers into targets and routes, or into an error that names what
does not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from featurekit.core.calls import near
from featurekit.errors import ConfigError
from featurekit.online.lookup.version import named_version
from featurekit.online.wire.http import Address

OIP, MLFLOW = "oip", "mlflow"
NANS = {OIP: "null", MLFLOW: "NaN"}
"""The protocols that servers speak, each with how a NaN is written unless a target says."""
UNITS = 10_000
"""What the weights of a route add up to, in hundredths of a percent."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,199}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,99})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Target:
    """A model at a model server, and the features that it takes.

    `name` is its name here, as in churn@3: what stands before @ is the model that clients ask for.
    `service` is asked for the features, by its live version or by the `version` that is named. The
    server at `url` speaks `protocol`: the Open Inference Protocol ("oip"), in which it calls the
    model `model`, of `model_version` where one is asked for, or that of MLflow's scoring server
    ("mlflow"). `nan` is how a NaN is written. A prediction is waited for up to `timeout_s` seconds,
    and up to the end of the request where that is None. `token_env` names the variable that has a
    bearer token for the server. With `full_names` the server calls features view__feature.
    """

    name: str
    service: str
    url: str
    version: str | None = None
    model: str = ""
    model_version: str | None = None
    nan: str = "null"
    timeout_s: float | None = None
    token_env: str | None = None
    protocol: str = OIP
    full_names: bool = False

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"target {self.name}"

    @property
    def of(self) -> str:
        """The model that clients ask for."""
        return self.name.partition("@")[0]

    @property
    def asks(self) -> tuple[str, str | None]:
        """The service and the version that are asked for features."""
        return self.service, self.version


@dataclass(frozen=True, slots=True)
class Model:
    """What answers for a model: targets, each with its weight, in hundredths of a percent. The
    `shadows` are asked as well and never answer. `instead` answers where another target failed;
    None where nothing does."""

    name: str
    route: tuple[tuple[str, int], ...]
    shadows: tuple[str, ...] = ()
    instead: str | None = None

    @property
    def text(self) -> str:
        """The route as it is written, as in churn@3=95,churn@4=5."""
        return ",".join(f"{name}={shown_weight(weight)}" for name, weight in self.route)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """All targets by their names, and all models by theirs."""

    targets: Mapping[str, Target]
    models: Mapping[str, Model]


def target_of(
    url: str,
    *,
    where: str,
    service: str | None = None,
    name: str | None = None,
    model: str | None = None,
    model_version: str | None = None,
    nan: str | None = None,
    timeout_s: float | None = None,
    token_env: str | None = None,
    protocol: str = OIP,
    full_names: bool = False,
) -> Target:
    """A target. Without a `name` it is called as its service is, and without a `service` as its
    model is. ConfigError, which begins with `where`, for what is none."""
    service = service if service is not None else (name or "").partition("@")[0]
    bare, version = named_version(service)
    if not bare:
        raise ConfigError(f"{where}: nothing says which features it takes; write service=churn_v1")
    name = name if name is not None else bare
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} is no name of a target; write churn or churn@3")
    where = f"{where}, target {name}"
    if version == "":
        raise ConfigError(f"{where}: service {service!r} has no version behind @; write {bare}")
    if protocol not in NANS:
        raise ConfigError(f"{where}: protocol is {protocol!r}; write {' or '.join(NANS)}")
    nan = NANS[protocol] if nan is None else nan
    if nan not in NANS.values():
        raise ConfigError(f"{where}: nan is {nan!r}; write null, or NaN")
    if protocol == MLFLOW and (model or model_version):
        raise ConfigError(
            f"{where}: a server of MLflow serves one model, and is not asked for others; leave "
            "model and model_version out, or name its version in name=churn@3"
        )
    if timeout_s is not None and not 0 < timeout_s <= _LONGEST_S:
        raise ConfigError(f"{where}: timeout is {timeout_s:g} s; write one of up to an hour")
    if token_env is not None and not _VARIABLE.fullmatch(token_env):
        raise ConfigError(f"{where}: token_env is the name of a variable; write MODEL_TOKEN")
    try:
        Address.of(url)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    called = model or name.partition("@")[0]
    asked = version, called, model_version
    return Target(name, bare, url, *asked, nan, timeout_s, token_env, protocol, full_names)


# --- routes ---------------------------------------------------------------------------------------


def weight_of(text: str) -> int:
    """A weight in hundredths of a percent, from one in percent. ValueError for one that is none, or
    is finer."""
    try:
        units = Decimal(text) * 100
        whole = int(units)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{text!r} is no number") from None
    if whole != units or not 0 < whole <= UNITS:
        raise ValueError(f"{text!r} is no percentage of at most two decimals")
    return whole


def shown_weight(units: int) -> str:
    """A weight in percent, from hundredths of one."""
    whole, rest = divmod(units, 100)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


def route_of(text: str, *, where: str) -> list[tuple[str, int]]:
    """The targets and weights of a route, as in churn@3=95,churn@4=5. ConfigError, which begins
    with `where`, for another text."""
    found = []
    for part in text.split(","):
        name, sign, weight = part.strip().partition("=")
        try:
            if not sign or not name:
                raise ValueError(f"{part!r} has no weight")
            found.append((name, weight_of(weight)))
        except ValueError as error:
            raise ConfigError(f"{where}: {error}; write churn@3=95,churn@4=5") from None
    return found


def forwarding(
    targets: Sequence[Target],
    route: Sequence[tuple[str, int]] = (),
    shadows: Sequence[str] = (),
    instead: Sequence[str] = (),
) -> Forwarding:
    """The targets and what answers for each model. ConfigError, which names what does not fit: two
    targets of one name, a name that is no target, weights that do not add up, a target that nothing
    asks."""
    twice = [name for name, n in Counter(one.name for one in targets).items() if n > 1]
    if twice:
        raise ConfigError(
            f"two targets are called {twice[0]}; give each a name, as in {twice[0]}@1"
        )
    by_name = {one.name: one for one in targets}
    for what, names in (
        ("the route", [name for name, _ in route]),
        ("a shadow", shadows),
        ("a fallback", instead),
    ):
        _check_names(what, names, by_name)
    models: dict[str, list[Target]] = {}
    for one in targets:
        models.setdefault(one.of, []).append(one)
    made = {
        name: _model(
            name,
            [one.name for one in of],
            [part for part in route if by_name[part[0]].of == name],
            [shadow for shadow in shadows if by_name[shadow].of == name],
            [other for other in instead if by_name[other].of == name],
        )
        for name, of in models.items()
    }
    return Forwarding(by_name, made)


def _check_names(what: str, names: Sequence[str], known: Mapping[str, Target]) -> None:
    for name, n in Counter(names).items():
        if name not in known:
            raise ConfigError(
                f"{what} names {name!r}, which is no target; "
                f"{near(name, known, listed='there are')}"
            )
        if n > 1:
            raise ConfigError(f"{what} names {name!r} {n} times; write it once")


def _model(
    name: str,
    targets: Sequence[str],
    route: Sequence[tuple[str, int]],
    shadows: Sequence[str],
    instead: Sequence[str],
) -> Model:
    left = [one for one in targets if one not in shadows]
    if not left:
        raise ConfigError(f"model {name} has shadows alone; leave out --shadow {shadows[0]}")
    if not route:
        if len(left) > 1:
            even = ",".join(f"{one}={w}" for one, w in zip(left, _spread(len(left)), strict=True))
            raise ConfigError(
                f"model {name} has the targets {', '.join(left)} and no route; write --route {even}"
            )
        route = [(left[0], UNITS)]
    routed = [one for one, _ in route]
    both = next((one for one in shadows if one in routed), None)
    if both is not None:
        raise ConfigError(f"target {both} is in the route and a shadow; write it in one of the two")
    unused = next((one for one in left if one not in routed), None)
    if unused is not None:
        raise ConfigError(
            f"target {unused} is neither in the route of model {name} nor a shadow; write --shadow "
            f"{unused}, or leave it out"
        )
    total = sum(weight for _, weight in route)
    if total != UNITS:
        raise ConfigError(
            f"the weights of model {name} add up to {shown_weight(total)}; write some that make 100"
        )
    if len(instead) > 1:
        raise ConfigError(f"model {name} has the fallbacks {', '.join(instead)}; write one")
    if instead and instead[0] not in routed:
        raise ConfigError(
            f"the fallback {instead[0]} is not in the route of model {name}; write one that is, as "
            f"in --fallback {routed[0]}"
        )
    return Model(name, tuple(route), tuple(shadows), instead[0] if instead else None)


def _spread(n: int) -> list[str]:
    """Weights for so many targets: the first has most."""
    return [str(100 - 5 * (n - 1)), *["5"] * (n - 1)] if n <= 20 else ["…"] * n
