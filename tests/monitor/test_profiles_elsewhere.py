"""Profiles as objects of S3: the bytes of those in a folder, whoever else counts meanwhile.

The server has the real API of S3, on loopback.
"""

from __future__ import annotations

import datetime as dt
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_server
from profiled import CONFIG, DAY, START, block, instant, log
from profiled import repo as made_repo
from s3_server import BUCKET, SECRET, S3Server

from featurekit.cli import main
from featurekit.errors import ConfigError, DataError
from featurekit.log import profiles
from featurekit.log.profile_places import Overtaken, ProfileFolder, ProfileObjects, ProfilePlace
from featurekit.log.profiles import Reading, together
from featurekit.monitor.profiles import keep
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="s3fs is not installed (locks/lakes.txt): nothing reads S3")
    pytest.importorskip("moto", reason="moto is not installed (locks/lakes.txt): no server of S3")
    with S3Server(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def url(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A folder of S3 of the test's own."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in s3_server.environment(server).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}/profiles"


def config(url: str, *changes: tuple[str, str]) -> str:
    made = CONFIG.replace("keep: 36500d", f'keep: 36500d, folder: "{url}"')
    for before, after in changes:
        made = made.replace(before, after)
    return made


@pytest.fixture
def make(url: str, tmp_path: Path) -> Callable[[str], Path]:
    """Makes repos whose profiles lie in the same folder of S3, as on machines of their own."""

    def made(name: str, *changes: tuple[str, str]) -> Path:
        (tmp_path / name).mkdir()
        found = made_repo(tmp_path / name, config(url, *changes))
        first = tmp_path / "one" / ".featurekit" / "forget.key"
        if name != "one" and first.exists():
            shutil.copy2(first, found / ".featurekit" / "forget.key")
        return found

    return made


def whole(place: ProfilePlace) -> Reading:
    return together(profiles.read(place).values(), DAY)


def objects(url: str, repo: Path) -> ProfileObjects:
    return ProfileObjects(url, repo / ".featurekit")


def same(url: str, repo: Path, tmp_path: Path, blocks: list[Any]) -> None:
    """What S3 has is what a folder has of the same rows."""
    other = tmp_path / "beside"
    other.mkdir()
    made = made_repo(other)
    shutil.copy2(repo / ".featurekit" / "forget.key", other / ".featurekit" / "forget.key")
    for number, one in enumerate(blocks):
        log(made, f"{number:02d}", one)
    with FeatureStore(made) as store:
        store.profile()
    in_folder = whole(ProfileFolder(other / ".featurekit")).profiles
    found = whole(objects(url, repo)).profiles
    assert Reading(DAY, found).encoded() == Reading(DAY, in_folder).encoded()


def test_they_have_the_bytes_of_those_in_a_folder(url, make, tmp_path, monkeypatch):
    """Each row counts once over many readings, and readings become one."""
    one = make("one")
    blocks = [block(random.Random(seed), 100) for seed in range(12)]
    monkeypatch.setattr(keep, "MOST_ROWS", 100)
    monkeypatch.setattr(keep, "MOST_FILES", 3)
    with FeatureStore(one) as store:
        for number, each in enumerate(blocks):
            log(one, f"{number:02d}", each)
            if number % 3 == 2:
                assert store.profile().rows == 300
        assert store.profile() == keep.Profiled(0, 0)
        assert len(objects(url, one).names()) <= 3
        same(url, one, tmp_path, blocks)
        shown = store.profile_of("s", window="3d", end=instant(START + 3 * DAY))
        assert sum(shown[1][what] for what in ("present", "null")) == 1_200
        asked = {"window": "1d", "end": instant(START + 3 * DAY)}
        of_log = store.drift("s", "2d", **asked).to_dict()
        assert store.drift("s", "2d", profiles=True, **asked).to_dict() == of_log
    assert not [*(one / ".featurekit" / "profiles").glob("*.profile")]


def test_two_processes_that_count_at_once_lose_and_double_nothing(url, make, tmp_path):
    """Each has rows of its own, and adds to the same profiles again and again."""
    one = make("one")
    log(one, "first", block(random.Random(99), 10))
    with FeatureStore(one) as store:
        store.profile()
    two = make("two")
    blocks = [block(random.Random(seed), 60) for seed in range(24)]
    for number, each in enumerate(blocks):
        log((one, two)[number % 2], f"{number:02d}", each)
    code = (
        "import sys\nfrom featurekit import FeatureStore\n"
        "from featurekit.monitor.profiles import keep\n"
        "keep.MOST_ROWS, keep.MOST_FILES, keep.MOST_OVERTAKEN = 60, 2, 10_000\n"
        "with FeatureStore(sys.argv[1]) as store: print(store.profile().rows)"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for folder in (one, two)
    ]  # fmt: skip
    for process in many:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out == "720\n"
    same(url, one, tmp_path, [block(random.Random(99), 10), *blocks])


def test_who_is_overtaken_keeps_nothing_and_counts_again(url, make, tmp_path, monkeypatch):
    one = make("one")
    blocks = [block(random.Random(seed), 50) for seed in range(2)]
    for number, each in enumerate(blocks):
        log(one, f"{number:02d}", each)
    add, before = ProfileObjects.add, []

    def overtaken(self: ProfileObjects, data: bytes) -> None:
        if not before:  # another process has counted all this, meanwhile
            before.append(data)
            other = objects(url, one)
            other.names()
            add(other, data)
        add(self, data)

    monkeypatch.setattr(ProfileObjects, "add", overtaken)
    with FeatureStore(one) as store:
        assert store.profile() == keep.Profiled(0, 0)
        same(url, one, tmp_path, blocks)
        monkeypatch.setattr(keep, "MOST_OVERTAKEN", 0)
        log(one, "more", block(random.Random(7), 50))
        before.clear()
        with pytest.raises(Overtaken, match="another process added to the profiles in s3://"):
            store.profile()


def test_what_was_added_too_late_is_not_read(url, make):
    """A process that slept while others made one of all finds its number free again."""
    one = make("one")
    log(one, "0", block(random.Random(0), 50))
    with FeatureStore(one) as store:
        store.profile()
    slept = objects(url, one)
    (data,) = [slept.get(name) for name in slept.names()]
    for _ in range(3):
        profiles.compact(objects(url, one), DAY, since=0)
    slept.add(data)
    assert len(objects(url, one).names()) == 2
    assert sum(part["rows"] for part in whole(objects(url, one)).profiles["s"].values()) == 50


def test_files_of_another_machine_count_once(url, make):
    """Machines name their folders alike, as containers do; a file that is not here may be there."""
    one = make("one")
    log(one, f"{START:020d}-s", block(random.Random(0), 50))
    with FeatureStore(one) as store:
        store.profile()
        for path in (one / ".featurekit" / "served").iterdir():
            path.rename(one / path.name)
        profiles.compact(objects(url, one), DAY, since=START - DAY)
        for path in one.glob("*.parquet"):
            path.rename(one / ".featurekit" / "served" / path.name)
        assert store.profile().rows == 0
        profiles.compact(objects(url, one), DAY, since=START + 3 * DAY)
        assert whole(objects(url, one)).taken == {str(one / ".featurekit" / "served"): []}


def test_forgetting_takes_out_what_few_entities_have(url, make, capsys):
    one = make("one")
    made = block(random.Random(5), 600, days=1)
    made.values[2][0] = "the words of one person"
    log(one, "0", made)
    with scratch_redis() as redis:
        given = ["--repo", str(one), "--redis-url", redis]
        at = pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)])
        rows = pa.table({"k": ["k1"], "x": [1.0], "n": [1], "word": ["a"], "ts": at})
        pq.write_table(rows, one / "visits.parquet")
        assert main([*given, "apply"]) == 0
        assert main([*given, "monitor", "profile"]) == 0
        assert "the words of one person" in str(whole(objects(url, one)).profiles)
        assert main([*given, "forget", "k", "--key", "k=k1"]) == 0
    found = objects(url, one)
    assert len(found.names()) == 1
    assert "the words of one person" not in str(whole(found).profiles)
    words = whole(found).profiles["s"][START]["columns"]["v__word"]["str"]["values"]
    assert {'"a"', '"b"'} <= words.keys()
    capsys.readouterr()


def test_another_secret_is_refused(url, make):
    one = make("one")
    with FeatureStore(one) as store:
        store.profile()
    two = make("two")
    (two / ".featurekit" / "forget.key").unlink()
    log(two, "0", block(random.Random(0), 50))
    with FeatureStore(two) as store, pytest.raises(DataError, match=r"another forget\.key than"):
        store.profile()
    assert objects(url, one).names() == []


def test_a_store_that_writes_over_what_is_there_is_refused(url, make, monkeypatch):
    import s3fs

    put = s3fs.S3FileSystem._pipe_file

    async def over(self: Any, path: str, data: bytes, mode: str = "", **more: Any) -> Any:
        return await put(self, path, data, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", over)
    with FeatureStore(make("one")) as store, pytest.raises(ConfigError, match="writes over an obj"):
        store.profile()


def test_a_damaged_object_is_named(server, url, make):
    one = make("one")
    log(one, "0", block(random.Random(0), 50))
    with FeatureStore(one) as store:
        store.profile()
        (name,) = objects(url, one).names()
        server.put(f"{url.removeprefix(f's3://{BUCKET}/')}/{name}", b"half")
        with pytest.raises(DataError, match=rf"s3://\S+/{name} cannot be read"):
            store.profile()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (f"s3://{BUCKET}/", "s3://nowhere/", "there is no such bucket"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "cannot be written"),
    ],
)
def test_a_store_that_cannot_be_asked_is_told(make, monkeypatch, capsys, before, after, said):
    if before.startswith("AWS"):
        monkeypatch.setenv(before, after)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    one = make("one", *([(before, after)] if not before.startswith("AWS") else []))
    log(one, "0", block(random.Random(0), 50))
    assert main(["--repo", str(one), "monitor", "profile"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "s3://" in error
    assert SECRET not in error
    assert "Traceback" not in error


@pytest.mark.parametrize("folder", ["gs://b/x", "profiles", "s3://b", "s3://u:p@b/x", "s3://b/*"])
def test_what_is_no_folder_of_s3_is_refused(tmp_path, capsys, folder):
    made = made_repo(tmp_path, config(folder))
    assert main(["--repo", str(made), "monitor", "profile"]) == 2
    error = capsys.readouterr().err
    assert "featurekit.monitoring.profiles.folder" in error
    assert "s3://bucket/profiles" in error
    assert "u:p@" not in error
