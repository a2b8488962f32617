"""What a kind of stream offers to the consumer that takes events from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """What a stream has given to this member of its group.

    Of the `messages`, `taken_over` were held by members that stopped answering. `gone` were lost
    before they could be read. `ended` says whether nothing is left that no other member holds.
    """

    messages: list[Any] = field(default_factory=list)
    taken_over: int = 0
    gone: int = 0
    ended: bool = False


class Stream(Protocol):
    """A stream, as one member of a group reads it. It delivers a message again until that is
    finished."""

    numbered: bool
    """Whether its messages come in order in parts of it, so that a source needs no `event_id`."""

    def join(self) -> None:
        """Become a member of the group. StoreUnavailable where the server cannot be reached."""

    def read(self, *, wait: bool) -> Found:
        """The next messages; with `wait`, it waits a moment for some."""

    def row(self, message: Any) -> dict[str, Any]:
        """The row that a message stands for. SourceError where it stands for none."""

    def part(self, message: Any) -> str:
        """The part of the stream that a message belongs to, of a stream that is `numbered`."""

    def number(self, message: Any) -> int:
        """The number of a message in its part. Numbers grow, and may leave some out."""

    def digest(self, message: Any) -> str:
        """A hash of what a message is."""

    def where(self, message: Any) -> str:
        """Where a message stands, for people."""

    def shown(self, message: Any) -> dict[str, Any]:
        """A message as JSON has it, for a file of what was set aside."""

    def give_away(self, message: Any, reason: str) -> bool:
        """Send a message that cannot be taken to where such messages go; False where the stream
        has no such place."""

    def finish(self, messages: Sequence[Any]) -> bool:
        """Let the server know that the messages are done; False where they now belong to another
        member, which will be given them again."""

    def waiting(self) -> tuple[int | None, float]:
        """How many messages the group has not finished, None where the server does not tell, and
        the age of the oldest of them in seconds, by the instants that the stream gives; 0 where
        there is none."""

    def close(self) -> None:
        """Leave the group."""
