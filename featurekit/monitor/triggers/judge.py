"""Takes what a person says of a trigger: yes or no to a firing, or that it is to fire."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from featurekit.core.types import instant
from featurekit.errors import ConfigError, WriteError
from featurekit.monitor.triggers.actions import shown
from featurekit.monitor.triggers.conditions import look
from featurekit.monitor.triggers.decide import silent
from featurekit.monitor.triggers.record import Record
from featurekit.monitor.triggers.state import (
    Firing,
    Occasion,
    State,
    change_state,
    read_states,
)
from featurekit.project.audit import acting_user
from featurekit.project.project import Project
from featurekit.project.trigger_settings import TriggerConfig


def judge(
    project: Project, trigger: str, *, occasion: str | None, yes: bool, said: str = ""
) -> Firing:
    """Approve the firing that waits for it, or reject one that is not begun; the firing as it is
    then. ConfigError, with nothing changed, where there is none, or another than `occasion`."""
    who, now = acting_user(), project.online.now_us()

    def judged(state: State) -> State:
        firing = state.now
        waits = ("asked",) if yes else ("due", "asked", "approved")
        if firing is None or firing.phase not in waits:
            raise ConfigError(_nothing(trigger, state, yes=yes))
        if occasion not in (None, firing.occasion(trigger)):
            raise ConfigError(
                f"--occasion {occasion}: what waits is {firing.occasion(trigger)}: {firing.reason}"
            )
        if yes:
            return replace(state, now=replace(firing, phase="approved", judge=who))
        state = replace(state, now=replace(firing, judge=who))
        return state.over("rejected", now, said)

    before, after = change_state(project.online, project.name, trigger, judged)
    try:
        Record(project.state_dir).changes(trigger, before, after)
    except WriteError as error:
        what = "approved" if yes else "rejected"
        raise WriteError(f"the firing is {what}, and the log does not say so: {error}") from error
    made = after.now if yes else after.past[0]
    assert made is not None
    return made


def _nothing(trigger: str, state: State, *, yes: bool) -> str:
    last = state.last
    how = "" if last is None else f"; {last.occasion(trigger)} is {last.phase}"
    what = "waits for approval" if yes else "can be rejected"
    return f"no firing of trigger {trigger} {what}{how}"


def ask(project: Project, trigger: str, *, id_: str, reason: str) -> None:
    """Have a trigger fire; what is asked twice by one id counts once."""
    one = Occasion(id_, project.online.now_us(), reason, acting_user())
    change_state(project.online, project.name, trigger, lambda state: state.with_asked(one))


def try_out(project: Project, trigger: str, config: TriggerConfig) -> dict[str, Any]:
    """What a trigger would do now: whether its condition holds, None where it has none to look at,
    the reason, the actions, and what comes first. Nothing is changed."""
    now = project.online.now_us()
    state = read_states(project.online, project.name, [trigger])[trigger]
    holds, reason = None, "It fires when its event comes."
    if config.event is None:
        found = look(config, state, now, lambda: nullcontext(project))
        holds, reason = found.holds, found.reason
    first = []
    if silent(config, state, now):
        first.append(f"the cool-down of {config.cooldown} ends")
    if config.quiet_hours is not None and config.quiet_hours.hold(instant(now)):
        first.append(f"the quiet hours end, at {config.quiet_hours.end}")
    if config.approve:
        first.append("a person says yes")
    return {
        "trigger": trigger,
        "holds": holds,
        "reason": reason,
        "actions": [shown(action) for action in config.actions],
        "first": first,
    }
