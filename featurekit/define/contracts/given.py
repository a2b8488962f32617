"""Turns what a source is given as `expect=` into rules, and says which of them it cannot have
(S5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from featurekit.core.types import Type
from featurekit.define.contracts.rules import Holds, RowRule, Rule
from featurekit.define.contracts.sets import References
from featurekit.errors import DefinitionError
from featurekit.language.transform import Transform


class Promising(Protocol):
    """What of a source decides which rules it can have."""

    @property
    def schema(self) -> Mapping[str, Type]:
        """The columns and their types."""

    @property
    def timestamp_field(self) -> str:
        """The instant of the event."""

    @property
    def created_timestamp_column(self) -> str | None:
        """The instant of arrival."""


def checked_rules(given: Any, source: Promising, what: str) -> tuple[Rule, ...]:
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


def _check_judged(rule: Rule, source: Promising, what: str) -> None:
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
