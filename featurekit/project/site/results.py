"""Turns what contracts and parity checks found last into sections of pages."""

from __future__ import annotations

import itertools

from featurekit.core.page import Html
from featurekit.define.contracts.compiled import contract_of
from featurekit.define.definitions import EventSource
from featurekit.project.contracts import OF_SCHEMA
from featurekit.project.kept_results import ParityResult, RuleResult
from featurekit.project.site.gathered import Gathered
from featurekit.project.site.parts import code, fill, instant_text, section, share_text, table


def parity_section(found: Gathered, full_name: str) -> Html:
    """What parity checks found of a feature."""
    rows = [
        (c.service, c.mode, f"{c.compared:,}", _differing(c.differing, c.compared), _when(c.at))
        for c in found.parity.get(full_name, ())
    ]
    return section("Parity", table("Parity", (*_OF_PARITY, "checked"), rows))


_OF_PARITY = ("service", "mode", "compared", "differ")


def _differing(some: int, of: int) -> str:
    return f"{some:,} ({share_text(some, of)})" if some else "none"


def _when(at: str | None) -> str:
    return instant_text(at) or "not told"


def parity_of_service(found: Gathered, service: str) -> Html:
    """What parity checks found of a service in each mode, all of its features together."""
    checks: dict[tuple[str, str | None], list[ParityResult]] = {}
    for one in itertools.chain.from_iterable(found.parity.values()):
        if one.service == service:
            checks.setdefault((one.mode, one.at), []).append(one)
    rows = []
    for (mode, at), each in checks.items():
        compared, differing = (
            sum(getattr(one, name) for one in each) for name in ("compared", "differing")
        )
        late = [one.feature for one in each if one.differing]
        told = _differing(differing, compared) + (f": {', '.join(late)}" if late else "")
        rows.append((mode, f"{compared:,}", told, _when(at)))
    return section("Parity", table("Parity", ("mode", "compared", "differ", "checked"), rows))


def contract_section(found: Gathered, source: EventSource) -> Html:
    """The rules of a source, the schema first, with what became of each last."""
    last = found.judged[source.name]
    made = contract_of(source)
    rules = [("schema", OF_SCHEMA, "quarantine" if source.on_bad_row == "quarantine" else "fail")]
    rules += [(j.rule.name, j.rule.says, j.rule.severity) for j in made.judges]
    rules += [(rule.name, rule.says, rule.severity) for rule in made.sets]
    rows = [
        (code(name), says, _BROKEN[severity], _last(None if last is None else last.of(name, says)))
        for name, says, severity in rules
    ]
    said = "Not judged yet." if last is None else f"Judged last at {instant_text(last.at)}."
    heads = ("rule", "what it says", "if it is broken", "last result")
    return section("Contract", fill("note", text=said), table("Contract", heads, rows))


_BROKEN = {"fail": "work stops", "quarantine": "rows are set aside", "warn": "it is said"}


def _last(found: RuleResult | None) -> Html | None:
    """What became of a rule; a dash where it was not judged."""
    if found is None:
        return None
    kind = "good" if found.held else "bad" if found.severity == "fail" else "late"
    said = "holds" if found.held else "broken"
    if found.broken:
        said += f" by {found.broken:,} of {found.rows:,} rows"
    return fill("badge", kind=kind, said=said)
