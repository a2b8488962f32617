"""A failing scenario is made small, and what is left of it names the cause."""

from __future__ import annotations

import dataclasses
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from visits import SCENARIO, SECOND, SERVICE, order

from featurekit.aggregates import exact
from featurekit.core.types import instant
from featurekit.errors import ConfigError
from featurekit.language import ops
from featurekit.parity.bench import bench
from featurekit.parity.compare import ulps
from featurekit.parity.diagnose.case import literal
from featurekit.parity.diagnose.causes import CAUSES
from featurekit.parity.diagnose.counted import counted, inputs, slot_values, view_feature
from featurekit.parity.diagnose.diagnose import diagnose, diagnose_report
from featurekit.parity.diagnose.shrink import _Shrinker, shrink
from featurekit.parity.report import Report
from featurekit.parity.reports.junit import write_junit
from featurekit.parity.scenario import Scenario

HOUR = 3600 * SECOND


def left_sum(values):
    total = 0.0
    for value in values:
        total += value
    return total


AMOUNTS = (1e16, 1.0, 0.1, 1.0, 0.5, 0.25, 1.0, 0.75, 0.125, 1.0)
MANY = Scenario(
    SERVICE,
    tuple(order(i * 37 * SECOND + i, a, "w") for i, a in enumerate(AMOUNTS, 1)),
    {"customer_id": 1, "basket": 12.5},
    HOUR,
)


def test_a_failure_shrinks_to_the_fewest_events_and_simplest_values(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", left_sum)
    with bench() as opened:
        found = shrink(opened, MANY, "spending__spend")
    small = found.scenario
    assert sorted(d.row["amount"] for d in small.deliveries) == [1.0, 1.0, 1e16]
    assert {d.row["word"] for d in small.deliveries} == {None}
    assert small.row == {"customer_id": 0}
    assert (found.offline, found.online) == (
        (1.0000000000000002e16, "PRESENT"),
        (1e16, "PRESENT"),
    )


def test_shrinking_is_deterministic(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", left_sum)
    made = []
    for _ in range(2):
        with bench() as opened:
            found = shrink(opened, MANY, "spending__spend", tries=25)
            made.append((found.scenario, found.tries))
    assert made[0] == made[1]
    assert made[0][1] == 25


def test_a_scenario_that_did_not_fail_is_tried_once_and_each_other_is_tried():
    """What differs in one thing alone, be it a bit, is another scenario."""
    first = MANY.deliveries[0]
    zeros = [
        dataclasses.replace(first, row=first.row | {"amount": amount})
        for amount in (0.0, -0.0, math.nan)
    ]
    others = [
        MANY,
        *(dataclasses.replace(MANY, deliveries=(zero,)) for zero in zeros),
        dataclasses.replace(MANY, deliveries=(dataclasses.replace(zeros[0], source="other"),)),
        dataclasses.replace(MANY, row={"customer_id": -1}),
        dataclasses.replace(MANY, at=MANY.at + 1),
        dataclasses.replace(MANY, filled_until=MANY.filled_until + 1),
        dataclasses.replace(MANY, files=MANY.deliveries[:1]),
    ]

    class Agreeing:
        def both(self, scenario):
            return {"spend": ((1.0, "PRESENT"), (1.0, "PRESENT"))}

    shrinker = _Shrinker(Agreeing(), "spend", 100, math.inf)
    shrinker.best = dataclasses.replace(MANY, deliveries=())
    for number, other in enumerate(others, start=1):
        assert not shrinker.attempt(other)
        assert shrinker.tries == number
    assert not any(shrinker.attempt(dataclasses.replace(other)) for other in others)
    assert shrinker.tries == len(others)


def test_what_does_not_fail_is_not_shrunk():
    with bench() as opened:
        assert shrink(opened, SCENARIO, "spending__spend") is None


def test_a_node_of_a_transform_is_named(monkeypatch):
    key = "/(float,float)"
    wrong = dataclasses.replace(ops.TABLE[key], sql="({0} / {1} + 1.0::DOUBLE)", literal_sql=None)
    monkeypatch.setitem(ops.TABLE, key, wrong)
    found = diagnose(SCENARIO, "spending__halves")
    assert "half, node `amount / 2.0`" in found.where
    assert found.cause == "operator"


def test_an_input_of_a_request_time_transform_is_followed(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", left_sum)
    found = diagnose(MANY, "doubled")
    assert found.where.startswith("input share of doubled: input spend of share: Sum over")
    assert found.cause == "float order"


@pytest.mark.parametrize("name", [o.full_name for o in SERVICE.outputs if o.view >= 0])
def test_both_paths_answer_what_a_diagnosis_asks_of_a_feature(name):
    """A path that refuses the question leaves the experiment without a result, and says nothing."""
    states = {"PRESENT", "NULL_VALUE"}
    view, feature = view_feature(SERVICE, name)
    of_view = [i for i, d in enumerate(SCENARIO.deliveries) if d.source == view.source.name]
    with bench() as opened:
        found = counted(opened, SCENARIO, name)
        assert found.offline == found.online != ()
        assert {found.offline_status, found.online_status} <= states
        given = inputs(opened, SCENARIO, name)
        if feature.slot is None or feature.aggregate is None:
            assert given is None
        else:
            assert given[0] == given[1]
            assert given[1][1] in states
        for slot in range(len(view.slots)):
            for one, other in slot_values(opened, SCENARIO, view, slot, of_view):
                assert one == other
                assert other[1] in states


def test_a_version_that_is_not_the_repo_s_is_named():
    view = SERVICE.views[0]
    other = tuple(dataclasses.replace(f, window_us=SECOND) for f in view.features)
    served = dataclasses.replace(
        SERVICE, fingerprint="0" * 32,
        views=(dataclasses.replace(view, features=other), *SERVICE.views[1:]),
    )  # fmt: skip
    found = diagnose(dataclasses.replace(SCENARIO, served=served), "spending__orders")
    assert found.cause == "stale version"
    assert "online 000000000000" in found.where


@pytest.mark.parametrize(
    ("column", "value", "cause"),
    [
        ("amount", None, "null fill"),
        ("amount", math.nan, "NaN"),
        ("amount", 0.10000000149011612, "float32"),
        ("word", "A", "Unicode"),
        ("__ts", SECOND - 2 * HOUR, "time zone"),
    ],
)
def test_a_row_that_is_read_otherwise_is_named(column, value, cause):
    files = list(SCENARIO.deliveries)
    feature = "spending__word" if column == "word" else "spending__spend"
    read = {"__ts": "reading the event's instant"}.get(column, f"reading {column}")
    rows = {**files[0].row, column: value}
    if column == "word":
        files, rows = files[:1], {**files[0].row, "word": value}
        scenario = dataclasses.replace(SCENARIO, deliveries=SCENARIO.deliveries[:1])
    else:
        scenario = SCENARIO
    files[0] = dataclasses.replace(files[0], row=rows)
    found = diagnose(dataclasses.replace(scenario, files=tuple(files)), feature)
    assert found.cause == cause
    assert found.where.startswith(read)


def test_a_row_that_files_lack_is_a_missing_event():
    scenario = dataclasses.replace(SCENARIO, files=SCENARIO.deliveries[1:])
    assert diagnose(scenario, "spending__orders").cause == "missing event"


@pytest.mark.parametrize(
    ("online", "cause", "where"),
    [
        (1, "missing event", "without event"),
        (3, "duplicate event", "twice"),
        (17, "stale state", "do not make"),
    ],
)
def test_a_state_that_the_events_do_not_make_is_told_apart(online, cause, where):
    prompt = dataclasses.replace(
        SCENARIO, deliveries=tuple(d for d in SCENARIO.deliveries if d.row["__ts"] != 2 * SECOND)
    )
    found = diagnose(prompt, "spending__orders", offline=(2, "PRESENT"), online=(online, "PRESENT"))
    assert found.cause == cause
    assert where in found.where
    assert found.online == (online, "PRESENT")


def test_a_sum_that_is_rounded_otherwise_among_other_rows_is_float_order():
    seen = diagnose(SCENARIO, "spending__spend").offline[0]
    near = math.nextafter(seen, math.inf), "PRESENT"
    found = diagnose(SCENARIO, "spending__spend", offline=near)
    assert (found.cause, found.case) == ("float order", "")
    found = diagnose(SCENARIO, "spending__spend", online=near)
    assert found.cause == "float order"
    assert found.where == "online holds what these events do not make"


def test_changes_of_the_events_are_tried_no_longer_than_told():
    seen = diagnose(SCENARIO, "spending__orders").offline[0]
    found = diagnose(SCENARIO, "spending__orders", online=(seen - 1, "PRESENT"), seconds=0)
    assert found.cause == "stale state"
    assert found.evidence[-1] == "there was no time to try every change of the events"


def test_late_events_that_are_not_there_are_told():
    scenario = dataclasses.replace(SCENARIO, at=20 * SECOND)
    found = diagnose(scenario, "spending__orders", online=(2, "PRESENT"))
    assert (found.cause, found.where) == ("missing event", "online is what comes without event 3")
    later = order(5 * SECOND, 1.0, created=6 * SECOND)
    scenario = dataclasses.replace(scenario, deliveries=(*scenario.deliveries, later))
    found = diagnose(scenario, "spending__orders", online=(2, "PRESENT"))
    assert found.cause == "late event"


def test_what_is_said_is_of_the_list_of_causes(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", left_sum)
    found = diagnose(MANY, "spending__spend")
    document = json.loads(json.dumps(found.to_dict()))
    assert document["cause"] in CAUSES
    assert document["ulps"] == 1
    assert len(document["events"]) == 3
    assert document["offline"]["value"] == "1.0000000000000002e+16 (0x1.1c37937e08001p+53)"
    compile(document["case"], "case", "exec")


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [(1.0, 1.0, 0), (1.0, math.nextafter(1.0, 2.0), 1), (-0.0, 0.0, 1), (0.0, 5e-324, 1),
     (-5e-324, 5e-324, 3), (1.0, math.inf, None), (1, 1.0, None), (None, 1.0, None)],
)  # fmt: skip
def test_ulps_count_the_doubles_between(one, other, apart):
    assert ulps(one, other) == apart
    assert ulps(other, one) == apart


@pytest.mark.parametrize("value", [1.5, -0.0, math.inf, -math.inf, "a'\n\u2003", b"\xff", None, 7,
                                   [1.0, -0.0], True, instant(1), instant(0).date(),
                                   instant(5) - instant(0)])  # fmt: skip
def test_a_literal_gives_the_value_again(value):
    import datetime as dt

    assert repr(eval(literal(value), {"dt": dt})) == repr(value)


def test_the_nan_of_a_literal_is_one():
    assert math.isnan(eval(literal(math.nan)))


# --- JUnit ----------------------------------------------------------------------------------------


@pytest.fixture
def report(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", left_sum)
    made = Report("service", 3)
    made.take("word\x00", ("a\x01]]>", "PRESENT"), ("b", "PRESENT"), row={}, as_of="1970-01-01")
    made.take("spending__orders", (1, "PRESENT"), (1, "PRESENT"), row={}, as_of="1970-01-01")
    made.take(
        "spending__spend", (1.0, "PRESENT"), (2.0, "PRESENT"), row=MANY.row,
        as_of=instant(MANY.at).isoformat(),
    )  # fmt: skip
    made.seconds = 1.5
    known = {"spending__spend": MANY}
    diagnose_report(made, lambda difference: known.get(difference.feature))
    return made


def test_a_report_has_a_case_for_each_feature(report, tmp_path):
    write_junit(tmp_path / "report.xml", [report])
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert root.tag == "testsuites"
    assert {n: root.get(n) for n in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3", "failures": "2", "errors": "0", "skipped": "0",
    }  # fmt: skip
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == ["word\ufffd", "spending__orders", "spending__spend"]
    assert {c.get("classname") for c in cases.values()} == {"parity.service"}
    assert cases["spending__orders"].find("failure") is None
    failure = cases["spending__spend"].find("failure")
    assert failure.get("message") == "1 of 1 values differ; likely cause: float order"
    assert "def test_spending__spend_agrees(parity):" in failure.text
    assert "'a\\x01]]>'" in cases["word\ufffd"].find("failure").text


def test_what_is_diagnosed_stays_as_it_is():
    made = Report("service", 0)
    made.take("spending__spend", (1.0, "PRESENT"), (2.0, "PRESENT"), row={}, as_of="1970-01-01")
    diagnose_report(made, lambda difference: SCENARIO)
    (first,) = made.differences
    assert first.diagnosis is not None
    diagnose_report(made, lambda difference: pytest.fail("a later round knows other rows"))
    assert made.differences == [first]
    assert made.differences[0].diagnosis is first.diagnosis


def test_a_report_that_cannot_be_written_is_an_error(report, tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        write_junit(tmp_path / "nowhere" / "report.xml", [report])


def test_every_cause_stands_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    rows = "".join(f"| {cause} | {meaning} |\n" for cause, meaning in CAUSES.items())
    assert f"| --- | --- |\n{rows}" in page
