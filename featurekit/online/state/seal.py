"""Puts a checksum of key and value around the bytes of a state, and checks it where they are read.

A sealed value is `MARK`, the bytes, and the CRC-32 of the key, the mark and the bytes. So a value
that was changed, cut short or copied from another key does not open. A value without the mark was
written by a release before 0.3. It opens as it is, and nothing tells whether it is whole.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import cast
from zlib import crc32

from featurekit.core.keys import entity_values
from featurekit.define.plan import View
from featurekit.errors import DamagedState
from featurekit.online.store.replies import Run, Values

MARK = 0xF1
"""It differs in two bits or more from the first byte of every value that is not sealed, so that no
flipped bit makes a sealed value look like one of these."""
UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What reading the bytes of a damaged state may raise."""

FRONT, BACK = 1, 4
"""The number of bytes before and behind the sealed ones."""
WHOLE = 0x2144DF1C
"""The CRC-32 of any bytes that their own CRC-32 follows."""
_PLAIN = b"\1\2\3"
"""The first bytes of states, heads and memories of ids that are not sealed."""
_MARK = bytes((MARK,))
_pack = struct.Struct("<I").pack
_ONES = 0xFFFFFFFF
_TABLE = [crc32(bytes((k,)), _ONES) ^ _ONES for k in range(256)]
"""What a byte does to a CRC-32; no two of these end in the same byte."""
_LAST = {entry >> 24: k for k, entry in enumerate(_TABLE)}


def sealed(key: bytes, value: bytes) -> bytes:
    """The bytes to keep under `key`; b"", which removes the key, stays as it is."""
    if not value:
        return value
    marked = _MARK + value
    return marked + _pack(crc32(marked, crc32(key)))


def marked(value: bytes) -> bytes:
    """Bytes made ready to be kept under several keys, for `sealed_marked`."""
    return _MARK + value


def sealed_marked(key: bytes, marked: bytes) -> bytes:
    """As `sealed`, of bytes that are `marked`."""
    return marked + _pack(crc32(marked, crc32(key)))


def sealed_by(crc: int, value: bytes) -> bytes:
    """As `sealed`, for bytes to keep under a key of this checksum."""
    marked = _MARK + value
    return marked + _pack(crc32(marked, crc))


def is_sealed(value: bytes) -> bool:
    """Whether a checksum says what the value was."""
    return value[:1] == _MARK


def opened(key: bytes, value: bytes) -> bytes | None:
    """The bytes that were kept under `key`; None where the value is not as it was written."""
    if value[:1] == _MARK:
        return value[FRONT:-BACK] if crc32(value, crc32(key)) == WHOLE else None
    return value if value[:1] and value[0] in _PLAIN else None


def opened_view(key: bytes, value: bytes) -> memoryview | None:
    """As `opened`, for a sealed value, of which nothing is copied."""
    if value[:1] == _MARK and crc32(value, crc32(key)) == WHOLE:
        return memoryview(value)[FRONT:-BACK]
    return None


def opened_group(values: Values, prefix: bytes, ends: Sequence[bytes]) -> Values | None:
    """As `opened`, for the values of keys that begin with `prefix` and have these ends; None where
    one of them does not open."""
    if type(values) is not Run:
        if None not in values:
            every = cast("Sequence[bytes]", values)
            if [value[:1] for value in every].count(_MARK) == len(every) and _all_whole(
                every, prefix, ends
            ):
                return [value[FRONT:-BACK] for value in every]
        first = crc32(prefix)
        made = [_opened(v, crc32(end, first)) for v, end in zip(values, ends, strict=True)]
        return None if b"" in made else made
    n, first = len(values), values.at + values.before
    marks = values.data[first : first + (n - 1) * values.stride + 1 : values.stride]
    if _MARK not in marks:
        return values if not marks.strip(_PLAIN) else None
    if marks.count(_MARK) != n or not _all_whole(list(values), prefix, ends):
        return None
    size, before = values.size - FRONT - BACK, values.before + FRONT
    return Run(values.data, values.at, n, size, before, values.stride)


def _all_whole(values: Sequence[bytes], prefix: bytes, ends: Sequence[bytes]) -> bool:
    """Whether sealed values are as they were written, by one CRC-32 over all of them.

    After each key and its value it is `WHOLE`, and four bytes lead it on to that of the next key's
    prefix. A CRC is linear, and what leads it on from one value to the next turns no difference
    into none. So where one value is not whole, the last CRC differs exactly where its own would.
    Where several are not, their differences meet at different distances from the end: two values
    that were exchanged, or any two flipped bits, do not cancel each other out.
    """
    parts = [_bridge(prefix)] * (3 * len(values))
    parts[1::3], parts[2::3] = ends, values
    return crc32(b"".join(parts), WHOLE) == WHOLE


@functools.lru_cache(maxsize=1024)
def _bridge(prefix: bytes) -> bytes:
    """Four bytes that turn a CRC-32 of `WHOLE` into that of `prefix`."""
    found = crc32(prefix) ^ _ONES
    for _ in range(4):  # each step back undoes one byte of the CRC
        k = _LAST[found >> 24]
        found = (found ^ _TABLE[k]) << 8 | k
    return _pack(found ^ WHOLE ^ _ONES)


def _opened(value: bytes | None, crc: int) -> bytes | None:
    """As `opened`; b"" for a value that does not open, None for an absent one."""
    if value is None:
        return None
    if value[:1] == _MARK:
        return value[FRONT:-BACK] if crc32(value, crc) == WHOLE else b""
    return value if value[:1] and value[0] in _PLAIN else b""


def opened_states(
    views: Iterable[View], keys: Sequence[bytes], values: Values, crcs: Sequence[int]
) -> list[bytes | None]:
    """As `opened_state`, for many keys, of these checksums, each with its view."""
    return [
        value[FRONT:-BACK]
        if value is not None and value[:1] == _MARK and crc32(value, crc) == WHOLE
        else opened_state(view, key, value)
        for view, key, value, crc in zip(views, keys, values, crcs, strict=True)
    ]


def opened_state(view: View, key: bytes, value: bytes | None) -> bytes | None:
    """As `opened`, for the state of an entity; None for an absent one. DamagedState where the value
    is not as it was written."""
    if value is None:
        return None
    found = opened(key, value)
    if found is None:
        how = "its checksum is another one" if is_sealed(value) else "no state begins as it does"
        raise damaged(view, key, how)
    return found


def damaged(view: View, key: bytes, how: str) -> DamagedState:
    """The error for the state under `key`, which is not as it was written."""
    entity = key[key.index(b"{") + 1 : -1]
    values = entity_values([p.type for p in view.join_keys], entity)
    shown = [f"{p.name}={v}" for p, v in zip(view.join_keys, values, strict=True)]
    return DamagedState(
        f"view {view.name!r}: the state of {', '.join(shown)} is damaged: {how}. `featurekit "
        f"materialize --view {view.name} --entity {' '.join(shown)}` writes it again, from the "
        "files and the log of pushes",
        key,
    )


def refuse_unsealed(view: View, key: bytes, value: bytes | None, error: Exception) -> None:
    """DamagedState for a state that could not be read, where no checksum says that it is whole."""
    if value is not None and not is_sealed(value):
        raise damaged(view, key, f"it cannot be read ({error})") from error
