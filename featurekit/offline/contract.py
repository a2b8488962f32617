"""Judges all rows of a source by its contract (S5): one scan for every rule of a row, every share,
count and age together, and a query for each rule that compares rows with others. Where a source has
ids, the rules of all rows have a scan of their own, since they judge its events (T7).

What is measured does not depend on the hour, so that it can be kept for a content; `outcomes` then
says what holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from featurekit.core.attributes import Named
from featurekit.core.durations import duration_us
from featurekit.core.sql import quote
from featurekit.core.status import FOREVER
from featurekit.core.tables import fetch
from featurekit.core.types import instant
from featurekit.define.compile_view import compile_source
from featurekit.define.contracts.compiled import Contract, Judge
from featurekit.define.contracts.rules import Rule
from featurekit.define.contracts.sets import (
    Fresh,
    Monotone,
    NotNullShare,
    References,
    RowCount,
    SetRule,
    Share,
    Unique,
)
from featurekit.define.definitions import EventSource
from featurekit.offline.counted_events import make_counted
from featurekit.sources.contract import JudgedSql, judged_sql

_SHOWN = 80
_ALWAYS_US = 2**62
"""Longer than any two arrivals are apart, and still an int64 when added to one."""
Relation = Callable[[EventSource], str]
"""The events of another source, as a FROM item."""


@dataclass(frozen=True, slots=True)
class Outcome(Named):
    """What became of a rule: whether it `held`, how many `rows` it judged, how many of them are
    `broken`, and what was `found`, in words. `example` are the columns of a row that breaks it."""

    rule: str
    says: str
    severity: Literal["fail", "quarantine", "warn"]
    kind: Literal["schema", "row", "set"]
    held: bool
    rows: int
    broken: int
    found: str
    example: Mapping[str, str] | None = None

    @property
    def stops(self) -> bool:
        """Whether it stops the work."""
        return not self.held and self.severity == "fail"


@dataclass(frozen=True, slots=True)
class Measures:
    """What a source's rows are, as far as its contract asks: plain numbers and texts.

    `broken` and `silent` have a number of rows for each rule of a row, `shares` the rows that break
    the rule of a share and those of which it says nothing, by the name of the share. `others` has
    for each rule that compares rows how many break it. `examples` has a row for each rule that is
    broken. `kept` are the rows that are not set aside, `events` the events that these are, and
    `newest` and `arrived` the latest instants of the events.
    """

    rows: int
    kept: int
    events: int
    newest: int | None
    arrived: int | None
    broken: Mapping[str, int] = field(default_factory=dict)
    silent: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Sequence[int]] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


# --- measuring ------------------------------------------------------------------------------------


def measure(
    con: Any, source: EventSource, contract: Contract, relation: str, *, other: Relation
) -> Measures:
    """Measure the rows of `relation`, which has a source's columns, __ts and __created, with those
    that its contract sets aside. `other` gives the events of a source that a rule refers to."""
    shares = {rule.name: _share_of(rule) for rule in contract.sets if _is_share(rule)}
    of_shares = [_judge_of(source, share) for share in shares.values()]
    alone = source.event_id is None or not contract.sets
    judged = _judged(con, [*contract.judges, *(of_shares if alone else ())], relation)
    aside = _aside(contract.judges, judged)
    made = _scan(con, contract.judges, judged, aside, list(shares) if alone else ())
    examples = {
        judge.rule.name: _example(con, judge.rule.columns, judged.relation, test)
        for judge, test in zip(contract.judges, judged.broken, strict=False)
        if made.broken[judge.rule.name]
    }
    events = f"(SELECT * FROM {judged.relation} WHERE NOT ({aside}))"
    if not alone:
        events = _make_events(con, source, events)
        of_events = _scan(con, (), _judged(con, of_shares, events), "FALSE", list(shares))
        made = replace(
            of_events, rows=made.rows, kept=made.kept, broken=made.broken, silent=made.silent
        )
    others: dict[str, int] = {}
    for rule in contract.sets:
        query = _compared_sql(source, rule, events, other)
        if query is not None:
            total = f"SELECT coalesce(sum(__n), 0)::BIGINT FROM ({query})"
            others[rule.name] = fetch(con, total)[0][0]
            if others[rule.name]:
                examples[rule.name] = _example(con, rule.columns, f"({query})", "TRUE")
    return replace(made, others=others, examples=examples)


def _judged(con: Any, judges: Sequence[Judge], relation: str) -> JudgedSql:
    judged = judged_sql(judges, relation)
    judged.register(con)
    return judged


def _make_events(con: Any, source: EventSource, kept: str) -> str:
    """Make the relation of the events that the rows of `kept` are, once all of them have arrived
    (T7): of copies the first known one, of corrections the last one. A source that does not say how
    long ids are remembered leaves that to each view; here they are never forgotten."""
    given = source.dedupe_within
    within = _ALWAYS_US if given is None else duration_us(given, what="dedupe_within")
    plain = f"(SELECT {', '.join([*map(quote, source.schema), '__ts', '__created'])} FROM {kept})"
    counted = make_counted(con, compile_source(source), plain, within=within)
    if source.op is None:
        return counted
    return f"(SELECT * EXCLUDE (__end) FROM {counted} WHERE __end = {FOREVER})"


def _is_share(rule: SetRule) -> bool:
    return isinstance(rule, (Share, NotNullShare))


def _share_of(rule: SetRule) -> Share:
    if isinstance(rule, NotNullShare):
        return rule.share
    assert isinstance(rule, Share)
    return rule


def _judge_of(source: EventSource, share: Share) -> Judge:
    what = f"EventSource {source.name!r}, rule {share.name!r}"
    return Judge(share.rule, share.rule.compiled(source.schema, what))


def _aside(judges: Sequence[Judge], judged: JudgedSql) -> str:
    """Whether a row is set aside."""
    tests = [
        f"({test})"
        for judge, test in zip(judges, judged.broken, strict=False)
        if judge.rule.severity == "quarantine"
    ]
    return " OR ".join(tests) or "FALSE"


def _scan(
    con: Any, judges: Sequence[Judge], judged: JudgedSql, aside: str, shares: Sequence[str]
) -> Measures:
    """The one scan of what is `judged`: by `judges`, the rules of rows, and then by the rules of
    these shares. Every row that is not set aside is taken for an event."""

    def count(test: str | None) -> str:
        return "0" if test is None else f"count(*) FILTER ({test})"

    kept = "" if aside == "FALSE" else f" AND NOT ({aside})"
    there = "TRUE" if aside == "FALSE" else f"NOT ({aside})"
    tests = list(zip(judged.broken, judged.silent, strict=True))
    items = ["count(*)", count(there)]
    items += [f"max({name}) FILTER ({there})" for name in ("__ts", "__created")]
    for broken, silent in tests[: len(judges)]:
        items += [count(broken), count(silent)]
    for broken, silent in tests[len(judges) :]:
        items += [count(f"({broken}){kept}"), count(silent and f"({silent}){kept}")]
    rows, left, newest, arrived, *counts = fetch(
        con, f"SELECT {', '.join(items)} FROM {judged.relation}"
    )[0]
    pairs = list(zip(counts[::2], counts[1::2], strict=True))
    names = [judge.rule.name for judge in judges]
    return Measures(
        rows,
        left,
        left,
        newest,
        arrived,
        broken={name: n for name, (n, _) in zip(names, pairs, strict=False)},
        silent={name: n for name, (_, n) in zip(names, pairs, strict=False)},
        shares={name: list(pair) for name, pair in zip(shares, pairs[len(judges) :], strict=True)},
    )


def _example(con: Any, columns: Sequence[str], relation: str, test: str) -> dict[str, str]:
    """The columns of a row that breaks a rule."""
    items = ", ".join(f"{quote(c)}::VARCHAR" for c in columns)
    rows = fetch(con, f"SELECT {items} FROM {relation} WHERE {test} LIMIT 1")
    shown = ("null" if v is None else v for v in rows[0]) if rows else ()
    cut = (v if len(v) <= _SHOWN else f"{v[: _SHOWN - 1]}…" for v in shown)
    return dict(zip(columns, cut, strict=False))


def _compared_sql(source: EventSource, rule: SetRule, kept: str, other: Relation) -> str | None:
    """SQL of the rule's columns and `__n`, the number of rows that break it for these; None for a
    rule that the one scan judges."""
    match rule:
        case Unique():
            names = ", ".join(map(quote, rule.columns))
            there = " AND ".join(f"{quote(c)} IS NOT NULL" for c in rule.columns)
            return (
                f"SELECT {names}, count(*) - 1 AS __n FROM {kept} WHERE {there} "
                f"GROUP BY {names} HAVING count(*) > 1"
            )
        case References():
            pairs = list(zip(rule.columns, rule.there, strict=True))
            names = ", ".join(quote(c) for c in rule.columns)
            same = " AND ".join(f"a_.{quote(c)} = b_.{quote(o)}" for c, o in pairs)
            there = " AND ".join(f"{quote(c)} IS NOT NULL" for c in rule.columns)
            return (
                f"SELECT {names}, 1 AS __n FROM (SELECT * FROM {kept} WHERE {there}) AS a_ "
                f"ANTI JOIN {other(rule.to)} AS b_ ON {same}"
            )
        case Monotone():
            return _monotone_sql(source, rule, kept)
        case Share() | NotNullShare() | Fresh() | RowCount():
            return None
        case _:
            assert_never(rule)  # type: ignore[arg-type]


def _monotone_sql(source: EventSource, rule: Monotone, kept: str) -> str:
    value = quote(rule.column)
    groups = ", ".join(map(quote, rule.groups))
    order = ["__ts", "__created", *([quote(source.sequence)] if source.sequence else []), value]
    over = f"{f'PARTITION BY {groups} ' if groups else ''}ORDER BY {', '.join(order)}"
    names = ", ".join(map(quote, rule.columns))
    falls = "<=" if rule.strictly else "<"
    return (
        f"SELECT {names}, 1 AS __n FROM (SELECT *, lag({value}) OVER ({over}) AS __before "
        f"FROM {kept} WHERE {value} IS NOT NULL) WHERE {value} {falls} __before"
    )


# --- what holds -----------------------------------------------------------------------------------


def outcomes(
    contract: Contract, found: Measures, *, now_us: int, rows_before: int | None
) -> list[Outcome]:
    """What became of each rule, as of `now_us`. `rows_before` are those that the source had when it
    was materialised last; None where it never was."""
    made = []
    for judge in contract.judges:
        name = judge.rule.name
        broken, silent = found.broken[name], found.silent[name]
        said = f"{broken:,} of {found.rows:,} rows break it" if broken else "every row keeps it"
        said += f", and {silent:,} have no value" if silent else ""
        made.append(_outcome(judge.rule, "row", found, broken == 0, found.rows, broken, said))
    for rule in contract.sets:
        held, broken, said = _of_set(rule, found, now_us, rows_before)
        made.append(_outcome(rule, "set", found, held, found.events, broken, said))
    return made


def _outcome(
    rule: Rule,
    kind: Literal["row", "set"],
    found: Measures,
    held: bool,
    rows: int,
    broken: int,
    said: str,
) -> Outcome:
    example = None if held else found.examples.get(rule.name)
    return Outcome(rule.name, rule.says, rule.severity, kind, held, rows, broken, said, example)


def _of_set(
    rule: SetRule, found: Measures, now_us: int, rows_before: int | None
) -> tuple[bool, int, str]:
    """Whether the rule holds, how many rows break it, and what was found."""
    match rule:
        case Share() | NotNullShare():
            broken, silent = found.shares[rule.name]
            judged = found.events - silent
            share = 1.0 if not judged else (judged - broken) / judged
            # Compared as whole numbers of rows: a share is rounded.
            held = judged - broken >= rule.at_least * judged
            return held, broken, f"{share:.6g} of {judged:,} rows keep it"
        case Fresh():
            return _of_fresh(rule, found, now_us)
        case RowCount():
            return _of_count(rule, found.events, rows_before)
        case Unique():
            broken = found.others[rule.name]
            return broken == 0, broken, f"{broken:,} rows repeat another one"
        case References():
            broken = found.others[rule.name]
            return broken == 0, broken, f"{broken:,} rows name what {rule.to.name} does not have"
        case Monotone():
            broken = found.others[rule.name]
            falls = "do not rise" if rule.strictly else "fall"
            return broken == 0, broken, f"{broken:,} rows {falls}"
        case _:
            assert_never(rule)  # type: ignore[arg-type]


def _of_fresh(rule: Fresh, found: Measures, now_us: int) -> tuple[bool, int, str]:
    newest = found.newest if rule.by == "event" else found.arrived
    if newest is None:
        return False, 0, "there is no row"
    age = max(now_us - newest, 0)
    said = f"the latest is of {instant(newest).isoformat()}, {_ago(age)} ago"
    return age <= rule.within_us, 0, said


def _ago(us: int) -> str:
    """An age in whole units, two of them or more where it can be."""
    units = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
    seconds = us // 1_000_000
    name, unit = next(((n, u) for n, u in units if seconds >= 2 * u), units[-1])
    return f"{seconds // unit:,} {name}"


def _of_count(rule: RowCount, rows: int, before: int | None) -> tuple[bool, int, str]:
    held = (rule.at_least is None or rows >= rule.at_least) and (
        rule.at_most is None or rows <= rule.at_most
    )
    said = f"{rows:,} rows"
    if rule.change is not None:
        if before is None:
            said += ", and none to compare with before the first materialisation"
        else:
            held = held and abs(rows - before) <= rule.change * before
            said += f", and {before:,} before"
    return held, 0, said
