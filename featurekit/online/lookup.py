"""A view, made ready to answer lookups: the common state is read by one precompiled struct.

`state.answer` is the whole meaning and is what every other state is read by.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from featurekit.compiled import View
from featurekit.online.block_lookup import Large, answer_large
from featurekit.online.blocks import Head, Layout
from featurekit.online.codec import FORMATS
from featurekit.online.codec import PRESENT as ALL_PRESENT
from featurekit.online.state import HEADER, PRESENT, VERSION, Reader, answer, unknown

Columns = tuple[Sequence[Any], Sequence[str]]
"""A view's values and their statuses, in the order of its features."""

_PLAIN = ("int", "float", "bool")
_BEFORE_SLOTS = 6  # version, first visible, newest arrival, number of events; ts, created


class ViewLookup:
    """Answers for one view."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.unknown = _split(unknown(view))
        self.layout = Layout(view)
        self.present = (PRESENT,) * len(view.features)
        self.row: struct.Struct | None = None
        plain = all(slot.type.name in _PLAIN for slot in view.slots)
        self.by_id = view.dedupe_us is not None
        if view.kind == "latest" and plain and view.source.op is None:
            # One event with every slot present: a mark and a value each.
            values = "".join("B" + FORMATS[slot.type.name] for slot in view.slots)
            self.row = struct.Struct(f"{HEADER.format}qq{values}")
            assert len(values) == 2 * len(view.slots)
        picked = [_BEFORE_SLOTS + 2 * (f.slot or 0) + 1 for f in view.features]
        self.pick: Any = itemgetter(*picked) if len(picked) > 1 else _only(picked[0])

    def open(self, head: bytes) -> Large:
        """The state in blocks that has this head."""
        return Large(Head(self.layout, head))

    def answer(self, blob: bytes | Large | None, t: int) -> Columns:
        """The view's values and statuses for one entity as of `t`; see `state.answer`."""
        if blob is None:
            values, statuses = self.unknown
            return copy.deepcopy(values), statuses  # an empty list or dict is the caller's own
        if isinstance(blob, Large):
            return _split(answer_large(blob, t))
        row, view = self.row, self.view
        if row is not None and len(blob) == row.size:
            fields = row.unpack(blob)
            version, first, newest, events, ts, created = fields[:_BEFORE_SLOTS]
            whole = version == VERSION and events == 1 and not any(fields[_BEFORE_SLOTS::2])
            fresh = view.ttl_us is None or ts > t - view.ttl_us
            counts = max(ts, created) <= t and (first <= t or self.by_id)
            if whole and fresh and counts and t >= newest - view.history_us:
                assert ALL_PRESENT == 0
                return self.pick(fields), self.present
        return _split(answer(Reader(view, blob), view, t))


def _only(index: int) -> Any:
    return lambda fields: (fields[index],)


def _split(pairs: list[tuple[Any, str]]) -> Columns:
    return [value for value, _ in pairs], [status for _, status in pairs]
