"""Says which forgettings an online store has not carried out in the states of a view.

The registry numbers its tombstones, and the store keeps, for each version of a view that is filled,
the number up to which all of them were carried out in its states. A forgetting that died, or a
Redis that came back from before one, leaves the number behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from featurekit.core.types import Type
from featurekit.define.plan import View
from featurekit.log.tombstones import Tombstone
from featurekit.online.store.marks import carried, carried_key, written_carried
from featurekit.online.store.protocol import OnlineStore

Concerns = Callable[[Tombstone, View], bool]
"""Whether the events of a view may be the forgotten entity's."""


def has_keys(tombstone: Tombstone, view: View) -> bool:
    """Whether a view's source has columns with the names and types of the entity's keys; of a
    union, whether it or one of its sources has; and so for the views from which its rows take
    features. This is so wherever its events are the entity's,
    and perhaps elsewhere."""
    of_views = (one.source for one in (view, *view.joined))
    for source in (one for of in of_views for one in (of, *of.sources)):
        schema = {param.name: _of_keys(param.type) for param in source.schema}
        if all(schema.get(name) == type_ for name, type_ in tombstone.keys):
            return True
    return False


def _of_keys(type_: Type) -> Type:
    """The type of the keys that a column may hold: of a list, that of its elements."""
    return type_.base if type_.item is None else type_.item.base


def may_have_keys(tombstone: Tombstone, view: View) -> bool:
    """Whether a view's source has columns of the types of the entity's keys, whatever their names:
    another view may say which of them are the keys, in its mapping (T11). It asks for no
    definitions, and is so wherever the view's events are the entity's."""
    wanted = Counter(type_ for _, type_ in tombstone.keys)
    return any(
        wanted <= Counter(_of_keys(param.type) for param in source.schema)
        for source in (view.source, *view.source.sources)
    )


def undone(
    tombstones: Sequence[Tombstone],
    view: View,
    number: int | None,
    concerns: Concerns = may_have_keys,
    *,
    but: Tombstone | None = None,
) -> list[Tombstone]:
    """The tombstones that were not carried out in a view's states, where these have `number`. None
    is the number of states that a release before it wrote: then what ended was carried out. What
    tombstone `but` carries out is left out."""
    left = unended(tombstones) if number is None else tombstones[number:]
    return [t for t in left if (but is None or _who(t) != _who(but)) and concerns(t, view)]


def unended(tombstones: Sequence[Tombstone]) -> list[Tombstone]:
    """The tombstones of forgettings that did not end, and were not run again."""
    ended = {_who(t) for t in tombstones if t.removed is not None}
    return [t for t in tombstones if _who(t) not in ended]


def number_at(tombstones: Sequence[Tombstone], view: View, until: int) -> int:
    """The number up to which all tombstones are carried out where a view's states were made of
    everything that had arrived by `until`: what arrived later is left as it was."""
    for number, tombstone in enumerate(tombstones):
        if tombstone.until > until and may_have_keys(tombstone, view):
            return number
    return len(tombstones)


def set_carried(store: OnlineStore, project: str, numbers: Mapping[str, int]) -> None:
    """Record the numbers of versions of views; none is lowered."""
    if not numbers:
        return

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        known = carried(values[0])
        higher = {v: n for v, n in numbers.items() if n > known.get(v, -1)}
        return [written_carried({**known, **higher}) if higher else None]

    store.update([carried_key(project)], changed)


def why(undone: Iterable[Tombstone]) -> str:
    """What is wrong with states in which these tombstones were not carried out."""
    names = sorted({t.entity for t in undone})
    return (
        f"a {' and a '.join(map(repr, names))} was forgotten, and this Redis still has states from "
        "before (it came back from an older dump, or what removed them did not end)"
    )


def _who(tombstone: Tombstone) -> tuple[str, tuple[tuple[str, object], ...], str]:
    return tombstone.entity, tombstone.keys, tombstone.digest
