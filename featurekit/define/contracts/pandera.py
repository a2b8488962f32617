"""Turns a schema of pandera, as `schema.to_json()` writes it, into rules and back (S5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.types import Type
from featurekit.define.contracts.exchange import BY_SCHEMA, Taken, limit, plain
from featurekit.define.contracts.rules import Between, Length, Matches, NotNull, OneOf, Rule
from featurekit.define.contracts.sets import Unique
from featurekit.errors import DataError, DefinitionError

_OF_SCHEMA = ("strict", "ordered", "coerce", "dtype", "index")
_DTYPES = {
    "int": ("int64", "Int64"),
    "float": ("float64", "float64"),
    "bool": ("bool", "boolean"),
    "str": ("string", "string"),
    "datetime": ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}
"""The dtype of a column of each type, and that of one which may be null."""
_WHOLE = ("(?:", ")\\Z")
"""How a pattern that matches the whole text is written for a match at its beginning."""
Make = Callable[[str, Any, "Type | None"], Rule]


# --- from a schema --------------------------------------------------------------------------------


def from_pandera(written: Any, schema: Mapping[str, Type] | None = None) -> Taken:
    """The rules of a pandera schema; `schema` is that of a source, if there is one, and decides
    whether they fit. DataError for what is none."""
    columns = written.get("columns") if isinstance(written, Mapping) else None
    if not isinstance(columns, Mapping):
        raise DataError(
            'this is no schema of pandera: it has no object "columns"; write `schema.to_json()`'
        )
    taken = Taken()
    for name, about in columns.items():
        _take_column(taken, name, about, schema)
    keys = written.get("unique")
    if keys:
        taken.add(Unique(keys), schema)
    for option in ("checks", "dataframe_checks"):
        if written.get(option):
            taken.left_out.append(
                f"{option} {written[option]!r}: a check of a whole frame; write a @feature"
            )
    for option in _OF_SCHEMA:
        if written.get(option):
            taken.left_out.append(f"{option}={written[option]!r}: {BY_SCHEMA}")
    return taken


def _take_column(
    taken: Taken, name: str, about: Mapping[str, Any], schema: Mapping[str, Type] | None
) -> None:
    if about.get("regex"):
        taken.left_out.append(f"column {name!r}: a pattern of names; write a rule for each column")
        return
    type_ = (schema or {}).get(name)
    never = type_ is not None and not type_.optional
    if not about.get("nullable") and not never:
        taken.add(NotNull(name), schema)
    if about.get("unique"):
        taken.add(Unique(name), schema)
    found: list[Rule] = []
    for check, (given, options) in _checks(about).items():
        said = f"column {name!r}, {check}={given!r}"
        make = _FROM.get(check)
        if make is None:
            taken.left_out.append(f"{said}: it has no counterpart; write a @feature")
            continue
        try:
            rule = make(name, given, type_)
        except (DefinitionError, KeyError, TypeError) as error:
            taken.left_out.append(f"{said}: {error}")
            continue
        found.append(replace(rule, severity="warn") if options.get("raise_warning") else rule)
    for rule in _joined(found):
        taken.add(rule, schema)


_NO_CHECKS = {
    "dtype", "nullable", "unique", "coerce", "required", "regex", "title", "description",
    "checks", "report_duplicates", "default", "metadata", "drop_invalid_rows", "name", "parsers",
}  # fmt: skip
_OPTIONS = {
    "raise_warning",
    "ignore_na",
    "name",
    "error",
    "title",
    "description",
    "n_failure_cases",
}


def _checks(about: Mapping[str, Any]) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Each check of a column: what it is given, and its options. They stand among the fields of the
    column, or below "checks"."""
    found = {name: given for name, given in about.items() if name not in _NO_CHECKS}
    below = about.get("checks")
    if isinstance(below, Mapping):
        found |= below
    elif isinstance(below, list):
        found |= {one["options"]["check_name"]: one for one in below if "options" in one}
    made: dict[str, tuple[Any, Mapping[str, Any]]] = {}
    for name, given in found.items():
        options: dict[str, Any] = {}
        if isinstance(given, Mapping):
            options = {**given.get("options", {}), **given}
            rest = {k: v for k, v in given.items() if k not in ("options", *_OPTIONS)}
            single = len(rest) == 1 and name != "str_length"
            given = next(iter(rest.values())) if single else rest
        made[name] = (given, options)
    return made


def _joined(rules: Sequence[Rule]) -> list[Rule]:
    """The rules, two ranges with different limits as one."""
    made: list[Rule] = []
    for rule in rules:
        last = made[-1] if made else None
        if isinstance(rule, Between) and isinstance(last, Between):
            upper = last.high is None and last.below is None
            if upper and rule.low is None and rule.above is None and last.severity == rule.severity:
                made[-1] = replace(last, high=rule.high, below=rule.below)
                continue
        made.append(rule)
    return made


def _in_range(column: str, given: Any, type_: Type | None) -> Rule:
    low, high = limit(given["min_value"], type_), limit(given["max_value"], type_)
    ends = {
        "low" if given.get("include_min", True) else "above": low,
        "high" if given.get("include_max", True) else "below": high,
    }
    return Between(column, **ends)


def _matches(column: str, pattern: str) -> Rule:
    begin, end = _WHOLE
    if pattern.startswith(begin) and pattern.endswith(end):
        return Matches(column, pattern[len(begin) : len(pattern) - len(end)])
    return Matches(column, pattern, how="match")


def _length(column: str, given: Any, type_: Type | None) -> Rule:
    exact = given.get("exact_value")
    if exact is not None:
        return Length(column, exact, exact)
    return Length(column, given.get("min_value"), given.get("max_value"))


_FROM: Mapping[str, Make] = {
    "in_range": _in_range,
    "greater_than": lambda c, v, t: Between(c, above=limit(v, t)),
    "greater_than_or_equal_to": lambda c, v, t: Between(c, limit(v, t)),
    "less_than": lambda c, v, t: Between(c, below=limit(v, t)),
    "less_than_or_equal_to": lambda c, v, t: Between(c, high=limit(v, t)),
    "equal_to": lambda c, v, t: OneOf(c, [limit(v, t)]),
    "isin": lambda c, v, t: OneOf(c, [limit(one, t) for one in v]),
    "str_matches": lambda c, v, t: _matches(c, v),
    "str_contains": lambda c, v, t: Matches(c, v, how="search"),
    "str_startswith": lambda c, v, t: Matches(c, re.escape(v), how="match"),
    "str_endswith": lambda c, v, t: Matches(c, f"{re.escape(v)}\\Z", how="search"),
    "str_length": _length,
}


# --- to a schema ----------------------------------------------------------------------------------


def to_pandera(
    schema: Mapping[str, Type], rules: Sequence[Rule]
) -> tuple[dict[str, Any], list[str]]:
    """The pandera schema of a source's columns and rules, as `DataFrameSchema.from_json` reads it,
    and what does not carry over."""
    columns = {name: _column(type_) for name, type_ in schema.items()}
    made: dict[str, Any] = {"schema_type": "dataframe", "api": "pandas", "columns": columns}
    left_out: list[str] = []
    for rule in rules:
        try:
            _add(made, rule)
        except DefinitionError as error:
            left_out.append(f"{rule.written}: {error}")
    return made, left_out


def _column(type_: Type) -> dict[str, Any]:
    dtypes = _DTYPES.get(type_.name)
    return {
        "dtype": None if dtypes is None else dtypes[type_.optional],
        "nullable": type_.optional,
        "required": True,
    }


def _add(made: dict[str, Any], rule: Rule) -> None:
    """Add a rule to the schema. DefinitionError where it has no counterpart, or where the column
    has a check of its kind already, of which pandera's JSON holds one."""
    columns = made["columns"]
    match rule:
        case Between() | OneOf() | Matches() | Length():
            checks = dict(_TO[type(rule)](rule))
            about = columns[rule.column]
            taken = sorted(checks.keys() & about.keys())
            if taken:
                raise DefinitionError(f"the column has a check {taken[0]} already")
            if rule.severity == "warn":
                checks = {name: _warning(name, given) for name, given in checks.items()}
            about |= checks
        case NotNull():
            columns[rule.column]["nullable"] = False
        case Unique() if len(rule.columns) == 1:
            columns[rule.columns[0]]["unique"] = True
        case Unique() if "unique" not in made:
            made["unique"] = list(rule.columns)
        case _:
            raise DefinitionError("it has no counterpart")


def _warning(name: str, given: Any) -> dict[str, Any]:
    arguments = given if isinstance(given, dict) else {_ARGUMENTS[name]: given}
    return {**arguments, "raise_warning": True}


_ARGUMENTS = {
    "greater_than": "min_value",
    "greater_than_or_equal_to": "min_value",
    "less_than": "max_value",
    "less_than_or_equal_to": "max_value",
    "isin": "allowed_values",
    "str_matches": "pattern",
    "str_contains": "pattern",
}


def _of_between(rule: Any) -> dict[str, Any]:
    given = {
        "greater_than_or_equal_to": rule.low,
        "greater_than": rule.above,
        "less_than_or_equal_to": rule.high,
        "less_than": rule.below,
    }
    return {name: plain(value) for name, value in given.items() if value is not None}


def _of_matches(rule: Any) -> dict[str, Any]:
    if rule.how == "search":
        return {"str_contains": rule.pattern}
    return {
        "str_matches": f"{_WHOLE[0]}{rule.pattern}{_WHOLE[1]}"
        if rule.how == "fullmatch"
        else rule.pattern
    }


def _of_length(rule: Any) -> dict[str, Any]:
    return {"str_length": {"min_value": rule.low, "max_value": rule.high, "exact_value": None}}


_TO: Mapping[type[Rule], Callable[[Any], dict[str, Any]]] = {
    Between: _of_between,
    OneOf: lambda rule: {"isin": [plain(value) for value in rule.values]},
    Matches: _of_matches,
    Length: _of_length,
}
