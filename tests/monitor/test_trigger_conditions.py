"""What a look at a condition finds, in real stores: skew, rows, drift and performance; and a whole
round of one process with a clock that tests set."""

from __future__ import annotations

import datetime as dt
import random
import re
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from live_orders import NOW, lose_an_event, open_store, orders, write_orders
from watching import NOTES, done, state_of, write_repo

from featurekit.core.types import micros
from featurekit.errors import ConfigError, DataError
from featurekit.monitor.triggers.actions import Where
from featurekit.monitor.triggers.check import check_triggers, check_watch
from featurekit.monitor.triggers.conditions import drifted, look, performed
from featurekit.monitor.triggers.engine import Lead, Parts
from featurekit.monitor.triggers.metrics import TriggerMetrics
from featurekit.monitor.triggers.record import Record
from featurekit.monitor.triggers.state import State
from featurekit.online.store.redis import RedisStore
from featurekit.project.trigger_settings import DriftCondition, PerformanceCondition, TriggerConfig
from featurekit.store import FeatureStore

__all__ = ["open_store"]
ACTIONS = [{"command": ["true"]}]


def trigger(**condition: Any) -> TriggerConfig:
    return TriggerConfig.model_validate({"actions": ACTIONS, **condition})


def looked(store: FeatureStore, config: TriggerConfig, state: State | None = None) -> Any:
    return look(config, state or State(), store.online.now_us(), lambda: nullcontext(store.parts))


def test_skew_is_found_where_a_state_has_lost_an_event(open_store):
    store = open_store(rows=orders(newest=dt.timedelta(days=2)))
    config = trigger(skew={"service": "service", "values": 2000})
    assert not looked(store, config).holds
    lose_an_event(store)
    found = looked(store, config)
    assert found.holds
    assert "values of service differ online from offline: of_customer__" in found.reason


def test_rows_are_counted_in_files_and_in_the_log_without_who_was_forgotten(open_store):
    store = open_store()
    config = trigger(new_rows={"source": "orders", "at_least": 10})
    first = looked(store, config)
    assert (first.holds, first.mark) == (False, 300)
    pushed = [{**row, "at": NOW, "known": None} for row in orders(9)]
    store.push("orders", pushed)
    state = State(mark=first.mark)
    assert not looked(store, config, state).holds
    write_orders(store, orders(301))
    found = looked(store, config, state)
    assert (found.holds, found.mark) == (True, 310)
    assert found.reason == "10 rows came to orders, where 10 are enough"
    store.forget("customer", {"customer": 1})
    assert looked(store, config, State(mark=found.mark)).mark < 310


def ask_many(store: FeatureStore, baskets: list[float]) -> None:
    """A request for each of many customers and shops, with a basket of their own."""
    rows = [{"customer": n, "shop": f"s{n}", "basket": b} for n, b in enumerate(baskets)]
    store.get_online_features("service", rows)
    store.parts.serving_log.flush()  # type: ignore[union-attr]


def border() -> int:
    """An instant between two windows, far enough from both for a look that begins a moment later
    than its window was reckoned."""
    time.sleep(0.5)
    at = time.time_ns() // 1000
    time.sleep(1.0)
    return at


def test_drift_is_found_from_the_window_before(open_store):
    store, rng = open_store(), random.Random(5)
    ask_many(store, [rng.random() for _ in range(800)])
    parted = border()
    ask_many(store, [rng.random() for _ in range(800)])

    def since(us: int) -> Any:
        window = f"{time.time_ns() // 1000 - us}us"
        settings = {"service": "service", "reference": "1h", "window": window}
        return looked(store, trigger(drift=settings))

    assert not since(parted).holds
    parted = border()
    ask_many(store, [rng.random() + 0.6 for _ in range(800)])
    found = since(parted)
    assert found.holds
    assert re.match("1 feature of service drifts in .*us, beside 1h: left$", found.reason)


def test_performance_is_that_of_the_outcomes_that_were_pushed(open_store):
    store, rng = open_store(), random.Random(5)
    config = trigger(performance={"service": "service", "measure": "auc", "below": 0.75})
    with pytest.raises(DataError, match="there is no outcome of service 'service'"):
        looked(store, config)
    ask_many(store, [0.5] * 300)
    at = dt.datetime.now(dt.UTC).isoformat()

    def push(good: bool) -> None:
        told = []
        for n in range(300):
            came = rng.random() < 0.5
            said = rng.random() * 0.5 + 0.5 * came if good else rng.random()
            told.append({"customer": n, "shop": f"s{n}", "at": at, "outcome": came,
                         "prediction": said})  # fmt: skip
        store.push_outcomes("service", told)

    push(good=True)
    assert not looked(store, config).holds
    push(good=False)
    found = looked(store, config)
    assert found.holds
    assert re.match(
        r"service, 300 rows in 7d: auc is 0\.\d+ \(.* to .*\), limit 0\.75$", found.reason
    )


def figure(feature: str, measure: str, value: float, chance: float | None = None) -> Any:
    from featurekit.monitor.drift.judge import Figure

    return Figure(feature, measure, value, 0.01, 0.2, chance, "drift" if value > 0.21 else "steady")


FIGURES = (figure("a", "psi", 0.4), figure("b", "psi", 0.25), figure("c", "psi", 0.9, chance=2.0),
           figure("a", "kolmogorov_smirnov", 0.9))  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, "2 features of s drift in 1d, beside 7d: a, b"),
        ({"features": ["b", "z"]}, "1 feature of s drifts in 1d, beside 7d: b"),
        ({"features": ["z"]}, None),
        ({"measure": "psi", "above": 0.3}, "1 feature of s has psi above 0.3 in 1d, beside 7d: a"),
        ({"measure": "psi", "above": 0.395}, None),
    ],
)
def test_drift_holds_for_the_features_and_the_measure_that_count(settings, names):
    asked = DriftCondition(service="s", reference="7d", **settings)
    found = drifted(asked, ["a", "b"], FIGURES)
    assert (found.reason if found.holds else None) == names


def performance(auc: tuple[float, float, float] | None, verdict: str = "") -> Any:
    from featurekit.monitor.performance.judge import Score
    from featurekit.monitor.performance.report import Performance

    low, value, high = auc or (None, 0.5, None)
    scores = (Score("auc", value, low, high, 0.8, verdict), Score("brier", 0.2, 0.1, 0.3, None, ""))
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return Performance("s", at, at, 9, 9, 9, 0, 0, 0, 0, 0, 0, "class", scores, ())


BELOW: Any = {"measure": "auc", "below": 0.75}


@pytest.mark.parametrize(
    ("settings", "auc", "verdict", "reason"),
    [
        (BELOW, (0.6, 0.7, 0.74), "", "s, 9 rows in 7d: auc is 0.7 (0.6 to 0.74), limit 0.75"),
        (BELOW, (0.6, 0.7, 0.76), "", None),
        (BELOW, None, "", None),
        ({"measure": "auc", "above": 0.75}, (0.76, 0.8, 0.9), "",
         "s, 9 rows in 7d: auc is 0.8 (0.76 to 0.9), limit 0.75"),
        ({"measure": "auc", "above": 0.75}, (0.74, 0.8, 0.9), "", None),
        ({}, (0.6, 0.7, 0.74), "worse", "s, 9 rows in 7d: auc is 0.7 (0.6 to 0.74), limit 0.8"),
        ({}, (0.6, 0.7, 0.74), "good", None),
    ],
)  # fmt: skip
def test_performance_holds_where_the_whole_interval_lies_beyond(settings, auc, verdict, reason):
    asked = PerformanceCondition(service="s", **settings)
    found = performed(asked, performance(auc, verdict))
    assert (found.reason if found.holds else None) == reason


# --- a round with a clock that tests set ----------------------------------------------------------


class Clock:
    """The store's clock, as a test sets it."""

    def __init__(self, at: dt.datetime) -> None:
        self.us = micros(at)

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def lead(tmp_path: Path, redis_store: RedisStore):
    """Makes a process that leads in this one, of these triggers; the store has the clock given."""

    def made(clock: Clock, **triggers: Any) -> tuple[Lead, Path]:
        repo = write_repo(tmp_path / "repo", redis_store.url, triggers=triggers)
        redis_store.clock = clock
        configs = {name: TriggerConfig.model_validate(one) for name, one in triggers.items()}
        parts = Parts(
            "tests",
            configs,
            lambda: nullcontext(None),  # type: ignore[arg-type]
            Record(repo),
            TriggerMetrics([*configs]),
            Where(repo, repo / "outputs"),
            print,
        )
        return Lead(parts, redis_store), repo

    yield made
    redis_store.clock = None


def test_a_schedule_over_a_change_of_clocks_is_done_once_a_day(lead, redis_store):
    """A year of nights in London, an hour at a time; 01:30 is left out once, and comes twice."""
    clock = Clock(dt.datetime(2026, 3, 25, tzinfo=dt.UTC))
    action = {"command": ["true"]}
    made, _ = lead(clock, night={"schedule": {"cron": "30 1 * * *", "timezone": "Europe/London"},
                                 "actions": [action]})  # fmt: skip
    made.step("night")
    for begin, days in ((clock.us, 8), (micros(dt.datetime(2026, 10, 22, tzinfo=dt.UTC)), 6)):
        clock.us = begin
        made.step("night")
        before = state_of(redis_store, "night").fired
        for _ in range(days * 24):
            clock.us += 3_600_000_000
            made.step("night")
        assert state_of(redis_store, "night").fired - before == days


def test_quiet_hours_over_a_change_of_clocks_end_by_the_clock_on_the_wall(lead, redis_store):
    clock = Clock(dt.datetime(2026, 3, 28, 23, 0, tzinfo=dt.UTC))
    quiet = {"start": "22:00", "end": "07:00", "timezone": "Europe/London"}
    action = {"command": ["sh", "-c", "echo a >> done.txt"]}
    made, repo = lead(clock, go={"event": "go", "quiet_hours": quiet, "actions": [action]})
    from featurekit.monitor.triggers.state import Occasion, change_state

    asked = Occasion("one", clock.us, "a test", "me")
    change_state(redis_store, "tests", "go", lambda state: state.with_asked(asked))
    seen = []
    for hour in range(9):
        made.step("go")
        seen.append((hour, len(done(repo))))
        clock.us += 3_600_000_000
    assert seen[-3:] == [(6, 0), (7, 1), (8, 1)], "07:00 of summer time is 06:00 UTC"


def test_two_that_believe_they_lead_never_do_the_same_one(lead, redis_store, tmp_path):
    """Without any lease: each claim is one step in the store."""
    clock = Clock(dt.datetime(2026, 3, 28, 12, 0, tzinfo=dt.UTC))
    action = {"command": ["sh", "-c", NOTES.format(folder=tmp_path / "repo")]}
    one, repo = lead(
        clock, tick={"schedule": "* * * * *", "actions": [action], "repeatable": False}
    )
    two = Lead(one.parts, redis_store)
    one.step("tick")
    for _ in range(6):
        clock.us += 60_000_000
        threads = [threading.Thread(target=lead_.step, args=("tick",)) for lead_ in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    occasions = done(repo)
    assert len(occasions) == len({*occasions})
    assert len(occasions) >= 1


def test_a_log_that_cannot_be_written_keeps_actions_from_being_done(lead, redis_store, tmp_path):
    clock = Clock(dt.datetime(2026, 3, 28, 12, 0, tzinfo=dt.UTC))
    action = {"command": ["sh", "-c", NOTES.format(folder=tmp_path / "repo")]}
    made, repo = lead(clock, tick={"schedule": "* * * * *", "actions": [action]})
    made.step("tick")
    (repo / "triggers.log").mkdir()
    clock.us += 60_000_000
    made.step("tick")
    (firing,) = state_of(redis_store, "tick").past
    assert (firing.phase, done(repo)) == ("failed", [])
    assert "nothing was done: " in firing.said


def test_a_look_that_fails_is_told_once_and_known(lead, redis_store, capsys):
    clock = Clock(dt.datetime(2026, 3, 28, 12, 0, tzinfo=dt.UTC))
    made, _ = lead(clock, bad={"skew": {"service": "service"}, "every": "1m", "actions": ACTIONS})

    def fails() -> Any:
        raise DataError("there is nothing to compare")

    object.__setattr__(made.parts, "opened", fails)
    for _ in range(3):
        made.step("bad")
        clock.us += 60_000_000
    assert state_of(redis_store, "bad").error == "there is nothing to compare"
    assert capsys.readouterr().out.count("trigger bad: there is nothing to compare") == 1
    looks = 'featurekit_trigger_looks_total{outcome="failed",trigger="bad"} 3.0'
    assert looks in made.parts.metrics.text().decode()


# --- names ----------------------------------------------------------------------------------------

WRONG = {
    "a service": (
        {"skew": {"service": "servce"}},
        "skew.service: there is no service 'servce'; did",
    ),
    "a source": (
        {"new_rows": {"source": "clicks", "at_least": 1}},
        "new_rows.source: no view reads a source 'clicks'; there are orders",
    ),
    "a feature": (
        {"drift": {"service": "service", "reference": "7d", "features": ["spend"]}},
        "drift.features: service service has no feature 'spend'; did you mean 'view__spend'",
    ),
    "a variable": (
        {"event": "go", "actions": [{"webhook": {"url_env": "NO_SUCH_URL"}}]},
        r"actions\.0: the environment has no variable NO_SUCH_URL; set it where",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_trigger_that_names_what_is_not_there_is_refused_at_the_start(
    what: str, tmp_path: Path, redis_store: RedisStore
) -> None:
    condition, said = WRONG[what]
    triggers = {"one": {"actions": ACTIONS, **condition}}
    repo = write_repo(tmp_path / "repo", redis_store.url, triggers=triggers)
    with (
        FeatureStore(repo) as store,
        pytest.raises(ConfigError, match=rf"featurekit\.triggers\.one\.{said}"),
    ):
        check_triggers(store.parts)


def test_what_runs_beside_and_is_not_there_is_refused_at_the_start(
    tmp_path: Path, redis_store: RedisStore
) -> None:
    for watch, said in (
        ({"consume": {"clicks": {}}}, r"watch\.consume\.clicks: no view reads a source 'clicks'"),
        ({"materialize": {"views": ["vew"]}}, r"watch\.materialize\.views: there is no view 'vew'"),
    ):
        repo = write_repo(tmp_path / "repo", redis_store.url, watch=watch)
        with FeatureStore(repo) as store, pytest.raises(ConfigError, match=said):
            check_watch(store.parts)
