"""Makes the numeric fingerprint: the facts of this platform that decide the bits of values (R6).

It holds libm's results on fixed probes, the time-zone database, the Unicode tables and what
`urllib.parse` makes of some texts, each only if an operator in use depends on it. DuckDB is not
part of it, because serving does not load DuckDB: its version is in the manifests of training sets
(`define.proven`).
"""

from __future__ import annotations

import hashlib
import math
import struct
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featurekit.core.types import Type
from featurekit.define.plan import Service
from featurekit.language.ir import Call
from featurekit.language.walk import nodes

if TYPE_CHECKING:
    from featurekit.language import ops

_PROBES = tuple(
    sign * math.ldexp(1.0 + k / 37.0, e)
    for sign in (1, -1)
    for k in range(37)
    for e in range(-9, 9)
)


def numeric_fingerprint(service: Service) -> dict[str, str]:
    """The facts of this platform on which the service's values depend, by name; empty if there are
    none."""
    rows = _rows(sorted(_operators(service)))
    found = {f"libm {op.key}": _probe(op) for op in rows if op.platform == "libm"}
    if any(op.platform == "unicode" for op in rows):
        found["unicode"] = unicodedata.unidata_version
    if any(op.platform == "urllib" for op in rows):
        found["urllib"] = _urls()
    zoned = any(s.timezone != "UTC" for v in service.views for s in v.source.sources)
    frames = [f.frame for v in service.views for f in v.features if f.frame is not None]
    zoned = zoned or any(frame.timezone not in (None, "UTC") for frame in frames)
    if zoned or any(op.platform == "tzdata" for op in rows):
        from featurekit.core.timezones import tzdata_version

        found["tzdata"] = tzdata_version()
    return found


def _rows(keys: Sequence[str]) -> list[ops.Op]:
    """The rows of these operators; without operators their table is not loaded."""
    if not keys:
        return []
    from featurekit.language import ops

    return [ops.TABLE[key] for key in keys]


def _probe(op: ops.Op) -> str:
    """A hash of the operator's results on the probes; each probe is used for every argument."""
    from featurekit.language import ops

    body = op.body()
    digest = hashlib.sha256()
    for x in _PROBES:
        try:
            result = body(*(_argument(p, x) for p in op.params))
        except ops.ERRORS:
            result = math.nan
        digest.update(struct.pack("<d", math.nan if result != result else float(result)))
    return digest.hexdigest()[:16]


def _urls() -> str:
    """A hash of what `urllib.parse` makes of texts in which its releases differ."""
    from featurekit.language import ops
    from featurekit.language.ops.library import URLS

    digest = hashlib.sha256()
    for op in ops.TABLE.values():
        if op.platform != "urllib":
            continue
        body = op.body()
        for text in URLS:
            try:
                made = repr(body(*(text, "")[: len(op.params)]))
            except ops.ERRORS:
                made = ""
            digest.update(f"{op.key} {made}\n".encode())
    return digest.hexdigest()[:16]


def _argument(type_: Type, x: float) -> Any:
    if type_.item is not None:
        return [_argument(type_.item, x), _argument(type_.item, x / 3.0)]
    return int(x) if type_.name == "int" else x


def _operators(service: Service) -> set[str]:
    transforms = [function for view in service.views for function in view.functions]
    transforms += [t.function for t in service.transforms]
    bodies = tuple(transform.body for transform in transforms)
    return {node.op for node in nodes(bodies) if isinstance(node, Call)}
