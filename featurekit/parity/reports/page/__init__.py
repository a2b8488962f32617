"""Turns a parity check into one HTML page that needs nothing beside it, and no script to be read.

`page(reports)` takes what `Report.to_dict` gives, `operators_page` what `OperatorsReport` does. The
markup stands in page.html; here are the numbers that fill it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

from featurekit.core.files import write_named
from featurekit.core.version import VERSION
from featurekit.parity.reports.page.operators import operators_section
from featurekit.parity.reports.page.service import service_section
from featurekit.parity.reports.page.template import Html, asset, css, fill, joined
from featurekit.parity.reports.page.verdict import Counts, Verdict, verdict, verdict_of


def page(reports: Sequence[Counts], *, made_at: dt.datetime) -> str:
    """The page of some services' reports."""
    compared = sum(r["compared"] for r in reports)
    differing = sum(r["differing"] for r in reports)
    lagging = sum(r.get("lagging", 0) for r in reports)
    facts = [
        ("values compared", f"{compared:,}"),
        ("differ", f"{differing:,}"),
        *([("lagging", f"{lagging:,}")] if lagging else []),
        ("entity rows", f"{sum(r['rows'] for r in reports):,}"),
        ("took", f"{sum(r['seconds'] for r in reports):.1f} s"),
        ("mode", ", ".join(dict.fromkeys(r["mode"] for r in reports))),
        ("seed", ", ".join(dict.fromkeys(str(r["seed"]) for r in reports))),
    ]
    return _document(
        verdict(compared, differing, lagging),
        "Online and offline values are compared by type, bits and status.",
        facts,
        _contents(reports) if len(reports) > 1 else Html(),
        joined(service_section(r, number) for number, r in enumerate(reports)),
        made_at=made_at,
    )


def operators_page(found: Counts, *, made_at: dt.datetime) -> str:
    """The page of what `OperatorsReport.to_dict` gives."""
    rows = {**found["operators"], **found["aggregates"]}
    lies = sum(not row["truthful"] for row in rows.values())
    told = verdict(found["compared"], found["differing"], 0)
    if lies and told.kind == "good":
        told = Verdict("bad", f"{lies} raise and say that they do not")
    facts = [
        ("inputs compared", f"{found['compared']:,}"),
        ("differ", f"{found['differing']:,}"),
        ("operators", f"{len(found['operators']):,}"),
        ("aggregates", f"{len(found['aggregates']):,}"),
        ("took", f"{found['seconds']:.1f} s"),
        ("mode", found["mode"]),
        ("seed", str(found["seed"])),
    ]
    return _document(
        told,
        "Python, SQL and the online evaluator are compared by type and bits, errors included.",
        facts,
        Html(),
        operators_section(found, rows),
        made_at=made_at,
    )


def write_page(path: Path, reports: Iterable[Counts]) -> None:
    """Write the page of some reports into a file, whole or not at all. ConfigError where it cannot
    be written."""
    text = page(list(reports), made_at=dt.datetime.now(dt.UTC))
    write_named(path, text.encode(), "--html")


def write_operators_page(path: Path, found: Counts) -> None:
    """As `write_page`, of the operator table."""
    text = operators_page(found, made_at=dt.datetime.now(dt.UTC))
    write_named(path, text.encode(), "--html")


def _document(
    told: Verdict,
    how: str,
    facts: Sequence[tuple[str, str]],
    contents: Html,
    sections: Html,
    *,
    made_at: dt.datetime,
) -> str:
    return fill(
        "document",
        kind=told.kind,
        said=told.said,
        iso=made_at.isoformat(),
        when=made_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        version=VERSION,
        told=how,
        facts=joined(fill("fact", name=name, value=value) for name, value in facts),
        contents=contents,
        sections=sections,
        css=css(),
        js=asset("page.js"),
    )


def _contents(reports: Sequence[Counts]) -> Html:
    links = []
    for number, report in enumerate(reports):
        told = verdict_of(report)
        links.append(
            fill("link", number=number, service=report["service"], kind=told.kind, said=told.said)
        )
    return fill("contents", links=joined(links))
