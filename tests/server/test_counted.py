"""What processes counted that are gone: it stays in the sums, and their files do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from serving import World, serving

from featurekit.server import counted
from featurekit.server.counted import fold, summed

COUNTING = """
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
registry, number = CollectorRegistry(), int(sys.argv[1])
values.ValueClass = values.MultiProcessValue(lambda: 1000 + number)
asked = Counter("asked", "a", ("route",), registry=registry)
asked.labels("/a").inc(number)
asked.labels(f"/{number % 3}").inc()
took = Histogram("took", "t", buckets=(0.5, 1.0), registry=registry)
took.observe(number / 4)
Gauge("up", "u", registry=registry, multiprocess_mode="mostrecent").set(number)
Gauge("waiting", "w", registry=registry, multiprocess_mode="livemostrecent").set(number)
"""


def count(folder: Path, number: int) -> int:
    """A process of this number that has counted, and is gone."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", COUNTING, str(number)], env=env, check=True)
    return 1000 + number


def test_sums_stay_as_they_are_and_files_become_few(tmp_path: Path):
    plain, folded = tmp_path / "plain", tmp_path / "folded"
    for folder in (plain, folded):
        folder.mkdir()
    for number in range(1, 9):
        count(plain, number)
        pid = count(folded, number)
        if number < 8:
            assert fold(pid, str(folded))
            names = {path.name for path in folded.iterdir()}
            assert names == {".lock", "counter_0.db", "histogram_0.db", "gauge_mostrecent_0.db"}
    for live in plain.glob("gauge_live*"):
        if "1008" not in live.name:  # as prometheus_client does of one that is gone
            live.unlink()
    assert sorted(summed(str(folded)).splitlines()) == sorted(summed(str(plain)).splitlines())
    said = summed(str(folded)).decode()
    assert 'asked_total{route="/a"} 36.0' in said
    assert "took_sum 9.0" in said
    assert 'took_bucket{le="0.5"} 2.0' in said
    assert "up 8.0" in said
    assert "waiting 8.0" in said


def test_an_older_word_does_not_replace_a_newer_one(tmp_path: Path):
    first, second = count(tmp_path, 1), count(tmp_path, 2)
    assert fold(second, str(tmp_path))
    assert fold(first, str(tmp_path))
    assert "up 2.0" in summed(str(tmp_path)).decode()


def test_a_file_that_is_cut_off_gives_what_can_be_read(tmp_path: Path):
    pid = count(tmp_path, 3)
    (tmp_path / f"counter_{pid}.db").write_bytes(b"")
    (tmp_path / f"histogram_{pid}.db").write_bytes((1 << 20).to_bytes(4, "little") + b"\xff" * 60)
    assert fold(pid, str(tmp_path))
    assert not [*tmp_path.glob(f"*{pid}*")]
    assert "up 3.0" in summed(str(tmp_path)).decode()


def test_a_scrape_and_a_fold_wait_for_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(counted, "_PATIENCE_S", 0.05)
    pid = count(tmp_path, 2)
    with counted.locked(tmp_path / ".lock"):
        assert not fold(pid, str(tmp_path))
        assert (tmp_path / f"counter_{pid}.db").exists()
        with pytest.raises(counted.Told, match="ask again"):
            summed(str(tmp_path))
    assert fold(pid, str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_that_are_killed_leave_their_counts_and_no_files(world: World):
    words = ("--project", "tests", "--redis-url", world.url, "--workers", "2")
    with serving(*words) as server:
        parent = server.process.pid

        def workers() -> list[int]:
            told = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            return [int(pid) for pid in told]

        def folder() -> Path:
            environ = Path(f"/proc/{workers()[0]}/environ").read_bytes().split(b"\0")
            (found,) = (e.partition(b"=")[2].decode() for e in environ
                        if e.startswith(b"PROMETHEUS_MULTIPROC_DIR="))  # fmt: skip
            return Path(found)

        def asked() -> float:
            said = server.ask("GET", "/metrics")[2].decode().splitlines()
            (line,) = (n for n in said if n.startswith("featurekit_http_rows_total{"))
            return float(line.split()[-1])

        def wait(holds: Any) -> None:
            end = time.monotonic() + 60
            while not holds():
                assert time.monotonic() < end
                time.sleep(0.05)

        place = folder()
        for number in range(1, 4):
            for _ in range(8):
                rows = [{"key": 0}]
                assert server.post("/v1/services/plain/features", {"rows": rows})[0] == 200
            assert asked() == 8 * number
            old = workers()
            time.sleep(1.0)  # one that has just begun is not followed at once
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            wait(lambda old=old: len(workers()) == 2 and not {*workers()} & {*old})
            server.wait()
            wait(lambda old=old: not [f for pid in old for f in place.glob(f"*_{pid}.db")])
        assert asked() == 24
