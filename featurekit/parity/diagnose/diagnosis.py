"""What is said of one difference: the fewest events that make it, where the paths part, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.types import instant
from featurekit.parity.compare import Stated, shown, ulps
from featurekit.parity.diagnose.causes import CAUSES
from featurekit.parity.scenario import Delivery, Scenario
from featurekit.parity.taken import as_given

FEW = 12
"""So many events, or values, are shown."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one value differs. `scenario` is shrunk; `where` names the first node or step at which
    the paths part, `cause` is one of `CAUSES`, `evidence` what was tried, `case` a pytest case:
    empty where the events, played again, make no difference."""

    scenario: Scenario
    feature: str
    offline: Stated
    online: Stated
    cause: str
    where: str
    case: str
    evidence: tuple[str, ...] = ()
    tries: int = 0

    @property
    def ulps(self) -> int | None:
        """How many doubles apart the values are; None where they are no finite floats."""
        return ulps(self.offline[0], self.online[0])

    @property
    def given(self) -> list[Delivery]:
        """The deliveries as they were given, which had taken nothing from other views yet."""
        return as_given(self.scenario.service, self.scenario.deliveries)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "feature": self.feature,
            "entity": {k: repr(v) for k, v in self.scenario.row.items()},
            "as_of": instant(self.scenario.at).isoformat(),
            "offline": {"value": shown(self.offline[0]), "status": self.offline[1]},
            "online": {"value": shown(self.online[0]), "status": self.online[1]},
            "ulps": self.ulps,
            "cause": self.cause,
            "meaning": CAUSES[self.cause],
            "where": self.where,
            "evidence": list(self.evidence),
            "events": [
                {
                    "source": d.source,
                    **{k: repr(v) for k, v in d.row.items() if k not in ("__ts", "__created")},
                    "happened": instant(d.row["__ts"]).isoformat(),
                    "arrived": instant(d.row["__created"]).isoformat(),
                }
                for d in self.given
            ],
            "case": self.case,
        }

    def text(self) -> str:
        """For people: some lines."""
        apart = "" if self.ulps is None else f", {self.ulps} ulps apart"
        lines = [
            f"{self.feature} differs as of {instant(self.scenario.at).isoformat()}"
            f" for {', '.join(f'{k}={v!r}' for k, v in self.scenario.row.items())}{apart}",
            f"  offline  {shown(self.offline[0])}  {self.offline[1]}",
            f"  online   {shown(self.online[0])}  {self.online[1]}",
            f"  cause    {self.cause}: {CAUSES[self.cause]}",
            f"  where    {self.where}",
            *(f"           {e}" for e in self.evidence),
            f"  events   {len(self.scenario.deliveries)}{' are enough' if self.case else ''}:",
            *(f"           {line}" for line in events_text(self.given)),
        ]
        return "\n".join(lines)


def events_text(deliveries: Sequence[Delivery]) -> list[str]:
    """A line for each delivery."""
    return [
        f"{i + 1}. {d.source} at {instant(d.row['__ts']).isoformat()}"
        + (
            ""
            if d.row["__ts"] == d.row["__created"]
            else f", arrived {instant(d.row['__created']).isoformat()}"
        )
        + "".join(f" {k}={v!r}" for k, v in d.row.items() if not k.startswith("__"))
        for i, d in enumerate(deliveries[:FEW])
    ] + ([f"… and {len(deliveries) - FEW} more"] if len(deliveries) > FEW else [])


def when(us: int | None) -> str:
    return "the beginning" if us is None else instant(us).isoformat()


def said_of(stated: Stated) -> str:
    return f"{shown(stated[0])} {stated[1]}"
