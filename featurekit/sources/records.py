"""Turns the text of a CSV file into its records: whole ones, and those that break the format (S4).

A field that begins with a quote ends at the next single quote, which a delimiter or line end must
follow; two quotes stand for one. Any other field is literal, up to the next delimiter or line end.
A line ends with a line feed, a carriage return, or both. An empty line is no record.

A record whose quotes are in order but whose number of fields is wrong is set aside whole, with all
its lines. A record whose quotes are not in order is set aside as its first line alone, so that it
takes no neighbour with it. The lines after it are records again from the first one that begins a
whole record without a field such as `pipe"`, which may be the end of the broken text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from featurekit.define.dialect import Dialect

LONGEST = 1 << 24
"""The most characters of one field, from its quote to the one that closes it; a longer one has a
quote that is never closed."""

_LEAST, _BLOCK = 1 << 12, 1 << 22
"""The fewest and the most characters of a block of lines."""
T = TypeVar("T")
WholeLines = Callable[[str, int], T | None]
"""Turns lines, and the number of the first, into a block."""
_MARK = re.compile("[\udc00-\udcff]")
_LINE_END = re.compile(r"\r\n|\n|\r")
LINE = re.compile(r"[^\r\n]*+(?:\r\n|\n|\r)|[^\r\n]++")
"""A line with its line end; the last one of a text may have none."""


class Record(NamedTuple):
    """A record of the file: the number of its first line (the first is 1), its number of lines, and
    its fields as they are written, quotes included. In a record that is set aside `fields` is None,
    `fault` says why, and `text` is what stands there."""

    line: int
    lines: int
    fields: tuple[str, ...] | None
    fault: str = ""
    text: str = ""


def line_ends(text: str) -> int:
    """How many lines end in a text."""
    ends = text.count("\n")
    return ends + text.count("\r") - text.count("\r\n") if "\r" in text else ends


def _encodes(text: str) -> bool:
    """Whether no character of a text is a mark of bytes that could not be decoded."""
    try:
        text.encode()  # takes a tenth of the time of a search
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Spot:
    """What begins at some place: fields, where they end, and the fault of their quotes."""

    fields: list[str]
    stop: int
    fault: str = ""


class Records:
    """The records of a text that comes in pieces. The first one is the header, which `header`
    takes; then `rest` gives the others."""

    def __init__(self, pieces: Iterator[str], dialect: Dialect) -> None:
        self._pieces, self._dialect = pieces, dialect
        self._text, self._at, self._ended = "", 0, False
        self._fresh = False  # text came in, so places in it are others
        self._line = 1
        self._held = 0  # line ends that came in, counted apart from the records
        self._ends_open = False  # the last line has no line end
        self.empty_lines = 0
        delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
        self._plain = re.compile(rf"[^{delimiter}\r\n]*+")
        never = r"(?!)"
        self._quoted = re.compile(
            rf"{quote}(?:[^{quote}]++|{quote}{quote})*+{quote}" if quote else never
        )
        self._marked = self._returns = False

    @property
    def lines(self) -> int:
        """The number of lines that were taken as records or as empty lines."""
        return self._line - 1

    @property
    def lines_there(self) -> int:
        """The number of lines of all text that came in."""
        return self._held

    def _more(self) -> bool:
        """Take in one more piece; False at the end of the text, whose last line is then ended."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        piece = next(self._pieces, None)
        while piece == "":
            piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
            if rest and rest[-1] not in "\r\n":
                self._ends_open, piece = True, "\n"
            else:
                piece = ""
        # A carriage return and a line feed that come in two pieces are one line end.
        joined = self._text[-1:] == "\r" and piece[:1] == "\n"
        self._held += line_ends(piece) - joined
        self._text, self._at, self._fresh = rest + piece, 0, True
        self._returns = "\r" in self._text
        self._marked = not _encodes(self._text)
        return True

    def header(self) -> tuple[list[str], str]:
        """The fields of the first line and the fault of its quotes, which is empty if they are in
        order."""
        while not self._text and self._more():
            pass
        if self._text[:1] == "\ufeff":
            self._at = 1
        spot = self._spot()
        self._line += self._line_ends(self._at, spot.stop)
        self._at = spot.stop
        return spot.fields, spot.fault

    def rest(self, width: int) -> Iterator[Record]:
        """The records after the header; a whole one has `width` fields."""
        yield from self.with_blocks(width, lambda text, line: None)

    def with_blocks(self, width: int, whole_lines: WholeLines[T]) -> Iterator[Record | T]:
        """As `rest`, with a block in the place of many records: what `whole_lines` gives of lines
        each of which is a plain record, told with the number of the first. Where it gives None,
        these are taken one by one.

        Nearly all other records are whole, and one match of a pattern takes them. What it does not
        match is taken apart field by field, to say why.
        """
        whole, plain = self._whole(width), self._plain_lines(width)
        broken = 0  # the line of the record whose quotes are not in order, until one is whole again
        tried = 0  # where lines end that are taken one by one
        while True:
            if self._fresh:
                self._fresh, tried = False, 0
            text, at = self._text, self._at
            if not broken and at >= tried:
                block, tried = self._block(plain, whole_lines)
                if block is not None:
                    self._line, self._at = self._line + self._line_ends(at, tried), tried
                    yield block
                    continue
            found = None if broken else whole.match(text, at)
            if found is not None and found.end() - at > LONGEST:
                found = None  # a field of it may be too long
            # At the end of the text, a line end may go on, and so may a quoted field.
            if found is not None and (found.end() < len(text) or self._ended):
                stop = found.end()
                lines = self._line_ends(at, stop)
                fields = found.groups()
                line, self._line, self._at = self._line, self._line + lines, stop
                if self._marked and _MARK.search(text, at, stop):
                    yield self._undecodable(line, lines, fields, text[at:stop])
                else:
                    yield Record(line, lines, fields)
                continue
            if at >= len(text):
                if self._more():
                    continue
                return
            spot = self._spot()
            text, at = self._text, self._at
            if spot.stop > at and spot.fields == [""] and not spot.fault:
                self.empty_lines += 1
                self._line, self._at = self._line + 1, spot.stop
                continue
            record = self._judged(spot, width, broken)
            if record.fields is not None:
                broken = 0
            elif spot.fault and not broken:
                broken = record.line
            yield record

    def _block(self, plain: re.Pattern[str], whole_lines: WholeLines[T]) -> tuple[T | None, int]:
        """The block of the plain records that begin here, and where it ends; None where they are
        few, or where `whole_lines` gives none for them."""
        text, at = self._text, self._at
        most = text.rfind("\n", at, at + _BLOCK) + 1
        if most - at < _LEAST:
            return None, at
        quote = self._dialect.quote
        if not self._returns and not (quote and quote in text[at:most]):
            # Without a quote every line is a record, and a reader of lines sees their widths.
            block = whole_lines(text[at:most], self._line)
            if block is not None:
                return block, most
        found = plain.match(text, at, most)
        stop = at if found is None else found.end()
        if stop - at < _LEAST:
            return None, at
        return whole_lines(text[at:stop], self._line), stop

    def _plain_lines(self, width: int) -> re.Pattern[str]:
        """The pattern of records of so many fields, each in a line of its own: fields without a
        quote, or ones that begin and end with it."""
        delimiter, quote = re.escape(self._dialect.delimiter), re.escape(self._dialect.quote)
        field = rf"[^{quote}{delimiter}\r\n]*+"
        if quote:
            field = rf"(?:{quote}(?:[^{quote}\r\n]++|{quote}{quote})*+{quote}|{field})"
        return re.compile(rf"(?:(?![\r\n]){delimiter.join([field] * width)}(?:\r\n|\n|\r))*+")

    def _judged(self, spot: _Spot, width: int, broken: int) -> Record:
        """The record at a spot, taken from the text; `broken` is the line of a record before it
        whose quotes are not in order."""
        quote = self._dialect.quote
        loose = bool(broken) and any(
            f.endswith(quote) and not f.startswith(quote) for f in spot.fields if f
        )
        fault, stop = spot.fault, spot.stop
        if not fault and len(spot.fields) != width:
            fault = _miscounted(spot.fields, width)
        if not fault and loose:
            fault = f"it may be the rest of line {broken}, whose quotes are not in order"
        if fault and (spot.fault or broken):
            stop = self._line_stop()
        at = self._at
        text = self._text[at:stop]
        lines = self._line_ends(at, stop)
        line, self._line, self._at = self._line, self._line + lines, stop
        if fault:
            return Record(line, lines, None, fault, self._as_written(text, stop))
        if _MARK.search(text):
            return self._undecodable(line, lines, tuple(spot.fields), text)
        return Record(line, lines, tuple(spot.fields))

    def _undecodable(self, line: int, lines: int, fields: tuple[str, ...], text: str) -> Record:
        number = next(i for i, field in enumerate(fields) if _MARK.search(field))
        fault = f"field {number + 1} has bytes that are no {self._dialect.encoding}; " + (
            "another one is declared with encoding=…" if self._dialect.declares else _UTF_8
        )
        return Record(line, lines, None, fault, self._as_written(text, self._at))

    def _as_written(self, text: str, stop: int) -> str:
        """The text of a record without the line end that was added to the last line."""
        if self._ends_open and stop == len(self._text):
            return text[:-1]
        return text

    def _line_ends(self, at: int, stop: int) -> int:
        text = self._text
        ends = text.count("\n", at, stop)
        if self._returns:
            ends += text.count("\r", at, stop) - text.count("\r\n", at, stop)
        return ends

    def _line_stop(self) -> int:
        """Where the line that begins here ends, its line end included."""
        while True:
            found = _LINE_END.search(self._text, self._at)
            if found is not None and (found.end() < len(self._text) or self._ended):
                return found.end()
            if not self._more():
                return len(self._text)

    def _whole(self, width: int) -> re.Pattern[str]:
        """The pattern of a record of so many fields, each a group."""
        delimiter, quote = re.escape(self._dialect.delimiter), re.escape(self._dialect.quote)
        plain = rf"[^{quote}{delimiter}\r\n][^{delimiter}\r\n]*+"
        field = rf"({plain}|{self._quoted.pattern}|)" if quote else rf"({plain}|)"
        return re.compile(rf"(?![\r\n]){delimiter.join([field] * width)}(?:\r\n|\n|\r)")

    def _spot(self) -> _Spot:
        """What begins here; more text is taken in until that is known."""
        while True:
            spot = self._look(self._at)
            if spot is not None:
                return spot
            self._more()

    def _look(self, at: int) -> _Spot | None:
        """What begins at `at`; None where more text decides."""
        text, dialect = self._text, self._dialect
        fields: list[str] = []
        while True:
            if dialect.quote and text.startswith(dialect.quote, at):
                found = self._quoted.match(text, at)
                if found is None or found.end() - at > LONGEST:
                    if found is None and not self._ended and len(text) - at <= LONGEST:
                        return None
                    fault = f"field {len(fields) + 1} has a quote that is never closed"
                    if found is not None or len(text) - at > LONGEST:
                        fault = f"{fault} within {LONGEST:,} characters"
                    return _Spot(fields, len(text), fault)
            else:
                found = self._plain.match(text, at)
                assert found is not None
            stop = found.end()
            if stop + 1 >= len(text) and not self._ended:
                return None
            fields.append(text[at:stop])
            sign = text[stop : stop + 1]
            if sign == dialect.delimiter:
                at = stop + 1
            elif sign in ("\r", "\n", ""):
                return _Spot(fields, stop + (2 if text.startswith("\r\n", stop) else len(sign)))
            else:
                return _Spot(
                    fields, stop, f"field {len(fields)} goes on after the quote that closes it"
                )


_UTF_8 = "write the file in UTF-8"


def _miscounted(fields: list[str], width: int) -> str:
    count = len(fields)
    said = f"{count} field{'s' * (count != 1)} where the header names {width}"
    if count == width + 1 and not fields[-1]:
        said += "; the last one is empty: the line ends in a delimiter"
    return said
