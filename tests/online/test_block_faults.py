"""Faults at the borders of blocks: each is planted alone, and the comparison of a state in blocks
with a whole one finds it by a wrong byte or a wrong answer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from large_states import VIEWS, steps

from featurekit.aggregates.sums import ZERO, reduced
from featurekit.aggregates.tallies import Form, Tally
from featurekit.online.lookup import blocks as lookup
from featurekit.online.state import blocks, groups, inputs, rewrite
from featurekit.online.state.blocks import BlocksHead, Running
from featurekit.online.state.groups import Groups
from featurekit.online.state.state import Event

Plant = Callable[[pytest.MonkeyPatch], None]
FAULTS: dict[str, tuple[str, Plant]] = {}
"""By name: the view that shows the fault, and what plants it."""


def fault(view: str) -> Callable[[Plant], Plant]:
    def keep(plant: Plant) -> Plant:
        FAULTS[plant.__name__] = view, plant
        return plant

    return keep


@fault("windows")
def the_instant_before_a_window_counts_with_its_block(patch: pytest.MonkeyPatch) -> None:
    def whole(head: BlocksHead, k: int, low: int, high: int, t: int) -> bool:
        within = head.first[k] >= low and head.last[k] <= high
        return within and head.newest[k] <= t and head.lasting.is_over(k, t)

    def pieces(head: BlocksHead, low: int, high: int, t: int) -> Iterator[lookup.Piece]:
        i, j = bisect_left(head.last, low), bisect_right(head.first, high)
        yield from ((k, k + 1, whole(head, k, low, high, t)) for k in range(i, j))

    patch.setattr(lookup, "_pieces", pieces)


@fault("windows")
def a_block_across_the_end_of_a_window_counts_as_a_whole(patch: pytest.MonkeyPatch) -> None:
    def whole(head: BlocksHead, k: int, low: int, high: int, t: int) -> bool:
        return head.first[k] > low and head.newest[k] <= t

    patch.setattr(lookup, "_whole", whole)


@fault("history")
def a_block_counts_before_all_of_it_has_arrived(patch: pytest.MonkeyPatch) -> None:
    def whole(head: BlocksHead, k: int, low: int, high: int, t: int) -> bool:
        return head.first[k] > low and head.last[k] <= high

    patch.setattr(lookup, "_whole", whole)


@fault("history")
def only_the_last_block_may_have_late_events(patch: pytest.MonkeyPatch) -> None:
    def pieces(head: BlocksHead, low: int, high: int, t: int) -> Iterator[lookup.Piece]:
        i, j = bisect_right(head.last, low), bisect_right(head.first, high)
        for k in range(i, j):
            yield k, k + 1, k not in (i, j - 1) or lookup._whole(head, k, low, high, t)

    patch.setattr(lookup, "_pieces", pieces)


@fault("windows")
def a_sum_over_blocks_begins_one_block_late(patch: pytest.MonkeyPatch) -> None:
    def between(self: Running, i: int, j: int) -> Any:
        if not self.width:
            return ZERO
        return reduced(self._until(j) - self._until(min(i + 1, j)), self.exponent)

    patch.setattr(Running, "between", between)


@fault("windows")
def the_least_and_greatest_forget_the_last_whole_block(patch: pytest.MonkeyPatch) -> None:
    original = lookup._window

    def window(large: Any, f: int, feature: Any, pieces: Any, t: int) -> Any:
        if large.head.layout.choice_of[f] is not None:
            pieces = [(i, j - (whole and j - i > 1), whole) for i, j, whole in pieces]
        return original(large, f, feature, pieces, t)

    patch.setattr(lookup, "_window", window)


@fault("windows")
def a_block_at_an_end_is_taken_to_have_an_input(patch: pytest.MonkeyPatch) -> None:
    original = lookup._at_an_end

    def at_an_end(head: BlocksHead, f: int, pieces: Any) -> list[int]:
        found = original(head, f, pieces)
        suffice = head.layout.view.features[f].implementation().suffice
        assert suffice is not None
        return found[-1:] if suffice > 0 else found[:1]

    patch.setattr(lookup, "_at_an_end", at_an_end)


@fault("windows")
def the_first_few_are_taken_from_the_last_blocks(patch: pytest.MonkeyPatch) -> None:
    original = lookup._at_an_end

    def at_an_end(head: BlocksHead, f: int, pieces: Any) -> list[int]:
        suffice = head.layout.view.features[f].implementation().suffice
        assert suffice is not None
        if suffice > 0:
            return original(head, f, pieces)
        ends = original(head, f, pieces)
        blocks_of_all = [k for i, j, _ in pieces for k in range(i, j)]
        return blocks_of_all[-len(ends) :] if ends else []

    patch.setattr(lookup, "_at_an_end", at_an_end)


@fault("tallied")
def a_group_that_ends_where_the_window_ends_is_left_out(patch: pytest.MonkeyPatch) -> None:
    original = Groups.cover

    def cover(self: Groups, i: int, j: int) -> list[int]:
        parts = original(self, i, j)
        return parts[:-1] if parts and parts[-1] >= self.n else parts

    patch.setattr(Groups, "cover", cover)


@fault("tallied")
def what_two_blocks_have_both_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tally, "distinct", lambda self: len(self))


@fault("tallied")
def counts_of_two_blocks_are_not_added(patch: pytest.MonkeyPatch) -> None:
    original = Form.merged

    def merged(self: Form, parts: Any) -> Tally:
        made = original(self, parts)
        if made.counts is not None:
            made.counts = np.minimum(made.counts, 2)
        return made

    patch.setattr(Form, "merged", merged)


@fault("tallied")
def the_raw_inputs_of_a_block_at_an_end_are_those_of_all_of_it(patch: pytest.MonkeyPatch) -> None:
    original = inputs.raw_inputs

    def raw(feature: Any, read: Any, i: int, j: int, t: int, *, late: bool) -> Any:
        return original(feature, read, 0, j, t, late=late)

    patch.setattr(lookup, "raw_inputs", raw)


@fault("windows")
def the_instant_at_which_a_window_begins_counts_in_its_block(patch: pytest.MonkeyPatch) -> None:
    def of_block(read: Any, feature: Any, aggregate: Any, t: int) -> Any:
        low, high = feature.bounds(t)
        i, j = bisect_left(read.ts, low), bisect_right(read.ts, high)
        late = read.newest_arrival > t or read.ends is not None
        return inputs.inputs(feature, aggregate, read, i, j, t, late=late)

    patch.setattr(lookup, "_inputs", of_block)


@fault("windows")
def an_event_at_a_boundary_goes_to_the_block_behind_it(patch: pytest.MonkeyPatch) -> None:
    def by_block(self: Any, events: Any) -> dict[int, list[Event]]:
        found: dict[int, list[Event]] = {}
        closed = blocks.boundary(self.head.last[-1])
        for event in events:
            k = bisect_right(self.head.last, event[0])
            found.setdefault(k - 1 if k == self.head.n and not closed else k, []).append(event)
        return found

    patch.setattr(rewrite._Change, "_by_block", by_block)


@fault("windows")
def a_block_may_end_between_two_events_of_an_instant(patch: pytest.MonkeyPatch) -> None:
    original = blocks.cut

    def cut(events: Any) -> Iterator[list[Event]]:
        for part in original(events):
            if len(part) > 1 and part[-1][0] == part[-2][0]:
                yield part[:-1]
                yield part[-1:]
            else:
                yield part

    patch.setattr(rewrite, "cut", cut)


@fault("tallied")
def a_group_of_which_a_block_has_changed_stays_as_it_was(patch: pytest.MonkeyPatch) -> None:
    original = groups.make_groups

    def make(of: Groups, lasts: Any, digests: Any, new: Any, *rest: Any) -> groups.Made:
        made = original(of, lasts, digests, new, *rest)
        known = rest[-1]
        if known is None or known.groups.count != of.count:
            return made
        return groups.Made(made.digests, {}, made.gone)

    patch.setattr(groups, "make_groups", make)


@fault("windows")
def a_block_is_dropped_while_an_event_of_it_is_still_in_a_window(
    patch: pytest.MonkeyPatch,
) -> None:
    original = rewrite._Change.__init__

    def changed(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        oldest = self.state.horizon - self.view.retain_us
        self.gone = {k for k in range(self.head.n) if self.head.first[k] <= oldest}
        self.changing -= self.gone

    patch.setattr(rewrite._Change, "__init__", changed)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_the_border_of_a_block_is_found(name: str) -> None:
    view, plant = FAULTS[name]
    assert found(view, plant)


def found(view: str, plant: Plant) -> bool:
    """Whether a byte or an answer is another one, or a part is not the one that its head names."""
    try:
        return any(
            step.differ
            for seed in range(3)
            for step in steps(VIEWS[view], seed, mild=True, plant=plant)
        )
    except blocks.Moved:
        return True
