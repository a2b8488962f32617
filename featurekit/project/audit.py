"""Turns what a process does to a project into entries of the audit log.

A verb that changes something has an entry before it begins and one at its end, so that one whose
process died is told as well. What an entry names are definitions, versions and counts: never a
setting, a value of an event, or a key of an entity.

A push costs less than the writing of an entry, and its rows stand in the log of pushes with the
instant at which they arrived. So a process has an entry before its first push to a source, and one
with counts every ten minutes and at its end. Of a process that died, the rows of the last minutes
are counted in the log of pushes alone.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from featurekit.core.who import user
from featurekit.errors import WriteError
from featurekit.log.audit import AuditLog, Head

FILE = "audit.log"
BEGUN, DONE, FAILED, GOES_ON = "begun", "done", "failed", "goes on"
EVERY_S = 600.0
_acting: ContextVar[str] = ContextVar("acting", default="")


@contextmanager
def acting(who: str) -> Iterator[None]:
    """What the block does is done for `who`, such as the name of an API key, which entries have
    behind the name of the process's user."""
    token = _acting.set(who)
    try:
        yield
    finally:
        _acting.reset(token)


def acting_user() -> str:
    """Who does what is done now: the user of the process, and for whom."""
    acting_for = _acting.get()
    return f"{user()} for {acting_for}" if acting_for else user()


class PushTally:
    """What this process has pushed to a source for somebody, and what of it was told."""

    def __init__(self, who: str, source: str) -> None:
        self.who, self.source = who, source
        self.begun = self.taken = self.rows = 0
        self.until = 0.0
        self.lock = threading.Lock()
        self._told = (0, 0, 0)

    def took(self, rows: int) -> None:
        """Count a push that was taken."""
        with self.lock:
            self.taken += 1
            self.rows += rows

    def tell(self, log: AuditLog, step: str) -> None:
        """Add an entry with the counts since the last one, under the lock; at the end there is none
        where nothing was pushed."""
        now = (self.begun, self.taken, self.rows)
        if now != self._told or step != DONE:
            first = not any(now)
            begun, taken, rows = (n - told for n, told in zip(now, self._told, strict=True))
            counts = {} if first else {"begun": begun, "taken": taken, "rows": rows}
            add_entry(log, self.who, "push", step, {"source": self.source, **counts})
        self._told = now


class Audit:
    """The audit log of a project, which is kept in `folder`; without one, nothing is."""

    def __init__(self, folder: Path | None) -> None:
        self.log = None if folder is None else AuditLog(folder / FILE)
        self._pid = os.getpid()
        self._tallies: dict[tuple[str, str], PushTally] = {}
        if self.log is not None:
            weakref.finalize(self, _end, self.log, self._tallies, self._pid)

    def note(self, verb: str, about: Mapping[str, Any]) -> None:
        """Add an entry about something that is done at once."""
        self._add(verb, DONE, about)

    @contextmanager
    def doing(self, verb: str, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Add an entry before the block and one behind it, which has the number of the first one
        and what the block puts into the dict.

        WriteError, before the block, where the log cannot be written; behind it, the error says
        that the verb is done.
        """
        found: dict[str, Any] = {}
        begun = self._add(verb, BEGUN, about)
        number = {} if begun is None else {"begun": begun.number}
        try:
            yield found
        except BaseException as error:
            with suppress(Exception):  # the first error is the one to report
                self._add(verb, FAILED, {**number, "error": type(error).__name__})
            raise
        try:
            self._add(verb, DONE, {**number, **found})
        except WriteError as error:
            raise WriteError(
                f"{verb} is done, and the audit log has its beginning alone: {error}"
            ) from error

    def _add(self, verb: str, step: str, about: Mapping[str, Any]) -> Head | None:
        return None if self.log is None else add_entry(self.log, acting_user(), verb, step, about)

    # --- pushes -----------------------------------------------------------------------------------

    def pushing(self, source: str) -> PushTally:
        """Count a push that begins, and add an entry where one is due; WriteError where that cannot
        be written. Tell the tally when the push was taken."""
        key = _acting.get(), source
        tally = self._tallies.get(key)
        if tally is None or self._pid != os.getpid():
            tally = self._begin(key)
        if time.monotonic() >= tally.until and self.log is not None:
            self._tell(self.log, tally)
        with tally.lock:
            tally.begun += 1
        return tally

    def _begin(self, key: tuple[str, str]) -> PushTally:
        if self._pid != os.getpid():
            # What the parent has pushed is for the parent to tell.
            self._pid, self._tallies = os.getpid(), {}
            if self.log is not None:
                weakref.finalize(self, _end, self.log, self._tallies, self._pid)
        return self._tallies.setdefault(key, PushTally(acting_user(), key[1]))

    def _tell(self, log: AuditLog, tally: PushTally) -> None:
        with tally.lock:
            if time.monotonic() >= tally.until:  # else another thread was faster
                tally.tell(log, GOES_ON if tally.begun else BEGUN)
                tally.until = time.monotonic() + EVERY_S

    def close(self) -> None:
        """Add what was pushed and is not told yet."""
        if self.log is not None:
            _end(self.log, self._tallies, self._pid)


def _end(log: AuditLog, tallies: dict[tuple[str, str], PushTally], pid: int) -> None:
    """Tell the counts of pushes at their end. The pushes were taken, and nobody waits for this: an
    error of it is left out, for the entries before them stay, and the rows are in the log."""
    if pid != os.getpid() or not log.path.exists():
        return
    for tally in list(tallies.values()):
        with tally.lock, suppress(WriteError):
            tally.until = 0.0
            tally.tell(log, DONE)


def add_entry(log: AuditLog, who: str, verb: str, step: str, about: Mapping[str, Any]) -> Head:
    """Add an entry of now and of this process to a log. WriteError where it cannot be written."""
    return log.append(
        {
            "at": dt.datetime.now(dt.UTC).isoformat(),
            "who": who,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "verb": verb,
            "step": step,
            "about": dict(about),
        }
    )
