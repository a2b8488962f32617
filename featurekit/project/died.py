"""Notes pushes that ended half way, so that the next run takes back what only Redis knows of them.

A push of rows with ids notes them in a memory before it logs them (T7). Where it ends in between,
by an error or with its process, no log has the rows, and an incremental run, which begins with the
rows that are there, does not come by their ids. So the stamp of such a push is noted, and a version
of a view that was last filled from everything before it is filled so again.
"""

from __future__ import annotations

from collections.abc import Mapping

from featurekit.core.keys import Version, project_key
from featurekit.online.store.marks import version_of
from featurekit.online.store.notes import (
    name_of,
    numbers,
    read_number,
    read_object,
    write_object,
)
from featurekit.online.store.protocol import OnlineStore


def died_key(project: str, source: str) -> bytes:
    """The key of the latest stamp of a push to a source that may have ended half way."""
    return project_key(project, "fence", source, "died")


def later(value: bytes | None, stamp: int) -> bytes | None:
    """What to write under `died_key` where it has a value; None where it is late enough, or
    damaged, which who reads it is told of."""
    return b"%d" % stamp if not value or (value.isdigit() and int(value) < stamp) else None


def note_died(store: OnlineStore, project: str, source: str, stamp: int) -> None:
    """Note that a push with this stamp ended half way."""
    store.update([died_key(project, source)], lambda values: [later(values[0], stamp)])


def whole_key(project: str) -> bytes:
    """The key of the arrivals up to which versions of views were filled from everything: a JSON
    object from "name:fingerprint" to microseconds UTC."""
    return project_key(project, "whole")


def whole(value: bytes | None) -> dict[str, int]:
    """The arrivals under `whole_key`."""
    return read_object("whole", value, numbers)


def written_whole(arrivals: Mapping[str, int]) -> bytes:
    """The value under `whole_key`; empty, which removes the key, where there are none."""
    return write_object("whole", arrivals) if arrivals else b""


def must_be_whole(store: OnlineStore, project: str, view: Version, source: str, until: int) -> bool:
    """Whether a run up to `until` must fill a view from everything, because a push to its source
    ended half way since it last was. What arrived after `until` is left to a later run."""
    key = died_key(project, source)
    died, known = store.read([key, whole_key(project)])
    return whole(known).get(version_of(view), 0) < read_number(name_of(key), died) <= until


def set_whole(store: OnlineStore, project: str, view: Version, until: int) -> None:
    """Record that a view was filled from everything that had arrived by `until`."""
    version = version_of(view)

    def changed(values: list[bytes | None]) -> list[bytes | None]:
        known = whole(values[0])
        latest = max(until, known.get(version, until))
        return [written_whole({**known, version: latest})]

    store.update([whole_key(project)], changed)
