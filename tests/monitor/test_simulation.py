"""The simulated shop: its clock moves every process, its days are those of the seed, its report
finds what is wrong, and some days of it run against the real parts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.clock import make_clock
from tests.simulation.plan import PLANS
from tests.simulation.report import judged, most_false
from tests.simulation.run import Compared, Firing, Seen
from tests.simulation.world import World

ROOT = Path(__file__).parents[2]
FOUND = [f / "shared" / "data" / "online_retail.parquet" for f in Path(__file__).parents[2:4]]
RETAIL = next((path for path in FOUND if path.exists()), None)
YEAR = PLANS["year"]

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs the C compiler cc")
needs_lines = pytest.mark.skipif(RETAIL is None, reason="needs shared/data/online_retail.parquet")


# --- the clock ------------------------------------------------------------------------------------

MOVES = """
import datetime as dt, subprocess, threading, time
from tests.simulation.clock import clock_of_environment
before, wall, running = time.monotonic(), time.time(), threading.Event()
wait = threading.Thread(target=lambda: running.wait(0.5))
wait.start()
clock_of_environment().move_to(dt.datetime.now(dt.UTC) + dt.timedelta(days=40))
wait.join()
time.sleep(0.1)
other = float(subprocess.run(["date", "+%s"], capture_output=True, check=True).stdout)
print(time.time() - wall, other - wall, time.monotonic() - before, time.time_ns() / 1e9 - wall)
"""


@needs_compiler
def test_the_clock_moves_in_every_process_and_time_outs_stay(tmp_path):
    env = {**make_clock(tmp_path).variables, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MOVES]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    here, other, waited, in_ns = map(float, done.stdout.split())
    days = 40 * 86_400.0
    assert days <= here < days + 60
    assert days - 1 <= other < days + 60
    assert days <= in_ns < days + 60
    assert 0.5 <= waited < 60


# --- the days -------------------------------------------------------------------------------------


@needs_lines
def test_a_day_is_the_same_each_time_and_has_what_is_planted():
    one, other = World(RETAIL, YEAR, 1), World(RETAIL, YEAR, 1)
    assert one.lines(7).equals(other.lines(7))
    assert not one.lines(7).equals(World(RETAIL, YEAR, 2).lines(7))
    currency, country, feed, _ = YEAR.changes
    assert one.sent(currency.first - 1).equals(one.lines(currency.first - 1))
    true, sent = one.lines(currency.first), one.sent(currency.first)
    assert sent["unit_price"].to_pylist() == [p * 100.0 for p in true["unit_price"].to_pylist()]
    assert "Atlantis" in one.sent(country.first)["country"].to_pylist()
    assert one.sent(feed.first) is None
    late = one.sent(feed.first + feed.days)
    days = range(feed.first, feed.first + feed.days + 1)
    assert late.num_rows == sum(one.lines(day).num_rows for day in days)


@needs_lines
def test_the_concept_turns_round_and_the_customers_stay():
    world = World(RETAIL, YEAR, 1)
    turned = YEAR.changes[-1].first

    def gone(days, *, often):
        told = [
            churned
            for day in days
            for customer, churned in world.outcomes(day).items()
            if (world.loyalty(customer) > 0) == often
        ]
        return sum(told) / len(told)

    before, after = range(turned - 20, turned), range(turned, turned + 20)
    assert gone(before, often=True) < 0.4 < 0.6 < gone(before, often=False)
    assert gone(after, often=False) < 0.4 < 0.6 < gone(after, often=True)


# --- the report -----------------------------------------------------------------------------------


def right():
    """What a run sees where all is as it must be."""
    firings = [
        Firing(one.trigger, one.first + one.known_after, "it holds", "done") for one in YEAR.changes
    ]
    old = {"auc": (0.2, 0.15, 0.25), "brier": (0.4, 0.35, 0.45)}
    new = {"auc": (0.8, 0.75, 0.85), "brier": (0.2, 0.15, 0.25)}
    drift = {"lines_v1": {day: [] for day in range(YEAR.days)}}
    return Seen(drift, firings, {305: "2"}, Compared(1_000, old, new))


def test_a_run_that_is_as_it_must_be_is_right():
    found = judged(YEAR, right())
    assert found.wrong == []
    assert [one.windows for one in found.lines] == [1.0, 1.0, 1.0, 1 / 7]


@pytest.mark.parametrize("number", range(4))
def test_each_change_is_found_in_two_windows_by_one_firing_that_is_done(number):
    change = YEAR.changes[number]

    def with_firings(*found):
        seen = right()
        seen.firings = [one for one in seen.firings if one.trigger != change.trigger] + [*found]
        return judged(YEAR, seen).wrong

    once = Firing(change.trigger, change.last_day, "it holds", "done")
    assert with_firings(once) == []
    assert len(with_firings()) == 1
    assert len(with_firings(once, once)) == 1
    assert len(with_firings(replace(once, day=change.last_day + 1))) == 1
    assert len(with_firings(replace(once, day=change.first - 1))) == 1
    assert len(with_firings(replace(once, ended="failed"))) == 1


def test_two_false_alarms_in_ninety_quiet_days_are_too_many():
    quiet = {day: [] for day in range(YEAR.days)}
    assert most_false(YEAR, {**quiet, 3: ["price"], 93: ["price"]}) == 1
    assert most_false(YEAR, {**quiet, 3: ["price"], 92: ["price"]}) == 2
    assert most_false(YEAR, {**quiet, 3: ["price", "amount"]}) == 2
    assert most_false(YEAR, {**quiet, YEAR.changes[0].first: ["price", "amount"]}) == 0
    seen = right()
    seen.drift["lines_v1"] |= {3: ["price"], 4: ["price"]}
    assert judged(YEAR, seen).wrong == ["lines_v1 has 2 false alarms in 90 quiet days"]


def test_a_model_that_is_not_better_or_not_promoted_is_told():
    seen = right()
    seen.compared.new["auc"] = (0.3, 0.24, 0.36)
    assert judged(YEAR, seen).wrong == ["the new model is not better than the old one"]
    seen = right()
    seen.compared.new["brier"] = (0.38, 0.34, 0.42)
    assert judged(YEAR, seen).wrong == ["the new model is not better than the old one"]
    seen = right()
    seen.promoted, seen.compared = {}, None
    assert judged(YEAR, seen).wrong == ["0 models were promoted, and not one"]


# --- some days of it ------------------------------------------------------------------------------


@needs_compiler
@needs_lines
def test_four_days_against_the_real_parts_find_pence_for_pounds(tmp_path):
    """Without a model, which needs MLflow; `python -m tests.simulation` is the whole year."""
    words = ["--plan", "week", "--no-model", "--json", "--folder", str(tmp_path / "shop")]
    command = [sys.executable, "-m", "tests.simulation", "--data", str(RETAIL), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (currency,) = found["changes"]
    assert [one["day"] for one in currency["firings"]] == [currency["first"]]
    assert found["drift"]["lines_v1"].keys() == {"2", "3"}
    assert found["drift"]["churn_v1"] == {}
    assert (tmp_path / "shop" / "acted").read_text() == "prices\n"
