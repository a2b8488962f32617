"""`featurekit parity --feast` on repos of Feast's own stores and of featurekit's.

Each case in which Feast's two paths differ is found, and told with its cause; the same repo on
featurekit's stores has no difference, and neither has one that Feast's own stores answer rightly.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, Repo

pytestmark = pytest.mark.filterwarnings("ignore")
HOUR = dt.timedelta(hours=1)
Made = Callable[[Repo], None]


def rows(**columns: Any) -> pa.Table:
    """Rows of a file; `at` and `created` are microseconds in UTC."""
    return pa.table(columns)


# --- the cases ------------------------------------------------------------------------------------


def _ttl(repo: Repo) -> None:
    from feast.types import Int64

    repo.view("v", rows(key=[1], at=[NOW - 10 * DAY], x=[42]), {"x": Int64}, ttl=DAY)
    repo.materialize()


def _correction(repo: Repo) -> None:
    from feast.types import Int64

    first = rows(key=[1], at=[NOW - DAY], created=[NOW - DAY], x=[100])
    repo.view("v", first, {"x": Int64})
    repo.materialize()
    second = rows(key=[1], at=[NOW - DAY], created=[NOW - HOUR], x=[999])
    pq.write_table(pa.concat_tables([first, second]), repo.folder / "v.parquet")
    repo.materialize()


def _late(repo: Repo) -> None:
    from feast.types import Int64

    first = rows(key=[1], at=[NOW - 3 * DAY], x=[1])
    repo.view("v", first, {"x": Int64})
    repo.store.materialize_incremental(NOW - DAY)
    late = rows(key=[1], at=[NOW - 2 * DAY], x=[2])
    pq.write_table(pa.concat_tables([first, late]), repo.folder / "v.parquet")
    repo.store.materialize_incremental(NOW)


def _ties(repo: Repo) -> None:
    from feast.types import Int64

    keys = [key for key in range(200) for _ in range(3)]
    values = [(7 * i + key) % 31 for i, key in enumerate(keys)]
    repo.view("v", rows(key=keys, at=[NOW - DAY] * 600, x=values), {"x": Int64})
    repo.materialize()


def _transformation(repo: Repo) -> None:
    import warnings

    from feast import BatchFeatureView, Field, FileSource
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.types import Int64

    path = repo.folder / "b.parquet"
    pq.write_table(rows(key=[1], at=[NOW - DAY], x=[5]), path)

    def tenfold(frame):  # type: ignore[no-untyped-def]  # Feast looks the hints up elsewhere
        return frame.assign(x=frame["x"] * 10)

    view = BatchFeatureView(
        name="v",
        mode="pandas",
        entities=[repo.key],
        source=FileSource(name="b_source", path=str(path), timestamp_field="at"),
        schema=[Field(name="key", dtype=Int64), Field(name="x", dtype=Int64)],
        feature_transformation=PandasTransformation(tenfold, "tenfold"),
        udf=tenfold,
        udf_string="tenfold",
        online=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repo.store.apply([repo.key, view])
    repo.materialize()


def make_on_demand(
    repo: Repo, given: pa.Table, dtype: Any, made: Any, function: Any, **options: Any
) -> None:
    """A view v, and an on-demand view over it, materialised."""
    import warnings

    from feast import Field
    from feast.on_demand_feature_view import OnDemandFeatureView
    from feast.transformation.pandas_transformation import PandasTransformation
    from feast.transformation.python_transformation import PythonTransformation

    repo.view("v", given, {"x": dtype})
    repo.materialize()
    kind = PythonTransformation if options.get("mode") == "python" else PandasTransformation
    view = OnDemandFeatureView(
        name="made",
        sources=[repo.store.get_feature_view("v")],
        schema=[Field(name="y", dtype=made)],
        feature_transformation=kind(function, "function"),
        **{"mode": "pandas", **options},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repo.store.apply([view])


def _double(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"y": frame["x"] * 2})


def _wide_int(repo: Repo) -> None:
    from feast.types import Int32, Int64

    given = rows(key=[1], at=[NOW - DAY], x=pa.array([2_000_000_000], pa.int32()))
    make_on_demand(repo, given, Int32, Int64, _double)


def _wide_float(repo: Repo) -> None:
    from feast.types import Float32, Float64

    given = rows(key=[1], at=[NOW - DAY], x=pa.array([0.1], pa.float32()))
    make_on_demand(
        repo, given, Float32, Float64, lambda frame: pd.DataFrame({"y": frame["x"] * 10})
    )


def _singleton(repo: Repo) -> None:
    from feast.types import Int64

    given = rows(key=[1, 2], at=[NOW - DAY] * 2, x=[5, 7])
    function = lambda row: {"y": row["x"] * 10}  # noqa: E731
    make_on_demand(repo, given, Int64, Int64, function, mode="python", singleton=True)


def _one(given: pa.Table, dtype: str) -> Made:
    def make(repo: Repo) -> None:
        from feast import types

        repo.view("v", given, {"x": getattr(types, dtype)})
        repo.materialize()

    return make


def _keys(repo: Repo) -> None:
    from feast.types import Int32, Int64

    narrow = rows(key=pa.array([1], pa.int32()), at=[NOW - DAY], a=[11])
    repo.view("narrow", narrow, {"a": Int64}, key_type=Int32)
    repo.view("wide", rows(key=[1], at=[NOW - DAY], b=[22]), {"b": Int64})
    repo.materialize()


def _hashes(repo: Repo) -> None:
    from feast.types import Int64

    one, other = "feature_33781", "feature_119421"  # of view "v"
    table = rows(key=[1], at=[NOW - DAY], **{one: [111], other: [222]})
    repo.view("v", table, {one: Int64, other: Int64})
    repo.materialize()


def _frame(**columns: Any) -> pa.Table:
    return pa.Table.from_pandas(pd.DataFrame(columns))


_TWO = {"key": [1, 2], "at": [NOW - DAY] * 2}
DIFFERENT: dict[str, tuple[Made, str]] = {
    "ttl": (_ttl, "ttl"),
    "correction": (_correction, "correction lost"),
    "late": (_late, "late row"),
    "ties": (_ties, "tie"),
    "transformation": (_transformation, "transformation not run"),
    "wide int": (_wide_int, "on-demand types widened"),
    "wide float": (_wide_float, "on-demand types widened"),
    "singleton": (_singleton, "singleton on-demand view"),
    "float32": (_one(rows(key=[1], at=[NOW - DAY], x=[0.1]), "Float32"), "float32 rounding"),
    "int": (_one(rows(**_TWO, x=[9007199254740993, None]), "Int64"), "int as a double"),
    "2.7": (_one(rows(key=[1], at=[NOW - DAY], x=[2.7]), "Int64"), "cut to an int"),
    "7": (_one(rows(**_TWO, x=[7, None]), "String"), "text of a number"),
    "seconds": (_one(rows(key=[1], at=[NOW - DAY], x=[NOW]), "UnixTimestamp"), "cut to seconds"),
    "nan": (_one(rows(key=[1], at=[NOW - DAY], x=[float("nan")]), "Float64"), "NaN as null"),
    "keys": (_keys, "join key type"),
    "hashes": (_hashes, "hash collision"),
}
"""The sixteen cases in which Feast's own stores differ, and the cause of each."""
ELSEWHERE = {"2.7", "7", "transformation"}
"""What featurekit's stores refuse by name, and what they leave to Feast's engine."""


def causes(repo: Repo, **asked: Any) -> set[str]:
    """The causes of the differences of a repo."""
    reports = check(repo, **asked)
    assert any(report.compared for report in reports)
    return {cause for report in reports for _, cause in report.causes}


def check(repo: Repo, **asked: Any) -> Any:
    """The reports of a repo, by `check_feast`."""
    from featurekit.plugins.feast import Asked, check_feast

    repo.write_settings()
    return check_feast(repo.folder, Asked(**asked))


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_difference_of_feast_s_own_stores_is_told_with_its_cause(
    make_repo: Callable[..., Repo], case: str
) -> None:
    make, cause = DIFFERENT[case]
    repo = make_repo(ours=False, own=("dask" if case == "transformation" else "duckdb", "redis"))
    make(repo)
    assert causes(repo) == {cause}


@pytest.mark.parametrize("case", [case for case in DIFFERENT if case not in ELSEWHERE])
def test_on_featurekit_s_stores_the_same_repo_has_no_difference(
    make_repo: Callable[..., Repo], case: str
) -> None:
    repo = make_repo()
    DIFFERENT[case][0](repo)
    assert causes(repo) == set()
