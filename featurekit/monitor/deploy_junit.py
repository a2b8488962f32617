"""Writes the checks of a model before it is deployed as JUnit XML, which CI systems show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from featurekit.core.files import write_named
from featurekit.monitor.deploy import Deployable


def write_junit(path: Path, found: Deployable) -> None:
    """Write a suite with a case for each check: a failure where it does not hold, skipped where it
    was not made. ConfigError where the file cannot be written."""
    held = [one.held for one in found.checks]
    counts = {"tests": len(held), "failures": held.count(False), "skipped": held.count(None)}
    told = {name: str(number) for name, number in counts.items()} | {"errors": "0"}
    root = ET.Element("testsuites", {"name": "featurekit deploy", **told})
    suite = ET.SubElement(root, "testsuite", {"name": "deploy.check", **told})
    for one in found.checks:
        case = ET.SubElement(suite, "testcase", classname="deploy.check", name=one.name)
        said = "".join(c for c in one.found if c.isprintable())
        if one.held is False:
            ET.SubElement(case, "failure", message=said, type="NotDeployable")
        elif one.held is None:
            ET.SubElement(case, "skipped", message=said)
    ET.indent(root)
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
    write_named(path, text, "--junit")
