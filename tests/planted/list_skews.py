"""Skews of lists, of inputs among which None is, and of values by their rank; they join the
catalogue of `skews`."""

from __future__ import annotations

import dataclasses
from typing import Any

from featurekit.aggregates import (
    Distinct,
    Histogram,
    Lag,
    LargestN,
    LastN,
    Mode,
    SmallestN,
    ordered,
)
from tests.planted.skews import SKEWS, Patch, skew, wrapped

__all__ = ["SKEWS"]


def over(patch: Patch, kind: Any, change: Any) -> None:
    """Have an aggregate computed online by another function of its parameters and inputs."""
    patch.setattr(kind, "over", lambda self, xs, item: change(self, xs))


# --- Lag, FirstN and LastN ------------------------------------------------------------------------


@skew("online", "aggregate", "lists")
def a_lag_that_counts_from_the_newest_online(patch):
    over(patch, Lag, lambda self, xs: xs[-self.n] if len(xs) > self.n else None)


@skew("offline", "aggregate", "lists")
def a_lag_of_a_shorter_window_is_the_oldest_offline(patch):
    def made(sql: Any, self: Any, column: Any, keep: str) -> Any:
        found = sql(self, column, keep)
        return dataclasses.replace(found, value=f"coalesce({found.value}, {{0}}[-1])")

    wrapped(patch, Lag, "sql", lambda sql, self, column, keep: (
        sql if self.keep_none else lambda *of: made(sql, *of))(self, column, keep))  # fmt: skip


@skew("offline", "null fill", "lists")
def none_skipped_where_it_is_kept_offline(patch):
    patch.setattr(ordered, "sound", ordered.present)


@skew("online", "null fill", "lists")
def none_skipped_where_it_is_kept_online(patch):
    patch.setattr(LastN, "keeps_none", property(lambda self: False))


@skew("offline", "null fill", "lists")
def an_input_that_errs_taken_for_none_offline(patch):
    patch.setattr(ordered, "sound", lambda column, keep: keep)


@skew("online", "tie", "lists")
def distinct_inputs_where_they_occur_first_online(patch):
    over(patch, LastN, lambda self, xs: (
        [*dict.fromkeys(xs)] if self.distinct else list(xs))[-self.n :])  # fmt: skip


@skew("offline", "-0.0", "lists")
def zeros_of_distinct_inputs_told_apart_offline(patch):
    patch.setattr(ordered, "one_value_sql", lambda column: column.name)


# --- by value -------------------------------------------------------------------------------------


@skew("online", "NaN", "lists")
def the_largest_sorted_as_python_sorts_nan_online(patch):
    over(patch, LargestN, lambda self, xs: sorted(xs, reverse=True)[: self.n])


@skew("offline", "-0.0", "lists")
def zeros_among_the_least_not_ordered_offline(patch):
    def made(sql: Any, self: Any, column: Any, keep: str) -> Any:
        if column.floats is not None:
            floats = dataclasses.replace(column.floats, minus_zero=False, specials=False)
            column = dataclasses.replace(column, floats=floats)
        return sql(self, column, keep)

    wrapped(patch, SmallestN, "sql", made)


@skew("online", "tie", "lists")
def the_mode_that_occurs_first_online(patch):
    over(patch, Mode, lambda self, xs: max(xs, key=list(xs).count) if xs else None)


@skew("online", "tie", "lists")
def the_least_values_instead_of_the_most_frequent_online(patch):
    over(patch, Distinct, lambda self, xs: sorted({*xs})[: self.top])


@skew("offline", "aggregate", "lists")
def a_bin_with_its_upper_edge_offline(patch):
    def made(sql: Any, self: Any, column: Any, keep: str) -> Any:
        found = sql(self, column, keep)
        parts = tuple(part.replace(">=", ">") for part in found.parts)
        terms = tuple(dataclasses.replace(t, sql=t.sql.replace(">=", ">")) for t in found.terms)
        return dataclasses.replace(found, parts=parts, terms=terms)

    wrapped(patch, Histogram, "sql", made)


@skew("online", "NaN", "lists")
def nan_counted_in_the_last_bin_online(patch):
    wrapped(patch, Histogram, "_binned", lambda binned, self, counted: binned(
        self, [(float("inf") if v != v else v, n) for v, n in counted]))  # fmt: skip
