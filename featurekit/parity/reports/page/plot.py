"""Turns a report's differences into a plot: when they were, and how many doubles are between."""

from __future__ import annotations

import datetime as dt
import math

from featurekit.parity.reports.page.template import Html, fill, joined
from featurekit.parity.reports.page.verdict import Counts

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 260, 64, 34, 16
_OTHER_BAND = 30
"""Above the axis, for differences that are not between two finite floats."""
_SERIES = 6
"""So many marks and colours there are."""


def plot(report: Counts) -> Html:
    """Differences by the instant asked about and by how many doubles they are apart; nothing where
    there are none."""
    points = report.get("points", [])
    if not points:
        return Html()
    times = [dt.datetime.fromisoformat(p["as_of"]).timestamp() for p in points]
    low, high = min(times), max(times)
    most = max((p["ulps"] or 1 for p in points), default=1)
    decades = max(1, math.ceil(math.log10(most + 1)))
    names = list(dict.fromkeys(p["feature"] for p in points))

    def x(t: float) -> float:
        share = 0.5 if high == low else (t - low) / (high - low)
        return _LEFT + 8 + share * (_WIDTH - _LEFT - 24)

    def point(found: Counts, t: float) -> Html:
        return fill(
            "point",
            series=names.index(found["feature"]) % _SERIES,
            x=f"{x(t):.1f}",
            y=f"{_height(found['ulps'], decades):.1f}",
            feature=found["feature"],
            as_of=found["as_of"],
            apart=_apart(found["ulps"]),
        )

    first, last = _day(low), _day(high)
    return fill(
        "plot",
        service=report["service"],
        told=f"{len(points):,} differences of {len(names)} features, from {first} to {last}",
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - 8,
        before_axis=_LEFT - 8,
        below=_HEIGHT - 8,
        other_top=_TOP - 8,
        other_text=_TOP + 10,
        other_width=_WIDTH - _LEFT - 8,
        lines=_lines(decades),
        points=joined(point(p, t) for p, t in zip(points, times, strict=True)),
        first=first,
        last=last,
        keys=joined(
            fill("series-key", series=i % _SERIES, name=name) for i, name in enumerate(names)
        ),
    )


def _height(ulps: int | None, decades: int) -> float:
    """Where a difference stands, by the logarithm of the doubles between."""
    if ulps is None:
        return _TOP + 6
    floor, top = _HEIGHT - _BOTTOM, _TOP + _OTHER_BAND
    return floor - (floor - top) * math.log10(max(ulps, 1)) / decades


def _lines(decades: int) -> Html:
    """A line for each power of ten, or for some of many."""
    lines = []
    for exponent in range(0, decades + 1, max(1, math.ceil(decades / 5))):
        y = _height(10**exponent, decades)
        lines.append(
            fill(
                "line",
                left=_LEFT,
                right=_WIDTH - 8,
                before_axis=_LEFT - 8,
                y=f"{y:.1f}",
                text_y=f"{y + 4:.1f}",
                power=fill("power", exponent=exponent) if exponent else 1,
            )
        )
    return joined(lines)


def _apart(ulps: int | None) -> str:
    return "not between two finite floats" if ulps is None else f"{ulps:,} ulps apart"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")
