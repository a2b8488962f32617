"""Turns the rules of a source into a compiled contract, and into what of it decides values (S5)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from featurekit.core.kept import Kept
from featurekit.core.written import placed
from featurekit.define.contracts.rules import RowRule, Rule
from featurekit.define.contracts.sets import SetRule
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Check
from featurekit.errors import CompileError, DefinitionError
from featurekit.language import walk, wire


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


def check_lists(source: EventSource, columns: Collection[str]) -> None:
    """DefinitionError where a rule that sets rows aside reads one of these lists, out of which
    elements are forgotten: without them it might judge a row otherwise than before (S5)."""
    for judge in contract_of(source).aside if columns and source.expect else ():
        for column in judge.rule.columns:
            if column in columns:
                raise DefinitionError(
                    f"EventSource {source.name!r}: rule {judge.rule.name!r} sets rows aside by the "
                    f"list {column!r}, and an entity that is an element of that list is forgotten, "
                    "so the rule would judge the same row in two ways; write the rule with "
                    'severity="fail" or "warn"'
                )


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
