"""T1 and T2: `to_utc_us_sql` and `to_utc_us` against zoneinfo on the pinned tzdata."""

from __future__ import annotations

import datetime as dt
import random
import struct
import subprocess
import sys
from importlib import resources
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from slow import slow_unless

from featurekit.core import timezones
from featurekit.core.types import EPOCH, MICROSECOND
from featurekit.errors import DefinitionError

EVERY_ZONE = sorted(timezones.zone_names())
EARLY, LATE = dt.datetime(1830, 1, 1), dt.datetime(2045, 1, 1)


def tzif(name: str) -> bytes:
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


# Half of the names are links: one of each will do.
DISTINCT_ZONES = sorted({tzif(name): name for name in reversed(EVERY_ZONE)}.values())


def oracle(local: dt.datetime, name: str) -> int:
    """What zoneinfo says, without leaving the calendar at its ends."""
    offset = timezones.zone(name).utcoffset(local)
    assert offset is not None
    return (local - EPOCH.replace(tzinfo=None) - offset) // MICROSECOND


def by_sql(locals_: list[dt.datetime], name: str, low: dt.datetime, high: dt.datetime) -> list[int]:
    con = duckdb.connect()
    con.register("t", pa.table({"ts": pa.array(locals_, pa.timestamp("us"))}))
    sql = timezones.to_utc_us_sql('"ts"', name, low, high)
    return [row[0] for row in con.execute(f"SELECT {sql} FROM t").fetchall()]


def instants_around(name: str, low: dt.datetime, high: dt.datetime) -> list[dt.datetime]:
    steps = [-3600, -1800, 0, 1, 3600]
    near = [
        change + dt.timedelta(seconds=s, microseconds=us)
        for change, _ in timezones.offset_changes(name, low, high)
        for s in steps
        for us in (-1, 0)
    ]
    return [local for local in near if low <= local <= high]


def tzif_changes(name: str) -> list[int]:
    """The instants in a TZif file's own table at which the offset becomes another (RFC 8536)."""
    data = tzif(name)
    isut, isstd, leap, times, types, chars = struct.unpack(">6l", data[20:44])
    at = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    *_, times, types, chars = struct.unpack(">6l", data[at + 20 : at + 44])
    at += 44
    instants = struct.unpack(f">{times}q", data[at : at + 8 * times])
    at += 8 * times
    index = data[at : at + times]
    at += times
    offsets = [struct.unpack(">l", data[at + 6 * i : at + 6 * i + 4])[0] for i in range(types)]
    changes, offset = [], offsets[0]
    for instant, i in zip(instants, index, strict=True):
        if offsets[i] != offset:
            changes.append(instant)
        offset = offsets[i]
    return changes


@pytest.mark.parametrize("part", slow_unless(lambda part: part == 0, range(4)))
def test_sql_equals_zoneinfo_around_every_change_of_every_zone(part: int) -> None:
    rng = random.Random(part)
    span = int((LATE - EARLY).total_seconds() * 1e6)
    for name in DISTINCT_ZONES[part::4]:
        anywhere = [EARLY + dt.timedelta(microseconds=rng.randrange(span)) for _ in range(200)]
        locals_ = anywhere + instants_around(name, EARLY, LATE)
        actual = by_sql(locals_, name, EARLY, LATE)
        assert actual == [oracle(local, name) for local in locals_], name


@pytest.mark.parametrize("part", range(4))
def test_no_change_in_the_files_of_tzdata_is_stepped_over(part: int) -> None:
    for name in DISTINCT_ZONES[part::4]:
        found = timezones.offset_changes(name, dt.datetime.min, dt.datetime(2045, 1, 1))
        before = [timezones.offset_us(at - dt.timedelta(seconds=1), name) for at, _ in found]
        instants = [
            ((at - EPOCH.replace(tzinfo=None)) // MICROSECOND - max(old, new)) // 1_000_000
            for (at, new), old in zip(found, before, strict=True)
        ]
        expected = [at for at in tzif_changes(name) if at < 2_366_000_000]  # 2044
        assert instants[: len(expected)] == expected, name


@pytest.mark.parametrize(
    "name", ["Europe/London", "Europe/Dublin", "America/New_York", "Africa/Casablanca", "UTC"]
)
def test_sql_equals_zoneinfo_over_the_whole_calendar(name: str) -> None:
    rng = random.Random(7)
    span = int((dt.datetime.max - dt.datetime.min) / MICROSECOND)
    locals_ = [dt.datetime.min + rng.randrange(span) * MICROSECOND for _ in range(5_000)]
    locals_ += [dt.datetime.min, dt.datetime.max, dt.datetime(2500, 1, 1), dt.datetime(9999, 7, 1)]
    actual = by_sql(locals_, name, dt.datetime.min, dt.datetime.max)
    assert actual == [oracle(local, name) for local in locals_]


def test_an_ambiguous_local_time_is_the_earlier_instant() -> None:
    local = dt.datetime(2011, 10, 30, 1, 30)
    expected = dt.datetime(2011, 10, 30, 0, 30, tzinfo=dt.UTC)
    assert timezones.to_utc_us(local, "Europe/London") == (expected - EPOCH) // MICROSECOND


def test_a_local_time_that_does_not_exist_has_the_offset_before_the_gap() -> None:
    local = dt.datetime(2011, 3, 27, 1, 30)
    expected = dt.datetime(2011, 3, 27, 1, 30, tzinfo=dt.UTC)
    assert timezones.to_utc_us(local, "Europe/London") == (expected - EPOCH) // MICROSECOND


def test_fold_of_a_naive_value_is_not_looked_at() -> None:
    local = dt.datetime(2011, 10, 30, 1, 30)
    late = timezones.to_utc_us(local.replace(fold=1), "Europe/London")
    assert late == timezones.to_utc_us(local, "Europe/London")


def test_an_aware_value_is_its_own_instant() -> None:
    local = dt.datetime(2011, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert timezones.to_utc_us(local, "Europe/London") == (local - EPOCH) // MICROSECOND


def test_sql_of_null_is_null() -> None:
    con = duckdb.connect()
    low, high = dt.datetime(2010, 1, 1), dt.datetime(2012, 1, 1)
    sql = timezones.to_utc_us_sql("ts", "Europe/London", low, high)
    rows = con.execute(f"SELECT {sql} FROM (SELECT NULL::TIMESTAMP AS ts)").fetchall()
    assert rows == [(None,)]


def test_sql_is_a_bigint() -> None:
    sql = timezones.to_utc_us_sql("ts", "Europe/London", EARLY, LATE)
    query = f"SELECT typeof({sql}) FROM (SELECT TIMESTAMP '2011-01-01' AS ts)"
    assert duckdb.execute(query).fetchall() == [("BIGINT",)]


def test_the_zone_comes_from_the_package_and_not_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "London").write_bytes(tzif("UTC"))
    code = (
        f"import zoneinfo; zoneinfo.reset_tzpath([{str(tmp_path)!r}]);"
        "import datetime; from featurekit.core.timezones import zone, offset_us; "
        "print(offset_us(datetime.datetime(2011, 7, 1), 'Europe/London'))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "3600000000"


def test_tzdata_version_is_the_packages() -> None:
    import tzdata

    assert timezones.tzdata_version() == tzdata.IANA_VERSION


@pytest.mark.parametrize(
    "name",
    ["", "Europe", "Europe/Londn", "../../etc/passwd", "/etc/localtime", "Europe/../UTC", "a\0b",
     "zone.tab", "tzdata.zi", "__init__.py", "europe/london", "Europe/London ", None, 3],
)  # fmt: skip
def test_a_name_that_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="is not a time zone of tzdata"):
        timezones.zone(name)


def test_a_misspelt_zone_is_hinted_at() -> None:
    with pytest.raises(DefinitionError, match='as in "Europe/London"'):
        timezones.zone("europe/londn")


def test_importing_the_module_loads_neither_zoneinfo_nor_tzdata() -> None:
    code = (
        "import sys; import featurekit.errors, featurekit.core.types; before = set(sys.modules);"
        "import featurekit.core.timezones;"
        "new = set(sys.modules) - before; print(sorted(new & {'zoneinfo', 'tzdata', 'duckdb'}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"
