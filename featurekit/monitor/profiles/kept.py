"""Turns kept profiles into samples of features, which are those that the rows themselves give."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from featurekit.aggregates.quantiles import BucketCounts, is_nan
from featurekit.core.durations import Duration, duration_us
from featurekit.core.status import ERROR_STATUS
from featurekit.core.types import Instant, as_instant, micros
from featurekit.errors import ArgumentError, DataError
from featurekit.log.profiles import Profile, is_often, merged, read, together
from featurekit.monitor.drift.distances import Histogram
from featurekit.monitor.drift.judge import Sample
from featurekit.monitor.drift.samples import AGE, Repeats, shares_of
from featurekit.monitor.profiles.counts import SUM_UNIT
from featurekit.monitor.profiles.keep import settings
from featurekit.project.kept_profiles import profile_place
from featurekit.project.project import Project

_NONE: Profile = {"rows": 0, "versions": {}, "columns": {}, "repeats": {}}


class KeptWindow:
    """What profiles have of a service from `start` up to but not at `end`, in microseconds."""

    def __init__(self, start: int, end: int, profile: Profile) -> None:
        self.start, self.end, self.profile = start, end, profile
        self.rows: int = profile["rows"]
        self.versions: Mapping[str, int] = profile["versions"]

    @property
    def types(self) -> dict[str, str]:
        """The type of each feature, and of each view's age; where versions differ, all of them."""
        columns = self.profile["columns"]
        return {name: " and ".join(sorted(types)) for name, types in columns.items()}

    def samples(self, *, named: bool = False) -> dict[str, Sample]:
        """The samples of features, as `Window.samples` gives them."""
        repeats = {
            view: {keys: _repeats(counts) for keys, counts in by_keys.items()}
            for view, by_keys in self.profile["repeats"].items()
        }
        share = shares_of(repeats)
        found = {}
        for name, by_type in self.profile["columns"].items():
            if len(by_type) == 1:
                (column,) = by_type.values()
                found[name] = _sample(column, share(name), named=named)
        return found


def _repeats(counts: Mapping[str, int]) -> Repeats:
    made = Repeats()
    for place, n in counts.items():
        made.counts[int(place)] = n
    return made


def _sample(column: Mapping[str, Any], independent: float, *, named: bool) -> Sample:
    histogram = None
    if column["type"] in ("int", "float"):
        pairs = [(int(i), n) for i, n in column["buckets"].items()]
        histogram = Histogram.of(pairs, whole=column["type"] == "int")
    return Sample(
        rows=column["present"] + column["null"],
        null=column["null"],
        errors=column["statuses"].get(ERROR_STATUS, 0),
        numbers=histogram,
        classes=_classes(column, named=named),
        independent=independent,
    )


def _classes(column: Mapping[str, Any], *, named: bool) -> dict[Any, int] | None:
    values = column["values"]
    if values is None:
        return None
    every = not named or column["type"] == "bool"
    ranked = sorted(
        (-told[0], json.loads(text)) for text, told in values.items() if every or is_often(told)
    )
    return {value: -n for n, value in ranked}


def kept_windows(project: Project, service: str, end: int, *lengths: int) -> list[KeptWindow]:
    """What is kept of windows of these lengths, the last of which ends where the part of time ends
    that has `end`, or before; each ends where the next one starts. ArgumentError for a length that
    is no whole number of parts."""
    every, _ = settings(project)
    for length in lengths:
        if length % every:
            raise ArgumentError(
                f"profiles are kept by parts of {every // 1_000_000:,} s, found a window of "
                f"{length // 1_000_000:,} s; write a whole number of parts"
            )
    kept = together(read(profile_place(project)).values(), every).profiles
    parts = kept.get(service)
    if not parts:
        others = ", ".join(sorted(name for name, some in kept.items() if some))
        told = f"; there are those of {others}" if others else ""
        raise DataError(
            f"no profile of service {service!r} is kept{told}. `featurekit monitor profile` keeps "
            "what the serving log has of it"
        )
    made, until = [], end - end % every
    for length in reversed(lengths):
        profile = _NONE
        for start in sorted(parts):
            if until - length <= start < until:
                profile = merged(profile, parts[start])
        made.append(KeptWindow(until - length, until, _in_order(project, service, profile)))
        until -= length
    return made[::-1]


def _in_order(project: Project, service: str, profile: Profile) -> Profile:
    """The profile with its columns in the order of the service, as its rows have them."""
    compiled = project.repo.compiled_services.get(service)
    names = [] if compiled is None else [output.full_name for output in compiled.outputs]
    place = {name: i for i, name in enumerate(names)}

    def order(name: str) -> tuple[bool, int, str]:
        return name.startswith(AGE), place.get(name, len(place)), name

    columns = {name: profile["columns"][name] for name in sorted(profile["columns"], key=order)}
    return {**profile, "columns": columns}


def profile_of(
    project: Project, service: str, window: Duration, end: Instant | None
) -> list[dict[str, Any]]:
    """What is kept of the features of a service; `FeatureStore.profile_of` says of what."""
    every, _ = settings(project)
    # The part of now is not over, and is shown as far as it goes.
    until = time.time_ns() // 1000 + every if end is None else micros(as_instant(end, what="end"))
    (found,) = kept_windows(project, service, until, duration_us(window, what="window"))
    if not found.rows:
        raise DataError(
            f"no profile of service {service!r} is kept of that time; write another one"
        )
    return summary(found)


def summary(window: KeptWindow) -> list[dict[str, Any]]:
    """What a window says of each feature: counts, exact extremes and mean, quantiles to half a
    bucket, about how many distinct values, and the most frequent ones that eleven entities have."""
    found = []
    for name, by_type in window.profile["columns"].items():
        for column in by_type.values():
            told: dict[str, Any] = {"feature": name, "type": column["type"]}
            told |= {what: column[what] for what in ("present", "null", "least", "greatest")}
            told["errors"] = column["statuses"].get(ERROR_STATUS, 0)
            told |= _of_numbers(column)
            told["distinct"] = _distinct(column)
            often = _classes(column, named=True)
            told["top"] = None if often is None else [[v, n] for v, n in [*often.items()][:20]]
            found.append(told)
    return [one for one in found if not one["feature"].startswith(AGE)]


def _of_numbers(column: Mapping[str, Any]) -> dict[str, float | None]:
    sketch = BucketCounts()
    sketch.counts.update({int(i): n for i, n in column["buckets"].items()})
    n = sum(sketch.counts.values())
    quantiles = {f"q{int(q * 100)}": sketch.quantile(q) if n else None for q in (0.25, 0.5, 0.75)}
    n -= sum(count for i, count in sketch.counts.items() if is_nan(i))
    unit = 1 if column["type"] == "int" else SUM_UNIT
    ends = [column[what] for what in ("least", "greatest")]
    finite = n > 0 and all(math.isfinite(one) for one in ends)
    mean = column["sum"] / (unit * n) if finite else None
    return {"mean": mean, **quantiles}


def _distinct(column: Mapping[str, Any]) -> int | None:
    """About how many distinct values there are; exactly, where these are counted one by one."""
    if column["values"] is not None:
        return len(column["values"])
    if not column["registers"]:
        return None
    from featurekit.aggregates.hyperloglog import CODE, estimate_of

    codes = np.array([int(i) * CODE + rank for i, rank in column["registers"].items()])
    return int(estimate_of(codes))
