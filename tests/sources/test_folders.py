"""The names of folders are columns: typed, checked, and what a query leaves out is not read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import EventSource
from featurekit.core import tables
from featurekit.core.types import INT
from featurekit.errors import BadRowError
from featurekit.parity.compare import bits
from featurekit.sources import events, folders, read_events

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NULL = "__HIVE_DEFAULT_PARTITION__"
SCHEMA: dict[str, Any] = {"x": float, "country": str | None, "day": dt.date, "n": int | None}
TEXTS = ["eu", "a b", "it's", "ü/%20=", "", "null", "NA", "\U0001f600", NULL, "[x]*?"]


def write(root: Path, *, files: int, name: str = "x") -> None:
    """Files of two rows, each in folders of its own."""
    for i in range(files):
        text = TEXTS[i % len(TEXTS)]
        country = text if text == NULL else quote(text, safe=" ")
        day = dt.date(2026, 1, 1) + dt.timedelta(i)
        number = NULL if i % 3 == 0 else str(-i)
        folder = root / f"country={country}" / f"day={day}" / f"n={number}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = {name: [i + 0.5, -0.0], "at": pa.array([AT] * 2, pa.timestamp("us", "UTC"))}
        pq.write_table(pa.table(rows), folder / "f.parquet")


def source(root: Path, **options: Any) -> EventSource:
    made = {"schema": SCHEMA, "timestamp_field": "at", "path": f"{root}/*/*/*/*.parquet"}
    return EventSource("events", **{**made, **options})


def connected() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'").fetchall()
    return con


def read(made: EventSource, state: Path | None = None) -> list[dict[str, Any]]:
    with connected() as con:
        relation = read_events(con, made, base=Path(), state_dir=state).relation
        return tables.rows(con, relation, {**made.schema, "__ts": INT})


def expected(files: int) -> list[dict[str, Any]]:
    us = (AT - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return [
        {
            "x": x,
            "country": None if (text := TEXTS[i % len(TEXTS)]) == NULL else text,
            "day": dt.date(2026, 1, 1) + dt.timedelta(i),
            "n": None if i % 3 == 0 else -i,
            "__ts": us,
        }
        for i in range(files)
        for x in (i + 0.5, -0.0)
    ]


@pytest.mark.parametrize("files", [3, events._APART + 10])
def test_texts_of_folders_are_typed_by_the_schema(tmp_path: Path, files: int) -> None:
    """Of few folders there is a scan for each, and of many one for all."""
    write(tmp_path, files=files)
    found = read(source(tmp_path))
    assert sorted(map(bits, found)) == sorted(map(bits, expected(files)))


@pytest.mark.parametrize("files", [3, events._APART + 10])
def test_a_text_that_does_not_fit_is_a_bad_row(tmp_path: Path, files: int) -> None:
    write(tmp_path, files=files)
    with pytest.raises(BadRowError, match=r"row 0 .*column 'n': null in a column declared int"):
        read(source(tmp_path, schema={**SCHEMA, "n": int}))
    with pytest.raises(BadRowError, match=r"n=-\d+/f\.parquet, row 0 .*neither true nor false: '-"):
        read(source(tmp_path, schema={**SCHEMA, "n": bool | None}))
    aside = source(tmp_path, schema={**SCHEMA, "n": int}, on_bad_row="quarantine")
    state = tmp_path / "state"
    nulls = 2 * -(-files // 3)
    assert len(read(aside, state)) == 2 * files - nulls
    kept = pq.read_table(state / "quarantine" / "events.parquet")
    assert kept.num_rows == nulls


@pytest.mark.parametrize("files", [3, events._APART + 10])
def test_files_that_a_query_leaves_out_are_not_read(tmp_path: Path, files: int) -> None:
    """Once they were checked: pages that are damaged since stop a scan of them."""
    write(tmp_path, files=files)
    with connected() as con:
        relation = read_events(con, source(tmp_path), base=Path(), state_dir=None).relation
        for path in tmp_path.rglob("*.parquet"):
            if "n=-1/" not in str(path):
                held = path.read_bytes()
                footer = held[-8 - int.from_bytes(held[-8:-4], "little") :]
                path.write_bytes(b"\xff" * (len(held) - len(footer)) + footer)
        for wanted in ("n = -1", "country = 'a b' AND n = -1", "\"day\" = DATE '2026-01-02'"):
            found = con.execute(f"SELECT x FROM {relation} WHERE {wanted}").fetchall()
            assert found == [(1.5,), (-0.0,)]
        with pytest.raises(duckdb.Error):
            con.execute(f"SELECT sum(x) FROM {relation} WHERE n = -2").fetchall()


def test_a_column_named_filename_hides_no_folder(tmp_path: Path) -> None:
    files = events._APART + 2
    write(tmp_path, files=files, name="filename")
    schema = {**SCHEMA, "filename": float}
    del schema["x"]
    found = read(source(tmp_path, schema=schema))
    assert len(found) == 2 * files


def test_texts_that_find_no_file_are_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, files=events._APART + 2)
    right = folders.with_texts_by_path

    def wrong(scan: str, texts: Any, found: Any) -> str:
        return right(scan, dict([*texts.items()][1:]), found)

    monkeypatch.setattr(events, "with_texts_by_path", wrong)
    with pytest.raises(AssertionError, match="68 rows, and 66 were read"):
        read(source(tmp_path))


def test_many_folders_are_planned_as_one(tmp_path: Path) -> None:
    write(tmp_path, files=200)
    with connected() as con:
        made = read_events(con, source(tmp_path), base=Path(), state_dir=None)
        (view,) = con.execute(
            "SELECT sql FROM duckdb_views() WHERE view_name LIKE '__events_events%'"
        ).fetchall()
        assert view[0].count("UNION ALL") == 0
        assert made.rows == 400
