"""Writes performance as JUnit XML, which CI systems show: a test case for each measure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from featurekit.core import junit
from featurekit.monitor.performance.report import Performance


def write_junit(path: Path, found: Performance) -> None:
    """Write a suite for the service, in it a case for each measure: a failure where it is worse
    than its threshold, and skipped where there are too few rows to tell. ConfigError where the file
    cannot be written."""
    name = f"performance.{found.service}"
    suite = ET.Element("testsuite", name=name)
    for one in found.scores:
        case = ET.SubElement(suite, "testcase", classname=name, name=one.measure)
        kind = {"worse": "failure", "too few": "skipped"}.get(one.verdict, "system-out")
        place = ET.SubElement(case, kind)
        value = "no value" if one.value is None else f"{one.value:.6g}"
        beside = "" if one.threshold is None else f" (threshold {one.threshold:g})"
        if kind != "system-out":
            place.set("message", f"{one.measure} {value}{beside}: {one.verdict}")
        if kind == "failure":
            place.set("type", "Performance")
        place.text = f"{value}{beside}, {found.judged} rows of {found.entities} entities"
    junit.write_junit(path, "featurekit monitor performance", [suite])
