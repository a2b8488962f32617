"""Chooses the media type of an answer by the header Accept (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from functools import lru_cache

from featurekit.errors import RequestRefused

JSON, MSGPACK, ARROW = (
    b"application/json",
    b"application/msgpack",
    b"application/vnd.apache.arrow.stream",
)
WRITTEN = (JSON, MSGPACK, ARROW)
WRITTEN_OF_PUSHES = (JSON, MSGPACK)

_ALSO = {b"application/x-msgpack": MSGPACK, b"application/vnd.msgpack": MSGPACK}
_RANGES = (b"application/*", b"*/*")
_WEIGHT = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def accepted(header: bytes | None, written: tuple[bytes, ...] = WRITTEN) -> bytes:
    """The media type that a caller would rather have than any other that is `written` here. Of two
    that it likes alike, the one that it names first counts; ranges mean JSON. None is a header that
    was not sent: JSON. RequestRefused where nothing is left: 406; and where a weight is none."""
    return JSON if header is None else _accepted(header, written)


@lru_cache(maxsize=256)
def _accepted(header: bytes, written: tuple[bytes, ...]) -> bytes:
    weights: dict[bytes, tuple[float, int]] = {}
    for place, part in enumerate(header.split(b",")):
        name, *parameters = (text.strip().lower() for text in part.split(b";"))
        weights.setdefault(_ALSO.get(name, name), (_weight(parameters), -place))

    def liking(one: bytes) -> tuple[float, int]:
        # A type's own weight counts before that of a range.
        return next((weights[r] for r in (one, *_RANGES) if r in weights), (0.0, 0))

    best = max(written, key=liking)
    if liking(best)[0] > 0:
        return best
    raise RequestRefused(
        f"found {header.decode('latin-1')!r}; write one of {b', '.join(written).decode()}",
        status=406,
        where="accept",
    )


def _weight(parameters: list[bytes]) -> float:
    text = next((one[2:].strip() for one in parameters if one.startswith(b"q=")), b"1")
    if _WEIGHT.fullmatch(text) is None:
        raise RequestRefused(
            f"found the weight q={text.decode('latin-1')!r}; write 0 to 1, as in q=0.5",
            where="accept",
        )
    return float(text)
