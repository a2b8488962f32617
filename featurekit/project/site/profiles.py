"""Looks at the values that features have now: how many are None, and how the others are spread.

What is read is bounded: of each view the values of some entities at one instant, of sources that
are not too large, and no further view after a time.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from featurekit.aggregates.quantiles import bucket, edges
from featurekit.core.few import LEAST_ENTITIES
from featurekit.core.screen import Advance
from featurekit.core.sql import quote
from featurekit.core.types import instant
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import FeatureService
from featurekit.define.plan import View
from featurekit.errors import FeaturekitError
from featurekit.project.project import Project

BINS, TOP = 24, 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is read: at most so many entities of a view, no source of more rows, and no further
    view after so many seconds."""

    entities: int = 5_000
    rows: int = 20_000_000
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The values of one feature for the entities that were looked at.

    `statuses` has how many have each status. Of finite numbers there are `bins` (lower end, upper
    end, how many) and `quantiles` (0, 25, 50, 75 and 100 %); `special` counts NaN and infinities.
    Of other values `top` has the most frequent ones, as texts, of those that at least
    LEAST_ENTITIES have. `distinct` is how many different ones there are, None where they cannot be
    told apart.
    """

    rows: int
    nulls: int
    statuses: Mapping[str, int]
    distinct: int | None = None
    quantiles: tuple[float, ...] = ()
    bins: tuple[tuple[float, float, int], ...] = ()
    special: Mapping[str, int] = field(default_factory=dict)
    top: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of a view: the instant that was asked about, which is that of its newest event
    or, where that lies ahead, now; and a profile for each feature by name. `why_not` says why
    nothing was."""

    as_of: Any = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    why_not: str = ""


def look(
    project: Project, views: Sequence[View], bounds: Bounds, progress: Advance = lambda *_: None
) -> dict[str, Looked]:
    """What the views' features are now, by the names of the views."""
    end = time.monotonic() + bounds.seconds
    found: dict[str, Looked] = {}
    for number, view in enumerate(views):
        if time.monotonic() > end:
            why = f"its values were not looked at: {bounds.seconds:g} s were over"
            found[view.name] = Looked(why_not=why)
        else:
            found[view.name] = _look(project, view, bounds)
        progress(number + 1, len(views))
    return found


def _look(project: Project, view: View, bounds: Bounds) -> Looked:
    try:
        as_of, keys = _entities(project, view, bounds)
        if keys is None:
            return Looked(why_not=as_of)
        written = project.repo.views[view.name]
        service = compile_service(FeatureService("catalogue", features=[written]))
        table = project.training_set(service, keys).to_arrow()
    except (FeaturekitError, OSError) as error:
        return Looked(why_not=f"its values could not be looked at: {error}")
    profiles = {}
    for feature, output in zip(view.features, service.outputs, strict=True):
        values = table.column(output.full_name).to_pylist()
        statuses = Counter(table.column(f"{output.full_name}__status").to_pylist())
        profiles[feature.name] = profile_of(values, statuses)
    return Looked(as_of, profiles)


def _entities(project: Project, view: View, bounds: Bounds) -> tuple[Any, Any]:
    """The instant of the newest event, or now, and a table of some entities at it; or why there is
    none, and None."""
    con = project.connect()
    try:
        read = project.snapshot(con, view, may_be_empty=True).events
        rows = read.rows
        if rows is None:
            (rows,) = con.execute(f"SELECT count(*) FROM {read.relation}").fetchall()[0]
        if not rows:
            return "its source has no events yet", None
        if rows > bounds.rows:
            return (
                f"its values were not looked at: its source has {rows:,} rows, and at most "
                f"{bounds.rows:,} are read"
            ), None
        newest = f"SELECT max(greatest(__ts, __created)) FROM {read.relation}"
        ((last,),) = con.execute(newest).fetchall()
        at = min(last, project.now())  # an event may lie ahead, by mistake
        names = [quote(key.name) for key in view.join_keys]
        there = " AND ".join(f"{name} IS NOT NULL" for name in names)
        # Chosen by their hash, so that the same data give the same entities, in no order of theirs.
        chosen = (
            f"SELECT {', '.join(names)} FROM (SELECT DISTINCT {', '.join(names)} FROM "
            f"{read.relation} WHERE {there}) ORDER BY hash({', '.join(names)}), {', '.join(names)} "
            f"LIMIT {bounds.entities}"
        )
        shown = f"SELECT *, make_timestamp({at})::TIMESTAMPTZ AS event_timestamp FROM ({chosen})"
        table = con.sql(shown).to_arrow_table()
    finally:
        con.close()
    if not table.num_rows:
        return "its source has no event of a known entity", None
    return instant(at), table


def profile_of(values: Sequence[Any], statuses: Mapping[str, int]) -> Profile:
    """How these values are spread."""
    there = [v for v in values if v is not None]
    nulls = len(values) - len(there)
    made = Profile(len(values), nulls, dict(sorted(statuses.items())), 0)
    if not there:
        return made
    if isinstance(there[0], (int, float)) and not isinstance(there[0], bool):
        return _of_numbers(made, there)
    if isinstance(there[0], (list, dict)):
        return replace(_of_numbers(made, [len(v) for v in there]), distinct=None)
    texts = Counter(v if isinstance(v, str) else str(v) for v in there)
    often = [(text, count) for text, count in texts.items() if count >= LEAST_ENTITIES]
    top = sorted(often, key=lambda pair: (-pair[1], pair[0]))
    return replace(made, distinct=len(texts), top=tuple(top[:TOP]))


def _of_numbers(made: Profile, values: Sequence[float]) -> Profile:
    finite = sorted(v for v in values if math.isfinite(v))
    special = Counter(_special(v) for v in values if not math.isfinite(v))
    made = replace(made, distinct=len(set(finite)) + len(special), special=dict(special))
    if not finite:
        return made
    low, high = _ends(finite)
    places = [round(share * (len(finite) - 1)) for share in (0.25, 0.5, 0.75)]
    quantiles = (low, *(float(finite[place]) for place in places), high)
    return replace(made, quantiles=quantiles, bins=_bins(finite, low, high))


def _ends(ordered: Sequence[float]) -> tuple[float, float]:
    """The ends of the buckets that hold the least and the greatest number, which few entities
    have; but zero is zero, and where all numbers are one it is that."""
    first, last = ordered[0], ordered[-1]
    if first == last:
        return float(first), float(last)
    return edges(bucket(first))[0] if first else 0.0, edges(bucket(last))[1] if last else 0.0


def _special(value: float) -> str:
    return "NaN" if value != value else "inf" if value > 0 else "-inf"


def _bins(
    ordered: Sequence[float], low: float, high: float
) -> tuple[tuple[float, float, int], ...]:
    """Bins of one width over ordered numbers, which lie from `low` to `high`, the last one closed;
    one of them for a single value."""
    width = high / BINS - low / BINS  # the difference itself may be beyond the doubles
    if width <= 0.0 or not math.isfinite(width):
        return ((low, high, len(ordered)),)
    counts = [0] * BINS
    for value in ordered:
        counts[min(int((value / width) - (low / width)), BINS - 1)] += 1
    ends = [low + i * width for i in range(BINS)] + [high]
    return tuple((ends[i], ends[i + 1], counts[i]) for i in range(BINS))
