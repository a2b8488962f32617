"""Turns pytest's report of Feast's tests into a table of how they ended and why."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

DOCKER = "needs Docker"
_KNOWN = [
    (r"DockerException|docker\.errors|Error while fetching server API version", DOCKER),
    (r"got empty parameter set", "is for other stores than Redis and SQLite, by Feast's mark"),
]
"""What a reason says, and what the table says of it."""
CONTRADICTIONS = {
    "test_non_entity_mode_preserves_multiple_timestamps": (
        "wants 0.1 of a `Float32` offline, where Feast's proto holds 0.10000000149 online (a "
        "`Float32` is rounded on both paths)"
    ),
    "test_odfv_write_methods": (
        "serves a row of 2024 whose ttl is a day, which the same repo's historical features leave "
        "out (the ttl counts on both paths)"
    ),
}
"""Tests that want the two paths to differ. Each fails, and the table says what it wants."""


@dataclass(frozen=True)
class Outcome:
    """How a test ended: passed, failed, skipped or error, and the reason of the last three."""

    test: str
    outcome: str
    reason: str


def outcomes(report: Path) -> list[Outcome]:
    """How each test in a report of JUnit ended."""
    found = []
    for case in ET.parse(report).iter("testcase"):
        place = case.get("classname") or ""
        test = f"{place}.{case.get('name')}" if place else str(case.get("name"))
        outcome, reason = "passed", ""
        for kind, named in (("skipped", "skipped"), ("error", "error"), ("failure", "failed")):
            told = case.find(kind)
            if told is not None:
                outcome, reason = named, _reason(told)
        found.append(Outcome(test, outcome, reason))
    return found


def unexpected(found: list[Outcome]) -> list[Outcome]:
    """The tests that failed or could not run, for another reason than that they need Docker or want
    the two paths to differ; and those that were to fail and passed."""
    bad = [one for one in found if one.outcome in ("failed", "error") and one.reason != DOCKER]
    bad = [one for one in bad if _wanted(one) is None]
    return bad + [one for one in found if one.outcome == "passed" and _wanted(one) is not None]


def table(found: list[Outcome], *, own: bool = False) -> str:
    """The numbers of each outcome, and a row for each reason, as Markdown. On Feast's `own` stores
    a failure has the reason that pytest says."""
    counts = Counter(one.outcome for one in found)
    lines = ["| passed | failed | skipped | could not run |", "| --- | --- | --- | --- |"]
    numbers = [str(counts[name]) for name in ("passed", "failed", "skipped", "error")]
    lines += ["| " + " | ".join(numbers) + " |", ""]
    lines += ["| tests | outcome | reason | where |", "| --- | --- | --- | --- |"]
    groups: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if one.outcome != "passed":
            reason = (None if own else _wanted(one)) or one.reason
            groups.setdefault((one.outcome, reason), []).append(_file(one.test))
    for (outcome, reason), places in sorted(groups.items()):
        told = ", ".join(f"`{name}`" for name in sorted(set(places)))
        named = "could not run" if outcome == "error" else outcome
        lines.append(f"| {len(places)} | {named} | {reason} | {told} |")
    return "\n".join(lines)


def _wanted(one: Outcome) -> str | None:
    """What the test wants, where it wants the two paths to differ."""
    name = one.test.split("[")[0].rsplit(".", 1)[-1]
    return CONTRADICTIONS.get(name)


def _file(test: str) -> str:
    """The file of a test, without what all have in common."""
    match = re.search(r"integration[./](\w+)[./](?:\w+[./])*?(test_\w+)", test)
    return test if match is None else f"{match[1]}/{match[2]}"


def _reason(told: ET.Element) -> str:
    whole = f"{told.get('message') or ''}\n{told.text or ''}"
    for pattern, reason in _KNOWN:
        if re.search(pattern, whole):
            return reason
    if told.tag == "skipped":
        text = (told.get("message") or "").strip()
    else:
        errors = re.findall(r"^E +(\S.*)$", whole, re.MULTILINE)
        text = errors[-1] if errors else (told.get("message") or "").strip()
    text = re.sub(r"0x[0-9a-f]+", "0x…", text.splitlines()[0] if text else "no reason told")
    text = re.sub(r", function \w+ at .*$", "", text)
    return text.replace("|", "\\|")[:200]
