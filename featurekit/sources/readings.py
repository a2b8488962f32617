"""Turns a column of a found DuckDB type into SQL: one for the values of a declared type, and one
for the rows that have none (S1)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace

from featurekit.core.coerce import not_among
from featurekit.core.formats import EPOCH_TEXT, ISO, MONTHS, EpochFormat, TextFormat
from featurekit.core.frames import INSTEAD
from featurekit.core.sql import quote, text_literal, unquoted
from featurekit.core.timezones import local_limits_us, utc_us_sql
from featurekit.core.types import BEYOND_FLOAT32, INSTANT_MAX, INSTANT_MIN, Type

Span = tuple[dt.datetime, dt.datetime]
"""The least and the greatest naive local time of some rows."""

NAN = "'nan'::DOUBLE"
CSV_TEXT, CSV_COMMA_TEXT = "CSV text", "CSV text with decimal commas"
TEXTS = ("VARCHAR", CSV_TEXT, CSV_COMMA_TEXT)
"""The found types of which timestamps may be written in a declared format."""
_NARROW_INTS = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}
_FIRST, _LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"
_OUTSIDE = "an instant outside the years 1 to 9999"
_UTC = "UTC"
_PLAIN_ISO = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    "(?:[.][0-9]{1,6})?(?:Z|[+]00:00)?"
)
"""Of ISO's texts those that most programs write, at a place or in UTC."""
_NS_MAX = 2**63 - 1
# The names that users have for the types that DuckDB finds, for hints.
_PYTHON = {
    "BOOLEAN": "bool",
    "BIGINT": "int",
    "UBIGINT": "int",
    **dict.fromkeys(_NARROW_INTS, "int"),
    "DOUBLE": "float",
    "FLOAT": "float",
    "VARCHAR": "str",
    "JSON": "str",
    "BLOB": "bytes",
    "DATE": "date",
    "INTERVAL": "timedelta",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a column becomes a value.

    `value` and `micros` (for instants only) build SQL; if the column has a `span`, they receive the
    least and greatest naive local time. `problems` are pairs of a condition, true for a bad row,
    and its reason. `prepared` are pairs of an alias and SQL that must be computed over the scan
    first.
    """

    value: Callable[[Span | None], str]
    problems: tuple[tuple[str, str], ...] = ()
    micros: Callable[[Span | None], str] | None = None
    span: tuple[str, str] | None = None
    prepared: tuple[tuple[str, str], ...] = ()
    touch: str | None = None


def found_hint(found: str, type_: Type) -> str:
    """What to write instead, if a column of type `found` was declared `type_`."""
    if found in INSTEAD:
        return INSTEAD[found]
    if "DECIMAL" in found:
        return (
            "cast it to DOUBLE or BIGINT in the job that writes it: featurekit never rounds a "
            "decimal on its own"
        )
    if found == "BIGINT" and type_.name == "timedelta":
        return "declare it int, or write an Arrow duration, whose unit is known"
    fits = _PYTHON.get(found) or ("datetime" if found.startswith("TIMESTAMP") else None)
    if fits is None and found.startswith("DURATION"):
        fits = "timedelta"
    if fits is None:
        return f"cast it to {type_.duckdb} in the job that writes it"
    return f"declare it {fits}, or cast it to {type_.duckdb} in the job that writes it"


def instant_hint(found: str) -> str:
    """What to write at the source, if its timestamps are of type `found`; "" for other types."""
    if found in INSTEAD:
        return INSTEAD[found]
    if found in TEXTS:
        return 'say how its texts are written, as in timestamp_format="%Y-%m-%d %H:%M:%S", or "iso"'
    if found in _NARROW_INTS or found in ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"):
        return (
            'say what its numbers count, as in timestamp_format="epoch_s", "epoch_ms", "epoch_us" '
            'or "epoch_ns"'
        )
    if found in ("DOUBLE", "FLOAT"):
        return (
            "a float holds no exact instant; write whole seconds, milliseconds or microseconds as "
            'ints and timestamp_format="epoch_s", "epoch_ms" or "epoch_us"'
        )
    return ""


def reading(expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
    """How `expr` of DuckDB type `found` is read as `type_`; None if it does not fit (S1)."""
    if found in ('"NULL"', "NULL"):
        return Reading(
            lambda _: f"NULL::{type_.duckdb}",
            micros=(lambda _: "NULL::BIGINT") if type_.name == "datetime" else None,
        )
    match type_.name:
        case "bool":
            return _same(expr, found, "BOOLEAN")
        case "int":
            return _int(expr, found)
        case "float":
            return _float(expr, found)
        case "str":
            return _str(expr, found)
        case "bytes":
            return _same(expr, found, "BLOB")
        case "date":
            return _date(expr, found)
        case "timedelta":
            return _timedelta(expr, found)
        case "datetime":
            return _datetime(expr, found, zone_name)
        case "list":
            return _list(expr, found, type_, zone_name)
    return None


def _plain(sql: str, *problems: tuple[str, str]) -> Reading:
    return Reading(lambda _: sql, tuple(problems))


def _same(expr: str, found: str, wanted: str) -> Reading | None:
    return _plain(expr) if found == wanted else None


def _str(expr: str, found: str) -> Reading | None:
    if found not in ("VARCHAR", "JSON"):
        return None
    # A text must be decoded to show that it is UTF-8; a count alone reads only the statistics.
    value = f"{expr}::VARCHAR" if found == "JSON" else expr
    return Reading(lambda _: value, touch=f"{expr} IS NULL")


def _int(expr: str, found: str) -> Reading | None:
    if found == "BIGINT":
        return _plain(expr)
    if found in _NARROW_INTS:
        return _plain(f"{expr}::BIGINT")
    if found in ("UBIGINT", "HUGEINT", "UHUGEINT"):
        outside = f"TRY_CAST({expr} AS BIGINT) IS NULL AND {expr} IS NOT NULL"
        return _plain(f"TRY_CAST({expr} AS BIGINT)", (outside, "an int outside 64 bits"))
    if found.startswith("DECIMAL"):
        # A warehouse writes whole numbers as decimals; one with digits after the point is no int.
        part = f"({expr} <> trunc({expr}))"
        outside = f"TRY_CAST({expr} AS BIGINT) IS NULL AND {expr} IS NOT NULL"
        return _plain(
            f"TRY_CAST({expr} AS BIGINT)",
            (part, "a decimal that is no int"),
            (outside, "an int outside 64 bits"),
        )
    if found == "PANDAS FLOAT":
        # S1: pandas holds ints with nulls as doubles; NaN is already null here.
        whole = f"({expr} = trunc({expr}) AND abs({expr}) <= 9007199254740992)"
        return _plain(
            f"TRY_CAST({expr} AS BIGINT)",
            (f"NOT {whole}", "a float that is no int of at most 2**53"),
        )
    return None


def _float(expr: str, found: str) -> Reading | None:
    if found in ("DOUBLE", "FLOAT", "PANDAS FLOAT"):
        value = expr if found != "FLOAT" else f"{expr}::DOUBLE"
        return _plain(f"CASE WHEN isnan({expr}) THEN {NAN} ELSE {value} END")
    if found in _NARROW_INTS:
        return _plain(f"{expr}::DOUBLE")
    if found in ("BIGINT", "UBIGINT"):
        inexact = f"{expr}::DOUBLE::HUGEINT <> {expr}::HUGEINT"
        return _plain(f"{expr}::DOUBLE", (inexact, "an int that no float equals"))
    return None


def _date(expr: str, found: str) -> Reading | None:
    if found != "DATE":
        return None
    outside = f"({expr} < DATE '0001-01-01' OR {expr} > DATE '9999-12-31')"
    return _plain(expr, (outside, "a date outside the years 1 to 9999"))


def floored_us(ns: str) -> str:
    """Microseconds of the BIGINT nanoseconds `ns`, floored (S1)."""
    # DuckDB's // truncates towards zero; subtracting the remainder first could overflow.
    return f"({ns} // 1000 - ({ns} % 1000 < 0)::BIGINT)"


def _timedelta(expr: str, found: str) -> Reading | None:
    outside = "a duration outside 64-bit microseconds"
    match found:
        case "DURATION_US":
            return _plain(expr)
        case "DURATION_NS":
            return _plain(floored_us(expr))
        case "DURATION_S" | "DURATION_MS":
            factor = 1_000_000 if found == "DURATION_S" else 1000
            us = f"TRY_CAST({expr}::HUGEINT * {factor} AS BIGINT)"
            return _plain(us, (f"{us} IS NULL AND {expr} IS NOT NULL", outside))
        case "INTERVAL":
            months = f"(datepart('year', {expr}) <> 0 OR datepart('month', {expr}) <> 0)"
            days = f"abs(datepart('day', {expr})) > 106000000"
            us = f"CASE WHEN {days} OR {months} THEN NULL ELSE epoch_us({expr}) END"
            return _plain(us, (months, "months, which have no fixed length"), (days, outside))
    return None


def _datetime(expr: str, found: str, zone_name: str) -> Reading | None:
    match found:
        case "TIMESTAMP":
            return naive(expr, zone_name)
        case "TIMESTAMP_NS":
            return naive_ns(expr, zone_name)
        case "EPOCH_S" | "EPOCH_MS":
            return _epoch(expr, found, zone_name)
        case "TIMESTAMP WITH TIME ZONE":
            first, last = f"TIMESTAMPTZ '{_FIRST}+00'", f"TIMESTAMPTZ '{_LAST}+00'"
            outside = f"({expr} < {first} OR {expr} > {last})"
            return instants(f"epoch_us({expr})", outside)
        case "TIMESTAMPTZ_NS":
            us = floored_us(ns_of(expr, "TIMESTAMPTZ"))
            return Reading(lambda _: f"make_timestamp({us})", micros=lambda _: us)
        case "EPOCH_S OF UTC" | "EPOCH_MS OF UTC":
            return _epoch(expr, found, _UTC)
    return None


def _epoch(expr: str, found: str, zone_name: str) -> Reading:
    """Reads a timestamp in seconds or milliseconds from its BIGINT.

    DuckDB's own type for these is not used: if microseconds cannot hold one, DuckDB 2.0 shows it
    (in a cast to VARCHAR) with a fatal error that invalidates the whole database.
    """
    factor = 1000 if found.startswith("EPOCH_MS") else 1_000_000
    low, high = INSTANT_MIN // factor, INSTANT_MAX // factor
    inside = f"{expr} BETWEEN {low} AND {high}"
    local = f"(CASE WHEN {inside} THEN make_timestamp({expr} * {factor}) END)"
    return naive(local, zone_name, raw=expr)


def instants(us: str, outside: str) -> Reading:
    """Reads `us`, microseconds UTC; a row is bad if `outside` holds."""
    return Reading(lambda _: f"make_timestamp({us})", ((outside, _OUTSIDE),), micros=lambda _: us)


def naive(local: str, zone_name: str, *, raw: str | None = None) -> Reading:
    """Reads a naive TIMESTAMP in the source's zone (T1)."""
    low, high = local_limits_us(zone_name)
    outside = f"({local} < make_timestamp({low}) OR {local} > make_timestamp({high}))"
    if raw is not None:
        outside = f"({outside} OR ({local} IS NULL AND {raw} IS NOT NULL))"
    if zone_name == _UTC:
        return Reading(
            lambda _: local, ((outside, _OUTSIDE),), micros=lambda _: f"epoch_us({local})"
        )
    return _zoned(f"epoch_us({local})", local, zone_name, "TIMESTAMP", outside)


def naive_ns(local: str, zone_name: str) -> Reading:
    """Reads a naive TIMESTAMP_NS in the source's zone (T1), floored (S1)."""
    us = floored_us(ns_of(local, "TIMESTAMP"))
    if zone_name == _UTC:
        return Reading(lambda _: f"make_timestamp({us})", micros=lambda _: us)
    return _zoned(us, local, zone_name, "TIMESTAMP_NS", "FALSE")


def ns_of(expr: str, kind: str) -> str:
    """The BIGINT nanoseconds of a timestamp in nanoseconds; `kind` is that of its microseconds.

    All 64-bit numbers of nanoseconds are instants, from 1677 to 2262; DuckDB takes the two at the
    ends, `pandas.Timestamp.max` and `.min`, for its infinities, which have no number.
    """
    end = f"CASE WHEN {expr}::{kind} > {kind} '2000-01-01' THEN {_NS_MAX} ELSE -{_NS_MAX} END"
    return f"coalesce(epoch_ns({expr}), CASE WHEN {expr} IS NOT NULL THEN {end} END)"


def _zoned(us: str, local: str, zone_name: str, kind: str, outside: str) -> Reading:
    def micros(span: Span | None) -> str:
        if span is None:  # no row has a local time
            return "NULL::BIGINT"
        return utc_us_sql(us, local, zone_name, *span, literal=kind)

    inside = f"CASE WHEN NOT {outside} THEN {us} END"
    return Reading(
        lambda span: f"make_timestamp({micros(span)})",
        ((outside, _OUTSIDE),),
        micros=micros,
        span=(inside, inside),
    )


def date_instants(expr: str, zone_name: str) -> Reading:
    """Reads a DATE as the local midnight that begins it, in the source's zone (T1)."""
    return naive(f"TRY_CAST({expr} AS TIMESTAMP)", zone_name, raw=expr)


def text_instants(expr: str, format_: TextFormat, zone_name: str) -> Reading:
    """Text with an offset is an instant; without one it is read in the source's zone (T1).

    DuckDB's own cast of '…+02:00' to TIMESTAMP drops the offset.
    """
    names = [f"{what}_{unquoted(expr)}" for what in ("__local", "__instant")]
    local, instant = map(quote, names)
    # DuckDB tells no two fields of a struct apart by their case, so they are named by place.
    listed = ", ".join(f"'g{place}'" for place in range(len(format_.names)))
    pattern = text_literal(f"^(?:{format_.pattern})$")
    parts = f"regexp_extract({expr}, {pattern}, [{listed}])"
    base = _local_sql(parts, format_)
    offset = _group(parts, "z", format_) if "z" in format_.names else "''"
    here = f"CASE WHEN {offset} = '' THEN {base} END"
    there_us = f"CASE WHEN {offset} <> '' THEN epoch_us({base}) - {_offset_sql(offset)} END"
    if format_ == ISO:
        here, there_us = _plain_or(expr, here, there_us)
    prepared = ((names[0], here), (names[1], there_us))
    there = naive(local, zone_name)
    assert there.micros is not None
    of_local = there.micros

    def us(span: Span | None) -> str:
        return f"coalesce({instant}, {of_local(span)})"

    unread = f"{expr} IS NOT NULL AND {local} IS NULL AND {instant} IS NULL"
    outside = f"{instant} < {INSTANT_MIN} OR {instant} > {INSTANT_MAX}"
    return Reading(
        lambda span: f"make_timestamp({us(span)})",
        ((unread, format_.misfit), (outside, _OUTSIDE), *there.problems),
        micros=us,
        span=there.span,
        prepared=prepared,
    )


def _plain_or(expr: str, local: str, instant: str) -> tuple[str, str]:
    """The local time and the instant of a text as most programs write it, for which DuckDB's cast
    does; of any other as `local` and `instant` say."""
    plain = f"regexp_full_match({expr}, {text_literal(_PLAIN_ISO)})"
    there = f"(contains({expr}, '+') OR suffix({expr}, 'Z'))"
    cast = f"TRY_CAST({expr} AS TIMESTAMP)"  # which drops an offset; here it is nothing
    return (
        f"CASE WHEN {plain} THEN CASE WHEN NOT {there} THEN {cast} END ELSE {local} END",
        f"CASE WHEN {plain} THEN CASE WHEN {there} THEN epoch_us({cast}) END ELSE {instant} END",
    )


def _group(parts: str, name: str, format_: TextFormat) -> str:
    return f"{parts}.g{format_.names.index(name)}"


def _local_sql(parts: str, format_: TextFormat) -> str:
    """The TIMESTAMP of the parts of a text, or NULL; `parts` is a struct of texts."""

    def part(name: str) -> str:
        if name not in format_.names:
            return "0"
        return f"TRY_CAST({_group(parts, name, format_)} AS BIGINT)"

    year, month, hour = part("Y"), part("m"), part("H")
    if "y" in format_.names:
        short = part("y")
        year = f"({short} + CASE WHEN {short} <= 68 THEN 2000 ELSE 1900 END)"
    if "b" in format_.names:
        listed = ", ".join(map(text_literal, MONTHS))
        month = f"list_position([{listed}], lower(left({_group(parts, 'b', format_)}, 3)))"
    if "I" in format_.names:
        half = f"CASE WHEN lower({_group(parts, 'p', format_)}) = 'pm' THEN 12 ELSE 0 END"
        hour = f"({part('I')} % 12 + {half})"
    padded = f"lpad({year}::VARCHAR, 4, '0') || '-' || {month} || '-' || {part('d')}"
    seconds = f"(coalesce({hour}, 0) * 60 + coalesce({part('M')}, 0)) * 60"
    seconds = f"({seconds} + coalesce({part('S')}, 0))"
    # Digits beyond the sixth are dropped; for a positive fraction this floors.
    micros = "0"
    if "f" in format_.names:
        micros = f"TRY_CAST(rpad(left({_group(parts, 'f', format_)}, 6), 6, '0') AS BIGINT)"
    time = f"to_microseconds({seconds} * 1000000 + {micros})"
    return f"(TRY_CAST(TRY_CAST({padded} AS DATE) AS TIMESTAMP) + {time})"


def _offset_sql(text: str) -> str:
    """Microseconds of an offset such as Z, +02, +0200, +02:00 or +02:00:30."""
    digits = f"rpad(regexp_replace({text}, '[^0-9]', '', 'g'), 6, '0')"
    part = "TRY_CAST(substr({digits}, {at}, 2) AS BIGINT)"
    hours, minutes, seconds = (part.format(digits=digits, at=at) for at in (1, 3, 5))
    sign = f"(CASE WHEN {text}[1] = '-' THEN -1000000 ELSE 1000000 END)"
    return f"{sign} * ({hours} * 3600 + {minutes} * 60 + {seconds})"


_WHOLE = ("BIGINT", "INTEGER")
"""Types whose numbers are compared as they are; 128 bits would take DuckDB ten times as long."""


def epoch_instants(expr: str, found: str, format_: EpochFormat) -> Reading | None:
    """Reads numbers since 1970-01-01 UTC, whole ones and decimals; None for a column of floats,
    which hold no exact instant, or of anything else."""
    if found.startswith("DECIMAL"):
        return epoch_text_instants(f"({expr})::VARCHAR", format_)
    how = _int(expr, found)
    if how is None:
        return None
    if found in _WHOLE and format_.us == format_.per_us == 1:
        return _between(expr, how.problems)
    return _since_1970(how.value(None), "0", format_, how.problems)


def epoch_text_instants(expr: str, format_: EpochFormat) -> Reading:
    """Reads texts of numbers since 1970-01-01 UTC; digits after the point are read, and floored."""
    pattern = text_literal(f"^(?:{EPOCH_TEXT})$")
    parts = f"regexp_extract({expr}, {pattern}, ['n', 'f'])"
    digits, sign = format_.digits, f"(CASE WHEN {parts}.n[1] = '-' THEN -1 ELSE 1 END)"
    number = f"({sign} * TRY_CAST(ltrim({parts}.n, '+-') AS HUGEINT))"
    after = f"TRY_CAST('0' || rpad(left({parts}.f, {digits}), {digits}, '0') AS BIGINT)"
    rest = f"(ltrim(substr({parts}.f, {digits + 1}), '0') <> '' AND {sign} < 0)::BIGINT"
    unread = f"{expr} IS NOT NULL AND ({number}) IS NULL"
    fault = (unread, format_.misfit)
    any_text = _since_1970(number, f"({sign} * {after} - {rest})", format_, (fault,))
    return _of_whole_numbers(expr, format_, any_text)


def _of_whole_numbers(expr: str, format_: EpochFormat, any_text: Reading) -> Reading:
    """Reads a text as `any_text` does. The usual ones, ints that a program wrote and that lie
    inside of the calendar, are cast by DuckDB: neither a pattern nor 128 bits are needed."""
    number = f"TRY_CAST({expr} AS BIGINT)"
    us = f"{number} * {format_.us}" if format_.per_us == 1 else floored_us(number)
    low, high = (
        max(-(2**63), min(limit * format_.per_us // format_.us, 2**63 - 1))
        for limit in (INSTANT_MIN, INSTANT_MAX)
    )
    usual = f"{number}::VARCHAR = {expr} AND {number} BETWEEN {low} AND {high}"
    assert any_text.micros is not None
    value = f"(CASE WHEN {usual} THEN {us} ELSE {any_text.micros(None)} END)"
    return Reading(
        lambda _: f"make_timestamp({value})",
        tuple(
            (f"CASE WHEN {usual} THEN FALSE ELSE {bad} END", why) for bad, why in any_text.problems
        ),
        micros=lambda _: value,
    )


def _since_1970(
    number: str, micro: str, format_: EpochFormat, problems: tuple[tuple[str, str], ...]
) -> Reading:
    us = f"({number})::HUGEINT * {format_.us} + {micro}"
    if format_.per_us > 1:
        us = floored_us(f"({us})")
    return _between(us, problems)


def _between(us: str, problems: tuple[tuple[str, str], ...]) -> Reading:
    """Reads microseconds since 1970 that are inside of the calendar."""
    inside = f"({us}) BETWEEN {INSTANT_MIN} AND {INSTANT_MAX}"
    value = f"(CASE WHEN {inside} THEN ({us})::BIGINT END)"
    return Reading(
        lambda _: f"make_timestamp({value})",
        (*problems, (f"NOT ({inside})", _OUTSIDE)),
        micros=lambda _: value,
    )


def _list(expr: str, found: str, type_: Type, zone_name: str) -> Reading | None:
    assert type_.item is not None
    if not found.endswith("]"):
        return None
    item = reading("e", found[: found.rindex("[")], type_.item, zone_name=zone_name)
    if item is None:
        return None
    item = among(item, type_.item) if type_.size is None else _float32(item)
    conditions = list(item.problems)
    if not type_.item.optional:
        conditions.insert(0, ("e IS NULL", f"a null in a {type_.base}"))
    problems = tuple(
        (f"list_contains(list_transform({expr}, lambda e: ({c}) IS TRUE), true)", f"in a list, {r}")
        for c, r in conditions
    )
    if type_.size is not None:
        wrong = f"another length than that of a Vector[{type_.size}]"
        problems = ((f"len({expr}) <> {type_.size}", wrong), *problems)
    wanted = type_.duckdb

    def value(span: Span | None) -> str:
        made = f"list_transform({expr}, lambda e: {item.value(span)})::{wanted}"
        return f"CASE WHEN {expr} IS NOT NULL THEN {made} END"

    span = None
    if item.span is not None:
        low, high = (f"list_transform({expr}, lambda e: {bound})" for bound in item.span)
        span = (f"list_min({low})", f"list_max({high})")
    touch = item.touch and f"list_contains(list_transform({expr}, lambda e: {item.touch}), true)"
    return Reading(value, problems, span=span, touch=touch)


def _float32(item: Reading) -> Reading:
    """The reading of a vector's element, rounded to the nearest float32."""
    wide = item.value(None)
    beyond = f"(isfinite({wide}) AND abs({wide}) >= {BEYOND_FLOAT32!r}::DOUBLE)"
    problems = (*item.problems, (beyond, "a number beyond float32"))
    return Reading(lambda _: f"TRY_CAST({wide} AS FLOAT)::DOUBLE", problems)


def among(how: Reading, type_: Type) -> Reading:
    """The reading of a type with choices: any other value is bad."""
    if type_.choices is None:
        return how
    shown = ", ".join(text_literal(c) if isinstance(c, str) else str(c) for c in type_.choices)
    return replace(
        how, problems=(*how.problems, (f"{how.value(None)} NOT IN ({shown})", not_among(type_)))
    )
