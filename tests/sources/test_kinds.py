"""A format of files is a module with the functions of a source's kind, and a line in one table."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit.core.files import whole
from featurekit.core.gone import Gone
from featurekit.core.sql import parquet_sql, paths_sql, text_literal
from featurekit.core.types import Type
from featurekit.define import definitions
from featurekit.define.definitions import FORMATS, EventSource
from featurekit.errors import BadRowError, DefinitionError, SourceError
from featurekit.sources import files, readings
from featurekit.sources.check import BadRow, shortened
from featurekit.sources.events import read_events, source_files
from featurekit.sources.kinds import KINDS, kind_of
from featurekit.sources.protocol import FileColumn, FileInfo
from featurekit.sources.readings import Reading
from featurekit.sources.rewrite import remove_rows

OPTIONS = "format='newline_delimited', auto_detect=false"


class JsonLines:
    """A made-up format: a JSON object a line, and no way to rewrite a file."""

    rewrite: Any = None
    marks: Any = None

    def snapshot(
        self, source: EventSource, base: Path, state_dir: Path | None, *, most: int | None = None
    ) -> tuple[FileInfo, ...]:
        return files.snapshot(source, base)

    def readable(
        self, source: EventSource, file: FileInfo, state_dir: Path | None, *, most: int | None
    ) -> str:
        return file.path

    def kept(self, source: EventSource, file: FileInfo, state_dir: Path) -> Collection[str]:
        return ()

    def columns(
        self, con: duckdb.DuckDBPyConnection, path: str, schema: Mapping[str, Type]
    ) -> dict[str, FileColumn]:
        with Path(path).open() as lines:
            row = json.loads(next(lines))
        types = {name: "TIMESTAMP" if name == "ts" else "BIGINT" for name in row}
        return {name: FileColumn(type_, name) for name, type_ in types.items()}

    def scan(self, paths: Sequence[str], found: Mapping[str, FileColumn]) -> str:
        columns = ", ".join(f"{text_literal(n)}: '{c.type}'" for n, c in found.items())
        return f"read_json({paths_sql(paths)}, columns={{{columns}}}, {OPTIONS})"

    def reading(self, expr: str, found: str, type_: Type, *, zone_name: str) -> Reading | None:
        return readings.reading(expr, found, type_, zone_name=zone_name)

    def rejected(
        self, con: duckdb.DuckDBPyConnection, path: str, found: Mapping[str, FileColumn]
    ) -> list[tuple[BadRow, dict[str, Any]]]:
        rows = []
        for number, line in enumerate(Path(path).read_text().splitlines()):
            try:
                json.loads(line)
            except ValueError:
                bad = BadRow(number, next(iter(found)), "no JSON", shortened(repr(line)))
                rows.append((bad, {"line": line}))
        return rows

    def without(
        self, path: str, found: Mapping[str, FileColumn], rows: Sequence[int], *, copy: Path
    ) -> str:
        lines = Path(path).read_text().splitlines()
        made = [json.loads(line) for n, line in enumerate(lines) if n not in rows]
        for row in made:
            row["ts"] = dt.datetime.fromisoformat(row["ts"])
        with whole(copy) as hidden:
            pq.write_table(pa.Table.from_pylist(made), hidden)
        return parquet_sql([str(copy)])


class Rewritten(JsonLines):
    """The same format with a way to rewrite a file."""

    def rewrite(self, source: EventSource, path: Path, target: Path, gone: Gone) -> None:
        left_out(path, target, gone.rows)


def left_out(path: Path, target: Path, rows: Collection[int]) -> None:
    lines = path.read_text().splitlines(keepends=True)
    target.write_text("".join(line for n, line in enumerate(lines) if n not in rows))


ROWS = [{"v": n, "ts": str(dt.datetime(2011, 3, n))} for n in (1, 2, 3)]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        yield connection


@pytest.fixture(params=[JsonLines, Rewritten])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JsonLines:
    """The format's name among those that definitions know, and its line in the table."""
    made: JsonLines = request.param()
    monkeypatch.setattr(definitions, "FORMATS", (*FORMATS, "made_up"))
    monkeypatch.setitem(KINDS, "made_up", made)
    return made


def source(**options: Any) -> EventSource:
    return EventSource("x", path="x.made_up", schema={"v": int}, timestamp_field="ts", **options)


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "x.made_up"
    path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows))
    return path


def values(con: duckdb.DuckDBPyConnection, source: EventSource, folder: Path) -> list[Any]:
    read = read_events(con, source, base=folder, state_dir=folder / "state")
    return [read.quarantined, *con.execute(f"SELECT v FROM {read.relation} ORDER BY v").fetchall()]


def test_every_format_that_definitions_know_is_read() -> None:
    assert set(KINDS) == set(FORMATS)


def test_a_format_that_none_knows_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r'in neither \.parquet nor \.csv; write .*" or'):
        source()
    with pytest.raises(DefinitionError, match='format is "parquet" or "csv", not \'made_up\''):
        source(format="made_up")


def test_another_format_is_known_by_name_and_by_ending(kind: JsonLines) -> None:
    assert source().format == source(format="made_up").format == "made_up"
    assert kind_of(source()) is kind
    with pytest.raises(DefinitionError, match='is "parquet" or "csv" or "made_up", not'):
        source(format="pickle")
    with pytest.raises(
        DefinitionError, match=r"\.csv nor \.made_up; write .* or format=\"made_up\""
    ):
        EventSource("x", path="x.bin", schema={"v": int}, timestamp_field="ts")


@pytest.mark.usefixtures("kind")
def test_another_format_is_read(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = write(tmp_path, *ROWS)
    assert values(con, source(), tmp_path) == [0, (1,), (2,), (3,)]
    assert [file.path for file in source_files(source(), tmp_path, None)] == [str(path)]


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("bad", [{"v": None, "ts": ROWS[0]["ts"]}, '{"v": 2, "ts"'])
def test_another_format_is_checked(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, bad: Any
) -> None:
    write(tmp_path, ROWS[0], bad, ROWS[2])
    with pytest.raises(BadRowError, match=r"x\.made_up, row 1.*column 'v'"):
        values(con, source(), tmp_path)
    assert values(con, source(on_bad_row="quarantine"), tmp_path) == [1, (1,), (3,)]
    kept = sorted(p.name.split(".", 2)[-1] for p in (tmp_path / "state" / "quarantine").iterdir())
    apart = ["readable.parquet", "undecodable.jsonl"]
    assert kept == (apart if isinstance(bad, str) else ["parquet"])


def test_another_format_is_rewritten_by_its_own_way_or_not_at_all(
    con: duckdb.DuckDBPyConnection, tmp_path: Path, kind: JsonLines
) -> None:
    path = write(tmp_path, *ROWS)
    untouched = shutil.copy(path, tmp_path / "copy")
    if isinstance(kind, Rewritten):
        remove_rows(con, source(), FileInfo(str(path), 0, 0), Gone([1]))
        assert values(con, source(), tmp_path) == [0, (1,), (3,)]
        return
    with pytest.raises(SourceError, match="'x': files of format 'made_up' are not rewritten; take"):
        remove_rows(con, source(), FileInfo(str(path), 0, 0), Gone([1]))
    assert path.read_bytes() == Path(untouched).read_bytes()
