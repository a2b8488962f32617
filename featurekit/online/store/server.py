"""Starts Redis servers: the private one of a repo, or a throw-away one.

Both servers listen on a unix socket that only this user may open, and on no port.

A private server belongs to a folder. It outlives the process that started it while others use it:

    redis.lock        held while a process looks, starts or stops
    redis.alive       held by the server itself: free means dead, whatever a pid file says
    redis.users       held, shared, by every process that uses the server
    redis.socket      where the server listens: a name in the folder, or a full path
    redis.server      which server wrote the data, for the next start
    redis.pid, redis.log, appendonly.aof or appendonlydir
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from featurekit.core.ending import at_end, not_at_end
from featurekit.core.files import locked, write_whole
from featurekit.core.openness import close_tree, group_of, make_folder, opened
from featurekit.core.waiting import until
from featurekit.errors import StoreUnavailable
from featurekit.online.store.binaries import binary_for, find_binary, note_writer

_SOCKET_BYTES = 107  # sun_path holds 108 bytes, the last of them a zero
_START_S = 10.0  # to answer at all
_LOAD_S = 300.0  # to read its data
_STOP_S = 30.0
_POLL_S = 0.005
# Every write reaches the disk before its reply is sent: what was acknowledged survives the end of
# the server, of the machine and of the power. Under "everysec" Redis may hold writes back for two
# seconds while a sync runs, and a killed server loses them although they were acknowledged.
_KEEP = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
_FORGET = ("--appendonly", "no", "--save", "")

_guard = threading.RLock()
_used: dict[Path, int] = {}  # a folder, and the descriptor of its redis.users
_ending = False


def private_redis(folder: Path) -> str:
    """The URL of the server whose data live in `folder`; it is started if it does not run.

    What the server acknowledged is on the disk, and is read again at the next start, also after a
    crash. Processes that call this at the same time share one server. When a process exits, it
    shuts the server down if nobody else is connected. Connections count as this process's own if
    they were made with this URL, which names them. A process that is killed leaves the server to
    the next one.

    StoreUnavailable where the server does not start; the error has the end of its log.
    """
    return _url(private_socket(folder))


def private_socket(folder: Path) -> Path:
    """As `private_redis`, the path of the server's socket."""
    if _ending:
        raise StoreUnavailable(f"this process ends, and starts no server in {folder} any more")
    folder = folder.resolve()
    try:
        make_folder(folder)
    except OSError as error:
        raise StoreUnavailable(
            f"a private Redis cannot keep its data in {folder}: {error.strerror}; make room for "
            "that folder, or set redis_url"
        ) from None
    with _guard, _alone(folder):
        fresh = folder not in _used
        if fresh:
            users = opened(folder / "redis.users", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
            _used[folder] = users
        try:
            path = _running(folder) or _start(folder)
        except StoreUnavailable:
            if fresh:
                os.close(_used.pop(folder))
            raise
    return path


def runs(folder: Path) -> bool:
    """Whether the private server of `folder` runs."""
    return folder.is_dir() and _alive(folder.resolve())


def release(folder: Path) -> bool:
    """Stop using the private server of `folder`. It returns whether that shut the server down, with
    its data saved.

    Every process does this when it exits. The server stays where another process uses it, or where
    a client is connected that was not made with this process's URL.
    """
    folder = folder.resolve()
    with _guard:
        if folder not in _used:
            return False
        if not folder.exists():
            os.close(_used.pop(folder))
            return False
        with _alone(folder):
            os.close(_used.pop(folder))
            # Opened anew: a forked child shares the old descriptor's lock, and still counts.
            with _lock_if_free(folder / "redis.users") as alone:
                return alone is not None and _stop(folder)


@contextlib.contextmanager
def scratch_redis() -> Iterator[str]:
    """The URL of an empty server that keeps nothing on disk and ends with the block.

    It also ends when this process is killed: a shell waits for the pipe between them to close.
    StoreUnavailable where there is no server to start.
    """
    binary = find_binary()
    folder = Path(tempfile.mkdtemp(prefix="featurekit-", dir=_short_temp()))
    path = folder / "redis.sock"
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(
            [str(binary), *_listen(path), *_FORGET],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is this process's to handle
        )
    watch = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -9 "$1"; rm -rf "$2"', "sh", str(server.pid), folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )

    def end() -> None:
        for process in (watch, server):
            process.kill()
            process.wait()
        if watch.stdin:
            watch.stdin.close()
        shutil.rmtree(folder, ignore_errors=True)

    at_end(end)  # for a block that is never left
    try:
        answer = until(
            lambda: _ask(path, "PING") or b"",
            holds=lambda said: said.startswith(b"+PONG") or server.poll() is not None,
            within_s=_START_S,
            every_s=_POLL_S,
        )
        if not answer.startswith(b"+PONG"):
            raise _did_not_start(binary, folder)
        yield _url(path)
    finally:
        not_at_end(end)
        end()


def _url(path: Path) -> str:
    return f"unix://{quote(str(path))}?client_name={_client_name()}"


def _client_name() -> str:
    return f"featurekit-{os.getpid()}"


def _listen(path: Path, group: int | None = None) -> list[str]:
    permitted = "700" if group is None else "770"
    return ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", permitted]


def _start(folder: Path) -> Path:
    """Start the folder's server and wait until it answers; the path of its socket."""
    binary = binary_for(folder)
    path = _socket_path(folder)
    path.unlink(missing_ok=True)
    inside = path.parent == folder
    write_whole(folder / "redis.socket", (path.name if inside else str(path)).encode())
    log = folder / "redis.log"
    if log.exists():
        log.replace(folder / "redis.log.old")
    options = ["--daemonize", "yes", "--pidfile", "redis.pid", "--logfile", "redis.log"]
    with _lock_if_free(folder / "redis.alive") as alive:
        if alive is None:
            raise StoreUnavailable(f"another server took {folder} meanwhile; try again")
        # The server inherits the locked descriptor, so the lock lives as long as it does.
        started = subprocess.run(
            [str(binary), *_listen(path, group_of(folder)), *_KEEP, *options],
            cwd=folder,
            umask=0o077 if group_of(folder) is None else 0o007,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[alive],
            start_new_session=True,  # as for a scratch server
            check=False,
        )
    if started.returncode:
        with log.open("ab") as file:
            file.write(started.stdout)
        raise _did_not_start(binary, folder)
    if not _wait(folder, path):
        raise _did_not_start(binary, folder)
    note_writer(folder, binary)
    close_tree(folder)  # the server makes its files readable by a group, and no more
    return path


def _running(folder: Path) -> Path | None:
    """The socket of the folder's living server; None where there is none."""
    if not _alive(folder):
        return None
    written = folder / "redis.socket"
    path = folder / written.read_text(encoding="utf-8") if written.exists() else folder
    return path if _wait(folder, path) else None


def _wait(folder: Path, path: Path) -> bool:
    """Wait until the server at `path` answers. False where it ended instead."""
    begun = time.monotonic()
    while True:
        answer = _ask(path, "PING")
        if answer is not None and answer.startswith(b"+PONG"):
            return True
        if not _alive(folder):
            return False
        loading = answer is not None and answer.startswith(b"-LOADING")
        limit_s = _LOAD_S if loading else _START_S
        if time.monotonic() - begun > limit_s:
            state = "still reads its data" if loading else "does not answer"
            raise StoreUnavailable(
                f"the Redis server of {folder} {state} after {limit_s:.0f} s at {path}; its "
                f"process is {_read(folder / 'redis.pid').strip() or 'unknown'}. End it with "
                f"SIGTERM and try again; its log ends:\n{_tail(folder / 'redis.log')}"
            )
        time.sleep(_POLL_S)


def _stop(folder: Path) -> bool:
    """Shut the server down, unless a client other than this process's is connected."""
    path = _running(folder)
    if path is None:
        return False
    name = _client_name()
    listed = _ask(path, f"CLIENT SETNAME {name}", "CLIENT LIST") or b""
    clients = [line for line in listed.decode(errors="replace").splitlines() if "id=" in line]
    if not clients or any(f" name={name} " not in line for line in clients):
        return False
    _ask(path, "SHUTDOWN")
    gone = until(lambda: not _alive(folder), within_s=_STOP_S, every_s=_POLL_S)
    if gone:
        close_tree(folder)
        path.unlink(missing_ok=True)
    return gone


def _ask(path: Path, *commands: str) -> bytes | None:
    """Everything that the server at `path` answers to the commands; None where it cannot be
    reached.

    It uses plain sockets: redis-py takes 0.2 s to import, and it retries where one look is enough.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_START_S)
        answer = b""
        try:
            connection.connect(str(path))
            connection.sendall("".join(f"{c}\r\n" for c in (*commands, "QUIT")).encode())
            while chunk := connection.recv(65536):
                answer += chunk
        except OSError:
            return answer or None
        return answer


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if _fits(path):
        return path
    parent = _short_temp() / f"featurekit-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StoreUnavailable(
            f"{parent} should be a folder of this user alone, for sockets; remove it, or set TMPDIR"
        )
    return parent / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.sock"


def _short_temp() -> Path:
    """The folder for temporary files; /tmp where its path is too long for a socket."""
    folder = Path(tempfile.gettempdir())
    return folder if _fits(folder / "featurekit-4294967295" / f"{'0' * 16}.sock") else Path("/tmp")


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _SOCKET_BYTES


def full_disk(folder: Path) -> str | None:
    """What the log of the server of a folder says last of a disk that is full; None for nothing.
    Such a server ends, since it syncs what it acknowledges."""
    lines = _read(folder / "redis.log").splitlines()[-_LATEST:]
    found = [line for line in lines if any(text in line for text in _FULL)]
    if not found:
        return None
    return (
        f"its disk is full, so that it could not write {folder / 'appendonlydir'} (or "
        f"appendonly.aof there) and ended; its log {folder / 'redis.log'} says: "
        f"{found[-1].strip()}. Make room on that disk and run this again; what it had "
        "acknowledged is kept"
    )


def _did_not_start(binary: Path, folder: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"{binary} did not start in {folder}; its log ends:\n{_tail(folder / 'redis.log')}"
    )


_FULL = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_LATEST = 40
"""The lines of the log in which the reason of a server's end is sought."""


def _tail(log: Path, *, lines: int = 15) -> str:
    shown = _read(log).splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in shown) or "    (nothing)"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _alive(folder: Path) -> bool:
    with _lock_if_free(folder / "redis.alive") as free:
        return free is None


def _lock_if_free(path: Path) -> contextlib.AbstractContextManager[int | None]:
    """A descriptor that holds the exclusive lock of `path`; None where somebody else holds one."""
    return locked(path, mode=0o600)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Look, start or stop alone. StoreUnavailable where another process does not finish."""
    patience_s = _LOAD_S + _STOP_S
    with locked(folder / "redis.lock", wait_s=patience_s, every_s=_POLL_S, mode=0o600) as mine:
        if mine is None:
            raise StoreUnavailable(
                f"another process has held {folder / 'redis.lock'} for {patience_s:.0f} s; "
                "end it and try again"
            )
        yield


def _release_all() -> None:
    global _ending
    _ending = True
    for folder in list(_used):
        with contextlib.suppress(StoreUnavailable):
            release(folder)


at_end(_release_all)
