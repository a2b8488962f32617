"""Every row of the operator table as the text that a user writes for it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import Any

from featurekit.core.types import STR, Type, dict_of
from featurekit.language.ops import TABLE, Op

_INFIX = frozenset(("+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>"))
_COMPARE = frozenset(("==", "!=", "<", "<=", ">", ">="))
_PREFIX = {"negative": "-", "positive": "+", "invert": "~", "not": "not "}
_CLASSES: dict[str, type] = {
    "str": str,
    "bytes": bytes,
    "datetime": dt.datetime,
    "date": dt.date,
    "timedelta": dt.timedelta,
    "list": list,
    "dict": dict,
}

# What the table's own words do not say: other ways of writing it, and arguments kept small, where
# plain Python would fill the memory.
_WRITTEN: dict[str, str] = {
    "<<(int,int)": "({0} << ({1} % 66))",
    "**(float,float)": "({0} ** {1})",
    "*(str,int)": "({0} * <times>)",
    "*(int,str)": "(<times> * {1})",
    "round(int,int)": "round({0}, <digits>)",
    "round(float,int)": "round({0}, <digits>)",
    "int(str,int)": "int({0}, <base>)",
    "sum(list[float])": "sum({0}, 0.0)",
    "math.prod(list[float])": "(1.0 * math.prod({0}))",
    "chr(int)": "chr({0} % 55000)",
    "str.zfill(str,int)": "{0}.zfill(<small> % 50)",
    "str.encode(str,str)": "{0}.encode('utf-8')",
    "bytes.decode(bytes,str)": "{0}.decode('utf-8')",
    "datetime.fromisoformat.utc(str)": "datetime.fromisoformat({0}).replace(tzinfo=timezone.utc)",
    "datetime.fromtimestamp(int)": "datetime.fromtimestamp({0}, timezone.utc)",
    "datetime.fromtimestamp(float)": "datetime.fromtimestamp({0}, tz=timezone.utc)",
    "date.isocalendar(date)": "list({0}.isocalendar())",
    "datetime.isocalendar(datetime)": "list({0}.isocalendar())",
    "zoned.isocalendar(datetime,str)": "list({0}.astimezone(<zone>).isocalendar())",
    "str.partition(str,str)": "list({0}.partition({1}))",
    "str.rpartition(str,str)": "list({0}.rpartition({1}))",
    "in(float,list[float])": "(<int> in {1}[:])",  # not of a float, which may be NaN
    **{k: "({0} * <times>)" for k in TABLE if k.startswith("*(list[")},
    **{k: "(<times> * {1})" for k in TABLE if k.startswith("*(int,list[")},
    "math.comb(int,int)": "math.comb({0} % 70, {1} % 40)",
    "math.perm(int,int)": "math.perm({0} % 30, {1} % 30)",
    "math.factorial(int)": "math.factorial({0} % 25)",
    "bytes.fromhex(str)": "bytes.fromhex({0})",
    "urllib.parse.quote(str,str)": "urllib.parse.quote({0}, safe={1})",
    "urllib.parse.quote_plus(str,str)": "urllib.parse.quote_plus({0}, safe={1})",
    "urllib.parse.urlparse.port(str)": "(urllib.parse.urlparse({0}).port or 0)",
    "urllib.parse.urlparse.port?(str)": "(urllib.parse.urlparse({0}).port is not None)",
    **{
        f"urllib.parse.urlparse.{part}(str)": f"(urllib.parse.urlparse({{0}}).{part} or '')"
        for part in (
            *("scheme", "netloc", "path", "params", "query", "fragment"),
            *("hostname", "username", "password"),
        )
    },
    **{
        f"urllib.parse.urlparse.{part}?(str)": (
            f"(urllib.parse.urlparse({{0}}).{part} is not None)"
        )
        for part in ("hostname", "username", "password")
    },
    "math.isclose(float,float,float,float)": "math.isclose({0}, {1}, rel_tol={2}, abs_tol={3})",
    **{
        f"str.{name}(str,int,str)": f"{{0}}.{name}(<small> % 50, <fill>)"
        for name in ("ljust", "rjust", "center")
    },
    "datetime(int,int,int,int,int,int,int)": (
        "datetime(<dayyear>, <month>, <day>, {3} % 25, <small>, <small>, <small>, timezone.utc)"
    ),
}
_OTHER_DICTS = {t for op in TABLE.values() for t in op.params if t.name == "dict"} - {dict_of(STR)}
_FORMS = ("order", "place.", "take", "counts.")
_FORMS += ("set.of", "set.add", "set.discard", "set.&", "set.|", "set.-", "set.^")


def _nested(type_: Type) -> bool:
    """Whether elements are lists, or may be None: `tests/language/test_forms.py` has these."""
    return type_.item is not None and (type_.item.optional or type_.item.item is not None)


UNREACHED = frozenset(
    (
        *(k for k, op in TABLE.items() if any(p in _OTHER_DICTS for p in op.params)),
        *(k for k, op in TABLE.items() if op.name.startswith(_FORMS)),
        *(k for k, op in TABLE.items() if any(map(_nested, (*op.params, op.result)))),
        # Loops of their own, which stop where they are decided.
        *(f"{name}(list[{t}])" for name in ("any", "all") for t in ("bool", "int", "float", "str")),
    )
)
"""Rows that no text here reaches."""


def _literals(op: Op) -> list[dict[int, Any]]:
    """Values for the arguments that must be literals, one set after another."""
    found: dict[str, dict[int, Any]] = {}
    for row in op.edges:
        literals = {i: row[i] for i in op.literals}
        given = [literals.get(i) for i in range(len(op.params))]
        if op.name == "datetime.strptime" and "%z" not in row[1]:
            continue  # refused: a local time
        if op.check is None or op.check(*given) is None:
            found[repr(literals)] = literals
    return list(found.values())


def _template(op: Op, arguments: list[str]) -> str | None:
    name, first, rest = op.name, arguments[0], arguments[1:]
    if op.key in UNREACHED:
        return None
    if op.key in _WRITTEN:
        return _WRITTEN[op.key].format(*arguments)
    if name in _INFIX | _COMPARE:
        return f"({first} {name} {rest[0]})"
    if name in _PREFIX:
        return f"({_PREFIX[name]}{first})"
    match name, rest:
        case "in", [container]:
            whole = "" if container.startswith(("<str", "<bytes", "<dict")) else "[:]"
            return f"({first} in {container}{whole})"  # elements that are computed are refused
        case "getitem", [at]:
            kind = op.params[0].name  # past the end of a list of constants is refused
            return (
                f"{first}[{at if kind == 'dict' else '<index>' if kind == 'list' else '<small>'}]"
            )
        case "dict.keys" | "dict.values", _:
            return f"list({first}.{name[5:]}())"
        case "slice", [_, _]:
            return f"{first}[<small>:<small>]"
        case "slice", _:
            return f"{first}[<small>:<small>:<small>]"
        case "slice.from", _:
            return f"{first}[<small>:]"
        case "slice.to", _:
            return f"{first}[:<small>]"
        case "slice.every", _:
            return f"{first}[::<small>]"
        case "set.len" | "set.sorted", _:
            return f"{name[4:]}(set({first}))"
        case "math.hypot*", _:
            return f"math.hypot(*{first})"
        case "str.split.spaces" | "str.rsplit.spaces", [most]:
            return f"{first}.{name.split('.')[1]}(None, {most})"
        case "sorted_reverse", _:
            return f"sorted({first}, reverse=True)"
        case "range", [stop, step]:
            return f"list(range({first}, {first} + {stop} % 20, 1 + {step} % 3))"
        case "reversed", _:
            return f"list(reversed({first}))"
        case "date" | "timedelta", _:  # constants that raise are refused when they are read
            kind = op.params[0].name
            return f"{name}({kind}({first}), {', '.join(rest)})"
    home, _, method = name.partition(".")
    if home == "re":
        found, _, part = method.partition(".")
        if found == "finditer":
            read = f"group({rest[1]})" if part == "group" else f"{part}()"
            return f"[m.{read} for m in re.finditer({first}, {rest[0]})]"
        if part in ("start", "end"):
            return f"re.{found}({first}, {rest[0]}).{part}()"
        if method.endswith(".group"):
            return f"re.{method[:-6]}({', '.join(arguments[:2])}).group({arguments[2]})"
        made = f"re.{method}({', '.join(arguments)})"
        return f"({made} is not None)" if op.result.name == "bool" else made
    if home == "hashlib":
        return f"hashlib.{method.split('.')[0]}({first}).hexdigest()"
    if home == "featurekit":
        return f"{method}({', '.join(arguments)})"
    if home == "zoned":
        zone = f"ZoneInfo({rest[0]})"
        return _called(dt.datetime, f"{first}.astimezone({zone})", method, rest[1:])
    if method.endswith(".instant"):
        made = f"{home}.{method.removesuffix('.instant')}({', '.join(arguments)})"
        return f"{made}.astimezone(timezone.utc)"
    if method in ("fromisoformat", "strptime", "strptime.utc"):
        made = f"{home}.{method.removesuffix('.utc')}({', '.join(arguments)})"
        return f"{made}.replace(tzinfo=timezone.utc)" if name.endswith(".utc") else made
    if home in _CLASSES and method:
        return _called(_CLASSES[home], first, method, rest)
    return f"{name}({', '.join(arguments)})"


def _called(cls: type, value: str, method: str, rest: list[str]) -> str:
    outer, _, inner = method.partition(".")
    shown = f"{value}.{outer}"
    if callable(getattr(cls, outer)):
        shown += f"({', '.join(rest)})"
    return f"{shown}.{inner}" if inner else shown


def _rows() -> dict[str, dict[str, list[list[str]]]]:
    found: dict[str, dict[str, list[list[str]]]] = defaultdict(lambda: defaultdict(list))
    for op in TABLE.values():
        sets = _literals(op) if op.literals else [{}]
        shown = []
        for literals in sets:
            arguments = [
                # A template's own sign is written otherwise.
                repr(literals[i]).replace("<", r"\x3c") if i in literals else f"<{t}>"
                for i, t in enumerate(op.params)
            ]
            template = _template(op, arguments)
            if template is not None:
                shown.append(template)
        if shown:
            found[str(op.result)][op.name].append(shown)
    return {result: dict(names) for result, names in found.items()}


ROWS = _rows()
"""By result type and name: the templates of each row, one for each set of literals."""
