"""Turns a suite of Great Expectations 1.x, which is plain JSON, into rules and back (S5).

A row in which a value is null keeps every expectation but `not_be_null`, there as here. What has no
counterpart is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.types import Type
from featurekit.define.contracts.exchange import BY_SCHEMA, Taken, limit, plain
from featurekit.define.contracts.rules import (
    Between,
    Holds,
    Length,
    Matches,
    NotNull,
    OneOf,
    Ready,
    RowRule,
    Rule,
)
from featurekit.define.contracts.sets import (
    Fresh,
    Monotone,
    NotNullShare,
    References,
    RowCount,
    Share,
    Unique,
)
from featurekit.errors import DataError, DefinitionError

_WHOLE = ("\\A(?:", ")\\Z")
"""How a pattern that matches the whole text is written for a search."""
_BEGINS = ("\\A(?:", ")")
_SEVERITIES = {"critical": "fail", "warning": "warn", "info": "warn"}
_OURS = "featurekit"
Kwargs = Mapping[str, Any]


# --- from a suite ---------------------------------------------------------------------------------


def from_gx(suite: Any, schema: Mapping[str, Type] | None = None) -> Taken:
    """The rules of a suite; `schema`, if there is one, decides whether they fit. DataError for what
    is no suite."""
    found = suite.get("expectations") if isinstance(suite, Mapping) else None
    if not isinstance(found, list):
        raise DataError(
            'this is no suite of Great Expectations: it has no list "expectations"; write '
            "`json.dumps(suite.to_json_dict())`"
        )
    taken = Taken()
    for one in found:
        if not isinstance(one, Mapping) or not isinstance(one.get("kwargs"), Mapping):
            raise DataError(f"this is no expectation of Great Expectations: {one!r}")
        _take(taken, one, schema)
    return taken


def _take(taken: Taken, one: Mapping[str, Any], schema: Mapping[str, Type] | None) -> None:
    kind = str(one.get("type") or one.get("expectation_type"))
    kwargs = {k: v for k, v in one["kwargs"].items() if v is not None and k != "batch_id"}
    shown = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
    said = f"{kind}({shown})"
    if kind in _OF_SCHEMA:
        taken.left_out.append(f"{said}: {BY_SCHEMA}")
        return
    make = _FROM.get(kind)
    if make is None:
        taken.left_out.append(f"{said}: it has no counterpart; write a @feature that returns bool")
        return
    if kwargs.get("row_condition") is not None:
        taken.left_out.append(f"{said}: a condition on rows; write a @feature that returns bool")
        return
    try:
        rule = _with_severity(make(kwargs, schema or {}), one)
    except (DefinitionError, KeyError, TypeError) as error:
        taken.left_out.append(f"{said}: {error}")
        return
    taken.add(rule, schema)


def _with_severity(rule: Rule, one: Mapping[str, Any]) -> Rule:
    ours = (one.get("meta") or {}).get(_OURS) or {}
    severity: Any = ours.get("severity") or _SEVERITIES.get(str(one.get("severity")), "fail")
    if severity == "quarantine" and not rule.of_rows:
        severity = "fail"
    name = ours.get("name", rule.name)
    return replace(rule, severity=severity, name=name)


def _mostly(rule: RowRule, kwargs: Kwargs) -> Rule:
    """The rule, or its share where it may be broken by some rows."""
    mostly = kwargs.get("mostly", 1)
    if mostly == 1:
        return rule
    return NotNullShare(rule.column, mostly) if isinstance(rule, NotNull) else Share(rule, mostly)


def _between(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    type_ = schema.get(kwargs["column"])
    low, high = (limit(kwargs.get(name), type_) for name in ("min_value", "max_value"))
    ends = {
        "above" if kwargs.get("strict_min") else "low": low,
        "below" if kwargs.get("strict_max") else "high": high,
    }
    return _mostly(Between(kwargs["column"], **ends), kwargs)


def _of_least(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if "max_value" in kwargs:
        raise DefinitionError("an upper limit of the least value has no counterpart")
    return _between(kwargs, schema)


def _of_greatest(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if "min_value" in kwargs:
        raise DefinitionError("a lower limit of the greatest value has no counterpart")
    return _between(kwargs, schema)


def _one_of(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    type_ = schema.get(kwargs["column"])
    values = [limit(value, type_) for value in kwargs["value_set"] if value is not None]
    return _mostly(OneOf(kwargs["column"], values), kwargs)


def _matches(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    pattern, how = kwargs["regex"], "search"
    for (begin, end), as_written in ((_WHOLE, "fullmatch"), (_BEGINS, "match")):
        if how == "search" and pattern.startswith(begin) and pattern.endswith(end):
            pattern, how = pattern[len(begin) : len(pattern) - len(end)], as_written
    made: Any = how
    return _mostly(Matches(kwargs["column"], pattern, how=made), kwargs)


def _length(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if kwargs.get("strict_min") or kwargs.get("strict_max"):
        raise DefinitionError("strict limits of a length; write the next length")
    low, high = (limit(kwargs.get(name), None) for name in ("min_value", "max_value"))
    return _mostly(Length(kwargs["column"], low, high), kwargs)


def _equal_length(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    value = limit(kwargs["value"], None)
    return _mostly(Length(kwargs["column"], value, value), kwargs)


def _not_null(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    return _mostly(NotNull(kwargs["column"]), kwargs)


def _not_null_share(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if kwargs.get("max_value", 1) != 1 or kwargs.get("strict_min"):
        raise DefinitionError("a share has one limit here, the least; write NotNullShare")
    return NotNullShare(kwargs["column"], kwargs["min_value"])


def _unique(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if kwargs.get("mostly", 1) != 1:
        raise DefinitionError("a share of unique values has no counterpart")
    return Unique(kwargs["column"])


def _compound(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if kwargs.get("mostly", 1) != 1:
        raise DefinitionError("a share of unique rows has no counterpart")
    columns = kwargs["column_list"]
    null = [c for c in columns if c not in schema or schema[c].optional]
    if null and kwargs.get("ignore_row_if") != "any_value_is_missing":
        raise DefinitionError(
            'rows with some nulls are compared there, and left out here; say ignore_row_if="any_'
            'value_is_missing", or name the source whose columns are never null'
        )
    return Unique(columns)


def _row_count(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    if kwargs.get("strict_min") or kwargs.get("strict_max"):
        raise DefinitionError("strict limits of a number of rows; write the next number")
    return RowCount(kwargs.get("min_value"), kwargs.get("max_value"))


def _equal_count(kwargs: Kwargs, schema: Mapping[str, Type]) -> Rule:
    return RowCount(kwargs["value"], kwargs["value"])


_FROM: Mapping[str, Callable[[Kwargs, Mapping[str, Type]], Rule]] = {
    "expect_column_values_to_be_between": _between,
    "expect_column_min_to_be_between": _of_least,
    "expect_column_max_to_be_between": _of_greatest,
    "expect_column_values_to_be_in_set": _one_of,
    "expect_column_distinct_values_to_be_in_set": _one_of,
    "expect_column_values_to_match_regex": _matches,
    "expect_column_value_lengths_to_be_between": _length,
    "expect_column_value_lengths_to_equal": _equal_length,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_proportion_of_non_null_values_to_be_between": _not_null_share,
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _compound,
    "expect_table_row_count_to_be_between": _row_count,
    "expect_table_row_count_to_equal": _equal_count,
}
_OF_SCHEMA = {
    "expect_column_to_exist",
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_column_type_to_be",
    "expect_table_columns_to_match_set",
    "expect_table_columns_to_match_ordered_list",
    "expect_table_column_count_to_equal",
    "expect_table_column_count_to_be_between",
}


# --- to a suite -----------------------------------------------------------------------------------


def to_gx(name: str, rules: Sequence[Rule]) -> tuple[dict[str, Any], list[str]]:
    """The suite of these rules, as JSON has it, and what does not carry over."""
    made: list[dict[str, Any]] = []
    left_out: list[str] = []
    for rule in rules:
        try:
            kind, kwargs = _expectation(rule)
        except DefinitionError as error:
            left_out.append(f"{rule.written}: {error}")
            continue
        ours = {"name": rule.name, "severity": rule.severity}
        made.append(
            {
                "type": kind,
                "kwargs": {k: v for k, v in kwargs.items() if v is not None},
                "meta": {_OURS: ours},
                "severity": "warning" if rule.severity == "warn" else "critical",
            }
        )
    suite = {
        "name": name,
        "id": None,
        "expectations": made,
        "meta": {"great_expectations_version": "1.0.0"},
        "notes": None,
    }
    return suite, left_out


def _expectation(rule: Rule) -> tuple[str, dict[str, Any]]:
    kwargs: dict[str, Any]
    match rule:
        case Between():
            low = rule.low if rule.low is not None else rule.above
            high = rule.high if rule.high is not None else rule.below
            return "expect_column_values_to_be_between", {
                "column": rule.column,
                "min_value": plain(low),
                "max_value": plain(high),
                "strict_min": True if rule.above is not None else None,
                "strict_max": True if rule.below is not None else None,
            }
        case OneOf():
            values = [plain(value) for value in rule.values]
            return "expect_column_values_to_be_in_set", {
                "column": rule.column,
                "value_set": values,
            }
        case Matches():
            begin, end = {"fullmatch": _WHOLE, "match": _BEGINS, "search": ("", "")}[rule.how]
            regex = f"{begin}{rule.pattern}{end}"
            return "expect_column_values_to_match_regex", {"column": rule.column, "regex": regex}
        case Length():
            kwargs = {"column": rule.column, "min_value": rule.low, "max_value": rule.high}
            return "expect_column_value_lengths_to_be_between", kwargs
        case NotNull():
            return "expect_column_values_to_not_be_null", {"column": rule.column}
        case NotNullShare():
            kwargs = {"column": rule.column, "mostly": rule.at_least}
            return "expect_column_values_to_not_be_null", kwargs
        case Share():
            kind, kwargs = _expectation(rule.rule)
            return kind, {**kwargs, "mostly": rule.at_least}
        case Unique():
            return _unique_expectation(rule)
        case RowCount():
            if rule.change is not None:
                raise DefinitionError("a suite does not know how many rows there were before")
            kwargs = {"min_value": rule.at_least, "max_value": rule.at_most}
            return "expect_table_row_count_to_be_between", kwargs
        case Monotone():
            raise DefinitionError("a suite takes the rows in the order of the table, not of time")
        case Fresh() | References() | Holds() | Ready():
            raise DefinitionError("it has no counterpart")
    raise TypeError(f"{type(rule).__name__} is no rule that is known here")


def _unique_expectation(rule: Unique) -> tuple[str, dict[str, Any]]:
    if len(rule.columns) == 1:
        return "expect_column_values_to_be_unique", {"column": rule.columns[0]}
    return "expect_compound_columns_to_be_unique", {
        "column_list": list(rule.columns),
        "ignore_row_if": "any_value_is_missing",
    }
