"""Results as a table on a terminal, JSON, one HTML page with charts, and the README's part."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import OURS, Curve, Result
from benchmarks.picture import amount, bars, lines

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = ("featurekit", "duckdb", "polars", "pyarrow", "redis", "feast", "numpy")
_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def table(results: Sequence[Result]) -> Table:
    """For a terminal."""
    from rich.table import Table

    made = Table("work", "size", OURS, "against", "", "ratio", "goal", "other peers")
    for r in results:
        made.add_row(*_cells(r))
    return made


def show(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the results of a benchmark that is run alone."""
    if as_json:
        print(json.dumps([r.document() for r in results], indent=2))
        return
    from rich.console import Console

    Console().print(table(results))


def curves(found: Sequence[Curve]) -> Iterable[Table]:
    """For a terminal, a table each."""
    from rich.table import Table

    for curve in found:
        made = Table(curve.x, *curve.taken, title=curve.work, title_justify="left")
        for i, x in enumerate(curve.xs):
            made.add_row(
                f"{x:,g}" if x < 1e6 else f"{x:,.0f}",
                *(amount(v[i], curve.unit) for v in curve.taken.values()),
            )
        yield made


def as_json(results: Mapping[str, Sequence[Result | Curve]], **about: Any) -> str:
    """The whole run, by benchmark."""
    document = {
        **about,
        "machine": machine(),
        "benchmarks": {name: [one.document() for one in found] for name, found in results.items()},
    }
    return json.dumps(document, indent=2) + "\n"


def page(results: Mapping[str, Sequence[Result | Curve]], command: str) -> str:
    """One HTML page that needs no other file."""
    about = ", ".join(f"{name} {value}" for name, value in machine().items() if value is not None)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>featurekit: benchmarks</title><style>"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;"
        "color:#1a1a1a;background:#fff}table{border-collapse:collapse;font-size:.85rem}"
        "td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left}"
        ".wide{overflow-x:auto}svg{max-width:100%;height:auto}.no{color:#b34700}</style>"
        f"<h1>featurekit: benchmarks</h1><p>{escape(about)}</p>"
        f"<p>Made by <code>{escape(command)}</code>. Contenders ran by turns in one run; a figure "
        "is a median.</p>"
    ]
    measured = [one for found in results.values() for one in found if isinstance(one, Result)]
    if measured:
        parts.append(bars(measured))
    for name, found in results.items():
        parts.append(f"<h2>{escape(name.replace('_', ' '))}</h2>")
        rows = [one for one in found if isinstance(one, Result)]
        if rows:
            heads = ("work", "size", OURS, "against", "", "ratio", "goal", "other peers", "note")
            parts.append(
                '<div class="wide" tabindex="0" role="region" aria-label="results"><table>'
            )
            parts.append("<tr>" + "".join(f"<th>{h}</th>" for h in heads) + "</tr>")
            for r in rows:
                style = ' class="no"' if r.met is False else ""
                cells = "".join(f"<td>{escape(c)}</td>" for c in (*_cells(r), r.note))
                parts.append(f"<tr{style}>{cells}</tr>")
            parts.append("</table></div>")
        for one in found:
            if isinstance(one, Curve):
                parts.append(
                    f"<figure>{lines(one)}<figcaption>{escape(one.note)}</figcaption></figure>"
                )
    return "".join(parts) + "</html>\n"


def markdown(results: Sequence[Result]) -> str:
    """The README's table."""
    rows = [
        "| work | size | featurekit | compared with | ratio | goal | other peers |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        work, size, ours, against, theirs, ratio, goal, others = _cells(r)
        cells = (work, size, ours, f"{against}: {theirs}", ratio, goal, others)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def into_readme(readme: Path, picture: Path, results: Sequence[Result], command: str) -> None:
    """Put table and picture where the README's marks are.

    Raises ValueError where the marks are missing.
    """
    text = readme.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{readme} has no lines {_BEGIN!r} and {_END!r} to write between")
    picture.write_text(bars(results), encoding="utf-8")
    about = machine()
    on = (
        f"{about['cores']} cores, {about['memory_gib']} GiB, Python {about['python']}, "
        + ", ".join(f"{name} {about[name]}" for name in PACKAGES[1:] if about[name])
    )
    shown = picture.relative_to(readme.parent)
    middle = (
        f"{_BEGIN}\n![Ratios of featurekit to the limit, and of peers]({shown})\n\n"
        f"`{command}` on {on}:\n\n{markdown(results)}\n{_END}"
    )
    begin, end = text.index(_BEGIN), text.index(_END) + len(_END)
    readme.write_text(text[:begin] + middle + text[end:], encoding="utf-8")


def _cells(r: Result) -> tuple[str, ...]:
    sign = "≥" if r.unit == "1/s" else "≤"
    goal = "" if r.goal is None else f"{sign} {r.goal:g} {'✓' if r.met else '✗'}"
    taken = {name: amount(value, r.unit) for name, value in r.taken.items()}
    rest = [f"{name} {v}" for name, v in taken.items() if name not in (OURS, r.against)]
    measured = (taken[OURS], r.against, taken[r.against], f"{r.ratio:.2f}")
    return (r.work, r.size, *measured, goal, ", ".join(rest))


def progress(text: str) -> None:
    """What is being measured, to the error stream, so that --json stays clean."""
    print(text, file=sys.stderr, flush=True)
