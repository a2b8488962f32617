"""What is told of a run of Feast's own tests, which itself takes minutes (`./run feast-suite`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.feast.suite.__main__ import copied
from tests.feast.suite.outcomes import DOCKER, Outcome, outcomes, table, unexpected

REPORT = """<testsuites><testsuite>
<testcase classname="tests.integration.cli.test_a" name="test_one"/>
<testcase classname="tests.integration.cli.test_a" name="test_two[x]">
<failure message="boom">tests/x.py:1
E   ValueError: 1 | 2
E   AssertionError: 3</failure></testcase>
<testcase classname="tests.integration.online_store.test_b" name="test_three">
<error message="failed on setup">E   docker.errors.DockerException: no</error></testcase>
<testcase classname="tests.integration.online_store.test_b" name="test_four">
<skipped message="no way"/></testcase>
<testcase classname="tests.integration.materialization.test_c" name="test_odfv_write_methods[y]">
<failure message="m">E   assert None == 200.0</failure></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def found(tmp_path: Path) -> list[Outcome]:
    """The outcomes in a report."""
    (tmp_path / "report.xml").write_text(REPORT, encoding="utf-8")
    return outcomes(tmp_path / "report.xml")


def test_each_test_has_an_outcome_and_a_reason(found: list[Outcome]) -> None:
    assert [(one.outcome, one.reason) for one in found] == [
        ("passed", ""),
        ("failed", "AssertionError: 3"),
        ("error", DOCKER),
        ("skipped", "no way"),
        ("failed", "assert None == 200.0"),
    ]


def test_a_failure_is_a_fault_unless_it_must_be(found: list[Outcome]) -> None:
    assert [one.reason for one in unexpected(found)] == ["AssertionError: 3"]


def test_a_test_that_wants_two_paths_and_passes_is_a_fault() -> None:
    passed = Outcome("tests.integration.x.test_odfv_write_methods[y]", "passed", "")
    assert unexpected([passed]) == [passed]


def test_the_table_has_a_row_for_each_reason(found: list[Outcome]) -> None:
    lines = table(found).splitlines()
    assert lines[2] == "| 1 | 2 | 1 | 1 |"
    assert "| 1 | could not run | needs Docker | `online_store/test_b` |" in lines
    assert any("serves a row of 2024" in line for line in lines)
    assert any("assert None == 200.0" in line for line in table(found, own=True).splitlines())


def test_a_folder_without_tests_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no tests of Feast"):
        copied(tmp_path, tmp_path / "made")
