"""Turns rules into code, as a repo has it."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.define.contracts.rules import Rule
from featurekit.define.contracts.sets import Share


def as_code(rules: Sequence[Rule], left_out: Sequence[str] = ()) -> str:
    """The rules as the argument `expect=` of an EventSource, below what they import. What was
    `left_out` is written as comments."""
    written = [rule.written for rule in rules]
    names = sorted({type(rule).__name__ for rule in _all(rules)})
    lines = ["import datetime", ""] if any("datetime." in text for text in written) else []
    if names:
        lines += [f"from featurekit import {', '.join(names)}", ""]
    lines += ["expect=[", *(f"    {text}," for text in written), "],"]
    lines += [f"# left out: {text}" for text in left_out]
    return "\n".join(lines) + "\n"


def _all(rules: Sequence[Rule]) -> list[Rule]:
    return [*rules, *(rule.rule for rule in rules if isinstance(rule, Share))]
