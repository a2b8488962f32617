"""An engine makes a training set with the bits of this process, or it fails by name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import Here, Pool
from feature_repos import MakeRepo
from repos import DEFINITIONS, START, frame, made, write_repo

from featurekit.define import proven
from featurekit.define.repo import Repo, load_repo
from featurekit.errors import (
    ConfigError,
    DataError,
    DefinitionError,
    EngineError,
    FeaturekitError,
)
from featurekit.offline.engines import unit as unit_module
from featurekit.offline.engines.named import check_engine, engine_of
from featurekit.offline.engines.protocol import Engine
from featurekit.offline.engines.unit import Unit
from featurekit.online.store.memory import MemoryStore
from featurekit.parity.modes.fuzz.fuzz import Fuzzer
from featurekit.project import workers
from featurekit.store import FeatureStore
from tests.planted.catch import REPO

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=[ROOT / "feature_repo", REPO], ids=["shop", "everything"])
def whole(request: pytest.FixtureRequest) -> Repo:
    return load_repo(request.param)


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return write_repo(make_repo)


# --- the same bits --------------------------------------------------------------------------------


def test_an_engine_gives_what_online_gives(whole: Repo) -> None:
    compared = 0
    for service in whole.compiled_services.values():
        fuzzer = Fuzzer(service, whole.sources, 11, Here)
        for world in range(1):
            found = fuzzer.play(world, MemoryStore(), questions=300)
            assert [d.to_dict() for d in found.differences] == []
            compared += sum(found.compared.values())
    assert compared > 5_000


def test_a_training_set_of_an_engine_has_the_same_manifest(repo: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"buckets": 1}, {"buckets": 64}, {"known_at": START}]
    with FeatureStore(repo) as store:
        here, told = made(store, None)
        assert any(told["errors"]["transforms"].values())
        for given in options:
            here, told = made(store, None, **given)
            for engine in (Here(), "local"):
                there, same = made(store, engine, **given)
                assert there.equals(here)
                assert same["content_hash"] == told["content_hash"]
                assert same["errors"] == told["errors"]
                assert same["sources"] == told["sources"]
    assert not list((repo / ".featurekit").glob("e*change-*"))


def test_processes_of_their_own_read_the_sources_themselves(repo: Path) -> None:
    with FeatureStore(repo) as store:
        _, told = made(store, None)
        pool = Pool()
        try:
            _, same = made(store, pool)
        finally:
            pool.executor.shutdown()
    assert same["content_hash"] == told["content_hash"]


def test_the_time_zone_of_a_worker_changes_nothing(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureStore(repo) as store:
        _, told = made(store, None)
        monkeypatch.setenv("TZ", "Asia/Kathmandu")
        pool = Pool(1)
        try:
            _, same = made(store, pool)
        finally:
            pool.executor.shutdown()
    assert same["content_hash"] == told["content_hash"]


def test_a_frame_without_rows_has_the_columns_of_one_with_rows(repo: Path) -> None:
    with FeatureStore(repo) as store:
        tables = [
            store.get_historical_features(frame(0), "asked", engine=engine).to_arrow()
            for engine in (None, Here())
        ]
    assert tables[0].equals(tables[1])


def test_what_was_pushed_is_there(repo: Path) -> None:
    with FeatureStore(repo) as store:
        store.apply()
        at = START + dt.timedelta(days=5)
        store.push("clicks", [{"user": "a", "x": 0.3, "n": 1, "id": "pushed", "at": at}])
        now = dt.datetime.now(dt.UTC)
        rows = [{"user": "a", "event_timestamp": now, "amount": 1.0}]
        found = [
            store.get_historical_features(rows, "asked", statuses=True, engine=e).to_pylist()
            for e in (None, Here())
        ]
        assert found[0] == found[1]


# --- units that run twice, or never ---------------------------------------------------------------


@dataclasses.dataclass
class Changed:
    """An engine that does something else with the units or with what they give."""

    change: Callable[[Any, Sequence[bytes]], Iterator[bytes]]
    name: str = "changed"
    workers: int = 4

    def run(self, work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        return self.change(work, units)


def test_a_unit_that_ran_twice_counts_once(repo: Path) -> None:
    def twice(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        for unit in units:
            work(unit)  # a copy that was slower: its result is never asked for
        for unit in units:
            yield work(unit)
            yield work(unit)

    with FeatureStore(repo) as store:
        _, told = made(store, None)
        _, same = made(store, Changed(twice))
    assert same["content_hash"] == told["content_hash"]


def test_a_lost_bucket_is_told(repo: Path) -> None:
    with (
        FeatureStore(repo) as store,
        pytest.raises(EngineError, match="gave nothing back for 1 of"),
    ):
        made(store, Changed(lambda work, units: map(work, units[1:])))


def edited(change: Callable[[Unit], Unit]) -> Changed:
    """An engine whose workers take each unit for another one."""

    def run(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        return (work(pickle.dumps(change(pickle.loads(unit)))) for unit in units)

    return Changed(run)


def test_rows_that_are_missing_or_doubled_are_told(repo: Path) -> None:
    def other(unit: Unit) -> Unit:
        with pa.memory_map(str(unit.labels)) as file:
            rows = pa.ipc.open_file(file).read_all()
        path = unit.labels.with_suffix(".other")
        with pa.ipc.new_file(str(path), rows.schema) as writer:
            writer.write_table(rows.slice(1))
        return dataclasses.replace(unit, labels=path)

    with (
        FeatureStore(repo) as store,
        pytest.raises(EngineError, match="labels, and came back with"),
    ):
        made(store, edited(other))


def test_a_worker_that_hashes_keys_otherwise_is_told(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = unit_module.bucket_sql
    monkeypatch.setattr(
        unit_module,
        "bucket_sql",
        lambda view, buckets: f"(({true(view, buckets)} + 1) % {buckets})",
    )
    with FeatureStore(repo) as store, pytest.raises(EngineError, match="hashes the keys"):
        made(store, Here())


@pytest.mark.parametrize("library", ["duckdb", "arrow", "tzdata", "featurekit"])
def test_another_version_on_a_worker_is_told(
    repo: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    def older(unit: Unit) -> Unit:
        return dataclasses.replace(unit, versions={**unit.versions, library: "0.9"})

    with FeatureStore(repo) as store, pytest.raises(EngineError, match=f"{library} .*, not 0.9"):
        made(store, edited(older))


def test_files_that_a_worker_finds_changed_are_told(repo: Path) -> None:
    def later(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        pq.write_table(
            pq.read_table(repo / "data" / "a.parquet").slice(1), repo / "data" / "a.parquet"
        )
        return map(work, units)

    with (
        FeatureStore(repo) as store,
        pytest.raises(EngineError, match="'clicks': a worker reads other rows"),
    ):
        made(store, Changed(later))


def test_a_push_meanwhile_changes_nothing_or_is_told(repo: Path) -> None:
    def pushing(created: dt.datetime | None) -> Changed:
        def run(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
            yield work(units[0])
            row = {"user": "a", "x": 0.3, "n": 1, "id": "late", "at": START}
            with FeatureStore(repo) as other:
                other.push("clicks", [{**row, "created": created} if created else row])
            yield from map(work, units[1:])

        return Changed(run)

    with FeatureStore(repo) as store:
        store.apply()
        _, told = made(store, None)
        _, same = made(store, pushing(None))
        assert same["content_hash"] == told["content_hash"]
        with pytest.raises(EngineError, match="'clicks': a worker reads other rows"):
            made(store, pushing(START + dt.timedelta(hours=1)))


def test_who_is_forgotten_meanwhile_is_told(repo: Path) -> None:
    def run(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        yield work(units[0])
        with FeatureStore(repo) as other:
            other.forget("user", {"user": "a"})
        yield from map(work, units[1:])

    with FeatureStore(repo) as store:
        store.apply()
        with pytest.raises(EngineError, match="'clicks': a worker reads other rows"):
            made(store, Changed(run))


@pytest.mark.parametrize("edit", ["null_values=['1.5']", "quote=None", "encoding='latin-1'"])
def test_definitions_that_read_the_same_bytes_otherwise_are_told(
    make_repo: MakeRepo, edit: str
) -> None:
    folder = make_repo(DEFINITIONS.replace("*.parquet", "*.csv"), {})
    lines = ["user,x,n,id,at,created"]
    at = START.isoformat()
    lines += [f"{user},1.5,{n},i{user}{n},{at},{at}" for user in "abc" for n in range(3)]
    (folder / "data" / "a.csv").write_text("\n".join(lines))

    def later(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        path = folder / "definitions.py"
        path.write_text(path.read_text().replace('event_id="id",', f'event_id="id", {edit},'))
        return map(work, units)

    with (
        FeatureStore(folder) as store,
        pytest.raises(EngineError, match="defines its sources otherwise"),
    ):
        made(store, Changed(later))


def test_a_worker_with_another_state_folder_is_told(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = repo / "feature_store.yaml"
    settings.write_text(settings.read_text() + "featurekit: {state_dir: '${STATE_OF_TEST}'}\n")
    monkeypatch.setenv("STATE_OF_TEST", "here")

    def elsewhere(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        monkeypatch.setenv("STATE_OF_TEST", "there")
        monkeypatch.setattr(workers, "_projects", {})  # as in a process of its own
        return map(work, units)

    with FeatureStore(repo) as store, pytest.raises(EngineError, match="another state folder"):
        made(store, Changed(elsewhere))


def test_a_worker_that_lives_on_reads_settings_that_were_changed(repo: Path) -> None:
    with FeatureStore(repo) as store:
        _, told = made(store, Here())
    settings = repo / "feature_store.yaml"
    settings.write_text(settings.read_text() + "featurekit: {memory_limit: 1GB}\n")
    with FeatureStore(repo) as store:
        _, same = made(store, Here())
    assert same["content_hash"] == told["content_hash"]


def test_other_definitions_on_a_worker_are_told(repo: Path) -> None:
    def later(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        path = repo / "definitions.py"
        path.write_text(path.read_text().replace('created_timestamp_column="created", ', ""))
        return map(work, units)

    with (
        FeatureStore(repo) as store,
        pytest.raises(EngineError, match="defines its sources otherwise"),
    ):
        made(store, Changed(later))


def test_a_sum_that_a_worker_made_otherwise_differs_from_online(
    whole: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results in which a float has one bit more are found by the comparison with online."""
    true = unit_module.make_values
    found = 0

    def floats(view: Any) -> list[str]:
        of_view = enumerate(view.features) if view.kind == "window" else ()
        return [f"f{i}" for i, f in of_view if str(f.type).startswith("float")]

    def inexact(con: Any, view: Any, *args: Any, **options: Any) -> Any:
        result = true(con, view, *args, **options)
        if not (names := floats(view)):
            return result
        off = ", ".join(f"{n} + {n} * 2.3e-16 AS {n}" for n in names)
        return dataclasses.replace(result, sql=f"(SELECT * REPLACE ({off}) FROM {result.sql})")

    monkeypatch.setattr(unit_module, "make_values", inexact)
    services = whole.compiled_services.values()
    service = next(one for one in services if any(map(floats, one.views)))
    for world in range(2):
        played = Fuzzer(service, whole.sources, 11, Here).play(world, MemoryStore(), questions=300)
        found += len(played.differences)
    assert found


# --- what goes wrong ------------------------------------------------------------------------------


class Odd(FeaturekitError):
    """An error that no pickle brings back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "told"),
    [(DataError("no room"), DataError("no room")), (Odd(1, 2), EngineError("Odd: 1 and 2"))],
)
def test_an_error_of_a_worker_is_raised_as_it_is(
    repo: Path, monkeypatch: pytest.MonkeyPatch, error: FeaturekitError, told: FeaturekitError
) -> None:
    def failing(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(unit_module, "make_values", failing)
    with FeatureStore(repo) as store, pytest.raises(FeaturekitError) as found:
        made(store, Here())
    assert (type(found.value), str(found.value)) == (type(told), str(told))


def killing(work: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return work


def test_a_worker_that_dies_is_an_error_and_leaves_nothing(repo: Path) -> None:
    pool = Pool()
    dying = Changed(lambda work, units: pool.run(killing, units))
    with FeatureStore(repo) as store:
        with pytest.raises(EngineError):
            made(store, dying)
        _, told = made(store, None)
    assert told["rows"] == 400
    assert not list((repo / ".featurekit").glob("e*change-*"))


def cut(unit: Unit) -> Unit:
    unit.labels.write_bytes(unit.labels.read_bytes()[:-9])
    return unit


def gone(unit: Unit) -> Unit:
    unit.labels.unlink()
    return unit


@pytest.mark.parametrize("change", [cut, gone])
def test_files_that_are_not_shared_are_told(repo: Path, change: Callable[[Unit], Unit]) -> None:
    with FeatureStore(repo) as store, pytest.raises(EngineError, match="share"):
        made(store, edited(change))


@pytest.mark.parametrize("gives", [b"", b"garbage", None])
def test_what_is_no_result_is_told(repo: Path, gives: Any) -> None:
    with FeatureStore(repo) as store, pytest.raises(EngineError, match="engine changed: "):
        made(store, Changed(lambda work, units: iter([gives])))


@pytest.mark.parametrize("workers", [None, 0, -1, 2.5, "3"])
def test_an_engine_says_how_many_workers_it_has(repo: Path, workers: Any) -> None:
    engine = Changed(map, workers=workers)
    with FeatureStore(repo) as store, pytest.raises(EngineError, match="workers is how many"):
        made(store, engine)


def test_an_engine_that_is_down_is_no_difference(repo: Path) -> None:
    def down(work: Any, units: Sequence[bytes]) -> Iterator[bytes]:
        raise EngineError("nobody answers")

    with FeatureStore(repo) as store:
        for mode in ("fuzz", "history"):
            with pytest.raises(EngineError, match="nobody answers"):
                store.check_parity("asked", mode=mode, values=500, engine=Changed(down))
        for mode in ("sample", "replay"):
            with pytest.raises(DefinitionError, match="engine= is for"):
                store.check_parity("asked", mode=mode, engine=Here())


@pytest.mark.parametrize("given", ["sparc", "http://x", "", 3, object(), Here])
def test_what_is_no_engine_is_refused(repo: Path, given: Any) -> None:
    with FeatureStore(repo) as store, pytest.raises(ConfigError, match="engine"):
        made(store, given)


def test_settings_name_an_engine(repo: Path) -> None:
    settings = repo / "feature_store.yaml"
    written = settings.read_text()
    with FeatureStore(repo) as store:
        _, told = made(store, None)
    settings.write_text(written + "featurekit: {engine: local}\n")
    with FeatureStore(repo) as store:
        assert made(store, None)[1]["content_hash"] == told["content_hash"]
    settings.write_text(written + "featurekit: {engine: sparc}\n")
    with pytest.raises(ConfigError, match=r"engine: 'sparc' is none; write local, ray"):
        FeatureStore(repo)


def test_a_repo_without_a_folder_has_no_workers(repo: Path) -> None:
    definitions = list(load_repo(repo).services.values())
    with (
        FeatureStore(definitions=definitions) as store,
        pytest.raises(ConfigError, match="its workers read the definitions"),
    ):
        made(store, Here())


def test_an_object_is_an_engine_by_what_it_has() -> None:
    engine = Here()
    assert isinstance(engine, Engine)
    assert engine_of(engine) is engine
    assert engine_of(None) is engine_of("local") is None
    check_engine("ray")
    check_engine("spark://host:7077")
    assert issubclass(EngineError, FeaturekitError)
    assert proven.library_versions().items() <= unit_module.versions().items()
