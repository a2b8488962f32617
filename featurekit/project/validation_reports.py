"""Turns a validation into files: JUnit XML, which CI systems show, and HTML for people."""

from __future__ import annotations

import html
import xml.etree.ElementTree as ET
from pathlib import Path

from featurekit.core import junit
from featurekit.core.files import write_named
from featurekit.offline.contract import Outcome
from featurekit.project.contracts import Judged, Validation

_CSS = """
:root { color-scheme: light dark; --good: #1a7f37; --bad: #b3261e; --some: #8a5a00;
  --line: #8884; --soft: #8881; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 16px; max-width: 1100px;
  color: light-dark(#1c1c1e, #e8e8ea); background: light-dark(#fff, #161618); }
@media (prefers-color-scheme: dark) { :root { --good: #5bd27a; --bad: #ff8a80; --some: #f0b95a; } }
h1 { font-size: 1.5rem; margin: 0 0 4px; } h2 { font-size: 1.15rem; margin: 28px 0 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; background: var(--soft); }
code { font: 0.92em ui-monospace, monospace; }
.held { color: var(--good); } .fail { color: var(--bad); }
.warn, .quarantine { color: var(--some); }
.said { font-weight: 600; white-space: nowrap; }
@media (max-width: 640px) {
  thead { position: absolute; clip-path: inset(50%); }
  tr { display: block; padding: 8px 0; border-bottom: 1px solid var(--line); }
  td { display: block; border: 0; padding: 2px 0; }
}
"""


def write_junit(path: Path, found: Validation) -> None:
    """Write a suite for each source, in it a case for each rule. A broken rule of severity "fail"
    is a failure; what another one found is the output of its case. ConfigError where the file
    cannot be written."""
    suites = [_suite(judged) for judged in found.sources]
    junit.write_junit(path, "featurekit validate", suites, found.seconds)


def _suite(judged: Judged) -> ET.Element:
    name = f"contract.{judged.source}"
    suite = ET.Element("testsuite", name=name)
    for outcome in judged.outcomes:
        case = ET.SubElement(suite, "testcase", classname=name, name=outcome.rule)
        text = f"{outcome.says}: {told(outcome)}"
        if outcome.stops:
            ET.SubElement(case, "failure", message=outcome.found, type="ContractBroken").text = text
        elif not outcome.held:
            ET.SubElement(case, "system-out").text = f"{outcome.severity}: {text}"
    return suite


def told(outcome: Outcome) -> str:
    """What was found of a rule, with a row that breaks it."""
    if not outcome.example:
        return outcome.found
    shown = ", ".join(f"{name}={value}" for name, value in outcome.example.items())
    return f"{outcome.found}, such as {shown}"


def write_html(path: Path, found: Validation) -> None:
    """Write a page with a table for each source. It has neither scripts nor anything of another
    place. ConfigError where the file cannot be written."""
    broken = sum(outcome.stops for judged in found.sources for outcome in judged.outcomes)
    rules = sum(len(judged.outcomes) for judged in found.sources)
    verdict = f"{broken} of {rules} rules stop the work" if broken else f"{rules} rules, none stops"
    body = "".join(_section(judged) for judged in found.sources)
    kind = "fail" if broken else "held"
    sources = "one source" if len(found.sources) == 1 else f"{len(found.sources)} sources"
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Contracts: {verdict}</title><style>{_CSS}</style></head><body>"
        f'<main><h1>Contracts</h1><p class="{kind}"><b>{verdict}</b> '
        f"({sources}, {found.seconds:.1f} s)</p>{body}</main></body></html>\n"
    )
    write_named(path, page.encode(errors="backslashreplace"), "--html")


def _section(judged: Judged) -> str:
    title = html.escape(judged.source)
    names = ("Verdict", "Rule", "What it says", "Found")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_row(outcome) for outcome in judged.outcomes)
    return (
        f"<section><h2>{title} <small>({judged.rows:,} rows)</small></h2>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _row(outcome: Outcome) -> str:
    kind, said = ("held", "✓ holds") if outcome.held else _SAID[outcome.severity]
    cells = (
        f'<td class="said {kind}">{said}</td>',
        f"<td><code>{html.escape(outcome.rule)}</code></td>",
        f"<td>{html.escape(outcome.says)}</td>",
        f"<td>{html.escape(told(outcome))}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


_SAID = {
    "fail": ("fail", "✗ fails"),
    "quarantine": ("quarantine", "● set aside"),
    "warn": ("warn", "● warns"),
}
