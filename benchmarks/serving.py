"""Answers over HTTP: `featurekit serve` beside a few lines on the same server, and Feast's server.

Each is one worker on loopback, asked over four connections that are kept. What is compared is the
CPU time of the server for a request, since the asking process and Redis share the processors. Each
answer is compared with the values before it counts. The client's answers are timed as its caller
sees them, beside the same lookup in this process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import feast_peer
from benchmarks.measure import OURS, Curve, Result, compiled, latencies
from benchmarks.online_lookups import SIZES as STORES
from benchmarks.online_lookups import Bench, Wide
from featurekit.client import Client
from featurekit.online.store.server import scratch_redis
from featurekit.online.wire.http import Address, Reader, request

RAW = "uvicorn, orjson, redis-py"
WIDTH = 50
REQUESTS = {"smoke": 800, "medium": 4_000, "full": 20_000}
CONNECTIONS = 4
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens."""

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float

    def cpu_s(self) -> float:
        """The processor time that it and its workers have taken, of all threads."""
        ticks = 0
        for pid in (self.process.pid, *self.workers()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICK

    def workers(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def rss(self) -> int:
        """The bytes of memory that it holds."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Asking:
    """Kept connections to a server, over which one request after the other goes on each."""

    def __init__(self, server: Server) -> None:
        self.address = Address("127.0.0.1", server.port, False, "")
        self.sockets = [
            socket.create_connection(("127.0.0.1", server.port)) for _ in range(CONNECTIONS)
        ]
        for one in self.sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Let go of them."""
        for one in self.sockets:
            one.close()

    def ask(self, bodies: Sequence[bytes]) -> list[bytes]:
        """The answers to bodies, of which as many as there are connections are asked at once."""
        found = []
        head = "content-type: application/json\r\n"
        for at in range(0, len(bodies), CONNECTIONS):
            some = list(zip(self.sockets, bodies[at : at + CONNECTIONS], strict=False))
            for one, body in some:
                one.sendall(request("POST", self.address, "/get-online-features", head, body))
            for one, _ in some:
                reader, reply = Reader(), None
                while reply is None:
                    reply = reader.feed(one.recv(1 << 18))
                assert reply.status == 200, reply.body
                found.append(reply.body)
        return found


@contextmanager
def started(
    command: Sequence[str],
    port: int,
    *descriptors: int,
    path: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server of our own process, once it answers at `path`."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        pass_fds=descriptors,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    try:
        while not _answers(port, path):
            assert process.poll() is None
            time.sleep(0.005)
        yield Server(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            return one.recv(64).split(b" ")[1:2] not in ([], [b"503"])
    except OSError:
        return False


@contextmanager
def ours(
    url: str, *, workers: int = 1, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """`featurekit serve`, ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-m", "featurekit.cli", "--redis-url", url, "serve", "--project", "bench"]
    command += ["--port", str(port), "--drain", "10ms", "--workers", str(workers)]
    with started(command, port, path="/ready", environment=environment) as made:
        yield made


@contextmanager
def peer(kind: str, told: Mapping[str, Any]) -> Iterator[Server]:
    """A server of `benchmarks.serving_peers`."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        command = ["-m", "benchmarks.serving_peers", kind, str(door.fileno()), json.dumps(told)]
        port = door.getsockname()[1]
        if kind == "raw":
            with started(command, port, door.fileno(), path="/docs") as made:
                yield made
            return
        with started(command, port, door.fileno(), path="/health") as made:
            yield made


def results(size: str, runs: int) -> Iterator[Result | Curve]:
    """Throughput for the server's CPU time, memory, the time until it is ready, the client."""
    with scratch_redis() as url, ExitStack() as stack:
        bench = Bench(url, STORES[size], runs)
        stack.callback(bench.close)
        wide = Wide(bench, [WIDTH], bench.size.entities)
        servers = {OURS: stack.enter_context(ours(url))}
        idle = servers[OURS].rss()
        if feast_peer.installed():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            wide.feast(folder, [1])
            feast = feast_peer.config_of(folder, url)
            servers[feast_peer.NAME] = stack.enter_context(peer("feast", {"config": feast}))
        raw = {"url": url, "prefix": f"raw{wide.number}_0:", "width": WIDTH}
        servers[RAW] = stack.enter_context(peer("raw", raw))
        for rows, goal in ((100, 2.0), (1, 2.0)):
            yield from _throughput(
                wide, servers, rows, goal, REQUESTS[size] // (4 if rows > 1 else 1), runs
            )
        yield from _client(wide, servers[OURS], bench.calls(100), runs)
        yield from _two_workers(wide, url, servers[OURS], REQUESTS[size] // 4, runs)
        yield from _idle(idle, _ready_s(url, runs))


def _throughput(
    wide: Wide, servers: Mapping[str, Server], rows: int, goal: float, requests: int, runs: int
) -> Iterator[Result]:
    """The server's CPU seconds for a request, by turns."""
    draws = wide.draws(rows)
    keys = [list(next(draws)) for _ in range(64)]
    asking = {name: Asking(server) for name, server in servers.items()}
    bodies = {name: [_body(wide, name, some) for some in keys] for name in servers}
    for name, one in asking.items():
        for some, answer in zip(keys[:8], one.ask(bodies[name][:8]), strict=True):
            _check(wide, some, json.loads(answer))
    taken: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(runs):
        for name, one in asking.items():
            n = max(CONNECTIONS * 8, requests // (10 if name == feast_peer.NAME else 1))
            asked = (bodies[name] * (n // len(keys) + 1))[:n]
            began = servers[name].cpu_s()
            one.ask(asked)
            taken[name].append((servers[name].cpu_s() - began) / n)
    for one in asking.values():
        one.close()
    found = {name: statistics.median(values) for name, values in taken.items()}
    size = f"{rows:,} × {WIDTH}"
    yield Result("HTTP, JSON, CPU a request", size, "s", found, RAW, goal)
    if feast_peer.NAME in found:
        most = 1 / 25 if rows > 1 else 1 / 8
        work = "HTTP, JSON, CPU a request, beside Feast's server"
        yield Result(work, size, "s", found, feast_peer.NAME, most)


def _two_workers(wide: Wide, url: str, one: Server, requests: int, runs: int) -> Iterator[Result]:
    """The CPU seconds for a request where two workers share them, beside those of one."""
    draws = wide.draws(100)
    keys = [list(next(draws)) for _ in range(64)]
    bodies = [_body(wide, OURS, some) for some in keys]
    asked = (bodies * (requests // len(keys) + 1))[:requests]
    with ours(url, workers=2) as two:
        while len(two.workers()) < 2:
            time.sleep(0.05)
        servers = {OURS: two, "one worker": one}
        asking = {name: Asking(server) for name, server in servers.items()}
        taken: dict[str, list[float]] = {name: [] for name in servers}
        for run in range(runs + 1):
            for name, server in servers.items():
                began = server.cpu_s()
                answers = asking[name].ask(asked)
                took = (server.cpu_s() - began) / requests
                if run:  # the first one loads what a worker needs
                    taken[name].append(took)
                else:
                    for some, answer in zip(keys, answers, strict=False):
                        _check(wide, some, json.loads(answer))
        for connections in asking.values():
            connections.close()
    found = {name: statistics.median(values) for name, values in taken.items()}
    work = "HTTP, JSON, CPU a request, two workers"
    yield Result(work, f"100 × {WIDTH}", "s", found, "one worker", 1.1)


def _body(wide: Wide, name: str, keys: list[int]) -> bytes:
    if name == feast_peer.NAME:
        features = [f"view0:{column}" for column in wide.names]
        return json.dumps({"features": features, "entities": {"key": keys}}).encode()
    return json.dumps({"feature_service": wide.service.name, "entities": {"key": keys}}).encode()


def _check(wide: Wide, keys: list[int], answer: Any) -> None:
    """An answer has the values that were written, bit for bit."""
    found = answer["results"]
    if "metadata" in answer:
        named = zip(answer["metadata"]["feature_names"], found, strict=True)
        columns = {name: result["values"] for name, result in named}
        found = [columns[name] for name in wide.names]
    wanted = [[wide.values[key][0][i] for key in keys] for i in range(WIDTH)]
    assert found == wanted


def _client(wide: Wide, server: Server, calls: int, runs: int) -> Iterator[Result]:
    """100 × 50 to Arrow by the client, beside the same lookup in this process."""
    client = Client(f"http://127.0.0.1:{server.port}", timeout_s=30.0)

    def remote(keys: list[int]) -> Any:
        return client.get_online_features(
            wide.service.name, [{"key": key} for key in keys]
        ).to_arrow()

    def local(keys: list[int]) -> Any:
        return wide.online.get([{"key": key} for key in keys]).to_arrow()

    some = next(wide.draws(100))
    assert remote(some).equals(local(some))
    contenders: dict[str, Callable[[list[int]], Any]] = {OURS: remote, "in process": local}
    found = latencies(wide.by_turns(contenders, 100), calls, stretches=runs)
    taken = {name: latency.p50 for name, latency in found.items()}
    yield Result("client, to Arrow, p50", f"100 × {WIDTH}", "s", taken, "in process", 1.5)
    client.close()


def _ready_s(url: str, runs: int) -> float:
    """How soon a process is ready; the first one compiles its modules, and does not count."""
    taken = []
    with compiled() as environment:
        for _ in range(max(runs, 5) + 1):
            with ours(url, environment=environment) as one:
                taken.append(one.ready_s)
    return statistics.median(taken[1:])


def _idle(idle: int, ready_s: float) -> Iterator[Result]:
    """What a worker holds before its first request, and how soon it is ready."""
    limit = 90 * 1024 * 1024
    taken = {OURS: float(idle), "90 MiB": float(limit)}
    yield Result("a worker's memory", "1 worker", "B", taken, "90 MiB", 1.0)
    yield Result(
        "from start to ready", "1 worker", "s", {OURS: ready_s, "1.0 s": 1.0}, "1.0 s", 1.0
    )
