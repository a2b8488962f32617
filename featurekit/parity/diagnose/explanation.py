"""How one value came about, as data: what each path says, the events, the nodes and the steps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.types import instant
from featurekit.parity.compare import Stated, parts


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of the entity. `value` is its input to the feature, `ERROR` where that errs; `why`
    says what the rules make of it, `offline` and `online` whether each path counts it; None where
    that path does not answer. `known` tells whether the live state holds it."""

    row: Mapping[str, Any]
    value: Any
    counts: bool
    why: str
    offline: bool | None
    online: bool | None
    known: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a transform: its text, what it was given, and what each path makes of it."""

    event: int | None
    text: str
    inputs: tuple[tuple[str, Any], ...]
    offline: Any
    online: Any


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of another view from which an event may have taken something (T11). `event` is the
    event's number, from 1; `values` are the columns that it has of the row. `why` says what the
    rules make of the row, and `taken` whether it is the one that was taken. Where the other view
    has no row of the entity, there is one candidate with `row` None."""

    event: int
    view: str
    row: Mapping[str, Any] | None
    values: Mapping[str, Any]
    taken: bool
    why: str


@dataclass(slots=True)
class Explanation(Named):
    """How one value came about; see `FeatureStore.explain`.

    `offline` and `online` are values and statuses, None where a path does not answer, and then a
    note says why. `events` are those that counted and the nearest that did not, oldest first, and
    `omitted` how many others there are. `steps` are of the aggregate; `inputs`, of a request-time
    transform, the fields and features that it reads. `taken` are, for the newest events that
    count, the rows of other views from which they take something, and the nearest of those from
    which they do not.
    """

    service: str
    feature: str
    row: dict[str, Any]
    as_of: dt.datetime
    offline: Stated | None = None
    online: Stated | None = None
    definition: str = ""
    window: tuple[dt.datetime | None, dt.datetime] | None = None
    events: list[Seen] = field(default_factory=list)
    omitted: int = 0
    nodes: list[Node] = field(default_factory=list)
    steps: list[tuple[str, Any]] = field(default_factory=list)
    inputs: list[tuple[str, str, Stated | None, Stated | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: list[Candidate] = field(default_factory=list)

    @property
    def agree(self) -> bool | None:
        """Whether both paths give the same bits and status; None where one does not answer."""
        if self.offline is None or self.online is None:
            return None
        return not parts(self.offline, self.online)

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "service": self.service,
            "feature": self.feature,
            "entity": self.row,
            "as_of": self.as_of,
            "offline": _dict(self.offline),
            "online": _dict(self.online),
            "agree": self.agree,
            "definition": self.definition,
            "window": None
            if self.window is None
            else {"after": self.window[0], "until": self.window[1]},
            "events": [
                {
                    **{n: v for n, v in e.row.items() if not n.startswith("__")},
                    "happened": instant(e.row["__ts"]),
                    "arrived": instant(e.row["__created"]),
                    "input": e.value,
                    "counts": e.counts,
                    "why": e.why,
                    "offline": e.offline,
                    "online": e.online,
                    "in_live_state": e.known,
                }
                for e in self.events
            ],
            "omitted": self.omitted,
            "nodes": [
                {
                    "event": n.event,
                    "node": n.text,
                    "inputs": dict(n.inputs),
                    "offline": n.offline,
                    "online": n.online,
                }
                for n in self.nodes
            ],
            "steps": [{"step": name, "value": value} for name, value in self.steps],
            "inputs": [
                {"name": name, "kind": kind, "offline": _dict(one), "online": _dict(other)}
                for name, kind, one, other in self.inputs
            ],
            "taken": [
                {
                    "event": c.event,
                    "view": c.view,
                    "happened": None if c.row is None else instant(c.row["__ts"]),
                    "arrived": None if c.row is None else instant(c.row["__created"]),
                    "values": dict(c.values),
                    "taken": c.taken,
                    "why": c.why,
                }
                for c in self.taken
            ],
            "notes": self.notes,
        }


def _dict(stated: Stated | None) -> dict[str, Any] | None:
    return None if stated is None else {"value": stated[0], "status": stated[1]}
