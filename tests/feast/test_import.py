"""A Feast repo and the featurekit repo that is written from it give the same values.

The same questions are asked of Feast's own stores and of the written repo. They differ only where
the report says that something changed.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import exact

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.define.repo import load_repo
from featurekit.errors import ConfigError, DefinitionError
from featurekit.plugins.feast.importing import Imported, import_feast

pytestmark = pytest.mark.filterwarnings("ignore")
T = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SETTINGS = """\
project: drivers
provider: local
registry: data/registry.db
entity_key_serialization_version: 3
offline_store: {type: file}
online_store: {type: sqlite, path: data/online.db}
"""
MODULE = """\
import math
from datetime import timedelta

import numpy as np
import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, Map, String

driver = Entity(name="driver", join_keys=["driver_id"], description="Who drives")
stats = FileSource(
    name="stats_source", path="data/stats.parquet", timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
pushed = PushSource(name="stats_push", batch_source=stats)
stats_view = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(days=2),
    schema=[
        Field(name="driver_id", dtype=Int64),
        Field(name="rate", dtype=Float64, description="Share of trips that were taken"),
        Field(name="trips", dtype=Int64),
        Field(name="city", dtype=String),
    ],
    source=pushed,
    owner="drivers@shop.example",
    tags={"team": "drivers"},
)
extra = FeatureView(
    name="driver_extra", entities=[driver], source=stats,
    schema=[Field(name="trips", dtype=Int64), Field(name="seen", dtype=Map)],
)
asked = RequestSource(name="asked", schema=[Field(name="fare", dtype=Float64)])
FEE = 1.5


def fee_of(fare: float) -> float:
    return fare * FEE


@on_demand_feature_view(
    sources=[stats_view, asked],
    schema=[
        Field(name="rate_fare", dtype=Float64),
        Field(name="log_trips", dtype=Float64),
        Field(name="busy", dtype=Int64),
        Field(name="filled", dtype=Float64),
    ],
)
def by_frame(inputs: pd.DataFrame) -> pd.DataFrame:
    df = pd.DataFrame()
    doubled = inputs["fare"] * 2
    df["rate_fare"] = inputs["rate"] * doubled
    df["log_trips"] = np.log1p(inputs["trips"].astype("float64"))
    df["busy"] = np.where((inputs["trips"] > 50) & ~(inputs["rate"] < 0.2), 1, 0)
    df["filled"] = inputs["rate"].fillna(0.0) + 1.0
    return df


@on_demand_feature_view(
    sources=[stats_view, asked],
    schema=[Field(name="rounded", dtype=Int64), Field(name="label", dtype=String)],
    mode="python",
    singleton=True,
)
def by_row(inputs: dict) -> dict:
    if inputs["fare"] > 9.0:
        label = "high"
    else:
        label = "low"
    return {"rounded": math.floor(inputs["fare"] * 100), "label": label + "!"}


@on_demand_feature_view(
    sources=[stats_view, asked],
    schema=[Field(name="summed", dtype=Float64), Field(name="fee", dtype=Float64)],
    mode="python",
)
def by_lists(inputs: dict) -> dict:
    return {
        "summed": [rate + fare for rate, fare in zip(inputs["rate"], inputs["fare"])],
        "fee": [fee_of(fare) for fare in inputs["fare"]],
    }


@on_demand_feature_view(sources=[stats_view], schema=[Field(name="centred", dtype=Float64)])
def over_rows(inputs: pd.DataFrame) -> pd.DataFrame:
    df = pd.DataFrame()
    df["centred"] = inputs["rate"] - inputs["rate"].mean()
    return df


quotes = FeatureService(
    name="quotes",
    features=[stats_view[["rate", "trips", "city"]], by_frame, by_row, by_lists],
    owner="drivers@shop.example",
)
"""


def rows() -> pa.Table:
    """Three drivers; one has a correction of one instant, one a null."""
    return pa.table(
        {
            "driver_id": pa.array([1, 1, 1, 2, 2, 3], pa.int64()),
            "event_timestamp": [T - 3 * DAY, T - DAY, T - DAY, T - DAY, T - DAY / 2, T - 5 * DAY],
            "created": [T - DAY, T - DAY, T - DAY / 2, T - DAY, T - DAY, T - DAY],
            "rate": pa.array([0.1, 0.7, 0.9, 0.3, None, 0.4], pa.float64()),
            "trips": pa.array([9, 11, 12, 100, 7, 5], pa.int64()),
            "city": ["Rome", "Oslo", "Bonn", "Lima", None, "Nice"],
        }
    )


@pytest.fixture(scope="module")
def feast_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Feast repo of these tests."""
    folder = tmp_path_factory.mktemp("feast") / "old"
    return write_feast(folder, MODULE)


def write_feast(folder: Path, module: str) -> Path:
    """A Feast repo of one module over the rows."""
    (folder / "data").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(SETTINGS)
    (folder / "definitions.py").write_text(module)
    pq.write_table(rows(), folder / "data" / "stats.parquet")
    return folder


@pytest.fixture(scope="module")
def written(feast_repo: Path) -> tuple[Path, Imported]:
    """The repo that is written from it, and what is said."""
    folder = feast_repo.parent / "new"
    return folder, import_feast(feast_repo, folder)


@pytest.fixture(scope="module")
def store(written: tuple[Path, Imported]) -> Iterator[FeatureStore]:
    """The written repo, applied and filled."""
    with FeatureStore(written[0]) as store:
        store.apply()
        store.materialize(T)
        yield store


@pytest.fixture(scope="module")
def feast_store(feast_repo: Path) -> Any:
    """The Feast repo, applied."""
    return applied(feast_repo)


def applied(folder: Path) -> Any:
    """A Feast repo, once it is applied."""
    from feast import FeatureStore as Feast

    script = "from feast.cli.cli import cli; cli()"
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, "-c", str(folder), "apply"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    return Feast(str(folder))


FRAME = {
    "driver_id": [1, 1, 2, 2, 3, 9],
    "event_timestamp": [
        T, T - DAY * 1.5, T, T - DAY * 0.75, T - DAY * 4, T
    ],
    "fare": [10.0, 12.5, 8.25, 3.5, 4.75, 1.0],
}  # fmt: skip
PLAIN = ("rate", "trips", "city", "rate_fare", "log_trips", "busy", "filled", "summed", "fee")


def missing(value: Any) -> Any:
    """The value, in which pandas' NaN and NaT are None: the report says so."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def test_the_written_repo_gives_what_feast_gives(feast_store: Any, store: FeatureStore) -> None:
    import pandas as pd

    refs = [f"driver_stats:{name}" for name in ("rate", "trips", "city")]
    refs += [f"by_frame:{name}" for name in ("rate_fare", "log_trips", "filled")]
    keyed = ["driver_id", "event_timestamp"]
    frame = pd.DataFrame(FRAME)
    theirs = feast_store.get_historical_features(frame, refs).to_df().sort_values(keyed)
    ours = store.get_historical_features(pa.table(FRAME), "quotes").to_arrow().to_pandas()
    ours = ours.sort_values(keyed)
    assert len(ours) == len(FRAME["driver_id"])
    for name in ("rate", "city", "rate_fare", "log_trips"):
        wanted = [missing(v) for v in theirs[name]]
        assert exact([missing(v) for v in ours[name]]) == exact(wanted), name
    assert [missing(v) for v in ours["trips"]] == [missing(v) for v in theirs["trips"]]
    assert exact(list(map(float, ours["filled"]))) == exact(list(theirs["filled"]))


def test_functions_of_rows_give_what_they_give_alone(store: FeatureStore) -> None:
    found = store.get_historical_features(pa.table(FRAME), "quotes").to_arrow().to_pylist()
    at = {(r["driver_id"], r["event_timestamp"]): r for r in found}
    one, late = at[1, T], at[2, T]
    assert (one["rate"], one["city"]) == (0.9, "Bonn")  # the correction of that instant
    assert (one["rounded"], one["label"], one["busy"]) == (1000, "high!", 0)
    assert exact([one["summed"], one["fee"]]) == exact([0.9 + 10.0, 15.0])
    assert (late["rounded"], late["label"], late["busy"]) == (825, "low!", None)
    assert late["filled"] == 1.0


def test_both_paths_of_the_written_repo_agree(store: FeatureStore) -> None:
    asked = [{"driver_id": key, "fare": 2.5} for key in (1, 2, 3, 9)]
    online = store.get_online_features("quotes", asked, as_of=T).to_pylist()
    frame = {"driver_id": [1, 2, 3, 9], "event_timestamp": [T] * 4, "fare": [2.5] * 4}
    offline = store.get_historical_features(pa.table(frame), "quotes").to_arrow().to_pylist()
    offline.sort(key=lambda row: row["driver_id"])
    names = [n for n in offline[0] if n not in frame]
    assert set(PLAIN) <= set(names)
    assert [[exact(r[n]) for n in names] for r in online] == [
        [exact(r[n]) for n in names] for r in offline
    ]


def test_the_report_says_what_did_not_come_over(written: tuple[Path, Imported]) -> None:
    folder, done = written
    assert done.faults is None
    said = {(one.kind, one.name): one for one in done.report}
    assert said["entity", "driver"].outcome == "carried"
    assert said["feature", "driver_stats:rate"].outcome == "carried"
    assert said["feature", "driver_extra:seen"].outcome == "not carried"
    assert "MAP" in said["feature", "driver_extra:seen"].notes[0].what
    over = said["on-demand view", "over_rows"]
    assert over.outcome == "not carried"
    assert "inputs['rate'].mean" in over.notes[0].what
    assert "aggregate" in over.notes[0].instead
    assert "(t − 2d, t]" in said["view", "driver_stats"].notes[0].what
    assert said["push source", "stats_push"].outcome == "changed"
    text = (folder / "IMPORT.md").read_text()
    assert "| feature | driver_extra:seen |" in text
    assert "over_rows" in text


def test_the_written_text_is_formatted_and_described(written: tuple[Path, Imported]) -> None:
    folder, _ = written
    text = (folder / "features.py").read_text()
    assert max(map(len, text.splitlines())) <= 100
    assert 'owner="drivers@shop.example"' in text
    assert "# Share of trips that were taken" in text
    assert "doubled = fare * 2\n    return rate * doubled" in text
    assert "def fee_of(fare: float) -> float:" in text
    assert "import feast" not in text
    assert "numpy" not in text
    ruff = shutil.which("ruff")
    if ruff is None:
        pytest.skip("needs ruff")
    for words in (["format", "--check"], ["check", "--select", "F,I,E"]):
        told = subprocess.run(
            [ruff, *words, "--isolated", "--line-length", "100", folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr


def test_the_command_writes_and_refuses_a_full_folder(
    feast_repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made"
    assert main(["import-feast", str(feast_repo), str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["faults"] is None
    assert told["counts"]["on-demand view"]["not carried"] == 1
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main(["import-feast", str(feast_repo), str(folder)]) == 2
    assert "is there already and not empty" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_that_is_no_feast_repo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no feature_store\.yaml; name the folder"):
        import_feast(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_repo_that_feast_cannot_load_writes_nothing(tmp_path: Path) -> None:
    old = write_feast(tmp_path / "old", "import nothing_of_this_name\n")
    with pytest.raises(DefinitionError, match="Feast cannot load its modules: ModuleNotFound"):
        import_feast(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_reading_leaves_the_process_as_it_was(feast_repo: Path, tmp_path: Path) -> None:
    before = Path.cwd(), list(sys.path)
    import_feast(feast_repo, tmp_path / "new")
    assert (Path.cwd(), list(sys.path)) == before
    assert "definitions" not in sys.modules


AGGREGATED = """\
from datetime import timedelta
from feast import Entity, Field, FileSource, PushSource
from feast.aggregation import Aggregation
from feast.stream_feature_view import StreamFeatureView
from feast.types import Float64, Int64

driver = Entity(name="driver", join_keys=["driver_id"])
stats = FileSource(
    name="stats", path="data/stats.parquet", timestamp_field="event_timestamp"
)
totals = StreamFeatureView(
    name="totals", entities=[driver], source=PushSource(name="push", batch_source=stats),
    timestamp_field="event_timestamp",
    schema=[Field(name="trips_4d", dtype=Int64), Field(name="best", dtype=Float64)],
    aggregations=[
        Aggregation(column="trips", function="sum", time_window=timedelta(days=4), name="trips_4d"),
        Aggregation(column="rate", function="max", time_window=timedelta(days=2), name="best"),
        Aggregation(column="rate", function="skew", time_window=timedelta(days=2), name="skewed"),
    ],
)
"""


def test_aggregations_become_window_aggregates(tmp_path: Path) -> None:
    old = write_feast(tmp_path / "old", AGGREGATED)
    done = import_feast(old, tmp_path / "new")
    assert done.faults is None
    said = {one.name: one for one in done.report if one.kind == "feature"}
    assert said["totals:trips_4d"].outcome == "changed"
    assert said["totals:skewed"].outcome == "not carried"
    with FeatureStore(tmp_path / "new") as store:
        frame = pa.table({"driver_id": [1, 3], "event_timestamp": [T, T]})
        found = store.get_historical_features(frame, "totals").to_arrow().to_pylist()
    assert [(r["trips_4d"], r["best"]) for r in found] == [(32, 0.9), (None, None)]


TRANSFORMED = """\
from datetime import timedelta
from feast import BatchFeatureView, Entity, FeatureView, Field, FileSource
from feast.transformation.mode import TransformationMode
from feast.types import Float64

driver = Entity(name="driver", join_keys=["driver_id"])
stats = FileSource(
    name="stats", path="data/stats.parquet", timestamp_field="event_timestamp"
)
schema = [Field(name="rate", dtype=Float64)]


def tenfold(frame):
    return frame.assign(rate=frame["rate"] * 10)


tens = BatchFeatureView(
    name="tens", entities=[driver], source=stats, schema=schema, ttl=timedelta(days=1),
    mode=TransformationMode.PANDAS, udf=tenfold, udf_string="tenfold",
)
plain = BatchFeatureView(name="plain", entities=[driver], source=stats, schema=schema)
"""


def test_a_view_whose_rows_a_function_makes_is_not_carried(tmp_path: Path) -> None:
    old = write_feast(tmp_path / "old", TRANSFORMED)
    done = import_feast(old, tmp_path / "new")
    said = {one.name: one for one in done.report}
    assert said["tens"].outcome == said["tens:rate"].outcome == "not carried"
    assert said["plain"].outcome == "changed"
    with FeatureStore(tmp_path / "new") as store:
        assert [*store.repo.views] == ["plain"]


TWICE = """\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

driver = Entity(name="driver", join_keys=["driver_id"])
stats = FileSource(name="stats", path="data/stats.parquet", timestamp_field="event_timestamp",
                   field_mapping={"rate": "share"})
one = FeatureView(name="one", entities=[driver], source=stats,
                  schema=[Field(name="share", dtype=Float64)])
two = FeatureView(name="two-b", entities=[driver], source=stats,
                  schema=[Field(name="share", dtype=Float64), Field(name="trips", dtype=Int64)])


@on_demand_feature_view(sources=[one], schema=[Field(name="out", dtype=Float64)])
def first(inputs):
    inputs["out"] = inputs["share"] + 1
    return inputs[["out"]]


@on_demand_feature_view(sources=[two], schema=[Field(name="out", dtype=Float64)])
def second(inputs):
    inputs["out"] = inputs["share"] * inputs.trips
    return inputs[["out"]]


both = FeatureService(name="both", features=[one, two, first])
other = FeatureService(
    name="other",
    features=[second, one.with_name("from").with_join_key_map({"driver_id": "from_id"})],
)
"""


def test_names_that_stand_twice_and_roles_come_over(tmp_path: Path) -> None:
    old = write_feast(tmp_path / "old", TWICE)
    done = import_feast(old, tmp_path / "new")
    assert done.faults is None
    text = (tmp_path / "new" / "features.py").read_text()
    assert "FeatureView\n\nimport first\nimport second\n\n# ── Entities" in text
    at = {"driver_id": [1], "event_timestamp": [T]}
    with FeatureStore(tmp_path / "new") as store:
        both = store.get_historical_features(pa.table(at), "both").to_arrow().to_pylist()[0]
        asked = pa.table(at | {"from_id": [2]})
        other = store.get_historical_features(asked, "other").to_arrow().to_pylist()[0]
    assert exact([both["one__share"], both["two_b__share"]]) == exact([0.9, 0.9])
    assert exact(both["out"]) == exact(1.9)
    assert exact(other["out"]) == exact(0.9 * 12)
    assert other["from__share"] is None
    assert "share" not in other


def test_the_loaded_repo_has_the_services_of_feast(written: tuple[Path, Imported]) -> None:
    repo = load_repo(written[0])
    assert set(repo.services) == {"quotes", "driver_extra"}
    assert repo.unnamed == []


OURS = """\
project: drivers
provider: local
registry: data/registry.db
entity_key_serialization_version: 3
offline_store: {type: featurekit.plugins.feast.FeaturekitOfflineStore}
online_store: {type: featurekit.plugins.feast.FeaturekitOnlineStore, redis_url: "REDIS"}
batch_engine: {type: featurekit.plugins.feast.FeaturekitEngine}
"""
ALIKE = """\
from datetime import timedelta

from feast import BatchFeatureView, Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String

driver = Entity(name="driver", join_keys=["driver_id"])
stats = FileSource(
    name="stats", path="data/stats.parquet", timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
untied = FileSource(name="untied", path="data/untied.parquet", timestamp_field="event_timestamp")
seen = FeatureView(
    name="seen", entities=[driver], ttl=timedelta(days=2), source=stats,
    schema=[Field(name="driver_id", dtype=Int64), Field(name="rate", dtype=Float64)],
)
ties = FeatureView(
    name="ties", entities=[driver], source=untied, ttl=timedelta(days=2),
    schema=[Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64),
            Field(name="city", dtype=String)],
)
turned = BatchFeatureView(
    name="turned", mode="python", entities=[driver], source=untied, ttl=timedelta(days=2),
    schema=[Field(name="driver_id", dtype=Int64), Field(name="city", dtype=String),
            Field(name="trips", dtype=Int64)],
)
everything = FeatureService(name="everything", features=[seen, ties])
"""


def test_on_featurekit_s_own_stores_only_what_changes_is_called_so(
    tmp_path: Path, redis_url: str
) -> None:
    import pandas as pd

    old = write_feast(tmp_path / "old", ALIKE)
    (old / "feature_store.yaml").write_text(OURS.replace("REDIS", redis_url))
    tied = {
        "driver_id": [1, 1, 2, 2], "event_timestamp": [T - DAY / 2] * 4,
        "trips": [5, 7, 3, 3], "city": ["Rome", "Bonn", "Oslo", "Lima"],
    }  # fmt: skip
    pq.write_table(pa.table(tied), old / "data" / "untied.parquet")
    made = import_feast(old, tmp_path / "new")
    notes = {(one.kind, one.name): [n.what for n in one.notes] for one in made.report if one.notes}
    assert list(notes) == [("view", "turned")]
    assert "in the order of the source's schema" in notes["view", "turned"][0]
    assert f"redis_url: {redis_url}" in (tmp_path / "new" / "feature_store.yaml").read_text()

    frame = {"driver_id": [1, 2, 3, 1], "event_timestamp": [T, T, T, T + 3 * DAY]}
    refs = ["seen:rate", "ties:trips", "ties:city"]
    theirs = applied(old).get_historical_features(pd.DataFrame(frame), refs).to_arrow()
    with FeatureStore(tmp_path / "new") as store:
        store.apply()
        ours = store.get_historical_features(pa.table(frame), "everything").to_arrow()
    for name in ("rate", "trips", "city"):
        assert exact(theirs[name].to_pylist()) == exact(ours[name].to_pylist()), name
    assert theirs["city"].to_pylist() == ["Bonn", "Oslo", None, None]
