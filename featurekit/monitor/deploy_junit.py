"""Writes the checks of a model before it is deployed as JUnit XML, which CI systems show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from featurekit.core import junit
from featurekit.monitor.deploy import Deployable


def write_junit(path: Path, found: Deployable) -> None:
    """Write a suite with a case for each check: a failure where it does not hold, skipped where it
    was not made. ConfigError where the file cannot be written."""
    suite = ET.Element("testsuite", name="deploy.check")
    for one in found.checks:
        case = ET.SubElement(suite, "testcase", classname="deploy.check", name=one.name)
        if one.held is False:
            ET.SubElement(case, "failure", message=one.found, type="NotDeployable")
        elif one.held is None:
            ET.SubElement(case, "skipped", message=one.found)
    junit.write_junit(path, "featurekit deploy", [suite])
