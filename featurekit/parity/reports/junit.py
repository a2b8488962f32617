"""Writes parity reports as JUnit XML, which CI systems show: a test case for each feature."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from featurekit.core import junit
from featurekit.parity.modes.operators import OperatorsReport
from featurekit.parity.report import Difference, FeatureReport, Report
from featurekit.parity.reports.show import difference_text

_NAME = "featurekit parity"


def write_junit(path: Path, reports: Sequence[Report]) -> None:
    """Write a suite for each service, in it a case for each feature: a failure where a value
    differs, with the diagnosis; skipped where none was compared. ConfigError where the file cannot
    be written."""
    suites = [_suite(report) for report in reports]
    junit.write_junit(path, _NAME, suites, sum(r.seconds for r in reports))


def write_operators_junit(path: Path, report: OperatorsReport) -> None:
    """As `write_junit`, with a case for each row of the operator table and each aggregate."""
    found = report.to_dict()
    suite = ET.Element("testsuite", name="parity.operators", time=f"{report.seconds:.3f}")
    for key, row in report.all.items():
        case = ET.SubElement(suite, "testcase", classname="parity.operators", name=key)
        if not row.ok:
            message = f"{len(row.differing)} of {row.inputs} inputs differ"
            failure = ET.SubElement(case, "failure", message=message, type="ParityDifference")
            shown = [d for d in found["differences"] if d["operator"] == key]
            lines = [", ".join(f"{n}: {v}" for n, v in d.items()) for d in shown]
            failure.text = "\n".join([message, *lines])
    junit.write_junit(path, _NAME, [suite], report.seconds)


def _suite(report: Report) -> ET.Element:
    features = report.features
    suite = ET.Element(
        "testsuite",
        name=f"parity.{report.service}",
        time=f"{report.seconds:.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("seed", report.seed), ("compared", report.compared)):
        ET.SubElement(properties, "property", name=name, value=str(value))
    share = report.seconds / max(len(features), 1)
    for name, found in features.items():
        case = ET.SubElement(
            suite, "testcase",
            classname=f"parity.{report.service}", name=name, time=f"{share:.3f}",
        )  # fmt: skip
        differences = [d for d in report.differences if d.feature == name]
        _outcome(case, found, differences)
    return suite


def _outcome(case: ET.Element, found: FeatureReport, differences: list[Difference]) -> None:
    if found.differing:
        message = f"{found.differing} of {found.compared} values differ"
        diagnosed = next((d for d in differences if d.diagnosis is not None), None)
        first = diagnosed or next(iter(differences), None)
        if diagnosed is not None and diagnosed.diagnosis is not None:
            message += f"; likely cause: {diagnosed.diagnosis.cause}"
        failure = ET.SubElement(case, "failure", message=message, type="ParityDifference")
        failure.text = message if first is None else difference_text(first)
    elif not found.compared:
        ET.SubElement(case, "skipped", message="no value was compared")
