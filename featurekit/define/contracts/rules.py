"""What users write of a source's rows: rules, each with what happens where it is broken (S5).

A rule of a row is compiled like any transform, so that files and pushes are judged by one code. To
add one, write a class here with `test`, and its counterparts in `exchange.py`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from featurekit.core.calls import near
from featurekit.core.types import BOOL, INT, INT_MAX, INT_MIN, STR, Type
from featurekit.core.written import Defined, Place
from featurekit.define.parameters import misfit, read_transform
from featurekit.define.plan import Check
from featurekit.errors import DefinitionError
from featurekit.language import ir
from featurekit.language.transform import Transform, check_name

Severity = Literal["fail", "quarantine", "warn"]
SEVERITIES: tuple[str, ...] = ("fail", "quarantine", "warn")

_VALUE = "value"
"""The parameter of a rule of one column: a column's name need not be that of a parameter."""
_OF_CLASS = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    dt.datetime: "datetime",
    dt.date: "date",
    dt.timedelta: "timedelta",
}
_CHOSEN = ("bool", "int", "str", "bytes", "date", "datetime")


@dataclass(frozen=True, slots=True)
class Rule(metaclass=Defined):
    """A rule of a contract.

    `severity` says what happens where it is broken: "fail" stops the work before anything is
    written, "warn" counts and reports, and "quarantine", which only a rule of a row may have, sets
    the row aside. `name` is what reports call it; by default it is made of the rule.
    """

    severity: Severity = field(default="fail", kw_only=True)
    name: str = field(default="", kw_only=True)
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    of_rows: ClassVar[bool] = False
    """Whether it judges each row by itself."""

    def __post_init__(self) -> None:
        what = type(self).__name__
        allowed = SEVERITIES if self.of_rows else ("fail", "warn")
        if self.severity not in allowed:
            hint = ""
            if self.severity == "quarantine":
                hint = "; a rule of all rows names none to set aside"
            raise DefinitionError(
                f"{what}: severity is {' or '.join(map(_quoted, allowed))}, not "
                f"{self.severity!r}{hint}"
            )
        self.check()
        if self.name:
            check_name(self.name, what=f"{what}, name")
        else:
            object.__setattr__(self, "name", _as_name(self.default_name))

    def check(self) -> None:
        """Raises DefinitionError if one of the rule's own parameters is wrong."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        raise NotImplementedError

    @property
    def default_name(self) -> str:
        """What it is called where no name is given."""
        return f"{'_'.join(self.columns)}_{_snake(type(self).__name__)}"

    @property
    def says(self) -> str:
        """What holds of rows that keep it, in words."""
        raise NotImplementedError

    @property
    def written(self) -> str:
        """The rule as Python code, as a repo has it."""
        given, named, skipped = [], [], False
        for one in fields(self):
            value = getattr(self, one.name)
            unsaid = one.name == "name" and value == _as_name(self.default_name)
            if not one.init or unsaid or value == one.default:
                skipped |= one.init and not one.kw_only
            elif one.kw_only or skipped:
                named.append(f"{one.name}={_code(value)}")
            else:
                given.append(_code(value))
        return f"{type(self).__name__}({', '.join([*given, *named])})"

    def check_columns(self, schema: Mapping[str, Type], what: str) -> None:
        """DefinitionError where it reads a column that the schema lacks."""
        for column in self.columns:
            if column not in schema:
                raise DefinitionError(
                    f"{what}: the schema has no column {column!r}; {near(column, schema)}"
                )


@dataclass(frozen=True, slots=True)
class RowRule(Rule):
    """A rule of each row. It holds, is broken, or says nothing of the row: where the value is None,
    `NotNull` alone is broken. A rule that errs is broken (S5)."""

    of_rows: ClassVar[bool] = True

    def compiled(self, schema: Mapping[str, Type], what: str) -> Check:
        """The rule over these columns. DefinitionError where it does not fit their types, and
        CompileError for a transform outside the language."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _OfColumn(RowRule):
    column: str = field(kw_only=False)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def compiled(self, schema: Mapping[str, Type], what: str) -> Check:
        self.check_columns(schema, what)
        type_ = schema[self.column]
        what = f"{what}, column {self.column!r}"
        found = ir.Name(_VALUE, type_.plain.base)
        try:
            test = self.test(found, what)
        except DefinitionError as error:
            raise DefinitionError(f"{what}: {error}") from None
        body: tuple[ir.Statement, ...] = (ir.Return(test),)
        returns = BOOL
        if type_.optional:
            returns = BOOL.or_none()
            none = ir.IsNone(ir.Name(_VALUE, type_.plain), BOOL)
            body = (ir.If(none, (ir.Return(ir.Const(self.of_none(), returns)),), ()), *body)
        params = (ir.Param(_VALUE, type_.plain),)
        return Check((self.column,), ir.Function(self.name, params, body, returns))

    def of_none(self) -> bool | None:
        """What it says of None."""
        return None

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        """A bool of the value, which is not None. DefinitionError for a type that it does not
        take."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Between(_OfColumn):
    """The value lies in a range: at least `low`, at most `high`, more than `above`, less than
    `below`, as far as they are given. NaN lies in no range. Ints and floats compare exactly."""

    low: Any = None
    high: Any = None
    above: Any = field(default=None, kw_only=True)
    below: Any = field(default=None, kw_only=True)

    def check(self) -> None:
        if not self.limits:
            raise DefinitionError(
                f'Between("{self.column}") has no limit; write the least and the greatest value, '
                f'as in Between("{self.column}", 0, 100)'
            )
        if None not in (self.low, self.above) or None not in (self.high, self.below):
            raise DefinitionError(
                f'Between("{self.column}"): low= and above= are two lower limits, high= and '
                "below= two upper ones; write one of each"
            )
        for limit in (self.low, self.high, self.above, self.below):
            _check_value(limit, f'Between("{self.column}")')

    @property
    def limits(self) -> list[tuple[str, Any]]:
        """The comparisons that hold, each with its limit."""
        given = ((">=", self.low), (">", self.above), ("<=", self.high), ("<", self.below))
        return [(op, limit) for op, limit in given if limit is not None]

    @property
    def says(self) -> str:
        return " and ".join(f"{self.column} {op} {_said(limit)}" for op, limit in self.limits)

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        return _all_of([_operator(op, value, _constant(limit)) for op, limit in self.limits])


@dataclass(frozen=True, slots=True)
class OneOf(_OfColumn):
    """The value is one of some values, of a column of bool, int, str, bytes, date or datetime."""

    values: Collection[Any] = ()

    def check(self) -> None:
        if isinstance(self.values, (str, bytes)) or not isinstance(
            self.values, (list, tuple, set, frozenset)
        ):
            raise DefinitionError(
                f'OneOf("{self.column}"): the values are a list, found {self.values!r}; write '
                f'OneOf("{self.column}", ["a", "b"])'
            )
        listed: list[Any] = list(self.values)
        if isinstance(self.values, (set, frozenset)):
            listed.sort(key=repr)
        if not listed:
            raise DefinitionError(f'OneOf("{self.column}") has no value; write at least one')
        for value in listed:
            _check_value(value, f'OneOf("{self.column}")', none="a None breaks no rule but NotNull")
        object.__setattr__(self, "values", tuple(dict.fromkeys(listed)))

    @property
    def says(self) -> str:
        return f"{self.column} is one of {_listed(tuple(self.values))}"

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        if value.type.name not in _CHOSEN:
            raise DefinitionError(
                f"OneOf takes {', '.join(_CHOSEN)}, found {value.type}; write Between, or a "
                "@feature that compares"
            )
        for one in self.values:
            if _OF_CLASS[type(one)] != value.type.name:
                raise DefinitionError(
                    f"OneOf has {one!r}, and the column is {value.type}; write values of that type"
                )
        table = tuple((_constant(one).value, True) for one in self.values)
        return ir.Lookup(value, table, ir.Const(False, BOOL), BOOL)


@dataclass(frozen=True, slots=True)
class Matches(_OfColumn):
    """The text matches a regular expression of Python's `re`: as a whole, or `how="match"` at its
    beginning, `how="search"` anywhere."""

    pattern: str = ""
    how: Literal["fullmatch", "match", "search"] = field(default="fullmatch", kw_only=True)

    def check(self) -> None:
        what = f'Matches("{self.column}")'
        if not isinstance(self.pattern, str) or not self.pattern:
            raise DefinitionError(
                f"{what} has no pattern; write a regular expression, as in "
                f'Matches("{self.column}", r"[A-Z]{{2}}\\d+")'
            )
        if self.how not in ("fullmatch", "match", "search"):
            raise DefinitionError(
                f'{what}: how is "fullmatch", "match" or "search", not {self.how!r}'
            )

    @property
    def says(self) -> str:
        how = {"fullmatch": "matches", "match": "begins with a match of", "search": "contains"}
        return f"{self.column} {how[self.how]} {_text_code(self.pattern)}"

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        return _operator(f"re.{self.how}", ir.Const(self.pattern, STR), value)


@dataclass(frozen=True, slots=True)
class Length(_OfColumn):
    """The length of a text, bytes or list lies in a range: at least `low`, at most `high`."""

    low: int | None = None
    high: int | None = None

    def check(self) -> None:
        given = [limit for limit in (self.low, self.high) if limit is not None]
        if not given or any(type(limit) is not int or limit < 0 for limit in given):
            raise DefinitionError(
                f'Length("{self.column}"): its limits are ints from 0 on, found {self.low!r} and '
                f'{self.high!r}; write Length("{self.column}", 1, 20)'
            )

    @property
    def says(self) -> str:
        given = ((">=", self.low), ("<=", self.high))
        return " and ".join(f"len({self.column}) {op} {n}" for op, n in given if n is not None)

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        length = _operator("len", value)
        given = ((">=", self.low), ("<=", self.high))
        return _all_of(
            [_operator(op, length, ir.Const(n, INT)) for op, n in given if n is not None]
        )


@dataclass(frozen=True, slots=True)
class NotNull(_OfColumn):
    """The value is there. It is about columns declared `T | None`, since the schema of any other
    has no None."""

    @property
    def says(self) -> str:
        return f"{self.column} is not null"

    def of_none(self) -> bool | None:
        return False

    def test(self, value: ir.Name, what: str) -> ir.Expr:
        return ir.Const(True, BOOL)


@dataclass(frozen=True, slots=True)
class Holds(RowRule):
    """A `@feature` that returns bool, whose parameters are columns. It is broken where it gives
    False or errs (R3); None says nothing of the row."""

    transform: Transform = field(kw_only=False)

    def check(self) -> None:
        if not isinstance(self.transform, Transform):
            raise DefinitionError(
                f"Holds takes a @feature that returns bool, found {self.transform!r}; write "
                "@feature above its def, and Holds(its_name)"
            )
        if self.transform.on_unsupported != "refuse":
            raise DefinitionError(
                f'Holds: @feature {self.transform.name} is on_unsupported="python"; a rule is '
                "compiled, so write it in the language"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        constant = self.transform.defaults
        return tuple(name for name in self.transform.parameters if name not in constant)

    @property
    def default_name(self) -> str:
        return self.transform.name

    @property
    def says(self) -> str:
        said = self.transform.description.split("\n", 1)[0].rstrip(".")
        return said or f"@feature {self.transform.name} holds"

    def compiled(self, schema: Mapping[str, Type], what: str) -> Check:
        function = read_transform(self.transform, columns=schema)
        self.check_columns(schema, what)
        for param in function.params:
            fault = misfit(function.name, param, schema[param.name], "the column")
            if fault is not None:
                raise DefinitionError(f"{what}: {fault}")
        if function.returns.base != BOOL:
            raise DefinitionError(
                f"{what}: @feature {function.name} returns {function.returns}; a rule returns bool"
            )
        return Check(tuple(p.name for p in function.params), function)


@dataclass(frozen=True, slots=True)
class Ready(RowRule):
    """A rule that is compiled already, as a plan has it."""

    made: Check = field(kw_only=False)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.made.columns

    @property
    def says(self) -> str:
        return f"a rule of {', '.join(self.columns)} holds"

    def compiled(self, schema: Mapping[str, Type], what: str) -> Check:
        self.check_columns(schema, what)
        return self.made


# --- the pieces -----------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return f'"{text}"'


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")


def _as_name(text: str) -> str:
    """A name of letters, digits and single underscores that is near to a text."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in text).split()
    made = "_".join(words)
    return made[:200] if made[:1].isalpha() else f"of_{made}"[:200]


def _code(value: Any) -> str:
    """A value as code: a rule and a list of values as they are written, a @feature and a source by
    their names."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_code, value))}]"
    if isinstance(value, Rule):
        return value.written
    if isinstance(value, str):
        return _text_code(value)
    if type(value) is int:
        return f"{value:_}"
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else repr(value)


def _text_code(text: str) -> str:
    """A text in double quotes, a raw one where it has backslashes, if it can be written so."""
    if '"' in text or not text.isprintable() or text.endswith("\\"):
        return repr(text)
    return f'r"{text}"' if "\\" in text else f'"{text}"'


def _said(value: Any) -> str:
    """A value in words."""
    return value.isoformat() if isinstance(value, (dt.date, dt.datetime)) else repr(value)


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(_said, values[:8]))
    return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"


def _check_value(value: Any, what: str, *, none: str = "") -> None:
    """DefinitionError for a value that no column holds."""
    if value is None and not none:
        return
    if type(value) not in _OF_CLASS or value != value:
        raise DefinitionError(
            f"{what}: {value!r} is no value to compare with{none and f'; {none}'}"
        )
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        raise DefinitionError(
            f"{what}: {value!r} has no time zone, so it is no instant; write tzinfo=timezone.utc"
        )
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise DefinitionError(f"{what}: {value} is outside int64")


def _constant(value: Any) -> ir.Const:
    if isinstance(value, dt.datetime):
        value = value.astimezone(dt.UTC)
    return ir.Const(value, Type(_OF_CLASS[type(value)]))


def _operator(name: str, *args: ir.Expr) -> ir.Expr:
    """A row of the operator table over these. DefinitionError where it has none for their types."""
    from featurekit.language import ops  # a repo without rules and transforms needs no table

    found = ops.find(name, tuple(one.type for one in args))
    if found is None or any(found[1]):
        types = " and ".join(str(one.type) for one in args)
        raise DefinitionError(f"{name!r} takes no {types}; write limits of the column's own type")
    op = found[0]
    if op.check is not None:
        wrong = op.check(*(one.value if isinstance(one, ir.Const) else None for one in args))
        if wrong is not None:
            raise DefinitionError(wrong)
    return ir.Call(op.key, args, op.result)


def _all_of(tests: list[ir.Expr]) -> ir.Expr:
    made = tests[0]
    for test in tests[1:]:
        made = ir.Both(made, test, BOOL)
    return made
