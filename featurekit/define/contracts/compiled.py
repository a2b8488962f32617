"""Turns the rules of a source into a compiled contract, and into what of it decides values (S5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurekit.core.kept import Kept
from featurekit.core.written import placed
from featurekit.define.contracts.rules import Holds, RowRule, Rule
from featurekit.define.contracts.sets import References, SetRule
from featurekit.define.plan import Check
from featurekit.errors import CompileError, DefinitionError
from featurekit.language import walk, wire
from featurekit.language.transform import Transform

if TYPE_CHECKING:
    from featurekit.define.definitions import EventSource


@dataclass(frozen=True, slots=True)
class Judge:
    """A rule of a row, and what it compiles to."""

    rule: RowRule
    check: Check

    @property
    def reason(self) -> str:
        """Why a row that breaks it is a bad one."""
        return f"rule {self.rule.name}: not {self.rule.says}"


@dataclass(frozen=True, slots=True)
class Contract:
    """The compiled rules of a source, in their order."""

    judges: tuple[Judge, ...]
    sets: tuple[SetRule, ...]

    @property
    def aside(self) -> tuple[Judge, ...]:
        """The rules that set rows aside."""
        return tuple(judge for judge in self.judges if judge.rule.severity == "quarantine")

    def __bool__(self) -> bool:
        return bool(self.judges or self.sets)


def _compile(source: EventSource) -> Contract:
    judges: list[Judge] = []
    sets: list[SetRule] = []
    for rule in source.expect:
        assert isinstance(rule, Rule)
        what = f"EventSource {source.name!r}, rule {rule.name!r}"
        try:
            if isinstance(rule, RowRule):
                judges.append(Judge(rule, rule.compiled(source.schema, what)))
            elif isinstance(rule, SetRule):
                rule.check_columns(source.schema, what)
                sets.append(rule)
        except CompileError:
            raise
        except DefinitionError as error:
            raise placed(error, rule.place or source.place) from None
    return Contract(tuple(judges), tuple(sets))


contract_of = Kept(_compile)
"""The compiled contract of an EventSource. DefinitionError where a rule does not fit its schema."""


def _decides(source: EventSource) -> tuple[Check, ...] | None:
    found = [
        replace(judge.check, function=walk.rename(judge.check.function))
        for judge in contract_of(source).aside
    ]
    # A row is set aside whichever rule it breaks, so their order decides nothing.
    distinct = {wire.canonical(check): check for check in found}
    return tuple(check for _, check in sorted(distinct.items())) or None


deciding_checks = Kept(_decides)
"""What of an EventSource's contract decides values: the checks that set rows aside, without their
names and sorted; None where there are none."""


def checked_rules(given: Any, source: EventSource, what: str) -> tuple[Rule, ...]:
    """What `expect=` is given, as rules. DefinitionError for what is none, for two of one name, and
    for one that cannot be judged of this source."""
    if not isinstance(given, (list, tuple)):
        raise DefinitionError(
            f"{what}: expect is a list of rules, found {given!r}; write "
            'expect=[Between("quantity", 0, 10_000)]'
        )
    rules: list[Rule] = []
    for one in given:
        rule = Holds(one) if isinstance(one, Transform) else one
        if not isinstance(rule, Rule):
            raise DefinitionError(
                f"{what}, expect: {one!r} is no rule; write one of featurekit's rules, as "
                'Between("quantity", 0, 10_000), or a @feature that returns bool'
            )
        _check_judged(rule, source, what)
        rules.append(rule)
    _check_names(rules, what)
    return tuple(rules)


def _check_names(rules: Sequence[Rule], what: str) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        other = seen.setdefault(rule.name, rule)
        if other is not rule:
            raise DefinitionError(
                f"{what}, expect: two rules are called {rule.name!r}, {other.written} and "
                f'{rule.written}; give one another name="…"'
            )


def _check_judged(rule: Rule, source: EventSource, what: str) -> None:
    arrival = source.created_timestamp_column
    if isinstance(rule, RowRule) and arrival in rule.columns and arrival != source.timestamp_field:
        raise DefinitionError(
            f"{what}, rule {rule.name!r}: it reads {arrival!r}, the arrival, which a pushed row "
            'gets only once it is taken; write a rule of other columns, or Fresh(…, by="arrival")'
        )
    if isinstance(rule, References):
        for column, there in zip(rule.columns, rule.there, strict=True):
            mine, other = source.schema.get(column), rule.to.schema.get(there)
            if mine is not None and (other is None or other.base != mine.base):
                found = "no such column" if other is None else f"{other}"
                raise DefinitionError(
                    f"{what}, rule {rule.name!r}: {column!r} is {mine}, and {there!r} of "
                    f"{rule.to.name!r} is {found}; name a column of the same type with found_in="
                )
