"""Turns what is to be given up of an answer into headers of HTTP, and one of them back.

`Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link to the successor are about a service as a
whole. `featurekit-deprecated` is a list (RFC 9651) of all that the answer has of that kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import format_datetime

from featurekit.define.deprecated import Deprecated, Deprecation
from featurekit.errors import DefinitionError

HEADER = "featurekit-deprecated"
_MOST = 50
"""So many are told in a header; the description of the service has them all."""
_ITEM = re.compile(r'"([^"]+)"((?:;[a-z]+=(?:"[^"]*"|[a-z]+))*)')
_PART = re.compile(r';([a-z]+)=(?:"([^"]*)"|([a-z]+))')


def headers(found: Sequence[Deprecation]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer; none where nothing is to be given up."""
    if not found:
        return []
    listed = ", ".join(map(_item, found[:_MOST]))
    made = [(HEADER, listed)]
    for one in found:
        if one.kind == "service":
            if one.since is not None:
                made.append(("deprecation", f"@{int(one.since.timestamp())}"))
            made.append(("sunset", format_datetime(one.said.sunset, usegmt=True)))
            if one.said.use is not None:
                to = f"/v1/services/{one.said.use}/features"
                made.append(("link", f'<{to}>; rel="successor-version"'))
    return [(name.encode(), value.encode()) for name, value in made]


def _item(one: Deprecation) -> str:
    use = "" if one.said.use is None else f';use="{one.said.use}"'
    return f'"{one.name}";kind={one.kind};after="{one.said.day}"{use}'


def read(header: str) -> list[Deprecation]:
    """What the header of `HEADER` tells; what is written in another way is left out."""
    found = []
    for name, parts in _ITEM.findall(header):
        said = {key: text or word for key, text, word in _PART.findall(parts)}
        try:
            found.append(Deprecation(said["kind"], name, Deprecated.of(said)))
        except (DefinitionError, KeyError):
            continue
    return found
