"""Turns what somebody looks for into the items of a catalogue that have it, the nearest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featurekit.core.calls import near
from featurekit.errors import DefinitionError
from featurekit.project.catalog import KINDS, Item


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: words, in any case, each of which stands somewhere in an item; its kind;
    a part of its owner's name; tags, as "team" or "team=shop"; whether it is deprecated. None, or
    nothing, is whatever there is."""

    words: str = ""
    kind: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    deprecated: bool | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise DefinitionError(
                f"kind is {self.kind!r}; {near(self.kind, KINDS, listed='it is one of')}"
            )

    def fits(self, item: Item) -> bool:
        """Whether an item is looked for."""
        if self.kind not in (None, item.kind):
            return False
        if self.deprecated not in (None, item.deprecated is not None):
            return False
        if self.owner is not None and self.owner.lower() not in item.owner.lower():
            return False
        if not all(_has_tag(item, tag) for tag in self.tags):
            return False
        text = _text(item)
        return all(word in text for word in self.words.lower().split())

    def rank(self, item: Item) -> int:
        """How far an item's name is from the words."""
        words, name = self.words.lower().split(), item.name.lower()
        own = name.rpartition(":")[2]
        if not words or words[0] in (name, own):
            return 0
        if own.startswith(words[0]):
            return 1
        return 2 if all(word in name for word in words) else 3


def search(items: Sequence[Item], sought: Sought) -> list[Item]:
    """The items that are looked for, by how well their names fit, and else in their order."""
    return sorted(filter(sought.fits, items), key=sought.rank)


def _has_tag(item: Item, tag: str) -> bool:
    name, sign, value = tag.partition("=")
    return name in item.tags and (not sign or item.tags[name] == value)


def _text(item: Item) -> str:
    """All that is said of an item."""
    parts = [item.kind, item.name, item.type, item.description, item.owner]
    parts += [f"{k} {v}" for k, v in {**item.tags, **item.details}.items()]
    parts += [] if item.deprecated is None else [item.deprecated.text]
    return " ".join(parts).lower()
