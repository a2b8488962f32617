"""Experiments on what rows take from other views: which row each path takes it of (T11)."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.core.tables import Row
from featurekit.core.values import ERROR
from featurekit.define.plan import Join, Source, View
from featurekit.define.union import FROM, own_row, taken_columns, taken_from
from featurekit.parity.compare import bits, shown
from featurekit.parity.diagnose.diagnosis import when
from featurekit.parity.diagnose.rules import slot_of
from featurekit.parity.diagnose.trial import Told, Trial
from featurekit.parity.scenario import Scenario
from featurekit.parity.taken import push_order


def of_joins(trial: Trial, taking: Scenario) -> Told | None:
    """Why a row takes something else on one path; None where all rows take the same. `taking` has
    the rows with what they take, as `Bench.taking` gives them."""
    if taking.files is None:
        return None
    above = push_order(trial.service)
    sources = {v.source.name: v.source for v in trial.service.fed}
    pairs = list(zip(taking.files, taking.deliveries, strict=True))
    # What others take from comes first: a row may take what was taken wrongly.
    for i in sorted(range(len(pairs)), key=lambda i: (above[pairs[i][0].source], i)):
        offline, online = pairs[i]
        source = sources[offline.source]
        for name in sorted(taken_columns(source)):
            if bits(offline.row[name]) != bits(online.row[name]):
                return _of_row(taking, source, name, offline.row, online.row, i)
    return None


def _of_row(
    taking: Scenario, source: Source, name: str, offline: Row, online: Row, number: int
) -> Told:
    """Why a row takes something else for a column on one path."""
    found = [
        (join, index)
        for join, index in taken_from(source, name)
        if join in ((source.parts or ())[offline[FROM]].joins or ())
    ]
    where = (
        f"row {number + 1} of {source.title}, which arrived {when(offline['__created'])}, takes "
        f"{name}: offline {shown(offline[name])}, online {shown(online[name])}"
    )
    if not found:
        return "join", where
    join, index = found[0]
    if None in keys_taken(join, source, offline):
        return "key", f"{where}; a join key is None, so there is no row to take it of"
    others = _rows_of(taking, join, source, offline)
    for side, row in (("offline", offline), ("online", online)):
        of = _of_value(join, index, others, row[name])
        judged = [(one, _why_not(join.view, one, offline, others)) for one in of]
        if not judged or any(told is None for _, told in judged):
            continue  # what was taken is none, or may be of a row that counts
        one, told = judged[-1]
        assert told is not None
        cause, why = told
        return cause, (
            f"{where}; {side} it is of the row of {join.view.name} that happened "
            f"{when(one['__ts'])} and arrived {when(one['__created'])}, which {why}"
        )
    return "join", where


def _rows_of(taking: Scenario, join: Join, source: Source, row: Row) -> list[Row]:
    """The rows of the entity of the other view from which a row takes, as they were pushed."""
    keys = keys_taken(join, source, row)
    named = [key.name for key in join.view.join_keys]
    return [
        d.row
        for d in taking.deliveries
        if d.source == join.view.source.name
        and [bits(d.row[n]) for n in named] == [bits(k) for k in keys]
    ]


def keys_taken(join: Join, source: Source, row: Row) -> list[object]:
    """The values of the other view's join keys in a row."""
    own = own_row(source, row)[1]
    return [own.get(column, row.get(column)) for column in join.keys]


def _of_value(join: Join, index: int, others: Sequence[Row], value: object) -> list[Row]:
    """The other view's rows that have a value for what is taken."""
    slot, op = slot_of(join.view, join.view.features[index].slot), join.view.source.op
    upserts = [row for row in others if op is None or row[op] != "delete"]
    given = [None if (v := slot(row)) is ERROR else v for row in upserts]
    return [row for row, v in zip(upserts, given, strict=True) if bits(v) == bits(value)]


def _why_not(view: View, of: Row, row: Row, others: Sequence[Row]) -> Told | None:
    """Why a row of the other view does not count for `row`; None where it may."""
    if of["__created"] > row["__created"]:
        return "late event", "had not arrived by then"
    if of["__ts"] > row["__ts"]:
        return "join", "had not happened by the row's own instant"
    if view.ttl_us is not None and of["__ts"] <= row["__ts"] - view.ttl_us:
        return "ttl", "was older than the ttl of that view"
    if view.source.op is not None:
        name = view.source.event_id or ""
        for other in others:
            newer = of["__created"] < other["__created"] <= row["__created"]
            if newer and bits(other[name]) == bits(of[name]):
                deleted = other[view.source.op] == "delete"
                return (
                    ("deletion ignored", "was deleted by then")
                    if deleted
                    else ("correction ignored", "was corrected by then")
                )
    known = [o for o in others if o["__ts"] <= row["__ts"] and o["__created"] <= row["__created"]]
    tied = [o for o in known if (o["__ts"], o["__created"]) == (of["__ts"], of["__created"])]
    if len(tied) > 1 and max(o["__ts"] for o in known) == of["__ts"]:
        return "tie", "is tied with another one"
    if any(o["__ts"] > of["__ts"] for o in known):
        return "join", "is behind a later one that was known"
    return None
