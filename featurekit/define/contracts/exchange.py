"""What taking rules from other tools, and giving them to these, has in common (S5)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.types import INT_MAX, Type
from featurekit.define.contracts.rules import Rule
from featurekit.errors import DataError, DefinitionError

BY_SCHEMA = "the schema of the source says it"


@dataclass(slots=True)
class Taken(Named):
    """The rules that were taken, and what does not carry over, each with the reason."""

    rules: list[Rule] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, rule: Rule, schema: Mapping[str, Type] | None) -> None:
        """Take a rule, under a name that no other one has; leave it out where it does not fit the
        schema."""
        names = {one.name for one in self.rules}
        number, name = 2, rule.name
        while name in names:
            name, number = f"{rule.name}_{number}", number + 1
        if name != rule.name:
            rule = replace(rule, name=name)
        try:
            if schema is not None:
                _check_fits(rule, schema)
        except DefinitionError as error:
            self.left_out.append(f"{rule.written}: {error}")
        else:
            self.rules.append(rule)


def _check_fits(rule: Rule, schema: Mapping[str, Type]) -> None:
    """DefinitionError where the rule does not fit the columns of a source."""
    from featurekit.define.contracts.rules import RowRule

    if isinstance(rule, RowRule):
        rule.compiled(schema, f"rule {rule.name!r}")
    else:
        rule.check_columns(schema, f"rule {rule.name!r}")


def read_json(path: Path) -> Any:
    """What a file of JSON holds. DataError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(
            f"{path} is no JSON: {error}; write a suite of Great Expectations as "
            "`json.dumps(suite.to_json_dict())`, a schema of pandera as `schema.to_json()`"
        ) from None


def limit(value: Any, type_: Type | None) -> Any:
    """A limit as a rule has it: a whole float as the int that it is, a text of a day or an instant
    as one where the column holds them. A naive instant is one of UTC."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= INT_MAX // 2:
        return int(value)
    if isinstance(value, str) and type_ is not None and type_.name in ("date", "datetime"):
        try:
            made = dt.datetime.fromisoformat(value)
        except ValueError:
            return value
        if type_.name == "date":
            return made.date()
        return made if made.tzinfo is not None else made.replace(tzinfo=dt.UTC)
    return value


def plain(value: Any) -> Any:
    """A value as JSON has it. DefinitionError for one that JSON does not have."""
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DefinitionError(f"JSON has no {type(value).__name__}, as {value!r} is")
