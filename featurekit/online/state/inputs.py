"""Takes the inputs of a feature's aggregate from the events of an entity (T3, T7, A3)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from featurekit.aggregates import Aggregate
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
    chosen: Any = range(i, j)
    filtered = False
    if late:
        chosen, filtered = [k for k in chosen if read.counts(k, t)], True
    if feature.where is not None:
        keep = read.column(feature.where)
        chosen, filtered = [k for k in chosen if keep[k] is True], True
    if aggregate.of_instants:
        if feature.slot is not None:
            column = read.column(feature.slot)
            chosen = [k for k in chosen if column[k] is not None and column[k] is not ERROR]
        return [read.ts[k] for k in chosen]
    if feature.slot is None:
        return chosen
    column = read.column(feature.slot)
    values = [column[k] for k in chosen] if filtered else column[i:j]
    if aggregate.keeps_none and not read.complete(feature.slot):
        values = [v for v in values if v is not ERROR]
    elif not read.complete(feature.slot):
        values = [v for v in values if v is not None and v is not ERROR]
    return values


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
