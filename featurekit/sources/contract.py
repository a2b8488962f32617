"""Judges rows by a source's contract: rows of files in SQL, pushed rows in Python, by the same
compiled rules (S5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from featurekit.core.kept import Kept
from featurekit.core.sql import quote, text_literal
from featurekit.core.values import ERROR
from featurekit.define.contracts.compiled import Judge, contract_of
from featurekit.define.contracts.sets import NotNullShare, Share, Unique
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Check
from featurekit.errors import ContractBroken
from featurekit.language.python_calls import PythonCall, register_python_ops
from featurekit.language.to_duckdb import Lowering, Sql, Value, lower
from featurekit.language.to_python import to_python

if TYPE_CHECKING:
    import duckdb

_SHOWN = 80


# --- in SQL ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgedSql:
    """A FROM item with a source's columns and what the rules need beside them. `broken` and
    `silent` have a predicate for each rule, never NULL: whether a row breaks it, and whether it
    says nothing of a row; `silent` is None where it says something of every row."""

    relation: str
    broken: tuple[str, ...]
    silent: tuple[str | None, ...]
    calls: Mapping[str, PythonCall]

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Give the connection the Python functions that the rules call (R5)."""
        register_python_ops(con, dict(self.calls))

    @property
    def any_broken(self) -> str:
        """Whether a row breaks one of the rules."""
        return " OR ".join(f"({test})" for test in self.broken) or "FALSE"


def judged_sql(judges: Sequence[Judge], relation: str) -> JudgedSql:
    """The rules over `relation`, which has the canonical columns of their source."""
    lowering = Lowering(prefix="__rule")
    broken: list[str] = []
    silent: list[str | None] = []
    for judge in judges:
        check = judge.check
        value = lower(lowering, check.function, [Value(Sql(quote(c))) for c in check.columns])
        text = value.sql.text
        if not check.function.returns.optional:  # NULL is the error
            broken.append(f"({text}) IS NOT TRUE" if value.errs else f"NOT ({text})")
            silent.append(None)
            continue
        error = value.error.text if value.errs and value.error is not None else None
        is_false = f"({text}) IS FALSE"
        broken.append(is_false if error is None else f"({error}) OR {is_false}")
        is_none = f"({text}) IS NULL"
        silent.append(is_none if error is None else f"NOT ({error}) AND {is_none}")
    return JudgedSql(
        lowering.wrap(relation), tuple(broken), tuple(silent), dict(lowering.python_ops)
    )


def reason_sql(judges: Sequence[Judge], judged: JudgedSql) -> str:
    """SQL for the first of the rules that a row breaks, as text."""
    cases = " ".join(
        f"WHEN {test} THEN {text_literal(judge.reason)}"
        for judge, test in zip(judges, judged.broken, strict=True)
    )
    return f"CASE {cases} END"


def kept_sql(source: EventSource, judged: JudgedSql) -> str:
    """SQL of the rows that break none of the rules: the source's columns, __ts and __created."""
    columns = ", ".join([*map(quote, source.schema), "__ts", "__created"])
    return f"SELECT {columns} FROM {judged.relation} WHERE NOT ({judged.any_broken})"


# --- in Python ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Verdict:
    """What the contract says of pushed rows: the number of rows that break each rule, by the rule's
    name, and for each row that is set aside the reason, by the row's place. Of the rules of all
    rows, these are rows that break the rule of a share, and ones that repeat another one of the
    push; they decide nothing."""

    broken: dict[str, int] = field(default_factory=dict)
    aside: dict[int, str] = field(default_factory=dict)


class _RowJudge:
    """The rules of a source, as functions of a row."""

    def __init__(self, source: EventSource) -> None:
        contract = contract_of(source)
        self.judges = contract.judges
        self.functions = [to_python(judge.check.function) for judge in self.judges]
        self.shares: list[tuple[str, Check, Callable[..., Any]]] = []
        self.uniques = [rule for rule in contract.sets if isinstance(rule, Unique)]
        for rule in contract.sets:
            share = rule.share if isinstance(rule, NotNullShare) else rule
            if isinstance(share, Share):
                what = f"EventSource {source.name!r}, rule {rule.name!r}"
                check = share.rule.compiled(source.schema, what)
                self.shares.append((rule.name, check, to_python(check.function)))
        read = [c for judge in self.judges for c in judge.check.columns]
        read += [c for _, check, _ in self.shares for c in check.columns]
        read += [c for rule in self.uniques for c in rule.columns]
        self.event_id, self.op = source.event_id, source.op
        if self.shares or self.uniques:
            read += [c for c in (source.event_id, source.op) if c is not None]
        self.columns = list(dict.fromkeys(read))

    def judge(self, rows: Sequence[Mapping[str, Any]]) -> Verdict:
        """Judge rows of canonical values; ContractBroken with the first one that breaks a rule of
        severity "fail", and nothing else is done."""
        verdict = Verdict()
        for judge, function in zip(self.judges, self.functions, strict=True):
            columns = judge.check.columns
            wrong = [
                place
                for place, row in enumerate(rows)
                if _breaks(function(*[row[c] for c in columns]))
            ]
            if wrong:
                verdict.broken[judge.rule.name] = len(wrong)
                if judge.rule.severity == "quarantine":
                    for place in wrong:
                        verdict.aside.setdefault(place, judge.reason)
                elif judge.rule.severity == "fail":
                    raise _Fails(judge, wrong)
        kept = [row for place, row in enumerate(rows) if place not in verdict.aside]
        verdict.broken |= {name: n for name, n in self._of_all(self._events(kept)) if n}
        return verdict

    def _events(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """One row for each id, as far as the push tells: of copies the first that is given, of
        corrections the last, and none where that takes the event away (T7)."""
        if self.event_id is None or not (self.shares or self.uniques):
            return rows
        in_order = rows if self.op is not None else reversed(rows)
        found = {row[self.event_id]: row for row in in_order}
        return [row for row in found.values() if self.op is None or row[self.op] == "upsert"]

    def _of_all(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
        """How many of the rows break the rule of a share, or repeat another one of the push."""
        for name, check, function in self.shares:
            yield name, sum(_breaks(function(*[row[c] for c in check.columns])) for row in rows)
        for rule in self.uniques:
            keys = [tuple(_key(row[c]) for c in rule.columns) for row in rows]
            there = [key for key in keys if None not in key]
            yield rule.name, len(there) - len({*there})


def _breaks(said: Any) -> bool:
    return said is False or said is ERROR


def _key(value: Any) -> Any:
    """A value by which equal ones are found: every NaN is one, and so are both zeros."""
    if isinstance(value, list):
        return ("list", *map(_key, value))
    return "nan" if isinstance(value, float) and value != value else value


class _Fails(Exception):
    """Rows break a rule that fails."""

    def __init__(self, judge: Judge, places: Sequence[int]) -> None:
        super().__init__(judge.rule.name)
        self.judge, self.places = judge, places


_judge_of = Kept(_RowJudge)


def is_judged(source: EventSource) -> bool:
    """Whether pushed rows are judged."""
    return bool(source.expect) and bool(contract_of(source))


def columns_judged(source: EventSource) -> list[str]:
    """The columns that the rules of rows read."""
    return _judge_of(source).columns


def judge_push(
    source: EventSource, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]
) -> Verdict:
    """The verdict on the rows of a push, whose numbers there are `numbers`. ContractBroken where
    one breaks a rule of severity "fail"."""
    try:
        return _judge_of(source).judge(rows)
    except _Fails as fault:
        place = fault.places[0]
        rule, row = fault.judge.rule, rows[place]
        shown = ", ".join(f"{c}={row[c]!r}" for c in fault.judge.check.columns)
        shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
        more = f" ({len(fault.places):,} rows of the push do)" if len(fault.places) > 1 else ""
        raise ContractBroken(
            f"push to {source.name!r}, row {numbers[place]} (the first is 0): {shown} breaks rule "
            f"{rule.name}: {rule.says}{more}; nothing was pushed. Mend the row, or write "
            'severity="quarantine" at the rule to set such rows aside'
        ) from None


def places_kept(source: EventSource, rows: Sequence[Any]) -> list[int]:
    """The places of those rows of canonical values that break no rule which sets rows aside."""
    aside = contract_of(source).aside
    functions = [(to_python(judge.check.function), judge.check.columns) for judge in aside]
    return [
        place
        for place, row in enumerate(rows)
        if not any(_breaks(function(*[row[c] for c in columns])) for function, columns in functions)
    ]
