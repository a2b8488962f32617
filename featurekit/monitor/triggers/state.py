"""Turns what is known of a trigger into a note in the online store, and back.

All who watch a project share the note. Who leads changes it under a lease, and a person or a server
of events adds to it. Each change compares the note with what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from featurekit.core.keys import project_key
from featurekit.errors import ConfigError
from featurekit.online.store.notes import read_object, write_object
from featurekit.online.store.protocol import OnlineStore

Phase = Literal["due", "asked", "approved", "claimed", "done", "failed", "lost", "rejected", "dry"]
"""What has become of a firing: it is `due`, a person is `asked`, has `approved` or `rejected` it;
it is `claimed` by a process that does its actions; these are `done`, have `failed`, or are `lost`,
since that process died; or it was `dry`."""
PHASES: tuple[Phase, ...] = get_args(Phase)
OPEN: tuple[Phase, ...] = ("due", "asked", "approved", "claimed")
_PAST, _KNOWN, _WAITING = 20, 200, 100


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing: its `number` among those of the trigger, the `reason`, and `at`, when it fell due
    in microseconds of the store's clock. `asker` asked for it from outside, and `judge` approved or
    rejected it. `holder` is the term of the process that claimed it, `step` the number of the
    action that is under way. `said` is how it ended, at `ended`."""

    number: int
    at: int
    reason: str
    phase: Phase = "due"
    asker: str = ""
    judge: str = ""
    holder: str = ""
    step: int = 0
    said: str = ""
    ended: int | None = None

    def occasion(self, trigger: str) -> str:
        """The name of the firing, the same wherever its actions are done."""
        return f"{trigger}-{self.number}"


@dataclass(frozen=True, slots=True)
class Occasion:
    """What was asked for from outside: by its `id`, so that it counts once."""

    id: str
    at: int
    reason: str
    asker: str


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a trigger.

    `fired` is the number of its firings. It was `looked` at last at an instant of the store's
    clock; then its condition `holds` or not, and `error` says why that could not be told. `mark` is
    up to where occasions were taken: an instant of a schedule, or a number of rows. `now` is the
    firing that is not over, `past` are the last ones that are. `asked` waits, and `known` are the
    ids of what was asked.
    """

    fired: int = 0
    looked: int | None = None
    holds: bool = False
    error: str = ""
    mark: int | None = None
    now: Firing | None = None
    past: tuple[Firing, ...] = ()
    asked: tuple[Occasion, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def last(self) -> Firing | None:
        """The newest firing."""
        return self.now or (self.past[0] if self.past else None)

    def over(self, phase: Phase, at: int, said: str = "") -> State:
        """As it is when the firing of now has ended."""
        assert self.now is not None
        ended = replace(self.now, phase=phase, ended=at, said=said)
        return replace(self, now=None, past=(ended, *self.past)[:_PAST])

    def with_asked(self, one: Occasion) -> State:
        """As it is when somebody asked; the same where that id is known. ConfigError where so many
        wait that nobody seems to watch."""
        if one.id in self.known:
            return self
        if len(self.asked) >= _WAITING:
            raise ConfigError(
                f"{_WAITING} occasions of it wait already; is `featurekit watch` running?"
            )
        known = (one.id, *self.known)[:_KNOWN]
        return replace(self, asked=(*self.asked, one), known=known)


def state_key(project: str, trigger: str) -> bytes:
    """The key of a trigger's note."""
    return project_key(project, "trigger", trigger)


def read_states(store: OnlineStore, project: str, names: Iterable[str]) -> dict[str, State]:
    """The state of each trigger. DamagedNote for one that is not as it was written."""
    names = list(names)
    values = store.read([state_key(project, name) for name in names]) if names else []
    return {name: _read(name, value) for name, value in zip(names, values, strict=True)}


def change_state(
    store: OnlineStore, project: str, trigger: str, change: Callable[[State], State]
) -> tuple[State, State]:
    """Change a trigger's state in one step: what it was, and what it is then. `change` may be
    called again where another writer was faster; what it raises is raised, and nothing is
    written."""
    before = after = State()

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        nonlocal before, after
        before = _read(trigger, values[0])
        after = change(before)
        return [None if after == before else _written(trigger, after)]

    store.update([state_key(project, trigger)], changed)
    return before, after


def _written(trigger: str, state: State) -> bytes:
    return write_object(f"trigger:{trigger}", asdict(state))


def _read(trigger: str, value: bytes | None) -> State:
    if not value:
        return State()
    return read_object(f"trigger:{trigger}", value, lambda found: {"state": _state(found)})["state"]


def _state(found: dict[str, Any]) -> State:
    now = found.pop("now")
    return State(
        now=None if now is None else _firing(now),
        past=tuple(map(_firing, found.pop("past"))),
        asked=tuple(Occasion(**one) for one in found.pop("asked")),
        known=tuple(found.pop("known")),
        **found,
    )


def _firing(found: dict[str, Any]) -> Firing:
    made = Firing(**found)
    if made.phase not in PHASES or type(made.number) is not int:
        raise ValueError("a firing that none writes")
    return made
