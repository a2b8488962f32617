"""S4: the records of a CSV text, whole and broken, however it comes in pieces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featurekit.define.dialect import Dialect
from featurekit.sources.csv import unquoting
from featurekit.sources.records import Records

COMMA = Dialect()


def cut(text: str, size: int) -> Iterator[str]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


def read(
    text: str, dialect: Dialect = COMMA, *, size: int = 1 << 20
) -> tuple[list[list[str | None]], list[str]]:
    """The rows after the header, and the texts that were set aside. Every line is counted."""
    records = Records(cut(text, size), dialect)
    header, fault = records.header()
    assert not fault
    lines = records.lines
    value = unquoting(dialect)
    rows, aside = [], []
    for record in records.rest(len(header)):
        lines += record.lines
        if record.fields is None:
            aside.append(record.text)
        else:
            rows.append(value(record.fields))
    assert lines + records.empty_lines == records.lines == records.lines_there
    return rows, aside


def rows(text: str, dialect: Dialect = COMMA) -> list[list[str | None]]:
    found, aside = read(text, dialect)
    assert aside == []
    return found


# --- what is well written -------------------------------------------------------------------------


def test_an_unquoted_empty_field_is_null_and_a_quoted_one_is_empty() -> None:
    assert rows('a,b\n,""\n') == [[None, ""]]


def test_two_quotes_within_quotes_are_one() -> None:
    assert rows('a,b\n"6"" pipe",x\n') == [['6" pipe', "x"]]


def test_a_quote_inside_an_unquoted_field_is_a_quote() -> None:
    assert rows('a,b\n6" pipe,x""\n') == [['6" pipe', 'x""']]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_line(end: str) -> None:
    assert rows(end.join(["a,b", "1,2", '"x', 'y",3'])) == [["1", "2"], [f"x{end}y", "3"]]


def test_line_ends_may_be_mixed() -> None:
    assert rows("a,b\r\n1,2\n3,4\r5,6\r\n\n7,8") == [["1", "2"], ["3", "4"], ["5", "6"], ["7", "8"]]


def test_an_empty_line_is_no_row() -> None:
    assert rows("a\n\n1\n\r\n\n2\n\n") == [["1"], ["2"]]
    assert rows('a\n""\n') == [[""]]


def test_a_header_alone_has_no_rows() -> None:
    assert rows("a,b") == rows("a,b\n") == rows("\ufeffa,b\r\n") == []


def test_other_signs_than_comma_and_quote() -> None:
    assert rows("a;b\n1,5;'x;''y'\n", Dialect(delimiter=";", quote="'")) == [["1,5", "x;'y"]]
    assert rows('a\tb\n"x"\t"\n', Dialect(delimiter="\t", quote="")) == [['"x"', '"']]
    assert rows("a^b\n]1]^2\n", Dialect(delimiter="^", quote="]")) == [["1", "2"]]


def test_texts_that_mean_null_are_null_quoted_or_not() -> None:
    assert rows('a,b,c\nNA,"NA",x\n', Dialect(null_values=("NA",))) == [[None, None, "x"]]
    assert rows('a,b\n"",x\n', Dialect(null_values=("",))) == [[None, "x"]]


# --- what is not ----------------------------------------------------------------------------------

BROKEN = {
    "a quote too many": ('a,b\n1,"6" pipe"\n2,x\n3,y\n', ['1,"6" pipe"\n']),
    "never closed": ('a,b\n1,"6 pipe\n2,x\n3,y\n', ['1,"6 pipe\n']),
    "never closed, the next is quoted": ('a,b\n1,"6 pipe\n2,"x"\n3,"y"\n', ['1,"6 pipe\n']),
    "never closed, then empty quotes": ('a,b\n1,"6 pipe\n2,""\n3,"y"\n', ['1,"6 pipe\n']),
    "never closed in the last line": ('a,b\n2,x\n3,"y', ['3,"y']),
    "all quoted, one not closed": ('"a","b"\n"1","6 pipe\n"2","x"\n', ['"1","6 pipe\n']),
    "a bad quote in a text of lines": (
        'a,b\n1,"one\nsays "hi" there\nend",x\n2,x\n',
        ['1,"one\n', 'says "hi" there\n', 'end",x\n'],
    ),
    "the rest of a broken text is no row": (
        'a,b\n1,"says "hi"\nend",x\n2,x\n',
        ['1,"says "hi"\n', 'end",x\n'],
    ),
    "too few": ("a,b\n1\n2,x\n", ["1\n"]),
    "too many": ("a,b\n1,2,3\n2,x\n", ["1,2,3\n"]),
    "a delimiter at the end": ("a,b\n1,2,\n2,x\n", ["1,2,\n"]),
    "blanks alone": ("a,b\n  \n2,x\n", ["  \n"]),
    "a text of lines and too many": ('a,b\n1,"x\ny",3\n2,x\n', ['1,"x\ny",3\n']),
    "a text of lines that look like rows": ('a,b\n1,"x\n8,9\ny",3\n2,x\n', ['1,"x\n8,9\ny",3\n']),
    "no closing quote and inches": ('a,b\n1,"6" pipe"\n2,6" pipe\n3,7" pipe\n', ['1,"6" pipe"\n']),
    "carriage returns": ('a,b\r1,"6" pipe"\r2,x\r', ['1,"6" pipe"\r']),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_a_broken_record_takes_no_neighbour_with_it(name: str, size: int) -> None:
    text, expected = BROKEN[name]
    found, aside = read(text, size=size)
    assert aside == expected
    left = "".join(part for part in text.splitlines(keepends=True))
    for part in expected:
        left = left.replace(part, "", 1)
    assert found == [list(row) for row in csv.reader(io.StringIO(left, newline=""))][1:]


def test_a_broken_record_says_why_and_where() -> None:
    text = 'a,b\n"x\ny",1\n1,"6" pipe"\nrest",2\n1,2,\n3\n4,"z'
    records = Records(iter([text]), COMMA)
    records.header()
    faults = [(r.line, r.lines, r.fault) for r in records.rest(2) if r.fields is None]
    assert faults == [
        (4, 1, "field 2 goes on after the quote that closes it"),
        (5, 1, "it may be the rest of line 4, whose quotes are not in order"),
        (
            6,
            1,
            "3 fields where the header names 2; the last one is empty: "
            "the line ends in a delimiter",
        ),
        (7, 1, "1 field where the header names 2"),
        (8, 1, "field 2 has a quote that is never closed"),
    ]


def test_a_quote_that_is_never_closed_is_found_before_the_file_s_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("featurekit.sources.records.LONGEST", 1000)
    text = 'a,b\n1,"x\n' + "2,y\n" * 10_000
    found, aside = read(text, size=100)
    assert (len(found), aside) == (10_000, ['1,"x\n'])


@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), min_size=1, max_size=6),
    st.integers(1, 60),
)
def test_the_longest_field_does_not_depend_on_how_the_text_comes(
    lengths: list[tuple[int, int]], size: int
) -> None:
    """Of 16 characters with its two quotes, each of a doubled one among them."""
    rows = [(f'"{"x" * one}"', f'"{chr(34) * (two // 2 * 2)}"') for one, two in lengths]
    text = "a,b\n" + "".join(f"{one},{two}\n" for one, two in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurekit.sources.records.LONGEST", 16)
        found, aside = read(text, size=size)
    good = [row for row in rows if max(map(len, row)) <= 16]
    assert found == [[one[1:-1], two[1:-1].replace('""', '"')] for one, two in good]
    assert aside == [f"{one},{two}\n" for one, two in rows if max(len(one), len(two)) > 16]


# --- against an independent reader ----------------------------------------------------------------

SIGNS = st.sampled_from(list("ab1 ,;\t\"'\n\r|é€\0\u2028\x85\x1c😀"))
FIELDS = st.text(SIGNS, max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, Dialect, list[list[str]]]:
    """A text as Python's csv writes it, its dialect, and its rows."""
    dialect = Dialect(
        delimiter=draw(st.sampled_from(",;\t|")), quote=draw(st.sampled_from(['"', "'"]))
    )
    width = draw(st.integers(1, 4))
    table = draw(st.lists(st.lists(FIELDS, min_size=width, max_size=width), max_size=8))
    out = io.StringIO(newline="")
    # Python 3.11 leaves a line break unquoted that is none of its own line ends.
    breaks = any(sign in field for row in table for field in row for sign in "\r\n")
    quoting = csv.QUOTE_ALL if breaks or draw(st.booleans()) else csv.QUOTE_MINIMAL
    writer = csv.writer(
        out,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=quoting,
    )
    writer.writerow([f"c{i}" for i in range(width)])
    writer.writerows(table)
    return out.getvalue(), dialect, table


@given(tables(), st.integers(1, 40))
def test_what_python_writes_is_read(made: tuple[str, Dialect, list[list[str]]], size: int) -> None:
    text, dialect, table = made
    found, aside = read(text, dialect, size=size)
    assert aside == []
    assert [[value or "" for value in row] for row in found] == table


@given(st.text(st.sampled_from(list('ab,"\n\r')), max_size=40), st.integers(1, 10))
@example('"\n,"', 1)
def test_what_python_reads_strictly_is_read_alike(text: str, size: int) -> None:
    """Of any text that Python's csv reads without an error, rows of the header's width are rows and
    the others are set aside."""
    text = "h,i\n" + text
    try:
        expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        read(text, size=size)  # every line is counted all the same
        return
    found, aside = read(text, size=size)
    whole = [row for row in expected[1:] if len(row) == 2]
    assert [[value or "" for value in row] for row in found] == whole
    assert len(aside) == len(expected) - 1 - len(whole)


@given(
    st.lists(
        st.sampled_from(["1,x\n", '2,"y"\n', '3,"z\nz"\n', '4,"bad" one"\n', "5\n"]), max_size=8
    ),
    st.integers(1, 30),
)
def test_rows_and_what_is_set_aside_are_all_there_in_order(parts: list[str], size: int) -> None:
    found, aside = read("a,b\n" + "".join(parts), size=size)
    assert len(found) == sum(part[0] in "123" for part in parts)
    assert aside == [part for part in parts if part[0] in "45"]
