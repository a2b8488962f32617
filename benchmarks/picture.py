"""Results as SVG: a bar for each ratio beside its goal, and lines of what grows with what."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from benchmarks.measure import OURS, Curve, Result

# Okabe and Ito's colours, which the colour-blind tell apart; ours is always the first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#777777")
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def amount(value: float, unit: str) -> str:
    """A measured value with its unit, to three digits: 1.23 ms, 45,600/s, 512 B."""
    if unit == "1/s":
        return f"{value:,.0f}/s"
    steps = (
        ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
        if unit == "s"
        else ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
    )
    size, name = next((s for s in steps if abs(value) >= s[0]), steps[-1])
    return f"{value / size:.3g} {name}" if value / size < 1000 else f"{value / size:,.0f} {name}"


def bars(results: Sequence[Result]) -> str:
    """One row for each result: what each contender takes as a multiple of the one compared with,
    on a logarithmic scale, with the goal as a mark. Rates are turned over, so that the left is
    fast everywhere."""
    row, left, right, width, top = 22, 400, 90, 1000, 46
    across = width - left - right
    rows = [(r, _times(r)) for r in results]
    low = min(0.5, *(min(t.values()) for _, t in rows))
    high = 2.5 * max(4.0, *(max(t.values()) for _, t in rows))  # room for the last name

    def x(times: float) -> float:
        return left + across * math.log(times / low) / math.log(high / low)

    height = top + row * len(rows) + 34
    parts = [_opening(width, height)]
    parts.append(
        f'<text x="{left}" y="18" font-weight="600">Time as a multiple of the limit or of what is '
        "written by hand (left is faster; logarithmic)</text>"
    )
    for tick in _powers(low, high):
        colour = "#888" if tick == 1 else "#ddd"
        parts.append(
            f'<path d="M{x(tick):.1f} {top - 8}V{height - 26}" stroke="{colour}"/>'
            f'<text x="{x(tick):.1f}" y="{top - 12}" text-anchor="middle" fill="#555">'
            f"{tick:g}×</text>"
        )
    for i, (r, times) in enumerate(rows):
        y = top + row * i
        label = f"{r.work}, {r.size}" if r.size else r.work
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(_cut(label))}</text>'
        )
        ours = times[OURS]
        begin, end = sorted((x(1.0), x(ours)))
        colour = "#0072b2" if r.met is not False else "#d55e00"
        parts.append(
            f'<rect x="{begin:.1f}" y="{y + 3}" width="{max(2.0, end - begin):.1f}" height="14" '
            f'fill="{colour}"/>'
        )
        if r.goal is not None:
            goal = x(1 / r.goal if r.unit == "1/s" else r.goal)
            parts.append(f'<path d="M{goal:.1f} {y}v20" stroke="#000" stroke-width="2"/>')
        for name, at in times.items():
            if name in (OURS, r.against):
                continue
            parts.append(
                f'<circle cx="{x(at):.1f}" cy="{y + 10}" r="4" fill="none" stroke-width="2" '
                f'stroke="#555"><title>{escape(name)}: {at:.2f}×</title></circle>'
            )
            if not 0.6 < at < 2:  # elsewhere it would lie on bars and marks
                parts.append(
                    f'<text x="{x(at) + 7:.1f}" y="{y + 14}" font-size="10" fill="#555">'
                    f"{escape(_short(name))}</text>"
                )
        parts.append(f'<text x="{width - right + 8}" y="{y + 14}">{ours:.2f}×</text>')
    parts.append(
        f'<text x="{left}" y="{height - 8}" fill="#555">bar: featurekit (orange misses its goal) · '
        "black mark: goal · ring: another peer</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def lines(curve: Curve) -> str:
    """A line for each contender over `curve.xs`, both axes logarithmic."""
    width, height, left, top, right, bottom = 620, 300, 80, 34, 150, 46
    across, up = width - left - right, height - top - bottom
    values = [v for taken in curve.taken.values() for v in taken if v > 0]
    x = _scale(min(curve.xs), max(curve.xs), left, left + across)
    y = _scale(min(values) / 1.2, max(values) * 1.2, top + up, top)
    parts = [_opening(width, height)]
    parts.append(f'<text x="10" y="18" font-weight="600">{escape(curve.work)}</text>')
    for tick in _powers(min(values) / 1.2, max(values) * 1.2):
        parts.append(
            f'<path d="M{left} {y(tick):.1f}H{left + across}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#555">'
            f"{amount(tick, curve.unit)}</text>"
        )
    for at in curve.xs:
        parts.append(
            f'<text x="{x(at):.1f}" y="{top + up + 16}" text-anchor="middle" fill="#555">'
            f"{_count(at)}</text>"
        )
    parts.append(
        f'<text x="{left + across / 2:.1f}" y="{height - 8}" text-anchor="middle" fill="#555">'
        f"{escape(curve.x)}</text>"
    )
    last = -math.inf
    names = sorted(curve.taken, key=lambda name: -curve.taken[name][-1])
    for name in names:
        colour = COLOURS[list(curve.taken).index(name) % len(COLOURS)]
        points = [(x(at), y(v)) for at, v in zip(curve.xs, curve.taken[name], strict=True) if v > 0]
        parts.append(
            f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}" fill="none" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        last = max(points[-1][1] + 4, last + 14)
        parts.append(
            f'<text x="{left + across + 8}" y="{last:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _times(result: Result) -> dict[str, float]:
    other = result.taken[result.against]
    rate = result.unit == "1/s"
    return {name: other / v if rate else v / other for name, v in result.taken.items()}


def _opening(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT} '
        f'role="img"><rect width="{width}" height="{height}" fill="#fff"/>'
    )


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    spread = math.log(high / low) or 1.0
    return lambda value: begin + (end - begin) * math.log(value / low) / spread


def _powers(low: float, high: float) -> list[float]:
    """Round numbers between, a few a decade where the scale is short."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [
        s * 10.0**e for e in range(first, last + 1) for s in steps if low <= s * 10.0**e <= high
    ]


def _count(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {name}"
    return f"{value:g}"


def _cut(text: str, most: int = 62) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(name: str) -> str:
    return name.split(",")[0].split(" (")[0][:24]
