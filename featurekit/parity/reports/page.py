"""A parity check as one HTML page that needs nothing beside it: no script is required to read it.

`page(reports)` takes what `Report.to_dict` gives, `operators_page` what `OperatorsReport` does.
"""

from __future__ import annotations

import datetime as dt
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from featurekit.core.files import write_named
from featurekit.core.version import VERSION

Found = Mapping[str, Any]

_SHARES = {
    "PRESENT": ("present", "a value"),
    "NULL_VALUE": ("null", "None"),
    "NOT_FOUND": ("unknown", "no such entity"),
    "OUTSIDE_MAX_AGE": ("stale", "older than its ttl"),
    "ERROR": ("error", "its function erred"),
}
_PATHS = ("python", "online", "offline")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 260, 64, 34, 16
_OTHER_BAND = 30  # above the axis, for differences that are not between two finite floats


def page(reports: Sequence[Found], *, made_at: dt.datetime) -> str:
    """The page of some services' reports."""
    compared = sum(r["compared"] for r in reports)
    differing = sum(r["differing"] for r in reports)
    lagging = sum(r.get("lagging", 0) for r in reports)
    verdict, said = _verdict(compared, differing, lagging)
    modes = ", ".join(dict.fromkeys(r["mode"] for r in reports))
    facts = [
        ("values compared", f"{compared:,}"),
        ("differ", f"{differing:,}"),
        *([("lagging", f"{lagging:,}")] if lagging else []),
        ("entity rows", f"{sum(r['rows'] for r in reports):,}"),
        ("took", f"{sum(r['seconds'] for r in reports):.1f} s"),
        ("mode", modes),
        ("seed", ", ".join(dict.fromkeys(str(r["seed"]) for r in reports))),
    ]
    return _document(
        (verdict, said),
        "Online and offline values are compared by type, bits and status.",
        facts,
        _contents(reports) if len(reports) > 1 else "",
        [_service(r, number) for number, r in enumerate(reports)],
        made_at=made_at,
    )


def operators_page(found: Found, *, made_at: dt.datetime) -> str:
    """The page of what `OperatorsReport.to_dict` gives."""
    rows = {**found["operators"], **found["aggregates"]}
    lies = sum(not row["truthful"] for row in rows.values())
    verdict, said = _verdict(found["compared"], found["differing"], 0)
    if lies and verdict == "good":
        verdict, said = "bad", f"{lies} raise and say that they do not"
    facts = [
        ("inputs compared", f"{found['compared']:,}"),
        ("differ", f"{found['differing']:,}"),
        ("operators", f"{len(found['operators']):,}"),
        ("aggregates", f"{len(found['aggregates']):,}"),
        ("took", f"{found['seconds']:.1f} s"),
        ("mode", found["mode"]),
        ("seed", str(found["seed"])),
    ]
    table = (
        "<table><thead><tr><th scope='col'>operator</th><th scope='col'>result</th>"
        "<th scope='col' class='number'>inputs</th><th scope='col' class='number'>differ</th>"
        "<th scope='col' class='number'>errors</th>"
        "<th scope='col' class='number'>runs offline as</th></tr>"
        f"</thead><tbody>{''.join(_operator(n, row) for n, row in rows.items())}</tbody></table>"
    )
    section = (
        "<section aria-labelledby='operators'><h2 id='operators'>The operator table</h2>"
        f"{_scroll('Operators', table)}{_inputs(found)}</section>"
    )
    told = "Python, SQL and the online evaluator are compared by type and bits, errors included."
    return _document((verdict, said), told, facts, "", [section], made_at=made_at)


def _operator(name: str, row: Found) -> str:
    verdict, said = _verdict(row["inputs"], row["differing"], 0)
    if verdict == "good" and not row["truthful"]:
        verdict, said = "bad", "raises, and its row says that it does not"
    return (
        f"<tr class='{'bad' if verdict == 'bad' else 'same'}'><th scope='row'>{_text(name)}</th>"
        f"<td><span class='badge {verdict}'>{said}</span></td>"
        + "".join(
            f"<td class='number' data-name='{kind}'>{row[of]:,}</td>"
            for kind, of in (("inputs", "inputs"), ("differ", "differing"), ("errors", "errors"))
        )
        + f"<td class='number' data-name='runs offline as'>{_text(row['runs_as'])}</td></tr>"
    )


def _inputs(found: Found) -> str:
    """Some of the inputs on which the three do not agree."""
    rows = "".join(
        f"<tr><th scope='row'>{_text(d['operator'])}</th><td>{_text(', '.join(d['arguments']))}"
        "</td>" + "".join(f"<td><code>{_text(d[path])}</code></td>" for path in _PATHS) + "</tr>"
        for d in found["differences"]
    )
    if not rows:
        return ""
    heads = ("operator", "arguments", *_PATHS)
    head = "".join(f"<th scope='col'>{name}</th>" for name in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<h3>Differences</h3>{_scroll('Differences', table)}"


def _document(
    verdict: tuple[str, str],
    told: str,
    facts: Sequence[tuple[str, str]],
    contents: str,
    sections: Sequence[str],
    *,
    made_at: dt.datetime,
) -> str:
    kind, said = verdict
    body = [
        f'<header><h1>Parity <span class="badge {kind}">{said}</span></h1>',
        f"<p>{_when(made_at)}, featurekit {_text(VERSION)}. {told}</p>",
        "<dl class='facts'>",
        *(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts),
        f"</dl>{contents}</header><main id='main'>",
        *sections,
        "</main>",
    ]
    parts = resources.files("featurekit.parity.reports")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>Parity: {said}</title>"
        f"<style>{parts.joinpath('page.css').read_text(encoding='utf-8')}</style></head>"
        "<body><a class='skip' href='#main'>Skip to the results</a>"
        f"{''.join(body)}"
        f"<script>{parts.joinpath('page.js').read_text(encoding='utf-8')}</script></body></html>\n"
    )


def _verdict(compared: int, differing: int, lagging: int) -> tuple[str, str]:
    if differing:
        return "bad", f"{differing:,} differ"
    if not compared:
        return "none", "nothing compared"
    return ("late", f"{lagging:,} lag behind") if lagging else ("good", "every bit agrees")


def _contents(reports: Sequence[Found]) -> str:
    links = (
        f"<li><a href='#service-{n}'>{_text(r['service'])}</a> "
        f"<span class='badge {_of(r)[0]}'>{_of(r)[1]}</span></li>"
        for n, r in enumerate(reports)
    )
    return f"<nav aria-label='Services'><ul>{''.join(links)}</ul></nav>"


def _of(found: Found) -> tuple[str, str]:
    return _verdict(found["compared"], found["differing"], found.get("lagging", 0))


# --- a service ------------------------------------------------------------------------------------


def _service(report: Found, number: int) -> str:
    verdict, said = _of(report)
    name = _text(report["service"])
    features = report["features"]
    used = {s for f in features.values() for s in f["statuses"]}
    legend = "".join(
        f"<li><span class='swatch {_SHARES[s][0]}'></span>{_SHARES[s][0]}: {_SHARES[s][1]}</li>"
        for s in _SHARES
        if s in used
    )
    filtered = ""
    if any(f["differing"] for f in features.values()) and len(features) > 1:
        filtered = "<label class='only'><input type='checkbox'> only features that differ</label>"
    rows = "".join(_feature(n, f) for n, f in features.items())
    return (
        f"<section id='service-{number}' aria-labelledby='name-{number}'>"
        f"<h2 id='name-{number}'>{name} <span class='badge {verdict}'>{said}</span></h2>"
        f"{filtered}<ul class='legend' aria-label='What the bars show'>{legend}</ul>"
        f"<div class='scroll' tabindex='0' role='group' aria-label='Features of {name}'><table>"
        "<thead><tr><th scope='col'>feature</th><th scope='col'>result</th>"
        "<th scope='col' class='number'>compared</th><th scope='col' class='number'>differ</th>"
        "<th scope='col' class='number'>null</th><th scope='col' class='number'>stale</th>"
        f"<th scope='col'>values</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_plot(report)}{_differences(report)}</section>"
    )


def _feature(name: str, found: Found) -> str:
    verdict, said = _verdict(found["compared"], found["differing"], found.get("lagging", 0))
    total = sum(found["statuses"].values())
    shares = {
        s: found["statuses"][s] / total for s in _SHARES if total and found["statuses"].get(s)
    }
    bar = "".join(
        f"<span class='{_SHARES[s][0]}' style='width:{100 * share:.3f}%'></span>"
        for s, share in shares.items()
    )
    told = ", ".join(f"{_SHARES[s][0]} {_percent(share)}" for s, share in shares.items())
    kind = "bad" if found["differing"] else "same"
    return (
        f"<tr class='{kind}'><th scope='row'>{_text(name)}</th>"
        f"<td><span class='badge {verdict}'>{said}</span></td>"
        f"<td class='number' data-name='compared'>{found['compared']:,}</td>"
        f"<td class='number' data-name='differ'>{found['differing']:,}</td>"
        f"<td class='number' data-name='null'>{_percent(shares.get('NULL_VALUE', 0.0))}</td>"
        f"<td class='number' data-name='stale'>{_percent(shares.get('OUTSIDE_MAX_AGE', 0.0))}</td>"
        f"<td><div class='bar' role='img' aria-label='{told or 'nothing'}' title='{told}'>{bar}"
        "</div></td></tr>"
    )


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1 %".replace("<", "&lt;")
    return f"{100 * share:.1f} %"


# --- the plot -------------------------------------------------------------------------------------


def _plot(report: Found) -> str:
    """Differences by the instant asked about and by how many doubles they are apart."""
    points = report.get("points", [])
    if not points:
        return ""
    times = [dt.datetime.fromisoformat(p["as_of"]).timestamp() for p in points]
    low, high = min(times), max(times)
    most = max((p["ulps"] or 1 for p in points), default=1)
    decades = max(1, math.ceil(math.log10(most + 1)))
    floor = _HEIGHT - _BOTTOM
    top = _TOP + _OTHER_BAND

    def x(t: float) -> float:
        share = 0.5 if high == low else (t - low) / (high - low)
        return _LEFT + 8 + share * (_WIDTH - _LEFT - 24)

    def y(ulps: int | None) -> float:
        if ulps is None:
            return _TOP + 6
        return floor - (floor - top) * math.log10(max(ulps, 1)) / decades

    names = list(dict.fromkeys(p["feature"] for p in points))
    marks = "".join(
        f"<g class='series s{names.index(p['feature']) % 6}' "
        f"transform='translate({x(t):.1f} {y(p['ulps']):.1f})'>"
        f"<title>{_text(p['feature'])} as of {_text(p['as_of'])}: {_apart(p['ulps'])}</title>"
        f"<use href='#mark{names.index(p['feature']) % 6}'/></g>"
        for p, t in zip(points, times, strict=True)
    )
    step = max(1, math.ceil(decades / 5))
    lines = "".join(
        f"<path class='grid' d='M{_LEFT} {y(10**d):.1f}H{_WIDTH - 8}'/>"
        f"<text x='{_LEFT - 8}' y='{y(10**d) + 4:.1f}' text-anchor='end'>{_power(d)}</text>"
        for d in range(0, decades + 1, step)
    )
    keys = "".join(
        f"<li><svg class='series s{i % 6}' width='14' height='14' viewBox='-7 -7 14 14' "
        f"aria-hidden='true'><use href='#mark{i % 6}'/></svg> {_text(n)}</li>"
        for i, n in enumerate(names)
    )
    of = _text(report["service"])
    told = f"{len(points):,} differences of {len(names)} features, from {_day(low)} to {_day(high)}"
    return (
        f"<figure><figcaption>Differences in ulps, by the instant asked about</figcaption>{_MARKS}"
        f"<div class='scroll' tabindex='0' role='group' aria-label='Plot of {of}'>"
        f"<svg class='plot' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='{told}'>"
        f"<rect class='other' x='{_LEFT}' y='{_TOP - 8}' width='{_WIDTH - _LEFT - 8}' height='28'/>"
        f"<text x='{_LEFT - 8}' y='{_TOP + 10}' text-anchor='end'>other</text>{lines}{marks}"
        f"<text x='{_LEFT}' y='{_HEIGHT - 8}'>{_day(low)}</text>"
        f"<text x='{_WIDTH - 8}' y='{_HEIGHT - 8}' text-anchor='end'>{_day(high)}</text>"
        "</svg></div>"
        f"<ul class='legend'>{keys}</ul><p class='note'>An ulp is the step from one double to the "
        "next. Other: a value of another type, a None, a text, or another status.</p></figure>"
    )


_SHAPES = (
    "<circle r='4'/>",
    "<rect x='-4' y='-4' width='8' height='8'/>",
    "<path d='M0-5 5 4-5 4Z'/>",
    "<path d='M0-5 5 0 0 5-5 0Z'/>",
    "<path d='M0 5 5-4-5-4Z'/>",
    "<path d='M-4-4 4 4M4-4-4 4' fill='none' stroke-width='2.5'/>",
)
_MARKS = (
    "<svg width='0' height='0' aria-hidden='true' class='marks'><defs>"
    + "".join(f"<g id='mark{i}'>{shape}</g>" for i, shape in enumerate(_SHAPES))
    + "</defs></svg>"
)


def _apart(ulps: int | None) -> str:
    return "not between two finite floats" if ulps is None else f"{ulps:,} ulps apart"


def _power(exponent: int) -> str:
    return "1" if exponent == 0 else f"10<tspan dy='-5' font-size='9'>{exponent}</tspan>"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")


# --- differences ----------------------------------------------------------------------------------


def _differences(report: Found) -> str:
    found = report["differences"]
    if not found:
        return ""
    # What was diagnosed stands first, and open.
    ranked = sorted(found, key=lambda d: d.get("diagnosis") is None)
    more = report["differing"] - len(found)
    note = f"<p class='note'>and {more:,} more, not shown</p>" if more > 0 else ""
    shown = "".join(_difference(d, opened=i == 0) for i, d in enumerate(ranked))
    return f"<h3>Differences</h3>{shown}{note}"


def _difference(found: Found, *, opened: bool) -> str:
    diagnosis = found.get("diagnosis")
    cause = f" <span class='cause'>{_text(diagnosis['cause'])}</span>" if diagnosis else ""
    row = ", ".join(f"{_text(k)} = {_text(v)}" for k, v in found["row"].items())
    pair = "".join(
        f"<tr><th scope='row'>{path}</th><td><code>{_text(found[path]['value'])}</code></td>"
        f"<td>{_text(found[path]['status'])}</td></tr>"
        for path in ("offline", "online")
    )
    return (
        f"<details{' open' if opened else ''}><summary><b>{_text(found['feature'])}</b> as of "
        f"{_text(found['as_of'])}{cause}</summary><div class='inside'><p>{row}</p>"
        f"{_scroll('The two values', f'<table class=pair><tbody>{pair}</tbody></table>')}"
        f"{_diagnosis(diagnosis) if diagnosis else ''}</div></details>"
    )


def _diagnosis(found: Found) -> str:
    apart = "" if found.get("ulps") is None else f" The values are {found['ulps']:,} ulps apart."
    case = _text(found["case"])
    evidence = "".join(f"<li>{_text(e)}</li>" for e in found.get("evidence", ()))
    events = found["events"]
    columns = list(dict.fromkeys(c for e in events for c in e))
    head = "".join(f"<th scope='col'>{_text(c)}</th>" for c in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_text(e.get(c, ''))}</td>" for c in columns) + "</tr>"
        for e in events
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f"<h4>Likely cause: {_text(found['cause'])}</h4><p>{_text(found['meaning'])}.{apart}</p>"
        f"<p>The paths part at: {_text(found['where'])}</p><ul>{evidence}</ul>"
        f"<h4>Events{' that are enough to see it' if case else ''}, as of "
        f"{_text(found['as_of'])}</h4>{_scroll('Events', table) if events else '<p>None.</p>'}"
        f"{_case(case) if case else ''}"
    )


def _case(text: str) -> str:
    return (
        "<h4>As a test</h4><button type='button' class='copy' aria-live='polite'>Copy</button>"
        f"{_scroll('A pytest case', f'<pre><code>{text}</code></pre>')}"
    )


def _scroll(label: str, inside: str) -> str:
    return f"<div class='scroll' tabindex='0' role='group' aria-label='{label}'>{inside}</div>"


def _text(value: Any) -> str:
    return html.escape(str(value))


def _when(at: dt.datetime) -> str:
    shown = at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"<time datetime='{at.isoformat()}'>{shown}</time>"


def write_page(path: Path, reports: Iterable[Found]) -> None:
    """Write the page of some reports into a file, whole or not at all. ConfigError where it cannot
    be written."""
    text = page(list(reports), made_at=dt.datetime.now(dt.UTC))
    write_named(path, text.encode(), "--html")


def write_operators_page(path: Path, found: Found) -> None:
    """As `write_page`, of the operator table."""
    text = operators_page(found, made_at=dt.datetime.now(dt.UTC))
    write_named(path, text.encode(), "--html")
