"""What both paths share is asked of a third: the plain functions, and other readers of the files.

Each planted fault makes both paths agree on something wrong; every mode is shown to find it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feature_repos import MakeRepo
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.define.repo import load_repo
from featurekit.language.parse.context import Place
from featurekit.parity.plain import PLAIN
from featurekit.parity.report import Report
from featurekit.parity.reread import REREAD
from featurekit.sources import csv, parquet

MODES = ("history", "fuzz", "sample", "replay")
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
CONFIG = (
    "project: tests\nprovider: local\nonline_store:\n  type: redis\n"
    "featurekit:\n  serving_log:\n    to: parquet\n"
)

MODULE = """
import datetime as dt
import functools
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Sum

def doubled(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        found = function(*args, **kwargs)
        return found if found is None else found * 2
    return inner

user = Entity("user", {"key": int})
events = EventSource("events", path="data/events.FORMAT", timestamp_field="at",
                     schema={"key": int, "x": float, "name": str})

@feature
DECORATED_COLUMN
def scaled(x: float) -> float:
    return x / 3

@feature
def long(name: str) -> bool:
    return len(name) > 3

@feature
def mean(scaled: float, x: float) -> float:
    return sum([scaled, x, 0.1]) / 2

@feature
def age(as_of: dt.datetime, x: float) -> float:
    return as_of.microsecond + x

@feature(on_unsupported="python")
def shouted(name: str, *, x: float) -> str:
    return f"{name.upper()}{x:.1f}"

rows = FeatureView("rows", entities=[user], source=events, history="30d", features={
    "x": "x", "scaled": scaled, "age": age, "shouted": shouted,
})
above = FeatureView("above", entities=[user], source=FeatureView(
    "between", entities=[user], source=events, features={"x": "x", "scaled": scaled},
), features={"mean": mean}, history="30d")
window = FeatureView("window", entities=[user], source=events, history="30d", features={
    "total": Sum(scaled, window="10d"), "many": Count(where=long, window="10d"),
})

@feature
DECORATED_REQUEST
def ratio(price: float, total: float | None, x: float | None) -> float | None:
    return None if total is None or x is None else price * total + x

@feature
def twice(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 2

service = FeatureService("service", request={"price": float}, features=[
    rows, above, window, ratio, twice,
])
"""
ROWS = pa.table(
    {
        "key": [1, 2, 3, 1, 2, 3, 1, 2],
        "x": [0.5, 1.5, -0.25, 8.0, 0.1, 0.2, 3.5, 7.25],
        "name": ["a", "bbbb", "cc", "ddddd", "e", "f", "gggg", "hh"],
        "at": pa.array([NOON + dt.timedelta(hours=n) for n in range(8)], pa.timestamp("us", "UTC")),
    }
)


def written(
    make_repo: MakeRepo, *, column: str = "", request: str = "", format: str = "parquet"
) -> Path:
    module = MODULE.replace("DECORATED_COLUMN\n", column).replace("DECORATED_REQUEST\n", request)
    folder = make_repo(module.replace("FORMAT", format), {"events": ROWS}, CONFIG)
    if format == "csv":
        lines = ["key,x,name,at"]
        for row in ROWS.to_pylist():
            lines.append(f"{row['key']},{row['x']},{row['name']},{row['at'].isoformat()}")
        (folder / "data" / "events.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def reports(make_repo: MakeRepo, redis_url: str, redis_store: Any) -> Iterator[Any]:
    """Gives the report of each mode about a repo, by the name of the mode."""
    opened: list[FeatureStore] = []

    def made(folder: Path) -> dict[str, Report]:
        store = FeatureStore(folder, redis_url=redis_url)
        opened.append(store)
        store.apply()
        store.materialize()
        rows = [{"key": k % 5, "price": k / 2} for k in range(1, 30)]
        store.get_online_features("service", rows)
        store.parts.close()  # writes the log of what was served
        return {
            mode: store.check_parity("service", mode=mode, values=250, workers=1)  # type: ignore[arg-type]
            for mode in MODES
        }

    yield made
    for store in opened:
        store.close()


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_every_mode_calls_plain_functions_and_reads_rows_again(
    make_repo: MakeRepo, reports: Any, format: str
) -> None:
    for mode, report in reports(written(make_repo, format=format)).items():
        assert report.ok, (mode, [d.to_dict() for d in report.differences])
        least = 8 * 5  # five functions of views over eight rows, at least
        assert report.opinions[PLAIN] > least, mode
        assert report.opinions[REREAD] == (0 if mode == "fuzz" else 8), mode
        assert report.to_dict()["opinions"] == dict(sorted(report.opinions.items()))


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that reads the text inside a decorator, and not the decorator."""
    monkeypatch.setattr(Place, "_check_plain", lambda self, what: None)


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("column", {"rows: scaled as plain Python", "window: scaled as plain Python",
                    "above: mean as plain Python"}),
        ("request", {"ratio as plain Python"}),
    ],
)  # fmt: skip
def test_a_decorator_that_the_parser_drops_is_found_in_every_mode(
    make_repo: MakeRepo, reports: Any, forgetful: None, where: str, named: set[str]
) -> None:
    folder = written(make_repo, **{where: "@doubled\n"})
    for mode, report in reports(folder).items():
        assert not report.ok, mode
        parted = {name for name, found in report.features.items() if found.differing}
        assert parted == named, mode
        first = next(d for d in report.differences if d.feature in named)
        assert (first.offline[1], first.online[1]) == ("COMPILED", "CALLED")


@pytest.mark.parametrize(
    ("format", "fault"),
    slow_unless(
        lambda format, fault: fault == "changed",
        [("parquet", "lost"), ("csv", "lost"), ("csv", "changed")],
    ),
)
def test_a_reader_that_loses_or_changes_a_row_is_found(
    make_repo: MakeRepo, reports: Any, monkeypatch: pytest.MonkeyPatch, format: str, fault: str
) -> None:
    """Live checks and replays read offline and fill online by the same reader."""
    kind = {"parquet": parquet, "csv": csv}[format]
    scan = kind.scan

    def faulty(*args: Any, **kwargs: Any) -> str:
        whole = scan(*args, **kwargs)
        if fault == "lost":
            return f"(SELECT * FROM {whole} LIMIT (SELECT count(*) - 1 FROM {whole}))"
        other = "2.75" if format == "parquet" else "'2.75'"
        x = f"CASE WHEN name = 'cc' THEN {other} ELSE x END AS x"
        return f"(SELECT * REPLACE ({x}) FROM {whole})"

    monkeypatch.setattr(kind, "scan", faulty)
    folder = written(make_repo, format=format)
    named = {"lost": "events: rows read again", "changed": "events: a row read again"}[fault]
    found = reports(folder)
    for mode in ("history", "sample", "replay"):
        assert not found[mode].ok, mode
        assert found[mode].features[named].differing, mode
    if format == "parquet" and fault == "lost":  # the fuzzer's worlds are Parquet
        assert found["fuzz"].features["events: reading rows"].differing


def test_a_row_set_aside_is_no_row_that_is_lost(make_repo: MakeRepo, reports: Any) -> None:
    folder = written(make_repo, format="csv")
    path = folder / "definitions.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('timestamp_field="at",', 'timestamp_field="at", on_bad_row="quarantine",'),
        encoding="utf-8",
    )
    with (folder / "data" / "events.csv").open("a", encoding="utf-8") as file:
        file.write("no key,1.0,a,2024-05-02T12:00:00+00:00\n")
    for mode, report in reports(folder).items():
        assert report.ok, (mode, [d.to_dict() for d in report.differences])


def test_functions_of_another_version_are_not_called(
    make_repo: MakeRepo, redis_url: str, redis_store: Any
) -> None:
    """The repo's function is of another version than the one that is live."""
    folder = written(make_repo)
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
    path = folder / "definitions.py"
    path.write_text(path.read_text(encoding="utf-8").replace("x / 3", "x / 4"), encoding="utf-8")
    with FeatureStore(folder, redis_url=redis_url) as store:
        report = store.check_parity("service", mode="sample", values=500, workers=1)
    assert report.ok
    assert any("its functions were not called" in note for note in report.notes)


def test_what_plain_python_alone_does_not_notice_is_no_difference(
    make_repo: MakeRepo, redis_url: str, redis_store: Any
) -> None:
    """An int outside int64 is an error of ours (R3), and a number of Python's."""
    module = MODULE.replace("DECORATED_COLUMN\n", "").replace("DECORATED_REQUEST\n", "")
    module = module.replace("return len(name) > 3", "return len(name) * 2**62 > 3")
    with FeatureStore(make_repo(module.replace("FORMAT", "parquet"), {"events": ROWS}),
                      redis_url=redis_url) as store:  # fmt: skip
        assert store.check_parity("service", mode="history", values=500).ok


def test_the_repo_of_these_tests_is_taken(make_repo: MakeRepo) -> None:
    assert set(load_repo(written(make_repo)).compiled_services) == {"service"}
