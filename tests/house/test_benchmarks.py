"""The benchmarks run and check what they compare; how long anything takes is not asserted."""

from __future__ import annotations

import gc
import importlib
import json
import re
from pathlib import Path

import pytest
from slow import slow_unless

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.measure import OURS, Curve, Result, interleaved, latencies
from benchmarks.picture import amount, bars, lines

RESULTS = [
    Result("a join", "1 k × 10 k", "s", {OURS: 1.2, "by hand": 1.0, "peer": 9.0}, "by hand", 1.15),
    Result("a <write>", "", "1/s", {OURS: 900.0, "raw": 1000.0}, "raw", 0.8, note="same bytes"),
    Result("memory", "50 floats", "B", {OURS: 500.0, "packed": 536.0}, "packed"),
]
PROMPT = ("transforms",)
"""The areas that run with every test run; `--thorough` runs all."""
CURVE = Curve("lookups", "events", [10, 1_000], "s", {OURS: [1e-4, 2e-4], "raw": [1e-4, 1e-3]})


@pytest.fixture(autouse=True)
def _nothing_else_is_collected() -> None:
    """An area collects garbage before each run, and does not walk what other tests left."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize("name", slow_unless(lambda name: name in PROMPT, command.AREAS))
def test_each_area_runs_at_its_smallest(name: str) -> None:
    """What an area's peers answer is compared with ours inside it, before anything is timed."""
    area = importlib.import_module(f"benchmarks.{name}")
    assert area.__doc__
    found = list(area.results("smoke", 1))
    if name == "feast_stores" and not area.installed():
        pytest.skip("needs Feast (the extra featurekit[feast])")
    assert found
    for one in found:
        if isinstance(one, Curve):
            assert all(len(values) == len(one.xs) for values in one.taken.values())
        else:
            assert one.ratio > 0


def test_a_goal_is_the_most_time_and_the_least_rate() -> None:
    assert [r.met for r in RESULTS] == [False, True, None]
    assert [round(r.ratio, 2) for r in RESULTS] == [1.2, 0.9, 0.93]


def test_contenders_run_by_turns() -> None:
    order: list[str] = []
    taken = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3, "one run of each warms up"
    assert taken.keys() == {"a", "b"}
    found = latencies({"a": lambda: None}, 10, stretches=3)["a"]
    assert 0 < found.p50 <= found.p99


def test_what_is_written_holds_every_result(tmp_path: Path) -> None:
    document = json.loads(report.as_json({"area": [*RESULTS, CURVE]}, command="x"))
    assert [one["work"] for one in document["benchmarks"]["area"]] == [
        "a join", "a <write>", "memory", "lookups",
    ]  # fmt: skip
    html = report.page({"area": [*RESULTS, CURVE]}, "x")
    assert "a &lt;write&gt;" in html
    assert "<write>" not in html
    assert not re.search(r"(src|href)=", html), "it needs no other file"
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks: begin -->old<!-- benchmarks: end -->\nafter\n")
    for _ in range(2):
        report.into_readme(readme, tmp_path / "b.svg", RESULTS, "the command")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| a join |") == 1
    assert "1.20 | ≤ 1.15 ✗ | peer 9 s |" in text
    assert "`the command`" in text
    assert (tmp_path / "b.svg").read_text().startswith("<svg")


def test_pictures_are_well_formed() -> None:
    from xml.etree import ElementTree

    for picture in (bars(RESULTS), lines(CURVE)):
        ElementTree.fromstring(picture)


def test_amounts_have_three_digits_and_a_unit() -> None:
    shown = [amount(*one) for one in ((0.00123, "s"), (4.5e-7, "s"), (45_600.2, "1/s"), (536, "B"))]
    assert shown == ["1.23 ms", "450 ns", "45,600/s", "536 B"]


def test_a_failed_area_loses_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys
    import types

    good, bad = types.ModuleType("benchmarks.good"), types.ModuleType("benchmarks.bad")
    good.results = lambda size, runs: iter(RESULTS)  # type: ignore[attr-defined]
    bad.results = lambda size, runs: 1 / 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.good", good)
    monkeypatch.setitem(sys.modules, "benchmarks.bad", bad)
    monkeypatch.setattr(command, "AREAS", {"bad": "fails", "good": "runs"})
    out = tmp_path / "b.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--json", str(out)])
    assert command.main() == 2
    document = json.loads(out.read_text())
    assert document["failed"] == {"bad": "ZeroDivisionError: division by zero"}
    assert len(document["benchmarks"]["good"]) == 3
    assert "FAILED" in capsys.readouterr().err
