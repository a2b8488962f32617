"""Ctrl-C at any instant ends any verb with 130, and SIGTERM with 143: soon, without a traceback,
and with nothing half-written."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.cli import interrupt
from featurekit.core.files import WRITING
from featurekit.core.types import instant
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import _alive, scratch_redis
from featurekit.project import leases
from tests.forks import Forked

ROOT = Path(__file__).parents[2]
INSTANTS = 2 * int(os.environ.get("FEATUREKIT_EXAMPLES", "1"))
MOST_S = 30.0
"""Two seconds, on a machine that has nothing else to do."""
USERS, EVENTS, LABELS = 200, 6_000, 5_000
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import CountDistinct, Sum

user = Entity("user", {"k": int})
schema = {"k": int, "n": int}
clicks = EventSource("clicks", path="data/clicks.parquet", schema=schema, timestamp_field="at",
                     created_timestamp_column="arrived")
orders = EventSource("orders", path="data/orders.parquet", schema=schema, timestamp_field="at",
                     created_timestamp_column="arrived", event_id="n", dedupe_within="30d")
clicked = FeatureView("clicked", entities=[user], source=clicks,
                      features={"clicks": Sum("n", window="9d"),
                                "kinds": CountDistinct("n", window="9d")})
bought = FeatureView("bought", entities=[user], source=orders,
                     features={"orders": Sum("n", window="9d")})
service = FeatureService("service", features=[clicked, bought])
"""
CONFIG = """
project: tests
provider: local
online_store: {type: redis}
featurekit: {serving_log: {to: parquet}}
"""


@dataclass
class Ended:
    """How a command ended: its exit code, what it wrote, and how long after the signal."""

    code: int
    out: str
    err: str
    seconds: float


class Commands:
    """Commands in a folder that a signal interrupts."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder, self.url = folder, url

    def start(
        self, *arguments: object, how: type[subprocess.Popen[str]] = subprocess.Popen
    ) -> subprocess.Popen[str]:
        url = [] if self.url is None else ["--redis-url", self.url]
        command = [sys.executable, "-m", "featurekit.cli", *map(str, arguments), *url]
        env = {k: v for k, v in os.environ.items() if k != "FEATUREKIT_REDIS_URL"}
        return how(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**env, "PYTHONPATH": str(ROOT)},
        )

    def run(self, *arguments: object) -> str:
        """A command that nothing interrupts; what it shows."""
        process = self.start(*arguments, how=Forked)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out

    def interrupt(self, after_s: float, number: int, *arguments: object) -> Ended:
        """A command that a signal interrupts, so long after it can tell a signal from a kill."""
        process = self.start(*arguments)
        while process.poll() is None and not _catches(process.pid):
            time.sleep(0.001)
        time.sleep(after_s)
        sent = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
        return Ended(process.returncode, out, err, time.monotonic() - sent)


def _catches(pid: int) -> bool:
    """Whether a process has taken SIGTERM over, which no Python does by itself."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def assert_in_order(ended: Ended, number: int) -> bool:
    """The command was interrupted as it should be, or was over before; whether it was
    interrupted."""
    assert "Traceback" not in ended.err, ended
    assert "Exception ignored" not in ended.err, ended
    assert ended.seconds < MOST_S, ended
    if ended.code == 0 and "featurekit: " not in ended.err:
        return False
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert (ended.code, ended.err.splitlines()[-1:]) == (128 + number, [f"featurekit: {what}"])
    assert ended.err.count("featurekit: ") == 1, ended.err
    return True


def left_over(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.endswith(WRITING)]


def make_repo(folder: Path) -> None:
    """Files of events and labels, and the definitions."""
    now = time.time_ns() // 1000
    chance = random.Random(1)
    stamp = pa.timestamp("us", tz="UTC")
    at = [now - chance.randrange(20 * 86_400_000_000) for _ in range(EVENTS)]
    events = {
        "k": [chance.randrange(USERS) for _ in at],
        "n": list(range(EVENTS)),
        "at": pa.array(at, stamp),
        "arrived": pa.array(at, stamp),
    }
    (folder / "data").mkdir()
    for name in ("clicks", "orders"):
        pq.write_table(pa.table(events), folder / "data" / f"{name}.parquet")
    labels = {"k": [n % USERS for n in range(LABELS)],
              "event_timestamp": pa.array([now] * LABELS, stamp)}  # fmt: skip
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    (folder / "definitions.py").write_text(MODULE)
    (folder / "feature_store.yaml").write_text(CONFIG)
    rows = ({"k": n % USERS, "n": EVENTS + n, "at": str(instant(now))} for n in range(1_000))
    (folder / "more.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in a repo that is applied and filled."""
    folder = tmp_path_factory.mktemp("interrupted")
    make_repo(folder)
    with scratch_redis() as url:
        with FeatureStore(folder, redis_url=url) as store:
            store.apply()
            store.materialize()
            store.get_online_features("service", [{"k": k} for k in range(50)])
            online = store.online
            assert isinstance(online, RedisStore)
            for n in range(600):
                row = json.dumps({"k": n % USERS, "n": EVENTS + 9_000 + n, "at": str(instant(1))})
                online.client.xadd("orders", {"json": row})
        yield Commands(folder, url)


def assert_paths_agree(commands: Commands) -> None:
    """Whatever was interrupted: one more run brings everything online that offline knows."""
    with FeatureStore(commands.folder, redis_url=commands.url) as store:
        for source in ("clicks", "orders"):
            end = time.monotonic() + 10 * leases.LEASE_S
            while leases.held_by(store.online, "tests", source):
                store.unlock(force=True)
                assert time.monotonic() < end
        store.apply()
        store.materialize()
        rows = [{"k": k} for k in range(USERS)]
        found = store.get_online_features("service", rows)
        frame = [row | {"event_timestamp": found.as_of} for row in rows]
        wanted = store.get_historical_features(frame, "service").to_arrow()
        for name, values in found.columns.items():
            assert list(values) == wanted[name].to_pylist(), name


VERBS: dict[str, tuple[object, ...]] = {
    "init": ("init", "fresh"),
    "plan": ("plan",),
    "apply": ("apply",),
    "versions": ("versions", "service"),
    "gc": ("gc",),
    "materialize": ("materialize",),
    "materialize incremental": ("materialize", "--incremental"),
    "push": ("push", "clicks", "more.jsonl"),
    "push with ids": ("push", "orders", "more.jsonl"),
    "consume": ("consume", "orders", "--batch", 20),
    "forget": ("forget", "user", "--key", "k=3"),
    "unlock": ("unlock",),
    "get-historical": (
        "get-historical", "service", "labels.parquet", "--output", "out.parquet",
    ),
    "get-online": ("get-online", "service", "k=1"),
    "explain": ("explain", "service", "clicks", "k=1"),
    "parity history": ("parity", "history", "--budget", 100_000),
    "parity fuzz": ("parity", "fuzz", "--budget", 200_000, "--workers", 2),
    "parity sample": ("parity", "sample", "--budget", 100_000),
    "parity sample --every": ("parity", "sample", "--every", "100ms", "--budget", 500),
    "parity replay": ("parity", "replay"),
    "parity operators": ("parity", "operators"),
    "demo": ("demo", "--labels", 500, "--values", 5_000),
}  # fmt: skip
# What writes, what asks, and what starts processes.
VARIED = {"materialize", "push with ids", "forget", "get-historical", "parity fuzz"}
WRITERS = {"apply", "materialize", "push", "push with ids", "consume", "forget"}


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the test reads /proc")
@pytest.mark.parametrize("name", slow_unless(lambda name: name in VARIED, VERBS))
def test_a_signal_at_any_instant_ends_a_verb_in_good_order(commands: Commands, name: str) -> None:
    chance = random.Random()
    interrupted = 0
    for n in range(INSTANTS):
        number = signal.SIGTERM if n % 3 == 2 else signal.SIGINT
        # Half of the instants are among the imports.
        after_s = chance.random() * (0.3 if n % 2 else 2.5)
        ended = commands.interrupt(after_s, number, *VERBS[name])
        interrupted += assert_in_order(ended, number)
        assert left_over(commands.folder) == []
        if name == "init":
            files = [p.name for p in commands.folder.rglob("fresh/*")]
            assert len(files) in (0, 5), files
            if files:
                break
        out, about = (commands.folder / f"out.parquet{end}" for end in ("", ".manifest.json"))
        if out.exists():
            assert (pq.read_table(out).num_rows, about.exists()) == (LABELS, True)
            out.unlink()
    if name in WRITERS:
        assert_paths_agree(commands)


def test_a_command_that_a_signal_has_reached_is_given_less_than_two_seconds() -> None:
    """How long it takes then is the machine's; how long it may wait is ours."""
    assert interrupt._PATIENCE_S + interrupt._EXIT_S < 2.0


def test_a_second_signal_ends_it_at_once(commands: Commands) -> None:
    process = commands.start("parity", "fuzz", "--budget", 5_000_000, "--workers", 1)
    while not _catches(process.pid):
        time.sleep(0.001)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "featurekit: interrupted\n")


def _python(text: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a piece of Python, whose output a test reads."""
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


STUCK = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from featurekit.cli import main
from featurekit.cli.verbs import plan
from featurekit.core import files

path = Path(sys.argv[1])

def run(arguments, screen):
    with files.whole(path) as hidden:
        hidden.write_text("half")
        print("begun", flush=True)
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass  # as a library does

plan.plan = SimpleNamespace(run=run, more="", options=())
sys.argv = ["featurekit", "plan"]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_swallows_the_signal_is_ended_all_the_same(tmp_path: Path, number: int) -> None:
    process = _python(STUCK, tmp_path / "file")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, err) == (128 + number, f"featurekit: {what}\n")
    assert time.monotonic() - sent < MOST_S
    assert list(tmp_path.iterdir()) == []


LAST_WORDS = """
import sys, time
from types import SimpleNamespace
from featurekit.cli import main
from featurekit.cli.verbs import plan

class Slow:
    def flush(self):
        print("leaving", file=shown, flush=True)
        time.sleep(60)

def run(arguments, screen):
    sys.stdout = Slow()
    print("begun", file=shown, flush=True)
    time.sleep(60)

shown = sys.stdout
plan.plan = SimpleNamespace(run=run, more="", options=())
sys.argv = ["featurekit", "plan"]
sys.exit(main())
"""
IN_A_LIBRARY = """
import ctypes, sys
from collections import deque
from itertools import repeat
from types import SimpleNamespace
from featurekit.cli import main
from featurekit.cli.verbs import plan

def run(arguments, screen):
    print("begun", flush=True)
    deque(map(ctypes.CDLL(None).usleep, repeat(10_000)), maxlen=0)  # no line of Python runs

plan.plan = SimpleNamespace(run=run, more="", options=())
sys.argv = ["featurekit", "plan"]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_calls_no_handler_is_ended_by_the_signal_that_came(number: int) -> None:
    process = _python(IN_A_LIBRARY)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, err) == (128 + number, f"featurekit: {what}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_among_the_last_words_loses_none_of_them(number: int) -> None:
    process = _python(LAST_WORDS)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.stdout.readline() == "leaving\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    what = "interrupted" if number == signal.SIGINT else "terminated"
    assert (process.returncode, err) == (128 + number, f"featurekit: {what}\n")


def test_a_private_server_ends_with_an_interrupted_command(tmp_path: Path) -> None:
    commands = Commands(tmp_path, None)
    commands.run("init", "repo")
    commands.run("apply", "--repo", "repo")
    assert assert_in_order(
        commands.interrupt(0.0, signal.SIGINT, "materialize", "--repo", "repo"), signal.SIGINT
    )
    process = commands.start("consume", "orders", "--repo", "repo")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    folder = tmp_path / "repo" / ".featurekit" / "redis"
    end = time.monotonic() + MOST_S
    while _alive(folder):
        assert time.monotonic() < end, "the server was left running"
        time.sleep(0.05)


WORKERS = """
import functools, time
from featurekit.parity.processes import Processes

workers = Processes(2, functools.partial, time.sleep)
print(*(process.pid for process in workers._processes), flush=True)
workers.one_each([600, 600])
"""


def test_workers_end_with_their_process() -> None:
    """Even where it can end them no more: they see that their pipe is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKERS], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    assert all(os.getpgid(pid) == pid for pid in workers), "a Ctrl-C in the terminal reaches them"
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while any(_runs(pid) for pid in workers):
        assert time.monotonic() < end, "a worker goes on"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return b"parity.processes" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_command_within_another_program_leaves_its_signals_alone() -> None:
    from featurekit.cli import main

    before: list[Any] = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--version"]) == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


# --- before a command begins ----------------------------------------------------------------------


def python(text: str) -> subprocess.CompletedProcess[str]:
    """A process of Python alone, without what a test has imported."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", text]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_little_is_imported_before_a_command_takes_its_signals_over() -> None:
    """What a signal meets before that is a traceback of Python's own."""
    shown = "import sys; had = {*sys.modules}; import featurekit.cli; print(*{*sys.modules} - had)"
    ours = {"featurekit", *(f"featurekit.{n}" for n in ("cli", "core", "core.names"))}
    assert {*python(shown).stdout.split()} == {"__future__", "featurekit.core.version", *ours}


@pytest.mark.parametrize("name", ["typing", "enum", "threading", "featurekit.core.ending"])
def test_an_interrupted_import_is_an_interrupted_command(name: str) -> None:
    done = python(
        f"""
import os, sys
class Interrupted:
    def find_spec(name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), {signal.SIGINT:d})
sys.meta_path.insert(0, Interrupted)
from featurekit.cli import main
sys.argv[1:] = ["list", "features"]
sys.exit(main())
"""
    )
    assert (done.returncode, done.stderr) == (130, "featurekit: interrupted\n")
