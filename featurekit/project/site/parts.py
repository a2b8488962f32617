"""The pieces that pages of the catalogue are made of: facts, tables, sections, links and plots."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from featurekit.core.page import Html, Parts, joined
from featurekit.define.deprecated import Deprecation
from featurekit.project.site.profiles import Looked, Profile

_parts = Parts("featurekit.project.site")
fill, asset = _parts.fill, _parts.asset
Cell = object
"""What stands in a table: HTML, or anything that is shown as text; None is a dash."""

_SHARES = {
    "PRESENT": ("present", "a value"),
    "NULL_VALUE": ("null", "None"),
    "NOT_FOUND": ("unknown", "no such entity"),
    "OUTSIDE_MAX_AGE": ("stale", "older than its ttl"),
    "ERROR": ("error", "its function erred"),
}
_GOOD = {"live", "filled", "applied"}
_HEIGHT, _WIDTH = 84, 480


def link(to: str, name: str) -> Html:
    """A link to another page."""
    return fill("link", to=to, name=name)


def code(text: object) -> Html:
    """A name or a short text of a program."""
    return fill("code", text=text)


def several(parts: Iterable[Html | str]) -> Html | None:
    """Some things in a row; None where there are none."""
    shown = [p if isinstance(p, Html) else fill_text(p) for p in parts]
    return Html(", ".join(shown)) if shown else None


def fill_text(text: str) -> Html:
    """A text as HTML."""
    from featurekit.core.page import escaped

    return Html(escaped(text))


def state_badge(state: str | None) -> Html:
    """How a definition stands."""
    if state is None:
        return Html()
    return fill("badge", kind="good" if state in _GOOD else "late", said=state)


def deprecated_badge(found: Deprecation | None) -> Html:
    """That a definition is to be given up, or should have been."""
    if found is None:
        return Html()
    over = found.overdue()
    said = "deprecated, its last day is over" if over else "deprecated"
    return joined([Html(" "), fill("badge", kind="bad" if over else "late", said=said)])


def deprecated_text(found: Deprecation | None) -> str | None:
    """Until when a definition is kept, what takes its place, and why."""
    return None if found is None else found.text.partition(": ")[2]


def facts(found: Mapping[str, Cell]) -> Html:
    """Names and what they are; what is None or empty is left out."""
    return joined(
        fill("fact", name=name, value=value)
        for name, value in found.items()
        if value is not None and value != ""
    )


def section(title: str, *inside: Html | None) -> Html:
    """A part of a page with its heading; nothing where it would be empty."""
    there = [part for part in inside if part]
    id_ = title.lower().replace(" ", "-")
    return fill("section", id=id_, title=title, inside=joined(there)) if there else Html()


def table(
    label: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    anchors: Sequence[str] = (),
) -> Html | None:
    """A table that scrolls by itself; None without rows. `anchors` are the ids of its rows."""
    made = []
    for number, (first, *others) in enumerate(rows):
        cells = fill("first", value=_shown(first))
        named = zip(heads[1:], others, strict=True)
        cells = joined([cells, *(fill("cell", name=n, value=_shown(v)) for n, v in named)])
        anchor = Html(f" id='{fill_text(anchors[number])}'") if anchors else Html()
        made.append(fill("row", anchor=anchor, cells=cells))
    if not made:
        return None
    whole = fill("table", heads=joined(fill("head", name=h) for h in heads), rows=joined(made))
    return fill("scroll", label=label, inside=whole)


def _shown(value: Cell) -> object:
    return "–" if value is None else value


def program(title: str, text: str, *, opened: bool = False) -> Html:
    """The text of a program, which is open or opens by a click."""
    inside = fill("pre", text=text)
    return fill("program", opened=Html(" open") if opened else Html(), title=title, text=inside)


def instant_text(at: dt.datetime | str | None) -> str | None:
    """An instant to the second, in UTC."""
    if at is None:
        return None
    made = dt.datetime.fromisoformat(at) if isinstance(at, str) else at
    return made.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- values ---------------------------------------------------------------------------------------


def values_section(looked: Looked | None, name: str) -> Html:
    """How the values of a feature are spread; nothing where the data were not asked for."""
    if looked is None:
        return Html()
    profile = looked.profiles.get(name)
    if profile is None:
        return section("Values", fill("note", text=f"{looked.why_not or 'Not looked at'}."))
    said = (
        f"Of {profile.rows:,} entities as of {instant_text(looked.as_of)}: "
        f"{share_text(profile.nulls, profile.rows)} None"
    )
    if profile.distinct is not None:
        said += f", {profile.distinct:,} different values"
    said += "".join(f", {count:,} {what}" for what, count in profile.special.items())
    return section(
        "Values", fill("text", text=f"{said}."), _statuses(profile), _plot(profile), _top(profile)
    )


def share_text(part: int, whole: int) -> str:
    """A share in per cent."""
    share = part / whole if whole else 0.0
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _statuses(profile: Profile) -> Html:
    found = {s: n for s, n in profile.statuses.items() if n and s in _SHARES}
    x, bars, keys, label = 0.0, [], [], []
    for status in _SHARES:
        if status not in found:
            continue
        kind, meaning = _SHARES[status]
        width = 100 * found[status] / profile.rows
        bars.append(fill("share-bar", kind=kind, x=f"{x:.2f}", width=f"{width:.2f}"))
        text = f"{meaning} {share_text(found[status], profile.rows)}"
        keys.append(fill("share-key", kind=kind, text=text))
        label.append(text)
        x += width
    return fill("shares", label=", ".join(label), bars=joined(bars), legend=joined(keys))


def _plot(profile: Profile) -> Html | None:
    """The histogram of numbers, or of the lengths of lists."""
    if not profile.bins:
        return None
    most = max(count for *_, count in profile.bins)
    step = _WIDTH / len(profile.bins)
    bars = []
    for i, (low, high, count) in enumerate(profile.bins):
        height = 0.0 if not count else max(1.0, _HEIGHT * count / most)
        title = f"{count:,} from {number(low)} to {number(high)}"
        place = {"x": f"{i * step + 1:.1f}", "y": f"{89 - height:.1f}"}
        size = {"width": f"{max(step - 2, 1):.1f}", "height": f"{height:.1f}"}
        bars.append(fill("plot-bar", title=title, **place, **size))
    least, quarter, middle, most_of, largest = map(number, profile.quantiles)
    what = "" if profile.distinct is not None else "lengths "
    label = (
        f"{what}from {least} to {largest}, a quarter up to {quarter}, half up to {middle}, three "
        f"quarters up to {most_of}"
    )
    text = fill("note", text=f"{label[0].upper()}{label[1:]}.")
    return joined([fill("plot", label=label, bars=joined(bars), low=least, high=largest), text])


def _top(profile: Profile) -> Html | None:
    """The most frequent values."""
    if not profile.top:
        return None
    there = profile.rows - profile.nulls
    most = profile.top[0][1]
    rows = joined(
        fill(
            "top-row",
            value=value if value else "the empty text",
            width=f"{100 * count / most:.1f}",
            share=share_text(count, there),
        )
        for value, count in profile.top
    )
    return fill("top", rows=rows)


def number(value: float) -> str:
    """A number in a few digits."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e3 <= abs(value) < 1e12:
        return f"{value:,.1f}"
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e3 else f"{value:.3e}"
