"""What `parity --feast` tells apart beside the sixteen cases: lag, gaps, pushes and so on."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, Repo
from test_parity_of_feast import check, make_on_demand, rows

pytestmark = pytest.mark.filterwarnings("ignore")
HOUR = dt.timedelta(hours=1)
SQLITE = ("dask", "sqlite")
MakeRepo = Callable[..., Repo]


def counted(repo: Repo, **asked: Any) -> Counter[str]:
    """How many values differ by each cause."""
    found: Counter[str] = Counter()
    for report in check(repo, **asked):
        for (_, cause), number in report.causes.items():
            found[cause] += number
    return found


def add(repo: Repo, **columns: Any) -> None:
    """Add rows to the file of view v."""
    path = repo.folder / "v.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(path), rows(**columns)]), path)


def int_view(repo: Repo, **columns: Any) -> None:
    """A view v of one Int64."""
    from feast.types import Int64

    repo.view("v", rows(**columns), {"x": Int64})


@pytest.mark.parametrize("own", [("duckdb", "redis"), SQLITE], ids=str)
def test_a_row_after_the_last_materialisation_is_lag(make_repo: MakeRepo, own: Any) -> None:
    repo = make_repo(ours=False, own=own)
    int_view(repo, key=[1, 2], at=[NOW - DAY] * 2, x=[1, 5])
    repo.materialize()
    add(repo, key=[1], at=[dt.datetime.now(dt.UTC)], x=[2])
    [report] = check(repo)
    assert (report.lagging, report.differing, report.compared) == (1, 0, 4)


def test_a_row_that_no_interval_has_was_not_materialised(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1, 2], at=[NOW - 5 * DAY, NOW - DAY], x=[1, 2])
    repo.store.materialize(NOW - 2 * DAY, NOW)
    assert counted(repo) == {"not materialised": 2}


def test_an_older_run_that_came_later_is_told(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False, own=SQLITE)
    int_view(repo, key=[1, 1], at=[NOW - 5 * DAY, NOW - DAY], x=[1, 2])
    repo.store.materialize(NOW - 2 * DAY, NOW)
    repo.store.materialize(NOW - 6 * DAY, NOW - 4 * DAY)
    assert counted(repo) == {"older run": 2}


def test_a_pushed_row_that_the_source_lacks_is_told(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1], at=[NOW - DAY], x=[1])
    repo.store.materialize(NOW - 2 * DAY, NOW - HOUR)
    pushed = pd.DataFrame({"key": [1], "at": [pd.Timestamp(NOW)], "x": [7]})
    repo.store.write_to_online_store("v", pushed)
    [report] = check(repo)
    assert report.causes == {("v:x", "written online"): 1}
    assert sum(report.unchecked.values()) == 1  # online no longer stands for the end of the run


def test_a_source_that_was_changed_is_told(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1], at=[NOW - DAY], x=[1])
    repo.materialize()
    pq.write_table(rows(key=[1], at=[NOW - DAY], x=[9]), repo.folder / "v.parquet")
    assert counted(repo) == {"source changed": 2}


def test_a_row_still_to_happen_differs_now_and_not_at_its_end(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1, 1], at=[NOW - DAY, NOW + DAY], x=[1, 2])
    repo.store.materialize(NOW - 2 * DAY, NOW + 2 * DAY)
    [report] = check(repo)
    assert report.causes == {("v:x", "future row"): 1}
    assert report.compared == 2


def test_an_entity_that_came_into_a_filled_interval_is_not_online(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1], at=[NOW - DAY], x=[1])
    repo.materialize()
    add(repo, key=[2], at=[NOW - DAY], x=[2])
    assert counted(repo) == {"row not online": 2}


def test_statuses_are_compared_where_that_is_asked_for(make_repo: MakeRepo) -> None:
    for own, wanted in ((("duckdb", "redis"), {"missing entity": 2}), (SQLITE, {})):
        repo = make_repo(ours=False, own=own)
        int_view(repo, key=[1], at=[NOW - DAY], x=[1])
        repo.materialize()
        assert counted(repo, statuses=True) == wanted
        assert counted(repo) == {}


def test_an_on_demand_view_of_a_feature_that_differs_says_so(make_repo: MakeRepo) -> None:
    from feast.types import Int64

    repo = make_repo(ours=False)
    given = rows(key=[1], at=[NOW - DAY], x=[1])
    make_on_demand(repo, given, Int64, Int64, lambda f: pd.DataFrame({"y": f["x"] + 1}))
    pq.write_table(rows(key=[1], at=[NOW - DAY], x=[9]), repo.folder / "v.parquet")
    assert counted(repo) == {"source changed": 2, "input differs": 2}


def test_a_function_that_raises_on_one_path_is_told(make_repo: MakeRepo) -> None:
    from feast.types import Int32, Int64

    def narrow_alone(frame):  # type: ignore[no-untyped-def]
        if str(frame["x"].dtype) != "int32" and list(frame["x"]) == [3]:
            raise ValueError("no int32")
        return frame[["x"]].rename(columns={"x": "y"})

    repo = make_repo(ours=False)
    given = rows(key=[1], at=[NOW - DAY], x=pa.array([3], pa.int32()))
    make_on_demand(repo, given, Int32, Int64, narrow_alone)
    reports = check(repo)
    assert [dict(report.causes) for report in reports] == [{}, {("made:y", "raised"): 2}]
    assert "no int32" in reports[1].differences[0].diagnosis.text()


def test_a_view_that_was_never_materialised_is_not_checked(make_repo: MakeRepo) -> None:
    repo = make_repo(ours=False)
    int_view(repo, key=[1], at=[NOW - DAY], x=[1])
    [report] = check(repo)
    assert report.compared == 0
    assert list(report.unchecked) == ["rows of v, which was not materialised"]


# --- what is quiet --------------------------------------------------------------------------------

_INSTANT = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
_VALUES: dict[str, list[Any]] = {
    "Int32": [1, -(2**31)],
    "Int64": [2**63 - 1, 0],
    "Float32": [0.5, -0.0],
    "Float64": [0.1, float("inf")],
    "Bool": [True, False],
    "String": ["a", ""],
    "Bytes": [b"\x00\xff", b""],
    "UnixTimestamp": [_INSTANT, _INSTANT],
    "Array(Int64)": [[1, 2], []],
    "Array(Float64)": [[0.1], [1e300]],
    "Array(String)": [["a", "b"], ["c"]],
    "Array(UnixTimestamp)": [[_INSTANT], [_INSTANT, _INSTANT]],
    "Json": ['{"a": [1, null]}', '"text"'],
    "Map": [{"a": "1", "b": "2"}, {"a": "3"}],
}
_ARROW = {"Int32": pa.int32(), "Float32": pa.float32()}
STORES = [("duckdb", "redis"), ("duckdb", "sqlite"), ("dask", "redis"), SQLITE, None]


@pytest.mark.parametrize("own", STORES, ids=str)
def test_a_repo_that_agrees_has_no_difference(make_repo: MakeRepo, own: Any) -> None:
    """Every type of value, all there."""
    from feast import types

    repo = make_repo() if own is None else make_repo(ours=False, own=own)
    columns, schema = {}, {}
    for number, (text, values) in enumerate(_VALUES.items()):
        columns[f"f{number}"] = pa.array(values, _ARROW.get(text))
        schema[f"f{number}"] = eval(text, vars(types))
    table = rows(key=[1, 2], at=[NOW - DAY] * 2, **columns)
    repo.view("v", table, schema, ttl=3 * DAY)
    repo.materialize()
    [report] = check(repo)
    assert not report.differences, report.differences[0].diagnosis.text()
    assert report.compared == 2 * 2 * len(_VALUES)


@pytest.mark.parametrize("own", STORES, ids=str)
def test_nulls_and_unknown_entities_are_no_difference(make_repo: MakeRepo, own: Any) -> None:
    from feast.types import Bool, Float64, Int64, String

    repo = make_repo() if own is None else make_repo(ours=False, own=own)
    table = rows(
        key=[1, 2], at=[NOW - DAY] * 2, i=[5, None], f=[0.1, None], s=["a", None], b=[True, None]
    )
    repo.view("v", table, {"i": Int64, "f": Float64, "s": String, "b": Bool})
    repo.materialize()
    path = repo.folder / "entities.csv"
    path.write_text("key\n1\n2\n3\n")
    [report] = check(repo, entities=path)
    assert not report.differences, report.differences[0].diagnosis.text()
    assert report.compared == 2 * 3 * 4
