"""Says whether an online store can serve a model now, from the model's feature contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.durations import duration_text
from featurekit.core.screen import Advance
from featurekit.core.signing import PublicKey
from featurekit.core.types import instant
from featurekit.define.feature_contract.compare import Difference
from featurekit.define.feature_contract.contract import Contract
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service
from featurekit.errors import ContractRefused, OnlineError
from featurekit.parity.budget import Budget
from featurekit.project.deployment import materialized_marks
from featurekit.project.pins import standing
from featurekit.project.project import Project

NAMES = ("contract", "version", "types", "freshness", "parity")
"""The checks in their order. What comes after one that fails is not made where it needs that."""
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Checked(Named):
    """A check: whether it `held`, None where it could not be made, and what was `found`.
    `differences` are those of features that are the reason."""

    name: str
    held: bool | None
    found: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployable(Named):
    """Whether a model can be served now: every check, and the contract where it is believed."""

    checks: tuple[Checked, ...]
    contract: Contract | None

    @property
    def ok(self) -> bool:
        """Whether every check was made and held."""
        return all(one.held for one in self.checks)


def deployable(
    project: Project,
    read: Callable[[], Contract],
    *,
    keys: Sequence[PublicKey],
    max_age_us: int | None,
    budget: Budget,
    seed: int = 0,
    progress: Advance | None = None,
) -> Deployable:
    """Check that the contract is believed, that its version is live or pinned and filled, that it
    gives the columns of the contract, that its views were filled within `max_age_us`, and that a
    sample of it agrees with offline bit for bit. `read` gives the contract, and refuses one that
    none of `keys` signed, where there are some.

    DataError where the contract cannot be read, StoreUnavailable where the store cannot be asked.
    """
    try:
        contract = read()
    except ContractRefused as error:
        return _ended([Checked("contract", False, str(error))], None)
    checks = [Checked("contract", True, _believed(contract, keys))]
    version, service = check_version(project, contract)
    checks.append(version)
    if service is None:
        return _ended(checks, contract)
    checks.append(check_types(contract, service))
    checks.append(_freshness(project, service, max_age_us))
    checks.append(_parity(project, contract, budget, seed, progress))
    return _ended(checks, contract)


def _ended(checks: list[Checked], contract: Contract | None) -> Deployable:
    left = NAMES[len(checks) :]
    return Deployable((*checks, *(Checked(n, None, "not made") for n in left)), contract)


def _believed(contract: Contract, keys: Sequence[PublicKey]) -> str:
    if keys:
        return f"unchanged, and signed by {contract.signed_by}"
    return "unchanged; no public key is held here, so nobody has to have signed it"


def check_version(project: Project, contract: Contract) -> tuple[Checked, Service | None]:
    """Whether the contract's version of the service can be asked; that version."""
    if contract.project != project.name:
        found = f"the contract is of project {contract.project!r}, and this is {project.name!r}"
        return Checked("version", False, found), None
    live = project.live().get(contract.service)
    try:
        service = project.online_service(contract.version).current().service
    except OnlineError as error:
        differing = () if live is None else tuple(contract.differences(live))
        names = ", ".join(dict.fromkeys(one.name for one in differing))
        said = f"{error}. From it to what is live differ: {names}" if names else str(error)
        return Checked("version", False, said, differing), None
    stands = standing(project, service.name, service.fingerprint)
    short = service.fingerprint[:12]
    return Checked("version", True, f"{service.name}@{short} is filled, and {stands}"), service


def check_types(contract: Contract, service: Service) -> Checked:
    """Whether what is served is what the contract says: a forged or mistaken contract may name a
    version and say other columns."""
    differing = tuple(contract.differences(service))
    if differing:
        return Checked("types", False, "; ".join(map(str, differing)), differing)
    here = numeric_fingerprint(service)
    others = sorted(n for n in {*here, *contract.body.numerics}
                    if here.get(n) != contract.body.numerics.get(n))  # fmt: skip
    if others:
        found = f"this platform differs from that of the training set in {', '.join(others)} (R6)"
        return Checked("types", False, found)
    return Checked("types", True, f"{len(contract.names)} features, in order and of their types")


def _freshness(project: Project, service: Service, max_age_us: int | None) -> Checked:
    """Up to when the view that is most behind is filled."""
    mark, now = materialized_marks(project.online, project.name), project.online.now_us()
    marks = {view.name: mark(view) for view in service.fed}
    lacking = [name for name, until in marks.items() if until is None]
    if lacking:
        return Checked("freshness", False, f"{', '.join(lacking)} is not filled")
    filled = {name: until for name, until in marks.items() if until is not None}
    if not filled:
        return Checked("freshness", True, "no view has to be filled")
    name = min(filled, key=lambda one: filled[one])
    age = max(0, now - filled[name])
    until = instant(filled[name]).isoformat(timespec="seconds")
    shown = f"{name} is filled up to {until}, {duration_text(age // _SECOND_US * _SECOND_US)} ago"
    if max_age_us is not None and age > max_age_us:
        return Checked("freshness", False, f"{shown}; at most {duration_text(max_age_us)}")
    return Checked("freshness", True, shown)


def _parity(
    project: Project, contract: Contract, budget: Budget, seed: int, progress: Advance | None
) -> Checked:
    """Whether a sample of entities has the same bits offline and online."""
    from featurekit.parity.modes.sample import LiveCheck  # loads DuckDB

    online = project.online_service(contract.version)
    try:
        with closing(LiveCheck(project, contract.service, seed=seed, online=online)) as check:
            report = check.run(budget, progress=progress)
    except OnlineError as error:
        return Checked("parity", False, str(error))
    compared = f"{report.compared:,} values of {report.rows:,} rows"
    differing = [name for name, one in report.features.items() if one.differing]
    if differing:
        found = f"{report.differing:,} of {compared} differ, in {', '.join(differing)}"
        return Checked("parity", False, found)
    if not report.compared:
        return Checked("parity", False, "no entity is there, so nothing was compared")
    lagging = f"{report.lagging:,} lag, since their events are not online yet"
    behind = f"; {lagging}" if report.lagging else ""
    return Checked("parity", True, f"{compared} agree bit for bit{behind}")


def documents(found: Deployable) -> Iterator[dict[str, Any]]:
    """The checks as programs read them."""
    for one in found.checks:
        yield {
            "check": one.name,
            "held": one.held,
            "found": one.found,
            "differences": [
                {"name": d.name, "what": d.what, "was": d.was, "now": d.now}
                for d in one.differences
            ],
        }
