"""Answers from a state in blocks: the head answers for whole blocks, events for a window's ends."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featurekit.aggregates import Aggregate
from featurekit.aggregates.sums import Sums
from featurekit.core.status import NEVER, OUTSIDE_MAX_AGE
from featurekit.define.plan import Feature, empty_value
from featurekit.online.lookup.answer import (
    UNASKED,
    Answer,
    check_age,
    finished,
    stated,
    unknown,
)
from featurekit.online.state.blocks import BlocksHead, checked, checked_group
from featurekit.online.state.inputs import inputs, item_type, kept, raw_inputs, taken
from featurekit.online.state.state import Reader

if TYPE_CHECKING:
    from featurekit.aggregates.tallies import Tally

Piece = tuple[int, int, bool]
"""A range of blocks, as a first and an end, and whether what counts in them are the events that
never end, which is what the head knows of them. If not, the range is one block, of which some
events may count."""


@dataclass(slots=True)
class Large:
    """A state in blocks, as far as it was read: its head, and the blocks and groups that were
    read, by number."""

    key: bytes
    head: BlocksHead
    blocks: dict[int, Reader] = field(default_factory=dict)
    groups: dict[int, memoryview] = field(default_factory=dict)
    tallies: dict[object, Tally] = field(default_factory=dict)

    def take(self, k: int, blob: bytes | None) -> None:
        """Keep the bytes of block or group `k`. Moved where its digest is not the one in the
        head."""
        if k < self.head.n:
            found = checked(self.head, self.key, k, blob)
            self.blocks[k] = Reader(self.head.layout.view, found)
        else:
            self.groups[k] = checked_group(self.head, self.key, k, blob)


class UnreadLarge(ValueError):
    """The state in blocks under `key` cannot be read as it is; see `seal.UNREADABLE`."""

    def __init__(self, key: bytes, error: Exception) -> None:
        super().__init__(str(error))
        self.key = key


def needed(head: BlocksHead, t: int, features: Iterable[int]) -> set[int]:
    """The numbers of the blocks and groups that an answer as of `t` has to read for features."""
    layout = head.layout
    view = layout.view
    if t < head.newest_arrival - view.history_us:
        return set()
    known, wanted = _known(head, t)
    if not known and not wanted:
        return set()
    spans: dict[tuple[int, int], list[Piece]] = {}
    if view.ttl_us is not None:
        pieces = list(_pieces(head, t - view.ttl_us, t, t))
        if not _surely(head, pieces):
            wanted.update(i for i, _, whole in pieces if not whole)
    for f in features:
        bounds = view.features[f].bounds(t)
        if bounds not in spans:
            spans[bounds] = list(_pieces(head, *bounds, t))
        if layout.counts_of[f] is not None:
            wanted.update(_at_an_end(head, f, spans[bounds]))
            continue
        if layout.tally_of[f] is not None:
            wanted.update(_parts(head, spans[bounds]))
            continue
        for i, j, whole in spans[bounds]:
            if not whole or not layout.enough(f):
                wanted.update(range(i, j))
    return wanted


def _parts(head: BlocksHead, pieces: list[Piece]) -> list[int]:
    """The blocks and groups that have the tallies of a window."""
    assert head.groups is not None
    parts: list[int] = []
    for i, j, whole in pieces:
        parts += head.groups.cover(i, j) if whole else range(i, j)
    return parts


def _at_an_end(head: BlocksHead, f: int, pieces: list[Piece]) -> list[int]:
    """The blocks, in their order, that decide a feature of which the inputs at one end of the
    window suffice.

    The head counts the inputs of whole blocks. A block of which not every event counts may give
    none.
    """
    counts, feature = head.layout.counts_of[f], head.layout.view.features[f]
    suffice = feature.implementation().suffice
    if feature.cuts:
        assert feature.frame is not None
        suffice = feature.frame.rows
    assert counts is not None
    assert suffice is not None
    of_last, left = suffice > 0, abs(suffice)
    taken: list[int] = []
    for i, j, whole in reversed(pieces) if of_last else pieces:
        for k in range(j - 1, i - 1, -1) if of_last else range(i, j):
            if left <= 0:
                break
            found = head.number(counts, k) if whole else None
            if found != 0:
                taken.append(k)
                left -= found or 0
    return taken[::-1] if of_last else taken


def _known(head: BlocksHead, t: int) -> tuple[bool, set[int]]:
    """Whether the head alone says that some event, however old, counts as of `t`. If not, also the
    numbers of the blocks in which one may."""
    if head.first_visible <= t:
        return True, set()
    if head.layout.view.dedupe_us is None:
        return False, set()
    pieces = list(_pieces(head, NEVER, t, t))
    return _surely(head, pieces), {i for i, _, whole in pieces if not whole}


def _surely(head: BlocksHead, pieces: Iterable[Piece]) -> bool:
    """Whether some event counts in those pieces in which all do that never end."""
    return any(whole and any(head.lasting.counts[i:j]) for i, j, whole in pieces)


def _pieces(head: BlocksHead, low: int, high: int, t: int) -> Iterator[Piece]:
    """The blocks with events in (low, high], in order, as of `t` (T3, T4)."""
    i, j = bisect_right(head.last, low), bisect_right(head.first, high)
    if head.newest_arrival <= t and head.lasting.latest <= t:
        # All events have arrived, and what ended is over: only the first and the last block can lie
        # across an end.
        across = {k for k in (i, j - 1) if i <= k < j and not _whole(head, k, low, high, t)}
    else:
        across = {k for k in range(i, j) if not _whole(head, k, low, high, t)}
    for k in sorted(across):
        if i < k:
            yield i, k, True
        yield k, k + 1, False
        i = k + 1
    if i < j:
        yield i, j, True


def _whole(head: BlocksHead, k: int, low: int, high: int, t: int) -> bool:
    within = head.first[k] > low and head.last[k] <= high
    return within and head.newest[k] <= t and head.lasting.is_over(k, t)


def answer_large(large: Large, t: int, features: Iterable[int]) -> Answer:
    """As `answer.answer`, for a state in blocks; `large` has the blocks that `needed` names."""
    head = large.head
    view = head.layout.view
    check_age(view, head.newest_arrival, t)
    if not _any_known(large, t):
        return unknown(view)
    spans: dict[tuple[int, int], list[Piece]] = {}
    if view.ttl_us is not None and not _any(large, t - view.ttl_us, t):
        return [(None, OUTSIDE_MAX_AGE) for _ in view.features]
    out = [UNASKED] * len(view.features)
    for f in features:
        feature = view.features[f]
        bounds = feature.bounds(t)
        if bounds not in spans:
            spans[bounds] = list(_pieces(head, *bounds, t))
        out[f] = _window(large, f, feature, spans[bounds], t)
    return out


def _any_known(large: Large, t: int) -> bool:
    """Whether some event, however old, counts as of `t`."""
    known, blocks = _known(large.head, t)
    return known or (bool(blocks) and _any(large, NEVER, t))


def _any(large: Large, low: int, t: int) -> bool:
    """Whether some event in (low, t] counts as of `t`."""
    pieces = list(_pieces(large.head, low, t, t))
    if _surely(large.head, pieces):
        return True
    for k in [i for i, _, whole in pieces if not whole]:
        read = large.blocks[k]
        i, j = bisect_right(read.ts, low), bisect_right(read.ts, t)
        if any(read.counts(e, t) for e in range(i, j)):
            return True
    return False


def _window(large: Large, f: int, feature: Feature, pieces: list[Piece], t: int) -> tuple[Any, str]:
    """One aggregate over the events of a window's blocks."""
    if not pieces:
        return stated(empty_value(feature))
    layout = large.head.layout
    sums_of, choice_of = layout.sums_of[f], layout.choice_of[f]
    if layout.tally_of[f] is not None:
        return _tallied(large, f, feature, pieces, t)
    aggregate, sums = feature.implementation(), Sums()
    values: list[Any] = []
    if layout.counts_of[f] is not None:
        ends = _at_an_end(large.head, f, pieces)
        pieces = [(k, k + 1, False) for k in ends]
    if feature.cuts:
        values = _cut_inputs(large, feature, aggregate, pieces, t)
        return finished(
            feature,
            aggregate,
            t,
            aggregate.over,
            values,
            item_type(layout.view, feature, aggregate),
        )
    for i, j, whole in pieces:
        if whole and sums_of is not None:
            sums = sums + large.head.sums_between(sums_of, i, j)
        elif whole and choice_of is not None:
            values += [v for v in large.head.chosen(choice_of)[i:j] if v is not None]
        else:
            for k in range(i, j):
                values += _inputs(large.blocks[k], feature, aggregate, t)
    item = item_type(layout.view, feature, aggregate)
    if sums_of is not None:
        return finished(feature, aggregate, t, aggregate.over_sums, sums, values, item)
    return finished(feature, aggregate, t, aggregate.over, values, item)


def _tallied(
    large: Large, f: int, feature: Feature, pieces: list[Piece], t: int
) -> tuple[Any, str]:
    """One aggregate over the tally of a window."""
    from featurekit.aggregates.tallies import Form, joined

    layout, aggregate, bounds = large.head.layout, feature.implementation(), feature.bounds(t)
    index, kind = layout.tally_of[f], aggregate.tallies
    assert index is not None
    assert kind is not None
    assert layout.tallied is not None
    item = item_type(layout.view, feature, aggregate)
    tally = large.tallies.get((index, kind, bounds, t))
    if tally is None:
        form, tallies, raw = Form(kind, item), [], []
        for part in _parts(large.head, pieces):
            if part in large.blocks:
                read = large.blocks[part]
                i, j = (bisect_right(read.ts, bound) for bound in bounds)
                late = read.newest_arrival > t or read.ends is not None
                raw.append(raw_inputs(feature, read, i, j, t, late=late))
            else:
                tallies.append(layout.tallied.decode(large.groups[part], index))
        if raw:
            tallies.append(form.of(joined(raw)))
        tally = large.tallies[index, kind, bounds, t] = form.together(tallies)
    return finished(feature, aggregate, t, aggregate.over_tally, tally, item)


def _cut_inputs(
    large: Large, feature: Feature, aggregate: Aggregate, pieces: Iterable[Piece], t: int
) -> list[Any]:
    """The inputs of a feature of which not all events of the window count (T10)."""
    low, high = feature.bounds(t)
    found: list[tuple[Reader, Sequence[int]]] = []
    for k in (k for i, j, _ in pieces for k in range(i, j)):
        read = large.blocks[k]
        i, j = bisect_right(read.ts, low), bisect_right(read.ts, high)
        late = read.newest_arrival > t or read.ends is not None
        found.append((read, kept(feature, read, i, j, t, late=late)))
    assert feature.frame is not None
    instants = [read.ts[k] for read, chosen in found for k in chosen]
    first = feature.frame.first(instants, t - feature.offset_us)
    values: list[Any] = []
    for read, chosen in found:
        values += taken(feature, aggregate, read, chosen[first:])
        first = max(first - len(chosen), 0)
    return values


def _inputs(read: Reader, feature: Feature, aggregate: Aggregate, t: int) -> Any:
    low, high = feature.bounds(t)
    i, j = bisect_right(read.ts, low), bisect_right(read.ts, high)
    late = read.newest_arrival > t or read.ends is not None
    return inputs(feature, aggregate, read, i, j, t, late=late)
