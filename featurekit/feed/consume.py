"""Pushes the events of a stream, as a member of a consumer group; each event counts once.

A stream delivers a message at least once: it delivers it again, to this member or to another, until
it is told that the message is done. That is told when its event is in both paths. The source's
`event_id` makes one event of copies (T7). Where the source has none, but messages are numbered,
runs of them are taken under keys (`featurekit.feed.streams.runs`). So the results are as if each
message had come exactly once.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.examples import assigned
from featurekit.errors import (
    BadRowError,
    ContractBroken,
    DefinitionError,
    SourceError,
    StoreUnavailable,
)
from featurekit.feed.push import take
from featurekit.feed.streams.protocol import Stream
from featurekit.feed.streams.redis import RedisStream
from featurekit.feed.streams.runs import take_run
from featurekit.project.project import Project
from featurekit.project.stream_settings import KafkaConfig, is_kafka


@dataclass(frozen=True, slots=True)
class Consumed(Named):
    """What a consumer has done.

    `entries` were acknowledged. Of these, `taken_over` came from members that stopped answering,
    and `set_aside` were bad. `trimmed` left the stream before they were read.
    """

    entries: int = 0
    taken_over: int = 0
    set_aside: int = 0
    trimmed: int = 0


class Consumer:
    """A member of `group` that pushes a stream's messages to `source`.

    `url` names the server: kafka://HOST:PORT/TOPIC or kafkas://… (TLS) of a cluster of Kafka, or a
    Redis other than the online store's. `stream` is the key of a Redis stream, by default the
    source's name. `name` tells members apart: a member of a Redis stream that starts again under
    its name continues with what it had. What a member has held for `idle_s` seconds without a sign
    of life goes to another one.

    An entry of Redis has a field for each column, as text (a `bytes` column as it is; an absent
    optional column is None), or one field `json` with an object. A message of Kafka is such an
    object, or what the schema of its `registry` says. `dead_letter` is the topic for messages that
    cannot be taken. `registry`, `dead_letter` and what else a cluster asks for are by default those
    of the settings, `featurekit: watch: consume: SOURCE: kafka:`.

    DefinitionError for a source without an `event_id` where the stream is one of Redis; there,
    `idle_s` must be less than the source's `dedupe_within`, after which a copy is a new event.
    """

    def __init__(
        self,
        project: Project,
        source: str,
        *,
        stream: str | None = None,
        url: str | None = None,
        group: str = "featurekit",
        name: str | None = None,
        batch: int | None = None,
        idle_s: float = 60.0,
        dead_letter: str | None = None,
        registry: str | None = None,
    ) -> None:
        self.project, self.source = project, project.source(source)
        self.stream: Stream
        name = name or socket.gethostname()
        if is_kafka(url):
            from featurekit.feed.streams.kafka import KafkaStream

            assert url is not None
            settings = _kafka_of(project, source).given(dead_letter, registry)
            self.stream = KafkaStream(
                project, self.source, url, settings,
                group=group, member=name, batch=batch or 500, idle_s=idle_s,
            )  # fmt: skip
        else:
            _check_ids(self.source)
            self.stream = RedisStream(
                _client(project, url), self.source, stream or source,
                url=url, group=group, member=name, batch=batch or 500, idle_ms=int(idle_s * 1000),
            )  # fmt: skip
        self.done = Consumed()
        self._taken: dict[str, int] = {}
        """For a part of the stream, the number up to which all is taken; an earlier run may have
        had more messages than are at hand."""

    def run(
        self,
        *,
        until_empty: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[Consumed], None] = lambda done: None,
    ) -> Consumed:
        """Take messages until `stop` is set. With `until_empty`, stop when none is left that no
        other member holds.

        FingerprintMismatch, before any message is taken, on a platform that computes other floats
        (R6). A message that is refused goes to the topic of dead letters, where there is one.
        Without, where the source has on_bad_row="error", SourceError or BadRowError names it. In
        any case ContractBroken does, where it breaks a rule of severity "fail" (S5). The message
        stays with this member, unacknowledged, and so do all that came after it.
        """
        stop = stop or threading.Event()
        self.project.fed()  # raises on a platform that computes other floats
        self.stream.join()
        try:
            while not stop.is_set():
                found = self.stream.read(wait=not until_empty)
                if found.messages or found.gone:
                    self._count(taken_over=found.taken_over, trimmed=found.gone)
                    self._take(found.messages)
                    progress(self.done)
                elif until_empty and found.ended:
                    break
        finally:
            self.stream.close()
        return self.done

    def waiting(self) -> tuple[int | None, float]:
        """How many messages the group has not finished, None where the server does not tell, and
        the age of the oldest of them in seconds; 0 where there is none."""
        return self.stream.waiting()

    # --- taking it --------------------------------------------------------------------------------

    def _take(self, messages: Sequence[Any]) -> None:
        if not messages:
            return
        if self.source.event_id is not None:
            self._together(messages, self._push)
            return
        part = self.stream.part
        by_part = sorted(messages, key=part)  # within a part they stay in order
        for _, run in itertools.groupby(by_part, key=part):
            self._together(list(run), self._push_run)

    def _together(self, messages: Sequence[Any], push: Callable[[Sequence[Any]], int]) -> None:
        """Push the messages and finish them; in halves where they are refused together, in order,
        so that what comes before a bad one is taken."""
        try:
            aside = push(messages)
        except (SourceError, BadRowError, ContractBroken) as error:
            if len(messages) > 1:
                half = len(messages) // 2
                self._together(messages[:half], push)
                self._together(messages[half:], push)
                return
            self._refused(messages[0], error)
            aside = 1
        if self.stream.finish(messages):
            self._count(entries=len(messages), set_aside=aside)

    def _push(self, messages: Sequence[Any]) -> int:
        """The number of rows that were set aside."""
        rows = [self.stream.row(message) for message in messages]
        return take(self.project, self.source.name, rows).quarantined

    def _push_run(self, messages: Sequence[Any]) -> int:
        """As `_push`, for messages of one part; those that were taken before are left out."""
        stream, aside = self.stream, 0
        part, number = stream.part(messages[0]), stream.number
        while left := [m for m in messages if number(m) >= self._taken.get(part, 0)]:
            rows = [stream.row(message) for message in left]
            first = f"{part}/{number(left[0])}/{stream.digest(left[0])}"
            done = take_run(self.project, self.source.name, first, [*map(number, left)], rows)
            aside += done.set_aside
            self._taken[part] = done.end
        if self._taken.get(part, 0) <= number(messages[-1]) + 1:
            self._taken.pop(part, None)  # a topic of that name may begin anew
        return aside

    def _refused(self, message: Any, error: Exception) -> None:
        """Keep a message that cannot be taken where somebody finds it; raise where there is no such
        place."""
        if not isinstance(error, ContractBroken):
            if self.stream.give_away(message, str(error)):
                return
            if self.source.on_bad_row == "quarantine":
                from featurekit.sources.quarantine import set_aside

                line = {"reason": str(error), **self.stream.shown(message)}
                set_aside(self.source, self.project.state_dir, [line])
                return
        raise type(error)(f"{self.stream.where(message)}: {error}") from None

    def _count(self, **more: int) -> None:
        now = {name: getattr(self.done, name) + n for name, n in more.items()}
        self.done = replace(self.done, **now)


def _check_ids(source: Any) -> None:
    if source.event_id is None:
        raise DefinitionError(
            f"source {source.name!r} has no event_id, and a Redis stream delivers an entry again "
            "after a crash, which would count twice; name the column that tells events apart, as "
            f"in {assigned('EventSource', 'event_id')}"
        )


def _client(project: Project, url: str | None) -> Any:
    """The Redis of a stream, by default the online store's own client, which starts a private
    server again that died."""
    from featurekit.online.store.redis import connect

    if url is not None:
        return connect(url, limits=project.config.limits())
    found = getattr(project.online, "client", None)
    if found is None:
        raise StoreUnavailable("this online store is no Redis; pass the stream's url")
    return found


def _kafka_of(project: Project, source: str) -> KafkaConfig:
    watch = project.config.featurekit.watch
    found = None if watch is None else watch.consume.get(source)
    return KafkaConfig() if found is None else found.kafka
