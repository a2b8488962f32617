"""Turns what becomes of firings into entries of a log that only grows, and tells of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from featurekit.errors import WriteError
from featurekit.log.audit import AuditLog
from featurekit.monitor.triggers.state import Firing, State
from featurekit.project.audit import acting_user, add_entry

FILE = "triggers.log"
VERB = "trigger"


class Record:
    """The log of a project's triggers in its state folder. `tell` is told a line of each entry."""

    def __init__(self, state_dir: Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.log = AuditLog(state_dir / FILE)
        self._tell = tell

    def entry(self, trigger: str, step: str, firing: Firing, **more: Any) -> None:
        """Add an entry about a firing, with its reason. WriteError where it cannot be written."""
        occasion = firing.occasion(trigger)
        about = {"trigger": trigger, "occasion": occasion, "reason": firing.reason, **more}
        for name in ("asker", "judge", "said"):
            value = more.get(name) or getattr(firing, name)
            if value:
                about[name] = value
        add_entry(self.log, acting_user(), VERB, step, about)
        said = about.get("said") or firing.reason
        self._tell(f"{occasion} {step}: {said}")

    def changes(self, trigger: str, before: State, after: State) -> None:
        """Add entries about what became of firings from one state to the next. WriteError where one
        cannot be written."""
        known = {one.number for one in before.past}
        for one in reversed(after.past):
            if one.number not in known:
                self.entry(trigger, one.phase, one)
        open_before, now = before.now, after.now
        if now is None:
            return
        if open_before is None or open_before.number != now.number:
            self.entry(trigger, "due", now)
            if now.phase != "due":
                self.entry(trigger, now.phase, now)
        elif (open_before.phase, open_before.holder) != (now.phase, now.holder):
            self.entry(trigger, now.phase, now)

    def changed_or_warn(self, trigger: str, before: State, after: State) -> None:
        """As `changes`; where the log cannot be written, that is told alone."""
        try:
            self.changes(trigger, before, after)
        except WriteError as error:
            self._tell(f"warning: {error}")
