"""What is written as JUnit XML counts itself, and holds whatever texts hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from featurekit.core.junit import write_junit
from featurekit.errors import ConfigError

WILD = "a\x00b\x1b\ud800<&>\"'é\U0001f600"


def suite(name: str, *inside: str | None) -> ET.Element:
    made = ET.Element("testsuite", name=name)
    for i, tag in enumerate(inside):
        case = ET.SubElement(made, "testcase", name=f"{WILD}{i}")
        if tag is not None:
            ET.SubElement(case, tag, message=WILD).text = WILD
    return made


def test_suites_are_counted_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    write_junit(
        path, "all", [suite("one", "failure", None, "skipped"), suite("two", "failure")], 1.5
    )
    root = ET.parse(path).getroot()
    counts = [[x.get(n) for n in ("tests", "failures", "errors", "skipped")] for x in (root, *root)]
    assert counts == [["4", "2", "0", "1"], ["3", "1", "0", "1"], ["1", "1", "0", "0"]]
    assert root.get("time") == "1.500"


def test_what_xml_cannot_hold_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    write_junit(path, "all", [suite(WILD, "failure")])
    (one,) = ET.parse(path).getroot()
    clean = WILD.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd")
    failure = one.find("testcase/failure")
    assert failure is not None
    assert one.get("name") == failure.get("message") == failure.text == clean


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--junit"):
        write_junit(tmp_path / "none" / "report.xml", "all", [])
