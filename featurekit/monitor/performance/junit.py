"""Writes performance as JUnit XML, which CI systems show: a test case for each measure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

from featurekit.core import junit
from featurekit.monitor.performance.change import Change
from featurekit.monitor.performance.fairness import Fairness
from featurekit.monitor.performance.judge import Score
from featurekit.monitor.performance.report import Performance


def write_junit(path: Path, found: Performance) -> None:
    """Write a suite for the service, in it a case for each measure, those of slices, of fairness
    and of changes, too: a failure where it is worse than its threshold, and skipped where there are
    too few rows to tell. ConfigError where the file cannot be written."""
    name = f"performance.{found.service}"
    suite = ET.Element("testsuite", name=name)
    for of, one, value, rows in _cases(found):
        case = ET.SubElement(suite, "testcase", classname=of, name=one.measure)
        kind = {"worse": "failure", "too few": "skipped"}.get(one.verdict, "system-out")
        place = ET.SubElement(case, kind)
        told = "no value" if value is None else f"{value:.6g}"
        beside = "" if one.threshold is None else f" (threshold {one.threshold:g})"
        if kind != "system-out":
            place.set("message", f"{one.measure} {told}{beside}: {one.verdict}")
        if kind == "failure":
            place.set("type", "Performance")
        place.text = f"{told}{beside}, {rows}"
    junit.write_junit(path, "featurekit monitor performance", [suite])


_Case = tuple[str, Score | Fairness | Change, float | None, str]


def _cases(found: Performance) -> Iterator[_Case]:
    """Each case: what it is of, its figure and value, and of how many rows it is."""
    name = f"performance.{found.service}"
    yield from _scores(name, found.scores, found.judged, found.entities)
    for part in found.slices:
        of = f"{name}.{part.by}={part.value}"
        yield from _scores(of, part.scores, part.rows, part.entities)
    for fair in found.fairness:
        slices = f"{fair.slices} slices, {len(fair.left_out)} left out"
        yield f"{name}.fairness.{fair.by}", fair, fair.value, slices
    for one in found.changes:
        rows = f"{found.judged} rows beside {found.reference_rows}"
        yield f"{name}.change", one, one.change, rows


def _scores(of: str, scores: Iterable[Score], rows: int, entities: int) -> Iterator[_Case]:
    for one in scores:
        yield of, one, one.value, f"{rows} rows of {entities} entities"
