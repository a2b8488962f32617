"""Kept profiles are what the rows themselves give, whatever the order, the number of readings, and
a crash between them."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from profiled import CONFIG, DAY, HEAD, OUTPUTS, START, block, instant, log, told
from profiled import repo as made_repo
from watching import wait_for

from featurekit.cli import main
from featurekit.core import pace
from featurekit.core.status import FORGOTTEN
from featurekit.core.types import INT
from featurekit.errors import ArgumentError, ConfigError, DataError
from featurekit.log import profiles
from featurekit.log.profile_places import ProfileFolder
from featurekit.log.profiles import Reading, merged, together
from featurekit.log.served.block import Gathered, ServedBlock, encode
from featurekit.monitor.profiles import keep
from featurekit.monitor.profiles.counts import Profiler
from featurekit.monitor.profiles.kept import summary
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore


def test_neither_order_nor_grouping_leaves_a_trace():
    """Each way in which workers may share the rows gives the same bytes."""
    blocks = [block(random.Random(seed), 400) for seed in range(4)]
    whole = told(*blocks).encoded()
    for order in itertools.permutations(blocks):
        for cut in (1, 2, 3):
            parts = [told(*order[:cut]), told(*order[cut:])]
            assert together(parts, DAY).encoded() == whole
            assert together(parts[::-1], DAY).encoded() == whole
    rows = [one.some([i]) for one in blocks[:1] for i in range(60)]
    assert together(map(told, rows), DAY).encoded() == told(blocks[0].some(range(60))).encoded()


def test_extremes_sums_and_counts_are_exact():
    one = block(random.Random(9), 3_000, days=1)
    (profile,) = told(one).profiles["s"].values()
    x = [v for v in one.values[0] if v is not None]
    finite = [v for v in x if math.isfinite(v)]
    column = profile["columns"]["v__x"]["float"]
    assert Fraction(column["sum"], 2**1074) == sum(map(Fraction, finite))
    assert (column["least"], column["greatest"]) == (min(finite), math.inf)
    assert (column["present"], column["null"]) == (len(x), 3_000 - len(x))
    n = profile["columns"]["v__n"]["int"]
    assert (n["sum"], n["least"], n["greatest"]) == (
        sum(one.values[1]), min(one.values[1]), max(one.values[1]),
    )  # fmt: skip
    assert n["statuses"]["ERROR"] == one.statuses[1].count("ERROR")
    assert n["values"] is None
    assert profile["columns"]["v__word"]["str"]["values"]['"a"'][0] == one.values[2].count("a")


def test_a_sketch_tells_about_how_many_distinct_values_there_are():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        made = block(random.Random(seed), 20_000, days=1)
        made.values[0][:] = rng.normal(size=20_000).tolist()
        (profile,) = told(made).profiles["s"].values()
        from featurekit.monitor.profiles.kept import KeptWindow

        shown = {one["feature"]: one for one in summary(KeptWindow(0, 1, profile))}
        assert abs(shown["v__x"]["distinct"] / 20_000 - 1) < 0.07
        assert shown["v__x"]["mean"] == float(sum(map(Fraction, made.values[0])) / 20_000)
        exact = np.quantile(made.values[0], [0.25, 0.75], method="lower")
        assert abs(shown["v__x"]["q25"] / exact[0] - 1) <= 1 / 256
        assert [value for value, _ in shown["v__word"]["top"]][:2] in (["a", "b"], ["b", "a"])


# --- kept in a folder -----------------------------------------------------------------------------


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return made_repo(tmp_path)


def place(repo: Path) -> ProfileFolder:
    return ProfileFolder(repo / ".featurekit")


def kept(repo: Path) -> Any:
    return together(profiles.read(place(repo)).values(), DAY).profiles


def test_each_row_counts_once_whatever_was_read_before(repo, monkeypatch):
    blocks = [block(random.Random(seed), 300) for seed in range(12)]
    monkeypatch.setattr(keep, "MOST_ROWS", 500)
    with FeatureStore(repo) as store:
        for i, one in reversed([*enumerate(blocks)]):  # a later file may have the earlier name
            log(repo, f"{i:02d}", one)
            if i % 3 == 0:
                assert store.profile().rows == 900
        assert store.profile() == keep.Profiled(0, 0)
    one = kept(repo)
    (repo / ".featurekit" / "whole").mkdir()
    with FeatureStore(repo) as store:
        secret = profiles_secret(repo)
        made = Profiler(DAY, {"s": {"v": ("k",)}})
        for each in blocks:
            made.take(each)
    assert Reading(DAY, one).encoded() == Reading(DAY, made.told(secret)).encoded()


def profiles_secret(repo: Path) -> bytes:
    from featurekit.log.tombstones import make_secret

    return make_secret(repo / ".featurekit").value


def test_files_of_a_long_log_become_one_while_it_is_read(repo, monkeypatch):
    """So what is read together at the end does not grow with the log."""
    blocks = [block(random.Random(seed), 300) for seed in range(12)]
    for number, made in enumerate(blocks):
        log(repo, f"{number:02d}", made)
    with FeatureStore(repo) as store:
        store.profile()
    at_once = kept(repo)
    folder = place(repo).folder
    for path in folder.glob("*.profile"):
        path.unlink()
    most = []

    def counted(self: ProfileFolder, data: bytes) -> None:
        add(self, data)
        most.append(len([*folder.glob("*.profile")]))

    add = ProfileFolder.add
    monkeypatch.setattr(ProfileFolder, "add", counted)
    monkeypatch.setattr(keep, "MOST_ROWS", 300)
    monkeypatch.setattr(keep, "MOST_FILES", 2)
    with FeatureStore(repo) as store:
        assert store.profile().files == 12
    assert (len(most), max(most)) == (17, 4)  # of which five made one of three
    assert kept(repo) == at_once


def test_a_crash_while_files_become_one_counts_nothing_twice(repo, monkeypatch):
    with FeatureStore(repo) as store:
        for seed in range(3):
            log(repo, str(seed), block(random.Random(seed), 200))
            store.profile()
        before = Reading(DAY, kept(repo)).encoded()

        def crash(self: Path, missing_ok: bool = False) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(keep, "MOST_FILES", 1)
        with monkeypatch.context() as broken:
            broken.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                store.profile()
        folder = repo / ".featurekit" / "profiles"
        assert len([*folder.glob("*.profile")]) == 4
        assert Reading(DAY, kept(repo)).encoded() == before
        store.profile()
        log(repo, "3", block(random.Random(3), 200))
        store.profile()
        assert len([*folder.glob("*.profile")]) == 1
        assert sum(one["rows"] for one in kept(repo)["s"].values()) == 800


def test_drift_of_profiles_is_that_of_the_log(repo):
    for seed in range(4):
        log(repo, str(seed), block(random.Random(seed), 900, days=4, shift=seed / 4))
    with FeatureStore(repo) as store:
        store.profile()
        end = instant(START + 4 * DAY)
        for window, reference in (("1d", "3d"), ("2d", "2d")):
            asked = {"window": window, "end": end}
            one = store.drift("s", reference, **asked)
            two = store.drift("s", reference, profiles=True, **asked)
            assert json.dumps(one.to_dict()) == json.dumps(two.to_dict())
        late = end + dt.timedelta(hours=5)
        assert store.drift("s", "3d", profiles=True, end=late).end == end
        with pytest.raises(ArgumentError, match="kept by parts of 86,400 s, found a window of 3,6"):
            store.drift("s", "3d", profiles=True, window="1h", end=end)
        with pytest.raises(ArgumentError, match="profiles: they are compared with those of an ear"):
            store.drift("s", repo / "x.json", profiles=True)
        with pytest.raises(DataError, match="service 'other' is kept; there are those of s"):
            store.drift("other", "1d", profiles=True)


def test_what_is_too_old_goes_and_another_length_of_parts_is_refused(repo):
    log(repo, "0", block(random.Random(0), 200, days=1))
    with FeatureStore(repo) as store:
        store.profile()
    assert sum(one["rows"] for one in kept(repo)["s"].values()) == 200
    config = repo / "feature_store.yaml"
    config.write_text(CONFIG.replace("36500d", "30d"))
    with FeatureStore(repo) as store:
        store.profile()
        assert kept(repo)["s"] == {}
        assert store.profile().rows == 0
    config.write_text(CONFIG.replace("every: 1d", "every: 1h"))
    with FeatureStore(repo) as store, pytest.raises(DataError, match="the settings say 3,600 s"):
        store.profile()
    config.write_text(CONFIG.replace("every: 1d", "every: often"))
    with pytest.raises(ConfigError, match=r"monitoring\.profiles\.every"):
        FeatureStore(repo)


def test_forgetting_takes_out_what_few_entities_have(repo):
    made = block(random.Random(5), 600, days=1)
    made.values[2][0] = "the words of one person"
    log(repo, "0", made)
    with FeatureStore(repo) as store:
        store.profile()
        text = str(kept(repo))
        assert "the words of one person" in text
        assert "'k1'" not in text
        profiles.forget_few(place(repo))
    found = kept(repo)["s"][START]["columns"]
    words = found["v__word"]["str"]["values"]
    assert "the words of one person" not in str(kept(repo))
    assert {'"a"', '"b"'} <= words.keys()
    assert all(holders == [None] for _, holders in words.values())
    finite = made.values[1]
    assert found["v__n"]["int"]["greatest"] >= max(finite)
    assert found["v__n"]["int"]["greatest"] != max(finite)
    assert found["v__x"]["float"]["present"] == sum(v is not None for v in made.values[0])


def test_the_command_forget_reaches_kept_profiles(repo, capsys):
    made = block(random.Random(5), 600, days=1)
    made.values[2][0] = "the words of one person"
    log(repo, "0", made)
    with scratch_redis() as url:
        given = ["--repo", str(repo), "--redis-url", url]
        pq.write_table(
            pa.table({
                "k": ["k1"], "x": [1.0], "n": [1], "word": ["a"],
                "ts": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)]),
            }),
            repo / "visits.parquet",
        )  # fmt: skip
        assert main([*given, "apply"]) == 0
        assert main([*given, "monitor", "profile"]) == 0
        assert "the words of one person" in str(kept(repo))
        assert main([*given, "forget", "k", "--key", "k=k1"]) == 0
        assert "the words of one person" not in str(kept(repo))
        words = kept(repo)["s"][START]["columns"]["v__word"]["str"]["values"]
        assert all(holders == [None] for _, holders in words.values())
    capsys.readouterr()


def test_rows_that_are_forgotten_are_not_counted(repo):
    made = block(random.Random(5), 50)
    for statuses in made.statuses:
        statuses[:20] = [FORGOTTEN] * 20
    log(repo, "0", made)
    with FeatureStore(repo) as store:
        store.profile()
    assert sum(one["rows"] for one in kept(repo)["s"].values()) == 30


def test_a_stream_is_read_on_from_its_last_entry(repo):
    from featurekit.log.served.stream import StreamSink

    with scratch_redis() as url:
        (repo / "feature_store.yaml").write_text(
            CONFIG.replace("redis://127.0.0.1:9/0", url).replace("to: parquet", "to: stream")
        )
        sink = StreamSink(url, "fk:profiles:served", 100)
        with FeatureStore(repo) as store:
            for seed in range(12):
                made = block(random.Random(seed), 100)
                sink.take(made, b"".join(encode(made)))
                assert store.profile().rows == 100
            assert store.profile().rows == 0
        sink.close()
    assert sum(one["rows"] for one in kept(repo)["s"].values()) == 1_200


def test_a_file_that_is_damaged_is_an_error_with_what_to_do(repo):
    log(repo, "0", block(random.Random(0), 20))
    with FeatureStore(repo) as store:
        store.profile()
        (path,) = (repo / ".featurekit" / "profiles").glob("*.profile")
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(DataError, match="put it back from a copy, or remove the folder"):
            store.profile()


def test_the_command_keeps_and_shows(repo, capsys):
    log(repo, "0", block(random.Random(0), 500, days=1))
    words = [
        "--repo",
        str(repo),
        "monitor",
        "profile",
        "s",
        "--end",
        instant(START + DAY).isoformat(),
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "500 rows of the serving log were read." in out
    assert "v__word" in out
    assert main(["--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], len(found["features"])) == (0, 3)


def test_merging_with_nothing_changes_nothing():
    (profile,) = told(block(random.Random(1), 50, days=1)).profiles["s"].values()
    none = {"rows": 0, "versions": {}, "columns": {}, "repeats": {}}
    assert merged(none, profile) == profile == merged(profile, none)


def test_both_zeros_are_one_least_number_in_either_order():
    made = block(random.Random(2), 2, days=1)
    for x in ([0.0, -0.0], [-0.0, 0.0]):
        made.values[0][:] = x
        (profile,) = told(made).profiles["s"].values()
        column = profile["columns"]["v__x"]["float"]
        signs = [math.copysign(1.0, column[end]) for end in ("least", "greatest")]
        assert signs == [1.0, 1.0]
        assert len(column["registers"]) == 1


# --- beside serving -------------------------------------------------------------------------------


def test_blocks_are_counted_together_without_a_trace():
    """What is counted of joined blocks has the bytes of what each block gives; blocks of another
    head are not joined with them."""
    blocks = [block(random.Random(seed), 90) for seed in range(8)]
    other = replace(HEAD, fingerprint="e" * 32, outputs={**OUTPUTS, "v__x": INT.or_none()})
    for i in (3, 6):
        values = [[1] * 90, *blocks[i].values[1:]]
        blocks[i] = replace(blocks[i], head=other, values=values)
    alone = together([told(one) for one in blocks], DAY).encoded()
    for most in (1, 100, 250, 20_000):
        made: list[ServedBlock] = []
        gathered = Gathered(made.append, most)
        for one in blocks:
            gathered.take(one)
        gathered.flush()
        gathered.flush()
        assert told(*made).encoded() == alone
        assert sum(one.rows for one in made) == 720
    assert [one.rows for one in made] == [270, 90, 180, 90, 90]
    assert made[0].some(range(90, 180)) == replace(blocks[1], predicted=[])


class Clocks:
    """The clocks of a process that works for `work` seconds before each look at its own."""

    def __init__(self, work: float) -> None:
        self.used = self.now = 0.0
        self.work = work
        self.slept: list[float] = []

    def process_time(self) -> float:
        self.used += self.work
        self.now += self.work
        return self.used

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_share_of_a_processor_is_kept(monkeypatch, share):
    clocks = Clocks(0.25)
    monkeypatch.setattr(pace, "time", clocks)
    made = pace.Pace(share)
    for _ in range(10):
        made.rest()
    assert clocks.slept == pytest.approx([0.25 / share - 0.25] * 10)
    clocks.now += 100.0  # it had to wait, and rests no more for that
    made.rest()
    assert clocks.slept[-1] == 0.0
    pace.Pace(None).rest()
    assert len(clocks.slept) == 11


def test_counting_rests_after_each_block_and_each_turn(repo, monkeypatch):
    for number in range(3):
        log(repo, f"{number:02d}", block(random.Random(number), 400))
    shares: list[float | None] = []
    rest = pace.Pace.rest
    monkeypatch.setattr(pace.Pace, "rest", lambda self: (shares.append(self._share), rest(self)))
    with FeatureStore(repo) as store:
        assert store.profile(share=0.9).rows == 1_200
        assert shares == [0.9] * 3
        assert store.profile().rows == 0
        for wrong in (0.0, -1.0, 1.5, math.nan):
            with pytest.raises(ArgumentError, match=r"share: found .*; write a number above 0"):
                store.profile(share=wrong)


def test_who_needs_the_folder_meanwhile_waits_for_one_turn_alone(repo, monkeypatch):
    """`forget` comes between two turns of a long count, which goes on with what is left."""
    for number in range(6):
        log(repo, f"{number:02d}", block(random.Random(number), 300))
    monkeypatch.setattr(keep, "_TURN_S", 0.0)
    came: list[int] = []

    def forget() -> None:
        wait_for(lambda: len([*folder.glob("*.profile")]) >= 2)
        profiles.forget_few(place(repo))
        came.append(sum(one["rows"] for one in kept(repo)["s"].values()))

    folder = place(repo).folder
    thread = threading.Thread(target=forget)
    thread.start()
    with FeatureStore(repo) as store:
        assert store.profile() == keep.Profiled(1_800, 6)
    thread.join()
    assert came
    assert 600 <= came[0] < 1_800
    assert sum(one["rows"] for one in kept(repo)["s"].values()) == 1_800


def test_it_counts_again_and_again_until_it_is_told_to_stop(repo):
    log(repo, "0", block(random.Random(0), 200))
    command = [sys.executable, "-m", "featurekit.cli", "--repo", str(repo), "--json", "monitor",
               "profile", "--every", "100ms", "--share", "0.5"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["rows"], first["files"]) == (200, 1)
        (repo / ".featurekit" / "served" / "1.parquet").write_bytes(b"half a file")
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("featurekit: warning: ")
        assert "1.parquet cannot be read" in said
        log(repo, "1", block(random.Random(1), 300))
        found = (json.loads(line)["rows"] for line in process.stdout)
        assert next(rows for rows in found if rows) == 300
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 143
    assert errors.endswith("featurekit: terminated\n")
    assert sum(one["rows"] for one in kept(repo)["s"].values()) == 500


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--share", "2"], "'2' is no number above 0 and at most 1"),
        (["--share", "nan"], "'nan' is no number above 0"),
        (["--every", "often"], "'often'"),
        (["s", "--every", "1m"], "--every shows no SERVICE"),
    ],
)
def test_wrong_words_are_refused(repo, capsys, words, said):
    assert main(["--repo", str(repo), "monitor", "profile", *words]) == 64
    assert said in capsys.readouterr().err


def test_without_a_share_it_counts_at_a_tenth_of_a_processor(repo, monkeypatch):
    asked: list[float] = []

    def profile(self: FeatureStore, *, share: float, **how: Any) -> None:
        asked.append(share)
        raise KeyboardInterrupt

    monkeypatch.setattr(FeatureStore, "profile", profile)
    assert main(["--repo", str(repo), "monitor", "profile", "--every", "1m"]) == 130
    assert asked == [0.1]


def test_a_log_that_is_named_and_not_there_is_an_error(repo, capsys):
    assert main(["--repo", str(repo), "monitor", "profile", "--log", str(repo / "no")]) == 2
    assert "there is no serving log" in capsys.readouterr().err
    (repo / ".featurekit" / "served").rmdir()
    assert main(["--repo", str(repo), "monitor", "profile"]) == 0, "nothing was served yet"


def test_a_service_that_nobody_defines_is_told(repo, capsys):
    log(repo, "0", block(random.Random(0), 50))
    words = ["--repo", str(repo), "monitor"]
    assert main([*words, "drift", "z", "--reference", "1d"]) == 2
    assert "The repo has no service 'z'; there are s" in capsys.readouterr().err
    assert main([*words, "performance", "z"]) == 2
    assert "The repo has no service 'z'; there are s" in capsys.readouterr().err
    assert main([*words, "performance", "s"]) == 2
    assert "The repo has" not in capsys.readouterr().err
