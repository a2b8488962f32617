"""Compares what a service serves now with a reference, feature by feature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from featurekit.core.attributes import Named
from featurekit.core.screen import plain
from featurekit.core.types import instant
from featurekit.define.feature_contract.contract import Contract
from featurekit.errors import DataError
from featurekit.log.served.block import ServedBlock
from featurekit.monitor.drift.distances import Bins
from featurekit.monitor.drift.judge import Figure, Sample, Thresholds, judged, shape
from featurekit.monitor.drift.samples import AGE, Window, of_contract, windows


@dataclass(frozen=True, slots=True)
class EvidentlyFigure(Named):
    """What Evidently says of a feature: the `value` of the test that it takes by default, which is
    called `method`, beside the `threshold` of that. None, and in `left_out` the reason, where it
    was not asked."""

    feature: str
    method: str | None = None
    value: float | None = None
    threshold: float | None = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Drift(Named):
    """How the values of a service have drifted.

    `rows` were served from `start` up to but not at `end` (datetimes); they were compared with
    `reference_rows` of `reference`, a text for people. `versions` has the rows of each version that
    answered. `figures` has the measures of each feature, `lacking` the features that one side
    lacks or has with another type, with the reason: they drift, too. `shapes` has the bins in which
    PSI compares a feature. `evidently` has Evidently's figures, where it was asked.
    """

    service: str
    reference: str
    reference_rows: int
    start: Any
    end: Any
    rows: int
    versions: Mapping[str, int]
    figures: tuple[Figure, ...]
    lacking: Mapping[str, str]
    shapes: Mapping[str, Bins]
    evidently: tuple[EvidentlyFigure, ...] = ()

    @property
    def drifting(self) -> list[str]:
        """The features that drift, in the order of the service."""
        found = dict.fromkeys(f.feature for f in self.figures if f.verdict == "drift")
        return [*found, *(name for name in self.lacking if name not in found)]

    def to_dict(self) -> dict[str, Any]:
        """All of it, in the form of JSON."""
        found: dict[str, Any] = plain(
            {
                "service": self.service,
                "reference": self.reference,
                "reference_rows": self.reference_rows,
                "start": self.start,
                "end": self.end,
                "rows": self.rows,
                "versions": self.versions,
                "drifting": self.drifting,
                "lacking": self.lacking,
                "figures": [
                    {name: getattr(f, name) for name in Figure.__dataclass_fields__}
                    for f in self.figures
                ],
                **({"evidently": [asdict(f) for f in self.evidently]} if self.evidently else {}),
            }
        )
        return found


class Counted(Protocol):
    """What is counted of the rows of a window."""

    start: int
    end: int
    rows: int

    @property
    def versions(self) -> Mapping[str, int]: ...
    @property
    def types(self) -> dict[str, str]: ...
    def samples(self, *, named: bool = False) -> dict[str, Sample]: ...


def drift_from_contract(
    contract: Contract,
    blocks: Iterable[ServedBlock],
    window: Window,
    by: Thresholds,
    *,
    reference: str,
    progress: Callable[[int], None] | None = None,
) -> Drift:
    """The drift of what was served in a window from the rows that a contract was made of. DataError
    where a side has no row."""
    windows(blocks, contract.service, [window], progress)
    samples, types = of_contract(contract)
    rows = contract.body.profile.rows
    return _drift(contract.service, reference, rows, samples, types, window, by)


def drift_between(
    service: str,
    blocks: Iterable[ServedBlock],
    before: Window,
    window: Window,
    by: Thresholds,
    *,
    progress: Callable[[int], None] | None = None,
) -> Drift:
    """The drift of what was served in a window from what was served in the one before it. DataError
    where a side has no row."""
    windows(blocks, service, [before, window], progress)
    return drift_of_windows(service, before, window, by)


def drift_of_windows(service: str, before: Counted, window: Counted, by: Thresholds) -> Drift:
    """The drift of a window from the one before it, which are counted. DataError where a side has
    no row."""
    reference = f"served {_span(before)}"
    return _drift(
        service, reference, before.rows, before.samples(named=True), before.types, window, by
    )


def _drift(
    service: str,
    reference: str,
    rows: int,
    was: Mapping[str, Sample],
    types: Mapping[str, str],
    window: Counted,
    by: Thresholds,
) -> Drift:
    for what, n in ((reference, rows), (f"served {_span(window)}", window.rows)):
        if not n:
            raise DataError(
                f"service {service!r}: there is no row to compare in what was {what}; write "
                "another --window, --end or --reference"
            )
    now, served = window.samples(), window.types
    # A contract knows nothing of the age of views.
    names = [*types, *(n for n in served if n not in types and not n.startswith(AGE))]
    apart = {name: _apart(types.get(name), served.get(name)) for name in names}
    lacking = {name: why for name, why in apart.items() if why}
    both = {name: (one, now[name]) for name, one in was.items() if name not in lacking}
    figures = [f for name, (old, new) in both.items() for f in judged(name, old, new, by)]
    shapes = {name: shape(*samples) for name, samples in both.items()}
    return Drift(
        service=service,
        reference=reference,
        reference_rows=rows,
        start=instant(window.start),
        end=instant(window.end),
        rows=window.rows,
        versions=dict(window.versions),
        figures=tuple(figures),
        lacking=lacking,
        shapes={name: bins for name, bins in shapes.items() if bins is not None},
    )


def _apart(was: str | None, now: str | None) -> str:
    """Why two types of a feature cannot be compared; "" where they can."""
    if now is None:
        return f"{was} in the reference, and not served"
    if was is None:
        return f"{now} served, and not in the reference"
    if was == now and " and " not in now:
        return ""
    return f"{was} in the reference, and {now} served"


def _span(window: Counted) -> str:
    start, end = (instant(at).isoformat(sep=" ") for at in (window.start, window.end))
    return f"from {start} to {end}"
