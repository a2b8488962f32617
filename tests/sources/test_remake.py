"""A training set is made again from its manifest, or what has changed is named."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import origins
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slow import slow_unless

from featurekit import Delta, Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, Last, Sum
from featurekit.cli import main
from featurekit.errors import DataError

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LABELS = [{"k": k, "event_timestamp": AT, "tag": f"{k}?"} for k in range(4)]
KINDS = [*origins.FILES, "s3", "postgres"]
customer = Entity("customer", {"k": int})


def table(*values: float) -> pa.Table:
    at = [AT - dt.timedelta(minutes=n) for n in range(len(values))]
    return pa.table(
        {
            "k": [n % 3 for n in range(len(values))],
            "x": pa.array(values, pa.float64()),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )


def service(options: dict[str, Any], **more: Any) -> FeatureService:
    made = EventSource(
        "events",
        schema={"k": int, "x": float},
        timestamp_field="at",
        timestamp_format="iso",
        **options,
    )
    features = {"n": Count(window="1d"), "x": Sum("x", window="1d"), "l": Last("x", window="1d")}
    view = FeatureView("view", entities=[customer], source=made, features=features | more)
    return FeatureService("service", features=[view])


class Made:
    """A store with a training set in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, folder / "train.parquet.manifest.json"

    def open(self, options: dict[str, Any], **more: Any) -> FeatureStore:
        return FeatureStore(definitions=[service(options, **more)], state_folder=self.folder / "st")

    def make(self, options: dict[str, Any], labels: Any = LABELS, **how: Any) -> dict[str, Any]:
        with self.open(options) as store:
            made = store.get_historical_features(labels, "service", **how)
            return made.to_parquet(self.folder / "train.parquet")

    def again(self, options: dict[str, Any], **more: Any) -> str:
        """The content hash of the training set that is made again."""
        with self.open(options, **more) as store:
            made = store.remake(self.manifest).manifest["content_hash"]
            assert isinstance(made, str)
            return made

    def refused(self, options: dict[str, Any], **more: Any) -> str:
        with pytest.raises(DataError) as error:
            self.again(options, **more)
        return str(error.value)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


@pytest.mark.parametrize("kind", slow_unless(lambda k: k not in ("csv", "duckdb"), KINDS))
def test_a_training_set_is_made_again_after_its_source_moved_on(
    made: Made, write: Any, kind: str
) -> None:
    options = write(kind, table(0.1, 0.2, -0.0, float("inf")))
    told = made.make(options)
    assert made.again(options) == told["content_hash"]
    write(kind, table(5.0, 6.0))
    if kind in ("parquet", "csv", "hive"):
        said = made.refused(options)
        for file in told["sources"]["events"]["files"]:
            lost = "k=2" in file["path"]
            gone = "cannot be read (No such file" if lost else "has another content"
            assert f"{file['path']} {gone}" in said
        return
    assert made.again(options) == told["content_hash"]
    if kind in ("delta", "iceberg", "s3"):
        return
    for copy in (made.folder / "st").rglob("copies/*"):
        copy.unlink()
    said = made.refused(options)
    assert options["origin"].text in said
    assert "its rows are others (2 rows, and 4 then); of 64 buckets of k, these differ: " in said
    assert said.count(" (1 rows, and 1 then: 1 …)") == 1
    assert said.count(" (1 rows, and 2 then: 0 …)") == 1
    assert said.count(" (0 rows, and 1 then)") == 1
    write(kind, table(0.1, 0.2, -0.0, float("inf")))
    assert made.again(options) == told["content_hash"]  # the same rows, read once more


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_the_same_rows_in_another_order_are_the_same(made: Made, write: Any, kind: str) -> None:
    """As after an update of a row to what it was, once the copy is gone."""
    values = table(*(n / 8 for n in range(30)))
    options = write(kind, values)
    told = made.make(options)
    for copy in (made.folder / "st").rglob("copies/*"):
        copy.unlink()
    write(kind, values.take(list(range(29, -1, -1))))
    assert made.again(options) == told["content_hash"]


def test_a_row_that_was_updated_is_named_by_its_bucket(made: Made, write: Any) -> None:
    """Whatever the order in which the database gives its rows."""
    values = [n / 8 for n in range(300)]
    options = write("duckdb", table(*values))
    told = made.make(options)
    buckets = told["sources"]["events"]["files"][0]["buckets"]
    assert (buckets["keys"], sum(buckets["rows"]), len(buckets["hashes"])) == (["k"], 300, 64)
    for copy in (made.folder / "st").rglob("copies/*"):
        copy.unlink()
    values[4] = -1.0  # of key 1
    write("duckdb", table(*values).take(list(range(299, -1, -1))))
    said = made.refused(options)
    assert "its rows are others (300 rows, and 300 then); of 64 buckets of k, these" in said
    assert said.count("bucket ") == 1
    assert said.endswith(" (100 rows, and 100 then: 1 …)")


def test_files_that_came_later_are_left_out(made: Made, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "*.events.parquet")}
    for n in range(2):
        pq.write_table(table(n, n), tmp_path / f"{n}.events.parquet")
    told = made.make(options)
    pq.write_table(table(7.0), tmp_path / "2.events.parquet")
    assert made.again(options) == told["content_hash"]
    (tmp_path / "0.events.parquet").unlink()
    said = made.refused(options)
    assert "0.events.parquet cannot be read (No such file" in said
    assert "1.events" not in said


def test_rows_pushed_since_are_left_out_and_a_forgotten_entity_is_named(
    made: Made, write: Any
) -> None:
    options = write("parquet", table(0.1, 0.2))
    with made.open(options) as store:
        store.apply()
        store.materialize()
        store.push("events", {"k": 0, "x": 1.5, "at": AT - dt.timedelta(hours=1)})
    told = made.make(options)
    with made.open(options) as store:
        store.push("events", {"k": 0, "x": 2.5, "at": AT - dt.timedelta(hours=1)})
        assert made.again(options) == told["content_hash"]
        store.forget("customer", {"k": 0})
    assert "source 'events' has 1 forgotten, and had 0" in made.refused(options)


def test_a_version_of_a_table_whose_files_are_gone_names_them(made: Made, write: Any) -> None:
    options = write("delta", table(0.1))
    made.make(options)
    write("delta", table(0.2))
    (lost,) = json.loads(made.manifest.read_text())["sources"]["events"]["files"]
    Path(lost["path"]).unlink()
    assert f"{lost['path']} cannot be read (No such file" in made.refused(options)
    other = {"origin": Delta(str(made.folder / "other"))}
    assert f"its table was {options['origin'].path}" in made.refused(other)


FRAMES: dict[str, Callable[[], Any]] = {
    "rows": lambda: LABELS,
    "pandas": lambda: pd.DataFrame(LABELS),
    "polars": lambda: pl.DataFrame(LABELS),
    "seconds": lambda: pa.table(
        {
            "k": pa.array([0, 1], pa.int16()),
            "event_timestamp": pa.array([AT.replace(tzinfo=None)] * 2, pa.timestamp("s")),
            "tag": pa.array(["a", None]).dictionary_encode(),
            "when": pa.array([1, None], pa.time32("s")),
        }
    ),
    "no rows": lambda: pa.Table.from_pylist(LABELS).slice(0, 0),
}


@pytest.mark.parametrize("name", FRAMES)
def test_labels_come_back_as_they_were(made: Made, write: Any, name: str) -> None:
    options = write("parquet", table(0.1, 0.2))
    told = made.make(options, FRAMES[name](), statuses=True, full_feature_names=True)
    assert made.again(options) == told["content_hash"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_labels_of_a_file_are_kept(made: Made, write: Any, tmp_path: Path, ending: str) -> None:
    options = write("parquet", table(0.1, 0.2))
    labels = tmp_path / f"labels.{ending}"
    frame = pd.DataFrame(
        {"k": [1, 2], "event_timestamp": ["2026-01-01 14:00"] * 2, "id": ["01"] * 2}
    )
    if ending == "csv":
        frame.to_csv(labels, index=False)
    else:
        frame.assign(event_timestamp=pd.to_datetime(frame["event_timestamp"])).to_parquet(labels)
    told = made.make(options, labels, timezone="Europe/Berlin")
    labels.unlink()
    assert made.again(options) == told["content_hash"]


def test_every_known_entity_is_asked_again(made: Made, write: Any) -> None:
    options = write("sqlite", table(0.1, 0.2, 0.3, 0.4))
    with made.open(options) as store:
        asked = store.get_historical_features(
            None, "service", at=[AT, AT - dt.timedelta(minutes=2)]
        )
        told = asked.to_csv(made.folder / "train.csv")
    made.manifest = made.folder / "train.csv.manifest.json"
    write("sqlite", table(5.0))
    assert made.again(options) == told["content_hash"]


def test_other_labels_definitions_and_manifests_are_refused(made: Made, write: Any) -> None:
    options = write("parquet", table(0.1, 0.2))
    made.make(options)
    kept = made.folder / "train.parquet.labels.arrow"
    labels = kept.read_bytes()
    said = made.refused(options, m=Count(window="2d"))
    assert "the repo and the registry have no version" in said
    kept.write_bytes(labels[:-9])
    assert "the labels of the training set cannot be read there" in made.refused(options)
    kept.unlink()
    assert "have to stay with it" in made.refused(options)
    made.make(options, LABELS[:2])
    kept.write_bytes(labels)
    assert "these are not the labels of the manifest" in made.refused(options)
    made.manifest.write_text("{}")
    assert "it is no manifest, or one of a release before 0.3" in made.refused(options)
    made.manifest.write_text("")
    assert "no manifest can be read there" in made.refused(options)


def test_an_applied_version_is_made_again_after_the_definitions_changed(
    made: Made, write: Any
) -> None:
    options = write("parquet", table(0.1, 0.2))
    with made.open(options) as store:
        store.apply()
    told = made.make(options)
    assert made.again(options, m=Count(window="2d")) == told["content_hash"]


def test_rows_that_are_others_name_what_differs(made: Made, write: Any) -> None:
    options = write("parquet", table(0.1, 0.2))
    made.make(options)
    told = json.loads(made.manifest.read_text())
    told["content_hash"], told["libraries"] = "0" * 64, {"duckdb": "1.0"}
    made.manifest.write_text(json.dumps(told))
    said = made.refused(options)
    assert "its rows are others, though the files of its sources are the same" in said
    assert "was {'duckdb': '1.0'}" in said
    told["columns"]["n"] = "0" * 64
    made.manifest.write_text(json.dumps(told))
    assert "its rows are others in n, though the files of its sources" in made.refused(options)
    del told["columns"]  # as one of an earlier release
    made.manifest.write_text(json.dumps(told))
    assert "its rows are others, though the files of its sources" in made.refused(options)


def test_a_manifest_and_labels_alone_make_it_again(made: Made, write: Any) -> None:
    options = write("parquet", table(0.1, 0.2))
    with made.open(options) as store:
        kept = store.get_historical_features(LABELS, "service")
        path = kept.save_manifest(made.manifest.parent / "alone")
        assert path.name == "alone.manifest.json"
        again = store.remake(path).manifest
        assert again["content_hash"] == kept.manifest["content_hash"]
        assert again["columns"] == kept.manifest["columns"]


def test_the_command_makes_it_again(
    make_repo: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
    from featurekit import Entity, EventSource, FeatureService, FeatureView
    from featurekit.aggregates import Count

    customer = Entity("customer", {"k": int})
    events = EventSource("events", path="data/events.parquet", schema={"k": int},
                         timestamp_field="at")
    view = FeatureView("view", entities=[customer], source=events,
                       features={"n": Count(window="1d")})
    service = FeatureService("service", features=[view])
    """
    folder = make_repo(module, {"events": table(0.1, 0.2)})
    monkeypatch.chdir(folder)
    asked = ["get-historical", "service", "--at", "2026-01-01T12:00:00Z", "-o", "train.csv"]
    assert main(asked) == 0
    capsys.readouterr()
    assert main(["remake", "train.csv.manifest.json", "-o", "again.csv"]) == 0
    assert "Made 2 rows again, the same as in train.csv.manifest.json." in capsys.readouterr().out
    assert (folder / "again.csv").read_bytes() == (folder / "train.csv").read_bytes()
    pq.write_table(table(0.1), folder / "data" / "events.parquet")
    assert main(["remake", "train.csv.manifest.json"]) == 2
    assert "events.parquet has another content (" in capsys.readouterr().err
