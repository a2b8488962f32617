"""Turns performance into one HTML page that needs nothing beside it, and no script.

The markup stands in page.html; here are the numbers that fill it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.files import write_named
from featurekit.core.page import Html, Parts, base_css, joined
from featurekit.core.version import VERSION
from featurekit.monitor.performance.judge import Score
from featurekit.monitor.performance.report import Performance

_PARTS = Parts(__name__)
_LINE, _LEFT, _WIDE = 26, 240, 320
"""The height of a row of a plot, where its scale begins, and how long that is, in pixels."""
_SQUARE, _EDGE = 260, 44
"""The side of the plot of calibration, and what is left beside it."""
_LONGEST = 34


def write_page(path: Path, found: Performance) -> None:
    """Write the page of performance into a file, whole or not at all. ConfigError where it cannot
    be written."""
    write_named(path, page(found).encode(), "--html")


def page(found: Performance) -> str:
    """The page: the measures, and then what else was asked for."""
    n = len(found.worse)
    if n:
        said, kind = f"{n} worse than its threshold" if n == 1 else f"{n} worse", "bad"
    else:
        said, kind = "nothing is worse than its threshold", "good"
    facts = (
        ("rows served", f"{found.rows:,}"),
        ("rows judged", f"{found.judged:,}"),
        ("entities", f"{found.entities:,}"),
        ("wait for an outcome", f"{found.waiting:,}"),
        ("without a prediction", f"{found.bare:,}"),
    )
    sections = [one for one in _sections(found) if one[1]]
    return _PARTS.fill(
        "document",
        service=found.service,
        said=said,
        kind=kind,
        css=Html(base_css() + _PARTS.asset("page.css")),
        start=_at(found.start),
        end=_at(found.end),
        version=VERSION,
        facts=joined(_PARTS.fill("fact", name=name, value=value) for name, value in facts),
        sections=joined(
            _PARTS.fill("section", number=number, title=title, inside=inside)
            for number, (title, inside) in enumerate(sections, start=1)
        ),
    )


def _sections(found: Performance) -> Iterator[tuple[str, Html]]:
    worse = joined(_PARTS.fill("note", text=f"Worse: {one}.") for one in found.worse)
    yield "Measures", Html(worse + _measures("all rows", found.scores))
    yield "Calibration", _calibration(found)
    yield "Classes", _classes(found)
    for name in dict.fromkeys(one.by for one in found.slices):
        yield f"By {name}", _slices(found, name)
    yield "Fairness between slices", _fairness(found)
    yield "Beside the reference", _changes(found)


# --- plots ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A figure in a plot: its name, value, interval and threshold."""

    name: str
    value: float
    low: float | None
    high: float | None
    limit: float | None = None


def _plot(name: str, rows: Sequence[_Row]) -> Html:
    """Figures below each other on one scale."""
    if not rows:
        return Html()
    ends = [one for r in rows for one in (r.value, r.low, r.high, r.limit) if one is not None]
    least, most = min(*ends, 0.0), max(ends)
    wide = (most - least) or 1.0

    def at(value: float) -> float:
        return round(_LEFT + (value - least) / wide * _WIDE, 1)

    made = []
    for i, row in enumerate(rows):
        y, marks = i * _LINE + _LINE // 2, []
        if row.low is not None and row.high is not None:
            marks.append(_PARTS.fill("whisker", low=at(row.low), high=at(row.high), y=y))
        if row.limit is not None:
            marks.append(_PARTS.fill("limit", x=at(row.limit), above=y - 10, below=y + 10))
        marks.append(_PARTS.fill("dot", x=at(row.value), y=y))
        made.append(
            _PARTS.fill(
                "row",
                name=_short(row.name),
                text=y + 4,
                marks=joined(marks),
                end=_LEFT + _WIDE + 12,
                value=_number(row.value),
            )
        )
    told = "; ".join(_told(row) for row in rows)
    return _PARTS.fill(
        "plot", name=name, told=told, width=_LEFT + _WIDE + 80, height=len(rows) * _LINE,
        marks=joined(made),
    )  # fmt: skip


def _told(row: _Row) -> str:
    between = "" if row.low is None else f", from {_number(row.low)} to {_number(row.high)}"
    return f"{row.name}: {_number(row.value)}{between}"


def _rows_of(named: Iterable[tuple[str, Score]]) -> list[_Row]:
    return [
        _Row(name, s.value, s.low, s.high, s.threshold) for name, s in named if s.value is not None
    ]


def _calibration(found: Performance) -> Html:
    """How often what was predicted came true, beside the line on which both are one."""
    if not found.calibration:
        return Html()
    low, high = _EDGE, _EDGE + _SQUARE
    marks = [_PARTS.fill("even", x1=low, y1=high - 30, x2=high, y2=low - 30)]
    for text, x, y, anchor in (
        ("0", low, high - 12, "middle"), ("1", high, high - 12, "middle"),
        ("predicted", (low + high) / 2, high - 12, "middle"),
        ("1", low - 10, low - 26, "end"), ("came", low - 8, (low + high) / 2 - 30, "end"),
    ):  # fmt: skip
        marks.append(_PARTS.fill("label", x=x, y=y, anchor=anchor, text=text))
    for one in found.calibration:
        x, y = low + one.predicted * _SQUARE, high - 30 - one.came * _SQUARE
        marks.append(_PARTS.fill("dot", x=round(x, 1), y=round(y, 1)))
    told = "; ".join(
        f"of {b.rows} rows with a mean prediction of {b.predicted:.1%} {b.came:.1%} came true"
        for b in found.calibration
    )
    plot = _PARTS.fill(
        "plot", name="calibration", told=told, width=high + 20, height=high, marks=joined(marks)
    )
    rows = [(str(b.rows), [_number(b.predicted), _number(b.came)]) for b in found.calibration]
    return Html(plot + _table("calibration", ("rows", "predicted", "came true"), rows))


# --- tables ---------------------------------------------------------------------------------------


def _table(
    name: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], *, words: int = 0
) -> Html:
    """A table, of which the last `words` columns are words and not numbers."""
    first = len(heads) - words

    def kind(place: int) -> str:
        return "number" if 0 < place < first else ""

    return _PARTS.fill(
        "table",
        name=name,
        heads=joined(_PARTS.fill("head", kind=kind(i), name=head) for i, head in enumerate(heads)),
        rows=joined(
            _PARTS.fill(
                "line",
                name=title,
                cells=joined(
                    _PARTS.fill("cell", kind=kind(i), value=cell)
                    for i, cell in enumerate(cells, start=1)
                ),
            )
            for title, cells in rows
        ),
    )


def _measures(name: str, scores: Sequence[Score]) -> Html:
    plot = _plot(f"the measures of {name}", _rows_of((s.measure, s) for s in scores))
    rows = [
        (s.measure, [*map(_number, (s.value, s.low, s.high, s.threshold)), s.verdict])
        for s in scores
    ]
    heads = ("measure", "value", "from", "to", "threshold", "verdict")
    return Html(plot + _table(name, heads, rows, words=1))


def _classes(found: Performance) -> Html:
    if not found.classes:
        return Html()
    rows = [
        (c.name, [f"{c.rows:,}", *map(_number, (c.precision, c.recall, c.f1, c.auc))])
        for c in found.classes
    ]
    return _table("classes", ("class", "rows", "precision", "recall", "f1", "auc"), rows)


def _slices(found: Performance, name: str) -> Html:
    """A plot for each measure, so that slices stand below each other, and one table."""
    slices = [one for one in found.slices if one.by == name]
    made = []
    for place, measure in enumerate(slices[0].scores):
        rows = _rows_of((one.value, one.scores[place]) for one in slices)
        if rows:
            made.append(_PARTS.fill("part", title=measure.measure))
            made.append(_plot(f"{measure.measure} by {name}", rows))
    heads = ("slice", "rows", "entities", *(s.measure for s in slices[0].scores), "verdict")
    lines = [
        (
            one.value,
            [f"{one.rows:,}", f"{one.entities:,}", *(_number(s.value) for s in one.scores),
             "worse" if one.worse else _few(one.scores)],
        )
        for one in slices
    ]  # fmt: skip
    return Html(joined(made) + _table(f"slices by {name}", heads, lines, words=1))


def _few(scores: Sequence[Score]) -> str:
    few = any(s.verdict == "too few" for s in scores) or all(s.low is None for s in scores)
    return "too few rows to tell" if few else ""


def _fairness(found: Performance) -> Html:
    if not found.fairness:
        return Html()
    rows = [
        _Row(f"{f.measure.replace('_', ' ')}", f.value, f.low, f.high, f.threshold)
        for f in found.fairness
        if f.value is not None
    ]
    heads = ("measure", "value", "from", "to", "threshold", "by", "least", "most", "verdict")
    lines = [
        (
            f.measure,
            [*map(_number, (f.value, f.low, f.high, f.threshold)), f.by, f.least, f.most,
             f.verdict],
        )
        for f in found.fairness
    ]  # fmt: skip
    left = {f.by: f.left_out for f in found.fairness if f.left_out}
    notes = joined(
        _PARTS.fill("note", text=f"Too few entities to compare, by {by}: {', '.join(names)}.")
        for by, names in left.items()
    )
    return Html(_plot("fairness", rows) + notes + _table("fairness", heads, lines, words=4))


def _changes(found: Performance) -> Html:
    if not found.changes:
        return Html()
    rows = [
        _Row(f"change of {c.measure}", c.change, c.low, c.high)
        for c in found.changes
        if c.change is not None
    ]
    heads = ("measure", "was", "now", "change", "from", "to", "threshold", "by chance", "verdict")
    lines = [
        (
            c.measure,
            [*map(_number, (c.was, c.now, c.change, c.low, c.high, c.threshold, c.chance)),
             c.verdict],
        )
        for c in found.changes
    ]  # fmt: skip
    note = _PARTS.fill("note", text=f"{found.reference_rows:,} judged rows of {found.reference}.")
    return Html(note + _plot("changes", rows) + _table("changes", heads, lines, words=1))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _at(at: object) -> str:
    return f"{at}".partition("+00:00")[0].partition(".")[0]
