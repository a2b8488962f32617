"""Keeps in the state folder what was found last of contracts and of parity, for the catalogue:
counts, and no value of an event."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from featurekit.core.files import write_whole
from featurekit.core.openness import make_folder
from featurekit.offline.contract import Outcome
from featurekit.sources.identity import folder_in, kept_folder
from featurekit.sources.verdicts import judged_name

_DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""What reading raises of a file that is absent or damaged: it is made again by the next check."""


# --- contracts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What became of a rule: how many rows were judged, and how many break it."""

    rule: str
    says: str
    severity: str
    held: bool
    rows: int
    broken: int


@dataclass(frozen=True, slots=True)
class ContractResult:
    """What became of a source's contract when it was judged last; the schema is the first rule."""

    at: str
    rules: tuple[RuleResult, ...]

    def of(self, rule: str, says: str) -> RuleResult | None:
        """The result of a rule that says this; None where it was not judged."""
        named = (one for one in self.rules if (one.rule, one.says) == (rule, says))
        return next(named, None)


def keep_judged(state_dir: Path, source: str, outcomes: Sequence[Outcome]) -> None:
    """Keep what became of a source's contract."""
    rules = [RuleResult(o.rule, o.says, o.severity, o.held, o.rows, o.broken) for o in outcomes]
    about = {"at": _now(), "rules": [asdict(rule) for rule in rules]}
    write_whole(kept_folder(state_dir) / judged_name(source), json.dumps(about).encode())


def last_judged(state_dir: Path, source: str) -> ContractResult | None:
    """What became of a source's contract when it was judged last; None where it was not."""
    with suppress(*_DAMAGED):
        about = json.loads((folder_in(state_dir) / judged_name(source)).read_bytes())
        rules = tuple(RuleResult(**rule) for rule in about["rules"])
        dt.datetime.fromisoformat(about["at"])
        return ContractResult(about["at"], rules)
    return None


# --- parity ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParityResult:
    """What a parity check found of a service's feature: how many values were compared, how many
    differ, and how many do because their events were not online yet. `at` is None where the report
    does not say when it was made."""

    service: str
    mode: str
    feature: str
    compared: int
    differing: int
    lagging: int
    at: str | None = None


def keep_parity(
    state_dir: Path, service: str, mode: str, features: Mapping[str, tuple[int, int, int]]
) -> None:
    """Keep what a check found of each feature, by full names: compared, differing, lagging. Where
    there is no state folder, as in a build, nothing is kept."""
    if not Path(state_dir).is_dir():
        return
    make_folder(_parity_folder(state_dir))
    about = {"at": _now(), "service": service, "mode": mode, "features": features}
    place = _parity_folder(state_dir) / f"{service}.{mode}.json"
    write_whole(place, json.dumps(about).encode())


def last_parity(state_dir: Path) -> Iterator[ParityResult]:
    """What was found last of each service in each mode."""
    for path in sorted(_parity_folder(state_dir).glob("*.json")):
        with suppress(*_DAMAGED):
            about = json.loads(path.read_bytes())
            dt.datetime.fromisoformat(about["at"])
            named = str(about["service"]), str(about["mode"])
            found = [
                ParityResult(*named, name, int(compared), int(differing), int(lagging), about["at"])
                for name, (compared, differing, lagging) in about["features"].items()
            ]
            yield from found


def _parity_folder(state_dir: Path) -> Path:
    return Path(state_dir) / "parity"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
