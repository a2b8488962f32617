"""Gives the messages of a topic of Kafka to a member of a consumer group.

The group's offsets say what is done: they are written once the events are in both paths, and by
nothing else. A partition that is taken away goes on at another member from what was written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.define.definitions import EventSource
from featurekit.errors import ConfigError, DataError, SourceError, StoreUnavailable
from featurekit.feed.streams.fields import row_of_json, text_of
from featurekit.feed.streams.protocol import Found
from featurekit.project.project import Project
from featurekit.project.stream_settings import KafkaConfig, variable

_BLOCK_S, _PATIENCE_S, _DOWN_S = 0.5, 10.0, 30.0
_SHORTEST_MS, _LONGEST_MS = 6_000, 1_800_000
"""What brokers allow, unless they are told otherwise, for the silence of a member."""
_QUEUED_KB, _LARGEST = 32_768, 1_000_000_000
_HOST = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_WRITE = "write kafka://localhost:9092/orders, or kafkas:// for TLS"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a topic is: the `servers` to ask first, whether they speak TLS, and its name."""

    servers: str
    tls: bool
    topic: str

    @classmethod
    def read(cls, url: str) -> Address:
        """The address that a URL names. ConfigError, which shows nothing of it that may be secret,
        where it names none."""
        scheme, _, rest = url.partition("://")
        hosts, _, topic = rest.partition("/")
        if "@" in rest:
            raise ConfigError(
                "the URL of a stream of Kafka holds a login, which is seen by all who see the "
                "command line; write username and password_file under featurekit: watch: consume: "
                f"SOURCE: kafka:, and {_WRITE.removeprefix('write ')}"
            )
        if scheme not in ("kafka", "kafkas") or not rest:
            raise ConfigError(f"the URL of a stream of Kafka is of another form; {_WRITE}")
        for host in hosts.split(","):
            if _HOST.fullmatch(host) is None:
                raise ConfigError(f"the URL of a stream of Kafka names no host and port; {_WRITE}")
        if _TOPIC.fullmatch(topic) is None:
            raise ConfigError(
                "the URL of a stream of Kafka ends with the name of one topic, of letters, digits, "
                f"., _ and -; {_WRITE}"
            )
        servers = ",".join(h if _has_port(h) else f"{h}:9092" for h in hosts.split(","))
        return cls(servers, scheme == "kafkas", topic)


def _has_port(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and found[2] is not None


class KafkaStream:
    """The topic at `url`, as the member `member` of `group` reads it, up to `batch` messages at
    once. A member that gives no sign of life for `idle_s` loses its partitions to others."""

    numbered = True

    def __init__(
        self,
        project: Project,
        source: EventSource,
        url: str,
        settings: KafkaConfig,
        *,
        group: str,
        member: str,
        batch: int,
        idle_s: float,
    ) -> None:
        self.address, self.settings = Address.read(url), settings
        self.kafka = _library()
        self.project, self.source = project, source
        self.topic, self.group, self.member = self.address.topic, group, member
        self.batch = batch
        self.idle_ms = min(max(int(idle_s * 1000), _SHORTEST_MS), _LONGEST_MS)
        self._servers = connection(self.address, settings, Path(project.path))
        self._schemas = None
        if settings.registry is not None:
            from featurekit.feed.streams.schemas import Schemas

            self._schemas = Schemas(settings.registry, Path(project.path), source)
        self._consumer: Any = None
        self._producer: Any = None
        self._mine: set[int] | None = None
        """The partitions that this member has; None before it has been told."""
        self._at_end: set[int] = set()
        self._gone = 0
        self._wrong: str | None = None
        """What was said when no broker could be reached, until one can."""

    # --- the group --------------------------------------------------------------------------------

    def join(self) -> None:
        """Become a member. StoreUnavailable where no broker answers; DataError where there is no
        such topic."""
        self._mine, self._wrong = None, None
        self._at_end.clear()
        self._consumer = self._made_consumer()
        try:
            self._check_topic(self._consumer)
        except BaseException:
            self.close()
            raise
        self._consumer.subscribe(
            [self.topic],
            on_assign=self._given,
            on_revoke=self._taken_away,
            on_lost=self._taken_away,
        )

    def _made_consumer(self) -> Any:
        return self._client(self.kafka.Consumer, {
            "group.id": self.group,
            "client.id": self.member,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self.idle_ms,
            "heartbeat.interval.ms": min(3_000, self.idle_ms // 3),
            "queued.max.messages.kbytes": _QUEUED_KB,
        })  # fmt: skip

    def _client(self, kind: Any, about: dict[str, Any]) -> Any:
        """A client of the cluster. ConfigError where what is written for it is not fit, such as a
        certificate that is none."""
        try:
            return kind({**self._servers, "error_cb": self._hear, **about})
        except self.kafka.KafkaException as error:
            raise ConfigError(
                f"the settings of topic {self.topic!r} do not make a client of Kafka: "
                f"{error.args[0].str()}"
            ) from None

    def _hear(self, error: Any) -> None:
        """What the client says in the background: one broker that is lost is its own affair."""
        kinds = self.kafka.KafkaError
        if error.code() in (kinds._ALL_BROKERS_DOWN, kinds._AUTHENTICATION, kinds._SSL):
            self._wrong = error.str()

    def _check_topic(self, client: Any) -> None:
        try:
            found = client.list_topics(self.topic, timeout=_PATIENCE_S).topics[self.topic]
        except self.kafka.KafkaException as error:
            client.poll(0)  # what was said in the background is heard then, as a wrong password
            raise self._unavailable(self._wrong or error.args[0].str()) from None
        if found.error is not None:
            raise DataError(
                f"topic {self.topic!r} at {self.address.servers}: {found.error.str()}; create the "
                "topic, or name another one in the URL"
            )

    def _unavailable(self, said: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the cluster of topic {self.topic!r} at {self.address.servers} cannot be reached: "
            f"{said}; what is not acknowledged is delivered again"
        )

    def _given(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Partitions come to this member, which goes on where the group has been."""
        mine = self._mine = self._mine or set()
        mine.update(p.partition for p in partitions)
        self._at_end.difference_update(mine)
        if not partitions:
            return
        try:
            for one in consumer.committed(list(partitions), timeout=_PATIENCE_S):
                if one.offset >= 0:
                    first, _ = consumer.get_watermark_offsets(one, timeout=_PATIENCE_S)
                    self._gone += max(0, first - one.offset)
        except self.kafka.KafkaException:  # it is only counted
            pass

    def _taken_away(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Partitions go to other members. Nothing of them is at hand: batches are finished before
        the client is asked again."""
        lost = {p.partition for p in partitions}
        self._mine = (self._mine or set()) - lost
        self._at_end -= lost

    def close(self) -> None:
        """Leave the group, so that others need not wait for this member."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        if self._producer is not None:
            self._producer.flush(_PATIENCE_S)
            self._producer = None

    # --- what to take -----------------------------------------------------------------------------

    def read(self, *, wait: bool) -> Found:
        """What the client has at hand, else what comes within a moment."""
        try:
            messages = self._consumer.consume(self.batch, timeout=0)
            if not messages:
                messages = self._consumer.consume(1, timeout=_BLOCK_S)
                messages += self._consumer.consume(self.batch - 1, timeout=0) if messages else []
        except self.kafka.KafkaException as error:
            raise self._unavailable(error.args[0].str()) from None
        held = [message for message in messages if self._is_message(message)]
        mine = self._mine or set()
        # A partition may be taken away while the others are read.
        held = [message for message in held if message.partition() in mine]
        if held:
            self._wrong = None
        elif self._wrong is not None:
            self._check_topic(self._consumer)  # raises unless a broker is back
            self._wrong = None
        gone, self._gone = self._gone, 0
        ended = self._mine is not None and not held and self._at_end >= self._mine
        return Found(held, gone=gone, ended=ended)

    def _is_message(self, message: Any) -> bool:
        """Whether it is one, and no news of the client."""
        error, kinds = message.error(), self.kafka.KafkaError
        if error is None:
            self._at_end.discard(message.partition())
            return True
        if error.code() == kinds._PARTITION_EOF:
            self._at_end.add(message.partition())
        elif error.code() in (kinds.UNKNOWN_TOPIC_OR_PART, kinds._UNKNOWN_TOPIC):
            raise DataError(f"topic {self.topic!r} at {self.address.servers}: {error.str()}")
        elif error.fatal() or error.code() in (
            kinds.TOPIC_AUTHORIZATION_FAILED, kinds.GROUP_AUTHORIZATION_FAILED,
        ):  # fmt: skip
            raise self._unavailable(error.str())
        return False

    def finish(self, messages: Sequence[Any]) -> bool:
        """Write the group's offsets. False where the partitions were taken away meanwhile."""
        ends: dict[int, int] = {}
        for message in messages:
            partition = message.partition()
            ends[partition] = max(ends.get(partition, 0), message.offset() + 1)
        made = [self.kafka.TopicPartition(self.topic, p, end) for p, end in ends.items()]
        kinds = self.kafka.KafkaError
        try:
            done = self._consumer.commit(offsets=made, asynchronous=False)
        except self.kafka.KafkaException as error:
            if error.args[0].code() in (
                kinds.ILLEGAL_GENERATION, kinds.UNKNOWN_MEMBER_ID, kinds.REBALANCE_IN_PROGRESS,
                kinds.FENCED_INSTANCE_ID, kinds._STATE, kinds._ASSIGNMENT_LOST,
            ):  # fmt: skip
                return False
            raise self._unavailable(error.args[0].str()) from None
        return all(one.error is None for one in done)

    def waiting(self) -> tuple[int | None, float]:
        """How many messages of the topic the group has not finished, and the age of the oldest in
        seconds, by the instants that the brokers or the senders gave; 0 where there is none."""
        # A client of its own, as another thread may be reading by the other.
        asking = self._made_consumer()
        try:
            self._check_topic(asking)
            topic = asking.list_topics(self.topic, timeout=_PATIENCE_S).topics[self.topic]
            parts = [self.kafka.TopicPartition(self.topic, n) for n in topic.partitions]
            left, behind = 0, []
            for one in asking.committed(parts, timeout=_PATIENCE_S):
                first, end = asking.get_watermark_offsets(one, timeout=_PATIENCE_S)
                begin = max(first, one.offset) if one.offset >= 0 else first
                if end > begin:
                    left += end - begin
                    behind.append(self.kafka.TopicPartition(self.topic, one.partition, begin))
            return left, self._oldest(asking, behind)
        except self.kafka.KafkaException as error:
            raise self._unavailable(error.args[0].str()) from None
        finally:
            asking.close()

    def _oldest(self, asking: Any, behind: list[Any]) -> float:
        """The age of the oldest message that stands where the group goes on."""
        if not behind:
            return 0.0
        asking.assign(behind)
        stamps: dict[int, int] = {}
        for _ in range(int(_PATIENCE_S / _BLOCK_S)):
            for message in asking.consume(100, timeout=_BLOCK_S):
                if message.error() is None:
                    stamps.setdefault(message.partition(), message.timestamp()[1])
            if len(stamps) == len(behind):
                break
        if not stamps:
            return 0.0
        return max(0.0, self.project.online.now_us() / 1e6 - min(stamps.values()) / 1e3)

    # --- one message ------------------------------------------------------------------------------

    def row(self, message: Any) -> dict[str, Any]:
        """The row that a message's value stands for: a JSON object, or what its schema says."""
        value = message.value()
        if value is None:
            raise SourceError("it has no value")
        if self._schemas is not None:
            return self._schemas.row(value)
        return row_of_json(self.source, value, what="its value")

    def part(self, message: Any) -> str:
        """The group, the topic and the partition."""
        return f"kafka/{self.group}/{self.topic}/{message.partition()}"

    def number(self, message: Any) -> int:
        """The message's offset."""
        found: int = message.offset()
        return found

    def digest(self, message: Any) -> str:
        """A hash of the message's instant, key and value."""
        made = hashlib.sha256(repr(message.timestamp()).encode())
        for part in (message.key(), message.value()):
            made.update(b"-" if part is None else b"%d:" % len(part) + part)
        return made.hexdigest()[:16]

    def where(self, message: Any) -> str:
        """The topic, the partition and the offset."""
        return f"topic {self.topic!r}, partition {message.partition()}, offset {message.offset()}"

    def shown(self, message: Any) -> dict[str, Any]:
        """Where the message stands, its key and its value."""
        key, value = message.key(), message.value()
        return {
            "topic": self.topic,
            "partition": message.partition(),
            "offset": message.offset(),
            "key": None if key is None else text_of(key),
            "value": None if value is None else text_of(value),
        }

    def give_away(self, message: Any, reason: str) -> bool:
        """Send the message to the topic of dead letters, as it is, with headers that say why and
        where it came from. StoreUnavailable where that topic does not take it."""
        topic = self.settings.dead_letter
        if topic is None:
            return False
        about = {
            "reason": reason,
            "source": self.source.name,
            "topic": self.topic,
            "partition": str(message.partition()),
            "offset": str(message.offset()),
        }
        headers = list(message.headers() or ())
        headers += [(f"featurekit-{name}", text.encode()) for name, text in about.items()]
        self._send(topic, message.key(), message.value(), headers)
        return True

    def _send(self, topic: str, key: Any, value: Any, headers: list[tuple[str, bytes]]) -> None:
        if self._producer is None:
            self._producer = self._client(self.kafka.Producer, {
                "client.id": self.member,
                "enable.idempotence": True,
                "message.max.bytes": _LARGEST,  # what came here may go on; the broker decides
                "message.timeout.ms": int(_PATIENCE_S * 1000),
            })  # fmt: skip
        said: list[Any] = []
        try:
            self._producer.produce(
                topic, value, key, headers=headers, on_delivery=lambda error, _: said.append(error)
            )
            self._producer.flush(_PATIENCE_S + _BLOCK_S)
            error = said[0] if said else "no broker has answered"
        except (self.kafka.KafkaException, BufferError) as raised:
            error = raised
        if error is not None:
            text = error.str() if hasattr(error, "str") else str(error)
            raise StoreUnavailable(
                f"the topic of dead letters {topic!r} at {self.address.servers} did not take a "
                f"message: {text}; nothing is lost, since the message stays unacknowledged"
            )


def connection(address: Address, settings: KafkaConfig, folder: Path) -> dict[str, Any]:
    """How a client of the cluster connects and logs in. ConfigError where a secret cannot be
    read."""
    made: dict[str, Any] = {
        "bootstrap.servers": address.servers,
        "log_level": 0,  # what it says is heard by error_cb
        "socket.timeout.ms": int(_PATIENCE_S * 1000),
        "socket.connection.setup.timeout.ms": int(_PATIENCE_S * 1000),
    }
    kinds = [*(["sasl"] if settings.username else []), "ssl" if address.tls else "plaintext"]
    made["security.protocol"] = "_".join(kinds)
    if settings.username is not None:
        made["sasl.mechanism"] = settings.mechanism
        made["sasl.username"] = settings.username
        made["sasl.password"] = settings.password(folder)
    if address.tls:
        files = {
            "ssl.ca.location": settings.ca_file,
            "ssl.certificate.location": settings.certificate_file,
            "ssl.key.location": settings.key_file,
        }
        made |= {name: str(folder / file) for name, file in files.items() if file is not None}
        if settings.key_password_env is not None:
            made["ssl.key.password"] = variable(settings.key_password_env)
    return made


def _library() -> Any:
    """confluent-kafka. ConfigError where it is not installed."""
    try:
        import confluent_kafka
    except ImportError:
        raise ConfigError(
            "streams of Kafka are read with the package confluent-kafka, which is not installed; "
            "run pip install 'featurekit[kafka]'"
        ) from None
    return confluent_kafka
