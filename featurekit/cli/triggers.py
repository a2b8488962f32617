"""Turns what is known of triggers into what verbs show, and a person's word into their states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import Option, argument
from featurekit.core.types import instant
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.monitor.triggers.state import Firing, State
    from featurekit.project.project import Project
    from featurekit.project.trigger_settings import TriggerConfig

TRIGGER: Option = argument("trigger", metavar="TRIGGER", help="its name in feature_store.yaml")


def trigger_of(project: Project, name: str) -> TriggerConfig:
    """The trigger of a name. ConfigError where the repo has none."""
    from featurekit.core.calls import near

    known = project.config.featurekit.triggers
    if name not in known:
        said = near(name, known, listed="there are") if known else "there is none"
        raise ConfigError(
            f"no trigger {name!r} under featurekit: triggers: in feature_store.yaml; {said}"
        )
    return known[name]


def condition(config: TriggerConfig) -> str:
    """A condition as one line."""
    given = getattr(config, config.kind)
    if isinstance(given, str):
        return f"event {given}"
    fields = given.model_dump(exclude_defaults=True)
    return f"{config.kind} " + ", ".join(f"{name} {value}" for name, value in fields.items())


def phase_of(state: State) -> str:
    """What a trigger is at, as one word or two."""
    if state.now is not None:
        waits = {"due": "due", "asked": "waits for approval", "approved": "approved"}
        return waits.get(state.now.phase, "acts")
    if state.error:
        return "cannot be told"
    return "holds" if state.holds else "waits"


def firing_document(trigger: str, firing: Firing) -> dict[str, Any]:
    """A firing as programs read it."""
    return {
        "occasion": firing.occasion(trigger),
        "at": instant(firing.at),
        "phase": firing.phase,
        "reason": firing.reason,
        "asker": firing.asker or None,
        "judge": firing.judge or None,
        "said": firing.said or None,
        "ended": None if firing.ended is None else instant(firing.ended),
    }


def state_document(trigger: str, config: TriggerConfig, state: State) -> dict[str, Any]:
    """A trigger with its state as programs read it."""
    from featurekit.monitor.triggers.actions import shown

    return {
        "trigger": trigger,
        "condition": condition(config),
        "actions": [shown(action) for action in config.actions],
        "phase": phase_of(state),
        "fired": state.fired,
        "looked": None if state.looked is None else instant(state.looked),
        "holds": state.holds,
        "error": state.error or None,
        "waiting": len(state.asked),
        "now": None if state.now is None else firing_document(trigger, state.now),
        "past": [firing_document(trigger, one) for one in state.past],
    }
