"""Writes drift as JUnit XML, which CI systems show: a test case for each feature."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from featurekit.core import junit
from featurekit.monitor.drift.report import Drift


def write_junit(path: Path, found: Drift) -> None:
    """Write a suite for the service, in it a case for each feature: a failure where it drifts, with
    its figures. ConfigError where the file cannot be written."""
    features = dict.fromkeys([*(f.feature for f in found.figures), *found.lacking])
    drifting = set(found.drifting)
    suite = ET.Element("testsuite", name=f"drift.{found.service}")
    for name in features:
        case = ET.SubElement(suite, "testcase", classname=f"drift.{found.service}", name=name)
        lines = [
            f"{f.measure} {f.value:.6g} (threshold {f.threshold:g}): {f.verdict}"
            for f in found.figures
            if f.feature == name and f.threshold is not None
        ]
        if name in found.lacking:
            lines.append(found.lacking[name])
        place = ET.SubElement(case, "failure" if name in drifting else "system-out")
        if name in drifting:
            place.set("message", f"{name} drifts from {found.reference}")
            place.set("type", "Drift")
        place.text = "\n".join(lines)
    junit.write_junit(path, "featurekit monitor drift", [suite])
