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


def test_a_null_beside_a_value_hides_no_difference(make_repo: MakeRepo) -> None:
    """Beside a null, pandas gives the function doubles on both paths."""
    from feast.types import Int32, Int64

    repo = make_repo(ours=False)
    given = rows(key=[1, 2], at=[NOW - DAY] * 2, x=pa.array([2_000_000_000, None], pa.int32()))
    make_on_demand(repo, given, Int32, Int64, lambda f: pd.DataFrame({"y": f["x"] * 2}))
    assert counted(repo) == {"on-demand types widened": 2}


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


@pytest.mark.parametrize("own", STORES, ids=str)
def test_services_keys_and_names_of_all_kinds_are_asked_about(
    make_repo: MakeRepo, own: Any
) -> None:
    """Two join keys, a view twice under other keys and names, a view without entities, columns of
    other names, and a request field. Where a request has a view's join key under its own name as
    well as under others, Feast's own stores take one for the other."""
    repo = make_repo() if own is None else make_repo(ours=False, own=own)
    alone = own is None or own[0] != "duckdb"  # Feast fills no view without entities from DuckDB
    _shapes(repo, world=alone)
    reports = {report.service: report for report in check(repo)}
    assert {name for name, one in reports.items() if one.compared} == {
        *("people", "pairs", "sums", "twice", "all"), *(("world",) if alone else ())
    }  # fmt: skip
    assert set(reports["twice"].features) == {
        *("giver:age", "taker:age"), *(("world:temperature",) if alone else ())
    }  # fmt: skip
    found = {cause for one in reports.values() for cause in one.causes}
    mistaken = {("giver:age", "aliased join key"), ("taker:age", "aliased join key")}
    assert found == (set() if own is None else mistaken)
    assert not any(one.unchecked for one in reports.values())


def _shapes(repo: Repo, *, world: bool) -> None:
    import warnings

    from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.types import Float64, Int64, String

    def source(name: str, table: pa.Table, **options: Any) -> FileSource:
        path = repo.folder / f"{name}.parquet"
        pq.write_table(table, path)
        return FileSource(name=f"{name}_source", path=str(path), timestamp_field="at", **options)

    def add_up(frame):  # type: ignore[no-untyped-def]
        return pd.DataFrame({"total": frame["n"] + frame["more"]})

    person = Entity(name="person", join_keys=["person_id"])
    town = Entity(name="town", join_keys=["town_name"])
    at = [NOW - DAY] * 2
    people = FeatureView(
        name="people", entities=[person], ttl=2 * DAY,
        schema=[Field(name="person_id", dtype=Int64), Field(name="age", dtype=Int64)],
        source=source("people", rows(person_id=[1, 2], at=at, years=[30, 40]),
                      field_mapping={"years": "age"}),
    )  # fmt: skip
    pairs = FeatureView(
        name="pairs", entities=[person, town], ttl=2 * DAY,
        schema=[Field(name="person_id", dtype=Int64), Field(name="town_name", dtype=String),
                Field(name="n", dtype=Int64)],
        source=source("pairs", rows(person_id=[1, 2], town_name=["a", "b"], at=at, n=[3, 4])),
    )  # fmt: skip
    weather = FeatureView(
        name="world", entities=[], schema=[Field(name="temperature", dtype=Float64)],
        source=source("world", rows(at=at[:1], temperature=[14.5])),
    )  # fmt: skip
    more = RequestSource(name="more_source", schema=[Field(name="more", dtype=Int64)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sums = OnDemandFeatureView(
            name="sums", sources=[pairs, more], schema=[Field(name="total", dtype=Int64)],
            feature_transformation=PandasTransformation(add_up, "add_up"), mode="pandas",
        )  # fmt: skip
        twice = [
            people.with_name(name).with_join_key_map({"person_id": f"{name}_id"})
            for name in ("giver", "taker")
        ]
        extra = [weather] if world else []
        services = [
            FeatureService(name="twice", features=[*twice, *extra]),
            FeatureService(name="all", features=[*twice, pairs, sums]),
        ]
        repo.store.apply([person, town, people, pairs, more, sums, *extra, *services])
    repo.materialize()
