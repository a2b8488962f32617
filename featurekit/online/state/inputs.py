"""Takes the inputs of a feature's aggregate from the events of an entity (T3, T7, A3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featurekit.aggregates import Aggregate
from featurekit.aggregates.by_category import ByCategory
from featurekit.core.values import ERROR
from featurekit.define.plan import Feature, View
from featurekit.online.state.state import Reader

if TYPE_CHECKING:
    import numpy as np


def inputs(
    feature: Feature, aggregate: Aggregate, read: Reader, i: int, j: int, t: int, *, late: bool
) -> Any:
    """The inputs of a feature's aggregate among the events from i up to j, as of `t`.

    With `late`, an event may have arrived after `t` or be over by then, so each one is checked.
    """
    chosen = kept(feature, read, i, j, t, late=late)
    if feature.cuts:
        assert feature.frame is not None
        chosen = chosen[feature.frame.first([read.ts[k] for k in chosen], t - feature.offset_us) :]
    return taken(feature, aggregate, read, chosen)


def kept(feature: Feature, read: Reader, i: int, j: int, t: int, *, late: bool) -> Sequence[int]:
    """The events from i up to j, in the order of T6, that count as of `t` and that the feature's
    condition keeps; a range where these are all."""
    chosen: Sequence[int] = range(i, j)
    if late:
        chosen = [k for k in chosen if read.counts(k, t)]
    if feature.where is not None:
        keep = read.column(feature.where)
        chosen = [k for k in chosen if keep[k] is True]
    return chosen


def taken(feature: Feature, aggregate: Aggregate, read: Reader, chosen: Sequence[int]) -> Any:
    """The inputs of a feature's aggregate of these events."""
    if feature.by is not None:
        return _by_category(feature, aggregate, read, chosen)
    if aggregate.of_instants:
        if feature.slot is not None:
            column = read.column(feature.slot)
            chosen = [k for k in chosen if column[k] is not None and column[k] is not ERROR]
        return [read.ts[k] for k in chosen]
    if feature.slot is None:
        return chosen
    column = read.column(feature.slot)
    if aggregate.timed:
        given = ((read.ts[k], column[k]) for k in chosen)
        return [pair for pair in given if pair[1] is not None and pair[1] is not ERROR]
    if isinstance(chosen, range):
        values = column[chosen.start : chosen.stop]
    else:
        values = [column[k] for k in chosen]
    if aggregate.keeps_none and not read.complete(feature.slot):
        values = [v for v in values if v is not ERROR]
    elif not read.complete(feature.slot):
        values = [v for v in values if v is not None and v is not ERROR]
    return values


def _by_category(
    feature: Feature, aggregate: Aggregate, read: Reader, chosen: Sequence[int]
) -> list[tuple[Any, Any]]:
    """The categories of these events and the inputs of each category's aggregate (A6)."""
    assert feature.by is not None
    assert isinstance(aggregate, ByCategory)
    inner, by = aggregate.inner, read.column(feature.by)
    chosen = [k for k in chosen if by[k] is not None and by[k] is not ERROR]
    if feature.slot is None:
        return [(by[k], read.ts[k]) for k in chosen]
    column = read.column(feature.slot)
    chosen = [k for k in chosen if column[k] is not ERROR]
    if not inner.keeps_none:
        chosen = [k for k in chosen if column[k] is not None]
    if inner.of_instants:
        return [(by[k], read.ts[k]) for k in chosen]
    if inner.timed:
        return [(by[k], (read.ts[k], column[k])) for k in chosen]
    return [(by[k], column[k]) for k in chosen]


def raw_inputs(
    feature: Feature, read: Reader, i: int, j: int, t: int, *, late: bool
) -> np.ndarray[Any, Any] | list[bytes]:
    """As `inputs`, of a feature that has a slot of plain values, as these are stored."""
    import numpy as np

    assert feature.slot is not None
    values, marks = read.raw(feature.slot)
    keep = None if marks is None else marks[i:j] == 0
    if late:
        counts = np.frombuffer(read.created, np.int64)[i:j] <= t
        counts &= np.frombuffer(read.ts, np.int64)[i:j] <= t
        if read.ends is not None:
            counts &= np.frombuffer(read.ends, np.int64)[i:j] > t
        keep = counts if keep is None else keep & counts
    if feature.where is not None:
        flags, unknown = read.raw(feature.where)
        true = flags[i:j] != 0 if unknown is None else (flags[i:j] != 0) & (unknown[i:j] == 0)
        keep = true if keep is None else keep & true
    if isinstance(values, list):
        return values[i:j] if keep is None else list(itertools.compress(values[i:j], keep.tolist()))
    found: np.ndarray[Any, Any] = values[i:j] if keep is None else values[i:j][keep]
    return found


def item_type(view: View, feature: Feature, aggregate: Aggregate) -> Any:
    """The type of an aggregate's inputs; None where it takes rows or instants."""
    if feature.slot is None or aggregate.of_instants:
        return None
    type_ = view.slots[feature.slot].type
    return type_.base if type_.optional else type_
