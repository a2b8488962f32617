"""Turns what a project notes about itself in an online store into bytes and back.

Notes are the values by which a project is steered: which services there are, until when a view is
filled, how many pushes have ended. An object is JSON, a line end, and the CRC-32 of the note's name
and the JSON, so that no flipped bit makes another object of it. A value without the line end was
written by a release before 0.3. What cannot be read is DamagedNote, whichever note it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from zlib import crc32

from featurekit.errors import DamagedNote

_T = TypeVar("_T")
_HEX = re.compile(rb"[0-9a-f]{8,64}")
_WRONG = (AttributeError, LookupError, TypeError, ValueError)
_APPLY = "`featurekit apply` writes it anew; run `featurekit materialize` after it"


def _damaged(name: str, how: str, then: str = _APPLY) -> DamagedNote:
    return DamagedNote(f"the project's key {name!r} in Redis is damaged: {how}. {then}", name)


def write_object(name: str, value: Mapping[str, Any]) -> bytes:
    """The bytes of an object, with their checksum."""
    text = json.dumps(value, sort_keys=True).encode()
    return b"%b\n%08x" % (text, _sum(name, text))


def read_object(
    name: str, value: bytes | None, of: Callable[[dict[str, Any]], dict[str, _T]]
) -> dict[str, _T]:
    """The object that was written, as `of` takes it; an empty one where there is none. DamagedNote
    where the bytes are not as they were written, or `of` cannot take what they hold."""
    if value is None:
        return {}
    text, end, known = value.partition(b"\n")
    if end and known != b"%08x" % _sum(name, text):
        raise _damaged(name, "its checksum is another one")
    try:
        found = json.loads(text)
        if type(found) is not dict:
            raise ValueError("no object")
        return of(found)
    except _WRONG:
        raise _damaged(name, "it does not hold what is written there") from None


def numbers(found: dict[str, Any]) -> dict[str, int]:
    """An object of whole numbers, as `read_object` takes it. TypeError where it holds others."""
    if not all(type(number) is int for number in found.values()):
        raise TypeError("a value that is no whole number")
    return found


def read_number(name: str, value: bytes | None) -> int:
    """The whole number that was written, 0 where there is none. DamagedNote where it is none."""
    if not value:
        return 0
    if not value.isdigit():
        raise _damaged(name, "it is no whole number")
    return int(value)


def read_version(name: str, value: bytes) -> str:
    """The fingerprint that a pointer to a version holds. DamagedNote where it is none."""
    if not _HEX.fullmatch(value):
        raise _damaged(name, "it is no fingerprint of a version")
    return value.decode()


def lost_version(service: str, fingerprint: str) -> DamagedNote:
    """The error for a pointer to a version of a service that has no plan."""
    how = f"a pointer to a version of service {service!r} leads to it, and it is not there"
    return _damaged(f"plan:{service}:{fingerprint[:12]}…", how)


def read_clock(value: bytes | None) -> int:
    """The last stamp; 0 where there is none, or none that can be read. Who reads does not believe
    such a stamp, and who writes is told of it (S3)."""
    return int(value) if value and value.isdigit() else 0


def clock_damaged() -> DamagedNote:
    """The error for a last stamp that cannot be read, before anything is stamped."""
    then = "`featurekit materialize --restart-clock` goes on from now (S3); nothing was written"
    return _damaged("clock", "it is no whole number", then)


def name_of(key: bytes) -> str:
    """A note's name, as errors give it: what follows the project in its key."""
    return key.decode(errors="replace").split(":", 2)[-1]


def _sum(name: str, text: bytes) -> int:
    return crc32(text, crc32(name.encode()))
