"""What tells that Redis lost something: marks beside the states, and how they are read.

When a view's version is filled, a mark says for the how-manieth time, in which run of the server,
and how many keys that run had evicted by then. A view that has lost states, or may have, is written
down as damaged; every lookup reads that in the round trip in which it reads the states.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featurekit.core.keys import Version, project_key
from featurekit.errors import DamagedView
from featurekit.online.store.notes import numbers, read_object, write_object
from featurekit.online.store.protocol import Health


@dataclass(frozen=True, slots=True)
class Filled:
    """A view's version was filled for the `number`-th time, when the `run` of the server had
    evicted so many keys by its policy; None where the server did not tell."""

    number: int
    run: str | None
    evicted: int | None
    policy: str | None

    def lost(self, health: Health) -> str | None:
        """What the server has done since that may have removed states; None for nothing."""
        if health.evicted is None or self.evicted is None:
            return None
        if "volatile" in f"{health.policy}" and not f"{self.policy}".startswith("allkeys"):
            return None  # only keys that expire are evicted, and none of ours does
        before = self.evicted if self.run == health.run and self.evicted <= health.evicted else 0
        if health.evicted == before:
            return None
        return f"Redis has evicted {health.evicted - before} keys since it was filled"


def version_of(view: Version) -> str:
    """The name of a view's version in the marks."""
    return f"{view.name}:{view.fingerprint}"


def filled_key(project: str) -> bytes:
    """The key of the marks of fills."""
    return project_key(project, "filled")


def damaged_key(project: str) -> bytes:
    """The key that names the damaged versions of views; absent where there is none."""
    return project_key(project, "damaged")


def carried_key(project: str) -> bytes:
    """The key of the numbers up to which forgettings were carried out in the states of each
    version."""
    return project_key(project, "forgotten")


@functools.lru_cache(maxsize=64)
def carried(value: bytes | None) -> Mapping[str, int]:
    """The number of each version, from the value under `carried_key`."""
    return read_object("forgotten", value, numbers)


@functools.lru_cache(maxsize=64)
def filled(value: bytes | None) -> Mapping[str, Filled]:
    """The fills of each version, from the value under `filled_key`."""
    return read_object("filled", value, _fills)


def _fills(found: dict[str, Any]) -> dict[str, Filled]:
    made = {version: Filled(**mark) for version, mark in found.items()}
    if not all(type(mark.number) is int for mark in made.values()):
        raise TypeError("a number of a fill that is none")
    return made


@functools.lru_cache(maxsize=64)
def damaged(value: bytes | None) -> Mapping[str, Mapping[str, Any]]:
    """The damaged versions, with `why` and since when (`at`), from the value under
    `damaged_key`."""
    return read_object("damaged", value, _damages)


def _damages(found: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {v: {"why": str(mark["why"]), "at": int(mark["at"])} for v, mark in found.items()}


def written_filled(fills: Mapping[str, Filled]) -> bytes:
    """The value under `filled_key`; empty, which removes the key, where there are none."""
    return write_object("filled", {v: asdict(fill) for v, fill in fills.items()}) if fills else b""


def written_damaged(marks: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The value under `damaged_key`; empty, which removes the key, where there are none."""
    return write_object("damaged", marks) if marks else b""


def written_carried(carried_out: Mapping[str, int]) -> bytes:
    """The value under `carried_key`; empty, which removes the key, where there are none."""
    return write_object("forgotten", carried_out) if carried_out else b""


def refuse_damaged(views: Iterable[Version], value: bytes | None) -> None:
    """DamagedView where one of the views is damaged, by the value under `damaged_key`."""
    if value is None:
        return
    known = damaged(value)
    for view in views:
        mark = known.get(version_of(view))
        if mark is not None:
            raise view_damaged(view.name, mark["why"])


def view_damaged(view: str, why: str) -> DamagedView:
    """The error for a view of which states may be missing."""
    return DamagedView(
        f"view {view!r} is damaged: {why}, so that its states may not be those of its events, and "
        f"would look like values; `featurekit materialize --view {view}` fills it again, from the "
        "files and the log of pushes"
    )
