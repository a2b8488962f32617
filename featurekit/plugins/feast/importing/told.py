"""What an import says of each definition of Feast: whether it came over, and what to do if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["carried", "changed", "not carried"]
OUTCOMES: tuple[Outcome, ...] = ("carried", "changed", "not carried")


@dataclass(frozen=True, slots=True)
class Note:
    """What is other than in Feast: `what`, and what to do `instead` where there is something. It is
    `lost` where the thing did not come over."""

    what: str
    instead: str = ""
    lost: bool = False


@dataclass(slots=True)
class Told:
    """One definition of Feast, by its kind and name, what it is `here`, and what is said of it."""

    kind: str
    name: str
    here: str = ""
    notes: list[Note] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        """Lost where any of its notes says so, and changed where there is a note."""
        if any(note.lost for note in self.notes):
            return "not carried"
        return "changed" if self.notes else "carried"

    def changed(self, what: str, instead: str = "") -> None:
        """Say that it means something else here."""
        note = Note(what, instead)
        if note not in self.notes:
            self.notes.append(note)

    def lost(self, what: str, instead: str) -> None:
        """Say that it did not come over, and what to write instead."""
        self.notes.append(Note(what, instead, lost=True))

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        notes = [{"what": n.what, "instead": n.instead, "lost": n.lost} for n in self.notes]
        return {
            "kind": self.kind,
            "name": self.name,
            "here": self.here,
            "outcome": self.outcome,
            "notes": notes,
        }


@dataclass(slots=True)
class Report:
    """Everything that an import says, in the order in which it was read."""

    entries: dict[tuple[str, str], Told] = field(default_factory=dict)

    def about(self, kind: str, name: str) -> Told:
        """What is said of one definition."""
        return self.entries.setdefault((kind, name), Told(kind, name))

    def __iter__(self) -> Iterator[Told]:
        return iter(self.entries.values())

    def counts(self) -> dict[str, dict[str, int]]:
        """How many of each kind came over, were changed, and did not come over."""
        found: dict[str, Counter[str]] = {}
        for one in self:
            found.setdefault(one.kind, Counter())[one.outcome] += 1
        return {kind: {o: count[o] for o in OUTCOMES} for kind, count in found.items()}
