"""What comes next for a trigger, by its settings, what is known of it, and what was found."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekit.core.types import micros
from featurekit.errors import ConfigError
from featurekit.monitor.triggers.conditions import counted, scheduled
from featurekit.monitor.triggers.decide import (
    Found,
    claimed,
    found_lost,
    looked,
    must_look,
    ready,
    silent,
    taken,
    unlooked,
)
from featurekit.monitor.triggers.state import Occasion, State
from featurekit.project.trigger_settings import NewRowsCondition, Schedule, TriggerConfig

ACTIONS = [{"command": ["true"]}]
HOUR = 3_600_000_000
NOW = micros(dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC))


def config(**settings: Any) -> TriggerConfig:
    return TriggerConfig(**{"actions": ACTIONS, **settings})


def level(**settings: Any) -> TriggerConfig:
    """A trigger whose condition holds or not."""
    return config(skew={"service": "checkout"}, **settings)


HOLDS, HOLDS_NOT = Found(True, "it is so"), Found(False, "")


def over(config: TriggerConfig, state: State, now: int) -> State:
    """The state after what is due was done."""
    state = claimed(ready(config, state, now), "me")
    return state.over("done", now) if state.now is not None else state


def test_a_condition_fires_when_it_begins_to_hold_and_not_while_it_goes_on() -> None:
    trigger, state, fired = level(), State(), []
    for hour, found in enumerate([HOLDS_NOT, HOLDS, HOLDS, HOLDS_NOT, HOLDS]):
        state = over(trigger, looked(trigger, state, found, NOW + hour * HOUR), NOW + hour * HOUR)
        fired.append(state.fired)
    assert fired == [0, 1, 1, 1, 2]


def test_with_a_cool_down_it_fires_again_after_each_while_it_goes_on() -> None:
    trigger, state, fired = level(cooldown="2h"), State(), []
    for hour in range(6):
        now = NOW + hour * HOUR
        state = over(trigger, looked(trigger, state, HOLDS, now), now)
        fired.append(state.fired)
    assert fired == [1, 1, 2, 2, 3, 3]


def test_what_began_in_a_cool_down_fires_after_it() -> None:
    trigger, state = level(cooldown="3h"), State()
    fired = []
    for hour, found in enumerate([HOLDS, HOLDS_NOT, HOLDS, HOLDS]):
        now = NOW + hour * HOUR
        state = over(trigger, looked(trigger, state, found, now), now)
        fired.append(state.fired)
    assert fired == [1, 1, 1, 2]


def test_a_look_that_fails_changes_nothing_of_what_held() -> None:
    trigger = level()
    state = over(trigger, looked(trigger, State(), HOLDS, NOW), NOW)
    state = unlooked(state, "Redis is away", NOW + HOUR)
    assert (state.holds, state.error) == (True, "Redis is away")
    state = looked(trigger, state, HOLDS, NOW + 2 * HOUR)
    assert (state.fired, state.error) == (1, "")


def test_looks_are_as_far_apart_as_the_settings_say() -> None:
    trigger = level(every="10m")
    assert must_look(trigger, State(), NOW)
    state = looked(trigger, State(), HOLDS_NOT, NOW)
    assert not must_look(trigger, state, NOW + 10 * 60_000_000 - 1)
    assert must_look(trigger, state, NOW + 10 * 60_000_000)
    open_ = looked(trigger, State(), HOLDS, NOW)
    assert not must_look(trigger, open_, NOW + 100 * HOUR), "a firing that is not over comes first"


# --- schedules ------------------------------------------------------------------------------------


def run_schedule(trigger: TriggerConfig, seconds: list[int]) -> list[tuple[int, str]]:
    """When it fired, of the seconds after NOW at which it was come by, and why."""
    state, found = State(), []
    assert trigger.schedule is not None
    for second in seconds:
        now = NOW + second * 1_000_000
        if must_look(trigger, state, now):
            seen = scheduled(trigger.schedule, state.mark, now)
            state = looked(trigger, state, seen, now)
        if state.now is not None:
            found.append((second, state.now.reason))
        state = over(trigger, state, now)
    return found


def test_a_schedule_fires_once_for_each_instant() -> None:
    fired = run_schedule(config(schedule="*/10 * * * *"), list(range(0, 3601, 7)))
    assert [second // 600 for second, _ in fired] == [1, 2, 3, 4, 5]


def test_before_the_first_look_no_instant_counts() -> None:
    assert run_schedule(config(schedule="0 12 * * *"), [0, 1, 60]) == []


def test_of_several_instants_that_were_missed_the_last_one_counts() -> None:
    (only,) = run_schedule(config(schedule="*/10 * * * *"), [0, 3590])
    assert only == (3590, "*/10 * * * * in UTC came at 2026-03-29T12:50+00:00")


def test_an_instant_in_a_cool_down_is_left_out() -> None:
    fired = run_schedule(config(schedule="*/10 * * * *", cooldown="25m"), list(range(0, 5400, 5)))
    assert [second // 60 for second, _ in fired] == [10, 40, 70]


# --- rows -----------------------------------------------------------------------------------------


def run_rows(trigger: TriggerConfig, counts: list[int]) -> list[int]:
    """How often it had fired after each count, an hour apart."""
    state, fired = State(), []
    assert trigger.new_rows is not None
    for hour, rows in enumerate(counts):
        now = NOW + hour * HOUR
        found = counted(trigger.new_rows, state.mark, rows)
        state = over(trigger, looked(trigger, state, found, now), now)
        fired.append(state.fired)
    return fired


def rows(**settings: Any) -> TriggerConfig:
    return config(new_rows=NewRowsCondition(source="orders", at_least=100), **settings)


def test_rows_count_from_the_first_look_and_then_from_the_last_firing() -> None:
    assert run_rows(rows(), [5000, 5099, 5100, 5150, 5199, 5200]) == [0, 0, 1, 1, 1, 2]


def test_rows_of_who_was_forgotten_do_not_hide_new_ones() -> None:
    assert run_rows(rows(), [5000, 4000, 4099, 4100]) == [0, 0, 0, 1]


def test_rows_that_come_in_a_cool_down_count_after_it() -> None:
    assert run_rows(rows(cooldown="3h"), [0, 100, 200, 250, 260]) == [0, 1, 1, 1, 2]


# --- what a person or an event asks for -----------------------------------------------------------


def asked(n: int) -> Occasion:
    return Occasion(f"id{n}", NOW, f"reason {n}", "somebody")


def test_what_is_asked_counts_once_by_its_id() -> None:
    trigger = config(event="go")
    state = State().with_asked(asked(1)).with_asked(asked(1)).with_asked(asked(2))
    state = taken(trigger, state, NOW)
    assert state.now is not None
    assert state.now.reason == "2 occasions: reason 1; reason 2"
    state = over(trigger, state, NOW).with_asked(asked(1))
    assert taken(trigger, state, NOW).fired == 1, "it is known after it fired, too"


def test_what_nobody_takes_is_bounded() -> None:
    state = State()
    for n in range(100):
        state = state.with_asked(asked(n))
    with pytest.raises(ConfigError, match="100 occasions of it wait already"):
        state.with_asked(asked(100))


# --- quiet hours, approval, dry runs --------------------------------------------------------------


def test_quiet_hours_over_midnight_hold_a_firing_back_until_their_end() -> None:
    """In London, whose clocks go forward in the night of 29 March 2026."""
    quiet = {"start": "22:00", "end": "07:00", "timezone": "Europe/London"}
    trigger = level(quiet_hours=quiet)
    begun = micros(dt.datetime(2026, 3, 28, 21, 59, tzinfo=dt.UTC))
    state = looked(trigger, State(), HOLDS, begun + 60_000_000)
    waits = [
        ready(trigger, state, begun + minute * 60_000_000).now.phase  # type: ignore[union-attr]
        for minute in (1, 120, 8 * 60, 8 * 60 + 1)
    ]
    # 07:00 of summer time is 06:00 UTC, eight hours and a minute after 21:59.
    assert waits == ["due", "due", "due", "approved"]
    early = looked(trigger, State(), HOLDS, begun)
    assert ready(trigger, early, begun).now.phase == "approved"  # type: ignore[union-attr]


def test_a_person_is_asked_and_nothing_is_claimed_before() -> None:
    trigger = level(approve=True)
    state = ready(trigger, looked(trigger, State(), HOLDS, NOW), NOW)
    assert state.now is not None
    assert claimed(state, "me").now.phase == "asked"  # type: ignore[union-attr]
    yes = replace(state, now=replace(state.now, phase="approved", judge="ann"))
    assert claimed(yes, "me").now.phase == "claimed"  # type: ignore[union-attr]


def test_a_dry_run_is_over_before_it_is_claimed() -> None:
    trigger = level(dry_run=True, approve=True)
    state = ready(trigger, looked(trigger, State(), HOLDS, NOW), NOW)
    assert (state.now, state.past[0].phase) == (None, "dry")


# --- who died -------------------------------------------------------------------------------------


def claimed_by(holder: str, trigger: TriggerConfig) -> State:
    return claimed(ready(trigger, looked(trigger, State(), HOLDS, NOW), NOW), holder)


def test_what_a_dead_process_had_claimed_is_lost_and_not_done_again() -> None:
    trigger = level()
    state = claimed_by("dead", trigger)
    assert found_lost(trigger, state, "dead", NOW) == state
    lost = found_lost(trigger, state, "next", NOW + HOUR)
    assert (lost.now, lost.past[0].phase) == (None, "lost")
    assert looked(trigger, lost, HOLDS, NOW + HOUR).now is None


def test_what_may_be_done_again_goes_on_with_the_action_that_was_under_way() -> None:
    trigger = level(repeatable=True)
    state = claimed_by("dead", trigger)
    assert state.now is not None
    state = found_lost(trigger, replace(state, now=replace(state.now, step=1)), "next", NOW)
    assert (state.now.holder, state.now.step, state.fired) == ("next", 1, 1)  # type: ignore[union-attr]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=40),
    st.sampled_from([None, "1h", "3h", "9h"]),
)
def test_two_firings_are_never_closer_than_the_cool_down_and_never_without_cause(
    looks: list[tuple[bool, int]], cooldown: str | None
) -> None:
    trigger, state, now, at = level(cooldown=cooldown), State(), NOW, []
    held = False
    for holds, hours in looks:
        now += hours * HOUR
        quiet = silent(trigger, state, now)
        before = state.fired
        state = looked(trigger, state, HOLDS if holds else HOLDS_NOT, now)
        wanted = holds and not quiet and (not held or cooldown is not None)
        assert state.fired - before == wanted
        held = holds
        if state.now is not None:
            at.append(state.now.at)
        state = over(trigger, state, now)
    gaps = [b - a for a, b in pairwise(at)]
    assert all(gap >= (trigger.cooldown_us or 0) for gap in gaps)


def test_a_schedule_takes_the_expression_alone() -> None:
    assert config(schedule="0 3 * * *").schedule == Schedule(cron="0 3 * * *", timezone="UTC")
