"""Turns results into what a command shows: tables and bars for people, or one JSON document for
programs.

JSON has no NaN, no infinities and no bytes. Such floats become the strings "NaN", "Infinity" and
"-Infinity", instants and dates are ISO 8601, durations are seconds, and bytes are hexadecimal.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]
"""Called with the name of the task, the amount that is done, and the total."""
Advance = Callable[[int, int], None]
"""Called with the amount that is done, and the total."""

_PIPE_WIDTH = 10_000
_LEAST_COLUMN = 12


class Screen:
    """Where a verb shows its result. With `as_json`, tables and lines are silent and `document`
    prints; otherwise it is the other way round."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out: Console | None = None
        self._printed = False

    @property
    def out(self) -> Console:
        """Standard output; made on first use, because rich is slow to load."""
        if self._out is None:
            self._out = _console(sys.stdout)
        return self._out

    def document(self, value: Any) -> None:
        """The whole result as one JSON document, for programs."""
        if self.as_json:
            self._printed = True
            json.dump(plain(value), sys.stdout, indent=2, allow_nan=False, ensure_ascii=False)
            sys.stdout.write("\n")

    def record(self, value: Any) -> None:
        """One of many results as a line of JSON, for programs."""
        if self.as_json:
            self._printed = True
            print(json.dumps(plain(value), allow_nan=False, ensure_ascii=False), flush=True)

    def failed(self, error: Exception, code: int) -> None:
        """An error as the JSON document, unless a result was printed already.

        It has the `type` of the error, its `message`, the `place` that it names ("features.py:12",
        or None) and the `exit_code`. The `faults` of a repo are listed one by one.
        """
        if self.as_json and not self._printed:
            self.document({"error": {**_fault(error), "exit_code": code}})

    def fail(self, error: Exception, code: int) -> None:
        """Say what went wrong: on standard error for people, and as `failed` for programs."""
        self.failed(error, code)
        print(f"featurekit: error: {error}", file=sys.stderr)

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line for people."""
        if not self.as_json:
            self.out.print(text, style=style, soft_wrap=True)

    def text(self, text: str) -> None:
        """A text as it is, for people and their shells."""
        if not self.as_json:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def heading(self, title: str, sentence: str) -> None:
        """The title of a step, and what it does."""
        if self.as_json:
            return
        from rich.text import Text

        self.out.print()
        if self.out.is_terminal:
            self.out.rule(Text(title, style="bold cyan"), align="left", style="cyan")
        else:  # a pipe has no width to fill
            self.out.print(Text(f"── {title} ──"))
        self.out.print(sentence, style="dim")
        self.out.print()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table for people; numbers are set to the right, None is a dash.

        Where a terminal is too narrow for the columns, each row is a block of lines. In a pipe
        nothing is folded, so that a line is a row.
        """
        if self.as_json:
            return
        from rich.table import Table
        from rich.text import Text

        cells = [list(row) for row in rows]
        if _too_narrow(self.out.width, columns, cells):
            self._blocks(columns, cells)
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for i, name in enumerate(columns):
            column = [row[i] for row in cells]
            right = any(_is_number(v) for v in column) and all(
                v is None or _is_number(v) for v in column
            )
            table.add_column(
                Text(name), justify="right" if right else "left", overflow="fold", no_wrap=not i
            )
        for row in cells:
            table.add_row(*(Text(shown(v)) for v in row))
        self.out.print(table)

    def _blocks(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Each row as lines of a column's name and value, the first of them in front."""
        for row in rows:
            self.line(f"{columns[0]} {shown(row[0])}".strip(), style="bold")
            for name, value in zip(columns[1:], row[1:], strict=True):
                if value is not None and shown(value):
                    self.line(f"  {name}: {shown(value)}" if name else f"  {shown(value)}")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A function that moves bars on standard error; it does nothing if that is not a
        terminal."""
        if not sys.stderr.isatty():
            yield lambda what, done, total: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(
            *columns, TimeElapsedColumn(), console=_console(sys.stderr), transient=True
        ) as bars:
            known: dict[str, Any] = {}

            def move(what: str, done: int, total: int) -> None:
                if what not in known:
                    known[what] = bars.add_task(what, total=total)
                bars.update(known[what], completed=done, total=total)

            yield move


def _fault(error: BaseException) -> dict[str, Any]:
    faults = [_fault(one) for one in getattr(error, "faults", ())]
    said = {
        "type": type(error).__name__,
        "message": str(error),
        "place": getattr(error, "place", None),
    }
    return {**said, "faults": faults} if faults else said


def warn(text: str) -> None:
    """A warning on standard error."""
    print(f"featurekit: warning: {text}", file=sys.stderr, flush=True)


def _console(file: IO[str]) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # `main` decides what to return

    # A pipe has no width: give enough room that a row stays on one line.
    width = None if file.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Quiet(file=file, width=width, markup=False, highlight=False, emoji=False)


def _too_narrow(width: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    """Whether a table would have to fold its cells into columns of a few letters."""
    if width // max(len(columns), 1) >= _LEAST_COLUMN:
        return False

    def longest(i: int) -> int:
        lines = [columns[i], *(line for row in rows for line in shown(row[i]).splitlines())]
        return max(map(len, lines), default=0)

    return sum(longest(i) + 2 for i in range(len(columns))) - 2 > width


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in a table's cell: floats in full, counts as they are, None as a dash."""
    match value:
        case None:
            return "–"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case dt.datetime():
            return value.isoformat(sep=" ").removesuffix("+00:00")
        case dict():
            return ", ".join(f"{k} {v}" for k, v in value.items())
        case _:
            return str(plain(value))


def as_text(value: Any) -> str | None:
    """As `shown`, but None stays None: for a column of many types, aligned to the left."""
    return None if value is None else shown(value)


def plain(value: Any) -> Any:
    """A value in the JSON form that the top of this module describes."""
    match value:
        case float():
            if math.isfinite(value):
                return value
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        case dt.datetime() | dt.date():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case Mapping():
            return {_key(k): plain(v) for k, v in value.items()}
        case list() | tuple():
            return [plain(v) for v in value]
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


def _key(value: Any) -> str:
    """A key as a text: a value that is none, as JSON has it."""
    found = plain(value)
    return found if isinstance(found, str) else json.dumps(found)
