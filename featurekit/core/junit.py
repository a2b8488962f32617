"""Writes what was found as JUnit XML, which CI systems show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from featurekit.core.files import write_named

# What XML 1.0 cannot hold, however it is written.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTS = ("tests", "failures", "errors", "skipped")


def write_junit(
    path: Path, name: str, suites: Sequence[ET.Element], seconds: float | None = None
) -> None:
    """Write suites into a file, whole or not at all. A suite counts its cases by itself: here its
    `tests`, `failures`, `errors` and `skipped` are told, and added up. Of texts, what XML cannot
    hold is a replacement character. ConfigError where the file cannot be written."""
    root = ET.Element("testsuites", name=name)
    root.extend(suites)
    for suite in suites:
        found = {
            "tests": len(suite.findall("testcase")),
            "failures": len(suite.findall("testcase/failure")),
            "errors": 0,
            "skipped": len(suite.findall("testcase/skipped")),
        }
        for count, number in found.items():
            suite.set(count, str(number))
    for count in _COUNTS:
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    if seconds is not None:
        root.set("time", f"{seconds:.3f}")
    for element in root.iter():
        element.text = None if element.text is None else _clean(element.text)
        for key, value in element.items():
            element.set(key, _clean(value))
    ET.indent(root)
    text = ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
    write_named(path, text, "--junit")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
