"""A Delta Lake table in S3 is read as one of this machine is, at the version that is asked for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from s3_server import BUCKET, KEY, SECRET, S3Server

from featurekit import Commit, Delta, Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Count, Last, Sum
from featurekit.errors import DefinitionError, SourceError

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
LABELS = [{"k": k, "event_timestamp": AT} for k in range(4)]


def table(*values: float) -> pa.Table:
    at = [AT - dt.timedelta(minutes=n) for n in range(len(values))]
    columns = {"k": [n % 3 for n in range(len(values))], "x": pa.array(values, pa.float64())}
    return pa.table({**columns, "at": pa.array(at, pa.timestamp("us", "UTC"))})


class Lake:
    """A table of this machine, and the same in S3."""

    def __init__(self, s3: S3Server, folder: Path) -> None:
        self.s3, self.folder, self.key = s3, folder / "lake", f"{folder.name}/lake"
        self.url = f"s3://{BUCKET}/{self.key}"

    def write(self, rows: pa.Table, **how: Any) -> None:
        from deltalake import write_deltalake

        write_deltalake(str(self.folder), rows, **how)
        for path in self.folder.rglob("*"):
            if path.is_file():
                self.s3.put(f"{self.key}/{path.relative_to(self.folder)}", path.read_bytes())

    def fetched(self) -> int:
        """How many files of rows were asked for so far."""
        return sum(self.key in one and ".parquet" in one for one in self.s3.asked())


@pytest.fixture
def lake(s3: S3Server, tmp_path: Path) -> Lake:
    made = Lake(s3, tmp_path)
    made.write(table(0.5, float("nan"), -0.0, 4.0))
    return made


def service(origin: Delta, **options: Any) -> FeatureService:
    source = EventSource("events", origin=origin, schema={"k": int, "x": float},
                         timestamp_field="at", **options)  # fmt: skip
    features = {"n": Count(window="1d"), "x": Sum("x", window="1d"), "l": Last("x", window="1d")}
    entity = Entity("e", {"k": int})
    view = FeatureView("view", entities=[entity], source=source, features=features)
    return FeatureService("service", features=[view])


def opened(state: Path, origin: Delta, **options: Any) -> FeatureStore:
    return FeatureStore(definitions=[service(origin, **options)], state_folder=state)


def hash_of(state: Path, origin: Delta) -> str:
    with opened(state, origin) as store:
        training = store.get_historical_features(LABELS, "service")
        training.to_arrow()
        found: str = training.manifest["content_hash"]
    return found


def test_it_has_the_rows_of_one_of_this_machine_at_each_version(lake: Lake, tmp_path: Path) -> None:
    lake.write(table(7.0, 8.0), mode="append")
    lake.write(table(9.0), mode="overwrite")
    found = []
    for version in (0, 1, 2, None):
        here = hash_of(tmp_path / "here", Delta(str(lake.folder), version=version))
        there = hash_of(tmp_path / "there", Delta(lake.url, version=version))
        assert there == here
        found.append(there)
    assert len({*found}) == 3
    with pytest.raises(SourceError, match="no such version; the newest one is 2"):
        hash_of(tmp_path / "there", Delta(lake.url, version=3))


def test_partitions_are_columns(s3: S3Server, tmp_path: Path) -> None:
    made = Lake(s3, tmp_path)
    made.write(table(0.5, 1.5, 2.5), partition_by=["k"])
    here = hash_of(tmp_path / "here", Delta(str(made.folder)))
    assert hash_of(tmp_path / "there", Delta(made.url)) == here


def test_what_is_unchanged_is_not_fetched_again(lake: Lake, tmp_path: Path) -> None:
    first = hash_of(tmp_path / "state", Delta(lake.url))
    asked = lake.fetched()
    assert asked > 0
    assert hash_of(tmp_path / "state", Delta(lake.url)) == first
    assert lake.fetched() == asked
    lake.write(table(7.0), mode="append")
    assert hash_of(tmp_path / "state", Delta(lake.url)) != first
    assert lake.fetched() > asked


def test_a_training_set_is_made_again_after_the_table_moved_on(lake: Lake, tmp_path: Path) -> None:
    out = tmp_path / "train.parquet"
    with opened(tmp_path / "state", Delta(lake.url)) as store:
        made = store.get_historical_features(LABELS, "service").to_parquet(out)
        assert made["sources"]["events"]["files"][0]["version"] == 0
        lake.write(table(7.0), mode="overwrite")
        again = store.remake(f"{out}.manifest.json")
        again.to_arrow()
        assert again.manifest["content_hash"] == made["content_hash"]


def test_states_are_filled_from_it(lake: Lake, tmp_path: Path) -> None:
    answers = []
    for origin in (Delta(lake.url), Delta(str(lake.folder))):
        with opened(tmp_path / f"state{len(answers)}", origin) as store:
            store.apply()
            store.materialize()
            found = store.get_online_features("service", [{"k": k} for k in range(4)], AT)
            answers.append(repr(found.to_pylist()))
    assert answers[0] == answers[1]


def test_what_cannot_be_read_is_told_without_credentials(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Delta.*s3://shop/none.*cannot be read") as error:
        hash_of(tmp_path / "state", Delta(f"s3://{BUCKET}/none"))
    assert SECRET not in str(error.value)
    with (
        opened(tmp_path / "state", Delta(lake.url), arrives=Commit()) as store,
        pytest.raises(SourceError, match="no commit is told of a row"),
    ):
        store.get_historical_features(LABELS, "service").to_arrow()


def test_no_right_and_no_server_are_told_apart(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.s3.check_credentials(True)
    try:
        with pytest.raises(SourceError, match=r"cannot be read \(.*(403|Forbidden)") as error:
            hash_of(tmp_path / "state", Delta(lake.url))
    finally:
        lake.s3.check_credentials(False)
    assert KEY not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match="error sending request") as gone:
        hash_of(tmp_path / "state", Delta(lake.url))
    assert "\x1b" not in str(gone.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("gs://lake/orders", "gs://… is not read: the table is in a folder of this machine or in"),
        ("s3://key:secret@lake/orders", "a bucket and a folder alone"),
        ("s3://lake/orders?versionId=1", "a bucket and a folder alone"),
    ],
)
def test_other_places_are_refused(path: str, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as error:
        Delta(path)
    assert "secret" not in str(error.value)
