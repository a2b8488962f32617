"""A disk that is full, or a quota that is used up, is told by the file that could not be written;
nothing of the file is kept, and what was there before goes on."""

from __future__ import annotations

import datetime as dt
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurekit import FeatureStore
from featurekit.core.files import WRITING, write_whole
from featurekit.errors import FeaturekitError, WriteError
from featurekit.log.segments import read_segment, segments
from featurekit.offline.buckets import explaining_disk
from featurekit.offline.session import connect
from featurekit.online.store.redis import RedisStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

user = Entity("user", {"k": int})
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"k": int, "n": int},
                     timestamp_field="at", on_bad_row="quarantine")
clicked = FeatureView("clicked", entities=[user], source=clicks,
                      features={"clicks": Sum("n", window="9d")})
service = FeatureService("service", features=[clicked])
"""
NOW = dt.datetime.now(dt.UTC)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: a write up to there is short, and the next one
    fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def store(
    make_repo: Callable[..., Path], redis_url: str, redis_store: RedisStore
) -> Iterator[FeatureStore]:
    files = {"clicks": {"k": [1, 2], "n": [1, 1], "at": pa.array([NOW] * 2, pa.timestamp("us"))}}
    with FeatureStore(make_repo(MODULE, files), redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        opened.parts.audit.pushing("clicks")  # told before the disk is full
        yield opened


def rows(count: int) -> list[dict[str, Any]]:
    return [{"k": 1, "n": i * 12_345_678_901, "at": NOW} for i in range(count)]


def seen(store: FeatureStore, redis: RedisStore) -> tuple[Any, ...]:
    """The log's rows, the states, and every file of the state folder but the registry's own."""
    logged = [read_segment(path).num_rows for path in segments(store.state_dir, "clicks")]
    states = {k: redis.read([k])[0] for k in redis.keys(b"fk:tests:state")}
    files = {p for p in store.state_dir.rglob("*") if "registry" not in p.name and p.is_file()}
    assert not any(p.name.endswith(WRITING) for p in files)
    return logged, states, files, redis.announced(b"fk:tests:pushes:clicks")


@pytest.mark.parametrize("n", [200, 2_000], ids=["journal", "segment"])
def test_a_push_is_taken_whole_or_not_at_all(
    store: FeatureStore, redis_store: RedisStore, n: int
) -> None:
    before = seen(store, redis_store)
    with (
        at_most(1_024),
        pytest.raises(WriteError, match=r"log/clicks/\S+ cannot be written: ") as e,
    ):
        store.push("clicks", rows(n))
    assert isinstance(e.value, FeaturekitError)
    assert isinstance(e.value, OSError)
    assert seen(store, redis_store) == before
    store.push("clicks", rows(n))
    assert seen(store, redis_store)[0] == [n]


def test_a_journal_that_cannot_grow_keeps_what_it_has(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    store.push("clicks", rows(10))
    (path,) = segments(store.state_dir, "clicks")
    before, size = seen(store, redis_store), path.stat().st_size
    with at_most(size + 100), pytest.raises(WriteError, match=path.name):
        store.push("clicks", rows(200))
    assert path.stat().st_size == size
    assert seen(store, redis_store) == before
    store.push("clicks", rows(5))
    assert sum(seen(store, redis_store)[0]) == 15


@pytest.mark.parametrize("whole", [False, True], ids=["rows", "a table"])
def test_rows_that_cannot_be_set_aside_are_not_taken(
    store: FeatureStore, redis_store: RedisStore, whole: bool
) -> None:
    bad: Any = [row | {"n": None} for row in rows(300)]
    if whole:
        bad = pa.Table.from_pylist(bad)
    before = seen(store, redis_store)
    with at_most(1_024), pytest.raises(WriteError, match=r"quarantine/clicks\.pushed-0"):
        store.push("clicks", bad)
    assert seen(store, redis_store) == before
    assert store.push("clicks", bad).quarantined == 300


def test_a_registry_that_cannot_be_written_is_as_it_was(store: FeatureStore) -> None:
    path = store.path / "definitions.py"
    text = path.read_text()
    kept = store.registry.names("view")
    features = ", ".join(f'"x{i}": Sum("n", window="{i + 1}h")' for i in range(60))
    path.write_text(text.replace('{"clicks": ', f"{{{features}, " + '"clicks": '))
    with FeatureStore(store.path, redis_url=store.parts.redis_url) as changed:
        size = changed.registry.kept.path.stat().st_size
        with at_most(size), pytest.raises(WriteError, match=r"registry\.db cannot be written: "):
            changed.apply()
        assert changed.registry.names("view") == kept
        assert len(changed.registry.versions("view", "clicked")) == 1
        changed.apply()
        assert len(changed.registry.versions("view", "clicked")) == 2


def test_a_training_set_is_written_whole_or_not_at_all(store: FeatureStore, tmp_path: Path) -> None:
    labels = pa.table({"k": range(20_000), "event_timestamp": [NOW] * 20_000})
    made = store.get_historical_features(labels, "service")
    target = tmp_path / "out.parquet"
    with at_most(2_048), pytest.raises(WriteError, match=r"/out\.parquet cannot be written: "):
        made.to_parquet(target)
    assert list(tmp_path.glob("*out.parquet*")) == []
    target.write_bytes(b"before")
    with at_most(2_048), pytest.raises(WriteError):
        made.to_parquet(target)
    assert [p.read_bytes() for p in tmp_path.glob("*out.parquet*")] == [b"before"]
    made.to_parquet(target)
    assert len(list(tmp_path.glob("*out.parquet*"))) == 3  # its manifest and its labels, too


def test_what_is_spilled_and_does_not_fit_is_told(tmp_path: Path) -> None:
    con = connect(tmp_path, memory_limit="30MB")
    con.execute("SET threads = 1")
    sql = (
        "SELECT count(*) FROM (SELECT md5(i::VARCHAR) AS m, i FROM range(1000000) r(i) ORDER BY m)"
    )
    with (
        at_most(100_000),
        pytest.raises(WriteError, match=r"state folder: .*/spill-.*Could|state folder: .*spill-"),
        explaining_disk(tmp_path),
    ):
        con.execute(f"CREATE TABLE t AS {sql.replace('count(*)', '*')}")
    con.close()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_what_a_dead_process_had_spilled_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from featurekit.offline import session\n"
        "con = session.connect(Path(sys.argv[1]))\n"
        "spill = con.execute(\"SELECT current_setting('temp_directory')\").fetchall()[0][0]\n"
        "os.makedirs(spill); open(spill + '/block', 'w').close(); os._exit(0)\n"
    )

    subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=True, cwd=Path(__file__).parents[2]
    )
    (left,) = tmp_path.iterdir()
    living = tmp_path / left.name.replace(left.name.split("-")[-2], str(os.getpid()))
    living.mkdir()
    connect(tmp_path).close()
    assert list(tmp_path.iterdir()) == [living]


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk is made to be full")
def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=False
    )
    if made.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        write_whole(tmp_path / "file", b"before")
        with pytest.raises(
            WriteError, match=f"{tmp_path}/file cannot be written: the disk is full"
        ):
            write_whole(tmp_path / "file", bytes(200_000))
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"before")]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("at", ["write", "folder", "short"])
def test_a_push_that_was_taken_does_not_fail_for_the_count_of_pushes(
    store: FeatureStore, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The count is a guard. Who is told that a push failed pushes its rows again."""
    pwrite = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if not Path(f"/proc/self/fd/{file}").readlink().name.endswith(".pushed"):
            return pwrite(file, data, offset)
        if at == "short":
            return pwrite(file, data[: len(data) - 1], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.push("clicks", rows(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        if at == "folder":
            shutil.rmtree(store.state_dir / "marks")
            (store.state_dir / "marks").write_bytes(b"")
        for _ in range(9):  # the tenth has a digit more
            assert store.push("clicks", rows(1)).damaged == ()
    assert sum(seen(store, redis_store)[0]) == 10
    if at == "folder":
        (store.state_dir / "marks").unlink()
    # What was not noted is no damage for another process.
    with FeatureStore(store.path, redis_url=redis_store.url) as other:
        assert other.push("clicks", rows(1)).damaged == ()
        assert other.get_online_features("service", [{"k": 1}]).status["clicks"] == ["PRESENT"]
