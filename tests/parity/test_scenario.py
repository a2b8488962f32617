"""A scenario asks both real paths one question about a few events."""

from __future__ import annotations

import dataclasses

import pytest
from visits import (
    SCENARIO,
    SECOND,
    SERVICE,
)

from featurekit.aggregates import exact
from featurekit.core.status import NEVER
from featurekit.errors import PlanRefused
from featurekit.parity.bench import bench, both, differing
from featurekit.parity.paths import Offline, Online
from featurekit.parity.scenario import by_source, narrow


def test_both_paths_answer_every_output():
    answers = both(SCENARIO)
    assert differing(answers) == []
    assert {n: offline for n, (offline, _) in answers.items()} == {
        "spending__spend": (0.4, "PRESENT"),
        "spending__halves": (0.2, "PRESENT"),
        "spending__orders": (2, "PRESENT"),
        "spending__word": ("b", "PRESENT"),
        "latest_visit__page": ("/", "PRESENT"),
        "share": (3.0 / 0.4, "PRESENT"),
        "doubled": (3.0 / 0.4 * 2, "PRESENT"),
    }


@pytest.mark.parametrize("filled_until", [NEVER, 2 * SECOND, 20 * SECOND])
def test_states_come_from_pushes_or_a_materialisation(filled_until):
    later = dataclasses.replace(SCENARIO, at=20 * SECOND, filled_until=filled_until)
    answers = both(later)
    assert differing(answers) == []
    assert answers["spending__orders"][1] == (3, "PRESENT")


@pytest.mark.parametrize("name", [o.full_name for o in SERVICE.outputs])
def test_a_scenario_about_one_output_answers_the_same(name):
    one = narrow(SCENARIO, name)
    assert [o.full_name for o in one.service.outputs] == [name]
    assert both(one)[name] == both(SCENARIO)[name]


def test_what_an_output_does_not_read_is_left_out():
    one = narrow(SCENARIO, "spending__orders")
    assert list(by_source(one.deliveries)) == ["orders"]
    assert one.row == {"customer_id": 1}
    assert [len(v.features) for v in one.service.views] == [1]


def test_a_skew_in_a_path_is_seen(monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", lambda xs: sum(xs, start=0.0) + 1.0)
    assert differing(both(SCENARIO)) == ["spending__spend", "spending__halves", "share", "doubled"]


def test_files_that_were_read_otherwise_part_the_paths():
    other = tuple(
        dataclasses.replace(d, row=d.row | {"amount": 1.0}) if d.source == "orders" else d
        for d in SCENARIO.deliveries
    )
    answers = both(dataclasses.replace(SCENARIO, files=other))
    assert answers["spending__spend"] == ((2.0, "PRESENT"), (0.4, "PRESENT"))


def test_another_version_may_answer_online():
    view = SERVICE.views[0]
    longer = tuple(dataclasses.replace(f, window_us=1) for f in view.features)
    served = dataclasses.replace(
        SERVICE, views=(dataclasses.replace(view, features=longer), *SERVICE.views[1:])
    )
    answers = both(dataclasses.replace(SCENARIO, served=served))
    assert answers["spending__orders"] == ((2, "PRESENT"), (0, "PRESENT"))


@pytest.mark.parametrize(("path", "asked"), [(Offline, "answers"), (Online, "ask")])
def test_a_plan_that_is_refused_is_no_answer(monkeypatch, path, asked):
    def refused(*args: object) -> object:
        raise PlanRefused("no plan")

    monkeypatch.setattr(path, asked, refused)
    with bench() as opened, pytest.raises(PlanRefused):
        opened.both(SCENARIO)


def test_an_exception_stands_in_the_place_of_a_status(monkeypatch):
    def broken(*args: object) -> object:
        raise ValueError("broken\nat length")

    monkeypatch.setattr(exact, "exact_sum", broken)
    with bench() as opened:
        offline, online = opened.both(SCENARIO)["spending__spend"]
    assert offline == (0.4, "PRESENT")
    assert online == (None, "ValueError: broken")
