"""What a parity check found: counts per feature, and the pairs that differ."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from featurekit.core import html
from featurekit.core.attributes import Named
from featurekit.core.types import instant, micros
from featurekit.define.plan import Service
from featurekit.parity.compare import Answers, Stated, parts, shown, ulps

if TYPE_CHECKING:
    from featurekit.parity.paths import Asked
    from featurekit.parity.scenario import Scenario

_KEPT, _KEPT_OF_FEATURE = 60, 3
_PLOTTED = 2_000
_NONE: dict[str, int] = {}


class Told(Protocol):
    """What is said of a difference: its cause, and a pytest case, empty where there is none."""

    @property
    def cause(self) -> str:
        """The name of the cause."""

    @property
    def case(self) -> str:
        """A test that reproduces it."""

    def text(self) -> str:
        """For people: some lines."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that online and offline do not agree on."""

    feature: str
    row: dict[str, Any]
    as_of: str
    offline: Stated
    online: Stated
    scenario: Scenario | None = field(default=None, compare=False, repr=False)
    """The few events that it takes and the question, where the mode knows them."""
    diagnosis: Told | None = field(default=None, compare=False, repr=False)

    @property
    def at(self) -> int:
        """The instant asked about, in microseconds."""
        return micros(dt.datetime.fromisoformat(self.as_of))

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "feature": self.feature,
            "row": {k: repr(v) for k, v in self.row.items()},
            "as_of": self.as_of,
            "offline": {"value": shown(self.offline[0]), "status": self.offline[1]},
            "online": {"value": shown(self.online[0]), "status": self.online[1]},
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict(),
        }


@dataclass(slots=True)
class FeatureReport:
    """One feature's counts; `statuses` are the offline ones, `nulls` those of them without value.

    `lagging` values differ because events were not online yet: they are not among the `differing`.
    `lag_us` is the age of the oldest such event, `fresh_us` that of the newest one that is online.
    """

    compared: int = 0
    differing: int = 0
    lagging: int = 0
    nulls: int = 0
    lag_us: int | None = None
    fresh_us: int | None = None
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Report(Named):
    """A parity check of a service. `ok` where not one bit differs and something was compared.

    `unchecked` counts rows that could not be compared, by the reason; `notes` say what else is to
    be known.
    """

    service: str
    seed: int
    mode: str = "history"
    features: dict[str, FeatureReport] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    points: list[tuple[str, str, int | None]] = field(default_factory=list)
    """Of the first differences: the feature, the instant asked about, and the ulps between."""
    rows: int = 0
    seconds: float = 0.0
    unchecked: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    opinions: Counter[str] = field(default_factory=Counter)
    """What a third opinion was asked, and how often: what it contradicts is among the features, by
    what was asked."""

    @property
    def compared(self) -> int:
        """Values compared."""
        return sum(f.compared for f in self.features.values())

    @property
    def differing(self) -> int:
        """Values whose bits or status differ."""
        return sum(f.differing for f in self.features.values())

    @property
    def lagging(self) -> int:
        """Values that differ only because events were not online yet."""
        return sum(f.lagging for f in self.features.values())

    @property
    def ok(self) -> bool:
        """Whether the paths agree."""
        return self.compared > 0 and self.differing == 0

    def take(
        self,
        feature: str,
        offline: Stated,
        online: Stated,
        *,
        row: dict[str, Any],
        as_of: str,
    ) -> None:
        """Compare one value."""
        found = self.features.setdefault(feature, FeatureReport())
        found.compared += 1
        found.statuses[offline[1]] += 1
        if parts(offline, online):
            found.differing += 1
            self.keep(Difference(feature, row, as_of, offline, online))

    def count(
        self,
        feature: str,
        *,
        compared: int,
        differing: int = 0,
        statuses: Mapping[str, int] = _NONE,
    ) -> None:
        """Add what was counted elsewhere."""
        found = self.features.setdefault(feature, FeatureReport())
        found.compared += compared
        found.differing += differing
        found.statuses.update(statuses)

    def count_answers(self, service: Service, offline: Answers) -> None:
        """Add as many compared values as offline answered."""
        for o, output in enumerate(service.outputs):
            statuses = offline.statuses[o]
            counts = {c["values"]: c["counts"] for c in statuses.value_counts().to_pylist()}
            self.count(output.full_name, compared=len(statuses), statuses=counts)
            self.features[output.full_name].nulls += offline.values[o].null_count

    def tell_apart(
        self,
        service: Service,
        asked: Asked,
        offline: Answers,
        online: Answers,
        parted: Sequence[Sequence[int]],
        explained: Mapping[tuple[int, int], int | None],
    ) -> None:
        """Add the differences of the `parted` rows of each output: those that are `explained`, by
        output and row, are lag, with the arrival of the oldest event that was not online; all
        others are skew."""
        for o, rows in enumerate(parted):
            name = service.outputs[o].full_name
            found = self.features[name]
            for i in rows:
                if (o, i) in explained:
                    found.lagging += 1
                    oldest = explained[o, i]
                    if oldest is not None:
                        found.lag_us = max(found.lag_us or 0, asked.at[i] - oldest)
                    continue
                found.differing += 1
                as_of = instant(asked.at[i]).isoformat()
                pair = offline.offline(o, i), online.online(o, i)
                self.keep(Difference(name, asked.row(i), as_of, *pair))

    def keep(self, difference: Difference) -> None:
        """Keep a difference that was counted, where there is room: a few of each feature."""
        if difference.as_of and len(self.points) < _PLOTTED:
            apart = ulps(difference.offline[0], difference.online[0])
            same = difference.offline[1] == difference.online[1]
            self.points.append((difference.feature, difference.as_of, apart if same else None))
        alike = sum(d.feature == difference.feature for d in self.differences)
        if len(self.differences) < _KEPT and alike < _KEPT_OF_FEATURE:
            self.differences.append(difference)

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, the counts of each feature, and what differs."""
        verdict = "agrees" if self.ok else "differs" if self.differing else "compared nothing"
        counts = html.table(
            ["feature", "compared", "differing", "lagging", "without value"],
            [
                (name, f.compared, f.differing, f.lagging, f.nulls)
                for name, f in self.features.items()
            ],
        )
        differences = html.table(
            ["feature", "row", "as of", "offline", "online"],
            [(d.feature, d.row, d.as_of, d.offline, d.online) for d in self.differences],
        )
        return html.box(
            f"Parity of {self.service} ({self.mode}): {verdict}",
            html.line(f"{self.compared:,} values compared, {self.differing:,} differ"),
            counts,
            differences if self.differences else "",
            *map(html.line, self.notes),
        )

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "service": self.service,
            "mode": self.mode,
            "ok": self.ok,
            "seed": self.seed,
            "rows": self.rows,
            "compared": self.compared,
            "differing": self.differing,
            "lagging": self.lagging,
            "unchecked": dict(sorted(self.unchecked.items())),
            "notes": self.notes,
            "opinions": dict(sorted(self.opinions.items())),
            "seconds": round(self.seconds, 3),
            "features": {
                name: {
                    "compared": f.compared,
                    "differing": f.differing,
                    "lagging": f.lagging,
                    "nulls": f.nulls,
                    "lag_seconds": None if f.lag_us is None else f.lag_us / 1e6,
                    "fresh_seconds": None if f.fresh_us is None else f.fresh_us / 1e6,
                    "statuses": dict(sorted(f.statuses.items())),
                }
                for name, f in self.features.items()
            },
            "differences": [d.to_dict() for d in self.differences],
            "points": [{"feature": f, "as_of": t, "ulps": u} for f, t, u in self.points],
        }
