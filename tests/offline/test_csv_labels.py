"""Labels in CSV have the values that the texts of a source in CSV have, and no others."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from featurekit import EventSource
from featurekit.core import tables
from featurekit.core.types import INT, from_hint
from featurekit.define.dialect import Dialect
from featurekit.errors import EntityFrameError, FeaturekitError
from featurekit.offline.frame import load_frame
from featurekit.parity.compare import bits
from featurekit.sources import read_events
from featurekit.sources.raw import value_of

TEXTS: dict[Any, tuple[str, ...]] = {
    int: (
        "1", "+1", "-0", "01", "1.0", "1.", "1_000", "\t2\t", " 2", "\u00a02", "٣", "1e3",
        "9223372036854775807", "9223372036854775808", "9007199254740993.0", ".0", "",
    ),
    float: (
        "1", "+1.5", "1.", "0.5", ".5", "1_000", "\t2\t", " 2 ", "\u00a02", "\u20032", "2\u2028",
        "\x0b2", "\x1c2", "٣", "1e3", "1E+3", "infinity", "Infinity", "inf", "-inf", "+inf", "INF",
        "nan", "NaN", "-nan", "1e400", "-1e400", "1e-400", "0x10", "1d", "1,5", "1e", "--1",
        "1e5_0", "-0.0", "",
    ),
    bool: ("true", "True", "FALSE", "t", "1", " true", "yes", "fal\u017fe", ""),
    dt.date: (
        "2026-01-01", "20260101", "2026-W01-1", " 2026-01-01", "2026-1-1", "٢026-01-01",
        "0000-01-01", "2026-02-30", "2026-01-01T00:00:00", "10000-01-01", "",
    ),
    dt.datetime: (
        "2026-01-01T00:00:00Z", "2026-01-01T00:00:00z", "2026-01-01t00:00:00Z", "2026-01-01",
        "2026-01-01 00:00", "20260101T000000", "2026-W01-1", "2026-01-01T00:00:00,5",
        "2026-01-01T00:00:00.1234567Z", "2026-01-01T24:00:00", "2026-01-01T00:00:00+01",
        " 2026-01-01T00:00:00", "2026-01-01T00", "2026-01-01x00:00:00", "2026-01-01T000000",
        "2026-01-01T00:00:00+01:00:30", "2026-01-01T00:00:00 +01:00", "2026-01-01T00:00:60Z", "",
    ),
}  # fmt: skip
CASES = [(type_, text) for type_, texts in TEXTS.items() for text in texts]
REFUSED = "refused"


def read_as(read: Any) -> Any:
    try:
        return bits(read())
    except FeaturekitError:
        return REFUSED


@pytest.mark.parametrize(("hint", "text"), CASES)
def test_labels_and_sources_read_one_text_alike(hint: Any, text: str, tmp_path: Path) -> None:
    type_ = from_hint(hint | None)
    events, labels = tmp_path / "events.csv", tmp_path / "labels.csv"
    for path, instant in ((events, "at"), (labels, "event_timestamp")):
        line = f'1,"{text}",2026-01-01T00:00:00Z\n'
        path.write_text(f"k,x,{instant}\n{line}", encoding="utf-8")
    made = EventSource(
        "events", path=str(events), schema={"k": int, "x": hint | None}, timestamp_field="at"
    )
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()

        def of_source() -> Any:
            relation = read_events(con, made, base=Path(), state_dir=None).relation
            return tables.rows(con, relation, {"x": type_})[0]["x"]

        def of_label() -> Any:
            frame = load_frame(con, labels, join_keys={}, request={"x": type_})
            return tables.rows(con, f"(SELECT x FROM {frame.table})", {"x": type_})[0]["x"]

        assert read_as(of_label) == read_as(of_source)


@pytest.mark.parametrize("hint", [int, float, bool, dt.date, dt.datetime])
def test_a_quoted_empty_field_is_no_value(hint: Any) -> None:
    assert value_of("", from_hint(hint | None), Dialect()) == ""


def test_instants_with_and_without_an_offset_are_told_by_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("k,event_timestamp\n1,2026-01-01T00:00:00\n2,\n3,2026-01-01T00:00:00+01:00\n")
    said = "row 2 has an offset from UTC, and that of row 0 has none.*write one with each"
    with duckdb.connect() as con, pytest.raises(EntityFrameError, match=said):
        load_frame(con, path, join_keys={"k": INT}, request={})


def test_texts_of_a_frame_with_several_offsets_are_told_what_to_write() -> None:
    texts = ["2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"]
    labels = pd.DataFrame({"k": [1, 2], "event_timestamp": pd.Series(texts, dtype="string")})
    said = r"make instants of its texts, as by pandas.to_datetime\(frame\[\"event_timestamp\"\]"
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        with pytest.raises(EntityFrameError, match=said):
            load_frame(con, labels, join_keys={"k": INT}, request={})
        made = pd.to_datetime(labels["event_timestamp"], utc=True)
        frame = load_frame(
            con, labels.assign(event_timestamp=made), join_keys={"k": INT}, request={}
        )
        found = con.execute(f"SELECT __t FROM {frame.table}").fetchall()
    assert found == [(1_767_225_600_000_000,)] * 2


def test_instants_with_several_offsets_are_instants(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("k,event_timestamp\n1,2026-01-01T01:00:00+01:00\n2,2026-01-01T00:00:00Z\n")
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        frame = load_frame(con, path, join_keys={"k": INT}, request={})
        found = con.execute(f"SELECT __t FROM {frame.table}").fetchall()
    assert found == [(1_767_225_600_000_000,)] * 2
