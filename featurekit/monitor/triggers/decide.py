"""Turns what is known of a trigger and what was found into what comes next: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from featurekit.core.types import instant
from featurekit.monitor.triggers.state import Firing, Occasion, Phase, State
from featurekit.project.trigger_settings import TriggerConfig


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a condition found: whether it `holds`, the reason in words, and up to where
    occasions are taken by that, None where there is nothing to remember."""

    holds: bool
    reason: str
    mark: int | None = None


def must_look(config: TriggerConfig, state: State, now: int) -> bool:
    """Whether it is time to look at the condition: a firing that is not over comes first."""
    if state.now is not None or config.event is not None:
        return False
    if config.schedule is not None:
        return state.mark is None or config.schedule.times.after(state.mark) <= now
    return state.looked is None or now >= state.looked + int(config.every_s * 1e6)


def silent(config: TriggerConfig, state: State, now: int) -> bool:
    """Whether the cool-down after the last firing lasts on."""
    last = state.last
    return (
        config.cooldown_us is not None and last is not None and now < last.at + config.cooldown_us
    )


def looked(config: TriggerConfig, state: State, found: Found, now: int) -> State:
    """The state after a look, with a firing where there is to be one.

    A schedule and new rows fire once for what lies behind their mark. Another condition fires when
    it begins to hold and, where there is a cool-down, again after each while it goes on holding.
    """
    counted = config.schedule is not None or config.new_rows is not None
    made = replace(state, looked=now, holds=found.holds and not counted, error="")
    if not found.holds:
        return replace(made, mark=state.mark if found.mark is None else found.mark)
    if silent(config, state, now):
        # What is scheduled in a cool-down is over with it; rows go on counting.
        return replace(made, mark=found.mark) if config.schedule is not None else made
    if counted:
        return fires(replace(made, mark=found.mark), found.reason, now)
    if state.holds and config.cooldown_us is None:
        return made
    return fires(made, found.reason, now)


def unlooked(state: State, error: str, now: int) -> State:
    """The state after a look that failed: whether the condition holds is not known anew."""
    return replace(state, looked=now, error=error[:2000])


def taken(config: TriggerConfig, state: State, now: int) -> State:
    """The state with a firing for what was asked from outside, where something was and the
    cool-down is over: all that waits is one firing."""
    if state.now is not None or not state.asked or silent(config, state, now):
        return state
    made = replace(state, asked=())
    return fires(made, _reasons(state.asked), now, asker=_askers(state.asked))


def _reasons(asked: Sequence[Occasion]) -> str:
    said = "; ".join(dict.fromkeys(one.reason for one in asked))
    return said if len(asked) == 1 else f"{len(asked)} occasions: {said}"[:2000]


def _askers(asked: Sequence[Occasion]) -> str:
    return ", ".join(dict.fromkeys(one.asker for one in asked))[:500]


def fires(state: State, reason: str, now: int, *, asker: str = "") -> State:
    """The state with a firing that is due."""
    firing = Firing(state.fired + 1, now, reason[:2000], asker=asker)
    return replace(state, fired=firing.number, now=firing)


def ready(config: TriggerConfig, state: State, now: int) -> State:
    """The state of a firing that is due, as it goes on: a person is asked, or it may be claimed.
    What a person has approved waits for no quiet hours."""
    firing = state.now
    if firing is None or firing.phase != "due":
        return state
    if config.quiet_hours is not None and config.quiet_hours.hold(instant(now)):
        return state
    if config.dry_run:
        return state.over("dry", now, "dry_run: nothing was done")
    phase: Phase = "asked" if config.approve else "approved"
    return replace(state, now=replace(firing, phase=phase))


def at_step(state: State, step: int) -> State:
    """The state of a firing that goes on with another action."""
    assert state.now is not None
    return replace(state, now=replace(state.now, step=step))


def claimed(state: State, holder: str) -> State:
    """The state of an approved firing as `holder` has claimed it; the same where there is none."""
    firing = state.now
    if firing is None or firing.phase != "approved":
        return state
    return replace(state, now=replace(firing, phase="claimed", holder=holder))


def found_lost(config: TriggerConfig, state: State, holder: str, now: int) -> State:
    """The state where a firing was claimed by another than `holder`, who leads alone: it is lost,
    or goes on with the action that was under way where that may be done again."""
    firing = state.now
    if firing is None or firing.phase != "claimed" or firing.holder == holder:
        return state
    if config.repeatable:
        return replace(state, now=replace(firing, holder=holder))
    done = f"{firing.step} of its actions were done before" if firing.step else "none was done"
    return state.over(
        "lost", now, f"the process that did it ended during action {firing.step + 1}; {done}"
    )
